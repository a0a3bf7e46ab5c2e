/**
 * The events of a time series that came while there was no session, or that are in a gap: asked for afterwards.
 *
 * @module
 */

/** @typedef {import('./decode.js').EventEntry} EventEntry */
/** @typedef {(message: (id: number) => import('./encode.js').ClientMessage) => Promise<any>} Request */

import { AccessDeniedError } from './errors.js';

/**
 * The events from a sequence on, originals and edits, that the server still keeps and the session may query.
 *
 * @param {Request} request
 * @param {string} path
 * @param {number} from
 * @returns {Promise<EventEntry[]>} in the order of their sequences
 */
export async function askForEvents(request, path, from) {
  const asked = (/** @type {import('./encode.js').QueryRange | undefined} */ editRange) =>
    askForAll((range) => request((id) => ({ op: 'query', id, path, range, ...(editRange && { edit_range: editRange }) })), from);
  // To see what later edits have replaced takes a permission of its own: without it each event is as it is now.
  const originals = await asked(NO_EDITS).catch(ifDenied(() => asked(undefined)));
  const askForEdits = (/** @type {import('./encode.js').QueryKind} */ kind) =>
    askForAll((range) => request((id) => ({ op: 'query', id, path, kind, edit_range: range })), from);
  const edits = await askForEdits('all_edits')
    .catch(ifDenied(() => askForEdits('latest_edits')))
    .catch(ifDenied(() => []));
  const bySequence = new Map([...originals, ...edits].map((event) => [event.sequence, event]));
  return [...bySequence.values()].sort((a, b) => a.sequence - b.sequence);
}

/**
 * @param {() => EventEntry[] | Promise<EventEntry[]>} instead
 * @returns {(error: unknown) => EventEntry[] | Promise<EventEntry[]>} what catches a refusal for want of a permission, and nothing else
 */
function ifDenied(instead) {
  return (error) => {
    if (error instanceof AccessDeniedError) return instead();
    throw error;
  };
}

/** From the end of the edits on, so that each original stands for itself. */
const NO_EDITS = { from: { last_events: 0 } };

/**
 * One answer holds so many events, the latest; those before them are asked for as long as there are any.
 *
 * @param {(range: import('./encode.js').QueryRange) => Promise<import('./decode.js').QueryAnswer>} ask
 * @param {number} from
 * @returns {Promise<EventEntry[]>}
 */
async function askForAll(ask, from) {
  /** @type {EventEntry[]} */
  let events = [];
  /** @type {import('./encode.js').QueryRange} */
  let range = { from: { sequence: from } };
  for (;;) {
    const { complete, events: found } = await ask(range);
    events = [...found, ...events];
    if (complete || found.length === 0 || found[0].sequence <= from) return events;
    range = { from: { sequence: from }, to: { sequence: found[0].sequence - 1 } };
  }
}
