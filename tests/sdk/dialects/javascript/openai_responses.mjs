// OpenAI's client, Responses.

import assert from "node:assert";

import { Client as ChatClient } from "./openai_chat.mjs";
import { PLACE, RARE, WEATHER } from "./scenarios.mjs";

export class Client extends ChatClient {
  can(scenario) {
    // The API has no stop words.
    return !RARE.includes(scenario) && !["word", "models"].includes(scenario);
  }

  session(story, isStream, options) {
    return new Session(this, this.prefix + story, isStream, options);
  }

  async parsed(story) {
    const format = { type: "json_schema", name: "place", schema: PLACE, strict: true };
    const request = { model: this.prefix + story, input: "hi", text: { format } };
    const answer = await this.sdk.responses.parse(request);
    const streamed = await this.sdk.responses.stream(request).finalResponse();
    return [answer, streamed].map((found) => JSON.parse(found.output_text));
  }

  async orphan() {
    const output = { type: "function_call_output", call_id: "call_9", output: "20" };
    const input = [{ role: "user", content: "hi" }, output];
    await this.sdk.responses.create({ model: `${this.prefix}plain`, input });
  }
}

/** An event says that the answer failed. */
class Failed extends Error {}

class Session {
  constructor(client, model, isStream, options) {
    Object.assign(this, { client, isStream });
    this.request = { model };
    const [instructions, ...system] = options.system ?? [];
    if (instructions) this.request.instructions = instructions;
    const roles = [
      ["system", system],
      ["developer", options.developer ?? []],
    ];
    this.history = roles.flatMap(([role, texts]) => texts.map((content) => ({ role, content })));
    if (options.maxTokens) this.request.max_output_tokens = options.maxTokens;
    if (options.temperature) this.request.temperature = options.temperature;
    if (options.topP) this.request.top_p = options.topP;
    if (options.thinking) {
      this.request.reasoning = { effort: "low", summary: "auto" };
      this.request.include = ["reasoning.encrypted_content"];
      this.request.store = false;
    }
    if (options.tools) {
      const weather = { name: "weather", description: "Tells the weather.", parameters: WEATHER, strict: true };
      this.request.tools = [{ type: "function", ...weather }];
    }
    if (options.choice) {
      const [, name] = options.choice.split(":");
      this.request.tool_choice = name ? { type: "function", name } : options.choice;
    }
    if (options.parallel !== undefined) this.request.parallel_tool_calls = options.parallel;
  }

  say(parts) {
    const content = typeof parts === "string" ? parts : parts.map(part);
    this.history.push({ role: "user", content });
    return this.ask();
  }

  outcomes(outcomes) {
    for (const [number, outcome] of outcomes) {
      const output = JSON.stringify(outcome);
      this.history.push({ type: "function_call_output", call_id: this.ids[number], output });
    }
    return this.ask();
  }

  async ask() {
    const { responses } = this.client.sdk;
    const request = { ...this.request, input: this.history };
    const answer = this.isStream
      ? await streamed(await responses.create({ ...request, stream: true }))
      : await responses.create(request);
    const items = (type) => answer.output.filter((item) => item.type === type);
    this.history.push(...answer.output);
    this.ids = items("function_call").map((item) => item.call_id);
    const reason = answer.incomplete_details?.reason;
    assert.equal(answer.status, reason ? "incomplete" : "completed");
    const stop = { max_output_tokens: "length", content_filter: "content_filter" }[reason] ?? "stop";
    const texts = items("message").flatMap((item) => item.content.map((part) => part.text));
    const { usage } = answer;
    return {
      text: texts.join(""),
      thinking: items("reasoning")
        .flatMap((item) => item.summary.map((part) => part.text))
        .join(""),
      calls: items("function_call").map(({ call_id, name, arguments: json }) => ({
        id: call_id,
        name,
        arguments: JSON.parse(json),
      })),
      stop: this.ids.length ? "tool_calls" : stop,
      usage: [
        usage.input_tokens,
        usage.output_tokens,
        usage.input_tokens_details.cached_tokens,
        usage.output_tokens_details.reasoning_tokens,
      ],
      model: answer.model,
    };
  }
}

/** The answer that the stream ends with; what was told before it is the same. */
async function streamed(stream) {
  const items = [];
  let answer;
  let number = 0;
  for await (const event of stream) {
    assert.equal(event.sequence_number, number++);
    if (event.type === "error") throw new Failed(event.message);
    if (event.type === "response.failed") throw new Failed(event.response.error.message);
    if (event.type === "response.output_item.done") items[event.output_index] = event.item;
    if (["response.completed", "response.incomplete"].includes(event.type)) answer = event.response;
  }
  if (!answer) throw new Failed("the stream ended before its answer did");
  assert.deepStrictEqual(items, answer.output);
  return answer;
}

function part([kind, value]) {
  if (kind === "image") return { type: "input_image", image_url: `data:image/png;base64,${value}`, detail: "auto" };
  return { type: "input_text", text: value };
}
