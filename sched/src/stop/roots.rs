//! Where pointers may be, with the world stopped.
//!
//! - A stopped thread: its registers, vectors included (but in a system call of the C library), as
//!   the signal's frame has them; its stack from 128 bytes below the stack pointer (the red zone)
//!   up; its thread-locals. glibc puts a thread's own block at the top of its stack, so one range
//!   is all; for a thread on a goroutine's stack, the goroutine's slot is, whose block is at the
//!   top too.
//! - An M that runs a goroutine: besides, its own block. What else lies on its own stack then are
//!   frames of the scheduler, which hold Gs, Ms and Ps only. In `blocking` it stands on its own
//!   stack, with the goroutine's block active: its stack and block are shown as the thread's, the
//!   slot as the goroutine's.
//! - A goroutine that nobody stands on: its stack as `parked` says, with its block. And its G: what
//!   it is to run, until it has begun, lies there.
//! - All other memory of the process that is private and writable (`mappings`): statics, the heap
//!   of C code and what glibc allocates for thread-locals, stacks that the program makes by itself,
//!   what it maps.
//!
//! Not shown: the stack of the caller and of the collector's other threads; idle stacks; what the
//! collector finds by itself (Ms, Ps, timers, queues, thread Gs are in the heap).
//!
//! # Stacks that are neither
//!
//! Whoever goes to a stack of their own (`stacker` does when the one it is on gets short, a
//! coroutine always) leaves the stack that they were on, and will come back. That stack is shown
//! whole: nothing tells how much of it is in use. For a goroutine it is its slot, whether it runs,
//! waits, or is in `blocking`, since every goroutine names its slot; for a thread its mapping. The
//! stack that they went to is a mapping of the process like others. A signal handler of the
//! program's may stand on an alternate stack: then that stack is shown from the stack pointer up,
//! and the interrupted one whole.
//!
//! With thread-bound thread-locals glibc does not tell where a thread's stack is; there, a mapping
//! that goes from the stack pointer up to the thread's block is its own stack.

use super::buf::Buf;
use super::halt::Stopped;
use super::mappings::{self, Mappings};
use crate::g::{G, State};
use crate::parked::{Note, margin};
use crate::regions::Regions;
use crate::stack::{self, Slot};
use crate::tls::{self, TlsMode};
use std::mem::offset_of;
use std::ops::Range;

/// What the ABI lets a function use below its stack pointer, in bytes.
const RED_ZONE: usize = 128;
/// The kernel keeps this much free below a main thread's stack, so nothing else can be so near to
/// its top.
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
    /// Whether the thread waits in a system call that a function of the C library made. The ABI
    /// lets no caller keep anything in a vector register over that; what is in them is what the
    /// thread copied last, and would keep garbage alive as long as it sleeps.
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
    pub(super) mappings: &'a Mappings,
    pub(super) stopped: &'a [Stopped],
    /// The thread on the stack that the kernel made; 0: none.
    pub(super) main_thread: i32,
}

impl Roots<'_> {
    /// Shows all of them. `sps`: the stack pointers of the stopped threads, sorted; `aside`: what
    /// [`Self::set_aside`] notes, sorted.
    pub(super) fn each(
        &self,
        gs: impl Iterator<Item = &'static G>,
        sps: &[usize],
        aside: &[(usize, usize)],
        show: &mut dyn FnMut(Range<usize>),
    ) {
        let idle = |mapping: &Range<usize>| self.layout.idle_stack(mapping, mappings::copy);
        self.mappings.each_page_run(aside, &idle, show);
        for thread in self.stopped {
            self.thread(thread, show);
        }
        for g in gs {
            self.goroutine(g, sps, show);
        }
    }

    /// Notes the memory that is not to be shown as part of a mapping: either nothing of it holds a
    /// handle, or what does is shown by itself.
    pub(super) fn set_aside(&self, regions: &Regions, aside: &mut Buf<(usize, usize)>) {
        let mut note = |range| push_pages(range, aside);
        raddle_alloc::gc::each_excluded(&mut note);
        raddle_alloc::own_memory(&mut note);
        raddle_race::own_memory(&mut note);
        stack::each_range(&mut note);
        regions.each_range(&mut note);
        for thread in self.stopped {
            // SAFETY: the frame of a stopped thread.
            if let Some(alt) = alt_stack(unsafe { &*thread.context }) {
                note(alt);
            }
            let own = tls::own(thread.tp);
            let is_on_slot = stack::slot_of(thread.sp).is_some();
            match self.stack_of(thread, own) {
                // Else it has left the stack for one that is neither.
                Some(stack) if is_on_slot || stack.contains(&thread.sp) => note(stack),
                Some(_) => {}
                None => {
                    let mapping = self.mappings.around(own);
                    let unused = match mapping {
                        Some(mapping) if is_on_slot => mapping.start..own - self.layout.below,
                        Some(mapping) if mapping.contains(&thread.sp) && thread.sp < own => {
                            mapping.start..thread.sp - RED_ZONE
                        }
                        _ => continue,
                    };
                    note(unused);
                }
            }
        }
        aside.sort_unstable();
    }

    fn thread(&self, thread: &Stopped, show: &mut dyn FnMut(Range<usize>)) {
        // SAFETY: the frame of a stopped thread.
        let context = unsafe { &*thread.context };
        each_register(context, !self.fixed.is_in_libc_call(context), show);
        let own = tls::own(thread.tp);
        let from = thread.sp - RED_ZONE;
        if let Some(slot) = stack::slot_of(thread.sp) {
            show(from.max(slot.base())..slot.top());
        } else {
            let alt = alt_stack(context).filter(|alt| alt.contains(&thread.sp));
            if let Some(alt) = alt {
                show(from.max(alt.start)..alt.end);
            } else if let Some(stack) = self.stack_of(thread, own)
                && stack.contains(&thread.sp)
            {
                show(from.max(stack.start)..stack.end);
            }
            // A goroutine that has left its slot.
            if let Some(slot) = stack::slot_of(thread.tp) {
                show(slot.base()..slot.top());
            }
        }
        // Most often for a second time, which costs less than to tell.
        if self.layout.is_exact() {
            show(own - self.layout.below..own + self.layout.above);
        }
    }

    /// The stack that the thread was made with, where glibc or the kernel tells.
    fn stack_of(&self, thread: &Stopped, own: usize) -> Option<Range<usize>> {
        let top = self.fixed.main_top;
        let main = (thread.tid == self.main_thread).then_some(top - MAIN_STACK_MAX..top);
        self.layout.stack_of(own).or(main)
    }

    fn goroutine(&self, g: &'static G, sps: &[usize], show: &mut dyn FnMut(Range<usize>)) {
        // One that is being spawned is Idle, but has an entry: its data may be on its way from the
        // spawner's stack.
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
        let (slot, has_left) = match stack::slot_of(sp) {
            Some(slot) => (slot, false),
            // It waits on another stack. Its first frame, on its own, has the yielder.
            None => match stack::slot_of(g.yielder.get().addr()) {
                Some(slot) => (slot, true),
                None => return,
            },
        };
        if !is_stood_on(&slot, sps) {
            // With thread-bound thread-locals nothing tells which goroutine's stack a thread has
            // left for another one.
            let may_have_left = g.state() == State::Running && tls::mode() == TlsMode::Thread;
            let from = match has_left || may_have_left {
                true => slot.base(),
                false => (sp - margin()).max(slot.base()),
            };
            show(from..slot.top());
        }
    }
}

/// Notes the whole pages of a range: the kernel tells of pages only, and what is shown too much
/// does no harm.
pub(super) fn push_pages(range: Range<usize>, aside: &mut Buf<(usize, usize)>) {
    let start = range.start.checked_next_multiple_of(stack::PAGE_BYTES);
    let end = range.end & !(stack::PAGE_BYTES - 1);
    if let Some(start) = start.filter(|&start| start < end) {
        aside.push((start, end));
    }
}

/// Whether a stopped thread's stack pointer lies in the slot.
fn is_stood_on(slot: &Slot, sps: &[usize]) -> bool {
    let first = sps.partition_point(|&sp| sp < slot.guard());
    sps.get(first).is_some_and(|&sp| sp < slot.top())
}

/// The alternate signal stack of an interrupted thread.
fn alt_stack(context: &libc::ucontext_t) -> Option<Range<usize>> {
    let start = context.uc_stack.ss_sp.addr();
    let is_there = context.uc_stack.ss_flags & libc::SS_DISABLE == 0;
    is_there.then_some(start..start + context.uc_stack.ss_size)
}

/// Notes the stack pointers, sorted.
pub(super) fn sort_sps(stopped: &[Stopped], sps: &mut Buf<usize>) {
    sps.clear();
    stopped.iter().for_each(|thread| sps.push(thread.sp));
    sps.sort_unstable();
}

/// The registers as the signal's frame has them: the general ones in the context itself, the
/// vectors where it points.
fn each_register(
    context: &libc::ucontext_t,
    with_vectors: bool,
    show: &mut dyn FnMut(Range<usize>),
) {
    /// Marks a frame whose vectors are more than the 512 bytes of the oldest format
    /// (`<asm/sigcontext.h>`).
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
