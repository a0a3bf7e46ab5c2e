/**
 * The requests of a session: their ids, their answers, and what it takes to send them again.
 *
 * The server counts requests as it takes them up, and this side counts them as it sends them, so that after a lost connection it sends again exactly those
 * that the server does not know. Their bytes are kept until RECEIVED, an answer, or WELCOME says that it does. What is asked for while there is
 * no connection, or while a new session is being furnished, waits unsent. What is only told, and not answered, is counted and kept like the rest.
 *
 * @module
 */

import { Writer } from './bytes.js';
import { readAnswer } from './decode.js';
import { encodeFrame } from './encode.js';
import { CloseCode, ConnectionError, OutcomeUnknownError, ProtocolError, TimeoutError, ValueTooLargeError } from './errors.js';

/** @typedef {import('./encode.js').ClientMessage} ClientMessage */
/** @typedef {(frame: Uint8Array) => void} Send */

/**
 * @typedef {object} Pending
 * @property {ClientMessage} message
 * @property {number} timeoutMs
 * @property {number} deadline
 * @property {(answer: any) => void} resolve
 * @property {(error: Error) => void} reject
 */

/** The first id; those below are the connection's own. */
const FIRST_ID = 2;

/** A timer this late says that the machine or the page slept, and answers may wait to be read. */
const LATE_MS = 1_000;

/** The longest that a timer waits. */
const TIMER_MS_MAX = 2 ** 31 - 1;

export class Requests {
  #timeoutMs;
  #writer = new Writer();
  #nextId = FIRST_ID;
  /** Those without an answer, in the order asked. @type {Map<number, Pending>} */
  #pending = new Map();
  /** What was never sent: those of them, and what is only told. @type {Map<number, { message: ClientMessage, frame: Uint8Array }>} */
  #waiting = new Map();
  /** Those that were sent and that the server may not know, with their numbers. @type {Map<number, { number: number, frame: Uint8Array }>} */
  #kept = new Map();
  /** The number of the last that was sent in this session. */
  #sent = 0;
  /** How many of them the server is known to have. */
  #received = 0;
  /** @type {Send | undefined} */
  #send;
  /** Whether the session may outlive its connection. */
  #isKeeping = false;
  /** Whether what the application asks for waits. */
  #isHeld = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #deadlineTimer;
  #deadlineTimerDue = Infinity;
  /** The most bytes of a request. */
  bytesMax = Infinity;

  /** @param {number} timeoutMs 0: none */
  constructor(timeoutMs) {
    this.#timeoutMs = timeoutMs;
  }

  /**
   * Sends a request of the application's as soon as that is possible.
   *
   * @param {(id: number) => ClientMessage} message
   * @param {number} [timeoutMs] instead of that of all; 0: none
   * @returns {Promise<any>} what `readAnswer` makes of the answer
   */
  request(message, timeoutMs = this.#timeoutMs) {
    return this.#ask(message, timeoutMs, (...sent) => this.#sendSoon(...sent));
  }

  /**
   * Sends, as soon as that is possible, what is answered only where it is refused. It is counted as a request all the same.
   *
   * @param {ClientMessage} message its id is 0
   */
  tell(message) {
    const frame = this.#encode(message);
    this.#sendSoon(this.#nextId, message, frame);
    this.#nextId += 1;
  }

  /**
   * Sends a request that furnishes a new session, before those that wait.
   *
   * @param {(id: number) => ClientMessage} message
   * @returns {Promise<any>}
   */
  requestAhead(message) {
    if (this.#send === undefined && !this.#isKeeping) return Promise.reject(notSent('the connection was lost'));
    return this.#ask(message, this.#timeoutMs, (id, _, frame) => this.#sendFirst(id, frame));
  }

  /**
   * A session begins: nothing is counted yet, and what the application asks for waits until `release`. What is left of an earlier session is over.
   *
   * @param {Send} send
   * @param {boolean} isKeeping whether it may outlive its connection
   */
  begin(send, isKeeping) {
    this.fail('the session ended before the answer');
    this.#send = send;
    this.#isKeeping = isKeeping;
  }

  /**
   * A connection goes on with the session.
   *
   * @param {Send} send
   * @param {number} received how many requests the server has; those behind them are sent again
   * @throws {ProtocolError} where that cannot be
   */
  goOn(send, received) {
    if (received < this.#received) throw new ProtocolError(`expected the server to have ${this.#received} requests or more, found ${received}`);
    this.handleReceived(received);
    this.#send = send;
    for (const { frame } of this.#kept.values()) send(frame);
  }

  /** Sends what has waited, and what is asked for from now on at once. */
  release() {
    this.#isHeld = false;
    if (this.#send === undefined) return;
    for (const [id, { frame }] of this.#waiting) {
      this.#waiting.delete(id);
      this.#sendFirst(id, frame);
    }
  }

  /** The connection is lost. */
  suspend() {
    this.#send = undefined;
    this.#isHeld = true;
  }

  /**
   * The session is over: what was sent is rejected, for nobody can tell whether it was carried out. So is what was not sent and is about what only
   * that session had.
   *
   * @param {string} why
   * @param {number} [code] a close code
   */
  fail(why, code = CloseCode.ABNORMAL) {
    this.suspend();
    this.#isKeeping = false;
    this.#kept.clear();
    this.#sent = 0;
    this.#received = 0;
    const lost = new Set([...this.#waiting].filter(([, { message }]) => isOfSession(message)).map(([id]) => id));
    for (const id of lost) this.#waiting.delete(id);
    for (const [id, { message, reject }] of this.#pending) {
      if (this.#waiting.has(id)) continue;
      this.#pending.delete(id);
      const isUnsent = lost.has(id);
      reject(isUnsent ? notSent(why) : new OutcomeUnknownError(`${why}: whether ${message.op} was carried out is not known`, { code }));
    }
  }

  /**
   * Nothing is sent any more.
   *
   * @param {string} why
   * @param {number} code a close code
   */
  close(why, code) {
    this.fail(why, code);
    clearTimeout(this.#deadlineTimer);
    this.#deadlineTimerDue = Infinity;
    this.#waiting.clear();
    for (const { reject } of this.#pending.values()) reject(notSent(why, code));
    this.#pending.clear();
  }

  /**
   * @param {number | bigint} id
   * @param {import('./bytes.js').Reader} body
   */
  handleAnswer(id, body) {
    const pending = this.#takeAnswered(Number(id));
    if (pending === undefined) return;
    const { message, resolve } = pending;
    try {
      resolve(readAnswer(message, body));
    } catch (error) {
      pending.reject(/** @type {Error} */ (error));
      throw error;
    }
  }

  /**
   * @param {number | bigint} id
   * @param {Error} error
   * @returns {boolean} whether it was about a request that waits for its answer
   */
  handleError(id, error) {
    const pending = this.#takeAnswered(Number(id));
    pending?.reject(error);
    return pending !== undefined;
  }

  /**
   * The server has so many requests of the session.
   *
   * @param {number} count
   * @throws {ProtocolError} where that cannot be
   */
  handleReceived(count) {
    if (count > this.#sent) throw new ProtocolError(`expected the server to have ${this.#sent} requests or fewer, found ${count}`);
    this.#received = Math.max(this.#received, count);
    for (const [id, { number }] of this.#kept) {
      if (number > count) break;
      this.#kept.delete(id);
    }
  }

  /**
   * @param {(id: number) => ClientMessage} message
   * @param {number} timeoutMs 0: none
   * @param {(id: number, message: ClientMessage, frame: Uint8Array) => void} take
   * @returns {Promise<any>}
   */
  #ask(message, timeoutMs, take) {
    return new Promise((resolve, reject) => {
      const id = this.#nextId;
      const request = message(id);
      const frame = this.#encode(request);
      this.#nextId += 1;
      const deadline = timeoutMs > 0 ? performance.now() + timeoutMs : Infinity;
      this.#pending.set(id, { message: request, timeoutMs, deadline, resolve, reject });
      take(id, request, frame);
      this.#watch(deadline);
    });
  }

  /** @param {ClientMessage} message */
  #encode(message) {
    const writer = this.#writer;
    try {
      encodeFrame(writer, message);
    } catch (error) {
      writer.length = 0;
      throw error;
    }
    const frame = writer.take();
    if (frame.length <= this.bytesMax) return frame;
    throw new ValueTooLargeError(`the request has ${frame.length} bytes and the server takes messages of at most ${this.bytesMax}`);
  }

  /**
   * @param {number} id
   * @param {ClientMessage} message
   * @param {Uint8Array} frame
   */
  #sendSoon(id, message, frame) {
    if (this.#send === undefined || this.#isHeld) this.#waiting.set(id, { message, frame });
    else this.#sendFirst(id, frame);
  }

  /**
   * @param {number} id
   * @param {Uint8Array} frame
   */
  #sendFirst(id, frame) {
    this.#sent += 1;
    if (this.#isKeeping) this.#kept.set(id, { number: this.#sent, frame });
    this.#send?.(frame);
  }

  /**
   * Who answers a request has taken up those before it, too.
   *
   * @param {number} id
   */
  #takeAnswered(id) {
    const number = this.#kept.get(id)?.number;
    if (number !== undefined) this.handleReceived(number);
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    return pending;
  }

  /**
   * One timer is armed for the earliest deadline.
   *
   * @param {number} deadline
   */
  #watch(deadline) {
    if (deadline >= this.#deadlineTimerDue) return;
    clearTimeout(this.#deadlineTimer);
    this.#deadlineTimerDue = deadline;
    this.#deadlineTimer = setTimeout(() => this.#expire(), Math.min(Math.max(0, deadline - performance.now()) + 1, TIMER_MS_MAX));
  }

  #expire() {
    const now = performance.now();
    const isLate = now - this.#deadlineTimerDue > LATE_MS;
    this.#deadlineTimerDue = Infinity;
    if (isLate) {
      this.#watch(now);
      return;
    }
    let next = Infinity;
    for (const [id, { deadline, timeoutMs, message, reject }] of this.#pending) {
      if (deadline > now) {
        next = Math.min(next, deadline);
        continue;
      }
      this.#pending.delete(id);
      const fate = this.#waiting.delete(id) ? '; it was not sent' : '';
      reject(new TimeoutError(`no answer to ${message.op} within ${timeoutMs} ms${fate}`));
    }
    this.#watch(next);
  }
}

/**
 * Whether it means something that only one of the server's sessions has: its update streams, and the requests that it was given.
 *
 * @param {ClientMessage} message
 */
function isOfSession({ op }) {
  return op.startsWith('stream_') || op === 'respond' || op === 'reject';
}

/**
 * @param {string} why
 * @param {number} [code]
 */
function notSent(why, code = CloseCode.ABNORMAL) {
  return new ConnectionError(`the request was not sent: ${why}`, { code });
}
