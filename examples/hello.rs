//! Goroutines say hello.
//!
//!     cargo run --example hello

use raddle::chan;

#[raddle::main]
fn main() {
    let (tx, rx) = chan::bounded(0);
    for name in ["warp", "weft", "comb"] {
        let tx = tx.clone();
        raddle::go(move || tx.send(format!("hello from {name}")).unwrap());
    }
    drop(tx); // `rx` ends when the last sender is gone

    for line in rx {
        println!("{line}");
    }
}
