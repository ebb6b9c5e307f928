//! The atomics do as `std`'s do.

use std::mem::{align_of, size_of};
use std::ptr;
use std::sync::atomic as std_atomic;

use super::panic_text;
use crate::sync::atomic::*;
use Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

macro_rules! integers {
    ($($test:ident: $name:ident $value:ident;)*) => {$(
        #[test]
        fn $test() {
            assert_eq!(size_of::<$name>(), size_of::<std_atomic::$name>());
            assert_eq!(align_of::<$name>(), align_of::<std_atomic::$name>());
            let (mut ours, theirs) = ($name::new(5), std_atomic::$name::new(5));
            let values = [0, 1, 2, 3, 100, $value::MAX, $value::MIN];
            for v in values {
                assert_eq!(ours.fetch_add(v, SeqCst), theirs.fetch_add(v, SeqCst));
                assert_eq!(ours.fetch_sub(3, AcqRel), theirs.fetch_sub(3, AcqRel));
                assert_eq!(ours.fetch_and(v, Acquire), theirs.fetch_and(v, Acquire));
                assert_eq!(ours.fetch_nand(v, Release), theirs.fetch_nand(v, Release));
                assert_eq!(ours.fetch_or(v, Relaxed), theirs.fetch_or(v, Relaxed));
                assert_eq!(ours.fetch_xor(7, SeqCst), theirs.fetch_xor(7, SeqCst));
                assert_eq!(ours.fetch_max(v, SeqCst), theirs.fetch_max(v, SeqCst));
                assert_eq!(ours.fetch_min(v, SeqCst), theirs.fetch_min(v, SeqCst));
                assert_eq!(ours.swap(v, SeqCst), theirs.swap(v, SeqCst));
                assert_eq!(ours.load(SeqCst), v);
                assert_eq!(ours.compare_exchange(v, 9, SeqCst, Relaxed), Ok(v));
                assert_eq!(ours.compare_exchange_weak(8, 1, AcqRel, Acquire), Err(9));
                assert_eq!(ours.fetch_update(SeqCst, SeqCst, |n| (n == 9).then_some(1)), Ok(9));
                assert_eq!(ours.try_update(SeqCst, SeqCst, |_| None), Err(1));
                assert_eq!(ours.update(SeqCst, SeqCst, |n| n + 1), 1);
                assert_eq!(*ours.get_mut(), 2);
                ours.store(v, Release);
                theirs.store(v, Release);
                assert_eq!(format!("{ours:?}"), format!("{v:?}"));
            }
            let mut plain: $value = 3;
            // SAFETY: valid, aligned and nobody else's.
            let at = unsafe { $name::from_ptr(&raw mut plain) };
            at.store(4, SeqCst);
            assert_eq!(plain, 4);
            assert_eq!($name::from(6).into_inner(), 6);
            assert_eq!($name::default().into_inner(), 0);
        }
    )*};
}

integers! {
    i8s: AtomicI8 i8;
    i16s: AtomicI16 i16;
    i32s: AtomicI32 i32;
    i64s: AtomicI64 i64;
    isizes: AtomicIsize isize;
    u8s: AtomicU8 u8;
    u16s: AtomicU16 u16;
    u32s: AtomicU32 u32;
    u64s: AtomicU64 u64;
    usizes: AtomicUsize usize;
}

#[test]
fn bools() {
    let b = AtomicBool::new(true);
    assert!(b.fetch_and(false, SeqCst));
    assert!(!b.fetch_nand(true, SeqCst));
    assert!(b.fetch_xor(true, SeqCst));
    assert!(!b.fetch_or(true, SeqCst));
    assert!(b.fetch_not(SeqCst));
    assert_eq!(b.compare_exchange(false, true, SeqCst, SeqCst), Ok(false));
    assert!(b.update(SeqCst, SeqCst, |b| !b));
    assert_eq!(format!("{b:?}"), "false");
    assert!(AtomicBool::from(true).into_inner());
}

#[test]
fn pointers() {
    let mut values = [1, 2, 3];
    let first = values.as_mut_ptr();
    let p = AtomicPtr::new(first);
    assert_eq!(p.fetch_ptr_add(2, SeqCst), first);
    assert_eq!(p.fetch_ptr_sub(1, SeqCst).addr(), first.addr() + 8);
    assert_eq!(p.fetch_byte_add(1, SeqCst).addr(), first.addr() + 4);
    assert_eq!(p.fetch_byte_sub(1, SeqCst).addr(), first.addr() + 5);
    p.fetch_or(1, SeqCst);
    p.fetch_xor(1, SeqCst);
    p.fetch_and(!0, SeqCst);
    assert_eq!(p.load(SeqCst).addr(), first.addr() + 4);
    assert_eq!(
        format!("{p:?} {p:p}"),
        format!("{:?} {:p}", p.load(SeqCst), p.load(SeqCst))
    );
    assert_eq!(p.swap(ptr::null_mut(), SeqCst).addr(), first.addr() + 4);
    assert!(AtomicPtr::<u8>::default().into_inner().is_null());
}

#[test]
fn orders_that_make_no_sense_are_refused() {
    let n = AtomicU32::new(0);
    assert!(panic_text(|| _ = n.load(Release)).contains("release"));
    assert!(panic_text(|| n.store(1, Acquire)).contains("acquire"));
    assert!(panic_text(|| _ = n.compare_exchange(0, 1, SeqCst, Release)).contains("release"));
    fence(SeqCst);
    compiler_fence(SeqCst);
}
