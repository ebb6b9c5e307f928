//! Atomics as Go has them, which are all sequentially consistent. `litmus` has the weaker orders.

use std::hint::black_box;
use std::panic::catch_unwind;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicPtr, AtomicU64, Ordering};

use raddle::sync::Mutex;

use crate::support::*;

pub fn no_race_atomic_add_int64() {
    let (x1, x2) = (var(0i8), var(0i8));
    let s = leak(AtomicI64::new(0));
    both(
        move || {
            *x1.at() = 1;
            if s.fetch_add(1, SeqCst) == 1 {
                *x2.at() = 1;
            }
        },
        move || {
            *x2.at() = 1;
            if s.fetch_add(1, SeqCst) == 1 {
                *x1.at() = 1;
            }
        },
    );
}

pub fn race_atomic_add_int64() {
    let (x1, x2) = (var(0i8), var(0i8));
    let s = leak(AtomicI64::new(0));
    both(
        move || {
            *x1.at() = 1; //~ race one
            if s.fetch_add(1, SeqCst) == 0 {
                *x2.at() = 1; //~ race two
            }
        },
        move || {
            *x2.at() = 1; //~ race two
            if s.fetch_add(1, SeqCst) == 0 {
                *x1.at() = 1; //~ race one
            }
        },
    );
}

pub fn no_race_atomic_add_int32() {
    let (x1, x2) = (var(0i8), var(0i8));
    let s = leak(AtomicI32::new(0));
    both(
        move || {
            *x1.at() = 1;
            if s.fetch_add(1, SeqCst) == 1 {
                *x2.at() = 1;
            }
        },
        move || {
            *x2.at() = 1;
            if s.fetch_add(1, SeqCst) == 1 {
                *x1.at() = 1;
            }
        },
    );
}

/// A goroutine that writes and publishes; the caller, that waits for it and writes.
fn publish<S: Sync>(
    s: &'static S,
    publish: impl FnOnce(&S) + Send + 'static,
    published: impl Fn(&S) -> bool,
) {
    let x = var(0i64);
    beside(
        move || {
            *x.at() = 2;
            publish(s);
        },
        || {
            while !published(s) {
                yield_now();
            }
            *x.at() = 1;
        },
    );
}

fn cas32(s: &AtomicI32, from: i32, to: i32) -> bool {
    s.compare_exchange(from, to, SeqCst, SeqCst).is_ok()
}

fn cas64(s: &AtomicU64, from: u64, to: u64) -> bool {
    s.compare_exchange(from, to, SeqCst, SeqCst).is_ok()
}

pub fn no_race_atomic_load_add_int32() {
    publish(
        leak(AtomicI32::new(0)),
        |s| {
            s.fetch_add(1, SeqCst);
        },
        |s| s.load(SeqCst) == 1,
    );
}

pub fn no_race_atomic_load_store_int32() {
    publish(
        leak(AtomicI32::new(0)),
        |s| s.store(1, SeqCst),
        |s| s.load(SeqCst) == 1,
    );
}

pub fn no_race_atomic_store_cas_int32() {
    publish(
        leak(AtomicI32::new(0)),
        |s| s.store(1, SeqCst),
        |s| cas32(s, 1, 0),
    );
}

pub fn no_race_atomic_cas_load_int32() {
    publish(
        leak(AtomicI32::new(0)),
        |s| assert!(cas32(s, 0, 1)),
        |s| s.load(SeqCst) == 1,
    );
}

pub fn no_race_atomic_cas_cas_int32() {
    publish(
        leak(AtomicI32::new(0)),
        |s| assert!(cas32(s, 0, 1)),
        |s| cas32(s, 1, 0),
    );
}

pub fn no_race_atomic_cas_cas_int32_2() {
    let (x1, x2) = (var(0i8), var(0i8));
    let s = leak(AtomicI32::new(0));
    both(
        move || {
            *x1.at() = 1;
            if !cas32(s, 0, 1) {
                *x2.at() = 1;
            }
        },
        move || {
            *x2.at() = 1;
            if !cas32(s, 0, 1) {
                *x1.at() = 1;
            }
        },
    );
}

pub fn no_race_atomic_load_int64() {
    publish(
        leak(AtomicI64::new(0)),
        |s| {
            s.fetch_add(1, SeqCst);
        },
        |s| s.load(SeqCst) == 1,
    );
}

pub fn no_race_atomic_cas_cas_u_int64() {
    publish(
        leak(AtomicU64::new(0)),
        |s| assert!(cas64(s, 0, 1)),
        |s| cas64(s, 1, 0),
    );
}

pub fn no_race_atomic_load_store_pointer() {
    let p = leak(2);
    publish(
        leak(AtomicPtr::<i32>::default()),
        |s| s.store(std::ptr::from_ref(p).cast_mut(), SeqCst),
        |s| s.load(SeqCst).cast_const() == p,
    );
}

pub fn no_race_atomic_store_cas_uint64() {
    publish(
        leak(AtomicU64::new(0)),
        |s| s.store(1, SeqCst),
        |s| cas64(s, 1, 0),
    );
}

pub fn race_atomic_store_load() {
    let a = leak(AtomicU64::new(0));
    beside(
        move || here(a).store(1, SeqCst), //~ race
        || {
            // SAFETY: alive for ever.
            read(unsafe { *here(a).as_ptr() }); //~ race
        },
    );
}

pub fn race_atomic_load_store() {
    let a = leak(AtomicU64::new(0));
    beside(
        move || {
            read(here(a).load(SeqCst)); //~ race
        },
        // SAFETY: alive for ever.
        || unsafe { *here(a).as_ptr() = 1 }, //~ race
    );
}

pub fn race_atomic_add_load() {
    let a = leak(AtomicU64::new(0));
    beside(
        move || {
            here(a).fetch_add(1, SeqCst); //~ race
        },
        || {
            // SAFETY: alive for ever.
            read(unsafe { *here(a).as_ptr() }); //~ race
        },
    );
}

pub fn race_atomic_add_store() {
    let a = leak(AtomicU64::new(0));
    beside(
        move || {
            here(a).fetch_add(1, SeqCst); //~ race
        },
        // SAFETY: alive for ever.
        || unsafe { *here(a).as_ptr() = 42 }, //~ race
    );
}

/// There is no null to trip over, but an order that std refuses.
pub fn no_race_atomic_crash() {
    let panics = Mutex::new(0);
    let order = black_box(Ordering::Release);
    let caught = catch_unwind(|| AtomicI32::new(0).load(order));
    assert!(caught.is_err());
    *panics.lock() += 1;
}

pub fn no_race_defer_atomic_store() {
    struct AtEnd<'a>(&'a AtomicI64);
    impl Drop for AtEnd<'_> {
        fn drop(&mut self) {
            self.0.store(0, SeqCst);
        }
    }
    fn fork(f: raddle::gc::Gc<AtomicI64>, depth: u32) {
        f.store(1, SeqCst);
        let _at_end = AtEnd(&f);
        let children: Vec<_> = (0..2)
            .filter(|_| depth > 0)
            .map(|_| go(move || fork(raddle::gc::Gc::new(AtomicI64::new(0)), depth - 1)))
            .collect();
        raddle::gc::collect();
        children.into_iter().for_each(|g| g.join().unwrap());
    }
    fork(raddle::gc::Gc::new(AtomicI64::new(0)), 4);
}

// The same through Raddle's own atomics, whose events are typed.

pub fn no_race_raddle_atomic_store_load() {
    use raddle::sync::atomic::AtomicI32;
    publish(
        leak(AtomicI32::new(0)),
        |s| s.store(1, SeqCst),
        |s| s.load(SeqCst) == 1,
    );
}

pub fn no_race_raddle_atomic_cas_add() {
    use raddle::sync::atomic::AtomicU64;
    publish(
        leak(AtomicU64::new(0)),
        |s| {
            s.fetch_add(1, Ordering::Release);
        },
        |s| {
            s.compare_exchange(1, 2, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        },
    );
}

pub fn race_raddle_atomic_relaxed() {
    use raddle::sync::atomic::AtomicU64;
    let x = var(0i64);
    let s = leak(AtomicU64::new(0));
    beside(
        move || {
            *x.at() = 2; //~ race
            s.store(1, Ordering::Relaxed);
        },
        || {
            while s.load(Ordering::Acquire) == 0 {
                yield_now();
            }
            *x.at() = 1; //~ race
        },
    );
}

pub fn race_raddle_atomic_plain() {
    use raddle::sync::atomic::AtomicU64;
    let a = leak(AtomicU64::new(0));
    beside(
        move || {
            here(a).fetch_add(1, SeqCst); //~ race
        },
        || {
            // SAFETY: alive for ever.
            read(unsafe { *here(a).as_ptr() }); //~ race
        },
    );
}
