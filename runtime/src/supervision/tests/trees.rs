//! Trees of supervisors: order, escalation, children that come and go.

use actix::MailboxError;

use super::*;
use crate::mailbox::tell;

#[actix_rt::test]
async fn children_start_in_order_and_stop_in_reverse_each_drained() {
    tokio::time::pause();
    let seen = Seen::default();
    let mut spec = SupervisorSpec::new("root");
    let mut probes = Vec::new();
    for name in ["a", "b", "c"] {
        let (child, probe) = Probe::spec(name, &seen);
        spec = spec.child(child);
        probes.push(probe);
    }
    let root = spec.start(placement(3));
    root.up().await.unwrap();
    assert_eq!(seen.take(), ["started a#1", "started b#1", "started c#1"]);
    let queued = probes[1].send(Count);
    root.stop().await;
    assert_eq!(queued.await, Ok(1), "what was in is finished");
    let ends: Vec<_> = ["c", "b", "a"]
        .iter()
        .flat_map(|name| ["drains", "stopped", "dropped"].map(|what| format!("{what} {name}#1")))
        .collect();
    assert_eq!(seen.take(), ends, "SUP-4");
    assert_eq!(root.exited().await, Exit::Normal);
    assert_eq!(probes[0].send(Count).await, Err(MailboxError::Closed));
    assert!(root.children().await.is_err());
}

#[actix_rt::test]
async fn a_child_that_drains_too_long_is_killed_at_its_deadline() {
    tokio::time::pause();
    let seen = Seen::default();
    let (slow, _probe) = ChildSpec::actor("slow", {
        let seen = seen.clone();
        move |incarnation| {
            let mut probe = Probe::new(incarnation, &seen);
            probe.drains_within = Duration::from_secs(60);
            Ok(probe)
        }
    });
    let root = SupervisorSpec::new("root")
        .child(slow.stop_within(Duration::from_secs(3)))
        .start(placement(1));
    root.up().await.unwrap();
    let before = tokio::time::Instant::now();
    root.stop().await;
    assert_eq!(before.elapsed().as_secs(), 3);
    tokio::task::yield_now().await;
    assert_eq!(seen.take(), ["started slow#1", "drains slow#1", "dropped slow#1"]);
}

fn spec_of(strategy: Strategy, seen: &Seen) -> (SupervisorSpec, Vec<actix::Addr<Probe>>) {
    let mut spec = SupervisorSpec { strategy, ..SupervisorSpec::new("root") };
    let mut probes = Vec::new();
    for name in ["a", "b", "c"] {
        let (child, probe) = Probe::spec(name, seen);
        spec = spec.child(child);
        probes.push(probe);
    }
    (spec, probes)
}

#[actix_rt::test]
async fn strategies_bind_siblings() {
    tokio::time::pause();
    for (strategy, expected) in [
        (Strategy::OneForOne, vec!["dropped b#1", "started b#2"]),
        (Strategy::RestForOne, vec!["dropped b#1", "dropped c#1", "started b#2", "started c#2"]),
        (
            Strategy::OneForAll,
            vec![
                "dropped b#1",
                "dropped c#1",
                "dropped a#1",
                "started a#2",
                "started b#2",
                "started c#2",
            ],
        ),
    ] {
        let seen = Seen::default();
        let (spec, probes) = spec_of(strategy, &seen);
        let root = spec.start(placement(2));
        root.up().await.unwrap();
        seen.take();
        tell(&probes[1], Break::Handler);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(seen.take(), expected, "{strategy:?}");
    }
}

#[actix_rt::test]
async fn back_off_grows_and_over_budget_the_root_ends_with_a_code() {
    tokio::time::pause();
    let (child, probe) = Probe::spec("p", &Seen::default());
    let mut spec = SupervisorSpec::new("root").child(child);
    spec.backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(1) };
    spec.intensity = Intensity { restarts_max: 3, period: Duration::from_secs(60) };
    let root = spec.start(placement(1));
    root.up().await.unwrap();
    let mut waits = Vec::new();
    for _ in 0..3 {
        tell(&probe, Break::Handler);
        let before = tokio::time::Instant::now();
        probe.send(Who).await.unwrap();
        waits.push(before.elapsed().as_millis());
    }
    for (wait, most) in waits.iter().zip([100, 200, 400]) {
        assert!((most / 2..=most + 2).contains(wait), "{waits:?}");
    }
    tell(&probe, Break::Handler);
    let queued = probe.send(Who);
    let exit = root.exited().await;
    assert_eq!(exit.code(), 1);
    assert!(
        exit.to_string().contains("`p` panicked: injected: handler, after 3 restarts"),
        "{exit}"
    );
    assert_eq!(queued.await, Err(MailboxError::Closed));
}

#[actix_rt::test]
async fn failure_goes_up_and_the_parent_makes_the_whole_branch_anew_behind_its_addresses() {
    tokio::time::pause();
    let seen = Seen::default();
    let (first, a) = Probe::spec("a", &seen);
    let (second, b) = Probe::spec("b", &seen);
    let mut spec = SupervisorSpec::new("branch").child(first).child(second);
    spec.intensity.restarts_max = 0;
    let (branch, branch_ref) = ChildSpec::supervisor(spec);
    let (beside, c) = Probe::spec("c", &seen);
    let root = SupervisorSpec::new("root").child(branch).child(beside).start(placement(2));
    root.up().await.unwrap();
    assert_eq!(seen.take(), ["started a#1", "started b#1", "started c#1"], "SUP-4 through levels");
    tell(&a, Break::Handler);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(seen.take(), ["dropped a#1", "dropped b#1", "started a#2", "started b#2"]);
    assert_eq!(b.send(Who).await.unwrap().0, 2);
    assert_eq!(c.send(Who).await.unwrap().0, 1);
    assert_eq!(status(&root, "branch").await.restarts, 1);
    assert_eq!(status(&branch_ref, "a").await.state, ChildState::Running);
    root.stop().await;
    assert_eq!(branch_ref.exited().await, Exit::Normal);
    let ends =
        ["c", "b", "a"].map(|name| format!("drains {name}#{}", if name == "c" { 1 } else { 2 }));
    let drains: Vec<_> =
        seen.take().into_iter().filter(|what| what.starts_with("drains")).collect();
    assert_eq!(drains, ends);
}

#[actix_rt::test]
async fn children_come_and_go_while_it_runs() {
    tokio::time::pause();
    let seen = Seen::default();
    let root = SupervisorSpec::new("root").start(placement(2));
    let (child, probe) = Probe::spec("p", &seen);
    root.start_child(child).await.unwrap();
    assert_eq!(probe.send(Count).await, Ok(1));
    let (again, _) = Probe::spec("p", &seen);
    let exists = StartChildError::Exists { name: "p".into() };
    assert_eq!(root.start_child(again).await, Err(exists));
    let (refused, never) = ChildSpec::actor::<Probe>("q", |_| Err(StartError::new("no")));
    let failed = StartChildError::Failed { name: "q".into(), exit: Exit::Failed("no".into()) };
    assert_eq!(root.start_child(refused).await, Err(failed));
    assert_eq!(never.send(Count).await, Err(MailboxError::Closed));
    root.stop_child("p").await.unwrap();
    assert_eq!(probe.send(Count).await, Err(MailboxError::Closed));
    assert_eq!(root.children().await.unwrap(), []);
    let unknown = StopChildError::Unknown { name: "p".into() };
    assert_eq!(root.stop_child("p").await, Err(unknown));
    let (anew, probe) = Probe::spec("p", &seen);
    root.start_child(anew).await.unwrap();
    assert_eq!(probe.send(Count).await, Ok(1));
}

#[actix_rt::test]
async fn what_is_fatal_ends_the_root_at_once() {
    tokio::time::pause();
    let placement = placement(1);
    let (child, _probe) = Probe::spec("p", &Seen::default());
    let root = SupervisorSpec::new("root").child(child).start(placement.clone());
    root.up().await.unwrap();
    crate::placement::Placement::services(&*placement).fatal("writes do not end");
    assert_eq!(root.exited().await, Exit::Failed("writes do not end".into()));
}

#[actix_rt::test]
async fn two_children_of_one_name_are_refused() {
    tokio::time::pause();
    let seen = Seen::default();
    let spec = SupervisorSpec::new("root");
    let root = spec.child(Probe::spec("p", &seen).0).child(Probe::spec("p", &seen).0);
    let exit = root.start(placement(1)).exited().await;
    assert!(exit.to_string().contains("two children are named `p`"), "{exit}");
}
