// What a browser says of itself, in the few words that a verdict is stratified
// by. Versions that browsers freeze (Windows 10, macOS 10.15, Android 10 on
// "K") are left out, since they would be untrue.
import type { Context, Page } from '../types.js';

const first = (agent: string, rules: readonly (readonly [RegExp, string])[]): string => {
  for (const [pattern, name] of rules) {
    const found = pattern.exec(agent);
    if (found) return found[1] ? `${name} ${found[1]}` : name;
  }
  return '';
};

const BROWSERS = [
  [/(?:Edg|EdgA|EdgiOS)\/(\d+)/, 'Edge'],
  [/OPR\/(\d+)/, 'Opera'],
  [/SamsungBrowser\/(\d+)/, 'Samsung Internet'],
  [/(?:Firefox|FxiOS)\/(\d+)/, 'Firefox'],
  [/(?:Chrome|CriOS)\/(\d+)/, 'Chrome'],
  [/Version\/(\d+)[.\d]* .*Safari/, 'Safari'],
] as const;

const SYSTEMS = [
  [/Android 10; K\)/, 'Android'],
  [/Android (\d+)/, 'Android'],
  [/(?:iPhone|iPad|CPU) OS (\d+)/, 'iOS'],
  [/Windows/, 'Windows'],
  [/CrOS/, 'ChromeOS'],
  [/Mac OS X/, 'macOS'],
  [/Android/, 'Android'],
  [/Linux/, 'Linux'],
] as const;

export function describeClient(page: Page): Context {
  const { userAgent, maxTouchPoints } = page.navigator;
  const { connection } = page.navigator as { connection?: { effectiveType?: string } };
  const os = first(userAgent, SYSTEMS);
  // An iPad calls itself a Mac, but no Mac has a touch screen; an Android
  // tablet leaves out the word Mobile.
  const tablet =
    /iPad/.test(userAgent) ||
    (os === 'macOS' && maxTouchPoints > 1) ||
    (/Android/.test(userAgent) && !/Mobile/.test(userAgent));
  return {
    platform: 'web',
    os: os === 'macOS' && tablet ? 'iOS' : os,
    browser: first(userAgent, BROWSERS),
    device: tablet ? 'tablet' : /Mobi/.test(userAgent) ? 'mobile' : 'desktop',
    network: connection?.effectiveType ?? '',
  };
}
