//! Variables, slices and maps that may be shared without a lock.

use raddle::shared::{Map, Slice, Var};
use raddle::sync::Mutex;

pub(crate) fn variables_hold_values() {
    let (var, order) = (Var::new(0_u64), Mutex::new(()));
    raddle::scope(|s| {
        for _ in 0..8 {
            s.go(|| {
                for _ in 0..100 {
                    let _in_order = order.lock();
                    var.set(var.get() + 1);
                }
            });
        }
    });
    assert_eq!(var.get(), 800);
}

pub(crate) fn slices_and_maps_hold_values() {
    let (slice, map, order) = (Slice::from(vec![0_u64; 8]), Map::new(), Mutex::new(()));
    raddle::scope(|s| {
        for i in 0..8 {
            let (slice, map, order) = (&slice, &map, &order);
            s.go(move || {
                slice.set(i, i as u64); // elements of their own need no order
                let _in_order = order.lock();
                map.insert(i, i * 10);
            });
        }
    });
    assert_eq!((slice.len(), map.len()), (8, 8));
    for i in 0..8 {
        assert_eq!((slice.get(i), map.get(&i)), (i as u64, Some(i * 10)));
    }
}
