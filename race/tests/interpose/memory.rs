//! Memory that is used again, in the C heap and as mappings.

use super::*;
use std::ffi::c_void;
use std::hint::black_box;
use std::process::{Command, Output};
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
    let at = unsafe { libc::calloc(10, 1000) }.addr();
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

#[test]
fn an_address_of_the_detectors_is_only_a_wish() {
    let _detector = Detector::take();
    let wish = ptr::without_provenance_mut(0x0580_0000_0000);
    let (protection, flags) = (libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a fresh mapping.
    let p = unsafe { libc::mmap(wish, 4096, protection, flags, -1, 0) };
    assert!(p != libc::MAP_FAILED && p != wish, "{p:?}");
    // SAFETY: the mapping.
    unsafe { libc::munmap(p, 4096) };
}

/// Both threads ask the heap for memory, and nothing else orders them.
#[test]
fn the_heaps_own_locks_order_nothing() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    fn ask() {
        // SAFETY: any size.
        let p = black_box(unsafe { libc::malloc(100) });
        // SAFETY: the block.
        unsafe { libc::free(p) };
    }
    let tell = || {
        ask();
        ASKED.store(1, Release);
    };
    let hear = || {
        wait_until(&ASKED, 1);
        ask();
    };
    assert_eq!(races_between(tell, hear, write), 1);
}

#[test]
fn whole_pages_are_blocks_of_the_heap_too() {
    let _detector = Detector::take();
    unsafe extern "C" {
        fn valloc(n: usize) -> *mut c_void;
        fn pvalloc(n: usize) -> *mut c_void;
    }
    for (ask, size) in [
        (valloc as unsafe extern "C" fn(usize) -> _, 1),
        (pvalloc, 4096),
    ] {
        // SAFETY: any size.
        let p = unsafe { ask(1) };
        assert!(p.addr().is_multiple_of(4096));
        // SAFETY: a block of the heap.
        assert!(unsafe { libc::malloc_usable_size(p) } >= size);
        // SAFETY: the block.
        unsafe { libc::free(p) };
    }
}

/// Runs the tests of this file in a process with `malloc.c` in front of glibc's heap.
fn with_malloc_in_front(name: &str, define: &str) -> Output {
    let library = format!("{}/lib{name}.so", env!("CARGO_TARGET_TMPDIR"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interpose/malloc.c");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", define, source, "-o", &library])
        .output()
        .unwrap();
    assert!(built.status.success(), "{built:?}");
    Command::new(std::env::current_exe().unwrap())
        .args(["memory::", "--skip", "another_malloc"])
        .env("LD_PRELOAD", library)
        .output()
        .unwrap()
}

#[test]
fn another_malloc_in_front_is_watched() {
    let run = with_malloc_in_front("another", "-DOBEYS");
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(
        said.contains("blocks_of_the_c_heap_are_new_each_time ... ok"),
        "{said}"
    );
}

/// What lies where the detector's memory has to be is not overwritten.
#[test]
fn another_malloc_that_insists_on_the_detectors_place_is_refused() {
    let run = with_malloc_in_front("insisting", "-DINSISTS");
    assert_eq!(run.status.code(), Some(2), "{run:?}");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(
        said.contains("memory where the detector's has to be"),
        "{said}"
    );
}

#[test]
fn another_malloc_without_sizes_is_refused() {
    let run = with_malloc_in_front("sizeless", "-DNO_SIZE");
    assert_eq!(run.status.code(), Some(2), "{run:?}");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(said.contains("has no malloc_usable_size"), "{said}");
}
