"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const all = (selector) => [...document.querySelectorAll(selector)];
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

// Faces.
const { size: SIZE } = data.faces, MOST = 4, ORIGINAL = "original";
const { inputs, models } = data.faces;
let flipped = 0;
const face = () => Number(document.querySelector("[name=face]:checked").value);
const chosen = () => all("[name=model]:checked").map((box) => box.value);
const picture = (name) => (name === ORIGINAL ? inputs : models[name].pictures)[face()];
const called = (name) => (name === ORIGINAL ? ORIGINAL : models[name].label);
const alternative = (name) =>
  name === ORIGINAL ? `held-out ${data.noun} ${face() + 1}` : `${data.noun} ${face() + 1}, reconstructed by ${called(name)}`;

function showFaces() {
  const names = chosen(), side = Number($("zoom").value);
  for (const box of all("[name=model]")) box.disabled = !box.checked && names.length >= MOST;
  $("pictures").replaceChildren(...[ORIGINAL, ...names].map((name) => {
    const image = make("img", { src: picture(name), alt: alternative(name), width: side, height: side });
    const caption = make("figcaption", {}, called(name));
    if (name !== ORIGINAL) {
      caption.append(make("span", {}, `error ${models[name].errors[face()]}`),
        make("span", {}, `all: ${models[name].error}`));
    }
    const figure = make("figure", {}, image);
    figure.style.width = `${side}px`;
    if ($("show-difference").checked && name !== ORIGINAL) figure.append(difference(name, side));
    figure.append(caption);
    return figure;
  }));
  for (const [place, select] of [$("flip-0"), $("flip-1")].entries()) {
    const before = select.value, options = [ORIGINAL, ...names];
    select.replaceChildren(...options.map((name) => make("option", { value: name }, called(name))));
    select.value = options.includes(before) ? before : options[Math.min(place, options.length - 1)];
  }
  $("scale").hidden = !$("show-difference").checked;
  showFlip();
}

// Grey where both are the same, brighter where the reconstruction is.
function difference(name, side) {
  const canvas = make("canvas", { width: SIZE, height: SIZE });
  canvas.style.width = canvas.style.height = `${side}px`;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `difference of ${called(name)} from the original`);
  const factor = Number($("amplify").value);
  Promise.all([pixels(inputs[face()]), pixels(picture(name))]).then(([before, after]) => {
    const found = new ImageData(SIZE, SIZE);
    for (let i = 0; i < found.data.length; i++) {
      found.data[i] = i % 4 === 3 ? 255 : 128 + factor * (after[i] - before[i]);
    }
    canvas.getContext("2d").putImageData(found, 0, 0);
  });
  return canvas;
}

const decoded = new Map();
function pixels(source) {
  if (!decoded.has(source)) {
    const image = make("img", { src: source });
    decoded.set(source, image.decode().then(() => {
      const context = make("canvas", { width: SIZE, height: SIZE }).getContext("2d");
      context.drawImage(image, 0, 0);
      return context.getImageData(0, 0, SIZE, SIZE).data;
    }));
  }
  return decoded.get(source);
}

function showFlip() {
  const name = $(`flip-${flipped}`).value;
  const image = $("flip").querySelector("img");
  Object.assign(image, { src: picture(name), alt: alternative(name) });
  $("flip").querySelector("span").textContent = called(name);
}

all("[name=face]").forEach((radio, number) => { radio.nextElementSibling.src = inputs[number]; });
if (innerWidth < 480) $("zoom").value = "128";
for (const input of [...all("[name=face]"), ...all("[name=model]"), $("zoom"), $("show-difference")]) {
  input.addEventListener("change", showFaces);
}
$("amplify").addEventListener("input", () => {
  document.querySelector("output[for=amplify]").textContent = $("amplify").value;
  $("show-difference").checked = true;
  showFaces();
});
for (const place of [0, 1]) $(`flip-${place}`).addEventListener("change", () => { flipped = place; showFlip(); });
$("flip").addEventListener("click", () => { flipped = 1 - flipped; showFlip(); });
showFaces();

// The table.
all("#table1 thead th").forEach((head, column) => {
  head.firstElementChild.addEventListener("click", () => {
    const way = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    all("#table1 [aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
    const key = (row) => row.cells[column].dataset.key;
    const compare = (a, b) => {
      if (a === "" || b === "") return (a === "") - (b === ""); // what lacks comes last either way
      return way * (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b);
    };
    const body = document.querySelector("#table1 tbody");
    body.append(...[...body.rows].sort((one, other) => compare(key(one), key(other))));
  });
});

// The curves: of each model three series, the mean and the ends of its band.
const { epochs, series } = data.curves;
const shown = series.map((one) => one.shown);
let chart = null;

function draw() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const weights = document.querySelector("[name=weights]:checked").value;
  const axis = { stroke: colour("--text"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
  const lines = series.flatMap((one, place) => {
    const hidden = { show: shown[place], stroke: "transparent", points: { show: false } };
    const mean = { show: shown[place], label: one.label, stroke: one.colour, dash: one.dash, width: 2, points: { show: epochs.length < 2 } };
    return [mean, hidden, hidden];
  });
  const bands = series.map((one, place) => ({ series: [3 * place + 3, 3 * place + 2], fill: one.colour + "22" }));
  const values = series.flatMap((one) => ["mean", "min", "max"].map((which) => one[weights][which]));
  chart?.destroy();
  chart = new uPlot({
    ...size(),
    scales: { x: { time: false }, y: { distr: 3, range: where } },
    axes: [
      { ...axis, label: "epoch", incrs: [1, 2, 5, 10, 20, 50] },
      { ...axis, label: "held-out error", size: 64, values: (_, ticks) => ticks.map((tick) => tick === null ? "" : String(tick)) },
    ],
    series: [{ label: "epoch" }, ...lines],
    bands,
    cursor: { y: false, points: { show: (u, place) => place % 3 === 1 ? undefined : false } },
    legend: { show: false },
    hooks: { setCursor: [tell] },
  }, [epochs, ...values], $("chart"));
}

// Where the lines part: from below the lowest to above where they end, as the first epochs lie far above.
function where(u, low, high) {
  if (low === null) return [1, 10];
  const ends = series.map((_, place) => (shown[place] ? u.data[3 * place + 3].at(-1) : 0));
  const step = 10 ** Math.floor(Math.log10(low)) / 2;
  return [Math.max(step, Math.floor(low / step) * step), Math.min(high, 1.5 * Math.max(...ends)) || high];
}

const size = () => ({ width: $("chart").clientWidth, height: Math.min(420, Math.max(260, innerHeight * 0.6)) });

const resting = $("at").textContent;
function tell(u) {
  const at = u.cursor.idx;
  if (at == null) { $("at").textContent = resting; return; }
  const weights = document.querySelector("[name=weights]:checked").value;
  const values = series.map((one, place) => [one.label, one[weights].mean[at], shown[place]])
    .filter(([, value, on]) => on && value !== null).sort((a, b) => a[1] - b[1]);
  $("at").textContent = `Epoch ${epochs[at]}: ` + values.map(([label, value]) => `${label} ${value.toFixed(0)}`).join(", ");
}

series.forEach((one, place) => {
  const button = make("button", { type: "button" });
  button.innerHTML = `<svg width="28" height="10" aria-hidden="true"><line x1="0" y1="5" x2="28" y2="5" stroke-width="3" stroke-dasharray="${one.dash.join(" ")}"/></svg>`;
  button.querySelector("line").style.stroke = one.colour;
  button.append(one.label);
  button.addEventListener("click", () => show(place, !shown[place]));
  $("legend").append(button);
});

function show(place, on) {
  shown[place] = on;
  $("legend").children[place].setAttribute("aria-pressed", on);
  chart?.batch(() => [1, 2, 3].forEach((k) => chart.setSeries(3 * place + k, { show: on })));
}
series.forEach((one, place) => show(place, one.shown));
for (const [id, on] of [["all", true], ["none", false]]) {
  $(id).addEventListener("click", () => series.forEach((_, place) => show(place, on)));
}
for (const radio of all("[name=weights]")) radio.addEventListener("change", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
new ResizeObserver(() => chart?.setSize(size())).observe($("chart"));
draw();
