/**
 * What roles permit, which roles sessions have by what they are, and which principals the server itself knows: the scripts that the server goes by. `session.security`.
 *
 * @module
 */

import { encodeUtf8 } from './bytes.js';
import { ProtocolError } from './errors.js';
import { checkText } from './types.js';

/** @typedef {import('./encode.js').ClientMessage} ClientMessage */
/** @typedef {import('./decode.js').SecurityAnswer} SecurityAnswer */

export class Security {
  #request;

  /** @param {(message: (id: number) => ClientMessage) => Promise<any>} request */
  constructor(request) {
    this.#request = request;
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
