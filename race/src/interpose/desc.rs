//! Descriptors: which of them stand for the same thing, and the order that goes through it.
//!
//! A write to a file description happens before the read that it satisfies: who writes releases at the descriptor's *object*, who
//! reads acquires there.
//!
//! | descriptor | object |
//! | --- | --- |
//! | pipe, socketpair | one for both ends |
//! | eventfd, timerfd, epoll | one each |
//! | any other socket | one for all: which two are the ends of a connection, or whose datagram it is, only the kernel knows |
//! | all others, and those that we did not see made | one for all: a file is also read through another descriptor |
//!
//! A copy (`dup`) has the object of the original. An object for many orders more than there is, which can hide a race and never
//! invents one.
//!
//! # Polling
//! Who polls may learn of a write without reading (a waker's eventfd). An object that an epoll instance watches names its
//! *watcher*, where who writes releases too: the instance's object, or, where several watch, one that every `epoll_wait` acquires.
//!
//! # Use after close
//! Each descriptor's place in the table is also a variable: its uses read it, `close` writes it. So a close that is not ordered
//! after a use is reported as the race that it is. The write leaves no mark: who gets the number next may come by it in a way that we do
//! not see. Descriptors that we did not see made are not checked.
//!
//! # Invariants
//! 1. `Place`s change under `LOCK`. An object is on the free list or in as many places as `refs` says.
//! 2. Objects stay mapped. One that is used again while an old descriptor or watcher names it makes an edge too many.
//! 3. A descriptor's place is empty before the kernel may give its number away.
//!
//! # Memory ordering
//! `set: store Release` ⇄ `object: load Acquire`: the object's fields. `watch: compare_exchange SeqCst, then acquire of the
//! object` ⇄ `publish: release at the object, then load SeqCst`: either the watcher has what was published, or it is told. The lock of the sync
//! object in between orders them.
//!
//! # Blocking
//! A spin lock for a few instructions where descriptors are made, copied and closed; elsewhere none but the events'.

use std::cell::Cell;
use std::ffi::c_int;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering::*};

use crate::current::current;
use crate::mem::{self, BLOCK, SpinLock};
use crate::{Pc, acquire, heap, release_merge};

/// What descriptors share. Its address is that of the sync object.
#[repr(C, align(64))]
struct Object {
    watcher: AtomicPtr<Object>,
    refs: AtomicU32,
    next: Cell<*const Object>,
}

// SAFETY: `next` is used under `LOCK`.
unsafe impl Sync for Object {}

impl Object {
    const fn new() -> Object {
        Object {
            watcher: AtomicPtr::new(ptr::null_mut()),
            refs: AtomicU32::new(0),
            next: Cell::new(ptr::null()),
        }
    }

    fn addr(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    fn as_ptr(&self) -> *mut Object {
        ptr::from_ref(self).cast_mut()
    }

    /// Whether it is one of the objects for many.
    fn is_shared(&self) -> bool {
        [&FILES, &SOCKETS, &EPOLLS]
            .iter()
            .any(|o| ptr::eq(*o, self))
    }
}

/// All that is not listed in the header.
static FILES: Object = Object::new();
static SOCKETS: Object = Object::new();
/// Stands for several watchers of one object.
static EPOLLS: Object = Object::new();

/// A descriptor's place: null, or its object.
struct Place(AtomicPtr<Object>);

impl Place {
    fn addr(&self) -> usize {
        ptr::from_ref(self).addr()
    }
}

const PER_BLOCK: usize = 1024;
const BLOCKS: usize = 1024;
/// Descriptors from here on are taken for files.
const LIMIT: usize = PER_BLOCK * BLOCKS;

static PLACES: [AtomicPtr<[Place; PER_BLOCK]>; BLOCKS] =
    [const { AtomicPtr::new(ptr::null_mut()) }; BLOCKS];
static LOCK: SpinLock = SpinLock::new();

struct Free(Cell<*const Object>);
// SAFETY: used under `LOCK`.
unsafe impl Sync for Free {}
static FREE: Free = Free(Cell::new(ptr::null()));

/// The descriptor's place, where there is one already.
fn place(fd: c_int) -> Option<&'static Place> {
    let fd = usize::try_from(fd).ok().filter(|fd| *fd < LIMIT)?;
    // SAFETY: null, or a block that stays mapped.
    let block = unsafe { PLACES[fd / PER_BLOCK].load(Acquire).as_ref() }?;
    Some(&block[fd % PER_BLOCK])
}

/// The same, made if need be; None beyond the limit. Under `LOCK`.
fn make_place(fd: c_int) -> Option<&'static Place> {
    if let Some(place) = place(fd) {
        return Some(place);
    }
    let block = usize::try_from(fd).ok()? / PER_BLOCK;
    let at = PLACES.get(block)?;
    let bytes = size_of::<[Place; PER_BLOCK]>();
    let new: NonNull<[Place; PER_BLOCK]> = mem::map_for_ever(bytes).cast();
    heap::clear_shadow(new.as_ptr().addr(), bytes);
    at.store(new.as_ptr(), Release); // pairs with `place`
    place(fd)
}

/// The descriptor's own object or that of its kind; None if we know nothing of it.
fn known(fd: c_int) -> Option<&'static Object> {
    // SAFETY: null, or an object, which stays mapped.
    unsafe { place(fd)?.0.load(Acquire).as_ref() } // pairs with `set`
}

fn object(fd: c_int) -> &'static Object {
    known(fd).unwrap_or(&FILES)
}

fn new_object() -> &'static Object {
    let object = {
        let _held = LOCK.lock();
        if FREE.0.get().is_null() {
            let block: NonNull<Object> = mem::map_for_ever(BLOCK).cast();
            for i in 0..BLOCK / size_of::<Object>() {
                // SAFETY: inside the block; all zeros are a valid object.
                let object = unsafe { &*block.as_ptr().wrapping_add(i) };
                object.next.set(FREE.0.replace(object));
            }
        }
        // SAFETY: the list has objects, which stay mapped.
        let object = unsafe { &*FREE.0.get() };
        FREE.0.set(object.next.get());
        object
    };
    object.watcher.store(ptr::null_mut(), Relaxed);
    heap::clear_shadow(object.addr(), size_of::<Object>());
    object
}

/// Puts the object in the descriptor's place. The place is fresh, as a variable.
fn set(fd: c_int, object: &'static Object) {
    let _held = LOCK.lock();
    let Some(place) = make_place(fd) else { return };
    object.refs.fetch_add(1, Relaxed);
    let old = place.0.swap(object.as_ptr(), AcqRel); // pairs with `known`
    put(old);
    heap::clear_shadow(place.addr(), size_of::<Place>());
}

/// A place does not name the object any more. Under `LOCK`.
fn put(object: *mut Object) {
    // SAFETY: null, or an object, which stays mapped.
    let Some(object) = (unsafe { object.as_ref() }) else {
        return;
    };
    if object.refs.fetch_sub(1, Relaxed) == 1 && !object.is_shared() {
        object.next.set(FREE.0.replace(object));
    }
}

/// What a new descriptor stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Something of its own.
    Own,
    Socket,
    File,
}

/// There is a new descriptor.
pub(super) fn made(fd: c_int, kind: Kind) {
    match kind {
        Kind::Own => set(fd, new_object()),
        Kind::Socket => set(fd, &SOCKETS),
        Kind::File => forget(fd),
    }
}

/// There are two new descriptors, of the same thing.
pub(super) fn made_pair(fds: [c_int; 2]) {
    if fds.iter().any(|fd| *fd as usize >= LIMIT) {
        fds.iter().for_each(|fd| forget(*fd));
        return;
    }
    let object = new_object();
    fds.iter().for_each(|fd| set(*fd, object));
}

/// `new` is a copy of `old`.
pub(super) fn copied(old: c_int, new: c_int) {
    match known(old) {
        Some(object) => set(new, object),
        None => forget(new),
    }
}

/// The descriptor is about to be closed.
pub(super) fn closes(fd: c_int, caller: usize) {
    let Some(place) = place(fd) else { return };
    if current().is_some() {
        if known(fd).is_some() {
            crate::write(place.addr(), size_of::<Place>(), Pc::code(caller));
        }
        publish(fd);
    }
    forget(fd);
}

/// Nothing is known of the descriptor from here on.
fn forget(fd: c_int) {
    let Some(place) = place(fd) else { return };
    let _held = LOCK.lock();
    put(place.0.swap(ptr::null_mut(), AcqRel));
    heap::clear_shadow(place.addr(), size_of::<Place>());
}

/// All descriptors in the range are about to be closed.
pub(super) fn closes_all(first: u32, last: u32, caller: usize) {
    let end = (last as usize).saturating_add(1).min(LIMIT);
    let mut fd = first as usize;
    while fd < end {
        if PLACES[fd / PER_BLOCK].load(Acquire).is_null() {
            fd = (fd / PER_BLOCK + 1) * PER_BLOCK;
        } else {
            closes(fd as c_int, caller);
            fd += 1;
        }
    }
}

/// The current goroutine uses the descriptor. Returns whether it is one of those that may block for long.
pub(super) fn uses(fd: c_int, caller: usize) -> bool {
    let Some(object) = known(fd) else {
        return false;
    };
    if let Some(place) = place(fd) {
        crate::read(place.addr(), size_of::<Place>(), Pc::code(caller));
    }
    !ptr::eq(object, &FILES)
}

/// What the current goroutine has done is known to who reads or polls from now on.
pub(super) fn publish(fd: c_int) {
    publish_at(object(fd));
}

fn publish_at(mut object: &'static Object) {
    // As deep as the kernel lets epoll instances watch each other.
    for _ in 0..6 {
        release_merge(object.addr());
        // SAFETY: null, or an object, which stays mapped.
        match unsafe { object.watcher.load(SeqCst).as_ref() } {
            Some(watcher) => object = watcher,
            None => return,
        }
    }
}

/// The current goroutine has read, or seen that it could.
pub(super) fn observe(fd: c_int) {
    acquire(object(fd).addr());
}

/// The epoll instance is about to watch the descriptor.
pub(super) fn watch(epoll: c_int, fd: c_int) {
    let (epoll, object) = (object(epoll), object(fd));
    let new = epoll.as_ptr();
    let old = object
        .watcher
        .compare_exchange(ptr::null_mut(), new, SeqCst, SeqCst);
    if old.is_err_and(|old| old != new) {
        object.watcher.store(EPOLLS.as_ptr(), SeqCst);
    }
    // What was there before.
    acquire(object.addr());
    publish_at(epoll);
}

/// An epoll instance told of something.
pub(super) fn observe_epoll(epoll: c_int) {
    observe(epoll);
    acquire(EPOLLS.addr());
}
