//! Queues and semaphores of the kernel: POSIX queues, and those of System V.
//!
//! | object | who releases | who acquires |
//! | --- | --- | --- |
//! | queue | who sends, before it | who receives, after it |
//! | semaphore of a set | an operation that adds, and who sets its value, before it | any other operation, after it, and who asks for the value |
//! | set | who sets all values or removes the set | any operation |
//!
//! A POSIX queue is a descriptor, and known by its inode (`desc`). Those of System V are known by
//! their numbers.

use std::ffi::{c_char, c_int, c_long, c_uint, c_ushort, c_void};

use libc::{mq_attr, mqd_t, msqid_ds, sembuf, sigevent, timespec};

use super::desc::{self, Kind, Object, hash, keyed};
use super::io::{is_news, making};
use super::real::{errno, keep_errno, real, with_caller};
use super::{blocking, read_range, watched, write_range};
use crate::{Pc, acquire, enabled};

real! {
    static MQ_OPEN: fn mq_open(*const c_char, c_int, c_uint, *mut mq_attr) -> mqd_t;
    static MQ_CLOSE: fn mq_close(mqd_t) -> c_int;
    static MQ_NOTIFY: fn mq_notify(mqd_t, *const sigevent) -> c_int;
    static MQ_SEND: fn mq_send(mqd_t, *const c_char, usize, c_uint) -> c_int;
    static MQ_TIMEDSEND: fn mq_timedsend(mqd_t, *const c_char, usize, c_uint, *const timespec) -> c_int;
    static MQ_RECEIVE: fn mq_receive(mqd_t, *mut c_char, usize, *mut c_uint) -> isize;
    static MQ_TIMEDRECEIVE: fn mq_timedreceive(mqd_t, *mut c_char, usize, *mut c_uint, *const timespec) -> isize;
    static MSGSND: fn msgsnd(c_int, *const c_void, usize, c_int) -> c_int;
    static MSGRCV: fn msgrcv(c_int, *mut c_void, usize, c_long, c_int) -> isize;
    static MSGCTL: fn msgctl(c_int, c_int, *mut msqid_ds) -> c_int;
    static SEMOP: fn semop(c_int, *mut sembuf, usize) -> c_int;
    static SEMTIMEDOP: fn semtimedop(c_int, *mut sembuf, usize, *const timespec) -> c_int;
    static SEMCTL: fn semctl(c_int, c_int, c_int, usize) -> c_int;
}

with_caller! {
    fn mq_send(queue: mqd_t, from: *const c_char, n: usize, priority: c_uint) -> c_int = send;
    fn mq_timedsend(queue: mqd_t, from: *const c_char, n: usize, priority: c_uint, until: *const timespec) -> c_int = send_timed;
    fn mq_receive(queue: mqd_t, to: *mut c_char, n: usize, priority: *mut c_uint) -> isize = receive;
    fn mq_timedreceive(queue: mqd_t, to: *mut c_char, n: usize, priority: *mut c_uint, until: *const timespec) -> isize = receive_timed;
    fn msgsnd(queue: c_int, from: *const c_void, n: usize, flags: c_int) -> c_int = send_message;
    fn msgrcv(queue: c_int, to: *mut c_void, n: usize, kind: c_long, flags: c_int) -> isize = receive_message;
    fn semop(set: c_int, operations: *mut sembuf, n: usize) -> c_int = operate;
    fn semtimedop(set: c_int, operations: *mut sembuf, n: usize, until: *const timespec) -> c_int = operate_timed;
}

/// The mode and attributes are there only if the flags ask for them; passing on what lies in their
/// places does no harm.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn mq_open(
    name: *const c_char,
    flags: c_int,
    mode: c_uint,
    attributes: *mut mq_attr,
) -> mqd_t {
    // SAFETY: the caller's arguments.
    making(
        unsafe { MQ_OPEN.get()(name, flags, mode, attributes) },
        Kind::File,
    )
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn mq_close(queue: mqd_t) -> c_int {
    if enabled() {
        desc::closes(queue, 0);
    }
    // SAFETY: the caller's queue.
    unsafe { MQ_CLOSE.get()(queue) }
}

/// The next message to the empty queue sends a signal.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn mq_notify(queue: mqd_t, event: *const sigevent) -> c_int {
    if watched().is_some()
        // SAFETY: null, or the caller's event.
        && let Some(event) = unsafe { event.as_ref() }
        && event.sigev_notify == libc::SIGEV_SIGNAL
    {
        desc::tells_by_signal(queue, event.sigev_signo);
    }
    // SAFETY: the caller's arguments.
    unsafe { MQ_NOTIFY.get()(queue, event) }
}

/// Sends to the queue by `f`, which may block.
#[inline(always)]
fn send_by<R>(
    queue: mqd_t,
    from: *const c_char,
    n: usize,
    caller: usize,
    f: impl FnOnce() -> R,
) -> R {
    let Some(me) = watched() else { return f() };
    read_range(from.addr(), n, Pc::code(caller));
    desc::publish(queue);
    blocking(me, f)
}

unsafe extern "C-unwind" fn send(
    queue: mqd_t,
    from: *const c_char,
    n: usize,
    priority: c_uint,
    caller: usize,
) -> c_int {
    // SAFETY: the caller's arguments.
    let call = move || unsafe { MQ_SEND.get()(queue, from, n, priority) };
    send_by(queue, from, n, caller, call)
}

unsafe extern "C-unwind" fn send_timed(
    queue: mqd_t,
    from: *const c_char,
    n: usize,
    priority: c_uint,
    until: *const timespec,
    caller: usize,
) -> c_int {
    // SAFETY: the caller's arguments.
    let call = move || unsafe { MQ_TIMEDSEND.get()(queue, from, n, priority, until) };
    send_by(queue, from, n, caller, call)
}

/// Receives from the queue by `f`, which returns how many bytes came.
#[inline(always)]
fn receive_by(
    queue: mqd_t,
    to: *mut c_char,
    priority: *mut c_uint,
    caller: usize,
    f: impl FnOnce() -> isize,
) -> isize {
    let Some(me) = watched() else { return f() };
    let came = blocking(me, f);
    keep_errno(|| {
        if is_news(came) {
            desc::observe(queue);
        }
        if let Ok(came) = usize::try_from(came) {
            write_range(to.addr(), came, Pc::code(caller));
            if !priority.is_null() {
                write_range(priority.addr(), size_of::<c_uint>(), Pc::code(caller));
            }
        }
    });
    came
}

unsafe extern "C-unwind" fn receive(
    queue: mqd_t,
    to: *mut c_char,
    n: usize,
    priority: *mut c_uint,
    caller: usize,
) -> isize {
    // SAFETY: the caller's arguments.
    let call = move || unsafe { MQ_RECEIVE.get()(queue, to, n, priority) };
    receive_by(queue, to, priority, caller, call)
}

unsafe extern "C-unwind" fn receive_timed(
    queue: mqd_t,
    to: *mut c_char,
    n: usize,
    priority: *mut c_uint,
    until: *const timespec,
    caller: usize,
) -> isize {
    // SAFETY: the caller's arguments.
    let call = move || unsafe { MQ_TIMEDRECEIVE.get()(queue, to, n, priority, until) };
    receive_by(queue, to, priority, caller, call)
}

fn queue_object(queue: c_int) -> &'static Object {
    keyed(hash(6, queue as u64, 0))
}

unsafe extern "C-unwind" fn send_message(
    queue: c_int,
    from: *const c_void,
    n: usize,
    flags: c_int,
    caller: usize,
) -> c_int {
    // SAFETY: the caller's arguments.
    let call = move || unsafe { MSGSND.get()(queue, from, n, flags) };
    let Some(me) = watched() else { return call() };
    // The type of the message comes before it.
    read_range(from.addr(), size_of::<c_long>() + n, Pc::code(caller));
    desc::publish_at(queue_object(queue));
    blocking(me, call)
}

unsafe extern "C-unwind" fn receive_message(
    queue: c_int,
    to: *mut c_void,
    n: usize,
    kind: c_long,
    flags: c_int,
    caller: usize,
) -> isize {
    // SAFETY: the caller's arguments.
    let call = move || unsafe { MSGRCV.get()(queue, to, n, kind, flags) };
    let Some(me) = watched() else { return call() };
    let came = blocking(me, call);
    keep_errno(|| {
        if came >= 0 || errno() == libc::EIDRM {
            acquire(queue_object(queue).addr());
        }
        if let Ok(came) = usize::try_from(came) {
            write_range(to.addr(), size_of::<c_long>() + came, Pc::code(caller));
        }
    });
    came
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn msgctl(queue: c_int, command: c_int, about: *mut msqid_ds) -> c_int {
    if watched().is_some() && command == libc::IPC_RMID {
        desc::publish_at(queue_object(queue));
    }
    // SAFETY: the caller's arguments.
    unsafe { MSGCTL.get()(queue, command, about) }
}

fn semaphore_object(set: c_int, number: c_ushort) -> &'static Object {
    keyed(hash(7, set as u64, number.into()))
}

fn set_object(set: c_int) -> &'static Object {
    keyed(hash(8, set as u64, 0))
}

/// Calls back with the operations that add, or with the others.
///
/// # Safety
/// There are `n` operations, as the caller of `semop` owes.
unsafe fn each_semaphore(
    set: c_int,
    operations: *const sembuf,
    n: usize,
    adds: bool,
    f: impl Fn(&'static Object),
) {
    for i in 0..n {
        // SAFETY: by the contract.
        let operation = unsafe { operations.wrapping_add(i).read() };
        if (operation.sem_op > 0) == adds {
            f(semaphore_object(set, operation.sem_num));
        }
    }
}

/// Operations on semaphores of the set, by `f`.
///
/// # Safety
/// There are `n` operations, as the caller of `semop` owes.
#[inline(always)]
unsafe fn operate_by(
    set: c_int,
    operations: *const sembuf,
    n: usize,
    caller: usize,
    f: impl FnOnce() -> c_int,
) -> c_int {
    let Some(me) = watched() else { return f() };
    read_range(operations.addr(), n * size_of::<sembuf>(), Pc::code(caller));
    // SAFETY: by the contract.
    unsafe { each_semaphore(set, operations, n, true, desc::publish_at) };
    let error = blocking(me, f);
    keep_errno(|| {
        if error == 0 || errno() == libc::EIDRM {
            acquire(set_object(set).addr());
        }
        if error == 0 {
            // SAFETY: by the contract.
            unsafe { each_semaphore(set, operations, n, false, |object| acquire(object.addr())) };
        }
    });
    error
}

unsafe extern "C-unwind" fn operate(
    set: c_int,
    operations: *mut sembuf,
    n: usize,
    caller: usize,
) -> c_int {
    // SAFETY: the caller's arguments.
    let call = move || unsafe { SEMOP.get()(set, operations, n) };
    // SAFETY: the caller's operations.
    unsafe { operate_by(set, operations, n, caller, call) }
}

unsafe extern "C-unwind" fn operate_timed(
    set: c_int,
    operations: *mut sembuf,
    n: usize,
    until: *const timespec,
    caller: usize,
) -> c_int {
    // SAFETY: the caller's arguments.
    let call = move || unsafe { SEMTIMEDOP.get()(set, operations, n, until) };
    // SAFETY: the caller's operations.
    unsafe { operate_by(set, operations, n, caller, call) }
}

/// Without a fourth argument, what lies in its place does no harm.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn semctl(set: c_int, number: c_int, command: c_int, arg: usize) -> c_int {
    if watched().is_none() {
        // SAFETY: the caller's arguments.
        return unsafe { SEMCTL.get()(set, number, command, arg) };
    }
    let semaphore = semaphore_object(set, number as c_ushort);
    match command {
        libc::SETVAL => desc::publish_at(semaphore),
        libc::SETALL | libc::IPC_RMID => desc::publish_at(set_object(set)),
        _ => {}
    }
    // SAFETY: the caller's arguments.
    let result = unsafe { SEMCTL.get()(set, number, command, arg) };
    if result >= 0 && command == libc::GETVAL {
        acquire(semaphore.addr());
        acquire(set_object(set).addr());
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goroutine::go_start;
    use crate::testing::{detector, fresh_memory, fresh_pc, on, take_races};
    use crate::{go_end, write};

    #[test]
    fn what_is_sent_to_a_queue_tells_by_a_signal() {
        const SIGNAL: c_int = libc::SIGWINCH; // which is ignored
        let _detector = detector();
        let data = fresh_memory(8);
        let [sender, receiver] = [1, 2].map(|id| go_start(None, (1 << 40) + id, Pc::NONE));
        on(sender, || {
            let name = c"/raddle-race-notice".as_ptr();
            let how = libc::O_CREAT | libc::O_RDWR;
            // SAFETY: a name, and the usual attributes.
            let queue = unsafe { mq_open(name, how, 0o600, std::ptr::null_mut()) };
            // SAFETY: a name.
            unsafe { libc::mq_unlink(name) };
            // SAFETY: zeros are an event.
            let mut event: sigevent = unsafe { std::mem::zeroed() };
            (event.sigev_notify, event.sigev_signo) = (libc::SIGEV_SIGNAL, SIGNAL);
            // SAFETY: an event.
            assert_eq!(unsafe { libc::mq_notify(queue, &event) }, 0);
            write(data, 8, fresh_pc());
            // SAFETY: one byte.
            assert_eq!(unsafe { libc::mq_send(queue, [1].as_ptr(), 1, 0) }, 0);
            // SAFETY: the test's own.
            unsafe { libc::mq_close(queue) };
        });
        on(receiver, || {
            let sent = desc::signal_object(SIGNAL).expect("it is one");
            acquire(sent.addr());
            write(data, 8, fresh_pc());
        });
        assert!(take_races().is_empty());
        go_end(sender);
        go_end(receiver);
    }
}
