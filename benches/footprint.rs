//! What a node costs that has nothing to do: memory, and open files.

#[path = "common/bench.rs"]
#[allow(dead_code, unused_imports, reason = "each bench uses a part of it")]
mod bench;

use std::{fs, path::Path, process::ExitCode, time::Duration};

use bench::{Bench, Child, Figure, child, let_go, lift_limits, make_partitions, opened, tell};
use flumen::node::{self, NodeError, NodeOptions};

/// By then the allocator has given back what starting took.
const SETTLED: Duration = Duration::from_secs(12);

/// An idle process, from outside.
struct Idle {
    resident_bytes: f64,
    files: u64,
    records: u64,
}

fn main() -> ExitCode {
    if let Some((_, dir)) = child() {
        return idle(&dir);
    }
    let mut bench = Bench::start(
        "footprint",
        "resident memory and open files of a node with nothing to do, in a process of its own that \
         opened what another had closed; first without partitions, then with many",
    );
    let data = bench.data();
    let (none, many) = (data.path().join("none"), data.path().join("many"));
    let partitions = bench.pick(1_000, 10_000);
    make_partitions(&none, 0);
    make_partitions(&many, partitions);
    let (none, many) = (look(&none), look(&many));
    bench.check("records of all partitions", &many.records, &u64::from(partitions));
    let each = |with: f64, without: f64| (with - without) / f64::from(partitions);
    bench.say(format_args!("{partitions} partitions; {} and {} files", none.files, many.files));
    let node = none.resident_bytes / f64::from(1 << 20);
    let partition = each(many.resident_bytes, none.resident_bytes) / 1024.0;
    let files = each(many.files as f64, none.files as f64);
    bench.figure(Figure::at_most("rss_idle_node", node, "MiB", 15.0));
    bench.figure(Figure::at_most("rss_idle_partition", partition, "KiB", 4.0));
    bench.figure(Figure::at_most("fds_idle_partition", files, "files", 1.0));
    bench.finish()
}

/// In the child: a node that does nothing.
fn idle(data: &Path) -> ExitCode {
    lift_limits();
    let ended = node::run(NodeOptions::new(data), |node| async move {
        let records = opened(&node).await?;
        tokio::time::sleep(SETTLED).await;
        tell(records);
        let_go().await;
        Ok::<_, NodeError>(())
    });
    ended.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

/// What a node on `data` takes.
fn look(data: &Path) -> Idle {
    let mut child = Child::start("idle", data);
    let records = child.number();
    let of = |name| format!("/proc/{}/{name}", child.id());
    let statm = fs::read_to_string(of("statm")).expect("the child runs");
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<f64>().ok());
    let resident_bytes = pages.unwrap_or(f64::NAN) * rustix::param::page_size() as f64;
    let files = fs::read_dir(of("fd")).expect("the child runs").count() as u64;
    child.stop();
    Idle { resident_bytes, files, records }
}
