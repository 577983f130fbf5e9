//! What the simulated mail server answers, line by line.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::*;

/// A client that says what a test tells it to and hears what comes.
struct Client(BufReader<TcpStream>);

impl Client {
    async fn new(server: &MailServer) -> Self {
        let mut client = Self(BufReader::new(TcpStream::connect(server.address).await.unwrap()));
        assert!(client.hear().await.starts_with("220 "));
        client
    }

    async fn greeted(server: &MailServer) -> Self {
        let mut client = Self::new(server).await;
        assert!(client.say("EHLO client.example\r\n").await.ends_with("250 ENHANCEDSTATUSCODES"));
        client
    }

    /// A whole reply, its lines joined; empty when the connection is closed.
    async fn hear(&mut self) -> String {
        let mut reply = Vec::new();
        loop {
            let mut line = String::new();
            let heard = tokio::time::timeout(Duration::from_secs(10), self.0.read_line(&mut line)).await;
            if heard.expect("a reply in time").unwrap_or(0) == 0 {
                return reply.join("|");
            }
            let goes_on = line.as_bytes().get(3) == Some(&b'-');
            reply.push(line.trim_end().to_owned());
            if !goes_on {
                return reply.join("|");
            }
        }
    }

    async fn say(&mut self, words: &str) -> String {
        self.0.get_mut().write_all(words.as_bytes()).await.unwrap();
        self.hear().await
    }

    async fn send(&mut self, to: &str, message: &str) -> String {
        assert_eq!(self.say("MAIL FROM:<support@vendor.example>\r\n").await, "250 2.1.0 OK");
        assert_eq!(self.say(&format!("RCPT TO:<{to}>\r\n")).await, "250 2.1.5 OK");
        assert!(self.say("DATA\r\n").await.starts_with("354 "));
        self.say(message).await
    }
}

#[tokio::test]
async fn a_message_is_kept_as_it_was_before_its_dots_were_stuffed() {
    let dir = tempfile::tempdir().unwrap();
    let server = MailServer::start(Some(dir.path().to_owned())).await.unwrap();
    let mut client = Client::greeted(&server).await;
    let reply = client.send("a@c0001.example", "Subject: x\r\n\r\n..\r\n..dot\r\nend.\r\n.\r\n").await;
    assert_eq!(reply, "250 2.0.0 OK: queued as DEMO00001");
    assert_eq!(client.say("QUIT\r\n").await, "221 2.0.0 bye");

    let received = server.received();
    let [message] = received.as_slice() else { panic!("one message, not {}", received.len()) };
    assert_eq!(message.data, b"Subject: x\r\n\r\n.\r\n.dot\r\nend.\r\n");
    assert_eq!(message.envelope_from, "support@vendor.example");
    assert_eq!(message.recipients, ["a@c0001.example"]);
    assert_eq!(std::fs::read(dir.path().join("00001.eml")).unwrap(), message.data);
    server.shutdown().await;
}

#[tokio::test]
async fn what_a_relay_would_refuse_is_refused() {
    let server = MailServer::start(None).await.unwrap();
    let mail = "MAIL FROM:<a@b.example>\r\n";
    let too_large = format!("MAIL FROM:<a@b.example> SIZE={}\r\n", MAX_MESSAGE + 1);
    let rows: &[(&str, &[&str], &str)] = &[
        ("RCPT before MAIL is out of order", &["RCPT TO:<a@b.example>\r\n"], "503"),
        ("DATA without a recipient is out of order", &[mail, "DATA\r\n"], "503"),
        ("a second MAIL is out of order", &[mail, mail], "503"),
        ("AUTH is not offered", &["AUTH PLAIN AGEAYg==\r\n"], "502"),
        ("a parameter that was not offered", &["MAIL FROM:<a@b.example> RET=HDRS\r\n"], "555"),
        ("a recipient's parameter that was not offered", &[mail, "RCPT TO:<a@b.example> NOTIFY=FAILURE\r\n"], "555"),
        ("a size that is too large", &[&too_large], "552"),
        ("8BITMIME was offered", &["MAIL FROM:<a@b.example> SIZE=10 BODY=8BITMIME\r\n"], "250"),
        ("a space after the colon", &["MAIL FROM: <a@b.example>\r\n"], "501"),
        ("an address without a domain", &[mail, "RCPT TO:<root>\r\n"], "501"),
        ("an empty sender is a bounce's", &["MAIL FROM:<>\r\n"], "250"),
        ("a line that ends in a bare line feed", &["NOOP\n"], "500"),
        ("a command nobody knows", &["VRFY a\r\n"], "500"),
        ("RSET forgets the sender", &[mail, "RSET\r\n", mail], "250"),
    ];
    for (sentence, words, code) in rows {
        let mut client = Client::greeted(&server).await;
        let mut reply = String::new();
        for line in *words {
            reply = client.say(line).await;
        }
        assert!(reply.starts_with(code), "{sentence}: {reply}");
    }
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn a_bare_line_feed_smuggles_nothing() {
    let server = MailServer::start(None).await.unwrap();
    let mut client = Client::greeted(&server).await;
    let reply = client.send("a@b.example", "Subject: x\r\n\r\nhello\n.\nMAIL FROM:<evil@b.example>\r\n.\r\n").await;
    assert!(reply.starts_with("550 5.6.0"), "{reply}");
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn each_recipient_has_its_policy() {
    let server = MailServer::start(None).await.unwrap();
    server.set_policy("gone@x.example", Policy::Reject);
    server.set_policy("grey@x.example", Policy::Defer(2));
    server.set_policy("filter@x.example", Policy::RejectMessage);
    server.set_policy("late@x.example", Policy::Delay(Duration::from_millis(1)));

    let mut client = Client::greeted(&server).await;
    client.say("MAIL FROM:<s@v.example>\r\n").await;
    assert!(client.say("RCPT TO:<Gone@X.example>\r\n").await.starts_with("550 5.1.1"));
    for _ in 0..2 {
        assert!(client.say("RCPT TO:<grey@x.example>\r\n").await.starts_with("451 4.7.1"));
    }
    client.say("RSET\r\n").await;
    let message = "Subject: x\r\n\r\n.\r\n";
    assert!(client.send("grey@x.example", message).await.starts_with("250 "), "the third try is let through");
    assert!(client.send("filter@x.example", message).await.starts_with("550 5.7.1"));
    assert!(client.send("late@x.example", message).await.starts_with("250 "));
    assert_eq!(server.take_received().len(), 2);
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn a_dropped_connection_leaves_the_message_or_not() {
    for (policy, kept) in [(Policy::DropBeforeDot, 0), (Policy::DropAfterDot, 1)] {
        let server = MailServer::start(None).await.unwrap();
        server.set_default_policy(policy);
        let mut client = Client::greeted(&server).await;
        let reply = client.send("a@b.example", "Subject: x\r\n\r\n.\r\n").await;
        assert_eq!(reply, "", "{policy:?}: the connection is closed without a word");
        let rest = client.0.read_to_end(&mut Vec::new()).await.unwrap_or(0);
        assert_eq!((rest, server.received().len()), (0, kept), "{policy:?}");
    }
}

#[tokio::test]
async fn with_auth_nothing_is_taken_before_it() {
    let auth = Some(("kigen".to_owned(), "secret".to_owned()));
    let server = MailServer::start_with(MailServerOptions { dir: None, auth }).await.unwrap();
    let mut client = Client::new(&server).await;
    assert!(client.say("EHLO c.example\r\n").await.contains("AUTH PLAIN LOGIN"));
    assert!(client.say("MAIL FROM:<a@b.example>\r\n").await.starts_with("530"));
    assert!(client.say("AUTH PLAIN AGtpZ2VuAHdyb25n\r\n").await.starts_with("535"));
    assert!(client.say("AUTH LOGIN\r\n").await.starts_with("334 VXNlcm5hbWU6"));
    assert!(client.say("a2lnZW4=\r\n").await.starts_with("334 "));
    assert!(client.say("c2VjcmV0\r\n").await.starts_with("235"));
    assert!(client.send("a@b.example", "Subject: x\r\n\r\n.\r\n").await.starts_with("250"));

    let mut second = Client::greeted(&server).await;
    assert!(second.say("AUTH PLAIN AGtpZ2VuAHNlY3JldA==\r\n").await.starts_with("235"));
    assert!(server.wait_for(1, Duration::from_secs(5)).await);
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_line_without_an_end_ends_the_dialogue() {
    let server = MailServer::start(None).await.unwrap();
    let mut client = Client::greeted(&server).await;
    let endless = "x".repeat(MAX_LINE + 10);
    // The server may hang up while the rest is still being written.
    let _ = client.0.get_mut().write_all(endless.as_bytes()).await;
    assert_eq!(client.hear().await, "");
}
