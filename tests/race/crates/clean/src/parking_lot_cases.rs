//! parking_lot: locks, condition variables, once.

use parking_lot::{Condvar, FairMutex, Mutex, Once, ReentrantMutex, RwLock};
use std::cell::Cell;
use std::thread;

pub const ALL: &[(&str, fn())] = &[
    ("parking_lot_mutex", mutex),
    ("parking_lot_rwlock", rwlock),
    ("parking_lot_condvar", condvar),
    ("parking_lot_once", once),
    ("parking_lot_other", other),
];

fn mutex() {
    let m = Mutex::new(vec![0u64]);
    thread::scope(|s| {
        for i in 0..4 {
            let m = &m;
            s.spawn(move || (0..200).for_each(|_| m.lock().push(i)));
        }
    });
    assert_eq!(m.into_inner().len(), 801);
}

fn rwlock() {
    let l = RwLock::new(vec![0u64; 8]);
    thread::scope(|s| {
        for n in 0..4 {
            let l = &l;
            s.spawn(move || {
                for i in 0..200 {
                    if i % 8 == n {
                        l.write()[n] += 1;
                    } else {
                        std::hint::black_box(l.read().iter().sum::<u64>());
                    }
                    if i % 16 == n {
                        let up = l.upgradable_read();
                        let mut w = parking_lot::RwLockUpgradableReadGuard::upgrade(up);
                        w[n] += 1;
                    }
                }
            });
        }
    });
}

fn condvar() {
    let (m, c) = (Mutex::new(Vec::new()), Condvar::new());
    thread::scope(|s| {
        s.spawn(|| {
            for i in 0..100 {
                m.lock().push(Box::new(i));
                c.notify_one();
            }
        });
        s.spawn(|| {
            for _ in 0..100 {
                let mut q = m.lock();
                while q.is_empty() {
                    c.wait(&mut q);
                }
                std::hint::black_box(q.pop().map(|b| *b));
            }
        });
    });
}

fn once() {
    static ONCE: Once = Once::new();
    static mut VALUE: u64 = 0;
    thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                // SAFETY: the one call that writes happens before every return.
                ONCE.call_once(|| unsafe { VALUE = 1 });
                // SAFETY: as above.
                assert_eq!(unsafe { *(&raw const VALUE) }, 1);
            });
        }
    });
}

fn other() {
    let (r, f) = (ReentrantMutex::new(Cell::new(0)), FairMutex::new(0));
    thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                for _ in 0..100 {
                    let outer = r.lock();
                    let inner = r.lock();
                    inner.set(outer.get() + 1);
                    *f.lock() += 1;
                }
            });
        }
    });
    assert_eq!((r.lock().get(), *f.lock()), (300, 300));
}
