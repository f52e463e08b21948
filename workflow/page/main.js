"use strict";
// The controls, the keys, and the start of everything.
(() => {
  const { model, state } = HeadAtlas;
  const { make, find } = HeadAtlas.elements;
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const WORDS = {
    show: { importance: "importance", effect: "signed effect" },
    colour: { linear: "linear", log: "logarithmic" },
    bar: { shared: "for all tasks", panel: "for each task" },
  };

  // Whether the next head is pinned beside the first.
  HeadAtlas.comparing = () => find("compare").getAttribute("aria-pressed") === "true";

  // Say on the page what went wrong, in one line.
  HeadAtlas.try = (promise) => promise.catch((error) => {
    find("trouble").textContent = error.message;
    find("trouble").hidden = false;
    console.error(error);
  });

  function control(key, words) {
    const select = find(key);
    const options = state.OPTIONS[key].map((value) => make("option", { value }, words(value)));
    select.replaceChildren(...options);
    select.addEventListener("change", () => state.set({ [key]: select.value }));
    state.follow([key], (now) => (select.value = now[key]));
  }

  function compare(on) {
    find("compare").setAttribute("aria-pressed", String(on));
  }

  function search() {
    const box = find("search");
    box.addEventListener("input", () => box.setCustomValidity(""));
    find("search-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const index = HeadAtlas.address.head(box.value, model.layers, model.heads);
      if (index !== null && model.exists(index)) {
        if (!state.get().pins.includes(index)) state.pin(index, HeadAtlas.comparing());
        return;
      }
      box.setCustomValidity(`layer 0 to ${model.layers - 1}, head 0 to ${model.heads - 1}, such as 0.1`);
      box.reportValidity();
    });
  }

  function keys(event) {
    const typing = event.target.closest("input, select, textarea");
    if (event.key === "Escape") {
      if (typing) event.target.blur();
      else state.free();
    } else if (typing || event.ctrlKey || event.metaKey || event.altKey) {
      return;
    } else if (event.key in ARROWS) {
      state.move(...ARROWS[event.key]);
      event.preventDefault(); // the page must not scroll away under the moving head
    } else if (event.key === "Enter" && event.target === find("grid") && state.get().at !== null) {
      state.pin(state.get().at, HeadAtlas.comparing());
    } else if (event.key === "c") {
      compare(!HeadAtlas.comparing());
    } else if (event.key === "/") {
      find("search").focus();
      event.preventDefault();
    }
  }

  // Light, dark, or as the system; remembered where the browser lets a page from a disk do so.
  function theme() {
    const kinds = ["as the system", "light", "dark"];
    const set = (kind) => {
      document.documentElement.dataset.theme = kind;
      find("theme").textContent = `Theme: ${kind}`;
    };
    set(kinds[0]);
    find("theme").addEventListener("click", () => {
      set(kinds[(kinds.indexOf(document.documentElement.dataset.theme) + 1) % kinds.length]);
    });
  }

  function start() {
    const { atlas } = model;
    document.title = `Head Atlas: ${atlas.model}`;
    find("title").textContent = document.title;
    const percent = HeadAtlas.numbers.say(100 * atlas.confidence);
    find("about").textContent = `${model.layers} layers of ${model.heads} heads; intervals of ${percent} %.`;
    find("threshold").textContent = `q < ${model.looks.q_threshold}`;
    control("method", model.methodLabel);
    control("task", model.label);
    for (const key of Object.keys(WORDS)) control(key, (value) => WORDS[key][value]);
    find("significant").addEventListener("change", (event) => state.set({ significant: event.target.checked }));
    state.follow(["significant"], (now) => (find("significant").checked = now.significant));
    state.follow(["pins"], () => compare(false));
    state.follow(["method"], (now) => (find("signs").textContent = atlas.methods[now.method].signs));
    find("compare").addEventListener("click", () => compare(!HeadAtlas.comparing()));
    document.addEventListener("keydown", keys);
    search();
    theme();
    HeadAtlas.grid.start();
    HeadAtlas.examples.start();
    HeadAtlas.details.start();
    HeadAtlas.table.start();
  }

  start();
})();
