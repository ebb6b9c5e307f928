//! `Select`: a select over operations that are known only at run time.
//!
//! # Why a list may change threads
//!
//! A [`Select`] forgets the types of its messages, so it is `Send` and `Sync` also where a message
//! type is neither. A message of such a type stays where it is all the same:
//!
//! 1. Between two calls the list holds channels and numbers, no message.
//! 2. A call moves the bytes of a received message to the stash of the [`SelectedOperation`], and
//!    runs no code of the message's type. The operation is neither `Send` nor `Sync`.
//! 3. Whoever completes the operation has a `&Receiver<T>` (or `&Sender<T>`) of the channel. Where
//!    `T` is not `Send` the handles are neither `Send` nor `Sync`: all of them, and all messages,
//!    are on the thread (or goroutine) that made the channel.
//! 4. An operation that is dropped uncompleted drops its message only on the thread or goroutine
//!    that added the receive: that one had the `&Receiver<T>`, so either it is the one of point 3,
//!    or any may drop the message. Elsewhere the message is leaked.

use super::operation::Dropper;
use super::stash::Stash;
use super::{Case, Limit, SelectedOperation, Token, choose};
use crate::clock::{deadline_ns, timeout_ns};
use crate::core::{Chan, Op};
use crate::error::{ReadyTimeoutError, SelectTimeoutError, TryReadyError, TrySelectError};
use crate::receiver::Receiver;
use crate::sender::Sender;
use std::fmt;
use std::mem::needs_drop;
use std::panic::Location;
use std::time::{Duration, Instant};

/// A list of channel operations of which one is to be carried out: the dynamic form of [`select!`](crate::select).
///
/// Add operations with [`send`](Select::send) and [`recv`](Select::recv), then either *select* one and complete it, or wait until one
/// is *ready* and try it. If several could be carried out one of them is chosen at random, by [`new_biased`](Select::new_biased) the
/// first. An operation on a closed channel can be carried out: it fails.
///
/// A list can be used many times, and changed in between. It may be sent to another thread or
/// goroutine, and cloned there.
///
/// # Examples
///
/// ```
/// use raddle::chan::{Receiver, RecvError, Select, unbounded};
///
/// /// Receives from whichever channel has a message.
/// fn recv_any<T>(rs: &[Receiver<T>]) -> Result<T, RecvError> {
///     let mut select = Select::new();
///     for r in rs {
///         select.recv(r);
///     }
///     let oper = select.select();
///     let index = oper.index();
///     oper.recv(&rs[index])
/// }
///
/// let (s1, r1) = unbounded();
/// let (_s2, r2) = unbounded();
/// s1.send(1).unwrap();
/// assert_eq!(recv_any(&[r1, r2]), Ok(1));
/// ```
#[derive(Default)]
pub struct Select<'a> {
    cases: Vec<Case<'a>>,
    /// One for each case.
    listed: Vec<Listed>,
    orders: [Vec<u32>; 2],
    next_index: usize,
    biased: bool,
}

/// What is known of a case beside the case.
#[derive(Clone, Copy)]
struct Listed {
    /// The user's index: it differs from the case's once another has been removed.
    index: usize,
    /// Who may drop its message.
    dropper: Dropper,
}

// SAFETY: a list holds no message between calls, and what a call receives is not touched where it
// must not be: the module's header has the argument. The cases are channels, which are `Sync`, and
// waiters that mean nothing between calls.
unsafe impl Send for Select<'_> {}
// SAFETY: as above; what a shared reference allows is to read which channels there are.
unsafe impl Sync for Select<'_> {}

impl<'a> Select<'a> {
    /// Makes an empty list.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut select = raddle::chan::Select::new();
    /// assert!(select.try_select().is_err());
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes an empty list that prefers operations that were added earlier.
    ///
    /// # Examples
    ///
    /// ```
    /// use raddle::chan::{Select, unbounded};
    ///
    /// let (s1, r1) = unbounded();
    /// let (s2, r2) = unbounded();
    /// s1.send(1).unwrap();
    /// s2.send(2).unwrap();
    /// let mut select = Select::new_biased();
    /// let first = select.recv(&r1);
    /// select.recv(&r2);
    /// assert_eq!(select.ready(), first);
    /// ```
    #[must_use]
    pub fn new_biased() -> Self {
        Self {
            biased: true,
            ..Self::default()
        }
    }

    /// Adds a send. Returns its index: 0 for the first operation, and so on.
    ///
    /// # Examples
    ///
    /// ```
    /// let (s, _r) = raddle::chan::unbounded::<i32>();
    /// assert_eq!(raddle::chan::Select::new().send(&s), 0);
    /// ```
    pub fn send<T>(&mut self, sender: &'a Sender<T>) -> usize {
        self.add(sender.raw().chan(), Op::Send, Dropper::ANYBODY)
    }

    /// Adds a receive. Returns its index: 0 for the first operation, and so on.
    ///
    /// # Examples
    ///
    /// ```
    /// let (_s, r) = raddle::chan::unbounded::<i32>();
    /// assert_eq!(raddle::chan::Select::new().recv(&r), 0);
    /// ```
    pub fn recv<T>(&mut self, receiver: &'a Receiver<T>) -> usize {
        let dropper = match needs_drop::<T>() {
            true => Dropper::caller(),
            false => Dropper::ANYBODY,
        };
        self.add(receiver.raw().chan(), Op::Recv, dropper)
    }

    #[inline(never)]
    fn add(&mut self, chan: &'a Chan, op: Op, dropper: Dropper) -> usize {
        let index = self.next_index;
        self.next_index += 1;
        self.cases.push(Case::new(chan, op));
        self.listed.push(Listed { index, dropper });
        for order in &mut self.orders {
            order.push(0);
        }
        index
    }

    /// Removes an operation, for example because its channel is closed. The others keep their indices.
    ///
    /// # Panics
    ///
    /// If there is no operation of this index.
    ///
    /// # Examples
    ///
    /// ```
    /// use raddle::chan::{Select, unbounded};
    ///
    /// let (s, r) = unbounded::<i32>();
    /// drop(s);
    /// let mut select = Select::new();
    /// let index = select.recv(&r);
    /// let oper = select.select();
    /// assert!(oper.recv(&r).is_err());
    /// select.remove(index);
    /// assert!(select.try_select().is_err());
    /// ```
    #[track_caller]
    pub fn remove(&mut self, index: usize) {
        let Some(i) = self.listed.iter().position(|there| there.index == index) else {
            panic!(
                "there is no operation of index {index} in the `Select`: it was never added, or is removed already"
            );
        };
        self.cases.remove(i);
        self.listed.remove(i);
        for order in &mut self.orders {
            order.pop();
        }
    }

    fn choose(
        &mut self,
        stash: &mut Stash,
        observe: bool,
        limit: Limit,
        at: &'static Location<'static>,
    ) -> Option<(usize, Token)> {
        let [tries, locks] = &mut self.orders;
        choose(
            &mut self.cases,
            [tries, locks],
            stash,
            (self.biased, observe),
            limit,
            at,
        )
    }

    /// Before a wait without a limit.
    fn insist_on_operations(&self, at: &'static Location<'static>) {
        if self.cases.is_empty() {
            panic!("{at}: no operations have been added to the `Select`: it would wait for ever");
        }
    }

    fn select_until(
        &mut self,
        limit: Limit,
        at: &'static Location<'static>,
    ) -> Option<SelectedOperation<'a>> {
        let mut stash = Stash::new();
        let (i, token) = self.choose(&mut stash, false, limit, at)?;
        let Listed { index, dropper } = self.listed[i];
        // SAFETY: chosen just now, from this case, whose receive was added by a holder of the
        // receiver.
        Some(unsafe {
            SelectedOperation::new(self.cases[i].chan(), index, token, (stash, dropper), at)
        })
    }

    fn ready_until(&mut self, limit: Limit, at: &'static Location<'static>) -> Option<usize> {
        let (i, _) = self.choose(&mut Stash::new(), true, limit, at)?;
        Some(self.listed[i].index)
    }

    /// Selects an operation that can be carried out without waiting.
    ///
    /// # Errors
    ///
    /// There is none.
    ///
    /// # Blocking
    ///
    /// As for [`Receiver::try_recv`].
    ///
    /// # Examples
    ///
    /// ```
    /// use raddle::chan::{Select, unbounded};
    ///
    /// let (s, r) = unbounded();
    /// let mut select = Select::new();
    /// select.recv(&r);
    /// assert!(select.try_select().is_err());
    /// s.send(10).unwrap();
    /// assert_eq!(select.try_select().unwrap().recv(&r), Ok(10));
    /// ```
    #[track_caller]
    pub fn try_select(&mut self) -> Result<SelectedOperation<'a>, TrySelectError> {
        self.select_until(Limit::Now, Location::caller())
            .ok_or(TrySelectError)
    }

    /// Selects an operation, waiting until one can be carried out.
    ///
    /// # Panics
    ///
    /// If the list is empty.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine; blocks a plain thread.
    ///
    /// # Happens-before
    ///
    /// The edges of the chosen operation, once it is completed, and no other.
    ///
    /// # Examples
    ///
    /// ```
    /// use raddle::chan::{Select, bounded};
    ///
    /// let (s, r) = bounded(0);
    /// let t = std::thread::spawn(move || s.send(10).unwrap());
    /// let mut select = Select::new();
    /// select.recv(&r);
    /// assert_eq!(select.select().recv(&r), Ok(10));
    /// # t.join().unwrap();
    /// ```
    #[track_caller]
    pub fn select(&mut self) -> SelectedOperation<'a> {
        let at = Location::caller();
        self.insist_on_operations(at);
        self.select_until(Limit::Never, at)
            .expect("a selection without a limit ends with a case")
    }

    /// Selects an operation, waiting for at most `timeout`. An empty list waits that long.
    ///
    /// # Errors
    ///
    /// The time is up.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine; blocks a plain thread. The limit ends the wait for a peer: when a receive meets a send of another
    /// `select` on a channel of capacity zero, that has been chosen by this very call, it waits until the sending side has made its
    /// value, however long that takes.
    ///
    /// # Examples
    ///
    /// ```
    /// use raddle::chan::{Select, bounded};
    /// use std::time::Duration;
    ///
    /// let (_s, r) = bounded::<u8>(0);
    /// let mut select = Select::new();
    /// select.recv(&r);
    /// assert!(select.select_timeout(Duration::ZERO).is_err());
    /// ```
    #[track_caller]
    pub fn select_timeout(
        &mut self,
        timeout: Duration,
    ) -> Result<SelectedOperation<'a>, SelectTimeoutError> {
        let limit = timeout_ns(timeout).map_or(Limit::Never, Limit::At);
        self.select_until(limit, Location::caller())
            .ok_or(SelectTimeoutError)
    }

    /// Selects an operation, waiting until `deadline` at most. An empty list waits that long.
    ///
    /// # Errors
    ///
    /// The time is up.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine; blocks a plain thread. The limit ends the wait for a peer: when a receive meets a send of another
    /// `select` on a channel of capacity zero, that has been chosen by this very call, it waits until the sending side has made its
    /// value, however long that takes.
    ///
    /// # Examples
    ///
    /// ```
    /// use raddle::chan::{Select, bounded};
    /// use std::time::Instant;
    ///
    /// let (_s, r) = bounded::<u8>(0);
    /// let mut select = Select::new();
    /// select.recv(&r);
    /// assert!(select.select_deadline(Instant::now()).is_err());
    /// ```
    #[track_caller]
    pub fn select_deadline(
        &mut self,
        deadline: Instant,
    ) -> Result<SelectedOperation<'a>, SelectTimeoutError> {
        let limit = deadline_ns(deadline).map_or(Limit::Never, Limit::At);
        self.select_until(limit, Location::caller())
            .ok_or(SelectTimeoutError)
    }

    /// Returns the index of an operation that is ready, without carrying it out.
    ///
    /// Another goroutine may be quicker: try the operation, and be prepared for it not to be ready any more.
    ///
    /// # Errors
    ///
    /// There is none.
    ///
    /// # Blocking
    ///
    /// Neither parks nor blocks.
    ///
    /// # Happens-before
    ///
    /// None.
    ///
    /// # Examples
    ///
    /// ```
    /// use raddle::chan::{Select, unbounded};
    ///
    /// let (s, r) = unbounded();
    /// let mut select = Select::new();
    /// let index = select.recv(&r);
    /// assert!(select.try_ready().is_err());
    /// s.send(10).unwrap();
    /// assert_eq!(select.try_ready(), Ok(index));
    /// assert_eq!(r.try_recv(), Ok(10));
    /// ```
    #[track_caller]
    pub fn try_ready(&mut self) -> Result<usize, TryReadyError> {
        self.ready_until(Limit::Now, Location::caller())
            .ok_or(TryReadyError)
    }

    /// Waits until an operation is ready, and returns its index without carrying it out.
    ///
    /// Another goroutine may be quicker: try the operation, and wait again if it is not ready any more.
    ///
    /// # Panics
    ///
    /// If the list is empty.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine; blocks a plain thread.
    ///
    /// # Happens-before
    ///
    /// None.
    ///
    /// # Examples
    ///
    /// ```
    /// use raddle::chan::{Select, bounded};
    ///
    /// let (s, r) = bounded(0);
    /// let t = std::thread::spawn(move || s.send(10).unwrap());
    /// let mut select = Select::new();
    /// let index = select.recv(&r);
    /// assert_eq!(select.ready(), index);
    /// assert_eq!(r.try_recv(), Ok(10));
    /// # t.join().unwrap();
    /// ```
    #[track_caller]
    pub fn ready(&mut self) -> usize {
        let at = Location::caller();
        self.insist_on_operations(at);
        self.ready_until(Limit::Never, at)
            .expect("a selection without a limit ends with a case")
    }

    /// Waits for at most `timeout` until an operation is ready, and returns its index without carrying it out.
    ///
    /// # Errors
    ///
    /// The time is up.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine; blocks a plain thread.
    ///
    /// # Examples
    ///
    /// ```
    /// use raddle::chan::{Select, bounded};
    /// use std::time::Duration;
    ///
    /// let (_s, r) = bounded::<u8>(0);
    /// let mut select = Select::new();
    /// select.recv(&r);
    /// assert!(select.ready_timeout(Duration::ZERO).is_err());
    /// ```
    #[track_caller]
    pub fn ready_timeout(&mut self, timeout: Duration) -> Result<usize, ReadyTimeoutError> {
        let limit = timeout_ns(timeout).map_or(Limit::Never, Limit::At);
        self.ready_until(limit, Location::caller())
            .ok_or(ReadyTimeoutError)
    }

    /// Waits until `deadline` at most until an operation is ready, and returns its index without carrying it out.
    ///
    /// # Errors
    ///
    /// The time is up.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine; blocks a plain thread.
    ///
    /// # Examples
    ///
    /// ```
    /// use raddle::chan::{Select, bounded};
    /// use std::time::Instant;
    ///
    /// let (_s, r) = bounded::<u8>(0);
    /// let mut select = Select::new();
    /// select.recv(&r);
    /// assert!(select.ready_deadline(Instant::now()).is_err());
    /// ```
    #[track_caller]
    pub fn ready_deadline(&mut self, deadline: Instant) -> Result<usize, ReadyTimeoutError> {
        let limit = deadline_ns(deadline).map_or(Limit::Never, Limit::At);
        self.ready_until(limit, Location::caller())
            .ok_or(ReadyTimeoutError)
    }
}

impl Clone for Select<'_> {
    fn clone(&self) -> Self {
        Self {
            cases: self
                .cases
                .iter()
                .map(|case| Case::new(case.chan(), case.op))
                .collect(),
            listed: self.listed.clone(),
            orders: self.orders.clone(),
            next_index: self.next_index,
            biased: self.biased,
        }
    }
}

impl fmt::Debug for Select<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Select { .. }")
    }
}
