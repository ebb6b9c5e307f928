use std::time::Instant;
use std::sync::atomic::*;
use std::sync::Arc;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    raddle::run(move || {
        let n: usize = a[2].parse().unwrap();
        let t = Instant::now();
        match &*a[1] {
            "hello" => { println!("hello from {:?} {:?}", raddle::current(), std::thread::current().id()); }
            "join" => { for _ in 0..n { raddle::go(|| {}).join().unwrap(); } }
            "yield" => { for _ in 0..n { raddle::yield_now() } }
            "batch" => { let c = Arc::new(AtomicUsize::new(0)); let mut done=0; while done < n { let v: Vec<_> = (0..1000).map(|_| { let c = c.clone(); raddle::go(move || { c.fetch_add(1, Ordering::Relaxed); }) }).collect(); for h in v { h.join().unwrap(); } done += 1000; } assert_eq!(c.load(Ordering::Relaxed), done); }
            "panic" => { let e = raddle::go(|| panic!("boom")).join(); println!("{e:?}"); }
            "sleep" => { let v: Vec<_> = (0..n).map(|_| raddle::go(|| raddle_sched_sleep())).collect(); for h in v { h.join().unwrap() } }
            "blocking" => { let v: Vec<_> = (0..n).map(|_| raddle::go(|| raddle::blocking(|| std::thread::sleep(std::time::Duration::from_millis(20))))).collect(); for h in v { h.join().unwrap() } }
            "hog" => { let s = Arc::new(AtomicBool::new(false)); for _ in 0..n { let s = s.clone(); raddle::go(move || while !s.load(Ordering::Relaxed) {}); } for _ in 0..20 { raddle::yield_now(); } s.store(true, Ordering::Relaxed); }
            "overflow" => { fn f(n: u64) -> u64 { let a = [n; 100]; std::hint::black_box(&a); f(n + 1) + a[3] } println!("{}", f(0)); }
            "dead" => { raddle::go(|| raddle::scope(|s| { s.go(|| park()); })); park(); }
            "resize" => { let stop = Arc::new(AtomicBool::new(false)); let v: Vec<_> = (0..8).map(|_| { let s = stop.clone(); raddle::go(move || { let mut x = 0u64; while !s.load(Ordering::Relaxed) { x += 1; if x % 3 == 0 { raddle::yield_now() } else { raddle::go(|| {}).join().unwrap(); } } x }) }).collect(); for i in 0..n { raddle::set_procs(i % 8 + 1); } stop.store(true, Ordering::Relaxed); let s: u64 = v.into_iter().map(|h| h.join().unwrap()).sum(); println!("{s} turns, procs {}", raddle::procs()); }
            _ => panic!(),
        }
        let d = t.elapsed();
        println!("{} {:?} {:.1} ns/op", a[1], d, d.as_nanos() as f64 / n as f64);
    });
}
fn raddle_sched_sleep() { raddle_sched::sleep_ns(100_000_000) }
fn park() { let rt = raddle_sched::enter(); unsafe fn u(_: *mut ()) {} unsafe { rt.park(raddle_sched::WaitReason::ChanReceive, std::panic::Location::caller(), u, std::ptr::null_mut()) } }
