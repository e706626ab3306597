// Web vitals, as the web-vitals library measures them: SDKs disagree about
// these numbers, and that library is what the others are judged by.
import { onCLS, onFCP, onINP, onLCP, onTTFB } from 'web-vitals';
import type { Metric } from 'web-vitals';
import type { Observe, WireEvent } from './types.js';

/** A vital as an event: milliseconds to a tenth, layout shift to four places. */
export function vitalEvent({ name, value, rating, id, navigationType }: Metric, now: number): WireEvent {
  const places = name === 'CLS' ? 1e4 : 10;
  return {
    k: 'vital',
    n: name,
    t: now,
    v: Math.round(value * places) / places,
    // A page that is hidden, shown and hidden again tells a grown value under
    // the same id: the last one counts.
    a: { rating, id, navigation: navigationType },
  };
}

/**
 * Reports each vital when it is final. The library cannot be stopped, so
 * observe has to turn deaf when the SDK stops.
 */
export function watchVitals(now: () => number, observe: Observe): void {
  const report = (metric: Metric): void => observe(vitalEvent(metric, now()));
  for (const watch of [onTTFB, onFCP, onLCP, onCLS, onINP]) watch(report);
}
