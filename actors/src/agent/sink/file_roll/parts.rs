//! Files that appear whole: each is named by the offsets that it holds.
//!
//! ```text
//!   part-00000000000000000000.tmp   ── write ── … ── fdatasync ── rename ── sync directory ──►
//!   part-00000000000000000000-00000000000000004711.log
//! ```
//!
//! The names say what was delivered. Whoever goes on, lists the directory, removes what is still
//! `.tmp`, and begins after the highest last offset: delivering the same events again makes no
//! second copy. It serves the `file_roll` sink, whose offsets are its channel's, and anyone who
//! writes partitions of a topic to files, with a prefix such as `part-orders-3`.
//!
//! # Invariants
//! - FRL-1: offsets only grow, within a part and from part to part.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use flumen_runtime::{
    disk::{DiskError, File, OpenMode, actor::DiskHandle},
    era::{TakeOverError, Ticket, take_over},
    ids::Offset,
    placement::Local,
};
use tokio::time::Instant;

/// How long writes of an earlier life may take to end; longer, and the process must.
const TAKE_OVER_WITHIN: Duration = Duration::from_secs(10);

/// Where parts go, and when one is full.
#[derive(Clone, Debug)]
pub struct PartsOptions {
    /// The directory; made where it is missing.
    pub dir: PathBuf,
    /// What names begin with, before `-<first>-<last>`.
    pub prefix: String,
    /// What names end with.
    pub extension: String,
    /// Bytes after which a part is rolled. Flume's `sink.rollInterval` knows only time.
    pub roll_bytes: u64,
    /// Events after which it is.
    pub roll_events: u64,
    /// Time after which it is, if it holds anything.
    pub roll_after: Duration,
}

impl PartsOptions {
    /// Parts of 16 MiB, or of 30 s, in `dir`, called `<prefix>-<first>-<last>.log`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, prefix: impl Into<String>) -> Self {
        Self {
            dir: dir.into(),
            prefix: prefix.into(),
            extension: ".log".into(),
            roll_bytes: 16 << 20,
            roll_events: u64::MAX,
            roll_after: Duration::from_secs(30),
        }
    }

    fn path_of(&self, first: Offset, last: Offset) -> PathBuf {
        let Self { dir, prefix, extension, .. } = self;
        dir.join(format!("{prefix}-{:020}-{:020}{extension}", first.0, last.0))
    }

    fn begun_path(&self, first: Offset) -> PathBuf {
        self.dir.join(format!("{}-{:020}.tmp", self.prefix, first.0))
    }

    /// The offsets in the name of a part of this prefix.
    fn range_of(&self, name: &str) -> Option<(Offset, Offset)> {
        let name = name.strip_suffix(&self.extension)?;
        let (first, last) = self.numbers(name)?.split_once('-')?;
        Some((number(first)?, number(last)?))
    }

    fn is_begun(&self, name: &str) -> bool {
        let first = name.strip_suffix(".tmp").and_then(|name| self.numbers(name));
        first.and_then(number).is_some()
    }

    fn numbers<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_prefix(&self.prefix)?.strip_prefix('-')
    }
}

fn number(digits: &str) -> Option<Offset> {
    let is_whole = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_whole.then(|| digits.parse().ok().map(Offset)).flatten()
}

/// Why parts cannot be written.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PartsError {
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Writes of an earlier life did not end.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
}

struct Begun {
    file: File,
    first: Offset,
    last: Offset,
    bytes: u64,
    events: u64,
    since: Instant,
}

/// A writer of parts; one for each prefix and directory at a time.
pub struct Parts {
    options: PartsOptions,
    disk: DiskHandle,
    ticket: Ticket,
    begun: Option<Begun>,
    next: Option<Offset>,
    rolled: u64,
}

impl Parts {
    /// Takes over from earlier writers, removes what they had begun, and answers also the offset
    /// after the last one that is in a part; `None` where there is no part.
    ///
    /// # Errors
    /// [`PartsError`].
    pub async fn open(
        local: &Local,
        options: PartsOptions,
    ) -> Result<(Parts, Option<Offset>), PartsError> {
        let disk = local.metered_disk(&options.dir, "sink")?;
        let gate = local.gates().gate(&options.dir.join(&options.prefix));
        let ticket =
            take_over(&gate, TAKE_OVER_WITHIN).await.inspect_err(|error| local.fatal(error))?;
        disk.make_dir(&options.dir).await?;
        let mut next = None;
        for entry in disk.list(&options.dir).await? {
            if let Some((_, last)) = options.range_of(&entry.name) {
                next = next.max(Some(last.next()));
            } else if options.is_begun(&entry.name) {
                disk.remove_under(options.dir.join(&entry.name), &ticket).await?;
            }
        }
        // A rename may be on the disk and not be durable: what is skipped from here on must be.
        disk.sync_dir(&options.dir).await?;
        Ok((Parts { options, disk, ticket, begun: None, next, rolled: 0 }, next))
    }

    /// Takes offsets from anywhere on: those in the directory are of others.
    pub fn begin_anew(&mut self) {
        self.next = None;
    }

    /// Appends lines to the part that is begun, each ended with LF.
    ///
    /// # Errors
    /// [`PartsError`]; what was begun is lost then, and its events are to be written again.
    pub async fn write<'a>(
        &mut self,
        lines: impl Iterator<Item = (Offset, &'a Bytes)>,
    ) -> Result<(), PartsError> {
        let mut text = BytesMut::new();
        let (mut range, mut events): (Option<(Offset, Offset)>, u64) = (None, 0);
        for (offset, body) in lines {
            let last = range.map(|(_, last)| last.next()).or(self.next);
            assert!(last.is_none_or(|last| last <= offset), "FRL-1: {offset} comes too late");
            range = Some((range.map_or(offset, |(first, _)| first), offset));
            text.extend_from_slice(body);
            text.extend_from_slice(b"\n");
            events += 1;
        }
        let Some((first, last)) = range else { return Ok(()) };
        if self.begun.is_none() {
            self.begun = Some(self.begin(first).await?);
        }
        let begun = self.begun.as_mut().expect("begun above");
        let (position, bytes) = (begun.bytes, text.len() as u64);
        let (file, bufs) = (begun.file.clone(), vec![text.freeze()]);
        (begun.last, begun.bytes, begun.events) = (last, position + bytes, begun.events + events);
        self.next = Some(last.next());
        Ok(self.disk.write(&file, position, bufs, &self.ticket).await?)
    }

    async fn begin(&self, first: Offset) -> Result<Begun, DiskError> {
        let file = self.disk.open(self.options.begun_path(first), OpenMode::Create).await?;
        self.disk.truncate(&file, 0, &self.ticket).await?;
        Ok(Begun { file, first, last: first, bytes: 0, events: 0, since: Instant::now() })
    }

    /// Whether no part is begun: everything that was written is in whole ones.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.begun.is_none()
    }

    /// Whether the part that is begun has reached one of its limits.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.begun.as_ref().is_some_and(|begun| {
            begun.bytes >= self.options.roll_bytes
                || begun.events >= self.options.roll_events
                || begun.since.elapsed() >= self.options.roll_after
        })
    }

    /// Makes the part that is begun whole and durable under its name; answers that, where one was
    /// begun.
    ///
    /// # Errors
    /// [`PartsError`]; the part may have its name then, and not be durable: open anew to find out.
    pub async fn roll(&mut self) -> Result<Option<PathBuf>, PartsError> {
        let Some(begun) = self.begun.take() else { return Ok(None) };
        self.disk.sync(&begun.file).await?;
        let from = self.options.begun_path(begun.first);
        let to = self.options.path_of(begun.first, begun.last);
        self.disk.rename_under(&from, &to, &self.ticket).await?;
        self.disk.sync_dir(&self.options.dir).await?;
        self.rolled += 1;
        Ok(Some(to))
    }

    /// How many parts were rolled.
    #[must_use]
    pub fn rolled(&self) -> u64 {
        self.rolled
    }

    /// Where they go.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.options.dir
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_offsets_and_belong_to_one_prefix() {
        let options = PartsOptions::new("/out", "part-orders-1");
        let path = options.path_of(Offset(5), Offset(42));
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(name, "part-orders-1-00000000000000000005-00000000000000000042.log");
        assert_eq!(options.range_of(name), Some((Offset(5), Offset(42))));
        let other = |prefix| PartsOptions::new("/out", prefix).range_of(name);
        assert_eq!(
            (other("part"), other("part-orders"), other("part-orders-11")),
            (None, None, None)
        );
        assert!(options.is_begun("part-orders-1-00000000000000000005.tmp"));
        assert!(!options.is_begun("part-orders-1-x.tmp") && !options.is_begun(name));
    }
}
