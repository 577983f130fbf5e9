//! As written -> valid by type; every error of every section is collected.

use std::path::Path;

use super::{Config, ConfigErrors};

pub(super) fn load(_path: &Path) -> Result<Config, ConfigErrors> {
    Err(ConfigErrors(Vec::new()))
}
