// Lists, health, audit log.

import { get } from "./api.js";
import { $, button, el, show, table, tag } from "./dom.js";
import { MODES, bytes, number, short, span, time } from "./words.js";

/** Rows of the lists that are shown at once. */
const ROWS = 100;
const ENTRIES = 100;

let lists = null;
let rows = ROWS;
let entries = null;

export async function loadLists() {
  lists = (await get("lists")).lists;
  show($("known-lists"), lists.slice(0, 1000).map((list) => el("option", { value: list.address, "data-key": list.address })));
}

export async function loadAudit() {
  entries = (await get("audit", { limit: ENTRIES })).entries;
}

export function drawLists() {
  if (!lists) return;
  const text = new FormData($("list-filter")).get("text").trim().toLowerCase();
  const found = lists.filter((list) => [list.address, ...list.names].some((name) => name.toLowerCase().includes(text)));
  const shown = found.slice(0, rows);
  show($("lists-table"),
    el("p", { "data-key": "sum", role: "status" }, `${number(found.length)} of ${number(lists.length)} lists, the largest first.`),
    table("Lists", [
      { name: "List", cell: (row) => [row.address, ...row.names].join(", ") },
      { name: "Mailboxes", number: true, cell: (row) => number(row.members) },
      { name: "A storm's mail is", cell: (row) => (row.never_hold ? "never held (for emergencies)" : MODES[row.mode] ?? row.mode) },
      { name: "State", cell: (row) => tag(row.phase, row.phase) },
      { name: "From", cell: (row) => row.origin },
      { name: "Remarks", cell: (row) => row.note ?? "" },
    ], shown, (row) => row.address),
    found.length > shown.length ? button("more-lists", `Show ${number(Math.min(ROWS, found.length - shown.length))} more`, { "data-key": "more" }) : null);
}

export function moreLists() {
  rows += ROWS;
  drawLists();
}

export function drawAudit() {
  if (!entries) return;
  show($("audit-table"), entries.length === 0 ? el("p", null, "Nothing was done yet.") : table("What operators did", [
    { name: "When", cell: (row) => (row.at ? time(row.at) : "") },
    { name: "Who", cell: (row) => row.user ?? (row.uid !== undefined ? `user ${row.uid}` : row.who ?? "unknown") },
    { name: "What", cell: (row) => act(row) },
    { name: "What came of it", cell: (row) => outcome(row) },
  ], entries, (row, index) => `${row.at} ${JSON.stringify(row).length} ${index}`));
}

function act(row) {
  if (row.act) return row.asked !== undefined ? `${row.act}: asked for ${number(row.asked)}` : row.act;
  const what = row.storms ?? {};
  const word = what.ask ?? (what.Ok || what.Err ? "decided" : "act");
  const about = what.which ?? what.list ?? what.Ok?.list ?? "";
  const reason = what.reason ? ` (${what.reason})` : "";
  return `${{ end_storm: "end the storm", close: "close" }[word] ?? word} ${about}${reason}`;
}

function outcome(row) {
  if (row.done !== undefined) {
    const failed = Array.isArray(row.failed) ? row.failed.length : 0;
    return `${number(row.done)} done${failed > 0 ? `, ${number(failed)} not` : ""}`;
  }
  const what = row.storms ?? {};
  if (what.Err) return `refused: ${what.Err}`;
  if (what.Ok) return what.Ok.until ? `closed until ${time(what.Ok.until)}` : "open";
  return "asked for";
}

const tile = (title, kind, word, ...body) => el("section", { class: "tile", "data-key": title },
  el("h3", null, title, " ", tag(kind, word)), body);
const facts = (pairs) => el("dl", null, pairs.map(([name, value]) => [el("dt", null, name), el("dd", null, value)]));

export function drawHealth(status) {
  if (!status) return;
  const { journal, quarantine, counts } = status;
  const down = quarantine.helpers.filter((helper) => helper.state === "down").length;
  const stale = status.sources.filter((source) => source.stale).length;
  const journalKind = { ok: "good", degraded: "bad" }[journal.state] ?? "odd";
  show($("health-body"),
    tile("Directory", stale > 0 ? "odd" : "good", stale > 0 ? `${number(stale)} stale` : "fresh",
      el("p", null, `${number(status.lists)} lists.`),
      table("Sources of the directory", [
        { name: "Source", cell: (row) => row.name },
        { name: "Lists", number: true, cell: (row) => number(row.lists) },
        { name: "Members", number: true, cell: (row) => short(row.members) },
        { name: "Read", cell: (row) => `${span(row.age_s)} ago` },
        { name: "State", cell: (row) => [row.stale ? [tag("odd", "stale"), ` ${row.stale}`] : tag("good", "fresh"), row.warnings.length > 0 ? ` ${row.warnings.join("; ")}` : null] },
      ], status.sources, (row) => row.name)),
    tile("Journal", journalKind, journal.state,
      journal.why ? el("p", null, journal.why) : null,
      facts([["Written", number(journal.written)], ["Waiting", number(journal.waiting)], ["Dropped", number(journal.dropped)],
        ["Lag", `${number(journal.lag_ms)} ms`], ["On the disk", `${bytes(journal.bytes)} in ${number(journal.segments)} files`],
        ["Last checkpoint", journal.checkpoint ? time(journal.checkpoint) : "not since the start"]])),
    tile("Held mail", quarantine.full ? "bad" : "good", quarantine.full ? "full" : "has room",
      facts([["Messages", `${number(quarantine.held)} of ${number(quarantine.max_count)}`], ["Bytes", `${bytes(quarantine.bytes)} of ${bytes(quarantine.max_bytes)}`],
        ["Returned at", `${span(quarantine.max_age_s)} of age`], ["Room on the disk", bytes(quarantine.free_bytes)],
        ["Others' mail on hold", number(quarantine.others)], ["Queue looked at", quarantine.reconciled ? time(quarantine.reconciled) : "not yet"]])),
    tile("Helpers", down > 0 ? "bad" : "good", down > 0 ? `${number(down)} down` : "no trouble",
      table("Helpers", [
        { name: "Socket", cell: (row) => row.socket },
        { name: "State", cell: (row) => tag({ ok: "good", down: "bad" }[row.state] ?? "odd", row.state) },
        { name: "Remarks", cell: (row) => row.error ?? (row.postfix ? `Postfix ${row.postfix}` : "") },
      ], quarantine.helpers, (row) => row.socket)),
    tile("Filter", status.draining ? "odd" : "good", status.draining ? "draining" : "serves",
      facts([["Connections", `${number(status.connections)} of ${number(status.max_connections)}`], ["Listens on", status.listening.join(", ")],
        ["Messages", `${number(counts.messages)}, ${number(counts.watched)} watched`], ["Stopped", `${number(counts.held)} held, ${number(counts.rejected)} refused, ${number(counts.deferred)} put off`],
        ["Only observed", number(counts.observed)], ["Sessions that failed", number(counts.sessions_failed)],
        ["Watched, without an end", number(counts.watched_unfinished)], ["Passed unjudged", number(counts.failed_open)]])),
    tile("Memory", "good", bytes(status.tables.reduce((sum, one) => sum + one.bytes, 0)),
      table("Tables", [
        { name: "Table", cell: (row) => row.name },
        { name: "Taken", number: true, cell: (row) => `${number(row.occupied)} of ${number(row.capacity)}` },
        { name: "Gave way", number: true, cell: (row) => number(row.evictions) },
        { name: "No place", number: true, cell: (row) => number(row.refused) },
      ], status.tables, (row) => row.name)));
}
