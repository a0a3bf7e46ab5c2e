/**
 * Where the WebSocket class comes from: the caller, the platform, or the `ws` package.
 *
 * Browsers and Node.js from 22 on have one. Node.js 20 has none, so there `ws` is loaded, which npm installs along with this package.
 *
 * @module
 */

import { ConnectionError } from './errors.js';

/**
 * The part of the WebSocket API that is used, which `ws` has as well.
 *
 * @typedef {object} WebSocketLike
 * @property {string} binaryType
 * @property {string} protocol
 * @property {((event: any) => void) | null} onopen
 * @property {((event: any) => void) | null} onmessage
 * @property {((event: any) => void) | null} onerror
 * @property {((event: any) => void) | null} onclose
 * @property {(bytes: any) => void} send
 * @property {(code?: number, reason?: string) => void} close
 * @property {() => void} [terminate] ends the connection without waiting for the other side; `ws` has it
 */

/** @typedef {new (url: string, protocols: string[]) => WebSocketLike} WebSocketClass */

// Bundlers for the browser leave alone what they cannot read, and there it is never loaded.
const PACKAGE = 'ws';

/**
 * @param {WebSocketClass | undefined} injected
 * @returns {Promise<WebSocketClass>}
 */
export async function findWebSocket(injected) {
  if (injected !== undefined) return injected;
  if (typeof globalThis.WebSocket === 'function') return /** @type {any} */ (globalThis.WebSocket);
  try {
    const loaded = await import(/* @vite-ignore */ /* webpackIgnore: true */ PACKAGE);
    return loaded.WebSocket;
  } catch (cause) {
    throw new ConnectionError(
      "this platform has no WebSocket: run `npm install ws`, use Node.js 22 or newer, or pass connect() the option 'WebSocket'",
      { cause },
    );
  }
}

/**
 * The address with what may be left out: the scheme of a page, and the path `/tidewire`.
 *
 * @param {unknown} url
 * @returns {string}
 * @throws {TypeError}
 */
export function completeUrl(url) {
  if (typeof url !== 'string' && !(url instanceof URL)) throw new TypeError("expected the server's address, such as 'ws://127.0.0.1:8080'");
  let complete;
  try {
    complete = new URL(url, globalThis.location?.href);
  } catch {
    throw new TypeError(`expected the server's address, such as 'ws://127.0.0.1:8080', found '${url}'`);
  }
  // An address is told in errors.
  if (complete.username !== '' || complete.password !== '') throw new TypeError('expected an address without name and password, which are options of connect');
  // Schemes of the same kind may be exchanged in place.
  if (complete.protocol === 'http:') complete.protocol = 'ws:';
  if (complete.protocol === 'https:') complete.protocol = 'wss:';
  if (complete.protocol !== 'ws:' && complete.protocol !== 'wss:') {
    throw new TypeError(`expected an address that starts with ws:// or wss://, found '${url}'`);
  }
  if (complete.pathname === '/') complete.pathname = '/tidewire';
  complete.hash = '';
  return complete.href;
}
