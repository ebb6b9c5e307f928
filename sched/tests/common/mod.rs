//! Goroutines without the floors above, and a stand-in for the collector.
#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    reason = "each test binary uses some of it"
)]

use raddle_alloc::World;
use raddle_sched::{GRef, Lock, Rt, SpawnOptions, Task, WaitReason, enter};
use std::alloc::Layout;
use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::panic::Location;

/// Starts a goroutine with `f` in its G.
#[track_caller]
pub fn go<F: FnOnce() + Send + 'static>(f: F) {
    go_with(f, false);
}

/// As [`go`]; `system`: one of the runtime's own.
#[track_caller]
pub fn go_with<F: FnOnce() + Send + 'static>(f: F, system: bool) {
    spawn(f, system, 0);
}

/// As [`go`], on a stack of so many bytes.
#[track_caller]
pub fn go_on_stack<F: FnOnce() + Send + 'static>(bytes: usize, f: F) {
    spawn(f, false, bytes);
}

#[track_caller]
fn spawn<F: FnOnce() + Send + 'static>(f: F, system: bool, stack_size: usize) {
    unsafe fn entry<F: FnOnce()>(data: *mut u8) {
        // SAFETY: `go` moved an `F` here.
        let f = unsafe { data.cast::<F>().read() };
        f();
    }
    unsafe fn fini(_: &Rt, _: *mut ()) {}
    unsafe fn release(_: *mut ()) {}
    let f = ManuallyDrop::new(f);
    let task = Task {
        data: (&raw const f).cast(),
        layout: Layout::new::<F>(),
        entry: entry::<F>,
        release,
        fini,
        fini_arg: std::ptr::null_mut(),
    };
    let options = SpawnOptions {
        name: None,
        stack_size,
        race: None,
        at: Location::caller(),
        system,
    };
    // SAFETY: the task is as described; the closure is not used here any more.
    unsafe { enter().spawn(&task, &options) }.expect("there is room for a goroutine");
}

/// Where a goroutine waits until it is let through.
#[derive(Default)]
pub struct Gate {
    lock: Lock,
    waiting: UnsafeCell<Vec<GRef>>,
}

// SAFETY: the list is touched under the lock.
unsafe impl Sync for Gate {}

impl Gate {
    pub const fn new() -> Gate {
        Gate {
            lock: Lock::new(),
            waiting: UnsafeCell::new(Vec::new()),
        }
    }

    fn with<R>(&self, f: impl FnOnce(&mut Vec<GRef>) -> R) -> R {
        let _rt = enter();
        self.lock.lock();
        // SAFETY: under the lock.
        let r = f(unsafe { &mut *self.waiting.get() });
        // SAFETY: taken above.
        unsafe { self.lock.unlock() };
        r
    }

    /// Parks the caller.
    #[track_caller]
    pub fn wait(&'static self) {
        unsafe fn unlock(gate: *mut ()) {
            // SAFETY: `wait` passed its gate, which lives for ever.
            let gate = unsafe { &*gate.cast::<Gate>() };
            // SAFETY: `wait` holds the lock.
            unsafe { gate.lock.unlock() };
        }
        let rt = enter();
        self.lock.lock();
        // SAFETY: under the lock.
        unsafe { &mut *self.waiting.get() }.push(rt.g());
        let gate = std::ptr::from_ref(self).cast_mut().cast();
        // SAFETY: the lock is held until `unlock`, and `open` takes each waiter off once.
        unsafe { rt.park(WaitReason::Forever, Location::caller(), unlock, gate) };
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.with(|waiting| waiting.len())
    }

    /// Lets all through.
    pub fn open(&self) {
        let rt = enter();
        for g in self.with(std::mem::take) {
            // SAFETY: taken off the list under its lock.
            unsafe { rt.ready(g) };
        }
    }
}

/// The world, for a thread that stands in for the collector's coordinator.
pub fn the_world() -> &'static dyn World {
    // SAFETY: the tests start what they stop.
    unsafe { raddle_sched::world() }
}

/// Runs `f` on a thread of its own, as the collector's coordinator would.
pub fn on_collector<R: Send>(f: impl FnOnce(&'static dyn World) -> R + Send) -> R {
    let collector = std::thread::scope(|s| s.spawn(|| f(the_world())).join());
    collector.expect("the collector does not panic")
}

/// A stack that neither the runtime nor glibc knows.
struct OwnStack(usize, usize);

// SAFETY: mapped, aligned, large, and never unmapped; the lowest page stands for a guard.
unsafe impl corosensei::stack::Stack for OwnStack {
    fn base(&self) -> corosensei::stack::StackPointer {
        corosensei::stack::StackPointer::new(self.1).expect("not at 0")
    }

    fn limit(&self) -> corosensei::stack::StackPointer {
        corosensei::stack::StackPointer::new(self.0).expect("not at 0")
    }
}

/// Runs `f` on such a stack.
pub fn on_own_stack<R>(f: impl FnOnce() -> R) -> R {
    let bytes = 128 << 10;
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a fresh mapping.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, prot, flags, -1, 0) };
    assert_ne!(at, libc::MAP_FAILED);
    corosensei::on_stack(OwnStack(at.addr(), at.addr() + bytes), f)
}
