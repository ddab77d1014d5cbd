//! A node of real threads and files is killed with SIGKILL, at random times and at named points, and
//! started again on what it left; the account is kept out here.
//!
//! Each point must be reached, or the test fails: what was never tried is not shown.

#![expect(clippy::unwrap_used, reason = "in a test, failing is the answer")]

#[path = "process/harness.rs"]
mod harness;
#[path = "process/ledger.rs"]
mod ledger;
#[path = "process/server.rs"]
mod server;
#[path = "process/talk.rs"]
mod talk;

use std::time::Duration;

use flumen_runtime::disk::{Engine, RealDisks};

use self::harness::{End, Harness};

/// Where the node dies; the names stand where it comes by.
const POINTS: [&str; 15] = [
    "log: written",
    "log: synced",
    "files: part written",
    "log: segment ended",
    "log: segment begun",
    "log: snapshot written",
    "log: recovery point written",
    "log: recovery point synced",
    "file: written beside its place",
    "file: renamed to its place",
    "journal: written",
    "journal: synced",
    "topic sink: appended",
    "channel: head written",
    "coordinator: appended",
];

/// The node of the tests below: they start this executable once more, for this test alone.
#[test]
#[ignore = "it is the node that the other tests kill"]
fn node_that_is_killed() {
    let Ok(life) = std::env::var(talk::LIFE) else { return };
    server::live(&talk::parse(&life));
}

fn kill_again_and_again(is_ring: bool, random: u32) {
    let seed = flumen_runtime::rng::Rng::from_system().next_u64();
    let dir = tempfile::tempdir().unwrap();
    let logs = tempfile::tempdir().unwrap();
    let mut harness = Harness::new("node_that_is_killed", is_ring, dir.path(), logs.path(), seed);
    let mut kills = 0;
    for point in POINTS {
        let nth = 1 + harness.rng.below(3) as u32;
        let lived = harness.live(End::Point(point, nth));
        lived.unwrap_or_else(|why| panic!("seed {seed}, `{point}` {nth}: {why}"));
        kills += 1;
    }
    for _ in 0..random {
        let after = Duration::from_millis(harness.rng.below(600));
        let lived = harness.live(End::After(after, None));
        lived.unwrap_or_else(|why| panic!("seed {seed}, kill {kills} after {after:?}: {why}"));
        kills += 1;
    }
    for _ in 0..2 {
        harness.live(End::Stop).unwrap_or_else(|why| panic!("seed {seed}, at the end: {why}"));
    }
    let account = &harness.ledger;
    assert!(account.acknowledged > 300 && account.lines > 300, "seed {seed}: it did nothing");
    assert!(account.repeated > 0, "seed {seed}: no kill met a batch on its way");
    eprintln!(
        "{kills} kills: {} records acknowledged, {} batches sent again, {} lines; none lost or doubled",
        account.acknowledged, account.repeated, account.lines
    );
}

fn times() -> u32 {
    if std::env::var_os("FLUMEN_LONG").is_some() { 300 } else { 15 }
}

#[test]
fn a_node_on_io_uring_that_is_killed_loses_and_doubles_nothing() {
    if let Err(error) = RealDisks::choose(Engine::Uring) {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{error}");
        eprintln!("skipped: {error}");
        return;
    }
    kill_again_and_again(true, times());
}

#[test]
fn a_node_on_threads_that_is_killed_loses_and_doubles_nothing() {
    kill_again_and_again(false, times());
}
