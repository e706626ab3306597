// Recordings of the wire, which the server's decoder is tested with: a drift of
// the format fails on both sides. `npm run golden` writes them anew.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { init } from '../src/index.js';
import { vitalEvent } from '../src/vitals.js';
import { fakePage } from './page.js';

const folder = new URL('../../ingest/beacon/testdata/sdk/', import.meta.url);

test('the beacons of a visit are as recorded', async () => {
  const fake = fakePage();
  fake.site = (url) => ({ status: url.includes('pay') ? 503 : 200 });
  const handle = init(
    {
      key: 'pk_test', endpoint: 'https://serin.example', app: 'shop-web', release: '2.4.1', user: 'h:9f2c',
      arms: { 'release/2.4.1': 'canary', 'flag/new-checkout': 'on' }, tenancy: 'test', slowRequestMs: 1_000,
      collect: { vitals: false },
    },
    fake.page,
  );
  await fake.pass(1_000);
  await fake.page.fetch('/api/pay/17', { method: 'POST' });
  handle.metric('cart.total', 41.5, 'eur');
  handle.event('coupon', { code: 'S"ß\u0001', share: 0.1, first: true });
  handle.error(new RangeError('handled: ü \u{1f426}'));
  fake.fail(new TypeError('x is undefined'));
  handle.metric('nothing', Number.POSITIVE_INFINITY);
  fake.hide();
  handle.stop();
  assert.equal(fake.sent.length, 2);

  const vitals = {
    ...fake.sent[0]!.json,
    seq: 2,
    events: (['TTFB', 'FCP', 'LCP', 'CLS', 'INP'] as const).map((name, i) =>
      vitalEvent({ name, value: name === 'CLS' ? 0.012345 : 100.06 * (i + 1), rating: 'good', id: `v5-${i}`, navigationType: 'navigate' } as never, 1_764_000_002_000)),
  };
  // A stack names the files of whoever runs this test.
  const stackless = (text: string): string => text.replace(/"s":"(?:[^"\\]|\\.)*"/g, '"s":"at pay (https://shop.example/app.js:1:2)"');
  const recordings = {
    'exposure.json': fake.sent[0]!.body,
    'visit.json': stackless(fake.sent[1]!.body),
    'vitals.json': JSON.stringify(vitals),
  };
  for (const [name, body] of Object.entries(recordings)) {
    const file = new URL(name, folder);
    if (process.env.SERIN_GOLDEN === 'write') {
      mkdirSync(folder, { recursive: true });
      writeFileSync(file, `${body}\n`);
    }
    assert.equal(readFileSync(file, 'utf8'), `${body}\n`, `${name} differs; npm run golden writes it anew`);
  }
});
