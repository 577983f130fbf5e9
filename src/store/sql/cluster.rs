//! Nodes, shares of a run, turns of the mail.
//!
//! All of it is written beside other writers: each statement changes rows of its own node, or one row under the condition
//! that it is still as it was (a share that is free or whose lease ran out, a turn that was not taken); shares are claimed
//! with `SKIP LOCKED`.

use std::collections::BTreeSet;

use async_trait::async_trait;
use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;

use crate::domain::Timestamp;
use crate::domain::observation::Reason;
use crate::domain::site::CustomerId;

use super::super::{
    Cluster, Guard, HostStanding, HostWord, NextShare, Node, Result, RunCounts, RunId, RunOutcome, Share, StoreError,
    Word,
};
use super::rows::{self, count, json, millis, time};
use super::{Engine, Sql, db, failed, runs};

/// Whether a row's owner is the node `?1` or one of its workers.
macro_rules! of_node {
    () => {
        "(owner = ?1 OR substr(owner, 1, length(?1) + 1) = ?1 || '/')"
    };
}

pub(super) const BEAT: &str = "INSERT INTO nodes (name, version, started_at, beat_at) VALUES (?1, ?2, ?3, ?4) \
     ON CONFLICT (name) DO UPDATE SET beat_at = excluded.beat_at, resting = 0";
pub(super) const REST: &str = "INSERT INTO nodes (name, version, started_at, beat_at, resting) VALUES (?1, ?2, ?3, ?4, 1) \
     ON CONFLICT (name) DO UPDATE SET beat_at = excluded.beat_at, resting = 1";
pub(super) const IN_FLIGHT: &str = concat!(
    "SELECT EXISTS (SELECT 1 FROM deliveries WHERE owner IS NOT NULL AND ",
    of_node!(),
    " AND state = 'sending')"
);
pub(super) const KEEP_RUNS: &str =
    "UPDATE runs SET lease_until = ?3 WHERE finished_at IS NULL AND owner = ?1 AND lease_until > ?2";
pub(super) const KEEP_SHARES: &str = "UPDATE shares SET lease_until = ?3 WHERE run IN (SELECT id FROM runs WHERE finished_at IS NULL) \
     AND done_at IS NULL AND owner = ?1 AND lease_until > ?2";
pub(super) const KEEP_DELIVERIES: &str = concat!(
    "UPDATE deliveries SET lease_until = ?3 WHERE owner IS NOT NULL AND ",
    of_node!(),
    " AND lease_until > ?2 AND lease_until < ?3"
);
pub(super) const KEEP_OPERATOR_MAILS: &str = concat!(
    "UPDATE operator_mails SET lease_until = ?3 WHERE owner IS NOT NULL AND ",
    of_node!(),
    " AND lease_until > ?2 AND lease_until < ?3"
);
pub(super) const FORGET_NODES: &str = "DELETE FROM nodes WHERE beat_at < ?1";
pub(super) const NODES: &str =
    "SELECT name, version, started_at, beat_at, resting FROM nodes ORDER BY beat_at DESC, name";
pub(super) const LEAVE: &str = "DELETE FROM nodes WHERE name = ?1";
pub(super) const LEAVE_SHARES: &str = "UPDATE shares SET owner = NULL, lease_until = NULL \
     WHERE run IN (SELECT id FROM runs WHERE finished_at IS NULL) AND done_at IS NULL AND owner = ?1";
pub(super) const LEAVE_DELIVERIES: &str = concat!(
    "UPDATE deliveries SET owner = NULL, lease_until = NULL WHERE owner IS NOT NULL AND state = 'queued' AND ",
    of_node!()
);
pub(super) const PUT_SHARES: &str = "INSERT INTO shares (run, number, customers) \
     SELECT ?1, ?2 + key, value ->> 0 FROM json_each(?3)";
pub(super) const OPEN_SHARES: &str = "UPDATE runs SET fleet = ?2 WHERE id = ?1 AND finished_at IS NULL";
pub(super) const CLAIM_SHARE: &str = "UPDATE shares SET owner = ?2, lease_until = ?4 WHERE run = ?1 AND number = (\
         SELECT s.number FROM shares AS s JOIN runs AS r ON r.id = s.run AND r.finished_at IS NULL \
         WHERE s.run = ?1 AND s.done_at IS NULL AND (s.owner IS NULL OR s.lease_until <= ?3) \
         ORDER BY s.number LIMIT 1 /*postgres: FOR NO KEY UPDATE OF s SKIP LOCKED*/) RETURNING number, customers";
/// In the order of an index that holds only those that are left, so that nobody walks those that are done.
pub(super) const SHARES_LEFT: &str = "SELECT EXISTS (SELECT 1 FROM (SELECT s.number FROM shares AS s \
     WHERE s.run = ?1 AND s.done_at IS NULL AND EXISTS (SELECT 1 FROM runs AS r WHERE r.id = ?1 AND r.finished_at IS NULL) \
     ORDER BY s.number LIMIT 1) AS one)";
pub(super) const HELD_SHARES: &str =
    "SELECT number FROM shares WHERE run = ?1 AND owner = ?2 AND lease_until > ?3 AND done_at IS NULL";
pub(super) const FINISH_SHARE: &str = "UPDATE shares SET done_at = ?4, owner = NULL, lease_until = NULL \
     WHERE run = ?1 AND number = ?2 AND owner = ?3 AND done_at IS NULL";
pub(super) const FREE_SHARES: &str = "UPDATE shares SET owner = NULL, lease_until = NULL \
     WHERE run = ?1 AND owner = ?2 AND done_at IS NULL";
pub(super) const ADOPT_RUN: &str = "UPDATE runs SET owner = ?2, lease_until = ?4 \
     WHERE id = ?1 AND finished_at IS NULL AND fleet IS NOT NULL AND lease_until <= ?3";
pub(super) const NOTE_PART: &str = "INSERT INTO parts (run, owner, report) VALUES (?1, ?2, ?3) \
     ON CONFLICT (run, owner) DO UPDATE SET report = excluded.report";
pub(super) const PARTS: &str = "SELECT report FROM parts WHERE run = ?1 ORDER BY owner";
pub(super) const NOTE_LOGONS: &str = "UPDATE runs SET refused_row = CASE WHEN ?2 THEN 0 ELSE refused_row END + ?3 \
     WHERE id = ?1 RETURNING refused_row, stopped";
pub(super) const STOP_RUN: &str = "UPDATE runs SET stopped = ?2 WHERE id = ?1 AND stopped IS NULL";
pub(super) const SCANNED_SINCE: &str =
    "SELECT id FROM customers WHERE id IN (SELECT value FROM json_each(?1)) AND scanned_at >= ?2";
pub(super) const NEWLY_AFFECTED: &str = "SELECT count(DISTINCT c.customer) FROM cases AS c INDEXED BY cases_round WHERE c.round_at >= ?1 \
     AND EXISTS (SELECT 1 FROM case_sites AS s WHERE s.customer = c.customer AND s.campaign = c.campaign \
                 AND s.standing IN ('affected', 'consent_missing'))";
pub(super) const FIRST_TURN: &str = "INSERT INTO turns (name, next_at) \
     SELECT 'mail', coalesce((SELECT max(started_at) FROM attempts), 0) + ?1 WHERE true ON CONFLICT (name) DO NOTHING";
pub(super) const NEXT_TURN: &str = "SELECT next_at FROM turns WHERE name = 'mail'";
/// A next turn further ahead than any that was ever given is a clock that was set back: one interval is enough then.
pub(super) const TAKE_TURN: &str = "UPDATE turns SET next_at = ?2 + CASE WHEN next_at < ?1 THEN ?1 \
         WHEN next_at > CAST(?1 AS BIGINT) + ?2 + ?3 THEN CAST(?1 AS BIGINT) + ?2 ELSE next_at END \
     WHERE name = 'mail' AND (next_at <= CAST(?1 AS BIGINT) + ?3 OR next_at > CAST(?1 AS BIGINT) + ?2 + ?3) \
     RETURNING next_at - ?2";
pub(super) const TELL_HOST: &str = "INSERT INTO hosts (scope, host, told_at, until, probes, reason, detail) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (scope, host) DO UPDATE SET told_at = excluded.told_at, \
     until = excluded.until, probes = excluded.probes, reason = excluded.reason, detail = excluded.detail \
     WHERE hosts.told_at <= excluded.told_at";
pub(super) const FORGET_HOSTS: &str = "DELETE FROM hosts WHERE told_at < ?1";
pub(super) const HOST_WORDS: &str = "SELECT host, told_at, until, probes, reason, detail FROM hosts \
     WHERE scope = ?1 AND told_at >= ?2 ORDER BY host";

/// How long a node that is gone is remembered, for `kigen status`.
const REMEMBERED: TimeDelta = TimeDelta::days(7);

/// Shares that are written with one statement.
const CHUNK: usize = 500;

#[derive(sqlx::FromRow)]
struct NodeRow {
    name: String,
    version: String,
    started_at: i64,
    beat_at: i64,
    resting: i64,
}

impl NodeRow {
    fn node(self) -> Result<Node> {
        let (started_at, beat_at) = (time(self.started_at)?, time(self.beat_at)?);
        Ok(Node { name: self.name, version: self.version, started_at, beat_at, resting: self.resting == 1 })
    }
}

#[derive(sqlx::FromRow)]
struct HostRow {
    host: String,
    told_at: i64,
    until: Option<i64>,
    probes: i64,
    reason: Option<String>,
    detail: Option<String>,
}

impl HostRow {
    fn word(self) -> Result<HostWord> {
        let standing = match (self.until, self.reason, self.detail) {
            (None, None, None) => HostStanding::Well,
            (Some(until), None, None) => HostStanding::Paused { until: time(until)?, probes: count(self.probes)? },
            (None, Some(reason), Some(detail)) => {
                let Some(reason) = Reason::parse(&reason) else {
                    return Err(StoreError::Corrupt(format!("a host given up for {reason:?}")));
                };
                HostStanding::GivenUp { reason, detail }
            }
            _ => return Err(StoreError::Corrupt("a host that is paused and given up".to_owned())),
        };
        Ok(HostWord { host: self.host, told_at: time(self.told_at)?, standing })
    }
}

/// What was said of a host is of no use to a later run.
const HOSTS_REMEMBERED: TimeDelta = TimeDelta::days(2);

#[async_trait]
impl Cluster for Sql {
    fn shared(&self) -> bool {
        Self::shared(self)
    }

    async fn beat(&self, node: &Node, alive_since: Timestamp, lease_until: Timestamp) -> Result<Vec<Node>> {
        const WHAT: &str = "give a sign of life";
        let (now, until) = (millis(node.beat_at), millis(lease_until));
        let mut tx = self.write_beside(WHAT).await?;
        let beat = db::query(BEAT).bind(&node.name).bind(&node.version).bind(millis(node.started_at)).bind(now);
        beat.execute(&mut tx).await.map_err(failed(WHAT))?;
        for keep in [KEEP_RUNS, KEEP_SHARES, KEEP_DELIVERIES, KEEP_OPERATOR_MAILS] {
            let query = db::query(keep).bind(&node.name).bind(now).bind(until);
            query.execute(&mut tx).await.map_err(failed(WHAT))?;
        }
        db::query(FORGET_NODES).bind(millis(node.beat_at - REMEMBERED)).execute(&mut tx).await.map_err(failed(WHAT))?;
        tx.commit().await.map_err(failed(WHAT))?;
        Ok(self.nodes().await?.into_iter().filter(|node| node.beat_at > alive_since).collect())
    }

    async fn rest(&self, node: &Node) -> Result<()> {
        const WHAT: &str = "give a sign of life at rest";
        let query = db::query(REST).bind(&node.name).bind(&node.version).bind(millis(node.started_at));
        self.change_at_any_schema(WHAT, query.bind(millis(node.beat_at))).await
    }

    async fn upgrade_waits(&self) -> Result<bool> {
        match &self.engine {
            Engine::Sqlite(_) => Ok(false),
            Engine::Postgres(engine) => engine.upgrade_waits().await,
        }
    }

    async fn in_flight(&self, name: &str) -> Result<bool> {
        let query = db::query_scalar(IN_FLIGHT).bind(name).fetch_one(&self.readers);
        query.await.map_err(failed("ask whether a mail is in flight"))
    }

    async fn listen(&self, wake: &(dyn Fn(Word) + Send + Sync), stop: &CancellationToken) {
        if let Engine::Postgres(engine) = &self.engine {
            engine.listen(wake, stop).await;
        }
    }

    async fn leave(&self, name: &str) -> Result<()> {
        const WHAT: &str = "leave the other nodes";
        let mut tx = match self.write_beside(WHAT).await {
            Err(StoreError::Newer { .. }) => return self.change_at_any_schema(WHAT, db::query(LEAVE).bind(name)).await,
            tx => tx?,
        };
        for leave in [LEAVE, LEAVE_SHARES, LEAVE_DELIVERIES] {
            db::query(leave).bind(name).execute(&mut tx).await.map_err(failed(WHAT))?;
        }
        tx.commit().await.map_err(failed(WHAT))
    }

    async fn nodes(&self) -> Result<Vec<Node>> {
        let query = db::query_as(NODES).fetch_all(&self.readers);
        let rows: Vec<NodeRow> = query.await.map_err(failed("list the nodes"))?;
        rows.into_iter().map(NodeRow::node).collect()
    }

    async fn put_shares(&self, run: RunId, fleet: &str, shares: &[Vec<CustomerId>]) -> Result<()> {
        const WHAT: &str = "share a run out";
        let mut tx = self.write_beside(WHAT).await?;
        for (n, some) in shares.chunks(CHUNK).enumerate() {
            let lists: Vec<_> =
                some.iter().map(|share| [json(&share.iter().map(CustomerId::as_str).collect::<Vec<_>>())]).collect();
            let first = i64::try_from(n * CHUNK).unwrap_or(i64::MAX);
            let query = db::query(PUT_SHARES).bind(run.0).bind(first).bind(json(&lists));
            query.execute(&mut tx).await.map_err(failed(WHAT))?;
        }
        db::query(OPEN_SHARES).bind(run.0).bind(fleet).execute(&mut tx).await.map_err(failed(WHAT))?;
        tx.commit().await.map_err(failed(WHAT))
    }

    async fn claim_share(&self, run: RunId, owner: &str, now: Timestamp, lease_until: Timestamp) -> Result<NextShare> {
        const WHAT: &str = "take a share of a run";
        let mut tx = self.write_beside(WHAT).await?;
        let query = db::query_as(CLAIM_SHARE).bind(run.0).bind(owner).bind(millis(now)).bind(millis(lease_until));
        let row: Option<(i64, String)> = query.fetch_optional(&mut tx).await.map_err(failed(WHAT))?;
        let left: bool = db::query_scalar(SHARES_LEFT).bind(run.0).fetch_one(&mut tx).await.map_err(failed(WHAT))?;
        tx.commit().await.map_err(failed(WHAT))?;
        let Some((number, customers)) = row else { return Ok(if left { NextShare::Others } else { NextShare::None }) };
        let ids: Vec<String> = serde_json::from_str(&customers)
            .map_err(|_| StoreError::Corrupt("a share that is no list of customers".to_owned()))?;
        let customers = ids.iter().map(|id| rows::customer(id)).collect::<Result<_>>()?;
        Ok(NextShare::Ours(Share { number, customers }))
    }

    async fn held_shares(&self, run: RunId, owner: &str, now: Timestamp) -> Result<Vec<i64>> {
        let query = db::query_scalar(HELD_SHARES).bind(run.0).bind(owner).bind(millis(now)).fetch_all(&self.readers);
        query.await.map_err(failed("ask which shares are ours"))
    }

    async fn finish_share(&self, run: RunId, number: i64, owner: &str, now: Timestamp) -> Result<bool> {
        let query = db::query(FINISH_SHARE).bind(run.0).bind(number).bind(owner).bind(millis(now));
        Ok(self.change_beside("finish a share of a run", query).await? == 1)
    }

    async fn free_shares(&self, run: RunId, owner: &str) -> Result<()> {
        self.change_beside("give shares back", db::query(FREE_SHARES).bind(run.0).bind(owner)).await?;
        Ok(())
    }

    async fn adopt_run(&self, run: RunId, owner: &str, now: Timestamp, lease_until: Timestamp) -> Result<()> {
        let query = db::query(ADOPT_RUN).bind(run.0).bind(owner).bind(millis(now)).bind(millis(lease_until));
        self.change_beside("take over a run", query).await?;
        Ok(())
    }

    async fn close_run(
        &self,
        run: RunId,
        outcome: RunOutcome,
        counts: RunCounts,
        detail: Option<&str>,
        now: Timestamp,
    ) -> Result<bool> {
        runs::finish(self, run, outcome, counts, detail, now).await
    }

    async fn note_part(&self, run: RunId, taker: &str, report: &str) -> Result<()> {
        let query = db::query(NOTE_PART).bind(run.0).bind(taker).bind(report);
        self.change_beside("note a part of a run", query).await?;
        Ok(())
    }

    async fn parts(&self, run: RunId) -> Result<Vec<String>> {
        let query = db::query_scalar(PARTS).bind(run.0).fetch_all(&self.readers);
        query.await.map_err(failed("read the parts of a run"))
    }

    async fn note_logons(&self, run: RunId, accepted: bool, refused: u32) -> Result<Guard> {
        const WHAT: &str = "note logons";
        let mut tx = self.write_beside(WHAT).await?;
        let query = db::query_as(NOTE_LOGONS).bind(run.0).bind(accepted).bind(refused);
        let (refused_row, stopped): (i64, Option<String>) = query.fetch_one(&mut tx).await.map_err(failed(WHAT))?;
        tx.commit().await.map_err(failed(WHAT))?;
        Ok(Guard { refused_row: count(refused_row)?, stopped })
    }

    async fn stop_run(&self, run: RunId, why: &str) -> Result<()> {
        self.change_beside("stop a run", db::query(STOP_RUN).bind(run.0).bind(why)).await?;
        Ok(())
    }

    async fn scanned_since(&self, customers: &[CustomerId], since: Timestamp) -> Result<BTreeSet<CustomerId>> {
        let ids = json(&customers.iter().map(CustomerId::as_str).collect::<Vec<_>>());
        let query = db::query_scalar(SCANNED_SINCE).bind(ids).bind(millis(since)).fetch_all(&self.readers);
        let ids: Vec<String> = query.await.map_err(failed("ask who was scanned"))?;
        ids.iter().map(|id| rows::customer(id)).collect()
    }

    async fn newly_affected(&self, since: Timestamp) -> Result<u64> {
        let query = db::query_scalar(NEWLY_AFFECTED).bind(millis(since)).fetch_one(&self.readers);
        count(query.await.map_err(failed("count the newly affected"))?)
    }

    async fn next_turn(&self) -> Result<Option<Timestamp>> {
        let query = db::query_scalar(NEXT_TURN).fetch_optional(&self.readers);
        let at: Option<i64> = query.await.map_err(failed("ask whose turn it is"))?;
        at.map(time).transpose()
    }

    async fn take_turn(&self, now: Timestamp, interval: TimeDelta, patience: TimeDelta) -> Result<Option<Timestamp>> {
        const WHAT: &str = "take a turn";
        // Rounded up: 7/s must not become eight in some second.
        let interval = interval.num_milliseconds() + i64::from(interval.subsec_nanos() % 1_000_000 != 0);
        let mut tx = self.write_beside(WHAT).await?;
        db::query(FIRST_TURN).bind(interval).execute(&mut tx).await.map_err(failed(WHAT))?;
        let query = db::query_scalar(TAKE_TURN).bind(millis(now)).bind(interval).bind(patience.num_milliseconds());
        let at: Option<i64> = query.fetch_optional(&mut tx).await.map_err(failed(WHAT))?;
        tx.commit().await.map_err(failed(WHAT))?;
        at.map(time).transpose()
    }

    async fn tell_host(&self, scope: &str, word: &HostWord) -> Result<()> {
        const WHAT: &str = "say how a host stands";
        let (until, probes, reason, detail) = match &word.standing {
            HostStanding::Well => (None, 0, None, None),
            HostStanding::Paused { until, probes } => (Some(millis(*until)), *probes, None, None),
            HostStanding::GivenUp { reason, detail } => (None, 0, Some(reason.as_str()), Some(detail.as_str())),
        };
        let mut tx = self.write_beside(WHAT).await?;
        let query = db::query(TELL_HOST).bind(scope).bind(&word.host).bind(millis(word.told_at)).bind(until);
        query.bind(probes).bind(reason).bind(detail).execute(&mut tx).await.map_err(failed(WHAT))?;
        let query = db::query(FORGET_HOSTS).bind(millis(word.told_at - HOSTS_REMEMBERED));
        query.execute(&mut tx).await.map_err(failed(WHAT))?;
        tx.commit().await.map_err(failed(WHAT))
    }

    async fn host_words(&self, scope: &str, since: Timestamp) -> Result<Vec<HostWord>> {
        let query = db::query_as(HOST_WORDS).bind(scope).bind(millis(since)).fetch_all(&self.readers);
        let rows: Vec<HostRow> = query.await.map_err(failed("ask how the hosts stand"))?;
        rows.into_iter().map(HostRow::word).collect()
    }
}

impl Sql {
    /// Writes one statement that is right whatever the schema is.
    async fn change_at_any_schema(&self, what: &'static str, query: db::Query<'_>) -> Result<()> {
        let mut tx = match &self.engine {
            Engine::Sqlite(engine) => engine.write(what).await?,
            Engine::Postgres(engine) => engine.write_at_any_schema(what).await?,
        };
        query.execute(&mut tx).await.map_err(failed(what))?;
        tx.commit().await.map_err(failed(what))
    }
}
