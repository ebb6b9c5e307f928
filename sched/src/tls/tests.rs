//! Bare coroutines over a slot and its block, moved by hand between OS threads.

use super::*;
use crate::stack::{self, CoStack, Slot};
use corosensei::{Coroutine, CoroutineResult, Yielder};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{RecvError, Sender, TryRecvError, channel};
use std::thread;

type Suspend = Yielder<(), ()>;

/// A goroutine without a scheduler.
struct Bare {
    co: Option<Coroutine<(), (), thread::Result<()>, CoStack>>,
    block: Block,
    slot: Slot,
}

// SAFETY: its thread-locals are in its own block, which is what these tests are about.
unsafe impl Send for Bare {}

impl Bare {
    fn new(body: impl FnOnce(&Suspend) + 'static) -> Self {
        init().expect("a glibc that will do");
        let slot = stack::alloc(stack::DEFAULT_BYTES).expect("a slot");
        Self::on(slot, body)
    }

    fn on(slot: Slot, body: impl FnOnce(&Suspend) + 'static) -> Self {
        // SAFETY: the layout is the same for each slot; a slot in use for the first time is fresh.
        let (block, top) = if slot.fresh {
            // SAFETY: the slot is ours and holds zeros.
            unsafe { create(slot.top()) }
        } else {
            block_of(&slot)
        };
        // SAFETY: the slot is kept until the coroutine is done.
        let stack = unsafe { CoStack::new(&slot, top) };
        // SAFETY: the block is the slot's.
        unsafe { describe_stack(block, slot.base(), slot.top()) };
        let co = Coroutine::with_stack(stack, move |suspend, ()| {
            let result = catch_unwind(AssertUnwindSafe(|| body(suspend)));
            // SAFETY: the body is over and this is its block.
            unsafe { run_dtors(block) };
            result
        });
        Self {
            co: Some(co),
            block,
            slot,
        }
    }

    /// Runs until it suspends (false) or ends (true).
    fn step(&mut self) -> bool {
        // SAFETY: gettid has no preconditions.
        let tid = unsafe { libc::gettid() };
        let own = thread_block();
        let co = self.co.as_mut().expect("not ended");
        // SAFETY: a test thread's own stack; the block is the coroutine's.
        unsafe { enter(self.block, tid, true) };
        let result = co.resume(());
        // SAFETY: the block read above.
        unsafe { leave(own) };
        match result {
            CoroutineResult::Yield(()) => false,
            CoroutineResult::Return(Ok(())) => true,
            CoroutineResult::Return(Err(panic)) => resume_unwind(panic),
        }
    }

    /// Runs one step on another OS thread.
    fn step_elsewhere(mut self) -> Self {
        thread::spawn(move || {
            self.step();
            self
        })
        .join()
        .unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Runs the last step on another OS thread, and retires.
    fn step_to_end_elsewhere(mut self) -> Slot {
        thread::spawn(move || {
            assert!(self.step(), "it suspended once more");
            self.retire()
        })
        .join()
        .unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Resets the block and returns the slot.
    fn retire(mut self) -> Slot {
        drop(self.co.take());
        // SAFETY: the coroutine is gone.
        unsafe { reset(self.block) };
        self.slot.fresh = false;
        self.slot
    }
}

/// Returns the block of a slot that is not fresh, and where its stack starts.
fn block_of(slot: &Slot) -> (Block, usize) {
    // SAFETY: Bare::on created it at the slot's top.
    unsafe { find(slot.top()) }
}

/// Runs `body` to its end in a goroutine of its own.
fn run(body: impl FnOnce() + 'static) -> Slot {
    let mut bare = Bare::new(|_| body());
    assert!(bare.step());
    bare.retire()
}

thread_local! {
    static COUNT: Cell<u32> = const { Cell::new(7) };
    static LIST: RefCell<Vec<u32>> = RefCell::new(vec![1, 2, 3]);
}

#[test]
fn values_and_addresses_follow_the_goroutine() {
    if init() == Ok(TlsMode::Thread) {
        return;
    }
    COUNT.set(100);
    let mut bare = Bare::new(|suspend| {
        assert_eq!(COUNT.get(), 7);
        COUNT.with(|count| {
            count.set(8);
            let before = std::ptr::from_ref(count);
            suspend.suspend(());
            assert_eq!(COUNT.with(std::ptr::from_ref), before);
            assert_eq!(count.get(), 8);
        });
        LIST.with_borrow_mut(|list| {
            suspend.suspend(());
            list.push(4);
        });
        assert_eq!(LIST.take(), [1, 2, 3, 4]);
    });
    assert!(!bare.step());
    assert_eq!(COUNT.get(), 100);
    bare.step_elsewhere().step_to_end_elsewhere();
}

#[test]
fn unwinding_parks_and_ends_on_another_thread() {
    if init() == Ok(TlsMode::Thread) {
        return;
    }
    struct ParksInDrop<'a>(&'a Suspend);
    impl Drop for ParksInDrop<'_> {
        fn drop(&mut self) {
            assert!(thread::panicking());
            self.0.suspend(());
            assert!(thread::panicking());
        }
    }
    let mut bare = Bare::new(|suspend| {
        let result = catch_unwind(AssertUnwindSafe(|| {
            let _parks = ParksInDrop(suspend);
            resume_unwind(Box::new("boom"));
        }));
        assert!(result.is_err());
        assert!(!thread::panicking());
    });
    assert!(!bare.step());
    assert!(!thread::panicking());
    bare.step_to_end_elsewhere();
}

#[test]
fn each_goroutine_is_a_thread_of_its_own_to_std() {
    if init() == Ok(TlsMode::Thread) {
        return;
    }
    let ids = || {
        let (tell, told) = channel();
        let mut bare = Bare::new(move |suspend| {
            tell.send(thread::current().id()).expect("heard");
            suspend.suspend(());
            tell.send(thread::current().id()).expect("heard");
        });
        assert!(!bare.step());
        bare.step_to_end_elsewhere();
        told.iter().collect::<Vec<_>>()
    };
    let (one, other) = (ids(), ids());
    assert_eq!(one[0], one[1]);
    assert_eq!(other[0], other[1]);
    assert_ne!(one[0], other[0]);
    assert_ne!(one[0], thread::current().id());
}

#[test]
fn errno_follows_the_goroutine() {
    if init() == Ok(TlsMode::Thread) {
        return;
    }
    let fail = || {
        // SAFETY: no descriptor has this number, so nothing is closed.
        assert_eq!(unsafe { libc::close(-1) }, -1);
    };
    let errno = || std::io::Error::last_os_error().raw_os_error();
    let mut bare = Bare::new(move |suspend| {
        assert_eq!(errno(), Some(0));
        fail();
        suspend.suspend(());
        assert_eq!(errno(), Some(libc::EBADF));
    });
    assert!(!bare.step());
    bare.step_to_end_elsewhere();
}

#[test]
fn destructors_run_when_the_goroutine_ends() {
    if init() == Ok(TlsMode::Thread) {
        return;
    }
    struct Tells(Cell<Option<Sender<&'static str>>>);
    impl Drop for Tells {
        fn drop(&mut self) {
            if let Some(tell) = self.0.take() {
                tell.send("dropped").expect("heard");
            }
        }
    }
    thread_local!(static TELLS: Tells = const { Tells(Cell::new(None)) });
    let (tell, told) = channel();
    let mut bare = Bare::new(move |suspend| {
        TELLS.with(|tells| tells.0.set(Some(tell)));
        suspend.suspend(());
    });
    assert!(!bare.step());
    assert_eq!(told.try_recv(), Err(TryRecvError::Empty));
    bare.step_to_end_elsewhere();
    assert_eq!(told.recv(), Ok("dropped"));
    assert_eq!(told.recv(), Err(RecvError));
}

#[test]
fn key_destructors_run_when_the_goroutine_ends() {
    if init() == Ok(TlsMode::Thread) {
        return;
    }
    extern "C" fn add_one(value: *mut libc::c_void) {
        // SAFETY: the value set below, which outlives the goroutine.
        unsafe { &*value.cast::<AtomicUsize>() }.fetch_add(1, Relaxed);
    }
    let ran: &'static AtomicUsize = Box::leak(Box::new(AtomicUsize::new(0)));
    let value = std::ptr::from_ref(ran).cast();
    // More keys than a group has, so that glibc allocates a second one.
    let keys: Vec<_> = (0..40)
        .map(|_| {
            let mut key = 0;
            // SAFETY: the destructor takes what the goroutine sets.
            let refused = unsafe { libc::pthread_key_create(&raw mut key, Some(add_one)) };
            assert_eq!(refused, 0);
            key
        })
        .collect();
    let used = keys.clone();
    let slot = run(move || {
        for &key in &used {
            // SAFETY: a key that exists.
            assert_eq!(unsafe { libc::pthread_setspecific(key, value) }, 0);
        }
    });
    assert_eq!(ran.load(Relaxed), 40);
    let unset = keys.clone();
    let mut bare = Bare::on(slot, move |_| {
        for &key in &unset {
            // SAFETY: a key that exists.
            assert!(unsafe { libc::pthread_getspecific(key) }.is_null());
        }
    });
    assert!(bare.step());
    for key in keys {
        // SAFETY: created above, deleted once.
        unsafe { libc::pthread_key_delete(key) };
    }
}

#[test]
fn a_reused_block_starts_afresh() {
    if init() == Ok(TlsMode::Thread) {
        return;
    }
    let (tell, told) = channel();
    let body = || {
        let tell = tell.clone();
        move |_: &Suspend| {
            assert_eq!(COUNT.replace(9), 7);
            assert_eq!(LIST.replace(Vec::new()), [1, 2, 3]);
            // SAFETY: no descriptor has this number.
            unsafe { libc::close(-1) };
            tell.send(thread::current().id()).expect("heard");
        }
    };
    let mut bare = Bare::new(body());
    assert!(bare.step());
    let mut bare = Bare::on(bare.retire(), body());
    assert!(bare.step());
    let mut bare = Bare::on(bare.retire(), |_| {
        assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(0));
    });
    assert!(bare.step());
    assert_ne!(told.recv(), told.recv());
}

#[test]
fn a_destroyed_block_leaves_its_slot_ready_for_another() {
    if init() == Ok(TlsMode::Thread) {
        return;
    }
    let use_malloc = || {
        let blocks: Vec<_> = (0..200)
            // SAFETY: malloc has no preconditions.
            .map(|i| unsafe { libc::malloc(i * 24) })
            .collect();
        // SAFETY: each was just allocated.
        blocks.into_iter().for_each(|at| unsafe { libc::free(at) });
    };
    let mut slot = run(use_malloc);
    for _ in 0..3 {
        // SAFETY: the slot's block, which no goroutine uses.
        unsafe { destroy(block_of(&slot).0) };
        let (at, bytes) = (slot.base() as *mut u8, slot.top() - slot.base());
        // SAFETY: the slot is ours.
        unsafe { std::ptr::write_bytes(at, 0, bytes) };
        slot.fresh = true;
        let mut bare = Bare::on(slot, move |_| use_malloc());
        assert!(bare.step());
        slot = bare.retire();
    }
}

#[test]
fn the_c_library_works() {
    run(|| {
        let mut text = [0u8; 32];
        // SAFETY: the buffer has the size named, the format takes a double.
        let len = unsafe { libc::snprintf(text.as_mut_ptr().cast(), 32, c"%.3f".as_ptr(), 2.5) };
        assert_eq!(&text[..len as usize], b"2.500");
        // SAFETY: a C string, and no end wanted.
        let number = unsafe { libc::strtod(c"1.25".as_ptr(), std::ptr::null_mut()) };
        assert_eq!(number, 1.25);
        // SAFETY: a character.
        let letter = unsafe { libc::isalpha(i32::from(b'x')) };
        // SAFETY: a character.
        let digit = unsafe { libc::isalpha(i32::from(b'1')) };
        assert!(letter != 0 && digit == 0);
        assert!(
            std::io::Error::from_raw_os_error(libc::ENOENT)
                .to_string()
                .contains("No such")
        );
        println!("from a goroutine: {:?}", vec![String::from("formatted"); 3]);
        assert_eq!(thread::spawn(|| COUNT.get()).join().expect("no panic"), 7);
    });
}

#[test]
fn names_are_resolved() {
    use std::net::ToSocketAddrs;
    let slot = run(|| {
        let mut found = ("localhost", 80).to_socket_addrs().expect("localhost");
        assert!(found.any(|at| at.ip().is_loopback()));
    });
    // SAFETY: the slot's block, which no goroutine uses. It holds an open resolver.
    unsafe { destroy(block_of(&slot).0) };
}

#[test]
fn the_cpu_number_is_a_cpu() {
    run(|| {
        // SAFETY: no preconditions.
        let cpu = unsafe { libc::sched_getcpu() };
        // SAFETY: no preconditions.
        let cpus = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) };
        assert!((0..cpus).contains(&cpu.into()));
    });
}

#[test]
fn the_thread_number_is_that_of_the_running_thread() {
    fn kill_self_with_nothing() -> libc::c_int {
        // SAFETY: no preconditions.
        let own = unsafe { libc::pthread_self() };
        // SAFETY: signal 0 only checks.
        unsafe { libc::pthread_kill(own, 0) }
    }
    let mut bare = Bare::new(|suspend| {
        assert_eq!(kill_self_with_nothing(), 0);
        suspend.suspend(());
        assert_eq!(kill_self_with_nothing(), 0);
    });
    assert!(!bare.step());
    bare.step_to_end_elsewhere();
}

#[test]
fn a_goroutine_may_fork() {
    run(|| {
        // SAFETY: the child does nothing but exit.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(7) };
        }
        let mut status = 0;
        // SAFETY: the child was just made.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7);
    });
}

#[test]
fn user_ids_may_be_set_while_goroutines_run() {
    let set_own = || {
        // SAFETY: no preconditions.
        let own = unsafe { libc::getuid() };
        // SAFETY: no preconditions.
        assert_eq!(unsafe { libc::setuid(own) }, 0);
    };
    run(set_own);
    let (tell, told) = channel();
    let (finish, finished) = channel();
    let running = thread::spawn(move || {
        let mut bare = Bare::new(move |_| {
            tell.send(()).expect("heard");
            assert_eq!(finished.recv(), Ok(()));
        });
        assert!(bare.step());
    });
    told.recv().expect("runs");
    set_own();
    finish.send(()).expect("heard");
    running.join().expect("no panic");
}

#[test]
fn robust_mutexes_may_be_locked() {
    run(|| {
        // SAFETY: zeros are a valid value to initialise over.
        let mut attr: libc::pthread_mutexattr_t = unsafe { std::mem::zeroed() };
        let attr = &raw mut attr;
        // SAFETY: ours to initialise.
        unsafe { libc::pthread_mutexattr_init(attr) };
        // SAFETY: initialised above.
        unsafe { libc::pthread_mutexattr_setrobust(attr, libc::PTHREAD_MUTEX_ROBUST) };
        let mut mutex = libc::PTHREAD_MUTEX_INITIALIZER;
        let mutex = &raw mut mutex;
        // SAFETY: ours to initialise, and not moved.
        unsafe { libc::pthread_mutex_init(mutex, attr) };
        // SAFETY: initialised above.
        assert_eq!(unsafe { libc::pthread_mutex_lock(mutex) }, 0);
        // SAFETY: locked above.
        assert_eq!(unsafe { libc::pthread_mutex_unlock(mutex) }, 0);
    });
}

#[test]
fn glibc_knows_the_bounds_of_the_stack() {
    if init() == Ok(TlsMode::Thread) {
        return;
    }
    let (tell, told) = channel();
    let slot = run(move || {
        let here = 0u8;
        let (mut start, mut bytes) = (std::ptr::null_mut(), 0);
        // SAFETY: zeros are a valid value to initialise over.
        let mut attr: libc::pthread_attr_t = unsafe { std::mem::zeroed() };
        let attr = &raw mut attr;
        // SAFETY: no preconditions.
        let own = unsafe { libc::pthread_self() };
        // SAFETY: ours to initialise.
        assert_eq!(unsafe { libc::pthread_getattr_np(own, attr) }, 0);
        // SAFETY: initialised above.
        unsafe { libc::pthread_attr_getstack(attr, &raw mut start, &raw mut bytes) };
        // SAFETY: initialised above.
        unsafe { libc::pthread_attr_destroy(attr) };
        tell.send((start as usize, bytes, &raw const here as usize))
            .expect("heard");
    });
    let (start, bytes, here) = told.recv().expect("told");
    assert_eq!((start, start + bytes), (slot.base(), slot.top()));
    assert!((start..start + bytes).contains(&here));
}

#[test]
fn a_block_keeps_to_its_room_wherever_its_slot_ends() {
    if init() == Ok(TlsMode::Thread) {
        return;
    }
    let slot = stack::alloc(stack::DEFAULT_BYTES).expect("a slot");
    for pages in 0..8 {
        let top = slot.top() - pages * stack::PAGE_BYTES;
        // SAFETY: the memory is the slot's, and there is room; of the last block only zeros are
        // left.
        let (block, stack_top) = unsafe { create(top) };
        assert!(stack_top >= top - block_bytes(), "{pages} pages below");
        // SAFETY: just made, and used by nobody.
        unsafe { destroy(block) };
        // SAFETY: the slot is ours.
        unsafe { std::ptr::write_bytes(stack_top as *mut u8, 0, top - stack_top) };
    }
}

#[test]
fn what_glibc_lacks_is_named() {
    let missing = glibc::Missing(c"_dl_allocate_tls").to_string();
    assert!(missing.starts_with("glibc 2."), "{missing}");
    assert!(
        missing.contains(" has no usable _dl_allocate_tls, which "),
        "{missing}"
    );
}

#[test]
fn thread_mode_changes_nothing() {
    if init() != Ok(TlsMode::Thread) {
        return;
    }
    assert_eq!(block_bytes(), 0);
    // SAFETY: in this mode the address is not used.
    assert_eq!(unsafe { create(4097) }, (Block::NONE, 4096));
    assert_eq!(thread_block(), Block::NONE);
}
