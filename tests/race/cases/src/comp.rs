//! Composite values: their parts are variables of their own, the whole is all of them.

use crate::support::*;

#[derive(Clone, Copy, Debug, Default)]
struct P {
    x: i64,
    y: i64,
}

#[derive(Clone, Copy, Debug, Default)]
struct S {
    s1: P,
    s2: P,
}

/// The same in memory.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
struct P2(P);

#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
struct S2(S);

#[derive(Clone, Copy, Debug)]
struct X {
    v: [P; 4],
}

#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
struct X2(X);

struct TwoPtr {
    s1: &'static Racy<P>,
    s2: &'static Racy<P>,
}

fn two() -> &'static Racy<TwoPtr> {
    var(TwoPtr {
        s1: var(P::default()),
        s2: var(P::default()),
    })
}

pub fn no_race_comp() {
    let s = var(S::default());
    beside(
        move || {
            s.at().s2.x = 1;
        },
        || {
            s.at().s2.y = 2;
        },
    );
}

pub fn no_race_comp2() {
    let s = var(S::default());
    beside(
        move || {
            s.at().s1.x = 1;
        },
        || {
            s.at().s1.y = 2;
        },
    );
}

pub fn race_comp() {
    let s = var(S::default());
    beside(
        move || {
            s.at().s2.y = 1; //~ race
        },
        || {
            s.at().s2.y = 2; //~ race
        },
    );
}

pub fn race_comp2() {
    let s = var(S::default());
    beside(
        move || {
            s.at().s1.x = 1; //~ race
        },
        || {
            *s.at() = S::default(); //~ race
        },
    );
}

pub fn race_comp3() {
    let s = var(S::default());
    beside(
        move || {
            s.at().s2.y = 1; //~ race
        },
        || {
            *s.at() = S::default(); //~ race
        },
    );
}

pub fn race_comp_array() {
    let s = var([S::default(); 10]);
    let x = var(4);
    beside(
        move || {
            s.at()[*x.at()].s2.y = 1; //~ race
        },
        || {
            *x.at() = 5; //~ race
        },
    );
}

pub fn race_conv1() {
    let p = var(P2(P::default()));
    beside(
        move || {
            p.at().0.x = 1; //~ race
        },
        || {
            let p: P = p.at().0; //~ race
            read(p.x + p.y);
        },
    );
}

pub fn race_conv2() {
    let p = var(P2(P::default()));
    let ptr = Ptr(p.ptr());
    beside(
        move || {
            p.at().0.x = 1; //~ race
        },
        || {
            // SAFETY: alive for ever, and the same in memory.
            let p: P = unsafe { *ptr.get().cast() }; //~ race
            read(p.x);
        },
    );
}

pub fn race_conv3() {
    let s = var(S2(S::default()));
    beside(
        move || {
            s.at().0.s1.x = 1; //~ race
        },
        || {
            let p = P2(s.at().0.s1); //~ race
            read(p.0.x);
        },
    );
}

pub fn race_conv4() {
    let x = var(X2(X {
        v: [P::default(); 4],
    }));
    beside(
        move || {
            x.at().0.v[1].x = 1; //~ race
        },
        || {
            let p = P2(x.at().0.v[1]); //~ race
            read(p.0.x);
        },
    );
}

pub fn no_race_comp_ptr() {
    let p = two();
    beside(
        move || {
            p.at().s1.at().x = 1;
        },
        || {
            p.at().s1.at().y = 2;
        },
    );
}

pub fn no_race_comp_ptr2() {
    let p = two();
    beside(
        move || {
            p.at().s1.at().x = 1;
        },
        || {
            read((p.at().s1, p.at().s2));
        },
    );
}

pub fn race_comp_ptr() {
    let p = two();
    beside(
        move || {
            p.at().s2.at().x = 1; //~ race
        },
        || {
            p.at().s2.at().x = 2; //~ race
        },
    );
}

pub fn race_comp_ptr2() {
    let p = two();
    let other = var(P::default());
    beside(
        move || {
            p.at().s2.at().x = 1; //~ race
        },
        || {
            p.at().s2 = other; //~ race
        },
    );
}
