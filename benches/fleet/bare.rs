//! What the scan is held against: the same requests by a bare hyper client, which knows no cookies, no limits and no
//! retries, with nothing read from the pages, or with one html5ever parse of each.

use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Request, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

type Hyper = Client<HttpConnector, Body>;

/// Asks for every customer what a scan asks for; returns the requests.
pub async fn requests(url: &str, customers: usize, concurrency: usize, parse: bool) -> u64 {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Hyper = Client::builder(TokioExecutor::new()).build(connector);
    // As many parses at once as there are cores, beside the connections: as the scan does it.
    let parsers = Arc::new(Semaphore::new(std::thread::available_parallelism().unwrap().get()));
    let turns = Arc::new(Semaphore::new(concurrency));
    let mut all = JoinSet::new();
    let mut sent = 0;
    for n in 0..customers {
        let turn = Arc::clone(&turns).acquire_owned().await.unwrap();
        let (client, parsers, url) = (client.clone(), Arc::clone(&parsers), url.to_owned());
        all.spawn(async move {
            let mut sent = 0;
            for request in customer(&url, n) {
                let answer = client.request(request).await.unwrap();
                let body = to_bytes(Body::new(answer.into_body()), usize::MAX).await.unwrap();
                sent += 1;
                if parse && !body.is_empty() {
                    parsed(body, &parsers).await;
                }
            }
            drop(turn);
            sent
        });
        while let Some(ended) = all.try_join_next() {
            sent += ended.unwrap();
        }
    }
    sent + all.join_all().await.into_iter().sum::<u64>()
}

fn customer(url: &str, n: usize) -> [Request<Body>; 3] {
    let (logon, settings) = (format!("{url}/exlookconfig/logon.aspx"), format!("{url}/exlookconfig/default.aspx"));
    let form = format!("__VIEWSTATE=AAAA&txtAccount=admin{n}&txtPassword=pass{n}&btnLogon=x");
    [
        Request::get(&logon).body(Body::empty()).unwrap(),
        Request::post(&logon)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form))
            .unwrap(),
        Request::get(&settings).header(header::COOKIE, "auth=1").body(Body::empty()).unwrap(),
    ]
}

async fn parsed(body: Bytes, parsers: &Arc<Semaphore>) {
    let permit = Arc::clone(parsers).acquire_owned().await.unwrap();
    let parse = move || {
        let _permit = permit;
        scraper::Html::parse_document(std::str::from_utf8(&body).unwrap()).tree.nodes().count()
    };
    assert!(tokio::task::spawn_blocking(parse).await.unwrap() > 10);
}
