// The trade-off of two columns: every entry with both intervals, and the front that none beats.
const SHAPES = [
  (x, y, r) => `M${x - r},${y}a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0`,
  (x, y, r) => `M${x - r},${y - r}h${2 * r}v${2 * r}h${-2 * r}z`,
  (x, y, r) => `M${x},${y - 1.25 * r}l${1.2 * r},${2.1 * r}h${-2.4 * r}z`,
  (x, y, r) => `M${x},${y - 1.35 * r}l${1.35 * r},${1.35 * r}l${-1.35 * r},${1.35 * r}l${-1.35 * r},${-1.35 * r}z`,
  (x, y, r) => `M${x},${y + 1.25 * r}l${1.2 * r},${-2.1 * r}h${-2.4 * r}z`,
  (x, y, r) => `M${x - r},${y - r}l${2 * r},${2 * r}M${x + r},${y - r}l${-2 * r},${2 * r}`,
  (x, y, r) => `M${x - r * 1.2},${y}h${2.4 * r}M${x},${y - r * 1.2}v${2.4 * r}`,
];
const CROWD = 1000;
function ticks(low, high, about = 5) {
  const raw = (high - low) / about;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * unit).find((s) => s >= raw);
  const out = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-9; v += step) out.push(v);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9) + (String(step / unit).includes(".") ? 1 : 0));
  return out.map((v) => [v, v.toFixed(Math.min(digits, 6))]);
}
/** Points that no other is at least as good as on both and better on one. */
function frontOf(points) {
  const sorted = [...points].sort((p, q) => q.gx - p.gx || q.gy - p.gy);
  const out = new Set();
  let best = -Infinity, edge = null;
  for (const p of sorted) {
    if (p.gy > best) { best = p.gy; edge = p; out.add(p); }
    else if (edge && p.gy === best && p.gx === edge.gx) out.add(p);
  }
  return out;
}
if (columns.length > 1) {
  const node = section("plot", "Trade-off",
    "Each point is an entry; bars are its intervals. Filled points are on the front: no other entry is at least as good on both and better on one. Up and to the right is better.");
  const canvas = h("div", { class: "plot" });
  const legend = h("div", { class: "legend" });
  const options = metrics.map((c) => [String(c), columnName(c)]);
  const up = select(options, "", (v) => { view.y = +v; changed("plot"); }, "plot-y");
  const across = select(options, "", (v) => { view.x = +v; changed("plot"); }, "plot-x");
  const colours = swept.length ? select([["", "none"], ...swept.map((a) => [a, a])], "", (v) => { view.colour = v; changed("plot"); }) : null;
  node.append(h("div", { class: "controls" }, field("Up", up), field("Across", across), colours ? field("Colour", colours) : null),
    h("figure", {}, canvas, legend));

  function axes(root, box, x, y, px, py, compact) {
    const { W, H, L, R, T, B } = box;
    for (const [v, text] of ticks(...box.xs, compact ? 4 : 7)) {
      root.append(h("svg:line", { class: "grid", x1: px(v), x2: px(v), y1: T, y2: H - B }),
        h("svg:text", { x: px(v), y: H - B + 18, "text-anchor": "middle" }, text));
    }
    for (const [v, text] of ticks(...box.ys, 6)) {
      root.append(h("svg:line", { class: "grid", x1: L, x2: W - R, y1: py(v), y2: py(v) }),
        h("svg:text", { x: L - 9, y: py(v) + 4, "text-anchor": "end" }, text));
    }
    root.append(h("svg:text", { class: "axis-title", x: (L + W - R) / 2, y: H - 8, "text-anchor": "middle" }, compact ? shortName(x) : columnName(x)),
      h("svg:text", { class: "axis-title", transform: `translate(14 ${(T + H - B) / 2}) rotate(-90)`, "text-anchor": "middle" }, compact ? shortName(y) : columnName(y)));
  }
  function mark(p, front, k, px, py, bars, named, W) {
    const { x, y } = view, ink = `var(--c${k})`, cx = px(p.a), cy = py(p.b), i = p.i;
    const text = [entries[i].label, `${columnName(y)} ${fixed(p.b, y)}`, `${columnName(x)} ${fixed(p.a, x)}`];
    const pick = () => choose(i, !view.chosen.includes(i));
    const right = cx < W * 0.75, X = columns[x], Y = columns[y];
    return h("svg:g", { tabindex: "0", role: "img", "aria-label": text.join(", "), ...explained(() => text.join("\n")),
      onclick: pick, onkeydown: (e) => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); pick(); } } },
    bars && !missing(X.low[i]) ? h("svg:line", { class: "bar", x1: px(X.low[i]), x2: px(X.high[i]), y1: cy, y2: cy, stroke: ink }) : null,
    bars && !missing(Y.low[i]) ? h("svg:line", { class: "bar", x1: cx, x2: cx, y1: py(Y.low[i]), y2: py(Y.high[i]), stroke: ink }) : null,
    h("svg:circle", { class: "ring", cx, cy, r: 10 }),
    h("svg:path", { class: `point ${front ? "" : "off"}`, d: SHAPES[k](cx, cy, 5), stroke: ink, fill: front ? ink : null }),
    named ? h("svg:text", { x: cx + (right ? 10 : -10), y: cy - 8, "text-anchor": right ? "start" : "end", "aria-hidden": "true" }, entries[i].label) : null);
  }
  function drawPlot() {
    up.value = String(view.y);
    across.value = String(view.x);
    if (colours) colours.value = view.colour;
    const { x, y, colour } = view;
    const compact = canvas.clientWidth && canvas.clientWidth < 560;
    const box = compact ? { W: 420, H: 380, L: 62, R: 14, T: 14, B: 50 } : { W: 900, H: 470, L: 62, R: 14, T: 14, B: 50 };
    const points = entries.map((_, i) => ({ i, a: mean(i, x), b: mean(i, y) })).filter((p) => !missing(p.a) && !missing(p.b))
      .map((p) => ({ ...p, gx: sign(x) * p.a, gy: sign(y) * p.b }));
    const bars = points.length <= CROWD;
    const root = h("svg:svg", { viewBox: `0 0 ${box.W} ${box.H}`, role: "group",
      "aria-label": `${columnName(y)} against ${columnName(x)}, ${points.length} entries` });
    canvas.replaceChildren(root);
    legend.replaceChildren();
    if (!points.length) return;
    const range = (c, key) => {
      let low = Infinity, high = -Infinity;
      for (const p of points) {
        const v = p[key], l = bars ? columns[c].low[p.i] : null, u = bars ? columns[c].high[p.i] : null;
        low = Math.min(low, missing(l) ? v : l);
        high = Math.max(high, missing(u) ? v : u);
      }
      const pad = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
      return [low - pad, high + pad];
    };
    box.xs = range(x, "a");
    box.ys = range(y, "b");
    // A column where lower is better runs the other way, so that up and right is better.
    const scale = (v, [low, high], from, to, turned) => from + (to - from) * (turned ? (high - v) : (v - low)) / (high - low);
    const px = (v) => scale(v, box.xs, box.L, box.W - box.R, sign(x) < 0);
    const py = (v) => scale(v, box.ys, box.H - box.B, box.T, sign(y) < 0);
    axes(root, box, x, y, px, py, compact);
    const front = frontOf(points);
    const line = [...front].sort((p, q) => px(p.a) - px(q.a));
    if (line.length > 1) root.append(h("svg:path", { class: "front", d: `M${line.map((p) => `${px(p.a)},${py(p.b)}`).join("L")}` }));
    const levels = colour ? board.axes[colour] : [];
    const kind = (i) => Math.max(0, levels.indexOf(entries[i].axes?.[colour])) % 7;
    if (!bars) {  // so many points that a shape of its own for each would take seconds
      const paths = Array.from({ length: 7 }, () => []);
      for (const p of points) if (!front.has(p)) paths[kind(p.i)].push(SHAPES[0](px(p.a), py(p.b), 2));
      paths.forEach((parts, k) => { if (parts.length) root.append(h("svg:path", { class: "crowd", d: parts.join(""), fill: `var(--c${k})` })); });
    }
    for (const p of [...points].sort((p, q) => front.has(p) - front.has(q))) {
      if (bars || front.has(p)) root.append(mark(p, front.has(p), kind(p.i), px, py, bars, points.length <= 10, box.W));
    }
    legend.replaceChildren(...levels.slice(0, 40).map((value, k) => h("span", {},
      h("svg:svg", { viewBox: "0 0 14 14", "aria-hidden": "true" },
        h("svg:path", { d: SHAPES[k % 7](7, 7, 4.2), fill: `var(--c${k % 7})`, stroke: `var(--c${k % 7})`, "stroke-width": 1.6 })),
      `${colour} ${value}`)));
  }
  redraws.push(["plot", drawPlot]);
  let narrow = innerWidth < 640;
  addEventListener("resize", () => {
    if ((innerWidth < 640) !== narrow) { narrow = innerWidth < 640; drawPlot(); }
  });
}
