"use strict";
// Numbers as they are stored, and as they are read.
HeadAtlas.numbers = (() => {
  const ARRAYS = { float32: Float32Array, uint16: Uint16Array, uint8: Uint8Array };

  // What headatlas.page.javascript.packed wrote: base64 of little-endian numbers, as all browsers' machines have them.
  function unpack(text, kind = "float32") {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new ARRAYS[kind](bytes.buffer);
  }

  function known(value) {
    return typeof value === "number" && Number.isFinite(value);
  }

  // Three significant digits; small numbers as a power of ten, unknown ones as a dash.
  function say(value) {
    if (!known(value)) return "–";
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size < 1e-30) return "< 1e-30";
    const text = size < 1e-3 || size >= 1e5 ? size.toExponential(1) : Number(size.toPrecision(3)).toString();
    return (value < 0 ? "−" : "") + text;
  }

  // A score, beside which others stand that differ little from it: three decimals.
  function score(value) {
    if (!known(value) || Math.abs(value) < 0.01) return say(value);
    return (value < 0 ? "−" : "") + Math.abs(value).toFixed(3);
  }

  function signed(value) {
    return known(value) && value > 0 ? `+${say(value)}` : say(value);
  }

  function interval(low, high) {
    return known(low) && known(high) ? `[${signed(low)}, ${signed(high)}]` : "";
  }

  // The number as a float32 was meant: without digits that it does not have.
  function exact(value) {
    return known(value) ? Number(value.toPrecision(8)) : null;
  }

  function median(values) {
    const sorted = Array.from(values).filter(known).sort((a, b) => a - b);
    const middle = sorted.length >> 1;
    if (!sorted.length) return NaN;
    return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  }

  // Pearson's, over the places where both are known.
  function correlation(a, b) {
    const both = Array.from(a.keys()).filter((i) => known(a[i]) && known(b[i]));
    const mean = (values) => both.reduce((sum, i) => sum + values[i], 0) / both.length;
    const [x, y] = [mean(a), mean(b)];
    const sum = (term) => both.reduce((total, i) => total + term(a[i] - x, b[i] - y), 0);
    return sum((p, q) => p * q) / Math.sqrt(sum((p) => p * p) * sum((_, q) => q * q));
  }

  return { unpack, known, say, score, signed, interval, exact, median, correlation };
})();
