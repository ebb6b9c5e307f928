//! The end of a goroutine, as its `JoinHandle` sees it.
//!
//! The packet is shared by the goroutine and its handle. It is a type-erased head, which holds the protocol, followed by the
//! place for the result.
//!
//! # States
//!
//! One word. Everything but the four constants is the `GRef` of the goroutine that waits in `join`.
//!
//! | state | meaning | result belongs to | packet is freed by |
//! | --- | --- | --- | --- |
//! | RUNNING | (a result without destructor may be there) | the goroutine | |
//! | STORED | the result is there; thread-local destructors run | the handle | |
//! | a waiter | the handle's owner waits | the goroutine, then the handle | the handle |
//! | DONE | the goroutine is over | the handle | the handle |
//! | DETACHED | the handle is gone | the goroutine | `finish` |
//!
//! # Invariants
//!
//! 1. A result is dropped by the goroutine, on its own stack, or by the handle's owner, never in the scheduler.
//! 2. The handle's owner makes the changes RUNNING/STORED -> waiter and -> DETACHED; the goroutine makes the others. So each
//!    knows from the state it finds who frees the packet: no reference count.
//!
//! # Memory ordering
//!
//! `store`, `finish`: Release ⇄ `wait`, `drop`: Acquire: who takes the result sees it. `wait: compare_exchange Release` ⇄
//! `finish: swap Acquire`: the goroutine sees the waiter parked.

use raddle_race as race;
use raddle_sched::{GRef, Rt, WaitReason, enter};
use std::any::Any;
use std::cell::UnsafeCell;
use std::fmt;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::panic::Location;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const RUNNING: usize = 0;
const STORED: usize = 1;
const DONE: usize = 2;
const DETACHED: usize = 3;

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
        self.panic
            .expect("the goroutine ended itself by exit() and did not panic")
    }

    fn message(&self) -> Option<&str> {
        let panic = self.panic.as_ref()?;
        panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
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
    state: AtomicUsize,
}

/// The head and the result.
#[repr(C)]
pub(crate) struct Packet<T> {
    head: Head,
    result: UnsafeCell<MaybeUninit<Result<T, JoinError>>>,
}

/// A packet, owned as the state says.
pub(crate) struct PacketPtr<T>(NonNull<Packet<T>>);

impl<T> Clone for PacketPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for PacketPtr<T> {}

// SAFETY: the result goes from the goroutine to the handle's owner by the state protocol, so it must be Send.
unsafe impl<T: Send> Send for PacketPtr<T> {}
// SAFETY: a shared handle gives access to the state word only.
unsafe impl<T: Send> Sync for PacketPtr<T> {}

impl<T> PacketPtr<T> {
    pub(crate) fn new() -> Self {
        let head = Head {
            state: AtomicUsize::new(RUNNING),
        };
        let packet = Box::new(Packet {
            head,
            result: UnsafeCell::new(MaybeUninit::uninit()),
        });
        Self(NonNull::from(Box::leak(packet)))
    }

    pub(crate) fn from_raw(raw: *mut ()) -> Self {
        Self(NonNull::new(raw.cast()).expect("a packet's address"))
    }

    pub(crate) fn as_raw(self) -> *mut () {
        self.0.as_ptr().cast()
    }

    fn get(&self) -> &Packet<T> {
        // SAFETY: the state says that the caller may still use it.
        unsafe { self.0.as_ref() }
    }

    /// Frees the memory. The result is not touched.
    ///
    /// # Safety
    ///
    /// The caller is the one that the state names.
    pub(crate) unsafe fn free(self) {
        if race::enabled() {
            // The next packet in this memory is of another goroutine; a global allocator that is not Raddle's says nothing.
            race::clear_shadow(self.0.as_ptr() as usize, size_of::<Packet<T>>());
        }
        // SAFETY: from `Box::leak`, freed once by the contract.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }

    /// On the goroutine, at its end: leaves the result, or drops it if nobody will ask.
    pub(crate) fn store(&self, result: Result<T, Box<dyn Any + Send>>) {
        let result = result.map_err(|panic| JoinError {
            panic: (!panic.is::<ExitToken>()).then_some(panic),
        });
        let ok = result.is_ok();
        let Packet {
            head,
            result: place,
        } = self.get();
        // SAFETY: the place is the goroutine's until STORED.
        unsafe { (*place.get()).write(result) };
        if race::enabled() {
            // For a handle that is dropped from now on, and takes the result with it.
            race::release_merge(head.key());
        }
        if !std::mem::needs_drop::<T>() && ok {
            // Who drops it does not matter: `finish` says that it is there.
            return;
        }
        let found =
            head.state
                .compare_exchange(RUNNING, STORED, Ordering::Release, Ordering::Acquire);
        if found == Err(DETACHED) {
            // SAFETY: DETACHED: the result is still the goroutine's, and was just written.
            let place = unsafe { &mut *place.get() };
            // SAFETY: as above.
            unsafe { place.assume_init_drop() };
        }
    }

    /// Takes the result out.
    ///
    /// # Safety
    ///
    /// The handle's owner calls it once, when the result is the handle's.
    unsafe fn take(&self) -> Result<T, JoinError> {
        // SAFETY: by the contract.
        let result = unsafe { &*self.get().result.get() };
        // SAFETY: as above.
        unsafe { result.assume_init_read() }
    }
}

impl Head {
    /// The address that stands for the end of the goroutine in race mode.
    fn key(&self) -> usize {
        ptr::from_ref(self) as usize
    }

    /// Waits for the end.
    fn wait(&self, at: &'static Location<'static>) {
        if self.state.load(Ordering::Acquire) != DONE {
            let rt = enter();
            let mut wait = Wait {
                head: self,
                g: rt.g(),
            };
            // SAFETY: `publish` makes the waiter known to `finish`, which makes it ready once; or does so itself.
            unsafe { rt.park(WaitReason::Join, at, Wait::publish, (&raw mut wait).cast()) };
        }
        if race::enabled() {
            race::acquire(self.key());
        }
    }
}

/// The caller of `join`, on its stack.
struct Wait<'a> {
    head: &'a Head,
    g: GRef,
}

impl Wait<'_> {
    /// In the scheduler, when the waiter is off its stack.
    unsafe fn publish(wait: *mut ()) {
        // SAFETY: the waiter is parked until this, or `finish` after this, makes it ready.
        let Wait { head, g } = unsafe { &*wait.cast::<Wait<'_>>() };
        let (state, g) = (&head.state, *g);
        let mut found = state.load(Ordering::Acquire);
        while found != DONE {
            match state.compare_exchange(found, g.into_raw(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(now) => found = now,
            }
        }
        // SAFETY: the goroutine was faster: nobody else knows of the waiter.
        unsafe { enter().ready(g) };
    }
}

/// The end of a goroutine in race mode: `Task::release`.
///
/// # Safety
///
/// As [`finish`], which comes after it.
pub(crate) unsafe fn release<T>(packet: *mut ()) {
    let packet = PacketPtr::<T>::from_raw(packet);
    race::release_merge(packet.get().head.key());
}

/// The scheduler's side of a packet: `Task::fini`.
///
/// # Safety
///
/// `packet` is from [`PacketPtr::as_raw`] of a `PacketPtr<T>`; called once, when the goroutine is over.
pub(crate) unsafe fn finish<T>(rt: &Rt, packet: *mut ()) {
    let packet = PacketPtr::<T>::from_raw(packet);
    match packet.get().head.state.swap(DONE, Ordering::AcqRel) {
        // SAFETY: the handle is gone: the packet is ours (invariant 2).
        DETACHED => unsafe { packet.free() },
        RUNNING | STORED => {}
        g => {
            // SAFETY: what `publish` stored.
            let g = unsafe { GRef::from_raw(g) };
            // SAFETY: published when it could be made ready; the state names it no more.
            unsafe { rt.ready(g) };
        }
    }
}

/// The right to wait for a goroutine and take its result. Dropping it detaches the goroutine, which runs on.
pub struct JoinHandle<T> {
    pub(crate) packet: PacketPtr<T>,
    pub(crate) id: u64,
    pub(crate) name: Option<Arc<str>>,
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
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
    pub fn join(self) -> Result<T, JoinError> {
        self.join_at(Location::caller())
    }

    /// As [`join`](Self::join), for a caller that `at` names.
    pub(crate) fn join_at(self, at: &'static Location<'static>) -> Result<T, JoinError> {
        let this = ManuallyDrop::new(self);
        // SAFETY: the handle is not dropped after this.
        drop(unsafe { ptr::read(&raw const this.name) });
        this.packet.get().head.wait(at);
        // SAFETY: DONE: the result is the handle's, which ends here.
        let result = unsafe { this.packet.take() };
        // SAFETY: DONE: the packet is the handle's.
        unsafe { this.packet.free() };
        result
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
        self.packet.get().head.state.load(Ordering::Acquire) == DONE
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        let head = &self.packet.get().head;
        let Err(found) =
            head.state
                .compare_exchange(RUNNING, DETACHED, Ordering::AcqRel, Ordering::Acquire)
        else {
            return;
        };
        if race::enabled() {
            race::acquire(head.key());
        }
        // SAFETY: STORED or DONE: the result is the handle's, and it ends here.
        drop(unsafe { self.packet.take() });
        let late = found == STORED
            && head
                .state
                .compare_exchange(STORED, DETACHED, Ordering::AcqRel, Ordering::Acquire)
                .is_ok();
        if !late {
            // SAFETY: DONE: the packet is the handle's.
            unsafe { self.packet.free() };
        }
    }
}
