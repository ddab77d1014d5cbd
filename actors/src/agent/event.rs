//! What flows in an agent: an event, its headers, and where its source stood after it.
//!
//! An event is Flume's: a map of strings and a body of bytes that nobody looks into. Headers are
//! ordered by name, so that two runs over the same input make the same bytes.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// What an event costs besides its strings and its body, in bytes of credit: about what its parts
/// take in memory, and more than the framing of a record on disk.
pub const EVENT_OVERHEAD_BYTES: usize = 48;

/// A string that many events share: the name of a header, the value of a `static` one.
pub type Text = Arc<str>;

/// Headers of an event: a small map of strings, in the order of names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(SmallVec<[(Text, Text); 2]>);

impl Headers {
    /// No headers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.as_ref().cmp(name))
    }

    /// The value of the header `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Text> {
        self.find(name).ok().and_then(|at| self.0.get(at)).map(|(_, value)| value)
    }

    /// Sets the header `name`, in place of what it was.
    pub fn insert(&mut self, name: impl Into<Text>, value: impl Into<Text>) {
        let (name, value) = (name.into(), value.into());
        match self.find(&name) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (name, value)),
        }
    }

    /// Takes the header `name` away, and tells what it was.
    pub fn remove(&mut self, name: &str) -> Option<Text> {
        self.find(name).ok().map(|at| self.0.remove(at).1)
    }

    /// Names and values, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&Text, &Text)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: Into<Text>, V: Into<Text>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(headers: I) -> Self {
        let mut all = Headers::new();
        for (name, value) in headers {
            all.insert(name, value);
        }
        all
    }
}

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its headers.
    pub headers: Headers,
    /// Its body; a line without its end, for instance.
    pub body: Bytes,
}

impl Event {
    /// An event without headers.
    #[must_use]
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self { headers: Headers::new(), body: body.into() }
    }

    /// What it costs in bytes of credit, in a channel's memory or on its disk.
    #[must_use]
    pub fn cost(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        headers + self.body.len() + EVENT_OVERHEAD_BYTES
    }
}

/// What some events cost together.
#[must_use]
pub fn cost_of(events: &[Event]) -> usize {
    events.iter().map(Event::cost).sum()
}

/// Where one source stands: what it calls its parts (files, for instance) and, in bytes of its own,
/// how far it is in each.
pub type Position = BTreeMap<String, PositionBytes>;

/// How far a source is in one of its parts, in bytes that only the source reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionBytes(#[serde(with = "serde_bytes")] pub Vec<u8>);

/// How the position of `source` moves with the events that it is put with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advance {
    /// The source's name.
    pub source: String,
    /// Its parts that moved; `None` forgets the part.
    pub parts: Vec<(String, Option<PositionBytes>)>,
}

/// Positions of all sources of a channel, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positions(BTreeMap<String, Position>);

impl Positions {
    /// Moves as `advance` says.
    pub fn apply(&mut self, advance: &Advance) {
        let position = self.0.entry(advance.source.clone()).or_default();
        for (part, to) in &advance.parts {
            match to {
                Some(bytes) => drop(position.insert(part.clone(), bytes.clone())),
                None => drop(position.remove(part)),
            }
        }
    }

    /// Where `source` stands; nothing where it has put nothing yet.
    #[must_use]
    pub fn of(&self, source: &str) -> Position {
        self.0.get(source).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_kept_in_the_order_of_names_and_the_last_value_stands() {
        let mut headers: Headers =
            [("host", "a"), ("file", "x.log"), ("host", "b")].into_iter().collect();
        let names: Vec<_> = headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(names, ["file=x.log", "host=b"]);
        assert_eq!(headers.remove("file").as_deref(), Some("x.log"));
        assert_eq!(headers.get("file"), None);
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn positions_move_part_by_part_and_forget() {
        let at = |n: u8| Some(PositionBytes(vec![n]));
        let mut positions = Positions::default();
        let moved = |parts| Advance { source: "tail".into(), parts };
        positions.apply(&moved(vec![("a".into(), at(1)), ("b".into(), at(2))]));
        positions.apply(&moved(vec![("a".into(), at(3)), ("b".into(), None)]));
        assert_eq!(positions.of("tail"), Position::from([("a".into(), PositionBytes(vec![3]))]));
        assert_eq!(positions.of("other"), Position::new());
    }
}
