//! Maps: every lookup reads the map, every change writes it. Raddle's own first, then std's, whose memory is what it is.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};

use raddle::shared::{Map, Var};

use crate::support::*;

/// "concurrent map writes" is another way to say it.
fn quietly<T>(f: impl FnOnce() -> T) {
    drop(catch_unwind(AssertUnwindSafe(f)));
}

pub fn race_map_rw() {
    let m = Map::<i32, i32>::new();
    let other = m.clone();
    then(
        move || {
            read(other.get(&1)); //~ race
        },
        || {
            m.insert(1, 1); //~ race
        },
    );
}

pub fn race_map_rw2() {
    let m = Map::<i32, i32>::new();
    let other = m.clone();
    then(
        move || {
            read(other.contains_key(&1)); //~ race
        },
        || {
            m.insert(1, 1); //~ race
        },
    );
}

pub fn race_map_rw_array() {
    let m = Map::<i32, [i32; 2]>::new();
    let other = m.clone();
    then(
        move || {
            read(other.get(&1).map(|a| a[1])); //~ race
        },
        || {
            m.insert(2, [1, 2]); //~ race
        },
    );
}

pub fn no_race_map_rr() {
    let m = Map::<i32, i32>::new();
    let other = m.clone();
    beside(
        move || {
            read(other.get(&1));
        },
        || {
            read(m.get(&1));
        },
    );
}

pub fn race_map_range() {
    let m = Map::<i32, i32>::new();
    let other = m.clone();
    then(
        move || {
            read(other.iter().count()); //~ race
        },
        || {
            m.insert(1, 1); //~ race
        },
    );
}

pub fn race_map_range2() {
    let m = Map::<i32, i32>::new();
    let other = m.clone();
    then(
        move || {
            for kv in other.iter() {
                //~ race
                read(kv);
            }
        },
        || {
            m.insert(1, 1); //~ race
        },
    );
}

pub fn no_race_map_range_range() {
    let m = Map::<i32, i32>::from([(0, 0)]);
    let other = m.clone();
    beside(
        move || {
            other.iter().for_each(drop);
        },
        || {
            m.iter().for_each(drop);
        },
    );
}

pub fn race_map_len() {
    let m = Map::<&str, bool>::new();
    let other = m.clone();
    then(
        move || {
            read(other.len()); //~ race
        },
        || {
            m.insert("", true); //~ race
        },
    );
}

pub fn race_map_delete() {
    let m = Map::<&str, bool>::new();
    let other = m.clone();
    then(
        move || {
            other.remove(""); //~ race
        },
        || {
            m.insert("", true); //~ race
        },
    );
}

pub fn race_map_len_delete() {
    let m = Map::<&str, bool>::new();
    let other = m.clone();
    then(
        move || {
            other.remove("a"); //~ race
        },
        || {
            read(m.len()); //~ race
        },
    );
}

pub fn race_map_variable() {
    let m: &Racy<&'static Map<i32, i32>> = var(leak(Map::new()));
    let other = leak(Map::new());
    beside(
        move || {
            *m.at() = other; //~ race
        },
        || {
            *m.at() = other; //~ race
        },
    );
}

pub fn race_map_variable2() {
    let m: &Racy<&'static Map<i32, i32>> = var(leak(Map::new()));
    let other = leak(Map::new());
    beside(
        move || {
            m.at().insert(1, 1); //~ race
        },
        || {
            *m.at() = other; //~ race
        },
    );
}

pub fn race_map_variable3() {
    let m: &Racy<&'static Map<i32, i32>> = var(leak(Map::new()));
    let other = leak(Map::new());
    beside(
        move || {
            read(m.at().get(&1)); //~ race
        },
        || {
            *m.at() = other; //~ race
        },
    );
}

pub fn race_map_lookup_part_key() {
    let k = var(Big::ZERO);
    let m = Map::<Big, bool>::from([(Big { x: [1; 17] }, true)]);
    beside(
        move || {
            k.at().x[8] = 1; //~ race
        },
        || {
            read(m.get(k.at())); //~ race
        },
    );
}

pub fn race_map_lookup_part_key2() {
    let k = var(Big::ZERO);
    let m = Map::<Big, bool>::from([(Big { x: [1; 17] }, true)]);
    beside(
        move || {
            k.at().x[8] = 1; //~ race
        },
        || {
            read(m.contains_key(k.at())); //~ race
        },
    );
}

pub fn race_map_delete_part_key() {
    let k = var(Big::ZERO);
    let m = Map::<Big, bool>::from([(Big { x: [1; 17] }, true)]);
    beside(
        move || {
            k.at().x[8] = 1; //~ race
        },
        || {
            m.remove(k.at()); //~ race
        },
    );
}

pub fn race_map_insert_part_key() {
    let k = var(Big::ZERO);
    let m = Map::<Big, bool>::from([(Big { x: [1; 17] }, true)]);
    beside(
        move || {
            k.at().x[8] = 1; //~ race
        },
        || {
            m.insert(*k.at(), true); //~ race
        },
    );
}

pub fn race_map_insert_part_val() {
    let v = var(Big::ZERO);
    let m = Map::<i32, Big>::new();
    beside(
        move || {
            v.at().x[8] = 1; //~ race
        },
        || {
            m.insert(1, *v.at()); //~ race
        },
    );
}

pub fn race_map_assign_multiple_return() {
    let connect = || (42, 0);
    let conns = Map::<i32, &'static Var<i32>>::from([(1, &*leak(Var::new(0)))]);
    let (other, err) = (conns.clone(), var(0));
    beside(
        move || {
            let (value, error) = connect();
            other.get(&1).unwrap().set(value); //~ race
            *err.at() = error;
        },
        || {
            read(conns.get(&1).unwrap().get()); //~ race
        },
    );
}

pub fn race_map_big_key_access1() {
    let k = var(Huge::ZERO);
    let m = Map::<Huge, i64>::from([(Huge { x: 1, ..Huge::ZERO }, 1)]);
    beside(
        move || {
            read(m.get(k.at())); //~ race
        },
        || {
            k.at().y[30] = 1; //~ race
        },
    );
}

pub fn race_map_big_key_access2() {
    let k = var(Huge::ZERO);
    let m = Map::<Huge, i64>::from([(Huge { x: 1, ..Huge::ZERO }, 1)]);
    beside(
        move || {
            read(m.contains_key(k.at())); //~ race
        },
        || {
            k.at().y[30] = 1; //~ race
        },
    );
}

pub fn race_map_big_key_insert() {
    let k = var(Huge::ZERO);
    let m = Map::<Huge, i64>::from([(Huge { x: 1, ..Huge::ZERO }, 1)]);
    beside(
        move || {
            m.insert(*k.at(), 1); //~ race
        },
        || {
            k.at().y[30] = 1; //~ race
        },
    );
}

pub fn race_map_big_key_delete() {
    let k = var(Huge::ZERO);
    let m = Map::<Huge, i64>::from([(Huge { x: 1, ..Huge::ZERO }, 1)]);
    beside(
        move || {
            m.remove(k.at()); //~ race
        },
        || {
            k.at().y[30] = 1; //~ race
        },
    );
}

pub fn race_map_big_val_insert() {
    let v = var(Huge::ZERO);
    let m = Map::<i32, Huge>::from([(1, Huge::ZERO)]);
    beside(
        move || {
            m.insert(1, *v.at()); //~ race
        },
        || {
            v.at().y[30] = 1; //~ race
        },
    );
}

pub fn race_map_big_val_access1() {
    let v = var(Huge::ZERO);
    let m = Map::<i32, Huge>::from([(1, Huge::ZERO)]);
    beside(
        move || {
            *v.at() = m.get(&1).unwrap(); //~ race
        },
        || {
            v.at().y[30] = 1; //~ race
        },
    );
}

pub fn race_map_big_val_access2() {
    let v = var(Huge::ZERO);
    let m = Map::<i32, Huge>::from([(1, Huge::ZERO)]);
    beside(
        move || {
            let found = m.get(&1);
            *v.at() = found.unwrap(); //~ race
        },
        || {
            v.at().y[30] = 1; //~ race
        },
    );
}

pub fn race_map_writes_at_once() {
    let m = Map::<i32, i32>::new();
    let other = m.clone();
    beside(
        move || quietly(|| other.insert(1, 1)), //~ race
        || quietly(|| m.insert(2, 2)),          //~ race
    );
}

// std's maps. Their accesses are kept apart in time: a table that two change at once crashes.

pub fn race_std_map_rw() {
    let m = var(HashMap::<i32, i32>::from([(7, 7)]));
    then(
        move || {
            read(m.at().get(&1)); //~ race
        },
        || {
            m.at().insert(1, 1); //~ race
        },
    );
}

pub fn race_std_map_wr() {
    let m = var(HashMap::<i32, i32>::from([(7, 7)]));
    then(
        move || {
            m.at().insert(1, 1); //~ race
        },
        || {
            read(m.at().get(&1)); //~ race
        },
    );
}

pub fn no_race_std_map_rr() {
    let m = var(HashMap::<i32, i32>::from([(7, 7)]));
    beside(
        move || {
            read(m.at().get(&7));
        },
        || {
            read(m.at().get(&8));
        },
    );
}

pub fn race_std_map_range() {
    let m = var(HashMap::<i32, i32>::from([(7, 7)]));
    then(
        move || {
            read(m.at().values().sum::<i32>()); //~ race
        },
        || {
            m.at().insert(1, 1); //~ race
        },
    );
}

pub fn race_std_map_len() {
    let m = var(HashMap::<i32, i32>::from([(7, 7)]));
    then(
        move || {
            read(m.at().len()); //~ race
        },
        || {
            m.at().insert(1, 1); //~ race
        },
    );
}

pub fn race_std_map_delete() {
    let m = var(HashMap::<i32, i32>::from([(7, 7)]));
    then(
        move || {
            m.at().remove(&7); //~ race
        },
        || {
            m.at().insert(1, 1); //~ race
        },
    );
}

pub fn race_std_map_value() {
    let m = var(HashMap::<i32, i32>::from([(7, 7)]));
    then(
        move || {
            *m.at().get_mut(&7).unwrap() = 1; //~ race
        },
        || {
            read(m.at()[&7]); //~ race
        },
    );
}

pub fn no_race_std_map_two_values() {
    let m = var(HashMap::<i32, i64>::from([(7, 7), (8, 8)]));
    let [a, b] = m.at().get_disjoint_mut([&7, &8]).map(|v| Ptr(v.unwrap()));
    beside(
        move || {
            // SAFETY: the map does not change.
            unsafe { *a.get() = 1 };
        },
        || {
            // SAFETY: as above.
            unsafe { *b.get() = 1 };
        },
    );
}

#[inline(never)]
fn lookup(m: &HashMap<i32, i32>) {
    read(here(m).len()); //~ race grows
}

#[inline(never)]
fn fill(m: &mut HashMap<i32, i32>) {
    for i in 0..100 {
        m.insert(i, i); //~ race grows
    }
}

pub fn race_std_map_grows() {
    let m = var(HashMap::<i32, i32>::new());
    then(move || fill(m.at()), || lookup(m.at()));
}

pub fn race_std_map_lookup_part_key() {
    let k = var(Big::ZERO);
    let m = var(HashMap::<Big, bool>::from([(Big { x: [1; 17] }, true)]));
    beside(
        move || {
            k.at().x[8] = 1; //~ race
        },
        || {
            read(m.at().get(k.at())); //~ race
        },
    );
}

pub fn race_std_btree_rw() {
    let m = var(BTreeMap::<i32, i32>::from([(7, 7)]));
    then(
        move || {
            m.at().insert(1, 1); //~ race
        },
        || {
            read(m.at().get(&7)); //~ race
        },
    );
}

pub fn no_race_std_btree_rr() {
    let m = var(BTreeMap::<i32, i32>::from([(7, 7)]));
    beside(
        move || {
            read(m.at().get(&1));
        },
        || {
            read(m.at().get(&7));
        },
    );
}
