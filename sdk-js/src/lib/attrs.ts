// Attributes come from the page's own code: what does not fit the wire is left
// out or cut, so that one odd value does not cost the whole event.
import { clip } from './text.js';
import type { Attributes } from '../types.js';

const MAX_ATTRS = 32;
const MAX_KEY = 128;
const MAX_TEXT = 256;

export function cleanAttrs(attrs: Readonly<Record<string, unknown>>): Attributes {
  const clean: Attributes = {};
  let count = 0;
  for (const [name, value] of Object.entries(attrs)) {
    const key = clip(name, MAX_KEY);
    if (key === '' || count === MAX_ATTRS) continue;
    if (typeof value === 'string') clean[key] = clip(value, MAX_TEXT);
    else if (typeof value === 'boolean' || isNumber(value)) clean[key] = value;
    else continue;
    count++;
  }
  return clean;
}

/** Whether value is a number that the wire can carry. */
export const isNumber = (value: unknown): value is number =>
  typeof value === 'number' && Math.abs(value) <= 1e15;
