// Numbers in words, and the colours of operations.

const COLOURS = {
  READ: "--read", WRITE: "--write", FLUSH: "--flush", DISCARD: "--discard", WRITE_ZEROES: "--zeroes", SECURE_ERASE: "--erase",
};
const SHORT = { WRITE_ZEROES: "ZEROES", SECURE_ERASE: "ERASE" };

function colourName(operation) {
  return COLOURS[operation] || "--other";
}

function count(number) {
  return number.toLocaleString("en-US");
}

function plural(number, word) {
  return `${count(number)} ${word}${number === 1 ? "" : "s"}`;
}

// A duration in three or four digits and a unit.
function duration(ns) {
  if (!Number.isFinite(ns)) return "–";
  for (const [size, unit] of [[1e9, "s"], [1e6, "ms"], [1e3, "µs"]]) {
    if (Math.abs(ns) >= size) {
      const value = ns / size;
      return `${value.toFixed(Math.abs(value) < 10 ? 2 : Math.abs(value) < 100 ? 1 : 0)} ${unit}`;
    }
  }
  return `${Math.round(ns)} ns`;
}

// A moment since the first event, in seconds, to the microsecond.
function moment(ns) {
  return `${(ns / 1e9).toFixed(6)} s`;
}

function bytes(number) {
  let unit = 0;
  let value = number;
  while (value >= 1024 && unit < 5) {
    value /= 1024;
    unit++;
  }
  const digits = Number.isInteger(value) || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${["B", "KiB", "MiB", "GiB", "TiB", "PiB"][unit]}`;
}

// A guest address or a place on a disk.
function hex(number) {
  return `0x${number.toString(16)}`;
}

// The value below which a share of the sorted `values` lies.
function percentile(values, share) {
  return values.length ? values[Math.min(Math.ceil(values.length * share) - 1, values.length - 1)] : NaN;
}

// The greatest of 1, 2 and 5 times a power of ten by which marks are at least `least` apart.
function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  for (const factor of [1, 2, 5, 10]) if (factor * power >= least) return factor * power;
  return 10 * power;
}
