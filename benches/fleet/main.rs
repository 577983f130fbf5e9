//! What a scan costs: the whole of it, beside the same requests by a bare client that parses nothing, and beside the same
//! with one HTML parse a page; then a scan of an export file, and the program's own `plan`, `status` and `check` over what
//! they found.
//!
//! `cargo bench --bench fleet -- --customers 1000,10000 --export 100000 --every 10 --page 60 --rounds 3`: so many customers,
//! of the export file's every so many-th affected, pages of so many KB, each part so many times; the round with the least CPU counts, for other work on the machine only ever adds.
//! Each part is a process of its own, and so is the admin tool: CPU and memory are the part's alone.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench may")]

mod bare;
mod tool;
#[path = "../../tests/common/tool_pages.rs"]
mod tool_pages;
mod world;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use self::tool::{Tool, counted};
use self::world::{World, scanned};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Customers looked at at once, in every run.
const CONCURRENCY: usize = 32;

struct Args(Vec<String>);

impl Args {
    fn text(&self, name: &str) -> Option<&str> {
        let at = self.0.iter().position(|arg| arg == name)?;
        self.0.get(at + 1).map(String::as_str)
    }

    fn numbers(&self, name: &str, usual: &[usize]) -> Vec<usize> {
        self.text(name).map_or(usual.to_vec(), |text| text.split(',').map(|n| n.parse().unwrap()).collect())
    }

    fn number(&self, name: &str, usual: usize) -> usize {
        self.numbers(name, &[usual])[0]
    }
}

fn main() {
    let args = Args(std::env::args().collect());
    if args.0.iter().any(|arg| arg == "--serve") {
        return tool::serve(args.number("--page", 60));
    }
    if let Some(part) = args.text("--part") {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        return runtime.block_on(part_of_it(part, &args));
    }
    // `cargo test --benches` only wants to see it run.
    let (sizes, exports, rounds): (&[usize], &[usize], _) =
        if args.0.iter().any(|arg| arg == "--bench") { (&[1_000], &[100_000], 3) } else { (&[20], &[200], 1) };
    let (page, rounds) = (args.number("--page", 60), args.number("--rounds", rounds));
    for customers in args.numbers("--customers", sizes) {
        pages(customers, page, rounds);
    }
    for customers in args.numbers("--export", exports) {
        export(customers, args.number("--every", 10), rounds);
    }
}

/// (a), (b) and (c) against the admin tool, in turn; then the plan, of which everybody is a part.
fn pages(customers: usize, page: usize, rounds: usize) {
    println!("\n{customers} customers, one site each, pages of {page} KB, {CONCURRENCY} at once");
    let tool = Tool::start(page);
    let size = customers.to_string();
    let mut rows: [Vec<Took>; 3] = Default::default();
    let mut world = World::of_tool(&tool.url, customers, CONCURRENCY);
    for round in 0..rounds {
        if round > 0 {
            world = World::of_tool(&tool.url, customers, CONCURRENCY);
        }
        rows[0].push(part("whole", &["--url", &tool.url, "--customers", &size], &world));
        rows[1].push(part("bare", &["--url", &tool.url, "--customers", &size], &world));
        rows[2].push(part("parsed", &["--url", &tool.url, "--customers", &size], &world));
    }
    let best = rows.map(least);
    for (what, took) in ["(a) scan", "(b) bare client", "(c) with one parse"].iter().zip(&best) {
        took.print(what, customers);
    }
    let [whole, bare, parsed] = best.map(|took| took.cpu.as_secs_f64());
    println!("  CPU (a)/(b) {:.2}, (a)/(c) {:.2}", whole / bare, whole / parsed);
    commands(&world, customers, rounds);
}

/// The scan of a file that another system wrote, and the plan after it.
fn export(customers: usize, every: usize, rounds: usize) {
    println!("\n{customers} customers of an export file, of every {every} one is affected");
    let (size, often) = (customers.to_string(), every.to_string());
    let mut world = World::of_export(customers, every);
    let scan = |world: &World| part("export", &["--customers", &size, "--every", &often], world);
    let mut rows = vec![scan(&world)];
    for _ in 1..rounds {
        world = World::of_export(customers, every);
        rows.push(scan(&world));
    }
    least(rows).print("scan of the file", customers);
    commands(&world, customers.div_ceil(every), rounds);
}

/// The program's own commands, each from its start to its end.
fn commands(world: &World, planned: usize, rounds: usize) {
    for (what, args) in [
        ("plan", &["plan", "--format", "jsonl"][..]),
        ("status", &["status", "--format", "json"]),
        ("check", &["check"]),
    ] {
        let run = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_kigen"));
            command.args(args).arg("--config").arg(world.config());
            let (output, took, cpu, peak_kib) = watched(&mut command);
            assert!(what != "plan" || output.lines().count() == planned, "a line each");
            Took { requests: 0, took, cpu, peak_kib }
        };
        let best = least((0..rounds).map(|_| run()).collect());
        let (cpu, peak) = (best.cpu.as_secs_f64(), best.peak_kib as f64 / 1024.0);
        println!("  kigen {what:14} ({planned} notices) {cpu:.2} s CPU, peak {peak:4.0} MiB");
    }
}

/// What one part took.
struct Took {
    requests: u64,
    took: Duration,
    cpu: Duration,
    peak_kib: u64,
}

impl Took {
    fn print(&self, what: &str, customers: usize) {
        let (took, cpu) = (self.took.as_secs_f64(), self.cpu.as_secs_f64());
        println!(
            "  {what:20} {:8.0} customers/s {:8.0} requests/s {:7.0} us CPU a customer {:7.0} a request, peak {:4.0} MiB",
            customers as f64 / took,
            self.requests as f64 / took,
            cpu * 1e6 / customers as f64,
            cpu * 1e6 / self.requests.max(1) as f64,
            self.peak_kib as f64 / 1024.0,
        );
    }
}

fn least(rows: Vec<Took>) -> Took {
    rows.into_iter().min_by_key(|took| took.cpu).unwrap()
}

/// Runs a part as a process of its own.
fn part(name: &str, args: &[&str], world: &World) -> Took {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--part", name]).args(args).arg("--config").arg(world.config());
    let (output, took, cpu, _) = watched(&mut command);
    let numbers: Vec<u64> = output.split_whitespace().map(|n| n.parse().unwrap()).collect();
    Took { requests: numbers[0], took, cpu, peak_kib: numbers[1] }
}

/// In the part's process: does it, and says how many requests that were and how much memory at most.
async fn part_of_it(name: &str, args: &Args) {
    let customers = args.number("--customers", 0);
    let config = Path::new(args.text("--config").unwrap());
    let url = args.text("--url").unwrap_or_default();
    let requests = match name {
        "whole" => {
            let before = counted(url).await;
            let report = scanned(config).await;
            assert_eq!(report.sites.affected as usize, customers, "{:?}", report.unreadable_by_reason);
            counted(url).await - before
        }
        "export" => {
            let report = scanned(config).await;
            assert_eq!(
                report.sites.affected as usize,
                customers.div_ceil(args.number("--every", 10)),
                "{:?}",
                report.unreadable_by_reason
            );
            0
        }
        _ => bare::requests(url, customers, CONCURRENCY, name == "parsed").await,
    };
    println!("{requests} {}", peak_kib("self").unwrap());
}

/// Runs a program to its end: its output, how long it took, its CPU, in hundredths of a second on Linux, and the most memory
/// that was seen of it, in KiB.
fn watched(command: &mut Command) -> (String, Duration, Duration, u64) {
    let (before, started) = (cpu_of_children(), Instant::now());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let reading = std::thread::spawn(move || std::io::read_to_string(&mut output).unwrap());
    let (pid, mut peak) = (child.id().to_string(), 0);
    let status = loop {
        peak = peak_kib(&pid).unwrap_or(0).max(peak);
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    assert!(status.success(), "{command:?}");
    (reading.join().unwrap(), started.elapsed(), cpu_of_children() - before, peak)
}

/// User and system time of the ended children (proc(5): cutime, cstime).
fn cpu_of_children() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    Duration::from_millis(10 * (fields[13].parse::<u64>().unwrap() + fields[14].parse::<u64>().unwrap()))
}

/// The most memory a process ever had; `None` once it has ended.
fn peak_kib(process: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
