//! A borrow keeps its object, whatever the optimiser makes of the loop around it.
//!
//! Each shape is a loop over a borrowed value whose machine code needs no address inside the object
//! for some of its turns: it has `address - shift`, the end, or an index. In such a turn the object
//! is collected and its memory reused. All values are 7, for ever. The functions are named
//! `borrow_*`: `.ci/run borrows` looks for their handles in the machine code.

use crate::garbage::{N, clear_stack, collect_and_reuse, deep, reuse};
use raddle::gc::{self, Gc, Slice};
use std::cell::RefCell;
use std::hint::black_box;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Turns of a loop before the first value is looked at.
const SHIFT: usize = 5000;

/// In which turns to collect.
fn turns() -> Vec<bool> {
    let when = [1, 100, 4999, SHIFT + 1, SHIFT + 100, SHIFT + 301];
    (0..SHIFT + N + 1000)
        .map(|turn| when.contains(&turn))
        .collect()
}

/// A function that makes a handle, borrows through it, and counts in a loop of `shape` how many
/// values are not 7.
macro_rules! borrow {
    ($name:ident, $handle:ty: $make:expr, |$held:ident| $borrow:expr, $shape:ident) => {
        #[inline(never)]
        fn $name(shift: usize, turns: &[bool]) -> usize {
            let $held: $handle = deep(&|| $make);
            let values = $borrow;
            $shape!(values, shift, turns)
        }
    };
}

/// The value with the index `turn - shift`.
macro_rules! shifted {
    ($values:ident, $shift:ident, $turns:ident) => {{
        let mut bad = 0;
        for turn in 0..$shift + $values.len() {
            if $turns[turn] {
                collect_and_reuse();
            }
            if turn >= $shift && u64::from($values[turn - $shift]) != 7 {
                bad += 1;
            }
        }
        bad
    }};
}

/// The same with an index that wraps around below the first value.
macro_rules! wrapped {
    ($values:ident, $shift:ident, $turns:ident) => {{
        let mut bad = 0;
        for (turn, &collects) in $turns.iter().enumerate() {
            if collects {
                collect_and_reuse();
            }
            if let Some(&value) = $values.get(turn.wrapping_sub($shift))
                && u64::from(value) != 7
            {
                bad += turn;
            }
        }
        bad
    }};
}

/// From the last value to the first, counted from the end.
macro_rules! backwards {
    ($values:ident, $shift:ident, $turns:ident) => {{
        let mut bad = 0;
        let all = $shift + $values.len();
        for left in (0..all).rev() {
            if $turns[all - left - 1] {
                collect_and_reuse();
            }
            if left < $values.len() && u64::from($values[left]) != 7 {
                bad += 1;
            }
        }
        bad
    }};
}

/// A picture of rows of 50, shown lower down.
macro_rules! rows {
    ($values:ident, $shift:ident, $turns:ident) => {{
        let mut bad = 0;
        let (first, rows) = ($shift / 50, $values.len() / 50);
        for row in 0..first + rows {
            for column in 0..50 {
                if $turns[row * 50 + column] {
                    collect_and_reuse();
                }
                if row >= first && u64::from($values[(row - first) * 50 + column]) != 7 {
                    bad += 1;
                }
            }
        }
        bad
    }};
}

/// An iterator that skips, beside another slice.
macro_rules! zipped {
    ($values:ident, $shift:ident, $turns:ident) => {{
        let mut bad = 0;
        for (&value, &collects) in $values.iter().zip(&$turns[$shift..]) {
            if collects {
                collect_and_reuse();
            }
            if u64::from(value) != 7 {
                bad += 1;
            }
        }
        bad
    }};
}

/// Only the iterator's end is left of the borrow when the object is collected.
macro_rules! at_the_end {
    ($values:ident, $shift:ident, $turns:ident) => {{
        let mut rest = $values.iter();
        let mut bad = 0;
        while rest.len() > 1 {
            bad += usize::from(u64::from(*rest.next().unwrap()) != 7);
        }
        black_box($shift);
        if $turns[1] {
            collect_and_reuse();
        }
        bad + rest.filter(|value| u64::from(**value) != 7).count()
    }};
}

borrow!(borrow_bytes_shifted, Gc<[u8; N]>: Gc::new([7; N]), |gc| &gc[..], shifted);
borrow!(borrow_bytes_wrapped, Gc<[u8; N]>: Gc::new([7; N]), |gc| &gc[..], wrapped);
borrow!(borrow_bytes_backwards, Gc<[u8; N]>: Gc::new([7; N]), |gc| &gc[..], backwards);
borrow!(borrow_bytes_rows, Gc<[u8; N]>: Gc::new([7; N]), |gc| &gc[..], rows);
borrow!(borrow_bytes_zipped, Gc<[u8; N]>: Gc::new([7; N]), |gc| &gc[..], zipped);
borrow!(borrow_bytes_at_the_end, Gc<[u8; N]>: Gc::new([7; N]), |gc| &gc[..], at_the_end);
borrow!(borrow_as_ref, Gc<[u8; N]>: Gc::new([7; N]), |gc| gc.as_ref(), shifted);
borrow!(borrow_get, Gc<[u8; N]>: Gc::new([7; N]), |gc| Gc::get(&gc).unwrap(), shifted);
borrow!(borrow_no_pointers, Gc<[u32; N / 4]>: Gc::new_no_pointers([7; N / 4]), |gc| &gc[..], shifted);
borrow!(borrow_words, Gc<[u64; N / 8]>: Gc::new([7; N / 8]), |gc| &gc[..], wrapped);
borrow!(borrow_field, Gc<(u64, [u8; N])>: Gc::new((1, [7; N])), |gc| &gc.1[..], shifted);
borrow!(borrow_copied_slice, Slice<u8>: Slice::copy_from_slice(&[7; N]), |slice| &slice[..], shifted);
borrow!(borrow_copied_slice_rows, Slice<u16>: Slice::copy_from_slice(&[7; N / 2]), |slice| &slice[..], rows);
borrow!(borrow_zeroed, Slice<u8>: Slice::copy_from_slice(&[7; N]), |slice| Slice::get_all(&slice).unwrap(), zipped);
borrow!(borrow_small_items, Slice<u8>: Slice::from_fn(N, |_| 7), |slice| &slice[..], backwards);
borrow!(borrow_scanned_items, Slice<u64>: Slice::from_fn(N / 8, |_| 7), |slice| &slice[..], shifted);
borrow!(borrow_whole_slice, Slice<u64>: Slice::from_fn(N / 8, |_| 7), |slice| &*slice, at_the_end);
borrow!(borrow_string, Gc<String>: Gc::new("\u{7}".repeat(N)), |gc| gc.as_bytes(), shifted);
borrow!(borrow_vec, Gc<Vec<u8>>: Gc::new(vec![7; N]), |gc| &gc[..], wrapped);
borrow!(borrow_boxed, Gc<Box<[u64]>>: Gc::new(vec![7; N / 8].into()), |gc| &gc[..], backwards);
borrow!(borrow_chain, Gc<Gc<[u8; N]>>: Gc::new(Gc::new([7; N])), |gc| &gc[..], shifted);
borrow!(borrow_from_box, Box<Gc<[u8; N]>>: Box::new(Gc::new([7; N])), |boxed| &boxed[..], shifted);
borrow!(borrow_from_tuple, (u64, Gc<[u8; N]>): (black_box(1), Gc::new([7; N])), |pair| &pair.1[..], shifted);
borrow!(borrow_from_option, Option<Gc<[u8; N]>>: Some(Gc::new([7; N])), |gc| &gc.as_ref().unwrap()[..], wrapped);
borrow!(borrow_from_array, [Gc<[u8; N]>; 3]: [Gc::new([7; N]); 3], |all| &all[black_box(1)][..], shifted);
borrow!(borrow_from_vec, Vec<Gc<[u8; N]>>: vec![Gc::new([7; N])], |all| &all[0][..], shifted);

/// The handle is a temporary, which lives as long as the borrow.
#[inline(never)]
fn borrow_temporary(shift: usize, turns: &[bool]) -> usize {
    let values = &deep(&|| Gc::new([7_u8; N]))[..];
    shifted!(values, shift, turns)
}

/// The handle comes from a weak pointer.
#[inline(never)]
fn borrow_upgraded(shift: usize, turns: &[bool]) -> usize {
    let (strong, weak) = deep(&|| {
        let gc = Gc::new([7_u8; N]);
        (gc, Gc::downgrade(&gc))
    });
    let gc = weak.upgrade().unwrap();
    // Another test may collect at any time.
    gc::keep_alive(&strong);
    let values = &gc[..];
    shifted!(values, shift, turns)
}

/// A parameter by value: the place is in the callee's frame.
#[inline(never)]
fn borrow_parameter(shift: usize, turns: &[bool]) -> usize {
    #[inline(never)]
    fn callee(gc: Gc<[u8; N]>, shift: usize, turns: &[bool]) -> usize {
        clear_stack();
        let values = &gc[..];
        shifted!(values, shift, turns)
    }
    callee(deep(&|| Gc::new([7; N])), shift, turns)
}

/// A closure has the handle.
#[inline(never)]
fn borrow_captured(shift: usize, turns: &[bool]) -> usize {
    let gc = deep(&|| Gc::new([7_u8; N]));
    let count = move |shift: usize, turns: &[bool]| {
        let values = &gc[..];
        wrapped!(values, shift, turns)
    };
    black_box(&count)(shift, turns)
}

/// A place that is written again and again: each borrow ends before the next handle comes.
#[inline(never)]
fn borrow_replaced(shift: usize, turns: &[bool]) -> usize {
    let mut gc = deep(&|| Gc::new([7_u8; N]));
    let mut bad = 0;
    for _ in 0..3 {
        let values = &gc[..];
        bad += shifted!(values, shift, turns);
        gc = deep(&|| Gc::new([7_u8; N]));
    }
    bad
}

#[inline(never)]
fn borrow_static(shift: usize, turns: &[bool]) -> usize {
    static PLACE: OnceLock<Gc<[u8; N]>> = OnceLock::new();
    let values = &PLACE.get_or_init(|| deep(&|| Gc::new([7; N])))[..];
    shifted!(values, shift, turns)
}

#[inline(never)]
fn borrow_thread_local(shift: usize, turns: &[bool]) -> usize {
    thread_local!(static PLACE: RefCell<Option<Gc<[u8; N]>>> = const { RefCell::new(None) });
    PLACE.set(Some(deep(&|| Gc::new([7; N]))));
    let bad = PLACE.with_borrow(|gc| {
        let values = &gc.as_ref().unwrap()[..];
        wrapped!(values, shift, turns)
    });
    PLACE.set(None);
    bad
}

/// No call in the loop, nor anything that the optimiser takes for one: others collect.
#[inline(never)]
fn borrow_without_calls(shift: usize, stop: &AtomicBool) -> usize {
    let gc = deep(&|| Gc::new([7_u8; N]));
    let values = &gc[..];
    let mut bad = 0;
    while !stop.load(Relaxed) {
        for turn in 0..shift + values.len() {
            if turn >= shift && values[turn - shift] != 7 {
                bad += 1;
            }
        }
    }
    bad
}

/// The same, with sums that are computed in vectors.
#[inline(never)]
fn borrow_vectorised(shift: usize, stop: &AtomicBool) -> usize {
    let slice = deep(&|| Slice::copy_from_slice(&[7_u32; N / 4]));
    let values = &slice[..];
    let mut bad = 0;
    while !stop.load(Relaxed) {
        bad += values[black_box(shift) % 2..]
            .iter()
            .map(|value| (value ^ 7) as usize)
            .sum::<usize>();
    }
    bad
}

type Shape = fn(usize, &[bool]) -> usize;

fn run(shapes: &[(&str, Shape)]) {
    raddle::run(|| {
        let turns = turns();
        for (name, shape) in shapes {
            assert_eq!(
                shape(black_box(SHIFT), &turns),
                0,
                "{name}: values changed under a borrow"
            );
        }
    });
}

macro_rules! shapes {
    ($($name:ident),* $(,)?) => {&[$((stringify!($name), $name as Shape)),*]};
}

#[test]
fn loops_over_borrowed_values() {
    run(shapes![
        borrow_bytes_shifted,
        borrow_bytes_wrapped,
        borrow_bytes_backwards,
        borrow_bytes_rows,
        borrow_bytes_zipped,
        borrow_bytes_at_the_end,
        borrow_as_ref,
        borrow_get,
        borrow_no_pointers,
        borrow_words,
        borrow_field,
    ]);
}

#[test]
fn loops_over_borrowed_slices() {
    run(shapes![
        borrow_copied_slice,
        borrow_copied_slice_rows,
        borrow_zeroed,
        borrow_small_items,
        borrow_scanned_items,
        borrow_whole_slice,
    ]);
}

#[test]
fn loops_over_what_a_value_owns() {
    run(shapes![
        borrow_string,
        borrow_vec,
        borrow_boxed,
        borrow_chain
    ]);
}

#[test]
fn loops_by_handles_in_all_kinds_of_places() {
    run(shapes![
        borrow_from_box,
        borrow_from_tuple,
        borrow_from_option,
        borrow_from_array,
        borrow_from_vec,
        borrow_temporary,
        borrow_upgraded,
        borrow_parameter,
        borrow_captured,
        borrow_replaced,
        borrow_static,
        borrow_thread_local,
    ]);
}

#[test]
fn loops_without_a_call_while_another_thread_collects() {
    raddle::run(|| {
        for shape in [borrow_without_calls, borrow_vectorised] {
            static STOP: AtomicBool = AtomicBool::new(false);
            STOP.store(false, Relaxed);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for _ in 0..20 {
                        gc::collect();
                        reuse();
                    }
                    STOP.store(true, Relaxed);
                });
                assert_eq!(
                    shape(black_box(SHIFT), &STOP),
                    0,
                    "values changed under a borrow"
                );
            });
        }
    });
}
