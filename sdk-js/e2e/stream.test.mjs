// The stream, with nothing put in place of anything: a page in a real browser
// sends over a websocket to a real server, through a wire that breaks.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { connect, createServer as createWire } from 'node:net';
import { after, before, test } from 'node:test';
import { cleanUp, later, listen, listenOn, startBrowser, startServer, until } from './server.mjs';

const TOKEN = 'sk_e2e_stream';
const KEY = 'pk_e2e_stream';

const wires = new Set();
let serin, wire, shop, browser;

before(async () => {
  serin = await startServer(`tenants:
  - id: shop
    keys: [{key: ${KEY}, app: shop-web, origins: ["http://127.0.0.1:*"]}]
    tokens: [{name: e2e, role: viewer, token: ${TOKEN}}]
  - id: tight
    quota: {events: 20}
    keys: [{key: ${KEY}_tight, app: shop-web, origins: ["http://127.0.0.1:*"]}]
    tokens: [{name: e2e, role: viewer, token: ${TOKEN}_tight}]
`);

  const between = createWire((near) => {
    const far = connect(new URL(serin).port, '127.0.0.1');
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
  wire = `http://127.0.0.1:${await listenOn(between)}`;
  later(() => between.close());

  shop = await listen((request, response) => {
    const { pathname, searchParams } = new URL(request.url, 'http://shop');
    if (pathname === '/serin-stream.js') {
      return response.writeHead(200, { 'Content-Type': 'text/javascript' }).end(readFileSync(new URL('../dist/serin-stream.js', import.meta.url)));
    }
    response.writeHead(200, { 'Content-Type': 'text/html' }).end(`<!doctype html><title>Long</title><script src="/serin-stream.js"></script>
<script>serin = Serin.init({ key: '${KEY}${searchParams.get('key') ?? ''}', endpoint: '${wire}', app: 'shop-web', release: '1', arms: { 'flag/x': 'on' }, transport: '${searchParams.get('transport') ?? 'stream'}' });</script><h1>A long session</h1>`);
  });
  browser = await startBrowser();
});

after(cleanUp);

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
