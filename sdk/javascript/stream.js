/**
 * One stream: who reads the topics that a selector matches, as one type.
 *
 * A stream is told, topic by topic: the subscription, the value if there is one, each update, the unsubscription with
 * its reason. A stream of time series is told events instead of values. Values are shared between the streams of a session and with the session itself: read them, do not change them.
 *
 * @module
 */

/** @typedef {import('./types.js').DataTypeName} DataTypeName */
/** @typedef {Readonly<Required<import('./types.js').TopicSpecification>>} Specification */

/**
 * Why a topic's stream of values ended: the server's reasons, and `stream_change` where a fallback stream gives a topic up to a
 * value stream that was added.
 *
 * @typedef {'requested' | 'removed' | 'back_pressure' | 'branch_mappings' | 'access_denied' | 'stream_change' | 'unknown'} UnsubscriptionReason
 */

/**
 * What a stream's owner wants to be told; all may be left out.
 *
 * @typedef {object} StreamCallbacks
 * @property {(path: string, specification: Specification) => void} [subscription]
 * @property {(path: string, specification: Specification, value: any, oldValue: any) => void} [value] `oldValue` is undefined
 *   for the first value; both may be null, which is no value. On a stream of time series they are the event and the one before it.
 * @property {(path: string, specification: Specification) => void} [gap] values of the topic were lost, because more came while there was no
 *   connection than the server keeps; its newest value follows, with no `oldValue`. Time series have none: what they missed is asked for.
 * @property {(path: string, specification: Specification, reason: UnsubscriptionReason) => void} [unsubscription]
 * @property {() => void} [close] the stream was closed, or its session
 * @property {(error: unknown) => void} [error] a callback threw, a value did not decode, or events of a time series were missed while there
 *   was no connection (`MissedEventsError`); the stream goes on. Without this callback
 *   the error is reported as uncaught.
 */

/**
 * What iterating over a stream gives.
 *
 * @typedef {object} ValueEvent
 * @property {string} path
 * @property {Specification} specification
 * @property {any} value
 * @property {any} oldValue
 */

/** The events that wait for an iterator at most; beyond that the oldest are left out. */
const WAITING_EVENTS_MAX = 10_000;

/** @typedef {'values' | 'events'} Content what a stream reads: topics' values, or the events of time series */

/** Made by `session.addStream`, `session.addFallbackStream` and `session.addTimeSeriesStream`. */
export class ValueStream {
  #callbacks;
  /** @type {Set<ValueIterator>} */
  #iterators = new Set();
  #remove;
  #closed = false;

  /**
   * @param {import('./selector.js').Selector | undefined} selector none for a fallback stream
   * @param {DataTypeName} type
   * @param {Content} content
   * @param {StreamCallbacks} callbacks
   * @param {(stream: ValueStream) => void} remove
   */
  constructor(selector, type, content, callbacks, remove) {
    /** @internal */
    this.selector = selector;
    this.type = type;
    this.content = content;
    /** Whether it is told of topics yet. @internal */
    this.attached = false;
    this.#callbacks = callbacks;
    this.#remove = remove;
  }

  get closed() {
    return this.#closed;
  }

  /** Ends the stream. The session stays subscribed. */
  close() {
    if (this.#closed) return;
    this.#closed = true;
    this.#remove(this);
    for (const iterator of this.#iterators) iterator.end();
    this.#call(this.#callbacks.close);
  }

  /**
   * Values as they come, until the stream is closed. A reader that does not keep up is given a topic's newest value only, and of time series
   * every event, up to 10,000.
   *
   * @returns {AsyncIterableIterator<ValueEvent>}
   */
  [Symbol.asyncIterator]() {
    const iterator = new ValueIterator(this.content, (ended) => this.#iterators.delete(ended));
    if (this.#closed) iterator.end();
    else this.#iterators.add(iterator);
    return iterator;
  }

  /**
   * @internal
   * @param {string} path
   * @param {Specification} specification
   */
  notifySubscription(path, specification) {
    if (!this.#closed) this.#call(this.#callbacks.subscription, path, specification);
  }

  /**
   * @internal
   * @param {string} path
   * @param {Specification} specification
   * @param {any} value
   * @param {any} oldValue
   */
  notifyValue(path, specification, value, oldValue) {
    if (this.#closed) return;
    if (this.#iterators.size > 0) {
      for (const iterator of this.#iterators) iterator.push({ path, specification, value, oldValue });
    }
    const { value: callback } = this.#callbacks;
    if (callback === undefined) return;
    try {
      callback.call(this.#callbacks, path, specification, value, oldValue);
    } catch (error) {
      this.notifyError(error);
    }
  }

  /**
   * @internal
   * @param {string} path
   * @param {Specification} specification
   */
  notifyGap(path, specification) {
    if (!this.#closed) this.#call(this.#callbacks.gap, path, specification);
  }

  /**
   * @internal
   * @param {string} path
   * @param {Specification} specification
   * @param {UnsubscriptionReason} reason
   */
  notifyUnsubscription(path, specification, reason) {
    if (!this.#closed) this.#call(this.#callbacks.unsubscription, path, specification, reason);
  }

  /**
   * @internal
   * @param {unknown} error
   */
  notifyError(error) {
    try {
      if (this.#callbacks.error === undefined) reportUncaught(error);
      else this.#callbacks.error(error);
    } catch (second) {
      reportUncaught(second);
    }
  }

  /**
   * @param {((...rest: any[]) => void) | undefined} callback
   * @param {...any} rest
   */
  #call(callback, ...rest) {
    if (callback === undefined) return;
    try {
      callback.apply(this.#callbacks, rest);
    } catch (error) {
      this.notifyError(error);
    }
  }
}

/** Waiting values, one a topic, or events; and the reader that waits for one. */
class ValueIterator {
  /** By path, or in their order. @type {Map<string | number, ValueEvent>} */
  #waiting = new Map();
  /** @type {((result: IteratorResult<ValueEvent>) => void)[]} */
  #readers = [];
  #content;
  #onEnd;
  #nextEvent = 0;
  #ended = false;

  /**
   * @param {Content} content
   * @param {(iterator: ValueIterator) => void} onEnd
   */
  constructor(content, onEnd) {
    this.#content = content;
    this.#onEnd = onEnd;
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  /** @returns {Promise<IteratorResult<ValueEvent>>} */
  next() {
    for (const [key, event] of this.#waiting) {
      this.#waiting.delete(key);
      return Promise.resolve({ done: false, value: event });
    }
    if (this.#ended) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve) => this.#readers.push(resolve));
  }

  /** @returns {Promise<IteratorResult<ValueEvent>>} */
  return() {
    this.#waiting.clear();
    this.end();
    return Promise.resolve({ done: true, value: undefined });
  }

  /** @param {ValueEvent} event */
  push(event) {
    const reader = this.#readers.shift();
    if (reader !== undefined) {
      reader({ done: false, value: event });
      return;
    }
    if (this.#content === 'events') {
      this.#waiting.set(this.#nextEvent, event);
      this.#nextEvent += 1;
      this.#waiting.delete(this.#nextEvent - 1 - WAITING_EVENTS_MAX);
      return;
    }
    const replaced = this.#waiting.get(event.path);
    this.#waiting.set(event.path, replaced === undefined ? event : { ...event, oldValue: replaced.oldValue });
  }

  end() {
    if (this.#ended) return;
    this.#ended = true;
    this.#onEnd(this);
    for (const reader of this.#readers.splice(0)) reader({ done: true, value: undefined });
  }
}

/**
 * As an error in an event listener would be: a page's `error` event, Node's `uncaughtException`.
 *
 * @param {unknown} error
 */
export function reportUncaught(error) {
  if (typeof reportError === 'function') {
    reportError(error);
    return;
  }
  queueMicrotask(() => {
    throw error;
  });
}
