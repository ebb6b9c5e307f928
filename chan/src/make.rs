//! Making channels.

use crate::clock::Clock;
use crate::elem::ElemType;
use crate::handle::RawHandle;
use crate::hooks;
use crate::receiver::Receiver;
use crate::sender::Sender;
use std::time::{Duration, Instant};

/// # Safety
///
/// `raw` is a new channel of `T`, with one handle a side.
#[inline]
unsafe fn handles<T>(raw: RawHandle) -> (Sender<T>, Receiver<T>) {
    // SAFETY: by the contract.
    let sender = unsafe { Sender::from_raw(raw) };
    // SAFETY: as above.
    let receiver = unsafe { Receiver::from_raw(raw) };
    (sender, receiver)
}

/// Makes a channel that holds up to `cap` messages; senders wait while it is full.
///
/// With a capacity of zero a sender waits for a receiver to take the message from it.
///
/// # Panics
///
/// If `cap` messages are more than fit in memory.
///
/// # Blocking
///
/// Neither parks nor blocks; allocates the buffer.
///
/// # Examples
///
/// ```
/// use raddle::chan::bounded;
///
/// let (s, r) = bounded(0);
/// let t = std::thread::spawn(move || s.send("hi").unwrap());
/// assert_eq!(r.recv(), Ok("hi"));
/// # t.join().unwrap();
/// ```
#[inline]
#[must_use]
pub fn bounded<T>(cap: usize) -> (Sender<T>, Receiver<T>) {
    // SAFETY: made just now.
    unsafe { handles(RawHandle::bounded(cap, ElemType::of::<T>())) }
}

/// Makes a channel that holds any number of messages; senders never wait.
///
/// # Blocking
///
/// Neither parks nor blocks.
///
/// # Examples
///
/// ```
/// let (s, r) = raddle::chan::unbounded();
/// for n in 0..1000 {
///     s.send(n).unwrap();
/// }
/// assert_eq!(r.len(), 1000);
/// ```
#[inline]
#[must_use]
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    // SAFETY: made just now.
    unsafe { handles(RawHandle::unbounded(ElemType::of::<T>())) }
}

/// Makes a channel on which no message ever comes, and which is never closed: a case of a select that is switched off.
///
/// # Blocking
///
/// Neither parks nor blocks; does not allocate.
///
/// # Examples
///
/// ```
/// use raddle::chan::{never, select, unbounded};
///
/// let (s, r) = unbounded();
/// s.send(1).unwrap();
/// let (busy, idle) = (false, never());
/// select! {
///     recv(if busy { &idle } else { &r }) -> msg => assert_eq!(msg, Ok(1)),
///     default => unreachable!(),
/// }
/// ```
#[must_use]
pub fn never<T>() -> Receiver<T> {
    // SAFETY: this channel counts no handles, and has elements of no type.
    unsafe { Receiver::from_raw(RawHandle::never()) }
}

fn clock(clock: Option<Clock>) -> Receiver<Instant> {
    let Some(clock) = clock else {
        // Beyond the range of the clock, which is centuries.
        return never();
    };
    let raw = RawHandle::clock(clock);
    hooks::clock_starts(raw.chan());
    // SAFETY: the one receiving handle; clocks give `Instant`s.
    unsafe { Receiver::from_raw(raw) }
}

/// Makes a channel on which one message comes, after `duration`: the moment at which it came.
///
/// # Blocking
///
/// Neither parks nor blocks, and arms no timer: waiting on the channel does.
///
/// # Happens-before
///
/// The call happens before the receive of the message returns.
///
/// # Examples
///
/// ```
/// use raddle::chan::{after, select, unbounded};
/// use std::time::Duration;
///
/// let (s, r) = unbounded();
/// s.send(1).unwrap();
/// select! {
///     recv(r) -> msg => assert_eq!(msg, Ok(1)),
///     recv(after(Duration::from_secs(60))) -> _ => panic!("nothing came"),
/// }
/// ```
#[must_use]
pub fn after(duration: Duration) -> Receiver<Instant> {
    clock(Clock::after(duration))
}

/// Makes a channel on which one message comes, at `when`: that moment itself.
///
/// # Blocking
///
/// Neither parks nor blocks, and arms no timer: waiting on the channel does.
///
/// # Happens-before
///
/// The call happens before the receive of the message returns.
///
/// # Examples
///
/// ```
/// use std::time::Instant;
///
/// let now = Instant::now();
/// assert_eq!(raddle::chan::at(now).recv(), Ok(now));
/// ```
#[must_use]
pub fn at(when: Instant) -> Receiver<Instant> {
    clock(Clock::at(when))
}

/// Makes a channel on which a message comes every `duration`, for the first time after one `duration`: the moment at which it
/// was due.
///
/// Messages do not pile up: while one waits to be received no other comes, and the next comes one `duration` after the late
/// one was received, or at its regular moment if that is still ahead.
///
/// # Blocking
///
/// Neither parks nor blocks, and arms no timer: waiting on the channel does.
///
/// # Happens-before
///
/// The call happens before the receive of a message returns.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// let ticker = raddle::chan::tick(Duration::from_nanos(1));
/// assert!(ticker.recv().unwrap() < ticker.recv().unwrap());
/// ```
#[must_use]
pub fn tick(duration: Duration) -> Receiver<Instant> {
    clock(Clock::every(duration))
}
