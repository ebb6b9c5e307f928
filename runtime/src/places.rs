//! What lies at an address: the names of statics and thread-locals by the symbol tables of the program and its libraries, and whose
//! stack it is otherwise.
//!
//! A thread-local's symbol says where it lies in its module's storage, and that lies as far below the thread pointer in every thread. So
//! whose the address is, is a question for a thread pointer above it: the scheduler knows those of goroutines. Those of
//! threads are found by what every thread control block begins with, two pointers to itself.
//!
//! # Blocking
//!
//! Reads files, allocates, and takes the dynamic linker's lock for a moment: for reports only. A symbol table is read from end to end for
//! each report, some milliseconds for a big program: of a variable nothing is kept. Names of functions are, since each is asked for often.
//!
//! # Why not
//!
//! Names by debug information: symbols have them too, and programs that are stripped of symbols mostly have neither.

use backtrace::SymbolName;
use memmap2::Mmap;
use object::read::elf::ElfFile64;
use object::{Object, ObjectSymbol, SymbolKind};
use raddle_race::{Owner, Place, Variable};
use std::collections::BTreeMap;
use std::ffi::{CStr, c_int, c_void};
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::{process, slice};

/// The program or a library, as it is loaded.
#[derive(Debug)]
pub(crate) struct Module {
    /// What is added to the addresses in its file.
    base: usize,
    path: PathBuf,
    segments: Vec<Range<usize>>,
    /// Its storage of thread-locals in the calling thread; empty where it has none.
    thread_locals: Range<usize>,
}

impl Module {
    /// All that are loaded.
    fn all() -> Vec<Module> {
        unsafe extern "C" fn note(
            info: *mut libc::dl_phdr_info,
            _size: usize,
            all: *mut c_void,
        ) -> c_int {
            // SAFETY: the linker's description of a module, for the time of the call.
            let info = unsafe { &*info };
            // SAFETY: what `all` passes below.
            let all = unsafe { &mut *all.cast::<Vec<Module>>() };
            all.push(Module::of(info));
            0
        }
        let mut all = Vec::new();
        // SAFETY: `note` is called with it, and does not unwind unless memory runs out, which aborts.
        raddle_sched::ask_linker(|| unsafe {
            libc::dl_iterate_phdr(Some(note), (&raw mut all).cast())
        });
        all
    }

    fn of(info: &libc::dl_phdr_info) -> Module {
        // SAFETY: a C string, as the linker has it.
        let name = unsafe { CStr::from_ptr(info.dlpi_name) }.to_string_lossy();
        let base = info.dlpi_addr as usize;
        // SAFETY: the module's program headers.
        let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
        let of_kind = |kind| headers.iter().filter(move |header| header.p_type == kind);
        let tls = info.dlpi_tls_data.addr();
        let tls_bytes = of_kind(libc::PT_TLS).map(|header| header.p_memsz as usize);
        Module {
            base,
            path: PathBuf::from(if name.is_empty() {
                "/proc/self/exe"
            } else {
                &name
            }),
            segments: of_kind(libc::PT_LOAD)
                .map(|header| {
                    let start = base + header.p_vaddr as usize;
                    start..start + header.p_memsz as usize
                })
                .collect(),
            thread_locals: tls..tls + tls_bytes.filter(|_| tls != 0).sum::<usize>(),
        }
    }

    /// The one with code or data at `addr`.
    pub(crate) fn at(addr: usize) -> Option<Module> {
        let mut all = Module::all().into_iter();
        all.find(|module| {
            module
                .segments
                .iter()
                .any(|segment| segment.contains(&addr))
        })
    }

    /// Its file's name.
    pub(crate) fn name(&self) -> String {
        let path = fs::read_link(&self.path).unwrap_or_else(|_| self.path.clone());
        let name = path.file_name().unwrap_or(path.as_os_str());
        name.to_string_lossy().into_owned()
    }

    /// The whole name of the function that starts at `start`.
    pub(crate) fn function_at(&self, start: usize) -> Option<String> {
        static KNOWN: Mutex<BTreeMap<usize, Option<String>>> = Mutex::new(BTreeMap::new());
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let name = known.entry(start).or_insert_with(|| {
            let symbol = symbol_at(&self.path, SymbolKind::Text, self.offset(start))?;
            (symbol.value == self.offset(start)).then_some(symbol.name)
        });
        name.clone()
    }

    /// The address in its file.
    pub(crate) fn offset(&self, addr: usize) -> usize {
        addr.wrapping_sub(self.base)
    }
}

/// The calling thread's storage of thread-locals that `addr` lies in.
pub(crate) fn thread_locals_around(addr: usize) -> Option<Range<usize>> {
    let all = Module::all().into_iter().map(|module| module.thread_locals);
    all.into_iter().find(|storage| storage.contains(&addr))
}

/// The whole name of the function that starts at `start`.
pub(crate) fn function_at(start: usize) -> Option<String> {
    Module::at(start)?.function_at(start)
}

/// A variable's symbol.
#[derive(Debug)]
struct Symbol {
    name: String,
    value: usize,
    size: usize,
}

/// The symbol of that kind around `value`.
fn symbol_at(path: &Path, kind: SymbolKind, value: usize) -> Option<Symbol> {
    let file = File::open(path).ok()?;
    // SAFETY: the file of a loaded module: whoever writes to it now has broken the program already.
    let bytes = unsafe { Mmap::map(&file) }.ok()?;
    let elf: ElfFile64 = ElfFile64::parse(&*bytes).ok()?;
    let found = elf.symbols().chain(elf.dynamic_symbols()).find(|symbol| {
        let start = symbol.address() as usize;
        symbol.kind() == kind
            && !symbol.is_undefined()
            && (start..start.saturating_add(symbol.size() as usize)).contains(&value)
    })?;
    Some(Symbol {
        name: format!("{:#}", SymbolName::new(found.name_bytes().ok()?)),
        value: found.address() as usize,
        size: found.size() as usize,
    })
}

/// Calls back with what lies at `addr`.
pub(crate) fn describe(addr: usize, with: &mut dyn FnMut(Place<'_>)) {
    if let Some(module) = Module::at(addr) {
        return global(&module, addr, with);
    }
    if let Some(slot) = raddle_sched::stack_slot_at(addr) {
        let owner = slot.goroutine.map_or(Owner::Unknown, Owner::Goroutine);
        return of_thread(slot.thread_pointer, owner, addr, with);
    }
    let Some(mapping) = Mapping::at(addr) else {
        return;
    };
    if let Some(tp) = mapping.thread_pointer_above(addr)
        && let Some(tid) = thread_of(tp)
    {
        let name = fs::read_to_string(format!("/proc/self/task/{tid}/comm")).unwrap_or_default();
        let known = raddle_race::thread_with_handle(tp as libc::pthread_t);
        let owner = match known {
            _ if tid == process::id() => Owner::MainThread,
            Some(id) => Owner::Goroutine(id),
            None => Owner::Thread {
                tid,
                name: name.trim_end(),
            },
        };
        of_thread(Some(tp), owner, addr, with);
    } else if mapping.is_main_stack {
        with(Place::Stack(Owner::MainThread));
    }
}

fn global(module: &Module, addr: usize, with: &mut dyn FnMut(Place<'_>)) {
    let value = module.offset(addr);
    let symbol = symbol_at(&module.path, SymbolKind::Data, value);
    let symbol = symbol.unwrap_or_else(|| unnamed(value));
    with(Place::Global(Variable {
        name: &symbol.name,
        start: module.base + symbol.value,
        size: symbol.size,
        module: &module.name(),
        offset: symbol.value,
    }));
}

fn unnamed(value: usize) -> Symbol {
    Symbol {
        name: String::from("??"),
        value,
        size: 0,
    }
}

/// The address lies below the thread control block of `owner`: it is a thread-local, or lies on the stack.
fn of_thread(tp: Option<usize>, owner: Owner<'_>, addr: usize, with: &mut dyn FnMut(Place<'_>)) {
    let own_tp = thread_pointer();
    let mut lowest = usize::MAX;
    for module in Module::all() {
        let Range { start, end } = module.thread_locals;
        // Storage elsewhere than below the thread pointer is not in the same place in every thread.
        let (Some(tp), true) = (
            tp,
            start < end && end <= own_tp && own_tp - start < STATIC_TLS,
        ) else {
            continue;
        };
        let storage = tp - (own_tp - start)..tp - (own_tp - end);
        lowest = lowest.min(storage.start);
        if storage.contains(&addr) {
            let value = addr - storage.start;
            let symbol = symbol_at(&module.path, SymbolKind::Tls, value);
            let symbol = symbol.unwrap_or_else(|| unnamed(value));
            let variable = Variable {
                name: of_thread_local(&symbol.name),
                start: storage.start + symbol.value,
                size: symbol.size,
                module: &module.name(),
                offset: symbol.value,
            };
            return with(Place::ThreadLocal(variable, owner));
        }
    }
    if addr < tp.map_or(usize::MAX, |tp| lowest.min(tp)) {
        with(Place::Stack(owner));
    }
}

/// More than any program's modules have of static thread-locals, in bytes.
const STATIC_TLS: usize = 1 << 20;

/// What the program calls the thread-local: `thread_local!` puts it into a constant of that name.
fn of_thread_local(symbol: &str) -> &str {
    let ends = [
        "::{{constant}}",
        "::{constant#",
        "::__rust_std_internal",
        "::{{closure}}::VAL",
        "::{closure#0}::VAL",
    ];
    let end = ends.iter().filter_map(|end| symbol.find(end)).min();
    &symbol[..end.unwrap_or(symbol.len())]
}

/// The calling thread's, or goroutine's.
fn thread_pointer() -> usize {
    let tp;
    // SAFETY: the first word of a thread control block is its own address.
    unsafe {
        std::arch::asm!("mov {}, fs:0", out(reg) tp, options(nostack, preserves_flags, readonly))
    };
    tp
}

/// A piece of the process's memory that can be written.
#[derive(Debug)]
struct Mapping {
    end: usize,
    is_main_stack: bool,
}

impl Mapping {
    fn at(addr: usize) -> Option<Mapping> {
        let maps = fs::read_to_string("/proc/self/maps").ok()?;
        maps.lines().find_map(|line| {
            let (range, rest) = line.split_once(' ')?;
            let (start, end) = range.split_once('-')?;
            let [start, end] = [start, end].map(|number| usize::from_str_radix(number, 16));
            let (start, end) = (start.ok()?, end.ok()?);
            ((start..end).contains(&addr) && rest.starts_with("rw")).then(|| Mapping {
                end,
                is_main_stack: line.ends_with("[stack]"),
            })
        })
    }

    /// The first that looks like one from `addr` up. Read by way of the kernel: the memory may go away meanwhile.
    fn thread_pointer_above(&self, addr: usize) -> Option<usize> {
        /// Thread control blocks are aligned to this.
        type Line = [usize; 8];
        /// Larger stacks than this are rare, and other memory is not read whole.
        const MAX: usize = 64 << 20;
        let memory = File::open("/proc/self/mem").ok()?;
        let mut lines: Vec<Line> = vec![[0; 8]; 1024];
        let mut at = addr & !(size_of::<Line>() - 1);
        let end = self.end.min(at + MAX);
        while at < end {
            let part = lines.len().min((end - at) / size_of::<Line>());
            let part = &mut lines[..part];
            let bytes = bytemuck::cast_slice_mut(part);
            memory.read_exact_at(bytes, at as u64).ok()?;
            for words in part {
                // The same address is its first word and its third.
                if words[0] == at && words[2] == at {
                    return Some(at);
                }
                at += size_of::<Line>();
            }
        }
        None
    }
}

/// The thread, one that lives, whose thread control block is at `tp`.
fn thread_of(tp: usize) -> Option<u32> {
    // glibc tells debuggers where it has the thread's number: size, number of elements, offset.
    // SAFETY: no preconditions.
    let field = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_thread_db_pthread_tid".as_ptr()) };
    if field.is_null() {
        return None;
    }
    // SAFETY: three words of 32 bits.
    let [_, _, offset] = unsafe { field.cast::<[u32; 3]>().read() };
    let mut tid = [0; 4];
    let memory = File::open("/proc/self/mem").ok()?;
    memory
        .read_exact_at(&mut tid, tp as u64 + u64::from(offset))
        .ok()?;
    let tid = u32::from_ne_bytes(tid);
    Path::new(&format!("/proc/self/task/{tid}"))
        .exists()
        .then_some(tid)
}

#[cfg(test)]
mod tests {
    use super::*;

    static STATIC: [u64; 4] = [0x5a; 4];

    /// What `describe` says, in its own words.
    fn said(addr: usize) -> Option<String> {
        let mut said = None;
        describe(addr, &mut |place| said = Some(format!("{place:?}")));
        said
    }

    #[test]
    fn an_address_inside_a_static_is_the_static_s() {
        let start = (&raw const STATIC).addr();
        let said = said(start + 20).expect("a static");
        assert!(
            said.contains("places::tests::STATIC\"") && said.contains("size: 32"),
            "{said}"
        );
        assert!(said.contains(&format!("start: {start}")), "{said}");
    }

    #[test]
    fn code_has_a_module_and_nothing_has_none() {
        let code = describe as *const () as usize;
        let module = Module::at(code).expect("this program");
        assert!(module.name().starts_with("raddle"), "{module:?}");
        assert!(Module::at(8).is_none() && said(8).is_none());
    }

    #[test]
    fn a_child_of_fork_may_ask_whoever_asked_at_that_moment() {
        use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
        fn ask() {
            let code = ask as fn() as usize;
            assert!(Module::at(code).is_some());
        }
        static DONE: AtomicBool = AtomicBool::new(false);
        crate::run(|| {
            let asker = std::thread::spawn(|| {
                while !DONE.load(Relaxed) {
                    ask();
                }
            });
            for _ in 0..100 {
                // SAFETY: the child does what a child of `fork` may.
                let child = unsafe { libc::fork() };
                if child == 0 {
                    // SAFETY: no preconditions.
                    unsafe { libc::alarm(60) }; // it hangs
                    ask();
                    // SAFETY: ends the child.
                    unsafe { libc::_exit(0) };
                }
                let mut status = 0;
                // SAFETY: room for the status.
                assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
                assert_eq!(status, 0);
            }
            DONE.store(true, Relaxed);
            asker.join().expect("no panic");
        });
    }

    #[test]
    fn a_function_has_its_whole_name() {
        #[inline(never)]
        fn named() {
            std::hint::black_box(());
        }
        named();
        let start = named as fn() as usize;
        let module = Module::at(start).expect("this program");
        let name = module.function_at(start).expect("a symbol");
        assert!(
            name.starts_with("raddle::places::tests::") && name.ends_with("::named"),
            "{name}"
        );
        assert_eq!(module.function_at(start), Some(name), "once more");
        assert_eq!(module.function_at(start + 1), None);
    }

    #[test]
    fn the_stack_of_a_plain_thread_has_its_name() {
        let thread = std::thread::Builder::new().name("loom".into());
        let thread = thread.spawn(|| {
            let local = 0_u8;
            said((&raw const local).addr())
        });
        let said = thread
            .expect("a thread")
            .join()
            .expect("no panic")
            .expect("a stack");
        assert!(
            said.starts_with("Stack(Thread") && said.contains("\"loom\""),
            "{said}"
        );
    }

    #[test]
    fn a_thread_local_has_the_name_that_the_program_gave_it() {
        for symbol in [
            "app::X::{{constant}}::{{closure}}::VAL",
            "app::X::{constant#0}::{closure#0}::VAL",
            "app::X::{{closure}}::VAL",
            "app::X",
        ] {
            assert_eq!(of_thread_local(symbol), "app::X");
        }
        assert_eq!(
            of_thread_local("app::f::{{closure}}::X"),
            "app::f::{{closure}}::X"
        );
    }
}
