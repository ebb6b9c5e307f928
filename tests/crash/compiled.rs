//! Programs whose accesses are told of as compiled code tells them: by return addresses. Beside the calls that the compiler would
//! make, they are plain Rust.

use std::arch::naked_asm;
use std::cell::UnsafeCell;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering::SeqCst};
use std::{ptr, thread};

use raddle_race::Pc;

type Word = UnsafeCell<u64>;

/// A write of eight bytes in the function that calls this.
#[unsafe(naked)]
extern "C" fn written(word: *const Word) {
    naked_asm!("mov rsi, [rsp]", "jmp {}", sym written_at)
}

extern "C" fn written_at(word: *const Word, at: usize) {
    raddle_race::write(word.addr(), size_of::<Word>(), Pc::code(at));
}

/// Calls `f`, as a function that is compiled to say so.
#[unsafe(naked)]
extern "C" fn call(f: extern "C" fn(*const Word), word: *const Word) {
    naked_asm!("mov rdx, [rsp]", "jmp {}", sym call_at)
}

extern "C" fn call_at(f: extern "C" fn(*const Word), word: *const Word, at: usize) {
    raddle_race::func_enter(Pc::code(at));
    f(word);
    raddle_race::func_exit();
}

// Each keeps a number of its own, or an optimiser would make one of two equal functions.

#[inline(never)]
extern "C" fn store(word: *const Word) {
    written(word); // marker: compiled store
    black_box((word, 1));
}

#[inline(never)]
extern "C" fn first(word: *const Word) {
    call(store, word); // marker: compiled first call
    black_box((word, 2));
}

#[inline(never)]
extern "C" fn second(word: *const Word) {
    call(other_store, word); // marker: compiled second call
    black_box((word, 3));
}

#[inline(never)]
extern "C" fn other_store(word: *const Word) {
    written(word); // marker: compiled other store
    black_box((word, 4));
}

/// What another may touch meanwhile. Told by nobody, so that it orders nothing.
static SHARED: AtomicPtr<Word> = AtomicPtr::new(ptr::null_mut());
static DONE: AtomicBool = AtomicBool::new(false);

/// Writes to `word`, and lives on until another has, too.
#[inline(never)]
fn write_and_stay(word: &Word, wait: fn()) {
    call(first, word);
    SHARED.store(ptr::from_ref(word).cast_mut(), SeqCst);
    while !DONE.load(SeqCst) {
        wait();
    }
}

/// The other.
#[inline(never)]
fn write_too() {
    let mut word: *mut Word = ptr::null_mut();
    while word.is_null() {
        raddle::yield_now();
        word = SHARED.load(SeqCst);
    }
    call(second, word);
    DONE.store(true, SeqCst);
}

#[raddle::main]
pub(crate) fn compiled_races_in_a_static() {
    struct Shared(Word);
    // SAFETY: nothing of it is touched but by name.
    unsafe impl Sync for Shared {}
    static COUNTER: Shared = Shared(UnsafeCell::new(0));
    raddle::scope(|s| {
        s.go(|| write_and_stay(&COUNTER.0, raddle::yield_now)); // marker: compiled go
        s.go(write_too);
    });
}

thread_local! {
    static LOCAL: Word = const { UnsafeCell::new(0) };
}

fn write_a_thread_local(wait: fn()) {
    LOCAL.with(|word| write_and_stay(word, wait));
}

#[raddle::main]
pub(crate) fn compiled_races_in_a_thread_local() {
    let weaver = raddle::Builder::new().name("weaver");
    let weaver = weaver
        .spawn(|| write_a_thread_local(raddle::yield_now))
        .unwrap();
    raddle::go(write_too).join().unwrap();
    weaver.join().unwrap();
}

#[raddle::main]
pub(crate) fn compiled_races_on_a_stack() {
    let weaver = raddle::Builder::new().name("weaver");
    let weaver = weaver.spawn(|| {
        let word = Word::new(0);
        write_and_stay(&word, raddle::yield_now);
    });
    raddle::go(write_too).join().unwrap();
    weaver.unwrap().join().unwrap();
}

/// As above, with a plain thread: with thread-bound thread-locals, goroutines that share a thread are ordered.
#[raddle::main]
pub(crate) fn compiled_races_with_a_plain_thread() {
    let plain = thread::spawn(write_too);
    let weaver = raddle::Builder::new().name("weaver");
    let weaver = weaver.spawn(|| {
        let word = Word::new(0);
        write_and_stay(&word, raddle::yield_now);
    });
    weaver.unwrap().join().unwrap();
    raddle::blocking(|| plain.join()).unwrap();
}

/// On the smallest stacks that there are.
#[raddle::main]
pub(crate) fn compiled_races_on_a_small_stack() {
    let small = || raddle::Builder::new().stack_size(16 << 10);
    let one = small().spawn(|| {
        let word = Word::new(0);
        write_and_stay(&word, raddle::yield_now);
    });
    let other = small().spawn(write_too).unwrap();
    one.unwrap().join().unwrap();
    other.join().unwrap();
}

/// On a plain thread, made in race mode.
fn on_a_plain_thread(f: fn()) {
    raddle::run(|| ());
    let plain = thread::Builder::new().name("plain".into()).spawn(move || {
        raddle::yield_now();
        f();
    });
    raddle::run(|| raddle::go(write_too).join().unwrap());
    plain.unwrap().join().unwrap();
}

pub(crate) fn compiled_races_on_a_plain_thread_s_stack() {
    on_a_plain_thread(|| {
        let word = Word::new(0);
        write_and_stay(&word, thread::yield_now);
    });
}

pub(crate) fn compiled_races_in_a_plain_thread_s_local() {
    on_a_plain_thread(|| write_a_thread_local(thread::yield_now));
}

pub(crate) fn compiled_races_on_the_main_stack() {
    struct Shared(Word);
    // SAFETY: nothing of it is touched but by name.
    unsafe impl Sync for Shared {}
    let word = Shared(Word::new(0));
    let word = &word;
    raddle::run(|| {
        raddle::scope(|s| {
            s.go(move || write_and_stay(&{ word }.0, raddle::yield_now));
            s.go(write_too);
        });
    });
}
