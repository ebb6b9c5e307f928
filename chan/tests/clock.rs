//! `after`, `at`, `tick`, `never`. Times are only ever bounded from below.

mod common;

use raddle_chan::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(4);

#[test]
fn before_its_time_a_clock_is_empty() {
    for r in [after(LONG), at(Instant::now() + LONG), tick(LONG)] {
        assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(
            (r.len(), r.is_empty(), r.is_full(), r.capacity()),
            (0, true, false, Some(1))
        );
        assert_eq!(
            r.recv_timeout(Duration::ZERO),
            Err(RecvTimeoutError::Timeout)
        );
        assert!(!r.close());
    }
}

#[test]
fn in_its_time_a_clock_is_full() {
    let now = Instant::now();
    let r = at(now);
    assert_eq!((r.len(), r.is_empty(), r.is_full()), (1, false, true));
    assert_eq!(r.try_recv(), Ok(now));
    assert_eq!((r.len(), r.try_recv()), (0, Err(TryRecvError::Empty)));
    let past = now - SHORT;
    assert_eq!(at(past).recv(), Ok(past));
    assert!(tick(Duration::ZERO).try_iter().take(3).is_sorted());
}

#[test]
fn never_is_never() {
    let r = never::<String>();
    assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(r.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
    assert_eq!(
        (r.len(), r.is_empty(), r.is_full(), r.capacity()),
        (0, true, true, Some(0))
    );
    assert!(!r.close());
    assert!(after(Duration::MAX).same_channel(&never()));
    select! { recv(r) -> _ => panic!(), recv(r.clone()) -> _ => panic!(), default(SHORT) => {} }
}

on_both! {
    fn after_fires_once(crew) {
        crew.go(|| {
            let start = Instant::now();
            let r = after(SHORT);
            let fired = r.recv().unwrap();
            assert!(fired >= start + SHORT && start.elapsed() >= SHORT);
            assert_eq!(r.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
        });
    }

    fn one_of_many_gets_the_message(crew) {
        let got = AtomicUsize::new(0);
        let got = std::sync::Arc::new(got);
        let r = after(SHORT);
        for _ in 0..5 {
            let (r, got) = (r.clone(), got.clone());
            crew.go(move || {
                if r.recv_timeout(10 * SHORT).is_ok() {
                    got.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        crew.go(move || {
            while got.load(Ordering::SeqCst) != 1 {
                raddle_sched::yield_now();
            }
        });
    }

    fn ticks_keep_coming(crew) {
        crew.go(|| {
            let start = Instant::now();
            let r = tick(SHORT);
            let ticks: Vec<_> = (0..5).map(|_| r.recv().unwrap()).collect();
            assert!(start.elapsed() >= 5 * SHORT);
            assert!(ticks.windows(2).all(|w| w[1] >= w[0] + SHORT));
            // One waits, no more, however long nobody looked.
            raddle_sched::sleep_ns(3 * SHORT.as_nanos() as u64);
            assert_eq!(r.len(), 1);
        });
    }

    fn select_waits_for_clocks(crew) {
        crew.go(|| {
            let (s, r) = bounded::<u8>(0);
            let start = Instant::now();
            select! {
                recv(r) -> _ => panic!(),
                recv(after(SHORT)) -> v => assert!(v.unwrap() >= start + SHORT),
                recv(after(LONG)) -> _ => panic!(),
            }
            let ticker = tick(SHORT);
            let mut sel = Select::new();
            sel.recv(&r);
            let i = sel.recv(&ticker);
            for _ in 0..3 {
                assert_eq!(sel.ready(), i);
                ticker.try_recv().unwrap();
            }
            let oper = sel.select_timeout(LONG).unwrap();
            assert_eq!(oper.index(), i);
            assert!(oper.recv(&ticker).is_ok());
            assert!(sel.select_timeout(Duration::from_nanos(1)).is_err() || start.elapsed() > SHORT);
            drop(s);
        });
    }

    fn a_clock_in_another_select_is_shared(crew) {
        let r = tick(Duration::from_micros(200));
        let (s, results) = unbounded();
        for _ in 0..3 {
            let (r, s) = (r.clone(), s.clone());
            crew.go(move || {
                for _ in 0..20 {
                    select! {
                        recv(r) -> v => s.send(v.unwrap()).unwrap(),
                        recv(never::<u8>()) -> _ => panic!(),
                    }
                }
            });
        }
        drop(s);
        let mut all: Vec<_> = results.iter().collect();
        all.sort_unstable();
        let n = all.len();
        all.dedup();
        assert_eq!((n, all.len()), (60, 60), "a tick was received twice");
    }

    fn a_limit_in_a_loop_loses_nothing(crew) {
        let (s, r) = bounded::<u32>(0);
        crew.go(move || (0..500).for_each(|n| s.send(n).unwrap()));
        crew.go(move || {
            let mut expected = 0;
            while expected < 500 {
                select! {
                    recv(r) -> v => { assert_eq!(v, Ok(expected)); expected += 1 },
                    recv(after(Duration::from_micros(u64::from(expected) % 50))) -> _ => {},
                    default(Duration::from_micros(u64::from(expected) % 70)) => {},
                }
            }
        });
    }
}
