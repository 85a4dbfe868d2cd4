// A blind reading by keys: a letter chooses an answer, Enter or → locks it and continues, a full stop continues without one.
const form = document.querySelector("[data-answers]"), opened = performance.now();

form.addEventListener("submit", () => {
  form.elements.seconds.value = ((performance.now() - opened) / 1000).toFixed(1);
}, { capture: true });

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input:not([type=radio]), textarea, select")) return;
  const chosen = form.querySelector(`[data-answer-key="${CSS.escape(event.key)}"]`), open = !("locked" in form.dataset);
  if (chosen && open) chosen.checked = true;
  else if (["Enter", "ArrowRight"].includes(event.key) && open) form.requestSubmit();
  else if (event.key === "." || (event.key === "Enter" && !open)) form.querySelector("[data-without]").click();
  else return;
  event.preventDefault();
});

// Going back shows the page as it was, and the answer may be locked by now.
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
