//! Pages that nobody drew: whatever comes, an answer within bounds.

use kigen::connector::exlook::dom::TooComplex;
use kigen::connector::exlook::pages::Page;
use kigen::connector::exlook::said::said;
use kigen::connector::exlook::script;
use proptest::prelude::*;

use super::page;
use super::tool_pages::words;

#[test]
fn hostile_nesting_costs_neither_stack_nor_hours() {
    // The parser is quadratic in the depth of some elements, and slow without optimisation: fewer of those.
    for (tag, depth) in
        [("<table><tr><td>", 10_000), ("<b>", 10_000), ("<p><b>", 5_000), ("<div>", 2_000), ("<ul><li>", 1_500)]
    {
        let html = format!("{}Exchange サーバーの種類", tag.repeat(depth));
        let parsed = std::thread::Builder::new()
            .stack_size(512 * 1024)
            .spawn(move || Page::parse(html.as_bytes(), None, &words()).map(|page| page.settings.is_err()))
            .unwrap()
            .join()
            .expect("no overflow");
        assert!(matches!(parsed, Ok(true) | Err(TooComplex)), "{tag}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_bytes_make_a_page_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000), header in ".{0,40}") {
        let _ = Page::parse(&bytes, Some(&header), &words());
    }

    #[test]
    fn no_soup_makes_a_page_panic(pieces in proptest::collection::vec(0usize..SOUP.len(), 0..120)) {
        let html: String = pieces.iter().map(|&i| SOUP[i]).collect();
        let page = page(&html);
        for form in &page.forms {
            let _ = form.fields();
            let _ = form.postback("x", "");
        }
        let _ = said(&page, &[]);
    }

    #[test]
    fn no_script_makes_it_panic(script in ".{0,200}") {
        let _ = script::postback(&format!("__doPostBack({script}"));
        let _ = script::postback(&format!("setTimeout('{script}"));
        let _ = script::alerts(&format!("alert('{script}"));
    }
}

const SOUP: [&str; 48] = [
    "<table>",
    "</table>",
    "<tr>",
    "<td>",
    "<th>",
    "</td>",
    "</tr>",
    "<dl>",
    "<dt>",
    "<dd>",
    "<form>",
    "</form>",
    "<label>",
    "<label for=a>",
    "</label>",
    "<input>",
    "<input id=a type=radio name=r>",
    "<input type=radio name=r checked>x",
    "<select name=s>",
    "<option selected>",
    "<option>",
    "</select>",
    "<fieldset disabled>",
    "<legend>",
    "</fieldset>",
    "Exchange サーバーの種類",
    "Exchange サーバーの認証方式",
    "ExLookサイト名",
    "ExLookサイト設定",
    "Exchange設定",
    "Exchange Online に接続する",
    "<a href=\"javascript:__doPostBack('x','')\">",
    "</a>",
    "<input type=hidden value='Exchange Online に接続する'>",
    "<script>",
    "</script>",
    "<!--",
    "-->",
    "<template>",
    "</template>",
    "<button>",
    "</button>",
    "<caption>",
    "<thead>",
    "<tbody>",
    "<br>",
    "：",
    "<input type=password name=p>",
];
