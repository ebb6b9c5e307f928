//! Goroutines that borrow from the stack of their starter, as [`std::thread::scope`] has it.
//!
//! # Invariants
//!
//! 1. `scope` does not return or unwind before every goroutine of the scope is over.
//! 2. `data.running` counts those; the last one to end makes the scope's owner ready.

use crate::goroutine::shell;
use crate::join::{JoinError, JoinHandle};
use raddle_race as race;
use raddle_sched::{GRef, Lock, WaitReason, enter};
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A scope to start borrowing goroutines in. See [`scope`].
pub struct Scope<'scope, 'env: 'scope> {
    data: Arc<Data>,
    // Invariant in both, as in std.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("running", &self.data.running.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

struct Data {
    running: AtomicUsize,
    /// Goroutines that panicked, minus those whose panic came out of a `join`.
    panics: AtomicUsize,
    lock: Lock,
    owner: Cell<Option<GRef>>,
}

// SAFETY: `owner` is touched under the lock.
unsafe impl Sync for Data {}
// SAFETY: as above.
unsafe impl Send for Data {}

/// Counts a goroutine of the scope; its end is the end of all that the goroutine borrows.
pub(crate) struct Member(Arc<Data>);

impl Member {
    #[inline(never)]
    fn new(data: &Arc<Data>) -> Self {
        data.running.fetch_add(1, Ordering::Relaxed);
        Self(data.clone())
    }

    /// `panicked`: by a panic, not by `exit`.
    pub(crate) fn end(self, panicked: bool) {
        if panicked {
            self.0.panics.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Also when the goroutine could not be started: the scope does not wait for it then.
impl Drop for Member {
    fn drop(&mut self) {
        let data = &self.0;
        if race::enabled() {
            race::release_merge(Arc::as_ptr(data) as usize);
        }
        // Release: what the goroutine did happens before the scope's end, which loads Acquire.
        if data.running.fetch_sub(1, Ordering::Release) == 1 {
            let rt = enter();
            data.lock.lock();
            let owner = data.owner.take();
            // SAFETY: taken above.
            unsafe { data.lock.unlock() };
            if let Some(owner) = owner {
                // SAFETY: taken out under the lock that its park gave back.
                unsafe { rt.ready(owner) };
            }
        }
    }
}

/// The scope's memory may serve another, which has nothing to do with this one's goroutines; a global allocator that is not
/// Raddle's says nothing.
impl Drop for Data {
    fn drop(&mut self) {
        if race::enabled() {
            race::clear_shadow(ptr::from_ref(self) as usize, size_of::<Data>());
        }
    }
}

/// Runs `f` with a scope in which goroutines may borrow what outlives the call. Waits for all of them.
///
/// # Panics
///
/// If `f` panics, or a goroutine of the scope that was not joined did.
///
/// # Blocking
///
/// Parks the caller until every goroutine of the scope is over.
///
/// # Happens-before
///
/// All that the scope's goroutines did happens before `scope` returns.
///
/// # Examples
///
/// ```
/// let mut halves = [1, 2, 3, 4];
/// let (a, b) = halves.split_at_mut(2);
/// raddle::scope(|s| {
///     s.go(|| a[0] = 10);
///     s.go(|| b[0] = 30);
/// });
/// assert_eq!(halves, [10, 2, 30, 4]);
/// ```
#[track_caller]
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    let data = Arc::new(Data {
        running: AtomicUsize::new(0),
        panics: AtomicUsize::new(0),
        lock: Lock::new(),
        owner: Cell::new(None),
    });
    let scope = Scope {
        data,
        scope: PhantomData,
        env: PhantomData,
    };
    let result = catch_unwind(AssertUnwindSafe(|| f(&scope)));
    scope.data.wait(Location::caller());
    match result {
        Err(panic) => resume_unwind(panic),
        Ok(_) if scope.data.panics.load(Ordering::Relaxed) > 0 => {
            panic!("a scoped goroutine panicked")
        }
        Ok(value) => value,
    }
}

impl Data {
    fn wait(&self, at: &'static Location<'static>) {
        unsafe fn unlock(lock: *mut ()) {
            // SAFETY: the lock that `wait` holds while it parks.
            let lock = unsafe { &*lock.cast::<Lock>() };
            // SAFETY: as above.
            unsafe { lock.unlock() };
        }
        while self.running.load(Ordering::Acquire) != 0 {
            let rt = enter();
            self.lock.lock();
            self.owner.set(Some(rt.g()));
            if self.running.load(Ordering::Acquire) == 0 && self.owner.take().is_some() {
                // The last one may be about to look for an owner: there is none now.
                // SAFETY: taken above.
                unsafe { self.lock.unlock() };
                break;
            }
            // SAFETY: the last goroutine takes the owner out once, under the lock, and makes it ready.
            unsafe {
                rt.park(
                    WaitReason::ScopeJoin,
                    at,
                    unlock,
                    ptr::from_ref(&self.lock).cast_mut().cast(),
                )
            };
        }
        if race::enabled() {
            race::acquire(ptr::from_ref(self) as usize);
        }
    }
}

impl<'scope> Scope<'scope, '_> {
    /// Starts a goroutine in the scope.
    ///
    /// # Panics
    ///
    /// If no stack can be had.
    ///
    /// # Happens-before
    ///
    /// The call happens before the first step of `f`.
    #[track_caller]
    pub fn go<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        let (member, at) = (Member::new(&self.data), Location::caller());
        // SAFETY: `scope` does not return before the member's end (invariant 1).
        let handle = unsafe { shell::<1, _, _>(f, |closure| closure.start(Some(member), at)) };
        ScopedJoinHandle {
            handle,
            data: &self.data,
        }
    }
}

/// The right to wait for a scoped goroutine and take its result.
pub struct ScopedJoinHandle<'scope, T> {
    handle: JoinHandle<T>,
    data: &'scope Arc<Data>,
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedJoinHandle")
            .field("id", &self.handle.id())
            .finish_non_exhaustive()
    }
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Waits for the goroutine and returns its result.
    ///
    /// # Errors
    ///
    /// As [`JoinHandle::join`]. A panic that comes out here does not come out of the scope again.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine; blocks a plain thread.
    ///
    /// # Happens-before
    ///
    /// All that the goroutine did happens before this returns.
    #[track_caller]
    pub fn join(self) -> Result<T, JoinError> {
        let result = self.handle.join();
        if result.as_ref().is_err_and(JoinError::is_panic) {
            self.data.panics.fetch_sub(1, Ordering::Relaxed);
        }
        result
    }

    /// Whether the goroutine is over.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }
}
