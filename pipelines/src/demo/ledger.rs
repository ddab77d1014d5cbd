//! The account at the end: what was written against what each group has.

use std::{collections::BTreeMap, fmt, io, path::Path};

use flumen_runtime::latency::{self, Latency};
use indicatif::HumanCount;
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
        writeln!(f, "killed   {}\n", self.killed.join("  "))?;
        writeln!(f, "account        lines       lost    doubled")?;
        let (written, rotations) = (HumanCount(self.written), self.rotations);
        writeln!(
            f,
            "written  {:>11}                        rotated: {rotations}",
            written.to_string()
        )?;
        for (name, group) in &self.groups {
            let [delivered, lost, doubled] = [group.delivered, group.lost, group.doubled]
                .map(|number| HumanCount(number).to_string());
            writeln!(f, "{name:<8} {delivered:>11} {lost:>10} {doubled:>10}")?;
        }
        let series: Vec<(&str, &Latency)> =
            self.groups.iter().map(|(name, group)| (*name, &group.latency)).collect();
        write!(
            f,
            "\nfrom when a line was due to when the group had read it\n{}",
            latency::table(&series)
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn line(number: u64, status: u16) -> Line {
        Line { number, due: Duration::ZERO, status }
    }

    fn written() -> Written {
        let written = Written::default();
        written.note(&[line(0, 200), line(1, 200), line(2, 404)]);
        written
    }

    /// The account of the group that adds up, where it was given `lines`.
    fn counted(lines: &[Line]) -> GroupLedger {
        let tally = Tally::default();
        let mut sums = BTreeMap::new();
        for line in lines {
            for (name, amount) in super::super::sums_of(*line) {
                let sum: &mut u64 = sums.entry(name).or_default();
                *sum = sum.wrapping_add(amount);
            }
        }
        tally.set_all(sums);
        of_counts(&written(), &tally, Latency::new()).1
    }

    /// The account of the group that writes files, where its files hold `lines`.
    fn filed(lines: &[Line]) -> GroupLedger {
        let dir = tempfile::tempdir().unwrap();
        let mut text = Vec::new();
        lines.iter().for_each(|line| line.write(&mut text));
        std::fs::write(dir.path().join("part-access-0-0-9"), text).unwrap();
        of_files(&written(), dir.path(), Latency::new()).unwrap().1
    }

    fn numbers(group: &GroupLedger) -> (u64, u64, u64) {
        (group.delivered, group.lost, group.doubled)
    }

    fn is_clean(group: GroupLedger) -> bool {
        Ledger::new(&written(), Vec::new(), vec![("g", group)]).is_clean()
    }

    #[test]
    fn what_was_delivered_once_is_clean() {
        let all = [line(2, 404), line(0, 200), line(1, 200)];
        for group in [counted(&all), filed(&all)] {
            assert_eq!(numbers(&group), (3, 0, 0));
            assert!(is_clean(group));
        }
    }

    #[test]
    fn a_lost_line_is_found() {
        let less = [line(0, 200), line(2, 404)];
        for group in [counted(&less), filed(&less)] {
            assert_eq!(numbers(&group), (2, 1, 0));
            assert!(!is_clean(group));
        }
    }

    #[test]
    fn a_doubled_line_is_found() {
        let more = [line(0, 200), line(1, 200), line(2, 404), line(2, 404)];
        for group in [counted(&more), filed(&more)] {
            assert_eq!(numbers(&group), (4, 0, 1));
            assert!(!is_clean(group));
        }
    }

    #[test]
    fn a_line_that_stands_for_another_is_found() {
        let other = [line(0, 200), line(0, 200), line(2, 404)];
        for group in [counted(&other), filed(&other)] {
            assert_eq!(numbers(&group), (3, 1, 1));
            assert!(!is_clean(group));
        }
        let nothing = Ledger::new(&Written::default(), Vec::new(), Vec::new());
        assert!(!nothing.is_clean(), "nothing written proves nothing");
    }
}
