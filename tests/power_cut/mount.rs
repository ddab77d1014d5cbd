//! An ext4 in a file, whose power can be cut.
//!
//! It is mounted in a mount namespace of the test's thread, which the node inherits: whatever becomes
//! of the test, the mount and its loop device go with the last process that sees them.
#![expect(unsafe_code, reason = "unshare(2) and ioctl(2) take plain numbers")]

use std::{
    fs::File,
    io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

/// Sparse: the disk gives only what is written.
const BYTES: u64 = 1 << 30;
/// `_IOR('X', 125, __u32)`.
const EXT4_IOC_SHUTDOWN: libc::c_ulong = 0x8004_587d;
/// What is in memory, the file system's own journal included, does not reach the disk.
static NO_LOG_FLUSH: u32 = 2;

/// How often an unmount is tried.
const TRIES: u32 = 200;

/// See the module. Unmounted when it is dropped.
pub(crate) struct Mount {
    image: PathBuf,
    dir: PathBuf,
    _home: tempfile::TempDir,
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).output();
    let output = output.map_err(|error| format!("`{program}` cannot be run: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let failed = || format!("`{program} {}`: {}", args.join(" "), said.trim());
    if output.status.success() { Ok(()) } else { Err(failed()) }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary path is text")
}

impl Mount {
    /// Makes one; the reason where that cannot be: no root, no `mkfs.ext4`, no loop device.
    pub(crate) fn new() -> Result<Self, String> {
        // SAFETY: takes a number, and gives this thread a mount namespace of its own.
        if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
            let error = io::Error::last_os_error();
            return Err(format!("power cuts need root, to mount a file system: {error}"));
        }
        run("mount", &["--make-rprivate", "/"])?;
        let home = tempfile::tempdir().map_err(|error| error.to_string())?;
        let (image, dir) = (home.path().join("image"), home.path().join("mount"));
        let made = File::create(&image).and_then(|file| file.set_len(BYTES));
        made.and_then(|()| std::fs::create_dir(&dir)).map_err(|error| error.to_string())?;
        run("mkfs.ext4", &["-q", "-F", text(&image)])?;
        let mount = Self { image, dir, _home: home };
        mount.mount()?;
        Ok(mount)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Cuts the power: what was not synced by now is gone.
    pub(crate) fn cut(&self) -> io::Result<()> {
        let dir = File::open(&self.dir)?;
        let how = &raw const NO_LOG_FLUSH;
        // SAFETY: the descriptor is open, and the kernel reads one number at `how`.
        let done = unsafe { libc::ioctl(dir.as_raw_fd(), EXT4_IOC_SHUTDOWN, how) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The power comes back; whoever used it has ended.
    pub(crate) fn again(&self) -> Result<(), String> {
        let mut unmounted = run("umount", &[text(&self.dir)]);
        for _ in 0..TRIES {
            if unmounted.is_ok() {
                break;
            }
            // Real time: the kernel lets go of a dead process's ring a little after its end.
            thread::park_timeout(Duration::from_millis(50));
            unmounted = run("umount", &[text(&self.dir)]);
        }
        unmounted?;
        self.mount()
    }

    fn mount(&self) -> Result<(), String> {
        // The loop device goes with its mount.
        run("mount", &["-o", "loop", text(&self.image), text(&self.dir)])
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A descriptor that is still open holds it no longer than that.
        let _ = run("umount", &["--lazy", text(&self.dir)]);
    }
}
