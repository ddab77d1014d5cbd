//! Who makes the drivers: asks once, at start, which one this machine allows, and says so in one
//! line.

use std::{
    collections::BTreeMap,
    path::Path,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::{
    Disk, DiskError,
    inline::Stalls,
    pool::Pool,
    probe,
    threaded::ThreadedDisk,
    uring::{
        Opcodes,
        driver::{Reaper, UringDisk},
    },
};
use crate::ids::ArbiterId;

/// Makes a driver for each arbiter and data directory.
pub trait DiskMaker: Send + Sync {
    /// A driver for the data directory `dir`, to be used on the current thread, which is that of
    /// arbiter `on`.
    ///
    /// # Errors
    /// [`DiskError::Os`] where the system gives no ring.
    fn make(&self, on: ArbiterId, dir: &Path) -> Result<Rc<dyn Disk>, DiskError>;

    /// One line: which driver, why, and what would change it.
    fn describe(&self) -> String;

    /// Arbiter `arbiter` is wedged or its thread is gone: its drivers start nothing more, and what
    /// they have in flight is reaped from another thread until nothing is, which lets
    /// [`crate::era::take_over`] go on. Returns at once.
    fn abandoned(&self, arbiter: ArbiterId);
}

/// Which driver is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// io_uring where it is allowed, else threads.
    #[default]
    Auto,
    /// io_uring or nothing.
    Uring,
    /// Threads.
    Threads,
}

/// io_uring was demanded, and is not to be had.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("io_uring was demanded, but {why}; choose the engine `auto` or `threads`")]
pub struct EngineError {
    /// Cause and remedy.
    pub why: String,
}

/// Makes drivers for real files.
pub struct RealDisks {
    /// What the kernel's io_uring can do, where it is used.
    ring: Option<Opcodes>,
    /// Whether threads do where a ring cannot be had after all.
    or_threads: bool,
    why: Arc<str>,
    pool: Pool,
    stalls: Stalls,
    made: Mutex<BTreeMap<ArbiterId, Vec<Made>>>,
}

/// What gives a driver up.
enum Made {
    Ring(Reaper),
    Threads(Weak<AtomicBool>),
}

impl Made {
    fn is_gone(&self) -> bool {
        match self {
            Made::Ring(reaper) => reaper.is_gone(),
            Made::Threads(abandoned) => abandoned.strong_count() == 0,
        }
    }

    fn abandon(&self) {
        match self {
            Made::Ring(reaper) => reaper.abandon(),
            // Its threads are not the arbiter's: what they have in flight ends by itself.
            Made::Threads(abandoned) => {
                if let Some(abandoned) = abandoned.upgrade() {
                    abandoned.store(true, Ordering::Release);
                }
            }
        }
    }
}

impl RealDisks {
    /// Looks which driver this machine allows.
    ///
    /// # Errors
    /// [`EngineError`] where io_uring is demanded and not allowed.
    pub fn choose(engine: Engine) -> Result<RealDisks, EngineError> {
        let probed = match engine {
            Engine::Threads => Err("so configured (engine `auto` tries io_uring first)".to_owned()),
            Engine::Auto | Engine::Uring => probe::probe(),
        };
        let (ring, why) = match (probed, engine) {
            (Ok(opcodes), _) => {
                let why = "disk: io_uring, which this kernel allows; small writes go to the page \
                           cache directly (engine `threads` does without it)";
                (Some(opcodes), why.to_owned())
            }
            (Err(why), Engine::Uring) => return Err(EngineError { why }),
            (Err(why), _) => (None, format!("disk: threads, since {why}")),
        };
        let cores = thread::available_parallelism().map_or(2, usize::from);
        Ok(RealDisks {
            ring,
            or_threads: engine != Engine::Uring,
            why: why.into(),
            pool: Pool::new((4 * cores).clamp(16, 32)),
            stalls: Stalls::default(),
            made: Mutex::default(),
        })
    }

    /// How many inline writes were held back by the kernel for longer than 2 ms.
    #[must_use]
    pub fn stalls(&self) -> u64 {
        self.stalls.count()
    }

    fn threads(&self, why: Arc<str>) -> (Rc<dyn Disk>, Made) {
        let abandoned = Arc::new(AtomicBool::new(false));
        let made = Made::Threads(Arc::downgrade(&abandoned));
        let (pool, stalls) = (self.pool.clone(), self.stalls.clone());
        (Rc::new(ThreadedDisk::new(pool, stalls, abandoned, why)), made)
    }

    fn driver(&self, dir: &Path) -> Result<(Rc<dyn Disk>, Made), DiskError> {
        let Some(opcodes) = self.ring else { return Ok(self.threads(self.why.clone())) };
        let (pool, stalls) = (self.pool.clone(), self.stalls.clone());
        match UringDisk::new(opcodes, pool, stalls, self.why.clone()) {
            Ok(ring) => {
                let made = Made::Ring(ring.reaper());
                Ok((Rc::new(ring), made))
            }
            Err(error) if self.or_threads => {
                let why = format!("disk: threads, since {}", probe::explain(&error));
                tracing::warn!(dir = %dir.display(), "{why}");
                Ok(self.threads(why.into()))
            }
            Err(error) => Err(DiskError::os("make an io_uring for", dir, error)),
        }
    }
}

impl DiskMaker for RealDisks {
    fn make(&self, on: ArbiterId, dir: &Path) -> Result<Rc<dyn Disk>, DiskError> {
        let (driver, made) = self.driver(dir)?;
        let mut all = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let of_arbiter = all.entry(on).or_default();
        of_arbiter.retain(|made| !made.is_gone());
        of_arbiter.push(made);
        #[cfg(any(test, feature = "sim"))]
        let driver = super::unsynced::unless_syncs_are_off(driver);
        Ok(driver)
    }

    fn describe(&self) -> String {
        self.why.to_string()
    }

    fn abandoned(&self, arbiter: ArbiterId) {
        let mut all = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&arbiter).unwrap_or_default().iter().for_each(Made::abandon);
    }
}
