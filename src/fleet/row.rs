//! One customer as written: cells by column, each with its line, and what is wrong with them so far.
//!
//! CSV and TOML end up here alike; what the cells mean is [`super::member`]'s affair. Nothing a cell holds is repeated in an
//! error: with two columns swapped any cell may hold a password.

use super::RowError;
use super::column::Column;
use crate::domain::site::CustomerId;

/// What stands in a cell.
pub(super) enum Given {
    Text(String),
    /// A TOML array.
    List(Vec<String>),
    /// Nothing usable, and why.
    Bad(String),
}

/// A cell and the line on which it begins.
pub(super) struct Cell {
    pub line: u64,
    pub given: Given,
}

/// One customer as written.
pub(super) struct Row {
    /// The line on which it begins.
    pub line: u64,
    /// What is wrong with it so far.
    pub errors: Vec<RowError>,
    /// Its cells may stand in the wrong columns, so only the row itself is reported.
    pub misaligned: bool,
    /// A password may stand in it though `password` is not set.
    pub exposes: bool,
    /// Its id, once it is read.
    pub id: Option<CustomerId>,
    /// In the file's order; a column at most once.
    cells: Vec<(Column, Cell)>,
}

impl Row {
    pub fn new(line: u64) -> Self {
        Self { line, errors: Vec::new(), misaligned: false, exposes: false, id: None, cells: Vec::new() }
    }

    /// Puts a cell that is not there yet.
    pub fn set(&mut self, column: Column, cell: Cell) {
        self.cells.push((column, cell));
    }

    fn cell(&self, column: Column) -> Option<&Cell> {
        self.cells.iter().find(|(c, _)| *c == column).map(|(_, cell)| cell)
    }

    /// The line of a cell; the row's own, if it has none.
    pub fn line_of(&self, column: Column) -> u64 {
        self.cell(column).map_or(self.line, |cell| cell.line)
    }

    /// The cell's text, to change or take it; `None` if there is no text.
    pub fn text_mut(&mut self, column: Column) -> Option<&mut String> {
        match self.cells.iter_mut().find(|(c, _)| *c == column) {
            Some((_, Cell { given: Given::Text(text), .. })) => Some(text),
            _ => None,
        }
    }

    /// The cell's text; empty where there is none.
    pub fn shown(&self, column: Column) -> &str {
        match self.cell(column) {
            Some(Cell { given: Given::Text(text), .. }) => text.trim(),
            _ => "",
        }
    }

    /// Adds an error at a cell.
    pub fn fail(&mut self, column: Column, message: impl Into<String>) {
        let line = self.line_of(column);
        self.errors.push(RowError { line, column: Some(column.name().to_owned()), message: message.into() });
    }

    /// Whether a password itself stands in the row.
    pub fn holds_a_password(&self) -> bool {
        self.exposes || !self.is_empty(Column::Password)
    }

    /// Nothing stands in the cell.
    pub fn is_empty(&self, column: Column) -> bool {
        match self.cell(column).map(|c| &c.given) {
            Some(Given::Text(text)) => text.trim().is_empty(),
            Some(Given::List(values)) => values.is_empty(),
            Some(Given::Bad(_)) => false,
            None => true,
        }
    }

    /// The trimmed text of a cell; `None` if it is empty or not usable (and then says so).
    pub fn text(&mut self, column: Column) -> Option<String> {
        match &self.cell(column)?.given {
            Given::Text(text) => Some(text.trim()).filter(|t| !t.is_empty()).map(str::to_owned),
            Given::List(_) => {
                self.fail(column, "is a list; write one string");
                None
            }
            Given::Bad(why) => {
                let why = why.clone();
                self.fail(column, why);
                None
            }
        }
    }

    /// The text of a cell that ends up in mails and lists.
    pub fn label(&mut self, column: Column, max: usize) -> Option<String> {
        let text = self.text(column)?;
        match bad_text(&text, max) {
            Some(why) => {
                self.fail(column, why);
                None
            }
            None => Some(text),
        }
    }

    /// The values of a cell with `;` between them, or of a TOML array; empty ones are left out.
    pub fn list(&mut self, column: Column) -> Vec<String> {
        let values: Vec<String> = match self.cell(column).map(|c| &c.given) {
            Some(Given::List(values)) => values.clone(),
            _ => self.text(column).map(|t| t.split(';').map(str::to_owned).collect()).unwrap_or_default(),
        };
        values.iter().map(|v| v.trim()).filter(|v| !v.is_empty()).map(str::to_owned).collect()
    }

    /// `yes` or `no`; `None` if it is empty or neither (and then says so).
    pub fn yes_no(&mut self, column: Column) -> Option<bool> {
        match self.text(column)?.as_str() {
            "yes" => Some(true),
            "no" => Some(false),
            _ => {
                self.fail(column, "is neither `yes` nor `no`");
                None
            }
        }
    }
}

/// Why a text cannot stand in a mail's header or greeting.
pub(super) fn bad_text(text: &str, max: usize) -> Option<String> {
    let turns = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if text.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
        Some("holds a control character such as a line break; write it on one line".to_owned())
    } else if text.contains('\u{fffd}') {
        Some("holds U+FFFD, the mark of a character that was lost when the file was saved; type it again".to_owned())
    } else if text.chars().any(turns) {
        Some("holds an invisible character that turns the reading direction; type it again".to_owned())
    } else if text.chars().count() > max {
        Some(format!("is longer than {max} characters; shorten it"))
    } else {
        None
    }
}
