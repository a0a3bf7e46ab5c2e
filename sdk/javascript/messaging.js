/**
 * Requests between clients: `session.messaging`.
 *
 * A client that handles a branch of paths answers what others ask there. A request goes to one handler at most once, and is always answered: by the
 * response, by the handler's rejection, or by why there is none. Handlers are registered again in a new session; requests that it was given and that
 * it asked belong to the old one, and end with it.
 *
 * @module
 */

import { CloseCode, ConnectionError, IncompatibleTypeError, OutcomeUnknownError, RequestError, requestError } from './errors.js';
import { reportUncaught } from './stream.js';
import { canRead, checkDataType, checkText, decodeValue, evidentType, isNoValue, show } from './types.js';

/** @typedef {import('./encode.js').ClientMessage} ClientMessage */
/** @typedef {import('./decode.js').MessagingEvent} MessagingEvent */
/** @typedef {import('./types.js').DataTypeName} DataTypeName */

/** Names that stand for all of a kind among the properties that a handler wants to know of those who ask. */
export const SessionProperties = Object.freeze({
  ALL_FIXED: 'ALL_FIXED_PROPERTIES',
  ALL_USER: 'ALL_USER_PROPERTIES',
});

/**
 * A request as its handler gets it.
 *
 * @typedef {object} ReceivedRequest
 * @property {string} path
 * @property {any} value
 * @property {DataTypeName} type of the value
 * @property {string} sessionId who asks
 * @property {Readonly<Record<string, string>>} sessionProperties those that the handler wanted to know
 * @property {boolean} isOneWay nobody waits for a response
 */

/**
 * Returns the response, or a promise of it. What it throws rejects the request, with its message.
 *
 * @typedef {(request: ReceivedRequest) => unknown} RequestCallback
 */

/**
 * @typedef {object} HandlerOptions
 * @property {readonly string[]} [sessionProperties] which properties of the asking session come with each request; `SessionProperties` stands for all of
 *   a kind
 * @property {DataTypeName} [type] of the responses; where it is not plain it is JSON
 */

/** @typedef {{ type?: DataTypeName }} SendOptions `type` of the value; where it is not plain it is JSON */

/**
 * @typedef {object} TimedOptions
 * @property {DataTypeName} [type] of the value; where it is not plain it is JSON
 * @property {number} [timeoutMs] for how long the handler may take, at most as long as the server allows; the session's `requestTimeoutMs` unless given
 * @property {DataTypeName} [responseType] what the response has to be readable as
 */

/**
 * What comes of a request to many.
 *
 * @typedef {object} ResponseCallbacks
 * @property {(sessionId: string, value: any) => void} [onResponse]
 * @property {(sessionId: string | undefined, error: Error) => void} [onError] one session rejects or cannot be asked; without a session it is the end: the
 *   others did not answer in time, or this session is over
 */

/** @typedef {TimedOptions & ResponseCallbacks} FilterOptions */

/**
 * What messaging needs of its session.
 *
 * @typedef {object} MessagingSession
 * @property {(message: (id: number) => ClientMessage, timeoutMs?: number) => Promise<any>} request
 * @property {(message: ClientMessage) => void} tell throws where nothing can be sent
 * @property {(message: ClientMessage) => void} respond
 * @property {(path: unknown) => string} path checks it
 * @property {(type: DataTypeName, value: unknown) => Uint8Array} encode
 * @property {() => number} sessionNumber another one for each session of the server's
 * @property {number} requestTimeoutMs 0: none
 */

/** What the server keeps of a handler's word why it rejects a request. */
const REJECTION_LENGTH_MAX = 1_024;

export class Messaging {
  #session;
  /** By number. @type {Map<number, RequestHandler>} */
  #handlers = new Map();
  #nextHandler = 1;
  /** Requests to many whose responses may still come, by the id of the request. @type {Map<number, Responses>} */
  #asked = new Map();

  /** @param {MessagingSession} session */
  constructor(session) {
    this.#session = session;
  }

  /**
   * Handles requests to a path and all below it. Of handlers of several branches that of the longest one is asked; of several sessions that handle one
   * branch, one that is less busy.
   *
   * @param {string} path
   * @param {RequestCallback} callback
   * @param {HandlerOptions} [options]
   * @returns {Promise<RequestHandler>} settles when requests come
   */
  async addRequestHandler(path, callback, { sessionProperties = [], type } = {}) {
    const checked = this.#session.path(path);
    if (typeof callback !== 'function') throw new TypeError(`expected a function as the request handler, found ${show(callback)}`);
    const wanted = checkKeys(sessionProperties);
    if (type !== undefined) checkDataType(type);
    const message = (/** @type {number} */ handler, /** @type {number} */ id) =>
      /** @type {const} */ ({ op: 'handle_requests', id, handler, path: checked, session_properties: wanted });
    return this.#register(checked, message, (request) => this.#serve(request, callback, type));
  }

  /**
   * Answers what the server asks of its authenticator of this name. `session.security.addAuthenticator` says what that is.
   *
   * @internal
   * @param {string} name
   * @param {(question: any) => Promise<unknown>} answer
   */
  addAuthenticator(name, answer) {
    const message = (/** @type {number} */ handler, /** @type {number} */ id) => /** @type {const} */ ({ op: 'handle_authentication', id, handler, name });
    return this.#register(`Tidewire/Authentication/${name}`, message, (request) => this.#serve(request, ({ value }) => answer(value), 'json'));
  }

  /**
   * @param {string} path
   * @param {(handler: number, id: number) => ClientMessage} message
   * @param {(request: Extract<MessagingEvent, { op: 'requested' }>) => void} serve
   */
  async #register(path, message, serve) {
    const number = this.#nextHandler;
    this.#nextHandler += 1;
    const end = () => this.#session.request((id) => ({ op: 'unhandle_requests', id, handler: number })).finally(() => this.#handlers.delete(number));
    const handler = new RequestHandler(number, path, (id) => message(number, id), serve, end);
    // Requests may come together with the answer.
    this.#handlers.set(number, handler);
    try {
      await this.#session.request(handler.message);
    } catch (error) {
      this.#handlers.delete(number);
      throw error;
    }
    handler.isRegistered = true;
    return handler;
  }

  /**
   * Asks who handles the path.
   *
   * @param {string} path
   * @param {any} value
   * @param {TimedOptions} [options]
   * @returns {Promise<any>} the response's value
   */
  async sendRequest(path, value, options = {}) {
    const asking = this.#asking(path, value, options);
    return this.#ask((id) => ({ op: 'request', id, ...asking }), options);
  }

  /**
   * Asks one session, which has to handle the path.
   *
   * @param {string} sessionId
   * @param {string} path
   * @param {any} value
   * @param {TimedOptions} [options]
   * @returns {Promise<any>} the response's value
   */
  async sendRequestToSession(sessionId, path, value, options = {}) {
    const session = checkText(sessionId, "a session's id");
    const asking = this.#asking(path, value, options);
    return this.#ask((id) => ({ op: 'request_session', id, session, ...asking }), options);
  }

  /**
   * Asks every session that a filter means. Each is heard of once, unless the time is over before.
   *
   * @param {string} filter such as `Tier is 'gold' and not has Trial`
   * @param {string} path
   * @param {any} value
   * @param {FilterOptions} [options]
   * @returns {Promise<number>} how many were asked; their responses come later
   */
  async sendRequestToFilter(filter, path, value, options = {}) {
    const text = checkText(filter, 'a session filter');
    const asking = this.#asking(path, value, options);
    const responses = new Responses(options);
    let key = 0;
    try {
      const { asked } = await this.#session.request((id) => {
        key = id;
        this.#asked.set(id, responses);
        return { op: 'request_filter', id, filter: text, ...asking };
      }, this.#timeoutMs(options));
      if (responses.expect(asked)) this.#asked.delete(key);
      return asked;
    } catch (error) {
      this.#asked.delete(key);
      throw error;
    }
  }

  /**
   * Sends a value to who handles the path, and waits for nothing. What the server refuses comes as the session's `error`.
   *
   * @param {string} path
   * @param {any} value
   * @param {SendOptions} [options]
   * @returns {Promise<void>} settles when it is sent, or waits for the connection
   */
  async send(path, value, { type } = {}) {
    this.#session.tell({ op: 'request', id: 0, path: this.#session.path(path), ...this.#payload(value, type) });
  }

  /**
   * @internal
   * @param {MessagingEvent} event
   */
  handleEvent(event) {
    if (event.op === 'requested') this.#handleRequested(event);
    else {
      const key = Number(event.id);
      if (this.#asked.get(key)?.handle(event)) this.#asked.delete(key);
    }
  }

  /**
   * The handlers that have to be registered again in a new session.
   *
   * @internal
   * @returns {RequestHandler[]}
   */
  registered() {
    return [...this.#handlers.values()].filter(({ isRegistered, closed }) => isRegistered && !closed);
  }

  /**
   * The server does not register a handler again.
   *
   * @internal
   * @param {RequestHandler} handler
   */
  drop(handler) {
    handler.end();
    this.#handlers.delete(handler.number);
  }

  /**
   * The server's session is over, and with it what it asked many.
   *
   * @internal
   */
  endSession() {
    const error = new OutcomeUnknownError('the session ended before all responses', { code: CloseCode.ABNORMAL });
    for (const responses of this.#asked.values()) responses.end(error);
    this.#asked.clear();
  }

  /**
   * The session is closed.
   *
   * @internal
   */
  close() {
    this.endSession();
    for (const handler of this.#handlers.values()) handler.end();
    this.#handlers.clear();
  }

  /** @param {Extract<MessagingEvent, { op: 'requested' }>} requested */
  #handleRequested(requested) {
    const handler = this.#handlers.get(requested.handler);
    if (handler !== undefined) handler.serve(requested);
    else this.#answer(requested, this.#session.sessionNumber(), { op: 'reject', id: 0, request: requested.request, message: 'the handler is closed' });
  }

  /**
   * @param {Extract<MessagingEvent, { op: 'requested' }>} requested
   * @param {RequestCallback} callback
   * @param {DataTypeName} [type] of the response
   */
  async #serve(requested, callback, type) {
    // The numbers of requests are of one session of the server's.
    const sessionNumber = this.#session.sessionNumber();
    const { request } = requested;
    try {
      const response = await callback(receivedRequest(requested));
      this.#answer(requested, sessionNumber, { op: 'respond', id: 0, request, ...this.#payload(response === undefined ? null : response, type) });
    } catch (error) {
      if (request === 0) reportUncaught(error);
      this.#answer(requested, sessionNumber, { op: 'reject', id: 0, request, message: messageOf(error) });
    }
  }

  /**
   * @param {Extract<MessagingEvent, { op: 'requested' }>} requested
   * @param {number} sessionNumber that it came in
   * @param {ClientMessage} answer
   */
  #answer({ request }, sessionNumber, answer) {
    if (request !== 0 && sessionNumber === this.#session.sessionNumber()) this.#session.respond(answer);
  }

  /**
   * @param {(id: number) => ClientMessage} message
   * @param {TimedOptions} options
   */
  async #ask(message, options) {
    const payload = await this.#session.request(message, this.#timeoutMs(options));
    return readPayload(payload, options.responseType);
  }

  /**
   * @param {string} path
   * @param {any} value
   * @param {TimedOptions} options
   */
  #asking(path, value, { type, timeoutMs = this.#session.requestTimeoutMs, responseType }) {
    if (typeof timeoutMs !== 'number' || !(timeoutMs >= 0)) {
      throw new TypeError(`expected milliseconds as the option timeoutMs, found ${show(timeoutMs)}`);
    }
    if (responseType !== undefined) checkDataType(responseType);
    const whole = Math.ceil(timeoutMs);
    const timed = Number.isSafeInteger(whole) && whole > 0 ? { timeout_ms: whole } : {};
    return { path: this.#session.path(path), ...timed, ...this.#payload(value, type) };
  }

  /**
   * How long this side waits. The server answers when the handler's time is over, so that is only for one that is not heard.
   *
   * @param {TimedOptions} options
   */
  #timeoutMs({ timeoutMs = this.#session.requestTimeoutMs }) {
    const { requestTimeoutMs } = this.#session;
    return requestTimeoutMs === 0 ? 0 : timeoutMs + requestTimeoutMs;
  }

  /**
   * @param {unknown} value
   * @param {DataTypeName | undefined} given
   * @returns {import('./encode.js').Payload}
   */
  #payload(value, given) {
    const type = given === undefined ? evidentType(value) ?? 'json' : checkDataType(given);
    return { type, value: isNoValue(type, value) ? null : this.#session.encode(type, value) };
  }
}

/** Who handles requests; made by `addRequestHandler`. */
export class RequestHandler {
  #serve;
  #end;
  #closed = false;

  /**
   * @internal
   * @param {number} number
   * @param {string} path
   * @param {(id: number) => ClientMessage} message registers it
   * @param {(request: Extract<MessagingEvent, { op: 'requested' }>) => void} serve
   * @param {() => Promise<unknown>} end takes it back from the server
   */
  constructor(number, path, message, serve, end) {
    /** @internal */
    this.number = number;
    this.path = path;
    /** @internal */
    this.message = message;
    /** Whether the server has answered that. @internal */
    this.isRegistered = false;
    this.#serve = serve;
    this.#end = end;
  }

  /** It was closed, or its session was. */
  get closed() {
    return this.#closed;
  }

  /**
   * Ends handling. Requests that it has been given are answered still.
   *
   * @returns {Promise<void>}
   */
  async close() {
    if (this.#closed) return;
    this.#closed = true;
    try {
      await this.#end();
    } catch (error) {
      // The server does not know of it any more.
      if (!(error instanceof ConnectionError || error instanceof RequestError)) throw error;
    }
  }

  /**
   * @internal
   * @param {Extract<MessagingEvent, { op: 'requested' }>} requested
   */
  serve(requested) {
    this.#serve(requested);
  }

  /**
   * Ends it on this side.
   *
   * @internal
   */
  end() {
    this.#closed = true;
  }
}

/** The responses to a request to many, as far as they are still to come. */
class Responses {
  #options;
  /** How many are to come; less than 0 where some came before their number was known. */
  #left = 0;
  #isCounted = false;
  /** @type {Error | undefined} */
  #end;

  /** @param {FilterOptions} options */
  constructor(options) {
    for (const name of /** @type {const} */ (['onResponse', 'onError'])) {
      const callback = options[name];
      if (callback !== undefined && typeof callback !== 'function') throw new TypeError(`expected a function as ${name}, found ${show(callback)}`);
    }
    this.#options = options;
  }

  /**
   * @param {number} asked how many were
   * @returns {boolean} whether none is to come
   */
  expect(asked) {
    this.#left += asked;
    this.#isCounted = true;
    if (this.#left > 0 && this.#end !== undefined) this.#fail(undefined, this.#end);
    return this.#left === 0;
  }

  /**
   * @param {Exclude<MessagingEvent, { op: 'requested' }>} event
   * @returns {boolean} whether it was the last
   */
  handle(event) {
    const { session } = event;
    if (event.op === 'response_error') {
      this.#fail(session === '' ? undefined : session, requestError(event.code, event.message));
      if (session === '') return true;
    } else this.#succeed(event);
    this.#left -= 1;
    return this.#isCounted && this.#left === 0;
  }

  /** @param {Error} error why no more come */
  end(error) {
    this.#end = error;
    if (this.#isCounted) this.#fail(undefined, error);
  }

  /** @param {Extract<MessagingEvent, { op: 'response' }>} response */
  #succeed({ session, ...payload }) {
    let value;
    try {
      value = readPayload(payload, this.#options.responseType);
    } catch (error) {
      this.#fail(session, /** @type {Error} */ (error));
      return;
    }
    this.#call(() => this.#options.onResponse?.(session, value));
  }

  /**
   * @param {string | undefined} session
   * @param {Error} error
   */
  #fail(session, error) {
    this.#call(() => this.#options.onError?.(session, error));
  }

  /** @param {() => void} callback */
  #call(callback) {
    try {
      callback();
    } catch (error) {
      reportUncaught(error);
    }
  }
}

/**
 * @param {Extract<MessagingEvent, { op: 'requested' }>} requested
 * @returns {ReceivedRequest}
 */
function receivedRequest(requested) {
  const { path, session: sessionId, properties, request } = requested;
  const value = readPayload(requested);
  const type = /** @type {DataTypeName} */ (requested.type);
  return { path, value, type, sessionId, sessionProperties: properties, isOneWay: request === 0 };
}

/**
 * @param {import('./decode.js').Payload} payload
 * @param {DataTypeName} [wanted]
 * @returns {any}
 * @throws {IncompatibleTypeError}
 */
function readPayload({ type, value }, wanted) {
  if (type === undefined) throw new IncompatibleTypeError('the value is of a type that only a newer client knows');
  if (wanted !== undefined && !canRead(wanted, type)) throw new IncompatibleTypeError(`the response is ${type}, which cannot be read as ${wanted}`);
  return value === undefined ? null : decodeValue(type, value);
}

/** @param {unknown} error */
function messageOf(error) {
  const text = error instanceof Error ? error.message : String(error);
  return text.slice(0, REJECTION_LENGTH_MAX);
}

/** @param {readonly string[]} keys */
export function checkKeys(keys) {
  if (!Array.isArray(keys)) throw new TypeError(`expected an array as the option sessionProperties, found ${show(keys)}`);
  return keys.map((key) => checkText(key, "a session property's key"));
}
