//! Operations under the lock: what a send or a receive comes to without waiting, and who is served by it.
//!
//! The invariants, the orderings and the argument against lost wake-ups are in the parent's header.

use super::{Body, Chan, Op, Polled};
use crate::hooks;
use crate::ring::Ring;
use crate::waiter::{Outcome, WaitQueue, Waiter};
use raddle_sched::{GRef, Rt};
use std::sync::atomic::Ordering;

impl Chan {
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
                let Some((slot, baton)) = list.push(&self.elem) else {
                    return Polled::NeedBlock;
                };
                // SAFETY: `src` by the contract; the slot is free and ours.
                unsafe { self.elem.move_one(src, slot) };
                // SAFETY: the caller's lock; the slot's baton.
                unsafe { hooks::slot_filled(baton) };
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
    pub(super) unsafe fn push_ring(&self, ring: &Ring, src: *const u8, g: Option<GRef>) {
        let slot = ring.tail_slot(&self.elem);
        // SAFETY: the caller passes an owned element and has checked that there is room.
        unsafe { self.elem.move_one(src, slot) };
        // SAFETY: the caller's lock; a slot of the ring.
        unsafe { hooks::slot_passed(ring.tail_baton(), g) };
        ring.advance_tail();
        self.len
            .store(self.len.load(Ordering::Relaxed) + 1, Ordering::Release); // pairs with the hints
    }

    /// Moves an element straight to a parked receiver, on behalf of the caller or of the parked `from`.
    #[inline(always)]
    pub(super) unsafe fn hand_over(&self, w: &Waiter, src: *const u8, from: Option<GRef>) {
        // SAFETY: `src` is the caller's element, the slot is the parked receiver's (waiter.rs, invariants 3 and 4).
        unsafe { self.elem.move_one(src, w.slot()) };
        w.finish(Outcome::Done);
        match &self.body {
            Body::Ring(ring) if raddle_race::enabled() => {
                // As if it went through the buffer, which is empty: both pass the next slot.
                // SAFETY: the caller's lock; a slot of the ring.
                unsafe { hooks::slot_passed(ring.tail_baton(), from) };
                // SAFETY: as above.
                unsafe { hooks::slot_passed(ring.tail_baton(), Some(w.g())) };
                ring.advance_tail();
                ring.advance_head();
            }
            Body::Ring(_) => {}
            // SAFETY: the receiver was taken off its queue, and is parked until the caller makes it ready.
            Body::List(_) => unsafe { hooks::handed_over(w.g()) },
            // SAFETY: as above.
            Body::Zero | Body::Clock(_) | Body::Never => unsafe { hooks::met(w.g()) },
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
                // SAFETY: the caller's lock; a slot of the ring.
                unsafe { hooks::slot_passed(ring.head_baton(), None) };
                ring.advance_head();
                self.len.store(len - 1, Ordering::Release); // pairs with the hints
                if self.sendq.looks_empty() {
                    return Polled::Done(None);
                }
                // SAFETY: the caller's lock; a place is free.
                Polled::Done(unsafe { self.place_freed(rt, ring) })
            }
            Body::List(list) if len != 0 => {
                let (slot, baton) = list.front(&self.elem);
                // SAFETY: the front slot holds an element since the list is not empty; `dst` by the contract.
                unsafe { self.elem.move_one(slot, dst) };
                // SAFETY: the caller's lock; the slot's baton.
                unsafe { hooks::slot_emptied(baton) };
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
                    // SAFETY: the sender was taken off its queue, and is parked until the caller makes it ready.
                    unsafe { hooks::met(w.g()) };
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
    pub(super) unsafe fn place_freed(&self, rt: &Rt, ring: &Ring) -> Option<GRef> {
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
}
