//! Starting goroutines, and what a goroutine can ask about itself.

use crate::boot::MainGoroutine;
use crate::capture::{self, Sink};
use crate::join::{ExitToken, JoinHandle, PacketPtr, ResultKind, fatal, finish, release};
use crate::scope::Member;
use raddle_race::{GoCtx, carry};
use raddle_sched::{DATA_BYTES, SpawnOptions, StackError, Task, enter};
use std::alloc::Layout;
use std::convert::Infallible;
use std::marker::PhantomData;
use std::mem::{MaybeUninit, offset_of};
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
#[inline]
#[track_caller]
pub fn go<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let at = Location::caller();
    // SAFETY: everything is 'static.
    unsafe { shell::<0, _, _>(f, |closure| closure.start(None, at)) }
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
    ///
    /// Every goroutine has the program's static thread-locals, as a thread has. What these take
    /// beyond some 3 KiB comes on top of `bytes`.
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
    #[inline]
    #[track_caller]
    pub fn spawn<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let at = Location::caller();
        // SAFETY: everything is 'static.
        unsafe { try_shell::<0, _, _, _>(f, |closure| closure.start_as(self, at)) }
    }
}

/// What is known of a closure whose type is forgotten.
pub(crate) struct Kind {
    /// Of a [`Body`], and where the closure lies in it.
    body: Layout,
    closure: usize,
    /// Whether a [`Member`] lies behind the packet.
    has_member: bool,
    /// Moves the closure out, calls it, and moves what it returns to the second place.
    call: unsafe fn(*mut u8, *mut u8),
    drop: unsafe fn(*mut u8),
    pub(crate) result: ResultKind,
}

/// What moves to the new goroutine.
#[repr(C)]
struct Body<F, const MEMBERS: usize> {
    /// Good until `finish`.
    packet: MaybeUninit<PacketPtr>,
    /// Of a scope: one or none. It ends when the result is stored.
    member: [MaybeUninit<Member>; MEMBERS],
    closure: F,
}

/// Where the member lies, if there is one, whatever the closure.
const MEMBER: usize = offset_of!(Body<(), 1>, member);

/// The kind of a closure that returns a `T`.
struct Typed<F, T, const MEMBERS: usize>(PhantomData<(F, T)>);

impl<F: FnOnce() -> T, T, const MEMBERS: usize> Typed<F, T, MEMBERS> {
    const FITS: bool =
        size_of::<Body<F, MEMBERS>>() <= DATA_BYTES && align_of::<Body<F, MEMBERS>>() <= 16;

    const KIND: &'static Kind = &Kind {
        body: Layout::new::<Body<F, MEMBERS>>(),
        closure: offset_of!(Body<F, MEMBERS>, closure),
        has_member: MEMBERS > 0,
        call: Self::call,
        drop: Self::drop,
        result: ResultKind::of::<T>(),
    };

    unsafe fn call(closure: *mut u8, place: *mut u8) {
        // SAFETY: the closure was moved there for this one call. Neither place can be named by the program.
        let closure = unsafe { carry::take(closure.cast::<F>()) };
        let value = closure();
        // SAFETY: the packet's place for the result, which is this goroutine's.
        unsafe { carry::put(place.cast::<T>(), value) };
    }

    unsafe fn drop(closure: *mut u8) {
        // SAFETY: the caller hands the closure over.
        unsafe { ptr::drop_in_place(closure.cast::<F>()) };
    }
}

/// A new goroutine's packet and number: what its handle is made of.
type Started = (PacketPtr, u64);

/// A closure on its way to a goroutine: a [`Body`] on the starter's stack, which has its closure, and nothing else yet.
pub(crate) struct Closure {
    body: *mut u8,
    kind: &'static Kind,
}

/// The typed shell of all that starts goroutines. It is compiled in the program's crates, where all that it does is watched: it moves the
/// closure, and leaves the rest to `start`. A closure too large for a G is boxed.
///
/// # Safety
///
/// What `f` and `T` borrow lives until the goroutine's end. `start` starts the closure that it is given, with as many members as `MEMBERS`
/// says.
#[inline]
pub(crate) unsafe fn shell<const MEMBERS: usize, F, T>(
    f: F,
    start: impl FnOnce(Closure) -> Started,
) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    let start = |closure| Ok::<_, Infallible>(start(closure));
    // SAFETY: the caller's contract.
    let Ok(handle) = unsafe { try_shell::<MEMBERS, _, _, _>(f, start) };
    handle
}

/// [`shell`] for a `start` that can fail; it has consumed the closure then.
///
/// # Safety
///
/// As [`shell`].
#[inline]
pub(crate) unsafe fn try_shell<const MEMBERS: usize, F, T, E>(
    f: F,
    start: impl FnOnce(Closure) -> Result<Started, E>,
) -> Result<JoinHandle<T>, E>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    if !Typed::<F, T, MEMBERS>::FITS {
        let f: Box<dyn FnOnce() -> T + Send> = Box::new(f);
        // SAFETY: the caller's contract.
        return unsafe { try_shell::<MEMBERS, _, _, _>(f, start) };
    }
    let mut body = MaybeUninit::<Body<F, MEMBERS>>::uninit();
    let body = body.as_mut_ptr();
    // SAFETY: inside the body.
    let place = unsafe { &raw mut (*body).closure };
    // SAFETY: nobody else knows the place.
    unsafe { carry::put(place, f) };
    let started = start(Closure {
        body: body.cast(),
        kind: Typed::<F, T, MEMBERS>::KIND,
    })?;
    // SAFETY: of this kind, whose result is a `T`.
    Ok(unsafe { JoinHandle::new(started) })
}

impl Closure {
    /// Starts it on a stack of the default size.
    ///
    /// # Panics
    ///
    /// If no stack can be had.
    #[inline(never)]
    pub(crate) fn start(self, member: Option<Member>, at: &'static Location<'static>) -> Started {
        match self.launch(member, SpawnOptions::new(at), capture::inherit()) {
            Ok(started) => started,
            Err(error) => panic!("cannot start a goroutine: {error}"),
        }
    }

    #[inline(never)]
    fn start_as(self, how: Builder, at: &'static Location<'static>) -> io::Result<Started> {
        let options = SpawnOptions {
            name: how.name,
            stack_size: how.stack_size,
            ..SpawnOptions::new(at)
        };
        self.start_with(options).map_err(io::Error::other)
    }

    /// A goroutine that does not inherit where its output goes.
    #[inline(never)]
    fn launch_main(self, options: SpawnOptions, sink: Option<Sink>) -> Result<Started, StackError> {
        self.launch(None, options, sink)
    }

    #[inline(never)]
    fn start_with(self, options: SpawnOptions) -> Result<Started, StackError> {
        self.launch(None, options, capture::inherit())
    }

    /// Inlined for [`start`](Self::start), whose options are constants: the others are rare.
    #[inline(always)]
    fn launch(
        self,
        member: Option<Member>,
        options: SpawnOptions,
        sink: Option<Sink>,
    ) -> Result<Started, StackError> {
        crate::boot::ensure();
        let Closure { body, kind } = self;
        let rt = enter();
        let packet = PacketPtr::new(kind, options.name.clone(), sink);
        // SAFETY: a body begins with it.
        unsafe { body.cast::<PacketPtr>().write(packet) };
        if let Some(member) = member {
            assert!(
                kind.has_member,
                "a scope's goroutine has room for its member"
            );
            // SAFETY: inside the body.
            let place = unsafe { body.byte_add(MEMBER) };
            // SAFETY: it has.
            unsafe { place.cast::<Member>().write(member) };
        }
        let task = Task {
            data: body,
            layout: kind.body,
            entry: run,
            release,
            fini: finish,
            fini_arg: packet.as_raw(),
        };
        // SAFETY: `run` consumes the data and does not unwind; `finish` knows the packet.
        match unsafe { rt.spawn(&task, &options) } {
            Ok(id) => Ok((packet, id)),
            Err(error) => {
                drop(rt);
                // SAFETY: nothing was moved, nothing will run.
                unsafe { packet.free() };
                // SAFETY: as above.
                drop(unsafe { take_member(body, kind) });
                // SAFETY: inside the body.
                let closure = unsafe { body.byte_add(kind.closure) };
                // SAFETY: as above.
                unsafe { (kind.drop)(closure) };
                Err(error)
            }
        }
    }
}

/// What a main goroutine has for a stack, as the main thread of a process usually has: programs are used to it. Address space.
const MAIN_STACK_BYTES: usize = 8 << 20;

/// Starts the goroutine of a `run`, with the name and, for the first in the process, the race context of a main goroutine.
///
/// # Safety
///
/// As [`shell`]: the caller joins it before anything that it borrows ends.
pub(crate) unsafe fn spawn_main<F, T>(
    f: F,
    how: MainGoroutine,
    race: Option<GoCtx>,
    at: &'static Location<'static>,
) -> Result<JoinHandle<T>, StackError>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    let options = SpawnOptions {
        name: Some(how.name),
        stack_size: MAIN_STACK_BYTES,
        race,
        ..SpawnOptions::new(at)
    };
    // SAFETY: the caller's contract.
    unsafe { try_shell::<0, _, _, _>(f, |closure| closure.launch_main(options, how.sink)) }
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
        system: true,
        ..SpawnOptions::new(Location::caller())
    };
    // SAFETY: everything is 'static.
    let started =
        unsafe { try_shell::<0, _, _, _>(body, |closure| closure.launch_main(options, None)) };
    if let Err(error) = started {
        panic!("cannot start the {name} goroutine: {error}");
    }
}

/// What a [`Body`] has for a member.
///
/// # Safety
///
/// `launch` made the body; the member is taken once.
unsafe fn take_member(body: *mut u8, kind: &Kind) -> Option<Member> {
    if !kind.has_member {
        return None;
    }
    // SAFETY: inside the body.
    let place = unsafe { body.byte_add(MEMBER) };
    // SAFETY: by the contract.
    Some(unsafe { place.cast::<Member>().read() })
}

/// `Task::entry`.
///
/// # Safety
///
/// `data` is a [`Body`], for this one call. It is not touched once the goroutine has left its stack for the first time: what was a closure
/// lies on that by then.
unsafe fn run(data: *mut u8) {
    // SAFETY: a body begins with it.
    let packet = unsafe { data.cast::<PacketPtr>().read() };
    let kind = packet.kind();
    // SAFETY: taken here alone.
    let member = unsafe { take_member(data, kind) };
    // SAFETY: inside the body.
    let closure = unsafe { data.byte_add(kind.closure) };
    let place = packet.place();
    let is_captured = packet.take_sink().map(capture::begin).is_some();
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        outermost_frame(kind.call, closure, place)
    }));
    let panicked = packet.store(unwound);
    if let Some(member) = member {
        member.end(panicked);
    }
    if is_captured {
        capture::end();
    }
}

/// Calls the goroutine's closure. The stacks in reports end here: what comes further out is the runtime's own.
#[inline(never)]
pub(crate) fn outermost_frame(call: unsafe fn(*mut u8, *mut u8), closure: *mut u8, place: *mut u8) {
    // SAFETY: `run` passes what belongs together, once.
    unsafe { call(closure, place) };
    // Not a tail call: the frame has to be there.
    std::hint::black_box(());
}

/// Ends the calling goroutine: its destructors run, its `join` gives an error that [`is_exit`](crate::JoinError::is_exit).
///
/// It unwinds, so a `catch_unwind` on the way stops it, and a program that is built with `panic = "abort"` aborts, with a
/// message: without unwinding no destructor on the stack could run. In the main goroutine it ends `main`'s goroutine only: the program
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
    if cfg!(panic = "abort") {
        fatal(&format!(
            "exit() at {}: it unwinds the goroutine's stack, and this program is built with panic = \"abort\"",
            Location::caller()
        ));
    }
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
