"use strict";
// The pinned heads: what they do on every task by every method, and what else is known of them.
HeadAtlas.details = (() => {
  const { model, state } = HeadAtlas;
  const { make, find, foreign } = HeadAtlas.elements;
  const { say, signed, interval } = HeadAtlas.numbers;
  const LETTERS = ["A", "B"];

  // The line that says what is pointed at, also aloud.
  async function readout({ at, pins, task, method }) {
    const index = at ?? pins.at(-1) ?? null;
    const { [task]: statistics } = await model.map(method);
    find("readout").textContent = index === null
      ? `${model.label(task)}. Point at a head, or click it to keep it.`
      : `${capital(model.words(index))} · ${model.label(task)} · ${sentence(statistics, index, method)}`;
  }

  function sentence(statistics, index, method) {
    if (!model.exists(index)) return "no attention in this layer";
    const { effect, ci_low, ci_high, q_value, importance, rank } = statistics;
    const { unit } = model.atlas.methods[method];
    return [
      `importance ${say(importance[index])} (rank ${say(rank[index])})`,
      `effect ${signed(effect[index])} ${interval(ci_low[index], ci_high[index])} ${unit}`.replace("  ", " "),
      `q ${say(q_value[index])}`,
      ...model.note(statistics, index),
    ].join(" · ");
  }

  function capital(text) {
    return text[0].toUpperCase() + text.slice(1);
  }

  async function show({ pins, task }) {
    find("details").hidden = !pins.length;
    if (!pins.length) return find("pinned").replaceChildren(); // and load no more than the map that is shown
    const maps = await Promise.all(model.methods.map(model.map));
    const known = await Promise.all(pins.map((index) => HeadAtlas.load(`heads/${model.name(index)}`)));
    if (String(state.get().pins) !== String(pins) || state.get().task !== task) return; // another one by now
    find("pinned").replaceChildren(...pins.map((index, i) => head(index, i, maps, known[i], task)));
    HeadAtlas.examples.show(pins, known, task);
  }

  function head(index, i, maps, known, task) {
    const free = { type: "button", onclick: () => state.pin(index), "aria-label": `Free ${model.words(index)}` };
    const title = make("h2", {}, make("span", { class: `letter ${LETTERS[i].toLowerCase()}` }, LETTERS[i]),
      ` ${capital(model.words(index))} `, make("button", free, "×"));
    return make("section", { class: "head", "aria-label": capital(model.words(index)) },
      title, facts(index, known, task), make("div", { class: "wide" }, numbers(index, maps, task)));
  }

  // --- facts in words ---------------------------------------------------------------------------

  function facts(index, known, task) {
    const [described, roles] = [known.described?.[""], known.roles?.[task]];
    const lines = [group(index), groupEffect(known.groups?.[task]), sameAnswer(known.same_answer?.[task]),
      scores(described), tokens(described), onTask(roles), change(known.changes?.[task])];
    return make("ul", { class: "facts" }, lines.filter(Boolean).map((line) => make("li", {}, line)));
  }

  function group(index) {
    const { groups } = model.atlas;
    if (groups >= model.heads) return "Has keys and values of its own.";
    const size = model.heads / groups;
    const first = Math.floor((index % model.heads) / size) * size;
    return `Shares keys and values with heads ${first} to ${first + size - 1} of its layer (group ${first / size}).`;
  }

  function groupEffect(row) {
    if (!row) return null;
    const { effect, effect_low, effect_high, sum, q_value } = row;
    return `Its group ablated together: ${signed(effect)} ${interval(effect_low, effect_high)}; `
      + `the sum of its heads' effects: ${signed(sum)}; q of the difference ${say(q_value)}.`;
  }

  function sameAnswer(row) {
    if (!row) return null;
    const said = { answer: "carries the token of the answer", question: "carries what is specific to the question" };
    return `Patched on held-out questions, from the counterfactual: ${signed(row.counterfactual)} `
      + `${interval(row.counterfactual_low, row.counterfactual_high)}; from another question with the same answer: `
      + `${signed(row.same_answer)} ${interval(row.same_answer_low, row.same_answer_high)}: `
      + `${said[row.carries] ?? "what it carries is open"}.`;
  }

  function scores(row) {
    if (!row) return null;
    return `On random tokens repeated once: attention to the previous token ${say(row.previous_token)}, to the token `
      + `behind the first occurrence (induction) ${say(row.induction)}, to that occurrence `
      + `${say(row.duplicate_token)}, to the first position ${say(row.sink)}; entropy ${say(row.entropy)} nats; copying ${say(row.copying)}.`;
  }

  function tokens(row) {
    if (!row?.promoted) return null;
    const list = (words) => words.flatMap((word, i) => [i ? ", " : "", foreign(`“${word}”`)]);
    return ["Writes towards ", list(row.promoted), "; away from ", list(row.suppressed), "."];
  }

  function onTask(row) {
    if (!row) return null;
    return `On ${model.label(row.task)}: direct effect on the logits ${signed(row.direct)} `
      + `${interval(row.direct_low, row.direct_high)} nats; retrieval score ${say(row.retrieval_score)}; attention to `
      + `the needed span ${say(row.span_mass)}.`;
  }

  function change(row) {
    if (!row) return null;
    return `In ${row.compared_to}, ${model.methodLabel(row.method)}: ${signed(row.other)}; difference `
      + `${signed(row.difference)} ${interval(row.ci_low, row.ci_high)}, q ${say(row.q_value)}`
      + `${row.change ? ` (${row.change})` : ""}.`;
  }

  // --- numbers ----------------------------------------------------------------------------------

  // A row for each task, a column for each method; two lines in a cell, so that two heads fit side by side.
  function numbers(index, maps, task) {
    const names = model.methods.map((method) => {
      const { unit } = model.atlas.methods[method];
      const below = make("span", { class: "quiet" }, unit);
      return make("th", { scope: "col" }, model.methodLabel(method), make("br"), below);
    });
    const rows = model.tasks.map((one) => {
      const name = make("button", { type: "button", onclick: () => state.set({ task: one }) }, model.label(one));
      return make("tr", { class: one === task ? "chosen" : null },
        make("th", { scope: "row" }, name), maps.map((map) => cell(map[one], index)));
    });
    return make("table", { class: "numbers" },
      make("caption", {}, "Effect on every task by every method, with interval, q and rank; bold: significant"),
      make("thead", {}, make("tr", {}, make("td"), names)),
      make("tbody", {}, rows));
  }

  function cell(statistics, index) {
    const { effect, ci_low, ci_high, q_value, rank } = statistics;
    const strong = model.significant(statistics, index) ? "strong" : null;
    const notes = model.note(statistics, index).join("; ");
    const value = make("span", { class: strong }, signed(effect[index]));
    return make("td", { title: notes || null },
      make("div", {}, value, " ", interval(ci_low[index], ci_high[index])),
      make("div", { class: "quiet" }, `q ${say(q_value[index])} · rank ${say(rank[index])}`));
  }

  function start() {
    state.follow(["at", "pins", "task", "method"], (now) => HeadAtlas.try(readout(now)));
    state.follow(["pins", "task"], (now) => HeadAtlas.try(show(now)));
  }

  return { start, LETTERS };
})();
