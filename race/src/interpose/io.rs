//! Descriptors made, copied and closed; bytes read and written.
//!
//! Bytes are the user's memory: what arrives is written there, what is sent is read, at the place of the call.

use std::ffi::{c_char, c_int, c_uint, c_void};

use libc::{
    FILE, iovec, itimerspec, mmsghdr, msghdr, off_t, sigset_t, sockaddr, socklen_t, timespec,
};

use super::desc::{self, Kind};
use super::real::{errno, keep_errno, real, with_caller};
use super::{blocking, read_range, socket, stdio, watched, write_range};
use crate::{Pc, enabled};

/// A call that reads from `fd`: `f`, and then what is to be announced of the bytes that came.
#[inline(always)]
fn incoming(
    fd: c_int,
    caller: usize,
    f: impl FnOnce() -> isize,
    arrived: impl FnOnce(usize),
) -> isize {
    let Some(me) = watched() else { return f() };
    let n = if desc::uses(fd, caller) {
        blocking(me, f)
    } else {
        f()
    };
    keep_errno(|| {
        if is_news(n) {
            desc::observe(fd);
        }
        if let Ok(n) = usize::try_from(n) {
            arrived(n);
        }
    });
    n
}

/// A call that writes to `fd`: what is to be announced of the bytes, and then `f`.
#[inline(always)]
fn outgoing(fd: c_int, caller: usize, f: impl FnOnce() -> isize, announce: impl FnOnce()) -> isize {
    if watched().is_none() {
        return f();
    }
    desc::uses(fd, caller);
    announce();
    desc::publish(fd);
    let n = f();
    if n < 0 && is_news(n) {
        // The other end was closed.
        keep_errno(|| desc::observe(fd));
    }
    n
}

/// Whether the result tells of what others did.
pub(super) fn is_news(result: isize) -> bool {
    result >= 0 || !matches!(errno(), libc::EAGAIN | libc::EINTR | libc::EBADF)
}

/// Calls back with the parts of the buffers that the first `bytes` bytes are.
///
/// # Safety
/// `iov` is `count` buffers, as the caller of `readv` and its like owes.
unsafe fn each_buffer(
    iov: *const iovec,
    count: usize,
    mut bytes: usize,
    mut each: impl FnMut(usize, usize),
) {
    for i in 0..count {
        // SAFETY: by the contract.
        let buffer = unsafe { iov.wrapping_add(i).read() };
        let n = buffer.iov_len.min(bytes);
        if n == 0 && bytes == 0 {
            return;
        }
        each(buffer.iov_base.addr(), n);
        bytes -= n;
    }
}

/// The bytes of the buffers were written, and the array of buffers read.
///
/// # Safety
/// As for [`each_buffer`].
unsafe fn filled(iov: *const iovec, count: usize, bytes: usize, caller: usize) {
    let pc = Pc::code(caller);
    read_range(iov.addr(), count * size_of::<iovec>(), pc);
    // SAFETY: by the contract.
    unsafe { each_buffer(iov, count, bytes, |at, n| write_range(at, n, pc)) };
}

/// The bytes of the buffers are read, and so is the array of buffers.
///
/// # Safety
/// As for [`each_buffer`].
unsafe fn drained(iov: *const iovec, count: usize, caller: usize) {
    let pc = Pc::code(caller);
    read_range(iov.addr(), count * size_of::<iovec>(), pc);
    // SAFETY: by the contract.
    unsafe { each_buffer(iov, count, usize::MAX, |at, n| read_range(at, n, pc)) };
}

/// Calls that read into one buffer: the second and third argument.
macro_rules! receivers {
    ($($NAME:ident $name:ident $body:ident ($($arg:ident: $ty:ty),*);)*) => {
        real! { $(static $NAME: fn $name(c_int, *mut c_void, usize $(, $ty)*) -> isize;)* }
        with_caller! { $(fn $name(fd: c_int, buffer: *mut c_void, n: usize $(, $arg: $ty)*) -> isize = $body;)* }
        $(unsafe extern "C-unwind" fn $body(fd: c_int, buffer: *mut c_void, n: usize $(, $arg: $ty)*, caller: usize) -> isize {
            incoming(
                fd,
                caller,
                // SAFETY: the caller's arguments.
                move || unsafe { $NAME.get()(fd, buffer, n $(, $arg)*) },
                |came| write_range(buffer.addr(), came.min(n), Pc::code(caller)),
            )
        })*
    };
}

receivers! {
    READ read read_from();
    PREAD pread pread_from(at: off_t);
    PREAD64 pread64 pread64_from(at: off_t);
    RECV recv recv_from_socket(flags: c_int);
    RECVFROM recvfrom recvfrom_socket(flags: c_int, from: *mut sockaddr, from_len: *mut socklen_t);
}

/// Calls that write one buffer: the second and third argument.
macro_rules! senders {
    ($($NAME:ident $name:ident $body:ident ($($arg:ident: $ty:ty),*);)*) => {
        real! { $(static $NAME: fn $name(c_int, *const c_void, usize $(, $ty)*) -> isize;)* }
        with_caller! { $(fn $name(fd: c_int, buffer: *const c_void, n: usize $(, $arg: $ty)*) -> isize = $body;)* }
        $(unsafe extern "C-unwind" fn $body(fd: c_int, buffer: *const c_void, n: usize $(, $arg: $ty)*, caller: usize) -> isize {
            outgoing(
                fd,
                caller,
                // SAFETY: the caller's arguments.
                move || unsafe { $NAME.get()(fd, buffer, n $(, $arg)*) },
                || read_range(buffer.addr(), n, Pc::code(caller)),
            )
        })*
    };
}

senders! {
    WRITE write write_to();
    PWRITE pwrite pwrite_to(at: off_t);
    PWRITE64 pwrite64 pwrite64_to(at: off_t);
    SEND send send_to_socket(flags: c_int);
}

real! {
    static SENDTO: fn sendto(c_int, *const c_void, usize, c_int, *const sockaddr, socklen_t) -> isize;
}

with_caller! {
    fn sendto(
        fd: c_int,
        buffer: *const c_void,
        n: usize,
        flags: c_int,
        to: *const sockaddr,
        to_len: socklen_t
    ) -> isize = sendto_socket;
}

unsafe extern "C-unwind" fn sendto_socket(
    fd: c_int,
    buffer: *const c_void,
    n: usize,
    flags: c_int,
    to: *const sockaddr,
    to_len: socklen_t,
    caller: usize,
) -> isize {
    // SAFETY: the caller's arguments.
    let call = move || unsafe { SENDTO.get()(fd, buffer, n, flags, to, to_len) };
    outgoing(fd, caller, call, || {
        read_range(buffer.addr(), n, Pc::code(caller));
        // SAFETY: the caller's address, or none.
        unsafe { socket::sends_to(fd, to, to_len) };
    })
}

/// Calls that read into many buffers, or write them.
macro_rules! vectors {
    ($($NAME:ident $name:ident $body:ident $way:ident ($($arg:ident: $ty:ty),*);)*) => {
        real! { $(static $NAME: fn $name(c_int, *const iovec, c_int $(, $ty)*) -> isize;)* }
        with_caller! { $(fn $name(fd: c_int, iov: *const iovec, count: c_int $(, $arg: $ty)*) -> isize = $body;)* }
        $(unsafe extern "C-unwind" fn $body(fd: c_int, iov: *const iovec, count: c_int $(, $arg: $ty)*, caller: usize) -> isize {
            // SAFETY: the caller's arguments.
            let call = move || unsafe { $NAME.get()(fd, iov, count $(, $arg)*) };
            vectors!(@$way fd iov count caller call)
        })*
    };
    (@incoming $fd:ident $iov:ident $count:ident $caller:ident $call:ident) => {
        incoming($fd, $caller, $call, |came| {
            // SAFETY: the call took the buffers.
            unsafe { filled($iov, $count as usize, came, $caller) };
        })
    };
    (@outgoing $fd:ident $iov:ident $count:ident $caller:ident $call:ident) => {
        outgoing($fd, $caller, $call, || {
            let count = usize::try_from($count).unwrap_or(0);
            // SAFETY: the caller's buffers.
            unsafe { drained($iov, count, $caller) };
        })
    };
}

vectors! {
    READV readv readv_from incoming();
    PREADV preadv preadv_from incoming(at: off_t);
    PREADV64 preadv64 preadv64_from incoming(at: off_t);
    WRITEV writev writev_to outgoing();
    PWRITEV pwritev pwritev_to outgoing(at: off_t);
    PWRITEV64 pwritev64 pwritev64_to outgoing(at: off_t);
}

real! {
    static RECVMSG: fn recvmsg(c_int, *mut msghdr, c_int) -> isize;
    static SENDMSG: fn sendmsg(c_int, *const msghdr, c_int) -> isize;
    static RECVMMSG: fn recvmmsg(c_int, *mut mmsghdr, c_uint, c_int, *mut timespec) -> c_int;
    static SENDMMSG: fn sendmmsg(c_int, *mut mmsghdr, c_uint, c_int) -> c_int;
}

with_caller! {
    fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> isize = recvmsg_from;
    fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> isize = sendmsg_to;
    fn recvmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int, wait: *mut timespec) -> c_int = recvmmsg_from;
    fn sendmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int = sendmmsg_to;
}

unsafe extern "C-unwind" fn recvmsg_from(
    fd: c_int,
    message: *mut msghdr,
    flags: c_int,
    caller: usize,
) -> isize {
    // SAFETY: the caller's arguments.
    let call = move || unsafe { RECVMSG.get()(fd, message, flags) };
    let n = incoming(fd, caller, call, |came| {
        // SAFETY: the call took the message.
        let m = unsafe { &*message };
        // SAFETY: as above.
        unsafe { filled(m.msg_iov, m.msg_iovlen, came, caller) };
    });
    if enabled() && n >= 0 {
        // SAFETY: the call took the message.
        keep_errno(|| unsafe { each_descriptor(message, |came| desc::came_by(fd, came)) });
    }
    n
}

unsafe extern "C-unwind" fn sendmsg_to(
    fd: c_int,
    message: *const msghdr,
    flags: c_int,
    caller: usize,
) -> isize {
    // SAFETY: the caller's arguments.
    let call = move || unsafe { SENDMSG.get()(fd, message, flags) };
    outgoing(fd, caller, call, || {
        // SAFETY: the caller's message.
        unsafe { sends(fd, message, caller) };
    })
}

unsafe extern "C-unwind" fn recvmmsg_from(
    fd: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
    wait: *mut timespec,
    caller: usize,
) -> c_int {
    // SAFETY: the caller's arguments.
    let call = move || unsafe { RECVMMSG.get()(fd, messages, count, flags, wait) } as isize;
    let n = incoming(fd, caller, call, |came| {
        for i in 0..came {
            // SAFETY: so many messages came.
            let m = unsafe { &*messages.wrapping_add(i) };
            let (iov, buffers) = (m.msg_hdr.msg_iov, m.msg_hdr.msg_iovlen);
            // SAFETY: as above.
            unsafe { filled(iov, buffers, m.msg_len as usize, caller) };
        }
    });
    if enabled() {
        for i in 0..usize::try_from(n).unwrap_or(0) {
            // SAFETY: so many messages came.
            let message = unsafe { &raw mut (*messages.wrapping_add(i)).msg_hdr };
            // SAFETY: as above.
            keep_errno(|| unsafe { each_descriptor(message, |came| desc::came_by(fd, came)) });
        }
    }
    n as c_int
}

unsafe extern "C-unwind" fn sendmmsg_to(
    fd: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
    caller: usize,
) -> c_int {
    // SAFETY: the caller's arguments.
    let call = move || unsafe { SENDMMSG.get()(fd, messages, count, flags) } as isize;
    outgoing(fd, caller, call, || {
        for i in 0..count as usize {
            // SAFETY: the caller's messages.
            let message = unsafe { &raw const (*messages.wrapping_add(i)).msg_hdr };
            // SAFETY: as above.
            unsafe { sends(fd, message, caller) };
        }
    }) as c_int
}

/// A message is about to be sent: where to, what, and which descriptors.
///
/// # Safety
/// `message` is a message, as the caller of `sendmsg` owes.
unsafe fn sends(fd: c_int, message: *const msghdr, caller: usize) {
    // SAFETY: by the contract.
    let m = unsafe { &*message };
    // SAFETY: as above.
    unsafe { drained(m.msg_iov, m.msg_iovlen, caller) };
    // SAFETY: as above.
    unsafe { socket::sends_to(fd, m.msg_name.cast(), m.msg_namelen) };
    // SAFETY: as above.
    unsafe { each_descriptor(message, |goes| desc::goes_by(fd, goes)) };
}

/// Calls back with the descriptors that are in a message.
///
/// # Safety
/// `message` is a message with its control messages, if any.
unsafe fn each_descriptor(message: *const msghdr, mut each: impl FnMut(c_int)) {
    // SAFETY: by the contract.
    let mut at = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: null, or a control message of the message, as also below.
    while let Some(control) = unsafe { at.as_ref() } {
        if (control.cmsg_level, control.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: as above.
            let data = unsafe { libc::CMSG_DATA(at) }.cast::<c_int>();
            let head = data.addr() - at.addr();
            for i in 0..control.cmsg_len.saturating_sub(head) / size_of::<c_int>() {
                // SAFETY: as above.
                each(unsafe { data.wrapping_add(i).read_unaligned() });
            }
        }
        // SAFETY: as above.
        at = unsafe { libc::CMSG_NXTHDR(message, at) };
    }
}

/// Notes what a call made, if it made something.
#[inline(always)]
pub(super) fn making(fd: c_int, kind: Kind) -> c_int {
    if enabled() && fd >= 0 {
        keep_errno(|| desc::made(fd, kind));
    }
    fd
}

/// Calls that return a new descriptor.
macro_rules! makers {
    ($($NAME:ident $name:ident $kind:ident ($($arg:ident: $ty:ty),*);)*) => {
        real! { $(static $NAME: fn $name($($ty),*) -> c_int;)* }
        $(#[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name($($arg: $ty),*) -> c_int {
            // SAFETY: the caller's arguments.
            making(unsafe { $NAME.get()($($arg),*) }, Kind::$kind)
        })*
    };
}

makers! {
    // The mode is there only if the flags ask for it; passing on what lies in its place does no harm.
    OPEN open File(path: *const c_char, flags: c_int, mode: c_uint);
    OPEN64 open64 File(path: *const c_char, flags: c_int, mode: c_uint);
    OPENAT openat File(dir: c_int, path: *const c_char, flags: c_int, mode: c_uint);
    OPENAT64 openat64 File(dir: c_int, path: *const c_char, flags: c_int, mode: c_uint);
    CREAT creat File(path: *const c_char, mode: c_uint);
    CREAT64 creat64 File(path: *const c_char, mode: c_uint);
    MEMFD memfd_create File(name: *const c_char, flags: c_uint);
    INOTIFY inotify_init Own();
    INOTIFY1 inotify_init1 Own(flags: c_int);
    EVENTFD eventfd Own(value: c_uint, flags: c_int);
    TIMERFD timerfd_create Own(clock: c_int, flags: c_int);
    EPOLL epoll_create Own(size: c_int);
    EPOLL1 epoll_create1 Own(flags: c_int);
}

real! {
    static SOCKET: fn socket(c_int, c_int, c_int) -> c_int;
    static SIGNALFD: fn signalfd(c_int, *const sigset_t, c_int) -> c_int;
    static LOCKF: fn lockf(c_int, c_int, off_t) -> c_int;
    static LOCKF64: fn lockf64(c_int, c_int, off_t) -> c_int;
    static PIPE: fn pipe(*mut c_int) -> c_int;
    static PIPE2: fn pipe2(*mut c_int, c_int) -> c_int;
    static SOCKETPAIR: fn socketpair(c_int, c_int, c_int, *mut c_int) -> c_int;
    static ACCEPT: fn accept(c_int, *mut sockaddr, *mut socklen_t) -> c_int;
    static ACCEPT4: fn accept4(c_int, *mut sockaddr, *mut socklen_t, c_int) -> c_int;
    static CONNECT: fn connect(c_int, *const sockaddr, socklen_t) -> c_int;
    static BIND: fn bind(c_int, *const sockaddr, socklen_t) -> c_int;
    static LISTEN: fn listen(c_int, c_int) -> c_int;
    static SHUTDOWN: fn shutdown(c_int, c_int) -> c_int;
    static DUP: fn dup(c_int) -> c_int;
    static DUP2: fn dup2(c_int, c_int) -> c_int;
    static DUP3: fn dup3(c_int, c_int, c_int) -> c_int;
    static FCNTL: fn fcntl(c_int, c_int, usize) -> c_int;
    static FCNTL64: fn fcntl64(c_int, c_int, usize) -> c_int;
    static FLOCK: fn flock(c_int, c_int) -> c_int;
    static CLOSE: fn close(c_int) -> c_int;
    static CLOSE_RANGE: fn close_range(c_uint, c_uint, c_int) -> c_int;
    static FCLOSE: fn fclose(*mut FILE) -> c_int;
    static EVENTFD_READ: fn eventfd_read(c_int, *mut u64) -> c_int;
    static EVENTFD_WRITE: fn eventfd_write(c_int, u64) -> c_int;
    static SETTIME: fn timerfd_settime(c_int, c_int, *const itimerspec, *mut itimerspec) -> c_int;
    static SENDFILE: fn sendfile(c_int, c_int, *mut off_t, usize) -> isize;
    static SENDFILE64: fn sendfile64(c_int, c_int, *mut off_t, usize) -> isize;
    static SPLICE: fn splice(c_int, *mut off_t, c_int, *mut off_t, usize, c_uint) -> isize;
    static TEE: fn tee(c_int, c_int, usize, c_uint) -> isize;
    static COPY: fn copy_file_range(c_int, *mut off_t, c_int, *mut off_t, usize, c_uint) -> isize;
}

with_caller! {
    fn pipe(fds: *mut c_int) -> c_int = make_pipe;
    fn pipe2(fds: *mut c_int, flags: c_int) -> c_int = make_pipe2;
    fn socketpair(domain: c_int, kind: c_int, protocol: c_int, fds: *mut c_int) -> c_int = make_socketpair;
    fn accept(fd: c_int, from: *mut sockaddr, len: *mut socklen_t) -> c_int = accept_from;
    fn accept4(fd: c_int, from: *mut sockaddr, len: *mut socklen_t, flags: c_int) -> c_int = accept4_from;
    fn connect(fd: c_int, to: *const sockaddr, len: socklen_t) -> c_int = connect_to;
    fn shutdown(fd: c_int, how: c_int) -> c_int = shut;
    fn dup2(old: c_int, new: c_int) -> c_int = copy2;
    fn dup3(old: c_int, new: c_int, flags: c_int) -> c_int = copy3;
    fn close(fd: c_int) -> c_int = close_one;
    fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int = close_many;
    fn fclose(file: *mut FILE) -> c_int = close_file;
    fn eventfd_read(fd: c_int, value: *mut u64) -> c_int = read_event;
    fn eventfd_write(fd: c_int, value: u64) -> c_int = write_event;
    fn timerfd_settime(fd: c_int, flags: c_int, new: *const itimerspec, old: *mut itimerspec) -> c_int = set_timer;
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    // SAFETY: the caller's arguments.
    let fd = unsafe { SOCKET.get()(domain, kind, protocol) };
    if enabled() && fd >= 0 {
        keep_errno(|| socket::made(fd, domain, kind));
    }
    fd
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn signalfd(old: c_int, signals: *const sigset_t, flags: c_int) -> c_int {
    // SAFETY: the caller's arguments.
    let fd = unsafe { SIGNALFD.get()(old, signals, flags) };
    if enabled() && fd >= 0 {
        // SAFETY: the caller's set, of which the kernel knows the first word.
        let signals = unsafe { signals.cast::<u64>().read_unaligned() };
        keep_errno(|| desc::made_signalfd(fd, old < 0, signals));
    }
    fd
}

/// Two new descriptors are in `fds`, if the call returned 0.
fn make_two(result: c_int, fds: *mut c_int, caller: usize) -> c_int {
    if enabled() && result == 0 {
        // SAFETY: the call has just put two descriptors there.
        let both = unsafe { fds.cast::<[c_int; 2]>().read_unaligned() };
        keep_errno(|| {
            desc::made_pair(both);
            if watched().is_some() {
                write_range(fds.addr(), size_of_val(&both), Pc::code(caller));
            }
        });
    }
    result
}

unsafe extern "C-unwind" fn make_pipe(fds: *mut c_int, caller: usize) -> c_int {
    // SAFETY: the caller's arguments.
    make_two(unsafe { PIPE.get()(fds) }, fds, caller)
}

unsafe extern "C-unwind" fn make_pipe2(fds: *mut c_int, flags: c_int, caller: usize) -> c_int {
    // SAFETY: the caller's arguments.
    make_two(unsafe { PIPE2.get()(fds, flags) }, fds, caller)
}

unsafe extern "C-unwind" fn make_socketpair(
    domain: c_int,
    kind: c_int,
    protocol: c_int,
    fds: *mut c_int,
    caller: usize,
) -> c_int {
    // SAFETY: the caller's arguments.
    make_two(
        unsafe { SOCKETPAIR.get()(domain, kind, protocol, fds) },
        fds,
        caller,
    )
}

unsafe extern "C-unwind" fn accept_from(
    fd: c_int,
    from: *mut sockaddr,
    len: *mut socklen_t,
    caller: usize,
) -> c_int {
    // SAFETY: the caller's arguments.
    let call = move || unsafe { ACCEPT.get()(fd, from, len) } as isize;
    accepting(fd, incoming(fd, caller, call, |_| ()) as c_int)
}

unsafe extern "C-unwind" fn accept4_from(
    fd: c_int,
    from: *mut sockaddr,
    len: *mut socklen_t,
    flags: c_int,
    caller: usize,
) -> c_int {
    // SAFETY: the caller's arguments.
    let call = move || unsafe { ACCEPT4.get()(fd, from, len, flags) } as isize;
    accepting(fd, incoming(fd, caller, call, |_| ()) as c_int)
}

unsafe extern "C-unwind" fn connect_to(
    fd: c_int,
    to: *const sockaddr,
    len: socklen_t,
    caller: usize,
) -> c_int {
    // SAFETY: the caller's arguments.
    let call = move || unsafe { CONNECT.get()(fd, to, len) } as isize;
    if !enabled() {
        return call() as c_int;
    }
    // SAFETY: the caller's address.
    keep_errno(|| unsafe { socket::connects(fd, to, len) });
    let result = outgoing(fd, caller, call, || ()) as c_int;
    // SAFETY: the caller's address.
    keep_errno(|| unsafe { socket::connected(fd, to, len, result) });
    result
}

/// Notes the socket that `listener` gave, if it did.
#[inline(always)]
fn accepting(listener: c_int, fd: c_int) -> c_int {
    if enabled() && fd >= 0 {
        keep_errno(|| socket::accepted(listener, fd));
    }
    fd
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn bind(fd: c_int, to: *const sockaddr, len: socklen_t) -> c_int {
    // SAFETY: the caller's arguments.
    let error = unsafe { BIND.get()(fd, to, len) };
    if enabled() && error == 0 {
        keep_errno(|| socket::bound(fd));
    }
    error
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn listen(fd: c_int, backlog: c_int) -> c_int {
    if !enabled() {
        // SAFETY: the caller's arguments.
        return unsafe { LISTEN.get()(fd, backlog) };
    }
    socket::listens(fd);
    // SAFETY: the caller's arguments.
    let error = unsafe { LISTEN.get()(fd, backlog) };
    if error == 0 {
        // It may have got its address by the call.
        keep_errno(|| socket::listens(fd));
    }
    error
}

unsafe extern "C-unwind" fn shut(fd: c_int, how: c_int, caller: usize) -> c_int {
    // SAFETY: the caller's arguments.
    let call = move || unsafe { SHUTDOWN.get()(fd, how) } as isize;
    outgoing(fd, caller, call, || ()) as c_int
}

unsafe extern "C-unwind" fn set_timer(
    fd: c_int,
    flags: c_int,
    new: *const itimerspec,
    old: *mut itimerspec,
    caller: usize,
) -> c_int {
    // SAFETY: the caller's arguments.
    let call = move || unsafe { SETTIME.get()(fd, flags, new, old) } as isize;
    outgoing(fd, caller, call, || ()) as c_int
}

unsafe extern "C-unwind" fn read_event(fd: c_int, value: *mut u64, caller: usize) -> c_int {
    // SAFETY: the caller's arguments.
    let call = move || unsafe { EVENTFD_READ.get()(fd, value) } as isize;
    incoming(fd, caller, call, |_| {
        write_range(value.addr(), 8, Pc::code(caller))
    }) as c_int
}

unsafe extern "C-unwind" fn write_event(fd: c_int, value: u64, caller: usize) -> c_int {
    // SAFETY: the caller's arguments.
    let call = move || unsafe { EVENTFD_WRITE.get()(fd, value) } as isize;
    outgoing(fd, caller, call, || ()) as c_int
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn dup(fd: c_int) -> c_int {
    // SAFETY: the caller's arguments.
    copying(fd, unsafe { DUP.get()(fd) })
}

/// Notes that `new`, if there is one, is a copy of `old`.
#[inline(always)]
fn copying(old: c_int, new: c_int) -> c_int {
    if enabled() && new >= 0 && new != old {
        keep_errno(|| desc::copied(old, new));
    }
    new
}

/// `new` is about to be closed, if `old` can be copied to it.
#[inline(always)]
fn replaces(old: c_int, new: c_int, caller: usize) {
    if enabled() && old != new {
        // SAFETY: asks for the flags of a descriptor.
        let is_open = unsafe { FCNTL.get()(old, libc::F_GETFD, 0) } >= 0;
        if is_open {
            desc::closes(new, caller);
        }
    }
}

unsafe extern "C-unwind" fn copy2(old: c_int, new: c_int, caller: usize) -> c_int {
    replaces(old, new, caller);
    // SAFETY: the caller's arguments.
    copying(old, unsafe { DUP2.get()(old, new) })
}

unsafe extern "C-unwind" fn copy3(old: c_int, new: c_int, flags: c_int, caller: usize) -> c_int {
    replaces(old, new, caller);
    // SAFETY: the caller's arguments.
    copying(old, unsafe { DUP3.get()(old, new, flags) })
}

/// `fcntl` proper, which is `f`.
#[inline(always)]
fn control(fd: c_int, command: c_int, f: impl FnOnce() -> c_int) -> c_int {
    if !enabled() {
        return f();
    }
    match command {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => copying(fd, f()),
        libc::F_SETLK | libc::F_SETLKW | libc::F_OFD_SETLK | libc::F_OFD_SETLKW => lock_file(fd, f),
        _ => f(),
    }
}

/// A lock of a file is taken or given back.
fn lock_file(fd: c_int, f: impl FnOnce() -> c_int) -> c_int {
    if watched().is_none() {
        return f();
    }
    desc::publish(fd);
    let result = f();
    if result == 0 {
        desc::observe(fd);
    }
    result
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn fcntl(fd: c_int, command: c_int, arg: usize) -> c_int {
    // SAFETY: the caller's arguments; without a third one, what lies in its place does no harm.
    control(fd, command, move || unsafe {
        FCNTL.get()(fd, command, arg)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn fcntl64(fd: c_int, command: c_int, arg: usize) -> c_int {
    // SAFETY: as above.
    control(fd, command, move || unsafe {
        FCNTL64.get()(fd, command, arg)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn flock(fd: c_int, operation: c_int) -> c_int {
    // SAFETY: the caller's arguments.
    lock_file(fd, move || unsafe { FLOCK.get()(fd, operation) })
}

/// `lockf` asks, or takes a lock, or gives it back.
#[inline(always)]
fn lock_part(fd: c_int, command: c_int, f: impl FnOnce() -> c_int) -> c_int {
    if command == libc::F_TEST {
        f()
    } else {
        lock_file(fd, f)
    }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn lockf(fd: c_int, command: c_int, n: off_t) -> c_int {
    // SAFETY: the caller's arguments.
    lock_part(fd, command, move || unsafe { LOCKF.get()(fd, command, n) })
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn lockf64(fd: c_int, command: c_int, n: off_t) -> c_int {
    // SAFETY: the caller's arguments.
    lock_part(fd, command, move || unsafe {
        LOCKF64.get()(fd, command, n)
    })
}

unsafe extern "C-unwind" fn close_one(fd: c_int, caller: usize) -> c_int {
    if enabled() {
        desc::closes(fd, caller);
    }
    // SAFETY: the caller's arguments.
    unsafe { CLOSE.get()(fd) }
}

unsafe extern "C-unwind" fn close_many(
    first: c_uint,
    last: c_uint,
    flags: c_int,
    caller: usize,
) -> c_int {
    const CLOEXEC: c_int = 1 << 2;
    if enabled() && flags & CLOEXEC == 0 {
        desc::closes_all(first, last, caller);
    }
    // SAFETY: the caller's arguments.
    unsafe { CLOSE_RANGE.get()(first, last, flags) }
}

unsafe extern "C-unwind" fn close_file(file: *mut FILE, caller: usize) -> c_int {
    if enabled() {
        // SAFETY: the caller's open file.
        let fd = unsafe { libc::fileno(file) };
        stdio::closes(file);
        desc::closes(fd, caller);
    }
    // SAFETY: the caller's arguments.
    unsafe { FCLOSE.get()(file) }
}

/// Bytes go from one descriptor to another.
#[inline(always)]
fn moving(from: c_int, to: c_int, f: impl FnOnce() -> isize) -> isize {
    if watched().is_none() {
        return f();
    }
    desc::publish(to);
    let n = f();
    if is_news(n) {
        keep_errno(|| desc::observe(from));
    }
    n
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn sendfile(to: c_int, from: c_int, at: *mut off_t, n: usize) -> isize {
    // SAFETY: the caller's arguments.
    moving(from, to, move || unsafe { SENDFILE.get()(to, from, at, n) })
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn sendfile64(to: c_int, from: c_int, at: *mut off_t, n: usize) -> isize {
    // SAFETY: the caller's arguments.
    moving(from, to, move || unsafe {
        SENDFILE64.get()(to, from, at, n)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn splice(
    from: c_int,
    from_at: *mut off_t,
    to: c_int,
    to_at: *mut off_t,
    n: usize,
    flags: c_uint,
) -> isize {
    // SAFETY: the caller's arguments.
    moving(from, to, move || unsafe {
        SPLICE.get()(from, from_at, to, to_at, n, flags)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn tee(from: c_int, to: c_int, n: usize, flags: c_uint) -> isize {
    // SAFETY: the caller's arguments.
    moving(from, to, move || unsafe { TEE.get()(from, to, n, flags) })
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn copy_file_range(
    from: c_int,
    from_at: *mut off_t,
    to: c_int,
    to_at: *mut off_t,
    n: usize,
    flags: c_uint,
) -> isize {
    // SAFETY: the caller's arguments.
    moving(from, to, move || unsafe {
        COPY.get()(from, from_at, to, to_at, n, flags)
    })
}
