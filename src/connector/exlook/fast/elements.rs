//! The elements that the short way knows, by what the browsers' algorithm does with them.
//!
//! What is not here (templates, frames, foreign content, ruby, …) is for the full parser.

/// What an element is to the algorithm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Is {
    Html,
    Head,
    Body,
    /// Void, in the head or the body.
    Meta,
    Title,
    /// Its inside is neither markup nor has entities.
    Raw,
    /// Closes a paragraph.
    Block,
    /// A block of items.
    List,
    Item,
    /// `dl`
    Terms,
    Term,
    Heading,
    Paragraph,
    /// `hr`: void, closes a paragraph.
    Rule,
    Form,
    Button,
    Link,
    Inline,
    Void,
    Select,
    Group,
    Choice,
    /// `textarea`
    Area,
    Table,
    Caption,
    Columns,
    Column,
    Section,
    Row,
    Cell,
}

impl Is {
    /// Whether it has no inside and no end tag.
    pub fn is_void(self) -> bool {
        matches!(self, Self::Meta | Self::Rule | Self::Void | Self::Column)
    }

    /// Whether elements that stand in the body's flow may stand in it.
    pub fn holds_elements(self) -> bool {
        self.holds_text() && !matches!(self, Self::Select | Self::Group | Self::Choice)
    }

    /// Whether text may stand in it.
    pub fn holds_text(self) -> bool {
        !matches!(self, Self::Html | Self::Head | Self::Table | Self::Columns | Self::Section | Self::Row)
    }
}

/// An element by its name, in whatever case.
pub fn element(name: &str) -> Option<(&'static str, Is)> {
    if let Some(found) = known(name) {
        return Some(found);
    }
    let mut lower = [0; 10];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name.as_bytes());
    lower.make_ascii_lowercase();
    known(std::str::from_utf8(lower).ok()?)
}

macro_rules! elements {
    ($($is:ident: $($name:literal)+;)+) => {
        fn known(name: &str) -> Option<(&'static str, Is)> {
            Some(match name {
                $($($name => ($name, Is::$is),)+)+
                _ => return None,
            })
        }
    };
}

// The common ones first: they are looked for in this order.
elements! {
    Cell: "td" "th";
    Row: "tr";
    Void: "input" "br" "img";
    Link: "a";
    Inline: "span" "label";
    Choice: "option";
    Block: "div";
    Item: "li";
    Paragraph: "p";
    Table: "table";
    Select: "select";
    Inline: "b" "i" "u" "s" "em" "strong" "font" "small" "big" "tt" "code" "strike" "abbr" "acronym" "cite" "q" "sub"
        "sup" "var" "kbd" "samp" "mark" "bdo" "bdi" "dfn" "ins" "del" "time" "data" "legend" "map" "output" "meter"
        "progress";
    Block: "fieldset" "center" "address" "article" "aside" "blockquote" "details" "dialog" "figcaption" "figure"
        "footer" "header" "hgroup" "main" "nav" "section" "summary";
    Void: "wbr" "area" "embed";
    List: "ul" "ol" "dir" "menu";
    Section: "tbody" "thead" "tfoot";
    Terms: "dl";
    Term: "dt" "dd";
    Heading: "h1" "h2" "h3" "h4" "h5" "h6";
    Rule: "hr";
    Form: "form";
    Button: "button";
    Group: "optgroup";
    Area: "textarea";
    Caption: "caption";
    Columns: "colgroup";
    Column: "col";
    Raw: "script" "style" "noscript";
    Meta: "meta" "link" "base";
    Title: "title";
    Html: "html";
    Head: "head";
    Body: "body";
}
