// Requests of the page that failed or were slow, by fetch and XMLHttpRequest.
// To the page a wrapped function behaves as the browser's own: same `this`,
// same arguments, same result, same error; a rejection that nobody handles
// still is one.
import { patch } from './lib/patch.js';
import { template } from './lib/path.js';
import { clip } from './lib/text.js';
import type { Listen, Observe, Page } from './types.js';

const MAX_NAME = 128;
const MAX_HOST = 256;

interface Sent {
  method: string;
  url: string;
  start: number;
}

/** Whether a rejection is the page's own doing. A timeout that it set is not: the user waited in vain. */
function isAbort(error: unknown, signal: AbortSignal | null | undefined): boolean {
  const name = (error as { name?: unknown } | null | undefined)?.name;
  return name === 'AbortError' || (!!signal?.aborted && name !== 'TimeoutError');
}

/**
 * @param own the URL that the SDK's own beacons go to; it is never observed
 * @returns how to put back what was wrapped
 */
export function watchRequests(page: Page, own: string, slowMs: number, listen: Listen, observe: Observe): () => void {
  const clock = (): number => page.performance.now();
  // A browser cancels what is in flight when it leaves a page, and some of them
  // tell the page that the network failed.
  let left = false;
  listen(page, 'pagehide', () => {
    left = true;
  });
  listen(page, 'pageshow', () => {
    left = false;
  });

  function report({ method, url, start }: Sent, status: number): void {
    try {
      const v = Math.round(clock() - start);
      const slow = v >= slowMs;
      if ((status > 0 && status < 400 && !slow) || (status === 0 && left)) return;
      const { protocol, pathname, host, href } = new URL(url, page.document.baseURI);
      if (!/^https?:$/.test(protocol) || href.startsWith(own)) return;
      observe({
        k: 'request',
        n: clip(`${method} ${template(pathname)}`, MAX_NAME),
        t: page.Date.now(),
        v,
        a: { status, failed: status === 0 || status >= 500, host: clip(host, MAX_HOST), ...(slow && { slow }) },
      });
    } catch {
      // A URL that does not parse has failed in the page's own hands already.
    }
  }

  function describeFetch(input: unknown, init: RequestInit | undefined, start: number): Sent & { signal: AbortSignal | null | undefined } {
    const request = typeof input === 'object' && input !== null && 'url' in input ? (input as Request) : undefined;
    return {
      method: String(init?.method ?? request?.method ?? 'GET').toUpperCase(),
      url: request ? request.url : String(input),
      start,
      signal: init?.signal ?? request?.signal,
    };
  }

  const undoFetch = patch(page, 'fetch', (native) => function (this: unknown, ...args: unknown[]) {
    const start = clock();
    const result = Reflect.apply(native, this, args) as Promise<Response>;
    let sent: ReturnType<typeof describeFetch>;
    try {
      sent = describeFetch(args[0], args[1] as RequestInit | undefined, start);
    } catch {
      // Arguments that cannot be read: the browser's own answer says so.
      return result;
    }
    // A page's own stand-in for fetch may return anything.
    if (typeof result?.then !== 'function') return result;
    return result.then(
      (response) => {
        // An opaque response hides its status, which then reads 0.
        if (!response.type?.startsWith('opaque')) report(sent, response.status);
        return response;
      },
      (error: unknown) => {
        if (!isAbort(error, sent.signal)) report(sent, 0);
        throw error;
      },
    );
  });

  const opened = new WeakMap<XMLHttpRequest, Sent>();
  const xhr = page.XMLHttpRequest?.prototype ?? {};

  const undoOpen = patch(xhr, 'open', (native) => function (this: XMLHttpRequest, ...args: unknown[]) {
    const result: unknown = Reflect.apply(native, this, args);
    opened.set(this, { method: String(args[0]).toUpperCase(), url: String(args[1]), start: -1 });
    return result;
  });

  const undoSend = patch(xhr, 'send', (native) => function (this: XMLHttpRequest, ...args: unknown[]) {
    const sent = opened.get(this);
    // Without one, open was called before the SDK was there, or not at all.
    if (!sent || sent.start >= 0) return Reflect.apply(native, this, args);
    sent.start = clock();
    let aborted = false;
    const onAbort = (): void => {
      aborted = true;
    };
    const onEnd = (): void => {
      forget();
      // An object can be opened again before its first request has ended.
      if (!aborted && opened.get(this) === sent) report(sent, this.status);
    };
    const forget = (): void => {
      this.removeEventListener('abort', onAbort);
      this.removeEventListener('loadend', onEnd);
    };
    this.addEventListener('abort', onAbort);
    this.addEventListener('loadend', onEnd);
    try {
      return Reflect.apply(native, this, args);
    } catch (error) {
      // A synchronous request tells of a failed network in this way only.
      forget();
      report(sent, 0);
      throw error;
    }
  });

  return () => {
    undoFetch();
    undoOpen();
    undoSend();
  };
}
