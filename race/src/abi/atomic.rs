//! Atomic operations of 1 to 16 bytes by their declared order, and fences.
//!
//! The operation itself is always sequentially consistent: on x86-64 only a store is dearer for it, and the detector's work
//! around it costs more. What order it gives is decided by the declared one (`crate::atomic`).

use std::arch::asm;
use std::cell::{Cell, UnsafeCell};
use std::sync::atomic::Ordering::{self, *};
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};
use std::{mem, ptr};

use super::{watched, with_return_address};
use crate::Pc;
use crate::atomic::{AtomicOp, by, load_known};

/// C11's numbers: relaxed, consume (which nobody tells from acquire), acquire, release, both, sequentially consistent.
fn order(number: i32) -> Ordering {
    match number {
        0 => Relaxed,
        1 | 2 => Acquire,
        3 => Release,
        4 => AcqRel,
        _ => SeqCst,
    }
}

/// Runs `op` under the detector's eyes. It returns the value, and whether it wrote.
#[inline(always)]
fn run<T: Copy>(addr: usize, kind: AtomicOp, pc: usize, op: impl Fn() -> (T, bool)) -> T {
    let Some(ctx) = watched() else { return op().0 };
    let value = Cell::new(None);
    by(ctx, addr, size_of::<T>(), kind, Pc::code(pc), &mut || {
        let (result, wrote) = op();
        value.set(Some(result));
        wrote
    });
    match value.get() {
        Some(value) => value,
        None => op().0,
    }
}

/// Sixteen bytes, by the one instruction that there is.
#[repr(C, align(16))]
struct AtomicU128(UnsafeCell<u128>);

// SAFETY: what is in it is reached by the one instruction alone, which is atomic.
unsafe impl Sync for AtomicU128 {}

impl AtomicU128 {
    fn compare_exchange(
        &self,
        old: u128,
        new: u128,
        _: Ordering,
        _: Ordering,
    ) -> Result<u128, u128> {
        let half = |value: u128, shift: u32| (value >> shift) as u64;
        let (mut low, mut high) = (half(old, 0), half(old, 64));
        // By hand: in a crate that is compiled for every CPU the compiler calls a library for it, which nobody links. `rbx` is the
        // compiler's own, and lent to the instruction.
        // SAFETY: code that asks for atomics of this size was compiled for a CPU that has the instruction, and the place is aligned
        // as the caller's type is.
        unsafe {
            asm!(
                "xchg {new}, rbx",
                "lock cmpxchg16b xmmword ptr [rdi]",
                "mov rbx, {new}",
                new = inout(reg) half(new, 0) => _,
                in("rcx") half(new, 64),
                inout("rax") low,
                inout("rdx") high,
                in("rdi") self.0.get(),
                options(nostack),
            );
        }
        let found = u128::from(high) << 64 | u128::from(low);
        if found == old { Ok(found) } else { Err(found) }
    }

    fn load(&self, order: Ordering) -> u128 {
        match self.compare_exchange(0, 0, order, order) {
            Ok(value) | Err(value) => value,
        }
    }

    fn update(&self, order: Ordering, new: impl Fn(u128) -> u128) -> u128 {
        let mut now = self.load(order);
        loop {
            match self.compare_exchange(now, new(now), order, order) {
                Ok(old) => return old,
                Err(other) => now = other,
            }
        }
    }

    fn store(&self, value: u128, order: Ordering) {
        self.update(order, |_| value);
    }

    fn swap(&self, value: u128, order: Ordering) -> u128 {
        self.update(order, |_| value)
    }

    fn fetch_add(&self, value: u128, order: Ordering) -> u128 {
        self.update(order, |old| old.wrapping_add(value))
    }

    fn fetch_sub(&self, value: u128, order: Ordering) -> u128 {
        self.update(order, |old| old.wrapping_sub(value))
    }

    fn fetch_and(&self, value: u128, order: Ordering) -> u128 {
        self.update(order, |old| old & value)
    }

    fn fetch_or(&self, value: u128, order: Ordering) -> u128 {
        self.update(order, |old| old | value)
    }

    fn fetch_xor(&self, value: u128, order: Ordering) -> u128 {
        self.update(order, |old| old ^ value)
    }

    fn fetch_nand(&self, value: u128, order: Ordering) -> u128 {
        self.update(order, |old| !(old & value))
    }
}

/// The operations on one size. `$after_two` and so on are the registers in which the return address follows so many arguments.
macro_rules! operations {
    ($module:ident, $int:ty, $atomic:ty, $after_two:literal, $after_three:literal, $load:ident, $store:ident,
     $($rmw:ident $method:ident)*) => {
        mod $module {
            use super::*;

            pub(super) extern "C" fn load(at: &$atomic, number: i32, pc: usize) -> $int {
                let addr = ptr::from_ref(at).addr();
                let Some(ctx) = watched() else { return at.load(SeqCst) };
                let order = order(number);
                let load = || at.load(SeqCst);
                let known = load_known(ctx.get(), addr, size_of::<$int>(), order, Pc::code(pc), load);
                known.unwrap_or_else(|| run(addr, AtomicOp::Load(order), pc, || (load(), false)))
            }

            pub(super) extern "C" fn store(at: &$atomic, value: $int, number: i32, pc: usize) {
                let kind = AtomicOp::Store(order(number));
                run(ptr::from_ref(at).addr(), kind, pc, || {
                    at.store(value, SeqCst);
                    (value, true)
                });
            }

            $(pub(super) extern "C" fn $method(at: &$atomic, value: $int, number: i32, pc: usize) -> $int {
                let kind = AtomicOp::Rmw(order(number));
                run(ptr::from_ref(at).addr(), kind, pc, || (at.$method(value, SeqCst), true))
            })*

            pub(super) fn exchange_if(at: &$atomic, old: $int, new: $int, orders: (i32, i32), pc: usize) -> $int {
                let kind = AtomicOp::CompareExchange(order(orders.0), order(orders.1));
                run(ptr::from_ref(at).addr(), kind, pc, || {
                    match at.compare_exchange(old, new, SeqCst, SeqCst) {
                        Ok(found) => (found, true),
                        Err(found) => (found, false),
                    }
                })
            }
        }

        with_return_address! {
            $load => $module::load, $after_two;
            $store => $module::store, $after_three;
            $($rmw => $module::$method, $after_three;)*
        }
    };
}

/// Compare-exchange of sizes whose values take a register each. The value form returns what was there; the others whether it was
/// exchanged, and leave what was there in `*old`.
macro_rules! compare_exchange {
    ($module:ident, $int:ty, $atomic:ty, $value:ident, $strong:ident, $weak:ident) => {
        mod $value {
            use super::*;

            pub(super) extern "C" fn value(
                at: &$atomic,
                old: $int,
                new: $int,
                number: i32,
                failed: i32,
                pc: usize,
            ) -> $int {
                $module::exchange_if(at, old, new, (number, failed), pc)
            }

            pub(super) extern "C" fn bool(
                at: &$atomic,
                old: &mut $int,
                new: $int,
                number: i32,
                failed: i32,
                pc: usize,
            ) -> bool {
                let found = $module::exchange_if(at, *old, new, (number, failed), pc);
                mem::replace(old, found) == found
            }
        }

        with_return_address! {
            $value => $value::value, "r9";
            $strong => $value::bool, "r9";
            $weak => $value::bool, "r9";
        }
    };
}

operations! { size_1, u8, AtomicU8, "rdx", "rcx", __tsan_atomic8_load, __tsan_atomic8_store,
__tsan_atomic8_exchange swap __tsan_atomic8_fetch_add fetch_add __tsan_atomic8_fetch_sub fetch_sub
__tsan_atomic8_fetch_and fetch_and __tsan_atomic8_fetch_or fetch_or __tsan_atomic8_fetch_xor fetch_xor
__tsan_atomic8_fetch_nand fetch_nand }
operations! { size_2, u16, AtomicU16, "rdx", "rcx", __tsan_atomic16_load, __tsan_atomic16_store,
__tsan_atomic16_exchange swap __tsan_atomic16_fetch_add fetch_add __tsan_atomic16_fetch_sub fetch_sub
__tsan_atomic16_fetch_and fetch_and __tsan_atomic16_fetch_or fetch_or __tsan_atomic16_fetch_xor fetch_xor
__tsan_atomic16_fetch_nand fetch_nand }
operations! { size_4, u32, AtomicU32, "rdx", "rcx", __tsan_atomic32_load, __tsan_atomic32_store,
__tsan_atomic32_exchange swap __tsan_atomic32_fetch_add fetch_add __tsan_atomic32_fetch_sub fetch_sub
__tsan_atomic32_fetch_and fetch_and __tsan_atomic32_fetch_or fetch_or __tsan_atomic32_fetch_xor fetch_xor
__tsan_atomic32_fetch_nand fetch_nand }
operations! { size_8, u64, AtomicU64, "rdx", "rcx", __tsan_atomic64_load, __tsan_atomic64_store,
__tsan_atomic64_exchange swap __tsan_atomic64_fetch_add fetch_add __tsan_atomic64_fetch_sub fetch_sub
__tsan_atomic64_fetch_and fetch_and __tsan_atomic64_fetch_or fetch_or __tsan_atomic64_fetch_xor fetch_xor
__tsan_atomic64_fetch_nand fetch_nand }
operations! { size_16, u128, AtomicU128, "rdx", "r8", __tsan_atomic128_load, __tsan_atomic128_store,
__tsan_atomic128_exchange swap __tsan_atomic128_fetch_add fetch_add __tsan_atomic128_fetch_sub fetch_sub
__tsan_atomic128_fetch_and fetch_and __tsan_atomic128_fetch_or fetch_or __tsan_atomic128_fetch_xor fetch_xor
__tsan_atomic128_fetch_nand fetch_nand }

compare_exchange! { size_1, u8, AtomicU8, __tsan_atomic8_compare_exchange_val,
__tsan_atomic8_compare_exchange_strong, __tsan_atomic8_compare_exchange_weak }
compare_exchange! { size_2, u16, AtomicU16, __tsan_atomic16_compare_exchange_val,
__tsan_atomic16_compare_exchange_strong, __tsan_atomic16_compare_exchange_weak }
compare_exchange! { size_4, u32, AtomicU32, __tsan_atomic32_compare_exchange_val,
__tsan_atomic32_compare_exchange_strong, __tsan_atomic32_compare_exchange_weak }
compare_exchange! { size_8, u64, AtomicU64, __tsan_atomic64_compare_exchange_val,
__tsan_atomic64_compare_exchange_strong, __tsan_atomic64_compare_exchange_weak }

/// Sixteen bytes each for `old` and `new` leave one register: the order on failure is on the stack, and the return address takes its
/// place there, which is the callee's to use.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn __tsan_atomic128_compare_exchange_val() {
    std::arch::naked_asm!(
        "mov eax, dword ptr [rsp + 8]",
        "shl rax, 32",
        "mov r9d, r9d",
        "or r9, rax",
        "mov rax, qword ptr [rsp]",
        "mov qword ptr [rsp + 8], rax",
        "jmp {body}",
        body = sym compare_exchange_16,
    )
}

/// `orders`: that of success below, of failure above.
extern "C" fn compare_exchange_16(
    at: &AtomicU128,
    old: u128,
    new: u128,
    orders: u64,
    pc: usize,
) -> u128 {
    size_16::exchange_if(at, old, new, (orders as i32, (orders >> 32) as i32), pc)
}

/// A fence between threads.
#[unsafe(no_mangle)]
extern "C" fn __tsan_atomic_thread_fence(number: i32) {
    let order = order(number);
    if order == Relaxed {
        return;
    }
    std::sync::atomic::fence(order);
    if watched().is_some() {
        crate::fence(order);
    }
}

/// A fence between a thread and its own signal handlers: for the compiler alone.
#[unsafe(no_mangle)]
extern "C" fn __tsan_atomic_signal_fence(_number: i32) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bytes_are_exchanged_at_once() {
        let (a, b) = (u128::MAX - 5, 3 << 64 | 7);
        let place = AtomicU128(UnsafeCell::new(a));
        assert_eq!(place.compare_exchange(b, 1, SeqCst, SeqCst), Err(a));
        assert_eq!(place.compare_exchange(a, b, SeqCst, SeqCst), Ok(a));
        assert_eq!(place.load(SeqCst), b);
        assert_eq!(place.fetch_add(1, SeqCst), b);
        assert_eq!(place.swap(2, SeqCst), b + 1);
        place.store(a, SeqCst);
        let place = &place;
        std::thread::scope(|s| {
            for _ in 0..2 {
                s.spawn(|| {
                    for _ in 0..10_000 {
                        place.fetch_sub(1 << 63, SeqCst);
                    }
                });
            }
        });
        assert_eq!(place.load(SeqCst), a - (20_000 << 63));
    }
}
