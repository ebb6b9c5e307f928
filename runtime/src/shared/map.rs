//! [`Map`]: Go's maps, shared without a lock, with misuse found out.
//!
//! # States
//!
//! `busy`: 0, nobody is inside; `WRITING`, one is, to write; else the number of those inside to read.
//!
//! # Invariants
//!
//! 1. The table is read only by those counted in `busy`, and written only by the one who set `WRITING`. Whoever would break this
//!    panics instead of waiting: so there is no undefined behaviour, and no hidden lock that would order a racy program.
//!
//! # Memory ordering
//!
//! `leave: Release on busy` ⇄ `enter: Acquire on busy`. The detector is not told of it: to the program it is no edge.
//!
//! # What the detector is told
//!
//! Reads and writes of the map as a whole, as in Go; and of the bytes of the keys and values that are looked at or changed, which
//! lie in the table's own memory. Looking is told as a read that atomics may change meanwhile: a key's or value's type may
//! have some, and they may change in its `Clone`, `Hash` or `Eq` while other readers are inside.

use std::borrow::Borrow;
use std::cell::UnsafeCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::Hash;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::race;
use crate::sync::events;

const WRITING: usize = usize::MAX;

/// A hash map as in Go: a handle that goroutines may share, and must not use without order while one of them writes.
///
/// Cloning it copies the handle. Values are cloned out. Misuse is reported in race mode, and panics in any mode when it
/// is caught in the act.
///
/// **Blocking**: never.
///
/// **Happens-before**: none.
///
/// # Panics
///
/// Any use: "concurrent map writes" or "concurrent map read and map write", when another goroutine is inside the map.
/// Code of the user's that the map runs counts as inside: `Hash`, `Eq`, `Clone` and `Debug` of keys and values, the closure of
/// [`update`](Map::update), and the destructor of a key that is dropped because the map has an equal one already.
///
/// # Examples
///
/// ```
/// use raddle::shared::Map;
///
/// let words = Map::new();
/// for word in "the cat the dog".split(' ') {
///     words.insert(word, words.get(word).unwrap_or(0) + 1);
/// }
/// assert_eq!((words.get("the"), words.get("cow"), words.len()), (Some(2), None, 3));
/// ```
pub struct Map<K, V> {
    shared: Arc<Shared<K, V>>,
}

struct Shared<K, V> {
    busy: AtomicUsize,
    table: UnsafeCell<HashMap<K, V>>,
}

// SAFETY: by invariant 1 the table is shared by readers or held by one writer. Values and keys are cloned by readers,
// several at a time (Sync), and dropped by any goroutine (Send).
unsafe impl<K: Send + Sync, V: Send + Sync> Sync for Shared<K, V> {}
// SAFETY: it owns the table.
unsafe impl<K: Send, V: Send> Send for Shared<K, V> {}
impl<K, V> RefUnwindSafe for Map<K, V> {}
impl<K, V> UnwindSafe for Map<K, V> {}

/// Gives a place inside back, also when a key's code panics.
struct Inside<'a> {
    busy: &'a AtomicUsize,
    writing: bool,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        if self.writing {
            self.busy.store(0, Release);
        } else {
            self.busy.fetch_sub(1, Release);
        }
    }
}

impl<K, V> Shared<K, V> {
    #[track_caller]
    fn read<R>(&self, at: &'static Location<'static>, f: impl FnOnce(&HashMap<K, V>) -> R) -> R {
        let races = events::read_races(events::addr(&self.table), at);
        // Of the same race in the table's own memory nothing more is to be said.
        let _said = races.then(race::ignore_accesses);
        let mut busy = self.busy.load(Relaxed);
        loop {
            assert!(busy != WRITING, "concurrent map read and map write");
            match self
                .busy
                .compare_exchange_weak(busy, busy + 1, Acquire, Relaxed)
            {
                Ok(_) => break,
                Err(now) => busy = now,
            }
        }
        let _inside = Inside {
            busy: &self.busy,
            writing: false,
        };
        // SAFETY: counted above: nobody writes, by invariant 1.
        f(unsafe { &*self.table.get() })
    }

    #[track_caller]
    fn write<R>(
        &self,
        at: &'static Location<'static>,
        f: impl FnOnce(&mut HashMap<K, V>) -> R,
    ) -> R {
        let races = events::write_races(events::addr(&self.table), at);
        let _said = races.then(race::ignore_accesses);
        match self.busy.compare_exchange(0, WRITING, Acquire, Relaxed) {
            Ok(_) => {}
            Err(WRITING) => panic!("concurrent map writes"),
            Err(_) => panic!("concurrent map read and map write"),
        }
        let _inside = Inside {
            busy: &self.busy,
            writing: true,
        };
        // SAFETY: marked above: nobody else reads or writes, by invariant 1.
        f(unsafe { &mut *self.table.get() })
    }
}

impl<K, V> Drop for Shared<K, V> {
    fn drop(&mut self) {
        events::gone(events::addr(self), size_of::<Self>());
    }
}

/// Whether the detector hears of this place in a table: when it also hears of the table's end, by the heap. Another global
/// allocator would give the memory to another map without a word.
#[inline(always)]
fn is_told<T>(place: &T) -> bool {
    race::enabled() && raddle_alloc::find_object(events::addr(place)).is_some()
}

/// Bytes of a key or value in the table are looked at.
fn looked_at<T>(place: &T, at: &'static Location<'static>) {
    if is_told(place) {
        events::read_cells(events::addr(place), size_of::<T>(), at);
    }
}

/// Bytes of a key or value in the table are new, or about to go.
fn changed<T>(place: &T, at: &'static Location<'static>) {
    if is_told(place) {
        events::write(events::addr(place), size_of::<T>(), at);
    }
}

/// The value of `key`.
fn look_up<'a, K: Eq + Hash + Borrow<Q>, V, Q: Eq + Hash + ?Sized>(
    table: &'a HashMap<K, V>,
    key: &Q,
    at: &'static Location<'static>,
) -> Option<&'a V> {
    let (key, value) = table.get_key_value(key)?;
    looked_at(key, at);
    looked_at(value, at);
    Some(value)
}

/// Gives `key` a value, and returns the one it had.
fn put<K: Eq + Hash, V>(
    table: &mut HashMap<K, V>,
    key: K,
    value: V,
    at: &'static Location<'static>,
) -> Option<V> {
    match table.entry(key) {
        Entry::Occupied(mut entry) => {
            looked_at(entry.key(), at);
            changed(entry.get(), at);
            Some(entry.insert(value))
        }
        Entry::Vacant(entry) => {
            let entry = entry.insert_entry(value);
            changed(entry.key(), at);
            changed(entry.get(), at);
            None
        }
    }
}

/// Copies of the keys.
fn all_keys<K: Clone, V>(table: &HashMap<K, V>, at: &'static Location<'static>) -> Vec<K> {
    let looked = table.keys().inspect(|key| looked_at(*key, at));
    looked.cloned().collect()
}

impl<K, V> Map<K, V> {
    /// Returns an empty map.
    #[must_use]
    #[track_caller]
    pub fn new() -> Map<K, V> {
        Map::from_table(HashMap::new(), Location::caller())
    }

    fn from_table(table: HashMap<K, V>, at: &'static Location<'static>) -> Map<K, V> {
        let shared = Arc::new(Shared {
            busy: AtomicUsize::new(0),
            table: UnsafeCell::new(table),
        });
        events::born(events::addr(&*shared), size_of::<Shared<K, V>>(), at);
        Map { shared }
    }

    /// Returns the number of entries.
    #[must_use]
    #[track_caller]
    pub fn len(&self) -> usize {
        self.shared.read(Location::caller(), HashMap::len)
    }

    /// Returns whether there are no entries.
    #[must_use]
    #[track_caller]
    pub fn is_empty(&self) -> bool {
        self.shared.read(Location::caller(), HashMap::is_empty)
    }

    /// Removes all entries.
    #[track_caller]
    pub fn clear(&self) {
        // Dropped outside the map: the entries' own code may use it.
        drop(self.shared.write(Location::caller(), std::mem::take));
    }

    /// Returns whether both handles are of the same map.
    #[must_use]
    pub fn ptr_eq(&self, other: &Map<K, V>) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl<K: Eq + Hash, V> Map<K, V> {
    /// Returns a copy of the value of `key`.
    #[track_caller]
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        V: Clone,
    {
        let at = Location::caller();
        self.shared
            .read(at, |table| look_up(table, key, at).cloned())
    }

    /// Returns whether `key` has a value.
    #[track_caller]
    pub fn contains_key<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        let at = Location::caller();
        self.shared.read(at, |table| {
            let found = table.get_key_value(key);
            found.map(|(key, _)| looked_at(key, at)).is_some()
        })
    }

    /// Gives `key` a value, and returns the one it had.
    #[track_caller]
    pub fn insert(&self, key: K, value: V) -> Option<V> {
        let at = Location::caller();
        self.shared.write(at, |table| put(table, key, value, at))
    }

    /// Gives `key` the value that `f` makes of the one it has: one write of the map, as `m[k]++` is in Go.
    #[track_caller]
    pub fn update(&self, key: K, f: impl FnOnce(Option<&V>) -> V) {
        let at = Location::caller();
        let old = self.shared.write(at, |table| {
            let value = f(look_up(table, &key, at));
            put(table, key, value, at)
        });
        drop(old);
    }

    /// Removes the value of `key`, and returns it.
    #[track_caller]
    pub fn remove<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let at = Location::caller();
        let removed = self.shared.write(at, |table| {
            if race::enabled()
                && let Some((key, value)) = table.get_key_value(key)
            {
                changed(key, at);
                changed(value, at);
            }
            table.remove_entry(key)
        });
        removed.map(|(_, value)| value)
    }

    /// Returns copies of the entries, in no order.
    ///
    /// As in Go the map may be written meanwhile, by the same goroutine or in order with it: an entry that is removed
    /// before its turn is left out, one that is changed has its new value, one that is added may be left out.
    #[track_caller]
    pub fn iter(&self) -> Iter<K, V>
    where
        K: Clone,
        V: Clone,
    {
        let at = Location::caller();
        let keys = self.shared.read(at, |table| all_keys(table, at));
        Iter {
            map: self.clone(),
            keys: keys.into_iter(),
            at,
        }
    }

    /// Returns copies of the keys, in no order.
    #[must_use]
    #[track_caller]
    pub fn keys(&self) -> Vec<K>
    where
        K: Clone,
    {
        let at = Location::caller();
        self.shared.read(at, |table| all_keys(table, at))
    }
}

/// The entries of a [`Map`], as [`Map::iter`] says.
pub struct Iter<K, V> {
    map: Map<K, V>,
    keys: std::vec::IntoIter<K>,
    at: &'static Location<'static>,
}

impl<K: Eq + Hash, V: Clone> Iterator for Iter<K, V> {
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        let (shared, at) = (&self.map.shared, self.at);
        self.keys.find_map(|key| {
            let value = shared.read(at, |table| look_up(table, &key, at).cloned())?;
            Some((key, value))
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.keys.len()))
    }
}

impl<K, V> fmt::Debug for Iter<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter")
            .field("left", &self.keys.len())
            .finish_non_exhaustive()
    }
}

impl<K, V> Clone for Map<K, V> {
    /// Copies the handle; the entries are shared.
    fn clone(&self) -> Map<K, V> {
        Map {
            shared: self.shared.clone(),
        }
    }
}

impl<K, V> Default for Map<K, V> {
    #[track_caller]
    fn default() -> Map<K, V> {
        Map::new()
    }
}

impl<K: Eq + Hash, V> FromIterator<(K, V)> for Map<K, V> {
    #[track_caller]
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Map<K, V> {
        Map::from_table(entries.into_iter().collect(), Location::caller())
    }
}

impl<K: Eq + Hash, V, const N: usize> From<[(K, V); N]> for Map<K, V> {
    #[track_caller]
    fn from(entries: [(K, V); N]) -> Map<K, V> {
        Map::from_table(entries.into(), Location::caller())
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Map<K, V> {
    #[track_caller]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = Location::caller();
        self.shared.read(at, |table| {
            for (key, value) in table {
                looked_at(key, at);
                looked_at(value, at);
            }
            table.fmt(f)
        })
    }
}
