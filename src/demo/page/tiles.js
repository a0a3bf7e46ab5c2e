// The strip of tiles for the host that feeds the demo. It reads the branch `host` and hides where there is none.

import { History } from './model.js';
import { bytes, duration, element, setText, sparkline, sparklines } from './draw.js';

const TOP_PROCESSES = 5;
/** Tiles show a host's pulse: a few times a second is enough, however fast values come. */
const DRAW_MS = 200;
const CORES_MAX = 128;

export class Tiles {
  constructor(model, strip) {
    this.model = model;
    this.strip = strip;
    this.parts = Object.fromEntries([...strip.querySelectorAll('[data-part]')].map((part) => [part.dataset.part, part]));
    this.tiles = [...strip.querySelectorAll('[data-branch]')];
    this.rates = { rx: new History(), tx: new History(), read: new History(), write: new History() };
    this.drawnAt = -Infinity;
    this.drawnUpdates = -1;
  }

  draw(now) {
    const host = this.model.root.children?.get('host');
    // A subscription to a part of the branch says too little about the host.
    const isHost = Boolean(host?.children?.has('cpu') && host.children.has('memory'));
    // Without delay: what stands below moves, and must not move away from under a pointer a moment behind the topics.
    this.strip.hidden = !isHost;
    if (!isHost || now - this.drawnAt < DRAW_MS || this.drawnUpdates === this.model.updates) return;
    this.drawnAt = now;
    this.drawnUpdates = this.model.updates;
    for (const tile of this.tiles) tile.hidden = !host.children.has(tile.dataset.branch);
    this.drawIdentity();
    this.drawCores(host.children.get('cpu'));
    this.drawMemory();
    this.drawNetwork(host.children.get('network'));
    this.drawDisks(host.children.get('disk'));
    this.drawProcesses(host.children.get('process'));
  }

  drawIdentity() {
    const [name, kernel] = [this.model.value('host/name'), this.model.value('host/kernel')];
    const [uptime, load] = [this.model.value('host/uptime_s'), this.model.value('host/load')];
    setText(this.parts.host, name === undefined ? 'This host' : String(name));
    const words = [];
    if (kernel !== undefined) words.push(`Linux ${kernel}`);
    if (uptime !== undefined) words.push(`up ${duration(Number(uptime))}`);
    if (load) words.push(`load ${[load['1m'], load['5m'], load['15m']].map((x) => figure(x).toFixed(2)).join('  ')}`);
    setText(this.parts.identity, words.join(' · '));
  }

  drawCores(branch) {
    const cores = (branch?.sorted() ?? []).filter((node) => /^\d+$/.test(node.name)).slice(0, CORES_MAX);
    const bars = this.parts.cores;
    while (bars.children.length < cores.length) bars.append(coreBar());
    while (bars.children.length > cores.length) bars.lastChild.remove();
    cores.forEach((core, index) => {
      const busy = figure(core.children?.get('busy_percent')?.topic?.value);
      const bar = bars.children[index];
      bar.firstChild.style.transform = `scaleY(${Math.min(Math.max(busy, 0), 100) / 100})`;
      bar.title = `Core ${core.name}: ${busy.toFixed(0)} % busy`;
    });
    const total = this.model.topics.get('host/cpu/total/busy_percent');
    setText(this.parts.cpu, total ? figure(total.value).toFixed(0) : '–');
    setText(this.parts.coreCount, cores.length === 1 ? '1 core' : `${cores.length} cores`);
    if (total) sparkline(this.parts.cpuChart, total.history ?? new History(), { floor: 0, ceiling: 100 });
  }

  drawMemory() {
    const memory = this.model.value('host/memory') ?? {};
    const total = figure(memory.total);
    const used = Math.max(0, total - figure(memory.available));
    const cached = Math.min(figure(memory.cached) + figure(memory.buffers), total - used);
    setText(this.parts.memory, total ? ((used / total) * 100).toFixed(0) : '–');
    setText(this.parts.memoryUsed, `${bytes(used)} of ${bytes(total)}`);
    setText(this.parts.memoryNote, `${bytes(memory.available)} available`);
    this.parts.memoryBar.style.transform = `scaleX(${total ? used / total : 0})`;
    this.parts.cacheBar.style.transform = `scaleX(${total ? (used + cached) / total : 0})`;
  }

  drawNetwork(branch) {
    const [rx, tx] = sums(branch, ['rx_bytes_per_s', 'tx_bytes_per_s'], (node) => node.name !== 'lo');
    this.rates.rx.push(rx);
    this.rates.tx.push(tx);
    setText(this.parts.rx, `${bytes(rx)}/s`);
    setText(this.parts.tx, `${bytes(tx)}/s`);
    sparklines(this.parts.networkChart, this.rates.rx, this.rates.tx, secondColor(this.strip));
  }

  drawDisks(branch) {
    const [read, write] = sums(branch, ['read_bytes_per_s', 'write_bytes_per_s'], () => true);
    this.rates.read.push(read);
    this.rates.write.push(write);
    setText(this.parts.read, `${bytes(read)}/s`);
    setText(this.parts.write, `${bytes(write)}/s`);
    sparklines(this.parts.diskChart, this.rates.read, this.rates.write, secondColor(this.strip));
  }

  drawProcesses(branch) {
    const all = [...(branch?.children?.values() ?? [])].filter((node) => node.topic?.value);
    const order = (node) => figure(node.topic.value.cpu_percent) * 1e15 + figure(node.topic.value.rss_bytes);
    const top = all.sort((a, b) => order(b) - order(a)).slice(0, TOP_PROCESSES);
    const list = this.parts.processes;
    while (list.children.length < top.length) list.append(processLine());
    while (list.children.length > top.length) list.lastChild.remove();
    top.forEach((node, index) => {
      const [name, cpu, memory] = list.children[index].children;
      const { value } = node.topic;
      setText(name, String(value.name ?? node.name));
      name.title = `Process ${node.name}`;
      setText(cpu, value.cpu_percent == null ? '–' : `${figure(value.cpu_percent).toFixed(0)} %`);
      setText(memory, bytes(value.rss_bytes));
    });
  }
}

function sums(branch, fields, isWanted) {
  const totals = fields.map(() => 0);
  for (const node of branch?.children?.values() ?? []) {
    const value = node.topic?.value;
    if (!value || !isWanted(node)) continue;
    fields.forEach((field, index) => { totals[index] += figure(value[field]); });
  }
  return totals;
}

/** Any value as a number to draw with: the branch may hold what nobody expected. */
function figure(value) {
  const number = Number(value);
  return Number.isFinite(number) ? number : 0;
}

function secondColor(strip) {
  return getComputedStyle(strip).getPropertyValue('--second').trim();
}

function coreBar() {
  const bar = element('span', 'core');
  bar.append(element('span', 'fill'));
  return bar;
}

function processLine() {
  const line = element('li');
  line.append(element('span', 'process-name'), element('span', 'process-cpu'), element('span', 'process-memory'));
  return line;
}
