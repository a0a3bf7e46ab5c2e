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
/** @typedef {import('./types.js').DataTypeName} DataTypeName */
/** @typedef {Readonly<Record<string, string>>} Properties */

/**
 * What UPDATE and STREAM_OPEN set, and under which condition. A `value` of null is no value; without `value` and `patch` nothing is set.
 *
 * @typedef {object} UpdateFields
 * @property {TopicTypeName} [type] left out with a patch
 * @property {Uint8Array | null} [value]
 * @property {string} [constraint] its JSON form
 * @property {Properties} [properties] the topic is added if there is none
 * @property {string} [patch] an RFC 6902 text
 */

/**
 * @typedef {object} FetchMessage
 * @property {'fetch'} op
 * @property {number} id
 * @property {string} selector
 * @property {string} after
 * @property {number} first
 * @property {boolean} values
 * @property {boolean} [with_properties]
 * @property {boolean} [sizes]
 * @property {string} [from]
 * @property {string} [to]
 * @property {string} [before]
 * @property {number} [last]
 * @property {readonly TopicTypeName[]} [types]
 * @property {number} [depth]
 * @property {number} [depth_limit]
 * @property {number} [bytes_max]
 */

/**
 * A range of a query, with the members that the text form names; without `from` it starts at the start, without `to` it ends at the end.
 *
 * @typedef {{ from?: Readonly<Record<string, number>>, to?: Readonly<Record<string, number>> }} QueryRange
 */

/** @typedef {'values' | 'latest_edits' | 'all_edits'} QueryKind */
/** @typedef {'topics' | 'subscribers' | 'missing'} ListenerKind */

/**
 * @typedef {(
 *   | { op: 'connect', id: number, version: number, client?: string, capabilities?: number, token?: string, processed?: number, resume_ms?: number }
 *   | { op: 'ping' }
 *   | { op: 'pong' }
 *   | { op: 'close' }
 *   | { op: 'processed', id: number, messages: number }
 *   | { op: 'add', id: number, path: string, type: TopicTypeName, properties: Properties }
 *   | { op: 'set', id: number, path: string, type: TopicTypeName, value: Uint8Array | null }
 *   | { op: 'add_and_set', id: number, path: string, type: TopicTypeName, properties: Properties, value: Uint8Array | null }
 *   | { op: 'remove', id: number, selector: string }
 *   | FetchMessage
 *   | { op: 'update', id: number, path: string } & UpdateFields
 *   | { op: 'subscribe', id: number, selector: string, scope: string }
 *   | { op: 'unsubscribe', id: number, selector: string, scope: string }
 *   | { op: 'unsubscribe_all_scopes', id: number, selector: string }
 *   | { op: 'listen', id: number, listener: number, kind: ListenerKind, selector: string }
 *   | { op: 'unlisten', id: number, listener: number, selector: string }
 *   | { op: 'stream_open', id: number, stream: number, path: string } & UpdateFields
 *   | { op: 'stream_set', id: number, stream: number, value: Uint8Array }
 *   | { op: 'stream_delta', id: number, stream: number, form: DeltaForm, delta: Uint8Array }
 *   | { op: 'stream_close', id: number, stream: number }
 *   | { op: 'append', id: number, path: string, type: DataTypeName, timestamp?: number, value: Uint8Array }
 *   | { op: 'edit', id: number, path: string, type: DataTypeName, original: number, value: Uint8Array }
 *   | { op: 'query', id: number, path: string, kind?: QueryKind, range?: QueryRange, edit_range?: QueryRange, limit?: number }
 *   | { op: 'create_view', id: number, name: string, definition: string }
 *   | { op: 'remove_view', id: number, name: string }
 *   | { op: 'list_views', id: number, after?: number }
 *   | { op: 'get_view', id: number, name: string }
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
 * @property {string} [token] by which the session may be gone on with
 * @property {number} [resume_ms]
 * @property {number} [recovery_bytes_max]
 * @property {number} [requests] those that the server has, where this connection goes on with an earlier one's session
 */

/** @typedef {{ op: 'subscribed', topic: number | bigint, path: string, type: TopicTypeName, properties: Properties }} Subscribed */
/** @typedef {{ sequence: number, timestamp: number, original?: number, author: string, value: Uint8Array }} EventEntry */
/** @typedef {{ op: 'event', topic: number | bigint } & EventEntry} EventMessage */
/** @typedef {{ op: 'error', id: number | bigint, code: number, position?: number, message: string }} ErrorMessage */

/**
 * What comes about a subscribed topic beside values and deltas.
 *
 * @typedef {(
 *   | Subscribed
 *   | EventMessage
 *   | { op: 'null_value', topic: number | bigint }
 *   | { op: 'value_deflate', topic: number | bigint, deflated: Uint8Array }
 *   | { op: 'unsubscribed', topic: number | bigint, reason: number }
 *   | { op: 'gap', topic: number | bigint }
 * )} TopicEvent
 */

/**
 * What comes to a listener. A specification has no type where it is one that only a newer server knows.
 *
 * @typedef {(
 *   | { op: 'topic_notice', listener: number, what: number, path: string, type: TopicTypeName | undefined, properties: Properties }
 *   | { op: 'descendant_notice', listener: number, what: number, path: string }
 *   | { op: 'subscribers_notice', listener: number, path: string, has_subscribers: boolean }
 *   | { op: 'missing_notice', listener: number, selector: string, session: string, properties: Properties }
 * )} Notice
 */

/**
 * Everything but values, deltas and answers, which have ways of their own.
 *
 * @typedef {(
 *   | Welcome
 *   | ErrorMessage
 *   | TopicEvent
 *   | Notice
 *   | { op: 'received', requests: number }
 *   | { op: 'ping' }
 *   | { op: 'pong' }
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
/**
 * One topic of a FETCH's answer.
 *
 * @typedef {object} FetchEntry
 * @property {string} path
 * @property {TopicTypeName | undefined} type undefined for one that is not known here
 * @property {Uint8Array} [value]
 * @property {Properties} [properties]
 * @property {number} [size]
 */

/**
 * One view of an answer to LIST_VIEWS or GET_VIEW.
 *
 * @typedef {object} ViewEntry
 * @property {string} name
 * @property {string} definition
 * @property {number} place
 * @property {boolean} dormant
 * @property {number} sources
 * @property {number} references
 * @property {number} evaluations
 * @property {number} failures
 * @property {string} last_failure
 */

/** @typedef {{ values?: boolean, with_properties?: boolean, sizes?: boolean }} Asked what a FETCH wants of each topic */
/** @typedef {{ has_more: boolean, topics: FetchEntry[] }} FetchAnswer */
/** @typedef {{ complete: boolean, type: DataTypeName, events: EventEntry[] }} QueryAnswer */
/** @typedef {{ has_more: boolean, views: ViewEntry[] }} ViewsAnswer */
/** @typedef {{ created?: boolean, removed?: number, sequence?: number, timestamp?: number }} Answer */

/** The subprotocol of the binary form. */
export const SUBPROTOCOL = 'tidewire.1';
/** The highest version spoken. */
export const VERSION = 1;

/** What CONNECT says the client can decode. */
export const Capability = Object.freeze({ DELTA_DEFLATE: 1, DELTA_COPY: 2, VALUE_DEFLATE: 4 });

/** @type {Readonly<Record<ClientMessage['op'], number>>} */
const OPERATIONS = Object.freeze({
  connect: 0x01,
  ping: 0x02,
  pong: 0x03,
  close: 0x04,
  processed: 0x05,
  add: 0x10,
  set: 0x11,
  add_and_set: 0x12,
  remove: 0x13,
  fetch: 0x14,
  update: 0x15,
  subscribe: 0x18,
  unsubscribe: 0x19,
  unsubscribe_all_scopes: 0x1a,
  listen: 0x1c,
  unlisten: 0x1d,
  stream_open: 0x20,
  stream_set: 0x21,
  stream_delta: 0x22,
  stream_close: 0x23,
  append: 0x28,
  edit: 0x29,
  query: 0x2a,
  create_view: 0x40,
  remove_view: 0x41,
  list_views: 0x42,
  get_view: 0x43,
});

const PING = 0x02;
const PONG = 0x03;
const WELCOME = 0x81;
const OK = 0x82;
const ERROR = 0x83;
const RECEIVED = 0x85;
const SUBSCRIBED = 0x90;
const VALUE = 0x91;
const DELTA_DEFLATE = 0x92;
const DELTA_COPY = 0x93;
const NULL_VALUE = 0x94;
const EVENT = 0x95;
const UNSUBSCRIBED = 0x98;
const VALUE_DEFLATE = 0x99;
const GAP = 0x9a;
const TOPIC_NOTICE = 0xa0;
const DESCENDANT_NOTICE = 0xa1;
const SUBSCRIBERS_NOTICE = 0xa2;
const MISSING_NOTICE = 0xa3;

/** In the type of an update: the value is null. */
const NULL_BIT = 0x80;

/** The bits of FETCH's flags. */
const FETCH_WITH_VALUES = 1;
const FETCH_WITH_PROPERTIES = 2;
const FETCH_WITH_SIZES = 4;

/** @type {Readonly<Record<ListenerKind, number>>} */
const LISTENER_KINDS = Object.freeze({ topics: 1, subscribers: 2, missing: 3 });

/** @type {readonly QueryKind[]} */
const QUERY_KINDS = ['values', 'latest_edits', 'all_edits'];
/** By number; the first has none of its own. */
const ANCHORS = ['start', 'sequence', 'instant', 'last_events', 'last_ms'];
const SPANS = ['end', 'sequence', 'instant', 'next_events', 'next_ms', 'until_last_events', 'until_last_ms', 'previous_events', 'previous_ms'];

/** The only bit of a view's flags. */
const VIEW_IS_DORMANT = 1;

const NOTHING = new Uint8Array(0);

const FIELD_CLIENT = 1;
const FIELD_CAPABILITIES = 2;
const FIELD_TOKEN = 4;
const FIELD_PROCESSED = 5;
const FIELD_RESUME_MS = 6;

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
  'token',
  'resume_ms',
  'recovery_bytes_max',
  'requests',
];

/** Those of WELCOME's fields that are text; the others are numbers. */
const WELCOME_TEXTS = new Set(['server', 'session', 'token']);

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
  writeBody(writer, message);
  writer.endSized(start);
}

/**
 * Writes what follows the id.
 *
 * @param {Writer} writer
 * @param {ClientMessage} message
 */
function writeBody(writer, message) {
  switch (message.op) {
    case 'connect':
      writer.varint(message.version);
      if (message.client !== undefined) writeBytes(writer, FIELD_CLIENT, encodeUtf8(message.client));
      writeNumber(writer, FIELD_CAPABILITIES, message.capabilities);
      if (message.token !== undefined) writeBytes(writer, FIELD_TOKEN, encodeUtf8(message.token));
      writeNumber(writer, FIELD_PROCESSED, message.processed);
      writeNumber(writer, FIELD_RESUME_MS, message.resume_ms);
      break;
    case 'processed':
      writer.varint(message.messages);
      break;
    case 'add':
      writeTopic(writer, message.path, message.type);
      writeProperties(writer, message.properties);
      break;
    case 'set':
      writeTopic(writer, message.path, message.type, message.value);
      writer.raw(message.value ?? NOTHING);
      break;
    case 'add_and_set':
      writeTopic(writer, message.path, message.type, message.value);
      writeProperties(writer, message.properties);
      writer.raw(message.value ?? NOTHING);
      break;
    case 'update':
      writer.string(message.path);
      writeUpdateFields(writer, message);
      break;
    case 'remove':
    case 'unsubscribe_all_scopes':
      writer.string(message.selector);
      break;
    case 'fetch':
      writeFetch(writer, message);
      break;
    case 'subscribe':
    case 'unsubscribe':
      writer.string(message.selector);
      writer.string(message.scope);
      break;
    case 'listen':
      writer.varint(message.listener);
      writer.u8(LISTENER_KINDS[message.kind]);
      writer.string(message.selector);
      break;
    case 'unlisten':
      writer.varint(message.listener);
      writer.string(message.selector);
      break;
    case 'stream_open':
    case 'stream_set':
    case 'stream_delta':
    case 'stream_close':
      writeStream(writer, message);
      break;
    case 'append':
      writeTopic(writer, message.path, message.type);
      writer.varint(message.timestamp === undefined ? 0 : message.timestamp + 1);
      writer.raw(message.value);
      break;
    case 'edit':
      writeTopic(writer, message.path, message.type);
      writer.varint(message.original);
      writer.raw(message.value);
      break;
    case 'query':
      writer.string(message.path);
      if (message.kind !== undefined) writeNumber(writer, 1, QUERY_KINDS.indexOf(message.kind));
      writeRange(writer, 2, message.range);
      writeRange(writer, 3, message.edit_range);
      writeNumber(writer, 4, message.limit);
      break;
    case 'create_view':
      writer.string(message.name);
      writer.string(message.definition);
      break;
    case 'list_views':
      writer.varint(message.after ?? 0);
      break;
    case 'remove_view':
    case 'get_view':
      writer.string(message.name);
      break;
  }
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
 * @param {Pick<ClientMessage, 'op'> & Asked & { properties?: unknown }} request
 * @param {Reader} body
 * @returns {Answer | FetchAnswer | QueryAnswer | ViewsAnswer}
 */
export function readAnswer(request, body) {
  switch (request.op) {
    case 'add':
    case 'add_and_set':
    case 'create_view':
      return { created: body.u8() !== 0 };
    case 'update':
    case 'stream_open':
      return request.properties ? { created: body.u8() !== 0 } : {};
    case 'remove':
    case 'remove_view':
      return { removed: body.size() };
    case 'append':
    case 'edit':
      return { sequence: body.size(), timestamp: body.size() };
    case 'fetch':
      return readFetchAnswer(body, request);
    case 'query':
      return readQueryAnswer(body);
    case 'list_views':
    case 'get_view':
      return readViewsAnswer(body);
    default:
      return {};
  }
}

/**
 * @param {Reader} body
 * @param {Asked} asked
 * @returns {FetchAnswer}
 */
function readFetchAnswer(body, asked) {
  const hasMore = body.u8() !== 0;
  const count = body.size();
  /** @type {FetchEntry[]} */
  const topics = [];
  while (topics.length < count) {
    /** @type {FetchEntry} */
    const entry = { path: body.string(), type: typeName(body.u8()) };
    const length = asked.values ? body.size() : 0;
    if (length > 0) entry.value = body.take(length - 1);
    if (asked.with_properties) entry.properties = readProperties(body);
    const size = asked.sizes ? body.size() : 0;
    if (size > 0) entry.size = size - 1;
    topics.push(entry);
  }
  return { has_more: hasMore, topics };
}

/**
 * @param {Reader} body
 * @returns {QueryAnswer}
 */
function readQueryAnswer(body) {
  const complete = body.u8() !== 0;
  const type = typeName(body.u8());
  if (type === undefined || type === 'time_series') throw new ProtocolError('expected the type of the events that answer a query');
  const count = body.size();
  /** @type {EventEntry[]} */
  const events = [];
  while (events.length < count) events.push({ ...readEventHead(body), value: body.take(body.size()) });
  return { complete, type, events };
}

/**
 * @param {Reader} body
 * @returns {ViewsAnswer}
 */
function readViewsAnswer(body) {
  const hasMore = body.u8() !== 0;
  const count = body.size();
  /** @type {ViewEntry[]} */
  const views = [];
  while (views.length < count) {
    views.push({
      name: body.string(),
      definition: body.string(),
      place: body.size(),
      dormant: (body.u8() & VIEW_IS_DORMANT) !== 0,
      sources: body.size(),
      references: body.size(),
      evaluations: body.size(),
      failures: body.size(),
      last_failure: body.string(),
    });
  }
  return { has_more: hasMore, views };
}

/**
 * What stands before an event's value.
 *
 * @param {Reader} reader
 */
function readEventHead(reader) {
  const sequence = reader.size();
  const timestamp = reader.size();
  const original = reader.size();
  const author = reader.string();
  return original === 0 ? { sequence, timestamp, author } : { sequence, timestamp, original: original - 1, author };
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
    case RECEIVED:
      return { op: 'received', requests: reader.size() };
    case SUBSCRIBED: {
      const topic = reader.varint();
      const path = reader.string();
      const type = typeName(reader.u8());
      // A topic of a type that this client does not know is left out, and with it what comes about it later.
      return type && { op: 'subscribed', topic, path, type, properties: readProperties(reader) };
    }
    case UNSUBSCRIBED:
      return { op: 'unsubscribed', topic: reader.varint(), reason: reader.u8() };
    case NULL_VALUE:
      return { op: 'null_value', topic: reader.varint() };
    case EVENT:
      return { op: 'event', topic: reader.varint(), ...readEventHead(reader), value: reader.copyRest() };
    case VALUE_DEFLATE:
      return { op: 'value_deflate', topic: reader.varint(), deflated: reader.rest() };
    case GAP:
      return { op: 'gap', topic: reader.varint() };
    default:
      return readNotice(op, reader);
  }
}

/**
 * @param {number} op
 * @param {Reader} reader
 * @returns {Notice | undefined}
 */
function readNotice(op, reader) {
  switch (op) {
    case TOPIC_NOTICE: {
      const head = { listener: reader.size(), what: reader.u8(), path: reader.string() };
      return { op: 'topic_notice', ...head, type: typeName(reader.u8()), properties: readProperties(reader) };
    }
    case DESCENDANT_NOTICE:
      return { op: 'descendant_notice', listener: reader.size(), what: reader.u8(), path: reader.string() };
    case SUBSCRIBERS_NOTICE:
      return { op: 'subscribers_notice', listener: reader.size(), path: reader.string(), has_subscribers: reader.u8() !== 0 };
    case MISSING_NOTICE: {
      const head = { listener: reader.size(), selector: reader.string(), session: reader.string() };
      return { op: 'missing_notice', ...head, properties: readProperties(reader) };
    }
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
    if (name !== undefined) welcome[name] = WELCOME_TEXTS.has(name) ? decodeUtf8(field.rest()) : field.size();
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
 * @param {Uint8Array | null} [value] null sets the type's bit
 */
function writeTopic(writer, path, type, value) {
  writer.string(path);
  writeType(writer, type, value);
}

/**
 * @param {Writer} writer
 * @param {TopicTypeName} type
 * @param {Uint8Array | null} [value]
 */
function writeType(writer, type, value) {
  writer.u8(typeNumber(type) | (value === null ? NULL_BIT : 0));
}

/**
 * @param {Writer} writer
 * @param {UpdateFields} fields
 */
function writeUpdateFields(writer, { type, value, constraint, properties, patch }) {
  if (type !== undefined) writeSized(writer, 1, () => writeType(writer, type, value));
  if (value !== undefined) writeBytes(writer, 2, value ?? NOTHING);
  if (constraint !== undefined) writeBytes(writer, 3, encodeUtf8(constraint));
  if (properties !== undefined) writeSized(writer, 4, () => writeProperties(writer, properties));
  if (patch !== undefined) writeBytes(writer, 5, encodeUtf8(patch));
}

/**
 * @param {Writer} writer
 * @param {FetchMessage} message
 */
function writeFetch(writer, message) {
  writer.string(message.selector);
  writer.string(message.after);
  writer.varint(message.first);
  const flags = [message.values && FETCH_WITH_VALUES, message.with_properties && FETCH_WITH_PROPERTIES, message.sizes && FETCH_WITH_SIZES];
  writer.varint(flags.reduce((/** @type {number} */ sum, bit) => sum + (bit || 0), 0));
  for (const [index, path] of [message.from, message.to, message.before].entries()) {
    if (path !== undefined) writeBytes(writer, index + 1, encodeUtf8(path));
  }
  const types = message.types?.reduce((bits, type) => bits | (1 << typeNumber(type)), 0);
  for (const [index, number] of [message.last, types, message.depth, message.depth_limit, message.bytes_max].entries()) {
    writeNumber(writer, index + 4, number);
  }
}

/**
 * @param {Writer} writer
 * @param {Extract<ClientMessage, { stream: number }>} message
 */
function writeStream(writer, message) {
  writer.varint(message.stream);
  if (message.op === 'stream_open') {
    writer.string(message.path);
    writeUpdateFields(writer, message);
  } else if (message.op === 'stream_set') {
    writer.raw(message.value);
  } else if (message.op === 'stream_delta') {
    writer.u8(message.form === 'copy' ? DELTA_COPY : DELTA_DEFLATE);
    writer.raw(message.delta);
  }
}

/**
 * @param {Writer} writer
 * @param {number} tag
 * @param {QueryRange | undefined} range
 */
function writeRange(writer, tag, range) {
  if (range === undefined) return;
  writeSized(writer, tag, () => {
    writeBound(writer, ANCHORS, range.from);
    writeBound(writer, SPANS, range.to);
  });
}

/**
 * @param {Writer} writer
 * @param {readonly string[]} names
 * @param {Readonly<Record<string, number>> | undefined} bound
 */
function writeBound(writer, names, bound) {
  const [[name, number]] = bound === undefined ? [[names[0], 0]] : Object.entries(bound);
  writer.u8(names.indexOf(/** @type {string} */ (name)));
  writer.varint(/** @type {number} */ (number));
}

/**
 * A field that holds a number; nothing where there is none.
 *
 * @param {Writer} writer
 * @param {number} tag
 * @param {number | undefined} value
 */
function writeNumber(writer, tag, value) {
  if (value !== undefined) writeSized(writer, tag, () => writer.varint(value));
}

/**
 * @param {Writer} writer
 * @param {number} tag
 * @param {Uint8Array} bytes
 */
function writeBytes(writer, tag, bytes) {
  writer.varint(tag);
  writer.varint(bytes.length);
  writer.raw(bytes);
}

/**
 * A field whose length is known when it is written.
 *
 * @param {Writer} writer
 * @param {number} tag
 * @param {() => void} write
 */
function writeSized(writer, tag, write) {
  writer.varint(tag);
  const start = writer.beginSized();
  write();
  writer.endSized(start);
}
