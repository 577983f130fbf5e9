//! What leaves to servers outside: webhooks when mail cannot be sent, and heartbeats.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use chrono::{TimeDelta, TimeZone, Utc};
use kigen::alert;
use kigen::clock::{Clock, SystemClock};
use kigen::daemon::operators::{Tending, tend};
use kigen::daemon::webhook;
use kigen::demo::mail_server::{MailServer, MailServerOptions};
use kigen::domain::alert::Cause;
use kigen::domain::customer::Language;

use super::common::{Lab, Settings, affected};
use super::titles;

/// A small server outside: takes any call and remembers it.
pub struct Outside {
    address: SocketAddr,
    pub calls: Calls,
}

type Calls = Arc<Mutex<Vec<(Method, String, String)>>>;

impl Outside {
    pub async fn start(status: StatusCode) -> Self {
        let calls: Calls = Arc::default();
        let take = move |State(calls): State<Calls>, method: Method, uri: Uri, body: Bytes| async move {
            let body = String::from_utf8_lossy(&body).into_owned();
            calls.lock().unwrap().push((method, uri.to_string(), body));
            status
        };
        let app = Router::new().fallback(take).with_state(Arc::clone(&calls));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, calls }
    }

    /// The calls, once there are so many.
    pub async fn hear(&self, many: usize) -> Vec<(Method, String, String)> {
        loop {
            let calls = self.calls.lock().unwrap().clone();
            if calls.len() >= many {
                return calls;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

#[tokio::test]
async fn when_mail_itself_is_refused_the_webhook_is_called_and_the_mail_leaves_later() {
    let outside = Outside::start(StatusCode::OK).await;
    let alerts =
        format!("language = \"en\"\nwebhook = {{ url = \"{}hook?token=geheim\", format = \"json\" }}", outside.url());
    let mut lab = Lab::with(vec![affected("A1")], Settings { alerts, ..Settings::default() }).await;
    // A server that wants a sign-in, and a configuration without one.
    let auth = Some(("kigen".to_owned(), "x".to_owned()));
    lab.mail = MailServer::start_with(MailServerOptions { dir: None, auth }).await.unwrap();
    lab.write_config();
    let bench = lab.open(SystemClock.now()).await;
    bench.scan().await;
    bench.pass().await;
    bench.deliver().await;
    tend(&bench.ctx, &mut Tending::default()).await.unwrap();
    let calls = outside.hear(2).await;
    assert_eq!(calls.len(), 2, "{calls:?}");
    let mut bodies: Vec<serde_json::Value> = calls.iter().map(|c| serde_json::from_str(&c.2).unwrap()).collect();
    bodies.sort_by_key(|body| body["cause"].to_string());
    let said: Vec<_> = bodies.iter().map(|b| (b["cause"].as_str().unwrap(), b["count"].as_u64().unwrap())).collect();
    assert_eq!(said, [("mail_refused", 1), ("newly_affected", 1)]);
    for (_, _, body) in &calls {
        assert!(!body.contains("geheim") && !body.contains("admin@a1"), "{body}");
    }
    bench.deliver().await;
    assert_eq!((lab.alerted().len(), lab.told().len()), (0, 0), "no mail can leave yet");
    bench.ctx.store.close().await;

    lab.mail = MailServer::start(None).await.unwrap();
    lab.write_config();
    let bench = lab.open(SystemClock.now() + TimeDelta::minutes(16)).await;
    bench.deliver().await;
    assert_eq!(titles(&lab), ["1 newly affected site", "The mail server refuses kigen's account"]);
    assert_eq!(lab.mailed(), ["admin@a1.example"], "and so did the customer's");
}

#[tokio::test]
async fn webhooks_and_heartbeats_are_bounded_and_private() {
    let facts = alert::AlertFacts {
        cause: Cause::Held,
        count: 1,
        times: 1,
        first_at: Utc.with_ymd_and_hms(2022, 9, 1, 0, 0, 0).unwrap(),
        items: vec![alert::Item {
            customer: Some(("C1".to_owned(), "<!channel> 株式会社".to_owned())),
            detail: "see taro@example.jp".to_owned(),
            times: 1,
            over: false,
        }],
        mode: "live",
        zone: chrono_tz::Asia::Tokyo,
        now: Utc.with_ymd_and_hms(2022, 9, 1, 0, 0, 0).unwrap(),
    };
    let texts = alert::alert(&facts, Language::Ja).unwrap();
    use kigen::config::WebhookFormat;
    let slack = alert::webhook_body(WebhookFormat::Slack, &facts, &texts);
    assert!(slack["text"].as_str().unwrap().contains("&lt;!channel&gt;"), "{slack}");
    let teams = alert::webhook_body(WebhookFormat::Teams, &facts, &texts);
    assert_eq!(teams["attachments"][0]["content"]["type"], "AdaptiveCard");
    for body in [&slack, &teams] {
        assert!(body.to_string().contains("C1") && !body.to_string().contains("taro@"), "{body}");
    }

    let refusing = Outside::start(StatusCode::FORBIDDEN).await;
    let url = url::Url::parse(&format!("{}hook?token=geheim", refusing.url())).unwrap();
    let why = webhook::post(&url, &slack).await.unwrap_err();
    assert!(why.contains("403") && !why.contains("geheim"), "{why}");
    assert_eq!(refusing.calls.lock().unwrap().len(), 1, "a refusal is not tried again");
    webhook::heartbeat(&url).await;
    let calls = refusing.calls.lock().unwrap().clone();
    assert_eq!((calls.len(), calls[1].0.as_str()), (2, "GET"));
}
