//! Sync objects: the clocks that addresses carry, found through the meta shadow.
//!
//! # States
//! An object is free, or of use `SYNC` (a clock for one exact address) or `BLOCK` (who allocated the heap block that
//! begins here). A granule's meta word is the handle of the first object of a chain; objects are added in front by
//! compare-exchange and removed only all together, by `remove`.
//!
//! # Invariants
//! 1. Objects stay mapped for ever and their shared fields are atomic: a walk over a chain that is being recycled reads
//!    other objects of this kind, and ends. Who found an object locks it and looks again whether it is still the
//!    address's; `use_` and `addr` change under the lock.
//! 2. `clock` is touched only with the lock held.
//! 3. A handle is never 0 for an object: 0 ends a chain.
//!
//! # Memory ordering
//! `publish: compare_exchange Release on the meta word or swap in remove` ⇄ `find: load Acquire`: the object's fields.
//!
//! # Blocking
//! Each object has a spin lock, held for a clock's copy or join, or for one atomic operation of the program.

use std::cell::UnsafeCell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering::*};

use crate::ctx::ClockBox;
use crate::mem::{BLOCK, Kind, Node, SpinGuard, SpinLock, fatal};
use crate::{Pc, pages, proc, shadow};

const FREE: u32 = 0;
const SYNC: u32 = 1;
const HEAP_BLOCK: u32 = 2;

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

fn by_handle(handle: u32) -> Option<&'static SyncObject> {
    let carved = handle.checked_sub(1)? as usize;
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
    let mut made: Option<&'static SyncObject> = None;
    loop {
        let first = meta.load(Acquire);
        if let Some(held) = lock_in_chain(first, addr) {
            if let Some(unused) = made {
                unused.give();
            }
            return Some(held);
        }
        let new = *made.get_or_insert_with(|| SyncObject::new(addr, SYNC));
        if publish(meta, first, new, addr) {
            made = None;
        }
    }
}

fn publish(meta: &AtomicU32, first: u32, new: &'static SyncObject, addr: usize) -> bool {
    pages::note(addr, pages::SYNC);
    new.next.store(first, Release);
    meta.compare_exchange(first, new.handle.load(Relaxed), Release, Relaxed)
        .is_ok()
}

/// Remembers who allocated the heap block.
pub(crate) fn record_block(addr: usize, size: usize, pc: Pc, goid: u64) {
    let block = SyncObject::new(addr, HEAP_BLOCK);
    block.size.store(size, Relaxed);
    block.pc.store(pc.bits(), Relaxed);
    block.goid.store(goid, Relaxed);
    let meta = shadow::meta(addr);
    while !publish(meta, meta.load(Acquire), block, addr) {}
}

/// Size, place and goroutine of the allocation of the block that begins at `addr`.
pub(crate) fn block_at(addr: usize) -> Option<(usize, Pc, u64)> {
    if !shadow::is_watched(addr) {
        return None;
    }
    let block = chain(shadow::meta(addr).load(Acquire)).find(|s| s.is(addr, HEAP_BLOCK))?;
    Some((
        block.size.load(Relaxed),
        Pc::from_bits(block.pc.load(Relaxed)),
        block.goid.load(Relaxed),
    ))
}

/// The memory is gone: its sync objects are freed. Whole granules: heap blocks and stacks are 8-aligned.
pub(crate) fn remove(addr: usize, size: usize) {
    pages::each_marked(addr, size, pages::SYNC, |granule| {
        let meta = shadow::meta(granule);
        if meta.load(Relaxed) != 0 {
            let mut handle = meta.swap(0, Acquire); // pairs with `publish`
            while let Some(object) = by_handle(handle) {
                handle = object.next.load(Acquire);
                object.give();
            }
        }
    });
}
