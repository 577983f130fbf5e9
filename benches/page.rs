//! What reading one page costs: by html5ever alone, by the full parser, and the short way, on the same pages in turn.
//!
//! `cargo bench --bench page -- --rounds 20`: so many rounds; the best of them counts, for other work on the machine only
//! ever adds.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench may")]

#[path = "../tests/common/tool_pages.rs"]
mod tool_pages;

use std::hint::black_box;
use std::time::Instant;

use encoding_rs::UTF_8;
use kigen::connector::exlook::dom::unified;
use kigen::connector::exlook::pages::Page;
use kigen::connector::exlook::{fast, tree};

use crate::tool_pages::{drawn_settings, settings_with_table, words};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let rounds = args.iter().position(|arg| arg == "--rounds").and_then(|at| args.get(at + 1)?.parse().ok());
    // `cargo test --benches` only wants to see it run.
    let (rounds, pages) = if args.iter().any(|arg| arg == "--bench") { (rounds.unwrap_or(20), 200) } else { (1, 2) };
    let all = [
        ("settings and a table of users", settings_with_table(60 * 1024)),
        ("settings and a large view state", drawn_settings(60)),
        ("settings and nothing else", drawn_settings(0)),
    ];
    for (what, page) in all {
        println!("{what}: {} bytes", page.len());
        bench(&page, rounds, pages);
    }
}

fn bench(page: &str, rounds: usize, pages: usize) {
    let words = words();
    let header = Some("text/html; charset=utf-8");
    let unified = unified(page.into());
    let read = Page::parse(page.as_bytes(), header, &words).unwrap();
    assert_eq!(read.irregular, None, "the page is regular");
    assert!(read.settings.is_ok());
    let ways: [(&str, &dyn Fn() -> usize); 5] = [
        ("html5ever's tree", &|| scraper::Html::parse_document(page).tree.nodes().count()),
        ("full parser", &|| tree::parse(&unified).unwrap().nodes.len()),
        ("full parser, read", &|| Page::of(tree::parse(&unified).unwrap(), UTF_8, &words, None).forms.len()),
        ("short way", &|| fast::parse(&unified).unwrap().nodes.len()),
        ("bytes to page, short way", &|| Page::parse(page.as_bytes(), header, &words).unwrap().forms.len()),
    ];
    let mut best = [f64::MAX; 5];
    for _ in 0..rounds {
        for ((_, way), best) in ways.iter().zip(&mut best) {
            let began = Instant::now();
            for _ in 0..pages {
                black_box(way());
            }
            *best = best.min(began.elapsed().as_secs_f64() * 1e6 / pages as f64);
        }
    }
    for ((name, _), took) in ways.iter().zip(best) {
        println!("  {name:26} {took:7.0} us/page, {:5.2} of html5ever's tree", took / best[0]);
    }
}
