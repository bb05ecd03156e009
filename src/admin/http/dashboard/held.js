// Held mail: search, pages, selection, and release or return in bulk, which can be stopped and taken up again.

import { get, post } from "./api.js";
import { confirm, progress } from "./dialogs.js";
import { $, button, el, say, show, table, tag } from "./dom.js";
import { REASONS, bytes, copies, messages, named, number, short, time } from "./words.js";

/** Messages on a page. */
const PAGE = 50;
/** Ids in one answer of the API, at most. */
const WALK = 5000;
/** Ids in one act: the daemon takes no more (`MAX_ACTS`). */
const BATCH = 50;
const LEFT = "becalm-left";
const DONE = { release: "released", return: "returned" };

let filter = {};
/** Where each page up to this one begins; the first begins at the beginning. */
let pages = [null];
let page = null;
let held = null;
/** Copies of each selected message, by its queue id. */
const selected = new Map();

export async function load() {
  const asked = filter;
  const at = pages.at(-1);
  const found = await get("quarantine", { ...filter, limit: PAGE, after: at });
  // An answer to what nobody asks any more.
  if (asked !== filter || at !== pages.at(-1)) return;
  page = found;
  if (found.messages.length === 0 && pages.length > 1) {
    pages.pop();
    await load();
  }
}

export function draw(status) {
  if (!status || !page) return;
  held = status.quarantine;
  const searching = Object.keys(filter).length > 0;
  say($("held-sum"), held.held === 0 ? "Nothing is held." :
    `${messages(held.held)} held, ${copies(held.copies)}, ${bytes(held.bytes)}; the oldest since ${held.oldest ? time(held.oldest) : "just now"}. ` +
    `At most ${number(held.max_count)} messages.` + (searching ? ` ${number(page.total)} fit the search.` : ""));
  const on = new Set(page.messages.map((item) => item.queue_id));
  const every = page.messages.length > 0 && [...on].every((id) => selected.has(id));
  show($("held-table"), page.messages.length === 0 ? el("p", { "data-key": "none" }, searching ? "Nothing that is held fits." : null) :
    table("Held messages, the oldest first", [
      { name: "Select", head: el("input", { type: "checkbox", "aria-label": "Select all of this page", "data-act": "page", checked: every }),
        cell: (row) => el("input", { type: "checkbox", "aria-label": `Select ${row.queue_id} by ${row.author ?? "nobody"}`, "data-id": row.queue_id, checked: selected.has(row.queue_id) }) },
      { name: "Since", cell: (row) => time(row.since) },
      { name: "List", cell: (row) => named(row.list) },
      { name: "Author", cell: (row) => row.author ?? "nobody" },
      { name: "Reason", cell: (row) => [tag(row.reason, REASONS[row.reason] ?? row.reason), row.held ? null : " only observed: delivered"] },
      { name: "Copies", number: true, cell: (row) => short(row.copies) },
      { name: "What becomes of it", cell: (row) => row.trouble ?? (row.until ? `goes by itself at ${time(row.until)}` : "waits for you") },
      { name: "Queue id", cell: (row) => el("code", null, row.queue_id) },
    ], page.messages, (row) => row.queue_id));
  drawBulk();
  const before = (pages.length - 1) * PAGE;
  show($("pages"), page.total > PAGE || pages.length > 1 ? [
    button("previous", "Previous page", { "data-key": "previous", disabled: pages.length === 1 }),
    el("span", { "data-key": "where" }, `${number(before + 1)} to ${number(before + page.messages.length)} of ${number(page.total)}`),
    button("next", "Next page", { "data-key": "next", disabled: !page.next }),
  ] : []);
}

function drawBulk() {
  const count = selected.size;
  const sum = [...selected.values()].reduce((all, cost) => all + cost, 0);
  show($("bulk"), page.total === 0 && count === 0 ? [] : [
    el("p", { role: "status", "data-key": "count" }, count === 0 ? "None selected." : `${messages(count)} selected (${copies(sum)}).`),
    button("select-all", `Select all ${number(page.total)}${Object.keys(filter).length > 0 ? " that fit" : ""}`, { "data-key": "all", disabled: page.total === 0 }),
    button("select-none", "Select none", { "data-key": "none", disabled: count === 0 }),
    button("release", "Release", { "data-key": "release", disabled: count === 0, class: "strong" }),
    button("return", "Return to sender", { "data-key": "return", disabled: count === 0 }),
  ]);
  const left = unfinished();
  show($("resume"), left ? el("p", { class: "odd", "data-key": "left" }, tag("odd", "Unfinished"), ` ${messages(left.ids.length)} were to be ${DONE[left.act]} and are left. `,
    button("resume", "Go on"), " ", button("forget", "Leave them")) : null);
}

function search(fields) {
  filter = Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, value.trim()]).filter(([, value]) => value));
  pages = [null];
  selected.clear();
}

/** What was begun and not finished, also after this page was loaded anew. */
function unfinished() {
  try {
    const left = JSON.parse(sessionStorage.getItem(LEFT));
    return left && left.act in DONE && Array.isArray(left.ids) && left.ids.length > 0 ? left : null;
  } catch {
    return null;
  }
}

function remember(act, ids) {
  try {
    if (ids.length > 0) sessionStorage.setItem(LEFT, JSON.stringify({ act, ids }));
    else sessionStorage.removeItem(LEFT);
  } catch {
    // Too many for the browser's store: a reload would forget them, this page does not need it.
  }
}

async function selectAll() {
  let after = null;
  do {
    const found = await get("quarantine", { ...filter, limit: WALK, after });
    for (const item of found.messages) selected.set(item.queue_id, item.copies);
    after = found.next;
  } while (after);
}

async function actOn(act, ids, cost, tell) {
  const sentences = act === "release"
    ? [`${messages(ids.length)} will go to their recipients: ${copies(cost)}.`, "Who wrote them is known to the list from then on."]
    : [`${messages(ids.length)} will go back to their senders, as undeliverable. Nobody else gets them.`];
  const left = unfinished();
  if (left) sentences.push(`What is left of an earlier act (${messages(left.ids.length)} to be ${DONE[left.act]}) is forgotten by this; it stays held.`);
  const name = act === "release" ? `Release ${messages(ids.length)}` : `Return ${messages(ids.length)}`;
  if (!(await confirm(`${name}?`, sentences, name))) return false;
  await carryOut(act, ids, name, tell);
  return true;
}

async function carryOut(act, ids, name, tell) {
  const of = ids.length;
  remember(act, ids);
  let words = "";
  await progress(name, async (report, stopped) => {
    let left = ids;
    let done = 0;
    const failed = [];
    let broke = null;
    while (left.length > 0 && !stopped()) {
      const batch = left.slice(0, BATCH);
      let acted;
      try {
        acted = await post(`quarantine/${act}`, { ids: batch });
      } catch (error) {
        broke = error;
        break;
      }
      const over = new Set([...acted.done, ...acted.failed.map((one) => one.id)]);
      for (const id of over) selected.delete(id);
      done += acted.done.length;
      failed.push(...acted.failed);
      // Of a batch that nothing came of, nothing will come by asking again.
      if (over.size === 0) {
        broke = new Error("nothing came of it: becalm did not come to them in time");
        break;
      }
      left = left.filter((id) => !over.has(id));
      remember(act, left);
      report(done + failed.length, of, `${number(done)} of ${messages(of)} ${DONE[act]}${failed.length > 0 ? `, ${number(failed.length)} not` : ""}`);
    }
    words = `${messages(done)} ${DONE[act]}` +
      (failed.length > 0 ? `, ${number(failed.length)} not` : "") +
      (left.length > 0 ? `; ${number(left.length)} left` : "") + (broke ? `: ${broke.message}` : "") + ".";
    const trouble = failed.slice(0, 20).map((one) => `${one.id}: ${one.reason}`);
    if (failed.length > 20) trouble.push(`and ${number(failed.length - 20)} more`);
    return { words, trouble };
  });
  tell(words);
}

/** Hears the buttons and boxes of this part. `again` loads and draws, `tell` says news. */
export function listen(again, redraw, tell) {
  const form = $("filters");
  const fields = () => Object.fromEntries(new FormData(form));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    search(fields());
    again();
  });
  form.addEventListener("change", () => form.requestSubmit());
  form.addEventListener("reset", () => {
    search({});
    again();
  });
  $("held-table").addEventListener("change", ({ target }) => {
    for (const item of page.messages) {
      const mine = target.dataset.act === "page" || target.dataset.id === item.queue_id;
      if (mine && target.checked) selected.set(item.queue_id, item.copies);
      else if (mine) selected.delete(item.queue_id);
    }
    redraw();
  });
  const cost = () => [...selected.values()].reduce((all, one) => all + one, 0);
  return {
    next: () => {
      if (page.next) pages.push(page.next);
      return again();
    },
    previous: () => {
      if (pages.length > 1) pages.pop();
      return again();
    },
    "select-all": () => selectAll().then(redraw),
    "select-none": () => {
      selected.clear();
      redraw();
    },
    release: async () => (await actOn("release", [...selected.keys()], cost(), tell)) && again(),
    return: async () => (await actOn("return", [...selected.keys()], cost(), tell)) && again(),
    resume: async () => {
      const left = unfinished();
      if (!left) return;
      await carryOut(left.act, left.ids, left.act === "release" ? "Release the rest" : "Return the rest", tell);
      await again();
    },
    forget: () => {
      remember("release", []);
      redraw();
    },
    "filter-storm": ({ storm }) => {
      form.reset();
      form.elements.storm.value = storm;
      search(fields());
      $("held").scrollIntoView();
      form.elements.storm.focus();
      return again();
    },
  };
}
