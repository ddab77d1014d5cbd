//! A message together with the slot for its answer: what waits while a partition opens.

use flumen_runtime::mailbox::Drain;

use super::{
    Partition,
    messages::{
        Append, AppendAsFollower, AppendError, Appended, Assume, Configure, DescribeProducers,
        EpochEnd, Fetch, FetchError, Fetched, FindEpochEnd, FindOffset, FoundOffset, LastSequence,
        OfflineError, ProducerStatus, ProducerTail, Status, TrimTo, TruncateTo,
    },
};
use crate::answer::{Answer, Answering, later};

/// The slot for the answer to an append.
pub(super) type AppendAnswer = Answer<Result<Appended, AppendError>>;
/// The slot for the answer to a fetch.
pub(super) type FetchAnswer = Answer<Result<Fetched, FetchError>>;
/// The slot for an offset.
pub(super) type OffsetAnswer = Answer<Result<flumen_runtime::ids::Offset, FetchError>>;
/// The slot for the end of a producer.
pub(super) type TailAnswer = Answer<Result<Option<ProducerTail>, OfflineError>>;
/// The slot for an offset that was looked for.
pub(super) type FoundAnswer = Answer<Result<Option<FoundOffset>, FetchError>>;

/// A message and the slot for its answer.
pub(super) enum Request {
    Append(Append, AppendAnswer),
    AppendAsFollower(AppendAsFollower, AppendAnswer),
    Fetch(Fetch, FetchAnswer),
    FindOffset(FindOffset, FoundAnswer),
    TrimTo(TrimTo, OffsetAnswer),
    TruncateTo(TruncateTo, OffsetAnswer),
    /// The log was truncated and is open again.
    Truncated(OffsetAnswer),
    LastSequence(LastSequence, TailAnswer),
    FindEpochEnd(FindEpochEnd, Answer<Result<Option<EpochEnd>, FetchError>>),
    DescribeProducers(DescribeProducers, Answer<Result<Vec<ProducerStatus>, OfflineError>>),
    Configure(Configure, Answer<Result<(), OfflineError>>),
    Assume(Assume, Answer<Result<(), AppendError>>),
    Drain(Answer<()>),
}

impl Request {
    /// Answers that the partition does not serve.
    pub(super) fn refuse(self, offline: &OfflineError) {
        let offline = offline.clone();
        match self {
            Request::Append(_, answer) | Request::AppendAsFollower(_, answer) => {
                answer.give(Err(offline.into()));
            }
            Request::Fetch(_, answer) => answer.give(Err(offline.into())),
            Request::FindOffset(_, answer) => answer.give(Err(offline.into())),
            Request::TrimTo(_, answer)
            | Request::TruncateTo(_, answer)
            | Request::Truncated(answer) => {
                answer.give(Err(offline.into()));
            }
            Request::LastSequence(_, answer) => answer.give(Err(offline)),
            Request::FindEpochEnd(_, answer) => answer.give(Err(offline.into())),
            Request::DescribeProducers(_, answer) => answer.give(Err(offline)),
            Request::Configure(_, answer) => answer.give(Err(offline)),
            Request::Assume(_, answer) => answer.give(Err(offline.into())),
            // Nothing is in: it is drained.
            Request::Drain(answer) => answer.give(()),
        }
    }
}

/// Hands each message to [`Partition::serve`], with the slot for its answer.
macro_rules! served {
    ($($message:ident => $result:ty),+ $(,)?) => { $(
        impl actix::Handler<$message> for Partition {
            type Result = Answering<$result>;

            fn handle(&mut self, message: $message, ctx: &mut Self::Context) -> Self::Result {
                let (answer, answering) = later();
                self.serve(Request::$message(message, answer), ctx);
                answering
            }
        }
    )+ };
}

served! {
    Append => Result<Appended, AppendError>,
    AppendAsFollower => Result<Appended, AppendError>,
    Fetch => Result<Fetched, FetchError>,
    FindOffset => Result<Option<FoundOffset>, FetchError>,
    TrimTo => Result<flumen_runtime::ids::Offset, FetchError>,
    TruncateTo => Result<flumen_runtime::ids::Offset, FetchError>,
    LastSequence => Result<Option<ProducerTail>, OfflineError>,
    FindEpochEnd => Result<Option<EpochEnd>, FetchError>,
    DescribeProducers => Result<Vec<ProducerStatus>, OfflineError>,
    Configure => Result<(), OfflineError>,
    Assume => Result<(), AppendError>,
}

impl actix::Handler<Drain> for Partition {
    type Result = Answering<()>;

    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) -> Self::Result {
        let (answer, answering) = later();
        self.serve(Request::Drain(answer), ctx);
        answering
    }
}

impl actix::Handler<Status> for Partition {
    type Result = actix::MessageResult<Status>;

    fn handle(&mut self, _: Status, _: &mut Self::Context) -> Self::Result {
        actix::MessageResult(self.status())
    }
}
