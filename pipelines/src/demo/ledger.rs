//! The account at the end: what was written against what each group has.

use std::{collections::BTreeMap, fmt, io, path::Path};

use flumen_runtime::latency::{self, Latency};
use serde::Serialize;

use super::{Line, Tally, Written};

/// What one group has, against what was written.
#[derive(Clone, Debug, Serialize)]
pub struct GroupLedger {
    /// Records that the group accounts for.
    pub delivered: u64,
    /// Written, and not accounted for.
    pub lost: u64,
    /// Accounted for more than once, or never written.
    pub doubled: u64,
    /// From the moment a line was due to the moment the group had read it.
    #[serde(skip)]
    latency: Latency,
}

/// The account of a demonstration.
#[derive(Clone, Debug)]
pub struct Ledger {
    written: u64,
    rotations: u64,
    killed: Vec<String>,
    groups: BTreeMap<&'static str, GroupLedger>,
}

/// The account of the group that adds up: by status, and by the sum of the lines' numbers, which a
/// lost line and a doubled one of the same status do not leave right.
pub(super) fn of_counts(
    written: &Written,
    tally: &Tally,
    latency: Latency,
) -> (&'static str, GroupLedger) {
    let (mut wanted, mut counted) = (written.sums(), tally.total());
    let sums_agree = wanted.remove("numbers") == counted.remove("numbers");
    let (mut lost, mut doubled) = (0, 0);
    for status in wanted.keys().chain(counted.keys()).collect::<std::collections::BTreeSet<_>>() {
        let of = |sums: &BTreeMap<String, u64>| sums.get(status).copied().unwrap_or(0);
        lost += of(&wanted).saturating_sub(of(&counted));
        doubled += of(&counted).saturating_sub(of(&wanted));
    }
    if lost == 0 && doubled == 0 && !sums_agree {
        // As many as there should be, but not the same: at least one of each.
        (lost, doubled) = (1, 1);
    }
    ("count", GroupLedger { delivered: counted.values().sum(), lost, doubled, latency })
}

/// The account of the group that writes files: every line of every file is looked at.
pub(super) fn of_files(
    written: &Written,
    parts: &Path,
    latency: Latency,
) -> io::Result<(&'static str, GroupLedger)> {
    let mut times = vec![0_u32; usize::try_from(written.lines()).unwrap_or(0)];
    let (mut delivered, mut doubled) = (0, 0);
    for entry in std::fs::read_dir(parts)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with("part-") {
            continue;
        }
        for line in
            std::fs::read(entry.path())?.split(|byte| *byte == b'\n').filter(|l| !l.is_empty())
        {
            delivered += 1;
            let number = Line::parse(line).and_then(|line| usize::try_from(line.number).ok());
            match number.and_then(|number| times.get_mut(number)) {
                Some(0) => times[number.unwrap_or(0)] = 1,
                _ => doubled += 1,
            }
        }
    }
    let lost = times.iter().filter(|times| **times == 0).count() as u64;
    Ok(("files", GroupLedger { delivered, lost, doubled, latency }))
}

impl Ledger {
    pub(super) fn new(
        written: &Written,
        killed: Vec<String>,
        groups: Vec<(&'static str, GroupLedger)>,
    ) -> Self {
        Self {
            written: written.lines(),
            rotations: written.rotations(),
            killed,
            groups: groups.into_iter().collect(),
        }
    }

    /// Whether every line was delivered to every group, once.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.written > 0
            && self.groups.values().all(|group| {
                group.lost == 0 && group.doubled == 0 && group.delivered == self.written
            })
    }

    /// The latencies as a percentile plot, in SVG.
    #[must_use]
    pub fn plot(&self) -> String {
        let series: Vec<(&str, &Latency)> =
            self.groups.iter().map(|(name, group)| (*name, &group.latency)).collect();
        latency::plot_svg(&series)
    }

    /// One JSON object: `written`, `killed`, `groups` and `latency_us`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let micros = |latency: &Latency| {
            let of = |duration: std::time::Duration| duration.as_micros() as u64;
            serde_json::json!({
                "p50": of(latency.p50()), "p99": of(latency.p99()), "p99.9": of(latency.p999()),
                "max": of(latency.max()),
            })
        };
        let latency: BTreeMap<_, _> =
            self.groups.iter().map(|(name, group)| (*name, micros(&group.latency))).collect();
        serde_json::json!({
            "written": self.written,
            "rotations": self.rotations,
            "killed": self.killed,
            "groups": self.groups,
            "latency_us": latency,
        })
        .to_string()
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "written   {:>10} lines, {} rotations", self.written, self.rotations)?;
        writeln!(f, "killed    {}", self.killed.join(", "))?;
        for (name, group) in &self.groups {
            let GroupLedger { delivered, lost, doubled, .. } = group;
            writeln!(f, "{name:<9} {delivered:>10} delivered, {lost} lost, {doubled} doubled")?;
        }
        let series: Vec<(&str, &Latency)> =
            self.groups.iter().map(|(name, group)| (*name, &group.latency)).collect();
        write!(f, "\nfrom due to read\n{}", latency::table(&series))
    }
}
