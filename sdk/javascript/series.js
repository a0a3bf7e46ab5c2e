/**
 * Time series: appending events, editing them, and asking for ranges of them. `session.timeSeries`.
 *
 * A range query is built step by step and does not change: each step makes another one, so a query can be kept and used again.
 *
 * @module
 */

import { checkDataType, decodeValue, show } from './types.js';

/** @typedef {import('./types.js').DataTypeName} DataTypeName */
/** @typedef {import('./encode.js').ClientMessage} ClientMessage */
/** @typedef {import('./decode.js').EventEntry} EventEntry */
/** @typedef {import('./encode.js').QueryRange} QueryRange */

/**
 * One event of a time series. Events are numbered from 0 without gaps, edits too.
 *
 * @typedef {object} TimeSeriesEvent
 * @property {number} sequence
 * @property {number} timestamp milliseconds since 1970-01-01 UTC
 * @property {string} author the principal's name; empty for an anonymous session
 * @property {any} value
 * @property {boolean} isEdit
 * @property {number} [originalSequence] of an edit: the event that it overrides
 */

/** @typedef {{ sequence: number, timestamp: number }} EventMetadata */

/**
 * @typedef {object} QueryResult
 * @property {TimeSeriesEvent[]} events in their order; an edit that stands for its original stands in its place
 * @property {boolean} isComplete false where the limit, or the size of an answer, left earlier events out
 * @property {DataTypeName} type of the events' values
 */

/**
 * What the time series need of their session.
 *
 * @typedef {object} SeriesSession
 * @property {(message: (id: number) => ClientMessage) => Promise<any>} request
 * @property {(path: unknown) => string} path checks it
 * @property {(type: DataTypeName, value: unknown) => Uint8Array} encode
 * @property {(path: string, value: unknown, type: DataTypeName | undefined) => DataTypeName} typeFor
 */

export class TimeSeries {
  #session;

  /** @param {SeriesSession} session */
  constructor(session) {
    this.#session = session;
  }

  /**
   * Appends an event.
   *
   * @param {string} path
   * @param {any} value
   * @param {{ timestamp?: number | Date, type?: DataTypeName }} [options] without a timestamp it is the server's clock; one earlier than the
   *   latest event's is refused. The type may be left out where `topics.set` allows that.
   * @returns {Promise<EventMetadata>}
   */
  async append(path, value, { timestamp, type } = {}) {
    const event = this.#event(path, value, type);
    const at = timestamp === undefined ? undefined : instant(timestamp);
    const { sequence, timestamp: given } = await this.#session.request((id) => ({ op: 'append', id, ...event, timestamp: at }));
    return { sequence, timestamp: given };
  }

  /**
   * Appends an event that overrides an earlier one. Both are kept.
   *
   * @param {string} path
   * @param {number} originalSequence of an event that is no edit itself
   * @param {any} value
   * @param {{ type?: DataTypeName }} [options]
   * @returns {Promise<EventMetadata>}
   */
  async edit(path, originalSequence, value, { type } = {}) {
    const original = checkCount(originalSequence, "an event's sequence");
    const event = this.#event(path, value, type);
    const { sequence, timestamp } = await this.#session.request((id) => ({ op: 'edit', id, ...event, original }));
    return { sequence, timestamp };
  }

  /** A query of all values, to be narrowed. */
  rangeQuery() {
    return new RangeQuery(this.#session, { kind: 'values', range: {} });
  }

  /**
   * @param {string} path
   * @param {unknown} value
   * @param {DataTypeName | undefined} type
   */
  #event(path, value, type) {
    const checked = this.#session.path(path);
    const known = this.#session.typeFor(checked, value, type);
    return { path: checked, type: known, value: this.#session.encode(known, value) };
  }
}

/**
 * What a query asks for. Where there is an edit range, the steps narrow that.
 *
 * @typedef {object} Query
 * @property {import('./encode.js').QueryKind} kind
 * @property {QueryRange} range of original events
 * @property {QueryRange} [editRange]
 * @property {number} [limit]
 * @property {DataTypeName} [type]
 */

/** Made by `session.timeSeries.rangeQuery()`. */
export class RangeQuery {
  #session;
  #query;

  /**
   * @internal
   * @param {SeriesSession} session
   * @param {Query} query
   */
  constructor(session, query) {
    this.#session = session;
    this.#query = query;
  }

  /** The merged view: each original event, or its latest edit. The range starts anew. */
  forValues() {
    return this.#with({ kind: 'values', range: {}, editRange: undefined });
  }

  /** Edits instead of values: all of them, unless `latestEdits` follows. The range, of the originals, starts anew. */
  forEdits() {
    return this.#with({ kind: 'all_edits', range: {}, editRange: undefined });
  }

  /** Of each original only its latest edit. */
  latestEdits() {
    return this.#edits('latest_edits');
  }

  /** Of each original all edits. */
  allEdits() {
    return this.#edits('all_edits');
  }

  /** What follows narrows the range of the edits, instead of that of the originals. */
  editRange() {
    return this.#with({ editRange: {} });
  }

  /** From the first event that is kept. */
  fromStart() {
    return this.#from(undefined);
  }

  /** From the event of that sequence, or the first one after it; or from the first at or after that instant. @param {number | Date} anchor */
  from(anchor) {
    return this.#from(anchor instanceof Date ? { instant: instant(anchor) } : { sequence: checkCount(anchor, 'a sequence') });
  }

  /** From that many events before the end. @param {number} count */
  fromLast(count) {
    return this.#from({ last_events: checkCount(count, 'a count') });
  }

  /** From that many milliseconds before the latest event. @param {number} milliseconds */
  fromLastMs(milliseconds) {
    return this.#from({ last_ms: checkCount(milliseconds, 'a count of milliseconds') });
  }

  /** To the event of that sequence, or the last one before it; or to the last at or before that instant. @param {number | Date} end */
  to(end) {
    return this.#to(end instanceof Date ? { instant: instant(end) } : { sequence: checkCount(end, 'a sequence') });
  }

  /** To the last event. */
  toEnd() {
    return this.#to(undefined);
  }

  /** That many events, with the one at the start of the range. @param {number} count */
  next(count) {
    return this.#to({ next_events: checkCount(count, 'a count') });
  }

  /** What falls into that many milliseconds from the start of the range. @param {number} milliseconds */
  nextMs(milliseconds) {
    return this.#to({ next_ms: checkCount(milliseconds, 'a count of milliseconds') });
  }

  /** All but the last so many events. @param {number} count */
  untilLast(count) {
    return this.#to({ until_last_events: checkCount(count, 'a count') });
  }

  /** All but the last so many milliseconds. @param {number} milliseconds */
  untilLastMs(milliseconds) {
    return this.#to({ until_last_ms: checkCount(milliseconds, 'a count of milliseconds') });
  }

  /** That many events back, with the one at the start of the range. @param {number} count */
  previous(count) {
    return this.#to({ previous_events: checkCount(count, 'a count') });
  }

  /** What falls into that many milliseconds before the start of the range. @param {number} milliseconds */
  previousMs(milliseconds) {
    return this.#to({ previous_ms: checkCount(milliseconds, 'a count of milliseconds') });
  }

  /** Only the latest so many of what the range selects. @param {number} count */
  limit(count) {
    const limit = checkCount(count, 'a limit');
    if (limit === 0) throw new TypeError('expected a limit of at least 1, found 0');
    return this.#with({ limit });
  }

  /** Wants the events' values to be of this type: a series of others is refused. @param {DataTypeName} type */
  as(type) {
    return this.#with({ type: checkDataType(type) });
  }

  /**
   * Asks for the events.
   *
   * @param {string} path
   * @returns {Promise<QueryResult>}
   */
  async selectFrom(path) {
    const { kind, range, editRange, limit, type: wanted } = this.#query;
    const checked = this.#session.path(path);
    /** @type {import('./decode.js').QueryAnswer} */
    const { complete, type, events } = await this.#session.request((id) => ({
      op: 'query',
      id,
      path: checked,
      // What is left out means all.
      ...(kind !== 'values' && { kind }),
      ...(Object.values(range).some((bound) => bound !== undefined) && { range }),
      edit_range: editRange,
      limit,
    }));
    if (wanted !== undefined && wanted !== type) throw new TypeError(`expected events of ${wanted}, found those of ${checked} to be ${type}`);
    return { events: events.map((entry) => decodeEvent(entry, type)), isComplete: complete, type };
  }

  /** @param {'latest_edits' | 'all_edits'} kind */
  #edits(kind) {
    if (this.#query.kind !== 'values') return this.#with({ kind });
    throw new TypeError('expected forEdits() before it is said which edits are wanted');
  }

  /** @param {Readonly<Record<string, number>> | undefined} from */
  #from(from) {
    return this.#narrow({ from });
  }

  /** @param {Readonly<Record<string, number>> | undefined} to */
  #to(to) {
    return this.#narrow({ to });
  }

  /** @param {QueryRange} bounds */
  #narrow(bounds) {
    const { range, editRange } = this.#query;
    return this.#with(editRange === undefined ? { range: { ...range, ...bounds } } : { editRange: { ...editRange, ...bounds } });
  }

  /** @param {Partial<Query>} changes */
  #with(changes) {
    return new RangeQuery(this.#session, { ...this.#query, ...changes });
  }
}

/**
 * @param {EventEntry} entry
 * @param {DataTypeName} type
 * @returns {TimeSeriesEvent}
 */
export function decodeEvent({ sequence, timestamp, original, author, value }, type) {
  const event = { sequence, timestamp, author, value: decodeValue(type, value), isEdit: original !== undefined };
  return original === undefined ? event : { ...event, originalSequence: original };
}

/** @param {unknown} timestamp */
function instant(timestamp) {
  return checkCount(timestamp instanceof Date ? timestamp.getTime() : timestamp, 'a time, as a Date or in milliseconds');
}

/**
 * @param {unknown} value
 * @param {string} what
 * @returns {number}
 */
function checkCount(value, what) {
  if (Number.isSafeInteger(value) && /** @type {number} */ (value) >= 0) return /** @type {number} */ (value);
  throw new TypeError(`expected ${what}, found ${show(value)}`);
}
