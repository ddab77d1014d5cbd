//! Sources: what brings events in.

pub mod taildir;
