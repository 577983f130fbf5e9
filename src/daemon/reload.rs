//! The files as one snapshot, and how a running daemon takes a new one: everything that can fail is done first, then it is
//! swapped. A bad edit changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use super::{Context, Snapshot};
use crate::clock::Clock;
use crate::config::{self, Config, ConfigErrors, ConnectorConfig};
use crate::connector::api::Api;
use crate::connector::exlook::Exlook;
use crate::connector::export::Export;
use crate::connector::{Connector, ConnectorError};
use crate::domain::Timestamp;
use crate::fleet::{self, FleetError};
use crate::metrics::Metrics;
use crate::microsoft::Microsoft;
use crate::notice::{TemplateError, Templates};

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The customers file as a whole; errors of single rows only quarantine them.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The operator's templates.
    #[error("{} template error(s): {}", .0.len(), .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Templates(Vec<TemplateError>),
    /// The key that signs the mails.
    #[error("cannot sign mail: {0}")]
    Dkim(String),
    /// The connector cannot be made (a CA file that cannot be read).
    #[error("cannot set up the connector: {0}")]
    Connector(String),
}

/// Reads configuration, customers and templates, and renders every template once.
///
/// # Errors
/// The first of the three that cannot be used, with all of its errors.
pub fn load(path: &Path) -> Result<Snapshot, LoadError> {
    // Each file is looked at before it is read: what is saved in between looks newer than what we have.
    let first = look_of(path);
    let config = config::load(path)?;
    let mut stamp = stamp(&config);
    for (_, seen) in stamp.iter_mut().filter(|(file, _)| *file == config.path) {
        *seen = first;
    }
    let fleet = fleet::roster(&config.fleet.customers, config.state.directory())?;
    let templates = load_templates(&config)?;
    let mut snapshot = Snapshot::new(config, fleet, templates);
    snapshot.stamp = stamp;
    for warning in snapshot.done_in_vain() {
        tracing::warn!("{warning}");
    }
    Ok(snapshot)
}

/// The templates of every campaign, compiled and rendered once with sample data.
///
/// # Errors
/// Every template error.
pub fn load_templates(config: &Config) -> Result<BTreeMap<crate::domain::campaign::CampaignId, Templates>, LoadError> {
    let mut all = BTreeMap::new();
    let mut errors = Vec::new();
    for campaign in &config.campaigns {
        match Templates::load_for(&campaign.campaign, campaign.templates.as_deref()) {
            Ok(templates) => {
                errors.extend(templates.check());
                errors.extend(templates.missing_for(campaign.campaign.affects));
                all.insert(campaign.campaign.id.clone(), templates);
            }
            Err(found) => errors.extend(found),
        }
    }
    if errors.is_empty() { Ok(all) } else { Err(LoadError::Templates(errors)) }
}

/// The connector that the configuration asks for.
///
/// # Errors
/// When it cannot be set up.
pub fn connector(
    config: &Config,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
) -> Result<Arc<dyn Connector>, LoadError> {
    let scan = &config.scan;
    let made: Result<Arc<dyn Connector>, ConnectorError> = match &config.connector {
        ConnectorConfig::Exlook(exlook) => {
            Exlook::new(exlook, scan, clock).map(|made| Arc::new(made.counted(metrics)) as _)
        }
        ConnectorConfig::Api(api) => Api::new(api, scan, clock).map(|made| Arc::new(made.counted(metrics)) as _),
        ConnectorConfig::Export(export) => Ok(Arc::new(Export::new(export, scan, clock, config.state.directory()))),
    };
    made.map_err(|error| LoadError::Connector(error.to_string()))
}

/// The Microsoft side as the configuration wants it asked.
///
/// # Errors
/// When its client cannot be set up.
pub fn microsoft(config: &Config, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Result<Arc<Microsoft>, LoadError> {
    let made = Microsoft::new(&config.microsoft, &config.scan, clock);
    made.map(|made| Arc::new(made.counted(metrics))).map_err(|error| LoadError::Connector(error.to_string()))
}

/// What runs now. A run takes a [`Context`] and keeps it to its end; the next one may get another.
pub struct Live {
    /// What it started with: some keys count as they were then until a restart, however often the files are read.
    started: Arc<Snapshot>,
    current: RwLock<Context>,
    last_reload: Mutex<Option<LastReload>>,
}

/// How the last reload went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastReload {
    /// When.
    pub at: Timestamp,
    /// Why the files were refused, without their text; `None`: they were taken.
    pub refused: Option<String>,
    /// Keys that were edited and need a restart.
    pub restart: Vec<&'static str>,
}

impl Live {
    /// Starts with this one.
    #[must_use]
    pub fn new(context: Context) -> Arc<Self> {
        let started = Arc::clone(&context.snapshot);
        Arc::new(Self { started, current: RwLock::new(context), last_reload: Mutex::new(None) })
    }

    /// What a run that begins now works with.
    #[must_use]
    pub fn context(&self) -> Context {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the files again and takes them if they are good. Returns the keys that are not as at the start and need a
    /// restart.
    ///
    /// # Errors
    /// What is wrong with the files; then nothing changed.
    pub fn reload(&self) -> Result<Vec<&'static str>, LoadError> {
        let before = self.context();
        let result = self.try_reload(&before);
        before.metrics.reloaded(result.is_ok());
        let last = LastReload {
            at: before.now(),
            refused: result.as_ref().err().map(ToString::to_string),
            restart: result.as_ref().map_or_else(|_| Vec::new(), Clone::clone),
        };
        *self.last_reload.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
        result
    }

    /// The last reload since the start; `None`: there was none.
    #[must_use]
    pub fn last_reload(&self) -> Option<LastReload> {
        self.last_reload.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn try_reload(&self, before: &Context) -> Result<Vec<&'static str>, LoadError> {
        let snapshot = load(&before.snapshot.config.path)?;
        let connector = connector(&snapshot.config, Arc::clone(&before.clock), Arc::clone(&before.metrics))?;
        let microsoft = microsoft(&snapshot.config, Arc::clone(&before.clock), Arc::clone(&before.metrics))?;
        snapshot.signer().map_err(|error| LoadError::Dkim(format!("{:#}", anyhow::Error::from(error))))?;
        let restart = needs_restart(&self.started.config, &snapshot.config);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        current.snapshot = Arc::new(snapshot);
        current.connector = connector;
        current.microsoft = microsoft;
        Ok(restart)
    }
}

fn needs_restart(before: &Config, after: &Config) -> Vec<&'static str> {
    let mut keys = Vec::new();
    if before.state != after.state {
        keys.push("state");
    }
    if before.web.listen != after.web.listen {
        keys.push("web.listen");
    }
    if format!("{:?}", before.mail.transport) != format!("{:?}", after.mail.transport) {
        keys.push("mail.transport, mail.smtp, mail.graph, mail.maildir");
    }
    keys
}

/// What files looked like: enough to see that one was saved again.
pub type Stamp = Vec<(PathBuf, FileLook)>;

/// Length, time of the last write and inode; `None`: there is none, or it cannot be seen.
type FileLook = Option<(u64, SystemTime, u64)>;

fn look_of(path: &Path) -> FileLook {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().and_then(|m| Some((m.len(), m.modified().ok()?, m.ino())))
}

/// The stamps of every file that a snapshot was read from.
#[must_use]
pub fn stamp(config: &Config) -> Stamp {
    let mut files = vec![config.path.clone(), config.fleet.customers.clone()];
    for campaign in &config.campaigns {
        let Some(dir) = &campaign.templates else { continue };
        files.push(dir.clone());
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        files.extend(entries.map(|e| e.path()).take(1000));
    }
    files.sort();
    let look = |path: PathBuf| {
        let seen = look_of(&path);
        (path, seen)
    };
    files.into_iter().map(look).collect()
}
