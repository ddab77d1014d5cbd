//! Our codec of Kafka's protocol against a codec of other people's making, and against hostile bytes.
//!
//! The other codec is the crate `kafka-protocol`, generated from Kafka 4.1's own schemas. Where it
//! knows a version, each must read what the other writes, byte for byte ([`agreement`]), whichever of
//! them drew it ([`made_up`]). What it lacks:
//!
//! | message | version | what is new in it |
//! |---|---|---|
//! | Fetch | all | null records, which we never write |
//! | ListOffsets | 11 | a timestamp with a meaning, no field |
//! | OffsetCommit | 10 | topic ids |
//! | OffsetFetch | 10 | topic ids |
//! | ApiVersions | 5 | cluster id, node id |
//! | DescribeLogDirs | 5 | cordoned |
//! | DeleteGroups | 3 | error message |
//!
//! For these the bytes are written out ([`golden`]), and Kafka's own message classes are asked ([`kafka`]).
//!
//! [`hostile`] gives the decoder what no client sends, under a counting allocator ([`counting`]).

#![expect(clippy::unwrap_used, reason = "in a test, failing is the answer")]

#[macro_use]
#[path = "kafka_codec/every_message.rs"]
mod every_message;
#[path = "kafka_codec/agreement.rs"]
mod agreement;
#[path = "kafka_codec/counting.rs"]
mod counting;
#[path = "kafka_codec/golden.rs"]
mod golden;
#[path = "kafka_codec/hostile.rs"]
mod hostile;
#[path = "kafka_codec/kafka.rs"]
mod kafka;
#[path = "kafka_codec/made_up.rs"]
mod made_up;

use std::{fmt::Debug, ops::RangeInclusive};

use bytes::Bytes;
use flumen_actors::gateway::{
    api::Version,
    codec::{DecodeError, Decoder, Message, Output, RequestHeader, sample::Sample},
};

/// A message that can be drawn and compared.
trait Tested: Message + Sample + PartialEq + Debug {
    /// The versions that the codec knows.
    fn versions() -> RangeInclusive<i16> {
        let known = Self::API.versions().unwrap();
        known.first..=known.last
    }

    fn version(number: i16) -> Version {
        Self::API.version(number).unwrap()
    }

    /// The body, without any header.
    fn body(&self, version: i16) -> Bytes {
        let version = Self::version(version);
        let header = RequestHeader { api: Self::API, version, correlation_id: 0, client_id: None };
        let mut output = Output::new();
        header.respond(self, &mut output).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        // Length, correlation id, and tagged fields but in ApiVersions.
        let has_tags = version.flexible && Self::API.number() != 18;
        output.take_bytes().slice(8 + usize::from(has_tags)..)
    }

    /// Reads a body, and says how many bytes were left.
    fn read(body: Bytes, version: i16) -> Result<(Self, usize), DecodeError> {
        let mut decoder = Decoder::new(body, 0, Self::API, Self::version(version));
        let message = Self::decode(&mut decoder)?;
        Ok((message, decoder.remaining()))
    }
}

impl<M: Message + Sample + PartialEq + Debug> Tested for M {}
