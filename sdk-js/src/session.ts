// The session: who the beacons of a tab come from, and their numbers. It spans
// page loads; 15 minutes of silence or 4 hours of age end it.
import { randomId } from './lib/random-id.js';
import { tabStore } from './lib/tab-store.js';
import type { Page } from './types.js';

const KEY = 'serin';
const IDLE_MS = 15 * 60_000;
const MAX_MS = 4 * 3_600_000;

interface Kept {
  id: string;
  /** The number of the next beacon. */
  seq: number;
  start: number;
  last: number;
  /** The page that has the session now; absent between two pages. */
  page?: string;
  /** Whether the page was told of before its SDK came. */
  boot?: boolean;
}

export interface Session {
  /** Takes up the tab's session for this page, or begins one; true when it is new. */
  claim(): boolean;
  /** Notes that something happened; true when the session had ended before that. */
  touch(): boolean;
  /** The name and number of a new beacon. A number is given out once. */
  next(): { id: string; seq: number };
  /** Notes for the SDK that the page was told of; false where that cannot be kept. */
  boot(): boolean;
  /** Takes that note; true where there was one. */
  booted(): boolean;
  /** Lets the next page of the tab take up the session. */
  release(): void;
  /** A number in [0, 1) that is the same for all of the session. */
  lot(): number;
}

export function openSession(page: Page): Session {
  const store = tabStore(page, KEY);
  const self = randomId(page);
  // A frame shares the storage of the page around it, and with it the session.
  const framed = page.top !== page;
  let kept: Kept = begin();

  function begin(): Kept {
    const now = page.Date.now();
    return { id: randomId(page), seq: 0, start: now, last: now };
  }

  function load(): Kept | undefined {
    try {
      const found = JSON.parse(store.get() ?? 'null') as Kept | null;
      // The page can write into its own storage: what does not read as a session is none.
      return found && /^[\w-]{8,64}$/.test(found.id) && found.seq >= 0 && found.start > 0 && found.last > 0
        ? found
        : undefined;
    } catch {
      return undefined;
    }
  }

  function save(): void {
    store.set(JSON.stringify(kept));
  }

  const ended = (one: Kept, now: number): boolean => now - one.last >= IDLE_MS || now - one.start >= MAX_MS;

  return {
    claim() {
      const now = page.Date.now();
      const found = load();
      // A copied tab gets a copy of the storage while the first page is still
      // there. Two tabs under one name would give out the same numbers, and the
      // server would take the one's beacons for repetitions of the other's.
      const copied = !framed && found?.page !== undefined && found.page !== self;
      const fresh = !found || copied || ended(found, now);
      kept = fresh ? begin() : found;
      kept.last = now;
      if (!framed) kept.page = self;
      save();
      return fresh;
    },
    touch() {
      const now = page.Date.now();
      if (ended(kept, now)) return true;
      kept.last = now;
      return false;
    },
    next() {
      // Read again, since another page of the tab may have sent in between.
      kept = load() ?? kept;
      const { id, seq } = kept;
      kept.seq++;
      kept.last = page.Date.now();
      save();
      return { id, seq };
    },
    boot() {
      kept.boot = true;
      save();
      return store.kept();
    },
    booted() {
      const was = kept.boot === true;
      delete kept.boot;
      if (was) save();
      return was;
    },
    release() {
      kept = load() ?? kept;
      if (kept.page !== self) return;
      delete kept.page;
      save();
    },
    lot: () => parseInt(kept.id.slice(0, 8), 16) / 2 ** 32,
  };
}
