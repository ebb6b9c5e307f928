//! Where the code of the C library lies: to tell a thread that waits in one of its system calls
//! from one that is in the program's code.

use std::ffi::{c_int, c_void};
use std::ops::Range;

/// The code of the C library, where it is a library of its own; else nothing.
pub(super) fn range() -> Range<usize> {
    // SAFETY: the name is a C string.
    let at = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"syscall".as_ptr()) };
    let mut found = (at.addr(), 0..0);
    // SAFETY: the callback has the type asked for and gets the pair it expects.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut found).cast()) };
    found.1
}

unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _: usize, found: *mut c_void) -> c_int {
    // SAFETY: dl_iterate_phdr passes a record that is valid during the call.
    let info = unsafe { &*info };
    // SAFETY: `found` is what `range` passed, and nothing else refers to it now.
    let (at, code) = unsafe { &mut *found.cast::<(usize, Range<usize>)>() };
    // SAFETY: null, or a C string; the program itself has an empty one.
    let is_program = info.dlpi_name.is_null() || unsafe { *info.dlpi_name } == 0;
    // SAFETY: the record's table of program headers.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    for header in headers {
        let start = (info.dlpi_addr + header.p_vaddr) as usize;
        let range = start..start + header.p_memsz as usize;
        let wanted = libc::PF_X | libc::PF_R;
        if header.p_type == libc::PT_LOAD
            && header.p_flags & wanted == wanted
            && range.contains(at)
            && !is_program
        {
            *code = range;
            return 1;
        }
    }
    0
}
