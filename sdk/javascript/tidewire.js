/**
 * Tidewire for browsers and Node.js: the public entry.
 *
 * @example
 * const session = await connect('ws://127.0.0.1:8080');
 * session.addStream('?prices//', TopicType.JSON, { value: (path, specification, value) => console.log(path, value) });
 * await session.subscribe('?prices//');
 *
 * @module
 */

export { connect, Session } from './session.js';
export { Topics } from './topics.js';
export { ValueStream } from './stream.js';
export { anyOf, Selector } from './selector.js';
export { DataType, TopicType } from './types.js';
export * from './errors.js';

/** @typedef {import('./session.js').ConnectOptions} ConnectOptions */
/** @typedef {import('./session.js').ReconnectOptions} ReconnectOptions */
/** @typedef {import('./session.js').Limits} Limits */
/** @typedef {import('./session.js').SessionState} SessionState */
/** @typedef {import('./session.js').StateEvent} StateEvent */
/** @typedef {import('./stream.js').StreamCallbacks} StreamCallbacks */
/** @typedef {import('./stream.js').UnsubscriptionReason} UnsubscriptionReason */
/** @typedef {import('./stream.js').ValueEvent} ValueEvent */
/** @typedef {import('./topics.js').FetchedTopic} FetchedTopic */
/** @typedef {import('./topics.js').FetchOptions} FetchOptions */
/** @typedef {import('./topics.js').FetchResult} FetchResult */
/** @typedef {import('./types.js').TopicSpecification} TopicSpecification */
/** @typedef {import('./types.js').TopicTypeName} TopicTypeName */
