//! The disk's contract as a test suite, which runs on every driver: DISK-1 to DISK-9 as the port
//! states them, and the errors.
//!
//! A driver that passes may stand under every log. What only a crash can show (what a sync and a
//! directory sync make durable) is shown elsewhere: by the simulated disk, and by power cuts.

use std::{
    collections::BTreeMap,
    fs,
    future::Future,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use futures::future::join_all;
use tokio::time::Instant;

use super::{Disk, DiskError, DiskHandle, Done, Entry, File, Op, OpenMode, Space};
use crate::{
    era::{EraGate, Ticket, take_over},
    rng::Rng,
};

/// More than any driver has in flight at once.
const MANY: u64 = 700;
/// More than is written inline.
const LARGE: usize = 8 << 20;
/// Longer than any write takes, on a slow and busy machine.
const SOON: Duration = Duration::from_secs(60);

/// Runs the suite on the drivers of `make`, below `dir`, which is there and empty.
///
/// # Panics
/// Where the contract is broken.
pub async fn contract(make: impl Fn(&Path) -> Rc<dyn Disk>, dir: &Path) {
    let disk = DiskHandle::start(make(dir));
    assert!(!disk.describe().is_empty(), "a driver says what it is");
    let sub = |name: &str| {
        let (disk, path) = (disk.clone(), dir.join(name));
        async move {
            disk.create_dir(&path).await.unwrap_or_else(|error| panic!("{error}"));
            Case { ticket: right_to(&path).await, disk, dir: path }
        }
    };
    files_open_as_asked(sub("open").await).await;
    errors_name_action_and_path(sub("errors").await).await;
    writes_are_whole(sub("writes").await).await;
    reads_are_short_only_at_the_end(sub("reads").await).await;
    zeros_and_lengths(sub("zeros").await).await;
    what_is_synced_is_not_forgotten(sub("forget").await).await;
    names(sub("names").await).await;
    trees(sub("trees").await).await;
    atomic_writes(sub("atomic").await).await;
    superseded_writers_touch_nothing(sub("fenced").await).await;
    take_over_waits_for_what_is_in_flight(sub("gates").await).await;
    many_at_once(sub("many").await).await;
    for seed in 0..3 {
        agrees_with_a_model(sub(&format!("model-{seed}")).await, Rng::seeded(seed)).await;
    }
    starts_when_submitted(make(dir), sub("starts").await).await;
    waits_hold_up_nothing(make(dir), sub("waits").await).await;
}

struct Case {
    disk: DiskHandle,
    dir: PathBuf,
    ticket: Ticket,
}

impl Case {
    fn at(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    async fn new_file(&self, name: &str) -> File {
        good(self.disk.open(self.at(name), OpenMode::CreateNew)).await
    }

    async fn write(&self, file: &File, position: u64, bytes: impl Into<Bytes>) {
        good(self.disk.write(file, position, vec![bytes.into()], &self.ticket)).await;
    }

    async fn content(&self, file: &File) -> Bytes {
        good(self.disk.read(file, 0, 2 * LARGE)).await
    }

    async fn names(&self) -> Vec<String> {
        good(self.disk.list(&self.dir)).await.into_iter().map(|entry| entry.name).collect()
    }
}

async fn right_to(path: &Path) -> Ticket {
    take_over(&EraGate::new(path), SOON).await.unwrap_or_else(|error| panic!("{error}"))
}

async fn good<T>(answer: impl Future<Output = Result<T, DiskError>>) -> T {
    answer.await.unwrap_or_else(|error| panic!("{error}"))
}

/// Asserts that `result` is the error `code` on `path`, with its action.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, DiskError>, code: i32, path: &Path) {
    match result {
        Err(DiskError::Os { action, path: named, code: was }) => {
            assert_eq!((was, named.as_path()), (code, path), "{action}");
            assert!(!action.is_empty(), "an error says what was tried");
        }
        other => panic!("`{}` should fail with errno {code}: {other:?}", path.display()),
    }
}

/// Bytes that differ at every position, and by `salt`.
fn pattern(len: usize, salt: u64) -> Bytes {
    let mut bytes = Vec::with_capacity(len + 8);
    let mut word = salt.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    while bytes.len() < len {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.truncate(len);
    Bytes::from(bytes)
}

async fn files_open_as_asked(case: Case) {
    let path = case.at("file");
    for mode in [OpenMode::Read, OpenMode::ReadWrite] {
        let missing = case.disk.open(&path, mode).await.map_err(|error| {
            assert!(error.is_not_found() && !error.is_exists(), "{error}");
            error
        });
        refused(missing, libc::ENOENT, &path);
    }
    let file = case.new_file("file").await;
    assert_eq!(file.path(), path);
    case.write(&file, 0, "kept").await;
    let again = case.disk.open(&path, OpenMode::CreateNew).await;
    assert!(again.as_ref().is_err_and(DiskError::is_exists), "{again:?}");
    refused(again, libc::EEXIST, &path);
    for mode in [OpenMode::Create, OpenMode::ReadWrite, OpenMode::Read] {
        let file = good(case.disk.open(&path, mode)).await;
        assert_eq!(case.content(&file).await, "kept", "{mode:?} leaves the content");
    }
    let made = good(case.disk.open(case.at("made"), OpenMode::Create)).await;
    assert_eq!(good(case.disk.len(&made)).await, 0);
}

async fn errors_name_action_and_path(case: Case) {
    let (disk, missing) = (&case.disk, case.at("missing"));
    refused(disk.list(&missing).await, libc::ENOENT, &missing);
    refused(disk.sync_dir(&missing).await, libc::ENOENT, &missing);
    refused(disk.rename(&missing, case.at("other")).await, libc::ENOENT, &missing);
    let below = missing.join("file");
    refused(disk.open(&below, OpenMode::Create).await, libc::ENOENT, &below);
    let error =
        disk.open(&below, OpenMode::Read).await.expect_err("there is no such file").to_string();
    assert!(error.contains("open") && error.contains("missing/file"), "{error}");
    let dir = case.at("dir");
    good(disk.create_dir(&dir)).await;
    refused(disk.open(&dir, OpenMode::ReadWrite).await, libc::EISDIR, &dir);
    refused(disk.remove(&dir).await, libc::EISDIR, &dir);
}

async fn writes_are_whole(case: Case) {
    let file = case.new_file("pieces").await;
    let pieces: Vec<Bytes> = vec!["ab".into(), "".into(), "cde".into(), "f".into()];
    good(case.disk.write(&file, 2, pieces, &case.ticket)).await;
    assert_eq!(case.content(&file).await, "\0\0abcdef", "a gap reads as zeros");
    case.write(&file, 4, "XY").await;
    assert_eq!(case.content(&file).await, "\0\0abXYef");
    good(case.disk.write(&file, 100, Vec::new(), &case.ticket)).await;
    assert_eq!(good(case.disk.len(&file)).await, 8, "nothing written, nothing extended");
    let large = pattern(LARGE, 1);
    let file = case.new_file("large").await;
    case.write(&file, 0, large.clone()).await;
    assert!(case.content(&file).await == large, "DISK-2: 8 MiB in one write");
    // More buffers than one call takes.
    let file = case.new_file("buffers").await;
    let buffers = (0..3000).map(|number| large.slice(number * 200..(number + 1) * 200)).collect();
    good(case.disk.write(&file, 0, buffers, &case.ticket)).await;
    assert!(case.content(&file).await == large[..600_000], "DISK-2: 3,000 buffers in one write");
    good(case.disk.sync(&file)).await;
}

async fn reads_are_short_only_at_the_end(case: Case) {
    let (file, bytes) = (case.new_file("file").await, pattern(3 << 20, 2));
    case.write(&file, 0, bytes.clone()).await;
    let len = bytes.len();
    for (position, want) in
        [(0, 1), (0, len), (1, len - 1), (len - 5, 5), (len - 5, 6), (len, 1), (len + 9, 9), (7, 0)]
    {
        let read = good(case.disk.read(&file, position as u64, want)).await;
        let from = position.min(len);
        assert!(read == bytes[from..(from + want).min(len)], "DISK-7: {want} from {position}");
    }
    let rest = good(case.disk.read(&file, 2 << 20, 64 << 20)).await;
    assert!(rest == bytes[2 << 20..], "what there is of the most that may be asked for");
}

async fn zeros_and_lengths(case: Case) {
    let (disk, ticket) = (&case.disk, &case.ticket);
    let (file, bytes) = (case.new_file("file").await, pattern(100_000, 3));
    case.write(&file, 0, bytes.clone()).await;
    good(disk.zero(&file, 90_000, 3 << 20, ticket)).await;
    let len = 90_000 + (3 << 20);
    assert_eq!(good(disk.len(&file)).await, len);
    let content = case.content(&file).await;
    assert!(content[..90_000] == bytes[..90_000] && content[90_000..].iter().all(|b| *b == 0));
    case.write(&file, 90_000, "after").await;
    assert_eq!(good(disk.read(&file, 89_999, 7)).await[1..], *b"after\0");
    assert_eq!(good(disk.len(&file)).await, len, "written within the zeros");
    good(disk.zero(&file, 0, 0, ticket)).await;
    good(disk.reserve(&file, 80_000, 4 << 20, ticket)).await;
    assert_eq!(good(disk.len(&file)).await, len, "reserving makes nothing longer");
    assert_eq!(good(disk.read(&file, 89_999, 7)).await[1..], *b"after\0", "nor other");
    // Of the simulated disk there is no such file.
    let blocks = || fs::metadata(case.at("file")).ok().map(|file| file.blocks() * 512);
    assert!(blocks().is_none_or(|bytes| bytes >= 4 << 20), "{:?}", blocks());
    good(disk.truncate(&file, len, ticket)).await;
    assert!(blocks().is_none_or(|bytes| bytes < 4 << 20), "cutting gives them back");
    good(disk.truncate(&file, 90_002, ticket)).await;
    assert_eq!(good(disk.read(&file, 90_000, 10)).await, "af");
    good(disk.truncate(&file, 90_004, ticket)).await;
    assert_eq!(good(disk.read(&file, 90_000, 10)).await, "af\0\0", "what was cut is gone");
    good(disk.truncate(&file, 0, ticket)).await;
    assert_eq!(good(disk.len(&file)).await, 0);
    good(disk.sync(&file)).await;
}

/// DISK-8. (What a failed sync left in the cache only the simulated disk can show to be gone.)
async fn what_is_synced_is_not_forgotten(case: Case) {
    let file = case.new_file("file").await;
    let bytes = pattern(300_000, 3);
    case.write(&file, 0, bytes.clone()).await;
    good(case.disk.sync(&file)).await;
    good(case.disk.forget(&file, 0)).await;
    assert_eq!(case.content(&file).await, bytes, "DISK-8");
    let unsynced = pattern(5_000, 4);
    case.write(&file, 1_000, unsynced.clone()).await;
    good(case.disk.forget(&file, 1_000)).await;
    let found = good(case.disk.read(&file, 1_000, 5_000)).await;
    assert_eq!(found, unsynced, "DISK-8: what is not synced is kept");
}

async fn names(case: Case) {
    let disk = &case.disk;
    for name in ["b", "a", "10", "c", "9"] {
        let file = case.new_file(name).await;
        case.write(&file, 0, name.repeat(3)).await;
    }
    good(disk.create_dir(case.at("bb"))).await;
    good(disk.sync_dir(&case.dir)).await;
    let entry = |name: &str, len: u64| Entry { name: name.to_owned(), is_dir: len == 0, len };
    let expected = [("10", 6), ("9", 3), ("a", 3), ("b", 3), ("bb", 0), ("c", 3)];
    let expected: Vec<Entry> = expected.iter().map(|(name, len)| entry(name, *len)).collect();
    assert_eq!(good(disk.list(&case.dir)).await, expected, "in the order of names");

    let held = good(disk.open(case.at("a"), OpenMode::ReadWrite)).await;
    good(disk.rename(case.at("a"), case.at("b"))).await;
    assert_eq!(case.names().await, ["10", "9", "b", "bb", "c"]);
    let replaced = good(disk.open(case.at("b"), OpenMode::Read)).await;
    assert_eq!(case.content(&replaced).await, "aaa", "the old file of that name is replaced");
    case.write(&held, 0, "AAA").await;
    assert_eq!(case.content(&replaced).await, "AAA", "an open file follows its rename");

    good(disk.remove(case.at("b"))).await;
    good(disk.remove(case.at("b"))).await;
    good(disk.remove(case.at("nowhere/at/all"))).await;
    assert_eq!(case.content(&held).await, "AAA", "an open file outlives its name");
    assert_eq!(case.names().await, ["10", "9", "bb", "c"]);
    good(disk.rename_under(case.at("c"), case.at("d"), &case.ticket)).await;
    good(disk.remove_under(case.at("d"), &case.ticket)).await;
    assert_eq!(case.names().await, ["10", "9", "bb"]);
}

async fn trees(case: Case) {
    let disk = &case.disk;
    let (top, deep) = (case.at("top"), case.at("top/middle/deep"));
    good(disk.create_dir(&deep)).await;
    good(disk.create_dir(&deep)).await;
    let file = good(disk.open(deep.join("file"), OpenMode::CreateNew)).await;
    case.write(&file, 0, "x").await;
    good(disk.rename(&top, case.at("moved"))).await;
    assert_eq!(case.names().await, ["moved"]);
    let moved = case.at("moved/middle/deep/file");
    good(disk.open(&moved, OpenMode::Read)).await;
    good(disk.remove_dir(case.at("moved"))).await;
    good(disk.remove_dir(case.at("moved"))).await;
    assert_eq!(case.names().await, [""; 0]);
    let Space { free, total } = good(disk.space(&case.dir)).await;
    assert!(free > 0 && free <= total, "{free} of {total}");
}

async fn atomic_writes(case: Case) {
    let path = case.at("checkpoint");
    for content in [pattern(300_000, 4), Bytes::from_static(b"short"), Bytes::new()] {
        good(case.disk.write_atomically(&path, content.clone(), &case.ticket)).await;
        let file = good(case.disk.open(&path, OpenMode::Read)).await;
        assert!(case.content(&file).await == content);
        assert_eq!(case.names().await, ["checkpoint"], "nothing is left beside it");
    }
}

async fn superseded_writers_touch_nothing(case: Case) {
    let (disk, old) = (&case.disk, &case.ticket);
    let (file, bytes) = (case.new_file("file").await, pattern(10_000, 5));
    case.write(&file, 0, bytes.clone()).await;
    let new = take_over(&old.gate, SOON).await.unwrap_or_else(|error| panic!("{error}"));
    let late = [
        disk.write(&file, 0, vec!["small".into()], old).await,
        disk.write(&file, 0, vec![pattern(LARGE, 6)], old).await,
        disk.zero(&file, 0, 1 << 20, old).await,
        disk.reserve(&file, 0, 1 << 20, old).await,
        disk.truncate(&file, 1, old).await,
        disk.rename_under(case.at("file"), case.at("other"), old).await,
        disk.remove_under(case.at("file"), old).await,
        disk.remove_dir_under(&case.dir, old).await,
        disk.write_atomically(&case.at("file"), "late".into(), old).await,
    ];
    for (number, late) in late.into_iter().enumerate() {
        match late {
            Err(DiskError::Fenced(fenced)) => {
                assert_eq!((fenced.era, fenced.current), (old.era, new.era));
            }
            other => panic!("number {number} should be fenced: {other:?}"),
        }
    }
    assert!(case.content(&file).await == bytes, "DISK-5: nothing is touched");
    let content = good(disk.open(case.at("file"), OpenMode::Read)).await;
    assert!(case.content(&content).await == bytes, "DISK-5: nothing is renamed or removed");
    good(disk.write(&file, 0, vec!["new".into()], &new)).await;
    assert!(case.content(&file).await.starts_with(b"new"));
}

async fn take_over_waits_for_what_is_in_flight(case: Case) {
    let (file, bytes) = (case.new_file("file").await, pattern(LARGE, 7));
    let mut ticket = case.ticket.clone();
    for round in 0..4_u64 {
        // Not awaited, not even kept.
        let position = round * LARGE as u64;
        drop(case.disk.write(&file, position, vec![bytes.clone()], &ticket));
        drop(case.disk.rename_under(case.at("file"), case.at("file"), &ticket));
        // Messages come in their order: once this is answered, the driver has the write.
        good(case.disk.len(&file)).await;
        ticket = take_over(&ticket.gate, SOON).await.unwrap_or_else(|error| panic!("{error}"));
        let written = good(case.disk.read(&file, position, LARGE)).await;
        assert!(written == bytes, "ERA-2: round {round} read before the write had ended");
    }
}

async fn many_at_once(case: Case) {
    let (disk, ticket) = (&case.disk, &case.ticket);
    let file = case.new_file("file").await;
    let answers = (0..MANY).map(|number| {
        let (file, ticket) = (&file, ticket);
        async move {
            let at = number * 8192;
            good(disk.zero(file, at, 4096, ticket)).await;
            let synced = (number % 10 == 0).then(|| disk.sync(file));
            good(disk.write(file, at + 4096, vec![pattern(4096, number)], ticket)).await;
            if let Some(synced) = synced {
                good(synced).await;
            }
            good(disk.read(file, at, 8192)).await
        }
    });
    for (number, read) in join_all(answers).await.into_iter().enumerate() {
        assert!(read[..4096].iter().all(|byte| *byte == 0), "number {number}");
        assert!(read[4096..] == pattern(4096, number as u64), "number {number}");
    }
    assert_eq!(good(disk.len(&file)).await, MANY * 8192);
    let opens = (0..MANY).map(|number| disk.open(case.at(&number.to_string()), OpenMode::Create));
    assert_eq!(join_all(opens).await.into_iter().filter(Result::is_ok).count() as u64, MANY);
    let removes = (0..MANY).map(|number| disk.remove(case.at(&number.to_string())));
    assert_eq!(join_all(removes).await.into_iter().filter(Result::is_ok).count() as u64, MANY);
    assert_eq!(case.names().await, ["file"]);
}

async fn agrees_with_a_model(case: Case, mut rng: Rng) {
    let mut model: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for step in 0..150 {
        let name = format!("f{}", rng.below(4));
        let known = model.contains_key(&name);
        let file = good(case.disk.open(case.at(&name), OpenMode::Create)).await;
        let content = model.entry(name.clone()).or_default();
        let position = rng.below(content.len() as u64 + 5000);
        let most = if rng.chance(1, 8) { 400_000 } else { 9000 };
        let len = rng.below(most);
        let (start, end) = (position as usize, (position + len) as usize);
        match rng.below(8) {
            0..=2 => {
                let bytes = pattern(len as usize, step);
                let pieces = vec![bytes.slice(..bytes.len() / 3), bytes.slice(bytes.len() / 3..)];
                good(case.disk.write(&file, position, pieces, &case.ticket)).await;
                if len > 0 {
                    content.resize(content.len().max(end), 0);
                    content[start..end].copy_from_slice(&bytes);
                }
            }
            3 => {
                good(case.disk.zero(&file, position, len, &case.ticket)).await;
                if len > 0 {
                    content.resize(content.len().max(end), 0);
                    content[start..end].fill(0);
                }
            }
            4 => {
                good(case.disk.truncate(&file, position, &case.ticket)).await;
                content.resize(start, 0);
            }
            5 => {
                let to = format!("f{}", rng.below(4));
                good(case.disk.rename(case.at(&name), case.at(&to))).await;
                if let Some(content) = model.remove(&name) {
                    model.insert(to, content);
                }
            }
            6 => {
                good(case.disk.remove(case.at(&name))).await;
                model.remove(&name);
            }
            _ => {
                let read = good(case.disk.read(&file, position, len as usize)).await;
                let from = start.min(content.len());
                assert!(read == content[from..end.clamp(from, content.len())], "step {step}");
                assert!(known || read.is_empty(), "step {step}: a new file is empty");
            }
        }
    }
    assert_eq!(case.names().await, model.keys().cloned().collect::<Vec<_>>());
    for (name, content) in &model {
        let file = good(case.disk.open(case.at(name), OpenMode::Read)).await;
        good(case.disk.sync(&file)).await;
        assert!(case.content(&file).await == *content, "`{name}` at the end");
    }
}

async fn starts_when_submitted(driver: Rc<dyn Disk>, case: Case) {
    let (small, large) = (case.new_file("small").await, case.new_file("large").await);
    let write = |file: &File, bytes: Bytes| Op::Write {
        file: file.clone(),
        position: 0,
        bufs: vec![bytes],
        ticket: case.ticket.clone(),
    };
    // Neither is polled, neither is kept, and in the end the driver is not kept, either.
    drop(driver.submit(write(&small, "small".into())));
    drop(driver.submit(write(&large, pattern(LARGE, 8))));
    let answer = driver.submit(Op::Len { file: small.clone() });
    assert!(matches!(answer.await, Ok(Done::Len(_))));
    drop(driver);
    take_over(&case.ticket.gate, SOON).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(case.content(&small).await, "small", "DISK-1");
    assert!(case.content(&large).await == pattern(LARGE, 8), "DISK-1");
}

async fn waits_hold_up_nothing(driver: Rc<dyn Disk>, case: Case) {
    let began = Instant::now();
    let waits = (0..100).map(|number| {
        let time = Duration::from_micros(number * 50);
        let wait = driver.wait(time);
        async move {
            wait.await;
            assert!(
                began.elapsed() >= time,
                "DISK-9: {time:?} is over after {:?}",
                began.elapsed()
            );
        }
    });
    join_all(waits).await;

    let _long = driver.wait(SOON * 60);
    let file = case.new_file("file").await;
    let bytes = pattern(LARGE, 9);
    let write = Op::Write {
        file: file.clone(),
        position: 0,
        bufs: vec![bytes.clone()],
        ticket: case.ticket.clone(),
    };
    drop(driver.submit(write));
    drop(driver);
    let taken = take_over(&case.ticket.gate, SOON).await;
    taken.unwrap_or_else(|error| panic!("DISK-9: a wait holds no gate: {error}"));
    assert!(case.content(&file).await == bytes, "DISK-9: a wait holds up no write");
    assert!(began.elapsed() < SOON * 2, "DISK-9: nobody waits for it");
}
