/**
 * Who a client says that it is, and what it shows for that.
 *
 * What is shown stands where only CONNECT finds it: in no member that can be listed, in no error and in no event.
 *
 * @module
 */

import { ConnectionError } from './errors.js';
import { checkText } from './types.js';

/** @typedef {string | { password: string } | { bearer: string }} ShownCredentials a string is a password; `bearer` is a JSON Web Token */
/** @typedef {ShownCredentials | (() => ShownCredentials | Promise<ShownCredentials>)} Credentials a function is asked whenever a session is to begin */
/** @typedef {{ principal?: string, password?: string, bearer?: string }} Shown the members of CONNECT */

/** What a client has to show. */
export class Identity {
  /** @type {string} */
  #principal;
  /** @type {Shown | undefined} */
  #given;
  /** @type {(() => unknown) | undefined} */
  #ask;

  /**
   * @param {unknown} principal
   * @param {unknown} credentials
   * @throws {TypeError}
   */
  constructor(principal = '', credentials = undefined) {
    this.#principal = checkText(principal, 'the option principal');
    if (typeof credentials === 'function') this.#ask = /** @type {() => unknown} */ (credentials);
    else this.#given = this.#members(credentials === undefined ? {} : checkCredentials(credentials));
  }

  /** Empty where none was given. */
  get principal() {
    return this.#principal;
  }

  /** What is shown each time; undefined where a function has to be asked. */
  get given() {
    return this.#given;
  }

  /**
   * What to show now.
   *
   * @param {AbortSignal} [signal] ends the wait for a function
   * @returns {Promise<Shown>} rejects with a `ConnectionError` whose `cause` is what the function has thrown, and with a `TypeError` where it gives no credentials
   */
  async show(signal) {
    if (this.#given !== undefined) return this.#given;
    return this.#members(checkCredentials(await unlessAborted(this.#asked(), signal)));
  }

  async #asked() {
    try {
      return await this.#ask?.();
    } catch (cause) {
      throw new ConnectionError('the function that gives the credentials failed', { cause });
    }
  }

  /**
   * @param {Shown} credentials
   * @returns {Shown}
   */
  #members(credentials) {
    return { principal: this.#principal || undefined, ...credentials };
  }
}

/**
 * @param {unknown} credentials
 * @returns {Shown}
 * @throws {TypeError} which does not say what was found: it may be a secret
 */
function checkCredentials(credentials) {
  const { password, bearer } = typeof credentials === 'string' ? { password: credentials } : /** @type {Partial<Record<string, unknown>>} */ (credentials ?? {});
  const isText = (/** @type {unknown} */ text) => typeof text === 'string' && text !== '';
  if (isText(password) && bearer === undefined) return { password: /** @type {string} */ (password) };
  if (isText(bearer) && password === undefined) return { bearer: /** @type {string} */ (bearer) };
  throw new TypeError('expected a password, { password }, { bearer } or a function that gives one of these as the credentials; none of them is empty');
}

/**
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal} [signal]
 * @returns {Promise<T>}
 */
function unlessAborted(promise, signal) {
  return new Promise((resolve, reject) => {
    const giveUp = () => reject(new ConnectionError('connecting was given up', { cause: signal?.reason }));
    const settle = () => signal?.removeEventListener('abort', giveUp);
    signal?.addEventListener('abort', giveUp);
    if (signal?.aborted) giveUp();
    promise.then(resolve, reject).finally(settle);
  });
}
