// The SDK as a page meets it: what goes out, when, in which order, and what
// becomes of it when the network or the server fails.
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { init } from '../src/index.js';
import type { Handle, Options } from '../src/types.js';
import { type FakePage, fakePage } from './page.js';

const options: Options = {
  key: 'pk_test',
  endpoint: 'https://serin.example',
  app: 'shop-web',
  release: '2.4.1',
  arms: { 'release/2.4.1': 'canary' },
  collect: { vitals: false }, // which the browser alone can measure: e2e has them
};

let handle: Handle | undefined;
afterEach(() => {
  handle?.stop();
  handle = undefined;
});

function start(fake: FakePage, more: Partial<Options> = {}): Handle {
  return (handle = init({ ...options, ...more }, fake.page));
}

const kinds = (fake: FakePage): string[] => fake.sent.flatMap(({ json }) => json.events.map((e: { k: string }) => e.k));

test('the exposure goes out first and at once, before anything can fail', async () => {
  const fake = fakePage();
  start(fake);
  fake.fail(new TypeError('x is undefined'));
  await fake.pass(5_000);
  const first = fake.sent[0]!;
  assert.equal(first.url, 'https://serin.example/v1/beacons?key=pk_test');
  assert.deepEqual(first.json.events[0], { k: 'exposure', n: 'release/2.4.1', t: 1_764_000_000_000, a: { arm: 'canary' } });
  assert.equal(first.json.seq, 0);
  assert.deepEqual(first.json.arms, { 'release/2.4.1': 'canary' });
  assert.deepEqual(first.json.ctx, { platform: 'web', os: 'Android', browser: 'Chrome 142', device: 'mobile', network: '4g', page: '/checkout' });
  assert.deepEqual(kinds(fake), ['exposure', 'session', 'error']);
  assert.equal(fake.sent[1]!.json.events[0].a.handled, false);
});

test('events wait for company, and numbers rise by one', async () => {
  const fake = fakePage();
  const { event } = start(fake);
  for (let i = 0; i < 45; i++) event(`step-${i}`);
  await fake.pass(100);
  assert.deepEqual(fake.sent.map(({ json }) => json.events.length), [2, 20, 20]);
  await fake.pass(5_000);
  assert.deepEqual(fake.sent.map(({ json }) => [json.seq, json.events.length]), [[0, 2], [1, 20], [2, 20], [3, 5]]);
});

test('what waits leaves with the page', async () => {
  const fake = fakePage();
  const { event } = start(fake);
  await fake.pass(0);
  event('bought');
  fake.hide();
  assert.deepEqual(fake.sent.map(({ how }) => how), ['fetch', 'beacon']);
  assert.equal(fake.sent[1]!.json.events[0].n, 'bought');
});

test('what the browser does not carry beyond the page waits for it to come back', async () => {
  const fake = fakePage();
  const { event } = start(fake);
  await fake.pass(0);
  fake.allowance = 0;
  event('bought');
  fake.hide();
  await fake.pass(1_000);
  assert.equal(fake.sent.at(-1)!.json.events[0].n, 'bought');
  assert.equal(fake.sent.at(-1)!.how, 'fetch');
});

for (const answer of [{ status: 503 }, { status: 429 }, { status: 408 }, new TypeError('Failed to fetch')]) {
  const name = answer instanceof Error ? 'a failed network' : `status ${answer.status}`;
  test(`${name} is tried again, with the same bytes`, async () => {
    const fake = fakePage();
    fake.answers = [answer, answer];
    start(fake);
    await fake.pass(20_000);
    assert.equal(fake.sent.length, 3);
    assert.equal(new Set(fake.sent.map(({ body }) => body)).size, 1);
    await fake.pass(60_000);
    assert.equal(fake.sent.length, 3);
  });
}

test('a server that asks for time gets it', async () => {
  const fake = fakePage();
  fake.answers = [{ status: 429, retryAfter: '60' }];
  start(fake);
  await fake.pass(59_000);
  assert.equal(fake.sent.length, 1);
  await fake.pass(3_000);
  assert.equal(fake.sent.length, 2);
});

for (const status of [400, 401, 403, 413]) {
  test(`status ${status} is final, and counted as drops in the next beacon`, async () => {
    const fake = fakePage();
    fake.answers = [{ status }];
    const { event } = start(fake);
    await fake.pass(30_000);
    assert.equal(fake.sent.length, 1);
    event('next');
    await fake.pass(5_000);
    assert.deepEqual(fake.sent[1]!.json.drops, { 'exposure/refused': 1, 'session/refused': 1 });
  });
}

test('a beacon that fails five times is given up and counted', async () => {
  const fake = fakePage();
  fake.answers = Array.from({ length: 5 }, () => ({ status: 500 }));
  const { event } = start(fake);
  await fake.pass(300_000);
  event('next');
  await fake.pass(10_000);
  assert.equal(fake.sent.length, 6);
  assert.deepEqual(fake.sent[5]!.json.drops, { 'exposure/undelivered': 1, 'session/undelivered': 1 });
});

test('beacons keep within what a browser carries beyond a page', async () => {
  const fake = fakePage();
  const { event } = start(fake);
  await fake.pass(0);
  for (let i = 0; i < 30; i++) event(`e${i}`, { text: 'ü'.repeat(5_000) });
  fake.hide();
  await fake.pass(5_000);
  for (const { body } of fake.sent) assert.ok(Buffer.byteLength(body) <= 64 * 1024, `${Buffer.byteLength(body)} bytes`);
  const seen = fake.sent.flatMap(({ json }) => json.events).filter((e) => e.k === 'event').length;
  const dropped = fake.sent.reduce((n, { json }) => n + Object.values<number>(json.drops ?? {}).reduce((a, b) => a + b, 0), 0);
  assert.equal(seen + dropped, 30);
});

test('a session spans page loads, and its numbers go on', async () => {
  const storage = new Map<string, string>();
  const one = fakePage(storage);
  start(one);
  await one.pass(0);
  one.leave();
  handle!.stop();
  const two = fakePage(storage, 1_764_000_060_000);
  start(two);
  await two.pass(0);
  assert.equal(two.sent[0]!.json.session, one.sent[0]!.json.session);
  assert.ok(two.sent[0]!.json.seq > one.sent.at(-1)!.json.seq);
  assert.deepEqual(kinds(two), ['exposure']);
});

test('a copied tab begins a session of its own', async () => {
  const storage = new Map<string, string>();
  const one = fakePage(storage);
  const first = start(one);
  await one.pass(0);
  const copy = fakePage(new Map(storage));
  // A tab has one SDK; a test has to end the first to have the second. What
  // it kept is as it was when the tab was copied.
  first.stop();
  start(copy);
  await copy.pass(0);
  assert.notEqual(copy.sent[0]!.json.session, undefined);
  assert.equal(copy.sent[0]!.json.seq, 0);
  assert.deepEqual(kinds(copy), ['exposure', 'session']);
});

test('15 minutes of silence end a session', async () => {
  const fake = fakePage();
  const { event } = start(fake);
  await fake.pass(15 * 60_000);
  event('back');
  await fake.pass(5_000);
  const sessions = new Set(fake.sent.map(({ json }) => json.session));
  assert.equal(sessions.size, 2);
  const second = fake.sent.find(({ json }) => json.session !== fake.sent[0]!.json.session)!;
  assert.equal(second.json.seq, 0);
  assert.equal(second.json.events[0].k, 'exposure');
});

test('rejections that nobody handled are errors', async () => {
  const fake = fakePage();
  start(fake);
  fake.dispatchEvent(Object.assign(new Event('unhandledrejection'), { reason: new RangeError('too far') }));
  await fake.pass(5_000);
  const error = fake.sent.at(-1)!.json.events[0];
  assert.deepEqual([error.k, error.n, error.m, error.a.handled], ['error', 'RangeError', 'too far', false]);
});

test('an error in a loop is told a few times and counted', async () => {
  const fake = fakePage();
  start(fake);
  const fault = new Error('again');
  for (let i = 0; i < 50; i++) fake.fail(fault);
  await fake.pass(5_000);
  fake.hide();
  const told = kinds(fake).filter((k) => k === 'error').length;
  assert.equal(told, 5);
  const drops = fake.sent.reduce((n, { json }) => n + Object.values<number>(json.drops ?? {}).reduce((a, b) => a + b, 0), 0);
  assert.equal(told + drops, 50);
});

test('failed and slow requests are told, the others and our own are not', async () => {
  const fake = fakePage();
  const native = fake.page.fetch;
  fake.site = (url) => (url.includes('down') ? new TypeError('Failed to fetch') : { status: url.includes('pay') ? 503 : url.includes('none') ? 404 : 200 });
  start(fake);
  assert.notEqual(fake.page.fetch, native);
  assert.equal((await fake.page.fetch('/api/pay/123456?card=1', { method: 'post' })).status, 503);
  assert.equal((await fake.page.fetch('/api/fine')).status, 200);
  await assert.rejects(fake.page.fetch('https://api.shop.example/down'), /Failed to fetch/);
  const xhr = new fake.page.XMLHttpRequest();
  xhr.open('GET', '/api/pay/xhr');
  xhr.send();
  await fake.pass(5_000);
  const requests = fake.sent.flatMap(({ json }) => json.events).filter((e) => e.k === 'request');
  assert.equal(requests.length, 3);
  assert.equal(requests[0].a.failed, true);
  assert.equal(requests[0].a.status, 503);
  assert.match(requests[0].n, /^POST \/api\/pay\//);
  assert.ok(!JSON.stringify(requests).includes('card'), 'a query went out');
  assert.equal(requests[1].a.status, 0);
  assert.equal(requests[1].a.host, 'api.shop.example');
  assert.match(requests[2].n, /^GET \/api\/pay/);
  handle!.stop();
  assert.equal(fake.page.fetch, native);
});

test('sampling leaves out what a verdict does not need, and says so', async () => {
  const fake = fakePage();
  const { event, metric } = start(fake, { sampleRate: 0 });
  event('seen');
  metric('cart', 3, 'eur');
  fake.fail(new Error('kept'));
  await fake.pass(5_000);
  assert.deepEqual(kinds(fake), ['exposure', 'session', 'error']);
  assert.deepEqual(fake.sent[1]!.json.drops, { 'event/sampled': 1, 'metric/sampled': 1 });
});

const dropped = (fake: FakePage): Record<string, number> => {
  const all: Record<string, number> = {};
  for (const { json } of fake.sent) for (const cause in json.drops) all[cause] = (all[cause] ?? 0) + json.drops[cause];
  return all;
};

test('classes that the server stops are left out and counted, until it says nothing more of them', async () => {
  const fake = fakePage();
  fake.answers = [{ status: 202, classes: 'resource;stop, error;stop' }, { status: 202, classes: 'error;stop' }, { status: 202 }];
  const { event, metric, error } = start(fake);
  await fake.pass(0);
  event('one');
  metric('cart', 1);
  error(new Error('handled'));
  await fake.page.fetch('/api/fine');
  fake.site = () => ({ status: 503 });
  await fake.page.fetch('/api/down');
  fake.fail(new TypeError('uncaught')); // of the class crash
  await fake.pass(5_000);
  assert.deepEqual(kinds(fake), ['exposure', 'session', 'error']);
  assert.deepEqual(dropped(fake), { 'event/held': 1, 'metric/held': 1, 'error/held': 1, 'request/held': 1 });
  event('two');
  fake.fail(new TypeError('another'));
  await fake.pass(5_000);
  event('three');
  await fake.pass(5_000);
  assert.deepEqual(kinds(fake), ['exposure', 'session', 'error', 'error', 'event']);
  assert.equal(dropped(fake)['event/held'], 2);
});

test('a class that is to wait waits as long, whatever is said later', async () => {
  const fake = fakePage();
  fake.answers = [{ status: 202, classes: 'error;wait=30' }];
  const { event } = start(fake);
  await fake.pass(0);
  fake.fail(new TypeError('goes out'));
  await fake.pass(10_000); // answered without the header
  event('held');
  await fake.pass(19_000);
  event('held too');
  await fake.pass(2_000);
  event('free');
  await fake.pass(5_000);
  assert.deepEqual(fake.sent.flatMap(({ json }) => json.events).filter((e) => e.k === 'event').map((e) => e.n), ['free']);
  assert.equal(dropped(fake)['event/held'], 2);
});

test('a stop ends by itself where nothing is left that could be answered', async () => {
  const fake = fakePage();
  const all = 'resource;stop, error;stop, vital;stop, crash;stop';
  fake.answers = [{ status: 202, classes: all }];
  start(fake);
  await fake.pass(0);
  fake.fail(new TypeError('held'));
  await fake.pass(301_000);
  fake.fail(new RangeError('goes out'));
  await fake.pass(5_000);
  assert.deepEqual(fake.sent.flatMap(({ json }) => json.events).filter((e) => e.k === 'error').map((e) => e.n), ['RangeError']);
  assert.equal(dropped(fake)['error/held'], 1);
});

test('an exposure is never held, and a session is held with the vitals that it is the number of', async () => {
  const fake = fakePage();
  fake.answers = [{ status: 503, classes: 'resource;stop, error;stop, vital;wait=3600, crash;stop' }];
  const { event } = start(fake);
  await fake.pass(15 * 60_000 + 1_000); // a new session, while all is held
  event('back');
  await fake.pass(10_000);
  fake.hide();
  const second = fake.sent.filter(({ json }) => json.session !== fake.sent[0]!.json.session);
  assert.deepEqual(second.flatMap(({ json }) => json.events.map((e: { k: string }) => e.k)), ['exposure', 'event']);
  assert.equal(dropped(fake)['session/held'], 1);
});

for (const classes of ['', 'nonsense', 'error', 'error;wait', 'error;wait=x', ';stop', 'toString;stop']) {
  test(`a header that cannot be read holds nothing: ${JSON.stringify(classes)}`, async () => {
    const fake = fakePage();
    fake.answers = [{ status: 202, classes }];
    const { event } = start(fake);
    await fake.pass(0);
    event('goes out');
    await fake.pass(5_000);
    assert.deepEqual(kinds(fake), ['exposure', 'session', 'event']);
  });
}

test('a metric that is no number is refused, counted and said on the console', async () => {
  const fake = fakePage();
  const { metric } = start(fake, { debug: true });
  metric('cart', Number.NaN);
  metric('cart', 4.5, 'eur');
  await fake.pass(5_000);
  const last = fake.sent.at(-1)!.json;
  assert.deepEqual(last.events[0], { k: 'metric', n: 'cart', t: 1_764_000_000_000, v: 4.5, u: 'eur' });
  assert.deepEqual(last.drops, { 'metric/invalid': 1 });
  assert.match(String(fake.warnings[0]), /want a name/);
});

test('a change of page or user closes the beacon before it', async () => {
  const fake = fakePage();
  const { event, setUser } = start(fake);
  event('one');
  fake.path('/thanks');
  event('two');
  setUser('h:1');
  event('three');
  await fake.pass(5_000);
  const heads = fake.sent.filter(({ json }) => json.events[0].k === 'event').map(({ json }) => [json.events[0].n, json.ctx.page, json.user]);
  assert.deepEqual(heads, [['one', '/checkout', undefined], ['two', '/thanks', undefined], ['three', '/thanks', 'h:1']]);
});

test('nothing of the SDK throws into the page', async () => {
  const fake = fakePage();
  (fake.page as any).fetch = () => {
    throw new Error('no network for you');
  };
  (fake.page as any).sessionStorage = {
    getItem() {
      throw new Error('denied');
    },
  };
  const { event, error } = start(fake);
  event('fine', { toString: null as any });
  error(null);
  error(Object.create(null));
  fake.hide();
  await fake.pass(60_000);
});

test('after stop nothing is observed or sent', async () => {
  const fake = fakePage();
  const { event, stop } = start(fake);
  await fake.pass(0);
  stop();
  event('late');
  fake.fail(new Error('late'));
  fake.hide();
  await fake.pass(60_000);
  assert.deepEqual(kinds(fake), ['exposure', 'session']);
});

test('a second init returns the first handle', () => {
  const fake = fakePage();
  assert.equal(start(fake), init(options, fake.page));
});

test('without a page, as on a server, the handle does nothing', () => {
  init(options, undefined).event('nothing');
});

const wrong: [string, Record<string, unknown>, RegExp][] = [
  ['key', { key: '' }, /option key is ""; allowed: a text of 1 to 128 bytes/],
  ['endpoint', { endpoint: 'ftp://x' }, /option endpoint is "ftp:\/\/x"; allowed: an http/],
  ['endpoint with a query', { endpoint: 'https://x/?a=1' }, /option endpoint/],
  ['app', { app: 'x'.repeat(129) }, /option app/],
  ['release', { release: 7 }, /option release is 7/],
  ['arms', { arms: [] }, /option arms is \[\]/],
  ['an arm', { arms: { a: '' } }, /option arms\["a"\] is ""/],
  ['user', { user: 'u'.repeat(65) }, /option user/],
  ['tenancy', { tenancy: 'prod' }, /option tenancy is "prod"; allowed: production, test, shadow, synthetic/],
  ['context', { context: { country: 'AT' } }, /option context is "country"/],
  ['collect', { collect: { vitals: 'no' } }, /option collect.vitals is "no"/],
  ['transport that the bundle has not', { transport: 'stream' }, /option transport is "stream"; allowed: beacon/],
  ['sampleRate', { sampleRate: 2 }, /option sampleRate is 2; allowed: a number from 0 to 1/],
  ['slowRequestMs', { slowRequestMs: 0 }, /option slowRequestMs/],
];
for (const [name, change, message] of wrong) {
  test(`a wrong option is named: ${name}`, () => {
    assert.throws(() => init({ ...options, ...change } as Options, fakePage().page), { name: 'TypeError', message });
  });
}
