import { init as initApm } from '@elastic/apm-rum';
const apm = initApm({ serviceName: 'shop-web', serverUrl: BASE + '/elastic/pk_e2e', apiVersion: APMVERSION, serviceVersion: '2.4.1', environment: 'production' });
apm.setUserContext({ id: 'u-42' });
globalThis.say = () => { apm.captureError(new RangeError('handled one')); };
