//! The attribute macros of Raddle: what makes `main` and tests run as goroutines.
//!
//! Programs use them as `#[raddle::main]` and `#[raddle::test]`. Both only wrap: the function moves, as written, into
//! a function of the same signature, which hands it to the runtime. All that runs lives in the `raddle` crate.
//!
//! # Why not
//! - `syn` and `quote`: a function without arguments is read in a hundred lines (`function.rs`), and every program that
//!   uses Raddle would wait for theirs to compile.
//! - A closure instead of an inner function: it cannot return `impl Trait`, and type errors in the body would speak of
//!   a closure that the user never wrote.
#![forbid(unsafe_code)]

mod arguments;
mod emit;
mod error;
mod function;

use proc_macro::TokenStream;

use crate::error::Error;
use crate::function::Function;

/// Makes `main` the main goroutine.
///
/// Starts the runtime, reads its flags (`--race`) and the environment (`RADDLE_*`), and runs the function as the first
/// goroutine. The process ends when it returns, whatever the other goroutines do, as in Go. It may return whatever an
/// ordinary `main` may: nothing, a `Result`, an `ExitCode`, any `impl Termination`.
///
/// ```no_run
/// #[raddle::main]
/// fn main() {
///     let (tx, rx) = raddle::chan::bounded(0);
///     raddle::go(move || tx.send("hello from a goroutine").unwrap());
///     println!("{}", rx.recv().unwrap());
/// }
/// ```
///
/// # Errors
/// Does not compile on a function that is `async`, `const`, `unsafe` or `extern`, or that has arguments or generics:
///
/// ```compile_fail
/// #[raddle::main]
/// async fn main() {}
/// ```
#[proc_macro_attribute]
pub fn main(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let expand = || {
        let function = Function::parse("main", item)?;
        arguments::none("main", arguments).map_err(|error| error.about(&function.name))?;
        Ok(emit::main(function))
    };
    expand().unwrap_or_else(Error::into_tokens)
}

/// Makes a test function run as a goroutine.
///
/// With `procs = N` it runs with that many Ps, from 1 to 1024. Goes together with `#[should_panic]`, `#[ignore]` and
/// `#[cfg]`; the function may return a `Result`.
///
/// The goroutine is named after the test. What it prints, and what all goroutines print that it
/// starts, is captured as libtest does it, unless thread-locals stay with the OS thread. What a
/// thread-local's destructor prints is not, nor what a `std::thread` prints that a goroutine has
/// started.
///
/// In race mode a test fails, by its name, if one of its goroutines or threads has raced. If all
/// races that were found are such, the exit status is libtest's; else it is that of race mode.
///
/// ```
/// #[raddle::test(procs = 2)]
/// fn two_goroutines_meet() {
///     let (tx, rx) = raddle::chan::bounded(0);
///     raddle::go(move || tx.send(1).unwrap());
///     assert_eq!(rx.recv(), Ok(1));
/// }
/// ```
///
/// # Errors
/// Does not compile where `#[raddle::main]` would not, beside a plain `#[test]`, or with other arguments:
///
/// ```compile_fail
/// #[raddle::test(procs = 0)]
/// fn runs_nowhere() {}
/// ```
#[proc_macro_attribute]
pub fn test(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let expand = || {
        let function = Function::parse("test", item)?;
        let procs = arguments::procs(arguments).map_err(|error| error.about(&function.name))?;
        Ok(emit::test(procs, function))
    };
    expand().unwrap_or_else(Error::into_tokens)
}
