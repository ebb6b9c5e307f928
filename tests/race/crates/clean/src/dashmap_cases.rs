//! dashmap.

use dashmap::DashMap;
use std::thread;

pub const ALL: &[(&str, fn())] = &[("dashmap_mixed", mixed), ("dashmap_iterate", iterate)];

fn mixed() {
    let m = DashMap::new();
    thread::scope(|s| {
        for n in 0..4u64 {
            let m = &m;
            s.spawn(move || {
                for i in 0..300u64 {
                    m.entry(i % 50).or_insert_with(Vec::new).push(n);
                    if let Some(v) = m.get(&(i % 37)) {
                        std::hint::black_box(v.len());
                    }
                    if i % 40 == n {
                        m.remove(&(i % 50));
                    }
                }
            });
        }
    });
}

fn iterate() {
    let m: DashMap<u64, String> = (0..100).map(|i| (i, format!("{i}"))).collect();
    thread::scope(|s| {
        s.spawn(|| {
            for mut kv in m.iter_mut() {
                kv.push('!');
            }
        });
        s.spawn(|| std::hint::black_box(m.iter().map(|kv| kv.len()).sum::<usize>()));
        s.spawn(|| m.retain(|k, _| k % 2 == 0));
    });
    assert_eq!(m.len(), 50);
}
