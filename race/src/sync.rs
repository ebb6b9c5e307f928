//! Sync objects: the clocks that addresses carry, found through the meta shadow.
//!
//! # States
//! An object is free, or of use `SYNC` (a clock for one exact address), `HEAP_BLOCK` (who allocated the heap block that
//! begins here, or began here and was freed), `VACANT`, or `BATON` (at no address, one [`Baton`]'s). A granule's meta word is the handle of the first object of a chain; objects
//! are added in front by compare-exchange and leave it only all together, when `remove` takes the whole granule. One that
//! goes alone (its neighbour in the granule lives on) leaves its place vacant, which the granule's next object takes.
//!
//! A block's record stays when the block is freed, until the memory is part of another block. One that begins at the same
//! address takes the record over in place: programs free and allocate the same few places over and over. The meta word
//! is, if it can, the number of the block's birth ([`BIRTH`], `births.rs`), and no object: it becomes one when another object of the granule
//! is made. Else it says ([`ALONE`]) that a granule has nothing but the record of the block that begins with it, so that
//! an allocation touches no object until it writes the record. A free looks only at pages that have sync objects: records are of a mark of
//! their own (`pages.rs`).
//!
//! # Invariants
//! 1. Objects stay mapped for ever and their shared fields are atomic: a walk over a chain that is being recycled reads
//!    other objects of this kind, and ends. Who found an object locks it and looks again whether it is still the
//!    address's; `use_` and `addr` change under the lock.
//! 2. `clock` is touched only with the lock held, or by the owner of the object's baton.
//! 3. A handle is never 0 for an object: 0 ends a chain.
//! 4. `count` (`count.rs`) changes with the lock held; it is odd from before the value at the address changes until the clock is the new value's. An
//!    operation that leaves the clock as it is changes nothing.
//! 5. A record's fields (`size`, `pc`, `goid`) are written by who owns the block's memory, without the lock. Nothing but reports
//!    depends on them: a program that gives one block out twice spoils a record, and no clock.
//! 6. A meta word that is [`ALONE`] is of a chain of one object, of use `HEAP_BLOCK`, for the first byte of the granule.
//!    Neither that nor [`BIRTH`] is a bit of any handle.
//! 7. Who looks for a clock looks for use `SYNC`: an object that is, was and becomes something else needs no lock for that.
//!
//! # What is known
//! A goroutine remembers of a few objects at which count its clock covered theirs ([`Known`]). At that count there is nothing to acquire, and an
//! atomic load needs no lock ([`glance`]). Of the last object that it saw by a relaxed load it remembers at which count a fence would cover it:
//! who spins does not keep others from the object.
//!
//! # Memory ordering
//! `make: compare_exchange Release on the meta word` ⇄ `find: load Acquire, remove: swap Acquire`: the object's fields.
//! A record may be written while it is read: its words are relaxed, and one has a sum of them all (`sealed`), by which the
//! reader knows a mixture. Objects are cold when they are used again: what allocations and frees do stores to them, and
//! waits for no load.
//!
//! # Blocking
//! Each object has a spin lock, held for a clock's copy or join, or for one atomic operation of the program. Making and
//! vacating take one of 64 locks by address before it.

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
use std::cell::UnsafeCell;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering::*};

use crate::count::Count;
use crate::ctx::{ClockBox, Ctx};
use crate::mem::{BLOCK, Kind, SpinGuard, SpinLock, fatal};
use crate::{Pc, births, pages, proc, shadow};

const FREE: u32 = 0;
/// Still in a chain, of no use: to be taken by the next object of the granule.
const VACANT: u32 = 3;
const SYNC: u32 = 1;
const HEAP_BLOCK: u32 = 2;
const BATON: u32 = 4;

/// In a meta word: its chain is one object, the record of a block that begins with the granule (invariant 6).
const ALONE: u32 = 1 << 31;
/// In a meta word: there is no object, but a block that begins with the granule, and the number of its birth.
const BIRTH: u32 = 1 << 30;

/// See the header.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct SyncObject {
    /// The link of the free list, of an object that is free.
    addr: AtomicUsize,
    lock: SpinLock,
    handle: AtomicU32,
    next: AtomicU32,
    use_: AtomicU32,
    clock: UnsafeCell<ClockBox>,
    size: AtomicUsize,
    pc: AtomicU64,
    goid: AtomicU64,
    /// How often the clock changed, or its address did, times two; odd while it does. Never begun anew.
    count: Count,
}

/// Objects per mapped block.
const PER_BLOCK: usize = BLOCK / size_of::<SyncObject>();
/// Blocks at most: a quarter of a thousand million objects.
const BLOCKS: usize = 1 << 14;
const _: () = assert!(BLOCKS * PER_BLOCK < BIRTH as usize);

static DIRECTORY: [AtomicPtr<SyncObject>; BLOCKS] =
    [const { AtomicPtr::new(std::ptr::null_mut()) }; BLOCKS];

/// Numbers a newly carved object; its pool carves in order, block by block.
pub(crate) fn number(object: NonNull<u8>, carved: usize) {
    let object: NonNull<SyncObject> = object.cast();
    let (block, index) = (carved / PER_BLOCK, carved % PER_BLOCK);
    if index == 0 {
        let Some(place) = DIRECTORY.get(block) else {
            fatal("too many synchronisation objects")
        };
        place.store(object.as_ptr(), Release); // pairs with `by_handle`
    }
    // SAFETY: pool memory of this kind, zeroed, mapped for ever.
    unsafe { object.as_ref() }
        .handle
        .store(carved as u32 + 1, Relaxed);
}

/// The object of a handle, or of a meta word.
fn by_handle(handle: u32) -> Option<&'static SyncObject> {
    if handle & BIRTH != 0 {
        return None;
    }
    let carved = (handle & !ALONE).checked_sub(1)? as usize;
    let block = DIRECTORY[carved / PER_BLOCK].load(Acquire);
    let at = block.wrapping_add(carved % PER_BLOCK);
    // SAFETY: a handle comes from `number`: its block is in the directory and mapped for ever.
    Some(unsafe { &*at })
}

/// A sync object that is locked, or a baton's.
#[derive(Debug)]
pub(crate) struct Held {
    sync: &'static SyncObject,
    _lock: Option<SpinGuard<'static>>,
}

impl Held {
    /// What was released here.
    fn clock(&mut self) -> &mut ClockBox {
        // SAFETY: invariant 2: the lock is held, or the baton borrowed, by this `Held` alone, which is borrowed mutably.
        unsafe { &mut *self.sync.clock.get() }
    }

    /// The value at the address, or the clock, is about to change.
    pub(crate) fn change(&mut self) {
        self.sync.count.begin();
    }

    /// Whether there is nothing here that the goroutine does not know, or nothing but what this change brings.
    fn is_known_to(&self, c: &Ctx) -> bool {
        let (before, after) = self.sync.count.around();
        c.known.knows(self.sync, before) || c.known.knows(self.sync, after)
    }

    /// The goroutine knows all that is here, and will when the change is over.
    fn note_known(&self, c: &mut Ctx) {
        c.known.note(self.sync, self.sync.count.around().1);
    }

    /// C joins M.
    pub(crate) fn acquire(&mut self, c: &mut Ctx) {
        if self.is_known_to(c) {
            return;
        }
        if let Some(clock) = self.clock().get() {
            c.acquire(clock);
        }
        self.note_known(c);
    }

    /// What a later fence of the goroutine's acquires joins M.
    pub(crate) fn acquire_by_fence(&mut self, c: &mut Ctx) {
        if self.is_known_to(c) {
            return;
        }
        if let Some(clock) = self.clock().get() {
            let closed = c.acquire_fence.get_or_new().join(clock);
            c.note_closed(closed);
        }
        c.known.by_fence = Known::at(self.sync, self.sync.count.around().1);
    }

    /// M becomes C.
    pub(crate) fn release(&mut self, c: &mut Ctx) {
        self.change();
        self.clock().get_or_new().copy_from(&c.clock);
        self.note_known(c);
    }

    /// M joins C.
    pub(crate) fn release_merge(&mut self, c: &mut Ctx) {
        if self.is_known_to(c) {
            return self.release(c);
        }
        self.change();
        let closed = self.clock().get_or_new().join(&c.clock);
        c.note_closed(closed);
    }

    /// M becomes C, C joins M as it was.
    pub(crate) fn release_acquire(&mut self, c: &mut Ctx) {
        if self.is_known_to(c) {
            return self.release(c);
        }
        self.change();
        let closed = c.clock.trade(self.clock().get_or_new());
        c.note_closed(closed);
        self.note_known(c);
    }

    /// M becomes what the goroutine knew at its last release fence, which is nothing if there was none; or joins that.
    pub(crate) fn release_by_fence(&mut self, c: &mut Ctx, merge: bool) {
        let is_known = !merge || self.is_known_to(c);
        self.change();
        match (c.release_fence.get(), merge) {
            (Some(from), true) => {
                let closed = self.clock().get_or_new().join(from);
                c.note_closed(closed);
            }
            (Some(from), false) => self.clock().get_or_new().copy_from(from),
            (None, true) => {}
            (None, false) => self.clock().release(),
        }
        if is_known {
            self.note_known(c);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.sync.count.end();
    }
}

/// Objects remembered by a goroutine.
const KNOWN: usize = 8;

/// Of which sync objects a goroutine knows all that they held, and at which count.
#[derive(Debug)]
pub(crate) struct Known {
    by_place: [(usize, u64); KNOWN],
    /// The object that a relaxed load looked at last: a fence would know all that it held.
    by_fence: (usize, u64),
}

impl Known {
    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.by_place = [(0, 0); KNOWN];
        self.by_fence = (0, 0);
    }

    fn at(object: &SyncObject, count: u64) -> (usize, u64) {
        (std::ptr::from_ref(object).addr(), count)
    }

    fn place(object: &SyncObject) -> usize {
        std::ptr::from_ref(object).addr() / size_of::<SyncObject>() % KNOWN
    }

    fn knows(&self, object: &SyncObject, count: u64) -> bool {
        self.by_place[Known::place(object)] == Known::at(object, count)
    }

    fn note(&mut self, object: &SyncObject, count: u64) {
        self.by_place[Known::place(object)] = Known::at(object, count);
    }
}

/// A sync object as it was at some moment, not locked.
#[derive(Debug)]
pub(crate) struct Glance {
    sync: &'static SyncObject,
    addr: usize,
    count: u64,
}

impl Glance {
    /// Whether the object held nothing that the goroutine does not know; `by_fence`: or would, after a fence.
    pub(crate) fn is_known_to(&self, c: &Ctx, by_fence: bool) -> bool {
        c.known.knows(self.sync, self.count)
            || by_fence && c.known.by_fence == Known::at(self.sync, self.count)
    }

    /// The object, locked, if it is still the address's.
    pub(crate) fn lock(self) -> Option<Held> {
        lock(self.sync, self.addr)
    }

    /// Whether the value that was loaded meanwhile is still what it was then, and the clock too.
    pub(crate) fn holds(&self) -> bool {
        self.sync.count.is_still(self.count) && self.sync.is(self.addr, SYNC)
    }
}

/// [`Glance`] of an address whose granule has no object, or the address's first of all.
#[derive(Debug)]
pub(crate) struct Peek {
    addr: usize,
    first: u32,
    of: Option<Glance>,
}

impl Peek {
    /// As [`Glance::is_known_to`], or whether there was no object.
    #[inline(always)]
    pub(crate) fn is_known_to(&self, c: &Ctx, by_fence: bool) -> bool {
        self.of
            .as_ref()
            .is_none_or(|seen| seen.is_known_to(c, by_fence))
    }

    /// As [`Glance::holds`]; where there was no object, whether there is none.
    #[inline(always)]
    pub(crate) fn holds(&self) -> bool {
        match &self.of {
            Some(seen) => seen.holds(),
            None => shadow::meta(self.addr).load(Acquire) == self.first,
        }
    }
}

/// [`glance`] at an address that has shadow, as far as that takes a few instructions; None: it takes more.
#[inline(always)]
pub(crate) fn peek(addr: usize) -> Option<Peek> {
    let first = shadow::meta(addr).load(Acquire);
    let of = if first == 0 || first & BIRTH != 0 {
        None
    } else {
        let sync = by_handle(first).filter(|s| s.is(addr, SYNC))?;
        let count = sync.count.now();
        Some(Glance { sync, addr, count })
    };
    Some(Peek { addr, first, of })
}

/// A look at the address's sync object, if it has one.
pub(crate) fn glance(addr: usize) -> Option<Glance> {
    if !shadow::is_watched(addr) {
        return None;
    }
    let sync = chain(shadow::meta(addr).load(Acquire)).find(|s| s.is(addr, SYNC))?;
    let count = sync.count.now();
    Some(Glance { sync, addr, count })
}

impl SyncObject {
    fn is(&self, addr: usize, use_: u32) -> bool {
        self.addr.load(Relaxed) == addr && self.use_.load(Relaxed) == use_
    }

    fn new(addr: usize, use_: u32) -> &'static SyncObject {
        let object: NonNull<SyncObject> = proc::take(Kind::Sync).cast();
        // SAFETY: pool memory of this kind, all of whose fields are valid when zero, mapped for ever.
        let s = unsafe { object.as_ref() };
        let held = (use_ == SYNC).then(|| s.lock.lock()); // else invariant 7
        s.addr.store(addr, Relaxed);
        s.use_.store(use_, Relaxed);
        drop(held);
        s
    }

    /// Whether it goes with the range, unless it is kept.
    fn goes_with(&self, granule: usize, range: &Range<usize>, keep: Keep) -> bool {
        let addr = self.addr.load(Relaxed);
        let in_use = matches!(self.use_.load(Relaxed), SYNC | HEAP_BLOCK);
        in_use && addr & !7 == granule && range.contains(&addr) && !keep.keeps(self)
    }

    /// Leaves the object's place vacant if it goes with the range.
    fn vacate(&self, granule: usize, range: &Range<usize>, keep: Keep) {
        let _held = self.lock.lock();
        if self.goes_with(granule, range, keep) {
            self.count.forget();
            self.use_.store(VACANT, Relaxed);
            self.addr.store(granule, Relaxed);
            // SAFETY: invariant 2.
            unsafe { &mut *self.clock.get() }.release();
        }
    }

    /// Writes the record of the block at `addr`.
    fn describe(&self, addr: usize, record: BlockRecord) {
        self.pc.store(record.made_at.bits(), Relaxed);
        self.goid.store(record.goid, Relaxed);
        self.size.store(record.sealed(addr), Relaxed);
    }

    /// The record of the block at `addr`; None where the words are not of one record of that block.
    fn record(&self, addr: usize) -> Option<BlockRecord> {
        let size = self.size.load(Relaxed);
        let record = BlockRecord {
            size: size & BlockRecord::SIZE,
            made_at: Pc::from_bits(self.pc.load(Relaxed)),
            goid: self.goid.load(Relaxed),
        };
        (record.sealed(addr) == size).then_some(record)
    }

    /// Gives back a record that was alone in its chain.
    fn give_record(&'static self) {
        self.use_.store(FREE, Relaxed); // invariant 7
        proc::give(Kind::Sync, NonNull::from(self).cast());
    }

    fn give(&'static self) {
        let held = self.lock.lock();
        self.count.forget();
        self.use_.store(FREE, Relaxed);
        // SAFETY: invariant 2.
        unsafe { &mut *self.clock.get() }.release();
        drop(held);
        proc::give(Kind::Sync, NonNull::from(self).cast());
    }
}

/// A sync object at no address, for who has a place to keep it and sees to it that one goroutine at a time uses it: nothing has to be
/// looked up or locked then. All zero bytes are a new one. When it is dropped, so is what was released through it.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Baton(Option<&'static SyncObject>);

impl Baton {
    /// For the change that its user makes.
    pub(crate) fn held(&mut self) -> Held {
        let sync = self.0.get_or_insert_with(|| SyncObject::new(0, BATON));
        Held { sync, _lock: None }
    }
}

/// Memory for `n` batons, all bytes zero, of which the detector hears nothing and of which only
/// those cost anything that are used.
#[must_use]
pub fn map_batons(n: usize) -> NonNull<Baton> {
    crate::mem::map(n.max(1) * size_of::<Baton>()).cast()
}

/// Gives the memory back. The batons are not dropped.
///
/// # Safety
///
/// It is from [`map_batons`] with the same `n`, and not used afterwards.
pub unsafe fn unmap_batons(batons: NonNull<Baton>, n: usize) {
    // SAFETY: by the contract.
    unsafe { crate::mem::unmap(batons.cast(), n.max(1) * size_of::<Baton>()) }
}

impl Drop for Baton {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(SyncObject::give);
    }
}

/// What a page of memory is marked with that has an object of this use.
fn mark_of(use_: u32) -> u8 {
    if use_ == HEAP_BLOCK {
        pages::RECORDS
    } else {
        pages::SYNC
    }
}

fn chain(first: u32) -> impl Iterator<Item = &'static SyncObject> {
    std::iter::successors(by_handle(first), |s| by_handle(s.next.load(Acquire)))
}

fn lock(sync: &'static SyncObject, addr: usize) -> Option<Held> {
    let lock = sync.lock.lock();
    // Lazily: who drops it changes the count.
    sync.is(addr, SYNC).then(|| Held {
        sync,
        _lock: Some(lock),
    })
}

fn lock_in_chain(first: u32, addr: usize) -> Option<Held> {
    lock(chain(first).find(|s| s.is(addr, SYNC))?, addr)
}

/// The address's sync object, if it has one.
pub(crate) fn find(addr: usize) -> Option<Held> {
    glance(addr).and_then(Glance::lock)
}

/// The address's sync object; None for an address that cannot be watched.
pub(crate) fn find_or_make(addr: usize) -> Option<Held> {
    if !shadow::is_watched(addr) {
        return None;
    }
    let meta = shadow::meta(addr);
    loop {
        if let Some(held) = lock_in_chain(meta.load(Acquire), addr) {
            return Some(held);
        }
        let _making = making(addr).lock();
        if !chain(meta.load(Acquire)).any(|s| s.is(addr, SYNC)) {
            make(addr, SYNC, None);
        }
    }
}

/// A lock with a cache line of its own.
#[derive(Debug)]
#[repr(align(64))]
struct Padded(SpinLock);

/// The lock under which objects of the address's granule are made and single ones removed.
fn making(addr: usize) -> &'static SpinLock {
    static STRIPES: [Padded; 64] = [const { Padded(SpinLock::new()) }; 64];
    // The high bits of a product: heap blocks of one size lie at distances of which a remainder would make one stripe.
    let hash = (addr as u64 >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    &STRIPES[(hash >> 58) as usize].0
}

/// Makes an object for the address, under the lock of `making`; with `record`, that of a block.
fn make(addr: usize, use_: u32, record: Option<BlockRecord>) {
    let meta = shadow::meta(addr);
    pages::note(addr, mark_of(use_));
    if let Some(s) = chain(meta.load(Acquire)).find(|s| s.is(addr & !7, VACANT)) {
        let _held = s.lock.lock();
        record.inspect(|record| s.describe(addr, *record));
        s.addr.store(addr, Relaxed);
        s.use_.store(use_, Relaxed);
        return;
    }
    let new = SyncObject::new(addr, use_);
    record.inspect(|record| new.describe(addr, *record));
    loop {
        let first = meta.load(Acquire);
        let born = born(first).map(|record| {
            let block = SyncObject::new(addr & !7, HEAP_BLOCK);
            block.describe(addr & !7, record);
            block.next.store(0, Relaxed);
            block
        });
        let rest = born.map_or(first & !ALONE, |block| block.handle.load(Relaxed));
        new.next.store(rest, Release);
        let handle = new.handle.load(Relaxed);
        if meta
            .compare_exchange(first, handle, Release, Relaxed)
            .is_ok()
        {
            return;
        }
        born.inspect(|block| block.give());
    }
}

/// Remembers who allocated the heap block that begins at `addr`, in place of the one before.
#[inline]
pub(crate) fn record_block(addr: usize, record: BlockRecord) {
    let first = shadow::meta(addr).load(Acquire);
    if (first == 0 || first & BIRTH != 0) && addr & 7 == 0 && record_birth(addr, first, &record) {
        return;
    }
    match by_handle(first) {
        Some(block) if first & ALONE != 0 && addr & 7 == 0 => block.describe(addr, record),
        None if addr & 7 == 0 && record_alone(addr, first, record) => {}
        _ => record_among_others(addr, record),
    }
}

/// Remembers the birth of the block at `addr`, where there is none or another's, `first`. False: it has no number, or an object was made
/// meanwhile.
#[inline(always)]
fn record_birth(addr: usize, first: u32, record: &BlockRecord) -> bool {
    let Some(number) = births::number(record) else {
        return false;
    };
    let word = BIRTH | number;
    pages::note(addr, pages::RECORDS);
    let meta = shadow::meta(addr);
    first == word || meta.compare_exchange(first, word, Relaxed, Relaxed).is_ok()
}

/// The record of the block whose birth is in the meta word.
fn born(word: u32) -> Option<BlockRecord> {
    births::record(word.checked_sub(BIRTH)?)
}

/// Makes the first object of the granule that begins at `addr`, where there is none, but `first`; false: there is one.
fn record_alone(addr: usize, first: u32, record: BlockRecord) -> bool {
    let new = SyncObject::new(addr, HEAP_BLOCK);
    new.describe(addr, record);
    new.next.store(0, Relaxed);
    pages::note(addr, pages::RECORDS);
    let handle = new.handle.load(Relaxed) | ALONE;
    let is_first = shadow::meta(addr)
        .compare_exchange(first, handle, Release, Relaxed)
        .is_ok();
    if !is_first {
        new.give_record();
    }
    is_first
}

#[cold]
#[inline(never)]
fn record_among_others(addr: usize, record: BlockRecord) {
    let _making = making(addr).lock();
    let first = shadow::meta(addr).load(Acquire);
    match chain(first).find(|s| s.is(addr, HEAP_BLOCK)) {
        Some(block) => block.describe(addr, record),
        None => make(addr, HEAP_BLOCK, Some(record)),
    }
}

/// What is known of a heap block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockRecord {
    pub(crate) size: usize,
    /// Where it was allocated: a place, or a whole stack.
    pub(crate) made_at: Pc,
    /// The goroutine that allocated it.
    pub(crate) goid: u64,
}

impl BlockRecord {
    /// The part of a sealed size that is the size.
    const SIZE: usize = (1 << 48) - 1;

    /// The size, and above it a sum of all there is to know of the block at `addr`.
    fn sealed(&self, addr: usize) -> usize {
        let size = self.size & Self::SIZE;
        let words = [size, self.made_at.bits() as usize, self.goid as usize];
        let mix = |sum: usize, word: &usize| {
            (sum.rotate_left(25) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        };
        size | words.iter().fold(addr, mix) & !Self::SIZE
    }
}

/// The block, alive or freed, that begins at `addr`.
pub(crate) fn block_at(addr: usize) -> Option<BlockRecord> {
    if !shadow::is_mapped(addr) {
        return None;
    }
    let first = shadow::meta(addr).load(Acquire);
    if addr & 7 == 0 && first & BIRTH != 0 {
        return born(first);
    }
    chain(first).find(|s| s.is(addr, HEAP_BLOCK))?.record(addr)
}

/// Which records outlive the sync objects around them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// None: the memory is nobody's.
    Nothing,
    /// Those of blocks: what goes lies in one, or is one.
    Blocks,
    /// That of the block that begins there.
    Block(usize),
}

impl Keep {
    /// The marks of pages where something may be to go.
    fn marks(self) -> u8 {
        match self {
            Keep::Blocks => pages::SYNC,
            Keep::Nothing | Keep::Block(_) => pages::SYNC | pages::RECORDS,
        }
    }

    /// Whether it keeps a record that is alone in the granule.
    fn keeps_alone(self, granule: usize) -> bool {
        self == Keep::Blocks || self == Keep::Block(granule)
    }

    fn keeps(self, object: &SyncObject) -> bool {
        match self {
            Keep::Nothing => false,
            Keep::Blocks => object.use_.load(Relaxed) == HEAP_BLOCK,
            Keep::Block(addr) => object.is(addr, HEAP_BLOCK),
        }
    }
}

/// The memory is gone: its sync objects are freed. Of a granule that lies inside in part only the objects inside are;
/// what shares it may be in use at this moment, so the chain stays, with their places vacant. So it does beside a record
/// that is kept.
pub(crate) fn remove(addr: usize, size: usize, keep: Keep) {
    let range = addr..addr.saturating_add(size);
    pages::each_marked(addr, size, keep.marks(), |part| {
        let mut left = 0;
        // The record of the block comes first; most blocks have nothing else.
        let (mut granule, mut step) = (part.start, part.start + 8);
        while granule < part.end {
            // All that goes is asked for before the first is waited for.
            (granule..step).step_by(8).skip(1).for_each(prefetch);
            for granule in (granule..step).step_by(8) {
                left |= remove_of(granule, &range, keep);
            }
            granule = shadow::skip_syncless(step, part.end);
            step = part.end.min(granule + 8 * shadow::STEP);
        }
        left
    });
}

/// Has the processor bring the first object of the granule.
#[inline(always)]
fn prefetch(granule: usize) {
    if let Some(object) = by_handle(shadow::meta(granule).load(Relaxed)) {
        // SAFETY: a prefetch touches nothing; every processor of this architecture has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(object).cast()) };
    }
}

/// The objects of a granule go, if their addresses are in the range. Returns the marks for what is left.
#[inline]
fn remove_of(granule: usize, range: &Range<usize>, keep: Keep) -> u8 {
    let first = shadow::meta(granule).load(Acquire);
    if first == 0 {
        0
    } else if first & (ALONE | BIRTH) != 0 && keep.keeps_alone(granule) {
        pages::RECORDS
    } else {
        remove_some(granule, range, keep)
    }
}

/// What is not kept alone goes.
#[inline(never)]
fn remove_some(granule: usize, range: &Range<usize>, keep: Keep) -> u8 {
    let meta = shadow::meta(granule);
    let mut first = meta.load(Acquire);
    while first & BIRTH != 0 {
        if !range.contains(&granule) {
            return pages::RECORDS;
        }
        match meta.compare_exchange(first, 0, Relaxed, Acquire) {
            Ok(_) => return 0,
            Err(now) => first = now,
        }
    }
    let is_cut = granule < range.start || range.end < granule + 8;
    let is_kept = || first & ALONE == 0 && chain(first).any(|object| keep.keeps(object));
    if is_cut || keep != Keep::Nothing && is_kept() {
        if chain(first).any(|object| object.goes_with(granule, range, keep)) {
            let _making = making(granule).lock();
            meta.fetch_and(!ALONE, Relaxed); // invariant 6
            chain(meta.load(Acquire)).for_each(|object| object.vacate(granule, range, keep));
        }
        return pages::SYNC | pages::RECORDS;
    }
    let mut handle = meta.swap(0, Acquire); // pairs with `make`
    if handle & ALONE != 0 {
        if let Some(record) = by_handle(handle) {
            record.give_record();
        }
        return 0;
    }
    while let Some(object) = by_handle(handle) {
        handle = object.next.load(Acquire);
        object.give();
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mixture_of_two_records_is_none() {
        let record = |size, pc, goid| BlockRecord {
            size,
            made_at: Pc::code(pc),
            goid,
        };
        let (one, other) = (record(64, 0x1000, 1), record(72, 0x1010, 2));
        let _d = crate::testing::detector();
        let object = SyncObject::new(0x5000, HEAP_BLOCK);
        object.size.store(0, Relaxed);
        assert_eq!(object.record(0x5000), None, "not written yet");
        object.describe(0x5000, one);
        assert_eq!(object.record(0x5000), Some(one));
        assert_eq!(object.record(0x5008), None, "another block's");
        object.pc.store(other.made_at.bits(), Relaxed);
        assert_eq!(object.record(0x5000), None);
        object.goid.store(other.goid, Relaxed);
        assert_eq!(object.record(0x5000), None);
        object.describe(0x5000, other);
        assert_eq!(object.record(0x5000), Some(other));
        object.give_record();
    }
}
