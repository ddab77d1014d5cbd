//! What supervision costs a message: a supervised actor against one of stock actix.

#[path = "common/bench.rs"]
#[allow(dead_code, unused_imports, reason = "each bench uses a part of it")]
mod bench;

use std::{collections::VecDeque, process::ExitCode, sync::Arc, time::Duration};

use actix::prelude::*;
use bench::{Bar, Bench, Figure, Pace, median, run_beside};
use flumen_runtime::{
    disk::{Engine, RealDisks},
    latency::Latency,
    mailbox::Drain,
    placement::{Services, ThreadOptions, ThreadPlacement},
    supervision::{ChildSpec, SupervisorSpec},
};
use tokio::time::Instant;

const IN_FLIGHT: usize = 1024;

/// Adds up what it is told.
#[derive(Default)]
struct Adder {
    sum: u64,
}

impl Actor for Adder {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // As a supervised mailbox: what bounds it is how many messages are in flight.
        ctx.set_mailbox_capacity(0);
    }
}

#[derive(Message)]
#[rtype(result = "u64")]
struct Add(u64);

impl Handler<Add> for Adder {
    type Result = u64;

    fn handle(&mut self, Add(amount): Add, _: &mut Self::Context) -> u64 {
        self.sum += amount;
        self.sum
    }
}

impl Handler<Drain> for Adder {
    type Result = ();

    fn handle(&mut self, _: Drain, _: &mut Self::Context) {}
}

/// Nanoseconds a message, with [`IN_FLIGHT`] of them under way; and the sum of all answers.
async fn round(adder: &Addr<Adder>, messages: u64) -> (f64, u64) {
    let (began, mut checksum) = (Instant::now(), 0_u64);
    let mut in_flight = VecDeque::with_capacity(IN_FLIGHT);
    for number in 0..messages {
        if in_flight.len() == IN_FLIGHT
            && let Some(oldest) = in_flight.pop_front()
        {
            checksum = checksum.wrapping_add(answered(oldest).await);
        }
        in_flight.push_back(adder.send(Add(number)));
    }
    for left in in_flight {
        checksum = checksum.wrapping_add(answered(left).await);
    }
    (began.elapsed().as_nanos() as f64 / messages as f64, checksum)
}

async fn answered(sent: Request<Adder, Add>) -> u64 {
    sent.await.expect("the actor lives as long as the bench")
}

/// What the answers of `rounds` rounds add up to, on an actor that counts on over all of them.
fn expected(rounds: u64, messages: u64) -> u64 {
    let (mut sum, mut checksum) = (0_u64, 0_u64);
    for number in (0..rounds).flat_map(|_| 0..messages) {
        sum += number;
        checksum = checksum.wrapping_add(sum);
    }
    checksum
}

/// Latencies of messages that are due at a steady rate.
async fn paced(adder: &Addr<Adder>, per_second: u32, messages: u32) -> Latency {
    let (pace, mut latency) = (Pace::per_second(per_second), Latency::new());
    for number in 0..messages {
        let due = pace.wait(number).await;
        answered(adder.send(Add(1))).await;
        latency.record(due.elapsed());
    }
    latency
}

struct Measured {
    /// Nanoseconds a message in each round.
    supervised: Vec<f64>,
    stock: Vec<f64>,
    checksums: (u64, u64),
    latencies: (Latency, Latency),
}

async fn measure(supervised: Addr<Adder>, rounds: u64, messages: u64, paced_ms: u32) -> Measured {
    let stock = Adder::default().start();
    let mut measured = Measured {
        supervised: Vec::new(),
        stock: Vec::new(),
        checksums: (0, 0),
        latencies: (Latency::new(), Latency::new()),
    };
    for _ in 0..rounds {
        let (nanos, checksum) = round(&supervised, messages).await;
        measured.supervised.push(nanos);
        measured.checksums.0 = measured.checksums.0.wrapping_add(checksum);
        let (nanos, checksum) = round(&stock, messages).await;
        measured.stock.push(nanos);
        measured.checksums.1 = measured.checksums.1.wrapping_add(checksum);
    }
    const PER_SECOND: u32 = 100_000;
    let messages = PER_SECOND / 1000 * paced_ms;
    measured.latencies =
        (paced(&supervised, PER_SECOND, messages).await, paced(&stock, PER_SECOND, messages).await);
    measured
}

fn main() -> ExitCode {
    let mut bench = Bench::start(
        "mailbox",
        "the time of a message to a supervised actor against stock actix, sender and receiver on \
         one arbiter, 1,024 messages in flight, median of interleaved rounds; then 100,000 a second \
         in an open loop",
    );
    let (rounds, messages) = bench.pick((5, 100_000), (15, 500_000));
    let paced_ms = bench.pick(500, 3_000);
    let measured = actix_rt::System::new().block_on(async move {
        let disks = RealDisks::choose(Engine::Auto).expect("`auto` takes what there is");
        let options = ThreadOptions {
            arbiters: 1,
            wedged_after: Duration::from_secs(60),
            ..ThreadOptions::default()
        };
        let services = Services::of_system(Arc::new(disks));
        let placement = ThreadPlacement::start(options, services).expect("threads are to be had");
        let (child, adder) = ChildSpec::actor("adder", |_| Ok(Adder::default()));
        let root = SupervisorSpec::new("root").child(child).start(placement.clone());
        root.up().await.expect("the adder starts");
        let program = move || measure(adder, rounds, messages, paced_ms);
        let measured = run_beside(&root, "adder", program).await;
        root.stop().await;
        placement.stop();
        measured
    });
    let should = expected(rounds, messages);
    bench.check("answers of the supervised actor", &measured.checksums.0, &should);
    bench.check("answers of the stock actor", &measured.checksums.1, &should);
    let (supervised, stock) = &measured.latencies;
    bench.latencies(&[("supervised", supervised), ("stock actix", stock)]);
    let (supervised, stock) = (median(measured.supervised), median(measured.stock));
    bench.figure(Figure::against(
        "supervised_mailbox",
        (supervised, "ns"),
        (stock, "stock actix"),
        Bar::RatioAtMost(1.25),
    ));
    bench.finish()
}
