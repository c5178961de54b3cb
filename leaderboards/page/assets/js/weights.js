// Weights by slider: the reader's own score, each column 0 at one fixed value and 1 at another.
const weighable = metrics.filter((c) => columns[c].anchors);
function yourScore(i) {
  let total = 0, whole = 0;
  for (const [c, weight] of Object.entries(view.weights || {})) {
    if (!weight || !columns[c].anchors) continue;
    const [worst, best] = columns[c].anchors, value = columns[c].mean[i];
    if (missing(value)) return null;
    total += weight * Math.min(1, Math.max(0, (value - worst) / (best - worst)));
    whole += weight;
  }
  return whole ? total / whole : null;
}
if (weighable.length > 1 && entries.length > 1) {
  const sliders = h("div", { class: "sliders" });
  const used = () => [...new Set([...Object.keys(board.weights), ...Object.keys(view.weights || {})].map(Number))];
  const add = select([["", "add a column …"], ...weighable.map((c) => [String(c), shortName(c)])], "", (c) => {
    if (c === "") return;
    view.weights = { ...(view.weights || board.weights), [c]: 0.5 };
    use();
  });
  function use() {
    if (view.sort !== "score") { view.sort = "score"; view.down = true; }
    changed("table", "weights");
  }
  const reset = h("button", { type: "button", id: "reset-weights", onclick: () => {
    view.weights = null;
    if (view.sort === "score") { view.sort = "place"; view.down = false; }
    changed("table", "weights");
  } }, "Back to the declared order");
  const panel = h("details", { class: "weights" }, h("summary", {}, "Weigh columns yourself"),
    h("p", { class: "lede" }, "Your score orders the table by what matters to you. It says nothing about how certain that order is: places, bars and marks stay those of the declared order."),
    sliders, h("div", { class: "controls" }, field("Column", add), reset));
  scroller.before(panel);
  redraws.push(["weights", () => {
    if (view.weights) panel.open = true;
    add.value = "";
    reset.disabled = !view.weights;
    sliders.replaceChildren(...used().map((c) => {
      const [worst, best] = columns[c].anchors || [0, 1];
      const now = (view.weights || board.weights)[c] ?? 0;
      const shown = h("output", {}, now.toFixed(2));
      const slider = h("input", { type: "range", min: "0", max: "1", step: "0.05", value: String(now), "data-weight": columns[c].key,
        "aria-label": `Weight of ${columns[c].label}`, oninput: () => {
          view.weights = { ...(view.weights || board.weights), [c]: Number(slider.value) };
          shown.textContent = Number(slider.value).toFixed(2);
          reset.disabled = false;
          if (view.sort !== "score") { view.sort = "score"; view.down = true; }
          changed("table");
        } });
      return h("label", {}, h("span", {}, shortName(c), h("small", {}, `0 at ${worst}, 1 at ${best}`)), slider, shown);
    }));
  }]);
}
