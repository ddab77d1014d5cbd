//! Named places at which a test has the process die, as if it were killed just there.
//!
//! A process that runs for a test arms one place, and dies of SIGKILL when it comes by there for the
//! nth time: whoever started it sees the signal, and so knows that the place was reached. Only under
//! the feature `sim`; a build for use holds no trace of them.

#[cfg(any(test, feature = "sim"))]
mod armed {
    use std::{
        sync::{
            OnceLock,
            atomic::{AtomicU32, Ordering},
        },
        thread,
    };

    use rustix::process::{Signal, getpid, kill_process};

    struct Armed {
        name: String,
        left: AtomicU32,
    }

    static ARMED: OnceLock<Armed> = OnceLock::new();

    /// Has this process die when it comes by `name` for the `nth` time. Once a process.
    ///
    /// # Panics
    /// Where a place was armed before.
    pub fn arm(name: &str, nth: u32) {
        let armed = Armed { name: name.to_owned(), left: AtomicU32::new(nth) };
        assert!(ARMED.set(armed).is_ok(), "a process dies once");
    }

    /// The process comes by `name`.
    pub fn pass(name: &'static str) {
        let Some(armed) = ARMED.get().filter(|armed| armed.name == name) else { return };
        if armed.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            // A process may always signal itself, and nothing runs after this signal.
            let _ = kill_process(getpid(), Signal::KILL);
            loop {
                thread::park();
            }
        }
    }
}

#[cfg(any(test, feature = "sim"))]
pub use armed::{arm, pass};

/// The process comes by `name`; a build for use does nothing here.
#[cfg(not(any(test, feature = "sim")))]
#[inline(always)]
pub fn pass(_: &'static str) {}
