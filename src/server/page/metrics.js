// What /metrics says (https://prometheus.io/docs/instrumenting/exposition_formats/), and what follows from two of it.

// Name with its labels, as written, to value.
export function parseMetrics(text) {
  const samples = new Map();
  for (const line of text.split("\n")) {
    const space = line.lastIndexOf(" ");
    if (line === "" || line[0] === "#" || space < 0) continue;
    samples.set(line.slice(0, space), Number(line.slice(space + 1)));
  }
  return samples;
}

// A histogram's buckets, [[upper bound, count of what is not above it]], ascending.
function bucketsOf(samples, name) {
  const before = `${name}_bucket{le="`;
  const buckets = [];
  for (const [key, count] of samples) {
    if (!key.startsWith(before)) continue;
    const bound = key.slice(before.length, key.indexOf('"', before.length));
    buckets.push([bound === "+Inf" ? Infinity : Number(bound), count]);
  }
  return buckets.sort((a, b) => a[0] - b[0]);
}

// How much a counter grew; one that fell began again with the server.
export function increase(before, after, name) {
  const now = after.get(name) ?? 0;
  const then = before.get(name) ?? 0;
  return now >= then ? now - then : now;
}

// The q-quantile of what a histogram got between two states, evenly spread within each bucket as Prometheus' own
// histogram_quantile() has it. Null where it got nothing; the largest bound where it lies beyond.
export function quantileBetween(before, after, name, q) {
  const then = new Map(bucketsOf(before, name));
  const restarted = increase(before, after, `${name}_count`) === (after.get(`${name}_count`) ?? 0);
  const buckets = bucketsOf(after, name).map(([bound, count]) => [bound, count - (restarted ? 0 : (then.get(bound) ?? 0))]);
  const total = buckets.at(-1)?.[1] ?? 0;
  if (total <= 0) return null;
  const rank = q * total;
  let low = 0;
  let below = 0;
  for (const [bound, count] of buckets) {
    if (count >= rank && count > below) {
      if (bound === Infinity) return low;
      return low + ((bound - low) * (rank - below)) / (count - below);
    }
    low = bound;
    below = count;
  }
  return low;
}
