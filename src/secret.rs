//! A secret, and where it comes from. Secrets are never literals in `config.toml` and print as `***` everywhere.

use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

/// A password, token or key. Its memory is wiped when it is dropped; `{:?}` and `{}` print `***`.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Takes over a text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(SecretString::from(text))
    }

    /// The text: only where it is sent or signed with.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where a secret is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A systemd credential: `$CREDENTIALS_DIRECTORY/NAME`.
    Credential(String),
    /// A file that only its owner can read.
    File(PathBuf),
    /// An environment variable.
    Env(String),
}

/// Why a secret could not be read. Never holds the secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// `{ credential = … }` outside systemd.
    #[error(
        "credential {0:?}: $CREDENTIALS_DIRECTORY is not set; systemd sets it for a unit with LoadCredential={0}:…"
    )]
    NoCredentials(String),
    /// A credential's name with a path in it.
    #[error("credential {0:?}: a credential's name holds no path")]
    BadName(String),
    /// The file cannot be read.
    #[error("cannot read the secret in {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Others can read it.
    #[error("{path} holds a secret and others can read it (mode {mode:04o}); chmod 600 it")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The variable is not set.
    #[error("environment variable {0} is not set")]
    NoEnv(String),
    /// Nothing in it.
    #[error("the secret in {0} is empty")]
    Empty(String),
    /// Larger than any secret, or not UTF-8.
    #[error("the secret in {0} is not a text of at most 64 KiB")]
    NotText(String),
}

impl SecretSource {
    /// Reads the secret; one line end at its end is left out.
    ///
    /// # Errors
    /// [`SecretError`] names the source and the remedy.
    pub fn read(&self) -> Result<Secret, SecretError> {
        match self {
            Self::Credential(name) => {
                if name.is_empty() || name.contains('/') || name.starts_with('.') {
                    return Err(SecretError::BadName(name.clone()));
                }
                let dir = std::env::var_os("CREDENTIALS_DIRECTORY")
                    .ok_or_else(|| SecretError::NoCredentials(name.clone()))?;
                // systemd gives the file mode 0400 and the directory to the service's user alone.
                Self::read_file(&PathBuf::from(dir).join(name))
            }
            Self::File(path) => {
                refuse_exposed(path)?;
                Self::read_file(path)
            }
            Self::Env(name) => {
                let text = std::env::var(name).map_err(|_| SecretError::NoEnv(name.clone()))?;
                trimmed(text, name)
            }
        }
    }

    fn read_file(path: &std::path::Path) -> Result<Secret, SecretError> {
        let read = |source| SecretError::Read { path: path.to_owned(), source };
        let bytes = std::fs::read(path).map_err(read)?;
        let shown = path.display().to_string();
        if bytes.len() > 64 * 1024 {
            return Err(SecretError::NotText(shown));
        }
        let text = String::from_utf8(bytes).map_err(|_| SecretError::NotText(shown.clone()))?;
        trimmed(text, &shown)
    }
}

/// Refuses a file with secrets that group or others can read, as ssh does.
///
/// # Errors
/// [`SecretError::Exposed`] with the mode, or [`SecretError::Read`] if the file is not there.
pub fn refuse_exposed(path: &std::path::Path) -> Result<(), SecretError> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(path).map_err(|source| SecretError::Read { path: path.to_owned(), source })?;
    let mode = meta.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Exposed { path: path.to_owned(), mode });
    }
    Ok(())
}

fn trimmed(text: String, source: &str) -> Result<Secret, SecretError> {
    let end = text.strip_suffix('\n').map_or(text.len(), |t| t.strip_suffix('\r').unwrap_or(t).len());
    if end == 0 {
        return Err(SecretError::Empty(source.to_owned()));
    }
    Ok(Secret::new(text[..end].to_owned()))
}
