//! How many files and connections the process may have open at once.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Fewer than these are soon used up: a partition has three files open, a connection takes two.
const ENOUGH: u64 = 16_384;

/// Takes all that this user may have: the soft limit is for programs that count in bits of a word.
/// Where that is little, what it means and what to do.
#[must_use]
pub fn allow_as_many_as_may_be() -> Option<String> {
    let before = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: before.maximum, maximum: before.maximum };
    // Where it is refused, the limit that stands is told.
    let _ = setrlimit(Resource::Nofile, wanted);
    complaint(getrlimit(Resource::Nofile).current)
}

/// Most connections there may be, so that logs always find files to open: they get half of all.
#[must_use]
pub fn connections_cap() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit / 4).unwrap_or(usize::MAX)
}

/// No limit at all is enough.
fn complaint(limit: Option<u64>) -> Option<String> {
    let limit = limit.filter(|limit| *limit < ENOUGH)?;
    Some(format!(
        "only {limit} files may be open at once: at most {} connections are taken, and beside them there is \
         room for about {} partitions; raise it with `ulimit -n {ENOUGH}` or `LimitNOFILE=`",
        limit / 4,
        limit / 6
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one_and_little_is_said_in_words() {
        let _ = allow_as_many_as_may_be();
        let now = getrlimit(Resource::Nofile);
        assert_eq!(now.current, now.maximum);
        assert_eq!(complaint(None), None);
        assert_eq!(complaint(Some(ENOUGH)), None);
        let complaint = complaint(Some(1_024)).unwrap();
        for words in
            ["only 1024 files", "at most 256 connections", "about 170 partitions", "ulimit -n"]
        {
            assert!(complaint.contains(words), "{complaint}");
        }
    }
}
