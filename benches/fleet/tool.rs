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
    let tool = Arc::new(Answers { logon: LOGON, page: settings(page * 1024), count: AtomicU64::new(0) });
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

/// The settings of one site, the tab open; 45 % of it view state and the rest a table, as such pages are.
fn settings(bytes: usize) -> String {
    let state: String = "dDwtMTQ0NTk1NDkyO3Q8O2w8aTwxPjs+O2w8".chars().cycle().take(bytes * 45 / 100).collect();
    let mut page = format!(
        r#"<!DOCTYPE html><html><head><meta charset="utf-8"><title>ExLook管理ツール</title></head><body>
<form method="post" action="./default.aspx"><input type="hidden" name="__VIEWSTATE" value="{state}" />
<h2>ExLookサイト設定</h2>
<table><tr><th>ExLookサイト名</th><td><select name="ddlSite"><option selected="selected" value="1">本社</option></select></td></tr></table>
<fieldset><legend>Exchange設定</legend><table>
<tr><th>Exchange サーバーの種類</th><td><select name="ddlServer"><option value="0">Exchange サーバーに接続する</option>
<option value="1" selected="selected">Exchange Online に接続する</option></select></td></tr>
<tr><th>Exchange サーバーの認証方式</th><td><select name="ddlAuth">
<option value="0" selected="selected">基本認証 (Office 365の場合)</option>
<option value="1">OAuth認証 (Office 365の場合)</option></select></td></tr></table></fieldset>
<table>"#
    );
    let mut n = 0;
    while page.len() < bytes {
        n += 1;
        page.push_str(&format!(
            "<tr class=\"row\"><td>{n}</td><td nowrap>利用者&nbsp;{n}</td><td><a href=\"user.aspx?id={n}\">詳細</a></td>\
             <td>2022/08/{:02}</td></tr>\r\n",
            n % 28 + 1
        ));
    }
    page.push_str("</table><input type=\"submit\" name=\"btnSave\" value=\"設定内容を保存\" /></form></body></html>");
    page
}
