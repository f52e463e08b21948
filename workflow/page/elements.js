"use strict";
// Elements of the page. Text is set as text only: items are somebody else's, and may look like markup.
HeadAtlas.elements = (() => {
  // An element with attributes; `on*` are listeners, `style` an object, null and false leave an attribute out.
  function make(tag, attributes = {}, ...children) {
    return filled(document.createElement(tag), attributes, children);
  }

  function svg(tag, attributes = {}, ...children) {
    return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
  }

  function filled(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (name === "style") Object.entries(value).forEach(([key, text]) => element.style.setProperty(key, text));
      else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
    return element;
  }

  function find(id) {
    return document.getElementById(id);
  }

  // Text of unknown direction, which cannot reorder what stands beside it.
  function foreign(text, attributes = {}) {
    return make("bdi", attributes, text);
  }

  return { make, svg, find, foreign };
})();
