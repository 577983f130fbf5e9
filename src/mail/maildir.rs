//! A way out that writes files: for trying out, and for a local delivery agent.
//!
//! A maildir: written whole to `tmp/`, made durable, then renamed into `new/`, so that no reader ever sees half a mail.
//! The name comes from the Message-ID: a repeat replaces its first copy instead of standing beside it. The message is not
//! touched and the envelope is not written down.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use super::message::well_formed;
use super::{MailError, Outgoing, Transport};
use crate::domain::delivery::{Attempt, Outcome};

/// The transport `maildir`.
#[derive(Debug, Clone)]
pub struct Maildir {
    path: PathBuf,
}

impl Maildir {
    /// Makes the directories where they are missing, for their owner alone.
    ///
    /// # Errors
    /// [`MailError::Maildir`] names the directory.
    pub fn new(path: &Path) -> Result<Self, MailError> {
        for part in ["tmp", "new", "cur"] {
            let dir = path.join(part);
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&dir)
                .map_err(|source| MailError::Maildir { path: dir, source })?;
        }
        Ok(Self { path: path.to_owned() })
    }
}

#[async_trait]
impl Transport for Maildir {
    async fn send(&mut self, mail: &Outgoing) -> Attempt {
        if let Err(why) = well_formed(&mail.message) {
            return Attempt::whole(Outcome::Rejected, format!("the message is not well-formed: {why}"));
        }
        let (path, message) = (self.path.clone(), mail.message.clone());
        match tokio::task::spawn_blocking(move || write(&path, &message)).await {
            Ok(attempt) => attempt,
            // The task panicked or the runtime ends: the file may be there.
            Err(_) => Attempt::whole(Outcome::Unknown, "writing the file was broken off"),
        }
    }

    async fn close(&mut self) {}
}

fn write(maildir: &Path, message: &[u8]) -> Attempt {
    let name = file_name(message);
    let (tmp, new) = (maildir.join("tmp").join(&name), maildir.join("new"));
    let durable = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&tmp)?;
        file.write_all(message)?;
        file.sync_all()?;
        std::fs::rename(&tmp, new.join(&name))
    };
    if let Err(error) = durable() {
        // A full disk passes; a directory that is not ours, or gone, waits for an operator.
        let outcome = match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound | io::ErrorKind::ReadOnlyFilesystem => {
                Outcome::Blocked
            }
            _ => Outcome::Deferred,
        };
        return Attempt::whole(outcome, format!("cannot write to {}: {error}", maildir.display()));
    }
    match File::open(&new).and_then(|dir| dir.sync_all()) {
        Ok(()) => Attempt::whole(Outcome::Accepted, format!("written to new/{name}")),
        Err(error) => Attempt::whole(Outcome::Unknown, format!("new/{name} is written but not made durable: {error}")),
    }
}

/// The Message-ID's own letters where all of them can stand in a file's name, else a digest of it.
fn file_name(message: &[u8]) -> String {
    let id = message_id(message).unwrap_or_default();
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'@' | b'-' | b'_' | b'.');
    if !id.is_empty() && id.len() <= 120 && !id.starts_with('.') && id.bytes().all(fits) {
        return format!("{id}.eml");
    }
    let subject = if id.is_empty() { message } else { id.as_bytes() };
    let digest = Sha256::digest(subject);
    let hex: String = digest.iter().take(16).map(|b| format!("{b:02x}")).collect();
    format!("{hex}.eml")
}

/// The Message-ID without its brackets, from the header section.
fn message_id(message: &[u8]) -> Option<&str> {
    let end = message.windows(4).position(|w| w == b"\r\n\r\n")?;
    let header = std::str::from_utf8(&message[..end]).ok()?;
    let value = header.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("message-id").then_some(value)
    })?;
    value.trim().strip_prefix('<')?.strip_suffix('>')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::customer::Address;
    use std::os::unix::fs::PermissionsExt as _;

    fn mail(message: &str) -> Outgoing {
        let address = Address::new("taro@example.jp").unwrap();
        Outgoing {
            envelope_from: address.clone(),
            recipients: vec![address],
            message: message.replace('\n', "\r\n").into_bytes(),
        }
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_repeat_replaces_its_first_copy_and_the_bytes_are_not_touched() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("deep/outgoing");
        let mut maildir = Maildir::new(&path).unwrap();
        let first = mail("Message-ID: <abc@example.jp>\n\nHello\n");
        for _ in 0..2 {
            assert_eq!(maildir.send(&first).await.outcome, Outcome::Accepted);
        }
        assert_eq!(names(&path.join("new")), ["abc@example.jp.eml"]);
        assert_eq!(names(&path.join("tmp")), [""; 0]);
        assert_eq!(std::fs::read(path.join("new/abc@example.jp.eml")).unwrap(), first.message);
        let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join("new/abc@example.jp.eml")), 0o600);
    }

    #[tokio::test]
    async fn a_name_never_leaves_the_directory() {
        let root = tempfile::tempdir().unwrap();
        let mut maildir = Maildir::new(root.path()).unwrap();
        for id in ["../../x@y", ".x@y", "a:2,S@y"] {
            let done = maildir.send(&mail(&format!("Message-ID: <{id}>\n\nx\n"))).await;
            assert_eq!(done.outcome, Outcome::Accepted, "{id}");
        }
        maildir.send(&mail("Subject: none\n\nx\n")).await;
        let found = names(&root.path().join("new"));
        assert_eq!(found.len(), 4);
        assert!(found.iter().all(|n| n.len() == 36), "{found:?}");
    }

    #[tokio::test]
    async fn a_missing_directory_waits_for_an_operator_and_bad_bytes_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let mut maildir = Maildir::new(root.path()).unwrap();
        let bad = Outgoing { message: b"a\nb\r\n".to_vec(), ..mail("") };
        assert_eq!(maildir.send(&bad).await.outcome, Outcome::Rejected);
        std::fs::remove_dir(root.path().join("tmp")).unwrap();
        assert_eq!(maildir.send(&mail("Message-ID: <a@b>\n\nx\n")).await.outcome, Outcome::Blocked);
    }
}
