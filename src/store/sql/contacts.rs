//! Contacts whose address is dead, and the reports that said so.
//!
//! Invariants: a report is dealt with once, however often it is fetched; what it changes is one transaction with its line in the
//! history; a decision that rests on the old contacts becomes stale.

use super::super::{BounceFinding, By, DeadContact, HistoryKind, Result};
use super::events::{self, Event, Notice};
use super::outbox::changed;
use super::rows::{self, millis, time};
use super::{Sql, db, failed};
use crate::domain::Timestamp;
use crate::domain::delivery::DeliveryId;

pub(super) const DEAD: &str =
    "SELECT customer, fingerprint, masked, since, why, delivery FROM dead_contacts ORDER BY customer, fingerprint";

pub(super) const OF_MESSAGE_ID: &str = "SELECT id FROM deliveries WHERE message_id = ?1 ORDER BY id DESC LIMIT 1";

pub(super) const OF_REFERENCE: &str = "SELECT d.id FROM cases AS c \
     CROSS JOIN deliveries AS d ON d.customer = c.customer AND d.campaign = c.campaign \
     WHERE c.reference = ?1 ORDER BY d.id DESC LIMIT 100";

pub(super) const REPORT: &str = "INSERT INTO bounces (digest, at, class) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";

pub(super) const ABOUT: &str = "SELECT id, customer, campaign, kind, milestone FROM deliveries WHERE id = ?1";

pub(super) const DIES: &str = "INSERT INTO dead_contacts (customer, fingerprint, masked, since, why, delivery) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING";

pub(super) const LIVES: &str = "DELETE FROM dead_contacts WHERE customer = ?1 AND fingerprint = ?2";

/// What its server answered first stays: it is a part of the proof.
pub(super) const CAME_BACK: &str = "UPDATE recipients SET state = 'rejected', reply = coalesce(reply || '; ', '') || ?3 \
     WHERE delivery = ?1 AND address = ?2 AND state = 'accepted'";

pub(super) async fn dead(store: &Sql) -> Result<Vec<DeadContact>> {
    let query = db::query_as(DEAD).fetch_all(&store.readers);
    let rows: Vec<(String, String, String, i64, String, i64)> =
        query.await.map_err(failed("read the dead contacts"))?;
    rows.into_iter()
        .map(|(customer, fingerprint, masked, since, why, delivery)| {
            Ok(DeadContact {
                customer: rows::customer(&customer)?,
                fingerprint,
                masked,
                since: time(since)?,
                why,
                delivery: DeliveryId(delivery),
            })
        })
        .collect()
}

pub(super) async fn of_message_id(store: &Sql, message_id: &str) -> Result<Option<DeliveryId>> {
    let query = db::query_scalar(OF_MESSAGE_ID).bind(message_id).fetch_optional(&store.readers);
    Ok(query.await.map_err(failed("find a delivery by its Message-ID"))?.map(DeliveryId))
}

pub(super) async fn of_reference(store: &Sql, reference: &str) -> Result<Vec<DeliveryId>> {
    let query = db::query_scalar(OF_REFERENCE).bind(reference).fetch_all(&store.readers);
    let ids: Vec<i64> = query.await.map_err(failed("find a case's deliveries"))?;
    Ok(ids.into_iter().map(DeliveryId).collect())
}

pub(super) async fn record(
    store: &Sql,
    digest: &str,
    class: &str,
    findings: &[BounceFinding],
    at: Timestamp,
) -> Result<bool> {
    const WHAT: &str = "write down what came back";
    let mut tx = store.write(WHAT).await?;
    let query = db::query(REPORT).bind(digest).bind(millis(at)).bind(class);
    if query.execute(&mut tx).await.map_err(failed(WHAT))?.rows_affected() == 0 {
        tx.rollback().await.map_err(failed(WHAT))?;
        return Ok(false);
    }
    let mut happened = Vec::new();
    for finding in findings {
        let query = db::query_as(ABOUT).bind(finding.delivery.0);
        let notice: Option<Notice> = query.fetch_optional(&mut tx).await.map_err(failed(WHAT))?;
        let Some(notice) = notice else { continue };
        happened.push(Event::of_delivery(at, &notice, HistoryKind::Sent, finding.word, &finding.text));
        if let Some((address, said)) = &finding.came_back {
            let query = db::query(CAME_BACK).bind(finding.delivery.0).bind(address.as_str()).bind(said);
            query.execute(&mut tx).await.map_err(failed(WHAT))?;
        }
        let Some(contact) = &finding.dead else { continue };
        db::query(DIES)
            .bind(contact.customer.as_str())
            .bind(&contact.fingerprint)
            .bind(&contact.masked)
            .bind(millis(contact.since))
            .bind(&contact.why)
            .bind(contact.delivery.0)
            .execute(&mut tx)
            .await
            .map_err(failed(WHAT))?;
        changed(&mut tx, &[finding.delivery.0], WHAT).await?;
    }
    events::write(&mut tx, &happened, WHAT).await?;
    tx.commit().await.map_err(failed(WHAT))?;
    Ok(true)
}

pub(super) async fn forget(store: &Sql, contacts: &[DeadContact]) -> Result<()> {
    const WHAT: &str = "forget dead contacts that are not in the file any more";
    if contacts.is_empty() {
        return Ok(());
    }
    let mut tx = store.write(WHAT).await?;
    for contact in contacts {
        let query = db::query(LIVES).bind(contact.customer.as_str()).bind(&contact.fingerprint);
        query.execute(&mut tx).await.map_err(failed(WHAT))?;
    }
    changed(&mut tx, &contacts.iter().map(|c| c.delivery.0).collect::<Vec<_>>(), WHAT).await?;
    tx.commit().await.map_err(failed(WHAT))
}

pub(super) async fn revive(store: &Sql, contacts: &[DeadContact], by: &By) -> Result<()> {
    const WHAT: &str = "revive dead contacts";
    if contacts.is_empty() {
        return Ok(());
    }
    let mut tx = store.write(WHAT).await?;
    let mut happened = Vec::new();
    for contact in contacts {
        let query = db::query(LIVES).bind(contact.customer.as_str()).bind(&contact.fingerprint);
        // Somebody else may have been faster; what is written down is what was done.
        if query.execute(&mut tx).await.map_err(failed(WHAT))?.rows_affected() > 0 {
            let text = format!("{} counts as alive again, says {}", contact.masked, by.who);
            happened.push(Event::of_customer(by.at, &contact.customer, "revived", text));
        }
    }
    events::write(&mut tx, &happened, WHAT).await?;
    changed(&mut tx, &contacts.iter().map(|c| c.delivery.0).collect::<Vec<_>>(), WHAT).await?;
    tx.commit().await.map_err(failed(WHAT))
}
