// The ways to the server that a bundle has. The default bundle has beacons over
// HTTP; that of streaming.ts adds its own, which most pages need not pay for.
import { createDelivery, type Delivery, type Ears } from './delivery.js';
import type { Page } from './types.js';

/** Makes a way to the server; url is where beacons go over HTTP. */
export type CreateDelivery = (page: Page, url: string, ears: Ears) => Delivery;

export const transports: Record<string, CreateDelivery> = { beacon: createDelivery };
