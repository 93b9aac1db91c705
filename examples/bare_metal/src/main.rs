//! The packet path on bare metal: no operating system, no allocator, and no way to panic.
//!
//! The panic handler calls a symbol that exists nowhere. As long as the optimised program can reach
//! a panic (an index out of bounds, an overflowing division, an `unwrap`), the linker refuses it:
//! `undefined symbol: a_panic_is_reachable`. A program that links is the proof that it cannot. With
//! `--features plant-panic` every probe may panic on its result, and linking has to fail.
//! `cargo xtask bare-metal` does both.
//!
//! # Adding a probe
//! Write a function in `probes.rs` that feeds `frame` (any bytes, any length) to the code and folds
//! what comes out into one number, and name it in [`PROBES`]. State that the optimiser must not
//! know goes through `black_box`.
#![no_std]
#![no_main]

use core::hint::black_box;

mod probes;

#[cfg(not(feature = "show-panics"))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        /// Defined nowhere, on purpose.
        fn a_panic_is_reachable() -> !;
    }
    // SAFETY: a program in which this call is left does not link, so it never happens.
    unsafe { a_panic_is_reachable() }
}

#[cfg(feature = "show-panics")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    // Keeps the file names in the program, where `cargo xtask bare-metal` looks for them.
    black_box(info.location());
    loop {}
}

/// All that is linked.
const PROBES: [fn(&mut [u8]) -> u64; 6] = [
    probes::burst,
    probes::addresses,
    probes::headers,
    probes::views,
    probes::checksums,
    probes::siphash,
];

/// Where the machine would jump to, with one received frame.
///
/// # Safety
/// `frame` points at `len` bytes that nobody else uses until this returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _start(frame: *mut u8, len: usize) -> u64 {
    // SAFETY: what the caller promises.
    let frame = unsafe { core::slice::from_raw_parts_mut(frame, len) };
    let mut seen = 0;
    for probe in PROBES {
        // The optimiser may not look into a probe from here, nor here from a probe.
        seen ^= planted(black_box(probe)(frame));
    }
    seen
}

/// What a probe found; with the feature, a panic that depends on it.
fn planted(found: u64) -> u64 {
    #[cfg(feature = "plant-panic")]
    assert_ne!(found, 0x0123_4567_89ab_cdef, "planted");
    found
}
