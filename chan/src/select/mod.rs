//! Waiting for several channel operations at once: the selection itself, for [`Select`](crate::Select) and the macros.
//!
//! # States of a selection
//!
//! 1. *Look*: each case is tried by itself, in random order, most of them without taking a lock. If biased, only the first: of a
//!    later one it must be known that no earlier one is possible at the same moment.
//! 2. *Snapshot*: all channels are locked, in address order, and every case is tried again. What finds nothing here has found nothing
//!    at one moment, as in Go; a select with a default that ends here is linearizable.
//! 3. *Wait*: with the locks still held a waiter is linked for every case, and the goroutine parks. Who wins its claim has chosen the
//!    case. Woken, it unlinks the rest.
//!
//! # Invariants
//!
//! 1. Locks are taken in address order, each once, whatever duplicates there are; a channel without queues is not locked.
//! 2. A chosen receive has its element in the stash. A chosen send has a [`Grant`]: a place, or a parked receiver, that nobody
//!    else can take; its value is evaluated only now, and completes it without waiting. So nothing is lost between selection and
//!    completion, and a send that is not chosen has no value that would have to be given back.
//! 3. An operation that is dropped uncompleted (the value's expression panicked, or was left by
//!    `?`) gives its grant back, or drops its element, if it may (`dynamic`).
//! 4. A parked select's frame outlives its unlocking: whichever waker comes, the goroutine takes the lock of every case but the
//!    winner's before it returns, and the winner could only win with that lock free.
//!
//! # Blocking
//!
//! Parks. Allocates only in `Select` (its list of cases) and for received elements above 64 bytes.
//!
//! # Why not
//!
//! Evaluating the values of sends before selecting, as Go does: a value would move into every `select!` that names it, and programs
//! written for crossbeam-channel would not compile.

mod dynamic;
mod macros;
mod operation;
mod stash;

pub use dynamic::Select;
pub use operation::SelectedOperation;

use crate::alarm::Alarm;
use crate::core::{Chan, Grant, Op, Polled};
use crate::receiver::Receiver;
use crate::rng;
use crate::sender::Sender;
use crate::waiter::{CLAIM, OBSERVE, Outcome, PROMISE, Waiter};
use raddle_sched::{GRef, Rt, WaitReason, enter, now_ns};
use stash::Stash;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::panic::Location;
use std::{ptr, slice};

/// One operation among those of a select.
#[derive(Debug)]
pub(crate) struct Case<'a> {
    chan: *const Chan,
    op: Op,
    waiter: MaybeUninit<Waiter>,
    _handle: PhantomData<&'a ()>,
}

impl<'a> Case<'a> {
    fn new(chan: &'a Chan, op: Op) -> Self {
        Self {
            chan,
            op,
            waiter: MaybeUninit::uninit(),
            _handle: PhantomData,
        }
    }

    #[inline]
    fn chan(&self) -> &'a Chan {
        // SAFETY: the handle that the case was made of is borrowed for `'a` and keeps the channel alive.
        unsafe { &*self.chan }
    }

    /// The waiter of this case.
    ///
    /// # Safety
    ///
    /// The case has been linked during this selection.
    unsafe fn waiter(&self) -> &Waiter {
        // SAFETY: written when it was linked.
        unsafe { self.waiter.assume_init_ref() }
    }
}

/// What was chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Token {
    /// A receive, whose element is in the stash.
    Received,
    /// A receive, from a closed channel.
    RecvClosed,
    /// A send.
    Granted(Grant),
    /// Any, by an observer.
    Ready,
    /// Nothing is left to do.
    Complete,
}

/// How long a selection may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    Now,
    At(u64),
    Never,
}

impl Limit {
    fn is_over(self) -> bool {
        match self {
            Limit::Now => true,
            Limit::At(ns) => now_ns() >= ns,
            Limit::Never => false,
        }
    }
}

/// A selection under way.
struct Selection<'s, 'a> {
    cases: &'s mut [Case<'a>],
    /// The order in which cases are tried.
    tries: &'s mut [u32],
    /// So many of them are looked at by themselves.
    looks: usize,
    /// The order in which channels are locked; the first `lockable` are those with queues.
    locks: &'s mut [u32],
    lockable: usize,
    stash: &'s mut Stash,
    observe: bool,
    at: &'static Location<'static>,
}

/// What a round of trying came to.
enum Round {
    Chosen(usize, Token),
    /// Nothing is ready.
    Nothing,
    /// Something has changed: start again.
    Again,
}

/// Chooses a case: its index and what it got. None: the limit is over.
///
/// `orders` are two arrays of as many elements as `cases`.
#[inline(never)]
fn choose(
    cases: &mut [Case<'_>],
    orders: [&mut [u32]; 2],
    stash: &mut Stash,
    (biased, observe): (bool, bool),
    limit: Limit,
    at: &'static Location<'static>,
) -> Option<(usize, Token)> {
    let [tries, locks] = orders;
    for (i, order) in tries.iter_mut().enumerate() {
        *order = i as u32;
    }
    if !biased {
        rng::shuffle(tries);
    }
    let rt = enter();
    let mut selection = Selection {
        looks: if biased {
            cases.len().min(1)
        } else {
            cases.len()
        },
        cases,
        tries,
        locks,
        lockable: usize::MAX,
        stash,
        observe,
        at,
    };
    loop {
        match selection.look(&rt) {
            Round::Chosen(i, token) => return Some((i, token)),
            Round::Again => continue,
            Round::Nothing => {}
        }
        let over = limit.is_over();
        if over && selection.cases.len() < 2 {
            return None;
        }
        selection.prepare();
        let round = if over {
            selection.snapshot(&rt, None, false)
        } else {
            match selection.alarm_ns(limit) {
                Some(when_ns) => Alarm::with(&rt, when_ns, |alarm| {
                    selection.snapshot(&rt, Some(alarm), true)
                }),
                None => {
                    // SAFETY: the caller's own; `unlink` and `Alarm::with` left no waker of an earlier wait.
                    unsafe { rt.g().claim_reset() };
                    selection.snapshot(&rt, None, true)
                }
            }
        };
        match round {
            Round::Chosen(i, token) => return Some((i, token)),
            Round::Nothing => return None,
            Round::Again => {}
        }
    }
}

impl Selection<'_, '_> {
    /// State 1: tries cases one by one.
    fn look(&mut self, rt: &Rt) -> Round {
        for k in 0..self.looks {
            let i = self.tries[k] as usize;
            let (chan, op) = (self.cases[i].chan(), self.cases[i].op);
            let would_wait = match op {
                Op::Send => chan.send_would_wait(),
                Op::Recv => chan.recv_would_wait(),
            };
            if would_wait {
                continue;
            }
            self.stash.reserve(chan.elem());
            chan.lock();
            // SAFETY: locked.
            match unsafe { self.attempt(rt, i) } {
                // SAFETY: locked.
                Attempt::Nothing => unsafe { chan.unlock() },
                Attempt::Chosen(token, g) => {
                    // SAFETY: locked; `g` was taken off its list.
                    unsafe { chan.unlock_and_ready(rt, g) };
                    return Round::Chosen(i, token);
                }
                // SAFETY: locked, and unlocked by the call.
                Attempt::Promise(w) => return unsafe { self.meet(rt, i, w) },
            }
        }
        Round::Nothing
    }

    /// Tries one case.
    ///
    /// # Safety
    ///
    /// Its channel is locked.
    unsafe fn attempt<'w>(&mut self, rt: &Rt, i: usize) -> Attempt<'w> {
        let (chan, op) = (self.cases[i].chan(), self.cases[i].op);
        if self.observe {
            // SAFETY: locked by the caller.
            return if unsafe { chan.is_ready(op) } {
                Attempt::Chosen(Token::Ready, None)
            } else {
                Attempt::Nothing
            };
        }
        match op {
            // SAFETY: locked by the caller; the operation completes the grant, or gives it back.
            Op::Send => match unsafe { chan.poll_grant() } {
                Some(grant) => Attempt::Chosen(Token::Granted(grant), None),
                None => Attempt::Nothing,
            },
            Op::Recv => {
                let dst = self.stash.slot(chan.elem());
                // SAFETY: locked by the caller; the stash has room for the element, and is empty.
                match unsafe { chan.poll_recv(rt, dst) } {
                    Polled::Done(g) => Attempt::Chosen(Token::Received, g),
                    Polled::Closed => Attempt::Chosen(Token::RecvClosed, None),
                    Polled::Promise(w) => Attempt::Promise(w),
                    Polled::Wait | Polled::NeedBlock => Attempt::Nothing,
                }
            }
        }
    }

    /// Waits for the value of a promising sender that this receive has chosen.
    ///
    /// # Safety
    ///
    /// The case's channel is locked; it is unlocked.
    unsafe fn meet(&mut self, rt: &Rt, i: usize, promise: &Waiter) -> Round {
        let chan = self.cases[i].chan();
        let dst = self.stash.slot(chan.elem());
        // SAFETY: locked by the caller; the stash has room, and stays in place.
        if unsafe { chan.await_promise(rt, promise, dst, self.at) } {
            Round::Chosen(i, Token::Received)
        } else {
            Round::Again
        }
    }

    /// Before the first snapshot: finds the lock order, and makes room for whatever may be received.
    fn prepare(&mut self) {
        if self.lockable != usize::MAX {
            return;
        }
        let mut n = 0;
        for (i, case) in self.cases.iter().enumerate() {
            if case.op == Op::Recv {
                self.stash.reserve(case.chan().elem());
            }
            if case.chan().has_queues() {
                self.locks[n] = i as u32;
                n += 1;
            }
        }
        let cases = &*self.cases;
        self.locks[..n].sort_unstable_by_key(|&i| cases[i as usize].chan.addr());
        self.lockable = n;
    }

    /// When to wake up at the latest: at the limit, or at a clock's next message.
    fn alarm_ns(&self, limit: Limit) -> Option<u64> {
        let limit = match limit {
            Limit::At(ns) => Some(ns),
            Limit::Now | Limit::Never => None,
        };
        let clocks = self
            .cases
            .iter()
            .filter_map(|case| case.chan().clock()?.next_ns());
        clocks.chain(limit).min()
    }

    /// Calls `f` once for each channel to lock, in lock order.
    fn each_channel(&self, mut f: impl FnMut(&Chan)) {
        let mut last = ptr::null();
        for &i in &self.locks[..self.lockable] {
            let chan = self.cases[i as usize].chan;
            if chan != last {
                last = chan;
                f(self.cases[i as usize].chan());
            }
        }
    }

    fn unlock_all_but(&self, keep: *const Chan) {
        self.each_channel(|chan| {
            if !ptr::eq(chan, keep) {
                // SAFETY: `snapshot` has locked it.
                unsafe { chan.unlock() }
            }
        });
    }

    /// States 2 and 3: tries all cases at one moment; if nothing is ready and `wait` is given, parks until something is.
    fn snapshot(&mut self, rt: &Rt, alarm: Option<&Alarm>, wait: bool) -> Round {
        self.each_channel(|chan| chan.lock());
        for k in 0..self.tries.len() {
            let i = self.tries[k] as usize;
            let chan = self.cases[i].chan();
            // SAFETY: locked above, or a channel without queues, which needs no lock.
            match unsafe { self.attempt(rt, i) } {
                Attempt::Nothing => {}
                Attempt::Chosen(token, g) => {
                    self.unlock_all_but(ptr::null());
                    if let Some(g) = g {
                        // SAFETY: taken off its list.
                        unsafe { rt.ready(g) }
                    }
                    return Round::Chosen(i, token);
                }
                Attempt::Promise(w) => {
                    self.unlock_all_but(chan);
                    // SAFETY: still locked, and unlocked by the call.
                    return unsafe { self.meet(rt, i, w) };
                }
            }
        }
        if !wait {
            self.unlock_all_but(ptr::null());
            return Round::Nothing;
        }
        if let Some(alarm) = alarm
            && !alarm.arm()
        {
            self.unlock_all_but(ptr::null());
            return Round::Again;
        }
        self.link(rt);
        let locked = Locked {
            selection: ptr::from_ref(&*self).cast(),
            alarm: alarm.map_or(ptr::null(), ptr::from_ref),
        };
        let reason = if alarm.is_none() && self.lockable == 0 {
            WaitReason::Forever
        } else {
            WaitReason::Select
        };
        // SAFETY: the locks are ours to release, from any stack.
        unsafe {
            rt.park(
                reason,
                self.at,
                unlock_all,
                ptr::from_ref(&locked).cast_mut().cast(),
            )
        };
        self.unlink()
    }

    /// Links a waiter for every case. All channels are locked.
    ///
    /// In the order of trying: of several cases on one channel the waker meets the one that was
    /// linked first, so this is what makes the choice among them fair, or biased, once the select
    /// has waited.
    fn link(&mut self, rt: &Rt) {
        for k in 0..self.tries.len() {
            let i = self.tries[k] as usize;
            let (chan, op) = (self.cases[i].chan(), self.cases[i].op);
            if !chan.has_queues() {
                continue;
            }
            let (slot, mode) = match op {
                _ if self.observe => (ptr::null_mut(), CLAIM | OBSERVE),
                Op::Send => (ptr::null_mut(), CLAIM | PROMISE),
                Op::Recv => (self.stash.slot(chan.elem()), CLAIM),
            };
            let waiter = self.cases[i].waiter.write(Waiter::new(rt.g(), slot, mode));
            // SAFETY: locked; unlinked by `unlink`, under the lock, unless taken off before.
            unsafe { chan.queue(op).push(waiter) };
            if !self.observe {
                // SAFETY: locked.
                unsafe { chan.notify_opposite(rt, op) };
            }
        }
    }

    /// Woken: takes what is still linked out of the queues, and finds what was chosen.
    fn unlink(&self) -> Round {
        let mut round = Round::Again;
        for (i, case) in self.cases.iter().enumerate() {
            let chan = case.chan();
            if !chan.has_queues() {
                continue;
            }
            // SAFETY: linked by `link`.
            let w = unsafe { case.waiter() };
            // Only the winner of the claim has written an outcome, and that was before it woke us.
            let token = match (w.outcome(), case.op) {
                (Outcome::Waiting, _) => {
                    chan.lock();
                    // SAFETY: locked; linked here or not at all.
                    unsafe { chan.queue(case.op).remove(w) };
                    // SAFETY: locked.
                    unsafe { chan.unlock() };
                    continue;
                }
                (Outcome::Done, _) => Token::Received,
                (Outcome::Closed, _) if self.observe => Token::Ready,
                (Outcome::Closed, Op::Recv) => Token::RecvClosed,
                (Outcome::Closed, Op::Send) => Token::Granted(Grant::Closed),
                (Outcome::Reserved, _) => Token::Granted(Grant::Place),
                (Outcome::Peer, _) => Token::Granted(Grant::Receiver(w.slot().cast_const().cast())),
                (Outcome::Ready, _) => Token::Ready,
                (Outcome::Retry, _) => continue,
            };
            round = Round::Chosen(i, token);
        }
        round
    }
}

/// What trying one case came to, with its channel still locked.
enum Attempt<'w> {
    Nothing,
    /// Ready the goroutine after unlocking.
    Chosen(Token, Option<GRef>),
    /// A receive met a sender that has yet to make its value.
    Promise(&'w Waiter),
}

/// What a parked select leaves to be unlocked.
struct Locked<'s> {
    selection: *const Selection<'s, 's>,
    alarm: *const Alarm,
}

/// Releases the alarm and all channels of a parked select.
///
/// As soon as the alarm is released the goroutine may run again; it cannot leave before the last channel is unlocked (invariant 4),
/// so nothing of its frame is read after that, and nothing after the alarm if there is no channel.
unsafe fn unlock_all(locked: *mut ()) {
    // SAFETY: `snapshot` passed it.
    let locked = unsafe { &*locked.cast::<Locked<'_>>() };
    // SAFETY: as above; the goroutine only reads it, too, until all is unlocked.
    let selection = unsafe { &*locked.selection };
    let lockable = selection.lockable;
    // SAFETY: null, or valid until released.
    if let Some(alarm) = unsafe { locked.alarm.as_ref() } {
        // SAFETY: armed by `snapshot`.
        unsafe { alarm.release() };
    }
    if lockable == 0 {
        return;
    }
    // Each channel is unlocked when the next has been found, so that the last touch is the last unlock.
    let mut last: *const Chan = ptr::null();
    for k in 0..lockable {
        let chan = selection.cases[selection.locks[k] as usize].chan;
        if chan != last {
            // SAFETY: null, or locked by `snapshot`.
            if let Some(last) = unsafe { last.as_ref() } {
                // SAFETY: as above.
                unsafe { last.unlock() };
            }
            last = chan;
        }
    }
    // SAFETY: `lockable` is not 0, so there is one.
    if let Some(last) = unsafe { last.as_ref() } {
        // SAFETY: locked by `snapshot`.
        unsafe { last.unlock() };
    }
}

/// What the macros expand to. Not for direct use.
///
/// All this is compiled in the program's crates, where each store to memory that leaves the function is watched. So a select works in a
/// [`Frame`](internal::Frame) that the expansion makes room for and never touches: what goes in and out are values in registers.
#[doc(hidden)]
pub mod internal {
    use super::*;
    use crate::clock::timeout_ns;
    use crate::error::{RecvError, SendError};
    use raddle_race::carry;
    use std::time::Duration;

    /// A case: its channel, and in the lowest bit of the address whether it is a send.
    #[doc(hidden)]
    #[derive(Clone, Copy, Debug)]
    pub struct Pick<'a>(*const Chan, PhantomData<&'a ()>);

    const SEND: usize = 1;
    const _: () = assert!(align_of::<Chan>() > SEND);

    impl<'a> Pick<'a> {
        fn case(self) -> Case<'a> {
            let op = match self.0.addr() & SEND {
                0 => Op::Recv,
                _ => Op::Send,
            };
            let chan = self.0.map_addr(|addr| addr & !SEND);
            // SAFETY: the handle that the case was made of is borrowed for `'a`.
            Case::new(unsafe { &*chan }, op)
        }
    }

    #[doc(hidden)]
    #[inline(always)]
    pub fn recv<T>(receiver: &Receiver<T>) -> Pick<'_> {
        Pick(receiver.raw().chan(), PhantomData)
    }

    #[doc(hidden)]
    #[inline(always)]
    pub fn send<T>(sender: &Sender<T>) -> Pick<'_> {
        let chan = ptr::from_ref(sender.raw().chan());
        Pick(chan.map_addr(|addr| addr | SEND), PhantomData)
    }

    /// Room for a select of `N` cases.
    #[doc(hidden)]
    #[derive(Debug)]
    pub struct Frame<'a, const N: usize> {
        picks: MaybeUninit<[Pick<'a>; N]>,
        cases: [MaybeUninit<Case<'a>>; N],
        orders: [[MaybeUninit<u32>; N]; 2],
        chosen: MaybeUninit<SelectedOperation<'a>>,
    }

    impl<const N: usize> Frame<'_, N> {
        #[doc(hidden)]
        #[inline(always)]
        pub fn new() -> Self {
            Self {
                picks: MaybeUninit::uninit(),
                cases: [const { MaybeUninit::uninit() }; N],
                orders: [const { [const { MaybeUninit::uninit() }; N] }; 2],
                chosen: MaybeUninit::uninit(),
            }
        }
    }

    /// A chosen operation, in its frame.
    #[doc(hidden)]
    #[derive(Debug)]
    pub struct Oper<'f, 'a> {
        index: usize,
        chosen: &'f mut SelectedOperation<'a>,
    }

    impl Oper<'_, '_> {
        #[doc(hidden)]
        #[inline(always)]
        pub fn index(&self) -> usize {
            self.index
        }

        #[doc(hidden)]
        #[inline(always)]
        #[track_caller]
        pub fn send<T>(self, sender: &Sender<T>, msg: T) -> Result<(), SendError<T>> {
            self.chosen.complete_send(sender, msg)
        }

        #[doc(hidden)]
        #[inline(always)]
        #[track_caller]
        pub fn recv<T>(self, receiver: &Receiver<T>) -> Result<T, RecvError> {
            self.chosen.complete_recv(receiver)
        }
    }

    impl Drop for Oper<'_, '_> {
        #[inline(always)]
        fn drop(&mut self) {
            // SAFETY: `run` made it; nobody touches it after us.
            unsafe { end(self.chosen) };
        }
    }

    /// Ends an operation in its frame. If it is not completed, the expression of a send's value was
    /// left by a panic, or by `?` and its like, which are no misuse: nothing is sent.
    ///
    /// # Safety
    ///
    /// The operation is there, and is not touched afterwards.
    #[inline(never)]
    unsafe fn end(chosen: *mut SelectedOperation<'_>) {
        // SAFETY: by the contract.
        let oper = unsafe { &mut *chosen };
        if !oper.is_complete() {
            oper.abandon();
        }
        // SAFETY: by the contract.
        unsafe { ptr::drop_in_place(chosen) };
    }

    /// Runs a selection over the `n` picks. Returns the index of the case that was chosen, with the operation in `chosen`; `n` if
    /// none was, with nothing there.
    ///
    /// # Safety
    ///
    /// There are `n` picks, and room for `n` cases, twice `n` numbers and an operation.
    #[inline(never)]
    #[expect(clippy::too_many_arguments, reason = "in registers: see the module")]
    unsafe fn run<'a>(
        picks: *const Pick<'a>,
        cases: *mut Case<'a>,
        orders: *mut u32,
        chosen: *mut SelectedOperation<'a>,
        n: usize,
        biased: bool,
        limit: Limit,
        at: &'static Location<'static>,
    ) -> usize {
        // SAFETY: there are `n`.
        let picks = unsafe { slice::from_raw_parts(picks, n) };
        // SAFETY: room for `n`.
        let room = unsafe { slice::from_raw_parts_mut(cases.cast::<MaybeUninit<Case<'a>>>(), n) };
        for (case, pick) in room.iter_mut().zip(picks) {
            case.write(pick.case());
        }
        // SAFETY: room for twice `n`.
        unsafe { orders.write_bytes(0, 2 * n) };
        // SAFETY: written above.
        let cases = unsafe { slice::from_raw_parts_mut(cases, n) };
        // SAFETY: as above.
        let (tries, locks) = unsafe { slice::from_raw_parts_mut(orders, 2 * n) }.split_at_mut(n);
        // SAFETY: room for one.
        unsafe { chosen.write(SelectedOperation::none(at)) };
        // SAFETY: written above.
        let oper = unsafe { &mut *chosen };
        let stash = oper.stash();
        match choose(cases, [tries, locks], stash, (biased, false), limit, at) {
            Some((index, token)) => {
                // SAFETY: chosen just now, from the case of this index, with this stash.
                unsafe { oper.become_chosen(cases[index].chan(), index, token) };
                index
            }
            None => {
                // SAFETY: written above.
                unsafe { ptr::drop_in_place(chosen) };
                n
            }
        }
    }

    #[inline(always)]
    fn select_in<'f, 'a, const N: usize>(
        frame: &'f mut Frame<'a, N>,
        picks: [Pick<'a>; N],
        biased: bool,
        limit: Limit,
        at: &'static Location<'static>,
    ) -> Option<Oper<'f, 'a>> {
        // SAFETY: the frame's own place. Unwatched: only the selection knows it.
        unsafe { carry::put(frame.picks.as_mut_ptr(), picks) };
        let chosen = frame.chosen.as_mut_ptr();
        // SAFETY: a frame has room for `N` of each.
        let index = unsafe {
            run(
                frame.picks.as_ptr().cast(),
                frame.cases.as_mut_ptr().cast(),
                frame.orders.as_mut_ptr().cast(),
                chosen,
                N,
                biased,
                limit,
                at,
            )
        };
        (index < N).then(|| Oper {
            index,
            // SAFETY: a case was chosen, so the operation is there.
            chosen: unsafe { &mut *chosen },
        })
    }

    #[doc(hidden)]
    #[inline(always)]
    #[track_caller]
    pub fn select<'f, 'a, const N: usize>(
        frame: &'f mut Frame<'a, N>,
        picks: [Pick<'a>; N],
        biased: bool,
    ) -> Oper<'f, 'a> {
        select_in(frame, picks, biased, Limit::Never, Location::caller())
            .expect("a selection without a limit ends with a case")
    }

    #[doc(hidden)]
    #[inline(always)]
    #[track_caller]
    pub fn try_select<'f, 'a, const N: usize>(
        frame: &'f mut Frame<'a, N>,
        picks: [Pick<'a>; N],
        biased: bool,
    ) -> Option<Oper<'f, 'a>> {
        select_in(frame, picks, biased, Limit::Now, Location::caller())
    }

    #[doc(hidden)]
    #[inline(always)]
    #[track_caller]
    pub fn select_timeout<'f, 'a, const N: usize>(
        frame: &'f mut Frame<'a, N>,
        picks: [Pick<'a>; N],
        timeout: Duration,
        biased: bool,
    ) -> Option<Oper<'f, 'a>> {
        let limit = timeout_ns(timeout).map_or(Limit::Never, Limit::At);
        select_in(frame, picks, biased, limit, Location::caller())
    }
}
