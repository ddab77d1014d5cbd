//! Zigzag varints of Kafka's records (`ByteUtils.java`; Protocol Buffers' encoding).

/// Bytes that `value` takes.
#[inline]
pub(super) fn len(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[inline]
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[inline]
fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Writes `value` at the beginning of `to`, which has room for it; returns the bytes it took.
#[inline]
pub(super) fn put(to: &mut Vec<u8>, value: i64) {
    let bits = zigzag(value);
    match bits {
        ..0x80 => to.push(bits as u8),
        0x80..0x4000 => to.extend_from_slice(&[bits as u8 | 0x80, (bits >> 7) as u8]),
        _ => put_long(to, bits),
    }
}

fn put_long(to: &mut Vec<u8>, mut rest: u64) {
    while rest >= 0x80 {
        to.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    to.push(rest as u8);
}

/// The value at the beginning of `from`, which is moved past it; `None` where the bytes end early
/// or go on beyond 64 bits.
#[inline]
pub(super) fn take(from: &mut &[u8]) -> Option<i64> {
    // Most are lengths and differences that one or two bytes hold.
    match *from {
        [byte @ ..0x80, rest @ ..] => {
            *from = rest;
            Some(unzigzag(u64::from(*byte)))
        }
        [low, high @ ..0x80, rest @ ..] => {
            *from = rest;
            Some(unzigzag(u64::from(*low & 0x7f) | u64::from(*high) << 7))
        }
        _ => take_long(from),
    }
}

fn take_long(from: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for (place, byte) in from.iter().take(10).enumerate() {
        let bits = u64::from(byte & 0x7f);
        if place == 9 && bits > 1 {
            return None;
        }
        value |= bits << (7 * place);
        if byte & 0x80 == 0 {
            *from = &from[place + 1..];
            return Some(unzigzag(value));
        }
    }
    None
}
