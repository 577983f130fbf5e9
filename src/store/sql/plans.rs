//! Every statement is one that both databases accept, and on SQLite none of them walks a table that grows with the fleet
//! without reason. (PostgreSQL plans by its statistics; the indices are the same.)

use std::path::Path;

use sqlx::{AssertSqlSafe, Connection, Row};

use super::super::sqlite as fence;
use super::{
    Postgres, Sqlite, alerts, attempts, cases, cluster, contacts, dashboard, desk, dialect, events, flights, looks,
    outbox, passes, reading, reports, runs, scanning, sets,
};
use crate::config::PostgresState;

#[path = "../../../tests/common/postgres.rs"]
pub(in crate::store) mod server;

/// A statement, and the walks it may do with the reason.
type Case = (&'static str, &'static str, &'static [&'static str]);

/// Nothing but searches (and the bound lists).
const SEARCHES: &[&str] = &[];

const STATEMENTS: &[Case] = &[
    ("a part of the customers file is compared with its customers", looks::DIFFERS, SEARCHES),
    ("customers enter", looks::ENTER, SEARCHES),
    ("customers leave", looks::LEAVE, SEARCHES),
    ("versions of a batch", looks::VERSIONS, SEARCHES),
    ("sites of a batch", looks::SITES_OF, SEARCHES),
    ("the same seen again", looks::SEEN_AGAIN, SEARCHES),
    ("something new seen", looks::SEEN_NEW, SEARCHES),
    ("sites are listed", looks::LIST, SEARCHES),
    ("sites are unlisted", looks::UNLIST, SEARCHES),
    ("the row without a site goes", looks::PLACEHOLDER_GOES, SEARCHES),
    ("customers were looked at", looks::LOOKED, SEARCHES),
    ("all open cases, by the index of the open ones", cases::OPEN_CASES, &["SCAN cases USING INDEX cases_open"]),
    ("their sites", cases::OPEN_SITES, &["SCAN c USING COVERING INDEX cases_open"]),
    ("what was told in them", cases::OPEN_TOLD, &["SCAN c USING COVERING INDEX cases_open"]),
    ("cases of a batch", cases::CASES_OF, SEARCHES),
    ("their sites", cases::SITES_OF, SEARCHES),
    ("what was told in them", cases::TOLD_OF, SEARCHES),
    ("cases are written", cases::UPSERT, SEARCHES),
    ("their sites are cleared", cases::CLEAR_SITES, SEARCHES),
    ("their sites are written", cases::INSERT_SITES, SEARCHES),
    ("events are written", events::INSERT, SEARCHES),
    ("versions of those a pass decided on", passes::VERSIONS, SEARCHES),
    ("their next versions", passes::NEXT_VERSIONS, SEARCHES),
    // SQLite skips that walk as long as no deferred foreign key is open, and we have none.
    ("deliveries are queued", passes::QUEUE, &["SCAN events"]),
    ("their envelopes", passes::ADDRESS, SEARCHES),
    ("their bytes", passes::STORE_RAW, SEARCHES),
    (
        "a claim walks the queue in its order, not the deliveries",
        outbox::CLAIMABLE,
        &["SCAN d USING COVERING INDEX deliveries_queue"],
    ),
    ("those are claimed", outbox::CLAIM, SEARCHES),
    ("claimed deliveries", outbox::CLAIMED, SEARCHES),
    ("a message is replaced", outbox::REPLACE, SEARCHES),
    ("its bytes are", outbox::REPLACE_RAW, SEARCHES),
    ("an attempt begins", attempts::BEGIN, SEARCHES),
    ("its row", attempts::OPEN_ATTEMPT, SEARCHES),
    ("a claim is given back", attempts::GIVE_BACK, SEARCHES),
    ("a delivery is settled", attempts::SETTLE, SEARCHES),
    ("its attempt ends", attempts::END_ATTEMPT, SEARCHES),
    ("a lost attempt ends", attempts::END_LOST_ATTEMPT, SEARCHES),
    ("its recipients are settled", attempts::SETTLE_RECIPIENTS, SEARCHES),
    ("several attempts begin", sets::BEGIN_SET, SEARCHES),
    ("their rows", sets::OPEN_ATTEMPT_SET, SEARCHES),
    ("several claims are given back", sets::GIVE_BACK_SET, SEARCHES),
    ("several deliveries are settled", sets::SETTLE_SET, SEARCHES),
    ("their attempts end", sets::END_ATTEMPT_SET, SEARCHES),
    ("their recipients are settled", sets::SETTLE_RECIPIENTS_SET, SEARCHES),
    ("a claim is released", outbox::RELEASE, SEARCHES),
    ("a delivery is dropped", outbox::DROP, SEARCHES),
    ("a delivery is set aside", outbox::SET_ASIDE, SEARCHES),
    ("the others in flight are left", attempts::LEAVE_ORPHANS, SEARCHES),
    ("its attempt was not heard of", attempts::END_UNHEARD, SEARCHES),
    ("customers are locked", super::LOCK_CUSTOMERS, SEARCHES),
    ("a delivery's customer", outbox::CUSTOMER_OF, SEARCHES),
    ("customers of deliveries change", outbox::CHANGED, SEARCHES),
    ("orphans, by state", attempts::TAKE_ORPHANS, SEARCHES),
    ("whether there are any", attempts::ORPHANS_WAIT, SEARCHES),
    ("claims are freed, by state", outbox::FREE_CLAIMS, SEARCHES),
    (
        "the next instant walks the queue",
        outbox::NEXT_DUE,
        &["SCAN d USING COVERING INDEX deliveries_queue", "SEARCH d"],
    ),
    ("the last attempt, at the index's end", attempts::LAST_ATTEMPT, SEARCHES),
    ("a case's earlier mails", outbox::THREAD, SEARCHES),
    ("a listing may show all, newest first", desk::LIST, &["SCAN d"]),
    ("recipients of deliveries", desk::RECIPIENTS, SEARCHES),
    ("attempts of a delivery", desk::ATTEMPTS, SEARCHES),
    ("counts by state", desk::COUNTS, &["SCAN deliveries USING COVERING INDEX deliveries_state"]),
    ("deliveries acted on", desk::STANDING, SEARCHES),
    ("they are approved", desk::APPROVE, SEARCHES),
    ("they are retried", desk::RETRY, SEARCHES),
    ("their recipients are", desk::ASK_ALL_AGAIN, SEARCHES),
    ("they are cancelled", desk::CANCEL, SEARCHES),
    ("the holds, three at most", desk::HOLDS, &["SCAN holds"]),
    ("a hold is set", desk::SET_HOLD, SEARCHES),
    ("the holds are cleared", desk::CLEAR_HOLDS, &["SCAN holds"]),
    ("what is held for them", desk::HELD_FOR_THEM, SEARCHES),
    ("whether a run is done", runs::DONE_ALREADY, SEARCHES),
    ("the unfinished run", runs::UNFINISHED, SEARCHES),
    ("it lapses", runs::LAPSE, SEARCHES),
    ("a run begins", runs::BEGIN, SEARCHES),
    ("a run lives", runs::EXTEND, SEARCHES),
    ("a run ends", runs::FINISH, SEARCHES),
    ("unfinished runs, by their index", runs::INTERRUPT, &["SCAN runs USING INDEX runs_alive"]),
    ("the last run", runs::LAST, SEARCHES),
    ("the last good run", runs::LAST_DONE, SEARCHES),
    ("the last scheduled run", runs::LAST_SCHEDULED, SEARCHES),
    ("runs, newest first, up to a limit", runs::LIST, &["SCAN runs"]),
    ("a memo", runs::MEMO, SEARCHES),
    ("a memo is written", runs::SET_MEMO, SEARCHES),
    ("whose state it is", fence::MARK, SEARCHES),
    ("it is ours from now on", fence::ADOPT, SEARCHES),
    ("copies until now are old", fence::ADVANCE, SEARCHES),
    ("all sites are listed", reading::SITES, &["SCAN c"]),
    ("all sites are counted", reading::SITE_COUNTS, &["SCAN c"]),
    ("all customers are counted", reading::CUSTOMER_COUNT, &["SCAN customers"]),
    ("whether a customer is known", reading::HEARD_OF, SEARCHES),
    ("a customer's observations", reading::OBSERVATIONS, SEARCHES),
    ("a customer's events", reading::EVENTS, SEARCHES),
    ("a customer's attempts", reading::ATTEMPTS, SEARCHES),
    ("alerts are raised", alerts::RAISE, SEARCHES),
    ("alerts are over", alerts::OVER, SEARCHES),
    ("what is not told, by its index", alerts::UNTOLD_ALERTS, &["SCAN a USING INDEX alerts_untold"]),
    ("alerts of a cause", alerts::ALERTS_OF, SEARCHES),
    ("they are told", alerts::TELL, SEARCHES),
    ("a mail to the operators is queued", alerts::QUEUE_OPERATOR_MAIL, SEARCHES),
    ("whether one waits", alerts::OPERATOR_MAIL_WAITS, SEARCHES),
    ("a sender's lease runs out", alerts::LAPSE_OPERATOR_MAILS, SEARCHES),
    ("what a dead process was sending", alerts::FREE_OPERATOR_MAILS, SEARCHES),
    ("a mail to the operators is claimed", alerts::CLAIM_OPERATOR_MAIL, SEARCHES),
    ("its attempt ends", alerts::RECORD_OPERATOR_MAIL, SEARCHES),
    ("mails to the operators, newest first, up to a limit", alerts::OPERATOR_MAILS, &["SCAN operator_mails"]),
    (
        "their counts by state",
        alerts::OPERATOR_MAIL_COUNTS,
        &["SCAN operator_mails USING COVERING INDEX operator_mails_state"],
    ),
    ("whom nobody has told, from the open cases", alerts::UNTOLD_CUSTOMERS, &["SCAN c USING"]),
    ("who left with an open case, from the open cases", alerts::LEFT_OPEN, &["SCAN c USING"]),
    ("the day's numbers are noted", alerts::NOTE_DAY, SEARCHES),
    ("the newest days, up to a limit", alerts::DAYS, &["SCAN days", "SCAN newest"]),
    ("what happened since, by its index", alerts::HAPPENED, SEARCHES),
    ("to whom, by its index", alerts::HAPPENED_TO, SEARCHES),
    ("the dead contacts, few", contacts::DEAD, &["SCAN dead_contacts"]),
    ("a delivery by its Message-ID", contacts::OF_MESSAGE_ID, SEARCHES),
    ("a case's deliveries", contacts::OF_REFERENCE, SEARCHES),
    ("a report is dealt with", contacts::REPORT, SEARCHES),
    ("what it is about", contacts::ABOUT, SEARCHES),
    ("a contact dies", contacts::DIES, SEARCHES),
    ("a contact lives again", contacts::LIVES, SEARCHES),
    ("a mail came back", contacts::CAME_BACK, SEARCHES),
    ("resolved cases, each asked for a notice of the day", reports::RESOLVED_TOLD, &["SCAN c"]),
    ("the next customers to plan, by their ids", reports::TO_PLAN, SEARCHES),
    ("a report may show all that was sent", reports::PROOFS, &["SCAN d"]),
    ("attempts of what was sent", reports::PROOF_ATTEMPTS, SEARCHES),
    ("its bytes", reports::PROOF_BYTES, SEARCHES),
    ("turns of a scan, page by page", scanning::TURNS, &["SCAN c"]),
    ("who was scanned", scanning::SCANNED, SEARCHES),
    ("the first run of a schedule time", scanning::BEGUN_FIRST, SEARCHES),
    ("both ends of the observations", scanning::OBSERVATION_NUMBERS, SEARCHES),
    ("a window of them is pruned", scanning::PRUNE, SEARCHES),
    ("a sign of life", cluster::BEAT, SEARCHES),
    ("a sign of life at rest", cluster::REST, SEARCHES),
    ("whether a mail is in flight", cluster::IN_FLIGHT, SEARCHES),
    ("a word of a host is said", cluster::TELL_HOST, SEARCHES),
    ("old words are forgotten, a few", cluster::FORGET_HOSTS, &["SCAN hosts"]),
    ("what is said of hosts", cluster::HOST_WORDS, SEARCHES),
    ("its runs live, by the index of the unfinished", cluster::KEEP_RUNS, &["SCAN runs USING INDEX runs_alive"]),
    ("its shares do", cluster::KEEP_SHARES, &["SCAN shares", "SCAN runs USING"]),
    ("its claims do, by the index of the claimed", cluster::KEEP_DELIVERIES, SEARCHES),
    ("its claims of mails to the operators do", cluster::KEEP_OPERATOR_MAILS, SEARCHES),
    ("nodes of last week are forgotten, a few", cluster::FORGET_NODES, &["SCAN nodes"]),
    ("the nodes, a few", cluster::NODES, &["SCAN nodes"]),
    ("a node leaves", cluster::LEAVE, SEARCHES),
    ("its shares are free", cluster::LEAVE_SHARES, &["SCAN shares", "SCAN runs USING"]),
    ("its claims are free", cluster::LEAVE_DELIVERIES, SEARCHES),
    ("shares are put", cluster::PUT_SHARES, SEARCHES),
    ("a run is open to others", cluster::OPEN_SHARES, SEARCHES),
    ("a share is claimed", cluster::CLAIM_SHARE, SEARCHES),
    ("whether shares are left", cluster::SHARES_LEFT, &["SCAN one", "SCAN (subquery"]),
    ("which are ours", cluster::HELD_SHARES, SEARCHES),
    ("a share is done", cluster::FINISH_SHARE, SEARCHES),
    ("shares are given back", cluster::FREE_SHARES, SEARCHES),
    ("a run is taken over", cluster::ADOPT_RUN, SEARCHES),
    ("a part of a run is noted", cluster::NOTE_PART, SEARCHES),
    ("the parts of a run", cluster::PARTS, SEARCHES),
    ("logons are noted", cluster::NOTE_LOGONS, SEARCHES),
    ("a run is stopped", cluster::STOP_RUN, SEARCHES),
    ("who of a batch was scanned", cluster::SCANNED_SINCE, SEARCHES),
    ("newly affected customers", cluster::NEWLY_AFFECTED, SEARCHES),
    ("the first turn", cluster::FIRST_TURN, SEARCHES),
    ("the next turn", cluster::NEXT_TURN, SEARCHES),
    ("a turn is taken", cluster::TAKE_TURN, SEARCHES),
    ("a page of customers begins where the last one ended", dashboard::BY_ID, SEARCHES),
    ("the same, downwards", dashboard::BY_ID_DOWN, SEARCHES),
    ("the same, by name", dashboard::BY_NAME, SEARCHES),
    ("the same, by name downwards", dashboard::BY_NAME_DOWN, SEARCHES),
    ("sites of a page", dashboard::SITES_OF, SEARCHES),
    ("open cases of a page", dashboard::OPEN_OF, SEARCHES),
    ("newest mails of a page", dashboard::LAST_MAIL_OF, SEARCHES),
    ("a customer", dashboard::CUSTOMER, SEARCHES),
    ("its sites", dashboard::CUSTOMER_SITES, SEARCHES),
    ("a page of mails", dashboard::MAILS, SEARCHES),
    ("all sites are counted as they were", dashboard::COUNTS_AT, &["SCAN c", "SCAN (subquery"]),
    ("the course of all sites", dashboard::AFFECTED_MOVES, &["SCAN c", "SCAN seen", "SCAN moves", "SCAN (subquery"]),
    ("unreadable sites, by their index", dashboard::UNREADABLE_COUNT, SEARCHES),
    ("what people did, by its index", dashboard::DEEDS, SEARCHES),
];

/// What only SQLite is asked: mails on the wire, a few.
const SQLITE_ALONE: &[Case] = &[
    ("connections go on to their next mails", flights::GO_ON, SEARCHES),
    ("they begin", flights::TAKE_OFF, SEARCHES),
    ("whether mails are on the wire", flights::ALOFT, &["SCAN flights", "SCAN CONSTANT ROW"]),
    ("they land", flights::LAND, &["SCAN f"]),
    ("their attempts do", flights::LAND_ATTEMPTS, &["SCAN f"]),
    ("their recipients do", flights::LAND_RECIPIENTS, &["SCAN f"]),
    ("which they are", flights::WHICH, &["SCAN flights"]),
    ("they have landed", flights::LANDED, &["SCAN f"]),
];

/// Walks that cost nothing: bound lists, values, and the holds (three rows at most).
const FREE: &[&str] =
    &["SCAN j VIRTUAL", "SCAN json_each VIRTUAL", "SCAN jsonb_each VIRTUAL", "SCAN h", "SCAN CONSTANT ROW"];

#[tokio::test]
async fn no_statement_walks_what_it_need_not() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kigen.db");
    let _store = Sqlite::open(&file).await.unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&file);
    let mut connection = sqlx::sqlite::SqliteConnection::connect_with(&options).await.unwrap();
    let mut wrong = Vec::new();
    for (sentence, sql, allowed) in STATEMENTS.iter().chain(SQLITE_ALONE) {
        let explained = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")));
        let rows = explained.fetch_all(&mut connection).await.unwrap_or_else(|e| panic!("{e}: {sql}"));
        for step in rows.iter().map(|row| row.get::<String, _>("detail")) {
            let ok = |prefix: &&str| step.starts_with(*prefix);
            if step.starts_with("SCAN") && !FREE.iter().any(ok) && !allowed.iter().any(ok) {
                wrong.push(format!("{sentence}: {step}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A search may walk as much as a scan does: these begin with the bound list and look each of its rows up, and a claim walks
/// the queue in its order instead of sorting it.
#[tokio::test]
async fn sets_are_looked_up_row_by_row() {
    let hot: [(&str, &[&str]); 12] = [
        (reports::TO_PLAN, &["SEARCH c USING PRIMARY KEY (customer>?)"]),
        (outbox::CLAIMABLE, &["SCAN d USING COVERING INDEX deliveries_queue"]),
        (outbox::CLAIM, &["SEARCH deliveries USING INTEGER PRIMARY KEY (rowid=?)"]),
        (flights::GO_ON, &["SCAN j VIRTUAL", "SEARCH d USING INTEGER PRIMARY KEY (rowid=?)"]),
        (flights::LAND, &["SCAN f", "SEARCH deliveries USING INTEGER PRIMARY KEY (rowid=?)"]),
        (flights::LAND_RECIPIENTS, &["SCAN f", "SEARCH recipients USING PRIMARY KEY (delivery=?)"]),
        (sets::BEGIN_SET, &["SCAN j VIRTUAL", "SEARCH d USING INTEGER PRIMARY KEY (rowid=?)"]),
        (sets::GIVE_BACK_SET, &["SCAN j VIRTUAL", "SEARCH deliveries USING INTEGER PRIMARY KEY (rowid=?)"]),
        (sets::SETTLE_SET, &["SCAN j VIRTUAL", "SEARCH deliveries USING INTEGER PRIMARY KEY (rowid=?)"]),
        (sets::END_ATTEMPT_SET, &["SCAN j VIRTUAL", "SEARCH attempts USING PRIMARY KEY (delivery=? AND number=?)"]),
        (sets::SETTLE_RECIPIENTS_SET, &["SCAN j VIRTUAL", "SEARCH recipients USING PRIMARY KEY (delivery=?)"]),
        (outbox::CLAIMED, &["SEARCH d USING INTEGER PRIMARY KEY (rowid=?)"]),
    ];
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kigen.db");
    let _store = Sqlite::open(&file).await.unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&file);
    let mut connection = sqlx::sqlite::SqliteConnection::connect_with(&options).await.unwrap();
    for (sql, first) in hot {
        let explained = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")));
        let rows = explained.fetch_all(&mut connection).await.unwrap();
        let steps: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
        // What stands in brackets is worked out once.
        let once = ["SUBQUERY", "SCAN json_each", "BLOOM FILTER", "SCAN holds"];
        let walks = steps.iter().filter(|step| !once.iter().any(|once| step.contains(once)));
        for (step, expected) in walks.zip(first) {
            assert!(step.starts_with(expected), "{steps:#?}\n{sql}");
        }
        assert!(!steps.iter().any(|step| step.contains("FOR ORDER BY") && sql == outbox::CLAIMABLE), "{steps:#?}");
    }
}

#[tokio::test]
async fn postgresql_accepts_every_statement() {
    use sqlx::Executor;
    let url = server::Server::shared().database().await;
    let directory = tempfile::tempdir().unwrap();
    let state = PostgresState { url: url.parse().unwrap(), password: None, directory: directory.path().to_owned() };
    let _store = Postgres::open(&state).await.unwrap();
    let mut connection = sqlx::postgres::PgConnection::connect(&url).await.unwrap();
    let mut wrong = Vec::new();
    let of_the_fence = [("home", super::super::postgres::HOME), ("mark", super::super::postgres::MARK)]
        .into_iter()
        .chain([("adopt", super::super::postgres::ADOPT), ("advance", super::super::postgres::ADVANCE)]);
    let shared =
        STATEMENTS.iter().filter(|(_, sql, _)| *sql != fence::ADOPT).map(|(sentence, sql, _)| (*sentence, *sql));
    for (sentence, sql) in shared.chain(of_the_fence) {
        let text = sqlx::SqlSafeStr::into_sql_str(AssertSqlSafe(dialect::postgres(sql)));
        if let Err(e) = connection.prepare(text).await {
            wrong.push(format!("{sentence}: {e}: {sql}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A fleet of twenty thousand, everybody with a case and a mail in the queue.
const LARGE: &str = "
    INSERT INTO customers (id, name, heard_at) SELECT 'C' || n, 'name ' || n, 0 FROM generate_series(1, 20000) AS n;
    INSERT INTO observations (customer, site, verdict, first_seen_at, last_seen_at)
        SELECT id, 'site', 'affected', 0, 0 FROM customers;
    INSERT INTO sites (customer, site, listed, observation, unreadable_scans) SELECT customer, site, 1, id, 0 FROM observations;
    INSERT INTO cases (customer, campaign, reference, round, state, opened_at, round_at) SELECT id, 'c', id, 1, 'open', 0, 0 FROM customers;
    INSERT INTO deliveries (customer, campaign, round, kind, occasion, day, deadline, because, state, not_before, priority,
            message_id, subject, envelope_from, rendered_for, evidence_at, sites, created_at, state_at)
        SELECT id, 'c', 1, 'first', '', '2022-09-01', '2022-10-01', '', 'queued', 0, 0, id, '', 'a@b.example', '2022-09-01', 0, '[]', 0, 0
        FROM customers;
    INSERT INTO attempts (delivery, number, owner, started_at, finished_at, outcome) SELECT id, 1, 'o', 0, 1, 'deferred' FROM deliveries;
    INSERT INTO messages (delivery, raw) SELECT id, '' FROM deliveries;
    INSERT INTO recipients (delivery, position, address, state) SELECT id, 0, 'a@b.example', 'pending' FROM deliveries;
    INSERT INTO runs (kind, due_at, owner, started_at, lease_until, fleet) VALUES ('scan', 0, 'o', 0, 0, 'f');
    INSERT INTO shares (run, number, customers) SELECT 1, n, '[]' FROM generate_series(1, 5000) AS n;
    ANALYZE;";

/// What is asked again and again, with values such as it is asked with.
const HOT: &[(&str, &str, &[&str])] = &[
    ("versions of a batch", looks::VERSIONS, &["'[\"C1\",\"C2\",\"C77\"]'"]),
    ("sites of a batch", looks::SITES_OF, &["'[\"C1\",\"C2\",\"C77\"]'"]),
    ("cases of a batch", cases::CASES_OF, &["'[\"C1\",\"C2\",\"C77\"]'"]),
    ("what was told in them", cases::TOLD_OF, &["'[\"C1\",\"C2\",\"C77\"]'"]),
    ("versions of those a pass decided on", passes::VERSIONS, &["'[\"C1\",\"C2\",\"C77\"]'"]),
    ("the next customers to plan", reports::TO_PLAN, &["'C5'", "'2022-09-01'", "100"]),
    ("customers are locked", super::LOCK_CUSTOMERS, &["'[\"C1\",\"C2\",\"C77\"]'"]),
    ("who was scanned", scanning::SCANNED, &["'[\"C1\",\"C2\",\"C77\"]'", "1"]),
    ("turns of a scan", scanning::TURNS, &["'C5'", "100"]),
    ("a share is claimed", cluster::CLAIM_SHARE, &["1", "'o'", "1", "2"]),
    ("whether shares are left", cluster::SHARES_LEFT, &["1"]),
    ("what can be claimed", outbox::CLAIMABLE, &["1", "2"]),
    ("it is claimed", outbox::CLAIM, &["'o'", "1", "'[7]'"]),
    ("a claimed delivery", outbox::CLAIMED, &["'[7]'"]),
    ("an attempt begins", attempts::BEGIN, &["7", "'o'", "1", "2"]),
    ("a delivery is settled", attempts::SETTLE, &["7", "'o'", "'sent'", "NULL", "1", "''", "false", "1"]),
    ("what a node has lives on", cluster::KEEP_DELIVERIES, &["'o'", "1", "2"]),
    ("orphans", attempts::ORPHANS_WAIT, &["'o'", "1"]),
];

#[tokio::test]
async fn postgresql_walks_no_large_table_for_what_is_asked_again_and_again() {
    let url = server::Server::shared().database().await;
    let directory = tempfile::tempdir().unwrap();
    let state = PostgresState { url: url.parse().unwrap(), password: None, directory: directory.path().to_owned() };
    let _store = Postgres::open(&state).await.unwrap();
    let mut connection = sqlx::postgres::PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(super::super::postgres::SETTINGS).execute(&mut connection).await.unwrap();
    sqlx::raw_sql(LARGE).execute(&mut connection).await.unwrap();
    let mut wrong = Vec::new();
    for (sentence, sql, values) in HOT {
        let mut text = dialect::postgres(sql);
        for (n, value) in values.iter().enumerate().rev() {
            text = text.replace(&format!("${}", n + 1), value);
        }
        let explained = sqlx::raw_sql(AssertSqlSafe(format!("EXPLAIN (COSTS OFF) {text}")));
        let rows = explained.fetch_all(&mut connection).await.unwrap_or_else(|e| panic!("{sentence}: {e}: {text}"));
        let plan: Vec<String> = rows.iter().map(|row| row.get::<String, _>(0)).collect();
        if std::env::var_os("KIGEN_SHOW_PLANS").is_some() {
            println!("### {sentence}\n\n```\n{}\n```\n", plan.join("\n"));
        }
        // (Nothing is ever in `flights` there.)
        let small = ["Seq Scan on holds", "Seq Scan on runs", "Seq Scan on flights"];
        let walked = |step: &&String| step.contains("Seq Scan on") && !small.iter().any(|small| step.contains(small));
        wrong.extend(plan.iter().filter(walked).map(|step| format!("{sentence}: {}", step.trim())));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn the_statements_are_all_in_the_table() {
    // Reads the sources beside this file: a new constant must be added above.
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/sql");
    let names = [
        "alerts",
        "attempts",
        "cases",
        "cluster",
        "contacts",
        "dashboard",
        "desk",
        "events",
        "flights",
        "looks",
        "outbox",
        "passes",
        "reading",
        "reports",
        "runs",
        "scanning",
        "sets",
    ];
    let declared: usize = names
        .iter()
        .map(|name| std::fs::read_to_string(sources.join(format!("{name}.rs"))).unwrap())
        .map(|text| text.matches("pub(super) const ").count())
        .sum();
    // Besides: the lock of the customers, in `mod.rs`, and the three of SQLite's fence.
    assert_eq!(declared + 1 + 3, STATEMENTS.len() + SQLITE_ALONE.len());
}
