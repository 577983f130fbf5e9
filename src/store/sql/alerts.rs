//! Alerts, mails to the operators, the fleet's numbers day by day.
//!
//! Invariants: what stands is one row however often it is raised; a group is told and its mail queued in one transaction.

use std::collections::HashMap;

use async_trait::async_trait;
use serde::Serialize;

use crate::domain::Timestamp;
use crate::domain::alert::Cause;
use crate::domain::campaign::{CampaignId, Standing};
use crate::domain::case::Reference;
use crate::domain::customer::Address;
use crate::domain::delivery::{Attempt, DeliveryState, Outcome, Recipient, RecipientState};
use crate::domain::site::CustomerId;

use super::super::{
    AlertGroup, AlertRow, Day, Happened, NewAlert, NewOperatorMail, OperatorMail, OperatorMailKind, Operators, Result,
    SendingOperatorMail, SiteCounts, StoreError, Untold,
};
use super::rows::{count, delivery_state, json, millis, time, word};
use super::{Sql, Tx, db, failed};

/// The columns of [`MailRow`].
macro_rules! operator_mail_columns {
    () => {
        "id, kind, state, not_before, detail, recipients, attempts, blocked, unknown_before, subject, created_at, state_at"
    };
}

pub(super) const RAISE: &str = "INSERT INTO alerts (cause, key, customer, name, detail, lasts, first_at, last_at, times) \
     SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, CAST(value ->> 5 AS BIGINT), ?2, ?2, CAST(value ->> 6 AS BIGINT) \
     FROM json_each(?1) WHERE true ORDER BY key \
     ON CONFLICT (cause, key) WHERE over_at IS NULL \
     DO UPDATE SET times = alerts.times + excluded.times, last_at = excluded.last_at";

pub(super) const OVER: &str = "UPDATE alerts SET over_at = ?3 WHERE cause = ?1 AND over_at IS NULL AND lasts = 1 \
     AND key NOT IN (SELECT value FROM json_each(?2))";

pub(super) const UNTOLD_ALERTS: &str = "SELECT cause, count(*), CAST(sum(times) AS BIGINT), min(first_at), max(id), \
         (SELECT max(t.told_at) FROM alerts AS t WHERE t.cause = a.cause AND t.told_at IS NOT NULL) \
     FROM alerts AS a WHERE told_at IS NULL GROUP BY cause ORDER BY cause";

pub(super) const ALERTS_OF: &str = "SELECT customer, name, detail, times, over_at IS NOT NULL FROM alerts \
     WHERE cause = ?1 AND told_at IS NULL AND id <= ?2 ORDER BY customer, key LIMIT ?3";

/// What happened is over once it was told; what lasts is not.
pub(super) const TELL: &str = "UPDATE alerts SET told_at = ?3, \
         over_at = CASE WHEN lasts = 1 THEN over_at ELSE coalesce(over_at, ?3) END \
     WHERE cause = ?1 AND told_at IS NULL AND id <= ?2";

pub(super) const QUEUE_OPERATOR_MAIL: &str = "INSERT INTO operator_mails (key, kind, state, not_before, message_id, \
         subject, envelope_from, recipients, raw, created_at, state_at) \
     VALUES (?1, ?2, 'queued', ?3, ?4, ?5, ?6, ?7, ?8, ?3, ?3) ON CONFLICT (key) DO NOTHING";

pub(super) const OPERATOR_MAIL_WAITS: &str = "SELECT EXISTS (SELECT 1 FROM operator_mails WHERE state = 'queued' AND not_before <= ?1) \
         OR EXISTS (SELECT 1 FROM operator_mails WHERE state = 'sending' AND lease_until <= ?1)";

pub(super) const LAPSE_OPERATOR_MAILS: &str = "UPDATE operator_mails SET state = 'queued', owner = NULL, \
         lease_until = NULL, unknown_before = 1, state_at = ?1 WHERE state = 'sending' AND lease_until <= ?1";

pub(super) const FREE_OPERATOR_MAILS: &str = "UPDATE operator_mails SET state = 'queued', owner = NULL, \
         lease_until = NULL, unknown_before = 1, state_at = ?2 WHERE state = 'sending' AND owner <> ?1";

pub(super) const CLAIM_OPERATOR_MAIL: &str = concat!(
    "UPDATE operator_mails SET state = 'sending', owner = ?1, lease_until = ?3, attempts = attempts + 1, state_at = ?2 \
     WHERE id = (SELECT id FROM operator_mails WHERE state = 'queued' AND not_before <= ?2 \
                 ORDER BY not_before, id LIMIT 1) RETURNING ",
    operator_mail_columns!(),
    ", envelope_from, raw"
);

pub(super) const RECORD_OPERATOR_MAIL: &str = "UPDATE operator_mails SET state = ?3, owner = NULL, lease_until = NULL, \
         not_before = coalesce(?4, not_before), detail = ?5, recipients = ?6, blocked = blocked + ?7, \
         unknown_before = CASE WHEN ?8 THEN 1 ELSE unknown_before END, state_at = ?9 \
     WHERE id = ?1 AND owner = ?2 AND state = 'sending'";

pub(super) const OPERATOR_MAILS: &str =
    concat!("SELECT ", operator_mail_columns!(), " FROM operator_mails ORDER BY id DESC LIMIT ?1");

pub(super) const OPERATOR_MAIL_COUNTS: &str =
    "SELECT state, count(*) FROM operator_mails GROUP BY state ORDER BY state";

/// The open cases with something to do that no mail has told of. The smaller word of the two standings is the graver one.
macro_rules! untold {
    ($columns:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM (SELECT c.customer AS customer, c.campaign AS campaign, c.round AS round, c.reference AS reference, \
                     k.name AS name, \
                     (SELECT min(s.standing) FROM case_sites AS s WHERE s.customer = c.customer \
                         AND s.campaign = c.campaign AND s.standing <> 'clear') AS standing \
                 FROM cases AS c CROSS JOIN customers AS k ON k.id = c.customer \
                 WHERE c.state = 'open' AND k.gone_at IS NULL) AS u \
             WHERE u.standing IS NOT NULL AND NOT EXISTS (SELECT 1 FROM deliveries AS o \
                 CROSS JOIN recipients AS r ON r.delivery = o.id AND r.state = 'accepted' \
                 WHERE o.customer = u.customer AND o.campaign = u.campaign AND o.round = u.round AND o.kind <> 'resolved' \
                     AND (o.kind = 'consent') = (u.standing = 'consent_missing'))"
        )
    };
}

pub(super) const UNTOLD_CUSTOMERS: &str = concat!(
    "SELECT u.customer, u.campaign, u.reference, u.name, u.standing, d.state, d.detail FROM (",
    untold!("u.*"),
    ") AS u LEFT JOIN deliveries AS d ON d.id = (SELECT max(n.id) FROM deliveries AS n \
         WHERE n.customer = u.customer AND n.campaign = u.campaign AND n.round = u.round AND n.kind <> 'resolved' \
             AND (n.kind = 'consent') = (u.standing = 'consent_missing')) \
     ORDER BY u.customer, u.campaign"
);

pub(super) const LEFT_OPEN: &str = "SELECT count(*), count(CASE WHEN k.gone_at > ?1 THEN 1 END) FROM cases AS c \
     JOIN customers AS k ON k.id = c.customer WHERE c.state = 'open' AND (k.gone_at IS NULL OR k.gone_at > ?1)";

pub(super) const NOTE_DAY: &str = "INSERT INTO days (day, affected, switched, consent_missing, not_exchange_online, \
         unreadable) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
     ON CONFLICT (day) DO UPDATE SET affected = ?2, switched = ?3, consent_missing = ?4, not_exchange_online = ?5, \
         unreadable = ?6";

pub(super) const DAYS: &str = "SELECT day, affected, switched, consent_missing, not_exchange_online, unreadable \
     FROM (SELECT * FROM days ORDER BY day DESC LIMIT ?1) AS newest ORDER BY day";

pub(super) const HAPPENED: &str = "SELECT word, count(*) FROM events INDEXED BY events_at WHERE at > ?1 AND customer IS NOT NULL \
     GROUP BY word ORDER BY word";

pub(super) const HAPPENED_TO: &str = "SELECT DISTINCT e.customer, k.name FROM events AS e INDEXED BY events_at \
     CROSS JOIN customers AS k ON k.id = e.customer WHERE e.at > ?1 AND e.word = ?2 ORDER BY e.customer LIMIT ?3";

/// cause, key, customer, name, detail, lasts, times
#[derive(Serialize)]
struct Raised<'a>(&'static str, &'a str, Option<&'a str>, Option<&'a str>, &'a str, u8, u32);

#[derive(sqlx::FromRow)]
struct MailRow {
    id: i64,
    kind: String,
    state: String,
    not_before: i64,
    detail: Option<String>,
    recipients: String,
    attempts: i64,
    blocked: i64,
    unknown_before: i64,
    subject: String,
    created_at: i64,
    state_at: i64,
}

#[derive(sqlx::FromRow)]
struct SendingRow {
    #[sqlx(flatten)]
    mail: MailRow,
    envelope_from: String,
    raw: Vec<u8>,
}

#[derive(sqlx::FromRow)]
struct UntoldRow {
    customer: String,
    campaign: String,
    reference: String,
    name: String,
    standing: String,
    state: Option<String>,
    detail: Option<String>,
}

fn address(text: &str) -> Result<Address> {
    Address::new(text).map_err(|why| StoreError::Corrupt(format!("an operator's address {why}")))
}

impl MailRow {
    fn mail(self) -> Result<OperatorMail> {
        let rows: Vec<(String, String, Option<String>)> = serde_json::from_str(&self.recipients)
            .map_err(|_| StoreError::Corrupt("the recipients of a mail to the operators".to_owned()))?;
        let recipient = |(to, state, reply): (String, String, Option<String>)| {
            Ok(Recipient { address: address(&to)?, state: word(RecipientState::parse, &state)?, reply })
        };
        Ok(OperatorMail {
            id: self.id,
            kind: word(OperatorMailKind::parse, &self.kind)?,
            state: delivery_state(&self.state, None, self.not_before)?,
            detail: self.detail,
            recipients: rows.into_iter().map(recipient).collect::<Result<_>>()?,
            attempts: count(self.attempts)?,
            blocked: count(self.blocked)?,
            unknown_before: self.unknown_before != 0,
            subject: self.subject,
            created_at: time(self.created_at)?,
            state_at: time(self.state_at)?,
        })
    }
}

fn recipients_text<'a>(recipients: impl Iterator<Item = (&'a Address, RecipientState, Option<&'a str>)>) -> String {
    json(&recipients.map(|(to, state, reply)| (to.as_str(), state.as_str(), reply)).collect::<Vec<_>>())
}

async fn queue(tx: &mut Tx, mail: &NewOperatorMail, at: Timestamp, what: &'static str) -> Result<bool> {
    let recipients = recipients_text(mail.to.iter().map(|to| (to, RecipientState::Pending, None)));
    let queued = db::query(QUEUE_OPERATOR_MAIL)
        .bind(&mail.key)
        .bind(mail.kind.as_str())
        .bind(millis(at))
        .bind(&mail.message_id)
        .bind(&mail.subject)
        .bind(mail.envelope_from.as_str())
        .bind(recipients)
        .bind(&mail.raw)
        .execute(&mut *tx)
        .await
        .map_err(failed(what))?;
    Ok(queued.rows_affected() == 1)
}

#[async_trait]
impl Operators for Sql {
    async fn raise(&self, alerts: &[NewAlert], at: Timestamp) -> Result<()> {
        const WHAT: &str = "raise an alert";
        if alerts.is_empty() {
            return Ok(());
        }
        // One row a thing: no database likes to change a row twice in one statement.
        let mut rows: Vec<Raised<'_>> = Vec::new();
        let mut places = HashMap::new();
        for a in alerts {
            let (id, name) = a.customer.as_ref().map(|(id, name)| (id.as_str(), name.as_str())).unzip();
            let place = *places.entry((a.cause.as_str(), a.key.as_str())).or_insert(rows.len());
            match rows.get_mut(place) {
                Some(row) => row.6 += 1,
                None => rows.push(Raised(a.cause.as_str(), &a.key, id, name, &a.detail, a.cause.lasts().into(), 1)),
            }
        }
        let mut tx = self.write(WHAT).await?;
        db::query(RAISE).bind(json(&rows)).bind(millis(at)).execute(&mut tx).await.map_err(failed(WHAT))?;
        tx.commit().await.map_err(failed(WHAT))
    }

    async fn over(&self, cause: Cause, still: &[String], at: Timestamp) -> Result<()> {
        const WHAT: &str = "end an alert";
        let mut tx = self.write(WHAT).await?;
        let query = db::query(OVER).bind(cause.as_str()).bind(json(&still)).bind(millis(at));
        query.execute(&mut tx).await.map_err(failed(WHAT))?;
        tx.commit().await.map_err(failed(WHAT))
    }

    async fn untold_alerts(&self) -> Result<Vec<AlertGroup>> {
        let query = db::query_as(UNTOLD_ALERTS).fetch_all(&self.readers);
        let rows: Vec<(String, i64, i64, i64, i64, Option<i64>)> =
            query.await.map_err(failed("read what is not told yet"))?;
        rows.into_iter()
            .map(|(cause, rows, times, first_at, upto, last_told)| {
                Ok(AlertGroup {
                    cause: word(Cause::parse, &cause)?,
                    count: count(rows)?,
                    times: count(times)?,
                    first_at: time(first_at)?,
                    upto,
                    last_told: last_told.map(time).transpose()?,
                })
            })
            .collect()
    }

    async fn alerts_of(&self, group: &AlertGroup, limit: u32) -> Result<Vec<AlertRow>> {
        let query = db::query_as(ALERTS_OF).bind(group.cause.as_str()).bind(group.upto).bind(limit);
        let rows: Vec<(Option<String>, Option<String>, String, i64, bool)> =
            query.fetch_all(&self.readers).await.map_err(failed("read alerts"))?;
        rows.into_iter()
            .map(|(id, name, detail, times, over)| {
                Ok(AlertRow { customer: id.zip(name), detail, times: count(times)?, over })
            })
            .collect()
    }

    async fn tell(&self, group: &AlertGroup, mail: Option<&NewOperatorMail>, at: Timestamp) -> Result<bool> {
        const WHAT: &str = "tell an alert";
        let mut tx = self.write(WHAT).await?;
        let query = db::query(TELL).bind(group.cause.as_str()).bind(group.upto).bind(millis(at));
        let told = query.execute(&mut tx).await.map_err(failed(WHAT))?.rows_affected();
        if told != group.count {
            tx.rollback().await.map_err(failed(WHAT))?;
            return Ok(false);
        }
        if let Some(mail) = mail {
            queue(&mut tx, mail, at, WHAT).await?;
        }
        tx.commit().await.map_err(failed(WHAT))?;
        Ok(true)
    }

    async fn queue_operator_mail(&self, mail: &NewOperatorMail, at: Timestamp) -> Result<bool> {
        const WHAT: &str = "queue a mail to the operators";
        let mut tx = self.write(WHAT).await?;
        let queued = queue(&mut tx, mail, at, WHAT).await?;
        tx.commit().await.map_err(failed(WHAT))?;
        Ok(queued)
    }

    async fn claim_operator_mail(
        &self,
        owner: &str,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Option<SendingOperatorMail>> {
        const WHAT: &str = "take a mail to the operators from the queue";
        // The reader is asked first: this is asked again and again, and hardly ever is there one.
        let query = db::query_scalar(OPERATOR_MAIL_WAITS).bind(millis(now));
        if !query.fetch_one(&self.readers).await.map_err(failed(WHAT))? {
            return Ok(None);
        }
        let mut tx = self.write(WHAT).await?;
        db::query(LAPSE_OPERATOR_MAILS).bind(millis(now)).execute(&mut tx).await.map_err(failed(WHAT))?;
        let query = db::query_as(CLAIM_OPERATOR_MAIL).bind(owner).bind(millis(now)).bind(millis(lease_until));
        let row: Option<SendingRow> = query.fetch_optional(&mut tx).await.map_err(failed(WHAT))?;
        tx.commit().await.map_err(failed(WHAT))?;
        row.map(|row| {
            Ok(SendingOperatorMail {
                mail: row.mail.mail()?,
                envelope_from: address(&row.envelope_from)?,
                raw: row.raw,
            })
        })
        .transpose()
    }

    async fn record_operator_mail(
        &self,
        id: i64,
        owner: &str,
        attempt: &Attempt,
        state: &DeliveryState,
        recipients: &[Recipient],
        now: Timestamp,
    ) -> Result<()> {
        const WHAT: &str = "record an attempt of a mail to the operators";
        let not_before = match state {
            DeliveryState::Queued { not_before } => Some(millis(*not_before)),
            _ => None,
        };
        let recipients = recipients_text(recipients.iter().map(|r| (&r.address, r.state, r.reply.as_deref())));
        let mut tx = self.write(WHAT).await?;
        db::query(RECORD_OPERATOR_MAIL)
            .bind(id)
            .bind(owner)
            .bind(state.as_str())
            .bind(not_before)
            .bind((*state != DeliveryState::Sent).then_some(&attempt.reply))
            .bind(recipients)
            .bind(i64::from(!attempt.outcome.counts()))
            .bind(attempt.outcome == Outcome::Unknown)
            .bind(millis(now))
            .execute(&mut tx)
            .await
            .map_err(failed(WHAT))?;
        tx.commit().await.map_err(failed(WHAT))
    }

    async fn free_operator_mails(&self, owner: &str, now: Timestamp) -> Result<u64> {
        const WHAT: &str = "free mails to the operators";
        // Beside other nodes they may be alive; a lease that ran out is seen by whoever claims next.
        if self.shared() {
            return Ok(0);
        }
        let mut tx = self.write(WHAT).await?;
        let query = db::query(FREE_OPERATOR_MAILS).bind(owner).bind(millis(now));
        let freed = query.execute(&mut tx).await.map_err(failed(WHAT))?.rows_affected();
        tx.commit().await.map_err(failed(WHAT))?;
        Ok(freed)
    }

    async fn operator_mails(&self, limit: u32) -> Result<Vec<OperatorMail>> {
        let query = db::query_as(OPERATOR_MAILS).bind(limit).fetch_all(&self.readers);
        let rows: Vec<MailRow> = query.await.map_err(failed("list the mails to the operators"))?;
        rows.into_iter().map(MailRow::mail).collect()
    }

    async fn operator_mail_counts(&self) -> Result<Vec<(String, u64)>> {
        let query = db::query_as(OPERATOR_MAIL_COUNTS).fetch_all(&self.readers);
        let rows: Vec<(String, i64)> = query.await.map_err(failed("count the mails to the operators"))?;
        rows.into_iter().map(|(state, n)| Ok((state, count(n)?))).collect()
    }

    async fn untold_customers(&self) -> Result<Vec<Untold>> {
        let query = db::query_as(UNTOLD_CUSTOMERS).fetch_all(&self.readers);
        let rows: Vec<UntoldRow> = query.await.map_err(failed("list whom nobody has told"))?;
        rows.into_iter()
            .map(|row| {
                Ok(Untold {
                    customer: word(|text| CustomerId::new(text).ok(), &row.customer)?,
                    name: row.name,
                    campaign: CampaignId(row.campaign),
                    reference: Reference(row.reference),
                    standing: word(Standing::parse, &row.standing)?,
                    delivery: row.state,
                    detail: row.detail,
                })
            })
            .collect()
    }

    async fn left_open(&self, after: Timestamp) -> Result<(u64, u64)> {
        let query = db::query_as(LEFT_OPEN).bind(millis(after)).fetch_one(&self.readers);
        let (open, gone): (i64, i64) = query.await.map_err(failed("count who left with an open case"))?;
        Ok((count(open)?, count(gone)?))
    }

    async fn note_day(&self, day: &Day) -> Result<()> {
        const WHAT: &str = "note the day's numbers";
        let n = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let sites = &day.sites;
        let mut tx = self.write(WHAT).await?;
        db::query(NOTE_DAY)
            .bind(day.day.to_string())
            .bind(n(sites.affected))
            .bind(n(sites.switched))
            .bind(n(sites.consent_missing))
            .bind(n(sites.not_exchange_online))
            .bind(n(sites.unreadable))
            .execute(&mut tx)
            .await
            .map_err(failed(WHAT))?;
        tx.commit().await.map_err(failed(WHAT))
    }

    async fn days(&self, limit: u32) -> Result<Vec<Day>> {
        let query = db::query_as(DAYS).bind(limit).fetch_all(&self.readers);
        let rows: Vec<(String, i64, i64, i64, i64, i64)> = query.await.map_err(failed("read the days' numbers"))?;
        rows.into_iter()
            .map(|(day, affected, switched, consent_missing, not_exchange_online, unreadable)| {
                Ok(Day {
                    day: word(|text| text.parse().ok(), &day)?,
                    sites: SiteCounts {
                        affected: count(affected)?,
                        switched: count(switched)?,
                        consent_missing: count(consent_missing)?,
                        not_exchange_online: count(not_exchange_online)?,
                        unreadable: count(unreadable)?,
                    },
                })
            })
            .collect()
    }

    async fn happened_since(&self, after: Timestamp, listed: u32) -> Result<Vec<Happened>> {
        const WHAT: &str = "read what happened";
        let mut tx = self.read(WHAT).await?;
        let rows: Vec<(String, i64)> =
            db::query_as(HAPPENED).bind(millis(after)).fetch_all(&mut tx).await.map_err(failed(WHAT))?;
        let mut all = Vec::new();
        for (word, n) in rows {
            let query = db::query_as(HAPPENED_TO).bind(millis(after)).bind(&word).bind(listed);
            let customers = query.fetch_all(&mut tx).await.map_err(failed(WHAT))?;
            all.push(Happened { word, count: count(n)?, customers });
        }
        tx.commit().await.map_err(failed(WHAT))?;
        Ok(all)
    }
}
