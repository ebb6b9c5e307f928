//! malloc and free: what `#[global_allocator]` calls, and the common path of collected objects.
//!
//! # The fast path
//!
//! The class follows from the layout, the cache from the thread's record, and the object from the top of the magazine: no lock,
//! no read-modify-write, no look at the object or its span. Freeing is the mirror image. All else (an empty or full
//! magazine, large objects, race mode, stress) is out of line.
//!
//! # Invariants
//!
//! 1. An object is small if its size, rounded up to its alignment, is at most [`SMALL_MAX`] and its alignment at most a page; the same
//!    layout always gives the same class, so free needs no lookup.
//! 2. In race mode the detector hears of an object before anyone else gets it, and of its end before it can be taken
//!    again; both outside busy sections.
//!
//! # Blocking
//!
//! Never parks a goroutine. The slow paths take locks of a few dozen instructions and may map memory.

use crate::class::{self, LARGE, PAGE, SMALL_MAX};
use crate::gc::{self, Kind};
use crate::span::{Place, Span};
use crate::thread::{busy, current, this_thread};
use crate::{arena, cache, central, pages};
use raddle_race::Pc;
use std::alloc::{GlobalAlloc, Layout};
use std::arch::naked_asm;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering::*};

/// The heap as Rust's global allocator.
///
/// ```
/// # extern crate raddle_alloc as raddle;
/// #[global_allocator]
/// static HEAP: raddle::Heap = raddle::Heap;
///
/// assert_eq!(vec![1; 1000].iter().sum::<i32>(), 1000);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Heap;

/// The fast paths are off: race mode, or stress.
static WATCHED: AtomicBool = AtomicBool::new(false);

/// Sends every allocation by the slow path, for good: which tells the detector, or counts under stress. To be called as soon as race mode
/// is on, and before there is a second thread.
pub fn watch() {
    WATCHED.store(true, Relaxed);
}

#[inline(always)]
fn is_watched() -> bool {
    WATCHED.load(Relaxed)
}

/// The size rounded up to the alignment; layouts guarantee that it does not overflow.
#[inline(always)]
fn rounded(layout: Layout) -> usize {
    (layout.size() + layout.align() - 1) & !(layout.align() - 1)
}

#[inline(always)]
fn is_small(size: usize, align: usize) -> bool {
    size <= SMALL_MAX && align <= PAGE
}

// SAFETY: an object is given out once until it is freed: magazines and bits hold each free object in one place (their own invariants); it
// is as large and as aligned as the layout asks (`class`).
unsafe impl GlobalAlloc for Heap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match pop(layout) {
            Some(object) => object,
            // SAFETY: the parts of a layout.
            None => unsafe { allocate_here(layout.size(), layout.align(), false) },
        }
    }

    #[inline]
    unsafe fn dealloc(&self, object: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        if unsafe { push(object, layout) } {
            return;
        }
        // SAFETY: the caller's contract.
        unsafe { free_here(object, layout.size(), layout.align()) };
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match pop(layout) {
            Some(object) => {
                // SAFETY: fresh, and so large.
                unsafe { object.write_bytes(0, layout.size()) };
                object
            }
            // SAFETY: the parts of a layout.
            None => unsafe { allocate_here(layout.size(), layout.align(), true) },
        }
    }

    unsafe fn realloc(&self, object: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if raddle_race::enabled() {
            // SAFETY: the caller's contract.
            return unsafe { resize_here(object, layout.size(), layout.align(), new_size) };
        }
        // SAFETY: the caller's contract.
        unsafe { resize(object, layout, new_size, Pc::NONE) }
    }
}

/// Whether the object can stay where it is.
fn resize_in_place(object: *mut u8, old: Layout, new: Layout) -> bool {
    let (from, to) = (rounded(old), rounded(new));
    match (is_small(from, old.align()), is_small(to, new.align())) {
        (true, true) => class::of_size(from) == class::of_size(to),
        (false, false) => resize_large(object, to),
        _ => false,
    }
}

#[cold]
fn resize_large(object: *mut u8, size: usize) -> bool {
    let Some(span) = arena::span_of(object.addr()) else {
        return false;
    };
    let pages = size.div_ceil(PAGE);
    let before = span.pages();
    if pages == before {
        return true;
    }
    busy(this_thread(), || {
        if pages > before {
            return pages::extend(span, pages);
        }
        pages::shrink(span, pages, crate::now_ns());
        true
    })
}

/// Allocates by the fast path, if that can.
#[inline(always)]
fn pop(layout: Layout) -> Option<*mut u8> {
    let size = rounded(layout);
    if !is_small(size, layout.align()) || is_watched() {
        return None;
    }
    let thread = current()?;
    thread.begin();
    // SAFETY: the thread's own cache, in a busy section.
    let object = unsafe { thread.cache().pop(Kind::Manual, class::of_size(size)) };
    thread.end();
    object.map(arena::pointer)
}

/// Frees by the fast path. Returns whether that could.
///
/// # Safety
///
/// As [`GlobalAlloc::dealloc`], if it returns true.
#[inline(always)]
unsafe fn push(object: *mut u8, layout: Layout) -> bool {
    let size = rounded(layout);
    if !is_small(size, layout.align()) || is_watched() {
        return false;
    }
    let Some(thread) = current() else {
        return false;
    };
    thread.begin();
    // SAFETY: the thread's own cache, in a busy section; the caller gives the object up.
    let done = unsafe { thread.cache().push(class::of_size(size), object.addr()) };
    thread.end();
    done
}

/// Memory of the runtime's own, of which the detector is told nothing: the program must never touch it where it is watched, or what was
/// there before would be reported. A root of the collector, as what [`Heap`] gives. Null: out of memory.
#[inline]
pub fn alloc_untold(layout: Layout) -> *mut u8 {
    match pop(layout) {
        Some(object) => object,
        None => allocate_untold(layout, Kind::Manual, false),
    }
}

/// Gives memory back.
///
/// # Safety
///
/// It is from [`alloc_untold`], with this layout, and is not used any more.
#[inline]
pub unsafe fn free_untold(object: *mut u8, layout: Layout) {
    // SAFETY: by the contract.
    if !unsafe { push(object, layout) } {
        // SAFETY: by the contract.
        unsafe { free_slow_untold(object, layout) };
    }
}

/// Allocates a collected object by the fast path, if that can. Its contents are as those of [`allocate`].
#[inline(always)]
pub(crate) fn allocate_fast(layout: Layout, kind: Kind) -> Option<*mut u8> {
    let size = rounded(layout);
    if size == 0 || !is_small(size, layout.align()) || is_watched() {
        return None;
    }
    let class = class::of_size(size);
    let thread = current()?;
    thread.begin();
    // SAFETY: the thread's own cache, in a busy section.
    let object = unsafe { thread.cache().pop(kind, class) };
    thread.end();
    let at = arena::pointer(object?);
    let slack = class::TABLE[class].size as usize - layout.size();
    if slack > 0 && kind != Kind::NoScan {
        // SAFETY: inside the fresh object.
        unsafe { at.wrapping_add(layout.size()).write_bytes(0, slack) };
    }
    Some(at)
}

/// Allocates, by the slow path. Null: out of memory. The contents are zeros if `zeroed`, else undefined, and for scanned kinds what
/// lies behind the layout's size is zero.
pub(crate) fn allocate(layout: Layout, kind: Kind, pc: Pc, zeroed: bool) -> *mut u8 {
    let object = allocate_untold(layout, kind, zeroed);
    if raddle_race::enabled() && !object.is_null() {
        raddle_race::malloc_aligned(object.addr(), layout.size(), pc);
    }
    object
}

/// Functions for [`Heap`], which calls them last of all: that is compiled to a jump, so they return to the program. Each passes that place on in
/// the register of one more argument. Where it is not compiled so, the place is the heap's own, which reports leave out.
macro_rules! called_by_the_program {
    ($($here:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?, $register:literal => $at:path;)*) => {$(
        #[unsafe(naked)]
        unsafe extern "C" fn $here($($arg: $type),*) $(-> $result)? {
            naked_asm!(concat!("mov ", $register, ", qword ptr [rsp]"), "jmp {at}", at = sym $at)
        }
    )*};
}

called_by_the_program! {
    allocate_here(size: usize, align: usize, zeroed: bool) -> *mut u8, "rcx" => allocate_at;
    free_here(object: *mut u8, size: usize, align: usize), "rcx" => free_at;
    resize_here(object: *mut u8, size: usize, align: usize, new_size: usize) -> *mut u8, "r8" => resize_at;
}

/// # Safety
///
/// The parts of a layout.
unsafe extern "C" fn allocate_at(size: usize, align: usize, zeroed: bool, pc: usize) -> *mut u8 {
    // SAFETY: by the contract.
    let layout = unsafe { Layout::from_size_align_unchecked(size, align) };
    allocate(layout, Kind::Manual, place(pc), zeroed)
}

/// # Safety
///
/// As [`GlobalAlloc::dealloc`].
#[cold]
unsafe extern "C" fn free_at(object: *mut u8, size: usize, align: usize, pc: usize) {
    // SAFETY: the parts of a layout.
    let layout = unsafe { Layout::from_size_align_unchecked(size, align) };
    // SAFETY: by the contract.
    unsafe { free_slow(object, layout, place(pc)) };
}

/// # Safety
///
/// As [`GlobalAlloc::realloc`].
unsafe extern "C" fn resize_at(
    object: *mut u8,
    size: usize,
    align: usize,
    new_size: usize,
    pc: usize,
) -> *mut u8 {
    // SAFETY: the parts of a layout.
    let layout = unsafe { Layout::from_size_align_unchecked(size, align) };
    // SAFETY: by the contract.
    unsafe { resize(object, layout, new_size, place(pc)) }
}

/// # Safety
///
/// As [`GlobalAlloc::realloc`].
unsafe fn resize(object: *mut u8, layout: Layout, new_size: usize, pc: Pc) -> *mut u8 {
    // SAFETY: by the contract: rounded up to the alignment it does not overflow.
    let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
    if resize_in_place(object, layout, new) {
        if raddle_race::enabled() {
            raddle_race::malloc_aligned(object.addr(), new_size, pc);
        }
        return object;
    }
    let moved = pop(new).unwrap_or_else(|| allocate(new, Kind::Manual, pc, false));
    if !moved.is_null() {
        let both = layout.size().min(new_size);
        // SAFETY: both are so large, and the new object overlaps no other.
        unsafe { ptr::copy_nonoverlapping(object, moved, both) };
        // SAFETY: by the contract.
        if !unsafe { push(object, layout) } {
            // SAFETY: by the contract.
            unsafe { free_slow(object, layout, pc) };
        }
    }
    moved
}

/// A place for the detector. Where calls are not recorded it finds more by itself.
fn place(pc: usize) -> Pc {
    if raddle_race::is_instrumented() {
        Pc::code(pc)
    } else {
        Pc::NONE
    }
}

/// [`allocate`], of which the detector does not hear.
fn allocate_untold(layout: Layout, kind: Kind, zeroed: bool) -> *mut u8 {
    gc::before_allocation(kind);
    let size = rounded(layout).max(1);
    let (object, slot, is_zero) = if is_small(size, layout.align()) {
        let class = class::of_size(size);
        let object = small(kind, class);
        (object, class::TABLE[class].size as usize, false)
    } else {
        match large(size, layout.align(), kind) {
            Some((object, slot, is_zero)) => (Some(object), slot, is_zero),
            None => (None, 0, false),
        }
    };
    arena::announce();
    let Some(object) = object else {
        return ptr::null_mut();
    };
    let at = arena::pointer(object);
    if !is_zero {
        let from = match (zeroed, kind) {
            (true, _) => 0,
            // What an object before left there would keep others alive.
            (false, Kind::Scan | Kind::Finalized) => layout.size(),
            (false, Kind::Manual | Kind::NoScan) => slot,
        };
        // SAFETY: inside the fresh object.
        unsafe { at.wrapping_add(from).write_bytes(0, slot - from) };
    }
    at
}

/// A small object, by whatever is needed.
fn small(kind: Kind, class: usize) -> Option<usize> {
    enum Step {
        Done(usize),
        Again,
        Sweep(&'static Span),
        OutOfMemory,
    }
    loop {
        let thread = this_thread();
        let step = busy(thread, || {
            let cache = thread.cache();
            // SAFETY: the thread's own cache, in a busy section.
            if let Some(object) = unsafe { cache.pop(kind, class) } {
                return Step::Done(object);
            }
            // SAFETY: as above.
            let (need, filled) = unsafe { cache.refill(kind, class) };
            gc::note_allocated(kind, filled * class::TABLE[class].size as usize);
            match need {
                cache::Need::Nothing => Step::Again,
                cache::Need::Sweep(span) => Step::Sweep(span),
                cache::Need::Span => match pages::take_small(class, kind) {
                    Some(span) => {
                        let spare = central::of(kind, class).put(span, true);
                        debug_assert!(spare.is_none());
                        Step::Again
                    }
                    None => Step::OutOfMemory,
                },
            }
        });
        match step {
            Step::Done(object) => return Some(object),
            Step::Again => {}
            Step::Sweep(span) => {
                gc::sweep::sweep(span);
            }
            Step::OutOfMemory => return None,
        }
    }
}

/// A large object: its address, its size, and whether it reads as zeros.
///
/// All read in the busy section: from its end on the address, in a register or on the stack, is what keeps a collected object alive; the span
/// would not.
fn large(size: usize, align: usize, kind: Kind) -> Option<(usize, usize, bool)> {
    if kind != Kind::Manual {
        gc::sweep::make_room(size);
    }
    busy(this_thread(), || {
        let pages = size.div_ceil(PAGE);
        let align = (align / PAGE).max(1);
        let span = pages::take(pages, align, LARGE, kind)?;
        gc::note_allocated(kind, span.size());
        if kind == Kind::Manual {
            span.set_place(Place::Full);
        } else {
            let spare = central::of(kind, LARGE).put(span, true);
            debug_assert!(spare.is_none());
        }
        Some((span.start(), span.size(), span.is_zero.load(Relaxed)))
    })
}

/// Frees by the slow path.
///
/// # Safety
///
/// As [`GlobalAlloc::dealloc`].
unsafe fn free_slow(object: *mut u8, layout: Layout, pc: Pc) {
    if raddle_race::enabled() {
        raddle_race::free_aligned(object.addr(), layout.size(), pc);
    }
    // SAFETY: by the contract.
    unsafe { free_slow_untold(object, layout) };
}

/// [`free_slow`], of which the detector does not hear.
///
/// # Safety
///
/// As [`GlobalAlloc::dealloc`].
#[cold]
unsafe fn free_slow_untold(object: *mut u8, layout: Layout) {
    if gc::poisons() {
        // SAFETY: the object is ours now.
        unsafe { object.write_bytes(gc::POISON, layout.size()) };
    }
    let size = rounded(layout);
    let thread = this_thread();
    busy(thread, || {
        if is_small(size, layout.align()) {
            let class = class::of_size(size);
            // SAFETY: the thread's own cache, in a busy section.
            if !unsafe { thread.cache().push(class, object.addr()) } {
                // SAFETY: as above.
                unsafe { thread.cache().make_room(class) };
                // SAFETY: as above; the caller gives the object up.
                unsafe { thread.cache().push(class, object.addr()) };
            }
        } else {
            let Some(span) = arena::span_of(object.addr()).filter(|span| span.is_large()) else {
                crate::fatal_at("memory was freed that is not the heap's: ", object.addr())
            };
            span.set_place(Place::Out);
            pages::give(span, crate::now_ns());
        }
    });
}

/// A piece of the heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its first byte.
    pub start: usize,
    /// Its size in bytes: all that its place has room for.
    pub size: usize,
    /// What kind of object it is.
    pub kind: Kind,
}

/// The object around an address, which may be anywhere in it. `None`: the heap has none there.
///
/// Takes constant time and no lock. An object that was freed not long ago may still be found.
#[must_use]
pub fn find_object(addr: usize) -> Option<Object> {
    let span = arena::span_of(addr)?;
    if span.place() == Place::Idle {
        return None;
    }
    let index = span.index_of(addr);
    span.is_allocated(index).then(|| Object {
        start: span.address_of(index),
        size: span.size(),
        kind: span.kind(),
    })
}

/// What the heap has, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeapStats {
    /// Address space in use.
    pub mapped: usize,
    /// In spans of live and free objects.
    pub in_use: usize,
    /// In no span, for reuse.
    pub idle: usize,
    /// Of `idle`: what the kernel has, or was never touched.
    pub released: usize,
}

/// Returns what the heap has. The numbers are of one moment each.
#[must_use]
pub fn heap_stats() -> HeapStats {
    let (mapped, in_use) = (arena::mapped_bytes(), pages::in_use_bytes());
    HeapStats {
        mapped,
        in_use,
        idle: mapped.saturating_sub(in_use),
        released: pages::released_bytes(),
    }
}

/// Gives memory that has been idle for a second back to the kernel, some MiB at a time. To be called about ten times a
/// second. Returns whether there is, or will be, more to do.
pub fn scavenge(now_ns: u64) -> bool {
    busy(this_thread(), || pages::scavenge(now_ns))
}
