//! One file that is followed: open and being read, or closed and remembered.

use std::{
    cmp::Reverse,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use flumen_runtime::codec;

use crate::agent::source::taildir::{
    files::FileStat,
    saved::{FINGERPRINT_BYTES_MAX, Saved},
    state::Begin,
};

/// What orders the files of one rotation, the oldest first: birth, then last write, then when it was
/// first seen, then the number in its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Age {
    born_ns: Option<i64>,
    written_ns: i64,
    found_in: u64,
    number: Reverse<u64>,
}

impl Age {
    pub(super) fn new(stat: &FileStat, found_in: u64, number: Reverse<u64>) -> Self {
        Self { born_ns: stat.born_ns, written_ns: stat.written_ns, found_in, number }
    }
}

/// An open file.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) family: PathBuf,
    pub(super) age: Age,
    /// Where the next line begins (TAIL-1).
    pub(super) offset: u64,
    /// Names it has; 0 once it is removed.
    pub(super) links: u64,
    /// Whether one of its names matches a pattern.
    pub(super) is_matched: bool,
    /// When it last grew, was renamed or removed.
    pub(super) changed_at: Duration,
    /// Bytes to ask for in the next read: more where a line is longer than a chunk.
    pub(super) read_bytes: usize,
    /// The first bytes that were read, until there are as many as a fingerprint covers.
    head: Vec<u8>,
    fingerprint: u32,
    /// Up to here there is no further line.
    barren: u64,
    /// As it was last seen.
    stat: FileStat,
    matched_in: u64,
}

impl Followed {
    pub(super) fn new(
        family: PathBuf,
        age: Age,
        stat: &FileStat,
        read_bytes: usize,
        now: Duration,
    ) -> Self {
        Self {
            family,
            age,
            offset: 0,
            links: stat.links,
            is_matched: false,
            changed_at: now,
            read_bytes,
            head: Vec::new(),
            fingerprint: codec::crc32c(&[]),
            barren: 0,
            stat: *stat,
            matched_in: 0,
        }
    }

    /// Goes on at `offset` of a file that begins with `head`.
    pub(super) fn resume_at(&mut self, offset: u64, head: &[u8]) {
        self.offset = offset;
        self.head.clear();
        let read = usize::try_from(offset).unwrap_or(usize::MAX);
        self.extend_head(&head[..head.len().min(read)]);
    }

    fn extend_head(&mut self, read: &[u8]) {
        let room = FINGERPRINT_BYTES_MAX - self.head.len();
        if room > 0 && !read.is_empty() {
            self.head.extend_from_slice(&read[..read.len().min(room)]);
            self.fingerprint = codec::crc32c(&[&self.head]);
        }
    }

    /// It was seen in the scan of this number.
    pub(super) fn on_seen(&mut self, is_matched: bool, scan: u64, now: Duration) {
        if is_matched {
            self.matched_in = scan;
            if !self.is_matched {
                self.is_matched = true;
                self.changed_at = now;
            }
        }
    }

    /// The scan of this number ended.
    pub(super) fn on_scanned(&mut self, scan: u64, now: Duration) {
        if self.is_matched && self.matched_in != scan {
            self.is_matched = false;
            self.changed_at = now;
        }
    }

    /// It is like this now; answers whether it was cut below what was read of it.
    pub(super) fn on_stat(&mut self, stat: &FileStat, now: Duration) -> bool {
        if stat.len != self.stat.len || stat.links != self.links {
            self.changed_at = now;
        }
        self.stat = *stat;
        self.links = stat.links;
        self.barren = self.barren.min(stat.len);
        let is_cut = stat.len < self.offset;
        if is_cut {
            self.offset = 0;
            self.barren = 0;
            self.head.clear();
            self.fingerprint = codec::crc32c(&[]);
        }
        is_cut
    }

    /// Whether there may be a line that was not read.
    pub(super) fn has_unread(&self) -> bool {
        self.stat.len > self.offset.max(self.barren)
    }

    /// Bytes after the last line that was read.
    pub(super) fn unread_bytes(&self) -> u64 {
        self.stat.len.saturating_sub(self.offset)
    }

    /// Whether it goes on after the last line that has an end.
    pub(super) fn has_unended_line(&self) -> bool {
        self.stat.len > self.offset
    }

    /// A read of `asked` bytes at the offset gave `bytes`, whose first `consumed` are lines; they
    /// are all lines that are in there if `has_all_lines`.
    pub(super) fn on_read(
        &mut self,
        asked: usize,
        bytes: &Bytes,
        consumed: usize,
        has_all_lines: bool,
        chunk: usize,
        most: usize,
    ) {
        let seen = self.offset + bytes.len() as u64;
        self.extend_head(&bytes[..consumed]);
        self.offset += consumed as u64;
        let is_at_end = bytes.len() < asked;
        if is_at_end {
            // Shorter than it was a moment ago, or just as long.
            self.stat.len = self.stat.len.min(seen);
        }
        if has_all_lines && (is_at_end || seen >= self.stat.len) {
            self.barren = seen;
        }
        self.read_bytes = match consumed {
            0 if !is_at_end => (asked * 2).min(most.max(chunk)),
            _ => chunk,
        };
    }

    /// It cannot be read: not again before it changes.
    pub(super) fn skip_until_it_changes(&mut self) {
        self.barren = self.stat.len;
    }

    /// Whether nothing happened to it for `delay`.
    pub(super) fn is_quiet(&self, now: Duration, delay: Duration) -> bool {
        now.saturating_sub(self.changed_at) >= delay
    }

    /// What is kept of it.
    pub(super) fn saved(&self) -> Saved {
        Saved {
            born_ns: self.stat.born_ns,
            fingerprint_bytes: u16::try_from(self.head.len()).expect("at most 256"),
            fingerprint: self.fingerprint,
            offset: self.offset,
            family: self.family.as_os_str().as_bytes().to_vec(),
        }
    }

    /// Closed, and remembered as seen in the scan of this number.
    pub(super) fn into_dormant(self, scan: u64) -> Dormant {
        let saved = self.saved();
        Dormant { saved, stat: Some(self.stat), seen_in: scan, missing_since: None }
    }
}

/// A file that is closed, and not forgotten.
#[derive(Debug)]
pub(super) struct Dormant {
    pub(super) saved: Saved,
    /// As it was when it was closed; unknown where that was in an earlier life.
    stat: Option<FileStat>,
    pub(super) seen_in: u64,
    pub(super) missing_since: Option<Duration>,
}

impl Dormant {
    /// As an earlier life left it.
    pub(super) fn restored(saved: Saved) -> Self {
        Self { saved, stat: None, seen_in: 0, missing_since: None }
    }

    /// As it is seen when following begins, and not opened yet.
    pub(super) fn unopened(family: &Path, stat: &FileStat, begin: Begin) -> Self {
        let offset = if begin == Begin::End { stat.len } else { 0 };
        Self::restored(Saved {
            born_ns: stat.born_ns,
            fingerprint_bytes: 0,
            fingerprint: codec::crc32c(&[]),
            offset,
            family: family.as_os_str().as_bytes().to_vec(),
        })
    }

    /// Whether it must be looked into: it was written, or another file has its inode now.
    pub(super) fn has_changed(&self, now: &FileStat) -> bool {
        self.stat.is_none_or(|then| {
            (then.len, then.written_ns, then.born_ns) != (now.len, now.written_ns, now.born_ns)
        })
    }

    /// Whether it has been gone for `delay` when the scan of this number ends.
    pub(super) fn is_gone(&mut self, scan: u64, now: Duration, delay: Duration) -> bool {
        if self.seen_in == scan {
            self.missing_since = None;
            return false;
        }
        let since = *self.missing_since.get_or_insert(now);
        now.saturating_sub(since) >= delay
    }
}
