//! A disk that turns a bit of a batch that lies on it, and what may come of that.
//!
//! Below the durable mark the batch is refused by name: at the opening, so that its partition is
//! offline by itself, or when it is read. Above the mark the log is cut before it, with a line that
//! says so. In neither case is it served. Base offset and epoch, which no checksum covers, are turned
//! too; the epoch only below the recovery point, since above it nobody else knows it.

use std::{
    cmp::Ordering,
    ops::Range,
    path::{Path, PathBuf},
};

use flumen_actors::broker::partition::messages::FetchError;
use flumen_runtime::{
    batch::{self, BatchHeader},
    codec::crc32c,
    rng::Rng,
    sim::World,
};

/// Bytes of a recovery point that its checksum covers, and from one slot of it to the next.
const POINT_BYTES: usize = 72;
const SLOT_BYTES: usize = 512;
/// Where a batch's header says its length, its epoch, and its magic.
const LENGTH: u64 = 8;
const EPOCH: u64 = 12;
const MAGIC: u64 = 16;

/// A bit that was turned.
#[derive(Clone, Debug)]
pub(crate) struct Flip {
    file: PathBuf,
    /// Whether the log knew the batch to be durable.
    pub(crate) is_durable: bool,
}

/// Turns a bit of a batch in the log at `dir`, where there is one.
pub(crate) fn flip(world: &World, dir: &Path, rng: &mut Rng) -> Option<Flip> {
    let is_log = |path: &PathBuf| {
        path.parent() == Some(dir) && path.extension().is_some_and(|kind| kind == "log")
    };
    let logs: Vec<PathBuf> = world.disks.files().into_iter().filter(is_log).collect();
    let file = logs.get(rng.below(logs.len().max(1) as u64) as usize)?.clone();
    let batches = batches(&world.disks.content(&file)?);
    let place = batches.get(rng.below(batches.len().max(1) as u64) as usize)?.clone();
    let is_last = logs.last() == Some(&file);
    let is_below_point = place.end <= durable_bytes(world, dir, &file);
    let is_durable = !is_last || is_below_point;
    let (at, bytes) = match rng.below(8) {
        0 => (LENGTH, EPOCH - LENGTH),
        1 | 2 => (0, LENGTH),
        3 if is_below_point => (EPOCH, MAGIC - EPOCH),
        _ => (MAGIC, place.end - place.start - MAGIC),
    };
    let byte = place.start + at + rng.below(bytes);
    assert!(world.disks.flip_bit(&file, byte, rng.below(8) as u8), "it has that byte");
    let what = if is_durable { "below" } else { "above" };
    let file_name = file.display();
    world.trace.line(format_args!("a bit of {file_name} at {byte} turns, {what} the mark"));
    Some(Flip { file, is_durable })
}

/// Where the batches of a segment lie.
fn batches(content: &[u8]) -> Vec<Range<u64>> {
    let (mut at, mut found) = (0, Vec::new());
    while let Ok(header) = BatchHeader::parse(&content[at..])
        && batch::check(&content[at..], &header).is_ok()
    {
        let end = at + header.batch_bytes as usize;
        found.push(at as u64..end as u64);
        at = end;
    }
    found
}

/// Up to which byte the recovery point of the log at `dir` vouches for its segment `file`.
fn durable_bytes(world: &World, dir: &Path, file: &Path) -> u64 {
    let point = world.disks.content(&dir.join("recovery-point")).unwrap_or_default();
    let number = |slot: &[u8], at: usize| {
        u64::from_be_bytes(slot[at..at + 8].try_into().expect("eight bytes"))
    };
    let is_whole = |slot: &&[u8]| {
        slot.get(POINT_BYTES..POINT_BYTES + 4)
            .is_some_and(|crc| crc == crc32c(&[&slot[..POINT_BYTES]]).to_be_bytes())
    };
    let newest = point.chunks(SLOT_BYTES).filter(is_whole).max_by_key(|slot| number(slot, 8));
    let Some(slot) = newest else { return 0 };
    let name = format!("{:020}.log", number(slot, 32));
    match file.file_name().map(|file| file.cmp(name.as_ref())) {
        Some(Ordering::Less) => u64::MAX,
        Some(Ordering::Equal) => number(slot, 40),
        _ => 0,
    }
}

impl Flip {
    /// The batch was asked for: it must have been refused, with the file's name and what to do.
    pub(crate) fn check_refused<T>(&self, read: &Result<T, FetchError>) {
        let file = self.file.display();
        match read {
            Ok(_) => panic!("LOG-2: a damaged batch of `{file}` was served, or left out"),
            Err(error) => {
                let said = error.to_string();
                let is_named = said.contains(&format!("`{file}` is damaged at byte"));
                assert!(is_named, "LOG-2: `{file}` is damaged, and the reader is told: {said}");
                assert!(said.contains("flumen log repair"), "LOG-2: no remedy in: {said}");
            }
        }
    }
}
