//! The harness itself: one seed, one run; panics seen; bugs planted for one run only.

use std::{cell::Cell, path::Path, rc::Rc, sync::Mutex, time::Duration};

use actix::{Actor, Addr, Context, Handler, Message, ResponseFuture};
use bytes::Bytes;

use super::*;
use crate::{
    disk::sim::Faults,
    era::take_over,
    ids::ArbiterId,
    mailbox::{Drain, tell},
    placement::Place,
    supervision::{ChildSpec, Incarnation, SupervisorRef, SupervisorSpec},
};

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
        let before = world.now_ms();
        world.pass(Duration::from_secs(3600)).await;
        world.clock.jump(-1000);
        world.now_ms() - before
    });
    assert_eq!(outcome.result, Ok(3_599_000));
}

#[test]
fn a_panic_is_the_outcome_also_where_a_task_hides_it_unless_it_was_injected() {
    let outcome = run(1, &[], |_| async {
        let _ = tokio::task::spawn_local(async { panic!("hidden") }).await;
    });
    assert!(outcome.result.unwrap_err().starts_with("hidden at "));
    let outcome = run(1, &[], |_| async {
        let _ = tokio::task::spawn_local(async { panic!("injected") }).await;
    });
    assert_eq!(outcome.result, Ok(()));
}

#[test]
fn what_the_node_logs_is_in_the_trace_and_counted() {
    let outcome = run(1, &[], |world| async move {
        tracing::warn!(bytes = 7, "a tail was cut");
        tracing::warn!(bytes = 8, "a tail was cut");
        tracing::trace!("too fine");
        (world.trace.logged("cut"), world.trace.logged("fine"))
    });
    assert_eq!(outcome.result, Ok((2, 0)));
    assert!(outcome.lines[0].ends_with("WARN a tail was cut bytes=7"), "{:?}", outcome.lines);
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

/// A supervised actor that counts in a file, one write a message.
struct Counter {
    life: Incarnation<Counter>,
    world: World,
    count: Rc<Cell<u64>>,
}

#[derive(Message)]
#[rtype(result = "u64")]
struct Count;

impl Actor for Counter {
    type Context = Context<Self>;
}

impl Handler<Count> for Counter {
    type Result = ResponseFuture<u64>;

    /// The count that is durable; waits for ever where it cannot be written.
    fn handle(&mut self, _: Count, _: &mut Context<Self>) -> Self::Result {
        self.count.set(self.count.get() + 1);
        let count = self.count.get();
        let local = self.life.local();
        self.world.trace.line(format_args!("count {count} on {}", local.arbiter()));
        let disk = local.disk(Path::new("/d")).unwrap();
        let gate = local.gates().gate(Path::new("/d/count"));
        Box::pin(async move {
            let written = async {
                let ticket = take_over(&gate, Duration::from_secs(5)).await.unwrap();
                let bytes = Bytes::copy_from_slice(&count.to_le_bytes());
                disk.write_atomically(Path::new("/d/count"), bytes, &ticket).await
            };
            match written.await {
                Ok(()) => count,
                Err(_) => std::future::pending().await,
            }
        })
    }
}

impl Handler<Drain> for Counter {
    type Result = ();

    fn handle(&mut self, _: Drain, _: &mut Context<Self>) {}
}

/// Starts a counter, which begins where the file says.
async fn counter(world: &World, process: &Process) -> (SupervisorRef, Addr<Counter>) {
    let kept = world.disks.content(Path::new("/d/count"));
    let start = kept.map_or(0, |bytes| u64::from_le_bytes(bytes[..].try_into().unwrap()));
    let shared = Mutex::new(world.clone());
    let (child, address) = ChildSpec::actor("counter", move |life| {
        let (life, world) = (life.clone(), shared.lock().unwrap().clone());
        Ok(Counter { life, world, count: Rc::new(Cell::new(start)) })
    });
    let spec = SupervisorSpec::new("root").child(child.place(Place::On(ArbiterId(0))));
    let root = spec.start(process.placement.clone());
    root.up().await.unwrap();
    (root, address)
}

#[test]
fn a_process_can_be_cut_and_started_again_and_keeps_what_it_answered() {
    let scenario = |seed| {
        run(seed, &[], |world| async move {
            world.disks.install(Path::new("/d/.keep"), b"");
            let mut answered = 0;
            for life in 0..5 {
                let inside = world.clone();
                answered = world
                    .process(2, async |process| {
                        let (_root, counter) = counter(&inside, &process).await;
                        let mut answered = answered;
                        for _ in 0..3 {
                            let now = counter.send(Count).await.unwrap();
                            assert!(now > answered, "{answered} was answered, and now {now}");
                            answered = now;
                        }
                        tell(&counter, Count);
                        (if life % 2 == 0 { End::PowerCut } else { End::Kill }, answered)
                    })
                    .await;
            }
            answered
        })
    };
    for seed in 0..20 {
        let (one, two) = (scenario(seed), scenario(seed));
        assert!(one.result.clone().unwrap() >= 15);
        assert_eq!((one.hash, one.lines), (two.hash, two.lines), "seed {seed}");
    }
}

#[test]
fn a_wedged_actor_moves_and_answers_there_also_when_its_arbiter_comes_back() {
    let outcome = run(3, &[], |world| async move {
        world.disks.install(Path::new("/d/.keep"), b"");
        let inside = world.clone();
        world
            .process(2, async |process| {
                let (root, counter) = counter(&inside, &process).await;
                counter.send(Count).await.unwrap();
                process.wedge(ArbiterId(0), Some(&"counter".into()));
                tell(&counter, Count);
                inside.pass(Duration::from_secs(10)).await;
                assert_eq!(root.children().await.unwrap()[0].arbiter, Some(ArbiterId(1)));
                let answered = counter.send(Count).await.unwrap();
                process.release(ArbiterId(0));
                inside.pass(Duration::from_secs(10)).await;
                (End::Exit, answered)
            })
            .await
    });
    assert_eq!(outcome.result.as_ref().map(|answered| *answered >= 1), Ok(true), "{outcome:#?}");
}
