"use strict";
// The panels: one for each task, a cell for each head. A panel's picture has one pixel per cell, which the browser
// enlarges: 80 x 64 heads on 8 tasks are drawn in milliseconds, and no chart library has to load first.
HeadAtlas.grid = (() => {
  const { model, state, colours } = HeadAtlas;
  const { make, svg, find } = HeadAtlas.elements;
  const { say, signed } = HeadAtlas.numbers;
  const STEPS = [1, 2, 3, 6, 12, 24, 48, 96]; // between ticks, as in the figures
  const MOST_TICKS = 8;
  const WIDTHS = [[1000, 12], [340, 2], [0, 1]]; // of the window, and columns that fit
  const FADED = 0.2; // opacity of a head that is not significant, if only significant ones are wanted
  const panels = {};

  function step(count) {
    return STEPS.find((step) => Math.ceil(count / step) <= MOST_TICKS) ?? count;
  }

  function axis(name, count, title) {
    const every = Math.max(...[model.layers, model.heads].map(step).filter((one) => one < count), step(count));
    const ticks = Array.from({ length: Math.ceil(count / every) }, (_, i) => i * every);
    const side = name === "layers" ? "top" : "left";
    const place = (tick) => ({ [side]: `${((tick + 0.5) / count) * 100}%` });
    const labels = ticks.map((tick) => make("span", { class: "tick", style: place(tick) }, String(tick)));
    const named = make("span", { class: "name" }, title);
    return make("div", { class: `axis ${name}`, "aria-hidden": "true" }, labels, named);
  }

  function cross() {
    const lines = [[0, 0, 1, 1], [0, 1, 1, 0]].map(([x1, y1, x2, y2]) => svg("line", { x1, y1, x2, y2 }));
    const stretched = { viewBox: "0 0 1 1", preserveAspectRatio: "none" };
    return svg("svg", { class: "cross", "aria-hidden": "true", ...stretched }, lines);
  }

  function panel(task) {
    const canvas = make("canvas", { width: model.heads, height: model.layers, role: "img" });
    const marks = ["at", "pin-b", "pin-a"].map((kind) => make("div", { class: `mark ${kind}`, hidden: true }));
    const incapable = model.atlas.tasks[task].capable === false;
    const plot = make("div", { class: "plot" }, canvas, marks, incapable ? cross() : null,
      axis("layers", model.layers, "Layer"), axis("heads", model.heads, "Head"));
    plot.style.aspectRatio = Math.min(Math.max(model.heads / model.layers, 0.6), 2.5);
    const choose = { type: "button", class: "title", onclick: () => state.set({ task }) };
    const title = make("button", choose, model.label(task));
    const value = make("div", { class: "value", "aria-hidden": "true" });
    const bar = make("div", { class: "bar" });
    const whole = make("div", { class: "panel" }, title, value, make("div", { class: "row" }, plot, bar));
    plot.addEventListener("pointermove", (event) => state.set({ at: headAt(plot, event) }));
    plot.addEventListener("pointerleave", () => state.set({ at: null }));
    plot.addEventListener("click", (event) => {
      state.set({ task });
      state.pin(headAt(plot, event), event.shiftKey || event.ctrlKey || event.metaKey || HeadAtlas.comparing());
    });
    panels[task] = { whole, canvas, marks, title, value, bar };
    return whole;
  }

  function headAt(plot, event) {
    const box = plot.getBoundingClientRect();
    const part = (place, size, count) => Math.min(Math.max(Math.floor((place / size) * count), 0), count - 1);
    const head = part(event.clientX - box.left, box.width, model.heads);
    return part(event.clientY - box.top, box.height, model.layers) * model.heads + head;
  }

  function drawBar(element, scale, title) {
    const place = (tick) => ({ bottom: `${scale.place(tick) * 100}%` });
    const ticks = scale.ticks.map((tick) => make("span", { class: "tick", style: place(tick) }, say(tick)));
    const strip = make("div", { class: "strip", style: { background: scale.css } }, ticks);
    element.replaceChildren(strip, make("span", { class: "name" }, title));
  }

  async function draw({ method, show, colour, bar, significant }) {
    const map = await model.map(method);
    const now = state.get(); // another choice may have been made while the map was on its way
    if (now.method !== method || now.show !== show) return;
    const signedShow = show === "effect";
    const scheme = model.looks[signedShow ? "signed_scheme" : "scheme"];
    const options = { signed: signedShow, log: colour === "log", scheme };
    const shared = colours.scale(model.tasks.flatMap((task) => Array.from(map[task][show])), options);
    const title = signedShow
      ? model.looks.signed_legend_title.replace("{unit}", model.atlas.methods[method].unit)
      : model.looks.legend_title;
    for (const task of model.tasks) {
      const scale = bar === "shared" ? shared : colours.scale(map[task][show], options);
      paint(panels[task].canvas, map[task], map[task][show], scale, significant);
      panels[task].bar.replaceChildren();
      if (bar === "panel") drawBar(panels[task].bar, scale, "");
      panels[task].canvas.setAttribute("aria-label", summary(task, map[task], method));
    }
    find("grid").classList.toggle("own-bars", bar === "panel");
    find("shared-bar").replaceChildren();
    if (bar === "shared") drawBar(find("shared-bar"), shared, title);
    for (const strip of document.querySelectorAll(".bar")) strip.title = title;
    performance.mark("drawn"); // tests/benchmarks/page.py reads it
  }

  // One pixel for each head; layers without attention stay empty.
  function paint(canvas, statistics, values, scale, onlySignificant) {
    const context = canvas.getContext("2d", { willReadFrequently: true }); // few pixels: no work for a GPU
    const image = context.createImageData(model.heads, model.layers);
    values.forEach((value, index) => {
      if (Number.isNaN(value)) return;
      const faded = onlySignificant && !model.significant(statistics, index);
      image.data.set([...scale.colour(value), faded ? 255 * FADED : 255], 4 * index);
    });
    context.putImageData(image, 0, 0);
  }

  function summary(task, { importance, rank }, method) {
    const hottest = rank.indexOf(1);
    const first = ` The most important is ${model.words(hottest)} with ${say(importance[hottest])}.`;
    const largest = hottest < 0 ? "" : first;
    const undone = model.atlas.tasks[task].capable === false ? " The model does not do this task." : "";
    return `${model.label(task)}: heads by ${model.methodLabel(method)}.${largest}${undone}`;
  }

  function place(mark, index) {
    mark.hidden = index === null || index === undefined;
    if (mark.hidden) return;
    mark.style.left = `${((index % model.heads) / model.heads) * 100}%`;
    mark.style.top = `${(Math.floor(index / model.heads) / model.layers) * 100}%`;
    mark.style.width = `${100 / model.heads}%`;
    mark.style.height = `${100 / model.layers}%`;
  }

  // The head that is pointed at, in all panels; where there is none, the one that was pinned last.
  async function follow({ at, pins, method, show }) {
    const map = await model.map(method);
    const said = at ?? pins.at(-1) ?? null;
    for (const task of model.tasks) {
      const { marks, value } = panels[task];
      [at, pins[1], pins[0]].forEach((index, i) => place(marks[i], index));
      const [number, rank] = said === null ? [] : [map[task][show][said], map[task].rank[said]];
      value.textContent = said === null ? "" : `${(show === "effect" ? signed : say)(number)} · rank ${say(rank)}`;
    }
  }

  // As many columns as fit; only the left and the lowest panels have numbers at their axes.
  function arrange() {
    const [, most] = WIDTHS.find(([width]) => window.innerWidth >= width);
    const columns = Math.min(most, model.looks.columns, model.tasks.length);
    find("grid").style.setProperty("--columns", columns);
    model.tasks.forEach((task, i) => {
      panels[task].whole.classList.toggle("left", i % columns === 0);
      panels[task].whole.classList.toggle("lowest", i + columns >= model.tasks.length);
    });
  }

  function start() {
    find("grid").replaceChildren(...model.tasks.map(panel));
    arrange();
    window.addEventListener("resize", arrange);
    state.follow(["method", "show", "colour", "bar", "significant"], (now) => HeadAtlas.try(draw(now)));
    state.follow(["at", "pins", "method", "show"], (now) => HeadAtlas.try(follow(now)));
    state.follow(["task"], ({ task }) => {
      for (const other of model.tasks) panels[other].title.setAttribute("aria-pressed", String(other === task));
    });
  }

  return { start };
})();
