//! The timetable as a drawing, and the same times as a table for those who do not see it.

use maud::{Markup, html};

use super::clock_time;
use crate::clock::UnixTime;
use crate::http::schedule::{Schedule, ScheduledKey};
use crate::lifecycle::{self, Policy, Stage};
use crate::text::plain;

/// Heights in pixels; widths are in percent, so that letters keep their size.
const TOP: usize = 34;
const ROW: usize = 58;
const BOTTOM: usize = 30;
const MAX_TICKS: i64 = 6;
/// Characters of a kid in the drawing, so that it ends before the state's word, which is
/// on the same line, also in 320 pixels. Other issuers' kids may have hundreds.
const MAX_KID: usize = 22;
const STEPS: [i64; 22] = [
    1, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400,
    172_800, 604_800, 1_209_600, 2_592_000, 7_776_000, 31_536_000,
];

/// The parts of a key's life. Each ends where the next begins.
struct Bar<'a> {
    /// None for the key that is not made yet.
    key: Option<&'a ScheduledKey>,
    /// None: before the drawing begins.
    published: Option<UnixTime>,
    signs: Option<UnixTime>,
    stops: UnixTime,
    leaves: UnixTime,
}

pub(in crate::http) fn section(schedule: &Schedule, policy: &Policy, now: UnixTime) -> Markup {
    html! {
        section aria-labelledby="keys" {
            h2 #keys { "Keys" }
            @if schedule.keys.is_empty() {
                p { "No key is published at the moment." }
            } @else {
                figure {
                    (drawing(schedule, policy, now))
                    figcaption { (legend(schedule)) }
                }
            }
            (table(schedule, policy, now))
        }
    }
}

fn bars<'a>(schedule: &'a Schedule, policy: &Policy) -> Vec<Bar<'a>> {
    let keys = schedule.keys.iter().map(|key| bar(key, schedule));
    keys.chain([planned(schedule, policy)]).collect()
}

fn planned(schedule: &Schedule, policy: &Policy) -> Bar<'static> {
    let (span, stops) = lifecycle::planned_key(policy, schedule.next_rotation.at());
    Bar {
        key: None,
        published: Some(span.created_at),
        signs: Some(span.signs_from),
        stops,
        leaves: span.expires_at,
    }
}

fn bar<'a>(key: &'a ScheduledKey, schedule: &Schedule) -> Bar<'a> {
    let at = |moment: &Option<crate::clock::Moment>| moment.as_ref().map(|it| it.at());
    let signs = at(&key.signs_from);
    // The timetable leaves the time out once it has passed: the next key took over then.
    let others = schedule.keys.iter().filter_map(|key| at(&key.signs_from));
    let successor = others.filter(|&from| signs < Some(from)).min();
    let leaves = key.unpublished_at.at();
    if key.state == Stage::Adopted {
        // It verifies only, from beginning to end.
        let from = at(&key.published_from);
        return Bar {
            key: Some(key),
            published: from,
            signs: from,
            stops: from.unwrap_or(leaves),
            leaves,
        };
    }
    Bar {
        key: Some(key),
        published: at(&key.published_from),
        signs,
        stops: at(&key.stops_signing)
            .or(successor)
            .unwrap_or(leaves)
            .min(leaves),
        leaves,
    }
}

/// Maps times to the width of the drawing.
#[derive(Clone, Copy)]
struct Scale {
    from: i64,
    to: i64,
}

impl Scale {
    fn new(bars: &[Bar<'_>], now: UnixTime) -> Self {
        let starts = bars.iter().filter_map(|bar| bar.published);
        let from = starts.chain([now]).min().unwrap_or(now).as_secs();
        // An adopted key may stay for so long that ours would be dots: it ends at the edge.
        let is_adopted = |bar: &&Bar<'_>| bar.key.is_some_and(|key| key.state == Stage::Adopted);
        let own = bars.iter().filter(|bar| !is_adopted(bar));
        let ends = own.map(|bar| bar.leaves);
        let to = ends.chain([now]).max().unwrap_or(now).as_secs();
        Self {
            from,
            to: to.max(from.saturating_add(1)),
        }
    }

    /// Thousandths of a percent.
    fn share(self, at: i64) -> i64 {
        let width = self.to.saturating_sub(self.from);
        let offset = at.saturating_sub(self.from).clamp(0, width);
        offset.saturating_mul(100_000) / width
    }

    fn x(self, at: UnixTime) -> String {
        percent(self.share(at.as_secs()))
    }

    fn width(self, from: UnixTime, to: UnixTime) -> String {
        percent((self.share(to.as_secs()) - self.share(from.as_secs())).max(0))
    }

    /// Round times with room for their letters, and their labels.
    fn ticks(self) -> Vec<(UnixTime, String)> {
        let width = self.to.saturating_sub(self.from);
        let steps = STEPS.into_iter();
        let step = steps.filter(|step| width / step < MAX_TICKS).min();
        let step = step.unwrap_or(width.max(1));
        let first = self.from.div_euclid(step).saturating_mul(step);
        let ticks = (0..=MAX_TICKS).map(|n| first.saturating_add(n.saturating_mul(step)));
        // A label at either edge would be cut off.
        let fits = |at: &i64| (5_000..=95_000).contains(&self.share(*at));
        let tick = |at| {
            let at = UnixTime::from_secs(at);
            let text = at.rfc3339();
            let label = match step {
                ..60 => &text[11..19],
                60..86_400 => &text[11..16],
                _ => &text[5..10],
            };
            (at, label.to_owned())
        };
        ticks.filter(fits).map(tick).collect()
    }
}

fn percent(thousandths: i64) -> String {
    format!("{}.{:03}%", thousandths / 1000, thousandths % 1000)
}

fn drawing(schedule: &Schedule, policy: &Policy, now: UnixTime) -> Markup {
    let bars = bars(schedule, policy);
    let scale = Scale::new(&bars, now);
    let floor = TOP + bars.len() * ROW;
    let remaining = now.until(UnixTime::from_secs(scale.to)).as_secs();
    html! {
        svg role="img" aria-labelledby="drawing-title drawing-text" width="100%" height=(floor + BOTTOM)
            data-from=(scale.from) data-to=(scale.to) data-now=(now) {
            title #drawing-title { "Timetable of the keys" }
            desc #drawing-text {
                "A bar for each key, from left to right in time: thin while it is announced, thick while it signs, thin again while it retires. The table below has the times."
            }
            @for (at, label) in scale.ticks() {
                line.grid x1=(scale.x(at)) x2=(scale.x(at)) y1=(TOP) y2=(floor) {}
                text.tick x=(scale.x(at)) y=(floor + 20) text-anchor="middle" { (label) }
            }
            line.axis x1="0" x2="100%" y1=(floor) y2=(floor) {}
            @for (row, bar) in bars.iter().enumerate() {
                (drawn(bar, TOP + row * ROW, scale))
            }
            // Moves on by itself until the page is loaded again.
            svg.now x=(scale.x(now)) overflow="visible" {
                @if remaining > 0 {
                    animate attributeName="x" from=(scale.x(now)) to="100%" dur={ (remaining) "s" } fill="freeze" {}
                }
                line y1="22" y2=(floor) {}
                circle cy="22" r="3.5" {}
                text y="12" text-anchor=(anchor(scale.share(now.as_secs()))) { "now" }
            }
        }
    }
}

/// Keeps a word at an edge inside.
fn anchor(share: i64) -> &'static str {
    match share {
        ..5_000 => "start",
        95_000.. => "end",
        _ => "middle",
    }
}

fn drawn(bar: &Bar<'_>, y: usize, scale: Scale) -> Markup {
    let start = UnixTime::from_secs(scale.from);
    let published = bar.published.unwrap_or(start);
    let signs = bar.signs.unwrap_or(published).min(bar.leaves);
    let stops = bar.stops.max(signs);
    let part = |class: &str, from: UnixTime, to: UnixTime, top: usize, height: usize| {
        html! {
            @if from < to {
                rect class=(class) data-from=(from) data-to=(to)
                    x=(scale.x(from)) width=(scale.width(from, to)) y=(y + top) height=(height) rx="3" {}
            }
        }
    };
    let (class, kid, state) = match bar.key {
        Some(key) => (key.state.name(), short(&key.kid), key.state.name()),
        None => ("next-key", "next key".to_owned(), "as planned"),
    };
    html! {
        g class={ "key " (class) } data-kid=[bar.key.map(|key| &key.kid)] {
            text.kid x="0" y=(y + 18) { (kid) }
            text.state x="100%" y=(y + 18) text-anchor="end" { (state) }
            (part("announced", published, signs, 34, 8))
            (part("signing", signs, stops, 28, 20))
            (part("retiring", stops, bar.leaves, 34, 8))
        }
    }
}

/// A long kid without its middle: those of one issuer often begin alike.
fn short(kid: &str) -> String {
    let shown: Vec<char> = plain(kid).chars().collect();
    if shown.len() <= MAX_KID {
        return shown.into_iter().collect();
    }
    let (start, end) = (MAX_KID / 2, shown.len() - (MAX_KID - 1) / 2);
    let ends = shown[..start].iter().chain(['…'].iter());
    ends.chain(&shown[end..]).collect()
}

fn legend(schedule: &Schedule) -> Markup {
    let mut keys = schedule.keys.iter();
    let has_adopted = keys.any(|key| key.state == Stage::Adopted);
    let sign = |class: &str, y: &str, height: &str| {
        html! {
            svg width="22" height="16" aria-hidden="true" { rect class=(class) x="1" width="20" y=(y) height=(height) rx="3" {} }
        }
    };
    html! {
        ul.legend {
            li { (sign("announced", "4", "8")) span { b { "announced" } " in the key set, does not sign yet" } }
            li { (sign("signing", "1", "14")) span { b { "signing" } " the one whose tokens are new" } }
            li { (sign("retiring", "4", "8")) span { b { "retiring" } " verifies the tokens that it has signed" } }
            @if has_adopted {
                li { (sign("retiring", "4", "8")) span { b { "adopted" } " verifies the tokens of another issuer" } }
            }
        }
    }
}

fn table(schedule: &Schedule, policy: &Policy, now: UnixTime) -> Markup {
    let cell = |label: &str, at: Option<UnixTime>| {
        html! {
            td role="cell" data-label=(label) {
                @match at {
                    Some(at) => (clock_time(at, now)),
                    None => {
                        span.none aria-hidden="true" { "–" }
                        span.unseen { "no time" }
                    }
                }
            }
        }
    };
    let heads = [
        "Key",
        "State",
        "Published",
        "Signs from",
        "Stops signing",
        "Leaves",
    ];
    let at = |moment: &Option<crate::clock::Moment>| moment.as_ref().map(|it| it.at());
    let planned = planned(schedule, policy);
    html! {
        // The roles stay when a narrow screen lays the cells out one below the other.
        table role="table" {
            caption { "Times of the keys, UTC" }
            thead role="rowgroup" {
                tr role="row" { @for head in heads { th role="columnheader" scope="col" { (head) } } }
            }
            tbody role="rowgroup" {
                @for key in &schedule.keys {
                    tr role="row" {
                        th role="rowheader" scope="row" { code { (plain(&key.kid)) } }
                        td role="cell" data-label=(heads[1]) { span class={ "badge " (key.state.name()) } { (key.state.name()) } }
                        (cell(heads[2], at(&key.published_from)))
                        (cell(heads[3], at(&key.signs_from)))
                        (cell(heads[4], at(&key.stops_signing)))
                        (cell(heads[5], Some(key.unpublished_at.at())))
                    }
                }
                tr.planned role="row" {
                    th role="rowheader" scope="row" { "next key" }
                    td role="cell" data-label=(heads[1]) { span.badge.next { "planned" } }
                    (cell(heads[2], planned.published))
                    (cell(heads[3], planned.signs))
                    (cell(heads[4], Some(planned.stops)))
                    (cell(heads[5], Some(planned.leaves)))
                }
            }
        }
    }
}
