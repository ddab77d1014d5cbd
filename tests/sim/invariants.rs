//! What holds at every moment, one file each, checked after every step of a run.

pub(crate) mod era_1;
pub(crate) mod log_2;
pub(crate) mod part_1;
pub(crate) mod part_2;
