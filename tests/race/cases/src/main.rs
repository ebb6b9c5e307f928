//! The cases of the race suite, one function each: `race-cases FILE::CASE` runs one, `race-cases` alone lists them, and
//! `race-cases oracle SEED COUNT` runs random programs.
//!
//! A case `race_...` has a data race, and its report must name lines marked `//~ race`; a case `no_race_...` has none. With a
//! label, `//~ race LABEL`, only lines of one label belong together. A mark on a line of its own is for the line above. `//~ block`: the line that
//! allocates the block in which the race is. A marked line outside the cases counts for all cases of its
//! file. Where a case is one of Go's suite, it has Go's name (`TestRaceIntRWClosures`: `race_int_rw_closures`), and its file too.
//!
//! Races are undefined behaviour; what these do on a real machine is get a wrong number. Those that could do worse (a torn
//! pointer, a freed block) keep their two accesses apart in time, in ways that the detector does not know of.

mod as_plain;
mod atomic;
mod cgo;
mod chan;
mod comp;
mod finalizer;
mod history;
mod io;
mod issue12664;
mod litmus;
mod map;
mod mop;
mod mutex;
mod oracle;
mod plain;
mod pool;
mod rangefunc;
mod reflect;
mod regression;
mod rwmutex;
mod select;
mod slice;
mod std_sync;
mod support;
mod sync;
mod synctest;
mod time;
mod waitgroup;

include!(concat!(env!("OUT_DIR"), "/table.rs"));

#[raddle::main]
fn main() {
    let Some(wanted) = raddle::args().nth(1) else {
        for (name, _) in CASES {
            println!("{name}");
        }
        return;
    };
    if wanted == "oracle" {
        let number = |n| raddle::args().nth(n).and_then(|text| text.parse().ok());
        let (Some(seed), Some(count)) = (number(2), number(3)) else {
            eprintln!("race-cases oracle SEED COUNT");
            std::process::exit(2);
        };
        return oracle::run(seed, count as usize);
    }
    let Some((_, case)) = CASES.iter().find(|(name, _)| *name == wanted) else {
        eprintln!("no case `{wanted}`; without an argument all are listed");
        std::process::exit(2);
    };
    case();
}
