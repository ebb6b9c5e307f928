//! Channels, one operation at a time; `select` has a file of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use raddle::chan::{
    self, RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError,
};

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(3600);

pub(crate) fn unbuffered_send_meets_receive() {
    let (tx, rx) = chan::bounded(0);
    assert_eq!(tx.try_send(0), Err(TrySendError::Full(0)));
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    let sender = raddle::go(move || (0..1000).for_each(|i| tx.send(i).unwrap()));
    for i in 0..1000 {
        assert_eq!(rx.recv(), Ok(i));
    }
    sender.join().unwrap();
    assert_eq!(rx.recv(), Err(RecvError));
}

pub(crate) fn messages_arrive_in_order() {
    for capacity in [0, 1, 2, 7, 128] {
        let (tx, rx) = chan::bounded(capacity);
        raddle::go(move || (0..2000).for_each(|i| tx.send(i).unwrap()));
        assert!(rx.iter().eq(0..2000), "capacity {capacity}");
    }
}

pub(crate) fn a_buffer_holds_its_capacity_and_no_more() {
    let (tx, rx) = chan::bounded(3);
    assert_eq!(
        (tx.capacity(), tx.len(), tx.is_empty(), tx.is_full()),
        (Some(3), 0, true, false)
    );
    (0..3).for_each(|i| tx.try_send(i).unwrap());
    assert_eq!(
        (rx.capacity(), rx.len(), rx.is_empty(), rx.is_full()),
        (Some(3), 3, false, true)
    );
    assert_eq!(tx.try_send(3), Err(TrySendError::Full(3)));

    // A parked sender's message comes after those in the buffer.
    let sender = raddle::go(move || tx.send(3).unwrap());
    assert!(rx.iter().eq(0..4));
    sender.join().unwrap();
}

pub(crate) fn unbounded_never_waits() {
    let (tx, rx) = chan::unbounded();
    assert_eq!(tx.capacity(), None);
    (0..10_000).for_each(|i| tx.send(i).unwrap());
    assert_eq!(rx.len(), 10_000);
    drop(tx);
    assert!(rx.into_iter().eq(0..10_000));
}

pub(crate) fn the_last_sender_ends_the_iteration() {
    let (tx, rx) = chan::bounded(1);
    for i in 0..10 {
        let tx = tx.clone();
        raddle::go(move || tx.send(i).unwrap());
    }
    drop(tx);
    let mut all: Vec<_> = rx.iter().collect();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..10));
    assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
}

pub(crate) fn the_last_receiver_gives_messages_back() {
    let (tx, rx) = chan::bounded(0);
    let sender = raddle::go(move || {
        let first = tx.send("first");
        (first, tx.send("second"), tx.try_send("third"))
    });
    assert_eq!(rx.recv(), Ok("first"));
    drop(rx);
    let (first, second, third) = sender.join().unwrap();
    assert_eq!(first, Ok(()));
    assert_eq!(second, Err(SendError("second")));
    assert_eq!(third, Err(TrySendError::Disconnected("third")));
}

pub(crate) fn close_drains_and_then_ends() {
    let (tx, rx) = chan::bounded(4);
    tx.send(1).unwrap();
    tx.send(2).unwrap();
    assert!(tx.close());
    assert!(!tx.close());
    assert_eq!(tx.send(3), Err(SendError(3)));
    assert_eq!(
        (rx.recv(), rx.recv(), rx.recv()),
        (Ok(1), Ok(2), Err(RecvError))
    );
}

pub(crate) fn close_wakes_everyone() {
    let (tx, rx) = chan::bounded::<()>(0);
    let (full, _kept) = chan::bounded(1);
    full.send(0).unwrap();
    let receivers: Vec<_> = (0..10)
        .map(|_| {
            let rx = rx.clone();
            raddle::go(move || rx.recv())
        })
        .collect();
    (0..5).for_each(|_| raddle::yield_now());
    tx.close();
    for receiver in receivers {
        assert_eq!(receiver.join().unwrap(), Err(RecvError));
    }
    assert_eq!(
        full.try_send(1),
        Err(TrySendError::Full(1)),
        "another channel was closed"
    );
}

pub(crate) fn timeouts_run_out() {
    let (tx, rx) = chan::bounded(1);
    let start = Instant::now();
    assert_eq!(rx.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
    assert_eq!(
        rx.recv_deadline(Instant::now() + SHORT),
        Err(RecvTimeoutError::Timeout)
    );
    tx.send(1).unwrap();
    assert_eq!(tx.send_timeout(2, SHORT), Err(SendTimeoutError::Timeout(2)));
    assert_eq!(
        tx.send_deadline(3, Instant::now() + SHORT),
        Err(SendTimeoutError::Timeout(3))
    );
    assert!(start.elapsed() >= 4 * SHORT);
    assert_eq!(rx.recv_timeout(Duration::ZERO), Ok(1));
    drop(tx);
    assert_eq!(rx.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
}

pub(crate) fn a_timeout_that_is_not_needed_does_no_harm() {
    let (ping, pings) = chan::bounded(0);
    let (pong, pongs) = chan::bounded(0);
    let partner = raddle::go(move || {
        while let Ok(ball) = pings.recv_timeout(LONG) {
            pong.send_timeout(ball, LONG).unwrap();
        }
    });
    for ball in 0..2000 {
        ping.send_timeout(ball, LONG).unwrap();
        assert_eq!(pongs.recv_timeout(LONG), Ok(ball));
    }
    drop(ping);
    partner.join().unwrap();
}

pub(crate) fn try_forms_never_wait() {
    let (tx, rx) = chan::bounded(2);
    assert_eq!(rx.try_iter().count(), 0);
    assert_eq!((tx.try_send(1), tx.try_send(2)), (Ok(()), Ok(())));
    assert_eq!(tx.try_send(3).unwrap_err().into_inner(), 3);
    assert!(rx.try_iter().eq([1, 2]));
    drop(rx);
    assert!(tx.try_send(4).unwrap_err().is_disconnected());
}

pub(crate) fn zero_sized_messages_are_counted() {
    for capacity in [0, 1, 10] {
        let (tx, rx) = chan::bounded(capacity);
        raddle::go(move || (0..500).for_each(|_| tx.send(()).unwrap()));
        assert_eq!(rx.iter().count(), 500);
    }
    let (tx, rx) = chan::unbounded();
    (0..500).for_each(|_| tx.send([0_u8; 0]).unwrap());
    drop(tx);
    assert_eq!(rx.len(), 500);
    assert_eq!(rx.into_iter().count(), 500);
}

pub(crate) fn over_aligned_messages_stay_aligned() {
    #[derive(Debug)]
    #[repr(align(256))]
    struct Wide(u32);

    for capacity in [0, 1, 5] {
        let (tx, rx) = chan::bounded(capacity);
        raddle::go(move || (0..200).for_each(|i| tx.send(Wide(i)).unwrap()));
        for (i, wide) in rx.iter().enumerate() {
            assert_eq!(
                (std::ptr::from_ref(&wide).addr() % 256, wide.0 as usize),
                (0, i)
            );
        }
    }
}

pub(crate) fn messages_of_a_mebibyte_arrive_whole() {
    const BYTES: usize = 1 << 20;
    #[derive(Clone)]
    #[repr(align(4096))]
    struct Large([u8; BYTES]);

    fn on_a_large_stack(f: impl FnOnce() + Send + 'static) -> raddle::JoinHandle<()> {
        // An unoptimised build moves a value many times over.
        let builder = raddle::Builder::new().stack_size(128 * BYTES);
        builder.spawn(f).unwrap()
    }

    for capacity in [Some(0), Some(2), None] {
        let (tx, rx) = capacity.map_or_else(chan::unbounded, chan::bounded);
        let sender = on_a_large_stack(move || {
            for i in 0..6 {
                let message = Large([i; BYTES]);
                match i % 3 {
                    0 => tx.send(message).map_err(drop).unwrap(),
                    1 => tx.send_timeout(message, LONG).map_err(drop).unwrap(),
                    _ => raddle::select! {
                        send(tx, message) -> res => res.map_err(drop).unwrap(),
                        default(LONG) => panic!(),
                    },
                }
            }
        });
        let receiver = on_a_large_stack(move || {
            for i in 0..6 {
                let message = match i % 3 {
                    0 => rx.recv().unwrap(),
                    1 => rx.recv_timeout(LONG).unwrap(),
                    _ => raddle::select! {
                        recv(rx) -> message => message.unwrap(),
                        recv(chan::never::<()>()) -> _ => panic!(),
                    },
                };
                assert_eq!(std::ptr::from_ref(&message).addr() % 4096, 0);
                assert!(message.0.iter().all(|byte| *byte == i));
            }
            assert!(rx.recv().is_err());
        });
        sender.join().unwrap();
        receiver.join().unwrap();
    }
}

pub(crate) fn a_capacity_costs_nothing() {
    fn resident_kib() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.unwrap().parse().unwrap()
    }

    let before = resident_kib();
    let channels: Vec<_> = [20, 26, 31, 40, 63]
        .map(|log| chan::bounded::<()>(1 << log))
        .into_iter()
        .chain([chan::bounded(usize::MAX)])
        .collect();
    for (tx, rx) in &channels {
        for _ in 0..3 {
            (0..100).for_each(|_| tx.send(()).unwrap());
            raddle::select! { send(tx, ()) -> res => res.unwrap(), default => panic!() }
            assert_eq!((rx.len(), rx.try_iter().count()), (101, 101));
        }
        let other = rx.clone();
        let receiver = raddle::go(move || other.recv());
        tx.send(()).unwrap();
        receiver.join().unwrap().unwrap();
    }
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB for six channels");
    drop(channels);

    let roomy = chan::bounded::<u64>(1 << 24);
    (0..1000).for_each(|i| roomy.0.send(i).unwrap());
    assert!(roomy.1.try_iter().eq(0..1000));
}

pub(crate) fn a_select_goes_with_its_goroutine() {
    let (tx, rx) = chan::bounded(1);
    let rx: &'static chan::Receiver<Box<u32>> = Box::leak(Box::new(rx));
    let mut select = chan::Select::new();
    select.recv(rx);
    let receiver = raddle::go(move || {
        raddle::yield_now();
        raddle::blocking(|| {
            let index = select.recv(rx);
            select.remove(index);
        });
        (0..3).all(|i| *select.select().recv(rx).unwrap() == i)
    });
    for i in 0..3 {
        tx.send(Box::new(i)).unwrap();
    }
    assert!(receiver.join().unwrap());
}

pub(crate) fn every_message_is_dropped_exactly_once() {
    struct Counts(Arc<AtomicUsize>);
    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    let fresh = || Counts(drops.clone());

    let (tx, rx) = chan::bounded(10);
    (0..10).for_each(|_| tx.send(fresh()).unwrap());
    drop(tx.try_send(fresh()));
    drop(tx.send_timeout(fresh(), SHORT));
    assert_eq!(drops.load(Ordering::Relaxed), 2);
    drop((rx.recv().unwrap(), rx.recv().unwrap()));
    assert_eq!(drops.load(Ordering::Relaxed), 4);
    drop((tx, rx));
    assert_eq!(
        drops.load(Ordering::Relaxed),
        12,
        "what is left in a channel goes with it"
    );

    let (tx, rx) = chan::unbounded();
    (0..100).for_each(|_| tx.send(fresh()).unwrap());
    drop(rx);
    drop(tx.send(fresh()));
    drop(tx);
    assert_eq!(drops.load(Ordering::Relaxed), 113);
}

pub(crate) fn many_to_many_loses_nothing() {
    for capacity in [0, 1, 16] {
        let (tx, rx) = chan::bounded(capacity);
        for sender in 0..8_u64 {
            let tx = tx.clone();
            raddle::go(move || (0..250).for_each(|i| tx.send(sender * 250 + i).unwrap()));
        }
        drop(tx);
        let receivers: Vec<_> = (0..8)
            .map(|_| {
                let rx = rx.clone();
                raddle::go(move || rx.iter().collect::<Vec<_>>())
            })
            .collect();
        let mut all: Vec<_> = receivers
            .into_iter()
            .flat_map(|receiver| receiver.join().unwrap())
            .collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..2000), "capacity {capacity}");
    }
}

pub(crate) fn a_ring_of_goroutines_passes_a_message() {
    let (first, mut last) = chan::bounded(0);
    for _ in 0..500 {
        let (tx, rx) = chan::bounded(0);
        raddle::go(move || last.iter().for_each(|hops: u32| tx.send(hops + 1).unwrap()));
        last = rx;
    }
    for _ in 0..3 {
        first.send(0).unwrap();
        assert_eq!(last.recv(), Ok(500));
    }
}

pub(crate) fn after_tick_and_never() {
    let start = Instant::now();
    let fired = chan::after(SHORT).recv().unwrap();
    assert!(fired.duration_since(start) >= SHORT);
    let fired = chan::at(start + 3 * SHORT).recv().unwrap();
    assert!(fired >= start + 3 * SHORT);

    // Before the ticker is made: its phase counts from there.
    let start = Instant::now();
    let ticks = chan::tick(SHORT);
    for _ in 0..3 {
        ticks.recv().unwrap();
    }
    assert!(start.elapsed() >= 3 * SHORT);

    assert_eq!(
        chan::never::<()>().recv_timeout(SHORT),
        Err(RecvTimeoutError::Timeout)
    );
}
