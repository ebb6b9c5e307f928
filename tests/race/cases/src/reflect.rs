//! Memory of a type that the code does not know: Rust's nearest to reflection is a vtable or bytes.

use crate::support::*;

trait Reflect: Sync {
    fn set(&self, value: &[u8]);
    fn int(&self) -> i64;
}

impl Reflect for Racy<i64> {
    fn set(&self, value: &[u8]) {
        // SAFETY: both are of the same length.
        unsafe { std::ptr::copy_nonoverlapping(value.as_ptr(), self.ptr().cast(), value.len()) } //~ race set
    }
    fn int(&self) -> i64 {
        *self.at() //~ race set
    }
}

pub fn race_reflect_rw() {
    let v: &'static dyn Reflect = read(var(0i64));
    beside(
        move || v.set(&1i64.to_ne_bytes()), //~ race set
        || {
            read(v.int()); //~ race set
        },
    );
}

pub fn race_reflect_ww() {
    let v: &'static dyn Reflect = read(var(0i64));
    beside(
        move || v.set(&1i64.to_ne_bytes()), //~ race set
        || v.set(&2i64.to_ne_bytes()),      //~ race set
    );
}

pub fn race_reflect_copy_ww() {
    let a = Ptr(var([0u8; 2]).ptr().cast::<u8>());
    let n = read(2);
    beside(
        // SAFETY: two bytes that live for ever; `copy` allows an overlap.
        move || unsafe { std::ptr::copy(read(a.get()), read(a.get()), n) }, //~ race
        // SAFETY: as above.
        || unsafe { std::ptr::copy(read(a.get()), read(a.get()), n) }, //~ race
    );
}
