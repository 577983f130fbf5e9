//! What can be an address.

use super::*;

#[test]
fn an_address_is_what_can_stand_in_a_header_and_an_envelope() {
    let check = |sentence: &str, text: &str, expected: Result<&str, BadAddress>| {
        assert_eq!(Address::new(text).as_ref().map(Address::as_str), expected.as_ref().copied(), "{sentence}");
    };
    check("an ordinary one", "taro.yamada+it@example.co.jp", Ok("taro.yamada+it@example.co.jp"));
    check("white space around it goes", "  ops@example.jp\n", Ok("ops@example.jp"));
    check("a carrier's with two dots in a row", "foo..bar@docomo.ne.jp", Ok("foo..bar@docomo.ne.jp"));
    check("a carrier's with a dot before the @", "foo.@ezweb.ne.jp", Ok("foo.@ezweb.ne.jp"));
    check("a host without a dot", "root@localhost", Ok("root@localhost"));
    check("signs that RFC 5321 allows", "a!#$%&'*+/=?^_`{|}~-z@example.jp", Ok("a!#$%&'*+/=?^_`{|}~-z@example.jp"));
    check("an encoded domain", "x@xn--wgv71a119e.jp", Ok("x@xn--wgv71a119e.jp"));
    check("a header of its own", "a@example.jp\r\nBcc: b@example.jp", Err(BadAddress::Character('\r')));
    check("a bare line feed", "a@example.jp\nX", Err(BadAddress::Character('\n')));
    check("a NUL", "a\0@example.jp", Err(BadAddress::Character('\0')));
    check("a second path", "a@example.jp>,<b@example.jp", Err(BadAddress::Character('>')));
    check("two addresses", "a@example.jp,b@example.jp", Err(BadAddress::Character(',')));
    check("a display name", "A <a@example.jp>", Err(BadAddress::Character(' ')));
    check("a quoted name", "\"a\"@example.jp", Err(BadAddress::Character('"')));
    check("a comment", "a(b)@example.jp", Err(BadAddress::Character('(')));
    check("an address literal", "a@[127.0.0.1]", Err(BadAddress::Character('[')));
    check("a full-width @", "a＠example.jp", Err(BadAddress::NotAscii('＠')));
    check("a Japanese name", "太郎@example.jp", Err(BadAddress::NotAscii('太')));
    check("a full-width space inside", "a\u{3000}b@example.jp", Err(BadAddress::Character('\u{3000}')));
    check("no @", "example.jp", Err(BadAddress::NoAt));
    check("nothing", "", Err(BadAddress::NoAt));
    check("nothing before the @", "@example.jp", Err(BadAddress::NoAt));
    check("nothing after it", "a@", Err(BadAddress::NoAt));
    check("two of them", "a@b@example.jp", Err(BadAddress::Character('@')));
    check("an empty label", "a@example..jp", Err(BadAddress::Domain));
    check("a dot at the end", "a@example.jp.", Err(BadAddress::Domain));
    check("a hyphen at a label's start", "a@-example.jp", Err(BadAddress::Domain));
    check("a hyphen at a label's end", "a@example-.jp", Err(BadAddress::Domain));
    check("an underscore in the domain", "a@ex_ample.jp", Err(BadAddress::Domain));
    let local = "a".repeat(64);
    check("64 octets before the @", &format!("{local}@example.jp"), Ok(&format!("{local}@example.jp")));
    check("65 are too many", &format!("a{local}@example.jp"), Err(BadAddress::TooLong));
    check("a label of 64 octets", &format!("a@{}.jp", "b".repeat(64)), Err(BadAddress::Domain));
    let domain = format!("{0}.{0}.{0}.jp", "b".repeat(63));
    check("254 octets in all", &format!("{}@{domain}", &local[..59]), Ok(&format!("{}@{domain}", &local[..59])));
    check("255 are too many", &format!("{}@{domain}", &local[..60]), Err(BadAddress::TooLong));
}

#[test]
fn a_masked_address_shows_one_letter_and_the_domain_and_so_does_debug() {
    let address = Address::new("taro@example.jp").unwrap();
    assert_eq!(address.masked(), "t***@example.jp");
    assert_eq!(format!("{address:?}"), "t***@example.jp");
    assert_eq!(address.domain(), "example.jp");
}
