"use strict";
// What the page shows now. Parts of the page ask to be told of the changes that concern them.
HeadAtlas.state = (() => {
  const { model, address } = HeadAtlas;
  const OPTIONS = {
    task: model.tasks,
    method: model.methods,
    show: ["importance", "effect"],
    colour: ["linear", "log"],
    bar: ["shared", "panel"],
  };
  const FIRST = { ...Object.fromEntries(Object.entries(OPTIONS).map(([key, values]) => [key, values[0]])) };
  FIRST.bar = model.looks.scale;
  Object.assign(FIRST, { significant: false, pins: [], at: null }); // at: the head that the pointer is on

  const WAIT = 150; // ms
  let telling = null;
  let current = { ...FIRST, ...read() };
  const listeners = [];

  function read() {
    return address.read(location.hash, model.layers, model.heads, OPTIONS);
  }

  // Call `listener(state)` now and whenever one of `keys` changes.
  function follow(keys, listener) {
    listeners.push({ keys, listener });
    listener(current);
  }

  function set(change) {
    const changed = Object.keys(change).filter((key) => String(change[key]) !== String(current[key]));
    if (!changed.length) return;
    current = { ...current, ...change };
    if (changed.some((key) => key !== "at")) tell();
    for (const { keys, listener } of listeners) if (keys.some((key) => changed.includes(key))) listener(current);
  }

  // Show the state in the address, but not at every step of a head that moves: browsers limit how often.
  function tell() {
    clearTimeout(telling);
    telling = setTimeout(() => history.replaceState(null, "", address.write(current, FIRST, model.heads)), WAIT);
  }

  // Pin a head alone, or with `beside` next to the one that is pinned; a pinned head is freed.
  function pin(index, beside = false) {
    if (!model.exists(index)) return;
    const { pins } = current;
    if (pins.includes(index)) set({ pins: pins.filter((other) => other !== index) });
    else set({ pins: beside ? [...pins.slice(0, 1), index] : [index] });
  }

  function free() {
    if (current.pins.length) set({ pins: current.pins.slice(0, -1) });
    else set({ at: null });
  }

  // Move the head that was pinned last or, where none is pinned, the one that is pointed at.
  function move(columns, rows) {
    const { pins, at } = current;
    if (!pins.length) return set({ at: at === null ? first() : model.neighbour(at, columns, rows) });
    const next = model.neighbour(pins.at(-1), columns, rows);
    if (!pins.includes(next)) set({ pins: [...pins.slice(0, -1), next], at: next });
  }

  function first() {
    return model.neighbour(-model.heads, 0, 1);
  }

  window.addEventListener("hashchange", () => set({ ...FIRST, at: current.at, ...read() }));
  return { OPTIONS, follow, set, pin, free, move, get: () => current };
})();
