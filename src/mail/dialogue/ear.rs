//! Hears whether a server has said anything, without taking it: one system call that never waits.
//!
//! The runtime knows of a socket what the kernel told it last; to bring that up to date a task must give way, and the whole
//! runtime asks the kernel. A second handle on the same socket asks at once, for this socket alone. It is only ever
//! looked at, so that nothing is lost to the stream that reads.

use std::io;
use std::os::fd::AsFd as _;
use std::os::linux::net::TcpStreamExt as _;

use tokio::net::TcpStream;

/// A second handle on a connection's socket; with the stream it belongs to it must be dropped.
pub(in crate::mail) struct Ear(std::net::TcpStream);

impl Ear {
    /// # Errors
    /// No file handle is left.
    pub(in crate::mail) fn on(tcp: &TcpStream) -> io::Result<Self> {
        // It shares the socket's flags, and tokio's sockets do not block.
        Ok(Self(tcp.as_fd().try_clone_to_owned()?.into()))
    }

    /// Has what came acknowledged now, and not in some 40 ms: many a server that writes its replies one by one sends the second only
    /// then (RFC 896).
    pub(super) fn acknowledge(&self) {
        // It only makes things faster.
        let _ = self.0.set_quickack(true);
    }

    /// Nothing lies there, and the other end has not closed.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) fn silent(&self) -> io::Result<bool> {
        match self.0.peek(&mut [0]) {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        }
    }
}
