//! Foreign code that synchronises where nobody sees it. There is no `raddle::ffi` yet: the wrapper does what it will do.

use std::arch::global_asm;
use std::sync::atomic::AtomicI32;

use raddle::race;

use crate::support::*;

// What a C compiler makes of `__sync_fetch_and_add(word, 1)` and of a loop until it is not zero.
global_asm!(
    ".global race_cases_notify",
    "race_cases_notify:",
    "lock add dword ptr [rdi], 1",
    "ret",
    ".global race_cases_wait",
    "race_cases_wait:",
    "2: mov eax, dword ptr [rdi]",
    "test eax, eax",
    "jnz 3f",
    "pause",
    "jmp 2b",
    "3: ret",
);

unsafe extern "C" {
    fn race_cases_notify(word: *const AtomicI32);
    fn race_cases_wait(word: *const AtomicI32);
}

static FOREIGN: u8 = 0;

/// A call of foreign code is assumed to synchronise with every other.
fn foreign<T>(f: impl FnOnce() -> T) -> T {
    race::release_merge(&raw const FOREIGN);
    let result = f();
    race::acquire(&raw const FOREIGN);
    result
}

pub fn no_race_cgo_sync() {
    let word = leak(AtomicI32::new(0));
    let data = var(0);
    beside(
        move || {
            *data.at() = 1;
            // SAFETY: `word` lives for ever.
            foreign(|| unsafe { race_cases_notify(word) });
        },
        || {
            // SAFETY: as above.
            foreign(|| raddle::blocking(|| unsafe { race_cases_wait(word) }));
            read(*data.at());
        },
    );
}

pub fn race_cgo_no_sync() {
    let (word, other) = (leak(AtomicI32::new(0)), leak(AtomicI32::new(0)));
    let data = var(0);
    beside(
        move || {
            // SAFETY: `other` lives for ever.
            foreign(|| unsafe { race_cases_notify(other) });
            *data.at() = 1; //~ race
            // SAFETY: `word` lives for ever.
            unsafe { race_cases_notify(word) };
        },
        || {
            // SAFETY: as above.
            raddle::blocking(|| unsafe { race_cases_wait(word) });
            read(*data.at()); //~ race
        },
    );
}
