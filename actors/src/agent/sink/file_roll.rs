//! `file_roll`: delivers events into files, each event in one file, once.
//!
//! Flume's sink of this name, but that a file appears whole or not at all: see [`parts`]. Events are
//! committed when their part is; until then the channel holds them, so a part must fit into the
//! channel with room to spare, or the channel fills up and waits for the part's time to pass.

pub mod parts;

use std::path::PathBuf;

use bytes::Bytes;
use flumen_runtime::{ids::Offset, placement::Local};

use self::parts::{Parts, PartsOptions};
use crate::agent::{
    channel::{SinkAttached, TakenEvent},
    sink::{DeliverError, Delivered, Delivery},
};

/// The sink.
pub struct FileRoll {
    options: PartsOptions,
    parts: Option<Parts>,
    /// Events below this are in parts already.
    next: Offset,
    skipped: u64,
}

impl FileRoll {
    /// One life of a sink that writes `part-…` files into `dir`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self::with(PartsOptions::new(dir, "part"))
    }

    /// One life of a sink that writes parts as `options` say.
    #[must_use]
    pub fn with(options: PartsOptions) -> Self {
        Self { options, parts: None, next: Offset::ZERO, skipped: 0 }
    }
}

fn failed(error: impl std::fmt::Display) -> DeliverError {
    DeliverError(error.to_string())
}

impl Delivery for FileRoll {
    async fn resume(
        &mut self,
        attached: &SinkAttached,
        local: &Local,
    ) -> Result<Option<Bytes>, DeliverError> {
        // What an earlier attempt had begun is offered again.
        self.parts = None;
        let (parts, next) = Parts::open(local, self.options.clone()).await.map_err(failed)?;
        // Offsets of a channel in memory say nothing of what an earlier one delivered.
        let known = next.filter(|_| attached.is_durable).unwrap_or(Offset::ZERO);
        self.next = known.max(attached.head);
        self.parts = Some(parts);
        Ok(None)
    }

    async fn deliver(&mut self, events: Vec<TakenEvent>) -> Result<Delivered, DeliverError> {
        let parts = self.parts.as_mut().expect("the sink resumed before it delivers");
        let all = events.len();
        let new: Vec<TakenEvent> =
            events.into_iter().filter(|taken| taken.offset >= self.next).collect();
        self.skipped += (all - new.len()) as u64;
        let lines = new.iter().map(|taken| (taken.offset, &taken.event.body));
        parts.write(lines).await.map_err(failed)?;
        if parts.is_due() {
            parts.roll().await.map_err(failed)?;
        }
        // Nothing begun: everything taken is in parts.
        Ok(if parts.is_empty() { Delivered::All(None) } else { Delivered::NotYet })
    }

    async fn finish(&mut self) -> Result<Delivered, DeliverError> {
        let parts = self.parts.as_mut().expect("the sink resumed before it finishes");
        parts.roll().await.map_err(failed)?;
        Ok(Delivered::All(None))
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        let parts = self.parts.as_ref().map_or(0, Parts::rolled);
        vec![("parts", parts), ("skipped", self.skipped)]
    }
}
