//! Bare coroutines over a slot and its block, moved by hand between OS threads.

use super::*;
use crate::stack::{self, CoStack, Slot};
use corosensei::{Coroutine, CoroutineResult, Yielder};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
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
        init();
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
        unsafe { enter(self.block, tid) };
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

fn block_of(slot: &Slot) -> (Block, usize) {
    let layout = layout();
    if mode() == TlsMode::Thread {
        return (Block(0), slot.top());
    }
    let tp = (slot.top() - layout.size_above) & !(layout.align - 1);
    (Block(tp), (tp - layout.size_below) & !15)
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
    COUNT.set(100);
    let mut bare = Bare::new(|suspend| {
        assert_eq!(COUNT.get(), 7);
        COUNT.with(|count| {
            count.set(8);
            let before = std::ptr::from_ref(count);
            suspend.suspend(());
            assert_eq!(COUNT.with(|count| std::ptr::from_ref(count)), before);
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
    let ids = || {
        let (tell, told) = std::sync::mpsc::channel();
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
