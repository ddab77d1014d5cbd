//! Answers on their way into the socket: all of a turn in one flush.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use flumen_runtime::credit::Permit;
use tokio::io::AsyncWrite;

use super::answer::Answer;

/// Chunks that one system call takes.
const CHUNKS_MAX: usize = 64;

/// What is to be sent.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    chunks: VecDeque<Bytes>,
    /// Rooms of answers, each with the number of bytes after which it is given back.
    permits: VecDeque<(u64, Permit)>,
    queued: u64,
    sent: u64,
}

impl Outgoing {
    pub(super) fn push(&mut self, answer: Answer) {
        self.queued += answer.len() as u64;
        self.chunks.extend(answer.chunks.into_iter().filter(|chunk| !chunk.is_empty()));
        self.permits.extend(answer.permit.map(|permit| (self.queued, permit)));
    }

    /// Bytes that wait.
    pub(super) fn len(&self) -> u64 {
        self.queued - self.sent
    }

    /// Bytes sent so far.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether others wait for the room that these hold, or they hold none: what nobody counts is not to
    /// stay.
    pub(super) fn is_in_the_way(&self) -> bool {
        self.permits.is_empty() || self.permits.iter().any(|(_, permit)| permit.is_wanted())
    }

    /// Sends as much as the socket takes; ready when nothing is left.
    pub(super) fn poll_send<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.len() > 0 {
            let mut slices = [IoSlice::new(&[]); CHUNKS_MAX];
            let count = self.chunks.len().min(CHUNKS_MAX);
            for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
                *slice = IoSlice::new(chunk);
            }
            let sent = ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &slices[..count]))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.has_sent(sent);
        }
        // A connection that waits keeps no room.
        self.chunks = VecDeque::new();
        Pin::new(stream).poll_flush(cx)
    }

    fn has_sent(&mut self, mut sent: usize) {
        self.sent += sent as u64;
        while let Some(first) = self.chunks.front_mut() {
            let part = sent.min(first.len());
            first.advance(part);
            sent -= part;
            if !first.is_empty() {
                break;
            }
            self.chunks.pop_front();
        }
        while self.permits.pop_front_if(|(until, _)| *until <= self.sent).is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use flumen_runtime::credit::Credit;
    use tokio::io::AsyncReadExt;

    use super::*;

    #[actix_rt::test]
    async fn chunks_arrive_whole_and_in_order_through_a_narrow_pipe_and_give_their_room_back() {
        let (mut ours, mut theirs) = tokio::io::duplex(7);
        let credit = Credit::new(10, 100);
        let mut outgoing = Outgoing::default();
        let mut wanted = Vec::new();
        for number in 0..200_u8 {
            let chunks = [vec![number; 3], vec![], vec![number; 10]];
            chunks.iter().for_each(|chunk| wanted.extend_from_slice(chunk));
            let mut answer = Answer::of(chunks.map(Bytes::from));
            answer.permit = (number == 100).then(|| credit.try_acquire(1, 13).unwrap());
            outgoing.push(answer);
        }
        let send = async {
            poll_fn(|cx| outgoing.poll_send(&mut ours, cx)).await.unwrap();
            drop(ours);
            outgoing
        };
        let mut got = Vec::new();
        let (outgoing, read) = futures::join!(send, theirs.read_to_end(&mut got));
        read.unwrap();
        assert_eq!(got, wanted);
        assert_eq!((outgoing.len(), outgoing.sent()), (0, wanted.len() as u64));
        assert_eq!(credit.out().count, 0, "its room is free");
    }
}
