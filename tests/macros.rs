//! `#[raddle::main]` and `#[raddle::test]`: what they make of a function, and how they refuse one.

use std::error::Error;
use std::rc::Rc;

#[raddle::test]
fn a_test_is_a_goroutine() {
    assert_eq!(raddle::go(|| 5).join().unwrap(), 5);
    assert!(raddle::current().is_some());
}

/// The only one here that asks for Ps: their number is the process's.
#[raddle::test(procs = 3)]
fn a_test_has_the_ps_that_it_asked_for() {
    assert_eq!(raddle::procs(), 3);
}

#[raddle::test]
#[should_panic(expected = "as it should")]
fn a_test_may_be_expected_to_panic() {
    panic!("as it should");
}

#[raddle::test]
fn a_test_may_return_a_result() -> Result<(), Box<dyn Error>> {
    assert_eq!("7".parse::<u32>()?, 7);
    Ok(())
}

/// Neither the error nor anything else of the function need be `Send`: it all stays on the goroutine.
#[raddle::test]
fn a_result_need_not_be_send() -> Result<(), Rc<str>> {
    Ok(())
}

/// A function that a macro wrote comes in invisible groups.
macro_rules! test_named {
    ($vis:vis $name:ident $ret:ty, $body:block) => {
        #[raddle::test]
        $vis fn $name() -> $ret $body
    };
}
test_named!(pub(crate) a_test_may_come_from_a_macro Result<(), String>, { Ok(()) });

#[test]
fn refusals_point_at_the_users_tokens() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
