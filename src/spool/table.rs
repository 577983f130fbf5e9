//! Records that are found by key or by place: blocks of them in the spool, and of each block its first key in memory.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Spool;
use super::pack::{Packed, put_bytes};

/// Records in a block: a million records need 16,000 first keys in memory, and a block is read in microseconds.
const BLOCK: usize = 64;

/// A table in the making.
pub struct Filling {
    spool: Spool,
    blocks: Vec<Block>,
    records: usize,
    bytes: Vec<u8>,
}

struct Block {
    first: Box<[u8]>,
    start: u64,
}

impl Filling {
    /// Nothing yet; what does not fit into memory goes to that directory.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { spool: Spool::new(dir), blocks: Vec::new(), records: 0, bytes: Vec::new() }
    }

    /// Takes the next record; its key is not smaller than the one before.
    ///
    /// # Errors
    /// When the directory takes no file, or the disk is full.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        if self.records.is_multiple_of(BLOCK) {
            self.blocks.push(Block { first: key.into(), start: self.spool.len() });
        }
        self.records += 1;
        self.bytes.clear();
        put_bytes(&mut self.bytes, key);
        put_bytes(&mut self.bytes, value);
        self.spool.append(&self.bytes)
    }

    /// No more records follow.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn done(mut self) -> io::Result<Table> {
        self.spool.finish()?;
        self.blocks.shrink_to_fit();
        Ok(Table { spool: self.spool, blocks: self.blocks, records: self.records, recent: Mutex::new(None) })
    }
}

/// Records by key.
///
/// # Panics
/// Its methods panic when the disk does not give back what it took: like memory that fails, that leaves nothing to go on
/// with.
pub struct Table {
    pub(super) spool: Spool,
    blocks: Vec<Block>,
    records: usize,
    /// The block that was read last: whoever goes through the table in its order reads each once.
    recent: Mutex<Option<Recent>>,
}

/// A block, and the record in it that was found last: who asks in the table's order need not begin with the block's first.
struct Recent {
    number: usize,
    block: Arc<Vec<u8>>,
    found: Start,
}

/// A record of a block: where its bytes begin, and its place in the order. No record before it has its key.
#[derive(Clone, Copy)]
struct Start {
    offset: usize,
    place: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self { spool: Spool::new(Path::new("")), blocks: Vec::new(), records: 0, recent: Mutex::new(None) }
    }
}

impl Table {
    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// At which place of the order the first record with that key stands.
    #[must_use]
    pub fn place(&self, key: &[u8]) -> Option<usize> {
        let mut found = None;
        self.from(key, |place, _| {
            found = Some(place);
            ControlFlow::Break(())
        });
        found
    }

    /// Hands out the values of that key, in the order in which they came, until told to stop.
    pub fn of(&self, key: &[u8], mut take: impl FnMut(&[u8]) -> ControlFlow<()>) {
        self.from(key, |_, value| take(value));
    }

    /// The value of the first record with that key, as something.
    pub fn get<T>(&self, key: &[u8], of: impl Fn(&[u8]) -> T) -> Option<T> {
        let mut found = None;
        self.of(key, |value| {
            found = Some(of(value));
            ControlFlow::Break(())
        });
        found
    }

    fn from(&self, key: &[u8], mut take: impl FnMut(usize, &[u8]) -> ControlFlow<()>) {
        // Its first record may end the block before the first that begins with it.
        let first = self.blocks.partition_point(|block| *block.first < *key).saturating_sub(1);
        let mut is_first = true;
        for number in first..self.blocks.len() {
            let (block, start) = self.block_from(number, key);
            let mut records = Packed(&block[start.offset..]);
            let mut place = start.place;
            while !records.is_empty() {
                let offset = block.len() - records.0.len();
                let (its, value) = (records.bytes(), records.bytes());
                if its > key {
                    return;
                }
                if its == key {
                    if std::mem::take(&mut is_first) {
                        self.remember(number, Start { offset, place });
                    }
                    if take(place, value).is_break() {
                        return;
                    }
                }
                place += 1;
            }
        }
    }

    /// A block, and where in it a search for that key may begin.
    fn block_from(&self, number: usize, key: &[u8]) -> (Arc<Vec<u8>>, Start) {
        let block = self.block(number);
        let recent = self.recent();
        let found = recent.as_ref().filter(|recent| recent.number == number).map(|recent| recent.found);
        let found = found.filter(|found| Packed(&block[found.offset..]).bytes() <= key);
        (block, found.unwrap_or(Start { offset: 0, place: number * BLOCK }))
    }

    fn remember(&self, number: usize, found: Start) {
        if let Some(recent) = self.recent().as_mut().filter(|recent| recent.number == number) {
            recent.found = found;
        }
    }

    fn recent(&self) -> MutexGuard<'_, Option<Recent>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record at a place of the order, as something.
    ///
    /// # Panics
    /// When there is none.
    pub fn at<T>(&self, place: usize, of: impl FnOnce(&[u8], &[u8]) -> T) -> T {
        let block = self.block(place / BLOCK);
        let mut records = Packed(&block);
        for _ in 0..place % BLOCK {
            let _ = (records.bytes(), records.bytes());
        }
        of(records.bytes(), records.bytes())
    }

    /// All records in their order, each as something.
    pub fn each<'t, T: 't>(&'t self, of: impl Fn(&[u8], &[u8]) -> T + 't) -> impl Iterator<Item = T> + 't {
        (0..self.blocks.len()).flat_map(move |number| {
            let block = self.block(number);
            let mut records = Packed(&block);
            let mut all = Vec::with_capacity(BLOCK);
            while !records.is_empty() {
                all.push(of(records.bytes(), records.bytes()));
            }
            all
        })
    }

    fn block(&self, number: usize) -> Arc<Vec<u8>> {
        let mut recent = self.recent();
        if let Some(recent) = recent.as_ref().filter(|recent| recent.number == number) {
            return Arc::clone(&recent.block);
        }
        let start = self.blocks[number].start;
        let end = self.blocks.get(number + 1).map_or(self.spool.len(), |next| next.start);
        let mut bytes = vec![0; (end - start) as usize];
        if let Err(error) = self.spool.read(start, &mut bytes) {
            panic!("cannot read the temporary file in {} any more: {error}", self.spool.dir.display());
        }
        let block = Arc::new(bytes);
        let found = Start { offset: 0, place: number * BLOCK };
        *recent = Some(Recent { number, block: Arc::clone(&block), found });
        block
    }
}
