//! The thread pointer of x86-64, the base of the FS segment, and the stack pointer.
//!
//! # Why not
//! No function of the thread pointer is `pure` or `nomem` to the compiler: a goroutine switch changes the
//! answer, so a read must stay where it is written, and no memory access may move over a write.

use std::arch::asm;

/// Bit of `AT_HWCAP2` by which the kernel allows `rdfsbase` and `wrfsbase` in user mode.
const HWCAP2_FSGSBASE: libc::c_ulong = 1 << 1;

/// Returns the stack pointer of the function that this is inlined into.
#[inline(always)]
pub(crate) fn stack_pointer() -> usize {
    let sp: usize;
    // SAFETY: reads a register.
    unsafe {
        asm!("mov {}, rsp", out(reg) sp, options(nomem, nostack, preserves_flags));
    }
    sp
}

/// Returns the thread pointer of the running code.
///
/// Word 0 of a thread control block is its own address (the ABI demands it), so this is one
/// load and needs no FSGSBASE.
#[inline(always)]
pub(crate) fn thread_pointer() -> usize {
    let tp: usize;
    // SAFETY: every thread control block, glibc's or ours, holds its own address in word 0.
    unsafe {
        asm!("mov {}, fs:0", out(reg) tp, options(nostack, preserves_flags, readonly));
    }
    tp
}

/// Sets the thread pointer.
///
/// # Safety
/// `tp` must be a complete thread control block that no other thread runs on, and
/// [`can_set_thread_pointer`] must have returned true.
#[inline(always)]
pub(crate) unsafe fn set_thread_pointer(tp: usize) {
    // SAFETY: the caller owes a valid block; the instruction changes nothing but the FS base.
    unsafe {
        asm!("wrfsbase {}", in(reg) tp, options(nostack, preserves_flags));
    }
}

/// Sets the thread pointer by a system call, where the instruction is not allowed.
///
/// # Safety
/// As [`set_thread_pointer`], but for the need of it.
#[cold]
#[inline(never)]
pub(crate) unsafe fn set_thread_pointer_by_kernel(tp: usize) {
    const ARCH_SET_FS: i32 = 0x1002;
    // The instruction itself and not libc's function, which would store errno in either block.
    // SAFETY: the caller owes a valid block. The call clobbers rcx and r11 only, and cannot fail
    // for an address in user space.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") libc::SYS_arch_prctl => _,
            in("edi") ARCH_SET_FS,
            in("rsi") tp,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
}

/// Returns whether user code may set the thread pointer by an instruction.
pub(crate) fn can_set_thread_pointer() -> bool {
    // SAFETY: getauxval only reads the auxiliary vector.
    let hwcap2 = unsafe { libc::getauxval(libc::AT_HWCAP2) };
    hwcap2 & HWCAP2_FSGSBASE != 0
}
