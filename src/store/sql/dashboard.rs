//! What the dashboard reads; and the one thing it writes, that a person asked for a scan.
//!
//! Invariant: a page costs the same at the first and at the hundred-thousandth customer: it begins in an index where the
//! page before ended.

use std::collections::HashMap;

use crate::domain::Timestamp;
use crate::domain::delivery::DeliveryId;
use crate::domain::observation::Verdict;
use crate::domain::plan::NoticeKind;
use crate::domain::site::CustomerId;

use super::super::{
    By, Concerns, CustomerFilter, CustomerLine, CustomerOrder, CustomerSheet, Deed, MailFilter, MailLine, Result,
    SiteCounts, SiteLine, StoreError,
};
use super::desk::{recipients_of, unlisted};
use super::events::{self, Event};
use super::rows::{
    self, DeliveryRow, ObservationRow, count, delivery_columns, json, millis, observation_columns, time,
    verdict_counts, word,
};
use super::{Sql, Tx, db, failed};

/// The customers that a filter lets through, in the order that follows.
macro_rules! customers {
    ($behind:literal, $order:literal) => {
        concat!(
            "SELECT c.id, c.name FROM customers AS c WHERE c.gone_at IS NULL AND ",
            $behind,
            " AND (?3 = '' OR lower(c.id) LIKE lower(?3) ESCAPE '\\' OR lower(c.name) LIKE lower(?3) ESCAPE '\\') \
              AND (?4 = '' OR EXISTS (SELECT 1 FROM sites AS s CROSS JOIN observations AS o ON o.id = s.observation \
                  WHERE s.customer = c.id AND s.listed = 1 AND o.verdict = ?4)) \
              AND (?5 = '' OR EXISTS (SELECT 1 FROM deliveries AS d \
                  WHERE d.customer = c.id AND d.kind = ?5 AND d.state <> 'dropped')) ORDER BY ",
            $order,
            " LIMIT ?6"
        )
    };
}

pub(super) const BY_ID: &str = customers!("c.id > ?2 AND ?1 = ?1", "c.id");
pub(super) const BY_ID_DOWN: &str = customers!("c.id < ?2 AND ?1 = ?1", "c.id DESC");
pub(super) const BY_NAME: &str = customers!("(c.name, c.id) > (?1, ?2)", "c.name, c.id");
pub(super) const BY_NAME_DOWN: &str = customers!("(c.name, c.id) < (?1, ?2)", "c.name DESC, c.id DESC");

pub(super) const SITES_OF: &str = "SELECT s.customer, o.verdict, min(o.reason), count(*), max(o.last_seen_at) \
     FROM sites AS s CROSS JOIN observations AS o ON o.id = s.observation \
     WHERE s.customer IN (SELECT value FROM json_each(?1)) AND s.listed = 1 GROUP BY s.customer, o.verdict";

pub(super) const OPEN_OF: &str =
    "SELECT DISTINCT customer FROM cases WHERE state = 'open' AND customer IN (SELECT value FROM json_each(?1))";

pub(super) const LAST_MAIL_OF: &str = "SELECT d.customer, d.kind, d.state, d.state_at, d.id FROM deliveries AS d \
     WHERE d.id IN (SELECT max(n.id) FROM deliveries AS n WHERE n.customer IN (SELECT value FROM json_each(?1)) \
                    GROUP BY n.customer)";

pub(super) const CUSTOMER: &str = "SELECT name, gone_at FROM customers WHERE id = ?1";

pub(super) const CUSTOMER_SITES: &str = concat!(
    "SELECT s.listed, s.unreadable_scans, ",
    observation_columns!(),
    " FROM sites AS s CROSS JOIN observations AS o ON o.id = s.observation WHERE s.customer = ?1 \
      ORDER BY s.listed DESC, s.site"
);

pub(super) const MAILS: &str = concat!(
    "SELECT c.name AS customer_name, ",
    delivery_columns!(),
    " FROM deliveries AS d CROSS JOIN customers AS c ON c.id = d.customer WHERE d.id < ?1 \
      AND (?2 = '[]' OR d.state IN (SELECT value FROM json_each(?2))) ORDER BY d.id DESC LIMIT ?3"
);

/// Newest observation begun by then.
pub(super) const COUNTS_AT: &str = concat!(
    "SELECT ",
    verdict_counts!(),
    " FROM customers AS c CROSS JOIN sites AS s ON s.customer = c.id CROSS JOIN observations AS o ON o.id = \
         (SELECT max(n.id) FROM observations AS n WHERE n.customer = s.customer AND n.site = s.site AND n.first_seen_at < ?1) \
     WHERE c.gone_at IS NULL AND s.listed = 1"
);

/// An unreadable site stays where it stood; a site no longer listed left when it was seen last.
pub(super) const AFFECTED_MOVES: &str = "WITH seen AS ( \
         SELECT o.customer AS customer, o.site AS site, o.id AS id, o.first_seen_at AS at, CASE WHEN o.verdict = 'affected' THEN 1 ELSE 0 END AS affected \
         FROM customers AS c CROSS JOIN observations AS o ON o.customer = c.id \
         WHERE c.gone_at IS NULL AND o.verdict <> 'unreadable'), \
     moves AS (SELECT at, affected - coalesce(lag(affected) OVER (PARTITION BY customer, site ORDER BY id), 0) AS moved \
         FROM seen) \
     SELECT at / ?1 * ?1, CAST(sum(moved) AS BIGINT) FROM moves WHERE moved <> 0 GROUP BY 1 \
     UNION ALL SELECT o.last_seen_at / ?1 * ?1, -count(*) FROM customers AS c CROSS JOIN sites AS s ON s.customer = c.id \
         CROSS JOIN observations AS o ON o.id = s.observation \
         WHERE c.gone_at IS NULL AND s.listed = 0 AND o.verdict = 'affected' GROUP BY 1 ORDER BY 1";

pub(super) const UNREADABLE_COUNT: &str = "SELECT count(*) FROM sites AS s CROSS JOIN customers AS c ON c.id = s.customer \
     WHERE s.unreadable_scans > 0 AND s.unreadable_scans >= ?1 AND s.listed = 1 AND c.gone_at IS NULL";

macro_rules! deed_words {
    () => {
        "('approved', 'retried', 'cancelled', 'released', 'hold', 'resume', 'asked')"
    };
}

/// The words are those of the index `events_deeds`.
pub(super) const DEEDS: &str = concat!(
    "SELECT e.id, e.at, e.customer, n.name, e.delivery, e.word, e.text FROM events AS e \
     LEFT JOIN customers AS n ON n.id = e.customer WHERE e.id < ?1 AND e.word IN ",
    deed_words!(),
    " ORDER BY e.id DESC LIMIT ?2"
);

/// Above every text that a name may begin with.
const LAST: &str = "\u{10FFFF}";

pub(super) async fn customers(store: &Sql, filter: &CustomerFilter) -> Result<Vec<CustomerLine>> {
    const WHAT: &str = "list the customers";
    let (sql, start) = match filter.order {
        CustomerOrder::Id => (BY_ID, ""),
        CustomerOrder::IdDown => (BY_ID_DOWN, LAST),
        CustomerOrder::Name => (BY_NAME, ""),
        CustomerOrder::NameDown => (BY_NAME_DOWN, LAST),
    };
    let (name, id) = filter.after.as_ref().map_or((start, start), |(name, id)| (name.as_str(), id.as_str()));
    let mut tx = store.read(WHAT).await?;
    let found: Vec<(String, String)> = db::query_as(sql)
        .bind(name)
        .bind(id)
        .bind(pattern(&filter.search))
        .bind(&filter.verdict)
        .bind(filter.kind.map_or("", NoticeKind::as_str))
        .bind(i64::from(filter.limit))
        .fetch_all(&mut tx)
        .await
        .map_err(failed(WHAT))?;
    let lines = lines(&mut tx, found, WHAT).await?;
    tx.commit().await.map_err(failed(WHAT))?;
    Ok(lines)
}

/// A search as LIKE wants it; its own signs stand for themselves.
fn pattern(search: &str) -> String {
    if search.is_empty() {
        return String::new();
    }
    let escaped = search.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%{escaped}%")
}

type SitesLine = (String, String, Option<String>, i64, i64);

async fn lines(tx: &mut Tx, found: Vec<(String, String)>, what: &'static str) -> Result<Vec<CustomerLine>> {
    let ids = json(&found.iter().map(|(id, _)| id).collect::<Vec<_>>());
    let sites: Vec<SitesLine> = db::query_as(SITES_OF).bind(&ids).fetch_all(&mut *tx).await.map_err(failed(what))?;
    let open: Vec<String> = db::query_scalar(OPEN_OF).bind(&ids).fetch_all(&mut *tx).await.map_err(failed(what))?;
    let mails: Vec<(String, String, String, i64, i64)> =
        db::query_as(LAST_MAIL_OF).bind(&ids).fetch_all(&mut *tx).await.map_err(failed(what))?;

    let mut lines = Vec::with_capacity(found.len());
    let mut places = HashMap::new();
    for (n, (id, name)) in found.into_iter().enumerate() {
        let line = CustomerLine {
            id: rows::customer(&id)?,
            name,
            sites: SiteCounts::default(),
            seen_at: None,
            open: false,
            last_mail: None,
        };
        places.insert(id, n);
        lines.push(line);
    }
    for (id, verdict, reason, n, seen_at) in sites {
        let line = &mut lines[places[&id]];
        line.sites.add(word(|text| Verdict::parse(text, reason.as_deref()), &verdict)?, count(n)?);
        line.seen_at = line.seen_at.max(Some(time(seen_at)?));
    }
    for id in open {
        lines[places[&id]].open = true;
    }
    for (id, kind, state, at, _) in mails {
        lines[places[&id]].last_mail = Some((word(NoticeKind::parse, &kind)?, state, time(at)?));
    }
    Ok(lines)
}

#[derive(sqlx::FromRow)]
struct SheetRow {
    listed: i64,
    unreadable_scans: i64,
    #[sqlx(flatten)]
    seen: ObservationRow,
}

pub(super) async fn customer(store: &Sql, id: &CustomerId) -> Result<Option<CustomerSheet>> {
    const WHAT: &str = "read a customer";
    let mut tx = store.read(WHAT).await?;
    let found: Option<(String, Option<i64>)> =
        db::query_as(CUSTOMER).bind(id.as_str()).fetch_optional(&mut tx).await.map_err(failed(WHAT))?;
    let Some((name, gone_at)) = found else { return Ok(None) };
    let sites: Vec<SheetRow> =
        db::query_as(CUSTOMER_SITES).bind(id.as_str()).fetch_all(&mut tx).await.map_err(failed(WHAT))?;
    tx.commit().await.map_err(failed(WHAT))?;
    let site = |row: SheetRow| {
        Ok(SiteLine {
            since: time(row.seen.first_seen_at)?,
            listed: row.listed != 0,
            unreadable_scans: count(row.unreadable_scans)?,
            seen: row.seen.observation()?,
        })
    };
    let sites = sites.into_iter().map(site).collect::<Result<_>>()?;
    Ok(Some(CustomerSheet { name, gone_at: gone_at.map(time).transpose()?, sites }))
}

#[derive(sqlx::FromRow)]
struct MailRow {
    customer_name: String,
    #[sqlx(flatten)]
    delivery: DeliveryRow,
}

pub(super) async fn mails(store: &Sql, filter: &MailFilter) -> Result<Vec<MailLine>> {
    const WHAT: &str = "list the mails";
    let mut tx = store.read(WHAT).await?;
    let found: Vec<MailRow> = db::query_as(MAILS)
        .bind(filter.before.map_or(i64::MAX, |id| id.0))
        .bind(json(&filter.states))
        .bind(i64::from(filter.limit))
        .fetch_all(&mut tx)
        .await
        .map_err(failed(WHAT))?;
    let ids = json(&found.iter().map(|row| row.delivery.id).collect::<Vec<_>>());
    let mut recipients = recipients_of(&mut tx, &ids, WHAT).await?;
    tx.commit().await.map_err(failed(WHAT))?;
    Ok(found
        .into_iter()
        .filter_map(|row| {
            let id = row.delivery.id;
            let recipients = recipients.remove(&id).unwrap_or_else(|| Ok(Vec::new()));
            let delivery = row.delivery.listed(recipients).inspect_err(|error| unlisted(id, error)).ok()?;
            Some(MailLine { customer_name: row.customer_name, delivery })
        })
        .collect())
}

pub(super) async fn counts_at(store: &Sql, at: Timestamp) -> Result<SiteCounts> {
    let query = db::query_as(COUNTS_AT).bind(millis(at)).fetch_one(&store.readers);
    rows::site_counts(query.await.map_err(failed("count the sites of a day"))?)
}

/// Moves are summed by the quarter of an hour: every civil day of every zone begins on one.
const QUARTER: i64 = 15 * 60 * 1000;

pub(super) async fn affected_moves(store: &Sql) -> Result<Vec<(Timestamp, i64)>> {
    let query = db::query_as(AFFECTED_MOVES).bind(QUARTER).fetch_all(&store.readers);
    let rows: Vec<(i64, i64)> = query.await.map_err(failed("read the course of the affected sites"))?;
    rows.into_iter().map(|(at, moved)| Ok((time(at)?, moved))).collect()
}

pub(super) async fn concerns(store: &Sql, unreadable_after: u32) -> Result<Concerns> {
    const WHAT: &str = "count what waits for a person";
    let query = db::query_scalar(UNREADABLE_COUNT).bind(i64::from(unreadable_after));
    let unreadable: i64 = query.fetch_one(&store.readers).await.map_err(failed(WHAT))?;
    Ok(Concerns { unreadable: count(unreadable)? })
}

type DeedRow = (i64, i64, Option<String>, Option<String>, Option<i64>, String, String);

pub(super) async fn deeds(store: &Sql, before: Option<i64>, limit: u32) -> Result<Vec<Deed>> {
    let query = db::query_as(DEEDS).bind(before.unwrap_or(i64::MAX)).bind(i64::from(limit));
    let rows: Vec<DeedRow> = query.fetch_all(&store.readers).await.map_err(failed("read what people did"))?;
    rows.into_iter()
        .map(|(id, at, customer, name, delivery, word, text)| {
            let customer = customer.zip(name).map(|(id, name)| Ok::<_, StoreError>((rows::customer(&id)?, name)));
            let (at, delivery) = (time(at)?, delivery.map(DeliveryId));
            Ok(Deed { id, at, customer: customer.transpose()?, delivery, word, text })
        })
        .collect()
}

pub(super) async fn note_asked(store: &Sql, customer: &CustomerId, by: &By) -> Result<()> {
    const WHAT: &str = "note who asked for a scan";
    let mut tx = store.write(WHAT).await?;
    let text = format!("a scan of this customer was asked for by {}", by.who);
    events::write(&mut tx, &[Event::of_customer(by.at, customer, "asked", text)], WHAT).await?;
    tx.commit().await.map_err(failed(WHAT))
}
