//! What std offers to synchronise with, from threads and from goroutines, and the same with the synchronisation left out.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Barrier, Condvar, LazyLock, Mutex, Once, OnceLock, RwLock, Weak};
use std::thread;
use std::time::Duration;

use crate::support::*;

/// Two threads, and waits for both.
fn threads(a: impl FnOnce() + Send + 'static, b: impl FnOnce() + Send + 'static) {
    let (a, b) = (thread::spawn(a), thread::spawn(b));
    a.join().unwrap();
    b.join().unwrap();
}

/// As `threads`, the second after the first is through, which the detector cannot know.
fn threads_in_turn(a: impl FnOnce() + Send + 'static, b: impl FnOnce() + Send + 'static) {
    let turn = leak(Turn::new());
    threads(
        move || {
            a();
            turn.set(1);
        },
        move || {
            while turn.get() == 0 {
                thread::yield_now();
            }
            b();
        },
    );
}

pub fn race_threads() {
    let x = var(0);
    threads(
        move || *x.at() = 1, //~ race
        move || *x.at() = 2, //~ race
    );
}

pub fn race_thread_and_goroutine() {
    let x = var(0);
    let a = thread::spawn(move || *x.at() = 1); //~ race
    let b = go(move || *x.at() = 2); //~ race
    a.join().unwrap();
    b.join().unwrap();
}

pub fn race_thread_and_parent() {
    let x = var(0);
    let a = thread::spawn(move || *x.at() = 1); //~ race
    *x.at() = 2; //~ race
    a.join().unwrap();
}

pub fn no_race_thread_spawn_join() {
    let x = var(0);
    *x.at() = 1;
    let a = thread::spawn(move || *x.at() += 1);
    a.join().unwrap();
    assert_eq!(*x.at(), 2);
}

pub fn no_race_thread_many_in_a_row() {
    let x = var(0);
    for _ in 0..50 {
        thread::spawn(move || *x.at() += 1).join().unwrap();
    }
    assert_eq!(*x.at(), 50);
}

pub fn no_race_thread_result() {
    let v = thread::spawn(|| vec![1, 2, 3]).join().unwrap();
    assert_eq!(v.iter().sum::<i32>(), 6);
}

pub fn no_race_thread_builder() {
    let x = var(0);
    let a = thread::Builder::new()
        .name("named".to_owned())
        .stack_size(1 << 20)
        .spawn(move || *x.at() = thread::current().name().map_or(0, str::len))
        .unwrap();
    a.join().unwrap();
    assert_eq!(*x.at(), 5);
}

pub fn no_race_thread_panic() {
    let x = var(0);
    let a = thread::spawn(move || {
        *x.at() = 1;
        std::panic::resume_unwind(Box::new(7));
    });
    assert!(a.join().is_err());
    *x.at() = 2;
}

pub fn no_race_scope() {
    let mut x = [0; 4];
    thread::scope(|s| {
        for (i, x) in x.iter_mut().enumerate() {
            s.spawn(move || *x = i);
        }
    });
    assert_eq!(x, [0, 1, 2, 3]);
}

/// With the handles kept: one that is dropped early orders, when its thread is through by then.
pub fn race_scope() {
    let x = Racy::new(0);
    thread::scope(|s| {
        let a = s.spawn(|| *x.at() = 1); //~ race
        let b = s.spawn(|| *x.at() = 2); //~ race
        a.join().unwrap();
        b.join().unwrap();
    });
}

pub fn no_race_mutex_threads() {
    let (m, x) = (leak(Mutex::new(())), var(0));
    let work = move || {
        for _ in 0..50 {
            let _held = m.lock().unwrap();
            *x.at() += 1;
        }
    };
    threads(work, work);
}

pub fn no_race_mutex_goroutines() {
    let (m, x) = (leak(Mutex::new(())), var(0));
    let work = move || {
        for _ in 0..50 {
            let _held = m.lock().unwrap();
            *x.at() += 1;
        }
    };
    both(work, work);
}

pub fn race_two_mutexes() {
    let (m, n, x) = (leak(Mutex::new(())), leak(Mutex::new(())), var(0));
    threads(
        move || {
            let _held = m.lock();
            *x.at() = 1; //~ race
        },
        move || {
            let _held = n.lock();
            *x.at() = 2; //~ race
        },
    );
}

pub fn race_mutex_released_early() {
    let (m, x) = (leak(Mutex::new(())), var(0));
    let turn = leak(Turn::new());
    threads(
        move || {
            drop(m.lock());
            *x.at() = 1; //~ race
            turn.set(1);
        },
        move || {
            while turn.get() == 0 {
                thread::yield_now();
            }
            let _held = m.lock();
            *x.at() = 2; //~ race
        },
    );
}

pub fn no_race_mutex_try_lock() {
    let (m, x) = (leak(Mutex::new(())), var(0));
    let work = move || {
        for _ in 0..50 {
            if let Ok(_held) = m.try_lock() {
                *x.at() += 1;
            }
        }
    };
    threads(work, work);
}

pub fn no_race_mutex_value() {
    let m = Arc::new(Mutex::new(vec![0]));
    let other = m.clone();
    let a = thread::spawn(move || other.lock().unwrap().push(1));
    m.lock().unwrap().push(2);
    a.join().unwrap();
    assert_eq!(Arc::into_inner(m).unwrap().into_inner().unwrap().len(), 3);
}

pub fn no_race_mutex_poisoned() {
    let m = leak(Mutex::new(0));
    let a = thread::spawn(move || {
        let mut held = m.lock().unwrap();
        *held = 1;
        std::panic::resume_unwind(Box::new(7));
    });
    assert!(a.join().is_err());
    assert_eq!(*m.lock().unwrap_err().into_inner(), 1);
}

pub fn no_race_rwlock() {
    let (l, x) = (leak(RwLock::new(())), var(0));
    let work = move || {
        for i in 0..40 {
            if i % 4 == 0 {
                let _held = l.write().unwrap();
                *x.at() += 1;
            } else {
                let _held = l.read().unwrap();
                read(*x.at());
            }
        }
    };
    threads(work, work);
}

pub fn race_rwlock_write_under_read() {
    let (l, x) = (leak(RwLock::new(())), var(0));
    let turn = leak(Turn::new());
    let work = move |n: u32| {
        while turn.get() != n {
            thread::yield_now();
        }
        let held = l.read();
        *x.at() += 1; //~ race
        turn.set(n + 1);
        while turn.get() != 2 {
            thread::yield_now();
        }
        drop(held);
    };
    threads(move || work(0), move || work(1));
}

pub fn no_race_rwlock_try() {
    let (l, x) = (leak(RwLock::new(())), var(0));
    threads(
        move || {
            for _ in 0..50 {
                if let Ok(_held) = l.try_write() {
                    *x.at() += 1;
                }
            }
        },
        move || {
            for _ in 0..50 {
                if let Ok(_held) = l.try_read() {
                    read(*x.at());
                }
            }
        },
    );
}

pub fn no_race_condvar() {
    let (pair, x) = (leak((Mutex::new(false), Condvar::new())), var(0));
    threads(
        move || {
            *x.at() = 1;
            *pair.0.lock().unwrap() = true;
            pair.1.notify_one();
        },
        move || {
            let ready = pair.1.wait_while(pair.0.lock().unwrap(), |ready| !*ready);
            drop(ready);
            *x.at() = 2;
        },
    );
}

pub fn no_race_condvar_all() {
    let (pair, x) = (leak((Mutex::new(0), Condvar::new())), var([0; 4]));
    let all: Vec<_> = (0..4)
        .map(|i| {
            thread::spawn(move || {
                x.at()[i] = 1;
                let mut n = pair.0.lock().unwrap();
                *n += 1;
                pair.1.notify_all();
                drop(pair.1.wait_while(n, |n| *n < 4).unwrap());
                read(*x.at());
            })
        })
        .collect();
    all.into_iter().for_each(|t| t.join().unwrap());
}

pub fn no_race_condvar_timeout() {
    let (pair, x) = (leak((Mutex::new(false), Condvar::new())), var(0));
    threads(
        move || {
            *x.at() = 1;
            *pair.0.lock().unwrap() = true;
            pair.1.notify_one();
        },
        move || {
            let mut ready = pair.0.lock().unwrap();
            while !*ready {
                ready = pair
                    .1
                    .wait_timeout(ready, Duration::from_micros(100))
                    .unwrap()
                    .0;
            }
            drop(ready);
            *x.at() = 2;
        },
    );
}

/// A notification alone, with the state in plain memory.
pub fn race_condvar_unlocked_state() {
    let (pair, ready) = (leak((Mutex::new(()), Condvar::new())), var(false));
    threads(
        move || {
            *ready.at() = true; //~ race
            pair.1.notify_one();
        },
        move || {
            let held = pair.0.lock().unwrap();
            drop(pair.1.wait_timeout(held, Duration::from_millis(1)));
            read(*ready.at()); //~ race
        },
    );
}

pub fn no_race_once() {
    let (once, x) = (leak(Once::new()), var(0));
    let work = move || {
        once.call_once(|| *x.at() = 1);
        read(*x.at());
    };
    threads(work, work);
    both(work, work);
}

pub fn race_once_two() {
    let (once, x) = (leak([Once::new(), Once::new()]), var(0));
    threads(
        move || once[0].call_once(|| *x.at() = 1), //~ race
        move || once[1].call_once(|| *x.at() = 2), //~ race
    );
}

pub fn no_race_once_completed() {
    let (once, x) = (leak(Once::new()), var(0));
    threads(
        move || once.call_once(|| *x.at() = 1),
        move || {
            while !once.is_completed() {
                thread::yield_now();
            }
            read(*x.at());
        },
    );
}

pub fn no_race_once_lock() {
    let (cell, x) = (leak(OnceLock::new()), var(0));
    let work = move || {
        let value = cell.get_or_init(|| {
            *x.at() = 1;
            vec![1, 2, 3]
        });
        read(value[2]);
        read(*x.at());
    };
    threads(work, work);
}

pub fn no_race_once_lock_set_get() {
    let cell = leak(OnceLock::new());
    threads(
        move || drop(cell.set(vec![1, 2, 3])),
        move || {
            while cell.get().is_none() {
                thread::yield_now();
            }
            read(cell.get().unwrap()[0]);
        },
    );
}

static LAZY: LazyLock<Vec<u64>> = LazyLock::new(|| (0..100).collect());

pub fn no_race_lazy_lock() {
    let work = || {
        read(LAZY.iter().sum::<u64>());
    };
    threads(work, work);
    both(work, work);
}

pub fn no_race_barrier() {
    let (barrier, x) = (leak(Barrier::new(2)), var([0, 0]));
    let work = move |me: usize| {
        for round in 0..10 {
            x.at()[me] = round;
            barrier.wait();
            read(x.at()[1 - me]);
            barrier.wait();
        }
    };
    threads(move || work(0), move || work(1));
}

pub fn race_barrier_once_only() {
    let (barrier, x) = (leak(Barrier::new(2)), var(0));
    let work = move || {
        barrier.wait();
        *x.at() += 1; //~ race
    };
    threads(work, work);
}

pub fn no_race_mpsc() {
    let (tx, rx) = mpsc::channel::<Box<u64>>();
    let more = tx.clone();
    let sender = |tx: mpsc::Sender<Box<u64>>| {
        move || {
            for i in 0..100 {
                tx.send(Box::new(i)).unwrap();
            }
        }
    };
    let (a, b) = (thread::spawn(sender(tx)), thread::spawn(sender(more)));
    let mut sum = 0;
    for mut v in rx {
        *v += 1;
        sum += *v;
    }
    a.join().unwrap();
    b.join().unwrap();
    assert_eq!(sum, 2 * (99 * 100 / 2 + 100));
}

pub fn no_race_mpsc_order() {
    let (x, (tx, rx)) = (var(0), mpsc::channel());
    threads(
        move || {
            *x.at() = 1;
            tx.send(()).unwrap();
        },
        move || {
            rx.recv().unwrap();
            *x.at() = 2;
        },
    );
}

pub fn no_race_mpsc_sync() {
    for cap in [0, 1, 3] {
        let (x, (tx, rx)) = (var(0), mpsc::sync_channel(cap));
        threads(
            move || {
                for i in 0..20 {
                    *x.at() = i;
                    tx.send(()).unwrap();
                }
            },
            move || {
                rx.recv().unwrap();
                for () in rx.iter() {}
                read(*x.at());
            },
        );
    }
}

pub fn no_race_mpsc_rendezvous_back() {
    let (x, (tx, rx)) = (var(0), mpsc::sync_channel(0));
    threads(
        move || {
            tx.send(()).unwrap();
            *x.at() = 1;
        },
        move || {
            *x.at() = 2;
            rx.recv().unwrap();
        },
    );
}

pub fn race_mpsc_write_after_send() {
    let (x, (tx, rx)) = (var(0), mpsc::channel());
    // Neither goes before both have written: who is late would see the other end of the channel go, or, still busy waking the
    // receiver, its thread; and be ordered after all that was done there.
    let wrote = leak([Turn::new(), Turn::new()]);
    let stay = |me: usize| {
        wrote[me].set(1);
        while wrote[1 - me].get() == 0 {
            thread::yield_now();
        }
    };
    threads(
        move || {
            tx.send(()).unwrap();
            *x.at() = 1; //~ race
            stay(0);
        },
        move || {
            rx.recv().unwrap();
            *x.at() = 2; //~ race
            stay(1);
        },
    );
}

pub fn no_race_park() {
    let (x, ready) = (var(0), leak(AtomicBool::new(false)));
    let waiter = thread::spawn(move || {
        while !ready.load(Ordering::Acquire) {
            thread::park();
        }
        read(*x.at());
    });
    *x.at() = 1;
    ready.store(true, Ordering::Release);
    waiter.thread().unpark();
    waiter.join().unwrap();
}

/// An unpark happens before the park that it ends.
pub fn no_race_park_token() {
    let x = var(0);
    let waiter = thread::spawn(move || {
        thread::park();
        read(*x.at());
    });
    *x.at() = 1;
    waiter.thread().unpark();
    waiter.join().unwrap();
}

pub fn race_park_timeout() {
    let x = var(0);
    let waiter = thread::spawn(move || {
        thread::park_timeout(Duration::from_micros(10));
        read(*x.at()); //~ race
    });
    *x.at() = 1; //~ race
    waiter.join().unwrap();
}

pub fn no_race_arc_drop() {
    struct Value(Racy<u64>);
    impl Drop for Value {
        fn drop(&mut self) {
            *self.0.at() += 1;
        }
    }
    for _ in 0..20 {
        let a = Arc::new(Value(Racy::new(0)));
        let (b, c) = (a.clone(), a.clone());
        drop(a);
        threads(
            move || {
                read(*b.0.at());
            },
            move || {
                read(*c.0.at());
            },
        );
    }
}

pub fn no_race_arc_get_mut() {
    let mut a = Arc::new(1);
    let b = a.clone();
    let t = thread::spawn(move || {
        read(*b);
        drop(b);
    });
    loop {
        if let Some(value) = Arc::get_mut(&mut a) {
            *value = 2;
            break;
        }
        thread::yield_now();
    }
    t.join().unwrap();
}

pub fn no_race_arc_weak() {
    let a = Arc::new(var(1));
    let weak: Weak<_> = Arc::downgrade(&a);
    threads(
        move || drop(a),
        move || {
            if let Some(a) = weak.upgrade() {
                read(*a.at());
            }
        },
    );
}

pub fn race_arc_value() {
    let a = Arc::new(Racy::new(1));
    let b = a.clone();
    threads(
        move || *a.at() = 1, //~ race
        move || *b.at() = 2, //~ race
    );
}

pub fn no_race_arc_make_mut() {
    let a = Arc::new(vec![1, 2, 3]);
    let work = |mut a: Arc<Vec<i32>>| {
        move || {
            Arc::make_mut(&mut a).push(4);
            read(a.len());
        }
    };
    threads(work(a.clone()), work(a));
}

thread_local! {
    static LIST: std::cell::RefCell<Vec<u64>> = const { std::cell::RefCell::new(Vec::new()) };
}

pub fn no_race_thread_locals() {
    let work = || {
        for i in 0..50 {
            LIST.with_borrow_mut(|l| l.push(i));
        }
    };
    threads(work, work);
    threads(work, work);
}

pub fn no_race_atomics() {
    let (n, x) = (leak(AtomicUsize::new(0)), var([0; 100]));
    let work = move || {
        loop {
            let i = n.fetch_add(1, Ordering::Relaxed);
            if i >= 100 {
                break;
            }
            x.at()[i] = i;
        }
    };
    threads(work, work);
    assert_eq!(x.at()[99], 99);
}

pub fn no_race_println() {
    let work = || {
        for i in 0..20 {
            println!("line {i}");
            eprint!("");
        }
    };
    threads(work, work);
    both(work, work);
}

pub fn no_race_env_and_time() {
    let work = || {
        read(std::env::var("PATH").is_ok());
        read(std::time::Instant::now().elapsed());
        read(thread::available_parallelism().is_ok());
    };
    threads(work, work);
}

pub fn no_race_panic_caught() {
    let work = || {
        for _ in 0..3 {
            assert!(std::panic::catch_unwind(|| std::panic::resume_unwind(Box::new(1))).is_err());
        }
    };
    threads(work, work);
    both(work, work);
}

pub fn no_race_hash_maps_of_their_own() {
    let work = || {
        let m: std::collections::HashMap<u64, String> =
            (0..200).map(|i| (i, format!("{i}"))).collect();
        read(m.values().map(String::len).sum::<usize>());
    };
    threads(work, work);
    both(work, work);
}

pub fn race_rc_of_threads() {
    let a = std::rc::Rc::new(1);
    let (b, c) = (leak(Smuggled(a.clone())), leak(Smuggled(a)));
    threads_in_turn(
        move || std::mem::forget(here(&b.0).clone()), //~ race
        move || std::mem::forget(here(&c.0).clone()), //~ race
    );
}

pub fn no_race_pipe() {
    use std::io::{Read, Write};
    let (mut from, mut to) = std::io::pipe().unwrap();
    let x = var(0);
    threads(
        move || {
            *x.at() = 1;
            to.write_all(&[1]).unwrap();
        },
        move || {
            from.read_exact(&mut [0]).unwrap();
            read(*x.at());
        },
    );
}

pub fn no_race_unix_socket() {
    use std::io::{Read, Write};
    let (mut a, mut b) = std::os::unix::net::UnixStream::pair().unwrap();
    let x = var(0);
    threads(
        move || {
            *x.at() = 1;
            a.write_all(&[1]).unwrap();
            a.read_exact(&mut [0]).unwrap();
            *x.at() = 3;
        },
        move || {
            b.read_exact(&mut [0]).unwrap();
            *x.at() = 2;
            b.write_all(&[1]).unwrap();
        },
    );
}

pub fn race_pipe_write_after() {
    use std::io::{Read, Write};
    let (mut from, mut to) = std::io::pipe().unwrap();
    let x = var(0);
    threads(
        move || {
            to.write_all(&[1]).unwrap();
            *x.at() = 1; //~ race
            std::mem::forget(to); // its end would order as well
        },
        move || {
            from.read_exact(&mut [0]).unwrap();
            read(*x.at()); //~ race
        },
    );
}

pub fn no_race_child_of_fork() {
    let forker = thread::spawn(|| {
        // SAFETY: the child ends below, and other threads of this program hold none of std's locks.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // Memory without shadow as yet.
            let new: Vec<u64> = (0..100_000).collect();
            let all = thread::spawn(move || new.iter().sum::<u64>())
                .join()
                .unwrap();
            // SAFETY: no preconditions.
            unsafe { libc::_exit(i32::from(all != 4_999_950_000)) };
        }
        let mut status = -1;
        // SAFETY: the child was made above; the status is ours.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0);
    });
    forker.join().unwrap();
}

/// A constructor starts a thread, as those of C++ do; it runs before the runtime and before `main`.
static OF_CONSTRUCTOR: Racy<u64> = Racy::new(0);
static CONSTRUCTED: AtomicBool = AtomicBool::new(false);
static SEEN: AtomicBool = AtomicBool::new(false);

extern "C" fn construct(count: i32, args: *const *const std::ffi::c_char) {
    let mut args = (0..count as usize).map(|i| {
        // SAFETY: libc passes the arguments of `main`.
        unsafe { std::ffi::CStr::from_ptr(*args.add(i)) }
    });
    if args.any(|arg| arg.to_bytes().ends_with(b"race_thread_of_a_constructor")) {
        thread::spawn(|| {
            *OF_CONSTRUCTOR.at() = 1; //~ race constructor
            CONSTRUCTED.store(true, Ordering::Relaxed);
            // Threads that begin after another's end are ordered by std's own locks.
            while !SEEN.load(Ordering::Relaxed) {
                thread::yield_now();
            }
        });
    }
}

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCT: extern "C" fn(i32, *const *const std::ffi::c_char) = construct;

pub fn race_thread_of_a_constructor() {
    while !CONSTRUCTED.load(Ordering::Relaxed) {
        thread::yield_now();
    }
    *OF_CONSTRUCTOR.at() = 2; //~ race constructor
    SEEN.store(true, Ordering::Relaxed);
}

/// Two connections of one server, each with a thread that answers by `handle`; then what the first client says.
fn serve(
    handle: impl Fn(TcpStream) + Copy + Send + Sync + 'static,
    client: impl Fn([TcpStream; 2]),
) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let up = &*leak(AtomicUsize::new(0));
    thread::spawn(move || {
        for connection in listener.incoming() {
            let connection = connection.unwrap();
            thread::spawn(move || {
                up.fetch_add(1, Ordering::Relaxed);
                handle(connection);
            });
        }
    });
    let clients = [(); 2].map(|()| TcpStream::connect(to).unwrap());
    while up.load(Ordering::Relaxed) < 2 {
        thread::yield_now();
    }
    client(clients);
}

pub fn race_two_connections_of_one_server() {
    let hits = var(0);
    serve(
        move |mut connection| {
            connection.read_exact(&mut [0]).unwrap();
            *hits.at() += 1; //~ race
            connection.write_all(b"x").unwrap();
        },
        |mut clients| {
            clients.iter_mut().for_each(|c| c.write_all(b"x").unwrap());
            clients
                .iter_mut()
                .for_each(|c| c.read_exact(&mut [0]).unwrap());
        },
    );
}

pub fn no_race_connections_one_after_the_other() {
    let hits = var(0);
    serve(
        move |mut connection| {
            connection.read_exact(&mut [0]).unwrap();
            *hits.at() += 1;
            connection.write_all(b"x").unwrap();
        },
        move |clients| {
            for mut client in clients {
                *hits.at() += 1;
                client.write_all(b"x").unwrap();
                client.read_exact(&mut [0]).unwrap();
            }
        },
    );
    assert_eq!(*hits.at(), 4);
}

pub fn race_two_files() {
    let x = var(0);
    threads_in_turn(
        move || {
            *x.at() = 1; //~ race
            std::fs::File::options()
                .write(true)
                .open("/dev/null")
                .unwrap();
            drop(
                std::fs::File::open("/proc/self/status")
                    .unwrap()
                    .read(&mut [0]),
            );
        },
        move || {
            std::fs::read("/proc/self/stat").unwrap();
            *x.at() = 2; //~ race
        },
    );
}

static HANDLED: AtomicBool = AtomicBool::new(false);

/// Has a handler of the calling thread release.
fn handle_a_signal() {
    extern "C" fn handler(_signal: i32) {
        HANDLED.store(true, Ordering::Release);
    }
    // SAFETY: a handler.
    unsafe { libc::signal(libc::SIGUSR1, handler as *const () as usize) };
    // SAFETY: a signal with a handler.
    unsafe { libc::raise(libc::SIGUSR1) };
}

/// Waits for the handler, and acquires.
fn wait_for_the_handler() {
    while !HANDLED.load(Ordering::Acquire) {
        thread::yield_now();
    }
}

pub fn no_race_signal_handler() {
    let x = var(0);
    threads(
        move || {
            *x.at() = 1;
            handle_a_signal();
        },
        move || {
            wait_for_the_handler();
            *x.at() = 2;
        },
    );
}

/// What the thread does after the handler is not covered by what the handler released.
pub fn race_after_a_signal_handler() {
    let x = var(0);
    threads(
        move || {
            handle_a_signal();
            *x.at() = 1; //~ race
        },
        move || {
            wait_for_the_handler();
            *x.at() = 2; //~ race
        },
    );
}
