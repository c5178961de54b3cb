// What earlier plans of the runs made: means of their own, not ranked, not compared.
if (board.earlier.length) {
  const node = section("earlier", "Earlier plans", "Results of earlier plans that the current plan no longer includes. They are kept, but neither ranked nor compared: each mean is over the videos that were made then, which may be of other samples.");
  const list = h("div", { class: "scroller tall", tabindex: "0", role: "region", "aria-label": "Earlier plans" });
  node.append(list);
  redraws.push(["columns", () => {
    const shown = inOrder.filter((c) => view.columns.includes(c) && columns[c].sample);
    const runs = board.sources.length > 1;
    list.replaceChildren(h("table", {}, h("thead", {}, h("tr", {}, h("th", { class: "name", scope: "col" }, "Setting"), runs ? h("th", { scope: "col" }, "Run") : null,
      shown.map((c) => h("th", { scope: "col", class: "metric" }, h("span", explained(() => columns[c].about), shortName(c)))), h("th", { scope: "col" }, "Videos"))),
    h("tbody", {}, board.earlier.map((one) => h("tr", {}, h("td", { class: "name" }, one.label), runs ? h("td", {}, one.source) : null,
      shown.map((c) => h("td", {}, fixed(one.means[c], c))), h("td", {}, String(one.videos)))))));
  }]);
}
