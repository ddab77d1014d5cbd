//! A seccomp filter that forbids io_uring, for one thread and what it starts.
#![expect(unsafe_code, reason = "prctl(2) takes the address of a filter")]

use std::io;

/// Makes io_uring's three system calls fail with `EPERM` on this thread and those it starts.
pub(crate) fn forbid_io_uring() -> io::Result<()> {
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
