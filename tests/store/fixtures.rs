//! Small customers, looks and notices to build promises from.

use chrono::{DateTime, NaiveDate, TimeDelta};
use kigen::domain::Timestamp;
use kigen::domain::campaign::{Affects, CampaignId};
use kigen::domain::case::{Case, CaseState, LookKind, Reference, observe};
use kigen::domain::customer::Address;
use kigen::domain::delivery::{
    Attempt, DeliveryFacts, DeliveryId, DeliveryKey, DeliveryState, Held, Outcome, Recipient,
};
use kigen::domain::observation::{Observation, RawSettings, Reason, Verdict};
use kigen::domain::plan::NoticeKind;
use kigen::domain::site::{AuthMethod, CustomerId, ServerType, SiteName};
use kigen::store::{
    By, Claimed, Committed, CustomerState, Delivery, Entry, LookChange, Message, NewDelivery, OutboxFilter, PassChange,
    Store,
};

pub const ME: &str = "host:1";
pub const OTHER: &str = "host:2";

/// Minutes after a Thursday in the campaign, with milliseconds.
pub fn at(minutes: i64) -> Timestamp {
    DateTime::from_timestamp_millis(1_661_983_203_123).unwrap() + TimeDelta::minutes(minutes)
}

pub fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

pub fn id(text: &str) -> CustomerId {
    CustomerId::new(text).unwrap()
}

pub fn site(text: &str) -> SiteName {
    SiteName::new(text).unwrap()
}

pub fn campaign() -> CampaignId {
    CampaignId("exchange-online-basic-auth".to_owned())
}

pub fn by(minutes: i64) -> By {
    By { who: "hanako".to_owned(), at: at(minutes), day: day("2022-09-05") }
}

pub async fn enter(store: &dyn Store, ids: &[&str]) {
    let entry = |text: &&str| Entry { id: id(text), name: format!("株式会社{text}") };
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    store.sync_customers(&mut ids.iter().map(entry), at(0)).await.unwrap();
}

/// What a look saw of one site.
pub fn seen(customer: &str, name: &str, verdict: Verdict, minutes: i64) -> Observation {
    let (server_type, auth_method, raw) = match verdict {
        Verdict::Affected => (Some(ServerType::ExchangeOnline), Some(AuthMethod::Basic), "基本認証 (Office 365の場合)"),
        Verdict::Switched | Verdict::ConsentMissing => {
            (Some(ServerType::ExchangeOnline), Some(AuthMethod::OAuth), "OAuth認証 (Office 365の場合)")
        }
        Verdict::NotExchangeOnline => {
            (Some(ServerType::OnPremises), Some(AuthMethod::OnPremisesBasic), "基本認証 (オンプレミスの場合)")
        }
        Verdict::Unreadable(_) => (None, None, ""),
    };
    let readable = !matches!(verdict, Verdict::Unreadable(_));
    Observation {
        customer: id(customer),
        site: Some(site(name)),
        verdict,
        server_type,
        auth_method,
        raw: RawSettings {
            server_type: readable.then(|| "Exchange Online に接続する".to_owned()),
            auth_method: readable.then(|| raw.to_owned()),
        },
        detail: (!readable).then(|| format!("site {name} did not answer")),
        observed_at: at(minutes),
    }
}

/// A look that could not list the sites.
pub fn no_listing(customer: &str, reason: Reason, minutes: i64) -> Observation {
    Observation { site: None, ..seen(customer, "x", Verdict::Unreadable(reason), minutes) }
}

pub async fn state(store: &dyn Store, customer: &str) -> CustomerState {
    store.customer_states(&[id(customer)]).await.unwrap().pop().expect("the customer is known")
}

pub fn new_case(customer: &str, minutes: i64) -> Case {
    Case {
        customer: id(customer),
        campaign: campaign(),
        reference: Reference(format!("KG-{customer}")),
        round: 1,
        state: CaseState::Open,
        opened_at: at(minutes),
        round_at: at(minutes),
        sites: Default::default(),
        told: Vec::new(),
    }
}

/// What a look that saw this changes, decided on the present state.
pub async fn change(
    store: &dyn Store,
    customer: &str,
    kind: LookKind,
    seen: Vec<Observation>,
    minutes: i64,
) -> LookChange {
    let state = state(store, customer).await;
    let case = state.cases.into_iter().next();
    let (case, events) = observe(case, || new_case(customer, minutes), Affects::BasicAuth, &seen, kind);
    LookChange {
        customer: id(customer),
        version: state.version,
        kind,
        seen,
        refused: None,
        cases: case.into_iter().collect(),
        events: events.into_iter().map(|event| (campaign(), event)).collect(),
        at: at(minutes),
    }
}

pub async fn look(store: &dyn Store, customer: &str, kind: LookKind, seen: Vec<Observation>, minutes: i64) {
    let change = change(store, customer, kind, seen, minutes).await;
    assert_eq!(store.commit_looks(&[change]).await.unwrap(), [Committed::Done(None)]);
}

/// A customer with one affected site, told nothing yet.
pub async fn affected(store: &dyn Store, customers: &[&str]) {
    enter(store, customers).await;
    for customer in customers {
        look(store, customer, LookKind::Scan, vec![seen(customer, "本社", Verdict::Affected, 1)], 1).await;
    }
}

pub fn notice(customer: &str, kind: NoticeKind, occasion: &str, held: Option<Held>) -> NewDelivery {
    let address = |local: &str| Address::new(&format!("{local}@{}.example.jp", customer.to_lowercase())).unwrap();
    NewDelivery {
        facts: DeliveryFacts {
            key: DeliveryKey {
                customer: id(customer),
                campaign: campaign(),
                round: 1,
                kind,
                occasion: occasion.to_owned(),
            },
            milestone: (kind == NoticeKind::Reminder).then(|| occasion.to_owned()),
            day: day("2022-09-01"),
            deadline: day("2022-10-01"),
            because: "1 site(s) affected since 2022-09-01; not told yet".to_owned(),
        },
        held,
        recipients: vec![address("taro"), address("jiro")],
        message: message(customer, &format!("{kind}-{occasion}")),
        priority: 10,
    }
}

pub fn message(customer: &str, text: &str) -> Message {
    Message {
        message_id: format!("<{customer}.{text}@example.jp>"),
        subject: "【重要】基本認証の廃止について".to_owned(),
        envelope_from: Address::new("bounces@example.jp").unwrap(),
        raw: format!("Subject: {text}\r\n\r\n\0\u{1f4e7} 8bit").into_bytes(),
        rendered_for: day("2022-09-01"),
        evidence_at: at(1),
        sites: vec![site("本社"), site("\"支店\", 2")],
    }
}

/// What becomes of one decision of a pass.
pub async fn pass_one(store: &dyn Store, change: &PassChange) -> Committed {
    store.commit_passes(std::slice::from_ref(change)).await.unwrap().remove(0).unwrap()
}

/// Puts a notice into the outbox, decided on the present state.
pub async fn put(store: &dyn Store, delivery: NewDelivery, minutes: i64) -> Committed {
    pass_one(store, &decided(store, delivery, minutes).await).await
}

/// A pass that decides on such a notice, on the present state.
pub async fn decided(store: &dyn Store, delivery: NewDelivery, minutes: i64) -> PassChange {
    let customer = delivery.facts.key.customer.clone();
    let state = state(store, customer.as_str()).await;
    let case = state.cases.into_iter().next().expect("the customer has a case");
    PassChange { customer, version: state.version, case, events: Vec::new(), delivery: Some(delivery), at: at(minutes) }
}

pub async fn queue(store: &dyn Store, customer: &str, kind: NoticeKind, occasion: &str) -> DeliveryId {
    queue_held(store, customer, kind, occasion, None).await
}

pub async fn queue_held(
    store: &dyn Store,
    customer: &str,
    kind: NoticeKind,
    occasion: &str,
    held: Option<Held>,
) -> DeliveryId {
    match put(store, notice(customer, kind, occasion, held), 2).await {
        Committed::Done(Some(id)) => id,
        other => panic!("{other:?}"),
    }
}

pub async fn claim(store: &dyn Store, owner: &str, minutes: i64) -> Option<Claimed> {
    store.claim(owner, at(minutes), at(minutes + 10)).await.unwrap()
}

/// Claims the next delivery and begins its attempt.
pub async fn begin(store: &dyn Store, owner: &str, minutes: i64) -> Claimed {
    let claimed = claim(store, owner, minutes).await.expect("something is due");
    assert!(store.begin_attempt(claimed.delivery.id, owner, at(minutes), at(minutes + 10)).await.unwrap());
    claimed
}

/// Claims the next delivery and lets one attempt end so.
pub async fn attempt(store: &dyn Store, outcome: Outcome, state: DeliveryState, minutes: i64) -> DeliveryId {
    let claimed = begin(store, ME, minutes).await;
    let done = Attempt::whole(outcome, "451 4.3.0 not now");
    let recipients = claimed.delivery.recipients.clone();
    let recorded = store.record_attempt(claimed.delivery.id, ME, &done, &state, &recipients, at(minutes)).await;
    assert!(recorded.unwrap());
    claimed.delivery.id
}

pub async fn settle(
    store: &dyn Store,
    id: DeliveryId,
    outcome: Outcome,
    state: DeliveryState,
    recipients: &[Recipient],
    minutes: i64,
) -> bool {
    let done = Attempt::whole(outcome, "the reply");
    store.record_attempt(id, ME, &done, &state, recipients, at(minutes)).await.unwrap()
}

pub async fn delivery(store: &dyn Store, id: DeliveryId) -> Delivery {
    store.delivery(id).await.unwrap().expect("the delivery is there").0.delivery
}

pub async fn all(store: &dyn Store) -> Vec<Delivery> {
    store.deliveries(&OutboxFilter::default()).await.unwrap()
}

pub fn queued(minutes: i64) -> DeliveryState {
    DeliveryState::Queued { not_before: at(minutes) }
}
