//! Text of a row that may be damaged: SQLite takes any bytes for text, and one bad byte must not hide a whole list.
//!
//! Invariant: text that is no UTF-8 is never taken for sound; only what shows rows to people may go on with the stand-in.

use sqlx::error::BoxDynError;
use sqlx::postgres::{PgTypeInfo, PgValueRef};
use sqlx::sqlite::{SqliteTypeInfo, SqliteValueRef};
use sqlx::{Decode, Postgres, Sqlite, Type};

use super::super::Result;
use super::rows::corrupt;

/// A text column. Bytes that are no UTF-8 became U+FFFD, and it knows so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    shown: String,
    sound: bool,
}

impl Text {
    fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self { shown: text.to_owned(), sound: true },
            Err(_) => Self { shown: String::from_utf8_lossy(bytes).into_owned(), sound: false },
        }
    }

    /// The text, if it is one.
    ///
    /// # Errors
    /// The column holds bytes that are no UTF-8.
    pub(super) fn sound(&self, column: &str) -> Result<()> {
        if self.sound { Ok(()) } else { Err(corrupt("text that is no UTF-8", column)) }
    }

    /// What can be shown of it.
    pub(super) fn shown(self) -> String {
        self.shown
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::of(text.as_bytes())
    }
}

impl std::ops::Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.shown
    }
}

impl std::borrow::Borrow<str> for Text {
    fn borrow(&self) -> &str {
        &self.shown
    }
}

impl Type<Sqlite> for Text {
    fn type_info() -> SqliteTypeInfo {
        <str as Type<Sqlite>>::type_info()
    }

    fn compatible(ty: &SqliteTypeInfo) -> bool {
        <str as Type<Sqlite>>::compatible(ty)
    }
}

impl<'r> Decode<'r, Sqlite> for Text {
    fn decode(value: SqliteValueRef<'r>) -> std::result::Result<Self, BoxDynError> {
        Ok(Self::of(<&[u8] as Decode<Sqlite>>::decode(value)?))
    }
}

impl Type<Postgres> for Text {
    fn type_info() -> PgTypeInfo {
        <str as Type<Postgres>>::type_info()
    }

    fn compatible(ty: &PgTypeInfo) -> bool {
        <str as Type<Postgres>>::compatible(ty)
    }
}

impl<'r> Decode<'r, Postgres> for Text {
    fn decode(value: PgValueRef<'r>) -> std::result::Result<Self, BoxDynError> {
        // PostgreSQL lets no such bytes in.
        Ok(Self::from(<&str as Decode<Postgres>>::decode(value)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_text_is_shown_and_never_taken_for_sound() {
        let check = |sentence: &str, bytes: &[u8], shown: &str, sound: bool| {
            let text = Text::of(bytes);
            assert_eq!(text.sound("because").is_ok(), sound, "{sentence}");
            assert_eq!(text.shown(), shown, "{sentence}");
        };
        check("plain text", b"told", "told", true);
        check("Japanese text", "本社".as_bytes(), "本社", true);
        check("a byte that is none", b"to\xffld", "to\u{fffd}ld", false);
        check("a character cut off", &"本社".as_bytes()[..4], "本\u{fffd}", false);
        check("the stand-in itself is text", "\u{fffd}".as_bytes(), "\u{fffd}", true);
    }
}
