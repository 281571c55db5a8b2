/* The page's own script. The page is whole without it: it adds the explorer, copying of tables, and links that open what they lead to.
   It computes no statistics: numbers, intervals, texts and tied groups come with the page, made by fercompress. */
"use strict";

const DATA = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/* ---- Tables to copy ---- */

/* A cell as {text, finer, marks}: the value, what stands smaller below it, the numbers of its notes. */
function cellParts(cell) {
  const value = (cell.querySelector(".value") || cell).cloneNode(true);
  const marks = [...value.querySelectorAll("sup a")].map((link) => link.textContent.trim());
  value.querySelectorAll("sup").forEach((sup) => sup.remove());
  const finer = cell.querySelector(".sub");
  return { text: value.textContent.trim(), finer: finer ? finer.textContent.trim() : "", marks };
}

function tableParts(figure) {
  const table = figure.querySelector("table");
  return {
    caption: figure.querySelector("figcaption").textContent.trim(),
    numeric: table.classList.contains("numeric"),
    heads: [...table.tHead.rows[0].cells].map(cellParts),
    rows: [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => [...row.cells].map(cellParts)),
    notes: [...figure.querySelectorAll(".notes li")].map((note) => note.textContent.trim()),
  };
}

const together = ({ text, finer, marks }) => text + (finer ? ` · ${finer}` : "") + (marks.length ? ` (${marks.join(", ")})` : "");

function asMarkdown({ heads, rows, notes, numeric }) {
  const escaped = (text) => text.replace(/[&<>]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[sign]).replace(/([|\\])/g, "\\$1").replace(/\n/g, " ");
  const line = (cells) => `| ${cells.map((cell) => escaped(together(cell))).join(" | ")} |`;
  const rule = `|${heads.map((_, column) => (column && numeric ? "---:" : ":---")).join("|")}|`;
  const told = notes.map((note, index) => `${index + 1}. ${escaped(note)}`);
  return [line(heads), rule, ...rows.map(line), ...(told.length ? ["", ...told] : [])].join("\n") + "\n";
}

const LATEX = {
  "\\": "\\textbackslash{}", "&": "\\&", "%": "\\%", $: "\\$", "#": "\\#", _: "\\_", "{": "\\{", "}": "\\}", "~": "\\textasciitilde{}",
  "^": "\\textasciicircum{}", "<": "\\textless{}", ">": "\\textgreater{}", "×": "$\\times$", "−": "$-$", "→": "$\\rightarrow$", "µ": "$\\mu$",
  "±": "$\\pm$", "≥": "$\\geq$", "≤": "$\\leq$", "—": "---", "·": "$\\cdot$",
};

function asLatex({ caption, heads, rows, notes, numeric }) {
  const escaped = (text) => text.replace(/[\\&%$#_{}~^<>×−→µ±≥≤—·]/g, (sign) => LATEX[sign]);
  const cell = ({ text, finer, marks }) =>
    escaped(text) + (marks.length ? `\\textsuperscript{${marks.join(",")}}` : "") + (finer ? ` {\\footnotesize ${escaped(finer)}}` : "");
  const line = (cells) => `${cells.map(cell).join(" & ")} \\\\`;
  return [
    "% needs \\usepackage{booktabs}", "\\begin{table}", "\\centering", `\\caption{${escaped(caption)}}`,
    `\\begin{tabular}{l${(numeric ? "r" : "l").repeat(heads.length - 1)}}`, "\\toprule", line(heads), "\\midrule", ...rows.map(line), "\\bottomrule",
    "\\end{tabular}", ...notes.map((note, index) => `\\par{\\footnotesize ${index + 1}: ${escaped(note)}}`), "\\end{table}",
  ].join("\n") + "\n";
}

/* A column of finer print gets a column of its own, so that the numbers stay numbers. */
function asCsv({ heads, rows }) {
  const finer = heads.map((_, column) => rows.some((row) => row[column].finer));
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
  const line = (cells, below) => cells.flatMap((cell, column) => (finer[column] ? [cell.text, below(cell)] : [cell.text])).map(quoted).join(",");
  return [line(heads, (head) => `${head.text} (finer)`), ...rows.map((row) => line(row, (cell) => cell.finer))].join("\n") + "\n";
}

const FORMATS = { Markdown: asMarkdown, LaTeX: asLatex, CSV: asCsv };

/* The clipboard may be refused to a page that was opened from a file: then the text is shown, selected, to be copied by hand. */
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

async function copy(figure, format, told) {
  figure.querySelectorAll("textarea.by-hand").forEach((old) => old.remove());
  const text = FORMATS[format](tableParts(figure));
  if (await copied(text)) {
    told.textContent = `Copied as ${format}.`;
    return;
  }
  const area = element("textarea", { class: "by-hand", rows: "8", readonly: "", "aria-label": `The table as ${format}` });
  area.value = text;
  figure.append(area);
  area.select();
  told.textContent = "The browser does not let this page copy: press Ctrl+C.";
}

function addCopyButtons() {
  for (const figure of document.querySelectorAll("figure.table")) {
    const told = element("span", { class: "told", role: "status" });
    const caption = figure.querySelector("figcaption").textContent.trim();
    const buttons = Object.keys(FORMATS).map((format) => {
      const button = element("button", { type: "button", "aria-label": `Copy as ${format}: ${caption}` }, format);
      button.addEventListener("click", () => copy(figure, format, told));
      return button;
    });
    figure.append(element("div", { class: "copy" }, element("span", {}, "Copy as"), ...buttons, told));
  }
}

/* ---- Links that lead into something folded ---- */

function openTarget() {
  let name = "";
  try {
    name = decodeURIComponent(location.hash.slice(1));
  } catch {
    return;
  }
  const found = name && $(name);
  if (!found) return;
  for (let at = found; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  found.scrollIntoView();
}

/* ---- The explorer ---- */

const ESCAPES = { "&": "&amp;", "<": "&lt;", ">": "&gt;" };
const plotText = (text) => text.replace(/[&<>]/g, (sign) => ESCAPES[sign]); // plotly's texts are a little HTML
const INK = "#1d2733", QUIET = "#5b6673", GRID = "#e3e7ec";

/* plotly's script, inflated; runs under the page's policy, which names its sha256. */
async function loadPlotly() {
  const packed = atob($("plotly").textContent.split(",")[1]);
  const stream = new Blob([Uint8Array.from(packed, (sign) => sign.charCodeAt(0))]).stream().pipeThrough(new DecompressionStream("deflate"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
  $("plotly").remove();
  return window.Plotly;
}

const axisOf = (key) => DATA.explorer.axes.find((axis) => axis.key === key);
const isLog = (axis) => axis.unit !== "%";

function chosen() {
  const ways = new Set([...document.querySelectorAll("#explorer input[name=way]:checked")].map((box) => box.value));
  const [x, y, target] = ["explorer-x", "explorer-y", "explorer-target"].map((id) => $(id).value);
  const drawn = (point) => [x, y].every((key) => point.figures[key] && (!isLog(axisOf(key)) || point.figures[key][0] > 0));
  const wanted = DATA.explorer.points.map((point, index) => ({ ...point, index })).filter((point) => point.target === target && ways.has(point.way));
  return { x, y, target, points: wanted.filter(drawn), without: wanted.filter((point) => !drawn(point)) };
}

/* Groups of at least two that are shown; made by fercompress for both axes, or for the vertical one alone. */
function groupsOf({ x, y, target, points }) {
  const kind = $("explorer-ties").value;
  const all = DATA.explorer.groups[target] || {};
  const groups = kind === "both" ? all[`${x}|${y}`] || all[`${y}|${x}`] : kind === "vertical" ? all[y] : [];
  const shown = new Map(points.map((point) => [point.index, point]));
  return (groups || []).map((group) => group.map((index) => shown.get(index)).filter(Boolean)).filter((group) => group.length > 1);
}

/* Points that no shown point beats on both axes, by their figures alone: the line says nothing of how sure that is. */
function frontOf({ x, y, points }) {
  const better = (key, a, b) => (axisOf(key).higher ? a.figures[key][0] - b.figures[key][0] : b.figures[key][0] - a.figures[key][0]);
  const beats = (a, b) => better(x, a, b) >= 0 && better(y, a, b) >= 0 && (better(x, a, b) > 0 || better(y, a, b) > 0);
  return points.filter((point) => !points.some((other) => beats(other, point))).sort((a, b) => a.figures[x][0] - b.figures[x][0]);
}

/* Names beside their points where they cover neither a point nor another name; the others are found by pointing, or in the list below. */
const PLACES = [["top", "center"], ["bottom", "center"], ["middle", "right"], ["middle", "left"], ["top", "right"], ["bottom", "left"], ["bottom", "right"], ["top", "left"]];

function namePlaces({ x, y, points }, { width, height }) {
  const scaled = (key, length) => {
    const values = points.map((point) => (isLog(axisOf(key)) ? Math.log10(point.figures[key][0]) : point.figures[key][0]));
    const low = Math.min(...values), span = Math.max(...values) - low || 1;
    return values.map((value) => ((value - low) / span) * length);
  };
  const across = scaled(x, 0.88 * width), up = scaled(y, 0.7 * height); // about what margins and intervals leave
  const taken = points.map((_, index) => [across[index] - 6, up[index] - 6, across[index] + 6, up[index] + 6]);
  return points.map((point, index) => {
    const length = 6.4 * point.variant.length;
    for (const [upright, sideways] of PLACES) {
      const left = across[index] + { left: -length - 8, center: -length / 2, right: 8 }[sideways];
      const bottom = up[index] + { top: 8, middle: -6, bottom: -20 }[upright];
      const box = [left, bottom, left + length, bottom + 12];
      if (left < -30 || left + length > 0.88 * width + 30) continue;
      if (taken.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3])) continue;
      taken.push(box);
      return `${upright} ${sideways}`;
    }
    return "";
  });
}

function errorBars(points, key) {
  const figures = points.map((point) => point.figures[key]);
  const away = (bound) => figures.map((figure) => (figure[bound] === null ? 0 : Math.abs(figure[bound] - figure[0])));
  return { type: "data", symmetric: false, array: away(2), arrayminus: away(1), thickness: 1.2, width: 3, visible: $("explorer-intervals").checked };
}

function traces(now, groups) {
  const { x, y, points } = now;
  const at = (list) => ({ x: list.map((point) => point.figures[x][0]), y: list.map((point) => point.figures[y][0]) });
  const made = groups.map((group) => {
    const ordered = [...group].sort((a, b) => a.figures[x][0] - b.figures[x][0]);
    return {
      ...at(ordered), mode: "lines+markers", hoverinfo: "skip", showlegend: false, opacity: 0.22, line: { color: QUIET, width: 22 },
      marker: { color: QUIET, size: 22, line: { width: 0 } },
    };
  });
  if ($("explorer-front").checked) {
    made.push({ ...at(frontOf(now)), mode: "lines", name: "front", hoverinfo: "skip", line: { color: QUIET, width: 1, dash: "dot" } });
  }
  const places = new Map(namePlaces(now, $("explorer-plot").getBoundingClientRect()).map((place, index) => [points[index].index, place]));
  for (const [family, { colour, mark }] of Object.entries(DATA.explorer.families)) {
    const own = points.filter((point) => point.family === family);
    if (!own.length) continue;
    made.push({
      ...at(own), mode: "markers+text", name: family, customdata: own.map((point) => point.index), cliponaxis: false,
      text: own.map((point) => (places.get(point.index) ? plotText(point.variant) : "")), textfont: { size: 11, color: colour },
      textposition: own.map((point) => places.get(point.index) || "top center"),
      hovertext: own.map((point) => `<b>${plotText(point.variant)}</b><br>${point.lines.map(plotText).join("<br>")}`),
      hovertemplate: "%{hovertext}<extra></extra>",
      marker: { size: 10, color: colour, symbol: own.map((point) => mark + (point.rounded ? "" : "-open")), line: { width: 2, color: colour } },
      error_x: { ...errorBars(own, x), color: colour }, error_y: { ...errorBars(own, y), color: colour },
    });
  }
  return made;
}

/* Round numbers with their unit, as many as fit; plotly's own ticks of a log axis lose the unit. range: of the axis, as logarithms */
function logTicks([low, high], unit) {
  const span = Math.abs(high - low);
  const digits = span > 3 ? [1] : span > 0.8 ? [1, 2, 5] : span > 0.3 ? [1, 1.5, 2, 3, 4, 5, 7] : [1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 2, 2.2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9];
  const values = [];
  for (let power = Math.floor(Math.min(low, high)); power <= Math.max(low, high); power++) values.push(...digits.map((digit) => Number(`${digit}e${power}`)));
  return { tickmode: "array", tickvals: values, ticktext: values.map((value) => withUnit(value, unit)) };
}

function withUnit(value, unit) {
  const [factor, prefix] = [[1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"]].find(([each]) => value >= each * 0.9999) || [1, ""];
  return `${Number((value / factor).toPrecision(3))} ${prefix}${unit}`;
}

/* The ticks follow a zoom. */
function setTicks(plot, now) {
  const ticks = {};
  for (const side of ["x", "y"]) {
    const axis = axisOf(now[side]);
    if (!isLog(axis)) continue;
    for (const [name, value] of Object.entries(logTicks(plot.layout[`${side}axis`].range, axis.unit))) ticks[`${side}axis.${name}`] = value;
  }
  if (Object.keys(ticks).length) window.Plotly.relayout(plot, ticks);
}

function axisLayout(key, timing) {
  const axis = axisOf(key);
  const title = `${axis.timed ? timing : ""}${axis.title}${axis.unit === "%" ? ", %" : ""} (${axis.higher ? "higher" : "lower"} is better)`;
  return {
    title: { text: plotText(title), standoff: 8, font: { size: 13 } }, type: isLog(axis) ? "log" : "linear", automargin: true, gridcolor: GRID, zeroline: false,
    color: QUIET,
  };
}

function layout(now) {
  const { timing } = DATA.explorer.targets.find((target) => target.name === now.target);
  return {
    xaxis: axisLayout(now.x, timing), yaxis: axisLayout(now.y, timing), margin: { l: 16, r: 16, t: 8, b: 16 }, paper_bgcolor: "#fff", plot_bgcolor: "#fff",
    font: { family: "inherit", size: 13, color: INK }, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, hovermode: "closest",
    hoverlabel: { align: "left", bgcolor: "#fff", bordercolor: QUIET, font: { color: INK, size: 12 } }, dragmode: "zoom",
  };
}

function tell(point, groups) {
  const tied = groups.filter((group) => group.some((each) => each.index === point.index)).flat().filter((each) => each.index !== point.index);
  const list = element("ul", {}, ...point.lines.map((line) => element("li", {}, line)));
  if (tied.length) list.prepend(element("li", {}, `tied with: ${tied.map((each) => each.variant).join(", ")}`));
  const name = point.section ? element("a", { href: `#${point.section}` }, point.variant) : point.variant;
  $("explorer-told").replaceChildren(element("strong", {}, name), list);
}

/* One button per point: what a mouse finds by hovering, a keyboard and a finger find here. */
function listPoints(now, groups, plot) {
  const pointed = (point) => {
    const curve = plot.data.findIndex((trace) => trace.customdata && trace.customdata.includes(point.index));
    window.Plotly.Fx.hover(plot, [{ curveNumber: curve, pointNumber: plot.data[curve].customdata.indexOf(point.index) }]);
    tell(point, groups);
  };
  const ordered = [...now.points].sort((a, b) => a.figures[now.x][0] - b.figures[now.x][0]);
  const items = ordered.map((point) => {
    const button = element("button", { type: "button", class: point.family.replace(" ", "-") }, point.variant);
    button.addEventListener("click", () => pointed(point));
    button.addEventListener("focus", () => pointed(point));
    return element("li", {}, button);
  });
  $("explorer-points").replaceChildren(...items);
}

async function draw() {
  const plot = $("explorer-plot"), now = chosen(), groups = groupsOf(now);
  await window.Plotly.react(plot, traces(now, groups), layout(now), {
    responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    toImageButtonOptions: { format: "svg", filename: `fercompress-${now.y}-${now.x}` },
  });
  setTicks(plot, now);
  const none = now.without.length ? ` Not measured on both axes: ${now.without.map((point) => point.variant).join(", ")}.` : "";
  const tied = groups.length ? ` Tied: ${groups.map((group) => group.map((point) => point.variant).join(" = ")).join("; ")}.` : "";
  $("explorer-shown").textContent = `${now.points.length} of ${now.points.length + now.without.length} variants shown.${tied}${none}`;
  $("explorer-told").replaceChildren();
  listPoints(now, groups, plot);
}

async function startExplorer() {
  if (!DATA.explorer) return;
  const section = $("explorer");
  const axes = Object.fromEntries(["x", "y"].map((side) => [side, $(`explorer-${side}`)]));
  const controls = [...section.querySelectorAll("select, input")];
  const initial = controls.map((control) => (control.type === "checkbox" ? control.checked : control.value));
  let last = { x: axes.x.value, y: axes.y.value };
  section.hidden = false;
  try {
    await loadPlotly();
  } catch (error) {
    $("explorer-shown").textContent = `This browser cannot draw it (${error.message}); the pictures below show the same figures.`;
    return;
  }
  await draw();
  const plot = $("explorer-plot");
  plot.on("plotly_hover", ({ points: [{ customdata }] }) => tell(DATA.explorer.points.map((point, index) => ({ ...point, index }))[customdata], groupsOf(chosen())));
  plot.on("plotly_relayout", (changed) => Object.keys(changed).some((key) => /^[xy]axis\.(range|autorange)/.test(key)) && setTicks(plot, chosen()));
  plot.on("plotly_click", ({ points: [{ customdata }] }) => {
    const { section: place } = DATA.explorer.points[customdata];
    if (place) location.hash = place;
  });
  for (const control of controls) {
    control.addEventListener("change", () => {
      if (axes.x.value === axes.y.value) (control === axes.x ? axes.y : axes.x).value = control === axes.x ? last.x : last.y; // two axes never show one thing
      last = { x: axes.x.value, y: axes.y.value };
      draw();
    });
  }
  $("explorer-swap").addEventListener("click", () => {
    [axes.x.value, axes.y.value] = [axes.y.value, axes.x.value];
    last = { x: axes.x.value, y: axes.y.value };
    draw();
  });
  $("explorer-reset").addEventListener("click", () => {
    controls.forEach((control, index) => (control.type === "checkbox" ? (control.checked = initial[index]) : (control.value = initial[index])));
    last = { x: axes.x.value, y: axes.y.value };
    draw();
  });
}

addCopyButtons();
addEventListener("hashchange", openTarget);
openTarget();
startExplorer().then(() => document.documentElement.classList.add("ready"));
