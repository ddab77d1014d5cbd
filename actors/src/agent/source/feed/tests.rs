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
