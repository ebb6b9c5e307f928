//! Race mode knows every edge of the primitives, and makes none up.
//!
//! Each case runs in a process of its own, since race mode is for a whole process: this very test program, told by
//! the environment which case to run. Its exit status says whether a race was reported. What comes first in a case is
//! forced by `std`'s atomics, which make no edge in a program that is not instrumented.

use std::env;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic as unwatched;

use crate::shared::{Map, Slice, Var};
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use crate::sync::{
    Barrier, Condvar, Lazy, Mutex, Once, OnceCell, RwLock, RwLockWriteGuard, Semaphore, WaitGroup,
};
use crate::time::{Duration, Ticker, Timer, after_func};

/// The memory that is raced for, a step that others wait for, and the primitives.
#[derive(Default)]
struct World {
    v: Var<u64>,
    u: Var<u64>,
    step: unwatched::AtomicU32,
    mutex: Mutex<bool>,
    rwlock: RwLock<()>,
    cond: Condvar,
    group: WaitGroup,
    once: Once,
    cell: OnceCell<u8>,
    semaphore: Semaphore,
    flag: AtomicU32,
}

impl World {
    /// Lets `after` with this number go on.
    fn reach(&self, step: u32) {
        self.step.store(step, Ordering::SeqCst);
    }

    /// Waits, without an edge, until another has come that far.
    fn after(&self, step: u32) {
        super::until(|| self.step.load(Ordering::SeqCst) >= step);
    }
}

type Case = fn(&Arc<World>);

/// Panics, and says nothing about it.
fn fail_after(f: impl FnOnce()) {
    f();
    std::panic::resume_unwind(Box::new(()));
}

/// Runs both on goroutines of their own.
fn two(w: &Arc<World>, a: fn(&World), b: fn(&World)) {
    let (w1, w2) = (w.clone(), w.clone());
    let (a, b) = (crate::go(move || a(&w1)), crate::go(move || b(&w2)));
    a.join().expect("no panic");
    b.join().expect("no panic");
}

/// Uses one after another, by two goroutines, that come to lie at the same address: the second has nothing of the first.
fn in_one_place<T: Send + 'static>(w: &Arc<World>, make: fn() -> T, pass: fn(&T)) {
    let place = Arc::new(std::sync::Mutex::new(None));
    let use_it = move |w: &World, place: &std::sync::Mutex<Option<T>>| {
        let mut place = place.lock().expect("no panic");
        let it = place.insert(make());
        let first = w.step.load(Ordering::SeqCst) == 0;
        if first {
            w.v.set(1);
        }
        pass(it);
        if !first {
            w.v.set(2);
        }
        *place = None;
    };
    let (w1, p1) = (w.clone(), place.clone());
    let first = crate::go(move || {
        use_it(&w1, &p1);
        w1.reach(1);
    });
    let w2 = w.clone();
    let second = crate::go(move || {
        w2.after(1);
        use_it(&w2, &place);
    });
    first.join().expect("no panic");
    second.join().expect("no panic");
}

/// What makes no edge, and so leaves a race.
const RACY: &[(&str, Case)] = &[
    ("nothing", |w| two(w, |w| w.v.set(1), |w| w.v.set(2))),
    ("nothing, on the smallest stacks", |w| {
        let start = |value| {
            let w = w.clone();
            let builder = crate::Builder::new().stack_size(1);
            builder.spawn(move || w.v.set(value)).expect("a stack")
        };
        let (first, second) = (start(1), start(2));
        first.join().expect("no panic");
        second.join().expect("no panic");
    }),
    ("read and write", |w| {
        two(w, |w| w.v.set(1), |w| _ = w.v.get())
    }),
    ("another mutex", |w| {
        two(
            w,
            |w| {
                let _held = w.mutex.lock();
                w.v.set(1);
            },
            |w| {
                let _held = w.rwlock.write();
                w.v.set(2);
            },
        );
    }),
    ("try_lock that fails", |w| {
        two(
            w,
            |w| {
                let held = w.mutex.lock();
                w.v.set(1);
                w.reach(1);
                w.after(2);
                drop(held);
            },
            |w| {
                w.after(1);
                assert!(w.mutex.try_lock().is_none());
                w.v.set(2);
                w.reach(2);
            },
        );
    }),
    ("read locks", |w| {
        let write = |w: &World| {
            let _held = w.rwlock.read();
            w.v.update(|v| v + 1);
        };
        two(w, write, write);
    }),
    ("one read lock after another", |w| {
        two(
            w,
            |w| {
                let held = w.rwlock.read();
                w.v.set(1);
                drop(held);
                w.reach(1);
            },
            |w| {
                w.after(1);
                let _held = w.rwlock.read();
                w.v.set(2);
            },
        );
    }),
    ("relaxed atomics", |w| {
        two(
            w,
            |w| {
                w.v.set(1);
                w.flag.store(1, Ordering::Relaxed);
            },
            |w| {
                super::until(|| w.flag.load(Ordering::Relaxed) == 1);
                w.v.set(2);
            },
        );
    }),
    ("a wait group's members among themselves", |w| {
        w.group.add(2);
        let member = |w: &World| {
            w.v.set(1);
            w.group.done();
        };
        two(w, member, member);
    }),
    ("a wait group's first add beside its wait", |w| {
        two(
            w,
            |w| {
                w.group.add(1);
                w.reach(1);
                super::until(|| format!("{:?}", w.group).contains("waiters: 1"));
                w.group.done();
            },
            |w| {
                w.after(1);
                w.group.wait();
            },
        );
    }),
    ("a map", |_| {
        let map = Map::from([(1, 1)]);
        let (a, b) = (map.clone(), map);
        let first = crate::go(move || a.insert(2, 2));
        let second = crate::go(move || {
            crate::yield_now();
            b.get(&1)
        });
        first.join().expect("no panic");
        second.join().expect("no panic");
    }),
    ("an element of a slice", |_| {
        let slice = Slice::from(vec![1, 2, 3]);
        let (a, b) = (slice.clone(), slice.slice(1..));
        let first = crate::go(move || a.set(1, 9));
        let second = crate::go(move || b.get(0));
        first.join().expect("no panic");
        second.join().expect("no panic");
    }),
    ("a mutex in the place of another", |w| {
        in_one_place(w, Mutex::<()>::default, |m| drop(m.lock()));
    }),
    ("a lock in the place of another, write", |w| {
        in_one_place(w, RwLock::<()>::default, |l| drop(l.write()));
    }),
    ("a lock in the place of another, read and write", |w| {
        in_one_place(w, RwLock::<()>::default, |l| {
            drop(l.read());
            drop(l.write());
        });
    }),
    ("a once in the place of another", |w| {
        in_one_place(w, Once::new, |o| o.call_once(|| {}));
    }),
    ("a semaphore in the place of another", |w| {
        in_one_place(w, || Semaphore::new(1), |s| drop(s.acquire(1)));
    }),
    ("a wait group in the place of another", |w| {
        in_one_place(w, WaitGroup::new, |g| {
            g.add(1);
            g.done();
            g.wait();
        });
    }),
    ("after_func and what its starter does next", |w| {
        let other = w.clone();
        let _timer = after_func(LONG_ENOUGH_TO_WRITE, move || {
            other.v.set(1);
            other.reach(1);
        });
        w.v.set(2);
        w.after(1);
    }),
    ("a ticker and what its starter does next", |w| {
        let ticker = Ticker::new(LONG_ENOUGH);
        let (other, moments) = (w.clone(), ticker.c().clone());
        let receiver = crate::go(move || {
            other.after(1);
            // The third one's goroutine started after the write at the latest.
            for _ in 0..3 {
                moments.recv().expect("open");
            }
            other.v.set(1);
        });
        w.v.set(2);
        w.reach(1);
        receiver.join().expect("no panic");
    }),
    ("an append that shares its array", |_| {
        let slice = Slice::<u8>::make(0, 4);
        let (mut a, mut b) = (slice.clone(), slice);
        let first = crate::go(move || a.push(1));
        let second = crate::go(move || b.push(2));
        first.join().expect("no panic");
        second.join().expect("no panic");
    }),
];

/// What orders.
const CLEAN: &[(&str, Case)] = &[
    ("variables of blocking calls on one thread", |_| {
        // One P has few threads, which take turns.
        crate::set_procs(1);
        let call = || {
            let v = Var::new(0_u64);
            std::hint::black_box(&v).set(1);
            // Its place on the stack is left, and no destructor says so.
            drop(std::hint::black_box(Box::new(v)));
        };
        let all: Vec<_> = (0..16)
            .map(|_| crate::go(move || crate::blocking(call)))
            .collect();
        all.into_iter().for_each(|g| g.join().expect("no panic"));
    }),
    ("mutex", |w| {
        let add = |w: &World| {
            for i in 0..200 {
                let held = match i % 3 {
                    0 => Some(w.mutex.lock()),
                    1 => w.mutex.try_lock(),
                    _ => w.mutex.try_lock_for(super::LONG),
                };
                if held.is_some() {
                    w.v.add(1);
                }
            }
        };
        two(w, add, add);
    }),
    ("rwlock", |w| {
        let use_it = |w: &World| {
            for i in 0..200 {
                if i % 4 == 0 {
                    let held = w.rwlock.write();
                    w.v.add(1);
                    let _held = RwLockWriteGuard::downgrade(held);
                    w.v.get();
                } else {
                    let _held = w.rwlock.read();
                    w.v.get();
                }
            }
        };
        two(w, use_it, use_it);
    }),
    ("condvar", |w| {
        two(
            w,
            |w| {
                w.v.set(1);
                *w.mutex.lock() = true;
                w.cond.notify_one();
            },
            |w| {
                w.cond.wait_while(&mut w.mutex.lock(), |ready| !*ready);
                w.v.set(2);
            },
        );
    }),
    ("a notify without the mutex", |w| {
        two(
            w,
            |w| {
                super::until(|| w.step.load(Ordering::SeqCst) == 1 && w.mutex.try_lock().is_some());
                w.v.set(1);
                w.cond.notify_all();
            },
            |w| {
                let mut held = w.mutex.lock();
                w.reach(1);
                w.cond.wait(&mut held);
                w.v.set(2);
            },
        );
    }),
    ("wait group", |w| {
        for _ in 0..50 {
            w.group.add(2);
            let other = w.clone();
            let member = crate::go(move || {
                drop(other.mutex.lock());
                other.group.done();
            });
            let other = w.clone();
            crate::go(move || {
                other.v.add(1);
                other.group.done();
            });
            w.group.wait();
            w.v.add(1);
            member.join().expect("no panic");
        }
    }),
    ("once", |w| {
        let use_it = |w: &World| {
            w.once.call_once(|| w.v.set(1));
            w.v.get();
        };
        two(w, use_it, use_it);
    }),
    ("once cell", |w| {
        let use_it = |w: &World| {
            w.cell.get_or_init(|| {
                w.v.set(1);
                1
            });
            w.v.get();
        };
        two(w, use_it, use_it);
    }),
    ("a once whose first run fails", |w| {
        two(
            w,
            |w| {
                let run = || w.once.call_once(|| fail_after(|| w.v.set(1)));
                assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
                let failing = || {
                    w.u.set(1);
                    Err("not this time")
                };
                assert!(w.cell.get_or_try_init(failing).is_err());
                w.reach(1);
            },
            |w| {
                w.after(1);
                w.once.call_once(|| w.v.set(2));
                w.cell.get_or_init(|| {
                    w.u.set(2);
                    3
                });
            },
        );
    }),
    ("lazy", |_| {
        static V: Var<u8> = Var::new(0);
        static LAZY: Lazy<u8> = Lazy::new(|| {
            V.set(1);
            2
        });
        let use_it = || {
            assert_eq!(*LAZY, 2);
            V.get()
        };
        let other = crate::go(use_it);
        use_it();
        other.join().expect("no panic");
    }),
    ("barrier", |_| {
        let w = Arc::new((Barrier::new(2), [const { Var::new(0_u32) }; 2]));
        let goroutines: Vec<_> = (0..2)
            .map(|i| {
                let w = w.clone();
                crate::go(move || {
                    for round in 0..50 {
                        w.1[(i + round) % 2].add(1);
                        w.0.wait();
                    }
                })
            })
            .collect();
        goroutines
            .into_iter()
            .for_each(|g| g.join().expect("no panic"));
    }),
    ("semaphore", |w| {
        w.semaphore.release(2);
        let use_it = |w: &World| {
            for _ in 0..200 {
                let _permits = w.semaphore.acquire(2);
                w.v.add(1);
            }
        };
        two(w, use_it, use_it);
    }),
    ("release and acquire", |w| {
        two(
            w,
            |w| {
                w.v.set(1);
                w.flag.store(1, Ordering::Release);
            },
            |w| {
                super::until(|| w.flag.load(Ordering::Acquire) == 1);
                w.v.set(2);
            },
        );
    }),
    ("fences", |w| {
        two(
            w,
            |w| {
                w.v.set(1);
                fence(Ordering::Release);
                w.flag.store(1, Ordering::Relaxed);
            },
            |w| {
                super::until(|| w.flag.load(Ordering::Relaxed) == 1);
                fence(Ordering::Acquire);
                w.v.set(2);
            },
        );
    }),
    ("compare and exchange", |w| {
        let use_it = |w: &World| {
            for _ in 0..100 {
                super::until(|| {
                    w.flag
                        .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
                        .is_ok()
                });
                w.v.add(1);
                w.flag.store(0, Ordering::Release);
            }
        };
        two(w, use_it, use_it);
    }),
    ("after_func", |w| {
        w.v.set(1);
        w.group.add(1);
        let other = w.clone();
        let _timer = after_func(Duration::from_millis(1), move || {
            other.v.add(1);
            other.group.done();
        });
        w.group.wait();
        w.v.add(1);
    }),
    ("after_func started anew by its own run", |w| {
        w.v.set(1);
        let timer = Arc::new(OnceCell::<Timer>::new());
        let (other, again) = (w.clone(), timer.clone());
        let first = after_func(LONG_ENOUGH, move || {
            other.v.add(1);
            if other.v.get() < 5 {
                again.wait().reset(Duration::ZERO);
            } else {
                other.flag.store(1, Ordering::Release);
            }
        });
        assert!(timer.set(first).is_ok());
        super::until(|| w.flag.load(Ordering::Acquire) == 1);
        w.v.get();
    }),
    ("a timer's moment", |w| {
        w.v.set(1);
        let timer = Timer::new(LONG_ENOUGH);
        let receiver = timer.c().clone();
        let other = w.clone();
        let waiter = crate::go(move || {
            receiver.recv().expect("open");
            other.v.add(1);
        });
        waiter.join().expect("no panic");
        w.v.get();
    }),
    ("elements of a slice", |_| {
        let slice = Slice::from(vec![1_u8, 2, 3, 4]);
        let goroutines: Vec<_> = (0..4)
            .map(|i| {
                let slice = slice.clone();
                crate::go(move || slice.update(i, |n| n + 1))
            })
            .collect();
        goroutines
            .into_iter()
            .for_each(|g| g.join().expect("no panic"));
        assert_eq!(slice.to_vec(), [2, 3, 4, 5]);
    }),
    ("a map under a mutex, and read by many", |w| {
        let map = Map::new();
        let goroutines: Vec<_> = (0..4_u32)
            .map(|i| {
                let (map, w) = (map.clone(), w.clone());
                crate::go(move || {
                    let _held = w.mutex.lock();
                    map.insert(i, i);
                })
            })
            .collect();
        goroutines
            .into_iter()
            .for_each(|g| g.join().expect("no panic"));
        let goroutines: Vec<_> = (0..4_u32)
            .map(|i| {
                let map = map.clone();
                crate::go(move || map.get(&i).is_some() && map.iter().count() == 4)
            })
            .collect();
        assert!(goroutines.into_iter().all(|g| g.join().expect("no panic")));
    }),
    ("memory that is used again", |_| {
        for i in 0..200_u64 {
            let first = crate::go(move || {
                let (v, slice, group) = (
                    Box::new(Var::new(i)),
                    Slice::from(vec![i]),
                    WaitGroup::new(),
                );
                v.set(1);
                slice.set(0, 1);
                group.add(1);
                group.done();
                group.wait();
            });
            if i % 2 == 0 {
                first.join().expect("no panic");
            }
        }
    }),
    ("boxes of siblings in one place", |_| {
        let goroutines: Vec<_> = (0..200_u64)
            .map(|i| {
                crate::go(move || {
                    let flag = Box::new(AtomicU64::new(i));
                    flag.store(1, Ordering::Release);
                    flag.load(Ordering::Acquire);
                    drop(flag);
                    let var = Box::new(Var::new(i));
                    var.add(1);
                })
            })
            .collect();
        goroutines
            .into_iter()
            .for_each(|g| g.join().expect("no panic"));
    }),
    ("variables that move", |_| {
        let (give, take) = crate::chan::bounded::<Var<u64>>(1);
        let taker = crate::go(move || {
            for var in &take {
                var.add(1);
                let boxed = Box::new(var);
                boxed.add(1);
                let kept: Vec<_> = [*boxed, Var::new(7)].into_iter().collect();
                kept.iter().for_each(|var| var.add(1));
            }
        });
        for i in 0..100 {
            let var = Var::new(i);
            var.set(2);
            give.send(var).expect("a receiver");
        }
        drop(give);
        taker.join().expect("no panic");
    }),
    ("vectors of variables that grow", |_| {
        let goroutines: Vec<_> = (0..4)
            .map(|_| {
                crate::go(|| {
                    for _ in 0..20 {
                        let mut all = Vec::new();
                        for i in 0..100_u64 {
                            all.push(Var::new(i));
                            all[i as usize / 2].add(1);
                        }
                        all.truncate(50);
                        all.shrink_to_fit();
                        all.iter().for_each(|var| var.add(1));
                    }
                })
            })
            .collect();
        goroutines
            .into_iter()
            .for_each(|g| g.join().expect("no panic"));
    }),
    (
        "a vector that is resized in its place and handed on",
        |_| {
            let (give, take) = crate::chan::bounded::<Vec<Var<u64>>>(0);
            let taker = crate::go(move || {
                for mut all in &take {
                    all.reserve_exact(1);
                    all.push(Var::new(1));
                    all.iter().for_each(|var| var.add(1));
                }
            });
            for n in 1..100 {
                let all: Vec<_> = (0..n).map(Var::new).collect();
                all.iter().for_each(|var| var.set(1));
                give.send(all).expect("a receiver");
            }
            drop(give);
            taker.join().expect("no panic");
        },
    ),
    ("shared variables whose last owner is anyone", |_| {
        let (give, take) = crate::chan::bounded::<Arc<Var<u64>>>(4);
        let takers: Vec<_> = (0..2)
            .map(|_| {
                let take = take.clone();
                crate::go(move || {
                    for var in &take {
                        var.add(1);
                        drop(var);
                        std::hint::black_box(Box::new(Var::new(1_u128))).add(1);
                    }
                })
            })
            .collect();
        for i in 0..200 {
            let var = Arc::new(Var::new(i));
            var.set(1);
            give.send(var.clone()).expect("a receiver");
            if i % 3 == 0 {
                crate::yield_now();
            }
        }
        drop(give);
        takers.into_iter().for_each(|g| g.join().expect("no panic"));
    }),
    ("maps whose tables come and go", |_| {
        let goroutines: Vec<_> = (0..4)
            .map(|_| {
                crate::go(|| {
                    for round in 0..20_u64 {
                        let map = Map::new();
                        for i in 0..50 {
                            map.insert(i, [round; 3]);
                            map.get(&(i / 2));
                        }
                        map.remove(&3);
                        map.iter().count();
                    }
                })
            })
            .collect();
        goroutines
            .into_iter()
            .for_each(|g| g.join().expect("no panic"));
    }),
    ("keys with atomics that many look up", |_| {
        let map = Map::new();
        map.insert(Counting::new(1), 1);
        let goroutines: Vec<_> = (0..4)
            .map(|_| {
                let map = map.clone();
                crate::go(move || {
                    for _ in 0..50 {
                        assert_eq!(map.get(&Counting::new(1)), Some(1));
                        crate::yield_now();
                    }
                })
            })
            .collect();
        goroutines
            .into_iter()
            .for_each(|g| g.join().expect("no panic"));
    }),
];

/// A key that counts how often it was compared.
struct Counting {
    key: u64,
    compared: AtomicU64,
}

impl Counting {
    fn new(key: u64) -> Counting {
        let compared = AtomicU64::new(0);
        Counting { key, compared }
    }
}

impl PartialEq for Counting {
    fn eq(&self, other: &Counting) -> bool {
        for one in [self, other] {
            one.compared.fetch_add(1, Ordering::Relaxed);
        }
        self.key == other.key
    }
}

impl Eq for Counting {}

impl Hash for Counting {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

/// What is unordered with the beginning or the end of a block, and what the report says of the block.
const TOLD: &[(&str, Case, &[&str])] = &[
    (
        "a use after free",
        |w| {
            let var = Box::into_raw(Box::new(Var::new([1_u64; 8])));
            let (address, w1, w2) = (var.expose_provenance(), w.clone(), w.clone());
            let freer = crate::go(move || {
                let var = std::ptr::with_exposed_provenance_mut::<Var<[u64; 8]>>(address);
                // SAFETY: from `into_raw`; nobody else frees it.
                drop(unsafe { Box::from_raw(var) });
                w1.reach(1);
            });
            let user = crate::go(move || {
                w2.after(1);
                // Tells of the read that a program with this bug would make, without making it.
                crate::race::read(std::ptr::without_provenance::<u64>(address + 16));
            });
            freer.join().expect("no panic");
            user.join().expect("no panic");
        },
        &[
            "\nPrevious free at ",
            "\nBlock of 64 bytes at ",
            " allocated by main goroutine:\n",
        ],
    ),
    (
        "a fresh block that is handed over without order",
        |w| {
            let place = Arc::new(unwatched::AtomicPtr::<Var<u64>>::default());
            let (p1, p2, w1, w2) = (place.clone(), place, w.clone(), w.clone());
            let maker = crate::go(move || {
                p1.store(Box::into_raw(Box::new(Var::new(1))), Ordering::SeqCst);
                w1.reach(1);
            });
            let user = crate::go(move || {
                w2.after(1);
                // SAFETY: stored before the step was reached; nobody frees it.
                let var = unsafe { &*p2.load(Ordering::SeqCst) };
                assert_eq!(var.get(), 1);
            });
            maker.join().expect("no panic");
            user.join().expect("no panic");
        },
        &[
            "\nPrevious write (allocation) at ",
            "\nBlock of 8 bytes at ",
            " allocated by goroutine ",
            "sync/tests/race.rs:",
        ],
    ),
    (
        "a variable inside a block",
        |_| {
            let all: Arc<[Var<u32>; 10]> = Arc::default();
            let (a, b) = (all.clone(), all);
            let first = crate::go(move || a[7].set(1));
            let second = crate::go(move || b[7].set(2));
            first.join().expect("no panic");
            second.join().expect("no panic");
        },
        &[
            "\nPrevious write at ",
            "\nBlock of 56 bytes at ",
            " allocated by main goroutine:\n",
            "sync/tests/race.rs:",
        ],
    ),
    (
        "a map and its table, which are one place to the program",
        |w| {
            let map = Map::new();
            let (other, w1, w2) = (map.clone(), w.clone(), w.clone());
            let writer = crate::go(move || {
                map.insert(1, [2_u64; 3]);
                w1.reach(1);
            });
            let reader = crate::go(move || {
                w2.after(1);
                assert_eq!(other.get(&1), Some([2; 3]));
                assert_eq!(other.insert(1, [3; 3]), Some([2; 3]));
            });
            writer.join().expect("no panic");
            reader.join().expect("no panic");
        },
        &[
            "\nPrevious write at ",
            "\nBlock of ",
            " allocated by main goroutine:\n",
        ],
    ),
];

const LONG_ENOUGH: Duration = Duration::from_millis(1);
/// Time to write a variable in, before a timer fires.
const LONG_ENOUGH_TO_WRITE: Duration = Duration::from_millis(30);
const CASE: &str = "RADDLE_TEST_CASE";
const RACES_FOUND: i32 = 66;

/// In a child: runs the case that the environment names.
fn is_child() -> bool {
    let Ok(name) = env::var(CASE) else {
        return false;
    };
    let told = TOLD.iter().map(|(name, case, _)| (name, case));
    let all = RACY.iter().chain(CLEAN).map(|(name, case)| (name, case));
    let (_, case) = all.chain(told).find(|(n, _)| **n == name).expect("a case");
    crate::run(|| case(&Arc::new(World::default())));
    true
}

/// Runs the case in race mode, as the test `this` in a process of its own.
fn child(this: &str, case: &str) -> Output {
    let program = env::current_exe().expect("a test has a program");
    let test = format!("sync::tests::race::{this}");
    let mut child = Command::new(program);
    child
        .args(["--exact", &test, "--nocapture"])
        .envs([(CASE, case), ("RADDLE_RACE", "1")]);
    child.output().expect("the program starts")
}

#[test]
fn race_mode_reports_what_is_unordered_and_nothing_else() {
    if is_child() {
        return;
    }
    let this = "race_mode_reports_what_is_unordered_and_nothing_else";
    let mut wrong = Vec::new();
    for (cases, status) in [(RACY, RACES_FOUND), (CLEAN, 0)] {
        for (name, _) in cases {
            let run = child(this, name);
            if run.status.code() != Some(status) {
                let text = String::from_utf8_lossy(&run.stderr);
                wrong.push(format!(
                    "{name}: {} instead of {status}\n{text}",
                    run.status
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn reports_tell_of_blocks() {
    if is_child() {
        return;
    }
    let block = Box::new(0_u64);
    if raddle_alloc::find_object((&raw const *block).addr()).is_none() {
        // The detector hears of blocks only where Raddle's heap is the global allocator.
        return;
    }
    for (name, _, expected) in TOLD {
        let run = child("reports_tell_of_blocks", name);
        let text = String::from_utf8_lossy(&run.stderr);
        for part in *expected {
            assert!(text.contains(part), "{name}: no {part:?} in\n{text}");
        }
        assert_eq!(run.status.code(), Some(RACES_FOUND), "{name}\n{text}");
        assert!(text.contains("Found 1 data race(s)"), "{name}\n{text}");
    }
}
