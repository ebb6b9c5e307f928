//! What the crates below keep safe by type: a guard of the scheduler stays with its goroutine, and a world that the collector
//! trusts takes a promise.

struct MyWorld;

impl raddle_alloc::World for MyWorld {}

fn is_send<T: Send>() {}

fn main() {
    is_send::<raddle_sched::Rt>();
}
