//! Collected memory: values that nobody owns and nobody frees.
//!
//! A [`Gc<T>`] is a pointer that may be copied freely, to other goroutines and threads too. The
//! value lives as long as something reaches it, cycles notwithstanding; then the collector takes
//! the memory back. [`Slice<T>`] is the same for many values in a row, [`Weak<T>`] does not keep
//! its value alive, and [`Atomic<T>`] is a place for a pointer that changes.
//!
//! ```
//! use raddle::gc::{Atomic, Gc};
//! use std::sync::atomic::Ordering::SeqCst;
//!
//! struct Node {
//!     name: &'static str,
//!     next: Atomic<Node>,
//! }
//!
//! let node = |name| Gc::new(Node { name, next: Atomic::null() });
//! let (a, b) = (node("a"), node("b"));
//! a.next.store(Some(b), SeqCst);
//! b.next.store(Some(a), SeqCst); // a cycle: no harm done
//! assert_eq!(a.next.load(SeqCst).unwrap().name, "b");
//! ```
//!
//! # What keeps a value alive
//!
//! A word that looks like an address in the object, its middle included, anywhere in the memory
//! that the process can write to and shares with no other: stacks and registers of all threads and
//! goroutines, thread-locals, statics, the memory of `Box`, `Vec` and all that uses Rust's global
//! allocator, C's `malloc`, what was mapped by whomever, stacks that the program switches to by
//! itself, and collected objects that are themselves reached. The word may lie at any address, a
//! multiple of eight or not. So safe code cannot hide a handle.
//!
//! And as long as a value is borrowed, the handle through which it was borrowed keeps it, in the
//! place where it is.
//!
//! The collector looks at memory without knowing types: now and then a number that happens to look
//! like an address keeps something alive for longer. So do old bits of a handle that nobody has
//! overwritten: an `Option<Gc<T>>` that becomes `None` is cleared, but an enum with more than one
//! variant that holds something is not, and a variable that is out of scope is overwritten some
//! time later, or when its goroutine ends; and the vector registers of a thread that sleeps hold
//! what it copied last.
//!
//! It does not see
//! - handles in memory that is shared with other processes, or not to be written: [`add_root`]
//!   makes it known;
//! - addresses that code has hidden, by arithmetic or in a file.
//!
//! Both take `unsafe` code. So does [`exclude`], which tells the collector where not to look.
//!
//! Memory of `Box`, `Vec` and the like is never taken back by the collector, only by its owner, and
//! what lies in it counts as reached. So a cycle that runs *through* one, such as a `Gc<Node>`
//! whose node has a `Vec<Gc<Node>>`, stays for ever. Use a [`Slice`], an [`Atomic`], or a lock that
//! holds the handle in place.
//!
//! # Values with a destructor
//!
//! A value whose type has a destructor is dropped once, on the *finalizer goroutine*, some time
//! after the collector has found that nothing reaches it; the memory goes in a later cycle. That is
//! why [`Gc::new`] asks for `Send`. When the program ends, values that are still there are not
//! dropped.
//!
//! - An object is dropped before those that it reaches, whatever lies between: a destructor finds
//!   whole what its fields lead to.
//! - Objects of a cycle are dropped in any order. Following a handle to one that has been dropped
//!   panics; [`Gc::get`] tells.
//! - A destructor that follows a handle to another object that waits to be dropped saves it, and
//!   all that it leads to at that moment, for this time: they will be dropped when they are found
//!   unreachable again. So a destructor may follow a handle and then store it where others reach
//!   it. Upgrading a [`Weak`] that was made meanwhile counts as following.
//! - What is not followed is not saved. A handle that a destructor stores, and never follows, may
//!   lead to an object that is dropped afterwards. An object without a destructor is never dropped,
//!   and following a handle to it saves nothing of what it leads to.
//! - A destructor cannot save its own object.
//! - Destructors that follow handles put others off: those of objects that nothing leads to by one
//!   cycle at most. A list of which each node follows the next takes a cycle for each node; one in
//!   which nobody follows takes one cycle.
//! - A panic in a destructor is reported on standard error, and the others go on. One that never
//!   returns keeps the others waiting for ever.
//!
//! # Happens-before
//!
//! What was done with a value by whoever had a handle happens before its destructor. A handle
//! itself orders nothing: pass it as you pass any pointer, through channels, locks and atomics.
//!
//! # Blocking
//!
//! An allocation may have to wait for a collection; that blocks the thread, for milliseconds, as
//! the world stands still anyway. And a goroutine that has run for long may be parked in one, to
//! let others run.
//!
//! # Control
//!
//! `RADDLE_GC=percent|off` and [`set_percent`] say how much the heap may grow between two
//! collections, [`set_memory_limit`] how large it should get; [`collect`] collects now, [`stats`]
//! counts, `RADDLE_DEBUG=gctrace=1` prints a line per cycle.

mod atomic;
mod background;
mod control;
mod finalize;
mod handle;
mod handle_traits;
mod no_pointers;
mod place;
mod slice;
mod slice_traits;
#[cfg(test)]
mod tests;
mod weak;

pub use atomic::Atomic;
pub use control::{
    LimitBelowLive, Stats, add_root, collect, exclude, include, keep_alive, remove_root,
    set_memory_limit, set_percent, stats,
};
pub use handle::Gc;
pub use no_pointers::NoPointers;
pub use slice::Slice;
pub use weak::Weak;
