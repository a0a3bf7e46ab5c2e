/**
 * The topic tree, as one session works with it: `session.topics`.
 *
 * Every method checks its arguments, sends one request and settles with its answer: refusals reject with the class of their
 * number, wrong arguments with a `TypeError` before anything is sent.
 *
 * @module
 */

import { checkConstraint } from './constraint.js';
import { IncompatibleTypeError, NoSuchTopicError, ValueTooLargeError } from './errors.js';
import { FetchRequest } from './fetch.js';
import {
  checkDataType,
  checkPath,
  checkSpecification,
  checkText,
  encodeValue,
  evidentType,
  isNoValue,
  show,
  TopicProperty,
  valueType,
} from './types.js';
import { RecoverableUpdateStream, UpdateStream } from './updates.js';

/** @typedef {import('./types.js').TopicTypeName} TopicTypeName */
/** @typedef {import('./types.js').DataTypeName} DataTypeName */
/** @typedef {import('./types.js').TopicSpecification} TopicSpecification */
/** @typedef {import('./constraint.js').UpdateConstraint} UpdateConstraint */
/** @typedef {import('./fetch.js').FetchOptions} FetchOptions */
/** @typedef {import('./fetch.js').FetchResult} FetchResult */
/** @typedef {import('./fetch.js').FetchedTopic} FetchedTopic */
/** @typedef {import('./listeners.js').Listener} Listener */
/** @typedef {import('./listeners.js').ListenerCallbacks} ListenerCallbacks */

/** @typedef {{ constraint?: UpdateConstraint }} UpdateOptions `constraint`: has to hold, else nothing changes and the update is refused (212) */
/** @typedef {UpdateOptions & { type?: DataTypeName }} SetOptions */
/** @typedef {{ path: string, added: boolean }} AddResult `added` is false where the topic was there */

/**
 * One update of a batch: `value` as `set` takes it, with `specification` as `addAndSet` does, `specification` alone as `add`, `patch` as
 * `applyJsonPatch`.
 *
 * @typedef {object} BatchedUpdate
 * @property {string} path
 * @property {any} [value]
 * @property {DataTypeName} [type]
 * @property {TopicTypeName | TopicSpecification} [specification]
 * @property {string | readonly object[]} [patch]
 * @property {UpdateConstraint} [constraint]
 */

/**
 * @typedef {object} UpdateStreamOptions
 * @property {TopicTypeName | TopicSpecification} [specification] the topic is added with it if there is none
 * @property {DataTypeName} [type] of the values, where there is no specification and `set` would need it
 * @property {UpdateConstraint} [constraint] has to hold when the stream is opened
 * @property {boolean} [suppressDeltas] values are sent whole
 */

/** @typedef {UpdateStreamOptions & { retry?: Partial<import('./updates.js').RetryStrategy> }} RecoverableUpdateStreamOptions */

/**
 * What the topics need of their session.
 *
 * @typedef {object} TopicsSession
 * @property {(message: (id: number) => import('./encode.js').ClientMessage) => Promise<any>} request
 * @property {() => Readonly<import('./session.js').Limits>} limits
 * @property {(path: string) => TopicSpecification | undefined} specificationOf a subscribed topic
 * @property {() => number} sessionNumber another one for each session of the server's; 0 while there is none to go on with
 * @property {import('./listeners.js').Listeners} listeners
 */

/** The topics whose types are remembered; the one added longest ago is forgotten first. */
const REMEMBERED_TYPES_MAX = 10_000;

export class Topics {
  #session;
  #nextStream = 1;
  /** The types of the values of topics that this session has added or set. @type {Map<string, DataTypeName>} */
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
   * @param {UpdateOptions} [options]
   * @returns {Promise<AddResult>}
   */
  async add(path, specification, options = {}) {
    const { type, properties } = checkSpecification(specification);
    const checked = this.path(path);
    const constraint = constraintText(options, valueType({ type, properties }) ?? 'json');
    const { created } = await this.#session.request((id) =>
      constraint === undefined
        ? { op: 'add', id, path: checked, type, properties }
        : { op: 'update', id, path: checked, type, properties, constraint },
    );
    this.#remember(checked, valueType({ type, properties }));
    return { path: checked, added: created };
  }

  /**
   * Sets the value of a topic that is there; `null` sets one of STRING, INT64 or DOUBLE to no value. To a time series it appends an event.
   *
   * The type may be left out where it is plain: the session is subscribed to the topic, or has added or set it before, or the value
   * can only be of one type. A string may be STRING or JSON and a number JSON, INT64 or DOUBLE, so those need it.
   *
   * @param {string} path
   * @param {any} value
   * @param {DataTypeName | SetOptions} [type] or the options, which may name it
   * @param {UpdateOptions} [options]
   * @returns {Promise<void>}
   */
  async set(path, value, type, options = {}) {
    const given = typeof type === 'object' && type !== null ? type : { type, ...options };
    const checked = this.path(path);
    const known = this.typeFor(checked, value, given.type);
    const bytes = this.#nullable(known, value);
    const constraint = constraintText(given, known);
    await this.#update(checked, (id) =>
      constraint === undefined
        ? { op: 'set', id, path: checked, type: known, value: bytes }
        : { op: 'update', id, path: checked, type: known, value: bytes, constraint },
    );
    if (given.type !== undefined) this.#remember(checked, known);
  }

  /**
   * Adds a topic if it is not there, and sets its value.
   *
   * @param {string} path
   * @param {TopicTypeName | TopicSpecification} specification
   * @param {any} value
   * @param {UpdateOptions} [options]
   * @returns {Promise<AddResult>}
   */
  async addAndSet(path, specification, value, options = {}) {
    const { type, properties } = checkSpecification(specification);
    const checked = this.path(path);
    const known = checkValueType({ type, properties });
    const bytes = this.#nullable(known, value);
    const constraint = constraintText(options, known);
    const { created } = await this.#session.request((id) =>
      constraint === undefined
        ? { op: 'add_and_set', id, path: checked, type, properties, value: bytes }
        : { op: 'update', id, path: checked, type, properties, value: bytes, constraint },
    );
    this.#remember(checked, known);
    return { path: checked, added: created };
  }

  /**
   * Changes the value of a JSON topic by a JSON patch (RFC 6902). A patch that cannot be applied changes nothing; the `FailedPatchError` has
   * the index of its operation.
   *
   * @param {string} path
   * @param {string | readonly object[]} patch as text, or its operations
   * @param {UpdateOptions} [options]
   * @returns {Promise<void>}
   */
  async applyJsonPatch(path, patch, options = {}) {
    if (typeof patch !== 'string' && !Array.isArray(patch)) throw new TypeError(`expected a JSON patch as text or an array, found ${show(patch)}`);
    const text = typeof patch === 'string' ? checkText(patch, 'a JSON patch') : JSON.stringify(patch);
    const checked = this.path(path);
    const constraint = constraintText(options, 'json');
    await this.#update(checked, (id) => ({ op: 'update', id, path: checked, patch: text, constraint }));
  }

  /**
   * Sends many updates together. They are carried out in their order, each for itself: one that fails holds up none of the others.
   *
   * @param {readonly BatchedUpdate[]} updates
   * @returns {Promise<PromiseSettledResult<AddResult | void>[]>} what became of each
   */
  batch(updates) {
    // What is asked for in one turn of the event loop goes out as one message.
    return Promise.allSettled(updates.map((update) => this.#batched(update)));
  }

  /**
   * A stream of updates of one topic. It is opened by its first operation, and ends when anybody else updates the topic.
   *
   * @param {string} path
   * @param {UpdateStreamOptions} [options]
   * @returns {UpdateStream}
   */
  updateStream(path, options = {}) {
    return new UpdateStream(this.#updates, this.#target(path, options));
  }

  /**
   * A stream of updates of one topic that can go on after a failure that passes by itself.
   *
   * @param {string} path
   * @param {RecoverableUpdateStreamOptions} [options]
   * @returns {RecoverableUpdateStream}
   */
  recoverableUpdateStream(path, options = {}) {
    return new RecoverableUpdateStream(this.#updates, this.#target(path, options), options.retry);
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
   * @param {FetchOptions} [options] with values unless they say otherwise
   * @returns {Promise<FetchResult>}
   */
  async fetch(selector, options = {}) {
    return this.#fetchRequest({ withValues: true, ...options }).fetch(selector);
  }

  /**
   * Reads topics once, page by page, as far as the caller iterates.
   *
   * @param {string} selector
   * @param {FetchOptions} [options] `first` or `last` is the size of a page here
   * @returns {AsyncGenerator<FetchedTopic, void, void>}
   */
  fetchAll(selector, options = {}) {
    return this.#fetchRequest({ withValues: true, ...options }).fetchAll(selector);
  }

  /** A fetch to be built step by step: of all topics' paths and types, unless it says otherwise. */
  fetchRequest() {
    return this.#fetchRequest({});
  }

  /**
   * Listens to topics getting their first subscriber and losing their last one.
   *
   * @param {string} selector
   * @param {ListenerCallbacks & import('./listeners.js').TopicEventCallbacks} callbacks
   * @returns {Promise<Listener>}
   */
  addTopicEventListener(selector, callbacks) {
    return this.#session.listeners.addSelecting('subscribers', selector, callbacks);
  }

  /**
   * Handles selectors, of any session, that match no topic and lie in a branch. Of several handlers that of the longest branch is told.
   *
   * @param {string} branch
   * @param {ListenerCallbacks & import('./listeners.js').MissingTopicCallbacks} callbacks
   * @returns {Promise<Listener>}
   */
  async addMissingTopicHandler(branch, callbacks) {
    return this.#session.listeners.addSelecting('missing', this.path(branch), callbacks);
  }

  /**
   * @internal
   * @param {unknown} path
   */
  path(path) {
    return checkPath(path, this.#session.limits().pathBytesMax);
  }

  /**
   * A value's bytes, if the server takes so many.
   *
   * @internal
   * @param {DataTypeName} type
   * @param {unknown} value
   */
  encode(type, value) {
    const bytes = encodeValue(type, value);
    const { valueBytesMax } = this.#session.limits();
    if (bytes.length > valueBytesMax) {
      throw new ValueTooLargeError(`the value has ${bytes.length} bytes and the server takes at most ${valueBytesMax}`);
    }
    return bytes;
  }

  /**
   * The type of a topic's values: as given, as known, or the one that the value can only be of.
   *
   * @internal
   * @param {string} path
   * @param {unknown} value
   * @param {DataTypeName | undefined} given
   * @returns {DataTypeName}
   */
  typeFor(path, value, given) {
    if (given !== undefined) return checkDataType(given);
    const type = this.#knownType(path) ?? evidentType(value);
    if (type !== undefined) return type;
    throw new TypeError(`expected the type of the value: the topic ${show(path)} is not known to this session, and ${show(value)} may be of several types`);
  }

  /** @param {string} path */
  #knownType(path) {
    const specification = this.#session.specificationOf(path);
    return specification === undefined ? this.#types.get(path) : valueType(specification);
  }

  /** What update streams need. @type {import('./updates.js').UpdatesSession} */
  #updates = {
    request: (message) => this.#session.request(message),
    sessionNumber: () => this.#session.sessionNumber(),
    nextStream: () => this.#nextStream++,
    encode: (type, value) => this.encode(type, value),
  };

  /** @param {FetchOptions} options */
  #fetchRequest(options) {
    return new FetchRequest((message) => this.#session.request(message), options);
  }

  /**
   * @param {string} path
   * @param {UpdateStreamOptions} options
   * @returns {import('./updates.js').StreamTarget}
   */
  #target(path, options) {
    const { specification, type, suppressDeltas = false } = options;
    const checked = this.path(path);
    if (specification !== undefined) {
      const { type: topicType, properties } = checkSpecification(specification);
      const known = checkValueType({ type: topicType, properties });
      const constraint = constraintText(options, known);
      return { path: checked, type: topicType, valueType: known, properties, constraint, suppressDeltas };
    }
    const known = type === undefined ? this.#knownType(checked) : checkDataType(type);
    if (known === undefined) throw new TypeError(`expected the option specification or type: the topic ${show(checked)} is not known to this session`);
    return { path: checked, type: known, valueType: known, constraint: constraintText(options, known), suppressDeltas };
  }

  /**
   * @param {BatchedUpdate} update
   * @returns {Promise<AddResult | void>}
   */
  async #batched({ path, value, type, specification, patch, constraint }) {
    if (patch !== undefined) return this.applyJsonPatch(path, patch, { constraint });
    if (specification === undefined) return this.set(path, value, { type, constraint });
    return value === undefined ? this.add(path, specification, { constraint }) : this.addAndSet(path, specification, value, { constraint });
  }

  /**
   * @param {string} path
   * @param {(id: number) => import('./encode.js').ClientMessage} message
   */
  async #update(path, message) {
    try {
      await this.#session.request(message);
    } catch (error) {
      // Somebody else may have removed the topic and added one of another type.
      if (error instanceof NoSuchTopicError || error instanceof IncompatibleTypeError) this.#types.delete(path);
      throw error;
    }
  }

  /**
   * @param {DataTypeName} type
   * @param {unknown} value
   */
  #nullable(type, value) {
    return isNoValue(type, value) ? null : this.encode(type, value);
  }

  /**
   * @param {string} path
   * @param {DataTypeName | undefined} type
   */
  #remember(path, type) {
    if (type === undefined) return;
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
 * The JSON form of the options' constraint, for an update with a value of that type.
 *
 * @param {UpdateOptions} options
 * @param {DataTypeName} type
 */
function constraintText({ constraint }, type) {
  return constraint === undefined ? undefined : checkConstraint(constraint).print(type);
}

/**
 * @param {TopicSpecification} specification
 * @returns {DataTypeName}
 */
function checkValueType(specification) {
  const type = valueType(specification);
  if (type !== undefined) return type;
  const name = TopicProperty.TIME_SERIES_EVENT_VALUE_TYPE;
  throw new TypeError(`expected a type of values as the topic property ${name}, found ${show(specification.properties?.[name])}`);
}
