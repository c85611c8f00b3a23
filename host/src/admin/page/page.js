// The operators' page: it shows what the admin listener says and keeps nothing but the token of this tab.
//
// What was recorded is whatever clients and models sent, so it gets here as text only: elements are made by `el`, nothing
// parses HTML, and no address out of a record becomes a link or is loaded.

const POLL_MS = 2_000;
const ANSWER_MS = 10_000;
/** A search of the audit may wait for its turn, and then take its time; the gateway says when that is too long. */
const SEARCH_MS = 40_000;
/** How far back the live list looks for a text or a label: for those, every exchange has to be read. */
const LIVE_SINCE = "10m";
/** The live list rests so many times as long as it was searched for. */
const LIVE_RESTS = 5;
const PAGE_LEN = 50;
/** What the list of exchanges may grow to while it is live. */
const LIVE_MAX = 200;
/** Longer texts are shown up to here until the reader asks for the rest. */
const TEXT_MAX = 4_000;

const TOKENS = ["input", "output", "cached", "reasoning"];

const TONES = {
  healthy: "good", ready: "good", complete: "good",
  failing: "bad", open: "bad", failed: "bad", quarantined: "bad",
  refused: "warn", rejected: "warn", probing: "warn", "half-open": "warn", half_open: "warn",
};

const at = id => document.getElementById(id);

// --- The gateway -----------------------------------------------------------------------------------------------------

/** The gateway said no, or nothing: the message is for the operator. */
class Refused extends Error {}

/**
 * Asks for a JSON document, or has something changed. Paths are relative, so that the page works below a prefix too.
 * `waits` says how long it waits for the answer, and what stops it before.
 */
async function call(path, change, waits) {
  const token = sessionStorage.getItem("token");
  const response = await send(path, token, change, waits);
  const document = await response.json().catch(() => null);
  if (response.status === 401) {
    // Another answer may have asked for a new token already.
    if (sessionStorage.getItem("token") === token) await askToken(token !== null);
    return call(path, change, waits);
  }
  if (response.ok && document !== null) return document;
  throw new Refused(document?.error?.message ?? `the gateway answered ${response.status} to ${path}`);
}

async function send(path, token, change, { ms = ANSWER_MS, stop } = {}) {
  const headers = token === null ? {} : { authorization: `Bearer ${token}` };
  const signal = AbortSignal.any([AbortSignal.timeout(ms), ...(stop ? [stop] : [])]);
  const options = { headers, cache: "no-store", signal };
  if (change) {
    headers["content-type"] = "application/json";
    Object.assign(options, { method: "POST", body: JSON.stringify(change) });
  }
  try {
    return await fetch(path, options);
  } catch {
    throw new Refused("does not answer");
  }
}

/** Whether it takes requests, in its own words. */
async function readiness() {
  const response = await send("readyz", null);
  return (await response.text()).trim();
}

let asked = null;

/** Resolves once the operator has given a token; everybody who waits shares one dialog. */
function askToken(wasRefused) {
  asked ??= new Promise(resolve => {
    say(at("token-problem"), wasRefused ? "The gateway does not accept this token." : "");
    at("token-value").value = "";
    at("token").showModal();
    at("token").addEventListener("close", resolve, { once: true });
  }).finally(() => { asked = null; });
  return asked;
}

function takeToken(event) {
  event.preventDefault();
  const token = at("token-value").value.trim();
  // Anything else cannot be sent in a header, so it cannot be the token.
  if (!/^[\x20-\x7e]+$/.test(token)) return say(at("token-problem"), "A token is plain ASCII text.");
  sessionStorage.setItem("token", token);
  at("forget").hidden = false;
  at("token").close();
}

// --- Watching --------------------------------------------------------------------------------------------------------

async function watch() {
  for (;;) {
    while (document.hidden) await seen(document, "visibilitychange");
    await refresh();
    await sleep(POLL_MS);
  }
}

let turns = 0;

/** Asks for everything and shows it, unless a later refresh has begun meanwhile: that one knows better. */
async function refresh() {
  const turn = ++turns;
  try {
    // First this one alone: where a token is missing, one answer says so and not four.
    const stats = await call("stats");
    const [ready, upstreams, plugins] = await Promise.all(
      [readiness(), call("admin/upstreams"), call("admin/plugins")]);
    if (turn !== turns) return;
    showTraffic(stats);
    showQueue(stats.audit);
    showUpstreams(upstreams.upstreams);
    showPlugins(plugins);
    await showAudit(stats.audit?.on === true);
    showState(ready, stats.uptime_seconds);
  } catch (error) {
    if (turn === turns) showLost(error);
  }
}

let lostAt = null;

function showState(ready, uptime) {
  tell(at("state"), ready, ready === "ready" ? "good" : "warn");
  say(at("uptime"), `up ${age(uptime)}`);
  if (lostAt !== null) announce("The gateway answers again");
  lostAt = null;
}

function showLost(error) {
  // What is no word of the gateway's is a defect of this page.
  if (!(error instanceof Refused)) console.error(error);
  if (lostAt === null) announce(`The gateway: ${error.message}`);
  lostAt ??= new Date();
  tell(at("state"), `${error.message}, since ${lostAt.toLocaleTimeString("en-GB")}`, "bad");
}

// --- Traffic ---------------------------------------------------------------------------------------------------------

/** Samples of what the gateway keeps no series of, one for each time it was asked. */
const samples = { duration: [], active: [] };

function showTraffic({ requests, window, tokens, status_codes: statuses }) {
  keep(samples.duration, window.latency_seconds?.p50);
  keep(samples.active, requests.active);
  const of = name => window.series.map(cell => cell[name]);
  const part = window.requests > 0 ? 100 * window.errors / window.requests : 0;
  sync(at("tiles"), [
    { name: "Requests", value: rate(window.requests_per_second), unit: "/s", note: `${count(window.requests)} in all`,
      series: of("requests") },
    { name: "Errors", value: rate(window.errors_per_second), unit: "/s", note: `${part.toFixed(1)} % of requests`,
      series: of("errors"), tone: window.errors > 0 ? "bad" : "" },
    { name: "First token", ...percentiles(window.ttft_seconds), series: of("ttft_p50") },
    { name: "Duration", ...percentiles(window.latency_seconds), series: samples.duration },
    { name: "Tokens", value: rate(window.tokens_per_second), unit: "/s", note: "in answers, without prompts", series: of("tokens") },
    { name: "In flight", value: count(requests.active), unit: "", note: `at most ${count(Math.max(...samples.active))}`,
      series: samples.active },
  ], tile => tile.name, makeTile);
  showFacts(at("totals"), [
    ["Requests", count(requests.total)], ["Streams", count(requests.streaming)],
    ["Successes", count(requests.success)], ["Errors", count(requests.error)],
    ["Time-outs", count(requests.timeout)], ["Retries", count(requests.retry)],
  ]);
  showFacts(at("tokens"), TOKENS.map(kind => [capital(kind), count(tokens[kind])]));
  showFacts(at("statuses"), Object.entries(statuses).map(([status, number]) => [status, count(number)]));
}

function percentiles({ p50, p95 }) {
  const [value, unit = ""] = seconds(p50).split(" ");
  return { value, unit: `${unit} p50`, note: `${seconds(p95)} p95` };
}

function keep(series, value) {
  series.push(value ?? 0);
  if (series.length > 60_000 / POLL_MS) series.shift();
}

function makeTile({ name }) {
  const [value, unit, note, path] = [el("strong"), el("span"), el("span", { class: "muted" }), svg("path")];
  const chart = svg("svg", { viewBox: "0 0 60 16", preserveAspectRatio: "none", "aria-hidden": "true" }, path);
  const tile = el("li", {}, el("h3", {}, name), el("p", {}, value, " ", unit), note, chart);
  return updated(tile, now => {
    say(value, now.value);
    say(unit, now.unit);
    say(note, now.note);
    tile.dataset.tone = now.tone ?? "";
    path.setAttribute("d", bars(now.series));
  });
}

/** One bar for each value, the newest at the right, the highest as high as the chart. */
function bars(values) {
  const highest = Math.max(...values, 0) || 1;
  const width = 60 / Math.max(values.length, 30);
  return values.map((value, index) => {
    const left = 60 - (values.length - index) * width;
    return value > 0 ? `M${left.toFixed(2)} 16v${(-16 * value / highest).toFixed(2)}h${(width * 0.8).toFixed(2)}V16z` : "";
  }).join("");
}

function showQueue(audit) {
  const { queued = 0, queued_bytes: length = 0, lag_ms: lag = 0, written = 0, dropped = 0, retrying, file } = audit ?? {};
  showFacts(at("queue"), audit?.on !== true ? [["State", "off"]] : [
    ["Queued", `${count(queued)}, ${bytes(length)}`], ["Lag", milliseconds(lag)], ["Written", count(written)],
    ["Dropped", count(dropped), dropped > 0 ? "bad" : ""], ["File", file],
  ]);
  say(at("retrying"), retrying ? `The audit cannot be written and tries again: ${retrying}` : "");
}

// --- Upstreams -------------------------------------------------------------------------------------------------------

let upstreams = [];

function showUpstreams(now) {
  upstreams = now;
  sync(at("upstream-rows"), now, upstream => upstream.name, makeUpstream);
  sync(at("upstream-names"), now, upstream => upstream.name, upstream => el("option", {}, upstream.name));
}

function makeUpstream({ name }) {
  const row = makeRow(at("upstream-rows"));
  const weight = makeWeight(name);
  const toggle = el("button", { type: "button" });
  const undo = el("button", { type: "button", "aria-label": `Undo the changes of ${name}` }, "Undo");
  const switches = el("div", { class: "switches" }, toggle, undo);
  toggle.onclick = () => toggleUpstream(name);
  undo.onclick = async () => {
    await changeUpstream(name, { enabled: null, weight: null }, `${name} is as the configuration says`);
    toggle.focus();
  };
  return updated(row, upstream => {
    say(toggle, upstream.enabled ? "Disable" : "Enable");
    toggle.setAttribute("aria-label", `${toggle.textContent} ${name}`);
    undo.hidden = !upstream.overridden;
    updates.get(weight)(upstream.weight);
    fill(row, [...upstreamCells(upstream), weight, switches]);
  });
}

function upstreamCells(upstream) {
  const { type, value = [] } = upstream.match ?? {};
  const failures = upstream.requests > 0 ? `${(100 * upstream.failures / upstream.requests).toFixed(1)} %` : "";
  return [
    stack(upstream.name, upstream.base_url), stack([value].flat().join(", ") || "every model", type),
    upstream.enabled ? chip(upstream.condition) : chip("disabled"), chip(upstream.breaker?.state ?? "none"),
    count(upstream.in_flight) + (upstream.max_in_flight > 0 ? ` of ${count(upstream.max_in_flight)}` : "")
      + (upstream.waiting > 0 ? `, ${count(upstream.waiting)} wait` : ""),
    upstream.latency_ms > 0 ? milliseconds(upstream.latency_ms) : "–",
    count(upstream.requests), stack(count(upstream.failures), failures),
  ];
}

function makeWeight(name) {
  const bounds = { type: "number", min: "0", max: "1000000", required: "" };
  const input = el("input", { ...bounds, "aria-label": `Weight of ${name}` });
  const button = el("button", { type: "submit", "aria-label": `Set the weight of ${name}` }, "Set");
  const form = el("form", { class: "weight" }, input, button);
  const isEdited = () => input.value !== input.defaultValue;
  input.oninput = () => { button.hidden = !isEdited(); };
  form.onsubmit = async event => {
    event.preventDefault();
    // The button is about to go, and must not take the focus with it.
    input.focus();
    const number = Number(input.value);
    await changeUpstream(name, { weight: number }, `${name} has weight ${number}`);
  };
  return updated(form, weight => {
    const wasEdited = isEdited();
    input.defaultValue = weight;
    // What is being typed stays.
    if (!wasEdited) input.value = weight;
    button.hidden = !isEdited();
  });
}

async function toggleUpstream(name) {
  const { enabled } = upstreams.find(upstream => upstream.name === name);
  const others = upstreams.filter(upstream => upstream.enabled && upstream.name !== name);
  if (enabled && others.length === 0 && !await confirmed(
    `${name} is the last enabled upstream: without it every request is refused. Disable it?`, "Disable")) return;
  await changeUpstream(name, { enabled: !enabled }, `${name} is ${enabled ? "disabled" : "enabled"}`);
}

async function changeUpstream(name, change, done) {
  try {
    await call(`admin/upstreams/${encodeURIComponent(name)}`, change);
    say(at("upstream-problem"), "");
    announce(done);
  } catch (error) {
    say(at("upstream-problem"), `${name}: ${error.message}`);
  }
  await refresh();
}

// --- Plugins ---------------------------------------------------------------------------------------------------------

function showPlugins({ plugins, draining = [] }) {
  const all = [...plugins, ...draining.map(plugin => ({ ...plugin, condition: "draining" }))];
  at("no-plugins").hidden = all.length > 0;
  at("plugin-table").hidden = all.length === 0;
  const key = plugin => `${plugin.name} ${plugin.generation} ${plugin.condition === "draining"}`;
  sync(at("plugin-rows"), all, key, () => plainRow(at("plugin-rows"), pluginCells));
}

function pluginCells(plugin) {
  const calls = Object.values(plugin.calls);
  const sum = name => calls.reduce((total, hook) => total + hook[name], 0);
  const faults = faultsOf(calls);
  return [
    stack([plugin.name, plugin.version].filter(Boolean).join(" "), plugin.source), chip(plugin.condition),
    el("ul", { class: "hooks" }, ...plugin.hooks.map(hook => hookItem(hook, plugin.calls[hook]))),
    count(sum("calls")), faults ? chip(faults, "bad") : "none", count(sum("rejections")), count(sum("skipped")),
    seconds(sum("seconds")), count(plugin.instances),
  ];
}

function hookItem(name, hook) {
  const cost = hook?.calls > 0 ? ` ${count(hook.calls)}, ${seconds(hook.seconds / hook.calls)}` : "";
  return el("li", {}, el("code", {}, name), cost);
}

/** All faults by kind, as `timeout 9, trap 2`. */
function faultsOf(calls) {
  const kinds = {};
  for (const [kind, number] of calls.flatMap(hook => Object.entries(hook.faults))) {
    kinds[kind] = (kinds[kind] ?? 0) + number;
  }
  return Object.entries(kinds).map(([kind, number]) => `${kind} ${count(number)}`).join(", ");
}

// --- The audit -------------------------------------------------------------------------------------------------------

const list = { filter: {}, rows: [], next: null, isLoaded: false, turns: 0, asking: null, restsUntil: 0 };

/** Loads the list once there is an audit, and again and again while it is live. */
async function showAudit(isOn) {
  at("no-audit").hidden = isOn;
  at("search").hidden = !isOn;
  at("exchanges").hidden = !isOn;
  if (!isOn || list.asking !== null) return;
  if (!list.isLoaded) return loadList(joinNewest);
  if (!at("live").checked || performance.now() < list.restsUntil) return;
  // The rest of the page does not wait for a long search.
  await Promise.race([loadLive(), sleep(POLL_MS)]);
}

async function loadLive() {
  const { text, label, since, until } = list.filter;
  const isSlow = (text ?? label) !== undefined && (since ?? until) === undefined;
  const began = performance.now();
  await loadList(joinNewest, isSlow ? { since: LIVE_SINCE } : {});
  const now = performance.now();
  list.restsUntil = now + LIVE_RESTS * (now - began);
}

async function search(event) {
  event?.preventDefault();
  const fields = [...new FormData(at("search"))].map(([name, value]) => [name, value.trim()]);
  list.filter = Object.fromEntries(fields.filter(([, value]) => value !== ""));
  await loadList(replaceList);
  announce(at("found").textContent);
}

async function older() {
  at("live").checked = false;
  const first = list.rows.length;
  await loadList(page => { list.rows.push(...page.exchanges); list.next = page.next; }, { before: list.next });
  announce(at("found").textContent);
  // The button may be gone, and what was asked for is below the rows of before.
  at("exchange-rows").children[first]?.querySelector("a").focus();
}

/** Asks for one page, has `take` put it into the list, and shows that, unless the list was asked for again meanwhile. */
async function loadList(take, further = {}) {
  const turn = ++list.turns;
  // The gateway need not go on with what nobody waits for.
  list.asking?.abort();
  const asking = new AbortController();
  list.asking = asking;
  const query = new URLSearchParams({ ...list.filter, ...further, limit: PAGE_LEN });
  try {
    const page = await call(`admin/audit?${query}`, null, { ms: SEARCH_MS, stop: asking.signal });
    if (turn !== list.turns) return;
    say(at("search-problem"), "");
    take(page);
  } catch (error) {
    if (turn === list.turns) say(at("search-problem"), capital(error.message));
  } finally {
    if (list.asking === asking) list.asking = null;
  }
  showList();
}

function replaceList({ exchanges, next }) {
  Object.assign(list, { rows: exchanges, next, isLoaded: true });
}

/** Puts the newest page before what is there; where exchanges between the two may be missing, it replaces that. */
function joinNewest({ exchanges, next }) {
  const ids = new Set(exchanges.map(exchange => exchange.id));
  const rest = list.rows.filter(exchange => !ids.has(exchange.id));
  const isJoined = list.isLoaded && (rest.length < list.rows.length || next === null);
  if (!isJoined) return replaceList({ exchanges, next });
  list.rows = [...exchanges, ...rest].sort((left, right) => BigInt(left.id) < BigInt(right.id) ? 1 : -1);
  if (list.rows.length > LIVE_MAX) {
    list.rows.length = LIVE_MAX;
    list.next = list.rows.at(-1).id;
  }
}

function showList() {
  const body = at("exchange-rows");
  const hadFocus = body.contains(document.activeElement);
  sync(body, list.rows, exchange => exchange.id, makeExchange);
  if (hadFocus && !body.contains(document.activeElement)) at("audit").focus();
  const number = list.rows.length;
  say(at("found"), number === 0 ? "No exchange found." : `${count(number)} exchange${number === 1 ? "" : "s"}, newest first.`);
  at("older").hidden = list.next === null;
}

function makeExchange({ id }) {
  const row = plainRow(at("exchange-rows"), exchangeCells);
  row.classList.add("link");
  row.onclick = event => {
    const link = row.querySelector("a");
    // A text that is being selected is no click, and the link does by itself what the row does.
    if (event.target.closest("a") || getSelection().type === "Range") return;
    link.focus();
    location.hash = `exchange=${id}`;
  };
  return row;
}

function exchangeCells(exchange) {
  const [date, time = ""] = exchange.started.slice(0, 23).split(" ");
  const moment = el("time", { datetime: `${date}T${time}Z` }, el("span", { class: "muted" }, date), " ", time);
  const labels = Object.entries(exchange.labels ?? {}).map(([name, value]) => `${name}: ${value}`).join(", ");
  return [
    el("a", { href: `#exchange=${exchange.id}` }, moment), chip(`${exchange.status ?? ""} ${exchange.outcome}`),
    exchange.model ?? "–", exchange.endpoint ?? "–", exchange.upstream ?? "–", exchange.key ?? exchange.caller ?? "–",
    tokensOf(exchange), milliseconds(exchange.ttft_ms), milliseconds(exchange.duration_ms),
    exchange.error ? el("span", { class: "error" }, exchange.error) : labels,
  ];
}

function tokensOf({ input_tokens: input, output_tokens: output, estimated }) {
  if (input == null && output == null) return "–";
  return `${estimated ? "≈ " : ""}${count(input ?? 0)}, ${count(output ?? 0)}`;
}

// --- One exchange ----------------------------------------------------------------------------------------------------

let exchange = null;

/** Opens and closes the exchange that the address names. */
async function followAddress() {
  const id = /^#exchange=([\w.:-]+)$/.exec(location.hash)?.[1];
  const dialog = at("exchange");
  if (id === undefined) return dialog.close();
  exchange = null;
  at("raw").setAttribute("aria-pressed", "false");
  say(at("exchange-id"), id);
  at("exchange-body").replaceChildren(note("Loading…"));
  if (!dialog.open) dialog.showModal();
  at("exchange-title").focus();
  await loadExchange(id);
}

async function loadExchange(id) {
  try {
    const found = await call(`admin/audit/${id}`, null, { ms: SEARCH_MS });
    // The reader may have gone on to another one.
    if (!location.hash.endsWith(`=${id}`)) return;
    exchange = found;
    showExchange();
  } catch (error) {
    if (!(error instanceof Refused)) console.error(error);
    at("exchange-body").replaceChildren(notice("bad", capital(error.message)));
  }
}

function leaveExchange() {
  // A new entry in the history would make "back" open it again at once.
  if (location.hash.startsWith("#exchange=")) history.replaceState(null, "", location.pathname + location.search);
}

function showExchange() {
  if (exchange === null) return;
  say(at("exchange-id"), exchange.id);
  const isRaw = at("raw").getAttribute("aria-pressed") === "true";
  const raw = () => [el("pre", { class: "raw" }, JSON.stringify(exchange, null, 2))];
  at("exchange-body").replaceChildren(...(isRaw ? raw() : readable(exchange)));
}

function toggleRaw() {
  const isRaw = at("raw").getAttribute("aria-pressed") === "true";
  at("raw").setAttribute("aria-pressed", String(!isRaw));
  showExchange();
}

async function copyId() {
  const id = at("exchange-id");
  try {
    await navigator.clipboard.writeText(id.textContent);
    say(at("copy"), "Copied");
  } catch {
    // Browsers give the clipboard to secure origins only.
    getSelection().selectAllChildren(id);
    say(at("copy"), "Press Ctrl+C");
  }
  await sleep(POLL_MS);
  say(at("copy"), "Copy id");
}

function readable(record) {
  return [
    el("p", { class: "headline" }, chip(`${record.status ?? ""} ${record.outcome}`), " ", record.model ?? "",
      el("span", { class: "muted" }, ` ${record.method} ${record.path}`)),
    record.error ? notice("bad", el("strong", {}, record.error_kind ?? "error"), `: ${record.error}`) : "",
    el("div", { class: "columns" },
      el("div", { class: "facts-of" }, el("h3", {}, "Facts"), facts(factsOf(record))),
      el("div", {}, el("h3", {}, "Timings"), facts(timingsOf(record)),
        el("h3", {}, "Labels"), facts(Object.entries(record.labels ?? {}))),
      el("div", {}, el("h3", {}, "Tokens and bytes"), facts(sizesOf(record)))),
    part("Attempts", attempts(record)),
    part("Request", cut(record.request_cut, "request", record.request_bytes), ...conversation(record.request)),
    part("Answer", cut(record.response_cut, "answer", record.response_bytes), ...answers(record.response)),
    folded("Headers of the request", facts(Object.entries(record.headers ?? {}))),
  ];
}

function factsOf(record) {
  const renamed = record.upstream_model && record.upstream_model !== record.model ? record.upstream_model : null;
  return [
    ["Started", `${record.started} UTC`], ["Request id", record.request_id], ["Endpoint", record.endpoint],
    ["Stream", record.stream ? "yes" : "no"], ["Finish", record.finish], ["Upstream", record.upstream],
    ["Model there", renamed], ["Caller", record.caller], ["Key", record.key], ["Tenant", record.tenant],
    ["Address", record.ip],
  ];
}

function timingsOf(record) {
  const plugins = Object.entries(record.plugins ?? {}).map(([name, took]) => [`Plugin ${name}`, milliseconds(took)]);
  return [
    ["Duration", milliseconds(record.duration_ms)], ["First token", milliseconds(record.ttft_ms)],
    ["In the gateway", milliseconds(record.gateway_ms)], ...plugins,
  ];
}

function sizesOf(record) {
  const estimated = record.estimated ? "≈ " : "";
  const tokens = TOKENS.map(kind => [kind, record[`${kind}_tokens`]]);
  return [
    ...tokens.map(([kind, number]) => [capital(kind), number == null ? null : (number > 0 ? estimated : "") + count(number)]),
    ["Estimated", record.estimated ? "yes" : null],
    ["Request", bytes(record.request_bytes)], ["Answer", bytes(record.response_bytes)],
  ];
}

function cut(isCut, what, length) {
  return isCut ? notice("warn", `The ${what} was cut: it had ${bytes(length)}, and what follows is its beginning.`) : "";
}

function attempts(record) {
  const all = record.attempts ?? [];
  if (all.length === 0) return note("It was sent to no upstream.");
  const whole = Math.max(record.duration_ms ?? 0, ...all.map(attempt => attempt.began_ms + attempt.took_ms), 0.001);
  const heads = ["#", "Upstream", "Model", "Result", "Began", "Took", "Timeline (line: first token)"];
  const head = name => el("th", { role: "columnheader", class: ["Began", "Took"].includes(name) ? "number" : "" }, name);
  const table = el("table", { role: "table", "aria-label": "Attempts" },
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...heads.map(head))));
  const body = table.createTBody();
  body.setAttribute("role", "rowgroup");
  for (const attempt of all) body.append(attemptRow(body, attempt, whole, record.ttft_ms));
  return el("div", { class: "scroll" }, table);
}

function attemptRow(body, attempt, whole, ttft) {
  const row = makeRow(body);
  const result = `${attempt.status ?? ""} ${attempt.error ?? attempt.error_kind ?? ""}`.trim() || "no answer";
  const isGood = attempt.error_kind == null && (attempt.status ?? 599) < 400;
  const bar = svg("svg", { class: "timeline", "aria-hidden": "true" },
    svg("rect", { class: "track", width: "100%", height: "100%" }),
    svg("rect", { class: "span", x: share(attempt.began_ms, whole), width: share(attempt.took_ms, whole), height: "100%" }));
  if (ttft != null) bar.append(svg("line", { x1: share(ttft, whole), x2: share(ttft, whole), y1: "0", y2: "100%" }));
  fill(row, [
    count(attempt.number), attempt.upstream, attempt.model ?? "–", chip(result, isGood ? "good" : "bad"),
    milliseconds(attempt.began_ms), milliseconds(attempt.took_ms), bar,
  ]);
  return row;
}

// --- What was said ---------------------------------------------------------------------------------------------------
//
// Records have any shape, so each of these shows what it knows and hands the rest to `json`.

/** The members of a request that are shown as turns. */
const SPOKEN = new Set(["messages", "prompt", "input", "instructions", "system", "tools", "model"]);

function conversation(request) {
  if (request == null) return [note("Not recorded.")];
  if (!isObject(request)) return [text(request)];
  const turns = [
    ...spoken("system", request.instructions ?? request.system),
    ...items(request.messages).flatMap(message),
    ...input("prompt", request.prompt),
    ...input("input", request.input),
  ];
  const settings = Object.fromEntries(Object.entries(request).filter(([name]) => !SPOKEN.has(name)));
  const names = items(request.tools).map(tool => tool?.function?.name ?? tool?.name ?? tool?.type);
  return [
    ...turns,
    Object.keys(settings).length > 0 ? folded("Parameters", json(settings)) : "",
    names.length > 0 ? folded(`Tools: ${names.join(", ")}`, json(request.tools)) : "",
  ];
}

/** Prompts, the texts of embeddings, or the items of the Responses API. */
function input(role, value) {
  return items(value).some(isObject) ? items(value).flatMap(message) : spoken(role, value);
}

function answers(response) {
  if (response == null) return [note("Not recorded.")];
  if (!isObject(response)) return [text(response)];
  const { choices, output, content, error } = response;
  const turns = [
    ...(error ? [turn("error", error.code ?? error.type, text(error.message ?? error))] : []),
    ...items(choices).map(choice),
    ...items(output).flatMap(message),
    ...(content === undefined ? [] : message(response)),
    // In the Responses API, that name holds settings.
    ...(typeof response.text === "string" ? spoken("text", response.text) : []),
  ];
  return turns.length > 0 ? turns : [json(response)];
}

function choice(one) {
  const said = one?.message ?? { content: one?.text };
  return turn(said.role ?? "answer", `choice ${one?.index ?? 0}, ${one?.finish_reason ?? "unfinished"}`, ...speech(said));
}

/** A message of the chat format, or an item of the Responses API. */
function message(said) {
  switch (said?.type) {
    case "function_call": return [turn("assistant", "", toolCall(said.name, said.call_id, said.arguments))];
    case "function_call_output": return spoken("tool", said.output, said.call_id);
    case "reasoning": return [turn("assistant", "", folded("Reasoning", ...blocks(said.content ?? said.summary)))];
    default: return [said?.role === undefined ? turn(said?.type ?? "item", "", json(said))
      : turn(said.role, said.tool_call_id ?? said.name, ...speech(said))];
  }
}

function speech(said) {
  // Some servers send it under both names.
  const thoughts = new Set([said?.reasoning_content, said?.reasoning].filter(Boolean));
  const calls = [...items(said?.tool_calls), ...(said?.function_call ? [{ function: said.function_call }] : [])];
  const parts = [
    ...[...thoughts].map(thought => folded("Reasoning", ...blocks(thought))),
    ...blocks(said?.content),
    ...(said?.refusal ? [note("Refused:"), text(said.refusal)] : []),
    ...calls.map(call => toolCall(call?.function?.name, call?.id, call?.function?.arguments)),
  ];
  return parts.length > 0 ? parts : [note("Empty.")];
}

/** A content: text, or parts of several kinds. */
function blocks(content) {
  if (content == null || content === "") return [];
  // Tokens come as numbers.
  return items(content).some(Number.isFinite) ? [json(content)] : [content].flat().flatMap(block);
}

function block(piece) {
  switch (piece?.type) {
    case "text": case "input_text": case "output_text": case "summary_text": return [text(piece.text)];
    case "refusal": return [note("Refused:"), text(piece.refusal)];
    case "image_url": return [note(`Image: ${address(piece.image_url?.url ?? piece.image_url)}`)];
    case "input_image": return [note(`Image: ${address(piece.image_url ?? piece.file_id)}`)];
    case "input_audio": return [note(`Audio: ${piece.input_audio?.format ?? "?"}, ${base64(piece.input_audio?.data)}`)];
    case "file": return [note(`File: ${piece.file?.filename ?? piece.file?.file_id ?? "unnamed"}`)];
    case "input_file": return [note(`File: ${piece.filename ?? piece.file_id ?? "unnamed"}`)];
    case "thinking": return [folded("Reasoning", text(piece.thinking))];
    case "tool_use": return [toolCall(piece.name, piece.id, piece.input)];
    case "tool_result": return [note(`Result of ${piece.tool_use_id}:`), ...blocks(piece.content)];
    default: return [isObject(piece) ? json(piece) : text(piece)];
  }
}

function spoken(role, content, remark = "") {
  const parts = blocks(content);
  return parts.length > 0 ? [turn(role, remark, ...parts)] : [];
}

function turn(role, remark, ...parts) {
  return el("article", { class: "turn", "data-role": String(role) },
    el("h4", {}, String(role), " ", el("span", { class: "muted" }, String(remark ?? ""))), ...parts);
}

function toolCall(name, id, parameters) {
  return el("div", { class: "call" },
    el("p", {}, "calls ", el("code", {}, String(name ?? "?")), " ", el("span", { class: "muted" }, String(id ?? ""))),
    json(parsed(parameters)));
}

/** Tells where an image is; it is never loaded, and what is inline is told by its size. */
function address(url) {
  const words = typeof url === "string" ? url : JSON.stringify(url) ?? "none";
  const inline = /^data:([^;,]*)[^,]*,(.*)$/s.exec(words);
  return inline ? `${inline[1]}, ${base64(inline[2])} inline` : words;
}

const base64 = data => bytes(Math.floor(String(data ?? "").length * 3 / 4));
const json = value => text(typeof value === "string" ? value : JSON.stringify(value, null, 2) ?? "", "code");

/** A text with its line breaks; a long one is unfolded on demand. */
function text(value, kind = "") {
  const whole = typeof value === "string" ? value : JSON.stringify(value, null, 2) ?? "";
  const shown = el("div", { class: `text ${kind}`, dir: "auto" }, whole.slice(0, TEXT_MAX));
  if (whole.length <= TEXT_MAX) return shown;
  const more = el("button", { type: "button" }, `Show all ${count(whole.length)} characters`);
  more.onclick = () => {
    say(shown, whole);
    more.remove();
    // The reader goes on where the text went on.
    shown.tabIndex = -1;
    shown.focus();
  };
  return el("div", {}, shown, more);
}

// --- Elements --------------------------------------------------------------------------------------------------------

/** Makes an element with these attributes; children that are no elements become text. */
function el(name, attributes = {}, ...children) {
  return dressed(document.createElement(name), attributes, children);
}

/** The same for a picture. */
const svg = (name, attributes = {}, ...children) =>
  dressed(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);

function dressed(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter(child => child !== ""));
  return element;
}

/** How an element that stays is brought up to date. */
const updates = new WeakMap();

function updated(element, update) {
  updates.set(element, update);
  return element;
}

/** Makes the children match the items by key, and keeps those that are there: focus and selection survive. */
function sync(parent, all, keyOf, make) {
  const keys = new Set(all.map(keyOf));
  const known = new Map();
  for (const child of [...parent.children]) {
    if (keys.has(child.dataset.key)) known.set(child.dataset.key, child);
    else child.remove();
  }
  let next = parent.firstElementChild;
  for (const item of all) {
    const child = known.get(keyOf(item)) ?? make(item);
    child.dataset.key = keyOf(item);
    updates.get(child)?.(item, child);
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
  }
}

/** Makes a row with a cell below each head of the table; the cells know its name, for narrow screens. */
function makeRow(body) {
  const heads = [...body.closest("table").tHead.rows[0].cells];
  const cell = head => el("td", { role: "cell", class: head.className, "data-head": head.textContent });
  return el("tr", { role: "row" }, ...heads.map(cell));
}

function plainRow(body, cellsOf) {
  return updated(makeRow(body), (item, row) => fill(row, cellsOf(item)));
}

/** Puts content into the cells of a row, but only where it is another one: focus and selection survive. */
function fill(row, contents) {
  contents.forEach((content, index) => {
    const cell = row.cells[index];
    const isThere = content instanceof Element ? content.isEqualNode(cell.firstChild) : cell.textContent === content;
    if (!isThere) cell.replaceChildren(content);
  });
}

function showFacts(parent, entries) {
  sync(parent, entries, ([name]) => name, ([name]) => {
    const value = el("dd");
    return updated(el("div", {}, el("dt", {}, name), value), ([, now, tone = ""]) => tell(value, String(now), tone));
  });
}

/** A list of facts; those that are not known are left out. */
function facts(entries) {
  const known = entries.filter(([, value]) => value != null && value !== "" && value !== "–");
  if (known.length === 0) return note("None.");
  const list = el("dl", { class: "facts" });
  showFacts(list, known.map(([name, value]) => [name, isObject(value) ? JSON.stringify(value) : String(value)]));
  return list;
}

const part = (title, ...children) => el("section", {}, el("h3", {}, title), ...children);
const folded = (title, ...children) => el("details", {}, el("summary", {}, title), ...children);
const note = words => el("p", { class: "muted" }, words);
const notice = (tone, ...words) => el("p", { class: "notice", "data-tone": tone, role: "alert" }, ...words);

const stack = (name, detail) =>
  el("div", { class: "stack" }, el("span", {}, name), el("span", { class: "muted" }, detail ?? ""));

/** A word of state: its tone goes by the last word, unless it is given. */
function chip(words, tone = TONES[words.split(" ").at(-1)] ?? "quiet") {
  return el("span", { class: "chip", "data-tone": tone }, words.trim());
}

/** Sets a text, but only if it is another one: a selection in it survives. A notice without words is hidden. */
function say(element, words) {
  if (element.textContent !== words) element.textContent = words;
  if (element.classList.contains("notice")) element.hidden = words === "";
}

function tell(element, words, tone) {
  say(element, words);
  element.dataset.tone = tone;
}

/** Has a screen reader say it. */
const announce = words => say(at("status"), words);

/** Asks the operator; whether the answer was yes. */
function confirmed(question, yes) {
  say(at("question-text"), question);
  say(at("yes"), yes);
  const dialog = at("question");
  dialog.returnValue = "";
  at("yes").onclick = () => dialog.close("yes");
  at("no").onclick = () => dialog.close("");
  dialog.showModal();
  at("no").focus();
  return seen(dialog, "close").then(() => dialog.returnValue === "yes");
}

// --- Words and numbers -----------------------------------------------------------------------------------------------

const WHOLE = new Intl.NumberFormat("en");

const count = number => WHOLE.format(number ?? 0);

/** Three digits that matter. */
function rate(number = 0) {
  return number >= 100 ? count(Math.round(number)) : number.toFixed(number >= 10 ? 1 : 2);
}

function seconds(number) {
  if (number == null) return "–";
  if (number >= 60) return `${rate(number / 60)} min`;
  if (number >= 1) return `${rate(number)} s`;
  if (number === 0) return "0 s";
  return number >= 0.001 ? `${rate(number * 1e3)} ms` : `${rate(number * 1e6)} µs`;
}

const milliseconds = number => seconds(number == null ? null : number / 1e3);

function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let [value, unit] = [number ?? 0, 0];
  while (value >= 1024 && unit + 1 < units.length) [value, unit] = [value / 1024, unit + 1];
  return `${unit === 0 ? count(value) : rate(value)} ${units[unit]}`;
}

function age(number) {
  const minutes = Math.floor(number / 60);
  const [days, hours] = [Math.floor(minutes / 1440), Math.floor(minutes / 60) % 24];
  if (days > 0) return `${days} d ${hours} h`;
  if (hours > 0) return `${hours} h ${minutes % 60} min`;
  return minutes > 0 ? `${minutes} min` : `${Math.floor(number)} s`;
}

const share = (value, whole) => `${(100 * Math.min(value / whole, 1)).toFixed(3)}%`;
const capital = words => words.charAt(0).toUpperCase() + words.slice(1);

/** The JSON in a text, or the text. */
function parsed(words) {
  try {
    return JSON.parse(words);
  } catch {
    return words ?? "";
  }
}

const items = value => Array.isArray(value) ? value : [];
const isObject = value => typeof value === "object" && value !== null;
const sleep = time => new Promise(resolve => setTimeout(resolve, time));
const seen = (target, name) => new Promise(resolve => target.addEventListener(name, resolve, { once: true }));

// --- The start -------------------------------------------------------------------------------------------------------

at("forget").hidden = sessionStorage.getItem("token") === null;
at("forget").onclick = () => { sessionStorage.removeItem("token"); location.reload(); };
at("token-form").onsubmit = takeToken;
at("search").onsubmit = search;
at("clear").onclick = () => { at("search").reset(); search(); };
at("older").onclick = older;
at("live").onchange = refresh;
at("exchange").onclose = leaveExchange;
at("close").onclick = () => at("exchange").close();
at("raw").onclick = toggleRaw;
at("copy").onclick = copyId;
addEventListener("hashchange", followAddress);
followAddress();
watch();
