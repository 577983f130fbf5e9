//! A scripted SMTP server.
//!
//! It follows a script, one per connection, of words separated by `|`:
//! `>text` says a line · `>>text` says it raw (`\r\n` as written) · `<WORD` reads a line and wants it to begin so ·
//! `body` reads the message to its dot · `tls` shakes hands · `close` ends the connection · `hang` waits until the client
//! has gone · `stuck` neither reads nor says anything · `alone` wants nothing more to come before the answer ·
//! `endless` says one line for ever · `flood` says `250-x` for ever · `serve` answers everything as it should.
//! Of PIPELINING: `together` wants the whole envelope to come in one piece · `flush` throws away what has come · `leaves` wants
//! the client to go without another word · `batches` answers an envelope by what comes at once, which must not be too much ·
//! `chatter` does the same and says one thing too many each time ·
//! `answers A/B/…` answers MAIL, each RCPT, DATA and the message with these, as long as the ones before let it.
//! `hello`, `pipelining`, `envelope` and `data` stand for the usual lines.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kigen::config::{SmtpAuth, SmtpConfig, SmtpTls};
use kigen::secret::SecretSource;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A listening server and what it heard, a list of lines per connection; a message is the one line `(body)`.
pub struct Server {
    pub port: u16,
    heard: Arc<Mutex<Vec<Vec<String>>>>,
    pub bodies: Arc<Mutex<Vec<Vec<u8>>>>,
    /// Where a client did not keep to the script; checked when the server is dropped.
    faults: Arc<Mutex<Vec<String>>>,
    ca: Certificate,
}

pub struct Certificate {
    dir: tempfile::TempDir,
    acceptor: tokio_rustls::TlsAcceptor,
}

impl Certificate {
    pub fn for_name(name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), made.cert.pem()).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        Self { dir, acceptor: tokio_rustls::TlsAcceptor::from(Arc::new(config)) }
    }

    pub fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }
}

impl Server {
    pub async fn start(scripts: &[&str]) -> Self {
        Self::with_certificate(scripts, Certificate::for_name("127.0.0.1")).await
    }

    pub async fn with_certificate(scripts: &[&str], ca: Certificate) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let faults = Arc::new(Mutex::new(Vec::new()));
        let missed = faults.clone();
        let scripts: Vec<String> = scripts.iter().map(|s| (*s).to_owned()).collect();
        let (log, kept, acceptor) = (heard.clone(), bodies.clone(), ca.acceptor.clone());
        tokio::spawn(async move {
            for script in scripts {
                let (tcp, _) = listener.accept().await.unwrap();
                let number = {
                    let mut log = log.lock().unwrap();
                    log.push(Vec::new());
                    log.len() - 1
                };
                let connection = Connection {
                    wire: Box::new(tcp),
                    received: Vec::new(),
                    number,
                    heard: log.clone(),
                    bodies: kept.clone(),
                    faults: missed.clone(),
                };
                tokio::spawn(connection.follow(script, acceptor.clone()));
            }
        });
        Self { port, heard, bodies, faults, ca }
    }

    pub fn config(&self) -> SmtpConfig {
        SmtpConfig {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            tls: SmtpTls::None,
            auth: SmtpAuth::None,
            rate: kigen::config::Rate { count: 30, per: Duration::from_secs(60) },
            connections: 1,
            timeout: Duration::from_secs(20),
            ca_file: Some(self.ca.file()),
            password_until: chrono::NaiveDate::MAX,
        }
    }

    /// With a password, readable by us alone.
    pub fn password_config(&self, tls: SmtpTls) -> SmtpConfig {
        let auth = SmtpAuth::Password { username: "user@example.jp".to_owned(), password: self.secret("s3cret") };
        SmtpConfig { tls, auth, ..self.config() }
    }

    pub fn secret(&self, text: &str) -> SecretSource {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.ca.dir.path().join("secret");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        SecretSource::File(path)
    }

    pub fn heard(&self) -> Vec<Vec<String>> {
        self.heard.lock().unwrap().clone()
    }
}

struct Connection {
    wire: Box<dyn Wire>,
    received: Vec<u8>,
    number: usize,
    heard: Arc<Mutex<Vec<Vec<String>>>>,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
    faults: Arc<Mutex<Vec<String>>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let faults = self.faults.lock().unwrap();
        assert!(std::thread::panicking() || faults.is_empty(), "{faults:?}");
    }
}

impl Connection {
    /// Any error means that the client has gone, which every script may meet.
    async fn follow(mut self, script: String, acceptor: tokio_rustls::TlsAcceptor) {
        let script = script
            .replace("pipelining", ">220 hi | <EHLO | >250-hi | >250-PIPELINING | >250 SMTPUTF8")
            .replace("hello", ">220 hi | <EHLO | >250-hi | >250 AUTH PLAIN LOGIN")
            .replace("envelope", "<MAIL | >250 ok | <RCPT | >250 ok")
            .replace("data", "<DATA | >354 go");
        for step in script.split('|').map(str::trim) {
            if step == "tls" {
                // Whatever the client sent together with its STARTTLS would be lost here, as it should.
                match acceptor.accept(std::mem::replace(&mut self.wire, Box::new(tokio::io::empty()))).await {
                    Ok(stream) => self.wire = Box::new(stream),
                    Err(_) => return,
                }
                continue;
            }
            if self.step(step).await.is_none() {
                return;
            }
        }
    }

    async fn step(&mut self, step: &str) -> Option<()> {
        if let Some(raw) = step.strip_prefix(">>") {
            return self.say(&raw.replace("\\r\\n", "\r\n")).await;
        }
        if let Some(line) = step.strip_prefix('>') {
            return self.say(&format!("{line}\r\n")).await;
        }
        if let Some(word) = step.strip_prefix('<') {
            let line = self.line().await?;
            if !line.starts_with(word) {
                self.faults.lock().unwrap().push(format!("wanted {word}, heard {line}"));
                return None;
            }
            return Some(());
        }
        if let Some(answers) = step.strip_prefix("answers ") {
            return self.answer(&answers.split('/').collect::<Vec<_>>()).await;
        }
        match step {
            "body" => self.body().await,
            "close" => None,
            // Whoever sends its next command before the answer to this one is caught here.
            "alone" => {
                tokio::time::timeout(Duration::from_millis(50), self.fill()).await.ok();
                if !self.received.is_empty() {
                    self.faults.lock().unwrap().push("commands were sent without waiting for the answer".to_owned());
                }
                Some(())
            }
            "together" => {
                if self.received.is_empty() {
                    self.fill().await?;
                }
                if !self.received.starts_with(b"MAIL") || !self.received.ends_with(b"DATA\r\n") {
                    self.faults.lock().unwrap().push("the envelope did not come in one piece".to_owned());
                }
                Some(())
            }
            "flush" => {
                self.received.clear();
                Some(())
            }
            "leaves" => {
                while self.fill().await.is_some() {}
                if !self.received.is_empty() {
                    self.faults.lock().unwrap().push("the client said something more".to_owned());
                }
                Some(())
            }
            "batches" => self.batches("").await,
            "chatter" => self.batches("250 and more\r\n").await,
            // Holds the connection and never reads; the test's end ends it.
            "stuck" => std::future::pending().await,
            "hang" => {
                while self.fill().await.is_some() {}
                Some(())
            }
            "endless" => loop {
                self.say("250 and on and on").await?;
            },
            "flood" => loop {
                self.say("250-x\r\n").await?;
            },
            "serve" => self.serve().await,
            other => panic!("no such step: {other}"),
        }
    }

    async fn serve(&mut self) -> Option<()> {
        loop {
            let line = self.line().await?;
            match line.split([' ', ':']).next().unwrap_or_default() {
                "DATA" => {
                    self.say("354 go\r\n").await?;
                    self.body().await?;
                    self.say("250 2.0.0 queued\r\n").await?;
                }
                "QUIT" => return self.say("221 bye\r\n").await,
                _ => self.say("250 ok\r\n").await?,
            }
        }
    }

    async fn batches(&mut self, too_much: &str) -> Option<()> {
        loop {
            // Ends when nothing comes for a moment; a client that is only slow does no harm.
            while let Ok(filled) = tokio::time::timeout(Duration::from_millis(50), self.fill()).await {
                filled?;
            }
            if self.received.len() > 4500 {
                self.faults.lock().unwrap().push(format!("{} octets came at once", self.received.len()));
            }
            let (mut replies, mut data) = (String::new(), false);
            while self.received.ends_with(b"\r\n") {
                data = self.line().await? == "DATA";
                replies.push_str(if data { "354 go\r\n" } else { "250 ok\r\n" });
            }
            if !replies.is_empty() {
                self.say(&format!("{replies}{too_much}")).await?;
            }
            if data {
                return Some(());
            }
        }
    }

    /// In the order of commands, whatever comes together; nothing goes out before it would if each came alone.
    async fn answer(&mut self, answers: &[&str]) -> Option<()> {
        let (dot, data) = (answers[answers.len() - 1], answers[answers.len() - 2]);
        let mut of_recipients = answers[1..answers.len() - 2].iter();
        let (mut begun, mut taken) = (false, false);
        loop {
            let line = self.line().await?;
            let verb = line.split([' ', ':']).next().unwrap_or_default();
            let answer = match verb {
                "MAIL" => {
                    begun = answers[0].starts_with('2');
                    answers[0]
                }
                "RCPT" if begun => {
                    let answer = *of_recipients.next()?;
                    taken |= answer.starts_with('2');
                    answer
                }
                "RCPT" => "503 5.5.1 need MAIL",
                "DATA" if taken => data,
                "DATA" => "554 5.5.1 no valid recipients",
                _ => "250 ok",
            };
            self.say(&format!("{answer}\r\n")).await?;
            if answer.starts_with("421") {
                return None;
            }
            if verb == "DATA" && answer.starts_with("354") {
                self.body().await?;
                self.say(&format!("{dot}\r\n")).await?;
            }
        }
    }

    async fn say(&mut self, text: &str) -> Option<()> {
        self.wire.write_all(text.as_bytes()).await.ok()?;
        self.wire.flush().await.ok()
    }

    async fn fill(&mut self) -> Option<()> {
        let mut page = [0; 4096];
        let n = self.wire.read(&mut page).await.ok().filter(|n| *n > 0)?;
        self.received.extend_from_slice(&page[..n]);
        Some(())
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.received.windows(2).position(|w| w == b"\r\n") {
                let line: Vec<u8> = self.received.drain(..end + 2).collect();
                let line = String::from_utf8(line[..end].to_vec()).unwrap();
                self.heard.lock().unwrap()[self.number].push(line.clone());
                return Some(line);
            }
            self.fill().await?;
        }
    }

    async fn body(&mut self) -> Option<()> {
        loop {
            if let Some(end) = self.received.windows(5).position(|w| w == b"\r\n.\r\n") {
                let body: Vec<u8> = self.received.drain(..end + 5).collect();
                self.heard.lock().unwrap()[self.number].push("(body)".to_owned());
                self.bodies.lock().unwrap().push(body);
                return Some(());
            }
            self.fill().await?;
        }
    }
}
