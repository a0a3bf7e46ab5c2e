/**
 * The requests of a session: their ids, their answers, and what it takes to send them again.
 *
 * The server counts requests as it takes them up, and this side counts them as it sends them, so that after a lost connection it sends again exactly those
 * that the server does not know. Their bytes are kept until RECEIVED, an answer, or WELCOME says that it does. What is asked for while there is
 * no connection, or while a new session is being furnished, waits unsent.
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
 * @property {number} deadline
 * @property {(answer: any) => void} resolve
 * @property {(error: Error) => void} reject
 */

/** The first id; those below are the connection's own. */
const FIRST_ID = 2;

/** A timer this late says that the machine or the page slept, and answers may wait to be read. */
const LATE_MS = 1_000;

export class Requests {
  #timeoutMs;
  #writer = new Writer();
  #nextId = FIRST_ID;
  /** Those without an answer, in the order asked. @type {Map<number, Pending>} */
  #pending = new Map();
  /** Those of them that were never sent. @type {Map<number, Uint8Array>} */
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
  #deadlineTimerDue = 0;
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
   * @returns {Promise<any>} what `readAnswer` makes of the answer
   */
  request(message) {
    return this.#ask(message, (id, frame) => {
      if (this.#send === undefined || this.#isHeld) this.#waiting.set(id, frame);
      else this.#sendFirst(id, frame);
    });
  }

  /**
   * Sends a request that furnishes a new session, before those that wait.
   *
   * @param {(id: number) => ClientMessage} message
   * @returns {Promise<any>}
   */
  requestAhead(message) {
    if (this.#send === undefined && !this.#isKeeping) return Promise.reject(notSent('the connection was lost'));
    return this.#ask(message, (id, frame) => this.#sendFirst(id, frame));
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
    for (const [id, frame] of this.#waiting) {
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
   * The session is over: what was sent is rejected, for nobody can tell whether it was carried out. So are updates on its streams that were not
   * sent, which only that session had.
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
    for (const [id, { message, reject }] of this.#pending) {
      const isSent = !this.#waiting.has(id);
      if (!isSent && !message.op.startsWith('stream_')) continue;
      this.#waiting.delete(id);
      this.#pending.delete(id);
      reject(isSent ? new OutcomeUnknownError(`${why}: whether ${message.op} was carried out is not known`, { code }) : notSent(why));
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
   * @param {(id: number, frame: Uint8Array) => void} take
   * @returns {Promise<any>}
   */
  #ask(message, take) {
    return new Promise((resolve, reject) => {
      const id = this.#nextId;
      const request = message(id);
      const frame = this.#encode(request);
      this.#nextId += 1;
      const deadline = this.#timeoutMs > 0 ? performance.now() + this.#timeoutMs : Infinity;
      this.#pending.set(id, { message: request, deadline, resolve, reject });
      take(id, frame);
      this.#watchDeadline();
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

  /** Arms one timer for the request that has waited longest. */
  #watchDeadline() {
    if (this.#deadlineTimer !== undefined || this.#timeoutMs <= 0) return;
    for (const { deadline } of this.#pending.values()) {
      this.#armDeadline(deadline);
      return;
    }
  }

  /** @param {number} at */
  #armDeadline(at) {
    this.#deadlineTimerDue = at;
    this.#deadlineTimer = setTimeout(() => this.#expire(), Math.max(0, at - performance.now()) + 1);
  }

  #expire() {
    this.#deadlineTimer = undefined;
    const now = performance.now();
    if (now - this.#deadlineTimerDue > LATE_MS) {
      this.#armDeadline(now);
      return;
    }
    // All wait equally long, so they stand in the order of their deadlines.
    for (const [id, { deadline, message, reject }] of this.#pending) {
      if (deadline > now) break;
      this.#pending.delete(id);
      const fate = this.#waiting.delete(id) ? '; it was not sent' : '';
      reject(new TimeoutError(`no answer to ${message.op} within ${this.#timeoutMs} ms${fate}`));
    }
    this.#watchDeadline();
  }
}

/**
 * @param {string} why
 * @param {number} [code]
 */
function notSent(why, code = CloseCode.ABNORMAL) {
  return new ConnectionError(`the request was not sent: ${why}`, { code });
}
