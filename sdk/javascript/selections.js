/**
 * A session's selections, to make them again in a new one of the server's.
 *
 * They are a sequence: each subscription adds what its selector matches, each unsubscription takes it away, and the last one
 * that matches a path decides. What later ones have made meaningless is forgotten, so the sequence stays short. Each scope has a sequence of its
 * own, which those of other scopes leave alone.
 *
 * @module
 */

import { Selector } from './selector.js';

/** @typedef {{ op: 'subscribe' | 'unsubscribe', selector: string, scope: string, parsed: Selector | undefined }} Selection */

/** Selectors of every path, which end all selections when they are unsubscribed. */
const EVERYTHING = new Set(['?.*//', '*.*', '?.+//', '*.+']);

export class Selections {
  /** By scope; one without selections has none. @type {Map<string, Selection[]>} */
  #scopes = new Map();

  /** In the order in which they have to be made. @returns {readonly Selection[]} */
  get sequence() {
    return [...this.#scopes.values()].flat();
  }

  /**
   * Notes one that the server has answered.
   *
   * @param {'subscribe' | 'unsubscribe'} op
   * @param {string} selector
   * @param {string} scope
   */
  add(op, selector, scope) {
    // One with the same selector decides about the same paths, so it leaves nothing to the earlier.
    this.remove(selector, scope);
    if (op === 'unsubscribe' && EVERYTHING.has(selector)) {
      this.#scopes.delete(scope);
      return;
    }
    const selection = { op, selector, scope, parsed: parse(selector) };
    const sequence = this.#scopes.get(scope) ?? [];
    if (op === 'subscribe' || sequence.some((earlier) => takesFrom(selection, earlier))) this.#scopes.set(scope, [...sequence, selection]);
  }

  /**
   * Notes an unsubscription in every scope.
   *
   * @param {string} selector
   */
  unsubscribeAllScopes(selector) {
    for (const scope of [...this.#scopes.keys()]) this.add('unsubscribe', selector, scope);
  }

  /**
   * Forgets those of the scope with this selector.
   *
   * @param {string} selector
   * @param {string} scope
   */
  remove(selector, scope) {
    const left = (this.#scopes.get(scope) ?? []).filter((selection) => selection.selector !== selector);
    if (left.length > 0) this.#scopes.set(scope, left);
    else this.#scopes.delete(scope);
  }
}

/**
 * @param {Selection} unsubscription
 * @param {Selection} earlier
 */
function takesFrom(unsubscription, earlier) {
  if (earlier.op !== 'subscribe') return false;
  if (unsubscription.parsed === undefined || earlier.parsed === undefined) return true;
  return unsubscription.parsed.mayOverlap(earlier.parsed);
}

/**
 * The server takes selectors that this side cannot match, such as those with a class within a class.
 *
 * @param {string} selector
 */
function parse(selector) {
  try {
    return Selector.parse(selector);
  } catch {
    return undefined;
  }
}
