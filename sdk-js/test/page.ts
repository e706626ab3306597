// A page for tests: it has a clock and timers that the test moves, storage that
// outlives a page load, and a network whose answers the test decides.
import type { Page } from '../src/types.js';

export interface Sent {
  how: 'fetch' | 'beacon' | 'stream';
  url: string;
  body: string;
  json: any;
}

type Answer = { status: number; retryAfter?: string; classes?: string } | Error;

/** A websocket whose other end the test is. */
export interface FakeSocket {
  url: string;
  protocol: string;
  /** The bodies that came over it, in order. */
  got: string[];
  closed: boolean;
  accept(): void;
  /** Answers a message; with an error where there is one. */
  answer(message: number, error?: { reason: string; retry: boolean }): void;
  say(frame: unknown): void;
  cut(code?: number): void;
}

export interface FakePage extends EventTarget {
  sockets: FakeSocket[];
  page: Page;
  sent: Sent[];
  /** Answers to the SDK's own requests, in order; 202 when there are none. */
  answers: Answer[];
  /** What the page's own requests meet. */
  site: (url: string) => Answer;
  allowance: number;
  path(next: string): void;
  hide(): void;
  show(): void;
  leave(): void;
  fail(error: unknown): void;
  /** Moves the clock, running the timers that fall due. */
  pass(ms: number): Promise<void>;
  warnings: unknown[][];
}

const settled = (): Promise<void> => new Promise((done) => setImmediate(done));

let pages = 0;

export function fakePage(storage = new Map<string, string>(), start = 1_764_000_000_000): FakePage {
  let now = start;
  // Pages differ in what is random to them, and are the same in each run.
  let random = ++pages;
  let visibility = 'visible';
  let timers: { id: number; at: number; run: () => void }[] = [];
  let lastTimer = 0;
  const target = new EventTarget();
  const document = Object.assign(new EventTarget(), { baseURI: 'https://shop.example/checkout' });
  Object.defineProperty(document, 'visibilityState', { get: () => visibility });
  const location = { pathname: '/checkout' };
  const fake = target as FakePage;
  fake.sent = [];
  fake.sockets = [];
  fake.answers = [];
  fake.site = () => ({ status: 200 });
  fake.allowance = Infinity;
  fake.warnings = [];

  const take = (how: Sent['how'], url: string, body: string): void => {
    fake.sent.push({ how, url, body, json: JSON.parse(body) });
  };
  const fetch = async (input: string, init?: { body?: string }): Promise<unknown> => {
    const own = String(input).includes('/v1/beacons');
    if (own) take('fetch', String(input), init?.body ?? '');
    const answer = own ? (fake.answers.shift() ?? { status: 202 }) : fake.site(String(input));
    await settled();
    if (answer instanceof Error) throw answer;
    return { status: answer.status, type: 'cors', headers: { get: (name: string) => ({ 'Retry-After': answer.retryAfter, 'Serin-Classes': answer.classes })[name] ?? null } };
  };

  class WebSocket implements FakeSocket {
    got: string[] = [];
    closed = false;
    onopen?: (event: unknown) => void;
    onmessage?: (event: unknown) => void;
    onclose?: (event: unknown) => void;
    constructor(readonly url: string, readonly protocol: string) {
      fake.sockets.push(this);
    }
    send(body: string): void {
      if (this.closed) return;
      this.got.push(body);
      take('stream', this.url, body);
    }
    close(): void {
      if (!this.closed) this.cut(1000);
    }
    accept(): void {
      this.onopen?.({});
    }
    answer(message: number, error?: { reason: string; retry: boolean }): void {
      const { session, seq } = JSON.parse(this.got[message]!);
      // The server does not name the session of what it cannot read.
      this.say({ message, acks: [error ? { seq: 0, index: 0, accepted: 0, error } : { session, seq, index: 0, accepted: 1 }] });
    }
    say(frame: unknown): void {
      this.onmessage?.({ data: typeof frame === 'string' ? frame : JSON.stringify(frame) });
    }
    cut(code = 1006): void {
      this.closed = true;
      setImmediate(() => this.onclose?.({ code }));
    }
  }

  class FakeDate extends Date {
    static override now = (): number => now;
  }
  class XMLHttpRequest extends EventTarget {
    status = 0;
    url = '';
    open(_method: string, url: string): void {
      this.url = url;
    }
    send(): void {
      const answer = fake.site(this.url);
      this.status = answer instanceof Error ? 0 : answer.status;
      this.dispatchEvent(new Event('loadend'));
    }
  }
  const page: any = target;
  Object.assign(page, {
    document,
    location,
    Date: FakeDate,
    Math: Object.assign(Object.create(Math), { random: () => 0.5 }),
    performance: { now: () => now - start },
    console: { warn: (...words: unknown[]) => fake.warnings.push(words) },
    crypto: { getRandomValues: (bytes: Uint8Array) => bytes.map(() => (random = (random * 48_271) % 2_147_483_647)) },
    sessionStorage: {
      getItem: (key: string) => storage.get(key) ?? null,
      setItem: (key: string, text: string) => void storage.set(key, text),
      removeItem: (key: string) => void storage.delete(key),
    },
    navigator: {
      userAgent: 'Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36',
      maxTouchPoints: 5,
      connection: { effectiveType: '4g' },
      sendBeacon: (url: string, body: string) => {
        if (body.length > fake.allowance) return false;
        fake.allowance -= body.length;
        take('beacon', url, body);
        return true;
      },
    },
    fetch,
    WebSocket,
    XMLHttpRequest,
    setTimeout: (run: () => void, ms: number) => {
      timers.push({ id: ++lastTimer, at: now + ms, run });
      return lastTimer;
    },
    clearTimeout: (id?: number) => {
      timers = timers.filter((one) => one.id !== id);
    },
  });
  page.top = page;
  fake.page = page as Page;
  fake.path = (next) => {
    location.pathname = next;
  };
  const turn = (state: string): void => {
    visibility = state;
    target.dispatchEvent(new Event('visibilitychange'));
  };
  fake.hide = () => turn('hidden');
  fake.show = () => turn('visible');
  fake.leave = () => {
    turn('hidden');
    target.dispatchEvent(new Event('pagehide'));
  };
  fake.fail = (error) => {
    target.dispatchEvent(Object.assign(new Event('error'), { error, message: String(error) }));
  };
  fake.pass = async (ms) => {
    const end = now + ms;
    await settled();
    for (;;) {
      const due = timers.filter((one) => one.at <= end).sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      timers = timers.filter((one) => one !== due);
      now = Math.max(now, due.at);
      due.run();
      await settled();
      await settled();
    }
    now = end;
    await settled();
  };
  return fake;
}
