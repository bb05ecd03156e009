// The daemon's API: requests with the token, and the stream of events.

const KEY = "becalm-token";
/** A daemon that is alive answers at once, an act waits for its helper. */
const PATIENCE = 10_000;
const PATIENCE_FOR_ACTS = 100_000;

/** Longest line of the event stream, in characters; what is longer is no event of becalm's. */
const MAX_LINE = 1_000_000;

export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** The daemon cannot be reached. */
export class Lost extends Error {}

let askForToken = async () => null;

/** `ask(why)` resolves to a token, or to null if the person gives none. */
export function onTokenWanted(ask) {
  let asking = null;
  // Several requests are refused at once: the person is asked once.
  askForToken = (why) => (asking ??= ask(why).finally(() => { asking = null; }));
}

const token = () => sessionStorage.getItem(KEY);

function headers(more) {
  const given = token();
  return given ? { ...more, Authorization: `Bearer ${given}` } : { ...more };
}

async function request(path, options, patience) {
  for (;;) {
    const used = token();
    let answer;
    try {
      answer = await fetch(path, {
        ...options,
        headers: headers(options.headers),
        cache: "no-store",
        signal: options.signal ?? AbortSignal.timeout(patience),
      });
    } catch (error) {
      throw new Lost(error.name === "TimeoutError" ? "becalm did not answer in time" : "becalm cannot be reached");
    }
    if (answer.ok) return answer;
    const refusal = await refused(answer);
    if (answer.status !== 401) throw refusal;
    if (used !== token()) continue;
    sessionStorage.removeItem(KEY);
    const given = await askForToken(used ? "That token is not the right one." : refusal.message);
    if (given === null) throw refusal;
    sessionStorage.setItem(KEY, given);
  }
}

async function refused(answer) {
  let code = "failed";
  let message = `becalm answered ${answer.status}`;
  try {
    ({ code, message } = (await answer.json()).error);
  } catch {
    // Not becalm's own words: the number must do.
  }
  return new Refused(answer.status, code, message);
}

async function json(answer) {
  try {
    return await answer.json();
  } catch {
    throw new Lost("becalm's answer broke off");
  }
}

export async function get(path, parameters) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters ?? {})) {
    if (value !== "" && value !== null && value !== undefined) query.set(name, value);
  }
  const text = query.toString();
  return json(await request(`/api/v1/${path}${text ? `?${text}` : ""}`, {}, PATIENCE));
}

export async function post(path, body) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  return json(await request(`/api/v1/${path}`, options, PATIENCE_FOR_ACTS));
}

/** Calls `heard(name, data)` for each event, and `alive()` for whatever comes; ends when the stream does. */
export async function listen(heard, alive, signal) {
  const answer = await request("/api/v1/events", { headers: { Accept: "text/event-stream" }, signal }, 0);
  alive();
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let name = "message";
  let data = "";
  for (;;) {
    let chunk;
    try {
      chunk = await reader.read();
    } catch {
      throw new Lost("the stream of events broke");
    }
    if (chunk.done) throw new Lost("becalm closed the stream of events");
    alive();
    rest += chunk.value;
    const lines = rest.split(/\r\n|\n|\r/);
    rest = lines.pop();
    if (rest.length > MAX_LINE) throw new Lost("the stream of events makes no sense");
    for (const line of lines) {
      if (line === "") {
        if (data) {
          try {
            heard(name, JSON.parse(data));
          } catch (error) {
            if (!(error instanceof SyntaxError)) throw error;
          }
        }
        name = "message";
        data = "";
      } else if (line.startsWith("event:")) name = line.slice(6).trim();
      else if (line.startsWith("data:")) data += line.slice(5).trim();
    }
  }
}
