//! Arbiters that wedge or die, simulated and real.

use std::{
    io::Read,
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use super::*;
use crate::{
    mailbox::tell,
    placement::{Place, Placement, ThreadOptions, ThreadPlacement},
};

const FIRST: Place = Place::On(ArbiterId(0));

#[actix_rt::test]
async fn actors_of_a_wedged_arbiter_move_and_late_effects_come_from_the_old_life() {
    tokio::time::pause();
    let seen = Seen::default();
    let (wedging, wedged) = Probe::spec("wedged", &seen);
    let (beside, neighbour) = Probe::spec("neighbour", &seen);
    let placement = placement(2);
    let root = SupervisorSpec::new("root")
        .child(wedging.place(FIRST))
        .child(beside.place(Place::With("wedged".into())))
        .start(placement.clone());
    root.up().await.unwrap();
    assert_eq!(neighbour.send(Who).await, Ok((1, ArbiterId(0))));

    placement.wedge(ArbiterId(0), Some(&"wedged".into()));
    let taken = wedged.send(Who);
    let queued = wedged.send(Who);
    let before = tokio::time::Instant::now();
    assert_eq!(neighbour.send(Who).await, Ok((2, ArbiterId(1))));
    assert_eq!(queued.await, Ok((2, ArbiterId(1))));
    let within = placement.wedged_after() + placement.wedged_after() / 2;
    assert!(before.elapsed() < within, "{:?}", before.elapsed());

    placement.release(ArbiterId(0));
    assert_eq!(taken.await, Ok((1, ArbiterId(0))), "SUP-1: the old life still runs, late");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(wedged.send(Who).await, Ok((2, ArbiterId(1))), "SUP-5: but is given nothing more");
    assert_eq!(status(&root, "wedged").await.state, ChildState::Running, "SUP-6");
    let dropped = seen.take().iter().filter(|what| what.ends_with("#1")).count();
    assert_eq!(dropped, 4, "both old lives started and were dropped");
}

#[actix_rt::test]
async fn an_arbiter_that_comes_back_in_time_keeps_its_actors() {
    tokio::time::pause();
    let placement = placement(2);
    let (child, probe) = Probe::spec("p", &Seen::default());
    let root = SupervisorSpec::new("root").child(child.place(FIRST)).start(placement.clone());
    root.up().await.unwrap();
    placement.wedge(ArbiterId(0), None);
    tokio::time::sleep(placement.wedged_after() / 2).await;
    placement.release(ArbiterId(0));
    tokio::time::sleep(placement.wedged_after() * 3).await;
    assert_eq!(probe.send(Who).await, Ok((1, ArbiterId(0))));
}

#[actix_rt::test]
async fn without_any_arbiter_the_root_fails() {
    tokio::time::pause();
    let placement = placement(1);
    let (child, _probe) = Probe::spec("p", &Seen::default());
    let root = SupervisorSpec::new("root").child(child).start(placement.clone());
    root.up().await.unwrap();
    placement.wedge(ArbiterId(0), None);
    let exit = root.exited().await;
    assert!(exit.to_string().contains("no arbiter"), "{exit}");
}

/// Blocks its thread until it is told, which no actor may.
#[derive(Clone, Default, Message)]
#[rtype(result = "u64")]
struct Block {
    entered: Arc<AtomicBool>,
    until: Arc<AtomicBool>,
}

impl Handler<Block> for Probe {
    type Result = u64;

    #[expect(clippy::disallowed_methods, reason = "this is what the watchdog is for")]
    fn handle(&mut self, block: Block, _: &mut Context<Self>) -> u64 {
        block.entered.store(true, Ordering::Relaxed);
        while !block.until.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.incarnation.number()
    }
}

/// Registers one end of a socket pair with its arbiter.
#[derive(Message)]
#[rtype(result = "()")]
struct Hold(UnixStream);

impl Handler<Hold> for Probe {
    type Result = ();

    fn handle(&mut self, Hold(socket): Hold, ctx: &mut Context<Self>) {
        let guard = self.incarnation.local().sockets().register(socket.try_clone().unwrap());
        ctx.spawn(
            async move {
                std::future::pending::<()>().await;
                drop((socket, guard));
            }
            .into_actor(self),
        );
    }
}

fn threads(arbiters: u32) -> Arc<ThreadPlacement> {
    let options = ThreadOptions { arbiters, pin: false, wedged_after: Duration::from_millis(300) };
    ThreadPlacement::start(options, services()).unwrap()
}

#[actix_rt::test]
async fn a_wedged_handler_costs_its_arbiter_and_its_neighbour_serves_again_within_a_second() {
    let seen = Seen::default();
    let (wedging, wedged) = Probe::spec("wedged", &seen);
    let (beside, neighbour) = Probe::spec("neighbour", &seen);
    let placement = threads(2);
    let mut spec =
        SupervisorSpec::new("root").child(wedging.place(FIRST)).child(beside.place(FIRST));
    // The neighbour's move is free; the wedge is paid for.
    spec.intensity.restarts_max = 1;
    let root = spec.start(placement.clone());
    root.up().await.unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    neighbour.send(Hold(ours)).await.unwrap();

    let block = Block::default();
    let blocked = wedged.send(block.clone());
    while !block.entered.load(Ordering::Relaxed) {
        tokio::task::yield_now().await;
    }
    let queued = wedged.send(Who);
    let before = tokio::time::Instant::now();
    let (life, arbiter) = neighbour.send(Who).await.unwrap();
    let served_after = before.elapsed();
    assert_eq!(life, 2);
    assert_ne!(arbiter, ArbiterId(0));
    assert_eq!(queued.await.unwrap().0, 2);
    assert!(served_after < Duration::from_secs(1), "{served_after:?}");
    theirs.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(theirs.read(&mut [0; 1]).unwrap(), 0, "its peer learns that it is gone");
    assert_eq!(placement.arbiters(), [ArbiterId(1), ArbiterId(2)], "another took its place");

    block.until.store(true, Ordering::Relaxed);
    assert_eq!(blocked.await, Ok(1), "SUP-1: the old life still ended its handler");
    assert_eq!(wedged.send(Who).await.unwrap().0, 2);
    for name in ["wedged", "neighbour"] {
        let status = status(&root, name).await;
        assert_eq!((status.state, status.restarts), (ChildState::Running, 1), "SUP-6: {name}");
    }
    // The thread that came back drops what it holds.
    for _ in 0..100 {
        if seen.0.lock().unwrap().iter().filter(|what| what.starts_with("dropped")).count() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut dropped: Vec<_> =
        seen.take().into_iter().filter(|what| what.starts_with("dropped")).collect();
    dropped.sort_unstable();
    assert_eq!(dropped, ["dropped neighbour#1", "dropped wedged#1"]);
    root.stop().await;
    placement.stop();
}

/// Ends the event loop of its own arbiter: as near to a dead thread as safe code comes.
#[derive(Message)]
#[rtype(result = "()")]
struct EndThread;

impl Handler<EndThread> for Probe {
    type Result = ();

    fn handle(&mut self, _: EndThread, _: &mut Context<Self>) {
        actix_rt::Arbiter::current().stop();
    }
}

#[actix_rt::test]
async fn actors_of_a_dead_thread_are_made_anew_elsewhere_at_the_price_of_one() {
    let placement = threads(2);
    let mut spec = SupervisorSpec::new("root");
    spec.intensity.restarts_max = 1;
    let mut probes = Vec::new();
    for number in 0..20 {
        let (child, probe) = Probe::spec(&format!("p{number}"), &Seen::default());
        spec = spec.child(child.place(FIRST));
        probes.push(probe);
    }
    let root = spec.start(placement.clone());
    root.up().await.unwrap();
    tell(&probes[0], EndThread);
    let late = Probe::spec("late", &Seen::default());
    let moved = async {
        for probe in &probes {
            loop {
                // The thread may answer once more before it ends.
                match probe.send(Who).await {
                    Ok((1, _)) | Err(_) => tokio::task::yield_now().await,
                    Ok((_, arbiter)) => break assert_ne!(arbiter, ArbiterId(0)),
                }
            }
        }
    };
    let (moved, started) = futures::join!(
        tokio::time::timeout(Duration::from_secs(10), moved),
        root.start_child(late.0.place(FIRST)),
    );
    moved.expect("they move");
    started.expect("one that comes while the thread is dead starts with them");
    root.stop().await;
    placement.stop();
}

#[actix_rt::test]
async fn pinned_arbiters_run_actors_and_move_them_between_threads_by_job() {
    let options = ThreadOptions { arbiters: 2, pin: true, ..ThreadOptions::default() };
    let placement = ThreadPlacement::start(options, services()).unwrap();
    let (first, a) = Probe::spec("a", &Seen::default());
    let (second, b) = Probe::spec("b", &Seen::default());
    let root = SupervisorSpec::new("root").child(first).child(second).start(placement.clone());
    let (a, b) = (a.send(Who).await.unwrap().1, b.send(Who).await.unwrap().1);
    assert_ne!(a, b, "they are spread");
    root.stop().await;
    placement.stop();
}

#[test]
fn a_tcp_socket_is_shut_down_too() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut theirs, _) = listener.accept().unwrap();
    let sockets = crate::placement::Sockets::default();
    let _guard = sockets.register(ours.try_clone().unwrap());
    sockets.shut_down();
    assert_eq!(theirs.read(&mut [0; 1]).unwrap(), 0);
}

/// One run: two actors on two simulated arbiters tell a third, while one of them breaks and an
/// arbiter wedges; what the third saw, and who was made when.
fn seeded(seed: u64) -> crate::sim::Outcome<Vec<String>> {
    crate::sim::run(seed, &[], |world| async move {
        let seen = Seen::default();
        let clock = Arc::new(ManualClock::at(0));
        let services = Services::new(clock, world.rng.split("node"), Arc::new(world.disks));
        let placement = LocalPlacement::new(2, services);
        let mut spec = SupervisorSpec::new("root");
        let mut probes = Vec::new();
        for (name, arbiter) in [("a", 0), ("b", 1), ("c", 1)] {
            let (child, probe) = Probe::spec(name, &seen);
            spec = spec.child(child.place(Place::On(ArbiterId(arbiter))));
            probes.push(probe);
        }
        let root = spec.start(placement.clone());
        root.up().await.unwrap();
        for round in 0..20 {
            tell(&probes[0], Tell { to: probes[2].clone(), what: format!("a{round}") });
            tell(&probes[1], Tell { to: probes[2].clone(), what: format!("b{round}") });
            if round == 5 {
                root.inject_panic("a").await.unwrap();
            }
            if round == 10 {
                placement.wedge(ArbiterId(1), Some(&"b".into()));
                tokio::time::sleep(placement.wedged_after() * 2).await;
                placement.release(ArbiterId(1));
            }
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        root.stop().await;
        seen.take()
    })
}

/// Passes `what` on.
#[derive(Message)]
#[rtype(result = "()")]
struct Tell {
    to: actix::Addr<Probe>,
    what: String,
}

impl Handler<Tell> for Probe {
    type Result = ();

    fn handle(&mut self, Tell { to, what }: Tell, _: &mut Context<Self>) {
        tell(&to, Told(what));
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Told(String);

impl Handler<Told> for Probe {
    type Result = ();

    fn handle(&mut self, Told(what): Told, _: &mut Context<Self>) {
        self.seen.push(what);
    }
}

#[test]
fn a_seed_orders_deliveries_and_a_run_repeats_itself() {
    let mut different = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let first = seeded(seed).result.unwrap();
        assert_eq!(seeded(seed).result.unwrap(), first, "seed {seed}");
        for sender in ["a", "b"] {
            let told = |what: &&String| what.starts_with(sender) && what.len() < 4;
            let rounds: Vec<u32> =
                first.iter().filter(told).filter_map(|what| what[1..].parse().ok()).collect();
            // `b` sits on one message through the wedge, and passes it on late.
            let late = rounds.windows(2).filter(|pair| pair[0] > pair[1]).count();
            assert!(late <= usize::from(sender == "b"), "SUP-5, seed {seed}: {rounds:?}");
            assert_eq!(rounds.len(), 20, "seed {seed}: {rounds:?}");
        }
        different.insert(first);
    }
    assert!(different.len() > 5, "the seed decides: {} orders", different.len());
}
