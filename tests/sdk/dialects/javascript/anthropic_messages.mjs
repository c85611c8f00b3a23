// Anthropic's client.

import Anthropic from "@anthropic-ai/sdk";

import { PLACE, WEATHER, said } from "./scenarios.mjs";

const STOPS = {
  end_turn: "stop",
  stop_sequence: "stop",
  max_tokens: "length",
  tool_use: "tool_calls",
  refusal: "content_filter",
};

export class Client {
  constructor(url, prefix) {
    this.sdk = new Anthropic({ baseURL: url, apiKey: "sk-caller", maxRetries: 0 });
    this.prefix = prefix;
  }

  can(scenario) {
    return !["embeddings", "chat"].includes(scenario);
  }

  session(story, isStream, options) {
    return new Session(this, this.prefix + story, isStream, options);
  }

  told(error) {
    const status = error.status ?? null;
    const retry_after = (status && error.headers?.get("retry-after")) ?? null;
    const type = error.type ?? null;
    return { class: error.constructor.name, status, type, retry_after, says: said(error.message) };
  }

  async parsed(story) {
    const request = {
      model: this.prefix + story,
      max_tokens: 100,
      messages: [{ role: "user", content: "hi" }],
      output_config: { format: { type: "json_schema", schema: PLACE } },
    };
    const answer = await this.sdk.messages.create(request);
    const streamed = await this.sdk.messages.stream(request).finalMessage();
    return [answer, streamed].map((found) => JSON.parse(found.content[0].text));
  }

  async orphan() {
    const content = [{ type: "tool_result", tool_use_id: "toolu_9", content: "20" }];
    const messages = [{ role: "user", content }];
    await this.sdk.messages.create({ model: `${this.prefix}plain`, max_tokens: 100, messages });
  }

  async count(story) {
    const messages = [{ role: "user", content: "hi" }];
    const model = this.prefix + story;
    return (await this.sdk.messages.countTokens({ model, messages, system: "Be brief." })).input_tokens;
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
    this.history = [];
    this.request = { model, max_tokens: options.maxTokens ?? 4000 };
    if (options.temperature) this.request.temperature = options.temperature;
    if (options.topP) this.request.top_p = options.topP;
    if (options.stop) this.request.stop_sequences = options.stop;
    const system = [...(options.system ?? []), ...(options.developer ?? [])];
    if (system.length) this.request.system = system.map((text) => ({ type: "text", text }));
    if (options.thinking) this.request.thinking = { type: "enabled", budget_tokens: 2000 };
    if (options.tools) {
      this.request.tools = [{ name: "weather", description: "Tells the weather.", input_schema: WEATHER }];
    }
    if (options.choice) {
      const [kind, name] = options.choice.split(":");
      const type = { auto: "auto", none: "none", required: "any", named: "tool" }[kind];
      this.request.tool_choice = name ? { type, name } : { type };
    }
    if (options.parallel !== undefined) {
      this.request.tool_choice = { type: "auto", disable_parallel_tool_use: !options.parallel };
    }
  }

  say(parts) {
    const content = typeof parts === "string" ? parts : parts.map(part);
    this.history.push({ role: "user", content });
    return this.ask();
  }

  outcomes(outcomes) {
    const content = outcomes.map(([number, outcome]) => ({
      type: "tool_result",
      tool_use_id: this.ids[number],
      content: JSON.stringify(outcome),
    }));
    this.history.push({ role: "user", content });
    return this.ask();
  }

  async ask() {
    const { messages } = this.client.sdk;
    const request = { ...this.request, messages: this.history };
    const answer = this.isStream ? await messages.stream(request).finalMessage() : await messages.create(request);
    const blocks = (type) => answer.content.filter((block) => block.type === type);
    this.history.push({ role: "assistant", content: answer.content });
    this.ids = blocks("tool_use").map((block) => block.id);
    const { usage } = answer;
    const cached = usage.cache_read_input_tokens ?? 0;
    const found = {
      text: blocks("text")
        .map((block) => block.text)
        .join(""),
      thinking: blocks("thinking")
        .map((block) => block.thinking)
        .join(""),
      calls: blocks("tool_use").map(({ id, name, input }) => ({ id, name, arguments: input })),
      stop: STOPS[answer.stop_reason],
      usage: [
        usage.input_tokens + cached + (usage.cache_creation_input_tokens ?? 0),
        usage.output_tokens,
        cached,
        usage.output_tokens_details?.thinking_tokens ?? 0,
      ],
      model: answer.model,
    };
    if (answer.stop_sequence) found.word = answer.stop_sequence;
    return found;
  }
}

function part([kind, value]) {
  if (kind === "image") {
    return { type: "image", source: { type: "base64", media_type: "image/png", data: value } };
  }
  return { type: "text", text: value };
}
