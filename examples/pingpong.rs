//! Two goroutines throw a ball, and tell how long a round trip takes.
//!
//!     cargo run --release --example pingpong

use std::time::Instant;

use raddle::chan;

const ROUNDS: u32 = 1_000_000;

#[raddle::main]
fn main() {
    let (ping, pings) = chan::bounded::<u32>(0);
    let (pong, pongs) = chan::bounded::<u32>(0);
    let partner = raddle::go(move || {
        for ball in pings {
            pong.send(ball + 1).unwrap();
        }
    });

    let start = Instant::now();
    let mut ball = 0;
    for _ in 0..ROUNDS {
        ping.send(ball).unwrap();
        ball = pongs.recv().unwrap();
    }
    let elapsed = start.elapsed();

    drop(ping);
    partner.join().unwrap();
    assert_eq!(ball, ROUNDS);
    println!(
        "{ROUNDS} round trips in {elapsed:.2?}: {:?} each",
        elapsed / ROUNDS
    );
}
