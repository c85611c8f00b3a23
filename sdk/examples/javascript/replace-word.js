// Gives requests without a temperature a default one, and writes one word for another in every answer.
//
// An export is named as its interface in camel case. A resource is a class of the export, a variant `{ tag, val }`, an
// `option` without a value `undefined`; what a function that returns a `result` throws is its error.

const OPERATIONS = ['chat.completions', 'completions', 'responses'];

/** Set by `init`. Every exchange has an instance of its own, so nothing here is shared between two of them. */
let settings;

export const lifecycle = {
  init(config) {
    settings = read(JSON.parse(config));
  },
};

export const onRequest = {
  handle(call) {
    if (OPERATIONS.includes(call.operation()) && call.get('/temperature') === undefined) {
      call.set('/temperature', JSON.stringify(settings.temperature));
      call.tag('temperature', 'default');
    }
    return { tag: 'next' };
  },
};

/** One answer's text. */
class Transformer {
  /** The ends of texts that may be the beginning of the word: `{ span, text }` by lane. */
  #held = new Map();

  push({ text, spans }) {
    const before = cut(text, spans);
    const after = spans.map((span, index) => this.#replace(span, before[index]));
    const isChanged = after.some((text, index) => text !== before[index]);
    return {
      action: isChanged ? { tag: 'replace', val: join(after, spans) } : { tag: 'unchanged' },
      // What is withheld must go out before the text after it, so the host may not let that pass.
      wake: this.#held.size > 0 ? { tag: 'every-batch' } : wakeForWord(),
    };
  }

  finish() {
    const held = [...this.#held.values()];
    if (held.length === 0) return { action: { tag: 'unchanged' } };
    const late = join(held.map(({ text }) => text), held.map(({ span }) => span));
    return { action: { tag: 'replace', val: late } };
  }

  #replace(span, piece) {
    const lane = `${span.choice} ${span.channel} ${span.subIndex}`;
    const parts = ((this.#held.get(lane)?.text ?? '') + piece).split(settings.find);
    const rest = parts.pop();
    const end = rest.length - beginning(rest);
    this.#held.delete(lane);
    if (end < rest.length) this.#held.set(lane, { span, text: rest.slice(end) });
    return [...parts, rest.slice(0, end)].join(settings.replace);
  }
}

export const streamText = {
  Transformer,
  open() {
    return { handle: new Transformer(), wake: wakeForWord(), channels: ['content'] };
  },
};

function wakeForWord() {
  return { tag: 'on-literal', val: [settings.find] };
}

/** How much of the end of a text may be the beginning of the word. */
function beginning(text) {
  let length = Math.min(text.length, settings.find.length - 1);
  while (length > 0 && !settings.find.startsWith(text.slice(-length))) length -= 1;
  return length;
}

/** The texts of the spans. Spans count bytes of UTF-8, JavaScript does not. */
function cut(text, spans) {
  const bytes = new TextEncoder().encode(text);
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  let end = 0;
  return spans.map(({ len }) => decoder.decode(bytes.subarray(end, (end += len))));
}

/** The batch of these texts, each in the place of its span. */
function join(texts, spans) {
  const encoder = new TextEncoder();
  return {
    text: texts.join(''),
    spans: texts.map((text, index) => ({ ...spans[index], len: encoder.encode(text).length })),
  };
}

function read(config) {
  if (config === null || typeof config !== 'object' || Array.isArray(config)) throw '`config` must be a mapping';
  const { temperature = 0.2, find, replace, ...others } = config;
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) throw `\`${unknown}\` is no setting; there are \`temperature\`, \`find\` and \`replace\``;
  if (typeof temperature !== 'number' || temperature < 0 || temperature > 2) throw '`temperature` must be a number from 0 to 2';
  if (typeof find !== 'string' || find === '') throw '`find` must be the word to replace';
  if (typeof replace !== 'string') throw '`replace` must be the word to write instead';
  return { temperature, find, replace };
}
