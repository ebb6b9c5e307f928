//! Which functions are not the program's own: the standard library, Raddle, what starts a thread or a goroutine, and compiler-made
//! glue. By their names, and by their source files where debug information has any.

/// Crates between the program and what it asks for.
pub(crate) const CRATES: [&str; 12] = [
    "alloc",
    "core",
    "std",
    "test",
    "hashbrown",
    "corosensei",
    "raddle_alloc",
    "raddle_chan",
    "raddle_race",
    "raddle_race_options",
    "raddle_sched",
    "raddle",
];

/// Those of the standard library.
const OF_STD: [&str; 5] = ["alloc", "core", "std", "test", "hashbrown"];

/// Those of them on top of each stack of an allocation.
pub(crate) const HEAP: [&str; 2] = ["raddle_alloc", "raddle_race"];

/// Parts of the names of functions that the compiler makes.
const GLUE: [&str; 7] = [
    "__rust",
    "__rdl_",
    "__rg_",
    "__tsan_",
    "{{vtable.shim}}",
    "{shim:",
    // A closure's own code is a function of its own.
    " as core::ops::function::Fn",
];

/// Functions of the C library that a thread or the program begins with, and the modules that they are in, where they have no name.
const STARTS: [&str; 10] = [
    "main",
    "_start",
    "start_thread",
    "clone",
    "clone3",
    "__clone",
    "__libc_start",
    "call_init",
    "?? (libc.so",
    "?? (ld-linux",
];

/// Where the sources of the standard library and of what it stands on lie.
const SOURCES: [&str; 3] = ["/rustc/", "/rust/deps/", "/lib/rustlib/src/rust/library/"];

/// Folders of Raddle's own sources, beside this crate's.
const FOLDERS: [&str; 5] = [
    "alloc/src/",
    "chan/src/",
    "race/src/",
    "runtime/src/",
    "sched/src/",
];

/// Whether the file is one of Raddle's own: line tables alone name an inlined function without its path.
pub(crate) fn is_raddles(file: &str) -> bool {
    let root = env!("CARGO_MANIFEST_DIR").strip_suffix("race");
    let inside = root.and_then(|root| file.strip_prefix(root));
    inside.is_some_and(|path| FOLDERS.iter().any(|folder| path.starts_with(folder)))
}

/// Whether a function is not the program's: `crates` are [`CRATES`] or fewer of them.
pub(crate) fn is_plumbing(function: &str, file: Option<&str>, crates: &[&str]) -> bool {
    is_glue(function)
        || crate_of(function).is_some_and(|name| crates.contains(&name))
        || crates.contains(&"std") && file.is_some_and(is_source_of_std)
        || crates.contains(&"raddle") && file.is_some_and(is_raddles)
}

/// Whether the compiler made the function.
pub(crate) fn is_glue(function: &str) -> bool {
    GLUE.iter().any(|glue| function.contains(glue))
}

fn is_source_of_std(file: &str) -> bool {
    SOURCES.iter().any(|at| file.contains(at))
}

/// Whether the function is the standard library's.
pub(crate) fn is_std(function: &str, file: Option<&str>) -> bool {
    file.is_some_and(is_source_of_std)
        || crate_of(function).is_some_and(|name| OF_STD.contains(&name))
}

/// Whether a thread or the program begins with the function.
pub(crate) fn is_start(function: &str, file: Option<&str>) -> bool {
    // Line tables alone call the program's own function so, too.
    if function == "main" && file.is_some() {
        return false;
    }
    // Those of two letters and more words are followed by versions and suffixes.
    STARTS
        .iter()
        .any(|start| match function.strip_prefix(start) {
            Some("") => true,
            Some(rest) => start.starts_with(['_', '?']) && !rest.starts_with("::"),
            None => false,
        })
}

/// Whether the function is one of the detector's own.
pub(crate) fn is_detector(function: &str) -> bool {
    function.starts_with("__tsan_") || crate_of(function) == Some("raddle_race")
}

/// The crate of a function by its name: for a method that of its type, or of the trait, where the type is nobody's
/// (`<T as core::convert::Into<U>>::into`) or the language's.
pub(crate) fn crate_of(function: &str) -> Option<&str> {
    let mut path = function.trim_start_matches(['<', '&', '*', '[', '(']);
    for word in ["mut ", "const ", "dyn ", "impl "] {
        path = path.strip_prefix(word).unwrap_or(path);
    }
    let end = path
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(path.len());
    if path[end..].starts_with("::") {
        return Some(&path[..end]);
    }
    if !function.starts_with('<') {
        return None;
    }
    match path.split_once(" as ") {
        Some((_, its_trait)) => crate_of(its_trait),
        None => Some("core"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_s_own_functions_are_told_from_the_plumbing() {
        let of = |function| is_plumbing(function, None, &CRATES);
        for function in [
            "alloc::vec::Vec<T,A>::push",
            "<alloc::vec::Vec<T> as core::clone::Clone>::clone",
            "<raddle_alloc::heap::Heap as core::alloc::global::GlobalAlloc>::alloc",
            "<T as core::convert::Into<U>>::into",
            "<&mut I as core::iter::traits::iterator::Iterator>::next",
            "<[T]>::copy_from_slice",
            "<*mut u64>::write",
            "<str>::len",
            "<dyn core::ops::function::FnOnce<()>>::call_once",
            "__rust_alloc",
            "__rustc::__rust_dealloc",
            "_RNvCs_7___rustc12___rust_alloc",
            "hashbrown::raw::RawTable<T,A>::reserve_rehash",
            "raddle::goroutine::spawn",
            "core::ptr::drop_in_place::<app::Tree>",
            "<app::main::{closure#0} as core::ops::function::FnOnce<()>>::call_once",
        ] {
            assert!(of(function), "{function}");
        }
        for function in [
            "app::main",
            "<app::Tree as core::default::Default>::default",
            "<app::Tree<alloc::vec::Vec<u8>>>::grow",
            "app::alloc::make",
            "app::main::{closure#0}",
            "allocator_of_mine::get",
            "main",
            "c_function",
        ] {
            assert!(!of(function), "{function}");
        }
        assert!(is_plumbing(
            "sort",
            Some("/rustc/0123/library/core/src/slice.rs"),
            &CRATES
        ));
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent();
        let file = |name| root.map(|root| root.join(name).display().to_string());
        let is_ours = |name| is_plumbing("call<app::main>", file(name).as_deref(), &CRATES);
        assert!(is_ours("runtime/src/goroutine.rs") && is_ours("race/src/heap.rs"));
        assert!(!is_ours("tests/api/main.rs") && !is_ours("target/app/src/main.rs"));
        assert!(!is_plumbing(
            "raddle::sync::tests::x",
            None,
            &CRATES[..CRATES.len() - 1]
        ));
    }

    #[test]
    fn what_a_thread_begins_with_is_known() {
        for function in [
            "main",
            "start_thread",
            "clone3",
            "__clone3",
            "__libc_start_main_impl",
            "?? (libc.so.6+0x88fd4)",
        ] {
            assert!(is_start(function, None), "{function}");
        }
        for function in [
            "mainly",
            "main::x",
            "app::main",
            "clone_it",
            "?? (app+0x10)",
        ] {
            assert!(!is_start(function, None), "{function}");
        }
        assert!(!is_start("main", Some("src/main.rs")));
    }

    #[test]
    fn the_detector_s_functions_are_known() {
        assert!(is_detector("__tsan_read8") && is_detector("raddle_race::access::read"));
        assert!(!is_detector("raddle::race::read") && !is_detector("app::race"));
    }
}
