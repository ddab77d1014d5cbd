//! `flumen consume`: the records of a topic, one a line, up to where it ends now, or for ever.

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
    form::{Form, Printer},
    reader::{Group, Options, Reader},
};
use super::{
    CliError,
    place::{self, Where},
    session::{self, NodeArgs, Session},
};
use crate::client::{Committed, Membership, Topic};

/// Options of `flumen consume`.
#[derive(Debug, Args)]
pub struct ConsumeArgs {
    /// The topic.
    topic: String,
    /// Where to begin: `beginning`, `end`, an offset, `-N` for the last N of each partition, or a
    /// time: `2026-11-25T10:30:00Z`, `2026-11-25 10:30` (local), `2h ago`, or `@MS` in milliseconds
    /// since 1970.
    #[arg(
        long,
        short,
        default_value = "beginning",
        value_name = "FROM",
        allow_hyphen_values = true
    )]
    from: String,
    /// Only this partition; may be given more than once.
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
    /// Do not end at the end of the topic: wait for more, until Ctrl-C.
    #[arg(long)]
    follow: bool,
    /// End after so many records.
    #[arg(long, short = 'n', value_name = "N")]
    max: Option<u64>,
    /// What is printed of each record.
    #[arg(long, value_enum, default_value = "value")]
    format: Form,
    /// Between key and value, with `--format key-value`.
    #[arg(long, default_value = "\t", value_name = "TEXT")]
    key_separator: String,
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
    let start = Where::parse("--from", &args.from)?;
    session::run(&args.node.clone(), |session| consume(session, args, start))
}

async fn consume(mut session: Session, args: ConsumeArgs, start: Where) -> Result<(), CliError> {
    let topic = session.topic(&args.topic).await?;
    let numbers = place::chosen(&topic, &args.partition)?;
    let ranges = place::ranges(&mut session, &topic, &numbers).await?;
    let given = ("--from", &*args.from);
    let begins = place::positions(&mut session, &topic, &ranges, start, given).await?;
    let ends = ranges.into_iter().map(|(number, (_, end))| (number, end)).collect();
    let form = if args.json { Form::Json } else { args.format };
    let printer = Printer::new(form, &args.key_separator, &topic.name);
    let mut options = Options {
        begins,
        ends: (!args.follow).then_some(ends),
        left: args.max.unwrap_or(u64::MAX),
        takes_new: args.follow && args.partition.is_empty(),
        follows: args.follow && args.max.is_none(),
        ..Options::default()
    };
    match args.group {
        // Who names partitions takes them without asking the group.
        Some(group) if !args.partition.is_empty() => {
            let committed = session.client.committed(&group).await?;
            options.go_on_after(&topic.name, &committed);
            options.group = Group::Apart(group);
        }
        Some(group) => {
            let mut member = MemberOptions::new(&*group, vec![TopicName::new(&topic.name)?]);
            member.assignor = args.assignor.into();
            // Nobody else can be a member of a node that runs in this process: one whose reader was killed is
            // followed at once, by the name that both have.
            member.instance_id = session.is_here().then(|| InstanceId::from("flumen-consume"));
            options.group = Group::Member(Box::new(Membership::new(member)));
        }
        None => {}
    }
    Reader::new(session, topic, options, printer).run().await
}

/// What a group is to go on with after `positions` of `topic`.
fn committed(topic: &Topic, positions: &BTreeMap<i32, i64>) -> Committed {
    let of = |(number, offset): (&i32, &i64)| ((topic.name.clone(), *number), *offset);
    positions.iter().map(of).collect()
}
