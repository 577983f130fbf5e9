//! An operator's own templates: which they replace, and what is said of those that cannot be used.

use std::path::Path;

use kigen::domain::campaign::Affects;
use kigen::domain::customer::Language;
use kigen::domain::plan::NoticeKind;
use kigen::notice::Templates;

use super::given;

/// A directory with one template of the operator's own.
fn own(name: &str, source: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(name), source).unwrap();
    dir
}

#[test]
fn an_operators_template_replaces_one_and_only_one() {
    let dir = own("_ending.ja.txt", "\u{FEFF}弊社\r\n番号：{{ reference }}\r\n");
    std::fs::write(dir.path().join(".hidden"), "").unwrap();
    std::fs::write(dir.path().join("first.ja.txt~"), "").unwrap();
    let templates = Templates::load(Some(dir.path())).unwrap();
    assert_eq!(templates.check(), []);
    let rendered = given(NoticeKind::First, Language::Ja).render_with(NoticeKind::First, &templates).unwrap();
    assert!(rendered.text.ends_with("\n\n弊社\n番号：KG-7Q2M-XF4B\n"), "{}", rendered.text);
    assert!(rendered.html.contains("ExLook サポート窓口"));
}

#[test]
fn templates_that_cannot_be_used_say_which_line_and_why() {
    let rows = [
        ("a name that is none", "frist.ja.txt", "x", "frist.ja.txt", 0, "did you mean first.ja.txt?"),
        ("a name like no other", "readme.md", "x", "readme.md", 0, "is no template's name"),
        ("a tag that is not closed", "first.ja.txt", "a\n{% if x %}\n", "first.ja.txt", 2, "syntax error"),
        (
            "a value that there is not",
            "first.ja.txt",
            "{{ reference }}\n{{ compnay }}\n",
            "first.ja.txt",
            2,
            "undefined value",
        ),
        ("a fault inside a shared part", "_lost.ja.txt", "\n\n{{ nothing }}", "_lost.ja.txt", 3, "undefined value"),
        (
            "an endless loop",
            "first.ja.txt",
            "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}",
            "first.ja.txt",
            1,
            "fuel",
        ),
        ("a subject of two lines", "first.ja.subject", "a\nBcc: b@example.jp", "first.ja.subject", 0, "line break"),
        (
            "a subject with a carriage return",
            "first.ja.subject",
            "a{{ '\\r' }}b",
            "first.ja.subject",
            0,
            "control character",
        ),
        ("an empty subject", "first.ja.subject", "\n", "first.ja.subject", 0, "empty subject"),
        ("no reference number", "first.ja.txt", "a", "first.ja.txt", 0, "{{ reference }}"),
        ("a script", "first.ja.html", "<SCRIPT></SCRIPT>{{ reference }}", "first.ja.html", 0, "holds a script"),
    ];
    for (sentence, name, source, template, line, message) in rows {
        let dir = own(name, source);
        let given = given(NoticeKind::First, Language::Ja);
        let errors = match Templates::load(Some(dir.path())) {
            Ok(templates) => given.render_with(NoticeKind::First, &templates).err().into_iter().collect(),
            Err(errors) => errors,
        };
        let [error] = &errors[..] else { panic!("{sentence}: {errors:#?}") };
        assert_eq!((&*error.template, error.line), (template, line), "{sentence}: {error}");
        assert!(error.message.contains(message), "{sentence}: {error}");
    }
    assert!(Templates::load(Some(Path::new("/nonexistent/templates"))).is_err());
}

#[test]
fn a_check_finds_what_only_some_customers_would_meet() {
    let dir = own("_some.ja.txt", "{% if not smartphone and not feature_phone %}{{ nothing }}{% endif %}");
    std::fs::write(dir.path().join("overdue.en.html"), "{{ reference }}{% if off %}{{ nothing }}{% endif %}").unwrap();
    let errors: Vec<String> =
        Templates::load(Some(dir.path())).unwrap().check().iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "template _some.ja.txt, line 1, column 49: undefined value: `nothing` is undefined",
            "template overdue.en.html, line 1, column 31: undefined value: `nothing` is undefined",
        ]
    );
}

#[test]
fn output_is_bounded() {
    let big = "x".repeat(200_000);
    let dir = own("first.ja.txt", &format!("{{% for a in range(20) %}}{big}{{% endfor %}}"));
    let templates = Templates::load(Some(dir.path())).unwrap();
    let error = given(NoticeKind::First, Language::Ja).render_with(NoticeKind::First, &templates).unwrap_err();
    assert!(error.message.contains("fuel") || error.message.contains("bytes of output"), "{error}");
}

#[test]
fn another_deprecation_needs_its_operators_own_words() {
    let mut one = given(NoticeKind::First, Language::Ja);
    one.campaign.affects = Affects::ExchangeOnline;
    let refused = one.render_with(NoticeKind::First, &Templates::built_in()).unwrap_err();
    assert!(refused.message.contains("exchange_online"), "{refused}");
    assert_eq!(Templates::built_in().missing_for(Affects::ExchangeOnline).len(), 42);
    assert_eq!(Templates::built_in().missing_for(Affects::BasicAuth), []);
}
