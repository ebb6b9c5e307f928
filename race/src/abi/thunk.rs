//! What the inlined part of race mode (`cargo raddle`'s `hooks.rs`) calls when it does not know an access, or a half of the history
//! is full. The names end with the version of the agreement between the two.
//!
//! # Four steps
//! 1. `$name`: is the access known by one of the other cells, or does nobody watch? A few instructions, a few registers.
//! 2. `place`: the usual case of an access that is not known, in general registers.
//! 3. `access::check_quickly`: the usual check, in Rust, which computes in general registers and the lower 16 bytes of 16 vector registers.
//! 4. `access::finish`: what is rare, such as a report, or a full history. It may use the C library's copies, and these all
//!    that the processor has.
//!
//! # Invariants
//! 1. Every register but the flags is as before when a function here returns: the code around the call does not know of it. Each step saves
//!    what it uses; before the fourth, the processor tells what of the wide registers is in use.
//! 2. `rdi` holds the address; nothing else is passed.
//! 3. `check_quickly`, and what it calls, calls no function of the C library: `.ci/run hooks` looks at the machine code.

use std::arch::naked_asm;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::access;
use super::place::{PLANE_B, place};
use crate::shadow;

/// What there is to save beside the lower halves of 16 vector registers, as bits of `xgetbv`: 0 where there is nothing.
static STATE: AtomicU32 = AtomicU32::new(0);
/// 1: `xgetbv` tells what of it is in use.
static TELLS: AtomicU32 = AtomicU32::new(0);

/// Upper halves of 16 vector registers, masks, upper quarters, 16 more registers.
const WIDE: u32 = 1 << 2 | 1 << 5 | 1 << 6 | 1 << 7;
/// Bytes of the area that `xsave` fills for them: the end of the last of these, in the standard format.
const AREA: usize = 2688;

/// Asks the processor what there is. Once, before the detector is on.
pub(crate) fn init() {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    /// Of leaf 1, register ecx: the kernel saves more than the oldest state.
    const OSXSAVE: u32 = 1 << 27;
    /// Of leaf 13.1, register eax: `xgetbv` tells what is in use.
    const XGETBV_1: u32 = 1 << 2;
    if __cpuid(1).ecx & OSXSAVE == 0 {
        return;
    }
    STATE.store(__cpuid_count(13, 0).eax & WIDE, Relaxed);
    let tells = __cpuid_count(13, 1).eax & XGETBV_1 != 0;
    TELLS.store(tells.into(), Relaxed);
}

/// The first step for accesses within eight bytes.
macro_rules! known_aside {
    ($($name:ident => $size:literal, $mask:literal, $same:literal, $kind:expr;)*) => {$(
        /// See the module's header.
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name() {
            naked_asm!(
                "push rax",
                "push rcx",
                "push rdx",
                "push rsi",
                "mov rdx, qword ptr [rip + raddle_race_current@GOTTPOFF]",
                "mov rdx, qword ptr fs:[rdx]",
                "cmp dword ptr [rdx + 16], 0",
                "jne 9f",
                "mov ecx, edi",
                "and ecx, 7",
                concat!("cmp ecx, 8 - ", $size),
                "ja 2f",
                concat!("mov eax, ", $mask),
                "shl eax, cl",
                concat!("or rax, ", $same),
                "movabs rcx, {fold}",
                "and rcx, rdi",
                "add rcx, rcx",
                "movabs rsi, {plane_a}",
                "add rcx, rsi",
                // Cell 1; while it is empty there are no others.
                "mov rsi, qword ptr [rcx + 8]",
                "test rsi, rsi",
                "jz 2f",
                "xor rsi, qword ptr [rdx + 8]",
                "test rsi, rax",
                "jz 8f",
                "movabs rsi, {plane_b}",
                "add rcx, rsi",
                "mov rsi, qword ptr [rcx]",
                "xor rsi, qword ptr [rdx + 8]",
                "test rsi, rax",
                "jz 8f",
                "mov rsi, qword ptr [rcx + 8]",
                "xor rsi, qword ptr [rdx + 8]",
                "test rsi, rax",
                "jnz 2f",
                // Every 256th time it is moved to cell 0, in the next step: more often, and two that read one table would move each other's away.
                "8:",
                "mov eax, dword ptr [rdx + 20]",
                "inc eax",
                "mov dword ptr [rdx + 20], eax",
                "test eax, 255",
                "jz 2f",
                "9:",
                "pop rsi",
                "pop rdx",
                "pop rcx",
                "pop rax",
                "ret",
                "2:",
                "mov esi, {kind}",
                "jmp {next}",
                fold = const shadow::FOLD & !7,
                plane_a = const shadow::PLANE_A,
                plane_b = const PLANE_B,
                kind = const $kind,
                next = sym save_and_check,
            )
        }
    )*};
}

/// The first step for accesses of sixteen bytes.
macro_rules! two_granules {
    ($($name:ident => $kind:expr;)*) => {$(
        /// See the module's header.
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name() {
            naked_asm!(
                "push rax",
                "push rcx",
                "push rdx",
                "push rsi",
                "mov rdx, qword ptr [rip + raddle_race_current@GOTTPOFF]",
                "mov rdx, qword ptr fs:[rdx]",
                "cmp dword ptr [rdx + 16], 0",
                "jne 9f",
                "mov esi, {kind}",
                "jmp {next}",
                "9:",
                "pop rsi",
                "pop rdx",
                "pop rcx",
                "pop rax",
                "ret",
                kind = const $kind,
                next = sym save_and_check,
            )
        }
    )*};
}

/// The second step and, if they must be, the third and fourth. In rdx is the head; on the stack are the return address, rax, rcx, rdx, rsi; in rsi is the kind.
#[unsafe(naked)]
unsafe extern "C" fn save_and_check() {
    naked_asm!(
        "push rdi",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "mov r10, qword ptr [rsp + 72]",
        "call {place}",
        "test eax, eax",
        "jz 4f",
        "mov rdx, qword ptr [rsp + 72]",
        "sub rsp, 256",
        "movaps xmmword ptr [rsp], xmm0",
        "movaps xmmword ptr [rsp + 16], xmm1",
        "movaps xmmword ptr [rsp + 32], xmm2",
        "movaps xmmword ptr [rsp + 48], xmm3",
        "movaps xmmword ptr [rsp + 64], xmm4",
        "movaps xmmword ptr [rsp + 80], xmm5",
        "movaps xmmword ptr [rsp + 96], xmm6",
        "movaps xmmword ptr [rsp + 112], xmm7",
        "movaps xmmword ptr [rsp + 128], xmm8",
        "movaps xmmword ptr [rsp + 144], xmm9",
        "movaps xmmword ptr [rsp + 160], xmm10",
        "movaps xmmword ptr [rsp + 176], xmm11",
        "movaps xmmword ptr [rsp + 192], xmm12",
        "movaps xmmword ptr [rsp + 208], xmm13",
        "movaps xmmword ptr [rsp + 224], xmm14",
        "movaps xmmword ptr [rsp + 240], xmm15",
        "cld",
        "call {quickly}",
        "test al, al",
        "jz 3f",
        "2:",
        "movaps xmm0, xmmword ptr [rsp]",
        "movaps xmm1, xmmword ptr [rsp + 16]",
        "movaps xmm2, xmmword ptr [rsp + 32]",
        "movaps xmm3, xmmword ptr [rsp + 48]",
        "movaps xmm4, xmmword ptr [rsp + 64]",
        "movaps xmm5, xmmword ptr [rsp + 80]",
        "movaps xmm6, xmmword ptr [rsp + 96]",
        "movaps xmm7, xmmword ptr [rsp + 112]",
        "movaps xmm8, xmmword ptr [rsp + 128]",
        "movaps xmm9, xmmword ptr [rsp + 144]",
        "movaps xmm10, xmmword ptr [rsp + 160]",
        "movaps xmm11, xmmword ptr [rsp + 176]",
        "movaps xmm12, xmmword ptr [rsp + 192]",
        "movaps xmm13, xmmword ptr [rsp + 208]",
        "movaps xmm14, xmmword ptr [rsp + 224]",
        "movaps xmm15, xmmword ptr [rsp + 240]",
        "add rsp, 256",
        "4:",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "ret",
        "3:",
        "call {fully}",
        "jmp 2b",
        place = sym place,
        quickly = sym access::check_quickly,
        fully = sym save_all_and_finish,
    )
}

/// Calls the fourth step with all of the wide registers saved. General ones and the lower parts are saved by the caller.
#[unsafe(naked)]
unsafe extern "C" fn save_all_and_finish() {
    naked_asm!(
        "push rbx",
        "push r12",
        "sub rsp, 8",
        "mov r12d, dword ptr [rip + {state}]",
        "test r12d, r12d",
        "jz 3f",
        "cmp dword ptr [rip + {tells}], 0",
        "je 2f",
        "mov ecx, 1",
        "xgetbv",
        "and r12d, eax",
        "jz 3f",
        "2:",
        // An area of its own, aligned to 64, below.
        "mov rbx, rsp",
        "sub rsp, {area}",
        "and rsp, -64",
        "xor eax, eax",
        "xor edx, edx",
        "mov ecx, 512",
        // The header of the area says which parts are there: zeros at first.
        "5:",
        "mov qword ptr [rsp + rcx], rax",
        "add ecx, 8",
        "cmp ecx, 576",
        "jb 5b",
        "mov eax, r12d",
        "xsave64 [rsp]",
        "call {finish}",
        "mov eax, r12d",
        "xor edx, edx",
        "xrstor64 [rsp]",
        "mov rsp, rbx",
        "jmp 4f",
        "3:",
        "call {finish}",
        "4:",
        "add rsp, 8",
        "pop r12",
        "pop rbx",
        "ret",
        state = sym STATE,
        tells = sym TELLS,
        area = const AREA + 64,
        finish = sym access::finish,
    )
}

/// The history has come to the end of a half. Saves what `save_and_check` expects, and has that find out.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn raddle_race_turn_v1() {
    naked_asm!(
        "push rax",
        "push rcx",
        "push rdx",
        "push rsi",
        "mov esi, {kind}",
        "jmp {next}",
        kind = const access::TURN,
        next = sym save_and_check,
    )
}

known_aside! {
    raddle_race_read1_v1 => "1", "1", "0xfffffffffffeff00", access::READS | 1;
    raddle_race_read2_v1 => "2", "3", "0xfffffffffffeff00", access::READS | 2;
    raddle_race_read4_v1 => "4", "15", "0xfffffffffffeff00", access::READS | 4;
    raddle_race_read8_v1 => "8", "255", "0xfffffffffffeff00", access::READS | 8;
    raddle_race_write1_v1 => "1", "1", "0xffffffffffffff00", 1;
    raddle_race_write2_v1 => "2", "3", "0xffffffffffffff00", 2;
    raddle_race_write4_v1 => "4", "15", "0xffffffffffffff00", 4;
    raddle_race_write8_v1 => "8", "255", "0xffffffffffffff00", 8;
}

two_granules! {
    raddle_race_read16_v1 => access::READS | 16;
    raddle_race_write16_v1 => 16;
}
