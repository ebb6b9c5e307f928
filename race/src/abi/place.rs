//! `access::in_pair` in registers: an access that was not known takes its place among cells 0 and 1, and in the history.
//!
//! After every release all that a goroutine works on is new to the detector, so this is what race mode's time goes into. In Rust it would need
//! the vector registers saved, and takes three times as long.
//!
//! # Invariants
//! 1. What it does is what [`access::place`](crate::access) would: the test below compares them. What is rarer than usual it leaves
//!    alone, all of it: a race, other cells than 0 and 1, unaligned accesses of sixteen bytes, memory without shadow yet, a history without room,
//!    marks of the slots that only programs with more than sixty-four threads use.
//! 2. The words of the history stand beyond the cursor until it is certain that they count.

use std::arch::naked_asm;
use std::mem::offset_of;

use super::access::{AGAIN, READS, TURN};
use crate::clock;
use crate::ctx::{Ctx, GENERATION, Head};
use crate::pages;
use crate::shadow;

/// Where cells 2 and 3 are, from where 0 and 1 are.
pub(super) const PLANE_B: usize = shadow::PLANE_B - shadow::PLANE_A;
/// Set in the kind while the second eight of sixteen bytes are at work.
const SECOND: u32 = 31;

/// In: `rdi`, the address; `esi`, the kind of access (`access`); `rdx`, the head of the context, which is not quiet; `r10`, the place in the
/// program. Out: `eax`, 0 if all is done; [`AGAIN`] in `esi` if it is not, though the access may be known now. Keeps `rdi` and `rdx`, changes `rcx`
/// and `r8` to `r11`.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn place() {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "test esi, {turn}",
        "jnz 90f",
        // Slot and epoch in r13; there is a slot, and nobody took a snapshot since the last access.
        "mov r13, qword ptr [rdx + {fast}]",
        "cmp r13, -1",
        "je 90f",
        "sub r13, 0xff",
        "mov eax, dword ptr [rip + {generation}]",
        "cmp eax, dword ptr [rdx + {seen}]",
        "jne 90f",
        // The access as a cell, in r8: its bytes within the granule, or all of two.
        "movzx ebp, sil",
        "mov r9d, edi",
        "and r9d, 7",
        "cmp ebp, 16",
        "je 12f",
        "lea eax, [rbp + r9]",
        "cmp eax, 8",
        "ja 90f",
        "mov ecx, ebp",
        "mov r8d, 1",
        "shl r8d, cl",
        "dec r8d",
        "mov ecx, r9d",
        "shl r8d, cl",
        "jmp 13f",
        "12:",
        "test r9d, r9d",
        "jnz 90f",
        "lea eax, [rdi + 8]",
        "test eax, {chunk} - 1",
        "jz 90f",
        "mov r8d, 0xff",
        "13:",
        "or r8, r13",
        "mov eax, esi",
        "and eax, {reads}",
        "shl eax, 8",
        "or r8, rax",
        // The granule's cells, at r9, if the memory has shadow.
        "mov rcx, rdi",
        "shr rcx, {fold_bits}",
        "inc ecx",
        "movabs rax, {fold}",
        "and rax, rdi",
        "mov r11, rax",
        "shr r11, {chunk_bits}",
        "movabs r9, {table}",
        "cmp cl, byte ptr [r9 + r11]",
        "jne 90f",
        "movabs r9, {plane_a}",
        "lea r9, [r9 + rax * 2]",
        // The history: a mark if the epoch is a new one, where and how much, what and who. r12: its end.
        "mov r12, qword ptr [rdx + {pos}]",
        "lea rax, [r12 + 24]",
        "cmp rax, qword ptr [rdx + {end}]",
        "jae 90f",
        "cmp r13, qword ptr [rdx + {marked}]",
        "je 20f",
        "mov eax, r13d",
        "shr eax, 8",
        "movzx eax, al",
        "shl rax, 45",
        "mov rcx, r13",
        "shr rcx, 19",
        "or rax, rcx",
        "bts rax, 63",
        "mov qword ptr [r12], rax",
        "add r12, 8",
        "20:",
        "shl rbp, 48",
        "or rbp, rdi",
        "movabs rcx, 0xe000000000000000",
        "or rbp, rcx",
        "mov qword ptr [r12], rbp",
        "mov eax, esi",
        "and eax, {reads}",
        "shl rax, 44",
        "or rax, r10",
        "movabs rcx, 0xc000000000000000",
        "or rax, rcx",
        "mov qword ptr [r12 + 8], rax",
        "add r12, 16",
        // What is there: cell 0 in rax, cell 1 in rcx. r10: whether 0 (1) and 1 (2) are ordered before us, and our own (4, 8).
        "30:",
        "mov rax, qword ptr [r9]",
        "mov rcx, qword ptr [r9 + 8]",
        "xor r10d, r10d",
        "test rax, rax",
        "jz 50f",
        "mov rbx, rax",
        "xor rbx, r8",
        "test bh, bh",
        "jnz 31f",
        "cmp rax, qword ptr [rdx + {since}]",
        "jb 31f",
        "mov r10d, 5",
        "jmp 32f",
        "31:",
        "movzx ebp, ah",
        "cmp ebp, {near}",
        "jae 90f",
        "mov rbx, rax",
        "shr rbx, 19",
        "cmp qword ptr [rdx + rbp * 8 + {hi}], rbx",
        "jb 32f",
        "mov ebx, ebp",
        "shr ebx, 6",
        "mov rbx, qword ptr [rdx + rbx * 8 + {gap_slots}]",
        "bt rbx, rbp",
        "jc 90f",
        "mov r10d, 1",
        "32:",
        "test rcx, rcx",
        "jz 40f",
        "mov rbx, rcx",
        "xor rbx, r8",
        "test bh, bh",
        "jnz 33f",
        "cmp rcx, qword ptr [rdx + {since}]",
        "jb 33f",
        "or r10d, 10",
        "jmp 34f",
        "33:",
        "movzx ebp, ch",
        "cmp ebp, {near}",
        "jae 90f",
        "mov rbx, rcx",
        "shr rbx, 19",
        "cmp qword ptr [rdx + rbp * 8 + {hi}], rbx",
        "jb 35f",
        "mov ebx, ebp",
        "shr ebx, 6",
        "mov rbx, qword ptr [rdx + rbx * 8 + {gap_slots}]",
        "bt rbx, rbp",
        "jc 90f",
        "or r10d, 2",
        "jmp 34f",
        // Cell 1 is not ordered before us: no common byte, or both read?
        "35:",
        "mov rbx, rcx",
        "and rbx, r8",
        "test bl, bl",
        "jz 34f",
        "test ebx, {read}",
        "jz 90f",
        "34:",
        "movabs rbp, {plane_b}",
        "mov rbx, qword ptr [r9 + rbp]",
        "or rbx, qword ptr [r9 + rbp + 8]",
        "jnz 36f",
        "40:",
        "test r10d, 1",
        "jnz 41f",
        "mov rbx, rax",
        "and rbx, r8",
        "test bl, bl",
        "jz 41f",
        "test ebx, {read}",
        "jz 90f",
        // Nothing races. What becomes of them, in rbx and r11.
        "41:",
        "cmp rax, rcx",
        "je 60f",
        "mov rbx, rax",
        "xor rbx, r8",
        "test rbx, -256",
        "jz 61f",
        "test rcx, rcx",
        "jz 42f",
        "mov rbx, rcx",
        "xor rbx, r8",
        "test rbx, -256",
        "jz 62f",
        // Does cell 0 yield?
        "42:",
        "test r10d, 1",
        "jz 43f",
        "mov rbx, r8",
        "not rbx",
        "and rbx, rax",
        "test bl, bl",
        "jnz 43f",
        "mov rbx, rax",
        "not rbx",
        "and rbx, r8",
        "test ebx, {read}",
        "jnz 43f",
        // It does. Cell 1 too?
        "mov rbx, r8",
        "mov r11, rcx",
        "test r10d, 2",
        "jz 70f",
        "not rbx",
        "and rbx, rcx",
        "test bl, bl",
        "mov rbx, r8",
        "jnz 70f",
        "mov rbp, rcx",
        "not rbp",
        "and rbp, r8",
        "test ebp, {read}",
        "jnz 70f",
        "mov r11, r8",
        "jmp 70f",
        // Cell 0 does not. Is cell 1 empty, or does it yield?
        "43:",
        "test rcx, rcx",
        "jz 60f",
        "test r10d, 2",
        "jz 90f",
        "mov rbx, r8",
        "not rbx",
        "and rbx, rcx",
        "test bl, bl",
        "jnz 44f",
        "mov rbx, rcx",
        "not rbx",
        "and rbx, r8",
        "test ebx, {read}",
        "jz 60f",
        // Neither does. Both our own, and cell 0 a later one that stands for cell 1?
        "44:",
        "not r10d",
        "test r10d, 12",
        "jnz 90f",
        "not r10d",
        "mov rbx, rax",
        "shr rbx, 19",
        "mov r11, rcx",
        "shr r11, 19",
        "cmp rbx, r11",
        "jb 90f",
        "mov rbx, rax",
        "not rbx",
        "and rbx, rcx",
        "test bl, bl",
        "jnz 90f",
        "mov rbx, rcx",
        "not rbx",
        "and rbx, rax",
        "test ebx, {read} | {atomic}",
        "jnz 90f",
        // What was in front goes to cell 1.
        "60:",
        "mov rbx, r8",
        "mov r11, rax",
        "jmp 70f",
        // Cell 0 is of the same kind: bytes are added.
        "61:",
        "mov rbx, r8",
        "or rbx, rax",
        "mov r11, rcx",
        "jmp 70f",
        "62:",
        "mov rbx, r8",
        "or rbx, rcx",
        "mov r11, rax",
        "jmp 70f",
        // Others are in use too: our own that the access stands for, if none races. r10: at which cell we are; r11: the one that was found.
        "36:",
        "xor r11d, r11d",
        "mov r10, r9",
        "37:",
        "mov rax, qword ptr [r10]",
        "test rax, rax",
        "jz 39f",
        "mov rbx, rax",
        "xor rbx, r8",
        "test bh, bh",
        "jnz 38f",
        "cmp rax, qword ptr [rdx + {since}]",
        "jb 38f",
        "test r11, r11",
        "jnz 39f",
        "test rbx, -256",
        "cmovz r11, r10",
        "jz 39f",
        "mov rcx, r8",
        "not rcx",
        "and rcx, rax",
        "test cl, cl",
        "jnz 39f",
        "mov rcx, rax",
        "not rcx",
        "and rcx, r8",
        "test ecx, {read}",
        "cmovz r11, r10",
        "jmp 39f",
        "38:",
        "mov rcx, rax",
        "and rcx, r8",
        "test cl, cl",
        "jz 39f",
        "test ecx, {read}",
        "jnz 39f",
        "movzx ebp, ah",
        "cmp ebp, {near}",
        "jae 90f",
        "shr rax, 19",
        "cmp qword ptr [rdx + rbp * 8 + {hi}], rax",
        "jb 90f",
        "mov ecx, ebp",
        "shr ecx, 6",
        "mov rcx, qword ptr [rdx + rcx * 8 + {gap_slots}]",
        "bt rcx, rbp",
        "jc 90f",
        "39:",
        "add r10, 8",
        "test r10d, 8",
        "jnz 37b",
        "lea rax, [r9 + 16]",
        "cmp r10, rax",
        "movabs rax, {plane_b}",
        "lea r10, [r9 + rax]",
        "je 37b",
        "test r11, r11",
        "jz 90f",
        "mov rax, qword ptr [r11]",
        "mov rcx, rax",
        "xor rcx, r8",
        "xor ebx, ebx",
        "test rcx, -256",
        "cmovz rbx, rax",
        "or rbx, r8",
        "mov rcx, r11",
        "mov r10d, 16",
        "jmp 70f",
        // Both empty, on a page that is noted to have cells.
        "50:",
        "test rcx, rcx",
        "jnz 90f",
        "movabs rbx, {plane_a}",
        "neg rbx",
        "add rbx, r9",
        "shr rbx, {page_bits} + 1",
        "movabs r11, {pages}",
        "test byte ptr [rbx + r11], {cells}",
        "jz 90f",
        "mov rbx, r8",
        "xor r11d, r11d",
        // It is certain: the history first, then the cells.
        "70:",
        "test esi, esi",
        "js 71f",
        "mov qword ptr [rdx + {pos}], r12",
        "cmp r13, qword ptr [rdx + {marked}]",
        "je 71f",
        "mov qword ptr [rdx + {marked}], r13",
        "mov rbp, qword ptr [rdx + {touched}]",
        "shr r13, 19",
        "mov qword ptr [rbp], r13",
        "71:",
        "test r10d, 16",
        "jz 74f",
        "mov qword ptr [rcx], rbx",
        "jmp 80f",
        "74:",
        "test r10d, 4",
        "jz 72f",
        "cmp r11, rcx",
        "je 73f",
        "mov qword ptr [r9 + 8], r11",
        "73:",
        "mov qword ptr [r9], rbx",
        "jmp 80f",
        "72:",
        "mov rbp, rdx",
        "mov rdx, rcx",
        "mov rcx, r11",
        "lock cmpxchg16b xmmword ptr [r9]",
        "mov r11, rdx",
        "mov rdx, rbp",
        "jne 91f",
        "test r11, r11",
        "jz 80f",
        "movabs rbp, {plane_b}",
        "mov rbx, qword ptr [r9 + rbp]",
        "or rbx, qword ptr [r9 + rbp + 8]",
        "jnz 91f",
        "80:",
        "xor eax, eax",
        "cmp sil, 16",
        "jne 99f",
        "bts esi, {second}",
        "jc 98f",
        "add r9, 16",
        "jmp 30b",
        "91:",
        "or esi, {again}",
        "90:",
        "mov eax, 1",
        "98:",
        "btr esi, {second}",
        "99:",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
        fast = const offset_of!(Head, fast),
        pos = const offset_of!(Head, cursor),
        end = const offset_of!(Head, cursor) + 8,
        marked = const offset_of!(Head, marked),
        since = const offset_of!(Head, since),
        touched = const offset_of!(Head, touched),
        seen = const offset_of!(Head, generation),
        generation = sym GENERATION,
        hi = const offset_of!(Ctx, clock) + clock::HI,
        near = const clock::NEAR,
        gap_slots = const offset_of!(Ctx, clock) + clock::GAP_SLOTS,
        turn = const TURN,
        reads = const READS,
        again = const AGAIN,
        read = const crate::cell::READ,
        atomic = const crate::cell::ATOMIC,
        chunk = const shadow::CHUNK,
        chunk_bits = const shadow::CHUNK_BITS,
        fold = const shadow::FOLD & !7,
        fold_bits = const shadow::FOLD_BITS,
        table = const shadow::TABLE,
        plane_a = const shadow::PLANE_A,
        plane_b = const PLANE_B,
        pages = const pages::TABLE,
        page_bits = const pages::PAGE_BITS,
        cells = const pages::CELLS,
        second = const SECOND,
    )
}

/// An access by the goroutine, as `thunk` has it placed: whether it was, and whether it has to be compared [`AGAIN`].
#[cfg(test)]
pub(crate) fn place_access(
    c: &mut Ctx,
    addr: usize,
    size: usize,
    reads: bool,
    pc: crate::Pc,
) -> (bool, bool) {
    let mut kind = size as u32 | if reads { READS } else { 0 };
    let rest: u32;
    // SAFETY: the context is the caller's alone, and not quiet; the registers are as the function says.
    unsafe {
        std::arch::asm!(
            "call {place}",
            place = sym place,
            in("rdi") addr,
            inout("esi") kind,
            in("rdx") &raw mut c.head,
            in("r10") pc.bits(),
            out("eax") rest,
            out("rcx") _,
            out("r8") _,
            out("r9") _,
            lateout("r10") _,
            out("r11") _,
        );
    }
    let again = kind & AGAIN != 0;
    kind &= !AGAIN;
    assert_eq!(kind & 0xff, size as u32, "the kind is kept");
    (rest == 0, again)
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::access;
    use crate::cell::{ATOMIC, Cell, FREED, READ};
    use crate::goroutine::go_start;
    use crate::shadow::{CELLS, Granule};
    use crate::testing::{detector, fresh_memory, fresh_pc, on};
    use crate::{GoCtx, acquire, go_end, release};

    pub(in super::super) struct Dice(pub(in super::super) u64);

    impl Dice {
        pub(in super::super) fn roll(&mut self, n: u64) -> u64 {
            self.0 = self
                .0
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (self.0 >> 33) % n
        }
    }

    pub(in super::super) fn cells(addr: usize) -> [u64; CELLS] {
        [0, 1, 2, 3].map(|i| Granule::of(addr).cell(i).load(Relaxed))
    }

    pub(in super::super) fn set(addr: usize, to: [u64; CELLS]) {
        for (i, cell) in to.into_iter().enumerate() {
            Granule::of(addr).cell(i).store(cell, Relaxed);
        }
    }

    /// A cell of some goroutine and time that `c` may have met: nobody's, its own, ordered before it or not.
    pub(in super::super) fn any_cell(dice: &mut Dice, c: &Ctx, others: &[GoCtx]) -> u64 {
        let kind = [0, READ, ATOMIC, READ | ATOMIC, FREED][dice.roll(5) as usize];
        let bytes = [0xff, 0x0f, 0xf0, 0x03, 0x80, 0x01][dice.roll(6) as usize];
        let (slot, now) = match dice.roll(3) {
            0 => (c.slot, c.epoch()),
            _ => {
                let other = others[dice.roll(others.len() as u64) as usize].get();
                (other.last_slot, other.epoch())
            }
        };
        Cell::template(slot, now.saturating_sub(dice.roll(3)).max(1)) | kind | bytes
    }

    /// Runs `f` as a goroutine with some epochs behind it, and gives it three others, two of which are ordered before it.
    pub(in super::super) fn among_others(f: impl FnOnce(GoCtx, &[GoCtx])) {
        let _one = detector();
        let me = go_start(None, 1, fresh_pc());
        let others = [2, 3, 4].map(|goid| go_start(Some(me), goid, fresh_pc()));
        let sync = fresh_memory(64);
        for other in others {
            on(other, || release(sync + 8 * (other == others[2]) as usize));
        }
        on(me, || {
            release(sync + 32);
            acquire(sync);
            release(sync + 32);
            f(me, &others);
        });
        for ctx in others {
            go_end(ctx);
        }
        go_end(me);
    }

    #[test]
    fn registers_and_rust_place_alike() {
        let mut dice = Dice(7);
        let (mut placed, mut declined) = (0, 0);
        among_others(|me, others| {
            let memory = fresh_memory(1 << 16);
            for round in 0..200_000 {
                let c = me.get();
                let at = memory + dice.roll(1 << 15) as usize / 16 * 16;
                let copy = at + (1 << 15);
                crate::pages::note(at, pages::CELLS);
                crate::pages::note(copy, pages::CELLS);
                let count = dice.roll(5) as usize;
                let mut there = [0; CELLS];
                for cell in &mut there[..count] {
                    *cell = any_cell(&mut dice, c, others);
                }
                if count == 3 && dice.roll(2) == 0 {
                    there.swap(2, 3);
                }
                set(at, there);
                set(copy, there);
                let size = 1 << dice.roll(4);
                let offset = dice.roll((8 / size) as u64) as usize * size;
                let reads = dice.roll(2) == 0;
                let flags = if reads { READ } else { 0 };
                let new = Cell(
                    c.template().expect("a slot")
                        | flags
                        | u64::from(access::bytes_in(copy, copy + offset, copy + offset + size)),
                );
                let (zero, one) = Granule::of(copy).pair();
                let is_deep = || there[2] | there[3] != 0;
                let mut wanted = there.map(Cell);
                let is_placed = if let Some(pair) = access::in_pair(c, zero, one, is_deep, new) {
                    (wanted[0], wanted[1]) = pair;
                    true
                } else if let Some((i, cell)) = access::in_place(c, wanted, new)
                    && is_deep()
                {
                    wanted[i] = cell;
                    true
                } else {
                    false
                };
                let pc = fresh_pc();
                // Formatting below allocates, which is an event too.
                let has_room = c.head.cursor.has_room();
                let (done, again) = place_access(c, at + offset, size, reads, pc);
                assert!(!again, "nobody was faster");
                let what = format!("round {round}: {there:x?} {new:x?} {wanted:x?}");
                if done {
                    placed += 1;
                    assert!(is_placed, "{what}");
                    assert_eq!(cells(at).map(Cell), wanted, "{what}");
                    assert_eq!(access::place(c, copy, new), None, "{what}");
                    assert_eq!(cells(at), cells(copy), "{what}");
                } else {
                    declined += 1;
                    assert!(!is_placed || !has_room, "{what}");
                    assert_eq!(cells(at), there, "{what}");
                    if !has_room {
                        c.turn();
                    }
                }
            }
        });
        assert!(placed > 50_000 && declined > 5_000, "{placed} {declined}");
    }
}
