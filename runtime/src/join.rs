//! The end of a goroutine, as its `JoinHandle` sees it.
//!
//! The packet is shared by the goroutine and its handle. It is a type-erased head, which holds the protocol, followed by the
//! place for the result. All is done on the head, by functions that know no types; the typed handle, which is compiled in the program's
//! crates, only moves the value out, unwatched (`raddle_race::carry`).
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
//! 1. A result is dropped by the goroutine, on its own stack, or by the handle's owner, never in the scheduler. Which of the
//!    two is chance where the handle is dropped; so nothing that its destructor does may depend on it: if it unwinds, the
//!    program ends, as it does with `std::thread`, whatever the payload is.
//! 2. The handle's owner makes the changes RUNNING/STORED -> waiter and -> DETACHED; the goroutine makes the others. So each
//!    knows from the state it finds who frees the packet: no reference count.
//!
//! # Memory ordering
//!
//! `store`, `finish`: Release ⇄ `wait`, `drop`: Acquire: who takes the result sees it. `wait: compare_exchange Release` ⇄
//! `finish: swap Acquire`: the goroutine sees the waiter parked.

use crate::capture::Sink;
use crate::goroutine::Kind;
use raddle_alloc::{alloc_untold, free_untold};
use raddle_race::{self as race, carry};
use raddle_sched::{GRef, Rt, WaitReason, enter};
use std::alloc::{Layout, handle_alloc_error};
use std::any::Any;
use std::cell::Cell;
use std::io::Write;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, needs_drop, offset_of};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fmt, io, mem, process};

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

/// What a goroutine came to.
#[derive(Clone, Copy)]
enum End {
    Value,
    Panic,
    Exit,
}

/// What is known of a result whose type is forgotten.
pub(crate) struct ResultKind {
    /// Of the packet, and where the result lies in it.
    layout: Layout,
    place: usize,
    drop: Option<unsafe fn(*mut u8)>,
}

impl ResultKind {
    pub(crate) const fn of<T>() -> Self {
        unsafe fn drop_erased<T>(value: *mut u8) {
            // Not in its place, which the program must not touch.
            // SAFETY: the caller hands over the `T` that this instance was made for.
            drop(unsafe { carry::take(value.cast::<T>()) });
        }
        Self {
            layout: Layout::new::<Packet<T>>(),
            place: offset_of!(Packet<T>, place),
            drop: if needs_drop::<T>() {
                Some(drop_erased::<T>)
            } else {
                None
            },
        }
    }
}

/// The protocol, and what is known of the goroutine.
struct Head {
    state: AtomicUsize,
    kind: &'static Kind,
    /// Boxed, since few have any, and a packet is small.
    extras: Option<Box<Extras>>,
    /// What lies in the place, if the result is stored.
    end: Cell<End>,
}

/// What few goroutines have.
struct Extras {
    name: Option<Arc<str>>,
    /// Where its output goes: until the goroutine begins.
    sink: Cell<Option<Sink>>,
}

/// The head and the result, for their layout.
#[repr(C)]
struct Packet<T> {
    head: Head,
    place: Place<T>,
}

/// Either is there according to `Head::end`.
#[repr(C)]
union Place<T> {
    value: ManuallyDrop<T>,
    panic: ManuallyDrop<Panic>,
}

/// What it panicked with. Boxed once more, since it is rare, and a packet is small.
type Panic = Box<Box<dyn Any + Send>>;

/// A packet, owned as the state says.
///
/// Its functions are out of line: the typed shells are compiled in the program's crates, and would be watched there.
#[derive(Clone, Copy)]
pub(crate) struct PacketPtr(NonNull<Head>);

impl PacketPtr {
    /// Its memory is the runtime's own: the detector knows it as a place of order only, and the program does not touch it.
    pub(crate) fn new(kind: &'static Kind, name: Option<Arc<str>>, sink: Option<Sink>) -> Self {
        let memory = alloc_untold(kind.result.layout).cast::<Head>();
        let Some(packet) = NonNull::new(memory) else {
            handle_alloc_error(kind.result.layout);
        };
        let head = Head {
            state: AtomicUsize::new(RUNNING),
            kind,
            extras: (name.is_some() || sink.is_some()).then(|| {
                Box::new(Extras {
                    name,
                    sink: Cell::new(sink),
                })
            }),
            end: Cell::new(End::Value),
        };
        // SAFETY: new memory, for a packet.
        unsafe { packet.write(head) };
        Self(packet)
    }

    fn from_raw(raw: *mut ()) -> Self {
        Self(NonNull::new(raw.cast()).expect("a packet's address"))
    }

    pub(crate) fn as_raw(self) -> *mut () {
        self.0.as_ptr().cast()
    }

    fn head(&self) -> &Head {
        // SAFETY: the state says that the caller may still use it.
        unsafe { self.0.as_ref() }
    }

    /// Where the result lies.
    pub(crate) fn place(self) -> *mut u8 {
        // SAFETY: inside the packet.
        unsafe {
            self.0
                .as_ptr()
                .byte_add(self.head().kind.result.place)
                .cast()
        }
    }

    /// What runs on the goroutine.
    pub(crate) fn kind(self) -> &'static Kind {
        self.head().kind
    }

    #[inline(never)]
    fn name(&self) -> Option<&str> {
        self.head().extras.as_ref()?.name.as_deref()
    }

    /// Where the goroutine's output is to go, for the goroutine itself, as it begins.
    pub(crate) fn take_sink(&self) -> Option<Sink> {
        self.head().extras.as_ref()?.sink.take()
    }

    #[inline(never)]
    fn is_finished(self) -> bool {
        self.head().state.load(Ordering::Acquire) == DONE
    }

    /// Frees the memory. The result is not touched.
    ///
    /// # Safety
    ///
    /// The caller is the one that the state names.
    #[inline(never)]
    pub(crate) unsafe fn free(self) {
        let layout = self.head().kind.result.layout;
        // SAFETY: nobody uses the head any more, by the contract.
        unsafe { self.0.drop_in_place() };
        if race::enabled() {
            // What is next in this memory has nothing to do with this goroutine's end.
            race::clear_shadow(self.0.as_ptr() as usize, layout.size());
        }
        // SAFETY: allocated by `new`, freed once by the contract.
        unsafe { free_untold(self.0.as_ptr().cast(), layout) };
    }

    /// On the goroutine, at its end: the result is in its place, unless the goroutine unwound. Drops it if nobody will ask.
    /// Returns whether it was a panic, and not `exit`.
    pub(crate) fn store(self, unwound: Result<(), Box<dyn Any + Send>>) -> bool {
        let head = self.head();
        let end = match unwound {
            Ok(()) => End::Value,
            Err(panic) if panic.is::<ExitToken>() => End::Exit,
            Err(panic) => {
                // SAFETY: the place is the goroutine's until STORED, and has room for a panic.
                unsafe { self.place().cast::<Panic>().write(Box::new(panic)) };
                End::Panic
            }
        };
        head.end.set(end);
        if !head.has_destructor() {
            // Who drops it does not matter: `finish` says that it is there.
            return false;
        }
        if race::enabled() {
            // For a handle that is dropped from now on, and takes the result with it.
            race::release_merge(head.key());
        }
        let found =
            head.state
                .compare_exchange(RUNNING, STORED, Ordering::Release, Ordering::Acquire);
        if found == Err(DETACHED) {
            // SAFETY: DETACHED: the result is still the goroutine's, and was just stored.
            unsafe { self.drop_result() };
        }
        matches!(end, End::Panic)
    }

    /// Drops the result in its place. Does not unwind (invariant 1).
    ///
    /// # Safety
    ///
    /// It is there, and the caller's.
    unsafe fn drop_result(self) {
        let head = self.head();
        let (end, drop) = (head.end.get(), head.kind.result.drop);
        let dropped = catch_unwind(AssertUnwindSafe(|| match (end, drop) {
            // SAFETY: by the contract; the function is of the result's type.
            (End::Value, Some(drop)) => unsafe { drop(self.place()) },
            // SAFETY: by the contract.
            (End::Panic, _) => unsafe {
                ptr::drop_in_place(self.place().cast::<Panic>());
            },
            (End::Value, None) | (End::Exit, _) => {}
        }));
        if let Err(unwound) = dropped {
            let how = if unwound.is::<ExitToken>() {
                "called exit()"
            } else {
                "panicked"
            };
            // What it unwound with may do the same.
            mem::forget(unwound);
            fatal(&format!(
                "the result of a goroutine that nobody joined {how} when it was dropped"
            ));
        }
    }

    /// Waits for the end. Returns where the value lies; null: there is none, but an [`error`](Self::error).
    #[inline(never)]
    fn wait(self, at: &'static Location<'static>) -> *mut u8 {
        let head = self.head();
        head.wait(at);
        match head.end.get() {
            End::Value => self.place(),
            End::Panic | End::Exit => ptr::null_mut(),
        }
    }

    /// Takes out why there is no value.
    ///
    /// # Safety
    ///
    /// The handle's owner calls it once, after [`wait`](Self::wait) returned null.
    #[cold]
    #[inline(never)]
    unsafe fn error(self) -> JoinError {
        let panic = match self.head().end.get() {
            // SAFETY: there, and the handle's.
            End::Panic => Some(*unsafe { self.place().cast::<Panic>().read() }),
            End::Value | End::Exit => None,
        };
        JoinError { panic }
    }

    /// The handle is dropped.
    #[inline(never)]
    fn detach(self) {
        let head = self.head();
        let Err(found) =
            head.state
                .compare_exchange(RUNNING, DETACHED, Ordering::AcqRel, Ordering::Acquire)
        else {
            return;
        };
        // Without a destructor nothing is done here with what the goroutine did, and a goroutine that nobody waits for races with what comes after.
        if race::enabled() && head.has_destructor() {
            race::acquire(head.key());
        }
        // SAFETY: STORED or DONE: the result is the handle's, and it ends here.
        unsafe { self.drop_result() };
        let late = found == STORED
            && head
                .state
                .compare_exchange(STORED, DETACHED, Ordering::AcqRel, Ordering::Acquire)
                .is_ok();
        if !late {
            // SAFETY: DONE: the packet is the handle's.
            unsafe { self.free() };
        }
    }
}

impl Head {
    /// The address that stands for the end of the goroutine in race mode.
    fn key(&self) -> usize {
        ptr::from_ref(self) as usize
    }

    /// Whether something is to be done when the result, which is there, is dropped.
    fn has_destructor(&self) -> bool {
        match self.end.get() {
            End::Value => self.kind.result.drop.is_some(),
            End::Panic => true,
            End::Exit => false,
        }
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
pub(crate) unsafe fn release(packet: *mut ()) {
    race::release_merge(PacketPtr::from_raw(packet).head().key());
}

/// The scheduler's side of a packet: `Task::fini`.
///
/// # Safety
///
/// `packet` is from [`PacketPtr::as_raw`]; called once, when the goroutine is over.
pub(crate) unsafe fn finish(rt: &Rt, packet: *mut ()) {
    let packet = PacketPtr::from_raw(packet);
    match packet.head().state.swap(DONE, Ordering::AcqRel) {
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

/// Says why the program cannot go on, and aborts.
#[cold]
pub(crate) fn fatal(why: &str) -> ! {
    // Standard error may be closed: nobody to tell.
    let _ = io::stderr().write_all(format!("raddle: fatal: {why}\n").as_bytes());
    process::abort()
}

/// The right to wait for a goroutine and take its result. Dropping it detaches the goroutine, which runs on.
///
/// The result of a detached goroutine, or what it panicked with, is dropped by the goroutine if it ends later, and else with
/// the handle. As with [`std::thread::JoinHandle`], the program aborts if that panics.
pub struct JoinHandle<T> {
    packet: PacketPtr,
    id: u64,
    /// Covariant: it gives a `T` out.
    _result: PhantomData<T>,
}

// SAFETY: the result goes from the goroutine to the handle's owner by the state protocol, so it must be Send.
unsafe impl<T: Send> Send for JoinHandle<T> {}
// SAFETY: a shared handle gives access to the state word, and to what is never changed.
unsafe impl<T: Send> Sync for JoinHandle<T> {}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("id", &self.id())
            .field("name", &self.name())
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
    #[inline]
    #[track_caller]
    pub fn join(self) -> Result<T, JoinError> {
        self.join_at(Location::caller())
    }

    /// As [`join`](Self::join), for a caller that `at` names.
    #[inline]
    pub(crate) fn join_at(self, at: &'static Location<'static>) -> Result<T, JoinError> {
        let packet = ManuallyDrop::new(self).packet;
        let place = packet.wait(at).cast::<T>();
        let result = if place.is_null() {
            // SAFETY: DONE: what is there is the handle's, which ends here.
            Err(unsafe { packet.error() })
        } else {
            // SAFETY: as above. Unwatched: the value lies in the packet, which the program cannot name.
            Ok(unsafe { carry::take(place) })
        };
        // SAFETY: DONE: the packet is the handle's.
        unsafe { packet.free() };
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
        self.packet.name()
    }

    /// Whether the goroutine is over. True does not order its effects before the caller's next step: [`join`](Self::join) does.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.packet.is_finished()
    }
}

impl<T> JoinHandle<T> {
    /// # Safety
    ///
    /// The packet is a new one, of a goroutine whose result is a `T`; no other handle is made of it.
    #[inline]
    pub(crate) unsafe fn new((packet, id): (PacketPtr, u64)) -> Self {
        Self {
            packet,
            id,
            _result: PhantomData,
        }
    }
}

impl<T> Drop for JoinHandle<T> {
    #[inline]
    fn drop(&mut self) {
        self.packet.detach();
    }
}
