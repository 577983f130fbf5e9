//! What comes back: which recipient a report speaks of, what it says, and what that means. Pure; never fails, never panics.
//!
//! Reads RFC 3464 and 6533 reports, and the forms that are none of that (qmail, Exim, Gmail, Exchange Online, carriers).
//! Whether a report is about a mail of ours, and whether it is genuine, is the caller's to find out: everything here is
//! what the mail claims. Invariant: [`Class::Dead`] needs words or a code that say "no such address", and nothing beside
//! them that speaks of a full mailbox, a filter, a policy or of us; whatever is less clear is [`Class::Unsure`].

mod judge;
mod words;

use mail_parser::decoders::html::html_to_text;
use mail_parser::{Address, HeaderValue, Message, MessageParser, MimeHeaders, PartType};

use super::outcome::one_line;

pub use judge::Class;
use judge::judge;
use words::{addresses, enhanced_codes, has_any};

/// What is read of one mail: a report stands at its beginning, the returned message behind it may be as large as it likes.
pub const READ_MAX: usize = 1024 * 1024;
/// The human text that is looked at.
const TEXT_MAX: usize = 64 * 1024;
/// Recipients of one report.
const RECIPIENTS_MAX: usize = 200;
/// Parts inside parts, counted over the whole mail. The MIME parser builds nested messages and drops them by recursion, so
/// a hostile depth is refused before it.
const NESTED_MAX: usize = 100;

/// What a mail that came back claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What kind of mail it is. For a report with [`recipients`](Self::recipients) theirs count; this is the gravest.
    pub class: Class,
    /// Whom it speaks of.
    pub recipients: Vec<Returned>,
    /// The addresses it came to, in lower case: one of them may be an envelope sender of ours.
    pub came_to: Vec<String>,
    /// The returned message's identifiers, with angle brackets.
    pub message_ids: Vec<String>,
    /// The returned message's dates, as UNIX seconds.
    pub dates: Vec<i64>,
}

/// One recipient of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Returned {
    /// The address that failed, in lower case.
    pub address: String,
    /// The address it was sent to at first, where the report names another.
    pub original: Option<String>,
    /// What it means.
    pub class: Class,
    /// The enhanced status code.
    pub status: Option<String>,
    /// The decisive words, one line, addresses masked.
    pub said: String,
}

impl Report {
    fn bare(class: Class) -> Self {
        Self { class, recipients: Vec::new(), came_to: Vec::new(), message_ids: Vec::new(), dates: Vec::new() }
    }
}

/// Reads one mail, its first [`READ_MAX`] bytes at most. Linear in their number.
#[must_use]
pub fn read(mail: &[u8]) -> Report {
    let mail = &mail[..mail.len().min(READ_MAX)];
    if too_deep(mail) {
        return Report::bare(Class::Unsure);
    }
    match MessageParser::default().parse(mail) {
        Some(message) => read_message(&message),
        None => Report::bare(Class::Unrelated),
    }
}

/// The Date of a message of ours, as UNIX seconds.
#[must_use]
pub fn date_of(message: &[u8]) -> Option<i64> {
    let header = message.windows(4).position(|w| w == b"\r\n\r\n").map_or(message, |end| &message[..end + 2]);
    let text = std::str::from_utf8(header).ok()?;
    let date = text.lines().find_map(|line| line.strip_prefix("Date:"))?;
    mail_parser::DateTime::parse_rfc822(date.trim()).map(|date| date.to_timestamp())
}

fn too_deep(mail: &[u8]) -> bool {
    let count = |word: &[u8]| mail.windows(word.len()).filter(|w| w.eq_ignore_ascii_case(word)).count();
    count(b"message/") > NESTED_MAX || count(b"multipart/") > NESTED_MAX
}

/// The parts of a mail, sorted by what they are.
#[derive(Default)]
struct Sorted {
    text: String,
    status: Option<String>,
    feedback: Option<String>,
    receipt: bool,
    returned: Vec<String>,
}

fn read_message(message: &Message<'_>) -> Report {
    let mut report = Report::bare(Class::Unrelated);
    let parts = sort(message, &mut report);
    for name in
        ["To", "Delivered-To", "X-Original-To", "Envelope-To", "X-Envelope-To", "X-Delivered-To", "Apparently-To"]
    {
        for value in message.header_values(name) {
            report.came_to.extend(addresses(&header_text(value)));
        }
    }
    let (told, quoted) = cut(&parts.text);
    for text in parts.returned.iter().map(String::as_str).chain([quoted]) {
        returned_header(text, &mut report);
    }
    report.recipients.truncate(RECIPIENTS_MAX);
    report.came_to.truncate(RECIPIENTS_MAX);
    report.message_ids.truncate(RECIPIENTS_MAX);
    report.dates.truncate(RECIPIENTS_MAX);

    if let Some(feedback) = &parts.feedback {
        report.class = Class::Complaint;
        report.recipients = complained(feedback, &parts.returned);
    } else if let Some(status) = &parts.status {
        report.recipients = from_status(status, told);
        report.class = gravest(&report.recipients);
    } else if parts.receipt || is_automatic(message) {
        report.class = Class::AutoReply;
    } else if is_bounce(message) {
        report.recipients = from_text(message, told);
        report.class = gravest(&report.recipients);
    }
    report
}

fn gravest(recipients: &[Returned]) -> Class {
    recipients.iter().map(|r| r.class).min().unwrap_or(Class::Unsure)
}

fn sort(message: &Message<'_>, report: &mut Report) -> Sorted {
    let mut sorted = Sorted::default();
    let mut html = String::new();
    for part in &message.parts {
        let kind = part
            .content_type()
            .map(|t| (t.ctype().to_ascii_lowercase(), t.subtype().unwrap_or_default().to_ascii_lowercase()));
        let (main, sub) = kind.as_ref().map_or(("text", "plain"), |(main, sub)| (main.as_str(), sub.as_str()));
        match &part.body {
            PartType::Message(inner) => {
                if let Some(id) = inner.message_id() {
                    report.message_ids.push(format!("<{id}>"));
                }
                report.dates.extend(inner.date().map(mail_parser::DateTime::to_timestamp));
                for value in inner.header_values("Return-Path") {
                    report.came_to.extend(addresses(&header_text(value)));
                }
                let to = inner.to().map(|to| address_list(Some(to))).unwrap_or_default();
                sorted.returned.push(to.iter().map(|a| format!("To: {a}\n")).collect());
            }
            PartType::Text(text) if main == "text" && sub == "rfc822-headers" => sorted.returned.push(bounded(text)),
            PartType::Text(text) if main == "message" || sub == "rfc822-headers" => {
                of_report(main, sub, text, &mut sorted);
            }
            PartType::Text(text) => push_text(&mut sorted.text, text),
            PartType::Html(text) => push_text(&mut html, text),
            PartType::Binary(bytes) | PartType::InlineBinary(bytes) => {
                let bytes = &bytes[..bytes.len().min(TEXT_MAX)];
                of_report(main, sub, &String::from_utf8_lossy(bytes), &mut sorted);
            }
            PartType::Multipart(_) => {}
        }
    }
    if sorted.text.trim().is_empty() {
        sorted.text = html_to_text(&html);
    }
    sorted
}

fn of_report(main: &str, sub: &str, text: &str, sorted: &mut Sorted) {
    match (main, sub) {
        ("message", "delivery-status" | "global-delivery-status") => {
            push_text(sorted.status.get_or_insert_default(), text);
        }
        ("message", "feedback-report") => sorted.feedback = Some(bounded(text)),
        ("message", "disposition-notification" | "global-disposition-notification") => sorted.receipt = true,
        ("message", "global" | "global-headers" | "rfc822") | ("text", "rfc822-headers") => {
            sorted.returned.push(bounded(text));
        }
        _ => {}
    }
}

fn push_text(to: &mut String, text: &str) {
    to.push_str(&bounded(&text[..floor(text, TEXT_MAX.saturating_sub(to.len()))]));
    to.push('\n');
}

fn bounded(text: &str) -> String {
    text[..floor(text, TEXT_MAX)].to_owned()
}

/// The greatest character boundary not above `max`.
fn floor(text: &str, max: usize) -> usize {
    (0..=max.min(text.len())).rev().find(|n| text.is_char_boundary(*n)).unwrap_or(0)
}

fn header_text(value: &HeaderValue<'_>) -> String {
    match value {
        HeaderValue::Text(text) => text.to_string(),
        HeaderValue::TextList(list) => list.join(" "),
        HeaderValue::Address(list) => address_list(Some(list)).join(" "),
        _ => String::new(),
    }
}

fn address_list(list: Option<&Address<'_>>) -> Vec<String> {
    let one = |a: &mail_parser::Addr<'_>| a.address.as_ref().map(|a| a.to_lowercase());
    list.into_iter().flat_map(|list| list.iter().filter_map(one)).take(RECIPIENTS_MAX).collect()
}

/// Marks behind which the returned message is quoted.
const COPY_MARKS: [&str; 7] = [
    "this is a copy of",
    "below this line is a copy",
    "original message headers",
    "original message ---",
    "--- original message",
    "unsent message follows",
    "header of the original message",
];
const HEADER_MARKS: [&str; 5] = ["return-path:", "received:", "message-id:", "dkim-signature:", "mime-version:"];

/// The report's own words, and the message quoted behind them.
fn cut(text: &str) -> (&str, &str) {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let lower = line.trim_start_matches(['>', ' ', '\t']).to_ascii_lowercase();
        if has_any(&lower, &COPY_MARKS) || HEADER_MARKS.iter().any(|mark| lower.starts_with(mark)) {
            return text.split_at(at);
        }
        at += line.len();
    }
    (text, "")
}

/// Identifier, date and envelope sender of a message that is quoted as text.
fn returned_header(text: &str, report: &mut Report) {
    for line in text.lines() {
        let line = line.trim_start_matches(['>', ' ', '\t']);
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("message-id") {
            report.message_ids.extend(value.split_whitespace().find(|id| id.starts_with('<')).map(str::to_owned));
        } else if name.eq_ignore_ascii_case("date") {
            report.dates.extend(mail_parser::DateTime::parse_rfc822(value.trim()).map(|date| date.to_timestamp()));
        } else if name.eq_ignore_ascii_case("return-path") {
            report.came_to.extend(addresses(value));
        }
    }
}

/// One recipient's fields of a delivery status (RFC 3464 2.3).
#[derive(Default)]
struct Fields {
    original: Option<String>,
    last: Option<String>,
    action: String,
    status: Option<String>,
    diagnostic: String,
}

fn from_status(status: &str, told: &str) -> Vec<Returned> {
    let mut all: Vec<Fields> = Vec::new();
    let mut current = Fields::default();
    for line in unfold(status) {
        let (name, value) = match line.split_once(':') {
            Some((name, value)) => (name.trim().to_ascii_lowercase(), value.trim()),
            None => (String::new(), ""),
        };
        let begins = name.is_empty() || (name == "final-recipient" && current.last.is_some());
        if begins && (current.last.is_some() || current.original.is_some()) {
            all.push(std::mem::take(&mut current));
        }
        match name.as_str() {
            "final-recipient" => current.last = addresses(value).pop(),
            "original-recipient" => current.original = addresses(value).pop(),
            "action" => current.action = value.to_ascii_lowercase(),
            "status" => current.status = enhanced_codes(value).into_iter().next(),
            "diagnostic-code" => current.diagnostic = value.to_owned(),
            _ => {}
        }
        if all.len() >= RECIPIENTS_MAX {
            break;
        }
    }
    if current.last.is_some() || current.original.is_some() {
        all.push(current);
    }
    all.into_iter().filter_map(|fields| of_fields(fields, told)).collect()
}

fn of_fields(fields: Fields, told: &str) -> Option<Returned> {
    let address = fields.last.clone().or_else(|| fields.original.clone())?;
    let original = fields.original.filter(|original| *original != address);
    let segment = segment_of(told, &address);
    let said = if fields.diagnostic.is_empty() { segment.as_str() } else { fields.diagnostic.as_str() };
    let mut class = match fields.action.split_whitespace().next().unwrap_or("failed") {
        "delayed" => Class::Delay,
        "delivered" | "relayed" | "expanded" => Class::Unrelated,
        _ => judge(&address, fields.status.as_deref(), said, &segment),
    };
    // What failed is where the address led to, not the address we know.
    if class == Class::Dead && original.is_some() {
        class = Class::Unsure;
    }
    Some(Returned { class, status: fields.status, said: one_line(said), address, original })
}

/// Lines with their continuations; empty ones stay as separators.
fn unfold(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        match lines.last_mut() {
            Some(last) if line.starts_with([' ', '\t']) && !last.is_empty() => {
                last.push(' ');
                last.push_str(line.trim());
            }
            _ => lines.push(line.trim_end().to_owned()),
        }
    }
    lines
}

/// What the human text says of one address: from the line that names it to the line that names another. All of it, if
/// it names none.
fn segment_of(told: &str, address: &str) -> String {
    let segments = segments(told);
    let of: String = segments.iter().filter(|(named, _)| named == address).map(|(_, text)| text.as_str()).collect();
    if of.is_empty() && segments.is_empty() { told.to_owned() } else { of }
}

fn segments(told: &str) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut before = String::new();
    for line in told.split_inclusive('\n') {
        match addresses(line).into_iter().next() {
            Some(address) if all.last().is_none_or(|(last, _)| *last != address) && all.len() < RECIPIENTS_MAX => {
                all.push((address, std::mem::take(&mut before)));
            }
            _ => {}
        }
        match all.last_mut() {
            Some((_, text)) => text.push_str(line),
            None => before.push_str(line),
        }
    }
    all
}

fn from_text(message: &Message<'_>, told: &str) -> Vec<Returned> {
    let subject = message.subject().unwrap_or_default();
    let delay = has_any(&subject.to_lowercase(), &words::DELAY) || has_any(&told.to_lowercase(), &words::DELAY);
    let mut named: Vec<String> = Vec::new();
    for value in message.header_values("X-Failed-Recipients") {
        named.extend(addresses(&header_text(value)));
    }
    named.extend(segments(told).into_iter().map(|(address, _)| address));
    let mut seen = std::collections::BTreeSet::new();
    named.retain(|address| seen.insert(address.clone()));
    named.truncate(RECIPIENTS_MAX);
    // A text that names one address speaks of it throughout.
    let alone = named.len() == 1;
    let segments = segments(told);
    named
        .into_iter()
        .map(|address| {
            let of = segments.iter().filter(|(named, _)| *named == address).map(|(_, text)| text.as_str());
            let said = if alone { told.to_owned() } else { of.collect::<String>() };
            let status = enhanced_codes(&said).into_iter().next();
            let class = if delay { Class::Delay } else { judge(&address, status.as_deref(), &said, &said) };
            Returned { address, original: None, class, status, said: one_line(&said) }
        })
        .collect()
}

/// RFC 5965: whom the complaint is about.
fn complained(feedback: &str, returned: &[String]) -> Vec<Returned> {
    let of_field =
        |line: &str| line.split_once(':').filter(|(n, _)| n.eq_ignore_ascii_case("original-rcpt-to")).is_some();
    let mut named: Vec<String> = feedback.lines().filter(|line| of_field(line)).flat_map(addresses).collect();
    if named.is_empty() {
        let to = |line: &&str| line.len() > 3 && line.is_char_boundary(3) && line[..3].eq_ignore_ascii_case("to:");
        named = returned.iter().flat_map(|text| text.lines()).filter(to).flat_map(addresses).collect();
    }
    named.truncate(RECIPIENTS_MAX);
    let said = "the recipient reported the mail as spam";
    let one =
        |address| Returned { address, original: None, class: Class::Complaint, status: None, said: said.to_owned() };
    named.into_iter().map(one).collect()
}

fn first_header(message: &Message<'_>, name: &str) -> String {
    message.header_values(name).next().map(header_text).unwrap_or_default().to_lowercase()
}

fn from_daemon(message: &Message<'_>) -> bool {
    let from = address_list(message.from()).join(" ");
    has_any(&from, &["mailer-daemon", "postmaster", "mail-daemon", "mdaemon", "microsoftexchange"])
}

fn is_automatic(message: &Message<'_>) -> bool {
    if from_daemon(message) || message.header_values("X-Failed-Recipients").next().is_some() {
        return false;
    }
    let submitted = first_header(message, "Auto-Submitted");
    let precedence = first_header(message, "Precedence");
    submitted.starts_with("auto-replied")
        || precedence.contains("auto_reply")
        || ["X-Autoreply", "X-Autorespond", "X-Auto-Reply"].iter().any(|n| message.header_values(*n).next().is_some())
        || has_any(&message.subject().unwrap_or_default().to_lowercase(), &words::AUTO_REPLY)
}

fn is_bounce(message: &Message<'_>) -> bool {
    let subject = message.subject().unwrap_or_default().to_lowercase();
    from_daemon(message)
        || message.header_values("X-Failed-Recipients").next().is_some()
        || message.content_type().is_some_and(|t| t.subtype().is_some_and(|s| s.eq_ignore_ascii_case("report")))
        || has_any(&subject, &words::BOUNCE_SUBJECTS)
}
