"use strict";
// The model of the page: its geometry, its tasks in words, its maps.
HeadAtlas.model = (() => {
  const { unpack } = HeadAtlas.numbers;
  const atlas = HeadAtlas.get("atlas");
  const looks = HeadAtlas.get("looks");
  const { layers, heads } = atlas;
  const tasks = Object.keys(looks.labels).filter((task) => task in atlas.tasks);
  const absent = new Set(atlas.without_attention);
  const COLUMNS = ["effect", "ci_low", "ci_high", "p_value", "q_value", "importance", "rank"];

  // One method's statistics, {task: {effect: [head], ..., notes}}, when its file has come.
  async function map(method) {
    const stored = await HeadAtlas.load(`maps/${method}`);
    return (unpacked[method] ??= Object.fromEntries(
      Object.entries(stored).map(([task, columns]) => [
        task,
        { ...Object.fromEntries(COLUMNS.map((name) => [name, unpack(columns[name])])), notes: columns.notes },
      ]),
    ));
  }
  const unpacked = {};

  function label(task) {
    return looks.labels[task].replaceAll("\n", " ");
  }

  // "exact ablation, baseline mean": a method with the settings that its numbers depend on.
  function methodLabel(method) {
    const { words, baseline } = atlas.methods[method];
    return baseline ? `${words}, baseline ${baseline}` : words;
  }

  function words(index) {
    return `layer ${Math.floor(index / heads)}, head ${index % heads}`;
  }

  function exists(index) {
    return !absent.has(Math.floor(index / heads));
  }

  // The head some columns and rows away; the same one at the edge. Layers without attention are stepped over.
  function neighbour(index, columns, rows) {
    const column = Math.min(Math.max((index % heads) + columns, 0), heads - 1);
    let layer = Math.floor(index / heads) + rows;
    while (absent.has(layer)) layer += rows;
    return layer < 0 || layer >= layers ? index : layer * heads + column;
  }

  // Whether a head counts as significant in a task's statistics; no q-value, no significance.
  function significant(statistics, index) {
    return statistics.q_value[index] < looks.q_threshold;
  }

  function note(statistics, index) {
    return statistics.notes.filter(({ heads: some }) => !some || some.includes(index)).map(({ text }) => text);
  }

  return {
    ...{ atlas, looks, layers, heads, tasks, methods: Object.keys(atlas.methods) },
    ...{ map, label, methodLabel, words, exists, neighbour, significant, note },
    name: (index) => HeadAtlas.address.name(index, heads),
  };
})();
