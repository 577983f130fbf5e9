//! A page's one form: it writes the controls' HTML and remembers, control by control, what a browser would send back.

use super::issued::{Does, Event, Field, Issued, Place, Rule, Submit, digest, same_digest};
use super::session::Sessions;
use super::text::escape;
use super::variant::Hidden;

/// One option of a list: its value and its text.
pub(super) type Choice = (String, String);

/// A form being written.
#[derive(Debug, Default)]
pub(super) struct Form {
    html: String,
    fields: Vec<Field>,
    events: Vec<Event>,
    submits: Vec<Submit>,
}

impl Form {
    /// Markup as it is.
    pub fn raw(&mut self, html: &str) {
        self.html.push_str(html);
    }

    fn expect(&mut self, name: &str, rule: Rule) {
        self.fields.push(Field { name: name.to_owned(), rule });
    }

    fn expect_same(&mut self, name: &str, value: &str) {
        self.expect(name, Rule::Same(same_digest(value)));
    }

    /// A hidden field that must come back.
    pub fn hidden(&mut self, name: &str, value: &str) {
        self.raw(&hidden_html(name, value));
        self.expect_same(name, value);
    }

    /// A text field with a value.
    pub fn text(&mut self, name: &str, value: &str) {
        self.raw(&format!(r#"<input name="{name}" type="text" value="{}" id="{}" />"#, escape(value), id(name)));
        self.expect_same(name, value);
    }

    /// A text field that is not sent: it is disabled.
    pub fn disabled_text(&mut self, name: &str, value: &str) {
        let value = escape(value);
        self.raw(&format!(
            r#"<input name="{name}" type="text" value="{value}" disabled="disabled" class="aspNetDisabled" />"#
        ));
    }

    /// A text area; ASP.NET writes a line break after the tag, which is not part of the value.
    pub fn text_area(&mut self, name: &str, value: &str) {
        let shown = escape(value);
        self.raw(&format!(
            "<textarea name=\"{name}\" rows=\"2\" cols=\"40\" id=\"{}\">\r\n{shown}</textarea>",
            id(name)
        ));
        self.expect_same(name, value);
    }

    /// A field that a person fills in: `text` or `password`.
    pub fn blank(&mut self, kind: &str, name: &str) {
        self.raw(&format!(r#"<input name="{name}" type="{kind}" maxlength="128" id="{}" />"#, id(name)));
        self.expect(name, Rule::Free);
    }

    /// A check box; sent as `on` if it is checked.
    pub fn check_box(&mut self, name: &str, checked: bool, caption: &str) {
        let mark = if checked { r#" checked="checked""# } else { "" };
        let (id, caption) = (id(name), escape(caption));
        self.raw(&format!(
            r#"<input id="{id}" type="checkbox" name="{name}"{mark} /><label for="{id}">{caption}</label>"#
        ));
        if checked {
            self.expect_same(name, "on");
        }
    }

    /// A drop-down list of settings; a disabled one is shown and not sent.
    pub fn select(&mut self, name: &str, choices: &[Choice], selected: usize, disabled: bool) {
        let mark = if disabled { r#" disabled="disabled" class="aspNetDisabled""# } else { "" };
        self.raw(&format!(r#"<select name="{name}" id="{}"{mark}>{}"#, id(name), options_html(choices, selected)));
        self.raw("</select>");
        if !disabled && let Some((value, _)) = choices.get(selected) {
            self.expect_same(name, value);
        }
    }

    /// A drop-down list with AutoPostBack that chooses the site.
    pub fn site_select(&mut self, name: &str, choices: &[Choice], selected: usize) {
        let script = auto_post_back(name);
        let (id, options) = (id(name), options_html(choices, selected));
        self.raw(&format!(r#"<select name="{name}" onchange="{script}" id="{id}">{options}</select>"#));
        self.expect(name, Rule::OneOf(choices.iter().map(|(value, _)| value.clone()).collect()));
        self.event(name, "", Does::ShowSiteOf(name.to_owned()));
    }

    /// Radio buttons with AutoPostBack that choose the site. The checked one has no script, as ASP.NET draws it.
    pub fn site_radio(&mut self, name: &str, choices: &[Choice], selected: usize) {
        self.raw(&format!(r#"<table id="{}">"#, id(name)));
        for (at, (value, text)) in choices.iter().enumerate() {
            let target = format!("{name}${at}");
            let script = if at == selected {
                r#" checked="checked""#.to_owned()
            } else {
                format!(r#" onclick="{}""#, auto_post_back(&target))
            };
            let (id, value, text) = (format!("{}_{at}", id(name)), escape(value), escape(text));
            self.raw(&format!(
                r#"<tr><td><input id="{id}" type="radio" name="{name}" value="{value}"{script} /><label for="{id}">{text}</label></td></tr>"#
            ));
            self.event(&target, "", Does::ShowSiteOf(name.to_owned()));
        }
        self.raw("</table>");
        self.expect(name, Rule::OneOf(choices.iter().map(|(value, _)| value.clone()).collect()));
    }

    /// One radio button of settings, without its label; the caller writes that.
    pub fn radio(&mut self, name: &str, at: usize, value: &str, checked: bool) {
        let mark = if checked { r#" checked="checked""# } else { "" };
        self.raw(&format!(
            r#"<input id="{}_{at}" type="radio" name="{name}" value="{}"{mark} />"#,
            id(name),
            escape(value)
        ));
        if checked {
            self.expect_same(name, value);
        }
    }

    /// A submit button; `logs_on` marks the only one that may ever be pressed.
    pub fn submit(&mut self, name: &str, caption: &str, logs_on: bool) {
        self.raw(&format!(r#"<input type="submit" name="{name}" value="{}" id="{}" />"#, escape(caption), id(name)));
        self.can_submit(name, logs_on);
    }

    /// A `button` element, which submits unless told otherwise.
    pub fn button(&mut self, name: &str, caption: &str, logs_on: bool) {
        self.raw(&format!(
            r#"<button name="{name}" value="1" id="{}"><span>{}</span></button>"#,
            id(name),
            escape(caption)
        ));
        self.can_submit(name, logs_on);
    }

    /// An image that submits, as coordinates.
    pub fn image(&mut self, name: &str, caption: &str, logs_on: bool) {
        let (id, alt) = (id(name), escape(caption));
        self.raw(&format!(r#"<input type="image" name="{name}" id="{id}" src="img/{id}.gif" alt="{alt}" />"#));
        self.can_submit(name, logs_on);
    }

    fn can_submit(&mut self, name: &str, logs_on: bool) {
        self.submits.push(Submit { name: name.to_owned(), logs_on });
    }

    fn event(&mut self, target: &str, argument: &str, does: Does) {
        self.events.push(Event { target: target.to_owned(), argument: argument.to_owned(), does });
    }

    /// A script that posts back, for `href` (with `javascript:`) or `onclick`; escaped for an attribute.
    pub fn post_back(&mut self, target: &str, argument: &str, does: Does) -> String {
        self.event(target, argument, does);
        escape(&format!("__doPostBack('{target}','{argument}')"))
    }

    /// Closes the form: the whole of it, and what to expect back.
    pub fn finish(
        mut self,
        action: &str,
        place: Place,
        style: Hidden,
        kib: usize,
        tokens: &mut Sessions,
    ) -> (String, Issued) {
        let state = tokens.blob(32 + kib * 768);
        let body = std::mem::take(&mut self.html);
        self.raw(&format!("<form method=\"post\" action=\"{}\" id=\"aspnetForm\">\r\n<div>\r\n", escape(action)));
        let first = self.state_fields(&state, style);
        self.raw("</div>\r\n");
        if !self.events.is_empty() {
            self.raw(DO_POST_BACK);
        }
        self.raw("<div>\r\n");
        self.hidden("__VIEWSTATEGENERATOR", "CA0B0334");
        if style == Hidden::Many {
            self.hidden("__SCROLLPOSITIONX", "0");
            self.hidden("__SCROLLPOSITIONY", "0");
            let previous = tokens.blob(36);
            self.hidden("__PREVIOUSPAGE", &previous);
        }
        let validation = tokens.blob(96);
        self.hidden("__EVENTVALIDATION", &validation);
        self.raw("</div>\r\n");
        self.raw(&body);
        self.raw("\r\n</form>\r\n");
        let issued = Issued {
            place,
            view_state: digest(&first),
            fields: self.fields,
            events: self.events,
            submits: self.submits,
        };
        (self.html, issued)
    }

    /// The event fields and the view state, whole or in pieces; gives the first piece, by which the page is found again.
    fn state_fields(&mut self, state: &str, style: Hidden) -> String {
        if !self.events.is_empty() {
            for name in ["__EVENTTARGET", "__EVENTARGUMENT"] {
                self.raw(&hidden_html(name, ""));
                self.expect(name, Rule::Free);
            }
        }
        if style == Hidden::Many {
            self.hidden("__LASTFOCUS", "");
        }
        if style != Hidden::Split {
            self.hidden("__VIEWSTATE", state);
            return state.to_owned();
        }
        let size = (state.len() / 3).max(30);
        let pieces: Vec<&str> =
            state.as_bytes().chunks(size).filter_map(|piece| std::str::from_utf8(piece).ok()).collect();
        self.hidden("__VIEWSTATEFIELDCOUNT", &pieces.len().to_string());
        for (at, piece) in pieces.iter().enumerate() {
            let name = if at == 0 { "__VIEWSTATE".to_owned() } else { format!("__VIEWSTATE{at}") };
            self.hidden(&name, piece);
        }
        pieces.first().copied().unwrap_or_default().to_owned()
    }
}

/// The client id that ASP.NET makes of a control's name.
pub(super) fn id(name: &str) -> String {
    name.replace('$', "_")
}

fn hidden_html(name: &str, value: &str) -> String {
    format!("<input type=\"hidden\" name=\"{name}\" id=\"{}\" value=\"{}\" />\r\n", id(name), escape(value))
}

fn options_html(choices: &[Choice], selected: usize) -> String {
    let option = |(at, (value, text)): (usize, &Choice)| {
        let mark = if at == selected { r#" selected="selected""# } else { "" };
        format!("\r\n\t<option{mark} value=\"{}\">{}</option>", escape(value), escape(text))
    };
    choices.iter().enumerate().map(option).collect()
}

/// The script of a list with AutoPostBack, quotes in quotes, as ASP.NET writes it.
fn auto_post_back(target: &str) -> String {
    escape(&format!(r"javascript:setTimeout('__doPostBack(\'{target}\',\'\')', 0)"))
}

const DO_POST_BACK: &str = r#"<script type="text/javascript">
//<![CDATA[
var theForm = document.forms['aspnetForm'];
function __doPostBack(eventTarget, eventArgument) {
    if (!theForm.onsubmit || (theForm.onsubmit() != false)) {
        theForm.__EVENTTARGET.value = eventTarget;
        theForm.__EVENTARGUMENT.value = eventArgument;
        theForm.submit();
    }
}
//]]>
</script>
"#;
