// The script that stands in the page before the SDK, and how the SDK goes on
// from it.
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { boot } from '../src/boot.js';
import { init } from '../src/index.js';
import type { Handle, Options } from '../src/types.js';
import { type FakePage, fakePage } from './page.js';

const options: Options = {
  key: 'pk_test',
  endpoint: 'https://serin.example/',
  app: 'shop-web',
  release: '2.4.1',
  arms: { 'release/2.4.1': 'canary' },
  collect: { vitals: false },
};

let handle: Handle | undefined;
afterEach(() => {
  handle?.stop();
  handle = undefined;
});

const events = (fake: FakePage): string[][] => fake.sent.map(({ json }) => json.events.map((e: { k: string; n: string }) => `${e.k} ${e.n}`));

test('the page is told of at once, as the SDK would tell it', () => {
  const fake = fakePage();
  assert.equal(boot({ ...options, user: 'u1', context: { page: '/pay' } }, fake.page), true);
  const [{ how, url, json }] = fake.sent as [FakePage['sent'][0]];
  assert.equal(how, 'beacon');
  assert.equal(url, 'https://serin.example/v1/beacons?key=pk_test');
  const { session, ...rest } = json;
  assert.match(session, /^[0-9a-f]{32}$/);
  assert.deepEqual(rest, {
    v: 1, sdk: 'serin-js/1.0.0', app: 'shop-web', release: '2.4.1', user: 'u1', seq: 0, sent: 1_764_000_000_000,
    arms: { 'release/2.4.1': 'canary' },
    ctx: { platform: 'web', os: 'Android', browser: 'Chrome 142', device: 'mobile', network: '4g', page: '/pay' },
    events: [
      { k: 'exposure', n: 'release/2.4.1', t: 1_764_000_000_000, a: { arm: 'canary' } },
      { k: 'session', n: 'start', t: 1_764_000_000_000 },
      { k: 'session', n: 'boot', t: 1_764_000_000_000 },
    ],
  });
});

test('the SDK goes on with the session, and says once that it started', async () => {
  const storage = new Map<string, string>();
  const fake = fakePage(storage);
  boot(options, fake.page);
  handle = init(options, fake.page);
  await fake.pass(0);
  assert.deepEqual(events(fake), [
    ['exposure release/2.4.1', 'session start', 'session boot'],
    ['exposure release/2.4.1', 'session init'],
  ]);
  assert.deepEqual(fake.sent.map(({ json }) => json.seq), [0, 1]);
  assert.equal(fake.sent[0]!.json.session, fake.sent[1]!.json.session);
  fake.leave();
  handle.stop();
  const next = fakePage(storage); // a page without the script
  handle = init(options, next.page);
  await next.pass(0);
  assert.deepEqual(events(next), [['exposure release/2.4.1']]);
  assert.equal(next.sent[0]!.json.seq, 2);
});

test('the next page of a session is told of, too', async () => {
  const storage = new Map<string, string>();
  const fake = fakePage(storage);
  boot(options, fake.page);
  handle = init(options, fake.page);
  fake.leave();
  handle.stop();
  const next = fakePage(storage);
  boot(options, next.page);
  handle = init(options, next.page);
  await next.pass(0);
  assert.deepEqual(events(next), [['exposure release/2.4.1', 'session boot'], ['exposure release/2.4.1', 'session init']]);
});

test('where the tab keeps nothing, nothing is sent that the SDK could not go on from', async () => {
  const fake = fakePage();
  Object.defineProperty(fake.page, 'sessionStorage', { get: () => { throw new Error('denied'); } });
  assert.equal(boot(options, fake.page), false);
  handle = init(options, fake.page);
  await fake.pass(0);
  assert.deepEqual(events(fake), [['exposure release/2.4.1', 'session start']]);
  assert.equal(fake.sent[0]!.json.seq, 0);
});

test('a page that is prerendered is not told of', () => {
  const fake = fakePage();
  Object.assign(fake.page.document, { prerendering: true });
  assert.equal(boot(options, fake.page), false);
  assert.deepEqual(fake.sent, []);
});

test('whatever is wrong, the page comes', () => {
  const fake = fakePage();
  assert.equal(boot({} as Options, fake.page), false);
  fake.page.navigator.sendBeacon = () => { throw new Error('blocked'); };
  assert.equal(boot(options, fake.page), false);
  assert.equal(boot(options, undefined), false);
});
