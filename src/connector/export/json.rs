//! An export file in JSON -> its rows, one by one as they are parsed: of the document only the row that is read is in memory.

use std::fmt;
use std::fs::File;

use chrono::DateTime;
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::super::api::text;
use super::rows::Gathering;
use super::{changed, from_start, unreadable};
use crate::config::ExportConfig;
use crate::domain::Timestamp;
use crate::domain::observation::Failure;

/// Reads all rows; returns the document's own date, where the configuration says that it has one.
pub(super) fn read(config: &ExportConfig, file: &mut File, rows: &mut Gathering) -> Result<Option<Timestamp>, Failure> {
    let (list, date) = (tokens(&config.rows), config.date.as_deref().and_then(tokens));
    let mut found = Found { config, rows, count: None, date: None, failure: None };
    let source = from_start(config, file).map_err(|error| unreadable(config, &error))?;
    let mut document = serde_json::Deserializer::from_reader(source);
    let walk = Walk { rows: list.as_deref(), date: date.as_deref(), found: &mut found };
    let read = walk.deserialize(&mut document).and_then(|()| document.end());
    if let Some(failure) = found.failure {
        return Err(failure);
    }
    read.map_err(|error| {
        let line = error.line();
        match error.is_io() {
            true => unreadable(config, &error.into()),
            false => changed(format!("the export file is no JSON (line {line})")),
        }
    })?;
    if found.count.is_none() {
        return Err(changed(format!("no list of rows at {:?} (connector.export.rows)", config.rows)));
    }
    let Some(pointer) = &config.date else { return Ok(None) };
    let date = found.date.and_then(|text| DateTime::parse_from_rfc3339(&text).ok());
    let date = date.ok_or_else(|| changed(format!("no RFC 3339 date at {pointer:?} (connector.export.date)")))?;
    Ok(Some(date.to_utc()))
}

/// The parts of a JSON pointer (RFC 6901).
fn tokens(pointer: &str) -> Option<Vec<String>> {
    match pointer {
        "" => Some(Vec::new()),
        _ => Some(pointer.strip_prefix('/')?.split('/').map(|t| t.replace("~1", "/").replace("~0", "~")).collect()),
    }
}

/// What was found so far.
struct Found<'f> {
    config: &'f ExportConfig,
    rows: &'f mut Gathering,
    /// How many rows; `None`: the list has not been found.
    count: Option<u64>,
    date: Option<String>,
    /// What is wrong with a row.
    failure: Option<Failure>,
}

impl Found<'_> {
    fn row(&mut self, site: &Value) -> Result<(), Failure> {
        let count = self.count.get_or_insert_default();
        *count += 1;
        let get =
            |field: &str| if field.starts_with('/') { text(site, field) } else { text(site, &format!("/{field}")) };
        let customer = get(&self.config.customer).ok_or_else(|| changed(format!("row {count} names no customer")))?;
        let fields = &self.config.fields;
        let [name, server, method] =
            [&fields.name, &fields.server_type, &fields.auth_method].map(|field| get(field).unwrap_or_default());
        self.rows.push(customer.trim(), [&name, &server, &method])
    }
}

/// A value of the document, and how the pointers to the list and to the date go on from here; `None`: they lead elsewhere.
struct Walk<'w, 'f> {
    rows: Option<&'w [String]>,
    date: Option<&'w [String]>,
    found: &'w mut Found<'f>,
}

/// How a pointer goes on behind that key.
fn behind<'w>(pointer: Option<&'w [String]>, key: &str) -> Option<&'w [String]> {
    let (first, rest) = pointer?.split_first()?;
    (first == key).then_some(rest)
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        match (self.rows, self.date) {
            (None, None) => value.deserialize_ignored_any(IgnoredAny).map(|_| ()),
            (None, Some([])) => {
                self.found.date = text(&serde::Deserialize::deserialize(value)?, "");
                Ok(())
            }
            _ => value.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let (rows, date) = (behind(self.rows, &key), behind(self.date, &key));
            map.next_value_seed(Walk { rows, date, found: &mut *self.found })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let is_the_list = self.rows.is_some_and(<[String]>::is_empty);
        if is_the_list && self.found.count.replace(0).is_some() {
            self.found.failure = Some(changed(format!("two lists of rows at {:?}", self.found.config.rows)));
            return Err(A::Error::custom("two lists of rows"));
        }
        for n in 0_u64.. {
            let index = n.to_string();
            let date = behind(self.date, &index);
            if !is_the_list {
                let walk = Walk { rows: behind(self.rows, &index), date, found: &mut *self.found };
                if list.next_element_seed(walk)?.is_none() {
                    break;
                }
                continue;
            }
            let Some(row) = list.next_element::<Value>()? else { break };
            if let Some(date) = date {
                let pointer: String =
                    date.iter().map(|token| format!("/{}", token.replace('~', "~0").replace('/', "~1"))).collect();
                self.found.date = text(&row, &pointer);
            }
            if let Err(failure) = self.found.row(&row) {
                self.found.failure = Some(failure);
                return Err(A::Error::custom("a row cannot be used"));
            }
        }
        Ok(())
    }

    // What is neither an object nor a list leads nowhere.
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}
