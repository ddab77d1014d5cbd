//! Names and numbers of groups, each a type of its own.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(Arc<str>);

        impl $name {
            /// As text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// Name of a consumer group.
    GroupId
}
text_id! {
    /// Name of a member of a group, given by the coordinator when the member first joins.
    MemberId
}
text_id! {
    /// Name that a static member keeps over its lives (KIP-345, `group.instance.id`).
    InstanceId
}

/// Number of a membership of a group; every request of a member carries it. 0: none was formed yet.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct GenerationId(pub u32);

impl GenerationId {
    /// As the signed number of Kafka's formats.
    #[must_use]
    pub fn as_i32(self) -> i32 {
        i32::try_from(self.0).expect("generations are kept below 2^31")
    }

    /// From the signed number of Kafka's formats, where a negative one means none.
    #[must_use]
    pub fn from_i32(number: i32) -> Option<Self> {
        u32::try_from(number).ok().map(Self)
    }

    /// The generation after this one.
    #[must_use]
    pub fn next(self) -> Self {
        // Kafka's is a signed int; two thousand million rebalances start over at 1.
        Self(if self.0 >= i32::MAX as u32 { 1 } else { self.0 + 1 })
    }
}

impl fmt::Display for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl GroupId {
    /// Whether the key of a record has room for it, whose length is a signed 16-bit number.
    #[must_use]
    pub fn fits_record(&self) -> bool {
        self.0.len() <= i16::MAX as usize
    }

    /// Which of `partitions` partitions of `__consumer_offsets` holds this group, as Kafka's
    /// `GroupCoordinatorService.partitionFor` finds it: `abs(hashCode) mod partitions`, where the
    /// hash is that of Java's `String` over UTF-16 units.
    #[must_use]
    pub fn partition_of(&self, partitions: u32) -> u32 {
        let hash = self
            .0
            .encode_utf16()
            .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
        // `Utils.abs`: clears nothing but the sign, and maps the one number without a positive to 0.
        let positive = if hash == i32::MIN { 0 } else { hash.unsigned_abs() };
        positive % partitions.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_go_to_the_partition_that_kafka_gives_them() {
        // "group".hashCode() == 98629247, "a" == 97, "" == 0 (the polynomial of Java's String).
        assert_eq!(GroupId::from("group").partition_of(50), 98_629_247 % 50);
        assert_eq!(GroupId::from("a").partition_of(50), 47);
        assert_eq!(GroupId::from("").partition_of(50), 0);
        // The best known string whose hash is Integer.MIN_VALUE.
        assert_eq!(GroupId::from("polygenelubricants").partition_of(50), 0);
        // U+1F600 is two UTF-16 units: 0xD83D * 31 + 0xDE00.
        assert_eq!(GroupId::from("\u{1F600}").partition_of(1000), (0xD83D * 31 + 0xDE00) % 1000);
    }

    #[test]
    fn generations_start_over_where_kafkas_number_ends() {
        assert_eq!(GenerationId(0).next(), GenerationId(1));
        assert_eq!(GenerationId(i32::MAX as u32).next(), GenerationId(1));
        assert_eq!(GenerationId::from_i32(-1), None);
    }
}
