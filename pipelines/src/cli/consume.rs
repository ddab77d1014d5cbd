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
    reader::{Group, Options, Part, Reader},
};
use super::{
    CliError,
    place::{self, Where},
    session::{self, NodeArgs, Session},
    tell,
};
use crate::client::{Committed, Membership};

/// Options of `flumen consume`.
#[derive(Debug, Args)]
pub struct ConsumeArgs {
    /// The topic; may be given more than once.
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Where to begin: `beginning`, which it is without this, `end`, an offset, `-N` for the last N of
    /// each partition, or a time: `2026-11-25T10:30:00Z`, `2026-11-25 10:30` (local), `2h ago`, or
    /// `@MS` in milliseconds since 1970. Partitions of which the `--group` has committed something
    /// go on behind that, whatever is said here: `flumen groups reset` moves them. A topic that ends
    /// before an offset is read from its end, unless all do.
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
    /// Between what `--show` lists, and between key and value with `--format key-value`; a tab where it is
    /// not given.
    #[arg(long, visible_alias = "key-separator", value_name = "TEXT")]
    separator: Option<String>,
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
    let printer = printer(&args)?;
    session::run(&args.node.clone(), |session| consume(session, args, start, printer))
}

/// What prints records as `args` say.
fn printer(args: &ConsumeArgs) -> Result<Printer, CliError> {
    let shape = match (args.json, &*args.show) {
        (true, _) => Shape::Object,
        (false, []) => args.format.into(),
        (false, fields) => Shape::Fields(fields.to_vec()),
    };
    match &args.separator {
        Some(separator) if !shape.is_separated() => Err(CliError::Option {
            option: "--separator",
            value: separator.clone(),
            expected: "nothing is separated in what is printed; say what is to be, as in `--show key,value`, \
                       or leave it out"
                .into(),
        }),
        separator => Ok(Printer::new(shape, separator.as_deref().unwrap_or("\t"))),
    }
}

async fn consume(
    mut session: Session,
    args: ConsumeArgs,
    start: Where,
    printer: Printer,
) -> Result<(), CliError> {
    let (mut topics, mut begins, mut ranges) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for name in &args.topics {
        let topic = session.topic(name).await?;
        let numbers = place::chosen(&topic, &args.partition)?;
        let found = place::ranges(&mut session, &topic, &numbers).await?;
        let at = place::positions(&mut session, &topic, &found, start).await?;
        begins.extend(at.into_iter().map(|(number, at)| ((name.clone(), number), at)));
        ranges.extend(found.into_iter().map(|(number, range)| ((name.clone(), number), range)));
        topics.insert(name.clone(), topic);
    }
    let committed = match &args.group {
        Some(group) => session.client.committed(group).await?,
        None => Committed::new(),
    };
    if let Some(from) = &args.from {
        heed(from, start, &ranges, &committed)?;
        let kept = ranges.keys().filter(|part| committed.contains_key(*part)).count();
        let group = args.group.as_deref().unwrap_or_default();
        if let Some(unheeded) = unheeded(from, group, kept, ranges.len()) {
            tell(format_args!("flumen: {unheeded}"));
        }
    }
    let ends = ranges.into_iter().map(|(part, (_, end))| (part, end)).collect();
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
    Reader::new(session, topics, options, printer).run().await
}

/// Refuses an offset that no partition has which is to begin there, and says which topics are read from
/// their end since they are shorter. Where the group has committed something it is of no meaning.
fn heed(
    from: &str,
    start: Where,
    ranges: &BTreeMap<Part, (i64, i64)>,
    committed: &Committed,
) -> Result<(), CliError> {
    let mut begun: BTreeMap<&str, Vec<(i64, i64)>> = BTreeMap::new();
    for (part, range) in ranges.iter().filter(|(part, _)| !committed.contains_key(*part)) {
        begun.entry(&part.0).or_default().push(*range);
    }
    let is_short = |ranges: &Vec<(i64, i64)>| !place::is_within(ranges.iter().copied(), start);
    let short = begun.iter().filter(|(_, ranges)| is_short(ranges));
    let short: Vec<&str> = short.map(|(name, _)| *name).collect();
    if !short.is_empty() && short.len() == begun.len() {
        return Err(place::beyond(("--from", from), &short));
    }
    for name in short {
        tell(format_args!(
            "flumen: `{name}` ends before offset {from}, and is read from where it ends now"
        ));
    }
    Ok(())
}

/// Says that where to begin is of no meaning to a group that has committed in `kept` of so many partitions.
fn unheeded(from: &str, group: &str, kept: usize, of: usize) -> Option<String> {
    let (goes, them) = match kept {
        0 => return None,
        kept if kept == of => (format!("group `{group}` goes on where it"), "it"),
        1 => (format!("1 of {of} partitions goes on where group `{group}`"), "it"),
        kept => (format!("{kept} of {of} partitions go on where group `{group}`"), "them"),
    };
    Some(format!(
        "{goes} has committed, and not at `--from {from}`; `flumen groups reset {group} --to …` moves {them}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_refused_only_where_no_partition_has_it_that_is_to_begin_there() {
        let part = |name: &str, number| (name.to_owned(), number);
        let ranges = BTreeMap::from([
            (part("a", 0), (0, 5)),
            (part("a", 1), (0, 9)),
            (part("b", 0), (0, 2)),
        ]);
        let heeded = |offset, committed: &[(&str, i32)]| {
            let committed = committed.iter().map(|(name, number)| (part(name, *number), 1));
            heed("N", Where::Offset(offset), &ranges, &committed.collect())
                .map_err(|error| error.to_string())
        };
        assert_eq!(heeded(9, &[]), Ok(()), "one of three partitions has it");
        assert!(heeded(10, &[]).is_err_and(|why| why.contains("all topics end")));
        let why = heeded(9, &[("a", 1), ("b", 0)]).unwrap_err();
        assert!(why.contains("the topic ends") && why.contains("flumen topics a"), "{why}");
        assert_eq!(heeded(10, &[("a", 0), ("a", 1), ("b", 0)]), Ok(()), "all go on elsewhere");
        assert!(heed("end", Where::Last(99), &ranges, &Committed::new()).is_ok());
    }

    #[test]
    fn it_is_counted_in_how_many_partitions_a_group_goes_on_elsewhere() {
        let told = |kept| unheeded("3", "g", kept, 3).unwrap_or_default();
        assert_eq!(told(0), "");
        assert!(
            told(1).starts_with("1 of 3 partitions goes on where group `g` has committed, and")
        );
        assert!(told(2).starts_with("2 of 3 partitions go on where group `g` has committed, and"));
        assert!(
            told(3).starts_with("group `g` goes on where it has committed, and not at `--from 3`")
        );
    }
}
