// Takes finished beacons to the server over a websocket: one connection for a
// long session, an answer for each beacon, and word of what to hold as soon as
// the server knows it. What was not answered when a connection breaks goes out
// again on the next one, with the same bytes: the server can tell a repetition.
// Where no connection can be had, and when the page is left, HTTP takes over.
import { createDelivery, type Delivery, type Ears, type Parcel } from './delivery.js';
import { backoff } from './lib/backoff.js';
import type { Page } from './types.js';

const SUBPROTOCOL = 'serin.v1';
// The server reads on while 64 messages are unanswered.
const MAX_FLYING = 32;
const OPEN_MS = 10_000;
// The server gives its store 30 s. A connection that is quiet for longer is
// dead, though nobody has said so.
const ANSWER_MS = 45_000;
// In a row and without an answer; then the page is on HTTP until it is loaded
// again. Where no connection was ever had, one failure is enough: a proxy or a
// policy of the page may not let any through.
const MAX_FAILURES = 3;

/** What the server says: an answer to a message, or which classes to hold. */
interface Frame {
  message?: number;
  acks?: { error?: { reason: string; retry: boolean } }[];
  classes?: string;
}

/** @param url where beacons go over HTTP; the stream's is beside it */
export function createStream(page: Page, url: string, ears: Ears): Delivery {
  const { lost, hear, log } = ears;
  const http = createDelivery(page, url, ears);
  const address = url.replace(/^http/, 'ws').replace('/v1/beacons?', '/v1/stream?');
  let parcels: Parcel[] = [];
  /** What the connection has not answered, by the number of its message. */
  let flying = new Map<number, Parcel>();
  let messages = 0;
  let socket: WebSocket | undefined;
  let open = false;
  let everOpen = false;
  let failures = 0;
  let fallen = false;
  let stopped = false;
  let retry: number | undefined;
  let watch: number | undefined;

  /** Gives the connection, or its next answer, so much time. */
  function expect(ms: number): void {
    page.clearTimeout(watch);
    watch = ms ? page.setTimeout(hangUp, ms) : undefined;
  }

  function connect(): void {
    try {
      const mine = (socket = new page.WebSocket(address, SUBPROTOCOL));
      // A connection that was given up may still speak.
      const ours = <E>(run: (event: E) => void) => (event: E): void => {
        if (mine === socket) run(event);
      };
      mine.onopen = ours(() => {
        open = everOpen = true;
        expect(0);
        pump();
      });
      mine.onmessage = ours(({ data }: MessageEvent) => hearFrame(data));
      mine.onclose = ours(({ code }: CloseEvent) => {
        log('stream closed', code);
        hangUp();
      });
      expect(OPEN_MS);
    } catch (error) {
      log('no stream', error);
      failed();
    }
  }

  /** Lets go of the connection, whose end is not waited for. */
  function forget(): void {
    const was = socket;
    socket = undefined;
    open = false;
    messages = 0;
    flying = new Map();
    expect(0);
    was?.close();
  }

  function hangUp(): void {
    forget();
    // The server ends a stream on which nothing happens: that is no failure.
    if (parcels.length) failed();
  }

  function failed(): void {
    if (++failures < MAX_FAILURES && everOpen) return again();
    log('HTTP instead of the stream');
    fallen = true;
    forget();
    giveToHTTP();
    http.pump();
  }

  function again(): void {
    page.clearTimeout(retry);
    retry = page.setTimeout(() => {
      retry = undefined;
      pump();
    }, backoff(failures, null, page.Math.random(), page.Date.now()));
  }

  function giveToHTTP(): void {
    page.clearTimeout(retry);
    retry = undefined;
    parcels.forEach(http.enqueue);
    parcels = [];
  }

  function hearFrame(data: unknown): void {
    let frame: Frame;
    try {
      frame = JSON.parse(String(data)) as Frame;
    } catch (error) {
      return log('a frame that is no JSON', error);
    }
    if (typeof frame.classes === 'string') hear(frame.classes);
    const parcel = flying.get(frame.message!);
    if (!parcel) return;
    flying.delete(frame.message!);
    const error = frame.acks?.[0]?.error;
    if (error?.retry) failed();
    else {
      failures = 0;
      parcels = parcels.filter((one) => one !== parcel);
      if (error) {
        log('beacon given up:', error.reason);
        lost(parcel, 'refused');
      }
    }
    expect(flying.size && ANSWER_MS);
    pump();
  }

  function pump(): void {
    if (stopped) return;
    http.pump(); // what it was given when the page was left
    if (fallen || retry !== undefined || !parcels.length) return;
    if (!socket) return connect();
    if (!open) return;
    const sent = new Set(flying.values());
    for (const parcel of parcels) {
      if (flying.size >= MAX_FLYING) break;
      if (sent.has(parcel)) continue;
      if (!flying.size) expect(ANSWER_MS);
      flying.set(messages++, parcel);
      socket.send(parcel.body);
    }
  }

  return {
    size: () => http.size() + parcels.reduce((sum, { size }) => sum + size, 0),
    enqueue(parcel) {
      if (fallen) http.enqueue(parcel);
      else parcels.push(parcel);
    },
    pump,
    leave() {
      // What is on its way may not arrive, and an open connection keeps the
      // page out of the back/forward cache.
      forget();
      giveToHTTP();
      http.leave();
    },
    stop() {
      stopped = true;
      page.clearTimeout(retry);
      forget();
      parcels = [];
      http.stop();
    },
  };
}
