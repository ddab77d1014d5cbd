//! One simulated file: for each page what a reader sees, what is durable, and what lies between.
//!
//! ```text
//!   write 3 ─┐ write 4 ─┐          sync(upto = 4) makes version 4 the durable one;
//!   durable  [3]        [4] [7]    a power cut leaves durable, 3, 4 or 7, or a mix of two by sector
//!            └─ pending versions ┘ └─ 7 = cached, what a reader sees
//! ```
//!
//! The length has versions of its own: a page may survive without the length that shows it, and
//! the length without the page, which then reads as zeros.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
};

use bytes::{Bytes, BytesMut};

use super::faults::Seen;
use crate::rng::Rng;

/// Bytes of a page, the unit of the cache.
pub(super) const PAGE_BYTES: usize = 4096;
/// Bytes of a sector, the unit that a power cut leaves whole.
const SECTOR_BYTES: usize = 512;
/// Versions of a page that are told apart; the oldest beyond it are as good as never landed.
const VERSIONS_MAX: usize = 8;

type Page = Arc<[u8; PAGE_BYTES]>;

static ZEROS: LazyLock<Page> = LazyLock::new(|| Arc::new([0; PAGE_BYTES]));

/// Order of changes in the world: a sync covers those up to its own.
pub(super) type Stamp = u64;

struct Slot {
    cached: Page,
    durable: Page,
    pending: Vec<(Stamp, Page)>,
}

impl Slot {
    fn hole() -> Slot {
        Slot { cached: ZEROS.clone(), durable: ZEROS.clone(), pending: Vec::new() }
    }
}

/// One file.
#[derive(Default)]
pub(super) struct SimFile {
    /// Pages that were ever written; the others are zeros.
    slots: BTreeMap<u64, Slot>,
    /// Pages with pending versions.
    dirty: BTreeSet<u64>,
    len: u64,
    /// Up to where blocks were found for it.
    reserved: u64,
    durable_len: u64,
    pending_lens: Vec<(Stamp, u64)>,
    /// Syncs in flight: no version that they cover may be forgotten.
    pub(super) syncs_in_flight: u32,
}

impl SimFile {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes that it occupies.
    pub(super) fn allocated(&self) -> u64 {
        let pages = self.len.div_ceil(PAGE_BYTES as u64).min(self.slots.len() as u64);
        pages.max(self.reserved.div_ceil(PAGE_BYTES as u64)) * PAGE_BYTES as u64
    }

    pub(super) fn reserve(&mut self, position: u64, len: u64) {
        self.reserved = self.reserved.max(position.saturating_add(len));
    }

    pub(super) fn read(&self, position: u64, len: usize) -> Bytes {
        let end = position.saturating_add(len as u64).min(self.len);
        let mut out = BytesMut::with_capacity(end.saturating_sub(position) as usize);
        let mut at = position;
        while at < end {
            let (page, offset, count) = span(at, end);
            match self.slots.get(&page) {
                Some(slot) => out.extend_from_slice(&slot.cached[offset..offset + count]),
                None => out.extend_from_slice(&ZEROS[offset..offset + count]),
            }
            at += count as u64;
        }
        out.freeze()
    }

    pub(super) fn write(&mut self, position: u64, bytes: &[u8], stamp: Stamp) {
        if bytes.is_empty() {
            return;
        }
        let end = position + bytes.len() as u64;
        let mut at = position;
        while at < end {
            let (page, offset, count) = span(at, end);
            let from = (at - position) as usize;
            self.change(page, stamp, |slot| {
                slot[offset..offset + count].copy_from_slice(&bytes[from..from + count]);
            });
            at += count as u64;
        }
        self.grow_to(end, stamp);
    }

    pub(super) fn zero(&mut self, position: u64, len: u64, stamp: Stamp) {
        if len == 0 {
            return;
        }
        let end = position + len;
        self.blank(position, end, stamp);
        self.grow_to(end, stamp);
    }

    pub(super) fn truncate(&mut self, len: u64, stamp: Stamp) {
        let last =
            self.slots.last_key_value().map_or(0, |(page, _)| (page + 1) * PAGE_BYTES as u64);
        if len < last {
            self.blank(len, last, stamp);
        }
        self.set_len(len, stamp);
        self.reserved = self.reserved.min(len);
    }

    /// Makes durable what had been changed up to `upto`.
    pub(super) fn sync(&mut self, upto: Stamp) {
        self.settle(upto, true);
    }

    /// A sync that failed: what it covered counts as clean and never reaches the disk.
    pub(super) fn lose(&mut self, upto: Stamp) {
        self.settle(upto, false);
    }

    /// What is clean, from byte `from` on, is read from the disk again.
    pub(super) fn forget(&mut self, from: u64) {
        let rest = self.slots.range_mut(from / PAGE_BYTES as u64..);
        for (_, slot) in rest.filter(|(_, slot)| slot.pending.is_empty()) {
            slot.cached = slot.durable.clone();
        }
    }

    /// The power goes. Counts into `seen` what is lost.
    pub(super) fn crash(&mut self, rng: &mut Rng, tears: bool, seen: &mut Seen) {
        // Whole files lost or kept are the plain cases; they must stay common beside the mixed one.
        let fate = rng.below(4);
        let pick = |rng: &mut Rng, versions: usize| match fate {
            0 => 0,
            1 => versions,
            _ => rng.below(versions as u64 + 1) as usize,
        };
        if !self.pending_lens.is_empty() {
            match pick(rng, self.pending_lens.len()) {
                0 => {}
                version => self.durable_len = self.pending_lens[version - 1].1,
            }
        }
        for page in std::mem::take(&mut self.dirty) {
            let slot = self.slots.get_mut(&page).expect("a dirty page has a slot");
            let chosen = pick(rng, slot.pending.len());
            seen.lost_pages += u64::from(chosen < slot.pending.len());
            let version = |index: usize| match index {
                0 => slot.durable.clone(),
                _ => slot.pending[index - 1].1.clone(),
            };
            let mut survivor = version(chosen);
            if tears && fate > 1 && rng.chance(1, 2) {
                let other = version(rng.below(slot.pending.len() as u64 + 1) as usize);
                seen.torn_pages += u64::from(other != survivor);
                tear(Arc::make_mut(&mut survivor), &other, rng);
            }
            slot.durable = survivor;
        }
        self.pending_lens.clear();
        self.len = self.durable_len;
        self.syncs_in_flight = 0;
        self.forget_cache();
    }

    pub(super) fn flip_bit(&mut self, byte: u64, bit: u8) -> bool {
        if byte >= self.len {
            return false;
        }
        let (page, offset, _) = span(byte, byte + 1);
        let slot = self.slots.entry(page).or_insert_with(Slot::hole);
        for version in std::iter::once(&mut slot.cached)
            .chain(std::iter::once(&mut slot.durable))
            .chain(slot.pending.iter_mut().map(|(_, version)| version))
        {
            Arc::make_mut(version)[offset] ^= 1 << (bit % 8);
        }
        true
    }

    fn change(&mut self, page: u64, stamp: Stamp, edit: impl FnOnce(&mut [u8; PAGE_BYTES])) {
        let slot = self.slots.entry(page).or_insert_with(Slot::hole);
        edit(Arc::make_mut(&mut slot.cached));
        self.keep_version(page, stamp);
    }

    fn keep_version(&mut self, page: u64, stamp: Stamp) {
        let slot = self.slots.get_mut(&page).expect("the caller has just changed it");
        if slot.pending.len() >= VERSIONS_MAX && self.syncs_in_flight == 0 {
            slot.pending.remove(0);
        }
        slot.pending.push((stamp, slot.cached.clone()));
        self.dirty.insert(page);
    }

    /// Zeros from `position` to `end`, sharing one page of zeros.
    fn blank(&mut self, position: u64, end: u64, stamp: Stamp) {
        let mut at = position;
        while at < end {
            let (page, offset, count) = span(at, end);
            if count == PAGE_BYTES {
                self.slots.entry(page).or_insert_with(Slot::hole).cached = ZEROS.clone();
                self.keep_version(page, stamp);
            } else {
                self.change(page, stamp, |slot| slot[offset..offset + count].fill(0));
            }
            at += count as u64;
        }
    }

    fn grow_to(&mut self, end: u64, stamp: Stamp) {
        if end > self.len {
            self.set_len(end, stamp);
        }
    }

    fn set_len(&mut self, len: u64, stamp: Stamp) {
        if len != self.len {
            self.len = len;
            self.pending_lens.push((stamp, len));
        }
    }

    fn settle(&mut self, upto: Stamp, durable: bool) {
        let slots = &mut self.slots;
        self.dirty.retain(|page| {
            let slot = slots.get_mut(page).expect("a dirty page has a slot");
            let covered = slot.pending.partition_point(|(stamp, _)| *stamp <= upto);
            if let Some((_, version)) = slot.pending.drain(..covered).next_back()
                && durable
            {
                slot.durable = version;
            }
            !slot.pending.is_empty()
        });
        let covered = self.pending_lens.partition_point(|(stamp, _)| *stamp <= upto);
        if let Some((_, len)) = self.pending_lens.drain(..covered).next_back()
            && durable
        {
            self.durable_len = len;
        }
    }

    /// What is durable is all there is; what lies past the end reads as zeros when it grows again.
    fn forget_cache(&mut self) {
        let len = self.len;
        self.slots.retain(|page, _| page * (PAGE_BYTES as u64) < len);
        for (page, slot) in &mut self.slots {
            let kept = (len - page * PAGE_BYTES as u64).min(PAGE_BYTES as u64) as usize;
            if kept < PAGE_BYTES {
                Arc::make_mut(&mut slot.durable)[kept..].fill(0);
            }
            slot.pending.clear();
            slot.cached = slot.durable.clone();
        }
    }
}

/// The page of byte `at`, where in the page it lies, and how many bytes up to `end` the page holds.
fn span(at: u64, end: u64) -> (u64, usize, usize) {
    let page = at / PAGE_BYTES as u64;
    let offset = (at % PAGE_BYTES as u64) as usize;
    let count = (PAGE_BYTES - offset).min((end - at) as usize);
    (page, offset, count)
}

fn tear(page: &mut [u8; PAGE_BYTES], other: &[u8; PAGE_BYTES], rng: &mut Rng) {
    let mask = rng.next_u64();
    for sector in 0..PAGE_BYTES / SECTOR_BYTES {
        if mask >> sector & 1 == 1 {
            let bytes = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
            page[bytes.clone()].copy_from_slice(&other[bytes]);
        }
    }
}
