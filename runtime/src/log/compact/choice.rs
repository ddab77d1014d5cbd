//! Whether a log is to be compacted now, and up to where.

use std::collections::VecDeque;

use super::super::{config::Compaction, segment::Segment};
use crate::ids::Offset;

/// The marks between which a log may be compacted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Up to here each key's last record is the only one.
    pub(crate) cleaned_to: Offset,
    /// The recovery point's segment: from there on batches may still be lost.
    pub(crate) point: Offset,
    /// From here on transactions are undecided, or records not committed.
    pub(crate) stable_end: Offset,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Nothing yet.
    NotYet,
    /// The age of the segment at this base matters and is not known.
    Look(Offset),
    /// There would be enough to do if the recovery point were not in its way.
    MovePoint,
    /// Keys from the first offset on are to be noted, and segments below the second compacted.
    Clean(Offset, Offset),
}

/// Chooses for `closed` segments at `now_ms`.
pub(crate) fn choose(
    closed: &VecDeque<Segment>,
    bounds: Bounds,
    how: &Compaction,
    now_ms: i64,
) -> Choice {
    let end = match old_enough(closed, bounds.stable_end, how, now_ms) {
        Ok(end) => end,
        Err(look) => return look,
    };
    let below_point = end.min(closed.partition_point(|segment| segment.base < bounds.point));
    let from = bounds.cleaned_to.max(closed.front().map_or(Offset::ZERO, |first| first.base));
    for (count, is_held) in [(below_point, false), (end, true)] {
        let segments = closed.iter().take(count);
        let (mut clean, mut dirty, mut first) = (0, 0, None);
        for segment in segments {
            if segment.end <= from {
                clean += segment.size;
            } else {
                dirty += segment.size;
                first = first.or(Some(segment));
            }
        }
        let Some(first) = first else { continue };
        let is_enough = dirty * 1000 >= u64::from(how.dirty_permille_min) * (clean + dirty);
        let is_due = match is_enough {
            true => true,
            false => match is_overdue(first, how, now_ms) {
                Ok(is_overdue) => is_overdue,
                Err(look) => return look,
            },
        };
        if is_due && is_held {
            return Choice::MovePoint;
        }
        if is_due {
            return Choice::Clean(from, closed[count - 1].end);
        }
    }
    Choice::NotYet
}

/// How many of the oldest segments are decided, and older than every record must become.
fn old_enough(
    closed: &VecDeque<Segment>,
    stable_end: Offset,
    how: &Compaction,
    now_ms: i64,
) -> Result<usize, Choice> {
    let decided = closed.partition_point(|segment| segment.end <= stable_end);
    if how.lag_min_ms == 0 {
        return Ok(decided);
    }
    for (place, segment) in closed.iter().take(decided).enumerate() {
        let (newest, _) = segment.newest.ok_or_else(|| look(segment))?;
        if now_ms.saturating_sub(newest) < i64::try_from(how.lag_min_ms).unwrap_or(i64::MAX) {
            return Ok(place);
        }
    }
    Ok(decided)
}

/// Whether `first`, the oldest segment that was never compacted, has waited too long: since it was
/// begun, or, where a restart has forgotten that, since its newest record.
fn is_overdue(first: &Segment, how: &Compaction, now_ms: i64) -> Result<bool, Choice> {
    let Ok(lag_max_ms) = i64::try_from(how.lag_max_ms) else { return Ok(false) };
    let since = match (first.begun_ms, first.newest) {
        (Some(begun), _) => begun,
        (None, Some((newest, _))) => newest,
        (None, None) => return Err(look(first)),
    };
    Ok(now_ms.saturating_sub(since) >= lag_max_ms)
}

fn look(segment: &Segment) -> Choice {
    Choice::Look(segment.base)
}

/// The next segments that are compacted into one: from the one that begins at `from` on, below
/// `end`, as many as fit into `bytes_max`; their bases and sizes. Empty where there is none.
pub(crate) fn next_group(
    closed: &VecDeque<Segment>,
    from: Offset,
    end: Offset,
    bytes_max: u64,
) -> Vec<(Offset, u64)> {
    let begin = closed.partition_point(|segment| segment.base < from);
    let mut group: Vec<(Offset, u64)> = Vec::new();
    let mut bytes = 0;
    for segment in closed.iter().skip(begin).take_while(|segment| segment.base < end) {
        let first = group.first().map_or(segment.base, |(base, _)| *base);
        let fits = bytes + segment.size <= bytes_max.min(i32::MAX as u64)
            && segment.end.since(first) <= i32::MAX as u64;
        if !group.is_empty() && !fits {
            break;
        }
        bytes += segment.size;
        group.push((segment.base, segment.size));
    }
    group
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(all: &[(u64, u64, u64, i64)]) -> VecDeque<Segment> {
        let make = |(base, end, size, newest): &(u64, u64, u64, i64)| Segment {
            end: Offset(*end),
            size: *size,
            newest: Some((*newest, Offset(end - 1))),
            ..Segment::new(Offset(*base))
        };
        all.iter().map(make).collect()
    }

    fn bounds(cleaned_to: u64) -> Bounds {
        let far = Offset(1_000);
        Bounds { cleaned_to: Offset(cleaned_to), point: far, stable_end: far }
    }

    #[test]
    fn enough_must_be_new() {
        let closed = segments(&[(0, 10, 600, 5), (10, 20, 300, 6), (20, 30, 100, 7)]);
        let how = Compaction::default();
        let choose = |cleaned_to| choose(&closed, bounds(cleaned_to), &how, 100);
        assert_eq!(choose(0), Choice::Clean(Offset(0), Offset(30)));
        assert_eq!(choose(10), Choice::NotYet);
        assert_eq!(choose(30), Choice::NotYet, "nothing is new");
        let often = Compaction { dirty_permille_min: 400, ..how };
        let chosen = super::choose(&closed, bounds(10), &often, 100);
        assert_eq!(chosen, Choice::Clean(Offset(10), Offset(30)));
    }

    #[test]
    fn what_waited_too_long_is_compacted_and_what_is_young_is_not() {
        let mut closed = segments(&[(0, 10, 600, 5), (10, 20, 300, 6), (20, 30, 100, 70)]);
        let lazy = Compaction { lag_max_ms: 50, lag_min_ms: 40, ..Compaction::default() };
        assert_eq!(choose(&closed, bounds(10), &lazy, 55), Choice::NotYet);
        let chosen = choose(&closed, bounds(10), &lazy, 56);
        assert_eq!(chosen, Choice::Clean(Offset(10), Offset(20)), "the third is too young");
        closed[1].newest = None;
        assert_eq!(choose(&closed, bounds(10), &lazy, 56), Choice::Look(Offset(10)));
    }

    #[test]
    fn the_recovery_point_and_undecided_transactions_bound_it() {
        let closed = segments(&[(0, 10, 600, 5), (10, 20, 300, 6), (20, 30, 100, 7)]);
        let how = Compaction::default();
        let at_point = Bounds { point: Offset(20), ..bounds(0) };
        assert_eq!(choose(&closed, at_point, &how, 0), Choice::Clean(Offset(0), Offset(20)));
        let at_start = Bounds { point: Offset(0), ..bounds(0) };
        assert_eq!(choose(&closed, at_start, &how, 0), Choice::MovePoint);
        let undecided = Bounds { stable_end: Offset(19), ..bounds(0) };
        assert_eq!(choose(&closed, undecided, &how, 0), Choice::Clean(Offset(0), Offset(10)));
    }

    #[test]
    fn small_neighbours_become_one() {
        let closed = segments(&[(0, 10, 40, 0), (10, 20, 50, 0), (20, 30, 30, 0), (30, 40, 5, 0)]);
        let group = |from, end| -> Vec<u64> {
            let group = next_group(&closed, Offset(from), Offset(end), 100);
            group.iter().map(|(base, _)| base.0).collect()
        };
        assert_eq!(group(0, 40), [0, 10]);
        assert_eq!(group(20, 40), [20, 30]);
        assert_eq!(group(20, 25), [20]);
        assert_eq!(group(30, 30), [0; 0]);
    }
}
