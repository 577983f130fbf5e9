//! Signing in: TLS before anything secret, passwords, tokens that are kept, and nothing secret where it can be seen.

use std::sync::{Arc, Mutex};

use kigen::config::{SmtpAuth, SmtpConfig, SmtpTls};
use kigen::domain::delivery::Outcome;
use kigen::mail::Direction;
use kigen::mail::smtp::Smtp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::server::{Certificate, Server};
use super::{SHORT, mail, send};

const TLS_OFFER: &str = ">220 hi | <EHLO | >250-hi | >250 STARTTLS | <STARTTLS";
const SIGNED_IN: &str = "<EHLO | >250-hi | >250 AUTH PLAIN | <AUTH PLAIN AHVzZXJAZXhhbXBsZS5qcABzM2NyZXQ= | >235 ok | envelope | data | body | >250 ok | hang";

#[tokio::test]
async fn starttls_is_required_and_whatever_came_before_it_is_forgotten() {
    use Outcome::{Accepted, Blocked, Deferred};
    let rows: &[(String, Outcome, &str)] = &[
        (format!("{TLS_OFFER} | >220 go | tls | {SIGNED_IN}"), Accepted, "as it should be"),
        ("hello | hang".to_owned(), Blocked, "not offered"),
        (format!("{TLS_OFFER} | >454 4.7.0 not now | hang"), Deferred, "refused for now"),
        (format!("{TLS_OFFER} | >501 no | hang"), Blocked, "refused"),
        (format!("{TLS_OFFER} | >250 ok | hang"), Deferred, "no agreement"),
        (format!("{TLS_OFFER} | >>220 go\\r\\n250-hi\\r\\n250 AUTH PLAIN\\r\\n | tls | hang"), Deferred, "injected"),
        (format!("{TLS_OFFER} | >220 go | >this is no TLS | hang"), Deferred, "no TLS behind it"),
        (format!("{TLS_OFFER} | >220 go | close"), Deferred, "closed in the handshake"),
        (
            format!(
                "{} | >220 go | tls | <EHLO | >250 hi | hang",
                TLS_OFFER.replace("STARTTLS |", "STARTTLS AUTH PLAIN |")
            ),
            Blocked,
            "AUTH offered only before TLS",
        ),
        (
            format!("{TLS_OFFER} | >220 go | tls | <EHLO | >250 AUTH PLAIN | hang"),
            Blocked,
            "the first line of the EHLO reply offers nothing",
        ),
        (
            format!(
                "{TLS_OFFER} | >220 go | tls | <EHLO | >250-hi | >250 AUTH PLAIN | <AUTH | >535 5.7.139 basic is off | hang"
            ),
            Blocked,
            "our set-up",
        ),
        (
            format!("{TLS_OFFER} | >220 go | tls | <EHLO | >250-hi | >250 AUTH PLAIN | <AUTH | >250 ok | hang"),
            Deferred,
            "only 235 signs in",
        ),
    ];
    for (script, expected, why) in rows {
        let server = Server::start(&[script]).await;
        let mut smtp = Smtp::new(&server.password_config(SmtpTls::Starttls)).unwrap();
        let done = send(&mut smtp, &mail()).await;
        assert_eq!(done.outcome, *expected, "{why}: {}", done.reply);
        let clear_auth = server.heard().concat().iter().any(|l| l.contains("AHVz"));
        assert!(!clear_auth || script.contains("tls |"), "{why}: signed in without TLS");
    }
    // A hanging handshake ends too.
    let server = Server::start(&[&format!("{TLS_OFFER} | >220 go | hang")]).await;
    let config = SmtpConfig { timeout: SHORT, ..server.password_config(SmtpTls::Starttls) };
    assert_eq!(send(&mut Smtp::new(&config).unwrap(), &mail()).await.outcome, Outcome::Deferred);
}

#[tokio::test]
async fn implicit_tls_works_and_a_wrong_certificate_stops_everything() {
    let server = Server::start(&[&format!("tls | >220 hi | {SIGNED_IN}")]).await;
    let mut smtp = Smtp::new(&server.password_config(SmtpTls::Tls)).unwrap();
    assert_eq!(send(&mut smtp, &mail()).await.outcome, Outcome::Accepted);

    // For another name.
    let script = format!("tls | >220 hi | {SIGNED_IN}");
    let server = Server::with_certificate(&[&script], Certificate::for_name("other.example.jp")).await;
    let done = send(&mut Smtp::new(&server.password_config(SmtpTls::Tls)).unwrap(), &mail()).await;
    assert_eq!(done.outcome, Outcome::Blocked, "{}", done.reply);
    assert!(server.heard().concat().is_empty(), "nothing was said to it");

    // From an authority that nobody trusts.
    let server = Server::start(&[&script]).await;
    let other = Certificate::for_name("127.0.0.1");
    let config = SmtpConfig { ca_file: Some(other.file()), ..server.password_config(SmtpTls::Tls) };
    let done = send(&mut Smtp::new(&config).unwrap(), &mail()).await;
    assert_eq!(done.outcome, Outcome::Blocked, "{}", done.reply);
}

#[tokio::test]
async fn login_is_used_where_plain_is_not_offered() {
    let script = ">220 hi | <EHLO | >250-hi | >250 AUTH LOGIN | <AUTH LOGIN | >334 VXNlcm5hbWU6 | <dXNlckBleGFtcGxlLmpw \
                  | >334 UGFzc3dvcmQ6 | <czNjcmV0 | >235 ok | envelope | data | body | >250 ok | hang";
    let server = Server::start(&[script]).await;
    let mut smtp = Smtp::new(&server.password_config(SmtpTls::None)).unwrap();
    assert_eq!(send(&mut smtp, &mail()).await.outcome, Outcome::Accepted);
}

#[tokio::test]
async fn what_is_observed_holds_no_secret_and_no_message() {
    let script = "hello | <AUTH | >235 ok | envelope | data | body | >250 ok | hang";
    let server = Server::start(&[script]).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let observer: kigen::mail::Observer = Arc::new(move |direction, line| {
        log.lock().unwrap().push(format!(
            "{} {line}",
            match direction {
                Direction::Sent => ">",
                Direction::Received => "<",
                Direction::Note => "*",
            }
        ));
    });
    let mut smtp = Smtp::new(&server.password_config(SmtpTls::None)).unwrap().observed(Some(observer));
    assert_eq!(send(&mut smtp, &mail()).await.outcome, Outcome::Accepted);
    let seen = seen.lock().unwrap().join("\n");
    assert!(
        seen.contains("> AUTH PLAIN ***") && seen.contains("< 354 go") && seen.contains("octets of message"),
        "{seen}"
    );
    assert!(!seen.contains("s3cret") && !seen.contains("AHVz") && !seen.contains("bye\r"), "{seen}");
}

/// A token endpoint that gives `token-1`, `token-2` …, and counts.
async fn token_endpoint(answer: &'static str) -> (url::Url, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap()).parse().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    tokio::spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !String::from_utf8_lossy(&request).contains("scope=") {
                let mut page = [0; 4096];
                let n = tcp.read(&mut page).await.unwrap();
                request.extend_from_slice(&page[..n]);
            }
            let number = {
                let mut log = log.lock().unwrap();
                log.push(String::from_utf8(request).unwrap());
                log.len()
            };
            let body = answer.replace('#', &number.to_string());
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            tcp.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        }
    });
    (url, asked)
}

pub fn xoauth2_config(server: &Server, token_url: url::Url) -> SmtpConfig {
    let auth = SmtpAuth::Xoauth2 {
        username: "u@x.jp".to_owned(),
        token_url,
        client_id: "id".to_owned(),
        client_secret: server.secret("app-s3cret"),
        scope: "https://outlook.office365.com/.default".to_owned(),
    };
    SmtpConfig { auth, ..server.config() }
}

#[tokio::test]
async fn a_token_is_fetched_once_kept_and_renewed_once_when_it_is_refused() {
    // base64 of "user=u@x.jp\x01auth=Bearer token-N\x01\x01"
    let blob = |n: u8| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(format!("user=u@x.jp\x01auth=Bearer token-{n}\x01\x01"))
    };
    let offer = ">220 hi | <EHLO | >250-hi | >250 AUTH XOAUTH2 | <AUTH XOAUTH2 | >334";
    let refused = |n| format!("{offer} | <{} | >334 eyJzdGF0dXMiOiI0MDEifQ== | < | >535 5.7.3 no | hang", blob(n));
    let taken = |n| format!("{offer} | <{} | >235 2.7.0 ok | envelope | data | body | >250 ok | close", blob(n));
    let scripts = [taken(1), refused(1), taken(2), refused(2), refused(3)];
    let scripts: Vec<&str> = scripts.iter().map(String::as_str).collect();
    let server = Server::start(&scripts).await;
    let (url, asked) = token_endpoint(r#"{"token_type":"Bearer","expires_in":3600,"access_token":"token-#"}"#).await;
    let mut smtp = Smtp::new(&xoauth2_config(&server, url)).unwrap();
    let first = send(&mut smtp, &mail()).await;
    assert_eq!(first.outcome, Outcome::Accepted, "{}", first.reply);
    assert_eq!(asked.lock().unwrap().len(), 1);
    let second = send(&mut smtp, &mail()).await;
    assert_eq!(second.outcome, Outcome::Accepted, "the kept token was refused, a fresh one taken: {}", second.reply);
    assert_eq!(asked.lock().unwrap().len(), 2);
    let third = send(&mut smtp, &mail()).await;
    assert_eq!(third.outcome, Outcome::Blocked, "the fresh one was refused too: {}", third.reply);
    assert_eq!(asked.lock().unwrap().len(), 3);
    assert!(asked.lock().unwrap()[0].contains("grant_type=client_credentials&client_id=id&client_secret=app-s3cret"));
    assert!(!third.reply.contains("token-") && !third.reply.contains("s3cret"), "{}", third.reply);
}

#[tokio::test]
async fn a_web_page_instead_of_a_token_is_said_clearly() {
    let offer = ">220 hi | <EHLO | >250-hi | >250 AUTH XOAUTH2 | hang";
    let server = Server::start(&[offer]).await;
    let (url, _) = token_endpoint("<!DOCTYPE html><html>Sign in</html>").await;
    let done = send(&mut Smtp::new(&xoauth2_config(&server, url)).unwrap(), &mail()).await;
    assert_eq!(done.outcome, Outcome::Blocked);
    assert!(done.reply.contains("web page"), "{}", done.reply);
}
