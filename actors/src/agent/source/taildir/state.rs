//! The core of the tailer: which files it follows, how far each was read, what is read next.
//!
//! ```text
//!             sighting                    at its end, quiet, and renamed away
//!   unknown ───────────►  open  ─────────────────────────────────────►  dormant ──► forgotten
//!                          │ ▲ ◄─────────────────────────────────────   (identity and offset)
//!              lines ◄─────┘ │      it changed, or this is a new life
//!                            └─ followed by inode, through renames, until it was read to its end
//! ```
//!
//! A file is who its inode is, and its names are hints: a name says only *that* it is worth reading.
//! It is worth it when the name matches a pattern, or when it is a rotated sibling of a name that
//! does (same directory, begins with that name and a separator) and was written since the source
//! first began; the rest lay there before. Siblings are read oldest first, before the file that
//! now has the name.
//!
//! The first turn ever reads nothing: it brings a position of every file that matches then, and only
//! once that is out are files read. So whatever is rotated afterwards, read or not, is known by its
//! inode to the next life, and not taken for what lay there before. From then on each file is in the
//! position as soon as it is followed.
//!
//! # Invariants
//! - TAIL-1: the offset of a file is the begin of a line (or of a piece of an overlong one), and
//!   everything before it was delivered.
//! - TAIL-2: no file is followed twice at a time.
//!
//! A file is not confused with another: its inode cannot be given away while it is open, and one
//! that was closed is verified by birth and fingerprint before it goes on. A turn reads no more than
//! its budget, and from one rotation no more than a chunk before the others had theirs.
//!
//! # What cannot be promised
//! A file that is made, written, rotated *and removed* between two scans was never seen.
//! `copytruncate` loses what was written between copy and cut; the cut is seen (the file is shorter
//! than what was read) and counted, and its copy looks like a rotated file: switch
//! [`Limits::reads_rotated`] off there. Which of two rotated files is older, and whether one that was
//! never seen lay there before the source first began, is told by their stamps alone: where the clock
//! that stamps them was set back in between, their order is that of the stamps, and such a file may be
//! passed over. That the clock of the source is ahead of it does no harm, once there is a file to tell.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;

use crate::agent::{
    event::{Position, PositionBytes, Text},
    source::taildir::{
        files::{FileKey, FileStat},
        followed::{Age, Dormant, Followed},
        lines,
        saved::{self, STARTED, SavedError},
    },
};

/// How much older than the first start a sibling may be and still count as written since: the
/// kernel stamps files with a clock that lags by up to one tick of its own.
const STAMP_LAG_MS: i64 = 20;
/// Most files whose first position one batch brings.
const FIRST_PARTS_MAX: usize = 4096;

/// Where reading begins in a file that is there when the source first begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Begin {
    /// At its first byte, as Flume does unless `skipToEnd` is set.
    #[default]
    First,
    /// At its end.
    End,
}

/// The numbers that the core goes by.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Where a file is begun that is there at the first start.
    pub begin: Begin,
    /// Whether rotated siblings that no pattern matches are read.
    pub reads_rotated: bool,
    /// Most bytes of a line; a longer one is delivered in pieces of just as many.
    pub line_bytes_max: usize,
    /// Bytes read from one file before the next has its turn.
    pub chunk_bytes: usize,
    /// Bytes after which a turn ends.
    pub turn_bytes_max: usize,
    /// Most lines of a turn.
    pub turn_lines_max: usize,
    /// How long a file that was renamed or removed has to be quiet at its end to be closed.
    pub close_delay: Duration,
    /// How long a closed file has to be gone to be forgotten.
    pub forget_delay: Duration,
    /// Most files that are open at once.
    pub open_files_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            begin: Begin::First,
            reads_rotated: true,
            line_bytes_max: 1 << 20,
            chunk_bytes: 64 << 10,
            turn_bytes_max: 1 << 20,
            turn_lines_max: 4096,
            close_delay: Duration::from_secs(5),
            forget_delay: Duration::from_secs(3600),
            open_files_max: 1024,
        }
    }
}

/// A path that a scan came by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Where.
    pub path: PathBuf,
    /// The matching path whose rotation it belongs to; the path itself where it matches.
    pub family: PathBuf,
    /// Whether the path matches a pattern.
    pub is_matched: bool,
    /// What stands there.
    pub stat: FileStat,
}

/// One line that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailedLine {
    /// The file.
    pub key: FileKey,
    /// The path whose rotation the file belongs to.
    pub family: Text,
    /// Where the line begins in the file.
    pub start: u64,
    /// Where the next one begins.
    pub end: u64,
    /// The line without its end.
    pub body: Bytes,
}

/// What a turn brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TailBatch {
    /// Lines, of each file in order.
    pub lines: Vec<TailedLine>,
    /// How the position moves with them.
    pub parts: Vec<(String, Option<PositionBytes>)>,
    /// Parts of files that are read from their first byte again, before these lines.
    pub anew: Vec<String>,
    /// Whether there is more to read at once.
    pub has_more: bool,
}

/// What happened that a person should know of, in counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TailCounts {
    /// Lines delivered, a piece of an overlong one counted as one.
    pub lines: u64,
    /// Bytes of the files that those lines took.
    pub bytes: u64,
    /// Pieces of overlong lines, but for the last of each.
    pub pieces: u64,
    /// Files that had become shorter than what was read of them (`copytruncate`): what they held
    /// beyond that is lost.
    pub truncations: u64,
    /// Inode numbers that came back with another file behind them.
    pub replaced: u64,
    /// Files that were removed with a last line that never ended; it was not delivered.
    pub unended: u64,
}

/// What is asked to be read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadPlan {
    /// Of which open file.
    pub key: FileKey,
    /// From where.
    pub position: u64,
    /// Most bytes.
    pub len: usize,
}

/// The core.
#[derive(Debug)]
pub struct Tail {
    limits: Limits,
    /// From when on a sibling that was written is new.
    started_ms: i64,
    /// The least stamp of what is written after the first scan, by the files that this sees.
    stamped_ms: Option<i64>,
    open: BTreeMap<FileKey, Followed>,
    dormant: BTreeMap<FileKey, Dormant>,
    /// Number of the present scan: 1, 2, ….
    scans: u64,
    is_first_scan_ever: bool,
    /// Where following begins is not out yet: nothing is read.
    is_beginning: bool,
    /// The families that still have something to read in this turn, the next one first.
    ready: VecDeque<VecDeque<FileKey>>,
    last_served: PathBuf,
    bytes_left: usize,
    batch: TailBatch,
    touched: BTreeSet<FileKey>,
    counts: TailCounts,
}

impl Tail {
    /// A tailer that goes on from `position`; where that is empty it first begins at `now_ms`.
    ///
    /// # Errors
    /// [`SavedError`] where the position cannot be read.
    pub fn new(limits: Limits, position: &Position, now_ms: i64) -> Result<Self, SavedError> {
        let saved::Restored { started_ms: started, files } = saved::decode(position)?;
        Ok(Self {
            limits,
            started_ms: started.unwrap_or(now_ms),
            stamped_ms: None,
            open: BTreeMap::new(),
            dormant: files
                .into_iter()
                .map(|(key, saved)| (key, Dormant::restored(saved)))
                .collect(),
            scans: 0,
            is_first_scan_ever: started.is_none(),
            is_beginning: started.is_none(),
            ready: VecDeque::new(),
            last_served: PathBuf::new(),
            bytes_left: 0,
            batch: TailBatch::default(),
            touched: BTreeSet::new(),
            counts: TailCounts::default(),
        })
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> TailCounts {
        self.counts
    }

    /// Bytes of open files that were not delivered yet.
    #[must_use]
    pub fn unread_bytes(&self) -> u64 {
        self.open.values().map(Followed::unread_bytes).sum()
    }

    /// Whether rotated siblings are read.
    #[must_use]
    pub fn reads_rotated(&self) -> bool {
        self.limits.reads_rotated
    }

    /// The paths whose rotations are followed: their directories are looked through for siblings.
    #[must_use]
    pub fn families(&self) -> BTreeSet<PathBuf> {
        let open = self.open.values().map(|file| file.family.clone());
        open.chain(self.dormant.values().map(|file| file.saved.family())).collect()
    }

    /// Inode numbers that are known: worth a look whatever the name.
    #[must_use]
    pub fn known_inodes(&self) -> BTreeSet<u64> {
        self.open.keys().chain(self.dormant.keys()).map(|key| key.inode).collect()
    }

    // ---- Scanning ----------------------------------------------------------------------------

    /// A scan begins.
    pub fn begin_scan(&mut self) {
        self.scans += 1;
    }

    /// A path was seen; answers whether it should be opened.
    pub fn on_sighting(&mut self, seen: &Sighting, now: Duration) -> bool {
        if !seen.stat.is_regular {
            return false;
        }
        if self.is_first_scan_ever {
            // A sibling is not taken for newer than itself.
            let next_ms = seen.stat.written_ms() + i64::from(!seen.is_matched);
            self.stamped_ms = self.stamped_ms.max(Some(next_ms));
        }
        if let Some(file) = self.open.get_mut(&seen.stat.key) {
            file.on_seen(seen.is_matched, self.scans, now);
            return false;
        }
        let has_room = self.open.len() < self.limits.open_files_max;
        match self.dormant.get_mut(&seen.stat.key) {
            Some(file) => {
                file.missing_since = None;
                file.seen_in = self.scans;
                has_room && file.has_changed(&seen.stat)
            }
            None if has_room => self.is_worth(seen.is_matched, &seen.stat),
            None => {
                if self.is_first_scan_ever && seen.is_matched {
                    self.remember(seen);
                }
                false
            }
        }
    }

    /// A file that is there at the first start, and is opened when there is room.
    fn remember(&mut self, seen: &Sighting) {
        let mut file = Dormant::unopened(&seen.family, &seen.stat, self.limits.begin);
        file.seen_in = self.scans;
        let part = (saved::part_of(seen.stat.key), Some(file.saved.encode()));
        self.batch.parts.push(part);
        self.dormant.insert(seen.stat.key, file);
    }

    fn is_worth(&self, is_matched: bool, stat: &FileStat) -> bool {
        let is_new = stat.written_ms() >= self.started_ms - STAMP_LAG_MS;
        is_matched || (self.limits.reads_rotated && is_new)
    }

    /// `seen.path` was opened, which gave a file that is like `stat` and begins with `head`;
    /// answers whether it is followed. (A rename may have come between the two looks.)
    pub fn on_opened(
        &mut self,
        seen: &Sighting,
        stat: &FileStat,
        head: &[u8],
        now: Duration,
    ) -> bool {
        let known = self.dormant.contains_key(&stat.key);
        if self.open.contains_key(&stat.key) || !(known || self.is_worth(seen.is_matched, stat)) {
            return false;
        }
        let age = Age::new(stat, self.scans, rotation_number(&seen.path, &seen.family));
        let mut file = Followed::new(seen.family.clone(), age, stat, self.limits.chunk_bytes, now);
        file.on_seen(seen.is_matched, self.scans, now);
        match self.dormant.remove(&stat.key) {
            Some(dormant) if dormant.saved.is_same_file(head, stat.born_ns) => {
                file.family = dormant.saved.family();
                if stat.len < dormant.saved.offset {
                    self.counts.truncations += 1;
                    self.touched.insert(stat.key);
                    self.batch.anew.push(saved::part_of(stat.key));
                } else {
                    file.resume_at(dormant.saved.offset, head);
                }
            }
            Some(_) => {
                self.counts.replaced += 1;
                self.touched.insert(stat.key);
                self.batch.anew.push(saved::part_of(stat.key));
            }
            None => {
                if self.begins_at_end(seen) {
                    file.resume_at(stat.len, head);
                }
                self.touched.insert(stat.key);
            }
        }
        let before = self.open.insert(stat.key, file);
        assert!(before.is_none(), "TAIL-2: {:?} is followed already", stat.key);
        true
    }

    fn begins_at_end(&self, seen: &Sighting) -> bool {
        self.limits.begin == Begin::End && self.is_first_scan_ever && seen.is_matched
    }

    /// A scan ended: what it did not come by has lost its name, or is gone.
    pub fn end_scan(&mut self, now: Duration) {
        self.is_first_scan_ever = false;
        // The clock of the source may be ahead of that which stamps the files: theirs counts.
        if let Some(stamped_ms) = self.stamped_ms.take() {
            self.started_ms = self.started_ms.min(stamped_ms + STAMP_LAG_MS);
        }
        for file in self.open.values_mut() {
            file.on_scanned(self.scans, now);
        }
        let (scans, delay) = (self.scans, self.limits.forget_delay);
        let parts = &mut self.batch.parts;
        self.dormant.retain(|key, file| {
            let stays = !file.is_gone(scans, now, delay);
            if !stays {
                parts.push((saved::part_of(*key), None));
            }
            stays
        });
    }

    // ---- Reading -----------------------------------------------------------------------------

    /// The files that are open.
    #[must_use]
    pub fn open_files(&self) -> Vec<FileKey> {
        self.open.keys().copied().collect()
    }

    /// What an open file is like now.
    pub fn on_stat(&mut self, key: FileKey, stat: &FileStat, now: Duration) {
        let file = self.open.get_mut(&key).expect("only open files are looked at");
        if file.on_stat(stat, now) {
            self.counts.truncations += 1;
            self.touched.insert(key);
            self.batch.anew.push(saved::part_of(key));
        }
    }

    /// Reading begins: each family gets its turn, the one after the last served first.
    pub fn begin_reads(&mut self) {
        self.bytes_left = if self.is_beginning { 0 } else { self.limits.turn_bytes_max };
        let mut families: BTreeMap<&Path, Vec<(&Age, FileKey)>> = BTreeMap::new();
        for (key, file) in self.open.iter().filter(|(_, file)| file.has_unread()) {
            families.entry(&file.family).or_default().push((&file.age, *key));
        }
        let mut ready = VecDeque::new();
        let mut before = 0;
        for (family, mut files) in families {
            files.sort();
            before += usize::from(family <= self.last_served.as_path());
            ready.push_back(files.into_iter().map(|(_, key)| key).collect());
        }
        ready.rotate_left(before);
        self.ready = ready;
    }

    /// What to read next; nothing when the turn's budget is used up, or all was read.
    #[must_use]
    pub fn next_read(&self) -> Option<ReadPlan> {
        let has_budget = self.bytes_left > 0 && self.batch.lines.len() < self.limits.turn_lines_max;
        let key = *self.ready.front()?.front()?;
        let file = self.open.get(&key)?;
        has_budget.then_some(ReadPlan { key, position: file.offset, len: file.read_bytes })
    }

    /// `plan` was read, and gave `bytes`.
    pub fn on_read(&mut self, plan: ReadPlan, bytes: &Bytes) {
        let file = self.open.get_mut(&plan.key).expect("only open files are read");
        assert!(file.offset == plan.position, "TAIL-1: read at {}", plan.position);
        let room = self.limits.turn_lines_max - self.batch.lines.len();
        let lines = lines::cut(bytes, self.limits.line_bytes_max, room);
        let has_all_lines = lines.len() < room;
        let consumed = lines.last().map_or(0, |line| line.end);
        let family: Text = file.family.to_string_lossy().into();
        for line in lines {
            self.counts.lines += 1;
            self.counts.pieces += u64::from(line.is_piece);
            let (start, end) = (plan.position + line.start as u64, plan.position + line.end as u64);
            let family = family.clone();
            self.batch.lines.push(TailedLine {
                key: plan.key,
                family,
                start,
                end,
                body: line.body,
            });
        }
        if consumed > 0 {
            self.touched.insert(plan.key);
        }
        self.counts.bytes += consumed as u64;
        self.bytes_left = self.bytes_left.saturating_sub(consumed.max(1));
        let most = lines::needed(self.limits.line_bytes_max);
        file.on_read(plan.len, bytes, consumed, has_all_lines, self.limits.chunk_bytes, most);
        self.last_served.clone_from(&file.family);
        self.requeue();
    }

    /// A file cannot be read now (an error of its disk, say): the others go on.
    pub fn on_read_failed(&mut self, plan: ReadPlan) {
        if let Some(file) = self.open.get_mut(&plan.key) {
            file.skip_until_it_changes();
        }
        self.requeue();
    }

    /// The family just served goes to the end of the line, as long as it has something to read.
    fn requeue(&mut self) {
        let Some(mut family) = self.ready.pop_front() else { return };
        while family.front().is_some_and(|key| !self.open[key].has_unread()) {
            family.pop_front();
        }
        if !family.is_empty() {
            self.ready.push_back(family);
        }
    }

    /// Files to close now. They are dormant, or forgotten, from here on.
    pub fn close_quiet(&mut self, now: Duration) -> Vec<FileKey> {
        let is_crowded = self.open.len() >= self.limits.open_files_max;
        let delay = self.limits.close_delay;
        let mut closed = Vec::new();
        for (key, file) in &self.open {
            let is_quiet = file.is_quiet(now, delay) || (is_crowded && !file.is_matched);
            if !file.has_unread() && is_quiet && (!file.is_matched || file.links == 0) {
                closed.push(*key);
            }
        }
        if closed.is_empty() && is_crowded {
            // Every open file still has its name: the one that was quiet for longest makes room.
            let idle = self.open.iter().filter(|(_, file)| !file.has_unread());
            closed.extend(idle.min_by_key(|(_, file)| file.changed_at).map(|(key, _)| *key));
        }
        for key in &closed {
            let file = self.open.remove(key).expect("it was just found there");
            if file.links == 0 {
                self.counts.unended += u64::from(file.has_unended_line());
                self.touched.remove(key);
                self.batch.parts.push((saved::part_of(*key), None));
            } else {
                // The position must be out before the file is only known by it.
                if self.touched.remove(key) {
                    self.batch.parts.push((saved::part_of(*key), Some(file.saved().encode())));
                }
                self.dormant.insert(*key, file.into_dormant(self.scans));
            }
        }
        closed
    }

    /// The turn ends: what it brought.
    pub fn end_turn(&mut self) -> TailBatch {
        for key in mem::take(&mut self.touched) {
            if let Some(file) = self.open.get(&key) {
                self.batch.parts.push((saved::part_of(key), Some(file.saved().encode())));
            }
        }
        self.batch.has_more = !mem::take(&mut self.ready).is_empty();
        let mut batch = mem::take(&mut self.batch);
        if self.is_beginning && !self.is_first_scan_ever {
            self.begin(&mut batch);
        }
        batch
    }

    /// Lets so many positions out, and with the last of them that the source has begun.
    fn begin(&mut self, batch: &mut TailBatch) {
        let rest = batch.parts.split_off(batch.parts.len().min(FIRST_PARTS_MAX));
        self.is_beginning = !rest.is_empty();
        batch.has_more |= self.is_beginning;
        self.batch.parts = rest;
        if !self.is_beginning {
            let started = saved::encode_started(self.started_ms);
            batch.parts.push((STARTED.into(), Some(started)));
        }
    }
}

/// The `N` of `access.log.N`, which grows with age; 0 for a name that has none.
fn rotation_number(path: &Path, family: &Path) -> Reverse<u64> {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let number = name(path).zip(name(family)).and_then(|(name, family)| {
        let suffix = name.strip_prefix(&family)?.strip_prefix('.')?;
        (suffix.len() <= 4).then(|| suffix.parse().ok())?
    });
    Reverse(number.unwrap_or(0))
}

#[cfg(test)]
mod tests;
