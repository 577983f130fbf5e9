//! The SMTP transport against servers that misbehave: no false "accepted", no hang, nothing repeated, nothing leaked.
//! How a server's script is written stands in `server`.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic like tests do")]

#[path = "smtp/pipelining.rs"]
mod pipelining;
#[path = "smtp/server.rs"]
mod server;
#[path = "smtp/signin.rs"]
mod signin;

use std::sync::Arc;
use std::time::Duration;

use kigen::config::{MailConfig, NamedAddress, SmtpAuth, SmtpConfig, SmtpTls, Support, TransportConfig};
use kigen::domain::customer::Address;
use kigen::domain::delivery::{Attempt, Outcome, RecipientState, UnknownPolicy};
use kigen::mail::smtp::Smtp;
use kigen::mail::{MailError, Outgoing, Transport};
use kigen::secret::SecretSource;
use tokio::net::TcpListener;

use self::server::Server;
use self::signin::xoauth2_config;

fn address(text: &str) -> Address {
    Address::new(text).unwrap()
}

fn mail_to(recipients: &[&str]) -> Outgoing {
    Outgoing {
        envelope_from: address("support@example.jp"),
        recipients: recipients.iter().map(|r| address(r)).collect(),
        message: b"Subject: x\r\nMessage-ID: <a@example.jp>\r\n\r\n.dot\r\nbye\r\n".to_vec(),
    }
}

fn mail() -> Outgoing {
    mail_to(&["taro@example.jp"])
}

/// Every send has to end by itself; this is the alarm if one does not.
async fn send(smtp: &mut Smtp, mail: &Outgoing) -> Attempt {
    tokio::time::timeout(Duration::from_secs(60), smtp.send(mail)).await.expect("the transport hangs")
}

const SHORT: Duration = Duration::from_millis(200);

/// One mail to one scripted connection. Steps that never answer get a short time-out; `hang` after the message gets it only
/// for the final reply, so that a slow machine cannot change the outcome.
async fn check(script: &str, expected: Outcome, why: &str) {
    let server = Server::start(&[script]).await;
    let mut config = server.config();
    let waits = ["hang", "endless", "flood"].iter().any(|w| script.contains(w));
    if waits && !script.contains("body") {
        config.timeout = SHORT;
    }
    let mut smtp = Smtp::new(&config).unwrap().dot_timeout(if waits { SHORT } else { config.timeout });
    let done = send(&mut smtp, &mail()).await;
    assert_eq!(done.outcome, expected, "{script}: {why} (the reply was {:?})", done.reply);
    assert!(done.reply.chars().count() <= 300 && !done.reply.contains("taro@"), "{}", done.reply);
    if done.outcome != Outcome::Accepted {
        assert!(done.recipients.iter().all(|(_, state, _)| *state != RecipientState::Accepted), "{script}");
    }
}

#[tokio::test]
async fn before_the_message_nothing_is_unknown() {
    use Outcome::{Blocked, Deferred, Rejected};
    let rows: &[(&str, Outcome, &str)] = &[
        ("hang", Deferred, "no greeting"),
        ("close", Deferred, "closed at once"),
        (">421 4.3.2 busy", Deferred, "this moment"),
        (">554 5.7.1 go away", Blocked, "our host is refused"),
        (">HTTP/1.1 400 Bad Request", Deferred, "another protocol"),
        (">250 hi | hang", Deferred, "a greeting that is none"),
        ("endless", Deferred, "a line without an end"),
        ("flood", Deferred, "a reply without an end"),
        (">>220 hi\\r\\n250 hi\\r\\n | hang", Deferred, "an answer before the question"),
        (">220 hi | <EHLO | hang", Deferred, "silence after EHLO"),
        (">220 hi | <EHLO | flood", Deferred, "an endless EHLO reply"),
        (">220 hi | <EHLO | >>250-hi\\r\\n550 no\\r\\n | hang", Deferred, "one reply with two codes"),
        (">220 hi | <EHLO | >550 no", Blocked, "EHLO refused"),
        ("hello | <MAIL | hang", Deferred, "silence after MAIL"),
        ("hello | <MAIL | close", Deferred, "closed after MAIL"),
        ("hello | <MAIL | >432 4.3.2 sender thread limit exceeded", Deferred, "fewer connections"),
        ("hello | <MAIL | >421 4.7.0 too fast", Deferred, "later, on a fresh connection"),
        ("hello | <MAIL | >530 5.7.57 Client not authenticated", Blocked, "our set-up"),
        ("hello | <MAIL | >550 5.1.8 Bad outbound sender | <RSET | >250 ok | hang", Blocked, "our account"),
        ("hello | <MAIL | >552 5.3.4 too big | <RSET | >250 ok | hang", Rejected, "this mail"),
        ("hello | <MAIL | >354 what", Deferred, "out of step"),
        ("hello | <MAIL | >250 ok | <RCPT | hang", Deferred, "silence after RCPT"),
        ("hello | <MAIL | >250 ok | <RCPT | close", Deferred, "closed after RCPT"),
        ("hello | <MAIL | >250 ok | <RCPT | >450 4.2.0 greylisted | <RSET | >250 ok | hang", Deferred, "later"),
        ("hello | <MAIL | >250 ok | <RCPT | >451 4.3.0 later | <RSET | close", Deferred, "RSET changes nothing"),
        ("hello | <MAIL | >250 ok | <RCPT | >452 4.2.2 full | <RSET | >250 ok | hang", Deferred, "later"),
        ("hello | <MAIL | >250 ok | <RCPT | >550 5.1.1 <taro@example.jp> no | <RSET | hang", Rejected, "nobody there"),
        ("hello | <MAIL | >250 ok | <RCPT | >552 too many recipients | <RSET | hang", Deferred, "means 452"),
        ("hello | <MAIL | >250 ok | <RCPT | >554 5.7.1 Relay access denied | <RSET | hang", Blocked, "not our relay"),
        ("hello | <MAIL | >250 ok | <RCPT | >550 5.7.232 quota | <RSET | hang", Blocked, "until tomorrow"),
        ("hello | <MAIL | >250 ok | <RCPT | >>250 ok\\r\\n354 go\\r\\n | hang", Deferred, "two answers to one command"),
        ("hello | envelope | <DATA | hang", Deferred, "silence after DATA"),
        ("hello | envelope | <DATA | close", Deferred, "closed after DATA"),
        ("hello | envelope | <DATA | >451 4.3.0 later | <RSET | hang", Deferred, "later"),
        ("hello | envelope | <DATA | >554 5.5.1 no valid recipients | <RSET | hang", Rejected, "no message wanted"),
        ("hello | envelope | <DATA | >250 ok", Deferred, "no invitation: the message is not sent"),
        ("hello | envelope | <DATA | >>354 go\\r\\n250 queued\\r\\n | hang", Deferred, "accepted before it was sent"),
        ("hello | envelope | <DATA | >>35 | hang", Deferred, "half a line"),
    ];
    for (script, expected, why) in rows {
        check(script, expected.clone(), why).await;
    }
}

#[tokio::test]
async fn every_refusal_at_every_verb_means_what_it_says() {
    let steps = [
        "",
        "hello | <MAIL",
        "hello | <MAIL | >250 ok | <RCPT",
        "hello | envelope | <DATA",
        "hello | envelope | data | body",
    ];
    let refusals = [
        "421 4.3.2 shutting down",
        "432 4.3.2 sender thread limit exceeded",
        "450 4.2.0 greylisted",
        "451 4.7.500 server busy",
        "452 4.3.1 disk full",
        "550 5.7.1 no",
        "552 5.3.4 too big",
        "554 5.7.0 no",
        "535 5.7.139 basic authentication is disabled",
        "550 5.7.57 client not authenticated",
        "550 5.7.708 traffic not accepted from this IP",
    ];
    for step in steps {
        for refusal in refusals {
            let script = format!("{step} | >{refusal} | close");
            let server = Server::start(&[script.trim_start_matches([' ', '|'])]).await;
            let done = send(&mut Smtp::new(&server.config()).unwrap(), &mail()).await;
            let ours = ["5.7.139", "5.7.57", "5.7.708"].iter().any(|code| refusal.contains(code));
            let before_recipients = step.is_empty() || step.ends_with("<MAIL");
            let expected = match refusal.as_bytes()[0] {
                b'4' => Outcome::Deferred,
                _ if ours => Outcome::Blocked,
                // The declared size is this mail's own.
                _ if before_recipients && (step.is_empty() || !refusal.starts_with("552")) => Outcome::Blocked,
                _ => Outcome::Rejected,
            };
            assert_eq!(done.outcome, expected, "{script}: {}", done.reply);
        }
    }
}

#[tokio::test]
async fn extensions_are_not_needed_and_not_trusted() {
    let talk = "<MAIL | alone | >250 ok | <RCPT | alone | >250 ok | <DATA | alone | >354 go | body | >250 ok | hang";
    let rows = [
        ("", "neither 8BITMIME nor SMTPUTF8: what we send is ASCII"),
        ("| >250-8BITMIME | >250-SMTPUTF8 | >250-CHUNKING | >250-BINARYMIME", "offered, and not needed"),
    ];
    for (offers, why) in rows {
        let script = format!(">220 hi | <EHLO | >250-hi {offers} | >250 HELP | {talk}");
        let server = Server::start(&[&script]).await;
        let done = send(&mut Smtp::new(&server.config()).unwrap(), &mail()).await;
        assert_eq!(done.outcome, Outcome::Accepted, "{why}: {}", done.reply);
        assert_eq!(server.heard()[0][1..3], ["MAIL FROM:<support@example.jp>", "RCPT TO:<taro@example.jp>"], "{why}");
    }
}

#[tokio::test]
async fn a_server_one_reply_behind_gets_no_message_and_no_success() {
    // Each answer belongs to the command before; the last one would be the 250 for a message that was never asked for.
    let script = ">>220 hi\\r\\n | <EHLO | >>250-hi\\r\\n250 HELP\\r\\n250 mail\\r\\n | hang";
    let server = Server::start(&[script]).await;
    let done = send(&mut Smtp::new(&server.config()).unwrap(), &mail()).await;
    assert_eq!(done.outcome, Outcome::Deferred, "{}", done.reply);
    assert!(server.bodies.lock().unwrap().is_empty());
    // An answer after our time-out finds nobody: the connection is gone.
    let server = Server::start(&["hello | <MAIL | hang", "hello | envelope | data | body | >250 ok | hang"]).await;
    let mut smtp = Smtp::new(&SmtpConfig { timeout: SHORT, ..server.config() }).unwrap();
    assert_eq!(send(&mut smtp, &mail()).await.outcome, Outcome::Deferred);
    let mut patient = Smtp::new(&server.config()).unwrap();
    assert_eq!(send(&mut patient, &mail()).await.outcome, Outcome::Accepted);
}

#[tokio::test]
async fn after_the_message_only_250_is_success_and_doubt_is_unknown() {
    use Outcome::{Accepted, Blocked, Deferred, Rejected, Unknown};
    let rows: &[(&str, Outcome, &str)] = &[
        (">250 2.0.0 queued as 4F", Accepted, "the only success"),
        (">>250-2.0.0 queued\\r\\n250 as 4F\\r\\n", Accepted, "on two lines"),
        (">>250\\r\\n", Accepted, "without a text"),
        ("hang", Unknown, "the answer never came"),
        ("close", Unknown, "closed after the dot"),
        (">>250 2.0.0 que | close", Unknown, "half an answer is none"),
        (">>250-2.0.0 queued\\r\\n | close", Unknown, "an answer without its last line"),
        (">>250-2.0.0 queued\\r\\n550 no\\r\\n", Unknown, "an answer that says both"),
        (">OK", Unknown, "no SMTP reply"),
        (">251 forwarded", Unknown, "a success that cannot be here"),
        (">354 go on", Unknown, "an answer to another question"),
        ("flood", Unknown, "a reply without an end"),
        ("endless", Unknown, "a line without an end"),
        (">421 4.3.0 shutting down", Deferred, "it says that it did not take it"),
        (">451 4.3.0 later", Deferred, "it says that it did not take it"),
        (">452 4.3.1 disk full", Deferred, "it says that it did not take it"),
        (">550 5.7.1 spam", Rejected, "this mail"),
        (">552 5.3.4 too big", Rejected, "this mail"),
        (">554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException", Blocked, "until tomorrow"),
        (">550 5.7.60 SMTP; no permission to send as this sender", Blocked, "our account"),
    ];
    for (end, expected, why) in rows {
        check(&format!("hello | envelope | data | body | {end}"), expected.clone(), why).await;
    }
}

/// A node that was frozen in the middle of the dialogue: another one has the mail now.
#[tokio::test]
async fn what_is_not_ours_any_more_is_not_sent() {
    let script = "hello | <MAIL | >250 ok | <RCPT | >250 ok | <DATA | >354 go on | hang";
    let server = Server::start(&[script]).await;
    let mut smtp = Smtp::new(&server.config()).unwrap();
    smtp.ask_before_message(Some(Arc::new(|| false)));
    let done = send(&mut smtp, &mail()).await;
    assert_eq!(done.outcome, Outcome::Deferred, "{}", done.reply);
    assert!(done.recipients.iter().all(|(_, state, _)| *state == RecipientState::Pending));
}

#[tokio::test]
async fn a_message_that_cannot_be_finished_is_deferred_not_unknown() {
    // Larger than what the socket buffers of both ends take, so that its end cannot have been sent.
    let large = Outgoing { message: b"0123456789abcdef\r\n".repeat(1_000_000), ..mail() };
    let rows: &[(&str, Outcome, &str)] = &[
        ("close", Outcome::Deferred, "closed before the final dot"),
        (">552 5.3.4 too big | hang", Outcome::Rejected, "refused while it was under way"),
        (">451 4.3.0 no | close", Outcome::Deferred, "refused for now while it was under way"),
        (">250 queued | hang", Outcome::Deferred, "a success before the end is none"),
    ];
    for (end, expected, why) in rows {
        let server = Server::start(&[&format!("hello | envelope | data | {end}")]).await;
        let done = send(&mut Smtp::new(&server.config()).unwrap(), &large).await;
        assert_eq!(done.outcome, *expected, "{why}: {}", done.reply);
    }
    // Nobody reads any more: the deadline of one piece ends it.
    let server = Server::start(&["hello | envelope | data | stuck"]).await;
    let config = SmtpConfig { timeout: SHORT, ..server.config() };
    let done = send(&mut Smtp::new(&config).unwrap(), &large).await;
    assert_eq!(done.outcome, Outcome::Deferred, "{}", done.reply);
}

#[tokio::test]
async fn each_recipient_has_a_result_of_its_own() {
    let three = mail_to(&["a@example.jp", "foo..bar@docomo.ne.jp", "c@example.jp"]);
    let rcpts = "hello | <MAIL | >250 ok | <RCPT TO:<a@example.jp> | >250 ok \
                 | <RCPT TO:<\"foo..bar\"@docomo.ne.jp> | >550 5.1.1 <foo..bar@docomo.ne.jp> unknown \
                 | <RCPT | >450 4.2.0 later | data | body";
    use RecipientState::{Accepted, Pending, Rejected};
    let rows = [
        (">250 2.0.0 queued", Outcome::Accepted, [Accepted, Rejected, Pending]),
        (">451 4.3.0 later", Outcome::Deferred, [Pending, Rejected, Pending]),
        (">554 5.6.0 content", Outcome::Rejected, [Rejected, Rejected, Pending]),
        ("close", Outcome::Unknown, [Pending, Rejected, Pending]),
    ];
    for (end, outcome, states) in rows {
        let server = Server::start(&[&format!("{rcpts} | {end}")]).await;
        let done = send(&mut Smtp::new(&server.config()).unwrap(), &three).await;
        assert_eq!(done.outcome, outcome, "{end}");
        let got: Vec<RecipientState> = done.recipients.iter().map(|(_, state, _)| *state).collect();
        assert_eq!(got, states, "{end}");
        assert_eq!(done.recipients[1].2, "550 5.1.1 <f***@docomo.ne.jp> unknown");
    }
}

#[tokio::test]
async fn a_connection_is_kept_between_mails_and_replaced_when_it_died() {
    let one = "envelope | data | body | >250 ok";
    let scripts = [
        // Two mails, one refused and reset, then the server leaves without a word.
        format!("hello | {one} | <MAIL | >250 ok | <RCPT | >550 no | <RSET | >250 ok | {one} | close"),
        // The next says goodbye of itself before the following mail.
        format!("hello | {one} | >421 4.4.2 idle too long | close"),
        // The third answers MAIL with 421.
        format!("hello | {one} | <MAIL | >421 4.4.2 idle too long | close"),
        format!("hello | {one} | <QUIT | >221 bye | hang"),
    ];
    let scripts: Vec<&str> = scripts.iter().map(String::as_str).collect();
    let server = Server::start(&scripts).await;
    let mut smtp = Smtp::new(&server.config()).unwrap();
    let mut outcomes = Vec::new();
    for _ in 0..6 {
        outcomes.push(send(&mut smtp, &mail()).await.outcome);
    }
    use Outcome::{Accepted, Rejected};
    assert_eq!(outcomes, [Accepted, Rejected, Accepted, Accepted, Accepted, Accepted]);
    smtp.close().await;
    let heard = server.heard();
    assert_eq!(heard.len(), 4);
    assert_eq!(heard[3].last().unwrap(), "QUIT");
    assert_eq!(server.bodies.lock().unwrap().len(), 5, "nothing was sent twice");
    assert!(server.bodies.lock().unwrap().iter().all(|b| b.ends_with(b"\r\n\r\n..dot\r\nbye\r\n.\r\n")));
}

#[tokio::test]
async fn a_late_answer_is_never_taken_for_the_next_mail() {
    // The first mail's answer comes when the client has long gone; the second connection refuses.
    let scripts = [
        "hello | envelope | data | body | hang | >250 late",
        "hello | <MAIL | >250 ok | <RCPT | >550 5.1.1 no | <RSET | >250 ok | hang",
    ];
    let server = Server::start(&scripts).await;
    let mut smtp = Smtp::new(&server.config()).unwrap().dot_timeout(SHORT);
    assert_eq!(send(&mut smtp, &mail()).await.outcome, Outcome::Unknown);
    assert_eq!(send(&mut smtp, &mail()).await.outcome, Outcome::Rejected);
}

#[tokio::test]
async fn an_extra_answer_between_two_mails_costs_the_connection_and_nothing_else() {
    let scripts = [
        "hello | envelope | data | body | >>250 ok\\r\\n250 ok\\r\\n | hang",
        "hello | <MAIL | >250 ok | <RCPT | >550 5.1.1 no | <RSET | >250 ok | hang",
    ];
    let server = Server::start(&scripts).await;
    let mut smtp = Smtp::new(&server.config()).unwrap();
    assert_eq!(send(&mut smtp, &mail()).await.outcome, Outcome::Accepted);
    assert_eq!(send(&mut smtp, &mail()).await.outcome, Outcome::Rejected);
}

#[tokio::test]
async fn a_connection_carries_a_hundred_mails_at_most() {
    let server = Server::start(&[">220 hi | serve", ">220 hi | serve"]).await;
    let mut smtp = Smtp::new(&server.config()).unwrap();
    for _ in 0..101 {
        assert_eq!(send(&mut smtp, &mail()).await.outcome, Outcome::Accepted);
    }
    let bodies: Vec<usize> =
        server.heard().iter().map(|lines| lines.iter().filter(|l| *l == "(body)").count()).collect();
    assert_eq!(bodies, [100, 1]);
}

#[tokio::test]
async fn what_must_not_leave_is_refused_before_anything_is_connected_to() {
    let server = Server::start(&[]).await;
    let mut smtp = Smtp::new(&server.config()).unwrap();
    let bad: &[&[u8]] = &[b"a\nb\r\n", b"a\rb\r\n", b"a", "é\r\n".as_bytes(), b"\0\r\n", b"\r\n.\r\nMAIL FROM:<x>\n"];
    for message in bad {
        let done = send(&mut smtp, &Outgoing { message: message.to_vec(), ..mail() }).await;
        assert_eq!(done.outcome, Outcome::Rejected, "{message:?}");
    }
    assert_eq!(send(&mut smtp, &mail_to(&[])).await.outcome, Outcome::Rejected);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_tried_again_later() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server::start(&[]).await;
    let config = SmtpConfig { port: listener.local_addr().unwrap().port(), ..server.config() };
    drop(listener);
    let done = send(&mut Smtp::new(&config).unwrap(), &mail()).await;
    assert_eq!(done.outcome, Outcome::Deferred, "{}", done.reply);
    assert!(done.reply.starts_with("cannot connect to 127.0.0.1:"), "{}", done.reply);
}

#[tokio::test]
async fn the_servers_size_limit_is_kept_to() {
    let script = ">220 hi | <EHLO | >250-hi | >250 SIZE 10 | hang";
    let server = Server::start(&[script]).await;
    assert_eq!(send(&mut Smtp::new(&server.config()).unwrap(), &mail()).await.outcome, Outcome::Rejected);
    let script = ">220 hi | <EHLO | >250-hi | >250 SIZE 1000 | <MAIL FROM:<support@example.jp> SIZE=53 | >550 no | <RSET | >250 ok | hang";
    let server = Server::start(&[script]).await;
    send(&mut Smtp::new(&server.config()).unwrap(), &mail()).await;
    assert_eq!(server.heard()[0].iter().filter(|l| l.starts_with("MAIL")).count(), 1);
}

#[tokio::test]
async fn a_transport_that_cannot_work_says_so_when_it_is_made() {
    let server = Server::start(&[]).await;
    let missing = SmtpConfig { ca_file: Some("/nonexistent/ca.pem".into()), tls: SmtpTls::Tls, ..server.config() };
    assert!(matches!(Smtp::new(&missing), Err(MailError::CaFile { .. })));
    let nameless = SmtpConfig { host: "no name".to_owned(), ..server.config() };
    assert!(matches!(Smtp::new(&nameless), Err(MailError::Host(..))));
    let clear = xoauth2_config(&server, "http://login.example.jp/token".parse().unwrap());
    assert!(matches!(Smtp::new(&clear), Err(MailError::TokenUrl(_))));
    let secretless = SecretSource::File("/nonexistent/secret".into());
    let auth = SmtpAuth::Password { username: "u".to_owned(), password: secretless };
    assert!(matches!(Smtp::new(&SmtpConfig { auth, ..server.config() }), Err(MailError::Secret(..))));
    let mail = MailConfig {
        from: NamedAddress { name: None, address: address("support@example.jp") },
        envelope_from: address("support@example.jp"),
        reply_to: None,
        transport: TransportConfig::Smtp(server.config()),
        support: Support { name: "Support".to_owned(), email: None, phone: None },
        unknown: UnknownPolicy::Resend,
        dkim: None,
        bounces: None,
    };
    assert!(kigen::mail::transport(&mail).is_ok());
}
