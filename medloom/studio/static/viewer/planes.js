// A pane that shows a volume in three planes at once, by NiiVue, which needs WebGL 2; differences lie over the anatomy.
const SCRIPT = "/static/vendor/niivue.umd.js";
const ABOVE = { R: [96, 214, 255], G: [60, 69, 150], B: [50, 44, 120], A: [0, 200, 255], I: [0, 128, 255] };
const BELOW = { R: [40, 50, 130], G: [70, 120, 190], B: [96, 214, 255], A: [0, 200, 255], I: [0, 128, 255] };
const OVERLAY = 0.8;
// NiiVue's colours from zero to the largest value, transparent below the smallest one; the library does not export it.
const TRANSPARENT_BELOW_MIN = 1;

let library = null;

// Whether this browser can draw in three planes.
export function canDraw() {
  return document.createElement("canvas").getContext("webgl2") !== null;
}

// NiiVue, read when it is wanted for the first time.
function read() {
  library ??= new Promise((resolve, reject) => {
    const script = Object.assign(document.createElement("script"), { src: SCRIPT });
    script.addEventListener("load", () => resolve(window.niivue));
    script.addEventListener("error", () => reject(new Error("The script of the three planes cannot be read.")));
    document.head.append(script);
  });
  return library;
}

export class PlanesPane {
  // moved: is called with the pane and its place when the cursor moves; windowed: with the window that was drawn.
  constructor(canvas, state, mark, { moved, windowed }) {
    this.canvas = canvas;
    this.state = state;
    this.mark = mark;
    this.moved = moved;
    this.windowed = windowed;
    this.source = this.base = this.overlay = null;
    this.ready = read().then((module) => this.attach(module));
  }

  async attach(module) {
    this.module = module;
    const { DRAG_MODE, SHOW_RENDER, SLICE_TYPE } = module;
    this.view = new module.Niivue({
      backColor: [0, 0, 0, 1], crosshairColor: [0.39, 0.81, 0.76, 0.8], crosshairWidth: 0.3, crosshairWidthUnit: "percent", fontColor: [0.91, 0.69, 0.29, 1], dragAndDropEnabled: false,
      dragMode: DRAG_MODE.windowing, dragModePrimary: DRAG_MODE.crosshair, isColorbar: false, isRadiologicalConvention: true,
      loadingText: "", logLevel: "error", multiplanarShowRender: SHOW_RENDER.NEVER, sagittalNoseLeft: true, show3Dcrosshair: false,
      viewModeHotKey: "", clipPlaneHotKey: "", cycleClipPlaneHotKey: "",
    });
    this.view.addColormap("above", ABOVE);
    this.view.addColormap("below", BELOW);
    await this.view.attachToCanvas(this.canvas);
    this.view.setSliceType(SLICE_TYPE.MULTIPLANAR);
    this.view.onLocationChange = (place) => this.moved(this, place);
// NiiVue says nothing of a window that was drawn.
    this.canvas.addEventListener("pointerup", () => setTimeout(() => this.compare()));
  }

  // under: the anatomy that a difference lies over; behind: another image over this one, where that is wanted.
  async show(source, behind = null, under = null) {
    this.source = source;
    const base = under ?? source, overlay = under ? source : behind;
    await this.ready;
    if (this.shown?.[0] !== base || this.shown?.[1] !== overlay) {
      this.shown = [base, overlay];
      const volumes = [await this.volume(base), overlay && await this.volume(overlay)];
      // Something else was wanted meanwhile.
      if (this.shown[0] !== base || this.shown[1] !== overlay) return;
      for (const volume of [...this.view.volumes]) this.view.removeVolume(volume);
      for (const volume of volumes.filter(Boolean)) this.view.addVolume(volume);
      [this.base, this.overlay] = volumes;
      this.view.setIsOrientationTextVisible(base.facts.oriented);
    }
    this.draw();
  }

  async volume(source) {
    const { isDifference, label } = source.facts, { NVImage } = this.module;
    const colours = isDifference ? { colormap: "above", colormapNegative: "below" } : { colormap: "gray" };
    const volume = await NVImage.loadFromUrl({ url: "volume.nii", name: label, buffer: asNIfTI(source), ...colours });
    if (isDifference) volume.colormapType = TRANSPARENT_BELOW_MIN;
    return volume;
  }

  draw() {
    if (!this.base) return;
    const { state } = this;
    this.base.colormapInvert = state.invert;
    [this.base.cal_min, this.base.cal_max] = [state.low, state.high];
    if (this.overlay?.colormapNegative) {
      [this.overlay.cal_min, this.overlay.cal_max] = [Math.max(state.noise, state.reach / 1000), state.reach];
      [this.overlay.cal_minNeg, this.overlay.cal_maxNeg] = [-state.reach, -this.overlay.cal_min];
    } else if (this.overlay) {
      [this.overlay.cal_min, this.overlay.cal_max] = [state.low, state.high];
    }
    if (this.overlay) this.overlay.opacity = state.opacity || OVERLAY;
    this.view.setInterpolation(!state.smooth);
    this.view.updateGLVolume();
    this.mark.replaceChildren(...this.words());
  }

  words() {
    const { facts, size } = this.source, { state } = this;
    const window = `W ${short(state.high - state.low)} L ${short((state.high + state.low) / 2)}`;
    const lines = [[facts.label], [facts.support], [window]];
    if (!state.blind) lines.push([`${size.join(" × ")}${facts.spacing ? `, ${facts.spacing.map((mm) => +mm.toFixed(2)).join(" × ")} mm` : ""}`]);
    if (facts.isDifference) lines.push([`colours: −${short(state.reach)} to ${short(state.reach)} ${facts.unit}`]);
    if (facts.generated && !state.blind) lines.push(["SYNTHETIC", "synthetic"]);
    return lines.filter(([text]) => text).map(([text, style]) => Object.assign(document.createElement("span"), { textContent: text, className: style ?? "" }));
  }

  compare() {
    const { cal_min: low, cal_max: high } = this.base ?? {};
    if (this.base && (low !== this.state.low || high !== this.state.high)) this.windowed({ low, high });
  }

  // The cursor of this pane is that of others.
  follow(others) {
    this.ready.then(() => this.view.broadcastTo(others.map((other) => other.view), { "2d": true, "3d": true }));
  }

  // What a browser has few of: contexts of WebGL.
  async close() {
    await this.ready;
    this.view.cleanup();
    this.view.gl.getExtension("WEBGL_lose_context")?.loseContext();
  }
}

function short(value) {
  return Math.abs(value) >= 10 ? String(Math.round(value)) : String(+value.toPrecision(2));
}

// A volume as a NIfTI-1 file. Its values are in C order, which is that of the file with the axes turned about.
export function asNIfTI(source) {
  const [x, y, z] = source.size, header = new DataView(new ArrayBuffer(352));
  const affine = source.facts.affine ?? [0, 1, 2].map((row) => [0, 1, 2, 3].map((column) => (row === column ? (source.facts.spacing?.[row] ?? 1) : 0)));
  header.setInt32(0, 348, true);
  [3, z, y, x, 1, 1, 1, 1].forEach((value, k) => header.setInt16(40 + 2 * k, value, true));
  const bytes = source.values.BYTES_PER_ELEMENT;
  // Signed whole numbers, or floating-point ones, and their bits.
  header.setInt16(70, bytes === 2 ? 4 : 16, true);
  header.setInt16(72, 8 * bytes, true);
  const lengths = [2, 1, 0].map((column) => Math.hypot(...[0, 1, 2].map((row) => affine[row][column])));
  [1, ...lengths, 1, 1, 1, 1].forEach((value, k) => header.setFloat32(76 + 4 * k, value, true));
  header.setFloat32(108, 352, true);
  header.setFloat32(112, 1, true);
  header.setUint8(123, 2);
  header.setInt16(254, 1, true);
  [0, 1, 2].forEach((row) => [2, 1, 0, 3].forEach((column, k) => header.setFloat32(280 + 16 * row + 4 * k, affine[row][column], true)));
  [0x6e, 0x2b, 0x31, 0].forEach((byte, k) => header.setUint8(344 + k, byte));
  const file = new Uint8Array(352 + bytes * x * y * z), values = source.values.subarray(0, x * y * z);
  file.set(new Uint8Array(header.buffer));
  file.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), 352);
  return file.buffer;
}
