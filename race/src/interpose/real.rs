//! libc's own functions: found once, by `dlsym`, and called by those that stand in for them.
//!
//! # Memory ordering
//! A function's address is the same whoever finds it, and its code needs no publishing: Relaxed.

use std::ffi::{CStr, c_int};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The next definition of a function after ours: libc's. `F` is its type, a function pointer.
#[repr(C)]
pub(super) struct Real<F> {
    /// Its address; 0: not found yet. First, where assembly looks for it.
    at: AtomicUsize,
    name: &'static CStr,
    version: Option<&'static CStr>,
    of: PhantomData<F>,
}

// SAFETY: holds no `F`.
unsafe impl<F> Sync for Real<F> {}

impl<F: Copy> Real<F> {
    /// # Safety
    /// `F` is a function pointer of the type of libc's function `name`.
    pub(super) const unsafe fn new(name: &'static CStr) -> Real<F> {
        assert!(size_of::<F>() == size_of::<usize>());
        Real {
            at: AtomicUsize::new(0),
            name,
            version: None,
            of: PhantomData,
        }
    }

    /// A function of which libc has several; the wanted one is of this version.
    ///
    /// # Safety
    /// As for `new`.
    pub(super) const unsafe fn versioned(name: &'static CStr, version: &'static CStr) -> Real<F> {
        // SAFETY: by the contract.
        let mut real = unsafe { Real::new(name) };
        real.version = Some(version);
        real
    }

    /// The function.
    #[inline(always)]
    pub(super) fn get(&self) -> F {
        let at = match self.at.load(Relaxed) {
            0 => self.find(),
            at => at,
        };
        let at = std::ptr::with_exposed_provenance::<()>(at);
        // SAFETY: `F` is a function pointer of the right type by the contract of `new`.
        unsafe { std::mem::transmute_copy(&at) }
    }

    #[cold]
    #[inline(never)]
    fn find(&self) -> usize {
        let name = self.name.as_ptr();
        let mut at = std::ptr::null_mut();
        if let Some(version) = self.version {
            // SAFETY: C strings.
            at = unsafe { libc::dlvsym(libc::RTLD_NEXT, name, version.as_ptr()) };
        }
        if at.is_null() {
            // SAFETY: a C string.
            at = unsafe { libc::dlsym(libc::RTLD_NEXT, name) };
        }
        if at.is_null() {
            crate::mem::fatal("the C library lacks a function that the program calls");
        }
        let at = at.expose_provenance();
        self.at.store(at, Relaxed);
        at
    }
}

/// Runs `f` and leaves errno as it is.
pub(super) fn keep_errno<R>(f: impl FnOnce() -> R) -> R {
    let before = errno();
    let result = f();
    set_errno(before);
    result
}

/// This thread's errno.
pub(super) fn errno() -> c_int {
    // SAFETY: no preconditions.
    let at = unsafe { libc::__errno_location() };
    // SAFETY: this thread's errno.
    unsafe { *at }
}

/// Sets this thread's errno.
pub(super) fn set_errno(errno: c_int) {
    // SAFETY: no preconditions.
    let at = unsafe { libc::__errno_location() };
    // SAFETY: this thread's errno.
    unsafe { *at = errno };
}

/// `real! { fn name(a: A) -> R; }` makes a static `NAME` for libc's function.
macro_rules! real {
    ($($(#[$version:literal])? static $NAME:ident: fn $name:ident($($arg:ty),*) -> $ret:ty;)*) => {$(
        static $NAME: $crate::interpose::real::Real<unsafe extern "C-unwind" fn($($arg),*) -> $ret> =
            // SAFETY: the type is that of libc's function, by its header.
            unsafe { real!(@new $name $($version)?) };
    )*};
    (@new $name:ident) => { $crate::interpose::real::Real::new(real!(@c $name)) };
    (@new $name:ident $version:literal) => { $crate::interpose::real::Real::versioned(real!(@c $name), $version) };
    (@c $name:ident) => {
        match std::ffi::CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
            Ok(name) => name,
            Err(_) => panic!("a name without NUL"),
        }
    };
}
pub(super) use real;

/// Defines a C function that goes on in `$body` with one argument more: the address that it was called from. There is no way to ask
/// for that in Rust, but a function without a frame has it on top of the stack.
macro_rules! with_caller {
    ($(fn $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty = $body:ident;)*) => {$(
        // The body has the same arguments and one more, which goes to the next place of the C ABI.
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name($($arg: $ty),*) -> $ret {
            with_caller!(@asm $body; $($arg)*)
        }
        const _: unsafe extern "C-unwind" fn($($ty),*, usize) -> $ret = $body;
    )*};
    (@asm $body:ident; $a:ident) => { with_caller!(@go $body "rsi") };
    (@asm $body:ident; $a:ident $b:ident) => { with_caller!(@go $body "rdx") };
    (@asm $body:ident; $a:ident $b:ident $c:ident) => { with_caller!(@go $body "rcx") };
    (@asm $body:ident; $a:ident $b:ident $c:ident $d:ident) => { with_caller!(@go $body "r8") };
    (@asm $body:ident; $a:ident $b:ident $c:ident $d:ident $e:ident) => { with_caller!(@go $body "r9") };
    // The seventh argument lies on the stack, which is then aligned as a call needs it.
    (@asm $body:ident; $a:ident $b:ident $c:ident $d:ident $e:ident $f:ident) => {
        std::arch::naked_asm!(
            ".cfi_startproc",
            "push [rsp]",
            ".cfi_adjust_cfa_offset 8",
            "call {body}",
            "add rsp, 8",
            ".cfi_adjust_cfa_offset -8",
            "ret",
            ".cfi_endproc",
            body = sym $body,
        )
    };
    (@go $body:ident $register:literal) => {
        std::arch::naked_asm!(
            ".cfi_startproc",
            concat!("mov ", $register, ", [rsp]"),
            "jmp {body}",
            ".cfi_endproc",
            body = sym $body,
        )
    };
}
pub(super) use with_caller;
