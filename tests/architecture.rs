//! Who may use whom: the table below is the architecture, and this test keeps it true by reading the sources.
//!
//! It reads text, not syntax: comments and literals are blanked first, then every path that begins with `crate::` or
//! `kigen::` is looked at, in `use` lines (also the members of `use crate::{a, b}`) and inside code. `super::` chains that
//! climb out of a room are refused, for they would hide an arrow. A room's tests may cross rooms, the core's may not.
//! A new arrow is a design question, not a quick fix.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fs;
use std::path::Path;

/// A room, and the rooms it may use besides itself. `*` = every room but `cli` and `main`.
const ARROWS: [(&str, &str); 20] = [
    ("domain", ""),
    ("clock", "domain"),
    ("secret", "domain"),
    ("metrics", "domain"),
    ("spool", ""),
    ("config", "domain secret"),
    ("fleet", "domain config clock secret metrics spool"),
    ("connector", "domain config clock secret metrics spool"),
    // For the polite client only: its limits, its refusals of addresses and its caps are wanted here to the letter.
    ("microsoft", "domain config clock secret metrics connector"),
    ("store", "domain config clock secret metrics"),
    ("notice", "domain config clock secret metrics"),
    ("alert", "domain config"),
    ("mail", "domain config clock secret metrics"),
    ("daemon", "domain config clock secret metrics spool fleet connector microsoft store notice alert mail"),
    ("web", "domain config clock secret metrics store daemon"),
    ("app", "domain config clock secret metrics fleet connector microsoft store notice alert mail daemon web"),
    ("demo", "*"),
    ("cli", "*"),
    ("main", "* cli"),
    ("lib", ""),
];

/// The crates that the core may use, beside the standard library.
const CORE_CRATES: [&str; 2] = ["chrono", "chrono_tz"];

/// What a pure core has no use for.
const IMPURE: [&str; 9] = [
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::io",
    "std::thread",
    "SystemTime",
    "Instant::now",
    "Utc::now",
];

/// What is never left in the sources.
const FORBIDDEN: [&str; 3] = ["todo!", "unimplemented!", "dbg!"];

#[test]
fn every_room_uses_only_what_the_table_allows() {
    let mut wrong = Vec::new();
    for source in sources() {
        let room = source.room();
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == room) else {
            wrong.push(format!("{}:1: the room `{room}` is not in the table", source.path));
            continue;
        };
        for (line, used) in rooms_used(source.kept_to_the_rules()) {
            if !may_use(room, allowed, &used) {
                wrong.push(format!("{}:{line}: `{room}` may not use `{used}`; it may use: {allowed}", source.path));
            }
        }
        for line in climbs(source.kept_to_the_rules(), source.depth()) {
            wrong.push(format!("{}:{line}: `super::` leaves the room `{room}`; write `crate::`", source.path));
        }
    }
    assert_eq!(wrong.join("\n"), "", "arrows that are not in the architecture");
}

#[test]
fn the_core_is_pure_and_knows_only_dates() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let crates: Vec<String> = dependencies(&manifest).filter(|name| !CORE_CRATES.contains(&name.as_str())).collect();
    assert!(crates.contains(&"tokio".to_owned()), "the manifest was read");
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| s.room() == "domain") {
        for (n, line) in source.code.lines().enumerate() {
            let named = crates.iter().map(String::as_str).filter(|name| has_path(line, name));
            let impure = IMPURE.into_iter().chain(["async fn", "async move"]).filter(|word| line.contains(word));
            wrong.extend(
                named.chain(impure).map(|what| format!("{}:{}: `domain` may not use `{what}`", source.path, n + 1)),
            );
        }
    }
    assert_eq!(wrong.join("\n"), "", "the core is data in, data out");
}

#[test]
fn every_dependency_is_used() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let sources = sources();
    let used = |name: &str| sources.iter().any(|s| s.code.lines().any(|line| has_path(line, name)));
    let unused: Vec<_> = dependencies(&manifest).filter(|name| !used(name)).collect();
    assert_eq!(unused.join(" "), "", "crates in Cargo.toml that no source names");
}

#[test]
fn every_file_says_first_what_it_is() {
    let wrong: Vec<_> = sources().into_iter().filter(|s| !s.text.starts_with("//! ")).map(|s| s.path + ":1").collect();
    assert_eq!(wrong.join("\n"), "", "files that do not begin with a `//!` line");
}

#[test]
fn nothing_is_left_for_later() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (n, line) in source.code.lines().enumerate() {
            let words = FORBIDDEN.iter().filter(|word| line.contains(**word));
            wrong.extend(words.map(|word| format!("{}:{}: `{word}`", source.path, n + 1)));
        }
    }
    assert_eq!(wrong.join("\n"), "", "words that are never left in the sources");
}

#[test]
fn the_reader_of_sources_is_not_blind() {
    let check = |sentence: &str, text: &str, expected: &[(usize, &str)]| {
        let found = rooms_used(&blanked(text));
        let found: Vec<_> = found.iter().map(|(line, room)| (*line, room.as_str())).collect();
        assert_eq!(found, expected, "{sentence}");
    };
    check("a use line", "use std::fmt;\nuse crate::store::Store;", &[(2, "store")]);
    check("a group", "use crate::{domain::site, mail};", &[(1, "domain"), (1, "mail")]);
    check(
        "a group over lines, with groups inside",
        "use crate::{\n  web::{a, b},\n  cli,\n};",
        &[(2, "web"), (3, "cli")],
    );
    check("a path in code", "let x = crate::store::open(&y);", &[(1, "store")]);
    check("the binary's way", "kigen::cli::run();", &[(1, "cli")]);
    check("a visibility", "pub(in crate::mail) fn f() {}", &[(1, "mail")]);
    check("a type of the crate's root is no room", "crate::Thing::new()", &[]);
    check("another crate's name that ends alike", "mycrate::store::x(); akigen::web::y();", &[]);
    check("a comment", "// see crate::store\n/* crate::web /* crate::cli */ */\n/// [`crate::mail`]", &[]);
    check("a string", "let x = \"crate::store\"; let y = r#\"a \" crate::web\"#;", &[]);
    check("after a character that looks like a string's start", "let x = '\"'; crate::mail::y('\\'');", &[(1, "mail")]);
    check("after a lifetime", "fn f<'a>(x: &'a str) { crate::web::y() }", &[(1, "web")]);

    assert_eq!(climbs("use super::site;\nuse super::super::web;", 2), [2]);
    assert_eq!(climbs("use super::super::plan;", 3), [0_usize; 0]);
    assert_eq!(climbs("use super::store;", 1), [1], "a room of one file has only the crate's root above it");
    assert!(may_use("cli", "*", "demo") && !may_use("demo", "*", "cli") && may_use("main", "* cli", "cli"));
    assert!(has_path("use tokio::fs;", "tokio") && !has_path("my_tokio::x tokio", "tokio"));
}

struct Source {
    /// From the repository's root, such as `src/domain/plan.rs`.
    path: String,
    text: String,
    /// The text with comments and literals blanked, line by line the same.
    code: String,
}

impl Source {
    /// The file's place below `src`, without `mod` and the ending.
    fn module(&self) -> Vec<&str> {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        path.split('/').filter(|part| *part != "mod").collect()
    }

    fn room(&self) -> &str {
        self.module()[0]
    }

    /// How deep a module it is; one more where it holds modules written in place.
    fn depth(&self) -> usize {
        let inner = self.code.lines().any(|line| line.contains("mod ") && line.trim_end().ends_with('{'));
        self.module().len() + usize::from(inner)
    }

    /// The code that the table is for: all of the core, elsewhere without tests.
    fn kept_to_the_rules(&self) -> &str {
        if self.room() == "domain" {
            &self.code
        } else if self.module().contains(&"tests") {
            ""
        } else {
            // By our own custom a file's tests stand at its end.
            self.code.split_once("#[cfg(test)]\nmod tests {").map_or(&self.code, |(product, _)| product)
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
                found.push(Source { path, code: blanked(&text), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 20, "the sources were found");
    found
}

fn may_use(room: &str, allowed: &str, used: &str) -> bool {
    let named = allowed.split(' ').any(|word| word == used);
    let any = allowed.split(' ').any(|word| word == "*") && used != "cli" && used != "main";
    room == used || named || any && ARROWS.iter().any(|(name, _)| *name == used)
}

/// The names of `[dependencies]`, as they are written in code.
fn dependencies(manifest: &str) -> impl Iterator<Item = String> {
    let lines = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    lines
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| Some(line.split_once('=')?.0.trim().replace('-', "_")))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether a path begins with `name::` in the line.
fn has_path(line: &str, name: &str) -> bool {
    let path = format!("{name}::");
    line.match_indices(&path).any(|(at, _)| !line[..at].ends_with(|c| is_word(c) || c == ':'))
}

/// (line, room) of every path that begins at the crate's root.
fn rooms_used(code: &str) -> Vec<(usize, String)> {
    let mut used = Vec::new();
    for root in ["crate::", "kigen::"] {
        for (at, _) in code.match_indices(root) {
            if code[..at].ends_with(is_word) {
                continue;
            }
            let rest = at + root.len();
            for start in members(code, rest) {
                let name: String = code[start..].chars().take_while(|c| is_word(*c)).collect();
                if name.starts_with(|c: char| c.is_lowercase()) {
                    used.push((line_of(code, start), name));
                }
            }
        }
    }
    used
}

/// Where the members of a group begin, or the one name if there is no group.
fn members(code: &str, start: usize) -> Vec<usize> {
    if !code[start..].starts_with('{') {
        return vec![start];
    }
    let (mut depth, mut at_member, mut found) = (0_usize, false, Vec::new());
    for (n, c) in code[start..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' => {}
            c if c.is_whitespace() => continue,
            _ if at_member => found.push(start + n),
            _ => {}
        }
        if depth == 0 {
            break;
        }
        at_member = depth == 1 && (c == '{' || c == ',');
    }
    found
}

/// The lines with a chain of `super::` that is as long as the module is deep.
fn climbs(code: &str, depth: usize) -> Vec<usize> {
    let chain = "super::".repeat(depth.max(1));
    let mut lines: Vec<_> = code.match_indices(&chain).map(|(at, _)| line_of(code, at)).collect();
    lines.dedup();
    lines
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// The text with comments and the insides of strings and characters made white; lines stay where they are.
fn blanked(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => 1 + string(&rest[1..]),
            'r' if !code.ends_with(is_word) => raw_string(rest),
            '\'' => character(rest),
            _ => 0,
        };
        if skipped == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.extend(rest[..skipped].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[skipped..];
        }
    }
    code
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'/', Some(b'*')) => {
                depth += 1;
                at += 2;
            }
            (b'*', Some(b'/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    bytes.len()
}

/// From behind the opening quote to behind the closing one.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (n, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return n + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a raw string that begins here; 0 if none does.
fn raw_string(text: &str) -> usize {
    let hashes = text[1..].chars().take_while(|c| *c == '#').count();
    let open = 1 + hashes;
    if !text[open..].starts_with('"') {
        return 0;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    text[open + 1..].find(&close).map_or(text.len(), |n| open + 1 + n + close.len())
}

/// The length of a character literal that begins here; 0 for a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((n, escaped))) => {
            let behind = n + escaped.len_utf8();
            text[behind..].find('\'').map_or(0, |n| behind + n + 1)
        }
        (Some(_), Some((n, '\''))) => n + 1,
        _ => 0,
    }
}
