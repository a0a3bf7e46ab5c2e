/**
 * A session's selections, to make them again on a new connection.
 *
 * They are a sequence: each subscription adds what its selector matches, each unsubscription takes it away, and the last one
 * that matches a path decides. What later ones have made meaningless is forgotten, so the sequence stays short.
 *
 * @module
 */

import { Selector } from './selector.js';

/** @typedef {{ op: 'subscribe' | 'unsubscribe', selector: string, parsed: Selector | undefined }} Selection */

/** Selectors of every path, which end all selections when they are unsubscribed. */
const EVERYTHING = new Set(['?.*//', '*.*', '?.+//', '*.+']);

export class Selections {
  /** @type {Selection[]} */
  #sequence = [];

  /** In the order in which they have to be made. @returns {readonly Selection[]} */
  get sequence() {
    return this.#sequence;
  }

  /**
   * Notes one that the server has answered.
   *
   * @param {'subscribe' | 'unsubscribe'} op
   * @param {string} selector
   */
  add(op, selector) {
    // One with the same selector decides about the same paths, so it leaves nothing to the earlier.
    this.remove(selector);
    if (op === 'unsubscribe' && EVERYTHING.has(selector)) {
      this.#sequence = [];
      return;
    }
    const parsed = parse(selector);
    const selection = { op, selector, parsed };
    if (op === 'subscribe' || this.#sequence.some((earlier) => takesFrom(selection, earlier))) this.#sequence.push(selection);
  }

  /**
   * Forgets those with this selector.
   *
   * @param {string} selector
   */
  remove(selector) {
    this.#sequence = this.#sequence.filter((selection) => selection.selector !== selector);
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
