//! Shadow at its first touch by inlined code: it looks at a cell without asking whether there is one, and where there is none yet, the
//! fault handler maps it.
//!
//! # Which memory
//! The address of the fault is in plane A, and folded: eight regions of the address space share it. The program was about to access
//! memory of one of them, so it is that in which something is mapped there (`mincore` tells). Where nothing is, the program is about to
//! fault by itself, and gets its shadow for that: the lowest region's, where null pointers are.
//!
//! # Blocking
//! Runs in a signal handler, of a fault in the program's code: no lock of the detector is held by this thread.

use crate::shadow;

const PAGE: usize = 4096;

/// Whether the fault at `addr` was for want of shadow, which is there now.
pub(crate) fn map(addr: usize) -> bool {
    let Some(folded) = shadow::of_plane(addr) else {
        return false;
    };
    let page = folded & !(PAGE - 1);
    let is_mapped = |at: &usize| {
        let mut residency = 0;
        let at = std::ptr::with_exposed_provenance_mut(*at);
        // SAFETY: one page, one byte of answer; nothing of the page is touched.
        unsafe { libc::mincore(at, PAGE, &mut residency) == 0 }
    };
    let errno = crate::mem::KeptErrno::new();
    let memory = shadow::unfolded(page).find(is_mapped).unwrap_or(page);
    drop(errno);
    shadow::map_chunks(memory, 1);
    true
}
