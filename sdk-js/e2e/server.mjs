// What every end-to-end test stands on: a real server, and a real Chromium.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const undo = [];

/** Runs once all tests are through, the last that was said first. */
export const later = (what) => undo.push(what);

export async function cleanUp() {
  for (const one of undo.reverse()) await one();
}

/** Has a server of any kind listen on a free port, and returns the port. */
export const listenOn = (server) => new Promise((done) => server.listen(0, '127.0.0.1', () => done(server.address().port)));

/** Serves on a free port and returns the URL. */
export async function listen(handle) {
  const server = createServer(handle);
  const port = await listenOn(server);
  later(() => server.closeAllConnections() ?? server.close());
  return `http://127.0.0.1:${port}`;
}

/** Waits for check to find something, and returns it; what, or what it returns, says what did not come. */
export async function until(what, ms, check) {
  const end = Date.now() + ms;
  for (;;) {
    const found = await check();
    if (found) return found;
    assert.ok(Date.now() < end, `${typeof what === 'function' ? what() : what} did not come within ${ms / 1000} s`);
    await new Promise((done) => setTimeout(done, 200));
  }
}

/** Starts the built server with a configuration, given without its address and folder, and returns its URL. */
export async function startServer(config) {
  const binary = process.env.SERIN_BIN;
  assert.ok(binary && existsSync(binary), 'set SERIN_BIN to the built server; make test does');
  const folder = mkdtempSync(join(tmpdir(), 'serin-e2e-'));
  later(() => rmSync(folder, { recursive: true, force: true }));
  // The port is free now, and nothing else on this machine is asking for one.
  const probe = createServer();
  const port = await listenOn(probe);
  await new Promise((done) => probe.close(done));
  const file = join(folder, 'serin.yaml');
  writeFileSync(file, `listen: 127.0.0.1:${port}\ndata: ${join(folder, 'data')}\n${config}`);
  const server = spawn(binary, ['serve', '--config', file], { stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  server.stderr.on('data', (part) => (log += part));
  later(() => new Promise((done) => {
    if (server.exitCode !== null) return done();
    server.on('exit', done);
    server.kill('SIGINT');
  }));
  const url = `http://127.0.0.1:${port}`;
  await until(() => `the server\n${log}`, 30_000, async () => {
    assert.equal(server.exitCode, null, `the server ended:\n${log}`);
    return fetch(`${url}/readyz`).then(({ ok }) => ok, () => false);
  });
  return url;
}

export async function startBrowser() {
  const found = [process.env.SERIN_CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((path) => path && existsSync(path));
  assert.ok(found, 'no Chromium; type: sudo apt-get install -y chromium (or set SERIN_CHROMIUM to its path)');
  const browser = await chromium.launch({ executablePath: found, args: ['--no-sandbox'] });
  later(() => browser.close());
  return browser;
}
