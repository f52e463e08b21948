"use strict";
// What the pinned heads attend to on an item: one row of weights over the tokens for each position that predicts one of
// the answer. Two heads share a token: the first colours its upper half, the second its lower half.
HeadAtlas.attention = (() => {
  const { make, foreign } = HeadAtlas.elements;
  const { unpack } = HeadAtlas.numbers;
  const FULL = 255; // a stored weight of 1
  const DEEPEST = 55; // percent, the opacity of a weight of 1: the text stays readable, light or dark
  const NAMED = 5; // tokens that are named in words, for each head

  // The attention of some heads on one item, as elements: `rows` to choose from, the `text`, the largest weights in
  // `words`. null where no weights were kept.
  function of({ known, task, items }, index) {
    const item = items[index];
    if (!item.rows) return null;
    const first = items.slice(0, index).reduce((sum, other) => sum + (other.rows ?? 0), 0);
    const stored = known.map((head) => decoded(head.attention[task]));
    const words = make("div", { class: "weights", "aria-live": "polite" });
    const view = { item, weights: [], tokens: [], words };
    view.tokens = item.tokens.map((text, at) => token(view, text, at));
    const choose = (row) => {
      view.weights = stored.map((rows) => rows(first + row));
      paint(view, row);
    };
    const rows = item.rows > 1 ? make("div", { class: "rows" }, "Predicting ", chooser(item, choose)) : null;
    choose(0);
    return { rows, text: view.tokens, words: view.words };
  }

  // A function from the number of a row to its weights, {position: weight}; see headatlas.files.attention.
  function decoded({ counts, positions, weights }) {
    const [count, position, weight] = [unpack(counts, "uint16"), unpack(positions, "uint16"), unpack(weights, "uint8")];
    const starts = [0];
    count.forEach((n) => starts.push(starts.at(-1) + n));
    return (row) => {
      const found = new Map();
      for (let i = starts[row]; i < starts[row + 1]; i++) found.set(position[i], weight[i] / FULL);
      return found;
    };
  }

  function chooser(item, choose) {
    const options = Array.from({ length: item.rows }, (_, row) =>
      make("option", { value: row }, `${visible(item.tokens[item.start + row])} (answer token ${row + 1})`));
    const onchange = (event) => choose(Number(event.target.value));
    return make("select", { "aria-label": "Answer token", onchange }, options);
  }

  function token(view, text, at) {
    const answer = at >= view.item.start;
    return make(answer ? "mark" : "span", { class: "token", onpointerenter: () => say(view, at) }, visible(text));
  }

  // White space as something that can be seen; a part of a character, whose text is empty, as a dot.
  function visible(text) {
    return text === "" ? "·" : text.replaceAll("\n", "↵\n").replaceAll("\t", "⇥\t");
  }

  function paint(view, row) {
    const query = view.item.start - 1 + row;
    view.tokens.forEach((element, at) => {
      const [above, below = above] = view.weights.map((weights) => weights.get(at) ?? 0);
      const share = (weight) => `${DEEPEST * Math.sqrt(weight)}%`;
      const colour = (letter, weight) => `color-mix(in srgb, var(--${letter}) ${share(weight)}, transparent)`;
      const second = view.weights.length > 1 ? "b" : "a";
      element.style.background = above || below
        ? `linear-gradient(${colour("a", above)} 0 50%, ${colour(second, below)} 50% 100%)`
        : ""; // as the style sheet has it
      element.classList.toggle("query", at === query);
    });
    say(view, null);
  }

  // The weights of one token, or those of the tokens with the largest.
  function say(view, at) {
    view.words.replaceChildren(...view.weights.map((weights, i) => {
      const ranked = at === null ? [...weights].sort((a, b) => b[1] - a[1]).slice(0, NAMED) : [[at, weights.get(at)]];
      const named = ranked.flatMap(([place, weight], n) =>
        [n ? ", " : "", foreign(`“${visible(view.item.tokens[place])}”`), ` ${percent(weight)}`]);
      const left = 1 - [...weights.values()].reduce((sum, weight) => sum + weight, 0);
      const rest = at === null && left > 0.005 ? [`; elsewhere, each below 1 %: ${percent(left)}`] : [];
      const letter = make("span", { class: `letter ${"ab"[i]}` }, HeadAtlas.details.LETTERS[i]);
      return make("p", {}, letter, " attends to ", named, rest);
    }));
  }

  function percent(weight) {
    return weight === undefined ? "below 1 %" : `${Math.round(weight * 100)} %`;
  }

  return { of, decoded };
})();
