//! A node is killed, or its power is cut, every few seconds, while eight clients produce idempotently
//! and the members of a group consume: clients of others' making (librdkafka), in processes of their
//! own, which live on. All that they saw is one history, and the checkers judge it. One topic is
//! compacted all the while.
//!
//! The same run must find what is lost where nothing is synced.

#![expect(clippy::unwrap_used, reason = "in a test, failing is the answer")]

#[path = "crash_clients/checkers.rs"]
mod checkers;
#[path = "crash_clients/compactions.rs"]
mod compactions;
#[path = "crash_clients/crowd.rs"]
mod crowd;
#[path = "crash_clients/dumped.rs"]
mod dumped;
#[path = "crash_clients/fixtures.rs"]
mod fixtures;
#[path = "crash_clients/history.rs"]
mod history;
#[path = "power_cut/mount.rs"]
mod mount;
#[path = "power_cut/power.rs"]
mod power;
#[path = "crash_clients/served.rs"]
mod served;
#[path = "dump_log/tool.rs"]
mod tool;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use flumen_runtime::{
    disk::{Engine, RealDisks},
    rng::Rng,
};
use tokio::time::Instant;

use self::{
    compactions::Compactions,
    crowd::Crowd,
    history::{Place, What},
    mount::Mount,
    served::{Served, Serving},
};

/// Room for a node and its journals.
const BYTES: u64 = 1 << 30;
/// The longest that the group may take to read and commit what is left when nobody produces any more.
const PATIENCE: Duration = Duration::from_secs(90);

/// One run at a time: each has a dozen processes.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn skip(why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}");
    eprintln!("skipped: {why}");
}

/// What a test needs of its surroundings; the reason is said where that is not there.
fn found(variable: &str) -> Option<String> {
    let found = std::env::var(variable).ok();
    if found.is_none() {
        skip(&format!(
            "{variable} is not set: run `tests/run --test crash_clients`, which sets it"
        ));
    }
    found
}

fn has_ring() -> bool {
    RealDisks::choose(Engine::Uring).inspect_err(|error| skip(&error.to_string())).is_ok()
}

/// The node of the power cuts: they start this executable once more, for this test alone.
#[test]
#[ignore = "it is the node whose power the other tests cut"]
fn node_of_the_clients() {
    let Ok(serving) = std::env::var(served::SERVE) else { return };
    served::serve(&serde_json::from_str(&serving).unwrap());
}

/// A crowd of clients around a node that is started again and again.
struct Run {
    crowd: Crowd,
    rng: Rng,
    seed: u64,
    serving: Serving,
    /// The program, or none for this executable.
    program: Option<PathBuf>,
    /// When lives ended, by the clock of the history.
    ends: Vec<u64>,
    compactions: Compactions,
    home: tempfile::TempDir,
}

impl Run {
    fn new(data: &Path, python: String, program: Option<PathBuf>, is_ring: bool) -> Self {
        let seed = Rng::from_system().next_u64();
        let mut rng = Rng::seeded(seed);
        let address = served::address(&mut rng);
        let crowd = Crowd::new(python, address.clone());
        let serving = Serving { data: data.join("data"), address, is_ring, syncs_are_off: false };
        let (ends, home) = (Vec::new(), tempfile::tempdir().unwrap());
        let compactions = Compactions::default();
        Self { crowd, rng, seed, serving, program, ends, compactions, home }
    }

    fn start(&self) -> Served {
        let errors = self.home.path().join("node.err");
        match &self.program {
            Some(program) => Served::program(program, &self.serving, &errors),
            None => Served::this("node_of_the_clients", &self.serving, &errors),
        }
    }

    /// Makes topics, and begins: what is lost from here on is records.
    fn begin(&mut self, assignor: &str) -> Result<(), String> {
        let mut node = self.start();
        node.listens()?;
        self.crowd.make_topics()?;
        node.stop()?;
        self.crowd.begin(assignor);
        Ok(())
    }

    /// The node lives for a while, and then `end` does what it does; now and then it dies young.
    fn live(&mut self, cut: Option<&Path>) -> Result<(), String> {
        self.compactions.look(&self.serving.data);
        let mut node = self.start();
        let life = if self.rng.chance(1, 4) { 50..500 } else { 1_000..3_000 };
        let life = life.start + self.rng.below(life.end - life.start);
        // Real time: the clients and the disk do not know ours.
        thread::park_timeout(Duration::from_millis(life));
        node.is_well()?;
        if let Some(dir) = cut {
            power::freeze(node.pid()).and_then(|()| power::cut(dir)).map_err(|e| e.to_string())?;
        }
        node.kill()?;
        self.ends.push(history::now());
        self.crowd.all_are_well()
    }

    /// The node lives on, everything is answered, read and committed, and the log is read.
    fn end(&mut self) -> Result<(), String> {
        self.compactions.look(&self.serving.data);
        let mut node = self.start();
        node.listens()?;
        let said = |why| format!("{why}\nthe node said:\n{}", node.said());
        self.crowd.end_producing().map_err(said)?;
        self.group_is_through().map_err(said)?;
        self.crowd.end_consuming().map_err(said)?;
        self.crowd.read().map_err(said)?;
        node.stop()
    }

    fn group_is_through(&mut self) -> Result<(), String> {
        let began = Instant::now();
        loop {
            let behind = self.crowd.look(|events| {
                let mut ends: BTreeMap<Place, (i64, i64)> = BTreeMap::new();
                for event in events {
                    let end = ends.entry(event.place.clone()).or_insert((-1, -1));
                    match event.what {
                        What::Acknowledged { offset, .. } => end.0 = end.0.max(offset),
                        What::Committed { next, known: true, .. } => end.1 = end.1.max(next - 1),
                        _ => {}
                    }
                }
                ends.into_iter().find(|(_, (produced, done))| done < produced)
            });
            let Some((place, (produced, done))) = behind else { return Ok(()) };
            self.crowd.all_are_well()?;
            if began.elapsed() > PATIENCE {
                return Err(format!("the group has committed {place} to {done} of {produced}"));
            }
            // Real time: other processes are waited for.
            thread::park_timeout(Duration::from_millis(200));
        }
    }

    /// Reads the log, whatever became of the clients.
    fn read_what_is_left(&mut self) -> Result<(), String> {
        self.crowd.abandon();
        let mut node = self.start();
        node.listens()?;
        self.crowd.read()
    }

    /// Nothing is wrong with the history, and it is one of a run that did something.
    fn judge(&mut self, outcome: Result<(), String>) {
        let seed = self.seed;
        // Where the run broke off, the log may tell why.
        let left = outcome.is_err().then(|| self.read_what_is_left());
        let complaints = self.crowd.look(checkers::check);
        let texts = complaints.iter().filter(|found| left.is_none() || found.name != "unseen");
        let first: Vec<&str> = texts.take(20).map(|found| found.text.as_str()).collect();
        if let Err(why) = outcome {
            panic!("seed {seed}: {why}\nthe log is read: {left:?}; {first:#?}");
        }
        assert!(first.is_empty(), "seed {seed}: {} complaints, {first:#?}", complaints.len());
        let (acknowledged, failed) = self.crowd.look(|events| {
            let is_acknowledged = |what: &What| matches!(what, What::Acknowledged { .. });
            let count = events.iter().filter(|event| is_acknowledged(&event.what)).count();
            let failed = events.iter().find_map(|event| match &event.what {
                What::Failed { record, why } => Some(format!("{record}: {why}")),
                _ => None,
            });
            (count, failed)
        });
        assert_eq!(failed, None, "seed {seed}: a client gave a record up");
        self.all_is_committed();
        let (resent, known) = self.crowd.look(|events| history::across(events, &self.ends));
        let (compactions, gone) = (&self.compactions, self.crowd.look(history::gone));
        assert!(acknowledged > 2_000, "seed {seed}: {acknowledged} records are not much of a run");
        assert!(resent > 0, "seed {seed}: no end met a record on its way");
        assert!(gone > 100, "seed {seed}: {gone} records went for later ones, {compactions:?}");
        eprintln!(
            "{} ends: {acknowledged} records acknowledged, {resent} in a later life than they were sent in, \
             {known} of which the log had when they were sent again; {gone} went for later ones in {} compactions \
             and {} that were cut short; none lost, doubled or out of order",
            self.ends.len(),
            compactions.done,
            compactions.cut_short
        );
    }

    fn all_is_committed(&self) {
        let mut ends: BTreeMap<Place, (i64, i64)> = BTreeMap::new();
        self.crowd.look(|events| {
            for event in events {
                let end = ends.entry(event.place.clone()).or_default();
                match event.what {
                    What::Held { offset, .. } => end.0 = end.0.max(offset + 1),
                    What::Looked { next, .. } => end.1 = end.1.max(next),
                    _ => {}
                }
            }
        });
        let partitions: u32 = crowd::TOPICS
            .iter()
            .filter_map(|topic| topic.split(':').nth(1)?.parse::<u32>().ok())
            .sum();
        assert_eq!(ends.len(), partitions as usize, "every partition was used");
        for (place, (end, committed)) in ends {
            assert_eq!(committed, end, "seed {}: the group's commits in {place}", self.seed);
        }
    }
}

fn kills() -> u32 {
    if std::env::var_os("FLUMEN_LONG").is_some() { 200 } else { 24 }
}

fn cuts() -> u32 {
    if std::env::var_os("FLUMEN_LONG").is_some() { 60 } else { 8 }
}

#[test]
fn clients_of_a_node_that_is_killed_lose_and_double_nothing() {
    let (Some(python), Some(program)) = (found("FLUMEN_PYTHON"), found("FLUMEN_BIN")) else {
        return;
    };
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let is_ring = RealDisks::choose(Engine::Uring).is_ok();
    let mut run = Run::new(dir.path(), python, Some(program.into()), is_ring);
    let outcome = run.begin("range").and_then(|()| {
        (0..kills()).try_for_each(|_| run.live(None))?;
        run.end()
    });
    run.judge(outcome);
    if let Some(tools) = tool::tools() {
        run.crowd.look(|events| dumped::check(&tools, &run.serving.data, events));
    }
}

/// Cuts the power again and again, and brings it back.
fn cut(run: &mut Run, mount: &Mount, cuts: u32) -> Result<(), String> {
    for _ in 0..cuts {
        let lived = run.live(Some(mount.dir()));
        power::again(mount)?;
        lived?;
    }
    Ok(())
}

fn with_mount(test: impl FnOnce(&Mount, String)) {
    let Some(python) = found("FLUMEN_PYTHON") else { return };
    let _alone = alone();
    match Mount::of(BYTES) {
        Ok(mount) => test(&mount, python),
        Err(why) => skip(&why),
    }
}

fn nothing_is_lost(is_ring: bool) {
    with_mount(|mount, python| {
        let mut run = Run::new(mount.dir(), python, None, is_ring);
        let outcome = run.begin("cooperative-sticky").and_then(|()| {
            cut(&mut run, mount, cuts())?;
            run.end()
        });
        run.judge(outcome);
    });
}

#[test]
fn clients_of_a_node_on_io_uring_whose_power_is_cut_lose_and_double_nothing() {
    if has_ring() {
        nothing_is_lost(true);
    }
}

#[test]
fn clients_of_a_node_on_threads_whose_power_is_cut_lose_and_double_nothing() {
    nothing_is_lost(false);
}

#[test]
fn clients_of_a_node_that_does_not_sync_are_found_to_lose_records() {
    with_mount(|mount, python| {
        let mut run = Run::new(mount.dir(), python, None, false);
        run.begin("range").unwrap();
        run.serving.syncs_are_off = true;
        // Where the log has lost what a producer knows to be there, the client gives up.
        let cut = cut(&mut run, mount, 4);
        let read = run.read_what_is_left();
        let complaints = run.crowd.look(checkers::check);
        let is_lost = complaints.iter().find(|complaint| complaint.name == "lost");
        let said = format!("{cut:?}, {read:?}");
        let is_short = said.contains("below what was durable");
        assert!(
            is_lost.is_some() || is_short,
            "four cuts without a sync, and nothing is lost: {said}"
        );
        eprintln!("as it must: {}", is_lost.map_or(said, |lost| lost.text.clone()));
    });
}
