//! What all Ps and Ms share: the idle lists, the global queue, the list of Ps, and waking.
//!
//! # Invariants
//!
//! 1. A P is in `Lists::ps` exactly when its status is Idle; the idle word counts these. Both change under `lock`.
//! 2. An M is in `Lists::ms` exactly from before it sleeps for want of a P until somebody takes it off to wake it with one.
//!    So whoever took it off owns `next_p` and `spinning` until it wakes it.
//! 3. There is one `Sched` at a time, which is never freed. A child of `fork` has another than the parent.
//! 4. `lock` is held for a few instructions, inside the runtime or on g0 only, and nothing else is taken under it.
//!
//! # Memory ordering
//!
//! See `idle` for the protocol of waking. `stopping: store SeqCst` ⇄ `load SeqCst`: an M that parks its P in the idle list
//! after the store sees it, or the stopper sees the P in the list, since both look under `lock`.

use crate::fork;
use crate::g::G;
use crate::idle::IdleWord;
use crate::m::M;
use crate::p::{FreeList, P, Queued, Status};
use crate::regions::Regions;
use crate::sys::{Lock, Mutex, MutexGuard, Note};
use crossbeam_deque::Injector;
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// The most Ps there can be.
pub const MAX_PROCS: usize = 1024;
/// The most Ms: a program that blocks more threads at once has a bug that a clear end shows better than thrashing.
const MAX_MS: usize = 10_000;
/// How long a spinner naps that found only goroutines which their P will run at once.
const NAP: Duration = Duration::from_micros(50);

/// Why somebody may have to be woken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// A goroutine became the next on a busy P, by `P::put_next`: it most likely runs there in a moment.
    ForNext,
    /// A goroutine is in a queue.
    ForQueue,
}

struct Lists {
    ps: Vec<&'static P>,
    ms: Vec<&'static M>,
}

/// See the module's head.
pub(crate) struct Sched {
    pub(crate) idle: IdleWord,
    lock: Lock,
    lists: UnsafeCell<Lists>,
    pub(crate) injector: Injector<Queued>,
    ps: [AtomicPtr<P>; MAX_PROCS],
    procs: AtomicU32,
    /// Of the thread that forks, which holds `fork`'s locks.
    noted_ps: AtomicU32,
    /// Held by whoever changes the number of Ps.
    pub(crate) stopper: Mutex<()>,
    pub(crate) stopping: AtomicBool,
    /// How many Ms there are.
    ms: AtomicU32,
    next_m: AtomicU32,
    /// Ms whose threads have ended.
    ended_ms: Mutex<Vec<&'static M>>,
    /// Ms whose threads sysmon starts.
    to_start: Mutex<Vec<&'static M>>,
    idle_ms: AtomicU32,
    /// Ms that sleep because their locked goroutine waits.
    pub(crate) locked_ms: AtomicU32,
    /// When the M that sleeps until the next timer wakes up; `u64::MAX` if none does.
    pub(crate) keeper_until: AtomicU64,
    pub(crate) next_goid: AtomicU64,
    /// Dead Gs for all.
    pub(crate) free: Mutex<FreeList>,
    /// Where Gs for goroutines are made.
    regions: Mutex<Regions>,
    /// Every M.
    pub(crate) all_ms: Mutex<Vec<&'static M>>,
    /// Goroutines spawned or ended by no P.
    pub(crate) live_elsewhere: std::sync::atomic::AtomicI64,
    inject_every: u32,
    max_ms: u32,
    pub(crate) seed: u64,
    /// That of the process, which its goroutines bear.
    pub(crate) forks: u16,
}

// SAFETY: `lists` is touched under `lock` only; the rest synchronises itself.
unsafe impl Sync for Sched {}
// SAFETY: as above.
unsafe impl Send for Sched {}

static SCHED: AtomicPtr<Sched> = AtomicPtr::new(ptr::null_mut());

/// The scheduler. `boot` has run: every way in that can come first calls `boot::ensure`. In a child of `fork` the first call
/// makes another one.
#[inline]
pub(crate) fn sched() -> &'static Sched {
    match loaded() {
        Some(s) => s,
        None => fork::revive(),
    }
}

/// The scheduler, if it has booted.
pub(crate) fn try_sched() -> Option<&'static Sched> {
    loaded().or_else(|| fork::is_asleep().then(fork::revive))
}

/// The scheduler, if it has booted, and this is no child of `fork` that has not used it yet.
#[inline]
pub(crate) fn loaded() -> Option<&'static Sched> {
    // Acquire: pairs with the store in `publish`.
    // SAFETY: null, or stored by `publish`, and never freed.
    unsafe { SCHED.load(Ordering::Acquire).as_ref() }
}

/// Whether a thread that the caller starts is as one should be. A new thread inherits the signal mask, the CPUs, the namespaces and
/// more of its creator: not from a goroutine that has locked its thread, most likely to change these, nor from a thread of the
/// program's.
fn starts_threads() -> bool {
    // SAFETY: null or this thread's M; Ms are never freed.
    unsafe { crate::rt::this_m().as_ref() }
        .is_some_and(|m| m.locked_g.get().is_null() && !m.is_over.get())
}

/// Makes it the scheduler of the process.
pub(crate) fn publish(s: &'static Sched) {
    SCHED.store(ptr::from_ref(s).cast_mut(), Ordering::Release);
}

/// Takes the scheduler away, in a child of `fork`.
pub(crate) fn take() -> Option<&'static Sched> {
    // SAFETY: as in `loaded`.
    unsafe { SCHED.swap(ptr::null_mut(), Ordering::Relaxed).as_ref() }
}

impl Sched {
    pub(crate) fn install(inject_every: u32, seed: u64, max_ms: usize) -> &'static Sched {
        let max_ms = match max_ms {
            0 => MAX_MS as u32,
            n => n.min(MAX_MS) as u32,
        };
        let s = Box::leak(Box::new(Sched::new(inject_every, seed, max_ms)));
        publish(s);
        s
    }

    /// The scheduler of a child of `fork`, before it has Ps: `survivor` is the M that forked, if it was one.
    pub(crate) fn after(old: &Sched, survivor: Option<&'static M>) -> &'static Sched {
        let s = Sched::new(old.inject_every, old.seed, old.max_ms);
        // The Gs of before are where what they keep alive is found.
        std::mem::swap(&mut *s.regions.lock(), &mut *old.regions.lock());
        let next_goid = old.next_goid.load(Ordering::Relaxed);
        s.next_goid.store(next_goid, Ordering::Relaxed);
        // Blocks of goroutines name threads by these numbers.
        let next_m = old.next_m.load(Ordering::Relaxed);
        s.next_m.store(next_m, Ordering::Relaxed);
        if let Some(m) = survivor {
            s.all_ms.lock().push(m);
            s.ms.store(1, Ordering::Relaxed);
            // Its goroutine.
            s.live_elsewhere.store(1, Ordering::Relaxed);
        }
        Box::leak(Box::new(s))
    }

    fn new(inject_every: u32, seed: u64, max_ms: u32) -> Sched {
        Sched {
            idle: IdleWord::new(),
            lock: Lock::new(),
            // Full capacity: pushing under the lock allocates nothing.
            lists: UnsafeCell::new(Lists {
                ps: Vec::with_capacity(MAX_PROCS),
                ms: Vec::with_capacity(MAX_MS),
            }),
            injector: Injector::new(),
            ps: [const { AtomicPtr::new(ptr::null_mut()) }; MAX_PROCS],
            procs: AtomicU32::new(0),
            noted_ps: AtomicU32::new(0),
            stopper: Mutex::new(()),
            stopping: AtomicBool::new(false),
            ms: AtomicU32::new(0),
            next_m: AtomicU32::new(1),
            ended_ms: Mutex::new(Vec::new()),
            to_start: Mutex::new(Vec::new()),
            idle_ms: AtomicU32::new(0),
            locked_ms: AtomicU32::new(0),
            keeper_until: AtomicU64::new(u64::MAX),
            next_goid: AtomicU64::new(1),
            free: Mutex::new(FreeList::new()),
            regions: Mutex::new(Regions::new()),
            all_ms: Mutex::new(Vec::new()),
            live_elsewhere: std::sync::atomic::AtomicI64::new(0),
            inject_every,
            max_ms,
            seed,
            forks: fork::forks() as u16,
        }
    }

    fn with_lists<R>(&self, f: impl FnOnce(&mut Lists) -> R) -> R {
        self.lock.lock();
        // SAFETY: under `lock`.
        let r = f(unsafe { &mut *self.lists.get() });
        // SAFETY: taken above.
        unsafe { self.lock.unlock() };
        r
    }

    /// A yield is injected at one in so many ways out of the runtime.
    pub(crate) fn inject_every(&self) -> u32 {
        self.inject_every
    }

    /// Whether yields are injected.
    pub(crate) fn injects(&self) -> bool {
        self.inject_every != 0
    }

    /// The Ps that take part now.
    pub(crate) fn procs(&self) -> usize {
        self.procs.load(Ordering::Relaxed) as usize
    }

    pub(crate) fn set_procs_count(&self, n: usize) {
        self.procs.store(n as u32, Ordering::Release);
    }

    /// P number `i`, which exists once there were more than `i`.
    pub(crate) fn p(&self, i: usize) -> Option<&'static P> {
        // SAFETY: null or a P that `set_p` stored; Ps are never freed.
        unsafe { self.ps[i].load(Ordering::Acquire).as_ref() }
    }

    pub(crate) fn set_p(&self, i: usize, p: &'static P) {
        self.ps[i].store(ptr::from_ref(p).cast_mut(), Ordering::Release);
    }

    /// The Ps that take part now.
    pub(crate) fn each_p(&self) -> impl Iterator<Item = &'static P> {
        (0..self.procs()).filter_map(|i| self.p(i))
    }

    /// Queues a G for all.
    pub(crate) fn inject(&self, g: &'static G) {
        self.injector.push(Queued(g));
        self.wake_if_needed(Wake::ForQueue);
    }

    /// Wakes one M as a spinner if a P is idle and nobody spins.
    #[inline]
    pub(crate) fn wake_if_needed(&self, wake: Wake) {
        match wake {
            Wake::ForNext => {
                if self.idle.needs_wake_after_seqcst() {
                    self.wake_one();
                }
            }
            Wake::ForQueue => {
                if self.idle.needs_wake() {
                    self.wake_one();
                }
            }
        }
    }

    #[cold]
    pub(crate) fn wake_one(&self) {
        while self.idle.try_start_spin() {
            if let Some(p) = self.take_idle_p() {
                self.start_m(p, true);
                return;
            }
            // Others relied on the spinner that there will not be: look for them.
            self.idle.stop_spin();
            if !self.any_work() {
                return;
            }
        }
    }

    /// A spinner found only `runnext`s. Their Ps most likely run these in a moment; a thief now would tear apart two
    /// goroutines that hand a value to and fro. It naps as long as a handful of switches take, and comes back. It stays
    /// counted as a spinner: what is queued meanwhile waits at most that long, and is then taken by the half queue at once.
    pub(crate) fn nap(&self, m: &'static M, round: u32) {
        m.note.sleep(Some(NAP * (1 + round.min(1))));
    }

    /// Takes a P off the idle list; it is Running then.
    pub(crate) fn take_idle_p(&self) -> Option<&'static P> {
        let p = self.with_lists(|l| {
            if self.stopping.load(Ordering::SeqCst) {
                return None;
            }
            let p = l.ps.pop()?;
            self.idle.take_p();
            Some(p)
        })?;
        p.set_status(Status::Running);
        crate::sysmon::wake_if_asleep();
        Some(p)
    }

    /// All idle Ps, for the stopper of the world: they are Stopped then.
    pub(crate) fn take_all_idle_ps(&self) -> usize {
        self.with_lists(|l| {
            let n = l.ps.len();
            for p in l.ps.drain(..) {
                self.idle.take_p();
                p.set_status(Status::Stopped);
            }
            n
        })
    }

    /// Puts a P on the idle list, unless there is reason not to: the world is being stopped, or the global queue has work.
    pub(crate) fn give_up_p(&self, p: &'static P, look: bool) -> bool {
        self.with_lists(|l| {
            if look && (self.stopping.load(Ordering::SeqCst) || !self.injector.is_empty()) {
                return false;
            }
            p.set_status(Status::Idle);
            l.ps.push(p);
            self.idle.give_up_p();
            true
        })
    }

    /// Gives `m`, the caller's, a P that is Running and nobody's.
    pub(crate) fn attach(&self, m: &M, p: &'static P) {
        debug_assert_eq!(p.status(), Status::Running);
        m.set_p(Some(p));
    }

    /// Puts a Running P to work on an idle M, or a new one.
    pub(crate) fn start_m(&self, p: &'static P, spinning: bool) {
        let m = self.with_lists(|l| {
            let m = l.ms.pop()?;
            self.idle_ms.fetch_sub(1, Ordering::SeqCst);
            Some(m)
        });
        match m {
            Some(m) => {
                m.spinning.set(spinning);
                m.next_p
                    .store(ptr::from_ref(p).cast_mut(), Ordering::Release);
                // SAFETY: Ms are never freed.
                unsafe { Note::wake(&raw const m.note) };
            }
            None => self.new_m_on_big_stack(p, spinning),
        }
    }

    /// The caller may be a goroutine with little stack, and the heap and `pthread_create` need some.
    #[cold]
    fn new_m_on_big_stack(&self, p: &'static P, spinning: bool) {
        type Call<'a> = (&'a Sched, &'static P, bool);
        unsafe fn call(call: *mut ()) {
            // SAFETY: what is passed below.
            let (s, p, spinning) = unsafe { *call.cast::<Call<'_>>() };
            s.new_m(p, spinning);
        }
        let mut arguments: Call<'_> = (self, p, spinning);
        // SAFETY: it neither parks nor unwinds.
        unsafe { crate::on_big_stack(call, (&raw mut arguments).cast()) };
    }

    fn new_m(&self, p: &'static P, spinning: bool) {
        if self.ms.fetch_add(1, Ordering::SeqCst) >= self.max_ms {
            let max = self.max_ms;
            crate::throw(&format!(
                "more than {max} OS threads: too many goroutines block their threads, or have locked them, at once"
            ));
        }
        let ended = self.ended_ms.lock().pop();
        let m: &'static M = ended.unwrap_or_else(|| Box::leak(Box::new(M::new())));
        m.renew(self.next_m.fetch_add(1, Ordering::Relaxed));
        m.spinning.set(spinning);
        m.next_p
            .store(ptr::from_ref(p).cast_mut(), Ordering::Release);
        if self.injects() {
            m.attention.store(crate::m::ATTN_INJECT, Ordering::Relaxed);
        }
        self.all_ms.lock().push(m);
        if !starts_threads() && crate::sysmon::is_running() {
            self.to_start.lock().push(m);
            crate::sysmon::poke();
        } else {
            crate::sys::thread::start_m(m);
        }
    }

    /// Starts what others left to sysmon.
    pub(crate) fn start_left_ms(&self) {
        let left = std::mem::take(&mut *self.to_start.lock());
        left.into_iter().for_each(crate::sys::thread::start_m);
    }

    /// The thread of `m`, which is the caller, ends.
    pub(crate) fn keep_ended_m(&self, m: &'static M) {
        self.all_ms.lock().retain(|other| !ptr::eq(*other, m));
        self.ms.fetch_sub(1, Ordering::SeqCst);
        self.ended_ms.lock().push(m);
    }

    /// The M sleeps until somebody wakes it with a P, or until `deadline`, if given: then it comes back without one.
    pub(crate) fn stop_m(&self, m: &'static M, deadline: Option<u64>) {
        debug_assert!(m.p().is_none());
        self.with_lists(|l| {
            l.ms.push(m);
            self.idle_ms.fetch_add(1, Ordering::SeqCst);
        });
        loop {
            let timeout =
                deadline.map(|d| Duration::from_nanos(d.saturating_sub(crate::clock::read_ns())));
            m.note.sleep(timeout);
            // SAFETY: null or a P; Ps are never freed.
            if let Some(p) = unsafe { m.next_p.swap(ptr::null_mut(), Ordering::Acquire).as_ref() } {
                self.attach(m, p);
                return;
            }
            let late = deadline.is_some_and(|d| crate::clock::read_ns() >= d);
            if late && self.leave_idle_ms(m) {
                return;
            }
        }
    }

    /// Takes itself off the idle Ms. False: somebody else did, and a wake-up with a P is on its way.
    fn leave_idle_ms(&self, m: &'static M) -> bool {
        self.with_lists(|l| {
            let Some(i) = l.ms.iter().rposition(|other| ptr::eq(*other, m)) else {
                return false;
            };
            l.ms.remove(i);
            self.idle_ms.fetch_sub(1, Ordering::SeqCst);
            true
        })
    }

    /// Finds somebody for a P that its M left: an M if there is work or nobody looks for it, else the idle list.
    pub(crate) fn hand_off(&self, p: &'static P) {
        debug_assert_eq!(p.status(), Status::Running);
        if self.stopping.load(Ordering::SeqCst) {
            crate::resize::stopped(p);
            return;
        }
        if p.has_work() || !self.injector.is_empty() {
            self.start_m(p, false);
            return;
        }
        // The last busy P must be looked after by a spinner, and so must timers: someone has to sleep until they are due.
        let lonely = self.idle.spinning() == 0 && self.idle.idle() == 0;
        if lonely || p.timers.next_when() != u64::MAX {
            self.idle.start_spin();
            self.start_m(p, true);
            return;
        }
        if !self.give_up_p(p, true) {
            self.hand_off(p);
        } else if self.idle.needs_wake() && self.any_work() {
            self.wake_one();
        }
    }

    /// Whether any queue has work: the second look of a spinner that stops.
    pub(crate) fn any_work(&self) -> bool {
        !self.injector.is_empty() || self.each_p().any(P::has_work)
    }

    /// Whether anything would happen if the goroutine on `p` gave its turn up.
    #[inline]
    pub(crate) fn wants_turn(&self, p: &P) -> bool {
        p.has_work()
            || !self.injector.is_empty()
            || p.timers.next_when() != u64::MAX
            || self.stopping.load(Ordering::Relaxed)
    }

    /// When the next timer of any P is due; `u64::MAX` if there is none.
    pub(crate) fn next_timer(&self) -> u64 {
        self.each_p()
            .map(|p| p.timers.next_when())
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Whether every M sleeps.
    pub(crate) fn all_ms_sleep(&self) -> bool {
        let asleep = self.idle_ms.load(Ordering::SeqCst) + self.locked_ms.load(Ordering::SeqCst);
        asleep == self.ms.load(Ordering::SeqCst)
    }

    /// Notes how many Ps there are, for `fork`: others may be made while a thread forks.
    pub(crate) fn note_ps(&self) -> usize {
        let n = (0..MAX_PROCS).take_while(|i| self.p(*i).is_some()).count();
        self.noted_ps.store(n as u32, Ordering::Relaxed);
        n
    }

    /// What [`Self::note_ps`] noted last.
    pub(crate) fn noted_ps(&self) -> usize {
        self.noted_ps.load(Ordering::Relaxed) as usize
    }

    /// The lock of [`Self::regions`], for `fork`.
    pub(crate) fn regions_lock(&self) -> &Lock {
        self.regions.raw()
    }

    /// Where Gs lie, kept as it is.
    pub(crate) fn regions(&self) -> MutexGuard<'_, Regions> {
        self.regions.lock()
    }

    /// Makes `n` Gs.
    #[cold]
    pub(crate) fn new_gs(&self, n: usize) -> FreeList {
        let mut regions = self.regions.lock();
        let mut list = FreeList::new();
        for _ in 0..n {
            list.push(regions.make());
        }
        list
    }

    /// Every goroutine alive, as of a moment during the call.
    pub(crate) fn all_gs(&self) -> Vec<&'static G> {
        let regions = self.regions.lock();
        regions
            .all()
            .filter(|g| g.state() != crate::g::State::Idle && g.forks.get() == self.forks)
            .collect()
    }

    /// The number of Ms.
    pub(crate) fn ms(&self) -> u32 {
        self.ms.load(Ordering::SeqCst)
    }
}
