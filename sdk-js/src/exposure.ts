// The exposure: on which arm of which change the session is. It is the
// denominator of everything else, so it goes out first, before anything on the
// page can fail. It is told on each page load; the server counts it once.
import type { Observe } from './types.js';

export function expose(arms: Readonly<Record<string, string>>, fresh: boolean, now: number, observe: Observe): void {
  for (const [change, arm] of Object.entries(arms)) observe({ k: 'exposure', n: change, t: now, a: { arm } });
  if (fresh) observe({ k: 'session', n: 'start', t: now });
}
