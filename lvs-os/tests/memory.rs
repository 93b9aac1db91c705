//! Memory regions: alignment, sharing by descriptor, one owner at a time.

use lvs_os::channel::Channel;
use lvs_os::memory::{Backing, HUGE_PAGE, PageUse, Pages, Region, SharedMemory};
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsFd;

#[test]
fn a_region_is_zeroed_aligned_and_at_least_as_long_as_asked() {
    for len in [1, 4096, HUGE_PAGE, HUGE_PAGE + 1] {
        let mut region = Region::anonymous(len).unwrap();
        assert!(region.as_slice().len() >= len);
        assert_eq!(region.as_slice().as_ptr().align_offset(HUGE_PAGE), 0);
        assert!(region.as_slice().iter().all(|b| *b == 0));
        let last = region.as_slice().len() - 1;
        region.as_mut_slice()[last] = 7;
        assert_eq!(region.as_slice()[last], 7);
    }
}

#[test]
fn a_region_is_not_resident_before_it_is_touched() {
    let mut region = Region::anonymous(8 * HUGE_PAGE).unwrap();
    assert_eq!(region.resident().unwrap(), 0);
    region.as_mut_slice().fill(1);
    assert_eq!(region.resident().unwrap(), 8 * HUGE_PAGE);
}

#[test]
fn a_prefaulted_region_is_resident_counted_by_pages_and_keeps_its_bytes() {
    for pages in [Pages::Auto, Pages::Small] {
        let memory = SharedMemory::create_of(c"sessions", 4 * HUGE_PAGE, pages).unwrap();
        let mut region = memory.map_of(pages).unwrap();
        region.as_mut_slice()[12345] = 42;
        assert!(region.page_use().unwrap() != PageUse::default());
        region.prefault().unwrap();
        let PageUse { reserved, transparent, small } = region.page_use().unwrap();
        assert_eq!(reserved + transparent + small, 4 * HUGE_PAGE as u64);
        assert_eq!(reserved > 0, region.backing() == Backing::Reserved);
        assert_eq!(region.resident().unwrap(), 4 * HUGE_PAGE);
        assert_eq!(region.as_slice()[12345], 42);
        assert!(pages == Pages::Auto || small == 4 * HUGE_PAGE as u64);
    }
}

/// More than any machine has reserved. Nothing is taken: the kernel refuses at the mapping.
#[test]
fn reserved_pages_that_are_not_there_are_an_error_and_auto_takes_others() {
    let len = 1 << 44;
    assert!(SharedMemory::create_of(c"sessions", len, Pages::Reserved).is_err());
    assert!(SharedMemory::create_of(c"sessions", len, Pages::Auto).is_ok());
}

#[test]
fn lengths_that_cannot_be_are_refused() {
    for len in [0, usize::MAX, isize::MAX as usize] {
        assert_eq!(Region::anonymous(len).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(SharedMemory::create(c"t", len).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn shared_memory_keeps_its_bytes_from_one_mapping_to_the_next() {
    let memory = SharedMemory::create(c"sessions", 3 << 20).unwrap();
    assert_eq!(memory.len(), 4 << 20);
    let mut region = memory.map().unwrap();
    region.as_mut_slice()[12345] = 42;
    drop(region);
    assert_eq!(memory.map().unwrap().as_slice()[12345], 42);
}

#[test]
fn two_mappings_at_once_are_refused_also_through_a_passed_descriptor() {
    let memory = SharedMemory::create(c"sessions", 1).unwrap();
    let (a, b) = Channel::pair().unwrap();
    a.send(b"m", &[memory.as_fd()]).unwrap();
    let passed = b.receive(&mut [0; 8]).unwrap().fds.remove(0);
    let other = SharedMemory::from_fd(passed).unwrap();
    let region = memory.map().unwrap();
    assert_eq!(memory.map().unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(other.map().unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(region);
    assert!(other.map().is_ok());
}

#[test]
fn a_leaked_mapping_stays_locked() {
    let memory = SharedMemory::create(c"sessions", 1).unwrap();
    memory.map().unwrap().leak()[0] = 9;
    assert_eq!(memory.map().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_descriptor_whose_size_could_change_is_refused() {
    let file = File::open("/proc/self/exe").unwrap();
    assert!(SharedMemory::from_fd(file.into()).is_err());
}
