//! The words of supervision: names and meaning are Erlang/OTP's.

use std::{fmt, time::Duration};

/// When a child that left is made anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// Always.
    #[default]
    Permanent,
    /// Only after a failure.
    Transient,
    /// Never.
    Temporary,
}

/// Who is made anew with a child that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Only itself.
    #[default]
    OneForOne,
    /// All its siblings.
    OneForAll,
    /// Those that come after it.
    RestForOne,
}

/// How many restarts a supervisor pays for before it fails itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intensity {
    /// Most restarts …
    pub restarts_max: u32,
    /// … within this time.
    pub period: Duration,
}

impl Default for Intensity {
    fn default() -> Self {
        Self { restarts_max: 5, period: Duration::from_secs(60) }
    }
}

/// How long a supervisor waits before a restart: `first`, doubled with each failure that follows
/// within [`Intensity::period`], up to `max`; of that, a random part between half and all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// At most.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(10), max: Duration::from_secs(10) }
    }
}

impl Backoff {
    /// The longest wait after `failures` (1, 2, …) in a row.
    #[must_use]
    pub fn after(&self, failures: u32) -> Duration {
        let doubled = 2_u32.checked_pow(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first.checked_mul(doubled).map_or(self.max, |wait| wait.min(self.max))
    }
}

/// Why an actor is no longer running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It ended by its own decision, or was asked to.
    Normal,
    /// It said that it cannot go on.
    Failed(String),
    /// It panicked.
    Panicked(String),
    /// It was ended from outside: its deadline passed, or its arbiter is gone.
    Killed,
}

impl Exit {
    /// Whether it is anything but [`Exit::Normal`].
    #[must_use]
    pub fn is_failure(&self) -> bool {
        !matches!(self, Exit::Normal)
    }

    /// The exit code of a process whose root supervisor left so: 0, or 1 after a failure.
    #[must_use]
    pub fn code(&self) -> u8 {
        u8::from(self.is_failure())
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Normal => f.write_str("ended"),
            Exit::Failed(why) => write!(f, "failed: {why}"),
            Exit::Panicked(what) => write!(f, "panicked: {what}"),
            Exit::Killed => f.write_str("killed"),
        }
    }
}

/// Why a factory made no actor.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct StartError(String);

impl StartError {
    /// Because of `error`.
    pub fn new(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_doubles_up_to_its_most() {
        let backoff = Backoff { first: Duration::from_millis(10), max: Duration::from_millis(70) };
        let waits: Vec<_> = (1..=5).map(|n| backoff.after(n).as_millis()).collect();
        assert_eq!(waits, [10, 20, 40, 70, 70]);
        assert_eq!(backoff.after(u32::MAX), backoff.max);
    }
}
