//! Streams of the C library: the lock that each has, and what is read and written through it.
//!
//! | call | order |
//! | --- | --- |
//! | `flockfile` and its like | as of any lock, at the stream |
//! | whatever else takes the lock inside | before the call it releases to the stream, after the call it acquires |
//! | writes | before it, also to the stream's descriptor: what others have put into its buffer may go with it |
//! | reads | after it, also from the descriptor |
//!
//! Where two calls overlap, that may be an order too many. Everybody merges: who waits for the lock
//! has released already.
//!
//! # Why not
//! Taking the lock ourselves around the call, which would be exact: a thread that is cancelled in
//! the call would keep it.

use std::ffi::{c_char, c_int, c_long, c_void};

use libc::{DIR, FILE, fpos_t, off_t, wchar_t};

use super::real::{keep_errno, real};
use super::{desc, watched};
use crate::state::ENABLED;
use crate::{acquire, enabled, release_merge};

/// C's `wint_t`, which the libc crate does not have.
type Wint = u32;

unsafe extern "C" {
    #[link_name = "stdout"]
    static STDOUT: *mut FILE;
    #[link_name = "stderr"]
    static STDERR: *mut FILE;
    #[link_name = "stdin"]
    static STDIN: *mut FILE;
}

/// Makes the linker take this module: nothing else may name its symbols before C code does.
#[inline(never)]
pub(super) fn init() {}

fn stdout() -> *mut FILE {
    // SAFETY: the C library's variable.
    unsafe { STDOUT }
}

fn stderr() -> *mut FILE {
    // SAFETY: as above.
    unsafe { STDERR }
}

fn stdin() -> *mut FILE {
    // SAFETY: as above.
    unsafe { STDIN }
}

/// What a call does with its stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Reads,
    Writes,
    /// Both, as one that moves in the stream.
    Moves,
    /// None of these.
    Asks,
}

/// A call of the C library that takes the stream's lock, by `f`. No stream: all of them.
#[inline(always)]
fn uses<R>(file: *mut FILE, way: Way, f: impl FnOnce() -> R) -> R {
    #[cold]
    #[inline(never)]
    fn watch<R>(file: *mut FILE, way: Way, f: impl FnOnce() -> R) -> R {
        if file.is_null() {
            return f();
        }
        begins(file, way);
        let result = f();
        keep_errno(|| {
            acquire(file.addr());
            if matches!(way, Way::Reads | Way::Moves) {
                desc::observe(descriptor(file));
            }
        });
        result
    }
    if watched().is_none() {
        f()
    } else {
        watch(file, way, f)
    }
}

fn begins(file: *mut FILE, way: Way) {
    release_merge(file.addr());
    if matches!(way, Way::Writes | Way::Moves) {
        acquire(file.addr());
        desc::publish(descriptor(file));
    }
}

/// The stream's descriptor; negative, if it has none.
fn descriptor(file: *mut FILE) -> c_int {
    // SAFETY: the caller's open stream.
    keep_errno(|| unsafe { libc::fileno(file) })
}

/// The stream is about to be closed: who does it has what all others have done with it.
pub(super) fn closes(file: *mut FILE) {
    if watched().is_some() {
        begins(file, Way::Writes);
    }
}

/// C functions that take the lock of the stream which the last expression is.
macro_rules! on_stream {
    ($($NAME:ident $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty = $way:ident $file:expr;)*) => {
        real! { $(static $NAME: fn $name($($ty),*) -> $ret;)* }
        $(#[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name($($arg: $ty),*) -> $ret {
            // SAFETY: the caller's arguments.
            uses($file, Way::$way, move || unsafe { $NAME.get()($($arg),*) })
        })*
    };
}

on_stream! {
    FPUTS fputs(text: *const c_char, file: *mut FILE) -> c_int = Writes file;
    PUTS puts(text: *const c_char) -> c_int = Writes stdout();
    FPUTC fputc(c: c_int, file: *mut FILE) -> c_int = Writes file;
    PUTC putc(c: c_int, file: *mut FILE) -> c_int = Writes file;
    PUTCHAR putchar(c: c_int) -> c_int = Writes stdout();
    PUTW putw(word: c_int, file: *mut FILE) -> c_int = Writes file;
    FWRITE fwrite(from: *const c_void, size: usize, n: usize, file: *mut FILE) -> usize = Writes file;
    FPUTWC fputwc(c: wchar_t, file: *mut FILE) -> Wint = Writes file;
    PUTWC putwc(c: wchar_t, file: *mut FILE) -> Wint = Writes file;
    PUTWCHAR putwchar(c: wchar_t) -> Wint = Writes stdout();
    FPUTWS fputws(text: *const wchar_t, file: *mut FILE) -> c_int = Writes file;
    PERROR perror(text: *const c_char) -> () = Writes stderr();
    FFLUSH fflush(file: *mut FILE) -> c_int = Writes file;
    FGETS fgets(to: *mut c_char, n: c_int, file: *mut FILE) -> *mut c_char = Reads file;
    FGETC fgetc(file: *mut FILE) -> c_int = Reads file;
    GETC getc(file: *mut FILE) -> c_int = Reads file;
    GETCHAR getchar() -> c_int = Reads stdin();
    GETW getw(file: *mut FILE) -> c_int = Reads file;
    FREAD fread(to: *mut c_void, size: usize, n: usize, file: *mut FILE) -> usize = Reads file;
    GETLINE getline(to: *mut *mut c_char, n: *mut usize, file: *mut FILE) -> isize = Reads file;
    GETDELIM getdelim(to: *mut *mut c_char, n: *mut usize, end: c_int, file: *mut FILE) -> isize = Reads file;
    FGETWC fgetwc(file: *mut FILE) -> Wint = Reads file;
    GETWC getwc(file: *mut FILE) -> Wint = Reads file;
    GETWCHAR getwchar() -> Wint = Reads stdin();
    FGETWS fgetws(to: *mut wchar_t, n: c_int, file: *mut FILE) -> *mut wchar_t = Reads file;
    UNGETC ungetc(c: c_int, file: *mut FILE) -> c_int = Asks file;
    UNGETWC ungetwc(c: Wint, file: *mut FILE) -> Wint = Asks file;
    FSEEK fseek(file: *mut FILE, at: c_long, from: c_int) -> c_int = Moves file;
    FSEEKO fseeko(file: *mut FILE, at: off_t, from: c_int) -> c_int = Moves file;
    FSEEKO64 fseeko64(file: *mut FILE, at: off_t, from: c_int) -> c_int = Moves file;
    REWIND rewind(file: *mut FILE) -> () = Moves file;
    FSETPOS fsetpos(file: *mut FILE, at: *const fpos_t) -> c_int = Moves file;
    FSETPOS64 fsetpos64(file: *mut FILE, at: *const fpos_t) -> c_int = Moves file;
    FTELL ftell(file: *mut FILE) -> c_long = Asks file;
    FTELLO ftello(file: *mut FILE) -> off_t = Asks file;
    FTELLO64 ftello64(file: *mut FILE) -> off_t = Asks file;
    FGETPOS fgetpos(file: *mut FILE, to: *mut fpos_t) -> c_int = Asks file;
    FGETPOS64 fgetpos64(file: *mut FILE, to: *mut fpos_t) -> c_int = Asks file;
    CLEARERR clearerr(file: *mut FILE) -> () = Asks file;
    FEOF feof(file: *mut FILE) -> c_int = Asks file;
    FERROR ferror(file: *mut FILE) -> c_int = Asks file;
    SETVBUF setvbuf(file: *mut FILE, buffer: *mut c_char, mode: c_int, n: usize) -> c_int = Writes file;
    SETBUF setbuf(file: *mut FILE, buffer: *mut c_char) -> () = Writes file;
    VPRINTF vprintf(format: *const c_char, args: *mut c_void) -> c_int = Writes stdout();
    VFPRINTF vfprintf(file: *mut FILE, format: *const c_char, args: *mut c_void) -> c_int = Writes file;
    VPRINTF_CHK __vprintf_chk(flag: c_int, format: *const c_char, args: *mut c_void) -> c_int = Writes stdout();
    VFPRINTF_CHK __vfprintf_chk(file: *mut FILE, flag: c_int, format: *const c_char, args: *mut c_void) -> c_int = Writes file;
    VSCANF __isoc99_vscanf(format: *const c_char, args: *mut c_void) -> c_int = Reads stdin();
    VFSCANF __isoc99_vfscanf(file: *mut FILE, format: *const c_char, args: *mut c_void) -> c_int = Reads file;
}

real! {
    static FLOCKFILE: fn flockfile(*mut FILE) -> ();
    static FTRYLOCKFILE: fn ftrylockfile(*mut FILE) -> c_int;
    static FUNLOCKFILE: fn funlockfile(*mut FILE) -> ();
    static PRINTF: fn printf() -> ();
    static FPRINTF: fn fprintf() -> ();
    static PRINTF_CHK: fn __printf_chk() -> ();
    static FPRINTF_CHK: fn __fprintf_chk() -> ();
    static SCANF: fn __isoc99_scanf() -> ();
    static FSCANF: fn __isoc99_fscanf() -> ();
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn flockfile(file: *mut FILE) {
    // SAFETY: the caller's stream.
    unsafe { FLOCKFILE.get()(file) };
    if watched().is_some() {
        keep_errno(|| acquire(file.addr()));
    }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn ftrylockfile(file: *mut FILE) -> c_int {
    // SAFETY: the caller's stream.
    let error = unsafe { FTRYLOCKFILE.get()(file) };
    if error == 0 && watched().is_some() {
        keep_errno(|| acquire(file.addr()));
    }
    error
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn funlockfile(file: *mut FILE) {
    if watched().is_some() {
        release_merge(file.addr());
    }
    // SAFETY: the caller's stream.
    unsafe { FUNLOCKFILE.get()(file) };
}

/// C functions that open a stream.
macro_rules! openers {
    ($($NAME:ident $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty;)*) => {
        real! { $(static $NAME: fn $name($($ty),*) -> *mut $ret;)* }
        $(#[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name($($arg: $ty),*) -> *mut $ret {
            // SAFETY: the caller's arguments.
            opened(unsafe { $NAME.get()($($arg),*) })
        })*
    };
}

openers! {
    FOPEN fopen(path: *const c_char, mode: *const c_char) -> FILE;
    FOPEN64 fopen64(path: *const c_char, mode: *const c_char) -> FILE;
    TMPFILE tmpfile() -> FILE;
    TMPFILE64 tmpfile64() -> FILE;
    POPEN popen(command: *const c_char, mode: *const c_char) -> FILE;
}

/// The stream, if there is one, is new, and so is its descriptor.
#[inline(always)]
fn opened(file: *mut FILE) -> *mut FILE {
    if enabled() && !file.is_null() {
        keep_errno(|| desc::made(descriptor(file), desc::Kind::File));
    }
    file
}

real! {
    static FREOPEN: fn freopen(*const c_char, *const c_char, *mut FILE) -> *mut FILE;
    static FREOPEN64: fn freopen64(*const c_char, *const c_char, *mut FILE) -> *mut FILE;
    static PCLOSE: fn pclose(*mut FILE) -> c_int;
    static CLOSEDIR: fn closedir(*mut DIR) -> c_int;
}

/// The stream is opened anew, by `f`.
#[inline(always)]
fn reopens(file: *mut FILE, f: impl FnOnce() -> *mut FILE) -> *mut FILE {
    if !enabled() {
        return f();
    }
    closes(file);
    desc::forget(descriptor(file));
    opened(f())
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn freopen(
    path: *const c_char,
    mode: *const c_char,
    file: *mut FILE,
) -> *mut FILE {
    // SAFETY: the caller's arguments.
    reopens(file, move || unsafe { FREOPEN.get()(path, mode, file) })
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn freopen64(
    path: *const c_char,
    mode: *const c_char,
    file: *mut FILE,
) -> *mut FILE {
    // SAFETY: the caller's arguments.
    reopens(file, move || unsafe { FREOPEN64.get()(path, mode, file) })
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn pclose(file: *mut FILE) -> c_int {
    if enabled() {
        closes(file);
        desc::forget(descriptor(file));
    }
    // SAFETY: the caller's stream.
    unsafe { PCLOSE.get()(file) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn closedir(directory: *mut DIR) -> c_int {
    if enabled() && !directory.is_null() {
        // SAFETY: the caller's open directory.
        desc::forget(unsafe { libc::dirfd(directory) });
    }
    // SAFETY: the caller's directory.
    unsafe { CLOSEDIR.get()(directory) }
}

/// C functions with any number of arguments, of which so many are named. With race mode off libc's
/// gets the call as it came. Else, and where libc's has not been found yet, the arguments are made
/// a `va_list`, as the System V ABI has it (3.5.7), and the function goes on in the one that takes
/// that.
macro_rules! variadic {
    ($($REAL:ident $find:ident $name:ident = $body:ident $named:literal $list:literal;)*) => {$(
        extern "C" fn $find() {
            $REAL.get();
        }

        // SAFETY: keeps all registers for libc's function; else saves those that arguments come in,
        // below a frame of its own, and passes the list in the register after those of the named
        // arguments.
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name() {
            std::arch::naked_asm!(
                ".cfi_startproc",
                "mov r11, [rip + {real}]",
                "test r11, r11",
                "jz 2f",
                "cmp byte ptr [rip + {enabled}], 0",
                "jne 2f",
                "jmp r11",
                "2:",
                "push rbp",
                ".cfi_adjust_cfa_offset 8",
                ".cfi_rel_offset rbp, 0",
                "mov rbp, rsp",
                ".cfi_def_cfa_register rbp",
                "sub rsp, 208",
                "mov [rsp], rdi",
                "mov [rsp + 8], rsi",
                "mov [rsp + 16], rdx",
                "mov [rsp + 24], rcx",
                "mov [rsp + 32], r8",
                "mov [rsp + 40], r9",
                "movaps [rsp + 48], xmm0",
                "movaps [rsp + 64], xmm1",
                "movaps [rsp + 80], xmm2",
                "movaps [rsp + 96], xmm3",
                "movaps [rsp + 112], xmm4",
                "movaps [rsp + 128], xmm5",
                "movaps [rsp + 144], xmm6",
                "movaps [rsp + 160], xmm7",
                "call {find}",
                "mov rdi, [rsp]",
                "mov rsi, [rsp + 8]",
                "mov rdx, [rsp + 16]",
                "mov rcx, [rsp + 24]",
                concat!("mov dword ptr [rsp + 176], 8 * ", $named),
                "mov dword ptr [rsp + 180], 48",
                "lea r11, [rbp + 16]",
                "mov [rsp + 184], r11",
                "mov [rsp + 192], rsp",
                concat!("lea ", $list, ", [rsp + 176]"),
                "call {body}",
                "leave",
                ".cfi_def_cfa rsp, 8",
                "ret",
                ".cfi_endproc",
                real = sym $REAL,
                enabled = sym ENABLED,
                find = sym $find,
                body = sym $body,
            )
        }
    )*};
}

variadic! {
    PRINTF find_printf printf = vprintf 1 "rsi";
    FPRINTF find_fprintf fprintf = vfprintf 2 "rdx";
    PRINTF_CHK find_printf_chk __printf_chk = __vprintf_chk 2 "rdx";
    FPRINTF_CHK find_fprintf_chk __fprintf_chk = __vfprintf_chk 3 "rcx";
    SCANF find_scanf __isoc99_scanf = __isoc99_vscanf 1 "rsi";
    FSCANF find_fscanf __isoc99_fscanf = __isoc99_vfscanf 2 "rdx";
}
