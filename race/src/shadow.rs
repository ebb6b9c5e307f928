//! The shadow of memory: where an address's cells and sync objects are found, mapped as memory comes
//! into use.
//!
//! # Layout
//! Addresses are folded to 44 bits; every structure is then at a constant place plus a multiple of
//! the folded address:
//!
//! | from | to | what | per 8 application bytes |
//! | --- | --- | --- | --- |
//! | `0x0400_0000_0000` | `0x2400_0000_0000` | plane A: cells 0 and 1 | 16 bytes |
//! | `0x2400_0000_0000` | `0x4400_0000_0000` | plane B: cells 2 and 3, touched only when A is full | 16 bytes |
//! | `0x4400_0000_0000` | `0x4c00_0000_0000` | meta: handle of the sync objects at these bytes | 4 bytes |
//! | `0x4c00_0000_0000` | + 16 MiB | chunk table: the region plus one, 0 when not mapped | 1 byte per MiB |
//! | `0x4c10_0000_0000` | + 32 GiB | page table (`pages.rs`) | 1 byte per 512 bytes |
//! | `0x4c20_0000_0000` | + 256 GiB | owners of pages (`pages.rs`) | 8 bytes per 512 bytes |
//!
//! Linux places programs, heaps and mappings below 4 TiB or above 85 TiB (80 TiB is
//! `0x5000_0000_0000`), with up to 32 bits of randomisation, so this part of the address space is
//! empty by itself. Under `ulimit -s unlimited` it places mappings from 42 TiB upwards; `init`
//! detects that and says so.
//!
//! # Plane A
//! An inlined check looks at cell 0 of its bytes, at a constant offset, without asking whether there
//! is one. So plane A is there before the first instrumented code runs, wherever memory may be: it is
//! reserved in *blocks*, of 64 GiB of application memory, as addresses without memory. A look at it
//! never faults but as any first touch of memory does, which the kernel deals with: whatever signals
//! the thread blocks, on whatever stack it is, in any handler. (A handler of SIGSEGV that maps shadow
//! can do none of this.) Reserved are the blocks of what a process begins with and of a terabyte
//! beside it, into which its mappings grow. Others follow when something is mapped there (`mmap`, the
//! heap's arena). The rest has no shadow, and is no memory: an access to a wild address faults.
//!
//! States of a block: *none*; *zeros*, while race mode is off, to be read only: the kernel's page of
//! zeros is what the context of zeros, which a thread has then, expects, so the binary needs no second
//! form; *cells*, in race mode. A child of `fork` has zeros again.
//!
//! # The rest
//! Plane B, meta and the page table are touched by calls only. They are mapped in chunks of 1 MiB,
//! when the heap announces memory or an event first touches it. The chunk table says for every folded
//! chunk whether it is mapped, and for which of the eight 16 TiB regions that fold onto it. A second
//! region at the same folded place is *not watched*: a lie is impossible, and the kernel's layout
//! makes it improbable. An inlined check may find a cell of the other region there, and take it for
//! its own: an access that was not watched anyway.
//!
//! # Invariants
//! 1. A chunk byte is set after its planes and meta are mapped, and never cleared.
//! 2. In plane B a cell is set only while both of the granule's cells in plane A are; A's cells are
//!    replaced, never emptied, but by `clear` and `fill`, which empty B first.
//! 3. A page of which `pages::DEEP` is not set has no cells in plane B.
//! 4. A block's bit is set after it is reserved, and never cleared.
//!
//! # Memory ordering
//! `map_chunks: chunk byte store Release, under the lock` ⇄ `is_watched: load Acquire`: the planes
//! exist. A block's bit is looked at by who is about to have memory there, and then the addresses are
//! there, or are reserved under the lock.
//!
//! # Blocking
//! First touches make system calls under a spin lock. No allocation.

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
use std::ffi::c_int;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::*};

use crate::cell::Cell;
use crate::mem::{KeptErrno, SpinLock, refuse};
use crate::pages;
use crate::sys::SignalsBlocked;

pub(crate) const FOLD_BITS: u32 = 44;
/// Bits of an address that choose its place in the shadow.
pub(crate) const FOLD: usize = (1 << FOLD_BITS) - 1;
pub(crate) const PLANE_A: usize = 0x0400_0000_0000;
pub(crate) const PLANE_B: usize = 0x2400_0000_0000;
const META: usize = 0x4400_0000_0000;
pub(crate) const TABLE: usize = 0x4c00_0000_0000;
pub(crate) const ADDRESS_BITS: u32 = 47;
pub(crate) const CHUNK_BITS: u32 = 20;
/// Bytes of application memory that are mapped at a time.
pub(crate) const CHUNK: usize = 1 << CHUNK_BITS;
const CHUNKS: usize = (FOLD + 1) >> CHUNK_BITS;
/// Bytes of application memory for which plane A is reserved at a time.
const BLOCK_BITS: u32 = 36;
const BLOCK: usize = 1 << BLOCK_BITS;
const BLOCKS: usize = (FOLD + 1) >> BLOCK_BITS;

/// Whether the address is among those that Raddle's bookkeeping and the detector need.
pub(crate) fn is_wanted(addr: usize) -> bool {
    (crate::sys::BOOKKEEPING.start..pages::END).contains(&addr)
}

/// Shows the addresses of the detector's own memory and of Raddle's bookkeeping, which hold nothing of the program's, in order.
pub fn own_memory(show: &mut dyn FnMut(Range<usize>)) {
    show(crate::sys::BOOKKEEPING);
    // While race mode is off something else may lie here: all that is mapped of it then is to be read only.
    if IS_WRITABLE.load(Relaxed) {
        show(PLANE_A..pages::END);
    }
}

static MAPPING: SpinLock = SpinLock::new();
/// Plane A is to be written, in this process or its parent.
static IS_WRITABLE: AtomicBool = AtomicBool::new(false);
/// A bit for each block of folded addresses.
static RESERVED: [AtomicU64; BLOCKS / 64] = [const { AtomicU64::new(0) }; BLOCKS / 64];

fn bit_of(folded: usize) -> (&'static AtomicU64, u64) {
    let block = folded >> BLOCK_BITS;
    (&RESERVED[block / 64], 1 << (block % 64))
}

fn is_reserved(folded: usize) -> bool {
    let (word, bit) = bit_of(folded);
    word.load(Relaxed) & bit != 0
}

/// Maps addresses without memory. `false`: the system refuses, and errno says why.
///
/// # Safety
/// With `MAP_FIXED`, what is mapped there is ours, and may be zero from now on.
unsafe fn map_at(addr: usize, size: usize, is_writable: bool, how: c_int) -> bool {
    let protection = libc::PROT_READ | if is_writable { libc::PROT_WRITE } else { 0 };
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | how;
    let at = std::ptr::with_exposed_provenance_mut(addr);
    // SAFETY: by the contract, or NOREPLACE refuses to touch what is mapped there.
    let p = unsafe { crate::sys::map(at, size, protection, flags) };
    if p.addr() != addr {
        return false;
    }
    // The planes are sparse: a huge page would make 2 MiB of a few cells. Of zeros it costs nothing.
    let huge = if is_writable {
        libc::MADV_NOHUGEPAGE
    } else {
        libc::MADV_HUGEPAGE
    };
    for advice in [huge, libc::MADV_DONTDUMP] {
        // SAFETY: our own mapping; these change nothing that is in it.
        unsafe { libc::madvise(p, size, advice) };
    }
    true
}

/// Whether the last mapping failed because there is one.
fn exists() -> bool {
    std::io::Error::last_os_error().raw_os_error() == Some(libc::EEXIST)
}

/// Says why there is no shadow, and what to do.
#[cold]
fn cannot_map() -> ! {
    match exists() {
        true if new_mapping() < TABLE => refuse(why_too_low()),
        true => refuse(
            "another copy of Raddle's runtime is in this process, or something else where that would be, and there is room for one: \
             link what uses Raddle into one program or library",
        ),
        false => refuse(
            "the system refuses the detector its memory, or some terabytes of addresses that cost none: lift the limit on \
             address space (ulimit -v unlimited), and strict accounting (sysctl vm.overcommit_memory=0)",
        ),
    }
}

/// Linux lets mappings grow upwards where the stack has no limit, or where it was asked to; valgrind maps by itself.
#[cold]
fn why_too_low() -> &'static str {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the place is ours.
    let told = unsafe { libc::getrlimit(libc::RLIMIT_STACK, &mut limit) };
    if told == 0 && limit.rlim_cur == libc::RLIM_INFINITY {
        return "mappings grow upwards in this process, over the detector's addresses; run it with a limited stack (ulimit -s 8192)";
    }
    "mappings of this process lie over the detector's addresses, as they do under valgrind, and by setarch --addr-compat-layout; \
     run it without that, or without race mode"
}

/// A limit on addresses that may be lifted is lifted: nearly all that counts for it is shadow.
fn lift_limit() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: room for the answer.
    let error = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) };
    if error == 0 && limit.rlim_cur != limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: a limit that the process may set.
        unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) };
    }
}

/// Where the system places new mappings.
fn new_mapping() -> usize {
    let probe = crate::mem::map(4096);
    // SAFETY: mapped above, not used.
    unsafe { crate::mem::unmap(probe, 4096) };
    probe.addr().get()
}

/// Before instrumented code runs: it may look at the cells of all that there is, and of what is
/// mapped beside that. They are empty.
///
/// What there is, is the program's own, and of a host into which it was loaded.
pub(crate) fn reserve_first() {
    const FAR: usize = 16;
    lift_limit();
    crate::sys::each_mapping(&mut |from, to, _| {
        // What is reserved is a mapping too, and has no shadow.
        if !is_own(from) {
            reserve(from, to.saturating_sub(from));
        }
    });
    let end_of_data = crate::sys::end_of_data();
    let on_stack = (&raw const end_of_data).addr();
    let mapping = new_mapping();
    // A program at a fixed address, libraries that know their place; what grows by `brk`; mappings,
    // which grow downwards, or, without a limit on the stack, upwards; the stack.
    let (below, above) = match mapping > TABLE {
        true => (FAR, 1),
        false => (1, FAR),
    };
    for (at, below, above) in [
        (0, 0, FAR),
        (end_of_data, 0, 1),
        (mapping, below, above),
        (on_stack, 1, 0),
    ] {
        let from = at.saturating_sub(below * BLOCK);
        reserve(from, at + above * BLOCK - from + 1);
    }
}

/// Reserves plane A for `size` bytes at `addr`, where it is not yet.
pub(crate) fn reserve(addr: usize, size: usize) {
    let end = addr.saturating_add(size).min(1 << ADDRESS_BITS);
    for block in (addr & !(BLOCK - 1)..end).step_by(BLOCK) {
        if !is_reserved(block & FOLD) {
            reserve_block(block & FOLD);
        }
    }
}

#[cold]
fn reserve_block(folded: usize) {
    let _errno = KeptErrno::new();
    // A handler of this thread's may come here too.
    let _blocked = SignalsBlocked::new();
    let _held = MAPPING.lock();
    let (word, bit) = bit_of(folded);
    if word.load(Relaxed) & bit != 0 {
        return;
    }
    let (at, is_writable) = (PLANE_A + folded * 2, IS_WRITABLE.load(Relaxed));
    // SAFETY: nothing is replaced.
    let is_new = unsafe { map_at(at, 2 * BLOCK, is_writable, libc::MAP_FIXED_NOREPLACE) };
    // Of another library compiled by `cargo raddle` the zeros do as well.
    if !is_new && (is_writable || !exists()) {
        cannot_map();
    }
    word.fetch_or(bit, Relaxed); // invariant 4
}

/// Makes the cells of all reserved blocks empty and writable, in a step in which whoever looks there
/// meanwhile finds zeros. `false`: errno says why not.
fn empty_plane_a() -> bool {
    (0..BLOCKS)
        .map(|block| block << BLOCK_BITS)
        .filter(|&folded| is_reserved(folded))
        // SAFETY: the block is ours, and its cells go.
        .all(|folded| unsafe { map_at(PLANE_A + folded * 2, 2 * BLOCK, true, libc::MAP_FIXED) })
}

/// Race mode begins: maps the chunk table. Once, before anything else here.
pub(crate) fn init() {
    if !std::arch::is_x86_feature_detected!("cmpxchg16b") {
        refuse("race mode needs a processor with the instruction cmpxchg16b");
    }
    HAS_AVX2.store(std::arch::is_x86_feature_detected!("avx2"), Relaxed);
    if new_mapping() < TABLE {
        refuse(why_too_low());
    }
    if !crate::is_instrumented() {
        reserve_first();
    }
    map_new(TABLE, CHUNKS);
    // Of ours nothing there can be written yet, and of another copy there is a chunk table.
    crate::sys::each_mapping(&mut |from, to, is_writable| {
        if is_writable && from < PLANE_B && to > PLANE_A {
            refuse(
                "something in this process has memory where the detector's has to be, such as an allocator of LD_PRELOAD \
                 that chooses its own addresses: run the program without it",
            );
        }
    });
    IS_WRITABLE.store(true, Relaxed);
    if !empty_plane_a() {
        cannot_map();
    }
}

/// This is a child of `fork`, in which race mode is off.
pub(crate) fn in_child() {
    // If the system refuses, compiled code calls out in vain for what the parent had accessed.
    empty_plane_a();
}

/// Maps what is touched by calls only.
fn map_new(addr: usize, size: usize) {
    // SAFETY: nothing is replaced.
    if !unsafe { map_at(addr, size, true, libc::MAP_FIXED_NOREPLACE) } {
        cannot_map();
    }
}

/// Maps a page that several chunks share, unless an earlier one did.
fn map_shared(addr: usize) {
    // SAFETY: nothing is replaced.
    let is_new = unsafe { map_at(addr, 4096, true, libc::MAP_FIXED_NOREPLACE) };
    if !is_new && !exists() {
        cannot_map();
    }
}

fn chunk_byte(addr: usize) -> &'static AtomicU8 {
    let at = TABLE + ((addr & FOLD) >> CHUNK_BITS);
    // SAFETY: the table covers every folded chunk, is mapped by `init` and for ever.
    unsafe { &*std::ptr::with_exposed_provenance::<AtomicU8>(at) }
}

fn region(addr: usize) -> u8 {
    (addr >> FOLD_BITS) as u8 + 1
}

/// Whether the address has shadow; maps it at first touch.
#[inline]
pub(crate) fn is_watched(addr: usize) -> bool {
    if addr >> ADDRESS_BITS != 0 {
        return false;
    }
    let byte = chunk_byte(addr).load(Acquire); // pairs with the store in `map_chunks`
    byte == region(addr) || byte == 0 && map_first(addr)
}

/// Whether the address has shadow already.
#[inline]
pub(crate) fn is_mapped(addr: usize) -> bool {
    addr >> ADDRESS_BITS == 0 && chunk_byte(addr).load(Acquire) == region(addr)
}

#[cold]
fn map_first(addr: usize) -> bool {
    map_chunks(addr, 1);
    chunk_byte(addr).load(Relaxed) == region(addr)
}

/// Maps the shadow of `size` bytes at `addr`, where it is not yet mapped.
pub(crate) fn map_chunks(addr: usize, size: usize) {
    let end = addr.saturating_add(size);
    if size == 0 || end > 1 << ADDRESS_BITS || is_own(addr) || is_own(end - 1) {
        return;
    }
    reserve(addr, size);
    let _errno = KeptErrno::new();
    // A handler of this thread's may come here too.
    let _blocked = SignalsBlocked::new();
    let _held = MAPPING.lock();
    let last = (end - 1) & !(CHUNK - 1);
    let mut at = addr & !(CHUNK - 1);
    while at <= last {
        let first = at;
        while at <= last && chunk_byte(at).load(Relaxed) == 0 && (at == first || at & FOLD != 0) {
            at += CHUNK;
        }
        if at > first {
            let (folded, bytes) = (first & FOLD, at - first);
            map_new(PLANE_B + folded * 2, bytes * 2);
            map_new(META + folded / 2, bytes / 2);
            pages::table_pages(folded, bytes).for_each(map_shared);
            map_new(
                pages::OWNERS + (folded >> pages::PAGE_BITS) * 8,
                (bytes >> pages::PAGE_BITS) * 8,
            );
            for chunk in (first..at).step_by(CHUNK) {
                chunk_byte(chunk).store(region(chunk), Release); // pairs with `is_watched`
            }
        } else {
            at += CHUNK;
        }
    }
}

/// Gives back the memory of all cells of a watched chunk: they are empty.
pub(crate) fn release(chunk: usize) {
    let _errno = KeptErrno::new();
    for plane in [PLANE_A, PLANE_B] {
        let at = std::ptr::with_exposed_provenance_mut(plane + (chunk & FOLD) * 2);
        // SAFETY: the chunk's own part of the plane, which is mapped (invariant 1) and has no other
        // content than cells.
        unsafe { libc::madvise(at, 2 * CHUNK, libc::MADV_DONTNEED) };
    }
}

/// Whether the address is the shadow's.
fn is_own(addr: usize) -> bool {
    (PLANE_A..pages::END).contains(&addr)
}

/// Has the processor bring what is known at the address: it is about to be replaced.
#[inline(always)]
pub(crate) fn prefetch(addr: usize) {
    let folded = addr & FOLD & !7;
    for at in [META + folded / 2, PLANE_A + folded * 2] {
        let at = std::ptr::with_exposed_provenance::<i8>(at);
        // SAFETY: a prefetch touches nothing, wherever it points; every processor of this architecture has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at) };
    }
}

fn word(at: usize) -> &'static AtomicU64 {
    // SAFETY: callers pass an 8-aligned address inside a plane, of an address for which `is_watched` was true
    // (invariant 1); planes are never unmapped.
    unsafe { &*std::ptr::with_exposed_provenance::<AtomicU64>(at) }
}

/// The cells of eight application bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Granule(usize);

/// Cells per granule.
pub(crate) const CELLS: usize = 4;

impl Granule {
    /// The granule of a watched address.
    #[inline]
    pub(crate) fn of(addr: usize) -> Granule {
        Granule((addr & FOLD & !7) * 2)
    }

    /// Cell `i`'s word.
    #[inline]
    pub(crate) fn cell(self, i: usize) -> &'static AtomicU64 {
        word(if i < 2 { PLANE_A } else { PLANE_B } + self.0 + (i & 1) * 8)
    }

    /// Cells 0 and 1, each as it was at some moment.
    #[inline(always)]
    pub(crate) fn pair(self) -> (Cell, Cell) {
        let load = |i| Cell(self.cell(i).load(Relaxed));
        (load(0), load(1))
    }

    /// All cells, each as it was at some moment.
    #[inline(always)]
    pub(crate) fn cells(self) -> [Cell; CELLS] {
        let load = |i| Cell(self.cell(i).load(Relaxed));
        let (zero, one) = self.pair();
        // By invariant 2 plane B, another cache line, need not be looked at while there is room in A.
        if one.is_empty() {
            return [zero, one, Cell::EMPTY, Cell::EMPTY];
        }
        [zero, one, load(2), load(3)]
    }

    /// Replaces cells 0 and 1 in one step, if they are what `from` says. The step is in the single order of SeqCst operations.
    #[inline(always)]
    pub(crate) fn replace_pair(self, from: (Cell, Cell), to: (Cell, Cell)) -> bool {
        let is_done: u64;
        // SAFETY: both cells, which are mapped (callers have a watched address) and aligned to 16. rbx is the compiler's own: it is put
        // back. Every processor of this architecture since 2006 has the instruction; `init` asks for it.
        unsafe {
            std::arch::asm!(
                "xchg rsi, rbx",
                "lock cmpxchg16b xmmword ptr [rdi]",
                "sete cl",
                "movzx ecx, cl",
                "mov rbx, rsi",
                in("rdi") PLANE_A + self.0,
                inout("rsi") to.0.0 => _,
                inout("rcx") to.1.0 => is_done,
                inout("rax") from.0.0 => _,
                inout("rdx") from.1.0 => _,
                options(nostack),
            );
        }
        is_done != 0
    }

    /// Forgets all accesses to some of the bytes. A cell of plane A that is left without bytes keeps the rest of its
    /// word, for invariant 2.
    pub(crate) fn clear_bytes(self, bytes: u8) {
        for i in 0..CELLS {
            if i == 2 && (self.cell(0).load(Relaxed) == 0 || self.cell(1).load(Relaxed) == 0) {
                return;
            }
            self.cell(i).fetch_and(!u64::from(bytes), SeqCst); // as `place` in `access.rs`
        }
    }

    /// Makes `cell` all that is known of its bytes, in one step, if there is room for what is known of the others. False: nothing was
    /// done.
    #[inline]
    pub(crate) fn overwrite_bytes(self, cell: Cell) -> bool {
        let (zero, one) = self.pair();
        let second = match (zero.without_bytes_of(cell), one.without_bytes_of(cell)) {
            (zero, one) if zero.mask() != 0 && one.mask() != 0 => return false,
            (rest, _) | (_, rest) if rest.mask() != 0 => rest,
            // By invariant 2, as far as plane B is concerned, what is in use stays so.
            _ if one.is_empty() => one,
            _ => cell,
        };
        let others = || self.cell(2).load(Relaxed) | self.cell(3).load(Relaxed);
        let is_all = one.is_empty() || others() == 0;
        is_all && self.replace_pair((zero, one), (cell, second))
    }

    /// Replaces all cells by one (or none).
    #[inline]
    pub(crate) fn set_only(self, cell: Cell) {
        if self.cell(1).load(Relaxed) != 0 {
            if self.cell(0).load(Relaxed) != 0 {
                self.cell(2).store(0, Relaxed);
                self.cell(3).store(0, Relaxed);
            }
            self.cell(1).store(0, Relaxed);
        }
        self.cell(0).store(cell.0, Relaxed);
    }
}

/// Replaces all cells of the whole granules in `[from, to)`, which lie in one page and are watched, by one (or none).
///
/// Twice as fast as [`Granule::set_only`] for each: heap blocks of thousands of bytes come and go by the million.
pub(crate) fn fill(from: usize, to: usize, cell: Cell) {
    if pages::has(from, pages::DEEP) {
        for granule in (from..to).step_by(8) {
            Granule::of(granule).set_only(cell);
        }
        return;
    }
    if from == to {
        return;
    }
    // By invariant 3 plane A is all there is. Cell 1 becomes empty.
    let (at, end) = (
        PLANE_A + (from & FOLD) * 2,
        PLANE_A + ((to - 8) & FOLD) * 2 + 16,
    );
    if end - at >= WIDE && HAS_AVX2.load(Relaxed) {
        // The last step begins where it ends with the run.
        // SAFETY: cells 0 and 1 of the granules, which are mapped (invariant 1). Each store does what relaxed stores of the atomic
        // words would: x86-64 tears no aligned word of a vector store. The processor has the instructions.
        unsafe {
            std::arch::asm!(
                "vmovq xmm0, {cell}", // the rest becomes zero
                "vinserti128 ymm0, ymm0, xmm0, 1",
                "jmp 3f",
                "2:",
                "vmovdqu ymmword ptr [{at}], ymm0",
                "vmovdqu ymmword ptr [{at} + 32], ymm0",
                "add {at}, 64",
                "3:",
                "cmp {at}, {last}",
                "jb 2b",
                "vmovdqu ymmword ptr [{last}], ymm0",
                "vmovdqu ymmword ptr [{last} + 32], ymm0",
                "vzeroupper",
                at = inout(reg) at => _,
                last = in(reg) end - WIDE,
                cell = in(reg) cell.0,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                options(nostack),
            );
        }
        return;
    }
    // SAFETY: as above; aligned to 16.
    unsafe {
        std::arch::asm!(
            "movq {pair}, {cell}", // the upper half becomes zero
            "2:",
            "movaps xmmword ptr [{at}], {pair}",
            "add {at}, 16",
            "cmp {at}, {end}",
            "jb 2b",
            at = inout(reg) at => _,
            end = in(reg) end,
            cell = in(reg) cell.0,
            pair = out(xmm_reg) _,
            options(nostack),
        );
    }
}

/// Bytes of plane A that [`fill`] sets in one step, where the processor can.
const WIDE: usize = 64;

/// The first granule of `[from, to)`, which lie in one region and are watched, whose cell 0 is not `word` in all of `bits`; or `to`.
#[inline(always)]
pub(crate) fn skip_alike(from: usize, to: usize, word: u64, bits: u64) -> usize {
    let mut granule = from;
    if to - from >= 8 * ALIKE && HAS_AVX2.load(Relaxed) {
        granule = skip_many_alike(from, to, word, bits);
    }
    skip_few_alike(granule, to, word, bits)
}

/// [`skip_alike`], one by one.
#[inline(always)]
pub(crate) fn skip_few_alike(from: usize, to: usize, word: u64, bits: u64) -> usize {
    let mut granule = from;
    while granule < to && (Granule::of(granule).cell(0).load(Relaxed) ^ word) & bits == 0 {
        granule += 8;
    }
    granule
}

/// Granules that [`skip_many_alike`] looks at in one step.
const ALIKE: usize = 8;

/// Whether the processor has the instructions that [`skip_many_alike`] and [`fill`] use: all since 2013 have, or so.
static HAS_AVX2: AtomicBool = AtomicBool::new(false);

/// [`skip_alike`], of [`ALIKE`] granules at least. Returns where the first step of so many begins that is not alike; or `to`. The last
/// step begins where it ends with the range.
#[inline(never)]
fn skip_many_alike(from: usize, to: usize, word: u64, bits: u64) -> usize {
    let first = PLANE_A + (from & FOLD) * 2;
    let last = first + (to - from) * 2 - ALIKE * 16;
    let at: usize;
    // SAFETY: reads cells 0 and 1 of the granules, which are there (the callers have a watched address, or one that is reserved), as relaxed loads of
    // each would: x86-64 tears no aligned word of a vector load. Writes nothing. The processor has the instructions.
    unsafe {
        std::arch::asm!(
            "vmovq xmm0, rdx",
            "vpbroadcastq ymm0, xmm0",
            "vmovq xmm1, rcx", // with zeros for cells 1
            "vinserti128 ymm1, ymm1, xmm1, 1",
            "2:",
            "vpxor ymm2, ymm0, ymmword ptr [rax]",
            "vpxor ymm3, ymm0, ymmword ptr [rax + 32]",
            "vpxor ymm4, ymm0, ymmword ptr [rax + 64]",
            "vpxor ymm5, ymm0, ymmword ptr [rax + 96]",
            "vpor ymm2, ymm2, ymm3",
            "vpor ymm4, ymm4, ymm5",
            "vpor ymm2, ymm2, ymm4",
            "vptest ymm2, ymm1",
            "jnz 3f",
            "sub rax, -128",
            "cmp rax, rsi",
            "jb 2b",
            "lea rdx, [rsi + 128]",
            "cmp rax, rdx",
            "mov rax, rsi",
            "jb 2b",
            "mov rax, rdx",
            "3:",
            "vzeroupper",
            inout("rax") first => at,
            in("rsi") last,
            inout("rdx") word => _,
            in("rcx") bits,
            clobber_abi("C"),
            options(nostack, readonly),
        );
    }
    from + (at - first) / 2
}

/// Granules that [`skip_syncless`] looks at in one step, but at the end.
pub(crate) const STEP: usize = 16;

/// The first granule of `[from, to)`, which lie in one page and are watched, that may have sync objects; or `to`.
#[inline]
pub(crate) fn skip_syncless(from: usize, to: usize) -> usize {
    let mut granule = skip_steps_syncless(from, to);
    if to - granule < 8 * STEP {
        let any =
            |granule: usize| (0..4).fold(0, |any, i| any | meta(granule + 8 * i).load(Relaxed));
        while to - granule >= 32 && any(granule) == 0 {
            granule += 32;
        }
        while granule < to && meta(granule).load(Relaxed) == 0 {
            granule += 8;
        }
    }
    granule
}

/// [`skip_syncless`], in whole steps.
#[inline]
fn skip_steps_syncless(from: usize, to: usize) -> usize {
    let steps = (to - from) / (8 * STEP);
    if steps == 0 {
        return from;
    }
    let first = META + (from & FOLD) / 2;
    let mut at = first;
    // SAFETY: reads the meta words of `steps` times `STEP` granules, which are mapped (invariant 1), as relaxed loads of
    // each would: x86-64 tears no aligned word of a vector load. Writes nothing.
    unsafe {
        std::arch::asm!(
            "pxor {zero}, {zero}",
            "2:",
            "movdqu {any}, xmmword ptr [{at}]",
            "movdqu {more}, xmmword ptr [{at} + 16]",
            "por {any}, {more}",
            "movdqu {more}, xmmword ptr [{at} + 32]",
            "por {any}, {more}",
            "movdqu {more}, xmmword ptr [{at} + 48]",
            "por {any}, {more}",
            "pcmpeqb {any}, {zero}",
            "pmovmskb {mask:e}, {any}",
            "cmp {mask:e}, 0xffff",
            "jne 3f",
            "add {at}, 64",
            "cmp {at}, {end}",
            "jb 2b",
            "3:",
            at = inout(reg) at,
            end = in(reg) first + steps * STEP * 4,
            mask = out(reg) _,
            any = out(xmm_reg) _,
            more = out(xmm_reg) _,
            zero = out(xmm_reg) _,
            options(nostack, readonly),
        );
    }
    from + (at - first) * 2
}

/// The word that holds the handle of the first sync object at a watched address's eight bytes.
#[inline]
pub(crate) fn meta(addr: usize) -> &'static AtomicU32 {
    let at = META + (addr & FOLD & !7) / 2;
    // SAFETY: as in `word`: a 4-aligned address inside the meta plane, mapped by invariant 1.
    unsafe { &*std::ptr::with_exposed_provenance::<AtomicU32>(at) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_regions_never_share_a_chunk() {
        let _one = crate::testing::detector();
        let low = 0x5123_4560_0000usize;
        let high = 0x7123_4560_0000usize;
        assert!(is_watched(low));
        assert!(!is_watched(high), "folds onto the same chunk");
        assert!(is_watched(low + CHUNK));
    }

    #[test]
    fn our_own_planes_and_the_kernel_are_not_watched() {
        let _one = crate::testing::detector();
        assert!(!is_watched(PLANE_A + 4096));
        assert!(!is_watched(META));
        assert!(!is_watched(0xffff_8000_0000_0000));
    }

    #[test]
    fn bytes_are_overwritten_at_once_or_not_at_all() {
        let _one = crate::testing::detector();
        let base = 0x5434_0000_0000usize;
        assert!(is_watched(base));
        let g = Granule::of(base);
        let cell = |epoch, mask: u64| Cell(Cell::template(1, epoch) | mask);
        let load = || [0, 1, 2, 3].map(|i| Cell(g.cell(i).load(Relaxed)));
        let known = |cells: &[Cell]| -> Vec<Cell> {
            let mut known: Vec<_> = cells.iter().copied().filter(|c| c.mask() != 0).collect();
            known.sort_by_key(|c| c.0);
            known.dedup();
            known
        };
        let masks = [0, 0x0f, 0xf0, 0x3c, 0x01, 0x80, 0xff];
        let cells = |i| {
            masks
                .map(|mask| cell(i, mask))
                .into_iter()
                .chain([Cell::EMPTY])
        };
        for zero in cells(1) {
            for one in cells(2).filter(|one| one.is_empty() || !zero.is_empty()) {
                let other = cell(3, 0xff);
                for (two, three) in [
                    (Cell::EMPTY, Cell::EMPTY),
                    (other, Cell::EMPTY),
                    (Cell::EMPTY, other),
                ] {
                    if two != three && one.is_empty() {
                        continue; // invariant 2
                    }
                    for mask in [0x01, 0x0f, 0x3f, 0xc0, 0xfe] {
                        let before = [zero, one, two, three];
                        (0..CELLS).for_each(|i| g.cell(i).store(before[i].0, Relaxed));
                        let new = cell(4, mask);
                        if !g.overwrite_bytes(new) {
                            assert_eq!(load(), before);
                            let is_deep = two != three;
                            assert!(is_deep || !zero.without_bytes_of(new).is_empty());
                            continue;
                        }
                        let mut expected = before.map(|c| c.without_bytes_of(new));
                        expected[3] = new;
                        let after = load();
                        assert_eq!(after[2..], before[2..]);
                        assert_eq!(known(&after), known(&expected), "{before:x?} {new:x?}");
                        assert_eq!(after[0], new, "where inlined code looks");
                        assert!(one.is_empty() || !after[1].is_empty(), "invariant 2");
                    }
                }
            }
        }
        g.set_only(Cell::EMPTY);
    }

    #[test]
    fn runs_that_are_alike_end_where_a_simple_look_ends() {
        let _one = crate::testing::detector();
        const GRANULES: usize = 64;
        let base = 0x5334_0000_0000usize + CHUNK - 8 * GRANULES;
        assert!(is_watched(base));
        let (word, bits) = (0x1234_5678_9a01_00ff, !(1 << 16));
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        for _ in 0..20 {
            let odd = [1, 20, 200][random(3) as usize];
            for i in 0..GRANULES {
                let bit = if random(odd) == 0 { random(64) } else { 16 };
                let cell = word ^ if random(2) == 0 { 1 << bit } else { 0 };
                let g = Granule::of(base + 8 * i);
                g.cell(0).store(cell, Relaxed);
                g.cell(1).store(random(u64::MAX), Relaxed);
            }
            for from in 0..=GRANULES {
                for to in from..=GRANULES {
                    let is_alike = |i: &usize| {
                        (Granule::of(base + 8 * i).cell(0).load(Relaxed) ^ word) & bits == 0
                    };
                    let expected = (from..to).find(|i| !is_alike(i)).unwrap_or(to);
                    let found = skip_alike(base + 8 * from, base + 8 * to, word, bits);
                    assert_eq!(found, base + 8 * expected, "{from}..{to}");
                }
            }
        }
        (0..GRANULES).for_each(|i| Granule::of(base + 8 * i).set_only(Cell::EMPTY));
    }

    #[test]
    fn ranges_map_what_is_missing() {
        let _one = crate::testing::detector();
        let base = 0x5234_0000_0000usize;
        map_chunks(base + 2 * CHUNK, CHUNK);
        map_chunks(base + 100, 5 * CHUNK);
        for i in 0..6 {
            Granule::of(base + i * CHUNK).set_only(Cell(i as u64 + 1));
            assert_eq!(meta(base + i * CHUNK).load(Relaxed), 0);
        }
        assert_eq!(Granule::of(base + 3 * CHUNK).cell(0).load(Relaxed), 4);
        Granule::of(base).set_only(Cell::EMPTY);
    }
}
