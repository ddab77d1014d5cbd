//! The journal's core: which group is written when and where, and which segments are synced before
//! a file is used again. See the parent module.
//!
//! ```text
//!   half:  Absent ──► Making ──► Empty ──► Filling ──► Full ──► Empty ──► …
//!                     made                  full       its segments are synced, a few at a time
//!                                                      while the other half fills
//! ```
//!
//! A segment for which there is no room, or whose log's next life has still to write what was put off, is
//! tried again later; while such a one keeps both files from being used again, appends have their segments
//! synced instead.
//!
//! A half whose write, sync or segment's sync failed is *pinned*: its file is left as it is for the
//! next start, and the half begins with a new file. When that fails too, the journal is given up:
//! each log syncs for itself from then on.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    path::PathBuf,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::format::{self, Header, Record, SECTOR, What};
use crate::{
    disk::{DiskError, File},
    ids::LogId,
    rng::Rng,
};

/// How long a group waits for more, when many logs commit: so long that what all syncs cost is small
/// beside the appends, and far below the 5 ms that a thousand such logs are given for an ack.
const GATHER: Duration = Duration::from_millis(2);
/// Many logs commit when the last [`RECENT`] commits came within this …
const CROWDED_WITHIN: Duration = Duration::from_millis(12);
/// … and from this many logs. (One that waits for each of its acks gains nothing from waiting.)
const CROWDED_LOGS: usize = 8;
const RECENT: usize = 16;
/// Bytes that are written without waiting for more.
const GATHER_BYTES_MAX: usize = 256 << 10;
/// Most bytes of one group's entries; a larger entry's segment is synced instead.
const GROUP_BYTES_MAX: usize = 1 << 20;
/// Most segments that are synced at the same time.
const SYNCING_MAX: usize = 4;
/// Appends whose segments are synced instead while a file is being made, which takes as long as its
/// zeros: the first acks of a node do not wait for them, and many logs still share a sync.
const INSTEAD_MAX: u32 = 32;
/// How often the next lives of logs are waited for before a file is set aside: one may not come, where its
/// log cannot be opened.
const LATE_MAX: u32 = 100;
/// Files that may fail before the journal is given up.
const PINNED_MAX: u32 = 3;

/// Where and how large the files are.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) dir: PathBuf,
    /// Beginning of the files' names.
    pub(super) prefix: String,
    pub(super) boot: u64,
    pub(super) half_bytes: u64,
}

/// What the shell is to do. Every one but `Answer` and `SyncInstead` is answered by the `on_…`
/// method of its name.
#[derive(Debug)]
pub(super) enum Effect<R> {
    /// Make a file, zero its `len` bytes, and sync it and its name.
    Make { half: usize, path: PathBuf, len: u64 },
    /// Write and sync `header` at the file's beginning, if there is one; then write `bytes` and sync.
    Write { file: File, header: Option<Bytes>, position: u64, bytes: Bytes },
    /// Sync a segment, so that the half which covers it can be used again.
    SyncSegment { half: usize, number: u32, log: LogId, file: File },
    /// Call `on_wait` after this time.
    Wait(Duration),
    /// Sync a segment and answer with what comes of it.
    SyncInstead { log: LogId, file: File, reply: R },
    /// Answer.
    Answer { replies: Vec<R>, result: Result<(), DiskError> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Absent,
    Making,
    /// Every segment that its file covers is durable: the file may be written from its beginning.
    Empty,
    Filling,
    Full,
}

#[derive(Debug)]
struct Half {
    stage: Stage,
    file: Option<File>,
    /// Number of the file: answers about an earlier one are void.
    number: u32,
    salt: u64,
    /// Groups written in this use.
    groups: u64,
    /// Where the next group goes.
    end: u64,
    /// Appends that did not wait until it was made.
    instead: u32,
    /// Segments that hold what this half covers.
    dirty: BTreeMap<LogId, Vec<File>>,
    /// How many there are, and how many there were when it became full.
    dirty_count: usize,
    dirty_at_full: usize,
    syncing: usize,
    /// Those of them that are tried again after the others.
    held_back: Vec<(LogId, File)>,
    /// Whether the last one that was tried is.
    is_held_up: bool,
    /// How often one was tried whose log's next life had not written it.
    late: u32,
}

/// Whether the same may succeed later, when there is room, or the log's next life has come.
pub(super) fn is_passing(error: &DiskError) -> bool {
    error.is_full() || matches!(error, DiskError::Fenced(_))
}

#[derive(Debug)]
struct Waiting<R> {
    record: Record,
    /// The segment, of an append.
    file: Option<File>,
    reply: R,
}

/// The core.
#[derive(Debug)]
pub(super) struct State<R> {
    layout: Layout,
    rng: Rng,
    halves: [Half; 2],
    active: usize,
    waiting: VecDeque<Waiting<R>>,
    waiting_bytes: usize,
    /// Since when the oldest waits: what came during a slow sync has waited enough.
    waiting_since: Duration,
    writing: Vec<Waiting<R>>,
    timer: bool,
    /// The last commits: when, and of which log.
    recent: VecDeque<(Duration, LogId)>,
    /// The last truncation of each log. It stands at the beginning of every use of a file, for it
    /// must outlive the entries that it voids, and those may stand in another arbiter's files.
    truncated: BTreeMap<LogId, Record>,
    /// Logs of which a segment could not be synced.
    broken: BTreeMap<LogId, DiskError>,
    ready: VecDeque<Effect<R>>,
    files_made: u32,
    pinned: u32,
    /// Why the journal was given up.
    given_up: Option<DiskError>,
}

impl Half {
    fn absent() -> Half {
        Half {
            stage: Stage::Absent,
            file: None,
            number: 0,
            salt: 0,
            groups: 0,
            end: SECTOR as u64,
            instead: 0,
            dirty: BTreeMap::new(),
            dirty_count: 0,
            dirty_at_full: 0,
            syncing: 0,
            held_back: Vec::new(),
            is_held_up: false,
            late: 0,
        }
    }

    fn mark_dirty(&mut self, log: LogId, file: File) {
        let files = self.dirty.entry(log).or_default();
        if files.iter().all(|known| known.path().as_os_str() != file.path().as_os_str()) {
            files.push(file);
            self.dirty_count += 1;
        }
    }

    fn next_dirty(&mut self) -> Option<(LogId, File)> {
        if self.dirty.is_empty() {
            for (log, file) in mem::take(&mut self.held_back) {
                self.dirty.entry(log).or_default().push(file);
            }
        }
        let mut first = self.dirty.first_entry()?;
        let (log, file) = (*first.key(), first.get_mut().pop());
        if first.get().is_empty() {
            first.remove();
        }
        self.dirty_count -= 1;
        Some((log, file.expect("JRN-3: a log without dirty segments is not listed")))
    }

    fn maybe_empty(&mut self) {
        if self.stage == Stage::Full && self.dirty_count == 0 && self.syncing == 0 {
            (self.stage, self.groups, self.end) = (Stage::Empty, 0, SECTOR as u64);
            (self.is_held_up, self.late) = (false, 0);
        }
    }
}

impl<R> State<R> {
    pub(super) fn new(layout: Layout, rng: Rng) -> State<R> {
        State {
            layout,
            rng,
            halves: [Half::absent(), Half::absent()],
            active: 0,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            waiting_since: Duration::ZERO,
            writing: Vec::new(),
            timer: false,
            recent: VecDeque::with_capacity(RECENT),
            truncated: BTreeMap::new(),
            broken: BTreeMap::new(),
            ready: VecDeque::new(),
            files_made: 0,
            pinned: 0,
            given_up: None,
        }
    }

    /// Takes an entry; `file` is the segment of an append.
    pub(super) fn commit(&mut self, now: Duration, record: Record, file: Option<File>, reply: R) {
        if let Some(error) = self.broken.get(&record.log) {
            let result = Err(error.clone());
            self.ready.push_back(Effect::Answer { replies: vec![reply], result });
            return;
        }
        let entry_max = GROUP_BYTES_MAX.min(self.layout.half_bytes as usize / 4);
        if let (Some(file), true) = (&file, record.bytes() > entry_max) {
            let (log, file) = (record.log, file.clone());
            self.ready.push_back(Effect::SyncInstead { log, file, reply });
            return;
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((now, record.log));
        if self.waiting.is_empty() {
            self.waiting_since = now;
        }
        match &record.what {
            What::Append { .. } => {}
            What::TruncatedTo(_) => {
                self.truncated.insert(record.log, record.clone());
            }
            What::Deleted => {
                self.truncated.remove(&record.log);
            }
        }
        self.waiting_bytes += record.bytes();
        self.waiting.push_back(Waiting { record, file, reply });
    }

    /// What is to be done next. Call it until `None` after every other call.
    pub(super) fn next(&mut self, now: Duration) -> Option<Effect<R>> {
        if let Some(effect) = self.ready.pop_front() {
            return Some(effect);
        }
        if let Some(error) = self.given_up.clone() {
            return self.waiting.pop_front().map(|waiting| self.instead(waiting, error));
        }
        self.next_segment_sync()
            .or_else(|| self.next_write(now))
            .or_else(|| self.next_make())
            .or_else(|| self.next_instead())
    }

    /// An append that need not wait until the file is made, or one can be used again.
    fn next_instead(&mut self) -> Option<Effect<R>> {
        let is_full = self.halves.iter().all(|half| half.stage == Stage::Full);
        let is_held_up = is_full && self.halves.iter().any(|half| half.is_held_up);
        let half = &mut self.halves[self.active];
        let is_making = half.stage == Stage::Making && half.instead < INSTEAD_MAX;
        if !is_making && !is_held_up {
            return None;
        }
        let append = self.waiting.iter().position(|waiting| waiting.file.is_some())?;
        half.instead += 1;
        let Waiting { record, file, reply } = self.waiting.remove(append)?;
        self.waiting_bytes -= record.bytes();
        Some(Effect::SyncInstead { log: record.log, file: file?, reply })
    }

    /// What a log does for itself without a journal.
    fn instead(&mut self, waiting: Waiting<R>, error: DiskError) -> Effect<R> {
        let Waiting { record, file, reply } = waiting;
        self.waiting_bytes -= record.bytes();
        match (record.what, file) {
            (_, Some(file)) => Effect::SyncInstead { log: record.log, file, reply },
            (What::Deleted, _) => Effect::Answer { replies: vec![reply], result: Ok(()) },
            // Older entries may still stand in the files, and nothing can void them any more.
            _ => Effect::Answer { replies: vec![reply], result: Err(error) },
        }
    }

    fn next_make(&mut self) -> Option<Effect<R>> {
        let filling = &self.halves[self.active];
        let soon = filling.stage == Stage::Filling && filling.end > self.layout.half_bytes / 2;
        let half = if filling.stage == Stage::Absent && !self.waiting.is_empty() {
            self.active
        } else if soon && self.halves[1 - self.active].stage == Stage::Absent {
            1 - self.active
        } else {
            return None;
        };
        self.files_made += 1;
        let number = self.files_made;
        self.halves[half] = Half { stage: Stage::Making, number, ..Half::absent() };
        let path = self.layout.dir.join(format!("{}-{number}", self.layout.prefix));
        Some(Effect::Make { half, path, len: self.layout.half_bytes })
    }

    pub(super) fn on_made(&mut self, half: usize, made: Result<File, DiskError>) {
        match made {
            Ok(file) => {
                let half = &mut self.halves[half];
                assert_eq!(half.stage, Stage::Making, "JRN-2: only what is being made is made");
                (half.stage, half.file) = (Stage::Empty, Some(file));
            }
            Err(error) => self.pin(half, &error),
        }
    }

    /// A segment of the full half, so many that all are done when the other is half full.
    fn next_segment_sync(&mut self) -> Option<Effect<R>> {
        let (filling, index) = (&self.halves[self.active], 1 - self.active);
        let blocked = filling.stage == Stage::Full;
        let progress = filling.end as f64 / (self.layout.half_bytes / 2) as f64;
        let index =
            if blocked && self.halves[index].stage != Stage::Full { self.active } else { index };
        let full = &mut self.halves[index];
        if full.stage != Stage::Full || full.syncing >= SYNCING_MAX {
            return None;
        }
        let done = full.dirty_at_full - full.dirty_count;
        if !blocked && done as f64 >= progress * full.dirty_at_full as f64 {
            return None;
        }
        let (log, file) = full.next_dirty()?;
        full.syncing += 1;
        Some(Effect::SyncSegment { half: index, number: full.number, log, file })
    }

    pub(super) fn on_segment_synced(
        &mut self,
        (half, number): (usize, u32),
        (log, file): (LogId, File),
        synced: Result<(), DiskError>,
    ) {
        if let Some(error) = synced.as_ref().err().filter(|error| error.is_failed_sync()) {
            // The journal now holds the only durable copy of what that log was acknowledged.
            self.broken.insert(log, error.clone());
        }
        if self.halves[half].number != number {
            return;
        }
        let covered = &mut self.halves[half];
        covered.syncing -= 1;
        covered.is_held_up = synced.is_err();
        match synced {
            Ok(()) => covered.maybe_empty(),
            Err(error) if error.is_full() || (is_passing(&error) && covered.late < LATE_MAX) => {
                covered.late += u32::from(!error.is_full());
                covered.held_back.push((log, file));
                covered.dirty_count += 1;
            }
            Err(error) => self.pin(half, &error),
        }
    }

    fn next_write(&mut self, now: Duration) -> Option<Effect<R>> {
        if !self.writing.is_empty() || self.waiting.is_empty() {
            return None;
        }
        if self.should_gather(now) {
            if mem::replace(&mut self.timer, true) {
                return None;
            }
            return Some(Effect::Wait((self.waiting_since + GATHER).saturating_sub(now)));
        }
        let active = &self.halves[self.active];
        if matches!(active.stage, Stage::Empty | Stage::Filling) && !self.fits() {
            let full = &mut self.halves[self.active];
            if full.groups == 0 {
                // What the first group carries would fill it: hundreds of thousands of truncations.
                self.given_up = Some(DiskError::Closed);
                return self.next(now);
            }
            (full.stage, full.dirty_at_full) = (Stage::Full, full.dirty_count);
            full.maybe_empty();
        }
        if self.halves[self.active].stage == Stage::Full
            && matches!(self.halves[1 - self.active].stage, Stage::Empty | Stage::Absent)
        {
            self.active = 1 - self.active;
        }
        let stage = self.halves[self.active].stage;
        matches!(stage, Stage::Empty | Stage::Filling).then(|| self.write())
    }

    /// Bytes that a group of `entries` bytes takes now, with what the first one of a file carries.
    fn room_for(&self, entries: usize) -> u64 {
        let half = &self.halves[self.active];
        let carried = match half.groups {
            0 => self.truncated.values().map(Record::bytes).sum(),
            _ => 0,
        };
        format::group_bytes(entries + carried) as u64
    }

    fn fits(&self) -> bool {
        let half = &self.halves[self.active];
        let first = self.waiting.front().map_or(0, |waiting| waiting.record.bytes());
        half.end + self.room_for(first) <= self.layout.half_bytes
    }

    fn should_gather(&self, now: Duration) -> bool {
        self.waiting_bytes < GATHER_BYTES_MAX
            && now < self.waiting_since + GATHER
            && self.is_crowded(now)
    }

    /// Whether the last commits came at a rate, and are of [`CROWDED_LOGS`] logs: in most cases the
    /// first few tell.
    fn is_crowded(&self, now: Duration) -> bool {
        let is_fast =
            self.recent.len() == RECENT && now.saturating_sub(self.recent[0].0) < CROWDED_WITHIN;
        if !is_fast {
            return false;
        }
        let mut logs = SmallVec::<[LogId; CROWDED_LOGS]>::new();
        self.recent.iter().any(|(_, log)| {
            if !logs.contains(log) {
                logs.push(*log);
            }
            logs.len() == CROWDED_LOGS
        })
    }

    pub(super) fn on_wait(&mut self) {
        self.timer = false;
    }

    /// Takes what is waiting and fits into one group.
    fn write(&mut self) -> Effect<R> {
        let mut entries = 0;
        while let Some(waiting) = self.waiting.front() {
            let more = entries + waiting.record.bytes();
            let fits = self.halves[self.active].end + self.room_for(more) <= self.layout.half_bytes;
            if !fits || (more > GROUP_BYTES_MAX && entries > 0) {
                break;
            }
            entries = more;
            self.writing.extend(self.waiting.pop_front());
        }
        assert!(!self.writing.is_empty(), "JRN-4: a write begins only where an entry fits");
        self.waiting_bytes -= entries;
        let room = self.room_for(entries);
        let half = &mut self.halves[self.active];
        let mut bytes = BytesMut::with_capacity(usize::try_from(room).expect("within a file"));
        let records = self.writing.iter().map(|waiting| &waiting.record);
        let (position, mut header) = (half.end, None);
        half.stage = Stage::Filling;
        if half.groups == 0 {
            half.salt = self.rng.next_u64();
            header = Some(format::header(&Header { boot: self.layout.boot, salt: half.salt }));
            let carried = self.truncated.values().chain(records);
            format::put_group(half.salt, 1, carried, &mut bytes);
        } else {
            format::put_group(half.salt, half.groups + 1, records, &mut bytes);
        }
        assert_eq!(bytes.len() as u64, room, "JRN-4: a group takes the room that was reserved");
        half.groups += 1;
        half.end += room;
        for waiting in &self.writing {
            if let Some(file) = &waiting.file {
                half.mark_dirty(waiting.record.log, file.clone());
            }
        }
        let file = half.file.clone().expect("JRN-2: a half that is written has a file");
        Effect::Write { file, header, position, bytes: bytes.freeze() }
    }

    pub(super) fn on_written(&mut self, written: Result<(), DiskError>) {
        let group = mem::take(&mut self.writing);
        assert!(!group.is_empty(), "JRN-1: one group is written at a time");
        match written {
            Ok(()) => {
                let replies = group.into_iter().map(|waiting| waiting.reply).collect();
                self.ready.push_back(Effect::Answer { replies, result: Ok(()) });
            }
            Err(error) => {
                for waiting in group.into_iter().rev() {
                    self.waiting_bytes += waiting.record.bytes();
                    self.waiting.push_front(waiting);
                }
                self.pin(self.active, &error);
            }
        }
    }

    /// Leaves the half's file to the next start, and begins the half with another.
    fn pin(&mut self, half: usize, error: &DiskError) {
        self.halves[half] = Half::absent();
        self.pinned += 1;
        if self.pinned > PINNED_MAX {
            // Nobody is to ask again later: it does not pass.
            self.given_up = Some(if is_passing(error) { DiskError::Closed } else { error.clone() });
        }
        let then = match self.given_up {
            Some(_) => "each log syncs for itself now",
            None => "another is begun",
        };
        tracing::warn!(%error, dir = %self.layout.dir.display(), "journal file set aside: {then}");
    }
}

#[cfg(test)]
mod tests;
