//! The admin tool: a process of its own that answers from memory, so that its CPU is not the client's.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

use crate::tool_pages::settings_with_table;

/// The process, ended with this value.
pub struct Tool {
    process: Child,
    /// Where it listens.
    pub url: String,
}

impl Tool {
    /// Starts this program again with `--serve`.
    pub fn start(page: usize) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--serve", "--page", &page.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Self { process, url: url.trim().to_owned() }
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The requests that the tool has answered.
pub async fn counted(url: &str) -> u64 {
    reqwest::get(format!("{url}/count")).await.unwrap().text().await.unwrap().parse().unwrap()
}

struct Answers {
    logon: &'static str,
    page: String,
    count: AtomicU64,
}

/// Answers until it is killed.
pub fn serve(page: usize) {
    let tool = Arc::new(Answers { logon: LOGON, page: settings_with_table(page * 1024), count: AtomicU64::new(0) });
    tokio::runtime::Runtime::new().unwrap().block_on(async move {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("http://{}", listener.local_addr().unwrap());
        std::io::stdout().flush().unwrap();
        // Should the bench die, nobody is left behind for long.
        let served = axum::serve(listener, Router::new().fallback(answer).with_state(tool));
        let _ = tokio::time::timeout(Duration::from_secs(4 * 3600), served.into_future()).await;
    });
}

async fn answer(State(tool): State<Arc<Answers>>, request: Request) -> Response {
    if request.uri().path() == "/count" {
        return tool.count.load(Ordering::Relaxed).to_string().into_response();
    }
    tool.count.fetch_add(1, Ordering::Relaxed);
    if request.method() == Method::POST {
        let to = [(header::LOCATION, "/exlookconfig/default.aspx"), (header::SET_COOKIE, "auth=1; path=/; HttpOnly")];
        return (StatusCode::FOUND, to).into_response();
    }
    match request.uri().path().ends_with("logon.aspx") {
        true => Html(tool.logon).into_response(),
        false => Html(tool.page.clone()).into_response(),
    }
}

const LOGON: &str = r#"<!DOCTYPE html><html><head><title>ExLook管理ツール</title></head><body>
<form method="post" action="logon.aspx"><input type="hidden" name="__VIEWSTATE" value="AAAA" />
<table><tr><td>アカウント</td><td><input name="txtAccount" type="text" /></td></tr>
<tr><td>パスワード</td><td><input name="txtPassword" type="password" /></td></tr></table>
<input type="submit" name="btnLogon" value="ログオン" /></form></body></html>"#;
