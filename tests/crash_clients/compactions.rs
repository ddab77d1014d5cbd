//! Whether the node compacts between its ends: without that nothing is shown of it.

use std::{collections::BTreeMap, fs, path::Path};

use crate::crowd::COMPACTED;

/// The file of a partition that says how far it is compacted.
const MARK: &str = "compaction-point";

/// What was found at each end of the node.
#[derive(Debug, Default)]
pub(crate) struct Compactions {
    marks: BTreeMap<&'static str, Vec<u8>>,
    /// How often a partition was compacted further than at the end before.
    pub(crate) done: u32,
    /// Compactions that an end has cut short, as files tell that would be gone otherwise.
    pub(crate) cut_short: usize,
}

impl Compactions {
    /// Looks at the directory of a node that has ended.
    pub(crate) fn look(&mut self, data: &Path) {
        for partition in COMPACTED {
            // Before the first start there is nothing.
            let Ok(entries) = fs::read_dir(data.join(partition)) else { continue };
            let names = entries.flatten().map(|entry| entry.file_name());
            let is_left = |name: &std::ffi::OsString| {
                name.to_str()
                    .is_some_and(|name| name.ends_with(".cleaned") || name.ends_with(".swap"))
            };
            self.cut_short += usize::from(names.into_iter().any(|name| is_left(&name)));
            let mark = fs::read(data.join(partition).join(MARK)).unwrap_or_default();
            let before = self.marks.insert(partition, mark);
            self.done += u32::from(before.is_some_and(|before| before != self.marks[partition]));
        }
    }
}
