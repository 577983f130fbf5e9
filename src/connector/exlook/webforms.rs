//! Forms as a browser would send them: the successful controls in document order, and a postback made of them.
//!
//! Invariant: a submit control is among the fields only when it was pressed, and only [`Form::pressed`] presses.

use super::dom::Dom;
use super::labels::collapsed;

/// One `<form>` of a page.
#[derive(Debug, Clone)]
pub struct Form {
    /// The element.
    pub node: usize,
    /// Its `action`, if it has one that is not empty.
    pub action: Option<String>,
    /// Whether it is sent by POST.
    pub post: bool,
    /// `accept-charset`.
    pub charset: Option<String>,
    /// Its controls, enabled or not, in document order.
    pub controls: Vec<Control>,
}

/// What a control is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `<input type=hidden>`
    Hidden,
    /// Anything to type a text in.
    Text,
    /// `<input type=password>`
    Password,
    /// `<input type=radio>`
    Radio,
    /// `<input type=checkbox>`
    Checkbox,
    /// `<select>`
    Select,
    /// `<textarea>`
    Area,
    /// Sends the form when pressed.
    Submit,
    /// `<input type=image>`: sends the form and where it was pressed.
    Image,
    /// Sends nothing by itself: `button`, `reset`, `file`.
    Other,
}

/// One control of a form.
#[derive(Debug, Clone)]
pub struct Control {
    /// The element.
    pub node: usize,
    /// What it is.
    pub kind: Kind,
    /// Its `name`; without one it is never sent.
    pub name: Option<String>,
    /// Its `value`.
    pub value: String,
    /// Whether a person could change or press it.
    pub enabled: bool,
    /// Whether a radio button or check box is on.
    pub checked: bool,
    /// The choices of a list.
    pub options: Vec<Choice>,
}

/// One `<option>`.
#[derive(Debug, Clone)]
pub struct Choice {
    /// What is shown.
    pub text: String,
    /// What is sent.
    pub value: String,
    /// Whether it is chosen, as a browser shows it.
    pub selected: bool,
    /// Whether it can be chosen.
    pub enabled: bool,
}

impl Form {
    /// The fields a browser would send if the form were submitted by a script: no submit control.
    #[must_use]
    pub fn fields(&self) -> Vec<(String, String)> {
        self.fields_with(None)
    }

    /// The fields a browser would send if this one submit control were pressed. Only log-on is.
    #[must_use]
    pub fn pressed(&self, control: usize) -> Vec<(String, String)> {
        self.fields_with(Some(control))
    }

    fn fields_with(&self, pressed: Option<usize>) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        for (at, control) in self.controls.iter().enumerate() {
            if control.enabled {
                control.send(pressed == Some(at), &mut fields);
            }
        }
        fields
    }

    /// The fields of `__doPostBack(target, argument)`.
    #[must_use]
    pub fn postback(&self, target: &str, argument: &str) -> Vec<(String, String)> {
        let mut fields = self.fields();
        set(&mut fields, "__EVENTARGUMENT", argument);
        set(&mut fields, "__EVENTTARGET", target);
        fields
    }

    /// Types a text into a control.
    pub fn fill(&mut self, control: usize, text: &str) {
        self.controls[control].value = text.to_owned();
    }

    /// Chooses one entry of a list.
    pub fn select(&mut self, control: usize, option: usize) {
        for (at, choice) in self.controls[control].options.iter_mut().enumerate() {
            choice.selected = at == option;
        }
    }

    /// Checks a radio button, and no other of its group.
    pub fn check(&mut self, control: usize) {
        let name = self.controls[control].name.clone();
        for (at, other) in self.controls.iter_mut().enumerate() {
            if other.kind == Kind::Radio && other.name == name {
                other.checked = at == control;
            }
        }
    }

    /// Whether it is the form that WebForms' own scripts submit.
    #[must_use]
    pub fn is_webform(&self) -> bool {
        self.controls.iter().any(|control| {
            control.name.as_deref().is_some_and(|name| name.starts_with("__VIEWSTATE") || name == "__EVENTTARGET")
        })
    }
}

/// Sets a field where it stands, or puts it first as WebForms' own pages do.
fn set(fields: &mut Vec<(String, String)>, name: &str, value: &str) {
    let mut there = false;
    for field in fields.iter_mut().filter(|(n, _)| n == name) {
        value.clone_into(&mut field.1);
        there = true;
    }
    if !there {
        fields.insert(0, (name.to_owned(), value.to_owned()));
    }
}

impl Control {
    fn send(&self, pressed: bool, fields: &mut Vec<(String, String)>) {
        let name = self.name.as_deref();
        match self.kind {
            Kind::Image if pressed => {
                let prefix = name.map(|n| format!("{n}.")).unwrap_or_default();
                fields.push((format!("{prefix}x"), "0".to_owned()));
                fields.push((format!("{prefix}y"), "0".to_owned()));
            }
            Kind::Image | Kind::Other => {}
            _ => {
                let Some(name) = name else { return };
                let mut push = |value: &str| fields.push((name.to_owned(), value.to_owned()));
                match self.kind {
                    Kind::Submit if !pressed => {}
                    Kind::Radio | Kind::Checkbox if !self.checked => {}
                    Kind::Select => {
                        self.options.iter().filter(|o| o.selected && o.enabled).for_each(|o| push(&o.value));
                    }
                    _ => push(&self.value),
                }
            }
        }
    }

    /// Whether pressing it sends the form.
    #[must_use]
    pub fn is_submit(&self) -> bool {
        matches!(self.kind, Kind::Submit | Kind::Image)
    }
}

/// Every form of a page, and one more (the last) with the controls that are in none.
#[must_use]
pub fn forms(dom: &Dom) -> Vec<Form> {
    let mut forms: Vec<Form> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for (index, node) in dom.nodes.iter().enumerate().filter(|(_, node)| node.name == "form") {
        places.insert(index, forms.len());
        forms.push(Form {
            node: index,
            action: node.attr("action").map(str::trim).filter(|a| !a.is_empty()).map(str::to_owned),
            post: node.attr("method").is_some_and(|m| m.trim().eq_ignore_ascii_case("post")),
            charset: node.attr("accept-charset").map(str::to_owned),
            controls: Vec::new(),
        });
    }
    let mut loose = Form { node: 0, action: None, post: false, charset: None, controls: Vec::new() };
    for (index, node) in dom.nodes.iter().enumerate() {
        let Some(control) = control(dom, index) else { continue };
        let owner = node.form.and_then(|form| places.get(&form));
        match owner {
            Some(&place) => forms[place].controls.push(control),
            None => loose.controls.push(control),
        }
    }
    forms.push(loose);
    forms.iter_mut().for_each(last_radio_wins);
    forms
}

/// Of several checked radio buttons of one group a browser leaves the last one checked.
fn last_radio_wins(form: &mut Form) {
    let mut seen = std::collections::HashSet::new();
    for control in form.controls.iter_mut().rev().filter(|c| c.kind == Kind::Radio && c.checked) {
        if let Some(name) = &control.name {
            control.checked = seen.insert(name.clone());
        }
    }
}

fn control(dom: &Dom, index: usize) -> Option<Control> {
    let node = &dom.nodes[index];
    let kind = match &*node.name {
        "select" => Kind::Select,
        "textarea" => Kind::Area,
        "button" => match node.attr("type").map(|t| t.trim().to_ascii_lowercase()).as_deref() {
            Some("button" | "reset") => Kind::Other,
            _ => Kind::Submit,
        },
        "input" => match node.input_type().as_str() {
            "hidden" => Kind::Hidden,
            "password" => Kind::Password,
            "radio" => Kind::Radio,
            "checkbox" => Kind::Checkbox,
            "submit" => Kind::Submit,
            "image" => Kind::Image,
            "button" | "reset" | "file" => Kind::Other,
            _ => Kind::Text,
        },
        _ => return None,
    };
    let value = match kind {
        Kind::Area => dom.inner_text(index),
        Kind::Radio | Kind::Checkbox => node.attr("value").unwrap_or("on").to_owned(),
        Kind::Text | Kind::Password => node.attr("value").unwrap_or_default().replace(['\r', '\n'], ""),
        _ => node.attr("value").unwrap_or_default().to_owned(),
    };
    Some(Control {
        node: index,
        kind,
        name: node.attr("name").filter(|n| !n.is_empty()).map(str::to_owned),
        value,
        enabled: !node.has("disabled") && !node.fieldset_off,
        checked: node.has("checked"),
        options: if kind == Kind::Select { options(dom, index) } else { Vec::new() },
    })
}

fn options(dom: &Dom, select: usize) -> Vec<Choice> {
    let node = &dom.nodes[select];
    let mut options = Vec::new();
    for index in dom.within(select).filter(|&i| dom.nodes[i].name == "option") {
        let option = &dom.nodes[index];
        let inner = collapsed(&dom.inner_text(index));
        let text = option.attr("label").filter(|l| !l.is_empty()).map_or_else(|| inner.clone(), collapsed);
        let group = &dom.nodes[option.parent];
        options.push(Choice {
            text,
            value: option.attr("value").map_or(inner, str::to_owned),
            selected: option.has("selected"),
            enabled: !(option.has("disabled") || group.name == "optgroup" && group.has("disabled")),
        });
    }
    if node.has("multiple") {
        return options;
    }
    // Of several selected ones the last counts; of none, a drop-down list shows its first.
    if let Some(last) = options.iter().rposition(|o| o.selected) {
        options.iter_mut().enumerate().for_each(|(at, o)| o.selected = at == last);
    } else if node.attr("size").and_then(|s| s.trim().parse::<u32>().ok()).unwrap_or(1) <= 1
        && let Some(first) = options.iter_mut().find(|o| o.enabled)
    {
        first.selected = true;
    }
    options
}
