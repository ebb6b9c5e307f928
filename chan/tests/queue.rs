//! What every channel with senders does: bounded, unbounded and of capacity zero.

mod common;

use common::{Drops, On, crew};
use raddle_chan::*;
use std::collections::HashSet;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(3600);

fn kinds<T>() -> Vec<(Sender<T>, Receiver<T>)> {
    vec![bounded(0), bounded(1), bounded(2), bounded(7), unbounded()]
}

fn buffered<T>() -> Vec<(Sender<T>, Receiver<T>)> {
    vec![bounded(100), unbounded()]
}

#[test]
fn messages_come_in_order() {
    for (s, r) in buffered() {
        for n in 0..100 {
            s.send(n).unwrap();
        }
        assert_eq!(
            r.try_iter().collect::<Vec<_>>(),
            (0..100).collect::<Vec<_>>()
        );
        assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
    }
}

#[test]
fn capacity_and_length() {
    assert_eq!(bounded::<u8>(0).0.capacity(), Some(0));
    assert_eq!(unbounded::<u8>().1.capacity(), None);
    let (s, r) = bounded(2);
    assert_eq!((s.capacity(), r.capacity()), (Some(2), Some(2)));
    assert!(s.is_empty() && r.is_empty() && !s.is_full() && !r.is_full());
    s.send(1).unwrap();
    assert!(!s.is_empty() && !r.is_full());
    s.send(2).unwrap();
    assert_eq!((s.len(), r.len()), (2, 2));
    assert!(s.is_full() && r.is_full());
    assert_eq!(s.try_send(3), Err(TrySendError::Full(3)));
    r.recv().unwrap();
    assert_eq!((s.len(), s.is_full()), (1, false));

    let (s, r) = bounded::<u8>(0);
    assert!(s.is_empty() && s.is_full() && r.is_empty() && r.is_full());
    assert_eq!(s.len(), 0);
    assert_eq!(s.try_send(3), Err(TrySendError::Full(3)));
}

#[test]
fn the_ring_wraps() {
    let (s, r) = bounded(3);
    for n in 0..1000 {
        s.send(n).unwrap();
        s.send(n + 1).unwrap();
        assert_eq!(r.recv(), Ok(n));
        assert_eq!(r.recv(), Ok(n + 1));
    }
}

#[test]
fn a_long_queue_grows_and_shrinks() {
    let (s, r) = unbounded();
    for round in 0..5 {
        for n in 0..10_000u64 {
            s.send(n + round).unwrap();
        }
        for n in 0..10_000 {
            assert_eq!(r.recv(), Ok(n + round));
        }
    }
}

#[test]
fn limits_in_the_past_still_try() {
    for (s, r) in buffered() {
        let past = Instant::now() - Duration::from_millis(1);
        assert_eq!(s.send_deadline(1, past), Ok(()));
        assert_eq!(s.send_timeout(2, Duration::ZERO), Ok(()));
        assert_eq!(r.recv_deadline(past), Ok(1));
        assert_eq!(r.recv_timeout(Duration::ZERO), Ok(2));
        assert_eq!(
            r.recv_timeout(Duration::ZERO),
            Err(RecvTimeoutError::Timeout)
        );
    }
    let (s, _r) = bounded(0);
    assert_eq!(
        s.send_timeout(1, Duration::ZERO),
        Err(SendTimeoutError::Timeout(1))
    );
}

#[test]
fn errors_convert_and_explain() {
    assert_eq!(
        TrySendError::from(SendError(1)),
        TrySendError::Disconnected(1)
    );
    assert_eq!(
        SendTimeoutError::from(SendError(1)),
        SendTimeoutError::Disconnected(1)
    );
    assert_eq!(TryRecvError::from(RecvError), TryRecvError::Disconnected);
    assert_eq!(
        RecvTimeoutError::from(RecvError),
        RecvTimeoutError::Disconnected
    );
    assert!(TrySendError::Full(1).is_full() && TrySendError::Disconnected(1).is_disconnected());
    assert!(
        SendTimeoutError::Timeout(1).is_timeout()
            && SendTimeoutError::Disconnected(1).is_disconnected()
    );
    assert!(TryRecvError::Empty.is_empty() && RecvTimeoutError::Timeout.is_timeout());
    assert_eq!(
        SendTimeoutError::Timeout(5).into_inner() + TrySendError::Full(6).into_inner(),
        11
    );
    struct Opaque;
    assert_eq!(
        format!("{:?} {:?}", SendError(Opaque), TrySendError::Full(Opaque)),
        "SendError(..) Full(..)"
    );
    assert_eq!(SendError(Opaque).to_string(), "sending on a closed channel");
    fn is_error<E: std::error::Error + Send + Sync + 'static>(_: E) {}
    is_error(SendError(1));
    is_error(SelectTimeoutError);
}

#[test]
fn handles_are_send_sync_and_small() {
    fn check<T: Send + Sync + std::panic::UnwindSafe + std::panic::RefUnwindSafe + Clone>() {}
    check::<Sender<std::cell::Cell<u8>>>();
    check::<Receiver<std::cell::Cell<u8>>>();
    assert_eq!(size_of::<Sender<[u8; 100]>>(), 8);
    assert_eq!(size_of::<Option<Receiver<String>>>(), 8);
}

#[test]
fn what_may_leave_its_thread() {
    /// Whether a type is `Send` and `Sync`: an inherent constant, where there is one, hides the trait's.
    struct Is<T>(std::marker::PhantomData<T>);
    trait Not {
        const SEND: bool = false;
        const SYNC: bool = false;
    }
    impl<T> Not for Is<T> {}
    impl<T: Send> Is<T> {
        const SEND: bool = true;
    }
    impl<T: Sync> Is<T> {
        const SYNC: bool = true;
    }
    const {
        assert!(Is::<u8>::SEND && Is::<u8>::SYNC);
        assert!(Is::<Select<'static>>::SEND && Is::<Select<'static>>::SYNC);
        // It may hold a message whose type must not leave its thread.
        assert!(!Is::<SelectedOperation<'static>>::SEND);
        assert!(!Is::<SelectedOperation<'static>>::SYNC);
        type Local = std::rc::Rc<u8>;
        assert!(!Is::<Sender<Local>>::SEND && !Is::<Sender<Local>>::SYNC);
        assert!(!Is::<Receiver<Local>>::SEND && !Is::<Receiver<Local>>::SYNC);
    }
}

#[test]
fn same_channel_is_told_apart() {
    let (s, r) = bounded::<u8>(1);
    let (s2, r2) = unbounded::<u8>();
    assert!(s.same_channel(&s.clone()) && r.same_channel(&r.clone()));
    assert!(!s.same_channel(&s2) && !r.same_channel(&r2));
    assert!(never::<u8>().same_channel(&never()));
    let a = after(LONG);
    assert!(a.same_channel(&a.clone()) && !a.same_channel(&after(LONG)));
    assert!(!tick(LONG).same_channel(&tick(LONG)));
}

on_both! {
    fn sends_meet_receives(crew) {
        for (s, r) in kinds() {
            crew.go(move || (0..1000).for_each(|n| s.send(n).unwrap()));
            crew.go(move || {
                for n in 0..1000 {
                    assert_eq!(r.recv(), Ok(n));
                }
                assert_eq!(r.recv(), Err(RecvError));
            });
        }
    }

    fn each_message_reaches_one_receiver(crew) {
        const N: usize = 2000;
        for (s, r) in kinds() {
            let (done_s, done_r) = unbounded();
            for id in 0..4 {
                let s = s.clone();
                crew.go(move || (0..N).for_each(|n| s.send((id, n)).unwrap()));
                let (r, done) = (r.clone(), done_s.clone());
                crew.go(move || {
                    let got: Vec<_> = r.iter().collect();
                    // What one receiver gets of one sender is in order.
                    for id in 0..4 {
                        assert!(got.iter().filter(|m| m.0 == id).map(|m| m.1).is_sorted());
                    }
                    done.send(got).unwrap();
                });
            }
            drop((s, r, done_s));
            let all: Vec<(i32, usize)> = done_r.iter().flatten().collect();
            assert_eq!(all.len(), 4 * N);
            assert_eq!(all.into_iter().collect::<HashSet<_>>().len(), 4 * N);
        }
    }

    fn a_dropped_sender_wakes_receivers(crew) {
        for (s, r) in kinds::<u8>() {
            for _ in 0..3 {
                let r2 = r.clone();
                crew.go(move || assert_eq!(r2.recv(), Err(RecvError)));
                let r2 = r.clone();
                crew.go(move || assert_eq!(r2.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected)));
            }
            crew.go(move || drop(s));
        }
    }

    fn a_dropped_receiver_wakes_senders(crew) {
        for cap in 0..2 {
            let (s, r) = bounded(cap);
            (0..cap).for_each(|_| s.send(0).unwrap());
            for n in 1..4 {
                let s2 = s.clone();
                crew.go(move || assert_eq!(s2.send(n), Err(SendError(n))));
                let s2 = s.clone();
                crew.go(move || assert_eq!(s2.send_timeout(n, LONG), Err(SendTimeoutError::Disconnected(n))));
            }
            crew.go(move || drop(r));
        }
    }

    fn close_wakes_both_sides(crew) {
        for (s, r) in kinds::<u8>() {
            let (s2, r2) = (s.clone(), r.clone());
            crew.go(move || {
                r2.iter().for_each(drop);
            });
            crew.go(move || while s2.send(1).is_ok() {});
            let by_receiver = s.capacity() == Some(0);
            crew.go(move || {
                raddle_sched::yield_now();
                assert!(if by_receiver { r.close() } else { s.close() });
                assert!(!s.close() && !r.close());
            });
        }
    }

    fn waits_time_out(crew) {
        crew.go(|| {
            let (s, r) = bounded(0);
            let start = Instant::now();
            let limit = Duration::from_millis(5);
            assert_eq!(r.recv_timeout(limit), Err(RecvTimeoutError::Timeout));
            assert!(start.elapsed() >= limit);
            assert_eq!(s.send_timeout(1, limit), Err(SendTimeoutError::Timeout(1)));
            assert!(start.elapsed() >= 2 * limit);
            assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
            // Nobody is left in the queues.
            assert_eq!(s.try_send(1), Err(TrySendError::Full(1)));
        });
    }

    fn limited_waits_meet(crew) {
        // One side gives up again and again; no message is lost or doubled for that.
        for (s, r) in [bounded(0), bounded(1)] {
            crew.go(move || {
                for n in 0..300u64 {
                    let mut msg = n;
                    let mut patience = 0;
                    while let Err(e) = s.send_timeout(msg, Duration::from_micros(patience)) {
                        assert!(e.is_timeout());
                        msg = e.into_inner();
                        patience = (patience + 7) % 200;
                    }
                }
            });
            crew.go(move || {
                for n in 0..300 {
                    let mut patience = 100;
                    loop {
                        match r.recv_timeout(Duration::from_micros(patience)) {
                            Ok(m) => break assert_eq!(m, n),
                            Err(e) => assert!(e.is_timeout()),
                        }
                        patience = (patience + 13) % 200;
                    }
                }
                assert_eq!(r.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
            });
        }
    }

    fn waiting_receivers_are_served_in_turn(crew) {
        let (s, r) = bounded(0);
        let (order_s, order_r) = unbounded();
        let waiting = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        for id in 0..8 {
            let (r, order, waiting) = (r.clone(), order_s.clone(), waiting.clone());
            crew.go(move || {
                // In turn: each begins when the one before it is about to wait, or waits.
                while waiting.load(std::sync::atomic::Ordering::SeqCst) != id {
                    raddle_sched::yield_now();
                }
                waiting.store(id + 1, std::sync::atomic::Ordering::SeqCst);
                let turn: usize = r.recv().unwrap();
                order.send((id, turn)).unwrap();
            });
        }
        (0..8).for_each(|turn| s.send(turn).unwrap());
        drop(order_s);
        let mut ids: Vec<_> = order_r.iter().collect();
        ids.sort_unstable();
        assert_eq!(ids.len(), 8);
    }

    fn channels_travel_through_channels(crew) {
        for cap in [0, 1, 5] {
            let (s, r) = bounded::<Box<dyn std::any::Any + Send>>(cap);
            crew.go(move || {
                let mut s = s;
                for _ in 0..100 {
                    let (next_s, next_r) = bounded::<Box<dyn std::any::Any + Send>>(cap);
                    s.send(Box::new(Some(next_r))).unwrap();
                    s = next_s;
                }
            });
            crew.go(move || {
                let mut r = r;
                for _ in 0..100 {
                    let mut next = r.recv().unwrap();
                    r = next.downcast_mut::<Option<Receiver<Box<dyn std::any::Any + Send>>>>().unwrap().take().unwrap();
                }
                assert!(r.recv().is_err());
            });
        }
    }

    fn every_message_is_dropped_once(crew) {
        for (s, r) in kinds() {
            let drops = Drops::default();
            let (mine, counted) = (drops.clone(), drops.clone());
            let (done_s, done_r) = bounded::<usize>(0);
            crew.go(move || {
                let mut made = 0;
                while made < 500 {
                    made += 1;
                    if s.send(mine.item()).is_err() {
                        break;
                    }
                }
                drop(s);
                done_s.send(made).unwrap();
            });
            crew.go(move || {
                r.iter().take(250).for_each(drop);
                assert!(counted.get() >= 250);
                drop(r);
            });
            let made = done_r.recv().unwrap();
            // The receiver's part may still be dropping what is left.
            while drops.get() != made {
                raddle_sched::yield_now();
            }
        }
    }
}

#[test]
fn elements_of_any_shape() {
    #[repr(align(128))]
    #[derive(Clone, Debug, PartialEq)]
    struct Wide(u8);
    #[repr(align(4096))]
    #[derive(Clone, Debug, PartialEq)]
    struct Page(u8);
    fn check<T: Clone + PartialEq + std::fmt::Debug + Send>(value: T) {
        for on in [On::Threads, On::Goroutines] {
            crew(on, |crew| {
                for (s, r) in kinds() {
                    let (sent, expected) = (value.clone(), value.clone());
                    crew.go(move || (0..200).for_each(|_| s.send(sent.clone()).unwrap()));
                    crew.go(move || {
                        assert_eq!(
                            r.iter()
                                .inspect(|v| {
                                    assert_eq!(v, &expected);
                                    assert!(std::ptr::from_ref(v).is_aligned());
                                })
                                .count(),
                            200
                        );
                    });
                }
            });
        }
    }
    check(());
    check(7u8);
    check(7u16);
    check(true);
    check([1u8, 2, 3]);
    check(7u128);
    check((1u64, 2u8));
    check("text".to_owned());
    check([3u64; 9]);
    check([5u8; 3000]);
    check(Wide(9));
    check(Page(9));
    check(Some(Box::new(1)));
}

/// Counts its drop, and panics in it if it is to.
struct Bomb {
    drops: Drops,
    live: bool,
}

impl Bomb {
    fn new(drops: &Drops, live: bool) -> Self {
        let drops = drops.clone();
        Bomb { drops, live }
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        drop(self.drops.item());
        if self.live {
            panic!("drop {}", self.drops.get());
        }
    }
}

/// The panic message of `f`.
fn panic_of(f: impl FnOnce()) -> String {
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_err();
    *panic.downcast().unwrap()
}

#[test]
fn the_first_panic_in_a_drop_comes_out_and_the_rest_is_leaked() {
    for (s, r) in buffered() {
        let drops = Drops::default();
        (0..10).for_each(|n| s.send(Bomb::new(&drops, n >= 4)).unwrap());
        assert_eq!(panic_of(|| drop(r)), "drop 5");
        assert_eq!((drops.get(), s.len()), (5, 0));
        // The channel has ended as if nothing had happened, and its memory goes with the sender.
        assert!(s.send(Bomb::new(&drops, false)).is_err());
        assert_eq!(drops.get(), 6);
    }
}

#[test]
fn a_panic_in_a_drop_loses_nothing_of_an_iterator() {
    for (s, r) in buffered() {
        let drops = Drops::default();
        (0..10).for_each(|n| s.send(Bomb::new(&drops, n == 4)).unwrap());
        assert_eq!(panic_of(|| r.try_iter().for_each(drop)), "drop 5");
        assert_eq!((drops.get(), r.len()), (5, 5));
        drop(s);
        // The body panics with the receiver in the iterator's hands: what is left is dropped on the
        // way out.
        let panic = panic_of(|| {
            for (i, message) in r.into_iter().enumerate() {
                drop(message);
                assert!(i < 2, "{}", "the body");
            }
        });
        assert_eq!((panic.as_str(), drops.get()), ("the body", 10));
    }
}

#[test]
fn an_error_whose_message_panics_leaves_the_channel_usable() {
    let drops = Drops::default();
    let (s, r) = bounded(1);
    s.send(Bomb::new(&drops, false)).unwrap();
    assert_eq!(
        panic_of(|| drop(s.try_send(Bomb::new(&drops, true)))),
        "drop 1"
    );
    assert_eq!(
        panic_of(|| drop(s.send_timeout(Bomb::new(&drops, true), Duration::ZERO))),
        "drop 2"
    );
    drop(r.recv().unwrap());
    s.send(Bomb::new(&drops, false)).unwrap();
    r.close();
    assert_eq!(panic_of(|| drop(s.send(Bomb::new(&drops, true)))), "drop 4");
    drop((s, r));
    assert_eq!(drops.get(), 5);
}

#[test]
fn messages_may_hold_their_own_channel() {
    struct Own(#[expect(dead_code, reason = "held")] Sender<Own>, Drops);
    impl Drop for Own {
        fn drop(&mut self) {
            drop(self.1.item());
        }
    }
    for (s, r) in buffered() {
        let drops = Drops::default();
        (0..5).for_each(|_| s.send(Own(s.clone(), drops.clone())).unwrap());
        drop(s);
        drop(r);
        assert_eq!(drops.get(), 5);
    }
}

#[test]
fn the_last_receiver_discards() {
    for (s, r) in buffered() {
        let drops = Drops::default();
        (0..50).for_each(|_| s.send(drops.item()).unwrap());
        let r2 = r.clone();
        drop(r);
        assert_eq!(drops.get(), 0);
        drop(r2.recv().unwrap());
        assert_eq!(drops.get(), 1);
        drop(r2);
        assert_eq!(drops.get(), 50);
        assert_eq!(s.len(), 0);
        assert!(s.try_send(drops.item()).unwrap_err().is_disconnected());
    }
}

#[test]
fn huge_capacities_of_nothing() {
    for cap in [usize::MAX, usize::MAX / 16, 1 << 40, 1 << 31] {
        let (s, r) = bounded::<()>(cap);
        assert_eq!(s.capacity(), Some(cap));
        (0..1000).for_each(|_| s.send(()).unwrap());
        assert_eq!((r.len(), r.is_full()), (1000, false));
        assert_eq!(r.try_iter().count(), 1000);
    }
    for cap in [usize::MAX, usize::MAX / 4, isize::MAX as usize / 8 + 1] {
        let refused = std::panic::catch_unwind(|| bounded::<u64>(cap));
        let message = *refused.unwrap_err().downcast::<String>().unwrap();
        assert!(message.contains("choose a smaller capacity"), "{message}");
    }
}

#[test]
fn iterators_end_with_the_channel() {
    let (s, r) = unbounded();
    s.send(1).unwrap();
    s.send(2).unwrap();
    assert_eq!(r.try_iter().count(), 2);
    s.send(3).unwrap();
    drop(s);
    assert_eq!((&r).into_iter().collect::<Vec<_>>(), [3]);
    assert_eq!(r.iter().next(), None);
    assert_eq!(r.into_iter().next(), None);
}

/// Random operations of one goroutine against a `VecDeque`.
#[test]
fn behaves_like_a_queue() {
    let mut rng = common::Rng::new(common::seed());
    for _ in 0..300 {
        let cap = match rng.below(4) {
            0 => None,
            _ => Some(rng.below(70) as usize + 1),
        };
        let (s, r) = cap.map_or_else(unbounded, bounded);
        let mut model = std::collections::VecDeque::new();
        let (mut closed, mut next) = (false, 0u32);
        for _ in 0..rng.below(600) {
            match rng.below(100) {
                0 => {
                    assert_eq!(s.close(), !closed);
                    closed = true;
                }
                // Runs of sends and of receives, so that the queue grows and shrinks.
                1..60 => {
                    next += 1;
                    let expected = match cap {
                        _ if closed => Err(TrySendError::Disconnected(next)),
                        Some(cap) if model.len() == cap => Err(TrySendError::Full(next)),
                        _ => {
                            model.push_back(next);
                            Ok(())
                        }
                    };
                    assert_eq!(s.try_send(next), expected);
                }
                60..75 => {
                    let run = rng.below(30) as usize;
                    let expected: Vec<_> = model.drain(..run.min(model.len())).collect();
                    assert_eq!(r.try_iter().take(run).collect::<Vec<_>>(), expected);
                }
                _ => {
                    let empty = if closed {
                        TryRecvError::Disconnected
                    } else {
                        TryRecvError::Empty
                    };
                    assert_eq!(r.try_recv(), model.pop_front().ok_or(empty));
                }
            }
            assert_eq!((s.len(), r.is_empty()), (model.len(), model.is_empty()));
            assert_eq!(s.is_full(), cap == Some(model.len()));
        }
    }
}
