//! Every metric's name, labels and help text in one place. Labels come from closed enums; every label value starts at 0.

use std::sync::atomic::{AtomicI64, AtomicU64};

use chrono::TimeDelta;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::domain::Timestamp;
use crate::domain::delivery::{DeliveryState, Outcome};
use crate::domain::observation::Verdict;
use crate::domain::plan::NoticeKind;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerdictLabel {
    verdict: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NoticeLabel {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ParserLabel {
    parser: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CampaignLabel {
    campaign: String,
}

type Seconds = Gauge<f64, AtomicU64>;
type Number = Gauge<i64, AtomicI64>;

/// What the store knows at the moment of a scrape.
#[derive(Debug, Clone, Default)]
pub struct Levels {
    /// Sites by verdict word.
    pub sites: Vec<(&'static str, u64)>,
    /// Deliveries by state word.
    pub outbox: Vec<(&'static str, u64)>,
    /// Days left by campaign; negative after the deadline.
    pub days_left: Vec<(String, i64)>,
    /// How long the oldest queued notice whose time has come waits, in seconds.
    pub oldest_due_seconds: f64,
}

/// The numbers for `/metrics`.
pub struct Metrics {
    registry: Registry,
    sites: Family<VerdictLabel, Number>,
    scan_last_success: Seconds,
    scan_duration: Seconds,
    scan_requests: Family<OutcomeLabel, Counter>,
    pages: Family<ParserLabel, Counter>,
    microsoft_requests: Family<OutcomeLabel, Counter>,
    outbox: Family<StateLabel, Number>,
    notices: Family<NoticeLabel, Counter>,
    oldest_due: Seconds,
    days_left: Family<CampaignLabel, Number>,
    reload_successful: Number,
    nodes: Number,
}

/// What became of a notice, as a label.
const NOTICE_OUTCOMES: [&str; 10] =
    ["queued", "held", "would_queue", "not_made", "accepted", "deferred", "rejected", "unknown", "blocked", "dropped"];

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("kigen"),
            sites: Family::default(),
            scan_last_success: Gauge::default(),
            scan_duration: Gauge::default(),
            scan_requests: Family::default(),
            pages: Family::default(),
            microsoft_requests: Family::default(),
            outbox: Family::default(),
            notices: Family::default(),
            oldest_due: Gauge::default(),
            days_left: Family::default(),
            reload_successful: Gauge::default(),
            nodes: Gauge::default(),
        };
        metrics.reload_successful.set(1);
        metrics.nodes.set(1);
        metrics.register();
        for verdict in Verdict::WORDS {
            drop(metrics.sites.get_or_create(&VerdictLabel { verdict }));
        }
        for state in DeliveryState::WORDS {
            drop(metrics.outbox.get_or_create(&StateLabel { state }));
        }
        for kind in NoticeKind::ALL {
            for outcome in NOTICE_OUTCOMES {
                drop(metrics.notices.get_or_create(&NoticeLabel { kind: kind.as_str(), outcome }));
            }
        }
        for outcome in ["ok", "error", "retry"] {
            drop(metrics.scan_requests.get_or_create(&OutcomeLabel { outcome }));
            drop(metrics.microsoft_requests.get_or_create(&OutcomeLabel { outcome }));
        }
        for parser in ["fast", "full"] {
            drop(metrics.pages.get_or_create(&ParserLabel { parser }));
        }
        metrics
    }

    /// So many nodes work on this state.
    pub fn nodes(&self, alive: usize) {
        self.nodes.set(i64::try_from(alive.max(1)).unwrap_or(i64::MAX));
    }

    /// The part of a limit for the whole fleet that is this node's.
    #[must_use]
    pub fn share_of(&self, whole: f64) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "nodes are few")]
        let nodes = self.nodes.get().max(1) as f64;
        whole / nodes
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("sites", "Listed sites by the verdict of their newest observation", self.sites.clone());
        r.register(
            "scan_last_success_timestamp_seconds",
            "When the last complete scan ended, UNIX time",
            self.scan_last_success.clone(),
        );
        r.register("scan_duration_seconds", "How long the last scan took", self.scan_duration.clone());
        r.register("nodes", "Nodes that work on this state", self.nodes.clone());
        r.register("scan_requests", "Requests to the admin tool", self.scan_requests.clone());
        r.register(
            "pages",
            "The admin tool's pages by how they were read: fast where their markup is regular, else by the full parser",
            self.pages.clone(),
        );
        r.register("microsoft_requests", "Requests to Microsoft's login service", self.microsoft_requests.clone());
        r.register("outbox", "Deliveries by state", self.outbox.clone());
        r.register("notices", "What became of notices", self.notices.clone());
        r.register(
            "oldest_due_notice_seconds",
            "How long the oldest queued notice whose time has come waits",
            self.oldest_due.clone(),
        );
        r.register("days_left", "Days to the campaign's deadline, negative after it", self.days_left.clone());
        r.register(
            "config_last_reload_successful",
            "1 if the files were good when they were read last",
            self.reload_successful.clone(),
        );
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        r.register("build", "The running program", build);
    }

    /// Counts what became of a planned notice.
    pub fn notice(&self, kind: NoticeKind, outcome: &'static str) {
        self.notices.get_or_create(&NoticeLabel { kind: kind.as_str(), outcome }).inc();
    }

    /// Counts an attempt's outcome.
    pub fn delivery(&self, kind: NoticeKind, outcome: &Outcome) {
        self.notice(kind, outcome.as_str());
    }

    /// Counts one request to the admin tool: `ok`, `error` or `retry`.
    pub fn scan_request(&self, outcome: &'static str) {
        self.scan_requests.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Counts one page of the admin tool: read the short way, or left to the full parser.
    pub fn page(&self, regular: bool) {
        let parser = if regular { "fast" } else { "full" };
        self.pages.get_or_create(&ParserLabel { parser }).inc();
    }

    /// Counts one request to Microsoft's login service: `ok` (it answered), `error` or `retry`.
    pub fn microsoft_request(&self, outcome: &'static str) {
        self.microsoft_requests.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// A scan ended.
    pub fn scan_finished(&self, took: TimeDelta, at: Timestamp, complete: bool) {
        self.scan_duration.set(seconds(took));
        if complete {
            self.scan_last_success.set(unix(at));
        }
    }

    /// The last complete scan, as the store remembers it: set at start.
    pub fn scan_was(&self, at: Timestamp) {
        self.scan_last_success.set(unix(at));
    }

    /// The files were read again.
    pub fn reloaded(&self, good: bool) {
        self.reload_successful.set(i64::from(good));
    }

    /// The text for a scrape, with the levels the store knows now.
    ///
    /// # Errors
    /// When the encoder fails, which it does not into a `String`.
    pub fn encode(&self, levels: &Levels) -> Result<String, std::fmt::Error> {
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        for (verdict, n) in &levels.sites {
            self.sites.get_or_create(&VerdictLabel { verdict }).set(whole(*n));
        }
        for (state, n) in &levels.outbox {
            self.outbox.get_or_create(&StateLabel { state }).set(whole(*n));
        }
        for (campaign, days) in &levels.days_left {
            self.days_left.get_or_create(&CampaignLabel { campaign: campaign.clone() }).set(*days);
        }
        self.oldest_due.set(levels.oldest_due_seconds);
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

#[allow(clippy::cast_precision_loss, reason = "seconds fit an f64 for any time that matters")]
fn seconds(took: TimeDelta) -> f64 {
    took.num_milliseconds() as f64 / 1000.0
}

#[allow(clippy::cast_precision_loss, reason = "seconds fit an f64 for any time that matters")]
fn unix(at: Timestamp) -> f64 {
    at.timestamp_millis() as f64 / 1000.0
}
