//! Where a seccomp filter forbids io_uring, as in most containers: the node says so, and runs on
//! threads under the same contract.

#![expect(clippy::unwrap_used, reason = "in a test, failing is the answer")]

#[path = "seccomp/filter.rs"]
mod filter;

use std::{path::Path, thread};

use flumen_runtime::{
    disk::{DiskMaker as _, Engine, RealDisks, contract::contract},
    ids::ArbiterId,
};
use tokio::{runtime, task::LocalSet};

#[test]
fn under_a_filter_that_forbids_io_uring_threads_keep_the_contract() {
    thread::spawn(|| {
        filter::forbid_io_uring().unwrap();
        let error = RealDisks::choose(Engine::Uring).err().unwrap().to_string();
        assert!(error.contains("seccomp") && error.contains("io_uring"), "{error}");

        let disks = RealDisks::choose(Engine::Auto).unwrap();
        let line = disks.describe();
        assert!(line.starts_with("disk: threads, since a seccomp filter"), "{line}");
        assert!(line.contains("permission denied"), "{line}");
        assert!(line.contains("io_uring_setup"), "it says what would change that: {line}");

        let dir = tempfile::tempdir().unwrap();
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            contract(|dir: &Path| disks.make(ArbiterId(0), dir).unwrap(), dir.path()).await;
        });
    })
    .join()
    .unwrap();
}
