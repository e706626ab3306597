import { onCLS, onINP, onLCP, onFCP, onTTFB } from 'web-vitals';
const send = (m) => navigator.sendBeacon(BASE + '/v1/vitals?key=pk_e2e&app=shop-web&release=2.4.1', JSON.stringify(m));
for (const on of [onCLS, onINP, onLCP, onFCP, onTTFB]) on(send);
globalThis.say = () => {};
