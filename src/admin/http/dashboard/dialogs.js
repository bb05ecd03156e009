// Dialogs: the browser's own, which keep the focus inside, close on Escape, and give the focus back.

import { $, el } from "./dom.js";

/** One dialog may be before another: the token is asked for while an act is under way. */
let number = 0;

/** Shows a dialog; `build(close)` returns its children. Resolves to what `close` was given, null on Escape. */
export function dialog(title, build, options) {
  return new Promise((resolve) => {
    let result = null;
    const id = `dialog-${++number}`;
    const close = (value) => {
      result = value;
      box.close();
    };
    const box = el("dialog", { "aria-labelledby": id });
    box.append(el("h2", { id }, title), ...build(close).flat(Infinity));
    box.addEventListener("cancel", (event) => {
      if (options?.stays?.()) event.preventDefault();
    });
    box.addEventListener("close", () => {
      box.remove();
      resolve(result);
    });
    $("dialogs").append(box);
    box.showModal();
  });
}

const row = (...children) => el("div", { class: "acts end" }, ...children);

function plain(words, click, more) {
  const made = el("button", { type: "button", ...more }, words);
  made.addEventListener("click", click);
  return made;
}

/** True if the person says yes. The focus is on no. */
export async function confirm(title, sentences, yes) {
  return (await dialog(title, (close) => [
    sentences.map((sentence) => el("p", null, sentence)),
    row(plain("Cancel", () => close(null), { autofocus: true }), plain(yes, () => close(true), { class: "strong", "data-yes": true })),
  ])) === true;
}

/** Asks with a form; resolves to its fields, or null. `fields` are elements; `send(values)` may refuse by throwing. */
export function form(title, sentences, fields, yes, send) {
  return dialog(title, (close) => {
    const wrong = el("p", { class: "wrong", role: "alert" });
    const strong = el("button", { type: "submit", class: "strong" }, yes);
    const made = el("form", { method: "dialog" },
      sentences.map((sentence) => el("p", null, sentence)), fields, wrong,
      row(plain("Cancel", () => close(null)), strong));
    made.addEventListener("submit", async (event) => {
      event.preventDefault();
      strong.disabled = true;
      try {
        close(await send(Object.fromEntries(new FormData(made))));
      } catch (error) {
        wrong.textContent = `${error.message}.`.replace(/\.\.$/, ".");
        strong.disabled = false;
        strong.focus();
      }
    });
    return [made];
  });
}

/** The token, for this tab only. */
export function askForToken(why) {
  return form("Token wanted", [
    `${why}`,
    "It is in the file that [admin.http] token_file names on the mail server. This tab keeps it until it is closed.",
  ], [el("label", null, "Token ", el("input", { name: "token", type: "password", required: true, autocomplete: "off", autofocus: true }))],
  "Use this token", async ({ token }) => token.trim() || null);
}

/** Shows the progress of `work(tell, stopped)`, which calls `tell(done, of, words)` and ends when `stopped()`. */
export function progress(title, work) {
  let stopped = false;
  let running = true;
  return dialog(title, (close) => {
    const bar = el("progress", { max: 1, value: 0, "aria-label": title });
    const words = el("p", { role: "status" }, "Beginning");
    const trouble = el("ul", { class: "trouble" });
    const end = plain("Stop", () => {
      if (running) {
        stopped = true;
        end.textContent = "Stopping";
        end.disabled = true;
      } else close(true);
    }, { autofocus: true, "data-end": true });
    const tell = (done, of, text) => {
      bar.max = Math.max(1, of);
      bar.value = done;
      words.textContent = text;
    };
    work(tell, () => stopped).then((told) => {
      words.textContent = told.words;
      trouble.append(...told.trouble.map((line) => el("li", null, line)));
    }, (error) => {
      words.textContent = error.message;
    }).finally(() => {
      running = false;
      end.disabled = false;
      end.textContent = "Close";
      end.focus();
    });
    return [bar, words, trouble, row(end)];
  }, { stays: () => running });
}
