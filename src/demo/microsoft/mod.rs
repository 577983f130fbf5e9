//! A simulated login service of Microsoft on loopback: realms, tenants, and tokens for applications, with the bodies that the
//! real one was recorded with. It is as strict: a token is for a known client with its own credential, and a tenant that has
//! not consented answers `AADSTS700016` *before* the credential is looked at, the order that hides most.
//!
//! It does not imitate signing in, and it knows no users.

mod answer;
pub mod forgetful;
mod world;

use std::net::Ipv4Addr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

pub use world::{Asked, Grant, LoginFault, LoginWorld, SharedLogin, WorldTenant};

/// More than any request.
const MAX_POST: usize = 64 * 1024;
/// How long a request that is never answered is held, should the visitor not give up.
const HANG: Duration = Duration::from_secs(600);

/// The service, running. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct LoginService {
    /// `microsoft.login_url`
    pub url: Url,
    world: SharedLogin,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

#[derive(Debug, Clone)]
struct App {
    world: SharedLogin,
    stop: CancellationToken,
}

impl LoginService {
    /// Starts the service on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When loopback gives no port.
    pub async fn start(world: SharedLogin) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = Url::parse(&format!("http://{}", listener.local_addr()?)).map_err(std::io::Error::other)?;
        world.lock().origin = url.origin().ascii_serialization();
        let stop = CancellationToken::new();
        let router = Router::new().fallback(serve).with_state(App { world: world.clone(), stop: stop.clone() });
        let server = tokio::spawn({
            let stop = stop.clone();
            async move {
                let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
                if let Err(error) = served {
                    tracing::warn!(%error, "the simulated login service stopped");
                }
            }
        });
        Ok(Self { url, world, stop, server })
    }

    /// What it knows and what it was asked.
    #[must_use]
    pub fn world(&self) -> &SharedLogin {
        &self.world
    }
}

impl Drop for LoginService {
    fn drop(&mut self) {
        self.stop.cancel();
        self.server.abort();
    }
}

/// Counts a request for as long as it is answered, also when the visitor goes away.
struct Counted(SharedLogin);

impl Counted {
    fn new(world: &SharedLogin) -> Self {
        let mut login = world.lock();
        login.at_once += 1;
        login.most_at_once = login.most_at_once.max(login.at_once);
        Self(world.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.lock().at_once -= 1;
    }
}

async fn serve(State(app): State<App>, request: Request) -> Response {
    let _counted = Counted::new(&app.world);
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MAX_POST).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let path: Vec<String> = head
        .uri
        .path()
        .split('/')
        .skip(1)
        .map(|part| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned())
        .collect();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&body).into_owned().collect();
    let answer = answer::answer(&mut app.world.lock(), &path, &form);
    let Some(answer) = answer else {
        tokio::select! {
            () = tokio::time::sleep(HANG) => {}
            () = app.stop.cancelled() => {}
        }
        return StatusCode::GATEWAY_TIMEOUT.into_response();
    };
    let mut response = Response::builder().status(answer.status).header(header::CONTENT_TYPE, answer.content_type);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(Body::from(answer.body)).unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}
