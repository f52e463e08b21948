"use strict";
// Colours of cells, and the ticks of their bar, as in the figures (headatlas.charts.colour_bar).
HeadAtlas.colours = (() => {
  // Vega's schemes, from zero up, or from harmful to helpful: six letters a colour.
  const SCHEMES = {
    viridis:
      "440154470e61481a6c482575472f7d443a834144873d4e8a39568c35608d31688e2d708e2a788e27818e23888e21918d" +
      "1f988b1fa08822a8842ab07f35b77943bf7154c56866cc5d7ad1518fd744a5db36bcdf27d2e21be9e51afde725",
    cividis:
      "00205100235800265d002961012b65042e670831690d346b11366c16396d1c3c6e213f6e26426e2c456e31476e374a6e" +
      "3c4d6e42506e47536d4c566d51586e555b6e5a5e6e5e616e62646f66676f6a6a706e6d717270717573727976737c7974" +
      "7f7c75827f758682768985778c8877908b78938e789691789a94789e9778a19b78a59e77a9a177aea575b2a874b6ab73" +
      "bbaf71c0b26fc5b66dc9b96acebd68d3c065d8c462ddc85fe2cb5ce7cf58ebd355f0d652f3da4ff7de4cfae249fce647",
    magma:
      "0000040404130b0924150e3720114b2c11603b0f704a107957157e651a80721f817f24828c29819a2e80a8327db6377a" +
      "c43c75d1426fde4968e95462f1605df76f5cfa7f5efc8f65fe9f6dfeaf78febf84fece91fddea0fcedaffcfdbf",
    inferno:
      "0000040403130c0826170c3b240c4f330a5f420a68500d6c5d126e6b176e781c6d86216b932667a12b62ae305cbb3755" +
      "c73e4cd24644dd513ae65c30ed6925f3771af8850ffb9506fca50afcb519fac62df6d645f2e661f3f484fcffa4",
    plasma:
      "0d088723069033059742039d5002a25d01a66a00a87801a88405a7900da49c179ea72198b12a90ba3488c33d80cb4779" +
      "d35171da5a69e16462e76e5bed7953f2834cf68f44fa9a3dfca636fdb32ffec029fcce25f9dc24f5ea27f0f921",
    blues: "cfe1f2bed8eca8cee58fc1de74b2d75ba3cf4592c63181bd206fb2125ca40a4a90",
    greys: "e2e2e2d4d4d4c4c4c4b1b1b19d9d9d8888887575756262624d4d4d3535351e1e1e",
    redblue: "8c0d25bf363adf745ef4ae91fbdbc9f2efeed2e5ef9dcae15da2cb2f78b3134b85",
    blueorange: "134b852f78b35da2cb9dcae1d2e5eff2f0ebfce0bafbbf74e8932fc5690d994a07",
    purpleorange: "4114696647968f83b7b9b4d6dadbebf3eeeafce0bafbbf74e8932fc5690d994a07",
    purplegreen: "5b1667834792a67fb6c9aed3e6d6e8eff0efd9efd5aedda971bb75368e490e5e29",
    brownbluegreen: "704108a0651ac79548e3c78af3e6c6eef1eac9e9e48ed1c74da79e187a72025147",
    pinkyellowgreen: "8e0152c0267edd72adf0b3d6faddedf5f3efe1f2cab6de8780bb474f9125276419",
  };
  const TICKS = 7;
  const SIGNED_TICKS = 4;
  const DECADES = [1, 4]; // fewest and most powers of ten on either side of zero of a logarithmic bar

  function stops(scheme) {
    return SCHEMES[scheme].match(/.{6}/g).map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  }

  // The colour, three numbers to 255, of a place from 0 to 1 in a list of stops.
  function between(colours, place) {
    const at = Math.min(Math.max(place, 0), 1) * (colours.length - 1);
    const low = Math.min(Math.floor(at), colours.length - 2);
    return colours[low].map((value, i) => Math.round(value + (at - low) * (colours[low + 1][i] - value)));
  }

  // A scale from 0 to the largest value, or from minus to plus its size where values have signs.
  // Logarithmic: sign(x) log(1 + |x| / constant), linear near 0.
  function scale(values, { signed, log, scheme }) {
    const sizes = Array.from(values, Math.abs).filter(HeadAtlas.numbers.known);
    const limit = sizes.reduce((a, b) => Math.max(a, b), 0) || 1e-3;
    const constant = log ? turn(limit, HeadAtlas.numbers.median(sizes)) : null;
    const bend = (size) => (log ? Math.log1p(size / constant) / Math.log1p(limit / constant) : size / limit);
    const place = (value) => {
      const bent = Math.sign(value) * bend(Math.abs(value));
      return signed ? (1 + bent) / 2 : bent;
    };
    const colours = stops(scheme);
    const ticks = log ? logTicks(limit, constant) : linearTicks(limit, signed);
    return {
      limit,
      place,
      colour: (value) => between(colours, place(value)),
      ticks: signed ? [...ticks.slice(1).map((tick) => -tick).reverse(), ...ticks] : ticks,
      css: gradient(colours),
    };
  }

  // Where a logarithmic scale turns linear: the power of ten at or below a typical value.
  function turn(limit, typical) {
    const top = Math.floor(Math.log10(limit) + 1e-9);
    const [fewest, most] = DECADES.map((decades) => top - decades);
    const power = typical > 0 ? Math.min(fewest, Math.max(most, Math.floor(Math.log10(typical)))) : most;
    return Number(`1e${power}`);
  }

  function linearTicks(limit, signed) {
    const least = limit / (signed ? SIGNED_TICKS : TICKS);
    const power = Math.floor(Math.log10(least));
    const digit = [1, 2, 2.5, 5, 10].find((digit) => digit * 10 ** power >= least * (1 - 1e-9));
    const step = digit * 10 ** power;
    const count = Math.floor((limit / step) * (1 + 1e-9));
    return Array.from({ length: count + 1 }, (_, i) => Number((i * step).toPrecision(12)));
  }

  function logTicks(limit, constant) {
    const [low, top] = [Math.round(Math.log10(constant)), Math.floor(Math.log10(limit) + 1e-9)];
    const powers = Array.from({ length: top - low + 1 }, (_, i) => low + i);
    const tens = powers.slice(1).map((power) => Number(`1e${power}`)); // the first would lie too close to 0
    if (tens.length > 1) return [0, ...tens];
    const finer = powers.flatMap((power) => [2, 5].map((digit) => Number(`${digit}e${power}`)));
    return [0, ...tens, ...finer].filter((tick) => tick <= limit).sort((a, b) => a - b);
  }

  function gradient(colours) {
    return `linear-gradient(to top, ${colours.map((colour) => `rgb(${colour.join(" ")})`).join(", ")})`;
  }

  return { scale, between, stops, SCHEMES };
})();
