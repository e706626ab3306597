// Takes finished beacons to the server, in order and one at a time, until each
// is answered for. A beacon is the same bytes however often it is sent, so the
// server can tell a repetition.
import { backoff } from './lib/backoff.js';
import type { Drops } from './lib/drops.js';
import type { Log, Page } from './types.js';

const MAX_TRIES = 5;

/** A finished beacon. */
export interface Parcel {
  body: string;
  size: number;
  /** How many events of each kind are in it. */
  kinds: Drops;
  /** The drops that it reports. */
  drops: Drops;
}

/** Whom a delivery tells what. */
export interface Ears {
  /** A parcel is given up, and why. */
  lost(parcel: Parcel, cause: string): void;
  /** What the server says of the request classes; null where it says nothing. */
  hear(classes: string | null): void;
  log: Log;
}

export interface Delivery {
  /** Bytes that wait to be delivered. */
  size(): number;
  enqueue(parcel: Parcel): void;
  /** Sends what waits, unless it has been told to wait longer. */
  pump(): void;
  /** Sends everything at once in a way that outlives the page. */
  leave(): void;
  stop(): void;
}

/** @param url where beacons go */
export function createDelivery(page: Page, url: string, { lost, hear, log }: Ears): Delivery {
  // The browser's own, taken before it is wrapped: beacons are not observed.
  const fetch = page.fetch;
  let parcels: Parcel[] = [];
  let flying: Parcel | undefined;
  let timer: number | undefined;
  let tries = 0;
  let stopped = false;

  const post = (body: string): Promise<Response> =>
    // A text goes out as text/plain, which needs no preflight.
    fetch.call(page, url, { method: 'POST', body, keepalive: true, credentials: 'omit' });

  function remove(parcel: Parcel): void {
    if (parcels[0] === parcel) tries = 0;
    parcels = parcels.filter((one) => one !== parcel);
  }

  function pump(): void {
    const parcel = parcels[0];
    if (stopped || flying || timer !== undefined || !parcel) return;
    flying = parcel;
    let answer: Promise<Response>;
    try {
      answer = post(parcel.body);
    } catch (error) {
      answer = Promise.reject(error);
    }
    answer.then(
      (response) => {
        hear(response.headers.get('Serin-Classes'));
        settle(parcel, response.status, response.headers.get('Retry-After'));
      },
      (error) => {
        log('beacon not sent', error);
        settle(parcel, 0, null);
      },
    );
  }

  function settle(parcel: Parcel, status: number, retryAfter: string | null): void {
    flying = undefined;
    if (stopped) return;
    const again = status === 0 || status === 408 || status === 429 || status >= 500;
    if (again && ++tries < MAX_TRIES) {
      // Everything waits, not this parcel alone: the server asked the client.
      timer = page.setTimeout(() => {
        timer = undefined;
        pump();
      }, backoff(tries, retryAfter, page.Math.random(), page.Date.now()));
      return;
    }
    remove(parcel);
    if (status < 200 || status > 299) {
      log('beacon given up, status', status);
      lost(parcel, again ? 'undelivered' : 'refused');
    }
    pump();
  }

  /** Whether the browser took the body over. */
  function hand(body: string): boolean {
    try {
      if (page.navigator.sendBeacon) return page.navigator.sendBeacon(url, body);
      post(body).catch((error) => log('beacon not sent', error));
      return true;
    } catch (error) {
      log('beacon not handed over', error);
      return false;
    }
  }

  return {
    size: () => parcels.reduce((sum, { size }) => sum + size, 0),
    enqueue(parcel) {
      parcels.push(parcel);
    },
    pump,
    leave() {
      // The one in flight is left alone: the browser completes it anyway.
      for (const parcel of parcels) {
        if (parcel === flying) continue;
        // All of a page's beacons share one allowance; when it is used up, the
        // rest waits in case the page comes back.
        if (!hand(parcel.body)) break;
        remove(parcel);
      }
      pump();
    },
    stop() {
      stopped = true;
      page.clearTimeout(timer);
      parcels = [];
    },
  };
}
