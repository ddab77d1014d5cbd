//! Places in a topic as people write them on the command line, and where they are in each partition.

use std::collections::BTreeMap;

use flumen_actors::gateway::error_code::ErrorCode;

use super::{CliError, session::Session, time};
use crate::client::{Place, Topic};

/// A place in all partitions of a topic, as a person gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// At this place.
    Place(Place),
    /// At this offset.
    Offset(i64),
    /// So many before the end.
    Last(i64),
}

impl Where {
    /// What `text` says, which was given as `option`.
    ///
    /// # Errors
    /// [`CliError::Option`].
    pub fn parse(option: &'static str, text: &str) -> Result<Self, CliError> {
        let wrong = || {
            CliError::Option {
        option,
        value: text.to_owned(),
        expected:
            "give `beginning`, `end`, an offset such as `42`, `-10` for the last ten, or a time \
                   such as `2026-11-25T10:30:00Z`, `2026-11-25 10:30` (local), `2h ago` or \
                   `@1700000000000`"
                .into(),
    }
        };
        match text {
            "beginning" | "earliest" => Ok(Where::Place(Place::Earliest)),
            "end" | "latest" => Ok(Where::Place(Place::Latest)),
            text => match text.parse::<i64>() {
                Ok(last) if last < 0 => Ok(Where::Last(last.saturating_neg())),
                Ok(offset) => Ok(Where::Offset(offset)),
                Err(_) => {
                    time::parse(text).map(|time| Where::Place(Place::Time(time))).ok_or_else(wrong)
                }
            },
        }
    }
}

/// The partitions that are meant: `only` these, or all where none is named.
///
/// # Errors
/// [`CliError::Option`] where there is no such partition.
pub fn chosen(topic: &Topic, only: &[i32]) -> Result<Vec<i32>, CliError> {
    if only.is_empty() {
        return Ok(topic.partitions.keys().copied().collect());
    }
    match only.iter().find(|number| !topic.partitions.contains_key(number)) {
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
        None => Ok(only.to_vec()),
    }
}

/// Where each partition begins and ends now.
pub type Ranges = BTreeMap<i32, (i64, i64)>;

/// Where these partitions begin and end now.
///
/// # Errors
/// [`CliError`] where that is not known of one.
pub async fn ranges(
    session: &mut Session,
    topic: &Topic,
    numbers: &[i32],
) -> Result<Ranges, CliError> {
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

/// Whether `at` is in one of these partitions: an offset is not, where they all end before it.
#[must_use]
pub fn is_within(mut ranges: impl Iterator<Item = (i64, i64)>, at: Where) -> bool {
    match at {
        Where::Offset(offset) => ranges.any(|(_, end)| offset <= end),
        Where::Place(_) | Where::Last(_) => true,
    }
}

/// Why an offset, given as `option`, is refused that none of these topics has.
#[must_use]
pub fn beyond((option, given): (&'static str, &str), topics: &[&str]) -> CliError {
    let ends = if topics.len() == 1 { "the topic ends" } else { "all topics end" };
    CliError::Option {
        option,
        value: given.to_owned(),
        expected: format!("{ends} before that offset; see `flumen topics {}`", topics.join(" ")),
    }
}

/// Where `at` is in each partition. One that ends before an offset is read from its end, and one that
/// begins after it from its beginning: the offsets of partitions have nothing to do with each other.
///
/// # Errors
/// [`CliError`] where that is not known of one.
pub async fn positions(
    session: &mut Session,
    topic: &Topic,
    ranges: &Ranges,
    at: Where,
) -> Result<BTreeMap<i32, i64>, CliError> {
    let at_time = match at {
        Where::Place(place @ Place::Time(_)) => {
            let numbers: Vec<i32> = ranges.keys().copied().collect();
            session.client.offsets(topic, &numbers, place).await?
        }
        _ => BTreeMap::new(),
    };
    let mut positions = BTreeMap::new();
    for (number, (first, end)) in ranges {
        let position = match at {
            Where::Place(Place::Earliest) => *first,
            Where::Place(Place::Latest) => *end,
            Where::Offset(offset) => offset,
            Where::Last(last) => end.saturating_sub(last),
            Where::Place(Place::Time(_)) => {
                match at_time.get(number).copied().unwrap_or(Ok(None)) {
                    Ok(offset) => offset.unwrap_or(*end),
                    Err(code) => return Err(session.why(&topic.name, *number, *first, code).await),
                }
            }
        };
        positions.insert(*number, position.min(*end).max(*first));
    }
    Ok(positions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_word_an_offset_or_a_time() {
        let at = |text| Where::parse("--from", text).unwrap();
        assert_eq!(at("beginning"), Where::Place(Place::Earliest));
        assert_eq!(at("end"), Where::Place(Place::Latest));
        assert_eq!(at("42"), Where::Offset(42));
        assert_eq!(at("-10"), Where::Last(10));
        assert_eq!(at("@7"), Where::Place(Place::Time(7)));
        assert!(matches!(at("1h ago"), Where::Place(Place::Time(time)) if time > 0));
        assert!(Where::parse("--from", "lunch").is_err());
    }
}
