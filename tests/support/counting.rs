//! An allocator that counts, for binaries that do one thing at a time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

pub struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicIsize = AtomicIsize::new(0);
thread_local!(static ON_THIS_THREAD: Cell<usize> = const { Cell::new(0) });

impl Counting {
    /// Returns the number of allocations that all threads have made.
    pub fn allocations() -> usize {
        ALLOCATIONS.load(Ordering::Relaxed)
    }

    /// Returns the number of allocations that this thread has made.
    pub fn on_this_thread() -> usize {
        ON_THIS_THREAD.get()
    }

    /// Returns the number of bytes that are allocated.
    pub fn bytes() -> isize {
        BYTES.load(Ordering::Relaxed)
    }
}

// SAFETY: forwards to `System`, and counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size() as isize, Ordering::Relaxed);
        _ = ON_THIS_THREAD.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller upholds the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller upholds the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}
