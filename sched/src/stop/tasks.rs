//! The threads of the process, as the kernel tells of them in `/proc/self`, read without
//! allocating.
//!
//! # Blocking
//!
//! System calls only. Usable with the world stopped.

use super::buf::Buf;
use super::file::File;
use std::ffi::CStr;
use std::mem::MaybeUninit;

const READ_BYTES: usize = 16 << 10;

/// What the kernel says of one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status {
    /// `R`unning, `S`leeping, `D`isk, `Z`ombie, ...
    pub(super) state: u8,
    pub(super) blocked: u64,
}

/// `/proc/self/task`: opened before the first signal, so that a want of descriptors shows in time.
#[derive(Debug)]
pub(super) struct Tasks(File);

impl Tasks {
    pub(super) fn open() -> Option<Tasks> {
        File::open(libc::AT_FDCWD, c"/proc/self/task").map(Tasks)
    }

    /// Lists all threads. False: the list may lack some, since a thread ended meanwhile.
    ///
    /// The kernel finds its place again by counting when the thread it had come to is gone; so the
    /// list is whole only if it is as long as the number of threads.
    pub(super) fn list(&self, to: &mut Buf<i32>) -> bool {
        to.clear();
        self.0.rewind();
        let before = self.count();
        let mut buffer = Aligned([0; READ_BYTES]);
        loop {
            // SAFETY: the buffer is as large as said.
            let n = unsafe {
                libc::syscall(
                    libc::SYS_getdents64,
                    self.0.fd(),
                    buffer.0.as_mut_ptr(),
                    READ_BYTES,
                )
            };
            let Ok(n @ 1..) = usize::try_from(n) else {
                break;
            };
            each_entry(&buffer.0[..n], |name| {
                decimal(name).into_iter().for_each(|tid| to.push(tid))
            });
        }
        before.is_some_and(|n| n == to.len()) && before == self.count()
    }

    /// The number of threads: the directory's links, but for two.
    fn count(&self) -> Option<usize> {
        let mut stat = MaybeUninit::<libc::stat>::uninit();
        // SAFETY: room for the result.
        if unsafe { libc::fstat(self.0.fd(), stat.as_mut_ptr()) } != 0 {
            return None;
        }
        // SAFETY: filled by the call.
        let stat = unsafe { stat.assume_init() };
        usize::try_from(stat.st_nlink).ok()?.checked_sub(2)
    }

    /// What thread `tid` does. None: it is gone, or cannot be looked at.
    pub(super) fn status(&self, tid: i32) -> Option<Status> {
        let mut buffer = [0; 4096];
        parse_status(self.read_of(tid, b"/status\0", &mut buffer)?)
    }

    /// Whether `tid` is a thread that the kernel runs in this process, for io_uring: it never
    /// returns to the program.
    pub(super) fn is_kernels(&self, tid: i32) -> bool {
        /// `PF_IO_WORKER`, and `PF_USER_WORKER` of Linux 6.4 (`<linux/sched.h>`).
        const WORKER: u64 = 0x10 | 0x4000;
        let mut buffer = [0; 1024];
        let text = self.read_of(tid, b"/stat\0", &mut buffer);
        text.and_then(parse_flags)
            .is_some_and(|flags| flags & WORKER != 0)
    }

    /// The start of a file of thread `tid`.
    fn read_of<'a>(&self, tid: i32, file: &[u8], buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        let mut path = [0; 32];
        let file = File::open(self.0.fd(), path_of(tid, file, &mut path)?)?;
        Some(file.read(buffer))
    }
}

#[repr(align(8))]
struct Aligned([u8; READ_BYTES]);

/// Calls `f` with the name in each record of a directory: inode and offset of 8 bytes each, length
/// of 2, type of 1, name.
fn each_entry(mut records: &[u8], mut f: impl FnMut(&[u8])) {
    while let Some(&[low, high]) = records.get(16..18) {
        let length = usize::from(u16::from_le_bytes([low, high]));
        let (Some(record), true) = (records.get(..length), length > 19) else {
            return;
        };
        let name = &record[19..];
        f(name.split(|&b| b == 0).next().unwrap_or(name));
        records = &records[length..];
    }
}

fn decimal(text: &[u8]) -> Option<i32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn hex(text: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

/// The path of thread `tid` with `tail`, in `buffer`.
fn path_of<'a>(tid: i32, tail: &[u8], buffer: &'a mut [u8; 32]) -> Option<&'a CStr> {
    let mut digits = [0; 20];
    let number = crate::sys::decimal(u64::try_from(tid).ok()?, &mut digits);
    buffer[..number.len()].copy_from_slice(number.as_bytes());
    buffer[number.len()..number.len() + tail.len()].copy_from_slice(tail);
    CStr::from_bytes_until_nul(buffer).ok()
}

fn parse_status(text: &[u8]) -> Option<Status> {
    let field = |name: &[u8]| {
        let line = text
            .split(|&b| b == b'\n')
            .find(|line| line.starts_with(name))?;
        Some(line[name.len()..].trim_ascii())
    };
    Some(Status {
        state: *field(b"State:")?.first()?,
        blocked: hex(field(b"SigBlk:")?)?,
    })
}

/// The seventh field behind the name, which ends with the last bracket.
fn parse_flags(stat: &[u8]) -> Option<u64> {
    let name_end = stat.iter().rposition(|&b| b == b')')?;
    let mut fields = stat[name_end + 1..].trim_ascii().split(|&b| b == b' ');
    std::str::from_utf8(fields.nth(6)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_this_thread_and_others() {
        let tasks = Tasks::open().expect("proc is mounted");
        // SAFETY: no preconditions.
        let main = unsafe { libc::getpid() };
        // SAFETY: no preconditions.
        let own = unsafe { libc::gettid() };
        let mut list = Buf::new();
        // Other tests start and end threads: the list is whole sooner or later.
        while !tasks.list(&mut list) {}
        assert!(list.contains(&own) && list.contains(&main));
    }

    #[test]
    fn the_status_of_a_thread_is_read() {
        let tasks = Tasks::open().expect("proc is mounted");
        // SAFETY: no preconditions.
        let own = unsafe { libc::gettid() };
        let before = crate::signal::block_all();
        let status = tasks.status(own).expect("this thread lives");
        crate::signal::block_only(&before);
        assert_eq!(status.state, b'R');
        assert_ne!(status.blocked >> (libc::SIGURG - 1) & 1, 0);
        assert_eq!(tasks.status(i32::MAX), None);
    }

    #[test]
    fn flags_are_found_behind_any_name() {
        let stat = b"12 (a) b) c) S 1 2 3 0 -1 4210768 0 0\n";
        assert_eq!(parse_flags(stat), Some(4_210_768));
        assert_eq!(parse_flags(b"12 (a"), None);
    }

    #[test]
    fn a_status_without_its_fields_is_refused() {
        let text = b"Name:\tx\nState:\tS (sleeping)\nSigBlk:\t0000000000400000\n";
        let status = Status {
            state: b'S',
            blocked: 1 << 22,
        };
        assert_eq!(parse_status(text), Some(status));
        assert_eq!(parse_status(b"Name:\tx\n"), None);
        assert_eq!(parse_status(b""), None);
    }
}
