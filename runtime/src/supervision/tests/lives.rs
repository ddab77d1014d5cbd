//! One actor: how it breaks, and how it comes back.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    task::Poll,
};

use actix::MailboxError;

use super::*;
use crate::mailbox::tell;

#[actix_rt::test]
async fn whatever_breaks_an_actor_it_is_made_anew_and_answers_what_was_queued() {
    tokio::time::pause();
    for how in
        [Break::Handler, Break::ReturnedFuture, Break::SpawnedFuture, Break::Wait, Break::Fail]
    {
        let seen = Seen::default();
        let (child, probe) = Probe::spec("p", &seen);
        let supervisor = SupervisorSpec::new("root").child(child).start(placement(1));
        assert_eq!(probe.send(Count).await, Ok(1));
        let broken = probe.send(how);
        let behind: Vec<_> = (0..3).map(|_| probe.send(Who)).collect();
        let broken = broken.await;
        if matches!(how, Break::Handler | Break::ReturnedFuture | Break::Wait) {
            assert_eq!(broken, Err(MailboxError::Closed), "{how:?}");
        }
        for answer in behind {
            let (life, _) = answer.await.unwrap_or_else(|error| panic!("{how:?}: {error}"));
            assert!(life <= 2, "{how:?}: life {life}");
        }
        assert_eq!(probe.send(Who).await.unwrap().0, 2, "{how:?}");
        assert_eq!(
            probe.send(Count).await,
            Ok(1),
            "SUP-2, {how:?}: nothing is left of the dead one"
        );
        let expected = ["started p#1", "dropped p#1", "started p#2"];
        assert_eq!(seen.take(), expected, "{how:?}: no hook runs on a broken actor");
        let status = status(&supervisor, "p").await;
        assert_eq!((status.restarts, status.state), (1, ChildState::Running));
        match (how, status.last_exit) {
            (Break::Fail, Some(Exit::Failed(why))) => assert_eq!(why, "it cannot go on"),
            (_, Some(Exit::Panicked(what))) => assert!(what.contains("injected"), "{what}"),
            (_, exit) => panic!("{how:?}: {exit:?}"),
        }
    }
}

#[actix_rt::test]
async fn messages_behind_the_one_that_panicked_are_answered_by_the_next_life() {
    tokio::time::pause();
    let (child, probe) = Probe::spec("p", &Seen::default());
    let _root = SupervisorSpec::new("root").child(child).start(placement(1));
    let answers = [probe.send(Who), probe.send(Who)].into_iter().collect::<Vec<_>>();
    let broken = probe.send(Break::Handler);
    let behind: Vec<_> = (0..200).map(|_| probe.send(Who)).collect();
    for answer in answers {
        assert_eq!(answer.await.unwrap().0, 1);
    }
    assert_eq!(broken.await, Err(MailboxError::Closed));
    for answer in behind {
        assert_eq!(answer.await.unwrap().0, 2);
    }
}

#[actix_rt::test]
async fn an_actor_that_ends_well_runs_its_hooks_and_its_policy_decides() {
    tokio::time::pause();
    for (how, restart) in [
        (Break::Finish, Restart::Permanent),
        (Break::Stop, Restart::Permanent),
        (Break::Finish, Restart::Transient),
        (Break::Stop, Restart::Temporary),
    ] {
        let seen = Seen::default();
        let (child, probe) = Probe::spec("p", &seen);
        let _root = SupervisorSpec::new("root").child(child.restart(restart)).start(placement(1));
        tell(&probe, how);
        let answer = probe.send(Who).await;
        let mut expected = vec!["started p#1", "stopped p#1", "dropped p#1"];
        if restart == Restart::Permanent {
            assert_eq!(answer.unwrap().0, 2);
            expected.push("started p#2");
        } else {
            assert_eq!(answer, Err(MailboxError::Closed));
        }
        assert_eq!(seen.take(), expected, "{how:?} {restart:?}");
    }
}

#[actix_rt::test]
async fn a_factory_that_panics_or_refuses_is_tried_again_behind_the_same_address() {
    tokio::time::pause();
    let tries = AtomicU32::new(0);
    let (child, probe) =
        ChildSpec::actor("p", move |incarnation| match tries.fetch_add(1, Ordering::Relaxed) {
            0 => panic!("injected: factory"),
            1 => Err(StartError::new("not yet")),
            _ => Ok(Probe::new(incarnation, &Seen::default())),
        });
    let supervisor = SupervisorSpec::new("root").child(child).start(placement(1));
    assert_eq!(probe.send(Who).await.unwrap().0, 3);
    assert_eq!(status(&supervisor, "p").await.last_exit, Some(Exit::Failed("not yet".into())));
}

/// Panics in `started`, in its first life.
struct Stumbles(u64);

impl Actor for Stumbles {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        assert!(self.0 > 1, "injected: started");
    }

    fn stopping(&mut self, _: &mut Context<Self>) -> actix::Running {
        panic!("a second panic would abort the process");
    }
}

impl Handler<Drain> for Stumbles {
    type Result = ();

    fn handle(&mut self, _: Drain, _: &mut Context<Self>) {}
}

#[actix_rt::test]
async fn a_panic_in_started_is_no_more_than_any_other_and_the_next_child_waits_for_it() {
    tokio::time::pause();
    let seen = Seen::default();
    let (first, stumbles) = ChildSpec::actor("s", |incarnation| Ok(Stumbles(incarnation.number())));
    let (second, _) = Probe::spec("p", &seen);
    let root = SupervisorSpec::new("root").child(first).child(second).start(placement(1));
    tokio::task::yield_now().await;
    assert!(seen.take().is_empty(), "SUP-4");
    assert_eq!(root.up().await, Ok(()));
    assert_eq!(seen.take(), ["started p#1"]);
    assert_eq!(stumbles.send(Drain).await, Ok(()));
}

#[actix_rt::test]
async fn a_panic_on_demand_comes_at_the_next_turn() {
    tokio::time::pause();
    let (child, probe) = Probe::spec("p", &Seen::default());
    let (below, _) = ChildSpec::supervisor(SupervisorSpec::new("below").child(child));
    let root = SupervisorSpec::new("root").child(below).start(placement(1));
    assert_eq!(probe.send(Who).await.unwrap().0, 1);
    root.inject_panic("p").await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(probe.send(Who).await.unwrap().0, 2);
    let unknown = root.inject_panic("q").await;
    assert_eq!(unknown, Err(StopChildError::Unknown { name: "q".into() }));
}

/// Sends itself two messages for each it gets, up to a bound that would take minutes.
#[derive(Message)]
#[rtype(result = "()")]
struct Flood;

impl Handler<Flood> for Probe {
    type Result = ();

    fn handle(&mut self, _: Flood, _: &mut Context<Self>) {
        self.count += 1;
        // Bounded by nothing: that is the point.
        tell(&self.incarnation.address(), Flood);
    }
}

#[actix_rt::test]
async fn a_flooded_actor_starves_neither_its_neighbour_nor_timers() {
    let (flooded, flood) = Probe::spec("flooded", &Seen::default());
    let (neighbour, calm) = Probe::spec("neighbour", &Seen::default());
    let root = SupervisorSpec::new("root").child(flooded).child(neighbour).start(placement(1));
    root.up().await.unwrap();
    (0..1000).for_each(|_| tell(&flood, Flood));
    for round in 1..=50 {
        assert_eq!(calm.send(Count).await, Ok(round));
    }
    tokio::time::sleep(Duration::from_millis(5)).await;
    let handled = flood.send(Count).await.unwrap();
    assert!(handled > 1000, "it was flooded all the time: {handled}");
}

#[actix_rt::test]
async fn what_waits_is_counted_by_kind_and_then_handled_in_its_order() {
    tokio::time::pause();
    let placement = placement(2);
    let seen = Seen::default();
    let (wedging, wedged) = Probe::spec("wedged", &seen);
    let (beside, free) = Probe::spec("free", &seen);
    let (below, _) = ChildSpec::supervisor(
        SupervisorSpec::new("below")
            .child(wedging.place(crate::placement::Place::On(ArbiterId(0)))),
    );
    let root = SupervisorSpec::new("root")
        .child(below)
        .child(beside.place(crate::placement::Place::On(ArbiterId(1))))
        .start(placement.clone());
    root.up().await.unwrap();
    placement.wedge(ArbiterId(0), None);
    let first: Vec<_> = (0..3).map(|_| wedged.send(Count)).collect();
    let depth = |actors, waiting| MailboxDepth { actors, waiting, waiting_most: waiting };
    for _ in 0..2 {
        let all = root.mailboxes().await.unwrap();
        let wanted = [("probe".to_owned(), depth(2, 3)), ("supervisor".to_owned(), depth(1, 0))];
        assert_eq!(all, wanted.into(), "however often it is looked at");
    }
    let later: Vec<_> = (0..200).map(|_| wedged.send(Count)).collect();
    assert_eq!(root.mailboxes().await.unwrap()["probe"], depth(2, 203));
    assert_eq!(free.send(Count).await, Ok(1), "one that was looked at while idle");
    placement.release(ArbiterId(0));
    for (number, answer) in (1..).zip(first.into_iter().chain(later)) {
        assert_eq!(answer.await, Ok(number));
    }
    assert_eq!(wedged.send(Count).await, Ok(204));
    assert_eq!(root.mailboxes().await.unwrap()["probe"], depth(2, 0));
}

/// Counts its turns.
struct Turning(Arc<AtomicU32>);

impl Actor for Turning {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let turns = self.0.clone();
        let counts = std::future::poll_fn(move |_| {
            turns.fetch_add(1, Ordering::Relaxed);
            Poll::<()>::Pending
        });
        ctx.spawn(counts.into_actor(self));
    }
}

impl Handler<Count> for Turning {
    type Result = u64;

    fn handle(&mut self, _: Count, _: &mut Context<Self>) -> u64 {
        self.0.load(Ordering::Relaxed).into()
    }
}

impl Handler<Drain> for Turning {
    type Result = ();

    fn handle(&mut self, _: Drain, _: &mut Context<Self>) {}
}

#[actix_rt::test]
async fn who_is_looked_at_has_no_turn_for_it_and_is_woken_by_what_comes() {
    tokio::time::pause();
    let turns = Arc::<AtomicU32>::default();
    let counted = turns.clone();
    let (child, turning) = ChildSpec::actor("p", move |_| Ok(Turning(counted.clone())));
    let root = SupervisorSpec::new("root").child(child).start(placement(1));
    for round in 0..3 {
        turning.send(Count).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        let before = turns.load(Ordering::Relaxed);
        for _ in 0..=round {
            assert_eq!(root.mailboxes().await.unwrap()["turning"].waiting, 0);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(turns.load(Ordering::Relaxed), before);
    }
}
