/**
 * The topic tree, as one session works with it: `session.topics`.
 *
 * Every method checks its arguments, sends one request and settles with its answer: refusals reject with the class of their
 * number, wrong arguments with a `TypeError` before anything is sent.
 *
 * @module
 */

import { InvalidPathError, NoSuchTopicError, IncompatibleTypeError, ValueTooLargeError } from './errors.js';
import { checkPath, checkSpecification, checkText, checkType, decodeValue, encodeValue, evidentType, show } from './types.js';

/** @typedef {import('./types.js').TopicTypeName} TopicTypeName */
/** @typedef {import('./types.js').TopicSpecification} TopicSpecification */

/**
 * @typedef {object} FetchOptions
 * @property {string} [after] results start behind this path
 * @property {number} [first] the most results; the server's page size is the default and the most
 * @property {boolean} [withValues] true unless given
 */

/** @typedef {{ path: string, type: TopicTypeName, value?: any }} FetchedTopic without `value` where there is none */
/** @typedef {{ results: FetchedTopic[], hasMore: boolean }} FetchResult */

/**
 * What the topics need of their session.
 *
 * @typedef {object} TopicsSession
 * @property {(message: (id: number) => import('./codec.js').ClientMessage) => Promise<any>} request
 * @property {() => Readonly<import('./session.js').Limits>} limits
 * @property {(path: string) => TopicTypeName | undefined} typeOf the type of a subscribed topic
 */

/** The topics whose types are remembered; the one added longest ago is forgotten first. */
const REMEMBERED_TYPES_MAX = 10_000;

export class Topics {
  #session;
  /** The types of topics that this session has added or set. @type {Map<string, TopicTypeName>} */
  #types = new Map();

  /** @param {TopicsSession} session */
  constructor(session) {
    this.#session = session;
  }

  /**
   * Adds a topic without a value. There may be one already, if its specification is the same.
   *
   * @param {string} path
   * @param {TopicTypeName | TopicSpecification} specification
   * @returns {Promise<{ path: string, added: boolean }>} `added` is false where it was there
   */
  async add(path, specification) {
    const { type, properties } = checkSpecification(specification);
    const checked = this.#path(path);
    const { created } = await this.#session.request((id) => ({ op: 'add', id, path: checked, type, properties }));
    this.#remember(checked, type);
    return { path: checked, added: created };
  }

  /**
   * Sets the value of a topic that is there.
   *
   * The type may be left out where it is plain: the session is subscribed to the topic, or has added or set it before, or the value
   * can only be of one type. A string may be STRING or JSON and a number JSON, INT64 or DOUBLE, so those need it.
   *
   * @param {string} path
   * @param {any} value
   * @param {TopicTypeName} [type]
   * @returns {Promise<void>}
   */
  async set(path, value, type) {
    const checked = this.#path(path);
    const known = type === undefined ? this.#typeFor(checked, value) : checkType(type);
    const bytes = this.#value(known, value);
    try {
      await this.#session.request((id) => ({ op: 'set', id, path: checked, type: known, value: bytes }));
    } catch (error) {
      // Somebody else may have removed the topic and added one of another type.
      if (error instanceof NoSuchTopicError || error instanceof IncompatibleTypeError) this.#types.delete(checked);
      throw error;
    }
    if (type !== undefined) this.#remember(checked, known);
  }

  /**
   * Adds a topic if it is not there, and sets its value.
   *
   * @param {string} path
   * @param {TopicTypeName | TopicSpecification} specification
   * @param {any} value
   * @returns {Promise<{ path: string, added: boolean }>}
   */
  async addAndSet(path, specification, value) {
    const { type, properties } = checkSpecification(specification);
    const checked = this.#path(path);
    const bytes = this.#value(type, value);
    const { created } = await this.#session.request((id) => ({ op: 'add_and_set', id, path: checked, type, properties, value: bytes }));
    this.#remember(checked, type);
    return { path: checked, added: created };
  }

  /**
   * Removes the topics that a selector matches.
   *
   * @param {string} selector
   * @returns {Promise<{ removedCount: number }>}
   */
  async remove(selector) {
    const checked = checkText(selector, 'a topic selector');
    const { removed } = await this.#session.request((id) => ({ op: 'remove', id, selector: checked }));
    return { removedCount: removed };
  }

  /**
   * Reads topics once, without subscribing: one page of them, in path order.
   *
   * @param {string} selector
   * @param {FetchOptions} [options]
   * @returns {Promise<FetchResult>}
   */
  async fetch(selector, options = {}) {
    const { topics, has_more: hasMore } = await this.#page(selector, options);
    return { results: topics.flatMap(decodeEntry), hasMore };
  }

  /**
   * Reads topics once, page by page, as far as the caller iterates.
   *
   * @param {string} selector
   * @param {FetchOptions} [options] `first` is the size of a page here
   * @returns {AsyncGenerator<FetchedTopic, void, void>}
   */
  async *fetchAll(selector, options = {}) {
    let { after } = options;
    for (;;) {
      const { topics, has_more: hasMore } = await this.#page(selector, { ...options, after });
      yield* topics.flatMap(decodeEntry);
      const last = topics.at(-1);
      if (!hasMore || last === undefined) return;
      after = last.path;
    }
  }

  /**
   * @param {string} selector
   * @param {FetchOptions} options
   * @returns {Promise<{ topics: import('./codec.js').FetchEntry[], has_more: boolean }>}
   */
  async #page(selector, options) {
    const { after = '', first = 0, withValues = true } = checkFetchOptions(options);
    const checked = checkText(selector, 'a topic selector');
    return this.#session.request((id) => ({ op: 'fetch', id, selector: checked, after, first, values: withValues }));
  }

  /** @param {unknown} path */
  #path(path) {
    return checkPath(path, this.#session.limits().pathBytesMax);
  }

  /**
   * @param {TopicTypeName} type
   * @param {unknown} value
   */
  #value(type, value) {
    const bytes = encodeValue(type, value);
    const { valueBytesMax } = this.#session.limits();
    if (bytes.length > valueBytesMax) {
      throw new ValueTooLargeError(`the value has ${bytes.length} bytes and the server takes at most ${valueBytesMax}`);
    }
    return bytes;
  }

  /**
   * @param {string} path
   * @param {unknown} value
   * @returns {TopicTypeName}
   */
  #typeFor(path, value) {
    const type = this.#session.typeOf(path) ?? this.#types.get(path) ?? evidentType(value);
    if (type !== undefined) return type;
    throw new TypeError(`expected the topic's type as third argument: ${show(path)} is not known to this session, and ${show(value)} may be of several types`);
  }

  /**
   * @param {string} path
   * @param {TopicTypeName} type
   */
  #remember(path, type) {
    if (this.#types.size >= REMEMBERED_TYPES_MAX && !this.#types.has(path)) {
      for (const oldest of this.#types.keys()) {
        this.#types.delete(oldest);
        break;
      }
    }
    this.#types.set(path, type);
  }
}

/**
 * None for a topic of a type that only a newer server knows.
 *
 * @param {import('./codec.js').FetchEntry} entry
 * @returns {FetchedTopic[]}
 */
function decodeEntry({ path, type, value }) {
  if (type === undefined) return [];
  return [value === undefined ? { path, type } : { path, type, value: decodeValue(type, value) }];
}

/**
 * @param {FetchOptions} options
 * @returns {FetchOptions}
 */
function checkFetchOptions(options) {
  const { after, first, withValues } = options;
  if (after !== undefined && typeof after !== 'string') throw new TypeError(`expected a path as the option after, found ${show(after)}`);
  if (first !== undefined && (!Number.isSafeInteger(first) || first < 0)) {
    throw new TypeError(`expected a count as the option first, found ${show(first)}`);
  }
  if (withValues !== undefined && typeof withValues !== 'boolean') {
    throw new TypeError(`expected true or false as the option withValues, found ${show(withValues)}`);
  }
  return options;
}
