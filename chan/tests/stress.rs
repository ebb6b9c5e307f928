//! Random operations from all sides, with a printed seed: nothing lost, nothing doubled, nothing dropped twice, no hang.
//!
//! `CHAN_SEED` repeats a seed (the schedule still differs), `CHAN_ROUNDS` sets how long it goes on.

mod common;

use common::{Crew, Drops, Item, Rng};
use raddle_chan::*;
use std::collections::HashMap;
use std::time::Duration;

fn rounds() -> usize {
    std::env::var("CHAN_ROUNDS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(6)
}

/// Sends `item` by some way. Gives it back if that failed, with whether the channel is closed.
fn send_somehow(
    s: &Sender<Item>,
    other: &Sender<Item>,
    item: Item,
    rng: &mut Rng,
) -> Result<(), (Item, bool)> {
    let limit = Duration::from_micros(rng.below(100));
    match rng.below(6) {
        0 | 1 => s.send(item).map_err(|e| (e.into_inner(), true)),
        2 => s.try_send(item).map_err(|e| {
            let closed = e.is_disconnected();
            (e.into_inner(), closed)
        }),
        3 => s.send_timeout(item, limit).map_err(|e| {
            let closed = e.is_disconnected();
            (e.into_inner(), closed)
        }),
        4 => select! {
            send(s, item) -> res => res.map_err(|e| (e.into_inner(), true)),
            send(other, item) -> res => res.map_err(|e| (e.into_inner(), true)),
        },
        _ => select! {
            send(s, item) -> res => res.map_err(|e| (e.into_inner(), true)),
            send(other, item) -> res => res.map_err(|e| (e.into_inner(), true)),
            default(limit) => Err((item, false)),
        },
    }
}

/// Receives by some way. Err(closed).
fn recv_somehow(r: &Receiver<Item>, rng: &mut Rng) -> Result<Item, bool> {
    let limit = Duration::from_micros(rng.below(100));
    match rng.below(7) {
        0 | 1 => r.recv().map_err(|_| true),
        2 => r.try_recv().map_err(|e| e.is_disconnected()),
        3 => r.recv_timeout(limit).map_err(|e| e.is_disconnected()),
        4 => select! {
            recv(r) -> v => v.map_err(|_| true),
            recv(after(limit)) -> _ => Err(false),
        },
        5 => {
            let mut sel = Select::new();
            sel.recv(r);
            sel.recv(r);
            match sel.select_timeout(limit) {
                Ok(oper) => oper.recv(r).map_err(|_| true),
                Err(_) => Err(false),
            }
        }
        _ => {
            let mut sel = Select::new();
            sel.recv(r);
            match sel.ready_timeout(limit) {
                Ok(_) => r.try_recv().map_err(|e| e.is_disconnected()),
                Err(_) => Err(false),
            }
        }
    }
}

/// Two channels, senders to either, receivers of either; some receive all, or all is closed at a random moment.
fn mix(crew: &Crew, seed: u64, cut: bool) {
    const SENDERS: usize = 4;
    const EACH: usize = 300;
    let mut rng = Rng::new(seed);
    let make = |rng: &mut Rng| match rng.below(5) {
        0 | 1 => bounded(0),
        2 => bounded(1),
        3 => bounded(8),
        _ => unbounded(),
    };
    let drops = Drops::default();
    let (s1, r1) = make(&mut rng);
    let (s2, r2) = make(&mut rng);
    let (report, reports) = unbounded::<(usize, Vec<usize>)>();
    for id in 0..SENDERS {
        let (s, other) = if id % 2 == 0 {
            (s1.clone(), s2.clone())
        } else {
            (s2.clone(), s1.clone())
        };
        let (drops, report, mut rng) = (
            drops.clone(),
            report.clone(),
            Rng::new(seed ^ (id as u64 + 1) << 20),
        );
        crew.go(move || {
            let mut made = 0;
            'all: for n in 0..EACH {
                let mut item = drops.numbered(id * EACH + n);
                made += 1;
                loop {
                    rng.maybe_yield();
                    match send_somehow(&s, &other, item, &mut rng) {
                        Ok(()) => break,
                        Err((_, true)) => break 'all,
                        Err((back, false)) => item = back,
                    }
                }
            }
            report.send((made, Vec::new())).unwrap();
        });
    }
    for id in 0..4 {
        let r = if id % 2 == 0 { r1.clone() } else { r2.clone() };
        let (report, mut rng) = (report.clone(), Rng::new(seed ^ (id + 1) << 40));
        crew.go(move || {
            let mut got = Vec::new();
            loop {
                rng.maybe_yield();
                match recv_somehow(&r, &mut rng) {
                    Ok(item) => got.push(item.id),
                    Err(true) => break,
                    Err(false) => {}
                }
                if cut && rng.below(200) == 0 {
                    if rng.below(2) == 0 {
                        r.close();
                    }
                    break;
                }
            }
            drop(r);
            report.send((0, got)).unwrap();
        });
    }
    drop((s1, s2, r1, r2, report));
    let (mut made, mut seen) = (0, HashMap::new());
    for (m, got) in reports.iter() {
        made += m;
        for id in got {
            assert_eq!(seen.insert(id, ()), None, "message {id} was received twice");
        }
    }
    if !cut {
        assert_eq!(
            (made, seen.len()),
            (SENDERS * EACH, SENDERS * EACH),
            "messages were lost"
        );
    }
    while drops.get() != made {
        assert!(drops.get() < made, "something was dropped twice");
        raddle_sched::yield_now();
    }
}

on_both! {
    fn nothing_is_lost(crew) {
        let seed = common::seed();
        for round in 0..rounds() as u64 {
            mix(crew, seed + round, false);
        }
    }

    fn ends_at_any_moment(crew) {
        let seed = common::seed();
        for round in 0..rounds() as u64 * 5 {
            mix(crew, seed + round, true);
        }
    }

    fn close_races_with_everything(crew) {
        let mut rng = Rng::new(common::seed());
        for _ in 0..rounds() * 30 {
            let (s, r) = match rng.below(3) { 0 => bounded(0), 1 => bounded(1), _ => unbounded() };
            let drops = Drops::default();
            let (done, ends) = unbounded::<usize>();
            for _ in 0..2 {
                let (s2, drops, done2) = (s.clone(), drops.clone(), done.clone());
                crew.go(move || {
                    let mut made = 1;
                    while made < 50 && s2.send(drops.item()).is_ok() {
                        made += 1;
                    }
                    done2.send(made).unwrap();
                });
                let (r, done) = (r.clone(), done.clone());
                crew.go(move || {
                    r.iter().for_each(drop);
                    done.send(0).unwrap();
                });
            }
            let turns = rng.below(20);
            crew.go(move || {
                (0..turns).for_each(|_| raddle_sched::yield_now());
                s.close();
            });
            drop((r, done));
            let made: usize = ends.iter().sum();
            // Each sender made one item more than it counted only if its last send failed; all of them are gone.
            let least = made - 2;
            while drops.get() < least {
                raddle_sched::yield_now();
            }
            assert!(drops.get() <= made);
        }
    }
}
