// The page of `curate explore`. Every string of the data reaches the page as text, never as markup.
"use strict";
(() => {
const {$, element, ask, count, later} = Page;
const ROW_PX = 34, PAGE = 100, MAX_PX = 8_000_000;
// The highest frequency of the spectrogram: recordings are decoded at twice this rate, so that it is filled to its top.
const MAX_HZ = 8000;
const OUTCOMES = ["kept", "filtered", "failed"];

const view = {search: "", facets: {}, expression: "", side: "", polygon: null, label: "", sort: "#row", descending: false};
let state = null, columns = [], pages = new Map(), total = 0, version = 0, chosen = null, chosenAt = -1, wave = null;
let sliders = new Map(), otherClauses = [];

const hours = (value) => value === null || value === undefined ? "" : value >= 1 ? `${value.toLocaleString("en", {maximumFractionDigits: 1})} h` : `${(value * 60).toLocaleString("en", {maximumFractionDigits: 1})} min`;
const figure = (value) => typeof value === "number" ? (Number.isInteger(value) ? String(value) : Number(value.toPrecision(6)).toString()) : String(value);
const shown = (value) => value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : typeof value === "number" ? figure(value) : String(value);
const selection = () => ({search: view.search, facets: view.facets, expression: view.side ? view.expression : "", side: view.side, filter: $("filter").value, polygon: view.polygon, label: view.label});
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// The state, and how far the index is.

async function refreshState() {
  const before = state;
  state = await ask("api/state");
  document.title = `${state.name} – curate explore`;
  $("name").textContent = state.name; $("name").title = state.path;
  const progress = $("progress");
  progress.hidden = state.complete && !state.error;
  progress.classList.toggle("error", Boolean(state.error));
  progress.lastElementChild.textContent = state.error ? `${count(state.rows)} rows could be read; then: ${state.error}` : `Making the index: ${count(state.rows)} rows so far. What is here can be used already.`;
  $("outcomes").replaceChildren(...OUTCOMES.filter((name) => state.outcomes[name]).map((name) => element("button", {
    class: name, "aria-pressed": String((view.facets["#outcome"] || []).includes(name)), title: hours(state.outcomes[name].hours),
    onclick: () => toggleFacet("#outcome", name),
  }, element("i"), element("span", {}, name), element("b", {}, count(state.outcomes[name].records)))));
  if (!before || before.columns.length !== state.columns.length) drawColumns();
  showLabels(state.labels);
  $("labels-file").textContent = `Written to ${state.annotations}`;
  $("compare").hidden = !state.compares;
  if (!before) begin();
  if (!state.complete && !state.error) { setTimeout(() => refreshState().then(() => reload(false)), 1000); }
  else if (before && !before.complete) { reload(false); refreshFacets(); for (const name of sliders.keys()) drawSlider(name); refreshThreshold(); drawScatter(); }
}
function begin() {
  const select = $("filter");
  select.replaceChildren(...state.filters.map((each) => element("option", {value: each.name}, each.name)));
  $("filter-row").hidden = state.filters.length < 2;
  if (state.filters.length) setExpression(state.filters[0].expression);
  refreshFacets(); drawScatter();
}
const numeric = () => state.columns.filter((each) => each.kind === "integer" || each.kind === "number").map((each) => each.name);

// The table: only the lines in sight exist; pages of rows are fetched as one scrolls.

const WIDTHS = {text: 280, pred_text: 280, audio_filepath: 220};
function drawColumns() {
  const first = ["text", "pred_text", "duration", "wer", "cer"];
  const names = state.columns.map((each) => each.name);
  const ordered = [...first.filter((name) => names.includes(name)), ...names.filter((name) => !first.includes(name) && name !== "audio_filepath"), ...names.filter((name) => name === "audio_filepath")];
  const kinds = Object.fromEntries(state.columns.map((each) => [each.name, each.kind]));
  columns = [{key: "#id", title: "id", width: 150, get: (row) => row.id.slice(row.id.lastIndexOf("/") + 1), whole: (row) => row.id}, {key: "#outcome", title: "outcome", width: 84, get: (row) => row.outcome},
    ...ordered.slice(0, 40).map((name) => ({key: name, title: name, width: WIDTHS[name] || (kinds[name] === "text" ? 130 : 100), number: kinds[name] === "integer" || kinds[name] === "number", get: (row) => row.values[name]})),
    {key: "#stage", title: "stage", width: 120, get: (row) => row.stage}, {key: "#reason", title: "reason", width: 260, get: (row) => row.reason}];
  drawHead();
  for (const id of ["x", "y", "add-slider"]) {
    const before = $(id).value;
    $(id).replaceChildren(...(id === "add-slider" ? [element("option", {value: ""}, "a slider …")] : []), ...numeric().map((name) => element("option", {value: name}, name)));
    if (before) $(id).value = before;
  }
  if (!$("y").dataset.chosen) {
    const measures = numeric(), wanted = ["wer", "cer", "snr_db"].find((name) => measures.includes(name));
    if (measures.includes("duration")) $("x").value = "duration";
    $("y").value = wanted || measures.find((name) => name !== $("x").value) || measures[0] || "";
  }
}
function drawHead() {
  $("head").replaceChildren(...columns.map((each) => element("button", {
    role: "columnheader", style: `width:${each.width}px`, class: each.number ? "number" : "", "aria-sort": view.sort === each.key ? (view.descending ? "descending" : "ascending") : null,
    onclick: () => { view.descending = view.sort === each.key ? !view.descending : Boolean(each.number); view.sort = each.key; drawHead(); reload(); },
  }, `${each.title}${view.sort === each.key ? (view.descending ? " ↓" : " ↑") : ""}`)));
  $("sorted").textContent = view.sort === "#row" ? "" : `by ${view.sort.replace("#", "")}, ${view.descending ? "largest" : "smallest"} first`;
}
const heightOf = (rows) => Math.min(rows * ROW_PX, MAX_PX);
function firstInSight() {
  const grid = $("grid"), room = Math.max(1, heightOf(total) - grid.clientHeight + ROW_PX);
  if (total * ROW_PX <= MAX_PX) return Math.floor(grid.scrollTop / ROW_PX);
  const sight = Math.ceil(grid.clientHeight / ROW_PX);
  return Math.round(Math.min(1, grid.scrollTop / room) * Math.max(0, total - sight + 2));
}
function reload(top = true) {
  version += 1; pages = new Map();
  if (top) $("grid").scrollTop = 0;
  return fetchPage(Math.floor(firstInSight() / PAGE)).then(drawRows);
}
async function fetchPage(number) {
  if (pages.has(number)) return;
  const mine = version;
  pages.set(number, null);
  try {
    const answer = await ask("api/table", {...selection(), sort: view.sort, descending: view.descending, offset: number * PAGE, limit: PAGE});
    if (mine !== version) return;
    pages.set(number, answer.rows);
    total = answer.total;
    $("total").textContent = `${count(total)} record${total === 1 ? "" : "s"}`;
    $("hours").textContent = hours(answer.hours);
    $("spacer").style.height = `${heightOf(total)}px`;
    document.body.dataset.drawn = String(mine);
  } catch (error) {
    if (mine === version) { pages.delete(number); showError(error); }
  }
  if (mine === version) drawRows();
}
const rowAt = (at) => pages.get(Math.floor(at / PAGE))?.[at % PAGE];
function drawRows() {
  const grid = $("grid"), first = Math.max(0, firstInSight() - 4), lines = Math.ceil(grid.clientHeight / ROW_PX) + 8;
  const made = [];
  for (let at = first; at < Math.min(total, first + lines); at += 1) {
    const row = rowAt(at);
    if (row === undefined) fetchPage(Math.floor(at / PAGE));
    made.push(lineOf(row, at));
  }
  const exact = total * ROW_PX <= MAX_PX;
  $("rows").style.transform = `translateY(${exact ? first * ROW_PX : Math.max(0, grid.scrollTop - 4 * ROW_PX)}px)`;
  $("rows").replaceChildren(...made);
}
function lineOf(row, at) {
  if (!row) return element("div", {class: "line wait", role: "row"}, element("span", {}, "…"));
  const cells = columns.map((each) => {
    const value = shown(each.get(row)), mark = each.key === "#id" && row.verdict ? element("span", {class: `mark ${row.verdict}`}, row.verdict === "accept" ? "✓ " : row.verdict === "reject" ? "✗ " : "✎ ") : null;
    return element("span", {role: "cell", style: `width:${each.width}px`, class: (each.number ? "number" : "") + (value === "" ? " nothing" : ""), title: each.whole ? each.whole(row) : value.length > 24 ? value.slice(0, 600) : null}, mark, value === "" ? "–" : value.slice(0, 300));
  });
  return element("div", {class: `line ${row.outcome}`, role: "row", "aria-selected": String(row.row === chosen), onclick: () => { choose(row.row, at); }}, ...cells);
}
$("grid").addEventListener("scroll", () => requestAnimationFrame(drawRows), {passive: true});
new ResizeObserver(() => { if (state) drawRows(); }).observe($("grid"));
function showError(error) { const note = $("progress"); note.hidden = false; note.classList.add("error"); note.lastElementChild.textContent = error.message; }

// One record.

async function choose(number, at = -1, play = false) {
  chosen = number; chosenAt = at;
  drawRows();
  if (matchMedia("(max-width: 760px)").matches) setView("record");
  const row = await ask(`api/record/${number}`);
  if (chosen !== number) return;
  drawRecord(row, play);
}
function drawRecord(row, play) {
  if (wave) { wave.destroy(); wave = null; }
  const player = element("div", {class: "player"}, element("div", {id: "wave"}), element("div", {id: "spectrogram"}),
    element("div", {class: "row"}, element("button", {id: "play", class: "primary", "aria-label": "Play or pause", onclick: () => wave?.playPause()}, "▶ Play"), element("time", {id: "time"}, "")));
  const values = row.values, parts = [];
  parts.push(element("div", {class: "panel"}, element("h2", {}, row.id), element("span", {class: `pill ${row.outcome}`}, row.outcome),
    row.reason ? element("p", {class: "because"}, `${row.stage}: ${row.reason}${row.code ? ` (${row.code})` : ""}`) : null, player,
    row.way.length ? element("ol", {class: "way", "aria-label": "Way through the stages"}, ...row.way.map((each) => element("li", {class: each.state.split(" ")[0], title: each.state}, each.stage))) : null));
  if (row.differences) parts.push(element("div", {class: "panel"}, element("h2", {}, "text and pred_text"), element("div", {class: "words"}, ...row.differences.map((each) => element("span", {class: each.kind}, element("b", {}, each.reference), element("i", {}, each.hypothesis))))));
  else if (typeof values.text === "string") parts.push(element("div", {class: "panel"}, element("h2", {}, "text"), element("p", {}, values.text)));
  parts.push(labelPanel(row));
  const listed = Object.entries(values).filter(([name]) => !["text", "pred_text"].includes(name));
  parts.push(element("div", {class: "panel"}, element("h2", {}, "Columns"), element("dl", {}, ...listed.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, shown(value).slice(0, 4000))]))));
  $("record").replaceChildren(...parts);
  $("record").dataset.row = String(row.row);
  openAudio(row, play);
}
function openAudio(row, play) {
  const container = $("wave");
  const mine = row.row;
  wave = WaveSurfer.create({container, url: `audio/${row.row}`, height: 62, sampleRate: 2 * MAX_HZ, waveColor: colour("faint"), progressColor: colour("accent"), cursorColor: colour("ink"), barWidth: 2, barGap: 1, barRadius: 1, normalize: true, fetchParams: {credentials: "same-origin"},
    plugins: [WaveSurfer.Spectrogram.create({container: "#spectrogram", height: 96, labels: false, fftSamples: 512, scale: "mel", frequencyMax: MAX_HZ})]});
  wave.on("ready", (length) => { $("time").textContent = `${length.toFixed(2)} s`; document.body.dataset.heard = String(mine); if (play) wave.play(); });
  wave.on("play", () => { $("play").textContent = "❚❚ Pause"; document.body.dataset.playing = String(mine); });
  wave.on("pause", () => { $("play").textContent = "▶ Play"; });
  wave.on("timeupdate", (time) => { $("time").textContent = `${time.toFixed(2)} of ${wave.getDuration().toFixed(2)} s`; });
  wave.on("error", async () => {
    const response = await fetch(`audio/${mine}`), answer = await response.json().catch(() => ({}));
    if (chosen === mine) container.replaceWith(element("p", {class: "note"}, answer.error || "the audio cannot be played"));
  });
}
function labelPanel(row) {
  const label = row.label || {verdict: "", text: null, note: ""};
  const text = element("textarea", {id: "corrected", rows: 2, "aria-label": "Corrected text", placeholder: "corrected text"}), note = element("input", {id: "note", "aria-label": "Note", placeholder: "note", style: "width:100%;margin-top:8px"});
  text.value = label.text ?? row.values.text ?? ""; note.value = label.note || "";
  const save = async (verdict) => {
    const changed = text.value !== (row.values.text ?? "") ? text.value : null;
    const answer = await ask("api/label", {row: row.row, verdict, text: changed, note: note.value});
    row.label = {verdict, text: changed, note: note.value};
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.verdict === verdict));
    for (const page of pages.values()) for (const each of page || []) if (each.row === row.row) each.verdict = verdict || "note";
    showLabels(answer.labels); drawRows(); refreshThreshold();
    document.body.dataset.labelled = `${row.row} ${verdict}`;
  };
  const buttons = ["accept", "reject"].map((verdict) => element("button", {class: verdict, "data-verdict": verdict, "aria-pressed": String(label.verdict === verdict), onclick: () => save(row.label?.verdict === verdict ? "" : verdict)}, verdict === "accept" ? "✓ Accept" : "✗ Reject"));
  const keep = element("button", {id: "save", onclick: () => save(row.label?.verdict || "")}, "Save text and note");
  return element("div", {class: "panel"}, element("h2", {}, "Label"), text, note, element("div", {class: "judge"}, ...buttons, keep));
}
function showLabels(labels) {
  const all = Object.values(labels).reduce((sum, each) => sum + each, 0);
  $("labels").replaceChildren(element("div", {class: "row buttons", style: "margin:0"}, ...[["", `all ${count(all)}`], ["accept", `✓ ${count(labels.accept)}`], ["reject", `✗ ${count(labels.reject)}`]].map(([verdict, title]) =>
    element("button", {"aria-pressed": String(view.label === (verdict || "any")), onclick: () => { const wanted = verdict || "any"; view.label = view.label === wanted ? "" : wanted; showLabels(labels); reload(); refreshFacets(); }}, title))));
}

// Facets.

const refreshFacets = later(60, async () => {
  const names = ["#outcome", "#stage", "#code", ...(state.facets || [])];
  const mine = version, answer = await ask("api/facets", {...selection(), columns: names});
  if (mine !== version) return;
  $("facets").replaceChildren(...names.filter((name) => answer[name] && answer[name].values.some((each) => each.value !== null && each.value !== "")).map((name) => {
    const picked = view.facets[name] || [];
    return element("div", {class: "facet"}, element("h3", {}, name.replace("#", "")), element("div", {}, ...answer[name].values.filter((each) => each.value !== "" || !name.startsWith("#")).map((each) =>
      element("label", {}, element("input", {type: "checkbox", checked: picked.includes(each.value), onchange: () => toggleFacet(name, each.value)}), element("span", {title: shown(each.value)}, each.value === null ? "(none)" : each.value === "" ? "(empty)" : each.value), element("b", {}, count(each.records))))),
      answer[name].more ? element("p", {class: "note"}, "and others: search for them") : null);
  }));
});
function toggleFacet(name, value) {
  const picked = new Set(view.facets[name] || []);
  if (!picked.delete(value)) picked.add(value);
  if (picked.size) view.facets[name] = [...picked]; else delete view.facets[name];
  changed();
  for (const button of $("outcomes").children) button.setAttribute("aria-pressed", String((view.facets["#outcome"] || []).includes(button.className)));
}
function changed() { reload(); refreshFacets(); drawScatter(); }

// Thresholds: the expression is the state; sliders are the clauses that compare one column with numbers.

const NUMBER = "-?(?:\\d+\\.?\\d*|\\.\\d+)(?:[eE][-+]?\\d+)?";
const CLAUSES = [
  [new RegExp(`^([A-Za-z_]\\w*)\\s*(<=|<|>=|>)\\s*(${NUMBER})$`), (m) => ({column: m[1], bounds: [[m[2], Number(m[3])]]})],
  [new RegExp(`^(${NUMBER})\\s*(<=|<)\\s*([A-Za-z_]\\w*)\\s*(<=|<)\\s*(${NUMBER})$`), (m) => ({column: m[3], bounds: [[m[2] === "<" ? ">" : ">=", Number(m[1])], [m[4], Number(m[5])]]})],
];
function clausesOf(text) {
  // An expression with quotes or parentheses may have an `and` inside of them: then there are no sliders for it.
  if (/["'()]/.test(text)) return text.trim() ? [{text: text.trim()}] : [];
  const parts = text.split(/\s+and\s+/).map((each) => each.trim()).filter(Boolean);
  if (/\bor\b|\bnot\b/.test(text)) return text.trim() ? [{text: `(${text.trim()})`}] : [];
  return parts.map((part) => {
    for (const [form, read] of CLAUSES) { const found = part.match(form); if (found && numeric().includes((read(found)).column)) return read(found); }
    return {text: part};
  });
}
function setExpression(text) {
  $("expression").value = text; view.expression = text;
  const clauses = clausesOf(text);
  otherClauses = clauses.filter((each) => each.text).map((each) => each.text);
  if (otherClauses.length === 1 && !clauses.some((each) => each.column)) otherClauses = [text.trim()];
  const wanted = new Map();
  for (const each of clauses.filter((one) => one.column)) {
    const slider = wanted.get(each.column) || {low: null, high: null, lowSign: ">=", highSign: "<="};
    for (const [sign, value] of each.bounds) if (sign.startsWith("<")) { slider.high = value; slider.highSign = sign; } else { slider.low = value; slider.lowSign = sign; }
    wanted.set(each.column, slider);
  }
  for (const [name, slider] of sliders) if (!wanted.has(name) && slider.pinned) wanted.set(name, {...slider, low: null, high: null});
  sliders = wanted;
  $("sliders").replaceChildren(...[...sliders.keys()].map((name) => element("div", {class: "slider", "data-column": name})));
  for (const name of sliders.keys()) drawSlider(name);
  refreshThreshold();
}
function expressionOfSliders() {
  const parts = otherClauses.length && sliders.size && otherClauses.length === 1 && /\bor\b/.test(otherClauses[0]) && !otherClauses[0].startsWith("(") ? [`(${otherClauses[0]})`] : [...otherClauses];
  for (const [name, each] of sliders) {
    if (each.low !== null && each.high !== null && each.lowSign === ">=" && each.highSign === "<=") parts.push(`${figure(each.low)} <= ${name} <= ${figure(each.high)}`);
    else { if (each.low !== null) parts.push(`${name} ${each.lowSign} ${figure(each.low)}`); if (each.high !== null) parts.push(`${name} ${each.highSign} ${figure(each.high)}`); }
  }
  return parts.join(" and ");
}
async function drawSlider(name) {
  const box = document.querySelector(`.slider[data-column="${CSS.escape(name)}"]`), slider = sliders.get(name);
  if (!box || !slider) return;
  const found = await ask("api/histogram", {column: name});
  if (!found.records || sliders.get(name) !== slider) return;
  const low = found.low, high = found.low + found.width * found.bins.length, step = Math.pow(10, Math.floor(Math.log10((high - low) / 400 || 1)));
  const snap = (at) => Number((Math.round((low + at * (high - low) / 1000) / step) * step).toPrecision(10));
  const place = (value) => Math.round((value - low) / (high - low || 1) * 1000);
  const canvas = element("canvas", {height: 54}), range = element("span");
  const inputs = ["low", "high"].map((end) => element("input", {type: "range", min: 0, max: 1000, "data-end": end, "aria-label": `${name}, ${end === "low" ? "least" : "most"}`}));
  const put = () => {
    inputs[0].value = slider.low === null ? 0 : place(slider.low); inputs[1].value = slider.high === null ? 1000 : place(slider.high);
    range.textContent = `${slider.low === null ? "…" : figure(slider.low)} to ${slider.high === null ? "…" : figure(slider.high)}`;
    drawBins(canvas, found, slider);
  };
  inputs.forEach((input, at) => {
    input.addEventListener("input", () => {
      const value = Number(input.value);
      if (at === 0) slider.low = value <= 0 ? null : snap(value); else slider.high = value >= 1000 ? null : snap(value);
      if (slider.low !== null && slider.high !== null && slider.low > slider.high) { if (at === 0) slider.low = slider.high; else slider.high = slider.low; }
      put();
      view.expression = $("expression").value = expressionOfSliders();
      refreshThreshold();
    });
    input.addEventListener("change", () => { const value = at === 0 ? slider.low : slider.high; if (value !== null) drawBorderline(name, value); if (view.side) changed(); });
  });
  box.replaceChildren(element("header", {}, element("b", {}, name), range, element("button", {class: "drop", "aria-label": `Remove the slider of ${name}`, onclick: () => { sliders.delete(name); setExpression(expressionOfSliders()); }}, "✕")), canvas, element("div", {class: "track"}, ...inputs));
  put();
}
function scaled(canvas) {
  const ratio = devicePixelRatio || 1, width = canvas.clientWidth || 280, height = canvas.clientHeight || 54;
  canvas.width = width * ratio; canvas.height = height * ratio;
  const context = canvas.getContext("2d"); context.scale(ratio, ratio);
  return [context, width, height];
}
function drawBins(canvas, found, slider) {
  const [context, width, height] = scaled(canvas), sums = found.bins.map((bin) => OUTCOMES.reduce((sum, name) => sum + (bin[name] || 0), 0)), most = Math.sqrt(Math.max(...sums, 1)), each = width / found.bins.length;
  found.bins.forEach((bin, at) => {
    const from = found.low + at * found.width, inside = (slider.low === null || from + found.width > slider.low) && (slider.high === null || from < slider.high);
    // The height is the root of the number, so that small bins can be seen next to large ones; its parts are shares.
    const tall = Math.sqrt(sums[at]) / most * (height - 2);
    let y = height;
    context.globalAlpha = inside ? 1 : .25;
    for (const name of OUTCOMES) { const part = sums[at] ? (bin[name] || 0) / sums[at] * tall : 0; context.fillStyle = colour(name); context.fillRect(at * each, y - part, Math.max(1, each - 1), part); y -= part; }
  });
}
const refreshThreshold = later(25, async () => {
  const text = $("expression").value.trim(), problem = $("expression-error"), verdict = $("verdict");
  problem.hidden = true;
  if (!text) { verdict.replaceChildren(element("span", {class: "more"}, "Write an expression, or add a slider.")); $("fork").hidden = true; return; }
  try {
    const found = await ask("api/threshold", {expression: text, filter: $("filter").value});
    if (text !== $("expression").value.trim()) return;
    const share = found.reached ? ` of ${count(found.reached)} (${(100 * found.kept / found.reached).toFixed(1)} %)` : "";
    verdict.replaceChildren(element("b", {}, count(found.kept)), ` records${share}`, element("div", {class: "more"}, [hours(found.kept_hours) && `${hours(found.kept_hours)} of ${hours(found.reached_hours)}`, state.filters.length ? `${count(found.new)} more and ${count(found.lost)} fewer than the run kept` : ""].filter(Boolean).join(" · ")),
      found.agreement ? element("div", {class: "more"}, `labels: ${percent(found.agreement.precision)} precision, ${percent(found.agreement.recall)} recall, of ${count(found.agreement.accepted + found.agreement.rejected)}`) : "");
    document.body.dataset.threshold = `${found.kept} ${text}`;
    problem.hidden = !found.unknown; problem.textContent = found.unknown;
    $("fork").hidden = !found.command || Boolean(found.unknown); $("command").textContent = found.command || "";
  } catch (error) { problem.hidden = false; problem.textContent = error.message; verdict.replaceChildren(); $("fork").hidden = true; }
});
const percent = (value) => value === null ? "no" : `${(100 * value).toFixed(1)} %`;
async function drawBorderline(column, value) {
  const found = await ask("api/borderline", {column, value});
  const near = (row) => element("button", {class: "near", "data-row": row.row, onclick: () => choose(row.row, -1, true)}, "▶", element("b", {}, shown(row.values[column])), element("span", {}, shown(row.values.text ?? row.id)));
  $("borderline").replaceChildren(...[["below", `${column} ≤ ${figure(value)}`], ["above", `${column} > ${figure(value)}`]].flatMap(([side, title]) => found[side].length ? [element("h3", {}, title), ...found[side].map(near)] : []));
}
$("expression").addEventListener("input", later(200, () => { setExpression($("expression").value); if (view.side) changed(); }));
$("filter").addEventListener("change", () => setExpression(state.filters.find((each) => each.name === $("filter").value).expression));
$("add-slider").addEventListener("change", () => {
  const name = $("add-slider").value; $("add-slider").value = "";
  if (!name || sliders.has(name)) return;
  sliders.set(name, {low: null, high: null, lowSign: ">=", highSign: "<=", pinned: true});
  $("sliders").append(element("div", {class: "slider", "data-column": name}));
  drawSlider(name);
});
for (const button of $("sides").children) button.addEventListener("click", () => {
  view.side = button.dataset.side;
  for (const each of $("sides").children) each.setAttribute("aria-pressed", String(each === button));
  changed();
});
$("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText($("command").textContent);
  $("copy").textContent = "Copied"; setTimeout(() => { $("copy").textContent = "Copy command"; }, 1500);
});
$("run").addEventListener("click", async () => {
  const output = $("fork-output");
  output.hidden = false;
  try {
    let found = await ask("api/refilter", {expression: $("expression").value, filter: $("filter").value});
    $("run").disabled = true;
    while (found.running) { output.textContent = found.output || "started …"; await new Promise((done) => setTimeout(done, 400)); found = await ask("api/refilter/state", {}); }
    output.textContent = `${found.output}\n${found.status === 0 ? `Ready: curate explore ${found.run_dir}` : `ended with status ${found.status}`}`;
    document.body.dataset.forked = String(found.status);
  } catch (error) { output.textContent = error.message; }
  $("run").disabled = false; refreshThreshold();
});

// Two measures, and a lasso around points.

let plot = null;
const drawScatter = later(120, async () => {
  const x = $("x").value, y = $("y").value;
  if (!x || !y) return;
  const found = await ask("api/scatter", {...selection(), x, y});
  const xs = found.points.map((each) => each[1]), ys = found.points.map((each) => each[2]);
  const span = (values) => { const sorted = [...values].sort((a, b) => a - b), low = sorted[Math.floor(sorted.length * .001)] ?? 0, high = sorted[Math.ceil(sorted.length * .999) - 1] ?? 1; const pad = (high - low || 1) * .04; return [low - pad, high + pad]; };
  plot = {points: found.points, x: span(xs), y: span(ys), names: [x, y], lasso: []};
  $("scatter-note").textContent = found.total > found.points.length ? `${count(found.points.length)} of ${count(found.total)} points; draw around some to choose all in there` : `${count(found.total)} points; draw around some to choose them`;
  paintScatter();
});
function paintScatter() {
  const [context, width, height] = scaled($("scatter"));
  const left = 38, bottom = height - 20, px = (value) => left + (value - plot.x[0]) / (plot.x[1] - plot.x[0]) * (width - left - 6), py = (value) => bottom - (value - plot.y[0]) / (plot.y[1] - plot.y[0]) * (bottom - 8);
  Object.assign(plot, {px, py, ix: (at) => plot.x[0] + (at - left) / (width - left - 6) * (plot.x[1] - plot.x[0]), iy: (at) => plot.y[0] + (bottom - at) / (bottom - 8) * (plot.y[1] - plot.y[0])});
  context.clearRect(0, 0, width, height);
  context.strokeStyle = colour("line"); context.strokeRect(left, 8, width - left - 6, bottom - 8);
  context.fillStyle = colour("soft"); context.font = "11px system-ui, sans-serif";
  context.fillText(figure(Number(plot.y[1].toPrecision(2))), 2, 16); context.fillText(figure(Number(plot.y[0].toPrecision(2))), 2, bottom);
  context.fillText(`${plot.names[1]} ↑`, left + 5, 20); context.textAlign = "right"; context.fillText(`${plot.names[0]} →`, width - 8, height - 6); context.textAlign = "left"; context.fillText(figure(Number(plot.x[0].toPrecision(2))), left, height - 6);
  context.globalAlpha = plot.points.length > 1500 ? .35 : .7;
  for (const [, x, y, outcome] of plot.points) { const at = px(x), up = py(y); if (at < left || up < 8 || up > bottom) continue; context.fillStyle = colour(outcome); context.fillRect(at - 1.5, up - 1.5, 3, 3); }
  context.globalAlpha = 1;
  const corners = view.polygon ? view.polygon.points.map(([x, y]) => [px(x), py(y)]) : plot.lasso;
  if (corners.length > 1) { context.beginPath(); corners.forEach(([x, y], at) => at ? context.lineTo(x, y) : context.moveTo(x, y)); context.closePath(); context.fillStyle = colour("accent"); context.globalAlpha = .14; context.fill(); context.globalAlpha = 1; context.strokeStyle = colour("accent"); context.lineWidth = 1.5; context.stroke(); }
}
const canvas = $("scatter");
canvas.addEventListener("pointerdown", (event) => { if (!plot) return; view.polygon = null; plot.lasso = [[event.offsetX, event.offsetY]]; canvas.setPointerCapture(event.pointerId); });
canvas.addEventListener("pointermove", (event) => { if (plot?.lasso.length && event.buttons) { plot.lasso.push([event.offsetX, event.offsetY]); paintScatter(); } });
canvas.addEventListener("pointerup", () => {
  if (!plot?.lasso.length) return;
  const corners = plot.lasso, step = Math.max(1, Math.ceil(corners.length / 48)), kept = corners.filter((_, at) => at % step === 0);
  plot.lasso = [];
  view.polygon = kept.length >= 3 ? {x: plot.names[0], y: plot.names[1], points: kept.map(([x, y]) => [plot.ix(x), plot.iy(y)])} : null;
  $("clear-lasso").hidden = !view.polygon;
  paintScatter(); reload(); refreshFacets();
});
$("clear-lasso").addEventListener("click", () => { view.polygon = null; $("clear-lasso").hidden = true; paintScatter(); reload(); refreshFacets(); });
for (const id of ["x", "y"]) $(id).addEventListener("change", () => { $("y").dataset.chosen = "yes"; view.polygon = null; drawScatter(); });

// Search, keys, views, colours.

$("search").addEventListener("input", later(120, () => { view.search = $("search").value; changed(); }));
function setView(name) { document.body.dataset.view = name; for (const button of document.querySelectorAll(".views button")) button.setAttribute("aria-pressed", String(button.dataset.view === name)); if (name === "table") drawRows(); if (name === "side") { for (const each of sliders.keys()) drawSlider(each); drawScatter(); } }
for (const button of document.querySelectorAll(".views button")) button.addEventListener("click", () => setView(button.dataset.view));
setView("table");
$("theme").addEventListener("click", () => {
  const root = document.documentElement, dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  for (const name of sliders.keys()) drawSlider(name);
  if (plot) paintScatter();
  if (wave) wave.setOptions({waveColor: colour("faint"), progressColor: colour("accent"), cursorColor: colour("ink")});
});
async function step(by) {
  const at = Math.min(total - 1, Math.max(0, chosenAt + by));
  if (total === 0) return;
  await fetchPage(Math.floor(at / PAGE));
  const row = rowAt(at), grid = $("grid");
  if (!row) return;
  if (total * ROW_PX <= MAX_PX) { const top = at * ROW_PX; if (top < grid.scrollTop) grid.scrollTop = top; else if (top + 2 * ROW_PX > grid.scrollTop + grid.clientHeight - ROW_PX) grid.scrollTop = top - grid.clientHeight + 3 * ROW_PX; }
  await choose(row.row, at, true);
}
document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) && event.target.type !== "range" && event.target.type !== "checkbox";
  if (event.key === "Escape") { event.target.blur(); return; }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const keys = {" ": () => wave?.playPause(), j: () => step(1), ArrowDown: () => step(1), k: () => step(-1), ArrowUp: () => step(-1), a: () => document.querySelector(".judge .accept")?.click(), r: () => document.querySelector(".judge .reject")?.click(), "/": () => $("search").focus(), e: () => $("corrected")?.focus()};
  if (keys[event.key] && !(event.target.type === "range" && event.key.startsWith("Arrow"))) { event.preventDefault(); keys[event.key](); }
});
refreshState().then(() => reload()).catch(showError);
})();
