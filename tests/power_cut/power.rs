//! Cuts the power of a file system, and brings it back.
#![expect(unsafe_code, reason = "ioctl(2) takes the address of a number")]

use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd as _,
    path::Path,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::mount::Mount;

/// `_IOR('X', 125, __u32)`.
const EXT4_IOC_SHUTDOWN: libc::c_ulong = 0x8004_587d;
/// What is in memory, the file system's own journal included, does not reach the disk.
static NO_LOG_FLUSH: u32 = 2;
/// How often an unmount is tried.
const TRIES: u32 = 200;

/// From here on the process `pid` says nothing: a sync that is on its way when the power goes may come
/// back well, as no machine without power could tell anybody.
pub(crate) fn freeze(pid: Pid) -> io::Result<()> {
    kill_process(pid, Signal::STOP)?;
    let tasks = format!("/proc/{}/task", pid.as_raw_nonzero());
    for _ in 0..TRIES {
        let states = fs::read_dir(&tasks)?.map(|task| state(&task?.path()));
        let states = states.collect::<io::Result<String>>()?;
        // Once one has stopped, one that is in the kernel stops before it comes out of it.
        if states.contains('T') && !states.contains(['R', 'S']) {
            return Ok(());
        }
        // Real time: the kernel stops one after the other.
        thread::park_timeout(Duration::from_millis(1));
    }
    Err(io::Error::other(format!("process {pid:?} does not stop")))
}

/// The letter for what a thread does, as proc(5) has it behind its name.
fn state(task: &Path) -> io::Result<String> {
    let stat = fs::read_to_string(task.join("stat"))?;
    let letter = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').next());
    Ok(letter.unwrap_or_default().to_owned())
}

/// What of the file system at `dir` was not synced by now is gone.
pub(crate) fn cut(dir: &Path) -> io::Result<()> {
    let dir = File::open(dir)?;
    let how = &raw const NO_LOG_FLUSH;
    // SAFETY: the descriptor is open, and the kernel reads one number at `how`.
    let done = unsafe { libc::ioctl(dir.as_raw_fd(), EXT4_IOC_SHUTDOWN, how) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The power comes back; whoever used it has ended.
pub(crate) fn again(mount: &Mount) -> Result<(), String> {
    let mut unmounted = mount.unmount();
    for _ in 0..TRIES {
        if unmounted.is_ok() {
            break;
        }
        // Real time: the kernel lets go of a dead process's ring a little after its end.
        thread::park_timeout(Duration::from_millis(50));
        unmounted = mount.unmount();
    }
    unmounted?;
    mount.mount()
}
