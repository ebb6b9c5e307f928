//! Collected values: what handles, slices, weak pointers and atomics promise, and what keeps a value alive.

use std::cell::Cell;
use std::collections::HashMap;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::time::Duration;
use std::{mem, ptr, thread};

use raddle::gc::{self, Atomic, Gc, NoPointers, Slice, Weak};
use raddle::sync::Mutex;
use raddle::sync::atomic::{AtomicBool, AtomicU32};
use raddle::{chan, time};

/// Of this many lost objects ...
pub(crate) const MANY: usize = 64;
/// ... so many may stay: a number on some stack or in a register looks like their address.
pub(crate) const FEW: usize = 8;

/// Runs `f` on a goroutine of its own: what it leaves on its stack is looked at no more.
pub(crate) fn elsewhere<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    raddle::go(f).join().unwrap()
}

/// Has the handle and forgets it.
pub(crate) fn forget<H: Copy>(handle: H) {
    black_box(handle);
}

/// Collects, and lets the runtime's goroutines work, until `what` holds.
#[track_caller]
pub(crate) fn collect_until(mut what: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if what() {
            return;
        }
        gc::collect();
        time::sleep(Duration::from_micros(500));
    }
    panic!("not in a thousand collections");
}

/// Counts the drops of all values of a test.
#[derive(Clone, Default)]
pub(crate) struct Drops(Arc<AtomicUsize>);

impl Drops {
    pub(crate) fn count(&self) -> usize {
        self.0.load(SeqCst)
    }

    pub(crate) fn token(&self) -> Token {
        Token(self.clone())
    }
}

/// Counts its own drop.
pub(crate) struct Token(Drops);

impl Drop for Token {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, SeqCst);
    }
}

/// `MANY` lost objects, each with what `make` gives.
fn lose<T: Send + 'static>(make: impl Fn(usize) -> T + Send + 'static) {
    elsewhere(move || (0..MANY).for_each(|i| forget(Gc::new(make(i)))));
}

pub(crate) fn a_handle_leads_to_its_value() {
    #[derive(Debug, PartialEq, Clone, Copy)]
    #[repr(align(64))]
    struct Line(u8);
    #[derive(Debug, PartialEq, Clone, Copy)]
    #[repr(align(4096))]
    struct Page([u8; 5000]);

    assert_eq!(*Gc::new(7_u8), 7);
    assert_eq!(*Gc::new(u128::MAX), u128::MAX);
    assert_eq!(*Gc::new(()), ());
    assert_eq!(Gc::new(String::from("warp")).as_str(), "warp");
    assert_eq!(*Gc::new_no_pointers([3_u64; 500]), [3; 500]);
    assert_eq!(Gc::new(vec![1, 2, 3]).len(), 3);
    for i in 0..200 {
        let (line, page) = (Gc::new(Line(i)), Gc::new(Page([i; 5000])));
        assert_eq!((*line, *page), (Line(i), Page([i; 5000])));
        assert_eq!(Gc::as_ptr(&line).addr() % 64, 0);
        assert_eq!(Gc::as_ptr(&page).addr() % 4096, 0);
    }
    let large = Gc::new([9_u8; 100_000]);
    assert!(large.iter().all(|&byte| byte == 9));
}

pub(crate) fn values_with_destructors_are_aligned_too() {
    #[repr(align(4096))]
    struct Page(u8, Token);
    #[repr(align(64))]
    struct Line(u8, Token);
    struct Nothing;
    impl Drop for Nothing {
        fn drop(&mut self) {}
    }

    let drops = Drops::default();
    let pages: Vec<_> = (0..20).map(|i| Gc::new(Page(i, drops.token()))).collect();
    let lines: Vec<_> = (0..20).map(|i| Gc::new(Line(i, drops.token()))).collect();
    let nothings: Vec<_> = (0..20).map(|_| Gc::new(Nothing)).collect();
    gc::collect();
    for i in 0..20 {
        assert_eq!((pages[i].0, lines[i].0), (i as u8, i as u8));
        assert_eq!(Gc::as_ptr(&pages[i]).addr() % 4096, 0);
        assert_eq!(Gc::as_ptr(&lines[i]).addr() % 64, 0);
        let others = nothings.iter().filter(|n| Gc::ptr_eq(n, &nothings[i]));
        assert_eq!(others.count(), 1, "each has a place of its own");
    }
    assert_eq!(drops.count(), 0);
    let _ = (&pages[0].1, &lines[0].1);
}

pub(crate) fn handles_behave_as_their_values() {
    let (a, b, c) = (Gc::new(1), Gc::new(1), Gc::new(2));
    assert!(a == b && a < c && !Gc::ptr_eq(&a, &b));
    let copy = a;
    assert!(Gc::ptr_eq(&a, &copy));
    assert_eq!(format!("{a} {a:?} {:?}", Gc::new("x")), "1 1 \"x\"");
    assert_eq!(format!("{a:p}"), format!("{:p}", Gc::as_ptr(&a)));
    let by_value = HashMap::from([(Gc::new(String::from("weft")), 1)]);
    assert_eq!(by_value[&String::from("weft")], 1);
    assert_eq!(*Gc::<u8>::default(), 0);
    assert_eq!(*Gc::from("y"), "y");
    assert_eq!(size_of::<Option<Gc<u8>>>(), size_of::<usize>());
}

pub(crate) fn a_value_that_is_not_send_stays_with_its_maker() {
    let cell = Gc::new_local(Cell::new(ptr::null::<u8>()));
    cell.set(ptr::dangling());
    gc::collect();
    assert!(!cell.get().is_null());
}

pub(crate) fn slices_hold_their_values() {
    let squares = Slice::from_fn(1000, |i| i * i);
    assert_eq!((squares.len(), squares[31]), (1000, 961));
    let names: Slice<String> = ["a", "b"].into_iter().map(String::from).collect();
    assert_eq!(format!("{names:?}"), r#"["a", "b"]"#);
    assert_eq!(Slice::from(vec![1, 2, 3]), Slice::from([1, 2, 3]));
    assert_eq!(&*Slice::copy_from_slice(b"weft"), b"weft");
    let zeros = Slice::<AtomicU32>::zeroed(777);
    assert!(zeros.iter().all(|n| n.load(Relaxed) == 0));
    let flags = Slice::<AtomicBool>::zeroed(3);
    assert!(!flags[2].load(Relaxed));
    assert_eq!(Slice::from_fn(5, |_| ()).len(), 5);
    let copy = squares;
    assert!(Slice::ptr_eq(&squares, &copy));
    assert_eq!((&squares).into_iter().count(), 1000);
    let large = Slice::<u64>::zeroed(1 << 18);
    assert!(large.iter().all(|&n| n == 0));
}

pub(crate) fn empty_slices_are_no_object() {
    assert!(Slice::<String>::empty().is_empty() && Slice::<u8>::default().is_empty());
    assert!(Slice::from_fn(0, |_| String::new()).is_empty());
    assert!(Slice::<u64>::zeroed(0).is_empty());
    assert!(Slice::<u64>::copy_from_slice(&[]).is_empty());
    assert!(Slice::<String>::from(vec![]).is_empty());
    assert_eq!(Slice::get_all(&Slice::<String>::empty()), Some(&[][..]));
}

/// What a panic of `f` says.
fn panic_of(f: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(f)).unwrap_err();
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic.downcast::<&str>().unwrap()).to_owned(),
    }
}

pub(crate) fn an_impossible_size_panics() {
    for len in [usize::MAX, usize::MAX / 8, isize::MAX as usize / 8 + 1] {
        let text = panic_of(|| forget(Slice::<u64>::zeroed(len)));
        assert!(text.starts_with("capacity overflow: a slice of"), "{text}");
        let text = panic_of(|| forget(Slice::from_fn(len, |_| String::new())));
        assert!(text.starts_with("capacity overflow: a slice of"), "{text}");
    }
    assert_eq!(*Gc::new(1), 1, "nothing is broken");
}

pub(crate) fn a_panic_half_way_drops_what_was_made() {
    let drops = Drops::default();
    let inner = drops.clone();
    let text = panic_of(move || {
        Slice::from_fn(100, |i| {
            assert!(i < 40, "enough");
            inner.token()
        });
    });
    assert_eq!((text.as_str(), drops.count()), ("enough", 40));
    (0..5).for_each(|_| gc::collect());
    time::sleep(Duration::from_millis(5));
    assert_eq!(drops.count(), 40, "and never again");
}

pub(crate) fn weak_pointers_keep_nothing_alive() {
    let live = Gc::new(5);
    let weak = Gc::downgrade(&live);
    let lost: Vec<Weak<u64>> = elsewhere(|| {
        (0..MANY as u64)
            .map(|i| Gc::downgrade(&Gc::new(i)))
            .collect()
    });
    let dead = || lost.iter().filter(|weak| weak.upgrade().is_none()).count();
    collect_until(|| dead() >= MANY - FEW);
    for (i, weak) in lost.iter().enumerate() {
        assert!(weak.upgrade().is_none_or(|value| *value == i as u64));
    }
    assert_eq!(weak.upgrade(), Some(live));
    assert!(weak.ptr_eq(&Gc::downgrade(&live)) && !weak.ptr_eq(&Weak::new()));
    assert!(Weak::<u8>::new().upgrade().is_none() && Weak::<u8>::new().ptr_eq(&Weak::default()));
}

pub(crate) fn a_value_may_know_itself() {
    struct Node {
        me: Weak<Node>,
        _token: Token,
    }
    let drops = Drops::default();
    let node = Gc::new_cyclic(|me| {
        assert!(me.upgrade().is_none());
        gc::collect();
        Node {
            me: *me,
            _token: drops.token(),
        }
    });
    assert!(Gc::ptr_eq(&node.me.upgrade().unwrap(), &node));

    let mut escaped = Weak::new();
    let text = panic_of(|| {
        Gc::new_cyclic(|me: &Weak<Node>| {
            escaped = *me;
            panic!("no")
        });
    });
    assert_eq!(text, "no");
    (0..3).for_each(|_| gc::collect());
    assert!(escaped.upgrade().is_none());
    assert_eq!(drops.count(), 0);
    gc::keep_alive(&node);
}

pub(crate) fn atomic_places_change_hands() {
    let (a, b) = (Gc::new(1), Gc::new(2));
    let place = Atomic::null();
    assert!(place.load(Acquire).is_none());
    place.store(Some(a), Release);
    assert_eq!(place.swap(Some(b), AcqRel), Some(a));
    assert!(
        place
            .compare_exchange(Some(a), None, SeqCst, Relaxed)
            .is_err()
    );
    assert_eq!(
        place.compare_exchange(Some(b), Some(a), Relaxed, Relaxed),
        Ok(Some(b))
    );
    let equal = Gc::new(1);
    assert_eq!(
        place.compare_exchange(Some(equal), None, AcqRel, Acquire),
        Err(Some(a)),
        "an equal value is another object"
    );
    assert_eq!(place.into_inner(), Some(a));
    panic_of(|| forget(Atomic::from(a).load(Release)));
    panic_of(|| Atomic::from(a).store(None, Acquire));
    assert_eq!(format!("{:?}", Atomic::<u8>::default()), "Atomic(0x0)");
}

pub(crate) fn a_lock_free_stack_loses_nothing() {
    struct Node {
        value: usize,
        below: Option<Gc<Node>>,
    }
    static TOP: Atomic<Node> = Atomic::null();
    const EACH: usize = 2000;
    let push = |value| {
        let mut below = TOP.load(Relaxed);
        while let Err(now) = TOP.compare_exchange(
            below,
            Some(Gc::new(Node { value, below })),
            Relaxed,
            Relaxed,
        ) {
            below = now;
        }
    };
    let pop = || {
        let mut top = TOP.load(Relaxed)?;
        loop {
            match TOP.compare_exchange(Some(top), top.below, Relaxed, Relaxed) {
                Ok(_) => return Some(top.value),
                Err(now) => top = now?,
            }
        }
    };
    let workers: Vec<_> = (0..4)
        .map(|_| {
            raddle::go(move || {
                let mut sum = 0;
                for value in 0..EACH {
                    push(value);
                    if value % 3 == 0 {
                        sum += pop().unwrap_or(0);
                    }
                }
                sum
            })
        })
        .collect();
    let popped: usize = workers.into_iter().map(|w| w.join().unwrap()).sum();
    let left: usize = std::iter::from_fn(pop).sum();
    assert_eq!(popped + left, 4 * EACH * (EACH - 1) / 2);
}

/// Makes the value, hides it where `keep` puts it, collects, and looks whether it is whole.
#[track_caller]
fn stays<K>(keep: impl FnOnce(Gc<[usize; 8]>) -> K, look: impl FnOnce(&K) -> usize) {
    let kept = keep(Gc::new([0xfeed; 8]));
    lose(|i| [i; 8]);
    (0..3).for_each(|_| gc::collect());
    // New objects would lie in its place.
    lose(|i| [i; 8]);
    assert_eq!(look(&kept), 0xfeed);
}

pub(crate) fn what_is_reached_stays() {
    stays(|gc| gc, |gc| gc[7]);
    stays(Box::new, |gc| gc[0]);
    stays(|gc| vec![Some(gc)], |gcs| gcs[0].unwrap()[1]);
    stays(|gc| HashMap::from([("k", gc)]), |map| map["k"][2]);
    stays(|gc| Mutex::new(Some(gc)), |gc| gc.lock().unwrap()[3]);
    stays(Gc::new, |gc| gc[4]);
    stays(|gc| Slice::from([gc; 3]), |gcs| gcs[2][5]);
    stays(
        |gc| Gc::new(Atomic::from(gc)),
        |gc| gc.load(Acquire).unwrap()[6],
    );
    stays(|gc| Gc::new((Box::new(gc), String::new())), |gc| gc.0[7]);
    stays(|gc| Box::new(move || gc[0]), |f| f());
    stays(
        |gc| {
            let (tx, rx) = chan::bounded(1);
            tx.send(gc).unwrap();
            (tx, rx)
        },
        |(_, rx)| rx.recv().unwrap()[1],
    );
}

pub(crate) fn the_middle_of_a_value_is_enough() {
    let text: &'static str = {
        let all = Box::leak(Box::new(Gc::new([0x77_u8; 4096])));
        std::str::from_utf8(&all[4000..4003]).unwrap()
    };
    stays(
        |gc| {
            let gc = Box::leak(Box::new(gc));
            let middle: &usize = &gc[4];
            // From here on only the middle's address is there.
            ptr::from_ref(middle)
        },
        // SAFETY: `gc` was leaked: its value stays.
        |middle| unsafe { **middle },
    );
    assert_eq!(text, "www");
}

pub(crate) fn statics_and_thread_locals_keep_alive() {
    static ONE: OnceLock<Gc<[usize; 8]>> = OnceLock::new();
    static SLOT: Atomic<[usize; 8]> = Atomic::null();
    thread_local!(static MINE: Cell<Option<Gc<[usize; 8]>>> = const { Cell::new(None) });
    stays(|gc| ONE.set(gc).unwrap(), |()| ONE.get().unwrap()[0]);
    stays(
        |gc| SLOT.store(Some(gc), Release),
        |()| SLOT.load(Acquire).unwrap()[1],
    );
    let mine = || stays(|gc| MINE.set(Some(gc)), |()| MINE.get().unwrap()[2]);
    if crate::thread_locals::follows() {
        mine();
    } else {
        // A goroutine may come out of a collection on another thread.
        std::thread::spawn(mine).join().unwrap();
    }
}

pub(crate) fn parked_goroutines_keep_alive() {
    let (go_on, wait) = chan::bounded::<()>(0);
    let parked: Vec<_> = (0..100)
        .map(|i| {
            let wait = wait.clone();
            raddle::go(move || {
                let mine = Gc::new([i; 16]);
                let _ = wait.recv();
                mine[15]
            })
        })
        .collect();
    let not_begun: Vec<_> = (0..100)
        .map(|i| {
            let mine = Gc::new([i; 16]);
            raddle::go(move || mine[3])
        })
        .collect();
    for _ in 0..3 {
        gc::collect();
        lose(|i| [i; 16]);
        raddle::yield_now();
    }
    drop(go_on);
    for (i, goroutine) in parked.into_iter().enumerate() {
        assert_eq!(goroutine.join().unwrap(), i);
    }
    for (i, goroutine) in not_begun.into_iter().enumerate() {
        assert_eq!(goroutine.join().unwrap(), i);
    }
}

pub(crate) fn os_threads_keep_alive() {
    let (made, makes) = chan::bounded(0);
    let (go_on, wait) = chan::bounded::<()>(0);
    let thread = thread::spawn(move || {
        let mine = Gc::new([7_usize; 32]);
        made.send(()).unwrap();
        let _ = wait.recv();
        mine.iter().sum::<usize>()
    });
    makes.recv().unwrap();
    for _ in 0..3 {
        gc::collect();
        lose(|i| [i; 32]);
    }
    drop(go_on);
    assert_eq!(raddle::blocking(|| thread.join().unwrap()), 7 * 32);
}

/// A thread that std knows nothing of, blocked in C code.
pub(crate) fn c_threads_keep_alive() {
    static READ_END: AtomicU32 = AtomicU32::new(0);
    static MADE: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    extern "C" fn body(_: *mut libc::c_void) -> *mut libc::c_void {
        let mine = Gc::new([9_usize; 32]);
        MADE.store(true, SeqCst);
        let mut byte = 0_u8;
        // SAFETY: the descriptor is the pipe's, and the buffer has a byte.
        let got = unsafe { libc::read(READ_END.load(SeqCst) as i32, (&raw mut byte).cast(), 1) };
        assert_eq!((got, byte), (1, b'x'));
        ptr::without_provenance_mut(mine.iter().sum())
    }
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    READ_END.store(ends[0] as u32, SeqCst);
    let mut thread = 0;
    // SAFETY: the attributes are the defaults, and the body is a function of the right type.
    let error = unsafe { libc::pthread_create(&mut thread, ptr::null(), body, ptr::null_mut()) };
    assert_eq!(error, 0);
    while !MADE.load(SeqCst) {
        raddle::yield_now();
    }
    for _ in 0..3 {
        gc::collect();
        lose(|i| [i; 32]);
    }
    // SAFETY: the descriptor is the pipe's.
    assert_eq!(unsafe { libc::write(ends[1], b"x".as_ptr().cast(), 1) }, 1);
    let mut sum = ptr::null_mut();
    // SAFETY: the thread was started above, and is joined once.
    raddle::blocking(|| assert_eq!(unsafe { libc::pthread_join(thread, &mut sum) }, 0));
    assert_eq!(sum.addr(), 9 * 32);
}

pub(crate) fn memory_of_c_keeps_alive_as_a_root() {
    // SAFETY: no preconditions.
    let place = unsafe { libc::calloc(1, size_of::<Gc<[usize; 8]>>()) }.cast::<Gc<[usize; 8]>>();
    let range = place.addr()..place.addr() + size_of::<Gc<[usize; 8]>>();
    // SAFETY: it is readable until it is freed below.
    unsafe { gc::add_root(range.clone()) };
    stays(
        // SAFETY: room for one handle.
        |gc| unsafe { place.write(gc) },
        // SAFETY: written just now.
        |()| unsafe { place.read() }[6],
    );
    // SAFETY: the handle is not used any more.
    unsafe { gc::remove_root(range) };
    // SAFETY: from `calloc`.
    unsafe { libc::free(place.cast()) };
}

pub(crate) fn cycles_go() {
    struct Node {
        next: Atomic<Node>,
        _weight: [usize; 100],
    }
    let node = || {
        Gc::new(Node {
            next: Atomic::null(),
            _weight: [0; 100],
        })
    };
    let rings: Vec<Weak<Node>> = elsewhere(move || {
        (0..MANY)
            .map(|length| {
                let first = node();
                let last = (0..length % 7).fold(first, |last, _| {
                    let next = node();
                    last.next.store(Some(next), Release);
                    next
                });
                last.next.store(Some(first), Release);
                Gc::downgrade(&first)
            })
            .collect()
    });
    collect_until(|| rings.iter().filter(|ring| ring.upgrade().is_none()).count() >= MANY - FEW);
}

pub(crate) fn a_long_list_is_marked_and_goes() {
    struct Node {
        value: usize,
        next: Option<Gc<Node>>,
    }
    const LENGTH: usize = 200_000;
    let first =
        elsewhere(|| (0..LENGTH).fold(None, |next, value| Some(Gc::new(Node { value, next }))));
    gc::collect();
    let values = std::iter::successors(first, |node| node.next).map(|node| node.value);
    assert!(values.eq((0..LENGTH).rev()));
}

/// The resident memory of the process, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    4096 * statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap()
}

pub(crate) fn a_tight_loop_stays_bounded() {
    // Two GiB in all, of which nothing is kept; in race mode a quarter of it.
    let rounds = if raddle::race::enabled() {
        16_000
    } else {
        64_000
    };
    let workers: Vec<_> = (0..4)
        .map(|worker| {
            raddle::go(move || {
                let mut sum = 0;
                for i in 0..rounds / 4 {
                    let size = 1 << (5 + (i + worker) % 13);
                    let slice = Slice::<u8>::zeroed(size);
                    sum += black_box(slice).len();
                    let strings = Slice::from_fn(i % 5, |n| n.to_string());
                    sum += black_box(strings).len();
                }
                sum
            })
        })
        .collect();
    let total: usize = workers.into_iter().map(|w| w.join().unwrap()).sum();
    // 13 to 50 MiB were seen, on a machine that did much else.
    let limit = 128 << 20;
    let resident = resident();
    assert!(total > 2 * limit);
    assert!(resident < limit, "{resident} bytes are resident");
}

pub(crate) fn channels_carry_handles() {
    let (tx, rx) = chan::bounded::<Gc<Vec<usize>>>(4);
    let senders: Vec<_> = (0..4)
        .map(|s| {
            let tx = tx.clone();
            raddle::go(move || {
                for i in 0..500 {
                    tx.send(Gc::new(vec![s, i, s * i])).unwrap();
                }
            })
        })
        .collect();
    drop(tx);
    let mut count = 0;
    for gc in rx {
        assert_eq!(gc[2], gc[0] * gc[1]);
        count += 1;
        if count % 500 == 0 {
            gc::collect();
        }
    }
    senders.into_iter().for_each(|s| s.join().unwrap());
    assert_eq!(count, 2000);
}

pub(crate) fn collections_asked_for_at_once_all_come_back() {
    let before = gc::stats().cycles;
    let callers: Vec<_> = (0..16)
        .map(|_| raddle::go(|| (0..5).for_each(|_| gc::collect())))
        .collect();
    let threads: Vec<_> = (0..2)
        .map(|_| thread::spawn(|| (0..5).for_each(|_| gc::collect())))
        .collect();
    callers.into_iter().for_each(|c| c.join().unwrap());
    for thread in threads {
        raddle::blocking(|| thread.join().unwrap());
    }
    assert!(gc::stats().cycles >= before + 5);
}

pub(crate) fn collections_meet_a_change_of_procs() {
    let workers: Vec<_> = (0..4)
        .map(|_| {
            raddle::go(|| {
                for _ in 0..300 {
                    black_box(Slice::<u64>::zeroed(1000));
                    raddle::yield_now();
                }
            })
        })
        .collect();
    for n in [1, 4, 2, 7, 3, 1] {
        raddle::set_procs(n);
        gc::collect();
    }
    workers.into_iter().for_each(|w| w.join().unwrap());
}

pub(crate) fn control_says_what_was_set() {
    let first = gc::set_percent(Some(50));
    assert_eq!(gc::set_percent(None), Some(50));
    assert_eq!(gc::set_percent(first), None);
    assert_eq!(gc::set_memory_limit(Some(1 << 40)).unwrap(), None);
    let held = Slice::<u64>::zeroed(1 << 17);
    let error = gc::set_memory_limit(Some(1000)).unwrap_err();
    assert!(error.limit == 1000 && error.live > 1000, "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains("1000") && text.contains(&error.live.to_string()),
        "{text}"
    );
    assert_eq!(gc::set_memory_limit(None).unwrap(), Some(1 << 40));
    gc::keep_alive(&held);
}

pub(crate) fn values_may_hold_what_is_not_scanned() {
    struct Mixed {
        name: String,
        numbers: [mem::MaybeUninit<usize>; 4],
        pad: (u8, u64),
    }
    // SAFETY: no handle lies in its own bytes.
    unsafe impl NoPointers for Mixed {}
    let mixed = Gc::new_no_pointers(Mixed {
        name: "weft".into(),
        numbers: [mem::MaybeUninit::new(5); 4],
        pad: (1, 2),
    });
    gc::collect();
    assert_eq!((mixed.name.as_str(), mixed.pad), ("weft", (1, 2)));
    // SAFETY: it was made from a value.
    assert_eq!(unsafe { mixed.numbers[3].assume_init() }, 5);
}
