// `spate serve` as a process, on a free port, with the bundled model on the CPU.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

export class Server {
  // Resolves when the server takes requests; `options` are more of its command line's.
  static async start(options = []) {
    const child = spawn(process.env.SPATE, ["serve", "--port", "0", "--device", "cpu", ...options], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const kill = () => child.kill("SIGKILL");
    process.once("exit", kill);
    child.once("exit", () => process.removeListener("exit", kill));
    for await (const line of createInterface({ input: child.stdout })) {
      const address = /http:\/\/127\.0\.0\.1:\d+/.exec(line);
      if (address) return new Server(child, address[0]);
    }
    throw new Error(`spate serve ended before it served, exit code ${child.exitCode}`);
  }

  constructor(child, url) {
    this.child = child;
    this.url = url; // without a slash at its end
    this.openai = `${url}/v1`;
  }

  // Ends it as an administrator would; resolves to the exit code.
  async stop() {
    if (this.child.exitCode !== null) return this.child.exitCode;
    this.child.kill("SIGTERM");
    const [code] = await once(this.child, "exit");
    return code;
  }

  // A number that GET /metrics gives; `name` includes the labels.
  async metric(name, headers = {}) {
    const response = await fetch(`${this.url}/metrics`, { headers });
    const text = await response.text();
    const line = text.split("\n").find((candidate) => candidate.startsWith(`${name} `));
    if (line === undefined) throw new Error(`no metric ${name} in a ${response.status}:\n${text}`);
    return Number(line.slice(name.length + 1));
  }

  // Resolves once nothing runs and nothing waits; the test's own time limit bounds it.
  async idle() {
    while ((await this.metric("spate_num_requests_running")) > 0 || (await this.metric("spate_num_requests_waiting")) > 0);
  }
}
