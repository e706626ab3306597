// The stream, with nothing put in place of anything: a page in a real browser
// sends over a websocket to a real server, through a wire that breaks.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect, createServer as createWire } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { chromium } from 'playwright-core';

const TOKEN = 'sk_e2e_stream';
const KEY = 'pk_e2e_stream';

const folder = mkdtempSync(join(tmpdir(), 'serin-stream-'));
const undo = [];
const wires = new Set();
let serin, wire, shop, browser;

const port = (server) => new Promise((done) => server.listen(0, '127.0.0.1', () => done(server.address().port)));

async function until(what, ms, check) {
  const end = Date.now() + ms;
  for (;;) {
    const found = await check();
    if (found) return found;
    assert.ok(Date.now() < end, `${what()} did not come within ${ms / 1000} s`);
    await new Promise((done) => setTimeout(done, 200));
  }
}

before(async () => {
  const binary = process.env.SERIN_BIN;
  assert.ok(binary && existsSync(binary), 'set SERIN_BIN to the built server; make test does');
  const probe = createServer();
  const free = await port(probe);
  await new Promise((done) => probe.close(done));
  const file = join(folder, 'serin.yaml');
  writeFileSync(file, `
listen: 127.0.0.1:${free}
data: ${join(folder, 'data')}
tenants:
  - id: shop
    keys: [{key: ${KEY}, app: shop-web, origins: ["http://127.0.0.1:*"]}]
    tokens: [{name: e2e, role: viewer, token: ${TOKEN}}]
  - id: tight
    quota: {events: 20}
    keys: [{key: ${KEY}_tight, app: shop-web, origins: ["http://127.0.0.1:*"]}]
    tokens: [{name: e2e, role: viewer, token: ${TOKEN}_tight}]
`);
  const server = spawn(binary, ['serve', '--config', file], { stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  server.stderr.on('data', (part) => (log += part));
  undo.push(() => new Promise((done) => {
    if (server.exitCode !== null) return done();
    server.on('exit', done);
    server.kill('SIGINT');
  }));
  serin = `http://127.0.0.1:${free}`;
  await until(() => `the server\n${log}`, 30_000, () => fetch(`${serin}/readyz`).then(({ ok }) => ok, () => false));

  const between = createWire((near) => {
    const far = connect(free, '127.0.0.1');
    for (const [one, other] of [[near, far], [far, near]]) {
      wires.add(one);
      one.on('error', () => {}); // it was cut
      one.on('close', () => {
        wires.delete(one);
        other.destroy();
      });
    }
    near.pipe(far).pipe(near);
  });
  wire = `http://127.0.0.1:${await port(between)}`;
  undo.push(() => between.close());

  const pages = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url, 'http://shop');
    if (pathname === '/serin-stream.js') {
      return response.writeHead(200, { 'Content-Type': 'text/javascript' }).end(readFileSync(new URL('../dist/serin-stream.js', import.meta.url)));
    }
    response.writeHead(200, { 'Content-Type': 'text/html' }).end(`<!doctype html><title>Long</title><script src="/serin-stream.js"></script>
<script>serin = Serin.init({ key: '${KEY}${searchParams.get('key') ?? ''}', endpoint: '${wire}', app: 'shop-web', release: '1', arms: { 'flag/x': 'on' }, transport: '${searchParams.get('transport') ?? 'stream'}' });</script><h1>A long session</h1>`);
  });
  shop = `http://127.0.0.1:${await port(pages)}`;
  undo.push(() => pages.closeAllConnections() ?? pages.close());
  const found = [process.env.SERIN_CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((path) => path && existsSync(path));
  assert.ok(found, 'no Chromium; type: sudo apt-get install -y chromium (or set SERIN_CHROMIUM to its path)');
  browser = await chromium.launch({ executablePath: found, args: ['--no-sandbox'] });
  undo.push(() => browser.close());
});

after(async () => {
  for (const one of undo.reverse()) await one();
  rmSync(folder, { recursive: true, force: true });
});

/** What the server counted of a tenant, repetitions not among it. */
async function rows(suffix = '') {
  const response = await fetch(`${serin}/v1/events?app=shop-web&limit=2000`, { headers: { Authorization: `Bearer ${TOKEN}${suffix}` } });
  assert.ok(response.ok);
  return (await response.json()).events ?? [];
}

/** The names of the page's own events among them. */
const counted = async () => (await rows()).filter(({ kind }) => kind === 'event').map(({ name }) => name);

test('a wire that breaks loses nothing and tells nothing twice', { timeout: 90_000 }, async () => {
  const context = await browser.newContext();
  const tab = await context.newPage();
  const sockets = [];
  let posts = 0;
  tab.on('websocket', (socket) => sockets.push(socket.url()));
  tab.on('request', (request) => (posts += request.url().includes('/v1/beacons') ? 1 : 0));
  await tab.goto(`${shop}/`);
  let sent = 0;
  const say = async (n) => {
    await tab.evaluate(([from, n]) => {
      for (let i = from; i < from + n; i++) {
        serin.event(`step-${i}`);
        if (i % 3 === 0) serin.flush();
      }
      serin.flush();
    }, [sent, n]);
    sent += n;
  };
  await say(10);
  await until(() => 'what was sent before a break', 20_000, async () => (await counted()).length === sent);
  for (let i = 0; i < 3; i++) {
    // Some of it is on the wire when the wire is cut, some is said while it is.
    const said = say(30);
    for (const one of wires) one.destroy();
    await said;
    await say(10);
    await until(() => `what was sent around break ${i}`, 20_000, async () => (await counted()).length >= sent);
  }
  assert.equal(posts, 0, 'HTTP took over, and the test shows nothing of the stream');
  assert.ok(sockets.length >= 4, `${sockets.length} websockets`);
  for (const url of sockets) assert.match(url, /^ws:.*\/v1\/stream\?key=/);
  await say(5);
  await tab.goto('about:blank'); // what is unanswered leaves by sendBeacon
  let names;
  await until(() => `${names?.length} of ${sent} events`, 20_000, async () => (names = await counted()).length >= sent);
  assert.deepEqual(names.sort(), Array.from({ length: sent }, (_, i) => `step-${i}`).sort());
  await context.close();
});

test('a network that lets no websocket through is served over HTTP', { timeout: 60_000 }, async () => {
  const context = await browser.newContext();
  const tab = await context.newPage();
  await tab.addInitScript(() => {
    const Native = WebSocket;
    window.WebSocket = class extends Native {
      constructor(url, protocol) {
        super(url.replace('/v1/stream', '/absent'), protocol);
      }
    };
  });
  await tab.goto(`${shop}/`);
  await tab.evaluate(() => {
    serin.event('by-http');
    serin.flush();
  });
  await until(() => 'the event', 20_000, async () => (await counted()).includes('by-http'));
  await context.close();
});

for (const transport of ['beacon', 'stream']) {
  test(`a tenant past its quota is heard by the page, and what the page holds is told: ${transport}`, { timeout: 60_000 }, async () => {
    const context = await browser.newContext();
    const tab = await context.newPage();
    await tab.goto(`${shop}/?key=_tight&transport=${transport}`);
    const session = await tab.evaluate(() => JSON.parse(sessionStorage.serin).id);
    let said = 0;
    await until(() => 'a drop row of what was held', 40_000, async () => {
      said += 50;
      await tab.evaluate(() => {
        for (let i = 0; i < 50; i++) serin.event('much');
        serin.flush();
      });
      return (await rows('_tight')).some(({ session: one, kind, name }) => one === session && kind === 'drop' && name === 'event/held');
    });
    await tab.goto('about:blank');
    // What was said is either stored, shed by the server, or held by the page;
    // a busy machine may leave some of it in the page's full queue, also told.
    const account = async () => {
      const own = (await rows('_tight')).filter(({ session: one }) => one === session);
      const drops = own.filter(({ kind, name }) => kind === 'drop' && /^(event\/|shed\/error)/.test(name)).reduce((n, { value }) => n + value, 0);
      return own.filter(({ kind }) => kind === 'event').length + drops;
    };
    let sum;
    await until(() => `an account of all ${said} events (${sum})`, 20_000, async () => (sum = await account()) === said);
    assert.ok((await rows('_tight')).some(({ session: one, kind }) => one === session && kind === 'exposure'), 'the exposure was held');
    await context.close();
  });
}
