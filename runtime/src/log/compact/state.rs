//! The core of a compaction: which bytes are read next, what is written of them, when segments are
//! swapped. It holds one chunk, the keys, and the indexes of one segment.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    super::{
        config::Compaction,
        index::IndexTail,
        recovery::{self, BATCH_BYTES_LIMIT},
        segment::{Indexed, Segment},
    },
    Decided,
    choice::next_group,
    filter::{Counts, Filter, Kept, Sift, Task},
    io::{Copy, Job},
    keys::Keys,
};
use crate::{
    batch::{BatchError, BatchHeader},
    disk::File,
    ids::Offset,
};

/// Bytes that are read at once, which is what one turn costs.
const CHUNK_BYTES: usize = 256 << 10;

/// What is known of the log when the next step is chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around<'a> {
    pub(crate) closed: &'a VecDeque<Segment>,
    pub(crate) segment_bytes: u64,
    pub(crate) index_interval_bytes: u64,
}

/// A segment that is read.
#[derive(Debug)]
struct Input {
    base: Offset,
    end: Offset,
    size: u64,
    file: Option<File>,
}

/// The segment that is made.
#[derive(Debug)]
struct Output {
    file: Option<File>,
    segment: Segment,
    tail: IndexTail,
    pending: Vec<Bytes>,
    written: u64,
    has_changed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Keys are noted.
    Noting,
    /// What stays is copied.
    Copying,
    /// The copy is made complete.
    Preparing,
    /// It takes the place of what was read.
    Replacing,
    /// How far it got is written down.
    Marking,
    /// The copy is of no use.
    Discarding,
    /// There is nothing more to do.
    Finished,
}

/// The bytes of a segment are not those that were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) segment: Offset,
    pub(crate) position: u64,
    pub(crate) reason: BatchError,
}

/// What a whole compaction came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) bytes_before: u64,
    pub(crate) bytes_after: u64,
    pub(crate) counts: Counts,
}

/// One compaction under way.
#[derive(Debug)]
pub(crate) struct Cleaner {
    /// Away while it looks at a compressed batch, and nothing else is done.
    filter: Option<Filter>,
    phase: Phase,
    /// Keys are noted from here on; what lies below needs no second look at its keys.
    from: Offset,
    /// Segments below are compacted.
    end: Offset,
    /// Segments that end above are still to be read in this phase.
    cursor: Offset,
    inputs: Vec<Input>,
    /// Which of them is read, and where; its batches follow on `expected`.
    at: usize,
    position: u64,
    expected: Offset,
    want: usize,
    /// What was read and not yet looked at.
    chunk: Bytes,
    /// A batch before that, which must be expanded.
    compressed: Option<(BatchHeader, Bytes)>,
    output: Option<Output>,
    is_abandoned: bool,
    /// Names may be half changed: that is brought to its end.
    is_decided: bool,
    summary: Summary,
}

impl Cleaner {
    pub(crate) fn new(
        decided: Decided,
        how: &Compaction,
        now_ms: i64,
        (from, end): (Offset, Offset),
    ) -> Self {
        let tombstone_age_ms = i64::try_from(how.tombstone_age_ms).unwrap_or(i64::MAX);
        let filter = Filter::new(Keys::new(how.keys_bytes_max), decided, now_ms, tombstone_age_ms);
        Self {
            filter: Some(filter),
            phase: Phase::Noting,
            from,
            end,
            cursor: from,
            inputs: Vec::new(),
            at: 0,
            position: 0,
            expected: Offset::ZERO,
            want: CHUNK_BYTES,
            chunk: Bytes::new(),
            compressed: None,
            output: None,
            is_abandoned: false,
            is_decided: false,
            summary: Summary::default(),
        }
    }

    /// The next piece of work; `None` where it is finished.
    pub(crate) fn next(&mut self, around: Around<'_>) -> Option<Job> {
        loop {
            match self.phase {
                Phase::Finished => return None,
                Phase::Marking => return Some(Job::Mark { at: self.filter().noted_to }),
                Phase::Preparing => return Some(self.prepare()),
                Phase::Replacing => {
                    self.is_decided = true;
                    let base = self.inputs.first().map_or(Offset::ZERO, |input| input.base);
                    let others = self.inputs.iter().skip(1).map(|input| input.base).collect();
                    return Some(Job::Replace { base, others });
                }
                Phase::Discarding => match self.output.as_ref() {
                    Some(output) => return Some(Job::Discard { base: output.segment.base }),
                    None => self.discarded(),
                },
                Phase::Noting | Phase::Copying => {
                    let job = self.write().or_else(|| self.sift()).or_else(|| self.read());
                    if job.is_some() {
                        return job;
                    }
                    match self.phase {
                        Phase::Noting => self.note_next(around),
                        _ => self.copy_next(around),
                    }
                }
            }
        }
    }

    fn filter(&mut self) -> &mut Filter {
        self.filter.as_mut().expect("it is back before anything else is done")
    }

    /// Looks at the compressed batch that was met.
    fn sift(&mut self) -> Option<Job> {
        let (header, batch) = self.compressed.take()?;
        let task = match self.phase {
            Phase::Noting => Task::Note,
            _ => Task::Take { is_last: self.is_last(&header) },
        };
        let filter = self.filter.take().expect("it is back before anything else is done");
        Some(Job::Sift(Box::new(Sift { filter, header, batch, task })))
    }

    /// Whether a batch is the last of what becomes one segment.
    fn is_last(&self, header: &BatchHeader) -> bool {
        self.inputs.last().is_some_and(|input| input.end == header.next_offset())
    }

    fn write(&mut self) -> Option<Job> {
        let output = self.output.as_mut().filter(|output| !output.pending.is_empty())?;
        let bufs = output.pending.clone();
        let (base, position) = (output.segment.base, output.written);
        Some(Job::Write { file: output.file.clone(), base, position, bufs })
    }

    fn read(&mut self) -> Option<Job> {
        // One without a byte is read too: it is damaged.
        let is_read = |input: &Input| input.file.is_some() && self.position >= input.size;
        if self.inputs.get(self.at).is_some_and(is_read) {
            self.at += 1;
            self.open_input();
        }
        let input = self.inputs.get(self.at)?;
        let len = (self.want as u64).min(input.size - self.position) as usize;
        let (file, base, position) = (input.file.clone(), input.base, self.position);
        Some(Job::Read { file, base, position, len })
    }

    fn open_input(&mut self) {
        (self.position, self.want) = (0, CHUNK_BYTES);
        (self.chunk, self.compressed) = (Bytes::new(), None);
        self.expected = self.inputs.get(self.at).map_or(Offset::ZERO, |input| input.base);
    }

    fn set_inputs(&mut self, inputs: Vec<Input>) {
        (self.inputs, self.at) = (inputs, 0);
        self.open_input();
    }

    fn note_next(&mut self, around: Around<'_>) {
        self.cursor = self.inputs.last().map_or(self.cursor, |input| input.end);
        let next = around.closed.iter().find(|s| s.end > self.cursor && s.base < self.end);
        match next {
            Some(segment) => self.set_inputs(vec![Input::of(segment)]),
            None => self.begin_copying(self.end),
        }
    }

    fn begin_copying(&mut self, noted_to: Offset) {
        self.filter().noted_to = noted_to;
        self.phase = Phase::Copying;
        self.cursor = Offset::ZERO;
        self.set_inputs(Vec::new());
    }

    /// A group was read and written to its end, or there is none yet.
    fn copy_next(&mut self, around: Around<'_>) {
        if let Some(output) = &self.output {
            let is_one = self.inputs.len() == 1;
            self.phase = match output.has_changed || !is_one {
                true => Phase::Preparing,
                false => Phase::Discarding,
            };
            return;
        }
        let noted_to = self.filter().noted_to;
        let group = next_group(around.closed, self.cursor, noted_to, around.segment_bytes);
        let Some((base, _)) = group.first().copied() else {
            self.phase = Phase::Marking;
            return;
        };
        let is_in = |segment: &&Segment| group.iter().any(|(base, _)| *base == segment.base);
        let begun_ms = around.closed.iter().filter(is_in).filter_map(|s| s.begun_ms).min();
        self.set_inputs(around.closed.iter().filter(is_in).map(Input::of).collect());
        self.output = Some(Output {
            file: None,
            segment: Segment { begun_ms, ..Segment::new(base) },
            tail: IndexTail::default(),
            pending: Vec::new(),
            written: 0,
            has_changed: false,
        });
    }

    fn prepare(&mut self) -> Job {
        let output = self.output.as_mut().expect("a copy is swapped in");
        if let Some(newest) = output.segment.newest {
            output.tail.note_time(output.segment.base, newest);
        }
        let (offsets, times, added) = output.tail.ready(u32::MAX);
        output.segment.indexed = added;
        Job::Prepare(Box::new(Copy {
            base: output.segment.base,
            file: output.file.clone().expect("the last batch of a segment is always copied"),
            offsets,
            times,
        }))
    }

    /// The copy is complete.
    pub(crate) fn on_prepared(&mut self) {
        self.phase = Phase::Replacing;
    }

    /// Takes in what was read.
    ///
    /// # Errors
    /// [`Damage`]: nothing was changed by it.
    pub(crate) fn on_read(
        &mut self,
        file: File,
        chunk: &Bytes,
        around: Around<'_>,
    ) -> Result<(), Damage> {
        let Some(input) = self.inputs.get_mut(self.at) else { return Ok(()) };
        input.file = Some(file);
        let room = input.size - self.position;
        let asked = room.min(self.want as u64).max(1) as usize;
        self.want = CHUNK_BYTES;
        if chunk.len() < asked {
            return Err(self.damage(BatchError::Short { bytes: chunk.len(), needed: asked }));
        }
        self.chunk = chunk.clone();
        self.go_on(around)
    }

    /// Takes in what came of a compressed batch.
    ///
    /// # Errors
    /// As [`Cleaner::on_read`].
    pub(crate) fn on_sifted(
        &mut self,
        sift: Sift,
        kept: Option<Kept>,
        around: Around<'_>,
    ) -> Result<(), Damage> {
        let Sift { filter, header, batch, .. } = sift;
        self.filter = Some(filter);
        let is_over = match (self.phase, kept) {
            (Phase::Noting, _) => self.is_noted(&header),
            (Phase::Copying, Some(kept)) => self.keep(&header, &batch, kept, around),
            // It was abandoned meanwhile.
            _ => true,
        };
        if is_over { Ok(()) } else { self.go_on(around) }
    }

    fn damage(&self, reason: BatchError) -> Damage {
        let segment = self.inputs.get(self.at).map_or(Offset::ZERO, |input| input.base);
        Damage { segment, position: self.position, reason }
    }

    /// Takes the batches of what was read, up to one that must be expanded.
    fn go_on(&mut self, around: Around<'_>) -> Result<(), Damage> {
        let Some(&Input { size, end, .. }) = self.inputs.get(self.at) else { return Ok(()) };
        while !self.chunk.is_empty() {
            match recovery::whole(&self.chunk, self.expected, true) {
                Ok(header) => {
                    let batch = self.chunk.split_to(header.batch_bytes as usize);
                    self.position += batch.len() as u64;
                    self.expected = header.next_offset();
                    if self.is_looked_at(&header) && Filter::must_expand(&header) {
                        self.compressed = Some((header, batch));
                        return Ok(());
                    }
                    if self.take(&header, &batch, around) {
                        return Ok(());
                    }
                }
                Err(BatchError::Short { needed, .. })
                    if (needed as u64) <= (size - self.position).min(BATCH_BYTES_LIMIT)
                        && needed > self.chunk.len() =>
                {
                    self.want = CHUNK_BYTES.max(needed);
                    self.chunk = Bytes::new();
                }
                Err(reason) => return Err(self.damage(reason)),
            }
        }
        if self.position == size && self.expected != end {
            let value = self.expected.as_i64();
            return Err(self.damage(BatchError::Field { field: "end of the segment", value }));
        }
        Ok(())
    }

    /// Whether the records of a batch matter in this phase.
    fn is_looked_at(&mut self, header: &BatchHeader) -> bool {
        match self.phase {
            Phase::Noting => header.next_offset() > self.from,
            _ => header.base_offset < self.filter().noted_to,
        }
    }

    /// Takes a batch; tells whether the phase ended with it.
    fn take(&mut self, header: &BatchHeader, batch: &Bytes, around: Around<'_>) -> bool {
        if self.phase == Phase::Noting {
            if self.is_looked_at(header) {
                self.filter().note(header, batch);
            }
            return self.is_noted(header);
        }
        let is_last = self.is_last(header);
        let kept = self.filter().take(header, batch, is_last);
        self.keep(header, batch, kept, around)
    }

    /// The keys of a batch were noted; tells whether there is room for no more, and the phase ended.
    fn is_noted(&mut self, header: &BatchHeader) -> bool {
        let is_full = self.filter().keys.is_full();
        if is_full {
            self.begin_copying(header.next_offset().min(self.end));
        }
        is_full
    }

    /// Copies what stays of a batch; tells whether the phase ended with it.
    fn keep(
        &mut self,
        header: &BatchHeader,
        batch: &Bytes,
        kept: Kept,
        around: Around<'_>,
    ) -> bool {
        let Some(output) = &mut self.output else { return true };
        match kept {
            Kept::Nothing => output.has_changed = true,
            Kept::Whole => output.push(header, batch.clone(), around.index_interval_bytes),
            Kept::Part(part) => {
                output.has_changed = true;
                let header = BatchHeader::parse(&part).expect("it was just made");
                output.push(&header, part, around.index_interval_bytes);
            }
        }
        false
    }

    pub(crate) fn on_written(&mut self, file: File) {
        if let Some(output) = &mut self.output {
            output.written = output.segment.size;
            output.pending.clear();
            output.file = Some(file);
        }
    }

    /// The copy stands in the place of the segments with these bases: it, and they.
    pub(crate) fn on_swapped(&mut self) -> (Segment, Vec<Offset>) {
        let output = self.output.take().expect("a copy was swapped in");
        let replaced = self.inputs.iter().map(|input| input.base).collect();
        self.summary.bytes_before += self.inputs.iter().map(|input| input.size).sum::<u64>();
        self.summary.bytes_after += output.segment.size;
        self.cursor = output.segment.end;
        (self.phase, self.is_decided) = (Phase::Copying, false);
        self.set_inputs(Vec::new());
        (output.segment, replaced)
    }

    /// The copy is gone.
    pub(crate) fn discarded(&mut self) {
        let same: u64 = self.inputs.iter().map(|input| input.size).sum();
        self.summary.bytes_before += same;
        self.summary.bytes_after += same;
        self.cursor = self.inputs.last().map_or(self.cursor, |input| input.end);
        self.output = None;
        self.set_inputs(Vec::new());
        self.phase = if self.is_abandoned { Phase::Finished } else { Phase::Copying };
    }

    /// How far it got is written down; another pass goes on where the keys had no more room.
    /// Returns how far.
    pub(crate) fn on_marked(&mut self) -> Offset {
        let noted_to = self.filter().noted_to;
        self.summary.counts = self.filter().counts;
        self.phase = Phase::Finished;
        if noted_to < self.end {
            (self.from, self.cursor, self.phase) = (noted_to, noted_to, Phase::Noting);
            self.filter().begin();
            self.set_inputs(Vec::new());
        }
        noted_to
    }

    /// Stops as soon as its copy is gone. What was swapped in stays.
    pub(crate) fn abandon(&mut self) {
        if !self.is_decided {
            (self.phase, self.is_abandoned) = (Phase::Discarding, true);
        }
    }

    /// Stops where one of the segments with these bases is being read.
    pub(crate) fn abandon_of(&mut self, removed: &[Offset]) {
        if self.inputs.iter().any(|input| removed.contains(&input.base)) {
            self.abandon();
        }
    }

    /// Whether the names of its inputs may be half changed.
    pub(crate) fn is_decided(&self) -> bool {
        self.is_decided
    }

    /// Whether there is a file of its own on the disk.
    pub(crate) fn has_copy(&self) -> bool {
        self.output.is_some()
    }

    /// What it came to so far.
    pub(crate) fn summary(&self) -> Summary {
        self.summary
    }

    /// The file of a segment that is read, which may lose its name.
    pub(crate) fn held(&self, segment: Offset) -> Option<File> {
        self.inputs.iter().find(|input| input.base == segment)?.file.clone()
    }
}

impl Input {
    fn of(segment: &Segment) -> Self {
        Self { base: segment.base, end: segment.end, size: segment.size, file: None }
    }
}

impl Output {
    fn push(&mut self, header: &BatchHeader, batch: Bytes, index_interval_bytes: u64) {
        let segment = &mut self.segment;
        segment.note(header.max_timestamp, header.last_offset());
        let newest = segment.newest.expect("noted");
        let place = (header.last_offset(), segment.size, batch.len() as u64);
        self.tail.note(segment.base, place, newest, index_interval_bytes);
        segment.size += batch.len() as u64;
        segment.end = header.next_offset();
        segment.indexed = Indexed::default();
        self.pending.push(batch);
    }
}
