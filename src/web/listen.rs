//! Connections: how many, how long, how slow. axum's own loop has no such limits.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a client may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections at once; the next ones wait in the kernel's queue.
    connections: usize,
    /// A request's head must be there in this time: slow clients are cut off.
    head: Duration,
    /// No connection lives longer, whatever it does.
    life: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 256, head: Duration::from_secs(10), life: Duration::from_secs(300) }
    }
}

/// A request's head is no larger.
const HEAD_MAX: usize = 32 * 1024;

/// After the stop, requests under way have so long.
const FAREWELL: Duration = Duration::from_secs(3);

pub(super) async fn serve(
    listener: TcpListener,
    app: Router,
    limits: Limits,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let places = Arc::new(Semaphore::new(limits.connections));
    let tracker = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            } => accepted,
        };
        let (Ok(place), Ok((stream, peer))) = accepted else {
            // Out of file handles, or the client is gone already: neither ends the service.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let service = TowerToHyperService::new(app.clone().layer(axum::Extension(ConnectInfo(peer))));
        let stop = stop.clone();
        tracker.spawn(async move {
            let _place = place;
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(HEAD_MAX);
            let connection = http.serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                // What goes wrong on a connection is the client's business.
                _ = connection.as_mut() => {}
                () = tokio::time::sleep(limits.life) => {}
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    let _ = tokio::time::timeout(FAREWELL, connection).await;
                }
            }
        });
    }
    tracker.close();
    tracker.wait().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    async fn server(limits: Limits) -> (std::net::SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let app = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/slow", get(|| async { std::future::pending::<&str>().await }));
        tokio::spawn(serve(listener, app, limits, stop.clone()));
        (address, stop)
    }

    /// Waits until the server closes the connection; what it said before.
    async fn until_closed(stream: &mut TcpStream) -> String {
        let mut said = Vec::new();
        let mut chunk = [0; 1024];
        while let Ok(n @ 1..) = stream.read(&mut chunk).await {
            said.extend_from_slice(&chunk[..n]);
        }
        String::from_utf8_lossy(&said).into_owned()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_takes_too_long_for_the_head_or_altogether_is_cut_off() {
        let (short, long) = (Duration::from_millis(200), Duration::from_secs(3600));
        let impatient = Limits { head: short, life: long, ..Limits::default() };
        let mortal = Limits { head: long, life: short, ..Limits::default() };
        for (what, limits, sent, answered) in [
            ("half a head", impatient, "GET / HTTP/1.1\r\nhost: a", false),
            ("nothing at all", impatient, "", false),
            ("a request, then silence", impatient, "GET / HTTP/1.1\r\nhost: a\r\n\r\n", true),
            ("an answer without end", mortal, "GET /slow HTTP/1.1\r\nhost: a\r\n\r\n", false),
        ] {
            let (address, stop) = server(limits).await;
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(sent.as_bytes()).await.unwrap();
            let said = until_closed(&mut stream).await;
            assert_eq!(said.contains("here"), answered, "{what}: {said}");
            stop.cancel();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_connection_beyond_the_limit_waits_for_a_place() {
        let (address, stop) = server(Limits { connections: 1, ..Limits::default() }).await;
        let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        let first = TcpStream::connect(address).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_all(request).await.unwrap();
        let mut byte = [0];
        let early = tokio::time::timeout(Duration::from_millis(100), second.read(&mut byte)).await;
        assert!(early.is_err(), "there is one place, and it is taken");
        drop(first);
        assert!(until_closed(&mut second).await.contains("here"));
        stop.cancel();
    }
}
