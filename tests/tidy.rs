//! Style as a test.

#[test]
fn placeholder() {}
