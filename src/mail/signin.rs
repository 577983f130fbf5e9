//! AUTH: PLAIN or LOGIN with a password, XOAUTH2 with a token. RFC 4954, RFC 4616, Microsoft's and Google's XOAUTH2.
//!
//! Only ever called on a connection that is under TLS or to a loopback address. Only 235 is success. The secrets go into the
//! command lines and nowhere else: observers see `***`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::MailError;
use super::dialogue::{Dialogue, Reply};
use super::outcome::Stage;
use super::smtp::{Failure, SECTION, expect};
use super::token::Tokens;
use crate::config::SmtpConfig;
use crate::domain::delivery::Outcome;
use crate::secret::Secret;

/// How we sign in, secrets read.
pub(super) enum SignIn {
    None,
    Password { username: String, password: Secret },
    Xoauth2 { username: String, tokens: Box<Tokens> },
}

impl SignIn {
    /// Reads the secrets.
    pub(super) fn new(config: &SmtpConfig, tls: Option<&rustls::ClientConfig>) -> Result<Self, MailError> {
        use crate::config::SmtpAuth;
        Ok(match &config.auth {
            SmtpAuth::None => Self::None,
            SmtpAuth::Password { username, password } => Self::Password {
                username: username.clone(),
                password: password.read().map_err(|e| MailError::Secret(SECTION, e))?,
            },
            SmtpAuth::Xoauth2 { username, token_url, client_id, client_secret, scope } => Self::Xoauth2 {
                username: username.clone(),
                tokens: Box::new(Tokens::new(
                    SECTION,
                    token_url.clone(),
                    client_id.clone(),
                    client_secret.read().map_err(|e| MailError::Secret(SECTION, e))?,
                    scope.clone(),
                    config.timeout,
                    tls,
                )?),
            },
        })
    }

    /// Signs in. `offered`: the mechanisms of the last EHLO, upper case.
    pub(super) async fn perform(&mut self, dialogue: &mut Dialogue, offered: &[String]) -> Result<(), Failure> {
        let has = |mechanism: &str| offered.iter().any(|o| o == mechanism);
        match self {
            Self::None => Ok(()),
            Self::Password { username, password } if has("PLAIN") => plain(dialogue, username, password).await,
            Self::Password { username, password } if has("LOGIN") => login(dialogue, username, password).await,
            Self::Password { .. } => Err(not_offered("PLAIN or LOGIN")),
            Self::Xoauth2 { username, tokens } if has("XOAUTH2") => {
                let token = tokens.current().await?;
                xoauth2(dialogue, username, &token).await
            }
            Self::Xoauth2 { .. } => Err(not_offered("XOAUTH2")),
        }
    }

    /// After a refused sign-in: whether trying once more with a fresh credential makes sense.
    pub(super) fn renew(&mut self) -> bool {
        match self {
            Self::Xoauth2 { tokens, .. } => tokens.forget(),
            Self::None | Self::Password { .. } => false,
        }
    }
}

fn not_offered(mechanisms: &str) -> Failure {
    Failure::new(Outcome::Blocked, format!("the server does not offer AUTH {mechanisms} on this connection"))
}

async fn plain(dialogue: &mut Dialogue, username: &str, password: &Secret) -> Result<(), Failure> {
    let blob = Secret::new(BASE64.encode(format!("\0{username}\0{}", password.expose())));
    let line = Secret::new(format!("AUTH PLAIN {}", blob.expose()));
    signed_in(expect(Stage::Auth, &[235], dialogue.command_shown(line.expose(), "AUTH PLAIN ***").await))
}

async fn login(dialogue: &mut Dialogue, username: &str, password: &Secret) -> Result<(), Failure> {
    signed_in(expect(Stage::Auth, &[334], dialogue.command("AUTH LOGIN").await))?;
    let name = BASE64.encode(username);
    signed_in(expect(Stage::Auth, &[334], dialogue.command_shown(&name, "***").await))?;
    let password = Secret::new(BASE64.encode(password.expose()));
    signed_in(expect(Stage::Auth, &[235], dialogue.command_shown(password.expose(), "***").await))
}

/// The token goes in a line of its own, as Microsoft documents it: as an initial response it would overrun the command
/// lines of some servers.
async fn xoauth2(dialogue: &mut Dialogue, username: &str, token: &Secret) -> Result<(), Failure> {
    signed_in(expect(Stage::Auth, &[334], dialogue.command("AUTH XOAUTH2").await))?;
    let blob = Secret::new(BASE64.encode(format!("user={username}\x01auth=Bearer {}\x01\x01", token.expose())));
    let mut answer = dialogue.command_shown(blob.expose(), "***").await;
    if matches!(&answer, Ok(reply) if reply.code == 334) {
        // The failure's details come as a challenge; the server waits for an empty line before it says 535.
        answer = match dialogue.command_shown("", "").await {
            Ok(reply) if reply.code == 235 => {
                return Err(Failure::new(Outcome::Deferred, "AUTH: the server refused the token and then took it"));
            }
            other => other,
        };
    }
    signed_in(expect(Stage::Auth, &[235], answer))
}

fn signed_in(answer: Result<Reply, Failure>) -> Result<(), Failure> {
    answer.map(|_| ())
}
