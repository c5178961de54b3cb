// What could not be made or measured.
if (board.failures.length) {
  const node = section("failures", "Failures", "What could not be generated or measured, and why. A failure counts as the metric's worst value, unless the table says otherwise.");
  const most = 500;
  node.append(h("div", { class: "scroller tall", tabindex: "0", role: "region", "aria-label": "Failures" },
    h("table", { class: "long" }, h("thead", {}, h("tr", {}, ["Entry", "Sample", "What", "Why"].map((t) => h("th", { scope: "col", class: "left" }, t)))),
      h("tbody", {}, board.failures.slice(0, most).map((cells) => h("tr", {}, cells.map((t) => h("td", { class: "left" }, t))))))));
  if (board.failures.length > most) {
    node.append(h("p", { class: "lede" }, `${board.failures.length - most} more: 'stdrc bench status RUN' lists them.`));
  }
}
