//! The partition: one log, one actor.

pub mod marks;
pub mod messages;
pub mod parked;
pub mod producers;
pub mod state;
pub mod tail;
#[cfg(test)]
pub(crate) mod testing;
pub mod transactions;
pub mod validate;
pub mod waiting;
