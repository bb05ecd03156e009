// Numbers and times, as words for a person.

const whole = new Intl.NumberFormat("en");
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const clockSeconds = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dayClock = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

/** The browser's zone. */
export const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "local time";

export const number = (n) => whole.format(n);

/** 1,234 in full; beyond 10,000 three digits: 48.3 k, 1.2 M. */
export function short(n) {
  for (const [unit, word] of [[1e12, " T"], [1e9, " G"], [1e6, " M"], [1e3, " k"]]) {
    if (n >= unit && n >= 10_000) {
      const value = n / unit;
      return `${value >= 100 ? Math.round(value) : value.toFixed(1).replace(/\.0$/, "")}${word}`;
    }
  }
  return number(n);
}

export function bytes(n) {
  if (n === null || n === undefined) return "not known yet";
  for (const [unit, word] of [[1 << 30, "GiB"], [1 << 20, "MiB"], [1 << 10, "KiB"]]) {
    if (n >= unit) return `${(n / unit).toFixed(1)} ${word}`;
  }
  return `${number(n)} bytes`;
}

export const plural = (n, one, many) => `${number(n)} ${n === 1 ? one : many}`;
export const messages = (n) => plural(n, "message", "messages");
export const copies = (n) => `${short(n)} ${n === 1 ? "copy" : "copies"}`;

/** 10:04 today, else 14 Nov, 10:04. */
export function time(rfc3339) {
  const at = new Date(rfc3339);
  if (Number.isNaN(at.getTime())) return rfc3339;
  return at.toDateString() === new Date().toDateString() ? clock.format(at) : dayClock.format(at);
}

export const exact = (at) => clockSeconds.format(at);
export const minute = (at) => clock.format(at);

/** 40 s, 12 min, 3 h 5 min, 4 days */
export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 100) return `${s} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 172_800) {
    const minutes = Math.round((s % 3600) / 60);
    return minutes > 0 && minutes < 60 ? `${Math.floor(s / 3600)} h ${minutes} min` : `${Math.round(s / 3600)} h`;
  }
  return plural(Math.round(s / 86_400), "day", "days");
}

export const REASONS = {
  suspicion: "suspicion",
  storm: "storm",
  automatic: "automatic",
  limit: "rate limit",
  by_hand: "by hand",
};

export const MODES = {
  observe: "only observed",
  hold: "held",
  reject: "refused (5xx)",
  defer: "put off (4xx)",
  discard: "thrown away",
  strip: "the list is taken off",
};

export const TRIGGERS = {
  conversation_newcomers: "newcomers in one conversation",
  conversation_authors: "people in one conversation",
  list_newcomers: "newcomers on the list",
  rekindled: "newcomers soon after a storm",
  by_hand: "closed by an operator",
};

/** A storm's list; without one it is mail to many recipients. */
export const named = (list) => list ?? "many recipients";

/** The first sentence of the page. */
export function headline(status, storms) {
  const open = storms.open.filter((list) => list.phase === "storm");
  const held = status.quarantine.held;
  const kept = held === 0 ? "Nothing is held." : `${messages(held)} ${held === 1 ? "is" : "are"} held.`;
  if (open.length === 1) return `Storm on ${named(open[0].list)} since ${time(open[0].time)}. ${kept}`;
  if (open.length > 1) return `${open.length} storms: ${open.slice(0, 2).map((list) => named(list.list)).join(", ")}` +
    `${open.length > 2 ? ` and ${open.length - 2} more` : ""}. ${kept}`;
  return `Calm. ${kept}`;
}

/** What one storm did so far. */
export function course(storm) {
  const would = storm.mode === "observe";
  const stopped = would
    ? `${messages(storm.held)} (${copies(storm.copies_held)}) would have been stopped; it is only observed`
    : `${messages(storm.held)} stopped: ${copies(storm.copies_held)} that nobody got`;
  const passed = `${messages(storm.delivered)} passed since (${copies(storm.copies_delivered)})`;
  return `${stopped}; ${passed}.`;
}

/** What is not as it should be: [kind, words]. */
export function warnings(status, storms) {
  const found = [];
  const bad = (words) => found.push(["bad", words]);
  const odd = (words) => found.push(["odd", words]);
  const q = status.quarantine;
  if (status.observing) odd("Everything is put to observe: no mail is touched until “becalm observe off”.");
  if (status.refusing) odd("It is about to end and sends list mail away with 4xx, to be tried again.");
  else if (status.draining) odd("It takes no new sessions any more.");
  if (q.full) bad(`Nothing more can be held (${q.full.replace("_", " ")}): new storm mail is put off with 4xx.`);
  else if (q.held * 2 >= q.max_count) odd(`Held mail has reached half of its limit: ${number(q.held)} of ${number(q.max_count)}.`);
  for (const helper of q.helpers) {
    if (helper.state === "down") {
      bad(`The helper at ${helper.socket} does not answer since ${time(helper.since)}: held mail stays held. ${helper.error ?? ""}`);
    }
  }
  if (status.journal.state === "degraded") {
    bad(`The journal is degraded since ${time(status.journal.since)}: ${status.journal.why ?? "unknown"}. Mail is judged all the same.`);
  }
  for (const source of status.sources) {
    if (source.stale) odd(`The directory source ${source.name} is stale (${source.stale}); what was read ${span(source.age_s)} ago is used.`);
  }
  if (status.reload && status.reload !== "ok") odd("The last reload changed nothing: the configuration has an error.");
  if (status.counts.failed_open > 0) bad(`${messages(status.counts.failed_open)} passed unjudged, because becalm itself failed.`);
  const observed = storms.open.filter((list) => list.phase === "storm" && list.mode === "observe");
  if (observed.length > 0 && !status.observing) odd(`Mail to ${named(observed[0].list)} is only observed: its storm is not held back.`);
  return found;
}
