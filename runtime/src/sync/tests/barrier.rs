//! The barrier, one behaviour a test.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::{Background, in_background};
use crate::sync::Barrier;

#[test]
fn nobody_passes_before_all_have_come_round_after_round() {
    const N: usize = 5;
    let barrier = Arc::new(Barrier::new(N));
    let (arrived, leaders) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let threads: Vec<_> = (0..N)
        .map(|_| {
            let (barrier, arrived, leaders) = (barrier.clone(), arrived.clone(), leaders.clone());
            in_background(move || {
                for round in 1..=500 {
                    arrived.fetch_add(1, SeqCst);
                    if barrier.wait().is_leader() {
                        leaders.fetch_add(1, SeqCst);
                    }
                    let n = arrived.load(SeqCst);
                    assert!(n >= round * N, "round {round} passed with {n}");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(Background::join);
    assert_eq!(leaders.load(SeqCst), 500);
}

#[test]
fn a_barrier_for_none_or_one_stops_nobody() {
    for n in [0, 1] {
        let barrier = Barrier::new(n);
        assert!(barrier.wait().is_leader());
        assert!(barrier.wait().is_leader());
    }
}

super::on_goroutines! {
    nobody_passes_before_all_have_come_round_after_round
    a_barrier_for_none_or_one_stops_nobody
}
