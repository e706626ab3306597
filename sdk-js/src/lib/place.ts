// Where beacons go.
import type { Options, Page } from '../types.js';

export const beaconsAt = (page: Page, { endpoint, key }: Options): string =>
  `${new URL(`${endpoint.replace(/\/$/, '')}/v1/beacons`, page.document.baseURI)}?key=${encodeURIComponent(key)}`;
