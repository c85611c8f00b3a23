// The official package, unmodified: what its own examples do.
import assert from "node:assert/strict";
import OpenAI, { toFile } from "openai";

const client = new OpenAI({ maxRetries: 0 });
const messages = [{ role: "user", content: "hi" }];

const answer = await client.chat.completions.create({ model: "chat", messages, seed: 7, temperature: 0.7 });
assert.equal(answer.choices[0].message.content, "Hello, wörld");

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

let chunks = await collect(await client.chat.completions.create({ model: "chat-alias", messages, stream: true }));
assert.equal(chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join(""), "Hello, wörld");
assert.ok(chunks.every((chunk) => chunk.usage == null));

chunks = await collect(
  await client.chat.completions.create({
    model: "chat", messages, stream: true, stream_options: { include_usage: true },
  }),
);
assert.equal(chunks.at(-1).usage.total_tokens, 7);

const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object", properties: {} } } }];
const called = await client.chat.completions.stream({ model: "tools", messages, tools }).finalChatCompletion();
assert.deepEqual(
  called.choices[0].message.tool_calls.map((call) => [call.id, JSON.parse(call.function.arguments).city]),
  [["call_0", "Paris"], ["call_1", "Oslo"]],
);

for (const prompt of ["a", ["a", "b"], [1, 2]]) {
  const completed = await client.completions.create({ model: "text", prompt });
  assert.equal(completed.choices[0].text, JSON.stringify(prompt));
}

for (const encoding_format of [undefined, "float"]) {
  const embedded = await client.embeddings.create({ model: "embed", input: ["a", "b"], encoding_format });
  assert.deepEqual(embedded.data.map((item) => [...item.embedding]), [[0.25, -0.5], [0.25, -0.5]]);
}

const file = await toFile(Buffer.alloc(3_000_000, 0xf7), "speech.wav");
const heard = await client.audio.transcriptions.create({ model: "audio", file });
assert.equal(heard.text, "3000000 bytes of audio");
const spoken = await client.audio.speech.create({ model: "audio", voice: "alloy", input: "hi" });
assert.equal((await spoken.arrayBuffer()).byteLength, 1000);

const classes = {
  400: OpenAI.BadRequestError, 401: OpenAI.AuthenticationError, 403: OpenAI.PermissionDeniedError,
  404: OpenAI.NotFoundError, 422: OpenAI.UnprocessableEntityError, 429: OpenAI.RateLimitError,
  500: OpenAI.InternalServerError,
};
for (const [status, kind] of Object.entries(classes)) {
  for (const stream of [false, true]) {
    await assert.rejects(client.chat.completions.create({ model: `error-${status}`, messages, stream }), (error) => {
      assert.ok(error instanceof kind, `${status}: ${error}`);
      assert.match(error.message, /as you wish/);
      return true;
    });
  }
}
await assert.rejects(client.chat.completions.create({ model: "nobody", messages }), { code: "model_not_found" });
await assert.rejects(client.chat.completions.create({ model: "chat", messages: [] }), { param: "messages" });

await assert.rejects(
  async () => collect(await client.chat.completions.create({ model: "broken", messages, stream: true })),
  OpenAI.APIError,
);
await assert.rejects(
  client.chat.completions.create({ model: "slow", messages }, { timeout: 300 }),
  OpenAI.APIConnectionTimeoutError,
);
const retried = await client.chat.completions.create({ model: "flaky", messages, user: "node" }, { maxRetries: 2 });
assert.equal(retried.choices[0].message.content, "try 3");

// Leaving in the middle of a stream is no error on either side.
const stream = await client.chat.completions.create({ model: "chat", messages, stream: true });
for await (const _ of stream) break;

const listed = await collect(await client.models.list());
assert.ok(listed.some((model) => model.id === "chat"));
assert.equal((await client.responses.create({ model: "respond", input: "hi" })).output_text, "Hello");
const events = await collect(await client.responses.create({ model: "respond", input: "hi", stream: true }));
assert.equal(events.at(-1).type, "response.completed");
