//! Vector clocks over slots: a block of constant size, whatever the number of goroutines, and another where more than sixty-four run at once.
//!
//! A clock says of every slot which of its epochs happened before the clock's owner: all up to `hi(slot)`, but for the
//! listed *gaps*.
//!
//! # Why gaps
//! A slot is held by one goroutine after another, its epoch only ever growing. When B takes a slot that A left at epoch
//! 9, B starts at 10. B need not be ordered after A: if B had acquired the slot only up to 4, then 5..=9 are A's epochs
//! that B knows nothing of, and neither does anyone who acquires from B. With a single number per slot B's own epoch 10
//! would have to cover them, and A's races with B and with everyone after B would be missed. So B's clock records the
//! gap 5..=9; joins intersect gaps, since an epoch is unknown to the union only if it is unknown to both. This is exact.
//!
//! The list holds [`MAX_GAPS`]; beyond that the gap that lies furthest behind its slot's epoch is closed, that is: these
//! old epochs count as ordered. That can hide a race (never invent one), and needs dozens of goroutines that displaced
//! each other from slots without any synchronisation between them; [`Clock::join`] tells its caller how many were closed.
//!
//! # Invariants
//! 1. `hi(s) == 0` for `s >= len`; `len` is a multiple of 8, and beyond `NEAR` only with `far`.
//! 2. Gaps are disjoint, ascending by (slot, epoch), and each ends below its slot's `hi`.
//! 3. `gap_slots` has the bit of every slot that has a gap, and no bit if there is none.
//!
//! # References
//! LLVM's ThreadSanitizer v3 has the idea of slots (`tsan_rtl.cpp`, SlotAttachAndLock); it lets a new holder cover its
//! predecessor's epochs, which is what the gaps here repair.

use std::mem::offset_of;
use std::ops::BitOr;
use std::ptr::NonNull;

use crate::mem::Kind;
use crate::proc;

/// Number of slots: as many as fit a cell's eight bits.
pub(crate) const SLOTS: usize = 256;
/// Slots whose epochs are in the clock itself. As many as most programs ever use: `slot` takes others only when all these are held.
pub(crate) const NEAR: usize = 64;
/// Gaps a clock can hold.
pub(crate) const MAX_GAPS: usize = 30;

/// Slot and epoch in one ordered word: slot in the top 8 bits, epoch (45 bits) below.
type Key = u64;
const SLOT_SHIFT: u32 = 56;
const EPOCH_MASK: u64 = (1 << SLOT_SHIFT) - 1;

fn key(slot: usize, epoch: u64) -> Key {
    (slot as u64) << SLOT_SHIFT | epoch
}

/// Unknown epochs of one slot, both ends included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
struct Gap {
    from: Key,
    to: Key,
}

impl Gap {
    fn slot(self) -> usize {
        (self.from >> SLOT_SHIFT) as usize
    }
    /// What is in both; nothing, if it ends before it begins.
    fn intersect(self, other: Gap) -> Gap {
        Gap {
            from: self.from.max(other.from),
            to: self.to.min(other.to),
        }
    }
}

/// Epochs of the slots from [`NEAR`] on.
pub(crate) type Far = [u64; SLOTS - NEAR];

/// A vector clock. All zero bytes are the empty clock.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Clock {
    /// The pool's, while the clock is in none's hands: a small program's clock has the rest of what counts in one cache line.
    _link: u64,
    len: u32,
    gap_count: u32,
    /// The epochs of the other slots, once any has one; kept for ever.
    far: Option<NonNull<Far>>,
    hi: [u64; NEAR],
    gap_slots: [u64; SLOTS / 64],
    gaps: [Gap; MAX_GAPS],
}

/// For `abi::place`: where a clock has its epochs, and the bits of slots that have gaps.
pub(crate) const HI: usize = offset_of!(Clock, hi);
pub(crate) const GAP_SLOTS: usize = offset_of!(Clock, gap_slots);

impl Clock {
    /// The empty clock.
    #[cfg(test)]
    pub(crate) fn new() -> Clock {
        Clock {
            _link: 0,
            len: 0,
            gap_count: 0,
            far: None,
            hi: [0; NEAR],
            gap_slots: [0; SLOTS / 64],
            gaps: [Gap::default(); MAX_GAPS],
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.fill_zero(0, self.len as usize);
        self.len = 0;
        self.clear_gaps();
    }

    /// The epoch of a slot up to which all happened before, but for the gaps.
    #[inline]
    fn hi(&self, slot: usize) -> u64 {
        match slot.checked_sub(NEAR) {
            None => self.hi[slot],
            Some(i) => self.far()[i],
        }
    }

    fn set_hi(&mut self, slot: usize, epoch: u64) {
        match slot.checked_sub(NEAR) {
            None => self.hi[slot] = epoch,
            Some(i) => self.far_mut()[i] = epoch,
        }
    }

    fn far(&self) -> &Far {
        const NONE: Far = [0; SLOTS - NEAR];
        // SAFETY: from `far_mut`: the clock's own, mapped for ever.
        self.far.map_or(&NONE, |far| unsafe { far.as_ref() })
    }

    fn far_mut(&mut self) -> &mut Far {
        let far = self.far.get_or_insert_with(|| {
            let mut far: NonNull<Far> = proc::take(Kind::FarClock).cast();
            // SAFETY: pool memory of this kind, ours alone now.
            unsafe { far.as_mut() }.fill(0);
            far
        });
        // SAFETY: as in `far`; the clock is borrowed mutably.
        unsafe { far.as_mut() }
    }

    /// Of `[from, to)`.
    fn fill_zero(&mut self, from: usize, to: usize) {
        self.hi[from.min(NEAR)..to.min(NEAR)].fill(0);
        if to > NEAR {
            self.far_mut()[from.max(NEAR) - NEAR..to - NEAR].fill(0);
        }
    }

    fn clear_gaps(&mut self) {
        if self.gap_count != 0 {
            self.gap_count = 0;
            self.gap_slots = [0; SLOTS / 64];
        }
    }

    /// Whether the slot's epoch happened before this clock's owner.
    #[inline]
    pub(crate) fn covers(&self, slot: usize, epoch: u64) -> bool {
        self.hi(slot) >= epoch
            && (self.gap_slots[slot / 64] >> (slot % 64) & 1 == 0 || !self.in_gap(slot, epoch))
    }

    #[cold]
    fn in_gap(&self, slot: usize, epoch: u64) -> bool {
        let k = key(slot, epoch);
        self.gaps().iter().any(|g| g.from <= k && k <= g.to)
    }

    fn gaps(&self) -> &[Gap] {
        &self.gaps[..self.gap_count as usize]
    }

    /// The own slot's epoch moved on.
    #[inline]
    pub(crate) fn advance(&mut self, slot: usize, epoch: u64) {
        debug_assert!(self.hi(slot) < epoch, "epochs only grow");
        self.set_hi(slot, epoch);
        self.len = self.len.max((slot as u32 + 8) & !7);
    }

    /// The owner takes over a slot that was last marked at epoch `last`, and starts at `start`, above every epoch the
    /// slot had; returns the gaps closed.
    pub(crate) fn take_slot(&mut self, slot: usize, last: u64, start: u64) -> u32 {
        let known = self.hi(slot);
        self.advance(slot, start);
        if known >= last {
            return 0;
        }
        let new = Gap {
            from: key(slot, known + 1),
            to: key(slot, last),
        };
        let (gaps, at) = (
            self.gaps(),
            self.gaps().partition_point(|g| g.from < new.from),
        );
        let count = gaps.len();
        if count < MAX_GAPS {
            self.gaps.copy_within(at..count, at + 1);
            self.gaps[at] = new;
            self.gap_count += 1;
            self.gap_slots[slot / 64] |= 1 << (slot % 64);
            return 0;
        }
        let mut all = Pieces::none();
        gaps[..at].iter().for_each(|g| all.push(*g));
        all.push(new);
        gaps[at..].iter().for_each(|g| all.push(*g));
        self.set_gaps(all)
    }

    /// The owner is ordered after all epochs up to `epoch` of the slot, whoever held it.
    pub(crate) fn cover_slot(&mut self, slot: usize, epoch: u64) {
        if self.hi(slot) < epoch {
            self.advance(slot, epoch);
        }
        if self.gap_count != 0 {
            let mut all = Pieces::none();
            for g in self
                .gaps()
                .iter()
                .filter(|g| g.slot() != slot || g.from > key(slot, epoch))
            {
                all.push(Gap {
                    from: g
                        .from
                        .max(key(g.slot(), if g.slot() == slot { epoch + 1 } else { 0 })),
                    to: g.to,
                });
            }
            self.set_gaps(all);
        }
    }

    /// Adds what `other` knows; returns how many gaps had to be closed for want of room.
    pub(crate) fn join(&mut self, other: &Clock) -> u32 {
        let gaps = self.meet(other);
        let closed = gaps.map_or(0, |gaps| self.set_gaps(gaps));
        let n = other.len as usize;
        let near = n.min(NEAR);
        join_epochs(&mut self.hi[..near], &other.hi[..near]);
        if n > NEAR {
            join_epochs(&mut self.far_mut()[..n - NEAR], &other.far()[..n - NEAR]);
        }
        self.len = self.len.max(other.len);
        closed
    }

    /// What is unknown to the union: gap and gap, gap and beyond the other's `hi`. None: it is what is unknown to this one.
    fn meet(&self, other: &Clock) -> Option<Pieces> {
        // Each gap ends below both `hi`s.
        (self.gaps() != other.gaps()).then(|| self.meet_gaps(other))
    }

    #[inline(never)]
    fn meet_gaps(&self, other: &Clock) -> Pieces {
        let mut both = Pieces::none();
        let (mut mine, mut theirs) = (self.gaps(), other.gaps());
        loop {
            // Who has no more gaps in a slot knows nothing beyond his epoch there.
            mine = both.take_before(first_slot(theirs), mine, other);
            theirs = both.take_before(first_slot(mine), theirs, self);
            if let (&[g, ref mine_rest @ ..], &[h, ref theirs_rest @ ..]) = (mine, theirs) {
                if g.slot() == h.slot() {
                    both.push(g.intersect(h));
                    if g.to <= h.to {
                        mine = mine_rest;
                    }
                    if h.to <= g.to {
                        theirs = theirs_rest;
                    }
                }
            } else if mine.is_empty() && theirs.is_empty() {
                return both;
            }
        }
    }

    fn beyond(&self, slot: usize) -> Gap {
        Gap {
            from: key(slot, self.hi(slot) + 1),
            to: key(slot, EPOCH_MASK),
        }
    }

    fn set_gaps(&mut self, mut all: Pieces) -> u32 {
        self.clear_gaps();
        let mut closed = 0;
        while all.len > MAX_GAPS {
            let behind = |g: &Gap| self.hi(g.slot()).saturating_sub(g.to & EPOCH_MASK);
            let gaps = all.gaps();
            let oldest = (0..gaps.len())
                .max_by_key(|&i| behind(&gaps[i]))
                .unwrap_or(0);
            gaps.copy_within(oldest + 1.., oldest);
            all.len -= 1;
            closed += 1;
        }
        let gaps = all.gaps();
        debug_assert!(gaps.is_sorted_by_key(|g| g.from), "invariant 2");
        self.gaps[..gaps.len()].copy_from_slice(gaps);
        self.gap_count = gaps.len() as u32;
        // Neighbours' bits are put together first: one after the other would wait for one word.
        for of_word in gaps.chunk_by(|g, h| g.slot() / 64 == h.slot() / 64) {
            let bits = of_word.iter().map(|g| 1 << (g.slot() % 64));
            self.gap_slots[of_word[0].slot() / 64] = bits.fold(0, BitOr::bitor);
        }
        closed
    }

    /// Adds what `other` knows, which becomes a copy of what this one was; returns how many gaps had to be closed for want of room.
    pub(crate) fn trade(&mut self, other: &mut Clock) -> u32 {
        let gaps = self.meet(other);
        other.copy_gaps(self);
        let closed = gaps.map_or(0, |gaps| self.set_gaps(gaps));
        let n = self.len.max(other.len) as usize;
        let near = n.min(NEAR);
        trade_epochs(&mut self.hi[..near], &mut other.hi[..near]);
        if n > NEAR {
            let far = n - NEAR;
            trade_epochs(&mut self.far_mut()[..far], &mut other.far_mut()[..far]);
        }
        (other.len, self.len) = (self.len, n as u32);
        closed
    }

    /// Becomes a copy of `other`.
    pub(crate) fn copy_from(&mut self, other: &Clock) {
        let (n, old) = (other.len as usize, self.len as usize);
        let near = n.min(NEAR);
        self.hi[..near].copy_from_slice(&other.hi[..near]);
        if n > NEAR {
            self.far_mut()[..n - NEAR].copy_from_slice(&other.far()[..n - NEAR]);
        }
        if old > n {
            self.fill_zero(n, old);
        }
        self.len = other.len;
        self.copy_gaps(other);
    }

    fn copy_gaps(&mut self, other: &Clock) {
        if other.gap_count == 0 {
            return self.clear_gaps();
        }
        let gaps = other.gaps();
        self.gaps[..gaps.len()].copy_from_slice(gaps);
        self.gap_count = other.gap_count;
        self.gap_slots = other.gap_slots;
    }
}

/// Defines a function over epochs twice: for any processor, and for those with AVX2, where the maximum of four words takes two instructions (ten for
/// two without).
macro_rules! over_epochs {
    ($(#[$doc:meta])* $name:ident($mine:ident, $theirs:ident: $theirs_type:ty) $body:block) => {
        $(#[$doc])*
        fn $name(mine: &mut [u64], theirs: $theirs_type) {
            #[inline(always)]
            fn body($mine: &mut [u64], $theirs: $theirs_type) $body

            #[target_feature(enable = "avx2")]
            fn wide(mine: &mut [u64], theirs: $theirs_type) {
                body(mine, theirs);
            }

            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has what it wants.
                unsafe { wide(mine, theirs) }
            } else {
                body(mine, theirs);
            }
        }
    };
}

over_epochs! {
    /// Each becomes the later of the two.
    join_epochs(mine, theirs: &[u64]) {
        for (mine, theirs) in mine.iter_mut().zip(theirs) {
            *mine = (*mine).max(*theirs);
        }
    }
}

over_epochs! {
    /// Each of mine becomes the later of the two, theirs what mine was.
    trade_epochs(mine, theirs: &mut [u64]) {
        for (mine, theirs) in mine.iter_mut().zip(theirs) {
            let before = *mine;
            *mine = before.max(*theirs);
            *theirs = before;
        }
    }
}

/// [`SLOTS`] if there is no gap.
fn first_slot(gaps: &[Gap]) -> usize {
    gaps.first().map_or(SLOTS, |g| g.slot())
}

/// Each piece of a join ends a gap of one clock or the other; one place more, for what is not a piece.
const PIECES: usize = 2 * MAX_GAPS + 1;

/// Room for the pieces of a join before the list is cut to size. In memory of its own: a goroutine's stack should stay within a page.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct GapList {
    _link: u64,
    len: usize,
    gaps: [Gap; PIECES],
}

/// A list from the pool.
struct Pieces(NonNull<GapList>);

impl Drop for Pieces {
    fn drop(&mut self) {
        proc::give(Kind::GapList, self.0.cast());
    }
}

impl std::ops::Deref for Pieces {
    type Target = GapList;
    fn deref(&self) -> &GapList {
        // SAFETY: pool memory of this kind, ours alone until `drop`; every bit pattern is a valid list.
        unsafe { self.0.as_ref() }
    }
}

impl std::ops::DerefMut for Pieces {
    fn deref_mut(&mut self) -> &mut GapList {
        // SAFETY: as in `deref`; borrowed mutably.
        unsafe { self.0.as_mut() }
    }
}

impl Pieces {
    fn none() -> Pieces {
        let mut list = Pieces(proc::take(Kind::GapList).cast());
        list.len = 0;
        list
    }
}

impl GapList {
    fn gaps(&mut self) -> &mut [Gap] {
        &mut self.gaps[..self.len]
    }

    /// Unless there is nothing in it.
    #[inline(always)]
    fn push(&mut self, gap: Gap) {
        self.gaps[self.len] = gap;
        self.len += usize::from(gap.from <= gap.to);
    }

    /// Of the gaps that come before the slot, what the other clock, without gaps there, does not know either. Returns the other gaps.
    #[inline(always)]
    fn take_before<'a>(&mut self, slot: usize, mut gaps: &'a [Gap], other: &Clock) -> &'a [Gap] {
        while let [g, rest @ ..] = gaps
            && g.slot() < slot
        {
            self.push(g.intersect(other.beyond(g.slot())));
            gaps = rest;
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// In a clock itself, and beyond.
    const SOME: [usize; 4] = [0, NEAR - 1, NEAR, SLOTS - 1];

    /// The same clock as a plain set of (slot, epoch).
    fn set(c: &Clock, top: u64) -> BTreeSet<(usize, u64)> {
        let all = SOME
            .into_iter()
            .flat_map(|s| (1..=top).map(move |e| (s, e)));
        all.filter(|&(s, e)| c.covers(s, e)).collect()
    }

    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn joins_are_set_unions() {
        let _d = crate::testing::detector();
        let mut r = 0x9e37_79b9_7f4a_7c15;
        for round in 0..300 {
            let mut last = [0u64; SLOTS];
            let mut clocks: Vec<Clock> = (0..6).map(|_| Clock::new()).collect();
            let mut sets: Vec<BTreeSet<(usize, u64)>> = vec![BTreeSet::new(); 6];
            for _ in 0..40 {
                let (i, j) = (random(&mut r) as usize % 6, random(&mut r) as usize % 6);
                if random(&mut r).is_multiple_of(2) {
                    let slot = SOME[random(&mut r) as usize % 4];
                    assert_eq!(
                        clocks[i].take_slot(slot, last[slot], last[slot] + 1),
                        0,
                        "round {round}"
                    );
                    last[slot] += 1;
                    sets[i].insert((slot, last[slot]));
                    if random(&mut r).is_multiple_of(2) {
                        last[slot] += 1;
                        clocks[i].advance(slot, last[slot]);
                        sets[i].insert((slot, last[slot]));
                    }
                } else if i != j {
                    let mut other = Clock::new();
                    other.copy_from(&clocks[j]);
                    let closed = if random(&mut r).is_multiple_of(2) {
                        clocks[i].join(&other)
                    } else {
                        let before = set(&clocks[i], 90);
                        let closed = clocks[i].trade(&mut other);
                        assert_eq!(set(&other, 90), before, "round {round}");
                        closed
                    };
                    assert_eq!(closed, 0, "round {round}");
                    let theirs = sets[j].clone();
                    sets[i].extend(theirs);
                }
                assert_eq!(set(&clocks[i], 90), sets[i], "round {round}");
            }
        }
    }

    #[test]
    fn a_full_list_closes_the_oldest_gap_only() {
        let _d = crate::testing::detector();
        let mut c = Clock::new();
        let mut last = 0;
        for _ in 0..MAX_GAPS {
            assert_eq!(c.take_slot(1, last + 1, last + 2), 0);
            last += 2;
        }
        assert!(!c.covers(1, 1));
        assert_eq!(c.take_slot(1, last + 1, last + 2), 1);
        assert!(c.covers(1, 1), "the oldest gap is closed");
        assert!(!c.covers(1, 3) && !c.covers(1, last + 1));
    }

    #[test]
    fn covering_a_slot_closes_its_gaps() {
        let _d = crate::testing::detector();
        let mut c = Clock::new();
        c.take_slot(2, 5, 6);
        c.take_slot(3, 7, 8);
        c.cover_slot(2, 6);
        assert!(c.covers(2, 3) && !c.covers(3, 3) && c.covers(3, 8));
        c.copy_from(&Clock::new());
        assert!(!c.covers(3, 8));
    }
}
