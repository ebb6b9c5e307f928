//! Queues, semaphores and children of the kernel.

use super::*;
use std::mem::MaybeUninit;
use std::ptr;

/// A thread writes and then does `tell`; the caller does `hear` and then writes.
fn ordered(tell: impl FnOnce() + Send + 'static, hear: impl FnOnce()) -> usize {
    races_between(tell, hear, write)
}

#[test]
fn posix_queues_order() {
    let name = c"/raddle-race-interpose".as_ptr();
    // SAFETY: zeros are attributes.
    let mut attributes: libc::mq_attr = unsafe { MaybeUninit::zeroed().assume_init() };
    (attributes.mq_maxmsg, attributes.mq_msgsize) = (4, 8);
    let how = libc::O_CREAT | libc::O_RDWR;
    let open = || {
        let _one = Detector::take();
        // SAFETY: a name and attributes.
        let queue = unsafe { libc::mq_open(name, how, 0o600, &raw const attributes) };
        assert!(queue >= 0);
        queue
    };
    let (queue, other) = (open(), open());
    // SAFETY: a name.
    assert_eq!(unsafe { libc::mq_unlink(name) }, 0);
    let tell = move || {
        // SAFETY: eight bytes.
        assert_eq!(unsafe { libc::mq_send(queue, [1; 8].as_ptr(), 8, 0) }, 0);
    };
    let hear = || {
        let mut bytes = [0; 8];
        // SAFETY: room for a message.
        let n = unsafe { libc::mq_receive(other, bytes.as_mut_ptr(), 8, ptr::null_mut()) };
        assert_eq!(n, 8);
    };
    assert_eq!(ordered(tell, hear), 0);
}

#[test]
fn queues_and_semaphores_of_system_v_order() {
    // SAFETY: makes a queue.
    let queue = unsafe { libc::msgget(libc::IPC_PRIVATE, 0o600) };
    let tell = move || {
        let message = [1_i64, 5];
        // SAFETY: a type, and eight bytes.
        let error = unsafe { libc::msgsnd(queue, message.as_ptr().cast(), 8, 0) };
        assert_eq!(error, 0);
    };
    let hear = || {
        let mut message = [0_i64; 2];
        // SAFETY: room for a type and eight bytes.
        let n = unsafe { libc::msgrcv(queue, message.as_mut_ptr().cast(), 8, 0, 0) };
        assert_eq!(n, 8);
    };
    assert_eq!(ordered(tell, hear), 0, "a queue");
    // SAFETY: the test's own.
    unsafe { libc::msgctl(queue, libc::IPC_RMID, ptr::null_mut()) };

    // SAFETY: makes two semaphores.
    let set = unsafe { libc::semget(libc::IPC_PRIVATE, 2, 0o600) };
    fn operate(set: i32, number: u16, by: i16) {
        let mut operation = libc::sembuf {
            sem_num: number,
            sem_op: by,
            sem_flg: 0,
        };
        // SAFETY: one operation.
        assert_eq!(unsafe { libc::semop(set, &mut operation, 1) }, 0);
    }
    assert_eq!(
        ordered(move || operate(set, 0, 1), || operate(set, 0, -1)),
        0,
        "a semaphore"
    );
    let tell = move || {
        // SAFETY: a semaphore of the set.
        assert_eq!(unsafe { libc::semctl(set, 1, libc::SETVAL, 1) }, 0);
    };
    assert_eq!(ordered(tell, || operate(set, 1, -1)), 0, "its value");
    static DONE: AtomicUsize = AtomicUsize::new(0);
    let tell = move || {
        operate(set, 0, 1);
        DONE.store(1, Release);
    };
    let hear = || {
        wait_until(&DONE, 1);
        operate(set, 1, 0);
    };
    assert_eq!(ordered(tell, hear), 1, "another of the set");
    // SAFETY: the test's own.
    unsafe { libc::semctl(set, 0, libc::IPC_RMID) };
}

#[test]
fn named_semaphores_order() {
    let name = c"/raddle-race-interpose".as_ptr();
    let open = || {
        // SAFETY: a name.
        let semaphore = unsafe { libc::sem_open(name, libc::O_CREAT, 0o600, 0) };
        assert_ne!(semaphore, libc::SEM_FAILED);
        semaphore.expose_provenance()
    };
    let (one, two) = (open(), open());
    // SAFETY: a name.
    assert_eq!(unsafe { libc::sem_unlink(name) }, 0);
    let tell = move || {
        // SAFETY: a semaphore.
        unsafe { libc::sem_post(ptr::with_exposed_provenance_mut(one)) };
    };
    let hear = || {
        // SAFETY: a semaphore.
        unsafe { libc::sem_wait(ptr::with_exposed_provenance_mut(two)) };
    };
    assert_eq!(ordered(tell, hear), 0);
}

/// Who waits for a child is ordered after who started it, and after who ended it by a signal.
#[test]
fn children_that_are_waited_for_order() {
    static CHILD: AtomicUsize = AtomicUsize::new(0);
    let start = |waits: bool| {
        // SAFETY: the child does nothing but wait or end.
        let child = unsafe { libc::fork() };
        if child == 0 {
            if waits {
                // SAFETY: no preconditions.
                unsafe { libc::pause() };
            }
            // SAFETY: as above.
            unsafe { libc::_exit(0) };
        }
        CHILD.store(child as usize, Release);
    };
    let child = || {
        while CHILD.load(Acquire) == 0 {
            std::thread::yield_now();
        }
        CHILD.load(Relaxed) as libc::pid_t
    };
    let wait = || {
        let child = child();
        // SAFETY: a child, and no room for the status, as is allowed.
        assert_eq!(unsafe { libc::waitpid(child, ptr::null_mut(), 0) }, child);
        CHILD.store(0, Relaxed);
    };
    assert_eq!(ordered(move || start(false), wait), 0, "fork");
    let wait_id = || {
        let mut info = MaybeUninit::zeroed();
        let child = child() as u32;
        let how = libc::WEXITED;
        // SAFETY: a child, and room for what it was.
        let error = unsafe { libc::waitid(libc::P_PID, child, info.as_mut_ptr(), how) };
        assert_eq!(error, 0);
        CHILD.store(0, Relaxed);
    };
    assert_eq!(ordered(move || start(false), wait_id), 0, "waitid");
    let spawned = || {
        let args = [c"true".as_ptr().cast_mut(), ptr::null_mut()];
        let mut child = 0;
        let (none, no_attributes) = (ptr::null(), ptr::null());
        let (path, args) = (c"/bin/true".as_ptr(), args.as_ptr());
        assert_eq!(
            // SAFETY: a program, and its arguments.
            unsafe {
                libc::posix_spawn(
                    &mut child,
                    path,
                    none,
                    no_attributes,
                    args,
                    [ptr::null_mut()].as_ptr(),
                )
            },
            0
        );
        CHILD.store(child as usize, Release);
    };
    assert_eq!(ordered(spawned, wait), 0, "posix_spawn");
    {
        let _one = Detector::take();
        start(true);
    }
    let kill = || {
        // SAFETY: a child of the test's own.
        unsafe { libc::kill(CHILD.load(Relaxed) as i32, libc::SIGKILL) };
    };
    assert_eq!(ordered(kill, wait), 0, "kill");
}
