// Bundles the SDK twice, with and without the stream: an IIFE for a script tag
// (global `Serin`) and an ES module for bundlers. The declarations come from tsc beside it.
// What tells of the page before the SDK is a script of its own, to stand in the page.
import { build } from 'esbuild';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const common = {
  absWorkingDir: root,
  bundle: true,
  minify: true,
  target: 'es2020',
  legalComments: 'none',
};

for (const [entry, name] of [['index', 'serin'], ['streaming', 'serin-stream']]) {
  const entryPoints = [`src/${entry}.ts`];
  await build({ ...common, entryPoints, format: 'iife', globalName: 'Serin', outfile: `dist/${name}.js` });
  await build({ ...common, entryPoints, format: 'esm', outfile: `dist/${name}.mjs` });
}
await build({ ...common, entryPoints: ['src/boot.ts'], format: 'iife', globalName: 'SerinBoot', outfile: 'dist/serin-boot.js' });
