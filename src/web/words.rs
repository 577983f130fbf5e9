//! The contract's words and the program's own sentences in Japanese.
//!
//! Reasons and the history are stored once, in English. A sentence that was made here is known by its pattern and said in
//! Japanese; whatever is not (a server's reply, a person's note) stays as it is, letter by letter.

/// Word, Japanese, English. A word that is not here is shown as it is, without underscores.
const WORDS: &[(&str, &str, &str)] = &[
    ("affected", "対象", "affected"),
    ("switched", "切替済み", "switched"),
    ("consent_missing", "同意なし", "consent missing"),
    ("not_exchange_online", "対象外", "not Exchange Online"),
    ("unreadable", "読取不可", "unreadable"),
    ("clear", "該当なし", "clear"),
    ("first", "初回", "first"),
    ("reminder", "再通知", "reminder"),
    ("overdue", "期限超過", "overdue"),
    ("consent", "同意の依頼", "consent"),
    ("resolved", "完了", "resolved"),
    ("regressed", "再発", "regressed"),
    ("rescheduled", "期限変更", "rescheduled"),
    ("held", "保留", "held"),
    ("queued", "送信待ち", "queued"),
    ("sending", "送信中", "sending"),
    ("sent", "送信済み", "sent"),
    ("unknown", "不明", "unknown"),
    ("failed", "失敗", "failed"),
    ("dropped", "取消", "dropped"),
    ("pending", "未配送", "pending"),
    ("accepted", "受理", "accepted"),
    ("rejected", "拒否", "rejected"),
    ("deferred", "再試行待ち", "deferred"),
    ("blocked", "中断", "blocked"),
    ("scan", "スキャン", "scan"),
    ("notices", "通知", "notices"),
    ("digest", "日報", "digest"),
    ("bounces", "不達確認", "bounces"),
    ("done", "完了", "done"),
    ("interrupted", "中断", "interrupted"),
    ("running", "実行中", "running"),
    ("seen", "観測", "seen"),
    ("decided", "判断", "decided"),
    ("answered", "応答", "answered"),
    ("review", "承認待ち", "awaits approval"),
    ("cap", "初回通知の上限", "cap on first notices"),
    ("hold", "送信停止中", "sending is on hold"),
    ("paused", "一時停止", "paused"),
    ("newly_affected", "対象の急増", "sudden rise of affected sites"),
    ("restored", "データの復元", "restored"),
    ("exchange_online", "Exchange Online", "Exchange Online"),
    ("on_premises", "オンプレミス", "on-premises"),
    ("basic", "基本認証", "basic"),
    ("oauth", "OAuth", "OAuth"),
    ("on_premises_basic", "オンプレミスの認証", "on-premises basic"),
    ("inventory_error", "顧客ファイルの誤り", "inventory error"),
    ("logon_refused", "ログオン拒否", "logon refused"),
    ("account_locked", "アカウントロック", "account locked"),
    ("password_change_required", "パスワード変更要求", "password change required"),
    ("maintenance", "メンテナンス中", "maintenance"),
    ("timeout", "タイムアウト", "timeout"),
    ("dns", "名前解決", "DNS"),
    ("connect", "接続", "connect"),
    ("tls", "TLS", "TLS"),
    ("http_status", "HTTPエラー", "HTTP status"),
    ("layout_changed", "画面変更", "layout changed"),
    ("unknown_value", "未知の値", "unknown value"),
    ("session_lost", "セッション切れ", "session lost"),
    ("too_large", "ページ過大", "too large"),
    ("site_missing", "サイトなし", "site missing"),
    ("skipped", "未実施", "skipped"),
    ("deadline", "期限", "deadline"),
    ("postponed", "延長期限", "postponed deadline"),
    ("final", "完全停止", "off for good"),
    ("nothing", "なし", "nothing"),
    ("resolve_silently", "通知せずに完了", "resolve without a notice"),
    ("approved", "承認", "approved"),
    ("retried", "再送", "retried"),
    ("cancelled", "取消", "cancelled"),
    ("released", "保留解除", "released"),
    ("resume", "再開", "resumed"),
    ("stopped", "停止", "stopped"),
    ("asked", "スキャン指示", "scan asked for"),
];

/// A word for Japanese readers.
pub(super) fn ja(word: &str) -> String {
    known(word).map_or_else(|| word.to_owned(), |(_, ja, _)| (*ja).to_owned())
}

/// A word for English readers.
pub(super) fn en(word: &str) -> String {
    known(word).map_or_else(|| word.replace('_', " "), |(_, _, en)| (*en).to_owned())
}

fn known(word: &str) -> Option<&'static (&'static str, &'static str, &'static str)> {
    WORDS.iter().find(|(key, _, _)| *key == word)
}

/// English with `{}` for what varies, and Japanese with `{n}` for the n-th of these: `{n}` as it is, `{n:w}` one of the
/// [`WORDS`] or the pattern does not apply, `{n:s}` a sentence of this list or the pattern does not apply, `{n:f}` a
/// sentence of this list or as it is, `{n:k}` a notice's kind and perhaps its milestone, `{n:d}` a milestone.
/// The first that applies is taken.
const SENTENCES: &[(&str, &str)] = &[
    // What the planner gives as its reason.
    (
        "{} site(s) affected again since {}; the case had been resolved",
        "完了したあと、{1} から {0} サイトがふたたび対象になりました",
    ),
    ("{} site(s) affected since {}; not told yet", "{1} から {0} サイトが対象になりました。まだ通知していません"),
    ("the deadline moved from {} (told on {}) to {}", "期限が {0}({1} に通知)から {2} に変わりました"),
    (
        "told on {}; the next overdue notice is due {} days later",
        "{0} に通知済み。次の期限超過の通知はその {1} 日後です",
    ),
    ("{} day(s) past the deadline {}; not told since", "期限 {1} を {0} 日過ぎました。期限後はまだ通知していません"),
    ("{} day(s) past the deadline {}; told on {}", "期限 {1} を {0} 日過ぎました。前回の通知は {2} です"),
    (
        "still affected; the {} reminder's day {} is reached, last told on {}",
        "まだ対象です。{0:d}前の再通知の日 {1} になりました。前回の通知は {2} です",
    ),
    ("told on {}; the next reminder's day is not reached", "{0} に通知済み。次の再通知の日はまだ来ていません"),
    (
        "told of the missing consent on {}; again after {} days",
        "{0} に同意を依頼しました。{1} 日後にもう一度依頼します",
    ),
    (
        "OAuth is chosen, consent is still missing; last told on {}",
        "OAuth を選択済みですが、同意がまだありません。前回の通知は {0} です",
    ),
    ("OAuth is chosen, but consent is missing", "OAuth を選択済みですが、同意がありません"),
    ("the case is resolved", "この件は完了しています"),
    ("not clear for {} scans in a row yet", "{0} 回続けて該当なしになるのを待っています"),
    ("no site is affected for {} scans in a row", "{0} 回続けて対象のサイトがありません"),
    ("the customers file says notify = no", "顧客ファイルで通知しない設定(notify = no)です"),
    ("{} is no business day: {}", "{0} は営業日ではありません({1:f})"),
    ("no business day: {}", "営業日ではありません({0:f})"),
    ("a public holiday ({})", "祝日: {0}"),
    ("closed by business_hours.closed", "休業日"),
    ("{} is not one of business_hours.days", "{0} は営業曜日ではありません"),
    ("cap: more than {} first notices in one pass", "一度に送る初回通知が上限の {0} 通を超えます"),
    // Why a notice was overtaken.
    (
        "the case is in round {} by now, the notice is of round {}",
        "この件はもう第 {0} 回で、この通知は第 {1} 回のものです",
    ),
    ("a site is affected: that is to be told first", "対象のサイトがあるため、そちらを先に通知します"),
    ("a site is affected or lacks consent again", "ふたたび対象または同意なしのサイトがあります"),
    ("no site of the customer is {} any more", "「{0:w}」のサイトはもうありません"),
    ("the deadline moved from {} to {}", "期限が {0} から {1} に変わりました"),
    ("the deadline {} has passed", "期限 {0} を過ぎました"),
    ("the day of the {} reminder is reached", "{0:d}前の再通知の日になりました"),
    // What happens to a case.
    ("case opened", "対応を開始"),
    ("case reopened, round {}", "対応を再開(第 {0} 回)"),
    ("case resolved silently: nobody had been told", "完了(誰にも通知していなかったため、通知なし)"),
    ("case resolved", "完了"),
    ("site {}: no longer listed, {} scan(s) in a row", "サイト {0}: 一覧にありません(連続 {1} 回)"),
    ("site {}: {} -> {}", "サイト {0}: {1:w} → {2:w}"),
    // What was seen.
    ("site {}: {}", "サイト {0}: {1:s}"),
    ("no site could be listed: {}", "サイトの一覧を取得できません: {0:s}"),
    ("{} ({}) [{}]: {}", "{0:w}({1:w})[{2}]: {3}"),
    ("{} ({}) [{}]", "{0:w}({1:w})[{2}]"),
    ("{} ({}): {}", "{0:w}({1:w}): {2}"),
    ("{} ({})", "{0:w}({1:w})"),
    ("{} [{}]: {}", "{0:w} [{1}]: {2}"),
    ("{} [{}]", "{0:w} [{1}]"),
    ("{}", "{0:w}"),
    // What becomes of a mail.
    ("{} notice (delivery {}): {}", "{0:k}の通知(メール {1}): {2:f}"),
    ("queued, to {}, about {}: {}", "送信待ち。宛先 {0}、サイト {1}。{2:f}"),
    ("held ({}), to {}, about {}: {}", "保留({0:w})。宛先 {1}、サイト {2}。{3:f}"),
    ("attempt {} {}: {}", "{0} 回目の送信: {1:w}。応答: {2}"),
    ("attempt {}", "{0} 回目の送信"),
    ("sent; refused for {}", "送信済み。ただし {0} には拒否されました"),
    ("held ({}): {}", "保留({0:w}): {1:f}"),
    ("dropped before it left: {}", "送信前に取りやめ: {0:f}"),
    ("unknown: {}", "受理されたか不明: {0:f}"),
    ("failed: {}", "失敗: {0:f}"),
    ("dropped: {}", "取消: {0:f}"),
    ("approved by {}", "{0} が承認"),
    ("retried by {}", "{0} が再送を指示"),
    ("cancelled by {}", "{0} が取消"),
    ("released by {}", "{0} が保留を解除"),
    ("a scan of this customer was asked for by {}", "{0} がこの顧客のスキャンを指示"),
    ("the address is dead: {}", "宛先が無効です: {0}"),
    ("the recipient's server refuses us", "相手のサーバーが当方を拒否しています"),
    ("the recipient's server refuses us: {}", "相手のサーバーが当方を拒否しています: {0}"),
    ("reported as spam: {}", "迷惑メールとして報告されました: {0}"),
    ("refused by a filter or rule: {}", "フィルターまたは規則により拒否されました: {0}"),
    ("came back, and why is unclear: {}", "戻ってきましたが、理由は不明です: {0}"),
    ("came back for a passing reason: {}", "一時的な理由で戻ってきました: {0}"),
    ("is delayed on its way: {}", "配送が遅れています: {0}"),
    ("a machine answered: {}", "自動応答がありました: {0}"),
    // Holds.
    ("all mail held ({}) by {}: {}", "{1} が全送信を停止({0:w}): {2}"),
    ("all mail held ({}): {}", "全送信を停止({0:w}): {1}"),
    ("resumed by {}: {}", "{0} が送信を再開({1:f})"),
    (
        "one scan found {} newly affected customers of {} (safety.hold_if_newly_affected): this looks like a misreading; look at \
         `kigen sites --verdict affected`, then `kigen resume`",
        "一回のスキャンで {1} 社中 {0} 社が新たに対象になりました(safety.hold_if_newly_affected)。読み間違いの疑いがあります。\
         対象のサイトを確かめてから再開してください",
    ),
    (
        "this state is not the one that was here: {}. What was sent meanwhile it may not know; look at `kigen outbox list` and \
         `kigen plan`, then `kigen resume`",
        "データベースがこれまでのものと違います({0:f})。その間に送ったメールが記録にないかもしれません。\
         送信箱と予定を確かめてから再開してください",
    ),
    (
        "its .identity file is missing: it was restored from a backup, or copied here",
        "バックアップからの復元または複製",
    ),
    ("its .identity file is damaged, so nobody can tell whether it was restored", ".identity ファイルの破損"),
    (
        "it is a new one, or a backup from before an upgrade: it knows nothing of the one that was here",
        "新しいもの、または更新前のバックアップ",
    ),
    ("it is not the one that was here before", "別のデータベース"),
    (
        "it was restored from a backup: it stands at epoch {}, and this place has seen {}",
        "バックアップからの復元: 世代 {0}、ここでは {1} まで",
    ),
    ("it was copied from another machine", "別のマシンからの複製"),
    ("its file was restored from a backup, or copied", "バックアップからの復元または複製"),
    ("it was restored from a backup, or copied, with all beside it", "バックアップからの復元または複製"),
    (
        "{} logons in a row were refused (safety.logon_failures): the scan stopped so that no account is locked; look at the admin \
         tool and the customers file",
        "ログオンが続けて {0} 回拒否されたため(safety.logon_failures)、アカウントをロックしないようスキャンを止めました。\
         管理ツールと顧客ファイルを確かめてください",
    ),
    ("longer than scan.max_duration", "scan.max_duration を超えました"),
    ("stopped before its end", "途中で停止しました"),
    // A report names the address first.
    ("{}: {}", "{0}: {1:s}"),
];

/// How deep a sentence may stand in a sentence.
const DEPTH: usize = 4;

/// A sentence of the program in Japanese; any other text as it is.
pub(super) fn said(text: &str) -> String {
    sentence(text, DEPTH).unwrap_or_else(|| text.to_owned())
}

fn sentence(text: &str, depth: usize) -> Option<String> {
    let depth = depth.checked_sub(1)?;
    SENTENCES.iter().find_map(|(english, japanese)| fill(japanese, &parts(english, text)?, depth))
}

/// What stands at the holes of a pattern.
fn parts<'t>(pattern: &str, text: &'t str) -> Option<Vec<&'t str>> {
    let mut literals = pattern.split("{}");
    let mut rest = text.strip_prefix(literals.next()?)?;
    let mut literals: Vec<&str> = literals.collect();
    let Some(last) = literals.pop() else { return rest.is_empty().then(Vec::new) };
    let mut found = Vec::with_capacity(literals.len() + 1);
    for literal in literals {
        let (part, behind) = rest.split_once(literal)?;
        found.push(part);
        rest = behind;
    }
    found.push(rest.strip_suffix(last)?);
    Some(found)
}

/// The Japanese pattern with these parts; `None`: a part is not what the pattern asks for.
fn fill(pattern: &str, parts: &[&str], depth: usize) -> Option<String> {
    let mut text = String::new();
    let mut rest = pattern;
    while let Some((before, behind)) = rest.split_once('{') {
        let (hole, after) = behind.split_once('}')?;
        let (number, kind) = hole.split_once(':').unwrap_or((hole, ""));
        let part = *parts.get(number.parse::<usize>().ok()?)?;
        text.push_str(before);
        text.push_str(&match kind {
            "w" => known(part)?.1.to_owned(),
            "s" => sentence(part, depth)?,
            "f" => sentence(part, depth).unwrap_or_else(|| part.to_owned()),
            "k" => notice(part)?,
            "d" => milestone(part),
            _ => part.to_owned(),
        });
        rest = after;
    }
    text.push_str(rest);
    Some(text)
}

/// `reminder 7d` or `first`.
fn notice(label: &str) -> Option<String> {
    let (kind, when) = label.split_once(' ').unwrap_or((label, ""));
    let kind = known(kind)?.1;
    Some(if when.is_empty() { kind.to_owned() } else { format!("{kind} {}", before(when)) })
}

/// How far ahead of the deadline: `7d` is 7 日前.
pub(super) fn before(text: &str) -> String {
    format!("{}前", milestone(text))
}

fn milestone(text: &str) -> String {
    text.strip_suffix('d').map_or_else(|| text.to_owned(), |days| format!("{days} 日"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_takes_its_own_sentence_and_no_hole_is_lost() {
        for (english, japanese) in SENTENCES {
            let holes = english.matches("{}").count();
            for n in 0..holes {
                assert!(japanese.contains(&format!("{{{n}")), "{english}: part {n} is lost");
            }
            let sample = "x".to_owned();
            let text = english.replace("{}", &sample);
            assert_eq!(parts(english, &text).map(|p| p.len()), Some(holes), "{english}");
        }
    }

    #[test]
    fn sentences_of_the_program_are_japanese_and_others_stay_as_they_are() {
        for (english, wanted) in [
            (
                "2 site(s) affected since 2022-09-01; not told yet",
                "2022-09-01 から 2 サイトが対象になりました。まだ通知していません",
            ),
            (
                "still affected; the 7d reminder's day 2022-09-22 is reached, last told on 2022-09-15",
                "まだ対象です。7 日前の再通知の日 2022-09-22 になりました。前回の通知は 2022-09-15 です",
            ),
            (
                "2022-09-23 is no business day: a public holiday (秋分の日)",
                "2022-09-23 は営業日ではありません(祝日: 秋分の日)",
            ),
            ("site 本社: affected -> clear", "サイト 本社: 対象 → 該当なし"),
            (
                "site 本社: affected [Exchange Online に接続する / 基本認証 (Office 365の場合)]",
                "サイト 本社: 対象 [Exchange Online に接続する / 基本認証 (Office 365の場合)]",
            ),
            (
                "no site could be listed: unreadable (timeout): no answer",
                "サイトの一覧を取得できません: 読取不可(タイムアウト): no answer",
            ),
            (
                "reminder 7d notice (delivery 12): dropped before it left: the case is resolved",
                "再通知 7 日前の通知(メール 12): 送信前に取りやめ: この件は完了しています",
            ),
            (
                "first notice (delivery 3): attempt 1 accepted: 250 2.0.0 ok",
                "初回の通知(メール 3): 1 回目の送信: 受理。応答: 250 2.0.0 ok",
            ),
            (
                "first notice (delivery 3): a***@x.example: the address is dead: 550 no such user",
                "初回の通知(メール 3): a***@x.example: 宛先が無効です: 550 no such user",
            ),
            (
                "one scan found 3 newly affected customers of 9 (safety.hold_if_newly_affected): this looks like a misreading; look \
                 at `kigen sites --verdict affected`, then `kigen resume`",
                "一回のスキャンで 9 社中 3 社が新たに対象になりました(safety.hold_if_newly_affected)。読み間違いの疑いがあります。\
                 対象のサイトを確かめてから再開してください",
            ),
            ("all mail held (paused) by taro: 誤送信の疑い", "taro が全送信を停止(一時停止): 誤送信の疑い"),
            ("550 5.1.1 <x>: user unknown", "550 5.1.1 <x>: user unknown"),
            ("{0:w} {1}", "{0:w} {1}"),
            ("", ""),
        ] {
            assert_eq!(said(english), wanted, "{english}");
        }
    }
}
