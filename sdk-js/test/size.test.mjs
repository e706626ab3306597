// A page pays for each byte of the SDK before its own first paint.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';

// web-vitals alone takes about 2.9 kB of it. What comes on top of this needs a
// reason that is worth a slower page.
const BUDGET = 9_600;

// The stream for long sessions is a bundle of its own, so that nobody else pays
// for it.
const STREAM_BUDGET = BUDGET + 800;

// It stands in every page, uncached.
const BOOT_BUDGET = 1_900;

for (const [name, budget] of [['serin.js', BUDGET], ['serin-stream.js', STREAM_BUDGET], ['serin-boot.js', BOOT_BUDGET]]) test(`${name} is at most ${budget} bytes, gzipped`, (t) => {
  const size = gzipSync(readFileSync(new URL(`../dist/${name}`, import.meta.url)), { level: 9 }).length;
  t.diagnostic(`${size} bytes`);
  assert.ok(size <= budget, `${size} bytes`);
});
