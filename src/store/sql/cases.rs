//! Cases with their sites, and what was told in them.
//!
//! Invariants: `told` is never stored, it is read from the deliveries; a case is written as a whole.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::campaign::CampaignId;
use crate::domain::case::{Case, CaseSite, CaseState, Evidence};
use crate::domain::site::{AuthMethod, CustomerId, ServerType, SiteName};

use super::super::{Result, StoreError};
use super::rows::{self, CaseRow, CaseSiteRow, ToldRow, json, millis};
use super::{Sql, Tx, db, failed};

pub(super) const OPEN_CASES: &str = "SELECT * FROM cases WHERE state = 'open' ORDER BY customer, campaign";

pub(super) const OPEN_SITES: &str = "SELECT s.* FROM cases AS c CROSS JOIN case_sites AS s \
     ON s.customer = c.customer AND s.campaign = c.campaign WHERE c.state = 'open'";

pub(super) const OPEN_TOLD: &str = "SELECT d.customer, d.campaign, d.kind, d.round, d.occasion, d.day, d.deadline, d.held \
     FROM cases AS c CROSS JOIN deliveries AS d ON d.customer = c.customer AND d.campaign = c.campaign \
     WHERE c.state = 'open' AND (d.state <> 'dropped' OR d.cancelled = 1) ORDER BY d.id";

pub(super) const CASES_OF: &str =
    "SELECT * FROM cases WHERE customer IN (SELECT value FROM json_each(?1)) ORDER BY customer, campaign";

pub(super) const SITES_OF: &str = "SELECT * FROM case_sites WHERE customer IN (SELECT value FROM json_each(?1))";

pub(super) const TOLD_OF: &str = "SELECT customer, campaign, kind, round, occasion, day, deadline, held FROM deliveries \
     WHERE customer IN (SELECT value FROM json_each(?1)) AND (state <> 'dropped' OR cancelled = 1) ORDER BY id";

pub(super) const UPSERT: &str = "INSERT INTO cases \
         (customer, campaign, reference, round, state, resolved_at, opened_at, round_at) \
     SELECT value ->> 0, value ->> 1, value ->> 2, CAST(value ->> 3 AS BIGINT), value ->> 4, CAST(value ->> 5 AS BIGINT), \
         CAST(value ->> 6 AS BIGINT), CAST(value ->> 7 AS BIGINT) \
     FROM jsonb_each(?1) WHERE true \
     ON CONFLICT (customer, campaign) DO UPDATE SET reference = excluded.reference, round = excluded.round, \
         state = excluded.state, resolved_at = excluded.resolved_at, opened_at = excluded.opened_at, \
         round_at = excluded.round_at";

pub(super) const CLEAR_SITES: &str = "DELETE FROM case_sites WHERE (customer, campaign) IN \
     (SELECT value ->> 0, value ->> 1 FROM jsonb_each(?1))";

pub(super) const INSERT_SITES: &str = "INSERT INTO case_sites \
         (customer, campaign, site, standing, since, clear_scans, absent_scans, \
          now_observed_at, now_server_type, now_auth_method, now_raw_server_type, now_raw_auth_method, \
          before_observed_at, before_server_type, before_auth_method, before_raw_server_type, before_raw_auth_method) \
     SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, CAST(value ->> 4 AS BIGINT), \
            CAST(value ->> 5 AS BIGINT), CAST(value ->> 6 AS BIGINT), CAST(value -> 7 ->> 0 AS BIGINT), \
            value -> 7 ->> 1, value -> 7 ->> 2, value -> 7 ->> 3, value -> 7 ->> 4, CAST(value -> 8 ->> 0 AS BIGINT), \
            value -> 8 ->> 1, value -> 8 ->> 2, value -> 8 ->> 3, value -> 8 ->> 4 \
     FROM jsonb_each(?1)";

/// Every open case. The number of statements does not depend on the number of cases.
pub(super) async fn open(store: &Sql) -> Result<Vec<Case>> {
    const WHAT: &str = "read the open cases";
    let mut tx = store.read(WHAT).await?;
    let open = open_in(&mut tx, WHAT).await?;
    tx.commit().await.map_err(failed(WHAT))?;
    Ok(open.into_values().collect())
}

/// The same, in a picture that is being taken.
pub(super) async fn open_in(tx: &mut Tx, what: &'static str) -> Result<BTreeMap<CaseId, Case>> {
    let cases = db::query_as(OPEN_CASES).fetch_all(&mut *tx).await.map_err(failed(what))?;
    let sites = db::query_as(OPEN_SITES).fetch_all(&mut *tx).await.map_err(failed(what))?;
    let told = db::query_as(OPEN_TOLD).fetch_all(&mut *tx).await.map_err(failed(what))?;
    assemble(cases, sites, told)
}

/// The cases of these customers; `ids` is a JSON list.
pub(super) async fn of(tx: &mut Tx, ids: &str, what: &'static str) -> Result<BTreeMap<CaseId, Case>> {
    let cases = db::query_as(CASES_OF).bind(ids).fetch_all(&mut *tx).await.map_err(failed(what))?;
    let sites = db::query_as(SITES_OF).bind(ids).fetch_all(&mut *tx).await.map_err(failed(what))?;
    let told = db::query_as(TOLD_OF).bind(ids).fetch_all(&mut *tx).await.map_err(failed(what))?;
    assemble(cases, sites, told)
}

/// Customer and campaign.
pub(super) type CaseId = (CustomerId, CampaignId);

fn assemble(cases: Vec<CaseRow>, sites: Vec<CaseSiteRow>, told: Vec<ToldRow>) -> Result<BTreeMap<CaseId, Case>> {
    let mut all = BTreeMap::new();
    for row in cases {
        let case = row.case()?;
        all.insert((case.customer.clone(), case.campaign.clone()), case);
    }
    let homeless = || StoreError::Corrupt("a site or a delivery without its case".to_owned());
    for row in sites {
        let id = (rows::customer(&row.customer)?, CampaignId(row.campaign.clone()));
        let name = rows::site(&row.site)?.ok_or_else(homeless)?;
        all.get_mut(&id).ok_or_else(homeless)?.sites.insert(name, row.site()?);
    }
    for row in told {
        let id = (rows::customer(&row.customer)?, CampaignId(row.campaign.clone()));
        all.get_mut(&id).ok_or_else(homeless)?.told.push(row.told()?);
    }
    Ok(all)
}

/// Writes cases as they stand, without `told`.
pub(super) async fn write(tx: &mut Tx, cases: &[&Case], what: &'static str) -> Result<()> {
    if cases.is_empty() {
        return Ok(());
    }
    let case_rows = json(&cases.iter().map(|case| case_row(case)).collect::<Vec<_>>());
    let site_rows: Vec<_> =
        cases.iter().flat_map(|case| case.sites.iter().map(|(name, site)| site_row(case, name, site))).collect();
    db::query(UPSERT).bind(&case_rows).execute(&mut *tx).await.map_err(failed(what))?;
    db::query(CLEAR_SITES).bind(&case_rows).execute(&mut *tx).await.map_err(failed(what))?;
    db::query(INSERT_SITES).bind(json(&site_rows)).execute(&mut *tx).await.map_err(failed(what))?;
    Ok(())
}

fn case_row(case: &Case) -> impl Serialize {
    let (state, resolved_at) = match case.state {
        CaseState::Open => ("open", None),
        CaseState::Resolved { at } => ("resolved", Some(millis(at))),
    };
    let key = (case.customer.as_str(), &case.campaign.0);
    (key.0, key.1, &case.reference.0, case.round, state, resolved_at, millis(case.opened_at), millis(case.round_at))
}

fn site_row(case: &Case, name: &SiteName, site: &CaseSite) -> impl Serialize {
    (
        case.customer.as_str(),
        &case.campaign.0,
        name.as_str(),
        site.standing.as_str(),
        millis(site.since),
        site.clear_scans,
        site.absent_scans,
        evidence(&site.now),
        evidence(&site.before),
    )
}

fn evidence(of: &Evidence) -> impl Serialize {
    let raw = &of.raw;
    let server_type = of.server_type.map(ServerType::as_str);
    let auth_method = of.auth_method.map(AuthMethod::as_str);
    (millis(of.observed_at), server_type, auth_method, &raw.server_type, &raw.auth_method)
}
