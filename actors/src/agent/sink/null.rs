//! `null`: takes everything and keeps nothing; for tests and for measuring what comes before.

use bytes::Bytes;
use flumen_runtime::placement::Local;

use crate::agent::{
    channel::{SinkAttached, TakenEvent},
    sink::{DeliverError, Delivered, Delivery},
};

/// Counts what it throws away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Null {
    events: u64,
    bytes: u64,
}

impl Delivery for Null {
    async fn resume(&mut self, _: &SinkAttached, _: &Local) -> Result<Option<Bytes>, DeliverError> {
        Ok(None)
    }

    async fn deliver(&mut self, events: Vec<TakenEvent>) -> Result<Delivered, DeliverError> {
        self.events += events.len() as u64;
        self.bytes += events.iter().map(|taken| taken.event.body.len() as u64).sum::<u64>();
        Ok(Delivered::All(None))
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![("events", self.events), ("bytes", self.bytes)]
    }
}
