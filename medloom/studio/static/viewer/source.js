// Images for the viewer: their values, and slices of them as rows and columns.

// Plane of a volume in RAS order: the axis across, that of columns and of rows, and what stands at the four edges.
const PLANES = {
  axial: { across: 2, columns: 0, rows: 1, edges: ["R", "L", "A", "P"] },
  coronal: { across: 1, columns: 0, rows: 2, edges: ["R", "L", "H", "F"] },
  sagittal: { across: 0, columns: 1, rows: 2, edges: ["A", "P", "H", "F"] },
};

export class Source {
  // facts: as the server has them; values: Int16Array or Float32Array, `(C, *spatial)` in C order.
  constructor(facts, values) {
    this.facts = facts;
    this.values = values;
    [this.channels, ...this.size] = facts.shape;
  }

  get isVolume() {
    return this.size.length === 3;
  }

  levels(plane) {
    return this.isVolume ? this.size[PLANES[plane].across] : 1;
  }

  // The value of a voxel.
  at(x, y, z) {
    return this.values[(Math.round(x) * this.size[1] + Math.round(y)) * this.size[2] + Math.round(z)];
  }

  // Rows and columns of a slice, mm of a pixel, and what stands at the left, right, upper and lower edge.
  slice(plane, level) {
    const spacing = this.facts.spacing;
    if (!this.isVolume) {
      const [height, width] = this.size;
      return { width, height, values: this.values, step: width * height, mm: spacing && [spacing[1], spacing[0]], edges: this.facts.edges };
    }
    const { across, columns, rows, edges } = PLANES[plane];
    const width = this.size[columns], height = this.size[rows];
    const strides = [this.size[1] * this.size[2], this.size[2], 1];
    const step = width * height, count = this.size[0] * strides[0];
    const values = new Float32Array(this.channels * step);
    for (let channel = 0; channel < this.channels; channel++) {
      for (let y = 0; y < height; y++) {
        // The radiological convention: both axes are turned about.
        let from = channel * count + level * strides[across] + (height - 1 - y) * strides[rows] + (width - 1) * strides[columns];
        for (let x = 0; x < width; x++, from -= strides[columns]) values[channel * step + y * width + x] = this.values[from];
      }
    }
    const mm = spacing && [spacing[columns], spacing[rows]];
    return { width, height, values, step, mm, edges: this.facts.oriented ? edges : [null, null, null, null] };
  }
}

const opened = new Map();

// The image at an address; one that was opened before is not read again.
export function openSource(base, more = {}) {
  if (!opened.has(base)) {
    const source = read(base);
    // One that failed is asked for again.
    source.catch(() => opened.delete(base));
    opened.set(base, source);
  }
  return opened.get(base).then((source) => new Source({ ...source.facts, ...more }, source.values));
}

// Read it again when it is asked for again.
export function forgetSource(base) {
  opened.delete(base);
}

async function read(base) {
  const [facts, pixels] = await Promise.all([fetch(`${base}/facts`), fetch(`${base}/pixels`)]);
  if (!facts.ok || !pixels.ok) throw new Error(`The image cannot be read (${facts.status}).`);
  const Values = { int16: Int16Array, float32: Float32Array }[pixels.headers.get("X-Values")];
  return new Source(await facts.json(), new Values(await pixels.arrayBuffer()));
}
