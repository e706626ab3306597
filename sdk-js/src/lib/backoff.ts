// How long to wait before a beacon is sent again: exponential from 1 s to 30 s
// with jitter, so that clients that failed together do not return together.
const FIRST_MS = 1_000;
const LAST_MS = 30_000;
// A larger wait would outlive the page, and beyond 2^31 ms a timer fires at once.
const MAX_RETRY_AFTER_MS = 3_600_000;

/**
 * @param tries how many tries have failed, from 1
 * @param retryAfter the header of that name, if any: seconds or a date
 * @param random in [0, 1)
 * @param now Unix milliseconds, to read a date by
 */
export function backoff(tries: number, retryAfter: string | null, random: number, now: number): number {
  const own = Math.min(LAST_MS, FIRST_MS * 2 ** (tries - 1) * (1 + random));
  if (!retryAfter) return own;
  const asked = /^\d+$/.test(retryAfter) ? Number(retryAfter) * 1_000 : Date.parse(retryAfter) - now;
  return asked > 0 ? Math.max(own, Math.min(MAX_RETRY_AFTER_MS, asked) + FIRST_MS * random) : own;
}
