/**
 * One connection: a WebSocket on which CONNECT was answered, and its keep-alive.
 *
 * It ends once and for all; making another one, and going on with what was under way, is left to the session. Frames of one turn of the event loop go
 * out as one message.
 *
 * @module
 */

import { Writer } from './bytes.js';
import { decodeMessage } from './decode.js';
import { Capability, encodeFrame, SUBPROTOCOL, VERSION } from './encode.js';
import { CannotResumeError, CloseCode, ComeLaterError, ConnectionError, InvalidCountError, ProtocolError, requestError, TimeoutError } from './errors.js';

/** @typedef {import('./credentials.js').Shown} Shown */
/** @typedef {import('./encode.js').ClientMessage} ClientMessage */
/** @typedef {import('./decode.js').Welcome} Welcome */
/** @typedef {import('./encode.js').Properties} Properties */
/** @typedef {{ code: number, reason: string, isServers?: boolean }} Close why a connection ended; `isServers`: the server closed it */

/**
 * @typedef {object} ConnectionOptions
 * @property {string} url
 * @property {import('./websocket.js').WebSocketClass} WebSocket
 * @property {import('./credentials.js').Identity} identity who the client is
 * @property {string} [name] of the client, for the server's operators
 * @property {Properties} [properties] that a new session has
 * @property {number} resumeMs for how long the session may be without a connection; 0: it ends with this one
 * @property {boolean} comesAgain whether it waits where the server says when to come
 * @property {boolean} durable whether the session is to outlive the server too
 * @property {{ token: string, processed: number }} [resumption] the session to go on with, if it is there; else a new one begins
 * @property {number} connectTimeoutMs
 * @property {number} closeTimeoutMs
 * @property {AbortSignal} [signal] ends the attempt
 */

/**
 * Who is told what the server sends.
 *
 * @typedef {object} ConnectionSink
 * @property {(connection: Connection, welcome: Welcome) => void} welcome first of all
 * @property {(id: number | bigint, body: import('./bytes.js').Reader) => void} answer an OK
 * @property {(topic: number | bigint, bytes: Uint8Array) => void} value
 * @property {(topic: number | bigint, form: import('./decode.js').DeltaForm, delta: Uint8Array) => void} delta
 * @property {(event: import('./decode.js').TopicEvent) => void} topicEvent
 * @property {(notice: import('./decode.js').Notice) => void} notice
 * @property {(event: import('./decode.js').MessagingEvent) => void} messaging
 * @property {(event: import('./decode.js').SessionsEvent) => void} sessions
 * @property {(id: number | bigint, error: Error) => void} error an ERROR, whether or not it answers a request
 * @property {(requests: number) => void} received
 * @property {(isStale: boolean) => void} staleness
 * @property {(bytes: number) => void} processed all that came in one message behind WELCOME has been told
 * @property {(connection: Connection, close: Close) => void} end of a connection that was made; last of all
 */

/** A message is sent at this size, for the server's part of the work to begin. */
const MESSAGE_BYTES = 64 * 1024;

/** The id of CONNECT. */
const CONNECT_ID = 1;

/** What the client runs in: servers show it as the session property `$Environment`. */
function environment() {
  const { process } = /** @type {{ process?: NodeJS.Process }} */ (globalThis);
  const node = process?.versions?.node;
  return node === undefined ? 'BROWSER' : `NODE_${process?.platform}_${node}`.slice(0, ENVIRONMENT_MAX);
}

const ENVIRONMENT_MAX = 100;

/** The keep-alive looks so often in the time that it is about. */
const LOOKS = 2;

/** Messages that wait behind a late timer are read within this time. */
const GRACE_MS_MAX = 1_000;

export class Connection {
  #options;
  /** What the client shows where a session begins; undefined where it has to be asked first. */
  #shown;
  #sink;
  #socket;
  #writer = new Writer();
  #flushing = false;
  #messageBytesMax = Infinity;
  #keepAliveMs = 0;
  #heardAt = 0;
  #sentAt = 0;
  /** When the server was asked whether it is there; it has not been since it was heard last. */
  #probedAt = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #keepAliveTimer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #closeTimer;
  #closeRequested = false;
  /** Whether CONNECT asked to go on with a session. */
  #isGoingOn = false;
  #welcomed = false;
  #ended = false;

  /**
   * Connects and waits for WELCOME; where the server says when to come, it comes then, as often as it is told.
   *
   * @param {ConnectionOptions} options
   * @param {ConnectionSink} sink
   * @returns {Promise<Connection>}
   */
  static async open(options, sink) {
    let { resumption } = options;
    for (;;) {
      // Asked without a connection: the server waits for CONNECT, and not for long.
      const shown = resumption === undefined ? await options.identity.show(options.signal) : undefined;
      try {
        return await Connection.#openOnce({ ...options, resumption }, shown, sink);
      } catch (error) {
        if (isOver(error) && resumption !== undefined) resumption = undefined;
        else if (!(error instanceof ComeLaterError) || !options.comesAgain) throw error;
        // The server has chosen it so that all who were told come evenly.
        else await pause(error.retryAfterMs, options.signal);
      }
    }
  }

  /**
   * @param {ConnectionOptions} options
   * @param {Shown | undefined} shown
   * @param {ConnectionSink} sink
   * @returns {Promise<Connection>}
   */
  static #openOnce(options, shown, sink) {
    return new Promise((resolve, reject) => {
      const connection = new Connection(options, shown, sink);
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
   * @param {Shown | undefined} shown undefined where a session is to go on
   * @param {ConnectionSink} sink
   */
  constructor(options, shown, sink) {
    this.#options = options;
    this.#shown = shown ?? options.identity.given;
    this.#sink = sink;
    const socket = new options.WebSocket(options.url, [SUBPROTOCOL]);
    this.#socket = socket;
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => this.#handleOpen();
    socket.onmessage = (event) => this.#handleMessage(event.data);
    // A close event always follows, and browsers say no more than that something went wrong.
    socket.onerror = (event) => (this.#problem = event?.error ?? event?.message);
    socket.onclose = ({ code, reason }) => this.#end({ code, reason, isServers: code !== CloseCode.ABNORMAL });
  }

  /** @type {unknown} */
  #problem;

  /**
   * Sends the frame of a request.
   *
   * @param {Uint8Array} frame
   */
  send(frame) {
    if (this.#ended || this.#closeRequested) return;
    const writer = this.#writer;
    if (writer.length > 0 && writer.length + frame.length > this.#messageBytesMax) this.#flush();
    writer.raw(frame);
    this.#flushSoon();
  }

  /**
   * Tells the server how many messages were processed.
   *
   * @param {number} messages
   */
  sayProcessed(messages) {
    this.#say({ op: 'processed', id: 0, messages });
  }

  /** Asks the server to close; the sink's `end` follows soon, whatever the server does. */
  close() {
    if (this.#ended || this.#closeRequested) return;
    this.#say({ op: 'close' });
    this.#flush();
    this.#closeRequested = true;
    this.#closeTimer = setTimeout(() => this.#end({ code: CloseCode.NORMAL, reason: '' }), this.#options.closeTimeoutMs);
  }

  /** Ends the connection at once, and its session with it. */
  abandon() {
    this.#say({ op: 'close' });
    this.#flush();
    this.#end({ code: CloseCode.NORMAL, reason: '' });
  }

  #handleOpen() {
    if (this.#socket.protocol !== SUBPROTOCOL) {
      this.#fail(`the server at ${this.#options.url} does not speak ${SUBPROTOCOL}`);
      return;
    }
    this.#heardAt = performance.now();
    this.#connect(this.#options.resumption);
  }

  /** @param {{ token?: string, processed?: number }} [resumption] */
  #connect({ token, processed } = {}) {
    const { name: client, resumeMs, properties: own, durable } = this.#options;
    this.#isGoingOn = token !== undefined;
    // A session that goes on keeps those that it has, and is its client's by the token.
    const begins = this.#isGoingOn ? {} : { properties: own, ...this.#shown };
    const capabilities = Capability.DELTA_DEFLATE | Capability.DELTA_COPY | Capability.VALUE_DEFLATE;
    const resumption = { token, processed, resume_ms: resumeMs || undefined, durable };
    this.#say({ op: 'connect', id: CONNECT_ID, version: VERSION, client, capabilities, ...resumption, ...begins, environment: environment() });
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
    const isCounted = this.#welcomed;
    try {
      decodeMessage(new Uint8Array(data), this.#decoded);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#fail(error.message, error);
      return;
    }
    if (isCounted) this.#sink.processed(data.byteLength);
    // A page in the background gets few timers, but its messages as ever.
    this.#pingIfSilent(now);
  }

  /**
   * What a message's frames are passed to. One object for all, for there are many frames.
   *
   * @type {import('./decode.js').Sink}
   */
  #decoded = {
    value: (topic, bytes) => this.#sink.value(topic, bytes),
    delta: (topic, form, delta) => this.#sink.delta(topic, form, delta),
    answer: (id, body) => this.#sink.answer(id, body),
    event: (event) => this.#handleEvent(event),
  };

  /** @param {import('./decode.js').ServerEvent} event */
  #handleEvent(event) {
    switch (event.op) {
      case 'ping':
        this.#say({ op: 'pong' });
        break;
      case 'pong':
        break;
      case 'received':
        this.#sink.received(event.requests);
        break;
      case 'staleness':
        this.#sink.staleness(event.stale);
        break;
      case 'later':
        this.#handleLater(event.wait_ms);
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
      case 'requested':
      case 'response':
      case 'response_error':
        this.#sink.messaging(event);
        break;
      case 'session_notice':
      case 'session_closed':
      case 'queue_notice':
      case 'presence_notice':
        this.#sink.sessions(event);
        break;
      default:
        this.#sink.topicEvent(event);
    }
  }

  /** @param {Welcome} welcome */
  #handleWelcome(welcome) {
    if (this.#welcomed || Number(welcome.id) !== CONNECT_ID) throw new ProtocolError('the server sent WELCOME without being asked');
    if (welcome.requests !== undefined && !this.#isGoingOn) throw new ProtocolError('the server goes on with a session that nobody asked for');
    this.#welcomed = true;
    this.#messageBytesMax = welcome.message_bytes_max || Infinity;
    this.#keepAliveMs = welcome.keep_alive_ms ?? 0;
    this.#watchKeepAlive();
    this.#sink.welcome(this, welcome);
    this.#opened();
  }

  /** @param {number} retryAfterMs */
  #handleLater(retryAfterMs) {
    if (this.#welcomed) throw new ProtocolError('the server puts a session off that has begun');
    const message = `very many clients connect to ${this.#options.url} at once, or it cannot say who this one is: it begins no session for the next ${retryAfterMs} ms`;
    this.#end({ code: CloseCode.COME_LATER, reason: '' }, new ComeLaterError(message, { code: CloseCode.COME_LATER, retryAfterMs }));
  }

  /** @param {import('./decode.js').ErrorMessage} message */
  #handleError({ id, code, message, position }) {
    const error = requestError(code, message, position);
    if (this.#welcomed || Number(id) !== CONNECT_ID) {
      this.#sink.error(id, error);
      return;
    }
    // There is nothing to go on with; the server has stayed to begin anew.
    if (isOver(error) && this.#isGoingOn && this.#shown !== undefined) this.#connect();
    else this.#end({ code: CloseCode.NORMAL, reason: message }, error);
  }

  /**
   * The server broke the protocol. The session ends with the connection: what was wrong would come again.
   *
   * @param {string} message
   * @param {ProtocolError} [error]
   */
  #fail(message, error = new ProtocolError(message)) {
    if (this.#welcomed) {
      this.#say({ op: 'close' });
      this.#flush();
    }
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
    clearTimeout(this.#keepAliveTimer);
    clearTimeout(this.#closeTimer);
    this.#release(close.code);
    if (this.#welcomed) {
      this.#opened();
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
  #say(message) {
    if (this.#ended || this.#closeRequested) return;
    encodeFrame(this.#writer, message);
    this.#flushSoon();
  }

  #flushSoon() {
    if (this.#writer.length >= MESSAGE_BYTES) this.#flush();
    else if (!this.#flushing) {
      this.#flushing = true;
      queueMicrotask(() => this.#flush());
    }
  }

  #flush() {
    this.#flushing = false;
    if (this.#ended || this.#closeRequested || this.#writer.length === 0) return;
    this.#sentAt = performance.now();
    this.#socket.send(this.#writer.take());
  }

  #watchKeepAlive() {
    if (this.#keepAliveMs > 0) this.#keepAliveTimer = setTimeout(() => this.#checkKeepAlive(), this.#keepAliveMs / LOOKS);
  }

  /**
   * A connection is not taken for dead at first sight: timers are late where the machine slept or the page was held back, and then nothing was heard
   * because nobody listened. The server is asked, has the time to answer, and what came meanwhile is read first.
   */
  #checkKeepAlive() {
    const now = performance.now();
    const pauseMs = this.#keepAliveMs / LOOKS;
    if (now - this.#heardAt <= 2 * this.#keepAliveMs - pauseMs) {
      this.#pingIfSilent(now);
    } else if (this.#probedAt <= this.#heardAt) {
      this.#probedAt = now;
      this.#say({ op: 'ping' });
    } else {
      this.#keepAliveTimer = setTimeout(() => this.#endIfSilent(), Math.min(pauseMs, GRACE_MS_MAX));
      return;
    }
    this.#watchKeepAlive();
  }

  #endIfSilent() {
    if (this.#probedAt > this.#heardAt) this.#end({ code: CloseCode.KEEP_ALIVE_TIMEOUT, reason: `nothing was heard for ${2 * this.#keepAliveMs} ms` });
    else this.#watchKeepAlive();
  }

  /**
   * The server, too, takes the connection for dead when it hears nothing.
   *
   * @param {number} now
   */
  #pingIfSilent(now) {
    if (this.#keepAliveMs > 0 && now - this.#sentAt >= this.#keepAliveMs && !this.#flushing) this.#say({ op: 'ping' });
  }
}

/**
 * Whether the session that was to go on is no more.
 *
 * @param {unknown} error
 */
function isOver(error) {
  return error instanceof CannotResumeError || error instanceof InvalidCountError;
}

/**
 * @param {number} ms
 * @param {AbortSignal} [signal] ends it
 * @returns {Promise<void>}
 */
function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const giveUp = () => {
      clearTimeout(timer);
      reject(new ConnectionError('connecting was given up', { cause: signal?.reason }));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', giveUp);
      resolve();
    }, ms);
    if (signal?.aborted) giveUp();
    else signal?.addEventListener('abort', giveUp, { once: true });
  });
}
