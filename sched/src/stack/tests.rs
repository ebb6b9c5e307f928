//! The life of slots. Pools are shared by the whole process: each test has a class of its own.

use super::*;

/// Returns whether the kernel can read the byte at `addr`: a fault becomes `EFAULT`.
fn is_readable(addr: usize) -> bool {
    let mut pipe = [0; 2];
    // SAFETY: the array has room for two descriptors.
    assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);
    // SAFETY: the kernel checks the address.
    let written = unsafe { libc::write(pipe[1], addr as *const libc::c_void, 1) };
    for end in pipe {
        // SAFETY: opened above, closed once.
        unsafe { libc::close(end) };
    }
    written == 1
}

/// Returns the byte at `addr` of a slot in use.
fn byte(addr: usize) -> *mut u8 {
    addr as *mut u8
}

#[test]
fn the_lowest_page_is_a_guard_and_no_other() {
    let slots: Vec<_> = (0..100).map(|_| alloc(16 << 10).expect("a slot")).collect();
    for slot in slots {
        assert_eq!(slot.top() - slot.base(), (16 << 10) - PAGE_BYTES);
        assert!(!is_readable(slot.guard()));
        assert!(!is_readable(slot.base() - 1));
        assert!(is_readable(slot.base()));
        assert!(is_readable(slot.top() - 1));
        for addr in [slot.guard(), slot.guard() + 17, slot.base() - 1] {
            assert_eq!(
                owner_of_guard(addr).map(|slot| slot.base()),
                Some(slot.base())
            );
        }
        assert_eq!(owner_of_guard(slot.base()), None);
        assert_eq!(owner_of_guard(slot.top() - 1), None);
    }
    assert_eq!(owner_of_guard(0), None);
    assert_eq!(owner_of_guard(&raw const POOLS as usize), None);
}

#[test]
fn slots_do_not_overlap_and_are_zero() {
    let mut slots: Vec<_> = (0..3000)
        .map(|_| alloc(32 << 10).expect("a slot"))
        .collect();
    slots.sort_by_key(Slot::guard);
    assert!(slots.is_sorted_by(|low, high| low.top() <= high.guard()));
    for slot in slots {
        assert!(slot.fresh);
        // SAFETY: the slot is ours.
        assert_eq!(unsafe { byte(slot.top() - 1).read() }, 0);
    }
}

#[test]
fn the_newest_idle_slot_is_taken_first() {
    let slots: Vec<_> = (0..5).map(|_| alloc(64 << 10).expect("a slot")).collect();
    free(slots.iter().copied());
    for slot in slots.iter().rev() {
        let again = alloc(64 << 10).expect("a slot");
        assert_eq!(again.guard(), slot.guard());
        assert!(!again.fresh);
    }
}

#[test]
fn trim_gives_pages_back_and_keeps_the_guard() {
    let class = Class::for_bytes(2 << 20).expect("a class");
    let pool = &POOLS[class.index()];
    let slots: Vec<_> = (0..4).map(|_| alloc(2 << 20).expect("a slot")).collect();
    for slot in &slots {
        // SAFETY: the slot is ours.
        unsafe { byte(slot.top() - 1).write(1) };
        // SAFETY: as above.
        unsafe { byte(slot.base()).write(1) };
    }
    free(slots.iter().copied());
    let mut stripped = Vec::new();
    pool.trim(class, 1, 9, &mut |slot| stripped.push(slot.guard()));
    assert!(stripped.is_empty(), "they have not been idle for long");
    pool.trim(class, 1, 9, &mut |slot| stripped.push(slot.guard()));
    let oldest: Vec<_> = slots[..3].iter().map(Slot::guard).collect();
    assert_eq!(stripped, oldest);
    let warm = alloc(2 << 20).expect("a slot");
    assert_eq!((warm.guard(), warm.fresh), (slots[3].guard(), false));
    for _ in 0..3 {
        let slot = alloc(2 << 20).expect("a slot");
        assert!(slot.fresh && oldest.contains(&slot.guard()));
        // SAFETY: the slot is ours.
        assert_eq!(unsafe { byte(slot.top() - 1).read() }, 0);
        // SAFETY: as above.
        assert_eq!(unsafe { byte(slot.base()).read() }, 0);
        assert!(!is_readable(slot.guard()));
    }
}

#[test]
fn threads_get_slots_of_their_own() {
    let take = || {
        (0..500)
            .map(|_| alloc(128 << 10).expect("a slot").guard())
            .collect::<Vec<_>>()
    };
    let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(take)).collect();
    let mut all: Vec<_> = threads
        .into_iter()
        .flat_map(|t| t.join().expect("no panic"))
        .collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 2000);
}

#[test]
fn too_large_a_stack_is_refused() {
    let error = alloc(usize::MAX).expect_err("too large");
    assert_eq!(
        error,
        StackError::TooLarge {
            asked: usize::MAX,
            max: 2 << 30
        }
    );
    assert!(error.to_string().contains("ask for less"));
}

#[test]
fn the_largest_stack_can_be_had() {
    let slot = alloc(2 << 30).expect("a slot");
    assert_eq!(slot.top() - slot.guard(), 2 << 30);
    assert!(stats().bytes_reserved >= 2 << 30);
    assert!(stats().slots_in_use >= 1);
}

#[test]
fn the_limit_on_guards_is_explained() {
    let error = StackError::Guards {
        guards: 30_717,
        max_map_count: 65_530,
    };
    assert!(error.to_string().contains("sysctl -w vm.max_map_count"));
}
