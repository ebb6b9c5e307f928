//! C11's orders and fences: what publishes, what consumes, and what only looks as if it did.
//!
//! Nearly all are one pattern: a goroutine writes `data` and publishes a flag; another waits until it sees the flag, and reads
//! `data`. There is a race unless publishing releases and consuming acquires.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{
    AtomicBool, AtomicI8, AtomicI16, AtomicI64, AtomicPtr, AtomicU8, AtomicU16, AtomicU32,
    AtomicU64, AtomicUsize, compiler_fence, fence,
};

use crate::support::*;

/// Message passing. `consume` is called until it returns true.
#[inline(always)]
fn pass<F: Sync + Default + 'static>(
    publish: impl FnOnce(&F) + Send + 'static,
    consume: impl Fn(&F) -> bool + Send + 'static,
) {
    let (data, flag) = (var(0), leak(F::default()));
    both(
        move || {
            *data.at() = 1; //~ race
            publish(flag);
        },
        move || {
            while !consume(flag) {
                yield_now();
            }
            read(*data.at()); //~ race
        },
    );
}

/// As `pass`, with a third goroutine in the middle.
#[inline(always)]
fn relay<F: Sync + Default + 'static>(
    publish: impl FnOnce(&F) + Send + 'static,
    middle: impl FnOnce(&F) + Send + 'static,
    consume: impl Fn(&F) -> bool + Send + 'static,
) {
    let (flag, turn) = (leak(F::default()), leak(Turn::new()));
    let data = var(0);
    let between = go(move || {
        turn.wait(1);
        middle(flag);
        turn.set(2);
    });
    both(
        move || {
            *data.at() = 1; //~ race
            publish(flag);
            turn.set(1);
        },
        move || {
            turn.wait(2);
            assert!(consume(flag));
            read(*data.at()); //~ race
        },
    );
    between.join().unwrap();
}

pub fn race_store_relaxed_load_relaxed() {
    pass(
        |f: &AtomicU32| f.store(1, Relaxed),
        |f| f.load(Relaxed) == 1,
    );
}

pub fn race_store_relaxed_load_acquire() {
    pass(
        |f: &AtomicU32| f.store(1, Relaxed),
        |f| f.load(Acquire) == 1,
    );
}

pub fn race_store_relaxed_load_seq_cst() {
    pass(|f: &AtomicU32| f.store(1, Relaxed), |f| f.load(SeqCst) == 1);
}

pub fn race_store_release_load_relaxed() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.load(Relaxed) == 1,
    );
}

pub fn no_race_store_release_load_acquire() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.load(Acquire) == 1,
    );
}

pub fn no_race_store_release_load_seq_cst() {
    pass(|f: &AtomicU32| f.store(1, Release), |f| f.load(SeqCst) == 1);
}

pub fn race_store_seq_cst_load_relaxed() {
    pass(|f: &AtomicU32| f.store(1, SeqCst), |f| f.load(Relaxed) == 1);
}

pub fn no_race_store_seq_cst_load_acquire() {
    pass(|f: &AtomicU32| f.store(1, SeqCst), |f| f.load(Acquire) == 1);
}

pub fn no_race_store_seq_cst_load_seq_cst() {
    pass(|f: &AtomicU32| f.store(1, SeqCst), |f| f.load(SeqCst) == 1);
}

pub fn race_add_relaxed_swap_relaxed() {
    pass(
        |f: &AtomicU32| {
            f.fetch_add(1, Relaxed);
        },
        |f| f.swap(0, Relaxed) == 1,
    );
}

pub fn race_add_relaxed_swap_acquire() {
    pass(
        |f: &AtomicU32| {
            f.fetch_add(1, Relaxed);
        },
        |f| f.swap(0, Acquire) == 1,
    );
}

pub fn race_add_relaxed_swap_release() {
    pass(
        |f: &AtomicU32| {
            f.fetch_add(1, Relaxed);
        },
        |f| f.swap(0, Release) == 1,
    );
}

pub fn race_add_relaxed_swap_acq_rel() {
    pass(
        |f: &AtomicU32| {
            f.fetch_add(1, Relaxed);
        },
        |f| f.swap(0, AcqRel) == 1,
    );
}

pub fn race_add_relaxed_swap_seq_cst() {
    pass(
        |f: &AtomicU32| {
            f.fetch_add(1, Relaxed);
        },
        |f| f.swap(0, SeqCst) == 1,
    );
}

pub fn race_add_acquire_swap_relaxed() {
    pass(
        |f: &AtomicU32| {
            f.fetch_add(1, Acquire);
        },
        |f| f.swap(0, Relaxed) == 1,
    );
}

pub fn race_add_acquire_swap_acquire() {
    pass(
        |f: &AtomicU32| {
            f.fetch_add(1, Acquire);
        },
        |f| f.swap(0, Acquire) == 1,
    );
}

pub fn race_add_acquire_swap_release() {
    pass(
        |f: &AtomicU32| {
            f.fetch_add(1, Acquire);
        },
        |f| f.swap(0, Release) == 1,
    );
}

pub fn race_add_acquire_swap_acq_rel() {
    pass(
        |f: &AtomicU32| {
            f.fetch_add(1, Acquire);
        },
        |f| f.swap(0, AcqRel) == 1,
    );
}

pub fn race_add_acquire_swap_seq_cst() {
    pass(
        |f: &AtomicU32| {
            f.fetch_add(1, Acquire);
        },
        |f| f.swap(0, SeqCst) == 1,
    );
}

pub fn race_add_release_swap_relaxed() {
    pass(
        |f: &AtomicU32| {
            f.fetch_add(1, Release);
        },
        |f| f.swap(0, Relaxed) == 1,
    );
}

pub fn no_race_add_release_swap_acquire() {
    pass(
        |f: &AtomicU32| {
            f.fetch_add(1, Release);
        },
        |f| f.swap(0, Acquire) == 1,
    );
}

pub fn race_add_release_swap_release() {
    pass(
        |f: &AtomicU32| {
            f.fetch_add(1, Release);
        },
        |f| f.swap(0, Release) == 1,
    );
}

pub fn no_race_add_release_swap_acq_rel() {
    pass(
        |f: &AtomicU32| {
            f.fetch_add(1, Release);
        },
        |f| f.swap(0, AcqRel) == 1,
    );
}

pub fn no_race_add_release_swap_seq_cst() {
    pass(
        |f: &AtomicU32| {
            f.fetch_add(1, Release);
        },
        |f| f.swap(0, SeqCst) == 1,
    );
}

pub fn race_add_acq_rel_swap_relaxed() {
    pass(
        |f: &AtomicU32| {
            f.fetch_add(1, AcqRel);
        },
        |f| f.swap(0, Relaxed) == 1,
    );
}

pub fn no_race_add_acq_rel_swap_acquire() {
    pass(
        |f: &AtomicU32| {
            f.fetch_add(1, AcqRel);
        },
        |f| f.swap(0, Acquire) == 1,
    );
}

pub fn race_add_acq_rel_swap_release() {
    pass(
        |f: &AtomicU32| {
            f.fetch_add(1, AcqRel);
        },
        |f| f.swap(0, Release) == 1,
    );
}

pub fn no_race_add_acq_rel_swap_acq_rel() {
    pass(
        |f: &AtomicU32| {
            f.fetch_add(1, AcqRel);
        },
        |f| f.swap(0, AcqRel) == 1,
    );
}

pub fn no_race_add_acq_rel_swap_seq_cst() {
    pass(
        |f: &AtomicU32| {
            f.fetch_add(1, AcqRel);
        },
        |f| f.swap(0, SeqCst) == 1,
    );
}

pub fn race_add_seq_cst_swap_relaxed() {
    pass(
        |f: &AtomicU32| {
            f.fetch_add(1, SeqCst);
        },
        |f| f.swap(0, Relaxed) == 1,
    );
}

pub fn no_race_add_seq_cst_swap_acquire() {
    pass(
        |f: &AtomicU32| {
            f.fetch_add(1, SeqCst);
        },
        |f| f.swap(0, Acquire) == 1,
    );
}

pub fn race_add_seq_cst_swap_release() {
    pass(
        |f: &AtomicU32| {
            f.fetch_add(1, SeqCst);
        },
        |f| f.swap(0, Release) == 1,
    );
}

pub fn no_race_add_seq_cst_swap_acq_rel() {
    pass(
        |f: &AtomicU32| {
            f.fetch_add(1, SeqCst);
        },
        |f| f.swap(0, AcqRel) == 1,
    );
}

pub fn no_race_add_seq_cst_swap_seq_cst() {
    pass(
        |f: &AtomicU32| {
            f.fetch_add(1, SeqCst);
        },
        |f| f.swap(0, SeqCst) == 1,
    );
}

pub fn race_cas_relaxed_relaxed_publishes() {
    pass(
        |f: &AtomicU32| assert!(f.compare_exchange(0, 1, Relaxed, Relaxed).is_ok()),
        |f| f.load(Acquire) == 1,
    );
}

pub fn race_cas_relaxed_acquire_publishes() {
    pass(
        |f: &AtomicU32| assert!(f.compare_exchange(0, 1, Relaxed, Acquire).is_ok()),
        |f| f.load(Acquire) == 1,
    );
}

pub fn race_cas_relaxed_seq_cst_publishes() {
    pass(
        |f: &AtomicU32| assert!(f.compare_exchange(0, 1, Relaxed, SeqCst).is_ok()),
        |f| f.load(Acquire) == 1,
    );
}

pub fn race_cas_acquire_relaxed_publishes() {
    pass(
        |f: &AtomicU32| assert!(f.compare_exchange(0, 1, Acquire, Relaxed).is_ok()),
        |f| f.load(Acquire) == 1,
    );
}

pub fn race_cas_acquire_acquire_publishes() {
    pass(
        |f: &AtomicU32| assert!(f.compare_exchange(0, 1, Acquire, Acquire).is_ok()),
        |f| f.load(Acquire) == 1,
    );
}

pub fn race_cas_acquire_seq_cst_publishes() {
    pass(
        |f: &AtomicU32| assert!(f.compare_exchange(0, 1, Acquire, SeqCst).is_ok()),
        |f| f.load(Acquire) == 1,
    );
}

pub fn no_race_cas_release_relaxed_publishes() {
    pass(
        |f: &AtomicU32| assert!(f.compare_exchange(0, 1, Release, Relaxed).is_ok()),
        |f| f.load(Acquire) == 1,
    );
}

pub fn no_race_cas_release_acquire_publishes() {
    pass(
        |f: &AtomicU32| assert!(f.compare_exchange(0, 1, Release, Acquire).is_ok()),
        |f| f.load(Acquire) == 1,
    );
}

pub fn no_race_cas_release_seq_cst_publishes() {
    pass(
        |f: &AtomicU32| assert!(f.compare_exchange(0, 1, Release, SeqCst).is_ok()),
        |f| f.load(Acquire) == 1,
    );
}

pub fn no_race_cas_acq_rel_relaxed_publishes() {
    pass(
        |f: &AtomicU32| assert!(f.compare_exchange(0, 1, AcqRel, Relaxed).is_ok()),
        |f| f.load(Acquire) == 1,
    );
}

pub fn no_race_cas_acq_rel_acquire_publishes() {
    pass(
        |f: &AtomicU32| assert!(f.compare_exchange(0, 1, AcqRel, Acquire).is_ok()),
        |f| f.load(Acquire) == 1,
    );
}

pub fn no_race_cas_acq_rel_seq_cst_publishes() {
    pass(
        |f: &AtomicU32| assert!(f.compare_exchange(0, 1, AcqRel, SeqCst).is_ok()),
        |f| f.load(Acquire) == 1,
    );
}

pub fn no_race_cas_seq_cst_relaxed_publishes() {
    pass(
        |f: &AtomicU32| assert!(f.compare_exchange(0, 1, SeqCst, Relaxed).is_ok()),
        |f| f.load(Acquire) == 1,
    );
}

pub fn no_race_cas_seq_cst_acquire_publishes() {
    pass(
        |f: &AtomicU32| assert!(f.compare_exchange(0, 1, SeqCst, Acquire).is_ok()),
        |f| f.load(Acquire) == 1,
    );
}

pub fn no_race_cas_seq_cst_seq_cst_publishes() {
    pass(
        |f: &AtomicU32| assert!(f.compare_exchange(0, 1, SeqCst, SeqCst).is_ok()),
        |f| f.load(Acquire) == 1,
    );
}

pub fn race_cas_relaxed_relaxed_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.compare_exchange(1, 2, Relaxed, Relaxed).is_ok(),
    );
}

pub fn race_cas_relaxed_acquire_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.compare_exchange(1, 2, Relaxed, Acquire).is_ok(),
    );
}

pub fn race_cas_relaxed_seq_cst_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.compare_exchange(1, 2, Relaxed, SeqCst).is_ok(),
    );
}

pub fn no_race_cas_acquire_relaxed_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.compare_exchange(1, 2, Acquire, Relaxed).is_ok(),
    );
}

pub fn no_race_cas_acquire_acquire_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.compare_exchange(1, 2, Acquire, Acquire).is_ok(),
    );
}

pub fn no_race_cas_acquire_seq_cst_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.compare_exchange(1, 2, Acquire, SeqCst).is_ok(),
    );
}

pub fn race_cas_release_relaxed_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.compare_exchange(1, 2, Release, Relaxed).is_ok(),
    );
}

pub fn race_cas_release_acquire_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.compare_exchange(1, 2, Release, Acquire).is_ok(),
    );
}

pub fn race_cas_release_seq_cst_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.compare_exchange(1, 2, Release, SeqCst).is_ok(),
    );
}

pub fn no_race_cas_acq_rel_relaxed_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.compare_exchange(1, 2, AcqRel, Relaxed).is_ok(),
    );
}

pub fn no_race_cas_acq_rel_acquire_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.compare_exchange(1, 2, AcqRel, Acquire).is_ok(),
    );
}

pub fn no_race_cas_acq_rel_seq_cst_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.compare_exchange(1, 2, AcqRel, SeqCst).is_ok(),
    );
}

pub fn no_race_cas_seq_cst_relaxed_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.compare_exchange(1, 2, SeqCst, Relaxed).is_ok(),
    );
}

pub fn no_race_cas_seq_cst_acquire_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.compare_exchange(1, 2, SeqCst, Acquire).is_ok(),
    );
}

pub fn no_race_cas_seq_cst_seq_cst_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.compare_exchange(1, 2, SeqCst, SeqCst).is_ok(),
    );
}

pub fn race_failed_cas_relaxed_relaxed_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.compare_exchange(7, 8, Relaxed, Relaxed) == Err(1),
    );
}

pub fn no_race_failed_cas_relaxed_acquire_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.compare_exchange(7, 8, Relaxed, Acquire) == Err(1),
    );
}

pub fn no_race_failed_cas_relaxed_seq_cst_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.compare_exchange(7, 8, Relaxed, SeqCst) == Err(1),
    );
}

pub fn race_failed_cas_acquire_relaxed_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.compare_exchange(7, 8, Acquire, Relaxed) == Err(1),
    );
}

pub fn no_race_failed_cas_acquire_acquire_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.compare_exchange(7, 8, Acquire, Acquire) == Err(1),
    );
}

pub fn no_race_failed_cas_acquire_seq_cst_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.compare_exchange(7, 8, Acquire, SeqCst) == Err(1),
    );
}

pub fn race_failed_cas_release_relaxed_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.compare_exchange(7, 8, Release, Relaxed) == Err(1),
    );
}

pub fn no_race_failed_cas_release_acquire_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.compare_exchange(7, 8, Release, Acquire) == Err(1),
    );
}

pub fn no_race_failed_cas_release_seq_cst_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.compare_exchange(7, 8, Release, SeqCst) == Err(1),
    );
}

pub fn race_failed_cas_acq_rel_relaxed_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.compare_exchange(7, 8, AcqRel, Relaxed) == Err(1),
    );
}

pub fn no_race_failed_cas_acq_rel_acquire_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.compare_exchange(7, 8, AcqRel, Acquire) == Err(1),
    );
}

pub fn no_race_failed_cas_acq_rel_seq_cst_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.compare_exchange(7, 8, AcqRel, SeqCst) == Err(1),
    );
}

pub fn race_failed_cas_seq_cst_relaxed_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.compare_exchange(7, 8, SeqCst, Relaxed) == Err(1),
    );
}

pub fn no_race_failed_cas_seq_cst_acquire_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.compare_exchange(7, 8, SeqCst, Acquire) == Err(1),
    );
}

pub fn no_race_failed_cas_seq_cst_seq_cst_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.compare_exchange(7, 8, SeqCst, SeqCst) == Err(1),
    );
}

pub fn race_weak_cas_relaxed_publishes() {
    pass(
        |f: &AtomicU32| while f.compare_exchange_weak(0, 1, Relaxed, Relaxed).is_err() {},
        |f| f.load(Acquire) == 1,
    );
}

pub fn no_race_weak_cas_release_publishes() {
    pass(
        |f: &AtomicU32| while f.compare_exchange_weak(0, 1, Release, Relaxed).is_err() {},
        |f| f.load(Acquire) == 1,
    );
}

pub fn race_failed_cas_does_not_publish() {
    pass(
        |f: &AtomicU32| {
            f.store(1, Relaxed);
            assert!(f.compare_exchange(7, 8, SeqCst, SeqCst).is_err());
        },
        |f| f.load(Acquire) == 1,
    );
}

pub fn no_race_fetch_add_release_publishes() {
    pass(
        |f: &AtomicU32| {
            f.fetch_add(1, Release);
        },
        |f| f.load(Acquire) == 1,
    );
}

pub fn race_fetch_add_relaxed_publishes() {
    pass(
        |f: &AtomicU32| {
            f.fetch_add(1, Relaxed);
        },
        |f| f.load(Acquire) == 1,
    );
}

pub fn no_race_fetch_sub_release_publishes() {
    pass(
        |f: &AtomicU32| {
            f.fetch_sub(1, Release);
        },
        |f| f.load(Acquire) != 0,
    );
}

pub fn race_fetch_sub_relaxed_publishes() {
    pass(
        |f: &AtomicU32| {
            f.fetch_sub(1, Relaxed);
        },
        |f| f.load(Acquire) != 0,
    );
}

pub fn no_race_fetch_or_release_publishes() {
    pass(
        |f: &AtomicU32| {
            f.fetch_or(1, Release);
        },
        |f| f.load(Acquire) == 1,
    );
}

pub fn race_fetch_or_relaxed_publishes() {
    pass(
        |f: &AtomicU32| {
            f.fetch_or(1, Relaxed);
        },
        |f| f.load(Acquire) == 1,
    );
}

pub fn no_race_fetch_xor_release_publishes() {
    pass(
        |f: &AtomicU32| {
            f.fetch_xor(1, Release);
        },
        |f| f.load(Acquire) == 1,
    );
}

pub fn race_fetch_xor_relaxed_publishes() {
    pass(
        |f: &AtomicU32| {
            f.fetch_xor(1, Relaxed);
        },
        |f| f.load(Acquire) == 1,
    );
}

pub fn race_known_limit_fetch_max_release_is_not_seen() {
    pass(
        |f: &AtomicU32| {
            f.fetch_max(1, Release);
        },
        |f| f.load(Acquire) == 1,
    );
}

pub fn race_fetch_max_relaxed_publishes() {
    pass(
        |f: &AtomicU32| {
            f.fetch_max(1, Relaxed);
        },
        |f| f.load(Acquire) == 1,
    );
}

pub fn no_race_fetch_nand_release_publishes() {
    pass(
        |f: &AtomicU32| {
            f.fetch_nand(0, Release);
        },
        |f| f.load(Acquire) != 0,
    );
}

pub fn race_fetch_nand_relaxed_publishes() {
    pass(
        |f: &AtomicU32| {
            f.fetch_nand(0, Relaxed);
        },
        |f| f.load(Acquire) != 0,
    );
}

pub fn no_race_swap_release_publishes() {
    pass(
        |f: &AtomicU32| {
            f.swap(1, Release);
        },
        |f| f.load(Acquire) == 1,
    );
}

pub fn race_swap_relaxed_publishes() {
    pass(
        |f: &AtomicU32| {
            f.swap(1, Relaxed);
        },
        |f| f.load(Acquire) == 1,
    );
}

pub fn no_race_fetch_update_release_publishes() {
    pass(
        |f: &AtomicU32| {
            let _ = f.fetch_update(Release, Relaxed, |_| Some(1));
        },
        |f| f.load(Acquire) == 1,
    );
}

pub fn race_fetch_update_relaxed_publishes() {
    pass(
        |f: &AtomicU32| {
            let _ = f.fetch_update(Relaxed, Relaxed, |_| Some(1));
        },
        |f| f.load(Acquire) == 1,
    );
}

pub fn no_race_fetch_and_acquire_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.fetch_and(1, Acquire) == 1,
    );
}

pub fn race_fetch_and_relaxed_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.fetch_and(1, Relaxed) == 1,
    );
}

pub fn race_known_limit_fetch_min_acquire_is_not_seen() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.fetch_min(9, Acquire) == 1,
    );
}

pub fn race_fetch_min_relaxed_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.fetch_min(9, Relaxed) == 1,
    );
}

pub fn no_race_fetch_sub_acquire_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.fetch_sub(0, Acquire) == 1,
    );
}

pub fn race_fetch_sub_relaxed_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.fetch_sub(0, Relaxed) == 1,
    );
}

pub fn no_race_fetch_or_acquire_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.fetch_or(0, Acquire) == 1,
    );
}

pub fn race_fetch_or_relaxed_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.fetch_or(0, Relaxed) == 1,
    );
}

pub fn no_race_fetch_xor_acquire_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.fetch_xor(0, Acquire) == 1,
    );
}

pub fn race_fetch_xor_relaxed_consumes() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.fetch_xor(0, Relaxed) == 1,
    );
}

pub fn no_race_u8_release_acquire() {
    pass(|f: &AtomicU8| f.store(1, Release), |f| f.load(Acquire) == 1);
}

pub fn race_u8_relaxed() {
    pass(|f: &AtomicU8| f.store(1, Relaxed), |f| f.load(Acquire) == 1);
}

pub fn no_race_u8_rmw() {
    pass(
        |f: &AtomicU8| {
            f.fetch_add(1, AcqRel);
        },
        |f| f.compare_exchange(1, 2, AcqRel, Acquire).is_ok(),
    );
}

pub fn no_race_i8_release_acquire() {
    pass(|f: &AtomicI8| f.store(1, Release), |f| f.load(Acquire) == 1);
}

pub fn race_i8_relaxed() {
    pass(|f: &AtomicI8| f.store(1, Relaxed), |f| f.load(Acquire) == 1);
}

pub fn no_race_i8_rmw() {
    pass(
        |f: &AtomicI8| {
            f.fetch_add(1, AcqRel);
        },
        |f| f.compare_exchange(1, 2, AcqRel, Acquire).is_ok(),
    );
}

pub fn no_race_u16_release_acquire() {
    pass(
        |f: &AtomicU16| f.store(1, Release),
        |f| f.load(Acquire) == 1,
    );
}

pub fn race_u16_relaxed() {
    pass(
        |f: &AtomicU16| f.store(1, Relaxed),
        |f| f.load(Acquire) == 1,
    );
}

pub fn no_race_u16_rmw() {
    pass(
        |f: &AtomicU16| {
            f.fetch_add(1, AcqRel);
        },
        |f| f.compare_exchange(1, 2, AcqRel, Acquire).is_ok(),
    );
}

pub fn no_race_i16_release_acquire() {
    pass(
        |f: &AtomicI16| f.store(1, Release),
        |f| f.load(Acquire) == 1,
    );
}

pub fn race_i16_relaxed() {
    pass(
        |f: &AtomicI16| f.store(1, Relaxed),
        |f| f.load(Acquire) == 1,
    );
}

pub fn no_race_i16_rmw() {
    pass(
        |f: &AtomicI16| {
            f.fetch_add(1, AcqRel);
        },
        |f| f.compare_exchange(1, 2, AcqRel, Acquire).is_ok(),
    );
}

pub fn no_race_i64_release_acquire() {
    pass(
        |f: &AtomicI64| f.store(1, Release),
        |f| f.load(Acquire) == 1,
    );
}

pub fn race_i64_relaxed() {
    pass(
        |f: &AtomicI64| f.store(1, Relaxed),
        |f| f.load(Acquire) == 1,
    );
}

pub fn no_race_i64_rmw() {
    pass(
        |f: &AtomicI64| {
            f.fetch_add(1, AcqRel);
        },
        |f| f.compare_exchange(1, 2, AcqRel, Acquire).is_ok(),
    );
}

pub fn no_race_u64_release_acquire() {
    pass(
        |f: &AtomicU64| f.store(1, Release),
        |f| f.load(Acquire) == 1,
    );
}

pub fn race_u64_relaxed() {
    pass(
        |f: &AtomicU64| f.store(1, Relaxed),
        |f| f.load(Acquire) == 1,
    );
}

pub fn no_race_u64_rmw() {
    pass(
        |f: &AtomicU64| {
            f.fetch_add(1, AcqRel);
        },
        |f| f.compare_exchange(1, 2, AcqRel, Acquire).is_ok(),
    );
}

pub fn no_race_usize_release_acquire() {
    pass(
        |f: &AtomicUsize| f.store(1, Release),
        |f| f.load(Acquire) == 1,
    );
}

pub fn race_usize_relaxed() {
    pass(
        |f: &AtomicUsize| f.store(1, Relaxed),
        |f| f.load(Acquire) == 1,
    );
}

pub fn no_race_usize_rmw() {
    pass(
        |f: &AtomicUsize| {
            f.fetch_add(1, AcqRel);
        },
        |f| f.compare_exchange(1, 2, AcqRel, Acquire).is_ok(),
    );
}

pub fn no_race_bool_release_acquire() {
    pass(|f: &AtomicBool| f.store(true, Release), |f| f.load(Acquire));
}

pub fn race_bool_relaxed() {
    pass(|f: &AtomicBool| f.store(true, Relaxed), |f| f.load(Acquire));
}

pub fn no_race_bool_or_and() {
    pass(
        |f: &AtomicBool| {
            f.fetch_or(true, Release);
        },
        |f| f.fetch_and(true, Acquire),
    );
}

pub fn race_bool_or_and_relaxed() {
    pass(
        |f: &AtomicBool| {
            f.fetch_or(true, Relaxed);
        },
        |f| f.fetch_and(true, Acquire),
    );
}

pub fn no_race_ptr_release_acquire() {
    pass(
        |f: &AtomicPtr<u8>| f.store(f.as_ptr().cast(), Release),
        |f| !f.load(Acquire).is_null(),
    );
}

pub fn race_ptr_relaxed() {
    pass(
        |f: &AtomicPtr<u8>| f.store(f.as_ptr().cast(), Relaxed),
        |f| !f.load(Acquire).is_null(),
    );
}

pub fn race_fence_none_before_store() {
    pass(
        |f: &AtomicU32| {
            f.store(1, Relaxed);
        },
        |f| f.load(Acquire) == 1,
    );
}

pub fn race_fence_acquire_before_store() {
    pass(
        |f: &AtomicU32| {
            fence(Acquire);
            f.store(1, Relaxed);
        },
        |f| f.load(Acquire) == 1,
    );
}

pub fn no_race_fence_release_before_store() {
    pass(
        |f: &AtomicU32| {
            fence(Release);
            f.store(1, Relaxed);
        },
        |f| f.load(Acquire) == 1,
    );
}

pub fn no_race_fence_acq_rel_before_store() {
    pass(
        |f: &AtomicU32| {
            fence(AcqRel);
            f.store(1, Relaxed);
        },
        |f| f.load(Acquire) == 1,
    );
}

pub fn no_race_fence_seq_cst_before_store() {
    pass(
        |f: &AtomicU32| {
            fence(SeqCst);
            f.store(1, Relaxed);
        },
        |f| f.load(Acquire) == 1,
    );
}

pub fn race_fence_none_after_load() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| {
            let seen = f.load(Relaxed) == 1;

            seen
        },
    );
}

pub fn no_race_fence_acquire_after_load() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| {
            let seen = f.load(Relaxed) == 1;
            fence(Acquire);
            seen
        },
    );
}

pub fn race_fence_release_after_load() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| {
            let seen = f.load(Relaxed) == 1;
            fence(Release);
            seen
        },
    );
}

pub fn no_race_fence_acq_rel_after_load() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| {
            let seen = f.load(Relaxed) == 1;
            fence(AcqRel);
            seen
        },
    );
}

pub fn no_race_fence_seq_cst_after_load() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| {
            let seen = f.load(Relaxed) == 1;
            fence(SeqCst);
            seen
        },
    );
}

pub fn race_fence_acquire_fence_acquire() {
    pass(
        |f: &AtomicU32| {
            fence(Acquire);
            f.store(1, Relaxed);
        },
        |f| {
            let seen = f.load(Relaxed) == 1;
            fence(Acquire);
            seen
        },
    );
}

pub fn race_fence_acquire_fence_release() {
    pass(
        |f: &AtomicU32| {
            fence(Acquire);
            f.store(1, Relaxed);
        },
        |f| {
            let seen = f.load(Relaxed) == 1;
            fence(Release);
            seen
        },
    );
}

pub fn race_fence_acquire_fence_acq_rel() {
    pass(
        |f: &AtomicU32| {
            fence(Acquire);
            f.store(1, Relaxed);
        },
        |f| {
            let seen = f.load(Relaxed) == 1;
            fence(AcqRel);
            seen
        },
    );
}

pub fn race_fence_acquire_fence_seq_cst() {
    pass(
        |f: &AtomicU32| {
            fence(Acquire);
            f.store(1, Relaxed);
        },
        |f| {
            let seen = f.load(Relaxed) == 1;
            fence(SeqCst);
            seen
        },
    );
}

pub fn no_race_fence_release_fence_acquire() {
    pass(
        |f: &AtomicU32| {
            fence(Release);
            f.store(1, Relaxed);
        },
        |f| {
            let seen = f.load(Relaxed) == 1;
            fence(Acquire);
            seen
        },
    );
}

pub fn race_fence_release_fence_release() {
    pass(
        |f: &AtomicU32| {
            fence(Release);
            f.store(1, Relaxed);
        },
        |f| {
            let seen = f.load(Relaxed) == 1;
            fence(Release);
            seen
        },
    );
}

pub fn no_race_fence_release_fence_acq_rel() {
    pass(
        |f: &AtomicU32| {
            fence(Release);
            f.store(1, Relaxed);
        },
        |f| {
            let seen = f.load(Relaxed) == 1;
            fence(AcqRel);
            seen
        },
    );
}

pub fn no_race_fence_release_fence_seq_cst() {
    pass(
        |f: &AtomicU32| {
            fence(Release);
            f.store(1, Relaxed);
        },
        |f| {
            let seen = f.load(Relaxed) == 1;
            fence(SeqCst);
            seen
        },
    );
}

pub fn no_race_fence_acq_rel_fence_acquire() {
    pass(
        |f: &AtomicU32| {
            fence(AcqRel);
            f.store(1, Relaxed);
        },
        |f| {
            let seen = f.load(Relaxed) == 1;
            fence(Acquire);
            seen
        },
    );
}

pub fn race_fence_acq_rel_fence_release() {
    pass(
        |f: &AtomicU32| {
            fence(AcqRel);
            f.store(1, Relaxed);
        },
        |f| {
            let seen = f.load(Relaxed) == 1;
            fence(Release);
            seen
        },
    );
}

pub fn no_race_fence_acq_rel_fence_acq_rel() {
    pass(
        |f: &AtomicU32| {
            fence(AcqRel);
            f.store(1, Relaxed);
        },
        |f| {
            let seen = f.load(Relaxed) == 1;
            fence(AcqRel);
            seen
        },
    );
}

pub fn no_race_fence_acq_rel_fence_seq_cst() {
    pass(
        |f: &AtomicU32| {
            fence(AcqRel);
            f.store(1, Relaxed);
        },
        |f| {
            let seen = f.load(Relaxed) == 1;
            fence(SeqCst);
            seen
        },
    );
}

pub fn no_race_fence_seq_cst_fence_acquire() {
    pass(
        |f: &AtomicU32| {
            fence(SeqCst);
            f.store(1, Relaxed);
        },
        |f| {
            let seen = f.load(Relaxed) == 1;
            fence(Acquire);
            seen
        },
    );
}

pub fn race_fence_seq_cst_fence_release() {
    pass(
        |f: &AtomicU32| {
            fence(SeqCst);
            f.store(1, Relaxed);
        },
        |f| {
            let seen = f.load(Relaxed) == 1;
            fence(Release);
            seen
        },
    );
}

pub fn no_race_fence_seq_cst_fence_acq_rel() {
    pass(
        |f: &AtomicU32| {
            fence(SeqCst);
            f.store(1, Relaxed);
        },
        |f| {
            let seen = f.load(Relaxed) == 1;
            fence(AcqRel);
            seen
        },
    );
}

pub fn no_race_fence_seq_cst_fence_seq_cst() {
    pass(
        |f: &AtomicU32| {
            fence(SeqCst);
            f.store(1, Relaxed);
        },
        |f| {
            let seen = f.load(Relaxed) == 1;
            fence(SeqCst);
            seen
        },
    );
}

pub fn race_fence_after_store() {
    pass(
        |f: &AtomicU32| {
            f.store(1, Relaxed);
            fence(SeqCst);
        },
        |f| f.load(Acquire) == 1,
    );
}

pub fn race_fence_before_load() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| {
            fence(SeqCst);
            f.load(Relaxed) == 1
        },
    );
}

pub fn race_compiler_fences() {
    pass(
        |f: &AtomicU32| {
            compiler_fence(SeqCst);
            f.store(1, Relaxed);
        },
        |f| {
            let seen = f.load(Relaxed) == 1;
            compiler_fence(SeqCst);
            seen
        },
    );
}

pub fn no_race_fence_before_rmw() {
    pass(
        |f: &AtomicU32| {
            fence(Release);
            f.fetch_add(1, Relaxed);
        },
        |f| f.load(Acquire) == 1,
    );
}

pub fn no_race_fence_after_rmw() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| {
            let seen = f.fetch_add(0, Relaxed) == 1;
            fence(Acquire);
            seen
        },
    );
}

pub fn no_race_fence_after_failed_cas() {
    pass(
        |f: &AtomicU32| f.store(1, Release),
        |f| {
            let seen = f.compare_exchange(7, 8, Relaxed, Relaxed) == Err(1);
            fence(Acquire);
            seen
        },
    );
}

pub fn race_fence_other_flag() {
    pass(
        |f: &[AtomicU32; 2]| {
            fence(Release);
            f[0].store(1, Relaxed);
            f[1].store(1, Relaxed);
        },
        |f| f[1].load(Relaxed) == 1,
    );
}

pub fn no_race_fence_two_flags() {
    pass(
        |f: &[AtomicU32; 2]| {
            fence(Release);
            f[0].store(1, Relaxed);
            f[1].store(1, Relaxed);
        },
        |f| f[1].load(Acquire) == 1,
    );
}

pub fn race_fence_before_the_write() {
    let (data, flag) = (var(0), leak(AtomicU32::new(0)));
    both(
        move || {
            fence(Release);
            *data.at() = 1; //~ race
            flag.store(1, Relaxed);
        },
        move || {
            while flag.load(Acquire) == 0 {
                yield_now();
            }
            read(*data.at()); //~ race
        },
    );
}

pub fn race_fence_of_another() {
    relay(
        |f: &AtomicU32| f.store(1, Relaxed),
        |_| fence(SeqCst),
        |f| f.load(Acquire) == 1,
    );
}

pub fn no_race_release_sequence_rmw() {
    relay(
        |f: &AtomicU32| f.store(1, Release),
        |f| {
            f.fetch_add(1, Relaxed);
        },
        |f| f.load(Acquire) == 2,
    );
}

pub fn no_race_release_sequence_two_rmw() {
    relay(
        |f: &AtomicU32| f.store(1, Release),
        |f| {
            f.fetch_add(1, Relaxed);
            f.swap(3, Relaxed);
        },
        |f| f.load(Acquire) == 3,
    );
}

pub fn no_race_release_sequence_cas() {
    relay(
        |f: &AtomicU32| f.store(1, Release),
        |f| assert!(f.compare_exchange(1, 2, Relaxed, Relaxed).is_ok()),
        |f| f.load(Acquire) == 2,
    );
}

pub fn no_race_release_sequence_failed_cas() {
    relay(
        |f: &AtomicU32| f.store(1, Release),
        |f| assert!(f.compare_exchange(5, 2, Relaxed, Relaxed).is_err()),
        |f| f.load(Acquire) == 1,
    );
}

pub fn no_race_release_sequence_acquire_rmw() {
    relay(
        |f: &AtomicU32| f.store(1, Release),
        |f| {
            f.fetch_or(2, Acquire);
        },
        |f| f.load(Acquire) == 3,
    );
}

pub fn no_race_release_sequence_after_fence() {
    relay(
        |f: &AtomicU32| {
            fence(Release);
            f.store(1, Relaxed);
        },
        |f| {
            f.fetch_add(1, Relaxed);
        },
        |f| f.load(Acquire) == 2,
    );
}

pub fn no_race_release_sequence_to_fence() {
    relay(
        |f: &AtomicU32| f.store(1, Release),
        |f| {
            f.fetch_add(1, Relaxed);
        },
        |f| {
            let seen = f.load(Relaxed) == 2;
            fence(Acquire);
            seen
        },
    );
}

pub fn race_release_sequence_broken_by_store() {
    relay(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.store(2, Relaxed),
        |f| f.load(Acquire) == 2,
    );
}

pub fn race_release_sequence_broken_by_release_store() {
    relay(
        |f: &AtomicU32| f.store(1, Release),
        |f| f.store(2, Release),
        |f| f.load(Acquire) == 2,
    );
}

pub fn no_race_transitive_acq_rel() {
    relay(
        |f: &AtomicU32| f.store(1, Release),
        |f| {
            f.fetch_add(1, AcqRel);
        },
        |f| f.load(Acquire) == 2,
    );
}

pub fn no_race_transitive_load_then_store() {
    relay(
        |f: &AtomicU32| f.store(1, Release),
        |f| {
            assert_eq!(f.load(Acquire), 1);
            f.store(2, Release);
        },
        |f| f.load(Acquire) == 2,
    );
}

pub fn race_transitive_relaxed_middle() {
    relay(
        |f: &AtomicU32| f.store(1, Release),
        |f| {
            assert_eq!(f.load(Relaxed), 1);
            f.store(2, Release);
        },
        |f| f.load(Acquire) == 2,
    );
}

pub fn no_race_transitive_fences() {
    relay(
        |f: &AtomicU32| {
            fence(Release);
            f.store(1, Relaxed);
        },
        |f| {
            assert_eq!(f.load(Relaxed), 1);
            fence(AcqRel);
            f.store(2, Relaxed);
        },
        |f| {
            let seen = f.load(Relaxed) == 2;
            fence(Acquire);
            seen
        },
    );
}

pub fn race_own_relaxed_store_ends_sequence() {
    relay(
        |f: &AtomicU32| {
            f.store(1, Release);
            f.store(2, Relaxed);
        },
        |_| {},
        |f| {
            let _ = f;
            f.load(Acquire) == 2
        },
    );
}

/// What came before is passed on, what comes after is not.
pub fn race_write_after_release() {
    let (data, flag) = (var(0), leak(AtomicU32::new(0)));
    both(
        move || {
            flag.store(1, Release);
            *data.at() = 1; //~ race
        },
        move || {
            while flag.load(Acquire) == 0 {
                yield_now();
            }
            read(*data.at()); //~ race
        },
    );
}

pub fn race_read_before_acquire() {
    let (data, flag) = (var(0), leak(AtomicU32::new(0)));
    both(
        move || {
            *data.at() = 1; //~ race
            flag.store(1, Release);
        },
        move || {
            read(*data.at()); //~ race
            while flag.load(Acquire) == 0 {
                yield_now();
            }
        },
    );
}

/// An acquire that saw the value from before.
pub fn race_acquired_too_early() {
    let (data, flag) = (var(0), leak(AtomicU32::new(0)));
    let turn = leak(Turn::new());
    both(
        move || {
            turn.wait(1);
            *data.at() = 1; //~ race
            flag.store(1, Release);
            turn.set(2);
        },
        move || {
            assert_eq!(flag.load(Acquire), 0);
            turn.set(1);
            turn.wait(2);
            read(*data.at()); //~ race
        },
    );
}

pub fn race_two_flags() {
    let (data, flags) = (var(0), leak([AtomicU32::new(0), AtomicU32::new(0)]));
    in_turn(
        move || {
            *data.at() = 1; //~ race
            flags[0].store(1, Release);
        },
        move || {
            assert_eq!(flags[1].load(Acquire), 0);
            read(*data.at()); //~ race
        },
    );
}

pub fn race_neighbour_flags() {
    let (data, flags) = (var(0), leak([AtomicU8::new(0), AtomicU8::new(0)]));
    in_turn(
        move || {
            *data.at() = 1; //~ race
            flags[0].store(1, SeqCst);
        },
        move || {
            assert_eq!(flags[1].swap(1, SeqCst), 0);
            read(*data.at()); //~ race
        },
    );
}

/// Atomic accesses never race among themselves.
pub fn no_race_relaxed_only() {
    let counter = leak(AtomicU64::new(0));
    let add = move || {
        for _ in 0..100 {
            counter.fetch_add(1, Relaxed);
            counter.store(counter.load(Relaxed), Relaxed);
        }
    };
    both(add, add);
}

/// Both see each other's flag missing at most once: SeqCst orders values, not accesses.
pub fn no_race_store_buffering() {
    let (x, y) = (leak(AtomicU32::new(0)), leak(AtomicU32::new(0)));
    let data = var(0);
    both(
        move || {
            x.store(1, SeqCst);
            if y.load(SeqCst) == 0 {
                *data.at() += 1;
            }
        },
        move || {
            y.store(1, SeqCst);
            if x.load(SeqCst) == 0 {
                *data.at() += 1;
            }
        },
    );
}

pub fn no_race_store_buffering_fences() {
    let (x, y) = (leak(AtomicU32::new(0)), leak(AtomicU32::new(0)));
    let data = var(0);
    both(
        move || {
            x.store(1, Relaxed);
            fence(SeqCst);
            if y.load(Relaxed) == 0 {
                *data.at() += 1;
            }
        },
        move || {
            y.store(1, Relaxed);
            fence(SeqCst);
            if x.load(Relaxed) == 0 {
                *data.at() += 1;
            }
        },
    );
}

/// A lock that spins.
#[inline(always)]
fn spin(take: std::sync::atomic::Ordering, give: std::sync::atomic::Ordering) {
    let (data, lock) = (var(0), leak(AtomicBool::new(false)));
    let work = move || {
        for _ in 0..20 {
            while lock.compare_exchange(false, true, take, Relaxed).is_err() {
                yield_now();
            }
            *data.at() += 1; //~ race
            lock.store(false, give);
            yield_now();
        }
    };
    both(work, work);
}

pub fn no_race_spin_lock() {
    spin(Acquire, Release);
}

pub fn race_spin_lock_relaxed_unlock() {
    spin(Acquire, Relaxed);
}

pub fn race_spin_lock_relaxed_lock() {
    spin(Relaxed, Release);
}

pub fn no_race_ticket_lock() {
    let (next, serving) = (leak(AtomicU32::new(0)), leak(AtomicU32::new(0)));
    let data = var(0);
    let work = move || {
        for _ in 0..20 {
            let ticket = next.fetch_add(1, Relaxed);
            while serving.load(Acquire) != ticket {
                yield_now();
            }
            *data.at() += 1;
            serving.store(ticket + 1, Release);
        }
    };
    both(work, work);
}

pub fn no_race_peterson() {
    let wants = leak([AtomicBool::new(false), AtomicBool::new(false)]);
    let (turn, data) = (leak(AtomicUsize::new(0)), var(0));
    let work = move |me: usize| {
        for _ in 0..20 {
            wants[me].store(true, SeqCst);
            turn.store(1 - me, SeqCst);
            while wants[1 - me].load(SeqCst) && turn.load(SeqCst) == 1 - me {
                yield_now();
            }
            *data.at() += 1;
            wants[me].store(false, SeqCst);
        }
    };
    both(move || work(0), move || work(1));
}

/// The count of an `Arc`: who takes it to zero frees.
#[inline(always)]
fn count(down: std::sync::atomic::Ordering, last: Option<std::sync::atomic::Ordering>) {
    let (data, count) = (var(0), leak(AtomicUsize::new(2)));
    let turn = leak(Turn::new());
    let drop_one = move |n: u32| {
        turn.wait(n);
        read(*data.at()); //~ race
        if count.fetch_sub(1, down) == 1 {
            if let Some(order) = last {
                fence(order);
            }
            *data.at() = 2; //~ race
        }
        turn.set(n + 1);
    };
    both(move || drop_one(0), move || drop_one(1));
}

pub fn no_race_count_with_fence() {
    count(Release, Some(Acquire));
}

pub fn no_race_count_acq_rel() {
    count(AcqRel, None);
}

pub fn race_count_without_fence() {
    count(Release, None);
}

pub fn race_count_relaxed() {
    count(Relaxed, Some(Acquire));
}

/// A ring for one producer and one consumer.
#[inline(always)]
fn ring(publish: std::sync::atomic::Ordering, retire: std::sync::atomic::Ordering) {
    let cells = var([0usize; 4]);
    let (head, tail) = (leak(AtomicUsize::new(0)), leak(AtomicUsize::new(0)));
    both(
        move || {
            for i in 0..50 {
                while i - head.load(Acquire) == 4 {
                    yield_now();
                }
                cells.at()[i % 4] = i; //~ race
                tail.store(i + 1, publish);
            }
        },
        move || {
            for i in 0..50 {
                while tail.load(Acquire) == i {
                    yield_now();
                }
                read(cells.at()[i % 4]); //~ race
                head.store(i + 1, retire);
            }
        },
    );
}

pub fn no_race_ring() {
    ring(Release, Release);
}

pub fn race_ring_publish_relaxed() {
    ring(Relaxed, Release);
}

pub fn race_ring_retire_relaxed() {
    ring(Release, Relaxed);
}

/// A stack of nodes, pushed by one and taken by another.
#[inline(always)]
fn stack(push: std::sync::atomic::Ordering, take: std::sync::atomic::Ordering) {
    struct Node {
        value: u32,
        next: *mut Node,
    }
    let top = leak(AtomicPtr::<Node>::default());
    in_turn(
        move || {
            for value in 0..10 {
                let next = top.load(Relaxed);
                let node = Box::into_raw(Box::new(Node { value: 0, next })); //~ race
                // SAFETY: ours still.
                unsafe { (*here(node)).value = value }; //~ race
                assert!(
                    top.compare_exchange(top.load(Relaxed), node, push, Relaxed)
                        .is_ok()
                );
            }
        },
        move || {
            let mut node = top.swap(std::ptr::null_mut(), take);
            while !node.is_null() {
                // SAFETY: pushed before, by who does not touch it any more.
                read(unsafe { (*here(node)).value }); //~ race
                // SAFETY: as above.
                node = unsafe { (*here(node)).next }; //~ race
            }
        },
    );
}

pub fn no_race_stack_of_nodes() {
    stack(Release, Acquire);
}

pub fn race_stack_of_nodes_relaxed() {
    stack(Release, Relaxed);
}

pub fn race_plain_and_atomic() {
    let x = leak(AtomicU64::new(0));
    both(
        move || here(x).store(1, Relaxed), //~ race
        // SAFETY: alive for ever.
        move || unsafe { *here(x).as_ptr() = 2 }, //~ race
    );
}

pub fn race_atomic_read_plain_write() {
    let x = leak(AtomicU8::new(0));
    both(
        move || {
            read(here(x).load(SeqCst)); //~ race
        },
        // SAFETY: alive for ever.
        move || unsafe { *here(x).as_ptr() = 2 }, //~ race
    );
}

pub fn no_race_atomic_read_plain_read() {
    let x = leak(AtomicU64::new(0));
    both(
        move || {
            read(x.load(Relaxed));
        },
        move || {
            // SAFETY: alive for ever.
            read(unsafe { *x.as_ptr() });
        },
    );
}

pub fn race_byte_of_atomic() {
    let x = leak(AtomicU64::new(0));
    both(
        move || {
            here(x).fetch_add(1, SeqCst); //~ race
        },
        // SAFETY: alive for ever.
        move || unsafe { *here(x).as_ptr().cast::<u8>().add(5) = 2 }, //~ race
    );
}

pub fn no_race_init_before_publish() {
    let p = leak(AtomicPtr::<AtomicU32>::default());
    both(
        move || p.store(Box::leak(Box::new(AtomicU32::new(7))), Release),
        move || {
            while p.load(Acquire).is_null() {
                yield_now();
            }
            // SAFETY: alive for ever.
            read(unsafe { (*p.load(Acquire)).load(Relaxed) });
        },
    );
}
