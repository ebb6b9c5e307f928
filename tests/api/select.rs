//! Waiting for several channels at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use raddle::chan::{self, RecvError, Select};
use raddle::{select, select_biased};

const SHORT: Duration = Duration::from_millis(5);

pub(crate) fn takes_the_ready_case() {
    let (a, from_a) = chan::bounded(1);
    let (_b, from_b) = chan::bounded::<()>(1);
    for i in 0..100 {
        a.send(i).unwrap();
        let got = select! {
            recv(from_a) -> value => value,
            recv(from_b) -> _ => unreachable!("nobody sends"),
        };
        assert_eq!(got, Ok(i));
    }
}

pub(crate) fn is_fair_among_ready_cases() {
    let channels: Vec<_> = (0..3).map(|_| chan::bounded(1)).collect();
    let mut taken = [0; 3];
    for _ in 0..3000 {
        for (tx, _) in &channels {
            // Full where the message of an earlier round was not taken.
            let _ = tx.try_send(());
        }
        select! {
            recv(channels[0].1) -> _ => taken[0] += 1,
            recv(channels[1].1) -> _ => taken[1] += 1,
            recv(channels[2].1) -> _ => taken[2] += 1,
        }
    }
    // 1000 each on average; 15 standard deviations away from it is not chance.
    assert!(taken.iter().all(|&times| times > 600), "{taken:?}");
}

pub(crate) fn default_runs_when_nothing_is_ready() {
    let (tx, rx) = chan::bounded(1);
    let poll = || {
        select! {
            recv(rx) -> value => Some(value),
            default => None,
        }
    };
    assert_eq!(poll(), None);
    tx.send(1).unwrap();
    assert_eq!(poll(), Some(Ok(1)));
    drop(tx);
    assert_eq!(poll(), Some(Err(RecvError)));
}

pub(crate) fn default_with_a_timeout_waits_for_it() {
    let (_tx, rx) = chan::bounded::<()>(0);
    let start = Instant::now();
    let timed_out = select! {
        recv(rx) -> _ => false,
        default(SHORT) => true,
    };
    assert!(timed_out && start.elapsed() >= SHORT);
}

pub(crate) fn a_parked_select_is_woken_by_any_case() {
    let (a, from_a) = chan::bounded(0);
    let (b, from_b) = chan::bounded(0);
    let (to_c, c) = chan::bounded(0);
    for round in 0..300 {
        let (a, b, c) = (a.clone(), b.clone(), c.clone());
        let partner = raddle::go(move || match round % 3 {
            0 => a.send(round).unwrap(),
            1 => b.send(round).unwrap(),
            _ => assert_eq!(c.recv(), Ok(round)),
        });
        let case = select! {
            recv(from_a) -> value => { assert_eq!(value, Ok(round)); 0 }
            recv(from_b) -> value => { assert_eq!(value, Ok(round)); 1 }
            send(to_c, round) -> sent => { assert_eq!(sent, Ok(())); 2 }
        };
        assert_eq!(case, round % 3);
        partner.join().unwrap();
    }
}

pub(crate) fn sends_and_receives_mix() {
    // Each goroutine offers its number and takes another's; what goes round is neither lost nor doubled.
    const EACH: u64 = 200;
    let (tx, rx) = chan::bounded(0);
    let handles: Vec<_> = (0..8_u64)
        .map(|me| {
            let (tx, rx) = (tx.clone(), rx.clone());
            raddle::go(move || {
                let (mut sent, mut received) = (0, 0);
                for _ in 0..EACH {
                    select! {
                        send(tx, me + 1) -> ok => { ok.unwrap(); sent += me + 1 }
                        recv(rx) -> value => received += value.unwrap(),
                        default(SHORT) => {}
                    }
                }
                (sent, received)
            })
        })
        .collect();
    let sums = handles.into_iter().map(|handle| handle.join().unwrap());
    let (sent, received) = sums.fold((0, 0), |(s, r), (sent, received)| (s + sent, r + received));
    assert_eq!(sent, received);
}

pub(crate) fn a_case_on_both_ends_of_a_channel_does_not_meet_itself() {
    let (tx, rx) = chan::bounded(0);
    select! {
        send(tx, 1) -> _ => panic!("sent to itself"),
        recv(rx) -> _ => panic!("received from itself"),
        default(SHORT) => {}
    }
}

pub(crate) fn losers_of_a_race_for_one_message_go_on_waiting() {
    let (tx, rx) = chan::bounded(0);
    let (stop, stopped) = chan::bounded::<()>(0);
    let received = Arc::new(AtomicUsize::new(0));
    let handles: Vec<_> = (0..10)
        .map(|_| {
            let (rx, stopped, received) = (rx.clone(), stopped.clone(), received.clone());
            raddle::go(move || loop {
                select! {
                    recv(rx) -> value => { value.unwrap(); received.fetch_add(1, Ordering::Relaxed); }
                    recv(stopped) -> _ => break,
                }
            })
        })
        .collect();
    (0..500).for_each(|i| tx.send(i).unwrap());
    drop(stop);
    handles
        .into_iter()
        .for_each(|handle| handle.join().unwrap());
    assert_eq!(received.load(Ordering::Relaxed), 500);
}

pub(crate) fn an_ended_channel_is_ready() {
    let (tx, rx) = chan::bounded::<()>(0);
    let (other, _rx) = chan::bounded::<()>(0);
    let selecting = raddle::go(move || {
        select! {
            recv(rx) -> value => assert_eq!(value, Err(RecvError)),
            send(other, ()) -> _ => panic!("nobody receives"),
        }
    });
    drop(tx);
    selecting.join().unwrap();
}

pub(crate) fn messages_of_abandoned_sends_are_kept() {
    struct Counts(Arc<AtomicUsize>);
    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    let (tx, rx) = chan::bounded(0);
    let (go_on, goes_on) = chan::bounded(0);
    let selecting = {
        let drops = drops.clone();
        raddle::go(move || {
            for _ in 0..100 {
                select! {
                    send(tx, Counts(drops.clone())) -> _ => panic!("nobody receives"),
                    recv(goes_on) -> value => value.unwrap(),
                }
            }
        })
    };
    (0..100).for_each(|_| go_on.send(()).unwrap());
    selecting.join().unwrap();
    drop(rx);
    // The message of a send that was not chosen is not sent; whether its expression was evaluated or not, none is kept.
    assert_eq!(Arc::strong_count(&drops), 1);
}

pub(crate) fn the_dynamic_form_selects_over_many() {
    let channels: Vec<_> = (0..50).map(|_| chan::bounded(0)).collect();
    for (i, (tx, _)) in channels.iter().enumerate() {
        let tx = tx.clone();
        raddle::go(move || tx.send(i).unwrap());
    }
    let mut select = Select::new();
    for (i, (_, rx)) in channels.iter().enumerate() {
        assert_eq!(select.recv(rx), i);
    }
    let mut seen = [false; 50];
    for _ in 0..50 {
        let operation = select.select();
        let index = operation.index();
        assert_eq!(operation.recv(&channels[index].1), Ok(index));
        assert!(!std::mem::replace(&mut seen[index], true));
    }
    assert!(select.try_select().is_err());
    assert!(select.select_timeout(SHORT).is_err());
}

pub(crate) fn biased_takes_the_first_ready() {
    let (first_tx, first) = chan::bounded(100);
    let (second_tx, second) = chan::bounded(100);
    for _ in 0..100 {
        first_tx.send(()).unwrap();
        second_tx.send(()).unwrap();
    }
    for round in 0..200 {
        let case = select_biased! {
            recv(first) -> _ => 1,
            recv(second) -> _ => 2,
        };
        assert_eq!(case, if round < 100 { 1 } else { 2 });
    }
}
