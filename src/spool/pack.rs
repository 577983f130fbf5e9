//! Texts and numbers as bytes, one after the other.
//!
//! Only for what this process itself reads again: [`Packed`] takes bytes that this module made.

/// Appends bytes with their length before them.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a text.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

/// Appends a list of texts.
pub fn put_list<'t>(out: &mut Vec<u8>, texts: impl ExactSizeIterator<Item = &'t str>) {
    put_number(out, texts.len() as u64);
    texts.for_each(|text| put_text(out, text));
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
pub fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// What is left to take of packed bytes.
///
/// # Panics
/// Its methods panic on bytes that were not packed so.
#[derive(Debug, Clone, Copy)]
pub struct Packed<'b>(pub &'b [u8]);

impl<'b> Packed<'b> {
    /// Whether all of it was taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        let length = 1 + self.0.iter().take_while(|byte| **byte & 0x80 != 0).count();
        let (number, rest) = self.0.split_at(length);
        self.0 = rest;
        number.iter().rev().fold(0, |sum, byte| sum << 7 | u64::from(byte & 0x7f))
    }

    /// The next bytes.
    pub fn bytes(&mut self) -> &'b [u8] {
        let length = self.number() as usize;
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes
    }

    /// The next text.
    pub fn text(&mut self) -> &'b str {
        std::str::from_utf8(self.bytes()).expect("it was a text")
    }

    /// The next list.
    pub fn list<T>(&mut self, of: impl Fn(&str) -> T) -> Vec<T> {
        (0..self.number()).map(|_| of(self.text())).collect()
    }
}
