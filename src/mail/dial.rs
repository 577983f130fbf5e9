//! Reaching the relay: name, addresses, socket options, and what we call ourselves. Every wait ends within the given time.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

/// Tries the host's addresses in turn, all within `within`. Small writes leave at once (TCP_NODELAY): a mail is many of them.
pub(super) async fn dial(host: &str, port: u16, within: Duration) -> io::Result<TcpStream> {
    let start = Instant::now();
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
    let addresses: Vec<SocketAddr> =
        timeout(within, tokio::net::lookup_host((host, port))).await.map_err(|_| late())??.take(8).collect();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (i, address) in addresses.iter().enumerate() {
        let left = within.saturating_sub(start.elapsed());
        let share = left / u32::try_from(addresses.len() - i).unwrap_or(1);
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let connect = async {
            let socket = socket?;
            socket.set_keepalive(true)?;
            socket.set_nodelay(true)?;
            socket.connect(*address).await
        };
        match timeout(share, connect).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = late(),
        }
    }
    Err(last)
}

/// What EHLO calls us: the host's full name, or its address as a literal where it has none (RFC 5321 4.1.4).
pub(super) fn client_name(local: SocketAddr) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    let fits = |l: &str| !l.is_empty() && l.len() < 64 && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if host.contains('.') && host.len() <= 255 && host.split('.').all(fits) {
        return host.to_owned();
    }
    match local {
        SocketAddr::V4(v4) => format!("[{}]", v4.ip()),
        SocketAddr::V6(v6) => format!("[IPv6:{}]", v6.ip()),
    }
}
