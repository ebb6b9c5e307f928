//! What the inlined part of race mode (`cargo raddle`'s `hooks.rs`) calls when it does not know an access, or a half of the history
//! is full. The names end with the version of the agreement between the two.
//!
//! # Invariants
//! 1. Every register but the flags is as before when a function here returns: the code around the call does not know of it. The general
//!    ones are saved, and the lower 16 bytes of 16 vector registers, in which Rust computes. The C library's copies use the rest
//!    too; so if anything of it is in use at that moment, which the processor tells, all of it is saved.
//! 2. `rdi` holds the address; nothing else is passed.

use std::arch::naked_asm;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::access;

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

/// Saves all registers, calls `$body` with the address in rdi, `$kind` in rsi, and the return address in rdx, and restores all.
macro_rules! preserving {
    ($($name:ident => $body:path, $kind:expr;)*) => {$(
        /// See the module's header.
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name() {
            naked_asm!(
                "push rsi",
                "mov esi, {kind}",
                "push rax",
                "lea rax, [rip + {body}]",
                "jmp {save}",
                kind = const $kind,
                body = sym $body,
                save = sym save_and_call,
            )
        }
    )*};
}

/// The rest of a thunk: rax and rsi are on the stack, their new values are for the call.
#[unsafe(naked)]
unsafe extern "C" fn save_and_call() {
    naked_asm!(
        // The return address and nine pushes: the stack is aligned to 16 again.
        "push rcx",
        "push rdx",
        "push rdi",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "mov rdx, qword ptr [rsp + 72]",
        "sub rsp, 256",
        "movups xmmword ptr [rsp], xmm0",
        "movups xmmword ptr [rsp + 16], xmm1",
        "movups xmmword ptr [rsp + 32], xmm2",
        "movups xmmword ptr [rsp + 48], xmm3",
        "movups xmmword ptr [rsp + 64], xmm4",
        "movups xmmword ptr [rsp + 80], xmm5",
        "movups xmmword ptr [rsp + 96], xmm6",
        "movups xmmword ptr [rsp + 112], xmm7",
        "movups xmmword ptr [rsp + 128], xmm8",
        "movups xmmword ptr [rsp + 144], xmm9",
        "movups xmmword ptr [rsp + 160], xmm10",
        "movups xmmword ptr [rsp + 176], xmm11",
        "movups xmmword ptr [rsp + 192], xmm12",
        "movups xmmword ptr [rsp + 208], xmm13",
        "movups xmmword ptr [rsp + 224], xmm14",
        "movups xmmword ptr [rsp + 240], xmm15",
        "mov r8d, dword ptr [rip + {state}]",
        "test r8d, r8d",
        "jnz 3f",
        "2:",
        "cld",
        "call rax",
        "4:",
        "movups xmm0, xmmword ptr [rsp]",
        "movups xmm1, xmmword ptr [rsp + 16]",
        "movups xmm2, xmmword ptr [rsp + 32]",
        "movups xmm3, xmmword ptr [rsp + 48]",
        "movups xmm4, xmmword ptr [rsp + 64]",
        "movups xmm5, xmmword ptr [rsp + 80]",
        "movups xmm6, xmmword ptr [rsp + 96]",
        "movups xmm7, xmmword ptr [rsp + 112]",
        "movups xmm8, xmmword ptr [rsp + 128]",
        "movups xmm9, xmmword ptr [rsp + 144]",
        "movups xmm10, xmmword ptr [rsp + 160]",
        "movups xmm11, xmmword ptr [rsp + 176]",
        "movups xmm12, xmmword ptr [rsp + 192]",
        "movups xmm13, xmmword ptr [rsp + 208]",
        "movups xmm14, xmmword ptr [rsp + 224]",
        "movups xmm15, xmmword ptr [rsp + 240]",
        "add rsp, 256",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rdi",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "pop rsi",
        "ret",
        // Is any of the wide state in use?
        "3:",
        "mov r9, rax",
        "mov r10, rdx",
        "cmp dword ptr [rip + {tells}], 0",
        "je 6f",
        "mov ecx, 1",
        "xgetbv",
        "and r8d, eax",
        "mov rax, r9",
        "mov rdx, r10",
        "jz 2b",
        "6:",
        // It is: an area of its own, aligned to 64, below.
        "push rbx",
        "push r12",
        "mov rbx, rsp",
        "mov r12d, r8d",
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
        "mov rax, r9",
        "mov rdx, r10",
        "cld",
        "call rax",
        "mov eax, r12d",
        "xor edx, edx",
        "xrstor64 [rsp]",
        "mov rsp, rbx",
        "pop r12",
        "pop rbx",
        "jmp 4b",
        state = sym STATE,
        tells = sym TELLS,
        area = const AREA + 64,
    )
}

/// Kind of an access: its size, and whether it reads.
const READS: u32 = 1 << 8;

extern "C" fn missed(addr: usize, kind: u32, pc: usize) {
    access::missed(addr, (kind & 0xff) as usize, kind & READS != 0, pc);
}

extern "C" fn turn() {
    if let Some(ctx) = crate::current() {
        ctx.get().turn();
    }
}

preserving! {
    raddle_race_read1_v1 => missed, READS | 1;
    raddle_race_read2_v1 => missed, READS | 2;
    raddle_race_read4_v1 => missed, READS | 4;
    raddle_race_read8_v1 => missed, READS | 8;
    raddle_race_read16_v1 => missed, READS | 16;
    raddle_race_write1_v1 => missed, 1;
    raddle_race_write2_v1 => missed, 2;
    raddle_race_write4_v1 => missed, 4;
    raddle_race_write8_v1 => missed, 8;
    raddle_race_write16_v1 => missed, 16;
    raddle_race_turn_v1 => turn, 0;
}
