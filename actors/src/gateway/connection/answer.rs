//! What a request is answered with.

use std::time::Duration;

use bytes::Bytes;
use flumen_runtime::credit::{Acquire, Permit};
use futures::future::LocalBoxFuture;
use smallvec::SmallVec;

use super::intake::Frame;

/// An answer, now or later.
pub(crate) enum Reply {
    /// None: the request was not taken up, and is served again once there is this room for what it is
    /// decoded to.
    Not(Frame, Acquire),
    /// It is there.
    Now(Answer),
    /// It comes.
    Later(LocalBoxFuture<'static, Answer>),
}

/// Bytes to be sent, and what is to be done beside it.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// The whole answer with its length; nothing where the request wants no answer. Records are
    /// sent from where they were read, without a copy.
    pub(crate) chunks: SmallVec<[Bytes; 2]>,
    /// How long no request is read after it: the client was told (`throttle_time_ms`, KIP-219).
    pub(crate) mute: Duration,
    /// Whether the connection is closed after it, and why.
    pub(crate) close: Option<String>,
    /// Room that the answer takes until it is sent.
    pub(crate) permit: Option<Permit>,
}

impl Answer {
    /// The answer that `chunks` are.
    pub(crate) fn of(chunks: impl IntoIterator<Item = Bytes>) -> Self {
        Self { chunks: chunks.into_iter().collect(), ..Self::default() }
    }

    /// No answer, as `acks=0` wants it.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// No answer, and the end of the connection.
    pub(crate) fn close(why: impl Into<String>) -> Self {
        Self { close: Some(why.into()), ..Self::default() }
    }

    /// Bytes of all chunks.
    pub(crate) fn len(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }
}
