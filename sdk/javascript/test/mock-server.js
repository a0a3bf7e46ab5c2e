// A server in this process that speaks the binary form: just enough tree and subscriptions to test a client against, and
// handles to make it fail. Its codec is written apart from the SDK's, so that the two check each other.

import { WebSocketServer } from 'ws';
import { Selector } from '../selector.js';

const TYPES = { json: 1, string: 2, int64: 3, double: 4, binary: 5 };
const TYPE_NAMES = Object.fromEntries(Object.entries(TYPES).map(([name, number]) => [number, name]));
const OPERATIONS = {
  0x01: 'connect',
  0x02: 'ping',
  0x03: 'pong',
  0x04: 'close',
  0x10: 'add',
  0x11: 'set',
  0x12: 'add_and_set',
  0x13: 'remove',
  0x14: 'fetch',
  0x18: 'subscribe',
  0x19: 'unsubscribe',
};

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
      return { op, id, version: readVarint(cursor), ...readFields(cursor) };
    case 'add':
      return { op, id, path: readString(cursor), type: readType(cursor), properties: readProperties(cursor) };
    case 'set':
      return { op, id, path: readString(cursor), type: readType(cursor), value: readRest(cursor) };
    case 'add_and_set':
      return { op, id, path: readString(cursor), type: readType(cursor), properties: readProperties(cursor), value: readRest(cursor) };
    case 'remove':
      return { op, id, selector: readString(cursor) };
    case 'fetch':
      return {
        op,
        id,
        selector: readString(cursor),
        after: readString(cursor),
        first: readVarint(cursor),
        values: (readVarint(cursor) & 1) === 1,
      };
    case 'subscribe':
    case 'unsubscribe':
      return { op, id, selector: readString(cursor), scope: readString(cursor) };
    default:
      throw new ClientFrameError({ code: 101, id });
  }
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

function readType(cursor) {
  const type = TYPE_NAMES[take(cursor, 1)[0]];
  if (type === undefined) throw new ClientFrameError({ ...cursor.fail, code: 207 });
  return type;
}

function readRest(cursor) {
  return Buffer.from(take(cursor, cursor.end - cursor.position));
}

function readProperties(cursor) {
  const properties = {};
  for (let count = readVarint(cursor); count > 0; count -= 1) properties[readString(cursor)] = readString(cursor);
  return properties;
}

function readFields(cursor) {
  const fields = {};
  while (cursor.position < cursor.end) {
    const tag = readVarint(cursor);
    const bytes = take(cursor, readVarint(cursor));
    if (tag === 1) fields.client = bytes.toString();
    if (tag === 2) fields.capabilities = bytes[0];
  }
  return fields;
}

const field = (tag, bytes) => Buffer.concat([varint(tag), varint(bytes.length), Buffer.from(bytes)]);

/** Starts a mock server on a free port. */
export async function startMockServer(options = {}) {
  const server = new MockServer(options);
  await server.listen(0);
  return server;
}

class MockServer {
  /** Path → { number, type, value }, kept in path order by whoever reads it. */
  topics = new Map();
  /** Every message received, for a test to look at. */
  received = [];
  /** The live connections, newest last. */
  connections = [];
  #nextTopic = 1;

  /** `answer(message, connection)` may answer in the server's place by returning true. */
  constructor({ keepAliveMs = 30_000, messageBytesMax = 65536, pageMax = 10, answer = () => false } = {}) {
    this.keepAliveMs = keepAliveMs;
    this.messageBytesMax = messageBytesMax;
    this.pageMax = pageMax;
    this.answer = answer;
  }

  async listen(port) {
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
    await this.listen(this.port);
  }

  get last() {
    return this.connections.at(-1);
  }

  put(path, type, value) {
    const bytes = value === undefined ? undefined : Buffer.from(value);
    const before = this.topics.get(path);
    const topic = before ?? { number: this.#nextTopic++, type };
    topic.value = bytes;
    this.topics.set(path, topic);
    for (const connection of this.connections) {
      if (!selects(connection, path)) continue;
      if (before === undefined) connection.send(subscribed(path, topic));
      if (bytes !== undefined) connection.send(frame(0x91, varint(topic.number), bytes));
    }
    return before === undefined;
  }

  removeTopic(path) {
    const topic = this.topics.get(path);
    this.topics.delete(path);
    for (const connection of this.connections) if (selects(connection, path)) connection.send(frame(0x98, varint(topic.number), 2));
  }

  #accept(socket) {
    const connection = { socket, selections: [], send: (...frames) => socket.send(Buffer.concat(frames)) };
    this.connections.push(connection);
    socket.on('close', () => this.connections.splice(this.connections.indexOf(connection), 1));
    socket.on('message', (bytes) => {
      for (const message of decodeClientMessage(bytes)) {
        this.received.push(message);
        if (!this.answer(message, connection)) this[message.op](message, connection);
      }
    });
  }

  connect({ id }, connection) {
    const fields = [field(3, 'S-1'), field(4, varint(this.keepAliveMs)), field(5, varint(this.messageBytesMax)), field(7, varint(32768))];
    connection.send(frame(0x81, varint(id), varint(1), field(1, 'mock'), ...fields));
  }

  ping(_, connection) {
    connection.send(frame(0x03));
  }

  pong() {}

  close(_, connection) {
    connection.socket.close(1000);
  }

  add({ id, path, type }, connection) {
    const there = this.topics.get(path);
    if (there !== undefined && there.type !== type) return connection.send(errorFrame(id, 203, 'another type'));
    const created = there === undefined && this.put(path, type, undefined);
    connection.send(frame(0x82, varint(id), created ? 1 : 0));
  }

  set({ id, path, type, value }, connection) {
    const there = this.topics.get(path);
    if (there === undefined) return connection.send(errorFrame(id, 202, `no topic at ${path}`));
    if (there.type !== type) return connection.send(errorFrame(id, 204, `the topic is ${there.type}`));
    this.put(path, type, value);
    connection.send(frame(0x82, varint(id)));
  }

  add_and_set({ id, path, type, value }, connection) {
    connection.send(frame(0x82, varint(id), this.put(path, type, value) ? 1 : 0));
  }

  remove({ id, selector }, connection) {
    const parsed = Selector.parse(selector);
    const paths = [...this.topics.keys()].filter((path) => parsed.matches(path));
    for (const path of paths) this.removeTopic(path);
    connection.send(frame(0x82, varint(id), varint(paths.length)));
  }

  fetch({ id, selector, after, first, values }, connection) {
    const parsed = Selector.parse(selector);
    const paths = [...this.topics.keys()].filter((path) => path > after && parsed.matches(path)).sort();
    const page = paths.slice(0, Math.min(first || this.pageMax, this.pageMax));
    const entries = page.map((path) => {
      const { type, value } = this.topics.get(path);
      const bytes = value === undefined ? varint(0) : Buffer.concat([varint(value.length + 1), value]);
      return Buffer.concat([string(path), Buffer.from([TYPES[type]]), values ? bytes : Buffer.alloc(0)]);
    });
    connection.send(frame(0x82, varint(id), page.length < paths.length ? 1 : 0, varint(page.length), ...entries));
  }

  subscribe({ id, selector, op }, connection) {
    let parsed;
    try {
      parsed = Selector.parse(selector);
    } catch (error) {
      return connection.send(errorFrame(id, 201, error.message, error.position));
    }
    const before = new Set([...this.topics.keys()].filter((path) => selects(connection, path)));
    connection.selections.push({ op, selector: parsed });
    for (const [path, topic] of this.topics) {
      const now = selects(connection, path);
      if (now && !before.has(path)) {
        connection.send(subscribed(path, topic));
        if (topic.value !== undefined) connection.send(frame(0x91, varint(topic.number), topic.value));
      }
      if (!now && before.has(path)) connection.send(frame(0x98, varint(topic.number), 1));
    }
    connection.send(frame(0x82, varint(id)));
  }

  unsubscribe(message, connection) {
    this.subscribe(message, connection);
  }
}

function selects(connection, path) {
  return connection.selections.findLast(({ selector }) => selector.matches(path))?.op === 'subscribe';
}

function subscribed(path, { number, type }) {
  return frame(0x90, varint(number), string(path), TYPES[type], varint(0));
}

export function errorFrame(id, code, message, position) {
  return frame(0x83, varint(id), varint(code), varint(position === undefined ? 0 : position + 1), Buffer.from(message));
}
