// OpenFeature's own OFREP provider, unmodified, reads a rollout's kill switch:
// it is on until the rollout is rolled back, and stays as it was while Serin is
// away.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { OFREPWebProvider } from '@openfeature/ofrep-web-provider';
import { OpenFeature } from '@openfeature/web-sdk';

const TOKEN = 'sk_interop_releaser';
const FLAG = 'serin.release.release-2.4.1.enabled';
const folder = mkdtempSync(join(tmpdir(), 'serin-openfeature-'));
let server, base;

function start() {
  server = spawn(process.env.SERIN_BIN, ['serve', '--config', join(folder, 'serin.yaml')], { stdio: 'ignore' });
  return until(async () => (await fetch(base + '/readyz').catch(() => ({}))).ok, 'the server is ready');
}

async function stop() {
  const ended = new Promise((done) => server.once('exit', done));
  server.kill('SIGKILL');
  await ended;
}

async function until(holds, what) {
  for (let i = 0; i < 400; i++) {
    if (await holds()) return;
    await new Promise((done) => setTimeout(done, 25));
  }
  assert.fail(`not seen: ${what}`);
}

async function call(path, body) {
  const res = await fetch(base + path, { method: 'POST', headers: { Authorization: `Bearer ${TOKEN}` }, body: JSON.stringify(body) });
  assert.ok(res.ok, `${path}: ${res.status} ${await res.clone().text()}`);
  return res.json();
}

before(async () => {
  assert.ok(process.env.SERIN_BIN, 'SERIN_BIN is not set; type make interop');
  const probe = createServer();
  await new Promise((done) => probe.listen(0, '127.0.0.1', done));
  const { port } = probe.address();
  await new Promise((done) => probe.close(done));
  base = `http://127.0.0.1:${port}`;
  writeFileSync(join(folder, 'serin.yaml'), `listen: 127.0.0.1:${port}\ndata: ${join(folder, 'data')}\ntenants:\n- id: shop\n  tokens: [{name: ci, role: releaser, token: ${TOKEN}}]\n`);
  await start();
});

after(async () => {
  await OpenFeature.close();
  await stop();
  rmSync(folder, { recursive: true, force: true });
});

test('the kill switch follows the verdict', async () => {
  await call('/v1/rollouts', { id: 'release-2.4.1', app: 'shop-web', change: 'release/2.4.1', canary: '2.4.1', baseline: '2.4.0', stages: [{ weight: 0.05 }] });
  const { path, flag } = await call('/v1/rollouts/release-2.4.1/gate', { scope: 'flag' });
  assert.equal(flag, FLAG);
  await OpenFeature.setContext({ targetingKey: 'a-user' });
  await OpenFeature.setProviderAndWait(new OFREPWebProvider({ baseUrl: base + path, pollInterval: 100 }));
  const client = OpenFeature.getClient();
  const value = (otherwise) => client.getBooleanValue(FLAG, otherwise);
  assert.equal(value(false), true, 'on while nothing is known against it');
  assert.equal(client.getBooleanDetails('another.flag', false).errorCode, 'FLAG_NOT_FOUND');

  await call('/v1/rollouts/release-2.4.1/override', { decision: 'promote', why: 'a test' });
  await new Promise((done) => setTimeout(done, 300));
  assert.equal(value(false), true);

  await call('/v1/rollouts/release-2.4.1/override', { decision: 'rollback', why: 'a test' });
  await until(() => value(true) === false, 'the flag is off after the rollback');

  await stop();
  await new Promise((done) => setTimeout(done, 1000));
  assert.equal(value(true), false, 'off while Serin is away');
  await start();
  await new Promise((done) => setTimeout(done, 500));
  assert.equal(value(true), false, 'off when it is back');
});
