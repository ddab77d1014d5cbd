//! How long it takes until a node serves again: after a clean stop, with much data or with many
//! partitions; and how much it reads after a crash.

#[path = "common/bench.rs"]
#[allow(dead_code, unused_imports, reason = "each bench uses a part of it")]
mod bench;
#[path = "recovery/crash.rs"]
mod crash;
#[path = "recovery/fill.rs"]
mod fill;

use std::{fs, path::Path, process::ExitCode};

use bench::{Bar, Bench, Figure, child, lift_limits, make_partitions, median, opened};
use flumen::node::{self, NodeError, NodeOptions};
use flumen_runtime::disk::Engine;
use tokio::time::Instant;

const GIB: u64 = 1 << 30;

fn main() -> ExitCode {
    if let Some((_, dir)) = child() {
        return crash::append_for_ever(&dir);
    }
    let mut bench = Bench::start(
        "recovery",
        "from the start of a node to every partition serving: with a log of 10 GiB that was closed \
         in order, then with 10,000 partitions that were; and what is read of the 10 GiB log after \
         kill -9 while it was appended to, against what lies beyond its recovery point",
    );
    let data = bench.data();
    let large = data.path().join("large");
    let bytes = bench.pick(GIB / 2, 10 * GIB).min(room(data.path()));
    bench.say(format_args!("a log of {:.1} GiB", bytes as f64 / GIB as f64));
    let records = fill::fill(&large, bytes);
    let mut times = Vec::new();
    for _ in 0..bench.pick(1, 3) {
        fill::forget_cached(&large);
        let (milliseconds, end) = fill::open(&large);
        bench.check("records of the log", &end, &records);
        times.push(milliseconds);
    }
    bench.figure(Figure::at_most("open_clean", median(times), "ms", 500.0));
    crashed(&mut bench, &large);
    fs::remove_dir_all(&large).expect("nobody uses it any more");

    let partitions = bench.pick(1_000, 10_000);
    let many = data.path().join("many");
    make_partitions(&many, partitions);
    bench.say(format_args!("{partitions} partitions"));
    let mut times = Vec::new();
    for _ in 0..bench.pick(1, 3) {
        let (milliseconds, records) = open_many(&many);
        bench.check("records of all partitions", &records, &u64::from(partitions));
        times.push(milliseconds);
    }
    bench.figure(Figure::at_most("open_10k_partitions", median(times), "ms", 1000.0));
    bench.finish()
}

/// What may be written below `dir`, with enough left for others.
fn room(dir: &Path) -> u64 {
    let stat = rustix::fs::statvfs(dir).expect("it was just made");
    (stat.f_bavail * stat.f_frsize).saturating_sub(6 * GIB)
}

fn open_many(data: &Path) -> (f64, u64) {
    lift_limits();
    let began = Instant::now();
    let opened = node::run(NodeOptions::new(data), |node| async move {
        let records = opened(&node).await?;
        Ok::<_, NodeError>((began.elapsed().as_secs_f64() * 1e3, records))
    });
    opened.expect("what was closed in order opens")
}

fn crashed(bench: &mut Bench, data: &Path) {
    let crash = crash::run(data, Engine::Auto, bench.pick(100 << 20, 400 << 20));
    bench.check("acknowledged records are there", &crash.has_all_acknowledged, &true);
    let trail = crash.past_checkpoint as f64 / f64::from(1 << 20);
    bench.say(format_args!("the recovery point was {trail:.1} MiB behind the end"));
    bench.figure(
        Figure::against(
            "recover_read",
            (crash.bytes_read as f64, "bytes"),
            ((crash.past_checkpoint + (1 << 20)) as f64, "what lies past the recovery point"),
            Bar::RatioAtMost(1.0),
        )
        .enforced(),
    );
    let is_near = crash.past_checkpoint <= (64 << 20) + crash::IN_FLIGHT_BYTES;
    bench.check("the recovery point trails the sync by 64 MiB at most", &is_near, &true);
}
