"use strict";
(() => {
const report = JSON.parse(document.getElementById("data").textContent);
// Told apart by colour-blind people (after Okabe and Ito), and on both backgrounds; the lines
// differ by dash, too.
const COLOURS = ["#1f78c1", "#d55e00", "#0b8f6c", "#b5569d", "#8a7400", "#77797d", "#2794b0", "#a0522d"];
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid", "dash"];
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "x", "star", "pentagon"];
const RING = "rgb(1, 2, 3)"; // The style sheet gives it the colour of the theme.
const NEUTRAL = "#80858d";
const PAGE_OF_CASES = 20;
const MINUS = "\u2212";

const plots = [];
const tables = [];
let marked = [];

// ---- words and elements ------------------------------------------------------------------------

function text(value) {
  if (value === null || value === undefined) return "none";
  const size = Math.abs(value);
  const digits = size >= 1000 && size < 1e6 ? value.toFixed(0) : String(Number(value.toPrecision(4)));
  return digits.replace("-", MINUS);
}
const signed = (value) => (value > 0 ? "+" : "") + text(value);
const quantity = (value, target) => text(value) + (value !== null && target.unit ? " " + target.unit : "");
const axisTitle = (words, target) => plain(words + (target.unit ? ` (${target.unit})` : ""));
// Plotly reads its texts as a kind of HTML.
const plain = (words) => words.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

function element(kind, properties = {}, ...children) {
  const node = Object.assign(document.createElement(kind), properties);
  node.append(...children);
  return node;
}

function picture(index) {
  const source = report.thumbnails[index];
  return source ? [element("img", { src: source, alt: `Image ${report.image[index]}` })] : [];
}

// ---- plots -------------------------------------------------------------------------------------

const layout = (x, y, more = {}) => ({
  // Room for the outermost numbers: where they have to make room for themselves, Plotly draws twice.
  margin: { l: 64, r: 28, t: 20, b: 44 },
  paper_bgcolor: "transparent", plot_bgcolor: "transparent",
  font: { family: "system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif", size: 12 },
  hovermode: "closest", showlegend: false, dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", // A finger scrolls.
  xaxis: { title: { text: x }, zeroline: false, automargin: true },
  yaxis: { title: { text: y }, zeroline: false, automargin: true },
  ...more,
});
const settings = {
  responsive: true, displayModeBar: false,
};
const line = (more) => ({ type: "line", layer: "below", line: { color: NEUTRAL, width: 1.5, dash: more.dash }, ...more.at });
const level = (y, dash) => line({ dash, at: { xref: "paper", x0: 0, x1: 1, y0: y, y1: y } });

/** Texts with as many decimals as give the largest of the values four digits. */
function aligned(values) {
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;
  if (largest >= 1e6) return text;
  const decimals = Math.min(Math.max(3 - Math.floor(Math.log10(largest)), 0), 20);
  return (value) => (value === null ? "none" : value.toFixed(decimals).replace("-", MINUS));
}

function padded(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) {
    if (value === null) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) return undefined;
  const room = (high - low) * 0.04 || Math.abs(high) * 0.04 || 1;
  return [low - room, high + room];
}

/** A plot that is drawn when it comes into view. `at` gives where a case is in it, or null. */
function plot(parent, caption, under, description, traces, settingsOfLayout, at = null, target = null, model = null) {
  const node = element("div", { className: "plot" });
  node.setAttribute("role", "img");
  node.setAttribute("aria-label", description);
  parent.append(element("figure", {}, element("figcaption", {}, caption, element("small", { textContent: under })), node));
  // Pixels that fit on A4 and Letter, as the style sheet has them.
  const onPaper = parent.matches(".whole") ? { width: 680 } : parent.matches(".wide") ? { width: 680, height: 290 } : { width: 335, height: 335 };
  const entry = { node, traces, layout: settingsOfLayout, at, target, model, onPaper, drawn: false };
  plots.push(entry);
  node.entry = entry;
}

function draw(entry) {
  if (entry.drawn) return;
  entry.drawn = true;
  watcher.unobserve(entry.node);
  Plotly.newPlot(entry.node, entry.traces, { ...entry.layout, ...withMarks(entry) }, settings);
  if (!entry.model) return;
  entry.node.on("plotly_hover", (event) => {
    const index = caseOf(event);
    if (index !== null) showTip(index, entry.target, entry.model, event.event);
  });
  entry.node.on("plotly_unhover", hideTip);
  entry.node.on("plotly_click", (event) => {
    const index = caseOf(event);
    if (index !== null) toggle(index);
  });
}
const caseOf = (event) => (event.points.length ? event.points[0].pointNumber : null);

const watcher = new IntersectionObserver(
  // One by one, so that the page can be moved in between.
  (seen) => seen.forEach((entry) => entry.isIntersecting && setTimeout(draw, 0, entry.target.entry)),
  { rootMargin: "200px" },
);

/** The shapes of a plot, with a numbered ring around each marked case. */
function withMarks(entry) {
  const shapes = [...(entry.layout.shapes || [])];
  if (entry.at) {
    marked.forEach((index, order) => {
      for (const [x, y] of entry.at(index)) {
        if (x === null || y === null) continue;
        const at = { type: "circle", xsizemode: "pixel", ysizemode: "pixel", xanchor: x, yanchor: y };
        // The number is a shape's label, as annotations take Plotly thirty times as long.
        shapes.push(
          { ...at, x0: -8, x1: 8, y0: -8, y1: 8, line: { color: RING, width: 2.5 } },
          { ...at, x0: 6, x1: 26, y0: 2, y1: 20, line: { width: 0 }, label: { text: `<b>${order + 1}</b>`, font: { size: 13 } } },
        );
      }
    });
  }
  return { shapes };
}

const colourOf = (model) => COLOURS[model.colour % COLOURS.length];

const points = (x, y, colour) => [{
  type: "scatter", mode: "markers", x, y, hoverinfo: "none",
  marker: { size: 6, opacity: 0.6, color: colour },
}];

function scatter(parent, target) {
  const range = padded([target.truth, ...target.models.map((model) => model.prediction)].flat());
  target.models.forEach((model) => {
    const diagonal = range && line({ dash: "solid", at: { x0: range[0], y0: range[0], x1: range[1], y1: range[1] } });
    const made = layout(axisTitle("truth", target), axisTitle("prediction", target), { shapes: diagonal ? [diagonal] : [] });
    made.xaxis.range = made.yaxis.range = range;
    plot(parent, model.name, model.agreement, `${target.name} by ${model.name}: prediction against truth. ${model.agreement}.`,
      points(target.truth, model.prediction, colourOf(model)), made,
      (index) => [[target.truth[index], model.prediction[index]]], target, model);
  });
}

function blandAltman(parent, target) {
  const both = (model, combine) => model.prediction.map((value, i) =>
    value === null || target.truth[i] === null ? null : combine(value, target.truth[i]));
  const means = target.models.map((model) => both(model, (p, y) => (p + y) / 2));
  const errors = target.models.map((model) => both(model, (p, y) => p - y));
  const limits = target.models.flatMap((model) => model.limits || []);
  const [xRange, yRange] = [padded(means.flat()), padded([...errors.flat(), ...limits])];
  target.models.forEach((model, i) => {
    const shapes = (model.limits || []).map((value, place) => level(value, place ? "dash" : "solid"));
    const made = layout(axisTitle("mean of prediction and truth", target), axisTitle("error", target), { shapes });
    made.xaxis.range = xRange;
    made.yaxis.range = yRange;
    plot(parent, model.name, model.limits_text, `${target.name} by ${model.name}: Bland-Altman plot. ${model.limits_text}.`,
      points(means[i], errors[i], colourOf(model)), made,
      (index) => [[means[i][index], errors[i][index]]], target, model);
  });
}

const legend = { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 };
const lines = (models, values) => models.map((model) => ({ type: "scatter", name: plain(model.name),
  line: { color: colourOf(model), dash: DASHES[model.colour % DASHES.length], width: 2 },
  marker: { symbol: SYMBOLS[model.colour % SYMBOLS.length], size: 8 }, ...values(model) }));
const withLegend = (x, y, target) => layout(x, y, { showlegend: target.models.length > 1, legend, margin: { l: 64, r: 28, t: 30, b: 44 } });

function sizes(parent, target) {
  for (const [name, words] of [["absolute", "mean absolute error"], ["bias", "mean error (bias)"]]) {
    const made = withLegend(axisTitle("truth, mean of the bin", target), axisTitle(words, target), target);
    if (name === "bias") made.shapes = [level(0, "solid")];
    else made.yaxis.rangemode = "tozero";
    plot(parent, words[0].toUpperCase() + words.slice(1), "", `${target.name}: ${words} by size of target.`,
      lines(target.models, (model) => ({
        mode: "lines+markers", x: model.sizes.truth, y: model.sizes[name], text: model.sizes.cases,
        hovertemplate: "truth %{x:.4g}: %{y:.4g} (%{text} cases)<extra>%{fullData.name}</extra>",
      })), made);
  }
}

function spreads(parent, target) {
  const models = target.models.filter((model) => model.by_spread);
  const made = withLegend(axisTitle("sd, mean of the bin", target), axisTitle("mean absolute error", target), { ...target, models });
  made.yaxis.rangemode = "tozero";
  plot(parent, "Mean absolute error", "", `${target.name}: mean absolute error by predicted uncertainty.`,
    lines(models, (model) => ({
      mode: "lines+markers", x: model.by_spread.spread, y: model.by_spread.absolute, text: model.by_spread.cases,
      hovertemplate: "sd %{x:.4g}: %{y:.4g} (%{text} cases)<extra>%{fullData.name}</extra>",
    })), made);
}

function curves(parent, target) {
  const models = target.models.filter((model) => model.curve);
  const shown = { ...target, models };
  for (const [name, words] of [["validation", "validation SRCC"], ["loss", "training loss, rescaled"]]) {
    if (models.every((model) => model.curve[name].every((value) => value === null))) continue;
    plot(parent, words[0].toUpperCase() + words.slice(1), "", `${words} by epoch.`,
      lines(target.models, (model) => {
        if (!model.curve) return { x: [], y: [], showlegend: false };
        const known = model.curve[name].map((value, i) => [model.curve.epoch[i], value]).filter((pair) => pair[1] !== null);
        const values = known.map((pair) => pair[1]);
        const low = Math.min(...values), room = Math.max(...values) - low || 1;
        return {
          mode: known.length > 1 ? "lines" : "markers", x: known.map((pair) => pair[0]), text: values.map(text),
          y: name === "loss" ? values.map((value) => (value - low) / room) : values,
          hovertemplate: "epoch %{x}: %{text}<extra>%{fullData.name}</extra>",
        };
      }), withLegend("epoch", words, shown));
  }
}

function distribution(parent, target) {
  // Beside the predictions, those of the same cases.
  const labels = target.truth.map((value, i) => (target.error[i] === null ? null : value));
  const rows = [{ name: "labels", values: labels, spread: target.spread, colour: NEUTRAL },
    ...target.models.map((model) => ({ name: model.name, values: model.prediction, spread: model.spread, colour: colourOf(model) }))];
  const letters = Math.max(...rows.map((row) => Math.max(row.name.length, row.spread.length)));
  const made = layout(axisTitle(target.name, target), "", { height: 90 + 62 * rows.length, margin: { l: 32 + 8 * letters, r: 28, t: 8, b: 44 } });
  Object.assign(made.yaxis, {
    tickvals: rows.map((_, i) => i), ticktext: rows.map((row) => `<b>${plain(row.name)}</b><br>${row.spread}`),
    range: [rows.length - 0.4, -0.6], showgrid: false,
  });
  const traces = rows.map((row, i) => ({
    type: "violin", orientation: "h", x: row.values.filter((value) => value !== null), y0: i, width: 0.9,
    line: { color: row.colour, width: 1.5 }, points: false, box: { visible: true, width: 0.25 },
    meanline: { visible: true }, hoverinfo: "skip", spanmode: "hard",
  }));
  const summary = rows.map((row) => `${row.name}: mean ± standard deviation ${row.spread}`).join("; ");
  plot(parent, "", "", `${target.name}: distribution. ${summary}.`, traces, made,
    (index) => rows.map((row, i) => [row.values[index], i]));
  parent.querySelector(".plot").style.height = `${made.height}px`;
}

const KINDS = { scatter, bland_altman: blandAltman, sizes, spreads, curves, distribution };

// ---- hovering ----------------------------------------------------------------------------------

const tip = document.getElementById("tip");

function showTip(index, target, model, pointer) {
  const truth = target.truth[index], prediction = model.prediction[index];
  tip.replaceChildren(...picture(index),
    element("strong", { textContent: report.image[index] }),
    element("span", { textContent: `${report.subject ? `subject ${report.subject[index]}, ` : ""}row ${report.row[index]}` }),
    element("span", { textContent: `truth ${quantity(truth, target)}` }),
    element("span", { textContent: `prediction ${quantity(prediction, target)} (${signed(prediction - truth)})` }));
  tip.dataset.case = index;
  tip.hidden = false;
  tip.style.left = "0"; // There it has its full width.
  const { width, height } = tip.getBoundingClientRect();
  const right = pointer.clientX + 18, below = pointer.clientY + 18;
  const left = right + width < innerWidth ? right : pointer.clientX - 18 - width;
  const top = below + height < innerHeight ? below : pointer.clientY - 18 - height;
  tip.style.left = `${Math.max(left, 4)}px`;
  tip.style.top = `${Math.max(top, 4)}px`;
}
function hideTip() { tip.hidden = true; }
addEventListener("scroll", hideTip, { passive: true });

// ---- marking -----------------------------------------------------------------------------------

const tray = document.getElementById("marked");

function toggle(index) {
  setMarked(marked.includes(index) ? marked.filter((other) => other !== index) : [...marked, index]);
}

function setMarked(cases) {
  marked = cases;
  for (const entry of plots) if (entry.drawn && entry.at) Plotly.relayout(entry.node, withMarks(entry));
  for (const card of document.querySelectorAll(".card")) {
    card.setAttribute("aria-pressed", String(marked.includes(Number(card.dataset.case))));
  }
  tables.forEach((refresh) => refresh());
  tray.hidden = marked.length === 0;
  tray.replaceChildren(...marked.map((index, order) => {
    const chip = element("button", { type: "button", title: "Remove the mark", onclick: () => toggle(index) },
      element("b", { textContent: order + 1 }), ...picture(index), element("span", { textContent: report.image[index] }));
    chip.setAttribute("aria-label", `Remove the mark from ${report.image[index]}`);
    return chip;
  }), element("button", { type: "button", textContent: "Remove all marks", onclick: () => setMarked([]) }));
}

// ---- the table of cases ------------------------------------------------------------------------

function cases(parent, target) {
  const errorOf = (model, index) => model.prediction[index] === null || target.truth[index] === null
    ? null : model.prediction[index] - target.truth[index];
  const number = aligned([target.truth, ...target.models.map((model) => model.prediction)].flat());
  const columns = [
    { name: "row", key: (i) => (isNaN(report.row[i]) ? report.row[i] : Number(report.row[i])), show: (i) => report.row[i] },
    { name: "case", key: (i) => report.image[i], show: (i) => report.image[i], className: "name" },
    ...(report.subject ? [{ name: "subject", key: (i) => report.subject[i], show: (i) => report.subject[i] }] : []),
    { name: "truth", key: (i) => target.truth[i], show: (i) => number(target.truth[i]) },
    ...target.models.map((model) => ({
      name: model.name,
      key: (i) => (errorOf(model, i) === null ? null : Math.abs(errorOf(model, i))),
      show: (i) => number(model.prediction[i]) + (errorOf(model, i) === null ? "" : ` (${errorOf(model, i) > 0 ? "+" : ""}${number(errorOf(model, i))})`),
    })),
  ];
  let key = (i) => target.error[i], descending = true, count = PAGE_OF_CASES, order = [];
  const search = element("input", { type: "search", placeholder: report.subject ? "name or subject" : "name" });
  const label = element("label", {}, "Find ", search);
  const found = element("span", { className: "muted" });
  found.setAttribute("role", "status");
  const more = element("button", { type: "button", className: "more", textContent: `Show ${PAGE_OF_CASES} more` });
  const body = element("tbody");
  const heads = columns.map((column) => {
    const head = element("th", { scope: "col" }, element("button", { type: "button", textContent: column.name }));
    head.firstChild.onclick = () => {
      descending = key === column.key ? !descending : true;
      key = column.key;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sort();
    };
    return head;
  });

  function sort() {
    const wanted = search.value.trim().toLowerCase();
    order = report.image.map((_, i) => i).filter((i) =>
      [report.image[i], report.subject?.[i] ?? ""].some((text) => text.toLowerCase().includes(wanted)));
    const side = descending ? -1 : 1;
    order.sort((a, b) => {
      const [left, right] = [key(a), key(b)];
      if (left === null || right === null) return (left === null) - (right === null); // Unknown ones last.
      return left < right ? -side : left > right ? side : 0;
    });
    count = PAGE_OF_CASES;
    refresh();
  }

  function refresh() {
    const others = order.filter((i) => !marked.includes(i));
    body.replaceChildren(...[...marked, ...others.slice(0, count)].map((index) => {
      const isMarked = marked.includes(index);
      const box = element("input", { type: "checkbox", checked: isMarked, onchange: () => {
        toggle(index);
        body.querySelector(`tr[data-case="${index}"] input`)?.focus();
      } });
      box.setAttribute("aria-label", `Mark ${report.image[index]}`);
      const row = element("tr", { className: isMarked ? "marked" : "" }, element("td", {}, box),
        element("td", {}, ...picture(index)),
        ...columns.map((column) => element("td", { className: column.className || "", textContent: column.show(index) })));
      row.dataset.case = index;
      return row;
    }));
    found.textContent = `${order.length} ${order.length === 1 ? "case" : "cases"}${marked.length ? `, marked ones first` : ""}`;
    more.hidden = others.length <= count;
  }

  more.onclick = () => { count += PAGE_OF_CASES; refresh(); };
  search.oninput = sort;
  const mark = element("th", { scope: "col", textContent: "mark" });
  const image = element("th", { scope: "col" });
  if (report.image.some((_, i) => report.thumbnails[i])) image.textContent = "image";
  const region = element("div", { className: "scroll", tabIndex: 0 }, element("table", {},
    element("thead", {}, element("tr", {}, mark, image, ...heads)), body));
  region.setAttribute("role", "region");
  region.setAttribute("aria-label", "Table of cases");
  parent.append(
    element("p", { className: "note", textContent: `The largest errors come first; the names of the columns sort. By ${report.kind}: prediction (error)${target.unit ? ", in " + target.unit : ""}.` }),
    element("div", { className: "controls" }, label, found), region, more);
  tables.push(refresh);
  sort();
}

// ---- print -------------------------------------------------------------------------------------

addEventListener("beforeprint", () => {
  for (const entry of plots) {
    draw(entry);
    Plotly.relayout(entry.node, { autosize: false, ...entry.onPaper });
  }
});
addEventListener("afterprint", () => {
  for (const entry of plots) Plotly.relayout(entry.node, { autosize: true, width: null, height: entry.layout.height || null });
});

// ---- start -------------------------------------------------------------------------------------

for (const section of document.querySelectorAll(".target")) {
  const target = report.targets[Number(section.dataset.target)];
  for (const parent of section.querySelectorAll("[data-plots]")) KINDS[parent.dataset.plots](parent, target);
  cases(section.querySelector("[data-cases]"), target);
}
for (const card of document.querySelectorAll(".card")) {
  const index = Number(card.dataset.case);
  card.querySelector(".picture")?.append(...picture(index));
  card.onclick = () => toggle(index);
}
// Plotly comes after this script: reading it takes a while, and the words need not wait for it.
addEventListener("DOMContentLoaded", () => plots.forEach((entry) => watcher.observe(entry.node)));
})();
