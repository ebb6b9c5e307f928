//! Sync objects: the clocks that addresses carry, found through the meta shadow.
//!
//! # States
//! An object is free, or of use `SYNC` (a clock for one exact address), `HEAP_BLOCK` (who allocated the heap block that
//! begins here, or began here and was freed), or `VACANT`. A granule's meta word is the handle of the first object of a chain; objects
//! are added in front by compare-exchange and leave it only all together, when `remove` takes the whole granule. One that
//! goes alone (its neighbour in the granule lives on) leaves its place vacant, which the granule's next object takes.
//!
//! A block's record stays when the block is freed, until the memory is part of another block. One that begins at the same
//! address takes the record over in place: programs free and allocate the same few places over and over. The meta word
//! itself says ([`ALONE`]) that a granule has nothing but the record of the block that begins with it, so that a free,
//! and an allocation until it writes the record, touch no object.
//!
//! # Invariants
//! 1. Objects stay mapped for ever and their shared fields are atomic: a walk over a chain that is being recycled reads
//!    other objects of this kind, and ends. Who found an object locks it and looks again whether it is still the
//!    address's; `use_` and `addr` change under the lock.
//! 2. `clock` is touched only with the lock held.
//! 3. A handle is never 0 for an object: 0 ends a chain.
//! 4. A record's fields (`size`, `pc`, `goid`) are written by who owns the block's memory, without the lock. Nothing but reports
//!    depends on them: a program that gives one block out twice spoils a record, and no clock.
//!
//! # Memory ordering
//! `make: compare_exchange Release on the meta word` ⇄ `find: load Acquire, remove: swap Acquire`: the object's fields.
//! A record is a sequence lock by its word `size`: `describe: size with CHANGING, fence Release, pc and goid, size store
//! Release` ⇄ `record: size load Acquire, pc and goid, fence Acquire, the same size`.
//!
//! # Blocking
//! Each object has a spin lock, held for a clock's copy or join, or for one atomic operation of the program. Making and
//! vacating take one of 64 locks by address before it.

use std::cell::UnsafeCell;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering::*, fence};

use crate::ctx::ClockBox;
use crate::mem::{BLOCK, Kind, Node, SpinGuard, SpinLock, fatal};
use crate::{Pc, pages, proc, shadow};

const FREE: u32 = 0;
/// Still in a chain, of no use: to be taken by the next object of the granule.
const VACANT: u32 = 3;
const SYNC: u32 = 1;
const HEAP_BLOCK: u32 = 2;

/// In a meta word: its chain is one object, the record of a block that begins with the granule.
const ALONE: u32 = 1 << 31;

/// The part of a record's word `size` that is the size. Above it: how often the record was written,
const SIZE: usize = (1 << 48) - 1;
/// with this bit set while it is.
const CHANGING: usize = SIZE + 1;

/// See the header.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct SyncObject {
    link: AtomicPtr<Node>,
    lock: SpinLock,
    handle: AtomicU32,
    next: AtomicU32,
    use_: AtomicU32,
    addr: AtomicUsize,
    clock: UnsafeCell<ClockBox>,
    size: AtomicUsize,
    pc: AtomicU64,
    goid: AtomicU64,
}

/// Objects per mapped block.
const PER_BLOCK: usize = BLOCK / size_of::<SyncObject>();
/// Blocks at most: a quarter of a thousand million objects.
const BLOCKS: usize = 1 << 14;

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
    let carved = (handle & !ALONE).checked_sub(1)? as usize;
    let block = DIRECTORY[carved / PER_BLOCK].load(Acquire);
    let at = block.wrapping_add(carved % PER_BLOCK);
    // SAFETY: a handle comes from `number`: its block is in the directory and mapped for ever.
    Some(unsafe { &*at })
}

/// A locked sync object.
#[derive(Debug)]
pub(crate) struct Held {
    sync: &'static SyncObject,
    _lock: SpinGuard<'static>,
}

impl Held {
    /// What was released here.
    pub(crate) fn clock(&mut self) -> &mut ClockBox {
        // SAFETY: invariant 2: the lock is held, by this `Held` alone, which is borrowed mutably.
        unsafe { &mut *self.sync.clock.get() }
    }
}

impl SyncObject {
    fn is(&self, addr: usize, use_: u32) -> bool {
        self.addr.load(Relaxed) == addr && self.use_.load(Relaxed) == use_
    }

    fn new(addr: usize, use_: u32) -> &'static SyncObject {
        let object: NonNull<SyncObject> = proc::take(Kind::Sync).cast();
        // SAFETY: pool memory of this kind, all of whose fields are valid when zero, mapped for ever.
        let s = unsafe { object.as_ref() };
        let held = s.lock.lock();
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
            self.use_.store(VACANT, Relaxed);
            self.addr.store(granule, Relaxed);
            // SAFETY: invariant 2.
            unsafe { &mut *self.clock.get() }.release();
        }
    }

    /// Writes the record of a block.
    fn describe(&self, record: BlockRecord) {
        let written = self.size.load(Relaxed) & !SIZE;
        self.size.store(written | CHANGING, Relaxed);
        fence(Release); // pairs with the one in `record`
        self.pc.store(record.made_at.bits(), Relaxed);
        self.goid.store(record.goid, Relaxed);
        let written = (written | CHANGING).wrapping_add(CHANGING);
        self.size.store(written | record.size & SIZE, Release);
    }

    /// The record of a block; None while it is being written.
    fn record(&self) -> Option<BlockRecord> {
        let size = self.size.load(Acquire);
        let record = BlockRecord {
            size: size & SIZE,
            made_at: Pc::from_bits(self.pc.load(Relaxed)),
            goid: self.goid.load(Relaxed),
        };
        fence(Acquire); // pairs with the one in `describe`
        let is_whole = size & CHANGING == 0 && self.size.load(Relaxed) == size;
        is_whole.then_some(record)
    }

    fn give(&'static self) {
        let held = self.lock.lock();
        self.use_.store(FREE, Relaxed);
        // SAFETY: invariant 2.
        unsafe { &mut *self.clock.get() }.release();
        drop(held);
        proc::give(Kind::Sync, NonNull::from(self).cast());
    }
}

fn chain(first: u32) -> impl Iterator<Item = &'static SyncObject> {
    std::iter::successors(by_handle(first), |s| by_handle(s.next.load(Acquire)))
}

fn lock_in_chain(first: u32, addr: usize) -> Option<Held> {
    let sync = chain(first).find(|s| s.is(addr, SYNC))?;
    let lock = sync.lock.lock();
    sync.is(addr, SYNC).then_some(Held { sync, _lock: lock })
}

/// The address's sync object, if it has one.
pub(crate) fn find(addr: usize) -> Option<Held> {
    if !shadow::is_watched(addr) {
        return None;
    }
    lock_in_chain(shadow::meta(addr).load(Acquire), addr)
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
    if let Some(s) = chain(meta.load(Acquire)).find(|s| s.is(addr & !7, VACANT)) {
        let _held = s.lock.lock();
        record.inspect(|record| s.describe(*record));
        s.addr.store(addr, Relaxed);
        s.use_.store(use_, Relaxed);
        return;
    }
    let new = SyncObject::new(addr, use_);
    record.inspect(|record| new.describe(*record));
    pages::note(addr, pages::SYNC);
    loop {
        let first = meta.load(Acquire);
        new.next.store(first & !ALONE, Release);
        let is_alone = first == 0 && use_ == HEAP_BLOCK && addr & 7 == 0;
        let handle = new.handle.load(Relaxed) | if is_alone { ALONE } else { 0 };
        if meta
            .compare_exchange(first, handle, Release, Relaxed)
            .is_ok()
        {
            return;
        }
    }
}

/// Remembers who allocated the heap block that begins at `addr`, in place of the one before.
#[inline]
pub(crate) fn record_block(addr: usize, record: BlockRecord) {
    let first = shadow::meta(addr).load(Acquire);
    match by_handle(first) {
        Some(block) if first & ALONE != 0 && addr & 7 == 0 => block.describe(record),
        _ => record_among_others(addr, record),
    }
}

#[cold]
#[inline(never)]
fn record_among_others(addr: usize, record: BlockRecord) {
    let _making = making(addr).lock();
    let first = shadow::meta(addr).load(Acquire);
    match chain(first).find(|s| s.is(addr, HEAP_BLOCK)) {
        Some(block) => block.describe(record),
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

/// The block, alive or freed, that begins at `addr`.
pub(crate) fn block_at(addr: usize) -> Option<BlockRecord> {
    if !shadow::is_mapped(addr) {
        return None;
    }
    let first = shadow::meta(addr).load(Acquire);
    chain(first).find(|s| s.is(addr, HEAP_BLOCK))?.record()
}

/// Which records outlive the sync objects around them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// None: the memory is nobody's.
    Nothing,
    /// Those of blocks: what goes lies in one.
    Blocks,
    /// That of the block that begins there.
    Block(usize),
}

impl Keep {
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
    pages::each_marked(addr, size, pages::SYNC, |part| {
        let mut is_empty = true;
        // The record of the block comes first; most blocks have nothing else.
        let (mut granule, mut step) = (part.start, part.start + 8);
        while granule < part.end {
            for granule in (granule..step).step_by(8) {
                is_empty &= remove_of(granule, &range, keep);
            }
            granule = shadow::skip_syncless(step, part.end);
            step = part.end.min(granule + 8 * shadow::STEP);
        }
        is_empty
    });
}

/// The objects of a granule go, if their addresses are in the range. Returns whether none is left.
#[inline]
fn remove_of(granule: usize, range: &Range<usize>, keep: Keep) -> bool {
    let first = shadow::meta(granule).load(Acquire);
    if first == 0 {
        return true;
    }
    let is_kept = first & ALONE != 0 && keep == Keep::Block(granule);
    !is_kept && remove_some(granule, range, keep)
}

#[inline(never)]
fn remove_some(granule: usize, range: &Range<usize>, keep: Keep) -> bool {
    let meta = shadow::meta(granule);
    let first = meta.load(Acquire);
    let is_cut = granule < range.start || range.end < granule + 8;
    if is_cut || keep != Keep::Nothing && chain(first).any(|object| keep.keeps(object)) {
        if chain(first).any(|object| object.goes_with(granule, range, keep)) {
            let _making = making(granule).lock();
            chain(meta.load(Acquire)).for_each(|object| object.vacate(granule, range, keep));
        }
        return false;
    }
    let mut handle = meta.swap(0, Acquire); // pairs with `make`
    while let Some(object) = by_handle(handle) {
        handle = object.next.load(Acquire);
        object.give();
    }
    true
}
