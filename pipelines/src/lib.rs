//! Flumen.

pub mod cli;
pub mod demo;
pub mod node;
pub mod pipeline;
pub mod running;
pub mod stream;
pub mod topology;
pub mod typed;
