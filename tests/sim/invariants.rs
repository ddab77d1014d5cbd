//! What holds at every moment, one file each, checked after every step of a run.

pub(crate) mod cons_1;
pub(crate) mod coord_1;
pub(crate) mod era_1;
pub(crate) mod grp_1;
pub(crate) mod grp_2;
pub(crate) mod grp_7;
pub(crate) mod log_2;
pub(crate) mod part_1;
pub(crate) mod part_2;
pub(crate) mod tail_1;
pub(crate) mod tsk_2;
