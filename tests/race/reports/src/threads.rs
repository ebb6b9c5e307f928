//! On threads of std.

use std::collections::HashMap;
use std::thread::{spawn, yield_now};

use crate::support::{Flag, Racy, leak};

/// `a` in a thread, then `b` here.
pub fn then(a: impl FnOnce() + Send + 'static, b: impl FnOnce()) {
    let flag = leak(Flag::default());
    let a = spawn(|| {
        a();
        flag.set();
    });
    while !flag.is_set() {
        yield_now();
    }
    b();
    a.join().expect("the thread does not panic");
}

/// A map that anyone may touch.
#[derive(Debug)]
pub struct Map(Racy<HashMap<&'static str, u32>>);

impl Map {
    pub fn new() -> Map {
        Map(Racy::new(HashMap::new()))
    }

    pub fn insert(&self, key: &'static str, value: u32) -> Option<u32> {
        self.0.at().insert(key, value)
    }

    pub fn get(&self, key: &'static str) -> Option<u32> {
        self.0.at().get(key).copied()
    }
}
