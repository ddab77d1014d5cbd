//! Flumen.

pub mod topology;
