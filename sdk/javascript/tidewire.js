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

export { connect, Session, SessionStatus } from './session.js';
export { Topics } from './topics.js';
export { Clients } from './clients.js';
export { updateConstraints, UpdateConstraint, UpdateConstraintOperator } from './constraint.js';
export { FetchRequest } from './fetch.js';
export { Listener, NotificationType } from './listeners.js';
export { Lock, Locks, LockScope } from './locks.js';
export { Messaging, RequestHandler, SessionProperties } from './messaging.js';
export { Presence, SessionEventType, SessionListener } from './presence.js';
export { RangeQuery, TimeSeries } from './series.js';
export { Security } from './security.js';
export { SessionTrees } from './session-trees.js';
export { ValueStream } from './stream.js';
export { anyOf, Selector } from './selector.js';
export { DataType, textOf, TopicProperty, TopicType } from './types.js';
export { RecoverableUpdateStream, UpdateStream } from './updates.js';
export { TopicViews } from './views.js';
export * from './errors.js';

/** @typedef {import('./options.js').ConnectOptions} ConnectOptions */
/** @typedef {import('./options.js').ReconnectOptions} ReconnectOptions */
/** @typedef {import('./session.js').Limits} Limits */
/** @typedef {import('./session.js').SessionState} SessionState */
/** @typedef {import('./session.js').SessionStatusName} SessionStatusName */
/** @typedef {import('./session.js').StateEvent} StateEvent */
/** @typedef {import('./stream.js').StreamCallbacks} StreamCallbacks */
/** @typedef {import('./stream.js').UnsubscriptionReason} UnsubscriptionReason */
/** @typedef {import('./stream.js').ValueEvent} ValueEvent */
/** @typedef {import('./clients.js').ClientSession} ClientSession */
/** @typedef {import('./clients.js').ListOptions} ListOptions */
/** @typedef {import('./clients.js').Target} Target */
/** @typedef {import('./constraint.js').JsonConstraint} JsonConstraint */
/** @typedef {import('./credentials.js').Credentials} Credentials */
/** @typedef {import('./credentials.js').ShownCredentials} ShownCredentials */
/** @typedef {import('./fetch.js').FetchedTopic} FetchedTopic */
/** @typedef {import('./fetch.js').FetchOptions} FetchOptions */
/** @typedef {import('./fetch.js').FetchResult} FetchResult */
/** @typedef {import('./listeners.js').ListenerCallbacks} ListenerCallbacks */
/** @typedef {import('./listeners.js').MissingTopic} MissingTopic */
/** @typedef {import('./listeners.js').MissingTopicCallbacks} MissingTopicCallbacks */
/** @typedef {import('./listeners.js').NotificationTypeName} NotificationTypeName */
/** @typedef {import('./listeners.js').TopicEventCallbacks} TopicEventCallbacks */
/** @typedef {import('./listeners.js').TopicNotificationCallbacks} TopicNotificationCallbacks */
/** @typedef {import('./locks.js').HeldLock} HeldLock */
/** @typedef {import('./locks.js').LockScopeName} LockScopeName */
/** @typedef {import('./messaging.js').FilterOptions} FilterOptions */
/** @typedef {import('./messaging.js').HandlerOptions} HandlerOptions */
/** @typedef {import('./messaging.js').ReceivedRequest} ReceivedRequest */
/** @typedef {import('./messaging.js').RequestCallback} RequestCallback */
/** @typedef {import('./messaging.js').SendOptions} SendOptions */
/** @typedef {import('./messaging.js').TimedOptions} TimedOptions */
/** @typedef {import('./presence.js').Absent} Absent */
/** @typedef {import('./presence.js').Present} Present */
/** @typedef {import('./presence.js').PresenceCallbacks} PresenceCallbacks */
/** @typedef {import('./presence.js').QueueCallbacks} QueueCallbacks */
/** @typedef {import('./presence.js').QueueEvent} QueueEvent */
/** @typedef {import('./presence.js').ResetCallbacks} ResetCallbacks */
/** @typedef {import('./presence.js').SessionCallbacks} SessionCallbacks */
/** @typedef {import('./presence.js').SessionEndName} SessionEndName */
/** @typedef {import('./presence.js').SessionEvent} SessionEvent */
/** @typedef {import('./presence.js').SessionEventTypeName} SessionEventTypeName */
/** @typedef {import('./series.js').EventMetadata} EventMetadata */
/** @typedef {import('./series.js').QueryResult} QueryResult */
/** @typedef {import('./series.js').TimeSeriesEvent} TimeSeriesEvent */
/** @typedef {import('./session-trees.js').BranchMapping} BranchMapping */
/** @typedef {import('./topics.js').BatchedUpdate} BatchedUpdate */
/** @typedef {import('./topics.js').UpdateOptions} UpdateOptions */
/** @typedef {import('./topics.js').UpdateStreamOptions} UpdateStreamOptions */
/** @typedef {import('./topics.js').RecoverableUpdateStreamOptions} RecoverableUpdateStreamOptions */
/** @typedef {import('./types.js').DataTypeName} DataTypeName */
/** @typedef {import('./types.js').TopicSpecification} TopicSpecification */
/** @typedef {import('./types.js').TopicTypeName} TopicTypeName */
/** @typedef {import('./views.js').TopicView} TopicView */
