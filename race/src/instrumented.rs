//! Whether the program's code is instrumented, and what is done before any of that runs.

use std::arch::asm;

use crate::shadow;

/// Before all other constructors, among which there may be instrumented ones.
#[used]
#[unsafe(link_section = ".init_array.00001")]
static BEFORE_ALL: extern "C" fn() = before_all;

extern "C" fn before_all() {
    if is_instrumented() {
        shadow::reserve_first();
    }
}

/// Whether there is instrumented code in the program: the detector that `cargo raddle` compiles for it
/// defines a symbol (`abi`).
///
/// **Blocking**: none.
#[must_use]
pub fn is_instrumented() -> bool {
    let mark: usize;
    // SAFETY: reads the symbol's address from the table: 0 where nobody defines it.
    unsafe {
        asm!(
            ".weak raddle_race_instrumented",
            "mov {mark}, qword ptr [rip + raddle_race_instrumented@GOTPCREL]",
            mark = out(reg) mark,
            options(nostack, preserves_flags, readonly),
        );
    }
    mark != 0
}
