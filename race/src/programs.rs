//! The detector against an exact happens-before oracle, on random programs.
//!
//! One OS thread plays all goroutines, one event at a time, switching in and out around each, so that with few slots
//! nearly every event takes a slot from someone.
//!
//! The verdict per eight bytes must be the same. Where the detector says that it displaced a cell or closed a gap, it
//! may miss; it may never invent. The number of programs in which that happened is bounded too.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use crate::ctx::GoCtx;
use crate::oracle::{Access, Goroutine, Oracle};
use crate::testing::{self, fresh_memory, fresh_pc, on, take_races};
use crate::{AtomicOp, atomic, slot, stats};

/// A xorshift generator: programs are replayed by seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// One random program's shape.
#[derive(Clone, Copy, Debug)]
struct Shape {
    slots: usize,
    goroutines: usize,
    steps: usize,
    variables: usize,
    objects: usize,
    sync_percent: u64,
    spawn_percent: u64,
    bytes: Bytes,
}

/// Which bytes an access touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bytes {
    /// Whole granules: the shadow seldom lacks a cell.
    Words,
    /// Some bytes of one granule: cells multiply.
    Parts,
    /// Bytes of up to three granules. One call makes one report, so not every racing granule is reported.
    Straddling,
}

struct Program {
    r: Random,
    shape: Shape,
    memory: usize,
    alive: Vec<(GoCtx, Goroutine)>,
    next_goid: u64,
    ended: Vec<usize>,
    oracle: Oracle,
}

impl Program {
    fn new(seed: u64, shape: Shape) -> Program {
        let main = crate::goroutine::go_start(None, 1, fresh_pc());
        Program {
            r: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            shape,
            memory: fresh_memory(4096),
            alive: vec![(main, Goroutine::default())],
            next_goid: 2,
            ended: Vec::new(),
            oracle: Oracle {
                evicted_cells: stats().evicted_cells,
                ..Oracle::default()
            },
        }
    }

    fn variable(&mut self) -> usize {
        self.memory + 8 * self.r.below(self.shape.variables as u64) as usize
    }

    fn object(&mut self) -> usize {
        self.memory + 2048 + 4 * self.r.below(self.shape.objects as u64) as usize
    }

    fn step(&mut self) {
        let who = self.r.below(self.alive.len() as u64) as usize;
        let (ctx, mut g) = self.alive[who].clone();
        let roll = self.r.below(100);
        if roll < self.shape.spawn_percent {
            self.spawn_or_end(who, ctx, &mut g);
        } else if roll < self.shape.spawn_percent + self.shape.sync_percent {
            self.synchronise(ctx, &mut g);
        } else {
            self.touch(ctx, &mut g);
        }
        if let Some(slot) = self.alive.iter_mut().find(|(c, _)| *c == ctx) {
            slot.1 = g;
        }
    }

    fn spawn_or_end(&mut self, who: usize, ctx: GoCtx, g: &mut Goroutine) {
        match self.r.below(3) {
            0 if self.alive.len() < self.shape.goroutines => {
                let id = self.next_goid;
                self.next_goid += 1;
                let child = on(ctx, || {
                    crate::goroutine::go_start(Some(ctx), id, fresh_pc())
                });
                self.alive.push((
                    child,
                    Goroutine {
                        before: g.before.clone(),
                        ..Goroutine::default()
                    },
                ));
            }
            1 if self.alive.len() > 2 && who != 0 => {
                let done = self.memory + 4096 - 8 * (1 + self.r.below(8)) as usize;
                on(ctx, || crate::release_merge(done));
                crate::go_end(ctx);
                self.oracle.object(done).extend(g.before.iter().copied());
                self.ended.push(done);
                self.alive.remove(who);
            }
            _ if !self.ended.is_empty() => {
                let done = self.r.pick(&self.ended);
                on(ctx, || crate::acquire(done));
                g.before.extend(self.oracle.object(done).iter().copied());
            }
            _ => {}
        }
    }

    fn synchronise(&mut self, ctx: GoCtx, g: &mut Goroutine) {
        let addr = self.object();
        match self.r.below(9) {
            0 => {
                on(ctx, || crate::acquire(addr));
                g.before.extend(self.oracle.object(addr).iter().copied());
            }
            1 => {
                // Half the time on behalf of the parked goroutine.
                if self.r.chance(50) {
                    crate::release_g(ctx, addr)
                } else {
                    on(ctx, || crate::release(addr))
                }
                *self.oracle.object(addr) = g.before.clone();
            }
            2 => {
                if self.r.chance(50) {
                    crate::release_merge_g(ctx, addr)
                } else {
                    on(ctx, || crate::release_merge(addr))
                }
                self.oracle.object(addr).extend(g.before.iter().copied());
            }
            3 => {
                on(ctx, || crate::release_acquire(addr));
                let old = std::mem::replace(self.oracle.object(addr), g.before.clone());
                g.before.extend(old);
            }
            4 => {
                let order = self.r.pick(&[
                    Ordering::Acquire,
                    Ordering::Release,
                    Ordering::AcqRel,
                    Ordering::SeqCst,
                ]);
                on(ctx, || crate::fence(order));
                if order != Ordering::Release {
                    g.before.extend(g.seen_relaxed.iter().copied());
                }
                if order != Ordering::Acquire {
                    g.at_release_fence = g.before.clone();
                }
            }
            _ => self.atomic(ctx, g, addr),
        }
    }

    fn atomic(&mut self, ctx: GoCtx, g: &mut Goroutine, addr: usize) {
        use Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
        let loads = [Relaxed, Acquire, SeqCst];
        let stores = [Relaxed, Release, SeqCst];
        let all = [Relaxed, Acquire, Release, AcqRel, SeqCst];
        let wrote = self.r.chance(60);
        let (kind, reads, writes, order) = match self.r.below(4) {
            0 => {
                let order = self.r.pick(&loads);
                (AtomicOp::Load(order), true, false, order)
            }
            1 => {
                let order = self.r.pick(&stores);
                (AtomicOp::Store(order), false, true, order)
            }
            2 => {
                let order = self.r.pick(&all);
                (AtomicOp::Rmw(order), true, true, order)
            }
            _ => {
                let (success, failure) = (self.r.pick(&all), self.r.pick(&loads));
                (
                    AtomicOp::CompareExchange(success, failure),
                    true,
                    wrote,
                    if wrote { success } else { failure },
                )
            }
        };
        on(ctx, || atomic(addr, 4, kind, fresh_pc(), &mut || wrote));
        self.oracle.atomic(g, addr, reads, writes, order);
    }

    fn touch(&mut self, ctx: GoCtx, g: &mut Goroutine) {
        // Now and then a plain access to an atomic.
        let base = if self.r.chance(5) {
            self.object()
        } else {
            self.variable()
        };
        let mut size = self.r.pick(&[1, 2, 4, 8, 8, 8, 16]);
        let mut addr = base + self.r.below(3) as usize;
        match self.shape.bytes {
            Bytes::Words => (addr, size) = (addr & !7, 8),
            Bytes::Parts => size = size.min(8 - addr % 8),
            Bytes::Straddling => {}
        }
        if self.oracle.racy.contains(&(addr & !7)) {
            return; // its verdict is known, and its cells would only fill up
        }
        let read = self.r.chance(50);
        let pc = fresh_pc();
        on(ctx, || {
            if read {
                crate::read(addr, size, pc)
            } else {
                crate::write(addr, size, pc)
            }
        });
        self.oracle.access(
            g,
            Access {
                addr,
                size,
                read,
                atomic: false,
            },
        );
    }

    fn finish(self) -> Oracle {
        for (ctx, _) in self.alive {
            crate::go_end(ctx);
        }
        self.oracle
    }
}

/// What became of many programs.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    /// Racing granules in all.
    races: usize,
    /// Granules, racing or not, of which an exact verdict was demanded.
    exact: usize,
    /// Granules in which the detector displaced a cell, and all those of a program in which it closed a gap.
    inexact: usize,
    /// Racing granules among the inexact that were missed.
    missed: usize,
}

/// Runs `count` programs of a shape.
fn run(count: u64, shape: Shape) -> Outcome {
    let _one = testing::detector();
    slot::set_limit(shape.slots);
    let mut outcome = Outcome::default();
    for seed in 1..=count {
        let closed_gaps = stats().closed_gaps;
        take_races();
        let mut program = Program::new(seed, shape);
        for _ in 0..shape.steps {
            program.step();
        }
        let truth = program.finish();
        let found: BTreeSet<usize> = take_races().into_iter().map(|a| a & !7).collect();
        let invented: Vec<_> = found.difference(&truth.racy).collect();
        assert!(
            invented.is_empty(),
            "invented {invented:x?}, seed {seed}, {shape:?}"
        );
        let all: BTreeSet<usize> = truth.accesses.iter().map(|a| a.addr & !7).collect();
        let may_miss = |granule: &usize| {
            closed_gaps != stats().closed_gaps || truth.displaced.contains(granule)
        };
        let missed: Vec<_> = truth.racy.difference(&found).collect();
        if shape.bytes == Bytes::Straddling {
            assert!(
                missed.is_empty() || !found.is_empty() || missed.iter().all(|g| may_miss(g)),
                "missed, seed {seed}"
            );
            continue;
        }
        assert!(
            missed.iter().all(|g| may_miss(g)),
            "missed {missed:x?}, seed {seed}, {shape:?}"
        );
        outcome.inexact += all.iter().filter(|g| may_miss(g)).count();
        outcome.exact += all.iter().filter(|g| !may_miss(g)).count();
        outcome.races += truth.racy.len();
        outcome.missed += missed.len();
    }
    slot::set_limit(crate::clock::SLOTS);
    outcome
}

const SHAPE: Shape = Shape {
    slots: 3,
    goroutines: 6,
    steps: 60,
    variables: 4,
    objects: 4,
    sync_percent: 55,
    spawn_percent: 15,
    bytes: Bytes::Words,
};

/// Most verdicts were exact, and few races missed among the rest.
fn check(o: Outcome) {
    assert!(
        o.races > 500 && o.exact > o.inexact && o.missed * 100 < o.races,
        "{o:?}"
    );
}

#[test]
fn verdicts_are_exact_with_three_slots() {
    check(run(3000, SHAPE));
}

#[test]
fn verdicts_are_exact_with_slots_for_all() {
    check(run(
        2000,
        Shape {
            slots: 64,
            goroutines: 10,
            ..SHAPE
        },
    ));
}

#[test]
fn verdicts_are_exact_with_a_single_slot() {
    check(run(
        2000,
        Shape {
            slots: 1,
            goroutines: 4,
            ..SHAPE
        },
    ));
}

#[test]
fn accesses_to_parts_of_words() {
    check(run(
        2000,
        Shape {
            bytes: Bytes::Parts,
            ..SHAPE
        },
    ));
}

#[test]
fn accesses_over_several_granules() {
    run(
        1000,
        Shape {
            bytes: Bytes::Straddling,
            ..SHAPE
        },
    );
}

#[test]
fn long_programs() {
    check(run(
        300,
        Shape {
            slots: 2,
            goroutines: 5,
            steps: 200,
            variables: 16,
            sync_percent: 70,
            ..SHAPE
        },
    ));
}

#[test]
fn many_goroutines_on_two_slots_invent_nothing() {
    let shape = Shape {
        slots: 2,
        goroutines: 80,
        steps: 600,
        variables: 64,
        sync_percent: 20,
        spawn_percent: 40,
        ..SHAPE
    };
    let o = run(60, shape);
    assert!(o.missed * 20 < o.races, "{o:?}");
}
