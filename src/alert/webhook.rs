//! The body of a webhook call, in the shapes that chat services take. It says what the mail says.

use serde_json::{Value, json};

use super::{AlertFacts, Texts, one_line};
use crate::config::WebhookFormat;

/// The longest text in a body: Slack cuts at 40,000 characters, Teams refuses messages over 28 KB.
const TEXT_MAX: usize = 6000;

/// The body for one alert.
#[must_use]
pub fn body(format: WebhookFormat, facts: &AlertFacts, texts: &Texts) -> Value {
    let text: String = texts.text.chars().take(TEXT_MAX).collect();
    match format {
        WebhookFormat::Json => json!({
            "kind": "alert",
            "cause": facts.cause.as_str(),
            "count": facts.count,
            "at": facts.now.with_timezone(&facts.zone).to_rfc3339(),
            "mode": facts.mode,
            "subject": texts.subject,
            "text": text,
            "customers": facts.items.iter().filter_map(|item| item.customer.as_ref())
                .map(|(id, name)| json!({ "id": id, "name": one_line(name, 60) })).collect::<Vec<_>>(),
        }),
        WebhookFormat::Slack => json!({ "text": escaped(&format!("*{}*\n{text}", texts.subject)) }),
        WebhookFormat::Teams => json!({
            "type": "message",
            "attachments": [{
                "contentType": "application/vnd.microsoft.card.adaptive",
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    "body": [
                        { "type": "TextBlock", "size": "Medium", "weight": "Bolder", "wrap": true, "text": texts.subject },
                        { "type": "TextBlock", "wrap": true, "text": text.replace('\n', "\n\n") },
                    ],
                },
            }],
        }),
    }
}

/// Slack's three control characters: a customer's name must not become a mention or a link.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
