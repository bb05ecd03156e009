// What is going on: storms, near-storms, suspicions; and what an operator decides about them.

import { post } from "./api.js";
import { confirm, form } from "./dialogs.js";
import { $, button, el, say, show, table, tag } from "./dom.js";
import { TRIGGERS, copies, course, headline, messages, named, number, plural, short, span, time, warnings, zone } from "./words.js";

/** Beyond so many the rest is told as a number until it is asked for. */
const FIRST = 20;
let all = false;

export function draw(state) {
  const { status, storms, near } = state;
  if (!status || !storms) return;
  const words = headline(status, storms);
  say($("headline"), words);
  const open = storms.open.filter((list) => list.phase === "storm");
  document.title = open.length > 0 ? `(storm) becalm ${status.node}` : `becalm ${status.node}`;
  $("now").dataset.state = open.length > 0 ? "storm" : "calm";
  say($("node"), `on ${status.node}`);
  say($("summary"), summary(state, open));
  show($("warnings"), warnings(status, storms).map(([kind, text]) =>
    el("li", { class: kind, "data-key": text }, tag(kind, kind === "bad" ? "Trouble" : "Note"), " ", text)));
  drawStorms(storms);
  drawNear(near);
  drawSuspicions(storms);
  say($("foot"), `becalm ${status.version} on ${status.node}, running since ${time(status.started)}. Times are in ${zone}.`);
}

function summary({ status, timeline }, open) {
  const hour = (name) => (timeline ? timeline[name].slice(-60).reduce((sum, n) => sum + n, 0) : 0);
  const mail = `In the last hour ${messages(hour("messages"))}, ${number(hour("watched"))} of them to lists or to many; ` +
    `${copies(hour("copies_passed"))} passed, ${short(hour("copies_prevented"))} stopped.`;
  const ordinary = open.length > 0 ? " Ordinary mail is not affected." : "";
  const q = status.quarantine;
  const waiting = q.waiting > 0 ? ` ${number(q.waiting)} of the held ${q.waiting === 1 ? "goes" : "go"} at the time set if it stays calm.` : "";
  return mail + ordinary + waiting;
}

function drawStorms(storms) {
  const started = new Map(storms.storms.map((storm) => [storm.storm, storm]));
  const shown = all ? storms.open : storms.open.slice(0, FIRST);
  const cards = shown.map((list) => {
    const storm = list.phase === "storm";
    const record = started.get(list.storm);
    const why = record ? ` Declared for ${TRIGGERS[record.trigger] ?? record.trigger}.` : "";
    const until = list.closed_until ? ` Closed by an operator until ${time(list.closed_until)}.` : "";
    const last = storm ? ` Last attempt ${time(list.last_attempt)}.` : "";
    return el("li", { class: `card ${list.phase}`, "data-key": list.list ?? list.storm },
      el("h3", null, tag(list.phase, storm ? "Storm" : "Cooling"), " ", named(list.list)),
      el("p", null, storm ? `Since ${time(list.time)}; ${list.list ? "the list" : "a message"} reaches ${short(list.members)} mailboxes. `
        : `On guard until ${time(list.time)}: a small spark makes a storm again. `, course(list), why, until, last),
      el("div", { class: "acts" },
        list.storm ? button("filter-storm", `Held mail of this storm`, { "data-storm": list.storm }) : null,
        button("end", storm ? "End this storm" : "End the cooling", { "data-which": list.storm ?? list.list, "data-list": named(list.list) })));
  });
  const more = storms.open.length - shown.length;
  show($("storms"), cards.length > 0 ? [
    el("h2", { "data-key": "h" }, storms.open.length === 1 ? "Not calm" : `Not calm: ${number(storms.open.length)}`),
    el("ul", { class: "cards", "data-key": "c" }, cards),
    more > 0 ? button("all-storms", `Show ${number(more)} more`, { "data-key": "m" }) : null,
  ] : [], past(storms));
}

function past(storms) {
  const over = storms.storms.filter((storm) => storm.ended);
  if (over.length === 0) return null;
  return el("details", { "data-key": "past" },
    el("summary", null, `${plural(over.length, "storm is", "storms are")} over`),
    table("Past storms", [
      { name: "List", cell: (row) => named(row.list) },
      { name: "Began", cell: (row) => time(row.started) },
      { name: "Ended", cell: (row) => time(row.ended) },
      { name: "Stopped", number: true, cell: (row) => `${number(row.held)} (${copies(row.copies_held)})` },
      { name: "Passed", number: true, cell: (row) => number(row.delivered) },
      { name: "Storm", cell: (row) => row.storm },
    ], over.slice(0, 100), (row) => row.storm));
}

function drawNear(near) {
  if (!near || near.near.length === 0) {
    show($("near"));
    return;
  }
  show($("near"), el("h2", { "data-key": "h" }, "Near a storm"), el("ul", { class: "cards", "data-key": "c" }, near.near.slice(0, FIRST).map((one) => {
    const where = one.list ?? "Mail to many recipients";
    const words = `${number(one.people)} of ${number(one.threshold)} ${TRIGGERS[one.test] ?? one.test}`;
    return el("li", { class: "card near", "data-key": `${where} ${one.conversation ?? ""}` },
      el("h3", null, tag("near", "Near"), " ", where),
      el("p", null, el("meter", { min: 0, max: one.threshold, value: one.people, optimum: 0, low: one.threshold / 2 - 0.1, high: one.threshold * 0.75, "aria-label": words }), " ",
        `${words} since ${time(one.since)}. So far ${copies(one.copies)}; at this pace `,
        el("strong", null, `${copies(one.projected_copies)} within the hour`), "."));
  })), near.total > FIRST ? el("p", { class: "quiet" }, `and ${number(near.total - FIRST)} more.`) : null);
}

function drawSuspicions(storms) {
  // A storm came of the others: they are told with it.
  const waiting = storms.suspicions.filter((item) => item.until);
  if (waiting.length === 0) {
    show($("suspicions"));
    return;
  }
  const shown = waiting.slice(0, 10);
  show($("suspicions"), el("h2", { "data-key": "h" }, "Suspicions"),
    el("p", { "data-key": "p" }, `${messages(waiting.length)} came too fast for calm and ${waiting.length === 1 ? "waits" : "wait"}; nothing is lost.`),
    table("Suspicions", [
      { name: "List", cell: (row) => named(row.list) },
      { name: "Author", cell: (row) => row.author ?? "nobody" },
      { name: "Copies", number: true, cell: (row) => short(row.copies) },
      { name: "Came", cell: (row) => time(row.since) },
      { name: "Goes", cell: (row) => time(row.until) },
    ], shown, (row) => row.queue_id),
    waiting.length > shown.length ? el("p", { class: "quiet", "data-key": "m" }, `The latest ten; all of them are below, under held mail.`) : null);
}

export function showAll() {
  all = true;
}

/** Ends a storm after a question. True: something was done. */
export async function end(which, list, tell) {
  const yes = await confirm(`End the storm on ${list}?`, [
    "Its mail passes again at once, and what was counted so far counts no more.",
    "Held mail stays on hold: release it or return it below.",
  ], "End it");
  if (!yes) return false;
  const done = await post("storms/end", { which });
  tell([`${done.list ?? "The conversation"} is open.`, ...done.notes].join(" "));
  return true;
}

/** Closes a list by hand. True: something was done. */
export async function close(tell) {
  const field = (words, input) => el("label", null, words, " ", input);
  const done = await form("Close a list by hand", [
    "Newcomers to the list wait, and on a very large list everybody does; with a Message-ID only replies to that message wait.",
  ], [
    field("List", el("input", { name: "list", required: true, list: "known-lists", autocomplete: "off", spellcheck: "false", autofocus: true })),
    field("Message-ID (of a conversation; may be empty)", el("input", { name: "conversation", autocomplete: "off", spellcheck: "false" })),
    field("For", el("select", { name: "for_s" }, [900, 3600, 14_400, 43_200, 86_400].map((s) =>
      el("option", { value: s, selected: s === 3600 }, span(s))))),
    field("Reason, for the audit log", el("input", { name: "reason", autocomplete: "off", maxlength: 200 })),
  ], "Close it", ({ list, conversation, for_s, reason }) => post("storms/start", {
    list: list.trim(),
    conversation: conversation.trim() || null,
    for_s: Number(for_s),
    reason: reason.trim() || null,
  }));
  if (!done) return false;
  tell([`${done.list} is closed until ${done.until ? time(done.until) : "further notice"}.`, ...done.notes].join(" "));
  return true;
}
