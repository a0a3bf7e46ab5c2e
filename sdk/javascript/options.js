/**
 * What `connect` is told, checked before anything is sent.
 *
 * @module
 */

import { checkSessionProperties } from './clients.js';
import { Identity } from './credentials.js';
import { checkText, show } from './types.js';

/**
 * How a lost connection is made anew. The pause before the n-th attempt is `initialDelayMs * 2 ** (n - 1)`, at most
 * `delayMaxMs`, of which a random part of up to one half is left out, so that the clients of a server that restarts do not
 * come all at once.
 *
 * @typedef {object} ReconnectOptions
 * @property {number} [initialDelayMs] 250
 * @property {number} [delayMaxMs] 30,000
 * @property {number} [attemptsMax] in a row; no bound unless given
 */

/**
 * @typedef {object} ConnectOptions
 * @property {string} [principal] who the client is; where a token says it, it may be left out
 * @property {import('./credentials.js').Credentials} [credentials] what it shows for that: a password, `{ password }`, `{ bearer }`, or a function, which may be
 *   async, that gives one of these and is asked whenever a session is to begin. An anonymous session has none
 * @property {string} [name] of the client, for the server's operators
 * @property {Readonly<Record<string, string>>} [properties] of the session, by which filters mean it; keys begin with a letter
 * @property {ReconnectOptions | false} [reconnect] false: a lost connection closes the session
 * @property {number} [resumeMs] for how long the server is to keep the session while it has no connection, at most as long as the server allows; 300,000.
 *   0: a session ends with its connection, and a new one begins on the next
 * @property {boolean} [durable] whether the session is to outlive the server too, where that stores anything: its id, properties and selections; false
 * @property {number} [connectTimeoutMs] 10,000
 * @property {number} [requestTimeoutMs] 30,000; 0: none
 * @property {number} [closeTimeoutMs] 2,000
 * @property {(event: import('./session.js').StateEvent) => void} [onState] as `session.on('state', …)`, from the first state on
 * @property {AbortSignal} [signal] gives up connecting
 * @property {import('./websocket.js').WebSocketClass} [WebSocket] instead of the platform's
 */

const DEFAULTS = { resumeMs: 300_000, durable: false, connectTimeoutMs: 10_000, requestTimeoutMs: 30_000, closeTimeoutMs: 2_000 };
const RECONNECT_DEFAULTS = { initialDelayMs: 250, delayMaxMs: 30_000, attemptsMax: Infinity };

/**
 * With the defaults, and with an `identity` in the place of principal and credentials.
 *
 * @param {ConnectOptions} options
 * @throws {TypeError}
 */
export function checkOptions(options) {
  if (typeof options !== 'object' || options === null) throw new TypeError(`expected the options as an object, found ${show(options)}`);
  const { principal, credentials, ...others } = options;
  const { reconnect = {}, name, properties, onState } = others;
  const identity = new Identity(principal, credentials);
  const checked = { ...DEFAULTS, ...defined(others), identity, reconnect: /** @type {false | Required<ReconnectOptions>} */ (false) };
  if (name !== undefined) checkText(name, 'the option name');
  if (properties !== undefined) checked.properties = checkSessionProperties(properties);
  if (onState !== undefined && typeof onState !== 'function') {
    throw new TypeError(`expected a function as the option onState, found ${show(onState)}`);
  }
  for (const key of /** @type {const} */ (['connectTimeoutMs', 'requestTimeoutMs', 'closeTimeoutMs'])) checkCount(key, checked[key]);
  if (typeof checked.durable !== 'boolean') throw new TypeError(`expected true or false as the option durable, found ${show(checked.durable)}`);
  if (!Number.isSafeInteger(checked.resumeMs) || checked.resumeMs < 0) {
    throw new TypeError(`expected whole milliseconds, or 0 for none, as the option resumeMs, found ${show(checked.resumeMs)}`);
  }
  if (reconnect === false) return checked;
  if (typeof reconnect !== 'object' || reconnect === null) {
    throw new TypeError(`expected an object or false as the option reconnect, found ${show(reconnect)}`);
  }
  checked.reconnect = { ...RECONNECT_DEFAULTS, ...defined(reconnect) };
  for (const [key, value] of Object.entries(checked.reconnect)) checkCount(`reconnect.${key}`, value);
  return checked;
}

/**
 * Without the members that are undefined, which would hide the defaults.
 *
 * @template {object} T
 * @param {T} options
 * @returns {T}
 */
function defined(options) {
  return /** @type {T} */ (Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)));
}

/**
 * @param {string} name
 * @param {unknown} value
 */
function checkCount(name, value) {
  if (typeof value !== 'number' || !(value >= 0)) throw new TypeError(`expected a number of at least 0 as the option ${name}, found ${show(value)}`);
}
