//! The position of a followed file and its events move together (TAIL-1): so in the end each line
//! stands in the topic once, and within a partition the lines of a log stand in their order.

use std::collections::BTreeMap;

use crate::oracle::Value;

/// Looks at what each partition holds, where the logs had `written` lines.
pub(crate) fn check<'a>(written: &[u64], partitions: impl Iterator<Item = &'a [(u64, Value)]>) {
    let mut found: Vec<Vec<bool>> =
        written.iter().map(|lines| vec![false; *lines as usize]).collect();
    for partition in partitions {
        let mut last: BTreeMap<u32, u64> = BTreeMap::new();
        for (offset, line) in partition {
            if let Some(before) = last.insert(line.producer, line.number) {
                assert!(before < line.number, "TAIL-1: {line:?} at {offset} after {before}");
            }
            let seen = found.get_mut(line.producer as usize);
            let seen = seen.and_then(|lines| lines.get_mut(line.number as usize));
            let seen = seen.unwrap_or_else(|| panic!("TAIL-1: nobody wrote {line:?}"));
            assert!(!std::mem::replace(seen, true), "TAIL-1: {line:?} is there twice, at {offset}");
        }
    }
    for (log, lines) in found.iter().enumerate() {
        let lost = lines.iter().position(|found| !found);
        assert_eq!(lost, None, "TAIL-1: a line of log {log} was lost, of {}", lines.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u64) -> (u64, Value) {
        (number, Value { producer: 0, number })
    }

    #[test]
    #[should_panic(expected = "lost")]
    fn a_lost_line_is_found() {
        check(&[2], [&[line(0)][..]].into_iter());
    }

    #[test]
    #[should_panic(expected = "twice")]
    fn a_line_in_two_partitions_is_found() {
        check(&[1], [&[line(0)][..], &[line(0)][..]].into_iter());
    }

    #[test]
    #[should_panic(expected = "after")]
    fn a_line_out_of_order_is_found() {
        check(&[2], [&[line(1), line(0)][..]].into_iter());
    }
}
