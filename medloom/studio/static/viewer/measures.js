// Lengths, regions and the cardiothoracic ratio: drawn once, measured in every arm.

// A measure: kind, places in pixels of the image, plane and level.
export function isComplete(measure) {
  return measure.places.length === (measure.kind === "ratio" ? 4 : 2);
}

export function describe(measure) {
  return { length: "length", region: "region", ratio: "cardiothoracic ratio" }[measure.kind];
}

// Whether a measure that was drawn on one image can be taken in another: on the same grid, of the same size in mm.
export function fits(measure, source) {
  const slice = source.slice(measure.plane, Math.min(measure.level, source.levels(measure.plane) - 1));
  return gridOf(slice) === measure.grid;
}

export function gridOf(slice) {
  return [slice.width, slice.height, ...(slice.mm ?? []).map((mm) => mm.toFixed(4))].join();
}

// Where a measure is, in words.
export function place(measure, source) {
  return source.isVolume ? `, ${measure.plane} ${measure.level + 1}` : "";
}

// What a measure says of an image: name -> [value, unit].
export function measured(measure, source) {
  const slice = source.slice(measure.plane, measure.level);
  const [dx, dy] = slice.mm ?? [1, 1], unit = slice.mm ? "mm" : "pixels";
  const length = ([ax, ay], [bx, by]) => Math.hypot((ax - bx) * dx, (ay - by) * dy);
  const [a, b, c, d] = measure.places;
  if (measure.kind === "length") return { length: [length(a, b), unit] };
  if (measure.kind === "ratio") return { heart: [length(a, b), unit], thorax: [length(c, d), unit], ratio: [length(a, b) / length(c, d), ""] };
  const values = inside(slice, a, b);
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(values.length - 1, 1);
  return {
    mean: [mean, source.facts.unit],
    SD: [Math.sqrt(variance), source.facts.unit],
    area: [values.length * dx * dy, slice.mm ? "mm²" : "pixels"],
  };
}

// The values within an ellipse whose box has two corners; of colours the mean over channels.
function inside(slice, [ax, ay], [bx, by]) {
  const rx = Math.max(Math.abs(ax - bx) / 2, 0.5), ry = Math.max(Math.abs(ay - by) / 2, 0.5), cx = (ax + bx) / 2, cy = (ay + by) / 2;
  const channels = slice.values.length / slice.step, found = [];
  for (let y = Math.max(0, Math.floor(cy - ry)); y <= Math.min(slice.height - 1, cy + ry); y++) {
    for (let x = Math.max(0, Math.floor(cx - rx)); x <= Math.min(slice.width - 1, cx + rx); x++) {
      if (((x + 0.5 - cx) / rx) ** 2 + ((y + 0.5 - cy) / ry) ** 2 > 1) continue;
      let sum = 0;
      for (let channel = 0; channel < channels; channel++) sum += slice.values[channel * slice.step + y * slice.width + x];
      found.push(sum / channels);
    }
  }
  return found.length ? found : [NaN];
}

export function draw(context, pane, slice) {
  const [left, top] = pane.origin(slice), [sx, sy] = pane.scale(slice);
  const at = ([x, y]) => [left + x * sx, top + y * sy];
  pane.state.measures.forEach((measure, index) => {
    if (measure.plane !== pane.state.plane || measure.level !== pane.state.level || gridOf(slice) !== measure.grid) return;
    context.strokeStyle = context.fillStyle = "#ffd75e";
    context.lineWidth = 1.5;
    context.font = "12px system-ui, sans-serif";
    for (let k = 0; k + 1 < measure.places.length; k += 2) {
      const [ax, ay] = at(measure.places[k]), [bx, by] = at(measure.places[k + 1]);
      context.beginPath();
      if (measure.kind === "region") context.ellipse((ax + bx) / 2, (ay + by) / 2, Math.abs(ax - bx) / 2, Math.abs(ay - by) / 2, 0, 0, 2 * Math.PI);
      else { context.moveTo(ax, ay); context.lineTo(bx, by); }
      context.stroke();
      context.textAlign = "left";
      context.fillText(String(index + 1), Math.max(ax, bx) + 4, by);
    }
  });
}

// All measures of all arms as the rows of a CSV file.
export function asCSV(measures, arms) {
  const rows = [["measure", "kind", "arm", "what", "value", "unit", "plane", "level", "places", "seed", "condition", "model"]];
  measures.filter(isComplete).forEach((measure, index) => {
    for (const source of arms.filter((arm) => fits(measure, arm))) {
      const { facts } = source, plane = source.isVolume ? measure.plane : "", level = source.isVolume ? measure.level + 1 : "";
      for (const [what, [value, unit]] of Object.entries(measured(measure, source))) {
        const places = measure.places.map((place) => place.map((x) => x.toFixed(1)).join(" ")).join("; ");
        rows.push([index + 1, describe(measure), facts.label, what, value, unit, plane, level, places, facts.seed, facts.condition, facts.model]);
      }
    }
  });
  return rows.map((row) => row.map(cell).join(",")).join("\n") + "\n";
}

function cell(value) {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
