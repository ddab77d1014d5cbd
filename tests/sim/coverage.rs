//! What a set of runs has met: runs that never met a fault have shown nothing.

use std::collections::BTreeMap;

use flumen_runtime::disk::sim::Seen;

/// Counts by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage(BTreeMap<&'static str, u64>);

impl Coverage {
    /// `what` was met `times` more.
    pub(crate) fn met(&mut self, what: &'static str, times: u64) {
        *self.0.entry(what).or_default() += times;
    }

    /// Takes over the counts of another run.
    pub(crate) fn add(&mut self, other: &Coverage) {
        for (what, times) in &other.0 {
            self.met(what, *times);
        }
    }

    /// Takes over what the disk met.
    pub(crate) fn disk(&mut self, seen: &Seen) {
        self.met("power cut", seen.crashes);
        self.met("kill", seen.kills);
        self.met("lost page", seen.lost_pages);
        self.met("torn page", seen.torn_pages);
        self.met("lost name", seen.lost_names);
        self.met("fenced write", seen.fenced);
        self.met("full disk", seen.full);
        self.met("write error", seen.write_errors);
        self.met("sync error", seen.sync_errors);
    }

    /// Fails as vacuous unless each of `wanted` was met.
    pub(crate) fn require(&self, wanted: &[&str]) {
        for what in wanted {
            let times = self.0.get(what).copied().unwrap_or(0);
            assert!(times > 0, "vacuous: no run met a {what}; all that was met: {:?}", self.0);
        }
    }
}
