//! `fork`: the child has only the thread that called it, so no other may hold a lock of the heap at that moment.
//!
//! The handlers take all locks before the fork, in their order, and give them back on both sides: a child may allocate, as what
//! `Command::pre_exec` runs often does. It has no collector: its first collection starts another.

use crate::{cache, central, gc, pages, thread};
use std::sync::atomic::{AtomicBool, Ordering::*};

static INSTALLED: AtomicBool = AtomicBool::new(false);

/// Installs the handlers, once per process.
pub(crate) fn install() {
    if !INSTALLED.swap(true, Relaxed) {
        // SAFETY: the functions have the type asked for.
        unsafe { libc::pthread_atfork(Some(before), Some(after), Some(after_in_child)) };
    }
}

/// In the order in which they nest: a pool's lock is taken under the page heap's.
fn each_lock(mut f: impl FnMut(&crate::Lock)) {
    thread::each_lock(&mut f);
    gc::each_lock(&mut f);
    for central in central::all() {
        f(central.lock());
    }
    f(pages::lock());
    f(pages::SPANS.lock());
    f(cache::pool_lock());
}

extern "C" fn before() {
    thread::this_thread().begin();
    each_lock(crate::Lock::lock);
}

extern "C" fn after() {
    // SAFETY: `before` took them.
    each_lock(|lock| unsafe { lock.unlock() });
    thread::this_thread().end();
}

extern "C" fn after_in_child() {
    gc::after_fork();
    after();
}
