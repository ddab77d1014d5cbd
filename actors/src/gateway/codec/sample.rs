//! Messages at random, for tests: whatever a version can say.

use bytes::Bytes;
use bytestring::ByteString;
use flumen_runtime::rng::Rng;
use uuid::Uuid;

use super::{
    super::{api::Version, error_code::ErrorCode},
    wire::Records,
};

/// A value that can be drawn.
pub trait Sample: Sized {
    /// Draws one that `version` can say.
    fn sample(rng: &mut Rng, version: Version) -> Self;
}

/// Mostly short, now and then longer than a byte's length, or than what is copied.
fn length(rng: &mut Rng) -> u64 {
    match rng.below(16) {
        0 => rng.below(2_000),
        1..4 => 0,
        _ => rng.below(12),
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Sample for $number {
            fn sample(rng: &mut Rng, _: Version) -> Self {
                match rng.below(8) {
                    0 => Self::MIN,
                    1 => Self::MAX,
                    2 => -1,
                    3 => 0,
                    _ => rng.next_u64() as Self,
                }
            }
        }
    )*};
}

numbers!(i8, i16, i32, i64);

impl Sample for bool {
    fn sample(rng: &mut Rng, _: Version) -> Self {
        rng.chance(1, 2)
    }
}

impl Sample for Uuid {
    fn sample(rng: &mut Rng, _: Version) -> Self {
        rng.uuid()
    }
}

impl Sample for ErrorCode {
    fn sample(rng: &mut Rng, _: Version) -> Self {
        ErrorCode::ALL[rng.below(ErrorCode::ALL.len() as u64) as usize]
    }
}

impl Sample for ByteString {
    fn sample(rng: &mut Rng, _: Version) -> Self {
        let letters = ['a', '.', '\0', 'é', '河', '🌊'];
        (0..length(rng))
            .map(|_| letters[rng.below(letters.len() as u64) as usize])
            .collect::<String>()
            .into()
    }
}

impl Sample for Bytes {
    fn sample(rng: &mut Rng, _: Version) -> Self {
        (0..length(rng)).map(|at| at as u8).collect()
    }
}

impl Sample for Records {
    fn sample(rng: &mut Rng, version: Version) -> Self {
        let mut records = Records::default();
        for _ in 0..rng.below(4) {
            records.push(Bytes::sample(rng, version));
        }
        records
    }
}

impl<T: Sample> Sample for Vec<T> {
    fn sample(rng: &mut Rng, version: Version) -> Self {
        let length = if rng.chance(1, 200) { 200 } else { rng.below(4) };
        (0..length).map(|_| T::sample(rng, version)).collect()
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample(rng: &mut Rng, version: Version) -> Self {
        rng.chance(2, 3).then(|| T::sample(rng, version))
    }
}
