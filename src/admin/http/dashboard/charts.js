// The course of the last hours: one small picture for each number, all over the same time.

import { $, el, say, show, svg } from "./dom.js";
import { copies, messages, minute, number, short, time, zone } from "./words.js";

const WIDTH = 600;
const HEIGHT = 84;
const CHARTS = [
  { key: "messages", title: "All messages", unit: "a minute" },
  { key: "watched", title: "Mail to lists and to many", unit: "a minute" },
  { key: "held", title: "Put on hold", unit: "a minute" },
  { key: "copies_passed", second: "copies_prevented", title: "Copies", unit: "a minute" },
];

/** What a pulse told since the timeline was read, added to its last minute. */
export function advance(timeline, before, pulse) {
  const now = Date.parse(pulse.now);
  const step = timeline.step_s * 1000;
  const columns = ["messages", "watched", "held", "copies_passed", "copies_prevented", "storms"];
  const last = () => Date.parse(timeline.from) + (timeline.messages.length - 1) * step;
  while (now >= last() + step && now < last() + 400 * step) {
    for (const column of columns) timeline[column].push(0);
    if (timeline.messages.length > timeline.asked) {
      for (const column of columns) timeline[column].shift();
      timeline.from = new Date(Date.parse(timeline.from) + step).toISOString();
    }
  }
  const at = timeline.messages.length - 1;
  if (at < 0) return;
  for (const column of columns.slice(0, 5)) {
    timeline[column][at] += Math.max(0, (pulse.counts[column] ?? 0) - (before[column] ?? 0));
  }
  timeline.storms[at] = Math.max(timeline.storms[at], pulse.storms ?? 0);
}

/** Draws what is known of the last `span` minutes. */
export function draw(timeline, storms, span) {
  const view = cut(timeline, span);
  show($("charts"), CHARTS.map((chart) => picture(chart, view, storms)));
}

function cut(timeline, span) {
  const step = timeline.step_s * 1000;
  const length = timeline.messages.length;
  const first = Math.max(0, length - span);
  const end = Date.parse(timeline.from) + length * step;
  const column = (name) => timeline[name].slice(first);
  return { step, span, end, begin: end - span * step, known: length - first, column, marks: timeline.marks };
}

function picture(chart, view, storms) {
  const values = view.column(chart.key);
  const second = chart.second ? view.column(chart.second) : [];
  const top = Math.max(1, ...values, ...second);
  const now = values.at(-1) ?? 0;
  const words = chart.second
    ? `now ${short(now)} passed (solid), ${short(second.at(-1) ?? 0)} stopped (dashed)`
    : `now ${short(now)}, peak ${short(Math.max(0, ...values))}`;
  const label = `${chart.title}: ${words}, at most ${short(top)} ${chart.unit}`;
  const x = (index) => ((view.span - view.known + index) / view.span) * WIDTH;
  const y = (value) => HEIGHT - (value / top) * (HEIGHT - 4);
  const outline = (of) => of.map((value, index) =>
    `${index === 0 ? "M" : "L"}${x(index).toFixed(1)} ${y(value).toFixed(1)}H${x(index + 1).toFixed(1)}`).join("");
  const area = (of) => (of.length === 0 ? "" : `${outline(of)}V${HEIGHT}H${x(0).toFixed(1)}Z`);
  return el("figure", { "data-key": chart.key },
    el("figcaption", null, el("strong", null, chart.title), " ", el("span", { class: "quiet" }, `${chart.unit}: ${words}`)),
    svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT + 18}`, role: "img", tabindex: 0, "aria-label": label, "data-chart": chart.key, class: chart.key },
      svg("defs", null, svg("pattern", { id: `stripes-${chart.key}`, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
        svg("rect", { width: 2, height: 6, class: "stripe" }))),
      bands(chart, view, storms),
      svg("line", { x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT, class: "axis" }),
      svg("path", { d: area(values), class: "fill" }), svg("path", { d: outline(values), class: "line" }),
      chart.second ? svg("path", { d: outline(second), class: "line second" }) : null,
      ticks(view)));
}

/** Grounds where a storm was open, as the storms themselves say. */
function bands(chart, view, storms) {
  const at = (moment) => Math.max(0, Math.min(WIDTH, ((moment - view.begin) / (view.end - view.begin)) * WIDTH));
  const spans = storms.map((storm) => [at(Date.parse(storm.started)), at(storm.ended ? Date.parse(storm.ended) : view.end)])
    .filter(([from, to]) => to > 0 && from < WIDTH).sort((a, b) => a[0] - b[0]);
  // Storms of the same time are one ground, or two hundred of them would hide the picture.
  const joined = [];
  for (const [from, to] of spans) {
    const last = joined.at(-1);
    if (last && from <= last[1]) last[1] = Math.max(last[1], to);
    else joined.push([from, to]);
  }
  return joined.map(([from, to], index) => svg("g", { "data-key": `${chart.key}-${index}` },
    svg("rect", { x: from.toFixed(1), y: 0, width: Math.max(1, to - from).toFixed(1), height: HEIGHT, fill: `url(#stripes-${chart.key})` }),
    svg("text", { x: (to - from > 40 ? from + 3 : Math.max(0, from - 42)).toFixed(1), y: 12, class: "band" }, "storm")));
}

function ticks(view) {
  const every = (view.span > 90 ? 60 : view.span > 20 ? 15 : 5) * 60_000;
  // At whole hours and quarters of the local zone.
  const offset = new Date(view.end).getTimezoneOffset() * 60_000;
  const found = [];
  for (let at = Math.ceil((view.begin - offset) / every) * every + offset; at < view.end; at += every) {
    const x = ((at - view.begin) / (view.end - view.begin)) * WIDTH;
    if (x > 16 && x < WIDTH - 16) found.push(svg("text", { x: x.toFixed(1), y: HEIGHT + 14, class: "tick" }, minute(new Date(at))));
  }
  return found;
}

/** Words about one minute, `back` minutes before the last. */
export function read(timeline, span, back) {
  const length = timeline.messages.length;
  if (length === 0) return;
  const at = Math.max(0, length - 1 - Math.min(back, span - 1));
  const of = (name) => timeline[name][at];
  const when = new Date(Date.parse(timeline.from) + at * timeline.step_s * 1000);
  const storms = of("storms") > 0 ? `, ${number(of("storms"))} in a storm` : "";
  say($("readout"), `${minute(when)}: ${messages(of("messages"))}, ${number(of("watched"))} to lists and to many, ` +
    `${number(of("held"))} put on hold; ${copies(of("copies_passed"))} passed, ${short(of("copies_prevented"))} stopped${storms}.`);
}

/** Without a pointer or a key: what happened last. */
export function rest(timeline) {
  const mark = timeline.marks.at(-1);
  const kinds = { started: "becalm was started", storm_started: "a storm was declared", storm_ended: "a storm was over" };
  const last = mark ? ` Last: ${time(mark.at)}, ${kinds[mark.kind]}${mark.list ? ` on ${mark.list}` : ""}.` : "";
  // Where the first minute that was asked for is there, earlier ones may be known too.
  const known = timeline.messages.length < timeline.asked ? ` Known since ${time(timeline.from)}.` : "";
  say($("readout"), `Times are in ${zone}.${known}${last}`);
}

/** Pointer and arrow keys read a picture minute by minute. */
export function listen(current) {
  const place = $("charts");
  let back = 0;
  place.addEventListener("pointermove", (event) => {
    const picture = event.target.closest("svg");
    const { timeline, span } = current();
    if (!picture || !timeline) return;
    const box = picture.getBoundingClientRect();
    back = Math.max(0, Math.floor((1 - (event.clientX - box.left) / box.width) * span));
    read(timeline, span, back);
  });
  place.addEventListener("pointerleave", () => {
    const { timeline } = current();
    if (timeline) rest(timeline);
  });
  place.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: 1, ArrowRight: -1, PageUp: 10, PageDown: -10, Home: 1000, End: -1000 };
    const { timeline, span } = current();
    if (!(event.key in steps) || !timeline) return;
    event.preventDefault();
    back = Math.max(0, Math.min(back + steps[event.key], Math.min(span, timeline.messages.length) - 1));
    // Read out for who cannot see it, while the arrows move.
    $("readout").setAttribute("role", "status");
    read(timeline, span, back);
  });
}
