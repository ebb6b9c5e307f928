//! What the inlined part of race mode (`cargo raddle`'s `hooks.rs`) calls when it does not know an access, or the history has
//! no room. The names end with the version of the agreement between the two.
//!
//! # Five steps
//! 1. `$name`: is the access known by one of the other cells, or does nobody watch? A few instructions, a few registers.
//! 2. `renew`: an access to what the goroutine has to itself, at a new time, or to what it was given.
//! 3. `place`: the usual case of an access that is not known, in general registers.
//! 4. `access::check_quickly`: the usual check, in Rust, which computes in general registers and the lower 16 bytes of 16 vector registers.
//! 5. `access::finish`: what is rare, such as a report, or a full history. It may use the C library's copies, and these all
//!    that the processor has.
//!
//! # Invariants
//! 1. Every register but the flags is as before when a function here returns: the code around the call does not know of it. Each step saves
//!    what it uses; before the fifth, the processor tells what of the wide registers is in use.
//! 2. `rdi` holds the address; nothing else is passed.
//! 3. `check_quickly`, and what it calls, calls no function of the C library: `.ci/run hooks` looks at the machine code.

use std::arch::naked_asm;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::access;
use super::place::{PLANE_B, place};
use crate::ctx::{Ctx, GENERATION, Head};
use crate::{cell, clock, shadow};

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
                "jz 3f",
                "xor rsi, qword ptr [rdx + 8]",
                "test rsi, rax",
                "jz 8f",
                "movabs rsi, {plane_b}",
                "cmp qword ptr [rcx + rsi], 0",
                "jne 4f",
                "cmp qword ptr [rcx + rsi + 8], 0",
                "je 3f",
                "4:",
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
                "3:",
                "movzx eax, al",
                "mov esi, {kind}",
                "jmp {renew}",
                fold = const shadow::FOLD & !7,
                plane_a = const shadow::PLANE_A,
                plane_b = const PLANE_B,
                kind = const $kind,
                next = sym save_and_check,
                renew = sym renew,
            )
        }
    )*};
}

/// The second step, where cells 0 and 1 are all there is. What [`place`] would do, quickly, of two kinds of memory:
/// - a goroutine's own, after a release: cell 0 is its earlier access and no more than this one, which takes its place;
/// - what changes hands: cell 0 is another's, ordered before this one, and alone.
///
/// In rax are the bytes within the granule, in rcx its cells, in rdx the head, in rsi the kind; on the stack are the return address, rax, rcx, rdx, rsi.
#[unsafe(naked)]
unsafe extern "C" fn renew() {
    naked_asm!(
        "push r8",
        "push r9",
        "push r10",
        "push rbx",
        // Slot and epoch, which have a mark in the history; without a slot they are none that had. Nobody took a snapshot since the last access.
        "mov r8, qword ptr [rdx + {fast}]",
        "sub r8, 0xff",
        "cmp r8, qword ptr [rdx + {marked}]",
        "jne 2f",
        "mov r9d, dword ptr [rip + {generation}]",
        "cmp r9d, dword ptr [rdx + {seen}]",
        "jne 2f",
        // The access as a cell, in r9; cell 0 in r10, cell 1 in rax.
        "mov r9d, esi",
        "and r9d, {reads}",
        "shl r9d, 8",
        "or r9, rax",
        "or r9, r8",
        "mov r10, qword ptr [rcx]",
        "mov rax, qword ptr [rcx + 8]",
        "mov r8d, r10d",
        "xor r8d, r9d",
        "test r8d, 0xff00",
        "jnz 8f",
        // Cell 0 has the slot. Is it no more than this access, and not of a goroutine that had the slot before?
        "test r8d, {atomic} | {freed}",
        "jnz 2f",
        "and r8d, r9d",
        "test r8d, {read}",
        "jnz 2f",
        "mov r8d, r9d",
        "not r8d",
        "test r8b, r10b",
        "jnz 2f",
        "cmp r10, qword ptr [rdx + {since}]",
        "jb 2f",
        // Cell 1, if it is in use: the goroutine's own, or ordered before it?
        "test rax, rax",
        "jz 5f",
        "mov r8d, eax",
        "xor r8d, r9d",
        "test r8d, 0xff00",
        "jnz 3f",
        "cmp rax, qword ptr [rdx + {since}]",
        "jae 4f",
        "3:",
        "mov r8, rax",
        "shr r8, 19",
        "movzx ebx, ah",
        "cmp ebx, {near}",
        "jae 2f",
        "cmp qword ptr [rdx + rbx * 8 + {hi}], r8",
        "jb 6f",
        "mov r8d, ebx",
        "shr r8d, 6",
        "mov r8, qword ptr [rdx + r8 * 8 + {gap_slots}]",
        "bt r8, rbx",
        "jc 2f",
        // It is. It becomes a copy, if the access stands for it.
        "4:",
        "mov r8d, r9d",
        "not r8d",
        "test r8b, al",
        "jnz 5f",
        "not eax",
        "and eax, r9d",
        "test eax, {read}",
        "jnz 5f",
        "bts esi, {both}",
        "jmp 5f",
        // It is not. No common byte, or both read?
        "6:",
        "and eax, r9d",
        "test al, al",
        "jz 5f",
        "test eax, {read}",
        "jz 2f",
        "jmp 5f",
        // Cell 0 is another's. Is it ordered before this access, and cell 1 empty or a copy?
        "8:",
        "mov r8, r10",
        "shr r8, 19",
        "jz 2f",
        "movzx ebx, r10w",
        "shr ebx, 8",
        "cmp ebx, {near}",
        "jae 2f",
        "cmp qword ptr [rdx + rbx * 8 + {hi}], r8",
        "jb 2f",
        "mov r8d, ebx",
        "shr r8d, 6",
        "mov r8, qword ptr [rdx + r8 * 8 + {gap_slots}]",
        "bt r8, rbx",
        "jc 2f",
        "bts esi, {taken}",
        "test rax, rax",
        "jz 5f",
        "cmp rax, r10",
        "jne 2f",
        "bts esi, {both}",
        // The shadow is this address's, not that of another that folds to the same place.
        "5:",
        "mov rax, rdi",
        "shr rax, {fold_bits}",
        "inc eax",
        "movabs r8, {fold}",
        "and r8, rdi",
        "shr r8, {chunk_bits}",
        "movabs rbx, {table}",
        "cmp al, byte ptr [rbx + r8]",
        "jne 2f",
        // The history, if it has room: where and how much, what and who.
        "mov rbx, qword ptr [rdx + {pos}]",
        "lea rax, [rbx + 24]",
        "cmp rax, qword ptr [rdx + {end}]",
        "jae 2f",
        "movzx eax, sil",
        "shl rax, 48",
        "or rax, rdi",
        "movabs r8, 0xe000000000000000",
        "or rax, r8",
        "mov qword ptr [rbx], rax",
        "mov eax, esi",
        "and eax, {reads}",
        "shl rax, 44",
        "or rax, qword ptr [rsp + 64]",
        "movabs r8, 0xc000000000000000",
        "or rax, r8",
        "mov qword ptr [rbx + 8], rax",
        "add rbx, 16",
        "mov qword ptr [rdx + {pos}], rbx",
        "bt esi, {taken}",
        "jc 9f",
        "test esi, esi",
        "jns 7f",
        "mov qword ptr [rcx + 8], r9",
        "7:",
        "mov qword ptr [rcx], r9",
        "20:",
        "pop rbx",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rsi",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "ret",
        // Both cells in one step. What is there, in rdx and rax; what takes its place, in rcx and rbx: with a copy, if the access stands for
        // what is there and that has one; alone, if it has none.
        "9:",
        "mov r8, rcx",
        "mov rbx, r9",
        "push rdx",
        "xor edx, edx",
        "test esi, esi",
        "cmovs rdx, r10",
        "cmovs rcx, r9",
        "cmovns rcx, rdx",
        "mov eax, r10d",
        "not eax",
        "and eax, r9d",
        "and eax, {read}",
        "mov r9d, ebx",
        "not r9d",
        "and r9d, r10d",
        "movzx r9d, r9b",
        "or eax, r9d",
        "cmovnz rcx, r10",
        "mov rax, r10",
        "lock cmpxchg16b xmmword ptr [r8]",
        "pop rdx",
        "jne 30f",
        // Somebody may have come meanwhile, if both were in use.
        "test esi, esi",
        "jns 20b",
        "movabs rax, {plane_b}",
        "mov rbx, qword ptr [r8 + rax]",
        "or rbx, qword ptr [r8 + rax + 8]",
        "jz 20b",
        "30:",
        "or esi, {again}",
        "2:",
        "and esi, (1 << {taken}) - 1",
        "pop rbx",
        "pop r10",
        "pop r9",
        "pop r8",
        "jmp {next}",
        fast = const offset_of!(Head, fast),
        marked = const offset_of!(Head, marked),
        since = const offset_of!(Head, since),
        seen = const offset_of!(Head, generation),
        generation = sym GENERATION,
        pos = const offset_of!(Head, cursor),
        end = const offset_of!(Head, cursor) + 8,
        hi = const offset_of!(Ctx, clock) + clock::HI,
        near = const clock::NEAR,
        gap_slots = const offset_of!(Ctx, clock) + clock::GAP_SLOTS,
        reads = const access::READS,
        again = const access::AGAIN,
        read = const cell::READ,
        atomic = const cell::ATOMIC,
        freed = const cell::FREED,
        both = const BOTH,
        taken = const TAKEN,
        plane_b = const PLANE_B,
        fold = const shadow::FOLD & !7,
        fold_bits = const shadow::FOLD_BITS,
        chunk_bits = const shadow::CHUNK_BITS,
        table = const shadow::TABLE,
        next = sym save_and_check,
    )
}

/// Set in the kind while cell 1 is a copy of cell 0, or becomes one,
const BOTH: u32 = 31;
/// and while cell 0 is another's.
const TAKEN: u32 = 30;

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

/// The third step and, if they must be, the fourth and fifth. In rdx is the head; on the stack are the return address, rax, rcx, rdx, rsi; in rsi is the kind.
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

/// Calls the fifth step with all of the wide registers saved. General ones and the lower parts are saved by the caller.
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

/// The history has no room. Saves what `save_and_check` expects, and has that find out.
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

#[cfg(test)]
mod tests {
    use std::arch::asm;

    use super::super::place::tests::{Dice, among_others, any_cell, cells, set};
    use super::*;
    use crate::cell::{Cell, READ};
    use crate::pages;
    use crate::testing::fresh_memory;

    /// Of an access where two cells at most are in use and none races: it is among the cells afterwards, and whatever was there too, unless it was
    /// ordered before us and one of ours stands for it.
    #[test]
    fn nothing_is_lost() {
        let mut dice = Dice(11);
        let mut missed = 0;
        among_others(|me, others| {
            let memory = fresh_memory(1 << 15);
            for round in 0..200_000 {
                let c = me.get();
                let at = memory + dice.roll(1 << 15) as usize / 16 * 16;
                pages::note(at, pages::CELLS);
                let mut there = [0; 4];
                for cell in &mut there[..dice.roll(3) as usize] {
                    *cell = any_cell(&mut dice, c, others);
                }
                if dice.roll(2) == 0 {
                    there[0] = there[0] & 0xff | Cell::template(c.slot, c.epoch() - dice.roll(2));
                    there[0] |= [0, READ][dice.roll(2) as usize];
                }
                if there[1] != 0 && dice.roll(2) == 0 {
                    there[1] = there[0];
                }
                set(at, there);
                let size = 1 << dice.roll(4);
                let addr = at + dice.roll((8 / size) as u64) as usize * size;
                let reads = dice.roll(2) == 0;
                let template = c.template().expect("a slot");
                let bytes = u64::from(crate::access::bytes_in(at, addr, addr + size));
                let new = Cell(template | if reads { READ } else { 0 } | bytes);
                let ordered = |o: Cell| c.is_own(o) || c.clock.covers(o.slot(), o.epoch());
                if there
                    .map(Cell)
                    .iter()
                    .any(|o| o.conflicts(new) && !ordered(*o))
                {
                    continue;
                }
                let miss = match (size, reads) {
                    (1, true) => raddle_race_read1_v1 as unsafe extern "C" fn(),
                    (2, true) => raddle_race_read2_v1,
                    (4, true) => raddle_race_read4_v1,
                    (_, true) => raddle_race_read8_v1,
                    (1, false) => raddle_race_write1_v1,
                    (2, false) => raddle_race_write2_v1,
                    (4, false) => raddle_race_write4_v1,
                    (_, false) => raddle_race_write8_v1,
                };
                // SAFETY: it takes the address in `rdi`, keeps every register, and needs an aligned stack.
                unsafe {
                    asm!(
                        "mov {kept}, rsp",
                        "and rsp, -16",
                        "call {miss}",
                        "mov rsp, {kept}",
                        kept = out(reg) _,
                        miss = in(reg) miss,
                        in("rdi") addr,
                    );
                }
                let c = me.get();
                let now = cells(at).map(Cell);
                let what = format!("round {round}: {there:x?} {new:x?} {now:x?}");
                let ours = |o: &Cell| o.is_same_time(new) && o.stands_for(new);
                assert!(now.iter().any(ours), "{what}");
                for old in there.map(Cell) {
                    let stays = |o: &Cell| o.is_same_kind(old) && o.with_bytes_of(old) == *o;
                    let is_ordered = c.is_own(old) || c.clock.covers(old.slot(), old.epoch());
                    let stands = |o: &Cell| is_ordered && c.is_own(*o) && o.stands_for(old);
                    assert!(now.iter().any(|o| stays(o) || stands(o)), "{what}");
                }
                let is_old = |o: Cell| there.contains(&o.0) || o.is_same_kind(new);
                assert!(now.iter().all(|o| is_old(*o)), "{what}");
                missed += usize::from(now != there.map(Cell));
            }
        });
        assert!(missed > 50_000, "{missed}");
    }
}
