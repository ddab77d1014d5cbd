//! The handle on the threaded driver.

use std::time::Duration;

use super::*;
use crate::{
    disk::{DiskMaker as _, Engine, RealDisks},
    era::{EraGate, take_over},
    ids::ArbiterId,
};

fn handle(dir: &Path) -> DiskHandle {
    let disks = RealDisks::choose(Engine::Threads).unwrap();
    DiskHandle::start(disks.make(ArbiterId(0), dir).unwrap())
}

async fn ticket(dir: &Path) -> Ticket {
    take_over(&EraGate::new(dir), Duration::from_secs(1)).await.unwrap()
}

#[actix_rt::test]
async fn an_operation_starts_when_its_method_is_called_and_needs_no_polling() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, ticket) = (handle(dir.path()), ticket(dir.path()).await);
    let file = disk.open(dir.path().join("f"), OpenMode::CreateNew).await.unwrap();
    drop(disk.write(&file, 3, vec![Bytes::from_static(b"abc")], &ticket));
    // Messages of one sender arrive in their order: the write was made when this is answered.
    assert_eq!(disk.read(&file, 0, 100).await.unwrap(), &b"\0\0\0abc"[..]);
}

#[actix_rt::test]
async fn an_atomic_write_replaces_the_whole_file_and_leaves_nothing_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, ticket) = (handle(dir.path()), ticket(dir.path()).await);
    let path = dir.path().join("checkpoint");
    for content in ["a long first content", "short"] {
        disk.write_atomically(&path, Bytes::from(content), &ticket).await.unwrap();
        let file = disk.open(&path, OpenMode::Read).await.unwrap();
        assert_eq!(disk.read(&file, 0, 100).await.unwrap(), content.as_bytes());
    }
    let names: Vec<String> =
        disk.list(dir.path()).await.unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["checkpoint"]);
}

#[actix_rt::test]
async fn an_atomic_write_of_a_superseded_era_leaves_the_content() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, old) = (handle(dir.path()), ticket(dir.path()).await);
    let path = dir.path().join("checkpoint");
    disk.write_atomically(&path, Bytes::from_static(b"old"), &old).await.unwrap();
    let new = take_over(&old.gate, Duration::from_secs(1)).await.unwrap();
    let late = disk.write_atomically(&path, Bytes::from_static(b"late"), &old).await;
    assert!(matches!(late, Err(DiskError::Fenced(_))), "{late:?}");
    disk.write_atomically(&path, Bytes::from_static(b"new"), &new).await.unwrap();
    let file = disk.open(&path, OpenMode::Read).await.unwrap();
    assert_eq!(disk.read(&file, 0, 100).await.unwrap(), &b"new"[..]);
}
