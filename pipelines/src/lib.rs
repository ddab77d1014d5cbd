//! Flumen.

pub mod topology;
pub mod typed;
