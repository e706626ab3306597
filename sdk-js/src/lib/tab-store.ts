// One text kept for as long as the tab lives: in sessionStorage, or in memory
// where the browser denies that.
import type { Page } from '../types.js';

export interface TabStore {
  get(): string | null;
  set(text: string): void;
  /** Whether what was set outlives the page. */
  kept(): boolean;
}

export function tabStore(page: Page, key: string): TabStore {
  let memory: string | null = null;
  let denied = false;
  return {
    get() {
      if (!denied) {
        try {
          // Null after the page itself cleared the storage; memory still knows.
          return page.sessionStorage.getItem(key) ?? memory;
        } catch {
          denied = true;
        }
      }
      return memory;
    },
    kept: () => !denied,
    set(text) {
      memory = text;
      if (denied) return;
      try {
        page.sessionStorage.setItem(key, text);
      } catch {
        denied = true;
        try {
          // A full storage still holds the older text, with numbers that the
          // next page must not use again.
          page.sessionStorage.removeItem(key);
        } catch {
          // Denied altogether: there is nothing to remove.
        }
      }
    },
  };
}
