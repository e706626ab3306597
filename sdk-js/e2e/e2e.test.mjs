// The whole way, with nothing put in place of anything: a page in a real
// browser loads the built SDK, a real server judges a rollout by two variants
// of that page, and the verdict comes over its webhook.
import assert from 'node:assert/strict';
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { cleanUp, listen, startBrowser, startServer, until } from './server.mjs';

const TOKEN = 'sk_e2e_releaser';
const KEY = 'pk_e2e';
const SECRET = randomBytes(32);
const VERDICT_MS = 120_000;
const AT_ONCE = 4;

const sdk = readFileSync(new URL('../dist/serin.js', import.meta.url));
const boot = readFileSync(new URL('../dist/serin-boot.js', import.meta.url), 'utf8');
const webhooks = [];
let serin, shop, browser;

/** A shop's checkout; release 2.4.1 breaks as it loads. */
const page = (release, arm) => `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Checkout</title>
<script src="/serin.js"></script>
<script>
  Serin.init({ key: '${KEY}', endpoint: '${serin}', app: 'shop-web', release: '${release}', arms: { 'release/2.4.1': '${arm}' } });
</script></head><body>
<h1 style="font-size: 60px">A text that is large enough to be the largest paint of the page</h1>
<button id="slow">Pay</button>
<script>
  document.getElementById('slow').addEventListener('click', () => {
    const end = performance.now() + 60;
    while (performance.now() < end);
    const more = document.createElement('p');
    more.textContent = 'Thank you';
    document.body.append(more);
  });
  setTimeout(() => {
    const banner = document.createElement('div');
    banner.style.height = '200px';
    document.body.prepend(banner); // a layout shift
  }, 100);
  fetch('/api/stock').catch(() => {});
  ${arm === 'canary' ? "setTimeout(() => { cart.total.format(); }, 20);" : ''}
</script></body></html>`;

/** A page that tells of itself before its SDK is there; release 3.0.0 lost its SDK on the way to the CDN. */
const bootPage = (release, arm) => {
  const options = `{ key: '${KEY}', endpoint: '${serin}', app: 'shop-web', release: '${release}', arms: { 'release/3.0.0': '${arm}' } }`;
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Home</title>
<script>${boot}; SerinBoot.boot(${options});</script>
<script src="/${arm === 'canary' ? 'gone' : 'serin'}.js"></script>
<script>Serin.init(${options});</script></head><body><h1>Home</h1></body></html>`;
};

async function api(method, path, body) {
  const response = await fetch(serin + path, {
    method,
    headers: { Authorization: `Bearer ${TOKEN}` },
    body: body && JSON.stringify(body),
  });
  const text = await response.text();
  assert.ok(response.ok, `${method} ${path}: ${response.status} ${text}`);
  return JSON.parse(text);
}

/** Checks a Standard Webhooks signature by its own rules, not by our library. */
function verify(headers, body) {
  const { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signatures } = headers;
  assert.ok(Math.abs(Date.now() / 1000 - Number(timestamp)) < 300, `the timestamp ${timestamp} is off`);
  const want = createHmac('sha256', SECRET).update(`${id}.${timestamp}.${body}`).digest();
  const good = signatures.split(' ').some((one) => {
    const [version, text] = one.split(',');
    const got = Buffer.from(text ?? '', 'base64');
    return version === 'v1' && got.length === want.length && timingSafeEqual(got, want);
  });
  assert.ok(good, `the signature ${signatures} is not ours`);
}

before(async () => {
  const hook = await listen((request, response) => {
    let body = '';
    request.on('data', (part) => (body += part));
    request.on('end', () => {
      webhooks.push({ headers: request.headers, body });
      response.writeHead(204).end();
    });
  });
  shop = await listen((request, response) => {
    const { pathname, searchParams } = new URL(request.url, 'http://shop');
    if (pathname === '/serin.js') return response.writeHead(200, { 'Content-Type': 'text/javascript' }).end(sdk);
    if (pathname === '/api/stock') return response.writeHead(503).end('busy');
    if (pathname === '/home') {
      const arm = searchParams.get('arm');
      return response.writeHead(200, { 'Content-Type': 'text/html' }).end(bootPage(arm === 'canary' ? '3.0.0' : '2.4.0', arm));
    }
    if (pathname !== '/checkout') return response.writeHead(404).end();
    const arm = searchParams.get('arm');
    response.writeHead(200, { 'Content-Type': 'text/html' }).end(page(arm === 'canary' ? '2.4.1' : '2.4.0', arm));
  });
  serin = await startServer(`webhook_allow: [127.0.0.0/8]
tenants:
  - id: shop
    keys: [{key: ${KEY}, app: shop-web, origins: ["http://127.0.0.1:*"]}]
    tokens: [{name: e2e, role: releaser, token: ${TOKEN}}]
    webhooks: [{name: hook, url: "${hook}/hook", secret: "whsec_${SECRET.toString('base64')}"}]
`);
  browser = await startBrowser();
});

after(cleanUp);

/** One visit: a fresh browser profile, as a person who was never here. */
async function visit(arm) {
  const context = await browser.newContext();
  try {
    const tab = await context.newPage();
    await tab.goto(`${shop}/checkout?arm=${arm}`);
    await tab.waitForTimeout(250);
    await tab.click('#slow');
    // web-vitals takes interactions up when the page is idle.
    await tab.waitForTimeout(1_000);
    // Leaving for another page makes the last vitals final and flushes.
    await tab.goto('about:blank');
    await tab.waitForTimeout(50);
  } finally {
    await context.close();
  }
}

test('what a real page does arrives', { timeout: 60_000 }, async () => {
  let missing = [];
  const events = await until(() => missing.join(), 45_000, async () => {
    // Again where a busy machine had no idle moment between click and leaving.
    await visit('canary');
    const { events } = await api('GET', '/v1/events?app=shop-web&limit=2000');
    // The click keeps the page busy for 60 ms. A busy machine's browser may have
    // told of another interaction only, a pointer that went down, say.
    const names = new Set((events ?? []).filter(({ name, value }) => name !== 'INP' || value >= 40).map(({ name }) => name));
    missing = ['LCP', 'FCP', 'TTFB', 'CLS', 'INP'].filter((name) => !names.has(name));
    return missing.length === 0 && events;
  });
  const one = (kind, name) => events.find((e) => e.kind === kind && (!name || e.name === name));
  assert.equal(one('exposure').name, 'release/2.4.1');
  assert.equal(one('exposure').attrs.arm, 'canary');
  assert.equal(Math.min(...events.map(({ seq }) => seq)), one('exposure').seq, 'something was sent before the exposure');
  for (const name of ['LCP', 'FCP', 'TTFB']) assert.ok(one('vital', name).value > 0, `${name} is ${one('vital', name).value}`);
  assert.ok(one('vital', 'CLS').value > 0, 'the layout shift was not measured');
  const error = one('error');
  assert.equal(error.name, 'ReferenceError');
  assert.match(error.message, /cart is not defined/);
  assert.equal(String(error.attrs.handled), 'false');
  const request = one('request');
  assert.equal(request.name, 'GET /api/stock');
  assert.equal(Number(request.attrs.status), 503);
  assert.equal(String(request.attrs.failed), 'true');
});

/** Whether a webhook's body rolls a rollout back. */
const decided = (body, rollout) => {
  const { data } = JSON.parse(body);
  return data.rollout === rollout && data.decision === 'rollback';
};

test('a rollout fed by two variants of the page is rolled back over the webhook', { timeout: VERDICT_MS + 30_000 }, async () => {
  const made = await api('POST', '/v1/rollouts', {
    id: 'release-2.4.1', app: 'shop-web', change: 'release/2.4.1', canary: '2.4.1', baseline: '2.4.0',
    stages: [{ weight: 0.5, min_sessions: 20, dwell: '1s', deadline: '10m' }],
    policy: { epoch: '1s', silence_after: '5s' },
  });
  assert.equal(made.verdict.decision, 'hold');
  const end = Date.now() + VERDICT_MS;
  const rolledBack = () => webhooks.find(({ body }) => decided(body, 'release-2.4.1'));
  let visits = 0;
  const visitors = Array.from({ length: AT_ONCE }, async () => {
    while (!rolledBack() && Date.now() < end) await visit(visits++ % 2 ? 'canary' : 'baseline');
  });
  await Promise.all(visitors);
  const told = rolledBack();
  assert.ok(told, `no rollback after ${visits} visits; the verdict is ${JSON.stringify(await api('GET', '/v1/rollouts/release-2.4.1/verdict'))}`);
  for (const { headers, body } of webhooks) verify(headers, body);
  const numbers = webhooks.map(({ body }) => JSON.parse(body).data.number);
  assert.deepEqual(numbers, [...numbers].sort((a, b) => a - b), 'verdicts came out of order');
  const { data } = JSON.parse(told.body);
  assert.equal(data.tenant, 'shop');
  assert.equal(data.rollout, 'release-2.4.1');
  assert.equal(data.reasons[0].code, 'harm');
  assert.equal(data.blame[0].guardrail, 'error_free');
  assert.ok(data.blame[0].effect.lo > 1, 'the interval holds no harm');
  const asked = await api('GET', '/v1/rollouts/release-2.4.1/verdict');
  assert.equal(asked.decision, 'rollback');
  assert.equal(asked.number, data.number);
});

test('a canary whose SDK never came is found by what stands in its page', { timeout: VERDICT_MS + 30_000 }, async () => {
  await api('POST', '/v1/rollouts', {
    id: 'release-3.0.0', app: 'shop-web', change: 'release/3.0.0', canary: '3.0.0', baseline: '2.4.0',
    stages: [{ weight: 0.5, min_sessions: 20, dwell: '1s', deadline: '10m' }],
    policy: { epoch: '1s', silence_after: '2s', report_after: '3s' },
  });
  const end = Date.now() + VERDICT_MS;
  const judged = () => api('GET', '/v1/rollouts/release-3.0.0/verdict');
  const without = (verdict) => verdict.losses?.find(({ name }) => name === 'no_init');
  let verdict = {};
  let visits = 0;
  const found = () => verdict.decision === 'rollback' && without(verdict)?.lost.canary > 0;
  const visitors = Array.from({ length: AT_ONCE }, async () => {
    while (!found() && Date.now() < end) {
      const context = await browser.newContext();
      try {
        const tab = await context.newPage();
        await tab.goto(`${shop}/home?arm=${visits++ % 2 ? 'canary' : 'baseline'}`);
        await tab.waitForTimeout(100);
      } finally {
        await context.close();
      }
      verdict = await judged();
      assert.notEqual(verdict.decision, 'promote');
    }
  });
  await Promise.all(visitors);
  assert.ok(found(), `after ${visits} visits the verdict is ${JSON.stringify(verdict)}`);
  assert.equal(verdict.blame[0].guardrail, 'telemetry');
  const loss = without(verdict);
  assert.equal(loss.lost.baseline, 0, 'a page whose SDK came counts as one whose did not');
  assert.equal(loss.lost.canary, loss.sessions.canary);
});
