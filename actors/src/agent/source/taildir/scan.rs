//! Looking for files: what the patterns match, and the rotated siblings of that.
//!
//! A directory is not read at one moment: while a scan goes through it, names move. So a scan is
//! only a list of hints; who a file is, is asked of the file once it is open, and what one scan
//! misses the next one finds.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use crate::agent::source::taildir::{
    files::Files,
    state::{Sighting, Tail},
};

/// Endings of names that are no log, whatever they match: compressed logs, and what editors and
/// copies leave.
pub const IGNORED_SUFFIXES: [&str; 11] =
    [".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip", ".Z", ".swp", ".tmp", ".part", "~"];

/// What kept a scan or a read from a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The path, or the pattern.
    pub what: String,
    /// What happened.
    pub why: String,
}

/// Every path worth a look, rotated siblings first.
pub fn scan<F: Files>(
    files: &mut F,
    patterns: &[String],
    tail: &Tail,
    troubles: &mut Vec<Trouble>,
) -> Vec<Sighting> {
    let matched = matching(files, patterns, troubles);
    let mut families = tail.families();
    families.extend(matched.iter().cloned());
    // A pattern without wildcards names its file even while that is missing between two rotations.
    families.extend(patterns.iter().filter(|p| !p.contains(['*', '?', '['])).map(PathBuf::from));
    let mut seen = siblings(files, &families, &matched, tail, troubles);
    for path in matched {
        // Gone since it was listed: it has another name by now.
        if let Ok(stat) = files.stat(&path) {
            seen.push(Sighting { family: path.clone(), path, is_matched: true, stat });
        }
    }
    seen
}

fn matching<F: Files>(
    files: &mut F,
    patterns: &[String],
    troubles: &mut Vec<Trouble>,
) -> BTreeSet<PathBuf> {
    let mut matched = BTreeSet::new();
    for pattern in patterns {
        match files.glob(pattern) {
            Ok(paths) => matched.extend(
                paths.into_iter().filter(|path| !is_ignored(&path.to_string_lossy(), pattern)),
            ),
            Err(error) => {
                troubles.push(Trouble { what: pattern.clone(), why: error.to_string() });
            }
        }
    }
    matched
}

/// Whether a name is ignored, unless `pattern` asks for just that ending.
fn is_ignored(name: &str, pattern: &str) -> bool {
    IGNORED_SUFFIXES.iter().any(|suffix| name.ends_with(suffix) && !pattern.ends_with(suffix))
}

fn siblings<F: Files>(
    files: &mut F,
    families: &BTreeSet<PathBuf>,
    matched: &BTreeSet<PathBuf>,
    tail: &Tail,
    troubles: &mut Vec<Trouble>,
) -> Vec<Sighting> {
    let known = tail.known_inodes();
    let mut by_dir: BTreeMap<&Path, BTreeSet<String>> = BTreeMap::new();
    for family in families {
        if let (Some(dir), Some(name)) = (family.parent(), family.file_name()) {
            by_dir.entry(dir).or_default().insert(name.to_string_lossy().into_owned());
        }
    }
    let mut seen = Vec::new();
    for (dir, bases) in by_dir {
        let names = match files.list(dir) {
            Ok(names) => names,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                let what = dir.display().to_string();
                troubles.push(Trouble { what, why: error.to_string() });
                continue;
            }
        };
        for (name, inode) in names {
            let base = rotated_from(&name, &bases).filter(|_| tail.reads_rotated());
            let path = dir.join(&name);
            if matched.contains(&path) || (base.is_none() && !known.contains(&inode)) {
                continue;
            }
            let Ok(stat) = files.stat(&path) else { continue };
            let family = base.map_or_else(|| path.clone(), |base| dir.join(base));
            seen.push(Sighting { path, family, is_matched: false, stat });
        }
    }
    seen
}

/// The longest of `bases` that `name` continues after a separator: `access.log` for
/// `access.log.1` and `access.log-20260101`, nothing for `access.logs`.
fn rotated_from<'a>(name: &str, bases: &'a BTreeSet<String>) -> Option<&'a String> {
    if is_ignored(name, "") {
        return None;
    }
    let mut separators = name.rmatch_indices(['.', '-', '_', '@', '+']);
    separators.find_map(|(at, _)| bases.get(&name[..at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sibling_continues_a_base_after_a_separator() {
        let bases = BTreeSet::from(["access.log".to_owned(), "access".to_owned()]);
        let base = |name| rotated_from(name, &bases).map(String::as_str);
        assert_eq!(base("access.log.1"), Some("access.log"));
        assert_eq!(base("access.log-20260101"), Some("access.log"));
        assert_eq!(base("access.logs"), Some("access"));
        assert_eq!(base("accessory.log"), None);
        assert_eq!(base("access.log.2.gz"), None);
        assert_eq!(base("access.log~"), None);
    }

    #[test]
    fn a_compressed_file_is_read_only_where_the_pattern_asks_for_it() {
        assert!(is_ignored("a.log.gz", "a.log*"));
        assert!(!is_ignored("a.log.gz", "*.gz"));
    }
}
