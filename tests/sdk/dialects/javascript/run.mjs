// Runs every scenario of one client against each of the URLs it is told, and prints what came of it, a line of JSON each.
//
// Arguments: the client's name, and a JSON list of `{"upstream": …, "prefix": …, "url": …}`.

import { ALL } from "./scenarios.mjs";

const [name, targets] = process.argv.slice(2);
const module = name.startsWith("vercel") ? "vercel" : name;
const clients = await import(`./${module}.mjs`);

// Objects are equal whatever the order of their members is.
const sorted = (value) => {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]));
};

for (const target of JSON.parse(targets)) {
  const client = new clients.Client(target.url, target.prefix, name);
  for (const [scenario, run] of Object.entries(ALL)) {
    if (!client.can(scenario)) continue;
    let result;
    try {
      result = await run(client);
    } catch (error) {
      result = { failed: `${error?.stack ?? error} ${JSON.stringify(error)}`.slice(0, 1500) };
    }
    console.log(JSON.stringify({ upstream: target.upstream, scenario, result: sorted(result ?? null) }));
  }
}
