//! What an element does when a person clicks it, and what it says. Pure: pressing is [`super::session`]'s.

use percent_encoding::percent_decode_str;

use super::dom::Dom;
use super::labels::label_key;
use super::script;
use super::webforms::Form;

/// What a click does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Press {
    /// Posts a form back.
    PostBack {
        /// The form's place.
        form: usize,
        /// Target, argument, action.
        post: script::PostBack,
    },
    /// Goes to another page.
    Get(String),
    /// Presses a submit control: kigen does not, except to log on.
    Submit {
        /// The form's place.
        form: usize,
        /// The control's place in the form.
        control: usize,
    },
}

/// What a click on an element does, by its own attributes.
#[must_use]
pub fn press_of(dom: &Dom, forms: &[Form], index: usize) -> Option<Press> {
    let node = &dom.nodes[index];
    if node.name.is_empty() || matches!(&*node.name, "form" | "body" | "select" | "link" | "base") {
        return None;
    }
    if let Some((form, at)) = submit_at(dom, forms, index) {
        // Its own submission is not ours to send; a postback that it makes instead is.
        let instead = node.attr("onclick").filter(|s| s.contains("return false")).and_then(script::postback);
        return match instead {
            Some(post) if forms[form].controls[at].enabled => Some(Press::PostBack { form, post }),
            _ => Some(Press::Submit { form, control: at }),
        };
    }
    let href = node.attr("href").filter(|_| matches!(&*node.name, "a" | "area")).map(str::trim);
    let code = href.and_then(javascript);
    let scripts = [code.as_deref(), node.attr("onclick"), node.attr("onmousedown")];
    if node.has("disabled") && !matches!(&*node.name, "td" | "tr" | "li") {
        return None;
    }
    for script in scripts.into_iter().flatten() {
        if let Some(post) = script::postback(script) {
            return Some(Press::PostBack { form: form_of(dom, forms, index), post });
        }
    }
    let page = href.filter(|h| code.is_none() && !h.is_empty() && !h.starts_with('#')).map(str::to_owned);
    page.or_else(|| scripts.into_iter().flatten().find_map(script::location)).map(Press::Get)
}

/// The code of a `javascript:` link, as a browser decodes it.
fn javascript(href: &str) -> Option<String> {
    let scheme = href.get(..11)?;
    if !scheme.eq_ignore_ascii_case("javascript:") {
        return None;
    }
    Some(percent_decode_str(&href[11..]).decode_utf8_lossy().into_owned())
}

fn submit_at(dom: &Dom, forms: &[Form], index: usize) -> Option<(usize, usize)> {
    let node = &dom.nodes[index];
    if !matches!(&*node.name, "input" | "button") {
        return None;
    }
    let form = node.form.and_then(|owner| forms.iter().position(|f| f.node == owner))?;
    let at = forms[form].controls.binary_search_by_key(&index, |c| c.node).ok()?;
    forms[form].controls[at].is_submit().then_some((form, at))
}

/// The form that a postback from this element sends: its own, else the page's WebForms form.
pub(super) fn form_of(dom: &Dom, forms: &[Form], index: usize) -> usize {
    let own = dom.nodes[index].form.and_then(|owner| forms.iter().position(|f| f.node == owner));
    own.or_else(|| forms.iter().position(Form::is_webform)).unwrap_or(0)
}

/// What a clickable element says, as a label's key: its text, its value, its picture's text.
pub(super) fn caption(dom: &Dom, index: usize) -> String {
    let node = &dom.nodes[index];
    let attribute = |name: &str| node.attr(name).map(label_key).filter(|k| !k.is_empty());
    if node.name == "input" {
        return attribute(if node.input_type() == "image" { "alt" } else { "value" })
            .or_else(|| attribute("title"))
            .unwrap_or_default();
    }
    let mut says = String::new();
    for token in dom.tokens[node.tokens.clone()].iter().take(8) {
        match &token.key {
            Some(piece) => says.push_str(piece),
            None => return String::new(), // something with controls in it is no button
        }
        if says.len() > 300 {
            return String::new();
        }
    }
    if says.is_empty() {
        let picture = dom.within(index).take(20).find_map(|n| dom.nodes[n].attr("alt").map(label_key));
        return picture
            .filter(|k| !k.is_empty())
            .or_else(|| attribute("title"))
            .or_else(|| attribute("aria-label"))
            .unwrap_or_default();
    }
    says
}
