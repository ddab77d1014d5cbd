//! What holds at every moment, one file each.
//!
//! | module | says | checked |
//! |---|---|---|
//! | `era_1` | no superseded incarnation writes | after every step of a partition or log |
//! | `part_1` | the marks of a partition stand in order; nothing is readable before it is durable | after every step of a partition |
//! | `part_2` | the high watermark never goes back | after every step of a partition |
//! | `log_2`, `log` | what was durable once is there | after every step of a partition; at each opening and read of a log |
//! | `tsk_2` | the head of a channel passes only what the topic has durably | after every step of a partition |
//! | `coord_1` | acknowledged changes of the catalogue are there | at each start, and after each change |
//! | `cons_1`, `grp_2`, `grp_7` | a member reads on from what was committed, in order, below the high watermark | at each delivery and commit |
//! | `grp_1`, `grp_7` | no partition has two owners; commits never go back | in the last lives |
//! | `tail_1` | each line of the files stands in the topic once, in order | in the last lives |
//! | `log::compacted` | compaction takes only what it may | at each read of a log; what is missing, when all is read |
//!
//! Those of the last lives are about what a log holds: the assignments and commits of a group from the
//! first record on, and every line of the topic. To read whole logs after every step would take the
//! square of a run's length, and nothing is lost by waiting: the log keeps what happened, in its order.

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
