//! What can be an id or a name, and the settings' words.

use super::*;

#[test]
fn names_are_trimmed_and_never_leave_their_line() {
    let check = |sentence: &str, text: &str, expected: Result<&str, BadName>| {
        assert_eq!(CustomerId::new(text).as_ref().map(CustomerId::as_str), expected.as_ref().copied(), "{sentence}");
    };
    check("an id stays as it is", "C0001", Ok("C0001"));
    check("white space around it goes, the full-width kind too", " \u{3000}C0001\t", Ok("C0001"));
    check("Japanese is fine", "顧客１", Ok("顧客１"));
    check("nothing is no id", "", Err(BadName::Empty));
    check("white space is no id", " \u{3000} ", Err(BadName::Empty));
    check("a line break inside would leave its header", "C1\r\nBcc: x@example.jp", Err(BadName::Control));
    check("a NUL is no text", "C\0", Err(BadName::Control));
    check("64 characters are the most", &"あ".repeat(64), Ok(&"あ".repeat(64)));
    check("65 are too many", &"あ".repeat(65), Err(BadName::TooLong(64)));
    assert!(SiteName::new(&"本".repeat(300)).is_ok());
    assert_eq!(SiteName::new(&"本".repeat(301)), Err(BadName::TooLong(300)));
    assert_eq!(SiteName::new("本社\n支店"), Err(BadName::Control));
}

#[test]
fn the_words_of_the_settings_read_back() {
    for value in ServerType::ALL {
        assert_eq!(ServerType::parse(value.as_str()), Some(value));
    }
    for value in AuthMethod::ALL {
        assert_eq!(AuthMethod::parse(value.as_str()), Some(value));
    }
    assert_eq!(ServerType::parse("Exchange_Online"), None);
    assert_eq!(AuthMethod::parse(""), None);
}
