//! The IMAP mailbox against servers that misbehave: a clear error each time, no hang, no growth, nothing leaked, nothing lost.
//!
//! A server here follows a script, one per connection, of words separated by `|`: `>text` says a line · `>>text` says it raw
//! (`\r\n` as written) · `<WORD` reads a line and wants it to begin so · `endless` says one line for ever · `flood` says
//! `* 1 EXISTS` for ever · `hang` waits until the client has gone · `close` ends the connection. `{in}` stands for the usual
//! lines up to the open folder, whose next UID is 4.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kigen::config::{BouncesConfig, BouncesFrom, ImapConfig, SmtpAuth, SmtpTls};
use kigen::mail::bounce::READ_MAX;
use kigen::mail::mailbox::{self, MailboxError};
use kigen::secret::SecretSource;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

const GREETED: &str = ">* OK ready|<K1 CAPABILITY|>* CAPABILITY IMAP4rev1 AUTH=PLAIN|>K1 OK done";
const SIGNED_IN: &str = "<K2 AUTHENTICATE PLAIN|>+ |<AHRhcm8Aczplcy1jcmV0|>K2 OK [CAPABILITY IMAP4rev1] in";
const SELECTED: &str = "<K3 SELECT \"INBOX\"|>* FLAGS (\\Seen)|>* OK [PERMANENTFLAGS (\\Seen \\*)] x|>* 3 EXISTS|\
                        >* OK [UIDVALIDITY 5] x|>* OK [UIDNEXT 4] x|>K3 OK [READ-WRITE] open";
/// The same folder, which finds these UIDs.
const FOUND: &str = "{in}|<K4 UID SEARCH UID 1:3|>* SEARCH 1 3|>K4 OK found";

/// A server, what it heard, and where a client did not keep to the script.
struct Server {
    port: u16,
    dir: tempfile::TempDir,
    faults: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(scripts: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let faults = Arc::new(Mutex::new(Vec::new()));
        let missed = Arc::clone(&faults);
        let signed_in = format!("{GREETED}|{SIGNED_IN}|{SELECTED}");
        let scripts: Vec<String> =
            scripts.iter().map(|s| s.replace("{found}", FOUND).replace("{in}", &signed_in)).collect();
        tokio::spawn(async move {
            for script in scripts {
                let Ok((stream, _)) = listener.accept().await else { return };
                if let Err(fault) = follow(stream, &script).await {
                    missed.lock().unwrap().push(fault);
                }
            }
        });
        Self { port, dir: tempfile::tempdir().unwrap(), faults }
    }

    fn config(&self) -> ImapConfig {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.dir.path().join("secret");
        std::fs::write(&path, "s:es-cret").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let auth = SmtpAuth::Password { username: "taro".to_owned(), password: SecretSource::File(path) };
        ImapConfig {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            tls: SmtpTls::None,
            auth,
            folder: "INBOX".to_owned(),
            timeout: Duration::from_secs(30),
            ca_file: None,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(*self.faults.lock().unwrap(), [""; 0]);
        }
    }
}

async fn follow(stream: TcpStream, script: &str) -> Result<(), String> {
    let mut stream = BufReader::new(stream);
    for word in script.split('|') {
        let say = match word {
            "close" => return Ok(()),
            "hang" => {
                while stream.read_line(&mut String::new()).await.is_ok_and(|n| n > 0) {}
                return Ok(());
            }
            "endless" => {
                while stream.write_all(&[b'x'; 65_536]).await.is_ok() {}
                return Ok(());
            }
            "flood" => {
                while stream.write_all("* 1 EXISTS\r\n".repeat(1000).as_bytes()).await.is_ok() {}
                return Ok(());
            }
            _ => word,
        };
        if let Some(wanted) = say.strip_prefix('<') {
            let mut line = String::new();
            let _ = stream.read_line(&mut line).await;
            if !line.starts_with(wanted) {
                return Err(format!("{wanted} was to come, not {line:?}"));
            }
        } else if let Some(raw) = say.strip_prefix(">>") {
            let raw = raw.replace("\\r", "\r").replace("\\n", "\n").replace("\\0", "\0");
            let _ = stream.write_all(raw.as_bytes()).await;
        } else {
            let text = say.strip_prefix('>').ok_or_else(|| format!("{say} is no word of a script"))?;
            let _ = stream.write_all(format!("{text}\r\n").as_bytes()).await;
        }
    }
    Ok(())
}

/// Reads all there is, as a run does; the mails, and where it got to.
async fn run(config: ImapConfig, position: Option<&str>) -> Result<(Vec<String>, String), MailboxError> {
    let config = BouncesConfig { from: BouncesFrom::Imap(Box::new(config)), verp: true };
    let mut mailbox = mailbox::open(&config, position).await?;
    let mut mails = Vec::new();
    while let Some(mail) = mailbox.next().await? {
        mails.push(String::from_utf8_lossy(&mail).into_owned());
        mailbox.done().await?;
    }
    let position = mailbox.position().unwrap();
    mailbox.close().await;
    Ok((mails, position))
}

fn whole(error: &MailboxError) -> String {
    anyhow::Chain::new(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_server_gets_a_clear_error_at_once() {
    let rows: &[(&str, &str, &str)] = &[
        ("closes before it greets", "close", "closed the connection"),
        ("greets with a goodbye", ">* BYE too many", "goodbye: BYE too many"),
        ("says that we are signed in", ">* PREAUTH welcome", "signed in already"),
        ("speaks SMTP", ">220 mx.example ESMTP", "the greeting is none"),
        ("greets without an end", "endless", "line that is too long"),
        ("floods before the answer", ">* OK ready|<K1|flood", "too many lines"),
        ("answers another command", ">* OK ready|<K1|>K9 OK done", "answers another command"),
        ("answers with a new word", ">* OK ready|<K1|>K1 YES done", "neither OK, NO nor BAD"),
        ("asks out of turn", ">* OK ready|<K1|>+ go on", "asks for what no command has"),
        ("sends a NUL", ">* OK ready|<K1|>>* a\\0b\\r\\n", "a NUL"),
        ("offers no sign-in", ">* OK ready|<K1|>* CAPABILITY LOGINDISABLED|>K1 OK", "does not offer a sign-in"),
        ("asks for the password for ever", &format!("{GREETED}|<K2|>+ |<AHRh|>+ "), "asks for what no command has"),
        (
            "refuses the password, and quotes it",
            &format!(
                "{GREETED}|<K2|>+ |<AHRh|>K2 NO [AUTHENTICATIONFAILED] taro@a.example AHRhcm8Aczplcy1jcmV0 s:es-cret"
            ),
            "refused the sign-in: [AUTHENTICATIONFAILED] t***@a.example *** ***",
        ),
        (
            "has no such folder",
            &format!("{GREETED}|{SIGNED_IN}|<K3 SELECT|>K3 NO [NONEXISTENT] no"),
            "refused mail.bounces.imap.folder: [NONEXISTENT] no",
        ),
        (
            "gives no generation of UIDs",
            &format!("{GREETED}|{SIGNED_IN}|<K3|>* OK [UIDNEXT 4] x|>K3 OK"),
            "no UIDVALIDITY",
        ),
        ("says goodbye in the middle", "{in}|<K4|>* BYE shutting down", "goodbye: BYE shutting down"),
        ("goes in the middle", "{in}|<K4|>* SEARCH 1|close", "closed the connection"),
        ("goes in the middle of a line", "{in}|<K4|>>* SEAR|close", "closed the connection"),
        ("finds what was not asked for", "{in}|<K4|>* SEARCH 1 99|>K4 OK", "not asked for"),
        ("finds what is no UID", "{in}|<K4|>* SEARCH one|>K4 OK", "what is no UID"),
        ("finds without an end", "{in}|<K4|>>* SEARCH |endless", "line that is too long"),
        (
            "brings a mail beyond belief",
            "{found}|<K5 UID FETCH 1 |>* 1 FETCH (UID 1 BODY[]<0> {4294967295}",
            "longer than",
        ),
        ("brings a mail beyond numbers", "{found}|<K5|>* 1 FETCH (UID 1 BODY[] {99999999999999999999}", "longer than"),
        ("brings a mail without an end", "{found}|<K5|>>* 1 FETCH (UID 1 BODY[] \"|endless", "line that is too long"),
        (
            "goes in the middle of a mail",
            "{found}|<K5|>>* 1 FETCH (UID 1 BODY[] {9}\\r\\nhalf|close",
            "closed the connection",
        ),
        ("floods in the place of a mail", "{found}|<K5|flood", "too many lines"),
    ];
    for (why, script, expected) in rows {
        let server = Server::start(&[script]).await;
        let error = run(server.config(), None).await.expect_err(why);
        let text = whole(&error);
        assert!(text.contains(expected), "{why}: {text}");
        for secret in ["s:es-cret", "AHRhcm8Aczplcy1jcmV0", "taro@"] {
            assert!(!text.contains(secret), "{why}: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_is_left_after_the_time_for_one_answer() {
    let rows = [
        ("never greets", "hang".to_owned()),
        ("never answers", ">* OK ready|hang".to_owned()),
        ("stops in the middle of a line", "{in}|<K4|>>* SEA|hang".to_owned()),
        ("stops in the middle of a mail", "{found}|<K5|>>* 1 FETCH (UID 1 BODY[] {9}\\r\\nhalf|hang".to_owned()),
    ];
    for (why, script) in rows {
        let server = Server::start(&[&script]).await;
        let config = ImapConfig { timeout: Duration::from_millis(1500), ..server.config() };
        let error = run(config, None).await.expect_err(why);
        assert!(matches!(error, MailboxError::Silent(_)) && error.passes(), "{why}: {}", whole(&error));
    }
    // Nobody listens there.
    let server = Server::start(&[]).await;
    let error = run(ImapConfig { port: 1, ..server.config() }, None).await.expect_err("no server");
    assert!(matches!(error, MailboxError::Connect { .. }) && error.passes(), "{}", whole(&error));
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_are_read_once_and_marked_and_the_next_run_goes_on_behind_them() {
    let mail = |command: &str, uid: u32, text: &str| {
        let length = text.len();
        format!(
            "<{command} UID FETCH {uid} (UID BODY.PEEK[]<0.{READ_MAX}>)|>>* {uid} FETCH (FLAGS () UID {uid} BODY[]<0> \
             {{{length}}}\\r\\n{text})\\r\\n|>{command} OK fetched"
        )
    };
    let stored = |command: &str, uid: u32| {
        format!("<{command} UID STORE {uid} +FLAGS.SILENT (\\Seen $KigenRead)|>{command} OK stored")
    };
    let goodbye = "<KX LOGOUT|>* BYE bye|>KX OK done";
    let first = format!(
        "{{found}}|{}|{}|{}|>* 9 EXISTS|{}|{goodbye}",
        mail("K5", 1, "one"),
        stored("K6", 1),
        mail("K7", 3, "three"),
        stored("K8", 3)
    );
    // Nothing new: nothing is even searched for.
    let second = format!("{{in}}|{goodbye}");
    // Mail 5 cannot be had, mail 6 is gone, and marks are refused: all of that once.
    let select = SELECTED.replace("[UIDNEXT 4]", "[UIDNEXT 8]");
    let third = format!(
        "{GREETED}|{SIGNED_IN}|{select}|<K4 UID SEARCH UID 4:7|>* SEARCH 7 5 6|>K4 OK|<K5 UID FETCH 5 |\
         >K5 NO [SERVERBUG] sorry|<K6 UID FETCH 6 |>* 2 FETCH (FLAGS (\\Seen) UID 1)|>K6 OK|{}|<K8 UID STORE 7 |>K8 NO full|{goodbye}",
        mail("K7", 7, "seven")
    );
    let fourth = format!("{GREETED}|{SIGNED_IN}|{select}|{}|<K5 UID STORE 5 |>K5 OK|{goodbye}", mail("K4", 5, "five"));
    // The server counts anew: everything is read again, which the digests make harmless.
    let anew = SELECTED.replace("[UIDVALIDITY 5]", "[UIDVALIDITY 6]").replace("[READ-WRITE]", "[READ-ONLY]");
    let fifth = format!(
        "{GREETED}|{SIGNED_IN}|{anew}|<K4 UID SEARCH UID 1:3|>* SEARCH 1|>K4 OK|{}|\
         <K6 UID SEARCH UID 2:3|>* SEARCH|>K6 OK|{goodbye}",
        mail("K5", 1, "one")
    );
    let server = Server::start(&[&first, &second, &third, &fourth, &fifth]).await;
    let mut position: Option<String> = None;
    let runs: [(&str, &[&str]); 5] = [
        ("the first run", &["one", "three"]),
        ("nothing new", &[]),
        ("one mail cannot be had", &["seven"]),
        ("it is had the next time", &["five"]),
        ("the folder is a new one and read-only", &["one"]),
    ];
    for (why, expected) in runs {
        let (mails, reached) = run(server.config(), position.as_deref()).await.unwrap_or_else(|e| panic!("{why}: {e}"));
        assert_eq!(mails, expected, "{why}: {:?}", server.faults.lock().unwrap());
        position = Some(reached);
    }
    assert!(position.unwrap().ends_with(" 6 3 "), "where the last run got to");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_in_the_clear_where_starttls_is_wanted() {
    let rows = [
        ("refuses it", ">* OK ready|<K1 STARTTLS|>K1 BAD unknown", "refused STARTTLS, which mail.bounces.imap.tls"),
        (
            "says more than its agreement",
            ">* OK ready|<K1 STARTTLS|>>K1 OK go\\r\\n* CAPABILITY AUTH=PLAIN\\r\\n|hang",
            "between STARTTLS and TLS",
        ),
        (
            "agrees and then speaks in the clear",
            ">* OK ready|<K1 STARTTLS|>K1 OK go|<|>* OK hello|hang",
            "TLS with 127.0.0.1",
        ),
    ];
    for (why, script, expected) in rows {
        let server = Server::start(&[script]).await;
        let error = run(ImapConfig { tls: SmtpTls::Starttls, ..server.config() }, None).await.expect_err(why);
        assert!(whole(&error).contains(expected), "{why}: {}", whole(&error));
    }
}
