// Vercel's AI SDK with the providers of the three vendors, and with that for servers that copy OpenAI.

import { createAnthropic } from "@ai-sdk/anthropic";
import { createGoogleGenerativeAI } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateObject, generateText, jsonSchema, streamObject, streamText, tool } from "ai";

import { PLACE, WEATHER, said } from "./scenarios.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;

const apiKey = "sk-caller";
const PROVIDERS = {
  vercel_openai: {
    create: (url) => createOpenAI({ baseURL: `${url}/v1`, apiKey }),
    always: { openai: { store: false } },
    thinking: { openai: { reasoningEffort: "low", reasoningSummary: "auto", forceReasoning: true, store: false } },
    alone: { openai: { parallelToolCalls: false, store: false } },
    // This provider asks the Responses API, which has no stop words.
    lacks: ["word"],
  },
  vercel_compatible: {
    create: (url) =>
      createOpenAICompatible({
        baseURL: `${url}/v1`,
        apiKey,
        // By this name the provider keeps the signatures of Google's models.
        name: "google",
        includeUsage: true,
        supportsStructuredOutputs: true,
      }),
    thinking: { google: { reasoningEffort: "low" } },
    // What this provider has no option for goes into the body as it stands.
    alone: { google: { parallel_tool_calls: false } },
    lacks: [],
  },
  vercel_anthropic: {
    create: (url) => createAnthropic({ baseURL: `${url}/v1`, apiKey }),
    thinking: { anthropic: { thinking: { type: "enabled", budgetTokens: 2000 } } },
    alone: { anthropic: { disableParallelToolUse: true } },
    lacks: ["embeddings"],
  },
  vercel_google: {
    create: (url) => createGoogleGenerativeAI({ baseURL: `${url}/v1beta`, apiKey }),
    thinking: { google: { thinkingConfig: { includeThoughts: true, thinkingBudget: 2000 } } },
    alone: {},
    lacks: [],
  },
};

export class Client {
  constructor(url, prefix, name) {
    Object.assign(this, PROVIDERS[name], { prefix });
    this.provider = this.create(url);
  }

  can(scenario) {
    return !["count", "models", "chat", "orphan", ...this.lacks].includes(scenario);
  }

  model(story) {
    return this.provider(this.prefix + story);
  }

  session(story, isStream, options) {
    return new Session(this, story, isStream, options);
  }

  told(error) {
    const status = error.statusCode ?? null;
    const retry_after = error.responseHeaders?.["retry-after"] ?? null;
    // The classes' names have a prefix; what an event of a stream tells is no error of a class.
    const name = error instanceof Error ? error.name.replace("AI_", "") : "told";
    return { class: name, status, retry_after, says: said(error.message) };
  }

  async parsed(story) {
    const request = { model: this.model(story), prompt: "hi", schema: jsonSchema(PLACE), maxRetries: 0 };
    if (this.always) request.providerOptions = this.always;
    const whole = await generateObject(request);
    const stream = streamObject({ ...request, onError: () => {} });
    let streamed;
    for await (const partial of stream.partialObjectStream) streamed = partial;
    return [whole.object, streamed];
  }

  async embeddings(story) {
    const model = this.provider.textEmbeddingModel(this.prefix + story);
    const [one, two] = await Promise.all(
      [["a"], ["a", "b"]].map((values) => embedMany({ model, values, maxRetries: 0 })),
    );
    return { one: one.embeddings, two: two.embeddings };
  }
}

class Session {
  constructor(client, story, isStream, options) {
    Object.assign(this, { client, isStream });
    const system = [...(options.system ?? []), ...(options.developer ?? [])];
    this.history = system.map((content) => ({ role: "system", content }));
    this.request = { model: client.model(story), maxRetries: 0, allowSystemInMessages: true };
    this.request.maxOutputTokens = options.maxTokens;
    this.request.providerOptions = client.always;
    if (options.temperature) this.request.temperature = options.temperature;
    if (options.topP) this.request.topP = options.topP;
    if (options.stop) this.request.stopSequences = options.stop;
    if (options.thinking) this.request.providerOptions = client.thinking;
    if (options.parallel === false) this.request.providerOptions = client.alone;
    if (options.tools) {
      const weather = { description: "Tells the weather.", inputSchema: jsonSchema(WEATHER) };
      this.request.tools = { weather: tool(weather) };
    }
    if (options.choice) {
      const [kind, toolName] = options.choice.split(":");
      this.request.toolChoice = toolName ? { type: "tool", toolName } : kind;
    }
  }

  say(parts) {
    const content = typeof parts === "string" ? parts : parts.map(part);
    this.history.push({ role: "user", content });
    return this.ask();
  }

  outcomes(outcomes) {
    const content = outcomes.map(([number, value]) => {
      const { toolCallId, toolName } = this.calls[number];
      return { type: "tool-result", toolCallId, toolName, output: { type: "json", value } };
    });
    this.history.push({ role: "tool", content });
    return this.ask();
  }

  async ask() {
    const request = { ...this.request, messages: this.history };
    const answer = this.isStream ? await streamed(request) : await generateText(request);
    this.history.push(...answer.response.messages);
    this.calls = answer.toolCalls;
    const { usage } = answer;
    return {
      text: answer.text,
      thinking: answer.reasoningText ?? "",
      calls: this.calls.map(({ toolCallId: id, toolName: name, input }) => ({ id, name, arguments: input })),
      stop: answer.finishReason.replace("-", "_"),
      usage: [
        usage.inputTokens,
        usage.outputTokens,
        usage.inputTokenDetails.cacheReadTokens ?? 0,
        usage.outputTokenDetails.reasoningTokens ?? 0,
      ],
      model: answer.response.modelId,
    };
  }
}

async function streamed(request) {
  const stream = streamText({ ...request, onError: () => {} });
  for await (const part of stream.fullStream) {
    if (part.type === "error") throw part.error;
  }
  const names = ["text", "reasoningText", "toolCalls", "finishReason", "usage", "response"];
  const values = await Promise.all(names.map((name) => stream[name]));
  return Object.fromEntries(names.map((name, place) => [name, values[place]]));
}

function part([kind, value]) {
  if (kind === "image") return { type: "image", image: value, mediaType: "image/png" };
  return { type: "text", text: value };
}
