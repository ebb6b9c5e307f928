//! [`Var`]: a variable that goroutines may share without a lock.

use std::cell::UnsafeCell;
use std::fmt;
use std::ops::Add;
use std::panic::{Location, RefUnwindSafe};

use super::value::{self, Value};
use crate::sync::events;

/// A variable as in Go: any goroutine may read and write it, and must not do so without order.
///
/// There is no lock and no atomic read-modify-write: `v.set(v.get() + 1)` from two goroutines loses counts, and
/// in race mode is reported. The behaviour stays defined: at worst a value of several words is torn.
///
/// **Blocking**: never.
///
/// **Happens-before**: none.
///
/// # Examples
///
/// ```
/// use raddle::shared::Var;
///
/// static TOTAL: Var<u64> = Var::new(0);
///
/// TOTAL.set(TOTAL.get() + 2);
/// TOTAL.add(3);
/// assert_eq!(TOTAL.get(), 5);
/// ```
pub struct Var<T: Value> {
    value: UnsafeCell<T>,
}

// SAFETY: shared access is by relaxed atomics only, and a `Value` may be sent.
unsafe impl<T: Value> Sync for Var<T> {}
impl<T: Value> RefUnwindSafe for Var<T> {}

impl<T: Value> Var<T> {
    /// Returns a variable with `value` inside.
    pub const fn new(value: T) -> Var<T> {
        Var {
            value: UnsafeCell::new(value),
        }
    }

    /// Reads the variable.
    ///
    /// # Panics
    ///
    /// If the value was torn by a race and is none of its type, which no type of one word can be.
    #[inline]
    #[track_caller]
    pub fn get(&self) -> T {
        events::read(self.value.get().addr(), size_of::<T>(), Location::caller());
        // SAFETY: always initialised, and shared by `load` and `store` only.
        unsafe { value::load(self.value.get()) }
    }

    /// Writes the variable.
    #[inline]
    #[track_caller]
    pub fn set(&self, value: T) {
        events::write(self.value.get().addr(), size_of::<T>(), Location::caller());
        // SAFETY: as in `get`.
        unsafe { value::store(self.value.get(), value) };
    }

    /// Reads the variable and writes what `f` makes of it: two accesses, not one.
    #[inline]
    #[track_caller]
    pub fn update(&self, f: impl FnOnce(T) -> T) {
        self.set(f(self.get()));
    }

    /// Adds `n`, as `v += n` does in Go: a read and a write, not one access.
    #[inline]
    #[track_caller]
    pub fn add(&self, n: T)
    where
        T: Add<Output = T>,
    {
        self.set(self.get() + n);
    }

    /// Returns the value: an exclusive reference cannot race.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Returns the value.
    pub fn into_inner(mut self) -> T {
        *self.get_mut()
    }
}

impl<T: Value> Drop for Var<T> {
    #[inline]
    fn drop(&mut self) {
        events::gone(self.value.get().addr(), size_of::<T>());
    }
}

impl<T: Value + Default> Default for Var<T> {
    fn default() -> Var<T> {
        Var::new(T::default())
    }
}

impl<T: Value> From<T> for Var<T> {
    fn from(value: T) -> Var<T> {
        Var::new(value)
    }
}

impl<T: Value + fmt::Debug> fmt::Debug for Var<T> {
    #[track_caller]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Var").field(&self.get()).finish()
    }
}
