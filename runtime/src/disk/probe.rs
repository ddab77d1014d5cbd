//! Asks the kernel, once, whether io_uring is allowed, and if not, finds out why and what would
//! change it.

use std::{fs, io};

use io_uring::Probe;
use rustix::process::{Resource, getrlimit};

use super::uring::{self, Opcodes};

/// Tries a small ring.
///
/// # Errors
/// Cause and remedy, as a part of a sentence.
pub(super) fn probe() -> Result<Opcodes, String> {
    let ring = uring::build(8).map_err(|error| explain(&error))?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|error| explain(&error))?;
    Opcodes::of(&probe).ok_or_else(|| {
        "this kernel's io_uring lacks writes, reads, syncs or timeouts (a kernel of 5.6 or later has them)"
            .to_owned()
    })
}

/// Cause and remedy where this process is refused a ring with `error`.
pub(super) fn explain(error: &io::Error) -> String {
    let sysctl = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let memlock = getrlimit(Resource::Memlock).current;
    explain_with(error, sysctl.trim(), has_filter(&status), memlock)
}

/// Whether a thread of this `status` (see proc(5)) is under a seccomp filter.
fn has_filter(status: &str) -> bool {
    let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:"));
    mode.is_some_and(|mode| mode.trim() == "2")
}

fn explain_with(
    error: &io::Error,
    io_uring_disabled: &str,
    has_filter: bool,
    memlock: Option<u64>,
) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) if io_uring_disabled == "2" => {
            "io_uring is switched off for all on this machine (permission denied): \
             `sysctl kernel.io_uring_disabled=0` allows it"
                .to_owned()
        }
        Some(libc::EPERM) if io_uring_disabled == "1" => {
            "io_uring is for privileged users only on this machine (permission denied): \
             `sysctl kernel.io_uring_disabled=0`, or membership in the group of \
             `kernel.io_uring_group`, allows it"
                .to_owned()
        }
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS) if has_filter => {
            "a seccomp filter forbids io_uring (permission denied), as the default \
             profiles of Docker and containerd do: a profile that allows io_uring_setup, \
             io_uring_enter and io_uring_register changes that"
                .to_owned()
        }
        Some(libc::EPERM | libc::EACCES) => {
            "a security policy of this machine forbids io_uring (permission denied): see its \
             audit log"
                .to_owned()
        }
        Some(libc::ENOSYS) => {
            "this kernel has no io_uring: one of 5.6 or later, built with CONFIG_IO_URING, has it"
                .to_owned()
        }
        Some(libc::ENOMEM) => {
            let limit =
                memlock.map_or_else(|| "unlimited".to_owned(), |bytes| format!("{bytes} bytes"));
            format!(
                "there is no memory for a ring (the limit on locked memory is {limit}): \
                 `ulimit -l unlimited`, or `LimitMEMLOCK=infinity` in the service's unit, raises it"
            )
        }
        Some(libc::EMFILE | libc::ENFILE) => {
            "there is no file descriptor left for a ring: `ulimit -n` raises the limit".to_owned()
        }
        _ => format!("io_uring fails: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(code: i32, sysctl: &str, filter: bool) -> String {
        explain_with(&io::Error::from_raw_os_error(code), sysctl, filter, Some(65_536))
    }

    #[test]
    fn each_cause_has_a_remedy_of_its_own() {
        assert!(why(libc::EPERM, "2", false).contains("sysctl kernel.io_uring_disabled=0"));
        assert!(why(libc::EPERM, "1", true).contains("io_uring_group"));
        assert!(why(libc::EPERM, "0", true).contains("seccomp"));
        assert!(why(libc::EPERM, "", false).contains("security policy"));
        assert!(why(libc::ENOSYS, "", true).contains("seccomp"));
        assert!(why(libc::ENOSYS, "", false).contains("CONFIG_IO_URING"));
        assert!(why(libc::ENOMEM, "0", false).contains("65536 bytes"));
        assert!(why(libc::EMFILE, "0", false).contains("ulimit -n"));
        assert!(why(libc::EIO, "0", false).contains("os error 5"));
    }

    #[test]
    fn the_filter_is_read_from_the_status_of_the_process() {
        assert!(has_filter("Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n"));
        assert!(!has_filter("Name:\tx\nSeccomp:\t0\nSeccomp_filters:\t0\n"));
        assert!(!has_filter(""));
    }
}
