// Replaces a method by a wrapper, and puts it back.

// A wrapper has the signature of whatever it wraps, hence any.
type Method = (this: any, ...args: any[]) => any;

/**
 * Returns how to undo it. Where someone else has wrapped the method since, it
 * is left alone, since putting ours back would remove theirs.
 */
export function patch(target: object, key: string, wrap: (native: Method) => Method): () => void {
  const owner = target as Record<string, Method>;
  const native = owner[key];
  if (typeof native !== 'function') return () => {};
  const ours = wrap(native);
  // Code that looks at fetch.name or fetch.length finds what it found before.
  for (const property of ['name', 'length'] as const) {
    Object.defineProperty(ours, property, { value: native[property], configurable: true });
  }
  owner[key] = ours;
  return () => {
    if (owner[key] === ours) owner[key] = native;
  };
}
