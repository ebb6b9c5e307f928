//! A pool of objects. Raddle has no `Pool` yet: this is one that a program would make itself.

use raddle::sync::Mutex;

use crate::support::*;

struct Pool(Mutex<Vec<Sl<u8>>>);

impl Pool {
    fn new() -> &'static Pool {
        leak(Pool(Mutex::new(Vec::new())))
    }
    fn get(&self) -> Sl<u8> {
        self.0.lock().pop().unwrap_or_else(|| Sl::make(10, 10))
    }
    fn put(&self, x: Sl<u8>) {
        self.0.lock().push(x);
    }
}

pub fn race_pool() {
    for _ in 0..10 {
        let pool = Pool::new();
        let mut x = pool.get();
        x[0] = 1;
        pool.put(x);
        beside(
            move || pool.get()[0] = 2, //~ race
            || x[0] = 3,               //~ race
        );
    }
}

pub fn no_race_pool() {
    for _ in 0..10 {
        let pool = Pool::new();
        let mut x = pool.get();
        x[0] = 1;
        pool.put(x);
        let turn = leak(Turn::new());
        beside(
            move || {
                let mut y = pool.get();
                y[0] = 2;
                pool.put(y);
                turn.set(1);
            },
            || {
                turn.wait(1);
                pool.get()[0] = 3;
            },
        );
    }
}
