//! Reading the log at start: all of it, up to its end, and committed to its end.

use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;
use flumen_runtime::{
    batch::{self, EXPANDED_BYTES_MAX},
    ids::Offset,
};

use super::{GroupCoordinator, Phase, records, state::Shard};
use crate::broker::{
    names::Isolation,
    partition::messages::{AbortedTransaction, Fetch, FetchError, Fetched},
};

const RETRY: Duration = Duration::from_millis(50);
const WAIT: Duration = Duration::from_secs(1);

impl GroupCoordinator {
    /// Forgets everything, and reads the log from its start.
    pub(super) fn load(&mut self, ctx: &mut Context<Self>) {
        self.phase = Phase::Loading;
        self.loads += 1;
        // Names given before must not be given again to others.
        let rng = self.rng.split(&self.loads.to_string());
        self.shard = Shard::new(self.options.borrow_and_update().clone(), rng);
        self.fetch_from(Offset::ZERO, Duration::ZERO, ctx);
    }

    fn fetch_from(&mut self, offset: Offset, wait: Duration, ctx: &mut Context<Self>) {
        // What a transaction committed with its records counts once it is decided, and if it held.
        let fetch = Fetch { isolation: Isolation::Committed, ..Fetch::from(offset).wait(wait) };
        let fetched = self.log.fetch.send(fetch).into_actor(self);
        ctx.spawn(fetched.map(move |fetched, act, ctx| act.on_fetched(offset, fetched, ctx)));
    }

    fn on_fetched(
        &mut self,
        from: Offset,
        fetched: Result<Result<Fetched, FetchError>, MailboxError>,
        ctx: &mut Context<Self>,
    ) {
        match fetched {
            Ok(Ok(fetched)) => {
                let aborted = &fetched.aborted;
                let replay = |next, bytes| self.replay(next, bytes, aborted);
                let next = fetched.batches.iter().fold(from, replay);
                if next >= fetched.marks.log_end {
                    return self.serve(next, ctx);
                }
                // What is written but not committed yet is worth waiting for: it may be kept.
                let wait = if next >= fetched.marks.high_watermark { WAIT } else { Duration::ZERO };
                self.fetch_from(next, wait, ctx);
            }
            Ok(Err(FetchError::OutOfRange { log_start, .. })) if from < log_start => {
                self.fetch_from(log_start, Duration::ZERO, ctx);
            }
            Ok(Err(why)) => {
                tracing::warn!(%why, "the records of groups cannot be read; trying again");
                ctx.run_later(RETRY, |act, ctx| act.load(ctx));
            }
            Err(_) => {
                ctx.run_later(RETRY, |act, ctx| act.load(ctx));
            }
        }
    }

    /// Replays the batches in `bytes` from offset `next` on; the offset after them.
    fn replay(
        &mut self,
        mut next: Offset,
        bytes: &Bytes,
        aborted: &[AbortedTransaction],
    ) -> Offset {
        for batch in batch::split(bytes) {
            let Ok((header, batch)) = batch else { break };
            if header.next_offset() <= next {
                continue;
            }
            let is_void = header.attributes.is_transactional()
                && aborted.iter().any(|transaction| transaction.holds(&header));
            if !header.attributes.is_control() && !is_void {
                self.replay_batch(next, &bytes.slice_ref(batch), &header);
            }
            next = header.next_offset();
        }
        next
    }

    fn replay_batch(&mut self, from: Offset, batch: &Bytes, header: &batch::BatchHeader) {
        let records = match batch::expand(batch, header, EXPANDED_BYTES_MAX) {
            Ok(records) => records,
            Err(why) => return tracing::warn!(%why, "a batch of group records is passed over"),
        };
        for record in records.flatten().filter(|record| record.offset >= from) {
            let Some(key) = &record.key else { continue };
            match records::decode(key, record.value.as_deref()) {
                Ok(Some(fact)) => self.shard.replay(fact),
                Ok(None) => {}
                Err(why) => {
                    tracing::warn!(offset = %record.offset, %why, "a group's record is passed over");
                }
            }
        }
    }

    fn serve(&mut self, log_end: Offset, ctx: &mut Context<Self>) {
        self.log_end = log_end;
        self.phase = Phase::Serving { is_appending: false };
        tracing::debug!(%log_end, groups = self.shard.groups().count(), "groups are loaded");
        let effects = self.shard.start(self.now());
        self.carry_out(effects, ctx);
    }
}
