//! The marks of a partition stand in their order (PART-1), and only a lazy topic is readable before
//! it is durable (PART-6).

use flumen_actors::broker::partition::marks::Marks;
#[cfg(test)]
use flumen_runtime::ids::Offset;

/// Looks at the marks of a partition that is open; the partition asserts the same (PART-1) itself,
/// but what it tells others is what counts.
pub(crate) fn check(marks: &Marks, is_lazy: bool) {
    marks.check();
    let is_durable = marks.high_watermark <= marks.durable_end;
    assert!(is_durable || is_lazy, "PART-6: readable before it is durable: {marks:?}");
}

#[test]
#[should_panic(expected = "PART-6")]
fn a_mark_that_is_ahead_of_the_disk_is_found() {
    let ahead = Marks { high_watermark: Offset(1), log_end: Offset(1), ..Marks::default() };
    check(&ahead, true);
    check(&ahead, false);
}
