//! The harness itself: one seed, one run; panics seen; bugs planted for one run only.

use std::time::Duration;

use super::*;
use crate::{clock::Clock, disk::sim::Faults};

#[test]
fn a_run_twice_gives_the_same_trace_and_another_seed_another() {
    let once = |seed| {
        run(seed, &[], |world| async move {
            let mut rng = world.rng.split("workload");
            for _ in 0..10 {
                world.pass(Duration::from_millis(rng.below(100))).await;
                world.trace.line(rng.below(1000));
            }
        })
    };
    assert_eq!(once(1).hash, once(1).hash);
    assert_ne!(once(1).hash, once(2).hash);
    assert_eq!(once(1).lines.len(), 11, "ten lines and the end");
}

#[test]
fn the_clock_follows_virtual_time_and_can_be_set() {
    let outcome = run(1, &[], |world| async move {
        let before = world.clock.now_ms();
        world.pass(Duration::from_secs(3600)).await;
        world.clock.jump(-1000);
        world.clock.now_ms() - before
    });
    assert_eq!(outcome.result, Ok(3_599_000));
}

#[test]
fn a_panic_is_the_outcome_also_where_a_task_hides_it_unless_it_was_injected() {
    let outcome = run(1, &[], |_| async {
        let _ = tokio::task::spawn_local(async { panic!("LOG-9: hidden") }).await;
    });
    assert!(outcome.result.unwrap_err().starts_with("LOG-9: hidden at "));
    let outcome = run(1, &[], |_| async {
        let _ = tokio::task::spawn_local(async { panic!("injected") }).await;
    });
    assert_eq!(outcome.result, Ok(()));
}

#[test]
fn bugs_are_planted_for_one_run_only() {
    let planted = run(1, &[Planted::DedupeWindowOffByOne], |_| async {
        (is_planted(Planted::DedupeWindowOffByOne), is_planted(Planted::PositionAheadOfData))
    });
    assert_eq!(planted.result, Ok((true, false)));
    assert!(!is_planted(Planted::DedupeWindowOffByOne));
}

#[test]
fn some_seeds_put_turns_off_and_nobody_does_outside_of_a_simulation() {
    let put_off = |seed| {
        let outcome = run(seed, &[], |_| async { (0..100).filter(|_| is_turn_put_off()).count() });
        outcome.result.unwrap()
    };
    let counts: Vec<usize> = (0..20).map(put_off).collect();
    assert!(counts.contains(&0) && counts.iter().any(|count| (20..80).contains(count)));
    assert!(!(0..100).any(|_| is_turn_put_off()));
}

#[test]
fn swarms_differ_between_seeds() {
    let faults: Vec<Faults> =
        (0..20).map(|seed| Faults::swarm(&mut Rng::seeded(seed).split("faults"))).collect();
    assert!(faults.iter().any(|mix| mix.tears) && faults.iter().any(|mix| !mix.tears));
    assert!(faults.iter().any(|mix| mix.slow > 0) && faults.iter().any(|mix| mix.slow == 0));
}
