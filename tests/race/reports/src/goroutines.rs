//! On Raddle.

use raddle::{go, yield_now};

use crate::support::{Flag, leak};

pub use raddle::shared::Map;

/// `a` in a goroutine, then `b` here.
pub fn then(a: impl FnOnce() + Send + 'static, b: impl FnOnce()) {
    let flag = leak(Flag::default());
    let a = go(|| {
        a();
        flag.set();
    });
    while !flag.is_set() {
        yield_now();
    }
    b();
    a.join().expect("the goroutine does not panic");
}
