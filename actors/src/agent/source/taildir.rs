//! `taildir`: follows files that grow and rotate.

pub mod files;
mod followed;
pub mod lines;
pub mod saved;
pub mod scan;
pub mod state;
pub mod turn;
