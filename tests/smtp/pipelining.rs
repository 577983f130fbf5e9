//! PIPELINING (RFC 2920): the envelope in one piece, every reply for its own command, and servers that offer it and lie.

use kigen::config::{SmtpConfig, SmtpTls};
use kigen::domain::delivery::{Attempt, Outcome, RecipientState};
use kigen::mail::smtp::Smtp;
use kigen::mail::{Outgoing, Transport as _};

use super::server::Server;
use super::{SHORT, mail, mail_to, send};

/// An envelope of one recipient, taken in one piece and answered in one.
const TAKEN: &str = "together | <MAIL | <RCPT | <DATA | >>250 ok\\r\\n250 ok\\r\\n354 go\\r\\n | body | >250 queued";
/// The same, one thing at a time.
const PLAIN: &str = "<MAIL | alone | >250 ok | <RCPT | alone | >250 ok | <DATA | alone | >354 go | body | >250 queued";

fn states(attempt: &Attempt) -> Vec<RecipientState> {
    attempt.recipients.iter().map(|(_, state, _)| *state).collect()
}

fn bodies(server: &Server) -> usize {
    server.bodies.lock().unwrap().len()
}

#[tokio::test]
async fn the_envelope_comes_in_one_piece_and_its_replies_go_to_their_recipients() {
    use RecipientState::{Accepted, Pending, Rejected};
    let three = mail_to(&["a@example.jp", "b@example.jp", "c@example.jp"]);
    let commands = "<MAIL | <RCPT TO:<a@ | <RCPT TO:<b@ | <RCPT TO:<c@ | <DATA";
    let replies = [
        (
            ">>250 ok\\r\\n250 ok\\r\\n550 5.1.1 <b@example.jp> no\\r\\n450 4.2.0 later\\r\\n354 go\\r\\n",
            "in one piece",
        ),
        (">250 ok | >250 ok | >550 5.1.1 <b@example.jp> no | >450 4.2.0 later | >354 go", "one after the other"),
        (
            ">>250-ok\\r\\n250 ok\\r\\n25 | >>0 ok\\r\\n550-5.1.1 <b@example.jp>\\r\\n550 no | >>\\r\\n450 4.2.0 later\\r\\n354 | >> go\\r\\n",
            "cut anywhere",
        ),
    ];
    for (replies, why) in replies {
        let once = format!("together | {commands} | {replies} | body | >250 2.0.0 queued");
        let server = Server::start(&[&format!("pipelining | {once} | {once} | <QUIT | >221 bye")]).await;
        let mut smtp = Smtp::new(&server.config()).unwrap();
        for _ in 0..2 {
            let done = send(&mut smtp, &three).await;
            assert_eq!(done.outcome, Outcome::Accepted, "{why}: {}", done.reply);
            assert_eq!(states(&done), [Accepted, Rejected, Pending], "{why}");
            assert_eq!(done.recipients[0].2, "250 2.0.0 queued", "{why}");
            assert_eq!(done.recipients[1].2, "550 5.1.1 <b***@example.jp> no", "{why}");
        }
        kigen::mail::Transport::close(&mut smtp).await;
        assert_eq!((server.heard().len(), bodies(&server)), (1, 2), "{why}: both over one connection");
    }
}

/// What a server may answer to each command, and what it then does with the others; the two ways must come to the same.
#[tokio::test]
async fn pipelined_or_not_the_result_is_the_same() {
    let mails = ["250 ok", "452 4.3.1 full", "550 5.1.8 bad sender", "552 5.3.4 too big", "421 4.7.0 later"];
    let recipients =
        ["250 ok", "550 5.1.1 no", "450 4.2.0 later", "554 5.7.1 Relay access denied", "421 4.7.0 enough", "354 what"];
    let (datas, dots) =
        (["354 go", "451 4.3.0 later", "554 5.6.0 no"], ["250 2.0.0 queued", "451 4.3.0 no", "550 5.7.1 no"]);
    let mut rows = Vec::new();
    for first in recipients {
        for second in recipients {
            rows.extend(datas[1..].iter().map(|data| format!("{}/{first}/{second}/{data}/-", mails[0])));
            rows.extend(dots.iter().map(|dot| format!("{}/{first}/{second}/{}/{dot}", mails[0], datas[0])));
        }
    }
    rows.extend(mails[1..].iter().map(|mail| format!("{mail}/250 ok/250 ok/354 go/250 queued")));
    let two = mail_to(&["a@example.jp", "b@example.jp"]);
    for row in rows {
        let mut came = Vec::new();
        for hello in ["pipelining", "hello"] {
            // A server that is out of step is asked once more, one thing at a time.
            let script = format!("{hello} | answers {row}");
            let server = Server::start(&[&script, &script]).await;
            let done = send(&mut Smtp::new(&server.config()).unwrap(), &two).await;
            assert_eq!(bodies(&server), usize::from(server.heard().concat().iter().any(|l| l == "(body)")), "{row}");
            let sent = bodies(&server) == 1 && row.ends_with("250 2.0.0 queued");
            assert_eq!(done.outcome == Outcome::Accepted, sent, "{row}: {}", done.reply);
            came.push(done);
        }
        assert_eq!(came[0], came[1], "{row}");
    }
}

#[tokio::test]
async fn what_refuses_all_ends_the_transaction_at_a_clean_point() {
    use Outcome::{Blocked, Deferred, Rejected};
    let rows: &[(&str, Outcome, &str)] = &[
        ("550 5.1.8 bad sender\\r\\n503 5.5.1 need MAIL\\r\\n503 5.5.1 need RCPT", Blocked, "our account at MAIL"),
        ("552 5.3.4 too big\\r\\n503 5.5.1 need MAIL\\r\\n503 5.5.1 need RCPT", Rejected, "this mail at MAIL"),
        ("451 4.3.0 later\\r\\n503 5.5.1 need MAIL\\r\\n554 5.5.1 no valid recipients", Deferred, "for now at MAIL"),
        ("250 ok\\r\\n550 5.1.1 no\\r\\n554 5.5.1 no valid recipients", Rejected, "nobody there"),
        ("250 ok\\r\\n550 5.1.1 no\\r\\n503 5.5.1 need RCPT", Rejected, "nobody there, in other words"),
        (
            "250 ok\\r\\n450 4.2.0 greylisted\\r\\n554 5.5.1 no valid recipients",
            Deferred,
            "the recipient's reply decides",
        ),
        ("250 ok\\r\\n554 5.7.1 Relay access denied\\r\\n554 5.5.1 no valid recipients", Blocked, "not our relay"),
        ("250 ok\\r\\n250 ok\\r\\n451 4.3.0 later", Deferred, "DATA, for now"),
        ("250 ok\\r\\n250 ok\\r\\n554 5.6.0 no message wanted", Rejected, "DATA, for good"),
    ];
    for (replies, expected, why) in rows {
        let script = format!(
            "pipelining | together | <MAIL | <RCPT | <DATA | >>{replies}\\r\\n | <RSET | >250 ok | {TAKEN} | leaves"
        );
        let server = Server::start(&[&script]).await;
        let mut smtp = Smtp::new(&server.config()).unwrap();
        let done = send(&mut smtp, &mail()).await;
        assert_eq!(done.outcome, *expected, "{why}: {}", done.reply);
        assert!(!states(&done).contains(&RecipientState::Accepted), "{why}");
        assert_eq!(send(&mut smtp, &mail()).await.outcome, Outcome::Accepted, "{why}: the connection is still good");
        assert_eq!((server.heard().len(), bodies(&server)), (1, 1), "{why}");
    }
}

/// RFC 2920 section 3.1: DATA went out before its sender knew that there is nobody to write to.
#[tokio::test]
async fn an_invitation_with_nobody_to_write_to_is_answered_with_a_lone_dot() {
    let refused =
        "pipelining | together | <MAIL | <RCPT | <DATA | >>250 ok\\r\\n550 5.1.1 no\\r\\n354 go\\r\\n | <. | alone";
    let fresh = format!("pipelining | {TAKEN} | leaves");
    let rows = [
        (">554 5.5.1 no valid recipients | <RSET | >250 ok | leaves", true, "refused, as it should be"),
        (">250 queued | leaves", false, "it took the empty message: that is no success"),
        (">421 4.3.0 bye | leaves", false, "it leaves"),
        (">>OK\\r\\n | leaves", false, "no SMTP reply"),
        ("close", false, "it closes"),
    ];
    for (end, kept, why) in rows {
        let server = Server::start(&[&format!("{refused} | {end}"), &fresh]).await;
        let mut smtp = Smtp::new(&server.config()).unwrap();
        let done = send(&mut smtp, &mail()).await;
        assert_eq!((done.outcome, done.reply.as_str()), (Outcome::Rejected, "550 5.1.1 no"), "{why}");
        assert_eq!(done.recipients[0].1, RecipientState::Rejected, "{why}");
        assert_eq!(bodies(&server), 0, "{why}");
        if kept {
            assert_eq!(server.heard()[0].last().unwrap(), "RSET", "{why}");
        } else {
            assert_eq!(send(&mut smtp, &mail()).await.outcome, Outcome::Accepted, "{why}: over a fresh connection");
            assert_eq!(server.heard().len(), 2, "{why}");
        }
    }
    let server = Server::start(&[&format!("{refused} | hang")]).await;
    let mut smtp = Smtp::new(&SmtpConfig { timeout: SHORT, ..server.config() }).unwrap();
    assert_eq!(send(&mut smtp, &mail()).await.outcome, Outcome::Rejected, "it hangs");
}

#[tokio::test]
async fn an_invitation_that_is_not_taken_up_is_never_ended_if_somebody_would_get_it() {
    let rows = [
        (
            "250 ok\\r\\n250 ok\\r\\n554 5.7.1 Relay access denied\\r\\n354 go",
            "one was accepted, then the relay refuses us",
        ),
        ("250 ok\\r\\n554 5.7.1 Relay access denied\\r\\n250 ok\\r\\n354 go", "the other way round"),
        ("550 5.1.8 bad sender\\r\\n250 ok\\r\\n550 5.1.1 no\\r\\n354 go", "recipients after a refused sender"),
    ];
    for (replies, why) in rows {
        let script = format!("pipelining | together | <MAIL | <RCPT | <RCPT | <DATA | >>{replies}\\r\\n | leaves");
        let server = Server::start(&[&script]).await;
        let done = send(&mut Smtp::new(&server.config()).unwrap(), &mail_to(&["a@example.jp", "b@example.jp"])).await;
        assert_eq!(done.outcome, Outcome::Blocked, "{why}: {}", done.reply);
        assert!(!states(&done).contains(&RecipientState::Accepted), "{why}");
        assert_eq!(bodies(&server), 0, "{why}");
    }
}

/// Nothing of the message has been sent: a fresh connection, and one thing at a time from then on.
#[tokio::test]
async fn a_liar_is_asked_again_at_once_one_thing_at_a_time() {
    let rows = [
        ("together | close", "it closes when it hears more than one command"),
        ("together | >250 ok | close", "it closes after the first reply"),
        ("together | >>250 ok\\r\\n250 ok\\r\\n | close", "it closes after the second"),
        ("together | >554 5.5.0 SMTP synchronization error | leaves", "it says so, in words"),
        ("together | >250 ok | >503 5.5.1 bad sequence of commands | leaves", "it says so, by the code"),
        ("together | >250 ok | >550 5.5.1 PIPELINING is not for you | leaves", "by the enhanced code"),
        (
            "together | >>250 ok\\r\\n250 ok\\r\\n554 5.5.1 no valid recipients\\r\\n | leaves",
            "it forgot the recipient",
        ),
        (
            "together | >>250 ok\\r\\n250 ok\\r\\n250 ok\\r\\n354 go\\r\\n | leaves",
            "one reply too many, before the others",
        ),
        ("together | >>250 ok\\r\\n354 go\\r\\n | leaves", "a reply is missing"),
        ("together | >>354 go\\r\\n250 ok\\r\\n | leaves", "in another order"),
        ("together | >>250 ok\\r\\nwhat?\\r\\n | leaves", "no SMTP reply"),
        ("together | >>250 ok\\r\\n250-ok\\r\\n354 go\\r\\n | leaves", "two replies in one"),
    ];
    for (lie, why) in rows {
        let lie = format!("pipelining | {}", lie.replace("together", "together | <MAIL | <RCPT | <DATA"));
        let server = Server::start(&[
            &lie,
            &format!("pipelining | {PLAIN} | {PLAIN} | close"),
            &format!("pipelining | {PLAIN} | leaves"),
        ])
        .await;
        let mut smtp = Smtp::new(&server.config()).unwrap();
        for _ in 0..3 {
            let done = send(&mut smtp, &mail()).await;
            assert_eq!(done.outcome, Outcome::Accepted, "{why}: {}", done.reply);
        }
        assert_eq!((server.heard().len(), bodies(&server)), (3, 3), "{why}");
        // And where plain commands come to nothing either, that is the end of it.
        let server = Server::start(&[&lie, "pipelining | <MAIL | close"]).await;
        let done = send(&mut Smtp::new(&server.config()).unwrap(), &mail()).await;
        assert_eq!((done.outcome, server.heard().len()), (Outcome::Deferred, 2), "{why}: {}", done.reply);
    }
}

#[tokio::test]
async fn a_liar_that_hangs_or_leaves_or_answers_too_early_delays_one_mail() {
    let rows = [
        ("<MAIL | flush | >250 ok | leaves", "it throws away what it had read ahead of MAIL's reply"),
        ("<MAIL | <RCPT | flush | >>250 ok\\r\\n250 ok\\r\\n | leaves", "or of RCPT's"),
        ("together | <MAIL | <RCPT | <DATA | leaves", "it says nothing at all"),
        (
            "<MAIL | flush | >250 ok | >421 4.4.2 I have waited for long enough | leaves",
            "it loses patience before we do",
        ),
        (
            "together | <MAIL | <RCPT | <DATA | >>250 ok\\r\\n250 ok\\r\\n354 go\\r\\n250 queued\\r\\n | leaves",
            "accepted too early",
        ),
        (
            "together | <MAIL | <RCPT | <DATA | >>250 ok\\r\\n250 ok\\r\\n354 go\\r\\n354 go\\r\\n | leaves",
            "invited twice",
        ),
    ];
    // Side by side, for half of them last as long as the time-out.
    futures_util::future::join_all(rows.map(async |(lie, why)| {
        let plain = format!("pipelining | {PLAIN} | leaves");
        let server = Server::start(&[&format!("pipelining | {lie}"), &plain]).await;
        let mut smtp = Smtp::new(&SmtpConfig { timeout: 20 * SHORT, ..server.config() }).unwrap();
        let done = send(&mut smtp, &mail()).await;
        assert_eq!(done.outcome, Outcome::Deferred, "{why}: {}", done.reply);
        assert!(!states(&done).contains(&RecipientState::Accepted), "{why}");
        assert_eq!((server.heard().len(), bodies(&server)), (1, 0), "{why}: nobody waits for it twice");
        let done = send(&mut smtp, &mail()).await;
        assert_eq!(done.outcome, Outcome::Accepted, "{why}: {}", done.reply);
        assert_eq!(bodies(&server), 1, "{why}");
    }))
    .await;
}

#[tokio::test]
async fn a_message_that_was_begun_is_not_sent_twice() {
    let large = Outgoing { message: b"0123456789abcdef\r\n".repeat(1_000_000), ..mail() };
    let commands = "pipelining | together | <MAIL | <RCPT | <DATA";
    let rows = [
        (">>250 ok\\r\\n250 ok\\r\\n354 go\\r\\n | close", Outcome::Deferred, "closed before the end"),
        (">>250 ok\\r\\n250 ok\\r\\n354 go\\r\\n | >552 5.3.4 too big | hang", Outcome::Rejected, "refused under way"),
    ];
    for (end, expected, why) in rows {
        let server = Server::start(&[&format!("{commands} | {end}"), "pipelining | serve"]).await;
        let done = send(&mut Smtp::new(&server.config()).unwrap(), &large).await;
        assert_eq!((done.outcome, server.heard().len()), (expected, 1), "{why}: {}", done.reply);
    }
    let ends = [
        ("close", Outcome::Unknown, "closed after the end"),
        (">>250 2.0.0 que | close", Outcome::Unknown, "half a reply"),
        (">354 go on", Outcome::Unknown, "an answer to something else"),
        (">451 4.3.0 no | leaves", Outcome::Deferred, "it says that it did not take it"),
    ];
    for (end, expected, why) in ends {
        let script = format!("{commands} | >>250 ok\\r\\n250 ok\\r\\n354 go\\r\\n | body | {end}");
        let server = Server::start(&[&script, "pipelining | serve"]).await;
        let done = send(&mut Smtp::new(&server.config()).unwrap(), &mail()).await;
        assert_eq!((done.outcome, server.heard().len()), (expected, 1), "{why}: {}", done.reply);
    }
}

#[tokio::test]
async fn a_kept_connection_that_died_says_nothing_of_pipelining() {
    let scripts = [
        format!("pipelining | {TAKEN} | close"),
        format!("pipelining | {TAKEN} | >421 4.4.2 idle too long | close"),
        format!("pipelining | {TAKEN} | <MAIL | >421 4.4.2 idle too long | close"),
        // One reply too many, to the end of the message: its connection is given up with the next mail.
        format!("pipelining | {} | leaves", TAKEN.replace(">250 queued", ">>250 queued\\r\\n250 queued\\r\\n")),
        format!("pipelining | {TAKEN} | leaves"),
    ];
    let server = Server::start(&scripts.each_ref().map(String::as_str)).await;
    let mut smtp = Smtp::new(&server.config()).unwrap();
    for _ in 0..scripts.len() {
        let done = send(&mut smtp, &mail()).await;
        assert_eq!(done.outcome, Outcome::Accepted, "{}", done.reply);
    }
    assert_eq!((server.heard().len(), bodies(&server)), (scripts.len(), scripts.len()));
}

#[tokio::test]
async fn many_recipients_go_out_in_several_writes() {
    let names: Vec<String> = (0..400).map(|n| format!("r{n}@example.jp")).collect();
    let many = mail_to(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let server = Server::start(&["pipelining | batches | body | >250 queued | leaves"]).await;
    let done = send(&mut Smtp::new(&server.config()).unwrap(), &many).await;
    assert_eq!(done.outcome, Outcome::Accepted, "{}", done.reply);
    assert!(done.recipients.iter().all(|(_, state, _)| *state == RecipientState::Accepted));
    let heard = server.heard().concat();
    let asked: Vec<&str> = heard.iter().filter_map(|line| line.strip_prefix("RCPT TO:<")?.strip_suffix('>')).collect();
    assert_eq!(asked, names, "each once, in order");
    // Something is said between two of them: asked again, one thing at a time.
    let server = Server::start(&["pipelining | chatter | leaves", "pipelining | serve"]).await;
    let done = send(&mut Smtp::new(&server.config()).unwrap(), &many).await;
    assert_eq!((done.outcome, bodies(&server)), (Outcome::Accepted, 1), "{}", done.reply);
    // What refuses all at the first of them ends it there: DATA is never sent.
    let server = Server::start(&["pipelining | <MAIL | >550 5.1.8 bad sender | flush | leaves"]).await;
    let config = SmtpConfig { timeout: SHORT, ..server.config() };
    assert_eq!(send(&mut Smtp::new(&config).unwrap(), &many).await.outcome, Outcome::Blocked);
}

#[tokio::test]
async fn what_was_offered_in_the_clear_does_not_count_under_tls() {
    let start = ">220 hi | <EHLO | >250-hi | >250-PIPELINING | >250 STARTTLS | <STARTTLS | alone | >220 go | tls | <EHLO | alone";
    let signed_in = ">250 AUTH PLAIN | <AUTH PLAIN | alone | >235 ok";
    let rows = [
        (format!("{start} | >250-hi | {signed_in} | {PLAIN} | leaves"), "not offered again"),
        (format!("{start} | >250-hi | >250-PIPELINING | {signed_in} | {TAKEN} | {TAKEN} | leaves"), "offered again"),
    ];
    for (script, why) in rows {
        let server = Server::start(&[&script]).await;
        let mut smtp = Smtp::new(&server.password_config(SmtpTls::Starttls)).unwrap();
        let mails = if script.contains("together") { 2 } else { 1 };
        for _ in 0..mails {
            let done = send(&mut smtp, &mail()).await;
            assert_eq!(done.outcome, Outcome::Accepted, "{why}: {}", done.reply);
        }
        assert_eq!(bodies(&server), mails, "{why}");
    }
}

#[tokio::test]
async fn an_announced_mail_is_sent_without_its_envelope_being_said_twice() {
    let script = format!("pipelining | {TAKEN} | {TAKEN} | <QUIT | >221 bye");
    let server = Server::start(&[&script]).await;
    let mut smtp = Smtp::new(&server.config()).unwrap();
    // Over no connection yet there is nothing to say.
    smtp.announce(&mail()).await;
    assert_eq!(send(&mut smtp, &mail()).await.outcome, Outcome::Accepted);
    smtp.announce(&mail()).await;
    smtp.announce(&mail()).await;
    assert_eq!(bodies(&server), 1, "an envelope is no mail");
    assert_eq!(send(&mut smtp, &mail()).await.outcome, Outcome::Accepted);
    smtp.close().await;
    assert_eq!((server.heard().len(), bodies(&server)), (1, 2));
}

#[tokio::test]
async fn an_announced_mail_that_does_not_come_costs_the_connection_and_nothing_else() {
    let announced = format!(
        "pipelining | {TAKEN} | together | <MAIL | <RCPT | <DATA | >>250 ok\\r\\n250 ok\\r\\n354 go\\r\\n | leaves"
    );
    let server = Server::start(&[&announced, &format!("pipelining | {TAKEN} | <QUIT | >221 bye")]).await;
    let mut smtp = Smtp::new(&server.config()).unwrap();
    assert_eq!(send(&mut smtp, &mail()).await.outcome, Outcome::Accepted);
    smtp.announce(&mail()).await;
    let other = mail_to(&["hanako@example.jp"]);
    let done = send(&mut smtp, &other).await;
    assert_eq!(done.outcome, Outcome::Accepted, "{}", done.reply);
    smtp.close().await;
    assert_eq!((server.heard().len(), bodies(&server)), (2, 2), "over a fresh connection");

    // Nor is a goodbye said to a server that waits for a message.
    let server = Server::start(&[&announced]).await;
    let mut smtp = Smtp::new(&server.config()).unwrap();
    assert_eq!(send(&mut smtp, &mail()).await.outcome, Outcome::Accepted);
    smtp.announce(&mail()).await;
    smtp.close().await;
    drop(smtp);
    assert_eq!(bodies(&server), 1);
}

#[tokio::test]
async fn what_is_said_of_an_announced_mail_counts_as_ever() {
    let first = format!("pipelining | {TAKEN} | together | <MAIL | <RCPT | <DATA");
    let rows = [
        (">>250 ok\\r\\n550 5.1.1 no\\r\\n554 5.5.1 nobody\\r\\n | <RSET | >250 ok", Outcome::Rejected, "refused"),
        (
            ">>452 4.3.1 full\\r\\n503 5.5.1 order\\r\\n503 5.5.1 order\\r\\n | <RSET | >250 ok",
            Outcome::Deferred,
            "full",
        ),
    ];
    for (answers, expected, why) in rows {
        let server = Server::start(&[&format!("{first} | {answers} | leaves")]).await;
        let mut smtp = Smtp::new(&server.config()).unwrap();
        assert_eq!(send(&mut smtp, &mail()).await.outcome, Outcome::Accepted);
        smtp.announce(&mail()).await;
        let done = send(&mut smtp, &mail()).await;
        assert_eq!((done.outcome, bodies(&server)), (expected, 1), "{why}: {}", done.reply);
    }
    // A server that leaves over the announcement is asked again, as over any envelope.
    let server = Server::start(&[&format!("{first} | close"), &format!("pipelining | {TAKEN}")]).await;
    let mut smtp = Smtp::new(&server.config()).unwrap();
    assert_eq!(send(&mut smtp, &mail()).await.outcome, Outcome::Accepted);
    smtp.announce(&mail()).await;
    let done = send(&mut smtp, &mail()).await;
    assert_eq!((done.outcome, bodies(&server)), (Outcome::Accepted, 2), "{}", done.reply);
}
