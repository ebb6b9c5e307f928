//! What stands in the parentheses of an attribute.

use proc_macro::{Literal, TokenStream, TokenTree};

use crate::error::Error;

/// The most Ps that the runtime runs with, as for `RADDLE_PROCS`.
const MAX_PROCS: usize = 1024;

/// Refuses any argument.
pub(crate) fn none(attribute: &str, arguments: TokenStream) -> Result<(), Error> {
    let tokens: Vec<_> = arguments.into_iter().collect();
    if tokens.is_empty() {
        return Ok(());
    }
    Err(Error::over(
        &tokens,
        format!("`#[raddle::{attribute}]` has no arguments"),
    ))
}

/// Reads `procs = N`; without it 0, which leaves the number of Ps as it is.
pub(crate) fn procs(arguments: TokenStream) -> Result<usize, Error> {
    let tokens: Vec<_> = arguments.into_iter().collect();
    let value = match tokens.as_slice() {
        [] => return Ok(0),
        [
            TokenTree::Ident(key),
            TokenTree::Punct(eq),
            TokenTree::Literal(value),
            comma @ ..,
        ] if key.to_string() == "procs"
            && eq.as_char() == '='
            && matches!(comma, [] | [TokenTree::Punct(_)])
            && comma.first().is_none_or(|comma| comma.to_string() == ",") =>
        {
            value
        }
        _ => {
            return Err(Error::over(
                &tokens,
                "expected `#[raddle::test]` or `#[raddle::test(procs = N)]`",
            ));
        }
    };
    match integer(value) {
        Some(procs @ 1..=MAX_PROCS) => Ok(procs),
        _ => Err(Error::at(
            value.span(),
            format!("`procs` must be a whole number from 1 to {MAX_PROCS}"),
        )),
    }
}

fn integer(literal: &Literal) -> Option<usize> {
    let digits = literal.to_string().replace('_', "");
    digits.strip_suffix("usize").unwrap_or(&digits).parse().ok()
}
