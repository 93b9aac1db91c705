//! Huge pages for large heap blocks, so that vectors and maps of the stand-ins lie in the same kind of
//! memory as the sessions of the director.
#![allow(unsafe_code, reason = "an allocator")]

use core::alloc::{GlobalAlloc, Layout};
use std::alloc::System;

const HUGE: usize = 2 << 20;

/// The system's allocator; blocks of 4 MiB and more are aligned to huge pages and ask for them.
pub struct HugeAlloc;

fn widened(layout: Layout) -> Layout {
    if layout.size() < 2 * HUGE {
        return layout;
    }
    layout.align_to(HUGE).unwrap_or(layout)
}

fn advise(at: *mut u8, layout: Layout) {
    if layout.size() >= 2 * HUGE && !at.is_null() {
        let whole = layout.size() / HUGE * HUGE;
        // SAFETY: the block has just been allocated with this size; the advice changes no content.
        unsafe { libc::madvise(at.cast(), whole, libc::MADV_HUGEPAGE) };
    }
}

// SAFETY: every call goes to the system's allocator, with a layout that depends on the given one alone,
// so that a block is freed with the layout that it was allocated with.
unsafe impl GlobalAlloc for HugeAlloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise; alignment only grows.
        let at = unsafe { System.alloc(widened(layout)) };
        advise(at, layout);
        at
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let at = unsafe { System.alloc_zeroed(widened(layout)) };
        advise(at, layout);
        at
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above; the same layout as in `alloc`.
        unsafe { System.dealloc(at, widened(layout)) };
    }
}
