//! Flumen.

pub mod answer;
pub mod broker;
