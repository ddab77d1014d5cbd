//! An allocator that counts what the current thread asks for.

#![expect(unsafe_code, reason = "an allocator is unsafe to write; this one passes all on")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.set(ASKED.get() + layout.size());
        // SAFETY: the caller promises what the system's allocator demands.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Runs `run`, and says how many bytes it asked for, those included that it gave back.
pub(crate) fn asked<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = ASKED.get();
    let result = run();
    (result, ASKED.get() - before)
}
