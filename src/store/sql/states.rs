//! The states of single customers, several askers at once: who comes while another one reads is served by the next read.
//!
//! Deliverers ask for one customer right before each mail. Reading a state is a transaction of a handful of statements,
//! whether for one customer or for fifty. Invariant: an asker's picture is never older than its question.

use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::domain::site::CustomerId;

use super::super::{CustomerState, Result};
use super::{Sql, looks};

/// Customers in one read.
const BATCH: usize = 64;

/// A customer, and who asked for it.
type Asked = (CustomerId, oneshot::Sender<Option<CustomerState>>);

#[derive(Default)]
pub(super) struct States {
    waiting: Mutex<Vec<Asked>>,
    /// Whoever has it reads for all that wait.
    turn: tokio::sync::Mutex<()>,
}

pub(super) async fn one(store: &Sql, id: &CustomerId) -> Result<Vec<CustomerState>> {
    let (reply, mut answer) = oneshot::channel();
    let waiting = || store.states.waiting.lock().unwrap_or_else(PoisonError::into_inner);
    waiting().push((id.clone(), reply));
    let _turn = store.states.turn.lock().await;
    loop {
        match answer.try_recv() {
            Ok(state) => return Ok(state.into_iter().collect()),
            // Who read for us had an error.
            Err(TryRecvError::Closed) => return looks::customer_states(store, std::slice::from_ref(id)).await,
            Err(TryRecvError::Empty) => {}
        }
        // The first come first: ours is among them, or comes in one of the next rounds.
        let batch: Vec<Asked> = {
            let mut waiting = waiting();
            let many = waiting.len().min(BATCH);
            waiting.drain(..many).collect()
        };
        let ids: Vec<CustomerId> = batch.iter().map(|(id, _)| id.clone()).collect();
        let states = match looks::customer_states(store, &ids).await {
            // It may be about another one of them: then everybody reads alone.
            Err(_) if ids.len() > 1 => return looks::customer_states(store, std::slice::from_ref(id)).await,
            states => states?,
        };
        for (id, reply) in batch {
            // Two may have asked for one. An asker that is gone hears nothing.
            let _ = reply.send(states.iter().find(|state| state.id == id).cloned());
        }
    }
}
