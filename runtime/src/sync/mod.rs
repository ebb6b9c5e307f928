//! Locks and other meeting points of goroutines, shaped after `parking_lot` and Go's `sync`.
//!
//! All of them park the goroutine and never the thread that runs it; on a plain OS thread the same calls block that
//! thread. None is poisoned by a panic. All are known to the race detector.

pub mod atomic;
mod barrier;
mod condvar;
pub(crate) mod deadline;
pub(crate) mod events;
mod lazy;
mod mutex;
mod once;
mod once_cell;
mod queue;
mod raw_mutex;
mod raw_rwlock;
mod rwlock;
mod rwlock_read;
mod rwlock_write;
mod semaphore;
mod spin;
mod waitgroup;

#[cfg(test)]
mod tests;

pub use barrier::{Barrier, BarrierWaitResult};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use lazy::Lazy;
pub use mutex::{MappedMutexGuard, Mutex, MutexGuard};
pub use once::Once;
pub use once_cell::OnceCell;
pub use rwlock::RwLock;
pub use rwlock_read::{MappedRwLockReadGuard, RwLockReadGuard};
pub use rwlock_write::{MappedRwLockWriteGuard, RwLockWriteGuard};
pub use semaphore::{Semaphore, SemaphorePermit};
pub use waitgroup::{WaitGroup, WaitGroupToken};
