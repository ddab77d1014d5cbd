//! Messages of the other codec, made up: ours need not know what is in them.
//!
//! It has no way to fill a message, but it reads one from whatever gives it bytes. So it is given
//! [`Draws`], which makes up each number when it is asked for it; what it refuses is mended and tried
//! again. A field that we lack is then in what it writes, and our own drawing cannot miss it.

use bytes::{Buf, Bytes, TryGetError};
use flumen_runtime::rng::Rng;
use kafka_protocol::protocol::{
    Decodable,
    buf::{ByteBuf, NotEnoughBytesError},
};

/// Tries to make one message: most need a few, for the nulls that they refuse.
const TRIES_MAX: usize = 100_000;

/// Numbers that are made up, and made up alike when they are read again.
pub(crate) struct Draws {
    rng: Rng,
    chosen: Vec<u8>,
    at: usize,
    /// The last number that was read, where it was one of a single byte.
    last: Option<usize>,
}

/// A message, as it reads it from what is made up.
pub(crate) fn message<M: Decodable>(rng: &Rng, version: i16) -> M {
    let (rng, chosen) = (rng.clone(), Vec::new());
    let mut draws = Draws { rng, chosen, at: 0, last: None };
    for _ in 0..TRIES_MAX {
        (draws.at, draws.last) = (0, None);
        match M::decode(&mut draws, version) {
            Ok(message) => return message,
            Err(_) => draws.mend(),
        }
    }
    panic!("no message of version {version} was made");
}

impl Draws {
    /// Chooses one of four: the first is null where that is a length.
    fn choose(&mut self) -> u8 {
        if self.at == self.chosen.len() {
            self.chosen.push(self.rng.below(4) as u8);
        }
        self.at += 1;
        self.chosen[self.at - 1]
    }

    /// One of four numbers: as a length null, and up to 2.
    fn number(&mut self, last: i64) -> i64 {
        self.last = None;
        [-1, 0, 1, last][usize::from(self.choose())]
    }

    /// After a refusal. Where null was read last, it was not wanted; else a tag that nobody knows, and
    /// there are no tags instead: three numbers are their count, the tag, and the length of its field.
    fn mend(&mut self) {
        self.chosen.truncate(self.at);
        match self.chosen.last_mut() {
            Some(null @ 0) => *null = 1 + self.rng.below(3) as u8,
            _ => {
                self.chosen.truncate(self.chosen.len().saturating_sub(3));
                self.chosen.push(0);
            }
        }
    }
}

impl Buf for Draws {
    fn remaining(&self) -> usize {
        1 << 20
    }

    /// For what is no number: ids.
    fn chunk(&self) -> &[u8] {
        b"of sixteen bytes"
    }

    fn advance(&mut self, _: usize) {}

    /// Flags, and the lengths, counts and tags of flexible versions.
    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        let chosen = self.choose();
        self.last = Some(chosen.into());
        Ok(chosen)
    }

    fn try_get_i8(&mut self) -> Result<i8, TryGetError> {
        Ok(self.number(i8::MAX.into()) as i8)
    }

    fn try_get_i16(&mut self) -> Result<i16, TryGetError> {
        Ok(self.number(2) as i16)
    }

    fn try_get_i32(&mut self) -> Result<i32, TryGetError> {
        Ok(self.number(2) as i32)
    }

    fn try_get_i64(&mut self) -> Result<i64, TryGetError> {
        Ok(self.number(i64::MAX))
    }
}

impl ByteBuf for Draws {
    fn peek_bytes(&mut self, _: std::ops::Range<usize>) -> Bytes {
        unreachable!("no message looks ahead")
    }

    fn get_bytes(&mut self, size: usize) -> Bytes {
        self.last = None;
        Bytes::from(vec![b'a'; size])
    }

    /// A string of `size` bytes, of which one more stood before it in flexible versions. Exactly so many
    /// are wanted of a tagged field that is not known: the whole is refused then.
    fn try_get_bytes(&mut self, size: usize) -> Result<Bytes, NotEnoughBytesError> {
        match self.last == Some(size) {
            true => Err(NotEnoughBytesError),
            false => Ok(self.get_bytes(size)),
        }
    }
}
