// A random identifier of 32 hexadecimal digits. Not randomUUID, which pages
// without TLS do not have.
import type { Page } from '../types.js';

export const randomId = (page: Page): string =>
  Array.from(page.crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
