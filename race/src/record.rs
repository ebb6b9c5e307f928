//! Who a goroutine is and what it did: the part of its context that outlives it, for reports.
//!
//! A record is written by its goroutine's thread and read by any thread that prints a report, at any time. Ended
//! goroutines' records wait in a queue, the newest [`KEPT`] with their history, before they are used again; of long histories the newest
//! [`KEPT_PARTS`] parts.
//!
//! # Invariants
//! 1. Records stay mapped for ever, and every field is atomic: a stale pointer reads old or new facts, never garbage.
//! 2. `serial` grows by one when a record begins a new life; whoever kept (record, serial) checks it after reading.
//!
//! # Memory ordering
//! `begin: serial store Release, after the facts` ⇄ readers' `serial load Acquire`; `begin` bumps twice, odd while it
//! writes, as a sequence lock.

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering::*, fence};

use crate::Pc;
use crate::history::{History, give_parts};
use crate::mem::{Kind, Node, SpinLock};
use crate::parts::Removed;
use crate::proc;
use crate::tally::Tally;

/// Ended goroutines whose history is kept.
pub(crate) const KEPT: usize = 1024;

/// Parts of long histories that all of them keep: 16 MiB. Else a thousand goroutines, one after the other, would leave a gigabyte behind.
const KEPT_PARTS: usize = 512;

/// Words of a name: a longer one is cut.
const NAME_WORDS: usize = 8;

/// See the header.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Record {
    link: AtomicPtr<Node>,
    serial: AtomicU64,
    goid: AtomicU64,
    parent: AtomicU64,
    finished: AtomicBool,
    /// Null: none.
    tally: AtomicPtr<Tally>,
    created: AtomicU64,
    /// In UTF-8, filled up with zeros.
    name: [AtomicU64; NAME_WORDS],
    /// Accesses and calls, newest kept.
    pub(crate) history: History,
}

/// The facts about a goroutine that a report prints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) goid: u64,
    pub(crate) parent: u64,
    pub(crate) finished: bool,
    pub(crate) tally: Option<&'static Tally>,
    pub(crate) created: Pc,
}

impl Record {
    /// Begins the life of goroutine `goid`, created by `parent` (0: by nobody known) at `created`,
    /// which may be a whole stack.
    pub(crate) fn begin(goid: u64, parent: u64, created: Pc) -> &'static Record {
        let p: NonNull<Record> = proc::take(Kind::Record).cast();
        // SAFETY: an object of the pool of records, all of whose bit patterns are valid, mapped for ever (invariant 1).
        let r = unsafe { p.as_ref() };
        let serial = r.serial.load(Relaxed);
        r.serial.store(serial + 1, Relaxed);
        fence(Release); // readers that see the facts below see the odd serial
        r.goid.store(goid, Relaxed);
        r.parent.store(parent, Relaxed);
        r.finished.store(false, Relaxed);
        r.set_tally(None);
        r.created.store(created.bits(), Relaxed);
        r.set_name("");
        r.history.reset();
        r.serial.store(serial + 2, Release);
        r
    }

    /// The life's number.
    pub(crate) fn serial(&self) -> u64 {
        self.serial.load(Relaxed)
    }

    /// The goroutine's id, for its own thread.
    pub(crate) fn goid(&self) -> u64 {
        self.goid.load(Relaxed)
    }

    /// The goroutine's id, by its own thread before anything of it can be reported.
    pub(crate) fn set_goid(&self, goid: u64) {
        self.goid.store(goid, Relaxed);
    }

    /// Gives the goroutine a name, of which the first bytes are kept. A report that is being made
    /// may have parts of both names.
    pub(crate) fn set_name(&self, name: &str) {
        let mut bytes = [0; 8 * NAME_WORDS];
        let kept = &name.as_bytes()[..name.floor_char_boundary(bytes.len())];
        bytes[..kept.len()].copy_from_slice(kept);
        let (words, _) = bytes.as_chunks();
        for (place, word) in self.name.iter().zip(words) {
            place.store(u64::from_ne_bytes(*word), Relaxed);
        }
    }

    /// The goroutine's name, where it has one.
    pub(crate) fn name(&self) -> Option<String> {
        let words = self.name.each_ref().map(|word| word.load(Relaxed));
        let bytes = words.map(u64::to_ne_bytes);
        let text = bytes.as_flattened().split(|byte| *byte == 0).next()?;
        let name = String::from_utf8_lossy(text);
        (!name.is_empty()).then(|| name.into_owned())
    }

    /// What its races are put on, for its own thread.
    pub(crate) fn tally(&self) -> Option<&'static Tally> {
        // SAFETY: null, or a tally that lives for ever, whose address was stored with Release.
        unsafe { self.tally.load(Acquire).as_ref() }
    }

    /// Says what its races are put on.
    pub(crate) fn set_tally(&self, tally: Option<&'static Tally>) {
        let tally = tally.map_or(ptr::null_mut(), |tally| ptr::from_ref(tally).cast_mut());
        self.tally.store(tally, Release); // pairs with `tally`
    }

    /// The facts, if the record is still in its life number `serial`.
    pub(crate) fn identity(&self, serial: u64) -> Option<Identity> {
        if self.serial.load(Acquire) != serial {
            return None;
        }
        let all = Identity {
            goid: self.goid.load(Relaxed),
            parent: self.parent.load(Relaxed),
            finished: self.finished.load(Relaxed),
            tally: self.tally(),
            created: Pc::from_bits(self.created.load(Relaxed)),
        };
        self.is_still(serial).then_some(all)
    }

    /// Whether what was read so far belongs to life `serial`.
    pub(crate) fn is_still(&self, serial: u64) -> bool {
        fence(Acquire); // pairs with the fence in `begin`
        self.serial.load(Relaxed) == serial
    }

    /// The goroutine ended: the record waits its turn to be used again.
    pub(crate) fn end(&'static self) {
        self.finished.store(true, Relaxed);
        let oldest = {
            let _held = ENDED.lock.lock();
            let at = ENDED.next.fetch_add(1, Relaxed);
            let parts = self.history.part_count();
            let left = ENDED.part_counts[at % KEPT].swap(parts, Relaxed);
            let sum = ENDED.parts.load(Relaxed) - left + parts;
            ENDED.parts.store(sum, Relaxed);
            ENDED.ring[at % KEPT].swap(ptr::from_ref(self).cast_mut(), Relaxed)
        };
        while let Some(parts) = ENDED.parts_too_many() {
            give_parts(parts);
        }
        if let Some(oldest) = NonNull::new(oldest) {
            // SAFETY: the queue holds only records, which stay mapped.
            unsafe { oldest.as_ref() }.history.release();
            proc::give(Kind::Record, oldest.cast());
        }
    }
}

/// The name that goroutine `goid` had, if it is one of the newest that ended.
pub(crate) fn name_of_ended(goid: u64) -> Option<String> {
    ENDED.ring.iter().find_map(|place| {
        // SAFETY: null, or a record, which stays mapped.
        let record = unsafe { place.load(Relaxed).as_ref() }?;
        let serial = record.serial.load(Acquire);
        let name = record.name().filter(|_| record.goid() == goid)?;
        record.is_still(serial).then_some(name)
    })
}

/// The newest ended goroutines, oldest overwritten first.
struct Ended {
    lock: SpinLock,
    next: AtomicUsize,
    ring: [AtomicPtr<Record>; KEPT],
    /// How many parts each had at its end, if they have not been taken away here,
    part_counts: [AtomicUsize; KEPT],
    /// their sum,
    parts: AtomicUsize,
    /// and the first that may have some.
    first_long: AtomicUsize,
}

static ENDED: Ended = Ended {
    lock: SpinLock::new(),
    next: AtomicUsize::new(0),
    ring: [const { AtomicPtr::new(ptr::null_mut()) }; KEPT],
    part_counts: [const { AtomicUsize::new(0) }; KEPT],
    parts: AtomicUsize::new(0),
    first_long: AtomicUsize::new(0),
};

impl Ended {
    /// The parts of the goroutine that ended first among those that have any, if all have too many.
    fn parts_too_many(&self) -> Option<Removed> {
        let _held = self.lock.lock();
        if self.parts.load(Relaxed) <= KEPT_PARTS {
            return None;
        }
        let next = self.next.load(Relaxed);
        let first = self.first_long.load(Relaxed).max(next.saturating_sub(KEPT));
        let long = (first..next).find(|i| self.part_counts[i % KEPT].load(Relaxed) > 0)?;
        self.first_long.store(long + 1, Relaxed);
        let count = self.part_counts[long % KEPT].swap(0, Relaxed);
        self.parts.fetch_sub(count, Relaxed);
        // SAFETY: a record; it is in the queue until the lock is given back, so its goroutine is over.
        let record = unsafe { self.ring[long % KEPT].load(Relaxed).as_ref() }?;
        Some(record.history.take_parts())
    }
}
