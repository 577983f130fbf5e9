//! The way out by Microsoft Graph, against a small server on loopback: what counts as accepted, and what is never taken for it.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kigen::config::{GraphConfig, Rate};
use kigen::domain::customer::Address;
use kigen::domain::delivery::Outcome;
use kigen::mail::graph::Graph;
use kigen::mail::{Outgoing, Transport};
use kigen::secret::SecretSource;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const MESSAGE: &[u8] =
    b"From: support@example.jp\r\nTo: taro@example.com\r\nMessage-ID: <a@example.jp>\r\n\r\nHello\r\n";

/// Path, Authorization, Content-Type and body of one mail.
type Seen = (String, String, String, Vec<u8>);

#[derive(Default)]
struct Server {
    answers: Mutex<VecDeque<(u16, Option<&'static str>, &'static str)>>,
    mails: Mutex<Vec<Seen>>,
    tokens: Mutex<u32>,
}

async fn token(State(server): State<Arc<Server>>) -> String {
    let mut tokens = server.tokens.lock().unwrap();
    *tokens += 1;
    format!(r#"{{"token_type":"Bearer","expires_in":3600,"access_token":"t{tokens}"}}"#)
}

async fn send_mail(State(server): State<Arc<Server>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let header = |name: &str| parts.headers.get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap().to_vec();
    let seen = (parts.uri.path().to_owned(), header("authorization"), header("content-type"), body);
    server.mails.lock().unwrap().push(seen);
    let (status, pause, text) = server.answers.lock().unwrap().pop_front().unwrap_or((202, None, ""));
    let mut response = (axum::http::StatusCode::from_u16(status).unwrap(), text).into_response();
    if let Some(pause) = pause {
        response.headers_mut().insert("retry-after", pause.parse().unwrap());
    }
    response
}

async fn start() -> (Arc<Server>, String) {
    let server = Arc::new(Server::default());
    let router = Router::new()
        .route("/token", post(token))
        .route("/v1.0/users/{user}/sendMail", post(send_mail))
        .with_state(Arc::clone(&server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (server, url)
}

fn transport(url: &str, token_url: &str) -> Graph {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "s3cret").unwrap();
    Graph::new(&GraphConfig {
        url: url.parse().unwrap(),
        user: "support@example.jp".to_owned(),
        token_url: format!("{token_url}/token").parse().unwrap(),
        client_id: "id".to_owned(),
        client_secret: SecretSource::File(secret.path().to_owned()),
        scope: "scope".to_owned(),
        rate: Rate { count: 1000, per: Duration::from_secs(1) },
        timeout: Duration::from_secs(5),
    })
    .unwrap()
}

fn mail() -> Outgoing {
    let address = |text: &str| Address::new(text).unwrap();
    Outgoing {
        envelope_from: address("support@example.jp"),
        recipients: vec![address("taro@example.com")],
        message: MESSAGE.to_vec(),
    }
}

#[tokio::test]
async fn a_mail_is_posted_whole_and_only_202_is_accepted() {
    let (server, url) = start().await;
    let mut graph = transport(&url, &url);
    assert_eq!(graph.send(&mail()).await.outcome, Outcome::Accepted);
    assert_eq!(graph.send(&mail()).await.outcome, Outcome::Accepted);
    let mails = server.mails.lock().unwrap().clone();
    let (path, authorization, content_type, body) = &mails[0];
    assert_eq!(path, "/v1.0/users/support@example.jp/sendMail");
    assert_eq!((authorization.as_str(), content_type.as_str()), ("Bearer t1", "text/plain"));
    assert_eq!(BASE64.decode(body).unwrap(), MESSAGE);
    assert_eq!(*server.tokens.lock().unwrap(), 1, "a token is kept");

    let rows = [
        ((200, None, ""), Outcome::Unknown),
        ((429, Some("0"), r#"{"error":{"code":"ApplicationThrottled","message":"slow down"}}"#), Outcome::Deferred),
        ((503, Some("0"), ""), Outcome::Deferred),
        ((504, None, ""), Outcome::Unknown),
        ((403, None, r#"{"error":{"code":"ErrorAccessDenied","message":"no"}}"#), Outcome::Blocked),
        ((400, None, r#"{"error":{"code":"ErrorInvalidRecipients","message":"no"}}"#), Outcome::Rejected),
        ((302, None, ""), Outcome::Blocked),
    ];
    for (answer, expected) in rows {
        server.answers.lock().unwrap().push_back(answer);
        let attempt = graph.send(&mail()).await;
        assert_eq!(attempt.outcome, expected, "{answer:?}: {}", attempt.reply);
    }
}

#[tokio::test]
async fn a_revoked_token_is_fetched_anew_once() {
    let (server, url) = start().await;
    let mut graph = transport(&url, &url);
    server.answers.lock().unwrap().extend([(401, None, ""), (202, None, "")]);
    assert_eq!(graph.send(&mail()).await.outcome, Outcome::Accepted);
    assert_eq!(*server.tokens.lock().unwrap(), 2);
    server.answers.lock().unwrap().extend([(401, None, ""), (401, None, "")]);
    let attempt = graph.send(&mail()).await;
    assert_eq!(attempt.outcome, Outcome::Blocked);
    assert!(!attempt.reply.contains("t2") && !attempt.reply.contains("s3cret"), "{}", attempt.reply);
}

#[tokio::test]
async fn a_request_without_an_answer_is_unknown_and_one_that_never_left_is_not() {
    let (_server, tokens) = start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // All of it is taken, then the connection ends without a word.
        let mut seen = Vec::new();
        let body = BASE64.encode(MESSAGE);
        while !String::from_utf8_lossy(&seen).ends_with(&body) {
            let mut piece = [0; 4096];
            let n = stream.read(&mut piece).await.unwrap();
            seen.extend_from_slice(&piece[..n]);
        }
        stream.shutdown().await.unwrap();
    });
    let mut graph = transport(&url, &tokens);
    let attempt = graph.send(&mail()).await;
    assert_eq!(attempt.outcome, Outcome::Unknown, "{}", attempt.reply);
    // Its listener is gone by now: nothing was ever connected.
    let attempt = graph.send(&mail()).await;
    assert_eq!(attempt.outcome, Outcome::Deferred, "{}", attempt.reply);
}
