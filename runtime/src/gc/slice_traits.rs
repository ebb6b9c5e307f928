//! The traits of [`Slice`] that go through to the values, and what it is made from.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::panic::{RefUnwindSafe, UnwindSafe};

use super::slice::Slice;

impl<T: fmt::Debug> fmt::Debug for Slice<T> {
    /// The values'; `<dropped>` where they have been dropped, so that a destructor may print what it sees.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Slice::get_all(self) {
            Some(values) => values.fmt(f),
            None => f.write_str("<dropped>"),
        }
    }
}

impl<T> fmt::Pointer for Slice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Slice::as_ptr(self).fmt(f)
    }
}

impl<T: PartialEq> PartialEq for Slice<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for Slice<T> {}

impl<T: PartialOrd> PartialOrd for Slice<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (**self).partial_cmp(&**other)
    }
}

impl<T: Ord> Ord for Slice<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl<T: Hash> Hash for Slice<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl<T> AsRef<[T]> for Slice<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T> Borrow<[T]> for Slice<T> {
    fn borrow(&self) -> &[T] {
        self
    }
}

impl<'a, T> IntoIterator for &'a Slice<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T> Default for Slice<T> {
    fn default() -> Self {
        Slice::empty()
    }
}

/// Moves the values.
impl<T: Send + 'static> From<Vec<T>> for Slice<T> {
    #[track_caller]
    fn from(values: Vec<T>) -> Self {
        let mut values = values.into_iter();
        Slice::from_fn(values.len(), |_| {
            values.next().expect("there are as many as it says")
        })
    }
}

impl<T: Send + 'static, const N: usize> From<[T; N]> for Slice<T> {
    #[track_caller]
    fn from(values: [T; N]) -> Self {
        let mut values = values.into_iter();
        Slice::from_fn(N, |_| values.next().expect("there are N"))
    }
}

/// By way of a `Vec`: an iterator's own word for its length cannot be trusted.
impl<T: Send + 'static> FromIterator<T> for Slice<T> {
    #[track_caller]
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Vec::from_iter(values).into()
    }
}

impl<T: RefUnwindSafe> UnwindSafe for Slice<T> {}
