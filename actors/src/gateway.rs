//! The gateway: Kafka's wire protocol, so that existing clients connect unchanged.
//!
//! ```text
//!   bytes ── frame ──► codec::RequestFrame ── decode ──► messages::*Request
//!   bytes ◄─────────── codec::Output ◄─────── respond ── messages::*Response
//! ```
//!
//! [`frame`] cuts a stream into frames and says what else it may be; [`codec`] reads and writes
//! messages; [`messages`] describes each; [`api`] lists the APIs with their versions, and
//! [`error_code`] what may go wrong.

pub mod api;
#[macro_use]
pub mod codec;
pub mod error_code;
pub mod frame;
pub mod messages;
