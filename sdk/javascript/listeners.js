/**
 * Listeners: who is told that topics come and go, that topics get subscribers, and that selectors match nothing.
 *
 * A listener has a number of this client's choosing and a set of selectors. The set is made again in a new session; the topics that are
 * there are then told once more, as selected.
 *
 * @module
 */

import { CloseCode, ConnectionError, RequestError } from './errors.js';
import { reportUncaught } from './stream.js';
import { checkText, show } from './types.js';

/** @typedef {import('./encode.js').ListenerKind} ListenerKind */
/** @typedef {import('./decode.js').Notice} Notice */
/** @typedef {Readonly<Required<import('./types.js').TopicSpecification>>} Specification */

/** What happened to a topic, or to its being selected. */
export const NotificationType = Object.freeze({
  /** It was added. */
  /** @type {'added'} */ ADDED: 'added',
  /** It was removed. */
  /** @type {'removed'} */ REMOVED: 'removed',
  /** It was there when the selector was added. */
  /** @type {'selected'} */ SELECTED: 'selected',
  /** It is still there, and no selector selects it any more. */
  /** @type {'deselected'} */ DESELECTED: 'deselected',
});

/** @typedef {'added' | 'removed' | 'selected' | 'deselected'} NotificationTypeName */

/** By number. @type {ReadonlyArray<NotificationTypeName | undefined>} */
const NOTIFICATIONS = [undefined, 'added', 'removed', 'selected', 'deselected'];

/**
 * What every listener may want to be told.
 *
 * @typedef {object} ListenerCallbacks
 * @property {() => void} [onClose] the listener was closed, or its session
 * @property {(error: unknown) => void} [onError] a callback threw, or the server refused a selector when it was made again. Without this
 *   callback the error is reported as uncaught.
 */

/**
 * @typedef {object} TopicNotificationCallbacks
 * @property {(path: string, specification: Specification, type: NotificationTypeName) => void} [onTopicNotification] about a topic that is selected
 * @property {(path: string, type: NotificationTypeName) => void} [onDescendantNotification] about a topic immediately below a selected path
 */

/**
 * @typedef {object} TopicEventCallbacks
 * @property {(path: string) => void} [onHasSubscribers] the topic got its first subscriber
 * @property {(path: string) => void} [onNoSubscribers] the topic lost its last subscriber
 */

/**
 * A selector of some session's that matched no topic.
 *
 * @typedef {object} MissingTopic
 * @property {string} selector
 * @property {string} sessionId whose selector it is
 * @property {Readonly<Record<string, string>>} sessionProperties
 */

/**
 * @typedef {object} MissingTopicCallbacks
 * @property {(notification: MissingTopic) => void} [onMissingTopic]
 */

/** @typedef {ListenerCallbacks & TopicNotificationCallbacks & TopicEventCallbacks & MissingTopicCallbacks} AnyCallbacks */

/** @typedef {(message: (id: number) => import('./encode.js').ClientMessage) => Promise<any>} Request */

const CALLBACKS = /** @type {const} */ ([
  'onTopicNotification',
  'onDescendantNotification',
  'onHasSubscribers',
  'onNoSubscribers',
  'onMissingTopic',
  'onClose',
  'onError',
]);

/** Notifications about topics, without their values: `session.notifications`. */
export class Notifications {
  #listeners;

  /** @param {Listeners} listeners */
  constructor(listeners) {
    this.#listeners = listeners;
  }

  /**
   * Adds a listener. It is told nothing before it selects something.
   *
   * @param {ListenerCallbacks & TopicNotificationCallbacks} callbacks
   * @returns {Listener}
   */
  addListener(callbacks) {
    return this.#listeners.add('topics', callbacks);
  }
}

/** Who listens to what its selectors select. */
export class Listener {
  #request;
  #callbacks;
  #remove;
  #closed = false;

  /**
   * @internal
   * @param {number} number
   * @param {ListenerKind} kind
   * @param {AnyCallbacks} callbacks
   * @param {Request} request
   * @param {(listener: Listener) => void} remove
   */
  constructor(number, kind, callbacks, request, remove) {
    /** @internal */
    this.number = number;
    /** @internal */
    this.kind = kind;
    /** What the server has answered. @internal @type {Set<string>} */
    this.selectors = new Set();
    this.#request = request;
    this.#callbacks = callbacks;
    this.#remove = remove;
  }

  get closed() {
    return this.#closed;
  }

  /**
   * Listens to what the selector selects, too.
   *
   * @param {string} selector
   * @returns {Promise<void>}
   */
  async select(selector) {
    const checked = checkText(selector, 'a topic selector');
    this.#checkOpen();
    const { number: listener, kind } = this;
    await this.#request((id) => ({ op: 'listen', id, listener, kind, selector: checked }));
    this.selectors.add(checked);
  }

  /**
   * Takes a selector away that was selected.
   *
   * @param {string} selector
   * @returns {Promise<void>}
   */
  async deselect(selector) {
    const checked = checkText(selector, 'a topic selector');
    this.#checkOpen();
    // To the server an empty selector is the end of the listener.
    if (checked === '') throw new TypeError("expected a topic selector, found '': close() ends a listener");
    const listener = this.number;
    await this.#request((id) => ({ op: 'unlisten', id, listener, selector: checked }));
    this.selectors.delete(checked);
  }

  /**
   * Ends the listener. It is told nothing more.
   *
   * @returns {Promise<void>}
   */
  async close() {
    if (this.#closed) return;
    this.end();
    const listener = this.number;
    try {
      await this.#request((id) => ({ op: 'unlisten', id, listener, selector: '' }));
    } catch (error) {
      // Without a connection, or with nothing ever selected, the server does not know of it.
      if (!(error instanceof ConnectionError || error instanceof RequestError)) throw error;
    }
  }

  /**
   * Ends it on this side.
   *
   * @internal
   */
  end() {
    if (this.#closed) return;
    this.#closed = true;
    this.#remove(this);
    this.#call(this.#callbacks.onClose);
  }

  /**
   * @internal
   * @param {Notice} notice
   */
  handleNotice(notice) {
    const callbacks = this.#callbacks;
    switch (notice.op) {
      case 'topic_notice': {
        const type = NOTIFICATIONS[notice.what];
        // A topic of a type that only a newer server knows is no topic here.
        if (type === undefined || notice.type === undefined) return;
        const specification = Object.freeze({ type: notice.type, properties: Object.freeze(notice.properties) });
        return this.#call(callbacks.onTopicNotification, notice.path, specification, type);
      }
      case 'descendant_notice': {
        const type = NOTIFICATIONS[notice.what];
        return type && this.#call(callbacks.onDescendantNotification, notice.path, type);
      }
      case 'subscribers_notice':
        return this.#call(notice.has_subscribers ? callbacks.onHasSubscribers : callbacks.onNoSubscribers, notice.path);
      case 'missing_notice': {
        const { selector, session: sessionId, properties: sessionProperties } = notice;
        return this.#call(callbacks.onMissingTopic, { selector, sessionId, sessionProperties });
      }
    }
  }

  /**
   * @internal
   * @param {unknown} error
   */
  handleError(error) {
    try {
      if (this.#callbacks.onError === undefined) reportUncaught(error);
      else this.#callbacks.onError(error);
    } catch (second) {
      reportUncaught(second);
    }
  }

  #checkOpen() {
    if (this.#closed) throw new ConnectionError('the listener is closed', { code: CloseCode.NORMAL });
  }

  /**
   * @param {((...rest: any[]) => void) | undefined} callback
   * @param {...any} rest
   */
  #call(callback, ...rest) {
    try {
      callback?.apply(this.#callbacks, rest);
    } catch (error) {
      this.handleError(error);
    }
  }
}

/** The listeners of a session. */
export class Listeners {
  #request;
  /** @type {Map<number, Listener>} */
  #byNumber = new Map();
  #next = 1;

  /** @param {Request} request */
  constructor(request) {
    this.#request = request;
  }

  /**
   * @param {ListenerKind} kind
   * @param {AnyCallbacks} callbacks
   * @returns {Listener}
   */
  add(kind, callbacks) {
    checkCallbacks(callbacks);
    const listener = new Listener(this.#next, kind, callbacks, this.#request, ({ number }) => this.#byNumber.delete(number));
    this.#byNumber.set(listener.number, listener);
    this.#next += 1;
    return listener;
  }

  /**
   * Adds one with its selector; it is not there where the server refuses that.
   *
   * @param {ListenerKind} kind
   * @param {string} selector
   * @param {AnyCallbacks} callbacks
   * @returns {Promise<Listener>}
   */
  async addSelecting(kind, selector, callbacks) {
    const listener = this.add(kind, callbacks);
    try {
      await listener.select(selector);
    } catch (error) {
      this.#byNumber.delete(listener.number);
      throw error;
    }
    return listener;
  }

  /** @param {Notice} notice */
  handleNotice(notice) {
    this.#byNumber.get(notice.listener)?.handleNotice(notice);
  }

  /**
   * What has to be asked for again in a new session.
   *
   * @returns {{ listener: Listener, selector: string }[]}
   */
  selections() {
    return [...this.#byNumber.values()].flatMap((listener) => [...listener.selectors].map((selector) => ({ listener, selector })));
  }

  /** The session is closed. */
  close() {
    for (const listener of [...this.#byNumber.values()]) listener.end();
  }
}

/** @param {AnyCallbacks} callbacks */
function checkCallbacks(callbacks) {
  if (typeof callbacks !== 'object' || callbacks === null) throw new TypeError(`expected the listener's callbacks as an object, found ${show(callbacks)}`);
  for (const name of CALLBACKS) {
    const callback = callbacks[name];
    if (callback === undefined || typeof callback === 'function') continue;
    throw new TypeError(`expected a function as the listener's ${name}, found ${show(callback)}`);
  }
}
