//! What the adversaries share.

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use raddle::gc;

/// Between two collections the program gets on.
const PAUSE: Duration = Duration::from_micros(300);

/// A value that tells whether it is still the one that was made.
pub(crate) struct Canary {
    number: u64,
    image: u64,
}

impl Canary {
    pub(crate) fn new(number: u64) -> Self {
        Self {
            number,
            image: Self::image(number),
        }
    }

    /// No address: the top bit is set.
    fn image(number: u64) -> u64 {
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 << 63
    }

    /// The number, if the value is whole.
    #[track_caller]
    pub(crate) fn number(&self) -> u64 {
        assert_eq!(self.image, Self::image(self.number), "not a value any more");
        self.number
    }
}

/// Takes a lock whose holder may have panicked.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `f` on a goroutine of its own: what it leaves on its stack is looked at no more.
pub(crate) fn elsewhere<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    raddle::go(f).join().unwrap()
}

/// Has the handle and forgets it.
pub(crate) fn forget<H: Copy>(handle: H) {
    black_box(handle);
}

/// Empties a list, and leaves no handle in the memory that it has. That memory comes to others, which
/// need not write to all of it: the backtrace of a panic fills the program's heap with lists that are
/// half empty, and the collector looks at those as at any memory.
pub(crate) fn wipe<H: Copy>(list: &mut Vec<H>) {
    list.clear();
    list.spare_capacity_mut().fill(MaybeUninit::zeroed());
    black_box(list);
}

/// Collects, lets the runtime's goroutines work, and takes freed memory for other values.
pub(crate) fn churn() {
    // The collector looks at this thread from here up: no handle that was in use before is to be in
    // a part of those frames that nobody writes.
    crate::garbage::clear_stack();
    gc::collect();
    for size in [3, 8, 20, 100] {
        black_box(gc::Slice::from_fn(size, |_| !0_u64));
        black_box(vec![!0_u64; size]);
    }
    raddle::time::sleep(PAUSE);
}

/// Collects until `what` holds. Returns how often.
#[track_caller]
pub(crate) fn collect_until(mut what: impl FnMut() -> bool) -> usize {
    for cycles in 0..300 {
        if what() {
            return cycles;
        }
        churn();
    }
    panic!("not in three hundred collections");
}

/// Runs `f` while a thread collects all the time. One at a time: tests that run at once collect for
/// each other anyway.
pub(crate) fn under_collections<T>(f: impl FnOnce() -> T) -> T {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = lock(&ONE);
    let over = Arc::new(AtomicBool::new(false));
    let is_over = over.clone();
    let thread = std::thread::spawn(move || {
        while !is_over.load(Acquire) {
            gc::collect();
            std::thread::sleep(10 * PAUSE);
        }
    });
    let result = f();
    over.store(true, Release);
    thread.join().unwrap();
    result
}

pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((u128::from(self.0) * n as u128) >> 64) as usize
    }
}
