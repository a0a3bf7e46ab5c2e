/**
 * Fetches: reading topics once, without subscribing to them.
 *
 * A request says which part of the tree is wanted, and what of each topic. It is built step by step and does not change: each step makes
 * another one, so a request can be kept and used again.
 *
 * @module
 */

import { ProtocolError } from './errors.js';
import { canRead, checkDataType, checkText, checkType, decodeValue, show, TopicType, typeNumber, valueType } from './types.js';

/** @typedef {import('./types.js').TopicTypeName} TopicTypeName */
/** @typedef {import('./types.js').DataTypeName} DataTypeName */
/** @typedef {import('./decode.js').FetchAnswer} FetchAnswer */
/** @typedef {import('./decode.js').FetchEntry} FetchEntry */

/**
 * One topic. `value` is left out where it has none or none was asked for, the others where they were not asked for.
 *
 * @typedef {object} FetchedTopic
 * @property {string} path
 * @property {TopicTypeName} type
 * @property {any} [value] of a time series its latest event's
 * @property {Readonly<Required<import('./types.js').TopicSpecification>>} [specification]
 * @property {number} [size] of the value, in bytes
 */

/** @typedef {{ results: FetchedTopic[], hasMore: boolean }} FetchResult `hasMore`: the range holds more than the results */

/**
 * What is asked for. Of `from` and `after`, `to` and `before`, `first` and `last` only one can be given.
 *
 * @typedef {object} FetchOptions
 * @property {string} [from] results start at this path
 * @property {string} [after] results start behind this path
 * @property {string} [to] results end at this path
 * @property {string} [before] results end before this path
 * @property {number} [first] the most results; the server's page size is the default and the most
 * @property {number} [last] the most results, taken from the end
 * @property {readonly TopicTypeName[]} [topicTypes]
 * @property {boolean | DataTypeName} [withValues] a type: only topics that can be read as it
 * @property {boolean} [withProperties]
 * @property {boolean} [withSizes]
 * @property {{ depth: number, count: number }} [limitDeepBranches]
 * @property {number} [maximumResultBytes]
 */

/** No path in use comes behind it. */
const LAST_CHARACTER = '\u{10FFFF}';

const PATHS = /** @type {const} */ (['from', 'after', 'to', 'before']);
const EXCLUSIVE = /** @type {const} */ ([['from', 'after'], ['to', 'before'], ['first', 'last']]);

/** Made by `session.topics.fetchRequest()`. */
export class FetchRequest {
  #request;
  #options;

  /**
   * @internal
   * @param {(message: (id: number) => import('./encode.js').ClientMessage) => Promise<any>} request
   * @param {FetchOptions} options
   */
  constructor(request, options) {
    this.#request = request;
    this.#options = checkOptions(options);
  }

  /** Results start at `path`, which need not be a topic. @param {string} path */
  from(path) {
    return this.#with({ from: path, after: undefined });
  }

  /** Results start behind `path`. @param {string} path */
  after(path) {
    return this.#with({ after: path, from: undefined });
  }

  /** Results end at `path`. @param {string} path */
  to(path) {
    return this.#with({ to: path, before: undefined });
  }

  /** Results end before `path`. @param {string} path */
  before(path) {
    return this.#with({ before: path, to: undefined });
  }

  /** At most `count` results, from the start of the range. @param {number} count */
  first(count) {
    return this.#with({ first: count, last: undefined });
  }

  /** At most `count` results, from the end of the range. @param {number} count */
  last(count) {
    return this.#with({ last: count, first: undefined });
  }

  /** Only topics of these types. @param {...TopicTypeName} types */
  topicTypes(...types) {
    return this.#with({ topicTypes: types });
  }

  /**
   * Results have values. With a type, only topics that can be read as it are results: `json` reads STRING, INT64 and DOUBLE as well.
   *
   * @param {DataTypeName} [type]
   */
  withValues(type) {
    return this.#with({ withValues: type ?? true });
  }

  /** Results have specifications. */
  withProperties() {
    return this.#with({ withProperties: true });
  }

  /** Results have the sizes of their values. */
  withSizes() {
    return this.#with({ withSizes: true });
  }

  /**
   * Of each branch whose root has `depth` segments at most the first `count` results.
   *
   * @param {number} depth
   * @param {number} count
   */
  limitDeepBranches(depth, count) {
    return this.#with({ limitDeepBranches: { depth, count } });
  }

  /** Results end where their bytes would be more. @param {number} bytes */
  maximumResultBytes(bytes) {
    return this.#with({ maximumResultBytes: bytes });
  }

  /**
   * One page, in path order.
   *
   * @param {string} selector
   * @returns {Promise<FetchResult>}
   */
  async fetch(selector) {
    const { topics, has_more: hasMore } = await this.#page(selector, this.#options);
    return { results: topics.flatMap((entry) => this.#decode(entry)), hasMore };
  }

  /**
   * Page by page, as far as the caller iterates: in path order, or with `last` from the end in reverse order. `first` and `last` are the
   * size of a page here.
   *
   * @param {string} selector
   * @returns {AsyncGenerator<FetchedTopic, void, void>}
   */
  async *fetchAll(selector) {
    let options = this.#options;
    const backwards = options.last !== undefined;
    const branches = new BranchCounter(backwards ? undefined : options.limitDeepBranches);
    for (;;) {
      const { topics, has_more: hasMore } = await this.#page(selector, options);
      if (backwards) topics.reverse();
      for (const entry of topics) if (branches.admits(entry.path)) yield* this.#decode(entry);
      const path = topics.at(-1)?.path;
      if (!hasMore) return;
      if (path === undefined) throw new ProtocolError('the server says that there are more results, and gave none of them');
      options = backwards ? { ...options, before: path, to: undefined } : { ...options, after: branches.endOf(path), from: undefined };
    }
  }

  /** @param {FetchOptions} changes */
  #with(changes) {
    return new FetchRequest(this.#request, { ...this.#options, ...changes });
  }

  /**
   * @param {string} selector
   * @param {FetchOptions} options
   * @returns {Promise<FetchAnswer>}
   */
  async #page(selector, options) {
    const checked = checkText(selector, 'a topic selector');
    const fields = messageFields(options);
    return this.#request((id) => ({ op: 'fetch', id, selector: checked, ...fields }));
  }

  /**
   * None for a topic of a type that only a newer server knows.
   *
   * @param {FetchEntry} entry
   * @returns {FetchedTopic[]}
   */
  #decode({ path, type, value, properties = {}, size }) {
    if (type === undefined) return [];
    /** @type {FetchedTopic} */
    const result = { path, type };
    const readAs = valueType({ type, properties });
    if (value !== undefined && readAs !== undefined) result.value = decodeValue(readAs, value);
    if (this.#options.withProperties) result.specification = { type, properties };
    if (size !== undefined) result.size = size;
    return [result];
  }
}

/** Counts the results of a branch over the ends of pages: the server counts anew in each. */
class BranchCounter {
  #limit;
  /** @type {string | undefined} */
  #branch;
  #count = 0;

  /** @param {{ depth: number, count: number } | undefined} limit */
  constructor(limit) {
    this.#limit = limit;
  }

  /** @param {string} path */
  admits(path) {
    if (this.#limit === undefined) return true;
    const branch = this.#branchOf(path);
    // In path order a branch stands together.
    this.#count = branch === this.#branch ? this.#count + 1 : 1;
    this.#branch = branch;
    return branch === undefined || this.#count <= this.#limit.count;
  }

  /**
   * Behind which path to go on after a page that ends with `path`: where its branch is full, behind all of the branch.
   *
   * @param {string} path
   */
  endOf(path) {
    const isFull = this.#limit !== undefined && this.#branch !== undefined && this.#count >= this.#limit.count;
    return isFull ? `${this.#branch}/${LAST_CHARACTER}` : path;
  }

  /**
   * Undefined for a path above all branches.
   *
   * @param {string} path
   */
  #branchOf(path) {
    const segments = path.split('/');
    const depth = this.#limit?.depth ?? 0;
    return segments.length < depth ? undefined : segments.slice(0, depth).join('/');
  }
}

/** @param {FetchOptions} options */
function messageFields(options) {
  const { after = '', first = 0, withValues = false, withProperties, withSizes, limitDeepBranches, maximumResultBytes } = options;
  const types = wantedTypes(options);
  const values = withValues !== false;
  // Only its properties say of which type the value of a time series is; most topics have none to send.
  const properties = withProperties || values;
  const given = {
    ...(properties && { with_properties: true }),
    ...(withSizes && { sizes: true }),
    from: options.from,
    to: options.to,
    before: options.before,
    last: options.last,
    types,
    depth: limitDeepBranches?.depth,
    depth_limit: limitDeepBranches?.count,
    bytes_max: maximumResultBytes,
  };
  return { after, first, values, ...given };
}

/**
 * The types of the topics wanted; undefined for all.
 *
 * @param {FetchOptions} options
 */
function wantedTypes({ topicTypes, withValues }) {
  if (typeof withValues !== 'string') return topicTypes;
  const types = topicTypes ?? /** @type {TopicTypeName[]} */ (Object.values(TopicType).filter((type) => type !== 'time_series'));
  const readable = types.filter((type) => type === 'time_series' || canRead(withValues, type));
  if (readable.length > 0) return readable;
  throw new TypeError(`expected topic types that can be read as ${withValues}, found only ${types.join(', ')}`);
}

/**
 * @param {FetchOptions} options
 * @returns {FetchOptions}
 */
function checkOptions(options) {
  const { withValues, topicTypes, limitDeepBranches: limit } = options;
  for (const name of PATHS) {
    if (options[name] !== undefined && typeof options[name] !== 'string') {
      throw new TypeError(`expected a path as the option ${name}, found ${show(options[name])}`);
    }
  }
  for (const [one, other] of EXCLUSIVE) {
    if (options[one] !== undefined && options[other] !== undefined) throw new TypeError(`expected only one of the options ${one} and ${other}`);
  }
  checkCount('first', options.first, 0);
  checkCount('last', options.last, 1);
  checkCount('maximumResultBytes', options.maximumResultBytes, 1);
  if (limit !== undefined) {
    checkCount('limitDeepBranches.depth', limit.depth, 1);
    checkCount('limitDeepBranches.count', limit.count, 1);
  }
  if (withValues !== undefined && typeof withValues !== 'boolean') checkDataType(withValues);
  for (const name of /** @type {const} */ (['withProperties', 'withSizes'])) {
    if (options[name] === undefined || typeof options[name] === 'boolean') continue;
    throw new TypeError(`expected true or false as the option ${name}, found ${show(options[name])}`);
  }
  if (topicTypes === undefined) return options;
  if (!Array.isArray(topicTypes) || topicTypes.length === 0) throw new TypeError(`expected at least one topic type, found ${show(topicTypes)}`);
  // The order of their numbers, so that one request always has one form.
  const types = [...new Set(topicTypes.map(checkType))].sort((a, b) => typeNumber(a) - typeNumber(b));
  return { ...options, topicTypes: types };
}

/**
 * @param {string} name
 * @param {unknown} value
 * @param {number} least
 */
function checkCount(name, value, least) {
  if (value === undefined || (Number.isSafeInteger(value) && /** @type {number} */ (value) >= least)) return;
  throw new TypeError(`expected a count of at least ${least} as the option ${name}, found ${show(value)}`);
}
