//! The output that libtest captures, for goroutines.
//!
//! libtest keeps what a test prints by a thread-local of std's: `OUTPUT_CAPTURE`, a
//! `Cell<Option<Arc<Mutex<Vec<u8>>>>>` that `print!` and its kin look at. A thread that a test
//! starts inherits it, by std or by a hook of libtest's. A goroutine has thread-locals of its own,
//! and std's way of setting this one is not stable. So the place is found by an experiment, and
//! goroutines inherit what is there.
//!
//! # The experiment
//!
//! `print!` takes the sink out of the thread-local, locks it, formats, and puts it back. A
//! `Display` that writes nothing looks meanwhile:
//!
//! 1. Exactly one word of the program's thread-local storage is zero then, and the same address
//!    before and after.
//! 2. At that address the memory looks like that of a sink made here: the same weak count, and
//!    between before and then it differs as ours does when it is locked, and in nothing else. It is
//!    read through `/proc/self/mem`, which refuses an address where nothing is.
//!
//! Whatever does not come out so (nothing is captured, another std, a std in a library of its own,
//! thread-locals that stay with the OS thread) leaves output where it was: on the process's own
//! streams.
//!
//! # Invariants
//!
//! 1. `PLACE` is 0, or the distance from `ANCHOR` to `OUTPUT_CAPTURE`, in every thread and
//!    goroutine: both lie in the static storage of one module.
//! 2. The place is touched on goroutines only, by the goroutine itself, between [`begin`] and
//!    [`end`]: `ON`. In that time std has not destroyed it: destructors run later. After `end` it
//!    holds nothing, so that a destructor finds nothing to drop.
//! 3. What is in the place is owned by it, as std's: each goroutine has a clone.
//!
//! # Limits
//!
//! What a thread-local's destructor prints is not captured, nor what a `std::thread` prints that a
//! goroutine has started.

use crate::places;
use raddle_sched::enter;
use std::cell::{Cell, RefCell};
use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::io::{self, Write};
use std::mem::{ManuallyDrop, transmute};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::ptr;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::{Arc, Mutex};

/// What std calls `LocalStream`.
pub(crate) type Sink = Arc<Mutex<Vec<u8>>>;

/// See invariant 1. Relaxed: one number, the same whoever finds it.
static PLACE: AtomicIsize = AtomicIsize::new(0);

thread_local! {
    static ANCHOR: Cell<usize> = const { Cell::new(0) };
    /// See invariant 2.
    static ON: Cell<bool> = const { Cell::new(false) };
}

fn anchor() -> usize {
    ANCHOR.with(|anchor| ptr::from_ref(anchor).expose_provenance())
}

/// The calling goroutine's `OUTPUT_CAPTURE`.
///
/// Never inlined: where a goroutine may be on another thread after a switch no address of a
/// thread-local is kept over one.
#[inline(never)]
fn place() -> *mut Option<Sink> {
    let at = anchor().wrapping_add_signed(PLACE.load(Ordering::Relaxed));
    ptr::with_exposed_provenance_mut(at)
}

/// What a goroutine that the caller starts now inherits. Nearly always: one load.
#[inline]
pub(crate) fn inherit() -> Option<Sink> {
    match PLACE.load(Ordering::Relaxed) {
        0 => None,
        _ => inherit_slow(),
    }
}

#[cold]
fn inherit_slow() -> Option<Sink> {
    if !ON.get() {
        return None;
    }
    // Inside: a count that std's code may change, too, orders nobody in race mode.
    let _inside = enter();
    // SAFETY: invariant 2; nobody else has the place, and the copy is not dropped.
    let sink = ManuallyDrop::new(unsafe { place().read() });
    Option::clone(&sink)
}

/// What the caller prints goes to `sink`, from here to [`end`]: at the start of a goroutine.
///
/// # Panics
///
/// If the place is not known: then there is nobody who could have a sink.
#[inline(never)]
pub(crate) fn begin(sink: Sink) {
    assert_ne!(PLACE.load(Ordering::Relaxed), 0, "a sink without a place");
    ON.set(true);
    // SAFETY: a new goroutine has nothing there, and std has not touched it.
    unsafe { place().write(Some(sink)) };
}

/// The end of [`begin`], before the goroutine's thread-locals are destroyed.
#[inline(never)]
pub(crate) fn end() {
    // As in `inherit`.
    let _inside = enter();
    // SAFETY: invariants 2 and 3.
    drop(unsafe { place().replace(None) });
    ON.set(false);
}

/// Writes to standard error, or to where the caller's output is captured. Standard error may be
/// closed: nobody to tell.
pub(crate) fn print_error(text: &str) {
    // SAFETY: invariant 2, for the time of a look.
    if ON.get() && unsafe { &*place() }.is_some() {
        eprint!("{text}");
    } else {
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

/// Returns where the calling thread's output is captured, which is a thread of libtest's: what a
/// test's goroutine inherits.
///
/// Finds the place anew each time: so the thread's own is known to be there still, whatever part of
/// its life it is in.
pub(crate) fn of_this_thread() -> Option<Sink> {
    if raddle_sched::current_goroutine().is_some() {
        return inherit();
    }
    if raddle_sched::tls_mode() == "thread" {
        return None;
    }
    let mem = File::open("/proc/self/mem").ok()?;
    let storage = places::thread_locals_around(anchor())?;
    let at = vanishing_word(storage)?;
    let word: *const usize = ptr::with_exposed_provenance(at);
    // SAFETY: a word of this thread's storage.
    let sink = unsafe { word.read_volatile() };
    if !looks_like_a_sink(&mem, sink) {
        return None;
    }
    let found = (at as isize).wrapping_sub(anchor() as isize);
    let known = PLACE.compare_exchange(0, found, Ordering::Relaxed, Ordering::Relaxed);
    if known.is_err_and(|known| known != found) {
        return None;
    }
    // SAFETY: by the experiment this is std's `Option<Sink>`, of this thread, which is not
    // printing. The copy is not dropped.
    let sink = ManuallyDrop::new(unsafe { word.cast::<Option<Sink>>().read() });
    Option::clone(&sink)
}

/// Writes nothing, and calls the closure.
struct Look<F>(F);

impl<F: Fn()> Display for Look<F> {
    fn fmt(&self, _: &mut Formatter<'_>) -> fmt::Result {
        self.0();
        Ok(())
    }
}

/// Step 1: the address of the word that `print!` takes out and puts back.
fn vanishing_word(storage: Range<usize>) -> Option<usize> {
    let words = || (storage.start.next_multiple_of(8)..storage.end & !7).step_by(8);
    let copy = |to: &mut Vec<usize>| {
        to.clear();
        // SAFETY: words of this thread's storage, whatever they are; nothing is concluded from them
        // alone.
        to.extend(
            words().map(|at| unsafe { ptr::with_exposed_provenance::<usize>(at).read_volatile() }),
        );
    };
    let room = || Vec::with_capacity(words().count());
    let (mut before, then, mut after) = (room(), RefCell::new(room()), room());
    copy(&mut before);
    print!("{}", Look(|| copy(&mut then.borrow_mut())));
    copy(&mut after);
    let then = then.into_inner();
    let mut found = words()
        .enumerate()
        .filter(|&(i, _)| before[i] != 0 && then.get(i) == Some(&0) && after[i] == before[i]);
    match (found.next(), found.next()) {
        (Some((_, at)), None) => Some(at),
        _ => None,
    }
}

/// Step 2: whether `word` is a sink, unlocked, that `print!` locks.
fn looks_like_a_sink(mem: &File, word: usize) -> bool {
    let ours: Sink = Arc::new(Mutex::new(Vec::new()));
    // SAFETY: an `Arc` of a sized type is one address: that of the counts and the value together.
    let our_word = unsafe { transmute::<&Sink, &usize>(&ours) };
    // The counts, two words, and the value.
    let counts = Arc::as_ptr(&ours).addr() - our_word;
    let read = |word: usize| {
        let mut bytes = vec![0; counts + size_of::<Mutex<Vec<u8>>>()];
        let is_there = word.is_multiple_of(align_of::<usize>());
        (is_there && mem.read_exact_at(&mut bytes, word as u64).is_ok()).then_some(bytes)
    };
    let difference = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| a ^ b).collect::<Vec<_>>();
    let (Some(free), Some(locked)) = (read(*our_word), {
        let _locked = ours.lock();
        read(*our_word)
    }) else {
        return false;
    };
    let then = RefCell::new(None);
    let before = read(word);
    print!("{}", Look(|| drop(then.replace(read(word)))));
    let (Some(before), Some(then)) = (before, then.into_inner()) else {
        return false;
    };
    let weak = size_of::<usize>()..counts;
    free != locked
        && difference(&before, &then) == difference(&free, &locked)
        && before[weak.clone()] == free[weak]
}
