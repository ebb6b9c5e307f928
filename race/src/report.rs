//! From two racing accesses to one report: gathering the facts, leaving out what was said or is suppressed.
//!
//! # Blocking
//! Reports are made one at a time under a spin lock; waiters yield their OS threads. Nothing here parks a goroutine and
//! output is by `write(2)`, so an event may be made with any runtime lock held. While the host is asked, the thread has
//! no current context: what the host does (allocate, read files) makes no events.

use std::ffi::CString;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering::*};

use crate::cell::{ATOMIC, Cell, FLAGS, FREED, READ, Want};
use crate::ctx::Ctx;
use crate::current::{current, set_current};
use crate::frames::{self, Stack};
use crate::mem::{KeptErrno, SpinLock, write_all};
use crate::options::Format;
use crate::record::Identity;
use crate::state::{Config, config, host};
use crate::{Pc, machine, slot, sync, text};

/// The access that found the race.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    pub(crate) addr: usize,
    pub(crate) size: usize,
    pub(crate) flags: u64,
    pub(crate) pc: Pc,
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
    pub(crate) who: Option<Identity>,
    /// Empty when the history was lost.
    pub(crate) stack: Stack,
    /// Where the block begins that the access allocated or freed.
    block: Option<usize>,
}

impl Side {
    /// "write", "atomic read" and so on.
    pub(crate) fn verb(&self) -> &'static str {
        match (
            self.flags & FREED != 0,
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

/// A heap block, perhaps freed, and who allocated it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) start: usize,
    pub(crate) size: usize,
    /// Stack and goroutine of the allocation.
    pub(crate) made: Option<(Pc, u64)>,
}

/// All that a report says.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) sides: [Side; 2],
    pub(crate) block: Option<Block>,
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

    fn contains(&self, key: u64) -> bool {
        self.places(key).any(|p| p.load(Relaxed) == key)
    }

    /// Under the report lock.
    fn insert(&self, key: u64) {
        if let Some(place) = self.places(key).find(|p| p.load(Relaxed) == 0) {
            place.store(key, Relaxed);
        }
    }
}

/// In a place whose address has a new life: matches nothing, and does not end a probe.
const GONE: u64 = 1;

/// The lowest and highest address in `ADDRESSES`. Widened under the report lock, before the address is inserted.
static LOWEST: AtomicUsize = AtomicUsize::new(usize::MAX);
static HIGHEST: AtomicUsize = AtomicUsize::new(0);

/// The memory begins a new life: a race on it is another one, to be reported again.
pub(crate) fn forget(addr: usize, size: usize) {
    let end = addr.saturating_add(size);
    if end <= LOWEST.load(Relaxed) || addr > HIGHEST.load(Relaxed) {
        return; // the usual case
    }
    let range = (addr & !7) as u64..end as u64;
    for place in &ADDRESSES.0 {
        let key = place.load(Relaxed);
        if range.contains(&key) {
            let _ = place.compare_exchange(key, GONE, Relaxed, Relaxed);
        }
    }
}

static LOCK: SpinLock = SpinLock::new();
static ADDRESSES: Seen = Seen([const { AtomicU64::new(0) }; SEEN]);
static PAIRS: Seen = Seen([const { AtomicU64::new(0) }; SEEN]);
static COUNT: AtomicUsize = AtomicUsize::new(0);
static LOG: OnceLock<CString> = OnceLock::new();
static FD: AtomicI32 = AtomicI32::new(2);

/// Races reported so far.
pub fn errors() -> usize {
    COUNT.load(Relaxed)
}

/// Notes where reports go; a file is made with the first one.
pub(crate) fn open(config: &Config) {
    match config.options.log_path.as_str() {
        "stderr" => {}
        "stdout" => FD.store(1, Relaxed),
        path => {
            if let Ok(path) = CString::new(format!("{path}.{}", std::process::id())) {
                let _ = LOG.set(path);
                FD.store(-1, Relaxed);
            }
        }
    }
}

/// Writes to where reports go.
pub(crate) fn put(bytes: &[u8]) {
    if FD.load(Relaxed) < 0
        && let Some(path) = LOG.get()
    {
        let flags =
            libc::O_CREAT | libc::O_WRONLY | libc::O_APPEND | libc::O_TRUNC | libc::O_CLOEXEC;
        // SAFETY: a valid C string.
        let fd = unsafe { libc::open(path.as_ptr(), flags, 0o644) };
        if fd < 0 {
            write_all(2, b"raddle: race: cannot open the file of option `log_path`; reports go to standard error\n");
        }
        FD.store(if fd < 0 { 2 } else { fd }, Relaxed);
    }
    write_all(FD.load(Relaxed), bytes);
}

/// `new` of `c` races with `old`, both on the eight bytes at `granule`; returns whether a report was made.
#[cold]
#[inline(never)]
pub(crate) fn race(c: &mut Ctx, access: Access, granule: usize, old: Cell, new: Cell) -> bool {
    if ADDRESSES.contains(granule as u64) {
        return false;
    }
    let _errno = KeptErrno::new();
    let _one_at_a_time = LOCK.lock();
    let me = current();
    set_current(None);
    let reported = gather(c, access, granule, old, new);
    set_current(me);
    reported
}

fn gather(c: &Ctx, access: Access, granule: usize, old: Cell, new: Cell) -> bool {
    let previous = previous(granule, old, new);
    let pair = pair_key(access.pc, previous.stack.top());
    if ADDRESSES.contains(granule as u64) || PAIRS.contains(pair) {
        return false;
    }
    let own = Side {
        addr: access.addr,
        size: access.size,
        flags: access.flags,
        allocation: false,
        who: c.record().identity(c.record().serial()),
        stack: Stack::of_caller(access.pc, c.now().frames),
        block: None,
    };
    let report = Report {
        block: block(access.addr, previous.block),
        sides: [own, previous],
    };
    if is_suppressed(&report) {
        return false;
    }
    LOWEST.fetch_min(granule, Relaxed);
    HIGHEST.fetch_max(granule, Relaxed);
    ADDRESSES.insert(granule as u64);
    PAIRS.insert(pair);
    let index = COUNT.fetch_add(1, Relaxed);
    match config().options.format {
        Format::Text => text::print(&report),
        Format::Json => machine::print_json(&report),
        Format::Sarif => machine::print_sarif(&report, index == 0),
    }
    if config().options.halt_on_error {
        finish_locked();
        // SAFETY: ends the process without running anything of the program's, which races.
        unsafe { libc::_exit(config().options.exitcode) };
    }
    true
}

/// What is known of the access behind a cell.
fn previous(granule: usize, old: Cell, new: Cell) -> Side {
    let common = old.mask() & new.mask();
    let want = Want {
        slot: old.slot() as u64,
        epoch: old.epoch(),
        granule,
        cell: Cell(old.0 & FLAGS | u64::from(common)),
    };
    let mut side = Side {
        addr: granule + common.trailing_zeros() as usize,
        size: common.count_ones() as usize,
        flags: old.0 & FLAGS,
        allocation: false,
        who: None,
        stack: Stack::EMPTY,
        block: None,
    };
    let Some((record, serial)) = slot::holder_at(old.slot(), old.epoch()) else {
        return side;
    };
    side.who = record.identity(serial);
    if let Some(found) = record.history.find(want)
        && record.is_still(serial)
    {
        side.stack = Stack::of(&found.frames[..found.count]);
        side.allocation = found.allocation;
        side.block = (found.allocation || old.0 & FREED != 0).then_some(found.addr);
        if found.size <= 8 {
            (side.addr, side.size) = (found.addr, found.size);
        }
    }
    side
}

fn pair_key(a: Pc, b: Pc) -> u64 {
    let (low, high) = (a.bits().min(b.bits()), a.bits().max(b.bits()));
    (low.wrapping_mul(0xff51_afd7_ed55_8ccd) ^ high.rotate_left(31)).max(1)
}

/// The block that `addr` lies in, as the heap knows it; else the one that begins at `begun`, by its record. The record has
/// the size that was asked for, the heap that of the whole place.
fn block(addr: usize, begun: Option<usize>) -> Option<Block> {
    let object = (host().find_object)(addr);
    let start = object.map(|object| object.start).or(begun)?;
    let record = sync::block_at(start).filter(|record| addr < start + record.size);
    let size = record.map(|r| r.size).or(object.map(|o| o.size))?;
    let made = record.map(|r| (r.made_at, r.goid));
    Some(Block { start, size, made })
}

fn is_suppressed(report: &Report) -> bool {
    let all = &config().suppressions;
    if all.is_empty() {
        return false;
    }
    report.sides.iter().any(|side| {
        let (mut top, mut hit) = (true, false);
        frames::each(&side.stack, &mut |frame| {
            for name in [frame.function, frame.file].into_iter().flatten() {
                hit |= all.iter().any(|s| s.matches(top, name));
            }
            top = false;
        });
        hit
    })
}

/// Prints the end of the log.
pub(crate) fn finish() {
    let _one_at_a_time = LOCK.lock();
    finish_locked();
}

fn finish_locked() {
    let n = errors();
    match config().options.format {
        Format::Text if n > 0 => text::print_count(n),
        Format::Sarif if n > 0 => machine::end_sarif(),
        _ => {}
    }
}
