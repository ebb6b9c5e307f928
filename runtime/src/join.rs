//! The end of a goroutine, as its `JoinHandle` sees it.
//!
//! The packet is shared by the goroutine and its handle. It is a type-erased head, which holds the protocol, followed by the
//! place for the result.
//!
//! # States
//!
//! | state | meaning | result belongs to |
//! | --- | --- | --- |
//! | RUNNING | | the goroutine |
//! | STORED | the result is there; thread-local destructors run | nobody yet |
//! | DONE | the goroutine is over | the handle |
//! | DETACHED | the handle is gone | the goroutine, which drops the result on its own stack |
//!
//! # Invariants
//!
//! 1. A result is dropped by user code's own threads only: by the goroutine or by the handle's owner, never in the scheduler.
//! 2. `joiner` is written under `lock` before DONE, by the one owner of the handle.
//!
//! # Memory ordering
//!
//! `store: compare_exchange Release RUNNING -> STORED`, `finish: under lock` ⇄ `join: under lock`: the joiner sees the result.

use raddle_race as race;
use raddle_sched::{GRef, Lock, Rt, WaitReason, enter};
use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::mem::MaybeUninit;
use std::panic::Location;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const RUNNING: u8 = 0;
const STORED: u8 = 1;
const DONE: u8 = 2;
const DETACHED: u8 = 3;

/// Why a goroutine gave no result.
pub struct JoinError {
    panic: Option<Box<dyn Any + Send>>,
}

impl JoinError {
    /// Whether the goroutine panicked.
    #[must_use]
    pub fn is_panic(&self) -> bool {
        self.panic.is_some()
    }

    /// Whether the goroutine ended itself by [`exit`](crate::exit).
    #[must_use]
    pub fn is_exit(&self) -> bool {
        self.panic.is_none()
    }

    /// The value that the goroutine panicked with, for [`std::panic::resume_unwind`].
    ///
    /// # Panics
    ///
    /// If it did not panic, but ended itself by [`exit`](crate::exit).
    #[must_use]
    #[track_caller]
    pub fn into_panic(self) -> Box<dyn Any + Send> {
        self.panic.expect("the goroutine ended itself by exit() and did not panic")
    }

    fn message(&self) -> Option<&str> {
        let panic = self.panic.as_ref()?;
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str))
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.panic, self.message()) {
            (None, _) => f.write_str("JoinError::Exit"),
            (Some(_), Some(message)) => write!(f, "JoinError::Panic({message:?})"),
            (Some(_), None) => f.write_str("JoinError::Panic(..)"),
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.panic, self.message()) {
            (None, _) => f.write_str("the goroutine ended itself by exit()"),
            (Some(_), Some(message)) => write!(f, "the goroutine panicked: {message}"),
            (Some(_), None) => f.write_str("the goroutine panicked"),
        }
    }
}

impl std::error::Error for JoinError {}

/// What a goroutine leaves unwound by [`exit`](crate::exit): no message, no hook.
pub(crate) struct ExitToken;

/// The protocol, without the result's type.
struct Head {
    state: AtomicU8,
    lock: Lock,
    joiner: Cell<Option<GRef>>,
}

/// The head and the result.
pub(crate) struct Packet<T> {
    head: Head,
    result: UnsafeCell<MaybeUninit<Result<T, JoinError>>>,
}

// SAFETY: the result goes from the goroutine to the handle's owner by the state protocol, so it must be Send; the joiner is
// guarded by the lock.
unsafe impl<T: Send> Sync for Packet<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Packet<T> {}

impl<T> Packet<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            head: Head { state: AtomicU8::new(RUNNING), lock: Lock::new(), joiner: Cell::new(None) },
            result: UnsafeCell::new(MaybeUninit::uninit()),
        })
    }

    /// On the goroutine, at its end: leaves the result, or drops it if nobody will ask.
    pub(crate) fn store(&self, result: Result<T, Box<dyn Any + Send>>) {
        let result = result.map_err(|panic| JoinError { panic: (!panic.is::<ExitToken>()).then_some(panic) });
        // SAFETY: in RUNNING and DETACHED the place is the goroutine's.
        unsafe { (*self.result.get()).write(result) };
        let state = &self.head.state;
        if state.compare_exchange(RUNNING, STORED, Ordering::Release, Ordering::Acquire).is_err() {
            // SAFETY: DETACHED: the result is still the goroutine's, and was just written.
            unsafe { (*self.result.get()).assume_init_drop() };
        }
        if race::enabled() {
            race::release_merge(self.head.key());
        }
    }
}

impl Head {
    /// The address that stands for the end of the goroutine in race mode.
    fn key(&self) -> usize {
        ptr::from_ref(self) as usize
    }

    /// In the scheduler, when the goroutine is over.
    fn finish(&self, rt: &Rt) {
        self.lock.lock();
        // A detached packet stays so: nobody looks.
        let _ = self.state.compare_exchange(STORED, DONE, Ordering::Release, Ordering::Relaxed);
        let joiner = self.joiner.take();
        // SAFETY: taken above.
        unsafe { self.lock.unlock() };
        if let Some(g) = joiner {
            // SAFETY: taken out under the lock that its park gave back.
            unsafe { rt.ready(g) };
        }
    }

    /// Waits for the end.
    fn wait(&self, at: &'static Location<'static>, reason: WaitReason) {
        if self.state.load(Ordering::Acquire) != DONE {
            let rt = enter();
            self.lock.lock();
            if self.state.load(Ordering::Acquire) == DONE {
                // SAFETY: taken above.
                unsafe { self.lock.unlock() };
            } else {
                unsafe fn unlock(lock: *mut ()) {
                    // SAFETY: the lock that `wait` holds while it parks.
                    unsafe { (*lock.cast::<Lock>()).unlock() };
                }
                self.joiner.set(Some(rt.g()));
                let lock = ptr::from_ref(&self.lock).cast_mut().cast();
                // SAFETY: `finish` takes the joiner out once and makes it ready.
                unsafe { rt.park(reason, at, unlock, lock) };
            }
        }
        if race::enabled() {
            race::acquire(self.key());
        }
    }
}

/// The scheduler's side of a packet: `Task::fini`.
///
/// # Safety
///
/// `packet` is from `Arc::into_raw` of a `Packet<T>`, once.
pub(crate) unsafe fn finish<T>(rt: &Rt, packet: *mut ()) {
    // SAFETY: by the contract. The drop frees memory only: the result is not the packet's (invariant 1).
    let packet = unsafe { Arc::from_raw(packet.cast::<Packet<T>>()) };
    packet.head.finish(rt);
}

/// The right to wait for a goroutine and take its result. Dropping it detaches the goroutine, which runs on.
pub struct JoinHandle<T> {
    pub(crate) packet: Arc<Packet<T>>,
    pub(crate) id: u64,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) taken: bool,
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

impl<T> JoinHandle<T> {
    /// Waits for the goroutine to end and returns its result.
    ///
    /// # Errors
    ///
    /// It panicked, or ended itself by [`exit`](crate::exit).
    ///
    /// # Blocking
    ///
    /// Parks the goroutine; blocks a plain thread.
    ///
    /// # Happens-before
    ///
    /// All that the goroutine did, its thread-local destructors included, happens before this returns.
    ///
    /// # Examples
    ///
    /// ```
    /// let sum = raddle::go(|| (1..=10).sum::<u32>());
    /// assert_eq!(sum.join().unwrap(), 55);
    /// ```
    #[track_caller]
    pub fn join(mut self) -> Result<T, JoinError> {
        self.wait_end(Location::caller(), WaitReason::Join);
        self.take()
    }

    pub(crate) fn wait_end(&self, at: &'static Location<'static>, reason: WaitReason) {
        self.packet.head.wait(at, reason);
    }

    /// The result of a goroutine whose end was waited for.
    pub(crate) fn take(&mut self) -> Result<T, JoinError> {
        self.taken = true;
        // SAFETY: DONE: the result is the handle's, and it is taken once since `taken` or `join` ends the handle.
        unsafe { (*self.packet.result.get()).assume_init_read() }
    }

    /// The goroutine's number.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The goroutine's name.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether the goroutine is over. True does not order its effects before the caller's next step: [`join`](Self::join) does.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.packet.head.state.load(Ordering::Acquire) == DONE
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        let state = &self.packet.head.state;
        if state.compare_exchange(RUNNING, DETACHED, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // STORED or DONE: the result is there and will be touched by nobody else.
            if race::enabled() {
                race::acquire(self.packet.head.key());
            }
            // SAFETY: as said.
            unsafe { (*self.packet.result.get()).assume_init_drop() };
        }
    }
}
