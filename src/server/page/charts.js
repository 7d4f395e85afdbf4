// A chart: lines over the last minutes, in the elements that index.html has for it. Colours are the style sheet's.

const WIDTH = 180; // in the drawing's own units
const HEIGHT = 60;

// How many samples fit: the last one is at the right edge.
export const N_SAMPLES = 121;

// The smallest of 1, 2, 5 times a power of ten that is not below.
export function niceCeiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= value * (1 - 1e-9));
}

// Points of one line; a sample that is null leaves a gap.
function pathOf(values, max) {
  let path = "";
  let drawing = false;
  values.forEach((value, i) => {
    if (value === null) {
      drawing = false;
      return;
    }
    const x = WIDTH - ((values.length - 1 - i) * WIDTH) / (N_SAMPLES - 1);
    const y = HEIGHT - (Math.min(value, max) / max) * (HEIGHT - 2) - 1;
    path += `${drawing ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(2)}`;
    if (!drawing && values[i + 1] == null) path += "h0.01"; // one alone is a dot
    drawing = true;
  });
  return path;
}

export class Chart {
  // series: one or two of {name, values}; format: a value in words; ceiling: the axis' end, by default what fits.
  constructor({ title, series, format, ceiling = null, floor = 0 }) {
    this.series = series;
    this.format = format;
    this.ceiling = ceiling;
    this.floor = floor;
    this.element = document.getElementById("chart").content.firstElementChild.cloneNode(true);
    this.element.querySelector("h3").textContent = title;
    this.legend = this.element.querySelector("dl");
    this.readings = series.map(({ name }) => this.addReading(name));
    this.top = this.element.querySelector(".axis");
    this.paths = [...this.element.querySelectorAll("path")];
    this.drawing = this.element.querySelector("svg");
  }

  addReading(name) {
    const term = document.createElement("dt");
    const reading = document.createElement("dd");
    term.textContent = name;
    this.legend.append(term, reading);
    return reading;
  }

  draw() {
    const all = this.series.flatMap(({ values }) => values.filter((value) => value !== null));
    const max = this.ceiling ?? niceCeiling(Math.max(this.floor, ...all));
    this.top.textContent = this.format(max);
    this.series.forEach(({ values }, i) => {
      this.paths[i].setAttribute("d", pathOf(values, max));
      const last = values.at(-1) ?? null;
      this.readings[i].textContent = last === null ? "–" : this.format(last);
    });
    const words = this.series.map(({ name }, i) => `${name} ${this.readings[i].textContent}`).join(", ");
    this.drawing.setAttribute("aria-label", `${this.element.querySelector("h3").textContent}: ${words}`);
  }
}
