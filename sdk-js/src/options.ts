// Checks the options of init. This is the one place where the SDK throws: a
// page that is set up wrongly should fail in development, not be silent in
// production.
import { bytes } from './lib/text.js';
import { transports } from './transports.js';
import type { Options } from './types.js';

const TENANCIES = ['production', 'test', 'shadow', 'synthetic'];
const MAX_NAME = 128;
const MAX_USER = 64;
const MAX_ARMS = 16;
const FIELDS = ['platform', 'os', 'browser', 'device', 'network', 'page'];
const SIGNALS = ['vitals', 'errors', 'requests'];

function reject(field: string, value: unknown, allowed: string): never {
  let shown: string | undefined;
  try {
    shown = JSON.stringify(value);
  } catch {
    // A value that JSON cannot spell is named by its type below.
  }
  throw new TypeError(`serin: option ${field} is ${shown ?? typeof value}; allowed: ${allowed}`);
}

export const isText = (value: unknown, max: number): value is string =>
  typeof value === 'string' && value !== '' && bytes(value) <= max;

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Whether value can stand in a beacon as its user. */
export const isUser = (value: unknown): value is string => isText(value, MAX_USER);

export function checkOptions(options: Options): void {
  if (!isRecord(options)) reject('(all)', options, 'an object');
  for (const field of ['key', 'app', 'release'] as const) {
    if (!isText(options[field], MAX_NAME)) reject(field, options[field], `a text of 1 to ${MAX_NAME} bytes`);
  }
  const { endpoint, arms, user, tenancy, transport, context, collect, sampleRate, slowRequestMs } = options;
  if (typeof endpoint !== 'string' || !/^(https?:\/\/[^/?#]+|\/(?!\/))[^?#]*$/.test(endpoint)) {
    reject('endpoint', endpoint, 'an http(s) URL or a path from "/", without query and fragment');
  }
  if (!isRecord(arms) || Object.keys(arms).length > MAX_ARMS) {
    reject('arms', arms, `an object of at most ${MAX_ARMS} changes and their arms`);
  }
  for (const [change, arm] of Object.entries(arms)) {
    if (!isText(change, MAX_NAME)) reject('arms', change, `changes of 1 to ${MAX_NAME} bytes`);
    if (!isText(arm, MAX_NAME)) reject(`arms[${JSON.stringify(change)}]`, arm, `a text of 1 to ${MAX_NAME} bytes`);
  }
  if (user !== undefined && !isUser(user)) reject('user', user, `a text of 1 to ${MAX_USER} bytes`);
  if (tenancy !== undefined && !TENANCIES.includes(tenancy)) reject('tenancy', tenancy, TENANCIES.join(', '));
  if (transport !== undefined && !Object.keys(transports).includes(transport)) reject('transport', transport, Object.keys(transports).join(', '));
  if (context !== undefined) {
    if (!isRecord(context)) reject('context', context, 'an object of texts');
    for (const [field, value] of Object.entries(context)) {
      if (!FIELDS.includes(field)) reject('context', field, `the fields ${FIELDS.join(', ')}`);
      if (value !== undefined && typeof value !== 'string') reject(`context.${field}`, value, 'a text');
    }
    if (typeof context.page === 'string' && /[?#]/.test(context.page)) reject('context.page', context.page, 'a path without query and fragment');
  }
  if (collect !== undefined) {
    if (!isRecord(collect)) reject('collect', collect, 'an object of booleans');
    for (const [signal, value] of Object.entries(collect)) {
      if (!SIGNALS.includes(signal)) reject('collect', signal, `the signals ${SIGNALS.join(', ')}`);
      if (value !== undefined && typeof value !== 'boolean') reject(`collect.${signal}`, value, 'true or false');
    }
  }
  if (sampleRate !== undefined && !(typeof sampleRate === 'number' && sampleRate >= 0 && sampleRate <= 1)) {
    reject('sampleRate', sampleRate, 'a number from 0 to 1');
  }
  if (slowRequestMs !== undefined && !(typeof slowRequestMs === 'number' && slowRequestMs > 0)) {
    reject('slowRequestMs', slowRequestMs, 'a number of milliseconds above 0');
  }
}
