//! The core of reading: bytes of a stream in, whole requests out.
//!
//! ```text
//!   scratch (the arbiter's) ──► length ──► room? ──► buffer of exactly that length ──► Frame
//! ```
//!
//! A connection that waits owns no buffer. The four bytes of a length are a claim: a buffer is
//! reserved only when it is within the limit, and once its permit is there.

use bytes::BytesMut;
use flumen_runtime::credit::Permit;

use crate::gateway::frame::seen_in;

/// Bytes of a frame's length.
const LENGTH_BYTES: usize = 4;

/// A whole request, without its length, and the room that it takes.
#[derive(Debug)]
pub struct Frame {
    /// Its bytes.
    pub bytes: BytesMut,
    /// Room for them.
    pub permit: Permit,
    /// Room for what it is decoded to, where it had to be waited for.
    pub decoded: Option<Permit>,
}

/// What the bytes so far amount to.
#[derive(Debug)]
pub enum Taken {
    /// More bytes are needed.
    More,
    /// A request of this many bytes begins: [`Intake::admit`] it.
    Begins(usize),
    /// A request is whole.
    Frame(Frame),
}

/// A length that no request has. What it spells may tell what the peer speaks.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("a request of {} bytes was announced, at most {limit} are allowed", i32::from_be_bytes(*head))]
pub struct BadLength {
    /// The bytes that should be a length.
    pub head: [u8; LENGTH_BYTES],
    /// The most that a request may have.
    pub limit: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Intake {
    limit: usize,
    begun: Option<Begun>,
    head: [u8; LENGTH_BYTES],
    head_len: u8,
    /// Whether no request has been whole yet.
    is_first: bool,
}

/// A request of `len` bytes, as far as it is there.
#[derive(Debug)]
struct Begun {
    bytes: BytesMut,
    permit: Permit,
    len: usize,
}

impl Begun {
    fn lacks(&self) -> usize {
        self.len - self.bytes.len()
    }
}

impl Intake {
    /// Takes requests of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, begun: None, head: [0; LENGTH_BYTES], head_len: 0, is_first: true }
    }

    /// The same for a stream that had requests before.
    #[must_use]
    pub fn behind_others(limit: usize) -> Self {
        Self { is_first: false, ..Self::new(limit) }
    }

    /// Takes from the front of `input` what belongs to the next request.
    ///
    /// # Errors
    /// [`BadLength`], after which the stream has no meaning.
    pub fn take(&mut self, input: &mut &[u8]) -> Result<Taken, BadLength> {
        let Some(begun) = &mut self.begun else { return self.take_length(input) };
        let part = input.split_off(..input.len().min(begun.lacks())).unwrap_or(&[]);
        begun.bytes.extend_from_slice(part);
        Ok(self.whole())
    }

    fn take_length(&mut self, input: &mut &[u8]) -> Result<Taken, BadLength> {
        while usize::from(self.head_len) < LENGTH_BYTES {
            let Some(byte) = input.split_off_first() else { return Ok(Taken::More) };
            self.head[usize::from(self.head_len)] = *byte;
            self.head_len += 1;
        }
        let len = usize::try_from(i32::from_be_bytes(self.head)).ok();
        match len.filter(|len| *len <= self.limit) {
            Some(len) => Ok(Taken::Begins(len)),
            None => Err(BadLength { head: self.head, limit: self.limit }),
        }
    }

    /// Reserves the buffer of the request that begins, under its permit.
    pub fn admit(&mut self, len: usize, permit: Permit) {
        self.head_len = 0;
        self.begun = Some(Begun { bytes: BytesMut::with_capacity(len), permit, len });
    }

    /// The buffer to read into directly, and how many bytes it lacks; where a request has begun.
    pub fn buffer(&mut self) -> Option<(&mut BytesMut, usize)> {
        let begun = self.begun.as_mut()?;
        let lacks = begun.lacks();
        Some((&mut begun.bytes, lacks))
    }

    /// The request, where the buffer that was read into is full.
    pub fn whole(&mut self) -> Taken {
        match self.begun.take_if(|begun| begun.lacks() == 0) {
            Some(Begun { bytes, permit, .. }) => {
                self.is_first = false;
                Taken::Frame(Frame { bytes, permit, decoded: None })
            }
            None => Taken::More,
        }
    }

    /// How many bytes of the request that has begun are there.
    #[must_use]
    pub fn received(&self) -> usize {
        self.begun.as_ref().map_or(0, |begun| begun.bytes.len())
    }

    /// Whether a request has begun and is not whole.
    #[must_use]
    pub fn is_within(&self) -> bool {
        self.head_len > 0 || self.begun.is_some()
    }

    /// The four bytes before the first request, once they are there and as long as it is not whole.
    #[must_use]
    pub fn first_head(&self) -> Option<[u8; LENGTH_BYTES]> {
        let is_there = self.begun.is_some() || usize::from(self.head_len) == LENGTH_BYTES;
        (self.is_first && is_there).then_some(self.head)
    }

    /// How the stream begins, to be told of one whose first request never becomes whole; `rest` is what
    /// follows that was not taken.
    #[must_use]
    pub fn beginning(&self, rest: &[u8]) -> Option<String> {
        let (head, bytes) = match &self.begun {
            Some(begun) => (&self.head[..], &begun.bytes[..]),
            None => (&self.head[..self.head_len.into()], &[][..]),
        };
        (self.is_first && self.is_within()).then(|| seen_in([head, bytes, rest]))
    }
}

#[cfg(test)]
mod tests {
    use flumen_runtime::credit::Credit;
    use proptest::prelude::*;

    use super::*;

    fn feed(intake: &mut Intake, credit: &Credit, mut input: &[u8]) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        loop {
            match intake.take(&mut input).expect("the lengths are right") {
                Taken::More => return frames,
                Taken::Begins(len) => intake.admit(len, credit.try_acquire(1, len).unwrap()),
                Taken::Frame(frame) => {
                    assert_eq!(frame.permit.amount().bytes, frame.bytes.len());
                    frames.push(frame.bytes.to_vec());
                }
            }
        }
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_they_are_cut(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
            cuts in prop::collection::vec(1..30_usize, 1..40),
        ) {
            let mut bytes = Vec::new();
            for frame in &frames {
                bytes.extend_from_slice(&(frame.len() as u32).to_be_bytes());
                bytes.extend_from_slice(frame);
            }
            let credit = Credit::new(1_000, 1 << 20);
            let mut intake = Intake::new(64);
            let mut out = Vec::new();
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                let part = rest.split_off(..rest.len().min(*cut)).unwrap();
                out.extend(feed(&mut intake, &credit, part));
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(out, frames);
            prop_assert!(!intake.is_within());
            prop_assert_eq!(credit.out().count, 0);
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_anything_is_reserved() {
        for head in [[0xff; 4], *b"GET ", 65_u32.to_be_bytes()] {
            let refused = Intake::new(64).take(&mut &head[..]).unwrap_err();
            assert_eq!(refused, BadLength { head, limit: 64 });
        }
    }

    #[test]
    fn how_a_stream_begins_can_be_told_until_its_first_request_is_whole() {
        let credit = Credit::new(1_000, 1 << 20);
        let mut intake = Intake::new(64);
        let told = |intake: &Intake| (intake.first_head(), intake.beginning(b"rest"));
        assert_eq!(told(&intake), (None, None));
        feed(&mut intake, &credit, b"\0\0");
        assert_eq!(told(&intake), (None, Some(r#""\x00\x00rest""#.into())));
        feed(&mut intake, &credit, b"\0\x02a");
        let head = Some([0, 0, 0, 2]);
        assert_eq!(told(&intake), (head, Some(r#""\x00\x00\x00\x02arest""#.into())));
        assert_eq!(feed(&mut intake, &credit, b"b\0\0\0\x02c"), [b"ab"]);
        assert_eq!(told(&intake), (None, None), "of a client nothing is told");
        let mut intake = Intake::behind_others(64);
        feed(&mut intake, &credit, b"\0\0\0\x02a");
        assert_eq!(told(&intake), (None, None));
    }
}
