import { datadogRum } from '@datadog/browser-rum-slim';
datadogRum.init({ applicationId: 'app-1', clientToken: 'pk_e2e', site: 'datadoghq.com', service: 'shop-web', env: 'production', version: '2.4.1', sessionSampleRate: 100, proxy: BASE + '/dd', trackUserInteractions: true, trackResources: true, trackLongTasks: true });
datadogRum.setUser({ id: 'u-42' });
globalThis.say = () => { datadogRum.addError(new RangeError('handled one')); datadogRum.addAction('checkout', { step: 'pay' }); };
