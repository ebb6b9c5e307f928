//! Destructors of collected values run on one goroutine, after all that was done with the value.

use std::time::{Duration, Instant};

use raddle::gc::{self, Gc};
use raddle::sync::Mutex;
use raddle::time::sleep;

use crate::support::*;

/// Calls its function when it is dropped, with its value.
struct Fin<F: FnMut(&mut String) + Send>(Racy<String>, F);

impl<F: FnMut(&mut String) + Send> Drop for Fin<F> {
    fn drop(&mut self) {
        (self.1)(self.0.at());
    }
}

/// Makes a value with a destructor, in a goroutine whose stack is gone afterwards, and collects until `done` is 1.
fn lose<F: FnMut(&mut String) + Send + Sync + 'static>(done: &'static Turn, value: &str, f: F) {
    let value = value.to_owned();
    go(move || {
        let x = Gc::new(Fin(Racy::new(String::new()), f));
        *x.0.at() = value;
        gc::keep_alive(&x);
    })
    .join()
    .unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while done.get() == 0 && Instant::now() < end {
        gc::collect();
        sleep(Duration::from_millis(1));
    }
    assert_eq!(done.get(), 1, "the destructor has run");
}

pub fn no_race_fin() {
    let done = leak(Turn::new());
    lose(done, "bar", |x| {
        *x = "foo".to_owned();
        done.set(1);
    });
}

static FIN_VAR: Mutex<i32> = Mutex::new(0);

pub fn no_race_fin_global() {
    let done = leak(Turn::new());
    lose(done, "", |_| {
        *FIN_VAR.lock() += 1;
        done.set(1);
    });
    *FIN_VAR.lock() += 1;
}

pub fn race_fin() {
    let y = var(0);
    let done = leak(Turn::new());
    lose(done, "", move |_| {
        *y.at() = 42; //~ race
        done.set(1);
    });
    *y.at() = 66; //~ race
}

pub fn no_race_cleanup() {
    let y = var(String::new());
    let done = leak(Turn::new());
    *y.at() = "bar".to_owned();
    lose(done, "", move |_| {
        *y.at() = "foo".to_owned();
        done.set(1);
    });
}

/// Go's cleanups are not ordered among themselves. Raddle's destructors are: they run one after the other.
pub fn no_race_between_cleanups() {
    let (y, done) = (var(0), leak(Turn::new()));
    let first = leak(Turn::new());
    lose(first, "", move |_| {
        *y.at() = 1;
        first.set(1);
    });
    lose(done, "", move |_| {
        *y.at() = 2;
        done.set(1);
    });
}
