//! TOML text -> the `[[customer]]` tables as rows, each value with its line.
//!
//! Reads the parser's own tree rather than through serde: that keeps the place of every value, and one bad table does not
//! end the reading of the others.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::RowError;
use super::column::{Column, did_you_mean};
use super::row::{Cell, Given, Row};

/// The most syntax errors that are reported: what follows the first ones is often their echo.
const MAX_SYNTAX_ERRORS: usize = 10;

/// The table each customer is.
const TABLE: &str = "customer";

/// The customers, or why the file as a whole cannot be read.
pub(super) fn rows(text: &str) -> Result<Vec<Row>, Vec<RowError>> {
    let lines = Lines::new(text);
    let whole = |line, message: String| RowError { line, column: None, message };
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let told = errors.iter().take(MAX_SYNTAX_ERRORS).map(|e| {
            let (line, column) = e.span().map_or((1, 1), |span| lines.place(span.start));
            whole(line, format!("not TOML, at character {column} of the line: {}", e.message().replace('\n', ", ")))
        });
        return Err(told.collect());
    }
    let table = table.into_inner();
    let mut unknown = Vec::new();
    for key in table.keys().filter(|k| k.get_ref() != TABLE) {
        let name = key.get_ref();
        let line = lines.place(key.span().start).0;
        let hint = match Column::parse(name) {
            Some(_) => "; it belongs into a [[customer]] table".to_owned(),
            None if strsim::damerau_levenshtein(name, TABLE) <= 2 => "; did you mean [[customer]]?".to_owned(),
            None => "; the file consists of [[customer]] tables".to_owned(),
        };
        unknown.push(RowError { line, column: Some(name.to_string()), message: format!("unknown key `{name}`{hint}") });
    }
    if !unknown.is_empty() {
        unknown.sort_by_key(|e| e.line);
        return Err(unknown);
    }
    let Some(customers) = table.get(TABLE) else {
        return Err(vec![whole(1, "the file holds no [[customer]] table".to_owned())]);
    };
    let line = lines.place(customers.span().start).0;
    match customers.get_ref() {
        DeValue::Array(customers) if customers.len() > super::MAX_CUSTOMERS => {
            Err(vec![whole(line, format!("the file has more than {} customers", super::MAX_CUSTOMERS))])
        }
        DeValue::Array(customers) => Ok(customers.iter().map(|c| row(c, &lines)).collect()),
        _ => {
            Err(vec![whole(line, "`customer` is not a list of tables; write [[customer]] in two brackets".to_owned())])
        }
    }
}

fn row(customer: &Spanned<DeValue>, lines: &Lines) -> Row {
    let line = lines.place(customer.span().start).0;
    let mut row = Row::new(line);
    let Some(table) = customer.get_ref().as_table() else {
        row.misaligned = true;
        row.errors.push(RowError { line, column: None, message: "is no table; write [[customer]]".to_owned() });
        return row;
    };
    for (key, value) in table {
        let name = key.get_ref();
        let line = lines.place(key.span().start).0;
        match Column::parse(name) {
            Some(column) => row.set(column, Cell { line, given: given(column, value.get_ref()) }),
            None => row.errors.push(RowError {
                line,
                column: Some(name.to_string()),
                message: format!("unknown key `{name}`{}", did_you_mean(name)),
            }),
        }
    }
    row
}

fn given(column: Column, value: &DeValue) -> Given {
    match value {
        DeValue::String(text) => Given::Text(text.to_string()),
        DeValue::Boolean(yes) if column.is_yes_no() => Given::Text(if *yes { "yes" } else { "no" }.to_owned()),
        DeValue::Array(items) if column.is_list() => {
            let texts: Option<Vec<String>> =
                items.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect();
            texts.map_or_else(|| Given::Bad("is a list with something else than strings in it".to_owned()), Given::List)
        }
        other => Given::Bad(format!("is of type {}; write it as a string, in quotes", other.type_str())),
    }
}

/// Byte offsets -> lines and characters, both from 1.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    fn place(&self, offset: usize) -> (u64, usize) {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts[line - 1];
        let before = self.text.get(start..offset).unwrap_or_default();
        (line as u64, before.chars().count() + 1)
    }
}
