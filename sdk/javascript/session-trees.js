/**
 * Session trees: by branch mapping tables the same paths mean other topics to other sessions. `session.sessionTrees`.
 *
 * @module
 */

import { checkText, show } from './types.js';

/** @typedef {import('./encode.js').ClientMessage} ClientMessage */
/** @typedef {import('./decode.js').SessionTreeAnswer} SessionTreeAnswer */
/** @typedef {import('./decode.js').SessionTreesAnswer} SessionTreesAnswer */

/**
 * One row of a table: the sessions that the filter means find below the table's branch what is below this branch of topics.
 *
 * @typedef {object} BranchMapping
 * @property {string} sessionFilter such as `Tier is 'gold'`
 * @property {string} topicTreeBranch
 */

/**
 * What the session trees need of their session.
 *
 * @typedef {object} SessionTreesSession
 * @property {(message: (id: number) => ClientMessage) => Promise<any>} request
 * @property {(path: unknown) => string} path checks it
 */

export class SessionTrees {
  #session;

  /** @param {SessionTreesSession} session */
  constructor(session) {
    this.#session = session;
  }

  /**
   * Puts a table in the place of the one that its branch has. For each session the first row counts whose filter means it; one that no row means finds the topics of
   * the branch itself.
   *
   * @param {string} sessionTreeBranch a branch of paths, by the rules of topic paths
   * @param {readonly BranchMapping[]} branchMappings
   * @returns {Promise<void>} settles when the table is stored, and every session has been looked at
   * @throws {import('./errors.js').InvalidBranchMappingError} for a row that is wrong: with the place in its filter or branch
   */
  async putBranchMappingTable(sessionTreeBranch, branchMappings) {
    const branch = this.#session.path(sessionTreeBranch);
    if (!Array.isArray(branchMappings)) throw new TypeError(`expected a list of branch mappings, found ${show(branchMappings)}`);
    const mappings = branchMappings.map((row) => ({
      filter: checkText(row?.sessionFilter, 'the sessionFilter of a branch mapping'),
      branch: checkText(row?.topicTreeBranch, 'the topicTreeBranch of a branch mapping'),
    }));
    await this.#session.request((id) => ({ op: 'put_session_tree', id, branch, mappings }));
  }

  /**
   * Takes the table of a branch away, if it has one: its paths mean themselves to all.
   *
   * @param {string} sessionTreeBranch
   * @returns {Promise<void>}
   */
  removeBranchMappingTable(sessionTreeBranch) {
    return this.putBranchMappingTable(sessionTreeBranch, []);
  }

  /**
   * The rows of a branch's table, in their order; none where it has no table.
   *
   * @param {string} sessionTreeBranch
   * @returns {Promise<BranchMapping[]>}
   */
  async getBranchMappingTable(sessionTreeBranch) {
    const branch = this.#session.path(sessionTreeBranch);
    /** @type {SessionTreeAnswer} */
    const { mappings } = await this.#session.request((id) => ({ op: 'get_session_tree', id, branch }));
    return mappings.map((row) => ({ sessionFilter: row.filter, topicTreeBranch: row.branch }));
  }

  /**
   * The branches that have a table, in path order.
   *
   * @returns {Promise<string[]>}
   */
  async getSessionTreeBranchesWithMappings() {
    /** @type {string[]} */
    const all = [];
    for (;;) {
      const after = all.at(-1) ?? '';
      /** @type {SessionTreesAnswer} */
      const { has_more: hasMore, branches } = await this.#session.request((id) => ({ op: 'list_session_trees', id, after }));
      all.push(...branches.map(({ branch }) => branch));
      if (!hasMore || branches.length === 0) return all;
    }
  }
}
