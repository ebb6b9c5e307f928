//! The concurrent prime sieve: a goroutine for each prime, chained by channels.
//!
//! The first goroutine counts. Each prime that comes out at the end of the chain adds a goroutine to it, which lets
//! through only what that prime does not divide.
//!
//!     cargo run --release --example sieve -- 1000

use raddle::chan::{self, Receiver};

/// 2, 3, 4, ...
fn counter() -> Receiver<u64> {
    let (tx, rx) = chan::bounded(0);
    raddle::go(move || (2..).try_for_each(|n| tx.send(n)));
    rx
}

/// What of `numbers` the prime does not divide.
fn filter(numbers: Receiver<u64>, prime: u64) -> Receiver<u64> {
    let (tx, rx) = chan::bounded(0);
    raddle::go(move || {
        numbers
            .into_iter()
            .filter(|n| n % prime != 0)
            .try_for_each(|n| tx.send(n))
    });
    rx
}

#[raddle::main]
fn main() {
    let count = match raddle::args().nth(1).map(|arg| arg.parse()) {
        None => 20,
        Some(Ok(count)) => count,
        Some(Err(error)) => {
            eprintln!("sieve: how many primes? {error}");
            std::process::exit(2);
        }
    };
    let mut numbers = counter();
    for _ in 0..count {
        let prime = numbers.recv().unwrap();
        println!("{prime}");
        numbers = filter(numbers, prime);
    }
}
