/**
 * One connection: a WebSocket on which CONNECT was answered, its requests, and its keep-alive.
 *
 * It ends once and for all; making another one is left to the session. Frames of one turn of the event loop go out as one message.
 *
 * @module
 */

import { Writer } from './bytes.js';
import { Capability, decodeMessage, encodeFrame, readAnswer, SUBPROTOCOL, VERSION } from './codec.js';
import { CloseCode, ConnectionError, ProtocolError, requestError, TimeoutError, ValueTooLargeError } from './errors.js';

/** @typedef {import('./codec.js').ClientMessage} ClientMessage */
/** @typedef {import('./codec.js').Welcome} Welcome */
/** @typedef {import('./codec.js').Answer} Answer */
/** @typedef {{ code: number, reason: string }} Close why a connection ended */

/**
 * @typedef {object} ConnectionOptions
 * @property {string} url
 * @property {import('./websocket.js').WebSocketClass} WebSocket
 * @property {string} [name] of the client, for the server's operators
 * @property {number} connectTimeoutMs
 * @property {number} requestTimeoutMs 0: none
 * @property {number} closeTimeoutMs
 * @property {AbortSignal} [signal] ends the attempt
 */

/**
 * Who is told what the server sends beside answers.
 *
 * @typedef {object} ConnectionSink
 * @property {(welcome: Welcome) => void} welcome first of all
 * @property {(topic: number | bigint, bytes: Uint8Array) => void} value
 * @property {(topic: number | bigint, form: import('./codec.js').DeltaForm, delta: Uint8Array) => void} delta
 * @property {(event: import('./codec.js').TopicEvent) => void} topicEvent
 * @property {(notice: import('./codec.js').Notice) => void} notice
 * @property {(error: Error) => void} error an error that answers no request
 * @property {(connection: Connection, close: Close) => void} end of a connection that was made; last of all
 */

/**
 * @typedef {object} Pending
 * @property {ClientMessage} message
 * @property {number} deadline
 * @property {(answer: any) => void} resolve
 * @property {(error: Error) => void} reject
 */

/** A message is sent at this size, for the server's part of the work to begin. */
const MESSAGE_BYTES = 64 * 1024;

const ENDED_EARLY = 'the connection ended before the answer; what became of the request is not known';

export class Connection {
  #options;
  #sink;
  #socket;
  #writer = new Writer();
  #flushing = false;
  /** @type {Map<number, Pending>} */
  #pending = new Map();
  #nextId = 1;
  #messageBytesMax = Infinity;
  #keepAliveMs = 0;
  #heardAt = 0;
  #sentAt = 0;
  #checkedAt = 0;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #keepAliveTimer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #deadlineTimer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #closeTimer;
  #closeRequested = false;
  #welcomed = false;
  #ended = false;

  /**
   * Connects and waits for WELCOME.
   *
   * @param {ConnectionOptions} options
   * @param {ConnectionSink} sink
   * @returns {Promise<Connection>}
   */
  static open(options, sink) {
    return new Promise((resolve, reject) => {
      const connection = new Connection(options, sink);
      const timer = setTimeout(() => {
        connection.#end({ code: CloseCode.ABNORMAL, reason: '' }, new TimeoutError(`no answer from ${options.url} within ${options.connectTimeoutMs} ms`));
      }, options.connectTimeoutMs);
      const abort = () => {
        connection.#end({ code: CloseCode.ABNORMAL, reason: '' }, new ConnectionError('connecting was given up', { cause: options.signal?.reason }));
      };
      options.signal?.addEventListener('abort', abort);
      connection.#opened = (error) => {
        clearTimeout(timer);
        options.signal?.removeEventListener('abort', abort);
        if (error === undefined) resolve(connection);
        else reject(error);
      };
      if (options.signal?.aborted) abort();
    });
  }

  /** Settles `open`. @type {(error?: Error) => void} */
  #opened = () => {};

  /**
   * @param {ConnectionOptions} options
   * @param {ConnectionSink} sink
   */
  constructor(options, sink) {
    this.#options = options;
    this.#sink = sink;
    const socket = new options.WebSocket(options.url, [SUBPROTOCOL]);
    this.#socket = socket;
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => this.#handleOpen();
    socket.onmessage = (event) => this.#handleMessage(event.data);
    // A close event always follows, and browsers say no more than that something went wrong.
    socket.onerror = (event) => (this.#problem = event?.error ?? event?.message);
    socket.onclose = (event) => this.#end({ code: event.code, reason: event.reason });
  }

  /** @type {unknown} */
  #problem;

  get ended() {
    return this.#ended;
  }

  /**
   * Sends a request and waits for its answer.
   *
   * @param {(id: number) => ClientMessage} message
   * @returns {Promise<any>} what `readAnswer` or `readFetchAnswer` makes of the answer
   */
  request(message) {
    return new Promise((resolve, reject) => {
      if (this.#ended || this.#closeRequested) {
        reject(new ConnectionError('the request was not sent: the connection is closed', { code: CloseCode.ABNORMAL }));
        return;
      }
      const id = this.#nextId;
      const request = message(id);
      this.#send(request);
      this.#nextId += 1;
      const deadline = this.#options.requestTimeoutMs > 0 ? performance.now() + this.#options.requestTimeoutMs : Infinity;
      this.#pending.set(id, { message: request, deadline, resolve, reject });
      this.#watchDeadline();
    });
  }

  /** Asks the server to close; the sink's `end` follows soon, whatever the server does. */
  close() {
    if (this.#ended || this.#closeRequested) return;
    this.#send({ op: 'close' });
    this.#flush();
    this.#closeRequested = true;
    this.#closeTimer = setTimeout(() => this.#end({ code: CloseCode.NORMAL, reason: '' }), this.#options.closeTimeoutMs);
  }

  #handleOpen() {
    if (this.#socket.protocol !== SUBPROTOCOL) {
      this.#fail(`the server at ${this.#options.url} does not speak ${SUBPROTOCOL}`);
      return;
    }
    this.#heardAt = performance.now();
    const capabilities = Capability.DELTA_DEFLATE | Capability.DELTA_COPY | Capability.VALUE_DEFLATE;
    const connected = this.request((id) => ({ op: 'connect', id, version: VERSION, client: this.#options.name, capabilities }));
    // Whatever ends the connection rejects this too, after `#end` has told `open`.
    connected.catch(() => {});
    this.#flush();
  }

  /** @param {unknown} data */
  #handleMessage(data) {
    if (this.#ended) return;
    const now = performance.now();
    this.#heardAt = now;
    if (!(data instanceof ArrayBuffer)) {
      this.#fail('expected a binary message from the server, found text');
      return;
    }
    try {
      decodeMessage(new Uint8Array(data), this.#decoded);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#fail(error.message, error);
      return;
    }
    // A page in the background gets few timers, but its messages as ever.
    this.#pingIfSilent(now);
  }

  /**
   * What a message's frames are passed to. One object for all, for there are many frames.
   *
   * @type {import('./codec.js').Sink}
   */
  #decoded = {
    value: (topic, bytes) => this.#sink.value(topic, bytes),
    delta: (topic, form, delta) => this.#sink.delta(topic, form, delta),
    answer: (id, body) => this.#handleAnswer(id, body),
    event: (event) => this.#handleEvent(event),
  };

  /**
   * @param {number | bigint} id
   * @param {import('./bytes.js').Reader} body
   */
  #handleAnswer(id, body) {
    const pending = this.#takePending(id);
    if (pending === undefined) return;
    const { message, resolve } = pending;
    try {
      resolve(readAnswer(message, body));
    } catch (error) {
      pending.reject(/** @type {Error} */ (error));
      throw error;
    }
  }

  /** @param {import('./codec.js').ServerEvent} event */
  #handleEvent(event) {
    switch (event.op) {
      case 'ping':
        this.#send({ op: 'pong' });
        break;
      case 'pong':
      case 'received':
        break;
      case 'error':
        this.#handleError(event);
        break;
      case 'welcome':
        this.#handleWelcome(event);
        break;
      case 'topic_notice':
      case 'descendant_notice':
      case 'subscribers_notice':
      case 'missing_notice':
        this.#sink.notice(event);
        break;
      default:
        this.#sink.topicEvent(event);
    }
  }

  /** @param {Welcome} welcome */
  #handleWelcome(welcome) {
    if (this.#takePending(welcome.id)?.message.op !== 'connect') throw new ProtocolError('the server sent WELCOME without being asked');
    this.#welcomed = true;
    this.#messageBytesMax = welcome.message_bytes_max || Infinity;
    this.#keepAliveMs = welcome.keep_alive_ms ?? 0;
    if (this.#keepAliveMs > 0) {
      this.#checkedAt = performance.now();
      this.#keepAliveTimer = setInterval(() => this.#checkKeepAlive(), this.#keepAliveMs / 2);
    }
    this.#sink.welcome(welcome);
    this.#opened();
  }

  /** @param {import('./codec.js').ErrorMessage} message */
  #handleError({ id, code, message, position }) {
    const error = requestError(code, message, position);
    const pending = this.#takePending(id);
    if (pending === undefined) {
      this.#sink.error(error);
      return;
    }
    pending.reject(error);
    if (pending.message.op === 'connect') this.#end({ code: CloseCode.NORMAL, reason: message }, error);
  }

  /**
   * The server broke the protocol.
   *
   * @param {string} message
   * @param {ProtocolError} [error]
   */
  #fail(message, error = new ProtocolError(message)) {
    this.#end({ code: CloseCode.MALFORMED_MESSAGE, reason: message }, error);
  }

  /**
   * Ends the connection, whatever state it is in. Nothing is told afterwards.
   *
   * @param {Close} close
   * @param {Error} [error] why it could not be made
   */
  #end(close, error) {
    if (this.#ended) return;
    this.#ended = true;
    clearInterval(this.#keepAliveTimer);
    clearTimeout(this.#deadlineTimer);
    clearTimeout(this.#closeTimer);
    this.#release(close.code);
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { reject } of pending) reject(new ConnectionError(ENDED_EARLY, { code: close.code, sent: true, cause: error }));
    if (this.#welcomed) {
      this.#sink.end(this, close);
      return;
    }
    const reason = close.reason === '' ? '' : `: ${close.reason}`;
    const message = `could not connect to ${this.#options.url} (close code ${close.code})${reason}`;
    this.#opened(error ?? new ConnectionError(message, { code: close.code, cause: this.#problem }));
  }

  /** @param {number} code */
  #release(code) {
    const socket = this.#socket;
    socket.onopen = null;
    socket.onmessage = null;
    socket.onclose = null;
    // `ws` throws where an error has no listener, and closing an unopened socket is one.
    socket.onerror = () => {};
    // Browsers let a page close with 1000 and with codes from 3000 on.
    socket.close(code >= 3000 ? code : 1000);
    if (code !== CloseCode.MALFORMED_MESSAGE) socket.terminate?.();
  }

  /** @param {ClientMessage} message */
  #send(message) {
    if (this.#ended) return;
    const writer = this.#writer;
    const start = writer.length;
    try {
      encodeFrame(writer, message);
    } catch (error) {
      writer.length = start;
      throw error;
    }
    if (writer.length > this.#messageBytesMax) this.#split(start);
    if (writer.length >= MESSAGE_BYTES) this.#flush();
    else if (!this.#flushing) {
      this.#flushing = true;
      queueMicrotask(() => this.#flush());
    }
  }

  /**
   * The frame at `start` is too much for the message.
   *
   * @param {number} start
   */
  #split(start) {
    const writer = this.#writer;
    const frame = writer.bytes.slice(start, writer.length);
    writer.length = start;
    if (frame.length > this.#messageBytesMax) {
      throw new ValueTooLargeError(`the request has ${frame.length} bytes and the server takes messages of at most ${this.#messageBytesMax}`);
    }
    this.#flush();
    writer.raw(frame);
  }

  #flush() {
    this.#flushing = false;
    if (this.#ended || this.#closeRequested || this.#writer.length === 0) return;
    this.#sentAt = performance.now();
    this.#socket.send(this.#writer.take());
  }

  /** @param {number | bigint} id */
  #takePending(id) {
    const pending = this.#pending.get(Number(id));
    if (pending !== undefined) this.#pending.delete(Number(id));
    return pending;
  }

  /** Arms one timer for the request that has waited longest. */
  #watchDeadline() {
    if (this.#deadlineTimer !== undefined || this.#options.requestTimeoutMs <= 0) return;
    for (const { deadline } of this.#pending.values()) {
      this.#deadlineTimer = setTimeout(() => this.#expireRequests(), Math.max(0, deadline - performance.now()) + 1);
      return;
    }
  }

  #expireRequests() {
    this.#deadlineTimer = undefined;
    const now = performance.now();
    // All wait equally long, so they stand in the order of their deadlines.
    for (const [id, { deadline, message, reject }] of this.#pending) {
      if (deadline > now) break;
      this.#pending.delete(id);
      reject(new TimeoutError(`no answer to ${message.op} within ${this.#options.requestTimeoutMs} ms`));
    }
    this.#watchDeadline();
  }

  #checkKeepAlive() {
    const now = performance.now();
    const late = now - this.#checkedAt > this.#keepAliveMs;
    this.#checkedAt = now;
    if (late) {
      // The machine slept, or the page was held back: the server gets the time anew to be heard.
      this.#heardAt = now;
      this.#send({ op: 'ping' });
      return;
    }
    if (now - this.#heardAt > 2 * this.#keepAliveMs) {
      this.#end({ code: CloseCode.KEEP_ALIVE_TIMEOUT, reason: `nothing was heard for ${2 * this.#keepAliveMs} ms` });
      return;
    }
    this.#pingIfSilent(now);
  }

  /**
   * The server, too, takes the connection for dead when it hears nothing.
   *
   * @param {number} now
   */
  #pingIfSilent(now) {
    if (this.#keepAliveMs > 0 && now - this.#sentAt >= this.#keepAliveMs && !this.#flushing) this.#send({ op: 'ping' });
  }
}
