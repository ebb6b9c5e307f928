//! Which types may cross threads.

use std::cell::Cell;
use std::rc::Rc;

use crate::sync::*;

/// Whether a type implements a trait, asked by method resolution: the inherent method wins where its bound holds.
macro_rules! implements {
    ($t:ty, $tr:ident) => {{
        struct Probe<T: ?Sized>(std::marker::PhantomData<T>);
        #[allow(dead_code, reason = "not asked where the bound holds")]
        trait No {
            fn answer(&self) -> bool {
                false
            }
        }
        impl<T: ?Sized> No for Probe<T> {}
        #[allow(
            dead_code,
            reason = "where the bound fails the trait's method is chosen"
        )]
        impl<T: ?Sized + $tr> Probe<T> {
            fn answer(&self) -> bool {
                true
            }
        }
        Probe::<$t>(std::marker::PhantomData).answer()
    }};
}

macro_rules! auto_traits {
    ($($t:ty: $send:literal $sync:literal;)*) => {$(
        assert_eq!((implements_send!($t), implements_sync!($t)), ($send, $sync), stringify!($t));
    )*};
}
macro_rules! implements_send {
    ($t:ty) => {
        implements!($t, Send)
    };
}
macro_rules! implements_sync {
    ($t:ty) => {
        implements!($t, Sync)
    };
}

#[test]
fn auto_traits_are_those_of_std() {
    auto_traits! {
        Mutex<u8>: true true;
        Mutex<Cell<u8>>: true true;
        Mutex<Rc<u8>>: false false;
        MutexGuard<'static, u8>: false true;
        MutexGuard<'static, Cell<u8>>: false false;
        MappedMutexGuard<'static, u8>: false true;
        RwLock<u8>: true true;
        RwLock<Cell<u8>>: true false;
        RwLock<Rc<u8>>: false false;
        RwLockReadGuard<'static, u8>: false true;
        RwLockWriteGuard<'static, u8>: false true;
        MappedRwLockReadGuard<'static, u8>: false true;
        MappedRwLockWriteGuard<'static, u8>: false true;
        RwLockWriteGuard<'static, Cell<u8>>: false false;
        Condvar: true true;
        Once: true true;
        OnceCell<u8>: true true;
        OnceCell<Cell<u8>>: true false;
        OnceCell<Rc<u8>>: false false;
        Lazy<u8>: true true;
        Lazy<Cell<u8>>: true false;
        Lazy<u8, Rc<u8>>: false false;
        Barrier: true true;
        Semaphore: true true;
        SemaphorePermit<'static>: true true;
        WaitGroup: true true;
    }
}
