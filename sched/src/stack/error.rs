//! Why a goroutine stack could not be had.

use std::fmt;

/// The reason why no stack could be allocated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StackError {
    /// More bytes were asked for than the largest stack has.
    TooLarge {
        /// What was asked for, in bytes.
        asked: usize,
        /// The largest possible stack, in bytes.
        max: usize,
    },
    /// The stack would be small enough, but every goroutine has the program's static thread-locals
    /// beside it.
    ThreadLocals {
        /// What was asked for the stack, in bytes.
        asked: usize,
        /// What a goroutine's thread-locals take, in bytes.
        thread_locals: usize,
        /// The most that both may have, in bytes.
        max: usize,
    },
    /// The kernel refused address space.
    Reserve {
        /// The size of the refused reservation, in bytes.
        bytes: usize,
        /// The error number of `mmap`.
        errno: i32,
    },
    /// No further guard page can be made: each costs memory mappings on this kernel.
    Guards {
        /// How many guard pages exist.
        guards: usize,
        /// The process's limit, `vm.max_map_count`.
        max_map_count: usize,
    },
    /// The kernel refused a guard page for another reason.
    Guard {
        /// The error number of `madvise` or `mprotect`.
        errno: i32,
    },
}

impl fmt::Display for StackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooLarge { asked, max } => write!(
                f,
                "a goroutine stack of {asked} bytes was asked for, the largest is {max} bytes; \
                 ask for less"
            ),
            Self::ThreadLocals {
                asked,
                thread_locals,
                max,
            } => write!(
                f,
                "a goroutine stack of {asked} bytes was asked for, and the program's static \
                 thread-locals take {thread_locals} bytes of every goroutine: together they are \
                 beyond {max} bytes; make the thread-locals smaller, by a Box in them"
            ),
            Self::Reserve { bytes, errno } => write!(
                f,
                "cannot reserve {bytes} bytes of address space for goroutine stacks: {}; \
                 check the limits on address space (ulimit -v) and vm.overcommit_memory",
                std::io::Error::from_raw_os_error(errno)
            ),
            Self::Guards {
                guards,
                max_map_count,
            } => write!(
                f,
                "cannot guard another goroutine stack: {guards} guard pages use up the \
                 {max_map_count} memory mappings that vm.max_map_count allows; raise it \
                 (sysctl -w vm.max_map_count=N), or use Linux 6.13 or later, where guard pages \
                 need no mapping"
            ),
            Self::Guard { errno } => write!(
                f,
                "cannot make the guard page of a goroutine stack: {}",
                std::io::Error::from_raw_os_error(errno)
            ),
        }
    }
}

impl std::error::Error for StackError {}
