//! Memory for session tables: large pages where the system has them, and shareable by descriptor,
//! so that the sessions outlive the process that works on them.

use crate::sys;
use core::ffi::{CStr, c_int};
use core::ptr::{self, NonNull};
use core::slice;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

/// Size and alignment of a large page on the processors that matter here.
pub const HUGE_PAGE: usize = 2 << 20;

/// Size of an ordinary page, at least.
const SMALL_PAGE: usize = 4096;

/// What kind of pages lie behind a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Pages of 2 MiB that the administrator reserved (`vm.nr_hugepages`).
    Reserved,
    /// The kernel was asked for transparent huge pages; whether it has them is its decision
    /// (`AnonHugePages` or `ShmemPmdMapped` in `/proc/self/smaps`).
    TransparentAsked,
}

/// Which pages memory is to be made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pages {
    /// Reserved large pages if enough are free, else transparent huge pages as far as the kernel gives them.
    #[default]
    Auto,
    /// Reserved large pages, or an error.
    Reserved,
    /// Pages of the processor's ordinary size.
    Small,
}

/// Bytes of resident memory by the kind of page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageUse {
    /// In pages that the administrator reserved.
    pub reserved: u64,
    /// In huge pages that the kernel gave by itself.
    pub transparent: u64,
    /// In ordinary pages.
    pub small: u64,
}

/// Memory that a descriptor names: it exists as long as any process holds the descriptor.
///
/// Its size never changes (sealed), so a mapping of it cannot fault.
#[derive(Debug)]
pub struct SharedMemory {
    file: File,
    len: usize,
    backing: Backing,
}

impl SharedMemory {
    /// Makes zeroed memory of at least `len` bytes (rounded up to [`HUGE_PAGE`]), from reserved
    /// large pages where enough are free, else from ordinary ones. `name` shows in `/proc`.
    ///
    /// # Errors
    /// `InvalidInput` for a length of zero or above `isize::MAX`, else the kernel's.
    pub fn create(name: &CStr, len: usize) -> io::Result<Self> {
        Self::create_of(name, len, Pages::Auto)
    }

    /// As [`SharedMemory::create`], of these pages. Whether a mapping asks for transparent huge pages is
    /// said again to [`SharedMemory::map_of`].
    ///
    /// # Errors
    /// As [`SharedMemory::create`]; with [`Pages::Reserved`] also when too few reserved pages are free
    /// (`OutOfMemory`).
    pub fn create_of(name: &CStr, len: usize, pages: Pages) -> io::Result<Self> {
        let len = round_up(len)?;
        let reserved = || -> io::Result<Self> {
            let flags = libc::MFD_HUGETLB | libc::MFD_HUGE_2MB;
            let memory = Self::make(name, len, flags, Backing::Reserved)?;
            // Reserved pages are counted at the first mapping, and then belong to the file: a
            // trial mapping tells whether there are enough.
            Mapping::new(len, libc::MAP_SHARED, Some(memory.file.as_fd()))?;
            Ok(memory)
        };
        let small = || Self::make(name, len, 0, Backing::TransparentAsked);
        match pages {
            Pages::Auto => reserved().or_else(|_| small()),
            Pages::Reserved => reserved(),
            Pages::Small => small(),
        }
    }

    fn make(name: &CStr, len: usize, flags: u32, backing: Backing) -> io::Result<Self> {
        let flags = flags | libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // SAFETY: a nul-terminated name and an integer; the descriptor is new and ours.
        let fd =
            unsafe { OwnedFd::from_raw_fd(sys::check(libc::memfd_create(name.as_ptr(), flags))?) };
        let file = File::from(fd);
        file.set_len(u64::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?)?;
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: F_ADD_SEALS takes an integer.
        sys::check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) })?;
        Ok(Self { file, len, backing })
    }

    /// Takes memory that another process made by [`SharedMemory::create`] and sent.
    ///
    /// # Errors
    /// `InvalidData` when its size is not sealed, zero, or no multiple of [`HUGE_PAGE`].
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let file = File::from(fd);
        // SAFETY: F_GET_SEALS takes nothing and returns a mask.
        let seals = sys::check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) })?;
        let needed = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;
        let metadata = file.metadata()?;
        let len = usize::try_from(metadata.len()).unwrap_or(0);
        if seals & needed != needed || len == 0 || !len.is_multiple_of(HUGE_PAGE) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not memory of this crate"));
        }
        // hugetlbfs tells its page size as the block size; tmpfs has the processor's.
        let reserved = metadata.blksize() == HUGE_PAGE as u64;
        let backing = if reserved { Backing::Reserved } else { Backing::TransparentAsked };
        Ok(Self { file, len, backing })
    }

    /// Maps it. One mapping at a time in all processes of the machine, so that the bytes have one
    /// owner as `&mut [u8]` promises; it ends with the [`Region`] or the process.
    ///
    /// # Errors
    /// `WouldBlock` while another mapping made by this function exists, else the kernel's.
    pub fn map(&self) -> io::Result<Region> {
        self.map_of(Pages::Auto)
    }

    /// As [`SharedMemory::map`]; with [`Pages::Small`] transparent huge pages are refused.
    ///
    /// # Errors
    /// As [`SharedMemory::map`].
    pub fn map_of(&self, pages: Pages) -> io::Result<Region> {
        // A lock belongs to the open file, and a descriptor that was passed on shares that: so open
        // the memory anew, and lock that.
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        lock_exclusively(&file)?;
        let mapping = Mapping::new(self.len, libc::MAP_SHARED, Some(file.as_fd()))?;
        match pages {
            Pages::Small => mapping.advise(libc::MADV_NOHUGEPAGE),
            Pages::Auto | Pages::Reserved => mapping.advise(libc::MADV_HUGEPAGE),
        }
        Ok(Region { mapping, backing: self.backing, _lock: Some(file) })
    }

    /// Bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Never: there is no memory of length zero.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl AsFd for SharedMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn lock_exclusively(file: &File) -> io::Result<()> {
    // SAFETY: all-zero is a valid flock; length 0 means the whole file.
    let mut lock: libc::flock = unsafe { core::mem::zeroed() };
    lock.l_type = libc::c_short::try_from(libc::F_WRLCK).unwrap_or(1);
    lock.l_whence = libc::c_short::try_from(libc::SEEK_SET).unwrap_or(0);
    // SAFETY: `lock` is valid through the call and the kernel only reads it.
    sys::check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) })
        .map(drop)
}

/// Mapped memory with one owner, zeroed when new, aligned to [`HUGE_PAGE`].
#[derive(Debug)]
pub struct Region {
    mapping: Mapping,
    backing: Backing,
    /// Keeps other processes from mapping the same memory.
    _lock: Option<File>,
}

impl Region {
    /// Memory of this process alone, at least `len` bytes, rounded up to [`HUGE_PAGE`].
    ///
    /// # Errors
    /// `InvalidInput` for a length of zero or above `isize::MAX`, `OutOfMemory`.
    pub fn anonymous(len: usize) -> io::Result<Self> {
        let len = round_up(len)?;
        let reserved =
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | libc::MAP_HUGE_2MB;
        if let Ok(mapping) = Mapping::new(len, reserved, None) {
            return Ok(Self { mapping, backing: Backing::Reserved, _lock: None });
        }
        let mapping = Mapping::new(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, None)?;
        mapping.advise(libc::MADV_HUGEPAGE);
        Ok(Self { mapping, backing: Backing::TransparentAsked, _lock: None })
    }

    /// The bytes.
    #[must_use]
    pub const fn as_slice(&self) -> &[u8] {
        // SAFETY: the mapping is `len` readable bytes for as long as `self` lives, and `&self`
        // keeps writers of this process away; other processes are kept away by the lock.
        unsafe { slice::from_raw_parts(self.mapping.start.as_ptr(), self.mapping.len) }
    }

    /// The bytes, to write.
    #[must_use]
    pub const fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and `&mut self` makes this the only access.
        unsafe { slice::from_raw_parts_mut(self.mapping.start.as_ptr(), self.mapping.len) }
    }

    /// The bytes for the rest of the process's life; never unmapped, and its lock is kept.
    #[must_use]
    pub fn leak(self) -> &'static mut [u8] {
        let (start, len) = (self.mapping.start, self.mapping.len);
        core::mem::forget(self);
        // SAFETY: `self` is forgotten, so nobody unmaps the bytes or makes another slice of them.
        unsafe { slice::from_raw_parts_mut(start.as_ptr(), len) }
    }

    /// What lies behind it.
    #[must_use]
    pub const fn backing(&self) -> Backing {
        self.backing
    }

    /// Has the kernel put memory behind all of it now instead of at the first touch of each page; what
    /// is there already stays as it is.
    ///
    /// # Errors
    /// `OutOfMemory`, or the kernel's.
    pub fn prefault(&mut self) -> io::Result<()> {
        let (start, len) = (self.mapping.start.as_ptr(), self.mapping.len);
        // SAFETY: the range is ours and mapped; this advice changes no content.
        let done = unsafe { libc::madvise(start.cast(), len, libc::MADV_POPULATE_WRITE) };
        match sys::check(done) {
            // Before Linux 5.14: touch every page.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                for byte in self.as_mut_slice().iter_mut().step_by(SMALL_PAGE) {
                    let byte = ptr::from_mut(byte);
                    // SAFETY: a valid reference; volatile, so that writing what is there is not left out.
                    unsafe { byte.write_volatile(byte.read_volatile()) };
                }
                Ok(())
            }
            done => done.map(drop),
        }
    }

    /// What the kernel has put behind it so far (`/proc/self/smaps`).
    ///
    /// # Errors
    /// The file cannot be read, or does not list the region.
    pub fn page_use(&self) -> io::Result<PageUse> {
        let start = self.mapping.start.as_ptr() as usize;
        let smaps = std::fs::read_to_string("/proc/self/smaps")?;
        page_use_of(&smaps, start, start + self.mapping.len)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "not in /proc/self/smaps"))
    }

    /// Bytes of resident memory now, by asking the kernel for the page table (`mincore(2)`).
    ///
    /// # Errors
    /// The kernel's.
    pub fn resident(&self) -> io::Result<usize> {
        let mut pages = vec![0u8; self.mapping.len.div_ceil(SMALL_PAGE)];
        let start = self.mapping.start.as_ptr().cast();
        // SAFETY: the range is mapped and the vector has one byte for each of its pages.
        sys::check(unsafe { libc::mincore(start, self.mapping.len, pages.as_mut_ptr()) })?;
        Ok(pages.iter().filter(|p| **p & 1 != 0).count() * SMALL_PAGE)
    }
}

/// Sums over the mappings within a range of addresses; `None` when there is none.
fn page_use_of(smaps: &str, start: usize, end: usize) -> Option<PageUse> {
    let mut found = None;
    let mut inside = false;
    let (mut resident, mut used) = (0, PageUse::default());
    for line in smaps.lines() {
        let (first, rest) = line.split_once(' ')?;
        if let Some((from, to)) = first.split_once('-') {
            let address = |text| usize::from_str_radix(text, 16).ok();
            inside = address(from)? >= start && address(to)? <= end;
            found = found.or(inside.then_some(()));
        } else if inside && let Some(kilobytes) = rest.trim().strip_suffix(" kB") {
            let bytes = kilobytes.trim().parse::<u64>().ok()? << 10;
            match first {
                "Rss:" => resident += bytes,
                "AnonHugePages:" | "ShmemPmdMapped:" | "FilePmdMapped:" => {
                    used.transparent += bytes;
                }
                "Shared_Hugetlb:" | "Private_Hugetlb:" => used.reserved += bytes,
                _ => {}
            }
        }
    }
    // `Rss` leaves out reserved pages.
    used.small = u64::saturating_sub(resident, used.transparent);
    found.map(|()| used)
}

/// A range of mapped addresses, unmapped on drop.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread, and this type gives no access by itself.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&Mapping` allows nothing but reading two numbers.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes (a multiple of [`HUGE_PAGE`]) at an address with that alignment.
    fn new(len: usize, flags: c_int, fd: Option<BorrowedFd<'_>>) -> io::Result<Self> {
        let wide = len.checked_add(HUGE_PAGE).ok_or(io::ErrorKind::InvalidInput)?;
        // Reserve address space with room to align, map over the aligned part, return the ends.
        // If the second step fails, the kernel may have freed part of the reservation already, and
        // another thread may have mapped something there: it is then left alone, not unmapped.
        let reserve = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let reserved = mmap(ptr::null_mut(), wide, libc::PROT_NONE, reserve, -1)?.as_ptr();
        let before = reserved.align_offset(HUGE_PAGE).min(HUGE_PAGE);
        let aligned = reserved.wrapping_add(before);
        let raw = fd.map_or(-1, |fd| fd.as_raw_fd());
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let start = mmap(aligned, len, prot, flags | libc::MAP_FIXED, raw)?;
        // SAFETY: both ends were reserved above, lie outside the new mapping, and nobody has a
        // pointer into them. A failure leaves unused address space, nothing else.
        unsafe {
            if before > 0 {
                libc::munmap(reserved.cast(), before);
            }
            let after = HUGE_PAGE - before;
            if after > 0 {
                libc::munmap(aligned.wrapping_add(len).cast(), after);
            }
        }
        Ok(Self { start, len })
    }

    /// Asks for transparent huge pages or for none; a kernel without them ignores it.
    fn advise(&self, huge_or_not: c_int) {
        // SAFETY: the range is ours and mapped; these two kinds of advice change no content.
        unsafe { libc::madvise(self.start.as_ptr().cast(), self.len, huge_or_not) };
    }
}

/// `mmap(2)`. With `MAP_FIXED` among the flags the caller owns the range at `at`.
fn mmap(at: *mut u8, len: usize, prot: c_int, flags: c_int, fd: c_int) -> io::Result<NonNull<u8>> {
    // SAFETY: without MAP_FIXED the kernel picks a free range; with it the one caller above passes a
    // range that it has reserved itself and that nobody points into.
    let start = unsafe { libc::mmap(at.cast(), len, prot, flags, fd, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(start.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new`, and every slice of it borrowed from `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

fn round_up(len: usize) -> io::Result<usize> {
    len.checked_next_multiple_of(HUGE_PAGE)
        .filter(|l| *l > 0 && isize::try_from(*l).is_ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "length is zero or too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
7f0000000000-7f0000400000 rw-s 00000000 00:01 1 /memfd:other (deleted)
Rss:                4096 kB
7f0000400000-7f0000800000 rw-s 00000000 00:01 2 /memfd:lvsd-sessions (deleted)
Size:               4096 kB
Rss:                3072 kB
AnonHugePages:         0 kB
ShmemPmdMapped:     2048 kB
Shared_Hugetlb:        0 kB
VmFlags: rd wr sh mr mw me ms sd
7f0000800000-7f0000a00000 rw-s 00000000 00:0f 3 /anon_hugepage (deleted)
Rss:                   0 kB
Shared_Hugetlb:     2048 kB
THPeligible:           0
";

    #[test]
    fn only_the_mappings_of_the_range_count_each_by_its_pages() {
        let of = |start, end| page_use_of(SMAPS, start, end);
        let (mib, at) = (1 << 20, 0x7f00_0040_0000);
        let middle = PageUse { reserved: 0, transparent: 2 * mib, small: mib };
        assert_eq!(of(at, at + (4 << 20)), Some(middle));
        let both = PageUse { reserved: 2 * mib, ..middle };
        assert_eq!(of(at, at + (6 << 20)), Some(both));
        assert_eq!(of(0x1000, 0x2000), None);
    }
}
