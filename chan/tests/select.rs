//! `select!`, `select_biased!` and `Select`.

mod common;

use common::Drops;
use raddle_chan::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(5);

#[test]
fn takes_what_is_ready() {
    let (s1, r1) = unbounded::<u32>();
    let (s2, r2) = unbounded::<u32>();
    s1.send(1).unwrap();
    select! {
        recv(r1) -> v => assert_eq!(v, Ok(1)),
        recv(r2) -> _ => panic!(),
    }
    s2.send(2).unwrap();
    select! {
        recv(r1) -> _ => panic!(),
        recv(r2) -> v => assert_eq!(v, Ok(2)),
    }
    select! {
        recv(r1) -> _ => panic!(),
        recv(r2) -> _ => panic!(),
        default => {}
    }
    let start = Instant::now();
    select! {
        recv(r1) -> _ => panic!(),
        recv(r2) -> _ => panic!(),
        default(SHORT) => assert!(start.elapsed() >= SHORT),
    }
    drop(s1);
    select! {
        recv(r1) -> v => assert_eq!(v, Err(RecvError)),
        recv(r2) -> _ => panic!(),
        default => panic!(),
    }
}

#[test]
fn grammar() {
    let (s, r) = unbounded::<i32>();
    select! { default => {} }
    select! { default() => () }
    select! { default(Duration::ZERO) => {} }
    select! { recv(r) -> _ => panic!(), default => {} }
    select! { default => {} recv(r) -> _ => panic!() }
    select! { default(SHORT,) => {}, recv(r,) -> _ => panic!(), }
    select! { send(s, 1,) -> res => assert_eq!(res, Ok(())) }
    select! { recv(r) -> r => assert_eq!(r, Ok(1)) }
    select! {
        send(&&&&s, 0) -> _ => {}
        recv(&&&&r) -> _ => panic!()
    }
    let x = select! {
        recv(r) -> _ => 3.0,
        recv(r) -> _ => if r.is_empty() { 3.0 } else { 4.0 },
        recv(r) -> msg => if msg.is_ok() { 3. } else { 4. },
        default => 7.
    };
    assert_eq!(x, 3.0);
    let text = select! {
        recv(r) -> _ => "foo".into(),
        send(s, 0) -> _ => "bar".to_owned(),
        default => "baz".to_string(),
    };
    assert_eq!(text, "bar");
    select! { recv(text.is_empty().then(never).as_ref().unwrap_or(&r)) -> v => assert_eq!(v, Ok(0)), default => panic!() }
    let (s, r) = (Box::new(s), Box::new(r));
    select! { send(*s, 5) -> _ => {} recv(*r) -> _ => panic!() }
    // A case moves what it names only if it is chosen.
    let once = Box::new(());
    select_biased! {
        recv(*r) -> v => { assert_eq!(v, Ok(5)); drop(once) }
        send(*s, { drop(once); 1 }) -> _ => panic!(),
        default => drop(once),
    }
    let (take_s, take_r) = (move || *s, move || *r);
    select! {
        recv(take_r()) -> _ => {}
        send(take_s(), 0) -> _ => {}
    }
    let (_, r) = unbounded::<i32>();
    select! {
        recv(r) -> _ => {
            select! {
                recv(r) -> _ => select! { recv(r) -> v => assert!(v.is_err()), recv(r) -> _ => {} },
                recv(r) -> _ => {}
            }
        }
        recv(r) -> _ => {}
    }
    // Types are inferred from the use.
    let (s, r) = unbounded();
    select! { recv(r) -> _ => {} default => {} }
    s.send(()).unwrap();
    for _ in 0..2 {
        select! {
            recv(r) -> _ => continue,
            default => break,
        }
    }
}

#[test]
fn many_cases() {
    let (s, r) = bounded::<u8>(1);
    let n = never::<u8>();
    s.send(1).unwrap();
    select! {
        recv(n) -> _ => panic!(), recv(n) -> _ => panic!(), recv(n) -> _ => panic!(), recv(n) -> _ => panic!(),
        recv(n) -> _ => panic!(), recv(n) -> _ => panic!(), recv(n) -> _ => panic!(), recv(n) -> _ => panic!(),
        recv(n) -> _ => panic!(), recv(n) -> _ => panic!(), recv(n) -> _ => panic!(), recv(n) -> _ => panic!(),
        recv(n) -> _ => panic!(), recv(n) -> _ => panic!(), recv(n) -> _ => panic!(), recv(n) -> _ => panic!(),
        recv(n) -> _ => panic!(), recv(n) -> _ => panic!(), recv(n) -> _ => panic!(), recv(n) -> _ => panic!(),
        recv(n) -> _ => panic!(), recv(n) -> _ => panic!(), recv(n) -> _ => panic!(), recv(n) -> _ => panic!(),
        recv(r) -> v => assert_eq!(v, Ok(1)),
    }
}

#[test]
fn does_not_meet_itself() {
    let (s, r) = bounded::<i32>(0);
    select! {
        send(s, 0) -> _ => panic!(),
        recv(r) -> _ => panic!(),
        default(SHORT) => {}
    }
    let mut sel = Select::new();
    sel.send(&s);
    sel.recv(&r);
    assert!(sel.try_select().is_err());
    assert!(sel.select_timeout(SHORT).is_err());
    assert!(sel.try_ready().is_err());
    assert!(sel.ready_timeout(SHORT).is_err());
}

#[test]
fn the_order_is_fair_unless_biased() {
    const ROUNDS: usize = 10_000;
    let chans: Vec<_> = (0..4).map(|_| unbounded::<usize>()).collect();
    for (s, _) in &chans {
        (0..ROUNDS).for_each(|n| s.send(n).unwrap());
    }
    let mut hits = [0; 4];
    for _ in 0..ROUNDS {
        select! {
            recv(chans[0].1) -> _ => hits[0] += 1,
            recv(chans[1].1) -> _ => hits[1] += 1,
            recv(chans[2].1) -> _ => hits[2] += 1,
            recv(chans[3].1) -> _ => hits[3] += 1,
        }
    }
    // 2,500 each, with a standard deviation of 43.
    assert!(hits.iter().all(|&h| h > 2000), "{hits:?}");
    let mut sel = Select::new();
    for (_, r) in &chans {
        sel.recv(r);
        sel.recv(r);
    }
    let mut hits = [0; 8];
    for _ in 0..ROUNDS {
        hits[sel.ready()] += 1;
    }
    assert!(hits.iter().all(|&h| h > 900), "{hits:?}");
    for _ in 0..100 {
        select_biased! {
            recv(chans[2].1) -> _ => {}
            recv(chans[1].1) -> _ => panic!(),
            default(LONG) => panic!(),
        }
    }
    let mut sel = Select::new_biased();
    sel.recv(&chans[3].1);
    sel.recv(&chans[0].1);
    assert!((0..100).all(|_| sel.ready() == 0));
}

/// Which of four cases on one channel is chosen, in rounds of which most have to wait.
fn hits(rounds: usize, mut round: impl FnMut() -> usize) -> [usize; 4] {
    let mut hits = [0; 4];
    (0..rounds).for_each(|_| hits[round()] += 1);
    hits
}

/// A hundred each on average; six standard deviations are below 52.
fn assert_fair(hits: [usize; 4]) {
    assert!(hits.iter().all(|&h| h > 48), "{hits:?}");
}

on_both! {
    fn a_receive_that_waited_is_fair(crew) {
        for cap in [Some(0), Some(1), None] {
            let (s, r) = cap.map_or_else(unbounded, bounded);
            crew.go(move || {
                for n in 0..800 {
                    // Without a buffer: only once the select waits. Else as soon as the last
                    // message was taken.
                    while match cap {
                        Some(0) => s.try_send(n).is_err(),
                        _ => !s.is_empty(),
                    } {
                        raddle_sched::yield_now();
                    }
                    if cap != Some(0) {
                        s.send(n).unwrap();
                    }
                }
            });
            assert_fair(hits(400, || select! {
                recv(r) -> msg => msg.map_or(9, |_| 0),
                recv(r) -> msg => msg.map_or(9, |_| 1),
                recv(r) -> msg => msg.map_or(9, |_| 2),
                recv(r) -> msg => msg.map_or(9, |_| 3),
            }));
            let mut sel = Select::new();
            (0..4).for_each(|i| assert_eq!(sel.recv(&r), i));
            assert_fair(hits(400, || {
                let oper = sel.select();
                let index = oper.index();
                oper.recv(&r).unwrap();
                index
            }));
        }
    }

    fn a_send_that_waited_is_fair(crew) {
        for cap in [0, 1] {
            let (s, r) = bounded(cap);
            crew.go(move || {
                for _ in 0..400 {
                    // Without a buffer: only once the select waits. Else once the buffer is full.
                    while match cap {
                        0 => r.try_recv().is_err(),
                        _ => !r.is_full(),
                    } {
                        raddle_sched::yield_now();
                    }
                    if cap != 0 {
                        r.recv().unwrap();
                    }
                }
                // What is left in the buffer.
                r.iter().for_each(drop);
            });
            assert_fair(hits(400, || select! {
                send(s, ()) -> res => res.map_or(9, |()| 0),
                send(s, ()) -> res => res.map_or(9, |()| 1),
                send(s, ()) -> res => res.map_or(9, |()| 2),
                send(s, ()) -> res => res.map_or(9, |()| 3),
            }));
        }
    }

    fn a_look_that_waited_is_fair_unless_biased(crew) {
        for biased in [false, true] {
            let (s, r) = bounded(0);
            crew.go(move || (0..400).for_each(|n| s.send(n).unwrap()));
            let mut sel = if biased { Select::new_biased() } else { Select::new() };
            (0..4).for_each(|i| assert_eq!(sel.recv(&r), i));
            let hits = hits(400, || {
                let index = sel.ready();
                r.recv().unwrap();
                index
            });
            match biased {
                true => assert_eq!(hits, [400, 0, 0, 0]),
                false => assert_fair(hits),
            }
        }
    }

    fn a_biased_select_that_waited_takes_the_first(crew) {
        let (s, r) = bounded(0);
        crew.go(move || {
            for n in 0..100 {
                while s.try_send(n).is_err() {
                    raddle_sched::yield_now();
                }
            }
        });
        for n in 0..100 {
            select_biased! {
                recv(r) -> msg => assert_eq!(msg, Ok(n)),
                recv(r) -> _ => panic!(),
            }
        }
    }

    fn a_select_may_change_its_thread(crew) {
        let (done, dones) = bounded(0);
        let (s1, r1) = bounded(1);
        let (s2, r2) = bounded(1);
        let (r1, r2): (&'static Receiver<u32>, &'static Receiver<u32>) =
            (Box::leak(Box::new(r1)), Box::leak(Box::new(r2)));
        let mut sel = Select::new();
        sel.recv(r1);
        crew.go(move || {
            let mut other = sel.clone();
            sel.recv(r2);
            done.send(sel.select_timeout(LONG).unwrap().recv(r1)).unwrap();
            done.send({
                let oper = sel.select();
                assert_eq!(oper.index(), 1);
                oper.recv(r2)
            }).unwrap();
            sel.remove(0);
            assert_eq!(sel.ready(), 1);
            assert_eq!(other.ready(), 0);
        });
        s1.send(7).unwrap();
        assert_eq!(dones.recv(), Ok(Ok(7)));
        s2.send(8).unwrap();
        assert_eq!(dones.recv(), Ok(Ok(8)));
        drop((s1, s2));
    }
}

#[test]
fn a_message_that_must_stay_is_not_dropped_elsewhere() {
    let (s, r) = unbounded();
    let message = std::rc::Rc::new(5);
    (0..3).for_each(|_| s.send(message.clone()).unwrap());
    let mut sel = Select::new();
    sel.recv(&r);
    std::thread::scope(|scope| {
        let panic = scope.spawn(|| drop(sel.select())).join().unwrap_err();
        let text = panic.downcast::<String>().unwrap();
        assert!(text.contains("without completing it"), "{text}");
    });
    // Neither dropped nor handed out: leaked.
    assert_eq!((std::rc::Rc::strong_count(&message), r.len()), (4, 2));
    // Here it may be dropped, by the list that has been there and by a copy.
    drop_quietly(sel.select());
    assert_eq!(std::rc::Rc::strong_count(&message), 3);
    drop_quietly(sel.clone().select());
    assert_eq!(std::rc::Rc::strong_count(&message), 2);
}

#[test]
fn an_empty_list_waits_as_long_as_it_is_told() {
    let mut sel = Select::new();
    assert!(sel.try_select().is_err() && sel.try_ready().is_err());
    assert!(sel.select_timeout(SHORT).is_err() && sel.ready_timeout(SHORT).is_err());
    let soon = Instant::now() + SHORT;
    assert!(sel.select_deadline(soon).is_err() && sel.ready_deadline(soon).is_err());
}

#[test]
fn limits_beyond_the_clock_are_none() {
    let (s, r) = bounded(1);
    let mut sel = Select::new();
    sel.recv(&r);
    for n in 0..10 {
        s.send(n).unwrap();
        assert_eq!(sel.ready_timeout(Duration::MAX), Ok(0));
        assert_eq!(sel.select_timeout(Duration::MAX).unwrap().recv(&r), Ok(n));
        s.send_timeout(n, Duration::MAX).unwrap();
        assert_eq!(r.recv_timeout(Duration::MAX), Ok(n));
        select! {
            recv(after(Duration::MAX)) -> _ => panic!(),
            recv(tick(Duration::MAX)) -> _ => panic!(),
            send(s, n) -> res => assert_eq!(res, Ok(())),
        }
        select! {
            recv(never()) -> msg => msg.unwrap_or_else(|_| panic!()),
            recv(r) -> msg => assert_eq!(msg, Ok(n)),
            default(Duration::MAX) => panic!(),
        }
    }
}

#[test]
fn clocks_are_ready_when_they_are_due() {
    let (none, ticker, soon) = (never::<Instant>(), tick(SHORT), after(SHORT));
    let mut sel = Select::new();
    sel.recv(&none);
    let ticks = sel.recv(&ticker);
    assert_eq!(sel.ready(), ticks);
    assert_eq!(sel.ready_timeout(LONG), Ok(ticks));
    ticker.try_recv().unwrap();
    let oper = sel.select_timeout(LONG).unwrap();
    assert_eq!(oper.index(), ticks);
    oper.recv(&ticker).unwrap();
    sel.remove(ticks);
    let once = sel.recv(&soon);
    assert_eq!(sel.ready(), once);
    assert!(sel.select().recv(&soon).is_ok());
    assert!(sel.ready_timeout(SHORT).is_err());
}

#[test]
fn send_and_receive_cases_share() {
    let (s, r) = bounded::<u64>(10);
    (0..5).for_each(|n| s.send(n).unwrap());
    let (mut sends, mut recvs) = (0, 0);
    for n in 0..2000 {
        select! {
            send(s, n) -> res => { res.unwrap(); sends += 1 }
            recv(r) -> msg => { msg.unwrap(); recvs += 1 }
        }
    }
    assert!(sends > 700 && recvs > 700, "{sends} {recvs}");
    assert_eq!(r.len(), 5 + sends - recvs);
}

#[test]
fn removed_operations_keep_the_indices_of_others() {
    let (s1, r1) = unbounded::<i32>();
    let (_s2, r2) = unbounded::<i32>();
    let (s3, r3) = unbounded::<i32>();
    let mut sel = Select::new();
    assert_eq!((sel.recv(&r1), sel.recv(&r2), sel.recv(&r3)), (0, 1, 2));
    drop(s1);
    sel.remove(0);
    assert!(sel.try_select().is_err());
    s3.send(3).unwrap();
    let copy = sel.clone();
    let oper = sel.select();
    assert_eq!(oper.index(), 2);
    assert_eq!(oper.recv(&r3), Ok(3));
    assert_eq!(sel.send(&s3), 3);
    drop(copy);
    assert!(catch_unwind(AssertUnwindSafe(|| sel.remove(0))).is_err());
}

#[test]
fn misuse_panics_and_loses_nothing() {
    let message = |f: &mut dyn FnMut()| {
        let panic = catch_unwind(AssertUnwindSafe(f)).unwrap_err();
        *panic.downcast::<String>().unwrap()
    };
    assert!(
        message(&mut || assert_eq!(Select::new().select().index(), 0)).contains("no operations")
    );
    let _ = message(&mut || {
        Select::new().ready();
    });

    let drops = Drops::default();
    let (s, r) = bounded(1);
    // A dropped receive drops its message.
    s.send(drops.item()).unwrap();
    let text = message(&mut || {
        let mut sel = Select::new();
        sel.recv(&r);
        drop(sel.select());
    });
    assert!(
        text.contains("without completing it") && text.contains("select.rs"),
        "{text}"
    );
    assert_eq!(drops.get(), 1);
    // A dropped send gives its place back.
    message(&mut || {
        let mut sel = Select::new();
        sel.send(&s);
        drop(sel.select());
    });
    assert!(!s.is_full());
    s.try_send(drops.item()).unwrap();
    // The wrong handle.
    let (s2, r2) = bounded::<common::Item>(1);
    let text = message(&mut || {
        let mut sel = Select::new();
        sel.recv(&r);
        let _ = sel.select().recv(&r2);
    });
    assert!(text.contains("not selected"), "{text}");
    assert_eq!(drops.get(), 2);
    message(&mut || {
        let mut sel = Select::new();
        sel.send(&s2);
        let _ = sel.select().send(&s, drops.item());
    });
    assert_eq!(drops.get(), 3);
    // A value that panics while it is made.
    fn no_value() -> common::Item {
        panic!("no value")
    }
    let panic = catch_unwind(AssertUnwindSafe(|| {
        select! {
            send(s2, no_value()) -> _ => {}
            recv(r2) -> _ => {}
        }
    }));
    assert_eq!(*panic.unwrap_err().downcast::<&str>().unwrap(), "no value");
    assert!(!s2.is_full());
    assert!(s2.try_send(drops.item()).is_ok());
    drop(r2.try_recv());
    // One that leaves the select.
    let leave = |value: Result<common::Item, u8>| {
        select! {
            send(s2, value?) -> res => res.unwrap_or_else(|_| panic!()),
            recv(r2) -> _ => panic!(),
        }
        Ok::<(), u8>(())
    };
    assert_eq!(leave(Err(3)), Err(3));
    assert!(!s2.is_full());
    assert_eq!(leave(Ok(drops.item())), Ok(()));
    assert!(s2.is_full());
}

#[test]
fn large_messages_pass_through_select() {
    #[repr(align(64))]
    struct Big([u64; 64]);
    let (s, r) = bounded(2);
    let (s0, r0) = bounded::<u8>(1);
    for n in 0..100 {
        s.send(Big([n; 64])).unwrap();
        select! {
            recv(r) -> msg => assert_eq!(msg.unwrap_or_else(|_| panic!()).0, [n; 64]),
            recv(r0) -> _ => panic!(),
        }
        select! {
            recv(r) -> _ => panic!(),
            send(s0, 1) -> _ => {},
        }
        r0.recv().unwrap();
    }
}

#[test]
fn reserved_places_count() {
    let (s, r) = bounded(1);
    let mut sel = Select::new();
    sel.send(&s);
    let oper = sel.select();
    assert!(s.is_full() && s.is_empty());
    assert_eq!(s.try_send(2), Err(TrySendError::Full(2)));
    assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
    oper.send(&s, 1).unwrap();
    assert_eq!(r.try_recv(), Ok(1));
    // Closed between selection and completion.
    let oper = sel.select();
    r.close();
    assert_eq!(oper.send(&s, 3), Err(SendError(3)));
    assert_eq!(r.try_recv(), Err(TryRecvError::Disconnected));
}

/// Drops an operation as a panic would: without one of its own.
fn drop_quietly(oper: SelectedOperation<'_>) {
    let result = catch_unwind(AssertUnwindSafe(|| {
        let _oper = oper;
        std::panic::resume_unwind(Box::new(()));
    }));
    assert!(result.is_err());
}

on_both! {
    fn unblocks_on_either_case(crew) {
        for cap in [0, 1] {
            let (s1, r1) = bounded::<i32>(cap);
            let (s2, r2) = bounded::<i32>(0);
            crew.go(move || {
                s1.send(1).unwrap();
                assert_eq!(r2.recv(), Ok(2));
            });
            crew.go(move || {
                let mut got = 0;
                for _ in 0..2 {
                    select! {
                        recv(r1) -> v => match v { Ok(v) => got += v, Err(_) => s2.send(2).unwrap() },
                        send(s2, 2) -> res => { res.unwrap(); got += 10 },
                    }
                    if got == 10 || got == 11 {
                        break;
                    }
                }
            });
        }
    }

    fn selects_meet_selects(crew) {
        // Both sides are selects, on channels of capacity zero: promise meets receiver, in both orders of arrival.
        const N: usize = 500;
        let (s1, r1) = bounded::<usize>(0);
        let (s2, r2) = bounded::<usize>(0);
        let (sum_s, sum_r) = unbounded();
        for _ in 0..3 {
            let (s1, s2) = (s1.clone(), s2.clone());
            crew.go(move || {
                for n in 0..N {
                    select! {
                        send(s1, n) -> res => res.unwrap(),
                        send(s2, n) -> res => res.unwrap(),
                    }
                }
            });
            let (r1, r2, sum) = (r1.clone(), r2.clone(), sum_s.clone());
            crew.go(move || {
                let (mut total, mut open1, mut open2) = (0, true, true);
                while open1 || open2 {
                    select! {
                        recv(if open1 { r1.clone() } else { never() }) -> v => match v { Ok(n) => total += n, Err(_) => open1 = false },
                        recv(if open2 { r2.clone() } else { never() }) -> v => match v { Ok(n) => total += n, Err(_) => open2 = false },
                    }
                }
                sum.send(total).unwrap();
            });
        }
        drop((s1, s2, r1, r2, sum_s));
        assert_eq!(sum_r.iter().sum::<usize>(), 3 * (N * (N - 1) / 2));
    }

    fn promises_meet_plain_and_trying_receivers(crew) {
        const N: usize = 400;
        let (s, r) = bounded::<usize>(0);
        let idle = never::<u8>();
        crew.go(move || {
            for n in 0..N {
                select! {
                    send(s, { raddle_sched::yield_now(); n }) -> res => res.unwrap(),
                    recv(idle) -> _ => panic!(),
                }
            }
        });
        crew.go(move || {
            for n in 0..N {
                let v = match n % 3 {
                    0 => r.recv().unwrap(),
                    1 => r.recv_timeout(LONG).unwrap(),
                    _ => loop {
                        match r.try_recv() {
                            Ok(v) => break v,
                            Err(e) => assert!(e.is_empty()),
                        }
                        raddle_sched::yield_now();
                    },
                };
                assert_eq!(v, n);
            }
            assert!(r.recv().is_err());
        });
    }

    fn abandoned_promises_are_retried(crew) {
        // Every third value panics on the way; its receiver waits for the next.
        let (s, r) = bounded::<usize>(0);
        let idle = never::<u8>();
        crew.go(move || {
            for n in 0..300 {
                let _ = catch_unwind(AssertUnwindSafe(|| select! {
                    send(s, if n % 3 == 0 { std::panic::resume_unwind(Box::new(())) } else { n }) -> res => res.unwrap(),
                    recv(idle) -> _ => panic!(),
                }));
            }
        });
        crew.go(move || {
            let got: Vec<usize> = r.iter().collect();
            assert_eq!(got, (0..300).filter(|n| n % 3 != 0).collect::<Vec<_>>());
        });
    }

    fn close_ends_selects(crew) {
        for _ in 0..50 {
            let (s, r) = bounded::<u8>(0);
            let (s2, r2) = bounded::<u8>(0);
            let s3 = s2.clone();
            let r3 = r.clone();
            crew.go(move || select! {
                recv(r3) -> v => assert!(v.is_err()),
                send(s3, 1) -> v => assert_eq!(v, Err(SendError(1))),
            });
            crew.go(move || {
                let mut sel = Select::new();
                sel.recv(&r);
                sel.ready();
                assert_eq!(r.try_recv(), Err(TryRecvError::Disconnected));
            });
            crew.go(move || { s.close(); s2.close(); drop(r2) });
        }
    }

    fn ready_wakes_for_every_change(crew) {
        for cap in [0, 1] {
            let (s, r) = bounded::<usize>(cap);
            let (r2, s2) = (r.clone(), s.clone());
            crew.go(move || {
                for n in 0..300 {
                    let mut sel = Select::new();
                    sel.recv(&r);
                    loop {
                        sel.ready();
                        if let Ok(v) = r.try_recv() { break assert_eq!(v, n) }
                    }
                }
            });
            crew.go(move || {
                for n in 0..300 {
                    if n % 2 == 0 {
                        s.send(n).unwrap();
                        continue;
                    }
                    let mut sel = Select::new();
                    sel.send(&s);
                    // Two observers on a channel of capacity zero would wait for each other for ever.
                    if s.capacity() == Some(0) { s.send(n).unwrap(); continue }
                    loop {
                        sel.ready();
                        if s.try_send(n).is_ok() { break }
                    }
                }
            });
            drop((r2, s2));
        }
        let (s, r) = bounded::<usize>(0);
        crew.go(move || (0..200).for_each(|n| loop {
            let mut sel = Select::new();
            sel.send(&s);
            assert_eq!(sel.ready(), 0);
            if s.try_send(n).is_ok() { break }
        }));
        crew.go(move || assert_eq!(r.iter().collect::<Vec<_>>(), (0..200).collect::<Vec<_>>()));
    }

    fn dynamic_selects_complete_later(crew) {
        let (s, r) = bounded::<usize>(0);
        crew.go(move || {
            for n in 0..200 {
                let mut sel = Select::new();
                let i = sel.send(&s);
                let oper = sel.select();
                assert_eq!(oper.index(), i);
                raddle_sched::yield_now();
                oper.send(&s, n).unwrap();
            }
        });
        crew.go(move || {
            for n in 0..200 {
                let mut sel = Select::new();
                sel.recv(&r);
                let oper = if n % 2 == 0 { sel.select() } else { sel.select_timeout(LONG).unwrap() };
                raddle_sched::yield_now();
                assert_eq!(oper.recv(&r), Ok(n));
            }
        });
    }

    fn default_is_a_snapshot(crew) {
        // A token is always in one of two channels, so a select over both never comes to its default.
        let (s1, r1) = bounded::<()>(2);
        let (s2, r2) = bounded::<()>(2);
        s1.send(()).unwrap();
        let (ra, rb) = (r1.clone(), r2.clone());
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopped = stop.clone();
        crew.go(move || {
            for n in 0..2000 {
                let mut sel = Select::new();
                sel.recv(&ra);
                sel.recv(&rb);
                assert!(sel.try_ready().is_ok(), "nothing ready in round {n}");
                raddle_sched::yield_now();
            }
            stop.store(true, std::sync::atomic::Ordering::SeqCst);
        });
        crew.go(move || {
            while !stopped.load(std::sync::atomic::Ordering::SeqCst) {
                s2.send(()).unwrap();
                r1.recv().unwrap();
                s1.send(()).unwrap();
                r2.recv().unwrap();
            }
        });
    }

    fn a_given_up_place_goes_to_who_waits(crew) {
        // All places are reserved, a sender and two receivers wait; then the place is used for a receiver, or given back.
        for complete in [false, true] {
            for _ in 0..50 {
                let (s, r) = bounded::<usize>(1);
                let mut sel = Select::new();
                sel.send(&s);
                let oper = sel.select();
                for n in 1..4 {
                    let s = s.clone();
                    crew.go(move || s.send(n).unwrap());
                }
                let (done, sums) = unbounded();
                for _ in 0..3 {
                    let (r, done) = (r.clone(), done.clone());
                    crew.go(move || done.send(r.recv().unwrap()).unwrap());
                }
                (0..20).for_each(|_| raddle_sched::yield_now());
                if complete {
                    oper.send(&s, 10).unwrap();
                } else {
                    drop_quietly(oper);
                }
                drop(done);
                let got: usize = sums.iter().sum();
                let left: usize = if complete { r.recv().unwrap() } else { 0 };
                assert_eq!(got + left, if complete { 16 } else { 6 });
            }
        }
    }

    fn parked_sends_get_places(crew) {
        let (s, r) = bounded::<usize>(1);
        s.send(0).unwrap();
        let idle = never::<u8>();
        crew.go(move || {
            for n in 1..500 {
                select! {
                    send(s, n) -> res => res.unwrap(),
                    recv(idle) -> _ => panic!(),
                    default(LONG) => panic!(),
                }
            }
        });
        crew.go(move || assert_eq!(r.iter().collect::<Vec<_>>(), (0..500).collect::<Vec<_>>()));
    }
}
