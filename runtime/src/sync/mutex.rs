//! [`Mutex`]: mutual exclusion for goroutines, with the data inside.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use super::deadline;
use super::raw_mutex::RawMutex;

/// A mutual exclusion lock that parks goroutines, never threads.
///
/// As in `parking_lot`, there is no poisoning: a panic with the lock held unlocks it. The lock lets whoever runs go
/// first, which keeps it fast, and hands itself over to a waiter that has lost for more than a millisecond.
///
/// **Blocking**: [`lock`](Mutex::lock) parks the calling goroutine; on a plain thread it blocks that thread.
///
/// **Happens-before**: an unlock happens before the next lock returns.
///
/// # Examples
///
/// ```
/// use raddle::sync::Mutex;
///
/// static TOTAL: Mutex<u64> = Mutex::new(0);
///
/// std::thread::scope(|s| {
///     for _ in 0..4 {
///         s.spawn(|| *TOTAL.lock() += 1);
///     }
/// });
/// assert_eq!(*TOTAL.lock(), 4);
/// ```
#[derive(Default)]
pub struct Mutex<T: ?Sized> {
    raw: RawMutex,
    data: UnsafeCell<T>,
}

// SAFETY: the mutex owns the data.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: the data goes from one thread to another, by one lock at a time; it is never shared.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    /// Returns an unlocked mutex with `value` inside.
    pub const fn new(value: T) -> Mutex<T> {
        Mutex {
            raw: RawMutex::new(),
            data: UnsafeCell::new(value),
        }
    }

    /// Returns the data.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Locks the mutex, waiting for it as long as it takes.
    ///
    /// Locking it again while holding it waits for ever, which the deadlock report shows.
    ///
    /// **Blocking**: parks the goroutine while another holds the mutex.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.raw.lock();
        self.guard()
    }

    /// Locks the mutex if that takes no waiting.
    #[inline]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.raw.try_lock().then(|| self.guard())
    }

    /// Locks the mutex, waiting at most `timeout`.
    ///
    /// **Blocking**: parks the goroutine while another holds the mutex.
    #[inline]
    #[track_caller]
    pub fn try_lock_for(&self, timeout: Duration) -> Option<MutexGuard<'_, T>> {
        self.raw
            .lock_until(deadline::after(timeout))
            .then(|| self.guard())
    }

    /// Locks the mutex, waiting until `deadline` at most.
    ///
    /// **Blocking**: parks the goroutine while another holds the mutex.
    #[inline]
    #[track_caller]
    pub fn try_lock_until(&self, deadline: Instant) -> Option<MutexGuard<'_, T>> {
        self.raw
            .lock_until(deadline::at(deadline))
            .then(|| self.guard())
    }

    /// Returns whether the mutex is held just now: a hint, out of date at once.
    pub fn is_locked(&self) -> bool {
        self.raw.is_locked()
    }

    /// Returns the data: an exclusive reference needs no lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }

    /// Returns a pointer to the data.
    pub const fn data_ptr(&self) -> *mut T {
        self.data.get()
    }

    fn guard(&self) -> MutexGuard<'_, T> {
        MutexGuard {
            mutex: self,
            not_send: PhantomData,
        }
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Mutex<T> {
        Mutex::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut d = f.debug_struct("Mutex");
        match self.try_lock() {
            Some(data) => d.field("data", &&*data).finish(),
            None => d.field("data", &format_args!("<locked>")).finish(),
        }
    }
}

/// A held [`Mutex`]: gives access to the data, and unlocks when dropped.
#[must_use = "the mutex is unlocked as soon as its guard is dropped"]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    /// A lock belongs to the goroutine that took it.
    not_send: PhantomData<*const ()>,
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// Returns the mutex that `guard` holds.
    pub fn mutex(guard: &MutexGuard<'a, T>) -> &'a Mutex<T> {
        guard.mutex
    }

    /// Turns `guard` into one for a part of the data.
    pub fn map<U: ?Sized>(
        guard: MutexGuard<'a, T>,
        part: impl FnOnce(&mut T) -> &mut U,
    ) -> MappedMutexGuard<'a, U> {
        let guard = ManuallyDrop::new(guard);
        let unlock = Unlock(&guard.mutex.raw);
        // SAFETY: the mutex is held, and the guard that gave access is gone.
        let data = part(unsafe { &mut *guard.mutex.data.get() });
        MappedMutexGuard {
            data,
            unlock,
            lifetime: PhantomData,
        }
    }

    /// Turns `guard` into one for a part of the data, or gives it back if `part` finds none.
    ///
    /// # Errors
    ///
    /// The guard, where `part` returned `None`.
    pub fn try_map<U: ?Sized>(
        guard: MutexGuard<'a, T>,
        part: impl FnOnce(&mut T) -> Option<&mut U>,
    ) -> Result<MappedMutexGuard<'a, U>, MutexGuard<'a, T>> {
        let mutex = guard.mutex;
        // SAFETY: the mutex is held by `guard`, which is not used before `part` is done.
        match part(unsafe { &mut *mutex.data.get() }) {
            None => Err(guard),
            Some(data) => {
                let data: *mut U = data;
                std::mem::forget(guard);
                Ok(MappedMutexGuard {
                    data,
                    unlock: Unlock(&mutex.raw),
                    lifetime: PhantomData,
                })
            }
        }
    }

    /// Runs `f` with the mutex unlocked, and locks it again, also when `f` panics.
    ///
    /// **Blocking**: parks the goroutine while another holds the mutex.
    #[track_caller]
    pub fn unlocked<R>(guard: &mut MutexGuard<'a, T>, f: impl FnOnce() -> R) -> R {
        struct Relock<'a>(&'a RawMutex);
        impl Drop for Relock<'_> {
            fn drop(&mut self) {
                self.0.lock();
            }
        }
        // SAFETY: the guard stands for the held mutex, and is out of reach until it is locked again.
        unsafe { guard.mutex.raw.unlock() };
        let _relock = Relock(&guard.mutex.raw);
        f()
    }

    /// Unlocks the mutex by handing it to the goroutine that has waited longest, if one waits.
    pub fn unlock_fair(guard: MutexGuard<'a, T>) {
        let guard = ManuallyDrop::new(guard);
        // SAFETY: the guard stands for the held mutex.
        unsafe { guard.mutex.raw.unlock_fair() };
    }

    /// The raw mutex that `guard` holds.
    pub(super) fn raw(guard: &MutexGuard<'a, T>) -> &'a RawMutex {
        &guard.mutex.raw
    }
}

// SAFETY: a shared guard gives shared access to the data only.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard stands for the held lock.
        unsafe { &*self.mutex.data.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard stands for the held lock.
        unsafe { &mut *self.mutex.data.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the guard stands for the held lock.
        unsafe { self.mutex.raw.unlock() };
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Unlocks when dropped.
struct Unlock<'a>(&'a RawMutex);

impl Drop for Unlock<'_> {
    fn drop(&mut self) {
        // SAFETY: made from a guard, in whose place it holds the mutex.
        unsafe { self.0.unlock() };
    }
}

/// A held [`Mutex`] of which only a part is in reach: see [`MutexGuard::map`].
#[must_use = "the mutex is unlocked as soon as its guard is dropped"]
pub struct MappedMutexGuard<'a, T: ?Sized> {
    data: *mut T,
    unlock: Unlock<'a>,
    lifetime: PhantomData<&'a mut T>,
}

impl<'a, T: ?Sized> MappedMutexGuard<'a, T> {
    /// Turns `guard` into one for a part of its part.
    pub fn map<U: ?Sized>(
        guard: MappedMutexGuard<'a, T>,
        part: impl FnOnce(&mut T) -> &mut U,
    ) -> MappedMutexGuard<'a, U> {
        // SAFETY: the mutex is held by `guard`, through which nothing is reached before `part` is done.
        let data = part(unsafe { &mut *guard.data });
        MappedMutexGuard {
            data,
            unlock: guard.unlock,
            lifetime: PhantomData,
        }
    }
}

// SAFETY: a shared guard gives shared access to the data only.
unsafe impl<T: ?Sized + Sync> Sync for MappedMutexGuard<'_, T> {}

impl<T: ?Sized> Deref for MappedMutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the mutex, and `data` is part of what it guards.
        unsafe { &*self.data }
    }
}

impl<T: ?Sized> DerefMut for MappedMutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the mutex, and `data` is part of what it guards.
        unsafe { &mut *self.data }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MappedMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for MappedMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
