//! The guards of a [`RwLock`] held for writing.

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

use super::raw_rwlock::RawRwLock;
use super::rwlock::RwLock;
use super::rwlock_read::RwLockReadGuard;

/// A [`RwLock`] held for writing: gives exclusive access to the data, and unlocks when dropped.
#[must_use = "the lock is given back as soon as its guard is dropped"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    pub(super) lock: &'a RwLock<T>,
    /// A lock belongs to the goroutine that took it.
    pub(super) not_send: PhantomData<*const ()>,
}

impl<'a, T: ?Sized> RwLockWriteGuard<'a, T> {
    /// Returns the lock that `guard` holds.
    pub fn rwlock(guard: &RwLockWriteGuard<'a, T>) -> &'a RwLock<T> {
        guard.lock
    }

    /// Turns `guard` into one for a part of the data.
    pub fn map<U: ?Sized>(
        guard: RwLockWriteGuard<'a, T>,
        part: impl FnOnce(&mut T) -> &mut U,
    ) -> MappedRwLockWriteGuard<'a, U> {
        let guard = ManuallyDrop::new(guard);
        let unlock = UnlockWrite(&guard.lock.raw);
        // SAFETY: the lock is held, and the guard that gave access is gone.
        let data = part(unsafe { &mut *guard.lock.data.get() });
        MappedRwLockWriteGuard {
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
        guard: RwLockWriteGuard<'a, T>,
        part: impl FnOnce(&mut T) -> Option<&mut U>,
    ) -> Result<MappedRwLockWriteGuard<'a, U>, RwLockWriteGuard<'a, T>> {
        let lock = guard.lock;
        // SAFETY: the lock is held by `guard`, which is not used before `part` is done.
        match part(unsafe { &mut *lock.data.get() }) {
            None => Err(guard),
            Some(data) => {
                let data: *mut U = data;
                std::mem::forget(guard);
                Ok(MappedRwLockWriteGuard {
                    data,
                    unlock: UnlockWrite(&lock.raw),
                    lifetime: PhantomData,
                })
            }
        }
    }

    /// Turns the write lock into a read lock without letting another writer in between; waiting readers get in too.
    ///
    /// # Examples
    ///
    /// ```
    /// use raddle::sync::{RwLock, RwLockWriteGuard};
    ///
    /// let lock = RwLock::new(1);
    /// let mut w = lock.write();
    /// *w = 2;
    /// let r = RwLockWriteGuard::downgrade(w);
    /// assert_eq!((*r, lock.try_read().is_some()), (2, true));
    /// ```
    pub fn downgrade(guard: RwLockWriteGuard<'a, T>) -> RwLockReadGuard<'a, T> {
        let lock = ManuallyDrop::new(guard).lock;
        // SAFETY: the guard, now gone, stood for the held write lock.
        unsafe { lock.raw.downgrade() };
        lock.read_guard()
    }
}

// SAFETY: a shared guard gives shared access to the data only.
unsafe impl<T: ?Sized + Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard stands for the held lock.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard stands for the held lock.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the guard stands for the held lock.
        unsafe { self.lock.raw.unlock_write() };
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Gives the lock back when dropped.
struct UnlockWrite<'a>(&'a RawRwLock);

impl Drop for UnlockWrite<'_> {
    fn drop(&mut self) {
        // SAFETY: made from a guard, in whose place it holds the lock.
        unsafe { self.0.unlock_write() };
    }
}

/// A [`RwLock`] held for writing of which only a part is in reach: see [`RwLockWriteGuard::map`].
#[must_use = "the lock is given back as soon as its guard is dropped"]
pub struct MappedRwLockWriteGuard<'a, T: ?Sized> {
    data: *mut T,
    unlock: UnlockWrite<'a>,
    lifetime: PhantomData<&'a mut T>,
}

impl<'a, T: ?Sized> MappedRwLockWriteGuard<'a, T> {
    /// Turns `guard` into one for a part of its part.
    pub fn map<U: ?Sized>(
        guard: MappedRwLockWriteGuard<'a, T>,
        part: impl FnOnce(&mut T) -> &mut U,
    ) -> MappedRwLockWriteGuard<'a, U> {
        // SAFETY: the lock is held by `guard`, through which nothing is reached before `part` is done.
        let data = part(unsafe { &mut *guard.data });
        MappedRwLockWriteGuard {
            data,
            unlock: guard.unlock,
            lifetime: PhantomData,
        }
    }
}

// SAFETY: a shared guard gives shared access to the data only.
unsafe impl<T: ?Sized + Sync> Sync for MappedRwLockWriteGuard<'_, T> {}

impl<T: ?Sized> Deref for MappedRwLockWriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock, and `data` is part of what it guards.
        unsafe { &*self.data }
    }
}

impl<T: ?Sized> DerefMut for MappedRwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock, and `data` is part of what it guards.
        unsafe { &mut *self.data }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MappedRwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for MappedRwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
