// The limits of the wire count UTF-8 bytes, JavaScript counts UTF-16 units:
// these two helpers speak bytes.
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** The length of a text in UTF-8. */
export const bytes = (text: string): number => encoder.encode(text).length;

/**
 * The longest start of a text that fits into max bytes, never half a
 * character. Lone surrogates become U+FFFD, since the server takes only UTF-8.
 */
export function clip(text: string, max: number): string {
  const room = new Uint8Array(max);
  return decoder.decode(room.subarray(0, encoder.encodeInto(text, room).written));
}
