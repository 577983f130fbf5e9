//! DKIM: what is signed verifies by a canonicalisation written here on its own (RFC 6376 3.4, 3.7), and a changed message does not.
#![allow(clippy::unwrap_used, reason = "a test may")]

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ED25519, Ed25519KeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, Utc};
use kigen::config::NamedAddress;
use kigen::domain::customer::Address;
use kigen::mail::dkim::Signer;
use kigen::mail::message::{self, Parts};
use sha2::{Digest, Sha256};

fn at() -> DateTime<Utc> {
    DateTime::parse_from_rfc3339("2022-09-01T10:00:00+09:00").unwrap().to_utc()
}

fn mail() -> Vec<u8> {
    let address = |text: &str| Address::new(text).unwrap();
    let parts = Parts {
        from: NamedAddress { name: Some("ExLook サポート".to_owned()), address: address("support@example.jp") },
        reply_to: None,
        to: vec![address("taro@example.com"), address("hanako@example.com")],
        cc: vec![address("boss@example.com")],
        subject: "【重要】Exchange Online の基本認証の廃止に伴う設定変更のお願い（株式会社サンプル商事様）".to_owned(),
        text: "本文\n\n  行  \n".to_owned(),
        html: Some("<p>本文</p>".to_owned()),
        attachments: Vec::new(),
        message_id: message::message_id("key", "example.jp"),
        date: at().fixed_offset(),
        thread: vec![message::message_id("earlier", "example.jp")],
        list_id: Some("notices.example.jp".to_owned()),
    };
    message::build(&parts).unwrap()
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|c| std::str::from_utf8(c).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn pkcs8(key: &RsaKeyPair) -> Vec<u8> {
    AsDer::<Pkcs8V1Der<'_>>::as_der(key).unwrap().as_ref().to_vec()
}

/// The key inside PKCS#8: what follows the one OCTET STRING of a 2048-bit RSA key.
fn pkcs1(pkcs8: &[u8]) -> &[u8] {
    assert_eq!(pkcs8[22], 0x04, "OCTET STRING with a length of two octets");
    &pkcs8[26..]
}

/// An independent verifier: the hash to be signed, and the signature, from the finished message.
fn verify(whole: &[u8], check: impl Fn(&[u8], &[u8]) -> bool) -> bool {
    let text = String::from_utf8(whole.to_vec()).unwrap();
    let (header, body) = text.split_once("\r\n\r\n").unwrap();
    let mut fields: Vec<String> = Vec::new();
    for line in header.split("\r\n") {
        if line.starts_with(' ') || line.starts_with('\t') {
            fields.last_mut().unwrap().push_str(line);
        } else {
            fields.push(line.to_owned());
        }
    }
    let canon = |field: &str| {
        let (name, value) = field.split_once(':').unwrap();
        format!("{}:{}", name.to_lowercase().trim(), value.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
    };
    let own = fields.iter().find(|f| f.starts_with("DKIM-Signature:")).unwrap().clone();
    let tags: Vec<(String, String)> = own["DKIM-Signature:".len()..]
        .split(';')
        .map(|tag| tag.split_once('=').unwrap())
        .map(|(k, v)| (k.trim().to_owned(), v.split_ascii_whitespace().collect::<String>()))
        .collect();
    let tag = |name: &str| tags.iter().find(|(k, _)| k == name).unwrap().1.clone();
    assert_eq!((tag("v").as_str(), tag("c").as_str()), ("1", "relaxed/relaxed"));
    assert_eq!((tag("d").as_str(), tag("s").as_str()), ("example.jp", "s1"));
    assert_eq!(tag("t"), at().timestamp().to_string());

    let mut lines: Vec<String> = body
        .split("\r\n")
        .map(|l| {
            let lead = if l.starts_with([' ', '\t']) && !l.trim().is_empty() { " " } else { "" };
            lead.to_owned() + &l.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
        })
        .collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    let body: String = lines.iter().map(|l| format!("{l}\r\n")).collect();
    if BASE64.encode(Sha256::digest(body)) != tag("bh") {
        return false;
    }
    let mut left = fields.clone();
    let mut data = String::new();
    for name in tag("h").split(':') {
        // The lowest field of that name that is not used yet; one that is not there counts as nothing.
        let of_name = |f: &String| f.split(':').next().unwrap().eq_ignore_ascii_case(name);
        if let Some(n) = left.iter().rposition(of_name) {
            data.push_str(&canon(&left.remove(n)));
            data.push_str("\r\n");
        }
    }
    let b = own.rfind("b=").unwrap();
    data.push_str(canon(&own[..b + 2]).trim_end());
    check(data.as_bytes(), &BASE64.decode(tag("b")).unwrap())
}

#[test]
fn an_rsa_signature_verifies_from_either_form_of_the_key() {
    let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let public = key.public_key().as_ref().to_vec();
    let check = |data: &[u8], sig: &[u8]| {
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &public).verify(data, sig).is_ok()
    };
    let der = pkcs8(&key);
    let mail = mail();
    for pem in [pem("PRIVATE KEY", &der), pem("RSA PRIVATE KEY", pkcs1(&der))] {
        let signer = Signer::new("example.jp", "s1", &pem).unwrap();
        assert_eq!(signer.dns_name(), "s1._domainkey.example.jp");
        let whole = signer.sign(&mail, at()).unwrap();
        assert!(whole.ends_with(&mail), "the message is not touched");
        message::well_formed(&whole).unwrap();
        assert!(verify(&whole, check));
        let header = String::from_utf8(whole[..whole.len() - mail.len()].to_vec()).unwrap();
        assert!(header.lines().all(|l| l.len() <= 78), "{header}");
        let unfolded: String = header.split_ascii_whitespace().collect();
        assert!(unfolded.contains("h=From:From:To:Cc:Subject:Date:Message-ID:In-Reply-To:References:MIME-Version:Content-Type:Auto-Submitted;"), "{unfolded}");

        let text = String::from_utf8(whole).unwrap();
        let changed = [
            text.replace("hanako@", "hanaka@"),
            text.replacen("\r\nTo:", "\r\nFrom: x@evil.example\r\nTo:", 1),
            text.replacen("multipart/alternative", "multipart/mixed", 1),
            format!("{text}more\r\n"),
        ];
        for changed in changed {
            assert_ne!(changed, text);
            assert!(!verify(changed.as_bytes(), check));
        }
        assert!(verify(format!("{}\r\n\r\n", text.replacen("\r\n\r\n", " \r\n\r\n", 1)).as_bytes(), check), "relaxed");
    }
}

#[test]
fn an_ed25519_signature_verifies() {
    let key = Ed25519KeyPair::generate().unwrap();
    let public = key.public_key().as_ref().to_vec();
    let pem = pem("PRIVATE KEY", key.to_pkcs8v1().unwrap().as_ref());
    let whole = Signer::new("example.jp", "s1", &pem).unwrap().sign(&mail(), at()).unwrap();
    assert!(String::from_utf8_lossy(&whole).contains("a=ed25519-sha256;"));
    // RFC 8463 section 3: what is signed is the hash.
    assert!(verify(&whole, |data, sig| {
        UnparsedPublicKey::new(&ED25519, &public).verify(&Sha256::digest(data), sig).is_ok()
    }));
}

#[test]
fn a_small_key_is_refused() {
    // A 1024-bit key, made for this test.
    let pem = include_str!("fixtures/dkim/rsa1024.pem");
    let error = Signer::new("example.jp", "s1", pem).err().unwrap();
    assert!(error.to_string().contains("2048"), "{error}");
}
