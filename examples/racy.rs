//! The smallest data race: two goroutines add to one variable, and nothing orders them.
//!
//!     cargo run --example racy              prints 2, or 1 when an addition was lost
//!     cargo run --example racy -- --race    prints the two lines that race as well, and exits with status 66

use raddle::shared::Var;

#[raddle::main]
fn main() {
    let visits = Var::new(0);
    raddle::scope(|s| {
        s.go(|| visits.set(visits.get() + 1));
        s.go(|| visits.set(visits.get() + 1));
    });
    println!("{} visits", visits.get());
}
