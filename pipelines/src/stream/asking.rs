//! Asks a partition, again and again as long as it may yet answer.

use std::time::Duration;

use actix::{Message, dev::ToEnvelope, prelude::*};
use flumen_actors::broker::{
    Broker,
    names::{Isolation, TopicPartition},
    partition::{
        Partition,
        messages::{Append, AppendError, Appended, At, FetchError, FindOffset},
    },
};
use flumen_runtime::ids::Offset;

use super::outlet::StageError;

const RETRY_FIRST: Duration = Duration::from_millis(10);
const RETRY_LAST: Duration = Duration::from_secs(1);
/// All tries together take half a minute.
const TRIES_MAX: u32 = 36;

/// What `target` answers to what `make` makes, or an error that does not pass. It is made anew for each
/// try.
///
/// # Errors
/// [`StageError::Refused`], where it does not answer.
pub(super) async fn ask<M, T, E>(
    broker: &Broker,
    target: &TopicPartition,
    make: impl Fn() -> M,
    is_passing: impl Fn(&E) -> bool,
) -> Result<Result<T, E>, StageError>
where
    M: Message<Result = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: std::fmt::Display + Send + 'static,
    Partition: Handler<M>,
    <Partition as Actor>::Context: ToEnvelope<Partition, M>,
{
    let refused = |reason: String| StageError::refused(&target.topic, reason);
    let address = broker.partition(target).ok_or_else(|| refused(format!("{target} is gone")))?;
    let (mut wait, mut why) = (RETRY_FIRST, "its actor stopped".to_owned());
    for _ in 0..TRIES_MAX {
        match address.send(make()).await {
            Ok(Err(error)) if is_passing(&error) => why = error.to_string(),
            Ok(answer) => return Ok(answer),
            // It begins anew.
            Err(_) => {}
        }
        tokio::time::sleep(wait).await;
        wait = RETRY_LAST.min(wait * 2);
    }
    Err(refused(format!("{target} does not answer: {why}")))
}

/// Whether a partition that cannot be read now may be later: it opens, moves, or its leader does.
pub(super) fn is_passing(error: &FetchError) -> bool {
    match error {
        FetchError::NotLeader(_) => true,
        FetchError::Offline(offline) => offline.is_passing,
        FetchError::OutOfRange { .. } | FetchError::Unreadable { .. } => false,
    }
}

/// Appends what `make` makes to `target`.
///
/// # Errors
/// [`StageError::Refused`].
pub(super) async fn append(
    broker: &Broker,
    target: &TopicPartition,
    make: impl Fn() -> Append,
) -> Result<Appended, StageError> {
    let appended = ask(broker, target, make, AppendError::is_retryable).await?;
    appended.map_err(|error| StageError::refused(&target.topic, error))
}

/// Where `target` ends.
///
/// # Errors
/// [`StageError::Refused`].
pub(super) async fn end_of(broker: &Broker, target: &TopicPartition) -> Result<Offset, StageError> {
    let isolation = Isolation::LogEnd;
    let find = || FindOffset { isolation, ..FindOffset::new(At::Latest) };
    let found = ask(broker, target, find, is_passing).await?;
    let found = found.map_err(|error| StageError::refused(&target.topic, error))?;
    Ok(found.expect("each log has an end").offset)
}
