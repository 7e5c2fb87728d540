// The page of `curate explore RUN OTHER`. Every string of the data reaches the page as text, never as markup.
"use strict";
(() => {
const {$, element, ask, count, later} = Page;
const OUTCOMES = ["kept", "filtered", "failed", "missing"];
const PAGE = 30;
const view = {a: "", b: "", column: "", search: ""};
let state = null, shownRows = 0, version = 0;

const counted = (number) => `${count(number)} record${number === 1 ? "" : "s"}`;
const figure = (value) => Number.isInteger(value) ? String(value) : Number(value.toPrecision(4)).toString();
const shown = (value) => value === null || value === undefined ? "–" : typeof value === "object" ? JSON.stringify(value) : typeof value === "number" ? figure(value) : String(value);

async function refreshState() {
  state = await ask("api/compare", {});
  const progress = $("progress"), failed = state.error || state.sides.map((side) => side.error).find(Boolean);
  progress.hidden = state.ready && !failed;
  progress.classList.toggle("error", Boolean(failed));
  progress.lastElementChild.textContent = failed || `Making the indexes: ${count(state.sides[0].rows)} rows of A, ${count(state.sides[1].rows)} of B so far.`;
  $("sides").replaceChildren(...state.sides.map((side, at) => element("div", {class: "panel"}, element("b", {}, `${"AB"[at]}: ${side.name}`), element("div", {class: "note"}, side.path), element("div", {class: "note"}, counted(side.rows)))));
  if (!state.ready) { if (!failed) setTimeout(() => refreshState().catch(showError), 700); return; }
  drawOutcomes(); drawColumns(); drawSettings();
  document.body.dataset.ready = "yes";
  reload();
}
function showError(error) { const note = $("progress"); note.hidden = false; note.classList.add("error"); note.lastElementChild.textContent = error.message; }

function drawOutcomes() {
  const cell = (a, b) => state.outcomes.find((each) => each.a === a && each.b === b)?.records || 0;
  const inA = OUTCOMES.filter((a) => OUTCOMES.some((b) => cell(a, b))), inB = OUTCOMES.filter((b) => OUTCOMES.some((a) => cell(a, b)));
  $("outcomes-table").replaceChildren(element("table", {}, element("thead", {}, element("tr", {}, element("th", {}, ""), ...inB.map((b) => element("th", {class: "number"}, b === "missing" ? "not in B" : b)))),
    element("tbody", {}, ...inA.map((a) => element("tr", {}, element("th", {}, a === "missing" ? "not in A" : a), ...inB.map((b) => element("td", {}, cell(a, b) ? element("button", {
      class: a === b ? "same" : "", "data-cell": `${a} ${b}`, "aria-pressed": String(view.a === a && view.b === b), "aria-label": `${a} in A, ${b} in B`,
      onclick: () => { const off = view.a === a && view.b === b; view.a = off ? "" : a; view.b = off ? "" : b; view.column = ""; drawOutcomes(); drawColumns(); reload(); },
    }, count(cell(a, b))) : null)))))));
  const moved = state.outcomes.filter((each) => each.a !== each.b).reduce((sum, each) => sum + each.records, 0);
  const only = (a, b) => counted(state.outcomes.filter((each) => (each.a === "kept") === a && (each.b === "kept") === b).reduce((sum, each) => sum + each.records, 0));
  $("moved").textContent = moved ? `${counted(moved)} ended differently: ${only(true, false)} kept in A alone, ${only(false, true)} in B alone.` : "Every record ended the same in both.";
}
function drawColumns() {
  const changed = state.columns.filter((each) => each.changed);
  $("columns").replaceChildren(changed.length ? element("table", {}, element("thead", {}, element("tr", {}, element("th", {}, "column"), element("th", {class: "number"}, "records"), element("th", {class: "number"}, "mean in A"), element("th", {class: "number"}, "mean in B"))),
    element("tbody", {}, ...changed.map((each) => element("tr", {}, element("td", {}, element("button", {"data-column": each.name, "aria-pressed": String(view.column === each.name), onclick: () => { view.column = view.column === each.name ? "" : each.name; view.a = view.b = ""; drawOutcomes(); drawColumns(); reload(); }}, each.name)),
      element("td", {class: "number"}, count(each.changed)), element("td", {class: "number"}, each.mean_a === null ? "" : figure(each.mean_a)), element("td", {class: "number"}, each.mean_b === null ? "" : figure(each.mean_b)))))) : element("p", {class: "note"}, "All values are the same."));
}
function drawSettings() {
  $("settings-panel").hidden = !state.settings.length;
  $("settings").replaceChildren(element("table", {}, element("thead", {}, element("tr", {}, ...["setting", "A", "B"].map((title) => element("th", {}, title)))), element("tbody", {}, ...state.settings.map((each) => element("tr", {}, ...[each.stage ? `${each.stage}.${each.name}` : each.name, each.a, each.b].map((text) => element("td", {}, text)))))));
}

async function fetchRows() {
  const mine = version, everything = view.a || view.column || view.search;
  const answer = await ask("api/compare/rows", {...view, different: !everything, offset: shownRows, limit: PAGE});
  if (mine !== version) return;
  shownRows += answer.rows.length;
  $("total").textContent = counted(answer.total);
  $("chosen").textContent = view.column ? `with another ${view.column} in B` : view.a ? `${view.a === "missing" ? "not in A" : `${view.a} in A`}, ${view.b === "missing" ? "not in B" : `${view.b} in B`}` : view.search ? "found" : "ended differently";
  $("clear").hidden = !everything;
  $("pairs").append(...answer.rows.map(pairOf));
  $("more").hidden = shownRows >= answer.total;
  document.body.dataset.pairs = String(shownRows);
}
function reload() { version += 1; shownRows = 0; $("pairs").replaceChildren(); delete document.body.dataset.pairs; fetchRows().catch(showError); }

function sideOf(side, row) {
  if (!row) return element("div", {}, `${side} `, element("span", {class: "pill missing"}, "missing"));
  return element("div", {}, `${side} `, element("span", {class: `pill ${row.outcome}`}, row.outcome), row.reason ? element("p", {}, `${row.stage}: ${row.reason}${row.code ? ` (${row.code})` : ""}`) : null);
}
function pairOf(pair) {
  const {a, b} = pair, left = a ? a.values : {}, right = b ? b.values : {};
  const names = [...new Set([...Object.keys(left), ...Object.keys(right)])];
  const changes = a && b ? names.filter((name) => !pair.texts[name] && JSON.stringify(left[name]) !== JSON.stringify(right[name])) : [];
  const text = right.text ?? left.text;
  return element("article", {class: "pair", "data-id": pair.id}, element("header", {}, element("button", {class: "play", "aria-label": "Play", onclick: () => play(a ? `audio/${a.row}` : `audio-b/${b.row}`, pair.id)}, "▶"), element("b", {}, pair.id)),
    element("div", {class: "two"}, sideOf("A", a), sideOf("B", b)),
    ...Object.entries(pair.texts).flatMap(([name, words]) => [element("h3", {}, `${name}: A above, B below`), element("div", {class: "words"}, ...words.map((each) => element("span", {class: each.kind}, element("b", {}, each.reference), element("i", {}, each.hypothesis))))]),
    !Object.keys(pair.texts).length && typeof text === "string" ? element("p", {class: "note"}, text.slice(0, 600)) : null,
    changes.length ? element("div", {class: "changes"}, ...changes.map((name) => element("span", {}, element("b", {}, name), ` ${shown(left[name]).slice(0, 200)} → ${shown(right[name]).slice(0, 200)}`))) : null);
}
function play(address, id) {
  const audio = $("audio");
  if (audio.dataset.id === id && !audio.paused) { audio.pause(); return; }
  audio.src = address; audio.dataset.id = id;
  audio.play().then(() => { document.body.dataset.playing = id; }).catch(async () => {
    const response = await fetch(address), answer = await response.json().catch(() => ({}));
    showError(new Error(answer.error || "the audio cannot be played"));
  });
}

$("search").addEventListener("input", later(150, () => { view.search = $("search").value; reload(); }));
$("clear").addEventListener("click", () => { Object.assign(view, {a: "", b: "", column: "", search: ""}); $("search").value = ""; drawOutcomes(); drawColumns(); reload(); });
$("more").addEventListener("click", () => fetchRows().catch(showError));
$("theme").addEventListener("click", () => {
  const root = document.documentElement, dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
refreshState().catch(showError);
})();
