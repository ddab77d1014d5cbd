//! What a ring holds is given back although its arbiter's thread is stuck or gone, so that a
//! take-over can go on; and what the kernel had not been given by then never happens.
//!
//! A write into a full pipe is a write that stays in flight for as long as the test wants.

#![expect(clippy::unwrap_used, reason = "in a test, failing is the answer")]

use std::{
    fs::{self, OpenOptions},
    io::Read as _,
    mem,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use flumen_runtime::{
    disk::{DiskError, DiskHandle, DiskMaker as _, Engine, OpenMode, RealDisks},
    era::{EraGate, Ticket, take_over},
    ids::ArbiterId,
};
use tokio::{runtime, task::LocalSet};

const ARBITER: ArbiterId = ArbiterId(7);
const LARGE: usize = 1 << 20;
/// Operations that a ring has with the kernel at most.
const RING_ENTRIES: usize = 256;
const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(30);

/// How the arbiter's thread goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// It blocks for ever.
    Stuck,
    /// It ends, and leaves all it had where it is.
    Dead,
    /// It ends, and drops all it had.
    Stopped,
}

fn ring() -> Option<Arc<RealDisks>> {
    match RealDisks::choose(Engine::Uring) {
        Ok(disks) => Some(Arc::new(disks)),
        Err(error) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{error}");
            eprintln!("skipped: {error}");
            None
        }
    }
}

fn local<T>(work: impl Future<Output = T>) -> (T, LocalSet, runtime::Runtime) {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = LocalSet::new();
    let done = local.block_on(&runtime, work);
    (done, local, runtime)
}

async fn right_to(path: &Path) -> Ticket {
    take_over(&EraGate::new(path), LONG).await.unwrap()
}

fn write_in_flight_is_released(fate: Fate) {
    let Some(disks) = ring() else { return };
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    // Kept open for reading, so that the pipe outlives its writer, and read when the test wants.
    let mut reader = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(&pipe)
        .unwrap();
    let (ready, ticket) = mpsc::channel();
    let (end, stuck) = mpsc::channel::<()>();
    let ended = Arc::new(AtomicBool::new(false));
    let (maker, has_ended, path) = (disks.clone(), ended.clone(), pipe);
    let arbiter = thread::spawn(move || {
        let kept = local(async {
            let disk = DiskHandle::start(maker.make(ARBITER, path.parent().unwrap()).unwrap());
            let ticket = right_to(&path).await;
            let file = disk.open(&path, OpenMode::ReadWrite).await.unwrap();
            let write = disk.write(&file, 0, vec![Bytes::from(vec![1; LARGE])], &ticket);
            // The pipe takes the first pages; what comes back short is carried on, and waits.
            // Real time: nothing tells that a write waits in the kernel.
            tokio::time::sleep(SHORT).await;
            ready.send(ticket).unwrap();
            (disk, write, file)
        });
        match fate {
            Fate::Stuck => assert!(stuck.recv().is_err()),
            Fate::Dead => mem::forget(kept),
            Fate::Stopped => drop(kept),
        }
        has_ended.store(true, Ordering::Release);
    });
    let ticket = ticket.recv_timeout(LONG).unwrap();
    local(async {
        let early = take_over(&ticket.gate, SHORT).await;
        assert!(early.is_err(), "{fate:?}: the write is in flight, and its gate held");
        disks.abandoned(ARBITER);
        let early = take_over(&ticket.gate, SHORT).await;
        assert!(early.is_err(), "{fate:?}: the kernel still has the buffer");
        // The reader makes room: the write comes back short, and is not carried on.
        let mut some = vec![0; LARGE];
        let taken = reader.read(&mut some).unwrap();
        assert!(
            some[..taken].iter().all(|byte| *byte == 1),
            "URING-1: a buffer in flight is not freed"
        );
        take_over(&ticket.gate, LONG).await.unwrap();
        while let Ok(more @ 1..) = reader.read(&mut some) {
            assert!(
                some[..more].iter().all(|byte| *byte == 1),
                "URING-1: a buffer in flight is not freed"
            );
        }
        assert_eq!(ended.load(Ordering::Acquire), fate != Fate::Stuck);
    });
    drop(end);
    arbiter.join().unwrap();
}

#[test]
fn a_stuck_arbiter_gives_back_the_write_that_was_in_flight() {
    write_in_flight_is_released(Fate::Stuck);
}

#[test]
fn a_dead_arbiter_gives_back_the_write_that_was_in_flight() {
    write_in_flight_is_released(Fate::Dead);
}

#[test]
fn a_stopped_arbiter_gives_back_the_write_that_was_in_flight() {
    write_in_flight_is_released(Fate::Stopped);
}

#[test]
fn what_a_stuck_arbiter_had_not_submitted_yet_never_happens() {
    let Some(disks) = ring() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let (ready, ticket) = mpsc::channel();
    let (end, stuck) = mpsc::channel::<()>();
    let (maker, file) = (disks.clone(), path.clone());
    let arbiter = thread::spawn(move || {
        local(async {
            let disk = maker.make(ARBITER, file.parent().unwrap()).unwrap();
            let handle = DiskHandle::start(disk.clone());
            let file_ticket = right_to(&file).await;
            let opened = handle.open(&file, OpenMode::CreateNew).await.unwrap();
            let write = |len: usize| flumen_runtime::disk::Op::Write {
                file: opened.clone(),
                position: 0,
                bufs: vec![vec![1; len].into()],
                ticket: file_ticket.clone(),
            };
            // As many as the kernel is given at once: what comes then waits for one of them to end.
            let full: Vec<_> = (0..RING_ENTRIES).map(|_| disk.wait(2 * LONG)).collect();
            let late = disk.submit(write(LARGE));
            ready.send(file_ticket.clone()).unwrap();
            stuck.recv().unwrap_err();
            assert_eq!(late.await.unwrap_err(), DiskError::Closed);
            drop(full);
            for len in [1, LARGE] {
                assert_eq!(disk.submit(write(len)).await.unwrap_err(), DiskError::Closed);
            }
        });
    });
    let ticket = ticket.recv_timeout(LONG).unwrap();
    local(async {
        assert!(take_over(&ticket.gate, SHORT).await.is_err(), "its gate is held");
        disks.abandoned(ARBITER);
        take_over(&ticket.gate, LONG).await.unwrap();
    });
    drop(end);
    arbiter.join().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 0, "URING-3");
}
