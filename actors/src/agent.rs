//! Agents: what collects events from where they arise, keeps them safe, and brings them on.
//!
//! ```text
//!   source ─► interceptors ─► selector ─┬─► channel ─► sink
//!                                       └─► channel ─► sink
//! ```
//!
//! Terms and rules are Flume's. A source puts events into channels; a channel holds them until its
//! sink has delivered them and said so; a full channel holds its sources back.

pub mod channel;
pub mod event;
pub mod interceptor;
pub mod selector;
pub mod source;
