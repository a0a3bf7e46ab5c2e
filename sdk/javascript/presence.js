/**
 * What becomes of others: listeners to sessions and to their queues (`session.clients`), and who is subscribed to topics (`session.presence`).
 *
 * A listener is told first of what is there, then of what changes. In a new session it is made again: it is told so, and then of everything once more.
 *
 * @module
 */

import { ConnectionError, RequestError } from './errors.js';
import { reportUncaught } from './stream.js';
import { checkText, show } from './types.js';

/** @typedef {import('./encode.js').ClientMessage} ClientMessage */
/** @typedef {import('./encode.js').Properties} Properties */
/** @typedef {import('./decode.js').SessionsEvent} SessionsEvent */
/** @typedef {import('./decode.js').PresenceAnswer} PresenceAnswer */

/** What has become of a session that lives on. */
export const SessionEventType = Object.freeze({
  /** It was there when the listener came. */
  /** @type {'present'} */ PRESENT: 'present',
  /** @type {'opened'} */ OPENED: 'opened',
  /** Its properties have changed, and the filter means it now. */
  /** @type {'matched'} */ MATCHED: 'matched',
  /** A property that the listener named has changed. */
  /** @type {'changed'} */ CHANGED: 'changed',
  /** The filter means it no longer: nothing more is told of it. */
  /** @type {'unmatched'} */ UNMATCHED: 'unmatched',
  /** It has lost its connection, and may come back. */
  /** @type {'away'} */ AWAY: 'away',
  /** @type {'back'} */ BACK: 'back',
});

/** @typedef {'present' | 'opened' | 'matched' | 'changed' | 'unmatched' | 'away' | 'back'} SessionEventTypeName */

/** By number. @type {ReadonlyArray<SessionEventTypeName | undefined>} */
const EVENTS = [undefined, 'present', 'opened', 'matched', 'changed', 'unmatched', 'away', 'back'];

/** @typedef {'closed_by_client' | 'connection_lost' | 'expired' | 'closed_by_control' | 'closed_by_server' | 'shutting_down'} SessionEndName why a session is over */

/** By number. @type {ReadonlyArray<SessionEndName | undefined>} */
const ENDS = [undefined, 'closed_by_client', 'connection_lost', 'expired', 'closed_by_control', 'closed_by_server', 'shutting_down'];

/**
 * @typedef {object} SessionEvent
 * @property {string} sessionId
 * @property {SessionEventTypeName} type
 * @property {boolean} isAway
 * @property {Properties} properties those that the listener named; none of `unmatched`, `away` and `back`
 */

/**
 * @typedef {object} QueueEvent
 * @property {string} sessionId
 * @property {boolean} isOver more waits for it than the mark; false: no more than half of that
 * @property {boolean} isConflated whether it was ordered that only newest values wait for it
 * @property {number} queueBytes
 */

/** @typedef {{ path: string, sessionId: string, principal: string }} Present a session that is subscribed; the path is empty where each is told once */
/** @typedef {{ path: string, sessionId: string }} Absent */

/**
 * What every listener may want to be told.
 *
 * @typedef {object} ResetCallbacks
 * @property {() => void} [onReset] a new session has begun: what is there is told again from the start
 * @property {() => void} [onClose] the listener was closed, or its session
 * @property {(error: unknown) => void} [onError] a callback threw, or the server refused the listener when it was made again. Without this
 *   callback the error is reported as uncaught.
 */

/**
 * @typedef {object} SessionCallbacks
 * @property {(event: SessionEvent) => void} [onSession]
 * @property {(sessionId: string, reason: SessionEndName) => void} [onClosed] it is over
 */

/** @typedef {{ onQueue?: (event: QueueEvent) => void }} QueueCallbacks */
/** @typedef {{ onPresence?: (joined: Present[], left: Absent[]) => void }} PresenceCallbacks at most one call a tick */
/** @typedef {ResetCallbacks & SessionCallbacks & QueueCallbacks & PresenceCallbacks} AnyCallbacks */

const CALLBACKS = /** @type {const} */ (['onSession', 'onClosed', 'onQueue', 'onPresence', 'onReset', 'onClose', 'onError']);

/** @typedef {(message: (id: number) => ClientMessage) => Promise<any>} Request */

/** Who is subscribed. */
export class Presence {
  #request;
  #listeners;

  /**
   * @param {Request} request
   * @param {Observers} listeners
   */
  constructor(request, listeners) {
    this.#request = request;
    this.#listeners = listeners;
  }

  /**
   * All sessions that are subscribed to topics that the selector matches, in the order of paths.
   *
   * @param {string} selector
   * @param {{ once?: boolean }} [options] once: each session once, whichever of the topics it is subscribed to
   * @returns {Promise<Present[]>}
   */
  async list(selector, { once = false } = {}) {
    const checked = { selector: checkText(selector, 'a topic selector'), once: checkOnce(once) };
    /** @type {Present[]} */
    const all = [];
    for (;;) {
      const { path = '', sessionId = '' } = all.at(-1) ?? {};
      /** @type {PresenceAnswer} */
      const { has_more: hasMore, present } = await this.#request((id) => ({ op: 'list_presence', id, ...checked, after_path: path, after: sessionId, first: 0 }));
      all.push(...present.map(named));
      if (!hasMore || present.length === 0) return all;
    }
  }

  /**
   * Is told who joins and leaves the topics that the selector matches; those who are there have joined.
   *
   * @param {string} selector
   * @param {ResetCallbacks & PresenceCallbacks} callbacks
   * @param {{ once?: boolean }} [options] once: who joins the first of them, and who leaves the last
   * @returns {Promise<SessionListener>} settles when all who are there were told
   */
  addListener(selector, callbacks, { once = false } = {}) {
    const checked = { selector: checkText(selector, 'a topic selector'), once: checkOnce(once) };
    return this.#listeners.add(callbacks, (listener) => ({ op: 'listen_presence', listener, ...checked }));
  }
}

/** All listeners of a session to what becomes of others. */
export class Observers {
  #request;
  /** By number. @type {Map<number, SessionListener>} */
  #listeners = new Map();
  #next = 1;

  /** @param {Request} request */
  constructor(request) {
    this.#request = request;
  }

  /**
   * @param {AnyCallbacks} callbacks
   * @param {(listener: number) => any} message what makes it, without an id
   * @returns {Promise<SessionListener>}
   */
  async add(callbacks, message) {
    const number = this.#next;
    this.#next += 1;
    const end = () => this.#request((id) => ({ op: 'unlisten_sessions', id, listener: number })).finally(() => this.#listeners.delete(number));
    const listener = new SessionListener(checkCallbacks(callbacks), (id) => ({ ...message(number), id }), end);
    // What is there comes before the answer.
    this.#listeners.set(number, listener);
    try {
      await this.#request(listener.message);
    } catch (error) {
      this.#listeners.delete(number);
      throw error;
    }
    listener.isRegistered = true;
    return listener;
  }

  /** @param {SessionsEvent} event */
  handleEvent(event) {
    this.#listeners.get(event.listener)?.handleEvent(event);
  }

  /**
   * Those that a new session has to make again; they are told so.
   *
   * @returns {SessionListener[]}
   */
  restart() {
    const again = [...this.#listeners.values()].filter(({ isRegistered, closed }) => isRegistered && !closed);
    for (const listener of again) listener.reset();
    return again;
  }

  /**
   * The server does not make a listener again.
   *
   * @param {SessionListener} dropped
   * @param {Error} error
   */
  drop(dropped, error) {
    for (const [number, listener] of this.#listeners) if (listener === dropped) this.#listeners.delete(number);
    dropped.handleError(error);
    dropped.end();
  }

  /** The session is closed. */
  close() {
    for (const listener of this.#listeners.values()) listener.end();
    this.#listeners.clear();
  }
}

/** One listener; it is told until it is closed. */
export class SessionListener {
  #callbacks;
  #end;
  #closed = false;

  /**
   * @internal
   * @param {AnyCallbacks} callbacks
   * @param {(id: number) => ClientMessage} message
   * @param {() => Promise<unknown>} end takes it back from the server
   */
  constructor(callbacks, message, end) {
    this.#callbacks = callbacks;
    /** What makes it. @internal */
    this.message = message;
    /** Whether the server has answered that. @internal */
    this.isRegistered = false;
    this.#end = end;
  }

  /** It was closed, or its session was. */
  get closed() {
    return this.#closed;
  }

  /**
   * Ends listening.
   *
   * @returns {Promise<void>}
   */
  async close() {
    if (this.#closed) return;
    this.end();
    try {
      await this.#end();
    } catch (error) {
      // The server does not know of it any more.
      if (!(error instanceof ConnectionError || error instanceof RequestError)) throw error;
    }
  }

  /**
   * @internal
   * @param {SessionsEvent} event
   */
  handleEvent(event) {
    if (this.#closed) return;
    const { onSession, onClosed, onQueue, onPresence } = this.#callbacks;
    switch (event.op) {
      case 'session_notice': {
        const type = EVENTS[event.what];
        // One that only a newer server knows.
        if (type !== undefined) this.#call(onSession, { sessionId: event.session, type, isAway: event.away, properties: event.properties });
        break;
      }
      case 'session_closed':
        this.#call(onClosed, event.session, ENDS[event.reason]);
        break;
      case 'queue_notice':
        this.#call(onQueue, { sessionId: event.session, isOver: event.over, isConflated: event.conflated, queueBytes: event.queue_bytes });
        break;
      default:
        this.#call(
          onPresence,
          event.joined.map(named),
          event.left.map(({ path, session }) => ({ path, sessionId: session })),
        );
    }
  }

  /** @internal */
  reset() {
    this.#call(this.#callbacks.onReset);
  }

  /** Ends it on this side. @internal */
  end() {
    if (this.#closed) return;
    this.#closed = true;
    this.#call(this.#callbacks.onClose);
  }

  /**
   * @internal
   * @param {unknown} error
   */
  handleError(error) {
    try {
      if (this.#callbacks.onError === undefined) reportUncaught(error);
      else this.#callbacks.onError(error);
    } catch (second) {
      reportUncaught(second);
    }
  }

  /**
   * @param {((...rest: any[]) => void) | undefined} callback
   * @param {...any} rest
   */
  #call(callback, ...rest) {
    try {
      callback?.(...rest);
    } catch (error) {
      this.handleError(error);
    }
  }
}

/** @param {{ path: string, session: string, principal: string }} entry */
function named({ path, session, principal }) {
  return { path, sessionId: session, principal };
}

/** @param {unknown} once */
function checkOnce(once) {
  if (typeof once === 'boolean') return once;
  throw new TypeError(`expected true or false as the option once, found ${show(once)}`);
}

/**
 * @param {AnyCallbacks} callbacks
 * @returns {AnyCallbacks}
 */
function checkCallbacks(callbacks) {
  if (typeof callbacks !== 'object' || callbacks === null) throw new TypeError(`expected an object of callbacks, found ${show(callbacks)}`);
  for (const name of CALLBACKS) {
    const callback = callbacks[name];
    if (callback !== undefined && typeof callback !== 'function') throw new TypeError(`expected a function as ${name}, found ${show(callback)}`);
  }
  return { ...callbacks };
}
