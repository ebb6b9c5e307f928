//! Plain memory in every shape: sizes and overlaps, statics, the stack, the heap, thread-locals, copies by the block, what foreign
//! code is given, and the standard containers.

use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_set1_epi8, _mm_storeu_si128};
use std::cell::{Cell, RefCell, UnsafeCell};
use std::collections::{BTreeMap, VecDeque};
use std::mem::MaybeUninit;
use std::ptr;
use std::rc::Rc;

use crate::support::*;

/// Sixteen bytes at an address that is a multiple of sixteen.
#[repr(align(16))]
struct Bytes {
    _all: [u8; 32],
}

/// A fresh block.
fn bytes() -> Ptr<u8> {
    Ptr(var(Bytes { _all: [0; 32] }).ptr().cast())
}

pub fn race_write_write_1() {
    let p = bytes();
    both(
        move || {
            put(here(p), 0, 1 as u8); //~ race
        },
        move || {
            put(here(p), 0, 2 as u8); //~ race
        },
    );
}

pub fn race_write_read_1() {
    let p = bytes();
    both(
        move || {
            put(here(p), 0, 1 as u8); //~ race
        },
        move || {
            get::<u8>(p, 0); //~ race
        },
    );
}

pub fn no_race_read_read_1() {
    let p = bytes();
    both(
        move || {
            get::<u8>(p, 0);
        },
        move || {
            get::<u8>(p, 0);
        },
    );
}

pub fn no_race_neighbours_1() {
    let p = bytes();
    both(
        move || {
            put(here(p), 0, 1 as u8);
        },
        move || {
            put(here(p), 1, 2 as u8);
        },
    );
}

pub fn race_write_write_2() {
    let p = bytes();
    both(
        move || {
            put(here(p), 0, 1 as u16); //~ race
        },
        move || {
            put(here(p), 0, 2 as u16); //~ race
        },
    );
}

pub fn race_write_read_2() {
    let p = bytes();
    both(
        move || {
            put(here(p), 0, 1 as u16); //~ race
        },
        move || {
            get::<u16>(p, 0); //~ race
        },
    );
}

pub fn no_race_read_read_2() {
    let p = bytes();
    both(
        move || {
            get::<u16>(p, 0);
        },
        move || {
            get::<u16>(p, 0);
        },
    );
}

pub fn no_race_neighbours_2() {
    let p = bytes();
    both(
        move || {
            put(here(p), 0, 1 as u16);
        },
        move || {
            put(here(p), 2, 2 as u16);
        },
    );
}

pub fn race_write_write_4() {
    let p = bytes();
    both(
        move || {
            put(here(p), 0, 1 as u32); //~ race
        },
        move || {
            put(here(p), 0, 2 as u32); //~ race
        },
    );
}

pub fn race_write_read_4() {
    let p = bytes();
    both(
        move || {
            put(here(p), 0, 1 as u32); //~ race
        },
        move || {
            get::<u32>(p, 0); //~ race
        },
    );
}

pub fn no_race_read_read_4() {
    let p = bytes();
    both(
        move || {
            get::<u32>(p, 0);
        },
        move || {
            get::<u32>(p, 0);
        },
    );
}

pub fn no_race_neighbours_4() {
    let p = bytes();
    both(
        move || {
            put(here(p), 0, 1 as u32);
        },
        move || {
            put(here(p), 4, 2 as u32);
        },
    );
}

pub fn race_write_write_8() {
    let p = bytes();
    both(
        move || {
            put(here(p), 0, 1 as u64); //~ race
        },
        move || {
            put(here(p), 0, 2 as u64); //~ race
        },
    );
}

pub fn race_write_read_8() {
    let p = bytes();
    both(
        move || {
            put(here(p), 0, 1 as u64); //~ race
        },
        move || {
            get::<u64>(p, 0); //~ race
        },
    );
}

pub fn no_race_read_read_8() {
    let p = bytes();
    both(
        move || {
            get::<u64>(p, 0);
        },
        move || {
            get::<u64>(p, 0);
        },
    );
}

pub fn no_race_neighbours_8() {
    let p = bytes();
    both(
        move || {
            put(here(p), 0, 1 as u64);
        },
        move || {
            put(here(p), 8, 2 as u64);
        },
    );
}

pub fn race_write_write_16() {
    let p = bytes();
    both(
        move || {
            put(here(p), 0, 1 as u128); //~ race
        },
        move || {
            put(here(p), 0, 2 as u128); //~ race
        },
    );
}

pub fn race_write_read_16() {
    let p = bytes();
    both(
        move || {
            put(here(p), 0, 1 as u128); //~ race
        },
        move || {
            get::<u128>(p, 0); //~ race
        },
    );
}

pub fn no_race_read_read_16() {
    let p = bytes();
    both(
        move || {
            get::<u128>(p, 0);
        },
        move || {
            get::<u128>(p, 0);
        },
    );
}

pub fn race_overlap_byte_in_word() {
    let p = bytes();
    both(
        move || {
            put(here(p), 0, 1 as u64); //~ race
        },
        move || {
            put(here(p), 5, 2 as u8); //~ race
        },
    );
}

pub fn race_overlap_byte_in_word_read() {
    let p = bytes();
    both(
        move || {
            put(here(p), 0, 1 as u64); //~ race
        },
        move || {
            get::<u8>(p, 5); //~ race
        },
    );
}

pub fn race_overlap_last_byte_of_word() {
    let p = bytes();
    both(
        move || {
            put(here(p), 8, 1 as u64); //~ race
        },
        move || {
            put(here(p), 15, 2 as u8); //~ race
        },
    );
}

pub fn race_overlap_last_byte_of_word_read() {
    let p = bytes();
    both(
        move || {
            put(here(p), 8, 1 as u64); //~ race
        },
        move || {
            get::<u8>(p, 15); //~ race
        },
    );
}

pub fn race_overlap_halves_cross() {
    let p = bytes();
    both(
        move || {
            put(here(p), 2, 1 as u32); //~ race
        },
        move || {
            put(here(p), 4, 2 as u32); //~ race
        },
    );
}

pub fn race_overlap_halves_cross_read() {
    let p = bytes();
    both(
        move || {
            put(here(p), 2, 1 as u32); //~ race
        },
        move || {
            get::<u32>(p, 4); //~ race
        },
    );
}

pub fn race_overlap_unaligned_over_granules() {
    let p = bytes();
    both(
        move || {
            put(here(p), 4, 1 as u64); //~ race
        },
        move || {
            put(here(p), 8, 2 as u64); //~ race
        },
    );
}

pub fn race_overlap_unaligned_over_granules_read() {
    let p = bytes();
    both(
        move || {
            put(here(p), 4, 1 as u64); //~ race
        },
        move || {
            get::<u64>(p, 8); //~ race
        },
    );
}

pub fn race_overlap_unaligned_2_over_granules() {
    let p = bytes();
    both(
        move || {
            put(here(p), 7, 1 as u16); //~ race
        },
        move || {
            put(here(p), 8, 2 as u8); //~ race
        },
    );
}

pub fn race_overlap_unaligned_2_over_granules_read() {
    let p = bytes();
    both(
        move || {
            put(here(p), 7, 1 as u16); //~ race
        },
        move || {
            get::<u8>(p, 8); //~ race
        },
    );
}

pub fn race_overlap_unaligned_16() {
    let p = bytes();
    both(
        move || {
            put(here(p), 3, 1 as u128); //~ race
        },
        move || {
            put(here(p), 18, 2 as u8); //~ race
        },
    );
}

pub fn race_overlap_unaligned_16_read() {
    let p = bytes();
    both(
        move || {
            put(here(p), 3, 1 as u128); //~ race
        },
        move || {
            get::<u8>(p, 18); //~ race
        },
    );
}

pub fn race_overlap_wide_over_narrow() {
    let p = bytes();
    both(
        move || {
            put(here(p), 0, 1 as u128); //~ race
        },
        move || {
            put(here(p), 10, 2 as u16); //~ race
        },
    );
}

pub fn race_overlap_wide_over_narrow_read() {
    let p = bytes();
    both(
        move || {
            put(here(p), 0, 1 as u128); //~ race
        },
        move || {
            get::<u16>(p, 10); //~ race
        },
    );
}

pub fn race_overlap_unaligned_4_second_half() {
    let p = bytes();
    both(
        move || {
            put(here(p), 6, 1 as u32); //~ race
        },
        move || {
            put(here(p), 9, 2 as u8); //~ race
        },
    );
}

pub fn race_overlap_unaligned_4_second_half_read() {
    let p = bytes();
    both(
        move || {
            put(here(p), 6, 1 as u32); //~ race
        },
        move || {
            get::<u8>(p, 9); //~ race
        },
    );
}

pub fn no_race_apart_bytes_of_a_word() {
    let p = bytes();
    both(
        move || {
            put(here(p), 3, 1 as u8);
        },
        move || {
            put(here(p), 4, 2 as u8);
        },
    );
}

pub fn no_race_apart_unaligned_neighbours() {
    let p = bytes();
    both(
        move || {
            put(here(p), 1, 1 as u32);
        },
        move || {
            put(here(p), 5, 2 as u32);
        },
    );
}

pub fn no_race_apart_before_unaligned() {
    let p = bytes();
    both(
        move || {
            put(here(p), 5, 1 as u64);
        },
        move || {
            put(here(p), 1, 2 as u32);
        },
    );
}

pub fn no_race_apart_after_unaligned() {
    let p = bytes();
    both(
        move || {
            put(here(p), 5, 1 as u64);
        },
        move || {
            put(here(p), 13, 2 as u8);
        },
    );
}

pub fn race_value_bool() {
    let x = var(false);
    both(
        move || {
            *x.at() = true; //~ race
        },
        move || {
            read(*x.at()); //~ race
        },
    );
}

pub fn race_value_char() {
    let x = var('a');
    both(
        move || {
            *x.at() = 'b'; //~ race
        },
        move || {
            read(*x.at()); //~ race
        },
    );
}

pub fn race_value_f32() {
    let x = var(0f32);
    both(
        move || {
            *x.at() = 1.0; //~ race
        },
        move || {
            *x.at() += 2.0; //~ race
        },
    );
}

pub fn race_value_i128() {
    let x = var(0i128);
    both(
        move || {
            *x.at() = 1; //~ race
        },
        move || {
            *x.at() += 1; //~ race
        },
    );
}

pub fn race_value_option() {
    let x = var(None::<u32>);
    both(
        move || {
            *x.at() = Some(1); //~ race
        },
        move || {
            read(x.at().is_some()); //~ race
        },
    );
}

pub fn race_value_niche() {
    let x = var(None::<&u8>);
    both(
        move || {
            *x.at() = Some(&1); //~ race
        },
        move || {
            read(x.at().is_some()); //~ race
        },
    );
}

pub fn race_value_array() {
    let x = var([0u16; 3]);
    both(
        move || {
            x.at()[2] = 1; //~ race
        },
        move || {
            read(*x.at()); //~ race
        },
    );
}

pub fn race_value_tuple() {
    let x = var((0u8, 0u64));
    both(
        move || {
            x.at().1 = 1; //~ race
        },
        move || {
            x.at().1 = 2; //~ race
        },
    );
}

pub fn race_value_compound() {
    let x = var(0u64);
    both(
        move || {
            *x.at() |= 1; //~ race
        },
        move || {
            *x.at() ^= 2; //~ race
        },
    );
}

pub fn no_race_tuple_fields() {
    let x = var((0u8, 0u64));
    both(
        move || {
            x.at().0 = 1;
        },
        move || {
            x.at().1 = 2;
        },
    );
}

/// A value that is one of two.
enum Shape {
    Square,
    Circle(u64, u64),
}

pub fn race_enum_discriminant() {
    let x = var(Shape::Square);
    let square = |x: &Shape| matches!(x, Shape::Square); //~ race
    then(
        move || *x.at() = read(Shape::Circle(1, 2)), //~ race
        || {
            read(square(x.at())); //~ race
        },
    );
}

pub fn no_race_enum_payload() {
    let x = var(Shape::Circle(1, 2));
    let Shape::Circle(a, b) = x.at() else {
        unreachable!()
    };
    let (a, b) = (Ptr(a), Ptr(b));
    both(
        // SAFETY: alive for ever, and nobody changes the shape.
        move || unsafe { *a.get() = 3 },
        // SAFETY: as above.
        move || unsafe { *b.get() = 4 },
    );
}

#[derive(Clone, Copy)]
union Either {
    word: u64,
    bytes: [u8; 8],
}

pub fn race_union() {
    let x = var(Either { word: 0 });
    both(
        move || x.at().word = 1, //~ race
        // SAFETY: every pattern is a number.
        move || unsafe { x.at().bytes[3] = 1 }, //~ race
    );
}

static mut COUNTER: u64 = 0;

pub fn race_static_mut() {
    both(
        // SAFETY: alive for ever.
        || unsafe { *here(&raw mut COUNTER) += 1 }, //~ race
        // SAFETY: as above.
        || unsafe { *here(&raw mut COUNTER) += 2 }, //~ race
    );
}

static mut GUARDED: u64 = 0;
static GUARD: raddle::sync::Mutex<()> = raddle::sync::Mutex::new(());

pub fn no_race_static_mut_guarded() {
    let add = || {
        let _held = GUARD.lock();
        // SAFETY: under the lock.
        unsafe { *(&raw mut GUARDED) += 1 };
    };
    both(add, add);
}

static TABLE: [Racy<u8>; 64] = [const { Racy::new(0) }; 64];

pub fn race_static_table() {
    both(
        || *TABLE[read(9)].at() = 1, //~ race
        || *TABLE[read(9)].at() = 2, //~ race
    );
}

pub fn no_race_static_table() {
    both(|| *TABLE[read(9)].at() = 1, || *TABLE[read(10)].at() = 2);
}

pub fn race_stack_variable() {
    let x = UnsafeCell::new(0);
    let p = Ptr(x.get());
    raddle::scope(|s| {
        // SAFETY: the scope ends before `x`.
        s.go(move || unsafe { *p.get() = 1 }); //~ race
        // SAFETY: as above.
        s.go(move || unsafe { *p.get() = 2 }); //~ race
    });
    read(x.into_inner());
}

pub fn no_race_stack_variable() {
    let mut x = [0; 4];
    raddle::scope(|s| {
        for (i, x) in x.iter_mut().enumerate() {
            s.go(move || *x = i);
        }
    });
    read(x);
}

pub fn no_race_stack_reuse() {
    for i in 0..200 {
        go(move || {
            let mut frame = [0u8; 2000];
            frame[i] = 1;
            read(&mut frame);
        })
        .join()
        .unwrap();
    }
    let all: Vec<_> = (0..50)
        .map(|i| {
            go(move || {
                let mut frame = [0u8; 2000];
                frame[i] = 1;
                read(&mut frame);
                yield_now();
            })
        })
        .collect();
    all.into_iter().for_each(|g| g.join().unwrap());
}

thread_local! {
    static LOCAL: Cell<u64> = const { Cell::new(0) };
    static LIST: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

pub fn no_race_thread_local() {
    let add = || {
        for _ in 0..100 {
            LOCAL.set(LOCAL.get() + 1);
            LIST.with_borrow_mut(|l| l.push(1));
            yield_now();
        }
        assert_eq!((LOCAL.get(), LIST.with_borrow(Vec::len)), (100, 100));
    };
    both(add, add);
}

/// A reference to a thread-local that is given to another goroutine.
pub fn race_thread_local_shared() {
    let (there, back) = (chan::<Ptr<u64>>(0), chan::<()>(0));
    both(
        move || {
            there.send(Ptr(LOCAL.with(Cell::as_ptr)));
            LOCAL.set(here(1)); //~ race
            back.recv();
        },
        move || {
            let p = there.recv().unwrap();
            // SAFETY: its goroutine waits until we are done.
            unsafe { *p.get() = 2 }; //~ race
            back.send(());
        },
    );
}

pub fn no_race_thread_local_reuse() {
    for _ in 0..100 {
        go(|| LOCAL.set(LOCAL.get() + 1)).join().unwrap();
    }
    let all: Vec<_> = (0..20).map(|_| go(|| LOCAL.set(LOCAL.get() + 1))).collect();
    all.into_iter().for_each(|g| g.join().unwrap());
}

pub fn race_copy_from_slice() {
    let (a, b) = (var([0u8; 200]), var([1u8; 200]));
    both(
        move || {
            a.at().copy_from_slice(here(b.at())); //~ race
        },
        move || {
            read(a.at()[199]); //~ race
        },
    );
}

pub fn race_copy_source() {
    let (a, b) = (var([0u8; 200]), var([1u8; 200]));
    both(
        move || {
            a.at().copy_from_slice(here(b.at())); //~ race
        },
        move || {
            b.at()[0] = 3; //~ race
        },
    );
}

pub fn no_race_copy_apart() {
    let (a, b) = (var([0u8; 200]), var([1u8; 200]));
    both(
        move || {
            a.at()[..100].copy_from_slice(&b.at()[..100]);
        },
        move || {
            a.at()[100..].copy_from_slice(&b.at()[..100]);
        },
    );
}

pub fn race_fill() {
    let a = var([0u8; 200]);
    both(
        move || {
            a.at().fill(read(7)); //~ race
        },
        move || {
            read(a.at()[100]); //~ race
        },
    );
}

pub fn race_swap_slices() {
    let (a, b) = (var([0u8; 200]), var([1u8; 200]));
    both(
        move || {
            a.at().swap_with_slice(b.at()); //~ race
        },
        move || {
            read(b.at()[77]); //~ race
        },
    );
}

pub fn race_copy_within() {
    let a = var([0u8; 200]);
    both(
        move || {
            a.at().copy_within(10..20, 50); //~ race
        },
        move || {
            a.at()[55] = 3; //~ race
        },
    );
}

pub fn no_race_copy_within() {
    let a = var([0u8; 200]);
    both(
        move || {
            a.at().copy_within(10..20, 50);
        },
        move || {
            a.at()[60] = 3;
        },
    );
}

pub fn race_sort() {
    let a = var([3u32, 1, 2, 9, 8, 7]);
    then(
        move || {
            a.at().sort_unstable(); //~ race
        },
        || {
            read(a.at()[5]); //~ race
        },
    );
}

pub fn race_reverse() {
    let a = var([3u32, 1, 2, 9, 8, 7]);
    then(
        move || {
            a.at().reverse(); //~ race
        },
        || {
            read(a.at()[5]); //~ race
        },
    );
}

pub fn race_iter_sum() {
    let a = var([1u64; 50]);
    both(
        move || {
            read(a.at().iter().sum::<u64>()); //~ race
        },
        move || {
            a.at()[49] = 1; //~ race
        },
    );
}

pub fn race_chunks() {
    let a = var([1u64; 64]);
    both(
        move || {
            read(a.at().chunks(8).map(|c| c[7]).max()); //~ race
        },
        move || {
            a.at()[63] = 1; //~ race
        },
    );
}

pub fn no_race_split_at_mut() {
    let a = var([0u64; 64]);
    let (left, right) = a.at().split_at_mut(32);
    let (left, right) = (Smuggled(left), Smuggled(right));
    both(
        move || {
            left.take().fill(1);
        },
        move || {
            right.take().fill(2);
        },
    );
}

pub fn race_replace() {
    let x = var(1u64);
    both(
        move || {
            read(std::mem::replace(x.at(), 2)); //~ race
        },
        move || {
            read(*x.at()); //~ race
        },
    );
}

pub fn race_swap() {
    let (x, y) = (var(1u64), var(2u64));
    both(
        move || {
            std::mem::swap(x.at(), y.at()); //~ race
        },
        move || {
            read(*y.at()); //~ race
        },
    );
}

pub fn race_ptr_write_bytes() {
    let p = bytes();
    both(
        move || {
            // SAFETY: inside the block.
            unsafe { ptr::write_bytes(p.get(), 1, read(32)) }; //~ race
        },
        move || {
            get::<u8>(p, 20); //~ race
        },
    );
}

pub fn race_volatile() {
    let p = bytes();
    both(
        move || {
            // SAFETY: inside the block.
            unsafe { p.get().cast::<u32>().write_volatile(1) }; //~ race
        },
        move || {
            // SAFETY: as above.
            read(unsafe { p.get().cast::<u32>().read_volatile() }); //~ race
        },
    );
}

pub fn race_simd() {
    let p = bytes();
    both(
        move || {
            // SAFETY: sixteen bytes of the block; SSE2 is part of the architecture.
            unsafe { _mm_storeu_si128(p.get().cast::<__m128i>(), _mm_set1_epi8(1)) }; //~ race
        },
        move || {
            // SAFETY: as above.
            read(unsafe { _mm_loadu_si128(p.get().cast::<__m128i>()) }); //~ race
        },
    );
}

pub fn race_maybe_uninit() {
    let x = var(MaybeUninit::<u64>::uninit());
    then(
        move || {
            x.at().write(1); //~ race
        },
        || {
            // SAFETY: a number is a number.
            read(unsafe { x.at().assume_init() }); //~ race
        },
    );
}

pub fn race_cell() {
    let x = leak(Smuggled(Cell::new(1)));
    both(
        move || {
            x.0.set(here(2)); //~ race
        },
        move || {
            read(here(&x.0).get()); //~ race
        },
    );
}

pub fn race_refcell() {
    let x = leak(Smuggled(RefCell::new(1)));
    then(
        move || {
            *here(&x.0).borrow_mut() = 2; //~ race
        },
        || {
            read(*here(&x.0).borrow()); //~ race
        },
    );
}

pub fn race_rc_count() {
    let a = Rc::new(1);
    let (b, c) = (leak(Smuggled(a.clone())), leak(Smuggled(a)));
    both(
        move || {
            std::mem::forget(here(b.0.clone())); //~ race
        },
        move || {
            std::mem::forget(here(c.0.clone())); //~ race
        },
    );
}

pub fn race_lazy_by_hand() {
    let (done, value) = (var(false), var(0));
    let get = move |n| {
        if !*done.at() {
            //~ race
            *value.at() = n; //~ race
            *done.at() = true; //~ race
        }
        read(*value.at()); //~ race
    };
    both(
        move || {
            get(1);
        },
        move || {
            get(2);
        },
    );
}

pub fn race_flag_by_hand() {
    let (ready, value) = (var(false), var(0));
    then(
        move || {
            *value.at() = 1; //~ race
            *ready.at() = true; //~ race
        },
        || {
            if read(*ready.at()) {
                //~ race
                read(*value.at()); //~ race
            }
        },
    );
}

pub fn race_vec_push() {
    let v = var(vec![1]);
    then(
        move || {
            v.at().push(2); //~ race
        },
        || {
            read(v.at().len()); //~ race
        },
    );
}

pub fn race_vec_element() {
    let v = var(vec![1, 2, 3]);
    both(
        move || {
            v.at()[1] = 2; //~ race
        },
        move || {
            read(v.at().iter().sum::<i32>()); //~ race
        },
    );
}

pub fn no_race_vec_elements() {
    let v = var(vec![1, 2, 3]);
    both(
        move || {
            v.at()[1] = 2;
        },
        move || {
            v.at()[2] = 2;
        },
    );
}

pub fn race_string_push() {
    let s = var(String::with_capacity(100));
    then(
        move || {
            s.at().push_str("more"); //~ race
        },
        || {
            read(s.at().len()); //~ race
        },
    );
}

pub fn race_deque() {
    let d = var(VecDeque::from([1, 2]));
    then(
        move || {
            d.at().push_back(3); //~ race
        },
        || {
            read(d.at().front().copied()); //~ race
        },
    );
}

pub fn race_btree() {
    let m = var((0..100).map(|i| (i, i)).collect::<BTreeMap<_, _>>());
    then(
        move || {
            *m.at().get_mut(&50).unwrap() = 1; //~ race
        },
        || {
            read(m.at().range(50..).next().map(|(_, v)| *v)); //~ race
        },
    );
}

pub fn race_box() {
    let b = var(Box::new(1));
    both(
        move || {
            **b.at() = 2; //~ race
        },
        move || {
            read(**b.at()); //~ race
        },
    );
}

pub fn race_box_replaced() {
    let b = var(Some(Box::new(1)));
    let other = Some(Box::new(2));
    then(
        move || {
            std::mem::forget(std::mem::replace(b.at(), other)); //~ race
        },
        || {
            read(b.at().as_deref().copied()); //~ race
        },
    );
}

pub fn race_free_after_write() {
    let p = Ptr(Box::into_raw(Box::new(1u64))); //~ block
    then(
        move || {
            // SAFETY: alive still.
            unsafe { *here(p.get()) = 2 }; //~ race
        },
        || {
            // SAFETY: the last use, in time.
            drop(unsafe { Box::from_raw(p.get()) }); //~ race
        },
    );
}

pub fn race_free_after_read() {
    let p = Ptr(Box::into_raw(Box::new([1u8; 3]))); //~ block
    then(
        move || {
            // SAFETY: alive still.
            read(unsafe { (*here(p.get()))[2] }); //~ race
        },
        || {
            // SAFETY: the last use, in time.
            drop(unsafe { Box::from_raw(p.get()) }); //~ race
        },
    );
}

/// Far behind the beginning of a large block, most of which nobody has touched.
pub fn race_free_of_large_block_after_write() {
    let mut block = Vec::<u64>::with_capacity(here(1_000_000)); //~ block
    let p = Ptr(block.as_mut_ptr());
    std::mem::forget(block);
    then(
        move || {
            // SAFETY: alive still.
            unsafe { here(p.get()).add(777_777).write(2) }; //~ race
        },
        || {
            // SAFETY: the last use, in time.
            drop(unsafe { Vec::from_raw_parts(p.get(), 0, 1_000_000) }); //~ race
        },
    );
}

/// A vector that grows leaves its block.
pub fn race_growth_after_read() {
    let mut grows = Vec::with_capacity(here(4)); //~ block
    grows.push(1u64);
    let p = Ptr(grows.as_mut_ptr());
    then(
        move || {
            // SAFETY: alive still.
            read(unsafe { *here(p.get()) }); //~ race
        },
        move || {
            grows.reserve(1000); //~ race
        },
    );
}

/// The last handle frees, whoever has it: the counts order it after all uses.
pub fn no_race_free_by_last_of_many_handles() {
    for _ in 0..20 {
        let shared = std::sync::Arc::new((vec![0u64; 10], vec![0u8; 100_000]));
        let users: Vec<_> = (0..4)
            .map(|n| {
                let mine = shared.clone();
                go(move || {
                    read(mine.0[n] + u64::from(mine.1[n * 20_000]));
                    raddle::yield_now();
                })
            })
            .collect();
        drop(shared);
        users.into_iter().for_each(|user| user.join().unwrap());
    }
}

/// Messages that are made here and dropped there, some of them unread.
pub fn no_race_free_of_messages() {
    let (tx, rx) = raddle::chan::bounded::<Box<[u64; 20]>>(3);
    let receiver = go(move || rx.iter().take(50).map(|m| m[3]).sum::<u64>());
    let senders: Vec<_> = (0..3)
        .map(|n| {
            let tx = tx.clone();
            go(move || while tx.send(Box::new([n; 20])).is_ok() {})
        })
        .collect();
    read(receiver.join().unwrap());
    senders
        .into_iter()
        .for_each(|sender| sender.join().unwrap());
}

pub fn race_use_after_free() {
    let p = Ptr(Box::into_raw(Box::new([0u64; 4]))); //~ block
    then(
        move || {
            // SAFETY: the last use that should be.
            drop(unsafe { Box::from_raw(p.get()) }); //~ race
        },
        || {
            // SAFETY: none: that is the case. The memory stays mapped.
            read(unsafe { ptr::read_volatile(here(p.get()).cast::<u64>().add(2)) }); //~ race
        },
    );
}

/// Writes to the vector's memory, of two goroutines.
fn write_twice(mut v: Vec<u64>) {
    let p = Ptr(v.as_mut_ptr());
    std::mem::forget(v);
    both(
        // SAFETY: never freed.
        move || unsafe { *here(p.get()) = 1 }, //~ race
        // SAFETY: as above.
        move || unsafe { *here(p.get()) = 2 }, //~ race
    );
}

pub fn race_in_block_of_zeros() {
    write_twice(vec![0; here(10)]); //~ block
}

pub fn race_in_large_block_of_zeros() {
    write_twice(vec![0; here(100_000)]); //~ block
}

pub fn race_in_block_that_grew() {
    let mut v = vec![1];
    v.reserve_exact(here(100)); //~ block
    write_twice(v);
}

pub fn no_race_free_after_join() {
    let p = Ptr(Box::into_raw(Box::new(1u64)));
    // SAFETY: alive until the end.
    go(move || unsafe { *p.get() = 2 }).join().unwrap();
    // SAFETY: the last use.
    drop(unsafe { Box::from_raw(p.get()) });
    both(
        move || {
            for i in 0..100u64 {
                read(Box::new(i));
            }
        },
        move || {
            for i in 0..100u64 {
                read(Box::new(i));
            }
        },
    );
}

pub fn race_dyn_method() {
    let c = var(0u64);
    let f: &'static (dyn Fn(u64) + Sync) = leak(move |n| *c.at() = n); //~ race
    both(
        move || {
            f(1);
        },
        move || {
            f(2);
        },
    );
}

pub fn race_deep_frames() {
    let x = var(0);
    #[inline(never)]
    fn down(n: u32, x: &Racy<i32>) {
        match n {
            0 => *x.at() += 1, //~ race
            n => read(down(n - 1, x)),
        }
    }
    both(
        move || {
            down(100, x);
        },
        move || {
            down(50, x);
        },
    );
}

pub fn no_race_many_heap_objects() {
    let work = || {
        for i in 0..2000usize {
            let v = vec![i; i % 300 + 1];
            read(v.iter().sum::<usize>());
        }
    };
    both(
        move || {
            work();
        },
        move || {
            work();
        },
    );
}

pub fn no_race_move_through_channel() {
    let ch = chan::<Vec<u64>>(1);
    both(
        move || {
            for i in 0..100 {
                ch.send(vec![i; 100]);
            }
            ch.close();
        },
        move || {
            while let Some(mut v) = ch.recv() {
                v[50] = 1;
                read(v);
            }
        },
    );
}

unsafe extern "C" {
    fn qsort(
        base: *mut u32,
        n: usize,
        size: usize,
        compare: extern "C" fn(*const u32, *const u32) -> i32,
    );
}

extern "C" fn compare(a: *const u32, b: *const u32) -> i32 {
    // SAFETY: qsort gives elements.
    let (a, b) = unsafe { (*a, *b) }; //~ race qsort
    a.cmp(&b) as i32
}

/// What foreign code does is not seen, but what it calls back is.
pub fn race_ffi_callback() {
    let a = var([3u32, 1, 2]);
    then(
        // SAFETY: three elements.
        move || unsafe { qsort(a.ptr().cast(), 3, 4, compare) },
        || a.at()[0] = 5, //~ race qsort
    );
}

/// C's function is known to the optimiser only. Without that it is C code, whose accesses nobody sees, so there it is Rust's.
pub fn race_libc_memcpy() {
    let (a, b) = (var([0u8; 100]), var([1u8; 100]));
    both(
        move || {
            let (to, from): (*mut u8, *const u8) = (read(a.ptr()).cast(), read(b.ptr()).cast());
            if cfg!(debug_assertions) {
                // SAFETY: a hundred bytes each.
                unsafe { to.copy_from_nonoverlapping(from, read(100)) }; //~ race
            } else {
                // SAFETY: as above.
                unsafe { libc::memcpy(to.cast(), from.cast(), read(100)) }; //~ race
            }
        },
        move || {
            read(a.at()[50]); //~ race
        },
    );
}

pub fn race_many_goroutines() {
    let x = var(0u64);
    let all: Vec<_> = (0..300).map(|_| go(move || *x.at() += 1)).collect(); //~ race
    all.into_iter().for_each(|g| g.join().unwrap());
}

pub fn race_after_much_else() {
    let (x, y) = (var(0u64), var([0u64; 512]));
    then(
        move || {
            *x.at() = 1; //~ race
            for i in 0..100 {
                y.at()[i * 5] = 1;
            }
        },
        || *x.at() = 2, //~ race
    );
}

pub fn no_race_goroutine_chain() {
    let x = var(0u64);
    fn next(n: u32, x: &'static Racy<u64>) {
        *x.at() += 1;
        if n > 0 {
            go(move || next(n - 1, x)).join().unwrap();
        }
        *x.at() += 1;
    }
    next(50, x);
    assert_eq!(*x.at(), 102);
}
