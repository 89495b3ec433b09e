"use strict";
// One step of a stack of recurrent layers, and what a page needs to write or to forecast with it.

const element = (id) => document.getElementById(id);
const facts = JSON.parse(element("facts").textContent);
const weights = unpacked(JSON.parse(element("weights").textContent));
const H = facts.hidden;

function unpacked(packed) {
  const raw = atob(packed.data), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  const view = new DataView(bytes.buffer), found = {};
  for (const [name, [start, count]] of Object.entries(packed.places)) {
    const array = (found[name] = new Float32Array(count));
    for (let i = 0; i < count; i++) array[i] = view.getFloat32(4 * (start + i), true);
  }
  return found;
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

// out += x W, for W stored row by row.
function addProduct(x, weight, out) {
  const columns = out.length;
  for (let i = 0; i < x.length; i++) {
    const value = x[i], row = i * columns;
    if (value !== 0) for (let j = 0; j < columns; j++) out[j] += value * weight[row + j];
  }
}

function initialState() {
  const width = H * (facts.cell === "lstm" ? 2 : 1);
  return Array.from({ length: facts.members * facts.layers }, () => new Float64Array(width));
}

function combine(projected, recurrent, carry) {
  for (let j = 0; j < H; j++) {
    if (facts.cell === "elman") {
      const summed = projected[j] + recurrent[j];
      carry[j] = facts.activation === "relu" ? Math.max(summed, 0) : Math.tanh(summed);
    } else if (facts.cell === "gru") {
      const reset = sigmoid(projected[j] + recurrent[j]);
      const keep = sigmoid(projected[H + j] + recurrent[H + j]);
      const candidate = Math.tanh(projected[2 * H + j] + reset * recurrent[2 * H + j]);
      carry[j] = candidate + keep * (carry[j] - candidate);
    } else {
      const candidate = Math.tanh(projected[2 * H + j] + recurrent[2 * H + j]);
      carry[H + j] = sigmoid(projected[H + j] + recurrent[H + j]) * carry[H + j] + sigmoid(projected[j] + recurrent[j]) * candidate;
      carry[j] = sigmoid(projected[3 * H + j] + recurrent[3 * H + j]) * Math.tanh(carry[H + j]);
    }
  }
}

function normalized(place, hidden) {
  if (!facts.layer_norm) return hidden;
  const mean = hidden.reduce((sum, value) => sum + value, 0) / H;
  const variance = hidden.reduce((sum, value) => sum + (value - mean) ** 2, 0) / H;
  const scale = weights[place + "norm_scale"], shift = weights[place + "norm_shift"];
  return hidden.map((value, j) => ((value - mean) / Math.sqrt(variance + 1e-5)) * scale[j] + shift[j]);
}

// What a member's head says; x: a symbol's number or an array. The state is changed.
function member(number, x, state) {
  let below = x;
  for (let layer = 0; layer < facts.layers; layer++) {
    const place = `${number}.${layer}.`, carry = state[number * facts.layers + layer];
    const projected = Float64Array.from(weights[place + "bias"]), size = projected.length;
    const table = weights[place + "weight_inputs"];
    if (typeof below === "number") for (let j = 0; j < size; j++) projected[j] += table[below * size + j];
    else addProduct(below, table, projected);
    const recurrent = Float64Array.from(weights[place + "bias_hidden"] ?? new Float32Array(size));
    addProduct(carry.subarray(0, H), weights[place + "weight_hidden"], recurrent);
    combine(projected, recurrent, carry);
    const hidden = normalized(place, carry.slice(0, H)), under = below;
    below = facts.residual && layer > 0 ? hidden.map((value, j) => value + under[j]) : hidden;
  }
  const raw = Float64Array.from(weights[`${number}.head.bias`]);
  addProduct(below, weights[`${number}.head.weight`], raw);
  return raw;
}

// Logits; or scaled quantiles counted from the last value of the target, one row of levels for each row ahead.
function step(x, state) {
  if (facts.kind === "text") return member(0, x, state);
  const levels = facts.levels.length, middle = facts.middle;
  const anchor = x[facts.input_names.indexOf(facts.target)];
  const said = new Float64Array(facts.ahead.length * levels).fill(anchor);
  for (let number = 0; number < facts.members; number++) {
    const raw = member(number, x, state);
    for (let start = 0; start < raw.length; start += levels) {
      let above = raw[start + middle], below = above;
      said[start + middle] += above / facts.members;
      for (let k = middle + 1; k < levels; k++) said[start + k] += (above += softplus(raw[start + k])) / facts.members;
      for (let k = middle - 1; k >= 0; k--) said[start + k] += (below -= softplus(raw[start + k])) / facts.members;
    }
  }
  return said;
}

function say(words, wrong = false) {
  element("status").textContent = words;
  element("status").classList.toggle("wrong", wrong);
}

// ---- text

function encode(text) {
  const { unit, values, normal_form: form } = facts.vocabulary;
  const numbers = new Map(values.map((value, number) => [value, number]));
  const units = unit === "byte" ? [...new TextEncoder().encode(text)]
    : Array.from(form === "none" ? text : text.normalize(form), (character) => character.codePointAt(0));
  return units.filter((value) => numbers.has(value)).map((value) => numbers.get(value));
}

// Mulberry32: a generator of one number of 32 bits.
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let bits = Math.imul(state ^ (state >>> 15), 1 | state);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
    return ((bits ^ (bits >>> 14)) >>> 0) / 4294967296;
  };
}

function draw(logits, temperature, uniform) {
  let likeliest = 0;
  for (let j = 1; j < logits.length; j++) if (logits[j] > logits[likeliest]) likeliest = j;
  if (temperature === 0) return likeliest;
  const shares = logits.map((logit) => Math.exp((logit - logits[likeliest]) / temperature));
  let rest = uniform * shares.reduce((sum, share) => sum + share, 0);
  for (let j = 0; j < shares.length; j++) if ((rest -= shares[j]) < 0) return j;
  return likeliest;
}

let writing = 0;

function stop() {
  writing = 0;
  element("write").textContent = "Write";
}

function write() {
  if (writing) return stop();
  const mine = (writing = performance.now()), state = initialState(), random = generator(Number(element("seed").value));
  const begun = element("prime").value, box = element("written"), total = Math.min(100000, Math.max(1, Number(element("length").value) || 1));
  const decoder = new TextDecoder(), prime = document.createElement("span"), made = document.createTextNode("");
  prime.className = "prime";
  prime.textContent = begun;
  box.replaceChildren(prime, made);
  element("write").textContent = "Stop";
  let logits, count = 0, codes = encode(begun);
  if (!codes.length) codes = encode("\n");
  if (!codes.length) codes = [0];
  for (const code of codes) logits = step(code, state);
  const go = () => {
    if (writing !== mine) return;
    const until = performance.now() + 12;
    let piece = "";
    while (count < total && performance.now() < until) {
      const code = draw(logits, Number(element("temperature").value), random());
      const value = facts.vocabulary.values[code];
      piece += facts.vocabulary.unit === "byte" ? decoder.decode(Uint8Array.of(value), { stream: true }) : String.fromCodePoint(value);
      logits = step(code, state);
      count++;
    }
    const atEnd = box.scrollTop + box.clientHeight > box.scrollHeight - 40;
    made.appendData(piece);
    if (atEnd) box.scrollTop = box.scrollHeight;
    say(`${count.toLocaleString("en")} symbols, ${Math.round((1000 * count) / (performance.now() - mine)).toLocaleString("en")} per second`);
    if (count < total) setTimeout(go, 0);
    else stop();
  };
  go();
}

// ---- series

function offsetOf(moment, zone) {
  if (!zone) return 0;
  const whole = Math.floor(moment / 1000) * 1000, parts = {};
  const format = (offsetOf.format ??= new Intl.DateTimeFormat("en-US", {
    timeZone: zone, hourCycle: "h23", year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric",
  }));
  for (const { type, value } of format.formatToParts(new Date(whole))) parts[type] = Number(value);
  return Date.UTC(parts.year, parts.month - 1, parts.day, parts.hour, parts.minute, parts.second) - whole;
}

// Milliseconds since 1970 of a time as it is written; without an offset it is what the clock of the model's zone showed.
function momentOf(words) {
  const found = /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d(?:\.\d+)?))?)?\s*(Z|[+-]\d\d:?\d\d)?$/.exec(words.trim().replace(/^(\d\d)\.(\d\d)\.(\d{4})/, "$3-$2-$1"));
  if (!found) throw new Error(`"${words.slice(0, 40)}" is no time: write it as 2024-12-31 23:00`);
  const [, year, month, day, hour, minute, second, offset] = found;
  const wall = Date.UTC(year, month - 1, day, hour ?? 0, minute ?? 0) + Math.round(1000 * Number(second ?? 0));
  if (offset && offset !== "Z") {
    const minutes = Number(offset.slice(1, 3)) * 60 + Number(offset.slice(-2));
    return wall - (offset[0] === "-" ? -1 : 1) * minutes * 60000;
  }
  if (offset === "Z" || !facts.time_zone) return wall;
  const guess = wall - offsetOf(wall, facts.time_zone);
  return wall - offsetOf(guess, facts.time_zone);
}

function cellsOf(line, delimiter) {
  const cells = [], pattern = new RegExp(`(?:^|${delimiter})(?:"((?:[^"]|"")*)"|([^${delimiter}]*))`, "g");
  for (const found of line.matchAll(pattern)) cells.push((found[1]?.replaceAll('""', '"') ?? found[2]).trim());
  return cells;
}

function read(pasted) {
  const lines = pasted.split(/\r?\n/).filter((line) => line.trim());
  if (lines.length < 2) throw new Error("Paste a line of names and the rows below it");
  const delimiter = ["\t", ";", ","].find((mark) => lines[0].includes(mark)) ?? ",";
  const head = cellsOf(lines[0], delimiter), at = (name) => head.indexOf(name);
  const lacking = facts.columns.find((name) => at(name) < 0);
  if (lacking) throw new Error(`The column "${lacking}" is not there; the first line must name the columns`);
  const time = Math.max(0, at(facts.time_column)), key = facts.series_column ? at(facts.series_column) : -1, rows = new Map();
  const numberOf = (cell) => (cell === undefined || cell.trim() === "" ? NaN : Number(cell));
  let fixed = facts.static_columns.map(() => NaN);
  for (const line of lines.slice(1)) {
    const cells = cellsOf(line, delimiter);
    if (key >= 0 && facts.names.length > 1 && cells[key] !== element("name").value) continue;
    const values = facts.columns.map((name) => [name, numberOf(cells[at(name)])]);
    rows.set(momentOf(cells[time] ?? ""), values.map(([name, value]) => (facts.sentinels[name]?.includes(value) ? NaN : value)));
    fixed = facts.static_columns.map((name) => numberOf(cells[at(name)]));
  }
  if (!rows.size) throw new Error("None of these rows belongs to the chosen series");
  const known = [...rows.keys()].sort((a, b) => a - b), each = facts.step_microseconds / 1000;
  if (!each) return { times: known, values: known.map((moment) => rows.get(moment)), fixed };
  const count = (known.at(-1) - known[0]) / each + 1;
  if (known.some((moment) => (moment - known[0]) % each)) throw new Error(`The times are not all a multiple of ${facts.step} apart`);
  if (count > 2e6) throw new Error("More than 2,000,000 steps lie between the first time and the last");
  const times = Array.from({ length: count }, (_, i) => known[0] + i * each);
  return { times, values: times.map((moment) => rows.get(moment) ?? facts.columns.map(() => NaN)), fixed };
}

function scalesOf(values, name) {
  const number = facts.names.indexOf(name);
  if (number >= 0) return [facts.center[number], facts.scale[number]];
  const center = [], scale = [];
  facts.columns.forEach((column, c) => {
    const seen = values.map((row) => Math.fround(row[c])).filter((value) => !Number.isNaN(value));
    const mean = seen.reduce((sum, value) => sum + value, 0) / seen.length;
    const spread = Math.sqrt(seen.reduce((sum, value) => sum + (value - mean) ** 2, 0) / seen.length);
    const size = Math.abs(mean) || 1, circular = facts.directions.includes(column);
    center.push(circular || !seen.length ? 0 : mean);
    scale.push(circular ? 180 / Math.PI : !seen.length ? 1e30 : spread > 1e-6 * size ? spread : size);
  });
  return [center, scale];
}

function turnsOf(moment) {
  const local = moment + offsetOf(moment, facts.time_zone), day = 86400000, days = Math.floor(local / day);
  const year = new Date(days * day).getUTCFullYear(), first = Date.UTC(year, 0, 1) / day, length = Date.UTC(year + 1, 0, 1) / day - first;
  const part = (local - days * day) / day;
  const turns = { hour: part, weekday: ((((days + 3) % 7) + 7) % 7) / 7, year: (days - first) / length + part / 366 };
  return facts.circles.map((name) => Math.fround(turns[name]));
}

function inputsOf({ times, values, fixed }, count, center, scale) {
  const place = (name) => facts.columns.indexOf(name), age = (rows) => Math.log1p(rows) / Math.log1p(255);
  const last = facts.columns.map(() => 0), ages = facts.columns.map(() => 255), older = (rows) => Math.min(255, rows + 1);
  const plain = facts.columns.map((_, c) => c).filter((c) => !facts.directions.includes(facts.columns[c]));
  const masked = facts.masked.map(place), circular = facts.directions.map(place), known = facts.known.map(place);
  let rowAge = 255;
  const compact = values.map((row) => {
    row.forEach((value, c) => {
      if (Number.isNaN(value)) ages[c] = older(ages[c]);
      else [last[c], ages[c]] = [Math.fround((Math.fround(value) - center[c]) / scale[c]), 0];
    });
    rowAge = row.every(Number.isNaN) ? older(rowAge) : 0;
    return { last: [...last], ages: [...ages], rowAge };
  });
  const spread = fixed.map((value, i) => (value - facts.static_center[i]) / facts.static_scale[i]);
  return compact.slice(0, count).map((row, i) => {
    const turns = turnsOf(times[i]).map((turn) => 2 * Math.PI * turn);
    return [
      ...plain.map((c) => row.last[c]), ...circular.map((c) => Math.sin(row.last[c])), ...circular.map((c) => Math.cos(row.last[c])),
      age(row.rowAge), ...masked.map((c) => Number(row.ages[c] === 0)), ...masked.map((c) => age(row.ages[c])),
      ...turns.map(Math.sin), ...turns.map(Math.cos),
      ...facts.ahead.flatMap((rows) => known.map((c) => compact[Math.min(i + rows, compact.length - 1)].last[c])), ...spread,
    ];
  });
}

function calibrated(said, shifts) {
  const middle = facts.middle, moved = said.map((value, k) => value + shifts[k]), rising = (a, b) => a - b;
  if (!facts.keep_middle) return moved.sort(rising);
  const below = moved.slice(0, middle).map((value) => Math.min(value, said[middle])).sort(rising);
  return [...below, said[middle], ...moved.slice(middle + 1).map((value) => Math.max(value, said[middle])).sort(rising)];
}

// Quantiles for each row ahead, in the target's unit.
function forecastRows(data, name) {
  const target = facts.columns.indexOf(facts.target);
  const measured = facts.columns.map((_, c) => c).filter((c) => !facts.known.includes(facts.columns[c]));
  const count = data.values.findLastIndex((row) => measured.some((c) => !Number.isNaN(row[c]))) + 1;
  if (!data.values.slice(0, count).some((row) => !Number.isNaN(row[target]))) throw new Error(`No row has a value of "${facts.target}"`);
  const [center, scale] = scalesOf(data.values.slice(0, count), name);
  const inputs = inputsOf(data, count, center, scale), state = initialState();
  let first = facts.window === null ? 0 : Math.max(0, count - facts.window), said;
  first += (count - 1 - first) % facts.every;
  for (let row = first; row < count; row += facts.every) said = step(inputs[row], state);
  const levels = facts.levels.length;
  const rows = facts.horizon.map((ahead, i) => {
    const start = facts.ahead.indexOf(ahead) * levels;
    return calibrated([...said.slice(start, start + levels)], facts.shifts[i]).map((value) => value * scale[target] + center[target]);
  });
  return { rows, count, seen: data.values.slice(0, count).map((row) => row[target]) };
}

function svg(name, attributes, parent) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent?.append(made);
  return made;
}

const figure = (value) => Number(value.toPrecision(5)).toLocaleString("en", { maximumFractionDigits: 6 });

function chart({ rows, seen }) {
  // As wide as the page, so that letters keep their size on a phone.
  const width = Math.max(320, element("chart").clientWidth), height = Math.min(380, 0.8 * width), left = 60, bottom = height - 40;
  const furthest = facts.horizon.at(-1);
  const shown = seen.slice(-Math.max(24, 3 * furthest)), span = shown.length - 1 + furthest;
  const all = [...shown, ...rows.flat()].filter((value) => !Number.isNaN(value));
  let low = Math.min(...all), high = Math.max(...all);
  if (low === high) [low, high] = [low - 1, high + 1];
  const x = (i) => left + ((width - left - 20) * i) / span, y = (value) => bottom - ((bottom - 20) * (value - low)) / (high - low);
  const xs = facts.horizon.map((ahead) => x(shown.length - 1 + ahead)), levels = facts.levels.length;
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Forecast of ${facts.target}` });
  const power = 10 ** Math.floor(Math.log10((high - low) / 4)), each = power * [1, 2, 5, 10].find((size) => size * power * 4 >= high - low);
  for (let tick = Math.ceil(low / each); tick * each <= high; tick++) {
    const value = tick * each;
    svg("line", { class: "grid", x1: left, x2: width - 20, y1: y(value), y2: y(value) }, root);
    svg("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, root).textContent = figure(value);
  }
  svg("text", { x: x(shown.length - 1), y: 14, "text-anchor": "middle" }, root).textContent = "now";
  svg("line", { class: "grid", x1: x(shown.length - 1), x2: x(shown.length - 1), y1: 20, y2: bottom }, root);
  svg("text", { x: xs.at(-1), y: bottom + 24, "text-anchor": "end" }, root).textContent = `${furthest} × ${facts.step} ahead`;
  for (let k = 0; k < Math.floor(levels / 2); k++) {
    const upper = levels - 1 - k;
    if (rows.length === 1) svg("line", { class: "whisker", x1: xs[0], x2: xs[0], y1: y(rows[0][k]), y2: y(rows[0][upper]) }, root);
    else {
      const points = [...rows.map((row, i) => [xs[i], y(row[k])]), ...rows.map((row, i) => [xs[i], y(row[upper])]).reverse()];
      svg("polygon", { class: "band", points: points.join(" ") }, root);
    }
  }
  let path = "", down = false;
  shown.forEach((value, i) => {
    if (!Number.isNaN(value)) path += `${down ? "L" : "M"}${x(i)} ${y(value)}`;
    down = !Number.isNaN(value);
  });
  svg("path", { class: "seen", d: path }, root);
  svg("polyline", { class: "middle", points: rows.map((row, i) => [xs[i], y(row[facts.middle])]).join(" ") }, root);
  if (rows.length === 1) svg("circle", { class: "dot", cx: xs[0], cy: y(rows[0][facts.middle]), r: 5 }, root);
  element("chart").replaceChildren(root);
}

function table({ rows }) {
  const made = document.createElement("table"), head = made.createTHead().insertRow();
  for (const words of ["ahead", ...facts.levels.map((level) => `${figure(100 * level)} %`)]) {
    const cell = document.createElement("th");
    cell.textContent = words;
    head.append(cell);
  }
  const body = made.createTBody();
  rows.forEach((row, i) => {
    const line = body.insertRow();
    line.insertCell().textContent = `${facts.horizon[i]} × ${facts.step}`;
    for (const value of row) Object.assign(line.insertCell(), { textContent: figure(value) }).dataset.value = value;
  });
  element("table").replaceChildren(made);
}

function forecast() {
  try {
    const found = forecastRows(read(element("rows").value), element("name").value);
    chart(found);
    table(found);
    say(`From ${found.count.toLocaleString("en")} rows. Bands hold the levels of the table.`);
  } catch (error) {
    element("chart").replaceChildren();
    element("table").replaceChildren();
    say(error.message, true);
  }
}

// ---- beginning

function begin() {
  const stack = `${facts.members > 1 ? `${facts.members} networks of ` : ""}${facts.layers} × ${H} ${facts.cell.toUpperCase()}`;
  element(facts.kind === "text" ? "text" : "series").hidden = false;
  if (facts.kind === "text") {
    element("about").textContent = `${stack}, ${facts.inputs} symbols. It runs in this page: nothing leaves it.`;
    element("write").addEventListener("click", write);
    element("temperature").addEventListener("input", (event) => (element("heat").value = Number(event.target.value).toFixed(2)));
    return;
  }
  element("about").textContent = `${stack}; forecasts ${facts.target} from rows ${facts.step} apart. It runs in this page: nothing leaves it.`;
  const names = [facts.time_column ?? "time", ...(facts.series_column ? [facts.series_column] : []), ...facts.columns, ...facts.static_columns];
  element("rows").placeholder = `${names.join(",")}\n2024-12-31 22:00,…\n2024-12-31 23:00,…`;
  for (const name of facts.names) element("name").append(new Option(name, name));
  element("name").append(new Option("another series", "\u0000"));
  element("which").hidden = facts.names.length < 2;
  element("forecast").addEventListener("click", forecast);
}

begin();
const compare = element("compare");
if (compare) {
  const state = initialState();
  element("compared").textContent = JSON.stringify(JSON.parse(compare.textContent).map((x) => [...step(x, state)]));
}
