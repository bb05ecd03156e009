// Elements from data. Text only ever becomes text nodes; nothing here parses HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An element: attributes by name (null and false are left out), children (text, elements, lists of these, null). */
export function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same in a picture. */
export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const $ = (id) => document.getElementById(id);

/** Makes `place` hold `children`, and keeps every element that is the same: focus and selection stay. */
export function show(place, ...children) {
  const fresh = el("div", null, ...children);
  morph(place, fresh);
}

/** Sets text only where it differs, so that nobody is told the same again. */
export function say(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

const keyOf = (node) => (node.nodeType === 1 ? node.getAttribute("data-key") : null);

function morph(old, fresh) {
  const keyed = new Map();
  for (const child of old.childNodes) {
    const key = keyOf(child);
    if (key !== null) keyed.set(key, child);
  }
  let at = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const key = keyOf(wanted);
    let found = key === null ? at : (keyed.get(key) ?? null);
    // Where two have the same key, each is used once.
    if (key !== null) keyed.delete(key);
    if (found && (found.nodeName !== wanted.nodeName || keyOf(found) !== key)) found = null;
    if (!found) {
      old.insertBefore(wanted, at);
      continue;
    }
    if (found !== at) old.insertBefore(found, at);
    else at = at.nextSibling;
    adopt(found, wanted);
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

function adopt(old, fresh) {
  if (old.nodeType !== 1) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  for (const { name } of [...old.attributes]) {
    // What a person opened stays open.
    if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  if (old.nodeName === "INPUT" && old.type === "checkbox") old.checked = fresh.hasAttribute("checked");
  morph(old, fresh);
}

/** A table that becomes one card a row where it is narrow. Columns: { name, cell(row), number }; `keyOfRow(row, index)` names a row. */
export function table(caption, columns, rows, keyOfRow) {
  return el("table", { "data-key": caption },
    el("caption", { class: "unseen" }, caption),
    el("thead", null, el("tr", null, columns.map((column) =>
      el("th", { scope: "col", class: column.number ? "number" : null }, column.head ?? column.name)))),
    el("tbody", null, rows.map((row, index) => el("tr", { "data-key": keyOfRow(row, index) },
      columns.map((column) => el("td", { "data-name": column.name, class: column.number ? "number" : null },
        column.cell(row)))))));
}

/** A word in a frame; the kind only colours what the word says already. */
export function tag(kind, word) {
  return el("span", { class: `tag ${kind}` }, word);
}

/** A button that is heard by what it names. */
export function button(act, words, more) {
  return el("button", { type: "button", "data-act": act, ...more }, words);
}
