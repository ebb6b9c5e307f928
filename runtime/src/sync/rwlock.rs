//! [`RwLock`]: many readers or one writer, with the data inside.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use super::deadline;
use super::raw_rwlock::RawRwLock;
use super::rwlock_read::RwLockReadGuard;
use super::rwlock_write::RwLockWriteGuard;

/// A reader-writer lock that parks goroutines, never threads.
///
/// As in Go, writers are preferred and readers do not starve: a reader that comes while a writer waits, waits behind it, and a
/// writer's unlock lets in every reader that waits. So a goroutine must not take a second read lock while it holds one: a
/// writer that comes in between would wait for the first, and the second for the writer. There is no poisoning.
///
/// **Blocking**: [`read`](RwLock::read) and [`write`](RwLock::write) park the calling goroutine; on a plain thread they
/// block that thread.
///
/// **Happens-before**: a write unlock happens before every later lock returns, a read unlock before the next write lock
/// returns. Readers are not ordered among themselves.
///
/// # Examples
///
/// ```
/// use raddle::sync::RwLock;
///
/// let lock = RwLock::new(vec![1, 2]);
/// lock.write().push(3);
/// let (a, b) = (lock.read(), lock.try_read());
/// assert_eq!(a.len(), b.map_or(0, |b| b.len()));
/// assert!(lock.try_write().is_none());
/// ```
#[derive(Default)]
pub struct RwLock<T: ?Sized> {
    pub(super) raw: RawRwLock,
    pub(super) data: UnsafeCell<T>,
}

// SAFETY: the lock owns the data.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}
// SAFETY: writers take the data from thread to thread, readers share it.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}

impl<T> RwLock<T> {
    /// Returns an unlocked lock with `value` inside.
    pub const fn new(value: T) -> RwLock<T> {
        RwLock {
            raw: RawRwLock::new(),
            data: UnsafeCell::new(value),
        }
    }

    /// Returns the data.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Locks for reading, waiting as long as it takes.
    ///
    /// **Blocking**: parks the goroutine while a writer holds the lock or waits for it.
    ///
    /// # Panics
    ///
    /// If a quarter of a billion read locks are held.
    #[inline]
    #[track_caller]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.raw.read();
        self.read_guard()
    }

    /// Locks for reading if that takes no waiting.
    #[inline]
    #[track_caller]
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        self.raw.try_read().then(|| self.read_guard())
    }

    /// Locks for reading, waiting at most `timeout`.
    ///
    /// **Blocking**: parks the goroutine while a writer holds the lock or waits for it.
    #[inline]
    #[track_caller]
    pub fn try_read_for(&self, timeout: Duration) -> Option<RwLockReadGuard<'_, T>> {
        self.raw
            .read_until(deadline::after(timeout))
            .then(|| self.read_guard())
    }

    /// Locks for reading, waiting until `deadline` at most.
    ///
    /// **Blocking**: parks the goroutine while a writer holds the lock or waits for it.
    #[inline]
    #[track_caller]
    pub fn try_read_until(&self, deadline: Instant) -> Option<RwLockReadGuard<'_, T>> {
        self.raw
            .read_until(deadline::at(deadline))
            .then(|| self.read_guard())
    }

    /// Locks for writing, waiting as long as it takes.
    ///
    /// **Blocking**: parks the goroutine while anybody holds the lock.
    #[inline]
    #[track_caller]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.raw.write();
        self.write_guard()
    }

    /// Locks for writing if that takes no waiting.
    #[inline]
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        self.raw.try_write().then(|| self.write_guard())
    }

    /// Locks for writing, waiting at most `timeout`.
    ///
    /// **Blocking**: parks the goroutine while anybody holds the lock.
    #[inline]
    #[track_caller]
    pub fn try_write_for(&self, timeout: Duration) -> Option<RwLockWriteGuard<'_, T>> {
        self.raw
            .write_until(deadline::after(timeout))
            .then(|| self.write_guard())
    }

    /// Locks for writing, waiting until `deadline` at most.
    ///
    /// **Blocking**: parks the goroutine while anybody holds the lock.
    #[inline]
    #[track_caller]
    pub fn try_write_until(&self, deadline: Instant) -> Option<RwLockWriteGuard<'_, T>> {
        self.raw
            .write_until(deadline::at(deadline))
            .then(|| self.write_guard())
    }

    /// Returns whether anybody holds the lock just now: a hint, out of date at once.
    pub fn is_locked(&self) -> bool {
        self.raw.is_locked()
    }

    /// Returns whether a writer holds the lock just now: a hint, out of date at once.
    pub fn is_locked_exclusive(&self) -> bool {
        self.raw.is_locked_exclusive()
    }

    /// Returns the data: an exclusive reference needs no lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }

    /// Returns a pointer to the data.
    pub const fn data_ptr(&self) -> *mut T {
        self.data.get()
    }

    pub(super) fn read_guard(&self) -> RwLockReadGuard<'_, T> {
        RwLockReadGuard {
            lock: self,
            not_send: PhantomData,
        }
    }

    fn write_guard(&self) -> RwLockWriteGuard<'_, T> {
        RwLockWriteGuard {
            lock: self,
            not_send: PhantomData,
        }
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(value: T) -> RwLock<T> {
        RwLock::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut d = f.debug_struct("RwLock");
        match self.try_read() {
            Some(data) => d.field("data", &&*data).finish(),
            None => d.field("data", &format_args!("<locked>")).finish(),
        }
    }
}
