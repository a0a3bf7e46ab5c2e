/**
 * Looking at the sessions of the server and steering them: `session.clients`.
 *
 * Which are meant is said by the id of one, or by a filter over their properties.
 *
 * @module
 */

import { checkKeys } from './messaging.js';
import { checkText, show } from './types.js';

/** @typedef {import('./encode.js').ClientMessage} ClientMessage */
/** @typedef {import('./encode.js').Meant} Meant */
/** @typedef {import('./decode.js').SessionEntry} SessionEntry */
/** @typedef {import('./decode.js').SelectionEntry} SelectionEntry one of a session's selections, in its scope; `filter` is a topic filter of MQTT */

/**
 * One session by its id, or all that a filter means, such as `Tier is 'gold' and not ($Transport eq 'TCP' or has Desk)`.
 *
 * @typedef {{ session: string, filter?: undefined } | { filter: string, session?: undefined }} Target
 */

/**
 * A session, and how far behind it is.
 *
 * @typedef {object} ClientSession
 * @property {string} sessionId
 * @property {boolean} isAway it has no connection now
 * @property {Readonly<Record<string, string>>} properties fixed ones, whose keys begin with `$`, and those that clients gave it
 * @property {number} subscriptions topics that it is subscribed to
 * @property {number} queueBytes what waits for it
 * @property {number} sentBytes
 * @property {number} conflations how often older values gave way to newer ones
 * @property {boolean} isConflated others have ordered that only a topic's newest value waits for it
 * @property {number} dropped messages of MQTT that there was no room for, and gaps
 * @property {number} sentBytesPerSecond since anybody looked at it before
 * @property {number} [idleMs] for how long its client was not heard, or it is away; undefined where nobody knows
 */

/**
 * @typedef {object} ListOptions
 * @property {string} [filter] all sessions, unless given
 * @property {string} [after] behind the session of this id: the last of the page before
 * @property {number} [first] at most so many; the server's page size caps it, and stands where it is left out
 * @property {boolean} [slowest] those for which most bytes wait, first of all the slowest; `after` does not count then
 */

/**
 * What the clients need of their session.
 *
 * @typedef {object} ClientsSession
 * @property {(message: (id: number) => ClientMessage) => Promise<any>} request
 * @property {import('./presence.js').Observers} listeners
 */

export class Clients {
  #session;

  /** @param {ClientsSession} session */
  constructor(session) {
    this.#session = session;
  }

  /**
   * One page of the sessions.
   *
   * @param {ListOptions} [options]
   * @returns {Promise<{ hasMore: boolean, sessions: ClientSession[] }>}
   */
  async list({ filter = '', after = '', first = 0, slowest = false } = {}) {
    const [text, behind] = [checkText(filter, 'a session filter'), checkText(after, "a session's id")];
    if (!Number.isSafeInteger(first) || first < 0) throw new TypeError(`expected a count of at least 0 as the option first, found ${show(first)}`);
    const isSlowest = checkBoolean(slowest, 'the option slowest');
    /** @type {import('./decode.js').SessionsAnswer} */
    const { has_more: hasMore, sessions } = await this.#session.request((id) => ({
      op: 'list_sessions',
      id,
      filter: text,
      after: behind,
      first,
      slowest: isSlowest,
    }));
    return { hasMore, sessions: sessions.map(clientSession) };
  }

  /**
   * One page of what a session selects, in its order.
   *
   * @param {string} session its id
   * @param {{ after?: number, first?: number }} [options] `after`: how many were read before
   * @returns {Promise<{ hasMore: boolean, selections: SelectionEntry[] }>}
   */
  async selections(session, { after = 0, first = 0 } = {}) {
    const id = checkText(session, "a session's id");
    for (const [name, count] of Object.entries({ after, first })) {
      if (!Number.isSafeInteger(count) || count < 0) throw new TypeError(`expected a count of at least 0 as the option ${name}, found ${show(count)}`);
    }
    /** @type {import('./decode.js').SelectionsAnswer} */
    const { has_more: hasMore, selections } = await this.#session.request((number) => ({ op: 'list_selections', id: number, session: id, after, first }));
    return { hasMore, selections };
  }

  /**
   * Ends sessions for good, also those that have no connection now.
   *
   * @param {Target} target
   * @param {string} [reason] that their clients are told
   * @returns {Promise<number>} how many
   */
  close(target, reason = '') {
    return this.#order(target, (meant) => ({ op: 'close_sessions', ...meant, message: checkText(reason, 'the reason') }));
  }

  /**
   * Sets properties of sessions. The empty string takes one away.
   *
   * @param {Target} target
   * @param {Readonly<Record<string, string>>} properties keys begin with a letter
   * @returns {Promise<number>} how many
   */
  setProperties(target, properties) {
    return this.#order(target, (meant) => ({ op: 'set_session_properties', ...meant, properties: checkSessionProperties(properties) }));
  }

  /**
   * Takes roles from sessions and gives them others, until their clients show anew who they are. A role that a session has, or has not, stays as it is.
   *
   * @param {Target} target
   * @param {{ add?: readonly string[], remove?: readonly string[] }} roles one that is in both is given
   * @returns {Promise<number>} how many
   */
  changeRoles(target, roles) {
    return this.#order(target, (meant) => ({ op: 'change_roles', ...meant, ...checkRoles(roles) }));
  }

  /**
   * Has only the newest value of a topic wait for sessions, where the topic's CONFLATION allows that, or undoes it.
   *
   * @param {Target} target
   * @param {boolean} isConflated
   * @returns {Promise<number>} how many
   */
  setConflated(target, isConflated) {
    return this.#order(target, (meant) => ({ op: 'conflate_sessions', ...meant, conflated: checkBoolean(isConflated, 'isConflated') }));
  }

  /**
   * Subscribes sessions, as if they had asked themselves.
   *
   * @param {Target} target
   * @param {string} selector
   * @param {string} [scope]
   * @returns {Promise<number>} how many
   */
  subscribe(target, selector, scope = '') {
    return this.#order(target, (meant) => ({ op: 'subscribe_sessions', ...meant, ...checkSelection(selector, scope) }));
  }

  /**
   * Takes what a selector matches out of the subscriptions of sessions.
   *
   * @param {Target} target
   * @param {string} selector
   * @param {string} [scope]
   * @returns {Promise<number>} how many
   */
  unsubscribe(target, selector, scope = '') {
    return this.#order(target, (meant) => ({ op: 'unsubscribe_sessions', ...meant, ...checkSelection(selector, scope) }));
  }

  /**
   * Is told of sessions: first of those that are there, then of what becomes of them.
   *
   * @param {import('./presence.js').ResetCallbacks & import('./presence.js').SessionCallbacks} callbacks
   * @param {{ filter?: string, sessionProperties?: string[] }} [options] all sessions, and none of their properties, unless given; `ALL_FIXED_PROPERTIES` and
   *   `ALL_USER_PROPERTIES` stand for all of a kind
   * @returns {Promise<import('./presence.js').SessionListener>} settles when all that is there was told
   */
  async addSessionListener(callbacks, { filter = '', sessionProperties = [] } = {}) {
    const [text, keys] = [checkText(filter, 'a session filter'), checkKeys(sessionProperties)];
    return this.#session.listeners.add(callbacks, (listener) => ({ op: 'listen_sessions', listener, filter: text, session_properties: keys }));
  }

  /**
   * Is told of sessions for which much waits, and when it does no longer.
   *
   * @param {import('./presence.js').ResetCallbacks & import('./presence.js').QueueCallbacks} callbacks
   * @param {{ filter?: string }} [options] all sessions, unless given
   * @returns {Promise<import('./presence.js').SessionListener>} settles when those were told for which much waits now
   */
  async addQueueListener(callbacks, { filter = '' } = {}) {
    const text = checkText(filter, 'a session filter');
    return this.#session.listeners.add(callbacks, (listener) => ({ op: 'listen_queues', listener, filter: text }));
  }

  /**
   * @param {Target} target
   * @param {(meant: Meant) => any} order everything but the id
   * @returns {Promise<number>}
   */
  async #order(target, order) {
    const message = order(checkTarget(target));
    const { asked } = await this.#session.request((id) => ({ ...message, id }));
    return asked;
  }
}

/**
 * @param {unknown} properties
 * @returns {Readonly<Record<string, string>>}
 * @throws {TypeError}
 */
export function checkSessionProperties(properties) {
  if (typeof properties !== 'object' || properties === null || Array.isArray(properties)) {
    throw new TypeError(`expected the session's properties as an object, found ${show(properties)}`);
  }
  for (const [key, value] of Object.entries(properties)) checkText(value, `the session property ${key}`);
  return /** @type {Readonly<Record<string, string>>} */ ({ ...properties });
}

/**
 * @param {Target} target
 * @returns {Meant}
 */
function checkTarget(target) {
  const { session, filter } = target ?? {};
  if ((session === undefined) === (filter === undefined)) throw new TypeError(`expected { session } or { filter }, found ${show(target)}`);
  const [text, what] = session === undefined ? [filter, 'a session filter'] : [session, "a session's id"];
  // To the server an empty text is the one that is not meant.
  if (checkText(text, what) === '') throw new TypeError(`expected ${what}, found ''`);
  return { session: session ?? '', filter: filter ?? '' };
}

/**
 * @param {unknown} roles
 * @returns {{ remove: string[], add: string[] }}
 */
function checkRoles(roles) {
  if (typeof roles !== 'object' || roles === null) throw new TypeError(`expected { add, remove } as the change of roles, found ${show(roles)}`);
  const { add = [], remove = [] } = /** @type {{ add?: unknown, remove?: unknown }} */ (roles);
  return { remove: checkNames(remove, 'remove'), add: checkNames(add, 'add') };
}

/**
 * @param {unknown} names
 * @param {string} option
 * @returns {string[]}
 */
function checkNames(names, option) {
  if (!Array.isArray(names)) throw new TypeError(`expected an array of roles as the option ${option}, found ${show(names)}`);
  return names.map((name) => checkText(name, 'a role'));
}

/**
 * @param {unknown} selector
 * @param {unknown} scope
 */
function checkSelection(selector, scope) {
  return { selector: checkText(selector, 'a topic selector'), scope: checkText(scope, 'a scope') };
}

/**
 * @param {unknown} value
 * @param {string} what
 */
function checkBoolean(value, what) {
  if (typeof value === 'boolean') return value;
  throw new TypeError(`expected true or false as ${what}, found ${show(value)}`);
}

/**
 * @param {SessionEntry} entry
 * @returns {ClientSession}
 */
function clientSession({ session, away, properties, subscriptions, conflations, dropped, ...entry }) {
  const { queue_bytes: queueBytes, sent_bytes: sentBytes, sent_bytes_per_s: sentBytesPerSecond, idle_ms: idleMs } = entry;
  const counts = { subscriptions, queueBytes, sentBytes, conflations, dropped, sentBytesPerSecond, idleMs };
  return { sessionId: session, isAway: away, properties, isConflated: entry.conflated, ...counts };
}
