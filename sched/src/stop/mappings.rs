//! The memory of the process, as the kernel lists it: every private writable mapping is a root of
//! the collector, but for what is set aside.
//!
//! Statics of the program and of all libraries lie there, the heap of C code, storage of
//! thread-locals that glibc allocates, the stacks of coroutines that the program switches to by
//! itself, and whatever a safe crate maps and hands out as typed memory. No list that the runtime
//! could keep of its own is complete: the kernel's is.
//!
//! Of a mapping only pages with contents of the process's own are shown: those that are present or
//! swapped out and not a page of a file. A page that was never written costs nothing, so a program
//! may reserve a terabyte.
//!
//! # What is set aside
//!
//! - Memory of the runtime's own, by its address: the arena (the collector finds live objects by
//!   itself), bookkeeping of the heap and the detector, shadow, goroutine stacks, Gs. What of it
//!   holds handles is shown piece by piece (`roots`).
//! - Stacks of threads that are shown from their stack pointer up, and those of the collector's
//!   threads.
//!
//! # How the kernel is asked
//!
//! | question | from Linux 6.11, 6.7 on | before |
//! | --- | --- | --- |
//! | which mappings | `PROCMAP_QUERY`, one by one, over what is set aside at a step | the text of `/proc/self/maps` |
//! | which pages | `PAGEMAP_SCAN` | the words of `/proc/self/pagemap`; where that is closed, each page is tried |
//!
//! A guard page (`MADV_GUARD_INSTALL`) of somebody else's lies inside a mapping and must not be
//! touched. `PAGEMAP_SCAN` tells of them from Linux 6.15 on; before, they look as if they were
//! swapped out, and such pages are tried first.
//!
//! # Blocking
//!
//! System calls only; usable with the world stopped. Takes no lock and allocates nothing.
//!
//! # Why not
//!
//! - *Our own record of `mmap` calls*: code that makes system calls by itself, and all that is
//!   mapped before the runtime begins, would not be in it.
//! - *Modules as the dynamic linker lists them, for statics*: that takes the linker's lock, and
//!   says nothing of the rest.
//!
//! # References
//!
//! Linux `fs/proc/task_mmu.c`, `Documentation/admin-guide/mm/pagemap.rst`.

use super::file::File;
use std::mem::size_of;
use std::ops::Range;

const PAGE: usize = crate::stack::PAGE_BYTES;
const READ_BYTES: usize = 16 << 10;

/// `_IOWR('f', 17, struct procmap_query)` (`<linux/fs.h>`).
const PROCMAP_QUERY: libc::c_ulong = 0xc068_6611;
const COVERING_OR_NEXT: u64 = 0x10;
const READABLE: u64 = 0x01;
const WRITABLE: u64 = 0x02;
const SHARED: u64 = 0x08;

/// `struct procmap_query` (`<linux/fs.h>`).
#[repr(C)]
#[derive(Default)]
struct Query {
    size: u64,
    flags: u64,
    addr: u64,
    vma_start: u64,
    vma_end: u64,
    vma_flags: u64,
    vma_page_size: u64,
    vma_offset: u64,
    inode: u64,
    device: [u32; 2],
    name_size: u32,
    build_id_size: u32,
    name_addr: u64,
    build_id_addr: u64,
}

const _: () = assert!(size_of::<Query>() == 0x68);

/// `_IOWR('f', 16, struct pm_scan_arg)` (`<linux/fs.h>`).
const PAGEMAP_SCAN: libc::c_ulong = 0xc060_6610;
const IS_FILE: u64 = 1 << 2;
const IS_PRESENT: u64 = 1 << 3;
const IS_SWAPPED: u64 = 1 << 4;
const IS_ZERO: u64 = 1 << 5;
const IS_GUARD: u64 = 1 << 8;

/// `struct pm_scan_arg` (`<linux/fs.h>`).
#[repr(C)]
#[derive(Default)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

const _: () = assert!(size_of::<Scan>() == 0x60);

/// `struct page_region` (`<linux/fs.h>`).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// A mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) range: Range<usize>,
    /// It may hold pointers: it is writable, and what is written is nobody else's.
    pub(super) is_private_writable: bool,
    /// It cannot be read: a guard, or a reserve.
    pub(super) is_closed: bool,
}

/// `/proc/self`, with the files that tell of memory: opened before the first signal, so that a want
/// of descriptors shows in time.
#[derive(Debug)]
pub(super) struct Mappings {
    maps: File,
    /// Closed to a process that may not be dumped.
    pages: Option<File>,
}

impl Mappings {
    pub(super) fn open() -> Option<Mappings> {
        Some(Mappings {
            maps: File::open(libc::AT_FDCWD, c"/proc/self/maps")?,
            pages: File::open(libc::AT_FDCWD, c"/proc/self/pagemap"),
        })
    }

    /// The mapping that contains `addr`.
    pub(super) fn around(&self, addr: usize) -> Option<Range<usize>> {
        let mut found = None;
        self.each_from(addr, &mut |mapping| {
            found = mapping.range.contains(&addr).then_some(mapping.range);
            usize::MAX
        });
        found
    }

    /// Shows the pages with contents of all private writable mappings, but for what lies in
    /// `aside`, which is sorted, and for what `idle` says of the beginning of a mapping behind a
    /// guard.
    pub(super) fn each_page_run(
        &self,
        aside: &[(usize, usize)],
        idle: &dyn Fn(&Range<usize>) -> Option<Range<usize>>,
        show: &mut dyn FnMut(Range<usize>),
    ) {
        let mut rest = aside;
        let mut runs = Runs { last: 0..0, show };
        let mut guarded = 0;
        self.each_from(0, &mut |mapping| {
            let Mapping {
                range,
                is_private_writable,
                is_closed,
            } = mapping;
            if is_closed {
                guarded = range.end;
            }
            let mut at = range.start;
            while at < range.end {
                // Those that end before here are of no use any more: addresses only rise.
                while let [(_, end), tail @ ..] = rest
                    && *end <= at
                {
                    rest = tail;
                }
                match rest {
                    [(start, end), ..] if *start <= at => at = *end,
                    _ if at == guarded
                        && is_private_writable
                        && let Some(idle) = idle(&range) =>
                    {
                        // Its last pages were written: `idle` has seen them.
                        runs.add(idle.end..range.end);
                        at = range.end;
                    }
                    _ => {
                        let next = rest
                            .first()
                            .map_or(range.end, |&(start, _)| start.min(range.end));
                        if is_private_writable {
                            self.populated(at..next, &mut runs);
                        }
                        at = next;
                    }
                }
            }
            at
        });
        runs.end();
    }

    /// Calls `f` with each mapping, in order, from the one that contains `addr` on, or the next.
    /// `f` says from which address to go on.
    fn each_from(&self, addr: usize, f: &mut dyn FnMut(Mapping) -> usize) {
        if !self.each_by_query(addr, f) {
            self.each_by_text(addr, f);
        }
    }

    /// False: the kernel does not know the question.
    fn each_by_query(&self, mut addr: usize, f: &mut dyn FnMut(Mapping) -> usize) -> bool {
        loop {
            let mut query = Query {
                size: size_of::<Query>() as u64,
                flags: COVERING_OR_NEXT,
                addr: addr as u64,
                ..Query::default()
            };
            // SAFETY: a query as the kernel wants it, with no room for names.
            let done = unsafe {
                libc::syscall(
                    libc::SYS_ioctl,
                    self.maps.fd(),
                    PROCMAP_QUERY,
                    &raw mut query,
                )
            };
            if done != 0 {
                // Nothing lies there or above; else it is no question.
                return std::io::Error::last_os_error().raw_os_error() == Some(libc::ENOENT);
            }
            addr = f(Mapping {
                range: query.vma_start as usize..query.vma_end as usize,
                is_private_writable: query.vma_flags & (WRITABLE | SHARED) == WRITABLE,
                is_closed: query.vma_flags & READABLE == 0,
            })
            .max(query.vma_end as usize);
            if addr == usize::MAX {
                return true;
            }
        }
    }

    fn each_by_text(&self, mut addr: usize, f: &mut dyn FnMut(Mapping) -> usize) {
        self.maps.rewind();
        let mut buffer = [0; READ_BYTES];
        let mut kept = 0;
        loop {
            let n = self.maps.read(&mut buffer[kept..]).len();
            if n == 0 {
                return;
            }
            let text = &buffer[..kept + n];
            let Some(last) = text.iter().rposition(|&b| b == b'\n') else {
                return;
            };
            for line in text[..last].split(|&b| b == b'\n') {
                if let Some(mapping) = parse_line(line)
                    && mapping.range.end > addr
                {
                    addr = f(mapping);
                    if addr == usize::MAX {
                        return;
                    }
                }
            }
            let end = kept + n;
            buffer.copy_within(last + 1..end, 0);
            kept = end - last - 1;
        }
    }

    /// Adds the pages of a range that have contents of their own.
    fn populated(&self, range: Range<usize>, runs: &mut Runs<'_>) {
        let done = self.pages.as_ref().is_some_and(|pages| {
            scan(pages, range.clone(), runs) || read(pages, range.clone(), runs)
        });
        if !done {
            runs.tried(range);
        }
    }
}

/// Puts neighbours together: a handle may lie across the border of two pages.
struct Runs<'a> {
    last: Range<usize>,
    show: &'a mut dyn FnMut(Range<usize>),
}

impl Runs<'_> {
    fn add(&mut self, pages: Range<usize>) {
        if pages.start == self.last.end {
            self.last.end = pages.end;
        } else {
            let before = std::mem::replace(&mut self.last, pages);
            if !before.is_empty() {
                (self.show)(before);
            }
        }
    }

    /// Adds those of the pages that can be read.
    fn tried(&mut self, pages: Range<usize>) {
        pages
            .step_by(PAGE)
            .filter(|&page| can_read(page))
            .for_each(|page| self.add(page..page + PAGE));
    }

    fn end(self) {
        if !self.last.is_empty() {
            (self.show)(self.last);
        }
    }
}

/// Asks by `PAGEMAP_SCAN`. False: the kernel does not know it.
fn scan(pages: &File, range: Range<usize>, runs: &mut Runs<'_>) -> bool {
    let is_own = IS_FILE | IS_ZERO;
    let mut guards = IS_GUARD;
    let mut start = range.start;
    while start < range.end {
        let mut found = [Region::default(); 64];
        let mut arg = Scan {
            size: size_of::<Scan>() as u64,
            start: start as u64,
            end: range.end as u64,
            vec: (&raw mut found).expose_provenance() as u64,
            vec_len: found.len() as u64,
            category_inverted: is_own | guards,
            category_mask: is_own | guards,
            category_anyof_mask: IS_PRESENT | IS_SWAPPED,
            return_mask: IS_SWAPPED,
            ..Scan::default()
        };
        // SAFETY: an argument as the kernel wants it, with room for so many regions.
        let n = unsafe { libc::syscall(libc::SYS_ioctl, pages.fd(), PAGEMAP_SCAN, &raw mut arg) };
        let Ok(n) = usize::try_from(n) else {
            if guards == 0 || start > range.start {
                return false;
            }
            guards = 0;
            continue;
        };
        for region in &found[..n] {
            let found = region.start as usize..region.end as usize;
            if region.categories & IS_SWAPPED != 0 {
                runs.tried(found);
            } else {
                runs.add(found);
            }
        }
        start = arg.walk_end as usize;
    }
    true
}

/// Asks by the words of `/proc/self/pagemap`, one for each page. False: they cannot be read.
fn read(pages: &File, range: Range<usize>, runs: &mut Runs<'_>) -> bool {
    const PRESENT: u64 = 1 << 63;
    const SWAPPED: u64 = 1 << 62;
    const FILE: u64 = 1 << 61;
    let mut at = range.start;
    while at < range.end {
        let mut words = [0; 4096];
        let wanted = ((range.end - at) / PAGE * size_of::<u64>()).min(words.len());
        let (words, _) = pages
            .read_at(&mut words[..wanted], at / PAGE * size_of::<u64>())
            .as_chunks();
        if words.is_empty() {
            return false;
        }
        for word in words {
            match u64::from_le_bytes(*word) & (PRESENT | SWAPPED | FILE) {
                PRESENT => runs.add(at..at + PAGE),
                // With `FILE` a page of shared memory, or an entry of some other kind.
                SWAPPED => runs.tried(at..at + PAGE),
                _ => {}
            }
            at += PAGE;
        }
    }
    true
}

/// Whether the page can be read: the kernel tries. Also true where it may not be asked.
fn can_read(page: usize) -> bool {
    let mut byte = 0_u8;
    let n = read_memory(page, (&raw mut byte).cast(), 1);
    n == 1 || std::io::Error::last_os_error().raw_os_error() != Some(libc::EFAULT)
}

/// Copies what is at an address, if it can be read.
pub(super) fn copy(from: usize, to: &mut [u8]) -> bool {
    let n = read_memory(from, to.as_mut_ptr().cast(), to.len());
    usize::try_from(n).is_ok_and(|n| n == to.len())
}

/// Has the kernel copy `bytes` bytes at `from`. Returns what it returned.
fn read_memory(from: usize, to: *mut libc::c_void, bytes: usize) -> libc::c_long {
    let here = libc::iovec {
        iov_base: to,
        iov_len: bytes,
    };
    let there = libc::iovec {
        iov_base: std::ptr::without_provenance_mut(from),
        iov_len: bytes,
    };
    // SAFETY: no preconditions.
    let own = unsafe { libc::getpid() };
    // As long as the kernel takes them: what is shorter may have anything above it.
    let (one, flags): (libc::c_ulong, libc::c_ulong) = (1, 0);
    let (here, there) = (&raw const here, &raw const there);
    // SAFETY: the callers pass room for so many bytes.
    unsafe {
        libc::syscall(
            libc::SYS_process_vm_readv,
            own,
            here,
            one,
            there,
            one,
            flags,
        )
    }
}

/// Of a line of `maps`: `55d0-55e0 rw-p 00000000 ...`.
fn parse_line(line: &[u8]) -> Option<Mapping> {
    let hex = |text: &[u8]| usize::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok();
    let mut fields = line.split(|&b| b == b' ');
    let range = fields.next()?;
    let dash = range.iter().position(|&b| b == b'-')?;
    let rights = fields.next()?;
    Some(Mapping {
        range: hex(&range[..dash])?..hex(&range[dash + 1..])?,
        is_private_writable: rights.starts_with(b"rw") && rights.ends_with(b"p"),
        is_closed: rights.starts_with(b"-"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mappings: &Mappings, by_text: bool) -> Vec<Mapping> {
        let mut all = Vec::with_capacity(10_000);
        let mut note = |mapping: Mapping| {
            let end = mapping.range.end;
            all.push(mapping);
            end
        };
        if by_text {
            mappings.each_by_text(0, &mut note);
        } else {
            mappings.each_from(0, &mut note);
        }
        all
    }

    fn map(pages: usize) -> usize {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh mapping.
        let at =
            unsafe { libc::mmap(std::ptr::null_mut(), pages * PAGE, protection, flags, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED);
        at.expose_provenance()
    }

    fn write(page: usize) {
        // SAFETY: mapped by `map`, and nobody else's.
        unsafe { std::ptr::with_exposed_provenance_mut::<u8>(page).write_volatile(1) };
    }

    /// The runs of pages that are shown of `range`, in each of the three ways.
    fn runs_of(range: Range<usize>, way: usize) -> Vec<Range<usize>> {
        let mappings = Mappings::open().expect("proc is mounted");
        let pages = mappings.pages.as_ref().expect("it may be dumped");
        let mut found = Vec::new();
        let mut show = |run| found.push(run);
        let mut runs = Runs {
            last: 0..0,
            show: &mut show,
        };
        match way {
            0 => assert!(scan(pages, range, &mut runs), "Linux 6.7 or later"),
            1 => assert!(read(pages, range, &mut runs)),
            _ => runs.tried(range),
        }
        runs.end();
        found
    }

    #[test]
    fn the_text_and_the_query_say_the_same_of_what_stays() {
        // Other tests map and unmap meanwhile: what one way says twice, with the other in between,
        // the other says too.
        let mappings = Mappings::open().expect("proc is mounted");
        let (before, text, after) = (
            all(&mappings, false),
            all(&mappings, true),
            all(&mappings, false),
        );
        let stays: Vec<_> = before
            .iter()
            .filter(|mapping| after.contains(mapping))
            .collect();
        assert!(stays.len() > 10);
        assert!(stays.into_iter().all(|mapping| text.contains(mapping)));
    }

    #[test]
    fn a_mapping_is_found_by_any_of_its_addresses() {
        let mappings = Mappings::open().expect("proc is mounted");
        let local = 0_u8;
        let at = (&raw const local).addr();
        let range = mappings.around(at).expect("the stack is mapped");
        assert!(range.contains(&at));
        assert_eq!(mappings.around(range.end - 1), Some(range));
        assert_eq!(mappings.around(8), None);
    }

    #[test]
    fn pages_that_were_written_are_shown_and_no_others() {
        let at = map(1 << 20);
        let runs = [at + PAGE..at + 3 * PAGE, at + 700 * PAGE..at + 701 * PAGE];
        for page in runs.iter().flat_map(|run| run.clone().step_by(PAGE)) {
            write(page);
        }
        for way in [0, 1] {
            assert_eq!(runs_of(at..at + (1 << 20) * PAGE, way), runs);
        }
    }

    #[test]
    fn a_guard_inside_a_mapping_is_not_touched() {
        /// `MADV_GUARD_INSTALL`, of Linux 6.13.
        const GUARD: i32 = 102;
        let at = map(4);
        (0..4).for_each(|i| write(at + i * PAGE));
        let guard = std::ptr::with_exposed_provenance_mut(at + 2 * PAGE);
        // SAFETY: a page of the mapping above.
        let has_guard = unsafe { libc::madvise(guard, PAGE, GUARD) } == 0;
        let mut runs = Vec::from([at..at + 2 * PAGE, at + 3 * PAGE..at + 4 * PAGE]);
        if !has_guard {
            runs.truncate(1);
            runs[0].end = at + 4 * PAGE;
        }
        for way in 0..3 {
            assert_eq!(runs_of(at..at + 4 * PAGE, way), runs, "way {way}");
        }
    }

    #[test]
    fn what_is_set_aside_is_not_shown() {
        let at = map(8);
        (0..8).for_each(|i| write(at + i * PAGE));
        let aside = [
            (0, 4096),
            (at + PAGE, at + 2 * PAGE),
            (at + PAGE, at + 3 * PAGE),
            (at + 5 * PAGE, at + 6 * PAGE),
        ];
        let mappings = Mappings::open().expect("proc is mounted");
        let mut found = Vec::with_capacity(10_000);
        mappings.each_page_run(&aside, &|_| None, &mut |run: Range<usize>| {
            let run = run.start.max(at)..run.end.min(at + 8 * PAGE);
            if !run.is_empty() {
                found.push(run);
            }
        });
        let shown: Vec<_> = found
            .into_iter()
            .flat_map(|run| run.step_by(PAGE))
            .map(|page| (page - at) / PAGE)
            .collect();
        assert_eq!(shown, [0, 3, 4, 6, 7]);
    }

    #[test]
    fn a_line_of_maps_is_read() {
        let line = b"7f10-7f20 rw-p 00000000 00:00 0    [heap]";
        assert_eq!(
            parse_line(line),
            Some(Mapping {
                range: 0x7f10..0x7f20,
                is_private_writable: true,
                is_closed: false,
            })
        );
        let line = b"7f10-7f20 rw-s 00000000 00:00 0";
        assert_eq!(
            parse_line(line),
            Some(Mapping {
                range: 0x7f10..0x7f20,
                is_private_writable: false,
                is_closed: false,
            })
        );
        assert_eq!(parse_line(b"7f10"), None);
    }
}
