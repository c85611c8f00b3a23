// What is asked of every client, in words that all of them have.
//
// A client gives answers as objects of `text`, `thinking`, `calls`, `stop`, `word`, `usage` and `model`; its sessions hold the
// history as the SDK's own objects, the way its users do.

import { isDeepStrictEqual } from "node:util";

export const PICTURE =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
export const WEATHER = {
  type: "object",
  properties: { city: { type: "string", description: "Where." }, days: { type: "integer" } },
  required: ["city", "days"],
  additionalProperties: false,
};
export const PLACE = {
  type: "object",
  properties: { city: { type: "string" }, degrees: { type: "integer" } },
  required: ["city", "degrees"],
  additionalProperties: false,
};

// What only some clients have.
export const RARE = ["count", "embeddings", "chat"];

/** What of the message of an error has come through. */
export const said = (message) => (String(message).includes("as you wish") ? "as you wish" : null);

/** The same asked whole and streamed: one answer if it is the same. */
async function both(ask) {
  const [whole, stream] = [await ask(false), await ask(true)];
  return isDeepStrictEqual(whole, stream) ? { both: whole } : { whole, stream };
}

const ask = (client, story, options = {}) =>
  both((isStream) => client.session(story, isStream, options).say("hi"));

const described = async (client, options) => {
  const { calls, text } = await client.session("describe", false, options).say("hi");
  // Who has to call a tool says it there.
  return calls.length ? calls[0].arguments : JSON.parse(text);
};

const roundTrip = (client, story, options) =>
  both(async (isStream) => {
    const session = client.session(story, isStream, { tools: true, ...options });
    const first = await session.say("What is the weather in Paris and Málaga?");
    const ids = first.calls.map((call) => call.id);
    first.ids = new Set(ids).size === ids.length && ids.every(Boolean) ? "distinct" : ids;
    first.calls.forEach((call) => delete call.id);
    // In the other order than they were asked in: only the ids tell them apart.
    const second = await session.outcomes([
      [1, { degrees: 25 }],
      [0, { degrees: 20 }],
    ]);
    return { first, second, third: (await session.say("Thanks")).text };
  });

/** What an error tells, or that there is none. */
async function failure(client, ask) {
  try {
    await ask();
  } catch (error) {
    return client.told(error);
  }
  return { class: "no error" };
}

export const ALL = {
  text: (client) => ask(client, "plain"),
  think: (client) => ask(client, "think", { thinking: true }),
  // Hidden thinking is kept by the client and given back.
  redacted: (client) =>
    both(async (isStream) => {
      const session = client.session("redacted", isStream, { thinking: true });
      return { first: await session.say("hi"), second: await session.say("and now?") };
    }),
  length: (client) => ask(client, "length", { maxTokens: 20 }),
  word: (client) => ask(client, "word", { stop: ["END"] }),
  refused: (client) => ask(client, "refused"),
  alias: (client) => ask(client, "alias"),
  tools: (client) => roundTrip(client, "tools", {}),
  "think-tools": (client) => roundTrip(client, "think-tools", { thinking: true }),
  image: async (client) => {
    const parts = [
      ["text", "What is this?"],
      ["image", PICTURE],
    ];
    return JSON.parse((await client.session("describe", false, {}).say(parts)).text).turns;
  },
  system: async (client) => {
    const options = { system: ["Be brief.", "Speak French."], developer: ["Never lie."] };
    const { system, turns } = await described(client, options);
    return { system, turns };
  },
  settings: async (client) => {
    const options = { maxTokens: 2000, temperature: 0.5, topP: 0.9, stop: ["END", "STOP"] };
    const { max_tokens, temperature, top_p, stop = null } = await described(client, options);
    return { max_tokens, temperature, top_p, stop };
  },
  "tool-choice": async (client) => {
    const choices = {};
    for (const choice of ["auto", "none", "required", "named:weather"]) {
      const found = await described(client, { tools: true, choice });
      choices[choice] = found.tool_choice ?? "auto";
      choices.tools = found.tools;
    }
    choices.alone = (await described(client, { tools: true, parallel: false })).parallel ?? true;
    return choices;
  },
  // What the SDK's own helper makes of it.
  schema: (client) => client.parsed("schema"),
  errors: async (client) => {
    const errors = {};
    for (const status of [400, 401, 403, 404, 429, 500, 503, 529]) {
      const [whole, stream] = await Promise.all(
        [false, true].map((isStream) =>
          failure(client, () => client.session(`error-${status}`, isStream, {}).say("hi")),
        ),
      );
      errors[status] = whole;
      if (!isDeepStrictEqual(whole, stream)) errors[`${status} streamed`] = stream;
    }
    return errors;
  },
  // A stream that the upstream ends with an error, or that is cut, is no whole answer.
  broken: async (client) => {
    const errors = {};
    for (const story of ["broken", "cut"]) {
      errors[story] = (await failure(client, () => client.session(story, true, {}).say("hi"))).class;
    }
    return errors;
  },
  // The result of a call that nobody made.
  orphan: (client) => failure(client, () => client.orphan()),
  count: (client) => client.count("plain"),
  embeddings: async (client) => {
    try {
      return await client.embeddings("plain");
    } catch {
      return "refused";
    }
  },
  models: (client) => client.models(),
  chat: (client) => client.chat("tools"),
};
