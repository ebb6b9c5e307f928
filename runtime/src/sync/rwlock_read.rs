//! The guards of a [`RwLock`] held for reading.

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;

use super::raw_rwlock::RawRwLock;
use super::rwlock::RwLock;

/// A [`RwLock`] held for reading: gives shared access to the data, and unlocks when dropped.
#[must_use = "the lock is given back as soon as its guard is dropped"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    pub(super) lock: &'a RwLock<T>,
    /// A lock belongs to the goroutine that took it.
    pub(super) not_send: PhantomData<*const ()>,
}

impl<'a, T: ?Sized> RwLockReadGuard<'a, T> {
    /// Returns the lock that `guard` holds.
    pub fn rwlock(guard: &RwLockReadGuard<'a, T>) -> &'a RwLock<T> {
        guard.lock
    }

    /// Turns `guard` into one for a part of the data.
    pub fn map<U: ?Sized>(
        guard: RwLockReadGuard<'a, T>,
        part: impl FnOnce(&T) -> &U,
    ) -> MappedRwLockReadGuard<'a, U> {
        let guard = ManuallyDrop::new(guard);
        let unlock = UnlockRead(&guard.lock.raw);
        // SAFETY: the lock is held, and the guard that gave access is gone.
        let data = part(unsafe { &*guard.lock.data.get() });
        MappedRwLockReadGuard {
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
        guard: RwLockReadGuard<'a, T>,
        part: impl FnOnce(&T) -> Option<&U>,
    ) -> Result<MappedRwLockReadGuard<'a, U>, RwLockReadGuard<'a, T>> {
        let lock = guard.lock;
        // SAFETY: the lock is held by `guard`, which is not used before `part` is done.
        match part(unsafe { &*lock.data.get() }) {
            None => Err(guard),
            Some(data) => {
                let data: *const U = data;
                std::mem::forget(guard);
                Ok(MappedRwLockReadGuard {
                    data,
                    unlock: UnlockRead(&lock.raw),
                    lifetime: PhantomData,
                })
            }
        }
    }
}

// SAFETY: a shared guard gives shared access to the data only.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard stands for the held lock.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the guard stands for the held lock.
        unsafe { self.lock.raw.unlock_read() };
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Gives the lock back when dropped.
struct UnlockRead<'a>(&'a RawRwLock);

impl Drop for UnlockRead<'_> {
    fn drop(&mut self) {
        // SAFETY: made from a guard, in whose place it holds the lock.
        unsafe { self.0.unlock_read() };
    }
}

/// A [`RwLock`] held for reading of which only a part is in reach: see [`RwLockReadGuard::map`].
#[must_use = "the lock is given back as soon as its guard is dropped"]
pub struct MappedRwLockReadGuard<'a, T: ?Sized> {
    data: *const T,
    unlock: UnlockRead<'a>,
    lifetime: PhantomData<&'a T>,
}

impl<'a, T: ?Sized> MappedRwLockReadGuard<'a, T> {
    /// Turns `guard` into one for a part of its part.
    pub fn map<U: ?Sized>(
        guard: MappedRwLockReadGuard<'a, T>,
        part: impl FnOnce(&T) -> &U,
    ) -> MappedRwLockReadGuard<'a, U> {
        // SAFETY: the lock is held by `guard`, through which nothing is reached before `part` is done.
        let data = part(unsafe { &*guard.data });
        MappedRwLockReadGuard {
            data,
            unlock: guard.unlock,
            lifetime: PhantomData,
        }
    }
}

// SAFETY: a shared guard gives shared access to the data only.
unsafe impl<T: ?Sized + Sync> Sync for MappedRwLockReadGuard<'_, T> {}

impl<T: ?Sized> Deref for MappedRwLockReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock, and `data` is part of what it guards.
        unsafe { &*self.data }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MappedRwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for MappedRwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
