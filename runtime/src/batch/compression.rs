//! The codecs of compressed records: gzip, Snappy, LZ4 and Zstandard, as Kafka's clients write them.
//!
//! What stands behind the header of a compressed batch is one block, which expands to the bytes that a
//! plain batch would have there. What a block says of its own length is a claim. It expands through a
//! stream that ends with an error at a limit ([`Expanded`]), so memory is taken for what was really
//! there, and never beyond that limit; where a codec must know a length before it begins, that is held
//! against the limit, and against what so many bytes can expand to, first.
//!
//! | codec | a block is |
//! |---|---|
//! | gzip | members (RFC 1952) |
//! | Snappy | the framing of snappy-java, or one raw block (`snappy`) |
//! | LZ4 | a frame, whose blocks are of at most 4 MiB |
//! | Zstandard | frames (RFC 8878), whose windows are of at most 128 MiB, as in Kafka |
//!
//! A Zstandard window is touched only as far as the block expands, so that the limit bounds it too.
//!
//! All of this may take long: a block of a few kilobytes can expand for a second. On an arbiter it is
//! done [`aside`](crate::aside).

mod snappy;

use std::io::{self, Read};

use bytes::Bytes;

use self::snappy::Blocks;
use super::{BatchError, Compression};

/// The most bytes that the records of one batch expand to, where nobody says otherwise. Nothing is refused
/// for it that is only stored.
pub const EXPANDED_BYTES_MAX: usize = 64 << 20;

/// A way to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codec {
    /// How.
    pub compression: Compression,
    /// How hard, in the codec's own numbers; none: its default. Snappy and LZ4 have one level here.
    pub level: Option<i32>,
}

impl From<Compression> for Codec {
    /// At the codec's default level.
    fn from(compression: Compression) -> Self {
        Self { compression, level: None }
    }
}

/// What a block expands to, read piece by piece up to a limit.
pub(super) struct Expanded<'a> {
    from: Box<dyn Read + 'a>,
    left: usize,
    limit: usize,
}

impl<'a> Expanded<'a> {
    /// Reads `block` up to `limit` bytes.
    pub(super) fn new(
        compression: Compression,
        block: &'a [u8],
        limit: usize,
    ) -> Result<Self, BatchError> {
        let failed = |error| failed(compression, &error);
        let from: Box<dyn Read + 'a> = match compression {
            Compression::None => Box::new(block),
            Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(block)),
            Compression::Snappy => Box::new(Blocks::new(block, limit)),
            Compression::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(block)),
            Compression::Zstd => {
                Box::new(zstd::stream::read::Decoder::with_buffer(block).map_err(failed)?)
            }
            Compression::Unknown => return Err(BatchError::Compressed(compression)),
        };
        Ok(Self { from, left: limit, limit })
    }
}

impl Read for Expanded<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !to.is_empty() {
            return match self.from.read(&mut [0])? {
                0 => Ok(0),
                _ => Err(io::Error::other(BatchError::Expands { bytes_max: self.limit })),
            };
        }
        let room = to.len().min(self.left);
        let read = self.from.read(&mut to[..room])?;
        self.left -= read;
        Ok(read)
    }
}

fn failed(compression: Compression, error: &io::Error) -> BatchError {
    let known = error.get_ref().and_then(|inner| inner.downcast_ref::<BatchError>());
    known.cloned().unwrap_or_else(|| BatchError::Block { compression, reason: error.to_string() })
}

/// What `block` expands to, where that is at most `limit` bytes.
pub(super) fn expand(
    compression: Compression,
    block: &[u8],
    limit: usize,
) -> Result<Bytes, BatchError> {
    let mut to = Vec::new();
    Expanded::new(compression, block, limit)?
        .read_to_end(&mut to)
        .map_err(|error| failed(compression, &error))?;
    Ok(to.into())
}

/// Appends to `to` the block that expands to `plain`.
pub(super) fn compress(codec: Codec, plain: &[u8], to: &mut Vec<u8>) {
    let level = codec.level;
    let done = match codec.compression {
        Compression::None => {
            to.extend_from_slice(plain);
            Ok(())
        }
        Compression::Gzip => gzip(level, plain, to),
        Compression::Snappy => snappy::compress(plain, to),
        Compression::Lz4 => lz4(plain, to),
        Compression::Zstd => {
            zstd::stream::copy_encode(plain, to, level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL))
        }
        Compression::Unknown => panic!("nothing is compressed with a codec that nobody knows"),
    };
    done.expect("memory takes every byte, and levels are checked where they are set");
}

fn gzip(level: Option<i32>, mut plain: &[u8], to: &mut Vec<u8>) -> io::Result<()> {
    let level = level.and_then(|level| u32::try_from(level).ok());
    let level = level.map_or_else(flate2::Compression::default, flate2::Compression::new);
    let mut encoder = flate2::write::GzEncoder::new(to, level);
    io::copy(&mut plain, &mut encoder)?;
    encoder.finish().map(drop)
}

fn lz4(mut plain: &[u8], to: &mut Vec<u8>) -> io::Result<()> {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    // As Kafka's `Lz4BlockOutputStream` has it.
    let frame = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(frame, to);
    io::copy(&mut plain, &mut encoder)?;
    encoder.finish().map(drop).map_err(io::Error::from)
}

#[cfg(test)]
mod tests;
