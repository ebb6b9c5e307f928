//! Starting goroutines, and what a goroutine can ask about itself.

use crate::join::{ExitToken, JoinHandle, PacketPtr, finish, release};
use raddle_race::GoCtx;
use raddle_sched::{DATA_BYTES, SpawnOptions, StackError, Task, enter};
use std::alloc::Layout;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::Arc;
use std::{fmt, io};

/// Starts a goroutine that runs `f`.
///
/// It is like [`std::thread::spawn`], at the price of a function call and a page of memory. When `main` returns the program
/// ends, whether or not goroutines still run.
///
/// # Panics
///
/// If no stack can be had, as far as that is known now: a goroutine of the default size gets its stack at its first turn, and
/// the process ends, saying so, if there is no address space left then. [`Builder::spawn`] gives an error instead of the panic.
///
/// # Blocking
///
/// No. The new goroutine runs next on this P, or on another that is idle.
///
/// # Happens-before
///
/// The call happens before the first step of `f`.
///
/// # Examples
///
/// ```
/// let answer = raddle::go(|| 6 * 7);
/// assert_eq!(answer.join().unwrap(), 42);
/// ```
#[track_caller]
pub fn go<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    // SAFETY: everything is 'static.
    match unsafe { spawn(f, (), None, 0, Location::caller()) } {
        Ok(handle) => handle,
        Err(error) => panic!("cannot start a goroutine: {error}"),
    }
}

/// How to start a goroutine: with a name, with a stack of another size.
///
/// # Examples
///
/// ```
/// let h = raddle::Builder::new().name("worker").stack_size(64 << 10).spawn(|| 1)?;
/// assert_eq!(h.name(), Some("worker"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Builder {
    name: Option<Arc<str>>,
    stack_size: usize,
}

impl Builder {
    /// A goroutine without a name, with a stack of the default size.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names it, for panic messages and reports.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into().into());
        self
    }

    /// The address space of its stack, in bytes, guard page and bookkeeping (about 8 KiB) included: rounded up to a power of
    /// two, 16 KiB to 1 GiB. Memory is used as it is touched.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = bytes.max(1);
        self
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// No stack could be had (see [`go`] for one of the default size).
    ///
    /// # Happens-before
    ///
    /// As [`go`].
    #[track_caller]
    pub fn spawn<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        // SAFETY: everything is 'static.
        unsafe { spawn(f, (), self.name, self.stack_size, Location::caller()) }
            .map_err(io::Error::other)
    }
}

/// Starts a goroutine that may borrow. `last` has its end when `f` is over and its result is stored.
///
/// # Safety
///
/// What `f` and `T` borrow lives until `last.end`.
pub(crate) unsafe fn spawn<F, T, L>(
    f: F,
    last: L,
    name: Option<Arc<str>>,
    stack_size: usize,
    at: &'static Location<'static>,
) -> Result<JoinHandle<T>, StackError>
where
    F: FnOnce() -> T + Send,
    T: Send,
    L: Last + Send,
{
    crate::boot::ensure();
    let options = SpawnOptions {
        name,
        stack_size,
        at,
        race: None,
        system: false,
    };
    // SAFETY: the caller's contract.
    unsafe { spawn_with(f, last, options) }
}

/// The typed shell around [`Rt::spawn`](raddle_sched::Rt::spawn). A closure too large for a G is boxed.
///
/// # Safety
///
/// As [`spawn`].
unsafe fn spawn_with<F, T, L>(
    f: F,
    last: L,
    options: SpawnOptions,
) -> Result<JoinHandle<T>, StackError>
where
    F: FnOnce() -> T + Send,
    T: Send,
    L: Last + Send,
{
    if size_of::<Body<F, T, L>>() > DATA_BYTES || align_of::<Body<F, T, L>>() > 16 {
        let f: Box<dyn FnOnce() -> T + Send> = Box::new(f);
        // SAFETY: the caller's contract.
        return unsafe { spawn_with(f, last, options) };
    }
    let packet = PacketPtr::new();
    let mut body = ManuallyDrop::new(Body { f, packet, last });
    let task = Task {
        data: (&raw const body).cast(),
        layout: Layout::new::<Body<F, T, L>>(),
        entry: Body::<F, T, L>::run,
        release: release::<T>,
        fini: finish::<T>,
        fini_arg: packet.as_raw(),
    };
    // SAFETY: `Body::run` consumes the data and does not unwind; `finish` knows the packet by its type.
    match unsafe { enter().spawn(&task, &options) } {
        Ok(id) => Ok(JoinHandle {
            packet,
            id,
            name: options.name,
        }),
        Err(error) => {
            // SAFETY: nothing was moved, nothing will run.
            unsafe { ManuallyDrop::drop(&mut body) };
            // SAFETY: as above.
            unsafe { packet.free() };
            Err(error)
        }
    }
}

/// What a main goroutine has for a stack, as the main thread of a process usually has: programs are used to it. Address space.
const MAIN_STACK_BYTES: usize = 8 << 20;

/// Starts the goroutine of a `run`, with the name and, for the first in the process, the race context of a main goroutine.
///
/// # Safety
///
/// As [`spawn`]: the caller joins it before anything that it borrows ends.
pub(crate) unsafe fn spawn_main<F, T>(
    f: F,
    race: Option<GoCtx>,
    at: &'static Location<'static>,
) -> Result<JoinHandle<T>, StackError>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    let options = SpawnOptions {
        name: Some("main".into()),
        stack_size: MAIN_STACK_BYTES,
        at,
        race,
        system: false,
    };
    // SAFETY: the caller's contract.
    unsafe { spawn_with(f, (), options) }
}

/// Starts a goroutine of the runtime's own: it keeps no program alive, and no count or report of the program's goroutines has
/// it. It has a main goroutine's stack, for code of the program's that it may run.
///
/// # Panics
///
/// If no stack can be had.
#[track_caller]
pub(crate) fn spawn_system(name: &str, body: fn()) {
    let options = SpawnOptions {
        name: Some(name.into()),
        stack_size: MAIN_STACK_BYTES,
        at: Location::caller(),
        race: None,
        system: true,
    };
    // SAFETY: everything is 'static.
    if let Err(error) = unsafe { spawn_with(body, (), options) } {
        panic!("cannot start the {name} goroutine: {error}");
    }
}

/// What moves to the new stack.
struct Body<F, T, L> {
    f: F,
    /// Good until `finish`.
    packet: PacketPtr<T>,
    last: L,
}

impl<F: FnOnce() -> T, T, L: Last> Body<F, T, L> {
    /// `Task::entry`.
    unsafe fn run(data: *mut u8) {
        // SAFETY: `spawn` moved a `Body` here, for this one call.
        let Body { f, packet, last } = unsafe { ptr::read(data.cast::<Self>()) };
        let mut f = Some(f);
        let mut value = None;
        let call = || {
            if let Some(f) = f.take() {
                value = Some(f());
            }
        };
        let unwound = catch_unwind(AssertUnwindSafe(|| outermost_frame(&mut { call })));
        let result = match unwound {
            Ok(()) => Ok(value.expect("the closure ran")),
            Err(panic) => Err(panic),
        };
        let panicked = result.as_ref().is_err_and(|panic| !panic.is::<ExitToken>());
        packet.store(result);
        last.end(panicked);
    }
}

/// Calls the goroutine's closure. The stacks in reports end here: what comes further out is the runtime's own.
#[inline(never)]
pub(crate) fn outermost_frame(call: &mut dyn FnMut()) {
    call();
    // Not a tail call: the frame has to be there.
    std::hint::black_box(());
}

/// What is done on a goroutine when its result is stored.
pub(crate) trait Last {
    /// `panicked`: by a panic, not by `exit`.
    fn end(self, panicked: bool);
}

impl Last for () {
    fn end(self, _panicked: bool) {}
}

/// Ends the calling goroutine: its destructors run, its `join` gives an error that [`is_exit`](crate::JoinError::is_exit).
///
/// It unwinds, so a `catch_unwind` on the way stops it. In the main goroutine it ends `main`'s goroutine only: the program
/// goes on until another ends it, or all wait for ever.
///
/// # Panics
///
/// On a plain OS thread.
#[track_caller]
pub fn exit() -> ! {
    assert!(
        raddle_sched::current_goroutine().is_some(),
        "exit() ends a goroutine, and this is a plain OS thread"
    );
    resume_unwind(Box::new(ExitToken))
}

/// A goroutine's number and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Goroutine {
    id: u64,
    name: Option<Arc<str>>,
}

impl Goroutine {
    /// Its number: unique in the process. The main goroutine is number 1.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its name, if it was given one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

impl fmt::Display for Goroutine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "goroutine {}", self.id)?;
        self.name.iter().try_for_each(|name| write!(f, " {name:?}"))
    }
}

/// The calling goroutine; `None` on a plain OS thread.
///
/// # Examples
///
/// ```
/// assert!(raddle::current().is_none());
/// raddle::run(|| assert!(raddle::current().is_some()));
/// ```
#[must_use]
pub fn current() -> Option<Goroutine> {
    raddle_sched::current_goroutine().map(|(id, name)| Goroutine { id, name })
}
