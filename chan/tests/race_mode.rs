//! What race mode sees of channels: one edge too few would report the clean cases, one too many would hide the racy ones.
//!
//! Accesses are reported by hand, to words that nothing else touches. The order of arrival is forced by atomics, which the detector
//! does not see. One test, since the detector counts for the whole process.

mod common;

use common::{Crew, On, crew};
use raddle_chan::*;
use raddle_race::{Host, Options, Pc};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Once};

static WORDS: [AtomicU64; 4096] = [const { AtomicU64::new(0) }; 4096];
static NEXT: AtomicU64 = AtomicU64::new(0);

fn boot() {
    static BOOT: Once = Once::new();
    BOOT.call_once(|| {
        let host = Box::leak(Box::new(Host {
            current_proc: raddle_sched::current_proc_ctx,
            ..Host::NONE
        }));
        let options = Options::parse("").expect("no options are good options");
        // SAFETY: the first P gets the one; the other is not used.
        let (_main, proc) = unsafe { raddle_race::init(options, host) };
        raddle_sched::boot(&raddle_sched::BootOptions {
            first_proc: Some(proc),
            ..Default::default()
        });
    });
}

/// A word of its own for each test.
#[derive(Clone, Copy)]
struct Word(usize);

impl Word {
    fn new() -> Self {
        let i = NEXT.fetch_add(1, Ordering::Relaxed) as usize;
        Word(std::ptr::from_ref(&WORDS[i * 8]).addr())
    }
    fn write_at(self, place: usize) {
        raddle_race::write(self.0, 8, PLACES[place]());
    }
    #[track_caller]
    fn write(self) {
        raddle_race::write(self.0, 8, Pc::here());
    }
}

/// Places of their own: a pair of places is reported once.
static PLACES: [fn() -> Pc; 6] = [
    || Pc::here(), //
    || Pc::here(),
    || Pc::here(),
    || Pc::here(),
    || Pc::here(),
    || Pc::here(),
];

/// Something that orders the parts in time, but not for the detector.
#[derive(Clone, Default)]
struct Flag(Arc<AtomicBool>);

impl Flag {
    fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
    fn wait(&self) {
        while !self.0.load(Ordering::SeqCst) {
            raddle_sched::yield_now();
        }
    }
}

fn races(f: impl FnOnce(&Crew)) -> usize {
    let before = raddle_race::errors();
    crew(On::Goroutines, f);
    raddle_race::errors() - before
}

fn kinds() -> [(Sender<u64>, Receiver<u64>); 4] {
    [bounded(0), bounded(1), bounded(3), unbounded()]
}

/// Lets the other part reach its wait; only ever makes a case more likely to be met from that side.
fn linger() {
    (0..200).for_each(|_| raddle_sched::yield_now());
}

/// The ways to send and to receive.
fn send_by(way: usize, s: &Sender<u64>) {
    match way {
        0 => s.send(1).unwrap(),
        1 => s
            .send_timeout(1, std::time::Duration::from_secs(60))
            .unwrap(),
        _ => select! {
            send(s, 1) -> res => res.unwrap(),
            recv(never::<u8>()) -> _ => unreachable!(),
        },
    }
}

fn recv_by(way: usize, r: &Receiver<u64>) -> bool {
    match way {
        0 => r.recv().is_ok(),
        1 => r.recv_timeout(std::time::Duration::from_secs(60)).is_ok(),
        _ => select! {
            recv(r) -> msg => msg.is_ok(),
            recv(never::<u8>()) -> _ => unreachable!(),
        },
    }
}

fn send_orders_receive() {
    for way in 0..9 {
        for late_sender in [false, true] {
            for (s, r) in kinds() {
                let word = Word::new();
                let n = races(|crew| {
                    crew.go(move || {
                        if late_sender {
                            linger();
                        }
                        word.write();
                        send_by(way / 3, &s);
                    });
                    crew.go(move || {
                        if !late_sender {
                            linger();
                        }
                        assert!(recv_by(way % 3, &r));
                        word.write();
                    });
                });
                assert_eq!(n, 0, "way {way}, sender late: {late_sender}");
            }
        }
    }
}

fn a_meeting_orders_both_sides() {
    for way in 0..9 {
        for late_sender in [false, true] {
            let (s, r) = bounded(0);
            let word = Word::new();
            let n = races(|crew| {
                crew.go(move || {
                    if late_sender {
                        linger();
                    }
                    send_by(way / 3, &s);
                    word.write();
                });
                crew.go(move || {
                    word.write();
                    if !late_sender {
                        linger();
                    }
                    assert!(recv_by(way % 3, &r));
                });
            });
            assert_eq!(n, 0, "way {way}, sender late: {late_sender}");
        }
    }
}

fn a_place_orders_its_next_sender() {
    // Receive k happens before send k + capacity returns, however the sender got its place.
    for late_sender in [false, true] {
        let (s, r) = bounded(2);
        let _open = r.clone();
        let word = Word::new();
        let n = races(|crew| {
            crew.go(move || {
                send_by(0, &s);
                send_by(2, &s);
                if late_sender {
                    linger();
                }
                send_by(0, &s);
                word.write();
            });
            crew.go(move || {
                word.write();
                if !late_sender {
                    linger();
                }
                assert!(r.recv().is_ok());
            });
        });
        assert_eq!(n, 0);
    }
}

fn a_buffer_orders_no_other_way() {
    // The receiver's write before its receive, and the sender's after its send, are unordered: the buffer had room.
    for (i, (s, r)) in [bounded(1), bounded(3), unbounded()]
        .into_iter()
        .enumerate()
    {
        let (word, sent) = (Word::new(), Flag::default());
        let done = sent.clone();
        let n = races(|crew| {
            crew.go(move || {
                s.send(1).unwrap();
                word.write_at(2 * i);
                sent.set();
            });
            crew.go(move || {
                word.write_at(2 * i + 1);
                done.wait();
                assert!(r.recv().is_ok());
            });
        });
        assert_eq!(n, 1);
    }
}

fn an_unbounded_receive_orders_no_later_send() {
    let (s, r) = unbounded();
    let (word, turn, turned) = (Word::new(), Flag::default(), Flag::default());
    let (turn2, turned2) = (turn.clone(), turned.clone());
    let n = races(|crew| {
        crew.go(move || {
            s.send(1).unwrap();
            turn.set();
            turned.wait();
            s.send(2).unwrap();
            word.write();
        });
        crew.go(move || {
            turn2.wait();
            word.write();
            assert_eq!(r.recv(), Ok(1));
            turned2.set();
            assert_eq!(r.recv(), Ok(2));
        });
    });
    assert_eq!(n, 1);
}

fn an_end_orders_receivers() {
    for late in [false, true] {
        for (i, (s, r)) in kinds().into_iter().chain(kinds()).enumerate() {
            let word = Word::new();
            let n = races(|crew| {
                crew.go(move || {
                    if late {
                        linger();
                    }
                    word.write();
                    if i < 4 {
                        assert!(s.close());
                    } else {
                        drop(s);
                    }
                });
                crew.go(move || {
                    if !late {
                        linger();
                    }
                    assert!(!recv_by(i % 3, &r));
                    word.write();
                });
            });
            assert_eq!(n, 0);
        }
    }
}

fn unordered_send_and_close_race() {
    let (s, r) = bounded(4);
    let (s2, sent) = (s.clone(), Flag::default());
    let after = sent.clone();
    let n = races(|crew| {
        crew.go(move || {
            s.send(1).unwrap();
            sent.set();
        });
        crew.go(move || {
            after.wait();
            s2.close();
        });
    });
    drop(r);
    assert_eq!(n, 1);

    let (s, r) = bounded(4);
    let (s2, closed) = (s.clone(), Flag::default());
    let after = closed.clone();
    let n = races(|crew| {
        crew.go(move || {
            after.wait();
            assert!(s.send(1).is_err());
        });
        crew.go(move || {
            s2.close();
            closed.set();
        });
    });
    drop(r);
    assert_eq!(n, 1);
}

fn a_second_close_takes_nothing_from_the_first() {
    // One report: the two closes. The receiver is ordered after the one that closed.
    let (s, r) = bounded::<u64>(1);
    let (s2, word) = (s.clone(), Word::new());
    let (closed, twice) = (Flag::default(), Flag::default());
    let (closed2, twice2) = (closed.clone(), twice.clone());
    let n = races(|crew| {
        crew.go(move || {
            word.write();
            assert!(s.close());
            closed.set();
        });
        crew.go(move || {
            closed2.wait();
            assert!(!s2.close());
            twice.set();
        });
        crew.go(move || {
            twice2.wait();
            assert!(r.recv().is_err());
            word.write();
        });
    });
    assert_eq!(n, 1);
}

fn an_end_after_the_close_orders_nobody() {
    // Dropping the last sender of a closed channel ends nothing: it is no edge to who finds the channel closed.
    let (s, r) = bounded::<u64>(1);
    let (s2, word) = (s.clone(), Word::new());
    let (closed, dropped) = (Flag::default(), Flag::default());
    let (closed2, dropped2) = (closed.clone(), dropped.clone());
    let n = races(|crew| {
        crew.go(move || {
            assert!(s.close());
            drop(s);
            closed.set();
        });
        crew.go(move || {
            closed2.wait();
            word.write();
            drop(s2);
            dropped.set();
        });
        crew.go(move || {
            dropped2.wait();
            assert!(r.recv().is_err());
            word.write();
        });
    });
    assert_eq!(n, 1);
}

fn the_first_event_of_a_thread_counts() {
    // A thread is made known to the detector by its first operation, whose own event must not be lost.
    for first in 0..3 {
        let (s, r) = bounded::<u64>(4);
        let (s2, done) = (s.clone(), Flag::default());
        let after = done.clone();
        let n = races(|crew| {
            crew.go(move || {
                after.wait();
                match first {
                    0 | 1 => assert!(s2.close()),
                    _ => assert!(s2.send(1).is_err()),
                }
            });
            let thread = std::thread::spawn(move || {
                match first {
                    0 => s.send(1).unwrap(),
                    1 => s
                        .send_timeout(1, std::time::Duration::from_secs(60))
                        .unwrap(),
                    _ => assert!(s.close()),
                }
                done.set();
            });
            thread.join().unwrap();
        });
        drop(r);
        assert_eq!(n, 1, "first event {first}");
    }
}

fn ordered_send_and_close_do_not() {
    let (s, r) = bounded::<u64>(4);
    let (done_s, done_r) = bounded::<()>(0);
    let s2 = s.clone();
    let n = races(|crew| {
        crew.go(move || {
            s.send(1).unwrap();
            done_s.send(()).unwrap();
        });
        crew.go(move || {
            done_r.recv().unwrap();
            s2.close();
            // Dropping handles while others use theirs is no race, nor is a channel in recycled memory.
            drop(r);
            for _ in 0..50 {
                let (s, r) = bounded::<u64>(4);
                s.send(1).unwrap();
                s.close();
                assert_eq!(r.iter().count(), 1);
            }
        });
    });
    assert_eq!(n, 0);
}

fn dropped_handles_order_the_end() {
    let n = races(|crew| {
        for _ in 0..50 {
            let (s, r) = bounded::<u64>(1);
            let s2 = s.clone();
            crew.go(move || s.send(1).unwrap_or(()));
            crew.go(move || s2.try_send(2).unwrap_or(()));
            crew.go(move || drop(r));
        }
    });
    assert_eq!(n, 0);
}

#[test]
fn edges() {
    boot();
    send_orders_receive();
    a_meeting_orders_both_sides();
    a_place_orders_its_next_sender();
    a_buffer_orders_no_other_way();
    an_unbounded_receive_orders_no_later_send();
    an_end_orders_receivers();
    unordered_send_and_close_race();
    a_second_close_takes_nothing_from_the_first();
    an_end_after_the_close_orders_nobody();
    the_first_event_of_a_thread_counts();
    ordered_send_and_close_do_not();
    dropped_handles_order_the_end();
}
