//! The thread pointer of x86-64, the base of the FS segment; the stack pointer; the control words
//! of the floating-point units.
//!
//! # The control words
//! The System V ABI lets a function change the status bits of MXCSR and the x87 status word, and
//! has it keep the control bits: rounding, precision, which exceptions trap, denormals as zeros. To
//! a goroutine a wait is a call, so the control bits are its own, and the status bits are not:
//! what `fetestexcept` says after a wait may come from any goroutine of the thread.
//!
//! The scheduler on g0 runs with whatever the last goroutine left. It does no arithmetic on
//! floating-point numbers, no crate of ours does, and moves neither round nor trap.
//!
//! # Why not
//! No function of the thread pointer is `pure` or `nomem` to the compiler: a goroutine switch changes the
//! answer, so a read must stay where it is written, and no memory access may move over a write.

use std::arch::asm;

/// The control words of the floating-point units: MXCSR, and that of the x87.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ControlWords {
    /// Its status bits are zero here.
    mxcsr: u32,
    x87: u16,
}

impl ControlWords {
    /// What a process starts with: round to nearest, nothing traps, the x87 works in full
    /// precision.
    pub(crate) const DEFAULT: Self = Self {
        mxcsr: 0x1f80,
        x87: 0x037f,
    };
    /// The status bits of MXCSR: which exceptions there were.
    const STATUS: u32 = 0x3f;

    /// Returns those in force at that very instruction.
    #[inline(always)]
    pub(crate) fn in_force() -> Self {
        let (mut mxcsr, mut x87) = (0_u32, 0_u16);
        // SAFETY: two stores to variables of their sizes. Volatile, so it stays on its side of a
        // switch.
        unsafe {
            asm!(
                "stmxcsr [{mxcsr}]",
                "fnstcw [{x87}]",
                mxcsr = in(reg) &raw mut mxcsr,
                x87 = in(reg) &raw mut x87,
                options(nostack, preserves_flags),
            );
        }
        Self {
            mxcsr: mxcsr & !Self::STATUS,
            x87,
        }
    }

    /// Puts these in force, if others are: loading them costs far more than looking.
    ///
    /// # Safety
    /// The code that runs next expects these: they were in force when it was left, or it begins
    /// here and these are [`DEFAULT`](Self::DEFAULT).
    #[inline(always)]
    pub(crate) unsafe fn restore(self) {
        if self != Self::in_force() {
            // SAFETY: as the caller owes.
            unsafe { self.load() };
        }
    }

    /// # Safety
    /// As [`restore`](Self::restore).
    #[cold]
    #[inline(never)]
    unsafe fn load(self) {
        // `fnclex`: an x87 exception that another goroutine left pending would trap in this one if
        // its word lets it.
        // SAFETY: both words were read from the registers, or are the defaults, so no reserved bit
        // is set. The rest is the caller's.
        unsafe {
            asm!(
                "fnclex",
                "fldcw [{x87}]",
                "ldmxcsr [{mxcsr}]",
                mxcsr = in(reg) &raw const self.mxcsr,
                x87 = in(reg) &raw const self.x87,
                options(nostack, readonly),
            );
        }
    }
}

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
/// # Errors
/// The error number, if a seccomp filter refuses the call: the thread pointer is as it was.
///
/// # Safety
/// As [`set_thread_pointer`], but for the need of it.
#[cold]
#[inline(never)]
pub(crate) unsafe fn set_thread_pointer_by_kernel(tp: usize) -> Result<(), i32> {
    const ARCH_SET_FS: i32 = 0x1002;
    let result: isize;
    // The instruction itself and not libc's function, which would store errno in either block.
    // SAFETY: the caller owes a valid block. The call clobbers rcx and r11 only.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") libc::SYS_arch_prctl as isize => result,
            in("edi") ARCH_SET_FS,
            in("rsi") tp,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    if result == 0 {
        Ok(())
    } else {
        Err(-result as i32)
    }
}

/// Returns whether the calling thread has a shadow stack (CET): a return to another stack faults
/// then.
pub(crate) fn has_shadow_stack() -> bool {
    let ssp: usize;
    // SAFETY: reads a register, and does nothing on a processor or thread without one: hence the 0.
    unsafe {
        asm!("rdsspq {}", inlateout(reg) 0_usize => ssp, options(nomem, nostack, preserves_flags));
    }
    ssp != 0
}

/// Returns whether user code may set the thread pointer by an instruction.
pub(crate) fn can_set_thread_pointer() -> bool {
    // SAFETY: getauxval only reads the auxiliary vector.
    let hwcap2 = unsafe { libc::getauxval(libc::AT_HWCAP2) };
    hwcap2 & HWCAP2_FSGSBASE != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// Round up, denormals as zeros, division by zero traps; the x87 rounds down in double
    /// precision.
    const ODD: ControlWords = ControlWords {
        mxcsr: 0x5dc0,
        x87: 0x067b,
    };

    #[test]
    fn control_words_are_put_back() {
        // On a thread of its own: the words are the thread's.
        let test = thread::spawn(|| {
            let before = ControlWords::in_force();
            for words in [ODD, ODD, ControlWords::DEFAULT, before] {
                // SAFETY: nothing here expects any.
                unsafe { words.restore() };
                assert_eq!(ControlWords::in_force(), words);
            }
        });
        test.join().expect("no panic");
    }

    #[test]
    fn status_bits_are_no_control_words() {
        let test = thread::spawn(|| {
            // SAFETY: nothing here expects others.
            unsafe { ControlWords::DEFAULT.restore() };
            let all_flags = ControlWords::DEFAULT.mxcsr | ControlWords::STATUS;
            // SAFETY: the control bits are as they were.
            unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const all_flags, options(nostack)) };
            assert_eq!(ControlWords::in_force(), ControlWords::DEFAULT);
        });
        test.join().expect("no panic");
    }

    #[test]
    fn an_x87_exception_of_before_does_not_trap_after() {
        let test = thread::spawn(|| {
            // SAFETY: divides 1 by 0, which only sets a flag.
            unsafe {
                asm!(
                    "fld1", "fldz", "fdivp", "fstp st(0)",
                    out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                    out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
                )
            };
            // SAFETY: nothing here expects others.
            unsafe { ODD.restore() };
            // SAFETY: raises SIGFPE if an exception is pending that the words let through.
            unsafe { asm!("fwait") };
        });
        test.join().expect("no panic");
    }

    #[test]
    fn the_kernel_sets_the_thread_pointer_or_says_that_it_did_not() {
        let set = || {
            let own = thread_pointer();
            // SAFETY: the block that is active.
            unsafe { set_thread_pointer_by_kernel(own) }
        };
        assert_eq!(set(), Ok(()));
        // The filter is the thread's for ever.
        let refused = thread::spawn(move || {
            refuse_arch_prctl();
            set()
        });
        assert_eq!(refused.join().expect("no panic"), Err(libc::EACCES));
    }

    /// Has the kernel refuse `arch_prctl` to the calling thread.
    fn refuse_arch_prctl() {
        use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};
        let step = |code, jf, k| libc::sock_filter {
            code: code as u16,
            jt: 0,
            jf,
            k,
        };
        let mut steps = [
            // The number of the system call is the first word.
            step(BPF_LD | BPF_W | BPF_ABS, 0, 0),
            step(BPF_JMP | BPF_JEQ | BPF_K, 1, libc::SYS_arch_prctl as u32),
            step(
                BPF_RET | BPF_K,
                0,
                libc::SECCOMP_RET_ERRNO | libc::EACCES as u32,
            ),
            step(BPF_RET | BPF_K, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog {
            len: steps.len() as u16,
            filter: steps.as_mut_ptr(),
        };
        // SAFETY: takes numbers.
        let set = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        assert_eq!(set, 0);
        // SAFETY: a whole program, which the kernel copies.
        let set = unsafe {
            libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            )
        };
        assert_eq!(set, 0);
    }

    #[test]
    fn shadow_stacks_are_off() {
        // Else nothing in this crate would run.
        assert!(!has_shadow_stack());
    }
}
