import * as Sentry from 'SENTRYPKG';
Sentry.init({ dsn: DSN, release: 'shop-web@2.4.1', environment: 'production', tracesSampleRate: 1, autoSessionTracking: true, integrations: (d) => Sentry.browserTracingIntegration ? [...d, Sentry.browserTracingIntegration()] : d });
Sentry.setUser({ id: 'u-42' });
globalThis.say = () => { Sentry.captureException(new RangeError('handled one')); Sentry.captureMessage('hello message'); };
