//! Sends of a select, in two steps: a grant when the case is chosen, the value afterwards.
//!
//! # Invariants
//!
//! A grant is a promise of the channel that completing it needs no wait: one of the `reserved` places, an unbounded buffer, or a
//! receiver that stays parked, off its queue, until the value comes or the grant is given back. Each is used up exactly once. A receiver
//! whose grant was given back starts again ([`Outcome::Retry`]); a place that was given back, or that its value did not need, goes to
//! who waits for one.

use super::{Body, Chan, Polled, unlock_chan};
use crate::hooks;
use crate::waiter::{Outcome, Waiter};
use raddle_sched::{Rt, WaitReason, enter};
use std::panic::Location;
use std::ptr;
use std::sync::atomic::Ordering;

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

impl Chan {
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
        let rt = enter();
        if !matches!(grant, Grant::Unbounded) {
            hooks::send_begins(self, &rt, at);
        }
        match grant {
            Grant::Closed => {
                hooks::finds_closed(self);
                false
            }
            Grant::Receiver(w) => {
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
}
