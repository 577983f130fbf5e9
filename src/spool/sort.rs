//! Sorting outside of memory: runs that fit are sorted and written, then merged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::ops::Range;
use std::path::Path;

use super::pack::{Packed, put_bytes};
use super::{MEMORY, Spool};

/// How much of each run is in memory while they are merged.
const READ: usize = 16 * 1024;

/// The largest length that stands before a record's parts takes so many bytes.
const LENGTHS: usize = 20;

/// Records on their way into order.
pub struct Sorter {
    spool: Spool,
    /// Runs that are sorted, by their place in the spool.
    runs: Vec<Range<u64>>,
    /// The run that is gathered: records one after the other, and where each begins.
    run: Vec<u8>,
    starts: Vec<u32>,
}

impl Sorter {
    /// Nothing yet; what does not fit into memory goes to that directory.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { spool: Spool::new(dir), runs: Vec::new(), run: Vec::new(), starts: Vec::new() }
    }

    /// Takes a record.
    ///
    /// # Errors
    /// When the directory takes no file, or the disk is full.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        if !self.run.is_empty() && self.run.len() + key.len() + value.len() > MEMORY {
            self.end_run()?;
        }
        self.starts.push(u32::try_from(self.run.len()).map_err(|_| io::ErrorKind::FileTooLarge)?);
        put_bytes(&mut self.run, key);
        put_bytes(&mut self.run, value);
        Ok(())
    }

    fn end_run(&mut self) -> io::Result<()> {
        let record = |start: u32| Packed(&self.run[start as usize..]);
        // The places decide between equal keys: they stay as they came.
        self.starts.sort_unstable_by(|a, b| record(*a).bytes().cmp(record(*b).bytes()).then(a.cmp(b)));
        let begins = self.spool.len();
        for start in &self.starts {
            let (all, mut left) = (record(*start), record(*start));
            let _ = (left.bytes(), left.bytes());
            self.spool.append(&all.0[..all.0.len() - left.0.len()])?;
        }
        self.runs.push(begins..self.spool.len());
        self.starts.clear();
        self.run.clear();
        Ok(())
    }

    /// All of them, in order.
    ///
    /// # Errors
    /// When the disk is full, or does not give back what it took.
    pub fn sorted(mut self) -> io::Result<Sorted> {
        self.end_run()?;
        self.spool.finish()?;
        let mut sorted = Sorted { spool: self.spool, runs: Vec::new(), heads: BinaryHeap::new() };
        sorted.runs.extend(self.runs.into_iter().map(Run::new));
        (0..sorted.runs.len()).try_for_each(|run| sorted.advance(run))?;
        Ok(sorted)
    }
}

/// Sorted records, to take one after the other.
pub struct Sorted {
    spool: Spool,
    runs: Vec<Run>,
    /// The next record of each run.
    heads: BinaryHeap<Reverse<Head>>,
}

/// Of equal keys the earlier run's comes first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    key: Vec<u8>,
    run: usize,
    value: Vec<u8>,
}

impl Sorted {
    /// The next record: key and value.
    ///
    /// # Errors
    /// When the disk does not give back what it took.
    #[expect(clippy::should_implement_trait, reason = "an iterator of results is easily read as if it had ended")]
    pub fn next(&mut self) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
        let Some(Reverse(head)) = self.heads.pop() else { return Ok(None) };
        self.advance(head.run)?;
        Ok(Some((head.key, head.value)))
    }

    fn advance(&mut self, run: usize) -> io::Result<()> {
        if let Some((key, value)) = self.runs[run].next(&self.spool)? {
            self.heads.push(Reverse(Head { key, run, value }));
        }
        Ok(())
    }
}

/// A run that is read.
struct Run {
    /// What was not read yet.
    left: Range<u64>,
    /// What was read, and how much of it was taken.
    window: Vec<u8>,
    taken: usize,
}

impl Run {
    fn new(left: Range<u64>) -> Self {
        Self { left, window: Vec::new(), taken: 0 }
    }

    fn next(&mut self, spool: &Spool) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
        self.want(LENGTHS, spool)?;
        if self.taken == self.window.len() {
            return Ok(None);
        }
        let key = self.part(spool)?;
        let value = self.part(spool)?;
        Ok(Some((key, value)))
    }

    fn part(&mut self, spool: &Spool) -> io::Result<Vec<u8>> {
        self.want(LENGTHS, spool)?;
        let mut length = Packed(&self.window[self.taken..]);
        let part = length.number() as usize;
        self.taken = self.window.len() - length.0.len();
        self.want(part, spool)?;
        let bytes = self.window[self.taken..self.taken + part].to_vec();
        self.taken += part;
        Ok(bytes)
    }

    /// Reads until so many bytes are there, or the run ends.
    fn want(&mut self, bytes: usize, spool: &Spool) -> io::Result<()> {
        let there = self.window.len() - self.taken;
        if there >= bytes || self.left.is_empty() {
            return Ok(());
        }
        self.window.drain(..self.taken);
        self.taken = 0;
        let more = (self.left.end - self.left.start).min(READ.max(bytes) as u64);
        self.window.resize(there + more as usize, 0);
        spool.read(self.left.start, &mut self.window[there..])?;
        self.left.start += more;
        Ok(())
    }
}
