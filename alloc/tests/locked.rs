//! Memory that is locked: the kernel does not take it back. In a process of its own, since all of it is locked.

use raddle_alloc::Heap;

#[global_allocator]
static HEAP: Heap = Heap;

#[test]
fn zeroed_memory_is_zero_where_memory_is_locked() {
    // SAFETY: no preconditions.
    if unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) } != 0 {
        return; // Not allowed here.
    }
    let size = 40 << 20;
    drop(std::hint::black_box(vec![7_u8; size]));
    let zeros = std::hint::black_box(vec![0_u8; size]);
    let wrong = zeros.iter().filter(|&&byte| byte != 0).count();
    // SAFETY: no preconditions.
    unsafe { libc::munlockall() };
    assert_eq!(wrong, 0);
}
