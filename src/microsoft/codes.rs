//! What an error of the token endpoint means, by its `error` word and its `AADSTS` numbers. A table, nothing else.
//!
//! Invariant: what is not in the table means nothing. Entra's own page says that codes may change and that texts are not
//! to be read, so an unknown pair is unknown, and never "no consent".

/// What an error means for a customer's verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Meaning {
    /// The application is not in the tenant: nobody ever consented, or it was removed.
    Missing,
    /// The tenant's administrator disabled the application, or what it needs.
    Disabled,
    /// The tenant has no Exchange Online.
    NoExchangeOnline,
    /// There is no such tenant: the domain on file is wrong.
    NoTenant,
    /// Our own secret or certificate is not accepted.
    OwnCredential,
    /// We ask too often.
    Throttled,
    /// It passes by itself.
    Transient,
}

/// One number.
#[derive(Debug)]
pub struct Code {
    /// The `AADSTS` number.
    pub number: u64,
    /// The `error` words it comes with; empty: any, for none was ever recorded.
    pub words: &'static [&'static str],
    /// What it means.
    pub meaning: Meaning,
    /// In words, for operators.
    pub says: &'static str,
}

const fn code(number: u64, words: &'static [&'static str], meaning: Meaning, says: &'static str) -> Code {
    Code { number, words, meaning, says }
}

/// The sources, from which a row may be corrected: "Entra" is Microsoft's page "Microsoft Entra authentication and
/// authorization error codes" (reference-error-codes.md); "recorded" is an answer of the real service in a public repository's
/// test data; "seen" is another program's source that acts on the code.
pub const CODES: &[Code] = &[
    // Recorded 2021 with invalid_request (token), 2023 with invalid_tenant (openid-configuration).
    code(90002, &["invalid_request", "invalid_tenant"], Meaning::NoTenant, "no tenant has this domain"),
    // Seen: a malformed domain, also a tenant that is not available. Its word was not recorded.
    code(900_023, &[], Meaning::NoTenant, "the domain is not one of a tenant"),
    // Entra; recorded 2020 and 2026.
    code(700_016, &["unauthorized_client"], Meaning::Missing, "the application was never consented to in this tenant"),
    // Entra; seen 2026 beside 700016. Its status was not recorded, its word is Entra's.
    code(
        7_000_229,
        &["invalid_client", "unauthorized_client"],
        Meaning::Missing,
        "the application has no service principal in this tenant",
    ),
    // Entra, without the word.
    code(7_000_112, &[], Meaning::Disabled, "the application is disabled in this tenant"),
    // Entra, without the word: disabled, or the subscription lapsed.
    code(500_014, &[], Meaning::Disabled, "Exchange Online is disabled for applications in this tenant"),
    // Entra; recorded.
    code(500_011, &["invalid_resource"], Meaning::NoExchangeOnline, "the tenant has no Exchange Online"),
    // Entra; recorded with 401 invalid_client. Of our own credential the number alone decides: asking on would be rude.
    code(7_000_215, &[], Meaning::OwnCredential, "our client secret is wrong"),
    // Entra.
    code(7_000_222, &[], Meaning::OwnCredential, "our client secret has expired"),
    // Seen; also for a while after a certificate was replaced.
    code(700_027, &[], Meaning::OwnCredential, "our certificate's signature is not accepted"),
    // Entra.
    code(7_000_218, &[], Meaning::OwnCredential, "no credential of ours arrived"),
    // Entra.
    code(90055, &[], Meaning::Throttled, "the tenant has too many requests"),
    // Entra: the same client asks for the same thing too often.
    code(50196, &[], Meaning::Throttled, "we ask too often (loop detected)"),
    // Entra: transient, retry later.
    code(90033, &[], Meaning::Transient, "the service is unavailable for a moment"),
    code(90090, &[], Meaning::Transient, "the service failed for a moment"),
    code(90024, &[], Meaning::Transient, "the service is busy for a moment"),
];

/// The row for an error with these numbers, if all of them mean the same with this word; our own credential goes first.
#[must_use]
pub fn meaning(word: &str, numbers: &[u64]) -> Option<&'static Code> {
    let of =
        |number: &u64| CODES.iter().find(|c| c.number == *number && (c.words.is_empty() || c.words.contains(&word)));
    let known: Vec<Option<&'static Code>> = numbers.iter().map(of).collect();
    if let Some(own) = known.iter().flatten().find(|c| c.meaning == Meaning::OwnCredential) {
        return Some(own);
    }
    let first = (*known.first()?)?;
    known.iter().all(|c| c.is_some_and(|c| c.meaning == first.meaning)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_known_pair_means_something() {
        let check = |sentence: &str, word: &str, numbers: &[u64], expected: Option<Meaning>| {
            assert_eq!(meaning(word, numbers).map(|c| c.meaning), expected, "{sentence}");
        };
        check("never consented", "unauthorized_client", &[700_016], Some(Meaning::Missing));
        check("the newer number of the same", "invalid_client", &[7_000_229], Some(Meaning::Missing));
        check("its number with a word it never came with", "invalid_grant", &[700_016], None);
        check("a word without numbers", "unauthorized_client", &[], None);
        check("a number never seen", "unauthorized_client", &[7_777_777], None);
        check("a known number beside an unknown one", "unauthorized_client", &[700_016, 7_777_777], None);
        check("two that mean the same", "unauthorized_client", &[700_016, 7_000_229], Some(Meaning::Missing));
        check("two that contradict each other", "unauthorized_client", &[700_016, 7_000_112], None);
        check("our credential, whatever else", "whatever", &[700_016, 7_000_222], Some(Meaning::OwnCredential));
        check("no tenant, at the token endpoint", "invalid_request", &[90002], Some(Meaning::NoTenant));
        check("no tenant, at the configuration", "invalid_tenant", &[90002], Some(Meaning::NoTenant));
        check("a wrong password is none of ours", "invalid_grant", &[50126], None);
        check("a delegated consent is not what was asked", "invalid_grant", &[65001], None);
        check("conditional access", "invalid_grant", &[53003], None);
    }

    #[test]
    fn every_number_stands_once_and_is_reached() {
        for (n, row) in CODES.iter().enumerate() {
            assert!(!CODES[..n].iter().any(|earlier| earlier.number == row.number), "{}", row.number);
            let word = row.words.first().unwrap_or(&"any");
            assert_eq!(meaning(word, &[row.number]).map(|c| c.meaning), Some(row.meaning), "{}", row.number);
        }
    }
}
