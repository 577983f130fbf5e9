//! Every outcome from every state, and the waits between.

use super::*;

fn to(name: &str) -> Address {
    Address::new(&format!("{name}@example.jp")).unwrap()
}

fn recipients(states: &str) -> Vec<Recipient> {
    ["a", "b", "c"]
        .iter()
        .zip(states.chars())
        .map(|(name, state)| Recipient { address: to(name), state: recipient_state(state), reply: None })
        .collect()
}

fn recipient_state(letter: char) -> RecipientState {
    match letter {
        'p' => RecipientState::Pending,
        'a' => RecipientState::Accepted,
        'r' => RecipientState::Rejected,
        other => unreachable!("{other}"),
    }
}

fn letters(recipients: &[Recipient]) -> String {
    recipients
        .iter()
        .map(|r| match r.state {
            RecipientState::Pending => 'p',
            RecipientState::Accepted => 'a',
            RecipientState::Rejected => 'r',
        })
        .collect()
}

/// What the server said of single recipients, one letter each; `.` = nothing.
fn attempt(outcome: Outcome, said: &str) -> Attempt {
    let recipients = ["a", "b", "c"]
        .iter()
        .zip(said.chars())
        .filter(|(_, letter)| *letter != '.')
        .map(|(name, letter)| (to(name), recipient_state(letter), "said".to_owned()))
        .collect();
    Attempt { outcome, reply: "reply".to_owned(), recipients }
}

const RETRY: RetryPolicy = RetryPolicy {
    attempts_max: 3,
    first_wait: TimeDelta::minutes(1),
    longest_wait: TimeDelta::hours(4),
    unknown: UnknownPolicy::Resend,
};

struct Row<'a> {
    sentence: &'a str,
    before: &'a str,
    number: u32,
    unknown_before: bool,
    outcome: Outcome,
    said: &'a str,
    state: &'a str,
    after: &'a str,
}

fn check(row: &Row<'_>, retry: &RetryPolicy) {
    let done = attempt(row.outcome.clone(), row.said);
    let now = Timestamp::default();
    let (state, after) = settle(row.number, row.unknown_before, &recipients(row.before), &done, retry, now);
    assert_eq!((state.as_str(), letters(&after).as_str()), (row.state, row.after), "{}", row.sentence);
}

macro_rules! table {
    ($retry:expr; $($sentence:literal: $before:literal, $number:literal, $unknown:literal, $outcome:ident $said:literal => $state:literal $after:literal;)+) => {
        $(check(&Row {
            sentence: $sentence, before: $before, number: $number, unknown_before: $unknown,
            outcome: Outcome::$outcome, said: $said, state: $state, after: $after,
        }, $retry);)+
    };
}

#[test]
fn an_outcome_moves_a_delivery() {
    table! { &RETRY;
        "taken for everybody": "ppp", 1, false, Accepted "" => "sent" "aaa";
        "taken for two, one refused for good": "ppp", 1, false, Accepted ".r." => "sent" "ara";
        "taken for two, one put off: it is tried again": "ppp", 1, false, Accepted "..p" => "queued" "aap";
        "the one put off is taken": "aap", 2, false, Accepted "" => "sent" "aaa";
        "the one put off is put off to the last attempt: the others had it": "aap", 3, false, Deferred "" => "sent" "aap";
        "the one put off is refused": "aap", 2, false, Rejected "" => "sent" "aar";
        "put off": "ppp", 1, false, Deferred "" => "queued" "ppp";
        "put off, one refused by name": "ppp", 1, false, Deferred "r.." => "queued" "rpp";
        "put off at the last attempt": "ppp", 3, false, Deferred "" => "failed" "ppp";
        "refused": "ppp", 1, false, Rejected "" => "failed" "rrr";
        "refused, but one was put off by name: it is tried again": "ppp", 1, false, Rejected "..p" => "queued" "rrp";
        "the same at the last attempt": "ppp", 3, false, Rejected "..p" => "failed" "rrp";
        "unheard: sent once more": "ppp", 1, false, Unknown "" => "queued" "ppp";
        "unheard at the last attempt: the resend is owed all the same": "ppp", 3, false, Unknown "" => "queued" "ppp";
        "unheard again": "ppp", 2, true, Unknown "" => "unknown" "ppp";
        "unheard, a recipient had been refused": "rpp", 2, true, Unknown "" => "unknown" "rpp";
        "the resend is taken": "ppp", 2, true, Accepted "" => "sent" "aaa";
        "the resend is put off": "ppp", 2, true, Deferred "" => "queued" "ppp";
        "the resend is given up: nobody can say failed": "ppp", 3, true, Deferred "" => "unknown" "ppp";
        "the resend is refused: nobody can say failed": "ppp", 2, true, Rejected "" => "unknown" "rrr";
        "the resend is refused by name": "ppp", 2, true, Rejected "rrr" => "unknown" "rrr";
        "the resend is refused, somebody had it before": "app", 2, true, Rejected "" => "sent" "arr";
        "we are refused: the queue waits": "ppp", 1, false, Blocked "" => "queued" "ppp";
        "we are refused, at whatever attempt": "ppp", 99, false, Blocked "" => "queued" "ppp";
        "we are refused after an unheard answer": "ppp", 2, true, Blocked "" => "queued" "ppp";
        "nobody is left": "ar", 2, false, Deferred "" => "sent" "ar";
        "nobody is left and nobody had it": "rr", 2, false, Blocked "" => "failed" "rr";
        "a word about a recipient that had its answer changes nothing": "aar", 2, false, Accepted "rra" => "sent" "aar";
    }
}

#[test]
fn a_person_decides_about_an_unheard_answer_where_the_policy_says_so() {
    let hold = RetryPolicy { unknown: UnknownPolicy::Hold, ..RETRY };
    table! { &hold;
        "unheard: held": "ppp", 1, false, Unknown "" => "held" "ppp";
        "released and unheard again": "ppp", 2, true, Unknown "" => "unknown" "ppp";
        "released and taken": "ppp", 2, true, Accepted "" => "sent" "aaa";
    }
}

/// Every outcome from every state of two recipients, at the first and the last attempt: what must hold in any case.
#[test]
fn no_outcome_says_more_than_was_heard() {
    let outcomes = [Outcome::Accepted, Outcome::Deferred, Outcome::Rejected, Outcome::Unknown, Outcome::Blocked];
    let states = ["pp", "pa", "pr", "ap", "aa", "ar", "rp", "ra", "rr"];
    for outcome in outcomes {
        for before in states {
            for said in ["", "p", "a", "r", ".p", ".r", "pr", "ra"] {
                for (number, unknown_before) in [(1, false), (1, true), (3, false), (3, true)] {
                    let done = attempt(outcome.clone(), said);
                    let before = recipients(before);
                    let (state, after) = settle(number, unknown_before, &before, &done, &RETRY, Timestamp::default());
                    let what =
                        format!("{outcome:?} {} {said:?} {number} {unknown_before} -> {state:?}", letters(&before));
                    let after_letters = letters(&after);
                    assert_eq!(after.len(), before.len(), "{what}");
                    for (old, new) in before.iter().zip(&after) {
                        assert!(old.state == RecipientState::Pending || old == new, "an answer stands: {what}");
                    }
                    if state == DeliveryState::Sent {
                        assert!(after_letters.contains('a'), "sent means somebody has it: {what}");
                    }
                    if state == DeliveryState::Failed {
                        assert!(!unknown_before && !after_letters.contains('a'), "failed is certain: {what}");
                    }
                    if matches!(state, DeliveryState::Queued { .. }) {
                        assert!(after_letters.contains('p'), "there is somebody to try again for: {what}");
                    }
                    assert!(state != DeliveryState::Sending && state != DeliveryState::Dropped, "{what}");
                }
            }
        }
    }
}

#[test]
fn the_wait_doubles_up_to_its_bound() {
    let check = |attempt, minutes| {
        assert_eq!(RetryPolicy::default().wait(attempt), TimeDelta::minutes(minutes), "after attempt {attempt}");
    };
    check(0, 1);
    check(1, 1);
    check(2, 2);
    check(8, 128);
    check(9, 240);
    check(24, 240);
    check(u32::MAX, 240);
    let far = RetryPolicy { first_wait: TimeDelta::MAX, ..RETRY };
    assert_eq!(far.wait(5), RETRY.longest_wait, "no overflow");
    let policy = RetryPolicy::default();
    let reach = (1..policy.attempts_max).map(|n| policy.wait(n)).sum::<TimeDelta>();
    assert!(reach > TimeDelta::hours(60), "the attempts reach past a weekend: {reach}");
}

#[test]
fn a_queued_delivery_waits_as_long_as_the_policy_says() {
    let now = Timestamp::default();
    let at = |number, outcome| match settle(number, false, &recipients("p"), &attempt(outcome, ""), &RETRY, now).0 {
        DeliveryState::Queued { not_before } => not_before - now,
        other => panic!("{other:?}"),
    };
    assert_eq!(at(2, Outcome::Deferred), TimeDelta::minutes(2));
    assert_eq!(at(1, Outcome::Unknown), TimeDelta::minutes(1));
    assert_eq!(at(7, Outcome::Blocked), TimeDelta::minutes(15));
}

#[test]
fn only_a_refusal_of_ourselves_does_not_count_as_a_try() {
    for outcome in [Outcome::Accepted, Outcome::Deferred, Outcome::Rejected, Outcome::Unknown] {
        assert!(outcome.counts(), "{outcome:?}");
    }
    assert!(!Outcome::Blocked.counts());
}

#[test]
fn the_words_read_back() {
    for held in Held::ALL {
        assert_eq!(Held::parse(held.as_str()), Some(held));
    }
    for letter in "par".chars() {
        let state = recipient_state(letter);
        assert_eq!(RecipientState::parse(state.as_str()), Some(state));
    }
    assert_eq!(Held::parse("queued"), None);
}
