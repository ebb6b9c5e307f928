//! The atomics, locks and futex words of what is model-checked: loom's under `--cfg loom`, else the real ones.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

/// Between two SeqCst operations of one thread, where it matters that they are in the one order of all such: nothing.
#[cfg(not(loom))]
#[inline(always)]
pub(crate) fn in_seqcst_order() {}

/// loom takes SeqCst operations for AcqRel ones, and orders fences only.
#[cfg(loom)]
pub(crate) fn in_seqcst_order() {
    loom::sync::atomic::fence(loom::sync::atomic::Ordering::SeqCst);
}

#[cfg(not(loom))]
pub(crate) use crate::futex::Locked as Guarded;

/// A value under a lock of loom's.
#[cfg(loom)]
pub(crate) struct Guarded<T>(loom::sync::Mutex<T>);

#[cfg(loom)]
impl<T> Guarded<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> &crate::Lock {
        unreachable!("a model does not fork")
    }

    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.0.lock().unwrap())
    }
}

/// A counter that threads wait on until it changes.
#[cfg(not(loom))]
pub(crate) struct Word(AtomicU32);

#[cfg(not(loom))]
impl Word {
    pub(crate) const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// With Acquire.
    pub(crate) fn get(&self) -> u32 {
        self.0.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Changes it, with Release. Wakes nobody.
    pub(crate) fn change(&self) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Release);
    }

    /// Wakes at most `n` that wait.
    pub(crate) fn wake(&self, n: i32) {
        crate::wake(&self.0, n);
    }

    /// Waits until it is not `seen`, or somebody wakes, or for no reason.
    pub(crate) fn wait(&self, seen: u32) {
        crate::wait(&self.0, seen, None);
    }
}

/// As the kernel does it: who waits looks at the word under the kernel's lock, and only a wake-up lets it go on.
#[cfg(loom)]
pub(crate) struct Word {
    value: AtomicU32,
    kernel: loom::sync::Mutex<()>,
    woken: loom::sync::Condvar,
}

#[cfg(loom)]
impl Word {
    pub(crate) fn new() -> Self {
        Self {
            value: AtomicU32::new(0),
            kernel: loom::sync::Mutex::new(()),
            woken: loom::sync::Condvar::new(),
        }
    }

    pub(crate) fn get(&self) -> u32 {
        self.value.load(loom::sync::atomic::Ordering::Acquire)
    }

    pub(crate) fn change(&self) {
        self.value
            .fetch_add(1, loom::sync::atomic::Ordering::Release);
    }

    pub(crate) fn wake(&self, n: i32) {
        let _kernel = self.kernel.lock().unwrap();
        match n {
            1 => self.woken.notify_one(),
            _ => self.woken.notify_all(),
        }
    }

    pub(crate) fn wait(&self, seen: u32) {
        let kernel = self.kernel.lock().unwrap();
        if self.get() == seen {
            drop(self.woken.wait(kernel).unwrap());
        }
    }
}
