// A server in this process that speaks the binary form: just enough of a tree, subscriptions and listeners to test a client against, and handles
// to make it fail. With `resume` its sessions outlive their connections.

import { WebSocketServer } from 'ws';
import { applyDelta } from '../delta.js';
import { Selector } from '../selector.js';
import { encodeValue } from '../types.js';
import { MockClients } from './mock-clients.js';
import { decodeClientMessage, errorFrame, field, frame, string, TYPES, varint } from './mock-codec.js';

export { errorFrame, frame, string, TYPES, varint } from './mock-codec.js';

/** Starts a mock server on a free port. */
export async function startMockServer(options = {}) {
  const server = new MockServer(options);
  await server.open(0);
  return server;
}

/** What is no request of a session. */
const CONNECTIONS_OWN = new Set(['connect', 'ping', 'pong', 'close', 'processed']);

class MockServer {
  /** Path → { number, type, value }, kept in path order by whoever reads it. */
  topics = new Map();
  /** Name → entry of a view, in the order of their places. They make nothing. */
  views = new Map();
  /** Every message received, for a test to look at. */
  received = [];
  /** The requests among them that were taken up. */
  handled = [];
  /** The live connections, newest last; sessions that stay without one are among them. */
  connections = [];
  /** Asked before a message is sent: 'before' or 'after' cuts the connection there. */
  cutSending = () => undefined;
  /** Asked before a request is taken up: 'before' cuts the connection instead, 'after' before its answer. */
  cutReceiving = () => undefined;
  /** Requests between clients, control, locks. */
  clients = new MockClients(this);
  #nextToken = 1;
  #nextSession = 1;
  #nextTopic = 1;

  /** `answer(message, connection)` may answer in the server's place by returning true. */
  constructor({ keepAliveMs = 30_000, messageBytesMax = 65536, pageMax = 10, queryEventsMax = 100, answer = () => false, resume = undefined } = {}) {
    this.keepAliveMs = keepAliveMs;
    this.messageBytesMax = messageBytesMax;
    this.pageMax = pageMax;
    this.queryEventsMax = queryEventsMax;
    this.answer = answer;
    /** `{ recoveryBytesMax }` where sessions may outlive their connections. */
    this.resume = resume;
  }

  async open(port) {
    this.server = new WebSocketServer({ host: '127.0.0.1', port, path: '/tidewire', handleProtocols: (offered) => offered.has('tidewire.1') && 'tidewire.1' });
    this.server.on('connection', (socket) => this.#accept(socket));
    await new Promise((resolve) => this.server.once('listening', resolve));
    this.port = this.server.address().port;
    this.url = `ws://127.0.0.1:${this.port}`;
  }

  /** Ends every connection without a close, and stops listening. */
  async stop() {
    for (const { socket } of this.connections) socket.terminate();
    await new Promise((resolve) => this.server.close(resolve));
  }

  /** Listens again at the same port. The topics have other numbers, as a server's would that starts anew. */
  async restart() {
    for (const topic of this.topics.values()) topic.number = this.#nextTopic++;
    await this.open(this.port);
  }

  get last() {
    return this.connections.at(-1);
  }

  /** Adds a topic, or sets its value: null is no value, undefined leaves it. `by` is the stream that does it; other streams of the topic end. */
  put(path, type, value, properties = {}, by = undefined) {
    const before = this.topics.get(path);
    const topic = before ?? { number: this.#nextTopic++, type, properties, events: [] };
    if (value !== undefined && topic.stream !== by) topic.stream = undefined;
    this.topics.set(path, topic);
    const subscribers = this.connections.filter((connection) => selects(connection, path));
    if (before === undefined) {
      for (const connection of subscribers) connection.send(subscribed(path, topic));
      this.#notice(path, topic, 1);
    }
    if (value === undefined) return before === undefined;
    const bytes = value && Buffer.from(value);
    if (topic.type === 'time_series') this.#append(topic, { value: bytes }, subscribers);
    else {
      topic.value = bytes;
      const update = bytes === null ? frame(0x94, varint(topic.number)) : frame(0x91, varint(topic.number), bytes);
      for (const connection of subscribers) connection.send(update);
    }
    return before === undefined;
  }

  removeTopic(path) {
    const topic = this.topics.get(path);
    this.topics.delete(path);
    for (const connection of this.connections) if (selects(connection, path)) connection.send(frame(0x98, varint(topic.number), 2));
    this.#notice(path, topic, 2);
  }

  #append(topic, { value, original, timestamp = 1_000 + topic.events.length }, subscribers) {
    const event = { sequence: topic.events.length, timestamp, original, author: 'mock', value };
    topic.events.push(event);
    topic.value = value;
    for (const connection of subscribers) connection.send(eventFrame(topic, event));
    return event;
  }

  /** Tells those who listen to topics. */
  #notice(path, topic, what) {
    for (const connection of this.connections) {
      for (const [number, selectors] of connection.listeners) {
        for (const selector of selectors) this.#noticeTo(connection, number, Selector.parse(selector), path, topic, what);
      }
    }
  }

  #noticeTo(connection, number, selector, path, topic, what) {
    if (selector.matches(path)) connection.send(frame(0xa0, varint(number), what, string(path), TYPES[topic.type], properties(topic.properties)));
    const parent = path.slice(0, Math.max(0, path.lastIndexOf('/')));
    if (parent !== '' && selector.matches(parent)) connection.send(frame(0xa1, varint(number), what, string(path)));
  }

  #accept(socket) {
    let connection = { socket, id: `S-${this.#nextSession++}`, selections: [], listeners: new Map(), handlers: new Map(), streams: new Map(), isCut: false };
    connection.send = (...frames) => this.#send(connection, Buffer.concat(frames));
    this.connections.push(connection);
    socket.on('close', () => {
      if (connection.socket === socket && connection.kept === undefined) this.#forget(connection);
    });
    socket.on('message', (bytes) => {
      for (const message of decodeClientMessage(bytes)) {
        if (connection.isCut || connection.socket !== socket) return;
        this.received.push(message);
        if (message.op === 'connect' && message.token !== undefined) connection = this.#resume(message, connection) ?? connection;
        else this.#handle(message, connection);
      }
    });
  }

  #forget(connection) {
    const index = this.connections.indexOf(connection);
    if (index < 0) return;
    this.connections.splice(index, 1);
    this.clients.forget(connection);
  }

  /** Every session that may be gone on with is over. */
  forgetSessions() {
    const kept = this.connections.filter((connection) => connection.kept !== undefined);
    for (const connection of kept) this.cut(connection);
    for (const connection of kept) this.#forget(connection);
  }

  /** Ends the connection without a close; the client does not get what is sent from now on. */
  cut(connection) {
    connection.isCut = true;
    connection.socket.terminate();
  }

  #send(connection, bytes) {
    connection.kept?.push(bytes);
    this.#transmit(connection, bytes);
  }

  #transmit(connection, bytes) {
    if (connection.isCut || connection.socket.readyState !== connection.socket.OPEN) return;
    const where = this.cutSending(bytes);
    if (where === 'before') return this.cut(connection);
    connection.socket.send(bytes, () => where === 'after' && this.cut(connection));
    if (where === 'after') connection.isCut = true;
  }

  #handle(message, connection) {
    const isRequest = !CONNECTIONS_OWN.has(message.op);
    const where = isRequest ? this.cutReceiving(message) : undefined;
    if (where === 'before') return this.cut(connection);
    if (isRequest) {
      connection.requests += 1;
      this.handled.push(message);
    }
    // It is carried out, and nobody hears of it.
    if (where === 'after') this.cut(connection);
    if (this.answer(message, connection)) return;
    const carriesOut = message.op in this ? this : this.clients;
    carriesOut[message.op](message, connection);
  }

  #resume({ id, token, processed }, connection) {
    const session = this.connections.find((other) => other.token === token);
    if (session === undefined) return void connection.socket.send(errorFrame(id, 107, 'the session is over'));
    const { socket } = connection;
    this.#forget(connection);
    if (session.socket.readyState === socket.OPEN) session.socket.close(4105, 'taken over');
    Object.assign(session, { socket, isCut: false });
    this.#noteProcessed(session, processed);
    this.#welcome(id, session, field(13, varint(session.requests)));
    for (const bytes of session.kept) this.#transmit(session, bytes);
    return session;
  }

  #noteProcessed(session, messages) {
    if (messages < session.processed || messages > session.processed + session.kept.length) throw new Error(`${messages} cannot be processed`);
    session.kept.splice(0, messages - session.processed);
    session.processed = messages;
  }

  #welcome(id, { socket, token, id: session }, ...more) {
    const fields = [field(3, session), field(4, varint(this.keepAliveMs)), field(5, varint(this.messageBytesMax)), field(7, varint(32768))];
    if (token !== undefined) fields.push(field(10, token), field(11, varint(60_000)), field(12, varint(this.resume.recoveryBytesMax)));
    socket.send(frame(0x81, varint(id), varint(1), field(1, 'mock'), ...fields, ...more));
  }

  connect({ id, resume_ms: resumeMs, properties: own }, connection) {
    connection.properties = own;
    if (this.resume !== undefined && resumeMs > 0) {
      Object.assign(connection, { token: `token-${this.#nextToken++}`, kept: [], processed: 0, requests: 0, told: 0 });
    }
    this.#welcome(id, connection);
  }

  processed({ messages }, connection) {
    this.#noteProcessed(connection, messages);
    if (connection.told === connection.requests) return;
    connection.told = connection.requests;
    connection.send(frame(0x85, varint(connection.requests)));
  }

  ping(_, connection) {
    connection.send(frame(0x03));
  }

  pong() {}

  close(_, connection) {
    connection.kept = undefined;
    connection.socket.close(1000);
  }

  add(message, connection) {
    this.#change({ ...message, value: undefined }, connection);
  }

  set(message, connection) {
    this.#change(message, connection);
  }

  add_and_set(message, connection) {
    this.#change(message, connection);
  }

  update(message, connection) {
    this.#change(message, connection);
  }

  /** Any update: with properties the topic is added if need be, with a constraint that has to hold. */
  #change({ id, path, type, value, properties, constraint, patch }, connection, by = undefined) {
    const there = this.topics.get(path);
    const refuse = (code, why, position) => connection.send(errorFrame(id, code, why, position));
    if (constraint !== undefined && !isSatisfied(constraint, there, (lock) => this.clients.isHeld(lock, connection))) return refuse(212, 'the constraint does not hold');
    if (there === undefined && properties === undefined) return refuse(202, `no topic at ${path}`);
    if (there !== undefined && properties !== undefined && there.type !== type) return refuse(203, 'another specification');
    const takes = there?.type === 'time_series' ? there.properties.TIME_SERIES_EVENT_VALUE_TYPE : there?.type;
    if (there !== undefined && properties === undefined && patch === undefined && takes !== type) return refuse(204, `the topic is ${there.type}`);
    if (patch !== undefined && patch.some(({ op }) => op === 'test')) return refuse(215, 'a test fails', patch.findIndex(({ op }) => op === 'test'));
    const created = this.put(path, type, patch === undefined ? value : Buffer.from(JSON.stringify(patch)), properties, by);
    connection.send(frame(0x82, varint(id), ...(properties === undefined ? [] : [created ? 1 : 0])));
    return this.topics.get(path);
  }

  stream_open(message, connection) {
    const by = `${this.connections.indexOf(connection)} ${message.stream}`;
    const topic = this.#change(message, connection, by);
    if (topic === undefined) return;
    topic.stream = by;
    connection.streams.set(message.stream, { by, path: message.path, last: message.value });
  }

  stream_set({ id, stream: number, value }, connection) {
    const stream = connection.streams.get(number);
    const topic = this.topics.get(stream?.path);
    if (topic === undefined || topic.stream !== stream.by) return connection.send(errorFrame(id, 220, 'the stream is not valid'));
    stream.last = value;
    this.put(stream.path, topic.type, value, topic.properties, stream.by);
    connection.send(frame(0x82, varint(id)));
  }

  stream_delta({ id, stream, form, delta }, connection) {
    const last = connection.streams.get(stream)?.last;
    this.stream_set({ id, stream, value: last && Buffer.from(applyDelta(form, last, delta, 65536)) }, connection);
  }

  stream_close({ id, stream }, connection) {
    connection.send(connection.streams.delete(stream) ? frame(0x82, varint(id)) : errorFrame(id, 220, 'no such stream'));
  }

  append({ id, path, value, timestamp, original }, connection) {
    const topic = this.topics.get(path);
    if (topic?.type !== 'time_series') return connection.send(errorFrame(id, topic ? 204 : 202, 'no time series'));
    const event = this.#append(topic, { value, timestamp, original }, this.connections.filter((subscriber) => selects(subscriber, path)));
    connection.send(frame(0x82, varint(id), varint(event.sequence), varint(event.timestamp)));
  }

  edit(message, connection) {
    const original = this.topics.get(message.path)?.events[message.original];
    if (original?.original !== undefined) return connection.send(errorFrame(message.id, 224, 'an edit'));
    if (original === undefined) return connection.send(errorFrame(message.id, 223, 'no such event'));
    this.append(message, connection);
  }

  /** Knows ranges of sequences, the limit, and whether edits are wanted; of values that an edit range is none. Of a topic, `kept` is the first event that it keeps. */
  query({ id, path, kind = 'values', range = {}, edit_range: editRange, limit = this.queryEventsMax }, connection) {
    const { events, kept = 0, properties: { TIME_SERIES_EVENT_VALUE_TYPE: type } } = this.topics.get(path);
    const isOfKind = ({ original }) => (kind === 'values' ? editRange === undefined || original === undefined : original !== undefined);
    const { from: { sequence: first = 0 } = {}, to: { sequence: last = Infinity } = {} } = kind === 'values' ? range : editRange ?? {};
    const wanted = events.filter((event) => isOfKind(event) && event.sequence >= Math.max(first, kept) && event.sequence <= last);
    const parts = wanted.slice(-limit).map((event) => Buffer.concat([eventHead(event), varint(event.value.length), event.value]));
    connection.send(frame(0x82, varint(id), wanted.length > limit ? 0 : 1, TYPES[type], varint(parts.length), ...parts));
  }

  /** Knows one error of definitions: a missing `to`. */
  create_view({ id, name, definition }, connection) {
    if (!definition.includes(' to ')) return connection.send(errorFrame(id, 231, 'line 1, column 1: expected to', Buffer.byteLength(definition)));
    const before = this.views.get(name);
    const place = before?.place ?? this.views.size + 1;
    this.views.set(name, { ...before, name, definition, place });
    connection.send(frame(0x82, varint(id), before === undefined ? 1 : 0));
  }

  remove_view({ id, name }, connection) {
    connection.send(frame(0x82, varint(id), varint(this.views.delete(name) ? 1 : 0)));
  }

  list_views({ id, after = 0 }, connection) {
    const behind = [...this.views.values()].filter(({ place }) => place > after);
    this.#sendViews(id, behind.slice(0, this.pageMax), behind.length > this.pageMax, connection);
  }

  get_view({ id, name }, connection) {
    const view = this.views.get(name);
    if (view === undefined) connection.send(errorFrame(id, 230, `there is no view ${name}`));
    else this.#sendViews(id, [view], false, connection);
  }

  #sendViews(id, views, hasMore, connection) {
    connection.send(frame(0x82, varint(id), hasMore ? 1 : 0, varint(views.length), ...views.map(viewEntry)));
  }

  listen({ id, listener, kind, selector }, connection) {
    const selectors = connection.listeners.get(listener) ?? new Set();
    connection.listeners.set(listener, selectors.add(selector));
    if (kind === 'topics') for (const [path, topic] of this.topics) this.#noticeTo(connection, listener, Selector.parse(selector), path, topic, 3);
    connection.send(frame(0x82, varint(id)));
  }

  unlisten({ id, listener, selector }, connection) {
    if (!connection.listeners.has(listener)) return connection.send(errorFrame(id, 302, 'no such listener'));
    if (selector === '') connection.listeners.delete(listener);
    else connection.listeners.get(listener).delete(selector);
    connection.send(frame(0x82, varint(id)));
  }

  remove({ id, selector }, connection) {
    const parsed = Selector.parse(selector);
    const paths = [...this.topics.keys()].filter((path) => parsed.matches(path));
    for (const path of paths) this.removeTopic(path);
    connection.send(frame(0x82, varint(id), varint(paths.length)));
  }

  fetch(message, connection) {
    const { id, selector, after, from = '', to, before, first, last, types, depth, depth_limit: depthLimit } = message;
    const parsed = Selector.parse(selector);
    const counts = new Map();
    const isWithin = (path) => path > after && path >= from && (to === undefined || path <= to) && (before === undefined || path < before);
    const isOverLimit = (path) => {
      const segments = path.split('/');
      if (depth === undefined || segments.length < depth) return false;
      const branch = segments.slice(0, depth).join('/');
      counts.set(branch, (counts.get(branch) ?? 0) + 1);
      return counts.get(branch) > depthLimit;
    };
    const paths = [...this.topics.keys()].sort().filter((path) => isWithin(path) && parsed.matches(path));
    const wanted = paths.filter((path) => (types === undefined || types.includes(this.topics.get(path).type)) && !isOverLimit(path));
    const page = last === undefined ? wanted.slice(0, Math.min(first || this.pageMax, this.pageMax)) : wanted.slice(-Math.min(last, this.pageMax));
    const entries = page.map((path) => entry(message, path, this.topics.get(path)));
    connection.send(frame(0x82, varint(id), page.length < paths.length ? 1 : 0, varint(page.length), ...entries));
  }

  subscribe({ scope, ...message }, connection) {
    this.#select({ ...message, scopes: [scope] }, connection);
  }

  unsubscribe(message, connection) {
    this.subscribe(message, connection);
  }

  unsubscribe_all_scopes(message, connection) {
    const scopes = [...new Set(connection.selections.map(({ scope }) => scope))];
    this.#select({ ...message, op: 'unsubscribe', scopes }, connection);
  }

  #select(message, connection) {
    try {
      this.selectFor(connection, message);
    } catch (error) {
      return connection.send(errorFrame(message.id, 201, error.message, error.position));
    }
    connection.send(frame(0x82, varint(message.id)));
  }

  /** A selection of the session's, whoever asked for it. */
  selectFor(connection, { selector, op, scopes }) {
    const parsed = Selector.parse(selector);
    const before = new Set([...this.topics.keys()].filter((path) => selects(connection, path)));
    for (const scope of scopes) connection.selections.push({ op, selector: parsed, scope });
    for (const [path, topic] of this.topics) {
      const now = selects(connection, path);
      if (now && !before.has(path)) {
        connection.send(subscribed(path, topic));
        const event = topic.events.at(-1);
        const isQuiet = topic.properties.PUBLISH_VALUES_ONLY === 'true';
        if (event !== undefined) isQuiet || connection.send(eventFrame(topic, event));
        else if (topic.value) connection.send(frame(0x91, varint(topic.number), topic.value));
      }
      if (!now && before.has(path)) connection.send(frame(0x98, varint(topic.number), 1));
    }
  }
}

/** Selected by any scope, each of whose last selection that matches decides. */
function selects(connection, path) {
  const last = new Map(connection.selections.filter(({ selector }) => selector.matches(path)).map(({ scope, op }) => [scope, op]));
  return [...last.values()].includes('subscribe');
}

/** A constraint as this server knows it: only strict comparisons, and `isHeld` for locks. */
function isSatisfied(constraint, topic, isHeld) {
  if (constraint.and !== undefined) return constraint.and.every((part) => isSatisfied(part, topic, isHeld));
  if (constraint.or !== undefined) return constraint.or.some((part) => isSatisfied(part, topic, isHeld));
  if (constraint.no_topic) return topic === undefined;
  if (constraint.no_value) return topic !== undefined && !topic.value;
  if (constraint.locked !== undefined) return isHeld(constraint.locked);
  const { is, type = 'json' } = constraint.value;
  return Boolean(topic?.value) && topic.type === type && topic.value.equals(encodeValue(type, is));
}

function subscribed(path, { number, type, properties: all }) {
  return frame(0x90, varint(number), string(path), TYPES[type], properties(all));
}

function properties(all = {}) {
  const entries = Object.entries(all);
  return Buffer.concat([varint(entries.length), ...entries.flat().map(string)]);
}

function eventHead({ sequence, timestamp, original, author }) {
  return Buffer.concat([varint(sequence), varint(timestamp), varint(original === undefined ? 0 : original + 1), string(author)]);
}

function eventFrame({ number }, event) {
  return frame(0x95, varint(number), eventHead(event), event.value);
}

function viewEntry({ name, definition, place, isDormant = false, sources = 0, references = 0, evaluations = 0, failures = 0, lastFailure = '' }) {
  const counts = [sources, references, evaluations, failures].map(varint);
  return Buffer.concat([string(name), string(definition), varint(place), Buffer.from([isDormant ? 1 : 0]), ...counts, string(lastFailure)]);
}

function entry(asked, path, { type, value, properties: all }) {
  const parts = [string(path), Buffer.from([TYPES[type]])];
  if (asked.values) parts.push(value ? Buffer.concat([varint(value.length + 1), value]) : varint(0));
  if (asked.with_properties) parts.push(properties(all));
  if (asked.sizes) parts.push(varint(value ? value.length + 1 : 0));
  return Buffer.concat(parts);
}
