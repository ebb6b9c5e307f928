//! The life of a channel: made with one handle a side, counted, closed by a side's last handle, freed by the last of all.
//!
//! # Memory ordering
//!
//! - counts: `fetch_sub AcqRel`: every use of a handle happens before the closing by the last one of its side.
//! - `orphaned: swap AcqRel` of the first side ⇄ that of the second: the first side's end happens before the freeing.

use crate::clock::Clock;
use crate::core::{Body, Chan};
use crate::elem::{Elem, ElemType};
use crate::hooks;
use crate::list::List;
use crate::ring::Ring;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// A side of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Send,
    Recv,
}

/// The channel of [`never`](crate::never): one for all, never counted nor freed.
static NEVER: Chan = Chan::new(Body::Never, Elem::NOTHING);

/// The channel without messages.
pub(crate) fn never() -> &'static Chan {
    &NEVER
}

/// A counted pointer to a channel; the handles wrap it. It is passed by value to what is not inlined: a handle in a variable of the
/// program's then has no address that leaves it, and its uses are not watched. Whoever holds it drops it by [`RawHandle::release`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawHandle(NonNull<Chan>);

impl RawHandle {
    /// A new channel that holds up to `cap` messages, with one handle on either side.
    #[inline(never)]
    pub(crate) fn bounded(cap: usize, message: &'static ElemType) -> Self {
        let elem = Elem::of(message);
        let body = match cap {
            0 => Body::Zero,
            cap => Body::Ring(Ring::new(cap, &elem)),
        };
        Self::leak(Chan::new(body, elem))
    }

    /// As [`bounded`](Self::bounded), for any number of messages.
    #[inline(never)]
    pub(crate) fn unbounded(message: &'static ElemType) -> Self {
        let elem = Elem::of(message);
        let body = Body::List(List::new(&elem));
        Self::leak(Chan::new(body, elem))
    }

    /// A new channel without a sending side, with one receiving handle. It is not closed: its messages have another source.
    pub(crate) fn clock(clock: Clock) -> Self {
        let elem = Elem::of(ElemType::of::<Instant>());
        let mut chan = Chan::new(Body::Clock(clock), elem);
        *chan.senders.get_mut() = 0;
        *chan.orphaned.get_mut() = true;
        Self::leak(chan)
    }

    fn leak(chan: Chan) -> Self {
        let chan = Box::leak(hooks::boxed(chan));
        hooks::new_life(std::ptr::from_ref(chan).cast(), size_of::<Chan>());
        Self(NonNull::from(chan))
    }

    /// The channel without messages.
    pub(crate) fn never() -> Self {
        Self(NonNull::from(never()))
    }

    #[inline(always)]
    pub(crate) fn chan(&self) -> &Chan {
        // SAFETY: a handle that is not released yet keeps the channel alive.
        unsafe { self.0.as_ref() }
    }

    fn count(&self, side: Side) -> Option<&AtomicUsize> {
        let chan = self.chan();
        match (chan.body(), side) {
            (Body::Never, _) => None,
            (_, Side::Send) => Some(&chan.senders),
            (_, Side::Recv) => Some(&chan.receivers),
        }
    }

    /// One more handle.
    ///
    /// # Panics
    ///
    /// Aborts the process when there are `isize::MAX` already: they were leaked, and the count must not wrap.
    #[inline(never)]
    pub(crate) fn acquire(self, side: Side) -> Self {
        if let Some(count) = self.count(side)
            // Relaxed: a new handle is made from one that is alive.
            && count.fetch_add(1, Ordering::Relaxed) > isize::MAX as usize
        {
            std::process::abort();
        }
        self
    }

    /// One handle less.
    ///
    /// # Safety
    ///
    /// The handle was made by `new` or `acquire` for this side, and is not used afterwards.
    #[inline(never)]
    pub(crate) unsafe fn release(self, side: Side) {
        let Some(count) = self.count(side) else {
            return;
        };
        let address = std::ptr::from_ref(count).addr();
        hooks::handle_dropped(address);
        if count.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        hooks::last_handle_dropped(address);
        /// Frees the channel when both sides have ended, also if dropping a message panics.
        struct End(NonNull<Chan>);
        impl Drop for End {
            fn drop(&mut self) {
                // SAFETY: this side has not said yet that it has ended, so the channel is alive.
                let chan = unsafe { self.0.as_ref() };
                let orphaned = std::ptr::from_ref(&chan.orphaned).addr();
                hooks::handle_dropped(orphaned);
                if chan.orphaned.swap(true, Ordering::AcqRel) {
                    hooks::last_handle_dropped(orphaned);
                    // SAFETY: both sides have ended; the receivers' end emptied the buffer, and closed it for good.
                    unsafe { chan.free_buffer() };
                    hooks::new_life(std::ptr::from_ref(chan).cast(), size_of::<Chan>());
                    // SAFETY: made by `new` from a box, and nobody else points to it any more.
                    drop(unsafe { Box::from_raw(self.0.as_ptr()) });
                }
            }
        }
        let end = End(self.0);
        let chan = self.chan();
        chan.disconnect();
        if side == Side::Recv {
            // SAFETY: closed above, and this was the last receiver.
            unsafe { chan.discard() };
        }
        drop(end);
    }

    /// Closes the channel. Returns whether it was open.
    pub(crate) fn close(&self, at: &'static Location<'static>) -> bool {
        self.chan().close(at)
    }
}
