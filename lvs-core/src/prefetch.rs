//! Asks the processor to fetch a cache line that will be needed soon.
//!
//! One of the two modules of this crate that use `unsafe`: the intrinsic is marked so although it reads
//! nothing that the program could see. On other processors than x86-64 it does nothing.
#![allow(
    unsafe_code,
    reason = "the prefetch intrinsic; it has no effect that a program can observe"
)]

/// Begins to fetch the line that `place` starts in. Never faults, never blocks.
#[inline(always)]
pub fn prefetch<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: SSE is part of x86-64, and a prefetch is only a hint: it neither faults nor changes
        // memory, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(core::ptr::from_ref(place).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = place;
    }
}
