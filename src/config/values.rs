//! The forms values are written in: durations, sizes, rates, shares, addresses, places. Each function reads one TOML value.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::TimeDelta;
use toml::de::DeValue;
use url::Url;

use crate::domain::customer::Address;
use crate::domain::guard::Share;
use crate::secret::{self, SecretSource};

use super::diagnose::did_you_mean;
use super::{Cron, NamedAddress, PostgresState, Rate, StateUrl};

/// Why a value will not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Bad {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    fn kind(expected: &str, value: &DeValue<'_>) -> Self {
        Self::new(format!("must be {expected}, not {}", kind_of(value)))
    }
}

type Read<T> = Result<T, Bad>;

/// What a value is, in an operator's words.
pub(super) fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}

/// A value in a message: quoted, and cut where it is long.
pub(super) fn quoted(text: &str) -> String {
    if text.chars().count() > 60 {
        format!("{:?}…", text.chars().take(60).collect::<String>())
    } else {
        format!("{text:?}")
    }
}

/// A text with something in it, without control characters.
pub(super) fn text(value: &DeValue<'_>) -> Read<String> {
    let text = string(value, "a text")?.trim();
    if text.is_empty() {
        Err(Bad::new("is empty"))
    } else if text.chars().any(char::is_control) {
        Err(Bad::new("holds a control character such as a line break"))
    } else {
        Ok(text.to_owned())
    }
}

pub(super) fn string<'v>(value: &'v DeValue<'_>, expected: &str) -> Read<&'v str> {
    value.as_str().ok_or_else(|| Bad::kind(expected, value))
}

pub(super) fn flag(value: &DeValue<'_>) -> Read<bool> {
    value.as_bool().ok_or_else(|| Bad::kind("true or false", value).hint("write it without quotes"))
}

/// One of several words.
pub(super) fn choice<T: Clone, const N: usize>(words: [(&'static str, T); N]) -> impl Fn(&DeValue<'_>) -> Read<T> {
    move |value| {
        let all: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let all = all.join(", ");
        let text = string(value, &format!("one of {all}"))?;
        if let Some((_, meant)) = words.iter().find(|(word, _)| *word == text) {
            return Ok(meant.clone());
        }
        let bad = Bad::new(format!("{} is not one of {all}", quoted(text)));
        Err(match did_you_mean(text, words.iter().map(|(word, _)| *word)) {
            Some(meant) => bad.hint(format!("did you mean \"{meant}\"?")),
            None => bad,
        })
    }
}

/// A whole number within bounds.
pub(super) fn count(bounds: RangeInclusive<u32>) -> impl Fn(&DeValue<'_>) -> Read<u32> {
    move |value| {
        let (low, high) = (bounds.start(), bounds.end());
        let bad = || Bad::kind(&format!("a whole number from {low} to {high}"), value);
        if !value.is_integer() {
            return Err(bad());
        }
        let number = integer(value).and_then(|n| u32::try_from(n).ok());
        number.filter(|n| bounds.contains(n)).ok_or_else(|| {
            let number = value.as_integer().map_or_else(String::new, ToString::to_string);
            Bad::new(format!("{number} is not a whole number from {low} to {high}"))
        })
    }
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    value.as_integer().and_then(|n| i64::from_str_radix(n.as_str(), n.radix()).ok())
}

/// Requests per second: more than zero, with or without a fraction.
pub(super) fn per_second(value: &DeValue<'_>) -> Read<f64> {
    let number = match value {
        DeValue::Float(float) => float.as_str().replace('_', "").parse::<f64>().ok(),
        DeValue::Integer(_) => integer(value).map(|n| n as f64),
        _ => return Err(Bad::kind("a number a second such as 50", value)),
    };
    number.filter(|n| (0.01..=10_000.0).contains(n)).ok_or_else(|| {
        Bad::new("must be from 0.01 to 10000 a second").hint("50 is the default; 0.5 is one in two seconds")
    })
}

/// `30s`, `10m`, `3h`, `7d`, `1w`; more than zero.
pub(super) fn duration(value: &DeValue<'_>) -> Read<Duration> {
    let expected = "a duration such as \"30s\", \"10m\", \"3h\", \"7d\" or \"1w\"";
    if let Some(n) = integer(value) {
        return Err(Bad::kind(expected, value).hint(format!("write it with its unit: \"{n}s\"")));
    }
    let text = string(value, expected)?;
    let (number, unit) = number_and_unit(text);
    let bad = || Bad::new(format!("{} is not {expected}", quoted(text)));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 604_800,
        other => {
            let meant = match other.trim().to_lowercase().as_str() {
                "s" | "sec" | "secs" | "second" | "seconds" => "s",
                "m" | "min" | "mins" | "minute" | "minutes" => "m",
                "h" | "hr" | "hrs" | "hour" | "hours" => "h",
                "d" | "day" | "days" => "d",
                "w" | "week" | "weeks" => "w",
                _ => return Err(bad()),
            };
            return Err(if number.is_empty() {
                bad()
            } else {
                bad().hint(format!("did you mean \"{number}{meant}\"?"))
            });
        }
    };
    let number: u64 = number.parse().map_err(|_| bad())?;
    match number.checked_mul(seconds) {
        Some(0) => Err(Bad::new("must be more than zero")),
        Some(total) if total <= 10 * 366 * 86_400 => Ok(Duration::from_secs(total)),
        _ => Err(Bad::new(format!("{} is longer than ten years", quoted(text)))),
    }
}

/// A duration as the core counts it.
pub(super) fn time_delta(value: &DeValue<'_>) -> Read<TimeDelta> {
    let seconds = duration(value)?.as_secs();
    Ok(TimeDelta::seconds(i64::try_from(seconds).unwrap_or(i64::MAX / 1000)))
}

/// Whole days, `7d` or `1w`; more than zero.
pub(super) fn days(value: &DeValue<'_>) -> Read<u32> {
    if let Some(n) = integer(value) {
        return Err(Bad::kind("whole days such as \"7d\"", value).hint(format!("write it with its unit: \"{n}d\"")));
    }
    let seconds = duration(value)?.as_secs();
    if seconds % 86_400 != 0 {
        return Err(Bad::new("must be whole days such as \"7d\" or weeks such as \"2w\""));
    }
    Ok(u32::try_from(seconds / 86_400).unwrap_or(u32::MAX))
}

/// `2MiB`, `64KiB`, or bytes as a number; within bounds.
pub(super) fn size(bounds: RangeInclusive<usize>) -> impl Fn(&DeValue<'_>) -> Read<usize> {
    move |value| {
        let bytes = match integer(value) {
            Some(n) => usize::try_from(n).ok(),
            None => sized(string(value, "a size such as \"2MiB\" or \"64KiB\"")?)?,
        };
        bytes.filter(|bytes| bounds.contains(bytes)).ok_or_else(|| {
            Bad::new(format!("must be from {}KiB to {}MiB", bounds.start() / 1024, bounds.end() / (1024 * 1024)))
        })
    }
}

fn sized(text: &str) -> Read<Option<usize>> {
    let (number, unit) = number_and_unit(text);
    let bad = || Bad::new(format!("{} is not a size such as \"2MiB\" or \"64KiB\"", quoted(text)));
    let factor: usize = match unit {
        "B" => 1,
        "KiB" => 1024,
        "MiB" => 1024 * 1024,
        "GiB" => 1024 * 1024 * 1024,
        other => {
            let meant = match other.trim().to_lowercase().as_str() {
                "k" | "kb" | "kib" => "KiB",
                "m" | "mb" | "mib" => "MiB",
                "g" | "gb" | "gib" => "GiB",
                "" | "b" | "bytes" => "B",
                _ => return Err(bad()),
            };
            return Err(if number.is_empty() {
                bad()
            } else {
                bad().hint(format!("did you mean \"{number}{meant}\"?"))
            });
        }
    };
    let number: usize = number.parse().map_err(|_| bad())?;
    Ok(number.checked_mul(factor))
}

fn number_and_unit(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// `30/m`, `1/s`, `500/h`, `10000/d`.
pub(super) fn rate(value: &DeValue<'_>) -> Read<Rate> {
    let expected = "a rate such as \"30/m\", \"1/s\", \"500/h\" or \"10000/d\"";
    if let Some(n) = integer(value) {
        return Err(Bad::kind(expected, value).hint(format!("write in which time: \"{n}/m\"")));
    }
    let text = string(value, expected)?;
    let bad = || Bad::new(format!("{} is not {expected}", quoted(text)));
    let (number, unit) = text.split_once('/').ok_or_else(bad)?;
    let per = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        other => {
            let meant = other.trim().chars().next().filter(|c| "smhd".contains(*c)).ok_or_else(bad)?;
            return Err(bad().hint(format!("did you mean \"{}/{meant}\"?", number.trim())));
        }
    };
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    match number.parse() {
        Ok(0) => Err(Bad::new("a rate of zero sends nothing, ever").hint("kigen pause stops customers' mail")),
        Ok(count) => Ok(Rate { count, per: Duration::from_secs(per) }),
        Err(_) => Err(bad()),
    }
}

/// `5%`, `0.5%`, or a number of customers or sites.
pub(super) fn share(value: &DeValue<'_>) -> Read<Share> {
    let expected = "a share such as \"5%\" or \"0.5%\", or a whole number";
    if value.is_integer() {
        let number = integer(value).and_then(|n| u32::try_from(n).ok());
        return number.map(Share::Count).ok_or_else(|| Bad::new(format!("is not {expected}")));
    }
    if let DeValue::Float(float) = value {
        return Err(Bad::kind(expected, value).hint(format!("write \"{}%\"", float.as_str())));
    }
    let text = string(value, expected)?;
    let bad = || Bad::new(format!("{} is not {expected}", quoted(text)));
    let Some(percent) = text.strip_suffix('%') else {
        let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        return Err(if is_number { bad().hint(format!("write \"{text}%\", or {text} without quotes")) } else { bad() });
    };
    let (whole, fraction) = percent.split_once('.').unwrap_or((percent, "0"));
    let digits = |part: &str, most: usize| (1..=most).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole, 3) || !digits(fraction, 2) {
        return Err(bad());
    }
    let hundredths = format!("{whole}{fraction:0<2}").parse::<u32>().map_err(|_| bad())?;
    if hundredths > 10_000 {
        return Err(Bad::new(format!("{} is more than all", quoted(text))));
    }
    Ok(Share::BasisPoints(hundredths))
}

/// A schedule.
pub(super) fn cron(value: &DeValue<'_>) -> Read<Cron> {
    let text = string(value, "a schedule such as \"0 6,18 * * *\"")?;
    Cron::parse(text).map_err(|why| {
        Bad::new(why)
            .hint("minute hour day month weekday, such as \"0 10 * * Mon-Fri\"; day and weekday must both match")
    })
}

/// A mail address.
pub(super) fn address(value: &DeValue<'_>) -> Read<Address> {
    let text = string(value, "a mail address such as \"support@example.jp\"")?;
    if text.contains('<') {
        return Err(Bad::new("is not a bare address").hint("write only what stands between < and >"));
    }
    Address::new(text).map_err(|why| Bad::new(why.to_string()))
}

/// `Name <address>`, or an address alone.
pub(super) fn named_address(value: &DeValue<'_>) -> Read<NamedAddress> {
    let text = string(value, "an address such as \"Support <support@example.jp>\"")?.trim();
    let (name, address) = match text.strip_suffix('>') {
        Some(rest) => rest.rsplit_once('<').ok_or_else(|| Bad::new("has a > without a <"))?,
        None if text.contains('<') => return Err(Bad::new("has a < without a > at its end")),
        None => ("", text),
    };
    let name = name.trim();
    let name = name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(name).trim();
    if name.chars().any(char::is_control) {
        return Err(Bad::new("the name holds a control character such as a line break"));
    }
    if name.chars().count() > 100 {
        return Err(Bad::new("the name is longer than 100 characters"));
    }
    let address = Address::new(address).map_err(|why| {
        Bad::new(format!("the address {why}"))
            .hint("write \"Name <address>\", such as \"Support <support@example.jp>\"")
    })?;
    Ok(NamedAddress { name: (!name.is_empty()).then(|| name.to_owned()), address })
}

/// An http or https address without a password in it. The message never quotes it: a webhook's address is its key.
pub(super) fn url(value: &DeValue<'_>) -> Read<Url> {
    let expected = "an address such as \"https://example.jp/\"";
    let text = string(value, expected)?;
    let url = Url::parse(text.trim()).map_err(|why| Bad::new(format!("is not {expected}: {why}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(Bad::new(format!("is not {expected}")));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Bad::new("holds a user name or password; secrets do not stand in this file"));
    }
    Ok(url)
}

/// Like [`url()`], but https unless it leads to this machine: secrets go there.
pub(super) fn secure_url(value: &DeValue<'_>) -> Read<Url> {
    let url = url(value)?;
    if is_secure(&url) { Ok(url) } else { Err(Bad::new("secrets would travel in the clear").hint("use https://")) }
}

/// https, or http to this machine.
pub(super) fn is_secure(url: &Url) -> bool {
    url.scheme() == "https" || url.host_str().is_some_and(is_loopback)
}

/// Whether the host is this machine: 127.0.0.0/8, `::1`, `localhost`.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A host's name or number, without scheme and port.
pub(super) fn host(value: &DeValue<'_>) -> Read<String> {
    let host = text(value)?;
    let label =
        |l: &str| !l.is_empty() && l.len() <= 63 && l.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if host.parse::<std::net::IpAddr>().is_ok() || (host.len() <= 253 && host.split('.').all(label)) {
        return Ok(host);
    }
    let bad = Bad::new(format!("{} is no host name", quoted(&host)));
    let rest = host.split_once("://").map_or(host.as_str(), |(_, rest)| rest);
    let name = rest.split(['/', ':']).next().unwrap_or(rest);
    Err(if name != host && name.split('.').all(label) {
        bad.hint(format!("write \"{name}\" alone; the port has its own key"))
    } else {
        bad
    })
}

/// Where a server listens.
pub(super) fn listen(value: &DeValue<'_>) -> Read<std::net::SocketAddr> {
    let text = string(value, "an address and port such as \"127.0.0.1:8620\"")?;
    text.parse().map_err(|_| {
        let bad = Bad::new(format!("{} is not an address and port such as \"127.0.0.1:8620\"", quoted(text)));
        match text.strip_prefix("localhost:") {
            Some(port) => bad.hint(format!("did you mean \"127.0.0.1:{port}\"?")),
            None => bad,
        }
    })
}

/// An IP address.
pub(super) fn ip(value: &DeValue<'_>) -> Read<std::net::IpAddr> {
    let expected = "an IP address such as \"127.0.0.1\"";
    let text = string(value, expected)?;
    text.trim().parse().map_err(|_| Bad::new(format!("{} is not {expected}", quoted(text))))
}

/// What `kigen web-password` prints. The hash is never shown in a message.
pub(super) fn password_hash(value: &DeValue<'_>) -> Read<String> {
    let hint = "`kigen web-password` makes one";
    let text = string(value, "an argon2id hash")?;
    match argon2::PasswordHash::new(text) {
        Ok(hash) if hash.algorithm.as_str() == "argon2id" && hash.salt.is_some() && hash.hash.is_some() => {
            Ok(text.to_owned())
        }
        _ => Err(Bad::new("is not an argon2id hash").hint(hint)),
    }
}

/// A path, relative to the file's directory.
pub(super) fn path(base: &Path) -> impl Fn(&DeValue<'_>) -> Read<PathBuf> {
    move |value| Ok(base.join(text(value)?))
}

/// The path of a file that must be there.
pub(super) fn existing_file(base: &Path) -> impl Fn(&DeValue<'_>) -> Read<PathBuf> {
    move |value| {
        let path = path(base)(value)?;
        match std::fs::metadata(&path) {
            Ok(meta) if meta.is_file() => Ok(path),
            Ok(_) => Err(Bad::new(format!("{} is no file", path.display()))),
            Err(error) => Err(Bad::new(format!("cannot read {}: {error}", path.display()))),
        }
    }
}

/// The path of a directory that must be there.
pub(super) fn existing_dir(base: &Path) -> impl Fn(&DeValue<'_>) -> Read<PathBuf> {
    move |value| {
        let path = path(base)(value)?;
        match std::fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => Ok(path),
            Ok(_) => Err(Bad::new(format!("{} is no directory", path.display()))),
            Err(error) => Err(Bad::new(format!("cannot read {}: {error}", path.display()))),
        }
    }
}

/// `sqlite:FILE` or `postgres://USER@HOST/DATABASE`.
pub(super) fn state(base: &Path) -> impl Fn(&DeValue<'_>) -> Read<StateUrl> {
    move |value| {
        let text = text(value)?;
        if text.starts_with("postgres:") || text.starts_with("postgresql:") {
            return postgres(&text).map(StateUrl::Postgres);
        }
        let Some(file) = text.strip_prefix("sqlite:") else {
            return Err(Bad::new("must name its kind first").hint("such as \"sqlite:kigen.db\", or postgres://…"));
        };
        let file = file.strip_prefix("//").unwrap_or(file);
        if file.is_empty() || file.ends_with('/') || file.contains('?') || file.starts_with(':') {
            return Err(Bad::new("names no file").hint("such as \"sqlite:kigen.db\""));
        }
        Ok(StateUrl::Sqlite(base.join(file)))
    }
}

/// libpq's words in a connection URI that are ours too; the rest would be ignored, which nobody should find out later.
const POSTGRES_OPTIONS: [&str; 5] = ["sslmode", "sslrootcert", "sslcert", "sslkey", "host"];

fn postgres(text: &str) -> Read<PostgresState> {
    const HOW: &str = "such as \"postgres://kigen@db.example.jp/kigen\"";
    // What is wrong is never quoted: a password may stand in it.
    let mut url = Url::parse(text.trim()).map_err(|why| Bad::new(format!("is no address: {why}")).hint(HOW))?;
    if url.password().is_some() || url.query_pairs().any(|(key, _)| key == "password") {
        return Err(Bad::new("holds a password; secrets do not stand in this file")
            .hint("write state_password = { credential = \"NAME\" } beside it, or use a file that PGPASSFILE names"));
    }
    if url.path().trim_matches('/').is_empty() || url.path().trim_matches('/').contains('/') {
        return Err(Bad::new("names no database").hint(HOW));
    }
    if let Some((key, _)) = url.query_pairs().find(|(key, _)| !POSTGRES_OPTIONS.contains(&key.as_ref())) {
        let known = POSTGRES_OPTIONS.join(", ");
        return Err(Bad::new(format!("{} is no option here", quoted(&key))).hint(format!("there are {known}")));
    }
    let option = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    let host = option("host").or_else(|| url.host_str().map(ToOwned::to_owned)).unwrap_or_default();
    let here = host.is_empty() || host.starts_with('/') || host.starts_with("%2F") || is_loopback(&host);
    match option("sslmode").as_deref() {
        None if !here => {
            url.query_pairs_mut().append_pair("sslmode", "verify-full");
        }
        Some("require" | "verify-ca" | "verify-full") => (),
        Some("disable" | "allow" | "prefer") | None if here => (),
        Some("disable" | "allow" | "prefer") => {
            return Err(Bad::new("customers' addresses would travel in the clear")
                .hint("leave sslmode out (verify-full), and name a private CA with sslrootcert=FILE"));
        }
        Some(other) => return Err(Bad::new(format!("sslmode={} is no such mode", quoted(other)))),
        None => (),
    }
    let directory = std::env::var_os("STATE_DIRECTORY").map_or_else(|| PathBuf::from("/var/lib/kigen"), PathBuf::from);
    Ok(PostgresState { url, password: None, directory })
}

/// Where a secret is: never the secret itself. A file of secrets must be there and closed to others; values are not read.
pub(super) fn secret(base: &Path) -> impl Fn(&DeValue<'_>) -> Read<SecretSource> {
    const HOW: &str = "write { credential = \"NAME\" }, { file = \"PATH\" } or { env = \"NAME\" }";
    move |value| {
        let Some(table) = value.as_table() else {
            return Err(Bad::new("a secret does not stand in this file, only where it is").hint(HOW));
        };
        let mut entries = table.iter();
        let (Some((kind, value)), None) = (entries.next(), entries.next()) else {
            return Err(Bad::new("must name exactly one place").hint(HOW));
        };
        let name = text(value.get_ref()).map_err(|bad| Bad::new(format!("{}: {}", kind.get_ref(), bad.message)))?;
        match kind.get_ref().as_ref() {
            "credential" if name.contains('/') || name.starts_with('.') => {
                Err(Bad::new("a credential's name holds no path").hint("systemd's LoadCredential=NAME:PATH names it"))
            }
            "credential" => Ok(SecretSource::Credential(name)),
            "env" if name.contains('=') => Err(Bad::new("an environment variable's name holds no =")),
            "env" => Ok(SecretSource::Env(name)),
            "file" => {
                let file = base.join(name);
                secret::refuse_exposed(&file).map_err(|error| Bad::new(with_causes(&error)))?;
                Ok(SecretSource::File(file))
            }
            other => {
                let bad = Bad::new(format!("{} is no place for a secret", quoted(other)));
                Err(match did_you_mean(other, ["credential", "file", "env"]) {
                    Some(meant) => bad.hint(format!("did you mean `{meant}`?")),
                    None => bad.hint(HOW),
                })
            }
        }
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
