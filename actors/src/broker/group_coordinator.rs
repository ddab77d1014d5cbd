//! Consumer groups: who is a member, who reads which partition, and how far each has come.

pub mod assignor;
mod classic;
pub mod error;
pub mod ids;
pub mod messages;
mod offsets;
pub mod protocol;
pub mod records;
pub mod state;
pub mod turn;
pub mod wire;
