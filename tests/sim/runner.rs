//! Runs a scenario once per seed, on all cores, and says how to see a failure again.
//!
//! `SIM_SEED=n` runs that seed alone and prints its trace; `SIM_SEEDS=count` changes how many.

use std::{
    env,
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use flumen_runtime::sim::{Outcome, Planted};

use crate::coverage::Coverage;

/// Lines of the trace that a failure shows.
const LINES_SHOWN: usize = 40;

/// One scenario: everything that a seed decides, from the first line to the oracle.
pub(crate) type Scenario = fn(u64, &[Planted]) -> Outcome<Coverage>;

/// How many seeds a scenario is run with.
pub(crate) fn seeds() -> u64 {
    env::var("SIM_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(200)
}

fn only_seed() -> Option<u64> {
    env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok())
}

/// Runs `scenario` with so many `times` the usual number of seeds; what they met, all together. None where
/// one seed was asked for.
///
/// # Panics
/// Where a seed fails: with its number, the command that repeats it and the end of its trace.
#[expect(
    clippy::print_stdout,
    reason = "the trace of the one seed that was asked for, and what many have met"
)]
pub(crate) fn explore(name: &str, times: u64, scenario: Scenario) -> Option<Coverage> {
    if let Some(seed) = only_seed() {
        let outcome = scenario(seed, &[]);
        println!("{}\nhash {:016x}", outcome.lines.join("\n"), outcome.hash);
        report(name, &outcome);
        return None;
    }
    let (met, failed) = run_all(scenario, &[], times * seeds());
    if let Some(outcome) = failed {
        report(name, &outcome);
    }
    println!("{name}: {met:?}");
    Some(met)
}

/// The first seed that finds `bug`, with what it said; none where no seed does.
pub(crate) fn hunt(scenario: Scenario, bug: Planted) -> Option<(u64, String)> {
    let (_, failed) = run_all(scenario, &[bug], 200);
    failed.map(|outcome| (outcome.seed, outcome.result.expect_err("only failures are reported")))
}

/// Runs seeds until one fails; which one of several that fail is left to the cores.
fn run_all(
    scenario: Scenario,
    planted: &[Planted],
    seeds: u64,
) -> (Coverage, Option<Outcome<Coverage>>) {
    let next = AtomicU64::new(0);
    let work = || {
        let mut met = Coverage::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return (met, None);
            }
            let outcome = scenario(seed, planted);
            met.disk(&outcome.seen);
            match &outcome.result {
                Ok(seen) => met.add(seen),
                Err(_) => {
                    next.store(seeds, Ordering::Relaxed);
                    return (met, Some(outcome));
                }
            }
        }
    };
    let cores = thread::available_parallelism().map_or(2, usize::from);
    let results: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("a run catches its panics")).collect()
    });
    let mut met = Coverage::default();
    let mut failed = None;
    for (seen, failure) in results {
        met.add(&seen);
        failed = failed.or(failure);
    }
    (met, failed)
}

fn report(name: &str, outcome: &Outcome<Coverage>) {
    let Err(message) = &outcome.result else { return };
    let mut text = String::new();
    let shown = outcome.lines.len().saturating_sub(LINES_SHOWN);
    for line in &outcome.lines[shown..] {
        writeln!(text, "{line}").expect("a string takes all lines");
    }
    panic!(
        "seed {seed}: {message}\nrepeat: SIM_SEED={seed} cargo test --test sim {name} -- --nocapture\n{text}",
        seed = outcome.seed
    );
}
