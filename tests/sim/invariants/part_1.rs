//! The marks of a partition stand in their order.

use flumen_actors::broker::partition::marks::Marks;

/// Looks at the marks of a partition that is open; the partition asserts the same (PART-1) itself,
/// but what it tells others is what counts.
pub(crate) fn check(marks: &Marks) {
    marks.check();
    assert!(marks.high_watermark <= marks.durable_end, "PART-1: readable before it is durable");
}
