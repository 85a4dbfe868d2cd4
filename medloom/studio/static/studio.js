// What all pages share: keys, light and dark, copying, and filling in examples.
const GO = { g: "/generate", e: "/edit", w: "/whatif", c: "/cases", b: "/readings", p: "/phantom", r: "/runs", h: "/history", a: "/about" };
let going = false;

function isTyping(target) {
  return target.matches("input, textarea, select, [contenteditable]");
}

function onKey(event) {
  const dialog = document.getElementById("keymap");
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    document.querySelector("[data-main-form]")?.requestSubmit();
    return;
  }
  if (isTyping(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "?") dialog.open ? dialog.close() : dialog.showModal();
  // On a page that is worked by letters they lead nowhere else.
  else if (going && GO[event.key] && !document.querySelector("[data-rating]")) location.assign(GO[event.key]);
  going = event.key === "g" && !going;
}

function onClick(event) {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.id === "keys") document.getElementById("keymap").showModal();
  if (button.id === "theme") changeTheme();
  if (button.dataset.fill) {
    const field = document.querySelector(`[name="${button.dataset.fill}"]`);
    field.value = button.textContent;
    field.focus();
  }
  if (button.dataset.use) take(button);
  if (button.classList.contains("copy")) {
    navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
    button.textContent = "Copied";
  }
}

// Take a setting of a job over into the form of this page; where it has none, open one with this setting alone.
function take({ dataset }) {
  const field = document.querySelector("[data-main-form]")?.elements.namedItem(dataset.use);
  if (!field) return location.assign(dataset.otherwise);
  if (field.type === "checkbox") field.checked = true;
  else field.value = dataset.value;
  field.focus?.();
}

function changeTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = localStorage.getItem("theme") ?? (dark ? "dark" : "light");
  localStorage.setItem("theme", now === "dark" ? "light" : "dark");
  applyTheme();
}

function applyTheme() {
  const chosen = localStorage.getItem("theme");
  document.documentElement.classList.toggle("dark", chosen === "dark");
  document.documentElement.classList.toggle("light", chosen === "light");
}

// A form with mistakes takes the place of the form that was sent, not of the result.
document.addEventListener("htmx:beforeSwap", (event) => {
  const { xhr } = event.detail;
  if (xhr.status === 422) event.detail.target = document.getElementById("form");
});
// A form is sent once; and what was wrong is right once it was accepted.
function isSent({ elt, requestConfig }) {
  return requestConfig.verb === "post" && elt.matches("[data-main-form]");
}
function lockForm(form, locked) {
  form.querySelectorAll("button.main").forEach((button) => { button.disabled = locked; });
}
document.addEventListener("htmx:beforeRequest", (event) => { if (isSent(event.detail)) lockForm(event.detail.elt, true); });
document.addEventListener("htmx:afterRequest", (event) => {
  const { elt, successful } = event.detail;
  if (!isSent(event.detail)) return;
  lockForm(elt, false);
  if (!successful) return;
  const result = document.getElementById("result");
  if (result && result.getBoundingClientRect().top < 0) result.scrollIntoView();
  elt.querySelectorAll(".wrong:not([data-drop-said])").forEach((said) => said.remove());
  elt.querySelectorAll("[aria-invalid]").forEach((field) => field.removeAttribute("aria-invalid"));
});
// While the studio does not answer, what a page says of a job is old.
document.addEventListener("htmx:sseError", () => document.body.classList.add("lost"));
document.addEventListener("htmx:sseOpen", () => document.body.classList.remove("lost"));
// A field that is folded away cannot say what is wrong with it.
document.addEventListener("invalid", (event) => event.target.closest("details")?.setAttribute("open", ""), true);
// Another choice is another page.
document.addEventListener("change", (event) => {
  const open = event.target.closest("[data-open]");
  if (open) location.assign(open.dataset.open + encodeURIComponent(event.target.value));
});
document.addEventListener("keydown", onKey);
document.addEventListener("click", onClick);
applyTheme();

// Files that are brought: dropped or chosen, each becomes a choice in its list.
async function bring(drop, file) {
  const said = drop.parentElement.querySelector("[data-drop-said]"), { largest } = drop.dataset;
  if (file.size > Number(largest)) {
    said.textContent = `${file.name} is too large: it has ${Math.ceil(file.size / 2 ** 20)} MB, and at most ${Math.floor(largest / 2 ** 20)} MB can be brought; bring a smaller file, or start the studio with --upload-mb.`;
    return;
  }
  said.textContent = `Reading ${file.name}…`;
  try {
    await send(drop, file, said);
  } catch {
    said.textContent = `${file.name} has not come to the studio: look whether it still runs and whether the file is still there, and bring it again.`;
  }
}

async function send(drop, file, said) {
  const form = new FormData();
  form.append("file", file, file.name);
  const { "X-Studio-Secret": secret } = JSON.parse(document.body.getAttribute("hx-headers"));
  const headers = { "X-Studio-Secret": secret, "HX-Request": "true" };
  const answer = await fetch(`/uploads/${drop.dataset.drop}`, { method: "POST", body: form, headers });
  const html = await answer.text();
  if (answer.headers.get("HX-Redirect")) location.assign(answer.headers.get("HX-Redirect"));
  if (!answer.ok) {
    said.textContent = new DOMParser().parseFromString(html, "text/html").body.textContent.trim();
    return;
  }
  if (drop.dataset.drop === "find") {
    said.innerHTML = html;
    return;
  }
  said.textContent = "";
  const list = document.getElementById(drop.dataset.into);
  list.insertAdjacentHTML("afterbegin", html);
  list.querySelector("input").dispatchEvent(new Event("change", { bubbles: true }));
}

document.addEventListener("change", (event) => {
  const drop = event.target.closest("[data-drop]");
  if (drop && event.target.files?.length) bring(drop, event.target.files[0]);
});
document.addEventListener("dragover", (event) => {
  if (event.target.closest("[data-drop]")) event.preventDefault();
});
document.addEventListener("drop", (event) => {
  const drop = event.target.closest("[data-drop]");
  if (!drop) return;
  event.preventDefault();
  if (event.dataTransfer.files.length) bring(drop, event.dataTransfer.files[0]);
});

// What-if: sliders next to their numbers, and changes that are noted as further arms.
document.addEventListener("input", (event) => {
  const { target } = event;
  if (target.dataset.mirror) {
    const number = target.form.elements[target.dataset.mirror], span = target.max - target.min;
    number.value = span >= 10 ? Math.round(target.value) : Number(target.value).toPrecision(3);
  }
});

function changes(form) {
  return [...form.elements].filter((field) => field.name?.startsWith("set.")).map((field) => {
    const name = field.name.slice(4), was = form.elements[`was.${name}`].value;
    return field.value && field.value !== was ? `${name}=${field.value}` : null;
  }).filter(Boolean).join(",");
}

document.addEventListener("click", (event) => {
  const note = event.target.closest("[data-note-arm]"), drop = event.target.closest("[data-drop-arm]");
  if (drop) drop.closest("li").remove();
  if (!note) return;
  const { form } = note, arm = changes(form), list = form.querySelector("[data-arms]");
  if (!arm) return;
  const item = document.createElement("li"), hidden = Object.assign(document.createElement("input"), { type: "hidden", name: "arm", value: arm });
  const remove = Object.assign(document.createElement("button"), { type: "button", textContent: "×" });
  remove.setAttribute("aria-label", `Leave ${arm} out`);
  remove.dataset.dropArm = "";
  item.append(hidden, arm, " ", remove);
  list.append(item);
  form.querySelectorAll("[name^='set.']").forEach((field) => { field.value = form.elements[`was.${field.name.slice(4)}`].value; });
});
