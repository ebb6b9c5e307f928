//! Shadow at its first touch by inlined code, or by a look at a range (`access::is_known_range`): it looks at a cell without asking whether there is one, and where there is none yet, the
//! fault handler maps it.
//!
//! # Which memory
//! The address of the fault is in plane A, and folded: eight regions of the address space share it. The program was about to access
//! memory of one of them, so it is that in which something is mapped there (`mincore` tells) that is not shadow itself: shadow has none, and
//! the access would fault for ever. Where nothing is, the program is about to fault by itself, and gets its shadow for that: the lowest
//! region's, where null pointers are.
//!
//! With race mode off there are no cells, and inlined code expects to find none: then what is mapped is the kernel's page of zeros, to be read.
//!
//! # Blocking
//! Runs in a signal handler, of a fault in compiled code or such a look, on any thread: also on the collector's while the world stands,
//! and in a handler that has interrupted the detector. It waits for no lock but that of `shadow::map_chunks`, whose holder is never
//! interrupted.

use std::arch::asm;

use crate::{enabled, interpose, shadow};

const PAGE: usize = 4096;

/// Before all other constructors, among which there may be instrumented ones.
#[used]
#[unsafe(link_section = ".init_array.00001")]
static BEFORE_ALL: extern "C" fn() = before_all;

extern "C" fn before_all() {
    if is_instrumented() {
        interpose::take_faults();
    }
}

/// Whether there is instrumented code in the program: `cargo raddle` has the linker define a symbol.
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

/// Whether the fault at `addr` was for want of shadow, which is there now.
pub(crate) fn map(addr: usize) -> bool {
    let Some(folded) = shadow::of_plane(addr) else {
        return false;
    };
    if !enabled() {
        shadow::map_zeros(folded);
        return true;
    }
    let page = folded & !(PAGE - 1);
    let is_mapped = |at: usize| {
        let mut residency = 0;
        let at = std::ptr::with_exposed_provenance_mut(at);
        // SAFETY: one page, one byte of answer; nothing of the page is touched.
        unsafe { libc::mincore(at, PAGE, &mut residency) == 0 }
    };
    let errno = crate::mem::KeptErrno::new();
    let memory = shadow::unfolded(page, is_mapped);
    drop(errno);
    shadow::map_chunks(memory, 1);
    true
}
