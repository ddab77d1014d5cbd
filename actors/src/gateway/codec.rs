//! Kafka's wire format: from frames to messages and back. Pure functions over [`bytes::Bytes`].
//!
//! A handler, from the frame to the bytes of its answer:
//!
//! ```
//! use flumen_actors::gateway::{
//!     codec::{Output, RequestFrame},
//!     messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse},
//! };
//!
//! fn find(frame: bytes::Bytes, output: &mut Output) -> Result<(), Box<dyn std::error::Error>> {
//!     let frame = RequestFrame::parse(frame)?; // its header says which API is asked, in which version
//!     let request: FindCoordinatorRequest = frame.decode()?;
//!     let response = FindCoordinatorResponse {
//!         node_id: if request.key == "readers" { 1 } else { 2 },
//!         host: "localhost".into(),
//!         port: 9092,
//!         ..Default::default()
//!     };
//!     Ok(frame.header.respond(&response, output)?)
//! }
//! # let frame = b"\0\x0a\0\0\0\0\0\x07\xff\xff\0\x07readers";
//! # let mut output = Output::new();
//! # find(bytes::Bytes::from_static(frame), &mut output).unwrap();
//! # let answer = b"\0\0\0\x19\0\0\0\x07\0\0\0\0\0\x01\0\x09localhost\0\0\x23\x84";
//! # assert_eq!(&output.take_bytes()[..], answer);
//! ```
//!
//! A client builds a [`RequestHeader`], writes with [`RequestHeader::request`], and reads with
//! [`RequestHeader::response`].
//!
//! # Why not a code generator
//! A message stands in `messages/` as it is read by a person: its fields in order, their versions
//! behind them ([`message`] has the notation). Straight code is made of it by `macro_rules`, which the
//! compiler expands in milliseconds; there is no build step, and no schema that somebody else owns.

#[macro_use]
pub mod message;
pub mod decode;
pub mod encode;
pub mod error;
pub mod header;
#[cfg(any(test, feature = "sim"))]
pub mod sample;
pub mod wire;

pub use self::{
    decode::Decoder,
    encode::{Encoder, Output},
    error::{DecodeError, DecodeReason, EncodeError, EncodeReason, HeaderError},
    header::{RequestFrame, RequestHeader, unsupported_api_versions},
    message::{Message, Request},
    wire::{Nullable, Records, Wire},
};
