//! Timers: a heap per P, run by whoever has the P, or by an idle M that finds them due.
//!
//! A timer is a node that its owner keeps at one address while it is armed. The heap gives it a number, by which it knows its
//! place, so that stopping one is a sift, not a search, and leaves nothing behind. The places are kept in a table and not in
//! the nodes: those lie on a hundred thousand sleepers' stacks, and a sift would fetch a cold line of each that it moves.
//!
//! # Invariants
//!
//! 1. A node is in the heap `home`, with `number`, exactly while `number` is not `NONE`. Both change under that heap's lock.
//! 2. Callbacks run under the lock of the heap the timer was in. So when `stop` has had the lock, the callback is over or
//!    will not come: its owner may free the node.
//! 3. A node moves from heap to heap (`move_all`) with the world stopped, under both locks, the lower-numbered P's first.
//!
//! # Memory ordering
//!
//! `next_when: store SeqCst` ⇄ `keep_timers: load SeqCst` (in `proc`): an M about to sleep sees the timer, or `start` sees how
//! long that M sleeps.
//!
//! # Blocking
//!
//! `start` and `stop` take the heap's lock, for O(log n). Lock order: heap, then channel: so neither may be called with a
//! channel's lock held. Callbacks run on g0, must not park, and must not start or stop timers.
//!
//! # References
//!
//! A 4-ary heap as in Go's `runtime/time.go`; unlike there a stopped timer leaves the heap at once, since a node lives in
//! its owner's memory and nothing would collect a zombie.

use crate::rt::Rt;
use crate::sched::{Wake, sched};
use crate::sys::Lock;
use crate::{clock, sys};
use std::cell::{Cell, UnsafeCell};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// What a timer does when it fires; `seq` is what [`Timer::start`] was given.
///
/// It runs in the scheduler, under the lock of a timer heap. It may make goroutines ready, take channel
/// [`Lock`](crate::Lock)s and spawn; it must not park, nor start or stop timers.
pub type TimerFn = unsafe fn(rt: &Rt, arg: *mut (), seq: usize);

const NONE: u32 = u32::MAX;
const ARITY: usize = 4;
/// Deadlines nearer than this are worth waking an idle M for at once; sysmon looks after the others in time.
const NEAR_NS: u64 = 20_000_000;

/// A timer, at one address while it is armed.
pub struct Timer {
    f: TimerFn,
    arg: *mut (),
    home: AtomicPtr<Heap>,
    number: Cell<u32>,
    when: Cell<u64>,
    period: Cell<u64>,
    seq: Cell<usize>,
}

// SAFETY: the cells are touched under the lock of the heap that the timer is or was last in (invariant 1); what `arg` stands
// for is the callback's business, which runs on any thread by contract of `Timer::new`'s caller.
unsafe impl Send for Timer {}
// SAFETY: as above.
unsafe impl Sync for Timer {}

impl std::fmt::Debug for Timer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timer").finish_non_exhaustive()
    }
}

impl Timer {
    /// A timer that is not armed.
    pub const fn new(f: TimerFn, arg: *mut ()) -> Timer {
        Timer {
            f,
            arg,
            home: AtomicPtr::new(ptr::null_mut()),
            number: Cell::new(NONE),
            when: Cell::new(0),
            period: Cell::new(0),
            seq: Cell::new(0),
        }
    }

    /// Arms the timer, or arms it anew: it fires at `when_ns` on the [`now_ns`](crate::now_ns) clock and then, unless
    /// `period_ns` is 0, every so many nanoseconds. Ticks that nobody could run in time are left out. Returns whether it was armed.
    ///
    /// # Safety
    ///
    /// The timer stays where it is until it has fired for the last time or `stop` has returned; its callback and argument are
    /// good for any thread until then. Nobody starts it from two threads at once. No channel lock is held.
    pub unsafe fn start(&self, rt: &Rt, when_ns: u64, period_ns: u64, seq: usize) -> bool {
        let was = self.stop(rt);
        crate::boot::ensure();
        let s = sched();
        // Read now: when the timer is armed, a sleeper's stack with `rt` and `self` on it may go on elsewhere.
        let m = rt.m();
        let heap = match m.and_then(|m| m.p()) {
            Some(p) => &p.timers,
            // A plain thread's timers go where some P always looks.
            None => &s.p(0).expect("there is always a P").timers,
        };
        let first = heap.locked(|nodes| {
            self.home
                .store(ptr::from_ref(heap).cast_mut(), Ordering::Release);
            self.when.set(when_ns);
            self.period.set(period_ns);
            self.seq.set(seq);
            nodes.push(self);
            nodes.first_when() == when_ns && nodes.is_first(self)
        });
        let own_p_goes_on =
            m.is_some() && (s.idle.idle() == 0 || when_ns > clock::coarse_ns() + NEAR_NS);
        if first && !own_p_goes_on && s.keeper_until.load(Ordering::SeqCst) > when_ns {
            // A spinner that finds nothing due sleeps until the first timer.
            s.wake_if_needed(Wake::ForQueue);
        }
        was
    }

    /// Disarms the timer. Returns whether it was armed. When it returns, the callback is over or will not run.
    ///
    /// No channel lock may be held.
    pub fn stop(&self, _rt: &Rt) -> bool {
        loop {
            let home = self.home.load(Ordering::Acquire);
            // SAFETY: null, or a heap in a P; Ps are never freed.
            let Some(heap) = (unsafe { home.as_ref() }) else {
                return false;
            };
            let done = heap.locked(|nodes| {
                if !ptr::eq(self.home.load(Ordering::Relaxed), home) {
                    return None;
                }
                let armed = self.number.get() != NONE;
                if armed {
                    nodes.remove(nodes.places[self.number.get() as usize] as usize);
                }
                Some(armed)
            });
            if let Some(armed) = done {
                return armed;
            }
        }
    }
}

/// The armed timers of a P.
pub(crate) struct Heap {
    next_when: AtomicU64,
    lock: Lock,
    nodes: UnsafeCell<Nodes>,
}

// SAFETY: `nodes` is touched under `lock`.
unsafe impl Sync for Heap {}
// SAFETY: as above.
unsafe impl Send for Heap {}

impl Heap {
    pub(crate) const fn new() -> Heap {
        Heap {
            next_when: AtomicU64::new(u64::MAX),
            lock: Lock::new(),
            nodes: UnsafeCell::new(Nodes::new()),
        }
    }

    /// When the first timer is due; `u64::MAX` if there is none.
    #[inline]
    pub(crate) fn next_when(&self) -> u64 {
        self.next_when.load(Ordering::SeqCst) // pairs with the store in `locked`; a plain load here
    }

    /// The lock, for `fork`.
    pub(crate) fn raw_lock(&self) -> &Lock {
        &self.lock
    }

    /// Runs `f` under the lock, then publishes when the first timer is due.
    fn locked<R>(&self, f: impl FnOnce(&mut Nodes) -> R) -> R {
        self.lock.lock();
        // SAFETY: under the lock.
        let nodes = unsafe { &mut *self.nodes.get() };
        let r = f(nodes);
        let when = nodes.first_when();
        if when != self.next_when.load(Ordering::Relaxed) {
            self.next_when.store(when, Ordering::SeqCst); // pairs with `keep_timers`
        }
        // SAFETY: taken above.
        unsafe { self.lock.unlock() };
        r
    }

    /// Runs every timer that is due at `now`, once each. `rt` is the scheduler's. Returns how many.
    pub(crate) fn run_due(&self, now: u64, rt: &Rt) -> usize {
        let mut count = 0;
        self.locked(|nodes| {
            while nodes.first_when() <= now {
                count += 1;
                // SAFETY: the first node of a heap that is not empty is armed, so its owner keeps it (invariant 1).
                let t = unsafe { &*nodes.first_node() };
                let (f, arg, seq) = (t.f, t.arg, t.seq.get());
                let period = t.period.get();
                nodes.remove(0);
                if let Some(missed) = (now - t.when.get()).checked_div(period) {
                    t.when.set(t.when.get() + period * (missed + 1));
                    nodes.push(t);
                }
                // After this a one-shot's owner may free it, as soon as it gets the lock: `t` is not used again.
                // SAFETY: armed by `start`, whose contract this is.
                unsafe { f(rt, arg, seq) };
            }
        });
        count
    }

    /// Moves all timers to `to`, with the world stopped.
    pub(crate) fn move_all(&self, to: &Heap) {
        to.locked(|target| {
            self.locked(|nodes| {
                while nodes.first_when() != u64::MAX {
                    // SAFETY: armed, so its owner keeps it.
                    let t = unsafe { &*nodes.first_node() };
                    nodes.remove(0);
                    t.home
                        .store(ptr::from_ref(to).cast_mut(), Ordering::Release);
                    target.push(t);
                }
            });
        });
    }
}

/// A place in the heap: the key beside the node's number.
#[derive(Clone, Copy)]
struct Entry {
    when: u64,
    number: u32,
    #[expect(
        dead_code,
        reason = "what would be padding: the collector looks at it, and half of an old address beside a small number looks like one"
    )]
    zero: u32,
}

/// The 4-ary heap itself. The vectors grow under the lock, and never shrink.
struct Nodes {
    heap: Vec<Entry>,
    /// By number: where the node is in `heap`. For a free number: the next free one.
    places: Vec<u32>,
    /// By number.
    nodes: Vec<*const Timer>,
    /// The first free number.
    free: u32,
}

impl Nodes {
    const fn new() -> Nodes {
        Nodes {
            heap: Vec::new(),
            places: Vec::new(),
            nodes: Vec::new(),
            free: NONE,
        }
    }

    fn first_when(&self) -> u64 {
        self.heap.first().map_or(u64::MAX, |e| e.when)
    }

    /// The node at the top of a heap that is not empty.
    fn first_node(&self) -> *const Timer {
        self.nodes[self.heap[0].number as usize]
    }

    fn is_first(&self, t: &Timer) -> bool {
        self.heap
            .first()
            .is_some_and(|e| e.number == t.number.get())
    }

    #[inline]
    fn put(&mut self, place: usize, entry: Entry) {
        self.heap[place] = entry;
        self.places[entry.number as usize] = place as u32;
    }

    /// Amortised O(log n).
    fn push(&mut self, t: &Timer) {
        let number = self.take_number(t);
        t.number.set(number);
        let entry = Entry {
            when: t.when.get(),
            number,
            zero: 0,
        };
        self.heap.push(entry);
        self.sift_up(self.heap.len() - 1, entry);
    }

    fn take_number(&mut self, t: &Timer) -> u32 {
        let number = self.free;
        if number == NONE {
            self.nodes.push(t);
            self.places.push(NONE);
            return (self.nodes.len() - 1) as u32;
        }
        self.free = self.places[number as usize];
        self.nodes[number as usize] = t;
        number
    }

    fn remove(&mut self, place: usize) {
        let gone = self.heap[place];
        let number = gone.number as usize;
        // SAFETY: every node in the heap is armed, so its owner keeps it.
        unsafe { &*self.nodes[number] }.number.set(NONE);
        self.places[number] = self.free;
        self.free = gone.number;
        let last = self.heap.pop().expect("the heap has the node");
        if place == self.heap.len() {
            return;
        }
        if last.when < gone.when {
            self.sift_up(place, last);
        } else {
            self.sift_down(place, last);
        }
    }

    fn sift_up(&mut self, mut place: usize, entry: Entry) {
        while place > 0 {
            let parent = (place - 1) / ARITY;
            if self.heap[parent].when <= entry.when {
                break;
            }
            self.put(place, self.heap[parent]);
            place = parent;
        }
        self.put(place, entry);
    }

    fn sift_down(&mut self, mut place: usize, entry: Entry) {
        loop {
            let first = place * ARITY + 1;
            let last = (first + ARITY).min(self.heap.len());
            let Some(child) = (first..last).min_by_key(|&i| self.heap[i].when) else {
                break;
            };
            if entry.when <= self.heap[child].when {
                break;
            }
            self.put(place, self.heap[child]);
            place = child;
        }
        self.put(place, entry);
    }
}

/// Parks the caller for `ns` nanoseconds, rounded up to the clock.
///
/// # Blocking
///
/// Parks the goroutine, or blocks the plain thread. No happens-before edge.
#[track_caller]
pub fn sleep_ns(ns: u64) {
    if ns == 0 {
        crate::yield_now();
        return;
    }
    sleep_until_ns(sys::now_ns().saturating_add(ns));
}

/// Parks the caller until `when_ns` on the [`now_ns`](crate::now_ns) clock.
///
/// # Blocking
///
/// As [`sleep_ns`].
#[track_caller]
pub fn sleep_until_ns(when_ns: u64) {
    struct Sleep<'a> {
        rt: &'a Rt,
        timer: &'a Timer,
        when_ns: u64,
    }
    unsafe fn wake(rt: &Rt, arg: *mut (), _seq: usize) {
        // SAFETY: `arg` is the sleeper's `GRef`, which lives on its stack until it is ready.
        let g = unsafe { *arg.cast::<crate::GRef>() };
        // SAFETY: the timer fires once, and only it wakes the sleeper.
        unsafe { rt.ready(g) };
    }
    // Armed when the sleeper is off its stack: no lock needed between the two.
    unsafe fn arm(arg: *mut ()) {
        // SAFETY: `arg` is the sleeper's `Sleep`; it cannot wake before the timer is armed, and nothing is read after.
        let sleep = unsafe { &*arg.cast::<Sleep<'_>>() };
        let (rt, timer, when_ns) = (sleep.rt, sleep.timer, sleep.when_ns);
        // SAFETY: the timer lies on the sleeper's stack until it has fired.
        unsafe { timer.start(rt, when_ns, 0, 0) };
    }
    let rt = crate::enter();
    let mut g = rt.g();
    let timer = Timer::new(wake, (&raw mut g).cast());
    let mut sleep = Sleep {
        rt: &rt,
        timer: &timer,
        when_ns,
    };
    // SAFETY: `arm` makes exactly one timer fire, which is the one `ready`.
    unsafe {
        rt.park(
            crate::WaitReason::Sleep,
            std::panic::Location::caller(),
            arm,
            (&raw mut sleep).cast(),
        )
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe fn nothing(_: &Rt, _: *mut (), _: usize) {}

    /// Random pushes and removes against a sorted list.
    #[test]
    fn the_heap_agrees_with_a_sorted_list() {
        let timers: Vec<Timer> = (0..200)
            .map(|_| Timer::new(nothing, ptr::null_mut()))
            .collect();
        let mut nodes = Nodes::new();
        let mut model: Vec<(u64, usize)> = Vec::new();
        let mut x = 0x9e37_79b9_7f4a_7c15_u64;
        for step in 0..20_000 {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            let i = (x % 200) as usize;
            let t = &timers[i];
            if t.number.get() == NONE {
                t.when.set(x >> 50);
                nodes.push(t);
                model.push((t.when.get(), i));
            } else {
                nodes.remove(nodes.places[t.number.get() as usize] as usize);
                model.retain(|&(_, j)| j != i);
            }
            let first = model
                .iter()
                .map(|&(when, _)| when)
                .min()
                .unwrap_or(u64::MAX);
            assert_eq!(nodes.first_when(), first, "step {step}");
            assert_eq!(nodes.heap.len(), model.len(), "step {step}");
        }
        let mut last = 0;
        while nodes.first_when() != u64::MAX {
            assert!(nodes.first_when() >= last);
            last = nodes.first_when();
            nodes.remove(0);
        }
        assert!(timers.iter().all(|t| t.number.get() == NONE));
    }
}
