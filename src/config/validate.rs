//! A file -> a valid [`Config`], or every problem in it.

use std::io::Read as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::diagnose::Source;
use super::section::{KnownKey, Reading, Section};
use super::{Config, ConfigErrors, Problem, sections};

/// More than any configuration: whatever is larger is another file.
const MAX_BYTES: u64 = 1024 * 1024;

pub(super) fn load(path: &Path) -> Result<Config, ConfigErrors> {
    let source = read(path)?;
    check(&source)
}

pub(super) fn check(source: &Source) -> Result<Config, ConfigErrors> {
    let (document, errors) = DeTable::parse_recoverable(&source.text);
    let syntax = syntax_problems(source, &errors);
    let (config, reading) = Reading::run(source, Some(document.get_ref()), |root| whole(root, &source.file));
    let problems = reading.problems(syntax);
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(ConfigErrors(problems)),
    }
}

/// Every key, found by reading a file with nothing in it.
pub(super) fn known_keys() -> Vec<KnownKey> {
    let nothing = Source { file: PathBuf::from("config.toml"), text: String::new() };
    Reading::run(&nothing, None, |root| whole(root, &nothing.file)).1.known_keys()
}

/// `None` only where a problem was reported.
fn whole(root: &mut Section<'_, '_>, file: &Path) -> Option<Config> {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let base = file.parent().unwrap_or(Path::new("/"));
    let mode = sections::basics::mode(root);
    let zone = sections::basics::timezone(root);
    let state = sections::basics::state(root, base);
    let schedule = sections::basics::schedule(root);
    let calendar = sections::basics::business_hours(root, zone);
    let fleet = sections::basics::fleet(root, base);
    let connector = sections::connector::connector(root, base);
    let (scan, patience) = sections::connector::scan(root, base);
    let retention = sections::basics::retention(root);
    sections::connector::logon_is_secure(root, connector.as_ref(), &scan);
    let microsoft = sections::microsoft::microsoft(root, base);
    let campaigns = sections::campaign::campaigns(root, base);
    sections::basics::some_business_day(root, &calendar, campaigns.as_deref());
    sections::basics::some_pass_on_a_business_day(root, &schedule, &calendar);
    let mail = sections::mail::mail(root, base);
    let safety = sections::watch::safety(root);
    let alerts = sections::watch::alerts(root);
    let web = sections::watch::web(root);
    let cluster = sections::watch::cluster(root);
    Some(Config {
        fleet: fleet?,
        connector: connector?,
        campaigns: campaigns?,
        mail: mail?,
        path: file,
        mode,
        calendar,
        state,
        schedule,
        scan,
        patience,
        retention,
        microsoft,
        safety,
        alerts,
        web,
        cluster,
    })
}

fn read(path: &Path) -> Result<Source, ConfigErrors> {
    let refuse = |why: String| ConfigErrors(vec![Problem::of_file(path, why)]);
    // To open a named pipe would wait for whoever writes into it; one that the shell made (`<(…)`) is a link to it.
    if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_fifo()) {
        return Err(refuse("is a pipe, not a file".into()));
    }
    let file = std::fs::File::open(path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(refuse("is larger than 1 MiB: that is no configuration".into()));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        let problem = Problem::in_row(path, line, None, "is not UTF-8");
        ConfigErrors(vec![problem.with_hint(Some("save the file as UTF-8".into()))])
    })?;
    // Windows' editors put a byte order mark first; it is no part of the text.
    let text = text.strip_prefix('\u{FEFF}').map(str::to_owned).unwrap_or(text);
    Ok(Source { file: path.to_owned(), text })
}

/// One problem a line: what follows on the same line mostly comes of the first.
fn syntax_problems(source: &Source, errors: &[toml::de::Error]) -> Vec<Problem> {
    let mut problems: Vec<Problem> = Vec::new();
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let message = error.message().lines().collect::<Vec<_>>().join("; ");
        let problem = Problem::at(source, span, None, message);
        if !problems.iter().any(|earlier| earlier.line == problem.line) {
            problems.push(problem);
        }
    }
    problems
}
