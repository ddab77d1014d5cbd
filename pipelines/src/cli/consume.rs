//! `flumen consume`: the records of a topic, one a line, up to where it ends now, or for ever.

mod form;
mod reader;

use std::collections::BTreeMap;

use clap::Args;
use flumen_actors::gateway::error_code::ErrorCode;

use self::{
    form::{Form, Printer},
    reader::Reader,
};
use super::{
    CliError,
    session::{self, NodeArgs, Session},
    time,
};
use crate::client::{Committed, Place, Topic};

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
    /// Read as this group: begin after what it has committed, and commit what was printed.
    #[arg(long, short)]
    group: Option<String>,
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

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Place(Place),
    Offset(i64),
    /// So many before the end.
    Last(i64),
}

fn start_of(from: &str) -> Result<From, CliError> {
    let wrong = || CliError::Option {
        option: "--from",
        value: from.to_owned(),
        expected:
            "give `beginning`, `end`, an offset such as `42`, `-10` for the last ten, or a time \
                   such as `2026-11-25T10:30:00Z`, `2026-11-25 10:30` (local), `2h ago` or \
                   `@1700000000000`"
                .into(),
    };
    match from {
        "beginning" => Ok(From::Place(Place::Earliest)),
        "end" => Ok(From::Place(Place::Latest)),
        text => match text.parse::<i64>() {
            Ok(last) if last < 0 => Ok(From::Last(last.saturating_neg())),
            Ok(offset) => Ok(From::Offset(offset)),
            Err(_) => {
                time::parse(text).map(|time| From::Place(Place::Time(time))).ok_or_else(wrong)
            }
        },
    }
}

/// Runs it.
///
/// # Errors
/// [`CliError`].
pub fn run(args: ConsumeArgs) -> Result<(), CliError> {
    let start = start_of(&args.from)?;
    session::run(&args.node.clone(), |session| consume(session, args, start))
}

async fn consume(mut session: Session, args: ConsumeArgs, start: From) -> Result<(), CliError> {
    let topic = session.topic(&args.topic).await?;
    let numbers = chosen(&topic, &args)?;
    let ranges = ranges(&mut session, &topic, &numbers).await?;
    let mut positions = positions(&mut session, &topic, &ranges, start, &args.from).await?;
    if let Some(group) = &args.group {
        let committed = session.client.committed(group).await?;
        for (number, position) in &mut positions {
            if let Some(offset) = committed.get(&(topic.name.clone(), *number)) {
                *position = *offset;
            }
        }
    }
    let ends = ranges.into_iter().map(|(number, (_, end))| (number, end)).collect();
    let form = if args.json { Form::Json } else { args.format };
    let printer = Printer::new(form, &args.key_separator, &topic.name);
    let mut reader = Reader::new(session, topic, positions, printer);
    if !args.follow {
        reader.end_at(ends);
    }
    reader.takes_new = args.follow && args.partition.is_empty();
    reader.group = args.group;
    reader.left = args.max.unwrap_or(u64::MAX);
    reader.run().await
}

/// The partitions that are read.
fn chosen(topic: &Topic, args: &ConsumeArgs) -> Result<Vec<i32>, CliError> {
    if args.partition.is_empty() {
        return Ok(topic.partitions.keys().copied().collect());
    }
    match args.partition.iter().find(|number| !topic.partitions.contains_key(number)) {
        Some(missing) => Err(CliError::Option {
            option: "--partition",
            value: missing.to_string(),
            expected: format!(
                "`{}` has partitions 0 to {}; see `flumen topics {}`",
                topic.name,
                topic.partitions.len() - 1,
                topic.name
            ),
        }),
        None => Ok(args.partition.clone()),
    }
}

/// Where each partition begins and ends now.
type Ranges = BTreeMap<i32, (i64, i64)>;

async fn ranges(session: &mut Session, topic: &Topic, numbers: &[i32]) -> Result<Ranges, CliError> {
    let first = session.client.offsets(topic, numbers, Place::Earliest).await?;
    let end = session.client.offsets(topic, numbers, Place::Latest).await?;
    let mut ranges = BTreeMap::new();
    for number in numbers {
        let of = |told: Option<&Result<Option<i64>, ErrorCode>>| match told {
            Some(Ok(offset)) => Ok(offset.unwrap_or_default()),
            Some(Err(code)) => Err(*code),
            None => Err(ErrorCode::UnknownTopicOrPartition),
        };
        match (of(first.get(number)), of(end.get(number))) {
            (Ok(first), Ok(end)) => drop(ranges.insert(*number, (first, end))),
            (Err(code), _) | (_, Err(code)) => {
                return Err(session.why(&topic.name, *number, 0, code).await);
            }
        }
    }
    Ok(ranges)
}

/// Where each partition is begun. One that ends before an offset is read from its end, and one that
/// begins after it from its beginning: the offsets of partitions have nothing to do with each other.
async fn positions(
    session: &mut Session,
    topic: &Topic,
    ranges: &Ranges,
    from: From,
    given: &str,
) -> Result<BTreeMap<i32, i64>, CliError> {
    if let From::Offset(offset) = from
        && ranges.values().all(|(_, end)| offset > *end)
    {
        return Err(CliError::Option {
            option: "--from",
            value: given.to_owned(),
            expected: format!(
                "the topic ends before that offset; see `flumen topics {}`",
                topic.name
            ),
        });
    }
    let at_time = match from {
        From::Place(place @ Place::Time(_)) => {
            let numbers: Vec<i32> = ranges.keys().copied().collect();
            session.client.offsets(topic, &numbers, place).await?
        }
        _ => BTreeMap::new(),
    };
    let mut positions = BTreeMap::new();
    for (number, (first, end)) in ranges {
        let position = match from {
            From::Place(Place::Earliest) => *first,
            From::Place(Place::Latest) => *end,
            From::Offset(offset) => offset,
            From::Last(last) => end.saturating_sub(last),
            From::Place(Place::Time(_)) => match at_time.get(number).copied().unwrap_or(Ok(None)) {
                Ok(offset) => offset.unwrap_or(*end),
                Err(code) => return Err(session.why(&topic.name, *number, *first, code).await),
            },
        };
        positions.insert(*number, position.min(*end).max(*first));
    }
    Ok(positions)
}

/// What a group is to go on with after `positions` of `topic`.
fn committed(topic: &Topic, positions: &BTreeMap<i32, i64>) -> Committed {
    let of = |(number, offset): (&i32, &i64)| ((topic.name.clone(), *number), *offset);
    positions.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_a_word_an_offset_or_a_time() {
        let start = |text| start_of(text).unwrap();
        assert_eq!(start("beginning"), From::Place(Place::Earliest));
        assert_eq!(start("end"), From::Place(Place::Latest));
        assert_eq!(start("42"), From::Offset(42));
        assert_eq!(start("-10"), From::Last(10));
        assert_eq!(start("@7"), From::Place(Place::Time(7)));
        assert!(matches!(start("1h ago"), From::Place(Place::Time(time)) if time > 0));
        assert!(start_of("lunch").is_err());
    }
}
