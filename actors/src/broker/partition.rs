//! The partition: one log, one actor.

pub mod marks;
pub mod messages;
pub mod producers;
pub mod tail;
pub mod transactions;
pub mod waiting;
