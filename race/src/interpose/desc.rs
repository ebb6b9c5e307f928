//! Descriptors: which of them stand for the same thing, and the order that goes through it.
//!
//! A write to a file description happens before the read that it satisfies: who writes releases at
//! the descriptor's *object*, who reads acquires there.
//!
//! | descriptor | object |
//! | --- | --- |
//! | pipe, socketpair | one for both ends |
//! | eventfd, timerfd, epoll, signalfd, inotify | one each |
//! | connected stream socket | one for both ends, where both are in this process (`socket`) |
//! | socket that listens, datagram socket | that of its address (`socket`) |
//! | file, directory, named pipe, POSIX queue | by its inode: one of [`KEYED`] |
//! | sockets of other families | one for all: which are the ends of a connection, only the kernel knows |
//! | devices, and what else we did not see made | one for all |
//!
//! A copy (`dup`) has the object of the original, and so has one that comes in a message
//! (`SCM_RIGHTS`). An object for many orders more than there is, which can hide a race and never
//! invents one. What we did not see made is looked at when it is used first.
//!
//! # Keyed objects
//! What has a name has its order there, and outlives its descriptors: who opens a file after it was
//! written and closed is ordered after that. For these there is a table of a fixed size, of which
//! an inode or an address has the place that its hash says.
//!
//! # Polling
//! Who polls may learn of a write without reading (a waker's eventfd). An object that an epoll
//! instance watches names its *watcher*, where who writes releases too: the instance's object, or,
//! where several watch, one that every `epoll_wait` acquires.
//!
//! # Use after close
//! Each descriptor's place in the table is also a variable: its uses read it, `close` writes it. So
//! a close that is not ordered after a use is reported as the race that it is. The write leaves no
//! mark: who gets the number next may come by it in a way that we do not see. Files, and
//! descriptors that we did not see made, are not checked.
//!
//! # Invariants
//! 1. `Place`s change under `LOCK`. An object of its own is on the free list or in as many places
//!    and messages as `refs` says, and in the list of its key while it has one.
//! 2. Objects stay mapped. One that is used again while an old descriptor or watcher names it makes
//!    an edge too many.
//! 3. A descriptor's place is empty before the kernel may give its number away.
//!
//! # Memory ordering
//! `set: store Release` ⇄ `object: load Acquire`: the object's fields. `watch: compare_exchange
//! SeqCst, then acquire of the object` ⇄ `publish: release at the object, then load SeqCst`: either
//! the watcher has what was published, or it is told. The lock of the sync object in between orders
//! them.
//!
//! # Blocking
//! A spin lock for a few instructions where descriptors are made, copied and closed; elsewhere none
//! but the events'.
//!
//! # Why not
//! Inodes for pipes and sockets too: their numbers are used again, and what was released there
//! would stay.

use std::cell::Cell;
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering::*};

use crate::current::current;
use crate::mem::{self, BLOCK, SpinGuard, SpinLock};
use crate::{Pc, acquire, heap, release_merge};

use super::real::keep_errno;
use super::socket;

/// What descriptors share. Its address is that of the sync object.
#[repr(C, align(64))]
pub(super) struct Object {
    watcher: AtomicPtr<Object>,
    refs: AtomicU32,
    /// What it is of: the bits below.
    pub(super) is: AtomicU32,
    next: Cell<*const Object>,
    /// What the other end of a connection is found by; 0: nothing.
    key: AtomicU64,
    /// Of a datagram socket: that of its address, once it is known to have one.
    pub(super) address: AtomicPtr<Object>,
    /// Of a socket: that of the address to which it was connected, or at which it was accepted.
    pub(super) peer: AtomicPtr<Object>,
    /// Of a signalfd: its signals, each a bit.
    signals: AtomicU64,
}

const _: () = assert!(size_of::<Object>() == 64);

// SAFETY: `next` is used under `LOCK`.
unsafe impl Sync for Object {}

/// A stream socket of the Internet's families.
pub(super) const STREAM: u32 = 1;
/// A stream socket of the family AF_UNIX.
pub(super) const UNIX_STREAM: u32 = 2;
/// A datagram socket of one of these families.
pub(super) const DATAGRAM: u32 = 4;
/// A connection, of which this process has had both ends.
pub(super) const BOTH: u32 = 8;
/// A connection that was accepted.
pub(super) const ACCEPTED: u32 = 16;
/// An address at which somebody of this process has listened.
pub(super) const LISTENS: u32 = 32;

impl Object {
    const fn new() -> Object {
        Object {
            watcher: AtomicPtr::new(ptr::null_mut()),
            refs: AtomicU32::new(0),
            is: AtomicU32::new(0),
            next: Cell::new(ptr::null()),
            key: AtomicU64::new(0),
            address: AtomicPtr::new(ptr::null_mut()),
            peer: AtomicPtr::new(ptr::null_mut()),
            signals: AtomicU64::new(0),
        }
    }

    pub(super) fn addr(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    pub(super) fn as_ptr(&self) -> *mut Object {
        ptr::from_ref(self).cast_mut()
    }

    /// Whether it has one of the bits.
    pub(super) fn has(&self, bits: u32) -> bool {
        self.is.load(Relaxed) & bits != 0
    }

    /// Whether it stays for ever: one for many, or keyed.
    fn is_shared(&self) -> bool {
        let is_in = |all: &[Object]| all.as_ptr_range().contains(&ptr::from_ref(self));
        is_in(&COMMON) || is_in(&KEYED) || is_in(&SIGNALS)
    }
}

/// An object that stays, if the pointer is not null.
pub(super) fn named_by(at: &AtomicPtr<Object>) -> Option<&'static Object> {
    // SAFETY: null, or an object, which stays mapped.
    unsafe { at.load(Acquire).as_ref() }
}

/// See [`FILES`], [`SOCKETS`] and [`EPOLLS`].
static COMMON: [Object; 3] = [const { Object::new() }; 3];
/// All that is not listed in the header.
static FILES: &Object = &COMMON[0];
/// Sockets of which we know no more.
pub(super) static SOCKETS: &Object = &COMMON[1];
/// Stands for several watchers of one object.
static EPOLLS: &Object = &COMMON[2];
/// What has a name, by a hash of it.
static KEYED: [Object; 4096] = [const { Object::new() }; 4096];
/// What was done before a signal was sent, by its number.
static SIGNALS: [Object; 65] = [const { Object::new() }; 65];

/// A hash of two numbers, and of what they are.
pub(super) fn hash(what: u64, a: u64, b: u64) -> u64 {
    let mut mixed = 0;
    for word in [what, a, b] {
        mixed = (mixed ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^= mixed >> 29;
    }
    mixed
}

/// The object of what has this hash.
pub(super) fn keyed(hash: u64) -> &'static Object {
    &KEYED[hash as usize % KEYED.len()]
}

/// The object of a file, by its inode.
pub(super) fn inode(device: u64, inode: u64) -> &'static Object {
    keyed(hash(1, device, inode))
}

/// A descriptor's place: null, or its object, with [`UNCHECKED`] or not.
struct Place(AtomicPtr<Object>);

/// In a place: uses after a close are not looked for. No bit of an object's address.
const UNCHECKED: usize = 1;

impl Place {
    fn addr(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    /// The object, and whether its uses are checked.
    fn object(&self) -> Option<(&'static Object, bool)> {
        let word = self.0.load(Acquire); // pairs with `set`
        let object = word.map_addr(|at| at & !UNCHECKED);
        // SAFETY: null, or an object, which stays mapped.
        let object = unsafe { object.as_ref() }?;
        Some((object, word.addr() & UNCHECKED == 0))
    }

    /// Puts an object there, or none. Under `LOCK`.
    fn put(&self, object: *mut Object) {
        let old = self.object();
        self.0.store(object, Release); // pairs with `object`
        if let Some((old, _)) = old {
            put(old);
        }
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

/// The descriptor's object; None if we know nothing of it.
fn known(fd: c_int) -> Option<(&'static Object, bool)> {
    place(fd)?.object()
}

pub(super) fn object(fd: c_int) -> &'static Object {
    match known(fd) {
        Some((object, _)) => object,
        None => find_out(fd),
    }
}

/// What a descriptor is that we did not see made.
#[cold]
fn find_out(fd: c_int) -> &'static Object {
    if !usize::try_from(fd).is_ok_and(|fd| fd < LIMIT) {
        return FILES;
    }
    let Some(object) = look_at(fd) else {
        return FILES; // there is none
    };
    set_as(fd, object, UNCHECKED);
    object
}

fn look_at(fd: c_int) -> Option<&'static Object> {
    let (mode, device, number) = status(fd)?;
    Some(match mode & libc::S_IFMT {
        libc::S_IFREG | libc::S_IFDIR | libc::S_IFIFO => inode(device, number),
        libc::S_IFSOCK => socket::look_at(fd),
        _ => FILES,
    })
}

/// Type and inode of what is open there.
pub(super) fn status(fd: c_int) -> Option<(u32, u64, u64)> {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: asks, and there is room for the answer.
    if keep_errno(|| unsafe { libc::fstat(fd, status.as_mut_ptr()) }) != 0 {
        return None;
    }
    // SAFETY: filled by the call.
    let status = unsafe { status.assume_init() };
    Some((status.st_mode, status.st_dev, status.st_ino))
}

/// A new object, in no place yet.
pub(super) fn new_object(is: u32) -> &'static Object {
    let locked = LOCK.lock();
    new_object_in(&locked, is)
}

fn new_object_in(_locked: &SpinGuard<'_>, is: u32) -> &'static Object {
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
    object.watcher.store(ptr::null_mut(), Relaxed);
    object.address.store(ptr::null_mut(), Relaxed);
    object.peer.store(ptr::null_mut(), Relaxed);
    object.signals.store(0, Relaxed);
    object.is.store(is, Relaxed);
    heap::clear_shadow(object.addr(), size_of::<Object>());
    object
}

/// Puts the object in the descriptor's place. The place is fresh, as a variable.
pub(super) fn set(fd: c_int, object: &'static Object) {
    set_as(fd, object, 0);
}

fn set_as(fd: c_int, object: &'static Object, how: usize) {
    let _held = LOCK.lock();
    let Some(place) = make_place(fd) else {
        if object.refs.load(Relaxed) == 0 {
            free(object);
        }
        return;
    };
    object.refs.fetch_add(1, Relaxed);
    place.put(object.as_ptr().map_addr(|at| at | how));
    heap::clear_shadow(place.addr(), size_of::<Place>());
}

/// A place or message does not name the object any more. Under `LOCK`.
fn put(object: &'static Object) {
    if object.refs.fetch_sub(1, Relaxed) == 1 {
        free(object);
    }
}

/// Nothing names the object. Under `LOCK`.
fn free(object: &'static Object) {
    if object.is_shared() {
        return;
    }
    let key = object.key.swap(0, Relaxed);
    if key != 0 {
        let mut at = bucket(key);
        // SAFETY: null, or an object, which stays mapped.
        while let Some(other) = unsafe { at.get().as_ref() } {
            if ptr::eq(other, object) {
                at.set(object.next.get());
                break;
            }
            at = &other.next;
        }
    }
    object.next.set(FREE.0.replace(object));
}

/// Objects with a key.
struct Buckets([Cell<*const Object>; 1024]);
// SAFETY: used under `LOCK`.
unsafe impl Sync for Buckets {}
static BUCKETS: Buckets = Buckets([const { Cell::new(ptr::null()) }; 1024]);

fn bucket(key: u64) -> &'static Cell<*const Object> {
    &BUCKETS.0[(key >> 32) as usize % BUCKETS.0.len()]
}

/// The object with the key. Under `LOCK`.
fn with_key(key: u64) -> Option<&'static Object> {
    // SAFETY: null, or an object, which stays mapped.
    let first = unsafe { bucket(key).get().as_ref() };
    // SAFETY: as above.
    std::iter::successors(first, |o: &&Object| unsafe { o.next.get().as_ref() })
        .find(|o| o.key.load(Relaxed) == key)
}

/// Under `LOCK`.
fn give_key(object: &'static Object, key: u64) {
    if object.key.load(Relaxed) == 0 && !object.is_shared() {
        object.key.store(key, Relaxed);
        object.next.set(bucket(key).replace(object));
    }
}

/// The object of a connection by its key, of which a second end is there now; a new one, which `is`
/// so, if there is none. It has a reference more, until [`settle`] or [`leave`].
pub(super) fn joined(key: u64, is: u32) -> &'static Object {
    let locked = LOCK.lock();
    let object = match with_key(key) {
        Some(object) => {
            object.is.fetch_or(BOTH, Relaxed);
            object
        }
        None => {
            let object = new_object_in(&locked, is);
            give_key(object, key);
            object
        }
    };
    object.refs.fetch_add(1, Relaxed);
    object
}

/// The object with the key, for the other end; it has a reference more, until [`settle`] or
/// [`leave`].
pub(super) fn other_end(key: u64) -> Option<&'static Object> {
    let _held = LOCK.lock();
    let object = with_key(key)?;
    object.is.fetch_or(BOTH, Relaxed);
    object.refs.fetch_add(1, Relaxed);
    Some(object)
}

/// Whether the object is that of the connection with the key.
pub(super) fn is_by(object: &Object, key: u64) -> bool {
    object.key.load(Relaxed) == key
}

/// The other end of the descriptor will be found by the key.
pub(super) fn find_by(fd: c_int, key: u64) {
    let object = object(fd);
    let _held = LOCK.lock();
    give_key(object, key);
}

/// A new descriptor's object is one that has a reference more.
pub(super) fn settle(fd: c_int, object: &'static Object) {
    set(fd, object);
    leave(object);
}

/// Gives a reference back.
pub(super) fn leave(object: &'static Object) {
    let _held = LOCK.lock();
    put(object);
}

/// The descriptor, all its copies, and who watches it have another object from here on.
pub(super) fn becomes(fd: c_int, object: &'static Object) {
    let old = self::object(fd);
    if ptr::eq(old, object) {
        return;
    }
    let watcher = named_by(&old.watcher);
    {
        let _held = LOCK.lock();
        let all = PLACES.iter().filter_map(|block| {
            // SAFETY: null, or a block that stays mapped.
            unsafe { block.load(Acquire).as_ref() }
        });
        let mut left = if old.is_shared() {
            0
        } else {
            old.refs.load(Relaxed)
        };
        if left == 0
            && let Some(place) = place(fd)
        {
            object.refs.fetch_add(1, Relaxed);
            place.put(object.as_ptr());
        }
        for place in all.flatten() {
            if left == 0 {
                break;
            }
            if place.object().is_some_and(|(o, _)| ptr::eq(o, old)) {
                left -= 1;
                object.refs.fetch_add(1, Relaxed);
                place.put(object.as_ptr());
            }
        }
    }
    if let Some(watcher) = watcher {
        watch_object(watcher, object);
    }
}

/// Who watches `old` watches `object` too.
pub(super) fn watched_as(old: &'static Object, object: &'static Object) {
    if let Some(watcher) = named_by(&old.watcher) {
        watch_object(watcher, object);
    }
}

/// What a new descriptor stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Something of its own.
    Own,
    File,
}

/// There is a new descriptor.
pub(super) fn made(fd: c_int, kind: Kind) {
    match kind {
        Kind::Own => set(fd, new_object(0)),
        Kind::File => set_as(fd, look_at(fd).unwrap_or(FILES), UNCHECKED),
    }
}

/// There is a new signalfd, or an old one with other signals, each a bit.
pub(super) fn made_signalfd(fd: c_int, is_new: bool, signals: u64) {
    if is_new {
        set(fd, new_object(0));
    }
    let object = object(fd);
    if !object.is_shared() {
        object.signals.store(signals, Relaxed);
        if let Some(watcher) = named_by(&object.watcher) {
            each_signal(signals, |signal| watch_object(watcher, signal));
        }
    }
}

fn each_signal(mut signals: u64, f: impl Fn(&'static Object)) {
    while signals != 0 {
        f(&SIGNALS[signals.trailing_zeros() as usize + 1]);
        signals &= signals - 1;
    }
}

/// There are two new descriptors, of the same thing.
pub(super) fn made_pair(fds: [c_int; 2]) {
    if fds.iter().any(|fd| *fd as usize >= LIMIT) {
        fds.iter().for_each(|fd| forget(*fd));
        return;
    }
    let object = new_object(BOTH);
    fds.iter().for_each(|fd| set(*fd, object));
}

/// `new` is a copy of `old`.
pub(super) fn copied(old: c_int, new: c_int) {
    match known(old) {
        Some((object, true)) => set(new, object),
        Some((object, false)) => set_as(new, object, UNCHECKED),
        None => forget(new),
    }
}

/// The descriptor is about to be closed.
pub(super) fn closes(fd: c_int, caller: usize) {
    let Some(place) = place(fd) else { return };
    if current().is_some() {
        if place.object().is_some_and(|(_, is_checked)| is_checked) {
            crate::write(place.addr(), size_of::<Place>(), Pc::code(caller));
        }
        let object = object(fd);
        publish_from(object);
        if object.refs.load(Relaxed) == 1 {
            socket::ends(object);
        }
    }
    forget(fd);
}

/// Nothing is known of the descriptor from here on.
pub(super) fn forget(fd: c_int) {
    let Some(place) = place(fd) else { return };
    let _held = LOCK.lock();
    place.put(ptr::null_mut());
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

/// The current goroutine uses the descriptor. Returns whether it is one of those that may block for
/// long.
pub(super) fn uses(fd: c_int, caller: usize) -> bool {
    let Some(place) = place(fd) else { return false };
    let is_checked = place.object().is_some_and(|(_, is_checked)| is_checked);
    if is_checked {
        crate::read(place.addr(), size_of::<Place>(), Pc::code(caller));
    }
    is_checked
}

/// What the current goroutine has done is known to who reads or polls from now on.
pub(super) fn publish(fd: c_int) {
    publish_from(object(fd));
}

fn publish_from(object: &'static Object) {
    publish_at(object);
    if object.has(DATAGRAM)
        && let Some(peer) = named_by(&object.peer)
    {
        publish_at(peer);
    }
}

pub(super) fn publish_at(mut object: &'static Object) {
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
    let object = object(fd);
    acquire(object.addr());
    if object.has(DATAGRAM)
        && let Some(address) = socket::address_of(fd, object)
    {
        acquire(address.addr());
    }
    each_signal(object.signals.load(Relaxed), |signal| {
        acquire(signal.addr());
    });
}

/// The epoll instance is about to watch the descriptor.
pub(super) fn watch(epoll: c_int, fd: c_int) {
    let (epoll, object) = (object(epoll), object(fd));
    watch_object(epoll, object);
    if object.has(DATAGRAM)
        && let Some(address) = socket::address_of(fd, object)
    {
        watch_object(epoll, address);
    }
    let signals = object.signals.load(Relaxed);
    each_signal(signals, |signal| watch_object(epoll, signal));
}

fn watch_object(epoll: &'static Object, object: &'static Object) {
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

/// The signal is about to be sent.
pub(super) fn sends_signal(signal: c_int) {
    if let Some(object) = signal_object(signal) {
        publish_at(object);
    }
}

/// What was done before a signal was sent.
pub(super) fn signal_object(signal: c_int) -> Option<&'static Object> {
    SIGNALS.get(usize::try_from(signal).ok().filter(|&signal| signal != 0)?)
}

/// What is written to the descriptor sends a signal.
pub(super) fn tells_by_signal(fd: c_int, signal: c_int) {
    if let Some(signal) = signal_object(signal) {
        watch_object(signal, object(fd));
    }
}

/// A descriptor on its way in a message: its object, which it has a reference to, the inode, and
/// the socket's object.
#[derive(Clone, Copy)]
struct OnItsWay {
    object: &'static Object,
    inode: (u64, u64),
    by: *const Object,
}

/// The newest of those, oldest first.
struct Messages {
    all: Cell<[Option<OnItsWay>; 256]>,
    next: Cell<usize>,
}
// SAFETY: used under `LOCK`.
unsafe impl Sync for Messages {}
static MESSAGES: Messages = Messages {
    all: Cell::new([None; 256]),
    next: Cell::new(0),
};

impl Messages {
    fn place(&self, i: usize) -> &Cell<Option<OnItsWay>> {
        let all: &Cell<[_]> = &self.all;
        &all.as_slice_of_cells()[i % 256]
    }
}

/// The descriptor is about to go by a message over the socket.
pub(super) fn goes_by(socket: c_int, fd: c_int) {
    let Some((_, device, inode)) = status(fd) else {
        return;
    };
    let (by, object) = (ptr::from_ref(object(socket)), object(fd));
    let _held = LOCK.lock();
    object.refs.fetch_add(1, Relaxed);
    let inode = (device, inode);
    let next = MESSAGES.next.replace(MESSAGES.next.get().wrapping_add(1));
    let oldest = MESSAGES
        .place(next)
        .replace(Some(OnItsWay { object, inode, by }));
    if let Some(oldest) = oldest {
        put(oldest.object);
    }
}

/// The descriptor came by a message over the socket.
///
/// Objects without inodes of their own (eventfds) come in the order in which they went, over one
/// connection at a time.
pub(super) fn came_by(socket: c_int, fd: c_int) {
    let inode = status(fd).map(|(_, device, inode)| (device, inode));
    let by = ptr::from_ref(object(socket));
    forget(fd);
    let found = {
        let _held = LOCK.lock();
        let oldest = MESSAGES.next.get();
        let all = || (0..256).map(|i| MESSAGES.place(oldest.wrapping_add(i)));
        let is_it = |place: &&Cell<Option<OnItsWay>>, over: Option<*const Object>| {
            let it = place.get();
            it.is_some_and(|it| Some(it.inode) == inode && over.is_none_or(|by| by == it.by))
        };
        let place = all().find(|place| is_it(place, Some(by)));
        place
            .or_else(|| all().find(|place| is_it(place, None)))
            .and_then(Cell::take)
    };
    if let Some(it) = found {
        settle(fd, it.object);
    }
}
