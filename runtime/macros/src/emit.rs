//! Writes the functions that take the place of the user's.

use std::iter;

use proc_macro::{Delimiter, Group, Literal, Spacing, Span, TokenStream, TokenTree};

use crate::error::{Error, ident, path, punct};
use crate::function::Function;

/// `fn main() -> impl ::std::process::Termination { fn main() -> R { body } ::raddle::rt_main(main) }`
pub(crate) fn main(function: Function) -> TokenStream {
    wrap(function, termination(), "rt_main", Vec::new(), None)
}

/// `#[::core::prelude::v1::test] fn name() { fn name() { body } ::raddle::rt_test(::raddle::Test {
/// .. }, name); }`
///
/// With a return type, the outer one is as for `main`. Without, it must stay away: `#[should_panic]` asks for that.
pub(crate) fn test(procs: usize, mut function: Function) -> TokenStream {
    if let Some(plain) = function.attribute("test") {
        let message =
            "`#[raddle::test]` makes this a test already: remove `#[test]`, or it runs twice";
        return Error::over(plain, message)
            .about(&function.name)
            .into_tokens();
    }
    let span = Span::mixed_site();
    let test = path(&["core", "prelude", "v1", "test"], span)
        .into_iter()
        .collect();
    let attribute = [
        punct('#', Spacing::Alone, span),
        Group::new(Delimiter::Bracket, test).into(),
    ];
    function.attributes.extend(attribute);
    let mut what = path(&["raddle", "Test"], span);
    what.extend([
        facts(procs, &function).into(),
        punct(',', Spacing::Alone, span),
    ]);
    let (ret, end) = match function.ret.is_empty() {
        true => (Vec::new(), Some(punct(';', Spacing::Alone, span))),
        false => (termination(), None),
    };
    wrap(function, ret, "rt_test", what, end)
}

/// `{ procs: 0, module: ::core::module_path!(), name: "name", should_panic: false }`
fn facts(procs: usize, function: &Function) -> Group {
    let span = Span::mixed_site();
    let name = function.name.to_string();
    let name = name.strip_prefix("r#").unwrap_or(&name);
    let mut module = path(&["core", "module_path"], span);
    module.extend([
        punct('!', Spacing::Alone, span),
        Group::new(Delimiter::Parenthesis, TokenStream::new()).into(),
    ]);
    let should_panic = match function.has_attribute("should_panic") {
        true => ident("true", span),
        false => ident("false", span),
    };
    let fields = [
        ("procs", vec![Literal::usize_unsuffixed(procs).into()]),
        ("module", module),
        ("name", vec![Literal::string(name).into()]),
        ("should_panic", vec![should_panic]),
    ];
    let field = |(field, value): (&str, Vec<TokenTree>)| {
        [ident(field, span), punct(':', Spacing::Alone, span)]
            .into_iter()
            .chain(value)
            .chain([punct(',', Spacing::Alone, span)])
    };
    let fields = fields.into_iter().flat_map(field).collect();
    Group::new(Delimiter::Brace, fields)
}

/// `-> impl ::std::process::Termination`
fn termination() -> Vec<TokenTree> {
    let span = Span::mixed_site();
    let arrow = [
        punct('-', Spacing::Joint, span),
        punct('>', Spacing::Alone, span),
        ident("impl", span),
    ];
    arrow
        .into_iter()
        .chain(path(&["std", "process", "Termination"], span))
        .collect()
}

/// The attributes and the name stay outside, the user's function moves inside, and `::raddle::<entry>` gets it.
fn wrap(
    function: Function,
    ret: Vec<TokenTree>,
    entry: &str,
    mut arguments: Vec<TokenTree>,
    end: Option<TokenTree>,
) -> TokenStream {
    let Function {
        attributes,
        visibility,
        name,
        ret: inner_ret,
        body,
    } = function;
    let span = Span::mixed_site();
    // At the user's own place: the compiler points there when a body ends with a value that `()` is not.
    let mut parentheses = Group::new(Delimiter::Parenthesis, TokenStream::new());
    parentheses.set_span(name.span());
    let signature = |ret: Vec<TokenTree>| {
        iter::once(ident("fn", span))
            .chain([name.clone().into(), parentheses.clone().into()])
            .chain(ret)
    };

    arguments.push(name.clone().into());
    let call = Group::new(Delimiter::Parenthesis, arguments.into_iter().collect());
    let inner = signature(inner_ret).chain([body.into()]);
    let outer = inner
        .chain(path(&["raddle", entry], span))
        .chain([call.into()])
        .chain(end)
        .collect();

    let outer = [Group::new(Delimiter::Brace, outer).into()];
    attributes
        .into_iter()
        .chain(visibility)
        .chain(signature(ret))
        .chain(outer)
        .collect()
}
