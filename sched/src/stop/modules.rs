//! Statics: the writable segments of all loaded modules.
//!
//! The dynamic linker tells of them only under its lock, which a stopped thread might hold. So the world is stopped from *inside* a
//! walk over the modules: the lock is ours then, and until the walk is over no module comes or goes. A snapshot taken before the
//! stop could lack a library that is opened in between, with all that its statics keep alive.
//!
//! The linker's lock for this walk is one of its own (`dl_load_write_lock`), held by others only for the few instructions that
//! link a module in or out and for walks like this one: by no thread that blocks signals, and by none inside the allocator.

use super::buf::Buf;
use crate::tls::ModuleTls;
use std::ffi::{c_int, c_void};
use std::ops::Range;

/// What the linker said.
#[derive(Debug)]
pub(super) struct Modules {
    segments: Buf<(usize, usize)>,
    /// Those with thread-local storage.
    pub(super) tls: Buf<ModuleTls>,
}

struct Walk<'a> {
    modules: &'a mut Modules,
    stop: Option<&'a mut dyn FnMut() -> bool>,
}

impl Modules {
    pub(super) const fn new() -> Modules {
        Modules {
            segments: Buf::new(),
            tls: Buf::new(),
        }
    }

    /// Calls `stop` with the linker's lock held, and if it returns true notes all modules. Returns what it returned.
    pub(super) fn look_after(&mut self, stop: &mut dyn FnMut() -> bool) -> bool {
        self.segments.clear();
        self.tls.clear();
        let mut walk = Walk {
            modules: self,
            stop: Some(stop),
        };
        // SAFETY: the callback has the type asked for and gets the `Walk` it expects.
        unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut walk).cast()) == 0 }
    }

    /// Every range of statics.
    pub(super) fn each(&self, mut show: impl FnMut(Range<usize>)) {
        self.segments
            .iter()
            .for_each(|&(start, end)| show(start..end));
    }
}

unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _: usize, walk: *mut c_void) -> c_int {
    // SAFETY: dl_iterate_phdr passes a record that is valid during the call.
    let info = unsafe { &*info };
    // SAFETY: `walk` is what `look_after` passed, and nothing else refers to it now.
    let walk = unsafe { &mut *walk.cast::<Walk<'_>>() };
    if let Some(stop) = walk.stop.take()
        && !stop()
    {
        return 1;
    }
    // SAFETY: the record's table of program headers.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    for header in headers {
        if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W != 0 {
            // Statics are aligned; what a segment has at its ends beyond whole words holds no pointer.
            let start = (info.dlpi_addr + header.p_vaddr) as usize;
            let end = start + header.p_memsz as usize;
            walk.modules.segments.push((start, end));
        }
        if header.p_type == libc::PT_TLS {
            walk.modules.tls.push(ModuleTls {
                number: info.dlpi_tls_modid,
                bytes: header.p_memsz as usize,
                align: header.p_align as usize,
            });
        }
    }
    0
}

/// The code of the C library, where it is a library of its own; else nothing.
pub(super) fn libc_code() -> Range<usize> {
    // SAFETY: the name is a C string.
    let at = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"syscall".as_ptr()) };
    let mut found = (at.addr(), 0..0);
    // SAFETY: the callback has the type asked for and gets the pair it expects.
    unsafe { libc::dl_iterate_phdr(Some(visit_code), (&raw mut found).cast()) };
    found.1
}

unsafe extern "C" fn visit_code(
    info: *mut libc::dl_phdr_info,
    _: usize,
    found: *mut c_void,
) -> c_int {
    // SAFETY: dl_iterate_phdr passes a record that is valid during the call.
    let info = unsafe { &*info };
    // SAFETY: `found` is what `libc_code` passed, and nothing else refers to it now.
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
