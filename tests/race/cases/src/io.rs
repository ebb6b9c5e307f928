//! What goes through the kernel orders too.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use raddle::sync::Once;
use raddle::time::sleep;

use crate::support::*;

pub fn no_race_io_file() {
    let x = var(0);
    let name = std::env::temp_dir().join(format!("raddle-race-io-{}", std::process::id()));
    let (made, sought) = (name.clone(), name.clone());
    beside(
        move || {
            *x.at() = 42;
            File::create(made).unwrap().write_all(b"done").unwrap();
        },
        move || {
            let mut text = [0; 100];
            while !File::open(&sought).is_ok_and(|mut f| f.read(&mut text).is_ok_and(|n| n > 0)) {
                sleep(Duration::from_millis(1));
            }
            read(*x.at());
        },
    );
    std::fs::remove_file(name).unwrap();
}

static REGISTERED: Once = Once::new();
static HANDLER_DATA: Racy<i32> = Racy::new(0);

fn serve_one(listener: &TcpListener) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut request = [0; 256];
    assert!(stream.read(&mut request).unwrap() > 0);
    *HANDLER_DATA.at() += 1;
    stream.write_all(b"HTTP/1.0 200 OK\r\n\r\ntest").unwrap();
}

fn get(listener: &TcpListener) {
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("test"));
}

pub fn no_race_io_http() {
    REGISTERED.call_once(|| *HANDLER_DATA.at() = 0);
    let listener = leak(TcpListener::bind("127.0.0.1:0").unwrap());
    beside(
        || {
            serve_one(listener);
            serve_one(listener);
        },
        || {
            *HANDLER_DATA.at() += 1;
            raddle::blocking(|| get(listener));
            *HANDLER_DATA.at() += 1;
            raddle::blocking(|| get(listener));
            *HANDLER_DATA.at() += 1;
        },
    );
}
