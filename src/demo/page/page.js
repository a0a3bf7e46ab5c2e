// The page: connects, keeps the model current and draws it once per frame.

import { AccessDeniedError, connect } from '/sdk/tidewire.js';
import { Detail } from './detail.js';
import { bytes, count, setText } from './draw.js';
import { Model } from './model.js';
import { Tiles } from './tiles.js';
import { Tree } from './tree.js';

const EVERYTHING = '?.*//';
const SELECTOR = /^[?*>#]/;
const RETRY_MS = 5000;
/** Rates are over this long: shorter ones jump. */
const RATE_MS = 1000;
/** Work that no event starts, as ages and rates, is drawn this often. */
const TICK_MS = 250;

const model = new Model();
const top = Object.fromEntries([...document.querySelectorAll('[data-top]')].map((part) => [part.dataset.top, part]));
const [empty, filterNote] = [document.querySelector('.empty'), document.querySelector('.filter-note')];
const [filterInput, filterClear] = [document.querySelector('#filter'), document.querySelector('.clear')];
const viewport = document.querySelector('.rows-viewport');
const detail = new Detail(model, document.querySelector('.detail'));
const tree = new Tree(model, viewport, (node) => detail.show(node?.path ?? null));
const tiles = new Tiles(model, document.querySelector('.tiles'));

/** The session while there is one, what it is subscribed to, whether its topics are all here, and the bytes that came. */
const link = { session: null, selector: EVERYTHING, isCurrent: false, bytes: 0 };
const rate = { at: performance.now(), updates: 0, bytes: 0 };

let isFrameDue = false;

function requestDraw() {
  if (isFrameDue) return;
  isFrameDue = true;
  requestAnimationFrame(draw);
}

function draw(now) {
  isFrameDue = false;
  tree.draw(now);
  detail.draw(now);
  tiles.draw(now);
  drawEmpty();
  setText(top.topics, count(model.topics.size));
  if (tree.isStale) requestDraw();
}

function drawEmpty() {
  const isEmpty = tree.rows.length === 0 && !tree.isStale && link.isCurrent;
  empty.hidden = !isEmpty;
  viewport.hidden = isEmpty;
  if (!isEmpty) return;
  const isFiltered = tree.filter !== '' || link.selector !== EVERYTHING;
  setText(empty.querySelector('.empty-title'), isFiltered ? 'No topic matches.' : 'There are no topics yet.');
  empty.querySelector('.empty-hint').hidden = isFiltered;
  empty.querySelector('pre').hidden = isFiltered;
}

function drawRates(now) {
  const seconds = (now - rate.at) / 1000;
  if (seconds * 1000 < RATE_MS) return;
  setText(top.updates, count((model.updates - rate.updates) / seconds));
  setText(top.bytes, bytes((link.bytes - rate.bytes) / seconds));
  Object.assign(rate, { at: now, updates: model.updates, bytes: link.bytes });
}

function drawState(state, text) {
  top.box.className = `state ${state}`;
  setText(top.state, text);
}

// Connecting.

const STATES = {
  connecting: ['', 'Connecting'],
  connected: ['connected', 'Connected'],
  recovering: ['lost', 'Reconnecting'],
  closed: ['lost', 'Disconnected'],
};

/** Of a server that may not have the newest, and says so. */
const STALE = ['lost', 'Connected, may be old'];

/** The platform's WebSocket, counting what it receives. */
class CountingWebSocket extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols);
    this.addEventListener('message', ({ data }) => { link.bytes += data.byteLength ?? data.length ?? 0; });
  }
}

/** The session makes lost connections anew by itself; the first one, and a session that gave up, are this loop's. */
async function stayConnected() {
  for (;;) {
    try {
      await converse();
    } catch (error) {
      console.warn(`tidewire: ${error?.message ?? error}`);
    }
    link.session = null;
    drawState('lost', 'No connection, trying again');
    await new Promise((resolve) => { setTimeout(resolve, RETRY_MS); });
  }
}

/** One session, from its beginning to its end. */
async function converse() {
  const session = await connect(location.origin.replace(/^http/, 'ws'), {
    name: 'demo page',
    reconnect: { delayMaxMs: RETRY_MS },
    WebSocket: CountingWebSocket,
    onState: ({ state }) => drawState(...(state === 'connected' && link.session?.isStale ? STALE : STATES[state])),
  });
  try {
    link.session = session;
    link.isCurrent = false;
    model.clear();
    setText(top.server, [session.server, location.host].filter(Boolean).join(' · '));
    follow(session);
    // What is selected anew behind a lost connection may be refused then.
    session.on('error', (error) => noteFilter(error.message, 'wrong'));
    session.on('staleness', ({ isStale }) => drawState(...(isStale ? STALE : STATES[session.state])));
    await session.subscribe(link.selector).then(() => { link.isCurrent = true; }, noteDenied);
    requestDraw();
    await session.closed;
  } finally {
    await session.close();
  }
}

/** The session stays where it may not select everything: another selector may be permitted. */
function noteDenied(error) {
  if (!(error instanceof AccessDeniedError)) throw error;
  noteFilter(error.message, 'wrong');
}

function follow(session) {
  const stream = {
    subscription(path, specification) {
      model.add(path, specification.type);
      requestDraw();
    },
    value(path, specification, value) {
      model.set(path, specification.type, value, performance.now());
      requestDraw();
    },
    unsubscription(path) {
      model.remove(path);
      requestDraw();
    },
  };
  // A stream of JSON also reads text and numbers.
  for (const type of ['json', 'binary']) session.addStream(EVERYTHING, type, stream);
}

// Filtering: text is matched here, a selector by the server.

async function subscribeTo(selector) {
  if (selector === link.selector) return;
  const { session } = link;
  const before = link.selector;
  link.selector = selector;
  if (!session) return;
  try {
    // Alone first, while all else stays: a selector that does not parse changes nothing.
    await session.subscribe(selector);
    link.isCurrent = true;
  } catch (error) {
    noteFilter(error.message, 'wrong');
    link.selector = before;
    return;
  }
  // The last selection that matches a topic decides: nothing is wanted, then what the selector says.
  await Promise.all([session.unsubscribe(EVERYTHING), session.subscribe(selector)]).catch(noteLost);
  requestDraw();
}

/** A request that was under way when the connection ended: the next session begins with the selector. */
function noteLost(error) {
  console.warn(`tidewire: ${error?.message ?? error}`);
}

function noteFilter(text, look = '') {
  filterNote.hidden = text === '';
  filterNote.className = `filter-note ${look}`;
  setText(filterNote, text);
}

function applyFilter() {
  const text = filterInput.value.trim();
  filterClear.hidden = text === '';
  if (SELECTOR.test(text)) {
    tree.setFilter('');
    noteFilter(text === link.selector ? 'Subscribed to this selector.' : 'A topic selector. Press Enter to subscribe to it alone.');
    return;
  }
  noteFilter('');
  tree.setFilter(text);
  subscribeTo(EVERYTHING);
  requestDraw();
}

async function submitFilter(event) {
  event.preventDefault();
  const text = filterInput.value.trim();
  if (!SELECTOR.test(text)) return;
  noteFilter('Subscribed to this selector.');
  await subscribeTo(text);
}

function clearFilter() {
  filterInput.value = '';
  applyFilter();
  filterInput.focus();
}

document.querySelector('.filter').addEventListener('submit', submitFilter);
filterInput.addEventListener('input', applyFilter);
filterClear.addEventListener('click', clearFilter);
filterInput.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') clearFilter();
  if (event.key === 'ArrowDown') viewport.focus();
});
document.addEventListener('keydown', (event) => {
  if (event.key === '/' && document.activeElement !== filterInput) {
    event.preventDefault();
    filterInput.focus();
  }
});
document.querySelector('.detail').addEventListener('dismiss', () => {
  tree.chosen = null;
  requestDraw();
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', requestDraw);
setInterval(() => {
  drawRates(performance.now());
  requestDraw();
}, TICK_MS);
stayConnected();
