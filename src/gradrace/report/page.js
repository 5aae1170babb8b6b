"use strict";
// The table of races: which rows it shows, in which order, and which of them are open. The rows stand in the page
// already and every number arrives spelled. What is shown stands in the fragment of the address, so that a view can be
// shared, and goes back and forward:
//   #q=WORDS&family=F&operator=O&dtype=T&device=D&all=1&sort=time (or -time)&case=ID (or race=ID)
(() => {
const FACETS = ["family", "operator", "dtype", "device"];
const NO_FILTERS = { q: "", family: "", operator: "", dtype: "", device: "", all: false };
const ROWS_AT_ONCE = 100; // to lay out a row takes a millisecond
const byName = new Intl.Collator("en", { numeric: true }).compare;

const table = document.querySelector(".races");
if (!table) return;
const body = table.tBodies[0];
const columns = [...table.tHead.rows[0].cells];
const form = document.querySelector(".filters");
const controls = form.elements;
const count = document.querySelector(".count");
const more = document.querySelector(".more");
const told = JSON.parse(document.getElementById("data").textContent);
const races = [...body.rows].map((row, place) => raceOf(row, place, ...told.races[place]));
const byId = new Map(races.map(race => [race.id, race]));
const byRow = new Map(races.map(race => [race.row, race]));
const opened = new Set();
let limit = ROWS_AT_ONCE;
let view = read();

function raceOf(row, place, id, keys, cases) {
  const [family, operator, size, dtype, device] = id.split("/");
  const caseOf = ([variant, source, isBaseline, mark, tag, why, ...cells]) => {
    const id = [family, variant, operator, size, dtype, device].join("/");
    const text = [id, told.sources[source], tag, why].join(" ").toLowerCase();
    return { id, variant, source: told.sources[source], isBaseline, mark, tag, why, cells, text };
  };
  const sortedBy = [id, [size, dtype, device].join(" "), ...keys];
  return { id, row, place, family, operator, dtype, device, sortedBy, cases: cases.map(caseOf) };
}

// --- the view and the address ---------------------------------------------------------------------------------------

function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  const [q, family, operator, dtype, device, sort, linked, race] =
    ["q", ...FACETS, "sort", "case", "race"].map(key => given.get(key) ?? "");
  return { q, family, operator, dtype, device, all: given.get("all") === "1", sort, case: linked, race };
}

function fragment() {
  const pairs = Object.entries({ ...view, all: view.all ? "1" : "" }).filter(([, value]) => value);
  const spelled = pairs.map(([key, value]) => `${key}=${encodeURIComponent(value).replaceAll("%2F", "/")}`);
  return spelled.length ? `#${spelled.join("&")}` : "";
}

// Typing makes no history, or each letter would be a step back.
function change(changes, { isTyping = false } = {}) {
  view = { ...view, ...changes };
  limit = ROWS_AT_ONCE;
  const address = location.pathname + location.search + fragment();
  if (isTyping) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  show();
}

// Who looks for something else has left the case that was linked to.
function filter(changes, how) {
  change({ case: "", race: "", ...changes }, how);
}

// A plain anchor, such as #history, leaves the view as it is.
function follow() {
  if (location.hash && !location.hash.includes("=")) return;
  view = read();
  limit = ROWS_AT_ONCE;
  visit();
}

function target() {
  const [family, , ...rest] = view.case.split("/");
  return byId.get(view.case ? [family, ...rest].join("/") : view.race);
}

// Open what the address links to, and bring it into view.
function visit() {
  const race = target();
  if (race) opened.add(race.id);
  show();
  const row = race && targetRow(race);
  row?.scrollIntoView({ block: row === race.row ? "start" : "center" });
  row?.querySelector("a").focus({ preventScroll: true });
}

function targetRow(race) {
  return race.cases.find(each => each.id === view.case)?.row ?? race.row;
}

// --- what is shown --------------------------------------------------------------------------------------------------

function show() {
  const focused = document.activeElement;
  const words = view.q.toLowerCase().split(/\s+/).filter(Boolean);
  const holds = each => words.every(word => each.text.includes(word));
  const race = target();
  const found = races.filter(each => FACETS.every(facet => !view[facet] || each[facet] === view[facet]))
    .filter(each => each.cases.some(holds));
  const wanted = inOrder(race && !found.includes(race) ? [...found, race] : found);
  const least = wanted.indexOf(race) + 1; // what is linked to is shown, however far down it stands
  const rows = [];
  let placed = 0;
  let height = 0; // in rows, those of the formulations too
  while (placed < wanted.length && (height < limit || placed < least)) {
    const each = wanted[placed++];
    const parts = rowsOf(each, view.all && each !== race ? holds : () => true);
    height += parts.length === 1 ? 1 : 1 + each.cases.length;
    rows.push(...parts);
  }
  body.replaceChildren(...(rows.length ? rows : [nothing()]));
  if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
  mark(race);
  label(found, holds, wanted.length - placed);
}

function inOrder(list) {
  const place = columns.findIndex(column => column.dataset.key === view.sort.replace("-", ""));
  const sign = view.sort.startsWith("-") ? -1 : 1;
  const compare = (a, b) => (typeof a === "number" ? a - b : byName(a, b));
  return list.sort((one, other) => {
    const stable = one.place - other.place;
    const [a, b] = [one.sortedBy[place] ?? null, other.sortedBy[place] ?? null];
    if (a === null || b === null) return (a === null) - (b === null) || stable; // what has no number stands last
    return sign * compare(a, b) || stable;
  });
}

function rowsOf(race, holds) {
  const isOpen = view.all || opened.has(race.id);
  race.opener ??= openerOf(race);
  race.opener.setAttribute("aria-expanded", isOpen);
  race.opener.hidden = view.all;
  if (!isOpen) return [race.row];
  race.sheet ??= sheetOf(race);
  for (const each of race.cases) each.row.hidden = !holds(each);
  return [race.row, race.sheet];
}

function openerOf(race) {
  const opener = make("button", { type: "button", className: "opener" });
  opener.setAttribute("aria-label", `Formulations of ${race.id}`);
  race.row.cells[0].prepend(opener);
  return opener;
}

// Below the row of a race: all its formulations.
function sheetOf(race) {
  const sheet = document.getElementById("sheet").content.firstElementChild.cloneNode(true);
  sheet.querySelector("caption").prepend(`${race.id} · `);
  sheet.querySelector("caption a").href = `#family-${race.family}`;
  sheet.querySelector("tbody").append(...race.cases.map(each => (each.row = caseRow(each))));
  return sheet;
}

function caseRow(each) {
  const link = make("a", { href: `#case=${each.id}` }, each.variant);
  const role = each.isBaseline ? [" ", make("span", { className: "tag quiet" }, "baseline")] : [];
  const state = make("span", { className: `tag ${each.mark}` }, each.tag);
  const [time, ratio, interval, share, firstCall, ...counts] = each.cells;
  const number = (...inside) => make("td", { className: "number" }, ...inside);
  const cells = [make("td", { className: "text" }, state, make("small", {}, each.why))];
  if (time) {
    const pace = number(ratio, make("small", {}, interval));
    pace.classList.add("pace");
    pace.style.setProperty("--share", share);
    cells.push(number(time), pace, number(firstCall));
  } else cells[0].colSpan = 4; // what is wrong has no time: why it is wrong stands in its place
  return make("tr", {}, make("th", { scope: "row" }, link, ...role, make("small", {}, each.source)),
    ...cells, ...counts.map(text => number(text)));
}

function make(name, facts, ...inside) {
  const made = Object.assign(document.createElement(name), facts);
  made.append(...inside);
  return made;
}

function nothing() {
  return make("tr", {}, make("td", { className: "message", colSpan: columns.length }, "No race holds all of this."));
}

function mark(race) {
  for (const row of table.querySelectorAll(".target")) {
    row.classList.remove("target");
    row.removeAttribute("aria-current");
  }
  if (!race) return;
  targetRow(race).classList.add("target");
  targetRow(race).setAttribute("aria-current", "true");
}

// The controls say what the view is; the line above the table, how much of the whole that is.
function label(found, holds, rest) {
  if (controls.q.value !== view.q) controls.q.value = view.q; // setting it would move the cursor
  for (const facet of FACETS) controls[facet].value = view[facet];
  controls.all.checked = view.all;
  controls.clear.disabled = !(view.q || view.all || FACETS.some(facet => view[facet]));
  const cases = found.flatMap(race => race.cases.filter(holds));
  const wrong = cases.filter(each => each.mark === "bad").length;
  const number = value => value.toLocaleString("en");
  count.textContent = `${number(found.length)} of ${number(races.length)} races; ` +
    `${number(cases.length)} case${cases.length === 1 ? "" : "s"}, ${number(wrong)} of them wrong` + missing();
  more.hidden = rest === 0;
  more.firstElementChild.textContent = `Show more (${number(rest)} are left)`;
  for (const column of columns) {
    const way = view.sort.startsWith("-") ? "descending" : "ascending";
    column.setAttribute("aria-sort", column.dataset.key === view.sort.replace("-", "") ? way : "none");
  }
}

// A link may be older than the results, or younger.
function missing() {
  const name = view.case || view.race;
  const race = target();
  const isThere = race && (!view.case || race.cases.some(each => each.id === name));
  return name && !isThere ? `. These results do not hold ${name}` : "";
}

// --- what a person does ---------------------------------------------------------------------------------------------

function toggle(race) {
  if (view.all) return;
  if (!opened.delete(race.id)) opened.add(race.id);
  else if (race === target()) return filter({});
  show();
}

// Along a link to a case the filters stay as they are; copied and opened elsewhere it shows its case among all.
function jump({ case: linked = "", race = "", family = "" }) {
  if (linked || race) {
    change({ case: linked, race });
    visit();
  } else {
    filter({ ...NO_FILTERS, family });
    form.scrollIntoView();
  }
}

for (const column of columns) {
  const { key, first } = column.dataset;
  const ways = first === "descending" ? [`-${key}`, key] : [key, `-${key}`];
  const button = make("button", { type: "button" }, ...column.childNodes);
  button.addEventListener("click", () => change({ sort: view.sort === ways[0] ? ways[1] : ways[0] }));
  column.append(button);
}

form.addEventListener("submit", event => event.preventDefault());
controls.q.addEventListener("input", event => filter({ q: event.target.value }, { isTyping: true }));
for (const facet of FACETS)
  controls[facet].addEventListener("change", event => filter({ [facet]: event.target.value }));
controls.all.addEventListener("change", event => filter({ all: event.target.checked }));
controls.clear.addEventListener("click", () => {
  filter(NO_FILTERS);
  controls.q.focus();
});

function showUpTo(rows) {
  limit = rows;
  show();
}
more.firstElementChild.addEventListener("click", () => showUpTo(limit + 4 * ROWS_AT_ONCE));
addEventListener("beforeprint", () => showUpTo(Infinity));
addEventListener("hashchange", follow);

document.addEventListener("click", event => {
  const link = event.target.closest("a[href^='#'][href*='=']");
  if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    jump(Object.fromEntries(new URLSearchParams(link.hash.slice(1))));
    return;
  }
  const race = byRow.get(event.target.closest("tr"));
  if (race && !event.target.closest("a") && getSelection().isCollapsed) toggle(race);
});

document.documentElement.classList.add("enhanced");
form.hidden = false;
visit();
})();
