//! Order that goes through the kernel: pipes, sockets, events, epoll.

use super::*;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::thread::spawn;

/// A thread writes to `data` and then does `tell`; the caller does `hear` and then reads it.
fn ordered(tell: impl FnOnce() + Send + 'static, hear: impl FnOnce()) -> usize {
    races_between(tell, hear, read)
}

fn ends() -> (PipeReader, PipeWriter) {
    let _one = Detector::take();
    pipe().unwrap()
}

#[test]
fn a_pipe_orders() {
    let (mut from, mut to) = ends();
    let tell = move || {
        to.write_all(b"x").unwrap();
        std::mem::forget(to);
    };
    assert_eq!(ordered(tell, || from.read_exact(&mut [0]).unwrap()), 0);
}

#[test]
fn the_end_of_a_pipe_orders() {
    let (mut from, to) = ends();
    assert_eq!(
        ordered(|| drop(to), || assert_eq!(from.read(&mut [0]).unwrap(), 0)),
        0
    );
}

#[test]
fn another_pipe_does_not_order() {
    let (mut from, mut to) = ends();
    let (mut other, mut other_to) = ends();
    static WRITTEN: AtomicUsize = AtomicUsize::new(0);
    let tell = move || {
        to.write_all(b"x").unwrap();
        WRITTEN.store(1, Release);
        std::mem::forget(to);
    };
    let hear = || {
        other_to.write_all(b"x").unwrap();
        other.read_exact(&mut [0]).unwrap();
        wait_until(&WRITTEN, 1);
    };
    assert_eq!(ordered(tell, hear), 1);
    from.read_exact(&mut [0]).unwrap();
}

#[test]
fn copies_of_a_descriptor_are_the_same_pipe() {
    let (from, to) = ends();
    let (mut from, mut to) = {
        let _one = Detector::take();
        // SAFETY: copies a descriptor.
        let mut copy = unsafe { libc::dup(from.as_raw_fd()) };
        assert!(copy >= 0);
        // SAFETY: puts a copy in the place of one.
        copy = unsafe { libc::dup2(from.as_raw_fd(), copy) };
        // SAFETY: a descriptor of our own.
        let from = PipeReader::from(unsafe { OwnedFd::from_raw_fd(copy) });
        (from, to.try_clone().unwrap())
    };
    let tell = move || {
        to.write_all(b"x").unwrap();
        std::mem::forget(to);
    };
    assert_eq!(ordered(tell, || from.read_exact(&mut [0]).unwrap()), 0);
}

#[test]
fn sockets_order() {
    let (mut one, mut two) = {
        let _one = Detector::take();
        UnixStream::pair().unwrap()
    };
    let tell = move || {
        one.write_all(b"x").unwrap();
        std::mem::forget(one);
    };
    assert_eq!(ordered(tell, || two.read_exact(&mut [0]).unwrap()), 0);

    let listener = {
        let _one = Detector::take();
        TcpListener::bind("127.0.0.1:0").unwrap()
    };
    let to = listener.local_addr().unwrap();
    let tell = move || std::mem::forget(TcpStream::connect(to).unwrap());
    assert_eq!(
        ordered(tell, || drop(listener.accept().unwrap())),
        0,
        "accept"
    );
    let tell = move || {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.write_all(b"x").unwrap();
        std::mem::forget(stream);
    };
    let hear = || {
        let mut stream = listener.accept().unwrap().0;
        stream.read_exact(&mut [0]).unwrap();
    };
    assert_eq!(ordered(tell, hear), 0, "a message");
}

/// Handlers of one server add to one counter; nothing but the connections' own order is between them.
fn apart(streams: [(impl Write + Read + Send + 'static, impl Read + Write); 2]) -> usize {
    let detector = Detector::take();
    let data = memory(8);
    let up: &'static AtomicUsize = Box::leak(Box::new(AtomicUsize::new(0)));
    let (handlers, mut clients): (Vec<_>, Vec<_>) = streams
        .into_iter()
        .map(|(mut server, client)| {
            let handler = spawn(move || {
                up.fetch_add(1, Release);
                server.read_exact(&mut [0]).unwrap();
                write(data);
                server.write_all(b"x").unwrap();
            });
            (handler, client)
        })
        .unzip();
    wait_until(up, 2);
    for client in &mut clients {
        client.write_all(b"x").unwrap();
    }
    for client in &mut clients {
        client.read_exact(&mut [0]).unwrap();
    }
    // After both, which orders.
    write(data);
    handlers.into_iter().for_each(|t| t.join().unwrap());
    detector.races()
}

#[test]
fn connections_are_apart() {
    let tcp = {
        let _one = Detector::take();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        [(); 2].map(|()| {
            let client = TcpStream::connect(to).unwrap();
            (listener.accept().unwrap().0, client)
        })
    };
    assert_eq!(apart(tcp), 1, "TCP");
    let unix = {
        let _one = Detector::take();
        let path = format!("{}/apart", env!("CARGO_TARGET_TMPDIR"));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        [(); 2].map(|()| {
            let client = UnixStream::connect(&path).unwrap();
            (listener.accept().unwrap().0, client)
        })
    };
    assert_eq!(apart(unix), 1, "AF_UNIX");
    let pairs = {
        let _one = Detector::take();
        [(); 2].map(|()| UnixStream::pair().unwrap())
    };
    assert_eq!(apart(pairs), 1, "pairs");
}

/// Both ways to a listener by a name, and the end that is closed before the other comes.
#[test]
fn unix_connections_order() {
    let path: &'static str = concat!(env!("CARGO_TARGET_TMPDIR"), "/ordered");
    let _ = std::fs::remove_file(path);
    let listener = {
        let _one = Detector::take();
        UnixListener::bind(path).unwrap()
    };
    let tell = move || UnixStream::connect(path).unwrap().write_all(b"x").unwrap();
    let hear = || {
        let mut stream = listener.accept().unwrap().0;
        stream.read_exact(&mut [0]).unwrap();
    };
    assert_eq!(ordered(tell, hear), 0, "a message");
    let other = listener.try_clone().unwrap();
    let tell = move || other.accept().unwrap().0.write_all(b"x").unwrap();
    let hear = || {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.read_exact(&mut [0]).unwrap();
    };
    assert_eq!(ordered(tell, hear), 0, "a greeting");
    static CLOSED: AtomicUsize = AtomicUsize::new(0);
    let tell = move || {
        drop(UnixStream::connect(path).unwrap());
        CLOSED.store(1, Release);
    };
    let hear = || {
        wait_until(&CLOSED, 1);
        drop(listener.accept().unwrap());
    };
    assert_eq!(ordered(tell, hear), 0, "closed before it is accepted");
}

#[test]
fn connections_of_tcp_order() {
    let listener = {
        let _one = Detector::take();
        TcpListener::bind("0.0.0.0:0").unwrap()
    };
    let to = ("127.0.0.1", listener.local_addr().unwrap().port());
    static CLOSED: AtomicUsize = AtomicUsize::new(0);
    let tell = move || {
        TcpStream::connect(to).unwrap().write_all(b"x").unwrap();
        CLOSED.store(1, Release);
    };
    let hear = || {
        wait_until(&CLOSED, 1);
        let mut stream = listener.accept().unwrap().0;
        stream.read_exact(&mut [0]).unwrap();
    };
    assert_eq!(ordered(tell, hear), 0, "closed before it is accepted");
    for _ in 0..20 {
        let other = listener.try_clone().unwrap();
        let tell = move || other.accept().unwrap().0.write_all(b"x").unwrap();
        let hear = || {
            let mut stream = TcpStream::connect(to).unwrap();
            stream.read_exact(&mut [0]).unwrap();
        };
        assert_eq!(ordered(tell, hear), 0, "a greeting");
    }
    let early = {
        let _one = Detector::take();
        // Copied before it is connected.
        // SAFETY: makes a socket.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) };
        // SAFETY: copies a descriptor.
        let copy = unsafe { libc::dup(fd) };
        let at = libc::sockaddr_in {
            sin_family: libc::AF_INET as u16,
            sin_port: to.1.to_be(),
            sin_addr: libc::in_addr { s_addr: 0 },
            sin_zero: [0; 8],
        };
        let (at, len) = (&raw const at, size_of_val(&at) as u32);
        // SAFETY: an address: that of no host, which is this one.
        assert_eq!(unsafe { libc::connect(fd, at.cast(), len) }, 0);
        // SAFETY: the test's own.
        let [copy, _fd] = [copy, fd].map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        TcpStream::from(copy)
    };
    let mut server = {
        let _one = Detector::take();
        listener.accept().unwrap().0
    };
    let tell = move || (&early).write_all(b"x").unwrap();
    assert_eq!(
        ordered(tell, || server.read_exact(&mut [0]).unwrap()),
        0,
        "a copy"
    );
}

#[test]
fn datagrams_order_by_their_address() {
    let (one, two, third) = {
        let _one = Detector::take();
        let new = || UdpSocket::bind("127.0.0.1:0").unwrap();
        (new(), new(), new())
    };
    let (at, at_third) = (two.local_addr().unwrap(), third.local_addr().unwrap());
    let sender = one.try_clone().unwrap();
    let tell = move || assert_eq!(sender.send_to(b"x", at).unwrap(), 1);
    let hear = || assert_eq!(two.recv(&mut [0]).unwrap(), 1);
    assert_eq!(ordered(tell, hear), 0, "to an address");
    let sender = one.try_clone().unwrap();
    sender.connect(at).unwrap();
    let tell = move || assert_eq!(sender.send(b"x").unwrap(), 1);
    assert_eq!(ordered(tell, hear), 0, "connected");
    static SENT: AtomicUsize = AtomicUsize::new(0);
    let tell = move || {
        assert_eq!(one.send(b"x").unwrap(), 1);
        SENT.store(1, Release);
    };
    let hear = || {
        wait_until(&SENT, 1);
        assert_eq!(two.send_to(b"x", at_third).unwrap(), 1);
        assert_eq!(third.recv(&mut [0]).unwrap(), 1);
    };
    assert_eq!(ordered(tell, hear), 1, "another's");
    two.recv(&mut [0]).unwrap();
    let (path, here) = (
        concat!(env!("CARGO_TARGET_TMPDIR"), "/datagrams"),
        concat!(env!("CARGO_TARGET_TMPDIR"), "/./datagrams"),
    );
    let _ = std::fs::remove_file(path);
    let (one, two) = {
        let _one = Detector::take();
        (
            UnixDatagram::unbound().unwrap(),
            UnixDatagram::bind(path).unwrap(),
        )
    };
    let tell = move || assert_eq!(one.send_to(b"x", here).unwrap(), 1);
    let hear = || assert_eq!(two.recv(&mut [0]).unwrap(), 1);
    assert_eq!(ordered(tell, hear), 0, "by a path");
}

#[test]
fn a_file_orders_and_another_does_not() {
    let path: &'static str = concat!(env!("CARGO_TARGET_TMPDIR"), "/ordered-file");
    static WRITTEN: AtomicUsize = AtomicUsize::new(0);
    let tell = move || {
        std::fs::write(path, "x").unwrap();
        WRITTEN.fetch_add(1, Release);
    };
    let hear = || {
        wait_until(&WRITTEN, 1);
        assert_eq!(std::fs::read(path).unwrap(), b"x");
    };
    assert_eq!(ordered(tell, hear), 0);
    let hear = || {
        wait_until(&WRITTEN, 2);
        std::fs::read("/proc/self/stat").unwrap();
    };
    assert_eq!(ordered(tell, hear), 1);
}

#[test]
fn locks_of_files_order() {
    type Lock = fn(RawFd, bool) -> i32;
    let locks: [Lock; 2] = [
        |fd, take| {
            let operation = if take { libc::LOCK_EX } else { libc::LOCK_UN };
            // SAFETY: a descriptor.
            unsafe { libc::flock(fd, operation) }
        },
        |fd, take| {
            // SAFETY: zeros are a lock of the whole file.
            let mut lock: libc::flock = unsafe { std::mem::zeroed() };
            lock.l_type = if take { libc::F_WRLCK } else { libc::F_UNLCK } as i16;
            // SAFETY: a descriptor and a lock.
            unsafe { libc::fcntl(fd, libc::F_OFD_SETLKW, &lock) }
        },
    ];
    let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/locked-file");
    std::fs::write(path, "").unwrap();
    for lock in locks {
        let detector = Detector::take();
        let data = memory(8);
        let threads = [(); 3].map(|()| {
            spawn(move || {
                let file = std::fs::File::options().write(true).open(path).unwrap();
                for _ in 0..50 {
                    assert_eq!(lock(file.as_raw_fd(), true), 0);
                    write(data);
                    assert_eq!(lock(file.as_raw_fd(), false), 0);
                }
            })
        });
        threads.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(detector.races(), 0);
    }
}

/// Sends descriptors by a message.
fn pass(over: &UnixStream, fds: &[RawFd]) {
    let mut control = [0_u64; 16];
    let mut message = message(&mut control);
    let bytes = size_of_val(fds) as u32;
    // SAFETY: no preconditions.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(bytes) } as usize;
    // SAFETY: a message.
    let head = unsafe { libc::CMSG_FIRSTHDR(&message) };
    // SAFETY: there is room for it.
    let head = unsafe { &mut *head };
    head.cmsg_level = libc::SOL_SOCKET;
    head.cmsg_type = libc::SCM_RIGHTS;
    // SAFETY: no preconditions.
    head.cmsg_len = unsafe { libc::CMSG_LEN(bytes) } as usize;
    // SAFETY: the control message.
    let to = unsafe { libc::CMSG_DATA(head) };
    // SAFETY: there is room for them.
    unsafe { std::ptr::copy_nonoverlapping(fds.as_ptr().cast(), to, bytes as usize) };
    // SAFETY: a message.
    assert_eq!(unsafe { libc::sendmsg(over.as_raw_fd(), &message, 0) }, 1);
}

/// A message of one byte, with room for descriptors.
fn message(control: &mut [u64; 16]) -> libc::msghdr {
    let byte = Box::leak(Box::new(0_u8));
    let iov = Box::leak(Box::new(libc::iovec {
        iov_base: std::ptr::from_mut(byte).cast(),
        iov_len: 1,
    }));
    // SAFETY: zeros are a message.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = iov;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(control);
    message
}

#[test]
fn descriptors_in_messages_are_what_they_were() {
    let (one, two) = {
        let _one = Detector::take();
        UnixStream::pair().unwrap()
    };
    let events: [RawFd; 3] = {
        let _one = Detector::take();
        [(); 3].map(|()| event())
    };
    let came: [RawFd; 3] = {
        let _one = Detector::take();
        pass(&one, &events[..2]);
        pass(&one, &events[2..]);
        let mut came = Vec::new();
        while came.len() < 3 {
            let mut control = [0_u64; 16];
            let mut message = message(&mut control);
            // SAFETY: a message.
            let n = unsafe { libc::recvmsg(two.as_raw_fd(), &mut message, 0) };
            assert_eq!(n, 1);
            // SAFETY: a message.
            let head = unsafe { libc::CMSG_FIRSTHDR(&message) };
            // SAFETY: descriptors came with it.
            let head = unsafe { &*head };
            // SAFETY: as above.
            let from = unsafe { libc::CMSG_DATA(head) }.cast::<RawFd>();
            for i in 0..(head.cmsg_len - 16) / 4 {
                // SAFETY: so many came.
                came.push(unsafe { from.wrapping_add(i).read_unaligned() });
            }
        }
        came.try_into().unwrap()
    };
    let hear = |fd| {
        let mut value = 0_u64;
        // SAFETY: eight writable bytes.
        assert_eq!(unsafe { libc::read(fd, (&raw mut value).cast(), 8) }, 8);
    };
    for (went, came) in events.into_iter().zip(came) {
        let told: &'static AtomicUsize = Box::leak(Box::new(AtomicUsize::new(0)));
        let tell = move || {
            signal_event(went);
            told.store(1, Release);
        };
        let hear = || {
            wait_until(told, 1);
            hear(came);
        };
        assert_eq!(ordered(tell, hear), 0);
    }
}

/// A new eventfd.
fn event() -> RawFd {
    // SAFETY: makes a descriptor.
    let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK) };
    assert!(fd >= 0);
    fd
}

fn signal_event(fd: RawFd) {
    assert_eq!(
        // SAFETY: eight readable bytes.
        unsafe { libc::write(fd, 1u64.to_ne_bytes().as_ptr().cast(), 8) },
        8
    );
}

#[test]
fn poll_orders() {
    let fd = event();
    let hear = || {
        let mut polled = libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one entry.
        assert_eq!(unsafe { libc::poll(&mut polled, 1, -1) }, 1);
    };
    assert_eq!(ordered(move || signal_event(fd), hear), 0);
}

fn watch(epoll: RawFd, fd: RawFd) {
    let mut event = libc::epoll_event {
        events: (libc::EPOLLIN | libc::EPOLLET) as u32,
        u64: 0,
    };
    assert_eq!(
        // SAFETY: an event.
        unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) },
        0
    );
}

fn wait_for(epoll: RawFd) {
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    // SAFETY: room for one event.
    assert_eq!(unsafe { libc::epoll_wait(epoll, &mut event, 1, -1) }, 1);
}

/// As a waker of an event loop: nobody ever reads the eventfd.
#[test]
fn epoll_orders_after_a_write_that_nobody_reads() {
    let (epoll, fd) = {
        let _one = Detector::take();
        // SAFETY: makes a descriptor.
        (unsafe { libc::epoll_create1(0) }, event())
    };
    {
        let _one = Detector::take();
        watch(epoll, fd);
    }
    assert_eq!(ordered(move || signal_event(fd), || wait_for(epoll)), 0);
    let outer = {
        let _one = Detector::take();
        // SAFETY: makes a descriptor.
        unsafe { libc::epoll_create1(0) }
    };
    {
        let _one = Detector::take();
        watch(outer, epoll);
    }
    assert_eq!(
        ordered(move || signal_event(fd), || wait_for(outer)),
        0,
        "instances that watch each other"
    );
}

#[test]
fn what_was_there_before_epoll_watched_is_ordered() {
    let (epoll, fd) = {
        let _one = Detector::take();
        // SAFETY: makes a descriptor.
        (unsafe { libc::epoll_create1(0) }, event())
    };
    static WRITTEN: AtomicUsize = AtomicUsize::new(0);
    let tell = move || {
        signal_event(fd);
        WRITTEN.store(1, Release);
    };
    let hear = || {
        wait_until(&WRITTEN, 1);
        watch(epoll, fd);
        wait_for(epoll);
    };
    assert_eq!(ordered(tell, hear), 0);
}

#[test]
fn timers_order() {
    let fd = {
        let _one = Detector::take();
        // SAFETY: makes a descriptor.
        unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, 0) }
    };
    let tell = move || {
        let soon = libc::timespec {
            tv_sec: 0,
            tv_nsec: 1000,
        };
        let never = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let spec = libc::itimerspec {
            it_value: soon,
            it_interval: never,
        };
        assert_eq!(
            // SAFETY: a timer and its time.
            unsafe { libc::timerfd_settime(fd, 0, &spec, std::ptr::null_mut()) },
            0
        );
    };
    let hear = || {
        let mut count = [0; 8];
        // SAFETY: eight writable bytes.
        assert_eq!(unsafe { libc::read(fd, count.as_mut_ptr().cast(), 8) }, 8);
    };
    assert_eq!(ordered(tell, hear), 0);
}

#[test]
fn buffers_are_the_programs_memory() {
    let detector = Detector::take();
    let (mut from, mut to) = pipe().unwrap();
    let mut buffer = [0u8; 64];
    let at = buffer.as_ptr().addr();
    let thread = spawn(move || read(at + 16));
    to.write_all(&[1; 64]).unwrap();
    wait_until_over(&thread);
    from.read_exact(&mut buffer).unwrap();
    thread.join().unwrap();
    assert_eq!(detector.races(), 1, "read writes its buffer");
    let thread = spawn(move || write(at + 24));
    wait_until_over(&thread);
    to.write_all(&buffer).unwrap();
    thread.join().unwrap();
    assert_eq!(detector.races(), 2, "write reads its buffer");
    let thread = spawn(move || read(at + 32));
    wait_until_over(&thread);
    to.write_all(&buffer).unwrap();
    thread.join().unwrap();
    assert_eq!(detector.races(), 2, "two reads");
}

#[test]
fn a_close_that_is_not_ordered_after_a_use_is_a_race() {
    let detector = Detector::take();
    let fd = event();
    let close = |fd| {
        // SAFETY: a descriptor of the test's own.
        assert_eq!(unsafe { libc::close(fd) }, 0);
    };
    let user = spawn(move || signal_event(fd));
    wait_until_over(&user);
    close(fd);
    user.join().unwrap();
    assert_eq!(detector.races(), 1);
    // The number is used again, by others, in all ways.
    for _ in 0..50 {
        let users: Vec<_> = (0..4)
            .map(|i| {
                spawn(move || {
                    let fd = if i % 2 == 0 {
                        event()
                    } else {
                        // SAFETY: copies a descriptor.
                        unsafe { libc::dup(1) }
                    };
                    if i % 2 == 0 {
                        signal_event(fd);
                    }
                    close(fd);
                })
            })
            .collect();
        users.into_iter().for_each(|t| t.join().unwrap());
        let fd = event();
        spawn(move || signal_event(fd)).join().unwrap();
        close(fd);
    }
    assert_eq!(detector.races(), 1);
}
