//! The fleet, and what looks at it change.
//!
//! Invariant: what one look changes of a customer is written with its version or not at all; one stale customer of a batch
//! leaves the others alone.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::domain::Timestamp;
use crate::domain::observation::{Observation, Reason};
use crate::domain::site::{AuthMethod, CustomerId, ServerType};

use super::super::listing::{self, Known, Listing, Sighting};
use super::super::{Committed, CustomerState, Entry, LookChange, Refused, Result, StoreError};
use super::events::{self, Event};
use super::rows::{self, ObservationRow, json, millis, observation_columns, site_text, time};
use super::{Sql, Tx, cases, db, failed, lock_customers};

/// Customers to one bound text: large enough to make statements few, small enough to keep memory small on both sides.
const CHUNK: usize = 5_000;

pub(super) const DIFFERS: &str = "SELECT EXISTS (SELECT 1 FROM jsonb_each(?1) AS j LEFT JOIN customers AS c ON c.id = j.value ->> 0 \
         WHERE c.id IS NULL OR c.gone_at IS NOT NULL OR c.name <> j.value ->> 1) \
     OR EXISTS (SELECT 1 FROM customers WHERE id > ?2 AND id <= ?3 AND gone_at IS NULL \
         AND id NOT IN (SELECT value ->> 0 FROM jsonb_each(?1)))";

pub(super) const ENTER: &str = "INSERT INTO customers (id, name, heard_at) \
     SELECT value ->> 0, value ->> 1, ?2 FROM jsonb_each(?1) WHERE true \
     ON CONFLICT (id) DO UPDATE SET name = excluded.name, gone_at = NULL \
     WHERE customers.name <> excluded.name OR customers.gone_at IS NOT NULL";

pub(super) const LEAVE: &str = "UPDATE customers SET gone_at = ?4 WHERE id > ?2 AND id <= ?3 AND gone_at IS NULL \
     AND id NOT IN (SELECT value ->> 0 FROM jsonb_each(?1))";

pub(super) const VERSIONS: &str = "SELECT id, version, refused_at, refused_entry FROM customers \
     WHERE id IN (SELECT value FROM json_each(?1))";

pub(super) const SITES_OF: &str = concat!(
    "SELECT s.listed, s.unreadable_scans, ",
    observation_columns!(),
    " FROM sites AS s CROSS JOIN observations AS o ON o.id = s.observation \
      WHERE s.customer IN (SELECT value FROM json_each(?1)) ORDER BY s.customer, s.site"
);

pub(super) const SEEN_AGAIN: &str = "UPDATE observations SET last_seen_at = CAST(j.value ->> 1 AS BIGINT), detail = j.value ->> 2 \
     FROM jsonb_each(?1) AS j WHERE observations.id = CAST(j.value ->> 0 AS BIGINT)";

pub(super) const SEEN_NEW: &str = "INSERT INTO observations (customer, site, verdict, reason, server_type, auth_method, \
         raw_server_type, raw_auth_method, detail, first_seen_at, last_seen_at) \
     SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7, \
            value ->> 8, CAST(value ->> 9 AS BIGINT), CAST(value ->> 9 AS BIGINT) \
     FROM jsonb_each(?1) ORDER BY key RETURNING id, customer, site";

pub(super) const LIST: &str = "INSERT INTO sites (customer, site, listed, observation, unreadable_scans) \
     SELECT value ->> 0, value ->> 1, 1, CAST(value ->> 2 AS BIGINT), CAST(value ->> 3 AS BIGINT) FROM jsonb_each(?1) WHERE true \
     ON CONFLICT (customer, site) DO UPDATE SET listed = 1, observation = excluded.observation, \
         unreadable_scans = excluded.unreadable_scans";

pub(super) const UNLIST: &str = "UPDATE sites SET listed = 0, unreadable_scans = 0 WHERE (customer, site) IN \
     (SELECT value ->> 0, value ->> 1 FROM jsonb_each(?1))";

pub(super) const PLACEHOLDER_GOES: &str =
    "DELETE FROM sites WHERE site = '' AND customer IN (SELECT value FROM json_each(?1))";

pub(super) const LOOKED: &str = "UPDATE customers SET version = version + 1, refused_at = CAST(j.value ->> 1 AS BIGINT), \
         refused_entry = j.value ->> 2 \
     FROM jsonb_each(?1) AS j WHERE customers.id = j.value ->> 0";

/// Writes only what differs: on most mornings the file is the one of yesterday, and then nobody has to wait for us either.
/// Goes through file and table side by side, some thousand customers at once, each such part in a transaction of its own:
/// a process that dies in between has noted the first ones, and the next time notes the others.
pub(super) async fn sync_customers(
    store: &Sql,
    entries: &mut (dyn Iterator<Item = Entry> + Send),
    at: Timestamp,
) -> Result<()> {
    const WHAT: &str = "take note of the customers";
    let mut after = String::new();
    loop {
        let chunk: Vec<Entry> = entries.take(CHUNK).collect();
        // Behind the file's last customer come those that left it, up to the last id there can be.
        let to = match chunk.last() {
            Some(last) if chunk.len() == CHUNK => last.id.to_string(),
            _ => char::MAX.to_string().repeat(CustomerId::MAX),
        };
        let rows = json(&chunk.iter().map(|entry| (entry.id.as_str(), entry.name.as_str())).collect::<Vec<_>>());
        let query = db::query_scalar(DIFFERS).bind(&rows).bind(&after).bind(&to);
        if query.fetch_one(&store.readers).await.map_err(failed(WHAT))? {
            let mut tx = store.write(WHAT).await?;
            db::query(ENTER).bind(&rows).bind(millis(at)).execute(&mut tx).await.map_err(failed(WHAT))?;
            let leave = db::query(LEAVE).bind(&rows).bind(&after).bind(&to).bind(millis(at));
            leave.execute(&mut tx).await.map_err(failed(WHAT))?;
            tx.commit().await.map_err(failed(WHAT))?;
        }
        if chunk.len() < CHUNK {
            return Ok(());
        }
        after = to;
    }
}

#[derive(sqlx::FromRow)]
struct VersionRow {
    id: String,
    version: i64,
    refused_at: Option<i64>,
    refused_entry: Option<String>,
}

#[derive(sqlx::FromRow)]
struct KnownRow {
    listed: i64,
    unreadable_scans: i64,
    #[sqlx(flatten)]
    seen: ObservationRow,
}

impl KnownRow {
    fn known(self) -> Result<Known> {
        Ok(Known {
            observation: self.seen.id,
            listed: self.listed != 0,
            unreadable_scans: rows::count(self.unreadable_scans)?,
            seen: self.seen.observation()?,
        })
    }
}

/// Reads them with a handful of statements, however many there are.
pub(super) async fn customer_states(store: &Sql, ids: &[CustomerId]) -> Result<Vec<CustomerState>> {
    const WHAT: &str = "read the customers' states";
    let asked = json(&ids.iter().map(CustomerId::as_str).collect::<Vec<_>>());
    let mut tx = store.read(WHAT).await?;
    let versions: Vec<VersionRow> =
        db::query_as(VERSIONS).bind(&asked).fetch_all(&mut tx).await.map_err(failed(WHAT))?;
    let cases = cases::of(&mut tx, &asked, WHAT).await?;
    let mut sites = known_sites(&mut tx, &asked, WHAT).await?;
    tx.commit().await.map_err(failed(WHAT))?;

    let mut states = BTreeMap::new();
    for row in versions {
        let id = rows::customer(&row.id)?;
        let refused = match (row.refused_at, row.refused_entry) {
            (Some(at), Some(fingerprint)) => Some(Refused { at: time(at)?, fingerprint }),
            _ => None,
        };
        let listed = |k: Known| (k.listed && k.seen.site.is_some()).then_some(k.seen);
        let sites = sites.remove(&id).unwrap_or_default().into_iter().filter_map(listed).collect();
        states.insert(id.clone(), CustomerState { id, version: row.version, refused, cases: Vec::new(), sites });
    }
    for ((customer, _), case) in cases {
        if let Some(state) = states.get_mut(&customer) {
            state.cases.push(case);
        }
    }
    Ok(ids.iter().filter_map(|id| states.remove(id)).collect())
}

async fn known_sites(tx: &mut Tx, ids: &str, what: &'static str) -> Result<HashMap<CustomerId, Vec<Known>>> {
    let rows: Vec<KnownRow> = db::query_as(SITES_OF).bind(ids).fetch_all(&mut *tx).await.map_err(failed(what))?;
    let mut sites: HashMap<CustomerId, Vec<Known>> = HashMap::new();
    for row in rows {
        let known = row.known()?;
        sites.entry(known.seen.customer.clone()).or_default().push(known);
    }
    Ok(sites)
}

const WRITE: &str = "write what looks changed";

/// Writes a batch with about a dozen statements, however many customers are in it.
pub(super) async fn commit(store: &Sql, changes: &[LookChange]) -> Result<Vec<Committed>> {
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    if changes.iter().any(|c| c.cases.iter().any(|case| case.customer != c.customer)) {
        return Err(StoreError::Corrupt("a look at one customer changes a case of another".to_owned()));
    }
    let asked = json(&changes.iter().map(|c| c.customer.as_str()).collect::<Vec<_>>());
    let mut tx = store.write_beside_mail(WRITE).await?;
    lock_customers(&mut tx, &asked, WRITE).await?;
    let versions: Vec<VersionRow> =
        db::query_as(VERSIONS).bind(&asked).fetch_all(&mut tx).await.map_err(failed(WRITE))?;
    let mut versions: HashMap<String, i64> = versions.into_iter().map(|row| (row.id, row.version)).collect();
    // Taken out with its first change: a second one of the same batch was decided on the same version and is stale.
    let (committed, fresh): (Vec<_>, Vec<_>) = changes
        .iter()
        .map(|c| match versions.get(c.customer.as_str()) {
            Some(version) if *version == c.version => {
                versions.remove(c.customer.as_str());
                (Committed::Done(None), Some(c))
            }
            _ => (Committed::Stale, None),
        })
        .unzip();
    let fresh: Vec<&LookChange> = fresh.into_iter().flatten().collect();
    write_sites(&mut tx, &fresh, &asked).await?;
    write_customers(&mut tx, &fresh).await?;
    tx.commit().await.map_err(failed(WRITE))?;
    Ok(committed)
}

async fn write_customers(tx: &mut Tx, fresh: &[&LookChange]) -> Result<()> {
    let looked = |c: &&LookChange| {
        let refused = c.refused.as_ref();
        (c.customer.as_str().to_owned(), refused.map(|r| millis(r.at)), refused.map(|r| r.fingerprint.clone()))
    };
    let rows: Vec<_> = fresh.iter().map(looked).collect();
    db::query(LOOKED).bind(json(&rows)).execute(&mut *tx).await.map_err(failed(WRITE))?;
    let all: Vec<_> = fresh.iter().flat_map(|c| &c.cases).collect();
    cases::write(tx, &all, WRITE).await?;
    let happened: Vec<_> = fresh
        .iter()
        .flat_map(|c| c.events.iter().map(|(campaign, event)| Event::of_case(c.at, &c.customer, campaign, event)))
        .collect();
    events::write(tx, &happened, WRITE).await
}

async fn write_sites(tx: &mut Tx, fresh: &[&LookChange], asked: &str) -> Result<()> {
    let known = known_sites(tx, asked, WRITE).await?;
    let nothing = Vec::new();
    let listings: Vec<(&CustomerId, Listing)> = fresh
        .iter()
        .map(|c| (&c.customer, listing::put(known.get(&c.customer).unwrap_or(&nothing), c.kind, &c.seen)))
        .collect();
    let sightings = || listings.iter().flat_map(|(_, l)| &l.sightings);
    let again: Vec<_> =
        sightings().filter_map(|s| Some((s.same_as?, millis(s.seen.observed_at), s.seen.detail.as_deref()))).collect();
    let new: Vec<_> = sightings().filter(|s| s.same_as.is_none()).map(|s| observation_row(&s.seen)).collect();
    let unlisted: Vec<_> =
        listings.iter().flat_map(|(c, l)| l.unlisted.iter().map(|s| (c.as_str(), s.as_str()))).collect();
    let placeholders: Vec<_> = listings.iter().filter(|(_, l)| l.placeholder_goes).map(|(c, _)| c.as_str()).collect();

    if !again.is_empty() {
        db::query(SEEN_AGAIN).bind(json(&again)).execute(&mut *tx).await.map_err(failed(WRITE))?;
    }
    let numbers: Vec<(i64, String, String)> = match new.is_empty() {
        true => Vec::new(),
        false => db::query_as(SEEN_NEW).bind(json(&new)).fetch_all(&mut *tx).await.map_err(failed(WRITE))?,
    };
    let numbers: HashMap<(String, String), i64> = numbers.into_iter().map(|(id, c, s)| ((c, s), id)).collect();
    let listed: Vec<_> = sightings().filter(|s| s.moved).filter_map(|s| site_row(s, &numbers)).collect();
    if !listed.is_empty() {
        db::query(LIST).bind(json(&listed)).execute(&mut *tx).await.map_err(failed(WRITE))?;
    }
    if !unlisted.is_empty() {
        db::query(UNLIST).bind(json(&unlisted)).execute(&mut *tx).await.map_err(failed(WRITE))?;
    }
    if !placeholders.is_empty() {
        db::query(PLACEHOLDER_GOES).bind(json(&placeholders)).execute(&mut *tx).await.map_err(failed(WRITE))?;
    }
    Ok(())
}

fn site_row(s: &Sighting, numbers: &HashMap<(String, String), i64>) -> Option<impl Serialize> {
    let (customer, site) = (s.seen.customer.as_str(), site_text(s.seen.site.as_ref()));
    let number = s.same_as.or_else(|| numbers.get(&(customer.to_owned(), site.to_owned())).copied())?;
    Some((customer.to_owned(), site.to_owned(), number, s.unreadable_scans))
}

fn observation_row(o: &Observation) -> impl Serialize {
    (
        o.customer.as_str(),
        site_text(o.site.as_ref()),
        o.verdict.as_str(),
        o.verdict.reason().map(Reason::as_str),
        o.server_type.map(ServerType::as_str),
        o.auth_method.map(AuthMethod::as_str),
        &o.raw.server_type,
        &o.raw.auth_method,
        &o.detail,
        millis(o.observed_at),
    )
}
