//! `flumen consume`: the records of topics, one a line, up to where they end now, or for ever.

mod form;
mod membership;
mod reader;

use std::collections::BTreeMap;

use clap::Args;
use flumen_actors::broker::{
    consumer::member::MemberOptions,
    group_coordinator::{assignor::Assignor, ids::InstanceId},
    names::TopicName,
};

use self::{
    form::{Field, Form, Printer, Shape},
    reader::{Group, Options, Reader},
};
use super::{
    CliError,
    place::{self, Where},
    session::{self, NodeArgs, Session},
};
use crate::client::Membership;

/// Options of `flumen consume`.
#[derive(Debug, Args)]
pub struct ConsumeArgs {
    /// The topic; may be given more than once.
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Where to begin: `beginning`, which it is without this, `end`, an offset, `-N` for the last N of
    /// each partition, or a time: `2026-11-25T10:30:00Z`, `2026-11-25 10:30` (local), `2h ago`, or
    /// `@MS` in milliseconds since 1970. Partitions of which the `--group` has committed something
    /// go on behind that, whatever is said here: `flumen groups reset` moves them.
    #[arg(long, short, value_name = "FROM", allow_hyphen_values = true)]
    from: Option<String>,
    /// Only this partition, of each topic; may be given more than once.
    #[arg(long, short, value_parser = clap::value_parser!(i32).range(0..))]
    partition: Vec<i32>,
    /// Read as a member of this group: partitions are shared out among its members, reading begins
    /// after what was committed, and what was printed is committed. With `--partition`: without
    /// becoming a member, as long as the group has none.
    #[arg(long, short)]
    group: Option<String>,
    /// How the group's partitions are shared out; all its members must agree.
    #[arg(long, value_enum, default_value = "range", requires = "group")]
    assignor: AssignorArg,
    /// Do not end at the end of the topics: wait for more, until Ctrl-C.
    #[arg(long)]
    follow: bool,
    /// End after so many records.
    #[arg(long, short = 'n', value_name = "N")]
    max: Option<u64>,
    /// What is printed of each record.
    #[arg(long, value_enum, default_value = "value")]
    format: Form,
    /// What of each record is printed, in this order, as in `--show partition,offset,key,value`. Times
    /// are in UTC; headers are `NAME=VALUE` with commas between them.
    #[arg(
        long,
        value_enum,
        value_name = "FIELDS",
        value_delimiter = ',',
        conflicts_with_all = ["format", "json"]
    )]
    show: Vec<Field>,
    /// Between what `--show` lists, and between key and value with `--format key-value`.
    #[arg(long, visible_alias = "key-separator", default_value = "\t", value_name = "TEXT")]
    separator: String,
    /// The same as `--format json`.
    #[arg(long, conflicts_with = "format")]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// The names of assignors on the command line, which are Kafka's.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum AssignorArg {
    /// Each topic in contiguous runs: what members of other programs do as a rule.
    Range,
    /// All partitions in turn.
    #[value(name = "roundrobin")]
    RoundRobin,
    /// What each member reads stays with it, as far as all have as much.
    CooperativeSticky,
}

impl From<AssignorArg> for Assignor {
    fn from(named: AssignorArg) -> Self {
        match named {
            AssignorArg::Range => Assignor::Range,
            AssignorArg::RoundRobin => Assignor::RoundRobin,
            AssignorArg::CooperativeSticky => Assignor::CooperativeSticky,
        }
    }
}

/// Runs it.
///
/// # Errors
/// [`CliError`].
pub fn run(args: ConsumeArgs) -> Result<(), CliError> {
    let start = Where::parse("--from", args.from.as_deref().unwrap_or("beginning"))?;
    session::run(&args.node.clone(), |session| consume(session, args, start))
}

async fn consume(mut session: Session, args: ConsumeArgs, start: Where) -> Result<(), CliError> {
    let (mut topics, mut begins, mut ends) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for name in &args.topics {
        let topic = session.topic(name).await?;
        let numbers = place::chosen(&topic, &args.partition)?;
        let ranges = place::ranges(&mut session, &topic, &numbers).await?;
        let given = ("--from", args.from.as_deref().unwrap_or_default());
        let at = place::positions(&mut session, &topic, &ranges, start, given).await?;
        begins.extend(at.into_iter().map(|(number, at)| ((name.clone(), number), at)));
        ends.extend(ranges.into_iter().map(|(number, (_, end))| ((name.clone(), number), end)));
        topics.insert(name.clone(), topic);
    }
    let shape = match (args.json, &*args.show) {
        (true, _) => Shape::Object,
        (false, []) => args.format.into(),
        (false, fields) => Shape::Fields(fields.to_vec()),
    };
    let mut options = Options {
        begins,
        ends: (!args.follow).then_some(ends),
        left: args.max.unwrap_or(u64::MAX),
        takes_new: args.follow && args.partition.is_empty(),
        follows: args.follow && args.max.is_none(),
        from: args.from,
        ..Options::default()
    };
    match args.group {
        // Who names partitions takes them without asking the group.
        Some(group) if !args.partition.is_empty() => {
            let committed = session.client.committed(&group).await?;
            options.group = Group::Apart(group);
            options.go_on_after(&committed);
        }
        Some(group) => {
            let names =
                topics.keys().map(|name| TopicName::new(name)).collect::<Result<Vec<_>, _>>()?;
            let mut member = MemberOptions::new(&*group, names);
            member.assignor = args.assignor.into();
            // Nobody else can be a member of a node that runs in this process: one whose reader was killed is
            // followed at once, by the name that both have.
            member.instance_id = session.is_here().then(|| InstanceId::from("flumen-consume"));
            options.group = Group::Member(Box::new(Membership::new(member)));
        }
        None => {}
    }
    let printer = Printer::new(shape, &args.separator);
    Reader::new(session, topics, options, printer).run().await
}
