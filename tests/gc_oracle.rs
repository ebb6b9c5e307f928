//! The collector against an exact account of what is reachable.
//!
//! Goroutines build and change a random graph of collected objects, all at once. Beside it a model is kept, in numbers only:
//! which object holds which. After a collection the two are compared:
//!
//! - what the model reaches is there, whole, and leads where the model says; none of it was freed or dropped;
//! - what the model does not reach goes, but for what a number on some stack or in a register happens to point to. That is
//!   asked at the end of a round, when the goroutines that changed the graph are over: see [`LEFT_PERCENT`].
//!
//! Half of the objects have a destructor, which tells that its object is over; of the others a weak pointer tells. An object
//! carries its number and a canary: one that was freed and used again does not match.
//!
//! Every case is a process of its own.
//!
//!     cargo test --release --test gc_oracle
//!     RADDLE_STRESS_SEED=1234 cargo test --release --test gc_oracle      that seed for every case

#[path = "support/random.rs"]
mod random;
#[path = "support/mod.rs"]
mod support;

use std::env;
use std::mem::needs_drop;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::{Duration, SystemTime};

use raddle::chan::{self, Receiver, Sender};
use raddle::gc::{self, Atomic, Gc, Weak};
use raddle::sync::Mutex;
use raddle::time;
use random::Random;

const CASE: &str = "RADDLE_ORACLE_SEED";
const LIMIT: Duration = Duration::from_secs(240);

/// The objects that a case makes. A collector that is not optimised takes ten times as long.
const OBJECTS: usize = if cfg!(debug_assertions) {
    8_000
} else {
    40_000
};
const ROUNDS: usize = 4;
const MUTATORS: usize = 12;
/// The graph has parts, between which there are no links: so what one stray number holds is at most one part's garbage.
const PARTS: usize = 64;
const ROOTS_OF_PART: usize = 4;
const ROOTS: usize = PARTS * ROOTS_OF_PART;
const LINKS: usize = 4;
/// How much of a round's garbage may be left at its end, in percent, besides [`LEFT_FEW`]. Measured: none, in every round but a few;
/// one stray number can hold the garbage of a part. (With the model in `Option<usize>`s, whose `None`s are copied with what was
/// there before, it was a third.)
const LEFT_PERCENT: usize = 5;
const LEFT_FEW: usize = 16;

type Id = usize;

/// What both types of object have.
struct Object {
    id: Id,
    canary: u64,
    /// Std's locks: Raddle's have a destructor.
    locked: [std::sync::Mutex<Place>; 2],
    plain: Atomic<Plain>,
    dropping: Atomic<Dropping>,
}

/// An object without a destructor.
struct Plain(Object);
const _: () = assert!(!needs_drop::<Plain>());

/// An object with one.
struct Dropping(Object);

#[derive(Clone, Copy)]
enum Handle {
    Plain(Gc<Plain>),
    Dropping(Gc<Dropping>),
}

/// A place for a handle. Not an `Option<Handle>`: a `None` of that leaves the address where it was, where the collector finds it.
#[derive(Clone, Copy)]
struct Place {
    plain: Option<Gc<Plain>>,
    dropping: Option<Gc<Dropping>>,
}

impl Place {
    const EMPTY: Place = Place {
        plain: None,
        dropping: None,
    };

    fn new(handle: Option<Handle>) -> Self {
        let mut place = Self::EMPTY;
        match handle {
            None => {}
            Some(Handle::Plain(gc)) => place.plain = Some(gc),
            Some(Handle::Dropping(gc)) => place.dropping = Some(gc),
        }
        place
    }

    fn get(&self) -> Option<Handle> {
        let plain = self.plain.map(Handle::Plain);
        plain.or(self.dropping.map(Handle::Dropping))
    }
}

#[derive(Clone, Copy)]
enum WeakHandle {
    Plain(Weak<Plain>),
    Dropping(Weak<Dropping>),
}

/// Of each object with a destructor: whether that has run.
static DROPPED: [AtomicBool; OBJECTS] = [const { AtomicBool::new(false) }; OBJECTS];

/// No address: the top bit is set.
fn canary(id: Id) -> u64 {
    (id as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 << 63
}

impl Object {
    fn new(id: Id) -> Self {
        Object {
            id,
            canary: canary(id),
            locked: [const { std::sync::Mutex::new(Place::EMPTY) }; 2],
            plain: Atomic::null(),
            dropping: Atomic::null(),
        }
    }

    #[track_caller]
    fn check(&self) {
        assert_eq!(self.canary, canary(self.id), "object {}", self.id);
        assert!(
            !DROPPED[self.id].load(Acquire),
            "object {} was dropped",
            self.id
        );
    }

    fn link(&self, link: usize) -> Option<Handle> {
        match link {
            0 | 1 => self.locked[link].lock().unwrap().get(),
            2 => self.plain.load(Acquire).map(Handle::Plain),
            _ => self.dropping.load(Acquire).map(Handle::Dropping),
        }
    }

    /// Stores `to` in the link, or in one that takes its type. Returns which.
    fn set_link(&self, link: usize, to: Option<Handle>) -> usize {
        match (link, to) {
            (2, None) => self.plain.store(None, Release),
            (2, Some(Handle::Plain(to))) => drop(self.plain.swap(Some(to), AcqRel)),
            (3, None) => self.dropping.store(None, Release),
            (3, Some(Handle::Dropping(to))) => drop(self.dropping.swap(Some(to), AcqRel)),
            (2 | 3, _) => return self.set_link(0, to),
            _ => *self.locked[link].lock().unwrap() = Place::new(to),
        }
        link
    }
}

impl Drop for Dropping {
    fn drop(&mut self) {
        self.0.check();
        assert!(!DROPPED[self.0.id].swap(true, AcqRel));
        if self.0.id.is_multiple_of(64)
            && let Some(Handle::Dropping(next)) = self.0.link(3)
            && let Some(next) = Gc::get(&next)
        {
            // Looking at it has saved it from its own drop, for this time.
            next.0.check();
        }
    }
}

impl Handle {
    fn new(id: Id, drops: bool) -> Handle {
        if drops {
            Handle::Dropping(Gc::new(Dropping(Object::new(id))))
        } else {
            Handle::Plain(Gc::new(Plain(Object::new(id))))
        }
    }

    #[track_caller]
    fn object(&self) -> &Object {
        match self {
            Handle::Plain(gc) => &gc.0,
            Handle::Dropping(gc) => &gc.0,
        }
    }

    fn downgrade(&self) -> WeakHandle {
        match self {
            Handle::Plain(gc) => WeakHandle::Plain(Gc::downgrade(gc)),
            Handle::Dropping(gc) => WeakHandle::Dropping(Gc::downgrade(gc)),
        }
    }

    /// Goes `steps` links on, as far as there are any, and checks what it meets.
    fn walk(self, random: &mut Random, steps: usize) -> Handle {
        let mut here = self;
        here.object().check();
        for _ in 0..steps {
            let Some(next) = here.object().link(random.below(LINKS)) else {
                break;
            };
            here = next;
            here.object().check();
        }
        here
    }
}

impl WeakHandle {
    fn upgrade(&self) -> Option<Handle> {
        match self {
            WeakHandle::Plain(weak) => weak.upgrade().map(Handle::Plain),
            WeakHandle::Dropping(weak) => weak.upgrade().map(Handle::Dropping),
        }
    }
}

/// The number of an object as the model stores it; or [`NOTHING`]. Not an `Option`: where that is `None` it has room that is copied
/// without having been written, and may be an address that was on the stack there.
fn number(handle: Option<&Handle>) -> u32 {
    handle.map_or(NOTHING, |handle| handle.object().id as u32)
}

const NOTHING: u32 = u32::MAX;

/// The real roots, and the model.
struct World {
    roots: [Place; ROOTS],
    root_ids: [u32; ROOTS],
    links: Vec<[u32; LINKS]>,
    weak: Vec<WeakHandle>,
    /// The part of each object.
    parts: Vec<usize>,
}

type Shared = Arc<Mutex<World>>;

impl World {
    fn set_root(&mut self, root: usize, to: Option<Handle>) {
        self.root_ids[root] = number(to.as_ref());
        self.roots[root] = Place::new(to);
    }

    fn set_link(&mut self, from: Handle, link: usize, to: Option<Handle>) {
        let from = from.object();
        let link = from.set_link(link, to);
        self.links[from.id][link] = number(to.as_ref());
    }

    /// What the model reaches.
    fn reachable(&self) -> Vec<bool> {
        let mut reached = vec![false; self.links.len()];
        let mut open = Vec::from(self.root_ids);
        while let Some(id) = open.pop() {
            if id != NOTHING && !std::mem::replace(&mut reached[id as Id], true) {
                open.extend(self.links[id as Id]);
            }
        }
        reached
    }

    /// Compares all that is reachable with the model.
    fn check(&self) {
        let reached = self.reachable();
        let mut seen = vec![false; reached.len()];
        for (root, id) in self.roots.iter().map(Place::get).zip(self.root_ids) {
            assert_eq!(number(root.as_ref()), id);
            root.iter().for_each(|root| self.compare(root, &mut seen));
        }
        assert!(seen == reached);
        for (id, weak) in self.weak.iter().enumerate().filter(|(id, _)| reached[*id]) {
            let there = weak
                .upgrade()
                .expect("what is reached has not been found lost");
            assert_eq!(there.object().id, id);
        }
    }

    /// Compares an object, and what it leads to. It recurses: a list of handles would be copied as it grows, by way of vector
    /// registers, where they stay for long, and would keep alive what is lost.
    fn compare(&self, handle: &Handle, seen: &mut [bool]) {
        let object = handle.object();
        object.check();
        if std::mem::replace(&mut seen[object.id], true) {
            return;
        }
        for link in 0..LINKS {
            let to = object.link(link);
            assert_eq!(
                number(to.as_ref()),
                self.links[object.id][link],
                "link {link} of object {}",
                object.id
            );
            to.iter().for_each(|to| self.compare(to, seen));
        }
    }

    /// How many objects are garbage, and how many of them are still there.
    fn garbage(&self) -> (usize, usize) {
        let reached = self.reachable();
        let lost = || (0..reached.len()).filter(|id| !reached[*id]);
        let is_there = |id: &Id| match &self.weak[*id] {
            WeakHandle::Plain(weak) => weak.upgrade().is_some(),
            WeakHandle::Dropping(_) => !DROPPED[*id].load(Acquire),
        };
        (lost().count(), lost().filter(is_there).count())
    }
}

/// What each goroutine does to the graph.
fn mutate(
    world: &Shared,
    random: &mut Random,
    budget: usize,
    ring: &(Sender<Handle>, Receiver<Handle>),
) {
    let mut made = 0;
    while made < budget {
        let part = random.below(PARTS);
        let mut root_of = |part| part * ROOTS_OF_PART + random.below(ROOTS_OF_PART);
        let (a, b) = (root_of(part), root_of(part));
        let (steps, link) = (random.below(6), random.below(LINKS));
        match random.below(16) {
            0..6 => {
                let drops = random.below(2) == 0;
                let mut w = world.lock();
                let id = w.links.len();
                if id == OBJECTS {
                    return;
                }
                let new = Handle::new(id, drops);
                w.links.push([NOTHING; LINKS]);
                w.weak.push(new.downgrade());
                w.parts.push(part);
                let below = w.roots[a].get();
                w.set_link(new, link, below);
                w.set_root(a, Some(new));
                made += 1;
            }
            6..9 => {
                let mut w = world.lock();
                if let (Some(from), Some(to)) = (w.roots[a].get(), w.roots[b].get()) {
                    let from = from.walk(random, steps);
                    let to = to.walk(random, steps);
                    w.set_link(from, link, Some(to));
                }
            }
            9 => {
                let mut w = world.lock();
                if let Some(from) = w.roots[a].get() {
                    let from = from.walk(random, steps);
                    w.set_link(from, link, None);
                }
            }
            10 => world.lock().set_root(a, None),
            11 => {
                let mut w = world.lock();
                let to = w.roots[a].get().map(|root| root.walk(random, steps));
                w.set_root(b, to);
            }
            12 => {
                // Through a channel; on its way it is no root of the model's.
                let out = {
                    let mut w = world.lock();
                    let out = w.roots[a].get();
                    w.set_root(a, None);
                    out
                };
                if let Some(out) = out {
                    let _ = ring.0.try_send(out);
                }
                if let Ok(got) = ring.1.try_recv() {
                    got.object().check();
                    let mut w = world.lock();
                    let root = w.parts[got.object().id] * ROOTS_OF_PART + b % ROOTS_OF_PART;
                    w.set_root(root, Some(got));
                }
            }
            13 => {
                let mut w = world.lock();
                let n = w.weak.len();
                if n > 0
                    && let Some(found) = w.weak[random.below(n)].upgrade()
                {
                    found.object().check();
                    let root = w.parts[found.object().id] * ROOTS_OF_PART + b % ROOTS_OF_PART;
                    w.set_root(root, Some(found));
                }
            }
            14 => {
                // Reading needs no lock: the graph changes under the walk.
                let root = world.lock().roots[a].get();
                if let Some(root) = root {
                    root.walk(random, 50);
                }
            }
            _ => raddle::yield_now(),
        }
    }
}

/// Runs `f` on a goroutine with room for deep recursions.
fn deep<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> raddle::JoinHandle<T> {
    let builder = raddle::Builder::new().stack_size(256 << 20);
    builder.spawn(f).expect("there is room for a stack")
}

/// Collects, and compares, while the others wait for the lock.
fn collect_and_check(world: &Shared) {
    let world = world.lock();
    gc::collect();
    world.check();
}

fn play(seed: u64) {
    let mut random = Random(seed);
    let world: Shared = Arc::new(Mutex::new(World {
        roots: [Place::EMPTY; ROOTS],
        root_ids: [NOTHING; ROOTS],
        links: Vec::with_capacity(OBJECTS),
        weak: Vec::with_capacity(OBJECTS),
        parts: Vec::with_capacity(OBJECTS),
    }));
    for round in 0..ROUNDS {
        let ring = chan::bounded(4);
        let over = Arc::new(AtomicBool::new(false));
        let checker = {
            let (world, over) = (world.clone(), over.clone());
            deep(move || {
                let mut checks = 0;
                while !over.load(Relaxed) {
                    collect_and_check(&world);
                    checks += 1;
                    time::sleep(Duration::from_millis(2));
                }
                checks
            })
        };
        let mutators: Vec<_> = (0..MUTATORS)
            .map(|_| {
                let (world, ring, mut random) =
                    (world.clone(), ring.clone(), Random(random.next()));
                let budget = OBJECTS / ROUNDS / MUTATORS;
                raddle::go(move || mutate(&world, &mut random, budget, &ring))
            })
            .collect();
        mutators.into_iter().for_each(|m| m.join().unwrap());
        over.store(true, Relaxed);
        let checks = checker.join().unwrap();
        drop(ring);
        // Nothing changes any more: what is lost goes.
        let (mut lost, mut left) = (0, usize::MAX);
        for _ in 0..300 {
            // Not on a goroutine that follows handles, nor on one whose stack was another's: frames have room that nobody has
            // written since, with handles of before in it.
            gc::collect();
            let w = world.clone();
            let looked = deep(move || {
                let w = w.lock();
                w.check();
                w.garbage()
            });
            (lost, left) = looked.join().unwrap();
            if left == 0 {
                break;
            }
            time::sleep(Duration::from_micros(300));
        }
        println!("round {round}: {checks} checks, of {lost} lost objects {left} are left");
        assert!(left <= lost * LEFT_PERCENT / 100 + LEFT_FEW);
    }
}

/// This program again, as one case.
fn case(procs: &str, race: &str, debug: &str) {
    let fixed = env::var("RADDLE_STRESS_SEED")
        .ok()
        .map(|text| text.parse().expect("a number"));
    let now = || {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.expect("it is past 1970").as_nanos() as u64
    };
    let seed: u64 = fixed.unwrap_or_else(now);
    let mut command = Command::new(env::current_exe().expect("this program has a path"));
    command.args(["--exact", "one_case", "--nocapture", "--test-threads=1"]);
    command
        .env(CASE, seed.to_string())
        .env("RADDLE_PROCS", procs)
        .env("RADDLE_RACE", race)
        .env("RADDLE_DEBUG", debug);
    let outcome = support::run(&mut command, LIMIT);
    let well = outcome.status.success() && outcome.stdout.contains("1 passed");
    assert!(well, "RADDLE_STRESS_SEED={seed} failed: {outcome}");
    print!("{}", outcome.stdout);
}

/// The other end of `case`; nothing in the process that the user started.
#[test]
fn one_case() {
    let Ok(seed) = env::var(CASE) else { return };
    let seed = seed.parse().expect("`case` gives a number");
    raddle::run(|| play(seed));
    assert_eq!(raddle::race::errors(), 0, "the program has no data race");
}

#[test]
fn on_one_p() {
    case("1", "0", "");
}

#[test]
fn on_two_ps() {
    case("2", "0", "");
}

#[test]
fn on_eight_ps() {
    case("8", "0", "");
}

#[test]
fn with_the_runtime_yielding() {
    case("3", "0", "yield=5");
}

#[test]
fn with_thread_bound_thread_locals() {
    case("2", "0", "notls");
}

#[test]
fn in_race_mode() {
    case("2", "1", "");
}

#[test]
fn collecting_at_every_100th_allocation() {
    case("2", "0", "gcstress=100");
}
