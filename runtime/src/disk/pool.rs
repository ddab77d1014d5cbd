//! The threads that carry out what blocks, where no ring does.
//!
//! They are made when there is work that no idle one can take, up to a limit, and leave after a
//! while without work, so that an idle node has none.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

const IDLE_MAX: Duration = Duration::from_secs(10);
const STACK_BYTES: usize = 256 * 1024;

type Job = Box<dyn FnOnce() + Send>;

/// A shared pool; what was given to it is carried out even when every handle is gone (DISK-1).
#[derive(Clone)]
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    threads_max: usize,
}

struct State {
    queue: VecDeque<Job>,
    idle: usize,
    threads: usize,
}

impl Pool {
    /// A pool of at most `threads_max` threads; none yet.
    pub(super) fn new(threads_max: usize) -> Self {
        let state = State { queue: VecDeque::new(), idle: 0, threads: 0 };
        Self(Arc::new(Shared { state: Mutex::new(state), work: Condvar::new(), threads_max }))
    }

    /// Has `job` carried out.
    pub(super) fn run(&self, job: impl FnOnce() + Send + 'static) {
        let mut state = self.0.lock();
        state.queue.push_back(Box::new(job));
        if state.queue.len() <= state.idle || state.threads == self.0.threads_max {
            drop(state);
            self.0.work.notify_one();
            return;
        }
        state.threads += 1;
        drop(state);
        let shared = self.0.clone();
        let made = thread::Builder::new()
            .name("flumen-disk".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || shared.work());
        if made.is_err() {
            self.0.on_no_thread();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of a job runs under the lock, and each change is complete in itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                drop(state);
                // A job that panics drops its reply, which its caller sees; the thread stays.
                let _ = catch_unwind(AssertUnwindSafe(job));
                state = self.lock();
                continue;
            }
            state.idle += 1;
            let (woken, waited) =
                self.work.wait_timeout(state, IDLE_MAX).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if waited.timed_out() && state.queue.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }

    /// The system gave no thread: another one will come to it, or it is done here, late but done.
    fn on_no_thread(&self) {
        let mut state = self.lock();
        state.threads -= 1;
        if state.threads > 0 {
            return;
        }
        while let Some(job) = state.queue.pop_front() {
            drop(state);
            job();
            state = self.lock();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn jobs_run_side_by_side_up_to_the_limit_and_all_of_them_run() {
        let pool = Pool::new(2);
        let (done, all) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        let first = done.clone();
        pool.run(move || {
            wait.recv().unwrap();
            first.send(0).unwrap();
        });
        // Job 1 frees job 0, which would wait for ever were there one thread only.
        pool.run(move || go.send(()).unwrap());
        for number in 1..100 {
            let done = done.clone();
            pool.run(move || done.send(number).unwrap());
        }
        drop((pool, done));
        let mut seen: Vec<i32> = all.iter().collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_job_that_panics_does_not_take_its_thread_along() {
        let pool = Pool::new(1);
        pool.run(|| panic!("on purpose"));
        let (done, all) = mpsc::channel();
        pool.run(move || done.send(()).unwrap());
        assert!(all.recv_timeout(Duration::from_secs(10)).is_ok());
    }
}
