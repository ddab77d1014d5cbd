//! Where a stream ends: what puts results out, and knows what it has put out.

use flumen_actors::broker::names::{TopicName, TopicPartition};
use flumen_runtime::{batch::RecordView, ids::Offset};
use futures::future::LocalBoxFuture;

use crate::typed::ValueError;

/// What an outlet keeps beside the position, at most 4,096 bytes; what may be more has a changelog.
pub type State = String;

/// Where an outlet begins.
#[derive(Clone, Copy, Debug)]
pub struct Begin<'a> {
    /// The first offset that was not committed.
    pub position: Offset,
    /// What was committed with it; at a cut, with what was committed last.
    pub state: Option<&'a str>,
    /// More was committed than to this position: the records from there on were lost, and others stand in
    /// their place, or will.
    pub is_cut: bool,
}

impl Begin<'_> {
    /// From `position` on, with nothing kept.
    #[must_use]
    pub fn at(position: Offset) -> Self {
        Self { position, state: None, is_cut: false }
    }
}

/// Why a stage cannot go on.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum StageError {
    /// A record is not what the stage reads.
    #[error("the record at offset {offset} of `{partition}`: {error}")]
    Value {
        /// Where.
        partition: TopicPartition,
        /// Which record.
        offset: Offset,
        /// What is wrong.
        error: ValueError,
    },
    /// Bytes that cannot be read, or are compressed.
    #[error("`{partition}` cannot be read at offset {offset}: {reason}")]
    Unreadable {
        /// Where.
        partition: TopicPartition,
        /// At which offset.
        offset: Offset,
        /// Why.
        reason: String,
    },
    /// What was kept is not of this outlet, or not whole.
    #[error(
        "what is kept in or for `{partition}` cannot be taken up: {reason}; to begin anew, give the stage another name, or delete what is kept: the changelog's topic, or the group"
    )]
    State {
        /// The partition that it was committed for, or that of the changelog that holds it.
        partition: TopicPartition,
        /// What is wrong.
        reason: String,
    },
    /// What it puts out to refuses.
    #[error("{what} refuses: {reason}")]
    Refused {
        /// Who.
        what: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The group does not take the stage, or no longer.
    #[error("the group refuses the stage: {0}")]
    Group(String),
}

impl StageError {
    /// `topic` refuses.
    pub(super) fn refused(topic: &TopicName, reason: impl ToString) -> StageError {
        StageError::Refused { what: format!("topic `{topic}`"), reason: reason.to_string() }
    }
}

/// The end of a stream, for one partition of its topic at a time. Its results are a pure function of
/// the records and the state it began with.
pub trait Outlet {
    /// Whether it is to be given only what a power cut cannot take any more: whoever keeps what it makes
    /// of a record more safely than the record is kept.
    fn takes_durable_only(&self) -> bool {
        false
    }

    /// Begins with a partition. Answers from where on it is read, which is the position for who does not
    /// know better.
    ///
    /// # Errors
    /// [`StageError`].
    fn begin<'a>(
        &'a mut self,
        partition: &'a TopicPartition,
        from: Begin<'a>,
    ) -> LocalBoxFuture<'a, Result<Offset, StageError>>;

    /// Takes one record in. Answers how many bytes the next [`Outlet::finish`] of the partition has to put
    /// out as one: where that is much it is due at once, and 0 where it can put them out one by one.
    ///
    /// # Errors
    /// [`StageError`]; mostly [`StageError::Value`].
    fn take(
        &mut self,
        partition: &TopicPartition,
        record: &RecordView<'_>,
    ) -> Result<usize, StageError>;

    /// Puts out, safely, what was taken in of `partition`; everything below `next` is finished then.
    /// The state that it answers is committed with that position, for the next [`Outlet::begin`].
    ///
    /// # Errors
    /// [`StageError`]; the stage begins anew, from what was committed last or what the outlet knows of
    /// later.
    fn finish<'a>(
        &'a mut self,
        partition: &'a TopicPartition,
        next: Offset,
    ) -> LocalBoxFuture<'a, Result<State, StageError>>;

    /// Another reads the partition now.
    fn end(&mut self, partition: &TopicPartition);
}
