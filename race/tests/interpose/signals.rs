//! Signal handlers, and children.

use super::*;
use std::mem::MaybeUninit;
use std::process::Command;
use std::ptr;
use std::thread::spawn;

static HANDLED: AtomicUsize = AtomicUsize::new(0);

/// What instrumented code in a handler would do.
extern "C" fn on_profile(_signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    assert!(!info.is_null());
    let at = ptr::from_ref(&HANDLED).addr();
    race::func_enter(pc());
    race::read(at, 8, pc());
    race::release(at);
    race::acquire(at);
    race::func_exit();
    HANDLED.fetch_add(1, Relaxed);
}

fn action_of(signal: i32) -> libc::sigaction {
    let mut action = MaybeUninit::zeroed();
    assert_eq!(
        // SAFETY: asks only, and there is room.
        unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) },
        0
    );
    // SAFETY: zeroed, and filled.
    unsafe { action.assume_init() }
}

#[test]
fn handlers_interrupt_events_and_do_no_harm() {
    let detector = Detector::take();
    // SAFETY: zeros are a valid action.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = on_profile as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    assert_eq!(
        // SAFETY: an action with its handler.
        unsafe { libc::sigaction(libc::SIGPROF, &action, ptr::null_mut()) },
        0
    );
    let interval = libc::timeval {
        tv_sec: 0,
        tv_usec: 200,
    };
    let storm = libc::itimerval {
        it_interval: interval,
        it_value: interval,
    };
    assert_eq!(
        // SAFETY: a timer.
        unsafe { libc::setitimer(libc::ITIMER_PROF, &storm, ptr::null_mut()) },
        0
    );
    let data = memory(1 << 14);
    while HANDLED.load(Relaxed) < 300 {
        let threads = [0, 1, 2].map(|i| {
            spawn(move || {
                for j in 0..2000 {
                    write(data + 4096 * i + j % 512 * 8);
                    race::release_merge(data + (3 << 12));
                    drop(vec![0u8; 40 + j % 100]);
                }
            })
        });
        threads.into_iter().for_each(|t| t.join().unwrap());
    }
    // SAFETY: zeros stop the timer.
    let none: libc::itimerval = unsafe { MaybeUninit::zeroed().assume_init() };
    assert_eq!(
        // SAFETY: a timer.
        unsafe { libc::setitimer(libc::ITIMER_PROF, &none, ptr::null_mut()) },
        0
    );
    assert!(race::has_current());
    assert_eq!(detector.races(), 0);
}

#[test]
fn the_programs_own_handler_is_what_it_is_told() {
    let _detector = Detector::take();
    extern "C" fn first(_signal: i32) {
        HITS.fetch_add(1, Relaxed);
    }
    extern "C" fn second(_signal: i32) {
        HITS.fetch_add(100, Relaxed);
    }
    static HITS: AtomicUsize = AtomicUsize::new(0);
    let (first, second) = (first as *const () as usize, second as *const () as usize);
    // SAFETY: a handler.
    assert_eq!(unsafe { libc::signal(libc::SIGUSR1, first) }, libc::SIG_DFL);
    // SAFETY: a signal to this thread.
    unsafe { libc::raise(libc::SIGUSR1) };
    assert_eq!(action_of(libc::SIGUSR1).sa_sigaction, first);
    let mut old = MaybeUninit::zeroed();
    let mut new = action_of(libc::SIGUSR1);
    new.sa_sigaction = second;
    assert_eq!(
        // SAFETY: an action with its handler, and room for the old one.
        unsafe { libc::sigaction(libc::SIGUSR1, &new, old.as_mut_ptr()) },
        0
    );
    // SAFETY: filled.
    assert_eq!(unsafe { old.assume_init_ref() }.sa_sigaction, first);
    // SAFETY: a signal to this thread.
    unsafe { libc::raise(libc::SIGUSR1) };
    assert_eq!(HITS.load(Relaxed), 101);
    assert_eq!(
        // SAFETY: the default.
        unsafe { libc::signal(libc::SIGUSR1, libc::SIG_DFL) },
        second
    );
    assert_eq!(action_of(libc::SIGUSR1).sa_sigaction, libc::SIG_DFL);
}

#[test]
fn children_run() {
    use std::os::unix::process::CommandExt;
    let detector = Detector::take();
    let output = Command::new("echo").arg("spawned").output().unwrap();
    assert_eq!(output.stdout, b"spawned\n");
    let mut forked = Command::new("echo");
    // SAFETY: allocates, which a child of this program may.
    unsafe {
        forked.pre_exec(|| {
            drop(std::hint::black_box(vec![0u8; 1000]));
            Ok(())
        })
    };
    assert_eq!(forked.arg("forked").output().unwrap().stdout, b"forked\n");
    unsafe extern "C" {
        fn vfork() -> i32;
    }
    // SAFETY: the child ends at once.
    let child = unsafe { vfork() };
    if child == 0 {
        // SAFETY: as above.
        unsafe { libc::_exit(7) };
    }
    let mut status = 0;
    // SAFETY: a child, and room for its status.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(libc::WEXITSTATUS(status), 7);
    assert_eq!(detector.races(), 0);
}

/// The set of one signal, which the calling thread and those that it starts block.
fn blocked(signal: i32) -> libc::sigset_t {
    let mut set = MaybeUninit::zeroed();
    // SAFETY: room for a set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: a set.
    unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    // SAFETY: made above.
    let set = unsafe { set.assume_init() };
    assert_eq!(
        // SAFETY: a set.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut()) },
        0
    );
    set
}

/// A thread writes and sends the signal, the caller receives it and writes.
fn received(send: fn(libc::pthread_t), receive: impl FnOnce()) {
    let detector = Detector::take();
    let data = memory(8);
    // SAFETY: no preconditions.
    let me = unsafe { libc::pthread_self() };
    let thread = spawn(move || {
        write(data);
        send(me);
    });
    receive();
    write(data);
    thread.join().unwrap();
    assert_eq!(detector.races(), 0);
}

#[test]
fn signals_that_are_waited_for_order() {
    unsafe extern "C" {
        fn pthread_sigqueue(thread: libc::pthread_t, signal: i32, value: libc::sigval) -> i32;
    }
    const SIGNAL: i32 = libc::SIGWINCH;
    let set = blocked(SIGNAL);
    let sends: [fn(libc::pthread_t); 3] = [
        |to| {
            // SAFETY: a thread that waits for it.
            assert_eq!(unsafe { libc::pthread_kill(to, SIGNAL) }, 0);
        },
        |to| {
            let value = libc::sigval {
                sival_ptr: ptr::null_mut(),
            };
            // SAFETY: a thread that waits for it.
            assert_eq!(unsafe { pthread_sigqueue(to, SIGNAL, value) }, 0);
        },
        |to| {
            // SAFETY: zeros are an event.
            let mut event: libc::sigevent = unsafe { MaybeUninit::zeroed().assume_init() };
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = SIGNAL;
            event.sigev_notify_thread_id = {
                let _ = to;
                MAIN.load(Relaxed) as i32
            };
            let mut timer = ptr::null_mut();
            assert_eq!(
                // SAFETY: an event, and a place for the timer.
                unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer) },
                0
            );
            // SAFETY: zeros are a time.
            let mut when: libc::itimerspec = unsafe { MaybeUninit::zeroed().assume_init() };
            when.it_value.tv_nsec = 1000;
            assert_eq!(
                // SAFETY: a timer and its time.
                unsafe { libc::timer_settime(timer, 0, &when, ptr::null_mut()) },
                0
            );
        },
    ];
    static MAIN: AtomicUsize = AtomicUsize::new(0);
    // SAFETY: no preconditions.
    MAIN.store(unsafe { libc::gettid() } as usize, Relaxed);
    for send in sends {
        received(send, || {
            let mut signal = 0;
            // SAFETY: a set, and room for the signal.
            assert_eq!(unsafe { libc::sigwait(&set, &mut signal) }, 0);
            assert_eq!(signal, SIGNAL);
        });
        received(send, || {
            // SAFETY: a set.
            let signal = unsafe { libc::sigwaitinfo(&set, ptr::null_mut()) };
            assert_eq!(signal, SIGNAL);
        });
        received(send, || {
            let long = libc::timespec {
                tv_sec: 100,
                tv_nsec: 0,
            };
            // SAFETY: a set and a time.
            let signal = unsafe { libc::sigtimedwait(&set, ptr::null_mut(), &long) };
            assert_eq!(signal, SIGNAL);
        });
        // SAFETY: makes a descriptor.
        let fd = unsafe { libc::signalfd(-1, &set, 0) };
        received(send, || {
            let mut info = [0_u8; 128];
            // SAFETY: room for one signal.
            let n = unsafe { libc::read(fd, info.as_mut_ptr().cast(), 128) };
            assert_eq!(n, 128);
        });
        let (epoll, mut event) = {
            let _one = Detector::take();
            let mut event = libc::epoll_event {
                events: libc::EPOLLIN as u32,
                u64: 0,
            };
            // SAFETY: makes a descriptor.
            let epoll = unsafe { libc::epoll_create1(0) };
            // SAFETY: descriptors, and an event.
            unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) };
            (epoll, event)
        };
        received(send, || {
            // SAFETY: room for one event.
            assert_eq!(unsafe { libc::epoll_wait(epoll, &mut event, 1, -1) }, 1);
        });
        let mut signal = 0;
        // SAFETY: the one that was told of.
        unsafe { libc::sigwait(&set, &mut signal) };
    }
}

/// The pipe that handlers write to.
static PIPE: AtomicUsize = AtomicUsize::new(0);

extern "C" fn writes_to_the_pipe(_signal: i32) {
    // SAFETY: one byte.
    let n = unsafe { libc::write(PIPE.load(Relaxed) as i32, c"x".as_ptr().cast(), 1) };
    assert_eq!(n, 1);
}

fn handle(signal: i32, handler: *const ()) {
    // SAFETY: a handler.
    unsafe { libc::signal(signal, handler as usize) };
}

/// One thread raises a signal, whose handler writes to a pipe; another reads from it.
#[test]
fn what_a_handler_writes_orders() {
    let detector = Detector::take();
    let mut fds = [0; 2];
    // SAFETY: room for two descriptors.
    assert_eq!(unsafe { libc::pipe(fds.as_mut_ptr()) }, 0);
    PIPE.store(fds[1] as usize, Relaxed);
    handle(libc::SIGUSR2, writes_to_the_pipe as *const ());
    let data = memory(8);
    let hear = move || {
        let mut byte = [0_u8];
        // SAFETY: room for one byte.
        let n = unsafe { libc::read(fds[0], byte.as_mut_ptr().cast(), 1) };
        assert_eq!(n, 1);
        write(data);
    };
    let hearer = spawn(hear);
    write(data);
    // SAFETY: a signal with a handler.
    unsafe { libc::raise(libc::SIGUSR2) };
    hearer.join().unwrap();
    assert_eq!(detector.races(), 0, "of the thread itself");

    // Another thread's, which blocks and whose handler is ordered after who sent it.
    let blocked = {
        let mut waits = [0; 2];
        // SAFETY: room for two descriptors.
        assert_eq!(unsafe { libc::pipe(waits.as_mut_ptr()) }, 0);
        waits
    };
    static READY: AtomicUsize = AtomicUsize::new(0);
    let handles = spawn(move || {
        // SAFETY: no preconditions.
        READY.store(unsafe { libc::pthread_self() } as usize, Release);
        let mut byte = [0_u8];
        // SAFETY: room for one byte.
        let n = unsafe { libc::read(blocked[0], byte.as_mut_ptr().cast(), 1) };
        assert_eq!(n, 1);
        write(data + 8);
    });
    wait_until(&READY, 1);
    let hearer = spawn(hear);
    write(data);
    write(data + 8);
    // SAFETY: a thread that lives.
    unsafe { libc::pthread_kill(READY.load(Relaxed) as libc::pthread_t, libc::SIGUSR2) };
    hearer.join().unwrap();
    // SAFETY: one byte, in a way that the detector does not see.
    unsafe { libc::syscall(libc::SYS_write, blocked[1], c"x".as_ptr(), 1) };
    handles.join().unwrap();
    assert_eq!(detector.races(), 0, "of one that blocks");
    // What the thread does after the handler is not covered.
    let hearer = spawn(hear);
    // SAFETY: a signal with a handler.
    unsafe { libc::raise(libc::SIGUSR2) };
    write(data);
    hearer.join().unwrap();
    assert_eq!(detector.races(), 1, "after the handler");
}

/// What a handler acquires its thread has, and the handler of another signal that comes meanwhile.
#[test]
fn what_a_handler_acquires_orders() {
    static AT: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn inner(_signal: i32) {
        race::acquire(AT.load(Relaxed));
    }
    extern "C" fn outer(_signal: i32) {
        // SAFETY: a signal with a handler.
        unsafe { libc::raise(libc::SIGUSR2) };
    }
    let detector = Detector::take();
    let data = memory(16);
    AT.store(data + 8, Relaxed);
    handle(libc::SIGUSR1, outer as *const ());
    handle(libc::SIGUSR2, inner as *const ());
    let thread = spawn(move || {
        write(data);
        race::release(data + 8);
    });
    wait_until_over(&thread);
    // SAFETY: a signal with a handler.
    unsafe { libc::raise(libc::SIGUSR1) };
    write(data);
    thread.join().unwrap();
    assert_eq!(detector.races(), 0);
    // SAFETY: the default.
    unsafe { libc::signal(libc::SIGUSR1, libc::SIG_DFL) };
}

/// Calls `f`, and returns when it does or when somebody jumps here.
// SAFETY: a call of `sigsetjmp`, whose frame lives while `f` runs.
#[unsafe(naked)]
unsafe extern "C-unwind" fn catch_jump(to: *mut [u64; 32], f: extern "C-unwind" fn()) {
    std::arch::naked_asm!(
        ".cfi_startproc",
        "push rsi",
        ".cfi_adjust_cfa_offset 8",
        "mov esi, 1",
        "call __sigsetjmp@PLT",
        "pop rsi",
        ".cfi_adjust_cfa_offset -8",
        "test eax, eax",
        "jnz 2f",
        "jmp rsi",
        "2:",
        "ret",
        ".cfi_endproc",
    )
}

struct Place(std::cell::UnsafeCell<[u64; 32]>);
// SAFETY: used by one thread.
unsafe impl Sync for Place {}
static PLACE: Place = Place(std::cell::UnsafeCell::new([0; 32]));

extern "C-unwind" fn jumps_out(_signal: i32) {
    unsafe extern "C-unwind" {
        fn siglongjmp(to: *mut [u64; 32], value: i32) -> !;
    }
    // SAFETY: the place is that of a function that still runs.
    unsafe { siglongjmp(PLACE.0.get(), 1) }
}

#[test]
fn threads_that_jump_out_of_a_handler_stay_watched() {
    extern "C-unwind" fn raises() {
        // SAFETY: a signal with a handler.
        unsafe { libc::raise(libc::SIGUSR1) };
    }
    extern "C-unwind" fn raises_by_itself() {
        // SAFETY: no preconditions.
        let (process, thread) = (unsafe { libc::getpid() }, unsafe { libc::gettid() });
        // SAFETY: a signal with a handler.
        unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR1) };
    }
    let detector = Detector::take();
    // SAFETY: zeros are an action.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = jumps_out as *const () as usize;
    for flags in [0, libc::SA_ONSTACK] {
        action.sa_flags = flags;
        assert_eq!(
            // SAFETY: an action with its handler.
            unsafe { libc::sigaction(libc::SIGUSR1, &action, ptr::null_mut()) },
            0
        );
        for f in [raises as extern "C-unwind" fn(), raises_by_itself] {
            // SAFETY: a place for the jump.
            unsafe { catch_jump(PLACE.0.get(), f) };
            let data = memory(8);
            let before = detector.races();
            write(data);
            let thread = spawn(move || write(data));
            wait_until_over(&thread);
            write(data);
            thread.join().unwrap();
            assert_eq!(detector.races(), before + 1, "after the jump");
        }
    }
    // SAFETY: the default.
    unsafe { libc::signal(libc::SIGUSR1, libc::SIG_DFL) };
}

/// A call that blocks is left too.
#[test]
fn threads_that_jump_out_of_a_blocking_call_stay_watched() {
    static ENDS: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
    static READY: AtomicUsize = AtomicUsize::new(0);
    extern "C-unwind" fn reads() {
        // SAFETY: no preconditions.
        READY.store(unsafe { libc::pthread_self() } as usize, Release);
        let mut byte = [0_u8];
        let fd = ENDS[0].load(Relaxed) as i32;
        // SAFETY: room for one byte.
        unsafe { libc::read(fd, byte.as_mut_ptr().cast(), 1) };
        unreachable!("nothing was written");
    }
    let detector = Detector::take();
    let mut fds = [0; 2];
    // SAFETY: room for two descriptors.
    assert_eq!(unsafe { libc::pipe(fds.as_mut_ptr()) }, 0);
    ENDS.iter()
        .zip(fds)
        .for_each(|(end, fd)| end.store(fd as usize, Relaxed));
    handle(libc::SIGUSR1, jumps_out as *const ());
    let data = memory(8);
    let thread = spawn(move || {
        // SAFETY: a place for the jump.
        unsafe { catch_jump(PLACE.0.get(), reads) };
        write(data);
    });
    wait_until(&READY, 1);
    write(data);
    // SAFETY: a thread that lives.
    unsafe { libc::pthread_kill(READY.load(Relaxed) as libc::pthread_t, libc::SIGUSR1) };
    write(data);
    thread.join().unwrap();
    assert_eq!(detector.races(), 1);
    // SAFETY: the default.
    unsafe { libc::signal(libc::SIGUSR1, libc::SIG_DFL) };
}
