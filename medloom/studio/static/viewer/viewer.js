// The viewer: several arms of a case next to each other, read with few keys.
import { asCSV, describe, fits, gridOf, isComplete, measured, place as placeOf } from "./measures.js";
import { Pane } from "./pane.js";
import { PlanesPane, canDraw } from "./planes.js";
import { openSource } from "./source.js";

const HU = "HU";
// Level and width in HU, by convention.
const PRESETS = {
  HU: [["lung", -600, 1500], ["mediastinum", 40, 400], ["bone", 400, 1800], ["brain", 40, 80], ["abdomen", 60, 350], ["all", 0, 2000]],
  other: [["all", 0, 100], ["1 to 99 %", 1, 99], ["5 to 95 %", 5, 95], ["dark half", 0, 50], ["light half", 50, 100], ["25 to 75 %", 25, 75]],
};
const LAYOUTS = { "1x1": 1, "1x2": 2, "2x2": 4 };
const TOOLS = { w: "window", v: "pan", l: "length", r: "region", h: "ratio" };

export class Viewer {
  constructor(root, study) {
    this.root = root;
    this.study = study;
    this.common = this.newState();
    this.synchronised = true;
    this.tool = "window";
    this.active = 0;
    this.flipped = false;
    this.panes = [];
    this.planes = false;
    this.layout = "1x2";
  }

  async open() {
    const { study } = this;
    this.root.dataset.state = "loading";
    try {
      const sources = await Promise.all(study.arms.map((arm) => openSource(arm.base, arm)));
      // Another one may have been asked for since.
      if (study !== this.study) return;
      this.sources = sources;
      this.arms = this.sources.filter((source) => !source.facts.isDifference);
    } catch (error) {
      if (study !== this.study) return;
      this.root.dataset.state = "failed";
      this.root.querySelector("[data-said]").textContent = error.message;
      return;
    }
    const [first] = this.arms;
    Object.assign(this.common, { low: this.study.low ?? first.facts.low, high: this.study.high ?? first.facts.high, noise: this.study.noise ?? 0 });
    this.common.level = first.isVolume ? Math.floor(first.levels("axial") / 2) : 0;
    this.presets = this.presetsOf(first);
    this.common.reach = this.study.reach ?? this.widest();
    this.root.querySelectorAll("[data-volume]").forEach((tool) => { tool.hidden = !first.isVolume; });
    this.build();
    this.root.dataset.state = "ready";
  }

  // Another study at the same place, looked at as the one before, but in its own window and size.
  show(study) {
    const { invert, smooth } = this.common;
    this.study = study;
    this.common = Object.assign(this.newState(), { invert, smooth });
    this.flipped = this.planes = false;
    this.active = 0;
    this.layout = localStorage.getItem(`layout ${study.modality}`) ?? study.layout ?? "1x2";
    this.say("");
    return this.open();
  }

  newState() {
    return { low: 0, high: 1, zoom: "fit", x: 0, y: 0, level: 0, plane: "axial", invert: false, smooth: false, curtain: null, opacity: 0, noise: 0, reach: 1, measures: [], cursor: null, blind: this.study?.blind };
  }

  // The 99th percentile of all absolute differences of the case: one scale for all of them.
  widest() {
    const found = this.sources.filter((source) => source.facts.isDifference).flatMap((source) => sampled(source.values.map(Math.abs)));
    found.sort((a, b) => a - b);
    return Math.max(found[Math.floor(found.length * 0.99)] ?? 1, this.arms[0].facts.unit === HU ? 1 : 1 / 255);
  }

  presetsOf(source) {
    if (source.facts.unit === HU) return PRESETS.HU.map(([name, level, width]) => [name, level - width / 2, level + width / 2]);
    const values = sampled(source.values).sort((a, b) => a - b);
    const at = (percent) => values[Math.min(values.length - 1, Math.floor(values.length * percent / 100))];
    return PRESETS.other.map(([name, low, high]) => [name, at(low), at(high)]);
  }

  build() {
    // No pane shows what another one shows already.
    const count = Math.min(LAYOUTS[this.layout] ?? 1, this.sources.length), place = this.root.querySelector("[data-panes]");
    const chosen = this.panes.map((pane) => pane.select.value);
    this.panes.forEach((pane) => pane.close?.());
    place.dataset.layout = this.layout;
    place.replaceChildren();
    this.panes = Array.from({ length: count }, (_, index) => this.buildPane(place, index, chosen[index]));
    if (this.planes) this.panes.forEach((pane) => pane.follow(this.panes.filter((other) => other !== pane)));
    this.showAll();
    this.drawTools();
  }

  buildPane(place, index, chosen) {
    const figure = document.createElement("figure"), canvas = document.createElement("canvas"), select = document.createElement("select");
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "img");
    select.setAttribute("aria-label", `Image of pane ${index + 1}`);
    this.sources.forEach((source, k) => select.add(new Option(source.facts.label, k)));
    select.value = chosen ?? String(Math.min(this.study.first?.[index] ?? index, this.sources.length - 1));
    figure.append(select, canvas);
    place.append(figure);
    const state = this.synchronised ? this.common : { ...this.common, measures: this.common.measures };
    select.addEventListener("change", () => this.showAll());
    canvas.addEventListener("focus", () => { this.active = index; });
    if (this.planes) return this.buildPlanes(figure, canvas, state, select);
    const pane = new Pane(canvas, state);
    pane.select = select;
    canvas.addEventListener("pointerdown", (event) => this.drag(event, pane, index));
    canvas.addEventListener("pointermove", (event) => this.point(event, pane));
    canvas.addEventListener("pointerleave", () => { this.common.cursor = null; this.draw(); });
    canvas.addEventListener("wheel", (event) => this.turn(event, pane), { passive: false });
    new ResizeObserver(() => pane.draw()).observe(canvas);
    return pane;
  }

  buildPlanes(figure, canvas, state, select) {
    const mark = Object.assign(document.createElement("p"), { className: "mark" });
    figure.append(mark);
    const pane = new PlanesPane(canvas, state, mark, { moved: (moved, place) => this.locate(moved, place), windowed: (values) => this.change(values) });
    return Object.assign(pane, { select });
  }

  // One plane at a time, or three at once.
  async choosePlanes(three) {
    if (three && !canDraw()) return this.say("This browser has no WebGL 2: look at one plane at a time, with p.");
    this.planes = three;
    this.root.dataset.state = "loading";
    this.say(three ? "Drag: cursor. Drag with the right button: window. Wheel: slice. Measure in one plane at a time (m)." : "");
    this.build();
    try {
      await Promise.all(this.panes.map((pane) => pane.drawn));
    } catch (error) {
      this.say(error.message);
    }
    this.root.dataset.state = "ready";
  }

  say(words) {
    this.root.querySelector("[data-said]").textContent = words;
  }

  // The values at the cursor of three planes.
  locate(moved, { mm, vox }) {
    const known = this.panes.filter((pane) => pane.source && (pane === moved || this.synchronised));
    const values = known.map(({ source }) => `${source.facts.label}: ${+source.at(...vox.slice(0, 3)).toPrecision(4)} ${source.facts.unit}`);
    this.say([`${[...mm].slice(0, 3).map((each) => each.toFixed(1)).join(", ")} mm`, ...values].join(" · "));
  }

  showAll() {
    this.panes.forEach((pane, index) => {
      const chosen = Number(pane.select.value), other = this.sources[this.otherThan(chosen)];
      const flipped = this.flipped && index === this.active;
      const covered = index === this.active && other !== undefined && (pane.state.curtain !== null || pane.state.opacity > 0);
      const source = flipped && other ? other : this.sources[chosen];
      pane.canvas.setAttribute("aria-label", `${source.facts.label}${this.study.blind ? "" : source.facts.generated ? ", synthetic" : ""}`);
      pane.drawn = pane.show(source, covered ? other : null, source.facts.isDifference ? this.arms[source.facts.over ?? 0] : null);
    });
    this.tabulate();
  }

  // What is flipped to, and shown behind the curtain: the factual arm of any other, the next arm of the factual one.
  otherThan(chosen) {
    return chosen === 0 ? 1 : 0;
  }

  draw() {
    this.panes.forEach((pane) => pane.draw());
  }

  // Change what panes have in common, or the active one alone where they are not synchronised.
  change(values) {
    const states = this.synchronised ? this.panes.map((pane) => pane.state) : [this.panes[this.active].state];
    states.forEach((state) => Object.assign(state, values));
    this.draw();
  }

  drag(event, pane, index) {
    this.active = index;
    const start = [event.clientX, event.clientY], { low, high, x, y } = pane.state;
    const tool = event.button === 1 || event.shiftKey ? "pan" : this.tool;
    if (pane.state.curtain !== null) return this.follow(event, pane, (now) => this.change({ curtain: fraction(now, pane) }));
    if (tool === "pan") return this.follow(event, pane, (now) => this.change({ x: x + now.clientX - start[0], y: y + now.clientY - start[1] }));
    if (tool === "window" && pane.source.facts.isDifference) {
      const { reach } = pane.state;
      return this.follow(event, pane, (now) => this.change({ reach: reach * Math.exp((now.clientX - start[0]) / 150) }));
    }
    if (tool === "window") {
      const unit = (high - low) / 300;
      return this.follow(event, pane, (now) => {
        const width = Math.max((high - low) + (now.clientX - start[0]) * unit, unit / 10), level = (high + low) / 2 - (now.clientY - start[1]) * unit;
        this.change({ low: level - width / 2, high: level + width / 2 });
      });
    }
    this.measure(event, pane, tool);
  }

  follow(event, pane, move, after = null) {
    pane.canvas.setPointerCapture(event.pointerId);
    const end = () => {
      after?.();
      pane.canvas.removeEventListener("pointermove", move);
      this.tabulate();
    };
    pane.canvas.addEventListener("pointermove", move);
    pane.canvas.addEventListener("pointerup", end, { once: true });
  }

  measure(event, pane, kind) {
    const { measures } = this.common, slice = pane.slice();
    // What lies outside of the image is not measured.
    const within = (now) => { const [x, y] = pane.place(now); return [Math.max(0, Math.min(slice.width, x)), Math.max(0, Math.min(slice.height, y))]; };
    const from = within(event);
    const open = measures.find((measure) => measure.kind === "ratio" && !isComplete(measure));
    const measure = open ?? { kind, plane: pane.state.plane, level: pane.state.level, places: [], grid: gridOf(pane.slice()), drawnOn: pane.source.facts.label };
    if (!open) measures.push(measure);
    measure.places.push(from, from);
    this.follow(event, pane, (now) => {
      measure.places[measure.places.length - 1] = within(now);
      this.draw();
    }, () => {
      // A click alone draws nothing.
      const [a, b] = measure.places.slice(-2);
      if (Math.hypot(a[0] - b[0], a[1] - b[1]) < 0.5) measure.places.splice(-2);
      if (!measure.places.length) measures.splice(measures.indexOf(measure), 1);
      this.draw();
    });
  }

  point(event, pane) {
    this.common.cursor = null;
    const [x, y] = pane.place(event), said = this.root.querySelector("[data-said]"), slice = pane.slice();
    const inside = x >= 0 && y >= 0 && x < slice.width && y < slice.height;
    const at = Math.floor(y) * slice.width + Math.floor(x), channels = slice.values.length / slice.step;
    const value = Array.from({ length: channels }, (_, channel) => +Number(slice.values[channel * slice.step + at]).toPrecision(4)).join(", ");
    said.textContent = inside ? `${pane.source.facts.label}: ${Math.floor(x)}, ${Math.floor(y)}: ${value} ${pane.source.facts.unit}` : "";
    this.panes.filter((other) => other !== pane).forEach((other) => {
      other.state = other.state === this.common ? { ...this.common } : other.state;
      other.state.cursor = inside ? [x, y] : null;
      other.draw();
      if (this.synchronised) other.state = this.common;
    });
  }

  turn(event, pane) {
    event.preventDefault();
    const step = event.deltaY > 0 ? 1 : -1;
    if (pane.source.isVolume && !event.ctrlKey) this.scroll(-step);
    else this.enlarge(step > 0 ? 1 / 1.15 : 1.15);
  }

  scroll(step) {
    const { plane, level } = this.panes[this.active].state;
    this.change({ level: Math.max(0, Math.min(this.arms[0].levels(plane) - 1, level + step)) });
  }

  enlarge(factor) {
    const pane = this.panes[this.active], [sx] = pane.scale(pane.slice());
    this.change({ zoom: Math.max(0.05, Math.min(64, sx * factor)) });
  }

  preset(index) {
    const [, low, high] = this.presets[index] ?? [];
    if (low !== undefined) this.change({ low, high: Math.max(high, low + 1e-6) });
  }

  // What a key does; whether it was one of the viewer's.
  onKey(event) {
    if (!this.study || event.ctrlKey || event.metaKey || event.altKey) return false;
    const { key } = event, turn = { ArrowLeft: "prev", ArrowRight: "next" }[key];
    // Whoever reads fast continues before an image is there.
    if (turn) follow(turn);
    if (turn || this.root.dataset.state !== "ready") return Boolean(turn);
    const { state } = this.panes[this.active];
    const actions = {
      " ": () => { this.flipped = !this.flipped; this.showAll(); },
      "+": () => this.enlarge(1.25), "-": () => this.enlarge(1 / 1.25), 0: () => this.change({ zoom: "fit", x: 0, y: 0 }), 9: () => this.change({ zoom: 1 }),
      ArrowUp: () => this.scroll(1), ArrowDown: () => this.scroll(-1),
      i: () => this.change({ invert: !state.invert }), s: () => this.change({ smooth: !state.smooth }),
      c: () => { this.change({ curtain: state.curtain === null ? 0.5 : null, opacity: 0 }); this.showAll(); },
      o: () => { this.change({ opacity: state.opacity >= 0.9 ? 0 : state.opacity + 0.25, curtain: null }); this.showAll(); },
      y: () => this.synchronise(!this.synchronised),
      m: () => { if (this.arms[0].isVolume) this.choosePlanes(!this.planes); },
      p: () => { this.change({ plane: { axial: "coronal", coronal: "sagittal", sagittal: "axial" }[state.plane] }); this.scroll(0); },
      x: () => this.lay({ "1x1": "1x2", "1x2": "2x2", "2x2": "1x1" }[this.layout]),
      Delete: () => { this.common.measures.pop(); this.draw(); this.tabulate(); },
      e: () => this.export(),
    };
    const preset = /^[1-6]$/.test(key) ? () => this.preset(Number(key) - 1) : null;
    const action = preset ?? actions[key] ?? (TOOLS[key] ? () => this.pick(TOOLS[key]) : null);
    if (!action) return false;
    event.preventDefault();
    action();
    this.drawTools();
    return true;
  }

  pick(tool) {
    this.tool = tool;
    this.drawTools();
  }

  lay(layout) {
    this.layout = layout;
    localStorage.setItem(`layout ${this.study.modality}`, layout);
    this.active = 0;
    this.build();
  }

  synchronise(together) {
    this.synchronised = together;
    this.panes.forEach((pane) => { pane.state = together ? this.common : { ...pane.state }; });
    if (together) this.draw();
  }

  drawTools() {
    const { state } = this.panes[this.active];
    const pressed = { ...Object.fromEntries(Object.values(TOOLS).map((tool) => [tool, this.tool === tool])), sync: this.synchronised, smooth: state.smooth, invert: state.invert, planes: this.planes, curtain: state.curtain !== null, overlay: state.opacity > 0 };
    for (const [name, on] of Object.entries(pressed)) this.root.querySelector(`[data-tool="${name}"]`)?.setAttribute("aria-pressed", on);
    const list = this.root.querySelector("[data-presets]");
    if (list) list.replaceChildren(...this.presets.map(([name], index) => button(`${index + 1} ${name}`, () => this.preset(index))));
  }

  // The measures of all arms, under the pictures.
  tabulate() {
    const place = this.root.querySelector("[data-measures]"), complete = this.common.measures.filter(isComplete);
    place.replaceChildren();
    if (!complete.length) return;
    const table = document.createElement("table"), head = table.createTHead().insertRow();
    ["", ...this.arms.map((arm) => arm.facts.label)].forEach((text) => { head.append(Object.assign(document.createElement("th"), { textContent: text, scope: "col" })); });
    const body = table.createTBody();
    complete.forEach((measure, index) => {
      const known = this.arms.map((arm) => (fits(measure, arm) ? measured(measure, arm) : null));
      for (const what of Object.keys(known.find(Boolean) ?? {})) {
        const row = body.insertRow();
        row.append(Object.assign(document.createElement("th"), { textContent: `${index + 1} ${describe(measure)}, ${what}${placeOf(measure, this.arms[0])}`, title: `drawn on ${measure.drawnOn}`, scope: "row" }));
        known.forEach((own) => { row.insertCell().textContent = own ? `${precise(own[what][0])} ${own[what][1]}` : "other grid"; });
      }
    });
    place.append(table, button("Save as CSV (e)", () => this.export()));
  }

  export() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([asCSV(this.common.measures, this.arms)], { type: "text/csv" }));
    const synthetic = this.arms.some((arm) => arm.facts.generated);
    link.download = `${synthetic ? "SYNTHETIC-" : ""}measures-${this.study.id}.csv`;
    link.click();
    URL.revokeObjectURL(link.href);
  }
}

// The previous or the next image or case of the page.
function follow(where) {
  document.querySelector(`a[rel=${where}]`)?.click();
}

function button(text, action) {
  const made = Object.assign(document.createElement("button"), { type: "button", textContent: text });
  made.addEventListener("click", action);
  return made;
}

function precise(value) {
  return Number.isFinite(value) ? String(+value.toPrecision(4)) : "—";
}

function sampled(values) {
  const step = Math.max(1, Math.floor(values.length / 20000)), found = [];
  for (let k = 0; k < values.length; k += step) found.push(values[k]);
  return found;
}

function fraction(event, pane) {
  const box = pane.canvas.getBoundingClientRect();
  return Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
}

// A viewer of this page with its keys and tools; without a study it shows nothing until it is given one.
export function attach(root, study) {
  const viewer = new Viewer(root, null);
  window.medloomViewer = viewer;
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input:not([type=radio]), textarea, select")) return;
    // A button that has the focus is pressed by the blank itself.
    if (event.key === " " && event.target.matches("button, a, summary")) return;
    viewer.onKey(event);
  });
  root.addEventListener("click", (event) => {
    const tool = event.target.closest("[data-key]");
    if (tool) viewer.onKey(new KeyboardEvent("keydown", { key: tool.dataset.key }));
  });
  if (study) viewer.show(study);
  return viewer;
}

// The viewer of this page, if the page says what it shows.
const own = document.querySelector("[data-viewer]"), shown = document.getElementById("study");
if (own && shown) attach(own, JSON.parse(shown.textContent));
