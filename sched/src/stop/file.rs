//! A file, read without allocating, and not by the C library's functions, which race mode sees: a
//! stopped thread may hold a lock of the detector.

use std::ffi::CStr;

/// An open file.
#[derive(Debug)]
pub(super) struct File(i32);

impl File {
    /// Opens `path`, beside the directory `at` if it is relative.
    pub(super) fn open(at: i32, path: &CStr) -> Option<File> {
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        // SAFETY: a C string.
        let fd = unsafe { libc::syscall(libc::SYS_openat, at, path.as_ptr(), flags) };
        i32::try_from(fd).ok().filter(|fd| *fd >= 0).map(File)
    }

    pub(super) fn fd(&self) -> i32 {
        self.0
    }

    pub(super) fn rewind(&self) {
        // SAFETY: no memory is touched.
        unsafe { libc::lseek(self.0, 0, libc::SEEK_SET) };
    }

    /// What could be read: nothing at the end, or where the kernel refuses.
    pub(super) fn read<'a>(&self, to: &'a mut [u8]) -> &'a [u8] {
        // SAFETY: the pointer and length are of one slice.
        let n = unsafe { libc::syscall(libc::SYS_read, self.0, to.as_mut_ptr(), to.len()) };
        &to[..usize::try_from(n).unwrap_or(0)]
    }

    /// As [`read`](Self::read), from byte `offset` on.
    pub(super) fn read_at<'a>(&self, to: &'a mut [u8], offset: usize) -> &'a [u8] {
        // SAFETY: the pointer and length are of one slice.
        let n =
            unsafe { libc::syscall(libc::SYS_pread64, self.0, to.as_mut_ptr(), to.len(), offset) };
        &to[..usize::try_from(n).unwrap_or(0)]
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: ours.
        unsafe { libc::syscall(libc::SYS_close, self.0) };
    }
}
