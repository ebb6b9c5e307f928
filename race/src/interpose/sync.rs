//! Locks and waits of the C library, as C code and some crates use them. Rust's std has its own,
//! which are seen as what they are made of.
//!
//! | object | who releases | who acquires |
//! | --- | --- | --- |
//! | mutex, spin lock | unlock, before it, unless it is going to fail; a robust mutex also the end of its owner | lock, after it |
//! | read-write lock | write unlock at the lock; read unlock at the byte after its address | read lock at the lock; write lock at both |
//! | condition variable | signal, broadcast | a wait that was not in vain; every wait also gives its mutex back and takes it again |
//! | once | the routine, when it is done | every caller |
//! | barrier | who comes | who goes |
//! | semaphore | post | a wait that took one |
//!
//! Readers are not ordered among themselves, and a writer is ordered after all of them. C11's
//! mutexes, conditions and once flags are POSIX's by other names.
//!
//! # An unlock that fails
//! The release has to come before the unlock: after it the next owner may be there already. And one
//! that was none has to leave no trace, since it would take the place of the owner's. So the mutex
//! is asked beforehand whose it is, as glibc does itself.

use std::cell::Cell;
use std::ffi::c_int;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::Relaxed};

use libc::{
    clockid_t, pthread_barrier_t, pthread_cond_t, pthread_mutex_t, pthread_once_t,
    pthread_rwlock_t, pthread_spinlock_t, sem_t, timespec,
};

use super::real::{keep_errno, real};
use super::watched;
use crate::{GoCtx, acquire, release, release_g, release_merge};

/// C functions that take an object and more, with the type of the object. `$how` is one of the
/// functions below, and gets the address of the object and libc's function as a closure.
macro_rules! on_object {
    ($($(#[$version:literal])? $NAME:ident $name:ident($object:ty $(, $arg:ident: $ty:ty)*) = $how:ident;)*) => {
        real! { $($(#[$version])? static $NAME: fn $name(*mut $object $(, $ty)*) -> c_int;)* }
        $(#[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name(object: *mut $object $(, $arg: $ty)*) -> c_int {
            // SAFETY: the caller's arguments.
            $how(object.addr(), move || unsafe { $NAME.get()(object $(, $arg)*) })
        })*
    };
}

on_object! {
    MUTEX_LOCK pthread_mutex_lock(pthread_mutex_t) = locks;
    MUTEX_TRYLOCK pthread_mutex_trylock(pthread_mutex_t) = locks;
    MUTEX_TIMEDLOCK pthread_mutex_timedlock(pthread_mutex_t, until: *const timespec) = locks;
    MUTEX_CLOCKLOCK pthread_mutex_clocklock(pthread_mutex_t, clock: clockid_t, until: *const timespec) = locks;
    MUTEX_UNLOCK pthread_mutex_unlock(pthread_mutex_t) = unlocks_mutex;
    MTX_LOCK mtx_lock(pthread_mutex_t) = locks;
    MTX_TRYLOCK mtx_trylock(pthread_mutex_t) = locks;
    MTX_TIMEDLOCK mtx_timedlock(pthread_mutex_t, until: *const timespec) = locks;
    MTX_UNLOCK mtx_unlock(pthread_mutex_t) = unlocks_mutex;
    SPIN_LOCK pthread_spin_lock(pthread_spinlock_t) = locks;
    SPIN_TRYLOCK pthread_spin_trylock(pthread_spinlock_t) = locks;
    SPIN_UNLOCK pthread_spin_unlock(pthread_spinlock_t) = unlocks;
    RDLOCK pthread_rwlock_rdlock(pthread_rwlock_t) = locks;
    TRYRDLOCK pthread_rwlock_tryrdlock(pthread_rwlock_t) = locks;
    TIMEDRDLOCK pthread_rwlock_timedrdlock(pthread_rwlock_t, until: *const timespec) = locks;
    CLOCKRDLOCK pthread_rwlock_clockrdlock(pthread_rwlock_t, clock: clockid_t, until: *const timespec) = locks;
    WRLOCK pthread_rwlock_wrlock(pthread_rwlock_t) = locks_to_write;
    TRYWRLOCK pthread_rwlock_trywrlock(pthread_rwlock_t) = locks_to_write;
    TIMEDWRLOCK pthread_rwlock_timedwrlock(pthread_rwlock_t, until: *const timespec) = locks_to_write;
    CLOCKWRLOCK pthread_rwlock_clockwrlock(pthread_rwlock_t, clock: clockid_t, until: *const timespec) = locks_to_write;
    RW_UNLOCK pthread_rwlock_unlock(pthread_rwlock_t) = unlocks_either;
    #[c"GLIBC_2.3.2"]
    SIGNAL pthread_cond_signal(pthread_cond_t) = posts;
    #[c"GLIBC_2.3.2"]
    BROADCAST pthread_cond_broadcast(pthread_cond_t) = posts;
    CND_SIGNAL cnd_signal(pthread_cond_t) = posts;
    CND_BROADCAST cnd_broadcast(pthread_cond_t) = posts;
    BARRIER pthread_barrier_wait(pthread_barrier_t) = meets;
    SEM_POST sem_post(sem_t) = posts;
    SEM_WAIT sem_wait(sem_t) = locks;
    SEM_TRYWAIT sem_trywait(sem_t) = locks;
    SEM_TIMEDWAIT sem_timedwait(sem_t, until: *const timespec) = locks;
    SEM_CLOCKWAIT sem_clockwait(sem_t, clock: clockid_t, until: *const timespec) = locks;
}

/// Whether a lock was taken: also one whose last owner died.
fn is_taken(error: c_int) -> bool {
    error == 0 || error == libc::EOWNERDEAD
}

/// `fn name(object, f) { ... }`: what a call does in race mode; without it, the call is `f` and no
/// more.
macro_rules! in_race_mode {
    ($(fn $name:ident($object:ident, $f:ident) $body:block)*) => {$(
        #[inline(always)]
        fn $name(object: usize, f: impl FnOnce() -> c_int) -> c_int {
            #[cold]
            #[inline(never)]
            fn watch($object: usize, $f: impl FnOnce() -> c_int) -> c_int $body
            if watched().is_none() { f() } else { watch(object, f) }
        }
    )*};
}

in_race_mode! {
    fn locks(object, f) {
        let error = f();
        if is_taken(error) {
            keep_errno(|| acquire(object));
        }
        error
    }

    fn locks_to_write(object, f) {
        let error = f();
        if error == 0 {
            keep_errno(|| {
                acquire(object);
                acquire(object + 1);
            });
        }
        error
    }

    fn unlocks_mutex(object, f) {
        if is_unlocked_by_me(object) {
            release(object);
        }
        f()
    }

    fn unlocks(object, f) {
        release(object);
        f()
    }

    fn unlocks_either(object, f) {
        if is_written_here(object) {
            release(object);
        } else {
            release_merge(object + 1);
        }
        f()
    }

    fn posts(object, f) {
        release_merge(object);
        f()
    }

    fn meets(object, f) {
        release_merge(object);
        let result = f();
        acquire(object);
        result
    }
}

/// Whether the calling thread has the read-write lock for writing: glibc's own test, by the field
/// that it looks at.
fn is_written_here(lock: usize) -> bool {
    const WRITER: usize = 24;
    let writer = std::ptr::with_exposed_provenance::<c_int>(lock + WRITER);
    // SAFETY: the caller holds the lock, so the writer does not change to or from it meanwhile.
    let writer = unsafe { writer.read_volatile() };
    // SAFETY: no preconditions.
    writer == unsafe { libc::gettid() }
}

/// The first words of glibc's mutex.
#[repr(C)]
struct Mutex {
    lock: AtomicU32,
    count: AtomicU32,
    owner: AtomicI32,
    users: AtomicU32,
    kind: AtomicI32,
}

/// Whether the calling thread may unlock the mutex: glibc's own tests, by the fields that it looks
/// at. A type that has no owner to be asked for is anybody's to unlock.
///
/// The answer does not change before the unlock: the fields name this thread only while it has the
/// mutex.
fn is_unlocked_by_me(mutex: usize) -> bool {
    /// The bits of the type itself; the others say who shares it, and how.
    const TYPE: c_int = 3;
    const ROBUST: c_int = 16;
    const INHERITS: c_int = 32;
    const OWNER_IN_LOCK: u32 = 0x3fff_ffff;
    let mutex = std::ptr::with_exposed_provenance::<Mutex>(mutex);
    // SAFETY: the caller's mutex, which other threads change by atomic operations.
    let mutex = unsafe { &*mutex };
    let kind = mutex.kind.load(Relaxed);
    let is_checked = [
        libc::PTHREAD_MUTEX_RECURSIVE,
        libc::PTHREAD_MUTEX_ERRORCHECK,
    ]
    .contains(&(kind & TYPE));
    if !is_checked && kind & (ROBUST | INHERITS) == 0 {
        return true;
    }
    // SAFETY: no preconditions.
    let me = unsafe { libc::gettid() };
    // One whose last owner died has no other owner until it is made consistent.
    mutex.owner.load(Relaxed) == me
        || kind & (ROBUST | INHERITS) != 0
            && mutex.lock.load(Relaxed) & OWNER_IN_LOCK == me.cast_unsigned()
}

/// The thread ends, and with it what it did with the robust mutexes that it still has: who gets one
/// of them next is told that its owner died, and is ordered after it.
pub(super) fn owner_ends(ctx: GoCtx) {
    /// The kernel's list of them, which glibc keeps.
    #[repr(C)]
    struct Head {
        first: usize,
        offset: isize,
        pending: usize,
    }
    /// Bit 0 says that a mutex inherits priority.
    const FLAGS: usize = 1;
    /// As many as the kernel itself looks at.
    const LIMIT: usize = 2048;
    let (mut head, mut size) = (std::ptr::null::<Head>(), 0_usize);
    let (head_at, size_at) = (&raw mut head, &raw mut size);
    // SAFETY: asks for the calling thread's list; there is room for the answers.
    let error = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, head_at, size_at) };
    if error != 0 {
        return;
    }
    // SAFETY: null, or the thread's list, which it changes by itself only.
    let Some(list) = (unsafe { head.as_ref() }) else {
        return;
    };
    let mut at = list.first & !FLAGS;
    for _ in 0..LIMIT {
        if at == head.addr() || at == 0 {
            return;
        }
        release_g(ctx, at.wrapping_add_signed(list.offset));
        let next = std::ptr::with_exposed_provenance::<usize>(at);
        // SAFETY: an entry of the list is in a mutex that the thread has, and begins with the link
        // to the next.
        at = unsafe { next.read() } & !FLAGS;
    }
}

real! {
    #[c"GLIBC_2.3.2"]
    static COND_WAIT: fn pthread_cond_wait(*mut pthread_cond_t, *mut pthread_mutex_t) -> c_int;
    #[c"GLIBC_2.3.2"]
    static COND_TIMEDWAIT: fn pthread_cond_timedwait(*mut pthread_cond_t, *mut pthread_mutex_t, *const timespec) -> c_int;
    static COND_CLOCKWAIT: fn pthread_cond_clockwait(*mut pthread_cond_t, *mut pthread_mutex_t, clockid_t, *const timespec) -> c_int;
    static CND_WAIT: fn cnd_wait(*mut pthread_cond_t, *mut pthread_mutex_t) -> c_int;
    static CND_TIMEDWAIT: fn cnd_timedwait(*mut pthread_cond_t, *mut pthread_mutex_t, *const timespec) -> c_int;
    static ONCE: fn pthread_once(*mut pthread_once_t, unsafe extern "C-unwind" fn()) -> c_int;
    static CALL_ONCE: fn call_once(*mut pthread_once_t, unsafe extern "C-unwind" fn()) -> ();
}

/// A wait at the condition variable, by `f`.
#[inline(always)]
fn waits(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    f: impl FnOnce() -> c_int,
) -> c_int {
    if watched().is_none() {
        return f();
    }
    if !is_unlocked_by_me(mutex.addr()) {
        return f(); // which fails
    }
    release(mutex.addr());
    let error = f();
    keep_errno(|| {
        acquire(mutex.addr());
        if is_taken(error) {
            acquire(condition.addr());
        }
    });
    error
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn pthread_cond_wait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
) -> c_int {
    // SAFETY: the caller's arguments.
    waits(condition, mutex, move || unsafe {
        COND_WAIT.get()(condition, mutex)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn pthread_cond_timedwait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller's arguments.
    waits(condition, mutex, move || unsafe {
        COND_TIMEDWAIT.get()(condition, mutex, until)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn pthread_cond_clockwait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    clock: clockid_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller's arguments.
    waits(condition, mutex, move || unsafe {
        COND_CLOCKWAIT.get()(condition, mutex, clock, until)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn cnd_wait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
) -> c_int {
    // SAFETY: the caller's arguments.
    waits(condition, mutex, move || unsafe {
        CND_WAIT.get()(condition, mutex)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn cnd_timedwait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller's arguments.
    waits(condition, mutex, move || unsafe {
        CND_TIMEDWAIT.get()(condition, mutex, until)
    })
}

/// A call of `pthread_once`: the routine and the address of the control word.
type OnceCall = (unsafe extern "C-unwind" fn(), usize);

thread_local! {
    /// The thread's innermost call of `pthread_once`, whose routine has no argument to tell it by.
    static ONCE_CALL: Cell<Option<OnceCall>> = const { Cell::new(None) };
}

/// A call of `once`, which is `pthread_once` or its like.
#[inline(always)]
fn call_by<R>(
    control: *mut pthread_once_t,
    routine: unsafe extern "C-unwind" fn(),
    once: impl FnOnce(unsafe extern "C-unwind" fn()) -> R,
) -> R {
    if watched().is_none() {
        return once(routine);
    }
    let outer = ONCE_CALL.replace(Some((routine, control.addr())));
    let result = once(run_once);
    ONCE_CALL.set(outer);
    acquire(control.addr());
    result
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn pthread_once(
    control: *mut pthread_once_t,
    routine: unsafe extern "C-unwind" fn(),
) -> c_int {
    // SAFETY: the caller's control word.
    call_by(control, routine, move |routine| unsafe {
        ONCE.get()(control, routine)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn call_once(
    control: *mut pthread_once_t,
    routine: unsafe extern "C-unwind" fn(),
) {
    // SAFETY: the caller's control word.
    call_by(control, routine, move |routine| unsafe {
        CALL_ONCE.get()(control, routine);
    });
}

/// The routine, and then its release: nobody else returns from `pthread_once` before that.
unsafe extern "C-unwind" fn run_once() {
    let Some((routine, control)) = ONCE_CALL.get() else {
        return;
    };
    // SAFETY: the program's own.
    unsafe { routine() };
    release_merge(control);
}
