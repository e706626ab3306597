// The way in: init wires the signals to the queue, and the handle that it
// returns carries the custom ones. Nothing in here throws into the page, other
// than init on options that are wrong.
import { watchErrors } from './errors.js';
import { expose } from './exposure.js';
import { cleanAttrs, isNumber } from './lib/attrs.js';
import { describeClient } from './lib/client.js';
import { createDrops } from './lib/drops.js';
import { createHolds } from './lib/holds.js';
import { beaconsAt } from './lib/place.js';
import { clip } from './lib/text.js';
import { checkOptions, isText, isUser } from './options.js';
import { createQueue } from './queue.js';
import { watchRequests } from './requests.js';
import { openSession } from './session.js';
import { transports } from './transports.js';
import type { Handle, Listen, Log, Options, Page, WireEvent } from './types.js';
import { watchVitals } from './vitals.js';

export type { Attributes, Context, Handle, Options } from './types.js';

const MAX_NAME = 128;
const MAX_UNIT = 16;
const MAX_EARLY = 100;
const SLOW_REQUEST_MS = 3_000;

let running: Handle | undefined;

/**
 * Starts observation of the page. While it runs, a second call returns the
 * first one's handle. Where there is no page, as in server-side rendering, the
 * handle does nothing.
 *
 * @throws TypeError that names the option, its value and what is allowed
 */
export function init(options: Options, page: Page | undefined = globalThis.window): Handle {
  checkOptions(options);
  const nothing = (): void => {};
  const inert: Handle = { metric: nothing, event: nothing, error: nothing, setUser: nothing, flush: nothing, stop: nothing };
  if (running) return running;
  if (!page?.document) return inert;
  const log: Log = (...words) => {
    if (options.debug) page.console.warn('serin:', ...words);
  };
  try {
    return (running = start(options, page, log));
  } catch (error) {
    log('not started', error);
    return inert;
  }
}

function start(options: Options, page: Page, log: Log): Handle {
  const { arms, transport = 'beacon', sampleRate = 1, slowRequestMs = SLOW_REQUEST_MS, collect = {} } = options;
  const undo: (() => void)[] = [];
  let stopped = false;

  /** Makes a function safe to be called by the page: it is deaf after stop, and never throws. */
  const quiet = <A extends unknown[]>(run: (...args: A) => void) => (...args: A): void => {
    if (stopped) return;
    try {
      run(...args);
    } catch (error) {
      log(error);
    }
  };

  const listen: Listen = (target, type, run) => {
    const listener = quiet(run);
    target.addEventListener(type, listener);
    undo.push(() => target.removeEventListener(type, listener));
  };

  const now = (): number => page.Date.now();
  const url = beaconsAt(page, options);
  const own = url.slice(0, url.lastIndexOf('?'));
  const drops = createDrops();
  const session = openSession(page);
  const holds = createHolds(now);
  const delivery = transports[transport]!(page, url, {
    lost(parcel, cause) {
      drops.restore(parcel.drops);
      for (const kind in parcel.kinds) drops.count(`${kind}/${cause}`, parcel.kinds[kind]);
    },
    hear: holds.hear,
    log,
  });
  const queue = createQueue(page, options, describeClient(page), session, delivery, drops);

  // A page that is prerendered may never be shown, and the session belongs to
  // the page that the user still sees: events wait until this one is shown.
  let early: WireEvent[] | undefined = (page.document as { prerendering?: boolean }).prerendering ? [] : undefined;

  /** Queues an event, unless the server asked not to be sent its class. */
  const take = (event: WireEvent, owed?: boolean): void => {
    if (holds.has(event)) drops.count(`${event.k}/held`);
    else queue.add(event, owed);
  };

  /** Takes up the session, and tells the exposure where the session, or the page, is new to the server. */
  function enter(always: boolean): void {
    const fresh = session.claim();
    if (!fresh && !always) return;
    const marks = [...(fresh ? ['start'] : []), ...(session.booted() ? ['init'] : [])];
    expose(arms, marks, now(), (event) => take(event, true));
    queue.flush();
  }

  const observe = quiet((event: WireEvent): void => {
    if (early) {
      if (early.length < MAX_EARLY) early.push(event);
      else drops.count(`${event.k}/queue_overflow`);
      return;
    }
    // A vital tells of a page load that is over: it begins no session.
    if (event.k !== 'vital' && session.touch()) {
      queue.flush();
      enter(false);
    }
    const sampled = event.k === 'request' ? !event.a?.failed && Number(event.a?.status) < 400 : /^(vital|metric|event)$/.test(event.k);
    if (sampled && session.lot() >= sampleRate) drops.count(`${event.k}/sampled`);
    else take(event);
  });

  const deaf: Listen = () => {};
  const handled = watchErrors(page, drops, collect.errors === false ? deaf : listen, observe);

  const begin = quiet((): void => {
    const held = early ?? [];
    early = undefined;
    enter(true);
    held.forEach(observe);
  });
  if (early) listen(page.document, 'prerenderingchange', begin);
  else begin();

  quiet(() => {
    if (collect.requests !== false) undo.push(watchRequests(page, own, slowRequestMs, listen, observe));
  })();
  quiet(() => {
    if (collect.vitals !== false) watchVitals(now, observe);
  })();

  // On the window and not in the capture phase, so that they run after those of
  // web-vitals, which make the last vitals final.
  listen(page, 'visibilitychange', () => {
    if (early) return;
    if (page.document.visibilityState === 'hidden') queue.leave();
    else enter(false);
  });
  listen(page, 'pagehide', () => {
    if (early) return;
    queue.leave();
    session.release();
  });
  listen(page, 'pageshow', (event) => {
    if ((event as PageTransitionEvent).persisted) enter(false);
  });

  return {
    metric: quiet((name, value, unit) => {
      if (!isText(name, MAX_NAME) || !isNumber(value) || (unit !== undefined && !isText(unit, MAX_UNIT))) {
        log('metric: want a name of 1 to 128 bytes, a finite number and a unit of 1 to 16 bytes, got', name, value, unit);
        return drops.count('metric/invalid');
      }
      observe({ k: 'metric', n: name, t: now(), v: value, ...(unit && { u: unit }) });
    }),
    event: quiet((name, attrs) => {
      if (typeof name !== 'string' || !name) {
        log('event: want a name, got', name);
        return drops.count('event/invalid');
      }
      observe({ k: 'event', n: clip(name, MAX_NAME), t: now(), ...(attrs && { a: cleanAttrs(attrs) }) });
    }),
    error: quiet(handled),
    setUser: quiet((user) => {
      if (user !== undefined && !isUser(user)) return log('setUser: want a text of 1 to 64 bytes, got', user);
      queue.setUser(user);
    }),
    flush: quiet(() => {
      if (!early) queue.flush();
    }),
    stop: quiet(() => {
      stopped = true;
      running = undefined;
      undo.forEach((one) => one());
      queue.stop();
      delivery.stop();
      session.release();
    }),
  };
}
