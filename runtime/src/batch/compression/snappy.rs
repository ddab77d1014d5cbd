//! Snappy blocks, raw or in the framing of snappy-java (`SnappyOutputStream`):
//!
//! | bytes | |
//! |---|---|
//! | 8 | magic `0x82 SNAPPY 0x00` |
//! | 4 + 4 | version, and the oldest version that reads it: big-endian, 1 |
//! | 4 + n, … | length of a block, big-endian, and the block |
//!
//! Where frames were written one after the other, each begins with its magic again.

use std::io::{self, Read};

use super::super::BatchError;

const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const HEADER_BYTES: usize = 16;
/// Bytes of plain text in a block, as snappy-java has it.
const BLOCK_BYTES: usize = 32 << 10;
/// No block expands more: the shortest copy of 64 bytes takes three.
const RATIO_MAX: usize = 22;

/// What a sequence of blocks expands to.
pub(super) struct Blocks<'a> {
    rest: &'a [u8],
    is_framed: bool,
    plain: Vec<u8>,
    at: usize,
    left: usize,
    limit: usize,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(bytes: &'a [u8], limit: usize) -> Self {
        let is_framed = bytes.starts_with(&MAGIC);
        Self { rest: bytes, is_framed, plain: Vec::new(), at: 0, left: limit, limit }
    }

    /// The next block.
    fn cut(&mut self) -> io::Result<&'a [u8]> {
        if !self.is_framed {
            return Ok(std::mem::take(&mut self.rest));
        }
        while self.rest.starts_with(&MAGIC) {
            self.rest = self.rest.get(HEADER_BYTES..).ok_or_else(cut_off)?;
        }
        if self.rest.is_empty() {
            return Ok(&[]);
        }
        let (len, rest) = self.rest.split_first_chunk().ok_or_else(cut_off)?;
        let (block, rest) =
            rest.split_at_checked(u32::from_be_bytes(*len) as usize).ok_or_else(cut_off)?;
        self.rest = rest;
        Ok(block)
    }

    /// Bytes of memory that it has taken.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.plain.capacity()
    }

    fn fill(&mut self) -> io::Result<()> {
        let block = self.cut()?;
        if block.is_empty() {
            return Ok(());
        }
        let claimed = snap::raw::decompress_len(block).map_err(io::Error::other)?;
        if claimed > block.len().saturating_mul(RATIO_MAX) {
            return Err(io::Error::other("a block claims more than it can hold"));
        }
        if claimed > self.left {
            return Err(io::Error::other(BatchError::Expands { bytes_max: self.limit }));
        }
        self.left -= claimed;
        self.plain.resize(claimed, 0);
        self.at = 0;
        snap::raw::Decoder::new().decompress(block, &mut self.plain).map_err(io::Error::other)?;
        Ok(())
    }
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "a block is cut off")
}

impl Read for Blocks<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.at == self.plain.len() && !self.rest.is_empty() {
            self.fill()?;
        }
        let len = to.len().min(self.plain.len() - self.at);
        to[..len].copy_from_slice(&self.plain[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}

/// Appends the framed blocks that expand to `plain`.
pub(super) fn compress(plain: &[u8], to: &mut Vec<u8>) -> io::Result<()> {
    to.extend_from_slice(&MAGIC);
    to.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
    let mut encoder = snap::raw::Encoder::new();
    let mut block = vec![0; snap::raw::max_compress_len(BLOCK_BYTES)];
    for piece in plain.chunks(BLOCK_BYTES) {
        let len = encoder.compress(piece, &mut block).map_err(io::Error::other)?;
        to.extend_from_slice(&u32::try_from(len).expect("a block is small").to_be_bytes());
        to.extend_from_slice(&block[..len]);
    }
    Ok(())
}
