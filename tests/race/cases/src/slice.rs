//! Slices: a pointer, a length and a capacity that are variables, and elements that are others.

use raddle::sync::WaitGroup;

use crate::support::*;

pub fn race_slice_rw() {
    let a: &Racy<Sl<i64>> = var(Sl::make(2, 2));
    beside(
        move || {
            a.at()[1] = 1; //~ race
        },
        || {
            read(a.at()[1]); //~ race
        },
    );
}

pub fn no_race_slice_rw() {
    let a: &Racy<Sl<i64>> = var(Sl::make(2, 2));
    beside(
        move || {
            a.at()[0] = 1;
        },
        || {
            read(a.at()[1]);
        },
    );
}

pub fn race_slice_ww() {
    let a: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    beside(
        move || {
            a.at()[1] = 1; //~ race
        },
        || {
            a.at()[1] = 2; //~ race
        },
    );
}

pub fn no_race_array_ww() {
    let a = var([0i64; 5]);
    beside(
        move || {
            a.at()[0] = 1;
        },
        || {
            a.at()[1] = 2;
        },
    );
}

pub fn race_array_ww() {
    let a = var([0i64; 5]);
    beside(
        move || {
            a.at()[1] = 1; //~ race
        },
        || {
            a.at()[1] = 2; //~ race
        },
    );
}

pub fn no_race_slice_write_len() {
    let a: &Racy<Sl<bool>> = var(Sl::make(1, 1));
    beside(
        move || {
            a.at()[0] = true;
        },
        || {
            read(a.at().len());
        },
    );
}

pub fn no_race_slice_write_cap() {
    let a: &Racy<Sl<u64>> = var(Sl::make(100, 100));
    beside(
        move || {
            a.at()[50] = 123;
        },
        || {
            read(a.at().cap());
        },
    );
}

pub fn race_slice_copy_read() {
    let a: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    let b: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    beside(
        move || {
            read(a.at()[5]); //~ race
        },
        || {
            a.at().copy(b.at().all()); //~ race
        },
    );
}

pub fn no_race_slice_write_copy() {
    let a: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    let b: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    beside(
        move || {
            a.at()[5] = 1;
        },
        || {
            a.at().part(0, 5).copy(b.at().part(0, 5).all());
        },
    );
}

pub fn race_slice_copy_write2() {
    let a: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    let b: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    beside(
        move || {
            b.at()[5] = 1; //~ race
        },
        || {
            a.at().copy(b.at().all()); //~ race
        },
    );
}

pub fn race_slice_copy_write3() {
    let a: &Racy<Sl<u8>> = var(Sl::make(10, 10));
    beside(
        move || {
            a.at()[7] = 1; //~ race
        },
        || {
            a.at().copy(b"qwertyqwerty"); //~ race
        },
    );
}

pub fn no_race_slice_copy_read() {
    let a: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    let b: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    beside(
        move || {
            read(b.at()[5]);
        },
        || {
            a.at().copy(b.at().all());
        },
    );
}

pub fn race_pointer_slice_copy_read() {
    let (a, b): (&Racy<Sl<Option<&i64>>>, &Racy<Sl<Option<&i64>>>) =
        (var(Sl::make(10, 10)), var(Sl::make(10, 10)));
    beside(
        move || {
            read(a.at()[5]); //~ race
        },
        || {
            a.at().copy(b.at().all()); //~ race
        },
    );
}

pub fn no_race_pointer_slice_write_copy() {
    let (a, b): (&Racy<Sl<Option<&i64>>>, &Racy<Sl<Option<&i64>>>) =
        (var(Sl::make(10, 10)), var(Sl::make(10, 10)));
    beside(
        move || {
            a.at()[5] = Some(leak(0));
        },
        || {
            a.at().part(0, 5).copy(b.at().part(0, 5).all());
        },
    );
}

pub fn race_pointer_slice_copy_write2() {
    let (a, b): (&Racy<Sl<Option<&i64>>>, &Racy<Sl<Option<&i64>>>) =
        (var(Sl::make(10, 10)), var(Sl::make(10, 10)));
    beside(
        move || {
            b.at()[5] = Some(leak(0)); //~ race
        },
        || {
            a.at().copy(b.at().all()); //~ race
        },
    );
}

pub fn no_race_pointer_slice_copy_read() {
    let (a, b): (&Racy<Sl<Option<&i64>>>, &Racy<Sl<Option<&i64>>>) =
        (var(Sl::make(10, 10)), var(Sl::make(10, 10)));
    beside(
        move || {
            read(b.at()[5]);
        },
        || {
            a.at().copy(b.at().all());
        },
    );
}

pub fn no_race_slice_write_slice2() {
    let a: &Racy<Sl<f64>> = var(Sl::make(10, 10));
    beside(
        move || {
            a.at()[2] = 1.0;
        },
        || {
            read(a.at().part(0, 5));
        },
    );
}

pub fn race_slice_write_slice() {
    let a: &Racy<Sl<f64>> = var(Sl::make(10, 10));
    beside(
        move || {
            a.at()[2] = 1.0; //~ race
        },
        || {
            *a.at() = a.at().part(5, 10); //~ race
        },
    );
}

pub fn no_race_slice_write_slice() {
    let a: &Racy<Sl<f64>> = var(Sl::make(10, 10));
    beside(
        move || {
            a.at()[2] = 1.0;
        },
        || {
            read(a.at().part(5, 10));
        },
    );
}

pub fn no_race_slice_len_cap() {
    let a: &Racy<Sl<()>> = var(Sl::make(10, 10));
    beside(
        move || {
            read(a.at().len());
        },
        || {
            read(a.at().cap());
        },
    );
}

pub fn no_race_struct_slices_range_write() {
    struct Two {
        a: Sl<i64>,
        b: Sl<i64>,
    }
    let s = var(Two {
        a: Sl::make(10, 10),
        b: Sl::make(10, 10),
    });
    beside(
        move || {
            for _ in 0..s.at().a.len() {
                read(());
            }
        },
        || {
            s.at().b[5] = 5;
        },
    );
}

pub fn race_slice_different() {
    let s: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    let s2 = *s.at();
    beside(
        move || {
            s.at()[3] = 3; //~ race
        },
        || {
            let mut s2 = s2;
            s2[3] = 3; //~ race
        },
    );
}

pub fn race_slice_range_write() {
    let s: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    beside(
        move || {
            s.at()[3] = 3; //~ race
        },
        || {
            for v in s.at().all() {
                read(*v); //~ race
            }
        },
    );
}

pub fn no_race_slice_range_write() {
    let s: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    beside(
        move || {
            s.at()[3] = 3;
        },
        || {
            for _ in 0..s.at().len() {
                read(());
            }
        },
    );
}

pub fn race_slice_range_append() {
    let s: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    beside(
        move || {
            *s.at() = s.at().append(&[3]); //~ race
        },
        || {
            let n = s.at().len(); //~ race
            read(n);
        },
    );
}

pub fn no_race_slice_range_append() {
    let s: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    beside(
        move || {
            read(s.at().append(&[3]));
        },
        || {
            for _ in 0..s.at().len() {
                read(());
            }
        },
    );
}

pub fn race_slice_var_write() {
    let s: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    let other = Sl::make(20, 20);
    beside(
        move || {
            s.at()[3] = 3; //~ race
        },
        || {
            *s.at() = other; //~ race
        },
    );
}

pub fn race_slice_var_read() {
    let s: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    let other = Sl::make(20, 20);
    beside(
        move || {
            read(s.at()[3]); //~ race
        },
        || {
            *s.at() = other; //~ race
        },
    );
}

pub fn race_slice_var_range() {
    let s: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    let other = Sl::make(20, 20);
    beside(
        move || {
            let n = s.at().len(); //~ race
            read(n);
        },
        || {
            *s.at() = other; //~ race
        },
    );
}

pub fn race_slice_var_append() {
    let s: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    let other = Sl::make(20, 20);
    beside(
        move || {
            read(s.at().append(&[10])); //~ race
        },
        || {
            *s.at() = other; //~ race
        },
    );
}

pub fn race_slice_var_copy() {
    let s: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    let other = Sl::make(20, 20);
    then(
        move || {
            s.at().copy(Sl::make(10, 10).all()); //~ race
        },
        || {
            *s.at() = other; //~ race
        },
    );
}

pub fn race_slice_var_copy2() {
    let s: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    let other = Sl::make(20, 20);
    then(
        move || {
            Sl::make(10, 10).copy(s.at().all()); //~ race
        },
        || {
            *s.at() = other; //~ race
        },
    );
}

pub fn race_slice_append() {
    let s: &Racy<Sl<i64>> = var(Sl::make(10, 20));
    beside(
        move || {
            read(s.at().append(&[1])); //~ race
        },
        || {
            read(s.at().append(&[2])); //~ race
        },
    );
}

pub fn race_slice_append_write() {
    let s: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    beside(
        move || {
            read(s.at().append(&[1])); //~ race
        },
        || {
            s.at()[0] = 42; //~ race
        },
    );
}

pub fn race_slice_append_slice() {
    let s: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    beside(
        move || {
            read(s.at().append(&[0; 10])); //~ race
        },
        || {
            s.at()[0] = 42; //~ race
        },
    );
}

pub fn race_slice_append_slice2() {
    let s: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    let s2: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    beside(
        move || {
            read(s.at().append(s2.at().all())); //~ race
        },
        || {
            s2.at()[5] = 42; //~ race
        },
    );
}

pub fn race_slice_append_string() {
    let s: &Racy<Sl<u8>> = var(Sl::make(10, 10));
    beside(
        move || {
            read(s.at().append(b"qwerty")); //~ race
        },
        || {
            s.at()[0] = 42; //~ race
        },
    );
}

pub fn race_pointer_slice_append() {
    let s: &Racy<Sl<Option<&i64>>> = var(Sl::make(10, 20));
    beside(
        move || {
            read(s.at().append(&[Some(leak(0))])); //~ race
        },
        || {
            read(s.at().append(&[Some(leak(0))])); //~ race
        },
    );
}

pub fn race_pointer_slice_append_write() {
    let s: &Racy<Sl<Option<&i64>>> = var(Sl::make(10, 10));
    beside(
        move || {
            read(s.at().append(&[Some(leak(0))])); //~ race
        },
        || {
            s.at()[0] = Some(leak(0)); //~ race
        },
    );
}

pub fn race_pointer_slice_append_slice() {
    let s: &Racy<Sl<Option<&i64>>> = var(Sl::make(10, 10));
    beside(
        move || {
            read(s.at().append(&[None; 10])); //~ race
        },
        || {
            s.at()[0] = Some(leak(0)); //~ race
        },
    );
}

pub fn race_pointer_slice_append_slice2() {
    let s: &Racy<Sl<Option<&i64>>> = var(Sl::make(10, 10));
    let s2: &Racy<Sl<Option<&i64>>> = var(Sl::make(10, 10));
    beside(
        move || {
            read(s.at().append(s2.at().all())); //~ race
        },
        || {
            s2.at()[5] = None; //~ race
        },
    );
}

pub fn no_race_slice_index_access() {
    let s: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    let v = var(0);
    beside(
        move || {
            read(*v.at());
        },
        || {
            s.at()[*v.at()] = 1;
        },
    );
}

pub fn no_race_slice_index_access2() {
    let s: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    let v = var(0);
    beside(
        move || {
            read(*v.at());
        },
        || {
            read(s.at()[*v.at()]);
        },
    );
}

pub fn race_slice_index_access() {
    let s: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    let v = var(0);
    beside(
        move || {
            *v.at() = 1; //~ race
        },
        || {
            s.at()[*v.at()] = 1; //~ race
        },
    );
}

pub fn race_slice_index_access2() {
    let s: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    let v = var(0);
    beside(
        move || {
            *v.at() = 1; //~ race
        },
        || {
            read(s.at()[*v.at()]); //~ race
        },
    );
}

pub fn race_slice_byte_to_string() {
    let s: &Racy<Sl<u8>> = var(Sl::make(10, 10));
    beside(
        move || {
            read(String::from_utf8_lossy(s.at().all()).into_owned()); //~ race
        },
        || {
            s.at()[0] = 42; //~ race
        },
    );
}

pub fn race_slice_rune_to_string() {
    let s: &Racy<Sl<char>> = var(Sl::make(10, 10));
    beside(
        move || {
            read(s.at().all().iter().collect::<String>()); //~ race
        },
        || {
            s.at()[9] = '*'; //~ race
        },
    );
}

pub fn race_concat_string() {
    let s = var("hello");
    beside(
        move || {
            read([*s.at(), " world"].concat()); //~ race
        },
        || {
            *s.at() = "world"; //~ race
        },
    );
}

pub fn race_compare_string() {
    let (s1, s2) = (var("hello"), var("world"));
    beside(
        move || {
            read(*s1.at() == *s2.at()); //~ race
        },
        || {
            *s1.at() = *s2.at(); //~ race
        },
    );
}

pub fn race_slice3() {
    let x: &Racy<Sl<i64>> = var(Sl::make(10, 10));
    let i = var(2);
    beside(
        move || {
            *i.at() = 3; //~ race
        },
        || {
            read(x.at().part(0, *i.at())); //~ race
        },
    );
}

pub fn race_slice4() {
    let data = var(Sl::of(b"hello there"));
    let wg = leak(WaitGroup::new());
    wg.add(1);
    go(move || {
        read(data.at().all().to_vec()); //~ race
        wg.done();
    });
    data.at().copy(data.at().part(2, 11).all()); //~ race
    wg.wait();
}

// The same through Raddle's own slices, whose events are typed.

pub fn race_shared_slice_rw() {
    let s = raddle::shared::Slice::<i64>::make(10, 20);
    let other = s.clone();
    beside(
        move || {
            other.set(1, 1); //~ race
        },
        || {
            read(s.get(1)); //~ race
        },
    );
}

pub fn no_race_shared_slice_rw() {
    let s = raddle::shared::Slice::<i64>::make(10, 20);
    let other = s.clone();
    beside(
        move || {
            other.set(0, 1);
        },
        || {
            read(s.get(1));
        },
    );
}

pub fn race_shared_slice_append() {
    let s = raddle::shared::Slice::<i64>::make(10, 20);
    let other = s.clone();
    beside(
        move || {
            let mut other = other;
            other.push(1); //~ race
        },
        || {
            let mut s = s.clone();
            s.push(2); //~ race
        },
    );
}

pub fn race_shared_slice_copy() {
    let s = raddle::shared::Slice::<i64>::make(10, 20);
    let other = s.clone();
    beside(
        move || {
            other.copy_from(&raddle::shared::Slice::make(10, 10)); //~ race
        },
        || {
            s.set(3, 1); //~ race
        },
    );
}

pub fn race_shared_slice_to_vec() {
    let s = raddle::shared::Slice::<i64>::make(10, 20);
    let other = s.clone();
    beside(
        move || {
            read(other.to_vec()); //~ race
        },
        || {
            s.set(9, 1); //~ race
        },
    );
}

pub fn no_race_shared_slice_len_cap() {
    let s = raddle::shared::Slice::<i64>::make(10, 20);
    let other = s.clone();
    beside(
        move || {
            other.set(0, 1);
        },
        || {
            read((s.len(), s.capacity()));
        },
    );
}
