//! Ten races, one of a kind: `race-reports NAME` runs one, `race-reports` alone lists them.
//!
//! `docs/reports.md` shows each program from here and its report. A program has exactly one race:
//! `then` runs its first closure in a goroutine, and its second one here, after the first. The
//! detector cannot know of that order. Each closure writes a number of its own, since the optimiser
//! makes one function of two that are equal.

#[cfg_attr(feature = "goroutines", path = "goroutines.rs")]
#[cfg_attr(not(feature = "goroutines"), path = "threads.rs")]
mod flavour;
mod support;

use std::sync::atomic::{AtomicU64, Ordering};

use flavour::{Map, then};
use support::{Racy, forever, leak, look};
use tally::Tally;

fn heap() {
    let total = leak(Racy::new(0));
    let first = || *total.at() = 1;
    let second = || *total.at() = 2;
    then(first, second);
}

fn stack() {
    let total = Racy::new(0);
    // SAFETY: `then` waits for both.
    let lent = unsafe { forever(&total) };
    let first = || *lent.at() = 3;
    let second = || *lent.at() = 4;
    then(first, second);
}

static HITS: Racy<u64> = Racy::new(0);

fn global() {
    let first = || *HITS.at() = 5;
    let second = || *HITS.at() = 6;
    then(first, second);
}

thread_local! {
    static SEEN: Racy<u64> = const { Racy::new(0) };
}

fn thread_local() {
    // SAFETY: `then` waits for both.
    let seen = SEEN.with(|seen| unsafe { forever(seen) });
    let first = || *seen.at() = 7;
    let second = || *seen.at() = 8;
    then(first, second);
}

fn atomic() {
    let ready = leak(AtomicU64::new(0));
    let first = || ready.store(1, Ordering::Release);
    // SAFETY: none; the read is the race.
    let second = || look(unsafe { *ready.as_ptr() });
    then(first, second);
}

fn free() {
    let job = leak(Racy::new(0));
    let first = || *job.at() = 9;
    // SAFETY: none; the free is the race.
    let second = || drop(unsafe { Box::from_raw(job.at()) });
    then(first, second);
}

#[cfg(feature = "goroutines")]
fn close() {
    let (to, _from) = raddle::chan::bounded(1);
    let also = to.clone();
    let first = move || look(also.send(1));
    let second = || look(to.close());
    then(first, second);
}

fn map() {
    let ages = leak(Map::new());
    let first = || look(ages.insert("Ann", 30));
    let second = || look(ages.get("Ann"));
    then(first, second);
}

fn through_std() {
    let list = leak(Racy::new(Vec::with_capacity(8)));
    let first = || list.at().push(1);
    let second = || look(list.at().len());
    then(first, second);
}

fn dependency() {
    let tally = leak(Tally::default());
    let first = || tally.add(1);
    let second = || tally.add(2);
    then(first, second);
}

const PROGRAMS: &[(&str, fn())] = &[
    ("heap", heap),
    ("stack", stack),
    ("global", global),
    ("thread_local", thread_local),
    ("atomic", atomic),
    ("free", free),
    #[cfg(feature = "goroutines")]
    ("close", close),
    ("map", map),
    ("through_std", through_std),
    ("dependency", dependency),
];

#[cfg_attr(feature = "goroutines", raddle::main)]
fn main() {
    let wanted = std::env::args().nth(1);
    match PROGRAMS
        .iter()
        .find(|(name, _)| wanted.as_deref() == Some(name))
    {
        Some((_, program)) => program(),
        None => PROGRAMS.iter().for_each(|(name, _)| println!("{name}")),
    }
}
