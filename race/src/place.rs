//! What lies at the racing address: copies of what the host says, and their words.

use std::fmt::{self, Write};

use crate::interpose::is_main_thread;
use crate::state::host;
use crate::{FIRST_THREAD_ID, Owner, Place, Variable, record};

/// The goroutine that runs `main`.
pub(crate) const MAIN: u64 = 1;

/// Whether it needs no number and nobody created it: the main goroutine, and the main thread.
pub(crate) fn is_main(id: u64) -> bool {
    id == MAIN || is_main_thread(id)
}

/// A goroutine's number, or a plain thread's, and the word for which it is.
pub(crate) fn number(id: u64) -> (&'static str, u64) {
    match id.checked_sub(FIRST_THREAD_ID) {
        Some(before) => ("thread", before + 1),
        None => ("goroutine", id),
    }
}

/// "goroutine 7 'worker'", "main goroutine", "thread 2 'loader'", "main thread".
pub(crate) struct Who(pub(crate) u64);

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == MAIN {
            return f.write_str("main goroutine");
        }
        if is_main_thread(self.0) {
            return f.write_str("main thread");
        }
        let (what, number) = number(self.0);
        write!(f, "{what} {number}{}", Name(self.0))
    }
}

/// The name of a goroutine or plain thread, where it was given one; also of one that ended lately.
pub(crate) fn name_of(id: u64) -> Option<String> {
    let mut its = None;
    (host().goroutine_name)(id, &mut |name| its = Some(name.to_owned()));
    its.or_else(|| record::name_of_ended(id))
}

/// ` 'worker'`, or nothing.
pub(crate) struct Name(pub(crate) u64);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match name_of(self.0) {
            Some(name) => write!(f, " '{name}'"),
            None => Ok(()),
        }
    }
}

/// A variable.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Symbol {
    pub(crate) name: String,
    pub(crate) start: usize,
    pub(crate) size: usize,
    pub(crate) module: String,
    pub(crate) offset: usize,
}

impl Symbol {
    fn of(variable: Variable<'_>) -> Symbol {
        Symbol {
            name: variable.name.to_owned(),
            start: variable.start,
            size: variable.size,
            module: variable.module.to_owned(),
            offset: variable.offset,
        }
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Symbol {
            name,
            start,
            size,
            module,
            offset,
        } = self;
        write!(f, "'{name}'")?;
        if *size != 0 {
            write!(f, " of size {size}")?;
        }
        write!(f, " at {start:#014x} ({module}+{offset:#x})")
    }
}

/// Whose memory it is, in words; its goroutine's number, where it is one's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) words: String,
    pub(crate) goroutine: Option<u64>,
}

impl Holder {
    fn of(owner: Owner<'_>) -> Option<Holder> {
        let (words, goroutine) = match owner {
            Owner::Goroutine(id) => (Who(id).to_string(), Some(id)),
            Owner::MainThread => (String::from("main thread"), None),
            Owner::Thread { tid, name: "" } => (format!("unknown thread (tid {tid})"), None),
            Owner::Thread { tid, name } => (format!("unknown thread '{name}' (tid {tid})"), None),
            Owner::Unknown => return None,
        };
        Some(Holder { words, goroutine })
    }
}

/// Memory that is in no heap block.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Location {
    Global(Symbol),
    ThreadLocal(Symbol, Option<Holder>),
    Stack(Option<Holder>),
}

impl Location {
    /// What lies at `addr`.
    pub(crate) fn of(addr: usize) -> Option<Location> {
        let mut found = None;
        (host().describe)(addr, &mut |place| {
            found = Some(match place {
                Place::Global(variable) => Location::Global(Symbol::of(variable)),
                Place::ThreadLocal(variable, owner) => {
                    Location::ThreadLocal(Symbol::of(variable), Holder::of(owner))
                }
                Place::Stack(owner) => Location::Stack(Holder::of(owner)),
            });
        });
        found
    }

    /// One word for programs.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Location::Global(_) => "global",
            Location::ThreadLocal(..) => "thread-local",
            Location::Stack(_) => "stack",
        }
    }

    /// The variable, where it is one.
    pub(crate) fn symbol(&self) -> Option<&Symbol> {
        match self {
            Location::Global(symbol) | Location::ThreadLocal(symbol, _) => Some(symbol),
            Location::Stack(_) => None,
        }
    }

    /// Whose it is, where it is somebody's.
    pub(crate) fn holder(&self) -> Option<&Holder> {
        match self {
            Location::Global(_) => None,
            Location::ThreadLocal(_, holder) | Location::Stack(holder) => holder.as_ref(),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        if let Some(symbol) = self.symbol() {
            f.write_char(' ')?;
            symbol.fmt(f)?;
        }
        match self.holder() {
            Some(holder) => write!(f, " of {}", holder.words),
            None => Ok(()),
        }
    }
}
