//! Flumen.

pub mod agent;
pub mod answer;
pub mod broker;
pub mod gateway;
