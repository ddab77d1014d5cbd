//! An ext4 in a file, for a test that needs a disk of its own.
//!
//! It is mounted in a mount namespace of the test's thread, which its children inherit: whatever
//! becomes of the test, the mount and its loop device go with the last process that sees them.
#![expect(unsafe_code, reason = "unshare(2) takes a plain number")]

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Command,
};

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
    /// Makes one of this size, of which the real disk gives only what is written; the reason where that
    /// cannot be: no root, no `mkfs.ext4`, no loop device.
    pub(crate) fn of(bytes: u64) -> Result<Self, String> {
        // SAFETY: takes a number, and gives this thread a mount namespace of its own.
        if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
            let error = io::Error::last_os_error();
            return Err(format!("only root may mount the test's file system: {error}"));
        }
        run("mount", &["--make-rprivate", "/"])?;
        let home = tempfile::tempdir().map_err(|error| error.to_string())?;
        let (image, dir) = (home.path().join("image"), home.path().join("mount"));
        let made = File::create(&image).and_then(|file| file.set_len(bytes));
        made.and_then(|()| fs::create_dir(&dir)).map_err(|error| error.to_string())?;
        run("mkfs.ext4", &["-q", "-F", text(&image)])?;
        let mount = Self { image, dir, _home: home };
        mount.mount()?;
        Ok(mount)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Mounts it, also again; the loop device goes with its mount.
    pub(crate) fn mount(&self) -> Result<(), String> {
        run("mount", &["-o", "loop", text(&self.image), text(&self.dir)])
    }

    /// Unmounts it; an error where someone uses it still.
    pub(crate) fn unmount(&self) -> Result<(), String> {
        run("umount", &[text(&self.dir)])
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.unmount().is_err() {
            // Whoever uses it still holds it no longer than that.
            let _ = run("umount", &["--lazy", text(&self.dir)]);
        }
    }
}
