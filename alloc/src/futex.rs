//! A lock of one word, and a one-shot wake-up, both on the futex system call.
//!
//! # States
//!
//! | `Lock` word | meaning |
//! | --- | --- |
//! | 0 | free |
//! | 1 | held, nobody sleeps on it |
//! | 2 | held, somebody may sleep on it |
//!
//! | `Note` word | meaning |
//! | --- | --- |
//! | 0 | clear |
//! | 1 | signalled: the next `sleep` returns at once and clears it |
//! | 2 | one thread sleeps |
//!
//! # Memory ordering
//!
//! - `Lock`: `unlock: swap Release` ⇄ `lock: compare_exchange/swap Acquire`: the critical section before is visible to the one after.
//! - `Note`: `wake: swap Release` ⇄ `sleep: swap Acquire`: what the waker wrote is visible to the woken.
//!
//! # Blocking
//!
//! Both block the OS thread (M). A critical section under `Lock` is a few dozen instructions and never parks a goroutine.
//!
//! # Why not
//!
//! `parking_lot` keeps a thread-local record for every thread that ever waited, with a destructor and a share in a
//! global table. Here thread-locals belong to goroutines, of which there may be millions: each that once met a
//! contended channel would own such a record. And `fork` must give a lock back in a child where those who waited are not.
//!
//! # References
//!
//! Ulrich Drepper, "Futexes Are Tricky", mutex 3.

use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The first spin is 2 to this power pauses, of some 40 ns each,
const SPIN_FROM: u32 = 4;
/// and the last before it sleeps half of 2 to this.
const SPIN_TO: u32 = 9;

/// Sleeps while `*word == expected`, at most for `timeout`. Wake-ups may be spurious.
pub fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
    let ts = timeout.map(|d| libc::timespec {
        tv_sec: libc::time_t::try_from(d.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: i64::from(d.subsec_nanos()),
    });
    let ts = ts.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the word outlives the call, and the time-out is null or a valid relative time.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            expected,
            ts,
        )
    };
}

/// Wakes at most `n` threads that sleep on `word`.
///
/// Takes a pointer: the word may be gone by the time the kernel looks at it, which is harmless.
#[expect(
    clippy::not_unsafe_ptr_arg_deref,
    reason = "the address is a key, never followed"
)]
pub fn wake(word: *const AtomicU32, n: i32) {
    // SAFETY: the kernel uses the address of a private futex as a key only.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word,
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            n,
        )
    };
}

/// The lock of the runtime's short critical sections.
///
/// It blocks the OS thread, never the goroutine, so it must be held for a few dozen instructions only, and only where nobody
/// takes the caller's P away or stops its thread: in the scheduler between `enter` and the end of its guard, in the allocator
/// in a busy section. A holder that does not run would stop all others.
#[derive(Debug, Default)]
pub struct Lock {
    word: AtomicU32,
}

impl Lock {
    /// A free lock.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
        }
    }

    /// Takes the lock, blocking the OS thread while another has it.
    #[inline]
    pub fn lock(&self) {
        if self
            .word
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            self.lock_contended();
        }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock(&self) -> bool {
        self.word
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    #[cold]
    fn lock_contended(&self) {
        // Critical sections are shorter than a system call, so watch the word for about one before sleeping on it. But look
        // ever less often: each look takes the cache line, with what it guards, from the holder, who may well take the lock
        // again at once. Two Ps that pass a busy channel to and fro at every element are slower than one.
        for round in SPIN_FROM..SPIN_TO {
            for _ in 0..1 << round {
                std::hint::spin_loop();
            }
            if self.word.load(Ordering::Relaxed) == 0 && self.try_lock() {
                return;
            }
        }
        while self.word.swap(2, Ordering::Acquire) != 0 {
            wait(&self.word, 2, None);
        }
    }

    /// Gives the lock back.
    ///
    /// # Safety
    ///
    /// The caller holds the lock.
    #[inline]
    pub unsafe fn unlock(&self) {
        // Once the word is 0 another thread may take the lock and free its memory, hence the pointer.
        let word = ptr::from_ref(&self.word);
        if self.word.swap(0, Ordering::Release) == 2 {
            wake(word, 1);
        }
    }
}

/// A value under a [`Lock`].
pub(crate) struct Locked<T> {
    lock: Lock,
    value: UnsafeCell<T>,
}

// SAFETY: the value is used under the lock, by one thread after the other.
unsafe impl<T: Send> Sync for Locked<T> {}

impl<T> Locked<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self {
            lock: Lock::new(),
            value: UnsafeCell::new(value),
        }
    }

    /// The lock, for `fork`.
    pub(crate) fn lock(&self) -> &Lock {
        &self.lock
    }

    /// The value, for who holds the lock.
    pub(crate) fn get(&self) -> *mut T {
        self.value.get()
    }

    /// Runs `f` on the value, under the lock. Not to be nested.
    #[inline]
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        self.lock.lock();
        // SAFETY: under the lock.
        let result = f(unsafe { &mut *self.value.get() });
        // SAFETY: taken above.
        unsafe { self.lock.unlock() };
        result
    }
}

/// A wake-up for one sleeper, remembered if it comes first.
#[derive(Debug, Default)]
pub struct Note {
    word: AtomicU32,
}

impl Note {
    /// A clear note.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
        }
    }

    /// Sleeps until woken or until `timeout` has passed. Returns whether it was woken.
    pub fn sleep(&self, timeout: Option<Duration>) -> bool {
        let deadline = timeout.map(|d| crate::now_ns().saturating_add(d.as_nanos() as u64));
        if self.word.swap(2, Ordering::Acquire) == 1 {
            self.word.store(0, Ordering::Relaxed);
            return true;
        }
        loop {
            let left = match deadline {
                None => None,
                Some(deadline) => match deadline.saturating_sub(crate::now_ns()) {
                    0 => break,
                    left => Some(Duration::from_nanos(left)),
                },
            };
            wait(&self.word, 2, left);
            if self.word.load(Ordering::Relaxed) == 1 {
                break;
            }
        }
        // Either woken, or late: a wake-up that came at the last moment still counts.
        self.word.swap(0, Ordering::Acquire) == 1
    }

    /// Wakes the sleeper, or lets the next sleep return at once.
    ///
    /// # Safety
    ///
    /// `note` is valid until the swap; the woken thread may free it right after.
    pub unsafe fn wake(note: *const Note) {
        // SAFETY: valid by the contract.
        let word = unsafe { &raw const (*note).word };
        // SAFETY: as above; the reference ends with the swap.
        if unsafe { &*word }.swap(1, Ordering::Release) == 2 {
            wake(word, 1);
        }
    }
}
