//! The kernel's contract with the scheduler: waiting and waking by futex, and the monotonic clock.

mod mutex;
pub(crate) mod thread;

pub(crate) use mutex::{Mutex, MutexGuard};
pub use raddle_alloc::Lock;
pub(crate) use raddle_alloc::Note;

/// Nanoseconds on the monotonic clock, as every deadline of the scheduler is given.
///
/// Never 0, so that 0 can mean "no deadline".
#[must_use]
pub fn now_ns() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

fn clock(id: libc::clockid_t) -> u64 {
    let mut ts = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `ts` is a valid timespec to write to, and the clock exists on every Linux.
    unsafe { libc::clock_gettime(id, &mut ts) };
    (ts.tv_sec as u64).wrapping_mul(1_000_000_000) + ts.tv_nsec as u64
}

/// Writes all of `bytes` to standard error, as far as it takes them. Async-signal-safe.
pub(crate) fn write_stderr(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        // SAFETY: the pointer and length are of one slice.
        let n = unsafe { libc::write(2, bytes.as_ptr().cast(), bytes.len()) };
        match usize::try_from(n) {
            Ok(n) if n > 0 => bytes = &bytes[n..],
            _ => return,
        }
    }
}

/// `n` in decimal, in `buffer`. Allocates nothing.
pub(crate) fn decimal(mut n: u64, buffer: &mut [u8; 20]) -> &str {
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    std::str::from_utf8(&buffer[at..]).unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn decimal_writes_what_format_writes() {
        for n in [0, 1, 9, 10, 12345, u64::MAX] {
            assert_eq!(decimal(n, &mut [0; 20]), n.to_string());
        }
    }
}
