//! Who makes the drivers: asks once, at start, which one this machine allows, and says so in one
//! line.

use std::{
    collections::BTreeMap,
    path::Path,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::{Disk, DiskError, inline::Stalls, pool::Pool, threaded::ThreadedDisk};
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
    why: Arc<str>,
    pool: Pool,
    stalls: Stalls,
    made: Mutex<BTreeMap<ArbiterId, Vec<Arc<AtomicBool>>>>,
}

impl RealDisks {
    /// Looks which driver this machine allows.
    ///
    /// # Errors
    /// [`EngineError`] where io_uring is demanded and not allowed.
    pub fn choose(engine: Engine) -> Result<RealDisks, EngineError> {
        let why = match engine {
            Engine::Threads => "disk: threads, as configured (engine `auto` would try io_uring)",
            Engine::Auto => "disk: threads",
            Engine::Uring => return Err(EngineError { why: "it is not built in".to_owned() }),
        };
        let cores = thread::available_parallelism().map_or(2, usize::from);
        Ok(RealDisks {
            why: why.into(),
            pool: Pool::new((4 * cores).clamp(8, 32)),
            stalls: Stalls::default(),
            made: Mutex::default(),
        })
    }

    /// How many inline writes were held back by the kernel for longer than 2 ms.
    #[must_use]
    pub fn stalls(&self) -> u64 {
        self.stalls.count()
    }
}

impl DiskMaker for RealDisks {
    fn make(&self, on: ArbiterId, _dir: &Path) -> Result<Rc<dyn Disk>, DiskError> {
        let abandoned = Arc::new(AtomicBool::new(false));
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.entry(on).or_default().push(abandoned.clone());
        let (pool, stalls) = (self.pool.clone(), self.stalls.clone());
        Ok(Rc::new(ThreadedDisk::new(pool, stalls, abandoned, self.why.clone())))
    }

    fn describe(&self) -> String {
        self.why.to_string()
    }

    fn abandoned(&self, arbiter: ArbiterId) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        for abandoned in made.remove(&arbiter).unwrap_or_default() {
            abandoned.store(true, Ordering::Release);
        }
    }
}
