// Samples: the reference, the prompt, and the chosen entries' videos side by side. Videos and scores
// come in pieces of entries, loaded when an entry is chosen.
const pieces = new Map();
window.STDRC_PIECE = (n, piece) => { pieces.get(n)?.(piece); pieces.set(n, piece); };
function load(n) {
  if (pieces.has(n)) return Promise.resolve();
  return new Promise((done) => {
    pieces.set(n, () => done());
    document.body.append(h("script", { src: `samples/${n}.js`, onerror: () => { pieces.set(n, []); done(); } }));
  });
}
const pieceOf = (i) => pieces.get(Math.floor(i / browser.per))?.[i % browser.per];
const scoreOf = (i, k, c) => pieceOf(i)?.scores[k]?.[c];
let keepSample = () => {};
function choose(i, on) {
  keepSample();  // another entry changes the order of samples, not the one that is looked at
  view.chosen = on ? [...view.chosen.filter((one) => one !== i), i] : view.chosen.filter((one) => one !== i);
  for (const box of body.querySelectorAll(`tr[data-entry="${CSS.escape(entries[i].key)}"] input`)) box.checked = on;
  changed("samples");
}
if (browser.slots.length) {
  const node = section("samples", "Samples", "The reference, the prompt, and the chosen entries' videos side by side. Choose entries here, by their boxes in the table, or by their points in the plot.");
  const sampled = metrics.filter((c) => columns[c].sample);
  const usual = sampled.includes(Number(board.pair[0])) ? Number(board.pair[0]) : sampled[0];
  if (view.by < 0) view.by = usual ?? -1;
  defaults.by = view.by;
  let at = 0, ordered = browser.slots.map((_, k) => k);
  keepSample = () => { view.sample = browser.slots[at].title; };
  const about = h("div", { class: "about" });
  const videos = h("div", { class: "videos", id: "videos" });
  const chips = h("div", { class: "chips", role: "group", "aria-label": "Entries to show" });
  const chipSearch = h("input", { type: "search", placeholder: "Find an entry", "aria-label": "Find an entry", oninput: () => drawChips() });
  const summary = h("summary");
  const picker = h("select", { id: "sample", onchange: () => { view.sample = browser.slots[+picker.value].title; changed("samples"); } });
  const step = (by) => {
    const next = ordered[(ordered.indexOf(at) + by + ordered.length) % ordered.length];
    view.sample = browser.slots[next].title;
    changed("samples");
  };
  const play = h("button", { type: "button", class: "primary", id: "play", onclick: () => {
    const all = [...videos.querySelectorAll("video")];
    const start = all.some((v) => v.paused);
    for (const video of all) {
      if (start) { video.currentTime = 0; video.play().catch(() => {}); } else video.pause();
    }
    play.textContent = start ? "Pause all" : "Play all";
  } }, "Play all");
  const loop = h("input", { type: "checkbox", checked: true,
    onchange: () => videos.querySelectorAll("video").forEach((v) => { v.loop = loop.checked; }) });
  const orders = [["gap", "gap: first less last chosen"], ["score", "score of the first chosen"], ["spread", "disagreement of all"], ["set", "as in the set"]];
  const orderPick = select(orders, "gap", (v) => { view.order = v; view.sample = ""; changed("samples"); }, "sample-order");
  const byPick = select(sampled.map((c) => [String(c), columnName(c)]), "", (v) => { view.by = +v; view.sample = ""; changed("samples"); }, "sample-by");
  node.append(h("div", { class: "controls" }, field("Sample", picker),
    h("span", { class: "pager" }, h("button", { type: "button", "aria-label": "Previous sample", onclick: () => step(-1) }, "←"),
      h("button", { type: "button", id: "next", "aria-label": "Next sample", onclick: () => step(1) }, "→")),
    sampled.length ? [field("Sorted by", orderPick), field("of", byPick)] : null,
    play, h("label", { class: "check" }, loop, "Loop")),
  h("details", { class: "chooser" }, summary, entries.length > 40 ? chipSearch : null, chips),
  h("div", { class: "browser" }, about, videos));

  function drawChips() {
    const words = chipSearch.value.toLowerCase();
    const found = entries.map((_, i) => i).filter((i) => entries[i].label.toLowerCase().includes(words));
    const shown = [...new Set([...view.chosen, ...found.slice(0, 200)])];
    chips.replaceChildren(...shown.map((i) => h("button", { type: "button", "aria-pressed": String(view.chosen.includes(i)),
      "data-chip": entries[i].key, onclick: () => choose(i, !view.chosen.includes(i)) }, entries[i].label)),
    found.length > 200 ? h("span", { class: "dim" }, `and ${found.length - 200} more; type a part of the name`) : "");
  }
  /** What samples are sorted by, larger first; nothing where it cannot be told. */
  function worth(k) {
    const c = view.by, shown = view.chosen;
    if (c < 0) return undefined;
    if (view.order === "spread") return browser.spread[c]?.[k] ?? undefined;
    const first = scoreOf(shown[0], k, c), last = scoreOf(shown.at(-1), k, c);
    if (view.order === "score") return missing(first) ? undefined : sign(c) * first;
    if (view.order !== "gap" || shown.length < 2 || missing(first) || missing(last)) return undefined;
    return sign(c) * (first - last);
  }
  function drawPicker() {
    const values = browser.slots.map((_, k) => view.order === "set" ? undefined : worth(k));
    ordered = browser.slots.map((_, k) => k).sort((a, b) => {
      const x = values[a], y = values[b];
      return missing(x) || missing(y) ? missing(x) - missing(y) || a - b : y - x || a - b;
    });
    const wanted = browser.slots.findIndex((slot) => slot.title === view.sample);
    at = wanted >= 0 ? wanted : ordered[0];
    picker.replaceChildren(...ordered.map((k) => {
      const v = values[k];
      const told = missing(v) ? "" : ` (${view.order === "score" ? fixed(sign(view.by) * v, view.by) : fixed(v, view.by)})`;
      return h("option", { value: String(k), selected: k === at }, browser.slots[k].title + told);
    }));
  }
  function card(i, slot) {
    const entry = entries[i], piece = pieceOf(i), media = piece?.media[at], scores = piece?.scores[at];
    let shown;
    if (typeof media === "string") {
      // Native controls cover a small video, so they come with the pointer or the keyboard's focus.
      const reveal = () => { video.controls = true; };
      const conceal = () => { if (document.activeElement !== video) video.controls = false; };
      const video = h("video", { src: media, muted: true, playsinline: true, preload: "auto", tabindex: "0",
        loop: loop.checked, onpointerenter: reveal, onfocus: reveal, onpointerleave: conceal,
        onblur: () => { video.controls = false; }, "aria-label": `${entry.label}, ${slot.title}`,
        onloadedmetadata: () => video.style.setProperty("--ratio", `${video.videoWidth} / ${video.videoHeight}`),
        onerror: () => video.replaceWith(h("div", { class: "blank" }, "This video cannot be played.")) });
      video.muted = true;
      shown = video;
    } else {
      shown = h("div", { class: "blank" }, media ? media[0] : "no video of this sample");
    }
    const listed = [...new Set([view.by, ...inOrder.filter((c) => view.columns.includes(c))])].filter((c) => sampled.includes(c));
    return h("article", { class: "card", "data-card": entry.key }, shown,
      h("header", {}, h("h3", {}, entry.told ? `${entry.told} · ${entry.label}` : entry.label),
        h("button", { type: "button", "aria-label": `Hide ${entry.label}`, onclick: () => choose(i, false) }, "hide")),
      h("dl", {}, listed.flatMap((c) => [h("dt", {}, shortName(c)), h("dd", {}, fixed(scores ? scores[c] : undefined, c))])));
  }
  function drawSample() {
    orderPick.value = view.order;
    if (view.by >= 0) byPick.value = String(view.by);
    drawPicker();
    const slot = browser.slots[at];
    about.replaceChildren(
      h("div", { class: `refs ${slot.refs.length > 1 ? "many" : ""}` }, slot.refs.length
        ? slot.refs.map((path) => typeof path === "string" ? h("img", { src: path, alt: `Reference of ${slot.identity}` })
          : h("div", { class: "blank" }, path[0]))
        : h("div", { class: "blank" }, "no reference")),
      h("dl", {}, h("div", {}, h("dt", {}, "Identity"), h("dd", {}, slot.identity)),
        h("div", {}, h("dt", {}, "Prompt"), h("dd", { id: "prompt" }, slot.prompt || "–"))));
    videos.replaceChildren(...view.chosen.map((i) => card(i, slot)));
    if (!view.chosen.length) videos.append(h("p", { class: "dim" }, "Choose entries above to see their videos."));
    play.textContent = "Play all";
    summary.textContent = `Entries shown: ${view.chosen.length} of ${entries.length}`;
    drawChips();
  }
  redraws.push(["columns", () => { if (videos.children.length) drawSample(); }]);
  redraws.push(["samples", () => {
    const needed = [...new Set(view.chosen.map((i) => Math.floor(i / browser.per)))];
    if (needed.every((n) => Array.isArray(pieces.get(n)))) drawSample();
    else Promise.all(needed.map(load)).then(drawSample);
  }]);
}
