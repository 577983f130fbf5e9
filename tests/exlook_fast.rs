//! The short way through a page and the full parser: wherever the short way answers, it answers the same, node by node and
//! in all that the connector makes of it. And it does answer on regular pages.
//!
//! `PROPTEST_CASES` makes it look longer.
#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "common/tool_pages.rs"]
mod tool_pages;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::LazyLock;

use kigen::connector::exlook::dom::{Dom, unified};
use kigen::connector::exlook::fast::Irregular;
use kigen::connector::exlook::labels::{Words, any_key, key};
use kigen::connector::exlook::pages::Page;
use kigen::connector::exlook::{charset, fast, tree};
use kigen::demo::admin_tool::{
    Charset, Controls, Fault, Lettering, LogOff, LogonButton, LogonLook, SiteList, Variant, WorldCustomer, WorldSite,
    drawn,
};
use kigen::domain::layout::Layout;
use kigen::domain::site::{AuthMethod, ServerType};
use proptest::prelude::*;
use proptest::sample::Index;

fn words() -> &'static Words {
    static WORDS: LazyLock<Words> = LazyLock::new(tool_pages::words);
    &WORDS
}

/// Every page the simulated tool draws, in all its looks, as text; and the same with another fault in its content.
fn tool_pages() -> Vec<String> {
    let sites = |n: usize| {
        let names = ["本社", "大阪 支社", "A&B \"営業\" <第二>'課'"];
        let site = |n: usize| WorldSite::new(names[n], ServerType::ALL[n % 2], AuthMethod::ALL[n % 3]);
        (0..n).map(site).collect::<Vec<_>>()
    };
    let faults = [
        None,
        Some(Fault::LabelMissing),
        Some(Fault::TabMissing),
        Some(Fault::UnknownServerType),
        Some(Fault::DisagreeingControls),
        Some(Fault::ImpossiblePair),
    ];
    let buttons = [LogonButton::Submit, LogonButton::Button, LogonButton::Image];
    let mut all = Vec::new();
    for (n, variant) in Variant::ALL.into_iter().enumerate() {
        let variant = Variant { view_state_kib: [0, 1, 2][n % 3], ..variant };
        let mut customer = WorldCustomer::new("C0001", sites(1 + n % 3)).with_variant(variant);
        if let Some(fault) = faults[(n / 3) % faults.len()] {
            customer = customer.with_fault(fault);
        }
        let look = LogonLook { charset: Charset::Utf8Header, button: buttons[n % 3], news: n % 2 == 0 };
        for page in drawn(&customer, look, n as u64) {
            all.push(unified(charset::decode(&page.body, Some(page.content_type)).0).into_owned());
        }
    }
    all
}

static PAGES: LazyLock<Vec<String>> = LazyLock::new(tool_pages);

fn a_page(at: &Index) -> &'static str {
    &PAGES[at.index(PAGES.len())]
}

fn one(at: &Index, all: &[&'static str]) -> &'static str {
    all[at.index(all.len())]
}

/// An order of attributes means nothing.
fn sorted(mut dom: Dom<'_>) -> Dom<'_> {
    dom.nodes.iter_mut().for_each(|node| node.attributes.sort());
    dom
}

/// A page with what has no order put into one.
fn shown(mut page: Page) -> (String, BTreeSet<String>) {
    let saves = page.saves.drain().collect();
    page.irregular = None;
    (format!("{page:#?}"), saves)
}

/// Whether the short way answered; if it did, the answer is the full parser's.
fn compare(text: &str) -> Result<bool, TestCaseError> {
    let Ok(short) = fast::parse(text) else { return Ok(false) };
    let full = tree::parse(text).expect("it is small");
    let (short, full) = (sorted(short), sorted(full));
    if short != full {
        let different = short.nodes.iter().zip(&full.nodes).find(|(s, f)| s != f);
        let counts = (short.nodes.len(), full.nodes.len());
        prop_assert!(false, "{text}\nnodes {counts:?}, first other (short, full): {different:#?}");
    }
    let of = |dom| shown(Page::of(dom, encoding_rs::UTF_8, words(), None));
    prop_assert_eq!(of(short), of(full));
    Ok(true)
}

#[test]
fn the_short_way_reads_every_look_of_the_tool() {
    assert_eq!(PAGES.len(), Variant::ALL.len() * 7);
    for page in PAGES.iter() {
        if let Err(Irregular(why)) = fast::parse(page) {
            panic!("{why}: {page}");
        }
        assert!(compare(page).unwrap());
    }
}

#[test]
fn a_page_says_which_way_it_was_read() {
    let html = "<!DOCTYPE html><html><head><title>x</title></head><body><p>y</p></body></html>";
    let read = |html: &str| Page::parse(html.as_bytes(), None, words()).unwrap().irregular;
    assert_eq!(read(html), None);
    assert_eq!(read(&html.replace("</p>", "")), Some(Irregular("an end tag out of place")));
}

#[test]
fn a_layout_is_what_all_customers_of_a_version_share() {
    let customer = || {
        let site = WorldSite::new("本社", ServerType::ExchangeOnline, AuthMethod::Basic);
        WorldCustomer::new("C0001", vec![site])
    };
    let layout = |customer: &WorldCustomer| {
        let look = LogonLook { charset: Charset::Utf8Header, button: LogonButton::Submit, news: false };
        let page = drawn(customer, look, 1).pop().unwrap();
        Page::parse(&page.body, Some(page.content_type), words()).unwrap().layout.unwrap()
    };
    for controls in Controls::ALL {
        let plain = customer().with_variant(Variant { controls, ..Variant::PLAIN });
        let base = layout(&plain);
        let mut same: Vec<(String, WorldCustomer)> = Vec::new();
        for lettering in Lettering::ALL {
            let variant = Variant { lettering, ..plain.variant };
            same.push((format!("{lettering:?}"), plain.clone().with_variant(variant)));
        }
        for sites in SiteList::ALL {
            let mut other = plain.clone().with_variant(Variant { sites, ..plain.variant });
            other.name = "株式会社 別".to_owned();
            let more = [ServerType::OnPremises, ServerType::ExchangeOnline];
            other
                .sites
                .extend(more.map(|server| WorldSite::new(&format!("支社 {server:?}"), server, AuthMethod::OAuth)));
            same.push((format!("{sites:?} of other sites"), other));
        }
        for charset in [Charset::SjisMeta, Charset::Utf8Bom] {
            let variant = Variant { charset, view_state_kib: 3, log_off: LogOff::Missing, ..plain.variant };
            same.push((format!("{charset:?}"), plain.clone().with_variant(variant)));
        }
        for (what, customer) in same {
            let other = layout(&customer);
            let parts = |l: &Layout| l.parts().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(parts(&other), parts(&base), "{controls:?}, {what}");
        }
        assert_ne!(layout(&plain.clone().with_fault(Fault::LabelMissing)), base, "{controls:?}: another label");
        let next = Controls::ALL.into_iter().cycle().skip_while(|c| *c != controls).nth(1).unwrap();
        let redrawn = plain.clone().with_variant(Variant { controls: next, ..plain.variant });
        let alike = matches!((controls, next), (Controls::SpanBesideTh, Controls::TdBesideTd));
        let alike = alike || matches!((controls, next), (Controls::TdBesideTd, Controls::DtDd));
        let alike =
            alike || matches!((controls, next), (Controls::RadioTable, Controls::RadioFlow | Controls::RadioWrapped));
        let alike = alike || matches!((controls, next), (Controls::RadioFlow, Controls::RadioWrapped));
        assert_eq!(layout(&redrawn) == base, alike, "{controls:?} and {next:?}");
    }
    assert_eq!(
        layout(&customer()).parts().collect::<Vec<_>>(),
        [
            "choice exchangeonlineに接続する",
            "choice exchangeサーバに接続する",
            "choice oauth認証(office365の場合)",
            "choice 基本認証(office365の場合)",
            "choice 基本認証(オンプレミスの場合)",
            "label exchangeサーバの種類",
            "label exchangeサーバの認証方式",
            "label exchange設定",
            "list ctl#$Main$AuthMethod",
            "list ctl#$Main$ServerType",
            "tab exlookサイト設定",
            "tab お客様情報",
            "tab 利用者設定",
            "tab 操作ログ",
        ]
    );
    let logon = "<html><body><form><input name=a><input type=password name=b></form></body></html>";
    assert_eq!(Page::parse(logon.as_bytes(), None, words()).unwrap().layout, None, "no settings, no layout");
}

#[test]
fn what_is_not_plain_is_left_to_the_full_parser() {
    let rows = [
        ("a cell that is not closed", "<table><tr><td>x</tr></table>"),
        ("a cell without a row", "<table><td>x</td></table>"),
        ("text in a table", "<table>x<tr><td>y</td></tr></table>"),
        ("a form in a table", "<table><form><tr><td>y</td></tr></form></table>"),
        ("a hidden field in a table", "<table><input type=\"hidden\"><tr><td>y</td></tr></table>"),
        ("a table in a row", "<table><tr><table></table></tr></table>"),
        ("a block in a paragraph", "<p><div>x</div></p>"),
        ("a table in a paragraph, which depends on the doctype", "<p><table></table></p>"),
        ("a form in a form", "<form><form></form></form>"),
        ("a link in a link", "<a><a>x</a></a>"),
        ("a button in a button", "<button><button>x</button></button>"),
        ("a heading in a heading", "<h1><h2>x</h2></h1>"),
        ("an item outside a list", "<li>x</li>"),
        ("an item in an item", "<ul><li><li>x</li></li></ul>"),
        ("a field in a list", "<select><input></select>"),
        ("an option in an option", "<select><option><option>x</option></option></select>"),
        ("ends crosswise", "<b><i>x</b></i>"),
        ("a span that seems to close itself", "<span />x"),
        ("an attribute twice", "<p class=\"a\" class=\"b\">x</p>"),
        ("an entity without an end", "<p>A&amp</p>"),
        ("an unknown entity", "<p>&unknown;</p>"),
        ("a control as an entity", "<p>&#128;</p>"),
        ("an & in a word", "<p>A&B</p>"),
        ("a < in a text", "<p>1 < 2</p>"),
        ("a comment that browsers end early", "<!--> -->"),
        ("a comment in a script", "<script><!-- </script> --></script>"),
        ("a template", "<template><p>x</p></template>"),
        ("foreign content", "<svg></svg>"),
        ("a frame", "<iframe></iframe>"),
        ("a second body", "<body class=\"x\">"),
        ("a null", "<p>\0</p>"),
    ];
    for (what, inner) in rows {
        let page = format!("<!DOCTYPE html><html><head></head><body>{inner}</body></html>");
        assert!(fast::parse(&page).is_err(), "{what}");
    }
    for page in ["", "x", "<html>", "<html><body></body></html>", "<!DOCTYPE html><html><head></head><body>"] {
        assert!(fast::parse(page).is_err(), "{page:?}: an element that only a parser would put there");
    }
}

#[test]
fn a_control_is_seen_wherever_it_stands_and_white_space_is_none() {
    // Pages are looked through in pieces of a power of two.
    let page = |at: usize, c: char| {
        let value = format!("{}{c}{}", "x".repeat(at), "x".repeat(5000 - at));
        format!("<html><head></head><body><input type=\"hidden\" value=\"{value}\"></body></html>")
    };
    for at in (0..5000).step_by(61).chain(900..1100) {
        for c in ['\0', '\u{1}', '\u{8}', '\u{b}', '\r', '\u{e}', '\u{1f}'] {
            assert_eq!(fast::parse(&page(at, c)), Err(Irregular("a control character")), "{c:?} at {at}");
        }
        for c in ['\t', '\n', '\u{c}', ' ', '\u{3000}'] {
            assert!(compare(&page(at, c)).unwrap(), "{c:?} at {at}");
        }
    }
}

/// What may stand anywhere in a page, well-formed or not.
const PIECES: [&str; 84] = [
    "<table><tr><td>x</td></tr></table>",
    "<table>\n<thead><tr><th>Exchange サーバーの種類</th></tr></thead>\n<tbody><tr><td>Exchange Online に接続する</td></tr></tbody></table>",
    "<table><caption>x</caption><colgroup><col><col></colgroup><tr><td></td></tr></table>",
    "<table><tr><td><table><tr><td>x</td></tr></table></td></tr></table>",
    "<tr><td>x</td></tr>",
    "<td>x</td>",
    "<tbody></tbody>",
    "<form action=\"x\"><input name=\"a\"></form>",
    "<p>x</p>",
    "<p>",
    "</p>",
    "<div><p>a</p>b</div>",
    "<ul><li>a</li>\n<li>b</li></ul>",
    "<dl><dt>Exchange サーバーの認証方式</dt><dd>基本認証 (Office 365の場合)</dd></dl>",
    "<li>x</li>",
    "<h3>Exchange設定</h3>",
    "<b>x</b>",
    "<b><i>x</i></b>",
    "<a href=\"x?a=1&b=2\">x</a>",
    "<a href='javascript:__doPostBack(&#39;x&#39;,&#39;&#39;)'>ExLookサイト設定</a>",
    "<button type=button disabled>x</button>",
    "<fieldset disabled><legend><input name=l></legend><input name=m></fieldset>",
    "<fieldset disabled=\"\"><p>x</p><legend>y</legend></fieldset>",
    "<label>x<input type=\"radio\" name=r checked></label>",
    "<label for=\"q\">Exchange サーバーの種類</label><input id=\"q\" value=\"v\">",
    "<select name=s><optgroup label=g disabled><option>a</option></optgroup><option selected>b</option></select>",
    "<select>\n<option value=\"1\">x</option>\n</select>",
    "<textarea name=t>\n a &amp; b <p> </textarea>",
    "<script>if (a < b) alert('x');</script>",
    "<script>document.write('<\\/script>')</script>",
    "<style>p > b { }</style>",
    "<noscript><p>x</p></noscript>",
    "<title>x</title>",
    "<meta name=x content=y>",
    "<link rel=\"x\">",
    "<base href=\"/x/\">",
    "<br>",
    "<br />",
    "<hr>",
    "<img alt=\"x\">",
    "<input form=\"aspnetForm\" name=o>",
    "<input type=hidden name=h value='OAuth認証 (Office 365の場合)'>",
    "<!-- x -->",
    "<!---->",
    "<!-- <b> - -- x -->",
    "<!--[if IE]><p><![endif]-->",
    "<![CDATA[x]]>",
    "<!x>",
    "<?x?>",
    "&amp;",
    "&nbsp;",
    "&#12469;",
    "&#x30b5;",
    "&#xd800;",
    "&hearts;",
    "&lt;b&gt;",
    "& ",
    "&",
    "<",
    ">",
    "</",
    "\n",
    "\t ",
    "\u{c}",
    "\0",
    "\"",
    "'",
    "=",
    "x",
    "サ",
    "<span",
    "</div>",
    "</td>",
    "</table>",
    "</form>",
    "</body>",
    "</html>",
    "<body>",
    "<head>",
    "<html lang=\"x\">",
    "</b>",
    "<nobr>x</nobr>",
    "<svg><p></svg>",
    "<template>x</template>",
];

#[derive(Debug, Clone)]
enum Change {
    Drop(Index),
    Double(Index),
    Swap(Index, Index),
    Insert(Index, Index),
    InsertAnywhere(Index, Index),
    Wrap(Index, Index, Index),
    Upper(Index),
    Cut(Index),
    Splice(Index, Index, Index),
    Flip(Index, char),
    Unquote(Index),
    Spread(Index),
    Reorder(Index),
}

fn change() -> impl Strategy<Value = Change> {
    let i = any::<Index>;
    prop_oneof![
        1 => i().prop_map(Change::Drop),
        1 => i().prop_map(Change::Double),
        2 => (i(), i()).prop_map(|(a, b)| Change::Swap(a, b)),
        8 => (i(), i()).prop_map(|(a, b)| Change::Insert(a, b)),
        2 => (i(), i()).prop_map(|(a, b)| Change::InsertAnywhere(a, b)),
        4 => (i(), i(), i()).prop_map(|(a, b, c)| Change::Wrap(a, b, c)),
        2 => i().prop_map(Change::Upper),
        1 => i().prop_map(Change::Cut),
        1 => (i(), i(), i()).prop_map(|(a, b, c)| Change::Splice(a, b, c)),
        2 => (i(), prop_oneof![Just(' '), Just('<'), Just('>'), Just('&'), Just('/'), Just('"'), Just('a'), any::<char>()])
            .prop_map(|(a, c)| Change::Flip(a, c)),
        2 => i().prop_map(Change::Unquote),
        2 => i().prop_map(Change::Spread),
        3 => i().prop_map(Change::Reorder),
    ]
}

const WRAPS: [&str; 16] = [
    "div", "b", "span", "p", "a", "td", "table", "form", "ul", "li", "label", "button", "select", "h2", "font",
    "center",
];

/// A page as its tags and the texts between them.
fn parts(page: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut rest = page;
    while !rest.is_empty() {
        let end = match rest.strip_prefix('<') {
            Some(tag) => tag.find('>').map_or(rest.len(), |at| at + 2),
            None => rest.find('<').unwrap_or(rest.len()),
        };
        parts.push(rest[..end].to_owned());
        rest = &rest[end..];
    }
    parts
}

fn changed(page: &str, changes: &[Change]) -> String {
    let mut parts = parts(page);
    let at = |index: &Index, parts: &Vec<String>| index.index(parts.len().max(1)).min(parts.len().saturating_sub(1));
    for change in changes {
        if parts.is_empty() {
            break;
        }
        match change {
            Change::Drop(i) => drop(parts.remove(at(i, &parts))),
            Change::Double(i) => parts.insert(at(i, &parts), parts[at(i, &parts)].clone()),
            Change::Swap(i, j) => {
                let (i, j) = (at(i, &parts), at(j, &parts));
                parts.swap(i, j);
            }
            Change::Insert(i, piece) => parts.insert(at(i, &parts), one(piece, &PIECES).to_owned()),
            Change::InsertAnywhere(i, piece) => {
                let part = at(i, &parts);
                let part = &mut parts[part];
                let places: Vec<usize> = part.char_indices().map(|(at, _)| at).collect();
                part.insert_str(places.get(i.index(places.len().max(1))).copied().unwrap_or(0), one(piece, &PIECES));
            }
            Change::Wrap(i, j, name) => {
                let (i, j) = (at(i, &parts), at(j, &parts));
                // Near each other, so that it is often well-formed.
                let (from, to) = (i.min(j), i.max(j).min(i.min(j) + 12));
                let name = one(name, &WRAPS);
                parts.insert(to + 1, format!("</{name}>"));
                parts.insert(from, format!("<{name}>"));
            }
            Change::Upper(i) => {
                let part = at(i, &parts);
                parts[part] = parts[part].to_uppercase();
            }
            Change::Cut(i) => parts.truncate(at(i, &parts).max(parts.len() / 2)),
            Change::Splice(i, other, from) => {
                let other = self::parts(a_page(other));
                let from = from.index(other.len());
                let part = at(i, &parts);
                parts.splice(part..part, other[from..(from + 8).min(other.len())].iter().cloned());
            }
            Change::Flip(i, c) => {
                let part = at(i, &parts);
                let chars: Vec<char> = parts[part].chars().collect();
                let place = i.index(chars.len().max(1));
                parts[part] = chars.iter().enumerate().map(|(n, old)| if n == place { c } else { old }).collect();
            }
            Change::Unquote(i) => {
                let part = at(i, &parts);
                parts[part] = parts[part].replace(['"'], if i.index(3) == 0 { "'" } else { "" });
            }
            Change::Spread(i) => {
                let part = at(i, &parts);
                parts[part] = parts[part].replace(' ', "\n  ").replace('=', " = ").replace('>', "\t>");
            }
            Change::Reorder(i) => {
                let part = at(i, &parts);
                let mut words: Vec<&str> = parts[part].split("\" ").collect();
                if words.len() > 2 {
                    words[1..].rotate_left(1);
                }
                parts[part] = words.join("\" ");
            }
        }
    }
    parts.concat()
}

/// The short way keeps to itself what it cannot know, so a tree of any elements that close each other is a harder
/// question than a broken page: there it may answer.
fn nested() -> impl Strategy<Value = String> {
    const NAMES: [&str; 52] = [
        "table", "tbody", "tr", "td", "th", "thead", "caption", "colgroup", "div", "p", "span", "b", "i", "a", "font",
        "label", "form", "fieldset", "legend", "ul", "ol", "li", "dl", "dt", "dd", "h1", "h2", "button", "select",
        "option", "optgroup", "center", "section", "output", "map", "nobr", "object", "pre", "ruby", "rt", "svg",
        "math", "details", "summary", "menu", "dialog", "search", "u", "code", "iframe", "noscript", "template",
    ];
    const LEAVES: [&str; 22] = [
        "x",
        " ",
        "\n",
        "&amp;",
        "&nbsp;",
        "<br>",
        "<hr>",
        "<input name=\"i\">",
        "<img>",
        "<col>",
        "<!-- c -->",
        "<input type=\"hidden\" name=\"h\">",
        "<textarea>\n\nx</textarea>",
        "<script>x</script>",
        "<style>x</style>",
        "<meta>",
        "<title>t</title>",
        "<wbr>",
        "サーバー",
        "<area>",
        "<embed>",
        "<base>",
    ];
    let leaf = any::<Index>().prop_map(|i| one(&i, &LEAVES).to_owned());
    let inside = leaf.prop_recursive(7, 40, 4, |inner| {
        (any::<Index>(), proptest::collection::vec(inner, 0..4)).prop_map(|(name, inner)| {
            let name = one(&name, &NAMES);
            format!("<{name}>{}</{name}>", inner.concat())
        })
    });
    (proptest::collection::vec(inside, 0..5), any::<Index>(), any::<Index>()).prop_map(|(body, before, after)| {
        const BEFORE: [&str; 5] = [
            "<!DOCTYPE html>\n<html>\n<head>\n<title>x</title>\n</head>\n<body>",
            "<html><head></head><body>",
            " <!-- x --> <!doctype html public \"x\"> <!-- y --> <html lang=ja> <!-- z --> <head> <!-- z --> </head> <!-- z --> <body class=\"x\"> ",
            "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\"><HTML><HEAD></HEAD><BODY>",
            "<html><head><meta charset=\"utf-8\"><noscript><p></noscript><style>x</style></head><body>x",
        ];
        const AFTER: [&str; 3] = ["</body></html>", "\n</body>\n</html>\n", "x\n</BODY></HTML>"];
        format!("{}{}{}", one(&before, &BEFORE), body.concat(), one(&after, &AFTER))
    })
}

/// A tree in which every element is where it may be: there the short way must answer.
fn proper() -> impl Strategy<Value = String> {
    let text =
        prop_oneof![Just("x"), Just("サーバー"), Just("&lt;"), Just(" "), Just("<br />"), Just("<input name=\"i\" />")];
    let inline = text.prop_map(str::to_owned).prop_recursive(3, 12, 3, |inner| {
        (prop_oneof![Just("span"), Just("b"), Just("label"), Just("i")], proptest::collection::vec(inner, 0..3))
            .prop_map(|(name, inner)| format!("<{name}>{}</{name}>", inner.concat()))
    });
    let wrap =
        |open: &'static str, close: &'static str| move |inner: Vec<String>| format!("{open}{}{close}", inner.concat());
    inline.prop_recursive(5, 60, 4, move |inner| {
        let some = || proptest::collection::vec(inner.clone(), 0..4);
        prop_oneof![
            some().prop_map(wrap("<div>", "</div>")),
            some().prop_map(wrap("<table>\n<tr><th>x</th><td>", "</td></tr>\n</table>")),
            some().prop_map(wrap("<table><thead><tr><th>", "</th></tr></thead><tbody></tbody></table>")),
            some().prop_map(wrap("<ul>\n<li>", "</li>\n<li>y</li></ul>")),
            some().prop_map(wrap("<dl><dt>x</dt><dd>", "</dd></dl>")),
            some().prop_map(wrap("<fieldset><legend>x</legend>", "</fieldset>")),
        ]
    })
}

/// So many cases, unless the environment wants more.
fn cases(usual: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { cases: asked.unwrap_or(usual), max_shrink_iters: 5000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn changed_pages_are_read_the_same(page in any::<Index>(), changes in proptest::collection::vec(change(), 1..5)) {
        compare(&changed(a_page(&page), &changes))?;
    }

    #[test]
    fn regular_pages_are_read_the_short_way(body in proptest::collection::vec(proper(), 0..4)) {
        let page = format!("<html><head></head><body>{}</body></html>", body.concat());
        prop_assert!(compare(&page)?, "{}: {:?}", page, fast::parse(&page).err());
    }
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn elements_in_each_other_are_read_the_same(page in nested()) {
        compare(&page)?;
    }

    #[test]
    fn attributes_are_read_the_same(inner in "[ a-cA-C=\"'/>&;#0-9\\n]{0,24}", quoted in "[a-c&;#=x0-9<> ]{0,12}") {
        compare(&format!("<html><head></head><body><p {inner}>x</p></body></html>"))?;
        compare(&format!("<html><head></head><body><p a=\"{quoted}\" {inner}>{}</p></body></html>", quoted.replace('<', "")))?;
    }

    #[test]
    fn the_short_way_to_a_key_is_the_long_way(text in "[ -~ぁ-んァ-ヶー\u{3000}-\u{3020}、。Ａ-ｚ！-～ｱ-ﾝﾞﾟ漢字\u{a0}\u{3099}\u{ad}\u{200b}A-Zß\u{1}\u{1f}]{0,24}") {
        prop_assert_eq!(key(&text), any_key(&text));
    }

    #[test]
    fn line_ends_are_unified(text in "[\\r\\na]{0,12}") {
        prop_assert_eq!(unified(Cow::Borrowed(&text)), text.replace("\r\n", "\n").replace('\r', "\n"));
    }
}

#[test]
fn the_short_way_survives_many_changes() {
    // Were it to give up at every change, the comparisons above would compare nothing.
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let cases = (any::<Index>(), proptest::collection::vec(change(), 1..3));
    let mut answered = 0;
    for _ in 0..200 {
        let (page, changes) = cases.new_tree(&mut runner).unwrap().current();
        answered += usize::from(fast::parse(&changed(a_page(&page), &changes)).is_ok());
    }
    println!("pages: {answered} of 200");
    assert!((20..200).contains(&answered), "it answered {answered} of 200");
    let mut nest = 0;
    for _ in 0..1000 {
        nest += usize::from(fast::parse(&nested().new_tree(&mut runner).unwrap().current()).is_ok());
    }
    println!("trees: {nest} of 1000");
    assert!(nest > 50, "it answered {nest} of 1000");
}
