// The words that the signals share: what a caller gives, what a caller gets,
// and an event as it goes on the wire (docs/formats/beacon.md).

/** The window that the SDK observes; tests pass one of their own. */
export type Page = Window & typeof globalThis;

export type Attributes = Record<string, string | number | boolean>;

/** What the SDK says of the client. Each field can be overridden by `context`. */
export interface Context {
  platform?: string;
  os?: string;
  browser?: string;
  device?: string;
  network?: string;
  page?: string;
}

export interface Options {
  /** The public key of the app. It names an app and protects nothing. */
  key: string;
  /** Where Serin listens: an http(s) URL, or a path on the page's own origin. */
  endpoint: string;
  /** The app, such as "shop-web"; 1 to 128 bytes. */
  app: string;
  /** The release that this page was built from; 1 to 128 bytes. */
  release: string;
  /** Which arm of which change this session is on, such as {"release/2.4.1": "canary"}; at most 16. */
  arms: Record<string, string>;
  /** A pseudonym of the user, at most 64 bytes. Hash it before it comes here. */
  user?: string;
  /** What kind of traffic this is, the key's where absent; only production counts for a verdict. */
  tenancy?: 'production' | 'test' | 'shadow' | 'synthetic';
  /**
   * How beacons travel: over HTTP ("beacon", the default) or over a websocket
   * ("stream"), which only the bundle serin-stream has.
   */
  transport?: 'beacon' | 'stream';
  /** Overrides of what the SDK finds out by itself. */
  context?: Context;
  /**
   * The share of sessions, 0 to 1, that send vitals, slow requests, metrics and
   * events. Exposures, errors and failed requests are always sent: a verdict
   * needs each failure and each session it is a failure of.
   */
  sampleRate?: number;
  /** From how many milliseconds on a request that succeeded is reported. */
  slowRequestMs?: number;
  /** Signals to leave out. */
  collect?: { vitals?: boolean; errors?: boolean; requests?: boolean };
  /** Say on the console what went wrong inside the SDK. */
  debug?: boolean;
}

export interface Handle {
  /** Reports a number under a name, such as metric("cart.total", 41.5, "eur"). */
  metric(name: string, value: number, unit?: string): void;
  /** Reports that something happened. */
  event(name: string, attrs?: Attributes): void;
  /** Reports an error that the page handled. */
  error(error: unknown): void;
  /** Sets the pseudonym for what follows; undefined forgets it. */
  setUser(user: string | undefined): void;
  /** Sends what is queued now instead of within five seconds. */
  flush(): void;
  /** Ends observation, restores what was wrapped, and discards what is queued. */
  stop(): void;
}

/** One event as the wire spells it. */
export interface WireEvent {
  k: 'exposure' | 'session' | 'vital' | 'error' | 'request' | 'metric' | 'event';
  n: string;
  t: number;
  v?: number;
  u?: string;
  m?: string;
  s?: string;
  a?: Attributes;
}

/** Takes an event from a signal. It never throws. */
export type Observe = (event: WireEvent) => void;

/** Adds a listener until the SDK stops. What it throws does not reach the page. */
export type Listen = (target: EventTarget, type: string, run: (event: Event) => void) => void;

/** Says something to a developer, when debug is on. */
export type Log = (...words: unknown[]) => void;
