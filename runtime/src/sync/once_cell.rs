//! [`OnceCell`]: a value that is set once, and read by everybody.
//!
//! # Invariants
//!
//! 1. The value is initialised exactly if `once` is completed; it is written by the goroutine that runs `once`, inside.

use std::cell::UnsafeCell;
use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};

use super::once::Once;

/// A value that is set once, by whoever comes first, and then shared: `std::sync::OnceLock` for goroutines.
///
/// **Blocking**: [`get_or_init`](OnceCell::get_or_init), [`set`](OnceCell::set) and [`wait`](OnceCell::wait) park the
/// goroutine while another initialises the cell; on a plain thread they block that thread.
///
/// **Happens-before**: the initialisation happens before every call that returns the value.
///
/// # Examples
///
/// ```
/// use raddle::sync::OnceCell;
///
/// static NAME: OnceCell<String> = OnceCell::new();
///
/// assert_eq!(NAME.get(), None);
/// assert_eq!(NAME.get_or_init(|| "raddle".to_owned()), "raddle");
/// assert_eq!(NAME.set("other".to_owned()), Err("other".to_owned()));
/// ```
pub struct OnceCell<T> {
    once: Once,
    value: UnsafeCell<MaybeUninit<T>>,
    /// Dropping a cell drops a `T`.
    owns: PhantomData<T>,
}

// SAFETY: a shared cell shares the value, and one goroutine may set what another drops.
unsafe impl<T: Sync + Send> Sync for OnceCell<T> {}
// SAFETY: the cell owns the value.
unsafe impl<T: Send> Send for OnceCell<T> {}
impl<T: RefUnwindSafe + UnwindSafe> RefUnwindSafe for OnceCell<T> {}
impl<T: UnwindSafe> UnwindSafe for OnceCell<T> {}

impl<T> OnceCell<T> {
    /// Returns an empty cell.
    #[must_use]
    pub const fn new() -> OnceCell<T> {
        OnceCell {
            once: Once::new(),
            value: UnsafeCell::new(MaybeUninit::uninit()),
            owns: PhantomData,
        }
    }

    /// Returns the value, if it is set. Never waits.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        if self.once.is_completed() {
            // SAFETY: completed.
            Some(unsafe { self.value_ref() })
        } else {
            None
        }
    }

    /// Returns the value, if it is set.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        if self.once.is_completed() {
            // SAFETY: initialised by invariant 1.
            Some(unsafe { self.value.get_mut().assume_init_mut() })
        } else {
            None
        }
    }

    /// Sets the value.
    ///
    /// # Errors
    ///
    /// The value given, if the cell has one already.
    #[track_caller]
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut value = Some(value);
        self.get_or_init(|| value.take().expect("runs once"));
        value.map_or(Ok(()), Err)
    }

    /// Returns the value, set by `f` if it was not.
    ///
    /// If `f` panics the cell stays empty. Initialising the cell again from inside `f` waits for ever.
    #[inline]
    #[track_caller]
    pub fn get_or_init(&self, f: impl FnOnce() -> T) -> &T {
        match self.get_or_try_init(|| Ok::<T, Infallible>(f())) {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }

    /// Returns the value, set by `f` if it was not and `f` succeeds.
    ///
    /// # Errors
    ///
    /// That of `f`; the cell stays empty.
    #[inline]
    #[track_caller]
    pub fn get_or_try_init<E>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        if let Some(value) = self.get() {
            return Ok(value);
        }
        let mut f = Some(f);
        let mut failed = None;
        self.once.run(Location::caller(), &mut || {
            let Some(f) = f.take() else { return false };
            match f() {
                Ok(value) => {
                    // SAFETY: by invariant 1 nobody else reads or writes the value now.
                    unsafe { self.value.get().write(MaybeUninit::new(value)) };
                    true
                }
                Err(error) => {
                    failed = Some(error);
                    false
                }
            }
        });
        match failed {
            Some(error) => Err(error),
            // SAFETY: `run` has returned without a failure, so `once` is completed.
            None => Ok(unsafe { self.value_ref() }),
        }
    }

    /// Waits until another has set the value.
    ///
    /// **Blocking**: parks the goroutine until then.
    #[track_caller]
    pub fn wait(&self) -> &T {
        self.once.wait();
        // SAFETY: completed.
        unsafe { self.value_ref() }
    }

    /// The value.
    ///
    /// # Safety
    ///
    /// `once` is completed.
    unsafe fn value_ref(&self) -> &T {
        // SAFETY: no longer written once it is completed.
        let value = unsafe { &*self.value.get() };
        // SAFETY: initialised, by invariant 1.
        unsafe { value.assume_init_ref() }
    }

    /// Takes the value out, which leaves the cell empty.
    pub fn take(&mut self) -> Option<T> {
        if !self.once.is_completed() {
            return None;
        }
        self.once = Once::new();
        // SAFETY: was completed: invariant 1; no longer is, so nobody will read it again.
        Some(unsafe { self.value.get_mut().assume_init_read() })
    }

    /// Returns the value, if it was set.
    pub fn into_inner(mut self) -> Option<T> {
        self.take()
    }
}

impl<T> Drop for OnceCell<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

impl<T> Default for OnceCell<T> {
    fn default() -> OnceCell<T> {
        OnceCell::new()
    }
}

impl<T> From<T> for OnceCell<T> {
    fn from(value: T) -> OnceCell<T> {
        let cell = OnceCell::new();
        cell.get_or_init(|| value);
        cell
    }
}

impl<T: Clone> Clone for OnceCell<T> {
    fn clone(&self) -> OnceCell<T> {
        self.get()
            .map_or_else(OnceCell::new, |value| OnceCell::from(value.clone()))
    }
}

impl<T: PartialEq> PartialEq for OnceCell<T> {
    fn eq(&self, other: &OnceCell<T>) -> bool {
        self.get() == other.get()
    }
}

impl<T: Eq> Eq for OnceCell<T> {}

impl<T: fmt::Debug> fmt::Debug for OnceCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut d = f.debug_tuple("OnceCell");
        match self.get() {
            Some(value) => d.field(value),
            None => d.field(&format_args!("<unset>")),
        };
        d.finish()
    }
}
