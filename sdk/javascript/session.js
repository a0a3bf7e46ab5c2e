/**
 * A session: what a client holds on to while connections come and go.
 *
 * It makes a lost connection anew, with growing pauses, and goes on with its session: nothing is missed and nothing comes twice. Where the server has
 * none any more a new one begins. Selections, listeners and handlers of requests are made again then, and requests that were under way are rejected
 * and never sent again, for they may have been carried out.
 *
 * @module
 */

import { Clients } from './clients.js';
import { Connection } from './connection.js';
import { Identity } from './credentials.js';
import { AccessDeniedError, AuthenticationFailedError, CloseCode, ConnectionError, NoSuchRequestError, OverloadedError, RequestError, ShuttingDownError, UnsupportedVersionError } from './errors.js';
import { Listeners, Notifications } from './listeners.js';
import { Locks } from './locks.js';
import { Messaging } from './messaging.js';
import { checkOptions } from './options.js';
import { Observers, Presence } from './presence.js';
import { Requests } from './requests.js';
import { Resumption } from './resumption.js';
import { Security } from './security.js';
import { Selections } from './selections.js';
import { Selector } from './selector.js';
import { TimeSeries } from './series.js';
import { SessionTrees } from './session-trees.js';
import { reportUncaught } from './stream.js';
import { Subscriptions } from './subscriptions.js';
import { Topics } from './topics.js';
import { checkDataType, checkText, show } from './types.js';
import { TopicViews } from './views.js';
import { completeUrl, findWebSocket } from './websocket.js';

/** @typedef {import('./connection.js').Close} Close */
/** @typedef {import('./decode.js').Welcome} Welcome */
/** @typedef {import('./options.js').ConnectOptions} ConnectOptions */

/** @typedef {'connecting' | 'connected' | 'recovering' | 'closed'} SessionState */

/** The states of a session by their names in the field, which tell also who closed it. */
export const SessionStatus = Object.freeze({
  /** @type {'CONNECTING'} */ CONNECTING: 'CONNECTING',
  /** @type {'CONNECTED_ACTIVE'} */ CONNECTED_ACTIVE: 'CONNECTED_ACTIVE',
  /** The connection was lost, and is being made anew. */
  /** @type {'RECOVERING_RECONNECT'} */ RECOVERING_RECONNECT: 'RECOVERING_RECONNECT',
  /** By `close()`. */
  /** @type {'CLOSED_BY_CLIENT'} */ CLOSED_BY_CLIENT: 'CLOSED_BY_CLIENT',
  /** By a close of the server's behind which the session does not reconnect. */
  /** @type {'CLOSED_BY_SERVER'} */ CLOSED_BY_SERVER: 'CLOSED_BY_SERVER',
  /** It could not be made, or its connection was lost and not made anew. */
  /** @type {'CLOSED_FAILED'} */ CLOSED_FAILED: 'CLOSED_FAILED',
});

/** @typedef {keyof typeof SessionStatus} SessionStatusName */

/**
 * @typedef {object} StateEvent
 * @property {SessionState} state
 * @property {SessionState} previous
 * @property {SessionStatusName} status
 * @property {boolean} [resumed] of 'connected': true where the session goes on, with nothing missed; false where it is a new one, the first included. Of
 *   a new one selections, listeners and handlers of requests were made again, and what the old one had not answered was rejected.
 * @property {number} [code] the close code of the connection that ended
 * @property {string} [reason]
 * @property {Error} [error] why the session could not be made again
 */

/**
 * What the server said on connecting; `Infinity` where it did not.
 *
 * @typedef {object} Limits
 * @property {number} messageBytesMax
 * @property {number} pathBytesMax
 * @property {number} valueBytesMax
 * @property {number} selectionsMax
 * @property {number} fetchPageMax
 */

/**
 * @typedef {object} StalenessEvent
 * @property {boolean} isStale whether what the server shows may not be the newest
 */

/** @typedef {{ state: (event: StateEvent) => void, staleness: (event: StalenessEvent) => void, error: (error: Error) => void }} SessionListeners */

/** By state; of 'closed' it depends on who did it. @type {Readonly<Record<SessionState, SessionStatusName>>} */
const STATUSES = Object.freeze({ connecting: 'CONNECTING', connected: 'CONNECTED_ACTIVE', recovering: 'RECOVERING_RECONNECT', closed: 'CLOSED_FAILED' });

/** Closes for what one side sent, which would come again if the session went on. @type {ReadonlySet<number>} */
const FAULTS = new Set([
  CloseCode.WEBSOCKET_ERROR,
  CloseCode.WRONG_MESSAGE_KIND,
  CloseCode.INVALID_UTF8,
  CloseCode.MESSAGE_TOO_LARGE,
  CloseCode.MALFORMED_MESSAGE,
]);

/** Closes behind which no other connection is made. @type {ReadonlySet<number>} */
const FINAL = new Set([CloseCode.SESSION_TAKEN_OVER, CloseCode.CLOSED_BY_CONTROL, CloseCode.UNSUPPORTED_VERSION]);

/** A connection that lived this long was good, and the pauses start small again. */
const STABLE_MS = 10_000;

/**
 * Opens a session.
 *
 * @param {string | URL} url such as `ws://127.0.0.1:8080`; the path `/tidewire` may be left out, and in a page the rest up to it
 * @param {ConnectOptions} [options]
 * @returns {Promise<Session>} rejects where the first connection cannot be made: with a `ConnectionError`, a `TimeoutError`, or what the
 *   server refused it with, an `AuthenticationFailedError` where it does not know the client
 */
export async function connect(url, options = {}) {
  const complete = completeUrl(url);
  const checked = checkOptions(options);
  const WebSocket = await findWebSocket(options.WebSocket);
  const session = new Session(complete, checked, WebSocket);
  await session.start(options.signal);
  return session;
}

/** Made by `connect`. */
export class Session {
  #url;
  #options;
  #WebSocket;
  /** @type {SessionState} */
  #state = 'closed';
  /** @type {SessionStatusName} */
  #status = SessionStatus.CONNECTING;
  /** @type {Connection | undefined} */
  #connection;
  /** @type {Welcome | undefined} */
  #welcome;
  /** @type {Limits} */
  #limits = limitsOf(undefined);
  #subscriptions = new Subscriptions((message) => this.#request(message));
  #selections = new Selections();
  #listeners = new Listeners((message) => this.#request(message));
  #sessionListeners = new Observers((message) => this.#request(message));
  #requests;
  /** What the session can be gone on with. @type {Resumption | undefined} */
  #resumption;
  /** Counts the server's sessions. */
  #epoch = 0;
  /** The last that the application was told of. */
  #toldEpoch = 0;
  /** Whether a new session has yet to be given its selections, listeners and handlers. */
  #isRestoring = false;
  /** Settles when the selections asked for up to now are noted, in the order asked. @type {Promise<unknown>} */
  #noted = Promise.resolve();
  /** As it was when the connection was lost: later ones wait for the next. @type {Promise<unknown>} */
  #notedAtLoss = Promise.resolve();
  #attempts = 0;
  /** What shows who the client is from then on, and those before it. @type {Promise<void>} */
  #authenticating = Promise.resolve();
  #connectedAt = 0;
  #abort = new AbortController();
  /** Whether the application has closed it. */
  #isClosing = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retryTimer;
  /** @type {{ [K in keyof SessionListeners]: Set<SessionListeners[K]> }} */
  #observers = { state: new Set(), staleness: new Set(), error: new Set() };
  #isStale = false;
  /** @type {(event: StateEvent) => void} */
  #resolveClosed = () => {};

  /**
   * @internal
   * @param {string} url
   * @param {ReturnType<typeof checkOptions>} options
   * @param {import('./websocket.js').WebSocketClass} WebSocket
   */
  constructor(url, options, WebSocket) {
    this.#url = url;
    this.#options = options;
    this.#WebSocket = WebSocket;
    this.#requests = new Requests(options.requestTimeoutMs);
    if (options.onState !== undefined) this.#observers.state.add(options.onState);
    /** Settles when the session is closed, with the last state event. @type {Promise<StateEvent>} */
    this.closed = new Promise((resolve) => (this.#resolveClosed = resolve));
    /** The topic tree. */
    this.topics = new Topics({
      request: (message) => this.#request(message),
      limits: () => this.#limits,
      specificationOf: (path) => this.#subscriptions.specificationOf(path),
      sessionNumber: () => (this.#isUsable ? this.#epoch : 0),
      listeners: this.#listeners,
    });
    const { topics } = this;
    /** Appending events to time series, editing and querying them. */
    this.timeSeries = new TimeSeries({
      request: (message) => this.#request(message),
      path: (path) => topics.path(path),
      encode: (type, value) => topics.encode(type, value),
      typeFor: (path, value, type) => topics.typeFor(path, value, type),
    });
    /** Rules by which the server makes topics out of others. */
    this.views = new TopicViews({ request: (message) => this.#request(message) });
    /** Requests between clients. */
    this.messaging = new Messaging({
      request: (message, timeoutMs) => this.#request(message, timeoutMs),
      tell: (message) => this.#tell(message),
      respond: (message) => this.#requests.tell(message),
      path: (path) => topics.path(path),
      encode: (type, value) => topics.encode(type, value),
      sessionNumber: () => (this.#state === 'closed' ? 0 : this.#epoch),
      requestTimeoutMs: options.requestTimeoutMs,
    });
    /** The sessions of the server, and steering them. */
    this.clients = new Clients({ request: (message) => this.#request(message), listeners: this.#sessionListeners });
    /** Who is subscribed to topics. */
    this.presence = new Presence((message) => this.#request(message), this.#sessionListeners);
    /** Locks that one session of the server holds at most. */
    this.locks = new Locks({
      request: (message, timeoutMs) => this.#request(message, timeoutMs),
      path: (path) => topics.path(path),
      sessionNumber: () => (this.#isUsable ? this.#epoch : 0),
    });
    /** By which paths mean other topics to other sessions. */
    this.sessionTrees = new SessionTrees({ request: (message) => this.#request(message), path: (path) => topics.path(path) });
    /** What roles permit. */
    this.security = new Security((message) => this.#request(message), (name, answer) => this.messaging.addAuthenticator(name, answer));
    /** Listening to topics without their values. */
    this.notifications = new Notifications(this.#listeners);
  }

  get state() {
    return this.#state;
  }

  /** The state by its name in the field, one of `SessionStatus`. */
  get status() {
    return this.#status;
  }

  /** Whether requests are taken: they are sent, or wait until the session goes on. */
  get #isUsable() {
    return this.#state === 'connected' || (this.#state === 'recovering' && this.#resumption !== undefined);
  }

  /** The id that the server gave the session; another one where a new session had to begin. */
  get id() {
    return this.#welcome?.session ?? '';
  }

  /** As `connect` was told it; empty where it was not. Where a token or a certificate says who the client is, the server knows it alone, as `$Principal`. */
  get principal() {
    return this.#options.identity.principal;
  }

  /**
   * Shows anew who the client is: by something newer, as a token that is to follow another, or that it is somebody else. Requests behind it wait until it is answered, and
   * are judged by what that one may; subscriptions that it may not have end with the reason `access_denied`, and those that it may come. A new session, which begins
   * where the server has lost this one, shows the same.
   *
   * @param {{ principal?: string, credentials?: import('./credentials.js').Credentials }} [who] as the options of `connect`; without it what those said is shown
   *   again, for which a function is asked anew. `{}` is nobody in particular.
   * @returns {Promise<void>} rejects where the session goes on as whose it was, and with an `OutcomeUnknownError` where the session ended before it was answered
   * @throws {TypeError}
   * @throws {import('./errors.js').AuthenticationFailedError} there is no such principal, or what was shown is not right
   */
  async authenticate(who) {
    if (who !== undefined && (typeof who !== 'object' || who === null)) throw new TypeError(`expected an object that says who the client is, found ${show(who)}`);
    const identity = who === undefined ? this.#options.identity : new Identity(who.principal, who.credentials);
    const shown = await identity.show(this.#abort.signal);
    // One behind the other: whoever is said last it is in the end. Authenticators may take longer than a request, and their word counts whenever it comes.
    const answered = this.#authenticating.then(async () => {
      const { token } = await this.#request((id) => ({ op: 'authenticate', id, ...shown }), 0);
      this.#options = { ...this.#options, identity };
      if (token !== '' && this.#resumption !== undefined) this.#resumption.token = token;
    });
    this.#authenticating = answered.catch(() => undefined);
    await answered;
  }

  /**
   * Whether what the server shows may not be the newest: it is one of a cluster, and does not reach the others or has not caught up with them. While there is no connection
   * it is what was told last; of a session that is made anew it is told anew.
   */
  get isStale() {
    return this.#isStale;
  }

  /** The server's name and version. */
  get server() {
    return this.#welcome?.server ?? '';
  }

  /** @returns {Readonly<Limits>} */
  get limits() {
    return this.#limits;
  }

  /**
   * Listens to `state`, each change of state, to `staleness`, each change of `isStale`, or to `error`, what the server refused without being asked.
   *
   * @template {keyof SessionListeners} K
   * @param {K} event
   * @param {SessionListeners[K]} listener
   * @returns {() => void} ends listening
   */
  on(event, listener) {
    if (!Object.hasOwn(this.#observers, event)) throw new TypeError(`expected 'state', 'staleness' or 'error' as the event, found ${show(event)}`);
    if (typeof listener !== 'function') throw new TypeError(`expected a function as the listener, found ${show(listener)}`);
    this.#observers[event].add(listener);
    return () => void this.#observers[event].delete(listener);
  }

  /**
   * Subscribes to the topics that a selector matches now and later. Streams are told of them.
   *
   * A scope is a named set of selections. The session is subscribed to what any of its scopes selects, so parts of a program that do not know of
   * each other do not unsubscribe what the others need.
   *
   * @param {string} selector
   * @param {string} [scope] the default scope, unless given
   * @returns {Promise<void>} settles when the streams have been told of every topic that is there
   */
  subscribe(selector, scope) {
    return this.#select('subscribe', selector, scope);
  }

  /**
   * Takes what a selector matches out of the subscriptions of a scope.
   *
   * @param {string} selector
   * @param {string} [scope]
   * @returns {Promise<void>}
   */
  unsubscribe(selector, scope) {
    return this.#select('unsubscribe', selector, scope);
  }

  /**
   * Takes what a selector matches out of the subscriptions of every scope.
   *
   * @param {string} selector
   * @returns {Promise<void>}
   */
  async unsubscribeAllScopes(selector) {
    const checked = checkText(selector, 'a topic selector');
    const answered = this.#request((id) => ({ op: 'unsubscribe_all_scopes', id, selector: checked }));
    this.#note(answered, () => this.#selections.unsubscribeAllScopes(checked));
    await answered;
  }

  /**
   * Adds a stream of the subscribed topics that `selector` matches and whose type can be read as `type`. It does not subscribe.
   *
   * @param {string} selector
   * @param {import('./types.js').DataTypeName} type
   * @param {import('./stream.js').StreamCallbacks} [callbacks] may be left out by who iterates over the stream
   * @returns {import('./stream.js').ValueStream}
   */
  addStream(selector, type, callbacks = {}) {
    return this.#addStream(Selector.parse(selector), type, 'values', callbacks);
  }

  /**
   * Adds a stream of the subscribed time series that `selector` matches and whose events' values can be read as `type`. Its values are events:
   * `{ sequence, timestamp, author, value, isEdit, originalSequence }`.
   *
   * @param {string} selector
   * @param {import('./types.js').DataTypeName} type
   * @param {import('./stream.js').StreamCallbacks} [callbacks]
   * @returns {import('./stream.js').ValueStream}
   */
  addTimeSeriesStream(selector, type, callbacks = {}) {
    return this.#addStream(Selector.parse(selector), type, 'events', callbacks);
  }

  /**
   * Adds a stream of the subscribed topics that no other stream reads.
   *
   * @param {import('./types.js').DataTypeName} type
   * @param {import('./stream.js').StreamCallbacks} [callbacks]
   * @returns {import('./stream.js').ValueStream}
   */
  addFallbackStream(type, callbacks = {}) {
    return this.#addStream(undefined, type, 'values', callbacks);
  }

  /**
   * Closes the session for good.
   *
   * @returns {Promise<void>} settles when it is closed
   */
  async close() {
    if (this.#state === 'closed') return;
    this.#isClosing = true;
    this.#abort.abort();
    clearTimeout(this.#retryTimer);
    if (this.#connection === undefined) this.#finish({ code: CloseCode.NORMAL, reason: '' });
    else this.#connection.close();
    await this.closed;
  }

  /**
   * Makes the first connection.
   *
   * @internal
   * @param {AbortSignal} [signal]
   */
  async start(signal) {
    const abort = () => this.#abort.abort(signal?.reason);
    signal?.addEventListener('abort', abort);
    if (signal?.aborted) abort();
    this.#become('connecting');
    try {
      await this.#open();
      if (this.state === 'closed') throw new ConnectionError('the connection was lost at once', { code: CloseCode.ABNORMAL });
    } catch (error) {
      this.#finish({ code: codeOf(error), reason: '' }, /** @type {Error} */ (error));
      throw error;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  /**
   * @param {Selector | undefined} selector
   * @param {import('./types.js').DataTypeName} type
   * @param {import('./stream.js').Content} content
   * @param {import('./stream.js').StreamCallbacks} callbacks
   */
  #addStream(selector, type, content, callbacks) {
    checkCallbacks(callbacks);
    const checked = checkDataType(type);
    if (this.#state === 'closed') throw new ConnectionError('the session is closed', { code: CloseCode.NORMAL });
    return this.#subscriptions.addStream(selector, checked, content, callbacks);
  }

  /**
   * @param {'subscribe' | 'unsubscribe'} op
   * @param {string} selector
   * @param {string} [scope]
   */
  async #select(op, selector, scope = '') {
    const checked = checkText(selector, 'a topic selector');
    const named = checkText(scope, 'a scope');
    const answered = this.#request((id) => ({ op, id, selector: checked, scope: named }));
    this.#note(answered, () => this.#selections.add(op, checked, named));
    await answered;
  }

  /**
   * Notes a change of the selections when it is answered, in the order asked.
   *
   * @param {Promise<unknown>} answered
   * @param {() => void} change
   */
  #note(answered, change) {
    const earlier = this.#noted;
    const note = async () => {
      await earlier;
      await answered;
      change();
    };
    this.#noted = note().catch(() => {});
  }

  /**
   * @param {(id: number) => import('./encode.js').ClientMessage} message
   * @param {number} [timeoutMs] instead of the session's
   * @returns {Promise<any>}
   */
  #request(message, timeoutMs) {
    return this.#isUsable ? this.#requests.request(message, timeoutMs) : Promise.reject(this.#notSent());
  }

  /**
   * @param {import('./encode.js').ClientMessage} message
   * @throws {ConnectionError}
   */
  #tell(message) {
    if (!this.#isUsable) throw this.#notSent();
    this.#requests.tell(message);
  }

  #notSent() {
    const why = this.#state === 'closed' ? 'the session is closed' : 'the connection was lost and is being made anew';
    return new ConnectionError(`the request was not sent: ${why}`, { code: CloseCode.ABNORMAL });
  }

  #open() {
    const { identity, name, properties, durable, connectTimeoutMs, closeTimeoutMs, reconnect } = this.#options;
    const resumeMs = reconnect === false ? 0 : this.#options.resumeMs;
    const resumption = this.#resumption && { token: this.#resumption.token, processed: this.#resumption.processed };
    const comesAgain = reconnect !== false;
    const options = { url: this.#url, WebSocket: this.#WebSocket, identity, name, properties, resumeMs, durable, resumption, comesAgain, connectTimeoutMs, closeTimeoutMs };
    const subscriptions = this.#subscriptions;
    const requests = this.#requests;
    return Connection.open(
      { ...options, signal: this.#abort.signal },
      {
        welcome: (connection, welcome) => this.#handleWelcome(connection, welcome),
        answer: (id, body) => requests.handleAnswer(id, body),
        value: (topic, bytes) => subscriptions.handleValue(topic, bytes),
        delta: (topic, form, delta) => subscriptions.handleDelta(topic, form, delta),
        topicEvent: (event) => subscriptions.handleTopicEvent(event),
        notice: (notice) => this.#listeners.handleNotice(notice),
        messaging: (event) => this.messaging.handleEvent(event),
        sessions: (event) => this.#sessionListeners.handleEvent(event),
        error: (id, error) => requests.handleError(id, error) || this.#handleError(error),
        received: (count) => requests.handleReceived(count),
        staleness: (isStale) => this.#setStale(isStale),
        processed: (bytes) => this.#resumption?.note(bytes),
        end: (connection, close) => this.#handleEnd(connection, close),
      },
    );
  }

  /**
   * @param {Connection} connection
   * @param {Welcome} welcome
   */
  #handleWelcome(connection, welcome) {
    this.#connection = connection;
    this.#welcome = welcome;
    this.#limits = limitsOf(welcome);
    this.#subscriptions.valueBytesMax = this.#limits.valueBytesMax;
    this.#requests.bytesMax = this.#limits.messageBytesMax;
    // A session that the server has kept over its own end has forgotten all that was under way.
    if (welcome.requests === undefined || welcome.restored) this.#begin(connection, welcome);
    else this.#requests.goOn((frame) => connection.send(frame), welcome.requests);
    if (!this.#isRestoring) this.#adopt();
  }

  /**
   * A new session begins, or one whose server was started anew.
   *
   * @param {Connection} connection
   * @param {Welcome} welcome
   */
  #begin(connection, { token, recovery_bytes_max: recoveryBytesMax = Infinity }) {
    this.#setStale(false);
    this.#resumption?.pause();
    this.#resumption = token === undefined ? undefined : new Resumption(token, recoveryBytesMax, (count) => this.#connection?.sayProcessed(count));
    this.#requests.begin((frame) => connection.send(frame), token !== undefined);
    this.#epoch += 1;
    if (this.#epoch === 1) return;
    this.messaging.endSession();
    this.#isRestoring = true;
    this.#subscriptions.beginRecovery();
    this.#restore();
  }

  /** There is a connection, and the session has what belongs to it. */
  #adopt() {
    this.#connectedAt = performance.now();
    const resumed = this.#epoch === this.#toldEpoch;
    this.#toldEpoch = this.#epoch;
    this.#become('connected', { resumed });
    this.#requests.release();
  }

  /**
   * @param {Connection} connection
   * @param {Close} close
   */
  #handleEnd(connection, close) {
    // One that was given up ends unheard.
    if (connection !== this.#connection) return;
    this.#connection = undefined;
    if (this.#state === 'connected' && performance.now() - this.#connectedAt > STABLE_MS) this.#attempts = 0;
    this.#resumption?.pause();
    if (FAULTS.has(close.code) || close.code === CloseCode.AUTHENTICATION_FAILED) this.#resumption = undefined;
    if (this.#abort.signal.aborted) this.#finish({ ...close, code: CloseCode.NORMAL });
    else this.#retry(close);
  }

  /**
   * @param {Close} close
   * @param {Error} [error] of the attempt that failed
   */
  #retry(close, error) {
    const { reconnect, identity } = this.#options;
    // What was shown is worth nothing any more; who can be asked may have something newer.
    const isUnknown = close.code === CloseCode.AUTHENTICATION_FAILED && (error !== undefined || identity.given !== undefined);
    if (reconnect === false || isUnknown || isFinal(close, error) || this.#attempts >= reconnect.attemptsMax) {
      this.#finish(close, error);
      return;
    }
    if (this.#resumption === undefined) {
      this.#requests.fail('the connection ended before the answer', close.code);
      this.messaging.endSession();
    } else this.#requests.suspend();
    const delay = Math.min(reconnect.delayMaxMs, reconnect.initialDelayMs * 2 ** this.#attempts) * (1 - Math.random() / 2);
    this.#attempts += 1;
    this.#retryTimer = setTimeout(() => this.#attempt(), delay);
    if (this.#state === 'recovering') return;
    this.#notedAtLoss = this.#noted;
    this.#become('recovering', { code: close.code, reason: close.reason });
  }

  async #attempt() {
    try {
      await this.#open();
    } catch (error) {
      if (this.#abort.signal.aborted) this.#finish({ code: CloseCode.NORMAL, reason: '' });
      else this.#retry({ code: codeOf(error), reason: '' }, /** @type {Error} */ (error));
    }
  }

  /** Furnishes a new session. A connection that is lost meanwhile is made anew, and this goes on, as long as the session does. */
  async #restore() {
    const epoch = this.#epoch;
    const isOver = () => epoch !== this.#epoch || this.#abort.signal.aborted || this.#state === 'closed';
    try {
      await this.#notedAtLoss;
      if (isOver()) return;
      await this.#selectAgain();
      if (isOver()) return;
      await this.#subscriptions.endRecovery((message) => this.#requests.requestAhead(message));
    } catch (error) {
      if (!isOver()) this.#giveUp(/** @type {Error} */ (error));
      return;
    }
    if (isOver()) return;
    this.#isRestoring = false;
    if (this.#connection !== undefined) this.#adopt();
  }

  /**
   * Makes the selections again, in their order, the listeners and the handlers of requests. What the server refuses now is dropped and told; what it
   * cannot do now throws.
   */
  async #selectAgain() {
    const selections = this.#selections.sequence.map(({ op, selector, scope }) => ({
      answered: this.#requests.requestAhead((id) => ({ op, id, selector, scope })),
      drop: (/** @type {Error} */ error) => {
        this.#selections.remove(selector, scope);
        this.#emit('error', error);
      },
    }));
    const listened = this.#listeners.selections().map(({ listener, selector }) => ({
      answered: this.#requests.requestAhead((id) => ({ op: 'listen', id, listener: listener.number, kind: listener.kind, selector })),
      drop: (/** @type {Error} */ error) => {
        listener.selectors.delete(selector);
        listener.handleError(error);
      },
    }));
    const handled = this.messaging.registered().map((handler) => ({
      answered: this.#requests.requestAhead(handler.message),
      drop: (/** @type {Error} */ error) => {
        this.messaging.drop(handler);
        this.#emit('error', error);
      },
    }));
    const observed = this.#sessionListeners.restart().map((listener) => ({
      answered: this.#requests.requestAhead(listener.message),
      drop: (/** @type {Error} */ error) => this.#sessionListeners.drop(listener, error),
    }));
    const asked = [...selections, ...listened, ...handled, ...observed];
    const answers = await Promise.allSettled(asked.map(({ answered }) => answered));
    answers.forEach((answer, index) => {
      if (answer.status === 'fulfilled') return;
      const error = answer.reason;
      if (!(error instanceof RequestError) || error instanceof OverloadedError || error instanceof ShuttingDownError) throw error;
      asked[index].drop(error);
    });
  }

  /**
   * The session cannot be furnished: another one is tried.
   *
   * @param {Error} error
   */
  #giveUp(error) {
    this.#resumption?.pause();
    this.#resumption = undefined;
    const connection = this.#connection;
    // Without one another is on its way.
    if (connection === undefined) return;
    this.#connection = undefined;
    connection.abandon();
    this.#retry({ code: codeOf(error), reason: '' }, error);
  }

  /**
   * @param {Close} close
   * @param {Error} [error]
   */
  #finish({ code, reason, isServers = false }, error) {
    if (this.#state === 'closed') return;
    clearTimeout(this.#retryTimer);
    this.#connection = undefined;
    this.#resumption?.pause();
    this.#resumption = undefined;
    const isClients = this.#isClosing;
    const status = isClients ? 'CLOSED_BY_CLIENT' : isServers && error === undefined ? 'CLOSED_BY_SERVER' : 'CLOSED_FAILED';
    const event = this.#become('closed', { status, code, reason, ...(error && { error }) });
    this.#requests.close('the session is closed', code);
    this.#subscriptions.close();
    this.#listeners.close();
    this.#sessionListeners.close();
    this.messaging.close();
    this.#resolveClosed(event);
  }

  /**
   * The server refused what nobody waits for.
   *
   * @param {Error} error
   */
  #handleError(error) {
    // A handler's answer came too late, and its asker has been told.
    if (!(error instanceof NoSuchRequestError)) this.#emit('error', error);
  }

  /** @param {boolean} isStale */
  #setStale(isStale) {
    if (this.#isStale === isStale) return;
    this.#isStale = isStale;
    this.#emit('staleness', { isStale });
  }

  /**
   * @param {SessionState} state
   * @param {Omit<Partial<StateEvent>, 'state' | 'previous'>} [more]
   * @returns {StateEvent}
   */
  #become(state, more) {
    const event = { state, previous: this.#state, status: STATUSES[state], ...more };
    this.#state = state;
    this.#status = event.status;
    this.#emit('state', event);
    return event;
  }

  /**
   * @template {keyof SessionListeners} K
   * @param {K} event
   * @param {Parameters<SessionListeners[K]>[0]} argument
   */
  #emit(event, argument) {
    for (const listener of this.#observers[event]) {
      try {
        /** @type {(argument: any) => void} */ (listener)(argument);
      } catch (error) {
        reportUncaught(error);
      }
    }
  }
}

/**
 * Whether trying again would fail the same way, take the session from who goes on with it, or bring back what somebody has closed.
 *
 * @param {Close} close
 * @param {Error} [error]
 */
function isFinal(close, error) {
  // A TypeError: what gives the credentials gave none.
  const kinds = [UnsupportedVersionError, AccessDeniedError, TypeError];
  return FINAL.has(close.code) || kinds.some((kind) => error instanceof kind);
}

/** @param {unknown} error */
function codeOf(error) {
  if (error instanceof UnsupportedVersionError) return CloseCode.UNSUPPORTED_VERSION;
  if (error instanceof AuthenticationFailedError) return CloseCode.AUTHENTICATION_FAILED;
  return error instanceof ConnectionError && error.code !== 0 ? error.code : CloseCode.ABNORMAL;
}

/** @param {Welcome | undefined} welcome @returns {Readonly<Limits>} */
function limitsOf(welcome) {
  return Object.freeze({
    messageBytesMax: welcome?.message_bytes_max || Infinity,
    pathBytesMax: welcome?.path_bytes_max || Infinity,
    valueBytesMax: welcome?.value_bytes_max || Infinity,
    selectionsMax: welcome?.selections_max || Infinity,
    fetchPageMax: welcome?.fetch_page_max || Infinity,
  });
}

/** @param {import('./stream.js').StreamCallbacks} callbacks */
function checkCallbacks(callbacks) {
  if (typeof callbacks !== 'object' || callbacks === null) throw new TypeError(`expected the stream's callbacks as an object, found ${show(callbacks)}`);
  for (const name of /** @type {const} */ (['subscription', 'value', 'gap', 'unsubscription', 'close', 'error'])) {
    const callback = callbacks[name];
    if (callback !== undefined && typeof callback !== 'function') {
      throw new TypeError(`expected a function as the stream's ${name}, found ${show(callback)}`);
    }
  }
}
