//! The log, from its files' bytes to its lives on a disk that forgets.

mod adopted;
mod compaction;
mod compaction_beside;
mod deferred;
mod driver;
mod failures;
mod golden;
mod lost;
mod misplaced;
mod model;
mod newest;
mod points;
mod read_on;
mod stories;
