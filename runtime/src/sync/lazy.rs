//! [`Lazy`]: a value that is made when it is first used.

use std::cell::Cell;
use std::fmt;
use std::ops::Deref;
use std::panic::RefUnwindSafe;

use super::once_cell::OnceCell;

/// A value that is made when it is first used: `std::sync::LazyLock` for goroutines.
///
/// **Blocking**: using it parks the goroutine while another makes the value; on a plain thread it blocks that thread.
///
/// **Happens-before**: the making happens before every use.
///
/// # Panics
///
/// Using it panics if making the value has panicked.
///
/// # Examples
///
/// ```
/// use raddle::sync::Lazy;
///
/// static SQUARES: Lazy<Vec<u32>> = Lazy::new(|| (0..10).map(|n| n * n).collect());
///
/// assert_eq!(SQUARES[3], 9);
/// ```
pub struct Lazy<T, F = fn() -> T> {
    cell: OnceCell<T>,
    /// Taken by the goroutine that initialises `cell`, inside.
    init: Cell<Option<F>>,
}

// SAFETY: `init` is touched only by the one goroutine that runs the cell's initialisation, or with exclusive access.
unsafe impl<T: Sync + Send, F: Send> Sync for Lazy<T, F> {}
impl<T, F> RefUnwindSafe for Lazy<T, F> where OnceCell<T>: RefUnwindSafe {}

impl<T, F: FnOnce() -> T> Lazy<T, F> {
    /// Returns a value that `init` makes when it is first used.
    pub const fn new(init: F) -> Lazy<T, F> {
        Lazy {
            cell: OnceCell::new(),
            init: Cell::new(Some(init)),
        }
    }

    /// Makes the value unless it is made, and returns it.
    #[inline]
    #[track_caller]
    pub fn force(this: &Lazy<T, F>) -> &T {
        this.cell.get_or_init(|| match this.init.take() {
            Some(init) => init(),
            None => panic!("this Lazy has no value: making it has panicked before"),
        })
    }

    /// Returns the value, if it is made.
    pub fn get(this: &Lazy<T, F>) -> Option<&T> {
        this.cell.get()
    }
}

impl<T, F: FnOnce() -> T> Deref for Lazy<T, F> {
    type Target = T;

    #[inline]
    #[track_caller]
    fn deref(&self) -> &T {
        Lazy::force(self)
    }
}

impl<T: Default> Default for Lazy<T> {
    fn default() -> Lazy<T> {
        Lazy::new(T::default)
    }
}

impl<T: fmt::Debug, F> fmt::Debug for Lazy<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut d = f.debug_tuple("Lazy");
        match self.cell.get() {
            Some(value) => d.field(value),
            None => d.field(&format_args!("<not made>")),
        };
        d.finish()
    }
}
