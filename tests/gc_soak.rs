//! Random programs that live on collected values, from a seed: goroutines and threads that send them, keep them, look them up
//! by weak pointers, hang them on graphs and lose them, while the number of Ps changes and collections come at all times.
//!
//! A message carries a body, a checksum and a destructor, which looks at the body. So a value that went too early shows at
//! once: on the way, or in its destructor. At the end of a round nearly all of what was lost must have been dropped.
//!
//! Every round is a process of its own, under a configuration that the seed chooses, as in `stress.rs`.
//!
//!     cargo test --release --test gc_soak                                  about ten seconds
//!     RADDLE_STRESS_SECONDS=600 cargo test --release --test gc_soak        ten minutes
//!     RADDLE_STRESS_SEED=1234 cargo test --release --test gc_soak          that round, again and again

#[path = "support/random.rs"]
mod random;
#[path = "support/rounds.rs"]
mod rounds;
#[path = "support/mod.rs"]
mod support;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use std::time::Duration;
use std::{env, hint, thread};

use raddle::chan::{self, Receiver, Sender};
use raddle::gc::{self, Atomic, Gc, Slice, Weak};
use raddle::sync::{Mutex, RwLock, WaitGroup};
use raddle::time;
use random::Random;

const ROUND: &str = "RADDLE_SOAK_ROUND";
/// A round does a fixed amount of work, a few seconds of it at most. One that still runs after this is hung.
const LIMIT: Duration = Duration::from_secs(120);
/// What may be left of what was lost at the end of a round, at most: a quarter. Words that look like addresses by chance are few, but each
/// may lead to a graph of messages; up to a twentieth was seen.
const LEFT_PART: usize = 4;

#[test]
fn random_programs_end() {
    rounds::run(LIMIT, configure);
}

/// The configuration of a round, as the seed chooses it.
fn configure(mut random: Random, command: &mut Command) {
    let mut debug = format!("seed={}", random.next());
    for (key, one_in) in [("notls", 4), ("nopreempt", 8)] {
        if random.below(one_in) == 0 {
            debug += &format!(",{key}");
        }
    }
    if random.below(3) == 0 {
        debug += &format!(",yield={}", 1 + random.below(50));
    }
    if random.below(3) == 0 {
        debug += &format!(",gcstress={}", 50 + random.below(1000));
    }
    let procs = [1, 2, 3, 8][random.below(4)];
    command
        .env("RADDLE_DEBUG", debug)
        .env("RADDLE_PROCS", procs.to_string())
        .env("RADDLE_GC", ["20", "100", "400", "off"][random.below(4)])
        .env("RADDLE_RACE", if random.below(3) == 0 { "1" } else { "0" })
        .env(ROUND, random.next().to_string());
}

/// The other end of `configure`; nothing in the process that the user started.
#[test]
fn one_round() {
    let Ok(seed) = env::var(ROUND) else { return };
    let seed = seed.parse().expect("`configure` gives a number");
    raddle::run(|| play(Random(seed)));
    assert_eq!(raddle::race::errors(), 0, "the program has no data race");
}

/// What is sent, kept and lost.
struct Message {
    sum: u64,
    body: Slice<u64>,
    /// What it hangs on: messages form lists, and rings.
    next: Atomic<Message>,
    dropped: Arc<AtomicUsize>,
}

impl Message {
    fn check(&self) {
        assert_eq!(self.body.iter().sum::<u64>(), self.sum);
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.check();
        if let Some(next) = self.next.load(Acquire)
            && let Some(next) = Gc::get(&next)
        {
            next.check();
        }
        self.dropped.fetch_add(1, SeqCst);
    }
}

/// Both ends.
type Channel = (Sender<Gc<Message>>, Receiver<Gc<Message>>);

/// What all goroutines of a round share.
struct World {
    channels: Vec<Channel>,
    places: Slice<Atomic<Message>>,
    cache: RwLock<Vec<Weak<Message>>>,
    kept: Mutex<Vec<Gc<Message>>>,
    made: AtomicUsize,
    dropped: Arc<AtomicUsize>,
    everyone: WaitGroup,
    /// How many more goroutines may be started.
    budget: AtomicUsize,
}

fn play(mut random: Random) {
    let (made, dropped) = raddle::go(move || {
        let world = Arc::new(World {
            channels: (0..1 + random.below(4))
                .map(|_| chan::bounded(random.below(8)))
                .collect(),
            places: Slice::from_fn(1 + random.below(20), |_| Atomic::null()),
            cache: RwLock::new(vec![]),
            kept: Mutex::new(vec![]),
            made: AtomicUsize::new(0),
            dropped: Arc::default(),
            everyone: WaitGroup::new(),
            budget: AtomicUsize::new(10 + random.below(100)),
        });
        for _ in 0..1 + random.below(20) {
            start(&world, &mut random);
        }
        world.everyone.wait();
        world.kept.lock().iter().for_each(|message| message.check());
        (world.made.load(SeqCst), world.dropped.clone())
    })
    .join()
    .unwrap();
    // All is lost now.
    for _ in 0..500 {
        if dropped.load(SeqCst) + made / (5 * LEFT_PART) >= made {
            break;
        }
        gc::collect();
        time::sleep(Duration::from_micros(300));
    }
    let dropped = dropped.load(SeqCst);
    println!("{dropped} of {made} messages were dropped");
    assert!(dropped <= made && dropped + made / LEFT_PART >= made);
}

/// Starts a goroutine, if the budget allows, that does what its own random numbers say.
fn start(world: &Arc<World>, random: &mut Random) {
    let one_less = |budget: usize| budget.checked_sub(1);
    if world
        .budget
        .fetch_update(Relaxed, Relaxed, one_less)
        .is_err()
    {
        return;
    }
    world.everyone.add(1);
    let on_thread = random.below(16) == 0;
    let (world, mut random) = (world.clone(), Random(random.next()));
    let body = move || {
        let mut mine = None;
        for _ in 0..random.below(300) {
            step(&world, &mut random, &mut mine);
        }
        mine.iter()
            .for_each(|message: &Gc<Message>| message.check());
        world.everyone.done();
    };
    if on_thread {
        thread::spawn(body);
    } else {
        raddle::go(body);
    }
}

/// One step. None waits for ever.
fn step(world: &Arc<World>, random: &mut Random, mine: &mut Option<Gc<Message>>) {
    let patience = Duration::from_micros(random.next() % 200);
    let mut channel = || &world.channels[random.below(world.channels.len())];
    let ((tx, rx), (_, other_rx)) = (channel(), channel());
    let place = &world.places[random.below(world.places.len())];
    match random.below(20) {
        0..5 => {
            let start = random.next() >> 20;
            let body = Slice::from_fn(random.below(300), |i| start + i as u64);
            world.made.fetch_add(1, Relaxed);
            let message = Gc::new(Message {
                sum: body.iter().sum(),
                body,
                next: Atomic::new(*mine),
                dropped: world.dropped.clone(),
            });
            if random.below(4) == 0 {
                // A ring: through what hung on it before, if anything did.
                let last = mine.unwrap_or(message);
                last.next.store(Some(message), SeqCst);
            }
            *mine = Some(message);
        }
        5 => *mine = None,
        6 | 7 => {
            if let Some(message) = *mine {
                let _ = tx.send_timeout(message, patience);
            }
        }
        8 | 9 => {
            if let Ok(message) = rx.recv_timeout(patience) {
                message.check();
                *mine = Some(message);
            }
        }
        10 => raddle::select! {
            recv(rx) -> message => if let Ok(message) = message { message.check() },
            recv(other_rx) -> message => if let Ok(message) = message { *mine = Some(message) },
            default => {}
        },
        11 => *mine = place.swap(*mine, AcqRel),
        12 => {
            // Through the lists, a while: they may be rings.
            let mut here = place.load(Acquire);
            for _ in 0..50 {
                let Some(message) = here else { break };
                message.check();
                here = message.next.load(Acquire);
            }
        }
        13 => {
            let weak = mine.map(|message| Gc::downgrade(&message));
            world.cache.write().extend(weak);
        }
        14 => {
            let found = {
                let cache = world.cache.read();
                let at = random.below(cache.len() + 1);
                cache.get(at).and_then(Weak::upgrade)
            };
            if let Some(message) = found {
                message.check();
                *mine = Some(message);
            }
        }
        15 => {
            world.cache.write().retain(|weak| weak.upgrade().is_some());
        }
        16 => {
            let mut kept = world.kept.lock();
            kept.extend(*mine);
            if kept.len() > 50 {
                kept.clear();
            }
        }
        17 => match random.below(8) {
            0 => gc::collect(),
            1 => drop(raddle::set_procs(1 + random.below(5))),
            2 => drop(gc::set_percent(Some(20 + random.below(300) as u32))),
            3 => raddle::blocking(|| thread::sleep(patience)),
            4 => time::sleep(patience),
            5 => {
                hint::black_box((0..20_000_u64).fold(0, |sum, n| hint::black_box(sum ^ n)));
            }
            _ => raddle::yield_now(),
        },
        18 => raddle::yield_now(),
        _ => start(world, random),
    }
}
