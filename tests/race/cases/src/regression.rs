//! What once went wrong in Go's detector.

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::support::*;

pub fn race_unaddressable_map_len() {
    let m = var(HashMap::from([(0, HashMap::from([(7, 7)]))]));
    then(
        move || {
            read(m.at()[&0].len()); //~ race
        },
        || {
            m.at().get_mut(&0).unwrap().insert(0, 1); //~ race
        },
    );
}

pub fn no_race_stack_push_pop() {
    let mut stack: Vec<i32> = Vec::new();
    let p = Ptr(&raw mut stack);
    let g = go(move || {
        read(p.get());
    });
    stack.push(1);
    assert_eq!(stack.pop(), Some(1));
    g.join().unwrap();
}

pub fn no_race_rpc_chan() {
    static CALLS: OnceLock<Racy<i32>> = OnceLock::new();
    let calls = CALLS.get_or_init(|| Racy::new(0));
    let make = || {
        *calls.at() += 1;
        let c = chan(1);
        c.send(true);
        c
    };
    assert_eq!(make().recv(), Some(true));
    assert_eq!(*calls.at(), 1);
}

pub fn no_race_return() {
    fn pair(c: &'static Chan<i32>) -> (i32, i32) {
        let a = var(0);
        *a.at() = 42;
        go(move || {
            read(*a.at());
            c.send(1);
        });
        (*a.at(), 10)
    }
    let c = chan(0);
    assert_eq!(pair(c), (42, 10));
    c.recv();
}

pub fn no_race_for_infinite_loop() {
    trait Iface {
        fn foo(&self) -> Box<bool>;
    }
    struct Int;
    impl Iface for Int {
        #[inline(never)]
        fn foo(&self) -> Box<bool> {
            Box::new(false)
        }
    }
    let x: Box<dyn Iface> = Box::new(Int);
    while *x.foo() {
        read(());
    }
}

/// `NewLog`, which Go's file checks at start.
pub fn race_named_result() {
    let l = var((0, 0));
    let c = chan(0);
    beside(
        move || {
            read(*l.at()); //~ race
            c.send(true);
        },
        || {
            *l.at() = (1, 1); //~ race
            c.recv();
        },
    );
}
