//! What one step of the coordinator may touch besides groups: answers, writes and timers.
//!
//! ```text
//!   a group's method ── reply() ──────────────►  Effects.replies
//!                    ── write(records, then) ──►  queue ──► one append in flight ──► committed: then
//!                    ── set_timer() ───────────►  Timers ──► one wake-up, the earliest
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use flumen_runtime::{clock::UnixMillis, rng::Rng};

use super::{
    ids::{GenerationId, GroupId, MemberId},
    messages::Reply,
    records::GroupRecord,
};

/// Now, by both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since any fixed moment, never going back: for timeouts.
    pub steady_ms: u64,
    /// The time of day: for records.
    pub unix_ms: UnixMillis,
}

/// What a coordinator allows and waits for. Kafka's defaults (`GroupCoordinatorConfig`), except that
/// a first rebalance does not wait by default, since embedded members start together and cheaply, and
/// that there is an end to how many groups and members there are.
#[derive(Clone, Debug)]
pub struct Options {
    /// Shortest session timeout (`group.min.session.timeout.ms`).
    pub session_timeout_min_ms: u32,
    /// Longest session timeout (`group.max.session.timeout.ms`).
    pub session_timeout_max_ms: u32,
    /// How long the first rebalance of an empty group waits for more members
    /// (`group.initial.rebalance.delay.ms`).
    pub initial_rebalance_delay_ms: u32,
    /// How long a member may take from its first join to the end of it.
    pub new_member_timeout_ms: u32,
    /// Most members of a group (`group.max.size`).
    pub members_max: usize,
    /// Most groups of one coordinator (`max.groups`); a name of more than 256 bytes counts for several.
    pub groups_max: usize,
    /// Most bytes of what the members of all groups of one coordinator say of themselves
    /// (`max.group.bytes`).
    pub group_bytes_max: usize,
    /// Most bytes of metadata of an offset (`offset.metadata.max.bytes`).
    pub metadata_bytes_max: usize,
    /// How long offsets outlive their group's last member (`offsets.retention.minutes`).
    pub offsets_retention_ms: i64,
    /// How often expired offsets are looked for (`offsets.retention.check.interval.ms`).
    pub expiry_interval_ms: u64,
    /// Most bytes of records that are appended at once.
    pub append_bytes_max: usize,
    /// Most bytes of one record.
    pub record_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            session_timeout_min_ms: 6_000,
            session_timeout_max_ms: 1_800_000,
            initial_rebalance_delay_ms: 0,
            new_member_timeout_ms: 300_000,
            members_max: 10_000,
            groups_max: 10_000,
            group_bytes_max: 64 << 20,
            metadata_bytes_max: 4096,
            offsets_retention_ms: 7 * 24 * 3600 * 1000,
            expiry_interval_ms: 600_000,
            append_bytes_max: 1_000_000,
            record_bytes_max: 1_000_000,
        }
    }
}

/// Names one request, so that its answer finds the one who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplyId(pub u64);

/// What waits for its time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A member has been silent too long, or never came back under the name it was given.
    Session(GroupId, MemberId),
    /// The group has waited long enough for members to join.
    Join(GroupId),
    /// The group has waited long enough for members to ask for their assignment.
    Sync(GroupId),
    /// Expired offsets are to be looked for.
    Expiry,
}

/// Deadlines, each with a name: setting one again moves it.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_name: BTreeMap<Timer, u64>,
    by_time: BTreeSet<(u64, Timer)>,
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at_ms: u64) {
        if let Some(before) = self.by_name.insert(timer.clone(), at_ms) {
            self.by_time.remove(&(before, timer.clone()));
        }
        self.by_time.insert((at_ms, timer));
    }

    pub(super) fn cancel(&mut self, timer: &Timer) {
        if let Some(at_ms) = self.by_name.remove(timer) {
            self.by_time.remove(&(at_ms, timer.clone()));
        }
    }

    pub(super) fn is_set(&self, timer: &Timer) -> bool {
        self.by_name.contains_key(timer)
    }

    pub(super) fn next(&self) -> Option<u64> {
        self.by_time.first().map(|(at_ms, _)| *at_ms)
    }

    pub(super) fn pop_due(&mut self, now_ms: u64) -> Option<Timer> {
        let due = self.by_time.first().is_some_and(|(at_ms, _)| *at_ms <= now_ms);
        let (_, timer) = due.then(|| self.by_time.pop_first())??;
        self.by_name.remove(&timer);
        Some(timer)
    }
}

/// What to do once a write is committed, or refused.
#[derive(Debug)]
pub(super) enum Then {
    /// Nothing: what was written may be lost without harm.
    Nothing,
    /// Give this answer.
    Reply(ReplyId, Reply),
    /// Give the members of this generation their assignments.
    Assign(GroupId, GenerationId),
}

/// Records that must be committed before something else happens.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) group: GroupId,
    pub(super) records: Vec<GroupRecord>,
    pub(super) then: Then,
}

/// What one step may touch besides groups.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) now: Now,
    pub(super) options: Options,
    pub(super) rng: Rng,
    pub(super) timers: Timers,
    pub(super) replies: Vec<(ReplyId, Reply)>,
    pub(super) writes: VecDeque<Write>,
    pub(super) in_flight: Vec<Write>,
}

impl Turn {
    pub(super) fn new(options: Options, rng: Rng) -> Self {
        Self {
            now: Now::default(),
            options,
            rng,
            timers: Timers::default(),
            replies: Vec::new(),
            writes: VecDeque::new(),
            in_flight: Vec::new(),
        }
    }

    pub(super) fn reply(&mut self, to: ReplyId, reply: Reply) {
        self.replies.push((to, reply));
    }

    pub(super) fn set_timer(&mut self, timer: Timer, in_ms: u64) {
        self.timers.set(timer, self.now.steady_ms.saturating_add(in_ms));
    }

    pub(super) fn write(&mut self, group: &GroupId, records: Vec<GroupRecord>, then: Then) {
        self.writes.push_back(Write { group: group.clone(), records, then });
    }

    /// A write that waits and has a record that no batch could hold.
    pub(super) fn take_too_large(&mut self) -> Option<Write> {
        let bytes_max = self.options.record_bytes_max;
        let is_too_large =
            |write: &Write| write.records.iter().any(|record| record.bytes_about() > bytes_max);
        let at = self.writes.iter().position(is_too_large)?;
        self.writes.remove(at)
    }

    /// The records of the next append, where none is in flight: as many writes as fit.
    pub(super) fn next_append(&mut self) -> Vec<GroupRecord> {
        if !self.in_flight.is_empty() {
            return Vec::new();
        }
        let mut bytes = 0;
        while let Some(write) = self.writes.front() {
            bytes += write.records.iter().map(GroupRecord::bytes_about).sum::<usize>();
            if bytes > self.options.append_bytes_max && !self.in_flight.is_empty() {
                break;
            }
            self.in_flight.extend(self.writes.pop_front());
        }
        self.in_flight.iter().flat_map(|write| write.records.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_set_again_moves_and_a_cancelled_one_never_comes() {
        let (join, sync) = (Timer::Join("g".into()), Timer::Sync("g".into()));
        let mut timers = Timers::default();
        timers.set(join.clone(), 10);
        timers.set(sync.clone(), 20);
        timers.set(join.clone(), 30);
        assert_eq!(timers.next(), Some(20));
        timers.cancel(&sync);
        assert_eq!(timers.pop_due(29), None);
        assert_eq!(timers.pop_due(30), Some(join));
        assert_eq!(timers.next(), None);
    }
}
