//! `select!` and `select_biased!`.
//!
//! The expansion has three stages: `@parse` brings every case into one form (`kind(args) -> pattern => {body},`), `@sort` checks the
//! arguments and sets the default case apart, `@bind` evaluates the handles, one nested `match` each so that temporaries live as
//! long as the whole. Then the non-generic selection, given a frame on the stack to work in, chooses a case, and a chain of comparisons
//! finds the arm, which completes the operation.
//!
//! A block with a single receive, or a single send and no default, becomes the plain operation.

/// Waits for several channel operations and carries out one of them.
///
/// | case | meaning |
/// | --- | --- |
/// | `recv(receiver) -> msg => ...` | receive; `msg` is a pattern for the `Result<T, RecvError>` |
/// | `send(sender, value) -> res => ...` | send; `res` is a pattern for the `Result<(), SendError<T>>`. `value` is evaluated only once the case has been chosen |
/// | `default => ...` | no operation can be carried out without waiting |
/// | `default(timeout) => ...` | none could be within that `Duration` |
///
/// If several operations could be carried out one of them is chosen at random, also if the select
/// has waited for them. An operation on a closed channel can be carried out: it fails. A `value`
/// that panics, or leaves the select by `?`, `return` or `break`, is not sent: the case might as
/// well not have been chosen. Handles are evaluated first, in order. The value of the whole is the
/// value of the chosen arm. A `default` may stand anywhere, once.
///
/// # Blocking
///
/// Without `default` parks the goroutine, or blocks a plain thread, until an operation can be carried out; with a `timeout`, until
/// then at most. In any case, also with `default`: when a receive meets a send of another `select` on a channel of capacity zero, that
/// has been chosen by this very call, it waits until the sending side has made its value, however long that takes.
///
/// # Happens-before
///
/// The edges of the operation that was carried out, and no other.
///
/// # Examples
///
/// ```
/// use raddle::chan::{select, unbounded};
/// use std::time::Duration;
///
/// let (s1, r1) = unbounded();
/// let (s2, r2) = unbounded::<&str>();
/// s1.send(10).unwrap();
///
/// select! {
///     recv(r1) -> msg => assert_eq!(msg, Ok(10)),
///     recv(r2) -> _ => unreachable!(),
///     default(Duration::from_secs(1)) => unreachable!(),
/// }
///
/// let sent = select! {
///     recv(r1) -> _ => false,
///     send(s2, "hello") -> res => res.is_ok(),
/// };
/// assert!(sent);
/// ```
#[macro_export]
macro_rules! select {
    ($($tokens:tt)*) => {
        $crate::__raddle_select!(@start false $($tokens)*)
    };
}

/// As [`select!`], but of several operations that could be carried out the one listed first is chosen.
///
/// # Examples
///
/// ```
/// use raddle::chan::{select_biased, unbounded};
///
/// let (s1, r1) = unbounded();
/// let (s2, r2) = unbounded();
/// s1.send(1).unwrap();
/// s2.send(2).unwrap();
/// select_biased! {
///     recv(r1) -> msg => assert_eq!(msg, Ok(1)),
///     recv(r2) -> _ => unreachable!(),
/// }
/// ```
#[macro_export]
macro_rules! select_biased {
    ($($tokens:tt)*) => {
        $crate::__raddle_select!(@start true $($tokens)*)
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __raddle_select {
    (@start $biased:tt) => {
        ::core::compile_error!("empty `select!` block")
    };
    (@start $biased:tt $($tokens:tt)+) => {
        $crate::__raddle_select!(@parse $biased () $($tokens)+)
    };

    // Stage 1: bring the cases into one form.
    (@parse $biased:tt ($($done:tt)*)) => {
        $crate::__raddle_select!(@sort $biased () () $($done)*)
    };
    (@parse $biased:tt $done:tt default => $($tail:tt)*) => {
        $crate::__raddle_select!(@parse $biased $done default() => $($tail)*)
    };
    (@parse $biased:tt $done:tt default -> $($tail:tt)*) => {
        ::core::compile_error!("expected `=>` after `default`, found `->`")
    };
    (@parse $biased:tt $done:tt default $args:tt -> $($tail:tt)*) => {
        ::core::compile_error!("expected `=>` after `default`, found `->`")
    };
    (@parse $biased:tt $done:tt recv($($args:tt)*) => $($tail:tt)*) => {
        ::core::compile_error!("expected `-> pattern` after `recv(..)`, found `=>`")
    };
    (@parse $biased:tt $done:tt send($($args:tt)*) => $($tail:tt)*) => {
        ::core::compile_error!("expected `-> pattern` after `send(..)`, found `=>`")
    };
    (@parse $biased:tt $done:tt $case:ident($($args:tt)*) $(-> $res:pat)? => { $($body:tt)* }; $($tail:tt)*) => {
        ::core::compile_error!("expected a comma or nothing after `}`, found a semicolon")
    };
    (@parse $biased:tt ($($done:tt)*) $case:ident($($args:tt)*) $(-> $res:pat)? => { $($body:tt)* }, $($tail:tt)*) => {
        $crate::__raddle_select!(@parse $biased ($($done)* $case($($args)*) $(-> $res)? => { $($body)* },) $($tail)*)
    };
    (@parse $biased:tt ($($done:tt)*) $case:ident($($args:tt)*) $(-> $res:pat)? => $body:expr, $($tail:tt)*) => {
        $crate::__raddle_select!(@parse $biased ($($done)* $case($($args)*) $(-> $res)? => { $body },) $($tail)*)
    };
    (@parse $biased:tt ($($done:tt)*) $case:ident($($args:tt)*) $(-> $res:pat)? => { $($body:tt)* } $($tail:tt)*) => {
        $crate::__raddle_select!(@parse $biased ($($done)* $case($($args)*) $(-> $res)? => { $($body)* },) $($tail)*)
    };
    (@parse $biased:tt ($($done:tt)*) $case:ident($($args:tt)*) $(-> $res:pat)? => $body:expr) => {
        $crate::__raddle_select!(@parse $biased ($($done)* $case($($args)*) $(-> $res)? => { $body },))
    };
    (@parse $biased:tt $done:tt $case:ident($($args:tt)*) $(-> $res:pat)? =>) => {
        ::core::compile_error!("expected an expression after `=>`")
    };
    (@parse $biased:tt $done:tt $case:ident($($args:tt)*) $(-> $res:pat)? => $body:expr; $($tail:tt)*) => {
        ::core::compile_error!("expected a comma after the case, found a semicolon")
    };
    (@parse $biased:tt $done:tt $case:ident($($args:tt)*) $(-> $res:pat)? => $($tail:tt)+) => {
        ::core::compile_error!("expected a comma between the cases of a `select!` block")
    };
    (@parse $biased:tt $done:tt $case:ident($($args:tt)*) -> => $($tail:tt)*) => {
        ::core::compile_error!("expected a pattern between `->` and `=>`")
    };
    (@parse $biased:tt $done:tt $case:ident($($args:tt)*) $($tail:tt)*) => {
        ::core::compile_error!(::core::concat!(
            "expected `-> pattern => expression` after `", ::core::stringify!($case), "(..)`"
        ))
    };
    (@parse $biased:tt $done:tt $token:tt $($tail:tt)*) => {
        ::core::compile_error!(::core::concat!(
            "expected `recv(receiver)`, `send(sender, value)` or `default`, found `", ::core::stringify!($token), "`"
        ))
    };

    // Stage 2: check the arguments, set the default case apart.
    (@sort $biased:tt $cases:tt $default:tt) => {
        $crate::__raddle_select!(@init $biased $cases $default)
    };
    (@sort $biased:tt ($($cases:tt)*) $default:tt recv($r:expr $(,)?) -> $res:pat => $body:tt, $($tail:tt)*) => {
        $crate::__raddle_select!(@sort $biased ($($cases)* recv($r) -> $res => $body,) $default $($tail)*)
    };
    (@sort $biased:tt ($($cases:tt)*) $default:tt send($s:expr, $m:expr $(,)?) -> $res:pat => $body:tt, $($tail:tt)*) => {
        $crate::__raddle_select!(@sort $biased ($($cases)* send($s, $m) -> $res => $body,) $default $($tail)*)
    };
    (@sort $biased:tt $cases:tt () default() => $body:tt, $($tail:tt)*) => {
        $crate::__raddle_select!(@sort $biased $cases (default() => $body) $($tail)*)
    };
    (@sort $biased:tt $cases:tt () default($timeout:expr $(,)?) => $body:tt, $($tail:tt)*) => {
        $crate::__raddle_select!(@sort $biased $cases (default($timeout) => $body) $($tail)*)
    };
    (@sort $biased:tt $cases:tt ($($default:tt)+) default $($tail:tt)*) => {
        ::core::compile_error!("there can be only one `default` case in a `select!` block")
    };
    (@sort $biased:tt $cases:tt $default:tt recv $args:tt $($tail:tt)*) => {
        ::core::compile_error!(::core::concat!("expected `recv(receiver)`, found `recv", ::core::stringify!($args), "`"))
    };
    (@sort $biased:tt $cases:tt $default:tt send $args:tt $($tail:tt)*) => {
        ::core::compile_error!(::core::concat!("expected `send(sender, value)`, found `send", ::core::stringify!($args), "`"))
    };
    (@sort $biased:tt $cases:tt $default:tt default $args:tt $($tail:tt)*) => {
        ::core::compile_error!(::core::concat!(
            "expected `default` or `default(timeout)`, found `default", ::core::stringify!($args), "`"
        ))
    };
    (@sort $biased:tt $cases:tt $default:tt $case:ident $($tail:tt)*) => {
        ::core::compile_error!(::core::concat!(
            "expected `recv(receiver)`, `send(sender, value)` or `default`, found `", ::core::stringify!($case), "`"
        ))
    };

    // A single receive is a plain receive.
    (@init $biased:tt (recv($r:expr) -> $res:pat => $body:tt,) ()) => {
        match $r {
            ref receiver => {
                let receiver: &$crate::Receiver<_> = receiver;
                let res = receiver.recv();
                let $res = res;
                $body
            }
        }
    };
    (@init $biased:tt (recv($r:expr) -> $res:pat => $body:tt,) (default() => $default:tt)) => {
        match $r {
            ref receiver => {
                let receiver: &$crate::Receiver<_> = receiver;
                match receiver.try_recv() {
                    ::core::result::Result::Err($crate::TryRecvError::Empty) => $default,
                    res => {
                        let res = res.map_err(|_| $crate::RecvError);
                        let $res = res;
                        $body
                    }
                }
            }
        }
    };
    (@init $biased:tt (recv($r:expr) -> $res:pat => $body:tt,) (default($timeout:expr) => $default:tt)) => {
        match $r {
            ref receiver => {
                let receiver: &$crate::Receiver<_> = receiver;
                match receiver.recv_timeout($timeout) {
                    ::core::result::Result::Err($crate::RecvTimeoutError::Timeout) => $default,
                    res => {
                        let res = res.map_err(|_| $crate::RecvError);
                        let $res = res;
                        $body
                    }
                }
            }
        }
    };
    // So is a single send.
    (@init $biased:tt (send($s:expr, $m:expr) -> $res:pat => $body:tt,) ()) => {
        match $s {
            ref sender => {
                let sender: &$crate::Sender<_> = sender;
                let res = sender.send($m);
                let $res = res;
                $body
            }
        }
    };
    (@init $biased:tt $cases:tt $default:tt) => {
        $crate::__raddle_select!(@bind $biased () $cases $default)
    };

    // Stage 3: evaluate the handles. Each expansion's `handle` is a variable of its own.
    (@bind $biased:tt ($($bound:tt)*) (recv($r:expr) -> $res:pat => $body:tt, $($tail:tt)*) $default:tt) => {
        match $r {
            ref handle => {
                let handle: &$crate::Receiver<_> = handle;
                $crate::__raddle_select!(@bind $biased ($($bound)* [recv handle () $res => $body]) ($($tail)*) $default)
            }
        }
    };
    (@bind $biased:tt ($($bound:tt)*) (send($s:expr, $m:expr) -> $res:pat => $body:tt, $($tail:tt)*) $default:tt) => {
        match $s {
            ref handle => {
                let handle: &$crate::Sender<_> = handle;
                $crate::__raddle_select!(@bind $biased ($($bound)* [send handle ($m) $res => $body]) ($($tail)*) $default)
            }
        }
    };
    (@bind $biased:tt ($([$kind:ident $handle:ident $m:tt $res:pat => $body:tt])*) () ()) => {{
        let mut frame = $crate::internal::Frame::new();
        let oper = $crate::internal::select(&mut frame, [$($crate::internal::$kind($handle)),*], $biased);
        $crate::__raddle_select!(@complete oper (0) $([$kind $handle $m $res => $body])*)
    }};
    (@bind $biased:tt ($([$kind:ident $handle:ident $m:tt $res:pat => $body:tt])*) () (default() => $default:tt)) => {{
        let mut frame = $crate::internal::Frame::new();
        let oper = $crate::internal::try_select(&mut frame, [$($crate::internal::$kind($handle)),*], $biased);
        match oper {
            ::core::option::Option::None => $default,
            ::core::option::Option::Some(oper) => {
                $crate::__raddle_select!(@complete oper (0) $([$kind $handle $m $res => $body])*)
            }
        }
    }};
    (@bind $biased:tt ($([$kind:ident $handle:ident $m:tt $res:pat => $body:tt])*) () (default($timeout:expr) => $default:tt)) => {{
        let mut frame = $crate::internal::Frame::new();
        let oper = $crate::internal::select_timeout(&mut frame, [$($crate::internal::$kind($handle)),*], $timeout, $biased);
        match oper {
            ::core::option::Option::None => $default,
            ::core::option::Option::Some(oper) => {
                $crate::__raddle_select!(@complete oper (0) $([$kind $handle $m $res => $body])*)
            }
        }
    }};

    // Find the chosen arm and complete its operation.
    (@complete $oper:ident ($i:expr) [recv $handle:ident () $res:pat => $body:tt] $($tail:tt)*) => {
        if $oper.index() == $i {
            let res = $oper.recv($handle);
            let $res = res;
            $body
        } else {
            $crate::__raddle_select!(@complete $oper ($i + 1) $($tail)*)
        }
    };
    (@complete $oper:ident ($i:expr) [send $handle:ident ($m:expr) $res:pat => $body:tt] $($tail:tt)*) => {
        if $oper.index() == $i {
            let res = $oper.send($handle, $m);
            let $res = res;
            $body
        } else {
            $crate::__raddle_select!(@complete $oper ($i + 1) $($tail)*)
        }
    };
    (@complete $oper:ident ($i:expr)) => {
        ::core::unreachable!("the selection chose case {} of {}", $oper.index(), $i)
    };
}
