//! Looking for the first record that is not older than a given time.
//!
//! Timestamps are the writers' own and need not rise, so the answer is the first in the order of
//! offsets, as Kafka's `ListOffsets` has it. A segment whose largest timestamp is smaller is passed
//! over; in the others the time index says up to where all is older.

use std::rc::Rc;

use bytes::Bytes;

use super::{
    LogPlace,
    compact::Swaps,
    epochs::Epochs,
    index::{TIME_ENTRY, TimeEntry},
    newest,
    read::{self, Extent, Meets, READ_BYTES_MAX, ReadFailure, ReadPlan},
    segment::Kind,
};
use crate::{
    aside::aside,
    batch::{self, BatchHeader, Compression, EXPANDED_BYTES_MAX},
    disk::{DiskError, actor::DiskHandle},
    ids::Offset,
};

/// A look-up by time to be carried out.
#[derive(Debug)]
pub struct LookupPlan {
    pub(super) place: Rc<LogPlace>,
    pub(super) extents: Vec<(Extent, Option<i64>)>,
    /// What is looked for; none: the largest that there is.
    pub(super) timestamp: Option<i64>,
    pub(super) start: Offset,
    pub(super) end: Offset,
    pub(super) has_holes: bool,
    pub(super) epochs: Rc<Epochs>,
    pub(super) swaps: Swaps,
}

impl LookupPlan {
    /// Offset and timestamp of the first record, in the order of offsets, that is not older; `None`
    /// where there is none. In a batch that cannot be decompressed that is its first offset and largest
    /// time. The largest time may be that of a transaction's marker, as in Kafka.
    ///
    /// # Errors
    /// As [`ReadPlan::run`].
    pub async fn run(mut self, disk: DiskHandle) -> Result<Option<(Offset, i64)>, ReadFailure> {
        if let Some(timestamp) = self.timestamp {
            return self.find(&disk, timestamp).await;
        }
        let mut newest = self.find_newest(&disk).await?;
        while let Some(wanted) = newest {
            if let Some(found) = self.find(&disk, wanted).await? {
                return Ok(Some(found));
            }
            // It lies below the start or beyond the end, or compaction has emptied its batch.
            newest = self.find_older(&disk, wanted).await?;
        }
        Ok(None)
    }

    /// The first record that is as new as `wanted`.
    async fn find(
        &self,
        disk: &DiskHandle,
        wanted: i64,
    ) -> Result<Option<(Offset, i64)>, ReadFailure> {
        for (extent, newest) in &self.extents {
            if newest.is_some_and(|newest| newest < wanted) {
                continue;
            }
            let mut extent = extent.clone();
            let begin = match self.begin(disk, &extent, wanted).await {
                // Reading it tells why.
                Err(error) if error.is_not_found() => (0, Meets::Base(extent.base)),
                begun => begun?,
            };
            (extent.from, extent.meets) = begin;
            extent.is_exact = true;
            let mut from = self.start;
            loop {
                let plan = ReadPlan {
                    place: self.place.clone(),
                    extent: extent.clone(),
                    from,
                    end: self.end,
                    bytes_max: READ_BYTES_MAX,
                    is_strict: false,
                    has_holes: self.has_holes,
                    epochs: self.epochs.clone(),
                    swaps: self.swaps.clone(),
                };
                let done = match plan.run(disk.clone()).await {
                    // Since the plan was made.
                    Err(ReadFailure::Removed) if !self.swaps.were_made() => break,
                    read => read?,
                };
                let Some(resume) = done.resume else { break };
                let looks_at = |header: &BatchHeader| {
                    header.max_timestamp >= wanted
                        && (self.timestamp.is_none() || !header.attributes.is_control())
                };
                let found = first_not_older(&done.batches, wanted, self.start, looks_at).await;
                if found.is_some() {
                    return Ok(found);
                }
                from = done.next;
                (extent.from, extent.meets) = (resume.position, Meets::Base(from));
            }
        }
        Ok(None)
    }

    /// The largest timestamp of the segments.
    async fn find_newest(&mut self, disk: &DiskHandle) -> Result<Option<i64>, ReadFailure> {
        for at in 0..self.extents.len() {
            if let (extent, None) = &self.extents[at] {
                let newest = self.newest_of(disk, extent, extent.end, |_| true).await?;
                self.extents[at].1 = newest;
            }
        }
        let newest = self.extents.iter().filter_map(|(_, newest)| *newest).max();
        Ok(newest.filter(|newest| *newest >= 0))
    }

    /// The largest timestamp below `limit` of the batches that can be read and have a record.
    async fn find_older(&self, disk: &DiskHandle, limit: i64) -> Result<Option<i64>, ReadFailure> {
        let counts = |header: &BatchHeader| {
            header.record_count > 0
                && header.max_timestamp < limit
                && header.last_offset() >= self.start
        };
        let mut older = -1;
        for (extent, newest) in self.extents.iter().rev() {
            if newest.is_none_or(|newest| newest > older) {
                let found = self.newest_of(disk, extent, self.end, counts).await?;
                older = older.max(found.unwrap_or(-1));
            }
        }
        Ok(Some(older).filter(|older| *older >= 0))
    }

    /// As [`newest::of`]; −1 where no batch has a time, and `None` where the segment was removed.
    async fn newest_of(
        &self,
        disk: &DiskHandle,
        extent: &Extent,
        end: Offset,
        counts: impl Fn(&BatchHeader) -> bool,
    ) -> Result<Option<i64>, ReadFailure> {
        let found = newest::of(&self.place, disk, extent, end, counts).await;
        // What was looked at may be another segment.
        if self.swaps.were_made() {
            return Err(ReadFailure::Removed);
        }
        match found {
            Err(ReadFailure::Disk(error)) if error.is_not_found() => {
                match read::gone(&self.place, disk, extent, &self.swaps).await {
                    // Since the plan was made.
                    ReadFailure::Removed if !self.swaps.were_made() => Ok(None),
                    failure => Err(failure),
                }
            }
            found => Ok(Some(found?.map_or(-1, |(timestamp, _)| timestamp))),
        }
    }

    /// The position from which the time index says to look for `wanted`, and what stands there.
    async fn begin(
        &self,
        disk: &DiskHandle,
        extent: &Extent,
        wanted: i64,
    ) -> Result<(u64, Meets), DiskError> {
        let first = (0, Meets::Base(extent.base));
        let Ok(wanted) = u64::try_from(wanted) else { return Ok(first) };
        let path = Kind::TimeIndex.path(&self.place.dir, extent.base);
        let parse = |bytes: &[u8]| {
            TimeEntry::parse(bytes).map(|e| (u64::try_from(e.timestamp).unwrap_or(0), e))
        };
        let count = extent.indexed.times;
        let found = read::last_below(disk, path, TIME_ENTRY, count, wanted, parse).await?;
        let Some((_, entry)) = found else { return Ok(first) };
        // As with offsets, the batch must say what the index says of it.
        let named = newest::named(&self.place, disk, extent, entry).await?;
        Ok(named.map_or(first, |(position, header)| (position, Meets::Last(header.last_offset()))))
    }
}

async fn first_not_older(
    batches: &Bytes,
    timestamp: i64,
    start: Offset,
    looks_at: impl Fn(&BatchHeader) -> bool,
) -> Option<(Offset, i64)> {
    let mut at = 0;
    for (header, batch) in batch::split(batches).map_while(Result::ok) {
        let whole = batches.slice(at..at + batch.len());
        at += batch.len();
        if !looks_at(&header) {
            continue;
        }
        let look = move || first_in(&whole, &header, timestamp, start);
        let found = match header.attributes.compression() {
            Compression::None => look(),
            _ => aside(look).await,
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

fn first_in(
    batch: &Bytes,
    header: &BatchHeader,
    timestamp: i64,
    start: Offset,
) -> Option<(Offset, i64)> {
    let Ok(records) = batch::expand(batch, header, EXPANDED_BYTES_MAX) else {
        return Some((header.base_offset.max(start), header.max_timestamp));
    };
    records
        .map_while(Result::ok)
        .find(|record| record.timestamp >= timestamp && record.offset >= start)
        .map(|record| (record.offset, record.timestamp))
}
