// Counts what the client itself leaves out, by kind and cause such as
// "vital/sampled". The counts ride on the next beacon: who drops, reports.

export type Drops = Record<string, number>;

export interface DropCounter {
  count(cause: string, n?: number): void;
  /** Adds counts back, for a beacon that carried them and was never delivered. */
  restore(drops: Drops): void;
  any(): boolean;
  /** Hands out all counts and starts again from none. */
  take(): Drops;
}

export function createDrops(): DropCounter {
  let drops: Drops = {};
  const count = (cause: string, n = 1): void => {
    drops[cause] = (drops[cause] ?? 0) + n;
  };
  return {
    count,
    restore(lost) {
      for (const cause in lost) count(cause, lost[cause]);
    },
    any: () => Object.keys(drops).length > 0,
    take() {
      const taken = drops;
      drops = {};
      return taken;
    },
  };
}
