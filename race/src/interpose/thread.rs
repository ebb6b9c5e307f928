//! Plain threads: their contexts, and the order that `pthread_create` and `pthread_join` make.
//!
//! # States of an entry
//! One entry per watched thread, from its creation until it has ended and somebody has joined or detached it.
//!
//! | flag | set by | meaning |
//! | --- | --- | --- |
//! | (none) | `begin`, `attach` | the thread lives; it is in the table under its handle |
//! | `ENDED` | the thread, last of all | the sync object at the entry has what it did |
//! | `JOINING` | who joins it | it is this joiner's to free |
//! | `GONE` | who detaches it | nobody will join it; free once it has ended |
//!
//! A joiner marks the entry *before* it joins, and nobody else finds it then: after the join the handle may be another thread's. Where it
//! finds none, the thread has not begun yet, or is not watched; then it looks again after the join. At that moment another thread may
//! have the same handle, and the wanted entry is the older of the two; everybody else wants the newer.
//!
//! # Invariants
//! 1. An entry is on the free list, or in the table once, or its creator's, thread's or joiner's alone.
//! 2. Its thread alone uses `ctx`, from `begin` on.
//! 3. Entries stay mapped; the table and all links change under `TABLE`.
//!
//! # The end of a thread
//! Destructors of thread-locals and of pthread keys are the program's code and watched. So the context ends in the destructor of a
//! key of our own, which asks to be called again until the last round. Keys whose destructors come after ours in that round are
//! unwatched.
//!
//! # Blocking
//! A spin lock for a walk over a few entries.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use libc::{pthread_attr_t, pthread_t, timespec};

use super::real::{keep_errno, real, with_caller};
use super::{blocking, handler, sync, watched};
use crate::current::{current, set_current};
use crate::goroutine::{go_start, thread_start};
use crate::mem::{self, BLOCK, SpinGuard, SpinLock};
use crate::record::Record;
use crate::{GoCtx, Pc, enabled, go_end, heap, release_g, state, switch_in, switch_out};

unsafe extern "C" {
    /// Not in the libc crate.
    fn pthread_attr_getdetachstate(attr: *const pthread_attr_t, state: *mut c_int) -> c_int;
}

type Routine = unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void;
/// What a C11 thread runs.
type Routine11 = unsafe extern "C-unwind" fn(*mut c_void) -> c_int;

const ENDED: u32 = 1;
const GONE: u32 = 2;
const JOINING: u32 = 4;

/// How often glibc calls destructors of keys that are set again (`PTHREAD_DESTRUCTOR_ITERATIONS`).
const ROUNDS: u32 = 4;

/// See the header. The sync object of the thread's end is that of `addr`.
#[repr(C, align(64))]
struct Entry {
    next: Cell<*const Entry>,
    handle: Cell<pthread_t>,
    flags: Cell<u32>,
    /// Rounds of key destructors so far.
    rounds: Cell<u32>,
    goid: Cell<u64>,
    /// That of `ctx`, for everybody: it outlives both.
    record: Cell<Option<&'static Record>>,
    ctx: Cell<Option<GoCtx>>,
    routine: Cell<Option<Routine>>,
    /// Of a C11 thread, in place of the other.
    routine11: Cell<Option<Routine11>>,
    arg: Cell<*mut c_void>,
    /// The id of the thread whose creator goes on. Relaxed: it orders nothing, and of an entry that is
    /// used again it may be an earlier thread's.
    made: AtomicU64,
}

/// How long a new thread waits for its creator to go on. If it is over before, the last count of
/// what the two share is the creator's, which is then ordered after all of it: really, but in this
/// run only, so that races of short threads are hidden. The creator may be in a handler that waits
/// for the thread, so not for ever: a second.
const HEAD_START_MS: u64 = 1000;
/// Before it sleeps.
const YIELDS: u32 = 100;

// SAFETY: invariants 1 to 3 say who uses which field when.
unsafe impl Sync for Entry {}

impl Entry {
    /// The address that stands for the thread's end.
    fn addr(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    fn add_flag(&self, flag: u32) {
        self.flags.set(self.flags.get() | flag);
    }

    fn has(&self, flag: u32) -> bool {
        self.flags.get() & flag != 0
    }
}

const BUCKETS: usize = 1024;

/// The threads by their handles.
struct Table {
    lock: SpinLock,
    buckets: [Cell<*const Entry>; BUCKETS],
    free: Cell<*const Entry>,
}

// SAFETY: the cells are used under the lock.
unsafe impl Sync for Table {}

static TABLE: Table = Table {
    lock: SpinLock::new(),
    buckets: [const { Cell::new(ptr::null()) }; BUCKETS],
    free: Cell::new(ptr::null()),
};

/// The table, locked.
struct Locked(#[expect(dead_code, reason = "held, not read")] SpinGuard<'static>);

/// Which of several entries with one handle.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Newest,
    OldestEnded,
}

impl Locked {
    fn take() -> Locked {
        Locked(TABLE.lock.lock())
    }

    fn bucket(&self, handle: pthread_t) -> &'static Cell<*const Entry> {
        // Handles are addresses of thread control blocks, pages apart.
        let hash = (handle >> 8).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &TABLE.buckets[(hash >> 54) as usize]
    }

    /// An entry that is nobody's.
    fn pop_free(&self) -> &'static Entry {
        if TABLE.free.get().is_null() {
            let block: NonNull<Entry> = mem::map_for_ever(BLOCK).cast();
            for i in 0..BLOCK / size_of::<Entry>() {
                // SAFETY: inside the block; all zeros are a valid entry.
                self.push_free(unsafe { &*block.as_ptr().wrapping_add(i) });
            }
        }
        // SAFETY: the list has entries, which stay mapped.
        let entry = unsafe { &*TABLE.free.get() };
        TABLE.free.set(entry.next.get());
        entry
    }

    fn push_free(&self, entry: &'static Entry) {
        entry.next.set(TABLE.free.get());
        TABLE.free.set(entry);
    }

    fn insert(&self, entry: &'static Entry) {
        let bucket = self.bucket(entry.handle.get());
        entry.next.set(bucket.get());
        bucket.set(entry);
    }

    fn each(&self, handle: pthread_t) -> impl Iterator<Item = &'static Entry> {
        // SAFETY: null or an entry, which stays mapped.
        let first = unsafe { self.bucket(handle).get().as_ref() };
        // SAFETY: as above.
        std::iter::successors(first, |e| unsafe { e.next.get().as_ref() })
    }

    fn find(&self, handle: pthread_t, which: Which) -> Option<&'static Entry> {
        let is_it = |e: &&Entry| e.handle.get() == handle && !e.has(JOINING);
        let mut same = self.each(handle).filter(is_it);
        match which {
            Which::Newest => same.next(),
            Which::OldestEnded => same.filter(|e| e.has(ENDED)).last(),
        }
    }

    /// The first entry of a thread that has not ended, joined or not.
    fn living(&self, wanted: impl Fn(&Entry) -> bool) -> Option<&'static Entry> {
        TABLE.buckets.iter().find_map(|bucket| {
            // SAFETY: null or an entry, which stays mapped.
            let first = unsafe { bucket.get().as_ref() };
            // SAFETY: as above.
            std::iter::successors(first, |e: &&Entry| unsafe { e.next.get().as_ref() })
                .find(|e| !e.has(ENDED) && wanted(e))
        })
    }

    /// Takes the entry off the table, if it is there.
    fn remove(&self, entry: &'static Entry) {
        let mut place = self.bucket(entry.handle.get());
        // SAFETY: null or an entry, which stays mapped.
        while let Some(other) = unsafe { place.get().as_ref() } {
            if ptr::eq(other, entry) {
                place.set(entry.next.get());
                return;
            }
            place = &other.next;
        }
    }

    /// Frees an entry of the table that nobody will ask for again.
    fn sweep(&self, entry: &'static Entry) {
        if entry.has(ENDED) && entry.has(GONE) && !entry.has(JOINING) {
            self.remove(entry);
            self.push_free(entry);
        }
    }
}

/// A free entry, as the caller's.
fn new_entry(goid: u64, ctx: GoCtx) -> &'static Entry {
    let entry = Locked::take().pop_free();
    heap::clear_shadow(entry.addr(), size_of::<Entry>());
    entry.flags.set(0);
    entry.rounds.set(0);
    entry.goid.set(goid);
    entry.record.set(Some(ctx.get().record()));
    entry.ctx.set(Some(ctx));
    entry
}

/// Whether a plain thread with this id lives.
#[must_use]
pub fn thread_running(goid: u64) -> bool {
    Locked::take().living(|e| e.goid.get() == goid).is_some()
}

/// Calls back with the name of the plain thread with this id, if it lives and was given one. The
/// kernel's is not asked for: a thread begins with that of its creator.
pub fn thread_name(goid: u64, with: &mut dyn FnMut(&str)) {
    let record = {
        let held = Locked::take();
        let entry = held.living(|e| e.goid.get() == goid);
        entry.and_then(|entry| entry.record.get())
    };
    if let Some(name) = record.and_then(Record::name) {
        with(&name);
    }
}

/// A thread got a name, of which the C library takes 15 bytes at most. std knows all of it, when it
/// names the thread that it has just started.
fn is_named(thread: pthread_t, name: &CStr) {
    let (record, is_ending) = {
        let held = Locked::take();
        // One that somebody is joining may still get a name.
        let is_it = |e: &&Entry| e.handle.get() == thread && !e.has(ENDED);
        let Some(entry) = held.each(thread).find(is_it) else {
            return;
        };
        // In destructors of thread-locals std has forgotten who the thread is.
        (entry.record.get(), entry.rounds.get() > 0)
    };
    let me = current();
    set_current(None);
    // SAFETY: no preconditions.
    let is_own = unsafe { libc::pthread_self() } == thread;
    let handle = (is_own && !is_ending).then(std::thread::current);
    let whole = handle.as_ref().and_then(|handle| handle.name());
    let whole = whole.filter(|whole| whole.as_bytes().starts_with(name.to_bytes()));
    if let Some(record) = record {
        record.set_name(whole.unwrap_or(&name.to_string_lossy()));
    }
    drop(handle);
    set_current(me);
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn pthread_setname_np(thread: pthread_t, name: *const c_char) -> c_int {
    // SAFETY: the caller's arguments.
    let error = unsafe { SETNAME.get()(thread, name) };
    if error == 0 && enabled() {
        // SAFETY: a C string, as the call has just found.
        keep_errno(|| is_named(thread, unsafe { CStr::from_ptr(name) }));
    }
    error
}

/// The id of the plain thread that lives and has this handle, which is the address of its thread control block.
#[must_use]
pub fn thread_with_handle(handle: pthread_t) -> Option<u64> {
    let held = Locked::take();
    let entry = held.living(|e| e.handle.get() == handle)?;
    Some(entry.goid.get())
}

/// The calling plain thread's context and id. A thread without one gets it here, ordered after everything so far, and keeps it
/// until it ends.
///
/// # Happens-before
/// What the thread does happens before its join returns.
pub(crate) fn thread_attach() -> (GoCtx, u64) {
    if let Some(me) = current() {
        return (me, me.get().record().goid());
    }
    let goid = (state::host().new_goid)();
    let ctx = thread_start(goid);
    if is_main() {
        MAIN.store(goid, Relaxed);
    }
    begins(new_entry(goid, ctx), ctx);
    (ctx, goid)
}

/// The id of the program's first thread; 0 until it has one.
static MAIN: AtomicU64 = AtomicU64::new(0);

/// Whether the id is that of the program's first thread.
pub(crate) fn is_main_thread(goid: u64) -> bool {
    goid != 0 && MAIN.load(Relaxed) == goid
}

/// Whether the caller is the program's first thread.
fn is_main() -> bool {
    // SAFETY: no preconditions.
    let thread = unsafe { libc::gettid() };
    // SAFETY: no preconditions.
    thread == unsafe { libc::getpid() }
}

static KEY: AtomicU32 = AtomicU32::new(0);

/// Makes the key whose destructor ends the threads' contexts.
pub(super) fn init() {
    let mut key = 0;
    // SAFETY: a place for the key, and a destructor of the right type.
    if unsafe { libc::pthread_key_create(&mut key, Some(ends)) } != 0 {
        mem::fatal("no pthread key is left for the detector");
    }
    KEY.store(key, Relaxed); // threads are created after this
}

/// The entry's thread begins, and is the caller.
fn begins(entry: &'static Entry, ctx: GoCtx) {
    // SAFETY: no preconditions.
    let me = unsafe { libc::pthread_self() };
    entry.handle.set(me);
    Locked::take().insert(entry);
    // In this order: a detach that did not find the entry has left its mark on the thread.
    if let Some(about) = About::this_thread() {
        if about.is_detached {
            let _table = Locked::take();
            entry.add_flag(GONE);
        }
        // What lay there before was another thread's, or another thing.
        heap::clear_shadow(about.stack, about.stack_bytes);
    }
    // SAFETY: a key, and a value of the thread's own.
    unsafe { libc::pthread_setspecific(KEY.load(Relaxed), ptr::from_ref(entry).cast()) };
    switch_in(ctx);
}

/// What the C library knows of the calling thread.
struct About {
    is_detached: bool,
    stack: usize,
    stack_bytes: usize,
}

impl About {
    /// None on the main thread, which is not joined and whose stack nobody had before.
    fn this_thread() -> Option<About> {
        // SAFETY: no preconditions.
        let (process, thread) = (unsafe { libc::getpid() }, unsafe { libc::gettid() });
        if thread == process {
            return None;
        }
        let mut attr = MaybeUninit::<pthread_attr_t>::uninit();
        // SAFETY: no preconditions.
        let me = unsafe { libc::pthread_self() };
        // SAFETY: initialises the attributes if it returns 0.
        if unsafe { libc::pthread_getattr_np(me, attr.as_mut_ptr()) } != 0 {
            return None;
        }
        let (mut stack, mut stack_bytes, mut detached) = (ptr::null_mut(), 0, 0);
        // SAFETY: initialised above; room for the results.
        unsafe { libc::pthread_attr_getstack(attr.as_ptr(), &mut stack, &mut stack_bytes) };
        // SAFETY: as above.
        unsafe { pthread_attr_getdetachstate(attr.as_ptr(), &mut detached) };
        // SAFETY: initialised above, and not used again.
        unsafe { libc::pthread_attr_destroy(attr.as_mut_ptr()) };
        Some(About {
            is_detached: detached == libc::PTHREAD_CREATE_DETACHED,
            stack: stack.addr(),
            stack_bytes,
        })
    }
}

/// A watched thread starts, whose entry this is. Returns its argument.
fn starts(entry: &'static Entry) -> *mut c_void {
    if let Some(ctx) = entry.ctx.get() {
        begins(entry, ctx);
        let is_made = || entry.made.load(Relaxed) == entry.goid.get();
        for _ in 0..YIELDS {
            if is_made() {
                break;
            }
            // SAFETY: no preconditions.
            unsafe { libc::sched_yield() };
        }
        let nap = timespec {
            tv_sec: 0,
            tv_nsec: 1_000_000,
        };
        for _ in 0..HEAD_START_MS {
            if is_made() {
                break;
            }
            // SAFETY: takes a time, and no place for the rest. The interposed function would be an event.
            unsafe { libc::syscall(libc::SYS_nanosleep, &raw const nap, ptr::null_mut::<()>()) };
        }
    }
    entry.arg.get()
}

/// What a watched thread starts with.
unsafe extern "C-unwind" fn begin(entry: *mut c_void) -> *mut c_void {
    // SAFETY: `create` passed an entry, which stays mapped.
    let entry: &'static Entry = unsafe { &*entry.cast::<Entry>() };
    let (routine, arg) = (entry.routine.get(), starts(entry));
    match routine {
        // SAFETY: the program's own, with its argument.
        Some(routine) => unsafe { routine(arg) },
        None => mem::fatal("a thread has nothing to run"),
    }
}

/// What a watched C11 thread starts with.
unsafe extern "C-unwind" fn begin11(entry: *mut c_void) -> c_int {
    // SAFETY: `create11` passed an entry, which stays mapped.
    let entry: &'static Entry = unsafe { &*entry.cast::<Entry>() };
    let (routine, arg) = (entry.routine11.get(), starts(entry));
    match routine {
        // SAFETY: the program's own, with its argument.
        Some(routine) => unsafe { routine(arg) },
        None => mem::fatal("a thread has nothing to run"),
    }
}

/// The destructor of the key. In a child of `fork` there is nothing to end: what the thread had is
/// the parent's, and its locks may be held for ever.
unsafe extern "C" fn ends(entry: *mut c_void) {
    if !enabled() {
        return;
    }
    // SAFETY: `begins` gave the key an entry, which stays mapped.
    let entry: &'static Entry = unsafe { &*entry.cast::<Entry>() };
    entry.rounds.set(entry.rounds.get() + 1);
    if entry.rounds.get() < ROUNDS {
        // SAFETY: a key, and a value of the thread's own.
        unsafe { libc::pthread_setspecific(KEY.load(Relaxed), ptr::from_ref(entry).cast()) };
        return;
    }
    if let Some(ctx) = entry.ctx.take() {
        handler::forgets();
        sync::owner_ends(ctx);
        release_g(ctx, entry.addr());
        switch_out(ctx);
        go_end(ctx);
    }
    let table = Locked::take();
    entry.add_flag(ENDED);
    table.sweep(entry);
}

real! {
    static CREATE: fn pthread_create(*mut pthread_t, *const pthread_attr_t, Routine, *mut c_void) -> c_int;
    static CREATE11: fn thrd_create(*mut pthread_t, Routine11, *mut c_void) -> c_int;
    static SETNAME: fn pthread_setname_np(pthread_t, *const c_char) -> c_int;
    static JOIN: fn pthread_join(pthread_t, *mut *mut c_void) -> c_int;
    static TRYJOIN: fn pthread_tryjoin_np(pthread_t, *mut *mut c_void) -> c_int;
    static TIMEDJOIN: fn pthread_timedjoin_np(pthread_t, *mut *mut c_void, *const timespec) -> c_int;
    static CLOCKJOIN: fn pthread_clockjoin_np(pthread_t, *mut *mut c_void, libc::clockid_t, *const timespec) -> c_int;
    static DETACH: fn pthread_detach(pthread_t) -> c_int;
    static JOIN11: fn thrd_join(pthread_t, *mut c_int) -> c_int;
    static DETACH11: fn thrd_detach(pthread_t) -> c_int;
}

with_caller! {
    fn pthread_create(
        thread: *mut pthread_t,
        attr: *const pthread_attr_t,
        routine: Routine,
        arg: *mut c_void
    ) -> c_int = create;
    fn thrd_create(thread: *mut pthread_t, routine: Routine11, arg: *mut c_void) -> c_int = create11;
}

unsafe extern "C-unwind" fn create(
    thread: *mut pthread_t,
    attr: *const pthread_attr_t,
    routine: Routine,
    arg: *mut c_void,
    caller: usize,
) -> c_int {
    let Some(me) = watched() else {
        // SAFETY: the caller's arguments.
        return unsafe { CREATE.get()(thread, attr, routine, arg) };
    };
    create_by(me, arg, caller, |entry| {
        entry.routine.set(Some(routine));
        // SAFETY: the caller's arguments, but for the routine, which gets what it expects.
        unsafe { CREATE.get()(thread, attr, begin, ptr::from_ref(entry).cast_mut().cast()) }
    })
}

unsafe extern "C-unwind" fn create11(
    thread: *mut pthread_t,
    routine: Routine11,
    arg: *mut c_void,
    caller: usize,
) -> c_int {
    let Some(me) = watched() else {
        // SAFETY: the caller's arguments.
        return unsafe { CREATE11.get()(thread, routine, arg) };
    };
    create_by(me, arg, caller, |entry| {
        entry.routine11.set(Some(routine));
        // SAFETY: the caller's arguments, but for the routine, which gets what it expects.
        unsafe { CREATE11.get()(thread, begin11, ptr::from_ref(entry).cast_mut().cast()) }
    })
}

/// Makes a thread by `f`, which gets its entry and returns 0 if there is one.
fn create_by(
    me: GoCtx,
    arg: *mut c_void,
    caller: usize,
    f: impl FnOnce(&'static Entry) -> c_int,
) -> c_int {
    let goid = (state::host().new_goid)();
    let ctx = go_start(Some(me), goid, Pc::code(caller));
    let entry = new_entry(goid, ctx);
    entry.arg.set(arg);
    // From here on the entry is the thread's, which may be over when this returns; but for `made`.
    let error = f(entry);
    if error != 0 {
        go_end(ctx);
        Locked::take().push_free(entry);
    } else {
        entry.made.store(goid, Relaxed);
    }
    error
}

/// Runs `join`, one of libc's functions, and orders the caller after the thread if it returns 0.
#[inline(always)]
fn join_by(handle: pthread_t, join: impl FnOnce() -> c_int) -> c_int {
    if !enabled() {
        return join();
    }
    let mut entry = claim(handle, Which::Newest);
    let error = match watched() {
        Some(me) => blocking(me, join),
        None => join(),
    };
    if error != 0 {
        entry.into_iter().for_each(unclaim);
        return error;
    }
    if entry.is_none() {
        entry = claim(handle, Which::OldestEnded);
    }
    if let Some(entry) = entry {
        keep_errno(|| crate::acquire(entry.addr()));
        let table = Locked::take();
        table.remove(entry);
        table.push_free(entry);
    }
    error
}

/// The caller joins the thread.
fn claim(handle: pthread_t, which: Which) -> Option<&'static Entry> {
    let table = Locked::take();
    let entry = table.find(handle, which)?;
    entry.add_flag(JOINING);
    Some(entry)
}

/// The thread was not joined.
fn unclaim(entry: &'static Entry) {
    let table = Locked::take();
    entry.flags.set(entry.flags.get() & !JOINING);
    table.sweep(entry);
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn pthread_join(thread: pthread_t, result: *mut *mut c_void) -> c_int {
    // SAFETY: the caller's arguments.
    join_by(thread, move || unsafe { JOIN.get()(thread, result) })
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn pthread_tryjoin_np(
    thread: pthread_t,
    result: *mut *mut c_void,
) -> c_int {
    // SAFETY: the caller's arguments.
    join_by(thread, move || unsafe { TRYJOIN.get()(thread, result) })
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn pthread_timedjoin_np(
    thread: pthread_t,
    result: *mut *mut c_void,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller's arguments.
    join_by(thread, move || unsafe {
        TIMEDJOIN.get()(thread, result, until)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn pthread_clockjoin_np(
    thread: pthread_t,
    result: *mut *mut c_void,
    clock: libc::clockid_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller's arguments.
    join_by(thread, move || unsafe {
        CLOCKJOIN.get()(thread, result, clock, until)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn thrd_join(thread: pthread_t, result: *mut c_int) -> c_int {
    // SAFETY: the caller's arguments.
    join_by(thread, move || unsafe { JOIN11.get()(thread, result) })
}

/// The thread is about to be detached: after it the handle may be another's.
fn detaches(thread: pthread_t) {
    let table = Locked::take();
    if let Some(entry) = table.find(thread, Which::Newest) {
        entry.add_flag(GONE);
        table.sweep(entry);
    }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn pthread_detach(thread: pthread_t) -> c_int {
    if enabled() {
        detaches(thread);
    }
    // SAFETY: the caller's arguments.
    unsafe { DETACH.get()(thread) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn thrd_detach(thread: pthread_t) -> c_int {
    if enabled() {
        detaches(thread);
    }
    // SAFETY: the caller's arguments.
    unsafe { DETACH11.get()(thread) }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use super::*;
    use crate::testing::{detector, end_child, fork, on, went_well};

    #[test]
    fn a_thread_waits_for_its_creator_to_go_on() {
        static HAS_RUN: AtomicBool = AtomicBool::new(false);
        unsafe extern "C-unwind" fn run(arg: *mut c_void) -> *mut c_void {
            HAS_RUN.store(true, Relaxed);
            arg
        }
        let _detector = detector();
        let me = go_start(None, 1 << 40, Pc::NONE);
        on(me, || {
            let mut thread = 0;
            let error = create_by(me, ptr::null_mut(), 0, |entry| {
                entry.routine.set(Some(run));
                let entry = ptr::from_ref(entry).cast_mut().cast();
                // SAFETY: `begin` gets its entry.
                let error = unsafe { CREATE.get()(&mut thread, ptr::null(), begin, entry) };
                std::thread::sleep(Duration::from_millis(HEAD_START_MS / 20));
                assert!(!HAS_RUN.load(Relaxed));
                error
            });
            assert_eq!(error, 0);
            // SAFETY: the thread, which nobody else joins.
            assert_eq!(unsafe { pthread_join(thread, ptr::null_mut()) }, 0);
            assert!(HAS_RUN.load(Relaxed));
        });
        go_end(me);
    }

    #[test]
    fn a_thread_of_a_child_ends_without_the_detector() {
        let _detector = detector();
        let thread = std::thread::spawn(|| {
            thread_attach();
            // In the child it stays held, as where another thread has it at that moment.
            let held = Locked::take();
            let Some(child) = fork() else {
                // SAFETY: the key is there.
                let entry = unsafe { libc::pthread_getspecific(KEY.load(Relaxed)) };
                // SAFETY: the thread's own entry.
                (0..ROUNDS).for_each(|_| unsafe { ends(entry) });
                end_child(!entry.is_null());
            };
            drop(held);
            assert!(went_well(child));
        });
        thread.join().expect("it does not panic");
    }
}
