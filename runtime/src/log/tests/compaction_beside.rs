//! Compaction beside all else that happens to a log: trims, retention, truncations, repairs, a full
//! disk, look-ups.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    super::*,
    compaction::{
        DIR, Machine, always, batches, check_segments, compact, config, in_simulation, keys, put,
        read,
    },
    driver::Driver,
};
use crate::{disk::sim::Faults, sim::World};

fn segment(base: u64) -> PathBuf {
    Path::new(DIR).join(format!("{base:020}.log"))
}

/// A log of five closed segments of two batches each, and an active one: keys `a` to `d` over and
/// over, and what is read of it from `from` on once it is compacted.
async fn of_five_segments(machine: &Machine) -> Driver {
    let mut driver = machine.open(1_000).await;
    for round in 0..5 {
        for pair in [["a", "b"], ["c", "d"]] {
            let value = format!("{round}");
            put(&mut driver, &pair.map(|key| (key, Some(value.as_str()))));
        }
        driver.settle().await.unwrap();
        driver.log.roll();
        driver.settle().await.unwrap();
        driver.pass(1_000);
    }
    put(&mut driver, &[("last", Some("x"))]);
    driver.settle().await.unwrap();
    driver
}

/// How many copies and half-done swaps there are on the disk.
fn leftovers(machine: &Machine) -> usize {
    let is_left = |path: &PathBuf| path.extension().is_some_and(|e| e == "cleaned" || e == "swap");
    machine.disks.files().iter().filter(|path| is_left(path)).count()
}

async fn steps(driver: &mut Driver, count: usize) {
    for _ in 0..count {
        if !driver.step().await.unwrap() {
            break;
        }
    }
}

async fn check_last_values(driver: &mut Driver, start: u64) {
    assert_eq!(driver.log.start(), Offset(start));
    let left = read(driver).await;
    let last = [(16, "a"), (17, "b"), (18, "c"), (19, "d"), (20, "last")];
    let found: Vec<_> = keys(&left).into_iter().filter(|(at, _)| *at >= 16).collect();
    assert_eq!(found, last, "COMPACT-1");
    check_segments(driver).await;
}

#[test]
fn a_trim_in_the_middle_of_a_compaction_removes_what_it_should_and_no_more() {
    for (count, trim) in (0..24).flat_map(|count| [(count, 4), (count, 10), (count, 16)]) {
        in_simulation(1, || async move {
            let machine = Machine::new(1, LogConfig { segment_bytes: 8_000, ..config(always()) });
            let mut driver = of_five_segments(&machine).await;
            driver.log.compact(Decided::default());
            steps(&mut driver, count).await;
            driver.log.trim_to(Offset(trim));
            driver.settle().await.unwrap();
            check_last_values(&mut driver, trim).await;
            compact(&mut driver, Decided::default()).await;
            check_last_values(&mut driver, trim).await;
            assert_eq!(leftovers(&machine), 0);
            machine.disks.crash();
            check_last_values(&mut machine.open(10_000).await, trim).await;
        });
    }
}

#[test]
fn what_a_successor_has_compacted_is_no_damage_to_the_one_that_was_taken_over() {
    let story = |world: World| async move {
        let mut mistaken = 0;
        for count in 0..24 {
            let machine = Machine::new(1, LogConfig { segment_bytes: 8_000, ..config(always()) });
            let mut old = of_five_segments(&machine).await;
            old.log.compact(Decided::default());
            steps(&mut old, count).await;
            let mut new = machine.open(10_000).await;
            compact(&mut new, Decided::default()).await;
            // Refused by now, or harmless.
            drop(old.idle().await);
            mistaken += usize::from(old.log.compactor.is_impossible());
            check_last_values(&mut new, 0).await;
        }
        (mistaken, world.trace.logged("compacted no more"))
    };
    let outcome = crate::sim::run(1, &[], story);
    let (mistaken, alarms) = outcome.result.unwrap_or_else(|why| panic!("{why}"));
    assert!(mistaken > 0, "nobody has read what was swapped meanwhile");
    assert_eq!(alarms, 0);
}

#[test]
fn retention_goes_on_in_a_log_that_is_compacted() {
    in_simulation(1, || async {
        let how = LogConfig { retention_ms: Some(3_500), ..config(always()) };
        let machine = Machine::new(1, LogConfig { segment_bytes: 10, ..how });
        let mut driver = of_five_segments(&machine).await;
        // The first two segments are too old by now, and the third soon is.
        assert_eq!(driver.log.start(), Offset(8));
        compact(&mut driver, Decided::default()).await;
        check_last_values(&mut driver, 8).await;
        // An emptied segment keeps its time, and goes when that is over.
        driver.pass(1_000);
        driver.settle().await.unwrap();
        check_last_values(&mut driver, 12).await;
        assert!(driver.log.segments().all(|segment| segment.base >= Offset(12)));
    });
}

#[test]
fn a_disk_that_fills_up_stops_a_compaction_and_takes_nothing() {
    let mut stopped = 0;
    for count in 0..24 {
        in_simulation(1, || async {
            let machine = Machine::new(1, LogConfig { segment_bytes: 8_000, ..config(always()) });
            let mut driver = of_five_segments(&machine).await;
            driver.log.compact(Decided::default());
            steps(&mut driver, count).await;
            machine.disks.set_faults(Faults { capacity: 0, ..Faults::none() });
            driver.idle().await.unwrap();
            stopped += usize::from(!driver.log.wants_compaction(driver.now_ms));
            assert_eq!(leftovers(&machine), 0, "a copy is in the way of others");
            driver.log.trim_to(Offset(4));
            driver.idle().await.unwrap();
            machine.disks.set_faults(Faults::none());
            driver.pass(70_000);
            driver.settle().await.unwrap();
            check_last_values(&mut driver, 4).await;
            compact(&mut driver, Decided::default()).await;
            check_last_values(&mut driver, 4).await;
        });
    }
    assert!(stopped > 0, "vacuous: none was stopped");
}

#[test]
fn a_truncation_does_not_wait_for_a_compaction_to_end() {
    for count in 1..24 {
        in_simulation(1, || async move {
            let machine = Machine::new(1, LogConfig { segment_bytes: 8_000, ..config(always()) });
            let mut driver = of_five_segments(&machine).await;
            driver.log.compact(Decided::default());
            steps(&mut driver, count).await;
            driver.log.truncate_to(Offset(20));
            put(&mut driver, &[("diverging", None)]);
            driver.idle().await.unwrap();
            assert_eq!(driver.log.end(), Offset(20), "it waits: {:?}", driver.log);
            assert_eq!(leftovers(&machine), 0);
        });
    }
}

#[test]
fn a_log_cut_where_records_were_compacted_away_ends_with_the_batch_before() {
    in_simulation(1, || async {
        let machine = Machine::new(1, config(always()));
        let mut driver = machine.open(1_000).await;
        put(&mut driver, &[("kept", Some("1"))]);
        put(&mut driver, &[("a", Some("1"))]);
        put(&mut driver, &[("a", Some("2"))]);
        put(&mut driver, &[("a", Some("3")), ("b", Some("1"))]);
        compact(&mut driver, Decided::default()).await;
        driver.log.truncate_to(Offset(2));
        driver.settle().await.unwrap();
        assert_eq!(driver.log.end(), Offset(1), "no batch ends at 2, and none begins there");
        driver.owner.0.clear();
        put(&mut driver, &[("a", None)]);
        compact(&mut driver, Decided::default()).await;
        assert_eq!(keys(&read(&mut driver).await), [(0, "kept"), (1, "a")]);
        machine.disks.crash();
        let mut driver = machine.open(2_000).await;
        assert_eq!(keys(&read(&mut driver).await), [(0, "kept"), (1, "a")]);
        check_segments(&mut driver).await;
    });
}

#[test]
fn what_comes_after_a_repair_is_compacted_from_there_on() {
    in_simulation(1, || async {
        let how = Compaction { tombstone_age_ms: 0, ..always() };
        let machine = Machine::new(1, LogConfig { segment_bytes: 150, ..config(how) });
        let mut driver = machine.open(1_000).await;
        put(&mut driver, &[("a", Some("1")), ("b", Some("1"))]);
        for value in 0..6 {
            put(&mut driver, &[("c", Some(&format!("{value}")))]);
        }
        compact(&mut driver, Decided::default()).await;
        let left = batches(&mut driver).await;
        let bases: Vec<u64> = driver.log.segments().map(|segment| segment.base.0).collect();
        assert!(bases.len() > 3 && left.len() < 8, "compacted to {left:?} in {bases:?}");
        drop(driver.close().await);
        // All but the first segment is lost, which is far below the compaction point.
        assert!(machine.disks.flip_bit(&segment(bases[1]), 30, 1));
        let repaired = machine.repair().await.expect("there is damage");
        assert_eq!((repaired.end, repaired.position), (Offset(bases[1]), 0));
        let mut driver = machine.open(2_000).await;
        assert_eq!(keys(&read(&mut driver).await), [(0, "a"), (1, "b")]);
        // A tombstone where the old point said that all was compacted.
        put(&mut driver, &[("a", None)]);
        for _ in 0..3 {
            compact(&mut driver, Decided::default()).await;
            driver.pass(10_000);
            put(&mut driver, &[("d", Some("1"))]);
            driver.settle().await.unwrap();
        }
        let left = read(&mut driver).await;
        let of_a: Vec<_> = left.iter().filter(|(_, key, _)| key == b"a").collect();
        assert!(of_a.iter().all(|(_, _, value)| value.is_none()), "it came back: {left:?}");
        check_segments(&mut driver).await;
    });
}

#[test]
fn a_compacted_log_is_repaired_at_the_damage_and_keeps_its_start() {
    in_simulation(1, || async {
        let machine = Machine::new(1, LogConfig { segment_bytes: 8_000, ..config(always()) });
        let mut driver = of_five_segments(&machine).await;
        compact(&mut driver, Decided::default()).await;
        driver.log.trim_to(Offset(17));
        driver.settle().await.unwrap();
        drop(driver.close().await);
        assert_eq!(machine.repair().await, None, "holes are no damage");
        let first = machine.disks.content(&segment(0)).unwrap();
        let second = BatchHeader::parse(&first).unwrap().batch_bytes;
        machine.disks.flip_bit(&segment(0), u64::from(second) + 70, 1);
        let repaired = machine.repair().await.expect("there is damage");
        assert_eq!((repaired.position, repaired.end), (u64::from(second), Offset(18)));
        let mut driver = machine.open(10_000).await;
        assert_eq!((driver.log.start(), driver.log.end()), (Offset(17), Offset(18)));
        put(&mut driver, &[("a", Some("6"))]);
        compact(&mut driver, Decided::default()).await;
        assert_eq!(keys(&read(&mut driver).await), [(17, "b"), (18, "a")]);
        check_segments(&mut driver).await;
    });
}

#[test]
fn a_segment_that_lost_its_bytes_is_damage_and_its_neighbours_stay() {
    for (lost, rest) in [(4, 0), (4, 1), (0, 0)] {
        in_simulation(1, || async move {
            let machine = Machine::new(1, LogConfig { segment_bytes: 8_000, ..config(always()) });
            drop(of_five_segments(&machine).await);
            machine.disks.kill();
            let whole = machine.disks.content(&segment(lost)).unwrap();
            let first = BatchHeader::parse(&whole).unwrap().batch_bytes as usize;
            machine.disks.install(&segment(lost), &whole[..rest * first]);
            let before = machine.disks.files();
            let mut driver = machine.open(10_000).await;
            driver.log.compact(Decided::default());
            driver.idle().await.unwrap();
            assert!(driver.log.compactor.is_impossible());
            assert_eq!(machine.disks.files(), before, "nothing was done over it");
        });
    }
}

#[test]
fn a_search_for_the_newest_record_beside_a_swap_is_right_or_begun_anew() {
    in_simulation(1, || async {
        let machine = Machine::new(1, LogConfig { segment_bytes: 8_000, ..config(always()) });
        drop(of_five_segments(&machine).await.close().await);
        // What is read back knows of no segment how new it is.
        let mut driver = machine.open(10_000).await;
        let end = driver.log.end();
        let before = driver.log.plan_newest(end);
        let held = driver.log.plan_newest(end);
        let right = before.run(driver.disk.clone()).await.unwrap();
        assert!(right.is_some());
        driver.log.compact(Decided::default());
        driver.idle().await.unwrap();
        assert_eq!(held.run(driver.disk.clone()).await, Err(ReadFailure::Removed));
        let after = driver.log.plan_newest(end).run(driver.disk.clone()).await;
        assert_eq!(after, Ok(right));
    });
}

/// When the power goes, or the process, and whether the recovery after that is cut short as well.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// Milliseconds, of about one operation each, from when there is a file of this name.
    after_ms: u64,
    name: &'static str,
    /// The process is killed, and the power goes so many milliseconds into the next one's recovery.
    recovering_ms: Option<u64>,
}

/// Three segments become one, and all stops in the middle: names that were not synced are there or
/// not, each for itself.
async fn cut_in_a_swap(world: World, cut: Cut) {
    let how = LogConfig { segment_bytes: 8_000, ..config(always()) };
    let machine = Machine::on(world.disks.clone(), how);
    let mut driver = machine.open(1_000).await;
    for round in ["0", "1", "2"] {
        put(&mut driver, &[("a", Some(round)), ("b", Some(round))]);
        driver.settle().await.unwrap();
        driver.log.roll();
        driver.settle().await.unwrap();
        driver.pass(1_000);
    }
    put(&mut driver, &[("last", Some("x"))]);
    driver.settle().await.unwrap();
    // Slow enough that the change of a name is seen before it is synced.
    let latency_ms = if cut.name == "log.swap" { 4 } else { 1 };
    world.disks.set_faults(Faults { latency_ms, names_in_any_order: true, ..Faults::none() });
    driver.log.compact(Decided::default());
    let copy = segment(0).with_extension(cut.name);
    for _ in 0..1_000 {
        if machine.disks.files().contains(&copy) {
            break;
        }
        driver.catch_up().unwrap();
        world.pass(Duration::from_millis(1)).await;
    }
    assert!(machine.disks.files().contains(&copy), "the compaction does not come to its copy");
    for _ in 0..cut.after_ms {
        driver.catch_up().unwrap();
        world.pass(Duration::from_millis(1)).await;
    }
    if let Some(recovering_ms) = cut.recovering_ms {
        machine.disks.kill();
        let within = Duration::from_millis(recovering_ms);
        drop(tokio::time::timeout(within, machine.open(10_000)).await);
    }
    machine.disks.crash();
    world.disks.set_faults(Faults::none());
    let mut driver = machine.open(10_000).await;
    let left = read(&mut driver).await;
    let found: Vec<_> = keys(&left).into_iter().filter(|(at, _)| *at >= 4).collect();
    assert_eq!(found, [(4, "a"), (5, "b"), (6, "last")], "COMPACT-1");
    check_segments(&mut driver).await;
    assert_eq!(leftovers(&machine), 0);
    compact(&mut driver, Decided::default()).await;
    assert_eq!(keys(&read(&mut driver).await), [(4, "a"), (5, "b"), (6, "last")]);
    check_segments(&mut driver).await;
}

#[test]
fn a_power_cut_at_any_step_of_a_swap_or_its_recovery_loses_no_record_and_no_index() {
    let begun = (0..28).map(|after_ms| Cut { name: "log.cleaned", after_ms, recovering_ms: None });
    let recovered = (0..40).step_by(2).map(|recovering_ms| Cut {
        name: "log.swap",
        after_ms: 0,
        recovering_ms: Some(recovering_ms),
    });
    for (seed, cut) in begun.chain(recovered).flat_map(|cut| (0..14).map(move |seed| (seed, cut))) {
        let outcome = crate::sim::run(seed, &[], |world| cut_in_a_swap(world, cut));
        if let Err(why) = outcome.result {
            panic!("seed {seed}, {cut:?}: {why}");
        }
    }
}
