//! Whose memory a goroutine's stack slot is: for reports about an address.

use crate::stack::{self, Slot};
use crate::tls;

/// A goroutine's stack slot, around an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackSlot {
    /// Who has the slot now; none when it is idle.
    pub goroutine: Option<u64>,
    /// The thread pointer of the slot's thread-local block; none with thread-bound thread-locals.
    pub thread_pointer: Option<usize>,
}

/// The stack slot that `addr` lies in. For reports: it looks at every goroutine, and what it says of one that begins or ends just now
/// may be wrong by the time that it returns.
#[must_use]
pub fn stack_slot_at(addr: usize) -> Option<StackSlot> {
    let slot = stack::slot_of(addr)?;
    Some(StackSlot {
        goroutine: holder(slot),
        thread_pointer: tls::at_top(&slot),
    })
}

fn holder(slot: Slot) -> Option<u64> {
    let all = crate::sched::try_sched()?.all_gs();
    let holder = all.into_iter().find(|g| {
        let within = g.parked.within();
        within.is_some_and(|at| (slot.base()..slot.top()).contains(&at))
    });
    holder.map(|g| g.id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_slot_is_nobody_s() {
        let local = 0_u8;
        assert_eq!(stack_slot_at((&raw const local).addr()), None);
        assert_eq!(stack_slot_at(0), None);
    }
}
