//! Consumer groups: who is a member, who reads which partition, and how far each has come.

pub mod ids;
pub mod protocol;
pub mod records;
pub mod wire;
