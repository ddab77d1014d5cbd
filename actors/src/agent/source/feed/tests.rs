//! What each channel gets when they do not stand at the same place.

use super::*;

fn at(mark: u64) -> PositionBytes {
    PositionBytes(mark.to_le_bytes().to_vec())
}

fn mark_of(bytes: &PositionBytes) -> Option<u64> {
    bytes.0.as_slice().try_into().ok().map(u64::from_le_bytes)
}

fn position(parts: &[(&str, u64)]) -> Position {
    parts.iter().map(|(part, mark)| ((*part).to_owned(), at(*mark))).collect()
}

#[test]
fn the_source_goes_on_from_what_the_channels_have_least_of() {
    let (one, two) = (position(&[("a", 5), ("b", 2), ("c", 9)]), position(&[("a", 3), ("b", 2)]));
    let lowest = lowest(&[&one, &two], mark_of);
    assert_eq!(lowest, position(&[("a", 3), ("b", 2)]), "one of them has nothing of c");
    let ahead = BTreeMap::from([("a".to_owned(), 5), ("c".to_owned(), 9)]);
    assert_eq!(ahead_of(&one, &lowest, mark_of), ahead);
    assert_eq!(ahead_of(&two, &lowest, mark_of), BTreeMap::new());
}

#[test]
fn what_has_no_number_is_taken_from_whoever_has_it() {
    let started = Position::from([("started".to_owned(), PositionBytes(vec![1]))]);
    assert_eq!(lowest(&[&Position::new(), &started], mark_of), started);
}

fn event(part: &str, end: u64) -> (Event, Mark) {
    (Event::new(format!("{part}{end}")), Mark { part: part.into(), end })
}

/// A feed of two channels that do not exist, the first of them ahead in `f`.
fn spared(batch: &Batch, is_same: fn(&PositionBytes, &PositionBytes) -> bool) -> usize {
    let mut ahead = Ahead::new(position(&[("f", 9)]), &position(&[("f", 3)]), mark_of);
    let advance = Advance { source: "s".into(), parts: batch.parts.clone() };
    ahead.forget(&batch.anew, &advance, Reading { mark_of, is_same });
    batch.events.len() - ahead.spare(&batch.events).len()
}

#[test]
fn a_channel_that_is_ahead_is_spared_what_it_has_of_the_same_file_and_nothing_of_another() {
    let events = vec![event("f", 5), event("f", 9), event("f", 12)];
    let moved = vec![("f".to_owned(), Some(at(12)))];
    let batch = Batch { events, parts: moved, anew: Vec::new() };
    assert_eq!(spared(&batch, |_, _| true), 2);
    assert_eq!(spared(&batch, |_, _| false), 0, "its inode is another file's now");
    let cut = Batch { anew: vec!["f".to_owned()], ..batch };
    assert_eq!(spared(&cut, |_, _| true), 0, "it was cut, and written anew");
}
