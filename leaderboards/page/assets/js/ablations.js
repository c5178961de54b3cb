// One axis varied, the others held; the columns are those that the table shows.
if (board.ablations.length) {
  const node = section("ablations", "Ablations", "One axis varied, the others held at the named point. Marks are within each table; the columns are those chosen above.");
  const list = h("div", { class: "ablations" });
  node.append(list);
  function draw(table) {
    const shown = inOrder.filter((c) => view.columns.includes(c) && table.columns[c].some(Boolean));
    const local = shown.map((c) => {
      const all = table.columns[c].filter(Boolean).flatMap(([m, low, high]) => [m, low, high]).filter((v) => !missing(v));
      const low = Math.min(...all);
      return { low, width: Math.max(...all) - low || 1 };
    });
    return h("div", {}, h("h3", {}, table.caption),
      h("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": table.caption },
        h("table", {}, h("thead", {}, h("tr", {}, h("th", { class: "name", scope: "col" }, table.axis),
          shown.map((c) => h("th", { scope: "col", class: "metric" }, h("span", explained(() => columns[c].about), shortName(c)))), h("th", { scope: "col" }, "N"))),
        h("tbody", {}, table.values.map((value, k) => h("tr", {}, h("td", { class: "name" }, h("label", {}, h("span", {}, value))),
          shown.map((c, n) => {
            const cell = table.columns[c][k];
            return h("td", {}, cell ? meanCell(cell[0], cell[1], cell[2], cell[5], c, local[n]) : "–");
          }), h("td", {}, String(table.done[k]))))))));
  }
  redraws.push(["columns", () => list.replaceChildren(...board.ablations.map(draw))]);
}
