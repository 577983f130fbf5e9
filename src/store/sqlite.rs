//! The state in one SQLite file.

use std::path::Path;

use super::Result;

/// The state in one SQLite file.
pub struct Sqlite {}

impl Sqlite {
    /// Opens or makes the file and brings its schema up to date.
    ///
    /// # Errors
    /// [`super::StoreError`].
    pub async fn open(_path: &Path) -> Result<Self> {
        Ok(Self {})
    }
}
