// The SDKs of others, unmodified, from npm, in a real browser, against a real
// server: each gets an endpoint, a key or a DSN of ours, and what the page does
// must arrive as the same events as from our own SDK.
//
// With SERIN_CAPTURES=FOLDER the requests are recorded on their way, as the
// decoders' tests read them.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { build } from 'esbuild';
import { cleanUp, listen, startBrowser, startServer } from './server.mjs';

const TOKEN = 'sk_e2e_viewer';
const KEY = 'pk_e2e';
const record = process.env.SERIN_CAPTURES;
let serin, browser;

/** vitals: those that the SDK sends of a page that is left after a click. */
const SDKS = [
  { name: 'faro2', file: 'faro.js', alias: { FAROPKG: '@grafana/faro-web-sdk' }, sdk: 'faro-web/2.', vitals: ['LCP', 'CLS', 'FCP', 'TTFB'], session: true },
  { name: 'faro1', file: 'faro.js', alias: { FAROPKG: 'faro1' }, sdk: 'faro-web/1.', vitals: ['FCP', 'TTFB'], session: true },
  { name: 'sentry11', file: 'sentry.js', alias: { SENTRYPKG: '@sentry/browser' }, sdk: 'sentry.javascript.browser/11.', vitals: ['LCP', 'FCP', 'TTFB'], session: true, handled: true },
  { name: 'sentry10', file: 'sentry.js', alias: { SENTRYPKG: 'sentry10' }, sdk: 'sentry.javascript.browser/10.', vitals: ['LCP', 'FCP', 'TTFB'], session: true, handled: true },
  { name: 'sentry7', file: 'sentry.js', alias: { SENTRYPKG: 'sentry7' }, sdk: 'sentry.javascript.browser/7.', vitals: ['LCP', 'FCP', 'TTFB'], session: true, handled: true },
  { name: 'oteljson', file: 'otel.js', alias: { OTELTRACE: '@opentelemetry/exporter-trace-otlp-http' }, sdk: 'opentelemetry', vitals: ['LCP', 'CLS', 'FCP', 'TTFB'], session: true, handled: true },
  { name: 'otelproto', file: 'otel.js', alias: { OTELTRACE: '@opentelemetry/exporter-trace-otlp-proto' }, sdk: 'opentelemetry', vitals: ['LCP', 'CLS', 'FCP', 'TTFB'], session: true, handled: true },
  { name: 'vitals', file: 'vitals.js', sdk: 'web-vitals/6', vitals: ['LCP', 'CLS', 'FCP', 'TTFB'], vitalsOnly: true },
  { name: 'elastic2', file: 'elastic.js', define: { APMVERSION: '2' }, sdk: 'rum-js/5.', vitals: ['LCP', 'FCP', 'TTFB'], handled: true },
  { name: 'elastic3', file: 'elastic.js', define: { APMVERSION: '3' }, sdk: 'rum-js/5.', vitals: ['LCP', 'FCP', 'TTFB'], handled: true },
  { name: 'datadog', file: 'datadog.js', sdk: 'datadog-rum-slim/7.', vitals: ['LCP', 'FCP', 'TTFB'], handled: true },
];

const page = `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Checkout</title><script src="/bundle.js"></script></head><body>
<h1 style="font-size: 60px">A large text, the largest paint of it</h1>
<button id="slow">Pay</button>
<script>
  document.getElementById('slow').onclick = () => {
    const end = performance.now() + 60;
    while (performance.now() < end);
    document.body.append('Thank you');
  };
  setTimeout(() => {
    const banner = document.createElement('div');
    banner.style.height = '200px';
    document.body.prepend(banner); // a layout shift
  }, 150);
  setTimeout(() => { cart.total.format(); }, 300);
  fetch('/api/fail?token=secret').catch(() => {});
  setTimeout(() => say(), 400);
</script></body></html>`;

/** Builds one SDK's page for an endpoint. */
async function bundle(one, endpoint) {
  const out = await build({
    absWorkingDir: new URL('foreign', import.meta.url).pathname, // where the packages are
    entryPoints: [one.file],
    bundle: true, write: false, format: 'iife', minify: true, alias: one.alias ?? {},
    define: {
      BASE: JSON.stringify(endpoint), COLLECT: JSON.stringify(`${endpoint}/faro/collect`),
      DSN: JSON.stringify(`${endpoint.replace('http://', `http://${KEY}@`)}/1`),
      'process.env.NODE_ENV': '"production"', ...(one.define ?? {}),
    },
  });
  return out.outputFiles[0].text;
}

/** Stands between the page and the server, and keeps what passes. */
function recorder(list) {
  return listen((request, response) => {
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', async () => {
      const body = Buffer.concat(parts);
      const { host, connection, ...headers } = request.headers;
      const answer = await fetch(serin + request.url, { method: request.method, headers, body: request.method === 'POST' ? body : undefined });
      if (request.method === 'POST') {
        const kept = ['content-type', 'content-encoding', 'x-api-key', 'x-faro-session-id', 'idempotency-key', 'user-agent'];
        list.push({
          method: 'POST', target: request.url, headers: Object.fromEntries(Object.entries(headers).filter(([name]) => kept.includes(name))),
          ...(body.equals(Buffer.from(body.toString())) ? { text: body.toString() } : { base64: body.toString('base64') }),
        });
      }
      const { 'content-encoding': _, 'content-length': __, ...out } = Object.fromEntries(answer.headers);
      response.writeHead(answer.status, out).end(Buffer.from(await answer.arrayBuffer()));
    });
  });
}

before(async () => {
  serin = await startServer(`seal_after: 1s
tenants:
  - id: shop
    keys: [{key: ${KEY}, app: shop-web, origins: ["http://127.0.0.1:*"]}]
    tokens: [{name: e2e, role: viewer, token: ${TOKEN}}]
`);
  browser = await startBrowser();
});

after(cleanUp);

for (const one of SDKS) {
  test(`${one.name} arrives unmodified`, { timeout: 60_000 }, async () => {
    const began = Date.now();
    const requests = [];
    const script = await bundle(one, record ? await recorder(requests) : serin);
    const shop = await listen((request, response) => {
      const { pathname } = new URL(request.url, 'http://shop');
      if (pathname === '/') return response.writeHead(200, { 'Content-Type': 'text/html' }).end(page);
      if (pathname === '/bundle.js') return response.writeHead(200, { 'Content-Type': 'text/javascript' }).end(script);
      if (pathname === '/api/fail') return response.writeHead(500).end('no');
      if (pathname === '/next') return response.writeHead(200, { 'Content-Type': 'text/html' }).end('next');
      return response.writeHead(404).end();
    });
    const has = (events) => {
      const missing = one.vitals.filter((name) => !events.some((e) => e.kind === 'vital' && e.name === name));
      const want = (what, found) => found || missing.push(what);
      if (one.vitalsOnly) return missing;
      want('uncaught error', events.some((e) => e.kind === 'error' && /cart is not defined/.test(e.message) && String(e.attrs?.handled) === 'false'));
      want('handled error', events.some((e) => e.kind === 'error' && e.message === 'handled one' && (!one.handled || String(e.attrs?.handled) === 'true')));
      want('failed request', events.some((e) => e.kind === 'request' && e.name === 'GET /api/fail' && String(e.attrs?.failed) === 'true'));
      if (one.session) want('session start', events.some((e) => e.kind === 'session' && e.name === 'start'));
      return missing;
    };
    for (const end = began + 45_000; ; ) {
      const context = await browser.newContext();
      const tab = await context.newPage();
      await tab.goto(shop);
      await tab.waitForTimeout(700);
      await tab.click('#slow');
      await tab.waitForTimeout(1_500);
      await tab.goto(`${shop}/next`); // leaving makes the last vitals final
      await tab.waitForTimeout(800);
      await context.close();
      const response = await fetch(`${serin}/v1/events?app=shop-web&limit=2000`, { headers: { Authorization: `Bearer ${TOKEN}` } });
      const { events } = await response.json();
      const mine = (events ?? []).filter(({ sdk, received_ms: at }) => sdk.startsWith(one.sdk) && at >= began);
      const missing = has(mine);
      if (missing.length === 0) {
        assert.ok(mine.every(({ release }) => release === '2.4.1'), 'a release is not the page\'s');
        assert.ok(!JSON.stringify(mine).includes('secret'), 'a query string was kept');
        assert.ok(!JSON.stringify(mine).includes('u-42'), 'a user was kept as the client names it');
        break;
      }
      assert.ok(Date.now() < end, `missing ${missing.join(', ')}; got ${mine.map((e) => `${e.kind} ${e.name}`).join(', ')}`);
      requests.length = 0; // again, where a busy machine had no idle moment
    }
    if (record) writeFileSync(join(record, `${one.name}.json`), JSON.stringify(requests, null, 1));
  });
}
