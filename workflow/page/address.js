"use strict";
// The page's address says what it shows, so that it can be sent: #L12H7&L3H1&task=retrieval&method=probe&show=effect
// In the state a head is a number, layer * heads + head.
HeadAtlas.address = (() => {
  const CHOICES = ["task", "method", "show", "colour", "bar"];

  // A head by its name (L12H7), or as one types it: 12.7, 12 7, 12/7, layer 12 head 7. null if there is none.
  function head(text, layers, heads) {
    const found = /^\D*(\d{1,4})\D+(\d{1,4})\D*$/.exec(text);
    if (!found) return null;
    const [layer, column] = [Number(found[1]), Number(found[2])];
    return layer < layers && column < heads ? layer * heads + column : null;
  }

  function name(index, heads) {
    return `L${Math.floor(index / heads)}H${index % heads}`;
  }

  // The part of a state that an address says; what is not among `options` is ignored.
  function read(hash, layers, heads, options) {
    const state = { pins: [] };
    for (const part of hash.replace(/^#/, "").split("&").filter(Boolean)) {
      const [key, value] = part.split("=");
      if (value === undefined) {
        const index = /^L\d+H\d+$/.test(key) ? head(key, layers, heads) : null;
        if (index !== null && state.pins.length < 2 && !state.pins.includes(index)) state.pins.push(index);
        if (key === "significant") state.significant = true;
      } else if (CHOICES.includes(key) && options[key].includes(value)) {
        state[key] = value;
      }
    }
    return state;
  }

  // The address of a state: its heads, and the choices that differ from those a page starts with.
  function write(state, first, heads) {
    const parts = state.pins.map((index) => name(index, heads));
    for (const key of CHOICES) if (state[key] !== first[key]) parts.push(`${key}=${state[key]}`);
    if (state.significant) parts.push("significant");
    return `#${parts.join("&")}`;
  }

  return { head, name, read, write };
})();
