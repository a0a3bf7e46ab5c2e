// What the mock server knows of requests between clients, of sessions as others see them, and of locks: just enough to test a client against. Filters
// are `all` and `key is 'value'`.

import { errorFrame, frame, string, TYPES, varint } from './mock-codec.js';

/** Of a part of the script. */
const SECURITY_BYTES_MAX = 40;

const within = (path, branch) => path === branch || path.startsWith(`${branch}/`);

const properties = (all) => Buffer.concat([varint(Object.keys(all).length), ...Object.entries(all).flat().map(string)]);

/** A value of a request or response: null where there is none. */
const payload = ({ type, value }) => Buffer.concat([Buffer.from([TYPES[type]]), value === null ? varint(0) : Buffer.concat([varint(value.length + 1), value])]);

function matches(filter, { properties: all = {} }) {
  if (filter === 'all') return true;
  const [, key, value] = /^(\w+) is '(.*)'$/.exec(filter) ?? [];
  return key !== undefined && all[key] === value;
}

export class MockClients {
  /** Requests that handlers have, by the handler's connection and their number. */
  #served = new Map();
  /** Name → { holder, number, scope, waiting }. */
  locks = new Map();
  /** Branch → rows. */
  sessionTrees = new Map();
  /** The script of what roles permit. */
  security = '';
  principals = '';
  #grants = 0;

  constructor(server) {
    this.server = server;
  }

  handle_requests({ id, handler, path, session_properties: wanted }, connection) {
    connection.handlers.set(handler, { path, wanted });
    connection.send(frame(0x82, varint(id)));
  }

  unhandle_requests({ id, handler }, connection) {
    connection.send(connection.handlers.delete(handler) ? frame(0x82, varint(id)) : errorFrame(id, 302, 'no such handler'));
  }

  request(message, connection) {
    const { id } = message;
    const length = (other) => handlerOf(other, message.path)?.[1].path.length ?? 0;
    const [to] = [...this.server.connections].sort((one, other) => length(other) - length(one));
    if (length(to) === 0) return connection.send(errorFrame(id, 310, 'nobody handles it'));
    this.#ask(message, connection, to);
  }

  #ask(message, connection, to) {
    const { id } = message;
    this.#give(message, connection, to, {
      response: (answer) => connection.send(frame(0x82, varint(id), payload(answer))),
      error: (code, why) => connection.send(errorFrame(id, code, why)),
    });
  }

  request_session(message, connection) {
    const to = this.server.connections.find((other) => other.id === message.session);
    if (to === undefined) return connection.send(errorFrame(message.id, 317, 'no such session'));
    this.#ask(message, connection, to);
  }

  request_filter(message, connection) {
    const { id, filter } = message;
    if (filter !== 'all' && !filter.includes(' is ')) return connection.send(errorFrame(id, 318, 'expected is', 3));
    const asked = this.server.connections.filter((other) => matches(filter, other));
    connection.send(frame(0x82, varint(id), varint(asked.length)));
    for (const to of asked) {
      this.#give(message, connection, to, {
        response: (answer) => connection.send(frame(0xb1, varint(id), string(to.id), payload(answer))),
        error: (code, why) => this.responseError(connection, id, to.id, code, why),
      });
    }
  }

  responseError(connection, id, session, code, why) {
    connection.send(frame(0xb2, varint(id), string(session), varint(code), 0, Buffer.from(why)));
  }

  #give(message, from, to, reply) {
    const handler = handlerOf(to, message.path);
    if (handler === undefined) return reply.error(310, 'nobody handles it');
    const [number, { wanted }] = handler;
    const request = message.id === 0 ? 0 : (to.asked = (to.asked ?? 0) + 1);
    if (request > 0) this.#served.set(`${to.id} ${request}`, reply);
    const shown = Object.fromEntries(Object.entries(from.properties ?? {}).filter(([key]) => wanted.includes(key)));
    to.send(frame(0xb0, varint(number), varint(request), string(from.id), string(message.path), properties(shown), payload(message)));
  }

  respond(message, connection) {
    this.#answered(message, connection)?.response(message);
  }

  reject(message, connection) {
    this.#answered(message, connection)?.error(315, message.message);
  }

  #answered({ id, request }, connection) {
    const key = `${connection.id} ${request}`;
    const reply = this.#served.get(key);
    if (!this.#served.delete(key)) connection.send(errorFrame(id, 316, 'no such request'));
    return reply;
  }

  list_sessions({ id, filter, after, first, slowest }, connection) {
    const all = this.server.connections.filter((other) => (filter === '' || matches(filter, other)) && (slowest || other.id > after));
    const page = all.slice(0, first || this.server.pageMax);
    const entries = page.map((other) => {
      const counts = [other.selections.length, 300, 70_000, other.conflated ? 1 : 0].map(varint);
      const seen = [varint(other.conflated ? 1 : 0), varint(2), varint(1_500), varint(other === connection ? 0 : 901)];
      return Buffer.concat([string(other.id), Buffer.from([0]), properties(other.properties ?? {}), ...counts, ...seen]);
    });
    connection.send(frame(0x82, varint(id), page.length < all.length ? 1 : 0, varint(page.length), ...entries));
  }

  list_selections({ id, session, after, first }, connection) {
    const of = this.server.connections.find((other) => other.id === session);
    if (of === undefined) return connection.send(errorFrame(id, 317, 'no such session'));
    const all = of.selections.map(({ op, selector, scope }) => [scope, selector.text, op === 'subscribe' ? 1 : 0]);
    const page = all.slice(after, after + (first || this.server.pageMax));
    const entries = page.map(([scope, selector, kind]) => Buffer.concat([string(scope), string(selector), Buffer.from([kind])]));
    connection.send(frame(0x82, varint(id), after + page.length < all.length ? 1 : 0, varint(page.length), ...entries));
  }

  close_sessions(message, connection) {
    for (const other of this.#order(message, connection)) other.socket.close(4106, message.message);
  }

  set_session_properties(message, connection) {
    for (const other of this.#order(message, connection)) other.properties = { ...other.properties, ...message.properties };
  }

  conflate_sessions(message, connection) {
    for (const other of this.#order(message, connection)) other.conflated = message.conflated;
  }

  change_roles(message, connection) {
    const { remove, add } = message;
    for (const other of this.#order(message, connection)) other.roles = [...(other.roles ?? []).filter((role) => !remove.includes(role)), ...add];
  }

  subscribe_sessions(message, connection) {
    const op = message.op === 'subscribe_sessions' ? 'subscribe' : 'unsubscribe';
    for (const other of this.#order(message, connection)) this.server.selectFor(other, { ...message, op, scopes: [message.scope] });
  }

  unsubscribe_sessions(message, connection) {
    this.subscribe_sessions(message, connection);
  }

  /** The sessions that are meant; they are counted. */
  #order({ id, session, filter }, connection) {
    const meant = this.server.connections.filter((other) => (session === '' ? matches(filter, other) : other.id === session));
    connection.send(frame(0x82, varint(id), varint(meant.length)));
    return meant;
  }

  lock({ id, name, scope = 'session' }, connection) {
    const lock = this.locks.get(name) ?? { waiting: [] };
    this.locks.set(name, lock);
    lock.waiting.push({ id, scope, connection });
    if (lock.holder === undefined) this.#grant(name, lock);
    else if (lock.holder === connection) {
      lock.waiting.pop();
      connection.send(frame(0x82, varint(id), varint(lock.number)));
    }
  }

  #grant(name, lock) {
    const next = lock.waiting.shift();
    if (next === undefined) return this.locks.delete(name);
    Object.assign(lock, { holder: next.connection, number: (this.#grants += 1), scope: next.scope });
    next.connection.send(frame(0x82, varint(next.id), varint(lock.number)));
  }

  unlock({ id, name, number }, connection) {
    const lock = this.locks.get(name);
    const isHeld = this.isHeld({ name, number }, connection);
    if (isHeld) this.#grant(name, lock);
    connection.send(frame(0x82, varint(id), isHeld ? 1 : 0));
  }

  isHeld({ name, number }, connection) {
    const lock = this.locks.get(name);
    return lock?.holder === connection && lock.number === number;
  }

  list_locks({ id, after = '' }, connection) {
    const all = [...this.locks].filter(([name]) => name > after).sort(([a], [b]) => (a < b ? -1 : 1));
    const page = all.slice(0, this.server.pageMax);
    const entries = page.map(([name, { holder, number, scope, waiting }]) =>
      Buffer.concat([string(name), string(holder.id), varint(number), Buffer.from([scope === 'connection' ? 1 : 0]), varint(waiting.length)]),
    );
    connection.send(frame(0x82, varint(id), page.length < all.length ? 1 : 0, varint(page.length), ...entries));
  }

  /** Everybody is there; what happens later the test says. */
  listen_sessions({ id, listener, filter, session_properties: wanted }, connection) {
    if (filter !== '' && !filter.includes(' is ')) return connection.send(errorFrame(id, 318, 'expected is', 3));
    for (const other of this.server.connections.filter((one) => filter === '' || matches(filter, one))) {
      const shown = Object.fromEntries(Object.entries(other.properties ?? {}).filter(([key]) => wanted.includes(key)));
      connection.send(frame(0xb4, varint(listener), 1, string(other.id), 0, properties(shown)));
    }
    connection.send(frame(0x82, varint(id)));
  }

  listen_queues({ id }, connection) {
    connection.send(frame(0x82, varint(id)));
  }

  listen_presence({ id, listener, once }, connection) {
    const joined = this.server.connections.map((other) => Buffer.concat([string(once ? '' : 'a/b'), string(other.id), string('')]));
    connection.send(frame(0xb7, varint(listener), varint(joined.length), ...joined, varint(0)));
    connection.send(frame(0x82, varint(id)));
  }

  unlisten_sessions({ id }, connection) {
    connection.send(frame(0x82, varint(id)));
  }

  list_presence({ id, after, once }, connection) {
    const all = this.server.connections.filter((other) => other.id > after);
    const page = all.slice(0, this.server.pageMax).map((other) => Buffer.concat([string(once ? '' : 'a/b'), string(other.id), string('')]));
    connection.send(frame(0x82, varint(id), page.length < all.length ? 1 : 0, varint(page.length), ...page));
  }

  put_session_tree({ id, branch, mappings }, connection) {
    const wrong = mappings.findIndex(({ filter }) => filter.startsWith('('));
    if (wrong >= 0) return connection.send(errorFrame(id, 325, `the filter of row ${wrong + 1} is wrong`, 1));
    if (mappings.length === 0) this.sessionTrees.delete(branch);
    else this.sessionTrees.set(branch, mappings);
    connection.send(frame(0x82, varint(id)));
  }

  get_session_tree({ id, branch }, connection) {
    const rows = this.sessionTrees.get(branch) ?? [];
    connection.send(frame(0x82, varint(id), varint(rows.length), ...rows.map((row) => Buffer.concat([string(row.filter), string(row.branch)]))));
  }

  list_session_trees({ id, after = '' }, connection) {
    const all = [...this.sessionTrees.keys()].filter((branch) => branch > after).sort();
    const page = all.slice(0, this.server.pageMax);
    connection.send(frame(0x82, varint(id), page.length < all.length ? 1 : 0, varint(page.length), ...page.map(string)));
  }

  get_security({ id, offset }, connection) {
    sendPart(connection, id, this.security, offset);
  }

  /** Knows one statement. */
  apply_security({ id, check, script }, connection) {
    const wrong = script.split('\n').findIndex((line) => line !== '' && !line.startsWith('isolate path '));
    if (wrong >= 0) return connection.send(errorFrame(id, 111, `line ${wrong + 1}, column 1: expected isolate`));
    if (!check) this.security += script;
    connection.send(frame(0x82, varint(id)));
  }

  /** Whoever shows "wrong" is not who it says. */
  authenticate({ id, password }, connection) {
    if (password === 'wrong') return connection.send(errorFrame(id, 109, 'not right'));
    connection.send(frame(0x82, varint(id), string('')));
  }

  get_principals({ id, offset }, connection) {
    sendPart(connection, id, this.principals, offset);
  }

  /** Knows one statement. */
  apply_principals({ id, check, script }, connection) {
    const wrong = script.split('\n').findIndex((line) => line !== '' && !line.startsWith('remove principal '));
    if (wrong >= 0) return connection.send(errorFrame(id, 111, `line ${wrong + 1}, column 1: expected remove`));
    if (!check) this.principals += script;
    connection.send(frame(0x82, varint(id)));
  }

  /** The session is over. */
  forget(connection) {
    for (const [key, reply] of this.#served) {
      if (!key.startsWith(`${connection.id} `)) continue;
      this.#served.delete(key);
      reply.error(312, 'the handler is gone');
    }
    for (const [name, lock] of this.locks) {
      lock.waiting = lock.waiting.filter((waiting) => waiting.connection !== connection);
      if (lock.holder === connection) this.#grant(name, lock);
    }
  }
}

/** Whole lines of a script, of as many bytes as a part may have. */
function sendPart(connection, id, script, offset) {
  const rest = Buffer.from(script).subarray(offset);
  const end = rest.length <= SECURITY_BYTES_MAX ? rest.length : rest.lastIndexOf('\n', SECURITY_BYTES_MAX - 1) + 1;
  connection.send(frame(0x82, varint(id), end < rest.length ? 1 : 0, string(rest.subarray(0, end).toString())));
}

/** The number and handler of the longest branch that the path lies in. */
function handlerOf({ handlers }, path) {
  const fit = [...handlers].filter(([, { path: branch }]) => within(path, branch));
  return fit.sort(([, a], [, b]) => b.path.length - a.path.length)[0];
}
