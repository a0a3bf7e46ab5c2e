/**
 * What the server says: its frames of the binary form (`tidewire.1`), and the messages that they stand for.
 *
 * A message is a plain object with the members that `sdk/protocol/README.md` names; values are bytes here. Events and fields that this side does
 * not know are skipped.
 *
 * @module
 */

import { decodeUtf8, Reader } from './bytes.js';
import { ProtocolError } from './errors.js';
import { typeName } from './types.js';

/** @typedef {import('./types.js').TopicTypeName} TopicTypeName */
/** @typedef {import('./types.js').DataTypeName} DataTypeName */
/** @typedef {import('./encode.js').ClientMessage} ClientMessage */
/** @typedef {import('./encode.js').LockScopeName} LockScopeName */
/** @typedef {import('./encode.js').Properties} Properties */
/** @typedef {'deflate' | 'copy'} DeltaForm */

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
 * @property {boolean} [durable] the session outlives the server too
 * @property {boolean} [restored] the server was started anew since: what it sent before is void
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

/** @typedef {{ type: DataTypeName | undefined, value?: Uint8Array }} Payload of a request or a response; without a value it is null */

/**
 * What comes of requests between clients beside answers.
 *
 * @typedef {(
 *   | { op: 'requested', handler: number, request: number, session: string, path: string, properties: Properties } & Payload
 *   | { op: 'response', id: number | bigint, session: string } & Payload
 *   | { op: 'response_error', id: number | bigint, session: string, code: number, message: string }
 * )} MessagingEvent
 */

/** @typedef {{ path: string, session: string, principal: string }} PresenceEntry */

/**
 * What is told of sessions.
 *
 * @typedef {(
 *   | { op: 'session_notice', listener: number, what: number, session: string, away: boolean, properties: Properties }
 *   | { op: 'session_closed', listener: number, session: string, reason: number }
 *   | { op: 'queue_notice', listener: number, session: string, over: boolean, conflated: boolean, queue_bytes: number }
 *   | { op: 'presence_notice', listener: number, joined: PresenceEntry[], left: { path: string, session: string }[] }
 * )} SessionsEvent
 */

/**
 * Everything but values, deltas and answers, which have ways of their own.
 *
 * @typedef {(
 *   | Welcome
 *   | ErrorMessage
 *   | TopicEvent
 *   | Notice
 *   | MessagingEvent
 *   | { op: 'later', id: number | bigint, wait_ms: number }
 *   | SessionsEvent
 *   | { op: 'received', requests: number }
 *   | { op: 'staleness', stale: boolean }
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

/**
 * One session of LIST_SESSIONS' answer.
 *
 * @typedef {object} SessionEntry
 * @property {string} session
 * @property {boolean} away
 * @property {Properties} properties
 * @property {number} subscriptions
 * @property {number} queue_bytes
 * @property {number} sent_bytes
 * @property {number} conflations
 * @property {boolean} conflated
 * @property {number} dropped
 * @property {number} sent_bytes_per_s
 * @property {number} [idle_ms]
 */

/** @typedef {'deselect' | 'select' | 'filter'} SelectionKind */
/** @typedef {{ scope: string, selector: string, kind: SelectionKind }} SelectionEntry one selection of LIST_SELECTIONS' answer */

/** @typedef {{ name: string, session: string, number: number, scope: LockScopeName, waiting: number }} LockEntry one lock of LIST_LOCKS' answer */

/** @typedef {{ values?: boolean, with_properties?: boolean, sizes?: boolean }} Asked what a FETCH wants of each topic */
/** @typedef {{ has_more: boolean, topics: FetchEntry[] }} FetchAnswer */
/** @typedef {{ complete: boolean, type: DataTypeName, events: EventEntry[] }} QueryAnswer */
/** @typedef {{ has_more: boolean, views: ViewEntry[] }} ViewsAnswer */
/** @typedef {{ has_more: boolean, sessions: SessionEntry[] }} SessionsAnswer */
/** @typedef {{ has_more: boolean, selections: SelectionEntry[] }} SelectionsAnswer */
/** @typedef {{ has_more: boolean, locks: LockEntry[] }} LocksAnswer */
/** @typedef {{ has_more: boolean, present: PresenceEntry[] }} PresenceAnswer */
/** @typedef {{ mappings: import('./encode.js').MappingRow[] }} SessionTreeAnswer */
/** @typedef {{ has_more: boolean, branches: { branch: string }[] }} SessionTreesAnswer */
/** @typedef {{ has_more: boolean, script: string }} SecurityAnswer */

/**
 * @typedef {object} Answer
 * @property {boolean} [created]
 * @property {number} [removed]
 * @property {number} [sequence]
 * @property {number} [timestamp]
 * @property {number} [asked]
 * @property {number} [number]
 * @property {boolean} [released]
 * @property {string} [token]
 */

const PING = 0x02;
const PONG = 0x03;
const WELCOME = 0x81;
const OK = 0x82;
const ERROR = 0x83;
const RECEIVED = 0x85;
const LATER = 0x86;
const STALENESS = 0x87;
const SUBSCRIBED = 0x90;
const VALUE = 0x91;
export const DELTA_DEFLATE = 0x92;
export const DELTA_COPY = 0x93;
const NULL_VALUE = 0x94;
const EVENT = 0x95;
const UNSUBSCRIBED = 0x98;
const VALUE_DEFLATE = 0x99;
const GAP = 0x9a;
const TOPIC_NOTICE = 0xa0;
const DESCENDANT_NOTICE = 0xa1;
const SUBSCRIBERS_NOTICE = 0xa2;
const MISSING_NOTICE = 0xa3;
const REQUESTED = 0xb0;
const RESPONSE = 0xb1;
const RESPONSE_ERROR = 0xb2;
const SESSION_NOTICE = 0xb4;
const SESSION_CLOSED = 0xb5;
const QUEUE_NOTICE = 0xb6;
const PRESENCE_NOTICE = 0xb7;

/** The only bit of a view's flags. */
const VIEW_IS_DORMANT = 1;

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
  'durable',
  'restored',
];

/** Those of WELCOME's fields that are text, and those that are true where they are there; the others are numbers. */
const WELCOME_TEXTS = new Set(['server', 'session', 'token']);
const WELCOME_FLAGS = new Set(['durable', 'restored']);

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
 * @returns {Answer | FetchAnswer | QueryAnswer | ViewsAnswer | SessionsAnswer | SelectionsAnswer | LocksAnswer | PresenceAnswer | SessionTreeAnswer | SessionTreesAnswer | SecurityAnswer | Payload}
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
    case 'request':
    case 'request_session':
      return readPayload(body);
    case 'request_filter':
    case 'close_sessions':
    case 'set_session_properties':
    case 'conflate_sessions':
    case 'subscribe_sessions':
    case 'unsubscribe_sessions':
    case 'change_roles':
      return { asked: body.size() };
    case 'list_sessions':
      return readSessionsAnswer(body);
    case 'list_selections':
      return readSelectionsAnswer(body);
    case 'lock':
      return { number: body.size() };
    case 'unlock':
      return { released: body.u8() !== 0 };
    case 'list_locks':
      return readLocksAnswer(body);
    case 'list_presence':
      return { has_more: body.u8() !== 0, present: readPresent(body) };
    case 'get_session_tree':
      return readSessionTreeAnswer(body);
    case 'list_session_trees':
      return readSessionTreesAnswer(body);
    case 'authenticate':
      return { token: body.string() };
    case 'get_security':
    case 'get_principals':
      return { has_more: body.u8() !== 0, script: body.string() };
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
 * @param {Reader} body
 * @returns {SessionsAnswer}
 */
function readSessionsAnswer(body) {
  const hasMore = body.u8() !== 0;
  const count = body.size();
  /** @type {SessionEntry[]} */
  const sessions = [];
  while (sessions.length < count) {
    sessions.push({
      session: body.string(),
      away: body.u8() !== 0,
      properties: readProperties(body),
      subscriptions: body.size(),
      queue_bytes: body.size(),
      sent_bytes: body.size(),
      conflations: body.size(),
      conflated: body.u8() !== 0,
      dropped: body.size(),
      sent_bytes_per_s: body.size(),
      ...readIdle(body),
    });
  }
  return { has_more: hasMore, sessions };
}

/** @param {Reader} body */
function readIdle(body) {
  const idle = body.size();
  return idle === 0 ? {} : { idle_ms: idle - 1 };
}

/** @type {readonly SelectionKind[]} */
const SELECTION_KINDS = ['deselect', 'select', 'filter'];

/**
 * @param {Reader} body
 * @returns {SelectionsAnswer}
 */
function readSelectionsAnswer(body) {
  const hasMore = body.u8() !== 0;
  const count = body.size();
  /** @type {SelectionEntry[]} */
  const selections = [];
  while (selections.length < count) {
    selections.push({ scope: body.string(), selector: body.string(), kind: SELECTION_KINDS[body.u8()] ?? 'filter' });
  }
  return { has_more: hasMore, selections };
}

/**
 * @param {Reader} body
 * @returns {LocksAnswer}
 */
function readLocksAnswer(body) {
  const hasMore = body.u8() !== 0;
  const count = body.size();
  /** @type {LockEntry[]} */
  const locks = [];
  while (locks.length < count) {
    const head = { name: body.string(), session: body.string(), number: body.size() };
    locks.push({ ...head, scope: body.u8() === 0 ? 'session' : 'connection', waiting: body.size() });
  }
  return { has_more: hasMore, locks };
}

/**
 * @param {Reader} body
 * @returns {SessionTreeAnswer}
 */
function readSessionTreeAnswer(body) {
  const count = body.size();
  /** @type {import('./encode.js').MappingRow[]} */
  const mappings = [];
  while (mappings.length < count) mappings.push({ filter: body.string(), branch: body.string() });
  return { mappings };
}

/**
 * @param {Reader} body
 * @returns {SessionTreesAnswer}
 */
function readSessionTreesAnswer(body) {
  const hasMore = body.u8() !== 0;
  const count = body.size();
  /** @type {{ branch: string }[]} */
  const branches = [];
  while (branches.length < count) branches.push({ branch: body.string() });
  return { has_more: hasMore, branches };
}

/**
 * @param {Reader} reader
 * @returns {PresenceEntry[]}
 */
function readPresent(reader) {
  const count = reader.size();
  /** @type {PresenceEntry[]} */
  const present = [];
  while (present.length < count) present.push({ path: reader.string(), session: reader.string(), principal: reader.string() });
  return present;
}

/**
 * @param {Reader} reader
 * @returns {Payload}
 */
function readPayload(reader) {
  const type = typeName(reader.u8());
  if (type === 'time_series') throw new ProtocolError('expected the type of a value, found time_series');
  const length = reader.size();
  return length === 0 ? { type } : { type, value: reader.take(length - 1) };
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
    case LATER:
      return { op: 'later', id: reader.varint(), wait_ms: reader.size() };
    case STALENESS:
      return { op: 'staleness', stale: (reader.u8() & 1) !== 0 };
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
 * @returns {Notice | MessagingEvent | SessionsEvent | undefined}
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
      return readMessagingEvent(op, reader);
  }
}

/**
 * @param {number} op
 * @param {Reader} reader
 * @returns {MessagingEvent | SessionsEvent | undefined}
 */
function readMessagingEvent(op, reader) {
  switch (op) {
    case REQUESTED: {
      const head = { handler: reader.size(), request: reader.size(), session: reader.string(), path: reader.string() };
      return { op: 'requested', ...head, properties: readProperties(reader), ...readPayload(reader) };
    }
    case RESPONSE:
      return { op: 'response', id: reader.varint(), session: reader.string(), ...readPayload(reader) };
    case RESPONSE_ERROR: {
      const head = { id: reader.varint(), session: reader.string() };
      const { code, message } = readRefusal(reader);
      return { op: 'response_error', ...head, code, message };
    }
    default:
      return readSessionsEvent(op, reader);
  }
}

/**
 * @param {number} op
 * @param {Reader} reader
 * @returns {SessionsEvent | undefined}
 */
function readSessionsEvent(op, reader) {
  switch (op) {
    case SESSION_NOTICE: {
      const head = { listener: reader.size(), what: reader.u8(), session: reader.string(), away: reader.u8() !== 0 };
      return { op: 'session_notice', ...head, properties: readProperties(reader) };
    }
    case SESSION_CLOSED:
      return { op: 'session_closed', listener: reader.size(), session: reader.string(), reason: reader.u8() };
    case QUEUE_NOTICE: {
      const head = { listener: reader.size(), session: reader.string(), over: reader.u8() !== 0, conflated: reader.u8() !== 0 };
      return { op: 'queue_notice', ...head, queue_bytes: reader.size() };
    }
    case PRESENCE_NOTICE: {
      const head = { listener: reader.size(), joined: readPresent(reader) };
      const count = reader.size();
      const left = [];
      while (left.length < count) left.push({ path: reader.string(), session: reader.string() });
      return { op: 'presence_notice', ...head, left };
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
    if (name === undefined) continue;
    if (WELCOME_TEXTS.has(name)) welcome[name] = decodeUtf8(field.rest());
    else welcome[name] = WELCOME_FLAGS.has(name) ? field.size() !== 0 : field.size();
  }
  return /** @type {Welcome} */ (/** @type {unknown} */ (welcome));
}

/**
 * @param {Reader} reader
 * @returns {ErrorMessage}
 */
function readError(reader) {
  return { op: 'error', id: reader.varint(), ...readRefusal(reader) };
}

/**
 * @param {Reader} reader
 * @returns {{ code: number, position?: number, message: string }}
 */
function readRefusal(reader) {
  const code = reader.size();
  const position = reader.size();
  const message = decodeUtf8(reader.rest());
  return position === 0 ? { code, message } : { code, position: position - 1, message };
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
