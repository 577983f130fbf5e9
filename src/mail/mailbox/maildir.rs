//! A mailbox that is a maildir: mails without the flag S, in `new` and (put there by another reader) in `cur`.
//!
//! It remembers by itself what was dealt with: such a mail has the flag S and lies in `cur`.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::{Mailbox, MailboxError};

/// The mails that were new when it was opened.
pub(super) struct Maildir {
    path: PathBuf,
    new: VecDeque<PathBuf>,
    current: Option<PathBuf>,
    mail_max: usize,
}

impl Maildir {
    /// Looks through the directory; of the new mails the first `mails` are given.
    pub(super) async fn open(path: PathBuf, mails: usize, mail_max: usize) -> Result<Self, MailboxError> {
        let looked_at = path.clone();
        let new = blocking(move || unseen(&looked_at, mails)).await;
        let new = new.map_err(|source| MailboxError::Maildir { path: path.clone(), source })?;
        Ok(Self { path, new, current: None, mail_max })
    }
}

#[async_trait]
impl Mailbox for Maildir {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, MailboxError> {
        while let Some(file) = self.new.pop_front() {
            let (path, max) = (file.clone(), self.mail_max as u64);
            let read = move || {
                let mut bytes = Vec::new();
                fs::File::open(&path)?.take(max).read_to_end(&mut bytes)?;
                Ok(bytes)
            };
            match blocking(read).await {
                Ok(bytes) => {
                    self.current = Some(file);
                    return Ok(Some(bytes));
                }
                Err(error) => {
                    tracing::warn!("cannot read a mail in the bounce maildir, the next run tries again: {error}")
                }
            }
        }
        Ok(None)
    }

    async fn done(&mut self) -> Result<(), MailboxError> {
        let Some(file) = self.current.take() else { return Ok(()) };
        let path = self.path.clone();
        let marked = blocking(move || mark_seen(&path, &file)).await;
        marked.map_err(|source| MailboxError::MaildirMark { path: self.path.clone(), source })
    }

    fn position(&self) -> Option<String> {
        None
    }

    async fn close(self: Box<Self>) {}
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(io::Error::other("the work was broken off")))
}

fn unseen(maildir: &Path, mails: usize) -> io::Result<VecDeque<PathBuf>> {
    let mut files = Vec::new();
    for part in ["new", "cur"] {
        for entry in fs::read_dir(maildir.join(part))? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let seen = name.rsplit_once(":2,").is_some_and(|(_, flags)| flags.contains('S'));
            if !name.starts_with('.') && !seen && entry.file_type()?.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    files.truncate(mails);
    Ok(files.into())
}

fn mark_seen(maildir: &Path, file: &Path) -> io::Result<()> {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (base, flags) = name.rsplit_once(":2,").map_or((name.as_str(), ""), |(base, flags)| (base, flags));
    let mut flags: Vec<char> = flags.chars().chain(['S']).collect();
    flags.sort_unstable();
    fs::rename(file, maildir.join("cur").join(format!("{base}:2,{}", flags.into_iter().collect::<String>())))
}
