//! A simulated ExLook管理ツール: an ASP.NET WebForms application on loopback, as strict as the real thing. A page's hidden
//! fields and successful controls must all come back, view states are bound to their session, posts are read in the page's
//! charset, and every submit control but the log-on button is recorded as a violation.
//!
//! It does not imitate ids, styles or the real vendor's markup, which is not published; see [`Variant`] for how pages look
//! and [`Fault`] for what goes wrong. Pages are not compressed.

mod answer;
mod fault;
mod form;
mod issued;
mod pages;
mod session;
pub mod text;
mod variant;
mod world;

#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use answer::Answer;
pub use answer::{Drawn, drawn};
pub use fault::Fault;
pub use issued::Breach;
pub use variant::{Charset, Controls, Hidden, Lettering, LogOff, SiteList, Tabs, Variant};
pub use world::{
    Counters, Expected, LogonButton, LogonLook, Logons, SharedWorld, Violation, World, WorldCustomer, WorldSite,
};

/// The largest post: ASP.NET's own default, 4 MiB.
const MAX_POST: usize = 4 * 1024 * 1024;
/// How long a request that is never answered is held, should the visitor not give up.
const HANG: Duration = Duration::from_secs(600);
/// Where an endless page ends all the same: 512 MiB.
const ENDLESS_CHUNKS: usize = 8192;
/// How long a shutdown waits for answers under way.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// The tool, running. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct AdminTool {
    /// Where administrators log on.
    pub logon_url: Url,
    world: SharedWorld,
    stop: CancellationToken,
    servers: Vec<JoinHandle<()>>,
}

#[derive(Debug, Clone)]
struct App {
    world: SharedWorld,
    stop: CancellationToken,
}

impl AdminTool {
    /// Starts the tool on a free port of 127.0.0.1, and beside it the other origin that nobody should visit.
    ///
    /// # Errors
    /// When loopback gives no port.
    pub async fn start(world: SharedWorld) -> std::io::Result<Self> {
        let tool = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = tool.local_addr()?;
        world.lock().elsewhere = format!("http://{}/", other.local_addr()?);
        let logon_url =
            Url::parse(&format!("http://{address}/exlookconfig/logon.aspx")).map_err(std::io::Error::other)?;
        let stop = CancellationToken::new();
        let app = App { world: world.clone(), stop: stop.clone() };
        let servers = vec![
            serve(tool, Router::new().fallback(tool_request).with_state(app.clone()), stop.clone()),
            serve(other, Router::new().fallback(other_request).with_state(app), stop.clone()),
        ];
        Ok(Self { logon_url, world, stop, servers })
    }

    /// What the tool knows and what its visitor did.
    #[must_use]
    pub fn world(&self) -> &SharedWorld {
        &self.world
    }

    /// Stops: no new requests, answers under way get two seconds.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        for mut server in self.servers.drain(..) {
            if tokio::time::timeout(LAST_ANSWERS, &mut server).await.is_err() {
                server.abort();
            }
        }
    }
}

impl Drop for AdminTool {
    fn drop(&mut self) {
        self.stop.cancel();
        self.servers.iter().for_each(JoinHandle::abort);
    }
}

fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> JoinHandle<()> {
    tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::warn!(%error, "the simulated admin tool stopped");
        }
    })
}

/// Counts a request for as long as it is answered, also when the visitor goes away.
struct InFlight(SharedWorld);

impl InFlight {
    fn new(world: &SharedWorld) -> Self {
        let counters = &mut world.lock().counters;
        counters.requests += 1;
        counters.in_flight += 1;
        counters.max_in_flight = counters.max_in_flight.max(counters.in_flight);
        Self(world.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.lock().counters.in_flight -= 1;
    }
}

async fn tool_request(State(app): State<App>, request: Request) -> Response {
    let _counted = InFlight::new(&app.world);
    let Some(request) = read(request).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let answer = answer::answer(&mut app.world.lock(), &request);
    match answer {
        Answer::Whole(page) => respond(page, Body::from),
        Answer::Endless(page) => respond(page, endless),
        Answer::Cut(page) => respond(page, cut),
        Answer::Hang => {
            tokio::select! {
                () = tokio::time::sleep(HANG) => {}
                () = app.stop.cancelled() => {}
            }
            StatusCode::GATEWAY_TIMEOUT.into_response()
        }
    }
}

async fn other_request(State(app): State<App>) -> &'static str {
    app.world.lock().counters.elsewhere += 1;
    "elsewhere"
}

/// Reads a request whole; `None` if it is neither GET nor a form post, or too large.
async fn read(request: Request) -> Option<answer::Request> {
    let (head, body) = request.into_parts();
    let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let is_post = head.method == Method::POST;
    let is_form = text(header::CONTENT_TYPE).to_ascii_lowercase().starts_with("application/x-www-form-urlencoded");
    if !(head.method == Method::GET || is_post && is_form) {
        return None;
    }
    let cookies = text(header::COOKIE);
    let cookie = |pair: &str| pair.trim().split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    Some(answer::Request {
        is_post,
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        cookies: cookies.split(';').filter_map(cookie).collect(),
        user_agent: text(header::USER_AGENT),
        body: axum::body::to_bytes(body, MAX_POST).await.ok()?.to_vec(),
    })
}

fn respond(page: answer::Response, body: impl FnOnce(Vec<u8>) -> Body) -> Response {
    let mut response = Response::builder()
        .status(page.status)
        .header(header::CONTENT_TYPE, page.content_type)
        .header(header::CACHE_CONTROL, "private")
        .header(header::SERVER, "Microsoft-IIS/10.0")
        .header("x-aspnet-version", "4.0.30319");
    for (name, value) in page.headers {
        response = response.header(name, value);
    }
    response.body(body(page.body)).unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

fn endless(beginning: Vec<u8>) -> Body {
    let more = Bytes::from("<li>利用者</li>\r\n".repeat(3000));
    let chunks = (0..ENDLESS_CHUNKS).map(move |at| if at == 0 { Bytes::from(beginning.clone()) } else { more.clone() });
    Body::from_stream(stream::iter(chunks.map(Ok::<_, std::convert::Infallible>)))
}

fn cut(beginning: Vec<u8>) -> Body {
    let broken = async {
        // The beginning must be on the wire first, or the visitor would see no answer at all.
        tokio::time::sleep(Duration::from_millis(20)).await;
        Err(std::io::Error::new(std::io::ErrorKind::ConnectionReset, "cut off on purpose"))
    };
    Body::from_stream(stream::once(async { Ok(Bytes::from(beginning)) }).chain(stream::once(broken)))
}
