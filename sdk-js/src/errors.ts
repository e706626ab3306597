// Errors: those that nobody caught, and those that the page hands over. Stacks
// go out as they are; the server reads them, since its parser can be mended
// without a release of every page.
import { clip } from './lib/text.js';
import type { DropCounter } from './lib/drops.js';
import type { Listen, Observe, Page } from './types.js';

// One fault in a loop must not hide the others, nor cost the user's bandwidth.
const MAX_REPEATS = 5;
// Messages that carry a number differ each time; beyond this many different
// errors all further ones count as one.
const MAX_DIFFERENT = 100;

const MAX_NAME = 128;
const MAX_MESSAGE = 1024;
const MAX_STACK = 8192;

interface Described {
  name: string;
  message: string;
  stack: string;
}

/** Anything can be thrown; this puts it in three texts. */
function describe(thrown: unknown): Described {
  const { name, message, stack } = Object(thrown) as Record<string, unknown>;
  if (typeof message === 'string') {
    return {
      name: typeof name === 'string' && name ? name : 'Error',
      message,
      stack: typeof stack === 'string' ? stack : '',
    };
  }
  let text: string;
  try {
    text = typeof thrown === 'string' ? thrown : (JSON.stringify(thrown) ?? String(thrown));
  } catch {
    text = Object.prototype.toString.call(thrown);
  }
  return { name: 'NonError', message: text, stack: '' };
}

/** An error event that brings no error, as a script of another origin does. */
function describeEvent({ message, filename, lineno, colno }: ErrorEvent): Described {
  const [, name = 'Error', text = message] = /^(?:Uncaught )?(\w*(?:Error|Exception)): ([^]*)/.exec(message) ?? [];
  return { name, message: text, stack: filename ? `at ${filename}:${lineno}:${colno}` : '' };
}

/** Returns how to report an error that the page handled. */
export function watchErrors(page: Page, drops: DropCounter, listen: Listen, observe: Observe): (error: unknown) => void {
  const seen = new Map<string, number>();

  function report({ name, message, stack }: Described, handled: boolean): void {
    let same = `${name}\n${message}\n${stack}`;
    if (!seen.has(same) && seen.size >= MAX_DIFFERENT) same = '';
    const times = (seen.get(same) ?? 0) + 1;
    seen.set(same, times);
    if (times > MAX_REPEATS) return drops.count('error/repeat');
    observe({
      k: 'error',
      n: clip(name, MAX_NAME),
      t: page.Date.now(),
      m: clip(message, MAX_MESSAGE),
      ...(stack && { s: clip(stack, MAX_STACK) }),
      a: { handled },
    });
  }

  listen(page, 'error', (event) => {
    const { error } = event as ErrorEvent;
    report(error == null ? describeEvent(event as ErrorEvent) : describe(error), false);
  });
  listen(page, 'unhandledrejection', (event) => report(describe((event as PromiseRejectionEvent).reason), false));
  return (error) => report(describe(error), true);
}
