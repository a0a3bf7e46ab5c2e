/**
 * Frames of the binary form (`tidewire.1`) and the messages that they stand for.
 *
 * A message is a plain object with the members that `sdk/protocol/README.md` names; values are bytes here. This side
 * writes the client's operations and reads the server's events; operations, events and fields that it does not know are skipped.
 *
 * @module
 */

import { decodeUtf8, encodeUtf8, Reader, Writer } from './bytes.js';
import { ProtocolError } from './errors.js';
import { typeName, typeNumber } from './types.js';

/** @typedef {import('./types.js').TopicTypeName} TopicTypeName */
/** @typedef {Readonly<Record<string, string>>} Properties */

/**
 * @typedef {(
 *   | { op: 'connect', id: number, version: number, client?: string, capabilities?: number }
 *   | { op: 'ping' }
 *   | { op: 'pong' }
 *   | { op: 'close' }
 *   | { op: 'add', id: number, path: string, type: TopicTypeName, properties: Properties }
 *   | { op: 'set', id: number, path: string, type: TopicTypeName, value: Uint8Array }
 *   | { op: 'add_and_set', id: number, path: string, type: TopicTypeName, properties: Properties, value: Uint8Array }
 *   | { op: 'remove', id: number, selector: string }
 *   | { op: 'fetch', id: number, selector: string, after: string, first: number, values: boolean }
 *   | { op: 'subscribe', id: number, selector: string, scope: string }
 *   | { op: 'unsubscribe', id: number, selector: string, scope: string }
 * )} ClientMessage
 */

/**
 * @typedef {object} Welcome
 * @property {'welcome'} op
 * @property {number | bigint} id
 * @property {number} version
 * @property {string} [server] its name and version
 * @property {number} [capabilities]
 * @property {string} [session]
 * @property {number} [keep_alive_ms]
 * @property {number} [message_bytes_max]
 * @property {number} [path_bytes_max]
 * @property {number} [value_bytes_max]
 * @property {number} [selections_max]
 * @property {number} [fetch_page_max]
 */

/** @typedef {{ op: 'subscribed', topic: number | bigint, path: string, type: TopicTypeName, properties: Properties }} Subscribed */
/** @typedef {{ op: 'error', id: number | bigint, code: number, position?: number, message: string }} ErrorMessage */

/**
 * Everything but values, deltas and answers, which have ways of their own.
 *
 * @typedef {(
 *   | Welcome
 *   | ErrorMessage
 *   | Subscribed
 *   | { op: 'ping' }
 *   | { op: 'pong' }
 *   | { op: 'unsubscribed', topic: number | bigint, reason: number }
 * )} ServerEvent
 */

/**
 * Who is told what a message holds, frame by frame. Readers and views are good only until the method returns.
 *
 * @typedef {object} Sink
 * @property {(topic: number | bigint, bytes: Uint8Array) => void} value its bytes are the sink's own
 * @property {(topic: number | bigint, form: DeltaForm, delta: Uint8Array) => void} delta
 * @property {(id: number | bigint, body: Reader) => void} answer an OK; `body` is what `readAnswer` reads
 * @property {(event: ServerEvent) => void} event
 */

/** @typedef {'deflate' | 'copy'} DeltaForm */
/** @typedef {{ path: string, type: TopicTypeName | undefined, value?: Uint8Array }} FetchEntry without a type that is not known here */
/** @typedef {{ created?: boolean, removed?: number, has_more?: boolean, topics?: FetchEntry[] }} Answer */

/** The subprotocol of the binary form. */
export const SUBPROTOCOL = 'tidewire.1';
/** The highest version spoken. */
export const VERSION = 1;

/** What CONNECT says the client can decode. */
export const Capability = Object.freeze({ DELTA_DEFLATE: 1, DELTA_COPY: 2 });

/** @type {Readonly<Record<ClientMessage['op'], number>>} */
const OPERATIONS = Object.freeze({
  connect: 0x01,
  ping: 0x02,
  pong: 0x03,
  close: 0x04,
  add: 0x10,
  set: 0x11,
  add_and_set: 0x12,
  remove: 0x13,
  fetch: 0x14,
  subscribe: 0x18,
  unsubscribe: 0x19,
});

const PING = 0x02;
const PONG = 0x03;
const WELCOME = 0x81;
const OK = 0x82;
const ERROR = 0x83;
const SUBSCRIBED = 0x90;
const VALUE = 0x91;
const DELTA_DEFLATE = 0x92;
const DELTA_COPY = 0x93;
const UNSUBSCRIBED = 0x98;

const FETCH_WITH_VALUES = 1;

const FIELD_CLIENT = 1;
const FIELD_CAPABILITIES = 2;

/** @type {ReadonlyArray<keyof Welcome | undefined>} */
const WELCOME_FIELDS = [
  undefined,
  'server',
  'capabilities',
  'session',
  'keep_alive_ms',
  'message_bytes_max',
  'path_bytes_max',
  'value_bytes_max',
  'selections_max',
  'fetch_page_max',
];

/**
 * Appends one frame.
 *
 * @param {Writer} writer
 * @param {ClientMessage} message
 */
export function encodeFrame(writer, message) {
  writer.u8(OPERATIONS[message.op]);
  const start = writer.beginSized();
  if ('id' in message) writer.varint(message.id);
  switch (message.op) {
    case 'connect':
      writer.varint(message.version);
      writeConnectFields(writer, message.client, message.capabilities);
      break;
    case 'add':
      writeTopic(writer, message.path, message.type);
      writeProperties(writer, message.properties);
      break;
    case 'set':
      writeTopic(writer, message.path, message.type);
      writer.raw(message.value);
      break;
    case 'add_and_set':
      writeTopic(writer, message.path, message.type);
      writeProperties(writer, message.properties);
      writer.raw(message.value);
      break;
    case 'remove':
      writer.string(message.selector);
      break;
    case 'fetch':
      writer.string(message.selector);
      writer.string(message.after);
      writer.varint(message.first);
      writer.varint(message.values ? FETCH_WITH_VALUES : 0);
      break;
    case 'subscribe':
    case 'unsubscribe':
      writer.string(message.selector);
      writer.string(message.scope);
      break;
  }
  writer.endSized(start);
}

/**
 * Reads one WebSocket message of the server's and tells the sink.
 *
 * @param {Uint8Array} bytes
 * @param {Sink} sink
 * @throws {ProtocolError} where a frame overruns the message or does not have the form of its operation
 */
export function decodeMessage(bytes, sink) {
  const reader = new Reader(bytes);
  while (reader.more) {
    const op = reader.u8();
    const length = reader.size();
    const end = reader.position + length;
    if (end > bytes.length) throw new ProtocolError('a frame of the server overruns its message');
    reader.end = end;
    readFrame(op, reader, sink);
    reader.position = end;
    reader.end = bytes.length;
  }
}

/**
 * Reads the rest of an OK, whose form depends on what it answers.
 *
 * @param {ClientMessage['op']} op
 * @param {Reader} body
 * @returns {Answer}
 */
export function readAnswer(op, body) {
  switch (op) {
    case 'add':
    case 'add_and_set':
      return { created: body.u8() !== 0 };
    case 'remove':
      return { removed: body.size() };
    default:
      return {};
  }
}

/**
 * Reads the rest of the OK of a FETCH.
 *
 * @param {Reader} body
 * @param {boolean} values whether they were asked for
 * @returns {{ has_more: boolean, topics: FetchEntry[] }}
 */
export function readFetchAnswer(body, values) {
  const hasMore = body.u8() !== 0;
  const count = body.size();
  /** @type {FetchEntry[]} */
  const topics = [];
  for (let index = 0; index < count; index += 1) {
    const path = body.string();
    const type = typeName(body.u8());
    const size = values ? body.size() : 0;
    const value = size > 0 ? body.take(size - 1) : undefined;
    topics.push(value === undefined ? { path, type } : { path, type, value });
  }
  return { has_more: hasMore, topics };
}

/**
 * @param {number} op
 * @param {Reader} reader
 * @param {Sink} sink
 */
function readFrame(op, reader, sink) {
  switch (op) {
    case VALUE:
      return sink.value(reader.varint(), reader.copyRest());
    case DELTA_COPY:
      return sink.delta(reader.varint(), 'copy', reader.rest());
    case DELTA_DEFLATE:
      return sink.delta(reader.varint(), 'deflate', reader.rest());
    case OK:
      return sink.answer(reader.varint(), reader);
    default: {
      const event = readEvent(op, reader);
      return event && sink.event(event);
    }
  }
}

/**
 * @param {number} op
 * @param {Reader} reader
 * @returns {ServerEvent | undefined}
 */
function readEvent(op, reader) {
  switch (op) {
    case PING:
      return { op: 'ping' };
    case PONG:
      return { op: 'pong' };
    case WELCOME:
      return readWelcome(reader);
    case ERROR:
      return readError(reader);
    case SUBSCRIBED: {
      const topic = reader.varint();
      const path = reader.string();
      const type = typeName(reader.u8());
      // A topic of a type that this client does not know is left out, and with it what comes about it later.
      return type && { op: 'subscribed', topic, path, type, properties: readProperties(reader) };
    }
    case UNSUBSCRIBED:
      return { op: 'unsubscribed', topic: reader.varint(), reason: reader.u8() };
    default:
      return undefined;
  }
}

/**
 * @param {Reader} reader
 * @returns {Welcome}
 */
function readWelcome(reader) {
  /** @type {Record<string, unknown>} */
  const welcome = { op: 'welcome', id: reader.varint(), version: reader.size() };
  while (reader.more) {
    const name = WELCOME_FIELDS[reader.size()];
    const field = new Reader(reader.take(reader.size()));
    if (name === 'server' || name === 'session') welcome[name] = decodeUtf8(field.rest());
    else if (name !== undefined) welcome[name] = field.size();
  }
  return /** @type {Welcome} */ (/** @type {unknown} */ (welcome));
}

/**
 * @param {Reader} reader
 * @returns {ErrorMessage}
 */
function readError(reader) {
  const id = reader.varint();
  const code = reader.size();
  const position = reader.size();
  const message = decodeUtf8(reader.rest());
  return position === 0 ? { op: 'error', id, code, message } : { op: 'error', id, code, position: position - 1, message };
}

/**
 * @param {Reader} reader
 * @returns {Properties}
 */
function readProperties(reader) {
  const count = reader.size();
  /** @type {[string, string][]} */
  const entries = [];
  while (entries.length < count) entries.push([reader.string(), reader.string()]);
  return Object.fromEntries(entries);
}

/**
 * @param {Writer} writer
 * @param {Properties} properties
 */
function writeProperties(writer, properties) {
  const entries = Object.entries(properties);
  writer.varint(entries.length);
  for (const [key, value] of entries) {
    writer.string(key);
    writer.string(value);
  }
}

/**
 * @param {Writer} writer
 * @param {string} path
 * @param {TopicTypeName} type
 */
function writeTopic(writer, path, type) {
  writer.string(path);
  writer.u8(typeNumber(type));
}

/**
 * @param {Writer} writer
 * @param {string | undefined} client
 * @param {number | undefined} capabilities
 */
function writeConnectFields(writer, client, capabilities) {
  if (client !== undefined) {
    writer.varint(FIELD_CLIENT);
    const bytes = encodeUtf8(client);
    writer.varint(bytes.length);
    writer.raw(bytes);
  }
  if (capabilities !== undefined) {
    writer.varint(FIELD_CAPABILITIES);
    const start = writer.beginSized();
    writer.varint(capabilities);
    writer.endSized(start);
  }
}
