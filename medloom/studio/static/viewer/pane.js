// One picture of the viewer: a slice in a window of values, with what has to be known of it written on it.
import { draw as drawMeasures } from "./measures.js";

const FONT = "12px system-ui, sans-serif";
// Red above, blue below; grey where a difference does not exceed the noise.
const ABOVE = [214, 69, 44], BELOW = [50, 120, 214];
// How much colour the smallest difference has.
const LEAST = 0.15;

export class Pane {
  constructor(canvas, state) {
    this.canvas = canvas;
    this.state = state;
    this.source = null;
    this.behind = null;
    this.picture = document.createElement("canvas");
  }

  show(source, behind = null) {
    this.source = source;
    this.behind = behind;
    this.draw();
  }

  // Pixels of the screen for a pixel of the image, along both axes.
  scale(slice) {
    const box = this.canvas.getBoundingClientRect();
    const [dx, dy] = slice.mm ?? [1, 1];
    const unit = Math.min(dx, dy);
    const wide = slice.width * dx / unit, high = slice.height * dy / unit;
    const fit = Math.min(box.width / wide, box.height / high);
    const zoom = this.state.zoom === "fit" ? fit : this.state.zoom;
    return [zoom * dx / unit, zoom * dy / unit];
  }

  // Where the image begins on the screen.
  origin(slice) {
    const box = this.canvas.getBoundingClientRect(), [sx, sy] = this.scale(slice);
    return [(box.width - slice.width * sx) / 2 + this.state.x, (box.height - slice.height * sy) / 2 + this.state.y];
  }

  slice(source = this.source) {
    return source.slice(this.state.plane, Math.min(this.state.level, source.levels(this.state.plane) - 1));
  }

  // From a place on the screen to one in the image.
  place(event) {
    const box = this.canvas.getBoundingClientRect(), slice = this.slice();
    const [left, top] = this.origin(slice), [sx, sy] = this.scale(slice);
    return [(event.clientX - box.left - left) / sx, (event.clientY - box.top - top) / sy];
  }

  draw() {
    const box = this.canvas.getBoundingClientRect(), ratio = devicePixelRatio || 1;
    if (!this.source || !box.width) return;
    this.canvas.width = Math.round(box.width * ratio);
    this.canvas.height = Math.round(box.height * ratio);
    const context = this.canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.fillStyle = "#000";
    context.fillRect(0, 0, box.width, box.height);
    const slice = this.slice();
    context.imageSmoothingEnabled = this.state.smooth;
    this.put(context, this.source, slice);
    if (this.behind) this.curtain(context, box);
    drawMeasures(context, this, slice);
    this.write(context, box, slice);
  }

  put(context, source, slice) {
    const [left, top] = this.origin(slice), [sx, sy] = this.scale(slice);
    // Painted once as long as only its place and its size change.
    const { low, high, invert, plane, level, reach, noise } = this.state, how = [low, high, invert, plane, level, reach, noise].join();
    if (this.painted?.source !== source || this.painted.how !== how) paint(this.picture, source, slice, this.state);
    this.painted = { source, how };
    context.drawImage(this.picture, left, top, slice.width * sx, slice.height * sy);
  }

  // The other image to the right of the curtain, or as an overlay of some opacity.
  curtain(context, box) {
    context.save();
    if (this.state.curtain !== null) {
      context.beginPath();
      context.rect(box.width * this.state.curtain, 0, box.width, box.height);
      context.clip();
    } else {
      context.globalAlpha = this.state.opacity;
    }
    this.put(context, this.behind, this.slice(this.behind));
    context.restore();
    if (this.state.curtain !== null) {
      context.fillStyle = "#e8b04a";
      context.fillRect(box.width * this.state.curtain - 1, 0, 2, box.height);
    }
  }

  write(context, box, slice) {
    const { facts } = this.source, { state } = this;
    context.font = FONT;
    context.textBaseline = "top";
    const line = (text, x, y, align, colour = "#d8dee0") => {
      context.textAlign = align;
      context.lineWidth = 3;
      context.strokeStyle = "#000";
      context.strokeText(text, x, y);
      context.fillStyle = colour;
      context.fillText(text, x, y);
    };
    const upper = [facts.label, facts.support];
    if (!state.blind && facts.generated) upper.push("SYNTHETIC");
    upper.filter(Boolean).forEach((text, k) => line(text, 6, 6 + 15 * k, "left", text === "SYNTHETIC" ? "#ff9d94" : undefined));
    const [sx] = this.scale(slice);
    const size = `${slice.width} × ${slice.height}` + (slice.mm ? `, ${slice.mm.map((mm) => +mm.toFixed(2)).join(" × ")} mm` : "");
    const enlarged = sx > 1.05 ? `enlarged ${+sx.toFixed(1)}×` : sx < 0.95 ? `reduced ${+(1 / sx).toFixed(1)}×` : "1:1";
    // A reader who is to be blind could tell generated images by their size.
    const lower = state.blind ? [this.valueWords()] : [this.valueWords(), size, enlarged];
    if (this.source.isVolume) lower.push(`${state.plane} ${Math.min(state.level, this.source.levels(state.plane) - 1) + 1} of ${this.source.levels(state.plane)}`);
    lower.forEach((text, k) => line(text, 6, box.height - 18 - 15 * (lower.length - 1 - k), "left"));
    const [left, right, top, bottom] = slice.edges;
    if (left || right) {
      line(left ?? "", 6, box.height / 2, "left", "#e8b04a");
      line(right ?? "", box.width - 6, box.height / 2, "right", "#e8b04a");
    } else if (!state.blind) {
      line("side not known", box.width - 6, box.height - 18, "right");
    }
    line(top ?? "", box.width / 2, 6, "center", "#e8b04a");
    line(bottom ?? "", box.width / 2, box.height - 18, "center", "#e8b04a");
    if (this.source.facts.isDifference) this.scaleBar(context, box, line);
    if (state.cursor) this.cross(context, slice);
  }

  // What the colours of a difference mean: the scale of all arms of the case.
  scaleBar(context, box, line) {
    const wide = Math.min(160, box.width / 3), left = box.width - wide - 8, top = box.height - 34, steps = 40;
    for (let k = 0; k < steps; k++) {
      context.fillStyle = `rgb(${shade((2 * (k + 0.5)) / steps - 1, 0)})`;
      context.fillRect(left + (wide * k) / steps, top, wide / steps + 1, 8);
    }
    const reach = short(this.state.reach);
    line(`−${reach}`, left, top - 15, "left");
    line("0", left + wide / 2, top - 15, "center");
    line(reach, left + wide, top - 15, "right");
  }

  valueWords() {
    const { state } = this, { facts } = this.source;
    if (facts.isDifference) return `−${short(state.reach)} to ${short(state.reach)} ${facts.unit}`;
    return `W ${short(state.high - state.low)} L ${short((state.high + state.low) / 2)} ${facts.unit}`;
  }

  // The place of the cursor in another picture.
  cross(context, slice) {
    const [left, top] = this.origin(slice), [sx, sy] = this.scale(slice), [x, y] = this.state.cursor;
    context.strokeStyle = "#63cfc2";
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(left + x * sx - 8, top + y * sy);
    context.lineTo(left + x * sx + 8, top + y * sy);
    context.moveTo(left + x * sx, top + y * sy - 8);
    context.lineTo(left + x * sx, top + y * sy + 8);
    context.stroke();
  }
}

export function short(value) {
  return Math.abs(value) >= 10 ? String(Math.round(value)) : String(+value.toPrecision(2));
}

// The colour of a difference, as a part of the largest one that the scale has. Grey within the noise alone: whatever
// exceeds it is coloured, however small it is.
function shade(value, noise) {
  const size = Math.abs(value), part = size <= noise || size === 0 ? 0 : LEAST + (1 - LEAST) * Math.min(size, 1), colour = value > 0 ? ABOVE : BELOW;
  return colour.map((level) => Math.round(96 + (level - 96) * part));
}

// The slice as pixels of a small canvas.
function paint(canvas, source, slice, state) {
  canvas.width = slice.width;
  canvas.height = slice.height;
  const context = canvas.getContext("2d"), image = context.createImageData(slice.width, slice.height), { data } = image;
  const { values, step } = slice, span = Math.max(state.high - state.low, 1e-6);
  for (let k = 0; k < step; k++) {
    if (source.facts.isDifference) {
      data.set(shade(values[k] / state.reach, state.noise / state.reach), 4 * k);
    } else if (source.channels === 3) {
      for (let c = 0; c < 3; c++) {
        const level = (values[c * step + k] - state.low) / span * 255;
        data[4 * k + c] = state.invert ? 255 - level : level;
      }
    } else {
      const level = (values[k] - state.low) / span * 255;
      data[4 * k] = data[4 * k + 1] = data[4 * k + 2] = state.invert ? 255 - level : level;
    }
    data[4 * k + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}
