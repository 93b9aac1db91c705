//! What must not be reachable: a panic and the heap. Both lead to symbols that exist nowhere.

unsafe extern "C" {
    fn a_panic_is_reachable() -> !;
    fn an_allocation_is_reachable() -> *mut u8;
    fn a_free_is_reachable();
}

/// A heap that cannot be linked.
///
/// The crates may use `alloc` where the control side builds values; the packet path may not, neither
/// to get memory nor to give it back.
struct NoHeap;

// SAFETY: no call into this is left in a program that links, so there is nothing to uphold.
unsafe impl core::alloc::GlobalAlloc for NoHeap {
    unsafe fn alloc(&self, _: core::alloc::Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { an_allocation_is_reachable() }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: core::alloc::Layout) {
        // SAFETY: as above.
        unsafe { a_free_is_reachable() }
    }
}

#[global_allocator]
static HEAP: NoHeap = NoHeap;

#[cfg(not(feature = "show-panics"))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: as above.
    unsafe { a_panic_is_reachable() }
}

#[cfg(feature = "show-panics")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    // Keeps the file names in the program, where `cargo xtask bare-metal` looks for them.
    core::hint::black_box(info.location());
    loop {}
}
