//! Memory that is used again, in the C heap and as mappings.

use super::*;
use std::hint::black_box;
use std::ptr;
use std::thread::spawn;

/// Blocks that threads take and give back without any order between them: each is a new one.
#[test]
fn blocks_of_the_c_heap_are_new_each_time() {
    let detector = Detector::take();
    let threads = [(); 8].map(|()| {
        spawn(|| {
            for size in (16..600).step_by(8).cycle().take(3000) {
                // SAFETY: any size.
                let p = unsafe { libc::malloc(size) };
                race::write_range(p.addr(), size, pc());
                // SAFETY: a block of that size.
                let p = unsafe { libc::realloc(p, size + 40) };
                race::write_range(p.addr(), size + 40, pc());
                // SAFETY: the block.
                unsafe { libc::free(p) };
            }
        })
    });
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(detector.races(), 0);
}

#[test]
fn a_use_after_free_is_a_race() {
    let detector = Detector::take();
    // SAFETY: any size.
    let at = unsafe { libc::calloc(10, 10) }.addr();
    let user = spawn(move || {
        wait_until(&FREED, 1);
        read(at + 8);
    });
    static FREED: AtomicUsize = AtomicUsize::new(0);
    // SAFETY: the block.
    unsafe { libc::free(ptr::with_exposed_provenance_mut(at)) };
    FREED.store(1, Release);
    user.join().unwrap();
    assert_eq!(detector.races(), 1);
}

#[test]
fn aligned_blocks_fail_and_work_as_libcs() {
    let _detector = Detector::take();
    let mut p = ptr::null_mut();
    // SAFETY: room for the result.
    assert_eq!(unsafe { libc::posix_memalign(&mut p, 3, 8) }, libc::EINVAL);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::posix_memalign(&mut p, 4096, 100) }, 0);
    assert!(p.addr().is_multiple_of(4096));
    // SAFETY: the block.
    unsafe { libc::free(p) };
    // SAFETY: any size.
    assert!(black_box(unsafe { libc::malloc(usize::MAX / 2) }).is_null());
    assert_eq!(
        std::io::Error::last_os_error().raw_os_error(),
        Some(libc::ENOMEM)
    );
    // SAFETY: no block.
    assert!(unsafe { libc::reallocarray(ptr::null_mut(), usize::MAX, 2) }.is_null());
}

#[test]
fn mappings_are_new_each_time() {
    let detector = Detector::take();
    const SIZE: usize = 64 << 10;
    let map = |at: usize| {
        let (protection, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        let at = ptr::without_provenance_mut(at);
        // SAFETY: a fresh mapping.
        let p = unsafe { libc::mmap(at, SIZE, protection, flags, -1, 0) };
        assert_ne!(p, libc::MAP_FAILED);
        p.addr()
    };
    let at = map(0);
    for _ in 0..20 {
        let user = spawn(move || {
            (0..SIZE).step_by(512).for_each(|i| write(at + i));
            // SAFETY: the mapping.
            unsafe { libc::munmap(ptr::with_exposed_provenance_mut(at), SIZE) };
            let again = map(at);
            read(again);
        });
        wait_until_over(&user);
        // SAFETY: whoever has it, it is not used.
        unsafe { libc::munmap(ptr::with_exposed_provenance_mut(at), SIZE) };
        assert_eq!(map(at), at);
        write(at);
        user.join().unwrap();
    }
    assert_eq!(detector.races(), 0);
}
