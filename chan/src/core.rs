//! The channel: one object for all element types, and its operations under the lock.
//!
//! # States
//!
//! Open, then closed, for good. [`Chan::close`], the last sender's end and the last receiver's end all close. On a closed
//! channel sends fail; receives first drain the buffer. When the last receiver ends, what is buffered is dropped.
//!
//! # Invariants
//!
//! 1. Everything but `len`, `closed`, `reserved` and the counts is touched under `lock` only. These are written under it
//!    (the counts aside) and may be read without, as hints and for `len()` and the like.
//! 2. Peers wait for receiving only if the buffer is empty; peers wait for sending only if `len + reserved == cap`;
//!    nobody waits on a closed channel. Both may wait at once only while all places are reserved and empty.
//! 3. The buffer is first in, first out, and so are both queues: a new element goes to the longest waiting receiver
//!    straight from the sender's stack; a place that becomes free goes to the longest waiting sender.
//! 4. `reserved` places belong to sends that a select has chosen and not yet completed; they hold no element yet.
//! 5. After the last receiver's end the buffer belongs to it alone: the channel is closed, so nobody adds or takes.
//!
//! # No lost wake-up
//!
//! A side that must wait links its waiter under the lock, after it has looked at the state, and the lock is released by
//! `park` only when its goroutine can be made ready. Each change that could end a wait is made under the same lock and looks
//! at the queue in the same section. So the change comes before the look, and the waiter does not wait; or it finds the
//! waiter linked, wakes it, and `ready` finds a parked goroutine.
//!
//! # Memory ordering
//!
//! The lock orders all but the hints. `closed: store Release` ⇄ `load Acquire` in the hints. A hint that says "empty" (or
//! "full") reads `len` first (Acquire), then `closed`: closing is for good, so if the later load finds the channel open, it was
//! open when `len` was read, and the answer was true at that moment.
//!
//! # Blocking
//!
//! The lock blocks the OS thread for a few dozen instructions. Under it there is no allocation (an unbounded
//! buffer that shrinks frees a block now and then), no code of the user's (drops run outside), no timer. Wake-ups come after it is released, but for observers and meetings, which are rare.
//!
//! # References
//!
//! Go's `runtime/chan.go` for hand-off and queues; the deviation is the `reserved` count and the meeting with a promise, by which a
//! select's send needs its value only once it has been chosen, as in crossbeam-channel.

use crate::clock::Clock;
use crate::elem::Elem;
use crate::hooks;
use crate::list::{Block, List};
use crate::lock::SpinLock;
use crate::ring::Ring;
use crate::waiter::{Outcome, WaitQueue, Waiter};
use raddle_sched::{GRef, Rt, WaitReason, enter};
use std::panic::Location;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Where messages are kept or come from.
#[derive(Debug)]
pub(crate) enum Body {
    /// Bounded, with room for at least one.
    Ring(Ring),
    /// Bounded by zero: peers meet.
    Zero,
    /// Unbounded.
    List(List),
    /// The clock (`after`, `at`, `tick`): no senders, and waits are sleeps.
    Clock(Clock),
    /// No message ever.
    Never,
}

/// A channel of any element type.
///
/// The fields are in the order of their use: a meeting without a buffer touches the first two cache lines only.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Chan {
    lock: SpinLock,
    closed: AtomicBool,
    recvq: WaitQueue,
    sendq: WaitQueue,
    len: AtomicUsize,
    elem: Elem,
    reserved: AtomicUsize,
    body: Body,
    pub(crate) senders: AtomicUsize,
    pub(crate) receivers: AtomicUsize,
    /// One side's handles are all gone: the other side's last one frees the channel.
    pub(crate) orphaned: AtomicBool,
}

// SAFETY: the lock and the atomics guard every field, by invariant 1; elements cross threads only through handles that
// require `T: Send`.
unsafe impl Sync for Chan {}

/// What an operation under the lock came to.
#[derive(Debug)]
pub(crate) enum Polled<'a> {
    /// The element was moved. Make the goroutine ready after unlocking.
    Done(Option<GRef>),
    /// For a receive: a select's send was taken off its queue, its value is yet to come.
    Promise(&'a Waiter),
    /// The channel is closed (and, for a receive, empty).
    Closed,
    /// It would have to wait.
    Wait,
    /// The buffer needs a block: unlock, allocate, start again.
    NeedBlock,
}

/// What a select's send has got when it is chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Grant {
    /// A place in the buffer, one of `reserved`.
    Place,
    /// An unbounded buffer.
    Unbounded,
    /// A parked receiver, taken off its queue.
    Receiver(*const Waiter),
    /// The channel is closed.
    Closed,
}

/// What is asked of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Send,
    Recv,
}

impl Chan {
    pub(crate) const fn new(body: Body, elem: Elem) -> Self {
        Self {
            lock: SpinLock::new(),
            closed: AtomicBool::new(false),
            recvq: WaitQueue::new(),
            sendq: WaitQueue::new(),
            len: AtomicUsize::new(0),
            elem,
            reserved: AtomicUsize::new(0),
            body,
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(1),
            orphaned: AtomicBool::new(false),
        }
    }

    #[inline]
    pub(crate) fn elem(&self) -> &Elem {
        &self.elem
    }

    #[inline]
    pub(crate) fn body(&self) -> &Body {
        &self.body
    }

    #[inline]
    pub(crate) fn clock(&self) -> Option<&Clock> {
        match &self.body {
            Body::Clock(clock) => Some(clock),
            _ => None,
        }
    }

    /// Whether waiters are linked here: not on clocks, nor where nothing ever happens.
    #[inline]
    pub(crate) fn has_queues(&self) -> bool {
        !matches!(self.body, Body::Clock(_) | Body::Never)
    }

    #[inline]
    pub(crate) fn queue(&self, op: Op) -> &WaitQueue {
        match op {
            Op::Send => &self.sendq,
            Op::Recv => &self.recvq,
        }
    }

    #[inline]
    pub(crate) fn lock(&self) {
        self.lock.lock();
    }

    /// # Safety
    ///
    /// The caller holds the lock.
    #[inline]
    pub(crate) unsafe fn unlock(&self) {
        // SAFETY: by the contract.
        unsafe { self.lock.unlock() }
    }

    /// Unlocks, then wakes the peer that an operation finished.
    ///
    /// # Safety
    ///
    /// The caller holds the lock, and the sole right to wake `g`.
    #[inline(always)]
    pub(crate) unsafe fn unlock_and_ready(&self, rt: &Rt, g: Option<GRef>) {
        // SAFETY: by the contract.
        unsafe { self.unlock() };
        if let Some(g) = g {
            // SAFETY: by the contract.
            unsafe { rt.ready(g) }
        }
    }

    // What can be told without the lock.

    pub(crate) fn len(&self) -> usize {
        match &self.body {
            Body::Clock(clock) => usize::from(clock.is_due()),
            _ => self.len.load(Ordering::Acquire),
        }
    }

    pub(crate) fn capacity(&self) -> Option<usize> {
        match &self.body {
            Body::Ring(ring) => Some(ring.cap()),
            Body::Zero | Body::Never => Some(0),
            Body::Clock(_) => Some(1),
            Body::List(_) => None,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        match &self.body {
            Body::Ring(ring) => {
                self.len.load(Ordering::Acquire) + self.reserved.load(Ordering::Relaxed)
                    >= ring.cap()
            }
            Body::Zero | Body::Never => true,
            Body::Clock(clock) => clock.is_due(),
            Body::List(_) => false,
        }
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire) // pairs with `close`
    }

    /// Whether a send, tried at some moment of this call, would have had to wait (see "Memory ordering").
    #[inline]
    pub(crate) fn send_would_wait(&self) -> bool {
        let full = match &self.body {
            Body::Ring(ring) => self.len.load(Ordering::Acquire) == ring.cap(),
            Body::List(_) => false,
            _ => self.recvq.looks_empty(),
        };
        full && !self.is_closed()
    }

    /// Whether a receive, tried at some moment of this call, would have had to wait (see "Memory ordering").
    #[inline]
    pub(crate) fn recv_would_wait(&self) -> bool {
        match &self.body {
            Body::Clock(clock) => !clock.is_due(),
            Body::Zero => self.sendq.looks_empty() && !self.is_closed(),
            _ => self.len.load(Ordering::Acquire) == 0 && !self.is_closed(),
        }
    }

    // Operations under the lock.

    /// Sends the element at `src` if that needs no wait.
    ///
    /// # Safety
    ///
    /// The caller holds the lock; `src` is an owned element, which is moved from exactly if the result is `Done`.
    #[inline(always)]
    pub(crate) unsafe fn poll_send<'a>(&self, rt: &Rt, src: *const u8) -> Polled<'a> {
        if self.closed.load(Ordering::Relaxed) {
            return Polled::Closed;
        }
        // SAFETY: the caller's lock.
        if let Some(w) = unsafe { self.recvq.take_peer() } {
            // SAFETY: `w` is won, and parked with a slot for one element.
            unsafe { self.hand_over(w, src, None) };
            return Polled::Done(Some(w.g()));
        }
        match &self.body {
            Body::Ring(ring) => {
                let len = self.len.load(Ordering::Relaxed);
                if len + self.reserved.load(Ordering::Relaxed) == ring.cap() {
                    return Polled::Wait;
                }
                // SAFETY: `src` by the contract; the tail slot is free since there is room.
                unsafe { self.push_ring(ring, src, None) };
            }
            Body::List(list) => {
                let Some(slot) = list.push(&self.elem) else {
                    return Polled::NeedBlock;
                };
                // SAFETY: `src` by the contract; the slot is free and ours.
                unsafe { self.elem.move_one(src, slot) };
                hooks::slot_filled(slot);
                self.len
                    .store(self.len.load(Ordering::Relaxed) + 1, Ordering::Release);
            }
            Body::Zero | Body::Clock(_) | Body::Never => return Polled::Wait,
        }
        if self.recvq.has_observers() {
            // SAFETY: the caller's lock.
            unsafe { self.notify(rt, &self.recvq) };
        }
        Polled::Done(None)
    }

    /// Puts an element into the ring, on behalf of the caller or of the parked `g`.
    #[inline(always)]
    unsafe fn push_ring(&self, ring: &Ring, src: *const u8, g: Option<GRef>) {
        let slot = ring.tail_slot(&self.elem);
        // SAFETY: the caller passes an owned element and has checked that there is room.
        unsafe { self.elem.move_one(src, slot) };
        hooks::slot_passed(slot, g);
        ring.advance_tail();
        self.len
            .store(self.len.load(Ordering::Relaxed) + 1, Ordering::Release); // pairs with the hints
    }

    /// Moves an element straight to a parked receiver, on behalf of the caller or of the parked `from`.
    #[inline(always)]
    unsafe fn hand_over(&self, w: &Waiter, src: *const u8, from: Option<GRef>) {
        // SAFETY: `src` is the caller's element, the slot is the parked receiver's (waiter.rs, invariants 3 and 4).
        unsafe { self.elem.move_one(src, w.slot()) };
        w.finish(Outcome::Done);
        match &self.body {
            Body::Ring(ring) if raddle_race::enabled() => {
                // As if it went through the buffer, which is empty: both pass the next slot.
                let slot = ring.tail_slot(&self.elem);
                hooks::slot_passed(slot, from);
                hooks::slot_passed(slot, Some(w.g()));
                ring.advance_tail();
                ring.advance_head();
            }
            Body::Ring(_) => {}
            Body::List(_) => hooks::handed_over(self, w.g()),
            Body::Zero | Body::Clock(_) | Body::Never => hooks::met(self, w.g()),
        }
    }

    /// Receives an element into `dst` if that needs no wait. On `Promise` the caller goes on with [`Chan::await_promise`].
    ///
    /// # Safety
    ///
    /// The caller holds the lock; `dst` is valid for writing one element, and holds one exactly if the result is `Done`.
    #[inline(always)]
    pub(crate) unsafe fn poll_recv<'a>(&self, rt: &Rt, dst: *mut u8) -> Polled<'a> {
        let len = self.len.load(Ordering::Relaxed);
        match &self.body {
            Body::Ring(ring) if len != 0 => {
                let slot = ring.head_slot(&self.elem);
                // SAFETY: the head slot holds an element since the ring is not empty; `dst` by the contract.
                unsafe { self.elem.move_one(slot, dst) };
                hooks::slot_passed(slot, None);
                ring.advance_head();
                self.len.store(len - 1, Ordering::Release); // pairs with the hints
                if self.sendq.looks_empty() {
                    return Polled::Done(None);
                }
                // SAFETY: the caller's lock; a place is free.
                Polled::Done(unsafe { self.place_freed(rt, ring) })
            }
            Body::List(list) if len != 0 => {
                let slot = list.front(&self.elem);
                // SAFETY: the front slot holds an element since the list is not empty; `dst` by the contract.
                unsafe { self.elem.move_one(slot, dst) };
                hooks::slot_emptied(slot);
                self.len.store(len - 1, Ordering::Release); // pairs with the hints
                let spent = list.pop();
                if !spent.is_null() {
                    // Once in a block of elements, and only while a long queue shrinks.
                    // SAFETY: the list gave the block up.
                    unsafe { list.free_block(spent, &self.elem) };
                }
                Polled::Done(None)
            }
            Body::Zero => {
                // SAFETY: the caller's lock.
                if let Some(w) = unsafe { self.sendq.take_peer() } {
                    if w.is_promise() {
                        return Polled::Promise(w);
                    }
                    // SAFETY: the parked sender's slot holds its element, which is ours now that `w` is won.
                    unsafe { self.elem.move_one(w.slot(), dst) };
                    w.finish(Outcome::Done);
                    hooks::met(self, w.g());
                    return Polled::Done(Some(w.g()));
                }
                self.closed_or_wait()
            }
            Body::Clock(clock) => {
                // SAFETY: `dst` is for an `Instant`, the only element type of clocks.
                if unsafe { clock.poll(dst.cast()) } {
                    hooks::finds_closed(self);
                    Polled::Done(None)
                } else {
                    Polled::Wait
                }
            }
            Body::Ring(_) | Body::List(_) | Body::Never => self.closed_or_wait(),
        }
    }

    #[inline]
    fn closed_or_wait<'a>(&self) -> Polled<'a> {
        if self.closed.load(Ordering::Relaxed) {
            Polled::Closed
        } else {
            Polled::Wait
        }
    }

    /// A place in the ring is free: gives it to the longest waiting sender, and so on while there is one. Returns whom to ready.
    ///
    /// Receivers may be waiting, too, if the place was a reserved one: they waited for its value. They are served first, by
    /// elements that need no place then.
    #[cold]
    unsafe fn place_freed(&self, rt: &Rt, ring: &Ring) -> Option<GRef> {
        let mut wake: Option<GRef> = None;
        while self.len.load(Ordering::Relaxed) + self.reserved.load(Ordering::Relaxed) < ring.cap()
        {
            // SAFETY: the caller's lock.
            let Some(w) = (unsafe { self.sendq.take_peer() }) else {
                // SAFETY: as above.
                unsafe { self.notify(rt, &self.sendq) };
                break;
            };
            if w.is_promise() {
                self.reserved
                    .store(self.reserved.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                w.finish(Outcome::Reserved);
            // SAFETY: the caller's lock.
            } else if let Some(receiver) = unsafe { self.recvq.take_peer() } {
                // SAFETY: both are parked and won; the sender's slot holds its element.
                unsafe { self.hand_over(receiver, w.slot(), Some(w.g())) };
                w.finish(Outcome::Done);
                // SAFETY: taken off its list.
                unsafe { rt.ready(receiver.g()) };
            } else {
                // SAFETY: the parked sender's slot holds its element, and there is room.
                unsafe { self.push_ring(ring, w.slot(), Some(w.g())) };
                w.finish(Outcome::Done);
                // SAFETY: the caller's lock.
                unsafe { self.notify(rt, &self.recvq) };
            }
            if let Some(earlier) = wake.replace(w.g()) {
                // SAFETY: taken off its list.
                unsafe { rt.ready(earlier) };
            }
        }
        wake
    }

    /// Wakes all observers of a queue.
    ///
    /// # Safety
    ///
    /// The caller holds the lock.
    #[cold]
    pub(crate) unsafe fn notify(&self, rt: &Rt, queue: &WaitQueue) {
        // SAFETY: the caller's lock.
        while let Some(w) = unsafe { queue.take_observer() } {
            w.finish(Outcome::Ready);
            // SAFETY: taken off its list with its claim won.
            unsafe { rt.ready(w.g()) };
        }
    }

    /// Somebody has begun to wait for `op`, which makes the opposite operation ready: wakes its observers.
    ///
    /// # Safety
    ///
    /// The caller holds the lock.
    #[inline]
    pub(crate) unsafe fn notify_opposite(&self, rt: &Rt, op: Op) {
        let opposite = match op {
            Op::Send => &self.recvq,
            Op::Recv => &self.sendq,
        };
        if opposite.has_observers() {
            // SAFETY: the caller's lock.
            unsafe { self.notify(rt, opposite) }
        }
    }

    /// Whether `op` would not wait.
    ///
    /// # Safety
    ///
    /// The caller holds the lock.
    pub(crate) unsafe fn is_ready(&self, op: Op) -> bool {
        if self.closed.load(Ordering::Relaxed) {
            return true;
        }
        match (&self.body, op) {
            (Body::Ring(ring), Op::Send) => {
                self.len.load(Ordering::Relaxed) + self.reserved.load(Ordering::Relaxed)
                    < ring.cap()
            }
            (Body::List(_), Op::Send) => true,
            (Body::Ring(_) | Body::List(_), Op::Recv) => self.len.load(Ordering::Relaxed) != 0,
            // SAFETY: the caller's lock.
            (Body::Zero, Op::Send) => unsafe { self.recvq.has_peer() },
            // SAFETY: as above.
            (Body::Zero, Op::Recv) => unsafe { self.sendq.has_peer() },
            (Body::Clock(clock), _) => clock.is_due(),
            (Body::Never, _) => false,
        }
    }

    // Sends of a select, in two steps.

    /// Grants a send whose value is yet to come, if that needs no wait.
    ///
    /// # Safety
    ///
    /// The caller holds the lock, and later calls [`Chan::complete_send`] or [`Chan::abandon_send`] once for the grant.
    pub(crate) unsafe fn poll_grant(&self) -> Option<Grant> {
        if self.closed.load(Ordering::Relaxed) {
            return Some(Grant::Closed);
        }
        match &self.body {
            Body::Ring(ring) => {
                let reserved = self.reserved.load(Ordering::Relaxed);
                if self.len.load(Ordering::Relaxed) + reserved == ring.cap() {
                    return None;
                }
                self.reserved.store(reserved + 1, Ordering::Relaxed);
                Some(Grant::Place)
            }
            Body::List(_) => Some(Grant::Unbounded),
            // SAFETY: the caller's lock.
            Body::Zero => unsafe { self.recvq.take_peer() }.map(|w| Grant::Receiver(w)),
            Body::Clock(_) | Body::Never => None,
        }
    }

    /// Sends the element at `src` by a grant. Returns whether it was sent: not if the channel is closed by now.
    ///
    /// # Safety
    ///
    /// The grant is the caller's and is used up; `src` is an owned element, moved from exactly if the result is true.
    pub(crate) unsafe fn complete_send(
        &self,
        grant: Grant,
        src: *const u8,
        at: &'static Location<'static>,
    ) -> bool {
        hooks::send_begins(self, at);
        match grant {
            Grant::Closed => {
                hooks::finds_closed(self);
                false
            }
            Grant::Receiver(w) => {
                let rt = enter();
                self.lock();
                // SAFETY: a granted receiver stays parked until it is made ready (waiter.rs, invariant 4). The lock: it may
                // be linked to us since a moment ago only, and is off its stack once its `park` has unlocked.
                let w = unsafe { &*w };
                // SAFETY: as above, and `src` by the contract.
                unsafe { self.hand_over(w, src, None) };
                // SAFETY: locked above; the right to wake `w` came with the grant.
                unsafe { self.unlock_and_ready(&rt, Some(w.g())) };
                true
            }
            Grant::Place => {
                let rt = enter();
                self.lock();
                // The place is free from here on, but nobody else can take it before the send below does.
                self.reserved
                    .store(self.reserved.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
                // SAFETY: locked; `src` by the contract.
                match unsafe { self.poll_send(&rt, src) } {
                    Polled::Done(g) => {
                        if let (Some(_), Body::Ring(ring)) = (g, &self.body) {
                            // The element went to a waiting receiver, so the place is free.
                            // SAFETY: locked.
                            let sender = unsafe { self.place_freed(&rt, ring) };
                            if let Some(sender) = sender {
                                // SAFETY: taken off its list.
                                unsafe { rt.ready(sender) };
                            }
                        }
                        // SAFETY: locked; `g` was taken off its list.
                        unsafe { self.unlock_and_ready(&rt, g) };
                        true
                    }
                    _ => {
                        // SAFETY: locked.
                        unsafe { self.unlock() };
                        hooks::finds_closed(self);
                        false
                    }
                }
            }
            // SAFETY: `src` by the contract.
            Grant::Unbounded => unsafe { self.send(src, at) },
        }
    }

    /// Gives a grant back.
    ///
    /// # Safety
    ///
    /// The grant is the caller's and is used up.
    pub(crate) unsafe fn abandon_send(&self, grant: Grant) {
        let rt = enter();
        match (grant, &self.body) {
            (Grant::Place, Body::Ring(ring)) => {
                self.lock();
                self.reserved
                    .store(self.reserved.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
                // SAFETY: locked; a place is free.
                let g = unsafe { self.place_freed(&rt, ring) };
                // SAFETY: locked; `g` was taken off its list.
                unsafe { self.unlock_and_ready(&rt, g) };
            }
            (Grant::Receiver(w), _) => {
                self.lock();
                // SAFETY: as in `complete_send`.
                let w = unsafe { &*w };
                w.finish(Outcome::Retry);
                // SAFETY: locked; the right to wake `w` came with the grant.
                unsafe { self.unlock_and_ready(&rt, Some(w.g())) };
            }
            _ => {}
        }
    }

    /// After `poll_recv` came to `Promise`: wakes the promising select and waits for its value. Returns whether it came.
    ///
    /// # Safety
    ///
    /// The caller holds the lock, which is released; `dst` is valid for writing one element.
    #[cold]
    pub(crate) unsafe fn await_promise(
        &self,
        rt: &Rt,
        promise: &Waiter,
        dst: *mut u8,
        at: &'static Location<'static>,
    ) -> bool {
        // Linked nowhere: only the promising side knows it, and takes the lock before it touches it.
        let w = Waiter::new(rt.g(), dst, 0);
        promise.meet(&w);
        // SAFETY: won when it was taken off its list.
        unsafe { rt.ready(promise.g()) };
        // SAFETY: the lock is ours to release, from any stack.
        unsafe {
            rt.park(
                WaitReason::ChanReceive,
                at,
                unlock_chan,
                ptr::from_ref(self).cast_mut().cast(),
            )
        };
        w.outcome() == Outcome::Done
    }

    // Blocking operations without a time limit.

    /// Sends the element at `src`, parking until it is taken or buffered. Returns whether it was: not if the channel is closed.
    ///
    /// # Safety
    ///
    /// `src` is an owned element, moved from exactly if the result is true.
    pub(crate) unsafe fn send(&self, src: *const u8, at: &'static Location<'static>) -> bool {
        hooks::send_begins(self, at);
        let rt = enter();
        loop {
            self.lock();
            // SAFETY: locked; `src` by the contract.
            match unsafe { self.poll_send(&rt, src) } {
                Polled::Done(g) => {
                    // SAFETY: locked; `g` was taken off its list.
                    unsafe { self.unlock_and_ready(&rt, g) };
                    return true;
                }
                Polled::Closed => {
                    // SAFETY: locked.
                    unsafe { self.unlock() };
                    hooks::finds_closed(self);
                    return false;
                }
                // SAFETY: locked, and unlocked by the call.
                Polled::NeedBlock => unsafe { self.add_block() },
                Polled::Wait | Polled::Promise(_) => {
                    // SAFETY: locked, and unlocked by the call; `src` stays ours while we wait.
                    match unsafe { self.wait(&rt, Op::Send, src.cast_mut(), at) } {
                        Outcome::Done => return true,
                        Outcome::Closed => {
                            hooks::finds_closed(self);
                            return false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    /// Receives an element into `dst`, parking until there is one. Returns whether there was: not if the channel is closed.
    ///
    /// # Safety
    ///
    /// `dst` is valid for writing one element, and holds one exactly if the result is true.
    pub(crate) unsafe fn recv(&self, dst: *mut u8, at: &'static Location<'static>) -> bool {
        if !self.has_queues() {
            // SAFETY: `dst` by the contract.
            return unsafe { self.recv_until(dst, None, at) } == Outcome::Done;
        }
        let rt = enter();
        loop {
            self.lock();
            // SAFETY: locked; `dst` by the contract.
            match unsafe { self.poll_recv(&rt, dst) } {
                Polled::Done(g) => {
                    // SAFETY: locked; `g` was taken off its list.
                    unsafe { self.unlock_and_ready(&rt, g) };
                    return true;
                }
                Polled::Closed => {
                    // SAFETY: locked.
                    unsafe { self.unlock() };
                    hooks::finds_closed(self);
                    return false;
                }
                Polled::Promise(w) => {
                    // SAFETY: locked, and unlocked by the call.
                    if unsafe { self.await_promise(&rt, w, dst, at) } {
                        return true;
                    }
                }
                Polled::Wait | Polled::NeedBlock => {
                    // SAFETY: locked, and unlocked by the call.
                    match unsafe { self.wait(&rt, Op::Recv, dst, at) } {
                        Outcome::Done => return true,
                        Outcome::Closed => {
                            hooks::finds_closed(self);
                            return false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    /// Links a waiter and parks. The lock is released on the way.
    #[inline(never)]
    unsafe fn wait(
        &self,
        rt: &Rt,
        op: Op,
        slot: *mut u8,
        at: &'static Location<'static>,
    ) -> Outcome {
        let w = Waiter::new(rt.g(), slot, 0);
        // SAFETY: locked by the caller; we stay parked until the waiter has been taken off the queue.
        unsafe { self.queue(op).push(&w) };
        // SAFETY: locked by the caller.
        unsafe { self.notify_opposite(rt, op) };
        let reason = match op {
            Op::Send => WaitReason::ChanSend,
            Op::Recv => WaitReason::ChanReceive,
        };
        // SAFETY: the lock is ours to release, from any stack.
        unsafe {
            rt.park(
                reason,
                at,
                unlock_chan,
                ptr::from_ref(self).cast_mut().cast(),
            )
        };
        w.outcome()
    }

    /// Unlocks and gives the list a block.
    ///
    /// # Safety
    ///
    /// The caller holds the lock.
    #[cold]
    pub(crate) unsafe fn add_block(&self) {
        // SAFETY: by the contract.
        unsafe { self.unlock() };
        let Body::List(list) = &self.body else { return };
        let block = list.new_block(&self.elem);
        self.lock();
        let surplus: *mut Block = list.keep(block);
        // SAFETY: locked above.
        unsafe { self.unlock() };
        // SAFETY: the list did not keep it.
        unsafe { list.free_block(surplus, &self.elem) };
    }

    // The end.

    /// Closes the channel. Returns whether it was open.
    pub(crate) fn close(&self, at: &'static Location<'static>) -> bool {
        hooks::closes(self, at);
        self.disconnect()
    }

    /// Closes and wakes all who wait. Returns whether the channel was open.
    pub(crate) fn disconnect(&self) -> bool {
        if matches!(self.body, Body::Never) {
            return false;
        }
        let rt = enter();
        self.lock();
        if self.closed.load(Ordering::Relaxed) {
            // SAFETY: locked above.
            unsafe { self.unlock() };
            return false;
        }
        self.closed.store(true, Ordering::Release); // pairs with the hints
        for queue in [&self.recvq, &self.sendq] {
            // Under the lock, so that nothing but the queue is needed to remember them; closing is rare.
            // SAFETY: locked above.
            while let Some(w) = unsafe { queue.take_any() } {
                w.finish(Outcome::Closed);
                // SAFETY: taken off its list with its claim won.
                unsafe { rt.ready(w.g()) };
            }
        }
        // SAFETY: locked above.
        unsafe { self.unlock() };
        true
    }

    /// Drops what is buffered: after the last receiver's end.
    ///
    /// # Safety
    ///
    /// The channel is closed and no receiver is left (invariant 5).
    pub(crate) unsafe fn discard(&self) {
        /// Goes on with the next element if dropping one panics, as collections do.
        struct Rest<'a>(&'a Chan);
        impl Rest<'_> {
            fn run(&self) {
                let chan = self.0;
                loop {
                    let len = chan.len.load(Ordering::Relaxed);
                    if len == 0 {
                        return;
                    }
                    chan.len.store(len - 1, Ordering::Relaxed);
                    match &chan.body {
                        Body::Ring(ring) => {
                            let slot = ring.head_slot(&chan.elem);
                            ring.advance_head();
                            hooks::slot_emptied(slot);
                            // SAFETY: the head slot held an element, which is ours by invariant 5.
                            unsafe { chan.elem.drop_one(slot) };
                        }
                        Body::List(list) => {
                            let slot = list.front(&chan.elem);
                            hooks::slot_emptied(slot);
                            let guard = Spent { chan, list };
                            // SAFETY: as above; the block stays until `guard` ends.
                            unsafe { chan.elem.drop_one(slot) };
                            drop(guard);
                        }
                        Body::Zero | Body::Clock(_) | Body::Never => return,
                    }
                }
            }
        }
        impl Drop for Rest<'_> {
            fn drop(&mut self) {
                self.run();
            }
        }
        /// Steps over the front slot once its element has been dropped, or has panicked.
        struct Spent<'a> {
            chan: &'a Chan,
            list: &'a List,
        }
        impl Drop for Spent<'_> {
            fn drop(&mut self) {
                let block = self.list.pop();
                // SAFETY: the list gave the block up.
                unsafe { self.list.free_block(block, &self.chan.elem) };
            }
        }
        if !self.elem.needs_drop() && !matches!(self.body, Body::List(_)) {
            self.len.store(0, Ordering::Relaxed);
            return;
        }
        Rest(self).run();
    }

    /// Frees the buffer.
    ///
    /// # Safety
    ///
    /// No handle is left, and the buffer is empty.
    pub(crate) unsafe fn free_buffer(&self) {
        match &self.body {
            // SAFETY: made with this `elem`.
            Body::Ring(ring) => unsafe { ring.free(&self.elem) },
            // SAFETY: as above.
            Body::List(list) => unsafe { list.free(&self.elem) },
            Body::Zero | Body::Clock(_) | Body::Never => {}
        }
    }
}

/// Releases a parked goroutine's channel.
///
/// # Safety
///
/// `chan` is a [`Chan`] whose lock the parked goroutine took.
pub(crate) unsafe fn unlock_chan(chan: *mut ()) {
    // SAFETY: the parked goroutine keeps the channel alive until it has been woken, which takes this lock.
    let chan = unsafe { &*chan.cast::<Chan>() };
    // SAFETY: by the contract.
    unsafe { chan.unlock() }
}
