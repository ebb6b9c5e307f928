//! The end of a channel: closing it, dropping what nobody will receive, freeing the buffer.

use super::{Body, Chan};
use crate::hooks;
use crate::list::List;
use crate::waiter::{Outcome, Taken};
use raddle_sched::enter;
use std::mem;
use std::panic::Location;
use std::sync::atomic::Ordering;

impl Chan {
    /// Closes the channel. Returns whether it was open.
    pub(crate) fn close(&self, at: &'static Location<'static>) -> bool {
        hooks::close_begins(self, at);
        self.disconnect()
    }

    /// Closes and wakes all who wait. Returns whether the channel was open.
    pub(crate) fn disconnect(&self) -> bool {
        if matches!(self.body, Body::Never) {
            return false;
        }
        let rt = enter();
        let Some(waiters) = self.shut() else {
            return false;
        };
        for w in waiters {
            // SAFETY: taken off its list with its claim won.
            unsafe { rt.ready(w.g()) };
        }
        true
    }

    /// Closes, and takes out all who wait, receivers first, the longest waiting first. None: it was closed already.
    ///
    /// They are many if many wait, so that only what must be done under the lock is done here: everyone else who wants the
    /// channel waits meanwhile. The caller, who is inside the runtime, readies them.
    fn shut(&self) -> Option<Taken<'_>> {
        self.lock();
        if self.closed.load(Ordering::Relaxed) {
            // SAFETY: locked above.
            unsafe { self.unlock() };
            return None;
        }
        hooks::closes(self);
        self.closed.store(true, Ordering::Release); // pairs with the hints
        let mut taken = Taken::default();
        for queue in [&self.recvq, &self.sendq] {
            // SAFETY: locked above.
            while let Some(w) = unsafe { queue.take_any() } {
                w.finish(Outcome::Closed);
                taken.push(w);
            }
        }
        // SAFETY: locked above.
        unsafe { self.unlock() };
        Some(taken)
    }

    /// Drops what is buffered: after the last receiver's end.
    ///
    /// If dropping an element panics, that panic goes on in the caller, and the elements after it
    /// are leaked: to drop them while unwinding would abort the process at the second panic. This
    /// is what crossbeam-channel does.
    ///
    /// # Safety
    ///
    /// The channel is closed and no receiver is left (invariant 5).
    pub(crate) unsafe fn discard(&self) {
        /// Empties the buffer without a drop: of what is left when one has panicked.
        struct Leak<'a>(&'a Chan);
        impl Drop for Leak<'_> {
            fn drop(&mut self) {
                // SAFETY: the caller's contract; an element is no longer one when it has been
                // stepped over.
                while unsafe { self.0.step_over(|_| {}) } {}
            }
        }
        if !self.elem.needs_drop() && !matches!(self.body, Body::List(_)) {
            self.len.store(0, Ordering::Relaxed);
            return;
        }
        let rest = Leak(self);
        let drop_one = |slot| {
            // SAFETY: the slot held an element, which is ours by the caller's contract.
            unsafe { self.elem.drop_one(slot) }
        };
        // SAFETY: the caller's contract.
        while unsafe { self.step_over(drop_one) } {}
        mem::forget(rest);
    }

    /// Takes the oldest element out of the buffer and calls `end` with its slot. Returns whether
    /// there was one.
    ///
    /// # Safety
    ///
    /// The channel is closed and no receiver is left (invariant 5).
    unsafe fn step_over(&self, end: impl FnOnce(*mut u8)) -> bool {
        /// Steps over a list's front slot once its element has ended, or has panicked.
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
        let len = self.len.load(Ordering::Relaxed);
        if len == 0 {
            return false;
        }
        self.len.store(len - 1, Ordering::Relaxed);
        match &self.body {
            Body::Ring(ring) => {
                let slot = ring.head_slot(&self.elem);
                // SAFETY: invariant 5; a slot of the ring.
                unsafe { hooks::slot_discarded(ring.head_baton()) };
                ring.advance_head();
                end(slot);
            }
            Body::List(list) => {
                let (slot, baton) = list.front(&self.elem);
                // SAFETY: invariant 5; the slot's baton.
                unsafe { hooks::slot_emptied(baton) };
                // The block stays until this ends.
                let _spent = Spent { chan: self, list };
                end(slot);
            }
            Body::Zero | Body::Clock(_) | Body::Never => {}
        }
        true
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elem::{Elem, ElemType};
    use std::mem::MaybeUninit;

    #[test]
    fn waiters_are_woken_with_the_lock_free() {
        let chan = Chan::new(Body::Zero, Elem::of(ElemType::of::<u8>()));
        std::thread::scope(|scope| {
            let parts = [(); 3].map(|()| {
                scope.spawn(|| {
                    let mut msg = MaybeUninit::<u8>::uninit();
                    // SAFETY: room for one element.
                    unsafe { chan.recv(msg.as_mut_ptr().cast(), Location::caller()) }
                })
            });
            let mut waiting = 0;
            while waiting < parts.len() {
                std::thread::yield_now();
                chan.lock();
                // SAFETY: locked above.
                waiting = unsafe { chan.recvq.count() };
                // SAFETY: locked above.
                unsafe { chan.unlock() };
            }
            let rt = enter();
            let taken = chan.shut().expect("it was open");
            // All three still wait, and another may use the channel.
            assert!(!parts.iter().any(|part| part.is_finished()));
            chan.lock();
            assert!(chan.recvq.looks_empty() && chan.is_closed());
            // SAFETY: locked above.
            unsafe { chan.unlock() };
            assert!(chan.shut().is_none());
            for w in taken {
                // SAFETY: taken off its list.
                unsafe { rt.ready(w.g()) };
            }
            drop(rt);
            for part in parts {
                assert!(!part.join().expect("receiving does not panic"));
            }
        });
    }
}
