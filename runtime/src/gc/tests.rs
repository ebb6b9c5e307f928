//! Which of the handles may cross threads and unwinding, and what the compiler makes of their layout.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;

use super::{Atomic, Gc, Slice, Weak};

/// Whether a type implements a trait, asked by method resolution: the inherent method wins where its bound holds.
macro_rules! implements {
    ($t:ty: $tr:ident) => {{
        struct Probe<T: ?Sized>(PhantomData<T>);
        #[allow(dead_code, reason = "not asked where the bound holds")]
        trait No {
            fn answer(&self) -> bool {
                false
            }
        }
        impl<T: ?Sized> No for Probe<T> {}
        #[allow(dead_code, reason = "where the bound fails the trait's is asked")]
        impl<T: ?Sized + $tr> Probe<T> {
            fn answer(&self) -> bool {
                true
            }
        }
        Probe::<$t>(PhantomData).answer()
    }};
}

macro_rules! threads {
    ($($t:ty: $both:literal;)*) => {$(
        assert_eq!([implements!($t: Send), implements!($t: Sync)], [$both; 2], stringify!($t));
    )*};
}

#[test]
fn handles_cross_threads_as_their_values_shared_and_owned_do() {
    threads! {
        Gc<u8>: true; Slice<u8>: true; Weak<u8>: true; Atomic<u8>: true;
        // Shared it would be changed by two at once.
        Gc<Cell<u8>>: false; Slice<Cell<u8>>: false; Weak<Cell<u8>>: false; Atomic<Cell<u8>>: false;
        // It would be dropped on another thread.
        Gc<Rc<u8>>: false; Slice<Rc<u8>>: false; Weak<Rc<u8>>: false; Atomic<Rc<u8>>: false;
        // `Sync` and not `Send`.
        Gc<std::sync::MutexGuard<'static, u8>>: false;
        Gc<Gc<u8>>: true; Gc<Atomic<Gc<u8>>>: true;
    }
}

#[test]
fn handles_cross_unwinding_as_references_do() {
    assert!(implements!(Gc<u8>: UnwindSafe) && implements!(Gc<u8>: RefUnwindSafe));
    assert!(implements!(Slice<u8>: UnwindSafe) && implements!(Weak<u8>: UnwindSafe));
    assert!(!implements!(Gc<RefCell<u8>>: UnwindSafe));
    assert!(!implements!(Slice<RefCell<u8>>: UnwindSafe));
}

#[test]
fn a_handle_is_an_address_and_nothing_is_null() {
    assert_eq!(size_of::<Option<Gc<u8>>>(), size_of::<usize>());
    assert_eq!(size_of::<Option<Weak<u8>>>(), 2 * size_of::<usize>());
    assert_eq!(size_of::<Option<Slice<u8>>>(), 2 * size_of::<usize>());
    assert_eq!(size_of::<Atomic<u8>>(), size_of::<usize>());
}
