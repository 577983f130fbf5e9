//! Any HTML -> a [`Dom`], by the browsers' own algorithm.
//!
//! Bounded in elements and in time (the algorithm is quadratic in the depth of hostile nesting), and never recursive: depth
//! costs no stack.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use html5ever::tendril::{StrTendril, TendrilSink};
use html5ever::{ParseOpts, parse_document};
use scraper::{Html, Node as Parsed};

use super::builder::Builder;
use super::dom::{Dom, TooComplex};
use super::sink::{Id, Sink};

/// No page of the tool has a tenth of this.
const MAX_ELEMENTS: usize = 400_000;
/// A page that takes longer to parse is no page that a person could have used.
const MAX_TIME: Duration = Duration::from_secs(10);

/// Parses a page, however sloppy.
///
/// # Errors
/// [`TooComplex`] when it has too many elements or is nested too deeply.
pub fn parse(text: &str) -> Result<Dom<'static>, TooComplex> {
    let started = Instant::now();
    let mut parser = parse_document(Sink::new(), ParseOpts::default());
    let mut rest = text;
    while !rest.is_empty() {
        let mut cut = rest.len().min(16 * 1024);
        while !rest.is_char_boundary(cut) {
            cut += 1;
        }
        let (chunk, after) = rest.split_at(cut);
        parser.process(StrTendril::from(chunk));
        rest = after;
        if parser.tokenizer.sink.sink.elements() > MAX_ELEMENTS || started.elapsed() > MAX_TIME {
            return Err(TooComplex);
        }
    }
    let (html, owners) = parser.finish();
    Ok(flatten(&html, &owners))
}

fn flatten(html: &Html, owners: &HashMap<Id, Id>) -> Dom<'static> {
    let mut builder = Builder::new(0);
    let mut forms: HashMap<Id, usize> = HashMap::new();
    let mut waiting: Vec<(usize, Id)> = Vec::new();
    let mut at = html.tree.root().first_child();
    while let Some(node) = at {
        let opened = match node.value() {
            Parsed::Element(element) => {
                let attributes =
                    element.attrs.iter().map(|(n, v)| (n.local.to_string().into(), v.to_string().into())).collect();
                let index = builder.open(element.name().to_owned().into(), attributes);
                if element.name() == "form" {
                    forms.insert(node.id(), index);
                }
                if let Some(owner) = owners.get(&node.id()) {
                    waiting.push((index, *owner));
                }
                true
            }
            Parsed::Text(text) => {
                builder.text(text.to_string().into());
                false
            }
            _ => false,
        };
        // Down, else on, else up: no recursion, so nesting costs no stack.
        if let (true, Some(child)) = (opened, node.first_child()) {
            at = Some(child);
            continue;
        }
        if opened {
            builder.close();
        }
        let mut here = node;
        at = loop {
            if let Some(next) = here.next_sibling() {
                break Some(next);
            }
            match here.parent() {
                Some(up) if builder.is_inside() => {
                    builder.close();
                    here = up;
                }
                _ => break None,
            }
        };
    }
    let owners = waiting.into_iter().filter_map(|(index, owner)| Some((index, *forms.get(&owner)?)));
    builder.finish(owners)
}
