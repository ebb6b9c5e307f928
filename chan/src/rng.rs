//! A small random source for the order in which select looks at its cases: one per goroutine, never shared.
//!
//! Quality matters little here, speed and independence do: xorshift64* in a thread-local, which is the goroutine's own.

use std::cell::Cell;

thread_local! {
    /// 0: not seeded yet.
    static STATE: Cell<u64> = const { Cell::new(0) };
}

/// Shuffles `order`.
pub(crate) fn shuffle(order: &mut [u32]) {
    let mut x = STATE.get();
    if x == 0 {
        x = seed();
    }
    for i in (1..order.len()).rev() {
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        let random = x.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        // A product's upper half instead of a remainder: no division; the bias is below 2^-16.
        let j = (random * (i as u64 + 1)) >> 32;
        order.swap(i, j as usize);
    }
    STATE.set(x);
}

#[cold]
fn seed() -> u64 {
    // The address tells goroutines apart, the clock tells runs and recycled addresses apart.
    let here = STATE.with(|state| std::ptr::from_ref(state).addr() as u64);
    (here.rotate_left(32) ^ raddle_sched::now_ns()).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1
}

#[cfg(test)]
mod tests {
    use super::shuffle;

    #[test]
    fn every_permutation_comes_up() {
        let mut seen = std::collections::HashMap::new();
        for _ in 0..24_000 {
            let mut order = [0, 1, 2, 3];
            shuffle(&mut order);
            *seen.entry(order).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 24);
        // A thousand each on average; six standard deviations are below 200.
        assert!(seen.values().all(|&n| (700..1300).contains(&n)), "{seen:?}");
    }

    #[test]
    fn short_orders_are_left_alone() {
        shuffle(&mut []);
        let mut one = [7];
        shuffle(&mut one);
        assert_eq!(one, [7]);
    }
}
