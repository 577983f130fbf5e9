//! Invented companies, people and sites: with the letters and marks that break careless programs, all of them in windows-31j.
//! Any likeness to a real company is chance; addresses are in `.example` (RFC 2606).

use super::random::Random;

const STEMS: [&str; 56] = [
    "青葉",
    "朝日野",
    "安曇",
    "石狩",
    "和泉",
    "磐田",
    "雲海",
    "江戸橋",
    "近江",
    "大空",
    "岡崎屋",
    "奥州",
    "海燕",
    "霞ヶ関",
    "桂",
    "鎌倉山",
    "神楽",
    "北辰",
    "木曽路",
    "桐生",
    "九十九",
    "黒潮",
    "高麗",
    "小牧",
    "桜台",
    "佐渡",
    "五月",
    "三条",
    "汐留",
    "信濃",
    "白鷺",
    "瑞穂",
    "駿河",
    "関門",
    "蒼天",
    "髙橋",
    "髙島",
    "﨑山",
    "龍田",
    "竹芝",
    "多摩川",
    "千曲",
    "つばめ",
    "東雲",
    "常磐",
    "長良",
    "難波",
    "日本海",
    "榛名",
    "飛騨",
    "不二",
    "北斗",
    "松島",
    "武蔵",
    "八雲",
    "若狭",
];

const TRADES: [&str; 24] = [
    "商事",
    "工業",
    "電機",
    "製作所",
    "食品",
    "物流",
    "不動産",
    "設計",
    "化学",
    "精機",
    "印刷",
    "建設",
    "運輸",
    "薬品",
    "紙業",
    "水産",
    "繊維",
    "ガラス",
    "システムズ",
    "テクノロジー",
    "ホールディングス",
    "エンジニアリング",
    "・フーズ",
    "総合研究所",
];

/// Names that are hard on files, mail headers and pages.
const AWKWARD: [&str; 12] = [
    "ＡＢＣコンサルティング株式会社",
    "株式会社Ｋ＆Ｍトレーディング",
    "\"ひまわり\"保険サービス株式会社",
    "株式会社O'Hara Japan",
    "R&D <Lab> 株式会社",
    "㈱ﾔﾏﾄｻｰﾋﾞｽ",
    "医療法人社団 﨑陽会",
    "学校法人髙輪台学園",
    "一般社団法人日本中小企業情報化基盤整備推進機構西日本広域連携事業本部付属研修センター",
    "株式会社カンマ,アンド,カンマ",
    "有限会社①番館",
    "有限会社表計算ソフト屋;支店",
];

const PEOPLE: [&str; 20] = [
    "田中 一郎",
    "佐藤 美咲",
    "鈴木 健太",
    "髙橋 さくら",
    "渡邊 誠",
    "伊藤 直子",
    "山﨑 大輔",
    "中村 由美",
    "小林 隆",
    "加藤 恵",
    "吉田 修",
    "山田 花子",
    "佐々木 亮",
    "齋藤 香織",
    "松本 剛",
    "井上 真理",
    "木村 拓也",
    "林 幸子",
    "清水 浩",
    "ジョン・スミス",
];

const SITES: [&str; 24] = [
    "本社",
    "大阪支店",
    "名古屋支店",
    "福岡支店",
    "札幌支店",
    "仙台営業所",
    "広島営業所",
    "横浜営業所",
    "京都事業所",
    "川﨑工場",
    "浜松工場",
    "つくば研究所",
    "九州支社",
    "東北支社",
    "沖縄事務所",
    "新宿第２オフィス",
    "物流センター（厚木）",
    "海外事業部",
    "R&Dセンター",
    "役員用",
    "テスト環境",
    "ﾓﾊﾞｲﾙ専用",
    "千葉～茨城エリア",
    "本社 \"別館\"",
];

/// A company's name. `number` is its place in the fleet: every sixteenth or so is an awkward one, and no two are the same.
pub(super) fn company(number: usize, random: &mut Random) -> String {
    if number % 16 == 3 {
        let name = AWKWARD[(number / 16) % AWKWARD.len()];
        return if number / 16 < AWKWARD.len() { name.to_owned() } else { format!("{name}{}", number / 16) };
    }
    let stem = STEMS[number % STEMS.len()];
    let trade = TRADES[(number / STEMS.len() * 5 + number) % TRADES.len()];
    // Beyond all pairs of stem and trade a number tells them apart, as the second of two companies would do.
    let pairs = STEMS.len() * TRADES.len();
    let again = if number < pairs { String::new() } else { format!("第{}", number / pairs + 1) };
    match random.below(10) {
        0..4 => format!("株式会社{stem}{trade}{again}"),
        4..8 => format!("{stem}{trade}{again}株式会社"),
        8 => format!("有限会社{stem}{trade}{again}"),
        _ => format!("合同会社{stem}{trade}{again}"),
    }
}

/// A contact's name.
pub(super) fn person(random: &mut Random) -> String {
    (*random.pick(&PEOPLE)).to_owned()
}

/// So many different site names, the head office first.
pub(super) fn sites(count: usize, random: &mut Random) -> Vec<String> {
    let mut others: Vec<&str> = SITES[1..].to_vec();
    random.shuffle(&mut others);
    std::iter::once(SITES[0]).chain(others).take(count).map(ToOwned::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_differ_and_fit_into_windows_31j() {
        let mut random = Random::new(1);
        let names: BTreeSet<String> = (0..3000).map(|number| company(number, &mut random)).collect();
        assert_eq!(names.len(), 3000);
        let all = names.iter().map(String::as_str).chain(SITES).chain(PEOPLE);
        for name in all {
            let (octets, _, unmappable) = encoding_rs::SHIFT_JIS.encode(name);
            assert!(!unmappable, "{name}");
            assert_eq!(encoding_rs::SHIFT_JIS.decode(&octets).0, name, "comes back as it went");
        }
    }
}
