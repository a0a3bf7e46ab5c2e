// The tree of topics. Only the rows in sight exist as elements, so its cost does not grow with the tree.

import { element, preview, setText, sparkline, count } from './draw.js';

const ROW_PX = 30;
const SPARE_ROWS = 6;
const INDENT_PX = 16;
/** While topics come and go, the list of rows is made again at most this often. */
const RELIST_MS = 120;
/** A tree of at most so many topics is opened as it comes. */
const OPEN_TOPICS_MAX = 400;
const OPEN_CHILDREN_MAX = 40;
const OPEN_DEPTH = 3;

export class Tree {
  constructor(model, viewport, onChoose) {
    this.model = model;
    this.viewport = viewport;
    this.canvas = viewport.querySelector('.rows');
    this.onChoose = onChoose;
    this.rows = [];
    this.elements = [];
    this.filter = '';
    this.active = null;
    this.chosen = null;
    this.listed = { structure: -1, at: -Infinity };
    viewport.addEventListener('scroll', () => this.draw(performance.now()), { passive: true });
    viewport.addEventListener('keydown', (event) => this.handleKey(event));
    viewport.addEventListener('focus', () => this.draw(performance.now()));
    this.canvas.addEventListener('click', (event) => this.handleClick(event));
    new ResizeObserver(() => this.draw(performance.now())).observe(viewport);
  }

  setFilter(text) {
    const filter = text.trim().toLowerCase();
    if (filter === this.filter) return;
    this.filter = filter;
    this.viewport.scrollTop = 0;
    if (!filter && this.chosen) this.reveal(this.chosen);
    else this.relist(performance.now());
  }

  /** Opens what leads to a node and scrolls to it. */
  reveal(node) {
    for (let branch = node.parent; branch; branch = branch.parent) branch.open = true;
    this.list(performance.now());
    this.moveTo(this.rows.indexOf(node));
    this.draw(performance.now());
  }

  choose(node) {
    this.active = node;
    this.chosen = node;
    this.onChoose(node);
  }

  draw(now) {
    const stale = this.listed.structure !== this.model.structure;
    if (stale && now - this.listed.at >= RELIST_MS) this.list(now);
    const first = Math.max(0, Math.floor(this.viewport.scrollTop / ROW_PX) - SPARE_ROWS);
    const wanted = Math.ceil(this.viewport.clientHeight / ROW_PX) + 2 * SPARE_ROWS;
    const last = Math.min(this.rows.length, first + wanted);
    while (this.elements.length < last - first) this.addElement();
    this.elements.forEach((row, index) => this.drawRow(row, first + index < last ? first + index : -1, now));
    const focused = this.elements.find((row) => row.node && row.node === this.active);
    const id = focused?.box.id ?? '';
    if (this.viewport.getAttribute('aria-activedescendant') !== id) this.viewport.setAttribute('aria-activedescendant', id);
  }

  /** Whether the tree has changes that it has not listed yet. */
  get isStale() {
    return this.listed.structure !== this.model.structure;
  }

  relist(now) {
    this.list(now);
    this.draw(now);
  }

  list(now) {
    this.listed = { structure: this.model.structure, at: now };
    // A topic that went and came again has another node.
    this.active = this.active && (this.model.node(this.active.path) ?? null);
    this.chosen = this.chosen && (this.model.node(this.chosen.path) ?? null);
    this.openNew(this.model.root, this.model.topics.size <= OPEN_TOPICS_MAX);
    this.rows = [];
    if (this.filter) this.listMatching(this.model.root);
    else this.listOpen(this.model.root);
    this.canvas.style.height = `${this.rows.length * ROW_PX}px`;
  }

  /** Small branches open by themselves, once: what the reader closed stays closed. */
  openNew(node, isSmall) {
    for (const child of node.children?.values() ?? []) {
      if (child.seen) continue;
      child.seen = child.hasChildren;
      const wide = (child.children?.size ?? 0) > OPEN_CHILDREN_MAX;
      child.open ||= !wide && (child.depth === 0 || (isSmall && child.depth < OPEN_DEPTH));
    }
    for (const child of node.children?.values() ?? []) if (child.open) this.openNew(child, isSmall);
  }

  listOpen(node) {
    for (const child of node.sorted()) {
      this.rows.push(child);
      if (child.open && child.hasChildren) this.listOpen(child);
    }
  }

  /** Lists topics whose path holds the filter's text, and the branches that lead to them. */
  listMatching(node) {
    for (const child of node.sorted()) {
      const row = this.rows.length;
      this.rows.push(child);
      if (child.hasChildren) this.listMatching(child);
      const isBranch = this.rows.length > row + 1;
      const isMatch = child.topic && child.path.toLowerCase().includes(this.filter);
      if (!isBranch && !isMatch) this.rows.length = row;
    }
  }

  isOpen(node) {
    return this.filter ? node.hasChildren : node.open && node.hasChildren;
  }

  addElement() {
    const box = element('div', 'row');
    box.id = `row-${this.elements.length}`;
    box.setAttribute('role', 'treeitem');
    const [twisty, name, badge] = [element('span', 'twisty'), element('span', 'name'), element('span', 'badge')];
    const [spark, value] = [element('canvas', 'spark'), element('span', 'value')];
    spark.setAttribute('aria-hidden', 'true');
    twisty.setAttribute('aria-hidden', 'true');
    box.append(twisty, name, badge, spark, value);
    this.canvas.append(box);
    this.elements.push({ box, twisty, name, badge, spark, value, node: null, changes: -1, index: -1, look: '' });
  }

  drawRow(row, index, now) {
    const node = index < 0 ? null : this.rows[index];
    if (row.node !== node || row.index !== index) {
      row.box.hidden = node === null;
      row.box.style.transform = `translateY(${index * ROW_PX}px)`;
      row.changes = row.node === node ? row.changes : -1;
      Object.assign(row, { node, index, look: row.node === node ? row.look : '' });
    }
    if (!node) return;
    const topic = node.topic;
    const isOpen = this.isOpen(node);
    const look = `${isOpen}|${node.hasChildren}|${node.count}|${topic?.type}|${node === this.active}|${node === this.chosen}`;
    if (row.look !== look) this.drawLook(row, look, isOpen);
    if (topic && row.changes !== topic.changes) this.drawValue(row, topic, now);
  }

  drawLook(row, look, isOpen) {
    const { box, node } = row;
    row.look = look;
    row.changes = -1;
    box.style.paddingInlineStart = `${8 + node.depth * INDENT_PX}px`;
    box.classList.toggle('branch', node.hasChildren);
    box.classList.toggle('open', isOpen);
    box.classList.toggle('active', node === this.active);
    box.classList.remove('flash-a', 'flash-b');
    box.setAttribute('aria-level', String(node.depth + 1));
    box.setAttribute('aria-selected', String(node === this.chosen));
    if (node.hasChildren) box.setAttribute('aria-expanded', String(isOpen));
    else box.removeAttribute('aria-expanded');
    setText(row.name, node.name);
    setText(row.badge, node.hasChildren ? count(node.count - (node.topic ? 1 : 0)) : '');
    row.badge.hidden = !node.hasChildren;
    row.spark.hidden = !node.topic?.history;
    row.value.hidden = !node.topic;
    row.value.className = `value ${node.topic?.type ?? ''}`;
  }

  drawValue(row, topic, now) {
    const isFirst = row.changes < 0;
    row.changes = topic.changes;
    setText(row.value, preview(topic));
    if (topic.history) sparkline(row.spark, topic.history);
    if (isFirst || now - topic.changedAt > 500) return;
    // An animation starts again only under another name.
    const wasA = row.value.classList.contains('flash-a');
    row.value.classList.toggle('flash-a', !wasA);
    row.value.classList.toggle('flash-b', wasA);
  }

  handleClick(event) {
    const box = event.target.closest('.row');
    const row = this.elements.find((candidate) => candidate.box === box);
    if (!row?.node) return;
    const { node } = row;
    if (node.hasChildren && (event.target === row.twisty || !node.topic)) this.toggle(node);
    if (event.target !== row.twisty || !node.hasChildren) this.choose(node);
    this.relist(performance.now());
  }

  toggle(node) {
    if (!this.filter) node.open = !node.open;
  }

  handleKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = this.rows.indexOf(this.active);
    const page = Math.max(1, Math.floor(this.viewport.clientHeight / ROW_PX) - 1);
    const moves = { ArrowDown: at + 1, ArrowUp: at < 0 ? 0 : at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: this.rows.length - 1 };
    if (event.key in moves) this.moveTo(moves[event.key]);
    else if (event.key === 'ArrowRight') this.enter(at);
    else if (event.key === 'ArrowLeft') this.leave(at);
    else if ((event.key === 'Enter' || event.key === ' ') && this.active) this.act(this.active);
    else return;
    event.preventDefault();
    this.relist(performance.now());
  }

  act(node) {
    if (node.hasChildren && (!node.topic || node === this.chosen)) this.toggle(node);
    this.choose(node);
  }

  enter(at) {
    const node = this.rows[at];
    if (!node?.hasChildren) return;
    if (this.isOpen(node)) this.moveTo(at + 1);
    else this.toggle(node);
  }

  leave(at) {
    const node = this.rows[at];
    if (!node) return;
    if (this.isOpen(node) && !this.filter) this.toggle(node);
    else if (node.parent?.parent) this.moveTo(this.rows.indexOf(node.parent));
  }

  moveTo(index) {
    if (this.rows.length === 0) return;
    const at = Math.min(Math.max(index, 0), this.rows.length - 1);
    this.active = this.rows[at];
    const [top, height] = [at * ROW_PX, this.viewport.clientHeight];
    if (top < this.viewport.scrollTop) this.viewport.scrollTop = top;
    else if (top + ROW_PX > this.viewport.scrollTop + height) this.viewport.scrollTop = top + ROW_PX - height;
  }
}
