//! When two texts on a screen are the same text.
//!
//! The tool's labels vary in width and spacing from page to page; what stays is what a person reads. Two texts are the same
//! when their keys are: after NFKC, without white space and the long-vowel mark at a word's end, in lower case.

use unicode_normalization::UnicodeNormalization;

use crate::config::ExlookConfig;
use crate::domain::site::{AuthMethod, ServerType};

/// What a text is compared by.
#[must_use]
pub fn key(text: &str) -> String {
    plain_key(text).unwrap_or_else(|| any_key(text))
}

/// The [`key`] of any text, by its definition.
#[must_use]
pub fn any_key(text: &str) -> String {
    let mut key = Key::with_capacity(text.len());
    text.nfkc()
        .filter(|c| !c.is_whitespace() && !is_invisible(*c))
        .flat_map(char::to_lowercase)
        .for_each(|c| key.push(c));
    key.done()
}

/// The same for a text of characters of which each is its own normal form, or has a simple one, whatever stands beside
/// it: nearly all texts of nearly all pages, at a tenth of the cost.
fn plain_key(text: &str) -> Option<String> {
    let mut key = Key::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t'..='\r' | ' ' | '\u{a0}' | '\u{3000}' => {}
            '\0'..='\u{7f}' => key.push(c.to_ascii_lowercase()),
            // Hiragana, katakana and the long-vowel mark, 、。々「」, the unified ideographs.
            '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | 'ー' | '\u{4e00}'..='\u{9fff}' => key.push(c),
            '、' | '。' | '々' | '「'..='】' | '・' => key.push(c),
            // The full-width forms of ASCII.
            '！'..='～' => key.push(char::from_u32(u32::from(c) - 0xfee0)?.to_ascii_lowercase()),
            _ => return None,
        }
    }
    Some(key.done())
}

/// A key in the making: 「サーバ」 is 「サーバー」, so the long-vowel mark is dropped where its word ends, which is where no
/// katakana follows.
struct Key {
    out: String,
    last: char,
    mark: bool,
}

impl Key {
    fn with_capacity(bytes: usize) -> Self {
        Self { out: String::with_capacity(bytes), last: ' ', mark: false }
    }

    fn push(&mut self, c: char) {
        if std::mem::take(&mut self.mark) && is_katakana(c) {
            self.out.push('ー');
        }
        if c == 'ー' && is_katakana(self.last) {
            self.mark = true;
        } else {
            self.out.push(c);
        }
        self.last = c;
    }

    fn done(self) -> String {
        self.out
    }
}

/// What a label is compared by: its [`key`] without the punctuation around it (a colon after it, a mark before it).
#[must_use]
pub fn label_key(text: &str) -> String {
    // The punctuation goes first: a long-vowel mark before a colon ends its word.
    let mut key = key(text);
    let inner = |c: char| c.is_alphanumeric();
    key.truncate(key.trim_end_matches(|c| !inner(c)).len());
    let marks = key.len() - key.trim_start_matches(|c| !inner(c)).len();
    key.drain(..marks);
    key
}

/// A text as it is shown to people: trimmed, white space collapsed, control characters gone, at most 200 characters.
#[must_use]
pub fn shown(text: &str) -> String {
    collapsed(text).chars().take(200).collect()
}

/// A text with its white space collapsed and without control and invisible characters.
#[must_use]
pub fn collapsed(text: &str) -> String {
    let mut out = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.extend(word.chars().filter(|c| !is_invisible(*c)));
    }
    out
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}' | '\u{feff}')
}

fn is_katakana(c: char) -> bool {
    matches!(c, '\u{30a1}'..='\u{30fa}' | 'ー')
}

/// The labels and known texts of the screens, ready to compare.
#[derive(Debug, Clone)]
pub struct Words {
    /// 「ExLookサイト設定」
    pub tab: Label,
    /// 「ExLookサイト名」
    pub site: Label,
    /// 「Exchange設定」
    pub group: Label,
    /// 「Exchange サーバーの種類」
    pub server_type: Label,
    /// 「Exchange サーバーの認証方式」
    pub auth_method: Label,
    /// 「設定内容を保存」
    pub save: Label,
    servers: Vec<(String, ServerType)>,
    methods: Vec<(String, AuthMethod)>,
}

/// One label: as configured, and what it is compared by.
#[derive(Debug, Clone)]
pub struct Label {
    /// As configured; named in details.
    pub text: String,
    /// Its [`label_key`].
    pub key: String,
}

impl Label {
    fn new(text: &str) -> Self {
        Self { text: text.to_owned(), key: label_key(text) }
    }
}

impl Words {
    /// Takes the labels and the known texts from the configuration.
    #[must_use]
    pub fn new(config: &ExlookConfig) -> Self {
        let labels = &config.labels;
        let mut servers = Vec::new();
        for (value, texts) in &config.server_types {
            servers.extend(texts.iter().map(|text| (key(text), *value)));
        }
        let mut methods = Vec::new();
        for (value, texts) in &config.auth_methods {
            methods.extend(texts.iter().map(|text| (key(text), *value)));
        }
        Self {
            tab: Label::new(&labels.tab),
            site: Label::new(&labels.site),
            group: Label::new(&labels.group),
            server_type: Label::new(&labels.server_type),
            auth_method: Label::new(&labels.auth_method),
            save: Label::new(&labels.save),
            servers,
            methods,
        }
    }

    /// What a text beside 「Exchange サーバーの種類」 means; `None`: we do not know it.
    #[must_use]
    pub fn server(&self, text: &str) -> Option<ServerType> {
        meaning(&self.servers, text)
    }

    /// What a text beside 「Exchange サーバーの認証方式」 means; `None`: we do not know it.
    #[must_use]
    pub fn method(&self, text: &str) -> Option<AuthMethod> {
        meaning(&self.methods, text)
    }

    /// Every label, to know where one value ends and the next label begins.
    #[must_use]
    pub fn all(&self) -> [&Label; 6] {
        [&self.tab, &self.site, &self.group, &self.server_type, &self.auth_method, &self.save]
    }
}

/// A text listed under two meanings has none.
fn meaning<T: Copy + PartialEq>(known: &[(String, T)], text: &str) -> Option<T> {
    let key = key(text);
    let mut found = known.iter().filter(|(k, _)| *k == key).map(|(_, value)| *value);
    let first = found.next()?;
    found.all(|other| other == first).then_some(first)
}
