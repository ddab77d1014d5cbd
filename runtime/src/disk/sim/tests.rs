//! Each fault of the simulated disk on its own: that it happens, and that nothing worse does.

use std::{future::Future, path::Path, time::Duration};

use super::*;
use crate::{
    disk::{DiskHandle, Done, File, OpenMode, contract::contract},
    era::{EraGate, Ticket, take_over},
};

const ONE: ArbiterId = ArbiterId(0);
const TWO: ArbiterId = ArbiterId(1);

/// Runs `scenario` with paused time for each seed.
fn with_seeds<F: Future<Output = ()>>(seeds: u64, scenario: impl Fn(u64) -> F) {
    for seed in 0..seeds {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, scenario(seed));
    }
}

fn disks(seed: u64, faults: Faults) -> SimDisks {
    let disks = SimDisks::new(&Rng::seeded(seed), faults);
    disks.install(Path::new("/d/.keep"), b"");
    disks
}

async fn ticket() -> Ticket {
    take_over(&EraGate::new(Path::new("/d")), Duration::from_secs(1)).await.unwrap()
}

async fn open(disk: &dyn Disk, path: &str, mode: OpenMode) -> Result<File, DiskError> {
    match disk.submit(Op::Open { path: path.into(), mode, ticket: None }).await? {
        Done::File(file) => Ok(file),
        other => panic!("open answers a file, not {other:?}"),
    }
}

fn write(disk: &dyn Disk, file: &File, position: u64, bytes: Vec<u8>, by: &Ticket) -> Pending {
    let bufs = vec![Bytes::from(bytes)];
    disk.submit(Op::Write { file: file.clone(), position, bufs, ticket: by.clone() })
}

fn sync(disk: &dyn Disk, file: &File) -> Pending {
    disk.submit(Op::Sync { file: file.clone() })
}

fn sync_dir(disk: &dyn Disk, path: &str) -> Pending {
    disk.submit(Op::SyncDir { path: path.into() })
}

async fn durable_file(disk: &dyn Disk, path: &str, bytes: Vec<u8>, by: &Ticket) -> File {
    let file = open(disk, path, OpenMode::Create).await.unwrap();
    write(disk, &file, 0, bytes, by).await.unwrap();
    sync(disk, &file).await.unwrap();
    sync_dir(disk, "/d").await.unwrap();
    file
}

#[test]
fn a_power_cut_keeps_what_was_synced_and_any_subset_of_the_pages_that_were_not() {
    let outcomes = std::cell::RefCell::new(std::collections::BTreeSet::new());
    with_seeds(60, |seed| {
        let outcomes = &outcomes;
        async move {
            let disks = disks(seed, Faults::none());
            let (disk, by) = (disks.disk_for(ONE), ticket().await);
            let file = durable_file(&*disk, "/d/f", vec![1; 4 * 4096], &by).await;
            write(&*disk, &file, 4096, vec![2; 3 * 4096], &by).await.unwrap();
            disks.crash();
            let left = disks.content(Path::new("/d/f")).unwrap();
            assert_eq!(left.len(), 4 * 4096);
            let pages: Vec<u8> = left.chunks(4096).map(|page| page[0]).collect();
            assert_eq!(pages[0], 1, "DISK-3: a synced page that nobody wrote since");
            assert!(left.chunks(4096).all(|page| page.iter().all(|byte| *byte == page[0])));
            outcomes.borrow_mut().insert(pages);
        }
    });
    assert!(outcomes.borrow().len() > 4, "{:?}", outcomes.borrow());
    assert!(outcomes.borrow().contains(&vec![1, 1, 1, 2]), "no order between pages");
}

#[test]
fn torn_pages_mix_sectors_of_two_versions() {
    let torn = std::cell::Cell::new(0);
    with_seeds(40, |seed| {
        let torn = &torn;
        async move {
            let disks = disks(seed, Faults { tears: true, ..Faults::none() });
            let (disk, by) = (disks.disk_for(ONE), ticket().await);
            let file = durable_file(&*disk, "/d/f", vec![1; 4096], &by).await;
            write(&*disk, &file, 0, vec![2; 4096], &by).await.unwrap();
            disks.crash();
            let left = disks.content(Path::new("/d/f")).unwrap();
            assert!(left.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
            torn.set(torn.get() + u64::from(left.iter().any(|b| *b != left[0])));
            assert_eq!(disks.seen().torn_pages > 0, left.iter().any(|b| *b != left[0]));
        }
    });
    assert!(torn.get() > 3, "only {} torn", torn.get());
}

#[test]
fn an_unsynced_length_may_survive_without_its_pages_and_reads_as_zeros() {
    let seen = std::cell::RefCell::new(std::collections::BTreeSet::new());
    with_seeds(80, |seed| {
        let seen = &seen;
        async move {
            let disks = disks(seed, Faults::none());
            let (disk, by) = (disks.disk_for(ONE), ticket().await);
            let file = durable_file(&*disk, "/d/f", vec![1; 100], &by).await;
            write(&*disk, &file, 4096, vec![2; 10], &by).await.unwrap();
            disks.crash();
            let left = disks.content(Path::new("/d/f")).unwrap();
            assert_eq!(&left[..100], &[1; 100]);
            assert!(left[100..].iter().take(3996).all(|byte| *byte == 0));
            seen.borrow_mut().insert((left.len(), left.last().copied()));
        }
    });
    let all = [(100, Some(1)), (4106, Some(0)), (4106, Some(2))];
    assert_eq!(seen.into_inner().into_iter().collect::<Vec<_>>(), all);
}

#[test]
fn a_name_is_durable_once_its_directory_is_synced_and_not_before() {
    let (kept, lost) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    with_seeds(40, |seed| {
        let (kept, lost) = (&kept, &lost);
        async move {
            let disks = disks(seed, Faults { names_in_any_order: true, ..Faults::none() });
            let (disk, by) = (disks.disk_for(ONE), ticket().await);
            durable_file(&*disk, "/d/safe", vec![1; 10], &by).await;
            let file = open(&*disk, "/d/unsafe", OpenMode::CreateNew).await.unwrap();
            write(&*disk, &file, 0, vec![1; 10], &by).await.unwrap();
            sync(&*disk, &file).await.unwrap();
            disks.crash();
            let safe = disks.content(Path::new("/d/safe"));
            assert_eq!(safe.unwrap(), vec![1; 10], "DISK-4: its directory was synced");
            match disks.content(Path::new("/d/unsafe")) {
                None => lost.set(lost.get() + 1),
                Some(content) => {
                    assert_eq!(content, vec![1; 10], "its data was synced");
                    kept.set(kept.get() + 1);
                }
            }
        }
    });
    assert!(kept.get() > 3 && lost.get() > 3);
}

#[test]
fn a_directory_that_was_made_is_durable_with_its_parents_though_a_process_was_killed_at_it() {
    with_seeds(40, |seed| async move {
        let faults = Faults { names_in_any_order: true, latency_ms: 5, ..Faults::none() };
        let disks = disks(seed, faults);
        let dir = Path::new("/d/one/two/three");
        let within = Duration::from_millis(seed);
        let made = {
            let disk = DiskHandle::start(disks.disk_for(ONE));
            tokio::time::timeout(within, disk.make_dir(dir)).await
        };
        disks.kill();
        if made.is_err() {
            DiskHandle::start(disks.disk_for(ONE)).make_dir(dir).await.unwrap();
        }
        disks.crash();
        let left = DiskHandle::start(disks.disk_for(ONE)).list(dir).await;
        assert!(left.is_ok(), "DISK-4: made {made:?}, then {left:?}");
    });
}

#[test]
fn a_rename_survives_whole_or_not_at_all_and_a_removed_name_may_come_back() {
    let outcomes = std::cell::RefCell::new(std::collections::BTreeSet::new());
    with_seeds(80, |seed| {
        let outcomes = &outcomes;
        async move {
            let disks = disks(seed, Faults { names_in_any_order: true, ..Faults::none() });
            let (disk, by) = (disks.disk_for(ONE), ticket().await);
            durable_file(&*disk, "/d/old", vec![1], &by).await;
            durable_file(&*disk, "/d/new", vec![2], &by).await;
            durable_file(&*disk, "/d/gone", vec![3], &by).await;
            disk.submit(Op::Rename { from: "/d/new".into(), to: "/d/old".into(), ticket: None })
                .await
                .unwrap();
            disk.submit(Op::Remove { path: "/d/gone".into(), ticket: None }).await.unwrap();
            disks.crash();
            let there = |path: &str| disks.content(Path::new(path)).map(|bytes| bytes[0]);
            let renamed = (there("/d/old"), there("/d/new"));
            assert!(
                renamed == (Some(2), None) || renamed == (Some(1), Some(2)),
                "half a rename: {renamed:?}"
            );
            outcomes.borrow_mut().insert((renamed, there("/d/gone")));
        }
    });
    assert_eq!(outcomes.borrow().len(), 4, "{:?}", outcomes.borrow());
}

#[test]
fn a_kill_keeps_the_cache_and_kills_drivers_and_descriptors() {
    with_seeds(10, |seed| async move {
        let disks = disks(seed, Faults::none());
        let (disk, by) = (disks.disk_for(ONE), ticket().await);
        let file = open(&*disk, "/d/f", OpenMode::Create).await.unwrap();
        write(&*disk, &file, 0, vec![1; 5000], &by).await.unwrap();
        let waiting = sync(&*disk, &file);
        disks.kill();
        assert!(matches!(waiting.await, Err(DiskError::Closed)), "nothing in flight answers");
        assert!(matches!(sync(&*disk, &file).await, Err(DiskError::Closed)));
        assert_eq!(disks.content(Path::new("/d/f")).unwrap(), vec![1; 5000]);
        let next = disks.disk_for(ONE);
        assert!(sync(&*next, &file).await.is_err(), "a descriptor of the last life");
        assert!(open(&*next, "/d/f", OpenMode::Read).await.is_ok());
    });
}

#[test]
fn writes_in_flight_at_a_kill_land_whole_in_part_or_not() {
    let landed = std::cell::RefCell::new(std::collections::BTreeSet::new());
    with_seeds(60, |seed| {
        let landed = &landed;
        async move {
            let disks = disks(seed, Faults::none());
            let (disk, by) = (disks.disk_for(ONE), ticket().await);
            let file = open(&*disk, "/d/f", OpenMode::Create).await.unwrap();
            let _pending = write(&*disk, &file, 0, vec![1; 3 * 4096], &by);
            disks.kill();
            landed.borrow_mut().insert(disks.content(Path::new("/d/f")).unwrap().len());
        }
    });
    assert_eq!(landed.into_inner().into_iter().collect::<Vec<_>>(), [0, 4096, 8192, 12288]);
}

#[test]
fn a_failed_sync_marks_its_pages_clean_and_the_next_one_does_not_bring_them_back() {
    with_seeds(20, |seed| async move {
        let disks = disks(seed, Faults::none());
        let (disk, by) = (disks.disk_for(ONE), ticket().await);
        let file = durable_file(&*disk, "/d/f", vec![1; 4096], &by).await;
        write(&*disk, &file, 0, vec![2; 4096], &by).await.unwrap();
        disks.set_faults(Faults { sync_errors: 1000, ..Faults::none() });
        assert!(sync(&*disk, &file).await.is_err());
        disks.set_faults(Faults::none());
        sync(&*disk, &file).await.unwrap();
        assert_eq!(disks.content(Path::new("/d/f")).unwrap(), vec![2; 4096], "still cached");
        disks.crash();
        assert_eq!(disks.content(Path::new("/d/f")).unwrap(), vec![1; 4096], "never written");
        assert_eq!(disks.seen().sync_errors, 1);
    });
}

#[test]
fn what_a_failed_sync_left_in_the_cache_is_gone_when_that_is_dropped() {
    with_seeds(5, |seed| async move {
        let disks = disks(seed, Faults::none());
        let disk = disks.disk_for(ArbiterId(0));
        let by = ticket().await;
        let file = durable_file(&*disk, "/file", vec![1; 5000], &by).await;
        write(&*disk, &file, 0, vec![2; 5000], &by).await.unwrap();
        disks.set_faults(Faults { sync_errors: 1000, ..Faults::none() });
        sync(&*disk, &file).await.unwrap_err();
        disks.set_faults(Faults::none());
        sync(&*disk, &file).await.unwrap();
        assert_eq!(disks.content(Path::new("/file")).unwrap(), vec![2; 5000], "the cache lies");
        disk.submit(Op::Forget { file: file.clone(), from: 0 }).await.unwrap();
        assert_eq!(disks.content(Path::new("/file")).unwrap(), vec![1; 5000]);
    });
}

#[test]
fn a_sync_covers_only_writes_that_had_completed_when_it_was_submitted() {
    let lost = std::cell::Cell::new(0);
    with_seeds(40, |seed| {
        let lost = &lost;
        async move {
            let disks = disks(seed, Faults { latency_ms: 5, ..Faults::none() });
            let (disk, by) = (disks.disk_for(ONE), ticket().await);
            let file = durable_file(&*disk, "/d/f", vec![1; 4096], &by).await;
            let writing = write(&*disk, &file, 0, vec![2; 4096], &by);
            sync(&*disk, &file).await.unwrap();
            writing.await.unwrap();
            disks.crash();
            lost.set(lost.get() + u64::from(disks.content(Path::new("/d/f")).unwrap()[0] == 1));
        }
    });
    assert!(lost.get() > 5, "a sync may not be counted on for a write in flight");
}

#[test]
fn completions_come_out_of_order() {
    let overtaken = std::cell::Cell::new(0);
    with_seeds(20, |seed| {
        let overtaken = &overtaken;
        async move {
            let disks = disks(seed, Faults { latency_ms: 5, ..Faults::none() });
            let (disk, by) = (disks.disk_for(ONE), ticket().await);
            let file = open(&*disk, "/d/f", OpenMode::Create).await.unwrap();
            let first = write(&*disk, &file, 0, vec![1; 10], &by);
            let second = write(&*disk, &file, 0, vec![2; 10], &by);
            let _ = futures::future::join(first, second).await;
            let left = disks.content(Path::new("/d/f")).unwrap();
            overtaken.set(overtaken.get() + u64::from(left[0] == 1));
        }
    });
    assert!(overtaken.get() > 3);
}

#[test]
fn a_full_disk_refuses_and_removing_a_file_makes_room() {
    with_seeds(5, |seed| async move {
        let disks = disks(seed, Faults { capacity: 16 * 4096, ..Faults::none() });
        let (disk, by) = (disks.disk_for(ONE), ticket().await);
        durable_file(&*disk, "/d/big", vec![1; 10 * 4096], &by).await;
        let file = open(&*disk, "/d/f", OpenMode::Create).await.unwrap();
        let full = write(&*disk, &file, 0, vec![1; 8 * 4096], &by).await.unwrap_err();
        assert!(full.is_full());
        disk.submit(Op::Truncate { file: file.clone(), len: 0, ticket: by.clone() }).await.unwrap();
        disk.submit(Op::Remove { path: "/d/big".into(), ticket: None }).await.unwrap();
        write(&*disk, &file, 0, vec![1; 8 * 4096], &by).await.unwrap();
        assert_eq!(disks.seen().full, 1);
    });
}

#[test]
fn a_write_error_may_leave_a_part_and_never_answers_ok() {
    with_seeds(20, |seed| async move {
        let disks = disks(seed, Faults { write_errors: 1000, ..Faults::none() });
        let (disk, by) = (disks.disk_for(ONE), ticket().await);
        let file = open(&*disk, "/d/f", OpenMode::Create).await.unwrap();
        let failed = write(&*disk, &file, 0, vec![1; 3 * 4096], &by).await;
        assert!(matches!(failed, Err(DiskError::Os { code: libc::EIO, .. })));
        assert!(disks.content(Path::new("/d/f")).unwrap().iter().all(|byte| *byte == 1));
    });
}

#[test]
fn a_wedged_arbiter_reaches_the_disk_after_the_take_over_and_is_refused() {
    with_seeds(10, |seed| async move {
        let disks = disks(seed, Faults { latency_ms: 3, ..Faults::none() });
        let gate = EraGate::new(Path::new("/d"));
        let (wedged, healthy) = (disks.disk_for(ONE), disks.disk_for(TWO));
        let old = take_over(&gate, Duration::from_secs(1)).await.unwrap();
        let file = durable_file(&*wedged, "/d/f", vec![1; 10], &old).await;
        let in_flight = write(&*wedged, &file, 0, vec![2; 10], &old);
        disks.wedge(ONE);
        let late = write(&*wedged, &file, 0, vec![3; 10], &old);
        let new = take_over(&gate, Duration::from_secs(1)).await.unwrap();
        assert_eq!(disks.content(Path::new("/d/f")).unwrap(), vec![2; 10], "waited for (ERA-2)");
        let file = open(&*healthy, "/d/f", OpenMode::ReadWrite).await.unwrap();
        write(&*healthy, &file, 0, vec![4; 10], &new).await.unwrap();
        disks.unwedge(ONE);
        assert!(matches!(late.await, Err(DiskError::Fenced(_))));
        in_flight.await.unwrap();
        assert_eq!(disks.content(Path::new("/d/f")).unwrap(), vec![4; 10]);
        assert_eq!(disks.seen().fenced, 1);
    });
}

#[test]
fn without_the_era_check_the_late_write_lands() {
    with_seeds(5, |seed| async move {
        let disks = disks(seed, Faults::none());
        disks.set_lies(Lies { era: true, ..Lies::default() });
        let gate = EraGate::new(Path::new("/d"));
        let disk = disks.disk_for(ONE);
        let old = take_over(&gate, Duration::from_secs(1)).await.unwrap();
        let file = durable_file(&*disk, "/d/f", vec![1; 10], &old).await;
        take_over(&gate, Duration::from_secs(1)).await.unwrap();
        write(&*disk, &file, 0, vec![3; 10], &old).await.unwrap();
        assert_eq!(disks.content(Path::new("/d/f")).unwrap(), vec![3; 10]);
        assert_eq!(disks.seen().stale, 1);
    });
}

#[test]
fn a_sync_or_directory_sync_that_lies_loses_at_the_power_cut() {
    let (data, names) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    with_seeds(20, |seed| {
        let (data, names) = (&data, &names);
        async move {
            for lies in
                [Lies { sync: true, ..Lies::default() }, Lies { sync_dir: true, ..Lies::default() }]
            {
                let disks = disks(seed, Faults::none());
                disks.set_lies(lies);
                let (disk, by) = (disks.disk_for(ONE), ticket().await);
                durable_file(&*disk, "/d/f", vec![1; 10], &by).await;
                disks.crash();
                match disks.content(Path::new("/d/f")) {
                    None => names.set(names.get() + 1),
                    Some(left) => data.set(data.get() + u64::from(left != vec![1; 10])),
                }
            }
        }
    });
    assert!(data.get() > 3 && names.get() > 3);
}

#[test]
fn a_flipped_bit_stays_flipped() {
    with_seeds(2, |seed| async move {
        let disks = disks(seed, Faults::none());
        disks.install(Path::new("/d/f"), &[0; 10]);
        assert!(disks.flip_bit(Path::new("/d/f"), 3, 1));
        assert!(!disks.flip_bit(Path::new("/d/f"), 10, 1), "past the end");
        disks.crash();
        assert_eq!(disks.content(Path::new("/d/f")).unwrap()[3], 2);
    });
}

#[test]
fn one_seed_gives_one_history() {
    let run = |seed| {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let shown = lines.clone();
        with_seeds(1, move |_| {
            let shown = shown.clone();
            async move {
                let faults = Faults::swarm(&mut Rng::seeded(seed));
                let disks = disks(seed, faults);
                disks.set_witness(Box::new(move |line| shown.lock().unwrap().push(line)));
                let (disk, by) = (disks.disk_for(ONE), ticket().await);
                let file = durable_file(&*disk, "/d/f", vec![1; 9000], &by).await;
                let writes: Vec<Pending> = (0..20)
                    .map(|n| write(&*disk, &file, n * 700, vec![n as u8; 900], &by))
                    .collect();
                futures::future::join_all(writes).await;
                disks.crash();
                let left = disks.content(Path::new("/d/f")).unwrap();
                disks.world().tell(|| format!("{left:?}"));
            }
        });
        Arc::try_unwrap(lines).unwrap().into_inner().unwrap()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn the_simulated_disk_keeps_the_contract_of_all_drivers() {
    with_seeds(5, |seed| async move {
        let faults = Faults::swarm(&mut Rng::seeded(seed));
        let disks = disks(seed, faults);
        contract(|_: &Path| disks.disk_for(ONE), Path::new("/d")).await;
    });
}
