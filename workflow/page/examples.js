"use strict";
// The items behind a pinned head's mean: its effect on each of them, the items it helps and hurts most as text, and
// what it attends to there while the model predicts the answer.
HeadAtlas.examples = (() => {
  const { model, state } = HeadAtlas;
  const { make, svg, find, foreign } = HeadAtlas.elements;
  const { numbers } = HeadAtlas;
  const { unpack, say, signed, correlation } = numbers;
  const { colours } = HeadAtlas;
  const HEIGHT = 60; // of a strip's picture, in its own units; an item is one unit wide
  let shown = null; // {pins, known, task, method, items, effects: [by pin]}

  async function show(pins, known, task) {
    const method = model.atlas.example_method;
    find("examples").hidden = !pins.length || method === null;
    if (find("examples").hidden) return;
    const items = await HeadAtlas.load(`items/${task}`);
    const effects = known.map((head) => unpack(head.effects[method][task]));
    shown = { pins, known, task, method, items, effects };
    strips();
    find("examples-title").textContent = `Items of ${model.label(task)}`;
    find("examples-about").textContent = about();
    find("chosen-item").replaceChildren();
    for (const kind of ["helps", "hurts"]) {
      const chosen = known[0].examples[task][kind];
      find(kind).replaceChildren(...chosen.map((index) => card(index)));
      find(`${kind}-title`).textContent = chosen.length
        ? `${words(0)} ${kind} most`
        : `${words(0)} ${kind} the answer of no item here`;
    }
  }

  function about() {
    const { map_items, map_questions } = model.atlas.tasks[shown.task];
    return `${shown.items.length} of the ${map_items} items (${map_questions} questions) behind the map. A bar is an `
      + `item, which a click shows. The lists below are by ${model.methodLabel(shown.method)}.`;
  }

  function words(i) {
    return shown.pins.length > 1 ? `Head ${HeadAtlas.details.LETTERS[i]}` : "This head";
  }

  // --- the strip ------------------------------------------------------------------------------------

  // Bars of the effects by the method that the maps show, if these are effects of items.
  function strips() {
    if (!shown) return;
    const { method, colour } = state.get();
    const by = method in shown.known[0].effects ? method : shown.method;
    const effects = shown.known.map((head) => unpack(head.effects[by][shown.task]));
    const order = Array.from(shown.items.keys()).sort((a, b) => (effects[0][b] || 0) - (effects[0][a] || 0) || a - b);
    const all = effects.flatMap((values) => Array.from(values));
    const scale = colours.scale(all, { signed: true, log: colour === "log", scheme: model.looks.signed_scheme });
    find("strips").replaceChildren(...effects.map((_, i) => strip(i, effects, by, order, scale)));
    const words = (item) => `${shown.items[item].id} (${signed(effects[0][item])})`;
    const options = order.map((item) => make("option", { value: item }, words(item)));
    find("item").replaceChildren(make("option", { value: "" }), ...options);
  }

  // A bar for each item, in the same order for both heads: the one that the first head helps most comes first.
  function strip(i, effects, by, order, scale) {
    const [effect, middle] = [effects[i], HEIGHT / 2];
    const bars = order.map((item, at) => {
      const value = effect[item] || 0; // NaN: not measured
      const size = Math.abs(scale.place(value) - 0.5) * HEIGHT;
      const bar = { x: at + 0.1, y: value > 0 ? middle - size : middle, width: 0.8, height: Math.max(size, 0.3) };
      return svg("g", { onclick: () => choose(item) },
        svg("rect", { ...bar, class: value > 0 ? "helping" : "hurting" }),
        svg("rect", { x: at, y: 0, width: 1, height: HEIGHT, class: "slot" },
          svg("title", {}, `${shown.items[item].id}: ${signed(effect[item])}`)));
    });
    const { unit } = model.atlas.methods[by];
    const said = `${words(i)}, by ${model.methodLabel(by)} (${unit}): ${spread(effect)}${alike(effects, i)}`;
    const viewBox = `0 0 ${order.length} ${HEIGHT}`;
    const picture = { viewBox, preserveAspectRatio: "none", role: "img", "aria-label": said };
    return make("figure", { class: "strip-of-items" }, svg("svg", picture, bars), make("figcaption", {}, said));
  }

  function alike(effects, i) {
    if (i === 0) return "";
    return `; correlation with head A over these items ${say(correlation(effects[0], effects[i]))}`;
  }

  function spread(effect) {
    const measured = Array.from(effect).filter((value) => !Number.isNaN(value));
    if (!measured.length) return "not measured on these items";
    const helped = measured.filter((value) => value > 0).length;
    const left = effect.length - measured.length;
    const [low, high] = [Math.min(...measured), Math.max(...measured)].map(signed);
    return `from ${low} to ${high}, above 0 on ${helped} of ${measured.length} items`
      + (left ? `, not measured on ${left}` : "");
  }

  function choose(index) {
    find("item").value = index;
    find("chosen-item").replaceChildren(card(index));
    find("chosen-item").scrollIntoView({ block: "nearest" });
  }

  // --- an item --------------------------------------------------------------------------------------

  function card(index) {
    const item = shown.items[index];
    const attention = HeadAtlas.attention.of(shown, index);
    const text = make("p", { class: "text", dir: "auto" }, attention ? attention.text : plain(item));
    return make("article", { class: "item" },
      make("header", {}, foreign(item.id, { class: "id" }), make("span", { class: "losses" }, losses(index))),
      attention?.rows, text, attention?.words);
  }

  function plain({ prompt, answer }) {
    return [foreign(prompt), " ", make("mark", {}, foreign(answer))];
  }

  // Only an exact effect is the difference between two scores; an estimate is not added to one.
  function losses(index) {
    const { score, correct } = shown.items[index];
    const { name } = model.atlas.metric;
    const clean = `${name.toLowerCase()} ${numbers.score(score)}${correct ? "" : ", answered wrongly"}`;
    const parts = shown.effects.map((effect, i) => {
      const who = shown.pins.length > 1 ? `${HeadAtlas.details.LETTERS[i]}: ` : "";
      if (Number.isNaN(effect[index])) return `${who}not measured`;
      return shown.method === "ablation"
        ? `${who}without it ${numbers.score(score - effect[index])} (effect ${signed(effect[index])})`
        : `${who}effect ${signed(effect[index])}`;
    });
    return [clean, ...parts].join(" · ");
  }

  function start() {
    state.follow(["method", "colour"], strips);
    find("item").addEventListener("change", ({ target }) => target.value && choose(Number(target.value)));
  }

  return { start, show };
})();
