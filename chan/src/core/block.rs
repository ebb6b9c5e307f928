//! Blocking operations without a time limit: the paths that programs take most.

use super::{Body, Chan, Op, Polled, unlock_chan};
use crate::hooks;
use crate::list::Block;
use crate::waiter::{Outcome, Waiter};
use raddle_sched::{Rt, WaitReason, enter};
use std::panic::Location;
use std::ptr;

impl Chan {
    /// Sends the element at `src`, parking until it is taken or buffered. Returns whether it was: not if the channel is closed.
    ///
    /// # Safety
    ///
    /// `src` is an owned element, moved from exactly if the result is true.
    pub(crate) unsafe fn send(&self, src: *const u8, at: &'static Location<'static>) -> bool {
        let rt = enter();
        hooks::send_begins(self, &rt, at);
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
}
