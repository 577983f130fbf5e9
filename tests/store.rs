//! What every store promises, written against `&dyn Store`: one function a promise, run for each database by the macro
//! at the end.

#![allow(clippy::unwrap_used, reason = "a test may; clippy sees that only in functions marked as one")]

#[path = "store/cluster.rs"]
mod cluster;
#[path = "store/desk.rs"]
mod desk;
#[path = "store/fence.rs"]
mod fence;
#[path = "store/fixtures.rs"]
mod fixtures;
#[path = "store/flights.rs"]
mod flights;
#[path = "store/grouping.rs"]
mod grouping;
#[path = "store/looks.rs"]
mod looks;
#[path = "store/outbox.rs"]
mod outbox;
#[path = "store/passes.rs"]
mod passes;
#[path = "common/postgres.rs"]
mod postgres;
#[path = "store/postgres_server.rs"]
mod postgres_server;
#[path = "store/runs.rs"]
mod runs;
#[path = "store/scale.rs"]
mod scale;
#[path = "store/sqlite_file.rs"]
mod sqlite_file;
#[path = "store/upgrade.rs"]
mod upgrade;

use std::sync::Arc;

use async_trait::async_trait;
use kigen::config::{PostgresState, StateUrl};
use kigen::store::{self, Store};

/// A place where a state is kept, as several processes see it.
#[async_trait]
pub trait House: Send + Sync {
    /// Opens the same state once more.
    async fn open(&self) -> Arc<dyn Store>;

    /// Changes rows behind the store's back.
    async fn spoil(&self, sql: &'static str);

    /// Whether other nodes may be at work on it: then only a lease that ran out says that somebody is gone.
    fn shared(&self) -> bool;
}

/// A house with one SQLite file in it.
pub struct SqliteHouse {
    directory: tempfile::TempDir,
}

impl Default for SqliteHouse {
    fn default() -> Self {
        Self::new()
    }
}

impl SqliteHouse {
    /// An empty one.
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    /// The state's file.
    pub fn file(&self) -> std::path::PathBuf {
        self.directory.path().join("kigen.db")
    }
}

#[async_trait]
impl House for SqliteHouse {
    async fn open(&self) -> Arc<dyn Store> {
        store::open(&StateUrl::Sqlite(self.file())).await.unwrap()
    }

    async fn spoil(&self, sql: &'static str) {
        sqlite_file::run(&self.file(), sql).await;
    }

    fn shared(&self) -> bool {
        false
    }
}

/// A house with a PostgreSQL database of its own.
pub struct PostgresHouse {
    url: String,
    directory: tempfile::TempDir,
}

impl PostgresHouse {
    /// An empty one.
    pub async fn new() -> Self {
        Self { url: postgres::Server::shared().database().await, directory: tempfile::tempdir().unwrap() }
    }

    /// What a configuration would say of it.
    pub fn state(&self) -> PostgresState {
        PostgresState { url: self.url.parse().unwrap(), password: None, directory: self.directory.path().to_owned() }
    }
}

#[async_trait]
impl House for PostgresHouse {
    async fn open(&self) -> Arc<dyn Store> {
        store::open(&StateUrl::Postgres(self.state())).await.unwrap()
    }

    async fn spoil(&self, sql: &'static str) {
        postgres::Server::shared().execute(self.state().url.path().trim_start_matches('/'), sql).await;
    }

    fn shared(&self) -> bool {
        true
    }
}

macro_rules! promises {
    ($($room:ident: $($name:ident),+ $(,)?;)+) => {
        mod sqlite_keeps {
            $(mod $room {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    crate::$room::$name(&crate::SqliteHouse::new()).await;
                })+
            })+
        }
        mod postgres_keeps {
            $(mod $room {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    crate::$room::$name(&crate::PostgresHouse::new().await).await;
                })+
            })+
        }
    };
}

promises! {
    looks:
        customers_come_are_renamed_and_go,
        what_was_seen_comes_back,
        cases_come_back,
        refused_logons_are_remembered_and_forgotten,
        a_stale_look_changes_nothing_and_leaves_the_others_alone,
        a_failed_listing_makes_every_listed_site_unreadable,
        a_customer_without_sites_has_one_line_until_a_listing_succeeds,
        only_a_scan_takes_sites_off_the_list,
        only_scans_count_as_unreadable,
        history_keeps_changes_not_looks,
        listings_and_counts_leave_out_who_is_gone;
    outbox:
        a_pass_comes_back_as_it_was_written,
        a_notice_stands_in_the_outbox_once,
        a_stale_pass_is_refused,
        nobody_gets_what_another_has,
        the_queue_goes_by_priority_number_and_time,
        a_lease_that_ran_out_gives_the_delivery_to_the_next,
        an_attempt_is_recorded_as_a_whole,
        who_lost_the_claim_records_only_the_attempt,
        orphans_are_taken_over,
        claims_of_a_dead_process_are_freed,
        a_message_is_replaced_only_while_no_server_may_hold_it,
        release_and_drop,
        what_a_server_may_hold_is_never_dropped,
        what_nobody_can_read_is_set_aside,
        bytes_that_are_no_text_hide_no_other_row,
        in_flight_and_unreadable_is_unknown,
        reminders_answer_what_was_sent,
        a_case_knows_what_was_told,
        several_are_claimed_in_the_order_of_the_queue,
        one_ends_and_the_next_begins,
        the_end_stands_where_the_next_one_may_not_begin,
        who_lost_the_first_still_begins_the_next;
    passes:
        many_are_written_each_as_it_was,
        the_stale_the_known_and_the_bad_leave_the_others_alone,
        pages_hold_what_all_cases_to_plan_do;
    desk:
        holds_keep_back_what_was_not_approved_after,
        a_hold_set_after_the_claim_takes_it_away,
        resume_releases_what_was_held_for_it,
        actions_go_where_they_make_sense,
        an_approved_notice_counts_from_that_day,
        a_retry_asks_again_who_is_not_settled,
        a_cancelled_notice_counts_as_had,
        an_action_makes_old_decisions_stale,
        deliveries_are_listed_and_counted,
        history_tells_what_was_sent_and_answered;
    runs:
        a_schedule_time_runs_once,
        an_interrupted_time_runs_again,
        a_run_without_a_sign_of_life_lapses,
        only_the_daemons_runs_are_interrupted,
        last_runs,
        memos_and_ping,
        one_has_the_lead;
    cluster:
        nodes_are_heard_of_and_leave,
        what_a_node_has_lives_as_long_as_it_beats,
        a_share_is_done_once,
        a_shared_run_outlives_who_began_it,
        guards_see_all_nodes,
        turns_are_spaced_over_all_nodes,
        a_hundred_takers_get_a_hundred_turns,
        a_node_that_rests_says_so,
        the_last_word_on_a_host_counts,
        many_claimers_share_a_queue;
    scale:
        a_hundred_committers_at_once,
        a_kill_in_the_middle_loses_nothing_that_was_committed,
        the_number_of_statements_does_not_grow_with_the_fleet;
}
