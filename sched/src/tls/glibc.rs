//! What the installed glibc says about its thread control blocks, found once at boot.
//!
//! Everything is asked of glibc itself, by `dlsym`: functions that are private to it but stable
//! since long before 2.31, and the numbers that it exports for debuggers (`_thread_db_*`).
//!
//! # Why not
//! Offsets by glibc version: distributions patch. Linking the private functions: a program would
//! then end with the dynamic linker's words, where it can be told what is missing and what to do.

use crate::arch;
use std::ffi::CStr;
use std::fmt;

/// What glibc lacks for goroutine-bound thread-locals.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing(pub(super) &'static CStr);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: no preconditions.
        let version = unsafe { libc::gnu_get_libc_version() };
        // SAFETY: it returned a constant C string.
        let version = unsafe { CStr::from_ptr(version) };
        write!(
            f,
            "glibc {} has no usable {}, which those of distributions have (2.31 to 2.41 are known to)",
            version.to_string_lossy(),
            self.0.to_string_lossy()
        )
    }
}

/// glibc's private functions and numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Glibc {
    /// `_dl_allocate_tls(tcb)`: a dtv for `tcb`, and the static blocks below it initialised.
    pub(super) allocate: unsafe extern "C" fn(*mut u8) -> *mut u8,
    /// `_dl_deallocate_tls(tcb, free_tcb)`: frees the dtv and the dynamic blocks.
    pub(super) deallocate: unsafe extern "C" fn(*mut u8, bool),
    /// `__call_tls_dtors()`: runs what `__cxa_thread_atexit_impl` registered.
    pub(super) call_dtors: unsafe extern "C" fn(),
    /// `__ctype_init()`: sets the character tables of the running thread.
    pub(super) ctype_init: unsafe extern "C" fn(),
    /// `__res_nclose(state)`: closes a resolver state.
    pub(super) res_close: unsafe extern "C" fn(*mut u8),
    /// Where a thread keeps the pointer to its resolver state (`__resp`), from the thread pointer.
    pub(super) res_state: isize,
    /// `__pthread_keys`: sequence number and destructor of every key.
    pub(super) keys: *const [usize; 2],
    /// Size of `struct pthread`, in bytes.
    pub(super) tcb_bytes: usize,
    /// Offset of `tid` in it.
    pub(super) tid: usize,
    /// Offset of `list`, its two links in glibc's list of threads.
    pub(super) list: usize,
    /// Offset of `specific`, its table of key blocks.
    pub(super) specific: usize,
    /// Offset of the restartable-sequence area from the thread pointer; from glibc 2.35.
    pub(super) rseq: Option<isize>,
    /// Size of static thread-local storage with its reserve and `struct pthread`, in bytes.
    pub(super) static_bytes: usize,
    /// Its alignment.
    pub(super) align: usize,
}

// SAFETY: functions and constant tables of glibc, the same for every thread.
unsafe impl Send for Glibc {}
// SAFETY: as above.
unsafe impl Sync for Glibc {}

/// Size and alignment of all static thread-local storage with its reserve and `struct pthread`, in
/// bytes: settled when the process starts.
pub(super) fn static_bytes() -> Result<(usize, usize), Missing> {
    type Info = unsafe extern "C" fn(*mut usize, *mut usize);
    // SAFETY: the type is that of glibc's source, as of 2.31 to 2.41.
    let info: Info = unsafe { function(c"_dl_get_tls_static_info")? };
    let (mut bytes, mut align) = (0, 0);
    // SAFETY: it stores two sizes.
    unsafe { info(&raw mut bytes, &raw mut align) };
    Ok((bytes, align))
}

/// A field as `_thread_db_*` describes it: bits of an element, elements, offset.
type Field = [u32; 3];

impl Glibc {
    /// Returns the offset of the word in which a goroutine's block names its OS thread's.
    pub(super) fn owner(&self) -> usize {
        self.tcb_bytes + size_of::<usize>()
    }

    /// Asks glibc for everything.
    pub(super) fn find() -> Result<Self, Missing> {
        let (static_bytes, align) = static_bytes()?;
        let [bits, count, specific] = number::<Field>(c"_thread_db_pthread_specific")?;
        check(
            bits * count == 32 * usize::BITS,
            c"_thread_db_pthread_specific",
        )?;
        // A key's record and a key's value are two words each; keys.rs relies on it.
        for name in [
            c"_thread_db_sizeof_pthread_key_struct",
            c"_thread_db_sizeof_pthread_key_data",
        ] {
            check(number::<u32>(name)? == 16, name)?;
        }
        let [tid_bits, _, tid] = number::<Field>(c"_thread_db_pthread_tid")?;
        check(tid_bits == 32, c"_thread_db_pthread_tid")?;
        let [list_bits, _, list] = number::<Field>(c"_thread_db_pthread_list")?;
        check(list_bits == 2 * usize::BITS, c"_thread_db_pthread_list")?;
        let rseq = number::<isize>(c"__rseq_offset").ok();
        Ok(Self {
            // SAFETY: the type is that of glibc's source.
            allocate: unsafe { function(c"_dl_allocate_tls")? },
            // SAFETY: as above.
            deallocate: unsafe { function(c"_dl_deallocate_tls")? },
            // SAFETY: as above.
            call_dtors: unsafe { function(c"__call_tls_dtors")? },
            // SAFETY: as above.
            ctype_init: unsafe { function(c"__ctype_init")? },
            // SAFETY: as above.
            res_close: unsafe { function(c"__res_nclose")? },
            // A thread-local symbol: its address is that of this thread's copy.
            res_state: symbol(c"__resp")? as isize - arch::thread_pointer() as isize,
            keys: symbol(c"__pthread_keys")?.cast(),
            tcb_bytes: number::<u32>(c"_thread_db_sizeof_pthread")? as usize,
            tid: tid as usize,
            list: list as usize,
            specific: specific as usize,
            rseq,
            static_bytes,
            align,
        })
    }
}

fn check(holds: bool, name: &'static CStr) -> Result<(), Missing> {
    if holds { Ok(()) } else { Err(Missing(name)) }
}

fn symbol(name: &'static CStr) -> Result<*mut libc::c_void, Missing> {
    // SAFETY: the name is a C string.
    let at = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    check(!at.is_null(), name)?;
    Ok(at)
}

/// Finds a constant.
fn number<T: Copy>(name: &'static CStr) -> Result<T, Missing> {
    let at = symbol(name)?.cast::<T>();
    // SAFETY: the symbol is a constant that glibc exports for debuggers, of the type asked for.
    Ok(unsafe { at.read_unaligned() })
}

/// Finds a function.
///
/// # Safety
/// `F` must be a function pointer of the symbol's true type.
unsafe fn function<F: Copy>(name: &'static CStr) -> Result<F, Missing> {
    const { assert!(size_of::<F>() == size_of::<usize>()) };
    let at = symbol(name)?;
    // SAFETY: the caller owes the type; a function pointer is one word.
    Ok(unsafe { std::mem::transmute_copy::<*mut libc::c_void, F>(&at) })
}
