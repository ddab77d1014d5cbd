//! What stays of each batch, as Kafka's `Cleaner` has it.
//!
//! | batch or record | stays |
//! |---|---|
//! | control batch | always: while a marker is there its transaction is decided in any replay |
//! | batch whose records cannot be read, or expand to more than 64 MiB | as it is; its keys are unknown |
//! | record of an aborted transaction | no |
//! | record without a key | no: there is nothing that it is the last of |
//! | record below a later one of its key | no |
//! | tombstone | until the horizon that its batch was given when it was compacted first |
//! | anything else | yes |
//!
//! A batch that is left without records goes, unless it is its producer's last, whose sequence must
//! not be forgotten, or the last of its segment, so that segments follow each other without a gap:
//! then it stays, empty.
//!
//! What stays of a compressed batch is compressed anew, with its codec. Since that may take long, and so
//! may to expand it, a filter can be sent aside with a batch: [`Sift`].
//!
//! A tombstone behind a batch that cannot be read stays for good: an older value of its key may
//! stand in there, and would come back to life.

use bytes::Bytes;

use super::{Decided, keys::Keys};
use crate::{
    batch::{self, BatchHeader, Compression, EXPANDED_BYTES_MAX, Record},
    ids::Offset,
};

/// What was left out, and why not more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Records that were read.
    pub(crate) records: u64,
    /// Records that stay.
    pub(crate) kept: u64,
    /// Records without a key, left out.
    pub(crate) keyless: u64,
    /// Batches left as they are because their records cannot be read.
    pub(crate) opaque: u64,
}

/// What becomes of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It stays as it is.
    Whole,
    /// This stays of it.
    Part(Bytes),
    /// Nothing does.
    Nothing,
}

/// Decides over batches in the order of offsets, from the log's first on.
#[derive(Debug)]
pub(crate) struct Filter {
    pub(crate) keys: Keys,
    /// Keys were noted up to here: what lies behind stays.
    pub(crate) noted_to: Offset,
    pub(crate) decided: Decided,
    pub(crate) now_ms: i64,
    pub(crate) tombstone_age_ms: i64,
    pub(crate) counts: Counts,
    has_met_opaque: bool,
}

impl Filter {
    pub(crate) fn new(keys: Keys, decided: Decided, now_ms: i64, tombstone_age_ms: i64) -> Self {
        Self {
            keys,
            noted_to: Offset::ZERO,
            decided,
            now_ms,
            tombstone_age_ms,
            counts: Counts::default(),
            has_met_opaque: false,
        }
    }

    /// Before a first or another pass: keys are to be noted.
    pub(crate) fn begin(&mut self) {
        self.keys.clear();
        self.counts = Counts::default();
        self.has_met_opaque = false;
    }

    /// Whether the batch must be expanded to tell what becomes of it.
    pub(crate) fn must_expand(header: &BatchHeader) -> bool {
        let attributes = header.attributes;
        attributes.compression() != Compression::None && !attributes.is_control()
    }

    /// Takes the keys of a batch in.
    pub(crate) fn note(&mut self, header: &BatchHeader, batch: &Bytes) {
        if header.attributes.is_control() || self.decided.is_aborted(header) {
            return;
        }
        let Ok(all) = read(header, batch) else { return };
        for record in &all {
            if let Some(key) = &record.key {
                self.keys.note(key, record.offset);
            }
        }
    }

    /// What stays of a batch; `is_last` where it is the last of what becomes one segment.
    pub(crate) fn take(&mut self, header: &BatchHeader, batch: &Bytes, is_last: bool) -> Kept {
        if header.base_offset >= self.noted_to || header.attributes.is_control() {
            return Kept::Whole;
        }
        let Ok(all) = read(header, batch) else {
            self.has_met_opaque = true;
            self.counts.opaque += 1;
            return Kept::Whole;
        };
        let count = all.len();
        let is_aborted = self.decided.is_aborted(header);
        let kept: Vec<Record> =
            all.into_iter().filter(|record| !is_aborted && self.stays(header, record)).collect();
        self.counts.records += count as u64;
        self.counts.kept += kept.len() as u64;
        if kept.is_empty() {
            let is_wanted = is_last || self.decided.is_last_of_writer(header);
            return match (is_wanted, count) {
                (false, _) => Kept::Nothing,
                (true, 0) => Kept::Whole,
                (true, _) => Kept::Part(batch::emptied(header)),
            };
        }
        let has_tombstone = kept.iter().any(|record| record.value.is_none());
        let horizon = (has_tombstone && !header.attributes.has_delete_horizon())
            .then(|| self.now_ms.saturating_add(self.tombstone_age_ms));
        if kept.len() == count && horizon.is_none() {
            return Kept::Whole;
        }
        Kept::Part(batch::retain(header, &kept, horizon))
    }

    fn stays(&mut self, header: &BatchHeader, record: &Record) -> bool {
        let Some(key) = &record.key else {
            self.counts.keyless += 1;
            return false;
        };
        if self.keys.supersedes(key, record.offset) {
            return false;
        }
        let is_over = header.attributes.has_delete_horizon()
            && self.now_ms >= header.base_timestamp
            && !self.has_met_opaque;
        record.value.is_some() || !is_over
    }
}

fn read(header: &BatchHeader, batch: &Bytes) -> Result<Vec<Record>, batch::BatchError> {
    batch::expand(batch, header, EXPANDED_BYTES_MAX)?.collect()
}

/// A filter and the batch that it is to look at, on their way to where there is time for it.
#[derive(Debug)]
pub(crate) struct Sift {
    pub(crate) filter: Filter,
    pub(crate) header: BatchHeader,
    pub(crate) batch: Bytes,
    /// Whether its keys are noted, or what stays of it is told; whether it is its segment's last.
    pub(crate) task: Task,
}

/// What is to be done with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Its keys are noted.
    Note,
    /// What stays of it is told.
    Take { is_last: bool },
}

impl Sift {
    /// Does it; what stays, where that was asked.
    pub(crate) fn run(mut self) -> (Sift, Option<Kept>) {
        let kept = match self.task {
            Task::Note => {
                self.filter.note(&self.header, &self.batch);
                None
            }
            Task::Take { is_last } => Some(self.filter.take(&self.header, &self.batch, is_last)),
        };
        (self, kept)
    }
}
