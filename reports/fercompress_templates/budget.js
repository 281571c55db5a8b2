/* Budgets on the page: the rule of `fercompress pick` (fercompress/choice.py; a test compares the two), over figures that come with the page.
   Validation figures choose; the text of the test figures is shown for the variant that was chosen, and for no other. */
"use strict";

/* What of a budget a row does not keep, or is not known to keep: columns. limits: [{column, value, drop}], a drop is below the baseline's. */
function budgetMisses(row, limits, baseline) {
  const missed = limits.filter(({ column, value, drop }) => {
    const found = row.figures[column];
    if (found == null) return true;
    if (!drop) return !(found <= value);
    const best = baseline ? baseline.figures[column] : null;
    return best == null || !(best - found <= value + 1e-12);
  });
  return missed.map(({ column }) => column);
}

function budgetJudgeable(row) {
  return row.runs && row.figures.validation_accuracy != null && row.figures.stored_bytes != null;
}

/* Best first: more accurate on validation data, then fewer bytes, then the faster clip, then by name. */
function budgetOrder(one, other) {
  const keys = (row) => [-row.figures.validation_accuracy, row.figures.stored_bytes, row.figures.latency_clip_p50_ns || Infinity, row.variant];
  const [mine, its] = [keys(one), keys(other)];
  const place = mine.findIndex((key, index) => key !== its[index]);
  return place < 0 ? 0 : mine[place] < its[place] ? -1 : 1;
}

/* rows: of one target. returns {fitting, unfit: [[row, columns]], unlimited}, rows best first */
function budgetChoice(rows, limits, baseline) {
  const base = rows.find((row) => row.variant === baseline) || null;
  const judgeable = rows.filter(budgetJudgeable);
  const fitting = judgeable.filter((row) => !budgetMisses(row, limits, base).length).sort(budgetOrder);
  const unfit = rows.filter((row) => !fitting.includes(row)).map((row) => [row, budgetMisses(row, limits, base)]);
  return { fitting, unfit, unlimited: [...judgeable].sort(budgetOrder)[0] || null };
}

function addBudget(given) {
  const box = document.getElementById("budget");
  if (!box || !given) return;
  const make = (tag, attributes, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };
  const fields = given.columns.map((column) => {
    const input = make("input", { type: "number", min: "0", step: "any", size: "7", inputmode: "decimal", name: column.key });
    box.querySelector("form").append(make("label", {}, `${column.title}, at most `, input, ` ${column.unit} `));
    return { column, input };
  });
  const told = box.querySelector("[role=status]");
  const target = box.querySelector("select");
  const said = (row) => `${row.variant} (${row.text})`;
  const answer = () => {
    const asked = fields.filter(({ input }) => input.value !== "" && Number.isFinite(input.valueAsNumber));
    const limits = asked.map(({ column, input }) => ({ column: column.key, value: input.valueAsNumber * column.scale, drop: column.drop }));
    const { fitting, unfit, unlimited } = budgetChoice(given.rows.filter((row) => row.target === target.value), limits, given.baseline);
    const lines = [];
    if (!fitting.length) lines.push("No variant fits, or is known to.");
    else {
      lines.push(`Best on validation data: ${said(fitting[0])}. Tested: ${fitting[0].tested}.`);
      if (fitting[1]) lines.push(`Runner-up: ${said(fitting[1])}.`);
      if (asked.length && unlimited.variant === fitting[0].variant) lines.push("The budget costs nothing: without it the choice is the same.");
      else if (asked.length) {
        const points = 100 * (unlimited.figures.validation_accuracy - fitting[0].figures.validation_accuracy);
        lines.push(`Without the budget: ${said(unlimited)}; the budget costs ${points.toFixed(1)} points of validation accuracy.`);
      }
    }
    if (asked.length && unfit.length) {
      const title = (key) => (given.columns.find((column) => column.key === key) || { title: key }).title;
      lines.push(`Do not fit: ${unfit.map(([row, columns]) => `${row.variant} (${columns.map(title).join(", ") || row.why})`).join("; ")}.`);
    }
    told.replaceChildren(...lines.map((line) => make("p", {}, line)));
  };
  for (const { input } of fields) input.addEventListener("input", answer);
  target.addEventListener("change", answer);
  box.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  box.hidden = false;
  answer();
}

if (typeof DATA !== "undefined") addBudget(DATA.budget);
