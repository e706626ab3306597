// What stands in front of a beacon's events (docs/formats/beacon.md).
import type { Context, Options } from '../types.js';
import { clip } from './text.js';

const SDK = 'serin-js/1.0.0';
const MAX_FIELD = 256;

/** The beacon without its events and drops, and without its closing brace. */
export function head(
  { app, release, tenancy, arms, context }: Options,
  client: Context,
  user: string | undefined,
  session: string,
  seq: number,
  sent: number,
  page: string,
): string {
  const ctx: Record<string, string> = {};
  for (const [field, value] of Object.entries({ ...client, ...context, page })) {
    if (value) ctx[field] = clip(value, MAX_FIELD);
  }
  return JSON.stringify({ v: 1, sdk: SDK, app, release, tenancy, session, user, seq, sent, arms, ctx }).slice(0, -1);
}
