//! The receiving handle: a thin typed shell over the core.

use crate::clock::{deadline_ns, timeout_ns};
use crate::core::Op;
use crate::elem::Slot;
use crate::error::{RecvError, RecvTimeoutError, TryRecvError};
use crate::handle::{RawHandle, Side};
use crate::iter::{IntoIter, Iter, TryIter};
use crate::waiter::Outcome;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

/// The receiving side of a channel.
///
/// Receivers can be cloned and shared; each message goes to one of them. When the last one is dropped the channel closes and
/// what is buffered is dropped.
///
/// # Examples
///
/// ```
/// use raddle::chan::unbounded;
///
/// let (s, r) = unbounded();
/// let t = std::thread::spawn(move || {
///     s.send(1).unwrap();
///     s.send(2).unwrap();
/// });
/// assert_eq!(r.recv(), Ok(1));
/// assert_eq!(r.recv(), Ok(2));
/// assert!(r.recv().is_err());
/// # t.join().unwrap();
/// ```
pub struct Receiver<T> {
    raw: RawHandle,
    /// Covariant in `T`: a receiver only gives `T`s out.
    _marker: PhantomData<T>,
}

// SAFETY: a handle moves values of `T` between threads and counts itself atomically; it gives no `&T` to anybody.
unsafe impl<T: Send> Send for Receiver<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Receiver<T> {}
// A panic cannot leave a channel half changed: no code of the user's runs inside it.
impl<T> UnwindSafe for Receiver<T> {}
impl<T> RefUnwindSafe for Receiver<T> {}

impl<T> Receiver<T> {
    /// # Safety
    ///
    /// `raw` is one counted handle of the receiving side of a channel of `T`, now owned by the result.
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

    /// Receives a message, waiting while there is none.
    ///
    /// # Errors
    ///
    /// The channel is empty and closed, now or while waiting.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine; blocks a plain thread.
    ///
    /// # Happens-before
    ///
    /// The send of the message happens before the receive returns; so does the close if it returns an error.
    ///
    /// # Examples
    ///
    /// ```
    /// use raddle::chan::{RecvError, unbounded};
    ///
    /// let (s, r) = unbounded();
    /// s.send(5).unwrap();
    /// drop(s);
    /// assert_eq!(r.recv(), Ok(5));
    /// assert_eq!(r.recv(), Err(RecvError));
    /// ```
    #[inline]
    #[track_caller]
    pub fn recv(&self) -> Result<T, RecvError> {
        let mut slot = Slot::<T>::empty();
        // SAFETY: the slot has room for one `T`.
        if unsafe { self.raw.chan().recv(slot.place(), Location::caller()) } {
            // SAFETY: filled, by the contract of `recv`.
            Ok(unsafe { slot.take() })
        } else {
            Err(RecvError)
        }
    }

    /// Receives a message if there is one.
    ///
    /// On a channel of capacity zero it succeeds only if a sender is waiting already.
    ///
    /// # Errors
    ///
    /// The channel is empty, or empty and closed.
    ///
    /// # Blocking
    ///
    /// Neither parks nor blocks, but for one case: when it meets a send of a `select` on a channel of capacity zero, that has been
    /// chosen by this very call, it waits until the sending side has made its value.
    ///
    /// # Happens-before
    ///
    /// As for [`recv`](Receiver::recv) if it succeeds or finds the channel closed; none if it finds it empty.
    ///
    /// # Examples
    ///
    /// ```
    /// use raddle::chan::{TryRecvError, unbounded};
    ///
    /// let (s, r) = unbounded();
    /// assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
    /// s.send(5).unwrap();
    /// drop(s);
    /// assert_eq!(r.try_recv(), Ok(5));
    /// assert_eq!(r.try_recv(), Err(TryRecvError::Disconnected));
    /// ```
    #[inline]
    #[track_caller]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        let mut slot = Slot::<T>::empty();
        // SAFETY: the slot has room for one `T`.
        match unsafe {
            self.raw
                .chan()
                .try_transfer(Op::Recv, slot.place(), Location::caller())
        } {
            // SAFETY: filled, by the contract of `try_transfer`.
            Outcome::Done => Ok(unsafe { slot.take() }),
            Outcome::Closed => Err(TryRecvError::Disconnected),
            _ => Err(TryRecvError::Empty),
        }
    }

    /// Receives a message, waiting for at most `timeout`.
    ///
    /// # Errors
    ///
    /// The time is up, or the channel is empty and closed.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine; blocks a plain thread. The limit ends the wait for a sender: when it meets a send of a `select` on a
    /// channel of capacity zero, that has been chosen by this very call, it waits until the sending side has made its value,
    /// however long that takes.
    ///
    /// # Happens-before
    ///
    /// As for [`recv`](Receiver::recv) if it succeeds or finds the channel closed; none if the time is up.
    ///
    /// # Examples
    ///
    /// ```
    /// use raddle::chan::{RecvTimeoutError, unbounded};
    /// use std::time::Duration;
    ///
    /// let (s, r) = unbounded();
    /// assert_eq!(r.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
    /// s.send(5).unwrap();
    /// assert_eq!(r.recv_timeout(Duration::ZERO), Ok(5));
    /// ```
    #[track_caller]
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.recv_until(timeout_ns(timeout))
    }

    /// Receives a message, waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// The time is up, or the channel is empty and closed.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine; blocks a plain thread. The limit ends the wait for a sender: when it meets a send of a `select` on a
    /// channel of capacity zero, that has been chosen by this very call, it waits until the sending side has made its value,
    /// however long that takes.
    ///
    /// # Happens-before
    ///
    /// As for [`recv`](Receiver::recv) if it succeeds or finds the channel closed; none if the time is up.
    ///
    /// # Examples
    ///
    /// ```
    /// use raddle::chan::{RecvTimeoutError, unbounded};
    /// use std::time::Instant;
    ///
    /// let (s, r) = unbounded::<u8>();
    /// assert_eq!(r.recv_deadline(Instant::now()), Err(RecvTimeoutError::Timeout));
    /// drop(s);
    /// assert_eq!(r.recv_deadline(Instant::now()), Err(RecvTimeoutError::Disconnected));
    /// ```
    #[track_caller]
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.recv_until(deadline_ns(deadline))
    }

    #[track_caller]
    fn recv_until(&self, deadline_ns: Option<u64>) -> Result<T, RecvTimeoutError> {
        let mut slot = Slot::<T>::empty();
        // SAFETY: the slot has room for one `T`.
        match unsafe {
            self.raw
                .chan()
                .recv_until(slot.place(), deadline_ns, Location::caller())
        } {
            // SAFETY: filled, by the contract of `recv_until`.
            Outcome::Done => Ok(unsafe { slot.take() }),
            Outcome::Closed => Err(RecvTimeoutError::Disconnected),
            _ => Err(RecvTimeoutError::Timeout),
        }
    }

    /// Closes the channel for both sides. Returns whether this call closed it. See [`Sender::close`](crate::Sender::close).
    ///
    /// What is buffered can still be received. The channels of [`after`](crate::after), [`at`](crate::at),
    /// [`tick`](crate::tick) and [`never`](crate::never) cannot be closed: the result is false.
    ///
    /// # Blocking
    ///
    /// Neither parks nor blocks.
    ///
    /// # Happens-before
    ///
    /// As for [`Sender::close`](crate::Sender::close).
    ///
    /// # Examples
    ///
    /// ```
    /// use raddle::chan::{SendError, bounded};
    ///
    /// let (s, r) = bounded(2);
    /// s.send(1).unwrap();
    /// assert!(r.close());
    /// assert_eq!(s.send(2), Err(SendError(2)));
    /// assert_eq!(r.iter().collect::<Vec<_>>(), [1]);
    /// ```
    #[track_caller]
    pub fn close(&self) -> bool {
        self.raw.chan().has_queues() && self.raw.close(Location::caller())
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
    /// assert!(r.is_empty());
    /// s.send(0).unwrap();
    /// assert!(!r.is_empty());
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
    /// assert!(!r.is_full());
    /// s.send(0).unwrap();
    /// assert!(r.is_full());
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
    /// assert_eq!(r.len(), 1);
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
    /// use raddle::chan::{bounded, never};
    ///
    /// assert_eq!(bounded::<u8>(5).1.capacity(), Some(5));
    /// assert_eq!(never::<u8>().capacity(), Some(0));
    /// ```
    pub fn capacity(&self) -> Option<usize> {
        self.raw.chan().capacity()
    }

    /// Returns an iterator over the messages to come, which waits for each and ends when the channel is empty and closed.
    ///
    /// # Blocking
    ///
    /// Each step as [`recv`](Receiver::recv).
    ///
    /// # Examples
    ///
    /// ```
    /// let (s, r) = raddle::chan::unbounded();
    /// let t = std::thread::spawn(move || (1..=3).for_each(|n| s.send(n).unwrap()));
    /// assert_eq!(r.iter().collect::<Vec<_>>(), [1, 2, 3]);
    /// # t.join().unwrap();
    /// ```
    pub fn iter(&self) -> Iter<'_, T> {
        Iter::new(self)
    }

    /// Returns an iterator over the messages that are there, which ends when the channel is empty.
    ///
    /// # Blocking
    ///
    /// Each step as [`try_recv`](Receiver::try_recv).
    ///
    /// # Examples
    ///
    /// ```
    /// let (s, r) = raddle::chan::unbounded();
    /// s.send(1).unwrap();
    /// s.send(2).unwrap();
    /// assert_eq!(r.try_iter().collect::<Vec<_>>(), [1, 2]);
    /// ```
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter::new(self)
    }

    /// Returns whether both are receivers of the same channel.
    ///
    /// # Examples
    ///
    /// ```
    /// let (_s, r) = raddle::chan::unbounded::<u8>();
    /// let (_s, other) = raddle::chan::unbounded();
    /// assert!(r.same_channel(&r.clone()));
    /// assert!(!r.same_channel(&other));
    /// ```
    pub fn same_channel(&self, other: &Receiver<T>) -> bool {
        self.raw == other.raw
    }
}

impl<T> Drop for Receiver<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this handle's count.
        unsafe { self.raw.release(Side::Recv) }
    }
}

impl<T> Clone for Receiver<T> {
    #[inline]
    fn clone(&self) -> Self {
        Self {
            raw: self.raw.acquire(Side::Recv),
            _marker: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Receiver { .. }")
    }
}

impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        IntoIter::new(self)
    }
}
