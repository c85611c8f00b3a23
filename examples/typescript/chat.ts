// A question and its answer, whole and as a stream: the SDK as it is, with another `baseURL`.
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: process.env.WITGATE_URL ?? "http://localhost:8000/v1",
  // One of the gateway's own keys, where it has any; the upstreams' keys stay in the gateway.
  apiKey: process.env.WITGATE_KEY ?? "none",
});
const model = process.env.MODEL ?? "echo";
const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: "user", content: "hello out there" }];

const answer = await client.chat.completions.create({ model, messages });
console.log(answer.choices[0]?.message.content);

const stream = await client.chat.completions.create({
  model,
  messages,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  // The last chunk has the usage and no choice.
  if (chunk.choices[0]) process.stdout.write(chunk.choices[0].delta.content ?? "");
  else if (chunk.usage) console.log(`\n${chunk.usage.total_tokens} tokens`);
}
