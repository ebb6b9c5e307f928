//! What the crates below keep safe by contract alone is out of reach of safe code: a claim that is not the caller's, a context of
//! the race detector, the stop of the world, the finalizer's queue.

use raddle_alloc::gc;
use raddle_race::{self as race, Pc};

fn main() {
    let me = raddle_sched::enter().g();
    me.claim_reset();
    let _ = me.try_claim();
    let _ = me.race_ctx();
    let _ = race::current();
    let _ = race::go_start(None, 1, Pc::NONE);
    let _ = race::go_start_orphan(Pc::NONE);
    let _ = race::thread_start(1);
    let _ = race::thread_attach();
    let _ = race::runtime_enter();
    race::proc_destroy(race::proc_create());
    let _ = raddle_sched::world();
    let _ = gc::next_finalizable();
}
