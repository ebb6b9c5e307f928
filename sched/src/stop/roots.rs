//! Where pointers may be, with the world stopped.
//!
//! - Statics: `modules`.
//! - A stopped thread: its registers, vectors included (but in a system call of the C library), as the signal's frame has them; its stack from 128 bytes below the stack
//!   pointer (the red zone) up; its thread-locals. glibc puts a thread's own block at the top of its stack, so one range is all;
//!   for a thread on a goroutine's stack, the goroutine's slot is, whose block is at the top too.
//! - An M that runs a goroutine: besides, its own block. What else lies on its own stack then are frames of the scheduler,
//!   which hold Gs, Ms and Ps only. In `blocking` it stands on its own stack, with the goroutine's block active: its stack
//!   and block are shown as the thread's, the slot as the goroutine's.
//! - A goroutine that nobody stands on: its stack as `parked` says, with its block. And its G: what it is to run, until it has
//!   begun, lies there.
//! - What hangs on a block: storage of opened libraries, later keys of `pthread_setspecific`.
//!
//! Not shown: the stack of the caller and of the collector's other threads; idle stacks; what the collector finds by itself
//! (Ms, Ps, timers, queues, thread Gs are in the heap).
//!
//! # Stacks that are neither
//!
//! A signal handler of the program's may stand on an alternate stack, with the interrupted stack pointer deep in the
//! frame: then that stack is shown, and of the thread's stack, or of the goroutine's, all. Whoever goes to a stack of their own
//! (`stacker` does when the one it is on gets short) gets the whole mapping above the stack pointer, and likewise all of the
//! stack that was left. With thread-bound thread-locals glibc does not tell where a thread's stack is; there, a mapping that goes
//! from the stack pointer up to the thread's block is its own stack, and nothing was left. Other such stacks that nobody stands
//! on are unknown here, and `gc::add_root` is for them.

use super::buf::Buf;
use super::halt::Stopped;
use super::modules::Modules;
use super::tasks::Tasks;
use crate::g::{G, State};
use crate::parked::{Note, margin};
use crate::stack::{self, Slot};
use crate::tls::{self, TlsMode};
use std::mem::offset_of;
use std::ops::Range;

/// What the ABI lets a function use below its stack pointer, in bytes.
const RED_ZONE: usize = 128;
/// The kernel keeps this much free below a main thread's stack, so nothing else can be so near to its top.
const MAIN_STACK_MAX: usize = 128 << 20;

/// Facts that do not change while the process lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fixed {
    /// The top of the main thread's stack, above all frames of the program.
    pub(super) main_top: usize,
    /// The code of the C library.
    pub(super) libc_start: usize,
    pub(super) libc_end: usize,
}

impl Fixed {
    /// Whether the thread waits in a system call that a function of the C library made. The ABI lets no caller keep anything in a vector
    /// register over that; what is in them is what the thread copied last, and would keep garbage alive as long as it sleeps.
    fn is_in_libc_call(&self, context: &libc::ucontext_t) -> bool {
        const SYSCALL: [u8; 2] = [0x0f, 0x05];
        let pc = context.uc_mcontext.gregs[libc::REG_RIP as usize] as usize;
        if pc < self.libc_start + 2 || pc + 2 > self.libc_end {
            return false;
        }
        // Behind the instruction, or before it, if the call is begun again.
        [pc - 2, pc].into_iter().any(|at| {
            // SAFETY: two bytes of the library's code, which can be read.
            unsafe { (at as *const [u8; 2]).read() == SYSCALL }
        })
    }
}

/// What a walk over the roots needs.
pub(super) struct Roots<'a> {
    pub(super) layout: tls::Layout,
    pub(super) fixed: Fixed,
    pub(super) modules: &'a Modules,
    pub(super) tasks: &'a Tasks,
    pub(super) stopped: &'a [Stopped],
    /// The stack pointers of the stopped threads, sorted.
    pub(super) sps: &'a [usize],
    pub(super) pid: i32,
}

impl Roots<'_> {
    /// Shows all of them.
    pub(super) fn each(
        &self,
        gs: impl Iterator<Item = &'static G>,
        show: &mut dyn FnMut(Range<usize>),
    ) {
        self.modules.each(&mut *show);
        for thread in self.stopped {
            self.thread(thread, show);
        }
        for g in gs {
            self.goroutine(g, show);
        }
    }

    fn thread(&self, thread: &Stopped, show: &mut dyn FnMut(Range<usize>)) {
        // SAFETY: the frame of a stopped thread.
        let context = unsafe { &*thread.context };
        each_register(context, !self.fixed.is_in_libc_call(context), show);
        let own = tls::own(thread.tp);
        let from = thread.sp - RED_ZONE;
        let alt = context.uc_stack.ss_sp as usize;
        let on_alt = (alt..alt + context.uc_stack.ss_size).contains(&thread.sp)
            && context.uc_stack.ss_flags & libc::SS_DISABLE == 0;
        if on_alt {
            show(from..alt + context.uc_stack.ss_size);
            self.whole_stack(thread, own, show);
        } else if let Some(slot) = stack::slot_of(thread.sp) {
            show(from.max(slot.base())..slot.top());
            self.outside(&slot, show);
        } else {
            match self.stack_of(thread, own) {
                Some(stack) => show(from.max(stack.start)..stack.end),
                None => {
                    let mapping = self.tasks.mapping_of(thread.sp);
                    let is_own = |mapping: &Range<usize>| thread.sp < own && mapping.contains(&own);
                    let has_left = !mapping.as_ref().is_some_and(is_own);
                    mapping
                        .into_iter()
                        .for_each(|mapping| show(from.max(mapping.start)..mapping.end));
                    if has_left {
                        self.whole_stack(thread, own, show);
                    }
                }
            }
        }
        self.block(own, show);
        self.layout.each_outside(own, &self.modules.tls, show);
    }

    /// The stack that the thread was made with, if it stands on it.
    fn stack_of(&self, thread: &Stopped, own: usize) -> Option<Range<usize>> {
        let top = self.fixed.main_top;
        let stack = match self.layout.stack_of(own) {
            Some(stack) => stack,
            None if thread.tid == self.pid => top - MAIN_STACK_MAX..top,
            None => return None,
        };
        stack.contains(&thread.sp).then_some(stack)
    }

    /// All of the stack that a thread has left for another one, to which it will return.
    fn whole_stack(&self, thread: &Stopped, own: usize, show: &mut dyn FnMut(Range<usize>)) {
        if let Some(slot) = stack::slot_of(thread.tp) {
            show(slot.base()..slot.top());
        }
        // The mapping and not the stack: its lowest pages may be a guard.
        let inside = if thread.tid == self.pid {
            self.fixed.main_top - 1
        } else {
            own
        };
        if let Some(mapping) = self.tasks.mapping_of(inside) {
            show(mapping);
        }
    }

    /// Shows a thread's own block: most often for a second time, which costs less than to tell.
    fn block(&self, own: usize, show: &mut dyn FnMut(Range<usize>)) {
        let block = own - self.layout.below..own + self.layout.above;
        if self.layout.is_exact() {
            show(block);
        } else if let Some(mapping) = self.tasks.mapping_of(own) {
            show(block.start.max(mapping.start)..block.end.min(mapping.end));
        }
    }

    fn goroutine(&self, g: &'static G, show: &mut dyn FnMut(Range<usize>)) {
        // One that is being spawned is Idle, but has an entry: its data may be on its way from the spawner's stack.
        if g.state() == State::Idle && g.entry.get().is_none() {
            return;
        }
        let start = std::ptr::from_ref(g).addr();
        let note = g.parked.note();
        let end = match note {
            // What it runs was moved to its stack when it began.
            Note::Left(_) if g.entry.get().is_none() => start + offset_of!(G, data),
            _ => start + size_of::<G>(),
        };
        show(start..end);
        let sp = match note {
            Note::Unbound => return,
            // The top may be the slot's end.
            Note::Fresh(top) => top - 16,
            Note::Left(sp) => sp,
        };
        let Some(slot) = stack::slot_of(sp) else {
            return;
        };
        if !self.is_stood_on(&slot) {
            // With thread-bound thread-locals nothing tells which goroutine's stack a thread has left for another one.
            let from = if g.state() == State::Running && tls::mode() == TlsMode::Thread {
                slot.base()
            } else {
                (sp - margin()).max(slot.base())
            };
            show(from..slot.top());
            self.outside(&slot, show);
        }
    }

    /// Whether a stopped thread's stack pointer lies in the slot.
    fn is_stood_on(&self, slot: &Slot) -> bool {
        let first = self.sps.partition_point(|&sp| sp < slot.guard());
        self.sps.get(first).is_some_and(|&sp| sp < slot.top())
    }

    /// What hangs on the block of a slot.
    fn outside(&self, slot: &Slot, show: &mut dyn FnMut(Range<usize>)) {
        if let Some(tp) = tls::at_top(slot) {
            self.layout.each_outside(tp, &self.modules.tls, show);
        }
    }
}

/// Notes the stack pointers, sorted.
pub(super) fn sort_sps(stopped: &[Stopped], sps: &mut Buf<usize>) {
    sps.clear();
    stopped.iter().for_each(|thread| sps.push(thread.sp));
    sps.sort_unstable();
}

/// The registers as the signal's frame has them: the general ones in the context itself, the vectors where it points.
fn each_register(
    context: &libc::ucontext_t,
    with_vectors: bool,
    show: &mut dyn FnMut(Range<usize>),
) {
    /// Marks a frame whose vectors are more than the 512 bytes of the oldest format (`<asm/sigcontext.h>`).
    const XSTATE_MAGIC: u32 = 0x4650_5853;
    /// Where the oldest format has that mark, and behind it the size of all.
    const SW_RESERVED: usize = 464;
    const LEGACY_BYTES: usize = 512;
    let registers = &context.uc_mcontext.gregs;
    let start = registers.as_ptr().addr();
    show(start..start + size_of_val(registers));
    let vectors = context.uc_mcontext.fpregs.cast_const().cast::<u32>();
    if vectors.is_null() || !with_vectors {
        return;
    }
    let at = vectors.wrapping_byte_add(SW_RESERVED);
    // SAFETY: the kernel's frame has at least the oldest format, which the stopped thread keeps.
    let [magic, bytes] = unsafe { at.cast::<[u32; 2]>().read() };
    let bytes = if magic == XSTATE_MAGIC {
        bytes as usize
    } else {
        LEGACY_BYTES
    };
    show(vectors.addr()..vectors.addr() + bytes);
}
