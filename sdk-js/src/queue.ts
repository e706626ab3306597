// Gathers events into beacons: every 5 seconds or 20 events, and whenever what
// stands in a beacon's head (page, user, session) is about to change.
import type { Delivery } from './delivery.js';
import type { DropCounter, Drops } from './lib/drops.js';
import { head } from './lib/head.js';
import { bytes } from './lib/text.js';
import type { Session } from './session.js';
import type { Context, Options, Page, WireEvent } from './types.js';

const FLUSH_MS = 5_000;
const FLUSH_EVENTS = 20;
// Browsers carry 64 KiB beyond the end of a page, for all requests together.
const MAX_BODY = 60_000;
// JSON spells a control character in six bytes. Together with the largest head
// (some 36,000 bytes, in the same way) an event always fits into a beacon.
const MAX_EVENT = 20_000;
const MAX_WAITING = 256 * 1024;

interface Waiting {
  kind: string;
  json: string;
  size: number;
}

export interface Queue {
  /** @param owed whether it is taken even when the queue is full */
  add(event: WireEvent, owed?: boolean): void;
  setUser(user: string | undefined): void;
  flush(): void;
  /** Sends everything in a way that outlives the page, be it only the drops. */
  leave(): void;
  stop(): void;
}

export function createQueue(
  page: Page,
  options: Options,
  client: Context,
  session: Session,
  delivery: Delivery,
  drops: DropCounter,
): Queue {
  let { user } = options;
  let waiting: Waiting[] = [];
  let waitingSize = 0;
  let timer: number | undefined;
  let path = here();

  function here(): string {
    return options.context?.page ?? page.location.pathname;
  }

  const hidden = (): boolean => page.document.visibilityState === 'hidden';

  /** Makes a beacon of the first events that wait, as many as fit. */
  function pack(): void {
    const { id, seq } = session.next();
    const taken = drops.take();
    const start = `${head(options, client, user, id, seq, page.Date.now(), path)},"events":[`;
    const end = Object.keys(taken).length ? `],"drops":${JSON.stringify(taken)}}` : ']}';
    let room = MAX_BODY - bytes(start) - bytes(end);
    let n = 0;
    const kinds: Drops = {};
    for (const { kind, size } of waiting) {
      if (size > room) break;
      room -= size;
      kinds[kind] = (kinds[kind] ?? 0) + 1;
      n++;
    }
    const packed = waiting.splice(0, n);
    const body = start + packed.map(({ json }) => json).join() + end;
    delivery.enqueue({ body, size: bytes(body), kinds, drops: taken });
  }

  function packAll(): void {
    page.clearTimeout(timer);
    timer = undefined;
    while (waiting.length > 0) pack();
    waitingSize = 0;
  }

  function flush(): void {
    packAll();
    if (hidden()) delivery.leave();
    else delivery.pump();
  }

  return {
    add(event, owed) {
      if (here() !== path) {
        flush();
        path = here();
      }
      const json = JSON.stringify(event);
      const size = bytes(json) + 1;
      if (size > MAX_EVENT) return drops.count(`${event.k}/too_large`);
      if (!owed && delivery.size() + waitingSize + size > MAX_WAITING) return drops.count(`${event.k}/queue_overflow`);
      waiting.push({ kind: event.k, json, size });
      waitingSize += size;
      if (waiting.length >= FLUSH_EVENTS) flush();
      // A hidden page may be gone without another word.
      else timer ??= page.setTimeout(flush, hidden() ? 0 : FLUSH_MS);
    },
    setUser(next) {
      flush();
      user = next;
    },
    flush,
    leave() {
      packAll();
      if (drops.any()) pack();
      delivery.leave();
    },
    stop() {
      page.clearTimeout(timer);
      waiting = [];
    },
  };
}
