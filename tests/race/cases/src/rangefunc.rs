//! An iterator that calls the loop's body from two goroutines.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use crate::support::*;

type Body = dyn Fn(usize, i64) -> bool + Sync;

/// Each half in a goroutine of its own, until its body says no.
fn for_each(numbers: &'static [i64], body: &'static Body) {
    let half = move |mut range: std::ops::Range<usize>| {
        range.all(|i| body(i, numbers[i]));
    };
    let middle = numbers.len() / 2;
    both(move || half(0..middle), move || half(middle..numbers.len()));
}

static NUMBERS: [i64; 10] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

/// A loop of Go keeps in plain memory whether it was left: so does this body.
pub fn race_range_func_iterator() {
    let (sum, left) = (leak(AtomicI64::new(0)), var(false));
    for_each(
        &NUMBERS,
        leak(move |i: usize, x: i64| {
            if i % 5 == 4 {
                *left.at() = true; //~ race
                return false;
            }
            sum.fetch_add(x, Relaxed);
            yield_now();
            !*left.at() //~ race
        }),
    );
}

pub fn no_race_range_func_iterator() {
    let sum = leak(AtomicI64::new(0));
    for_each(
        &NUMBERS,
        leak(move |_: usize, x: i64| {
            sum.fetch_add(x, Relaxed);
            yield_now();
            true
        }),
    );
    assert_eq!(sum.load(Relaxed), 55);
}
