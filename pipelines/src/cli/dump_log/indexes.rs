//! The files beside a segment: where offsets and times are in it, and what its producers have sent.

use std::io;

use flumen_runtime::codec::crc32c;
use serde_json::json;

use super::Teller;

/// Bytes of an entry of each.
const OFFSET_ENTRY: usize = 8;
const TIME_ENTRY: usize = 12;
const PRODUCER_ENTRY: usize = 46;
/// How the states begin that are the node's own, not of producers.
const OWN: &[u8] = b"FL";
/// Bytes before the first producer: version, checksum, count.
const PRODUCERS_HEAD: usize = 10;
const PRODUCERS_VERSION: i16 = 1;

/// What is wrong, if anything.
type Trouble = Option<String>;

/// The big-endian number of `N` bytes at `at`, which the caller knows to be there.
fn number<const N: usize>(bytes: &[u8], at: usize) -> i64 {
    let unsigned = bytes[at..at + N].iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let unused = 64 - 8 * N as u32;
    ((unsigned << unused) as i64) >> unused
}

fn rest(bytes: &[u8], entry: usize) -> Trouble {
    let left = bytes.len() % entry;
    (left > 0).then(|| format!("{left} bytes at its end are no entry"))
}

pub(super) fn offsets(bytes: &[u8], base: u64, teller: &mut Teller) -> io::Result<Trouble> {
    for entry in bytes.chunks_exact(OFFSET_ENTRY) {
        let (offset, position) = (base + number::<4>(entry, 0) as u64, number::<4>(entry, 4));
        teller.tell(
            || format!("offset {offset}  byte {position}"),
            || json!({ "offset": offset, "position": position }),
        )?;
    }
    Ok(rest(bytes, OFFSET_ENTRY))
}

pub(super) fn times(bytes: &[u8], base: u64, teller: &mut Teller) -> io::Result<Trouble> {
    for entry in bytes.chunks_exact(TIME_ENTRY) {
        let (time, offset) = (number::<8>(entry, 0), base + number::<4>(entry, 8) as u64);
        teller.tell(
            || format!("time {time}  offset {offset}"),
            || json!({ "timestamp": time, "offset": offset }),
        )?;
    }
    Ok(rest(bytes, TIME_ENTRY))
}

pub(super) fn producers(bytes: &[u8], teller: &mut Teller) -> io::Result<Trouble> {
    if bytes.len() < PRODUCERS_HEAD {
        return Ok(Some(format!("{} bytes, which is too short", bytes.len())));
    }
    if bytes.starts_with(OWN) {
        teller.tell(
            || "a state that the node keeps for itself; it is not shown".to_owned(),
            || json!({ "own": true }),
        )?;
        return Ok(None);
    }
    let version = number::<2>(bytes, 0) as i16;
    if version != PRODUCERS_VERSION {
        return Ok(Some(format!("it has version {version}, and this program knows version 1")));
    }
    let (crc, count) = (number::<4>(bytes, 2) as u32, number::<4>(bytes, 6) as u32);
    let entries = bytes[PRODUCERS_HEAD..].chunks_exact(PRODUCER_ENTRY).take(count as usize);
    if entries.len() != count as usize {
        return Ok(Some(format!("it says that it has {count} entries, and has {}", entries.len())));
    }
    for entry in entries {
        let (id, epoch) = (number::<8>(entry, 0), number::<2>(entry, 8));
        let (sequence, offset) = (number::<4>(entry, 10), number::<8>(entry, 14));
        let (delta, time) = (number::<4>(entry, 22), number::<8>(entry, 26));
        let open = number::<8>(entry, 38);
        teller.tell(
            || {
                format!(
                    "producer {id}  epoch {epoch}  last sequence {sequence}  last offset {offset}  \
                     offset delta {delta}  time {time}  transaction from {open}"
                )
            },
            || {
                json!({
                    "producer_id": id, "producer_epoch": epoch, "last_sequence": sequence,
                    "last_offset": offset, "offset_delta": delta, "timestamp": time,
                    "transaction_first_offset": open,
                })
            },
        )?;
    }
    let found = crc32c(&[&bytes[6..]]);
    Ok((found != crc).then(|| "it fails its checksum".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_sign() {
        assert_eq!(number::<2>(&[0xff, 0xfe], 0), -2);
        assert_eq!(number::<4>(&[0, 0, 1, 0, 9], 0), 256);
        assert_eq!(number::<8>(&[0xff; 8], 0), -1);
    }
}
