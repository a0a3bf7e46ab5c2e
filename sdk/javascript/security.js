/**
 * What roles permit, which roles sessions have by what they are, and which principals the server itself knows: the scripts that the server goes by. `session.security`.
 *
 * @module
 */

import { encodeUtf8 } from './bytes.js';
import { ProtocolError } from './errors.js';
import { checkText, show } from './types.js';

/** @typedef {import('./encode.js').ClientMessage} ClientMessage */
/** @typedef {import('./decode.js').SecurityAnswer} SecurityAnswer */

/**
 * Who wants to be let in, or to be somebody else from now on.
 *
 * @typedef {object} AuthenticationQuestion
 * @property {string} principal who it says that it is; empty where it does not say
 * @property {{ type: 'none' | 'password' | 'token' | 'custom', text?: string, base64?: string }} credentials what it shows: bytes that are no text as `base64`
 * @property {string} address where it comes from
 * @property {string | null} certificate who it is by a certificate that the server has checked
 * @property {Readonly<Record<string, string>>} properties that it proposes for its session
 */

/**
 * What an authenticator says.
 *
 * @typedef {object} AuthenticationAllowed
 * @property {string} [principal] who it is; who it says, unless given
 * @property {readonly string[]} [roles]
 * @property {Readonly<Record<string, string>>} [properties] of its session
 * @property {number} [expiresInSeconds] for how long that holds
 */

/** @typedef {(question: AuthenticationQuestion) => 'deny' | 'abstain' | AuthenticationAllowed | Promise<'deny' | 'abstain' | AuthenticationAllowed>} Authenticator */

export class Security {
  #request;
  #addAuthenticator;

  /**
   * @param {(message: (id: number) => ClientMessage) => Promise<any>} request
   * @param {(name: string, answer: (question: AuthenticationQuestion) => Promise<unknown>) => Promise<import('./messaging.js').RequestHandler>} addAuthenticator
   */
  constructor(request, addAuthenticator) {
    this.#request = request;
    this.#addAuthenticator = addAuthenticator;
  }

  /**
   * Says who others are, where `authentication.chain` of the server has `control:NAME`: who may come in, as whom and with which roles. Of several sessions that do it by one
   * name each question goes to one. What is thrown counts as no answer: what becomes of the client then says `authentication.control_unavailable`.
   *
   * @param {string} name
   * @param {Authenticator} authenticator
   * @returns {Promise<import('./messaging.js').RequestHandler>} settles when questions come; its `close` ends it
   * @throws {import('./errors.js').AccessDeniedError} this needs the permissions AUTHENTICATE and REGISTER_HANDLER
   */
  async addAuthenticator(name, authenticator) {
    const checked = checkText(name, "an authenticator's name");
    if (typeof authenticator !== 'function') throw new TypeError(`expected a function as the authenticator, found ${show(authenticator)}`);
    return this.#addAuthenticator(checked, async (question) => verdictOf(await authenticator(question)));
  }

  /**
   * The script that makes what roles permit from nothing. It comes in parts: where somebody changes it meanwhile, these may not fit together.
   *
   * @returns {Promise<string>}
   */
  script() {
    return this.#read('get_security');
  }

  /**
   * Applies a script, as a whole or not at all.
   *
   * @param {string} script its statements, one a line
   * @returns {Promise<void>} settles when it is stored, and every session has the rights that follow
   * @throws {import('./errors.js').InvalidScriptError} where it cannot be applied: the message names the line and column
   */
  async apply(script) {
    await this.#send('apply_security', script, false);
  }

  /**
   * Whether a script could be applied now; nothing is changed.
   *
   * @param {string} script
   * @returns {Promise<void>} settles where it could be, and rejects as `apply` does where it could not
   * @throws {import('./errors.js').InvalidScriptError}
   */
  async check(script) {
    await this.#send('apply_security', script, true);
  }

  /**
   * The script that makes the principals that the server itself knows from nothing, with hashes of their passwords: it is for nobody who should not guess at these. It comes in parts, as `script` does.
   *
   * @returns {Promise<string>}
   */
  principals() {
    return this.#read('get_principals');
  }

  /**
   * Applies a script to the principals, as a whole or not at all. Sessions that have begun are not touched by it.
   *
   * @param {string} script its statements, one a line
   * @returns {Promise<void>} settles when it is stored
   * @throws {import('./errors.js').InvalidScriptError} where it cannot be applied: the message names the line and column
   */
  async applyPrincipals(script) {
    await this.#send('apply_principals', script, false);
  }

  /**
   * Whether a script could be applied to the principals now; nothing is changed.
   *
   * @param {string} script
   * @returns {Promise<void>} settles where it could be, and rejects as `applyPrincipals` does where it could not
   * @throws {import('./errors.js').InvalidScriptError}
   */
  async checkPrincipals(script) {
    await this.#send('apply_principals', script, true);
  }

  /** @param {'get_security' | 'get_principals'} op */
  async #read(op) {
    let all = '';
    // In bytes: parts are whole lines, so none begins within a character.
    let offset = 0;
    for (;;) {
      const from = offset;
      /** @type {SecurityAnswer} */
      const { has_more: hasMore, script } = await this.#request((id) => ({ op, id, offset: from }));
      all += script;
      offset += encodeUtf8(script).length;
      if (!hasMore) return all;
      // A script with less would mean something else.
      if (script === '') throw new ProtocolError('expected another part of the script, found none');
    }
  }

  /**
   * @param {'apply_security' | 'apply_principals'} op
   * @param {unknown} script
   * @param {boolean} check
   */
  async #send(op, script, check) {
    const text = checkText(script, 'a script');
    await this.#request((id) => ({ op, id, check, script: text }));
  }
}

/**
 * @param {unknown} said
 * @throws {TypeError}
 */
function verdictOf(said) {
  if (said === 'deny' || said === 'abstain') return { verdict: said };
  if (typeof said !== 'object' || said === null) throw new TypeError(`expected 'deny', 'abstain' or an object of an authenticator, found ${show(said)}`);
  const { principal, roles, properties, expiresInSeconds } = /** @type {AuthenticationAllowed} */ (said);
  if (expiresInSeconds !== undefined && !(expiresInSeconds >= 0)) throw new TypeError(`expected seconds as expiresInSeconds, found ${show(expiresInSeconds)}`);
  const seconds = expiresInSeconds === undefined || expiresInSeconds === Infinity ? undefined : Math.floor(expiresInSeconds);
  return { verdict: 'allow', principal, roles, properties, expires_in_s: seconds };
}
