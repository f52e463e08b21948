"use strict";
// The data of the page, and how it gets here: in files that call HeadAtlas.receive. A page that is opened from a disk
// may not read JSON, but it may load scripts. Every other file adds its part to this object.
const HeadAtlas = (() => {
  const received = new Map(); // name -> value
  const loading = new Map(); // name -> promise of the value

  function receive(name, value) {
    received.set(name, value);
  }

  // A value that the page's own script tags have brought.
  function get(name) {
    if (!received.has(name)) throw new Error(`${name}.js did not load; run Snakemake again`);
    return received.get(name);
  }

  // The value of data/{name}.js, which is loaded the first time it is asked for.
  function load(name) {
    if (!loading.has(name)) loading.set(name, added(name));
    return loading.get(name);
  }

  function added(name) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `data/${name}.js`;
      script.onload = () => {
        script.remove();
        if (received.has(name)) resolve(received.get(name));
        else reject(new Error(`${script.src} holds something else; run Snakemake again`));
      };
      script.onerror = () => {
        script.remove();
        loading.delete(name); // so that a later click tries again
        reject(new Error(`data/${name}.js cannot be loaded; run Snakemake again, and copy the page's whole folder`));
      };
      document.head.append(script);
    });
  }

  return { receive, get, load };
})();
