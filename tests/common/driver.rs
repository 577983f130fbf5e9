//! A Chromium under ChromeDriver, started for one test and gone after it.
#![allow(dead_code, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::actions::{InputSource as _, KeyAction, KeyActions};
use fantoccini::elements::Element;
use fantoccini::key::Key;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

/// One browser at a time: the machine may be small.
static TURN: Mutex<()> = Mutex::const_new(());

/// Only so that a broken test ends.
const PATIENCE: Duration = Duration::from_secs(90);

const FLAGS: [&str; 12] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--window-size=1280,900",
    "--lang=ja",
];

pub struct Browser {
    pub client: Client,
    driver: Child,
    profile: TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// A command of ChromeDriver beyond the standard.
#[derive(Debug)]
struct Extra(&'static str, Value);

impl WebDriverCompatibleCommand for Extra {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.0))
    }

    fn method_and_body(&self, _: &url::Url) -> (axum::http::Method, Option<String>) {
        (axum::http::Method::POST, Some(self.1.to_string()))
    }
}

/// A ChromeDriver and its port; `None`: it ended without one.
fn driver(home: &Path) -> Option<(Child, String)> {
    let mut driver = Command::new("chromedriver")
        .arg("--port=0")
        .env("HOME", home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("chromedriver is there: tests/run installs it");
    // Kept read: a full pipe would stop it.
    let (tx, rx) = std::sync::mpsc::channel();
    let stdout = driver.stdout.take().unwrap();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = tx.send(line);
        }
    });
    while let Ok(line) = rx.recv_timeout(PATIENCE) {
        if let Some((_, port)) = line.split_once("started successfully on port ") {
            return Some((driver, port.trim_end_matches('.').to_owned()));
        }
    }
    let _ = (driver.kill(), driver.wait());
    None
}

impl Browser {
    pub async fn start() -> Self {
        let turn = TURN.lock().await;
        let profile = tempfile::Builder::new().prefix("kigen-browser-").tempdir().unwrap();
        // It looks for a free port for both families of addresses by itself, and ends if another process is faster.
        let (mut driver, port) =
            (0..5).find_map(|_| driver(profile.path())).expect("chromedriver says its port, in one of five tries");
        let mut flags: Vec<String> = FLAGS.iter().map(|flag| (*flag).to_owned()).collect();
        flags.push(format!("--user-data-dir={}", profile.path().display()));
        let wanted = json!({ "goog:chromeOptions": { "args": flags }, "goog:loggingPrefs": { "browser": "ALL" } });
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(wanted.as_object().unwrap().clone());
        let client = match builder.connect(&format!("http://127.0.0.1:{port}")).await {
            Ok(client) => client,
            Err(error) => {
                let _ = (driver.kill(), driver.wait());
                panic!("no browser: {error}");
            }
        };
        Self { client, driver, profile, _turn: turn }
    }

    /// Goes there and waits until it is loaded.
    pub async fn open(&self, address: &str) {
        self.client.goto(address).await.unwrap();
    }

    /// Waits for an element.
    pub async fn find(&self, css: &str) -> Element {
        self.client
            .wait()
            .at_most(PATIENCE)
            .for_element(Locator::Css(css))
            .await
            .unwrap_or_else(|e| panic!("{css}: {e}"))
    }

    /// Runs a script as a person at the console would; the policy of the page does not apply to it.
    pub async fn run(&self, script: &str) -> Value {
        self.client.execute(script, vec![]).await.unwrap_or_else(|e| panic!("{script}: {e}"))
    }

    /// The same for one that calls `done` with its result.
    pub async fn run_async(&self, script: &str) -> Value {
        let script = format!("const done = arguments[arguments.length - 1]; {script}");
        self.client.execute_async(&script, vec![]).await.unwrap_or_else(|e| panic!("{script}: {e}"))
    }

    /// Waits until an expression is true.
    pub async fn wait(&self, what: &str, condition: &str) {
        self.wait_with(what, "", condition).await;
    }

    /// The same, doing something before each look.
    pub async fn wait_with(&self, what: &str, each: &str, condition: &str) {
        let started = Instant::now();
        let script = format!("{each}; return !!({condition})");
        // A page that is just leaving answers with an error: asked again.
        while !matches!(self.client.execute(&script, vec![]).await, Ok(Value::Bool(true))) {
            assert!(started.elapsed() < PATIENCE, "waited in vain: {what}: {}", self.client.source().await.unwrap());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The page's width in pixels, as a phone or a wall has it.
    pub async fn width(&self, width: u32) {
        let metrics = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
        self.wait("the width", &format!("innerWidth === {width}")).await;
    }

    /// A command of the browser's own tools.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.client.issue_cmd(Extra("goog/cdp/execute", json!({ "cmd": command, "params": parameters }))).await.unwrap()
    }

    /// Whatever the browser complained of since the last time: errors of scripts, refusals of the policy, missing files.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.client.issue_cmd(Extra("se/log", json!({ "type": "browser" }))).await.unwrap();
        log.as_array().unwrap().iter().map(|line| line["message"].as_str().unwrap_or("?").to_owned()).collect()
    }

    /// Presses the tabulator until an expression is true.
    pub async fn tab_to(&self, condition: &str) {
        for _ in 0..80 {
            if self.run(&format!("return !!({condition})")).await == json!(true) {
                return;
            }
            self.press(Key::Tab).await;
        }
        panic!("the keyboard does not reach {condition}");
    }

    pub async fn press(&self, key: Key) {
        self.type_text(&char::from(key).to_string()).await;
    }

    /// Types where the focus is.
    pub async fn type_text(&self, text: &str) {
        let keys = text.chars().fold(KeyActions::new("keyboard".to_owned()), |keys, value| {
            keys.then(KeyAction::Down { value }).then(KeyAction::Up { value })
        });
        self.client.perform_actions(keys).await.unwrap();
    }

    /// Closes it; one that is only dropped is killed.
    pub async fn end(self) {
        let _ = self.client.clone().close().await;
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = (self.driver.kill(), self.driver.wait());
        // After a failed test the browser is still there; it is known by its profile, which nobody else has.
        let ours = format!("--user-data-dir={}", self.profile.path().display());
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_string_lossy().into_owned();
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if pid.bytes().all(|b| b.is_ascii_digit()) && String::from_utf8_lossy(&line).contains(&ours) {
                let _ = Command::new("/bin/kill").args(["-KILL", &pid]).status();
            }
        }
    }
}
