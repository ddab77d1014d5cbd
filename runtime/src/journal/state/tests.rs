//! The core alone: when it waits, when a file may be used again, and what it does when disks fail.

use std::{collections::BTreeSet, path::Path};

use uuid::Uuid;

use super::*;
use crate::{
    disk::Backing,
    era::{Era, FencedError},
    ids::{LeaderEpoch, Offset},
};

const HALF: u64 = 64 << 10;

/// A half with the number of its file, and a segment that it covers.
type Covered = ((usize, u32), (LogId, File));

/// The core with a disk that does what it is told at once, but for what a test holds back.
struct Bench {
    state: State<u64>,
    now: Duration,
    next: u64,
    answered: BTreeMap<u64, Result<(), DiskError>>,
    instead: Vec<u64>,
    made: Vec<PathBuf>,
    writes: usize,
    synced_segments: usize,
    /// Segment syncs wait here while they are held.
    held: Option<Vec<Covered>>,
    fail_writes: bool,
    fail_segments: bool,
    waits: Vec<Duration>,
}

fn eio() -> DiskError {
    DiskError::Os { action: "sync", path: "x".into(), code: libc::EIO }
}

fn file(path: PathBuf) -> File {
    File::new(path, Backing::Simulated(0))
}

impl Bench {
    fn new() -> Bench {
        Bench::with_file_bytes(HALF)
    }

    fn with_file_bytes(half_bytes: u64) -> Bench {
        let (dir, prefix) = ("/j".into(), "1-0".into());
        let layout = Layout { dir, prefix, boot: 1, half_bytes };
        Bench {
            state: State::new(layout, Rng::seeded(1)),
            now: Duration::ZERO,
            next: 0,
            answered: BTreeMap::new(),
            instead: Vec::new(),
            made: Vec::new(),
            writes: 0,
            synced_segments: 0,
            held: None,
            fail_writes: false,
            fail_segments: false,
            waits: Vec::new(),
        }
    }

    /// Commits an append of `log` and returns its number, without running.
    fn submit(&mut self, log: u32, bytes: usize) -> u64 {
        self.next += 1;
        let seq = self.next;
        let log = LogId { id: Uuid::nil(), shard: log };
        let payload = vec![Bytes::from(vec![0; bytes])];
        let (base, end) = (Offset(seq), Offset(seq + 1));
        let what = What::Append { epoch: LeaderEpoch(0), base, end, payload };
        let segment = file(format!("/{log}").into());
        self.state.commit(self.now, Record { log, seq, what }, Some(segment), seq);
        seq
    }

    fn commit(&mut self, log: u32) -> u64 {
        let seq = self.submit(log, 100);
        self.run();
        seq
    }

    fn run(&mut self) {
        while let Some(effect) = self.state.next(self.now) {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect<u64>) {
        match effect {
            Effect::Make { half, path, .. } => {
                self.made.push(path.clone());
                let made = if self.fail_writes { Err(eio()) } else { Ok(file(path)) };
                self.state.on_made(half, made);
            }
            Effect::Write { .. } => {
                self.writes += 1;
                let written = if self.fail_writes { Err(eio()) } else { Ok(()) };
                self.state.on_written(written);
            }
            Effect::SyncSegment { half, number, log, file } => {
                self.synced_segments += 1;
                if let Some(held) = &mut self.held {
                    held.push(((half, number), (log, file)));
                    return;
                }
                let synced = if self.fail_segments { Err(eio()) } else { Ok(()) };
                self.state.on_segment_synced((half, number), (log, file), synced);
            }
            Effect::Wait(time) => self.waits.push(time),
            Effect::SyncInstead { reply, .. } => self.instead.push(reply),
            Effect::Answer { replies, result } => {
                for reply in replies {
                    let before = self.answered.insert(reply, result.clone());
                    assert_eq!(before, None, "each is answered once");
                }
            }
        }
    }

    /// Commits of one log until the file that is filling changes, or one has to wait.
    fn fill(&mut self) {
        let active = self.state.active;
        for _ in 0..1000 {
            self.now += Duration::from_millis(1);
            let seq = self.commit(0);
            if self.state.active != active || !self.answered.contains_key(&seq) {
                return;
            }
        }
        panic!("a file of {HALF} bytes takes no thousand groups");
    }
}

#[test]
fn a_log_that_waits_for_each_ack_is_not_made_to_wait() {
    let mut bench = Bench::new();
    for _ in 0..100 {
        let seq = bench.commit(0);
        assert_eq!(bench.answered.get(&seq), Some(&Ok(())));
        bench.now += Duration::from_micros(200);
    }
    assert!(bench.waits.is_empty());
    assert_eq!(bench.writes, 100);
}

#[test]
fn the_first_few_appends_do_not_wait_until_a_file_is_made() {
    let mut bench = Bench::new();
    let log = LogId { id: Uuid::nil(), shard: 0 };
    let what = What::TruncatedTo(Offset(0));
    bench.state.commit(bench.now, Record { log, seq: 1000, what }, None, 1000);
    let make = bench.state.next(bench.now).unwrap();
    assert!(matches!(make, Effect::Make { .. }), "{make:?}");
    let few: Vec<u64> = (0..INSTEAD_MAX).map(|_| bench.commit(1)).collect();
    assert_eq!(bench.instead, few);
    let late = bench.commit(2);
    assert_eq!(bench.instead, few, "no more than a few");
    assert!(bench.answered.is_empty(), "what is voided waits for the file");
    bench.carry_out(make);
    bench.run();
    assert_eq!(bench.answered.keys().copied().collect::<Vec<_>>(), [late, 1000]);
    assert_eq!((bench.instead, bench.writes), (few, 1));
}

#[test]
fn many_logs_wait_a_little_and_share_a_sync() {
    let mut bench = Bench::new();
    for log in 0..16 {
        bench.commit(log);
        bench.now += Duration::from_micros(100);
    }
    assert_eq!(bench.waits.len(), 1, "only now are they many");
    let before = bench.writes;
    let late = [16, 17, 18].map(|log| bench.commit(log));
    assert!(late.iter().all(|seq| !bench.answered.contains_key(seq)));
    bench.now += GATHER;
    bench.state.on_wait();
    bench.run();
    assert_eq!(bench.writes, before + 1);
    assert!(late.iter().all(|seq| bench.answered[seq] == Ok(())));
}

#[test]
fn what_came_during_a_slow_sync_does_not_wait_again() {
    let mut bench = Bench::new();
    for log in 0..15 {
        bench.commit(log);
    }
    bench.submit(15, 100);
    bench.now += GATHER;
    let written = bench.state.next(bench.now).unwrap();
    assert!(matches!(written, Effect::Write { .. }), "{written:?}");
    let seq = bench.submit(16, 100);
    bench.now += GATHER;
    bench.carry_out(written);
    bench.run();
    assert_eq!(bench.answered[&seq], Ok(()));
    assert!(bench.waits.is_empty());
}

#[test]
fn a_few_bytes_more_than_enough_are_not_waited_for() {
    let mut bench = Bench::with_file_bytes(4 << 20);
    for log in 0..RECENT as u32 {
        bench.submit(log, GATHER_BYTES_MAX / RECENT);
    }
    bench.run();
    assert!(bench.waits.is_empty());
}

#[test]
fn a_file_is_used_again_only_when_its_segments_are_synced() {
    let mut bench = Bench::new();
    bench.held = Some(Vec::new());
    bench.fill();
    bench.fill();
    // Both files are full, and nothing of the first was synced: JRN-3.
    let stuck = bench.next;
    assert!(!bench.answered.contains_key(&stuck));
    assert_eq!(bench.made.len(), 2);
    for (half, segment) in bench.held.take().unwrap() {
        bench.state.on_segment_synced(half, segment, Ok(()));
    }
    bench.run();
    assert_eq!(bench.answered[&stuck], Ok(()), "JRN-3");
    assert_eq!(bench.made.len(), 2, "files are used again");
}

#[test]
fn segments_are_synced_while_the_other_file_fills_and_done_at_its_half() {
    let mut bench = Bench::new();
    for log in 0..60 {
        bench.now += Duration::from_millis(10);
        bench.commit(log);
    }
    bench.fill();
    let covered = bench.state.halves[1 - bench.state.active].dirty_at_full;
    assert_eq!(covered, 60);
    assert!(bench.synced_segments <= 2, "{}", bench.synced_segments);
    while bench.state.halves[bench.state.active].end < HALF / 4 {
        bench.commit(0);
    }
    assert!((20..40).contains(&bench.synced_segments), "{}", bench.synced_segments);
    while bench.state.halves[bench.state.active].end <= HALF / 2 {
        bench.commit(0);
    }
    assert_eq!(bench.synced_segments, 60);
    assert_eq!(bench.state.halves[1 - bench.state.active].stage, Stage::Empty);
}

#[test]
fn a_file_that_cannot_be_written_is_set_aside_and_its_group_goes_to_the_next() {
    let mut bench = Bench::new();
    bench.commit(0);
    let seq = bench.submit(1, 100);
    let written = bench.state.next(bench.now).unwrap();
    assert!(matches!(written, Effect::Write { .. }), "{written:?}");
    bench.state.on_written(Err(eio()));
    bench.run();
    assert_eq!(bench.answered[&seq], Ok(()));
    assert_eq!(bench.made, [PathBuf::from("/j/1-0-1"), "/j/1-0-2".into()]);
}

#[test]
fn when_no_file_can_be_written_each_log_syncs_for_itself_and_nothing_can_be_voided() {
    let mut bench = Bench::new();
    bench.commit(0);
    bench.fail_writes = true;
    let seq = bench.commit(1);
    assert_eq!(bench.instead, [seq]);
    assert_eq!(bench.commit(2), bench.instead[1]);
    let record = Record { log: LogId::default(), seq: 100, what: What::TruncatedTo(Offset(0)) };
    bench.state.commit(bench.now, record, None, 100);
    bench.run();
    assert_eq!(bench.answered[&100], Err(eio()));
}

#[test]
fn a_log_whose_segment_cannot_be_synced_is_refused_and_its_file_kept() {
    let mut bench = Bench::new();
    bench.commit(9);
    bench.fill();
    bench.fail_segments = true;
    for _ in 0..100 {
        bench.commit(0);
    }
    assert!(!bench.state.broken.is_empty());
    bench.fail_segments = false;
    let broken = bench.state.broken.keys().next().unwrap().shard;
    let (refused, other) = (bench.commit(broken), bench.commit(20));
    assert_eq!(bench.answered[&refused], Err(eio()));
    assert_eq!(bench.answered[&other], Ok(()));
    for _ in 0..100 {
        bench.commit(20);
    }
    assert_eq!(bench.made[2], PathBuf::from("/j/1-0-3"), "the first is not used again");
}

#[test]
fn a_segment_without_room_is_tried_again_and_holds_up_neither_the_others_nor_an_ack() {
    let full = || DiskError::Os { action: "write", path: "x".into(), code: libc::ENOSPC };
    let mut bench = Bench::new();
    // More than are synced at a time.
    for log in 10..20 {
        bench.now += Duration::from_millis(10);
        bench.commit(log);
    }
    bench.held = Some(Vec::new());
    bench.fill();
    bench.fill();
    let stuck = bench.next;
    assert!(!bench.answered.contains_key(&stuck) && !bench.instead.contains(&stuck));
    let mut tried = BTreeSet::new();
    for _ in 0..40 {
        for (half, (log, file)) in bench.held.replace(Vec::new()).unwrap() {
            tried.insert(log);
            bench.state.on_segment_synced(half, (log, file), Err(full()));
        }
        bench.run();
    }
    assert_eq!(tried.len(), 11, "each has its turn");
    assert!(bench.instead.contains(&stuck), "the segment is synced instead of the journal");
    assert_eq!((bench.made.len(), bench.state.broken.len()), (2, 0), "nothing is set aside");
    while let Some(held) = bench.held.replace(Vec::new()).filter(|held| !held.is_empty()) {
        for (half, segment) in held {
            bench.state.on_segment_synced(half, segment, Ok(()));
        }
        bench.run();
    }
    let written = bench.commit(11);
    assert_eq!(bench.answered[&written], Ok(()), "JRN-3: the files are used again");
    assert_eq!(bench.made.len(), 2);
}

#[test]
fn a_life_that_never_comes_costs_a_file() {
    let mut bench = Bench::new();
    bench.commit(9);
    bench.held = Some(Vec::new());
    bench.fill();
    let fenced = FencedError { what: Path::new("/9").into(), era: Era(1), current: Era(2) };
    for _ in 0..3 * LATE_MAX {
        bench.commit(0);
        for (half, (log, file)) in bench.held.replace(Vec::new()).unwrap() {
            let synced = if log.shard == 9 { Err(fenced.clone().into()) } else { Ok(()) };
            bench.state.on_segment_synced(half, (log, file), synced);
        }
    }
    bench.held = None;
    bench.fill();
    bench.fill();
    assert_eq!(bench.made.len(), 3, "the first is set aside");
    assert!(bench.state.broken.is_empty() && bench.state.given_up.is_none());
}

#[test]
fn an_entry_too_large_for_a_group_has_its_segment_synced() {
    let mut bench = Bench::new();
    let seq = bench.submit(0, GROUP_BYTES_MAX);
    bench.run();
    assert_eq!(bench.instead, [seq], "JRN-5");
}

#[test]
fn a_file_is_never_written_beyond_its_end() {
    let mut bench = Bench::new();
    for turn in 0..1000 {
        bench.submit(turn % 3, turn as usize * 7 % 5000);
        while let Some(effect) = bench.state.next(bench.now) {
            if let Effect::Write { position, bytes, .. } = &effect {
                assert!(position + bytes.len() as u64 <= HALF, "JRN-4");
            }
            bench.carry_out(effect);
        }
    }
    assert_eq!(bench.made.len(), 2);
}
