// The rung of the ladder below the SDK: a script that stands in the page itself,
// before the SDK's own. It tells that the page came, and on which arm; where the
// SDK is then not fetched, or breaks as it starts, the session has said so by
// its silence. It sends one small beacon and wraps nothing.
import { expose } from './exposure.js';
import { describeClient } from './lib/client.js';
import { head } from './lib/head.js';
import { beaconsAt } from './lib/place.js';
import { openSession } from './session.js';
import type { Options, Page, WireEvent } from './types.js';

/**
 * Tells of the page. It takes the options of init, of which it needs `key`,
 * `endpoint`, `app`, `release` and `arms`, and throws nothing: the page must
 * come, whatever becomes of its telemetry. True where a beacon went out.
 */
export function boot(options: Options, page: Page | undefined = globalThis.window): boolean {
  try {
    // A page that is prerendered may never be shown.
    if (!page?.document || (page.document as { prerendering?: boolean }).prerendering) return false;
    const { arms, context } = options;
    const session = openSession(page);
    const fresh = session.claim();
    // Where the tab keeps nothing the SDK cannot take up this session, and one
    // that it does not take up would look like one that it failed.
    const kept = session.boot();
    const { id, seq } = session.next();
    session.release();
    if (!kept) return false;
    const events: WireEvent[] = [];
    expose(arms, fresh ? ['start', 'boot'] : ['boot'], page.Date.now(), (event) => events.push(event));
    const path = context?.page ?? page.location.pathname;
    const body = `${head(options, describeClient(page), options.user, id, seq, page.Date.now(), path)},"events":${JSON.stringify(events)}}`;
    return page.navigator.sendBeacon(beaconsAt(page, options), body);
  } catch {
    return false;
  }
}
