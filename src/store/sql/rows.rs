//! Rows as the databases give them, and the domain's types they stand for. A row that contradicts itself is a loud error.

use std::borrow::Borrow;
use std::io;

use chrono::{DateTime, NaiveDate};
use serde::Serialize;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter};

use crate::domain::Timestamp;
use crate::domain::campaign::{CampaignId, Standing};
use crate::domain::case::{Case, CaseSite, CaseState, Evidence, Reference, Told};
use crate::domain::customer::Address;
use crate::domain::delivery::{DeliveryFacts, DeliveryId, DeliveryKey, DeliveryState, Held, Recipient, RecipientState};
use crate::domain::observation::{Observation, RawSettings, Verdict};
use crate::domain::plan::NoticeKind;
use crate::domain::site::{AuthMethod, CustomerId, ServerType, SiteName};

use super::super::{
    AttemptRow, Delivery, Hold, HoldKind, Message, Result, Run, RunCounts, RunId, RunKind, RunOutcome, SiteCounts,
    SiteRow, StoreError,
};
use super::text::Text;

/// An instant as the store keeps it: UNIX milliseconds.
pub(in crate::store) fn millis(at: Timestamp) -> i64 {
    at.timestamp_millis()
}

/// Rows for `json_each`: one bound text instead of a statement a row. U+0000, which PostgreSQL refuses in any text and a
/// page may hold, becomes U+FFFD.
pub(super) fn json<T: Serialize>(rows: &T) -> String {
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, NoNul);
    rows.serialize(&mut serializer).expect("texts, numbers and nothing always make JSON");
    String::from_utf8(text).expect("serde_json writes UTF-8")
}

struct NoNul;

impl Formatter for NoNul {
    fn write_char_escape<W: io::Write + ?Sized>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        match escape {
            CharEscape::AsciiControl(0) => writer.write_all(b"\\ufffd"),
            other => CompactFormatter.write_char_escape(writer, other),
        }
    }
}

pub(super) fn time(millis: i64) -> Result<Timestamp> {
    DateTime::from_timestamp_millis(millis).ok_or_else(|| corrupt("an instant out of range", &millis.to_string()))
}

pub(super) fn day(text: &str) -> Result<NaiveDate> {
    text.parse().map_err(|_| corrupt("no civil day", text))
}

/// A word of one of the domain's enums.
pub(super) fn word<T>(parse: impl FnOnce(&str) -> Option<T>, text: &str) -> Result<T> {
    parse(text).ok_or_else(|| corrupt("an unknown word", text))
}

fn optional<T>(parse: impl FnOnce(&str) -> Option<T>, text: Option<&str>) -> Result<Option<T>> {
    text.map(|text| word(parse, text)).transpose()
}

pub(super) fn customer(text: &str) -> Result<CustomerId> {
    CustomerId::new(text).map_err(|_| corrupt("no customer id", text))
}

/// The site of a row: '' stands for a customer none of whose sites could be listed.
pub(super) fn site(text: &str) -> Result<Option<SiteName>> {
    match text {
        "" => Ok(None),
        name => SiteName::new(name).map(Some).map_err(|_| corrupt("no site name", name)),
    }
}

pub(super) fn site_text(site: Option<&SiteName>) -> &str {
    site.map_or("", SiteName::as_str)
}

fn address(text: &str) -> Result<Address> {
    Address::new(text).map_err(|_| StoreError::Corrupt("a mail address that is none".to_owned()))
}

pub(super) fn count<T: TryFrom<i64>>(n: i64) -> Result<T> {
    T::try_from(n).map_err(|_| corrupt("a number out of range", &n.to_string()))
}

pub(super) fn corrupt(what: &str, value: &str) -> StoreError {
    StoreError::Corrupt(format!("{what}: {value:?}"))
}

#[derive(sqlx::FromRow)]
pub(super) struct ObservationRow {
    pub(super) id: i64,
    pub(super) customer: String,
    pub(super) site: String,
    verdict: String,
    reason: Option<String>,
    server_type: Option<String>,
    auth_method: Option<String>,
    raw_server_type: Option<String>,
    raw_auth_method: Option<String>,
    detail: Option<String>,
    pub(super) first_seen_at: i64,
    last_seen_at: i64,
}

impl ObservationRow {
    pub(super) fn observation(self) -> Result<Observation> {
        Ok(Observation {
            customer: customer(&self.customer)?,
            site: site(&self.site)?,
            verdict: word(|word| Verdict::parse(word, self.reason.as_deref()), &self.verdict)?,
            server_type: optional(ServerType::parse, self.server_type.as_deref())?,
            auth_method: optional(AuthMethod::parse, self.auth_method.as_deref())?,
            raw: RawSettings { server_type: self.raw_server_type, auth_method: self.raw_auth_method },
            detail: self.detail,
            observed_at: time(self.last_seen_at)?,
        })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct ListedRow {
    name: String,
    unreadable_scans: i64,
    #[sqlx(flatten)]
    seen: ObservationRow,
}

impl ListedRow {
    pub(super) fn site(self) -> Result<SiteRow> {
        Ok(SiteRow {
            customer_name: self.name,
            seen: self.seen.observation()?,
            unreadable_scans: count(self.unreadable_scans)?,
        })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct CaseRow {
    customer: String,
    campaign: String,
    reference: String,
    round: i64,
    state: String,
    resolved_at: Option<i64>,
    opened_at: i64,
    round_at: i64,
}

impl CaseRow {
    pub(super) fn case(self) -> Result<Case> {
        let state = match (self.state.as_str(), self.resolved_at) {
            ("open", None) => CaseState::Open,
            ("resolved", Some(at)) => CaseState::Resolved { at: time(at)? },
            (state, _) => return Err(corrupt("a case's state", state)),
        };
        Ok(Case {
            customer: customer(&self.customer)?,
            campaign: CampaignId(self.campaign),
            reference: Reference(self.reference),
            round: count(self.round)?,
            state,
            opened_at: time(self.opened_at)?,
            round_at: time(self.round_at)?,
            sites: std::collections::BTreeMap::new(),
            told: Vec::new(),
        })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct CaseSiteRow {
    pub(super) customer: String,
    pub(super) campaign: String,
    pub(super) site: String,
    standing: String,
    since: i64,
    clear_scans: i64,
    absent_scans: i64,
    now_observed_at: i64,
    now_server_type: Option<String>,
    now_auth_method: Option<String>,
    now_raw_server_type: Option<String>,
    now_raw_auth_method: Option<String>,
    before_observed_at: i64,
    before_server_type: Option<String>,
    before_auth_method: Option<String>,
    before_raw_server_type: Option<String>,
    before_raw_auth_method: Option<String>,
}

impl CaseSiteRow {
    pub(super) fn site(self) -> Result<CaseSite> {
        Ok(CaseSite {
            standing: word(Standing::parse, &self.standing)?,
            since: time(self.since)?,
            clear_scans: count(self.clear_scans)?,
            absent_scans: count(self.absent_scans)?,
            now: Evidence {
                observed_at: time(self.now_observed_at)?,
                server_type: optional(ServerType::parse, self.now_server_type.as_deref())?,
                auth_method: optional(AuthMethod::parse, self.now_auth_method.as_deref())?,
                raw: RawSettings { server_type: self.now_raw_server_type, auth_method: self.now_raw_auth_method },
            },
            before: Evidence {
                observed_at: time(self.before_observed_at)?,
                server_type: optional(ServerType::parse, self.before_server_type.as_deref())?,
                auth_method: optional(AuthMethod::parse, self.before_auth_method.as_deref())?,
                raw: RawSettings { server_type: self.before_raw_server_type, auth_method: self.before_raw_auth_method },
            },
        })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct ToldRow {
    pub(super) customer: String,
    pub(super) campaign: String,
    kind: String,
    round: i64,
    occasion: String,
    day: String,
    deadline: String,
    held: Option<String>,
}

impl ToldRow {
    pub(super) fn told(self) -> Result<Told> {
        let held = optional(Held::parse, self.held.as_deref())?;
        Ok(Told {
            kind: word(NoticeKind::parse, &self.kind)?,
            round: count(self.round)?,
            occasion: self.occasion,
            day: day(&self.day)?,
            deadline: day(&self.deadline)?,
            // Held because its acceptance is unknown: it may have been read.
            counts: matches!(held, None | Some(Held::Unknown)),
        })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct DeliveryRow {
    pub(super) id: i64,
    customer: Text,
    campaign: Text,
    round: i64,
    kind: Text,
    occasion: Text,
    milestone: Option<Text>,
    day: Text,
    deadline: Text,
    because: Text,
    state: Text,
    held: Option<Text>,
    detail: Option<Text>,
    not_before: i64,
    attempts: i64,
    blocked: i64,
    unknown_before: i64,
    message_id: Text,
    subject: Text,
    envelope_from: Text,
    rendered_for: Text,
    evidence_at: i64,
    sites: Text,
    created_at: i64,
    state_at: i64,
    approved_by: Option<Text>,
    approved_at: Option<i64>,
}

/// A delivery's columns, as [`DeliveryRow`] wants them.
macro_rules! delivery_columns {
    () => {
        "d.id, d.customer, d.campaign, d.round, d.kind, d.occasion, d.milestone, d.day, d.deadline, d.because, \
         d.state, d.held, d.detail, d.not_before, d.attempts, \
         (SELECT count(*) FROM attempts AS a WHERE a.delivery = d.id AND a.outcome = 'blocked') AS blocked, \
         d.unknown_before, d.message_id, d.subject, \
         d.envelope_from, d.rendered_for, d.evidence_at, d.sites, d.created_at, d.state_at, d.approved_by, \
         d.approved_at"
    };
}
pub(super) use delivery_columns;

/// An observation's columns, as [`ObservationRow`] wants them.
macro_rules! observation_columns {
    () => {
        "o.id, o.customer, o.site, o.verdict, o.reason, o.server_type, o.auth_method, o.raw_server_type, \
         o.raw_auth_method, o.detail, o.first_seen_at, o.last_seen_at"
    };
}
pub(super) use observation_columns;

/// How many observations have each verdict, as [`site_counts`] wants it. Not by GROUP BY: SQLite would sort all of them first,
/// in memory.
macro_rules! verdict_counts {
    () => {
        "count(*) FILTER (WHERE o.verdict = 'affected'), count(*) FILTER (WHERE o.verdict = 'switched'), \
         count(*) FILTER (WHERE o.verdict = 'consent_missing'), count(*) FILTER (WHERE o.verdict = 'not_exchange_online'), \
         count(*) FILTER (WHERE o.verdict = 'unreadable')"
    };
}
pub(super) use verdict_counts;

/// The sites by verdict.
pub(super) fn site_counts(counts: (i64, i64, i64, i64, i64)) -> Result<SiteCounts> {
    let (affected, switched, consent_missing, not_exchange_online, unreadable) = counts;
    Ok(SiteCounts {
        affected: count(affected)?,
        switched: count(switched)?,
        consent_missing: count(consent_missing)?,
        not_exchange_online: count(not_exchange_online)?,
        unreadable: count(unreadable)?,
    })
}

/// The state that a row's words stand for.
pub(super) fn delivery_state(state: &str, held: Option<&str>, not_before: i64) -> Result<DeliveryState> {
    Ok(match (state, held) {
        ("held", Some(held)) => DeliveryState::Held(word(Held::parse, held)?),
        ("queued", None) => DeliveryState::Queued { not_before: time(not_before)? },
        ("sending", None) => DeliveryState::Sending,
        ("sent", None) => DeliveryState::Sent,
        ("unknown", None) => DeliveryState::Unknown,
        ("failed", None) => DeliveryState::Failed,
        ("dropped", None) => DeliveryState::Dropped,
        _ => return Err(corrupt("a delivery's state", state)),
    })
}

impl DeliveryRow {
    pub(super) fn delivery(self, recipients: Vec<Recipient>) -> Result<Delivery> {
        self.sound()?;
        self.into_shown(recipients)
    }

    /// Whether all of its texts are texts.
    fn sound(&self) -> Result<()> {
        let texts = [
            ("customer", &self.customer),
            ("campaign", &self.campaign),
            ("kind", &self.kind),
            ("occasion", &self.occasion),
            ("day", &self.day),
            ("deadline", &self.deadline),
            ("because", &self.because),
            ("state", &self.state),
            ("message_id", &self.message_id),
            ("subject", &self.subject),
            ("envelope_from", &self.envelope_from),
            ("rendered_for", &self.rendered_for),
            ("sites", &self.sites),
        ];
        let optional = [
            ("milestone", &self.milestone),
            ("held", &self.held),
            ("detail", &self.detail),
            ("approved_by", &self.approved_by),
        ];
        let optional = optional.iter().filter_map(|(column, text)| Some((*column, text.as_ref()?)));
        texts.into_iter().chain(optional).try_for_each(|(column, text)| text.sound(column))
    }

    fn into_shown(self, recipients: Vec<Recipient>) -> Result<Delivery> {
        let approved = match (self.approved_by, self.approved_at) {
            (Some(who), Some(at)) => Some((who.shown(), time(at)?)),
            _ => None,
        };
        Ok(Delivery {
            id: DeliveryId(self.id),
            facts: DeliveryFacts {
                key: DeliveryKey {
                    customer: customer(&self.customer)?,
                    campaign: CampaignId(self.campaign.shown()),
                    round: count(self.round)?,
                    kind: word(NoticeKind::parse, &self.kind)?,
                    occasion: self.occasion.shown(),
                },
                milestone: self.milestone.map(Text::shown),
                day: day(&self.day)?,
                deadline: day(&self.deadline)?,
                because: self.because.shown(),
            },
            state: delivery_state(&self.state, self.held.as_deref(), self.not_before)?,
            detail: self.detail.map(Text::shown),
            recipients,
            attempts: count(self.attempts)?,
            blocked: count(self.blocked)?,
            unknown_before: self.unknown_before != 0,
            message_id: self.message_id.shown(),
            subject: self.subject.shown(),
            sites: sites(&self.sites)?,
            rendered_for: day(&self.rendered_for)?,
            evidence_at: time(self.evidence_at)?,
            created_at: time(self.created_at)?,
            state_at: time(self.state_at)?,
            approved,
        })
    }

    /// As a list shows it: beside a hundred good rows a bad one is shown too, with stand-ins and what is wrong with it.
    pub(super) fn listed(mut self, recipients: Result<Vec<Recipient>>) -> Result<Delivery> {
        let mut wrong = self.sound().err();
        let recipients = match recipients {
            Ok(recipients) => recipients,
            Err(error) => {
                wrong.get_or_insert(error);
                Vec::new()
            }
        };
        for text in [&mut self.day, &mut self.deadline, &mut self.rendered_for] {
            mend(text, day, Text::from("1970-01-01"), &mut wrong);
        }
        mend(&mut self.sites, sites, Text::from("[]"), &mut wrong);
        for instant in [&mut self.not_before, &mut self.evidence_at, &mut self.created_at, &mut self.state_at] {
            mend(instant, time_of, 0, &mut wrong);
        }
        for number in [&mut self.round, &mut self.attempts] {
            mend(number, count_of, 0, &mut wrong);
        }
        if let Some(error) = wrong {
            self.detail = self.detail.or_else(|| Some(Text::from(error.to_string().as_str())));
        }
        self.into_shown(recipients)
    }

    pub(super) fn message(&self, raw: Vec<u8>) -> Result<Message> {
        Ok(Message {
            message_id: self.message_id.to_string(),
            subject: self.subject.to_string(),
            envelope_from: address(&self.envelope_from)?,
            raw,
            rendered_for: day(&self.rendered_for)?,
            evidence_at: time(self.evidence_at)?,
            sites: sites(&self.sites)?,
        })
    }
}

/// Puts a stand-in in the place of what cannot be read; the first thing that is wrong is kept.
fn mend<V: Borrow<B>, B: ?Sized, T>(
    value: &mut V,
    read: impl FnOnce(&B) -> Result<T>,
    stand_in: V,
    wrong: &mut Option<StoreError>,
) {
    if let Err(error) = read((*value).borrow()) {
        wrong.get_or_insert(error);
        *value = stand_in;
    }
}

fn time_of(millis: &i64) -> Result<Timestamp> {
    time(*millis)
}

fn count_of(number: &i64) -> Result<u32> {
    count(*number)
}

/// The sites a mail speaks of, as they stand in its row.
pub(super) fn sites_text(sites: &[SiteName]) -> String {
    json(&sites.iter().map(SiteName::as_str).collect::<Vec<_>>())
}

fn sites(text: &str) -> Result<Vec<SiteName>> {
    let names: Vec<String> = serde_json::from_str(text).map_err(|_| corrupt("no list of sites", text))?;
    names.iter().map(|name| SiteName::new(name).map_err(|_| corrupt("no site name", name))).collect()
}

#[derive(sqlx::FromRow)]
pub(super) struct RecipientRow {
    pub(super) delivery: i64,
    address: Text,
    state: Text,
    reply: Option<Text>,
}

impl RecipientRow {
    pub(super) fn recipient(self) -> Result<Recipient> {
        if let Some(reply) = &self.reply {
            reply.sound("reply")?;
        }
        Ok(Recipient {
            address: address(&self.address)?,
            state: word(RecipientState::parse, &self.state)?,
            reply: self.reply.map(Text::shown),
        })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct AttemptLine {
    pub(super) delivery: i64,
    number: i64,
    started_at: i64,
    finished_at: Option<i64>,
    outcome: Option<String>,
    reply: Option<String>,
}

impl AttemptLine {
    pub(super) fn attempt(self) -> Result<AttemptRow> {
        Ok(AttemptRow {
            delivery: DeliveryId(self.delivery),
            number: count(self.number)?,
            started_at: time(self.started_at)?,
            finished_at: self.finished_at.map(time).transpose()?,
            outcome: self.outcome,
            reply: self.reply,
        })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct RunRow {
    id: i64,
    kind: String,
    due_at: Option<i64>,
    owner: String,
    started_at: i64,
    lease_until: i64,
    finished_at: Option<i64>,
    outcome: Option<String>,
    customers: i64,
    sites: i64,
    unreadable: i64,
    queued: i64,
    held: i64,
    detail: Option<String>,
    fleet: Option<String>,
}

impl RunRow {
    pub(super) fn run(self) -> Result<Run> {
        Ok(Run {
            id: RunId(self.id),
            kind: word(RunKind::parse, &self.kind)?,
            due_at: self.due_at.map(time).transpose()?,
            owner: self.owner,
            started_at: time(self.started_at)?,
            lease_until: time(self.lease_until)?,
            finished_at: self.finished_at.map(time).transpose()?,
            outcome: optional(RunOutcome::parse, self.outcome.as_deref())?,
            counts: RunCounts {
                customers: count(self.customers)?,
                sites: count(self.sites)?,
                unreadable: count(self.unreadable)?,
                queued: count(self.queued)?,
                held: count(self.held)?,
            },
            detail: self.detail,
            fleet: self.fleet,
        })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct HoldRow {
    kind: String,
    reason: String,
    set_by: String,
    set_at: i64,
}

impl HoldRow {
    pub(super) fn hold(self) -> Result<Hold> {
        Ok(Hold {
            kind: word(HoldKind::parse, &self.kind)?,
            reason: self.reason,
            set_by: self.set_by,
            set_at: time(self.set_at)?,
        })
    }
}
