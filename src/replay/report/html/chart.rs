//! Drawings of timelines, as SVG: what came in each step of time and what became of it, the state of the list
//! as labelled bands, and copies with and without.
//!
//! Every drawing has a title and a description for those who cannot see it; the numbers behind it follow as a
//! table. Widths of text are estimated, generously: nothing measures fonts here.

use std::fmt::Write as _;

use super::super::words;
use super::super::{Bucket, State, Timeline};
use super::escape::{Sentence, Text};
use crate::time::Timestamp;

const WIDTH: f64 = 900.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
/// Room at the right for what each line is called.
const RIGHT_OF_LINES: f64 = 196.0;
const BAND: f64 = 22.0;
const PLOT: f64 = 190.0;
const GAP: f64 = 8.0;
/// Room below for the times.
const FOOT: f64 = 26.0;
/// Widest letter of a 12 px font, more or less.
const LETTER: f64 = 6.8;

/// A line of the drawing of copies.
pub struct Line<'a> {
    /// What it is called.
    pub name: String,
    /// Its colour: a class of the style sheet, `without` or `p1` to `p8`.
    pub class: &'static str,
    /// The same for its dot.
    pub dot: &'static str,
    /// Where its steps come from.
    pub timeline: &'a Timeline,
    /// What is added up.
    pub copies: fn(&Bucket) -> u64,
}

/// Messages in each step: let through, delayed and held, one on top of the other, and the state above them.
/// `id` tells the drawings of a page apart.
pub fn messages(timeline: &Timeline, id: usize, description: &str) -> String {
    let plot = Plot::new(timeline, LEFT, RIGHT);
    let highest = timeline.buckets.iter().map(|bucket| bucket.replies).max().unwrap_or(0);
    let top = BAND + GAP;
    let scale = Scale::new(highest, top);
    let mut svg = open(id, "Messages over time", description, top + PLOT + FOOT);
    bands(&mut svg, timeline, &plot);
    grid(&mut svg, &scale, &plot);
    for (class, below, own) in [
        ("let", None, (|b| b.delivered) as fn(&Bucket) -> u64),
        ("wait", Some((|b| b.delivered) as fn(&Bucket) -> u64), |b| b.delayed),
        ("held", Some(|b| b.delivered.saturating_add(b.delayed)), |b| b.held),
    ] {
        let mut path = String::new();
        for (place, bucket) in timeline.buckets.iter().enumerate().filter(|(_, bucket)| own(bucket) > 0) {
            let below = below.map_or(0, |below| below(bucket));
            let (foot, head) = (scale.y(below), scale.y(below.saturating_add(own(bucket))));
            let (x, width) = plot.bar(place);
            let _ = write!(path, "M{x:.1} {foot:.1}h{width:.1}V{head:.1}h-{width:.1}z");
        }
        if !path.is_empty() {
            let _ = write!(svg, "<path class=\"{class}\" d=\"{path}\"/>");
        }
    }
    foot(&mut svg, timeline, &plot, top);
    for (place, bucket) in timeline.buckets.iter().enumerate().filter(|(_, bucket)| bucket.replies > 0) {
        let (x, _) = plot.bar(place);
        let _ = write!(
            svg,
            "<rect class=\"hit\" x=\"{x:.1}\" y=\"{top}\" width=\"{:.1}\" height=\"{PLOT}\"><title>{}: {}: {} \
             let through, {} put to wait, {} held</title></rect>",
            plot.step,
            words::moment(begin(timeline, place)),
            words::many(bucket.replies, "message", "messages"),
            words::count(bucket.delivered),
            words::count(bucket.delayed),
            words::count(bucket.held),
        );
    }
    svg.push_str("</svg>");
    svg
}

/// Copies so far, a line for each policy and one for no filter at all. The lines' timelines cover the same time.
pub fn copies(lines: &[Line<'_>], id: usize, description: &str) -> String {
    let Some(first) = lines.first() else { return String::new() };
    let plot = Plot::new(first.timeline, LEFT, RIGHT_OF_LINES);
    let top = GAP;
    let sums: Vec<Vec<u64>> = lines
        .iter()
        .map(|line| {
            let mut sum = 0_u64;
            let add = |bucket: &Bucket| {
                sum = sum.saturating_add((line.copies)(bucket));
                sum
            };
            line.timeline.buckets.iter().map(add).collect()
        })
        .collect();
    let highest = sums.iter().filter_map(|sums| sums.last()).max().copied().unwrap_or(0);
    let scale = Scale::new(highest, top);
    let mut svg = open(id, "Copies over time", description, top + PLOT + FOOT);
    grid(&mut svg, &scale, &plot);
    let mut ends = Vec::new();
    for (line, sums) in lines.iter().zip(&sums) {
        let mut path = format!("M{:.1} {:.1}", plot.left, scale.y(0));
        let mut end = scale.y(0);
        for (place, sum) in sums.iter().enumerate() {
            end = scale.y(*sum);
            let _ = write!(path, "L{:.1} {end:.1}", plot.left + plot.step * (place + 1) as f64);
        }
        if line.class == "without" {
            let _ = write!(svg, "<path class=\"area\" d=\"{path}V{:.1}H{:.1}z\"/>", scale.y(0), plot.left);
        }
        let _ = write!(svg, "<path class=\"line {}\" d=\"{path}\"/>", line.class);
        ends.push((end, line, sums.last().copied().unwrap_or(0)));
    }
    foot(&mut svg, first.timeline, &plot, top);
    names(&mut svg, ends, &plot, top);
    svg.push_str("</svg>");
    svg
}

/// The numbers behind a drawing: steps in which nothing came are left out.
pub fn table(timeline: &Timeline) -> String {
    let mut rows = String::new();
    for (place, bucket) in timeline.buckets.iter().enumerate() {
        if bucket.replies == 0 && bucket.copies_with == 0 {
            continue;
        }
        let _ = write!(
            rows,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            words::moment(begin(timeline, place)),
            state_name(bucket.state),
            words::count(bucket.delivered),
            words::count(bucket.delayed),
            words::count(bucket.held),
            words::count(bucket.copies_with),
            words::count(bucket.copies_without),
        );
    }
    format!(
        "<details><summary>The same in numbers</summary><div class=\"table\"><table><thead><tr>\
         <th scope=\"col\">Time (UTC)</th><th scope=\"col\">State</th><th scope=\"col\" class=\"n\">Let \
         through</th><th scope=\"col\" class=\"n\">Put to wait</th><th scope=\"col\" class=\"n\">Held</th>\
         <th scope=\"col\" class=\"n\">Copies</th><th scope=\"col\" class=\"n\">Without a filter</th></tr></thead>\
         <tbody>{rows}</tbody></table></div></details>"
    )
}

/// What a state is called.
pub fn state_name(state: State) -> &'static str {
    match state {
        State::Calm => "calm",
        State::Cooling => "on guard",
        State::Suspicion => "suspicion",
        State::Storm => "storm",
    }
}

/// The class of a state in the style sheet.
pub fn state_class(state: State) -> &'static str {
    match state {
        State::Cooling => "cooling",
        State::Calm | State::Suspicion | State::Storm => state_name(state),
    }
}

fn open(id: usize, title: &str, description: &str, height: f64) -> String {
    format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"t{id} d{id}\">\
         <title id=\"t{id}\">{title}</title><desc id=\"d{id}\">{}</desc>",
        Sentence(description)
    )
}

/// Where the steps of time lie.
struct Plot {
    left: f64,
    right: f64,
    step: f64,
}

impl Plot {
    fn new(timeline: &Timeline, left: f64, right: f64) -> Self {
        let right = WIDTH - right;
        Self { left, right, step: (right - left) / timeline.buckets.len().max(1) as f64 }
    }

    /// Left edge and width of a bar, with a little air between two of them where there is room for it.
    fn bar(&self, place: usize) -> (f64, f64) {
        let air = if self.step >= 4.0 { 1.0 } else { 0.0 };
        (self.left + self.step * place as f64, self.step - air)
    }
}

/// From numbers to heights, up to a round number.
struct Scale {
    top: f64,
    round: u64,
    most: u64,
}

impl Scale {
    fn new(highest: u64, top: f64) -> Self {
        let highest = highest.max(1);
        // 1, 2 or 5 with zeros: three to five lines.
        let magnitude = 10_u64.pow((highest / 4).max(1).ilog10());
        let round = [1, 2, 5, 10]
            .iter()
            .map(|factor| magnitude.saturating_mul(*factor))
            .find(|round| highest.div_ceil(*round) <= 5)
            .unwrap_or(highest);
        Self { top, round, most: highest.div_ceil(round).saturating_mul(round) }
    }

    fn y(&self, number: u64) -> f64 {
        self.top + PLOT * (1.0 - (number.min(self.most) as f64 / self.most as f64))
    }
}

fn grid(svg: &mut String, scale: &Scale, plot: &Plot) {
    let (left, right) = (plot.left, plot.right);
    for line in 0..=(scale.most / scale.round).min(10) {
        let number = scale.round.saturating_mul(line);
        let y = scale.y(number);
        let class = if line == 0 { "axis" } else { "grid" };
        let _ = write!(
            svg,
            "<line class=\"{class}\" x1=\"{left}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 8.0,
            y + 4.0,
            words::short(number)
        );
    }
}

/// Runs of the same state, with its name where there is room.
fn bands(svg: &mut String, timeline: &Timeline, plot: &Plot) {
    let mut from = 0;
    for run in timeline.buckets.chunk_by(|a, b| a.state == b.state) {
        let Some(state) = run.first().map(|bucket| bucket.state) else { continue };
        let (x, width) = (plot.left + plot.step * from as f64, plot.step * run.len() as f64);
        let (class, name) = (state_class(state), state_name(state));
        let (begin_at, end_at) = (begin(timeline, from), begin(timeline, from + run.len()));
        let _ = write!(
            svg,
            "<g><title>{name}, {} to {}</title><rect class=\"{class}\" x=\"{x:.1}\" y=\"0\" \
             width=\"{width:.1}\" height=\"{BAND}\"/>",
            words::moment(begin_at),
            words::moment(end_at)
        );
        if width >= name.len() as f64 * LETTER + 8.0 {
            let _ = write!(
                svg,
                "<text class=\"on-{class}\" x=\"{:.1}\" y=\"15\" text-anchor=\"middle\">{name}</text>",
                x + width / 2.0
            );
        }
        svg.push_str("</g>");
        from += run.len();
    }
}

/// The times below.
fn foot(svg: &mut String, timeline: &Timeline, plot: &Plot, top: f64) {
    const STEPS: [u64; 17] = [
        60,
        120,
        300,
        600,
        900,
        1_800,
        3_600,
        7_200,
        10_800,
        21_600,
        43_200,
        86_400,
        2 * 86_400,
        7 * 86_400,
        30 * 86_400,
        91 * 86_400,
        365 * 86_400,
    ];
    let span = timeline.step_s.saturating_mul(timeline.buckets.len() as u64).max(1);
    let most = ((plot.right - plot.left) / 80.0) as u64;
    let step =
        STEPS.into_iter().find(|step| span / step <= most).unwrap_or_else(|| span.div_ceil(most.max(1)));
    let from = timeline.from.as_secs();
    let mut at = from.div_ceil(step).saturating_mul(step);
    let y = top + PLOT;
    // At most as many as there is room for, whatever the numbers say.
    for _ in 0..=most.max(1) {
        let Some(place) = at.checked_sub(from).filter(|place| *place <= span) else { break };
        let x = plot.left + (plot.right - plot.left) * place as f64 / span as f64;
        let time = Timestamp::from_millis(at.saturating_mul(1_000));
        let name = match (step, at % 86_400) {
            (31_536_000.., _) => words::day(time),
            (86_400.., _) | (_, 0) => words::short_day(time),
            _ => words::time_of_day(time),
        };
        let half = name.len() as f64 * LETTER / 2.0;
        let middle = x.clamp(half, WIDTH - half);
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{y}\" y2=\"{}\"/>\
             <text x=\"{middle:.1}\" y=\"{}\" text-anchor=\"middle\">{name}</text>",
            y + 4.0,
            y + 19.0
        );
        at = at.saturating_add(step);
    }
}

/// The names of lines at their ends, moved apart where they would lie on each other.
fn names(svg: &mut String, mut ends: Vec<(f64, &Line<'_>, u64)>, plot: &Plot, top: f64) {
    const APART: f64 = 17.0;
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut places: Vec<f64> = ends.iter().map(|(y, ..)| *y).collect();
    let mut lowest = top + PLOT;
    for place in places.iter_mut().rev() {
        *place = place.min(lowest);
        lowest = *place - APART;
    }
    let mut highest = top;
    for place in &mut places {
        *place = place.max(highest);
        highest = *place + APART;
    }
    for ((end, line, sum), place) in ends.iter().zip(places) {
        let x = plot.right;
        let name = format!("{} {}", words::short(*sum), line.name);
        let _ = write!(
            svg,
            "<path class=\"grid\" fill=\"none\" d=\"M{x} {end:.1}L{:.1} {place:.1}\"/>\
             <circle class=\"{}\" cx=\"{:.1}\" cy=\"{place:.1}\" r=\"4\"/>\
             <text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x + 10.0,
            line.dot,
            x + 14.0,
            x + 22.0,
            place + 4.0,
            Text(&cut(&name, 25))
        );
    }
}

fn cut(name: &str, most: usize) -> String {
    match name.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", name.get(..end).unwrap_or_default()),
        None => name.to_owned(),
    }
}

/// When a step begins.
fn begin(timeline: &Timeline, place: usize) -> Timestamp {
    let millis = timeline.step_s.saturating_mul(1_000).saturating_mul(place as u64);
    Timestamp::from_millis(timeline.from.as_millis().saturating_add(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_ends_on_a_round_number_with_few_lines() {
        for (highest, most) in [(0, 1), (1, 1), (3, 3), (7, 8), (24, 25), (70, 80), (101, 150), (836, 1_000)]
        {
            let scale = Scale::new(highest, 0.0);
            assert_eq!(scale.most, most, "{highest}");
            assert!(scale.most / scale.round <= 5, "{highest}");
        }
        for highest in [702_240_000, u64::MAX / 3, u64::MAX] {
            let scale = Scale::new(highest, 0.0);
            assert!(scale.most >= highest && scale.y(highest) >= 0.0, "{highest}");
        }
    }

    #[test]
    fn names_never_lie_on_each_other() {
        let timeline = Timeline { storm: None, from: Timestamp::default(), step_s: 60, buckets: Vec::new() };
        let line = |n: usize| Line {
            name: format!("n{n}"),
            class: "p1",
            dot: "d1",
            timeline: &timeline,
            copies: |bucket| bucket.copies_with,
        };
        let lines: Vec<Line<'_>> = (0..9).map(line).collect();
        let mut svg = String::new();
        let ends = lines.iter().map(|line| (GAP + PLOT, line, 5)).collect();
        names(&mut svg, ends, &Plot::new(&timeline, LEFT, RIGHT_OF_LINES), GAP);
        let mut heights: Vec<f64> =
            svg.split("cy=\"").skip(1).map(|rest| rest.split('"').next().unwrap().parse().unwrap()).collect();
        heights.sort_by(f64::total_cmp);
        assert_eq!(heights.len(), 9);
        assert!(heights.windows(2).all(|pair| pair[1] - pair[0] >= 16.9), "{heights:?}");
        assert!(heights[0] >= GAP);
    }
}
