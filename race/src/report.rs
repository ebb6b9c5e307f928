//! From two racing accesses to one report: gathering the facts, leaving out what was said or is suppressed.
//!
//! All names are looked up before anything is printed, once, whatever the form.
//!
//! # Blocking
//! Reports are made one at a time under a spin lock; waiters yield their OS threads. Nothing here parks a goroutine and
//! output is by `write(2)`, so an event may be made with any runtime lock held. While the host is asked, the thread has
//! no current context: what the host, and a report, do (allocate, read files) makes no events.
//!
//! # Stack
//! On the caller's stack only its return addresses are looked for; the rest runs where the host has plenty.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};

use crate::access::bytes_in;
use crate::cell::{ATOMIC, Cell, FLAGS, FREED, READ, Want};
use crate::ctx::Ctx;
use crate::current::{current, set_current};
use crate::frames::{Stack, Trace};
use crate::history::{Event, FRAMES};
use crate::mem::{KeptErrno, SpinLock};
use crate::options::Format;
use crate::place::{Location, MAIN};
use crate::record::Identity;
use crate::state::{Config, config, host};
use crate::sync::BlockRecord;
use crate::tally::Tally;
use crate::{Pc, depot, freeing, lines, log, machine, pages, shadow, slot, sync, text};

/// The access that found the race.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    pub(crate) addr: usize,
    pub(crate) size: usize,
    pub(crate) flags: u64,
    pub(crate) pc: Pc,
}

impl Access {
    /// As the history has it.
    #[inline(always)]
    pub(crate) fn event(self) -> Event {
        let Access {
            addr,
            size,
            flags,
            pc,
        } = self;
        Event {
            addr,
            size,
            flags,
            allocation: false,
            pc,
        }
    }

    /// The part that begins in the granule.
    #[inline(always)]
    pub(crate) fn at_granule(self, granule: usize) -> Access {
        Access {
            addr: self.addr.max(granule),
            ..self
        }
    }
}

/// One of the two accesses, as far as it is known.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) addr: usize,
    pub(crate) size: usize,
    flags: u64,
    /// The access is the allocation of the block.
    pub(crate) allocation: bool,
    /// None when it was too long ago.
    pub(crate) who: Option<Goroutine>,
    /// Empty when the history was lost.
    pub(crate) trace: Trace,
    /// The history was lost but for the line.
    pub(crate) is_cut: bool,
}

impl Side {
    /// The access is the freeing of the block.
    pub(crate) fn is_free(&self) -> bool {
        self.flags & FREED != 0
    }

    /// "write", "atomic read" and so on.
    pub(crate) fn verb(&self) -> &'static str {
        match (
            self.is_free(),
            self.flags & ATOMIC != 0,
            self.flags & READ != 0,
        ) {
            (true, ..) => "free",
            (_, true, true) => "atomic read",
            (_, true, false) => "atomic write",
            (_, false, true) => "read",
            (_, false, false) => "write",
        }
    }
}

/// Who made an access.
#[derive(Debug)]
pub(crate) struct Goroutine {
    pub(crate) id: u64,
    pub(crate) parent: u64,
    pub(crate) finished: bool,
    /// Empty for main and for foreign threads.
    pub(crate) created: Trace,
}

impl Goroutine {
    fn of(identity: &Identity) -> Goroutine {
        Goroutine {
            id: identity.goid,
            parent: identity.parent,
            finished: identity.finished,
            created: Trace::of_origin(&Stack::of(&[identity.created])),
        }
    }

    /// "finished" or "running".
    pub(crate) fn state(&self) -> &'static str {
        if self.finished { "finished" } else { "running" }
    }
}

/// Who allocated a block.
#[derive(Debug)]
pub(crate) struct Allocation {
    pub(crate) goroutine: u64,
    pub(crate) finished: bool,
    pub(crate) trace: Trace,
}

/// A heap block, perhaps freed, and who allocated it.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) start: usize,
    pub(crate) size: usize,
    pub(crate) made: Option<Allocation>,
}

/// All that a report says.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) sides: [Side; 2],
    pub(crate) block: Option<Block>,
    /// Where no block is known.
    pub(crate) location: Option<Location>,
}

impl Report {
    /// The goroutines of the two accesses, each once, with their number.
    pub(crate) fn goroutines(&self) -> impl Iterator<Item = &Goroutine> {
        let [own, previous] = &self.sides;
        let previous = previous.who.as_ref();
        let own = own.who.as_ref();
        let other = previous.filter(move |who| own.is_none_or(|own| own.id != who.id));
        own.into_iter().chain(other)
    }
}

/// Keys already seen; when it is full everything is new.
struct Seen([AtomicU64; SEEN]);
const SEEN: usize = 1 << 13;
const PROBES: usize = 64;

impl Seen {
    fn places(&self, key: u64) -> impl Iterator<Item = &AtomicU64> {
        let hash = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize;
        (0..PROBES).map(move |i| &self.0[(hash + i) % SEEN])
    }

    /// The place whose `bits` are the key's.
    fn find(&self, key: u64, bits: u64) -> Option<&AtomicU64> {
        // A place that was taken stays so.
        let mut taken = self.places(key).take_while(|p| p.load(Relaxed) != 0);
        taken.find(|p| p.load(Relaxed) & bits == key)
    }

    /// Under the report lock.
    fn insert(&self, key: u64, with: u64) {
        if let Some(place) = self.places(key).find(|p| p.load(Relaxed) == 0) {
            place.store(key | with, Relaxed);
        }
    }
}

/// In a place whose address has a new life: matches nothing, and does not end a probe.
const GONE: u64 = 1;

/// In a place of `ADDRESSES`: where the mask of the bytes begins. Below is the address of their eight bytes.
const BYTES_SHIFT: u32 = 56;
const GRANULE: u64 = (1 << BYTES_SHIFT) - 1;

/// Whether a race on one of these bytes has been reported.
fn is_reported(granule: usize, bytes: u8) -> bool {
    let place = ADDRESSES.find(granule as u64, GRANULE);
    place.is_some_and(|place| place.load(Relaxed) >> BYTES_SHIFT & u64::from(bytes) != 0)
}

/// A race on these bytes is being reported. Under the report lock.
fn set_reported(granule: usize, bytes: u8) {
    LOWEST.fetch_min(granule, Relaxed);
    HIGHEST.fetch_max(granule, Relaxed);
    let bytes = u64::from(bytes) << BYTES_SHIFT;
    match ADDRESSES.find(granule as u64, GRANULE) {
        // `forget` may be giving it up: then it is another life's, which is as if it had come first.
        Some(place) => {
            place.fetch_or(bytes, Relaxed);
        }
        None => ADDRESSES.insert(granule as u64, bytes),
    }
}

/// The lowest and highest address in `ADDRESSES`. Widened under the report lock, before the address is inserted.
static LOWEST: AtomicUsize = AtomicUsize::new(usize::MAX);
static HIGHEST: AtomicUsize = AtomicUsize::new(0);

/// The memory begins a new life: a race on it is another one, to be reported again.
pub(crate) fn forget(addr: usize, size: usize) {
    let end = addr.saturating_add(size);
    if end <= LOWEST.load(Relaxed) || addr > HIGHEST.load(Relaxed) + 7 {
        return; // the usual case
    }
    let range = addr & !7..end;
    let forget = |place: &AtomicU64| {
        let seen = place.load(Relaxed);
        let granule = (seen & GRANULE) as usize;
        if seen > GONE && range.contains(&granule) {
            let kept = seen & !(u64::from(bytes_in(granule, addr, end)) << BYTES_SHIFT);
            let kept = if kept == granule as u64 { GONE } else { kept };
            let _ = place.compare_exchange(seen, kept, Relaxed, Relaxed);
        }
    };
    if size / 8 < SEEN {
        let granules = range.clone().step_by(8);
        let places = granules.filter_map(|g| ADDRESSES.find(g as u64, GRANULE));
        places.for_each(forget);
    } else {
        ADDRESSES.0.iter().for_each(forget);
    }
}

static LOCK: SpinLock = SpinLock::new();
/// The last word has been said: no further race is counted, since it would not be reported. Guarded by `LOCK`.
static CLOSED: AtomicBool = AtomicBool::new(false);
static ADDRESSES: Seen = Seen([const { AtomicU64::new(0) }; SEEN]);
static PAIRS: Seen = Seen([const { AtomicU64::new(0) }; SEEN]);
/// Stacks of frees that are not held against accesses.
static PERMITTED: Seen = Seen([const { AtomicU64::new(0) }; SEEN]);
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// Those that are on no open tally.
static UNTALLIED: AtomicUsize = AtomicUsize::new(0);

/// Races reported so far.
pub fn errors() -> usize {
    COUNT.load(Relaxed)
}

/// Races reported so far that are on no open [`Tally`](crate::Tally).
pub(crate) fn untallied() -> usize {
    UNTALLIED.load(Relaxed)
}

/// Notes where reports go.
pub(crate) fn open(config: &Config) {
    let form = match config.options.format {
        Format::Text | Format::Json => log::LINES,
        Format::Sarif => machine::SARIF,
    };
    log::open(&config.options, form);
}

/// What [`race`] was called with, and what it returns: for the way to the big stack and back.
struct Job<'a> {
    c: &'a Ctx,
    access: Access,
    granule: usize,
    old: Cell,
    new: Cell,
    /// The thread's return addresses.
    real: &'a [Pc],
    reported: bool,
}

/// `new` of `c` races with `old`, both on the eight bytes at `granule`; returns whether a report was made.
#[cold]
#[inline(never)]
pub(crate) fn race(c: &mut Ctx, access: Access, granule: usize, old: Cell, new: Cell) -> bool {
    /// # Safety
    /// `job` is a [`Job`], and the caller's alone.
    unsafe fn run(job: *mut ()) {
        // SAFETY: by the contract.
        let job = unsafe { &mut *job.cast::<Job<'_>>() };
        let _one_at_a_time = LOCK.lock();
        job.reported = gather(job);
    }
    if is_reported(granule, old.mask() & new.mask()) {
        return false;
    }
    let _errno = KeptErrno::new();
    let me = current();
    set_current(None);
    let mut real = [Pc::NONE; FRAMES];
    let count = (host().current_stack)(&mut real);
    let mut job = Job {
        c,
        access,
        granule,
        old,
        new,
        real: &real[..count.min(FRAMES)],
        reported: false,
    };
    (host().on_big_stack)(run, (&raw mut job).cast());
    let reported = job.reported;
    set_current(me);
    reported
}

fn gather(job: &Job<'_>) -> bool {
    let &Job {
        c,
        access,
        granule,
        old,
        new,
        real,
        ..
    } = job;
    if CLOSED.load(Relaxed) {
        return false;
    }
    let bytes = old.mask() & new.mask();
    if is_reported(granule, bytes) {
        return false;
    }
    let previous = previous(granule, old, new);
    let mut own = [access.pc; FRAMES];
    let count = 1 + c.callers(&mut own[1..]);
    let own = &own[..count];
    let pair = pair_key(own, previous.stack.frames());
    let tallies = [c.record().tally(), previous.tally()];
    if PAIRS.find(pair, !0).is_some() {
        // It was said of another place, and is not said again; but this test races, too.
        tallies.into_iter().flatten().for_each(Tally::note);
        return false;
    }
    let own = Found {
        addr: access.addr,
        size: access.size,
        flags: access.flags,
        allocation: false,
        who: c.record().identity(c.record().serial()),
        stack: Stack::of_caller(access.pc, &own[1..], real),
        is_cut: false,
        block: None,
    };
    if access.flags & FREED != 0 {
        let stack = pair_key(own.stack.frames(), &[]);
        if PERMITTED.find(stack, !0).is_some() {
            return false;
        }
        if !freeing::is_asked_by_instrumented_code(&own.stack) {
            PERMITTED.insert(stack, 0);
            return false;
        }
    }
    // Before any name: who looks those up allocates, and a block that was freed would be used again.
    let block = Known::of(access.addr, previous.block);
    let sides = [own.named(), previous.named()];
    if is_suppressed(&sides) {
        return false;
    }
    let report = Report {
        location: match block {
            Some(_) => None,
            None => Location::of(access.addr),
        },
        block: block.map(Known::named),
        sides,
    };
    set_reported(granule, bytes);
    PAIRS.insert(pair, 0);
    COUNT.fetch_add(1, Relaxed);
    tally(tallies);
    log::put(&match config().options.format {
        Format::Text => text::report(&report),
        Format::Json => machine::json_line(&report),
        Format::Sarif => machine::sarif_result(&report),
    });
    if config().options.halt_on_error {
        finish_locked();
        // SAFETY: ends the process without running anything of the program's, which races.
        unsafe { libc::_exit(config().options.exitcode) };
    }
    true
}

/// Puts a report on the tallies of its two goroutines.
fn tally([own, previous]: [Option<&'static Tally>; 2]) {
    let is_same = |own| previous.is_some_and(|previous| ptr::eq(previous, own));
    let own = own.filter(|own| !is_same(*own));
    // Both, if they are of two tests: each has a part in it.
    let open = [own, previous].map(|tally| tally.is_some_and(Tally::add));
    if open == [false; 2] {
        UNTALLIED.fetch_add(1, Relaxed);
    }
}

/// An access before its names are looked up.
struct Found {
    addr: usize,
    size: usize,
    flags: u64,
    allocation: bool,
    who: Option<Identity>,
    stack: Stack,
    /// The callers are forgotten.
    is_cut: bool,
    /// Where the block begins that the access allocated or freed.
    block: Option<usize>,
}

impl Found {
    /// What the races of its goroutine are put on.
    fn tally(&self) -> Option<&'static Tally> {
        self.who.as_ref()?.tally
    }

    fn named(&self) -> Side {
        // The heap's own functions are on top of these.
        let is_heaps = self.allocation || self.flags & FREED != 0;
        Side {
            addr: self.addr,
            size: self.size,
            flags: self.flags,
            allocation: self.allocation,
            is_cut: self.is_cut,
            who: self.who.as_ref().map(Goroutine::of),
            trace: if is_heaps {
                Trace::of_origin(&self.stack)
            } else {
                Trace::of_access(&self.stack)
            },
        }
    }
}

/// What is known of the access behind a cell.
fn previous(granule: usize, old: Cell, new: Cell) -> Found {
    let common = old.mask() & new.mask();
    let want = Want {
        slot: old.slot() as u64,
        epoch: old.epoch(),
        granule,
        cell: Cell(old.0 & FLAGS | u64::from(common)),
    };
    let mut side = Found {
        addr: granule + common.trailing_zeros() as usize,
        size: common.count_ones() as usize,
        flags: old.0 & FLAGS,
        allocation: false,
        who: None,
        stack: Stack::EMPTY,
        is_cut: false,
        block: None,
    };
    let holder = slot::holder_at(old.slot(), old.epoch());
    side.who = holder.and_then(|(record, serial)| record.identity(serial));
    let found = holder.and_then(|(record, serial)| {
        let found = record.history.find(want);
        found.filter(|_| record.is_still(serial))
    });
    if let Some(found) = found {
        side.stack = Stack::of(&found.frames[..found.count]);
        side.allocation = found.allocation;
        side.block = (found.allocation || old.0 & FREED != 0).then_some(found.addr);
        if found.size <= 8 {
            (side.addr, side.size) = (found.addr, found.size);
        }
    } else if let Some(line) = lines::find(want, || recorded_start(granule)) {
        side.stack = Stack::of(&[line.pc]);
        side.allocation = line.allocation;
        side.is_cut = true;
    }
    side
}

/// Stands for two stacks, in whichever order, by the places and the calls that were announced. The
/// real callers do not count: where the walk begins depends on which side found the race.
fn pair_key(a: &[Pc], b: &[Pc]) -> u64 {
    const ODD: u64 = 0xff51_afd7_ed55_8ccd;
    let hash = |stack: &[Pc]| {
        let mix = |hash: u64, pc: &Pc| {
            let pc = depot::innermost(*pc);
            (hash.rotate_left(27) ^ pc.bits()).wrapping_mul(ODD)
        };
        stack.iter().filter(|pc| !pc.is_none()).fold(0, mix)
    };
    let (a, b) = (hash(a), hash(b));
    (a.min(b).wrapping_mul(ODD) ^ a.max(b).rotate_left(31)).max(1)
}

/// A block before its names are looked up.
struct Known {
    start: usize,
    size: usize,
    record: Option<BlockRecord>,
}

impl Known {
    /// The block that `addr` lies in, as the heap knows it; else the one that begins at `begun`, or nearest before `addr`, by its
    /// record. The record has the size that was asked for, the heap that of the whole place.
    fn of(addr: usize, begun: Option<usize>) -> Option<Known> {
        let object = (host().find_object)(addr);
        let start = object.map(|object| object.start).or(begun);
        let start = start.or_else(|| recorded_start(addr))?;
        let record = sync::block_at(start).filter(|record| addr < start + record.size);
        let size = record.map(|r| r.size).or(object.map(|o| o.size))?;
        Some(Known {
            start,
            size,
            record,
        })
    }

    fn named(self) -> Block {
        let made = self.record.map(|r| Allocation {
            goroutine: r.goid,
            finished: r.goid != MAIN && !(host().goroutine_running)(r.goid),
            trace: Trace::of_origin(&Stack::of(&[r.made_at])),
        });
        Block {
            start: self.start,
            size: self.size,
            made,
        }
    }
}

/// Where the nearest block begins that is on record before `addr`: one of another heap than the host's, such as C's.
fn recorded_start(addr: usize) -> Option<usize> {
    /// How far before `addr` a block may begin, in bytes. Larger ones are left without a name.
    const MAX: usize = 128 << 10;
    let mut end = (addr & !7) + 8;
    let least = end.saturating_sub(MAX);
    while end > least {
        // Most pages have no records at all.
        let page = pages::start_of(end - 8);
        if pages::is_marked_with(page, pages::RECORDS) {
            let mut granule = end;
            while granule > page {
                granule -= 8;
                if shadow::meta(granule).load(Relaxed) != 0 && sync::block_at(granule).is_some() {
                    return Some(granule);
                }
            }
        }
        end = page;
    }
    None
}

/// Whether a pattern matches. For `race_top` the library functions above the program's first own line count as the top with it.
fn is_suppressed(sides: &[Side; 2]) -> bool {
    let all = &config().suppressions;
    let lines = sides.iter().flat_map(|side| {
        let lines = side.trace.lines.iter().enumerate();
        lines.map(|(i, line)| (i <= side.trace.own, line))
    });
    !all.is_empty()
        && lines.into_iter().any(|(top, line)| {
            let names = [line.function.as_deref(), line.file(), line.whole_file()];
            let mut names = names.into_iter().flatten();
            names.any(|name| all.iter().any(|s| s.matches(top, name)))
        })
}

/// Prints the end of the log.
pub(crate) fn finish() {
    // What the log allocates is nobody's.
    let me = current();
    set_current(None);
    {
        let _one_at_a_time = LOCK.lock();
        CLOSED.store(true, Relaxed);
        finish_locked();
    }
    set_current(me);
}

fn finish_locked() {
    match (errors(), config().options.format) {
        (n @ 1.., Format::Text) => log::end(&text::count(n)),
        _ => log::end(""),
    }
}
