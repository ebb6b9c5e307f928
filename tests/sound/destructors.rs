//! Destructors that do all that safe code can do with what they reach.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use raddle::gc::{self, Atomic, Gc, Slice, Weak};
use raddle::{chan, shared, time};

use crate::support::{
    Canary, Random, churn, collect_until, elsewhere, forget, lock, under_collections, wipe,
};

/// Of so many lost objects ...
const MANY: usize = 48;
/// ... so many may stay: a number on some stack or in a register looks like their address.
const FEW: usize = 20;

/// Counts its drop.
struct Token(Canary, Arc<AtomicUsize>);

impl Token {
    fn new(number: usize, drops: &Arc<AtomicUsize>) -> Self {
        Self(Canary::new(number as u64), drops.clone())
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.number();
        self.1.fetch_add(1, SeqCst);
    }
}

mod graph {
    //! Random graphs whose destructors save what they meet, beside an account of which reaches
    //! which.

    use super::*;

    const OBJECTS: usize = 60;
    const KINDS: usize = 5;
    /// A destructor saves so many at most.
    const SAVES: usize = 3;

    /// What is known of a graph.
    struct Account {
        edges: Vec<Vec<usize>>,
        /// What each object leads to, itself included.
        reach: Vec<Vec<bool>>,
        /// Which have a destructor,
        drops: Vec<bool>,
        /// and of which it has run.
        dropped: Vec<AtomicBool>,
        saved: Mutex<Vec<Handle>>,
        /// Of so many objects one saves what it meets.
        savers: AtomicUsize,
        faults: Mutex<Vec<String>>,
    }

    struct Links {
        id: usize,
        canary: Canary,
        account: &'static Account,
        plain: Atomic<Plain>,
        wide: Atomic<Wide>,
        row: Atomic<Row>,
        dropping: Atomic<Dropping>,
        heavy: Atomic<Heavy>,
    }

    struct Plain(Links);
    /// A large object.
    struct Wide(Links, #[expect(dead_code, reason = "room")] [usize; 5000]);
    /// Its links are in another object.
    struct Row(Slice<Links>);
    struct Dropping(Links);
    struct Heavy(Links, #[expect(dead_code, reason = "room")] [usize; 50]);
    const _: () = assert!(!std::mem::needs_drop::<Wide>() && !std::mem::needs_drop::<Row>());

    #[derive(Clone, Copy)]
    enum Handle {
        Plain(Gc<Plain>),
        Wide(Gc<Wide>),
        Row(Gc<Row>),
        Dropping(Gc<Dropping>),
        Heavy(Gc<Heavy>),
    }

    impl Links {
        fn new(id: usize, account: &'static Account) -> Self {
            Self {
                id,
                canary: Canary::new(id as u64),
                account,
                plain: Atomic::null(),
                wide: Atomic::null(),
                row: Atomic::null(),
                dropping: Atomic::null(),
                heavy: Atomic::null(),
            }
        }

        fn set(&self, to: Handle) {
            match to {
                Handle::Plain(to) => self.plain.store(Some(to), Release),
                Handle::Wide(to) => self.wide.store(Some(to), Release),
                Handle::Row(to) => self.row.store(Some(to), Release),
                Handle::Dropping(to) => self.dropping.store(Some(to), Release),
                Handle::Heavy(to) => self.heavy.store(Some(to), Release),
            }
        }

        fn all(&self) -> [Option<Handle>; KINDS] {
            [
                self.plain.load(Acquire).map(Handle::Plain),
                self.wide.load(Acquire).map(Handle::Wide),
                self.row.load(Acquire).map(Handle::Row),
                self.dropping.load(Acquire).map(Handle::Dropping),
                self.heavy.load(Acquire).map(Handle::Heavy),
            ]
        }

        fn end(&self) {
            let (id, account) = (self.id, self.account);
            assert_eq!(self.canary.number(), id as u64);
            if account.dropped[id].swap(true, AcqRel) {
                account.fault(format!("{id} was dropped twice"));
            }
            account.check_order(id);
            let mut random = Random(id as u64 * 0x9e37_79b9 + 1);
            if random.below(account.savers.load(Acquire)) == 0 {
                for _ in 0..SAVES {
                    self.save(&mut random);
                }
            }
        }

        /// Follows handles, and keeps one that was followed.
        fn save(&self, random: &mut Random) {
            let mut at = None;
            for _ in 0..1 + random.below(5) {
                let links = at
                    .as_ref()
                    .map_or(Some(self), Handle::links)
                    .unwrap_or(self);
                let all = links.all();
                let next = || all.iter().flatten();
                if next().next().is_none() {
                    break;
                }
                let next = next().nth(random.below(next().count())).copied();
                if next.as_ref().and_then(Handle::links).is_none() {
                    break;
                }
                at = next;
            }
            if let Some(at) = at
                && let Some(links) = at.links()
                && self.account.drops[links.id]
            {
                lock(&self.account.saved).push(at);
            }
        }
    }

    impl Drop for Dropping {
        fn drop(&mut self) {
            self.0.end();
        }
    }

    impl Drop for Heavy {
        fn drop(&mut self) {
            self.0.end();
        }
    }

    impl Handle {
        fn new(kind: usize, id: usize, account: &'static Account) -> Self {
            let links = Links::new(id, account);
            match kind {
                0 => Handle::Plain(Gc::new(Plain(links))),
                1 => Handle::Wide(Gc::new(Wide(links, [0; 5000]))),
                2 => Handle::Row(Gc::new(Row(Slice::from([links])))),
                3 => Handle::Dropping(Gc::new(Dropping(links))),
                _ => Handle::Heavy(Gc::new(Heavy(links, [0; 50]))),
            }
        }

        /// None: it has been dropped.
        fn links(&self) -> Option<&Links> {
            let links = match self {
                Handle::Plain(gc) => &gc.0,
                Handle::Wide(gc) => &gc.0,
                Handle::Row(gc) => &gc.0[0],
                Handle::Dropping(gc) => &Gc::get(gc)?.0,
                Handle::Heavy(gc) => &Gc::get(gc)?.0,
            };
            assert_eq!(links.canary.number(), links.id as u64);
            Some(links)
        }
    }

    impl Account {
        /// A graph, and its account. Nothing of the graph is reachable when this returns.
        fn new(seed: u64) -> &'static Self {
            let mut random = Random(seed);
            let (forward, back) = (1 + random.below(3), random.below(30));
            let with_drop = 1 + random.below(4);
            let kinds: Vec<usize> = (0..OBJECTS)
                .map(|_| match random.below(6) {
                    n if n < with_drop => 3 + random.below(2),
                    _ => random.below(3),
                })
                .collect();
            let mut edges = vec![vec![]; OBJECTS];
            for (from, edges) in edges.iter_mut().enumerate() {
                for _ in 0..forward {
                    let to = match random.below(100) {
                        p if p < back => random.below(OBJECTS),
                        _ => (from + 1 + random.below(6)).min(OBJECTS - 1),
                    };
                    // There is one link for each kind.
                    edges.retain(|before: &usize| kinds[*before] != kinds[to]);
                    edges.push(to);
                }
            }
            let account: &'static Self = Box::leak(Box::new(Self {
                reach: (0..OBJECTS).map(|i| reach(&edges, i, |_| true)).collect(),
                edges,
                drops: kinds.iter().map(|&kind| kind >= 3).collect(),
                dropped: (0..OBJECTS).map(|_| AtomicBool::new(false)).collect(),
                saved: Mutex::new(Vec::with_capacity(SAVES * OBJECTS)),
                savers: AtomicUsize::new(1 + random.below(4)),
                faults: Mutex::new(vec![]),
            }));
            // The order in which they are made is another.
            let mut order: Vec<usize> = (0..OBJECTS).collect();
            for i in (1..OBJECTS).rev() {
                order.swap(i, random.below(i + 1));
            }
            elsewhere(move || {
                let mut made = vec![None; OBJECTS];
                for id in order {
                    made[id] = Some(Handle::new(kinds[id], id, account));
                }
                for (from, to) in account.edges.iter().enumerate() {
                    let from = made[from].as_ref().and_then(Handle::links).unwrap();
                    to.iter().for_each(|&to| from.set(made[to].unwrap()));
                }
                wipe(&mut made);
            });
            account
        }

        fn fault(&self, what: String) {
            lock(&self.faults).push(what);
        }

        fn is_dropped(&self, id: usize) -> bool {
            self.dropped[id].load(Acquire)
        }

        fn are_in_a_cycle(&self, a: usize, b: usize) -> bool {
            self.reach[a][b] && self.reach[b][a]
        }

        /// Whatever leads to an object that is dropped was dropped before, but in a cycle.
        fn check_order(&self, id: usize) {
            for x in 0..OBJECTS {
                let leads = self.drops[x] && !self.is_dropped(x) && self.reach[x][id];
                if leads
                    && !self.are_in_a_cycle(x, id)
                    && reach(&self.edges, x, |i| !self.is_dropped(i))[id]
                {
                    self.fault(format!("{id} was dropped before {x}, which leads to it"));
                }
            }
        }

        /// What was saved is there, and what it leads to, but in a cycle.
        fn check_saved(&self) {
            for saved in lock(&self.saved).iter() {
                let Some(links) = saved.links() else {
                    self.fault("a saved object was dropped".into());
                    continue;
                };
                let reached = reach(&self.edges, links.id, |i| !self.is_dropped(i));
                for v in (0..OBJECTS).filter(|&v| reached[v]) {
                    if self.is_dropped(v) && !self.are_in_a_cycle(links.id, v) {
                        self.fault(format!("{v} was dropped, and {} is saved", links.id));
                    }
                }
            }
        }

        fn let_go(&self) {
            wipe(&mut lock(&self.saved));
        }

        fn check_faults(&self) {
            let faults = lock(&self.faults);
            assert!(faults.is_empty(), "{faults:?}");
        }

        fn left(&self) -> usize {
            let is_left = |&i: &usize| self.drops[i] && !self.is_dropped(i);
            (0..OBJECTS).filter(is_left).count()
        }
    }

    /// What an object leads to, by way of some.
    fn reach(edges: &[Vec<usize>], from: usize, by: impl Fn(usize) -> bool) -> Vec<bool> {
        let mut reached = vec![false; edges.len()];
        let mut open = vec![from];
        while let Some(at) = open.pop() {
            if !std::mem::replace(&mut reached[at], true) && by(at) {
                open.extend(&edges[at]);
            }
        }
        reached
    }

    const GRAPHS: usize = 12;

    #[test]
    fn what_was_saved_stays_and_all_else_is_dropped_in_order() {
        let accounts: Vec<_> = (1..=GRAPHS as u64)
            .map(|seed| Account::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d)))
            .collect();
        let left = || accounts.iter().map(|account| account.left()).sum::<usize>();
        // Some are saved, and found dead again when they are let go.
        for _ in 0..3 {
            let mut before = usize::MAX;
            while left() < before {
                before = left();
                (0..2).for_each(|_| churn());
            }
            for &account in &accounts {
                elsewhere(move || account.check_saved());
                account.check_faults();
                account.let_go();
            }
        }
        for account in &accounts {
            account.savers.store(usize::MAX, Release);
        }
        // A stray word keeps a graph: an old handle in a part of a block that nobody wrote since.
        // In the heap's own tests no word is stray, and they say exactly what goes.
        let are_left = || {
            // Destructors of other tests' collections may have saved some until just now.
            accounts.iter().for_each(|account| account.let_go());
            accounts.iter().filter(|account| account.left() > 0).count()
        };
        let cycles = collect_until(|| are_left() <= GRAPHS / 2);
        assert!(cycles < 100, "{cycles} cycles");
        accounts.iter().for_each(|account| account.check_faults());
    }
}

/// The way from what is saved to another destructor is an object without one.
#[test]
fn what_a_saved_object_leads_to_by_way_of_a_plain_one_stays() {
    struct Parent {
        leaf: Gc<Leaf>,
        token: Token,
    }
    struct Leaf(Atomic<Parent>);
    struct Saved {
        leaf: Gc<Leaf>,
        canary: Canary,
        _pad: [u64; 8],
    }
    struct Saver {
        other: Gc<Saved>,
        all: Arc<Mutex<Vec<Gc<Saved>>>>,
        _pad: [u64; 16],
    }
    impl Drop for Saved {
        fn drop(&mut self) {
            self.canary.number();
        }
    }
    impl Drop for Saver {
        fn drop(&mut self) {
            self.other.canary.number();
            lock(&self.all).push(self.other);
        }
    }
    let drops = Arc::<AtomicUsize>::default();
    let all = Arc::<Mutex<Vec<Gc<Saved>>>>::default();
    let (inner, place) = (drops.clone(), all.clone());
    elsewhere(move || {
        for n in 0..MANY {
            let leaf = Gc::new(Leaf(Atomic::null()));
            let token = Token::new(n, &inner);
            let parent = Gc::new(Parent { leaf, token });
            leaf.0.store(Some(parent), Release);
            let (canary, _pad) = (Canary::new(n as u64), [0; 8]);
            let other = Gc::new(Saved { leaf, canary, _pad });
            let (all, _pad) = (place.clone(), [0; 16]);
            forget(Gc::new(Saver { other, all, _pad }));
        }
    });
    collect_until(|| lock(&all).len() >= MANY - FEW);
    (0..5).for_each(|_| churn());
    for saved in lock(&all).iter() {
        let parent = saved.leaf.0.load(Acquire).unwrap();
        assert_eq!(parent.token.0.number(), saved.canary.number());
        assert!(Gc::ptr_eq(&parent.leaf, &saved.leaf));
    }
    assert_eq!(drops.load(SeqCst), 0);
}

/// Each has a destructor, which does nothing with the others.
#[test]
fn a_long_list_is_dropped_in_a_few_cycles() {
    const LENGTH: usize = 1000;
    /// A stray word may keep a list.
    const LISTS: usize = 8;
    struct Node {
        #[expect(dead_code, reason = "it leads to the next")]
        next: Option<Gc<Node>>,
        number: usize,
        last: Arc<AtomicUsize>,
        in_order: Arc<AtomicBool>,
    }
    impl Drop for Node {
        fn drop(&mut self) {
            let last = self.last.swap(self.number, SeqCst);
            self.in_order.fetch_and(last == self.number + 1, SeqCst);
        }
    }
    let in_order = Arc::new(AtomicBool::new(true));
    let list = |_| {
        let last = Arc::new(AtomicUsize::new(LENGTH));
        let inner = (last.clone(), in_order.clone());
        elsewhere(move || {
            forget((0..LENGTH).fold(None, |next, number| {
                let (last, in_order) = inner.clone();
                Some(Gc::new(Node {
                    next,
                    number,
                    last,
                    in_order,
                }))
            }))
        });
        last
    };
    let lists: Vec<_> = (0..LISTS).map(list).collect();
    let gone = || lists.iter().filter(|last| last.load(SeqCst) == 0).count();
    let cycles = collect_until(|| gone() >= LISTS / 2);
    assert!(cycles < 100, "{cycles} cycles");
    assert!(in_order.load(SeqCst));
}

/// Destructors hand over what they have followed, and what they have not.
#[test]
fn a_handle_from_a_destructor_leads_to_the_value_or_tells() {
    struct Child(Token);
    /// Whether it was followed, and the handle.
    type Given = (bool, Result<Gc<Child>, Weak<Child>>);
    struct Giver {
        child: Gc<Child>,
        give: chan::Sender<Given>,
        how: usize,
    }
    impl Drop for Giver {
        fn drop(&mut self) {
            let given = match self.how % 3 {
                0 => (false, Ok(self.child)),
                1 => (false, Err(Gc::downgrade(&self.child))),
                _ => {
                    self.child.0.0.number();
                    (true, Ok(self.child))
                }
            };
            let _ = self.give.send(given);
        }
    }
    let drops = Arc::<AtomicUsize>::default();
    let (give, take) = chan::bounded(3);
    let inner = drops.clone();
    elsewhere(move || {
        for how in 0..MANY {
            let child = Gc::new(Child(Token::new(how, &inner)));
            let give = give.clone();
            forget(Gc::new(Giver { child, give, how }));
        }
    });
    let (mut there, mut gone) = (vec![], 0);
    collect_until(|| {
        for (was_followed, given) in take.try_iter() {
            let child = match given {
                Ok(child) => Gc::get(&child).map(|_| child),
                Err(weak) => weak.upgrade(),
            };
            assert!(child.is_some() || !was_followed);
            match child {
                Some(child) => there.push(child),
                None => gone += 1,
            }
        }
        there.len() + gone >= MANY - FEW
    });
    (0..3).for_each(|_| churn());
    there.iter().for_each(|child| forget(child.0.0.number()));
    assert!(there.len() + drops.load(SeqCst) <= MANY);
}

/// It panics, with handles and with what panics for ever when it is dropped; it exits, waits,
/// starts goroutines and collects.
#[test]
fn a_destructor_may_do_anything() {
    struct Any {
        token: Option<Token>,
        other: Gc<Token>,
        how: usize,
    }
    struct Bomb(Gc<Token>);
    impl Drop for Bomb {
        fn drop(&mut self) {
            self.0.0.number();
            std::panic::resume_unwind(Box::new(Bomb(self.0)));
        }
    }
    impl Drop for Any {
        fn drop(&mut self) {
            let other = self.other;
            drop(self.token.take());
            match self.how % 6 {
                0 => std::panic::resume_unwind(Box::new(other)),
                1 => std::panic::resume_unwind(Box::new(Bomb(other))),
                2 => raddle::exit(),
                3 => drop(raddle::go(move || other.0.number())),
                4 => {
                    let (tx, rx) = chan::bounded(0);
                    raddle::go(move || {
                        gc::collect();
                        tx.send(other).unwrap();
                    });
                    rx.recv().unwrap().0.number();
                }
                _ => gc::collect(),
            }
        }
    }
    let [drops, others] = [(); 2].map(|()| Arc::<AtomicUsize>::default());
    let (inner, inner_others) = (drops.clone(), others.clone());
    elsewhere(move || {
        for how in 0..MANY {
            forget(Gc::new(Any {
                token: Some(Token::new(how, &inner)),
                other: Gc::new(Token::new(how, &inner_others)),
                how,
            }));
        }
    });
    collect_until(|| drops.load(SeqCst) >= MANY - FEW);
    collect_until(|| others.load(SeqCst) >= MANY - 2 * FEW);
    assert!(drops.load(SeqCst) <= MANY && others.load(SeqCst) <= MANY);
}

/// Nobody reads what is said about destructors that panic, and they go on all the same.
#[test]
fn a_closed_standard_error_stops_no_destructor() {
    const CHILD: &str = "RADDLE_SOUND_CHILD";
    if std::env::var_os(CHILD).is_none() {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["a_closed_standard_error_stops_no_destructor", "--nocapture"])
            .env(CHILD, "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stderr.take());
        assert!(child.wait().unwrap().success());
        return;
    }
    struct Panics(Option<Token>);
    impl Drop for Panics {
        fn drop(&mut self) {
            drop(self.0.take());
            std::panic::resume_unwind(Box::new(()));
        }
    }
    let drops = Arc::<AtomicUsize>::default();
    let inner = drops.clone();
    elsewhere(move || {
        for n in 0..MANY {
            forget(Gc::new(Panics(Some(Token::new(n, &inner)))));
        }
    });
    collect_until(|| drops.load(SeqCst) >= MANY - FEW);
}

/// The callbacks that make values panic, exit, collect, and hand out what they are given.
#[test]
fn a_value_that_was_not_made_is_never_seen() {
    under_collections(|| {
        for n in 0..6 {
            let drops = Arc::<AtomicUsize>::default();
            let (inner, end) = (drops.clone(), n % 20);
            let ended = raddle::go(move || {
                Slice::from_fn(30, |i| {
                    raddle::yield_now();
                    match (i == end, n % 2) {
                        (false, _) => Token::new(i, &inner),
                        (true, 0) => std::panic::resume_unwind(Box::new(i)),
                        (true, _) => raddle::exit(),
                    }
                })
            });
            assert!(ended.join().is_err());
            assert_eq!(drops.load(SeqCst), end, "those that were made");

            let mut stolen = Weak::new();
            let result = catch_unwind(AssertUnwindSafe(|| {
                Gc::new_cyclic(|me: &Weak<Token>| {
                    stolen = *me;
                    churn();
                    assert!(me.upgrade().is_none());
                    std::panic::resume_unwind(Box::new(()))
                })
            }));
            assert!(result.is_err() && stolen.upgrade().is_none());

            let made = Gc::new_cyclic(|me: &Weak<Token>| {
                stolen = *me;
                raddle::yield_now();
                Token::new(n, &drops)
            });
            let upgraded = stolen.upgrade().unwrap();
            assert!(Gc::ptr_eq(&upgraded, &made) && made.0.number() == n as u64);
        }
    });
}

/// Values without size, with a large alignment, and in rows.
#[test]
fn values_of_any_shape_are_dropped_once_where_they_lie() {
    static EMPTY: AtomicUsize = AtomicUsize::new(0);
    struct Empty;
    impl Drop for Empty {
        fn drop(&mut self) {
            EMPTY.fetch_add(1, SeqCst);
        }
    }
    // Nothing is left free behind the tokens: nobody would write there, and what earlier objects left
    // would be handles.
    #[repr(align(8192))]
    struct Wide(Token, #[expect(dead_code, reason = "room")] [u64; 1021]);
    #[repr(align(128))]
    struct Line([Token; 2], #[expect(dead_code, reason = "room")] [u64; 10]);
    const _: () = assert!(size_of::<Wide>() == 8192 && size_of::<Line>() == 128);

    let drops = Arc::<AtomicUsize>::default();
    let inner = drops.clone();
    elsewhere(move || {
        under_collections(|| {
            for n in 0..MANY {
                let empties = Slice::from_fn(100, |_| Empty);
                let empty = Gc::new(Empty);
                let wide = Gc::new(Wide(Token::new(n, &inner), [0; 1021]));
                let line = |i| Line([2 * i, 2 * i + 1].map(|i| Token::new(i, &inner)), [0; 10]);
                let lines = Slice::from_fn(3, line);
                assert_eq!(Gc::as_ptr(&wide).addr() % 8192, 0);
                assert_eq!(Slice::as_ptr(&lines).addr() % 128, 0);
                let none = [Gc::new(<[String; 0]>::default()); 2];
                assert!(none.iter().all(|none| none.is_empty()));
                raddle::yield_now();
                assert_eq!(wide.0.0.number(), n as u64);
                let all = lines.iter().flat_map(|line| &line.0);
                assert!(all.map(|token| token.0.number()).eq(0..6));
                assert_eq!(empties.len(), 100);
                gc::keep_alive(&(empties, empty));
            }
        });
    });
    collect_until(|| drops.load(SeqCst) >= 7 * (MANY - FEW));
    collect_until(|| EMPTY.load(SeqCst) >= 101 * (MANY - FEW));
    assert!(drops.load(SeqCst) <= 7 * MANY && EMPTY.load(SeqCst) <= 101 * MANY);

    let units = Slice::copy_from_slice(&[(); usize::MAX]);
    assert_eq!(units.len(), usize::MAX);
    for too_large in [usize::MAX, isize::MAX as usize / 8 + 1] {
        assert!(catch_unwind(|| Slice::<u64>::zeroed(too_large)).is_err());
        assert!(catch_unwind(|| Slice::from_fn(too_large, Box::new)).is_err());
    }
}

/// A stack of handles, from which goroutines and threads take and on which they put.
#[test]
fn compared_exchanges_take_no_value_for_another() {
    struct Node {
        below: Option<Gc<Node>>,
        token: Token,
    }
    static TOP: Atomic<Node> = Atomic::null();
    fn push(number: usize, drops: &Arc<AtomicUsize>) {
        let mut below = TOP.load(Acquire);
        loop {
            let token = Token::new(number, drops);
            let node = Gc::new(Node { below, token });
            match TOP.compare_exchange(below, Some(node), AcqRel, Acquire) {
                Ok(_) => return,
                Err(now) => below = now,
            }
        }
    }
    fn pop() -> Option<Gc<Node>> {
        let mut top = TOP.load(Acquire);
        while let Some(node) = top {
            match TOP.compare_exchange(top, node.below, AcqRel, Acquire) {
                Ok(_) => return Some(node),
                Err(now) => top = now,
            }
        }
        None
    }
    const EACH: usize = 400;
    const WORKERS: usize = 6;
    let drops = Arc::<AtomicUsize>::default();
    let work = |drops: Arc<AtomicUsize>| {
        move || {
            let mut sum = 0;
            for n in 0..EACH {
                push(n, &drops);
                if n % 50 == 0 {
                    raddle::yield_now();
                }
                sum += pop().map_or(0, |node| node.token.0.number());
            }
            sum
        }
    };
    let sum = under_collections(|| {
        let goroutines: Vec<_> = (0..WORKERS - 2)
            .map(|_| raddle::go(work(drops.clone())))
            .collect();
        let threads: Vec<_> = (0..2)
            .map(|_| std::thread::spawn(work(drops.clone())))
            .collect();
        let sums = goroutines.into_iter().map(|g| g.join().unwrap());
        let sum: u64 = sums.sum();
        sum + threads.into_iter().map(|t| t.join().unwrap()).sum::<u64>()
    });
    // Each takes what it or another has put there.
    let rest: u64 = std::iter::from_fn(pop)
        .map(|node| node.token.0.number())
        .sum();
    assert_eq!(sum + rest, (WORKERS * EACH * (EACH - 1) / 2) as u64);
}

/// Whatever the runtime keeps for a while keeps what it leads to.
#[test]
fn what_waits_in_the_runtime_keeps_its_values() {
    thread_local! {
        static MINE: Cell<Option<Gc<Token>>> = const { Cell::new(None) };
    }
    let drops = Arc::<AtomicUsize>::default();
    let make = |number| Gc::new(Token::new(number, &drops));
    let number = |token: Gc<Token>| token.0.number() as usize;
    under_collections(|| {
        for _ in 0..2 {
            // In a buffer, and on the stacks of senders that wait.
            let (tx, rx) = chan::bounded(2);
            let senders: Vec<_> = (0..6)
                .map(|n| {
                    let (tx, message) = (tx.clone(), make(n));
                    raddle::go(move || tx.send(message).unwrap())
                })
                .collect();
            let unbounded = chan::unbounded();
            unbounded.0.send([make(7), make(8)]).unwrap();
            // In a result, a payload, a closure that waits for its time, a thread-local.
            let result = {
                let token = make(9);
                raddle::go(move || token)
            };
            let payload = {
                let token = make(10);
                raddle::go(move || std::panic::resume_unwind(Box::new(token)))
            };
            let (fired, on_fire) = chan::bounded(1);
            let timer = {
                let token = make(11);
                time::after_func(Duration::from_millis(20), move || {
                    let _ = fired.send(token);
                })
            };
            let local = {
                let token = make(12);
                raddle::go(move || {
                    MINE.set(Some(token));
                    time::sleep(Duration::from_millis(10));
                    MINE.get().unwrap()
                })
            };
            // In what goroutines share.
            let map = shared::Map::new();
            for n in 13..22 {
                map.insert(n, make(n));
            }

            (0..3).for_each(|_| churn());
            drop(tx);
            let mut sent: Vec<_> = rx.iter().map(number).collect();
            sent.sort_unstable();
            assert_eq!(sent, [0, 1, 2, 3, 4, 5]);
            senders
                .into_iter()
                .for_each(|sender| sender.join().unwrap());
            assert_eq!(unbounded.1.recv().unwrap().map(number), [7, 8]);
            assert_eq!(number(result.join().unwrap()), 9);
            let error: raddle::JoinError = payload.join().map(|(): ()| ()).unwrap_err();
            let payload = error.into_panic().downcast::<Gc<Token>>().unwrap();
            assert_eq!(number(*payload), 10);
            assert_eq!(number(on_fire.recv().unwrap()), 11);
            drop(timer);
            assert_eq!(number(local.join().unwrap()), 12);
            assert!((13..22).all(|n| number(map.get(&n).unwrap()) == n));
        }
    });
    collect_until(|| drops.load(SeqCst) >= 2 * 22 - 2 * FEW);
}
