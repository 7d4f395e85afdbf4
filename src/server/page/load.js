// The view of the server's load: /metrics, asked every second while somebody looks, drawn over two minutes.
import { metricsText } from "./api.js";
import { Chart, N_SAMPLES } from "./charts.js";
import { increase, parseMetrics, quantileBetween } from "./metrics.js";

const PERIOD_MS = 1000;
// Latencies are of what came in this time: one second holds too few for a 90th percentile.
const LATENCY_WINDOW_MS = 15_000;

const whole = (value) => Math.round(value).toLocaleString("en");
const rate = (value) => (value < 10 ? value.toFixed(1).replace(/\.0$/, "") : whole(value));
const share = (value) => `${(value * 100).toFixed(value < 0.1 && value > 0 ? 1 : 0)} %`;

export function duration(seconds) {
  if (seconds < 0.01) return `${Number((seconds * 1000).toPrecision(2))} ms`;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  return `${Number(seconds.toPrecision(3))} s`;
}

const gauge = (name) => ({ now }) => now.get(name) ?? null;
const perSecond = (name) => ({ before, now, seconds }) => (before ? increase(before, now, name) / seconds : null);
const quantile = (name, q) => ({ window, now }) => (window ? quantileBetween(window, now, name, q) : null);

const CHARTS = [
  {
    title: "Answers",
    format: whole,
    floor: 4,
    lines: [["running", gauge("spate_num_requests_running")], ["waiting", gauge("spate_num_requests_waiting")]],
  },
  {
    title: "Tokens a second",
    format: rate,
    floor: 10,
    lines: [["out", perSecond("spate_generation_tokens_total")], ["in", perSecond("spate_prompt_tokens_total")]],
  },
  {
    title: "KV cache in use",
    format: share,
    ceiling: 1,
    lines: [["held", gauge("spate_kv_cache_usage_ratio")]],
  },
  {
    title: "Time to first token",
    format: duration,
    lines: [["p50", quantile("spate_ttft_seconds", 0.5)], ["p90", quantile("spate_ttft_seconds", 0.9)]],
  },
  {
    title: "Gap between tokens",
    format: duration,
    lines: [["p50", quantile("spate_inter_token_seconds", 0.5)], ["p90", quantile("spate_inter_token_seconds", 0.9)]],
  },
];

export class LoadView {
  // Draws into `place`, and says in `status` what is wrong.
  constructor(place, status) {
    this.status = status;
    this.polls = []; // [{at, samples}], those of the latency window
    this.timer = null;
    this.wanted = false;
    this.lines = [];
    this.charts = CHARTS.map(({ lines, ...chart }) => {
      const series = lines.map(([name, read]) => ({ name, read, values: [] }));
      this.lines.push(...series);
      return new Chart({ ...chart, series });
    });
    place.append(...this.charts.map((chart) => chart.element));
    document.addEventListener("visibilitychange", () => this.schedule());
  }

  // Whether somebody looks.
  show(wanted) {
    this.wanted = wanted;
    this.schedule();
  }

  schedule() {
    const wanted = this.wanted && !document.hidden;
    if (wanted && this.timer === null) {
      this.timer = setInterval(() => this.poll(), PERIOD_MS);
      this.poll();
    } else if (!wanted && this.timer !== null) {
      clearInterval(this.timer);
      this.timer = null;
    }
  }

  async poll() {
    if (this.polling) return; // the last one is still under way
    this.polling = true;
    try {
      this.take(parseMetrics(await metricsText()), performance.now());
      this.status.textContent = "";
    } catch (error) {
      this.status.textContent = `No figures: ${error.message}`;
      // Only a key changes that; the page shows the view again when it has one.
      if (error.status === 401) this.show(false);
    } finally {
      this.polling = false;
    }
  }

  take(now, at) {
    const last = this.polls.at(-1);
    const context = { now, before: last?.samples, window: this.polls[0]?.samples, seconds: last ? (at - last.at) / 1000 : 0 };
    for (const line of this.lines) {
      line.values.push(line.read(context));
      if (line.values.length > N_SAMPLES) line.values.shift();
    }
    this.polls.push({ at, samples: now });
    while (this.polls.length > 1 && at - this.polls[0].at > LATENCY_WINDOW_MS) this.polls.shift();
    for (const chart of this.charts) chart.draw();
  }
}
