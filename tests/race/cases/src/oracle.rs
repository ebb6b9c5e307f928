//! Random programs, and an exact account of what happens before what in them: `race-cases oracle SEED COUNT`.
//!
//! A program is a list of steps, each by one goroutine (a meeting on a channel: by two). The steps are taken strictly one after
//! the other, by a [`Turn`] that the detector does not see: so the order of all synchronisation is the list's, and what is
//! ordered and what is not follows from the list alone. Which thread a goroutine runs on, and the rest, is as always.
//!
//! The account is kept while the list is made ([`Model`]), by the C++20 model and the documented edges of what is used. For every
//! eight bytes that race by it, the address is printed; the runner compares them with those reported.
//!
//! Reports leave out a pair of code places that was reported before, so every eight bytes have code of their own ([`TOUCH`]).

use std::arch::asm;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU64, fence};

use raddle::JoinHandle;

use crate::support::*;

/// Goroutines in a program, at most.
const MOST: usize = 10;
/// Variables, and as many atomics, of a program.
const PLACES: usize = 4;
/// Locks of each kind, and channels of each kind.
const OBJECTS: usize = 2;
/// What a channel with a buffer holds.
const CAP: usize = 2;

/// One access to some bytes of eight.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Read,
    Write,
}

/// The access, by code that no other `N` shares.
#[inline(never)]
fn touch<const N: usize>(kind: Kind, at: *mut u8, size: usize) {
    // SAFETY: no instruction at all; makes the function unlike its siblings.
    unsafe { asm!("/* {} */", const N, options(nomem, nostack, preserves_flags)) };
    // SAFETY (all below): `at` leads to `size` bytes that live for ever, and is aligned.
    match (kind, size) {
        (Kind::Read, 1) => drop(read(unsafe { *at })),
        (Kind::Read, 2) => drop(read(unsafe { *at.cast::<u16>() })),
        (Kind::Read, 4) => drop(read(unsafe { *at.cast::<u32>() })),
        (Kind::Read, _) => drop(read(unsafe { *at.cast::<u64>() })),
        (Kind::Write, 1) => unsafe { *at = 1 },
        (Kind::Write, 2) => unsafe { *at.cast::<u16>() = 1 },
        (Kind::Write, 4) => unsafe { *at.cast::<u32>() = 1 },
        (Kind::Write, _) => unsafe { *at.cast::<u64>() = 1 },
    }
}

type Touch = fn(Kind, *mut u8, usize);

macro_rules! rows {
    ($($n:literal)*) => { [$([
        touch::<{ 8 * $n }>, touch::<{ 8 * $n + 1 }>, touch::<{ 8 * $n + 2 }>, touch::<{ 8 * $n + 3 }>,
        touch::<{ 8 * $n + 4 }>, touch::<{ 8 * $n + 5 }>, touch::<{ 8 * $n + 6 }>, touch::<{ 8 * $n + 7 }>,
    ]),*] };
}

/// By program and place.
static TOUCH: [[Touch; 2 * PLACES]; 100] = rows!(
    0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 42 43 44
    45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64 65 66 67 68 69 70 71 72 73 74 75 76 77 78 79 80 81 82 83 84 85 86
    87 88 89 90 91 92 93 94 95 96 97 98 99
);

/// What a goroutine does in a step.
#[derive(Clone, Copy, Debug)]
enum Op {
    Touch {
        place: usize,
        kind: Kind,
        from: usize,
        size: usize,
    },
    Load(usize, Ordering),
    Store(usize, Ordering),
    Add(usize, Ordering),
    /// Whether it is to succeed, and the two orders.
    Cas(usize, bool, Ordering, Ordering),
    Fence(Ordering),
    Mutex(usize),
    StdMutex(usize),
    ReadLock(usize),
    WriteLock(usize),
    Send(usize),
    Recv(usize),
    /// The two halves of a meeting.
    Give(usize),
    Take(usize),
    Start(usize),
    Join(usize),
    /// The last step of a goroutine.
    End,
}

/// A vector clock: how many accesses of each goroutine came before.
type Clock = [u32; MOST];

fn join(to: &mut Clock, from: &Clock) {
    to.iter_mut().zip(from).for_each(|(a, b)| *a = (*a).max(*b));
}

/// What is known of a goroutine.
#[derive(Clone, Copy, Default)]
struct Goroutine {
    now: Clock,
    /// As of its last release fence.
    fenced: Clock,
    /// What its relaxed loads have seen.
    seen: Clock,
    alive: bool,
    parent: usize,
}

struct Access {
    who: usize,
    time: u32,
    place: usize,
    bytes: std::ops::Range<usize>,
    reads: bool,
    atomic: bool,
}

/// The exact account.
#[derive(Default)]
struct Model {
    all: [Goroutine; MOST],
    accesses: Vec<Access>,
    racy: BTreeSet<usize>,
    /// What the newest value of each atomic carries.
    values: [Clock; PLACES],
    mutexes: [Clock; 2 * OBJECTS],
    /// What writers and readers of a lock left.
    locks: [[Clock; 2]; OBJECTS],
    /// What lies in each place of a buffer; how much was sent and received.
    buffers: [[Clock; CAP]; OBJECTS],
    sent: [usize; OBJECTS],
    received: [usize; OBJECTS],
    started: usize,
}

fn acquires(order: Ordering) -> bool {
    matches!(order, Acquire | AcqRel | SeqCst)
}

fn releases(order: Ordering) -> bool {
    matches!(order, Release | AcqRel | SeqCst)
}

impl Model {
    fn access(
        &mut self,
        who: usize,
        place: usize,
        bytes: std::ops::Range<usize>,
        reads: bool,
        atomic: bool,
    ) {
        for old in self.accesses.iter().filter(|old| old.place == place) {
            let apart = old.bytes.end <= bytes.start || bytes.end <= old.bytes.start;
            let harmless = old.reads && reads || old.atomic && atomic;
            if !apart && !harmless && old.time > self.all[who].now[old.who] {
                self.racy.insert(place);
            }
        }
        self.all[who].now[who] += 1;
        let time = self.all[who].now[who];
        self.accesses.push(Access {
            who,
            time,
            place,
            bytes,
            reads,
            atomic,
        });
    }

    fn atomic(&mut self, who: usize, atomic: usize, reads: bool, writes: bool, order: Ordering) {
        let value = self.values[atomic];
        let me = &mut self.all[who];
        if reads {
            join(
                if acquires(order) {
                    &mut me.now
                } else {
                    &mut me.seen
                },
                &value,
            );
        }
        self.access(who, PLACES + atomic, 0..8, !writes, true);
        if writes {
            let me = &self.all[who];
            let from = if releases(order) { me.now } else { me.fenced };
            if !reads {
                self.values[atomic] = [0; MOST];
            }
            join(&mut self.values[atomic], &from);
        }
    }

    fn lock(clock: &mut Clock, now: &mut Clock) {
        join(now, clock);
        *clock = *now;
    }

    fn step(&mut self, who: usize, op: Op) {
        let now = self.all[who].now;
        match op {
            Op::Touch {
                place,
                kind,
                from,
                size,
            } => self.access(
                who,
                place,
                from..from + size,
                matches!(kind, Kind::Read),
                false,
            ),
            Op::Load(a, order) => self.atomic(who, a, true, false, order),
            Op::Store(a, order) => self.atomic(who, a, false, true, order),
            Op::Add(a, order) => self.atomic(who, a, true, true, order),
            Op::Cas(a, true, order, _) => self.atomic(who, a, true, true, order),
            Op::Cas(a, false, _, order) => self.atomic(who, a, true, false, order),
            Op::Fence(order) => {
                let me = &mut self.all[who];
                if acquires(order) {
                    let seen = me.seen;
                    join(&mut me.now, &seen);
                }
                if releases(order) {
                    me.fenced = me.now;
                }
            }
            Op::Mutex(m) => Model::lock(&mut self.mutexes[m], &mut self.all[who].now),
            Op::StdMutex(m) => Model::lock(&mut self.mutexes[OBJECTS + m], &mut self.all[who].now),
            Op::ReadLock(l) => {
                join(&mut self.all[who].now, &self.locks[l][0]);
                let now = self.all[who].now;
                join(&mut self.locks[l][1], &now);
            }
            Op::WriteLock(l) => {
                let [writers, readers] = &mut self.locks[l];
                join(&mut self.all[who].now, readers);
                Model::lock(writers, &mut self.all[who].now);
            }
            Op::Send(c) | Op::Recv(c) => {
                let count = if matches!(op, Op::Send(_)) {
                    &mut self.sent
                } else {
                    &mut self.received
                };
                let place = &mut self.buffers[c][count[c] % CAP];
                count[c] += 1;
                let before = std::mem::replace(place, now);
                join(&mut self.all[who].now, &before);
            }
            Op::Start(child) => {
                self.all[child] = Goroutine {
                    now,
                    alive: true,
                    parent: who,
                    ..Goroutine::default()
                };
            }
            Op::Join(child) => {
                let theirs = self.all[child].now;
                join(&mut self.all[who].now, &theirs);
                self.all[child].parent = MOST;
            }
            Op::End => self.all[who].alive = false,
            Op::Give(_) | Op::Take(_) => unreachable!("meetings are of two"),
        }
    }

    fn meet(&mut self, a: usize, b: usize) {
        let mut both = self.all[a].now;
        join(&mut both, &self.all[b].now);
        self.all[a].now = both;
        self.all[b].now = both;
    }
}

/// A xorshift generator.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// The steps of each goroutine, with their numbers, and how many there are in all.
struct Program {
    steps: [Vec<(u32, Op)>; MOST],
    count: u32,
    racy: BTreeSet<usize>,
}

impl Program {
    fn random(seed: u64) -> Program {
        let mut r = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let (most, length) = (2 + r.below(MOST - 1), 20 + r.below(80));
        let (syncs, whole) = (20 + r.below(50), r.below(2) == 0);
        let mut model = Model {
            started: 1,
            ..Model::default()
        };
        model.all[0].alive = true;
        let mut steps = [const { Vec::new() }; MOST];
        let mut count = 0;
        while count < length as u32 {
            let alive: Vec<usize> = (0..MOST).filter(|&g| model.all[g].alive).collect();
            let who = r.pick(&alive);
            let op = if r.below(100) < 15 {
                Program::life(&mut r, &mut model, who, most)
            } else if r.below(100) < syncs {
                Program::sync(&mut r, &model)
            } else {
                Program::plain(&mut r, &model, whole)
            };
            match op {
                None => continue,
                Some(Op::Give(c)) => {
                    let other = r.pick(&alive);
                    if other == who {
                        continue;
                    }
                    model.meet(who, other);
                    steps[who].push((count, Op::Give(c)));
                    steps[other].push((count, Op::Take(c)));
                }
                Some(op) => {
                    model.step(who, op);
                    steps[who].push((count, op));
                }
            }
            count += 1;
        }
        Program {
            steps,
            count,
            racy: model.racy,
        }
    }

    fn life(r: &mut Random, model: &mut Model, who: usize, most: usize) -> Option<Op> {
        match r.below(4) {
            0 | 1 if model.started < most => {
                model.started += 1;
                Some(Op::Start(model.started - 1))
            }
            2 if who != 0 => Some(Op::End),
            _ => {
                let ended =
                    |g: &usize| *g != 0 && !model.all[*g].alive && model.all[*g].parent == who;
                (1..model.started).find(ended).map(Op::Join)
            }
        }
    }

    fn sync(r: &mut Random, model: &Model) -> Option<Op> {
        let (loads, stores) = ([Relaxed, Acquire, SeqCst], [Relaxed, Release, SeqCst]);
        let all = [Relaxed, Acquire, Release, AcqRel, SeqCst];
        let (a, o) = (r.below(PLACES), r.below(OBJECTS));
        Some(match r.below(14) {
            0 | 1 => Op::Load(a, r.pick(&loads)),
            2 | 3 => Op::Store(a, r.pick(&stores)),
            4 => Op::Add(a, r.pick(&all)),
            5 => Op::Cas(a, r.below(3) > 0, r.pick(&all), r.pick(&loads)),
            6 => Op::Fence(r.pick(&all[1..])),
            7 => Op::Mutex(o),
            8 => Op::StdMutex(o),
            9 => Op::ReadLock(o),
            10 => Op::WriteLock(o),
            11 if model.sent[o] - model.received[o] < CAP => Op::Send(o),
            12 if model.sent[o] > model.received[o] => Op::Recv(o),
            13 => Op::Give(o),
            _ => return None,
        })
    }

    /// An access to a place that does not race yet: those that do are known.
    fn plain(r: &mut Random, model: &Model, whole: bool) -> Option<Op> {
        let place = if r.below(20) == 0 {
            PLACES + r.below(PLACES)
        } else {
            r.below(PLACES)
        };
        let size = if whole { 8 } else { r.pick(&[1, 2, 4, 8]) };
        let kind = if r.below(2) == 0 {
            Kind::Read
        } else {
            Kind::Write
        };
        // A write would change what a compare-exchange of an atomic is to find.
        let kind = if place >= PLACES { Kind::Read } else { kind };
        let from = size * r.below(8 / size);
        (!model.racy.contains(&place)).then_some(Op::Touch {
            place,
            kind,
            from,
            size,
        })
    }
}

/// What the goroutines of a program share.
struct World {
    program: Program,
    turn: Turn,
    touch: [Touch; 2 * PLACES],
    /// Variables, then atomics.
    places: [AtomicU64; 2 * PLACES],
    mutexes: [raddle::sync::Mutex<()>; OBJECTS],
    std_mutexes: [std::sync::Mutex<()>; OBJECTS],
    locks: [raddle::sync::RwLock<()>; OBJECTS],
    buffered: [&'static Chan<()>; OBJECTS],
    meetings: [&'static Chan<()>; OBJECTS],
}

impl World {
    fn run(&'static self, who: usize) {
        let mut children: Vec<(usize, JoinHandle<()>)> = Vec::new();
        for (number, op) in &self.program.steps[who] {
            self.turn.wait(*number);
            match *op {
                Op::Start(child) => children.push((child, go(move || self.run(child)))),
                Op::Join(child) => {
                    let at = children.iter().position(|(c, _)| *c == child);
                    let (_, handle) = children.swap_remove(at.expect("it was started"));
                    handle.join().expect("no step panics");
                }
                op => self.step(op),
            }
            // A meeting is over when the taker has taken.
            if !matches!(op, Op::Give(_)) {
                self.turn.set(number + 1);
            }
        }
    }

    fn step(&self, op: Op) {
        let atomic = |a: usize| &self.places[PLACES + a];
        match op {
            Op::Touch {
                place,
                kind,
                from,
                size,
            } => {
                let at = self.places[place].as_ptr().cast::<u8>().wrapping_add(from);
                self.touch[place](kind, at, size);
            }
            Op::Load(a, order) => drop(read(atomic(a).load(order))),
            Op::Store(a, order) => atomic(a).store(1, order),
            Op::Add(a, order) => drop(atomic(a).fetch_add(1, order)),
            Op::Cas(a, succeeds, order, failure) => {
                // The value is asked for where the detector does not see it: nobody else is at work.
                let value = u64::from(hidden(atomic(a)));
                let expected = if succeeds { value } else { value + 1000 };
                let result = atomic(a).compare_exchange(expected, value + 1, order, failure);
                assert_eq!(result.is_ok(), succeeds);
            }
            Op::Fence(order) => fence(order),
            Op::Mutex(m) => drop(self.mutexes[m].lock()),
            Op::StdMutex(m) => drop(self.std_mutexes[m].lock()),
            Op::ReadLock(l) => drop(self.locks[l].read()),
            Op::WriteLock(l) => drop(self.locks[l].write()),
            Op::Send(c) => assert!(self.buffered[c].send(())),
            Op::Recv(c) => assert!(self.buffered[c].recv().is_some()),
            Op::Give(c) => assert!(self.meetings[c].send(())),
            Op::Take(c) => assert!(self.meetings[c].recv().is_some()),
            Op::End | Op::Start(_) | Op::Join(_) => {}
        }
    }
}

/// The low half of an atomic's value, read by inline assembly.
fn hidden(of: &AtomicU64) -> u32 {
    let value;
    // SAFETY: reads bytes that the reference leads to.
    unsafe {
        asm!("mov {:e}, dword ptr [{}]", out(reg) value, in(reg) of.as_ptr(), options(nostack))
    }
    value
}

/// Runs `count` programs from `seed`, and prints each place that races.
pub fn run(seed: u64, count: usize) {
    let mut racy = Vec::new();
    for (number, touch) in TOUCH.iter().take(count).enumerate() {
        let world = leak(World {
            program: Program::random(seed + number as u64),
            turn: Turn::new(),
            touch: *touch,
            places: [const { AtomicU64::new(0) }; 2 * PLACES],
            mutexes: Default::default(),
            std_mutexes: Default::default(),
            locks: Default::default(),
            buffered: std::array::from_fn(|_| chan(CAP)),
            meetings: std::array::from_fn(|_| chan(0)),
        });
        world.run(0);
        world.turn.wait(world.program.count);
        let place = |p: &usize| (number, *p, world.places[*p].as_ptr().addr());
        racy.extend(world.program.racy.iter().map(place));
    }
    for (number, place, addr) in racy {
        println!("{addr:#x} program {} place {place}", seed + number as u64);
    }
}
