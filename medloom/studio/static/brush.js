// A region drawn on the prior image: brought to the studio as a label map on the prior image's grid.

const COLOUR = "rgb(232 176 74 / .55)";

class Brush {
  constructor(root) {
    this.root = root;
    this.canvas = root.querySelector("canvas");
    this.hidden = root.querySelector("input[type=hidden]");
    this.region = document.createElement("canvas");
    this.picture = new Image();
    this.at = null;
    // Regions that were drawn so far; an answer to an older one is too late.
    this.version = 0;
    this.pending = null;
    this.canvas.addEventListener("pointerdown", (event) => { this.canvas.setPointerCapture(event.pointerId); this.last = null; this.stroke(event); });
    this.canvas.addEventListener("pointermove", (event) => { if (event.buttons) this.stroke(event); });
    this.canvas.addEventListener("pointerup", () => this.bring());
    this.canvas.addEventListener("keydown", (event) => this.onKey(event));
    root.querySelector("[data-brush-clear]").addEventListener("click", () => this.clear());
  }

  get size() {
    return Number(this.root.querySelector("[data-brush-size]").value);
  }

  // Draw on another image.
  async open(address) {
    const facts = await (await fetch(address.replace("picture.png", "facts"))).json();
    const [, height, width] = facts.shape;
    this.picture.src = `${address}?side=0`;
    await this.picture.decode();
    Object.assign(this.region, { width, height });
    Object.assign(this.canvas, { width, height });
    this.at = [width / 2, height / 2];
    const known = this.hidden.value;
    this.clear();
    if (known) await this.recall(known);
  }

  // Show a region that was drawn before.
  async recall(known) {
    const picture = new Image();
    picture.src = `/uploads/${known}/picture.png?side=0`;
    try {
      await picture.decode();
    } catch {
      return;
    }
    const { width, height } = this.region, context = this.region.getContext("2d");
    if (picture.naturalWidth !== width || picture.naturalHeight !== height) return;
    context.drawImage(picture, 0, 0);
    const image = context.getImageData(0, 0, width, height);
    for (let k = 0; k < image.data.length; k += 4) image.data.set(image.data[k] ? [232, 176, 74, 140] : [0, 0, 0, 0], k);
    context.putImageData(image, 0, 0);
    this.hidden.value = known;
    this.draw();
  }

  clear() {
    this.version += 1;
    this.region.getContext("2d").clearRect(0, 0, this.region.width, this.region.height);
    this.hidden.value = "";
    this.draw();
  }

  draw() {
    const context = this.canvas.getContext("2d");
    context.drawImage(this.picture, 0, 0, this.canvas.width, this.canvas.height);
    context.drawImage(this.region, 0, 0);
    if (document.activeElement === this.canvas) {
      context.strokeStyle = "#e8b04a";
      context.beginPath();
      context.arc(...this.at, this.size / 2, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  stroke(event) {
    const box = this.canvas.getBoundingClientRect();
    const to = [(event.clientX - box.left) * this.canvas.width / box.width, (event.clientY - box.top) * this.canvas.height / box.height];
    this.line(this.last ?? to, to);
    this.last = to;
  }

  line(from, to) {
    const context = this.region.getContext("2d");
    Object.assign(context, { strokeStyle: COLOUR, lineWidth: this.size, lineCap: "round", globalCompositeOperation: "source-over" });
    context.beginPath();
    context.moveTo(...from);
    context.lineTo(to[0] + 0.01, to[1]);
    context.stroke();
    this.draw();
  }

  onKey(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (step) this.at = [this.at[0] + step[0] * this.size / 2, this.at[1] + step[1] * this.size / 2];
    else if (event.key === " ") { this.line(this.at, this.at); this.bring(); } else return;
    event.preventDefault();
    this.draw();
  }

  // Bring the label map, and let the form wait for it.
  bring() {
    this.version += 1;
    this.pending = this.send(this.version);
    return this.pending;
  }

  // 1 where something was drawn.
  async send(version) {
    const { width, height } = this.region, { data } = this.region.getContext("2d").getImageData(0, 0, width, height);
    const map = Object.assign(document.createElement("canvas"), { width, height }), context = map.getContext("2d"), image = context.createImageData(width, height);
    for (let k = 0; k < width * height; k++) {
      const level = data[4 * k + 3] > 0 ? 1 : 0;
      image.data.set([level, level, level, 255], 4 * k);
    }
    context.putImageData(image, 0, 0);
    const blob = await new Promise((resolve) => map.toBlob(resolve, "image/png"));
    const form = new FormData();
    form.append("file", blob, "region.png");
    const { "X-Studio-Secret": secret } = JSON.parse(document.body.getAttribute("hx-headers"));
    const answer = await fetch("/uploads/region", { method: "POST", body: form, headers: { "X-Studio-Secret": secret } });
    const html = await answer.text();
    if (version === this.version) this.hidden.value = answer.ok ? html.match(/value="([^"]+)"/)[1] : "";
  }
}

let brush = null;

// A form that is sent has the last stroke too.
document.addEventListener("htmx:confirm", (event) => {
  if (!brush?.pending || event.target.id !== "edit") return;
  event.preventDefault();
  const { pending } = brush;
  pending.finally(() => {
    if (brush.pending === pending) brush.pending = null;
    event.detail.issueRequest(true);
  });
});

// Show the brush where it is chosen, on the prior image that is chosen.
function follow() {
  const root = document.querySelector("[data-brush]");
  if (!root) return;
  const wanted = document.querySelector("[name=region]:checked")?.value === "brush", prior = document.querySelector("[name=prior]:checked");
  root.hidden = !(wanted && prior);
  if (root.hidden) return;
  if (brush?.root !== root) window.medloomBrush = brush = new Brush(root);
  if (brush.address !== prior.dataset.picture) {
    // A region that was drawn before belongs to the image that it was drawn on.
    if (brush.address) brush.hidden.value = "";
    brush.address = prior.dataset.picture;
    brush.open(brush.address);
  }
}

document.addEventListener("change", follow);
document.addEventListener("htmx:afterSettle", follow);
follow();
