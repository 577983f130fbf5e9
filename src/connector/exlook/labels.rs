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
    let folded: Vec<char> =
        text.nfkc().filter(|c| !c.is_whitespace() && !is_invisible(*c)).flat_map(char::to_lowercase).collect();
    let mut out = String::with_capacity(folded.len() * 3);
    for (at, &c) in folded.iter().enumerate() {
        // 「サーバ」 is 「サーバー」: the mark is dropped where its word ends, so where no katakana follows.
        let ends_word = c == 'ー' && !folded.get(at + 1).copied().is_some_and(is_katakana);
        if !(ends_word && at > 0 && is_katakana(folded[at - 1])) {
            out.push(c);
        }
    }
    out
}

/// What a label is compared by: its [`key`] without the punctuation around it (a colon after it, a mark before it).
#[must_use]
pub fn label_key(text: &str) -> String {
    // The punctuation goes first: a long-vowel mark before a colon ends its word.
    let key = key(text);
    key.trim_matches(|c: char| !c.is_alphanumeric()).to_owned()
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
