//! Variables, slices and maps: Go's behaviour, and no more than panics under a race.

use std::collections::HashMap;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use super::{Map, Slice, Var};

fn panic_text(f: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("must panic");
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => (*payload.downcast::<&str>().expect("a text")).to_owned(),
    }
}

#[test]
fn variables_hold_values_of_every_shape() {
    let (b, c, f) = (Var::new(true), Var::new('x'), Var::new(1.5));
    b.set(!b.get());
    c.set('ß');
    f.add(1.0);
    assert_eq!((b.get(), c.get(), f.get()), (false, 'ß', 2.5));
    let wide = Var::new([1_u64, 2, 3, 4, 5]);
    wide.update(|mut w| {
        w[4] = 50;
        w
    });
    assert_eq!(wide.get(), [1, 2, 3, 4, 50]);
    let narrow = Var::new([7_u8; 5]);
    narrow.set([1, 2, 3, 4, 5]);
    assert_eq!(narrow.into_inner(), [1, 2, 3, 4, 5]);
    let u = Var::new(1_u128 << 100);
    u.add(3);
    assert_eq!(u.get(), (1 << 100) + 3);
    let odd = Var::new([1_u16, 2, 3]);
    assert_eq!(odd.get(), [1, 2, 3]);
    let mut n = Var::from(4_i8);
    *n.get_mut() -= 5;
    assert_eq!(
        format!("{n:?} {:?}", Var::<u32>::default()),
        "Var(-1) Var(0)"
    );
    Var::new(()).set(());
}

#[test]
fn a_racing_variable_is_torn_between_words_at_most() {
    let v = Arc::new(Var::new([0_u64; 2]));
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (v, stop) = (v.clone(), stop.clone());
        thread::spawn(move || {
            // Values of eight equal bytes.
            for n in (0..=255_u64).cycle().take_while(|_| !stop.load(Relaxed)) {
                v.set([n * 0x0101_0101_0101_0101; 2]);
            }
        })
    };
    for _ in 0..100_000 {
        for word in v.get() {
            assert_eq!(
                word,
                (word & 0xff) * 0x0101_0101_0101_0101,
                "torn within a word"
            );
        }
    }
    stop.store(true, Relaxed);
    writer.join().expect("no panic");
}

#[test]
fn slices_share_an_array_until_an_append_outgrows_it() {
    let mut a = Slice::<i32>::make(2, 4);
    assert_eq!((a.len(), a.capacity(), a.to_vec()), (2, 4, vec![0, 0]));
    let mut b = a.clone();
    a.push(1);
    b.push(2);
    // Go's well-known surprise: both wrote the same element.
    assert_eq!((a.to_vec(), b.to_vec()), (vec![0, 0, 2], vec![0, 0, 2]));
    assert!(a.ptr_eq(&b));
    a.append(&[3, 4]);
    assert!(!a.ptr_eq(&b) && a.capacity() >= 8);
    a.set(0, 9);
    assert_eq!((a.to_vec(), b.get(0)), (vec![9, 0, 2, 3, 4], 0));
    assert_eq!(b.slice(..4).to_vec(), [0, 0, 2, 0]);
}

#[test]
fn slicing_and_copying() {
    let a = Slice::from(vec![1, 2, 3, 4, 5]);
    let b = a.slice(1..=3);
    assert_eq!((b.to_vec(), b.capacity()), (vec![2, 3, 4], 4));
    assert!(a.slice(5..).is_empty());
    assert_eq!(a.slice(1..).copy_from(&a), 4);
    assert_eq!(a.to_vec(), [1, 1, 2, 3, 4], "to the right, over itself");
    assert_eq!(a.copy_from(&a.slice(1..)), 4);
    assert_eq!(a.to_vec(), [1, 2, 3, 4, 4], "to the left, over itself");
    b.update(0, |n| n * 10);
    assert_eq!(a.iter().collect::<Slice<_>>().to_vec(), [1, 20, 3, 4, 4]);
    assert_eq!(format!("{b:?}"), "[20, 3, 4]");
    let text: Slice<u8> = Slice::from(&b"raddle"[..]);
    assert_eq!(text.slice(..3).to_utf8().as_deref(), Ok("rad"));
    assert!(Slice::<u8>::from(vec![0xff]).to_utf8().is_err());
    assert!(Slice::<u8>::default().is_empty());
}

#[test]
fn slices_say_what_is_out_of_bounds() {
    let a = Slice::from(vec![1, 2, 3]);
    assert_eq!(
        panic_text(|| _ = a.get(3)),
        "index 3 is out of bounds of a slice of length 3"
    );
    assert!(panic_text(|| a.slice(..1).set(1, 0)).contains("length 1"));
    assert!(panic_text(|| _ = a.slice(2..4)).contains("2..4 is out of bounds of capacity 3"));
    #[expect(clippy::reversed_empty_ranges, reason = "the mistake under test")]
    let reversed = panic_text(|| _ = a.slice(2..1));
    assert!(reversed.contains("2..1"));
    for beyond in [
        panic_text(|| _ = a.slice(..=usize::MAX)),
        panic_text(|| _ = a.slice((Bound::Excluded(usize::MAX), Bound::Unbounded))),
    ] {
        assert!(beyond.contains("out of bounds of capacity 3"), "{beyond}");
    }
    assert!(panic_text(|| _ = Slice::<u8>::make(2, 1)).contains("capacity 1"));
}

#[test]
fn slices_of_elements_without_a_size() {
    let mut a = Slice::<()>::new();
    a.append(&[(), ()]);
    a.push(());
    assert_eq!((a.len(), a.capacity()), (3, 4));
    assert_eq!(a.to_vec(), [(); 3]);
}

#[test]
fn slices_do_as_vectors_do() {
    let (mut slice, mut vec) = (Slice::new(), Vec::new());
    for i in 0..1_000_u32 {
        slice.push(i);
        vec.push(i);
        if i % 7 == 0 {
            slice.append(&vec[..i as usize % 50]);
            vec.extend_from_within(..i as usize % 50);
        }
    }
    assert_eq!(slice.to_vec(), vec);
    assert!(slice.iter().eq(vec.iter().copied()));
}

#[test]
fn maps_do_as_maps_do() {
    let map = Map::from([("a", 1), ("b", 2)]);
    assert_eq!(map.insert("a", 3), Some(1));
    assert_eq!(map.insert("c", 4), None);
    map.update("c", |n| n.copied().unwrap_or(0) + 1);
    map.update("d", |n| n.copied().unwrap_or(0) + 1);
    assert_eq!(
        (map.get("c"), map.get("d"), map.get("e")),
        (Some(5), Some(1), None)
    );
    assert_eq!(map.remove("b"), Some(2));
    assert!(!map.contains_key("b") && map.contains_key("a"));
    let entries: HashMap<_, _> = map.iter().collect();
    assert_eq!(entries, HashMap::from([("a", 3), ("c", 5), ("d", 1)]));
    let other = map.clone();
    assert!(other.ptr_eq(&map));
    other.clear();
    assert!(map.is_empty() && map.keys().is_empty());
    assert_eq!(format!("{map:?}"), "{}");
    assert_eq!(Map::<u8, u8>::default().len(), 0);
}

#[test]
fn maps_may_be_written_while_iterated() {
    let map: Map<u32, u32> = (0..100).map(|n| (n, n)).collect();
    let mut seen = 0;
    for (k, v) in map.iter() {
        assert!(map.contains_key(&k), "removed entries do not come");
        assert_eq!(v, k);
        for other in 0..100 {
            if other != k && other % 2 == k % 2 {
                map.remove(&other);
            }
        }
        map.insert(1_000 + k, 0);
        map.remove(&(1_000 + k));
        seen += 1;
    }
    assert_eq!(seen, 2, "one even, one odd");
}

/// A key whose hash uses the map: the same goroutine, but inside.
#[test]
fn maps_catch_misuse_in_the_act() {
    use std::hash::{Hash, Hasher};
    #[derive(Clone)]
    struct Key(u32, Option<(Map<Key, u32>, bool)>);
    impl PartialEq for Key {
        fn eq(&self, other: &Key) -> bool {
            self.0 == other.0
        }
    }
    impl Eq for Key {}
    impl Hash for Key {
        fn hash<H: Hasher>(&self, state: &mut H) {
            if let Some((map, write)) = &self.1 {
                if *write {
                    map.insert(Key(0, None), 0);
                } else {
                    map.get(&Key(0, None));
                }
            }
            self.0.hash(state);
        }
    }
    let map = Map::new();
    map.insert(Key(1, None), 1);
    let (reads, writes) = (
        Key(1, Some((map.clone(), false))),
        Key(1, Some((map.clone(), true))),
    );
    assert_eq!(map.get(&reads), Some(1), "readers do not mind each other");
    assert_eq!(
        panic_text(|| _ = map.get(&writes)),
        "concurrent map read and map write"
    );
    assert_eq!(
        panic_text(|| _ = map.insert(reads, 1)),
        "concurrent map read and map write"
    );
    assert_eq!(
        panic_text(|| _ = map.insert(writes, 1)),
        "concurrent map writes"
    );
    map.insert(Key(2, None), 2);
    assert_eq!(map.len(), 2, "a panic leaves the map usable");
}

#[test]
fn maps_survive_misuse_by_threads() {
    let map = Arc::new(Map::<u64, String>::new());
    let threads: Vec<_> = (0..4_u64)
        .map(|i| {
            let map = map.clone();
            thread::spawn(move || {
                let mut caught = 0_u32;
                for k in 0..2_000 {
                    let key = (k * 7 + i) % 64;
                    let done = catch_unwind(AssertUnwindSafe(|| match k % 4 {
                        0 => _ = map.insert(key, key.to_string()),
                        1 => _ = map.remove(&key),
                        _ => assert!(map.get(&key).is_none_or(|v| v == key.to_string())),
                    }));
                    if let Err(payload) = done {
                        let text = payload.downcast::<&str>().expect("a map's panic");
                        assert!(text.starts_with("concurrent map"), "{text}");
                        caught += 1;
                    }
                }
                caught
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("only the map's own panics");
    }
    assert!(map.len() <= 64);
}

#[test]
fn handles_go_everywhere() {
    fn everywhere<T: Send + Sync>() {}
    everywhere::<Var<u64>>();
    everywhere::<Slice<u64>>();
    everywhere::<Map<String, String>>();
}
