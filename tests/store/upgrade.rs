//! A state of every earlier schema, with rows in it, opens today and says the same.

use std::borrow::Cow;

use kigen::config::StateUrl;
use kigen::domain::delivery::DeliveryId;
use kigen::store::{self, OutboxFilter};
use sqlx::Connection;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use crate::SqliteHouse;
use crate::fixtures::*;

static ALL: Migrator = sqlx::migrate!("src/store/migrations/sqlite");

/// Rows as the first version wrote them.
const ROWS: &str = "
    INSERT INTO customers (id, name, version, heard_at) VALUES ('C1', '株式会社C1', 3, 1661983203123);
    INSERT INTO observations (id, customer, site, verdict, server_type, auth_method, first_seen_at, last_seen_at)
        VALUES (1, 'C1', '本社', 'affected', 'exchange_online', 'basic', 1661983203123, 1661983203123);
    INSERT INTO sites (customer, site, listed, observation, unreadable_scans) VALUES ('C1', '本社', 1, 1, 0);
    INSERT INTO cases (customer, campaign, reference, round, state, opened_at, round_at)
        VALUES ('C1', 'exchange-online-basic-auth', 'K-1', 1, 'open', 1661983203123, 1661983203123);
    INSERT INTO deliveries (id, customer, campaign, round, kind, occasion, day, deadline, because, state, not_before, priority,
            message_id, subject, envelope_from, rendered_for, evidence_at, sites, created_at, state_at)
        VALUES (1, 'C1', 'exchange-online-basic-auth', 1, 'first', '', '2022-09-01', '2022-10-01', 'it is affected', 'sent',
            1661983203123, 1, '<1@vendor.example>', '件名', 'support@vendor.example', '2022-09-01', 1661983203123, '[]',
            1661983203123, 1661983203123);
    INSERT INTO messages (delivery, raw) VALUES (1, x'00');
    INSERT INTO recipients (delivery, position, address, state) VALUES (1, 0, 'a@c1.example', 'accepted');
    INSERT INTO runs (kind, due_at, owner, started_at, lease_until, finished_at, outcome)
        VALUES ('scan', 1661983203000, 'host:1', 1661983203123, 1661983203123, 1661983203123, 'done');
";

#[tokio::test]
async fn every_earlier_schema_is_brought_up_to_date() {
    let versions = ALL.iter().count();
    for known in 1..=versions {
        let house = SqliteHouse::new();
        let options = SqliteConnectOptions::new().filename(house.file()).create_if_missing(true);
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        // Rows come in with the first schema, so that every later one is tried on them.
        let mut filled = false;
        for upto in [1, known] {
            let migrations: Vec<_> = ALL.iter().take(upto).cloned().collect();
            let migrator = Migrator { migrations: Cow::Owned(migrations), ..Migrator::DEFAULT };
            migrator.run_direct(None, &mut connection, false).await.unwrap();
            if !filled {
                sqlx::raw_sql(ROWS).execute(&mut connection).await.unwrap();
                filled = true;
            }
        }
        connection.close().await.unwrap();

        let store = store::open(&StateUrl::Sqlite(house.file())).await.unwrap();
        assert_eq!(store.site_counts().await.unwrap().affected, 1, "from schema {known}");
        let sent = store.deliveries(&OutboxFilter::default()).await.unwrap();
        assert_eq!(sent.iter().map(|d| d.id).collect::<Vec<_>>(), [DeliveryId(1)], "from schema {known}");
        assert!(store.history(&id("C1")).await.unwrap().is_some_and(|h| !h.is_empty()), "from schema {known}");
        store.close().await;
    }
}
