//! Random programs, from a seed: goroutines that send, receive, select, lock, sleep, block, start others and change the
//! number of Ps, all at once, until the time is over.
//!
//! Every round is a process of its own with a seed of its own, under a configuration that the seed chooses: Ps, race
//! mode, thread-local mode, and yields injected into the runtime. Which goroutine does what is decided by the seed; when,
//! is decided by the machine: a seed that failed once fails soon again, not always.
//!
//!     cargo test --release --test stress                                  about ten seconds
//!     RADDLE_STRESS_SECONDS=600 cargo test --release --test stress        ten minutes
//!     RADDLE_STRESS_SEED=1234 cargo test --release --test stress          that round, again and again

#[path = "support/random.rs"]
mod random;
#[path = "support/rounds.rs"]
mod rounds;
#[path = "support/mod.rs"]
mod support;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{env, hint};

use raddle::chan::{self, Receiver, Sender};
use raddle::sync::{Mutex, RwLock, WaitGroup};
use random::Random;

const ROUND: &str = "RADDLE_STRESS_ROUND";
/// A round does a fixed amount of work, well under a second of it. One that still runs after this is hung.
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn random_programs_end() {
    rounds::run(LIMIT, configure);
}

/// The configuration of a round, as the seed chooses it.
fn configure(mut random: Random, command: &mut Command) {
    let mut debug = format!("seed={}", random.next());
    for (key, one_in) in [("notls", 4), ("noguardinstall", 4), ("nopreempt", 8)] {
        if random.below(one_in) == 0 {
            debug += &format!(",{key}");
        }
    }
    if random.below(2) == 0 {
        debug += &format!(",yield={}", 1 + random.below(50));
    }
    let procs = [1, 2, 3, 8][random.below(4)];
    command
        .env("RADDLE_DEBUG", debug)
        .env("RADDLE_PROCS", procs.to_string());
    command.env("RADDLE_RACE", if random.below(3) == 0 { "1" } else { "0" });
    command.env(ROUND, random.next().to_string());
}

/// The other end of `configure`; nothing in the process that the user started.
#[test]
fn one_round() {
    let Ok(seed) = env::var(ROUND) else { return };
    let seed = seed.parse().expect("`configure` gives a number");
    raddle::run(|| World::play(Random(seed)));
    assert_eq!(raddle::race::errors(), 0, "the program has no data race");
}

/// What all goroutines of a round share.
struct World {
    channels: Vec<(Sender<u64>, Receiver<u64>)>,
    /// Says what is in the channels: sums of what was sent and received.
    sent: AtomicU64,
    received: AtomicU64,
    locks: Vec<Mutex<(u64, u64)>>,
    table: RwLock<Vec<u64>>,
    everyone: WaitGroup,
    /// How many more goroutines may be started.
    budget: AtomicU64,
}

impl World {
    fn play(mut random: Random) {
        let world = Arc::new(World {
            channels: (0..1 + random.below(6))
                .map(|_| chan::bounded(random.below(4)))
                .collect(),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            locks: (0..1 + random.below(3))
                .map(|_| Mutex::new((0, 0)))
                .collect(),
            table: RwLock::new(vec![0; 8]),
            everyone: WaitGroup::new(),
            budget: AtomicU64::new(20 + random.below(300) as u64),
        });
        for _ in 0..1 + random.below(20) {
            world.start(&mut random);
        }
        world.everyone.wait();

        let left: u64 = world
            .channels
            .iter()
            .flat_map(|(_, rx)| rx.try_iter())
            .sum();
        let (sent, received) = (
            world.sent.load(Ordering::Relaxed),
            world.received.load(Ordering::Relaxed),
        );
        assert_eq!(sent, received + left, "messages were lost or doubled");
        for lock in &world.locks {
            let pair = *lock.lock();
            assert_eq!(pair.0, pair.1, "two held the lock at once");
        }
        let table = world.table.read();
        assert!(table.iter().all(|&cell| cell == table[0]));
    }

    /// Starts a goroutine, if the budget allows, that does what its own random numbers say.
    fn start(self: &Arc<World>, random: &mut Random) {
        let one_less = |budget: u64| budget.checked_sub(1);
        if self
            .budget
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_err()
        {
            return;
        }
        self.everyone.add(1);
        let named = random.below(4) == 0;
        let (world, mut random) = (self.clone(), Random(random.next()));
        let body = move || {
            for _ in 0..random.below(40) {
                world.step(&mut random);
            }
            world.everyone.done();
        };
        if named {
            raddle::Builder::new()
                .name("named")
                .stack_size(128 << 10)
                .spawn(body)
                .unwrap();
        } else {
            raddle::go(body);
        }
    }

    /// One step. None waits for ever: who sends or receives gives up after a while, and the sums tell what got through.
    fn step(self: &Arc<World>, random: &mut Random) {
        let value = 1 + random.below(1000) as u64;
        let patience = Duration::from_micros(random.below(300) as u64);
        let lock = &self.locks[random.below(self.locks.len())];
        let mut channel = || &self.channels[random.below(self.channels.len())];
        let ((tx, rx), (other_tx, other_rx)) = (channel(), channel());
        match random.below(16) {
            0 | 1 => self.count_sent(tx.send_timeout(value, patience).is_ok(), value),
            2 | 3 => self.count_received(rx.recv_timeout(patience).ok()),
            4 => self.count_sent(tx.try_send(value).is_ok(), value),
            5 => self.count_received(rx.try_recv().ok()),
            6 | 7 => raddle::select! {
                send(tx, value) -> sent => self.count_sent(sent.is_ok(), value),
                recv(other_rx) -> got => self.count_received(got.ok()),
                recv(rx) -> got => self.count_received(got.ok()),
                default(patience) => {}
            },
            8 => raddle::select! {
                send(tx, value) -> sent => self.count_sent(sent.is_ok(), value),
                send(other_tx, value) -> sent => self.count_sent(sent.is_ok(), value),
                recv(chan::after(patience)) -> _ => {}
            },
            9 => {
                let mut pair = lock.lock();
                pair.0 += 1;
                raddle::yield_now();
                pair.1 += 1;
            }
            10 => {
                if let Some(mut pair) = lock.try_lock_for(patience) {
                    *pair = (pair.0 + value, pair.1 + value);
                }
            }
            11 => {
                let table = self.table.read();
                assert!(table.iter().all(|&cell| cell == table[0]));
            }
            12 => self.table.write().iter_mut().for_each(|cell| *cell += 1),
            13 => match value % 3 {
                0 => raddle::time::sleep(patience),
                1 => raddle::blocking(|| std::thread::sleep(patience)),
                _ => {
                    hint::black_box((0..value * 100).fold(0, |sum, n| hint::black_box(sum ^ n)));
                }
            },
            14 => match value % 8 {
                0 => drop(raddle::set_procs(1 + value as usize % 5)),
                1 => drop(raddle::go(|| raddle::exit()).join()),
                2 => {
                    raddle::lock_os_thread();
                    raddle::yield_now();
                    raddle::unlock_os_thread();
                }
                3 => raddle::go(raddle::lock_os_thread).join().unwrap(),
                _ => raddle::yield_now(),
            },
            _ => self.start(random),
        }
    }

    fn count_sent(&self, sent: bool, value: u64) {
        if sent {
            self.sent.fetch_add(value, Ordering::Relaxed);
        }
    }

    fn count_received(&self, value: Option<u64>) {
        self.received
            .fetch_add(value.unwrap_or(0), Ordering::Relaxed);
    }
}
