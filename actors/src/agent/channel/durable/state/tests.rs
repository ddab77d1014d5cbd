//! The window, the totals and the positions, against a model of the log.

use flumen_runtime::{batch, rng::Rng};
use proptest::prelude::*;

use super::*;
use crate::agent::event::PositionBytes;

fn advance(to: u64) -> Advance {
    let to = PositionBytes(to.to_le_bytes().to_vec());
    Advance { source: "s".into(), parts: vec![("n".into(), Some(to))] }
}

/// The log as a list of batches, and the core over it.
struct Bench {
    batches: Vec<(BatchHeader, Bytes)>,
    durable: Offset,
    store: Store,
}

impl Bench {
    fn new() -> Self {
        let store =
            Store::new(Head::default(), Replayed::default(), Offset(0), Offset(0), 1).unwrap();
        Self { batches: Vec::new(), durable: Offset(0), store }
    }

    fn end(&self) -> Offset {
        self.batches.last().map_or(Offset(0), |(header, _)| header.next_offset())
    }

    fn put(&mut self, bodies: &[&str], position: u64) {
        let events: Vec<Event> =
            bodies.iter().map(|body| Event::new(body.as_bytes().to_vec())).collect();
        let mut batch = record::encode(&events, &advance(position), 9).unwrap();
        let first = self.end();
        batch::stamp(&mut batch, first, flumen_runtime::ids::LeaderEpoch(0));
        let batch = batch.freeze();
        let header = BatchHeader::parse(&batch).unwrap();
        self.store.on_appended(events, &advance(position), 9, first, header.next_offset());
        self.batches.push((header, batch));
    }

    fn sync(&mut self) {
        self.durable = self.end();
        self.store.on_durable(self.durable);
    }

    /// Reads one batch, if the core wants to.
    fn read(&mut self) -> bool {
        let Some((from, end)) = self.store.wanted_read() else { return false };
        assert!(end <= self.durable, "CH-4");
        let (header, batch) =
            self.batches.iter().find(|(header, _)| header.next_offset() > from).unwrap();
        let decoded = record::decode(batch, header, from).unwrap();
        self.store.on_read(from, decoded.events, header.next_offset());
        true
    }

    fn take(&mut self, events_max: usize) -> Option<(TransactionId, Vec<String>)> {
        loop {
            if let Some(taken) = self.store.take(events_max, usize::MAX) {
                let body =
                    |taken: TakenEvent| String::from_utf8(taken.event.body.to_vec()).unwrap();
                return Some((taken.transaction, taken.events.into_iter().map(body).collect()));
            }
            if !self.read() {
                return None;
            }
        }
    }

    /// What is left after a crash: the durable batches, and some head file.
    fn crash(self, head: Head, snapshot_at: usize) -> Self {
        let batches: Vec<_> =
            self.batches.into_iter().filter(|(h, _)| h.next_offset() <= self.durable).collect();
        let mut before = Replayed::default();
        let snapshot_at = snapshot_at.min(batches.len());
        batches[..snapshot_at].iter().for_each(|(header, batch)| before.batch(header, batch));
        let mut replayed = Replayed::default();
        assert!(replayed.restore(&before.snapshot().unwrap(), Offset(0)));
        batches[snapshot_at..].iter().for_each(|(header, batch)| replayed.batch(header, batch));
        let store = Store::new(head, replayed, Offset(0), self.durable, 2).unwrap();
        Self { batches, durable: self.durable, store }
    }
}

#[test]
fn what_is_not_durable_is_not_offered() {
    let mut bench = Bench::new();
    bench.put(&["a"], 1);
    assert_eq!(bench.take(9), None);
    bench.sync();
    bench.put(&["b"], 2);
    assert_eq!(bench.take(9).unwrap().1, ["a"]);
    assert_eq!(bench.take(9), None);
}

#[test]
fn what_was_rolled_back_is_read_from_the_log_again() {
    let mut bench = Bench::new();
    bench.put(&["a", "b", "c"], 3);
    bench.sync();
    let (first, _) = bench.take(1).unwrap();
    bench.take(1).unwrap();
    bench.store.rollback(first).unwrap();
    assert_eq!(bench.take(9).unwrap().1, ["a", "b", "c"]);
    bench.store.attach_sink();
    assert_eq!(bench.take(9).unwrap().1, ["a", "b", "c"]);
}

#[test]
fn the_window_is_bounded_and_the_rest_is_read_when_it_is_wanted() {
    let mut bench = Bench::new();
    let body = "x".repeat(1 << 20);
    for n in 1..=10 {
        bench.put(&[&body], n);
    }
    bench.sync();
    assert!(
        bench.store.window_bytes <= WINDOW_BYTES_MAX + (2 << 20),
        "{}",
        bench.store.window_bytes
    );
    let mut taken = 0;
    while let Some((_, events)) = bench.take(9) {
        taken += events.len();
    }
    assert_eq!(taken, 10);
}

#[test]
fn moves_without_events_are_passed_once_everything_is_committed() {
    let mut bench = Bench::new();
    bench.put(&["a"], 1);
    bench.put(&[], 2);
    bench.sync();
    let (id, _) = bench.take(9).unwrap();
    assert_eq!(bench.take(9), None);
    bench.store.commit(id, None).unwrap();
    bench.put(&[], 3);
    bench.sync();
    assert_eq!(bench.store.head().head, bench.end());
    assert_eq!(bench.store.position_of("s")["n"].0[0], 3);
}

#[test]
fn a_head_that_is_not_in_the_log_is_refused() {
    let at = |head| Head { head: Offset(head), ..Head::default() };
    let open = |head| Store::new(at(head), Replayed::default(), Offset(5), Offset(9), 1);
    assert!(open(4).is_err() && open(10).is_err());
    assert!(open(5).is_ok() && open(9).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// Puts, syncs, takes, commits, rollbacks and crashes with a head file that lags: each event is
    /// taken in order, and committed ones come again only as far as the head file lagged.
    #[test]
    fn nothing_is_lost_and_only_what_the_head_file_did_not_know_comes_again(seed in any::<u64>()) {
        let mut rng = Rng::seeded(seed);
        let mut bench = Bench::new();
        let (mut put, mut expected) = (0_u64, 0_u64);
        let mut open: Vec<(TransactionId, u64)> = Vec::new();
        // The head file, and the first number that it does not know to be committed.
        let (mut file, mut file_next, mut committed) = (Head::default(), 0, 0);
        for _ in 0..200 {
            match rng.below(10) {
                0..=2 => {
                    let bodies: Vec<String> = (put..put + rng.below(5)).map(|n| n.to_string()).collect();
                    let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
                    put += bodies.len() as u64;
                    bench.put(&bodies, put);
                }
                3 | 4 => bench.sync(),
                5 | 6 => if let Some((id, events)) = bench.take(1 + rng.below(6) as usize) {
                    for body in events {
                        prop_assert_eq!(body, expected.to_string());
                        expected += 1;
                    }
                    open.push((id, expected));
                },
                7 if !open.is_empty() => {
                    let at = rng.below(open.len() as u64) as usize;
                    let (id, next) = open[at];
                    bench.store.commit(id, None).unwrap();
                    open.drain(..=at);
                    committed = next;
                    if rng.chance(1, 2) {
                        (file, file_next) = (bench.store.head(), committed);
                    }
                }
                8 if !open.is_empty() => {
                    let at = rng.below(open.len() as u64) as usize;
                    bench.store.rollback(open[at].0).unwrap();
                    expected = if at == 0 { committed } else { open[at - 1].1 };
                    open.truncate(at);
                }
                9 if rng.chance(1, 4) => {
                    let snapshot_at = rng.below(bench.batches.len() as u64 + 1) as usize;
                    bench = bench.crash(file.clone(), snapshot_at);
                    put = bench.store.position_of("s").get("n").map_or(0, |bytes| {
                        u64::from_le_bytes(bytes.0.as_slice().try_into().unwrap())
                    });
                    prop_assert_eq!(bench.store.held().events, put - file_next);
                    open.clear();
                    (committed, expected) = (file_next, file_next);
                }
                _ => {}
            }
        }
    }
}
