// Rating by keys: one image or pair after the other, the next ones read ahead, answers sent in the background.
import { Outbox, newId } from "./outbox.js";
import { attach } from "../viewer/viewer.js";
import { forgetSource, openSource } from "../viewer/source.js";

// Places that are read ahead, the values that they may have together, and ratings from which the time that is left is known.
const AHEAD = 4, MOST_VALUES = 2 ** 26, TIMED = 3;

class Session {
  constructor(root, setup) {
    this.root = root;
    this.setup = setup;
    this.part = (name) => root.querySelector(`[data-${name}]`);
    this.done = new Map(setup.done);
    // Places in the order in which they were done, so that the last one can be taken back.
    this.order = setup.done.map(([place]) => place);
    this.seconds = [...setup.seconds];
    this.cases = new Map();
    this.remembered = new Map();
    this.place = null;
    this.hidden = 0;
    this.latencies = [];
    this.viewer = attach(root.querySelector("[data-viewer]"), null);
    const headers = JSON.parse(document.body.getAttribute("hx-headers"));
    this.outbox = new Outbox(setup.base, headers, { changed: () => this.say(), refused: (entry, sentence) => this.refuse(entry, sentence) });
    // What an earlier page could not send any more is done too.
    this.outbox.pending().forEach((entry) => this.note(entry));
    this.outbox.send();
    this.answers = {};
    this.flags = new Set();
  }

  note({ kind, place, seconds }) {
    this.order = this.order.filter((other) => other !== place);
    if (kind === "undo") return this.done.delete(place);
    this.done.set(place, kind);
    this.order.push(place);
    if (kind === "rating") this.seconds.push(seconds);
    return true;
  }

  // The next place without an answer after one, from the beginning again where there is none; null at the end.
  after(place) {
    const { total } = this.setup;
    for (let k = 1; k <= total; k++) {
      const next = (place + k + total) % total;
      if (!this.done.has(next)) return next;
    }
    return null;
  }

  case(place) {
    if (!this.cases.has(place)) {
      const read = fetch(`${this.setup.base}/${place}`).then((reply) => {
        if (!reply.ok) throw new Error(`The image cannot be read (${reply.status}).`);
        return reply.json();
      });
      // One that failed is asked for again.
      read.catch(() => this.cases.delete(place));
      this.cases.set(place, read);
    }
    return this.cases.get(place);
  }

  async show(place, began = performance.now()) {
    this.place = place;
    this.feedback = false;
    // Until it is seen it cannot be rated.
    this.opened = undefined;
    if (place === null) return this.end();
    this.part("end").hidden = true;
    this.part("work").hidden = false;
    this.clear();
    let known;
    try {
      known = await this.case(place);
      if (this.place !== place) return;
      this.fill(place, known);
      await this.viewer.show(known.study);
    } catch (error) {
      this.tell(`${error.message} Skip it, or load the page again.`);
    }
    if (this.place !== place) return;
    this.opened = performance.now();
    this.hidden = 0;
    requestAnimationFrame(() => this.latencies.push(performance.now() - began));
    this.readAhead(place);
  }

  // The text of a place, and what was answered there before.
  fill(place, { text, about, given }) {
    this.part("number").textContent = `${place + 1} of ${this.setup.total}`;
    this.part("text").textContent = text || "no text";
    this.part("about").textContent = about;
    const kept = this.remembered.get(place) ?? given;
    if (kept) {
      this.answers = { ...kept.answers };
      this.flags = new Set(kept.flags);
      this.part("comment").value = kept.comment;
    }
    this.press();
    this.say();
  }

  clear() {
    this.answers = {};
    this.flags = new Set();
    this.part("comment").value = "";
    this.tell("");
    this.press();
  }

  async readAhead(place) {
    let next = place;
    const wanted = new Set([place]);
    for (let k = 0; k < AHEAD; k++) {
      next = this.after(next);
      if (next === null || wanted.has(next)) break;
      wanted.add(next);
    }
    for (const [old, known] of this.cases) {
      if (wanted.has(old) || this.order.slice(-2).includes(old)) continue;
      this.cases.delete(old);
      known.then(({ study }) => study.arms.forEach(({ base }) => forgetSource(base)), () => {});
    }
    let values = 0;
    for (const each of wanted) {
      if (values > MOST_VALUES) return;
      try {
        const { study } = await this.case(each), sources = await Promise.all(study.arms.map((arm) => openSource(arm.base)));
        values += sources.reduce((sum, source) => sum + source.values.length, 0);
      } catch {
        // It is said when it is shown.
        return;
      }
    }
  }

  choose(name, value) {
    if (this.feedback) return;
    this.answers[name] = value;
    this.press();
    this.tell("");
  }

  flag(name) {
    if (!this.flags.delete(name)) this.flags.add(name);
    this.press();
  }

  press() {
    this.root.querySelectorAll("[data-answer]").forEach((button) => {
      const { item, index } = button.dataset, asked = this.setup.items.find(({ name }) => name === item);
      button.setAttribute("aria-pressed", this.answers[item] === asked.answers[index].value);
    });
    this.root.querySelectorAll("[data-flag]").forEach((button) => button.setAttribute("aria-pressed", this.flags.has(button.dataset.flag)));
  }

  // How long the image was looked at, without the time that the page was hidden.
  elapsed() {
    return Math.max(0, performance.now() - this.opened - this.hidden) / 1000;
  }

  entry(kind) {
    const rates = kind === "rating", comment = this.part("comment").value.slice(0, 2000);
    return {
      id: newId(), place: this.place, kind, answers: rates ? { ...this.answers } : {}, flags: rates ? [...this.flags] : [],
      comment: kind === "undo" ? "" : comment, seconds: Math.round(this.elapsed() * 1000) / 1000,
    };
  }

  submit() {
    const began = performance.now();
    if (this.place === null || this.opened === undefined) return;
    if (this.feedback) return this.show(this.after(this.place), began);
    const open = this.setup.items.find(({ name }) => this.answers[name] === undefined);
    if (open) return this.tell(`${open.question}: choose an answer first, by its key.`);
    const entry = this.entry("rating"), answered = this.keep(entry);
    this.remembered.set(entry.place, entry);
    if (this.setup.practice) return this.reveal(answered, entry);
    this.show(this.after(entry.place), began);
  }

  skip() {
    const began = performance.now();
    if (this.place === null || this.opened === undefined || this.feedback) return;
    const { place } = this;
    this.keep(this.entry("skip"));
    this.show(this.after(place), began);
  }

  keep(entry) {
    this.note(entry);
    const answered = this.outbox.add(entry);
    this.opened = undefined;
    this.say();
    return answered;
  }

  // Back to the last one, with its answers.
  undo() {
    if (this.setup.practice) return this.tell("In practice an answer stays.");
    const last = this.order.at(-1);
    if (last === undefined) return this.tell("There is nothing to take back.");
    this.outbox.add({ id: newId(), place: last, kind: "undo", answers: {}, flags: [], comment: "", seconds: 0 });
    if (this.done.get(last) === "rating") this.seconds.pop();
    this.note({ kind: "undo", place: last });
    this.show(last);
  }

  async reveal(answered, { answers }) {
    this.tell("Waiting for the answer…");
    const { truth } = await answered, guess = answers.confidence;
    const right = guess === 3 ? "You could not say" : (guess > 3) === (truth === "synthetic") ? "You were right" : "You were wrong";
    this.feedback = true;
    this.opened = performance.now();
    this.tell(`${right}: it is ${truth}. Enter shows the next one.`);
  }

  refuse(entry, sentence) {
    this.done.delete(entry.place);
    this.order = this.order.filter((place) => place !== entry.place);
    this.part("refused").textContent = `Image ${entry.place + 1} was not kept: ${sentence}`;
    if (this.place === null) this.show(entry.place);
  }

  tell(words) {
    this.part("message").textContent = words;
  }

  // Progress, the time that is left, and what is not saved yet.
  say() {
    const { total } = this.setup, rated = [...this.done.values()].filter((kind) => kind === "rating").length;
    const waiting = this.outbox.pending().length;
    this.part("bar").max = total;
    this.part("bar").value = this.done.size;
    const left = this.seconds.length >= TIMED && this.done.size < total ? ` · about ${words(median(this.seconds) * (total - this.done.size))} left` : "";
    this.part("progress").textContent = `${rated} rated${this.done.size > rated ? `, ${this.done.size - rated} skipped` : ""} of ${total}${left}`;
    const unsaved = this.part("unsaved");
    unsaved.hidden = !this.outbox.trouble;
    unsaved.textContent = this.outbox.trouble && `Not saved yet: ${waiting}. ${this.outbox.trouble}`;
    this.part("saved").textContent = waiting ? "saving…" : "all saved";
  }

  end() {
    this.part("work").hidden = true;
    this.part("end").hidden = false;
    const skipped = [...this.done].filter(([, kind]) => kind === "skip");
    this.part("skipped").hidden = !skipped.length;
    this.part("skipped").textContent = `Rate the ${skipped.length} that you skipped`;
    this.say();
    this.part("end").focus();
  }

  // What was skipped is open again.
  reopen() {
    const skipped = [...this.done].filter(([, kind]) => kind === "skip").map(([place]) => place).sort((a, b) => a - b);
    skipped.forEach((place) => { this.done.delete(place); this.order = this.order.filter((other) => other !== place); });
    this.show(skipped[0] ?? null);
  }

  onKey(event) {
    const { target, key } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || document.getElementById("keymap").open) return;
    if (target === this.part("comment")) {
      // Keys are text here; these two lead back to rating.
      if (key === "Enter" || key === "Escape") { target.blur(); event.preventDefault(); }
      return;
    }
    if (target.matches("input, textarea, select") || this.place === null) return;
    // Whatever else has the focus is pressed by Enter itself.
    if (key === "Enter" && target.matches("button:not([data-answer]), a, summary")) return;
    const chosen = this.root.querySelector(`[data-answer][data-rating-key="${CSS.escape(key)}"]`), flag = this.root.querySelector(`[data-flag][data-rating-key="${CSS.escape(key)}"]`);
    if (chosen) this.choosePressed(chosen);
    else if (flag) this.flag(flag.dataset.flag);
    else if (key === "Enter" || key === "ArrowRight") this.submit();
    else if (key === "z" || key === "ArrowLeft") this.undo();
    else if (key === ".") this.skip();
    else if (key === "q") this.part("comment").focus();
    else return;
    event.preventDefault();
  }

  choosePressed({ dataset }) {
    const { answers } = this.setup.items.find(({ name }) => name === dataset.item);
    this.choose(dataset.item, answers[dataset.index].value);
  }

  onClick({ target }) {
    const button = target.closest("button");
    if (!button) return;
    if (button.dataset.answer !== undefined) this.choosePressed(button);
    if (button.dataset.flag) this.flag(button.dataset.flag);
    if (button.dataset.act) this[button.dataset.act]();
  }
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b), half = Math.floor(sorted.length / 2);
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

function words(seconds) {
  const minutes = Math.ceil(seconds / 60);
  return minutes < 2 ? "a minute" : minutes < 90 ? `${minutes} min` : `${Math.round(minutes / 60)} h`;
}

const root = document.querySelector("[data-rating]");
const session = new Session(root, JSON.parse(document.getElementById("setup").textContent));
window.medloomRating = session;
document.addEventListener("keydown", (event) => session.onKey(event));
root.addEventListener("click", (event) => session.onClick(event));
let left = 0;
document.addEventListener("visibilitychange", () => {
  if (document.hidden) left = performance.now();
  else session.hidden += performance.now() - left;
});
addEventListener("beforeunload", (event) => {
  if (session.outbox.isSafe === false && session.outbox.pending().length) event.preventDefault();
});
// Going back shows the page as it was, and more may be rated by now.
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
session.show(session.after(-1));
