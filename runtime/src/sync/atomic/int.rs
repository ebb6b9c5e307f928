//! The integer atomics.

use std::fmt;
use std::panic::Location;
use std::sync::atomic as std_atomic;
use std::sync::atomic::Ordering;

use raddle_race::AtomicOp;

use super::watch::watched;

macro_rules! atomic_ints {
    ($($name:ident $value:ident)*) => {$(
        #[doc = concat!("An atomic `", stringify!($value), "`, known to the race detector by its declared orders.")]
        ///
        /// The interface and the layout are those of the type of the same name in `std::sync::atomic`.
        ///
        /// # Examples
        ///
        /// ```
        #[doc = concat!("use raddle::sync::atomic::{", stringify!($name), ", Ordering};")]
        ///
        #[doc = concat!("static N: ", stringify!($name), " = ", stringify!($name), "::new(1);")]
        /// assert_eq!(N.fetch_add(2, Ordering::AcqRel), 1);
        /// assert_eq!(N.load(Ordering::Acquire), 3);
        /// ```
        #[derive(Default)]
        #[repr(transparent)]
        pub struct $name(std_atomic::$name);

        impl $name {
            /// Returns an atomic with `value` inside.
            #[must_use]
            pub const fn new(value: $value) -> Self {
                Self(std_atomic::$name::new(value))
            }

            /// Returns the atomic at `ptr`.
            ///
            /// # Safety
            ///
            /// As for `std`: `ptr` is aligned, valid for reads and writes for all of `'a`, and meanwhile
            /// accessed by atomic operations only wherever another goroutine may access it.
            pub const unsafe fn from_ptr<'a>(ptr: *mut $value) -> &'a Self {
                // SAFETY: by the contract; the type is transparent over the value.
                unsafe { &*ptr.cast::<Self>() }
            }

            /// Returns the value: an exclusive reference needs no atomic operation.
            pub fn get_mut(&mut self) -> &mut $value {
                self.0.get_mut()
            }

            /// Returns the value.
            pub const fn into_inner(self) -> $value {
                self.0.into_inner()
            }

            /// Returns a pointer to the value.
            pub const fn as_ptr(&self) -> *mut $value {
                self.0.as_ptr()
            }

            /// Loads the value.
            ///
            /// # Panics
            ///
            /// If `order` is `Release` or `AcqRel`.
            #[inline(always)]
            #[track_caller]
            pub fn load(&self, order: Ordering) -> $value {
                self.watch(AtomicOp::Load(order), Location::caller(), |a| a.load(order))
            }

            /// Stores `value`.
            ///
            /// # Panics
            ///
            /// If `order` is `Acquire` or `AcqRel`.
            #[inline(always)]
            #[track_caller]
            pub fn store(&self, value: $value, order: Ordering) {
                self.watch(AtomicOp::Store(order), Location::caller(), |a| a.store(value, order));
            }

            /// Stores `value`, and returns the one before.
            #[inline(always)]
            #[track_caller]
            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                self.watch(AtomicOp::Rmw(order), Location::caller(), |a| a.swap(value, order))
            }

            /// Stores `new` if the value is `current`.
            ///
            /// # Errors
            ///
            /// The value, if it is another.
            ///
            /// # Panics
            ///
            /// If `failure` is `Release` or `AcqRel`.
            #[inline(always)]
            #[track_caller]
            pub fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                watched(
                    self.as_ptr().addr(),
                    size_of::<Self>(),
                    AtomicOp::CompareExchange(success, failure),
                    Location::caller(),
                    || self.0.compare_exchange(current, new, success, failure),
                    Result::is_ok,
                )
            }

            /// As `compare_exchange`, but may fail even if the value is `current`.
            ///
            /// # Errors
            ///
            /// The value found.
            ///
            /// # Panics
            ///
            /// If `failure` is `Release` or `AcqRel`.
            #[inline(always)]
            #[track_caller]
            pub fn compare_exchange_weak(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                watched(
                    self.as_ptr().addr(),
                    size_of::<Self>(),
                    AtomicOp::CompareExchange(success, failure),
                    Location::caller(),
                    || self.0.compare_exchange_weak(current, new, success, failure),
                    Result::is_ok,
                )
            }

            /// Stores what `f` makes of the value, trying again when another was faster, until `f` returns `None`.
            ///
            /// # Errors
            ///
            /// The value for which `f` returned `None`. Otherwise the result is the value before.
            #[inline]
            #[track_caller]
            pub fn try_update(
                &self,
                set_order: Ordering,
                fetch_order: Ordering,
                mut f: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                let mut value = self.load(fetch_order);
                while let Some(next) = f(value) {
                    match self.compare_exchange_weak(value, next, set_order, fetch_order) {
                        Ok(before) => return Ok(before),
                        Err(now) => value = now,
                    }
                }
                Err(value)
            }

            /// As `try_update`, under its older name.
            ///
            /// # Errors
            ///
            /// The value for which `f` returned `None`.
            #[inline]
            #[track_caller]
            pub fn fetch_update(
                &self,
                set_order: Ordering,
                fetch_order: Ordering,
                f: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                self.try_update(set_order, fetch_order, f)
            }

            /// Stores what `f` makes of the value, trying again when another was faster. Returns the value before.
            #[inline]
            #[track_caller]
            pub fn update(
                &self,
                set_order: Ordering,
                fetch_order: Ordering,
                mut f: impl FnMut($value) -> $value,
            ) -> $value {
                let mut value = self.load(fetch_order);
                loop {
                    match self.compare_exchange_weak(value, f(value), set_order, fetch_order) {
                        Ok(before) => return before,
                        Err(now) => value = now,
                    }
                }
            }

            /// Runs an operation that writes unless it is a load.
            #[inline(always)]
            fn watch<R>(
                &self,
                kind: AtomicOp,
                at: &'static Location<'static>,
                op: impl Fn(&std_atomic::$name) -> R,
            ) -> R {
                watched(self.as_ptr().addr(), size_of::<Self>(), kind, at, || op(&self.0), |_| true)
            }

            /// Adds `value`, wrapping around. Returns the value before.
            #[inline(always)]
            #[track_caller]
            pub fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                self.watch(AtomicOp::Rmw(order), Location::caller(), |a| a.fetch_add(value, order))
            }

            /// Subtracts `value`, wrapping around. Returns the value before.
            #[inline(always)]
            #[track_caller]
            pub fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                self.watch(AtomicOp::Rmw(order), Location::caller(), |a| a.fetch_sub(value, order))
            }

            /// Stores the bitwise "and" with `value`. Returns the value before.
            #[inline(always)]
            #[track_caller]
            pub fn fetch_and(&self, value: $value, order: Ordering) -> $value {
                self.watch(AtomicOp::Rmw(order), Location::caller(), |a| a.fetch_and(value, order))
            }

            /// Stores the bitwise "nand" with `value`. Returns the value before.
            #[inline(always)]
            #[track_caller]
            pub fn fetch_nand(&self, value: $value, order: Ordering) -> $value {
                self.watch(AtomicOp::Rmw(order), Location::caller(), |a| a.fetch_nand(value, order))
            }

            /// Stores the bitwise "or" with `value`. Returns the value before.
            #[inline(always)]
            #[track_caller]
            pub fn fetch_or(&self, value: $value, order: Ordering) -> $value {
                self.watch(AtomicOp::Rmw(order), Location::caller(), |a| a.fetch_or(value, order))
            }

            /// Stores the bitwise "exclusive or" with `value`. Returns the value before.
            #[inline(always)]
            #[track_caller]
            pub fn fetch_xor(&self, value: $value, order: Ordering) -> $value {
                self.watch(AtomicOp::Rmw(order), Location::caller(), |a| a.fetch_xor(value, order))
            }

            /// Stores the greater of the value and `value`. Returns the value before.
            #[inline(always)]
            #[track_caller]
            pub fn fetch_max(&self, value: $value, order: Ordering) -> $value {
                self.watch(AtomicOp::Rmw(order), Location::caller(), |a| a.fetch_max(value, order))
            }

            /// Stores the smaller of the value and `value`. Returns the value before.
            #[inline(always)]
            #[track_caller]
            pub fn fetch_min(&self, value: $value, order: Ordering) -> $value {
                self.watch(AtomicOp::Rmw(order), Location::caller(), |a| a.fetch_min(value, order))
            }
        }

        impl From<$value> for $name {
            fn from(value: $value) -> Self {
                Self::new(value)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

atomic_ints! {
    AtomicI8 i8
    AtomicI16 i16
    AtomicI32 i32
    AtomicI64 i64
    AtomicIsize isize
    AtomicU8 u8
    AtomicU16 u16
    AtomicU32 u32
    AtomicU64 u64
    AtomicUsize usize
}
