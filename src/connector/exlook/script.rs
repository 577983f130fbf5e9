//! What a click does: `__doPostBack('target','argument')` and its relatives, found in `href`, `onclick` and `onchange`.
//!
//! No script is run; a call that is not written out is no action.

/// A form post that a control asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostBack {
    /// `__EVENTTARGET`
    pub target: String,
    /// `__EVENTARGUMENT`
    pub argument: String,
    /// Another action URL than the form's (cross-page posting).
    pub action: Option<String>,
}

/// The post that a script asks for, if it is one we can read.
#[must_use]
pub fn postback(script: &str) -> Option<PostBack> {
    postback_within(script, 0)
}

fn postback_within(script: &str, depth: u8) -> Option<PostBack> {
    // AutoPostBack wraps the call in a string: setTimeout('__doPostBack(\'list\',\'\')', 0).
    if depth < 2
        && let Some(at) = script.find("setTimeout(")
        && let Some((inner, _)) = literal(&script[at + "setTimeout(".len()..])
        && let Some(found) = postback_within(&inner, depth + 1)
    {
        return Some(found);
    }
    if let Some(at) = script.find("WebForm_PostBackOptions(") {
        return with_options(&script[at + "WebForm_PostBackOptions(".len()..]);
    }
    let at = script.find("__doPostBack")?;
    let rest = script[at + "__doPostBack".len()..].trim_start().strip_prefix('(')?;
    let (target, rest) = literal(rest)?;
    let argument = rest.trim_start().strip_prefix(',').and_then(literal).map(|(text, _)| text).unwrap_or_default();
    Some(PostBack { target, argument, action: None })
}

/// `("target", "argument", validation, "group", "actionUrl", trackFocus, clientSubmit)`; without `clientSubmit` the control
/// submits itself, and that we do not do.
fn with_options(script: &str) -> Option<PostBack> {
    let (target, rest) = literal(script)?;
    let (argument, rest) = literal(rest.trim_start().strip_prefix(',')?)?;
    let (_validation, rest) = rest.trim_start().strip_prefix(',')?.split_once(',')?;
    let (_group, rest) = literal(rest)?;
    let (action, rest) = literal(rest.trim_start().strip_prefix(',')?)?;
    let flags = rest.split(')').next().unwrap_or_default();
    let client_submit = flags.split(',').nth(2).is_some_and(|flag| flag.trim() == "true");
    client_submit.then_some(PostBack { target, argument, action: (!action.is_empty()).then_some(action) })
}

/// The page that `location = '…'` goes to.
#[must_use]
pub fn location(script: &str) -> Option<String> {
    let at = script.find("location")?;
    let rest = script[at + "location".len()..].trim_start();
    let rest = rest.strip_prefix(".href").unwrap_or(rest).trim_start();
    let (url, _) = literal(rest.strip_prefix('=')?)?;
    (!url.is_empty()).then_some(url)
}

/// The texts that a script shows by `alert('…')`.
#[must_use]
pub fn alerts(script: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = script;
    while let Some(at) = rest.find("alert(") {
        rest = &rest[at + "alert(".len()..];
        if let Some((text, after)) = literal(rest) {
            found.push(text);
            rest = after;
        }
        if found.len() == 20 {
            break;
        }
    }
    found
}

/// The string literal at the start, decoded, and what follows it. The quotes may themselves be escaped (`\'`).
fn literal(script: &str) -> Option<(String, &str)> {
    let script = script.trim_start();
    let escapes = script.len() - script.trim_start_matches('\\').len();
    let quote = script[escapes..].chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let open = format!("{}{quote}", "\\".repeat(escapes));
    let body = &script[open.len()..];
    let end = closing(body, &open, escapes)?;
    Some((unescape(&body[..end]), &body[end + open.len()..]))
}

fn closing(body: &str, close: &str, escapes: usize) -> Option<usize> {
    if escapes > 0 {
        return body.find(close);
    }
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if close.starts_with(c) {
            return Some(at);
        }
    }
    None
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('x') => out.extend(hex(&mut chars, 2)),
            Some('u') => out.extend(hex(&mut chars, 4)),
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

fn hex(chars: &mut std::str::Chars<'_>, digits: usize) -> Option<char> {
    let mut value = 0;
    for _ in 0..digits {
        value = value * 16 + chars.next()?.to_digit(16)?;
    }
    char::from_u32(value)
}
