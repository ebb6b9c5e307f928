//! What cases are made of: memory that is not protected, goroutines in pairs, Go's channels and slices.
//!
//! The accesses themselves are in the cases: nothing here that is called by a case reads or writes its memory, but for
//! [`Sl::append`], [`Sl::copy`], [`store`], [`put`] and [`get`]. The runner takes the first frame outside this file for the place of an access.

use std::arch::asm;
use std::cell::UnsafeCell;
use std::hint::black_box;
use std::ops::{Index, IndexMut};
use std::panic::Location;
use std::sync::atomic::AtomicU32;

pub use raddle::chan::{Receiver, Sender};
pub use raddle::{go, yield_now};

/// A variable that any goroutine may touch, ordered or not.
#[derive(Debug, Default)]
pub struct Racy<T>(UnsafeCell<T>);

// SAFETY: none; unordered access is what the cases are about. Where it could do more harm than a wrong number, cases keep the
// accesses apart in time.
unsafe impl<T> Sync for Racy<T> {}
// SAFETY: as above.
unsafe impl<T> Send for Racy<T> {}

impl<T> Racy<T> {
    pub const fn new(value: T) -> Racy<T> {
        Racy(UnsafeCell::new(value))
    }

    pub fn ptr(&self) -> *mut T {
        self.0.get()
    }

    /// The place itself: `*x.at() = 1`, `read(*x.at())`.
    #[inline(always)]
    #[track_caller]
    #[expect(clippy::mut_from_ref, reason = "see the type")]
    pub fn at(&self) -> &mut T {
        here(());
        // SAFETY: never null; otherwise none, as for `Sync`.
        unsafe { &mut *self.0.get() }
    }
}

/// A variable on the heap, for ever.
pub fn var<T>(value: T) -> &'static Racy<T> {
    Box::leak(Box::new(Racy::new(value)))
}

/// A value on the heap, for ever.
pub fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// Stores in a function of its own: two branches that store have one store between them otherwise, which has no line.
#[inline(never)]
pub fn store<T>(to: &Racy<T>, value: T) {
    *to.at() = value;
}

/// Makes the compiler load the value.
#[inline(always)]
#[track_caller]
pub fn read<T>(value: T) -> T {
    here(());
    black_box(value)
}

/// Makes the code around it unlike all other code. Optimised, equal functions become one, and then a report names the lines of
/// that one; cases have many equal closures.
#[inline(always)]
#[track_caller]
pub fn here<T>(value: T) -> T {
    // SAFETY: no instruction at all.
    unsafe {
        asm!("/* {} */", in(reg) Location::caller(), options(nomem, nostack, preserves_flags))
    }
    value
}

/// A pointer that may go to another goroutine.
#[derive(Debug)]
pub struct Ptr<T: ?Sized>(pub *mut T);
impl<T: ?Sized> Clone for Ptr<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T: ?Sized> Copy for Ptr<T> {}
// SAFETY: as for `Racy`.
unsafe impl<T: ?Sized> Send for Ptr<T> {}
// SAFETY: as for `Racy`.
unsafe impl<T: ?Sized> Sync for Ptr<T> {}

impl<T: ?Sized> Ptr<T> {
    #[inline(always)]
    #[track_caller]
    pub fn get(self) -> *mut T {
        here(self.0)
    }
}

/// A value that the compiler would not let go to another goroutine.
pub struct Smuggled<T>(pub T);
// SAFETY: as for `Racy`.
unsafe impl<T> Send for Smuggled<T> {}
// SAFETY: as for `Racy`.
unsafe impl<T> Sync for Smuggled<T> {}

impl<T> Smuggled<T> {
    pub fn take(self) -> T {
        self.0
    }
}

/// A number by which goroutines take turns. Its accesses are inline assembly: the detector does not see them, and they order
/// nothing for it.
#[derive(Debug, Default)]
pub struct Turn(AtomicU32);

impl Turn {
    pub const fn new() -> Turn {
        Turn(AtomicU32::new(0))
    }

    pub fn get(&self) -> u32 {
        let value;
        // SAFETY: reads the four bytes that the reference leads to.
        unsafe {
            asm!("mov {:e}, dword ptr [{}]", out(reg) value, in(reg) self.0.as_ptr(), options(nostack))
        }
        value
    }

    pub fn set(&self, value: u32) {
        // SAFETY: writes the four bytes of an atomic that the reference leads to.
        unsafe {
            asm!("mov dword ptr [{}], {:e}", in(reg) self.0.as_ptr(), in(reg) value, options(nostack))
        }
    }

    /// Waits until it is at least `value`.
    pub fn wait(&self, value: u32) {
        while self.get() < value {
            yield_now();
        }
    }
}

/// Two goroutines, and waits for both.
pub fn both(a: impl FnOnce() + Send + 'static, b: impl FnOnce() + Send + 'static) {
    let (a, b) = (go(a), go(b));
    a.join().expect("the first goroutine did not panic");
    b.join().expect("the second goroutine did not panic");
}

/// As [`both`], the second after the first is through, which the detector cannot know.
pub fn in_turn(a: impl FnOnce() + Send + 'static, b: impl FnOnce() + Send + 'static) {
    let turn = leak(Turn::new());
    both(
        move || {
            a();
            turn.set(1);
        },
        move || {
            turn.wait(1);
            b();
        },
    );
}

/// A goroutine, beside which the caller does `b`; waits for it.
pub fn beside(a: impl FnOnce() + Send + 'static, b: impl FnOnce()) {
    let a = go(a);
    b();
    a.join().expect("the goroutine did not panic");
}

/// As [`beside`], the caller after the goroutine, which the detector cannot know.
pub fn then(a: impl FnOnce() + Send + 'static, b: impl FnOnce()) {
    let turn = leak(Turn::new());
    let a = go(move || {
        a();
        turn.set(1);
    });
    turn.wait(1);
    b();
    a.join().expect("the goroutine did not panic");
}

/// Go's channel: both ends in one, for ever.
pub struct Chan<T> {
    pub tx: Sender<T>,
    pub rx: Receiver<T>,
}

pub fn chan<T>(cap: usize) -> &'static Chan<T> {
    let (tx, rx) = raddle::chan::bounded(cap);
    Box::leak(Box::new(Chan { tx, rx }))
}

impl<T> Chan<T> {
    /// False when it is closed.
    #[track_caller]
    pub fn send(&self, value: T) -> bool {
        self.tx.send(value).is_ok()
    }
    #[track_caller]
    pub fn try_send(&self, value: T) -> bool {
        self.tx.try_send(value).is_ok()
    }
    /// None when it is closed and empty.
    #[track_caller]
    pub fn recv(&self) -> Option<T> {
        self.rx.recv().ok()
    }
    /// False when it was closed before.
    #[track_caller]
    pub fn close(&self) -> bool {
        self.tx.close()
    }
    #[expect(clippy::len_without_is_empty, reason = "Go's channel has none")]
    pub fn len(&self) -> usize {
        self.tx.len()
    }
    pub fn cap(&self) -> Option<usize> {
        self.tx.capacity()
    }
}

/// Go's slice: a pointer, a length and a capacity, by value. Its memory is never freed.
#[derive(Debug)]
pub struct Sl<T> {
    start: *mut T,
    len: usize,
    cap: usize,
}
impl<T> Clone for Sl<T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Sl<T> {}

// SAFETY: as for `Racy`.
unsafe impl<T> Send for Sl<T> {}
// SAFETY: as for `Racy`.
unsafe impl<T> Sync for Sl<T> {}

impl<T: Copy + Default + 'static> Sl<T> {
    pub fn make(len: usize, cap: usize) -> Sl<T> {
        let memory = vec![T::default(); cap].leak();
        Sl {
            start: memory.as_mut_ptr(),
            len,
            cap,
        }
    }

    pub fn of(values: &[T]) -> Sl<T> {
        let s = Sl::make(values.len(), values.len());
        s.copy(values);
        s
    }

    #[inline(always)]
    #[expect(clippy::len_without_is_empty, reason = "Go's slice has none")]
    pub fn len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    pub fn cap(&self) -> usize {
        self.cap
    }

    /// The elements, unread.
    #[inline(always)]
    pub fn all(&self) -> &'static [T] {
        // SAFETY: `start` leads to `cap` values that live for ever, and `len` is at most `cap`.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }

    #[inline(always)]
    pub fn part(&self, from: usize, to: usize) -> Sl<T> {
        assert!(from <= to && to <= self.cap);
        Sl {
            start: self.start.wrapping_add(from),
            len: to - from,
            cap: self.cap - from,
        }
    }

    /// Copies as many of the values as there is room for.
    #[inline(always)]
    pub fn copy(&self, values: &[T]) {
        let n = values.len().min(self.len);
        // SAFETY: both have `n` values; `copy` allows an overlap.
        unsafe { std::ptr::copy(values.as_ptr(), self.start, n) };
    }

    /// In place while there is room, else into new memory.
    #[inline(never)]
    pub fn append(&self, values: &[T]) -> Sl<T> {
        let len = self.len + values.len();
        let mut to = *self;
        if len > self.cap {
            to = Sl::make(len, 2 * len);
            to.copy(self.all());
        }
        to.len = len;
        to.part(self.len, len).copy(values);
        to
    }
}

impl<T> Index<usize> for Sl<T> {
    type Output = T;
    #[inline(always)]
    fn index(&self, i: usize) -> &T {
        assert!(i < self.len);
        // SAFETY: inside, and alive for ever.
        unsafe { &*self.start.add(i) }
    }
}

impl<T> IndexMut<usize> for Sl<T> {
    #[inline(always)]
    fn index_mut(&mut self, i: usize) -> &mut T {
        assert!(i < self.len);
        // SAFETY: inside, and alive for ever.
        unsafe { &mut *self.start.add(i) }
    }
}

/// Writes a value at an offset of a block of 32 bytes, aligned or not.
#[inline(always)]
#[track_caller]
pub fn put<T>(p: Ptr<u8>, offset: usize, value: T) {
    here(());
    assert!(offset + size_of::<T>() <= 32);
    // SAFETY: inside the block, which lives for ever.
    unsafe { p.0.add(offset).cast::<T>().write_unaligned(value) }
}

/// Reads a value at an offset of a block of 32 bytes, aligned or not.
#[inline(always)]
#[track_caller]
pub fn get<T>(p: Ptr<u8>, offset: usize) {
    here(());
    assert!(offset + size_of::<T>() <= 32);
    // SAFETY: inside the block, which lives for ever; all types used are numbers.
    read(unsafe { p.0.add(offset).cast::<T>().read_unaligned() });
}

/// A key or value that is more than a few words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Big {
    pub x: [i32; 17],
}

impl Big {
    pub const ZERO: Big = Big { x: [0; 17] };
}

/// A key or value of a page and more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Huge {
    pub x: usize,
    pub y: [usize; 1000],
}

impl Huge {
    pub const ZERO: Huge = Huge { x: 0, y: [0; 1000] };
}
