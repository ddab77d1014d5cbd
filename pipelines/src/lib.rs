//! Flumen.

pub mod stream;
pub mod topology;
pub mod typed;
