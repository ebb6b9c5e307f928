//! rayon: work stealing, joins, scopes, parallel iterators.

use rayon::prelude::*;

pub const ALL: &[(&str, fn())] = &[
    ("rayon_sum", sum),
    ("rayon_sort", sort),
    ("rayon_join", join),
    ("rayon_scope", scope),
    ("rayon_collect", collect),
    ("rayon_chunks", chunks),
    ("rayon_pool", pool),
    ("rayon_spawn", spawn),
];

fn sum() {
    let v: Vec<u64> = (0..20_000).collect();
    assert_eq!(v.par_iter().map(|x| x * 2).sum::<u64>(), 20_000 * 19_999);
}

fn sort() {
    let mut v: Vec<u32> = (0..20_000u32)
        .map(|i| i.wrapping_mul(2_654_435_761))
        .collect();
    v.par_sort_unstable();
    assert!(v.is_sorted());
}

fn join() {
    fn fib(n: u32) -> u32 {
        if n < 2 {
            return n;
        }
        let (a, b) = rayon::join(|| fib(n - 1), || fib(n - 2));
        a + b
    }
    assert_eq!(fib(16), 987);
}

fn scope() {
    let mut parts = vec![0; 64];
    rayon::scope(|s| {
        for (i, part) in parts.iter_mut().enumerate() {
            s.spawn(move |_| *part = i);
        }
    });
    assert_eq!(parts.iter().sum::<usize>(), 63 * 32);
}

fn collect() {
    let words: Vec<String> = (0..2000).into_par_iter().map(|i| format!("{i}")).collect();
    assert_eq!(words[1999], "1999");
    let even: Vec<usize> = words
        .par_iter()
        .filter(|w| w.ends_with('0'))
        .map(String::len)
        .collect();
    assert_eq!(even.len(), 200);
}

fn chunks() {
    let mut v = vec![1u64; 10_000];
    v.par_chunks_mut(100)
        .enumerate()
        .for_each(|(i, c)| c.fill(i as u64));
    assert_eq!(v[9_999], 99);
}

fn pool() {
    for threads in 1..4 {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        assert_eq!(pool.install(|| (0..1000).into_par_iter().max()), Some(999));
    }
}

fn spawn() {
    let (tx, rx) = std::sync::mpsc::channel();
    for i in 0..50 {
        let tx = tx.clone();
        rayon::spawn(move || tx.send(Box::new(i)).unwrap());
    }
    drop(tx);
    assert_eq!(rx.iter().map(|b| *b).sum::<i32>(), 49 * 25);
}
