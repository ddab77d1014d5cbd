//! No write of an era that is not the current one ever starts.

use flumen_runtime::disk::sim::Seen;

/// Looks at what the disk has met.
pub(crate) fn check(seen: &Seen) {
    assert_eq!(seen.stale, 0, "ERA-1: a superseded incarnation has written");
}

#[test]
#[should_panic(expected = "ERA-1")]
fn a_stale_write_is_found() {
    check(&Seen { stale: 1, ..Seen::default() });
}
