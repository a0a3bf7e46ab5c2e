/**
 * Topic views: rules by which the server makes topics out of others. `session.views`.
 *
 * @module
 */

import { NoSuchViewError } from './errors.js';
import { checkText } from './types.js';

/** @typedef {import('./encode.js').ClientMessage} ClientMessage */
/** @typedef {import('./decode.js').ViewEntry} ViewEntry */
/** @typedef {import('./decode.js').ViewsAnswer} ViewsAnswer */

/**
 * A view, and what it does at present. The counts begin with the view, or with the server's start.
 *
 * @typedef {object} TopicView
 * @property {string} name
 * @property {string} definition
 * @property {number} place order of creation, from 1; of two views that make one path, the smaller place wins
 * @property {boolean} isDormant it waits for the remote server that it maps from
 * @property {number} sources topics that it maps
 * @property {number} references topics that it makes
 * @property {number} evaluations of a source's value
 * @property {number} failures evaluations that made no topic because of an error
 * @property {string} [lastFailure] a source's path and what was wrong
 */

/**
 * What the views need of their session.
 *
 * @typedef {object} ViewsSession
 * @property {(message: (id: number) => ClientMessage) => Promise<any>} request
 */

export class TopicViews {
  #session;

  /** @param {ViewsSession} session */
  constructor(session) {
    this.#session = session;
  }

  /**
   * Makes a view, or gives the one of that name another definition; that keeps its place.
   *
   * @param {string} name
   * @param {string} definition such as `map ?prices// to by_name/<scalar(/name)>`; where it does not parse, the error's `position` is the
   *   byte offset in it
   * @returns {Promise<{ created: boolean }>} false: it replaced one
   */
  async createView(name, definition) {
    const [checked, text] = [checkName(name), checkText(definition, "a view's definition")];
    const { created } = await this.#session.request((id) => ({ op: 'create_view', id, name: checked, definition: text }));
    return { created };
  }

  /**
   * Removes a view, and the topics that it makes.
   *
   * @param {string} name
   * @returns {Promise<boolean>} false: there was none of that name
   */
  async removeView(name) {
    const checked = checkName(name);
    const { removed } = await this.#session.request((id) => ({ op: 'remove_view', id, name: checked }));
    return removed > 0;
  }

  /**
   * All views, in the order of their places.
   *
   * @returns {Promise<TopicView[]>}
   */
  async listViews() {
    /** @type {TopicView[]} */
    const all = [];
    for (;;) {
      const after = all.at(-1)?.place ?? 0;
      /** @type {ViewsAnswer} */
      const { has_more: hasMore, views } = await this.#session.request((id) => ({ op: 'list_views', id, after }));
      all.push(...views.map(topicView));
      if (!hasMore || views.length === 0) return all;
    }
  }

  /**
   * @param {string} name
   * @returns {Promise<TopicView | null>} null: there is none of that name
   */
  async getView(name) {
    const checked = checkName(name);
    try {
      /** @type {ViewsAnswer} */
      const { views } = await this.#session.request((id) => ({ op: 'get_view', id, name: checked }));
      return views.length === 0 ? null : topicView(views[0]);
    } catch (error) {
      if (error instanceof NoSuchViewError) return null;
      throw error;
    }
  }
}

/** @param {unknown} name */
function checkName(name) {
  return checkText(name, "a view's name");
}

/**
 * @param {ViewEntry} entry
 * @returns {TopicView}
 */
function topicView({ dormant, last_failure: lastFailure, ...entry }) {
  return { ...entry, isDormant: dormant, ...(lastFailure !== '' && { lastFailure }) };
}
