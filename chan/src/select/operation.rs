//! A chosen operation, to be completed by its user.

use super::Token;
use super::stash::Stash;
use crate::core::{Chan, Grant};
use crate::elem::Slot;
use crate::error::{RecvError, SendError};
use crate::handle;
use crate::hooks;
use crate::receiver::Receiver;
use crate::sender::Sender;
use raddle_race::carry;
use raddle_sched::enter;
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::num::NonZeroU64;
use std::panic::Location;
use std::ptr;

/// The operation that a select has chosen, which must be completed by [`send`](SelectedOperation::send) or
/// [`recv`](SelectedOperation::recv). Neither waits.
///
/// # Panics
///
/// Dropping it uncompleted panics (unless the thread is panicking already): what was received is dropped, what was
/// reserved for a send is given back.
///
/// # Leaks
///
/// Dropping it uncompleted on another thread or goroutine than the one that called
/// [`Select::recv`](crate::Select::recv) leaks what was received: it may be of a type that must not
/// be dropped elsewhere.
///
/// Forgetting it ([`mem::forget`]) leaks what it holds: a received message is lost without being dropped. A send keeps its place
/// in the buffer for ever, so the capacity is one less; on a channel of capacity zero the receiver that it was to meet waits for
/// ever, even if the channel is closed.
#[must_use = "complete the operation with `send` or `recv`; dropping it panics"]
pub struct SelectedOperation<'a> {
    chan: &'a Chan,
    index: usize,
    token: Token,
    stash: Stash,
    dropper: Dropper,
    at: &'static Location<'static>,
    _handle: PhantomData<&'a ()>,
}

/// Who may drop a received message whose type is forgotten: the goroutine or thread of this number,
/// which no other ever has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Dropper(Option<NonZeroU64>);

impl Dropper {
    /// The message has no destructor, or the operation cannot leave its thread.
    pub(super) const ANYBODY: Self = Self(None);

    /// The caller alone.
    #[inline(never)]
    pub(super) fn caller() -> Self {
        let id = NonZeroU64::new(enter().g().id());
        Self(Some(id.expect("goroutines and threads count from 1")))
    }

    fn is_caller(self) -> bool {
        self == Self::ANYBODY || self == Self::caller()
    }
}

impl<'a> SelectedOperation<'a> {
    /// # Safety
    ///
    /// A selection came to `token` for `chan`, with the element, if it received one, in `stash`;
    /// `dropper` may drop it.
    #[inline]
    pub(super) unsafe fn new(
        chan: &'a Chan,
        index: usize,
        token: Token,
        (stash, dropper): (Stash, Dropper),
        at: &'static Location<'static>,
    ) -> Self {
        Self {
            chan,
            index,
            token,
            stash,
            dropper,
            at,
            _handle: PhantomData,
        }
    }

    /// No operation, with an empty stash: to be dropped, or to [become](Self::become_chosen) one,
    /// which stays in the frame of its select and so on its thread.
    pub(crate) fn none(at: &'static Location<'static>) -> Self {
        let nothing = (Stash::new(), Dropper::ANYBODY);
        // SAFETY: nothing was chosen, nothing is to be completed.
        unsafe { Self::new(handle::never(), 0, Token::Complete, nothing, at) }
    }

    pub(crate) fn stash(&mut self) -> &mut Stash {
        &mut self.stash
    }

    /// # Safety
    ///
    /// As for [`new`](Self::new), with the stash of [`stash`](Self::stash).
    pub(crate) unsafe fn become_chosen(&mut self, chan: &'a Chan, index: usize, token: Token) {
        (self.chan, self.index, self.token) = (chan, index, token);
    }

    /// Returns the index of the operation, as [`Select::send`](crate::Select::send) or [`Select::recv`](crate::Select::recv)
    /// returned it.
    ///
    /// # Examples
    ///
    /// ```
    /// use raddle::chan::{Select, bounded};
    ///
    /// let (_s1, r1) = bounded::<u8>(1);
    /// let (s2, r2) = bounded(1);
    /// s2.send(7).unwrap();
    /// let mut select = Select::new();
    /// select.recv(&r1);
    /// let second = select.recv(&r2);
    /// let oper = select.select();
    /// assert_eq!(oper.index(), second);
    /// assert_eq!(oper.recv(&r2), Ok(7));
    /// ```
    #[must_use]
    #[inline]
    pub fn index(&self) -> usize {
        self.index
    }

    /// Completes a send.
    ///
    /// # Errors
    ///
    /// The channel is closed; the message comes back in the error.
    ///
    /// # Panics
    ///
    /// If the operation is not a send on the channel of `sender`.
    ///
    /// # Blocking
    ///
    /// Neither parks nor blocks.
    ///
    /// # Happens-before
    ///
    /// As for [`Sender::send`].
    ///
    /// # Examples
    ///
    /// ```
    /// use raddle::chan::{Select, SendError, bounded};
    ///
    /// let (s, r) = bounded(1);
    /// drop(r);
    /// let mut select = Select::new();
    /// select.send(&s);
    /// assert_eq!(select.select().send(&s, 10), Err(SendError(10)));
    /// ```
    #[inline]
    #[track_caller]
    pub fn send<T>(mut self, sender: &Sender<T>, msg: T) -> Result<(), SendError<T>> {
        self.complete_send(sender, msg)
    }

    #[inline(always)]
    #[track_caller]
    pub(super) fn complete_send<T>(
        &mut self,
        sender: &Sender<T>,
        msg: T,
    ) -> Result<(), SendError<T>> {
        let (chan, at) = (sender.raw().chan(), Location::caller());
        let grant = self.take_grant(chan, at);
        let mut slot = Slot::empty();
        let place = slot.fill(msg);
        // SAFETY: the grant is used up, on its channel; an owned message.
        if unsafe { chan.complete_send(grant, place, at) } {
            Ok(())
        } else {
            // SAFETY: it was not moved from.
            Err(SendError(unsafe { slot.take() }))
        }
    }

    /// Takes the grant of a send on `chan`.
    #[inline(never)]
    fn take_grant(&mut self, chan: &Chan, at: &'static Location<'static>) -> Grant {
        match self.token {
            Token::Granted(grant) if ptr::eq(chan, self.chan) => {
                self.token = Token::Complete;
                grant
            }
            _ => wrong_handle("sender", at),
        }
    }

    /// Completes a receive.
    ///
    /// # Errors
    ///
    /// The channel is empty and closed.
    ///
    /// # Panics
    ///
    /// If the operation is not a receive on the channel of `receiver`.
    ///
    /// # Blocking
    ///
    /// Neither parks nor blocks.
    ///
    /// # Happens-before
    ///
    /// As for [`Receiver::recv`].
    ///
    /// # Examples
    ///
    /// ```
    /// use raddle::chan::{RecvError, Select, bounded};
    ///
    /// let (s, r) = bounded::<u8>(1);
    /// drop(s);
    /// let mut select = Select::new();
    /// select.recv(&r);
    /// assert_eq!(select.select().recv(&r), Err(RecvError));
    /// ```
    #[inline]
    #[track_caller]
    pub fn recv<T>(mut self, receiver: &Receiver<T>) -> Result<T, RecvError> {
        self.complete_recv(receiver)
    }

    #[inline(always)]
    #[track_caller]
    pub(super) fn complete_recv<T>(&mut self, receiver: &Receiver<T>) -> Result<T, RecvError> {
        let src = self.finish_recv(receiver.raw().chan(), Location::caller());
        if src.is_null() {
            return Err(RecvError);
        }
        // SAFETY: a `T`, since `receiver` is of the operation's channel; it is ours, and the stash, which alone knows the place,
        // forgets it.
        Ok(unsafe { carry::take(src.cast::<T>()) })
    }

    /// Where the received element is, which is the caller's now; null: the channel is closed.
    #[inline(never)]
    fn finish_recv(&mut self, chan: &Chan, at: &'static Location<'static>) -> *mut u8 {
        match self.token {
            Token::Received if ptr::eq(chan, self.chan) => {
                self.token = Token::Complete;
                self.stash.slot(chan.elem())
            }
            Token::RecvClosed if ptr::eq(chan, self.chan) => {
                self.token = Token::Complete;
                hooks::finds_closed(chan);
                ptr::null_mut()
            }
            _ => wrong_handle("receiver", at),
        }
    }
}

#[cold]
fn wrong_handle(handle: &str, at: &'static Location<'static>) -> ! {
    panic!(
        "{at}: passed a {handle} whose operation was not selected: complete the operation that `index()` names"
    )
}

impl SelectedOperation<'_> {
    #[inline]
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.token, Token::Complete)
    }

    /// Gives up what was not completed.
    ///
    /// # Panics
    ///
    /// If dropping the received message does.
    #[cold]
    pub(super) fn abandon(&mut self) {
        match mem::replace(&mut self.token, Token::Complete) {
            Token::Received if self.dropper.is_caller() => {
                let slot = self.stash.slot(self.chan.elem());
                // SAFETY: the element is ours, and ours to drop.
                unsafe { self.chan.elem().drop_one(slot) };
            }
            // SAFETY: the grant is used up by this.
            Token::Granted(grant) => unsafe { self.chan.abandon_send(grant) },
            Token::Received | Token::RecvClosed | Token::Ready | Token::Complete => {}
        }
    }
}

impl Drop for SelectedOperation<'_> {
    fn drop(&mut self) {
        if self.is_complete() {
            return;
        }
        self.abandon();
        if !std::thread::panicking() {
            panic!(
                "dropped the `SelectedOperation` of the select at {} without completing it",
                self.at
            );
        }
    }
}

impl fmt::Debug for SelectedOperation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("SelectedOperation { .. }")
    }
}
