//! How to log on: the form with the one password field, the text field before it, the button. What could be another button
//! (one that saves, clears, registers) is never taken for it.

use super::dom::Dom;
use super::press::{Press, caption, form_of, press_of};
use super::webforms::{Control, Form, Kind};

/// How to log on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logon {
    /// The form's place.
    pub form: usize,
    /// The account field's place in the form.
    pub account: usize,
    /// The password field's place in the form.
    pub password: usize,
    /// The log-on button.
    pub press: Press,
}

const LOG_ON: [&str; 6] = ["ログオン", "ログイン", "サインイン", "logon", "login", "signin"];
/// A button that says one of these is never taken for the log-on button.
const NEVER: [&str; 12] =
    ["保存", "save", "設定", "変更", "クリア", "clear", "リセット", "reset", "キャンセル", "cancel", "忘れ", "登録"];

/// How to log on: the form with the one password field, the text field before it, the button.
pub(super) fn logon(dom: &Dom, forms: &[Form]) -> Option<Result<Logon, String>> {
    let mut found = Vec::new();
    let mut why = None;
    for (at, form) in forms.iter().enumerate() {
        let passwords: Vec<usize> = positions(form, |c| is_typed_in(dom, c, Kind::Password));
        match passwords.as_slice() {
            [] => {}
            [password] => match logon_in(dom, forms, at, *password) {
                Ok(logon) => found.push(logon),
                Err(detail) => why = Some(detail),
            },
            _ => why = Some("the log-on form has several password fields".to_owned()),
        }
    }
    match (found.len(), why) {
        (0, None) => None,
        (0, Some(why)) => Some(Err(why)),
        (1, _) => found.pop().map(Ok),
        _ => Some(Err("the page has several log-on forms".to_owned())),
    }
}

fn positions(form: &Form, wanted: impl Fn(&Control) -> bool) -> Vec<usize> {
    form.controls.iter().enumerate().filter(|(_, c)| wanted(c)).map(|(at, _)| at).collect()
}

/// Whether a person could type in it: not one of those that only keep browsers from remembering passwords.
pub(super) fn is_typed_in(dom: &Dom, control: &Control, kind: Kind) -> bool {
    let style = dom.nodes[control.node].attr("style").unwrap_or_default();
    let hidden = style.replace(' ', "").to_ascii_lowercase().contains("display:none");
    control.kind == kind && control.enabled && control.name.is_some() && !hidden
}

fn logon_in(dom: &Dom, forms: &[Form], form: usize, password: usize) -> Result<Logon, String> {
    let controls = &forms[form].controls;
    let account = controls[..password].iter().rposition(|c| is_typed_in(dom, c, Kind::Text));
    let account = account.ok_or("no text field stands before the password field of the log-on page")?;
    let press = logon_button(dom, forms, form).ok_or("the log-on page has no button that can be told to be log-on")?;
    Ok(Logon { form, account, password, press })
}

/// The button that says log on; or the only button there is, unless it says something else.
fn logon_button(dom: &Dom, forms: &[Form], form: usize) -> Option<Press> {
    let says = |at: usize| caption(dom, forms[form].controls[at].node);
    let submits = positions(&forms[form], |c| c.is_submit() && c.enabled);
    let press = |control: usize| match press_of(dom, forms, forms[form].controls[control].node) {
        Some(press @ Press::PostBack { .. }) => press,
        _ => Press::Submit { form, control },
    };
    let is_logon = |says: &str| LOG_ON.contains(&plain(says).as_str());
    let has_logon = |says: &str| LOG_ON.iter().any(|w| plain(says).contains(w)) && !is_never(says);
    if let Some(&at) = submits.iter().find(|&&at| is_logon(&says(at))) {
        return Some(press(at));
    }
    if let [at] = submits.iter().copied().filter(|&at| has_logon(&says(at))).collect::<Vec<_>>().as_slice() {
        return Some(press(*at));
    }
    // A link-button, or a button that posts back by script.
    let owner = forms[form].node;
    for index in 0..dom.nodes.len() {
        let inside = dom.nodes[index].form == Some(owner) || form_of(dom, forms, index) == form;
        if !inside || !matches!(&*dom.nodes[index].name, "a" | "input" | "button" | "span" | "div" | "img") {
            continue;
        }
        if let Some(post @ Press::PostBack { .. }) = press_of(dom, forms, index)
            && is_logon(&caption(dom, index))
        {
            return Some(post);
        }
    }
    match submits.as_slice() {
        [only] if !is_never(&says(*only)) => Some(press(*only)),
        _ => None,
    }
}

fn is_never(says: &str) -> bool {
    NEVER.iter().any(|word| says.contains(word))
}

/// Without the hyphens of "log-on" and 「する」.
fn plain(says: &str) -> String {
    let says: String = says.chars().filter(|c| c.is_alphanumeric()).collect();
    says.strip_suffix("する").map_or(says.clone(), str::to_owned)
}
