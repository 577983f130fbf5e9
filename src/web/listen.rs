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

/// Connections at once; the next ones wait in the kernel's queue.
const CONNECTIONS: usize = 256;

/// A request's head must be there in this time: slow clients are cut off.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// A request's head is no larger.
const HEAD_MAX: usize = 32 * 1024;

/// No connection lives longer, whatever it does.
const LIFE_MAX: Duration = Duration::from_secs(300);

/// After the stop, requests under way have so long.
const FAREWELL: Duration = Duration::from_secs(3);

pub(super) async fn serve(listener: TcpListener, app: Router, stop: CancellationToken) -> std::io::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
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
            http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_MAX);
            let connection = http.serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                // What goes wrong on a connection is the client's business.
                _ = connection.as_mut() => {}
                () = tokio::time::sleep(LIFE_MAX) => {}
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
