//! What a page that went out expects back, and what came: every hidden field and successful control once and unaltered, a
//! postback by a control the page has, and no submit control but the log-on button.

use sha2::{Digest, Sha256};

/// Something a browser in careful hands would not have sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Breach {
    /// A submit control other than the log-on button, by name: what kigen must never do.
    Pressed(String),
    /// A hidden field or a successful control that did not come back.
    Missing(String),
    /// One that came back with another value, or twice.
    Altered(String),
    /// A field that a browser would not have sent: unknown, disabled, unchecked.
    Stray(String),
    /// A postback by a control that the page does not have.
    UnknownEvent(String),
}

impl Breach {
    /// Whether ASP.NET itself would have answered with an error page.
    pub(super) fn is_fatal(&self) -> bool {
        matches!(self, Self::Missing(_) | Self::Altered(_) | Self::UnknownEvent(_))
    }
}

/// What a postback makes the page do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Does {
    OpenTab(usize),
    ShowSite(usize),
    /// The site is the value of this field, as an index into its values.
    ShowSiteOf(String),
    LogOff,
}

#[derive(Debug)]
pub(super) enum Rule {
    /// As it went out; kept as a digest, for view states are large.
    Same([u8; 32]),
    /// One of a list's values.
    OneOf(Vec<String>),
    /// Whatever the person types, or a script sets.
    Free,
}

#[derive(Debug)]
pub(super) struct Field {
    pub name: String,
    pub rule: Rule,
}

#[derive(Debug)]
pub(super) struct Event {
    pub target: String,
    pub argument: String,
    pub does: Does,
}

#[derive(Debug)]
pub(super) struct Submit {
    pub name: String,
    pub logs_on: bool,
}

/// Which tab and site a page shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place {
    pub tab: usize,
    pub site: usize,
}

/// A page that went out, as far as its answer is checked against it.
#[derive(Debug)]
pub(super) struct Issued {
    pub place: Place,
    pub view_state: [u8; 32],
    pub fields: Vec<Field>,
    pub events: Vec<Event>,
    pub submits: Vec<Submit>,
}

/// What came back on a page.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub breaches: Vec<Breach>,
    pub does: Option<Does>,
    /// For [`Does::ShowSiteOf`]: the index of the value that was chosen.
    pub chosen: Option<usize>,
    pub logs_on: bool,
}

pub(super) fn digest(value: &str) -> [u8; 32] {
    Sha256::digest(value.as_bytes()).into()
}

/// A browser sends a text area's line breaks as CRLF; the parsed page has LF. Either is let pass.
pub(super) fn same_digest(value: &str) -> [u8; 32] {
    digest(&value.replace("\r\n", "\n"))
}

impl Issued {
    /// Whether this is the page whose (first piece of) view state that is.
    pub fn has_view_state(&self, first: &str) -> bool {
        digest(first) == self.view_state
    }

    /// Compares what came with what a browser would have sent.
    pub fn check(&self, posted: &[(String, String)]) -> Checked {
        let mut checked = Checked::default();
        for field in &self.fields {
            checked.breaches.extend(field.breach(posted));
        }
        for (name, _) in posted {
            if let Some(submit) = self.submits.iter().find(|submit| submit.is_named(name)) {
                checked.logs_on |= submit.logs_on;
                // An image posts two fields; one press is one breach.
                if !submit.logs_on && !name.ends_with(".y") {
                    checked.breaches.push(Breach::Pressed(submit.name.clone()));
                }
            } else if !self.fields.iter().any(|field| field.name == *name) && !is_event_field(name) {
                checked.breaches.push(Breach::Stray(name.clone()));
            }
        }
        self.find_event(posted, &mut checked);
        checked
    }

    fn find_event(&self, posted: &[(String, String)], checked: &mut Checked) {
        let target = value(posted, "__EVENTTARGET").unwrap_or_default();
        if target.is_empty() {
            return;
        }
        let argument = value(posted, "__EVENTARGUMENT").unwrap_or_default();
        let Some(event) = self.events.iter().find(|e| e.target == target && e.argument == argument) else {
            checked.breaches.push(Breach::UnknownEvent(target.to_owned()));
            return;
        };
        if let Does::ShowSiteOf(name) = &event.does
            && let Some(Field { rule: Rule::OneOf(values), .. }) = self.fields.iter().find(|field| field.name == *name)
        {
            checked.chosen = value(posted, name).and_then(|chosen| values.iter().position(|value| value == chosen));
        }
        checked.does = Some(event.does.clone());
    }
}

impl Field {
    fn breach(&self, posted: &[(String, String)]) -> Option<Breach> {
        let mut values = posted.iter().filter(|(name, _)| *name == self.name).map(|(_, value)| value);
        let Some(value) = values.next() else {
            return Some(Breach::Missing(self.name.clone()));
        };
        let is_good = match &self.rule {
            Rule::Same(digest) => same_digest(value) == *digest,
            Rule::OneOf(known) => known.contains(value),
            Rule::Free => true,
        };
        (!is_good || values.next().is_some()).then(|| Breach::Altered(self.name.clone()))
    }
}

impl Submit {
    fn is_named(&self, posted: &str) -> bool {
        let plain = posted.strip_suffix(".x").or_else(|| posted.strip_suffix(".y")).unwrap_or(posted);
        plain == self.name || posted == self.name
    }
}

/// Scripts set these; a visitor may send them on a page that has none.
fn is_event_field(name: &str) -> bool {
    matches!(name, "__EVENTTARGET" | "__EVENTARGUMENT" | "__LASTFOCUS" | "__ASYNCPOST")
}

/// The first value of a posted field.
pub(super) fn value<'a>(posted: &'a [(String, String)], name: &str) -> Option<&'a str> {
    posted.iter().find(|(posted, _)| posted == name).map(|(_, value)| value.as_str())
}

/// A body of `application/x-www-form-urlencoded`, its octets read in the page's charset.
pub(super) fn parse_posted(body: &[u8], encoding: &'static encoding_rs::Encoding) -> Vec<(String, String)> {
    let decode = |part: &[u8]| {
        let spaced: Vec<u8> = part.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
        let octets: Vec<u8> = percent_encoding::percent_decode(&spaced).collect();
        encoding.decode_without_bom_handling(&octets).0.into_owned()
    };
    let pair = |pair: &[u8]| {
        let at = pair.iter().position(|&byte| byte == b'=');
        let (name, value) = at.map_or((pair, &[][..]), |at| (&pair[..at], &pair[at + 1..]));
        (decode(name), decode(value))
    };
    body.split(|&byte| byte == b'&').filter(|part| !part.is_empty()).map(pair).collect()
}
