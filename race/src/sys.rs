//! System calls that the interposed functions of the C library do not see.
//!
//! Raddle's own memory is mapped by these: it is no part of what is watched, and it is mapped
//! inside the allocator and inside the detector, where no event may begin. They are what the C
//! library's functions are, without a cancellation point; errno tells why one failed.

use std::ffi::{c_int, c_long, c_void};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The addresses of Raddle's own bookkeeping, which holds no handles: the collector does not look
/// there. Between the heap's arena and the detector's shadow, where Linux puts nothing by itself.
pub const BOOKKEEPING: Range<usize> = 0x0300_0000_0000..0x0400_0000_0000;

/// What comes next.
static NEXT: AtomicUsize = AtomicUsize::new(BOOKKEEPING.start);

/// Maps `size` bytes of zeros for bookkeeping that lasts as long as the process; `MAP_FAILED` where
/// there is no memory.
///
/// Addresses are taken once: `NEXT` is a counter, which orders nothing.
pub fn map_bookkeeping(size: usize) -> *mut c_void {
    const PAGE: usize = 4096;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let size = size.next_multiple_of(PAGE);
    loop {
        let wanted = NEXT.fetch_add(size, Relaxed);
        if size > BOOKKEEPING.end.saturating_sub(wanted) {
            // A terabyte was not enough. Anywhere will do, though the collector looks there.
            // SAFETY: a fresh mapping touches nothing that exists.
            return unsafe { map(std::ptr::null_mut(), size, protection, flags) };
        }
        let at = std::ptr::with_exposed_provenance_mut(wanted);
        // A kernel before 4.17 takes the address for a hint, and maps elsewhere if it must.
        // SAFETY: NOREPLACE refuses to touch what is mapped there.
        let at = unsafe { map(at, size, protection, flags | libc::MAP_FIXED_NOREPLACE) };
        let is_taken = || std::io::Error::last_os_error().raw_os_error() == Some(libc::EEXIST);
        if at != libc::MAP_FAILED || !is_taken() {
            return at;
        }
    }
}

/// As `mmap` without a file.
///
/// # Safety
/// As for `mmap`: with `MAP_FIXED` it replaces what is there.
pub unsafe fn map(at: *mut c_void, size: usize, protection: c_int, flags: c_int) -> *mut c_void {
    // The kernel takes whole words, of which a variadic argument of a smaller type leaves half undefined.
    let [protection, flags, no_file, offset] = [protection, flags, -1, 0].map(c_long::from);
    // SAFETY: by the contract.
    let at = unsafe { libc::syscall(libc::SYS_mmap, at, size, protection, flags, no_file, offset) };
    pointer(at)
}

/// As `munmap`.
///
/// # Safety
/// As for `munmap`: nothing refers to the memory any more.
pub unsafe fn unmap(at: *mut c_void, size: usize) -> c_int {
    // SAFETY: by the contract.
    unsafe { libc::syscall(libc::SYS_munmap, at, size) as c_int }
}

/// As `mremap` with `MREMAP_MAYMOVE`.
///
/// # Safety
/// As for `mremap`: nothing refers to the memory at its old place any more, if it moves.
pub unsafe fn remap(at: *mut c_void, old: usize, new: usize) -> *mut c_void {
    // SAFETY: by the contract.
    let at = unsafe { libc::syscall(libc::SYS_mremap, at, old, new, libc::MREMAP_MAYMOVE) };
    pointer(at)
}

/// As `write`.
pub(crate) fn write(fd: c_int, bytes: &[u8]) -> isize {
    // SAFETY: the slice is readable for its length.
    unsafe { libc::syscall(libc::SYS_write, fd, bytes.as_ptr(), bytes.len()) as isize }
}

/// Shows the start and the end of each mapping of the process, and whether it can be written; none
/// without `/proc`.
pub(crate) fn each_mapping(show: &mut dyn FnMut(usize, usize, bool)) {
    let path = c"/proc/self/maps".as_ptr();
    // SAFETY: a C string.
    let fd = unsafe { libc::syscall(libc::SYS_open, path, libc::O_RDONLY | libc::O_CLOEXEC) };
    let mut buffer = [0_u8; 2048];
    let mut line = MappingLine::default();
    loop {
        // SAFETY: room for so many bytes. A descriptor that is none is refused.
        let read = unsafe { libc::syscall(libc::SYS_read, fd, &raw mut buffer, buffer.len()) };
        let Some(read) = usize::try_from(read).ok().filter(|&read| read > 0) else {
            break;
        };
        for &byte in &buffer[..read] {
            if let Some((start, end, is_writable)) = line.take(byte) {
                show(start, end, is_writable);
            }
        }
    }
    // SAFETY: opened above, or refused.
    unsafe { libc::syscall(libc::SYS_close, fd) };
}

/// A line of `/proc/self/maps` that is being read: `START-END rwxp ...`, the numbers in hexadecimal.
#[derive(Debug, Default)]
struct MappingLine {
    start: usize,
    number: usize,
    /// Characters after the numbers.
    after: usize,
}

impl MappingLine {
    fn take(&mut self, byte: u8) -> Option<(usize, usize, bool)> {
        match (char::from(byte).to_digit(16), byte) {
            (_, b'\n') => *self = Self::default(),
            (_, _) if self.after != 0 => {
                self.after += 1;
                if self.after == "  r".len() {
                    return Some((self.start, self.number, byte == b'w'));
                }
            }
            (Some(digit), _) => self.number = self.number << 4 | digit as usize,
            (None, b'-') => self.start = std::mem::take(&mut self.number),
            (None, _) => self.after = 1,
        }
        None
    }
}

/// Where the data of the program ends, which grows by `brk`.
pub(crate) fn end_of_data() -> usize {
    // SAFETY: asks only.
    unsafe { libc::syscall(libc::SYS_brk, 0) as usize }
}

/// While it lives, no signal handler runs on this thread.
#[derive(Debug)]
pub(crate) struct SignalsBlocked(u64);

impl SignalsBlocked {
    pub(crate) fn new() -> SignalsBlocked {
        SignalsBlocked(set_mask(u64::MAX))
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        set_mask(self.0);
    }
}

/// Sets the thread's mask of blocked signals, returns the one before.
fn set_mask(mask: u64) -> u64 {
    let mut before = 0_u64;
    // SAFETY: a mask of the kernel's size, and room for another.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            &raw mut before,
            size_of::<u64>(),
        )
    };
    before
}

/// What a system call returned as an address: -1 is `MAP_FAILED`.
pub(crate) fn pointer(at: c_long) -> *mut c_void {
    std::ptr::with_exposed_provenance_mut(at as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mapped_is_shown() {
        let (on_stack, at_end) = (0_u8, end_of_data());
        let wanted = [
            (&raw const on_stack).addr(),
            what_is_mapped_is_shown as *const () as usize,
            at_end - 1,
        ];
        let mut found = [false; 3];
        let mut before = 0;
        each_mapping(&mut |start, end, is_writable| {
            assert!(before <= start && start < end, "{start:x}-{end:x}");
            before = end;
            for (place, (found, wanted)) in found.iter_mut().zip(wanted).enumerate() {
                if (start..end).contains(&wanted) {
                    *found = true;
                    assert_eq!(is_writable, place != 1, "all but code can be written");
                }
            }
        });
        assert_eq!(found, [true; 3]);
    }
}
