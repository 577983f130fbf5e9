//! The dashboard in this process, on a laboratory whose clock is moved by hand.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part of it")]

use std::sync::Arc;

use kigen::clock::{Clock, SystemClock};
use kigen::daemon::reload::Live;
use kigen::demo::admin_tool::WorldCustomer;
use kigen::web::{self, Parts};
use reqwest::header::{COOKIE, HeaderMap, SET_COOKIE};
use reqwest::redirect::Policy;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::common::{Bench, Lab, write_private};

/// Markup where a name should be.
pub const EVIL: &str = "<img src=x onerror=alert(1)>";
/// The password of `taro`, the only user.
pub const PASSWORD: &str = "correct horse battery";

pub struct Site {
    pub lab: Lab,
    pub bench: Bench,
    pub live: Arc<Live>,
    pub address: String,
    pub client: reqwest::Client,
    stop: CancellationToken,
}

pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Site {
    /// A dashboard whose `[web]` section has these lines.
    pub async fn start(customers: Vec<WorldCustomer>, web: &str) -> Self {
        Self::with(Lab::start(customers).await, web).await
    }

    pub async fn with(lab: Lab, web: &str) -> Self {
        let text = lab.config_text().replace("listen = \"127.0.0.1:0\"", &format!("listen = \"127.0.0.1:0\"\n{web}"));
        write_private(&lab.config(), text.as_bytes());
        let bench = lab.open(SystemClock.now()).await;
        let live = Live::new(bench.ctx.clone());
        let client = reqwest::Client::builder().redirect(Policy::none()).build().unwrap();
        let mut site =
            Self { lab, bench, live: live.clone(), address: String::new(), client, stop: CancellationToken::new() };
        site.serve(live).await;
        site
    }

    /// Serves this from now on, at another address.
    pub async fn serve(&mut self, live: Arc<Live>) {
        self.stop.cancel();
        self.stop = CancellationToken::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.address = format!("http://{}", listener.local_addr().unwrap());
        self.live = live.clone();
        let (beat, heartbeat) = watch::channel(tokio::time::Instant::now());
        std::mem::forget(beat);
        let parts = Parts { live, heartbeat, wake_mail: Arc::new(Notify::new()), stop: self.stop.clone() };
        tokio::spawn(web::serve(listener, parts));
    }

    pub async fn scan_and_tell(&self) {
        self.bench.scan().await;
        self.bench.pass().await;
        self.bench.deliver().await;
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Answer { status, headers, text: answer.text().await.unwrap() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.client.get(format!("{}{path}", self.address))).await
    }

    pub async fn get_as(&self, path: &str, cookie: &str) -> Answer {
        self.send(self.client.get(format!("{}{path}", self.address)).header(COOKIE, cookie)).await
    }

    pub async fn post(&self, path: &str, cookie: &str, form: &[(&str, &str)]) -> Answer {
        self.send(self.client.post(format!("{}{path}", self.address)).header(COOKIE, cookie).form(form)).await
    }

    /// Signs in; the cookie and the form token.
    pub async fn sign_in(&self) -> (String, String) {
        let answer = self.post("/sign-in", "", &[("user", "taro"), ("password", PASSWORD)]).await;
        assert_eq!(answer.status, 303, "{}", answer.text);
        let cookie = answer.headers[SET_COOKIE].to_str().unwrap();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
        let cookie = cookie.split(';').next().unwrap().to_owned();
        let page = self.get_as("/", &cookie).await.text;
        let at = page.find("name=\"csrf\" value=\"").expect("a form") + "name=\"csrf\" value=\"".len();
        (cookie, page[at..].split('"').next().unwrap().to_owned())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// `[web.users]` with `taro`.
pub fn users() -> String {
    format!("[web.users]\ntaro = \"{}\"", web::password::hash(PASSWORD).unwrap())
}
