//! Journals on the simulated disk: power cuts and kills at any moment, recycled files, truncations,
//! logs that move between arbiters. What was answered is there again, and nothing that was voided.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
};

use bytes::BytesMut;
use uuid::Uuid;

use super::*;
use crate::{
    codec::crc32c,
    disk::{
        actor::DiskHandle,
        sim::{Faults, Lies},
    },
    era::{EraGate, take_over},
    sim::{self, World},
};

const DATA: &str = "/data";
/// Bytes of a record of the logs of these tests: its offset, its life, a filling and a sum.
const RECORD: usize = 100;

fn log_id(number: u32) -> LogId {
    LogId { id: Uuid::from_u128(7), shard: number }
}

fn record(log: u32, offset: u64, life: u64) -> Bytes {
    let mut bytes = vec![log as u8; RECORD];
    bytes[..8].copy_from_slice(&offset.to_le_bytes());
    bytes[8..16].copy_from_slice(&life.to_le_bytes());
    let sum = crc32c(&[&bytes[..RECORD - 4]]);
    bytes[RECORD - 4..].copy_from_slice(&sum.to_le_bytes());
    bytes.into()
}

/// The life in which the record at `offset` was written, where a whole one is there.
fn life_of(bytes: &[u8], offset: u64) -> Option<u64> {
    let bytes = bytes.get(..RECORD)?;
    let sum = crc32c(&[&bytes[..RECORD - 4]]);
    let right = bytes[..8] == offset.to_le_bytes() && bytes[RECORD - 4..] == sum.to_le_bytes();
    right.then(|| u64::from_le_bytes(*bytes[8..].first_chunk().unwrap()))
}

/// What a log was promised, and what may be there besides: lives by offset.
#[derive(Clone, Debug, Default)]
struct Model {
    acked: usize,
    submitted: Vec<u64>,
}

/// What a run came to.
#[derive(Debug, Default)]
struct Counts {
    acked: u64,
    from_journal: u64,
    truncations: u64,
    moves: u64,
    files_made: u64,
}

#[derive(Clone)]
struct Node {
    disks: [DiskHandle; 2],
    models: Rc<RefCell<BTreeMap<u32, Model>>>,
    counts: Rc<RefCell<Counts>>,
    /// Whether every log has left the first arbiter, whose journal stays as it is.
    abandoned: Rc<Cell<bool>>,
    life: u64,
}

fn path_of(log: u32) -> PathBuf {
    Path::new(DATA).join(format!("log-{log}"))
}

/// Opens the log's file, gives it what it lacks of `journaled`, syncs it, and checks it.
async fn recover(node: &Node, log: u32, journaled: &[Journaled]) -> Result<File, DiskError> {
    let disk = &node.disks[0];
    let ticket = Ticket::unshared(&path_of(log));
    let file = disk.open(path_of(log), OpenMode::Create).await?;
    let content = disk.read(&file, 0, 1 << 20).await?;
    let mut lives: Vec<u64> = Vec::new();
    while let Some(life) =
        content.get(lives.len() * RECORD..).and_then(|rest| life_of(rest, lives.len() as u64))
    {
        lives.push(life);
    }
    for entry in journaled {
        let end = lives.len() as u64;
        if entry.base_offset.0 == end && entry.end_offset.0 == end + 1 {
            lives.push(life_of(&entry.payload, end).expect("JRN-6: entries are whole"));
            disk.write(&file, end * RECORD as u64, vec![entry.payload.clone()], &ticket).await?;
            node.counts.borrow_mut().from_journal += 1;
        }
    }
    disk.truncate(&file, (lives.len() * RECORD) as u64, &ticket).await?;
    disk.sync(&file).await?;
    let mut models = node.models.borrow_mut();
    let model = models.entry(log).or_default();
    assert!(lives.len() >= model.acked, "JRN-6: log {log} has {} of {model:?}", lives.len());
    assert!(model.submitted.starts_with(&lives), "JRN-6: log {log} was given what was voided");
    *model = Model { acked: lives.len(), submitted: lives };
    Ok(file)
}

/// Appends, truncates and moves until the disk is gone.
async fn work(node: Node, log: u32, file: File, mut rng: Rng) -> Result<(), DiskError> {
    let ticket = Ticket::unshared(&path_of(log));
    let change = |change: &dyn Fn(&mut Model)| {
        change(node.models.borrow_mut().get_mut(&log).expect("it was recovered"));
    };
    let mut disk = &node.disks[0];
    let mut end = node.models.borrow()[&log].acked as u64;
    loop {
        tokio::time::sleep(Duration::from_micros(rng.below(4000))).await;
        if rng.chance(1, 40) && end > 0 {
            let offset = rng.below(end);
            change(&|model| model.acked = offset as usize);
            let void = JournalEntry::TruncatedTo { log: log_id(log), offset: Offset(offset) };
            disk.commit(void, &ticket).await?;
            disk.write_deferred(&ticket).await?;
            disk.truncate(&file, offset * RECORD as u64, &ticket).await?;
            disk.sync(&file).await?;
            change(&|model| model.submitted.truncate(offset as usize));
            end = offset;
            node.counts.borrow_mut().truncations += 1;
        }
        let leave = node.abandoned.get() && std::ptr::eq(disk, &raw const node.disks[0]);
        if leave || (!node.abandoned.get() && rng.chance(1, 50)) {
            // As a take-over: the successor syncs what it finds. What it voids stays so although the
            // journal that it left is never written again (JRN-7).
            disk.write_deferred(&ticket).await?;
            disk.sync(&file).await?;
            disk = &node.disks[if leave { 1 } else { rng.below(2) as usize }];
            node.counts.borrow_mut().moves += 1;
        }
        change(&|model| model.submitted.push(node.life * 1_000_000 + end));
        let bytes = record(log, end, node.life * 1_000_000 + end);
        let entry = JournalEntry::Append {
            log: log_id(log),
            epoch: LeaderEpoch(0),
            base_offset: Offset(end),
            end_offset: Offset(end + 1),
            payload: vec![bytes],
            file: file.clone(),
            position: end * RECORD as u64,
        };
        disk.commit(entry, &ticket).await?;
        if rng.chance(1, 4) {
            disk.write_deferred(&ticket).await?;
        }
        end += 1;
        change(&|model| model.acked = end as usize);
        node.counts.borrow_mut().acked += 1;
    }
}

/// One run of the node, from its start to its end by a power cut or a kill.
async fn live(world: &World, mut node: Node, life: u64, rng: &mut Rng) -> Result<(), DiskError> {
    node.life = life;
    let disk = node.disks[0].clone();
    let replayed = replay(&disk, Path::new(DATA)).await;
    let replayed = match replayed {
        Err(ReplayError::Disk(error)) => return Err(error),
        replayed => replayed.expect("JRN-1: no crash leaves damage"),
    };
    let journals = replayed.journals().with_file_bytes(0);
    for (arbiter, disk) in (0..).zip(&node.disks) {
        disk.start_journal(&journals, ArbiterId(arbiter), rng.split("salt"));
    }
    let (logs, unopened) = (0..6_u32, rng.chance(1, 4).then(|| rng.below(6) as u32));
    let mut files = Vec::new();
    for log in logs.filter(|log| Some(*log) != unopened) {
        let journaled = replayed.logs.get(&log_id(log)).map_or(&[][..], Vec::as_slice);
        files.push((log, recover(&node, log, journaled).await?));
    }
    disk.sync_dir(DATA).await?;
    let unsettled: BTreeSet<_> = unopened.map(log_id).into_iter().collect();
    for (log, file) in files {
        let rng = rng.split(&format!("log {log} life {life}"));
        tokio::task::spawn_local(work(node.clone(), log, file, rng));
    }
    // Logs that are ready work while the old files are removed.
    replayed.retire(&disk, &unsettled).await?;
    world.pass(Duration::from_millis(rng.below(500))).await;
    node.abandoned.set(rng.chance(2, 3));
    futures::future::pending().await
}

fn run(seed: u64, lies: Option<Lies>) -> sim::Outcome<Counts> {
    sim::run(seed, &[], |world| async move {
        let mut rng = world.rng.split("journal test");
        if let Some(lies) = lies {
            world.disks.set_lies(lies);
        }
        let (models, shared) = (Rc::default(), Rc::new(RefCell::new(Counts::default())));
        for life in 1..=5 {
            let disks = [0, 1].map(|a| DiskHandle::start(world.disks.disk_for(ArbiterId(a))));
            disks[0].create_dir(DATA).await.unwrap();
            disks[0].sync_dir("/").await.unwrap();
            let (models, counts) = (Rc::clone(&models), Rc::clone(&shared));
            let node = Node { disks, models, counts, abandoned: Rc::default(), life };
            let end = Duration::from_millis(20 + rng.below(3000));
            let _ = tokio::time::timeout(end, live(&world, node, life, &mut rng)).await;
            shared.borrow_mut().files_made += files_of_journals(&world);
            if rng.chance(2, 3) {
                world.disks.crash()
            } else {
                world.disks.kill()
            }
            world.pass(Duration::from_millis(200)).await;
        }
        shared.take()
    })
}

fn files_of_journals(world: &World) -> u64 {
    world.disks.files().iter().filter(|path| path.starts_with("/data/.journal")).count() as u64
}

#[test]
fn what_was_answered_survives_and_what_was_voided_does_not_come_back() {
    let mut all = Counts::default();
    let mut seen_lost = 0;
    for seed in 0..30 {
        let outcome = run(seed, None);
        let counts = outcome.result.unwrap_or_else(|error| {
            panic!("seed {seed}: {error}\n{}", outcome.lines.join("\n"));
        });
        all.acked += counts.acked;
        all.from_journal += counts.from_journal;
        all.truncations += counts.truncations;
        all.moves += counts.moves;
        all.files_made += counts.files_made;
        seen_lost += outcome.seen.lost_pages;
    }
    // Each file takes some 120 groups: many more were acked than fit without using files again.
    let enough = all.acked > 40_000 && all.from_journal > 100 && all.truncations > 100;
    assert!(enough && all.moves > 100 && seen_lost > 100, "a test of nothing: {all:?} {seen_lost}");
}

#[test]
fn a_disk_that_does_not_sync_is_found_out() {
    let lies = Lies { sync: true, ..Lies::default() };
    let found = (0..20).filter(|seed| run(*seed, Some(lies)).result.is_err()).count();
    assert!(found > 0, "JRN-6 was not checked");
}

#[test]
fn a_journal_of_a_later_version_is_refused_and_left_untouched() {
    let outcome = sim::run(1, &[], |world| async move {
        let disk = DiskHandle::start(world.disks.disk_for(ArbiterId(0)));
        let ours = format::header(&format::Header { boot: 1, salt: 2 });
        let mut theirs = BytesMut::from(&ours[..]);
        theirs[4] += 1;
        let folder = Path::new(DATA).join(FOLDER);
        let (ours_at, theirs_at) = (folder.join("1-0-0"), folder.join("2-0-0"));
        world.disks.install(&ours_at, &ours);
        world.disks.install(&theirs_at, &theirs);
        let files = || -> Vec<_> {
            let all = world.disks.files();
            all.iter().map(|path| (path.clone(), world.disks.content(path))).collect()
        };
        let before = files();
        let refused = replay(&disk, Path::new(DATA)).await.map(drop).unwrap_err();
        assert!(matches!(&refused, ReplayError::Newer { path, .. } if *path == theirs_at));
        assert!(refused.to_string().contains("left untouched: use the newer"), "{refused}");
        let given_up = give_up(&disk, Path::new(DATA), log_id(0), Offset(0)).await;
        assert_eq!(given_up, Err(refused));
        assert_eq!(files(), before);
    });
    outcome.result.unwrap();
}

/// A segment of which something is put off, its disk, and the right of its log.
async fn put_off(world: &World) -> (Rc<dyn Disk>, File, Ticket) {
    let driver = world.disks.disk_for(ArbiterId(0));
    let disk = DiskHandle::start(driver.clone());
    let gate = EraGate::new(Path::new("/log"));
    let within = Duration::from_secs(1);
    let old = take_over(&gate, within).await.unwrap();
    let file = disk.open("/segment", OpenMode::CreateNew).await.unwrap();
    disk.sync_dir("/").await.unwrap();
    gate.defer(old.era, (&file, 0), &["put off".into()]).unwrap();
    (driver, file, old)
}

#[test]
fn a_segment_is_not_taken_for_synced_before_what_was_put_off_is_written() {
    let outcome = sim::run(1, &[], |world| async move {
        let (driver, file, old) = put_off(&world).await;
        let sync = |ticket: &Ticket| {
            sync_segment(driver.clone(), Some(ticket.clone()), file.clone(), None)
        };
        let content = || world.disks.content(Path::new("/segment")).unwrap();
        world.disks.set_faults(Faults { capacity: 0, ..Faults::none() });
        let refused = sync(&old).await.unwrap_err();
        assert!(refused.is_full(), "JRN-3: {refused}");
        world.disks.set_faults(Faults::none());
        sync(&old).await.unwrap();
        assert_eq!(content(), "put off");

        old.gate.defer(old.era, (&file, 7), &[", too".into()]).unwrap();
        let new = take_over(&old.gate, Duration::from_secs(1)).await.unwrap();
        let early = sync(&old).await;
        assert!(matches!(early, Err(DiskError::Fenced(_))), "JRN-3: {early:?}");
        disk::write_deferred(driver.clone(), new.clone(), None).await.unwrap();
        new.gate.defer(new.era, (&file, 12), &["!".into()]).unwrap();
        // What the next life puts off is covered by a later group.
        sync(&old).await.unwrap();
        world.disks.crash();
        assert_eq!(content(), "put off, too", "JRN-3: it is durable");
    });
    outcome.result.unwrap_or_else(|why| panic!("{why}"));
}
