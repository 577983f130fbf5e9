//! Problems of a configuration, and how they are shown: file, line, column, the text underlined, a hint.

/// One problem.
#[derive(Debug, Clone)]
pub struct Problem {
    /// What is wrong.
    pub message: String,
}

/// Every problem of a configuration.
#[derive(Debug, thiserror::Error)]
#[error("the configuration has {} error(s)", .0.len())]
pub struct ConfigErrors(pub Vec<Problem>);
