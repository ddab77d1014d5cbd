//! The power goes: a node writes to an ext4 of its own, whose every unsynced page is thrown away at a
//! random moment; what is left is mounted again, and the node is started on it.
//!
//! The same test must find what is lost where nothing is synced: a harness that finds nothing then
//! would show nothing.

#![expect(clippy::unwrap_used, reason = "in a test, failing is the answer")]

#[path = "process/harness.rs"]
mod harness;
#[path = "process/ledger.rs"]
mod ledger;
#[path = "power_cut/mount.rs"]
mod mount;
#[path = "power_cut/power.rs"]
mod power;
#[path = "process/server.rs"]
mod server;
#[path = "process/talk.rs"]
mod talk;

use std::{sync::Mutex, time::Duration};

use flumen_runtime::disk::{Engine, RealDisks};

use self::{
    harness::{End, Harness},
    ledger::Verdict,
    mount::Mount,
};

/// Room for a node and its journals.
const BYTES: u64 = 1 << 30;

/// Where the node dies before a cut, between a write and the sync that would have kept it.
const POINTS: [&str; 5] = [
    "log: written",
    "log: segment ended",
    "log: recovery point written",
    "file: renamed to its place",
    "journal: written",
];

/// One at a time: each has the real disk to itself.
static DISK: Mutex<()> = Mutex::new(());

/// The node of the tests below: they start this executable once more, for this test alone.
#[test]
#[ignore = "it is the node whose power the other tests cut"]
fn node_without_power() {
    let Ok(life) = std::env::var(talk::LIFE) else { return };
    server::live(&talk::parse(&life));
}

/// What came of it: the first broken promise, or the account.
fn cut_again_and_again(
    mount: &Mount,
    is_ring: bool,
    syncs_are_off: bool,
    cuts: u32,
) -> Result<Harness, String> {
    let seed = flumen_runtime::rng::Rng::from_system().next_u64();
    let logs = tempfile::tempdir().unwrap();
    let mut harness = Harness::new("node_without_power", is_ring, mount.dir(), logs.path(), seed);
    let say = |what: &str, verdict: Verdict| {
        verdict.map_err(|why| format!("seed {seed}, {what} on {}: {why}", mount.dir().display()))
    };
    // Topics and directories are there before anything goes wrong: what is lost then is records.
    say("at the start", harness.live(End::Stop))?;
    harness.life.syncs_are_off = syncs_are_off;
    for cut in 0..cuts {
        let cut_it = || power::cut(mount.dir()).unwrap();
        let mut freeze_and_cut = |node| {
            power::freeze(node).unwrap();
            cut_it();
        };
        let after = Duration::from_millis(100 + harness.rng.below(900));
        let at = POINTS.get(cut as usize / 2).filter(|_| cut % 2 == 0 && !syncs_are_off);
        let lived = match at {
            Some(point) => harness.live(End::Point(point, 1)).map(|()| cut_it()),
            None => harness.live(End::After(after, Some(&mut freeze_and_cut))),
        };
        power::again(mount).unwrap();
        say(&format!("cut {cut} after {after:?} or at {at:?}"), lived)?;
    }
    say("at the end", harness.live(End::Stop))?;
    Ok(harness)
}

fn with_mount(test: impl FnOnce(&Mount)) {
    let _alone = DISK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match Mount::of(BYTES) {
        Ok(mount) => test(&mount),
        Err(why) => skip(&why),
    }
}

fn skip(why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}");
    eprintln!("skipped: {why}");
}

fn cuts() -> u32 {
    if std::env::var_os("FLUMEN_LONG").is_some() { 100 } else { 16 }
}

fn nothing_is_lost(is_ring: bool) {
    with_mount(|mount| {
        let harness = cut_again_and_again(mount, is_ring, false, cuts());
        let harness = harness.unwrap_or_else(|why| panic!("{why}"));
        let account = &harness.ledger;
        assert!(account.acknowledged > 200 && account.lines > 100, "it did nothing");
        assert!(account.repeated > 0, "no cut met a batch on its way");
        eprintln!(
            "{} cuts: {} records acknowledged, {} batches sent again, {} lines; none lost or doubled",
            cuts(),
            account.acknowledged,
            account.repeated,
            account.lines
        );
    });
}

fn loss_is_found(is_ring: bool) {
    with_mount(|mount| {
        let found = cut_again_and_again(mount, is_ring, true, 5).err();
        let found = found.expect("five cuts without a sync, and the account came out even");
        let first = found.lines().next().unwrap_or_default();
        // Either the ledger misses a record, or the node finds its own files short of what it knows.
        let is_loss = found.contains("lost") || found.contains("below what was durable");
        assert!(is_loss, "something else broke: {found}");
        eprintln!("as it must: {first}");
    });
}

fn has_ring() -> bool {
    RealDisks::choose(Engine::Uring).inspect_err(|error| skip(&error.to_string())).is_ok()
}

#[test]
fn power_cuts_take_nothing_from_a_node_on_io_uring() {
    if has_ring() {
        nothing_is_lost(true);
    }
}

#[test]
fn power_cuts_take_nothing_from_a_node_on_threads() {
    nothing_is_lost(false);
}

#[test]
fn power_cuts_are_found_to_take_what_io_uring_did_not_sync() {
    if has_ring() {
        loss_is_found(true);
    }
}

#[test]
fn power_cuts_are_found_to_take_what_threads_did_not_sync() {
    loss_is_found(false);
}
