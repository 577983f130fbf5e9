//! One mail over an open session: MAIL, RCPT for each, DATA, the message. RFC 5321 section 3.3, RFC 2920.
//!
//! Where the session pipelines, the envelope's commands go out in one write of some kilobytes (in several, if there are many
//! recipients), and the replies are read in their order; otherwise one command goes out, and its reply is read before the
//! next. What a reply means is the same either way, and so is all that follows. What differs: a transaction may be refused
//! after DATA has gone out, too. Invariants: the message goes out only after 354, to at least one recipient that was accepted, when nothing was refused
//! that concerns all, and with nothing more said by the server; its end goes out with it and nothing follows; only the reply to
//! that end can make a mail `Accepted`.

use std::time::Duration;

use super::{After, Failure, Session, meaning};
use crate::domain::customer::Address;
use crate::domain::delivery::{Attempt, Outcome, RecipientState};
use crate::mail::dialogue::{Halted, Reply, Trouble};
use crate::mail::message::addr_spec;
use crate::mail::outcome::{Enhanced, Stage};
use crate::mail::{Outgoing, StillOurs};

/// No further command is added to a write that has so many octets. A connection's send buffer takes it whole and at once, so
/// that we come to read the replies and never wait for a server that waits for us (RFC 2920 section 3.1).
const BATCH: usize = 4096;

/// MAIL, RCPT for each, DATA, the message.
pub(super) async fn transact(
    session: &mut Session,
    mail: &Outgoing,
    dot_timeout: Duration,
    still_ours: Option<&StillOurs>,
) -> (Attempt, After) {
    if let Some(max) = session.size_max.filter(|max| mail.message.len() > *max) {
        let reply = format!("the message has {} octets, the server takes {max}", mail.message.len());
        return (Attempt::whole(Outcome::Rejected, reply), After::Keep);
    }
    let mut envelope = Envelope::default();
    envelope.send(session, mail).await;
    if envelope.failure.is_some() || !envelope.taken {
        return envelope.give_up(session).await;
    }
    let said = envelope.said;
    if still_ours.is_some_and(|still_ours| !still_ours()) {
        let reply = "the sender stood still for too long, the message was not sent".to_owned();
        return (settled(Outcome::Deferred, reply, said), After::Drop);
    }
    let (outcome, reply, after) = match session.dialogue.message(&mail.message, dot_timeout).await {
        Ok(reply) => ended(&reply),
        Err(Halted { end_may_be_sent, trouble }) => {
            // More answers than commands.
            session.broke_its_offer = session.pipelining && !end_may_be_sent && matches!(trouble, Trouble::Protocol(_));
            let stage = if end_may_be_sent { Stage::Dot } else { Stage::Data };
            let failure = Failure::trouble(stage, &trouble);
            (failure.outcome, failure.reply, After::Drop)
        }
    };
    (settled(outcome, reply, said), after)
}

/// The envelope of a mail goes out, and its replies stay where they are until [`transact`] wants them for the same mail: what the
/// server takes for its answers is then over already. `false`: it could not be sent, and the session is of no further use.
///
/// Only over a session that was kept, where the whole envelope goes out in one write; otherwise nothing happens.
pub(super) async fn announce(session: &mut Session, mail: &Outgoing) -> bool {
    let too_large = session.size_max.is_some_and(|max| mail.message.len() > max);
    if !session.pipelining || session.announced.is_some() || too_large || mail.recipients.is_empty() {
        return true;
    }
    let all = mail.recipients.len() + 2;
    for at in 0..all {
        let queued = Command::number(at, &mail.recipients).queue(session, mail).is_ok();
        if !queued || (session.dialogue.queued().len() >= BATCH && at + 1 < all) {
            session.dialogue.unqueue();
            return true;
        }
    }
    let envelope = session.dialogue.queued().to_owned();
    let sent = session.dialogue.send_queued().await.is_ok();
    session.announced = Some(envelope);
    sent
}

/// A command of the envelope.
#[derive(Clone, Copy)]
enum Command<'a> {
    Mail,
    Rcpt(&'a Address),
    Data,
}

impl<'a> Command<'a> {
    /// In their order: MAIL, one RCPT for each recipient, DATA.
    fn number(at: usize, recipients: &'a [Address]) -> Self {
        match at.checked_sub(1) {
            None => Self::Mail,
            Some(at) => recipients.get(at).map_or(Self::Data, Self::Rcpt),
        }
    }

    fn stage(self) -> Stage {
        match self {
            Self::Mail => Stage::Mail,
            Self::Rcpt(_) => Stage::Rcpt,
            Self::Data => Stage::Data,
        }
    }

    /// Whether such an answer can be to this command, from a server that has read the ones before it and took them: what it wants, or
    /// a refusal that is not about their order (503, X.5.1 by RFC 3463; some say it in words).
    fn may_be_answered(self, reply: &Reply) -> bool {
        let wanted = match self {
            Self::Mail => reply.code == 250,
            Self::Rcpt(_) => reply.positive(),
            Self::Data => reply.code == 354,
        };
        let of_order = || {
            let text = reply.text().to_ascii_lowercase();
            let out_of_sequence = matches!(reply.enhanced(), Some(Enhanced(_, 5, 1)));
            reply.code == 503 || out_of_sequence || ["pipelin", "synchroni"].iter().any(|word| text.contains(word))
        };
        wanted || (reply.refuses() && !of_order())
    }

    fn queue(self, session: &mut Session, mail: &Outgoing) -> Result<(), Trouble> {
        let dialogue = &mut session.dialogue;
        match self {
            Self::Mail if session.says_size => {
                let size = mail.message.len().to_string();
                dialogue.queue(&["MAIL FROM:<", &addr_spec(&mail.envelope_from), "> SIZE=", &size])
            }
            Self::Mail => dialogue.queue(&["MAIL FROM:<", &addr_spec(&mail.envelope_from), ">"]),
            Self::Rcpt(address) => dialogue.queue(&["RCPT TO:<", &addr_spec(address), ">"]),
            Self::Data => dialogue.queue(&["DATA"]),
        }
    }
}

/// What the server said of one recipient.
struct Said<'a> {
    address: &'a Address,
    state: RecipientState,
    /// Why it was not accepted.
    refusal: String,
}

/// What an answer says of the connection, whatever becomes of the mail.
#[derive(Debug, PartialEq, Eq)]
enum Doubt {
    /// It was dead when the mail began, or the server took its leave with the first thing it was asked.
    Gone,
    /// The server did not do with several commands what it should do with each.
    OutOfStep,
    /// The same, and to ask again at once would help nobody: it hangs, or wants to be left alone.
    Overtaxed,
}

/// What the server has said of the envelope.
#[derive(Default)]
struct Envelope<'a> {
    said: Vec<Said<'a>>,
    /// What ended the transaction, for all recipients: the first thing of that kind.
    failure: Option<Failure>,
    doubt: Option<Doubt>,
    /// A recipient was accepted, be it after the failure: a message would go to somebody.
    taken: bool,
    /// 354: the server waits for a message.
    invited: bool,
    /// What came after the failure makes the connection useless.
    broken: bool,
}

impl<'a> Envelope<'a> {
    /// Sends the commands, together or one by one, until it is known what becomes of the mail.
    async fn send(&mut self, session: &mut Session, mail: &'a Outgoing) {
        let command = |at| Command::number(at, &mail.recipients);
        let (mut next, all) = (0, mail.recipients.len() + 2);
        while next < all && self.failure.is_none() {
            if matches!(command(next), Command::Data) && !self.taken {
                return;
            }
            let first = next;
            while next == first || (next < all && session.pipelining && session.dialogue.queued().len() < BATCH) {
                if let Err(trouble) = command(next).queue(session, mail) {
                    return self.fail(command(next), &trouble);
                }
                next += 1;
            }
            if session.announced.as_deref().is_some_and(|announced| announced == session.dialogue.queued()) {
                session.announced = None;
                session.dialogue.unqueue();
            } else if session.announced.is_some() {
                // Of another mail, which did not begin then.
                self.doubt = Some(Doubt::Gone);
                return self.fail(command(first), &Trouble::Protocol("another mail was announced"));
            } else if let Err(trouble) = session.dialogue.send_queued().await {
                self.doubt = match first {
                    // Nothing went out together yet that it could stumble over.
                    0 => kept_and_gone(session, first, &Err(&trouble)).then_some(Doubt::Gone),
                    _ => self.doubt_of(session, first, command(first), Err(&trouble)),
                };
                return self.fail(command(first), &trouble);
            }
            for at in first..next {
                let answer = session.dialogue.next_reply().await;
                if self.failure.is_none() {
                    self.doubt = self.doubt_of(session, at, command(at), answer.as_ref());
                }
                match answer {
                    Err(trouble) => return self.fail(command(at), &trouble),
                    Ok(reply) if self.doubt.is_some() => {
                        self.failure.get_or_insert_with(|| Failure::reply(command(at).stage(), &reply));
                        return;
                    }
                    Ok(reply) if self.failure.is_some() => self.hear_on(command(at), &reply),
                    Ok(reply) => self.hear(command(at), &reply),
                }
            }
        }
    }

    /// A reply that decides.
    fn hear(&mut self, command: Command<'a>, reply: &Reply) {
        match command {
            Command::Mail if reply.code == 250 => {}
            Command::Rcpt(address) => self.hear_of_one(address, reply),
            Command::Data if reply.code == 354 => self.invited = true,
            // It follows from the recipients' refusals, which say more.
            Command::Data if !self.taken => self.hear_on(command, reply),
            Command::Mail | Command::Data => self.failure = Some(Failure::reply(command.stage(), reply)),
        }
    }

    fn hear_of_one(&mut self, address: &'a Address, reply: &Reply) {
        let (state, refusal) = if reply.positive() {
            self.taken = true;
            (RecipientState::Accepted, String::new())
        } else if !reply.refuses() || reply.code == 421 {
            self.failure = Some(Failure::reply(Stage::Rcpt, reply));
            return;
        } else {
            match meaning(Stage::Rcpt, reply) {
                Outcome::Rejected => (RecipientState::Rejected, reply.shown()),
                Outcome::Deferred | Outcome::Accepted | Outcome::Unknown => (RecipientState::Pending, reply.shown()),
                // It speaks of us, not of this recipient.
                Outcome::Blocked => {
                    self.failure = Some(Failure::reply(Stage::Rcpt, reply));
                    return;
                }
            }
        };
        self.said.push(Said { address, state, refusal });
    }

    /// A reply after the decision: it says only how things stand between us and the server.
    fn hear_on(&mut self, command: Command<'a>, reply: &Reply) {
        match command {
            Command::Data if reply.code == 354 => self.invited = true,
            Command::Data => self.broken |= !reply.refuses(),
            Command::Rcpt(_) => self.taken |= reply.positive(),
            Command::Mail => {}
        }
        self.broken |= reply.code == 421;
    }

    fn fail(&mut self, command: Command<'a>, trouble: &Trouble) {
        self.broken = true;
        self.failure.get_or_insert_with(|| Failure::trouble(command.stage(), trouble));
    }

    fn doubt_of(
        &self,
        session: &Session,
        at: usize,
        command: Command<'_>,
        answer: Result<&Reply, &Trouble>,
    ) -> Option<Doubt> {
        if kept_and_gone(session, at, &answer) {
            return Some(Doubt::Gone);
        }
        if !session.pipelining {
            return None;
        }
        match answer {
            Err(Trouble::Timeout(_)) => Some(Doubt::Overtaxed),
            Err(_) => Some(Doubt::OutOfStep),
            // To the first command it may be said for any reason.
            Ok(reply) if reply.code == 421 => (at > 0).then_some(Doubt::Overtaxed),
            // Nobody was accepted: there is nothing that DATA could follow.
            Ok(reply) if matches!(command, Command::Data) && !self.taken && reply.refuses() => None,
            Ok(reply) => (!command.may_be_answered(reply)).then_some(Doubt::OutOfStep),
        }
    }

    /// The message is not sent: why, and what becomes of the connection.
    async fn give_up(self, session: &mut Session) -> (Attempt, After) {
        let after = self.after(session).await;
        let said = self.said;
        let (outcome, reply) = match self.failure {
            Some(failure) => (failure.outcome, failure.reply),
            None => {
                let deferred = said.iter().find(|s| s.state == RecipientState::Pending);
                let outcome = if deferred.is_some() { Outcome::Deferred } else { Outcome::Rejected };
                (outcome, deferred.or(said.first()).map_or_else(String::new, |s| s.refusal.clone()))
            }
        };
        (settled(outcome, reply, said), after)
    }

    async fn after(&self, session: &mut Session) -> After {
        session.broke_its_offer = matches!(self.doubt, Some(Doubt::OutOfStep | Doubt::Overtaxed));
        match self.doubt {
            Some(Doubt::Gone | Doubt::OutOfStep) => return After::Redial,
            Some(Doubt::Overtaxed) => return After::Drop,
            None => {}
        }
        match self.failure.as_ref().map_or(After::Reset, Failure::after) {
            After::Reset if self.broken => After::Drop,
            // The end of a message would send it, empty, to somebody; without its end it goes to nobody (RFC 5321 4.1.1.4).
            After::Reset if self.invited && self.taken => After::Drop,
            // Nobody was accepted and the server waits for a message all the same: it gets an empty one, and should refuse
            // it (RFC 2920 section 3.1). Whatever it says, nothing was sent.
            After::Reset if self.invited => match session.dialogue.command(".").await {
                Ok(reply) if reply.refuses() && reply.code != 421 => After::Reset,
                _ => After::Drop,
            },
            after => after,
        }
    }
}

/// A connection that was kept since an earlier mail was dead when this one began. A time-out says no such thing: waiting a
/// second time for a server that hangs helps nobody.
fn kept_and_gone(session: &Session, at: usize, answer: &Result<&Reply, &Trouble>) -> bool {
    let gone = match answer {
        Err(Trouble::Timeout(_)) => false,
        Err(Trouble::Closed | Trouble::Io(_) | Trouble::Protocol(_) | Trouble::Refused(_)) => true,
        Ok(reply) => reply.code == 421,
    };
    at == 0 && session.mails > 0 && gone
}

/// The reply to the end of the message.
fn ended(reply: &Reply) -> (Outcome, String, After) {
    let outcome = meaning(Stage::Dot, reply);
    let after = match outcome {
        // An answer that makes no sense: so would the next ones.
        Outcome::Unknown => After::Drop,
        _ if reply.code == 421 => After::Drop,
        Outcome::Accepted | Outcome::Deferred | Outcome::Rejected | Outcome::Blocked => After::Keep,
    };
    (outcome, reply.shown(), after)
}

/// The attempt, with what became of each recipient that was spoken of: taken at RCPT means nothing before the end's 250.
fn settled(outcome: Outcome, reply: String, said: Vec<Said<'_>>) -> Attempt {
    let taken = match outcome {
        Outcome::Accepted => RecipientState::Accepted,
        Outcome::Rejected => RecipientState::Rejected,
        Outcome::Deferred | Outcome::Unknown | Outcome::Blocked => RecipientState::Pending,
    };
    let one = |said: Said<'_>| match said.state {
        RecipientState::Accepted => (said.address.clone(), taken, reply.clone()),
        RecipientState::Pending | RecipientState::Rejected => (said.address.clone(), said.state, said.refusal),
    };
    Attempt { outcome, recipients: said.into_iter().map(one).collect(), reply: reply.clone() }
}
