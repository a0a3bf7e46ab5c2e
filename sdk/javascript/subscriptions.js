/**
 * The topics that a session is subscribed to, their last values, and the streams that read them.
 *
 * Streams and subscriptions are independent: a stream that is added later is told of the topics that are there. A topic is read
 * by every value stream that matches its path and can read its type; where there is none, by the fallback streams that can.
 *
 * In a new session topics are subscribed to anew; they are matched by path. `beginRecovery` and `endRecovery` surround that, so that
 * a stream sees only what really changed meanwhile. Of a time series it sees every event: those that came meanwhile are asked for, and
 * those that come in the meantime wait for them.
 *
 * @module
 */

import { applyDelta } from './delta.js';
import { MissedEventsError, OverloadedError, ProtocolError, RequestError, ShuttingDownError } from './errors.js';
import { inflate } from './inflate.js';
import { askForEvents } from './missed.js';
import { decodeEvent } from './series.js';
import { ValueStream } from './stream.js';
import { canRead, decodeValue, TopicProperty, valueType } from './types.js';

/** @typedef {import('./stream.js').UnsubscriptionReason} UnsubscriptionReason */

/** @type {ReadonlyArray<UnsubscriptionReason | undefined>} */
const REASONS = [undefined, 'requested', 'removed', 'back_pressure', 'branch_mappings', 'access_denied'];

const NOTHING = new Uint8Array(0);

/** The time series whose missed events are asked for at a time: the server bounds what a session has under way. */
const ASKED_MAX = 50;

/**
 * The name of a reason in `codes.json`; `unknown` for one that only a newer server knows.
 *
 * @param {number} code
 * @returns {UnsubscriptionReason}
 */
export function reasonName(code) {
  return REASONS[code] ?? 'unknown';
}

/** One subscribed topic. */
class Topic {
  /**
   * @param {import('./decode.js').Subscribed} message
   */
  constructor(message) {
    this.number = message.topic;
    this.path = message.path;
    this.specification = Object.freeze({ type: message.type, properties: Object.freeze(message.properties) });
    /** What its values, or events, are read as; undefined where only a newer server knows. */
    this.valueType = valueType(this.specification);
    /** @type {import('./stream.js').Content} */
    this.content = message.type === 'time_series' ? 'events' : 'values';
    /** The last value's bytes; the next delta applies to them. @type {Uint8Array | undefined} */
    this.bytes = undefined;
    /** The last event, of a time series. @type {import('./decode.js').EventEntry | undefined} */
    this.event = undefined;
    /**
     * Events that wait for those before them, which came while there was no session or are in a gap.
     *
     * @type {import('./decode.js').EventEntry[] | undefined}
     */
    this.waiting = undefined;
    /** Whether the last event has come again in the new session, so that nothing was missed up to it. */
    this.resumed = false;
    /** It was set to no value, and has had none since. */
    this.isNull = false;
    /** The last value, decoded only if somebody reads it. @type {any} */
    this.value = undefined;
    this.decoded = false;
    /** @type {ValueStream[]} */
    this.readers = [];
    /**
     * `lost`: it was there in the session before, and has not been seen in this one. `found`: it has, but not its value.
     *
     * @type {'current' | 'lost' | 'found'}
     */
    this.recovery = 'current';
  }

  /** What readers were told last. @returns {any} */
  get lastTold() {
    if (this.isNull) return null;
    return this.decoded ? this.value : undefined;
  }

  /** Forgets the value. */
  clear() {
    this.bytes = undefined;
    this.value = undefined;
    this.decoded = false;
  }

  /**
   * Whether an event that comes in a new session came in the one before as well. The numbers of a series that was made anew start again,
   * but its events are later.
   *
   * @param {import('./decode.js').EventMessage} event
   */
  hasSeen({ sequence, timestamp }) {
    return this.event !== undefined && sequence <= this.event.sequence && timestamp <= this.event.timestamp;
  }

  /** Whether events may have been missed while there was no session. */
  get hasGap() {
    return this.waiting !== undefined || (this.event !== undefined && !this.resumed);
  }

  /** @param {ValueStream} stream */
  isReadableBy(stream) {
    return stream.content === this.content && this.valueType !== undefined && canRead(stream.type, this.valueType);
  }

  /** @param {Topic} other */
  isLike(other) {
    const { type, properties } = this.specification;
    const others = other.specification.properties;
    const keys = Object.keys(properties);
    return (
      type === other.specification.type &&
      keys.length === Object.keys(others).length &&
      keys.every((key) => properties[key] === others[key])
    );
  }
}

export class Subscriptions {
  /** @type {Map<number | bigint, Topic>} */
  #byNumber = new Map();
  /** @type {Map<string, Topic>} */
  #byPath = new Map();
  /** @type {Set<ValueStream>} */
  #streams = new Set();
  /** The most bytes of a value, which bounds what a delta makes. */
  valueBytesMax = Infinity;
  #request;

  /** @param {import('./missed.js').Request} request */
  constructor(request) {
    this.#request = request;
  }

  /**
   * Adds a stream; without a selector it is a fallback stream. It is told of the topics that are there when the caller is done.
   *
   * @param {import('./selector.js').Selector | undefined} selector
   * @param {import('./types.js').DataTypeName} type
   * @param {import('./stream.js').Content} content
   * @param {import('./stream.js').StreamCallbacks} callbacks
   * @returns {ValueStream}
   */
  addStream(selector, type, content, callbacks) {
    const stream = new ValueStream(selector, type, content, callbacks, (closed) => this.#detach(closed));
    this.#streams.add(stream);
    queueMicrotask(() => this.#attach(stream));
    return stream;
  }

  /**
   * What the topic there is, if the session is subscribed to it.
   *
   * @param {string} path
   */
  specificationOf(path) {
    return this.#byPath.get(path)?.specification;
  }

  /** @param {import('./decode.js').TopicEvent} event */
  handleTopicEvent(event) {
    switch (event.op) {
      case 'subscribed':
        return this.#handleSubscribed(event);
      case 'event':
        return this.#handleEvent(event);
      case 'null_value':
        return this.#handleNull(event.topic);
      case 'value_deflate':
        // Of a topic that is not known here it is not worth inflating.
        if (this.#byNumber.has(event.topic)) this.handleValue(event.topic, inflate(event.deflated, NOTHING, this.valueBytesMax));
        return;
      case 'unsubscribed':
        return this.#handleUnsubscribed(event.topic, event.reason);
      case 'gap':
        return this.#handleGap(event.topic);
    }
  }

  /** @param {import('./decode.js').Subscribed} message */
  #handleSubscribed(message) {
    const topic = new Topic(message);
    const before = this.#byPath.get(topic.path);
    if (before !== undefined) {
      if (before.recovery === 'lost' && before.isLike(topic)) {
        before.number = topic.number;
        before.recovery = 'found';
        this.#byNumber.set(topic.number, before);
        return;
      }
      this.#end(before, 'removed');
    }
    this.#byNumber.set(topic.number, topic);
    this.#byPath.set(topic.path, topic);
    topic.readers = this.#readersOf(topic);
    for (const reader of topic.readers) reader.notifySubscription(topic.path, topic.specification);
  }

  /**
   * @param {number | bigint} number
   * @param {Uint8Array} bytes
   */
  handleValue(number, bytes) {
    const topic = this.#byNumber.get(number);
    if (topic === undefined) return;
    if (topic.recovery === 'found') {
      topic.recovery = 'current';
      // Nothing happened that a reader would have to be told.
      if (topic.bytes !== undefined && sameBytes(topic.bytes, bytes)) return;
    }
    this.#update(topic, bytes);
  }

  /**
   * @param {number | bigint} number
   * @param {import('./decode.js').DeltaForm} form
   * @param {Uint8Array} delta
   */
  handleDelta(number, form, delta) {
    const topic = this.#byNumber.get(number);
    if (topic === undefined) return;
    if (topic.bytes === undefined || topic.recovery === 'found') {
      throw new ProtocolError(`the server sent a delta for ${topic.path} before its value`);
    }
    this.#update(topic, applyDelta(form, topic.bytes, delta, this.valueBytesMax));
  }

  /** @param {import('./decode.js').EventMessage} event */
  #handleEvent(event) {
    const topic = this.#byNumber.get(event.topic);
    if (topic === undefined || topic.content !== 'events') return;
    if (topic.waiting !== undefined) {
      topic.waiting.push(event);
      return;
    }
    if (topic.recovery === 'found' && !topic.resumed) {
      if (topic.hasSeen(event)) {
        topic.resumed = event.sequence === topic.event?.sequence;
        return;
      }
      if (event.sequence !== nextSequence(topic.event)) {
        topic.waiting = [event];
        return;
      }
      topic.resumed = true;
    }
    topic.event = event;
    this.#update(topic, event.value);
  }

  /** @param {number | bigint} number */
  #handleNull(number) {
    const topic = this.#byNumber.get(number);
    if (topic === undefined) return;
    topic.recovery = 'current';
    const { path, specification, lastTold } = topic;
    topic.clear();
    topic.isNull = true;
    for (const reader of topic.readers) reader.notifyValue(path, specification, null, lastTold);
  }

  /**
   * @param {number | bigint} number
   * @param {number} reason
   */
  #handleUnsubscribed(number, reason) {
    const topic = this.#byNumber.get(number);
    if (topic !== undefined) this.#end(topic, reasonName(reason));
  }

  /**
   * Values of the topic were lost: what is known of it is no base for a delta, and nothing to tell a stream. Its newest value follows; the events of
   * a time series are asked for.
   *
   * @param {number | bigint} number
   */
  #handleGap(number) {
    const topic = this.#byNumber.get(number);
    if (topic === undefined) return;
    if (topic.content === 'events') {
      this.#fillGap(topic);
      return;
    }
    topic.clear();
    topic.isNull = false;
    for (const reader of topic.readers) reader.notifyGap(topic.path, topic.specification);
  }

  /** @param {Topic} topic a time series */
  #fillGap(topic) {
    // What is asked for already may end before this gap: it is asked for anew.
    const waiting = [...(topic.waiting ?? [])];
    topic.waiting = waiting;
    this.#catchUp(topic, this.#request).catch(() => {
      if (topic.waiting === waiting) this.#tellEvents(topic, nextSequence(topic.event), []);
    });
  }

  /** The session is new: every topic has yet to be seen in it. */
  beginRecovery() {
    this.#byNumber.clear();
    for (const topic of this.#byPath.values()) {
      topic.recovery = 'lost';
      topic.resumed = false;
      topic.waiting = undefined;
    }
  }

  /**
   * The selections have been made again: what has not been seen is gone, and the events that were missed are asked for.
   *
   * @param {import('./missed.js').Request} request in the new session
   */
  async endRecovery(request) {
    /** @type {Topic[]} */
    const behind = [];
    for (const topic of [...this.#byPath.values()]) {
      if (topic.recovery === 'lost') this.#end(topic, 'removed');
      if (topic.recovery !== 'found') continue;
      this.#settle(topic);
      if (topic.content !== 'events' || !topic.hasGap) continue;
      topic.waiting ??= [];
      behind.push(topic);
    }
    while (behind.length > 0) await Promise.all(behind.splice(0, ASKED_MAX).map((topic) => this.#catchUp(topic, request)));
  }

  /**
   * Asks for the events that were missed, and tells of them.
   *
   * @param {Topic} topic
   * @param {import('./missed.js').Request} request
   */
  async #catchUp(topic, request) {
    const { waiting } = topic;
    const { from, events } = await this.#missedEvents(topic, request);
    // They may be asked for anew meanwhile.
    if (topic.waiting === waiting) this.#tellEvents(topic, from, events);
  }

  /**
   * Tells a topic's readers of the events that they missed, then of those that came meanwhile, and of the events that cannot be had any more.
   *
   * @param {Topic} topic
   * @param {number} from the sequence of the first that was missed
   * @param {import('./decode.js').EventEntry[]} events
   */
  #tellEvents(topic, from, events) {
    // It may have been removed meanwhile.
    if (this.#byPath.get(topic.path) !== topic) return;
    const waiting = topic.waiting ?? [];
    topic.waiting = undefined;
    let next = from;
    for (const event of [...events, ...waiting].sort((a, b) => a.sequence - b.sequence)) {
      if (event.sequence < next) continue;
      if (event.sequence > next) {
        const error = new MissedEventsError(topic.path, next, event.sequence - 1);
        for (const reader of topic.readers) reader.notifyError(error);
      }
      next = event.sequence + 1;
      topic.event = event;
      this.#update(topic, event.value);
    }
  }

  /**
   * The events behind the last that was seen. A topic that was made anew has events of the same numbers that are others: of that all are missed.
   *
   * @param {Topic} topic
   * @param {import('./missed.js').Request} request
   * @returns {Promise<{ from: number, events: import('./decode.js').EventEntry[] }>}
   */
  async #missedEvents(topic, request) {
    const { path, event: last, waiting } = topic;
    const first = waiting?.[0];
    try {
      if (last !== undefined && (first === undefined || first.sequence > last.sequence)) {
        const [again, ...events] = await askForEvents(request, path, last.sequence);
        if (again === undefined) return { from: nextSequence(last), events };
        if (again.sequence !== last.sequence) return { from: nextSequence(last), events: [again, ...events] };
        if (again.timestamp === last.timestamp && sameBytes(again.value, last.value)) return { from: nextSequence(last), events };
      }
      return { from: 0, events: await askForEvents(request, path, 0) };
    } catch (error) {
      if (!(error instanceof RequestError) || error instanceof OverloadedError || error instanceof ShuttingDownError) throw error;
      // What is refused is told as missed.
      return { from: first !== undefined && last !== undefined && first.sequence <= last.sequence ? 0 : nextSequence(last), events: [] };
    }
  }

  /** The session is closed. */
  close() {
    this.#byNumber.clear();
    this.#byPath.clear();
    for (const stream of [...this.#streams]) stream.close();
  }

  /**
   * A topic that had a value and came back without one has been removed and added again meanwhile, unless it is one that shows its values
   * only as they come.
   *
   * @param {Topic} topic
   */
  #settle(topic) {
    topic.recovery = 'current';
    if (topic.bytes === undefined || topic.content === 'events') return;
    if (topic.specification.properties[TopicProperty.DONT_RETAIN_VALUE] === 'true') return;
    topic.clear();
    for (const reader of topic.readers) reader.notifyUnsubscription(topic.path, topic.specification, 'removed');
    for (const reader of topic.readers) reader.notifySubscription(topic.path, topic.specification);
  }

  /**
   * @param {Topic} topic
   * @param {Uint8Array} bytes
   */
  #update(topic, bytes) {
    const { path, specification, readers } = topic;
    const oldValue = topic.lastTold;
    topic.clear();
    topic.isNull = false;
    topic.bytes = bytes;
    if (readers.length === 0 || !this.#decode(topic)) return;
    for (const reader of readers) reader.notifyValue(path, specification, topic.value, oldValue);
  }

  /**
   * Decodes the topic's value if that has not been done, and tells the readers if it cannot be.
   *
   * @param {Topic} topic
   * @returns {boolean} whether there is a value
   */
  #decode(topic) {
    if (topic.decoded) return true;
    const { bytes, event, valueType: type } = topic;
    if (bytes === undefined || type === undefined) return false;
    try {
      topic.value = event === undefined ? decodeValue(type, bytes) : Object.freeze(decodeEvent(event, type));
      topic.decoded = true;
      return true;
    } catch (error) {
      for (const reader of topic.readers) reader.notifyError(error);
      return false;
    }
  }

  /**
   * @param {Topic} topic
   * @param {UnsubscriptionReason} reason
   */
  #end(topic, reason) {
    // Before a new session's first events, numbers are those of the old one and may mean another topic now.
    if (this.#byNumber.get(topic.number) === topic) this.#byNumber.delete(topic.number);
    this.#byPath.delete(topic.path);
    for (const reader of topic.readers) reader.notifyUnsubscription(topic.path, topic.specification, reason);
  }

  /**
   * @param {Topic} topic
   * @returns {ValueStream[]}
   */
  #readersOf(topic) {
    /** @type {ValueStream[]} */
    const readers = [];
    /** @type {ValueStream[]} */
    const fallbacks = [];
    for (const stream of this.#streams) {
      if (!stream.attached || !topic.isReadableBy(stream)) continue;
      if (stream.selector === undefined) fallbacks.push(stream);
      else if (stream.selector.matches(topic.path)) readers.push(stream);
    }
    return readers.length > 0 ? readers : fallbacks;
  }

  /** @param {ValueStream} stream */
  #attach(stream) {
    if (!this.#streams.has(stream)) return;
    stream.attached = true;
    for (const topic of this.#topicsWithin(stream.selector)) {
      if (!topic.isReadableBy(stream)) continue;
      const hasValueStream = topic.readers.some((reader) => reader.selector !== undefined);
      if (stream.selector === undefined) {
        if (!hasValueStream) this.#give(topic, [...topic.readers, stream]);
      } else if (stream.selector.matches(topic.path)) {
        this.#give(topic, hasValueStream ? [...topic.readers, stream] : [stream]);
      }
    }
  }

  /** @param {ValueStream} stream */
  #detach(stream) {
    if (!this.#streams.delete(stream)) return;
    for (const topic of this.#topicsWithin(stream.selector)) {
      // What nobody else reads goes to the fallback streams.
      if (topic.readers.includes(stream)) this.#give(topic, this.#readersOf(topic));
    }
  }

  /**
   * The topics that a selector may match: one look where it can only be one.
   *
   * @param {import('./selector.js').Selector | undefined} selector
   * @returns {Topic[]}
   */
  #topicsWithin(selector) {
    if (!selector?.exact) return [...this.#byPath.values()];
    const topic = this.#byPath.get(selector.prefix);
    return topic === undefined ? [] : [topic];
  }

  /**
   * Gives a topic other readers, and tells those that come and go.
   *
   * @param {Topic} topic
   * @param {ValueStream[]} readers
   */
  #give(topic, readers) {
    const { path, specification, readers: before } = topic;
    topic.readers = readers;
    for (const reader of before) {
      if (!readers.includes(reader)) reader.notifyUnsubscription(path, specification, 'stream_change');
    }
    const added = readers.filter((reader) => !before.includes(reader));
    for (const reader of added) reader.notifySubscription(path, specification);
    if (added.length === 0 || !this.#decode(topic)) return;
    for (const reader of added) reader.notifyValue(path, specification, topic.value, undefined);
  }
}

/**
 * @param {import('./decode.js').EventEntry | undefined} event
 */
function nextSequence(event) {
  return event === undefined ? 0 : event.sequence + 1;
}

/**
 * @param {Uint8Array} a
 * @param {Uint8Array} b
 */
function sameBytes(a, b) {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}
