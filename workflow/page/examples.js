"use strict";
// The items behind a pinned head's mean: its effect on each of them, the items it helps and hurts most as text, and what
// it attends to there while the model predicts the answer.
HeadAtlas.examples = (() => {
  const { model } = HeadAtlas;
  const { make, svg, find, foreign } = HeadAtlas.elements;
  const { unpack, say, signed } = HeadAtlas.numbers;
  const HEIGHT = 60; // of a strip's picture, in its own units; an item is one unit wide
  let shown = null; // {pins, known, task, method, items, effects: [by pin]}

  async function show(pins, known, task) {
    const method = model.atlas.example_method;
    find("examples").hidden = !pins.length || method === null;
    if (find("examples").hidden) return;
    const items = await HeadAtlas.load(`items/${task}`);
    const effects = known.map((head) => unpack(head.effects[method][task]));
    shown = { pins, known, task, method, items, effects };
    const order = Array.from(items.keys()).sort((a, b) => effects[0][b] - effects[0][a] || a - b);
    find("strips").replaceChildren(...pins.map((_, i) => strip(i, order)));
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
    const { unit } = model.atlas.methods[shown.method];
    return `${shown.items.length} of the ${map_items} items (${map_questions} questions) behind the map; effects by `
      + `${model.methodLabel(shown.method)}, in ${unit}: the score that the answer loses without the head.`;
  }

  function words(i) {
    return shown.pins.length > 1 ? `Head ${HeadAtlas.details.LETTERS[i]}` : "This head";
  }

  // --- the strip ------------------------------------------------------------------------------------

  // A bar for each item, in the same order for both heads: the one that the first head helps most comes first.
  function strip(i, order) {
    const effect = shown.effects[i];
    const top = Math.max(...shown.effects.map((values) => Math.max(...Array.from(values, Math.abs).filter((x) => x >= 0))), 1e-12);
    const bars = order.map((item, at) => {
      const size = (Math.abs(effect[item] || 0) / top) * (HEIGHT / 2);
      const y = effect[item] > 0 ? HEIGHT / 2 - size : HEIGHT / 2;
      const bar = svg("rect", { x: at, y: 0, width: 1, height: HEIGHT, class: "slot", onclick: () => choose(item) },
        svg("title", {}, `${shown.items[item].id}: ${signed(effect[item])}`));
      const kind = effect[item] > 0 ? "helping" : "hurting";
      return svg("g", {}, svg("rect", { x: at + 0.1, y, width: 0.8, height: Math.max(size, 0.3), class: kind }), bar);
    });
    const label = `Effects of ${model.words(shown.pins[i])} on ${order.length} items: ${spread(effect)}`;
    return make("figure", { class: "strip-of-items" },
      svg("svg", { viewBox: `0 0 ${order.length} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label }, bars),
      make("figcaption", {}, `${words(i)}: ${spread(effect)}. Click a bar to read its item.`));
  }

  function spread(effect) {
    const measured = Array.from(effect).filter((value) => !Number.isNaN(value));
    if (!measured.length) return "not measured on these";
    const helped = measured.filter((value) => value > 0).length;
    const unmeasured = effect.length - measured.length;
    return `from ${signed(Math.min(...measured))} to ${signed(Math.max(...measured))}, above 0 on ${helped} of ${measured.length}`
      + (unmeasured ? `; not measured on ${unmeasured}` : "");
  }

  function choose(index) {
    find("chosen-item").replaceChildren(card(index));
    find("chosen-item").scrollIntoView({ block: "nearest" });
  }

  // --- an item --------------------------------------------------------------------------------------

  function card(index) {
    const item = shown.items[index];
    const attention = HeadAtlas.attention.of(shown, index);
    const text = attention ? attention.text : plain(item);
    return make("article", { class: "item" },
      make("header", {}, foreign(item.id, { class: "id" }), make("span", { class: "losses" }, losses(index))),
      attention ? attention.rows : null, make("p", { class: "text", dir: "auto" }, text), attention ? attention.words : null);
  }

  function plain({ prompt, answer }) {
    return [foreign(prompt), " ", make("mark", {}, foreign(answer))];
  }

  // Only an exact effect is the difference between two scores; an estimate is not added to one.
  function losses(index) {
    const { score, correct } = shown.items[index];
    const { name } = model.atlas.metric;
    const clean = `${name.toLowerCase()} ${say(score)}${correct ? "" : ", answered wrongly"}`;
    const parts = shown.effects.map((effect, i) => {
      const who = shown.pins.length > 1 ? `${HeadAtlas.details.LETTERS[i]}: ` : "";
      if (Number.isNaN(effect[index])) return `${who}not measured`;
      return shown.method === "ablation"
        ? `${who}without it ${say(score - effect[index])} (effect ${signed(effect[index])})`
        : `${who}effect ${signed(effect[index])}`;
    });
    return [clean, ...parts].join(" · ");
  }

  return { show };
})();
