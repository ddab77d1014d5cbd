//! The disk's contract on both real drivers, and that a ring whose thread is stuck or gone gives
//! back what it holds.

#![expect(clippy::unwrap_used, reason = "in a test, failing is the answer")]

use std::path::Path;

use flumen_runtime::{
    disk::{
        DiskMaker as _, Engine, RealDisks,
        contract::contract,
        sim::{Faults, SimDisks},
    },
    ids::ArbiterId,
    rng::Rng,
};

async fn run(engine: Engine) {
    let dir = tempfile::tempdir().unwrap();
    let disks = RealDisks::choose(engine).unwrap();
    contract(|dir: &Path| disks.make(ArbiterId(0), dir).unwrap(), dir.path()).await;
}

#[actix_rt::test]
async fn threads_keep_the_contract() {
    run(Engine::Threads).await;
}

#[actix_rt::test]
async fn the_ring_keeps_the_contract() {
    match RealDisks::choose(Engine::Uring) {
        Ok(_) => run(Engine::Uring).await,
        Err(error) => skip(&error.to_string()),
    }
}

#[actix_rt::test]
async fn the_simulated_disk_keeps_the_contract() {
    tokio::time::pause();
    let disks = SimDisks::new(&Rng::seeded(1), Faults::none());
    disks.install(Path::new("/data/.keep"), b"");
    contract(|_: &Path| disks.disk_for(ArbiterId(0)), Path::new("/data")).await;
}

/// What a test needs and does not find is named and skipped on a person's machine; with `CI=true`
/// it is a failure.
fn skip(why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}");
    eprintln!("skipped: {why}");
}
