/**
 * The events of a time series that came while there was no session, or that are in a gap: asked for afterwards.
 *
 * @module
 */

/** @typedef {import('./decode.js').EventEntry} EventEntry */
/** @typedef {(message: (id: number) => import('./encode.js').ClientMessage) => Promise<any>} Request */

/**
 * The events from a sequence on, originals and edits, that the server still keeps.
 *
 * @param {Request} request
 * @param {string} path
 * @param {number} from
 * @returns {Promise<EventEntry[]>} in the order of their sequences
 */
export async function askForEvents(request, path, from) {
  const originals = await askForAll((range) => request((id) => ({ op: 'query', id, path, range, edit_range: NO_EDITS })), from);
  const edits = await askForAll((range) => request((id) => ({ op: 'query', id, path, kind: 'all_edits', edit_range: range })), from);
  return [...originals, ...edits].sort((a, b) => a.sequence - b.sequence);
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
