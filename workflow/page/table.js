"use strict";
// The heads as a table of one task and method: sorted by any column, of all heads, the significant or the pinned ones;
// to be saved as CSV or JSON.
HeadAtlas.table = (() => {
  const { model, state } = HeadAtlas;
  const { make, find } = HeadAtlas.elements;
  const { say, exact } = HeadAtlas.numbers;
  const COLUMNS = {
    layer: "layer", head: "head", rank: "rank", importance: "importance", effect: "effect",
    ci_low: "interval from", ci_high: "to", p_value: "p", q_value: "q",
  };
  const PAGE = 20; // rows shown at first, and more each time
  let sorted = { by: "rank", up: true };
  let most = PAGE;

  // Rows of one task's statistics: an object for each head that passes the filter.
  function rows(statistics, { significant, pins }, onlyPinned) {
    const all = Array.from({ length: model.layers * model.heads }, (_, index) => index).filter(model.exists);
    const chosen = all.filter((index) => !significant || model.significant(statistics, index))
      .filter((index) => !onlyPinned || pins.includes(index));
    return chosen.map((index) => ({
      layer: Math.floor(index / model.heads),
      head: index % model.heads,
      ...Object.fromEntries(Object.keys(COLUMNS).slice(2).map((name) => [name, exact(statistics[name][index])])),
    }));
  }

  // In order of a column; unknown numbers come last either way.
  function inOrder(list, by, up) {
    const key = (row) => row[by] ?? (up ? Infinity : -Infinity);
    return [...list].sort((a, b) => (up ? 1 : -1) * (key(a) - key(b) || 0) || a.layer - b.layer || a.head - b.head);
  }

  function csv(list, fixed) {
    const names = [...Object.keys(fixed), ...Object.keys(COLUMNS)];
    const cell = (value) => (/[",\n]/.test(value ?? "") ? `"${String(value).replaceAll('"', '""')}"` : value ?? "");
    const lines = list.map((row) => names.map((name) => cell({ ...fixed, ...row }[name])).join(","));
    return [names.join(","), ...lines].join("\n") + "\n";
  }

  function json(list, fixed) {
    return JSON.stringify({ ...fixed, heads: list }, null, 1) + "\n";
  }

  async function selection() {
    const now = state.get();
    const { [now.task]: statistics } = await model.map(now.method);
    const list = rows(statistics, now, find("only-pinned").checked);
    return { now, list: inOrder(list, sorted.by, sorted.up) };
  }

  async function draw() {
    const { now, list } = await selection();
    const heads = Object.entries(COLUMNS).map(([name, words]) => {
      const on = name === sorted.by;
      const order = on ? (sorted.up ? "ascending" : "descending") : null;
      const arrow = on ? (sorted.up ? " ▲" : " ▼") : "";
      const button = make("button", { type: "button", onclick: () => sort(name) }, words + arrow);
      return make("th", { scope: "col", "aria-sort": order }, button);
    });
    const body = list.slice(0, most).map((row) => line(row, now));
    const { unit } = model.atlas.methods[now.method];
    const about = `${model.label(now.task)}, by ${model.methodLabel(now.method)}; effects in ${unit}`;
    find("table").replaceChildren(
      make("caption", {}, `${list.length} heads, ${about}`),
      make("thead", {}, make("tr", {}, heads)), make("tbody", {}, body));
    find("more").hidden = list.length <= most;
  }

  function line(row, now) {
    const index = row.layer * model.heads + row.head;
    const cells = Object.keys(COLUMNS).map((name) => make("td", {}, say(row[name])));
    const onclick = () => state.pin(index, HeadAtlas.comparing());
    const pin = { type: "button", onclick, "aria-label": `Pin ${model.name(index)}` };
    cells[0].replaceChildren(make("button", pin, row.layer));
    const events = { onpointerenter: () => state.set({ at: index }), onpointerleave: () => state.set({ at: null }) };
    return make("tr", { class: now.pins.includes(index) ? "chosen" : null, ...events }, cells);
  }

  function sort(name) {
    const first = ["layer", "head", "rank", "p_value", "q_value"].includes(name); // ascending at first
    sorted = { by: name, up: sorted.by === name ? !sorted.up : first };
    HeadAtlas.try(draw());
  }

  async function save(kind) {
    const { now, list } = await selection();
    const { baseline = null, unit } = model.atlas.methods[now.method];
    const fixed = { model: model.atlas.model, task: now.task, method: now.method, baseline, unit };
    const text = kind === "csv" ? csv(list, fixed) : json(list, fixed);
    const link = make("a", { download: `${model.atlas.model}.${now.task}.${now.method}.${kind}` });
    link.href = URL.createObjectURL(new Blob([text], { type: kind === "csv" ? "text/csv" : "application/json" }));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  function start() {
    find("only-pinned").addEventListener("change", () => HeadAtlas.try(draw()));
    find("more").addEventListener("click", () => {
      most += 5 * PAGE;
      HeadAtlas.try(draw());
    });
    for (const kind of ["csv", "json"]) find(`save-${kind}`).addEventListener("click", () => HeadAtlas.try(save(kind)));
    state.follow(["task", "method", "significant", "pins"], () => HeadAtlas.try(draw()));
  }

  return { start, inOrder, csv, json };
})();
