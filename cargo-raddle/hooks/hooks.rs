//! The part of race mode that is inlined into every instrumented crate: what stands between an access and "this was checked before".
//!
//! `cargo raddle` compiles this file with the user's own rustc to bitcode, once, and has the compiler import the functions into each
//! crate, std included, right after the pass that inserts the calls to them. Each does its work in a handful of instructions and
//! calls the detector (`raddle-race`, `abi/thunk.rs`) only when that is not enough; that call preserves every register, so to the
//! code around it nothing happens.
//!
//! # Layout
//! The constants repeat `raddle_race`'s `ctx::Head`, `history::Cursor` and `cell::Cell`, which assert them. The names of what is called
//! there end with the version of this agreement.
//!
//! # Why assembly
//! The thread-local is a symbol without a Rust name. It is read as a value that never changes: a goroutine's context is the same all its
//! life, also when it moves to another thread. The hooks of calls are inserted at the start of the entry block and must not split
//! it: what came after would be no part of the entry block, and its stack slots would be made anew at run time.

#![no_std]

use core::arch::asm;

/// `raddle_race`'s `ctx::Head`.
#[repr(C)]
struct Head {
    link: usize,
    fast: u64,
}

/// Where the cells of address 0 would be, and the bits of an address that choose a cell's place: `raddle_race`'s `shadow`.
const PLANE: usize = 0x0400_0000_0000;
const FOLD: usize = (1 << 44) - 8;

/// Of a cell: what must be the same for a write to be known. All but the bytes, of which more may have been touched.
const WRITE: u64 = !0xff;
/// For a read: it may have been a write.
const READ: u64 = WRITE & !(1 << 16);

#[inline(always)]
fn head() -> *const Head {
    let head;
    // SAFETY: reads the thread's word; the linker knows where it lies.
    unsafe {
        asm!(
            "mov {head}, qword ptr [rip + raddle_race_current@GOTTPOFF]",
            "mov {head}, qword ptr fs:[{head}]",
            head = out(reg) head,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    head
}

/// Cell 0 of the eight bytes at `addr`.
#[inline(always)]
fn cell(addr: usize) -> *const u64 {
    ((addr & FOLD) * 2 + PLANE) as *const u64
}

/// In what cell 0 of the eight bytes at `addr` differs from one that makes an access by this goroutine known.
#[inline(always)]
unsafe fn difference(addr: usize) -> u64 {
    // SAFETY: the thread's word leads to a head; the shadow of all memory is reserved before instrumented code runs.
    unsafe { *cell(addr) ^ (*head()).fast }
}

macro_rules! access {
    ($kind:ident, $miss:literal: $size:literal $aligned:ident $($unaligned:ident)?) => {
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $aligned(addr: *mut u8) {
            // SAFETY: the program is about to access the bytes.
            let difference = unsafe { difference(addr as usize) };
            // All eight bytes are known, most often; else those of the access may be. In this order, for the second takes a shift.
            if difference & ($kind | 0xff) == 0 {
                return;
            }
            if $size < 8 && difference & ($kind | ((1 << $size) - 1) << (addr as usize & 7)) == 0 {
                return;
            }
            core::hint::cold_path();
            // SAFETY: it preserves every register.
            unsafe { asm!(concat!("call ", $miss), in("rdi") addr) };
        }
        $(#[unsafe(no_mangle)]
        pub unsafe extern "C" fn $unaligned(addr: *mut u8) {
            let first = addr as usize & 7;
            // What goes over the eight bytes is left to the detector.
            if first <= 8 - $size {
                // SAFETY: as above.
                let difference = unsafe { difference(addr as usize) };
                if difference & ($kind | ((1 << $size) - 1) << first) == 0 {
                    return;
                }
            }
            core::hint::cold_path();
            // SAFETY: it preserves every register.
            unsafe { asm!(concat!("call ", $miss), in("rdi") addr) };
        })?
    };
}

access!(READ, "raddle_race_read1_v1": 1 __tsan_read1);
access!(READ, "raddle_race_read2_v1": 2 __tsan_read2 __tsan_unaligned_read2);
access!(READ, "raddle_race_read4_v1": 4 __tsan_read4 __tsan_unaligned_read4);
access!(READ, "raddle_race_read8_v1": 8 __tsan_read8 __tsan_unaligned_read8);
access!(WRITE, "raddle_race_write1_v1": 1 __tsan_write1);
access!(WRITE, "raddle_race_write2_v1": 2 __tsan_write2 __tsan_unaligned_write2);
access!(WRITE, "raddle_race_write4_v1": 4 __tsan_write4 __tsan_unaligned_write4);
access!(WRITE, "raddle_race_write8_v1": 8 __tsan_write8 __tsan_unaligned_write8);

macro_rules! access_16 {
    ($kind:ident, $miss:literal: $aligned:ident $unaligned:ident) => {
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $aligned(addr: *mut u8) {
            let cell = cell(addr as usize);
            // SAFETY: as for the others; the second is that of the next eight bytes.
            let (first, second) = unsafe {
                let fast = (*head()).fast;
                (*cell ^ fast, *cell.wrapping_add(2) ^ fast)
            };
            if addr as usize & 7 == 0 && (first | second) & ($kind | 0xff) == 0 {
                return;
            }
            core::hint::cold_path();
            // SAFETY: it preserves every register.
            unsafe { asm!(concat!("call ", $miss), in("rdi") addr) };
        }
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $unaligned(addr: *mut u8) {
            // SAFETY: the same contract.
            unsafe { $aligned(addr) }
        }
    };
}

access_16!(READ, "raddle_race_read16_v1": __tsan_read16 __tsan_unaligned_read16);
access_16!(WRITE, "raddle_race_write16_v1": __tsan_write16 __tsan_unaligned_write16);

unsafe extern "C" {
    /// The copy, and all that there is to do for one that is not known.
    fn raddle_race_memcpy_v1(to: *mut u8, from: *const u8, size: usize) -> *mut u8;
}

/// Most copies are of a few words, or of less than one, and of a size that the compiler knows: then half of this goes away, and the copy takes
/// as many instructions as it would without.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __tsan_memcpy(to: *mut u8, from: *const u8, size: usize) -> *mut u8 {
    let (target, source) = (to as usize, from as usize);
    let is_known = if size & 7 == 0 {
        size <= 64 && (target | source) & 7 == 0 && {
            let (mut differences, mut at) = (0, 0);
            while at < size {
                // SAFETY: the program is about to copy the bytes.
                differences |= unsafe { difference(source + at) } & (READ | 0xff);
                // SAFETY: as above.
                differences |= unsafe { difference(target + at) };
                at += 8;
            }
            differences == 0
        }
    } else {
        let last = 8usize.wrapping_sub(size);
        size < 8 && target & 7 <= last && source & 7 <= last && {
            let bytes = (1 << size) - 1;
            // SAFETY: as above; both lie within eight bytes.
            let read = unsafe { difference(source) } & (READ | bytes << (source & 7));
            // SAFETY: as above.
            let written = unsafe { difference(target) } & (WRITE | bytes << (target & 7));
            read | written == 0
        }
    };
    if is_known {
        // SAFETY: the caller's contract.
        unsafe { to.copy_from_nonoverlapping(from, size) };
        return to;
    }
    core::hint::cold_path();
    // SAFETY: the caller's contract.
    unsafe { raddle_race_memcpy_v1(to, from, size) }
}

/// A function begins. See "Why assembly" for the branches inside.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __tsan_func_entry(pc: *mut u8) {
    // SAFETY: the word leads to a head, whose cursor has room for one word, or is null. What is called preserves every register.
    unsafe {
        asm!(
            "mov {head}, qword ptr [rip + raddle_race_current@GOTTPOFF]",
            "mov {head}, qword ptr fs:[{head}]",
            "mov {pos}, qword ptr [{head} + 24]",
            "test {pos}, {pos}",
            "jz 2f",
            "mov qword ptr [{pos}], {pc}",
            "add {pos}, 8",
            "mov qword ptr [{head} + 24], {pos}",
            "cmp {pos}, qword ptr [{head} + 32]",
            "je 3f",
            "2:",
            ".pushsection .text.unlikely,\"ax\",@progbits",
            "3:",
            "call raddle_race_turn_v1",
            "jmp 2b",
            ".popsection",
            head = out(reg) _,
            pos = out(reg) _,
            pc = in(reg) pc,
        );
    }
}

/// The innermost function that began returns: takes its call back if nothing was recorded since.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __tsan_func_exit() {
    // SAFETY: as for the entry; before the cursor there is always a word.
    unsafe {
        asm!(
            "mov {head}, qword ptr [rip + raddle_race_current@GOTTPOFF]",
            "mov {head}, qword ptr fs:[{head}]",
            "mov {pos}, qword ptr [{head} + 24]",
            "test {pos}, {pos}",
            "jz 2f",
            "cmp qword ptr [{pos} - 8], 0",
            "jle 4f",
            "sub {pos}, 8",
            "mov qword ptr [{head} + 24], {pos}",
            "jmp 2f",
            "4:",
            "movabs {exit}, 0xa000000000000000",
            "mov qword ptr [{pos}], {exit}",
            "add {pos}, 8",
            "mov qword ptr [{head} + 24], {pos}",
            "cmp {pos}, qword ptr [{head} + 32]",
            "je 3f",
            "2:",
            ".pushsection .text.unlikely,\"ax\",@progbits",
            "3:",
            "call raddle_race_turn_v1",
            "jmp 2b",
            ".popsection",
            head = out(reg) _,
            pos = out(reg) _,
            exit = out(reg) _,
        );
    }
}
