// What a rater did, until the studio has it: sent in order, again and again with the same id, and kept over a reload.

// Milliseconds before the next try; twice as long each time, up to the second number.
const FIRST_WAIT = 500, LONGEST_WAIT = 10000;
let counted = 0;

export class Outbox {
  // base: address of the session; headers: of changes; listener: { changed(), refused(entry, sentence) }.
  constructor(base, headers, listener) {
    this.base = base;
    this.headers = headers;
    this.listener = listener;
    this.prefix = `rating ${base} `;
    this.waiting = new Map();
    this.promises = new Map();
    this.trouble = "";
    this.sending = false;
    for (let k = 0; k < localStorage.length; k++) {
      const key = localStorage.key(k);
      if (key.startsWith(this.prefix)) this.waiting.set(key, JSON.parse(localStorage.getItem(key)));
    }
  }

  // Entries that the studio does not have yet, the first one first.
  pending() {
    return [...this.waiting.keys()].sort().map((key) => this.waiting.get(key));
  }

  // Keep an entry and send it; resolves with the studio's answer.
  add(entry) {
    const key = `${this.prefix}${String(Date.now()).padStart(16, "0")} ${String(counted++).padStart(6, "0")} ${entry.id}`;
    this.waiting.set(key, entry);
    try {
      localStorage.setItem(key, JSON.stringify(entry));
      this.isSafe = true;
    } catch {
      // A browser that keeps nothing: the page asks before it is left.
      this.isSafe = false;
    }
    const answered = new Promise((resolve) => this.promises.set(entry.id, resolve));
    this.send();
    return answered;
  }

  async send() {
    if (this.sending) return;
    this.sending = true;
    let wait = FIRST_WAIT;
    while (this.waiting.size) {
      const [key] = [...this.waiting.keys()].sort(), entry = this.waiting.get(key);
      const { status, answer, sentence } = await this.post(entry);
      if (status === "kept" || status === "refused") {
        this.forget(key);
        this.trouble = "";
        wait = FIRST_WAIT;
        if (status === "refused") this.listener.refused(entry, sentence);
        else this.promises.get(entry.id)?.(answer);
        this.promises.delete(entry.id);
      } else {
        this.trouble = sentence;
      }
      this.listener.changed();
      if (status === "locked") break;
      if (status === "later") {
        await new Promise((resolve) => { setTimeout(resolve, wait); });
        wait = Math.min(2 * wait, LONGEST_WAIT);
      }
    }
    this.sending = false;
  }

  async post(entry) {
    let reply, html;
    try {
      const headers = { ...this.headers, "Content-Type": "application/json", "HX-Request": "true" };
      reply = await fetch(`${this.base}/${entry.place}`, { method: "POST", headers, body: JSON.stringify(entry) });
      if (reply.ok) return { status: "kept", answer: await reply.json() };
      html = await reply.text();
    } catch {
      return { status: "later", sentence: "The studio does not answer; it is tried again." };
    }
    const said = new DOMParser().parseFromString(html, "text/html").body.textContent.trim();
    if ([401, 403].includes(reply.status)) return { status: "locked", sentence: "You are logged out: load this page again and log in, and they are sent." };
    if (reply.status >= 500 || reply.status === 429) return { status: "later", sentence: `${said} It is tried again.` };
    return { status: "refused", sentence: said };
  }

  forget(key) {
    this.waiting.delete(key);
    localStorage.removeItem(key);
  }
}

// A UUID; `crypto.randomUUID` is not there on pages without TLS.
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
