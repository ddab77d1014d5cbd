//! `file_roll`: delivers events into files, each event in one file, once.
//!
//! Flume's sink of this name, but that a file appears whole or not at all: see [`parts`]. Events are
//! committed when their part is; until then the channel holds them, so a part must fit into the
//! channel with room to spare, or the channel fills up and waits for the part's time to pass.
//!
//! Parts are told apart by the offsets of one channel. A durable channel keeps a mark that this sink
//! has begun, from before its first part: where parts are found without that mark they are another
//! channel's, and the sink says so rather than take its own events for delivered.

pub mod parts;

use std::path::PathBuf;

use bytes::Bytes;
use flumen_runtime::{ids::Offset, placement::Local};

use self::parts::{Parts, PartsOptions};
use crate::agent::{
    channel::{SinkAttached, TakenEvent},
    sink::{DeliverError, Delivered, Delivery},
};

/// What a durable channel keeps of a sink that has begun.
const BEGUN: &[u8] = b"file_roll 1";

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
        let (mut parts, next) = Parts::open(local, self.options.clone()).await.map_err(failed)?;
        if !attached.is_durable {
            // Offsets of a channel in memory say nothing of what an earlier one delivered.
            parts.begin_anew();
            (self.next, self.parts) = (attached.head, Some(parts));
            return Ok(None);
        }
        let is_new = attached.sink_state.is_none();
        if let Some(next) = next.filter(|_| is_new && attached.head == Offset::ZERO) {
            let (dir, prefix) = (self.options.dir.display(), &self.options.prefix);
            return Err(DeliverError(format!(
                "`{dir}` holds parts `{prefix}-…` of another channel, up to offset {next}: move them \
                 away, or give the sink another directory or prefix"
            )));
        }
        self.next = next.unwrap_or(Offset::ZERO).max(attached.head);
        self.parts = Some(parts);
        Ok(is_new.then(|| Bytes::from_static(BEGUN)))
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

#[cfg(test)]
mod tests {
    use std::{future::Future, path::Path, rc::Rc, sync::Arc};

    use flumen_runtime::{
        clock::ManualClock,
        disk::sim::{Faults, SimDisks},
        ids::ArbiterId,
        placement::{LocalPlacement, Placement, Services},
        rng::Rng,
    };

    use super::*;
    use crate::agent::{channel::Session, event::Event};

    /// Runs `test` on an arbiter of a process with a simulated disk.
    fn on_arbiter<F: Future<Output = ()> + 'static>(
        test: impl FnOnce(Rc<Local>) -> F + Send + 'static,
    ) {
        let disks = SimDisks::new(&Rng::seeded(1), Faults::none());
        disks.install(Path::new("/out/.keep"), b"");
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        tokio::task::LocalSet::new().block_on(&runtime.unwrap(), async {
            let clock = Arc::new(ManualClock::at(0));
            let placement =
                LocalPlacement::new(1, Services::new(clock, Rng::seeded(1), Arc::new(disks)));
            let (done, ended) = tokio::sync::oneshot::channel();
            let job = Box::new(move |local: &Rc<Local>| {
                let running = test(local.clone());
                drop(tokio::task::spawn_local(async move {
                    running.await;
                    done.send(()).ok()
                }));
            });
            placement.run_on(ArbiterId(0), job).expect("it is there");
            ended.await.expect("it ends");
        });
    }

    fn attached(head: u64, sink_state: Option<Bytes>, is_durable: bool) -> SinkAttached {
        SinkAttached { session: Session(1), head: Offset(head), sink_state, is_durable }
    }

    async fn deliver(sink: &mut FileRoll, offsets: std::ops::Range<u64>) {
        let event = |offset| TakenEvent {
            offset: Offset(offset),
            put_ms: 0,
            event: Event::new(offset.to_string()),
        };
        sink.deliver(offsets.map(event).collect()).await.unwrap();
        assert_eq!(sink.finish().await, Ok(Delivered::All(None)));
    }

    #[test]
    fn parts_of_another_channel_are_not_taken_for_delivered_and_ones_own_are() {
        on_arbiter(async |local| {
            let mut sink = FileRoll::new("/out");
            let mark = sink.resume(&attached(0, None, true), &local).await.unwrap();
            assert!(mark.is_some(), "kept before the first part");
            deliver(&mut sink, 0..5).await;
            // The head was not written yet when the process ended.
            let mut again = FileRoll::new("/out");
            again.resume(&attached(0, mark, true), &local).await.unwrap();
            deliver(&mut again, 0..7).await;
            assert_eq!(again.counts(), [("parts", 1), ("skipped", 5)]);

            let mut other = FileRoll::new("/out");
            let refused = other.resume(&attached(0, None, true), &local).await.unwrap_err();
            assert!(refused.0.contains("another channel"), "{refused}");
        });
    }

    #[test]
    fn a_channel_in_memory_delivers_whatever_is_there_even_after_the_clock_was_set_back() {
        on_arbiter(async |local| {
            let mut sink = FileRoll::new("/out");
            sink.resume(&attached(1_000, None, false), &local).await.unwrap();
            deliver(&mut sink, 1_000..1_003).await;
            let mut next = FileRoll::new("/out");
            next.resume(&attached(500, None, false), &local).await.unwrap();
            deliver(&mut next, 500..502).await;
            assert_eq!(next.counts(), [("parts", 1), ("skipped", 0)]);
        });
    }
}
