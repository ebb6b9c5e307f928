//! Order that goes through the kernel: pipes, sockets, events, epoll.

use super::*;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::thread::spawn;

/// A thread writes to `data` and then does `tell`; the caller does `hear` and then reads it.
fn ordered(tell: impl FnOnce() + Send + 'static, hear: impl FnOnce()) -> usize {
    let detector = Detector::take();
    let data = memory(8);
    let thread = spawn(move || {
        write(data);
        tell();
    });
    hear();
    read(data);
    thread.join().unwrap();
    detector.races()
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

/// A new eventfd.
fn event() -> RawFd {
    // SAFETY: makes a descriptor.
    let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK) };
    assert!(fd >= 0);
    fd
}

fn signal_event(fd: RawFd) {
    // SAFETY: eight readable bytes.
    assert_eq!(
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
    // SAFETY: an event.
    assert_eq!(
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
        // SAFETY: a timer and its time.
        assert_eq!(
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
