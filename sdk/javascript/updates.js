/**
 * Update streams: one session's way to update one topic again and again.
 *
 * A stream is opened by its first operation. From then on it sends what changed, where that is shorter than the value, and it notices when
 * somebody else updates the topic: the server then refuses what is sent on it. After one failure all that follows fails. A recoverable stream
 * remembers what was not acknowledged, and sends it again where the failure passes by itself.
 *
 * @module
 */

import { makeDelta } from './delta.js';
import {
  ConnectionError,
  InvalidStreamError,
  NoQuorumError,
  OverloadedError,
  ShuttingDownError,
  StorageUnavailableError,
  TimeoutError,
  UpdateUnknownError,
} from './errors.js';
import { decodeValue, isNoValue, show } from './types.js';

/** @typedef {import('./encode.js').ClientMessage} ClientMessage */
/** @typedef {import('./types.js').DataTypeName} DataTypeName */

/**
 * What a stream needs of its session.
 *
 * @typedef {object} UpdatesSession
 * @property {(message: (id: number) => ClientMessage) => Promise<any>} request
 * @property {() => number} sessionNumber another one for each session of the server's; 0 while there is none to go on with
 * @property {() => number} nextStream a number that no stream of the session has had
 * @property {(type: DataTypeName, value: unknown) => Uint8Array} encode
 */

/**
 * What a stream opens with, checked.
 *
 * @typedef {object} StreamTarget
 * @property {string} path
 * @property {import('./types.js').TopicTypeName} type of the topic
 * @property {DataTypeName} valueType
 * @property {Readonly<Record<string, string>>} [properties] the topic is added if there is none
 * @property {string} [constraint]
 * @property {boolean} suppressDeltas
 */

/** @typedef {{ intervalMs: number, attempts: number }} RetryStrategy how often a recovery is tried, and how long it waits in between */

/** @typedef {{ bytes: Uint8Array }} Update one value set; two may have the same bytes */

/** @type {RetryStrategy} */
const RETRY_DEFAULTS = { intervalMs: 1_000, attempts: 30 };

/** The updates that a recoverable stream remembers at most. */
const UNACKNOWLEDGED_MAX = 10_000;

/** Types whose values have deltas. */
const DELTA_TYPES = new Set(['json', 'string', 'binary']);

/** Made by `session.topics.updateStream`. */
export class UpdateStream {
  #session;
  #target;
  #number = 0;
  #sessionNumber = 0;
  /** What the first operation settles with. @type {Promise<{ added: boolean }> | undefined} */
  #opened;
  /** The last value sent: the next delta applies to it. @type {Uint8Array | undefined} */
  #last;
  /** Why it does not go on. @type {Error | undefined} */
  #failure;

  /**
   * @internal
   * @param {UpdatesSession} session
   * @param {StreamTarget} target
   */
  constructor(session, target) {
    this.#session = session;
    this.#target = target;
  }

  get path() {
    return this.#target.path;
  }

  /** Whether it still goes on, as far as this side knows. */
  get valid() {
    return this.#failure === undefined;
  }

  /**
   * Sets the topic's value.
   *
   * @param {any} value
   * @returns {Promise<{ added: boolean }>} whether this added the topic
   */
  async set(value) {
    return this.setBytes(encode(this.#session, this.#target, value));
  }

  /**
   * Opens the stream if that has not been done: the topic is checked, or added, and the constraint has to hold. No value is set.
   *
   * @returns {Promise<{ added: boolean }>} whether opening it added the topic
   */
  async validate() {
    this.#check();
    return this.#opened ?? this.#open(undefined);
  }

  /** The last value set on this stream, acknowledged or not; undefined before the first. @returns {any} */
  get() {
    return this.#last && decodeValue(this.#target.valueType, this.#last);
  }

  /**
   * Ends the stream; the topic stays.
   *
   * @returns {Promise<void>} settles when what was sent on it has been answered
   */
  async close() {
    if (this.#failure !== undefined) return;
    this.#failure = new InvalidStreamError('the update stream is closed');
    await this.#release();
  }

  /**
   * @internal
   * @param {Uint8Array} bytes
   * @returns {Promise<{ added: boolean }>}
   */
  async setBytes(bytes) {
    this.#check();
    const previous = this.#last;
    this.#last = bytes;
    if (this.#opened === undefined) return this.#open(bytes);
    const delta = previous && this.#deltasAllowed() ? makeDelta(previous, bytes) : undefined;
    const stream = this.#number;
    await this.#send((id) =>
      delta === undefined ? { op: 'stream_set', id, stream, value: bytes } : { op: 'stream_delta', id, stream, form: 'copy', delta },
    );
    return { added: false };
  }

  /** @param {Uint8Array | undefined} value */
  #open(value) {
    const { path, type, properties, constraint } = this.#target;
    this.#number = this.#session.nextStream();
    this.#sessionNumber = this.#session.sessionNumber();
    const stream = this.#number;
    const answered = this.#send((id) => ({ op: 'stream_open', id, stream, path, type, value, constraint, properties }));
    this.#opened = answered.then(({ created }) => ({ added: created ?? false }));
    return this.#opened;
  }

  #deltasAllowed() {
    const { suppressDeltas, valueType, properties = {} } = this.#target;
    return !suppressDeltas && DELTA_TYPES.has(valueType) && properties.PUBLISH_VALUES_ONLY !== 'true' && properties.DONT_RETAIN_VALUE !== 'true';
  }

  /**
   * @param {(id: number) => ClientMessage} message
   * @returns {Promise<any>}
   */
  async #send(message) {
    try {
      return await this.#session.request(message);
    } catch (error) {
      if (this.#failure === undefined) {
        this.#failure = /** @type {Error} */ (error);
        this.#release().catch(() => {});
      }
      throw error;
    }
  }

  /** @throws {Error} where the stream does not go on */
  #check() {
    if (this.#opened !== undefined && this.#failure === undefined && this.#sessionNumber !== this.#session.sessionNumber()) {
      this.#failure = new ConnectionError('the update stream ended with the session that it was opened in, of which nothing is left');
    }
    if (this.#failure === undefined) return;
    if (this.#failure instanceof ConnectionError) throw this.#failure;
    throw new InvalidStreamError(`the update stream of ${show(this.path)} has ended: ${this.#failure.message}`, { cause: this.#failure });
  }

  /** Lets the server forget the stream, which it may have done already. */
  async #release() {
    if (this.#opened === undefined || this.#sessionNumber !== this.#session.sessionNumber()) return;
    const stream = this.#number;
    await this.#session.request((id) => ({ op: 'stream_close', id, stream })).catch((error) => {
      if (!(error instanceof InvalidStreamError)) throw error;
    });
  }
}

/**
 * A stream that can go on after failures that pass by themselves: a session that ended, an overloaded server, a full disk. Made by
 * `session.topics.recoverableUpdateStream`.
 *
 * Every value set is remembered until it is acknowledged, also where `set` rejected; `recover` opens the stream anew and sends these again, in
 * their order. What was under way when a session ended may have been carried out, so an update may happen twice.
 */
export class RecoverableUpdateStream {
  #session;
  #target;
  #retry;
  #stream;
  /** @type {Update | undefined} */
  #last;
  /** What is not acknowledged, in its order. @type {Set<Update>} */
  #unacknowledged = new Set();
  /** What was set during a recovery. @type {{ update: Update, resolve: (answer: any) => void, reject: (error: unknown) => void }[]} */
  #waiting = [];
  /** The failure that the others follow from. @type {Error | undefined} */
  #failure;
  /** @type {Promise<void> | undefined} */
  #recovering;

  /**
   * @internal
   * @param {UpdatesSession} session
   * @param {StreamTarget} target
   * @param {Partial<RetryStrategy>} [retry]
   */
  constructor(session, target, retry) {
    this.#session = session;
    this.#target = target;
    this.#retry = checkRetry(retry);
    this.#stream = new UpdateStream(session, target);
  }

  get path() {
    return this.#target.path;
  }

  /**
   * Sets the topic's value. Where this rejects and `isRecoverable()`, `recover()` sends it again.
   *
   * @param {any} value
   * @returns {Promise<{ added: boolean }>}
   */
  async set(value) {
    const update = { bytes: encode(this.#session, this.#target, value) };
    if (this.#unacknowledged.size + this.#waiting.length >= UNACKNOWLEDGED_MAX) {
      throw new RangeError(`expected at most ${UNACKNOWLEDGED_MAX} updates that are not acknowledged`);
    }
    // Behind what is sent again.
    if (this.#recovering !== undefined) return new Promise((resolve, reject) => this.#waiting.push({ update, resolve, reject }));
    return this.#send(update);
  }

  /** As that of a plain stream. */
  async validate() {
    return this.#note(this.#stream, this.#stream.validate());
  }

  /** The last value set, acknowledged or not. @returns {any} */
  get() {
    return this.#last && decodeValue(this.#target.valueType, this.#last.bytes);
  }

  /** As that of a plain stream; what is not acknowledged is forgotten. */
  async close() {
    this.#unacknowledged.clear();
    this.#failure = undefined;
    await this.#stream.close();
  }

  /** Whether the stream has failed, and `recover` may help. */
  isRecoverable() {
    return this.#failure !== undefined && isEphemeral(this.#failure);
  }

  /**
   * Opens the stream anew and sends again what was not acknowledged, as often and as slowly as the retry strategy says.
   *
   * @returns {Promise<void>} settles when everything is acknowledged; rejects with what stands in the way
   */
  async recover() {
    if (this.#recovering === undefined) {
      if (this.#failure === undefined) return;
      if (!isEphemeral(this.#failure)) throw this.#failure;
      this.#recovering = this.#recover();
    }
    await this.#recovering;
  }

  async #recover() {
    try {
      for (let attempt = 1; this.isRecoverable(); attempt += 1) {
        await this.#replay();
        if (!this.isRecoverable() || attempt >= this.#retry.attempts) break;
        await new Promise((resolve) => setTimeout(resolve, this.#retry.intervalMs));
      }
    } finally {
      this.#recovering = undefined;
      for (const { update, resolve, reject } of this.#waiting.splice(0)) this.#send(update).then(resolve, reject);
    }
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** One attempt; leaves a failure where it fails. */
  async #replay() {
    this.#failure = undefined;
    this.#stream = new UpdateStream(this.#session, this.#target);
    const updates = [...this.#unacknowledged];
    if (updates.length === 0) await this.validate().catch(() => {});
    else await Promise.allSettled(updates.map((update) => this.#send(update)));
  }

  /** @param {Update} update */
  async #send(update) {
    this.#last = update;
    this.#unacknowledged.add(update);
    const stream = this.#stream;
    const answer = await this.#note(stream, stream.setBytes(update.bytes));
    this.#unacknowledged.delete(update);
    return answer;
  }

  /**
   * @template T
   * @param {UpdateStream} stream
   * @param {Promise<T>} sent
   * @returns {Promise<T>}
   */
  async #note(stream, sent) {
    try {
      const answer = await sent;
      // From now on the topic's value is this stream's own, which its constraint does not speak of.
      this.#target = { ...this.#target, constraint: undefined };
      return answer;
    } catch (error) {
      if (stream === this.#stream) this.#failure = rootFailure(this.#failure, /** @type {Error} */ (error));
      throw error;
    }
  }
}

/**
 * @param {UpdatesSession} session
 * @param {StreamTarget} target
 * @param {unknown} value
 */
function encode(session, { valueType }, value) {
  if (!isNoValue(valueType, value)) return session.encode(valueType, value);
  throw new TypeError('expected a value, found null: a topic is set to no value by topics.set, not on a stream');
}

/**
 * The one that the other follows from.
 *
 * @param {Error | undefined} known
 * @param {Error} found
 */
function rootFailure(known, found) {
  return known === undefined || (known instanceof InvalidStreamError && !(found instanceof InvalidStreamError)) ? found : known;
}

/** @param {Error} failure */
function isEphemeral(failure) {
  const ephemeral = [
    ConnectionError,
    NoQuorumError,
    OverloadedError,
    ShuttingDownError,
    StorageUnavailableError,
    TimeoutError,
    UpdateUnknownError,
  ];
  return ephemeral.some((type) => failure instanceof type);
}

/** @param {Partial<RetryStrategy>} [retry] */
function checkRetry(retry = {}) {
  const { intervalMs = RETRY_DEFAULTS.intervalMs, attempts = RETRY_DEFAULTS.attempts } = retry;
  if (!(intervalMs >= 0)) throw new TypeError(`expected a number of at least 0 as the option retry.intervalMs, found ${show(intervalMs)}`);
  if (!(attempts >= 1)) throw new TypeError(`expected a number of at least 1 as the option retry.attempts, found ${show(attempts)}`);
  return { intervalMs, attempts };
}
