//! Session memory from the heap, for whoever has no huge pages to lend.

use alloc::boxed::Box;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(128))]
struct Chunk([u8; 128]);

/// Zeroed heap memory, aligned as a session store needs it.
///
/// ```
/// use lvs_core::plan::Whole;
/// use lvs_core::session::{HeapMemory, SessionStore, StoreConfig, TableConfig};
/// let config = StoreConfig {
///     v4: TableConfig { local_addresses: 1, general: 1000 },
///     v6: TableConfig::default(),
///     key: [1, 2], // random in production
///     seed: 3,
/// };
/// let plan = Whole::default();
/// let mut memory = HeapMemory::new(SessionStore::memory_for(&config, &plan).unwrap());
/// let store = SessionStore::new(config, plan, memory.bytes())?;
/// assert_eq!(store.capacity(), 64_511 + 1000);
/// # Ok::<(), lvs_core::session::StoreError>(())
/// ```
pub struct HeapMemory(Box<[Chunk]>);

impl HeapMemory {
    /// At least `bytes` bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(alloc::vec![Chunk([0; 128]); bytes.div_ceil(128)].into_boxed_slice())
    }

    /// All of it.
    pub fn bytes(&mut self) -> &mut [u8] {
        self.0.as_mut_bytes()
    }
}

impl core::fmt::Debug for HeapMemory {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "HeapMemory({} bytes)", self.0.len().saturating_mul(128))
    }
}
