//! Statics that are passed on by value, or behind a trait.

use std::any::Any;

use crate::support::*;

static TEXT: Racy<&str> = Racy::new("hi");

pub fn race_issue12664() {
    then(
        || *TEXT.at() = "bye", //~ race
        || {
            let text = *TEXT.at(); //~ race
            read(format!("{text}"));
        },
    );
}

trait MyI {
    fn value(&self) -> i64;
}

#[derive(Clone, Copy)]
struct MyT(i64);

impl MyI for MyT {
    fn value(&self) -> i64 {
        self.0
    }
}

static SECOND: Racy<MyT> = Racy::new(MyT(0));

#[inline(never)]
fn take(x: Box<dyn MyI>) {
    read(x.value());
}

pub fn race_issue12664_2() {
    beside(
        || SECOND.at().0 = 1,            //~ race
        || take(Box::new(*SECOND.at())), //~ race
    );
}

static THIRD: Racy<MyT> = Racy::new(MyT(0));

pub fn race_issue12664_3() {
    let i: Box<dyn Any> = read(Box::new(MyT(0)));
    beside(
        || THIRD.at().0 = 1,                                //~ race
        || *THIRD.at() = *i.downcast_ref::<MyT>().unwrap(), //~ race
    );
}

static FOURTH: Racy<MyT> = Racy::new(MyT(0));

pub fn race_issue12664_4() {
    let i: Box<dyn MyI> = read(Box::new(MyT(0)));
    beside(
        || FOURTH.at().0 = 1,             //~ race
        || *FOURTH.at() = MyT(i.value()), //~ race
    );
}
