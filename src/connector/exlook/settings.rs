//! The two settings: what a person reads beside their labels.
//!
//! Liberal in where and how a value may be shown, strict in what counts: a label that is missing, that has nothing beside
//! it, or whose controls disagree is no answer.

use std::collections::HashMap;
use std::ops::Range;

use super::beside::{Finder, Occurrence};
use super::dom::Dom;
use super::labels::{Label, Words, collapsed, key, shown};
use super::webforms::{Control, Form, Kind};
use crate::domain::observation::{Failure, RawSettings, Reason, Settings};

/// A page, with all that is needed to read values from it.
#[derive(Debug)]
pub struct Reader<'a> {
    /// The page.
    pub dom: &'a Dom<'a>,
    /// Its forms.
    pub forms: &'a [Form],
    /// Its labels.
    pub finder: Finder<'a>,
    /// (node, form, control), by node.
    controls: Vec<(usize, usize, usize)>,
    /// `for` -> the `label`s.
    labels: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Reader<'a> {
    /// Prepares a page.
    #[must_use]
    pub fn new(dom: &'a Dom<'a>, forms: &'a [Form], words: &Words) -> Self {
        let mut controls = Vec::new();
        let mut hidden = Vec::new();
        for (form_at, form) in forms.iter().enumerate() {
            for (at, control) in form.controls.iter().enumerate() {
                controls.push((control.node, form_at, at));
                if control.kind == Kind::Hidden && is_known(words, &control.value) {
                    hidden.push(control.node);
                }
            }
        }
        controls.sort_unstable();
        hidden.sort_unstable();
        let mut labels: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, node) in dom.nodes.iter().enumerate().filter(|(_, node)| node.name == "label") {
            if let Some(id) = node.attr("for") {
                labels.entry(id).or_default().push(index);
            }
        }
        Self { dom, forms, finder: Finder::new(dom, words, hidden), controls, labels }
    }

    /// The controls in a range of nodes: (form, control).
    pub fn controls_in(&self, range: &Range<usize>) -> impl Iterator<Item = (usize, usize)> + '_ {
        let first = self.controls.partition_point(|(node, ..)| *node < range.start);
        let end = range.end;
        self.controls[first..].iter().take_while(move |(node, ..)| *node < end).map(|&(_, form, at)| (form, at))
    }

    /// A control.
    #[must_use]
    pub fn control(&self, (form, at): (usize, usize)) -> &Control {
        &self.forms[form].controls[at]
    }

    /// The radio buttons of the group that one belongs to.
    #[must_use]
    pub fn group(&self, radio: (usize, usize)) -> Vec<(usize, usize)> {
        let Some(name) = &self.control(radio).name else { return vec![radio] };
        let controls = &self.forms[radio.0].controls;
        let of_group = |c: &Control| c.kind == Kind::Radio && c.name.as_ref() == Some(name);
        controls.iter().enumerate().filter(|(_, c)| of_group(c)).map(|(at, _)| (radio.0, at)).collect()
    }

    /// The text of a radio button or check box, and the text tokens that are it: its `label`'s, or what follows it.
    #[must_use]
    pub fn caption(&self, control: &Control) -> (String, Vec<usize>) {
        let node = &self.dom.nodes[control.node];
        let named = node.attr("id").and_then(|id| self.labels.get(id)).into_iter().flatten().copied();
        for label in named.chain(node.label) {
            let text = collapsed(&self.dom.text(self.dom.within(label)));
            if !text.is_empty() {
                return (text, self.dom.nodes[label].tokens.clone().collect());
            }
        }
        let end = self.dom.nodes[node.parent].tokens.end;
        let following = node.tokens.start + 1..end;
        let tokens: Vec<usize> = following.take_while(|&t| self.dom.tokens[t].key.is_some()).collect();
        let text = tokens.iter().map(|&t| &*self.dom.nodes[self.dom.tokens[t].node].text).collect::<String>();
        match collapsed(&text) {
            text if text.is_empty() => (control.value.clone(), Vec::new()),
            text => (text, tokens),
        }
    }

    /// Both settings.
    ///
    /// # Errors
    /// [`Reason::LayoutChanged`] that names the label, with what was read of the other.
    pub fn settings(&self, words: &Words) -> Result<Settings, Failure> {
        let server = self.answer(&words.server_type, &words.group, &|text| words.server(text).is_some());
        let method = self.answer(&words.auth_method, &words.group, &|text| words.method(text).is_some());
        let raw =
            RawSettings { server_type: server.as_ref().ok().cloned(), auth_method: method.as_ref().ok().cloned() };
        match (server, method) {
            (Ok(server), Ok(method)) => {
                Ok(Settings { server_type: words.server(&server), auth_method: words.method(&method), raw })
            }
            (Err(detail), _) | (_, Err(detail)) => Err(Failure { raw, ..Failure::new(Reason::LayoutChanged, detail) }),
        }
    }

    /// What stands beside a label; every place where it stands must say the same.
    fn answer(&self, label: &Label, group: &Label, known: &dyn Fn(&str) -> bool) -> Result<String, String> {
        let places = self.finder.in_group(&label.key, &group.key);
        if places.is_empty() {
            return Err(format!("the page shows no label [{}]", label.text));
        }
        let mut found = Vec::new();
        for place in &places {
            found.push(self.answers_at(place, label, known)?);
        }
        // Where a control answers, a text elsewhere that we do not know (an explanation) does not contradict it.
        let by_control = found.iter().any(|(_, by_control)| *by_control);
        let counts = |text: &String, own: bool| own || !by_control || known(text);
        let answers: Vec<String> =
            found.into_iter().flat_map(|(texts, own)| texts.into_iter().filter(move |t| counts(t, own))).collect();
        let mut distinct: Vec<&String> = Vec::new();
        for answer in &answers {
            if !distinct.iter().any(|other| key(other) == key(answer)) {
                distinct.push(answer);
            }
        }
        match distinct.as_slice() {
            [] => Err(format!("nothing that can be read stands beside the label [{}]", label.text)),
            [answer] => Ok(shown(answer)),
            _ => Err(format!("the label [{}] has two answers that disagree", label.text)),
        }
    }

    /// What one place says, and whether a control says it.
    fn answers_at(
        &self,
        place: &Occurrence,
        label: &Label,
        known: &dyn Fn(&str) -> bool,
    ) -> Result<(Vec<String>, bool), String> {
        if let Some(text) = &place.inline {
            return Ok((vec![text.clone()], false));
        }
        let named = self.finder.named(place);
        let mut region = self.finder.beside(place);
        if region.below > 0 && region.nodes.len() > 1 {
            // In a table of one column the value is right below; other rows are other things, unless they could be meant.
            let meant = |range: &Range<usize>| self.texts_in(range).any(|(_, text)| known(text));
            if region.below > 1 || region.nodes[1..].iter().any(meant) {
                return Err(format!("several rows stand below the label [{}]; which one is the site's?", label.text));
            }
            region.nodes.truncate(1);
        }
        let controls = self.value_controls(&named, &region.nodes, &label.key);
        let mut read = Read::default();
        for &control in &controls {
            self.read_control(control, &mut read);
        }
        let ranges: Vec<&Range<usize>> = named.iter().chain(&region.nodes).collect();
        self.read_hidden(&ranges, &controls, known, &mut read);
        if read.seen {
            for range in &region.nodes {
                self.stray_texts(range, known, &mut read);
            }
            if let (true, Some(problem)) = (read.answers.is_empty(), read.problem) {
                return Err(format!("beside the label [{}] {problem}", label.text));
            }
            return Ok((read.answers, true));
        }
        let texts = if region.nodes.is_empty() { &named } else { &region.nodes };
        Ok((self.plain_text(texts, known), false))
    }

    fn value_controls(&self, named: &[Range<usize>], beside: &[Range<usize>], label: &str) -> Vec<(usize, usize)> {
        let mut controls: Vec<(usize, usize)> = named.iter().flat_map(|range| self.controls_in(range)).collect();
        for control in beside.iter().flat_map(|range| self.controls_in(range)) {
            if !controls.contains(&control) && !self.finder.is_claimed(self.control(control).node, label) {
                controls.push(control);
            }
        }
        controls
    }

    fn read_control(&self, at: (usize, usize), read: &mut Read) {
        let control = self.control(at);
        match control.kind {
            Kind::Select => {
                let chosen: Vec<String> =
                    control.options.iter().filter(|o| o.selected).map(|o| o.text.clone()).collect();
                read.take(chosen, "nothing is chosen in the list");
            }
            Kind::Radio => {
                let group = self.group(at);
                let mut chosen = Vec::new();
                for member in group {
                    let member = self.control(member);
                    let (text, tokens) = self.caption(member);
                    read.used.extend(tokens);
                    if member.checked {
                        chosen.push(text);
                    }
                }
                read.take(chosen, "no choice is checked");
            }
            Kind::Text | Kind::Area => {
                let text = Some(control.value.clone()).filter(|v| !v.trim().is_empty());
                read.take(text.into_iter().collect(), "the field is empty");
            }
            Kind::Checkbox => {
                let (_, tokens) = self.caption(control);
                read.used.extend(tokens);
            }
            Kind::Hidden | Kind::Password | Kind::Submit | Kind::Image | Kind::Other => {}
        }
    }

    /// A hidden field counts when it holds a text we know, or the value of a choice of the list it shadows.
    fn read_hidden(
        &self,
        ranges: &[&Range<usize>],
        controls: &[(usize, usize)],
        known: &dyn Fn(&str) -> bool,
        read: &mut Read,
    ) {
        for hidden in ranges.iter().flat_map(|range| self.controls_in(range)).map(|at| self.control(at)) {
            if hidden.kind != Kind::Hidden || hidden.value.len() > 400 {
                continue;
            }
            if known(&hidden.value) {
                read.answers.push(hidden.value.clone());
                read.seen = true;
                continue;
            }
            let Some(name) = &hidden.name else { continue };
            for shadowed in controls.iter().map(|&at| self.control(at)).filter(|c| c.name.as_ref() == Some(name)) {
                let choice = shadowed.options.iter().find(|o| o.value == hidden.value);
                read.answers.extend(choice.map(|o| o.text.clone()));
            }
        }
    }

    /// A text we know that stands beside a control, and is not part of it, must agree with it.
    fn stray_texts(&self, range: &Range<usize>, known: &dyn Fn(&str) -> bool, read: &mut Read) {
        for (token, text) in self.texts_in(range) {
            if !read.used.contains(&token) && known(text) {
                read.answers.push(text.to_owned());
            }
        }
    }

    fn texts_in(&self, range: &Range<usize>) -> impl Iterator<Item = (usize, &str)> + '_ {
        let first = self.dom.tokens.partition_point(|t| t.node < range.start);
        let end = range.end;
        let tokens = self.dom.tokens.iter().enumerate().skip(first).take_while(move |(_, t)| t.node < end);
        tokens
            .filter(|(_, t)| t.key.is_some() && !self.dom.nodes[t.node].unshown)
            .map(|(at, t)| (at, &*self.dom.nodes[t.node].text))
    }

    /// The text as a whole; where it has remarks around it, the one piece that we know.
    fn plain_text(&self, ranges: &[Range<usize>], known: &dyn Fn(&str) -> bool) -> Vec<String> {
        let whole = ranges.iter().map(|range| self.dom.text(range.clone())).collect::<Vec<_>>().join(" ");
        let whole = collapsed(&whole);
        if known(&whole) {
            return vec![whole];
        }
        let pieces: Vec<String> = ranges
            .iter()
            .flat_map(|range| self.texts_in(range))
            .filter(|(_, text)| known(text))
            .map(|(_, text)| text.to_owned())
            .collect();
        if pieces.is_empty() && !super::labels::label_key(&whole).is_empty() { vec![whole] } else { pieces }
    }
}

/// What the controls beside one label say.
#[derive(Default)]
struct Read {
    answers: Vec<String>,
    problem: Option<&'static str>,
    /// A control that could have answered was there.
    seen: bool,
    /// The text tokens that are radio buttons' captions.
    used: Vec<usize>,
}

impl Read {
    fn take(&mut self, texts: Vec<String>, problem: &'static str) {
        self.seen = true;
        if texts.iter().all(|t| t.trim().is_empty()) {
            self.problem = Some(problem);
        } else {
            self.answers.extend(texts);
        }
    }
}

fn is_known(words: &Words, text: &str) -> bool {
    text.len() <= 400 && (words.server(text).is_some() || words.method(text).is_some())
}
