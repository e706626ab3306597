// The exposure: on which arm of which change the session is. It is the
// denominator of everything else, so it goes out first, before anything on the
// page can fail. It is told on each page load; the server counts it once.
import type { Observe } from './types.js';

/** @param marks what else the session does now: start, boot, init */
export function expose(arms: Readonly<Record<string, string>>, marks: readonly string[], now: number, observe: Observe): void {
  for (const [change, arm] of Object.entries(arms)) observe({ k: 'exposure', n: change, t: now, a: { arm } });
  for (const n of marks) observe({ k: 'session', n, t: now });
}
