// A page pays for each byte of the SDK before its own first paint.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';

// web-vitals alone takes about 2.9 kB of it. What comes on top of this needs a
// reason that is worth a slower page.
const BUDGET = 9_600;

test(`the script is at most ${BUDGET} bytes, gzipped`, (t) => {
  const size = gzipSync(readFileSync(new URL('../dist/serin.js', import.meta.url)), { level: 9 }).length;
  t.diagnostic(`${size} bytes`);
  assert.ok(size <= BUDGET, `${size} bytes`);
});
