//! Real receivers: a Postfix that takes kigen's mail by STARTTLS and a sign-in, and a Dovecot whose mailboxes are read back.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;
#[path = "receivers/servers.rs"]
mod servers;

use std::path::PathBuf;
use std::time::Duration;

use axum::routing::post;
use axum::{Form, Json, Router};
use chrono::{DateTime, Utc};
use common::{Bench, Lab, Settings, affected, write_private};
use kigen::config::{BouncesConfig, BouncesFrom, ImapConfig, Rate, SmtpAuth, SmtpConfig, SmtpTls};
use kigen::daemon::bounces::{self, Bounces};
use kigen::domain::alert::Cause;
use kigen::domain::customer::Address;
use kigen::domain::delivery::{DeliveryId, Outcome, RecipientState};
use kigen::domain::site::CustomerId;
use kigen::mail::mailbox;
use kigen::mail::smtp::Smtp;
use kigen::mail::{Outgoing, Transport as _};
use kigen::secret::SecretSource;
use servers::{ACCOUNT, PASSWORD, Servers};
use tokio_util::sync::CancellationToken;

/// The access token that Dovecot takes.
const TOKEN: &str = "eyJ.good-token.x";
/// An application's secret that gets it.
const CLIENT_SECRET: &str = "client-s3cret";

/// The token endpoint, and where Dovecot asks about tokens.
async fn tokens() -> u16 {
    let grant = async |Form(form): Form<Vec<(String, String)>>| {
        let good = form.contains(&("client_secret".to_owned(), CLIENT_SECRET.to_owned()));
        // A wrong secret gets a token that nobody takes: the refusal is the mail server's to make.
        let token = if good { TOKEN } else { "eyJ.bad-token.x" };
        Json(serde_json::json!({ "token_type": "Bearer", "expires_in": 3600, "access_token": token }))
    };
    let introspect = async |Form(form): Form<Vec<(String, String)>>| {
        let active = form.contains(&("token".to_owned(), TOKEN.to_owned()));
        Json(serde_json::json!({ "active": active, "username": "bounces" }))
    };
    let router = Router::new().route("/token", post(grant)).route("/introspect", post(introspect));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

struct World {
    servers: Servers,
    tokens: u16,
}

impl World {
    async fn start() -> Self {
        let tokens = tokens().await;
        Self { servers: tokio::task::block_in_place(|| Servers::start(tokens)), tokens }
    }

    fn secret(&self, name: &str, text: &str) -> SecretSource {
        write_private(&self.servers.path(name), text.as_bytes());
        SecretSource::File(self.servers.path(name))
    }

    fn ca(&self) -> Option<PathBuf> {
        Some(self.servers.path("ca.pem"))
    }

    fn password(&self, username: &str, password: &str) -> SmtpAuth {
        let password = self.secret(&format!("secret-{username}-{}", password.len()), password);
        SmtpAuth::Password { username: username.to_owned(), password }
    }

    fn xoauth2(&self, secret: &str) -> SmtpAuth {
        SmtpAuth::Xoauth2 {
            username: "bounces".to_owned(),
            token_url: format!("http://127.0.0.1:{}/token", self.tokens).parse().unwrap(),
            client_id: "client".to_owned(),
            client_secret: self.secret(&format!("client-{}", secret.len()), secret),
            scope: "scope".to_owned(),
        }
    }

    fn smtp(&self) -> SmtpConfig {
        SmtpConfig {
            password_until: chrono::NaiveDate::MAX,
            host: "127.0.0.1".to_owned(),
            port: self.servers.ports.relay,
            tls: SmtpTls::Starttls,
            auth: self.password(ACCOUNT, PASSWORD),
            rate: Rate { count: 30, per: Duration::from_secs(60) },
            connections: 1,
            timeout: Duration::from_secs(60),
            ca_file: self.ca(),
        }
    }

    fn imap(&self, user: &str) -> ImapConfig {
        ImapConfig {
            host: "127.0.0.1".to_owned(),
            port: self.servers.ports.imaps,
            tls: SmtpTls::Tls,
            auth: self.password(user, PASSWORD),
            folder: "INBOX".to_owned(),
            timeout: Duration::from_secs(60),
            ca_file: self.ca(),
        }
    }

    /// The next mail in a user's mailbox, read by IMAP and marked; waits until one is there.
    async fn next_mail(&self, user: &str) -> Vec<u8> {
        let config = BouncesConfig { from: BouncesFrom::Imap(Box::new(self.imap(user))), verp: true };
        let mut found = None;
        until("a mail arrives", async || {
            let mut mailbox = mailbox::open(&config, None).await.unwrap();
            found = mailbox.next().await.unwrap();
            mailbox.done().await.unwrap();
            mailbox.close().await;
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// kigen with this world's relay and its bounce mailbox, and two customers.
    async fn lab(&self, first: &str, second: &str) -> Lab {
        let ports = self.servers.ports;
        let at = self.servers.dir.path().display();
        let dkim = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        write_private(&self.servers.path("dkim.pem"), dkim.serialize_pem().as_bytes());
        self.secret("relay-password", PASSWORD);
        self.secret("imap-password", PASSWORD);
        let settings = Settings {
            campaign: String::new(),
            business_hours: "closed = []".to_owned(),
            mail: format!(
                "envelope_from = \"bounces@vendor.example\"\n\
                 [mail.dkim]\ndomain = \"vendor.example\"\nselector = \"k1\"\nkey = {{ file = \"{at}/dkim.pem\" }}\n\
                 [mail.bounces]\nimap = {{ host = \"127.0.0.1\", port = {}, tls = \"starttls\", username = \"bounces\", \
                 password = {{ file = \"{at}/imap-password\" }}, ca_file = \"{at}/ca.pem\" }}",
                ports.imap
            ),
            ..Settings::default()
        };
        let lab = Lab::with(vec![affected("A1"), affected("B1")], settings).await;
        lab.write_customers(|id, column| match (id, column) {
            ("A1", "email") => first.to_owned(),
            ("B1", "email") => second.to_owned(),
            _ => String::new(),
        });
        let plain = format!("port = {}\ntls = \"none\"\nauth = \"none\"", lab.mail.port());
        let real = format!(
            "port = {}\ntls = \"starttls\"\nauth = \"password\"\nusername = \"{ACCOUNT}\"\n\
             password = {{ file = \"{at}/relay-password\" }}\nca_file = \"{at}/ca.pem\"",
            ports.relay
        );
        let text = lab.config_text();
        assert!(text.contains(&plain));
        write_private(&lab.config(), text.replace(&plain, &real).as_bytes());
        lab
    }
}

fn morning() -> DateTime<Utc> {
    DateTime::parse_from_rfc3339("2022-09-01T10:00:00+09:00").unwrap().to_utc()
}

/// Waits for a condition, looking often; the limit is only there so that a broken test ends.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let started = std::time::Instant::now();
    while !condition().await {
        assert!(started.elapsed() < Duration::from_secs(120), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_arrives_as_it_was_made() {
    let world = World::start().await;
    let lab = world.lab("admin@customer.example", "admin@customer.example").await;
    lab.world.lock().customers.truncate(1);
    lab.write_customers(
        |_, column| if column == "email" { "admin@customer.example".to_owned() } else { String::new() },
    );
    let bench = lab.open(morning()).await;
    bench.scan().await;
    bench.pass().await;
    assert_eq!(bench.deliver().await.sent, 1);
    let (ours, attempts) = bench.ctx.store.delivery(DeliveryId(1)).await.unwrap().unwrap();
    assert_eq!(attempts.len(), 1);

    let arrived = world.next_mail("admin").await;
    let text = String::from_utf8(arrived.clone()).expect("a mail of ours is ASCII, however Japanese it is");
    assert!(arrived.ends_with(&ours.message.raw), "byte for byte, the signature included:\n{text}");
    let added = &text[..text.len() - ours.message.raw.len()];
    assert!(added.contains(&format!("Return-Path: <{}>", ours.message.envelope_from.as_str())), "{added}");
    assert!(added.contains("Delivered-To: admin@customer.example") && added.contains("with ESMTPSA"), "{added}");
    assert!(text.lines().all(|line| line.len() <= 998 && line.is_ascii()));

    let parsed = mail_parser::MessageParser::default().parse(&arrived).unwrap();
    assert_eq!(parsed.subject(), Some(ours.message.subject.as_str()));
    assert!(ours.message.subject.contains("認証方式の変更"), "{}", ours.message.subject);
    let from = parsed.from().unwrap().first().unwrap();
    assert_eq!((from.name(), from.address()), (Some("ExLook サポート"), Some("support@vendor.example")));
    let signature = parsed.header_raw("DKIM-Signature").unwrap();
    assert!(signature.contains("d=vendor.example") && signature.contains("s=k1"), "{signature}");
    assert!(parsed.body_text(0).unwrap().contains("本社") && parsed.body_html(0).unwrap().contains("本社"));
    assert_eq!(parsed.header_raw("Auto-Submitted").map(str::trim), Some("auto-generated"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_relay_refuses_is_understood() {
    let world = World::start().await;
    let usual = world.smtp();
    let ports = world.servers.ports;
    let admin = "admin@customer.example";
    let rows = [
        ("all is well", usual.clone(), admin, Outcome::Accepted, "250 2.0.0"),
        (
            "a token",
            SmtpConfig { auth: world.xoauth2(CLIENT_SECRET), ..usual.clone() },
            admin,
            Outcome::Accepted,
            "250 2.0.0",
        ),
        (
            "a token that it does not take",
            SmtpConfig { auth: world.xoauth2("wrong"), ..usual.clone() },
            admin,
            Outcome::Blocked,
            "535 5.7.8",
        ),
        (
            "a wrong password",
            SmtpConfig { auth: world.password(ACCOUNT, "wrong"), ..usual.clone() },
            admin,
            Outcome::Blocked,
            "535 5.7.8",
        ),
        (
            "a certificate for another name",
            SmtpConfig { port: ports.imposter, ..usual.clone() },
            admin,
            Outcome::Blocked,
            "TLS with 127.0.0.1: invalid peer certificate",
        ),
        (
            "a certificate of a CA that we do not know",
            SmtpConfig { ca_file: None, ..usual.clone() },
            admin,
            Outcome::Blocked,
            "TLS with 127.0.0.1: invalid peer certificate",
        ),
        (
            "a message beyond its limit",
            SmtpConfig { port: ports.small, ..usual.clone() },
            admin,
            Outcome::Rejected,
            "the server takes 2000",
        ),
        ("an unknown recipient", usual.clone(), "nobody@customer.example", Outcome::Rejected, "550 5.1.1"),
        ("come again later", usual.clone(), "later@customer.example", Outcome::Deferred, "450 4.2.0"),
    ];
    let address = |text: &str| Address::new(text).unwrap();
    let filler = "0123456789".repeat(6) + "\r\n";
    let mail = |recipients: &[&str]| Outgoing {
        envelope_from: address("bounces@vendor.example"),
        recipients: recipients.iter().map(|text| address(text)).collect(),
        message: format!(
            "Date: Thu, 01 Sep 2022 10:00:00 +0900\r\nFrom: support@vendor.example\r\nTo: {}\r\nSubject: x\r\n\
             Message-ID: <1@vendor.example>\r\n\r\n{}",
            recipients.join(", "),
            filler.repeat(50)
        )
        .into_bytes(),
    };
    for (why, config, recipient, outcome, says) in rows {
        let mut smtp = Smtp::new(&config).unwrap();
        let attempt = smtp.send(&mail(&[recipient])).await;
        smtp.close().await;
        assert_eq!(attempt.outcome, outcome, "{why}: {}", attempt.reply);
        assert!(attempt.reply.contains(says), "{why}: {}", attempt.reply);
        for secret in [PASSWORD, TOKEN, CLIENT_SECRET, "wrong"] {
            assert!(!attempt.reply.contains(secret), "{why}: {}", attempt.reply);
        }
    }
    // One recipient's refusal does not stop the others.
    let mut smtp = Smtp::new(&usual).unwrap();
    let attempt = smtp.send(&mail(&["nobody@customer.example", admin])).await;
    smtp.close().await;
    let states: Vec<RecipientState> = attempt.recipients.iter().map(|(_, state, _)| *state).collect();
    assert_eq!(
        (attempt.outcome, states),
        (Outcome::Accepted, vec![RecipientState::Rejected, RecipientState::Accepted])
    );
}

async fn read(bench: &Bench) -> anyhow::Result<Vec<(&'static str, u64)>> {
    match bounces::read(&bench.ctx, None, &CancellationToken::new()).await? {
        Bounces::Ran(counts) => Ok(counts.into_iter().collect()),
        other => panic!("{other:?}"),
    }
}

async fn alerts(bench: &Bench) -> usize {
    let groups = bench.ctx.store.untold_alerts().await.unwrap();
    groups.iter().filter(|group| group.cause == Cause::BouncesUnread).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bounce_that_postfix_writes_comes_back_by_imap_and_marks_the_contact() {
    let world = World::start().await;
    let lab = world.lab("gone@away.example", "admin@customer.example").await;
    let bench = lab.open(morning()).await;
    bench.scan().await;
    bench.pass().await;
    assert_eq!(bench.deliver().await.sent, 2, "the relay takes both: it does not know yet");

    // Nobody can read the mailbox, and somebody must act: told at once.
    world.secret("imap-password", "wrong");
    let error = read(&bench).await.unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("the mailbox's server refused the sign-in: [AUTHENTICATIONFAILED]"), "{text}");
    assert_eq!(alerts(&bench).await, 1);
    world.secret("imap-password", PASSWORD);

    let mut seen = Vec::new();
    until("the report is read", async || {
        seen.extend(read(&bench).await.unwrap());
        !seen.is_empty()
    })
    .await;
    assert_eq!(seen, [("dead", 1)]);
    let dead = bench.ctx.store.dead_contacts().await.unwrap();
    assert_eq!(dead.iter().map(|c| c.masked.as_str()).collect::<Vec<_>>(), ["g***@away.example"]);
    let history = bench.ctx.store.history(&CustomerId::new("A1").unwrap()).await.unwrap().unwrap();
    assert!(
        history.iter().any(|e| e.text.contains("the address is dead") && e.text.contains("550 5.1.1")),
        "{history:#?}"
    );

    assert_eq!(read(&bench).await.unwrap(), [], "what was read is not read again");
    let held: Vec<String> = ["new", "cur"]
        .iter()
        .flat_map(|part| std::fs::read_dir(world.servers.path("mail/bounces").join(part)).unwrap())
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    let [name] = &held[..] else { panic!("the mail is still there, once: {held:?}") };
    assert!(name.ends_with(":2,Sa"), "seen, and the folder's first keyword: {name}");
    let keywords = std::fs::read_to_string(world.servers.path("mail/bounces/dovecot-keywords")).unwrap();
    assert_eq!(keywords.trim(), "0 $KigenRead");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_is_opened_by_token_too_and_only_with_the_right_certificate() {
    let world = World::start().await;
    let usual = world.imap("bounces");
    let starttls = ImapConfig { tls: SmtpTls::Starttls, port: world.servers.ports.imap, ..usual.clone() };
    let rows = [
        ("a password under TLS", usual.clone(), ""),
        ("a password after STARTTLS", starttls.clone(), ""),
        ("a token", ImapConfig { auth: world.xoauth2(CLIENT_SECRET), ..usual.clone() }, ""),
        (
            "a token that it does not take",
            ImapConfig { auth: world.xoauth2("wrong"), ..starttls.clone() },
            "refused the sign-in",
        ),
        ("no TLS, on the same machine", ImapConfig { tls: SmtpTls::None, ..starttls.clone() }, ""),
        ("a CA that we do not know", ImapConfig { ca_file: None, ..starttls.clone() }, "TLS with 127.0.0.1"),
        ("another name", ImapConfig { host: "localhost".to_owned(), ..usual.clone() }, "TLS with localhost"),
        (
            "no such folder",
            ImapConfig { folder: "配信エラー".to_owned(), ..usual.clone() },
            "refused mail.bounces.imap.folder",
        ),
    ];
    for (why, config, expected) in rows {
        let config = BouncesConfig { from: BouncesFrom::Imap(Box::new(config)), verp: true };
        match mailbox::open(&config, None).await {
            Ok(mut mailbox) => {
                assert!(expected.is_empty(), "{why}: it was opened");
                assert_eq!(mailbox.next().await.unwrap(), None, "{why}");
                mailbox.close().await;
            }
            Err(error) => {
                let text = error.to_string();
                assert!(!expected.is_empty() && text.contains(expected) && !error.passes(), "{why}: {error:?}");
            }
        }
    }
}
