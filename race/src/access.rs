//! The check: an access against the cells of the bytes it touches.
//!
//! # Protocol
//! For each granule of eight bytes: a cell of the same slot and epoch that stands for the access means it was checked
//! before: done. Else the access takes cell 0, where inlined code looks, and what was there takes the place of a cell that is
//! given up, both by compare-exchange; first choice first:
//! 1. a cell it stands for and that is ordered before it (whatever would race with the old one races with it),
//! 2. a cell of the same slot, epoch and kind: the bytes are merged,
//! 3. an empty cell, or one whose bytes were all cleared, or a copy of another,
//! 4. a victim: reads that are ordered before it first, then any read, then any; random among equals. This is the only loss
//!    of the shadow, and needs at least four accesses to the same eight bytes none of which stands for another.
//!
//! What else it stands for becomes a copy of it. Then every other cell, and the one displaced, is compared: it conflicts and is not covered by the clock: a race.
//!
//! Where cells 0 and 1 are all there is, and nothing races, what becomes of the two is decided at once (`in_pair`) and put there in one step; compiled code's
//! accesses have that in registers (`abi/place.rs`).
//!
//! # Memory ordering
//! Store first, then look: of two accesses at the same moment the later in the SeqCst order of `place: compare_exchange
//! SeqCst` ⇄ `compare: load SeqCst` sees the other (the store-buffer shape, which needs sequential consistency). With
//! look-then-store both could miss. The step on two cells is both: what it replaces is what was looked at.
//!
//! *Renewal.* Where cell 0 is the goroutine's own mark, of an earlier epoch mostly, the new one takes its place by plain stores, as ThreadSanitizer's do
//! everywhere; so does it in place of any cell of its own where plane B is in use (`in_place`). After each release that is what a goroutine does with all that it works on, and a locked step takes longer than all the rest. The price: an access of
//! another goroutine that is marked in the nanoseconds between our look and our store is overwritten; if it had not seen ours either, and the older mark was ordered
//! before it, that race is not seen this time. Memory that changes hands has another's mark in front, or none, and goes by the locked step.
//!
//! # Blocking
//! No lock, no system call but for a first touch (`shadow.rs`) or a report.

use std::sync::atomic::{AtomicUsize, Ordering::*};

use crate::cell::{ATOMIC, Cell, FLAGS, READ};
use crate::ctx::Ctx;
use crate::current::current;
use crate::goroutine::{func_enter, func_exit};
use crate::report::{self, Access};
use crate::shadow::{self, CELLS, Granule};
use crate::{Pc, pages};

static EVICTED: AtomicUsize = AtomicUsize::new(0);

/// Cells displaced for want of room so far.
pub(crate) fn evicted() -> usize {
    EVICTED.load(Relaxed)
}

/// The bytes of the granule at `granule` that lie in `[addr, end)`.
pub(crate) fn bytes_in(granule: usize, addr: usize, end: usize) -> u8 {
    let from = addr.max(granule) - granule;
    let to = end.min(granule + 8) - granule;
    (0xffu16 >> (8 - (to - from)) << from) as u8
}

/// Ranges of more bytes than this do not get shadow as a whole.
const MOST: usize = 1 << 30;

/// Checks an access by `c` and remembers it. One call makes at most one report, for the first bytes not
/// yet reported. Returns whether there is a race, reported or not.
pub(crate) fn check(c: &mut Ctx, addr: usize, size: usize, flags: u64, pc: Pc) -> bool {
    let end = addr.saturating_add(size).min(1 << shadow::ADDRESS_BITS);
    if size == 0 || !c.watches_accesses() || !shadow::is_watched(addr) {
        return false;
    }
    c.follow_generation();
    // Of a range of that size most is not there: it counts where others have been.
    let has_shadow = match size > MOST {
        true => shadow::is_mapped,
        false => shadow::is_watched,
    };
    let access = Access {
        addr,
        size,
        flags,
        pc,
    };
    let mut remembered = false;
    let mut races = false;
    let mut reported = false;
    let mut granule = addr & !7;
    let mut watched = true;
    while granule < end {
        let chunk_end = (granule | (shadow::CHUNK - 1)) + 1;
        if granule & (shadow::CHUNK - 1) == 0 {
            watched = has_shadow(granule);
        }
        if !watched {
            granule = chunk_end;
            continue;
        }
        if let Some(template) = c.template() {
            granule = after_known(granule, end.min(chunk_end), template, flags);
            if granule >= end || granule == chunk_end {
                continue;
            }
        }
        let new = Cell(c.template().unwrap_or(0) | flags | u64::from(bytes_in(granule, addr, end)));
        let racing = match c.template() {
            Some(_) if known_by(Granule::of(granule), new).is_some() => None,
            Some(_) => {
                pages::note(granule, pages::CELLS);
                if !remembered {
                    remembered = true;
                    c.remember(access.event());
                }
                place(c, granule, new)
            }
            None => {
                pages::write_out(granule);
                compare(c, Granule::of(granule), new, CELLS)
            }
        };
        if let Some(old) = racing {
            races = true;
            if !reported {
                reported = report::race(c, access.at_granule(granule), granule, old, new);
            }
        }
        granule += 8;
    }
    races
}

/// Whether all of a read or write of at most a chunk's bytes is known by cell 0: what most copies are. Looks where inlined code
/// would, without asking whether there is shadow (`shadow`, "Plane A").
#[inline(always)]
pub(crate) fn is_known_range(c: &Ctx, addr: usize, size: usize, flags: u64) -> bool {
    is_known(c, addr, size, flags, shadow::skip_alike)
}

/// [`is_known_range`], of at most 64 bytes: calls nothing. False: not known, or more.
#[inline(always)]
pub(crate) fn is_known_short(c: &Ctx, addr: usize, size: usize, flags: u64) -> bool {
    size <= 64 && is_known(c, addr, size, flags, shadow::skip_few_alike)
}

#[inline(always)]
fn is_known(
    c: &Ctx,
    addr: usize,
    size: usize,
    flags: u64,
    skip_alike: impl FnOnce(usize, usize, u64, u64) -> usize,
) -> bool {
    let last = addr.wrapping_add(size).wrapping_sub(1);
    // Of a chunk's worth it is known that there are cells, all the way.
    if size == 0 || size > shadow::CHUNK || (addr ^ last) & !shadow::FOLD != 0 {
        return size == 0;
    }
    let all = c.head.fast | flags;
    let bits = bits_of(flags);
    // Of the granules at the ends only the bytes that are the range's count.
    let from_first = 0xff << (addr & 7);
    let to_last = 0xff >> (7 - (last & 7));
    let differs = |granule: usize| (Granule::of(granule).cell(0).load(Relaxed) ^ all) & bits;
    if (addr ^ last) & !7 == 0 {
        return differs(addr) & (!0xff | from_first & to_last) == 0;
    }
    let (inner, end) = ((addr | 7) + 1, last & !7);
    differs(addr) & (!0xff | from_first & 0xff) | differs(last) & (!0xff | to_last) == 0
        && skip_alike(inner, end, all, bits) == end
}

/// The bits of a cell that must be alike where it stands for an access: all, but a write stands for a read.
#[inline(always)]
fn bits_of(flags: u64) -> u64 {
    if flags == READ { !READ } else { !0 }
}

/// The first granule of `[from, to)`, which lie in one chunk, that cell 0 alone does not show as known in all its bytes; at least `to` if there is
/// none.
#[inline(always)]
fn after_known(from: usize, to: usize, template: u64, flags: u64) -> usize {
    let end = to.next_multiple_of(8);
    shadow::skip_alike(from, end, template | flags | 0xff, bits_of(flags))
}

/// Whether an atomic access within eight bytes that have shadow is known by cell 0 or 1.
#[inline(always)]
pub(crate) fn is_known_atomic(c: &Ctx, addr: usize, size: usize, flags: u64) -> bool {
    let bytes = u64::from(bytes_in(addr & !7, addr, addr + size));
    let new = Cell(c.head.fast & !FLAGS & !0xff | flags | bytes);
    let (zero, one) = Granule::of(addr).pair();
    zero.makes_known(new) || one.makes_known(new)
}

/// Marks an atomic access by `c`. When, and whether under the lock of the address's sync object, is `atomic`'s to say.
///
/// The mark takes its place where it is, by one step: no inlined code looks for it, and what it stands for is mostly the marks of other
/// atomic accesses, which race with none of these.
pub(crate) fn check_atomic(c: &mut Ctx, addr: usize, size: usize, flags: u64, pc: Pc) {
    let granule = addr & !7;
    if !c.is_as_usual() || !shadow::is_mapped(addr) || addr + size > granule + 8 {
        check(c, addr, size, flags, pc);
        return;
    }
    let g = Granule::of(granule);
    let template = c.template().unwrap_or(0);
    let new = Cell(template | flags | u64::from(bytes_in(granule, addr, addr + size)));
    let mut cells = g.cells();
    if cells.iter().any(|old| old.makes_known(new)) {
        return;
    }
    if cells[0].is_empty() {
        pages::note(granule, pages::CELLS);
        cells = g.cells();
    }
    let access = Access {
        addr,
        size,
        flags,
        pc,
    };
    c.remember(access.event());
    if let Some((i, cell)) = in_place(c, cells, new) {
        g.cell(i).store(cell.0, Relaxed);
        return;
    }
    let (own, displaced) = loop {
        let (i, old) = choose(c, g, new);
        if i >= 2 {
            pages::note(granule, pages::DEEP);
        }
        let whole = match old.is_same_kind(new) {
            true => new.with_bytes_of(old),
            false => new,
        };
        let cell = g.cell(i);
        if cell
            .compare_exchange(old.0, whole.0, SeqCst, Relaxed)
            .is_ok()
        {
            break (i, Some(old).filter(|o| races(c, *o, new)));
        }
    };
    if let Some(old) = compare(c, g, new, own).or(displaced) {
        report::race(c, access, granule, old, new);
    }
}

/// What `check_quickly` leaves to be done.
#[derive(Debug, Default)]
pub(crate) enum Left {
    #[default]
    Nothing,
    /// The history is full.
    Turn,
    /// All of it.
    Check(Access),
    /// The report.
    Report {
        access: Access,
        granule: usize,
        old: Cell,
        new: Cell,
    },
}

/// [`check`], as far as it is usual. True: that was all; false: `c.left` says what is not done yet.
///
/// The access counts, and is of at least one byte and at most a chunk. `again`: what is known counts as unknown. It may call no function of the
/// C library, hence the inlining: its caller has not saved the registers for that (`abi/thunk.rs`).
#[inline(always)]
pub(crate) fn check_quickly(
    c: &mut Ctx,
    addr: usize,
    size: usize,
    flags: u64,
    pc: Pc,
    again: bool,
) -> bool {
    let access = Access {
        addr,
        size,
        flags,
        pc,
    };
    let end = addr.saturating_add(size);
    let mut remembered = false;
    if !c.is_ready() || !shadow::is_mapped(addr) || !shadow::is_mapped(end - 1) {
        c.left = Left::Check(access);
        return false;
    }
    let template = c.template().unwrap_or(0);
    let mut is_race = false;
    let mut granule = addr & !7;
    while granule < end {
        let g = Granule::of(granule);
        let new = Cell(template | flags | u64::from(bytes_in(granule, addr, end)));
        match known_by(g, new).filter(|_| !again) {
            // To the front, so that inlined code finds it the next time. Not from further away: for a moment it would be nowhere.
            Some(1) => {
                let (front, known) = g.pair();
                g.replace_pair((front, known), (known, front));
            }
            Some(_) => {}
            None => {
                pages::note(granule, pages::CELLS);
                if !remembered && access.pc.location().is_some() {
                    // Its callers are to be looked for, which takes functions of the C library.
                    c.left = Left::Check(access);
                    return false;
                }
                if !remembered {
                    remembered = true;
                    c.remember_in_room(access.event());
                }
                if let Some(old) = place(c, granule, new)
                    && !is_race
                {
                    is_race = true;
                    c.left = Left::Report {
                        access: access.at_granule(granule),
                        granule,
                        old,
                        new,
                    };
                }
            }
        }
        granule += 8;
    }
    !is_race
}

/// The cell that stands for the new access, of the same goroutine and epoch.
#[inline(always)]
fn known_by(g: Granule, new: Cell) -> Option<usize> {
    for i in 0..CELLS {
        let old = Cell(g.cell(i).load(Relaxed));
        if old.is_empty() && i == 1 {
            return None; // by the shadow's invariant 2 the rest is empty too
        }
        if old.makes_known(new) {
            return Some(i);
        }
    }
    None
}

/// Puts the access among the cells of the granule at `addr`, in front, and returns a cell that races with it.
#[inline(always)]
pub(crate) fn place(c: &mut Ctx, addr: usize, new: Cell) -> Option<Cell> {
    let g = Granule::of(addr);
    let (zero, one) = g.pair();
    let is_deep = || g.cell(2).load(SeqCst) | g.cell(3).load(SeqCst) != 0;
    if let Some((first, second)) = in_pair(c, zero, one, is_deep, new) {
        if c.is_own(zero) {
            if second != one {
                g.cell(1).store(second.0, Relaxed);
            }
            g.cell(0).store(first.0, Relaxed);
            return None;
        }
        // Others may have come meanwhile, while both were in use: then they are looked at by who comes here next, and by us now.
        if g.replace_pair((zero, one), (first, second)) && (one.is_empty() || !is_deep()) {
            return None;
        }
    }
    if let Some((i, cell)) = in_place(c, g.cells(), new) {
        g.cell(i).store(cell.0, Relaxed);
        return None;
    }
    let mut whole = new;
    loop {
        let (i, old) = choose(c, g, new);
        if i >= 2 {
            pages::note(addr, pages::DEEP);
        }
        if old.is_same_kind(new) {
            whole = whole.with_bytes_of(old);
        }
        if !put_in_front(g, i, old, whole) {
            continue;
        }
        let displaced = Some(old).filter(|o| races(c, *o, new));
        give_up_others(c, g, whole);
        return compare(c, g, new, 0).or(displaced);
    }
}

/// Gives up all cells that `new`, in cell 0, stands for and that are ordered before it: room for others, and a granule without cells in
/// plane B is a quicker one. Cell 1 becomes a copy, for the shadow's invariant 2.
#[inline(always)]
fn give_up_others(c: &Ctx, g: Granule, new: Cell) {
    for i in 1..CELLS {
        let old = Cell(g.cell(i).load(Relaxed));
        if old.is_empty() {
            continue;
        }
        if old != new && new.stands_for(old) && c.clock.covers(old.slot(), old.epoch()) {
            let left = if i == 1 { new } else { Cell::EMPTY };
            // Where somebody was faster, it is left to the next.
            let _ = g.cell(i).compare_exchange(old.0, left.0, SeqCst, Relaxed);
        }
    }
}

/// What becomes of cells 0 and 1, `zero` and `one`, where that is all there is to do: there are no others, neither of the two
/// races with the access, and one of them is free or stands for less.
///
/// Where both cells are given up the access takes both, for the shadow's invariant 2.
#[inline(always)]
pub(crate) fn in_pair(
    c: &Ctx,
    zero: Cell,
    one: Cell,
    is_deep: impl FnOnce() -> bool,
    new: Cell,
) -> Option<(Cell, Cell)> {
    let ordered = |o: Cell| c.is_own(o) || c.clock.covers(o.slot(), o.epoch());
    let yields = |o: Cell| new.stands_for(o) && ordered(o);
    if zero.is_empty() {
        return one.is_empty().then_some((new, one));
    }
    if races(c, zero, new) || races(c, one, new) {
        return None;
    }
    if one.is_empty() {
        return Some(match (zero.is_same_kind(new), yields(zero)) {
            (true, _) => (new.with_bytes_of(zero), one),
            (_, true) => (new, one),
            _ => (new, zero),
        });
    }
    if is_deep() {
        return None;
    }
    if zero == one {
        return Some((new, zero));
    }
    if zero.is_same_kind(new) {
        return Some((new.with_bytes_of(zero), one));
    }
    if one.is_same_kind(new) {
        return Some((new.with_bytes_of(one), zero));
    }
    match (yields(zero), yields(one)) {
        (true, true) => Some((new, new)),
        (true, false) => Some((new, one)),
        (false, true) => Some((new, zero)),
        _ => {
            let is_later = c.is_own(zero) && c.is_own(one) && zero.epoch() >= one.epoch();
            (is_later && zero.stands_for(one)).then_some((new, zero))
        }
    }
}

/// Which cell becomes what where others than 0 and 1 are in use, none races with the access, and it stands for an older one of the goroutine's own.
///
/// It stays where it is: such memory is read by several, and each finds its own there.
#[inline(always)]
pub(crate) fn in_place(c: &Ctx, cells: [Cell; CELLS], new: Cell) -> Option<(usize, Cell)> {
    let mut found = None;
    for (i, &o) in cells.iter().enumerate() {
        if o.is_empty() {
            continue;
        }
        if c.is_own(o) {
            if found.is_none() && (o.is_same_kind(new) || new.stands_for(o)) {
                found = Some(i);
            }
        } else if races(c, o, new) {
            return None;
        }
    }
    let i = found?;
    Some(match cells[i].is_same_kind(new) {
        true => (i, new.with_bytes_of(cells[i])),
        false => (i, new),
    })
}

/// Puts `new` into cell 0, what is there into cell `i`, and gives up `old`, which is there. False: somebody was faster.
///
/// The move leaves a copy for a moment, never a gap: who looks at the cells in their order sees what was in cell 0 there, or where it
/// has gone.
#[inline(always)]
fn put_in_front(g: Granule, i: usize, old: Cell, new: Cell) -> bool {
    let swap = |i: usize, from: Cell, to: Cell| {
        g.cell(i)
            .compare_exchange(from.0, to.0, SeqCst, Relaxed)
            .is_ok()
    };
    if i == 0 {
        return swap(0, old, new);
    }
    let front = Cell(g.cell(0).load(Relaxed));
    swap(i, old, front) && swap(0, front, new)
}

/// What is given up for the access; see the header.
#[inline(always)]
fn choose(c: &mut Ctx, g: Granule, new: Cell) -> (usize, Cell) {
    let load = |i: usize| Cell(g.cell(i).load(Relaxed));
    let mut cells = [load(0), load(1), Cell::EMPTY, Cell::EMPTY];
    let mut count = 2;
    if !cells[0].is_empty() && !cells[1].is_empty() {
        (cells[2], cells[3]) = (load(2), load(3));
        count = CELLS;
    }
    let ordered = |o: Cell| c.clock.covers(o.slot(), o.epoch());
    let mut best = (usize::MAX, 0);
    for (i, &o) in cells[..count].iter().enumerate() {
        let choice = if !o.is_empty() && new.stands_for(o) && ordered(o) {
            1
        } else if !o.is_empty() && o.is_same_kind(new) {
            2
        } else if o.mask() == 0 || cells[..i].contains(&o) {
            3
        } else {
            continue;
        };
        best = best.min((choice, i));
    }
    if best.0 <= 3 {
        return (best.1, cells[best.1]);
    }
    let rank = |o: Cell| u32::from(o.is_read()) * (1 + u32::from(ordered(o)));
    let best = cells.iter().map(|o| rank(*o)).max().unwrap_or(0);
    let rank_of = cells.map(rank);
    let start = c.random() as usize;
    let victim = (0..CELLS)
        .map(|i| (start + i) % CELLS)
        .find(|&i| rank_of[i] == best)
        .unwrap_or(0);
    EVICTED.fetch_add(1, Relaxed);
    (victim, cells[victim])
}

#[inline(always)]
pub(crate) fn races(c: &Ctx, old: Cell, new: Cell) -> bool {
    old.conflicts(new) && !c.is_own(old) && !c.clock.covers(old.slot(), old.epoch())
}

/// A cell other than `own` that races with the access.
#[inline(always)]
pub(crate) fn compare(c: &Ctx, g: Granule, new: Cell, own: usize) -> Option<Cell> {
    let load = |i: usize| Cell(g.cell(i).load(SeqCst)); // SeqCst: see the header
    let (zero, one) = (load(0), load(1));
    let racing = |i: usize, old: Cell| (i != own && races(c, old, new)).then_some(old);
    let in_a = racing(0, zero).or_else(|| racing(1, one));
    if in_a.is_some() || zero.is_empty() || one.is_empty() {
        return in_a;
    }
    racing(2, load(2)).or_else(|| racing(3, load(3)))
}

/// Does what [`check_quickly`] has left. Returns whether there is a race, as [`check`].
pub(crate) fn finish(c: &mut Ctx) -> bool {
    match std::mem::replace(&mut c.left, Left::Nothing) {
        Left::Nothing => false,
        Left::Turn => {
            c.turn();
            false
        }
        Left::Check(Access {
            addr,
            size,
            flags,
            pc,
        }) => check(c, addr, size, flags, pc),
        Left::Report {
            access,
            granule,
            old,
            new,
        } => {
            report::race(c, access, granule, old, new);
            true
        }
    }
}

/// Bytes up to which most ranges are not known in parts: beyond, [`check`] skips what is.
const SMALL: usize = 64;

/// [`check`], quickly where that is possible.
pub(crate) fn check_at_once(c: &mut Ctx, addr: usize, size: usize, flags: u64, pc: Pc) -> bool {
    if size == 0 || !c.watches_accesses() {
        return false;
    }
    if size > SMALL {
        return check(c, addr, size, flags, pc);
    }
    !check_quickly(c, addr, size, flags, pc, false) && finish(c)
}

fn event(addr: usize, size: usize, flags: u64, pc: Pc) -> bool {
    current().is_some_and(|ctx| check_at_once(ctx.get(), addr, size, flags, pc))
}

/// [`read`], which returns whether it races, reported or not.
#[inline(never)]
pub fn read_races(addr: usize, size: usize, pc: Pc) -> bool {
    event(addr, size, READ, pc)
}

/// [`write()`], which returns whether it races, reported or not.
#[inline(never)]
pub fn write_races(addr: usize, size: usize, pc: Pc) -> bool {
    event(addr, size, 0, pc)
}

/// The current goroutine reads `size` bytes at `addr`: 1 to 16, aligned or not.
#[inline(never)]
pub fn read(addr: usize, size: usize, pc: Pc) {
    event(addr, size, READ, pc);
}

/// The current goroutine writes `size` bytes at `addr`: 1 to 16, aligned or not.
#[inline(never)]
pub fn write(addr: usize, size: usize, pc: Pc) {
    event(addr, size, 0, pc);
}

/// The current goroutine reads any number of bytes at `addr`.
#[inline(never)]
pub fn read_range(addr: usize, size: usize, pc: Pc) {
    event(addr, size, READ, pc);
}

/// The current goroutine writes any number of bytes at `addr`.
#[inline(never)]
pub fn write_range(addr: usize, size: usize, pc: Pc) {
    event(addr, size, 0, pc);
}

/// The current goroutine reads any number of bytes at `addr`, among which there may be atomics, which others change
/// meanwhile: a race with plain writes only.
#[inline(never)]
pub fn read_cells(addr: usize, size: usize, pc: Pc) {
    event(addr, size, READ | ATOMIC, pc);
}

fn event_within(caller_pc: Pc, addr: usize, size: usize, flags: u64, pc: Pc) {
    func_enter(caller_pc);
    event(addr, size, flags, pc);
    func_exit();
}

/// [`read`] in a function that was called at `caller_pc`: reports show both frames.
#[inline(never)]
pub fn read_pc(addr: usize, size: usize, caller_pc: Pc, pc: Pc) {
    event_within(caller_pc, addr, size, READ, pc);
}

/// [`write()`] in a function that was called at `caller_pc`.
#[inline(never)]
pub fn write_pc(addr: usize, size: usize, caller_pc: Pc, pc: Pc) {
    event_within(caller_pc, addr, size, 0, pc);
}

/// [`read_range`] in a function that was called at `caller_pc`.
#[inline(never)]
pub fn read_range_pc(addr: usize, size: usize, caller_pc: Pc, pc: Pc) {
    event_within(caller_pc, addr, size, READ, pc);
}

/// [`write_range`] in a function that was called at `caller_pc`.
#[inline(never)]
pub fn write_range_pc(addr: usize, size: usize, caller_pc: Pc, pc: Pc) {
    event_within(caller_pc, addr, size, 0, pc);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goroutine::{go_end, go_start};
    use crate::testing::{detector, fresh_memory, fresh_pc, on, take_races};

    /// A size that is a mistake takes no time, and what lies in the range counts.
    #[test]
    fn a_range_of_any_size_ends() {
        let _d = detector();
        let me = go_start(None, 1 << 40, fresh_pc());
        let other = on(me, || go_start(Some(me), 2, fresh_pc()));
        // The rest of what is in use is marked too: nobody else's is among that.
        let memory = fresh_memory(2 * shadow::CHUNK);
        on(other, || write(memory + 800, 8, fresh_pc()));
        for size in [1 << 40, usize::MAX, 1 << 31] {
            on(me, || read_range(memory, size, fresh_pc()));
            assert_eq!(take_races().len(), usize::from(size == 1 << 40));
            on(me, || write_range(usize::MAX - 100, size, fresh_pc()));
        }
        assert!(take_races().is_empty());
        go_end(other);
        go_end(me);
    }

    #[test]
    fn a_range_is_known_when_each_of_its_granules_is() {
        let _d = detector();
        let me = crate::goroutine::go_start(None, 1, fresh_pc());
        let memory = fresh_memory(4096);
        on(me, || {
            let c = me.get();
            let mut known = 0;
            for round in 0..2000 {
                crate::clear_shadow(memory, 256);
                let count = 1 + c.random() % 6;
                for _ in 0..count {
                    let at = memory + c.random() as usize % 128;
                    let flags = if c.random().is_multiple_of(2) {
                        READ
                    } else {
                        0
                    };
                    let size = 1 + c.random() as usize % 120;
                    check(c, at, size, flags, fresh_pc());
                }
                for _ in 0..100 {
                    let at = memory + c.random() as usize % 128;
                    let size = c.random() as usize % 100;
                    let flags = if c.random().is_multiple_of(2) {
                        READ
                    } else {
                        0
                    };
                    let template = c.template().expect("a slot");
                    let mut granules = (at & !7..at + size).step_by(8);
                    let expected = size == 0
                        || granules.all(|granule| {
                            let bytes = bytes_in(granule, at, at + size);
                            let new = Cell(template | flags | u64::from(bytes));
                            let old = Cell(Granule::of(granule).cell(0).load(Relaxed));
                            old.is_same_time(new) && old.stands_for(new)
                        });
                    known += usize::from(expected);
                    let found = is_known_range(c, at, size, flags);
                    assert_eq!(found, expected, "round {round}: {at:x} {size}");
                }
            }
            assert!(known > 10_000, "{known}");
        });
        crate::clear_shadow(memory, 256);
        crate::goroutine::go_end(me);
    }
}
