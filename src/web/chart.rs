//! The burn-down chart as inline SVG: affected sites a day, the deadline, and the line that would be needed. Numbers and
//! dates only, so nothing in it needs escaping; colours come from the style sheet.

use std::fmt::Write;

use chrono::{Datelike, NaiveDate, TimeDelta};

use crate::domain::customer::Language;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 34.0;

struct Scale {
    first: NaiveDate,
    days: f64,
    top: f64,
}

impl Scale {
    #[allow(clippy::cast_precision_loss, reason = "days and sites fit an f64")]
    fn x(&self, day: NaiveDate) -> f64 {
        LEFT + (day - self.first).num_days() as f64 / self.days * (WIDTH - LEFT - RIGHT)
    }

    #[allow(clippy::cast_precision_loss, reason = "days and sites fit an f64")]
    fn y(&self, n: i64) -> f64 {
        HEIGHT - BOTTOM - n as f64 / self.top * (HEIGHT - TOP - BOTTOM)
    }
}

/// A drawing of `course` (a number a day, without gaps); `None` when nothing was looked at yet.
#[allow(clippy::cast_precision_loss, reason = "days and sites fit an f64")]
pub(super) fn burn_down(
    course: &[(NaiveDate, i64)],
    today: NaiveDate,
    deadline: NaiveDate,
    language: Language,
) -> Option<String> {
    let (first, begun) = *course.first()?;
    let (_, now) = *course.last()?;
    let last = deadline.max(today).max(first + TimeDelta::days(7)) + TimeDelta::days(2);
    // A chart of years shows nothing: the last year is enough.
    let first = first.max(last - TimeDelta::days(400));
    let step = step(course.iter().map(|(_, n)| *n).max().unwrap_or(0));
    let top = course.iter().map(|(_, n)| *n).max().unwrap_or(0) / step * step + step;
    let scale = Scale { first, days: (last - first).num_days() as f64, top: top as f64 };
    let ja = language == Language::Ja;

    let label = if ja {
        format!("対象サイト数の推移。最初 {begun}、現在 {now}、期限 {deadline}")
    } else {
        format!("Affected sites over time: {begun} at first, {now} now; deadline {deadline}")
    };
    let mut svg = format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label}\" xmlns=\"http://www.w3.org/2000/svg\">"
    );
    axes(&mut svg, &scale, step, top, last, ja);
    area(&mut svg, &scale, course, first);
    if today < deadline && now > 0 {
        let (x1, y1, x2, y2) = (scale.x(today), scale.y(now), scale.x(deadline), scale.y(0));
        let _ = write!(svg, "<line class=\"needed\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>");
    }
    let (x, bottom) = (scale.x(deadline), scale.y(0));
    let text = if ja { "期限" } else { "deadline" };
    let _ = write!(
        svg,
        "<line class=\"deadline\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\"/>\
         <text class=\"mark\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text} {}/{}</text>",
        TOP - 12.0,
        deadline.month(),
        deadline.day()
    );
    let (x, y) = (scale.x(today), scale.y(now));
    let anchor = if x > WIDTH - 120.0 { "end" } else { "start" };
    let dx = if anchor == "end" { -9.0 } else { 9.0 };
    let _ = write!(
        svg,
        "<circle class=\"now\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\"/><text class=\"value\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{now}</text></svg>",
        x + dx,
        y - 9.0
    );
    Some(svg)
}

/// A round distance between the lines, so that there are about five.
fn step(max: i64) -> i64 {
    let mut step = 1;
    for factor in [2, 5, 10].into_iter().cycle().take(60) {
        if max / step < 5 {
            break;
        }
        step = match factor {
            2 => step * 2,
            5 => step / 2 * 5,
            _ => step * 2,
        };
    }
    step.max(1)
}

fn axes(svg: &mut String, scale: &Scale, step: i64, top: i64, last: NaiveDate, ja: bool) {
    let right = WIDTH - RIGHT;
    for n in (0..=top / step).map(|n| n * step) {
        let y = scale.y(n);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>\
             <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{n}</text>",
            LEFT - 8.0,
            y + 4.5
        );
    }
    let months: Vec<NaiveDate> = scale.first.iter_days().take_while(|d| *d <= last).filter(|d| d.day() == 1).collect();
    let every = months.len() / 8 + 1;
    for month in months.into_iter().step_by(every) {
        let x = scale.x(month);
        let text = if ja { format!("{}月", month.month()) } else { month.format("%b").to_string() };
        let bottom = scale.y(0);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{bottom:.1}\" x2=\"{x:.1}\" y2=\"{:.1}\"/>\
             <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>",
            bottom + 5.0,
            bottom + 21.0
        );
    }
}

/// The course as steps: a number stands until the next day's.
fn area(svg: &mut String, scale: &Scale, course: &[(NaiveDate, i64)], first: NaiveDate) {
    let mut line = String::new();
    let mut before: Option<(f64, f64)> = None;
    let shown = course.iter().filter(|(day, _)| *day >= first);
    let (mut start, mut end) = (LEFT, LEFT);
    for (day, n) in shown {
        let (x, y) = (scale.x(*day), scale.y(*n));
        match before {
            None => {
                start = x;
                let _ = write!(line, "M{x:.1} {y:.1}");
            }
            Some((_, last_y)) => {
                let _ = write!(line, "L{x:.1} {last_y:.1}L{x:.1} {y:.1}");
            }
        }
        before = Some((x, y));
        end = x;
    }
    let base = scale.y(0);
    let _ = write!(
        svg,
        "<path class=\"area\" d=\"{line}L{end:.1} {base:.1}L{start:.1} {base:.1}Z\"/><path class=\"course\" d=\"{line}\"/>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(n: u64) -> NaiveDate {
        NaiveDate::from_ymd_opt(2022, 8, 1).unwrap() + chrono::Days::new(n)
    }

    #[test]
    fn the_lines_of_the_grid_are_round_and_few() {
        for (max, wanted) in [(0, 1), (4, 1), (7, 2), (12, 5), (49, 10), (80, 20), (140, 50), (60_000, 20_000)] {
            assert_eq!(step(max), wanted, "{max}");
        }
    }

    #[test]
    fn it_draws_before_and_after_the_deadline_and_nothing_from_nothing() {
        let course: Vec<_> = (0..40).map(|n| (day(n), 100 - i64::try_from(n).unwrap())).collect();
        let before = burn_down(&course, day(39), day(60), Language::En).unwrap();
        assert!(before.contains("needed") && before.contains(">61</text>"), "{before}");
        let after = burn_down(&course, day(39), day(20), Language::Ja).unwrap();
        assert!(!after.contains("needed") && after.contains("期限 8/21"), "{after}");
        assert_eq!(burn_down(&[], day(0), day(1), Language::Ja), None);
        assert!(burn_down(&[(day(0), 0)], day(0), day(0), Language::Ja).is_some());
    }
}
