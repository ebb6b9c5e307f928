//! An exact happens-before oracle, as naive as can be: every access has a number, a clock is the *set* of accesses that
//! happened before, and every new access is compared with every earlier one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use crate::stats;

pub(crate) type Set = BTreeSet<usize>;

#[derive(Clone, Copy)]
pub(crate) struct Access {
    pub(crate) addr: usize,
    pub(crate) size: usize,
    pub(crate) read: bool,
    pub(crate) atomic: bool,
}

#[derive(Clone, Default)]
pub(crate) struct Goroutine {
    pub(crate) before: Set,
    pub(crate) seen_relaxed: Set,
    pub(crate) at_release_fence: Set,
}

#[derive(Default)]
pub(crate) struct Oracle {
    pub(crate) accesses: Vec<Access>,
    pub(crate) objects: BTreeMap<usize, Set>,
    pub(crate) racy: BTreeSet<usize>,
    /// Granules in which the detector displaced a cell.
    pub(crate) displaced: BTreeSet<usize>,
    pub(crate) evicted_cells: usize,
}

impl Oracle {
    pub(crate) fn access(&mut self, g: &mut Goroutine, new: Access) {
        for (i, old) in self.accesses.iter().enumerate() {
            let apart = old.addr + old.size <= new.addr || new.addr + new.size <= old.addr;
            let harmless = old.read && new.read || old.atomic && new.atomic;
            if apart || harmless || g.before.contains(&i) {
                continue;
            }
            let (from, to) = (
                old.addr.max(new.addr),
                (old.addr + old.size).min(new.addr + new.size),
            );
            self.racy.extend((from..to).map(|byte| byte & !7));
        }
        // The detector has just seen this access: what it displaced, it displaced here.
        let evicted = std::mem::replace(&mut self.evicted_cells, stats().evicted_cells);
        if evicted != self.evicted_cells {
            self.displaced
                .extend((new.addr..new.addr + new.size).map(|byte| byte & !7));
        }
        g.before.insert(self.accesses.len());
        self.accesses.push(new);
    }

    pub(crate) fn object(&mut self, addr: usize) -> &mut Set {
        self.objects.entry(addr).or_default()
    }

    pub(crate) fn atomic(
        &mut self,
        g: &mut Goroutine,
        addr: usize,
        reads: bool,
        writes: bool,
        order: Ordering,
    ) {
        use Ordering::{AcqRel, Acquire, Release, SeqCst};
        if reads {
            let m = self.object(addr).clone();
            if matches!(order, Acquire | AcqRel | SeqCst) {
                g.before.extend(m);
            } else {
                g.seen_relaxed.extend(m);
            }
        }
        self.access(
            g,
            Access {
                addr,
                size: 4,
                read: !writes,
                atomic: true,
            },
        );
        if writes {
            let releases = matches!(order, Release | AcqRel | SeqCst);
            let from = if releases {
                g.before.clone()
            } else {
                g.at_release_fence.clone()
            };
            let m = self.object(addr);
            if !reads {
                m.clear();
            }
            m.extend(from);
        }
    }
}
