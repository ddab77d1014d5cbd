//! Where a stream ends: what puts results out, and knows what it has put out.

use flumen_actors::broker::names::TopicPartition;
use flumen_runtime::{batch::RecordView, ids::Offset};
use futures::future::LocalBoxFuture;

use crate::typed::ValueError;

/// What an outlet keeps beside the position, at most 4,096 bytes.
pub type State = String;

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
    /// The state that was committed is not one of this outlet.
    #[error(
        "the state committed for `{partition}` is not of this stage: {reason}; give the stage another group"
    )]
    State {
        /// Of which partition.
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

/// The end of a stream, for one partition of its topic at a time. Its results are a pure function of
/// the records and the state it began with.
pub trait Outlet {
    /// Begins with a partition: from `position` on, with the `state` that was committed with it.
    ///
    /// # Errors
    /// [`StageError`].
    fn begin<'a>(
        &'a mut self,
        partition: &'a TopicPartition,
        position: Offset,
        state: Option<&'a str>,
    ) -> LocalBoxFuture<'a, Result<(), StageError>>;

    /// Takes one record in.
    ///
    /// # Errors
    /// [`StageError::Value`].
    fn take(
        &mut self,
        partition: &TopicPartition,
        record: &RecordView<'_>,
    ) -> Result<(), StageError>;

    /// Puts out, safely, what was taken in of `partition`; everything below `next` is finished then.
    /// The state is committed with that position.
    ///
    /// # Errors
    /// [`StageError`]; the stage begins anew from what was committed last.
    fn finish<'a>(
        &'a mut self,
        partition: &'a TopicPartition,
        next: Offset,
    ) -> LocalBoxFuture<'a, Result<State, StageError>>;

    /// What was finished last of `partition` is committed.
    fn committed(&mut self, _partition: &TopicPartition) {}

    /// Another reads the partition now.
    fn end(&mut self, partition: &TopicPartition);
}
