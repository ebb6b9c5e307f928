//! tokio: its threads, channels, timers and sockets.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Notify, RwLock, Semaphore, broadcast, mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::{interval, sleep, timeout};

pub const ALL: &[(&str, fn())] = &[
    ("tokio_spawn", || run(spawn())),
    ("tokio_mpsc", || run(channels())),
    ("tokio_sync", || run(sync())),
    ("tokio_timers", || run(timers())),
    ("tokio_tcp", || run(tcp())),
    ("tokio_blocking", || run(blocking())),
];

fn run(f: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(f);
}

async fn spawn() {
    let tasks: Vec<_> = (0..200u64)
        .map(|i| {
            tokio::spawn(async move {
                tokio::task::yield_now().await;
                vec![i; 10]
            })
        })
        .collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.await.unwrap()[9];
    }
    assert_eq!(sum, 199 * 100);
}

async fn channels() {
    let (tx, mut rx) = mpsc::channel::<Box<u64>>(4);
    for n in 0..4 {
        let tx = tx.clone();
        tokio::spawn(async move {
            for i in 0..50 {
                tx.send(Box::new(n * i)).await.unwrap();
            }
        });
    }
    drop(tx);
    let mut count = 0;
    while let Some(v) = rx.recv().await {
        std::hint::black_box(*v);
        count += 1;
    }
    assert_eq!(count, 200);

    let (tx, rx) = oneshot::channel();
    tokio::spawn(async move { tx.send(vec![1, 2, 3]).unwrap() });
    assert_eq!(rx.await.unwrap(), [1, 2, 3]);

    let (tx, mut a) = broadcast::channel(8);
    let mut b = tx.subscribe();
    let other = tokio::spawn(async move { b.recv().await.unwrap() });
    tx.send(vec![7]).unwrap();
    assert_eq!(a.recv().await.unwrap(), other.await.unwrap());

    let (tx, mut rx) = watch::channel(vec![0]);
    tokio::spawn(async move { tx.send(vec![1]).unwrap() });
    rx.changed().await.unwrap();
    assert_eq!(*rx.borrow(), [1]);
}

async fn sync() {
    let state = Arc::new((
        Mutex::new(vec![0]),
        RwLock::new(0),
        Semaphore::new(2),
        Notify::new(),
    ));
    let tasks: Vec<_> = (0..50)
        .map(|i| {
            let state = state.clone();
            tokio::spawn(async move {
                state.0.lock().await.push(i);
                let _permit = state.2.acquire().await.unwrap();
                *state.1.write().await += 1;
                std::hint::black_box(*state.1.read().await);
                state.3.notify_one();
            })
        })
        .collect();
    state.3.notified().await;
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(state.0.lock().await.len(), 51);
}

async fn timers() {
    let value = Arc::new(Mutex::new(0));
    let other = value.clone();
    let task = tokio::spawn(async move {
        sleep(Duration::from_millis(2)).await;
        *other.lock().await = 1;
    });
    let mut ticks = interval(Duration::from_millis(1));
    for _ in 0..5 {
        ticks.tick().await;
    }
    task.await.unwrap();
    assert_eq!(*value.lock().await, 1);
    assert!(
        timeout(Duration::from_millis(1), std::future::pending::<()>())
            .await
            .is_err()
    );
}

async fn tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for _ in 0..5 {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut text = vec![0; 1000];
                let n = stream.read(&mut text).await.unwrap();
                stream.write_all(&text[..n]).await.unwrap();
            });
        }
    });
    let clients: Vec<_> = (0..5u8)
        .map(|i| {
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(&[i; 100]).await.unwrap();
                let mut back = Vec::new();
                stream.read_to_end(&mut back).await.unwrap();
                assert_eq!(back, [i; 100]);
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
}

async fn blocking() {
    let all: Vec<_> = (0..20u64)
        .map(|i| spawn_blocking(move || vec![i; 100]))
        .collect();
    let mut sum = 0;
    for one in all {
        sum += one.await.unwrap()[50];
    }
    assert_eq!(sum, 190);
}
