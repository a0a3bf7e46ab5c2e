// The binary form as a server sees it: reads what clients send, writes what servers send. Written apart from the SDK's own, so that the two
// check each other.

export const TYPES = { json: 1, string: 2, int64: 3, double: 4, binary: 5, time_series: 6 };
const TYPE_NAMES = Object.fromEntries(Object.entries(TYPES).map(([name, number]) => [number, name]));
const OPERATIONS = {
  0x01: 'connect',
  0x02: 'ping',
  0x03: 'pong',
  0x04: 'close',
  0x05: 'processed',
  0x10: 'add',
  0x11: 'set',
  0x12: 'add_and_set',
  0x13: 'remove',
  0x14: 'fetch',
  0x15: 'update',
  0x18: 'subscribe',
  0x19: 'unsubscribe',
  0x1a: 'unsubscribe_all_scopes',
  0x1c: 'listen',
  0x1d: 'unlisten',
  0x20: 'stream_open',
  0x21: 'stream_set',
  0x22: 'stream_delta',
  0x23: 'stream_close',
  0x28: 'append',
  0x29: 'edit',
  0x2a: 'query',
  0x30: 'handle_requests',
  0x31: 'unhandle_requests',
  0x32: 'request',
  0x33: 'request_session',
  0x34: 'request_filter',
  0x35: 'respond',
  0x36: 'reject',
  0x40: 'create_view',
  0x41: 'remove_view',
  0x42: 'list_views',
  0x43: 'get_view',
  0x50: 'list_sessions',
  0x51: 'close_sessions',
  0x52: 'set_session_properties',
  0x53: 'conflate_sessions',
  0x54: 'subscribe_sessions',
  0x55: 'unsubscribe_sessions',
  0x56: 'list_selections',
  0x57: 'change_roles',
  0x58: 'lock',
  0x59: 'unlock',
  0x5a: 'list_locks',
  0x5c: 'put_session_tree',
  0x5d: 'get_session_tree',
  0x5e: 'list_session_trees',
  0x60: 'listen_sessions',
  0x61: 'listen_queues',
  0x62: 'listen_presence',
  0x63: 'unlisten_sessions',
  0x64: 'list_presence',
  0x68: 'get_security',
  0x69: 'apply_security',
  0x6a: 'get_principals',
  0x6b: 'apply_principals',
  0x6c: 'authenticate',
  0x6d: 'handle_authentication',
};

const LISTENER_KINDS = [undefined, 'topics', 'subscribers', 'missing'];
const QUERY_KINDS = ['values', 'latest_edits', 'all_edits'];
const ANCHORS = ['start', 'sequence', 'instant', 'last_events', 'last_ms'];
const SPANS = ['end', 'sequence', 'instant', 'next_events', 'next_ms', 'until_last_events', 'until_last_ms', 'previous_events', 'previous_ms'];

/** What a server answers a frame with that it cannot read: `{ code, id }` or `{ close }`. */
export class ClientFrameError extends Error {
  constructor(answer) {
    super(JSON.stringify(answer));
    this.answer = answer;
  }
}

export function varint(value) {
  const bytes = [];
  for (let rest = BigInt(value); ; rest >>= 7n) {
    if (rest < 128n) return Buffer.from([...bytes, Number(rest)]);
    bytes.push(Number(rest & 127n) | 128);
  }
}

export const string = (text) => Buffer.concat([varint(Buffer.byteLength(text)), Buffer.from(text)]);

export function frame(op, ...parts) {
  const body = Buffer.concat(parts.map((part) => (typeof part === 'number' ? Buffer.from([part]) : Buffer.from(part))));
  return Buffer.concat([Buffer.from([op]), varint(body.length), body]);
}

/** Reads whole messages of a client. */
export function decodeClientMessage(bytes) {
  const messages = [];
  const cursor = { bytes: Buffer.from(bytes), position: 0, end: bytes.length, fail: { close: 4100 } };
  while (cursor.position < bytes.length) {
    cursor.fail = { close: 4100 };
    cursor.end = bytes.length;
    const op = take(cursor, 1)[0];
    const length = readVarint(cursor);
    if (length > bytes.length - cursor.position) throw new ClientFrameError(cursor.fail);
    cursor.end = cursor.position + length;
    messages.push(decodeBody(OPERATIONS[op], cursor));
    cursor.position = cursor.end;
  }
  return messages;
}

function decodeBody(op, cursor) {
  if (op === 'ping' || op === 'pong' || op === 'close') return { op };
  cursor.fail = { code: 100, id: 0 };
  const id = readVarint(cursor);
  cursor.fail = { code: 100, id };
  switch (op) {
    case 'connect':
      return { op, id, version: readVarint(cursor), ...readFields(cursor, CONNECT_FIELDS) };
    case 'processed':
      return { op, id, messages: readVarint(cursor) };
    case 'add':
      return { op, id, path: readString(cursor), type: readType(cursor), properties: readProperties(cursor) };
    case 'set':
      return withValue({ op, id, path: readString(cursor), ...readValueType(cursor) }, cursor);
    case 'add_and_set':
      return withValue({ op, id, path: readString(cursor), ...readUpdateType(cursor), properties: readProperties(cursor) }, cursor);
    case 'update':
      return { op, id, path: readString(cursor), ...readFields(cursor, UPDATE_FIELDS) };
    case 'remove':
    case 'unsubscribe_all_scopes':
      return { op, id, selector: readString(cursor) };
    case 'fetch':
      return {
        op,
        id,
        selector: readString(cursor),
        after: readString(cursor),
        first: readVarint(cursor),
        ...readFlags(cursor),
        ...readFields(cursor, FETCH_FIELDS),
      };
    case 'subscribe':
    case 'unsubscribe':
      return { op, id, selector: readString(cursor), scope: readString(cursor) };
    case 'listen':
      return { op, id, listener: readVarint(cursor), kind: LISTENER_KINDS[take(cursor, 1)[0]], selector: readString(cursor) };
    case 'unlisten':
      return { op, id, listener: readVarint(cursor), selector: readString(cursor) };
    case 'stream_open':
      return { op, id, stream: readVarint(cursor), path: readString(cursor), ...readFields(cursor, UPDATE_FIELDS) };
    case 'stream_set':
      return { op, id, stream: readVarint(cursor), value: readRest(cursor) };
    case 'stream_delta':
      return { op, id, stream: readVarint(cursor), form: take(cursor, 1)[0] === 0x93 ? 'copy' : 'deflate', delta: readRest(cursor) };
    case 'stream_close':
      return { op, id, stream: readVarint(cursor) };
    case 'append': {
      const event = { op, id, path: readString(cursor), type: readType(cursor) };
      const timestamp = readVarint(cursor);
      return { ...event, ...(timestamp > 0 && { timestamp: timestamp - 1 }), value: readRest(cursor) };
    }
    case 'edit':
      return { op, id, path: readString(cursor), type: readType(cursor), original: readVarint(cursor), value: readRest(cursor) };
    case 'query':
      return { op, id, path: readString(cursor), ...readFields(cursor, QUERY_FIELDS) };
    case 'create_view':
      return wholly({ op, id, name: readString(cursor), definition: readString(cursor) }, cursor);
    case 'list_views': {
      const after = readVarint(cursor);
      return { op, id, ...(after > 0 && { after }) };
    }
    case 'remove_view':
    case 'get_view':
      return { op, id, name: readString(cursor) };
    case 'handle_requests':
      return { op, id, handler: readVarint(cursor), path: readString(cursor), session_properties: readStrings(cursor) };
    case 'handle_authentication':
      return { op, id, handler: readVarint(cursor), name: readString(cursor) };
    case 'unhandle_requests':
      return { op, id, handler: readVarint(cursor) };
    case 'request':
      return withValue({ op, id, ...readAsking(cursor) }, cursor);
    case 'request_session':
      return withValue({ op, id, session: readString(cursor), ...readAsking(cursor) }, cursor);
    case 'request_filter':
      return withValue({ op, id, filter: readString(cursor), ...readAsking(cursor) }, cursor);
    case 'respond':
      return withValue({ op, id, request: readVarint(cursor), ...readValueType(cursor) }, cursor);
    case 'reject':
      return { op, id, request: readVarint(cursor), message: readString(cursor) };
    case 'list_sessions':
      return { op, id, filter: readString(cursor), after: readString(cursor), first: readVarint(cursor), slowest: readBool(cursor) };
    case 'list_selections':
      return { op, id, session: readString(cursor), after: readVarint(cursor), first: readVarint(cursor) };
    case 'close_sessions':
      return { op, id, ...readMeant(cursor), message: readString(cursor) };
    case 'set_session_properties':
      return { op, id, ...readMeant(cursor), properties: readProperties(cursor) };
    case 'conflate_sessions':
      return { op, id, ...readMeant(cursor), conflated: readBool(cursor) };
    case 'subscribe_sessions':
    case 'unsubscribe_sessions':
      return { op, id, ...readMeant(cursor), selector: readString(cursor), scope: readString(cursor) };
    case 'change_roles':
      return { op, id, ...readMeant(cursor), remove: readStrings(cursor), add: readStrings(cursor) };
    case 'get_security':
    case 'get_principals':
      return { op, id, offset: readVarint(cursor) };
    case 'apply_security':
    case 'apply_principals':
      return { op, id, check: readBool(cursor), script: readString(cursor) };
    case 'authenticate': {
      const [principal, password, bearer] = [readString(cursor), readString(cursor), readString(cursor)];
      return { op, id, ...(principal !== '' && { principal }), ...(password !== '' && { password }), ...(bearer !== '' && { bearer }) };
    }
    case 'lock':
      return { op, id, name: readString(cursor), ...readLockScope(cursor) };
    case 'unlock':
      return { op, id, name: readString(cursor), number: readVarint(cursor) };
    case 'put_session_tree':
      return { op, id, branch: readString(cursor), mappings: readMappings(cursor) };
    case 'get_session_tree':
      return { op, id, branch: readString(cursor) };
    case 'list_locks':
    case 'list_session_trees': {
      const after = readString(cursor);
      return { op, id, ...(after !== '' && { after }) };
    }
    case 'listen_sessions':
      return { op, id, listener: readVarint(cursor), filter: readString(cursor), session_properties: readStrings(cursor) };
    case 'listen_queues':
      return { op, id, listener: readVarint(cursor), filter: readString(cursor) };
    case 'listen_presence':
      return { op, id, listener: readVarint(cursor), selector: readString(cursor), once: readBool(cursor) };
    case 'unlisten_sessions':
      return { op, id, listener: readVarint(cursor) };
    case 'list_presence': {
      const place = { selector: readString(cursor), after_path: readString(cursor), after: readString(cursor) };
      return { op, id, ...place, first: readVarint(cursor), once: readBool(cursor) };
    }
    default:
      throw new ClientFrameError({ code: 101, id });
  }
}

/** The rows of a branch mapping table. */
function readMappings(cursor) {
  const count = readVarint(cursor);
  return Array.from({ length: count }, () => ({ filter: readString(cursor), branch: readString(cursor) }));
}

/** A message that fills its frame. */
function wholly(message, cursor) {
  if (cursor.position !== cursor.end) throw new ClientFrameError(cursor.fail);
  return message;
}

function take(cursor, length) {
  if (length > cursor.end - cursor.position) throw new ClientFrameError(cursor.fail);
  cursor.position += length;
  return cursor.bytes.subarray(cursor.position - length, cursor.position);
}

function readVarint(cursor) {
  let value = 0n;
  for (let shift = 0n; ; shift += 7n) {
    const byte = take(cursor, 1)[0];
    value |= BigInt(byte & 127) << shift;
    if (shift > 63n || value >= 1n << 64n) throw new ClientFrameError(cursor.fail);
    if (byte < 128) return Number(value);
  }
}

function readString(cursor) {
  const bytes = take(cursor, readVarint(cursor));
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new ClientFrameError(cursor.fail);
  }
}

function typeOf(cursor, number) {
  const type = TYPE_NAMES[number];
  if (type === undefined) throw new ClientFrameError({ ...cursor.fail, code: 207 });
  return type;
}

function readType(cursor) {
  return typeOf(cursor, take(cursor, 1)[0]);
}

/** The type of an update, and whether its value is null. */
function readUpdateType(cursor) {
  const number = take(cursor, 1)[0];
  return { type: typeOf(cursor, number & 0x7f), ...(number & 0x80 && { value: null }) };
}

/** As that, where it is the type of a value. */
function readValueType(cursor) {
  const read = readUpdateType(cursor);
  if (read.type === 'time_series') throw new ClientFrameError({ ...cursor.fail, code: 207 });
  return read;
}

/** With the rest as its value, unless its type has said that it is null. */
function withValue(message, cursor) {
  const value = readRest(cursor);
  return message.value === null ? message : { ...message, value };
}

function readRest(cursor) {
  return Buffer.from(take(cursor, cursor.end - cursor.position));
}

function readBool(cursor) {
  return take(cursor, 1)[0] !== 0;
}

function readStrings(cursor) {
  return Array.from({ length: readVarint(cursor) }, () => readString(cursor));
}

/** What all requests between clients have but the value. */
function readAsking(cursor) {
  const path = readString(cursor);
  const timeout = readVarint(cursor);
  return { path, ...(timeout > 0 && { timeout_ms: timeout }), ...readValueType(cursor) };
}

/** Which sessions are meant. */
function readMeant(cursor) {
  return { session: readString(cursor), filter: readString(cursor) };
}

/** Nothing for the session's. */
function readLockScope(cursor) {
  const scope = take(cursor, 1)[0];
  if (scope > 1) throw new ClientFrameError({ ...cursor.fail, code: 106 });
  return scope === 1 && { scope: 'connection' };
}

function readProperties(cursor) {
  const properties = {};
  for (let count = readVarint(cursor); count > 0; count -= 1) properties[readString(cursor)] = readString(cursor);
  return properties;
}

const text = (name) => (cursor) => ({ [name]: readRest(cursor).toString() });
const number = (name) => (cursor) => ({ [name]: readVarint(cursor) });
const json = (name) => (cursor) => ({ [name]: JSON.parse(readRest(cursor).toString()) });
const properties = (name) => (cursor) => ({ [name]: readProperties(cursor) });
const range = (name) => (cursor) => ({ [name]: { ...readBound(cursor, 'from', ANCHORS), ...readBound(cursor, 'to', SPANS) } });

const CONNECT_FIELDS = {
  1: text('client'),
  2: number('capabilities'),
  4: text('token'),
  5: number('processed'),
  6: number('resume_ms'),
  7: properties('properties'),
  8: (cursor) => ({ durable: readVarint(cursor) !== 0 }),
  9: text('environment'),
  10: text('principal'),
  11: text('password'),
  12: text('bearer'),
};
const UPDATE_FIELDS = {
  1: readUpdateType,
  2: (cursor) => ({ value: readRest(cursor) }),
  3: json('constraint'),
  4: properties('properties'),
  5: json('patch'),
};
const FETCH_FIELDS = {
  1: text('from'),
  2: text('to'),
  3: text('before'),
  4: number('last'),
  5: (cursor) => {
    const bits = readVarint(cursor);
    return { types: Object.keys(TYPES).filter((type) => bits & (1 << TYPES[type])) };
  },
  6: number('depth'),
  7: number('depth_limit'),
  8: number('bytes_max'),
};
const QUERY_FIELDS = {
  1: (cursor) => ({ kind: QUERY_KINDS[readVarint(cursor)] }),
  2: range('range'),
  3: range('edit_range'),
  4: number('limit'),
};

function readFields(cursor, readers) {
  let fields = {};
  const { end } = cursor;
  while (cursor.position < end) {
    const tag = readVarint(cursor);
    const length = readVarint(cursor);
    if (length > end - cursor.position) throw new ClientFrameError(cursor.fail);
    cursor.end = cursor.position + length;
    const read = readers[tag]?.(cursor);
    // A value of no bytes is null where the type has said so.
    fields = { ...fields, ...(fields.value === null ? { ...read, value: null } : read) };
    cursor.position = cursor.end;
    cursor.end = end;
  }
  return fields;
}

function readFlags(cursor) {
  const flags = readVarint(cursor);
  return { values: (flags & 1) !== 0, ...(flags & 2 && { with_properties: true }), ...(flags & 4 && { sizes: true }) };
}

/** One end of a range; nothing for the start and the end of the series. */
function readBound(cursor, end, names) {
  const name = names[take(cursor, 1)[0]];
  const value = readVarint(cursor);
  if (name === undefined) throw new ClientFrameError({ ...cursor.fail, code: 225 });
  return name === 'start' || name === 'end' ? {} : { [end]: { [name]: value } };
}

export const field = (tag, bytes) => Buffer.concat([varint(tag), varint(bytes.length), Buffer.from(bytes)]);

export function errorFrame(id, code, message, position) {
  return frame(0x83, varint(id), varint(code), varint(position === undefined ? 0 : position + 1), Buffer.from(message));
}
