//! Memory operations: every way to read and write that a program has.

use std::any::Any;
use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

use raddle::chan::select;
use raddle::sync::{Mutex, WaitGroup};

use crate::support::*;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Point {
    x: i64,
    y: i64,
}

#[derive(Clone, Copy, Debug)]
struct NamedPoint {
    name: &'static str,
    p: Point,
}

static GLOBAL_X: Racy<i64> = Racy::new(0);
static GLOBAL_Y: Racy<i64> = Racy::new(0);

fn global_func1() {
    *GLOBAL_Y.at() = *GLOBAL_X.at(); //~ race globals
}

fn global_func2() {
    *GLOBAL_X.at() = 1; //~ race globals
}

pub fn race_int_rw_global_funcs() {
    both(global_func1, global_func2);
}

pub fn race_int_rw_closures() {
    let (x, y) = (var(0i64), var(0i64));
    both(
        move || *y.at() = *x.at(), //~ race
        move || *x.at() = 1,       //~ race
    );
}

pub fn no_race_int_rw_closures() {
    let (x, y) = (var(0i64), var(0i64));
    let ch = chan(1);
    let a = go(move || {
        *y.at() = *x.at();
        ch.send(1);
    });
    ch.recv();
    let b = go(move || {
        *x.at() = 1;
        ch.send(1);
    });
    ch.recv();
    a.join().unwrap();
    b.join().unwrap();
}

pub fn race_int32_rw_closures() {
    let (x, y) = (var(0i32), var(0i32));
    both(
        move || *y.at() = *x.at(), //~ race
        move || *x.at() = 1,       //~ race
    );
}

pub fn no_race_case() {
    let y = var(0);
    for x in -1..=1 {
        match x {
            x if x < 0 => *y.at() = -1,
            0 => *y.at() = 0,
            _ => *y.at() = 1,
        }
    }
    *y.at() += 1;
}

pub fn race_case_condition() {
    let x = var(0);
    both(
        move || *x.at() = 2, //~ race
        move || {
            match *x.at() < 2 {
                //~ race
                true => *x.at() = 1, //~ race
                false => {}
            }
        },
    );
}

pub fn race_case_condition2() {
    let x = var(0);
    both(
        move || *x.at() = 2, //~ race
        move || {
            let below = *x.at() < 2; //~ race
            match below {
                true => store(x, 1),  //~ race
                false => *x.at() = 5, //~ race
            }
        },
    );
}

pub fn race_case_body() {
    let (x, y) = (var(0), var(0));
    both(
        move || *y.at() = *x.at(), //~ race
        move || {
            let hundred = *x.at() == 100; //~ race
            match hundred {
                true => store(x, -100), //~ race
                false => *x.at() = 1,   //~ race
            }
        },
    );
}

pub fn no_race_case_fallthrough() {
    let (x, y, z) = (var(0), var(0), var(1));
    both(
        move || *y.at() = *x.at(),
        move || match *z.at() {
            1 => {}
            2 => *x.at() = 2,
            _ => {}
        },
    );
}

pub fn race_case_fallthrough() {
    let (x, y, z) = (var(0), var(0), var(1));
    both(
        move || *y.at() = *x.at(), //~ race
        move || match *z.at() {
            1 | 2 => *x.at() = 2, //~ race
            _ => {}
        },
    );
}

pub fn race_case_issue6418() {
    use std::collections::HashMap;
    let m = var(HashMap::from([("a", HashMap::from([("b", "c")]))]));
    then(
        move || {
            m.at().get_mut("a").unwrap().insert("x", "y"); //~ race
        },
        move || match m.at()["a"]["b"] {
            //~ race
            "c" => {}
            _ => {}
        },
    );
}

/// A value of a type that is not known here: Go's empty interface.
type Eface = Option<&'static (dyn Any + Send + Sync)>;

static ONE: i64 = 1;
static TWO: i64 = 2;

pub fn race_case_type() {
    let i: &Racy<Eface> = var(Some(&ONE));
    then(
        move || {
            let is_int = i.at().map(|v| v.is::<i64>()); //~ race
            read(is_int);
        },
        move || *i.at() = Some(&TWO), //~ race
    );
}

pub fn race_case_type_body() {
    let (x, y) = (var(0i64), var(0i64));
    let i: &'static (dyn Any + Send + Sync) = leak(x);
    beside(
        move || {
            if let Some(p) = i.downcast_ref::<&Racy<i64>>() {
                *p.at() = *y.at(); //~ race
            }
        },
        move || *x.at() = *y.at(), //~ race
    );
}

pub fn race_case_type_issue5890() {
    use std::collections::HashMap;
    let m: &Racy<HashMap<i32, HashMap<i32, Eface>>> = var(HashMap::from([(0, HashMap::new())]));
    then(
        move || {
            let found = m.at()[&0].get(&1).copied().flatten(); //~ race
            read(found.is_some_and(|v| v.is::<i64>()));
        },
        move || {
            m.at().get_mut(&0).unwrap().insert(1, Some(&ONE)); //~ race
        },
    );
}

pub fn no_race_range() {
    let ch = chan(3);
    for v in [1, 2, 3] {
        ch.send(v);
    }
    ch.close();
}

pub fn no_race_range_issue5446() {
    let ch = chan(3);
    let a = var([1, 2, 3]);
    for (i, v) in [4].into_iter().enumerate() {
        a.at()[i] = v;
        ch.send(i);
    }
    ch.close();
}

pub fn race_range() {
    let (v, x, y) = (var(0), var(0), var(0));
    let all: Vec<_> = [1, 2]
        .into_iter()
        .enumerate()
        .map(|(i, value)| {
            *v.at() = value; //~ race
            let g = go(move || {
                let to = if i == 0 { x } else { y };
                *to.at() = *v.at(); //~ race
            });
            yield_now();
            g
        })
        .collect();
    all.into_iter().for_each(|g| g.join().unwrap());
}

pub fn race_for_init() {
    let x = var(0);
    let c = chan(0);
    beside(
        move || {
            c.send(*x.at()); //~ race
        },
        || {
            *x.at() = 42; //~ race
            c.recv();
        },
    );
}

pub fn no_race_for_init() {
    let x = var(0);
    let c = chan(0);
    beside(
        move || {
            while c.recv().is_some() {
                *x.at() += 1;
            }
        },
        || {
            *x.at() = 42;
            for _ in 0..10 {
                c.send(true);
            }
            c.close();
        },
    );
}

pub fn race_for_test() {
    let stop = var(false);
    let c = chan(0);
    beside(
        move || {
            while c.recv().is_some() {
                *stop.at() = true; //~ race
            }
        },
        || {
            let mut turns = 0;
            while !*stop.at() {
                //~ race
                c.send(true);
                turns += 1;
                if turns > 1000 {
                    break; // an optimiser may have read it once
                }
            }
            c.close();
        },
    );
}

pub fn race_for_incr() {
    let x = var(0);
    let c = chan(0);
    beside(
        move || {
            while c.recv().is_some() {
                *x.at() += 1; //~ race
            }
        },
        || {
            for _ in 0..10 {
                c.send(true);
                *x.at() += 1; //~ race
            }
            c.close();
        },
    );
}

pub fn no_race_for_incr() {
    let x = var(0);
    beside(
        move || *x.at() += 1,
        || {
            for _ in 0..read(0) {
                *x.at() += 1;
            }
        },
    );
}

pub fn race_plus() {
    let (x, y, z) = (var(0), var(0), var(0));
    both(
        move || *y.at() = *x.at() + *z.at(),           //~ race
        move || *y.at() = *x.at() + *z.at() + *z.at(), //~ race
    );
}

pub fn race_plus2() {
    let (x, y, z) = (var(0), var(0), var(0));
    both(
        move || *x.at() = 1,                 //~ race
        move || *y.at() = *x.at() + *z.at(), //~ race
    );
}

pub fn no_race_plus() {
    let (x, y, z, f) = (var(0), var(0), var(0), var(0));
    both(
        move || *y.at() = *x.at() + *z.at(),
        move || *f.at() = *z.at() + *x.at(),
    );
}

pub fn race_complement() {
    let (x, y, z) = (var(0), var(0), var(0));
    both(
        move || *x.at() = !*y.at(), //~ race
        move || *y.at() = !*z.at(), //~ race
    );
}

pub fn race_div() {
    let (x, y, z) = (var(0), var(0), var(0));
    both(
        move || *x.at() = *y.at() / (*z.at() + 1), //~ race
        move || *y.at() = *z.at(),                 //~ race
    );
}

pub fn race_div_const() {
    let (x, y, z) = (var(0u32), var(0u32), var(0u32));
    both(
        move || *x.at() = *y.at() / 3, //~ race
        move || *y.at() = *z.at(),     //~ race
    );
}

pub fn race_mod() {
    let (x, y, z) = (var(0), var(0), var(0));
    both(
        move || *x.at() = *y.at() % (*z.at() + 1), //~ race
        move || *y.at() = *z.at(),                 //~ race
    );
}

pub fn race_mod_const() {
    let (x, y, z) = (var(0), var(0), var(0));
    both(
        move || *x.at() = *y.at() % 3, //~ race
        move || *y.at() = *z.at(),     //~ race
    );
}

pub fn race_rotate() {
    let (x, y, z) = (var(0u32), var(0u32), var(0u32));
    both(
        move || *x.at() = y.at().rotate_left(12), //~ race
        move || *y.at() = *z.at(),                //~ race
    );
}

pub fn no_race_enough_registers() {
    let s = var(std::f64::consts::PI);
    let v = *s.at();
    let terms = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
    *s.at() = terms.iter().rev().fold(1.0, |sum, t| t + v * sum);
    read(*s.at());
}

#[inline(never)]
fn empty_func(x: i64) {
    read(x);
}

pub fn race_func_argument() {
    let x = var(0);
    beside(
        move || empty_func(*x.at()), //~ race
        || *x.at() = 1,              //~ race
    );
}

pub fn race_func_argument2() {
    let x = var(0);
    let writer = go(move || *x.at() = 42); //~ race
    let y = *x.at(); //~ race
    let taker = go(move || empty_func(y));
    writer.join().unwrap();
    taker.join().unwrap();
}

pub fn race_sprint() {
    let x = var(0);
    beside(
        move || {
            read(format!("{}", *x.at())); //~ race
        },
        || *x.at() = 1, //~ race
    );
}

pub fn race_array_copy() {
    let a = var([0i64; 5]);
    beside(
        move || a.at()[3] = 1,              //~ race
        || *a.at() = read([1, 2, 3, 4, 5]), //~ race
    );
}

pub fn race_nested_array_copy() {
    type Grid = [[[[[Point; 2]; 2]; 2]; 2]; 2];
    type Big = [[[[[Grid; 2]; 2]; 2]; 2]; 2];
    let (a, b) = (var(Big::default()), var(Big::default()));
    beside(
        move || a.at()[0][1][0][1][0][1][0][1][0][1].y = 1, //~ race
        || *a.at() = *b.at(),                               //~ race
    );
}

pub fn race_struct_rw() {
    let p = var(Point::default());
    beside(
        move || *p.at() = Point { x: 1, y: 1 }, //~ race
        || {
            read(*p.at()); //~ race
        },
    );
    *p.at() = Point::default();
}

pub fn race_struct_field_rw1() {
    let p = var(Point::default());
    beside(
        move || p.at().x = 1, //~ race
        || {
            read(p.at().x); //~ race
        },
    );
}

pub fn no_race_struct_field_rw1() {
    let p = var(Point::default());
    beside(move || p.at().x = 1, || p.at().y = 1);
    read(*p.at());
}

pub fn no_race_struct_field_rw2() {
    let p: &Racy<&'static Racy<Point>> = var(var(Point::default()));
    beside(move || p.at().at().x = 1, || p.at().at().y = 1);
    read(*p.at().at());
}

pub fn race_struct_field_rw2() {
    let p: &Racy<&'static Racy<Point>> = var(var(Point::default()));
    beside(
        move || p.at().at().x = 1, //~ race
        || {
            read(p.at().at().x); //~ race
        },
    );
}

pub fn race_struct_field_rw3() {
    let p = var(NamedPoint {
        name: "a",
        p: Point::default(),
    });
    beside(
        move || p.at().p.x = 1, //~ race
        || {
            read(p.at().p.x); //~ race
        },
    );
    read(p.at().name);
}

pub fn race_eface_ww() {
    let a: &Racy<Eface> = var(None);
    beside(
        move || *a.at() = Some(&ONE), //~ race
        || *a.at() = Some(&TWO),      //~ race
    );
    read(*a.at());
}

trait Writer: Sync {
    fn state(&self) -> i64;
}

struct DummyWriter(i64);

impl Writer for DummyWriter {
    fn state(&self) -> i64 {
        self.0
    }
}

static WRITER1: DummyWriter = DummyWriter(1);
static WRITER2: DummyWriter = DummyWriter(2);

pub fn race_iface_ww() {
    let a: &Racy<&'static dyn Writer> = var(&WRITER2);
    beside(
        move || *a.at() = &WRITER1, //~ race
        || *a.at() = &WRITER2,      //~ race
    );
    read(a.at().state());
}

pub fn race_iface_cmp() {
    let (a, b): (&Racy<&'static dyn Writer>, &Racy<&'static dyn Writer>) =
        (var(&WRITER1), var(&WRITER2));
    then(
        move || *a.at() = &WRITER1, //~ race
        || {
            read(a.at().state() == b.at().state()); //~ race
        },
    );
}

pub fn race_iface_cmp_nil() {
    let a: &Racy<Option<&'static dyn Writer>> = var(Some(&WRITER1));
    beside(
        move || *a.at() = Some(&WRITER1), //~ race
        || {
            read(a.at().is_none()); //~ race
        },
    );
}

pub fn race_eface_conv() {
    let v = var(0i64);
    beside(
        move || {
            let x: Box<dyn Any + Send> = Box::new(*v.at()); //~ race
            go(move || read(x.is::<i64>())).join().unwrap();
        },
        || *v.at() = 42, //~ race
    );
}

pub fn race_iface_conv() {
    let f: &Racy<&'static DummyWriter> = var(&WRITER1);
    beside(
        move || {
            let x: &'static dyn Writer = *f.at(); //~ race
            go(move || read(x.state())).join().unwrap();
        },
        || *f.at() = &WRITER2, //~ race
    );
}

pub fn race_error() {
    let err: &Racy<Option<&'static (dyn std::error::Error + Sync)>> = var(None);
    beside(
        move || *err.at() = None, //~ race
        || {
            read(err.at().is_some()); //~ race
        },
    );
}

pub fn race_intptr_rw() {
    let x = var(0);
    let p = Ptr(x.ptr());
    beside(
        // SAFETY: alive for ever.
        move || unsafe { *p.get() = 5 }, //~ race
        || {
            // SAFETY: as above.
            let y = unsafe { *p.get() }; //~ race
            *x.at() = y; //~ race
        },
    );
}

pub fn race_string_rw() {
    let s = var("");
    beside(
        move || *s.at() = "abacaba", //~ race
        || {
            read(*s.at()); //~ race
        },
    );
}

pub fn race_string_ptr_rw() {
    let p = Ptr(var("").ptr());
    beside(
        // SAFETY: alive for ever.
        move || unsafe { *p.get() = "a" }, //~ race
        || {
            // SAFETY: as above.
            read(unsafe { *p.get() }); //~ race
        },
    );
}

pub fn race_float64_ww() {
    let x = var(0.0);
    beside(
        move || *x.at() = 1.0, //~ race
        || *x.at() = 2.0,      //~ race
    );
    *x.at() = -*x.at();
}

pub fn race_complex128_ww() {
    let x = var((0.0, 0.0));
    beside(
        move || *x.at() = (2.0, 2.0), //~ race
        || *x.at() = (4.0, 4.0),      //~ race
    );
    read(*x.at());
}

pub fn race_unsafe_ptr_rw() {
    let (x, z) = (var(1), var(3));
    let p = var(Ptr(x.ptr()));
    beside(
        move || *p.at() = Ptr(z.ptr()), //~ race
        || {
            let at = *p.at(); //~ race
            // SAFETY: both live for ever.
            *x.at() = unsafe { *at.get() };
        },
    );
}

pub fn race_func_variable_rw() {
    let f: &Racy<fn(i64) -> i64> = var(|x| x * x);
    beside(
        move || *f.at() = |x| x, //~ race
        || {
            read(f.at()(1)); //~ race
        },
    );
}

pub fn race_func_variable_ww() {
    let f: &Racy<fn(i64) -> i64> = var(|x| x + 1);
    beside(
        move || *f.at() = |x| x, //~ race
        || *f.at() = |x| x * x,  //~ race
    );
    read(f.at()(1));
}

pub fn race_panic() {
    let x = var(0);
    let zero = var(0);
    both(
        move || {
            let caught = catch_unwind(AssertUnwindSafe(|| *zero.at() = 1 / read(*zero.at())));
            assert!(caught.is_err());
            *x.at() = 1; //~ race
        },
        move || {
            let caught = catch_unwind(AssertUnwindSafe(|| *zero.at() = 1 / read(*zero.at())));
            assert!(caught.is_err());
            *x.at() = 2; //~ race
        },
    );
    assert_eq!(*zero.at(), 0);
}

pub fn no_race_blank() {
    let a = var([0; 5]);
    beside(
        move || {
            let (_, _) = (a.at()[0], a.at()[1]);
        },
        || {
            let (_, _) = (a.at()[2], a.at()[3]);
        },
    );
    a.at()[1] = a.at()[0];
}

pub fn race_append_rw() {
    let a = var(Sl::make(10, 10));
    beside(
        move || {
            read(a.at().append(&[1])); //~ race
        },
        || a.at()[0] = 1, //~ race
    );
}

pub fn race_append_len_rw() {
    let a: &Racy<Sl<i64>> = var(Sl::make(0, 0));
    beside(
        move || *a.at() = a.at().append(&[1]), //~ race
        || {
            read(a.at().len()); //~ race
        },
    );
}

pub fn race_append_cap_rw() {
    let a: &Racy<Sl<i64>> = var(Sl::make(0, 0));
    beside(
        move || *a.at() = a.at().append(&[1]), //~ race
        || {
            read(a.at().cap()); //~ race
        },
    );
}

pub fn no_race_func_args_rw() {
    let x = var(0u8);
    let y = *x.at();
    beside(
        move || {
            read(y);
        },
        || *x.at() = 1,
    );
}

pub fn race_func_args_rw() {
    let x = var(0u8);
    let y = Ptr(x.ptr());
    beside(
        move || {
            // SAFETY: alive for ever.
            read(unsafe { *y.get() }); //~ race
        },
        || *x.at() = 1, //~ race
    );
}

pub fn race_crawl() {
    fn crawl(
        seen: raddle::shared::Map<&'static str, bool>,
        wg: &'static WaitGroup,
        u: &'static str,
        depth: u32,
    ) {
        let found = catch_unwind(AssertUnwindSafe(|| {
            seen.insert(u, true); //~ race crawl
            if depth == 0 {
                return;
            }
            for url in ["a", "b", "c"] {
                if !seen.contains_key(url) {
                    //~ race crawl
                    wg.add(1);
                    let seen = seen.clone();
                    go(move || crawl(seen, wg, url, depth - 1));
                }
            }
        }));
        let _ = found; // "concurrent map writes" is another way to say so
        wg.done();
    }
    let wg = leak(WaitGroup::new());
    wg.add(1);
    let seen = raddle::shared::Map::new();
    go(move || crawl(seen, wg, "dummyurl", 3));
    wg.wait();
}

pub fn race_indirection() {
    let y = var(0);
    let x = Ptr(y.ptr());
    beside(
        // SAFETY: alive for ever.
        move || unsafe { *x.get() = 1 }, //~ race
        // SAFETY: as above.
        || unsafe { *x.get() = 2 }, //~ race
    );
    read(*y.at());
}

pub fn race_rune() {
    let x = var('\0');
    beside(
        move || *x.at() = '\u{1}', //~ race
        || {
            read(*x.at()); //~ race
        },
    );
}

pub fn race_empty_interface1() {
    let x: &Racy<Eface> = var(None);
    beside(
        move || *x.at() = None, //~ race
        || {
            read(*x.at()); //~ race
        },
    );
}

pub fn race_empty_interface2() {
    static POINT: Point = Point { x: 0, y: 0 };
    let x: &Racy<Eface> = var(None);
    beside(
        move || *x.at() = Some(&POINT), //~ race
        || {
            read(*x.at()); //~ race
        },
    );
}

pub fn race_tls() {
    let comm = chan::<Ptr<i64>>(0);
    both(
        move || {
            let mut x = 0;
            let p = Ptr(&raw mut x);
            comm.send(p);
            // SAFETY: `x` is alive.
            unsafe { *p.get() = 1 }; //~ race
            let back = comm.recv().unwrap();
            // SAFETY: as above.
            read(unsafe { *back.get() });
        },
        move || {
            let p = comm.recv().unwrap();
            // SAFETY: the other one waits for `p` to come back.
            unsafe { *p.get() = 2 }; //~ race
            comm.send(p);
        },
    );
}

pub fn no_race_heap_reallocation() {
    let all: Vec<_> = (0..2)
        .map(|ms| {
            go(move || {
                raddle::time::sleep(std::time::Duration::from_millis(ms));
                raddle::gc::collect();
                read(Box::new(0));
            })
        })
        .collect();
    all.into_iter().for_each(|g| g.join().unwrap());
}

pub fn race_and() {
    let (x, y) = (var(0), var(0));
    beside(
        move || *x.at() = 1, //~ race
        || {
            if *x.at() == 1 && *y.at() == 1 {
                //~ race
                read(());
            }
        },
    );
}

pub fn race_and2() {
    let (x, y) = (var(0), var(0));
    beside(
        move || *x.at() = 1, //~ race
        || {
            let hit = read(*y.at()) == 0 && read(*x.at()) == 1; //~ race
            read(hit);
        },
    );
}

pub fn no_race_and() {
    let (x, y) = (var(0), var(0));
    beside(
        move || *x.at() = 1,
        || {
            let hit = read(*y.at()) == 1 && read(*x.at()) == 1;
            read(hit);
        },
    );
}

pub fn race_or() {
    let (x, y) = (var(0), var(0));
    beside(
        move || *x.at() = 1, //~ race
        || {
            let hit = read(*x.at()) == 1 || read(*y.at()) == 1; //~ race
            read(hit);
        },
    );
}

pub fn race_or2() {
    let (x, y) = (var(0), var(0));
    beside(
        move || *x.at() = 1, //~ race
        || {
            let hit = read(*y.at()) == 1 || read(*x.at()) == 1; //~ race
            read(hit);
        },
    );
}

pub fn no_race_or() {
    let (x, y) = (var(0), var(0));
    beside(
        move || *x.at() = 1,
        || {
            let hit = read(*y.at()) == 0 || read(*x.at()) == 1;
            read(hit);
        },
    );
}

pub fn no_race_short_calc() {
    let (x, y) = (var(0), var(0));
    beside(
        move || *y.at() = 1,
        || {
            let hit = read(*x.at()) == 0 || read(*y.at()) == 0;
            read(hit);
        },
    );
}

pub fn no_race_short_calc2() {
    let (x, y) = (var(0), var(0));
    beside(
        move || *y.at() = 1,
        || {
            let hit = read(*x.at()) == 1 && read(*y.at()) == 0;
            read(hit);
        },
    );
}

pub fn race_func_itself() {
    let f: &Racy<fn()> = var(|| {});
    beside(
        move || f.at()(),   //~ race
        || *f.at() = || (), //~ race
    );
}

pub fn no_race_func_unlock() {
    let mu = leak(Mutex::new(()));
    let x = var(0);
    beside(
        move || {
            let _held = mu.lock();
            *x.at() = 42;
        },
        || {
            let locked = || (43, mu.lock());
            let (value, held) = locked();
            *x.at() = value;
            drop(held);
        },
    );
}

pub fn race_struct_init() {
    let y = var(0);
    beside(
        move || *y.at() = 42, //~ race
        || {
            read(Point { x: *y.at(), y: 0 }); //~ race
        },
    );
}

pub fn race_array_init() {
    let y = var(0);
    beside(
        move || *y.at() = 42, //~ race
        || {
            read(vec![0, *y.at(), 42]); //~ race
        },
    );
}

pub fn race_map_init() {
    let y = var(0);
    beside(
        move || *y.at() = 42, //~ race
        || {
            read(std::collections::HashMap::from([(0, 42), (*y.at(), 42)])); //~ race
        },
    );
}

pub fn race_map_init2() {
    let y = var(0);
    beside(
        move || *y.at() = 42, //~ race
        || {
            read(std::collections::HashMap::from([(0, 42), (42, *y.at())])); //~ race
        },
    );
}

trait Inter: Sync {
    fn foo(&self, x: i64);
}

#[derive(Clone, Copy, Default)]
struct InterImpl {
    x: i64,
    y: i64,
}

impl Inter for InterImpl {
    #[inline(never)]
    fn foo(&self, x: i64) {
        read(x);
    }
}

impl InterImpl {
    #[inline(never)]
    fn by_value(self, x: i64) {
        read((self.x, self.y, x));
    }
}

static INTER: InterImpl = InterImpl { x: 0, y: 0 };
static INTER2: InterImpl = InterImpl { x: 1, y: 1 };

pub fn race_inter_call() {
    let x: &Racy<&'static dyn Inter> = var(&INTER);
    then(
        move || *x.at() = &INTER2, //~ race
        || x.at().foo(0),          //~ race
    );
}

pub fn race_inter_call2() {
    let x: &Racy<&'static dyn Inter> = var(&INTER);
    let z = var(0);
    beside(
        move || *z.at() = 42,   //~ race
        || x.at().foo(*z.at()), //~ race
    );
}

pub fn race_func_call() {
    let f = |x: i64, y: i64| {
        read((x, y));
    };
    let (x, y) = (var(0), var(0));
    beside(
        move || *y.at() = 42,   //~ race
        || f(*x.at(), *y.at()), //~ race
    );
}

pub fn race_method_call() {
    let x = var(0);
    beside(
        move || *x.at() = 42,  //~ race
        || INTER.foo(*x.at()), //~ race
    );
}

pub fn race_method_call2() {
    let i: &Racy<&'static InterImpl> = var(&INTER);
    beside(
        move || *i.at() = &INTER2, //~ race
        || i.at().foo(0),          //~ race
    );
}

pub fn race_method_value() {
    let i = var(InterImpl::default());
    beside(
        move || *i.at() = read(InterImpl::default()), //~ race
        || {
            let receiver = *i.at(); //~ race
            let _ = read(move |x| receiver.by_value(x));
        },
    );
}

pub fn race_method_value2() {
    let i: &Racy<&'static dyn Inter> = var(&INTER);
    then(
        move || *i.at() = &INTER2, //~ race
        || {
            let receiver = *i.at(); //~ race
            let _ = read(move |x| receiver.foo(x));
        },
    );
}

pub fn race_method_value3() {
    let i: &Racy<&'static Racy<InterImpl>> = var(var(InterImpl::default()));
    beside(
        move || *i.at().at() = read(InterImpl::default()), //~ race
        || {
            let receiver = *i.at().at(); //~ race
            let _ = read(move |x| receiver.by_value(x));
        },
    );
}

pub fn no_race_method_value() {
    let i = var(InterImpl::default());
    beside(
        move || *i.at() = read(InterImpl::default()),
        || {
            let receiver = i.at();
            let _ = read(move |x| receiver.foo(x));
        },
    );
}

pub fn race_panic_arg() {
    let err = var("err");
    beside(
        move || *err.at() = "err2", //~ race
        || {
            let caught = catch_unwind(AssertUnwindSafe(|| std::panic::panic_any(*err.at()))); //~ race
            assert!(caught.is_err());
        },
    );
}

/// Calls its function at the end of the scope: Go's defer.
struct Defer<F: FnMut()>(F);

impl<F: FnMut()> Drop for Defer<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

pub fn race_defer_arg() {
    let x = var(0);
    beside(
        move || *x.at() = 42, //~ race
        || {
            let argument = *x.at(); //~ race
            let _at_end = Defer(move || {
                read(argument);
            });
        },
    );
}

pub fn race_defer_arg2() {
    let x = var(InterImpl::default());
    beside(
        move || *x.at() = read(InterImpl::default()), //~ race
        || {
            let receiver = *x.at(); //~ race
            let _at_end = Defer(move || receiver.by_value(0));
        },
    );
}

pub fn no_race_addr_expr() {
    let x = var(0);
    beside(
        move || *x.at() = 42,
        || {
            read(x.ptr());
        },
    );
}

struct AddrT {
    _before: [u8; 256],
    x: i64,
}

struct AddrT2 {
    _before: [u8; 512],
    p: &'static AddrT,
}

pub fn race_addr_expr() {
    let new = |x| {
        leak(AddrT {
            _before: [0; 256],
            x,
        })
    };
    let a = var(AddrT2 {
        _before: [0; 512],
        p: new(42),
    });
    beside(
        move || a.at().p = new(43), //~ race
        || {
            read(&raw const a.at().p.x); //~ race
        },
    );
}

pub fn race_type_assert() {
    let i: &Racy<Eface> = var(Some(&ONE));
    then(
        move || *i.at() = Some(&TWO), //~ race
        || {
            let value = *i.at(); //~ race
            read(value.and_then(|v| v.downcast_ref::<i64>()).copied());
        },
    );
}

pub fn race_block_as() {
    let (x, y) = (var(0), var(0));
    beside(
        move || *x.at() = 42,                       //~ race
        || (*x.at(), *y.at()) = (*y.at(), *x.at()), //~ race
    );
}

#[inline(never)]
fn two_ints() -> (i64, i64) {
    (42, 43)
}

pub fn race_block_call1() {
    let (x, y) = (var(0), var(0));
    beside(
        move || (*x.at(), *y.at()) = two_ints(), //~ race
        || {
            read(*x.at()); //~ race
        },
    );
    assert_eq!((*x.at(), *y.at()), (42, 43));
}

pub fn race_block_call2() {
    let (x, y) = (var(0), var(0));
    beside(
        move || (*x.at(), *y.at()) = two_ints(), //~ race
        || {
            read(*y.at()); //~ race
        },
    );
    assert_eq!((*x.at(), *y.at()), (42, 43));
}

#[inline(never)]
fn pointer_and_int() -> (Option<&'static i64>, i64) {
    (Some(leak(42)), 43)
}

#[inline(never)]
fn int_and_pointer() -> (i64, Option<&'static i64>) {
    (42, Some(leak(43)))
}

pub fn race_block_call3() {
    let (x, y) = (var(None), var(0));
    beside(
        move || (*x.at(), *y.at()) = pointer_and_int(), //~ race
        || {
            read(*x.at()); //~ race
        },
    );
    assert_eq!((*x.at(), *y.at()), (Some(&42), 43));
}

pub fn race_block_call4() {
    let (x, y) = (var(0), var(None));
    beside(
        move || (*x.at(), *y.at()) = int_and_pointer(), //~ race
        || {
            read(*y.at()); //~ race
        },
    );
    assert_eq!((*x.at(), *y.at()), (42, Some(&43)));
}

pub fn race_block_call5() {
    let (x, y) = (var(None), var(0));
    beside(
        move || (*x.at(), *y.at()) = pointer_and_int(), //~ race
        || {
            read(*y.at()); //~ race
        },
    );
    assert_eq!((*x.at(), *y.at()), (Some(&42), 43));
}

pub fn race_block_call6() {
    let (x, y) = (var(0), var(None));
    beside(
        move || (*x.at(), *y.at()) = int_and_pointer(), //~ race
        || {
            read(*x.at()); //~ race
        },
    );
    assert_eq!((*x.at(), *y.at()), (42, Some(&43)));
}

pub fn race_slice_slice() {
    let x: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    beside(
        move || *x.at() = Sl::make(20, 20), //~ race
        || {
            read(x.at().part(2, 3)); //~ race
        },
    );
}

pub fn race_slice_slice2() {
    let x: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    let i = var(2);
    beside(
        move || *i.at() = 3, //~ race
        || {
            read(x.at().part(*i.at(), 4)); //~ race
        },
    );
}

pub fn race_slice_string() {
    let x = var("hello");
    then(
        move || *x.at() = "world", //~ race
        || {
            read(&x.at()[2..3]); //~ race
        },
    );
}

pub fn race_slice_struct() {
    let x: &Racy<Sl<Point>> = var(Sl::make(10, 10));
    beside(
        move || {
            Sl::make(10, 10).copy(x.at().all()); //~ race
        },
        || x.at()[1].y = 42, //~ race
    );
}

pub fn race_append_slice_struct() {
    let x: &Racy<Sl<Point>> = var(Sl::make(10, 10));
    beside(
        move || {
            read(Sl::make(0, 10).append(x.at().all())); //~ race
        },
        || x.at()[1].y = 42, //~ race
    );
}

pub fn race_struct_ind() {
    let i = var(Point::default());
    let p = Ptr(i.ptr());
    beside(
        // SAFETY: alive for ever.
        move || unsafe { *p.get() = Point { x: 0, y: 0 } }, //~ race
        || i.at().y = 42,                                   //~ race
    );
}

pub fn race_as_func1() {
    let s: &Racy<Sl<u8>> = var(Sl::make(0, 0));
    then(
        move || {
            let make = || Ok::<_, ()>(Sl::of(b"hello world")); //~ race
            *s.at() = make().unwrap(); //~ race
        },
        || {
            let s = *s.at(); //~ race
            read(String::from_utf8_lossy(s.all()).len()); //~ race
        },
    );
}

pub fn race_as_func2() {
    let x = var(0);
    beside(
        move || {
            let f = |x| {
                read(x);
            };
            f(*x.at()); //~ race
        },
        || *x.at() = 42, //~ race
    );
}

pub fn race_as_func3() {
    let mu = leak(Mutex::new(()));
    let x = var(0);
    beside(
        move || {
            let locked = |x| {
                read(x);
                mu.lock()
            };
            drop(locked(*x.at())); //~ race
        },
        || {
            let _held = mu.lock();
            *x.at() = 42; //~ race
        },
    );
}

pub fn no_race_as_func4() {
    let mu = leak(Mutex::new(()));
    let x = var(0);
    beside(
        move || {
            let held;
            *x.at() = {
                held = mu.lock();
                42
            };
            drop(held);
        },
        || {
            let _held = mu.lock();
            *x.at() = 42;
        },
    );
}

pub fn race_heap_param() {
    let start = || {
        let x = var(0);
        let g = go(move || *x.at() = 42); //~ race
        (x, g)
    };
    let (x, g) = start();
    read(*x.at()); //~ race
    g.join().unwrap();
}

pub fn no_race_empty_struct() {
    #[derive(Clone, Copy)]
    struct Empty;
    #[derive(Clone, Copy)]
    struct X {
        y: i64,
        _empty: Empty,
    }
    struct Y {
        x: X,
        y: i64,
    }
    let y = var(Y {
        x: X {
            y: 0,
            _empty: Empty,
        },
        y: 0,
    });
    let c = chan(0);
    beside(
        move || {
            c.send(y.at().x);
        },
        || {
            y.at().y = 42;
            read(c.recv().map(|x| x.y));
        },
    );
}

pub fn race_nested_struct() {
    #[derive(Clone, Copy, Default)]
    struct Y {
        x: Point,
    }
    let y = var(Y::default());
    let c = chan(0);
    beside(
        move || {
            c.send(*y.at()); //~ race
        },
        || {
            y.at().x.y = 42; //~ race
            read(c.recv().map(|y| y.x));
        },
    );
}

/// A reader refills the buffer that the receiver still looks at.
fn read_in_pieces(mut source: impl Read + Send + 'static) {
    let (pieces, ch) = (var([0u8; 17]), chan::<usize>(0));
    beside(
        move || {
            loop {
                let n = source.read(pieces.at()).unwrap(); //~ race pieces
                if n == 0 {
                    break;
                }
                ch.send(n);
            }
            ch.close();
        },
        || {
            let mut sum = 0u32;
            while let Some(n) = ch.recv() {
                for i in 0..n {
                    sum = sum.wrapping_mul(31) + u32::from(pieces.at()[i]); //~ race pieces
                }
            }
            read(sum);
        },
    );
}

pub fn race_issue5567() {
    read_in_pieces(
        std::fs::File::open(std::env::current_exe().unwrap())
            .unwrap()
            .take(4000),
    );
}

pub fn race_issue51618() {
    struct Positioned(std::fs::File, u64);
    impl Read for Positioned {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            use std::os::unix::fs::FileExt;
            let n = self.0.read_at(to, self.1)?; //~ race pieces
            self.1 += n as u64;
            Ok(if self.1 > 4000 { 0 } else { n })
        }
    }
    let file = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
    read_in_pieces(Positioned(file, 0));
}

pub fn race_issue5654() {
    let text =
        "Friends, Romans, countrymen, lend me your ears; I come to bury Caesar, not to praise him.";
    read_in_pieces(Cursor::new(text));
}

#[derive(Clone, Copy, Default)]
struct Base(i64);

impl Base {
    #[inline(never)]
    fn foo(&self) -> i64 {
        42
    }
    #[inline(never)]
    fn bar(self) -> i64 {
        self.0
    }
}

#[derive(Clone, Copy, Default)]
struct Derived {
    pad: i64,
    base: Base,
}

struct DerivedByPointer {
    pad: i64,
    base: &'static Racy<Base>,
}

fn derived_by_pointer() -> DerivedByPointer {
    DerivedByPointer {
        pad: 0,
        base: var(Base(0)),
    }
}

pub fn no_race_method_thunk() {
    let d = var(Derived::default());
    beside(
        move || {
            read(d.at().base.foo());
        },
        || *d.at() = read(Derived::default()),
    );
    read(d.at().pad);
}

pub fn race_method_thunk() {
    let d = var(derived_by_pointer());
    let other = read(derived_by_pointer());
    beside(
        move || {
            read(d.at().base.at().foo()); //~ race
        },
        || *d.at() = other, //~ race
    );
    read(d.at().pad);
}

pub fn race_method_thunk2() {
    let d = var(Derived::default());
    beside(
        move || {
            read(d.at().base.bar()); //~ race
        },
        || *d.at() = read(Derived::default()), //~ race
    );
}

pub fn race_method_thunk3() {
    let d = var(derived_by_pointer());
    let other = var(Base(0));
    beside(
        move || {
            read(d.at().base.at().bar()); //~ race
        },
        || d.at().base = other, //~ race
    );
}

pub fn race_method_thunk4() {
    let d = var(derived_by_pointer());
    beside(
        move || {
            read(d.at().base.at().bar()); //~ race
        },
        || d.at().base.at().0 = 42, //~ race
    );
}

pub fn no_race_tiny_alloc() {
    let all: Vec<_> = (0..4)
        .map(|_| {
            go(|| {
                for _ in 0..20_000 {
                    let mut b = Box::new(0u8);
                    *b = 42;
                    read(b);
                }
            })
        })
        .collect();
    all.into_iter().for_each(|g| g.join().unwrap());
}

pub fn no_race_issue60934() {
    let ready = chan::<()>(0);
    let all: Vec<_> = (0..32)
        .map(|_| {
            go(move || {
                ready.recv();
                raddle::race::disable();
            })
        })
        .collect();
    ready.close();
    all.into_iter().for_each(|g| g.join().unwrap());

    let x = var(0);
    let ch = chan(0);
    both(
        move || {
            *x.at() = 1;
            ch.send(());
        },
        move || {
            select! { recv(ch.rx) -> _ => {} }
            read(*x.at());
        },
    );
}
