//! How fast a partition appends and syncs, against a bare loop; and what a thousand lightly written
//! partitions cost.

#[path = "common/bench.rs"]
#[allow(dead_code, unused_imports, reason = "each bench uses a part of it")]
mod bench;
#[path = "append/saturate.rs"]
mod saturate;
#[path = "append/thousand.rs"]
mod thousand;

use std::process::ExitCode;

use bench::{Bar, Bench, Figure, Raw};
use saturate::{Load, Round};

const MB: f64 = 1e6;

fn main() -> ExitCode {
    let mut bench = Bench::start(
        "append",
        "64 KiB batches as fast as a partition takes them, synced before each ack, and the same of \
         100-byte records encoded in the run, each against a thread that writes and syncs a zeroed \
         file, as many bytes at a time as the median sync of the partition; then 1,000 partitions, \
         each one 100-byte batch ten times a second, synced",
    );
    saturated(&mut bench);
    let quick = bench.pick(true, false);
    let ran = thousand::run(&bench.data(), if quick { 3 } else { 15 });
    bench.check("records of a thousand partitions", &ran.records, &ran.records_sent);
    bench.check("sum of their numbers", &ran.sum, &ran.sum_sent);
    bench.say("a thousand partitions, from when a batch was due to its ack:");
    bench.latencies(&[("synced", &ran.latency)]);
    let p99 = ran.latency.p99().as_secs_f64() * 1e3;
    bench.figure(Figure::at_most("thousand_logs_synced", p99, "ms", 5.0));
    bench.figure(Figure::at_most("thousand_logs_cpu", ran.cores, "cores", 0.25));
    bench.finish()
}

/// `append_synced` and `append_records_synced`: rounds of each, interleaved with the raw loop's.
fn saturated(bench: &mut Bench) {
    let data = bench.data();
    let mut raw = Raw::new(data.path());
    let (rounds, bytes) = bench.pick((2, 256 << 20), (5, 1 << 30));
    for (name, load, bar) in
        [("append_synced", Load::Encoded, 0.9), ("append_records_synced", Load::Records, 0.6)]
    {
        let mut measured: Vec<Round> = Vec::new();
        let mut reference = Vec::new();
        for number in 0..rounds {
            let dir = data.path().join(format!("{name}-{number}"));
            let round = saturate::run(&dir, load, bytes);
            std::fs::remove_dir_all(&dir).expect("nobody uses it any more");
            reference.push(raw.run(round.sync_bytes, bytes.min(1 << 30)));
            bench.say(format_args!(
                "{name}: {:.0} MB/s, {} KiB a sync (median); raw loop {:.0} MB/s",
                round.per_second / MB,
                round.sync_bytes >> 10,
                reference[number] / MB
            ));
            bench.check("batches and sum of what was read back", &round.read, &round.appended);
            measured.push(round);
        }
        let latency = &measured.last().expect("there are rounds").latency;
        bench.say("from when a batch was sent to its ack, as many in flight as are taken:");
        bench.latencies(&[(name, latency)]);
        // The raw loop writes as much at a time as the round before it synced, so each is held against
        // its own round, and the median is that of the ratios.
        let rates = measured.iter().map(|round| round.per_second / MB);
        let mut pairs: Vec<_> = rates.zip(reference.iter().map(|rate| rate / MB)).collect();
        pairs.sort_by(|(ours, raw), (others, others_raw)| {
            (ours / raw).total_cmp(&(others / others_raw))
        });
        let (value, raw) = pairs[pairs.len() / 2];
        let bar = Bar::RatioAtLeast(bar);
        bench.figure(Figure::against(name, (value, "MB/s"), (raw, "the raw loop"), bar));
    }
}
