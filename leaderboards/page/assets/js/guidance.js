// Heat maps over the two guidance weights.
if (board.guidance.length) {
  const node = section("guidance", "Guidance",
    "Means over the two guidance weights. The outlined cell is the best of its map; deeper colour is better.");
  let panel = 0, first = Number(board.pair[0]), second = Number(board.pair[1]);
  const holder = h("div", { class: "heats" });
  const options = metrics.map((c) => [String(c), columnName(c)]);
  node.append(h("div", { class: "controls" },
    board.guidance.length > 1 ? field("At", select(board.guidance.map((g, k) => [String(k), g.point]), "0",
      (v) => { panel = +v; draw(); })) : null,
    field("First map", select(options, String(first), (v) => { first = +v; draw(); })),
    field("Second map", select(options, String(second), (v) => { second = +v; draw(); }))), holder);
  const draw = () => holder.replaceChildren(...[...new Set([first, second])].map((c) => heat(board.guidance[panel], c)));
  function heat(grid, c) {
    const value = (t, r) => {
      const i = grid.rows[`${t}|${r}`];
      return i === undefined ? undefined : mean(i, c);
    };
    const all = grid.text.flatMap((t) => grid.reference.map((r) => value(t, r))).filter((v) => !missing(v));
    const low = Math.min(...all), high = Math.max(...all);
    const best = sign(c) > 0 ? high : low;
    return h("table", { class: "heat" }, h("caption", {}, columnName(c)),
      h("thead", {}, h("tr", {}, h("th", { class: "corner" }, "reference ↓ text →"),
        grid.text.map((t) => h("th", { scope: "col" }, t)))),
      h("tbody", {}, [...grid.reference].reverse().map((r) => h("tr", {}, h("th", { scope: "row" }, r),
        grid.text.map((t) => {
          const v = value(t, r);
          if (missing(v)) return h("td", { class: "none" }, "–");
          let p = high > low ? (100 * (v - low)) / (high - low) : 50;
          if (sign(c) < 0) p = 100 - p;
          const i = grid.rows[`${t}|${r}`];
          return h("td", { class: `${p > 65 ? "hot" : p > 45 ? "mid" : ""} ${v === best ? "peak" : ""}`, style: { "--p": p.toFixed(1) },
            ...explained(() => cellTip(i, c)) }, fixed(v, c));
        })))));
  }
  draw();
}
