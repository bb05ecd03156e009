// Puts the page together: what is loaded when, what is drawn, and what happens when the daemon is lost.

import { Lost, get, listen, onTokenWanted } from "./api.js";
import * as charts from "./charts.js";
import { askForToken } from "./dialogs.js";
import { $, el, say, show } from "./dom.js";
import * as held from "./held.js";
import * as now from "./now.js";
import * as site from "./site.js";
import { exact, named, time } from "./words.js";

/** All is read anew this often, whatever the stream says. */
const EVERY = 10_000;
/** After news the page is read anew, but not more often than this. */
const SOON = 1500;
/** The first view is of an hour; more is read where somebody looks at it. */
const FIRST_SPAN = 60;
/** The stream says something every 15 seconds: one that is silent for so long is dead, whatever the network thinks. */
const SILENT = 40_000;
/** The longest wait before the next try to reach the daemon. */
const LONGEST_BACK_OFF = 15_000;

const state = { status: null, storms: null, near: null, timeline: null, span: FIRST_SPAN };
let lostAt = null;
let counted = null;
let soon = null;
let retry = null;
/** Storms that were told of. */
const told = new Set();
const loaded = new Set();

function drawAll() {
  now.draw(state);
  site.drawHealth(state.status);
  held.draw(state.status);
  drawCharts();
}

function drawCharts() {
  if (state.timeline && state.storms) charts.draw(state.timeline, state.storms.storms, state.span);
}

async function load() {
  const [status, storms, near, timeline] =
    await Promise.all([get("status"), get("storms"), get("near"), timelineNow(), held.load()]);
  // Storms that the stream did not tell of: it was not open yet, or broken.
  const known = state.storms && new Set(state.storms.storms.map((storm) => storm.storm));
  const unheard = known ? storms.storms.find((storm) => !storm.ended && !known.has(storm.storm) && !told.has(storm.storm)) : null;
  if (unheard) tellStorm(unheard.storm, unheard.list, unheard.started);
  Object.assign(state, { status, storms, near, timeline });
  counted = status.counts;
  show($("known-storms"), storms.storms.slice(0, 100).map((storm) => el("option", { value: storm.storm, "data-key": storm.storm })));
  drawAll();
}

async function timelineNow() {
  const asked = Math.max(FIRST_SPAN, state.span);
  return { ...await get("timeline", { minutes: asked }), asked };
}

/** Loads and draws; an answer is the sign of life that the page goes by. */
async function refresh() {
  try {
    await load();
    found();
  } catch (error) {
    if (error instanceof Lost) lose();
    else trouble(error);
  }
}

function refreshSoon() {
  soon ??= setTimeout(() => {
    soon = null;
    refresh();
  }, SOON);
}

function found() {
  say($("link"), `Live, ${exact(new Date())}`);
  $("link").dataset.state = "live";
  if (lostAt === null) return;
  tell(`Connection regained at ${exact(new Date())}; it was lost at ${exact(lostAt)}.`);
  lostAt = null;
  $("lost").hidden = true;
  document.body.classList.remove("old");
}

function lose() {
  if (lostAt === null) {
    lostAt = new Date();
    say($("lost"), `Connection lost at ${exact(lostAt)}, trying again; what you see is old.`);
    $("lost").hidden = false;
    document.body.classList.add("old");
  }
  say($("link"), "Connection lost");
  $("link").dataset.state = "lost";
}

/** News, for eyes and ears. */
function tell(words) {
  say($("news"), words);
}

function tellStorm(storm, list, since) {
  // Of the last hundred, which is all that can be told of twice.
  if (told.size >= 100) told.clear();
  told.add(storm);
  tell(`Storm on ${named(list)} since ${time(since)}.`);
}

function trouble(error) {
  tell(`${error.message}.`.replace(/\.\.$/, "."));
}

function heard(name, data) {
  if (name === "pulse") {
    pulse(data);
  } else if (name === "storm_started") {
    if (!told.has(data.storm)) tellStorm(data.storm, data.list, data.at);
    refreshSoon();
  } else if (name === "storm_ended") {
    tell(`The storm on ${named(data.list)} is over since ${time(data.at)}.`);
    refreshSoon();
  } else if (name === "possible_list") {
    tell(`Many people suddenly write to ${data.address}: is that a list?`);
  }
}

function pulse(data) {
  if (!state.status || !state.timeline) return;
  charts.advance(state.timeline, counted, data);
  counted = data.counts;
  Object.assign(state.status, { counts: data.counts, connections: data.connections, now: data.now });
  const q = state.status.quarantine;
  if (q.held !== data.held || state.status.storms !== data.storms) refreshSoon();
  drawCharts();
  site.drawHealth(state.status);
  if (lostAt === null) say($("link"), `Live, ${exact(new Date())}`);
}

/** The stream, for ever: whenever it ends, again, and each time a little later. */
async function stream() {
  let wait = 500;
  for (;;) {
    const dead = new AbortController();
    let silent = setTimeout(() => dead.abort(), SILENT);
    try {
      await listen(heard, () => {
        wait = 500;
        clearTimeout(silent);
        silent = setTimeout(() => dead.abort(), SILENT);
      }, dead.signal);
    } catch (error) {
      if (error instanceof Lost) lose();
      else trouble(error);
    } finally {
      clearTimeout(silent);
    }
    await new Promise((resolve) => {
      retry = resolve;
      setTimeout(resolve, wait);
    });
    wait = Math.min(wait * 2, LONGEST_BACK_OFF);
    await refresh();
  }
}

const actions = {
  "close-list": () => openLists().then(() => now.close(tell)),
  end: ({ which, list }) => now.end(which, list, tell),
  "all-storms": () => now.showAll(),
  "more-lists": () => site.moreLists(),
};

async function openLists() {
  if (loaded.has("lists")) return;
  await site.loadLists();
  site.drawLists();
  loaded.add("lists");
}

async function opened(what) {
  try {
    if (what === "lists") await openLists();
    else if (what === "audit") {
      await site.loadAudit();
      site.drawAudit();
    }
  } catch (error) {
    if (error instanceof Lost) lose();
    else trouble(error);
  }
}

function begin() {
  onTokenWanted(askForToken);
  Object.assign(actions, held.listen(refresh, () => held.draw(state.status), tell));
  charts.listen(() => state);
  document.addEventListener("click", async (event) => {
    const target = event.target.closest("button[data-act]");
    const act = target && actions[target.dataset.act];
    if (!act) return;
    try {
      const done = await act(target.dataset);
      if (done === true) await refresh();
      else now.draw(state);
    } catch (error) {
      if (error instanceof Lost) lose();
      trouble(error);
    }
    for (const part of document.querySelectorAll("details[data-load=audit][open]")) opened(part.dataset.load);
  });
  document.addEventListener("toggle", (event) => {
    const what = event.target.dataset?.load;
    if (what && event.target.open) opened(what);
  }, true);
  document.addEventListener("change", ({ target }) => {
    if (target.name !== "span") return;
    state.span = Number(target.value);
    if (state.timeline && state.span > state.timeline.asked) refresh();
    else drawCharts();
  });
  $("list-filter").addEventListener("input", () => site.drawLists());
  $("list-filter").addEventListener("submit", (event) => event.preventDefault());
  addEventListener("online", () => retry?.());
  setInterval(() => {
    if (lostAt === null) refresh();
  }, EVERY);
  refresh().then(() => {
    if (state.timeline) charts.rest(state.timeline);
    return stream();
  });
}

begin();
