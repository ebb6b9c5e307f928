//! A cycle at every few allocations, of any kind, and freed memory filled: what is freed too early does not look as it should.

mod world;

use raddle_alloc::Heap;
use raddle_alloc::gc::{self, Config};
use world::churn::churn;
use world::exclusive;

#[global_allocator]
static HEAP: Heap = Heap;

#[test]
fn a_cycle_at_every_few_allocations_breaks_nothing() {
    let _guard = exclusive(Config {
        stress_every: 13,
        ..Config::default()
    });
    let cycles = gc::stats().cycles;
    churn(3, 20);
    assert!(gc::stats().cycles > cycles + 20);
}
