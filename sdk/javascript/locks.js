/**
 * Session locks: of all sessions of the server one holds a name at most. `session.locks`.
 *
 * A lock is released by its holder and with its session. What is written under the constraint `locked` is written only while it is held.
 *
 * @module
 */

import { checkText, show } from './types.js';

/** @typedef {import('./encode.js').ClientMessage} ClientMessage */
/** @typedef {import('./encode.js').LockScopeName} LockScopeName */
/** @typedef {import('./decode.js').LocksAnswer} LocksAnswer */

/** For how long a lock is held that nobody releases. */
export const LockScope = Object.freeze({
  /** Until its session is over. */
  /** @type {'session'} */ SESSION: 'session',
  /** Until the session loses its connection, though it may go on. */
  /** @type {'connection'} */ CONNECTION: 'connection',
});

/**
 * Who holds a lock.
 *
 * @typedef {object} HeldLock
 * @property {string} name
 * @property {string} sessionId
 * @property {number} number of the grant
 * @property {LockScopeName} scope
 * @property {number} waiting how many sessions wait for it
 */

/**
 * What the locks need of their session.
 *
 * @typedef {object} LocksSession
 * @property {(message: (id: number) => ClientMessage, timeoutMs?: number) => Promise<any>} request
 * @property {(path: unknown) => string} path checks it
 * @property {() => number} sessionNumber another one for each session of the server's
 */

/** It may take as long as others hold the lock. */
const NO_TIMEOUT = 0;

export class Locks {
  #session;

  /** @param {LocksSession} session */
  constructor(session) {
    this.#session = session;
  }

  /**
   * Waits for its turn and then holds the lock. A session that holds it already is given the same grant again, and it is still held once.
   *
   * @param {string} name by the rules of topic paths
   * @param {{ scope?: LockScopeName }} [options]
   * @returns {Promise<Lock>} settles when it is held, which has no time-out
   */
  async lock(name, { scope = LockScope.SESSION } = {}) {
    const checked = this.#session.path(name);
    if (!Object.values(LockScope).includes(scope)) throw new TypeError(`expected 'session' or 'connection' as the option scope, found ${show(scope)}`);
    const { number } = await this.#session.request((id) => ({ op: 'lock', id, name: checked, scope }), NO_TIMEOUT);
    const sessionNumber = this.#session.sessionNumber();
    return new Lock(checked, number, async () => {
      // It ended with its session.
      if (this.#session.sessionNumber() !== sessionNumber) return false;
      const { released } = await this.#session.request((id) => ({ op: 'unlock', id, name: checked, number }));
      return released;
    });
  }

  /**
   * All locks that are held, in the order of their names.
   *
   * @returns {Promise<HeldLock[]>}
   */
  async list() {
    /** @type {HeldLock[]} */
    const all = [];
    for (;;) {
      const after = all.at(-1)?.name ?? '';
      /** @type {LocksAnswer} */
      const { has_more: hasMore, locks } = await this.#session.request((id) => ({ op: 'list_locks', id, after }));
      all.push(...locks.map(({ session: sessionId, ...lock }) => ({ ...lock, sessionId })));
      if (!hasMore || locks.length === 0) return all;
    }
  }
}

/** A lock that this session holds, or has held. */
export class Lock {
  #unlock;

  /**
   * @internal
   * @param {string} name
   * @param {number} number
   * @param {() => Promise<boolean>} unlock
   */
  constructor(name, number, unlock) {
    this.name = name;
    /** That of the grant: a later grant of the name has a higher one, as long as the server runs. */
    this.number = number;
    this.#unlock = unlock;
  }

  /**
   * Releases it.
   *
   * @returns {Promise<boolean>} settles when it has passed on; false: it was not held any more
   */
  unlock() {
    return this.#unlock();
  }
}

/**
 * The name and number of a lock, as the constraint says them.
 *
 * @param {unknown} lock
 * @returns {{ name: string, number: number }}
 * @throws {TypeError}
 */
export function checkLock(lock) {
  const { name, number } = /** @type {{ name?: unknown, number?: unknown }} */ (lock ?? {});
  if (!Number.isSafeInteger(number)) throw new TypeError(`expected a lock of session.locks, found ${show(lock)}`);
  return { name: checkText(name, "a lock's name"), number: /** @type {number} */ (number) };
}
