import { initializeFaro, faro } from 'FAROPKG';
const f = initializeFaro({ url: COLLECT, apiKey: 'pk_e2e', app: { name: 'shop-web', version: '2.4.1', environment: 'production' }, user: { id: 'u-42' } });
globalThis.say = () => { f.api.pushEvent('checkout', { step: 'pay' }); f.api.pushMeasurement({ type: 'cart', values: { items: 3 } }); f.api.pushLog(['hello log']); f.api.pushError(new RangeError('handled one')); };
