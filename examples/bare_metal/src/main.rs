//! The packet path on bare metal: no operating system, no heap, and no way to panic (INV-1).
//!
//! The panic handler and the allocator call symbols that exist nowhere (`nowhere.rs`). As long as the
//! optimised program can reach a panic (an index out of bounds, a division by zero, an `unwrap`) or
//! the heap, the linker refuses it: `undefined symbol: a_panic_is_reachable`. A program that links is
//! the proof that it cannot. With `--features plant-panic` or `plant-alloc` there is such a way, and
//! linking has to fail. `cargo xtask bare-metal` does all of it.
//!
//! # Adding a probe
//! Write a function in `probes.rs` that feeds `frame` (any bytes, any length) to the code and folds
//! what comes out into one number, and name it in [`PROBES`]. State that the optimiser must not
//! know goes through `black_box`. What the control side builds on the heap cannot be built here: take
//! it as an opaque `&mut` that [`_start`] is given, so that only its use is linked.
#![no_std]
#![no_main]

use core::hint::black_box;

#[cfg(feature = "plant-alloc")]
extern crate alloc as extern_alloc;

mod balancer;
mod edits;
mod lane;
mod modes;
mod nowhere;
mod probes;
mod translation;

use balancer::Balancer;

/// All that is linked, beside one round of a [`Balancer`].
const PROBES: &[fn(&mut [u8]) -> u64] = &[
    probes::burst,
    probes::addresses,
    probes::headers,
    probes::views,
    probes::neighbours,
    probes::checksums,
    probes::siphash,
    probes::lane,
    edits::streams,
    edits::proxy,
    edits::sctp,
    edits::nat64,
    edits::layouts,
    translation::in_place,
    translation::address_option,
    translation::numbers,
    modes::forwarding,
    modes::icmp,
    modes::parts,
    modes::pieces,
];

/// Where the machine would jump to, with one received frame.
///
/// # Safety
/// `frame` points at `len` bytes, and `balancer` at a finished balancer, that nobody else uses until this
/// returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _start(frame: *mut u8, len: usize, balancer: *mut Balancer) -> u64 {
    // SAFETY: what the caller promises.
    let (frame, balancer) =
        unsafe { (core::slice::from_raw_parts_mut(frame, len), &mut *balancer) };
    let mut seen = planted(balancer.round(frame));
    for &probe in PROBES {
        // The optimiser may not look into a probe from here, nor here from a probe.
        seen ^= planted(black_box(probe)(frame));
    }
    seen
}

/// What a probe found; with a feature, a panic or an allocation that depends on it.
fn planted(found: u64) -> u64 {
    #[cfg(feature = "plant-panic")]
    assert_ne!(found, 0x0123_4567_89ab_cdef, "planted");
    #[cfg(feature = "plant-alloc")]
    black_box(extern_alloc::boxed::Box::new(found));
    found
}
