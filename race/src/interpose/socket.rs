//! Sockets: which are the two ends of a connection, and who gets a datagram.
//!
//! | socket | how its object is found |
//! | --- | --- |
//! | TCP and its like, connected | both ends have the same two addresses: whoever connects or accepts first makes the object |
//! | AF_UNIX, connected | who connects leaves the number of its inode; who accepts asks the kernel for that of the other end |
//! | one that listens | that of its address, where who connects releases, and one byte on acquires |
//! | datagram socket | who sends releases at the address of the receiver, who receives acquires at its own |
//!
//! An address of the Internet's families is its port: which hosts are this one, only the kernel
//! knows. One in the file system is the inode there. Where the kernel does not tell who the other
//! end is, all AF_UNIX streams are one.
//!
//! # Ends that never met
//! Who connects may have written and closed before the other end is accepted; then the object is
//! gone. So an end that is closed before the other has come releases at the address, too. The other
//! way round, while somebody is in `connect`.
//!
//! # Blocking
//! System calls where sockets are connected and accepted; those of datagrams one more, once.

use std::ffi::{c_int, c_void};
use std::mem::{MaybeUninit, offset_of};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering::*};

use libc::{
    AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM, sockaddr,
    sockaddr_in, sockaddr_in6, sockaddr_storage, sockaddr_un, socklen_t,
};

use super::desc::{
    self, ACCEPTED, BOTH, DATAGRAM, LISTENS, Object, SOCKETS, STREAM, UNIX_STREAM, hash, keyed,
    named_by,
};
use super::real::{errno, keep_errno};
use crate::{acquire, release_merge};

/// Calls of `connect` that have not returned.
static CONNECTING: AtomicU32 = AtomicU32::new(0);

/// An address as the kernel has it.
struct Address {
    of: sockaddr_storage,
    len: usize,
}

impl Address {
    /// The first bytes, as a type that they may be of.
    fn as_type<T>(&self) -> &T {
        // SAFETY: the storage is large enough and aligned for every address, all of whose bit
        // patterns are valid; what is missing is zero.
        unsafe { &*(&raw const self.of).cast::<T>() }
    }

    fn family(&self) -> c_int {
        c_int::from(self.of.ss_family)
    }

    /// A copy of a caller's.
    ///
    /// # Safety
    /// `at` is null or has `len` bytes.
    unsafe fn of(at: *const sockaddr, len: socklen_t) -> Option<Address> {
        let len = (len as usize).min(size_of::<sockaddr_storage>());
        if at.is_null() || len < size_of::<libc::sa_family_t>() {
            return None;
        }
        let mut of = MaybeUninit::<sockaddr_storage>::zeroed();
        // SAFETY: by the contract, and there is room.
        unsafe { ptr::copy_nonoverlapping(at.cast::<u8>(), of.as_mut_ptr().cast(), len) };
        // SAFETY: zeros, and the bytes of an address.
        let of = unsafe { of.assume_init() };
        Some(Address { of, len })
    }

    /// What `getsockname` or `getpeername` says.
    fn ask(
        fd: c_int,
        how: unsafe extern "C" fn(c_int, *mut sockaddr, *mut socklen_t) -> c_int,
    ) -> Option<Address> {
        let mut of = MaybeUninit::<sockaddr_storage>::zeroed();
        let mut len = size_of::<sockaddr_storage>() as socklen_t;
        // SAFETY: room for every address.
        if keep_errno(|| unsafe { how(fd, of.as_mut_ptr().cast(), &mut len) }) != 0 {
            return None;
        }
        // SAFETY: zeros, and what the kernel wrote.
        let of = unsafe { of.assume_init() };
        let len = len as usize;
        Some(Address { of, len })
    }

    fn own(fd: c_int) -> Option<Address> {
        Address::ask(fd, libc::getsockname)
    }

    /// Host and port, of both of the Internet's families; the host that is none is this one.
    fn host_and_port(&self) -> Option<(u128, u16)> {
        const MAPPED: u128 = 0xffff_0000_0000;
        match self.family() {
            AF_INET => {
                let at = self.as_type::<sockaddr_in>();
                let host = match u32::from_be(at.sin_addr.s_addr) {
                    0 => 0x7f00_0001,
                    host => host,
                };
                Some((MAPPED | u128::from(host), u16::from_be(at.sin_port)))
            }
            AF_INET6 => {
                let at = self.as_type::<sockaddr_in6>();
                let host = match u128::from_be_bytes(at.sin6_addr.s6_addr) {
                    0 => 1,
                    host => host,
                };
                Some((host, u16::from_be(at.sin6_port)))
            }
            _ => None,
        }
    }

    /// The object of the address; None: it has no name.
    fn object(&self) -> Option<&'static Object> {
        match self.family() {
            AF_INET | AF_INET6 => match self.host_and_port()? {
                (_, 0) => None,
                (_, port) => Some(keyed(hash(2, port.into(), 0))),
            },
            AF_UNIX => self.name_in_files(),
            _ => None,
        }
    }

    fn name_in_files(&self) -> Option<&'static Object> {
        let name = &self.as_type::<sockaddr_un>().sun_path;
        let len = self.len.checked_sub(offset_of!(sockaddr_un, sun_path))?;
        let name = &name[..len.min(name.len())];
        if *name.first()? != 0 {
            let mut status = MaybeUninit::<libc::stat>::uninit();
            // SAFETY: a path, behind which there are zeros: the storage is larger than any; and
            // room for the answer.
            if keep_errno(|| unsafe { libc::stat(name.as_ptr(), status.as_mut_ptr()) }) != 0 {
                return None;
            }
            // SAFETY: filled by the call.
            let status = unsafe { status.assume_init() };
            return Some(desc::inode(status.st_dev, status.st_ino));
        }
        let mixed = name.iter().fold(0, |mixed, &byte| {
            hash(3, mixed, u64::from(byte.cast_unsigned()))
        });
        (name.len() > 1).then(|| keyed(mixed))
    }
}

/// The key of a connection between two addresses, the same from both ends.
fn key_of(a: &Address, b: &Address) -> Option<u64> {
    let half = |address: &Address| {
        let (host, port) = address.host_and_port()?;
        Some(hash((host >> 64) as u64, host as u64, port.into()))
    };
    let (a, b) = (half(a)?, half(b)?);
    Some(hash(4, a.min(b), a.max(b)).max(1))
}

/// The key of an AF_UNIX socket with this inode.
fn key_of_inode(inode: u64) -> u64 {
    hash(5, inode, 0).max(1)
}

/// Where who connects to the address acquires, and who listens there releases.
fn other_way(address: &Object) -> usize {
    address.addr() + 1
}

/// There is a new socket.
pub(super) fn made(fd: c_int, domain: c_int, kind: c_int) {
    desc::set(fd, object_of(domain, kind));
}

fn object_of(domain: c_int, kind: c_int) -> &'static Object {
    let kind = kind & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC);
    match (domain, kind) {
        (AF_INET | AF_INET6, SOCK_STREAM | SOCK_SEQPACKET) => desc::new_object(STREAM),
        (AF_UNIX, SOCK_STREAM | SOCK_SEQPACKET) => desc::new_object(UNIX_STREAM),
        (AF_INET | AF_INET6 | AF_UNIX, SOCK_DGRAM) => desc::new_object(DATAGRAM),
        (AF_NETLINK, _) => desc::new_object(0),
        _ => SOCKETS,
    }
}

/// A number that the kernel knows of a socket.
fn option(fd: c_int, name: c_int) -> c_int {
    let (mut value, mut len) = (-1, size_of::<c_int>() as socklen_t);
    let (to, len) = (&raw mut value, &raw mut len);
    // SAFETY: room for a number.
    keep_errno(|| unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, name, to.cast(), len) });
    value
}

/// The object of a socket that we did not see made. It is not freed: its descriptor may be one of
/// many.
pub(super) fn look_at(fd: c_int) -> &'static Object {
    let (domain, kind) = (option(fd, libc::SO_DOMAIN), option(fd, libc::SO_TYPE));
    let own = Address::own(fd);
    match (domain, kind) {
        (AF_INET | AF_INET6, SOCK_STREAM | SOCK_SEQPACKET) => {
            let peer = Address::ask(fd, libc::getpeername);
            let listens = option(fd, libc::SO_ACCEPTCONN) == 1;
            match (own, peer) {
                (Some(own), _) if listens => own.object().unwrap_or(SOCKETS),
                (Some(own), Some(peer)) => key_of(&own, &peer).map_or(SOCKETS, keyed),
                _ => SOCKETS,
            }
        }
        (AF_INET | AF_INET6, SOCK_DGRAM) => desc::new_object(DATAGRAM),
        _ => SOCKETS,
    }
}

/// The object of a datagram socket's address, once it has one.
pub(super) fn address_of(fd: c_int, object: &'static Object) -> Option<&'static Object> {
    if let Some(address) = named_by(&object.address) {
        return Some(address);
    }
    let address = Address::own(fd)?.object()?;
    object.address.store(address.as_ptr(), Release); // pairs with `named_by`
    desc::watched_as(object, address);
    Some(address)
}

/// The socket is bound.
pub(super) fn bound(fd: c_int) {
    let object = desc::object(fd);
    if object.has(DATAGRAM)
        && let Some(address) = address_of(fd, object)
    {
        release_merge(other_way(address));
    }
}

/// The socket is about to listen, or does already.
pub(super) fn listens(fd: c_int) {
    if let Some(address) = Address::own(fd).and_then(|own| own.object()) {
        release_merge(other_way(address));
        address.is.fetch_or(LISTENS, Relaxed);
        desc::becomes(fd, address);
    }
}

/// Something is about to be sent to an address, if there is one.
///
/// # Safety
/// `to` is null or has `len` bytes.
pub(super) unsafe fn sends_to(fd: c_int, to: *const sockaddr, len: socklen_t) {
    // SAFETY: by the contract.
    if let Some(to) = unsafe { Address::of(to, len) }
        && desc::object(fd).has(DATAGRAM)
        && let Some(address) = to.object()
    {
        desc::publish_at(address);
        acquire(other_way(address));
    }
}

/// The socket is about to be connected to the address.
///
/// # Safety
/// `to` is null or has `len` bytes.
pub(super) unsafe fn connects(fd: c_int, to: *const sockaddr, len: socklen_t) {
    // SAFETY: by the contract.
    let address = unsafe { Address::of(to, len) }.and_then(|to| to.object());
    let object = desc::object(fd);
    object.peer.store(
        address.map_or(ptr::null_mut(), Object::as_ptr),
        Release, // pairs with `named_by`
    );
    CONNECTING.fetch_add(1, SeqCst); // pairs with the load in `ends`
    if let Some(address) = address {
        desc::publish_at(address);
    }
    if object.has(UNIX_STREAM) {
        match desc::status(fd) {
            Some((_, _, inode)) if tells_peers(inode) => desc::find_by(fd, key_of_inode(inode)),
            _ => desc::becomes(fd, SOCKETS),
        }
    }
}

/// The socket was connected to the address, or is being connected, or could not be.
///
/// # Safety
/// `to` is null or has `len` bytes.
pub(super) unsafe fn connected(fd: c_int, to: *const sockaddr, len: socklen_t, result: c_int) {
    let goes_on = result == 0 || errno() == libc::EINPROGRESS;
    let object = desc::object(fd);
    let (address, sends_datagrams) = (named_by(&object.peer), object.has(DATAGRAM));
    if goes_on && object.has(STREAM) {
        // SAFETY: by the contract.
        let to = || unsafe { Address::of(to, len) };
        let peer = Address::ask(fd, libc::getpeername).or_else(to);
        let own = Address::own(fd);
        if let (Some(own), Some(peer)) = (own, peer)
            && let Some(key) = key_of(&own, &peer)
            && !desc::is_by(object, key)
        {
            let connection = desc::joined(key, STREAM);
            let peer = address.map_or(ptr::null_mut(), Object::as_ptr);
            if !connection.has(BOTH) {
                connection.peer.store(peer, Release); // pairs with `named_by`
            }
            desc::becomes(fd, connection);
            desc::leave(connection);
        }
    }
    CONNECTING.fetch_sub(1, SeqCst);
    if sends_datagrams {
        address_of(fd, object);
    }
    if goes_on && let Some(address) = address {
        acquire(other_way(address)); // whoever listens was there before
    }
}

/// A socket that listens has given a new one.
pub(super) fn accepted(listener: c_int, fd: c_int) {
    let address = desc::object(listener);
    let own = Address::own(fd);
    let peer = Address::ask(fd, libc::getpeername);
    let family = own.as_ref().map_or(0, Address::family);
    let connection = match (own, peer) {
        (Some(own), Some(peer)) if family != AF_UNIX => {
            key_of(&own, &peer).map(|key| desc::joined(key, STREAM | ACCEPTED))
        }
        _ if family == AF_UNIX => match desc::status(fd) {
            Some((_, _, inode)) if tells_peers(inode) => peer_of(inode)
                .ok()
                .flatten()
                .and_then(|peer| desc::other_end(key_of_inode(peer))),
            _ => return desc::set(fd, SOCKETS),
        },
        _ => None,
    };
    match connection {
        Some(connection) => {
            if !connection.has(BOTH) {
                connection.peer.store(address.as_ptr(), Release); // pairs with `named_by`
            }
            desc::settle(fd, connection);
        }
        None if matches!(family, AF_INET | AF_INET6 | AF_UNIX) => {
            desc::set(fd, desc::new_object(ACCEPTED));
        }
        None => desc::set(fd, SOCKETS),
    }
}

/// The last descriptor with the object is about to be closed. See the header.
pub(super) fn ends(object: &'static Object) {
    if object.has(BOTH) || !object.has(STREAM | UNIX_STREAM) {
        return;
    }
    let Some(address) = named_by(&object.peer) else {
        return;
    };
    if object.has(ACCEPTED) {
        if CONNECTING.load(SeqCst) != 0 {
            release_merge(other_way(address));
        }
    } else if address.has(LISTENS) {
        desc::publish_at(address);
    }
}

/// Whether the kernel tells who the other end of an AF_UNIX stream is; asked once, of a socket that
/// is there.
fn tells_peers(inode: u64) -> bool {
    /// 0: not asked yet; 1: yes; 2: no.
    static ANSWER: AtomicU32 = AtomicU32::new(0);
    if ANSWER.load(Relaxed) == 0 {
        ANSWER.store(if peer_of(inode).is_ok() { 1 } else { 2 }, Relaxed);
    }
    ANSWER.load(Relaxed) == 1
}

/// A question of the kernel's socket diagnosis (`linux/unix_diag.h`).
#[repr(C)]
struct Question {
    len: u32,
    kind: u16,
    flags: u16,
    number: u32,
    port: u32,
    family: u8,
    protocol: u8,
    pad: u16,
    states: u32,
    inode: u32,
    show: u32,
    cookie: [u32; 2],
}

/// The kernel does not answer.
struct NoAnswer;

/// The inode of the other end of the AF_UNIX socket with this inode, if it has one.
fn peer_of(inode: u64) -> Result<Option<u64>, NoAnswer> {
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const SHOW_PEER: u32 = 4;
    const PEER: u16 = 2;
    const PROTOCOL: c_int = 4;
    /// Of the answer: the header of the message, and what says which socket it is.
    const BEFORE: usize = 16 + 16;
    let question = Question {
        len: size_of::<Question>() as u32,
        kind: SOCK_DIAG_BY_FAMILY,
        flags: libc::NLM_F_REQUEST as u16,
        number: 1,
        port: 0,
        family: AF_UNIX as u8,
        protocol: 0,
        pad: 0,
        states: u32::MAX,
        inode: inode as u32,
        show: SHOW_PEER,
        cookie: [u32::MAX; 2],
    };
    let mut answer = [0_u32; 256];
    let room = size_of_val(&answer);
    let kind = SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // By system calls: these are nobody's descriptors.
    let n = keep_errno(|| {
        // SAFETY: makes a socket.
        let fd = unsafe { libc::syscall(libc::SYS_socket, AF_NETLINK, kind, PROTOCOL) };
        if fd < 0 {
            return -1;
        }
        let none = ptr::null_mut::<c_void>();
        let (from, len) = (&raw const question, size_of::<Question>());
        // SAFETY: so many bytes, to the kernel.
        let sent = unsafe { libc::syscall(libc::SYS_sendto, fd, from, len, 0, none, 0) };
        let to = answer.as_mut_ptr();
        let n = if sent < 0 {
            -1
        } else {
            // SAFETY: there is so much room; the answer is there already, so nothing blocks.
            unsafe {
                libc::syscall(
                    libc::SYS_recvfrom,
                    fd,
                    to,
                    room,
                    libc::MSG_DONTWAIT,
                    none,
                    none,
                )
            }
        };
        // SAFETY: made above.
        unsafe { libc::syscall(libc::SYS_close, fd) };
        n
    });
    let bytes = usize::try_from(n).map_err(|_| NoAnswer)?;
    let is_answer = answer[1] as u16 == SOCK_DIAG_BY_FAMILY;
    if !is_answer || bytes < BEFORE {
        return Err(NoAnswer);
    }
    let words = &answer[..bytes / 4];
    let mut at = BEFORE / 4;
    // Attributes: two bytes of length, header included, two of type, and what it says; each begins
    // at a word.
    while let Some(&head) = words.get(at) {
        let (len, kind) = ((head & 0xffff) as usize, (head >> 16) as u16);
        if kind == PEER {
            let peer = words.get(at + 1).copied().unwrap_or(0);
            return Ok(Some(u64::from(peer)).filter(|&peer| peer != 0));
        }
        at += len.max(4).div_ceil(4);
    }
    Ok(None)
}
