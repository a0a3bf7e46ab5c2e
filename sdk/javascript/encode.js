/**
 * What the client says: its operations, as frames of the binary form (`tidewire.1`).
 *
 * A message is a plain object with the members that `sdk/protocol/README.md` names; values are bytes here.
 *
 * @module
 */

import { encodeUtf8, Writer } from './bytes.js';
import { DELTA_COPY, DELTA_DEFLATE } from './decode.js';
import { typeNumber } from './types.js';

/** @typedef {import('./types.js').TopicTypeName} TopicTypeName */
/** @typedef {import('./types.js').DataTypeName} DataTypeName */
/** @typedef {Readonly<Record<string, string>>} Properties */
/** @typedef {import('./decode.js').DeltaForm} DeltaForm */

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
 * @typedef {object} ConnectMessage
 * @property {'connect'} op
 * @property {number} id
 * @property {number} version
 * @property {string} [client]
 * @property {number} [capabilities]
 * @property {string} [token]
 * @property {number} [processed]
 * @property {number} [resume_ms]
 * @property {Properties} [properties]
 * @property {boolean} [durable]
 * @property {string} [environment]
 * @property {string} [principal] who the client says that it is
 * @property {string} [password]
 * @property {string} [bearer] a token in the place of a password
 */

/** @typedef {{ type: DataTypeName, value: Uint8Array | null }} Payload of a request or a response; a `value` of null is no value */
/** @typedef {{ path: string, timeout_ms?: number } & Payload} Asking without a time it is the server's */

/**
 * Requests between clients.
 *
 * @typedef {(
 *   | { op: 'handle_requests', id: number, handler: number, path: string, session_properties: readonly string[] }
 *   | { op: 'unhandle_requests', id: number, handler: number }
 *   | { op: 'request', id: number } & Asking
 *   | { op: 'request_session', id: number, session: string } & Asking
 *   | { op: 'request_filter', id: number, filter: string } & Asking
 *   | { op: 'respond', id: number, request: number } & Payload
 *   | { op: 'reject', id: number, request: number, message: string }
 *   | { op: 'handle_authentication', id: number, handler: number, name: string }
 * )} MessagingMessage
 */

/** @typedef {{ session: string, filter: string }} Meant which sessions; one of the two is empty */

/**
 * Looking at sessions and steering them.
 *
 * @typedef {(
 *   | { op: 'list_sessions', id: number, filter: string, after: string, first: number, slowest: boolean }
 *   | { op: 'close_sessions', id: number, message: string } & Meant
 *   | { op: 'set_session_properties', id: number, properties: Properties } & Meant
 *   | { op: 'conflate_sessions', id: number, conflated: boolean } & Meant
 *   | { op: 'subscribe_sessions' | 'unsubscribe_sessions', id: number, selector: string, scope: string } & Meant
 *   | { op: 'change_roles', id: number, remove: readonly string[], add: readonly string[] } & Meant
 * )} ControlMessage
 */

/**
 * Listening to what becomes of sessions, and who is subscribed.
 *
 * @typedef {(
 *   | { op: 'listen_sessions', id: number, listener: number, filter: string, session_properties: readonly string[] }
 *   | { op: 'listen_queues', id: number, listener: number, filter: string }
 *   | { op: 'listen_presence', id: number, listener: number, selector: string, once: boolean }
 *   | { op: 'unlisten_sessions', id: number, listener: number }
 *   | { op: 'list_presence', id: number, selector: string, after_path: string, after: string, first: number, once: boolean }
 * )} ListeningMessage
 */

/** @typedef {{ filter: string, branch: string }} MappingRow a row of a branch mapping table */

/**
 * What is about branch mapping tables.
 *
 * @typedef {(
 *   | { op: 'put_session_tree', id: number, branch: string, mappings: readonly MappingRow[] }
 *   | { op: 'get_session_tree', id: number, branch: string }
 *   | { op: 'list_session_trees', id: number, after?: string }
 * )} SessionTreeMessage
 */

/** @typedef {'session' | 'connection'} LockScopeName how long a lock is held at most */

/**
 * @typedef {(
 *   | ConnectMessage
 *   | { op: 'ping' }
 *   | { op: 'pong' }
 *   | { op: 'close' }
 *   | { op: 'list_selections', id: number, session: string, after: number, first: number }
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
 *   | MessagingMessage
 *   | ControlMessage
 *   | ListeningMessage
 *   | { op: 'lock', id: number, name: string, scope?: LockScopeName }
 *   | { op: 'unlock', id: number, name: string, number: number }
 *   | { op: 'list_locks', id: number, after?: string }
 *   | SessionTreeMessage
 *   | { op: 'authenticate', id: number, principal?: string, password?: string, bearer?: string }
 *   | { op: 'get_security' | 'get_principals', id: number, offset: number }
 *   | { op: 'apply_security' | 'apply_principals', id: number, check: boolean, script: string }
 * )} ClientMessage
 */

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
  handle_requests: 0x30,
  unhandle_requests: 0x31,
  request: 0x32,
  request_session: 0x33,
  request_filter: 0x34,
  respond: 0x35,
  reject: 0x36,
  create_view: 0x40,
  remove_view: 0x41,
  list_views: 0x42,
  get_view: 0x43,
  list_sessions: 0x50,
  close_sessions: 0x51,
  set_session_properties: 0x52,
  conflate_sessions: 0x53,
  subscribe_sessions: 0x54,
  unsubscribe_sessions: 0x55,
  list_selections: 0x56,
  change_roles: 0x57,
  lock: 0x58,
  unlock: 0x59,
  list_locks: 0x5a,
  put_session_tree: 0x5c,
  get_session_tree: 0x5d,
  list_session_trees: 0x5e,
  listen_sessions: 0x60,
  listen_queues: 0x61,
  listen_presence: 0x62,
  unlisten_sessions: 0x63,
  list_presence: 0x64,
  get_security: 0x68,
  apply_security: 0x69,
  get_principals: 0x6a,
  apply_principals: 0x6b,
  authenticate: 0x6c,
  handle_authentication: 0x6d,
});

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

/** A lock's scope: it is released when the connection is lost. */
const LOCK_OF_CONNECTION = 1;

const NOTHING = new Uint8Array(0);

const FIELD_CLIENT = 1;
const FIELD_CAPABILITIES = 2;
const FIELD_TOKEN = 4;
const FIELD_PROCESSED = 5;
const FIELD_RESUME_MS = 6;
const FIELD_PROPERTIES = 7;
const FIELD_DURABLE = 8;
const FIELD_ENVIRONMENT = 9;
const FIELD_PRINCIPAL = 10;
const FIELD_PASSWORD = 11;
const FIELD_BEARER = 12;

/**
 * Appends one frame.
 *
 * @param {Writer} writer
 * @param {ClientMessage} message
 */
export function encodeFrame(writer, message) {
  writer.u8(OPERATIONS[message.op]);
  const start = writer.beginSized();
  if ('id' in message) {
    writer.varint(message.id);
    writeBody(writer, message);
  }
  writer.endSized(start);
}

/**
 * Writes what follows the id.
 *
 * @param {Writer} writer
 * @param {Extract<ClientMessage, { id: number }>} message
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
      writePropertiesField(writer, FIELD_PROPERTIES, message.properties);
      writeNumber(writer, FIELD_DURABLE, message.durable ? 1 : undefined);
      if (message.environment !== undefined) writeBytes(writer, FIELD_ENVIRONMENT, encodeUtf8(message.environment));
      if (message.principal !== undefined) writeBytes(writer, FIELD_PRINCIPAL, encodeUtf8(message.principal));
      if (message.password !== undefined) writeBytes(writer, FIELD_PASSWORD, encodeUtf8(message.password));
      if (message.bearer !== undefined) writeBytes(writer, FIELD_BEARER, encodeUtf8(message.bearer));
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
    case 'lock':
      writer.string(message.name);
      writer.u8(message.scope === 'connection' ? LOCK_OF_CONNECTION : 0);
      break;
    case 'unlock':
      writer.string(message.name);
      writer.varint(message.number);
      break;
    case 'list_locks':
      writer.string(message.after ?? '');
      break;
    case 'list_selections':
      writer.string(message.session);
      writer.varint(message.after);
      writer.varint(message.first);
      break;
    case 'put_session_tree':
    case 'get_session_tree':
    case 'list_session_trees':
      writeSessionTree(writer, message);
      break;
    case 'authenticate':
      writer.string(message.principal ?? '');
      writer.string(message.password ?? '');
      writer.string(message.bearer ?? '');
      break;
    case 'get_security':
    case 'get_principals':
      writer.varint(message.offset);
      break;
    case 'apply_security':
    case 'apply_principals':
      writer.u8(message.check ? 1 : 0);
      writer.string(message.script);
      break;
    case 'list_sessions':
    case 'close_sessions':
    case 'set_session_properties':
    case 'conflate_sessions':
    case 'subscribe_sessions':
    case 'unsubscribe_sessions':
    case 'change_roles':
      writeControl(writer, message);
      break;
    case 'listen_sessions':
    case 'listen_queues':
    case 'listen_presence':
    case 'unlisten_sessions':
    case 'list_presence':
      writeListening(writer, message);
      break;
    default:
      writeMessaging(writer, message);
  }
}

/**
 * @param {Writer} writer
 * @param {ListeningMessage} message
 */
function writeListening(writer, message) {
  switch (message.op) {
    case 'listen_sessions':
      writer.varint(message.listener);
      writer.string(message.filter);
      writeStrings(writer, message.session_properties);
      break;
    case 'listen_queues':
      writer.varint(message.listener);
      writer.string(message.filter);
      break;
    case 'listen_presence':
      writer.varint(message.listener);
      writer.string(message.selector);
      writer.u8(message.once ? 1 : 0);
      break;
    case 'unlisten_sessions':
      writer.varint(message.listener);
      break;
    default:
      writer.string(message.selector);
      writer.string(message.after_path);
      writer.string(message.after);
      writer.varint(message.first);
      writer.u8(message.once ? 1 : 0);
  }
}

/**
 * @param {Writer} writer
 * @param {SessionTreeMessage} message
 */
function writeSessionTree(writer, message) {
  if (message.op === 'list_session_trees') return writer.string(message.after ?? '');
  writer.string(message.branch);
  if (message.op === 'get_session_tree') return;
  writer.varint(message.mappings.length);
  for (const { filter, branch } of message.mappings) {
    writer.string(filter);
    writer.string(branch);
  }
}

/**
 * @param {Writer} writer
 * @param {MessagingMessage} message
 */
function writeMessaging(writer, message) {
  switch (message.op) {
    case 'handle_requests':
      writer.varint(message.handler);
      writer.string(message.path);
      writeStrings(writer, message.session_properties);
      break;
    case 'handle_authentication':
      writer.varint(message.handler);
      writer.string(message.name);
      break;
    case 'unhandle_requests':
      writer.varint(message.handler);
      break;
    case 'respond':
      writer.varint(message.request);
      writePayload(writer, message);
      break;
    case 'reject':
      writer.varint(message.request);
      writer.string(message.message);
      break;
    default:
      if (message.op === 'request_session') writer.string(message.session);
      if (message.op === 'request_filter') writer.string(message.filter);
      writer.string(message.path);
      writer.varint(message.timeout_ms ?? 0);
      writePayload(writer, message);
  }
}

/**
 * @param {Writer} writer
 * @param {Payload} payload
 */
function writePayload(writer, { type, value }) {
  writeType(writer, type, value);
  writer.raw(value ?? NOTHING);
}

/**
 * @param {Writer} writer
 * @param {ControlMessage} message
 */
function writeControl(writer, message) {
  if (message.op !== 'list_sessions') writer.string(message.session);
  writer.string(message.filter);
  switch (message.op) {
    case 'list_sessions':
      writer.string(message.after);
      writer.varint(message.first);
      writer.u8(message.slowest ? 1 : 0);
      break;
    case 'close_sessions':
      writer.string(message.message);
      break;
    case 'set_session_properties':
      writeProperties(writer, message.properties);
      break;
    case 'conflate_sessions':
      writer.u8(message.conflated ? 1 : 0);
      break;
    case 'change_roles':
      writeStrings(writer, message.remove);
      writeStrings(writer, message.add);
      break;
    default:
      writer.string(message.selector);
      writer.string(message.scope);
  }
}

/**
 * @param {Writer} writer
 * @param {readonly string[]} texts
 */
function writeStrings(writer, texts) {
  writer.varint(texts.length);
  for (const text of texts) writer.string(text);
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
 * @param {number} tag
 * @param {Properties | undefined} properties
 */
function writePropertiesField(writer, tag, properties) {
  if (properties !== undefined) writeSized(writer, tag, () => writeProperties(writer, properties));
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
  writePropertiesField(writer, 4, properties);
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
