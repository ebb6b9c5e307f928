//! The sending handle: a thin typed shell over the core.

use crate::clock::{deadline_ns, timeout_ns};
use crate::core::Op;
use crate::elem::Slot;
use crate::error::{SendError, SendTimeoutError, TrySendError};
use crate::handle::{RawHandle, Side};
use crate::waiter::Outcome;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

/// The sending side of a channel.
///
/// Senders can be cloned and shared; when the last one is dropped the channel closes: receivers get what is buffered, and
/// then an error.
///
/// # Examples
///
/// ```
/// use raddle::chan::unbounded;
///
/// let (s1, r) = unbounded();
/// let s2 = s1.clone();
/// let t = std::thread::spawn(move || s1.send(1).unwrap());
/// s2.send(2).unwrap();
/// assert_eq!(r.recv().unwrap() + r.recv().unwrap(), 3);
/// # t.join().unwrap();
/// ```
///
/// A sender of references that live long does not take ones that live shorter, by whatever name it goes: they would be
/// received when what they refer to is gone.
///
/// ```compile_fail,E0597
/// let (s, r) = raddle::chan::unbounded::<&'static str>();
/// {
///     let text = String::from("short-lived");
///     let narrowed: raddle::chan::Sender<&str> = s.clone();
///     narrowed.send(&text).unwrap();
/// }
/// println!("{}", r.recv().unwrap());
/// ```
pub struct Sender<T> {
    raw: RawHandle,
    /// Invariant in `T`: a sender takes `T`s in, and its receivers give them out.
    _marker: PhantomData<*mut T>,
}

// SAFETY: a handle moves values of `T` between threads and counts itself atomically; it gives no `&T` to anybody.
unsafe impl<T: Send> Send for Sender<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Sender<T> {}
// A panic cannot leave a channel half changed: no code of the user's runs inside it.
impl<T> UnwindSafe for Sender<T> {}
impl<T> RefUnwindSafe for Sender<T> {}

impl<T> Sender<T> {
    /// # Safety
    ///
    /// `raw` is one counted handle of the sending side of a channel of `T`, now owned by the result.
    pub(crate) unsafe fn from_raw(raw: RawHandle) -> Self {
        Self {
            raw,
            _marker: PhantomData,
        }
    }

    #[inline]
    pub(crate) fn raw(&self) -> &RawHandle {
        &self.raw
    }

    /// Sends a message, waiting while the channel is full.
    ///
    /// On a channel of capacity zero it waits until a receiver takes the message.
    ///
    /// # Errors
    ///
    /// The channel is closed, now or while waiting; the message comes back in the error.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine; blocks a plain thread.
    ///
    /// # Happens-before
    ///
    /// The send happens before the receive of the message returns. With capacity n the receive of message k happens before
    /// the send of message k + n returns; with capacity zero, before the send itself returns.
    ///
    /// # Examples
    ///
    /// ```
    /// use raddle::chan::{SendError, bounded};
    ///
    /// let (s, r) = bounded(1);
    /// assert_eq!(s.send(1), Ok(()));
    /// drop(r);
    /// assert_eq!(s.send(2), Err(SendError(2)));
    /// ```
    #[inline]
    #[track_caller]
    pub fn send(&self, msg: T) -> Result<(), SendError<T>> {
        let mut slot = Slot::empty();
        let place = slot.fill(msg);
        // SAFETY: an owned message.
        if unsafe { self.raw.chan().send(place, Location::caller()) } {
            Ok(())
        } else {
            // SAFETY: it was not moved from.
            Err(SendError(unsafe { slot.take() }))
        }
    }

    /// Sends a message if that needs no waiting.
    ///
    /// On a channel of capacity zero it succeeds only if a receiver is waiting already.
    ///
    /// # Errors
    ///
    /// The channel is full or closed; the message comes back in the error.
    ///
    /// # Blocking
    ///
    /// Neither parks nor blocks.
    ///
    /// # Happens-before
    ///
    /// As for [`send`](Sender::send) if it succeeds; none if it fails because the channel is full.
    ///
    /// # Examples
    ///
    /// ```
    /// use raddle::chan::{TrySendError, bounded};
    ///
    /// let (s, r) = bounded(1);
    /// assert_eq!(s.try_send(1), Ok(()));
    /// assert_eq!(s.try_send(2), Err(TrySendError::Full(2)));
    /// drop(r);
    /// assert_eq!(s.try_send(3), Err(TrySendError::Disconnected(3)));
    /// ```
    #[inline]
    #[track_caller]
    pub fn try_send(&self, msg: T) -> Result<(), TrySendError<T>> {
        let mut slot = Slot::empty();
        let place = slot.fill(msg);
        // SAFETY: an owned message.
        let outcome = unsafe {
            self.raw
                .chan()
                .try_transfer(Op::Send, place, Location::caller())
        };
        if outcome == Outcome::Done {
            return Ok(());
        }
        // SAFETY: it was not moved from.
        let msg = unsafe { slot.take() };
        Err(match outcome {
            Outcome::Closed => TrySendError::Disconnected(msg),
            _ => TrySendError::Full(msg),
        })
    }

    /// Sends a message, waiting for at most `timeout`.
    ///
    /// # Errors
    ///
    /// The time is up, or the channel is closed; the message comes back in the error.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine; blocks a plain thread.
    ///
    /// # Happens-before
    ///
    /// As for [`send`](Sender::send) if it succeeds; none if the time is up.
    ///
    /// # Examples
    ///
    /// ```
    /// use raddle::chan::{SendTimeoutError, bounded};
    /// use std::time::Duration;
    ///
    /// let (s, r) = bounded(1);
    /// assert_eq!(s.send_timeout(1, Duration::ZERO), Ok(()));
    /// assert_eq!(s.send_timeout(2, Duration::ZERO), Err(SendTimeoutError::Timeout(2)));
    /// ```
    #[track_caller]
    pub fn send_timeout(&self, msg: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        match timeout_ns(timeout) {
            Some(deadline_ns) => self.send_until(msg, deadline_ns),
            None => Ok(self.send(msg)?),
        }
    }

    /// Sends a message, waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// The time is up, or the channel is closed; the message comes back in the error.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine; blocks a plain thread.
    ///
    /// # Happens-before
    ///
    /// As for [`send`](Sender::send) if it succeeds; none if the time is up.
    ///
    /// # Examples
    ///
    /// ```
    /// use raddle::chan::{SendTimeoutError, bounded};
    /// use std::time::Instant;
    ///
    /// let (s, r) = bounded(0);
    /// assert_eq!(s.send_deadline(1, Instant::now()), Err(SendTimeoutError::Timeout(1)));
    /// drop(r);
    /// assert_eq!(s.send_deadline(2, Instant::now()), Err(SendTimeoutError::Disconnected(2)));
    /// ```
    #[track_caller]
    pub fn send_deadline(&self, msg: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        match deadline_ns(deadline) {
            Some(deadline_ns) => self.send_until(msg, deadline_ns),
            None => Ok(self.send(msg)?),
        }
    }

    #[track_caller]
    fn send_until(&self, msg: T, deadline_ns: u64) -> Result<(), SendTimeoutError<T>> {
        let mut slot = Slot::empty();
        let place = slot.fill(msg);
        // SAFETY: an owned message.
        let outcome = unsafe {
            self.raw
                .chan()
                .send_until(place, deadline_ns, Location::caller())
        };
        if outcome == Outcome::Done {
            return Ok(());
        }
        // SAFETY: it was not moved from.
        let msg = unsafe { slot.take() };
        Err(match outcome {
            Outcome::Closed => SendTimeoutError::Disconnected(msg),
            _ => SendTimeoutError::Timeout(msg),
        })
    }

    /// Closes the channel for both sides, as Go's `close`. Returns whether this call closed it: false if it was closed already
    /// (where Go panics).
    ///
    /// From now on sends fail and give their message back, waiting senders included. Receivers get what is buffered, and then
    /// an error.
    ///
    /// # Blocking
    ///
    /// Neither parks nor blocks.
    ///
    /// # Happens-before
    ///
    /// The close happens before every receive that returns because the channel is closed. A close that is not ordered with a send,
    /// or with another close, is a data race in race mode: which of them came first, and so whether the message arrives, is chance.
    ///
    /// # Examples
    ///
    /// ```
    /// use raddle::chan::{RecvError, SendError, bounded};
    ///
    /// let (s, r) = bounded(2);
    /// s.send(1).unwrap();
    /// assert!(s.close());
    /// assert!(!s.close());
    /// assert_eq!(s.send(2), Err(SendError(2)));
    /// assert_eq!(r.recv(), Ok(1));
    /// assert_eq!(r.recv(), Err(RecvError));
    /// ```
    #[track_caller]
    pub fn close(&self) -> bool {
        self.raw.close(Location::caller())
    }

    /// Returns whether no message is buffered. Always true on a channel of capacity zero.
    ///
    /// # Blocking
    ///
    /// Neither parks nor blocks. There is no happens-before edge: use the answer for diagnostics, not for synchronisation.
    ///
    /// # Examples
    ///
    /// ```
    /// let (s, r) = raddle::chan::unbounded();
    /// assert!(s.is_empty());
    /// s.send(0).unwrap();
    /// assert!(!s.is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.raw.chan().len() == 0
    }

    /// Returns whether a send would find no room. Always true on a channel of capacity zero.
    ///
    /// # Blocking
    ///
    /// Neither parks nor blocks. There is no happens-before edge.
    ///
    /// # Examples
    ///
    /// ```
    /// let (s, r) = raddle::chan::bounded(1);
    /// assert!(!s.is_full());
    /// s.send(0).unwrap();
    /// assert!(s.is_full());
    /// ```
    pub fn is_full(&self) -> bool {
        self.raw.chan().is_full()
    }

    /// Returns the number of buffered messages.
    ///
    /// # Blocking
    ///
    /// Neither parks nor blocks. There is no happens-before edge.
    ///
    /// # Examples
    ///
    /// ```
    /// let (s, r) = raddle::chan::unbounded();
    /// s.send(1).unwrap();
    /// s.send(2).unwrap();
    /// assert_eq!(s.len(), 2);
    /// ```
    pub fn len(&self) -> usize {
        self.raw.chan().len()
    }

    /// Returns the capacity, None if it is unbounded.
    ///
    /// # Blocking
    ///
    /// Neither parks nor blocks.
    ///
    /// # Examples
    ///
    /// ```
    /// use raddle::chan::{bounded, unbounded};
    ///
    /// assert_eq!(bounded::<u8>(5).0.capacity(), Some(5));
    /// assert_eq!(unbounded::<u8>().0.capacity(), None);
    /// ```
    pub fn capacity(&self) -> Option<usize> {
        self.raw.chan().capacity()
    }

    /// Returns whether both are senders of the same channel.
    ///
    /// # Examples
    ///
    /// ```
    /// let (s, _r) = raddle::chan::unbounded::<u8>();
    /// let (other, _r) = raddle::chan::unbounded();
    /// assert!(s.same_channel(&s.clone()));
    /// assert!(!s.same_channel(&other));
    /// ```
    pub fn same_channel(&self, other: &Sender<T>) -> bool {
        self.raw == other.raw
    }
}

impl<T> Drop for Sender<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this handle's count.
        unsafe { self.raw.release(Side::Send) }
    }
}

impl<T> Clone for Sender<T> {
    #[inline]
    fn clone(&self) -> Self {
        Self {
            raw: self.raw.acquire(Side::Send),
            _marker: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Sender { .. }")
    }
}
