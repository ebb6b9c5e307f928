//! Channels and select for Raddle.
//!
//! Channels carry messages between goroutines (and plain threads). The interface is that of crossbeam-channel: [`bounded`],
//! [`unbounded`], [`Sender`], [`Receiver`], [`select!`], [`Select`], and the clocks [`after`], [`at`], [`tick`]; plus Go's
//! [`close`](Sender::close). In race mode every operation is an event that orders the goroutines, and a send that is not ordered with
//! a close is reported.
//!
//! The modules, from the bottom up:
//!
//! | module | owns |
//! | --- | --- |
//! | `elem` | what is known of an element type |
//! | `lock`, `waiter` | the lock of a channel; who waits on it, in queues |
//! | `ring`, `list`, `clock` | where messages are, or come from |
//! | `core` | the channel and its operations |
//! | `alarm` | operations with a time limit, and without any wait |
//! | `hooks` | race events |
//! | `handle`, `sender`, `receiver`, `iter`, `make` | the typed shell |
//! | `select` | several operations at once |
//!
//! # Examples
//!
//! ```
//! use raddle::chan::{bounded, select, tick};
//! use std::time::Duration;
//!
//! let (s, r) = bounded(16);
//! let producer = std::thread::spawn(move || {
//!     for n in 0..100 {
//!         s.send(n).unwrap();
//!     }
//! });
//! let ticker = tick(Duration::from_secs(1));
//! let mut sum = 0;
//! loop {
//!     select! {
//!         recv(r) -> msg => match msg {
//!             Ok(n) => sum += n,
//!             Err(_) => break,
//!         },
//!         recv(ticker) -> _ => println!("still busy"),
//!     }
//! }
//! assert_eq!(sum, 4950);
//! # producer.join().unwrap();
//! ```

mod alarm;
mod clock;
mod core;
mod elem;
mod error;
mod handle;
mod hooks;
mod iter;
mod list;
mod lock;
mod make;
mod receiver;
mod ring;
mod rng;
mod select;
mod sender;
mod waiter;

pub use error::{
    ReadyTimeoutError, RecvError, RecvTimeoutError, SelectTimeoutError, SendError,
    SendTimeoutError, TryReadyError, TryRecvError, TrySelectError, TrySendError,
};
pub use iter::{IntoIter, Iter, TryIter};
pub use make::{after, at, bounded, never, tick, unbounded};
pub use receiver::Receiver;
#[doc(hidden)]
pub use select::internal;
pub use select::{Select, SelectedOperation};
pub use sender::Sender;
