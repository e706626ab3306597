// Bundles the SDK twice: an IIFE for a script tag (global `Serin`) and an ES
// module for bundlers. The declarations come from tsc beside it.
import { build } from 'esbuild';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const common = {
  absWorkingDir: root,
  entryPoints: ['src/index.ts'],
  bundle: true,
  minify: true,
  target: 'es2020',
  legalComments: 'none',
};

await build({ ...common, format: 'iife', globalName: 'Serin', outfile: 'dist/serin.js' });
await build({ ...common, format: 'esm', outfile: 'dist/serin.mjs' });
