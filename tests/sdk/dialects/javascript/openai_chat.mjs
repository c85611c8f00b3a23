// OpenAI's client, chat completions.

import OpenAI from "openai";

import { PLACE, RARE, WEATHER, said } from "./scenarios.mjs";

export class Client {
  constructor(url, prefix) {
    this.sdk = new OpenAI({ baseURL: `${url}/v1`, apiKey: "sk-caller", maxRetries: 0 });
    this.prefix = prefix;
  }

  can(scenario) {
    return !RARE.includes(scenario) || scenario === "embeddings";
  }

  session(story, isStream, options) {
    return new Session(this, this.prefix + story, isStream, options);
  }

  told(error) {
    const status = error.status ?? null;
    const retry_after = (status && error.headers?.get("retry-after")) ?? null;
    return { class: error.constructor.name, status, retry_after, says: said(error.message) };
  }

  async parsed(story) {
    const request = {
      model: this.prefix + story,
      messages: [{ role: "user", content: "hi" }],
      response_format: { type: "json_schema", json_schema: { name: "place", schema: PLACE, strict: true } },
    };
    const answer = await this.sdk.chat.completions.parse(request);
    const streamed = await this.sdk.chat.completions.stream(request).finalChatCompletion();
    // A schema by hand has no parser in the SDK.
    return [answer, streamed].map((found) => JSON.parse(found.choices[0].message.content));
  }

  async orphan() {
    const messages = [
      { role: "user", content: "hi" },
      { role: "tool", tool_call_id: "call_9", content: "20" },
    ];
    await this.sdk.chat.completions.create({ model: `${this.prefix}plain`, messages });
  }

  async embeddings(story) {
    const model = this.prefix + story;
    const one = await this.sdk.embeddings.create({ model, input: "a" });
    const two = await this.sdk.embeddings.create({ model, input: ["a", "b"], encoding_format: "float" });
    const vectors = (list) => list.data.map((item) => Array.from(item.embedding));
    return { one: vectors(one), two: vectors(two) };
  }

  async models() {
    const names = [];
    for await (const model of this.sdk.models.list()) names.push(model.id);
    return names.sort();
  }
}

class Session {
  constructor(client, model, isStream, options) {
    Object.assign(this, { client, isStream });
    const roles = [
      ["system", options.system ?? []],
      ["developer", options.developer ?? []],
    ];
    this.history = roles.flatMap(([role, texts]) => texts.map((content) => ({ role, content })));
    this.request = { model };
    if (options.maxTokens) this.request.max_completion_tokens = options.maxTokens;
    if (options.temperature) this.request.temperature = options.temperature;
    if (options.topP) this.request.top_p = options.topP;
    if (options.stop) this.request.stop = options.stop;
    if (options.thinking) this.request.reasoning_effort = "low";
    if (options.tools) {
      const weather = { name: "weather", description: "Tells the weather.", parameters: WEATHER, strict: true };
      this.request.tools = [{ type: "function", function: weather }];
    }
    if (options.choice) {
      const [, name] = options.choice.split(":");
      this.request.tool_choice = name ? { type: "function", function: { name } } : options.choice;
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
      this.history.push({ role: "tool", tool_call_id: this.ids[number], content: JSON.stringify(outcome) });
    }
    return this.ask();
  }

  async ask() {
    const { completions } = this.client.sdk.chat;
    const request = { ...this.request, messages: this.history };
    const answer = this.isStream ? await this.streamed(completions, request) : await completions.create(request);
    const [{ message, finish_reason }] = answer.choices;
    this.history.push(asParam(message));
    const calls = message.tool_calls ?? [];
    this.ids = calls.map((call) => call.id);
    const { usage } = answer;
    return {
      text: message.content ?? "",
      thinking: message.reasoning_content ?? "",
      calls: calls.map(({ id, function: { name, arguments: json } }) => ({ id, name, arguments: JSON.parse(json) })),
      stop: finish_reason,
      usage: [
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.prompt_tokens_details?.cached_tokens ?? 0,
        usage.completion_tokens_details?.reasoning_tokens ?? 0,
      ],
      model: answer.model,
    };
  }

  async streamed(completions, request) {
    const stream = completions.stream({ ...request, stream_options: { include_usage: true } });
    let thinking = "";
    stream.on("chunk", (chunk) => (thinking += chunk.choices[0]?.delta.reasoning_content ?? ""));
    const answer = await stream.finalChatCompletion();
    // Of members that it does not know the helper keeps the last piece only.
    if (thinking) answer.choices[0].message.reasoning_content = thinking;
    return answer;
  }
}

function part([kind, value]) {
  if (kind === "image") return { type: "image_url", image_url: { url: `data:image/png;base64,${value}` } };
  return { type: "text", text: value };
}

/** The message as its user gives it back, without what only the helper for streams adds. */
function asParam({ parsed, ...message }) {
  const given = Object.fromEntries(Object.entries(message).filter(([, value]) => value != null));
  given.tool_calls = message.tool_calls?.map(({ index, function: { parsed_arguments, ...rest }, ...call }) => ({
    ...call,
    function: rest,
  }));
  return given;
}
