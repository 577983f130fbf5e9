//! Templates -> subject, text, HTML.

use std::path::Path;

use super::{Notice, Rendered};

/// A template that cannot be used: its name, line and what is wrong.
#[derive(Debug, Clone, thiserror::Error)]
#[error("template {template}, line {line}: {message}")]
pub struct TemplateError {
    /// Such as `first.ja.txt`.
    pub template: String,
    /// From 1; 0 where no line is to blame.
    pub line: u32,
    /// What is wrong.
    pub message: String,
}

/// The notices' templates of one campaign: built in, overridden one by one by the operator's own.
#[derive(Debug, Clone)]
pub struct Templates {}

impl Templates {
    /// The built-in ones.
    #[must_use]
    pub fn built_in() -> Self {
        Self {}
    }

    /// The operator's directory over the built-in ones.
    ///
    /// # Errors
    /// Every template that cannot be read or compiled.
    pub fn load(_dir: Option<&Path>) -> Result<Self, Vec<TemplateError>> {
        Ok(Self {})
    }

    /// Renders every kind, language and edge case with sample data: what `kigen check` and a reload run.
    #[must_use]
    pub fn check(&self) -> Vec<TemplateError> {
        Vec::new()
    }

    /// Renders a notice completely or not at all.
    ///
    /// # Errors
    /// The first template that failed.
    pub fn render(&self, _notice: &Notice<'_>) -> Result<Rendered, TemplateError> {
        Err(TemplateError { template: String::new(), line: 0, message: "not written".to_owned() })
    }
}
