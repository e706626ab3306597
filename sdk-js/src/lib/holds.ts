// Which request classes the server asked not to be sent. What happens meanwhile
// is left out and counted: the server would shed it, and all arms of a change
// are asked the same. A class is held as a whole, so that no ratio moves.
import type { WireEvent } from '../types.js';

// An answer that says nothing more of a class ends its stop. This does too, for
// a page that has nothing left to send and so hears of no end.
const STOP_MS = 300_000;
// A wait is in seconds; a longer one would outlive the page.
const MAX_WAIT_MS = 3_600_000;

export interface Holds {
  /**
   * Takes what an answer says of the classes, such as "resource;stop,
   * error;wait=30": a class that it does not stop is not stopped any more, and
   * one that has to wait waits as long as it was told, whatever comes later.
   */
  hear(classes: string | null): void;
  /** Whether an event is to be left out. */
  has(event: WireEvent): boolean;
}

/** The request class of an event, as the server sorts it; an exposure, by which all else is divided, is never held. */
function classOf({ k, a }: WireEvent): string {
  if (k === 'exposure') return 'accounting';
  if (k === 'vital' || k === 'session') return 'vital';
  return k === 'error' && !a?.handled ? 'crash' : 'error';
}

export function createHolds(now: () => number): Holds {
  // Until when each class is held.
  let stops: Record<string, number> = {};
  const waits: Record<string, number> = {};
  return {
    hear(classes) {
      stops = {};
      for (const [, name, wait] of (classes ?? '').matchAll(/(\w+);(?:stop|wait=(\d+))/g)) {
        if (wait) waits[name!] = Math.max(waits[name!] ?? 0, now() + Math.min(Number(wait) * 1_000, MAX_WAIT_MS));
        else stops[name!] = now() + STOP_MS;
      }
    },
    has(event) {
      const name = classOf(event);
      return Math.max(stops[name] ?? 0, waits[name] ?? 0) > now();
    },
  };
}
