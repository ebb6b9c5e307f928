//! A value under a [`Lock`], for the scheduler's cold paths.
//!
//! # Blocking
//!
//! Blocks the OS thread. A thread that forks waits for the holders of some, and keeps the collector away meanwhile (`fork`):
//! those are never held while a collection is waited for.
//!
//! # Why not
//!
//! `parking_lot` and `std`: `fork` needs to take a lock in the parent and to give it back in the child, where the threads
//! that waited for it do not exist. `parking_lot` would look for these in a table that has locks of its own, and might hand
//! the lock on to one of them; `std` has no way to do it.

use super::Lock;
use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Mutex<T> {
    lock: Lock,
    value: UnsafeCell<T>,
}

// SAFETY: the value is used under the lock, by one thread after the other.
unsafe impl<T: Send> Sync for Mutex<T> {}

/// The right to use the value, until it is dropped.
#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T>(&'a Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self {
            lock: Lock::new(),
            value: UnsafeCell::new(value),
        }
    }

    /// Takes the lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.lock.lock();
        MutexGuard(self)
    }

    /// The lock alone, for `fork`.
    pub(crate) fn raw(&self) -> &Lock {
        &self.lock
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: under the lock.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: under the lock, and the guard is borrowed alone.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: the guard's maker took it.
        unsafe { self.0.lock.unlock() };
    }
}

#[cfg(test)]
mod tests {
    use super::Mutex;

    #[test]
    fn one_at_a_time_has_the_value() {
        let total = Mutex::new(0u64);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| *total.lock() += 1));
            }
        });
        assert_eq!(*total.lock(), 40_000);
    }
}
