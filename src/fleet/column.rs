//! The columns of the customers file: their names, the other names Excel files in Japan give them, and which kind of cell
//! each holds.

use unicode_normalization::UnicodeNormalization;

/// One column of `customers.csv`, one key of a `[[customer]]` table; in the contract's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Column {
    CustomerId,
    Name,
    Email,
    ContactName,
    Cc,
    FallbackEmail,
    Phone,
    Language,
    Account,
    Password,
    PasswordFile,
    Credential,
    LogonUrl,
    TenantDomain,
    FeaturePhone,
    Smartphone,
    OptedOut,
    Done,
    Notify,
    Sites,
    Note,
}

impl Column {
    /// Every column, in the contract's order.
    pub const ALL: [Self; 21] = [
        Self::CustomerId,
        Self::Name,
        Self::Email,
        Self::ContactName,
        Self::Cc,
        Self::FallbackEmail,
        Self::Phone,
        Self::Language,
        Self::Account,
        Self::Password,
        Self::PasswordFile,
        Self::Credential,
        Self::LogonUrl,
        Self::TenantDomain,
        Self::FeaturePhone,
        Self::Smartphone,
        Self::OptedOut,
        Self::Done,
        Self::Notify,
        Self::Sites,
        Self::Note,
    ];

    /// Those a file cannot be without.
    pub const REQUIRED: [Self; 3] = [Self::CustomerId, Self::Name, Self::Email];

    /// The name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::CustomerId => "customer_id",
            Self::Name => "name",
            Self::Email => "email",
            Self::ContactName => "contact_name",
            Self::Cc => "cc",
            Self::FallbackEmail => "fallback_email",
            Self::Phone => "phone",
            Self::Language => "language",
            Self::Account => "account",
            Self::Password => "password",
            Self::PasswordFile => "password_file",
            Self::Credential => "credential",
            Self::LogonUrl => "logon_url",
            Self::TenantDomain => "tenant_domain",
            Self::FeaturePhone => "feature_phone",
            Self::Smartphone => "smartphone",
            Self::OptedOut => "opted_out",
            Self::Done => "done",
            Self::Notify => "notify",
            Self::Sites => "sites",
            Self::Note => "note",
        }
    }

    /// The column with exactly this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.name() == name)
    }

    /// The column an Excel file means: by any of its names, whatever the width, case and spacing of the letters.
    pub fn parse_loosely(name: &str) -> Option<Self> {
        let folded = folded(name);
        let own = |c: &Self| c.name().replace('_', "") == folded;
        Self::ALL
            .into_iter()
            .find(own)
            .or_else(|| ALIASES.iter().find(|(_, names)| names.iter().any(|n| *n == folded)).map(|(column, _)| *column))
    }

    /// Whether the cell holds several values, with `;` between them.
    pub fn is_list(self) -> bool {
        matches!(self, Self::Email | Self::Cc | Self::FallbackEmail | Self::Done | Self::Sites)
    }

    /// Whether the cell holds `yes` or `no`.
    pub fn is_yes_no(self) -> bool {
        matches!(self, Self::FeaturePhone | Self::Smartphone | Self::OptedOut | Self::Notify)
    }
}

/// NFKC, lower case, without spaces, underscores, hyphens and the marks people put around a required column's name.
fn folded(name: &str) -> String {
    name.nfkc()
        .flat_map(char::to_lowercase)
        .filter(|c| !c.is_whitespace() && !matches!(c, '_' | '-' | '*' | '※' | '(' | ')' | '[' | ']' | ':'))
        .collect()
}

/// Other names, folded. One name stands for one column only; what may mean something else (`URL`: the company's home page,
/// 携帯電話: a number) is left out.
const ALIASES: &[(Column, &[&str])] = &[
    (
        Column::CustomerId,
        &["id", "顧客id", "顧客番号", "顧客コード", "お客様id", "お客様番号", "お客様コード", "得意先コード"],
    ),
    (
        Column::Name,
        &["customername", "company", "companyname", "顧客名", "会社名", "お客様名", "企業名", "得意先名", "社名"],
    ),
    (
        Column::Email,
        &[
            "mail",
            "mailaddress",
            "emailaddress",
            "メール",
            "メールアドレス",
            "eメール",
            "宛先",
            "to",
            "通知先",
            "通知先メールアドレス",
            "担当者メールアドレス",
        ],
    ),
    (Column::ContactName, &["contact", "担当者", "担当者名", "ご担当者", "ご担当者名", "氏名"]),
    (Column::Cc, &["ccメールアドレス", "ccメール", "写し"]),
    (
        Column::FallbackEmail,
        &["予備メールアドレス", "予備メール", "予備のメールアドレス", "代替メールアドレス", "代替メール", "予備連絡先"],
    ),
    (Column::Phone, &["tel", "telephone", "phonenumber", "電話", "電話番号"]),
    (Column::Language, &["lang", "言語"]),
    (
        Column::Account,
        &[
            "username",
            "user",
            "logonid",
            "loginid",
            "アカウント",
            "管理者アカウント",
            "アカウント名",
            "ログオンid",
            "ログインid",
            "ユーザー名",
        ],
    ),
    (Column::Password, &["pass", "パスワード", "管理者パスワード"]),
    (Column::PasswordFile, &["パスワードファイル"]),
    (Column::Credential, &["クレデンシャル", "資格情報"]),
    (Column::LogonUrl, &["loginurl", "ログオンurl", "ログインurl", "管理ツールurl"]),
    (Column::TenantDomain, &["tenant", "テナント", "テナントドメイン"]),
    (Column::FeaturePhone, &["フィーチャーフォン", "ガラケー"]),
    (Column::Smartphone, &["スマートフォン", "スマホ"]),
    (Column::OptedOut, &["optout", "オプトアウト", "延期", "延期申請", "延期済み", "延期済"]),
    (Column::Notify, &["notification", "通知", "通知する", "通知可否"]),
    (Column::Sites, &["site", "sitename", "sitenames", "サイト", "サイト名", "exlookサイト", "exlookサイト名"]),
    (Column::Note, &["notes", "remarks", "memo", "備考", "メモ", "摘要"]),
];

/// `; did you mean "email"?`, or nothing.
pub(super) fn did_you_mean(name: &str) -> String {
    if let Some(column) = Column::parse_loosely(name) {
        return format!("; write `{}`", column.name());
    }
    let close = Column::ALL
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(c.name(), &name.to_lowercase()), c.name()))
        .filter(|(distance, known)| *distance <= 1.max(known.len() / 3))
        .min();
    close.map_or_else(String::new, |(_, known)| format!("; did you mean `{known}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for (i, column) in Column::ALL.into_iter().enumerate() {
            assert_eq!(column as usize, i, "the order of ALL is the order of the enum");
            assert_eq!(Column::parse(column.name()), Some(column));
        }
        let mut names: Vec<&str> = ALIASES.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        for name in &names {
            assert_eq!(folded(name), *name, "aliases are written folded");
            assert!(!Column::ALL.iter().any(|c| c.name().replace('_', "") == *name), "{name}: is a column's own name");
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "no alias stands for two columns");
    }

    #[test]
    fn excel_names_are_understood() {
        for (given, column) in [
            ("Customer ID", Some(Column::CustomerId)),
            (" ＣＵＳＴＯＭＥＲ＿ＩＤ ", Some(Column::CustomerId)),
            ("顧客ＩＤ", Some(Column::CustomerId)),
            ("E-mail", Some(Column::Email)),
            ("メールアドレス（※）", Some(Column::Email)),
            ("ﾒｰﾙｱﾄﾞﾚｽ", Some(Column::Email)),
            ("CC", Some(Column::Cc)),
            ("担当者　名", Some(Column::ContactName)),
            ("カナ", None),
            ("", None),
        ] {
            assert_eq!(Column::parse_loosely(given), column, "{given}");
        }
    }
}
