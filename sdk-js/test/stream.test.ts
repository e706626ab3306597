// The stream as a page meets it: what goes over the websocket, what becomes of
// it when a connection breaks, and when HTTP takes over. The test's own account
// is that of a server: it knows each beacon by its session and number.
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { init } from '../src/streaming.js';
import type { Handle, Options } from '../src/types.js';
import { type FakePage, fakePage } from './page.js';

const options: Options = {
  key: 'pk_test', endpoint: 'https://serin.example', app: 'shop-web', release: '2.4.1', arms: { 'release/2.4.1': 'canary' },
  transport: 'stream', collect: { vitals: false },
};

let handle: Handle | undefined;
afterEach(() => {
  handle?.stop();
  handle = undefined;
});

function start(fake: FakePage): Handle {
  return (handle = init(options, fake.page));
}

/** How each event of the page went, by its name. */
const ways = (fake: FakePage, name: string): string[] =>
  fake.sent.filter(({ json }) => json.events.some((e: { n: string }) => e.n === name)).map(({ how }) => how);

test('beacons go over one websocket, and are done with when they are answered', async () => {
  const fake = fakePage();
  const { event } = start(fake);
  await fake.pass(0);
  const [socket] = fake.sockets;
  assert.equal(socket!.url, 'wss://serin.example/v1/stream?key=pk_test');
  assert.equal(socket!.protocol, 'serin.v1');
  assert.equal(fake.sent.length, 0);
  socket!.accept();
  assert.equal(socket!.got.length, 1);
  event('one');
  await fake.pass(5_000);
  assert.equal(socket!.got.length, 2, 'a beacon waits for the answer to the one before');
  socket!.answer(0);
  socket!.answer(1);
  fake.leave();
  await fake.pass(60_000);
  assert.deepEqual(fake.sent.map(({ how, json }) => [how, json.seq]), [['stream', 0], ['stream', 1]]);
});

test('what was not answered when the connection broke goes out again, with the same bytes', async () => {
  const fake = fakePage();
  const { event } = start(fake);
  await fake.pass(0);
  fake.sockets[0]!.accept();
  event('one');
  await fake.pass(5_000);
  event('two');
  await fake.pass(5_000);
  fake.sockets[0]!.answer(1); // in another order than they were sent
  fake.sockets[0]!.cut();
  await fake.pass(500);
  assert.equal(fake.sockets.length, 1, 'it came back at once, as all clients would');
  await fake.pass(3_000);
  fake.sockets[1]!.accept();
  assert.deepEqual(fake.sockets[1]!.got, [fake.sockets[0]!.got[0], fake.sockets[0]!.got[2]]);
  // Numbers of messages begin anew with the connection; an answer over the old
  // one counts for nothing.
  fake.sockets[0]!.answer(2);
  fake.sockets[1]!.answer(0);
  fake.sockets[1]!.cut();
  await fake.pass(10_000);
  fake.sockets[2]!.accept();
  assert.deepEqual(fake.sockets[2]!.got, [fake.sockets[0]!.got[2]]);
});

test('a page that can have no websocket is on HTTP at once', async () => {
  const fake = fakePage();
  const { event } = start(fake);
  await fake.pass(0);
  fake.sockets[0]!.cut(); // as a proxy that does not know the protocol
  await fake.pass(0);
  event('one');
  await fake.pass(60_000);
  assert.equal(fake.sockets.length, 1);
  assert.deepEqual(fake.sent.map(({ how, json }) => [how, json.seq]), [['fetch', 0], ['fetch', 1]]);
});

for (const broken of ['absent', 'forbidden'] as const) {
  test(`a websocket that is ${broken} is not tried again`, async () => {
    const fake = fakePage();
    (fake.page as any).WebSocket = broken === 'absent' ? undefined : class {
      constructor() {
        throw new Error('SecurityError');
      }
    };
    start(fake);
    await fake.pass(100);
    assert.deepEqual(fake.sent.map(({ how }) => how), ['fetch']);
  });
}

test('a connection that does not open in 10 s is none', async () => {
  const fake = fakePage();
  start(fake);
  await fake.pass(9_000);
  assert.equal(fake.sent.length, 0);
  await fake.pass(1_500);
  assert.deepEqual(fake.sent.map(({ how }) => how), ['fetch']);
  assert.ok(fake.sockets[0]!.closed);
});

test('a connection that breaks three times in a row gives way to HTTP', async () => {
  const fake = fakePage();
  start(fake);
  for (let i = 0; i < 3; i++) {
    await fake.pass(i && 5_000);
    fake.sockets[i]!.accept();
    fake.sockets[i]!.cut();
  }
  await fake.pass(30_000);
  assert.equal(fake.sockets.length, 3);
  assert.deepEqual(fake.sent.map(({ how }) => how), ['stream', 'stream', 'stream', 'fetch']);
  assert.equal(new Set(fake.sent.map(({ body }) => body)).size, 1);
});

test('a connection that answers nothing for 45 s is dead', async () => {
  const fake = fakePage();
  start(fake);
  await fake.pass(0);
  fake.sockets[0]!.accept();
  await fake.pass(44_000);
  assert.ok(!fake.sockets[0]!.closed);
  await fake.pass(5_000);
  assert.ok(fake.sockets[0]!.closed);
  assert.equal(fake.sockets.length, 2);
});

test('a stream that the server ends for its silence is opened again when there is something to say', async () => {
  const fake = fakePage();
  const { event } = start(fake);
  await fake.pass(0);
  fake.sockets[0]!.accept();
  fake.sockets[0]!.answer(0);
  await fake.pass(600_000);
  fake.sockets[0]!.cut(1000);
  await fake.pass(60_000);
  assert.equal(fake.sockets.length, 1);
  event('again');
  await fake.pass(5_000);
  fake.sockets[1]!.accept();
  assert.equal(fake.sockets[1]!.got.length, 1);
});

test('all that is unanswered leaves with the page, and the connection ends', async () => {
  const fake = fakePage();
  const { event } = start(fake);
  await fake.pass(0);
  fake.sockets[0]!.accept();
  fake.sockets[0]!.answer(0);
  event('flies');
  await fake.pass(5_000);
  event('waits');
  fake.hide();
  assert.ok(fake.sockets[0]!.closed, 'an open connection keeps the page out of the back/forward cache');
  assert.deepEqual(ways(fake, 'flies'), ['stream', 'beacon']);
  assert.deepEqual(ways(fake, 'waits'), ['beacon']);
  fake.show();
  event('back');
  await fake.pass(5_000);
  fake.sockets[1]!.accept();
  assert.deepEqual(ways(fake, 'back'), ['stream']);
});

test('what the browser does not carry beyond the page goes over HTTP when it comes back', async () => {
  const fake = fakePage();
  const { event } = start(fake);
  await fake.pass(0);
  fake.sockets[0]!.accept();
  fake.sockets[0]!.answer(0);
  event('large');
  fake.allowance = 0;
  fake.hide();
  fake.show();
  await fake.pass(5_000);
  assert.deepEqual(ways(fake, 'large'), ['fetch']);
});

test('a beacon that the server refuses is counted; one that it could not store goes out again', async () => {
  const fake = fakePage();
  const { event } = start(fake);
  await fake.pass(0);
  fake.sockets[0]!.accept();
  event('one');
  await fake.pass(5_000);
  fake.sockets[0]!.answer(0, { reason: 'busy', retry: true });
  fake.sockets[0]!.answer(1, { reason: 'json', retry: false });
  await fake.pass(5_000);
  assert.deepEqual(fake.sockets[0]!.got.length, 3);
  assert.equal(fake.sockets[0]!.got[2], fake.sockets[0]!.got[0]);
  fake.sockets[0]!.answer(2);
  event('two');
  await fake.pass(5_000);
  assert.deepEqual(JSON.parse(fake.sockets[0]!.got[3]!).drops, { 'event/refused': 1 });
});

test('classes that a frame stops are held until a frame ends it', async () => {
  const fake = fakePage();
  const { event } = start(fake);
  await fake.pass(0);
  fake.sockets[0]!.accept();
  fake.sockets[0]!.answer(0);
  fake.sockets[0]!.say({ classes: 'resource;stop, error;stop' });
  fake.sockets[0]!.say('no JSON');
  fake.sockets[0]!.say({ message: 77, acks: [] });
  event('held');
  await fake.pass(5_000);
  fake.sockets[0]!.say({ classes: '' });
  event('free');
  await fake.pass(5_000);
  assert.deepEqual(ways(fake, 'held'), []);
  assert.deepEqual(ways(fake, 'free'), ['stream']);
  assert.deepEqual(fake.sent.at(-1)!.json.drops, { 'event/held': 1 });
});

test('no more than 32 messages are unanswered', async () => {
  const fake = fakePage();
  const { event, flush } = start(fake);
  await fake.pass(0);
  for (let i = 0; i < 50; i++) {
    event(`e${i}`);
    flush();
  }
  fake.sockets[0]!.accept();
  assert.equal(fake.sockets[0]!.got.length, 32);
  for (let i = 0; i < 10; i++) fake.sockets[0]!.answer(i);
  assert.equal(fake.sockets[0]!.got.length, 42);
});

// Breaks at random: whatever the connection does, each event arrives, and under
// one number.
for (let seed = 1; seed <= 20; seed++) {
  test(`nothing is lost or told twice, whatever breaks: seed ${seed}`, async () => {
    const fake = fakePage();
    let random = seed;
    const lot = (n: number): number => (random = (random * 48_271) % 2_147_483_647) % n;
    const { event, flush } = start(fake);
    const stored = new Map<string, string>();
    let seen = 0;
    const store = (body: string): void => {
      const { session, seq } = JSON.parse(body);
      const name = `${session} ${seq}`;
      assert.equal(stored.get(name) ?? body, body, 'one number stands for two beacons');
      stored.set(name, body);
    };
    for (let step = 0; step < 200; step++) {
      event(`e${step}`);
      if (lot(3) === 0) flush();
      const socket = fake.sockets.at(-1)!;
      const fate = lot(12);
      if (fate < 3 && fake.sockets.length > seen) {
        seen = fake.sockets.length;
        socket.accept();
      }
      if (fate < 8) {
        // Stored, and answered, but for some whose answer is lost.
        socket.got.forEach((body, i) => {
          store(body);
          if (lot(4)) socket.answer(i);
        });
      } else if (fate === 8) socket.cut();
      else if (fate === 9) fake.hide();
      else if (fate === 10) fake.show();
      await fake.pass(lot(4_000));
    }
    fake.show();
    fake.leave();
    await fake.pass(120_000);
    for (const { how, body } of fake.sent) if (how !== 'stream') store(body);
    const told = [...stored.values()].flatMap((body) => JSON.parse(body).events.map((e: { n: string }) => e.n)).filter((n) => /^e\d/.test(n));
    assert.deepEqual(told.sort(), Array.from({ length: 200 }, (_, i) => `e${i}`).sort());
  });
}
