//! What threads pay that free each other's memory. An operation is a malloc and a free.

use std::sync::mpsc::sync_channel;
use std::thread;

use crate::block::{Block, Random};

/// Blocks that go from thread to thread at a time.
const BATCH: usize = 256;
/// Batches on their way at most.
const BATCHES: usize = 16;

/// Two pairs of threads: one allocates blocks of 16 to 256 bytes, the other frees them. The vectors in which they travel go back.
pub fn xmalloc(n: usize) {
    thread::scope(|scope| {
        for pair in 0..2 {
            let (full, take_full) = sync_channel::<Vec<Block>>(BATCHES);
            let (empty, take_empty) = sync_channel::<Vec<Block>>(BATCHES);
            for _ in 0..BATCHES {
                empty.send(Vec::with_capacity(BATCH)).expect("room for it");
            }
            scope.spawn(move || {
                let mut random = Random(pair);
                for _ in 0..n.div_ceil(2 * BATCH) {
                    let mut batch = take_empty.recv().expect("a consumer");
                    batch.extend((0..BATCH).map(|_| Block::new(random.size(16, 256))));
                    full.send(batch).expect("a consumer");
                }
            });
            scope.spawn(move || {
                for mut batch in take_full {
                    batch.clear();
                    // The producer may have had its last one.
                    let _ = empty.send(batch);
                }
            });
        }
    });
}

/// Threads of a server at once.
const SERVERS: usize = 4;
/// Blocks that each has.
const SLOTS: usize = 1000;
/// Requests after which a thread hands its blocks to a new one, and ends.
const TENURE: usize = 50_000;

/// Larson and Krishnan's server: each of four threads has a thousand blocks of 16 to 1000 bytes, and replaces a random one by another.
/// From time to time it hands all of them to a new thread.
pub fn larson(n: usize) {
    thread::scope(|scope| {
        for server in 0..SERVERS {
            scope.spawn(move || {
                let mut random = Random(server as u64);
                let mut slots: Vec<Block> = (0..SLOTS)
                    .map(|_| Block::new(random.size(16, 1000)))
                    .collect();
                let mut left = n / SERVERS;
                while left > 0 {
                    let requests = left.min(TENURE);
                    left -= requests;
                    let successor = move || {
                        serve(&mut slots, &mut random, requests);
                        (slots, random)
                    };
                    (slots, random) = thread::spawn(successor).join().expect("no panic");
                }
            });
        }
    });
}

fn serve(slots: &mut [Block], random: &mut Random, requests: usize) {
    for _ in 0..requests {
        let slot = random.below(slots.len());
        slots[slot] = Block::new(random.size(16, 1000));
    }
}
