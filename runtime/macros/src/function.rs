//! Reads the function under an attribute: just enough of Rust's grammar for one that takes nothing.
//!
//! Its attributes, return type and body are kept as the tokens they were, so the compiler's own errors about them
//! still point at the user's lines.

use std::iter::Peekable;

use proc_macro::{Delimiter, Group, Ident, TokenStream, TokenTree};

use crate::error::Error;

type Tokens = Peekable<std::vec::IntoIter<TokenTree>>;

/// `#[attributes] pub fn name() -> Ret { body }`
pub(crate) struct Function {
    pub(crate) attributes: Vec<TokenTree>,
    pub(crate) visibility: Vec<TokenTree>,
    pub(crate) name: Ident,
    /// With its arrow; empty if there is none.
    pub(crate) ret: Vec<TokenTree>,
    pub(crate) body: Group,
}

impl Function {
    /// Reads `item`, or says why `#[raddle::<attribute>]` cannot go on it.
    pub(crate) fn parse(attribute: &str, item: TokenStream) -> Result<Function, Error> {
        let mut tokens = flatten(item).into_iter().peekable();
        let attributes = take_attributes(&mut tokens);
        let visibility = take_visibility(&mut tokens);
        let mut qualifiers = Vec::new();
        while let Some(token) =
            tokens.next_if(|token| !is_ident(token, "fn") && is_qualifier(token))
        {
            qualifiers.push(token);
        }
        let (Some(_fn), Some(TokenTree::Ident(name))) =
            (tokens.next_if(|token| is_ident(token, "fn")), tokens.next())
        else {
            return Err(Error::over(
                &visibility,
                format!("`#[raddle::{attribute}]` goes on a function"),
            ));
        };
        let refuse = |tokens: &[TokenTree], what: &str| Err(Error::over(tokens, what).about(&name));
        if let Some(word) = qualifiers.first() {
            return refuse(
                &qualifiers,
                &qualifier_message(attribute, &word.to_string()),
            );
        }

        let rest: Vec<_> = tokens.collect();
        let Some(parameters) = rest
            .iter()
            .position(|token| is_group(token, Delimiter::Parenthesis))
        else {
            return refuse(&rest, "expected `()` after the function's name");
        };
        if parameters > 0 {
            return refuse(
                &rest[..parameters],
                &format!("a function under `#[raddle::{attribute}]` has no generics"),
            );
        }
        if let TokenTree::Group(group) = &rest[parameters]
            && !group.stream().is_empty()
        {
            let hint = if attribute == "main" {
                "; the program's arguments come from `raddle::args()`"
            } else {
                ""
            };
            let message =
                format!("a function under `#[raddle::{attribute}]` takes no arguments{hint}");
            return refuse(&flatten(group.stream()), &message);
        }
        let Some((TokenTree::Group(body), ret)) = rest[parameters + 1..].split_last() else {
            return refuse(&rest, "expected a function body");
        };
        if let Some(at) = ret.iter().position(|token| is_ident(token, "where")) {
            return refuse(
                &ret[at..],
                &format!("a function under `#[raddle::{attribute}]` has no generics"),
            );
        }
        let (ret, body) = (ret.to_vec(), body.clone());
        Ok(Function {
            attributes,
            visibility,
            name,
            ret,
            body,
        })
    }

    /// The attribute `name` on this function, if it is there by that plain name: its tokens, `#` and brackets.
    pub(crate) fn attribute(&self, name: &str) -> Option<&[TokenTree]> {
        self.attributes.chunks(2).find(|attribute| match attribute {
            [_, TokenTree::Group(group)] => group.stream().to_string() == name,
            _ => false,
        })
    }
}

impl Function {
    /// Whether an attribute is there by that plain name, whatever follows it in the brackets.
    pub(crate) fn has_attribute(&self, name: &str) -> bool {
        self.attributes.iter().any(|token| match token {
            TokenTree::Group(group) => {
                let first = group.stream().into_iter().next();
                first.is_some_and(|first| is_ident(&first, name))
            }
            _ => false,
        })
    }
}

/// The tokens without the invisible groups that `macro_rules` puts around its fragments.
fn flatten(stream: TokenStream) -> Vec<TokenTree> {
    let mut flat = Vec::new();
    for token in stream {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::None => {
                flat.extend(flatten(group.stream()))
            }
            token => flat.push(token),
        }
    }
    flat
}

/// Takes every `#[...]`; each is two tokens.
fn take_attributes(tokens: &mut Tokens) -> Vec<TokenTree> {
    let mut attributes = Vec::new();
    while let Some(hash) =
        tokens.next_if(|token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == '#'))
    {
        attributes.push(hash);
        attributes.extend(tokens.next());
    }
    attributes
}

/// Takes `pub`, `pub(crate)` and the like.
fn take_visibility(tokens: &mut Tokens) -> Vec<TokenTree> {
    let mut visibility = Vec::from_iter(tokens.next_if(|token| is_ident(token, "pub")));
    if !visibility.is_empty() {
        visibility.extend(tokens.next_if(|token| is_group(token, Delimiter::Parenthesis)));
    }
    visibility
}

/// `async`, `const`, `safe`, `unsafe`, `extern "C"`: what may stand before `fn`.
fn is_qualifier(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Literal(_))
        || ["async", "const", "safe", "unsafe", "extern"]
            .iter()
            .any(|word| is_ident(token, word))
}

fn qualifier_message(attribute: &str, word: &str) -> String {
    let hint = match word {
        "async" => ": goroutines are written as plain blocking code, so leave `async` out",
        _ => "",
    };
    format!("a function under `#[raddle::{attribute}]` cannot be `{word}`{hint}")
}

fn is_ident(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident.to_string() == word)
}

fn is_group(token: &TokenTree, delimiter: Delimiter) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == delimiter)
}
