// Gathers events into beacons: every 5 seconds or 20 events, and whenever what
// stands in a beacon's head (page, user, session) is about to change.
import type { Delivery } from './delivery.js';
import type { DropCounter, Drops } from './lib/drops.js';
import { bytes, clip } from './lib/text.js';
import type { Session } from './session.js';
import type { Context, Options, Page, WireEvent } from './types.js';

const SDK = 'serin-js/1.0.0';
const FLUSH_MS = 5_000;
const FLUSH_EVENTS = 20;
// Browsers carry 64 KiB beyond the end of a page, for all requests together.
const MAX_BODY = 60_000;
const MAX_WAITING = 256 * 1024;
const MAX_FIELD = 256;

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
  stop(): void;
}

export function createQueue(
  page: Page,
  { app, release, tenancy = 'production', arms, user, context }: Options,
  client: Context,
  session: Session,
  delivery: Delivery,
  drops: DropCounter,
): Queue {
  let waiting: Waiting[] = [];
  let waitingSize = 0;
  let timer: number | undefined;
  let path = here();

  function here(): string {
    return context?.page ?? page.location.pathname;
  }

  const hidden = (): boolean => page.document.visibilityState === 'hidden';

  /** The beacon without its events and drops. */
  function head(id: string, seq: number): string {
    const ctx: Record<string, string> = {};
    for (const [field, value] of Object.entries({ ...client, ...context, page: path })) {
      if (value) ctx[field] = clip(value, MAX_FIELD);
    }
    return JSON.stringify({
      v: 1, sdk: SDK, app, release, tenancy, session: id, user, seq, sent: page.Date.now(), arms, ctx,
    }).slice(0, -1);
  }

  /** Makes beacons of what waits; sending them is the delivery's. */
  function seal(): void {
    page.clearTimeout(timer);
    timer = undefined;
    while (waiting.length > 0) {
      const { id, seq } = session.next();
      const taken = drops.take();
      const start = `${head(id, seq)},"events":[`;
      const end = Object.keys(taken).length > 0 ? `],"drops":${JSON.stringify(taken)}}` : ']}';
      let room = MAX_BODY - bytes(start) - bytes(end);
      const kinds: Drops = {};
      const jsons: string[] = [];
      let event: Waiting | undefined;
      while ((event = waiting[0]) && event.size <= room) {
        waiting.shift();
        room -= event.size;
        jsons.push(event.json);
        kinds[event.kind] = (kinds[event.kind] ?? 0) + 1;
      }
      if (event && jsons.length === 0) {
        // Larger than a whole beacon: escapes can make six bytes of one.
        drops.count(`${event.kind}/too_large`);
        waiting.shift();
      }
      const body = start + jsons.join() + end;
      delivery.enqueue({ body, size: bytes(body), kinds, drops: taken });
    }
    waitingSize = 0;
  }

  function flush(): void {
    seal();
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
    stop() {
      page.clearTimeout(timer);
      waiting = [];
    },
  };
}
