//! A refusal that points at the tokens it is about.

use std::iter;

use proc_macro::{Delimiter, Group, Ident, Literal, Punct, Spacing, Span, TokenStream, TokenTree};

/// Why an attribute cannot be applied, and where.
pub(crate) struct Error {
    first: Span,
    last: Span,
    message: String,
    name: Option<Ident>,
}

impl Error {
    /// An error about one token or one place.
    pub(crate) fn at(span: Span, message: impl Into<String>) -> Error {
        Error {
            first: span,
            last: span,
            message: message.into(),
            name: None,
        }
    }

    /// An error about several tokens in a row; about the attribute itself if there are none.
    pub(crate) fn over(tokens: &[TokenTree], message: impl Into<String>) -> Error {
        let span = |token: Option<&TokenTree>| token.map_or(Span::call_site(), TokenTree::span);
        Error {
            last: span(tokens.last()),
            ..Error::at(span(tokens.first()), message)
        }
    }

    /// The function that was refused: an empty one takes its place, so that no second error says that it is missing.
    pub(crate) fn about(self, name: &Ident) -> Error {
        Error {
            name: Some(name.clone()),
            ..self
        }
    }

    /// `::core::compile_error! { "message" }`, which the compiler underlines from the first token to the last.
    pub(crate) fn into_tokens(self) -> TokenStream {
        let mut message = Literal::string(&self.message);
        message.set_span(self.last);
        let mut braces = Group::new(Delimiter::Brace, TokenTree::from(message).into());
        braces.set_span(self.last);
        let mut tokens = path(&["core", "compile_error"], self.first);
        tokens.extend([punct('!', Spacing::Alone, self.first), braces.into()]);
        if let Some(name) = self.name {
            let empty = |delimiter| TokenTree::from(Group::new(delimiter, TokenStream::new()));
            let item = [
                name.into(),
                empty(Delimiter::Parenthesis),
                empty(Delimiter::Brace),
            ];
            tokens.extend(iter::once(ident("fn", self.first)).chain(item));
        }
        tokens.into_iter().collect()
    }
}

/// `::a::b::c`
pub(crate) fn path(segments: &[&str], span: Span) -> Vec<TokenTree> {
    let segment = |name: &&str| {
        [
            punct(':', Spacing::Joint, span),
            punct(':', Spacing::Alone, span),
            ident(name, span),
        ]
    };
    segments.iter().flat_map(segment).collect()
}

pub(crate) fn punct(c: char, spacing: Spacing, span: Span) -> TokenTree {
    let mut punct = Punct::new(c, spacing);
    punct.set_span(span);
    punct.into()
}

pub(crate) fn ident(name: &str, span: Span) -> TokenTree {
    Ident::new(name, span).into()
}
