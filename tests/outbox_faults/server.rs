//! A mail server that closes or freezes at a point: one before and one after everything it says.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

/// What the server does at its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It closes the connection.
    Close,
    /// It says nothing more on any connection, nor reads; the test ends the client then.
    Freeze,
}

pub struct Server {
    pub port: u16,
    state: Arc<State>,
}

struct State {
    cut: Mutex<Option<(Cut, usize)>>,
    points: AtomicUsize,
    /// Connections of an earlier life count no more.
    life: AtomicUsize,
    place: Mutex<Option<String>>,
    frozen: AtomicBool,
    hit: Notify,
    /// The client is gone: frozen connections end, and new ones are closed.
    over: watch::Sender<bool>,
    /// Connections that are not over yet.
    open: watch::Sender<usize>,
    taken: Mutex<Vec<(String, Vec<u8>)>>,
    asked: AtomicUsize,
    /// What is said to the end of a message.
    end: Mutex<String>,
}

impl Server {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            cut: Mutex::new(None),
            points: AtomicUsize::new(0),
            life: AtomicUsize::new(0),
            place: Mutex::new(None),
            frozen: false.into(),
            hit: Notify::new(),
            over: watch::Sender::new(false),
            open: watch::Sender::new(0),
            taken: Mutex::default(),
            asked: AtomicUsize::new(0),
            end: Mutex::new("250 2.0.0 queued".to_owned()),
        });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                state.open.send_modify(|open| *open += 1);
                tokio::spawn(async move {
                    // An end of the dialogue, ours or theirs, is nothing to report.
                    let _ = state.talk(tcp).await;
                    state.open.send_modify(|open| *open -= 1);
                });
            }
        });
        Self { port, state }
    }

    /// Where it was cut, if it was.
    pub fn hit(&self) -> Option<String> {
        self.state.place.lock().unwrap().clone()
    }

    /// Waits until it freezes.
    pub async fn freezes(&self) {
        self.state.hit.notified().await;
    }

    /// Begins anew: nothing taken yet, and that cut ahead.
    pub fn begin(&self, cut: Option<(Cut, usize)>) {
        self.state.life.fetch_add(1, Ordering::SeqCst);
        let _ = self.state.hit.notified().now_or_never();
        *self.state.cut.lock().unwrap() = cut;
        self.state.points.store(0, Ordering::SeqCst);
        *self.state.place.lock().unwrap() = None;
        self.state.frozen.store(false, Ordering::SeqCst);
        self.state.taken.lock().unwrap().clear();
        self.state.asked.store(0, Ordering::SeqCst);
    }

    /// The client is gone: reads what it had sent, to the end of each of its connections, and is whole again. After it, `taken`
    /// and `hit` say how that life ended.
    pub async fn outlive(&self) {
        self.state.over.send_replace(true);
        // They are accepted in turn: with this one no earlier one is left.
        let mut last = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        assert_eq!(last.read(&mut [0]).await.unwrap(), 0, "it is closed unheard");
        let mut open = self.state.open.subscribe();
        let none = tokio::time::timeout(Duration::from_secs(60), open.wait_for(|open| *open == 0)).await;
        none.expect("the client's connections end with it").unwrap();
        *self.state.cut.lock().unwrap() = None;
        self.state.frozen.store(false, Ordering::SeqCst);
        self.state.over.send_replace(false);
    }

    /// Recipient and message, of every message that came whole.
    pub fn taken(&self) -> Vec<(String, Vec<u8>)> {
        self.state.taken.lock().unwrap().clone()
    }

    /// How many messages came whole, those that were refused too.
    pub fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }

    /// What is said to the end of a message from now on.
    pub fn answer(&self, end: &str) {
        *self.state.end.lock().unwrap() = end.to_owned();
    }
}

impl State {
    /// `None`: the connection is over.
    async fn point(&self, life: usize, when: &str, what: &str) -> Option<()> {
        if self.life.load(Ordering::SeqCst) != life {
            return None;
        }
        if self.frozen.load(Ordering::SeqCst) {
            return self.freeze().await;
        }
        let number = self.points.fetch_add(1, Ordering::SeqCst);
        let Some((cut, _)) = self.cut.lock().unwrap().filter(|(_, at)| *at == number) else { return Some(()) };
        *self.place.lock().unwrap() = Some(format!("{cut:?} {when} {what}"));
        if cut == Cut::Close {
            return None;
        }
        self.frozen.store(true, Ordering::SeqCst);
        self.hit.notify_one();
        self.freeze().await
    }

    async fn freeze(&self) -> Option<()> {
        let _ = self.over.subscribe().wait_for(|over| *over).await;
        None
    }

    async fn say(&self, (life, to): (usize, &mut BufReader<TcpStream>), answers: &str, text: &str) -> Option<()> {
        self.point(life, "before the answer to", answers).await?;
        to.get_mut().write_all(format!("{text}\r\n").as_bytes()).await.ok()?;
        self.point(life, "after the answer to", answers).await
    }

    async fn talk(&self, tcp: TcpStream) -> Option<()> {
        if *self.over.borrow() {
            return None;
        }
        tcp.set_nodelay(true).ok()?;
        let mut wire = BufReader::new(tcp);
        let life = self.life.load(Ordering::SeqCst);
        self.say((life, &mut wire), "the connection", "220 hi").await?;
        let mut recipients = Vec::new();
        loop {
            let mut line = String::new();
            wire.read_line(&mut line).await.ok().filter(|n| *n > 0)?;
            let verb = line.get(..4).unwrap_or_default().to_owned();
            match verb.as_str() {
                "DATA" => {
                    self.say((life, &mut wire), "DATA", "354 go").await?;
                    let message = read_message(&mut wire).await?;
                    self.asked.fetch_add(1, Ordering::SeqCst);
                    let end = self.end.lock().unwrap().clone();
                    if end.starts_with("250") {
                        let taken = recipients.drain(..).map(|r| (r, message.clone()));
                        self.taken.lock().unwrap().extend(taken);
                    }
                    self.say((life, &mut wire), "the end of the message", &end).await?;
                }
                "QUIT" => {
                    self.say((life, &mut wire), "QUIT", "221 bye").await?;
                    return None;
                }
                "RCPT" => {
                    recipients.push(line.split(['<', '>']).nth(1)?.to_owned());
                    self.say((life, &mut wire), "RCPT", "250 ok").await?;
                }
                // The next mail's envelope comes before the answer to this one is on disk.
                "EHLO" => self.say((life, &mut wire), "EHLO", "250-hi\r\n250 PIPELINING").await?,
                _ => self.say((life, &mut wire), &verb, "250 ok").await?,
            }
        }
    }
}

async fn read_message(wire: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    while !message.ends_with(b"\r\n.\r\n") {
        wire.read_until(b'\n', &mut message).await.ok().filter(|n| *n > 0)?;
    }
    Some(message)
}
