//! Work on its way between marking threads: a pool of buffers of fixed size, and the end of marking.
//!
//! A piece of work is a range of words to scan. Every marking thread has a stack of its own; what that has no room for, or what
//! others wait for, goes through the pool in full buffers. All of it changes under one lock, which is taken once for some hundred
//! pieces.
//!
//! # States
//!
//! A thread *joins* a phase, then is busy, or idle in [`Pool::get`]. The phase is *done* once all that joined are idle at the same
//! moment and the pool has no full buffer. Who comes later does not join.
//!
//! # Invariants
//!
//! 1. Work is in the stack of a busy thread, or in a full buffer: a thread becomes idle under the lock, with its stack empty, when
//!    there is no full buffer.
//! 2. Only busy threads make work. So when all are idle there is none and never will be: done is final until the next phase.
//! 3. The thread that began the phase joins with it, so it is not done before it has begun, however late the others wake up.
//!
//! # Memory ordering
//!
//! The lock orders what was pushed with who pops it. `put, done: change WORD under the lock` ⇄ `get: read WORD under the lock, wait for
//! it to change`: no wake-up is lost.
//!
//! # Blocking
//!
//! Used by the collector's threads only: no thread of the program ever holds the lock. Memory for buffers, at most a 64th of the heap's and touched
//! only as it is needed, is reserved before the stop and kept.
//!
//! # Why not
//!
//! *Deques that are stolen from*: every push and pop would pay for fences that one transfer in some hundred needs.

use crate::meta;
use crate::sync::{Guarded, Word};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};

/// Pieces of work that a buffer holds.
pub(super) const ITEMS: usize = 510;
/// Bytes of the first region of buffers; each further one has as many as all before.
const FIRST_REGION: usize = 256 << 10;
const REGIONS: usize = 32;
/// Of so many bytes of heap the buffers may take one.
const SHARE: usize = 64;
/// How often an idle thread looks before it sleeps: some 50 us.
const SPINS: u32 = if cfg!(loom) { 0 } else { 1000 };

/// A range of words to scan: the address in words above 20 bits of length in words; length 0: from there to the end of its span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Work(u64);

impl Work {
    const LENGTH_BITS: u32 = 20;

    /// `words` words at `start`, a multiple of 8 below 2^47; from 1 to some thousand.
    #[inline(always)]
    pub(super) fn words(start: usize, words: usize) -> Self {
        debug_assert!(start.is_multiple_of(8) && (1..1 << Self::LENGTH_BITS).contains(&words));
        Self((start as u64 >> 3) << Self::LENGTH_BITS | words as u64)
    }

    /// All from `start` to the end of the span that it is in.
    pub(super) fn rest_of_span(start: usize) -> Self {
        Self((start as u64 >> 3) << Self::LENGTH_BITS)
    }

    #[inline(always)]
    pub(super) fn start(self) -> usize {
        (self.0 >> Self::LENGTH_BITS << 3) as usize
    }

    /// Its length in words; 0: up to the end of the span.
    #[inline(always)]
    pub(super) fn len(self) -> usize {
        (self.0 & ((1 << Self::LENGTH_BITS) - 1)) as usize
    }
}

/// Work in transit.
#[repr(C)]
pub(super) struct Buffer {
    next: *mut Buffer,
    pub(super) len: usize,
    pub(super) items: [Work; ITEMS],
}

/// A buffer that its holder has to itself.
pub(super) type Held = &'static mut Buffer;

pub(super) struct Pool {
    state: Guarded<State>,
    /// Somebody is idle for whom there is no full buffer. A hint: Relaxed.
    hungry: AtomicBool,
    /// Changes whenever idle threads should look again.
    word: Word,
    reserved: AtomicUsize,
}

struct State {
    full: *mut Buffer,
    full_len: usize,
    empty: *mut Buffer,
    /// Memory that no buffer was made of yet, so that it is not touched before it is needed.
    regions: [(*mut u8, usize); REGIONS],
    region_count: usize,
    phase: u32,
    joined: usize,
    idle: usize,
    done: bool,
    limited: bool,
}

// SAFETY: buffers and regions belong to whoever has the state, on any thread.
unsafe impl Send for State {}

#[cfg(not(loom))]
pub(super) static POOL: Pool = Pool::new(Guarded::new(State::new()), Word::new());
/// loom's types cannot be made in a constant.
#[cfg(loom)]
pub(super) static POOL: std::sync::LazyLock<Pool> =
    std::sync::LazyLock::new(|| Pool::new(Guarded::new(State::new()), Word::new()));

impl Pool {
    const fn new(state: Guarded<State>, word: Word) -> Self {
        Self {
            state,
            hungry: AtomicBool::new(false),
            word,
            reserved: AtomicUsize::new(0),
        }
    }

    /// The lock, for `fork`: the coordinator takes it with the world running, to reserve.
    pub(super) fn lock(&self) -> &crate::Lock {
        self.state.lock()
    }

    fn locked<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        self.state.with(|state| {
            let result = f(state);
            self.hungry.store(state.idle > state.full_len, Relaxed);
            result
        })
    }

    /// Has enough memory for a heap of `bytes`, or none at all to test what happens then. Before the world stops.
    pub(super) fn reserve(&self, bytes: usize, limited: bool) {
        self.locked(|state| {
            state.limited = limited;
            let mut reserved = self.reserved.load(Relaxed);
            while reserved < bytes / SHARE + 1 && state.region_count < REGIONS {
                let more = reserved.max(FIRST_REGION);
                // Without, marking takes longer, not more.
                let Some(region) = meta::map(more) else { break };
                state.regions[state.region_count] = (region.as_ptr(), more);
                state.region_count += 1;
                reserved += more;
            }
            self.reserved.store(reserved, Relaxed);
        });
    }

    /// Begins a phase, with the caller in it. Returns its number.
    pub(super) fn begin(&self) -> u32 {
        self.locked(|state| {
            debug_assert!(state.joined == 0 && state.full.is_null());
            state.phase = state.phase.wrapping_add(1);
            state.joined = 1;
            state.idle = 0;
            state.done = false;
            state.phase
        })
    }

    /// Joins a phase; false: it is over.
    pub(super) fn join(&self, phase: u32) -> bool {
        self.locked(|state| {
            let open = state.phase == phase && !state.done;
            state.joined += usize::from(open);
            open
        })
    }

    /// Leaves a phase that is done.
    pub(super) fn leave(&self) {
        let last = self.locked(|state| {
            debug_assert!(state.done);
            state.joined -= 1;
            state.joined == 0
        });
        if last {
            self.word.change();
            self.word.wake(1);
        }
    }

    /// Leaves a phase that is done, as the one that began it, and waits until all have.
    pub(super) fn finish(&self) {
        self.locked(|state| state.joined -= 1);
        let mut spins = 0;
        loop {
            let seen = self.word.get(); // before the look: pairs with leave
            if self.locked(|state| state.joined == 0) {
                return;
            }
            self.pause(seen, &mut spins);
        }
    }

    /// Waits for the word to change, or not so long.
    fn pause(&self, seen: u32, spins: &mut u32) {
        while *spins < SPINS {
            *spins += 1;
            if self.word.get() != seen {
                return;
            }
            std::hint::spin_loop();
        }
        self.word.wait(seen);
    }

    /// Whether a busy thread should give work away.
    #[inline(always)]
    pub(super) fn is_hungry(&self) -> bool {
        self.hungry.load(Relaxed)
    }

    /// Takes an empty buffer; `None`: there is no memory for more.
    pub(super) fn empty(&self) -> Option<Held> {
        let buffer = self.locked(State::take_empty)?;
        // SAFETY: a buffer that was in no list or just carved: the caller's alone.
        Some(unsafe { &mut *buffer })
    }

    /// Takes an emptied buffer back.
    pub(super) fn recycle(&self, buffer: Held) {
        self.locked(|state| {
            buffer.next = state.empty;
            state.empty = buffer;
        });
    }

    /// Passes work on.
    pub(super) fn put(&self, buffer: Held) {
        debug_assert!(buffer.len > 0);
        let wakes = self.locked(|state| {
            buffer.next = state.full;
            state.full = buffer;
            state.full_len += 1;
            let wakes = state.idle > 0;
            if wakes {
                self.word.change();
            }
            wakes
        });
        if wakes {
            self.word.wake(1);
        }
    }

    /// Waits for work, for a thread that has none; `None`: the phase is done.
    pub(super) fn get(&self) -> Option<Held> {
        enum Found {
            Work(*mut Buffer),
            Done,
            DoneByMe,
            Nothing(u32),
        }
        let mut waited = false;
        let mut spins = 0;
        loop {
            let found = self.locked(|state| {
                state.idle -= usize::from(waited);
                // SAFETY: null, or a buffer in the list, which the lock guards.
                if let Some(first) = unsafe { state.full.as_mut() } {
                    state.full = first.next;
                    state.full_len -= 1;
                    return Found::Work(first);
                }
                if state.done {
                    return Found::Done;
                }
                state.idle += 1;
                if state.idle == state.joined {
                    state.done = true;
                    // Nobody waits any more, once they have looked.
                    self.word.change();
                    state.idle -= 1;
                    return Found::DoneByMe;
                }
                Found::Nothing(self.word.get())
            });
            match found {
                // SAFETY: taken off the list: ours alone.
                Found::Work(buffer) => return Some(unsafe { &mut *buffer }),
                Found::Done => return None,
                Found::DoneByMe => {
                    self.word.wake(i32::MAX);
                    return None;
                }
                Found::Nothing(seen) => self.pause(seen, &mut spins),
            }
            waited = true;
        }
    }
}

impl State {
    const fn new() -> Self {
        Self {
            full: ptr::null_mut(),
            full_len: 0,
            empty: ptr::null_mut(),
            regions: [(ptr::null_mut(), 0); REGIONS],
            region_count: 0,
            phase: 0,
            joined: 0,
            idle: 0,
            done: true,
            limited: false,
        }
    }

    fn take_empty(&mut self) -> Option<*mut Buffer> {
        if self.limited {
            return None;
        }
        // SAFETY: null, or a buffer in the list.
        if let Some(first) = unsafe { self.empty.as_mut() } {
            self.empty = first.next;
            return Some(first);
        }
        let regions = &mut self.regions[..self.region_count];
        let (at, left) = regions
            .iter_mut()
            .find(|(_, left)| *left >= size_of::<Buffer>())?;
        let buffer = at.cast::<Buffer>();
        *at = at.wrapping_add(size_of::<Buffer>());
        *left -= size_of::<Buffer>();
        // Mapped memory is zeros, and so is an empty buffer.
        Some(buffer)
    }
}

const _: () = assert!(size_of::<Buffer>() == 4096);

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn work_is_packed_in_a_word() {
        for start in [8, 0x01d3_0000_0000, 0x7fff_ffff_fff8] {
            for words in [1, 2, 16384] {
                let work = Work::words(start, words);
                assert_eq!((work.start(), work.len()), (start, words));
            }
            assert_eq!(Work::rest_of_span(start).start(), start);
            assert_eq!(Work::rest_of_span(start).len(), 0);
        }
    }

    /// Items are numbers of leaves to be counted; a thread splits what it gets.
    #[test]
    fn all_work_is_done_once_and_the_phase_ends() {
        for round in 0..300u64 {
            let pool = Pool::new(Guarded::new(State::new()), Word::new());
            pool.reserve(16 << 20, false);
            let counted = AtomicU64::new(0);
            let work = |pool: &Pool| {
                let mut stack = Vec::new();
                loop {
                    while let Some(n) = stack.pop() {
                        if n == 1usize {
                            counted.fetch_add(1, Relaxed);
                            continue;
                        }
                        stack.extend([n / 2, n - n / 2]);
                        if pool.is_hungry() {
                            let Some(buffer) = pool.empty() else { continue };
                            buffer.len = 1;
                            buffer.items[0] = Work::words(8, stack.remove(0));
                            pool.put(buffer);
                        }
                    }
                    let Some(buffer) = pool.get() else { break };
                    stack.extend(buffer.items[..buffer.len].iter().map(|w| w.len()));
                    pool.recycle(buffer);
                }
            };
            let phase = pool.begin();
            std::thread::scope(|scope| {
                for _ in 0..round % 4 {
                    scope.spawn(|| {
                        if pool.join(phase) {
                            work(&pool);
                            pool.leave();
                        }
                    });
                }
                let buffer = pool.empty().unwrap();
                buffer.len = 2;
                buffer.items[..2].fill(Work::words(8, 1000));
                pool.put(buffer);
                work(&pool);
                pool.finish();
                assert_eq!(counted.load(Relaxed), 2000);
            });
            assert!(!pool.join(phase));
        }
    }

    #[test]
    fn buffers_are_as_many_as_were_reserved() {
        let pool = Pool::new(Guarded::new(State::new()), Word::new());
        assert!(pool.empty().is_none());
        pool.reserve(64 << 20, false);
        let mut taken = 0;
        while let Some(buffer) = pool.empty() {
            assert_eq!(buffer.len, 0);
            taken += 1;
        }
        // A 64th and a byte, rounded up to a doubling.
        assert_eq!(taken, (2 << 20) / size_of::<Buffer>());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicUsize as Counter;

    /// Works until the phase is done; an item of two gives one away.
    fn work(pool: &Pool, counted: &Counter) {
        while let Some(buffer) = pool.get() {
            for item in &buffer.items[..buffer.len] {
                for _ in 1..item.len() {
                    put(pool, 1);
                }
                counted.fetch_add(1, Relaxed);
            }
        }
    }

    fn put(pool: &Pool, item: usize) {
        let buffer = Buffer {
            next: ptr::null_mut(),
            len: 1,
            items: [Work::words(8, item); ITEMS],
        };
        pool.put(Box::leak(Box::new(buffer)));
    }

    /// However late helpers come and whoever sleeps: all work is done when the phase is, and everyone learns of it.
    fn check(helpers: usize, items: &'static [usize]) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(move || {
            let pool = Arc::new(Pool::new(Guarded::new(State::new()), Word::new()));
            let counted = Arc::new(Counter::new(0));
            let phase = pool.begin();
            let threads: Vec<_> = (0..helpers)
                .map(|_| {
                    let (pool, counted) = (pool.clone(), counted.clone());
                    loom::thread::spawn(move || {
                        if pool.join(phase) {
                            work(&pool, &counted);
                            pool.leave();
                        }
                    })
                })
                .collect();
            items.iter().for_each(|item| put(&pool, *item));
            work(&pool, &counted);
            pool.finish();
            assert_eq!(counted.load(Relaxed), items.iter().sum::<usize>());
            threads.into_iter().for_each(|t| t.join().unwrap());
        });
    }

    #[test]
    fn one_helper_and_work_that_splits() {
        check(1, &[2, 1]);
    }

    #[test]
    fn two_helpers_and_no_work_or_little() {
        check(2, &[]);
        check(2, &[2]);
    }
}
