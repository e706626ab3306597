// The bundle for long sessions: the SDK with one more transport, a websocket.
import { createStream } from './stream.js';
import { transports } from './transports.js';

transports.stream = createStream;

export * from './index.js';
