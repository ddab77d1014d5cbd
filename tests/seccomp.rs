//! Where a seccomp filter forbids io_uring, as in most containers: the node says so, and runs on
//! threads under the same contract.

#![expect(clippy::unwrap_used, reason = "in a test, failing is the answer")]
#![expect(unsafe_code, reason = "prctl(2) takes the address of a filter")]

use std::{io, path::Path, thread};

use flumen_runtime::{
    disk::{DiskMaker as _, Engine, RealDisks, contract::contract},
    ids::ArbiterId,
};
use tokio::{runtime, task::LocalSet};

/// Makes io_uring's three system calls fail with `EPERM` on this thread and those it starts.
fn forbid_io_uring() -> io::Result<()> {
    let statement = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: u16::try_from(code).unwrap(),
        jt,
        jf,
        k,
    };
    let number = |call: libc::c_long| u32::try_from(call).unwrap();
    let is = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let mut program = [
        // The number of the call is the first word of `seccomp_data`.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(is, number(libc::SYS_io_uring_setup), 3, 0),
        statement(is, number(libc::SYS_io_uring_enter), 2, 0),
        statement(is, number(libc::SYS_io_uring_register), 1, 0),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
        statement(
            libc::BPF_RET | libc::BPF_K,
            libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned(),
            0,
            0,
        ),
    ];
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap(),
        filter: program.as_mut_ptr(),
    };
    // SAFETY: both calls change this thread alone; the kernel copies the filter, which is alive
    // until the call returns.
    let failed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) != 0
    };
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[test]
fn under_a_filter_that_forbids_io_uring_threads_keep_the_contract() {
    thread::spawn(|| {
        forbid_io_uring().unwrap();
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
