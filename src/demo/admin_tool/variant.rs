//! How a customer's pages look. The real markup is not published and changes without notice, so every way that WebForms
//! commonly draws these controls is here, and none is the right one.

/// The charset of a page, and how the page tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Charset {
    /// UTF-8, in the `Content-Type` header.
    Utf8Header,
    /// UTF-8, in a `meta` element.
    Utf8Meta,
    /// UTF-8, by a byte order mark.
    Utf8Bom,
    /// UTF-8, not told at all.
    Utf8Silent,
    /// Shift_JIS (windows-31j), in the `Content-Type` header.
    SjisHeader,
    /// Shift_JIS, in a `meta` element.
    SjisMeta,
    /// Shift_JIS, not told at all.
    SjisSilent,
}

/// Where the tab \[ExLookサイト設定\] is and what opens it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tabs {
    /// It is the first tab and open after the log-on.
    FirstAndOpen,
    /// It is the second tab and open after the log-on.
    SecondAndOpen,
    /// A link with `javascript:__doPostBack`.
    Link,
    /// The same, dressed as a button; it is no submit control.
    ButtonLike,
    /// A list item with `onclick`.
    ListItem,
    /// A link to another page of the tool.
    Href,
    /// All tabs' panels are in the page and a script shows one: nothing has to be opened.
    ClientSide,
}

/// How the customer's sites are listed beside \[ExLookサイト名\].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SiteList {
    /// A drop-down list with AutoPostBack whose values are numbers.
    Select,
    /// A drop-down list with AutoPostBack whose values are the sites' names: they come back in the page's charset.
    SelectByName,
    /// A radio-button list with AutoPostBack; as ASP.NET draws it, the checked one has no `onclick`.
    Radio,
    /// Links; the selected one has a class.
    LinksClass,
    /// Links; the selected one has `aria-current`.
    LinksAria,
    /// Links; the selected one is plain bold text.
    LinksBold,
    /// Plain text, for a customer with one site; with several it is [`SiteList::Select`].
    PlainText,
}

/// How the two settings are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Controls {
    /// A drop-down list beside a `th`.
    Select,
    /// A radio-button list in a table, `label for=`.
    RadioTable,
    /// Radio buttons in a row, `label for=`.
    RadioFlow,
    /// Radio buttons inside their labels.
    RadioWrapped,
    /// A `span` beside a `th`.
    SpanBesideTh,
    /// A `td` beside a `td`.
    TdBesideTd,
    /// `dt` and `dd`.
    DtDd,
    /// A `label` with a disabled drop-down list.
    LabelDisabledSelect,
    /// A hidden input with the text beside it.
    HiddenAndText,
}

/// How the labels are written; all mean the same after NFKC, without white space and long-vowel marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lettering {
    /// As in the guides.
    Plain,
    /// With 「：」 after it.
    FullWidthColon,
    /// With a space and a colon after it.
    Colon,
    /// Full-width letters and an ideographic space.
    FullWidth,
    /// `&nbsp;` for the space.
    Nbsp,
    /// A line break inside.
    LineBreak,
    /// No space at all.
    NoSpace,
    /// 「サーバ」 for 「サーバー」.
    ShortServer,
    /// Half-width katakana.
    HalfKana,
    /// A part of it in bold.
    Nested,
}

/// How the hidden fields come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hidden {
    /// `__VIEWSTATE`, `__VIEWSTATEGENERATOR`, `__EVENTVALIDATION`.
    Usual,
    /// The view state in pieces (`MaxPageStateFieldLength`): `__VIEWSTATEFIELDCOUNT`, `__VIEWSTATE`, `__VIEWSTATE1`, …
    Split,
    /// The usual ones, `__PREVIOUSPAGE`, `__LASTFOCUS` and the scroll position.
    Many,
}

/// How one logs off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LogOff {
    /// A link with `javascript:__doPostBack`.
    PostBack,
    /// A link to `logoff.aspx`.
    Href,
    /// The page does not offer it.
    Missing,
}

/// How all pages of one customer look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Variant {
    /// Charset.
    pub charset: Charset,
    /// Tabs.
    pub tabs: Tabs,
    /// List of sites.
    pub sites: SiteList,
    /// The two settings.
    pub controls: Controls,
    /// The labels.
    pub lettering: Lettering,
    /// The hidden fields.
    pub hidden: Hidden,
    /// The way out.
    pub log_off: LogOff,
    /// How large the view state is, in KiB: real pages reach 60 KB.
    pub view_state_kib: usize,
}

macro_rules! all {
    ($type:ident, $count:literal: $($value:ident),+) => {
        impl $type {
            /// Every value.
            pub const ALL: [Self; $count] = [$(Self::$value),+];
        }
    };
}

all!(Charset, 7: Utf8Header, Utf8Meta, Utf8Bom, Utf8Silent, SjisHeader, SjisMeta, SjisSilent);
all!(Tabs, 7: FirstAndOpen, Link, ButtonLike, ListItem, Href, ClientSide, SecondAndOpen);
all!(SiteList, 7: Select, Radio, LinksClass, SelectByName, LinksAria, PlainText, LinksBold);
all!(Controls, 9: Select, RadioTable, SpanBesideTh, RadioWrapped, TdBesideTd, DtDd, RadioFlow, LabelDisabledSelect, HiddenAndText);
all!(Lettering, 10: Plain, FullWidthColon, Nbsp, FullWidth, LineBreak, ShortServer, Colon, NoSpace, HalfKana, Nested);
all!(Hidden, 3: Usual, Split, Many);
all!(LogOff, 3: PostBack, Href, Missing);

impl Charset {
    /// The encoding of pages and of form posts.
    #[must_use]
    pub fn encoding(self) -> &'static encoding_rs::Encoding {
        match self {
            Self::Utf8Header | Self::Utf8Meta | Self::Utf8Bom | Self::Utf8Silent => encoding_rs::UTF_8,
            Self::SjisHeader | Self::SjisMeta | Self::SjisSilent => encoding_rs::SHIFT_JIS,
        }
    }
}

impl Variant {
    /// How many there are: enough that every control meets every lettering, and every charset every list and every tab.
    const COUNT: usize = 90;

    /// Looks that cover every value of every part, and the pairs that matter.
    pub const ALL: [Self; Self::COUNT] = {
        let mut all = [Self::numbered(0); Self::COUNT];
        let mut number = 1;
        while number < Self::COUNT {
            all[number] = Self::numbered(number);
            number += 1;
        }
        all
    };

    /// The look as the guides' words would have it: the plainest.
    pub const PLAIN: Self = Self::numbered(0);

    const fn numbered(number: usize) -> Self {
        // 9 and 10 have no common divisor, so 90 numbers are all their pairs; likewise a square of 7 by 7 for the rest.
        let (row, column) = (number % 7, (number / 7) % 7);
        Self {
            charset: Charset::ALL[row],
            tabs: Tabs::ALL[column],
            sites: SiteList::ALL[(row + column) % 7],
            controls: Controls::ALL[number % 9],
            lettering: Lettering::ALL[number % 10],
            hidden: Hidden::ALL[(number / 3) % 3],
            log_off: LogOff::ALL[(number / 4) % 3],
            view_state_kib: [2, 12, 0, 45][number % 4],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::hash::Hash;

    use super::*;

    fn pairs<A: Ord + Hash, B: Ord + Hash>(of: impl Fn(&Variant) -> (A, B)) -> usize {
        Variant::ALL.iter().map(of).collect::<BTreeSet<_>>().len()
    }

    #[test]
    fn the_pairs_that_matter_all_occur() {
        assert_eq!(pairs(|v| (v.controls, v.lettering)), Controls::ALL.len() * Lettering::ALL.len());
        assert_eq!(pairs(|v| (v.charset, v.tabs)), Charset::ALL.len() * Tabs::ALL.len());
        assert_eq!(pairs(|v| (v.charset, v.sites)), Charset::ALL.len() * SiteList::ALL.len());
        assert_eq!(pairs(|v| (v.tabs, v.sites)), Tabs::ALL.len() * SiteList::ALL.len());
        assert_eq!(pairs(|v| (v.hidden, v.log_off)), Hidden::ALL.len() * LogOff::ALL.len());
    }
}
