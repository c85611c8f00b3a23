// What an operator sees of the page, in a browser, with the keyboard only. `tests/behaviour/page.rs` runs it before a
// gateway under load; any error on the console, any refusal by the policy and any failed request that is not announced
// by `expecting` ends it.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const { ADMIN_URL, ADMIN_TOKEN, CHROMIUM, NEEDLE, SCREENSHOTS } = process.env;
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const WIDTHS = [360, 1600];

const problems = [];
let expected = [];

/** Does something during which these complaints of the browser belong to what is tested. */
async function expecting(patterns, act) {
  expected = patterns;
  await act();
  expected = [];
}

function complain(words) {
  if (!expected.some(pattern => pattern.test(words))) problems.push(words);
}

/** A page of an operator who has given the token before, or has not. */
async function open(browser, { address = "", token = ADMIN_TOKEN, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1600, height: 1000 }, ...options });
  await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: ADMIN_URL });
  await context.addInitScript(given => {
    if (given) sessionStorage.setItem("token", given);
    addEventListener("securitypolicyviolation", event => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
  }, token);
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.on("console", message => ["error", "warning"].includes(message.type()) && complain(message.text()));
  page.on("pageerror", error => complain(String(error.stack)));
  page.on("dialog", dialog => complain(`a dialog says ${dialog.message()}`));
  page.on("requestfailed", request => isReplaced(request) || complain(`${request.url()} ${request.failure()?.errorText}`));
  page.on("request", request => request.url().startsWith(ADMIN_URL) || request.url().startsWith("data:") || complain(`asks ${request.url()}`));
  await page.goto(`${ADMIN_URL}/${address}`);
  return page;
}

/** Whether it is a search that the page has stopped because of a later one. */
function isReplaced(request) {
  return request.url().includes("/admin/audit?") && request.failure()?.errorText === "net::ERR_ABORTED";
}

async function ready(page) {
  await page.locator("#state", { hasText: "ready" }).waitFor();
  await page.locator("#exchange-rows tr").first().waitFor();
}

/** Waits until `look` finds something true. */
async function until(what, look) {
  const end = Date.now() + 20_000;
  while (Date.now() < end) {
    const found = await look();
    if (found) return found;
    await new Promise(resolve => setTimeout(resolve, 50));
  }
  assert.fail(`waited for ${what}`);
}

/** Walks by Tab until the focus is on the element, as somebody without a mouse does. */
async function walkTo(page, locator) {
  await locator.waitFor();
  for (let step = 0; step < 300; step += 1) {
    if (await locator.evaluate(element => element === document.activeElement)) return;
    await page.keyboard.press("Tab");
  }
  assert.fail(`${locator} is not reached by Tab`);
}

async function isFocused(page, locator, what) {
  await until(`the focus on ${what}`, () => locator.evaluate(element => element === document.activeElement));
}

async function searchFor(page, name, value) {
  const field = page.locator(`#search [name=${name}]`);
  await walkTo(page, field);
  await page.keyboard.type(value);
  await page.keyboard.press("Enter");
}

const number = words => Number(words.replaceAll(",", "").match(/[\d.]+/)?.[0]);

function fact(page, list, name) {
  return page.locator(`${list} > div`, { has: page.locator("dt", { hasText: new RegExp(`^${name}$`) }) }).locator("dd");
}

const tests = {
  async "a wrong token is refused and the right one is kept in this tab only"(browser) {
    await expecting([/401/], async () => {
      const page = await open(browser, { token: null });
      for (const [token, problem] of [["wrong", "does not accept"], ["κλειδί", "plain ASCII"]]) {
        await isFocused(page, page.locator("#token-value"), "the token's field");
        await page.keyboard.type(token);
        await page.keyboard.press("Enter");
        await page.locator("#token-problem", { hasText: problem }).waitFor();
        await page.locator("#token-value").fill("");
      }
      await page.keyboard.type(ADMIN_TOKEN);
      await page.keyboard.press("Enter");
      await ready(page);
      const kept = await page.evaluate(() => [JSON.stringify(localStorage), document.cookie, location.href].join());
      assert(!kept.includes(ADMIN_TOKEN));
      await page.locator("#forget").click();
      await page.locator("#token[open]").waitFor();
      assert.equal(await page.evaluate(() => sessionStorage.getItem("token")), null);
    });
  },

  async "the numbers move while there is traffic"(browser) {
    const page = await open(browser);
    await ready(page);
    const total = async () => number(await fact(page, "#totals", "Requests").textContent());
    const first = await total();
    await until("more requests", async () => await total() > first);
    for (const name of ["Requests", "First token", "Duration", "Tokens"]) {
      const tile = page.locator("#tiles li", { has: page.locator("h3", { hasText: name }) });
      await until(`a number for ${name}`, async () => number(await tile.locator("strong").textContent()) > 0);
      await until(`a chart for ${name}`, async () => await tile.locator("path").getAttribute("d") !== "");
    }
    await until("rows written", async () => number(await fact(page, "#queue", "Written").textContent()) > 0);
    assert.match(await page.locator("h1").textContent(), /^witgate \d+\.\d+\.\d+$/);
    assert.match(await page.locator("#uptime").textContent(), /^up \d/);
    const labels = page.locator("#plugin-rows tr", { hasText: "labels" });
    assert.match(await labels.textContent(), /healthy/);
    await until("calls of the plugin", async () => /on-request \d/.test(await labels.locator(".hooks").textContent()));
  },

  async "an upstream is disabled, weighed and enabled by keyboard"(browser) {
    const page = await open(browser);
    await ready(page);
    const row = page.locator("#upstream-rows tr", { hasText: "spare" });
    await row.locator(".chip", { hasText: "healthy" }).waitFor();
    const toggle = row.locator(".switches button").first();
    await walkTo(page, toggle);
    await page.keyboard.press("Enter");
    await row.locator(".chip", { hasText: "disabled" }).waitFor();
    await page.locator("#status", { hasText: "spare is disabled" }).waitFor();
    await isFocused(page, toggle, "the button that was pressed");
    // The other one is the last now: it asks first, and Escape is a no.
    const last = page.locator("#upstream-rows tr", { hasText: "first" });
    const lastToggle = last.getByRole("button", { name: "Disable first" });
    await lastToggle.focus();
    await page.keyboard.press("Enter");
    await page.locator("#question[open]", { hasText: "last enabled upstream" }).waitFor();
    await page.keyboard.press("Escape");
    await isFocused(page, lastToggle, "the button that asked");
    assert.doesNotMatch(await last.textContent(), /disabled/);
    await toggle.focus();
    await page.keyboard.press("Space");
    await row.locator(".chip", { hasText: "disabled" }).waitFor({ state: "detached" });
    const weight = row.locator(".weight input");
    await weight.focus();
    await page.keyboard.press("ControlOrMeta+a");
    await page.keyboard.type("7");
    await page.keyboard.press("Enter");
    await page.locator("#status", { hasText: "spare has weight 7" }).waitFor();
    await isFocused(page, weight, "the weight");
    const undo = row.getByRole("button", { name: "Undo" });
    await walkTo(page, undo);
    await page.keyboard.press("Enter");
    await undo.waitFor({ state: "hidden" });
    assert.equal(await weight.inputValue(), "1");
  },

  async "a search finds the exchange and nothing else"(browser) {
    const page = await open(browser);
    await ready(page);
    await searchFor(page, "text", NEEDLE);
    await page.locator("#found", { hasText: "1 exchange," }).waitFor();
    const row = page.locator("#exchange-rows tr");
    assert.match(await row.textContent(), /200 complete.*spare.*team: blue/s);
    await page.locator("#clear").click();
    await until("all of them", async () => await row.count() > 1);
    await searchFor(page, "label", "team:blue");
    await until("the one with the label", async () => await row.count() === 1);
    await page.locator("#clear").click();
    await searchFor(page, "id", `${NEEDLE}-id`);
    await until("the one with the id", async () => await row.count() === 1);
    await page.locator("#clear").click();
    await page.locator("#search [name=outcome]").selectOption("refused");
    await page.locator("#search [type=submit]").click();
    await page.locator("#found", { hasText: "No exchange" }).waitFor();
    await page.locator("#clear").click();
    await expecting([/400/], async () => {
      await searchFor(page, "status", "nonsense");
      await page.locator("#search-problem", { hasText: "nonsense" }).waitFor();
    });
  },

  async "older exchanges are one step away, new ones come by themselves"(browser) {
    const page = await open(browser);
    await ready(page);
    const rows = page.locator("#exchange-rows tr");
    await until("a full page", async () => await page.locator("#older").isVisible() || (await page.locator("#clear").click(), false));
    const before = await rows.count();
    await page.locator("#older").press("Enter");
    await until("older rows", async () => await rows.count() > before);
    await isFocused(page, rows.nth(before).locator("a"), "the first of the older rows");
    const newest = await rows.first().getAttribute("data-key");
    await page.locator("#live").press("Space");
    await until("a newer row", async () => await rows.first().getAttribute("data-key") !== newest);
    const keys = await rows.evaluateAll(all => all.map(row => BigInt(row.dataset.key)));
    assert(keys.every((key, index) => index === 0 || keys[index - 1] > key), "newest first, each once");
  },

  async "a live search for a text is short, and the rest of the page does not wait for it"(browser) {
    const page = await open(browser);
    await ready(page);
    await searchFor(page, "text", NEEDLE);
    await page.locator("#found", { hasText: "1 exchange," }).waitFor();
    const asked = [];
    let answer;
    const held = new Promise(resolve => { answer = resolve; });
    await page.route("**/admin/audit?*", async route => {
      asked.push(new URL(route.request().url()).searchParams.get("since"));
      await held;
      await route.continue();
    });
    let looks = 0;
    page.on("request", request => { looks += request.url().endsWith("/stats"); });
    await page.locator("#live").press("Space");
    await until("the live search", () => asked.length > 0);
    const before = looks;
    await until("further looks at the rest", () => looks >= before + 2);
    assert.deepEqual(asked, ["10m"], "one at a time, over the last minutes");
    const answered = page.waitForResponse(response => response.url().includes("/admin/audit?"));
    answer();
    assert.equal((await answered).status(), 200);
    await page.unrouteAll({ behavior: "ignoreErrors" });
    await page.locator("#found", { hasText: "1 exchange," }).waitFor();
  },

  async "an exchange opens by Enter, is read, and closes by Escape"(browser) {
    const page = await open(browser);
    await ready(page);
    await searchFor(page, "text", NEEDLE);
    await page.locator("#found", { hasText: "1 exchange," }).waitFor();
    const link = page.locator("#exchange-rows a");
    await walkTo(page, link);
    await page.keyboard.press("Enter");
    const dialog = page.locator("#exchange[open]");
    await isFocused(page, page.locator("#exchange-title"), "the title");
    const turns = dialog.locator(".turn");
    await turns.first().waitFor();
    assert.match(await dialog.locator('.turn[data-role="system"]').textContent(), /Be brief/);
    const asked = await dialog.locator('.turn[data-role="user"]').textContent();
    // What looks like a page's source is a text, and nothing of it is loaded or run.
    assert(asked.includes(`${NEEDLE} <script>window.pwned = 1</script><img src=/pwned onerror="window.pwned = 1">`), asked);
    assert.match(asked, /Image: image\/png, 3 B inline/);
    assert.equal(await dialog.locator("script, img, iframe, a").count(), 0);
    assert.equal(await page.evaluate(() => window.pwned), undefined);
    assert.match(await dialog.locator('.turn[data-role="tool"]').textContent(), /call_1.*minus three/s);
    const answer = turns.last();
    assert.match(await answer.textContent(), /choice 0, stop.*Thinking about <b>it<\/b>.*The answer is <i>cold<\/i>/s);
    const thinking = answer.locator("details");
    assert.equal(await thinking.getAttribute("open"), null, "the reasoning is folded");
    await walkTo(page, thinking.locator("summary"));
    await page.keyboard.press("Enter");
    await thinking.getByText("Thinking about").waitFor();
    const attempts = dialog.getByRole("table", { name: "Attempts" }).locator("tbody tr");
    assert.equal(await attempts.count(), 2);
    assert.match(await attempts.nth(0).textContent(), /first.*503/s);
    assert.match(await attempts.nth(1).textContent(), /spare.*200/s);
    const tones = await attempts.locator(".chip").evaluateAll(all => all.map(chip => chip.dataset.tone));
    assert.deepEqual(tones, ["bad", "good"]);
    assert.match(await dialog.locator("#exchange-body").textContent(), /First token.*Plugin labels.*team.*blue/s);
    await dialog.getByText("Headers of the request").click();
    assert.match(await dialog.locator("details[open]").last().textContent(), /authorization\*\*\*/);
    const id = await dialog.locator("#exchange-id").textContent();
    assert.equal(new URL(page.url()).hash, `#exchange=${id}`);
    await page.locator("#copy").press("Enter");
    await page.locator("#copy", { hasText: "Copied" }).waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), id);
    await page.locator("#raw").press("Enter");
    assert.equal(JSON.parse(await dialog.locator("pre").textContent()).id, id);
    await page.keyboard.press("Escape");
    await isFocused(page, link, "the row that was opened");
    await until("an address without it", () => new URL(page.url()).hash === "");
    // Its address leads back to it, and "back" closes it.
    const again = await open(browser, { address: `#exchange=${id}` });
    await again.locator("#exchange-body .turn").first().waitFor();
    await again.keyboard.press("Escape");
    await until("an address without it", () => new URL(again.url()).hash === "");
    await expecting([/404/], async () => {
      await again.goto(`${ADMIN_URL}/#exchange=1`);
      await again.locator("#exchange-body .notice").waitFor();
    });
    await again.goBack();
    await again.locator("#exchange[open]").waitFor({ state: "detached" });
  },

  async "a record of any shape is shown"(browser) {
    const page = await open(browser);
    await ready(page);
    const shapes = [
      [null, null], ["{\"messages\":[{\"ro", "not JSON"], [[1, "two", null], 5], [{}, {}],
      [{ messages: [null, 5, "six", { role: 7, content: { a: 1 }, tool_calls: [null, {}] }], tools: [null, 1] }, { choices: [1, null, {}] }],
      [{ messages: "none", prompt: [1, 2, 3], input: [[1, 2], "three"] }, { choices: [{ text: "completed" }], error: "broken" }],
      [{ prompt: ["one", "two"] }, { events: 3, text: "the beginning" }],
      [{ instructions: "Be brief", input: [{ type: "message", role: "user", content: [{ type: "input_text", text: "hi" }, { type: "input_image" }] },
        { type: "function_call_output", call_id: "c", output: "3" }, { type: "computer_call" }] },
      { object: "response", text: { format: {} }, output: [{ type: "reasoning", summary: [{ type: "summary_text", text: "Hm" }] },
        { type: "function_call", name: "f", arguments: "{broken" }, { type: "message", role: "assistant", content: [{ type: "output_text", text: "hello" }, { type: "refusal", refusal: "no" }] }] }],
      [{ system: "Be brief", messages: [{ role: "user", content: [{ type: "tool_result", tool_use_id: "t", content: "3" }, { type: "file" }, { type: "input_audio" }, 5, null] }] },
        { role: "assistant", content: [{ type: "thinking", thinking: "Hm" }, { type: "tool_use", name: "f", input: { a: 1 } }], stop_reason: "end_turn" }],
      [{ messages: [{ role: "user", content: "long ".repeat(2_000) }] }, { data: [{ embedding: [0.1, 0.2] }] }],
    ];
    for (const [index, [request, response]] of shapes.entries()) {
      const record = { id: `shape-${index}`, request_id: "r", started: "2026-11-21 16:16:00.123456", outcome: "complete", method: "POST", path: "/v1", request_cut: index % 2, response_cut: 0, request, response };
      await page.route(`**/admin/audit/shape-${index}`, route => route.fulfill({ json: record }));
      await page.evaluate(hash => { location.hash = hash; }, `exchange=shape-${index}`);
      await page.locator("#exchange-body .headline").waitFor();
      assert.equal(await page.getByText("The request was cut").count(), index % 2);
      const body = await page.locator("#exchange-body").textContent();
      assert.doesNotMatch(body, /undefined|\[object/, JSON.stringify(request));
      for (const words of ["completed", "the beginning", "hello", "two", "{broken", "Hm"]) {
        assert(!JSON.stringify([request, response]).includes(words) || body.includes(words), `${words} of ${JSON.stringify(response)}`);
      }
      await page.keyboard.press("Escape");
      await page.locator("#exchange[open]").waitFor({ state: "detached" });
    }
  },

  async "a gateway that does not answer is told, and the page recovers by itself"(browser) {
    const page = await open(browser);
    await ready(page);
    await expecting([/ERR_|Failed to load/], async () => {
      await page.route("**/stats", route => route.abort());
      await page.locator('#state[data-tone="bad"]', { hasText: "does not answer, since" }).waitFor();
      await page.unroute("**/stats");
      await ready(page);
    });
    await page.locator("#status", { hasText: "answers again" }).waitFor();
  },

  async "a hidden tab asks nothing"(browser) {
    const context = { viewport: { width: 800, height: 600 } };
    const page = await open(browser, context);
    await ready(page);
    await page.clock.install();
    await page.reload();
    await ready(page);
    const hide = isHidden => page.evaluate(value => {
      Object.defineProperty(document, "hidden", { value, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }, isHidden);
    let asked = 0;
    page.on("request", () => { asked += 1; });
    await page.clock.runFor(2_100);
    await until("the next look", () => asked > 0);
    await hide(true);
    await page.waitForLoadState("networkidle");
    asked = 0;
    await page.clock.runFor(60_000);
    assert.equal(asked, 0);
    await hide(false);
    await until("the first look after it", () => asked > 0);
  },

  async "it can be read in light and dark, narrow and wide"(browser) {
    for (const colorScheme of ["light", "dark"]) {
      for (const width of WIDTHS) {
        const page = await open(browser, { colorScheme, viewport: { width, height: 1000 } });
        await ready(page);
        await look(page, `${colorScheme}-${width}`);
        await page.locator("#search [name=text]").fill(NEEDLE);
        await page.locator("#search [name=text]").press("Enter");
        await page.locator("#found", { hasText: "1 exchange," }).waitFor();
        await page.locator("#exchange-rows a").click();
        await page.locator("#exchange-body .turn").first().waitFor();
        for (const summary of await page.locator("#exchange-body summary").all()) await summary.click();
        await page.locator("#exchange").evaluate(dialog => dialog.scrollTo(0, 0));
        await look(page, `${colorScheme}-${width}-exchange`);
        await page.context().close();
      }
    }
  },
};

/** Takes a picture, and looks for what is cut off and for what the accessibility rules forbid. */
async function look(page, name) {
  await page.screenshot({ path: `${SCREENSHOTS}/${name}.png`, fullPage: !name.endsWith("exchange") });
  const wide = await page.evaluate(() => [document.documentElement, document.getElementById("exchange")].map(of => of.scrollWidth - of.clientWidth));
  assert.deepEqual(wide, [0, 0], `${name}: nothing is wider than the window`);
  // As the debugger's own, so that the page's policy stays as it is.
  const session = await page.context().newCDPSession(page);
  await session.send("Runtime.evaluate", { expression: `${AXE};0` });
  const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  const found = violations.map(rule => `${rule.id}: ${rule.help}\n${rule.nodes.slice(0, 3).map(node => `  ${node.html} ${node.failureSummary}`).join("\n")}`);
  assert.deepEqual(found, [], `${name}: accessible`);
}

const browser = await chromium.launch({
  executablePath: CHROMIUM,
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
try {
  for (const [name, test] of Object.entries(tests)) {
    console.log(name);
    await test(browser);
    assert.deepEqual(problems, [], name);
    for (const context of browser.contexts()) await context.close();
  }
} finally {
  await browser.close();
}
