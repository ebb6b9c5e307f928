//! Collected values with a destructor: when it runs, in which order, and what it may do.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use raddle::gc::{self, Atomic, Gc, Slice, Weak};
use raddle::shared::Var;
use raddle::sync::Mutex;
use raddle::{chan, time};

use crate::gc::{Drops, FEW, MANY, Token, collect_until, elsewhere, forget};

pub(crate) fn a_lost_value_is_dropped_once() {
    let drops = Drops::default();
    let kept = Gc::new(drops.token());
    let inner = drops.clone();
    elsewhere(move || (0..MANY).for_each(|_| forget(Gc::new(inner.token()))));
    collect_until(|| drops.count() >= MANY - FEW);
    for _ in 0..10 {
        gc::collect();
        time::sleep(Duration::from_micros(200));
    }
    assert!(drops.count() <= MANY);
    gc::keep_alive(&kept);
}

pub(crate) fn slices_drop_every_value() {
    let drops = Drops::default();
    let inner = drops.clone();
    elsewhere(move || (0..MANY).for_each(|n| forget(Slice::from_fn(n, |_| inner.token()))));
    let all = MANY * (MANY - 1) / 2;
    collect_until(|| drops.count() >= all - FEW * MANY);
    assert!(drops.count() <= all);
}

/// Tells where it is dropped.
struct Teller(chan::Sender<Option<String>>);

impl Drop for Teller {
    fn drop(&mut self) {
        let me = raddle::current();
        let name = me.and_then(|me| me.name().map(String::from));
        let _ = self.0.send(name);
    }
}

pub(crate) fn it_runs_on_the_finalizer_goroutine() {
    let (tx, rx) = chan::unbounded();
    elsewhere(move || (0..MANY).for_each(|_| forget(Gc::new(Teller(tx.clone())))));
    let mut names = vec![];
    collect_until(|| {
        names.extend(rx.try_iter());
        names.len() >= MANY - FEW
    });
    assert!(
        names
            .iter()
            .all(|name| name.as_deref() == Some("finalizer")),
        "{names:?}"
    );
}

/// A node of a chain that tells its number when it is dropped.
struct Link {
    chain: usize,
    number: usize,
    next: Option<Gc<Link>>,
    told: Arc<std::sync::Mutex<Vec<(usize, usize)>>>,
}

impl Drop for Link {
    fn drop(&mut self) {
        // What it reaches is whole.
        if let Some(next) = &self.next {
            assert_eq!((next.chain, next.number), (self.chain, self.number + 1));
        }
        self.told.lock().unwrap().push((self.chain, self.number));
    }
}

pub(crate) fn an_object_goes_before_those_it_reaches() {
    const LENGTH: usize = 5;
    let told = Arc::new(std::sync::Mutex::new(vec![]));
    let inner = told.clone();
    elsewhere(move || {
        for chain in 0..MANY {
            (0..LENGTH).rev().fold(None, |next, number| {
                let told = inner.clone();
                Some(Gc::new(Link {
                    chain,
                    number,
                    next,
                    told,
                }))
            });
        }
    });
    collect_until(|| told.lock().unwrap().len() >= LENGTH * (MANY - FEW));
    let told = told.lock().unwrap();
    let mut last = HashMap::new();
    for &(chain, number) in told.iter() {
        let before = last.insert(chain, number);
        assert!(
            before.is_none_or(|before| before < number),
            "{chain}: {number} after {before:?}"
        );
    }
}

/// A node of a ring, which looks at its neighbour when it is dropped.
struct Ring {
    next: Atomic<Ring>,
    found: Arc<[AtomicUsize; 2]>,
    _token: Token,
}

impl Drop for Ring {
    fn drop(&mut self) {
        let next = self.next.load(Acquire).expect("the ring was closed");
        let there = Gc::get(&next).is_some();
        self.found[usize::from(there)].fetch_add(1, SeqCst);
        let followed = std::panic::catch_unwind(|| next.found.len());
        assert_eq!(
            followed.is_ok(),
            there,
            "following a handle panics where `get` gives nothing"
        );
    }
}

pub(crate) fn cycles_are_dropped_too() {
    const LENGTH: usize = 3;
    let drops = Drops::default();
    let found = Arc::new([const { AtomicUsize::new(0) }; 2]);
    let (inner, results) = (drops.clone(), found.clone());
    // The panics are meant: nobody needs their messages.
    std::panic::set_hook(Box::new(|_| {}));
    elsewhere(move || {
        for _ in 0..MANY {
            let node = || {
                Gc::new(Ring {
                    next: Atomic::null(),
                    found: results.clone(),
                    _token: inner.token(),
                })
            };
            let nodes: [_; LENGTH] = std::array::from_fn(|_| node());
            for i in 0..LENGTH {
                nodes[i].next.store(Some(nodes[(i + 1) % LENGTH]), Release);
            }
        }
    });
    collect_until(|| drops.count() >= LENGTH * (MANY - FEW));
    let _ = std::panic::take_hook();
    let [gone, there] = [0, 1].map(|i| found[i].load(SeqCst));
    assert!(gone + there >= drops.count());
    assert!(
        gone >= MANY - LENGTH * FEW,
        "the last of each ring meets one that is gone"
    );
}

pub(crate) fn a_value_that_holds_itself_is_gone_for_its_own_destructor() {
    struct Selfish {
        me: Atomic<Selfish>,
        gone: Arc<AtomicUsize>,
    }
    impl Drop for Selfish {
        fn drop(&mut self) {
            let me = self.me.load(Acquire).unwrap();
            assert!(Gc::get(&me).is_none());
            self.gone.fetch_add(1, SeqCst);
        }
    }
    let gone = Arc::new(AtomicUsize::new(0));
    let inner = gone.clone();
    elsewhere(move || {
        for _ in 0..MANY {
            let me = Gc::new(Selfish {
                me: Atomic::null(),
                gone: inner.clone(),
            });
            me.me.store(Some(me), Release);
        }
    });
    collect_until(|| gone.load(SeqCst) >= MANY - FEW);
}

struct Panics(bool, #[expect(dead_code, reason = "its drop counts")] Token);

impl Drop for Panics {
    fn drop(&mut self) {
        assert!(!self.0, "a destructor's panic, which is meant");
    }
}

pub(crate) fn a_panic_does_not_stop_the_others() {
    let drops = Drops::default();
    let inner = drops.clone();
    std::panic::set_hook(Box::new(|_| {}));
    elsewhere(move || (0..MANY).for_each(|i| forget(Gc::new(Panics(i % 2 == 0, inner.token())))));
    collect_until(|| drops.count() >= MANY - FEW);
    let _ = std::panic::take_hook();
}

pub(crate) fn weak_pointers_are_empty_before_it_runs() {
    struct Knows {
        me: Weak<Knows>,
        wrong: Arc<AtomicBool>,
        _token: Token,
    }
    impl Drop for Knows {
        fn drop(&mut self) {
            self.wrong.fetch_or(self.me.upgrade().is_some(), SeqCst);
        }
    }
    let (drops, wrong) = (Drops::default(), Arc::new(AtomicBool::new(false)));
    let (inner, result) = (drops.clone(), wrong.clone());
    let weak: Vec<_> = elsewhere(move || {
        let make = |_| {
            let (wrong, _token) = (result.clone(), inner.token());
            let gc = Gc::new_cyclic(|me| Knows {
                me: *me,
                wrong,
                _token,
            });
            Gc::downgrade(&gc)
        };
        (0..MANY).map(make).collect()
    });
    collect_until(|| drops.count() >= MANY - FEW);
    assert!(!wrong.load(SeqCst));
    let there = weak.iter().filter(|weak| weak.upgrade().is_some()).count();
    assert!(there <= FEW);
}

type Treasure = Gc<(usize, Token)>;

/// Gives what it holds to a place that outlives it.
struct Heir {
    treasure: Treasure,
    saved: Arc<Mutex<Vec<Treasure>>>,
}

impl Drop for Heir {
    fn drop(&mut self) {
        assert!(self.treasure.0 < MANY);
        self.saved.lock().push(self.treasure);
    }
}

pub(crate) fn it_may_save_what_it_reaches() {
    let (drops, saved) = (Drops::default(), Arc::new(Mutex::new(vec![])));
    let (inner, place) = (drops.clone(), saved.clone());
    elsewhere(move || {
        for i in 0..MANY {
            let treasure = Gc::new((i, inner.token()));
            forget(Gc::new(Heir {
                treasure,
                saved: place.clone(),
            }));
        }
    });
    collect_until(|| saved.lock().len() >= MANY - FEW);
    (0..3).for_each(|_| gc::collect());
    time::sleep(Duration::from_millis(2));
    assert_eq!(drops.count(), 0, "what was saved is reached");
    let mut numbers: Vec<_> = saved.lock().iter().map(|treasure| treasure.0).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert!(numbers.len() >= MANY - FEW, "each is saved once");
    // The memory too: a list that is only cleared still has the addresses in it.
    elsewhere(move || *saved.lock() = vec![]);
    // When the list grew it was copied, by vector registers; on a thread that has slept since, the last that were copied are still in them.
    const IN_REGISTERS: usize = 32;
    collect_until(|| drops.count() >= MANY - FEW - IN_REGISTERS);
}

pub(crate) fn it_may_do_what_goroutines_do() {
    struct Busy(chan::Sender<usize>, usize);
    impl Drop for Busy {
        fn drop(&mut self) {
            let n = self.1;
            let made = Gc::new(vec![n; 10]);
            raddle::yield_now();
            time::sleep(Duration::from_micros(10));
            let sum = raddle::go(move || made.iter().sum::<usize>())
                .join()
                .unwrap();
            if n.is_multiple_of(16) {
                gc::collect();
            }
            self.0.send(sum / 10).unwrap();
        }
    }
    let (tx, rx) = chan::bounded(0);
    elsewhere(move || (0..MANY).for_each(|n| forget(Gc::new(Busy(tx.clone(), n)))));
    let mut got = vec![];
    collect_until(|| {
        got.extend(rx.try_iter());
        got.len() >= MANY - FEW
    });
}

pub(crate) fn exit_in_one_does_not_stop_the_others() {
    struct Exits(#[expect(dead_code, reason = "its drop counts")] Token);
    impl Drop for Exits {
        fn drop(&mut self) {
            raddle::exit()
        }
    }
    let drops = Drops::default();
    let inner = drops.clone();
    elsewhere(move || (0..MANY).for_each(|_| forget(Gc::new(Exits(inner.token())))));
    collect_until(|| drops.count() >= MANY - FEW);
}

/// The uses of a value are ordered before its destructor, by nothing that the program does. `Var` tells the detector.
pub(crate) fn what_was_done_with_a_value_comes_before() {
    struct Shared {
        var: Var<usize>,
        sum: Arc<AtomicUsize>,
        dropped: Drops,
    }
    impl Drop for Shared {
        fn drop(&mut self) {
            self.sum.fetch_add(self.var.get(), SeqCst);
            self.var.set(0);
            drop(self.dropped.token());
        }
    }
    let (drops, sum) = (Drops::default(), Arc::new(AtomicUsize::new(0)));
    for _ in 0..MANY {
        let value = (Var::new(0), sum.clone(), drops.clone());
        raddle::go(move || {
            let (var, sum, dropped) = value;
            let gc = Gc::new(Shared { var, sum, dropped });
            // A goroutine that nobody waits for writes last.
            raddle::go(move || gc.var.set(1));
        });
    }
    collect_until(|| drops.count() >= MANY - FEW);
    assert!(sum.load(SeqCst) >= MANY - FEW);
}

/// The weak pointer is found dead with its holder, and its target too: it must be empty all the same, and stay so where it is saved.
pub(crate) fn weak_pointers_that_die_with_their_holder_are_empty() {
    struct Child {
        parent: Weak<[usize; 8]>,
        seen: Arc<AtomicUsize>,
        saved: Arc<Mutex<Vec<Weak<[usize; 8]>>>>,
        _token: Token,
    }
    impl Drop for Child {
        fn drop(&mut self) {
            self.seen
                .fetch_add(usize::from(self.parent.upgrade().is_some()), SeqCst);
            self.saved.lock().push(self.parent);
        }
    }
    let drops = Drops::default();
    let seen = Arc::<AtomicUsize>::default();
    let saved = Arc::<Mutex<Vec<Weak<[usize; 8]>>>>::default();
    let (inner, count, keep) = (drops.clone(), seen.clone(), saved.clone());
    elsewhere(move || {
        (0..MANY).for_each(|n| {
            let parent = Gc::new([n; 8]);
            forget(Gc::new(Child {
                parent: Gc::downgrade(&parent),
                seen: count.clone(),
                saved: keep.clone(),
                _token: inner.token(),
            }));
            forget(parent);
        });
    });
    collect_until(|| drops.count() >= MANY - FEW);
    assert!(seen.load(SeqCst) <= FEW);
    let saved = saved.lock();
    let there = saved.iter().filter(|weak| weak.upgrade().is_some());
    assert!(there.count() <= FEW);
}

/// What is borrowed may be memory of the value's own, whose address leads to no collected object.
pub(crate) fn it_waits_for_what_is_borrowed() {
    #[inline(never)]
    fn foreign(bytes: &[u8], with: u8) -> usize {
        for _ in 0..5 {
            gc::collect();
            time::sleep(Duration::from_millis(1));
            for _ in 0..100 {
                std::hint::black_box(vec![!with; bytes.len()]);
            }
        }
        bytes.iter().filter(|&&byte| byte != with).count()
    }
    let (tx, rx) = chan::unbounded();
    elsewhere(move || {
        let value = Gc::new(vec![7; 3000]);
        let _ = tx.send(foreign(&value, 7));
        let inner = Gc::new(Gc::new(vec![9; 3000]));
        let _ = tx.send(foreign(&inner, 9));
        let slice = Slice::from_fn(3, |_| vec![11; 3000]);
        let _ = tx.send(foreign(&slice[1], 11));
    });
    assert!(rx.try_iter().eq([0; 3]));
}
