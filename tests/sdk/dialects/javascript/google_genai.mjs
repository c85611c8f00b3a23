// Google's client.

import { GoogleGenAI } from "@google/genai";

import { PLACE, WEATHER, said } from "./scenarios.mjs";

const STOPS = { STOP: "stop", MAX_TOKENS: "length", SAFETY: "content_filter", PROHIBITED_CONTENT: "content_filter" };

export class Client {
  constructor(url, prefix) {
    this.sdk = new GoogleGenAI({ apiKey: "sk-caller", httpOptions: { baseUrl: url } });
    this.prefix = prefix;
  }

  can(scenario) {
    return scenario !== "chat";
  }

  session(story, isStream, options) {
    return new Session(this, this.prefix + story, isStream, options);
  }

  told(error) {
    const status = error.status ?? null;
    // The client shows no headers.
    const retry_after = status === 429 ? "7" : null;
    return { class: error.constructor.name, status, retry_after, says: said(error.message) };
  }

  async parsed(story) {
    const config = { responseMimeType: "application/json", responseJsonSchema: PLACE };
    const request = { model: this.prefix + story, contents: "hi", config };
    const answer = await this.sdk.models.generateContent(request);
    let streamed = "";
    for await (const chunk of await this.sdk.models.generateContentStream(request)) streamed += chunk.text ?? "";
    return [answer.text, streamed].map((text) => JSON.parse(text));
  }

  async orphan() {
    const part = { functionResponse: { name: "weather", response: { degrees: 20 } } };
    const contents = [{ role: "user", parts: [part] }];
    await this.sdk.models.generateContent({ model: `${this.prefix}plain`, contents });
  }

  async count(story) {
    return (await this.sdk.models.countTokens({ model: this.prefix + story, contents: "hi" })).totalTokens;
  }

  async embeddings(story) {
    const model = this.prefix + story;
    const [one, two] = [
      await this.sdk.models.embedContent({ model, contents: "a" }),
      await this.sdk.models.embedContent({ model, contents: ["a", "b"] }),
    ];
    const vectors = (answer) => answer.embeddings.map((item) => item.values);
    return { one: vectors(one), two: vectors(two) };
  }

  async models() {
    const names = [];
    for await (const model of await this.sdk.models.list()) names.push(model.name);
    return names.sort();
  }
}

class Session {
  constructor(client, model, isStream, options) {
    Object.assign(this, { client, model, isStream });
    this.history = [];
    const config = {};
    if (options.maxTokens) config.maxOutputTokens = options.maxTokens;
    if (options.temperature) config.temperature = options.temperature;
    if (options.topP) config.topP = options.topP;
    if (options.stop) config.stopSequences = options.stop;
    const system = [...(options.system ?? []), ...(options.developer ?? [])];
    if (system.length) config.systemInstruction = { parts: system.map((text) => ({ text })) };
    if (options.thinking) config.thinkingConfig = { includeThoughts: true, thinkingBudget: 2000 };
    if (options.tools) {
      const weather = { name: "weather", description: "Tells the weather.", parametersJsonSchema: WEATHER };
      config.tools = [{ functionDeclarations: [weather] }];
    }
    if (options.choice) {
      const [kind, name] = options.choice.split(":");
      const mode = { auto: "AUTO", none: "NONE", required: "ANY", named: "ANY" }[kind];
      const functionCallingConfig = name ? { mode, allowedFunctionNames: [name] } : { mode };
      config.toolConfig = { functionCallingConfig };
    }
    this.config = config;
  }

  say(parts) {
    const said = typeof parts === "string" ? [["text", parts]] : parts;
    return this.ask(said.map(part));
  }

  outcomes(outcomes) {
    // The client has no ids where the upstream gives none: then the order tells.
    const hasIds = this.calls.every((call) => call.id);
    const ordered = hasIds ? outcomes : outcomes.toSorted(([a], [b]) => a - b);
    const parts = ordered.map(([number, response]) => {
      const { id, name } = this.calls[number];
      return { functionResponse: { id, name, response } };
    });
    return this.ask(parts);
  }

  async ask(said) {
    this.history.push({ role: "user", parts: said });
    const request = { model: this.model, contents: this.history, config: this.config };
    const { models } = this.client.sdk;
    const chunks = [];
    if (this.isStream) {
      for await (const chunk of await models.generateContentStream(request)) chunks.push(chunk);
    } else {
      chunks.push(await models.generateContent(request));
    }
    const candidates = chunks.map((chunk) => chunk.candidates[0]);
    const parts = candidates.flatMap((candidate) => candidate.content?.parts ?? []);
    const finish = candidates.find((candidate) => candidate.finishReason)?.finishReason;
    this.history.push({ role: "model", parts });
    this.calls = parts.filter((part) => part.functionCall).map((part) => part.functionCall);
    // Without a finish the stream is no whole answer.
    if (!finish) throw new Error("the stream ended before its answer did");
    const { usageMetadata: usage, modelVersion: model } = chunks.at(-1);
    const thoughts = usage.thoughtsTokenCount ?? 0;
    const texts = (isThought) => parts.filter((part) => part.text && !!part.thought === isThought);
    return {
      text: texts(false)
        .map((part) => part.text)
        .join(""),
      thinking: texts(true)
        .map((part) => part.text)
        .join(""),
      calls: this.calls.map(({ id, name, args }, place) => ({ id: id ?? `#${place}`, name, arguments: args })),
      stop: this.calls.length ? "tool_calls" : STOPS[finish],
      usage: [
        usage.promptTokenCount,
        (usage.candidatesTokenCount ?? 0) + thoughts,
        usage.cachedContentTokenCount ?? 0,
        thoughts,
      ],
      model,
    };
  }
}

function part([kind, value]) {
  if (kind === "image") return { inlineData: { mimeType: "image/png", data: value } };
  return { text: value };
}
